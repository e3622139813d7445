/* Goal: a CHECK that holds costs nothing; one that fails says where and what, and ends the
 * process. */
#include "base/check.h"
#include "lib/dies.h"
#include "lib/test.h"

#include <string.h>

struct thing {
    uint32_t magic;
    int value;
};

static void compare(void *arg)
{
    int two = *(int *)arg;

    CHECK(two == 3);
}

static void meet(void *arg)
{
    CHECK_OBJ((struct thing *)arg, 0xbeefu);
}

static void test_a_failed_check_says_where_and_what(void **state)
{
    char output[DIES_OUTPUT_SIZE];
    int two = 2;

    (void)state;
    assert_true(dies(compare, &two, output));
    assert_non_null(strstr(output, "level=error"));
    assert_non_null(strstr(output, "test_check.c:"));
    assert_non_null(strstr(output, "compare(): two == 3"));
    two = 3;
    assert_false(dies(compare, &two, output));
    assert_string_equal(output, "");
}

static void test_check_obj_wants_the_magic(void **state)
{
    struct thing thing = {.magic = 0xbeef};
    char output[DIES_OUTPUT_SIZE];

    (void)state;
    assert_false(dies(meet, &thing, output));
    thing.magic = 0;
    assert_true(dies(meet, &thing, output));
    assert_true(dies(meet, NULL, output));
}

static void test_container_of_finds_the_struct(void **state)
{
    struct thing thing = {.magic = 1};

    (void)state;
    assert_ptr_equal(CONTAINER_OF(&thing.value, struct thing, value), &thing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failed_check_says_where_and_what),
        cmocka_unit_test(test_check_obj_wants_the_magic),
        cmocka_unit_test(test_container_of_finds_the_struct),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
