/* loop/loop.h - one thread's event loop on epoll.
 *
 * A turn: read (events of sockets, level-triggered; due timers) -> run
 * the ready list until it is empty or its budget is used up -> end-of-turn hooks (sockets are
 * flushed here, statements dealt out) -> sleep until the next event or timer; not at all where
 * something is ready. What runs in a turn sees one and the same time.
 * Loop:   one thread.
 * Memory: io, timer, ready and hook are embedded by their users, and must be stopped before they
 *         go.
 * Limits: 256 events, or those of 10 ms, and `ready_max` ready entries a turn; what is left over
 *         comes with the next.
 */
#ifndef WEFT_LOOP_LOOP_H
#define WEFT_LOOP_LOOP_H

#include "base/list.h"
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct io;
struct ready;
struct hook;

/* Runs when the socket has one of the asked-for `events`; IO_ERROR and IO_HANGUP come unasked.
 * Never after io_stop(), not even for events of the same epoll batch. */
typedef void io_fn(struct io *io, uint32_t events);
/* Runs once in the ready list; `ready` is out of it by then and may be started again. */
typedef void ready_fn(struct ready *ready);
/* Runs once at the end of the turn; `hook` is not armed by then and may be started again. */
typedef void hook_fn(struct hook *hook);

/* What an io waits for, and what it is told. IO_PEER_CLOSED: the peer sent FIN; like the others it
 * comes again each turn until it is no longer asked for. */
enum { IO_READ = 1, IO_WRITE = 2, IO_PEER_CLOSED = 4, IO_ERROR = 8, IO_HANGUP = 16 };

/* Interest in a descriptor. Zeroed: stopped. */
struct io {
    struct loop *_loop; /* NULL: stopped */
    io_fn *_fn;         /* what runs */
    int _fd;            /* the caller's */
    uint32_t _events;   /* asked for */
    uint32_t _slot;     /* where the loop knows it: stale events are told by it */
};

/* A place in the ready list. Zeroed: not in it. */
struct ready {
    struct list _link; /* in the ready list */
    ready_fn *_fn;     /* what runs */
};

/* A place among the hooks of this turn's end. Zeroed: not armed. */
struct hook {
    struct list _link; /* in the list of hooks */
    hook_fn *_fn;      /* what runs */
};

/* How a loop is made. Zeroed: the monotonic clock and default limits. */
struct loop_options {
    uint64_t (*now_us)(void *data); /* NULL: the monotonic clock; else a test's: no sleeping then */
    void *data;                     /* for now_us */
    uint32_t ready_max;             /* ready entries a turn before sockets get theirs; 0: 1024 */
    void (*on_turn)(void *data);    /* NULL, or called at the start of each turn (heartbeat) */
    void (*on_sleep)(void *data);   /* NULL, or called at the end of each turn */
    void *on_turn_data;             /* for the two */
    bool coalesces;                 /* pauses under load: loop/coalesce.h */
    void (*pause)(uint32_t us);     /* NULL, or a test's in place of a sleep */
    uint64_t (*cpu_us)(void);       /* NULL, or a test's: what its thread has used */
};

/* A loop with nothing in it. `options` may be NULL. Aborts where the kernel gives no descriptor. */
struct loop *loop_create(const struct loop_options *options);

/* Ends it; everything must be stopped (checked for io). NULL is
 * fine. */
void loop_destroy(struct loop *loop);

/* In a forked child: lets go of the parent's loop, whose epoll set is shared with the parent,
 * without touching what it watches there. Its memory stays. */
void loop_abandon(struct loop *loop);

/* Turns until loop_stop(). */
void loop_run(struct loop *loop);

/* One turn that sleeps at most `wait_ms` (UINT32_MAX: as long as nothing is due). */
void loop_turn(struct loop *loop, uint32_t wait_ms);

/* Would a turn at this same time run anything but timers? For a test that drives the clock. */
bool loop_has_work(const struct loop *loop);

/* loop_run() returns after this turn; where it has not begun, at once. */
void loop_stop(struct loop *loop);

/* The time of this turn in milliseconds, monotonic. */
uint64_t loop_now_ms(const struct loop *loop);

/* The same in microseconds. */
uint64_t loop_now_us(const struct loop *loop);

/* A step that somebody outside waits for has ended, `took_us` after it began: a request, or a
 * statement or a call of it. What a loop that coalesces judges its load by. */
void loop_step_ended(struct loop *loop, uint64_t took_us);

/* Was it made to coalesce? */
bool loop_coalesces(const struct loop *loop);

/* Somebody waits for what only a next turn sets free: no pauses until each hold was released. */
void loop_hold(struct loop *loop);
void loop_release(struct loop *loop);

/* Reads the clock anew, for what measures within a turn; loop_now_*() follow. */
uint64_t loop_refresh_us(struct loop *loop);

/* Watches `fd` (non-blocking, the caller's) for `events`. `io` is stopped before. With no events it
 * is still told of IO_ERROR and IO_HANGUP. */
void io_start(struct loop *loop, struct io *io, int fd, uint32_t events, io_fn *fn);

/* Watches for `events` instead; nothing is asked of the kernel where they are the same. */
void io_update(struct io *io, uint32_t events);

/* Stops watching; before the descriptor is closed. Stopped already is fine. */
void io_stop(struct io *io);

/* Is it being watched? */
static inline bool io_is_on(const struct io *io)
{
    return io->_loop != NULL;
}

/* Puts `ready` at the end of the ready list; in it already, nothing changes. One that puts itself
 * back runs again in the same turn, as long as the budget lasts. */
void ready_start(struct loop *loop, struct ready *ready, ready_fn *fn);

/* Takes it out; not in it is fine. */
void ready_stop(struct ready *ready);

/* Is it in the ready list? */
static inline bool ready_is_on(const struct ready *ready)
{
    return ready->_link.next != NULL && ready->_link.next != &ready->_link;
}

/* Runs `fn` once at the end of this turn (of the next, which comes at once, where called from a
 * hook); armed already, nothing changes. */
void hook_start(struct loop *loop, struct hook *hook, hook_fn *fn);

/* Not armed is fine. */
void hook_stop(struct hook *hook);

/* Is it armed? */
static inline bool hook_is_on(const struct hook *hook)
{
    return hook->_link.next != NULL && hook->_link.next != &hook->_link;
}

#endif
