/* server/worker.h - one worker: a loop and all that lives on it.
 *
 *   STARTING ──▶ READY ──▶ SERVING ⇄ HOLDING ──▶ DRAINING ──▶ exit 0
 *       └──▶ FAILED     the reason goes to the channel, exit WORKER_EXIT_REFUSED
 *
 * HOLDING accepts nobody and finishes what it has; so does DRAINING, for good (SIGTERM).
 *
 * The channel is a socket to the master: reports go up, and anything that comes down means: look at
 * the roster. Its end is the master's end.
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
#include <sys/types.h>

/* Exit code of a worker that cannot work with these settings or plugins: it is not started
 * again. */
enum { WORKER_EXIT_REFUSED = 78 };

struct blame;
struct board;
struct inspection;
struct quarantine_list;
struct roster;
struct shared;
struct sockets;

struct worker_setup {
    const struct settings *settings;          /* the master's */
    const struct settings *beside;            /* of a generation that lives, too; NULL: none */
    const char *copy_dir;                     /* the generation's folder for copies of plugins */
    struct blame *blame;                      /* this slot's page */
    struct board *board;                      /* the same; NULL: nobody reads it */
    const struct quarantine_list *quarantine; /* the master's; NULL: none */
    struct roster *roster;                    /* the generation's; NULL: it never serves */
    struct shared *shared;                    /* the host's; NULL: the worker makes its own */
    const struct sockets *sockets;            /* the host's; the worker's copies are its own */
    uint32_t slot;                            /* from 0 */
    uint32_t generation;                      /* from 1 */
    uint32_t life; /* differs from that of every other worker: tells their requests' ids apart */
    struct inspection *inspection; /* of `weft check FILE.so`; NULL: none */
    int channel;                   /* to the master; the worker closes it; -1: none */
    pid_t master;                  /* the master's process */
};

/* The first byte of a message on the channel: it is ready; it cannot work, and one line says why;
 * it holds. */
enum { REPORT_READY = 'R', REPORT_FAILED = 'F', REPORT_HELD = 'H' };

/* The worker's whole life. Returns its exit code. */
int worker_run(const struct worker_setup *setup);

/* The same start without sockets, for `weft check` and a reload's trial: loads all, writes the
 * routes to `out` and to `warnings` what is no reason to refuse it, a line each, and lets go of
 * all. With an inspection, which goes too, writes what that has noted as well, even where it fails.
 * ERR_OK, or `problem` says what is wrong. */
enum err worker_check(const struct worker_setup *setup, FILE *out, FILE *warnings,
                      char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

#endif
