/* loop/timer.h - deadlines on a wheel, lazy: to move one further away only writes a number.
 *
 * A timer runs in the first turn whose time is at or after its deadline: never before, and not more
 * than a millisecond and a turn's length after it. Those that are due in one turn run in the order
 * of their deadlines.
 * Loop:   of one loop.
 * Memory: embedded by its user; nothing is allocated, however many there are.
 */
#ifndef WEFT_LOOP_TIMER_H
#define WEFT_LOOP_TIMER_H

#include "base/list.h"
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct timer;

/* Runs once when the time has come; the timer is stopped then, and may be started again or freed.
 * Not after timer_stop(). */
typedef void timer_fn(struct timer *timer);

/* One deadline. Zeroed: stopped. */
struct timer {
    struct list _link;    /* in a slot of the wheel */
    struct loop *_loop;   /* NULL: stopped */
    timer_fn *_fn;        /* what runs */
    uint64_t deadline_ms; /* on loop_now_ms()'s scale */
    uint64_t _slot_ms;    /* when its slot comes up: at or before deadline_ms */
    uint32_t _slot;       /* number of its slot in the wheel */
};

/* Starts it, or moves it, to `ms` from now. 0: the next time that timers run, which is after the
 * sockets of a turn; never the run under way. */
void timer_start(struct loop *loop, struct timer *timer, uint64_t ms, timer_fn *fn);

/* The same with an absolute time; one that has passed counts as now. */
void timer_start_at(struct loop *loop, struct timer *timer, uint64_t deadline_ms, timer_fn *fn);

/* Stopped already is fine. */
void timer_stop(struct timer *timer);

/* Will it run? */
static inline bool timer_is_on(const struct timer *timer)
{
    return timer->_loop != NULL;
}

/* ---- the wheel: for loop.c ---- */

struct wheel;

/* An empty wheel that stands at `now_ms`. */
struct wheel *wheel_create(uint64_t now_ms);

/* Frees it; timers that are still on must not be touched any more. NULL is fine. */
void wheel_destroy(struct wheel *wheel);

/* Runs what is due at `now_ms`, which never goes back. What is started meanwhile waits for the next
 * call, even where it is due already. */
void wheel_run(struct wheel *wheel, uint64_t now_ms);

/* Milliseconds from `now_ms` until a slot with something in it comes up; UINT32_MAX: never. */
uint32_t wheel_wait_ms(const struct wheel *wheel, uint64_t now_ms);

/* The wheel of `loop`. */
struct wheel *loop_wheel(struct loop *loop);

/* loop_now_ms() rounded up, so that what is counted from it is never early. */
uint64_t loop_now_ms_up(const struct loop *loop);

#endif
