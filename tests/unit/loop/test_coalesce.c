/* Goal: a loop pauses only where many are served and nearly all of them take their time; it does
 * not talk itself into going on by what its own pauses add; it ends with the load; and it never
 * pauses where something is ready to run. */
#include "lib/test.h"
#include "loop/coalesce.h"
#include "loop/loop.h"

static const uint64_t WINDOW_US = 16000;
static const uint64_t START_US = 1000000;

/* A window at whose end `slow` requests of 5 ms and `quick` ones of `quick_us` have ended. Returns
 * the pause that follows. */
static uint32_t window(struct coalesce *coalesce, uint64_t *now_us, uint32_t slow, uint32_t quick,
                       uint64_t quick_us)
{
    for (uint32_t i = 0; i < slow; i++)
        coalesce_served(coalesce, 5000);
    for (uint32_t i = 0; i < quick; i++)
        coalesce_served(coalesce, quick_us);
    *now_us += WINDOW_US;
    return coalesce_pause_us(coalesce, *now_us);
}

static void test_load_decides(void **state)
{
    static const struct {
        uint32_t slow, quick;
        uint64_t quick_us;
        bool is_on;
    } cases[] = {
        {0, 0, 0, false},                            /* nothing to do */
        {63, 0, 0, false},                           /* too few */
        {64, 0, 0, true},                            /* 4,000 a second */
        {560, 80, 999, true},                        /* one in eight is quick */
        {559, 81, 999, false}, {0, 640, 1000, true}, /* quick is below a millisecond */
        {0, 640, 50, false},                         /* many, and all of them are */
    };

    (void)state;
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct coalesce coalesce = {0};
        uint64_t now_us = START_US;

        assert_int_equal(coalesce_pause_us(&coalesce, now_us), 0); /* the first window begins */
        assert_int_equal(
            window(&coalesce, &now_us, cases[i].slow, cases[i].quick, cases[i].quick_us),
            cases[i].is_on ? COALESCE_PAUSE_US : 0);
    }
}

static void test_a_window_is_judged_at_its_end(void **state)
{
    struct coalesce coalesce = {0};
    uint64_t now_us = START_US;

    (void)state;
    (void)coalesce_pause_us(&coalesce, now_us);
    for (uint32_t i = 0; i < 1000; i++)
        coalesce_served(&coalesce, 5000);
    assert_int_equal(coalesce_pause_us(&coalesce, now_us + WINDOW_US - 1), 0);
    assert_int_equal(coalesce_pause_us(&coalesce, now_us + WINDOW_US), COALESCE_PAUSE_US);
    assert_int_equal(coalesce_pause_us(&coalesce, now_us + WINDOW_US + 1), COALESCE_PAUSE_US);
    assert_int_equal(coalesce_pause_us(&coalesce, now_us + 2 * WINDOW_US), 0); /* load has gone */
}

/* After a turn that was long the same number of requests is a lower rate. */
static void test_a_late_verdict_asks_for_more(void **state)
{
    struct coalesce coalesce = {0};

    (void)state;
    (void)coalesce_pause_us(&coalesce, START_US);
    for (uint32_t i = 0; i < 64 * 10 - 1; i++)
        coalesce_served(&coalesce, 5000);
    assert_int_equal(coalesce_pause_us(&coalesce, START_US + 10 * WINDOW_US), 0);
}

/* Those that take 0.9 ms take 1.65 with three pauses, and are quick all the same. */
static void test_pauses_do_not_justify_themselves(void **state)
{
    struct coalesce coalesce = {0};
    uint64_t now_us = START_US;

    (void)state;
    (void)coalesce_pause_us(&coalesce, now_us);
    assert_int_equal(window(&coalesce, &now_us, 640, 0, 0), COALESCE_PAUSE_US);
    assert_int_equal(window(&coalesce, &now_us, 0, 640, 1750), COALESCE_PAUSE_US);
    assert_int_equal(window(&coalesce, &now_us, 0, 640, 900 + 3 * COALESCE_PAUSE_US), 0);
}

static uint32_t pauses;

static void count_pause(uint32_t us)
{
    assert_int_equal(us, COALESCE_PAUSE_US);
    pauses++;
}

static void on_ready(struct ready *ready)
{
    (void)ready;
}

/* The clock is a real one, as no other loop sleeps; a window is over, and the rate in it is far
 * above what is asked for, however slow the machine is. */
static struct loop *loop_under_load(bool coalesces)
{
    struct loop *loop =
        loop_create(&(struct loop_options){.coalesces = coalesces, .pause = count_pause});

    pauses = 0;
    loop_turn(loop, 20);
    for (uint32_t i = 0; i < 10000000; i++)
        loop_served(loop, 5000);
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
        cmocka_unit_test(test_a_loop_that_may_not_does_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
