/* turn.c - the loop, and its time.
 *
 * Time stands still while anything can go on: the loop turns, jobs of threads run, and the clients
 * send and receive. Only then it jumps, to the next timer. */
#include "base/check.h"
#include "kit.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "task/scope.h"
#include "task/tasks.h"

/* Turns at one time; more is a plugin, or a script, that goes round in a circle. */
enum { TURNS_MAX = 200000 };

/* How long what was canceled may go on. */
#define STUCK_US_MAX (10 * 1000000ull)

/* False: there was nothing to do. */
static bool turn(weft_test *t)
{
    bool has_worked;

    kit_sweep_look(t);
    has_worked = kit_helpers_run(t->helpers);
    kit_clock_set(t->now_us - t->begin_us);
    if (loop_has_work(t->loop)) {
        loop_turn(t->loop, 0);
        has_worked = true;
    }
    kit_log_read(t);
    return kit_clients_run(t) || has_worked;
}

void kit_settle(weft_test *t)
{
    uint32_t turns = 0;

    while (turn(t)) {
        if (++turns == TURNS_MAX)
            kit_fail(t, NULL, 0, "something goes on and on without waiting for anything");
        if (turns >= TURNS_MAX)
            return;
    }
}

/* Has it fibers, though it is canceled, and nothing in it that may go on nevertheless? */
static bool is_going_on(const struct scope *scope)
{
    return scope->why != SCOPE_ALIVE && scope->_running > 0 && list_is_empty(&scope->children);
}

static void watch_canceled(weft_test *t, uint64_t us)
{
    bool is_any = false;

    LIST_EACH (&t->tasks->scopes, link)
        is_any |= is_going_on(CONTAINER_OF(link, struct scope, _link));
    t->stuck_us = is_any ? t->stuck_us + us : 0;
}

bool kit_is_stuck(const weft_test *t)
{
    return t->stuck_us > STUCK_US_MAX;
}

/* To the next timer, or by `us_max`. */
static void jump(weft_test *t, uint64_t us_max)
{
    uint64_t now_ms = t->now_us / 1000;
    uint64_t wait_us = wheel_wait_ms(loop_wheel(t->loop), now_ms) * 1000ull;

    if (wait_us == 0)
        wait_us = 1000;
    if (wait_us > us_max)
        wait_us = us_max;
    t->now_us += wait_us;
    watch_canceled(t, wait_us);
    kit_clock_set(t->now_us - t->begin_us);
    loop_turn(t->loop, 0); /* timers are no work that waits */
    kit_settle(t);
}

bool kit_run_until(weft_test *t, bool (*is_done)(weft_test *t, void *data), void *data, uint64_t ms)
{
    uint64_t end_us = t->now_us + ms * 1000;

    kit_settle(t);
    while (!is_done(t, data)) {
        if (t->now_us >= end_us || kit_is_stuck(t))
            return false;
        jump(t, end_us - t->now_us);
    }
    return true;
}

static bool never(weft_test *t, void *data)
{
    (void)t;
    (void)data;
    return false;
}

void weft_test_advance(weft_test *t, uint32_t ms)
{
    (void)kit_run_until(t, never, NULL, ms);
}

uint64_t weft_test_now_ms(const weft_test *t)
{
    return (t->now_us - t->begin_us) / 1000;
}
