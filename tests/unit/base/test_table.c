/* Goal: a table answers like a plain array of pairs would, through growth, removal and keys of any
 * bytes. */
#include "base/table.h"
#include "lib/random.h"
#include "lib/test.h"

#include <stdio.h>

/* The two kinds. */
typedef void init_fn(struct table *table);

static init_fn *const inits[] = {table_init, table_init_trusted};

static void check_set_get_remove(init_fn *init)
{
    struct table table;
    int a = 0;
    int b = 0;

    init(&table);
    assert_null(table_get(&table, SPAN("x")));
    assert_null(table_remove(&table, SPAN("x")));
    assert_null(table_set(&table, SPAN("x"), &a));
    assert_ptr_equal(table_get(&table, SPAN("x")), &a);
    assert_ptr_equal(table_set(&table, SPAN("x"), &b), &a);
    assert_int_equal(table.count, 1);
    assert_ptr_equal(table_get(&table, SPAN("x")), &b);
    assert_null(table_get(&table, SPAN("")));
    assert_null(table_set(&table, SPAN(""), &a));
    assert_ptr_equal(table_get(&table, SPAN("")), &a);
    assert_ptr_equal(table_remove(&table, SPAN("x")), &b);
    assert_null(table_get(&table, SPAN("x")));
    assert_int_equal(table.count, 1);
    table_deinit(&table);
    table_deinit(&table);
    assert_null(table_set(&table, SPAN("y"), &a));
    assert_ptr_equal(table_get(&table, SPAN("y")), &a);
    table_deinit(&table);
    table_deinit(NULL);
}

static void test_set_get_remove(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++)
        check_set_get_remove(inits[i]);
}

static void test_keys_are_bytes(void **state)
{
    const char *bytes = "a\0b\0c\0d\0e\0f\0g\0h\0i\0j";
    struct table table;
    int values[20];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        inits[i](&table);
        for (size_t len = 0; len < 20; len++)
            assert_null(table_set(&table, (struct span){bytes, len}, &values[len]));
        for (size_t len = 0; len < 20; len++)
            assert_ptr_equal(table_get(&table, (struct span){bytes, len}), &values[len]);
        assert_int_equal(table.count, 20);
        table_deinit(&table);
    }
}

static void test_a_walk_meets_each_once(void **state)
{
    struct table table;
    char met[500] = {0};
    struct span key;
    uint32_t at = 0;
    char text[16];
    void *value;

    (void)state;
    table_init(&table);
    assert_false(table_next(&table, &at, &key, &value));
    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof text, "key %d", i);
        assert_null(table_set(&table, span_of(text), &met[i]));
    }
    at = 0;
    while (table_next(&table, &at, &key, &value)) {
        assert_ptr_equal(table_get(&table, key), value);
        assert_int_equal((*(char *)value)++, 0);
    }
    for (int i = 0; i < 500; i++)
        assert_int_equal(met[i], 1);
    at = 0;
    assert_true(table_next(&table, &at, NULL, NULL));
    table_deinit(&table);
}

enum { KEYS = 400 };

/* Against a plain array; few keys, so that runs of neighbours form, break and are moved down. */
static void test_random_steps(void **state)
{
    static char values[KEYS][2];
    uint64_t random = 17;
    char text[64];

    (void)state;
    for (int round = 0; round < 30; round++) {
        void *model[KEYS] = {NULL};
        struct table table;
        uint32_t count = 0;
        uint32_t keys = random_below(&random, KEYS) + 1;

        inits[round % 2](&table);
        for (int i = 0; i < 4000; i++) {
            uint32_t k = random_below(&random, keys);
            struct span key = {text, (size_t)snprintf(text, sizeof text, "%u%.*s", k, (int)(k % 40),
                                                      "........................................")};
            void *value = values[k] + random_below(&random, 2);

            if (random_below(&random, 5) < 3) {
                assert_ptr_equal(table_set(&table, key, value), model[k]);
                count += model[k] == NULL;
                model[k] = value;
            } else {
                assert_ptr_equal(table_remove(&table, key), model[k]);
                count -= model[k] != NULL;
                model[k] = NULL;
            }
            assert_int_equal(table.count, count);
            k = random_below(&random, keys);
            key.len = (size_t)snprintf(text, sizeof text, "%u%.*s", k, (int)(k % 40),
                                       "........................................");
            assert_ptr_equal(table_get(&table, key), model[k]);
        }
        table_deinit(&table);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_get_remove),
        cmocka_unit_test(test_keys_are_bytes),
        cmocka_unit_test(test_a_walk_meets_each_once),
        cmocka_unit_test(test_random_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
