/* small/cmocka.h - as much of cmocka as tests/unit/task/test_fiber.c wants, without its library:
 * for machines that only a cross compiler knows. A failure ends the program.
 *
 * Loop:   none.
 * Memory: nothing is kept.
 */
#ifndef WEFT_TESTS_SMALL_CMOCKA_H
#define WEFT_TESTS_SMALL_CMOCKA_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*fn)(void **state);
};

#define SMALL_ASSERT(is_so)                                                     \
    do {                                                                        \
        if (!(is_so)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #is_so); \
            abort();                                                            \
        }                                                                       \
    } while (0)

#define assert_true(is_so)         SMALL_ASSERT(is_so)
#define assert_false(is_so)        SMALL_ASSERT(!(is_so))
#define assert_null(at)            SMALL_ASSERT((at) == NULL)
#define assert_non_null(at)        SMALL_ASSERT((at) != NULL)
#define assert_ptr_equal(a, b)     SMALL_ASSERT((const void *)(a) == (const void *)(b))
#define assert_ptr_not_equal(a, b) SMALL_ASSERT((const void *)(a) != (const void *)(b))
#define assert_int_equal(a, b)     SMALL_ASSERT((uintmax_t)(a) == (uintmax_t)(b))
#define assert_int_not_equal(a, b) SMALL_ASSERT((uintmax_t)(a) != (uintmax_t)(b))
#define assert_in_range(a, low, high)                                \
    do {                                                             \
        uintmax_t small_value = (uintmax_t)(a);                      \
        SMALL_ASSERT(small_value >= (low) && small_value <= (high)); \
    } while (0)
#define assert_string_equal(a, b)       SMALL_ASSERT(strcmp((a), (b)) == 0)
#define assert_memory_equal(a, b, size) SMALL_ASSERT(memcmp((a), (b), (size)) == 0)

#define cmocka_unit_test(fn) \
    {                        \
#fn, fn              \
    }

#define cmocka_run_group_tests(tests, set_up, tear_down) \
    small_run((tests), sizeof(tests) / sizeof((tests)[0]))

/* Runs them in their order and says which; 0. */
static inline int small_run(const struct CMUnitTest *tests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *state = NULL;

        printf("%s\n", tests[i].name);
        fflush(stdout);
        tests[i].fn(&state);
    }
    printf("%zu passed\n", count);
    return 0;
}

#endif
