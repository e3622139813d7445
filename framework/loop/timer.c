/* loop/timer.c - six wheels of 64 slots, each 64 times as coarse as the one before.
 *
 *   level        0      1     2      3     4      5
 *   a slot is    1 ms   64 ms 4 s    4 min 5 h    12 d
 *
 * A timer lies at the level of the highest group of six bits in which its deadline differs from the
 * wheel's own time. When its slot comes up it is due, or moves to a finer level: at most five
 * times. A word per level says which slots hold something, so the next one to come up is found by
 * counting zeros, and an empty wheel never wakes the loop.
 *
 * Lazy: a deadline moved further away stays in its slot; when that comes up, the timer is placed
 * anew.
 *
 *   timer_start() ──▶ in a slot ──▶ (finer slots) ──▶ due ──▶ runs
 *                 └─▶ soon (due already): the next run of the wheel, never the one under way
 *
 * Stopped: out of whichever list it is in, also when it was about to run.
 */
#include "loop/timer.h"
#include "base/check.h"
#include "base/mem.h"
#include "loop/loop.h"

enum { LEVELS = 6, LEVEL_BITS = 6, LEVEL_SLOTS = 1 << LEVEL_BITS, NO_SLOT = LEVELS * LEVEL_SLOTS };

/* The furthest that a timer is placed: short of one round of the coarsest level, so that no slot
 * stands for two times. What is further away is placed anew from there. */
static const uint64_t SPAN_MS_MAX =
    (1ull << LEVELS * LEVEL_BITS) - (1ull << (LEVELS - 1) * LEVEL_BITS);

struct wheel {
    uint64_t now_ms;                         /* slots up to here have been emptied */
    struct list soon;                        /* due already when they were started */
    uint64_t occupied[LEVELS];               /* a bit a slot: something is in it */
    struct list slots[LEVELS * LEVEL_SLOTS]; /* level after level */
};

struct wheel *wheel_create(uint64_t now_ms)
{
    struct wheel *wheel = mem_alloc(sizeof *wheel);

    wheel->now_ms = now_ms;
    list_init(&wheel->soon);
    for (uint32_t i = 0; i < LEVELS * LEVEL_SLOTS; i++)
        list_init(&wheel->slots[i]);
    return wheel;
}

void wheel_destroy(struct wheel *wheel)
{
    mem_free(wheel);
}

static void place(struct wheel *wheel, struct timer *timer)
{
    uint64_t when = timer->deadline_ms;
    uint32_t level;
    uint32_t index;

    if (when <= wheel->now_ms) {
        timer->_slot = NO_SLOT;
        list_append(&wheel->soon, &timer->_link);
        return;
    }
    if (when - wheel->now_ms > SPAN_MS_MAX)
        when = wheel->now_ms + SPAN_MS_MAX;
    level = (63 - (uint32_t)__builtin_clzll(when ^ wheel->now_ms)) / LEVEL_BITS;
    if (level >= LEVELS)
        level = LEVELS - 1;
    index = (uint32_t)(when >> level * LEVEL_BITS) % LEVEL_SLOTS;
    timer->_slot = level * LEVEL_SLOTS + index;
    timer->_slot_ms = when >> level * LEVEL_BITS << level * LEVEL_BITS;
    wheel->occupied[level] |= 1ull << index;
    list_append(&wheel->slots[timer->_slot], &timer->_link);
}

static void lift(struct wheel *wheel, struct timer *timer)
{
    list_remove(&timer->_link);
    if (timer->_slot != NO_SLOT && list_is_empty(&wheel->slots[timer->_slot]))
        wheel->occupied[timer->_slot / LEVEL_SLOTS] &= ~(1ull << timer->_slot % LEVEL_SLOTS);
}

