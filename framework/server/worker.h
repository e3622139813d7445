/* server/worker.h - one worker: a loop and all that lives on it.
 *
 *   STARTING ──▶ READY (told on the report pipe) ──▶ DRAINING (SIGTERM) ──▶ exit 0
 *       └──▶ FAILED (the reason on the report pipe), exit WORKER_EXIT_REFUSED
 *
 * Loop:   runs in a process of its own, forked from the master; plugin code runs here and nowhere
 *         else.
 * Memory: what the setup points at is the master's, inherited by the fork.
 */
#ifndef WEFT_SERVER_WORKER_H
#define WEFT_SERVER_WORKER_H

#include "server/settings.h"
#include <stdint.h>
#include <stdio.h>

/* Exit code of a worker that cannot work with these settings or plugins: it is not started
 * again. */
enum { WORKER_EXIT_REFUSED = 78 };

struct blame;
struct board;
struct inspection;
struct quarantine_list;

struct worker_setup {
    const struct settings *settings;          /* the master's */
    const char *copy_dir;                     /* the generation's folder for copies of plugins */
    struct blame *blame;                      /* this slot's page */
    struct board *board;                      /* the same; NULL: nobody reads it */
    const struct quarantine_list *quarantine; /* the master's; NULL: none */
    const int
        *listeners; /* of this slot, listener_count of them; the worker closes them as it drains */
    uint32_t listener_count; /* of listeners */
    const int
        *others; /* listening sockets of other slots, other_count of them: closed as it drains */
    uint32_t other_count; /* of others */
    uint32_t slot;        /* from 0 */
    uint32_t generation;  /* from 1 */
    uint32_t life; /* differs from that of every other worker: tells their requests' ids apart */
    struct inspection *inspection; /* of `weft check FILE.so`; NULL: none */
    int report_fd;                 /* the write end of the report pipe; the worker closes it */
};

/* The first byte of what a worker writes on its report pipe; after REPORT_FAILED one line
 * follows. */
enum { REPORT_READY = 'R', REPORT_FAILED = 'F' };

/* The worker's whole life. Returns its exit code. */
int worker_run(const struct worker_setup *setup);

/* The same start without sockets, for `weft check`: loads all, writes the routes to `out`, lets go
 * of all. With an inspection, which goes too, writes what that has noted as well, even where it
 * fails. ERR_OK, or `problem` says what is wrong. */
enum err worker_check(const struct worker_setup *setup, FILE *out, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

#endif
