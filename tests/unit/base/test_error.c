/* Goal: every code has a name and a text of its own, and ERR_OK is 0. */
#include "base/error.h"
#include "lib/dies.h"
#include "lib/test.h"

#include <string.h>

static void test_each_code_has_name_and_text(void **state)
{
    (void)state;
    assert_int_equal(ERR_OK, 0);
    for (int i = 0; i < ERR_COUNT; i++) {
        assert_non_null(err_text((enum err)i));
        assert_true(strlen(err_text((enum err)i)) > 0);
        assert_memory_equal(err_name((enum err)i), "ERR_", 4);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(err_text((enum err)i), err_text((enum err)j));
            assert_string_not_equal(err_name((enum err)i), err_name((enum err)j));
        }
    }
    assert_string_equal(err_name(ERR_TIMED_OUT), "ERR_TIMED_OUT");
    assert_string_equal(err_text(ERR_TIMED_OUT), "timed out");
}

static void ask_beyond(void *arg)
{
    (void)arg;
    (void)err_text(ERR_COUNT);
}

static void test_a_code_beyond_the_table_dies(void **state)
{
    char output[DIES_OUTPUT_SIZE];

    (void)state;
    assert_true(dies(ask_beyond, NULL, output));
    assert_non_null(strstr(output, "check failed"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_code_has_name_and_text),
        cmocka_unit_test(test_a_code_beyond_the_table_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
