/* Goal: a timer runs once, never before its deadline, in the first turn at or after it and in the
 * order of the deadlines, whatever was started, moved and stopped meanwhile; the wheel never lets
 * the loop sleep past a deadline; to move one further away touches no list. */
#include "base/check.h"
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "loop/loop.h"
#include "loop/timer.h"

#include <stdlib.h>
#include <string.h>

/* What every test starts with: a loop on a fake clock. */
struct fixture {
    struct fake_clock clock;
    struct loop *loop;
};

static int set_up(void **state)
{
    static struct fixture fixture;

    fixture.loop = fake_clock_loop(&fixture.clock);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    loop_destroy(fixture->loop);
    return 0;
}

/* A timer that notes when it ran. */
struct alarm {
    struct timer timer;
    struct loop *loop;
    uint32_t count;      /* times that it ran */
    uint64_t ran_ms;     /* when, the last time */
    struct alarm *other; /* what `fn` is about */
};

static void on_alarm(struct timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);

    assert_false(timer_is_on(timer));
    alarm->count++;
    alarm->ran_ms = loop_now_ms(alarm->loop);
}

/* Jumps from slot to slot, as a loop that sleeps would. */
static uint32_t sleep_until_run(struct fixture *fixture, const struct alarm *alarm)
{
    uint32_t turns = 0;
    uint32_t count = alarm->count;

    while (alarm->count == count) {
        uint32_t wait_ms = wheel_wait_ms(loop_wheel(fixture->loop), loop_now_ms(fixture->loop));

        assert_int_not_equal(wait_ms, UINT32_MAX);
        fake_clock_jump(&fixture->clock, fixture->loop, wait_ms);
        turns++;
    }
    return turns;
}

static void test_every_span_is_kept_to_the_millisecond(void **state)
{
    static const uint64_t spans[] = {1,
                                     2,
                                     62,
                                     63,
                                     64,
                                     65,
                                     127,
                                     128,
                                     4095,
                                     4096,
                                     4097,
                                     262143,
                                     262144,
                                     262145,
                                     16777216,
                                     1073741824,
                                     1ull << 35,
                                     1ull << 36,
                                     (1ull << 36) + 12345,
                                     1ull << 40};
    struct fixture *fixture = *state;
    struct alarm alarm = {.loop = fixture->loop};

    for (uint32_t offset = 0; offset < 200; offset += 33) {
        for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
            uint64_t begin_ms = loop_now_ms(fixture->loop);

            timer_start(fixture->loop, &alarm.timer, spans[i], on_alarm);
            /* Five moves to a finer level at most; what is very far away takes sleeps of 49
             * days. */
            assert_in_range(sleep_until_run(fixture, &alarm), 1, spans[i] < 1ull << 32 ? 7 : 300);
            assert_int_equal(alarm.ran_ms - begin_ms, spans[i]);
        }
        fake_clock_jump(&fixture->clock, fixture->loop, offset);
    }
    assert_int_equal(wheel_wait_ms(loop_wheel(fixture->loop), loop_now_ms(fixture->loop)),
                     UINT32_MAX);
}

static void test_within_a_millisecond_it_is_late_not_early(void **state)
{
    struct fixture *fixture = *state;
    struct alarm alarm = {.loop = fixture->loop};

    fixture->clock.now_us += 900;
    run_turns(fixture->loop, 1);
    timer_start(fixture->loop, &alarm.timer, 1, on_alarm);
    fixture->clock.now_us += 900; /* a new millisecond has begun, but one has not passed */
    run_turns(fixture->loop, 1);
    assert_int_equal(alarm.count, 0);
    fixture->clock.now_us += 200;
    run_turns(fixture->loop, 1);
    assert_int_equal(alarm.count, 1);
}

static void test_moved_away_it_stays_where_it_is(void **state)
{
    struct fixture *fixture = *state;
    struct alarm alarm = {.loop = fixture->loop};
    const struct list *place;

    timer_start(fixture->loop, &alarm.timer, 1000, on_alarm);
    place = alarm.timer._link.prev;
    for (uint32_t i = 0; i < 50; i++) {
        fake_clock_jump(&fixture->clock, fixture->loop, 10);
        timer_start(fixture->loop, &alarm.timer, 1000, on_alarm);
        assert_ptr_equal(alarm.timer._link.prev, place);
    }
    (void)sleep_until_run(fixture, &alarm);
    assert_int_equal(alarm.ran_ms, 1000 + 500 + 1000);
}

