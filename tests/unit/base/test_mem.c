/* Goal: memory comes zeroed and never as NULL; what cannot be had ends the process with the size
 * in the log; copies end with a NUL. */
#include "base/mem.h"
#include "lib/dies.h"
#include "lib/test.h"

static void ask_overflow(void *arg)
{
    mem_free(mem_calloc(SIZE_MAX / 2, *(size_t *)arg));
}

static void ask_too_much(void *arg)
{
    mem_free(mem_realloc(NULL, *(size_t *)arg));
}

static void test_memory_is_zeroed(void **state)
{
    char *bytes = mem_alloc(100);

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(bytes[i], 0);
    bytes = mem_realloc(bytes, 200);
    assert_int_equal(bytes[99], 0);
    mem_free(bytes);
    mem_free(NULL);
}

static void test_nothing_is_something(void **state)
{
    void *a = mem_alloc(0);
    void *b = mem_calloc(0, 8);
    void *c = mem_realloc(NULL, 0);

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

static void test_overflow_and_exhaustion_die(void **state)
{
    char output[DIES_OUTPUT_SIZE];
    size_t size = 3;

    (void)state;
    assert_true(dies(ask_overflow, &size, output));
    size = SIZE_MAX / 4;
    assert_true(dies(ask_too_much, &size, output));
}

static void test_copy_ends_with_a_nul(void **state)
{
    char *copy = mem_copy((struct span){"abcdef", 3});
    char *empty = mem_copy(SPAN(""));

    (void)state;
    assert_string_equal(copy, "abc");
    assert_string_equal(empty, "");
    assert_null(mem_copy((struct span){NULL, 0}));
    mem_free(copy);
    mem_free(empty);
}

static void test_format(void **state)
{
    char *text = mem_format("%s-%d", "weft", 17);

    (void)state;
    assert_string_equal(text, "weft-17");
    mem_free(text);
}

/* Nothing that is in use changes. */
static void test_a_trim_leaves_what_is_used(void **state)
{
    unsigned char *pieces[2000];

    (void)state;
    for (int i = 0; i < 2000; i++)
        pieces[i] = memset(mem_alloc(3000), i % 251, 3000);
    for (int i = 0; i < 2000; i++)
        if (i % 10 != 0)
            mem_free(pieces[i]);
    mem_trim();
    for (int i = 0; i < 2000; i += 10) {
        for (int at = 0; at < 3000; at++)
            assert_int_equal(pieces[i][at], i % 251);
        mem_free(pieces[i]);
    }
    mem_trim();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_zeroed),
        cmocka_unit_test(test_nothing_is_something),
        cmocka_unit_test(test_overflow_and_exhaustion_die),
        cmocka_unit_test(test_copy_ends_with_a_nul),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_a_trim_leaves_what_is_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
