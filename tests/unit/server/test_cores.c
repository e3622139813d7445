/* Goal: `workers = auto` follows the affinity of the process and a cgroup's quota of processor
 * time. */
#include "lib/test.h"
#include "server/cores.h"
#include <sched.h>

static void test_quota(void **state)
{
    (void)state;
    assert_int_equal(cores_of_quota(SPAN("200000 100000\n")), 2);
    assert_int_equal(cores_of_quota(SPAN("150000 100000\n")), 2);
    assert_int_equal(cores_of_quota(SPAN("1000 100000")), 1);
    assert_int_equal(cores_of_quota(SPAN("max 100000\n")), 0);
}

static void test_what_is_no_quota(void **state)
{
    (void)state;
    assert_int_equal(cores_of_quota((struct span){NULL, 0}), 0);
    assert_int_equal(cores_of_quota(SPAN("")), 0);
    assert_int_equal(cores_of_quota(SPAN("200000")), 0);
    assert_int_equal(cores_of_quota(SPAN("200000 0")), 0);
    assert_int_equal(cores_of_quota(SPAN("0 100000")), 0);
    assert_int_equal(cores_of_quota(SPAN("200000 x")), 0);
    assert_int_equal(cores_of_quota(SPAN("18446744073709551615 1")), 0);
}

static void test_affinity(void **state)
{
    cpu_set_t before, one;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_true(cores_available() >= 1);
    assert_true(cores_available() <= (uint32_t)CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &before))
            CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(cores_available(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quota),
        cmocka_unit_test(test_what_is_no_quota),
        cmocka_unit_test(test_affinity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