static void test_moved_nearer_it_runs_earlier(void **state)
{
    struct fixture *fixture = *state;
    struct alarm alarm = {.loop = fixture->loop};

    timer_start(fixture->loop, &alarm.timer, 100000, on_alarm);
    timer_start(fixture->loop, &alarm.timer, 10, on_alarm);
    assert_int_equal(sleep_until_run(fixture, &alarm), 1);
    assert_int_equal(alarm.ran_ms, 1010);
    fake_clock_jump(&fixture->clock, fixture->loop, 200000);
    assert_int_equal(alarm.count, 1);
}

static void test_a_deadline_that_has_passed(void **state)
{
    struct fixture *fixture = *state;
    struct alarm alarm = {.loop = fixture->loop};

    timer_start_at(fixture->loop, &alarm.timer, 7, on_alarm);
    assert_int_equal(wheel_wait_ms(loop_wheel(fixture->loop), 1000), 0);
    assert_int_equal(alarm.count, 0); /* not from inside the call */
    run_turns(fixture->loop, 1);
    assert_int_equal(alarm.count, 1);
    timer_start_at(fixture->loop, &alarm.timer, 7, on_alarm);
    timer_start(fixture->loop, &alarm.timer, 20, on_alarm); /* moved out of what is due */
    assert_int_equal(wheel_wait_ms(loop_wheel(fixture->loop), 1000), 20);
    timer_stop(&alarm.timer);
    timer_stop(&alarm.timer);
    assert_int_equal(wheel_wait_ms(loop_wheel(fixture->loop), 1000), UINT32_MAX);
}

static void start_again(struct timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);

    on_alarm(timer);
    timer_start(alarm->loop, timer, 0, start_again);
}

static void test_started_by_itself_it_waits_for_the_next_turn(void **state)
{
    struct fixture *fixture = *state;
    struct alarm alarm = {.loop = fixture->loop};

    timer_start(fixture->loop, &alarm.timer, 0, start_again);
    run_turns(fixture->loop, 3);
    assert_int_equal(alarm.count, 3);
    timer_stop(&alarm.timer);
}

static void stop_other(struct timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);

    on_alarm(timer);
    timer_stop(&alarm->other->timer);
}

static void move_other(struct timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);

    on_alarm(timer);
    timer_start(alarm->loop, &alarm->other->timer, 5, on_alarm);
}

static void test_stopped_or_moved_by_one_due_in_the_same_turn(void **state)
{
    struct fixture *fixture = *state;
    struct alarm a = {.loop = fixture->loop};
    struct alarm b = {.loop = fixture->loop};

    a.other = &b;
    timer_start(fixture->loop, &a.timer, 3, stop_other);
    timer_start(fixture->loop, &b.timer, 3, on_alarm);
    fake_clock_jump(&fixture->clock, fixture->loop, 3);
    assert_int_equal(b.count, 0);

    timer_start(fixture->loop, &a.timer, 3, move_other);
    timer_start(fixture->loop, &b.timer, 3, on_alarm);
    fake_clock_jump(&fixture->clock, fixture->loop, 3);
    assert_int_equal(b.count, 0);
    fake_clock_jump(&fixture->clock, fixture->loop, 4);
    assert_int_equal(b.count, 0);
    fake_clock_jump(&fixture->clock, fixture->loop, 1);
    assert_int_equal(b.count, 1);
}

static void free_itself(struct timer *timer)
{
    free(CONTAINER_OF(timer, struct alarm, timer));
}

static void test_it_may_free_itself(void **state)
{
    struct fixture *fixture = *state;

    for (uint32_t i = 0; i < 3; i++) {
        struct alarm *alarm = calloc(1, sizeof *alarm);

        timer_start(fixture->loop, &alarm->timer, 2, free_itself);
    }
    fake_clock_jump(&fixture->clock, fixture->loop, 2);
}

