/* Goal: a loop pauses only where it is busy, much ends, and half of it or more takes its time; it
 * does not talk itself into going on by what its own pauses add; it ends with the load, and while
 * somebody waits for its next turn; and it never pauses where something is ready to run. */
#include "lib/test.h"
#include "loop/coalesce.h"
#include "loop/loop.h"

static const uint64_t WINDOW_US = 16000;
static const uint64_t START_US = 1000000;

/* A loop's load in a window. */
struct load {
    uint32_t slow;     /* steps of 5 ms */
    uint32_t quick;    /* steps of `quick_us` */
    uint64_t quick_us; /* how long these take */
    uint64_t cpu_us;   /* that it used */
};

/* What the clocks say. */
struct clocks {
    uint64_t now_us;
    uint64_t cpu_us;
};

static void note(struct coalesce *coalesce, const struct load *load)
{
    for (uint32_t i = 0; i < load->slow; i++)
        coalesce_ended(coalesce, 5000);
    for (uint32_t i = 0; i < load->quick; i++)
        coalesce_ended(coalesce, load->quick_us);
}

/* A window with that load. Returns the pause that follows. */
static uint32_t window(struct coalesce *coalesce, struct clocks *clocks, const struct load *load)
{
    note(coalesce, load);
    clocks->now_us += WINDOW_US;
    clocks->cpu_us += load->cpu_us;
    assert_true(coalesce_is_over(coalesce, clocks->now_us));
    coalesce_judge(coalesce, clocks->now_us, clocks->cpu_us);
    return coalesce_pause_us(coalesce);
}

static struct coalesce begun(struct clocks *clocks)
{
    struct coalesce coalesce = {0};

    *clocks = (struct clocks){.now_us = START_US, .cpu_us = 77};
    coalesce_judge(&coalesce, clocks->now_us, clocks->cpu_us);
    assert_int_equal(coalesce_pause_us(&coalesce), 0);
    return coalesce;
}

static void test_load_decides(void **state)
{
    static const struct {
        struct load load;
        bool is_on;
    } cases[] = {
        {{.cpu_us = 16000}, false},              /* it computes */
        {{.slow = 127, .cpu_us = 16000}, false}, /* too few */
        {{.slow = 128, .cpu_us = 16000}, true},  /* 8,000 a second */
        {{.slow = 128, .cpu_us = 5333}, false},  /* there is CPU enough */
        {{.slow = 128, .cpu_us = 5334}, true},   /* a third */
        {{.slow = 300, .quick = 300, .quick_us = 999, .cpu_us = 8000}, true},
        {{.slow = 300, .quick = 301, .quick_us = 999, .cpu_us = 8000}, false},
        {{.quick = 640, .quick_us = 1000, .cpu_us = 8000}, true},  /* quick is below that */
        {{.quick = 1500, .quick_us = 50, .cpu_us = 16000}, false}, /* and these are */
    };

    (void)state;
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct clocks clocks;
        struct coalesce coalesce = begun(&clocks);

        assert_int_equal(window(&coalesce, &clocks, &cases[i].load),
                         cases[i].is_on ? COALESCE_PAUSE_US : 0);
    }
}

static void test_a_window_is_judged_at_its_end(void **state)
{
    static const struct load busy = {.slow = 1000, .cpu_us = 16000}, idle = {0};
    struct clocks clocks;
    struct coalesce coalesce = begun(&clocks);

    (void)state;
    assert_false(coalesce_is_over(&coalesce, START_US + WINDOW_US - 1));
    assert_int_equal(window(&coalesce, &clocks, &busy), COALESCE_PAUSE_US);
    assert_int_equal(window(&coalesce, &clocks, &idle), 0); /* load has gone */
}

/* After a turn that was long the same number is a lower rate, and the same CPU a lower share. */
static void test_a_late_verdict_asks_for_more(void **state)
{
    static const struct load load = {.slow = 128 * 10 - 1, .cpu_us = 160000};
    struct clocks clocks;
    struct coalesce coalesce = begun(&clocks);

    (void)state;
    clocks.now_us += 9 * WINDOW_US;
    assert_int_equal(window(&coalesce, &clocks, &load), 0);
}

/* Steps of 0.9 ms take up to 1.15 with a pause, and are quick all the same. */
static void test_pauses_do_not_justify_themselves(void **state)
{
    static const struct load slow = {.slow = 640, .cpu_us = 8000},
                             still = {.quick = 640, .quick_us = 1250, .cpu_us = 8000},
                             quick = {.quick = 640, .quick_us = 1150, .cpu_us = 8000};
    struct clocks clocks;
    struct coalesce coalesce = begun(&clocks);

    (void)state;
    assert_int_equal(window(&coalesce, &clocks, &slow), COALESCE_PAUSE_US);
    assert_int_equal(window(&coalesce, &clocks, &still), COALESCE_PAUSE_US);
    assert_int_equal(window(&coalesce, &clocks, &quick), 0);
}

static uint32_t pauses;

static void count_pause(uint32_t us)
{
    assert_int_equal(us, COALESCE_PAUSE_US);
    pauses++;
}

/* As if it had worked all the time, and twice that fast. */
static uint64_t busy_us(void)
{
    static uint64_t used_us;

    return used_us += 10000000;
}

static void on_ready(struct ready *ready)
{
    (void)ready;
}

/* The clock is a real one, as no other loop sleeps; a window is over, and the rate in it is far
 * above what is asked for, however slow the machine is. */
static struct loop *loop_under_load(bool coalesces)
{
    struct loop *loop = loop_create(
        &(struct loop_options){.coalesces = coalesces, .pause = count_pause, .cpu_us = busy_us});

    pauses = 0;
    loop_turn(loop, 20);
    for (uint32_t i = 0; i < 10000000; i++)
        loop_step_ended(loop, 5000);
    return loop;
}

static void test_a_loop_pauses_before_it_sleeps(void **state)
{
    struct loop *loop = loop_under_load(true);
    struct ready ready = {0};

    (void)state;
    ready_start(loop, &ready, on_ready);
    loop_turn(loop, 1);
    assert_int_equal(pauses, 0); /* something is ready */
    loop_turn(loop, 1);
    assert_int_equal(pauses, 1);
    loop_destroy(loop);
}

static void test_a_loop_that_is_held_does_not(void **state)
{
    struct loop *loop = loop_under_load(true);

    (void)state;
    loop_hold(loop);
    loop_hold(loop);
    loop_turn(loop, 1);
    loop_release(loop);
    loop_turn(loop, 1);
    assert_int_equal(pauses, 0); /* one still holds it */
    loop_release(loop);
    for (uint32_t i = 0; i < 10000000; i++)
        loop_step_ended(loop, 5000);
    loop_turn(loop, 20);
    loop_turn(loop, 1);
    assert_true(pauses > 0);
    loop_destroy(loop);
}

static void test_a_loop_that_may_not_does_not(void **state)
{
    struct loop *loop = loop_under_load(false);

    (void)state;
    loop_turn(loop, 1);
    assert_int_equal(pauses, 0);
    loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_decides),
        cmocka_unit_test(test_a_window_is_judged_at_its_end),
        cmocka_unit_test(test_a_late_verdict_asks_for_more),
        cmocka_unit_test(test_pauses_do_not_justify_themselves),
        cmocka_unit_test(test_a_loop_pauses_before_it_sleeps),
        cmocka_unit_test(test_a_loop_that_is_held_does_not),
        cmocka_unit_test(test_a_loop_that_may_not_does_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
