/* Goal: the generator sends when it says it does, and no time that it reports is too short, or too
 * long by 0.8 % or more. */
#include "bench/load.h"
#include "lib/test.h"
#include <math.h>

#define TEST(fn) cmocka_unit_test(fn)

static void test_constant_gaps_do_not_drift(void **state)
{
    struct arrivals arrivals;
    uint64_t at = 0;

    (void)state;
    arrivals_init(&arrivals, 30000, false, 1);
    assert_int_equal(arrivals_next(&arrivals), 0);
    for (uint32_t i = 1; i <= 3000000; i++)
        at = arrivals_next(&arrivals);
    assert_int_equal(at, 100000000000u);
    assert_int_equal(arrivals.count, 3000001);
}

/* Gaps of an exponential distribution: mean and deviation are the same, and e^-1 are longer. */
static void test_gaps_by_chance_are_exponential(void **state)
{
    const uint32_t n = 200000;
    const double mean = 1e9 / 5000;
    struct arrivals arrivals;
    uint64_t last = 0, longer = 0;
    double squares = 0;

    (void)state;
    arrivals_init(&arrivals, 5000, true, 7);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t at = arrivals_next(&arrivals);
        double gap = (double)(at - last);

        assert_true(at >= last);
        squares += (gap - mean) * (gap - mean);
        longer += gap > mean;
        last = at;
    }
    assert_true(fabs((double)last / n / mean - 1) < 0.01);
    assert_true(fabs(sqrt(squares / n) / mean - 1) < 0.01);
    assert_true(fabs((double)longer / n - exp(-1)) < 0.005);
}

static void test_a_seed_says_it_all(void **state)
{
    struct arrivals one, same, other;
    uint32_t equal = 0;

    (void)state;
    arrivals_init(&one, 100, true, 42);
    arrivals_init(&same, 100, true, 42);
    arrivals_init(&other, 100, true, 43);
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t at = arrivals_next(&one);

        assert_int_equal(at, arrivals_next(&same));
        equal += at == arrivals_next(&other);
    }
    assert_true(equal < 10);
}

static void test_nothing_took_no_time(void **state)
{
    static struct latencies none;

    (void)state;
    assert_int_equal(latencies_quantile(&none, 0.99), 0);
}

/* One time alone, of each size, on both sides of each border between buckets. */
static void check_one(uint64_t us)
{
    struct latencies one = {0};
    uint64_t told;

    latencies_add(&one, us);
    latencies_add(&one, us + us / 50 + 1); /* so that `max_us` does not help */
    told = latencies_quantile(&one, 0.5);
    assert_true(told >= us);
    assert_true((double)(told - us) <= (double)us / 128);
    assert_int_equal(latencies_quantile(&one, 1), us + us / 50 + 1);
}

static void test_each_size_is_told_closely(void **state)
{
    (void)state;
    for (uint64_t us = 0; us < 3000; us++)
        check_one(us);
    for (uint32_t bit = 11; bit < LATENCIES_TOP - 1; bit++) {
        uint64_t power = UINT64_C(1) << bit;

        check_one(power - 1);
        check_one(power);
        check_one(power + power / 128 - 1);
        check_one(power + power / 128);
        check_one(power + power / 3);
    }
}

static void test_what_takes_for_ever_is_counted(void **state)
{
    static struct latencies latencies;

    (void)state;
    latencies_add(&latencies, UINT64_MAX);
    latencies_add(&latencies, UINT64_C(1) << LATENCIES_TOP);
    assert_int_equal(latencies.count, 2);
    assert_int_equal(latencies.max_us, UINT64_MAX);
    assert_int_equal(latencies_quantile(&latencies, 0.5), (UINT64_C(1) << LATENCIES_TOP) - 1);
}

/* The rank is that of the sorted list: of 1000, the 990th is p99. */
static void test_quantiles_are_ranks(void **state)
{
    static struct latencies latencies, halves[2];

    (void)state;
    for (uint64_t us = 1; us <= 1000; us++)
        latencies_add(&halves[us % 2], us * 100);
    latencies_merge(&latencies, &halves[0]);
    latencies_merge(&latencies, &halves[1]);
    assert_int_equal(latencies.count, 1000);
    for (uint32_t percent = 1; percent <= 100; percent++) {
        uint64_t right = percent * 1000u, told = latencies_quantile(&latencies, percent / 100.0);

        assert_true(told >= right);
        assert_true(told <= right + right / 128);
    }
    assert_int_equal(latencies_quantile(&latencies, 0), latencies_quantile(&latencies, 0.001));
    assert_int_equal(latencies_quantile(&latencies, 1), 100000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_constant_gaps_do_not_drift), TEST(test_gaps_by_chance_are_exponential),
        TEST(test_a_seed_says_it_all),         TEST(test_nothing_took_no_time),
        TEST(test_each_size_is_told_closely),  TEST(test_what_takes_for_ever_is_counted),
        TEST(test_quantiles_are_ranks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
