/* server/fetch.h - `weft fetch`: a small client over the upstream room, for trying what upstreams
 * do, and for scripts of tests.
 *
 * Loop:   one of its own, until it is done.
 * Memory: all of it is gone when it returns; bodies go through in pieces.
 * Limits: FETCH_COUNT_MAX requests, FETCH_CONCURRENCY_MAX at once.
 */
#ifndef WEFT_SERVER_FETCH_H
#define WEFT_SERVER_FETCH_H

enum { FETCH_COUNT_MAX = 10000000, FETCH_CONCURRENCY_MAX = 10000 };

/* Obeys a command line, argv[0] of which is "fetch". One request: the body on standard output, what
 * is known of the answer on standard error. Several: what came of them on standard output. Returns
 * the exit code: 0 where each was answered, whatever with; 1 where one was not; 2 for a command
 * line that makes no sense. */
int fetch_run(int argc, char **argv);

#endif
