/* loop/timer.h - deadlines on a hashed wheel, lazy: to move one further away only writes a number.
 *
 * Loop:   of one loop. Resolution 1 ms for what is due within the wheel's span, never early.
 * Memory: embedded by its user.
 */
#ifndef WEFT_LOOP_TIMER_H
#define WEFT_LOOP_TIMER_H

#include "base/list.h"
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct timer;

/* Runs once when the time has come; the timer is stopped then. Not after timer_stop(). */
typedef void timer_fn(struct timer *timer);

/* Zeroed: stopped. */
struct timer {
    struct list _link;    /* in a slot of the wheel */
    struct loop *_loop;   /* NULL: stopped */
    timer_fn *_fn;        /* what runs */
    uint64_t deadline_ms; /* on loop_now_ms()'s scale */
    uint64_t _slot_ms;    /* when its slot comes up: at or before deadline_ms */
};

/* Starts it, or moves it, to `ms` from now (0: the next turn). */
void timer_start(struct loop *loop, struct timer *timer, uint64_t ms, timer_fn *fn);

/* The same with an absolute time; one that has passed comes with the next turn. */
void timer_start_at(struct loop *loop, struct timer *timer, uint64_t deadline_ms, timer_fn *fn);

/* Stopped already is fine. */
void timer_stop(struct timer *timer);

static inline bool timer_is_on(const struct timer *timer)
{
    return timer->_loop != NULL;
}

/* ---- the wheel: for loop.c ---- */

struct wheel;
struct wheel *wheel_create(uint64_t now_ms);
void wheel_destroy(struct wheel *wheel);
/* Runs what is due. */
void wheel_run(struct wheel *wheel, uint64_t now_ms);
/* Milliseconds until a slot with something in it comes up; UINT32_MAX: never. */
uint32_t wheel_wait_ms(const struct wheel *wheel, uint64_t now_ms);
struct wheel *loop_wheel(struct loop *loop);

#endif
