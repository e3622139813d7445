/* Goal: a random test says how to repeat it however it fails, and nothing where it does not; its
 * seed is what it was told, the same in each short run, another one in each long one. */
#include "base/asan.h"
#include "lib/dies.h"
#include "lib/soak.h"
#include "lib/test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOW "WEFT_SEED=7 build/dev/tests/test_it"

static void break_a_check(void *arg)
{
    soak_repeat(arg);
    abort();
}

/* What cmocka does with an assertion that fails. */
static void reach_the_end(void *arg)
{
    soak_repeat(arg);
    (void)soak_end(NULL);
    _exit(1);
}

static void pass(void *arg)
{
    soak_repeat(arg);
    soak_repeat(NULL);
    (void)soak_end(NULL);
}

static void pass_and_abort(void *arg)
{
    pass(arg);
    abort();
}

static void test_whoever_fails_says_how(void **state)
{
    char output[DIES_OUTPUT_SIZE];

    (void)state;
    assert_true(dies(break_a_check, HOW, output));
    assert_non_null(strstr(output, "to repeat it: " HOW "\n"));
    assert_true(dies(reach_the_end, HOW, output));
    assert_string_equal(output, "to repeat it: " HOW "\n");
    assert_false(dies(pass, HOW, output));
    assert_string_equal(output, "");
    assert_true(dies(pass_and_abort, HOW, output));
    assert_null(strstr(output, "to repeat it"));
}

#if WEFT_ASAN

static void read_what_is_gone(void *arg)
{
    char *volatile gone = malloc(10);

    soak_repeat(arg);
    free(gone);
    _exit(gone[0]);
}

static void test_what_the_sanitizer_finds_too(void **state)
{
    char output[DIES_OUTPUT_SIZE];

    (void)state;
    assert_true(dies(read_what_is_gone, HOW, output));
    assert_non_null(strstr(output, "heap-use-after-free"));
    assert_non_null(strstr(output, "to repeat it: " HOW "\n"));
}

#endif

static void test_seeds(void **state)
{
    uint64_t first;

    (void)state;
    assert_int_equal(unsetenv("WEFT_SOAK") | unsetenv("WEFT_SEED"), 0);
    assert_false(soak_is_on());
    assert_int_equal(soak_seed(), 1);
    assert_int_equal(setenv("WEFT_SOAK", "1", 1), 0);
    assert_true(soak_is_on());
    first = soak_seed();
    for (uint32_t i = 0; i < 3 && first == soak_seed(); i++)
        assert_int_not_equal(i, 2);
    assert_int_equal(setenv("WEFT_SEED", "1234", 1), 0);
    assert_int_equal(soak_seed(), 1234);
    assert_int_equal(unsetenv("WEFT_SOAK"), 0);
    assert_int_equal(soak_seed(), 1234);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whoever_fails_says_how),
#if WEFT_ASAN
        cmocka_unit_test(test_what_the_sanitizer_finds_too),
#endif
        cmocka_unit_test(test_seeds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
