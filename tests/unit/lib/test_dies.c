/* Goal: dies() tells who comes back from who does not, and brings what was said on the way, also
 * where that is more than fits. */
#include "lib/dies.h"
#include "lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char output[DIES_OUTPUT_SIZE];

static void come_back(void *arg)
{
    dprintf(STDERR_FILENO, "%s", (const char *)arg);
}

static void leave(void *arg)
{
    _exit(*(int *)arg);
}

static void stop_here(void *arg)
{
    come_back(arg);
    abort();
}

static void say_much(void *arg)
{
    for (int i = 0; i < 4000; i++)
        come_back(arg);
}

static void test_who_comes_back_lives(void **state)
{
    int status = 0;

    (void)state;
    assert_false(dies(come_back, "said", output));
    assert_string_equal(output, "said");
    assert_false(dies(leave, &status, output));
    assert_string_equal(output, "");
}

static void test_who_does_not_dies(void **state)
{
    int status = 1;

    (void)state;
    assert_true(dies(stop_here, "last words", output));
    assert_string_equal(output, "last words");
    assert_true(dies(leave, &status, output));
}

static void test_too_many_words_are_cut(void **state)
{
    (void)state;
    assert_false(dies(say_much, "0123456789abcdef", output));
    assert_int_equal(strlen(output), DIES_OUTPUT_SIZE - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_comes_back_lives),
        cmocka_unit_test(test_who_does_not_dies),
        cmocka_unit_test(test_too_many_words_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
