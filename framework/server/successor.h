/* server/successor.h - the master that is to follow this one in an upgrade: its process and the
 * channel to it, from this one's side. server/predecessor.h is the other side.
 *
 *   we                       it
 *   fork, exec ───────────▶  starts its workers, which accept nobody yet
 *              ◀─────────── READY
 *   GO         ───────────▶  its workers accept
 *              ◀─────────── SERVES
 *   (our workers hold)
 *   TAKE       ───────────▶  opens control socket and admin listener, writes the pid file
 *              ◀─────────── HAS_ALL
 *   (the end of rollback_window, or: ◀── END)  our workers end, and we
 *
 * FAILED from it, its end, or an answer that takes too long: we go on as if nothing had been.
 * Loop:   of the master's.
 * Memory: embedded; nothing is freed by the callee.
 */
#ifndef WEFT_SERVER_SUCCESSOR_H
#define WEFT_SERVER_SUCCESSOR_H

#include "loop/loop.h"
#include "loop/timer.h"
#include "settings/ini.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct host;
struct successor;

/* The first byte of a message; text may follow. It says: */
enum successor_says {
    SUCCESSOR_WARNS = 'W', /* text: a line for who has asked for the upgrade */
    SUCCESSOR_READY = 'R', /* text: a number, a bit for each row of sockets that it does not want */
    SUCCESSOR_SERVES = 'S',  /* its workers accept */
    SUCCESSOR_HAS_ALL = 'O', /* text: what it is, for people */
    SUCCESSOR_FAILED = 'F',  /* text: why; it ends. Also said for it */
    SUCCESSOR_END = 'E'      /* it wants us to end at last */
};

/* We say: */
enum { SUCCESSOR_GO = 'G', SUCCESSOR_TAKE = 'C', SUCCESSOR_GIVE_UP = 'X' };

/* Runs for each message, in the order above, but for warnings; SUCCESSOR_FAILED comes at most once,
 * perhaps because its process ended, and nothing after it. Not inside successor_start() or
 * successor_cancel(). */
typedef void successor_fn(struct successor *successor, enum successor_says what, const char *text);

/* Zeroed: none. */
struct successor {
    struct host *_host;   /* ours */
    struct io _io;        /* of the channel */
    struct timer _timer;  /* for its next message, or its end */
    successor_fn *_fn;    /* what runs; NULL: it has failed, or was canceled */
    int _channel;         /* our end, while _is_open */
    bool _is_open;        /* see above */
    pid_t pid;            /* of its process; 0: none, or it has ended */
    const char *_awaited; /* the next message, for people */
};

/* The program that runs now, as it will be found again when another one was installed in its place:
 * an absolute path, by `name` (argv[0]), on the heap. */
char *successor_program(const char *name);

/* Starts the host's program anew, for generation `number`; it has `timeout_ms` to be ready. The
 * host has one at a time. */
enum err successor_start(struct successor *successor, struct host *host, uint32_t number,
                         uint32_t timeout_ms, successor_fn *fn) __attribute__((warn_unused_result));

/* SUCCESSOR_GO or SUCCESSOR_TAKE; its answer has a few seconds. */
void successor_tell(struct successor *successor, int what);

/* It is to end, at once; `fn` runs no more. None is fine. */
void successor_cancel(struct successor *successor);

/* Its process has ended. */
void successor_ended(struct successor *successor, int status);

/* Stops listening to it and leaves it alone. */
void successor_deinit(struct successor *successor);

/* In a forked child: closes the channel. */
void successor_abandon(const struct successor *successor);

#endif
