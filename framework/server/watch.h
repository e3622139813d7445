/* server/watch.h - the master's eye on its workers: do they turn, of what do they die, what is lost.
 *
 * A worker that is in one turn for stall_warn is asked where it is; one that is for stall_kill is
 * killed. Time counts by the master's own heartbeat: while the master itself is stopped, or the
 * machine sleeps, nobody grows older. A stopped worker (SIGSTOP, a debugger) is left alone.
 *
 *   watched: turning ──▶ stuck ──stall_warn──▶ asked ──stall_kill──▶ SIGABRT ──KILL_MS──▶ SIGKILL
 *                ▲─────────┴──────────────────────┘ (the turn ended)
 *
 * Loop:   of the master's.
 * Memory: both structs are embedded in what is the master's; a watched one stays put from
 *         watch_begin() to watch_end().
 */
#ifndef WEFT_SERVER_WATCH_H
#define WEFT_SERVER_WATCH_H

#include "base/list.h"
#include "loop/timer.h"
#include "server/quarantine.h"
#include "server/settings.h"
#include <sys/types.h>

struct board;
struct loop;

/* One worker's process. Zeroed: none. */
struct watched {
    struct list _link;         /* among the watch's */
    struct watch *_watch;      /* whose; NULL: none */
    const struct blame *blame; /* the worker's page */
    const struct board *board; /* the same */
    pid_t pid;                 /* of the process */
    uint32_t slot;             /* for the log */
    uint64_t _turn;            /* in which it was seen last */
    uint32_t _stuck_ms;        /* for how long, at least */
    uint32_t _condemned_ms;    /* since when it is to die of SIGABRT; 0: it is not */
    bool _is_asked;            /* in this turn */
};

/* The master's. Embed it. */
struct watch {
    struct loop *_loop;           /* its loop */
    struct list workers;          /* struct watched */
    struct timer _timer;          /* the heartbeat */
    uint32_t _period_ms;          /* of it */
    uint64_t _beat_ms;            /* when the last one was */
    uint32_t _warn_ms;            /* stall_warn; 0: never */
    uint32_t _kill_ms;            /* stall_kill; 0: never */
    struct quarantine quarantine; /* of routes */
};

/* What is known of a worker as it begins. */
struct watch_worker {
    pid_t pid;                 /* of the process */
    uint32_t slot;             /* for the log */
    const struct blame *blame; /* fresh */
    const struct board *board; /* fresh */
};

/* Watches nobody yet. */
void watch_init(struct watch *watch, struct loop *loop, const struct server_options *options);

/* Nobody is watched any more. Twice, and zeroed, is fine. */
void watch_deinit(struct watch *watch);

/* New settings serve: the routes that were closed are open again. */
void watch_renew(struct watch *watch, const struct server_options *options);

/* A worker was forked. */
void watch_begin(struct watch *watch, struct watched *worker, const struct watch_worker *what);

/* Why a worker ended. */
enum watch_end {
    WATCH_TOLD,   /* it was told to, and did */
    WATCH_FAILED, /* it could not start, and said why */
    WATCH_DIED    /* neither */
};

/* It ended with `status`, as waitpid() tells it: what it died of is written to the log, and counted
 * against plugin and route. Twice, and zeroed, is fine. */
void watch_end(struct watched *worker, int status, enum watch_end how);

#endif