void timer_start_at(struct loop *loop, struct timer *timer, uint64_t deadline_ms, timer_fn *fn)
{
    struct wheel *wheel = loop_wheel(loop);

    CHECK(fn != NULL);
    CHECK(timer->_loop == NULL || timer->_loop == loop);
    timer->_fn = fn;
    timer->deadline_ms = deadline_ms;
    if (timer_is_on(timer)) {
        if (timer->_slot != NO_SLOT && deadline_ms >= timer->_slot_ms)
            return;
        lift(wheel, timer);
    }
    timer->_loop = loop;
    place(wheel, timer);
}

void timer_start(struct loop *loop, struct timer *timer, uint64_t ms, timer_fn *fn)
{
    uint64_t now_ms = ms > 0 ? loop_now_ms_up(loop) : loop_now_ms(loop);

    timer_start_at(loop, timer, ms < UINT64_MAX - now_ms ? now_ms + ms : UINT64_MAX, fn);
}

void timer_stop(struct timer *timer)
{
    if (!timer_is_on(timer))
        return;
    lift(loop_wheel(timer->_loop), timer);
    timer->_loop = NULL;
}

/* The slot that comes up next, and when; NO_SLOT where all are empty. The finest level that holds
 * something is always the first: what is coarser lies beyond it. */
static uint32_t next_slot(const struct wheel *wheel, uint64_t *start_ms)
{
    for (uint32_t level = 0; level < LEVELS; level++) {
        uint64_t occupied = wheel->occupied[level];
        uint64_t position = wheel->now_ms >> level * LEVEL_BITS;
        uint32_t turned = (uint32_t)position % LEVEL_SLOTS;

        if (occupied == 0)
            continue;
        if (turned != 0)
            occupied = occupied >> turned | occupied << (LEVEL_SLOTS - turned);
        CHECK((occupied & 1) == 0); /* the slot of the present is empty at every level */
        position += (uint32_t)__builtin_ctzll(occupied);
        *start_ms = position << level * LEVEL_BITS;
        return level * LEVEL_SLOTS + (uint32_t)position % LEVEL_SLOTS;
    }
    return NO_SLOT;
}

uint32_t wheel_wait_ms(const struct wheel *wheel, uint64_t now_ms)
{
    uint64_t start_ms;

    if (!list_is_empty(&wheel->soon))
        return 0;
    if (next_slot(wheel, &start_ms) == NO_SLOT)
        return UINT32_MAX;
    if (start_ms <= now_ms)
        return 0;
    return start_ms - now_ms < UINT32_MAX ? (uint32_t)(start_ms - now_ms) : UINT32_MAX - 1;
}

/* What lies in `slot`, at which the wheel stands now, is due or moves on. */
static void empty_slot(struct wheel *wheel, uint32_t slot, struct list *due)
{
    struct list timers;
    struct list *link;

    list_init(&timers);
    list_move_all(&timers, &wheel->slots[slot]);
    wheel->occupied[slot / LEVEL_SLOTS] &= ~(1ull << slot % LEVEL_SLOTS);
    while ((link = list_first(&timers)) != NULL) {
        struct timer *timer = CONTAINER_OF(link, struct timer, _link);

        list_remove(link);
        if (timer->deadline_ms > wheel->now_ms) {
            place(wheel, timer);
            continue;
        }
        timer->_slot = NO_SLOT;
        list_append(due, link);
    }
}

void wheel_run(struct wheel *wheel, uint64_t now_ms)
{
    struct list due;
    struct list *link;
    uint64_t start_ms;
    uint32_t slot;

    CHECK(now_ms >= wheel->now_ms);
    list_init(&due);
    list_move_all(&due, &wheel->soon);
    while ((slot = next_slot(wheel, &start_ms)) != NO_SLOT && start_ms <= now_ms) {
        wheel->now_ms = start_ms;
        empty_slot(wheel, slot, &due);
    }
    wheel->now_ms = now_ms;
    while ((link = list_first(&due)) != NULL) {
        struct timer *timer = CONTAINER_OF(link, struct timer, _link);

        list_remove(link);
        timer->_loop = NULL;
        timer->_fn(timer); /* last: it may free the timer */
    }
}
