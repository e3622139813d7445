/* Goal: an address that fails again and again is out for a while, longer each time, and one call
 *       alone finds out whether it is back; a check takes it out and brings it back by rows of
 *       outcomes; a breaker opens by the share of failures and closes by one good call. */
#include "lib/test.h"
#include "upstream/breaker.h"
#include "upstream/health.h"

static const struct upstream_options options = {
    .eject_failures = 3,
    .eject_time_ms = 1000,
    .check_rise = 2,
    .check_fall = 3,
    .breaker_percent = 50,
    .breaker_calls = 4,
    .breaker_window_ms = 1000,
    .breaker_time_ms = 500,
};

/* Fails it until it is ejected. */
static void eject(struct health *health, uint64_t now_ms)
{
    for (int i = 0; i < 2; i++)
        assert_false(health_failed(health, &options, now_ms, true));
    assert_true(health_failed(health, &options, now_ms, true));
    assert_int_equal(health->state, HEALTH_EJECTED);
}

static void test_ejected_and_back(void **state)
{
    struct health health = {0};

    (void)state;
    assert_false(health_failed(&health, &options, 10, true));
    assert_false(health_failed(&health, &options, 10, true));
    health_succeeded(&health, &options, 10); /* not in a row */
    eject(&health, 10);
    assert_false(health_failed(&health, &options, 11, true)); /* it was under way */
    assert_false(health_may_serve(&health, 1009));
    assert_false(health_begin(&health, 1009));
    assert_true(health_may_serve(&health, 1010));
    assert_true(health_begin(&health, 1010));
    assert_false(health_may_serve(&health, 5000)); /* one at a time */
    assert_false(health_begin(&health, 5000));
    health_succeeded(&health, &options, 5000);
    assert_true(health_may_serve(&health, 5000));
    assert_false(health_begin(&health, 5000));
}

static void test_longer_each_time(void **state)
{
    struct health health = {0};
    uint64_t now_ms = 0;

    (void)state;
    eject(&health, 0);
    for (uint32_t i = 2; i < 20; i++) {
        now_ms = health.until_ms;
        assert_true(health_begin(&health, now_ms));
        assert_false(health_failed(&health, &options, now_ms, true));
        assert_int_equal(health.until_ms - now_ms, 1000 * (i < 10 ? i : 10));
    }
    now_ms = health.until_ms;
    assert_true(health_begin(&health, now_ms));
    health_succeeded(&health, &options, now_ms);
    health_succeeded(&health, &options, now_ms + 999);
    assert_int_equal(health.ejections, 10);
    health_succeeded(&health, &options, now_ms + 1000);
    assert_int_equal(health.ejections, 0);
}

static void test_trial_without_outcome(void **state)
{
    struct health health = {0};

    (void)state;
    health_untried(&health, 5); /* none */
    assert_int_equal(health.state, HEALTH_GOOD);
    eject(&health, 0);
    assert_true(health_begin(&health, 1000));
    health_untried(&health, 1200);
    assert_true(health_begin(&health, 1200));
}

static void test_never_the_last(void **state)
{
    struct health health = {0};

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_false(health_failed(&health, &options, 0, false));
    assert_true(health_may_serve(&health, 0));
    assert_true(health_failed(&health, &options, 0, true));
}

static void test_never_where_so_set(void **state)
{
    const struct upstream_options never = {.eject_time_ms = 1000};
    struct health health = {0};

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_false(health_failed(&health, &never, 0, true));
    assert_true(health_may_serve(&health, 0));
}

static void test_rest(void **state)
{
    struct health health = {0};

    (void)state;
    health_rest(&health, 100, 50);
    health_rest(&health, 100, 20); /* never shorter */
    assert_false(health_may_serve(&health, 149));
    assert_true(health_may_serve(&health, 150));
}

static void test_checks(void **state)
{
    struct health health = {0};

    (void)state;
    assert_false(health_checked(&health, &options, false));
    assert_false(health_checked(&health, &options, false));
    assert_false(health_checked(&health, &options, true)); /* the row is broken */
    assert_false(health_checked(&health, &options, false));
    assert_false(health_checked(&health, &options, false));
    assert_true(health_checked(&health, &options, false));
    assert_false(health_may_serve(&health, 0));
    assert_false(health_checked(&health, &options, true));
    assert_false(health_checked(&health, &options, false));
    assert_false(health_checked(&health, &options, true));
    assert_true(health_checked(&health, &options, true));
    assert_true(health_may_serve(&health, 0));
}

/* ---- the breaker ---- */

static bool note(struct breaker *breaker, uint64_t now_ms, bool is_good)
{
    return breaker_note(breaker, &options, now_ms, false, is_good);
}

static bool admits(struct breaker *breaker, uint64_t now_ms)
{
    bool is_trial = false;
    bool is_admitted = breaker_admits(breaker, &options, now_ms, &is_trial);

    assert_true(is_admitted || !is_trial);
    assert_true(!is_trial || breaker->state == BREAKER_TRIED);
    return is_admitted;
}

static void test_breaker_opens(void **state)
{
    struct breaker breaker = {0};

    (void)state;
    assert_false(note(&breaker, 0, false));
    assert_false(note(&breaker, 0, false));
    assert_false(note(&breaker, 0, true));
    assert_true(admits(&breaker, 0));
    assert_true(note(&breaker, 0, false)); /* 3 of 4 */
    assert_false(admits(&breaker, 499));
    assert_false(note(&breaker, 499, false)); /* was under way */
    assert_true(admits(&breaker, 500));
    assert_false(admits(&breaker, 500)); /* one at a time */
    assert_false(breaker_note(&breaker, &options, 600, true, false));
    assert_false(admits(&breaker, 1099));
    assert_true(admits(&breaker, 1100));
    breaker_untried(&breaker, 1200);
    assert_true(admits(&breaker, 1200));
    assert_false(breaker_note(&breaker, &options, 1200, true, true));
    for (int i = 0; i < 10; i++)
        assert_true(admits(&breaker, 1200));
}

static void test_breaker_forgets(void **state)
{
    struct breaker breaker = {0};

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_false(note(&breaker, 0, false));
    assert_false(note(&breaker, 2000, false));
    for (int i = 0; i < 2; i++)
        assert_false(note(&breaker, 2600, false)); /* the half before counts */
    assert_true(note(&breaker, 2600, false));
}

static void test_breaker_share(void **state)
{
    struct breaker breaker = {0};

    (void)state;
    for (int i = 0; i < 1000; i++) {
        assert_false(note(&breaker, (uint64_t)i, true));
        assert_false(note(&breaker, (uint64_t)i, true));
        assert_false(note(&breaker, (uint64_t)i, false));
    }
}

static void test_breaker_is_off(void **state)
{
    const struct upstream_options off = {.breaker_calls = 1, .breaker_window_ms = 1000};
    struct breaker breaker = {0};
    bool is_trial;

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_false(breaker_note(&breaker, &off, 0, false, false));
    assert_true(breaker_admits(&breaker, &off, 0, &is_trial));
    assert_false(is_trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ejected_and_back),
        cmocka_unit_test(test_longer_each_time),
        cmocka_unit_test(test_trial_without_outcome),
        cmocka_unit_test(test_never_the_last),
        cmocka_unit_test(test_never_where_so_set),
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_checks),
        cmocka_unit_test(test_breaker_opens),
        cmocka_unit_test(test_breaker_forgets),
        cmocka_unit_test(test_breaker_share),
        cmocka_unit_test(test_breaker_is_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
