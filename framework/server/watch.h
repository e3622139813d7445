/* server/watch.h - the master's eye on its workers: do they turn, what kills them, what is lost.
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
#include "server/census.h"
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
    struct board *board;       /* the same */
    pid_t pid;                 /* of the process */
    uint32_t slot;             /* its place */
    uint32_t generation;       /* of its settings and plugins */
    uint64_t started_ms;       /* loop time when it was forked */
    uint64_t _turn;            /* in which it was seen last */
    uint32_t _stuck_ms;        /* for how long, at least */
    uint32_t _condemned_ms;    /* since when it is to die of SIGABRT; 0: it is not */
    bool _is_asked;            /* in this turn */
};

/* What is remembered of a place for workers. */
struct watch_slot {
    uint32_t deaths;  /* of workers that nobody had told to end */
    uint64_t died_us; /* the last one's, wall time; 0: none */
    char why[512];    /* of what; "" : none */
};

/* Of the host as a whole. */
enum watch_phase { WATCH_STARTING, WATCH_SERVING, WATCH_DRAINING };

/* The master's. Embed it. */
struct watch {
    struct loop *loop;            /* its loop */
    struct list workers;          /* struct watched */
    struct timer _timer;          /* the heartbeat */
    uint32_t _period_ms;          /* of it */
    uint64_t _beat_ms;            /* when the last one was */
    uint32_t _warn_ms;            /* stall_warn; 0: never */
    uint32_t _kill_ms;            /* stall_kill; 0: never */
    struct quarantine quarantine; /* of routes */
    struct census past;           /* of workers that are gone */
    struct watch_slot *slots;     /* SETTINGS_WORKERS_MAX of them */
    enum watch_phase phase;       /* see watch_set_phase() */
    uint64_t since_ms;            /* loop time of watch_init() */
    uint64_t _ticks;              /* clock_ticks() at watch_init() */
    uint64_t _ticks_us;           /* when that was */
};

/* What is known of a worker as it begins. */
struct watch_worker {
    pid_t pid;                 /* of the process */
    uint32_t slot;             /* for the log */
    const struct blame *blame; /* fresh */
    struct board *board;       /* fresh */
    uint32_t generation;       /* of its settings and plugins */
};

/* Watches nobody yet. */
void watch_init(struct watch *watch, struct loop *loop, const struct server_options *options);

/* Nobody is watched any more. Twice, and zeroed, is fine. */
void watch_deinit(struct watch *watch);

/* New settings serve: the routes that were closed are open again. */
void watch_renew(struct watch *watch, const struct server_options *options);

/* The host as a whole is that far. */
void watch_set_phase(struct watch *watch, enum watch_phase phase);

/* Does the host serve, and is it not about to end? */
bool watch_is_ready(const struct watch *watch);

/* A worker was forked. */
void watch_begin(struct watch *watch, struct watched *worker, const struct watch_worker *what);

/* The worker is watched by `to`, zeroed, from here on. */
void watch_move(struct watched *from, struct watched *to);

/* Why a worker ended. */
enum watch_end {
    WATCH_TOLD,   /* it was told to, and did */
    WATCH_FAILED, /* it could not start, and said why */
    WATCH_DIED    /* neither */
};

/* It ended with `status`, as waitpid() tells it: what it died of is written to the log, and counted
 * against plugin and route. `said` is what it gave as the reason of WATCH_FAILED. Twice, and
 * zeroed, is fine. */
void watch_end(struct watched *worker, int status, enum watch_end how, const char *said);

/* For people: clock_ticks() of a page in microseconds. */
uint64_t watch_ticks_us(const struct watch *watch, uint64_t ticks);

/* Bytes of memory that the process uses (RSS); 0: it is gone. */
uint64_t watch_memory(pid_t pid);

#endif
