/* server/trial.h - settings and plugins, tried in a process of their own before anything changes.
 *
 * The child runs a worker's start (worker_check()): what it copies of plugins is what the workers
 * load afterwards.
 *
 *   idle ──trial_start()──▶ running ──▶ told once, idle     the child has ended, or it was killed
 *                                                           after start_timeout
 *
 * Loop:   of the master's.
 * Memory: embedded; what it is given stays the caller's until it was told.
 */
#ifndef WEFT_SERVER_TRIAL_H
#define WEFT_SERVER_TRIAL_H

#include "base/buf.h"
#include "server/host.h"

struct trial;

/* Runs once: `problem` is NULL where all is well; `warnings`, "" or lines, are for people. Not
 * inside trial_start(), and not after trial_stop(). */
typedef void trial_fn(struct trial *trial, const char *problem, const char *warnings);

/* Zeroed: idle. */
struct trial {
    struct host *_host;   /* the master's */
    struct io _io;        /* of the pipe */
    struct timer _timer;  /* start_timeout */
    struct blame *_blame; /* shared with the child */
    struct buf _text;     /* what the child said */
    trial_fn *_fn;        /* what runs */
    uint32_t _timeout_ms; /* start_timeout */
    int _fd;              /* the pipe's read end */
    pid_t pid;            /* the child's; 0: idle */
    bool _is_late;        /* it was killed */
};

/* Tries `settings`, with copies of plugins in `folder`, for generation `number`. */
enum err trial_start(struct trial *trial, struct host *host, const struct settings *settings,
                     const char *folder, uint32_t number, trial_fn *fn)
    __attribute__((warn_unused_result));

/* Ends it; nobody is told. Idle is fine. */
void trial_stop(struct trial *trial);

/* The child has ended with `status`. */
void trial_ended(struct trial *trial, int status);

/* In a forked child: closes the descriptor. */
void trial_abandon(const struct trial *trial);

#endif