static void test_for_ever_is_far_away(void **state)
{
    struct fixture *fixture = *state;
    struct alarm alarm = {.loop = fixture->loop};

    timer_start(fixture->loop, &alarm.timer, UINT64_MAX, on_alarm);
    for (uint32_t i = 0; i < 40; i++)
        fake_clock_jump(&fixture->clock, fixture->loop, 1ull << 36);
    assert_int_equal(alarm.count, 0);
    assert_true(timer_is_on(&alarm.timer));
    timer_stop(&alarm.timer);
}

/* ---- against a model that only compares deadlines ---- */

enum { MODEL_COUNT = 300, MODEL_STEPS = 20000 };

struct model {
    struct alarm alarms[MODEL_COUNT];
    bool is_on[MODEL_COUNT];
    uint64_t deadline_ms[MODEL_COUNT];
    uint64_t last_ms; /* deadline of the one that ran before, in this turn */
    uint32_t random;
};

static struct model model;

static uint32_t random_next(uint32_t below)
{
    model.random = model.random * 1664525u + 1013904223u;
    return (model.random >> 8) % below;
}

static void on_model(struct timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);
    size_t index = (size_t)(alarm - model.alarms);

    assert_true(model.is_on[index]);
    assert_true(model.deadline_ms[index] <= loop_now_ms(alarm->loop));
    assert_true(model.deadline_ms[index] >= model.last_ms);
    model.last_ms = model.deadline_ms[index];
    model.is_on[index] = false;
}

static uint64_t model_earliest(void)
{
    uint64_t earliest = UINT64_MAX;

    for (uint32_t i = 0; i < MODEL_COUNT; i++) {
        if (model.is_on[i] && model.deadline_ms[i] < earliest)
            earliest = model.deadline_ms[i];
    }
    return earliest;
}

static void model_change(struct loop *loop)
{
    static const uint32_t spans[] = {3, 70, 5000, 300000, 20000000};
    uint32_t index = random_next(MODEL_COUNT);

    if (random_next(4) == 0) {
        timer_stop(&model.alarms[index].timer);
        model.is_on[index] = false;
        return;
    }
    model.deadline_ms[index] = loop_now_ms(loop) + 1 + random_next(spans[random_next(5)]);
    model.is_on[index] = true;
    timer_start_at(loop, &model.alarms[index].timer, model.deadline_ms[index], on_model);
}

static void test_against_a_model(void **state)
{
    struct fixture *fixture = *state;

    memset(&model, 0, sizeof model);
    for (uint32_t i = 0; i < MODEL_COUNT; i++)
        model.alarms[i].loop = fixture->loop;
    for (uint32_t step = 0; step < MODEL_STEPS; step++) {
        uint64_t now_ms = loop_now_ms(fixture->loop);
        uint64_t earliest = model_earliest();
        uint32_t wait_ms = wheel_wait_ms(loop_wheel(fixture->loop), now_ms);

        assert_true(earliest == UINT64_MAX || now_ms + wait_ms <= earliest);
        model_change(fixture->loop);
        if (random_next(3) == 0)
            continue;
        /* As the loop would sleep, a little longer than that, or much longer. */
        wait_ms = wheel_wait_ms(loop_wheel(fixture->loop), now_ms);
        if (wait_ms == UINT32_MAX || random_next(50) == 0)
            wait_ms = random_next(100000);
        model.last_ms = 0;
        fake_clock_jump(&fixture->clock, fixture->loop, wait_ms + random_next(2));
        assert_true(model_earliest() > loop_now_ms(fixture->loop));
    }
    for (uint32_t i = 0; i < MODEL_COUNT; i++) {
        assert_int_equal(timer_is_on(&model.alarms[i].timer), model.is_on[i]);
        timer_stop(&model.alarms[i].timer);
    }
    assert_int_equal(wheel_wait_ms(loop_wheel(fixture->loop), loop_now_ms(fixture->loop)),
                     UINT32_MAX);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_every_span_is_kept_to_the_millisecond),
        TEST(test_within_a_millisecond_it_is_late_not_early),
        TEST(test_moved_away_it_stays_where_it_is),
        TEST(test_moved_nearer_it_runs_earlier),
        TEST(test_a_deadline_that_has_passed),
        TEST(test_started_by_itself_it_waits_for_the_next_turn),
        TEST(test_stopped_or_moved_by_one_due_in_the_same_turn),
        TEST(test_it_may_free_itself),
        TEST(test_for_ever_is_far_away),
        TEST(test_against_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
