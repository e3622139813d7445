/* Goal: links go in and out of a list in order, one that is in none may be removed, and a list may
 * lose links while it is walked. */
#include "base/list.h"
#include "lib/dies.h"
#include "lib/test.h"

struct item {
    int number;
    struct list link;
};

#define ITEM(n)       \
    {                 \
        .number = (n) \
    }

static void expect(const struct list *list, const char *numbers)
{
    LIST_EACH (list, link) {
        assert_int_equal(CONTAINER_OF(link, struct item, link)->number, *numbers - '0');
        numbers++;
    }
    assert_int_equal(*numbers, '\0');
}

static void test_order(void **state)
{
    struct item items[5] = {ITEM(0), ITEM(1), ITEM(2), ITEM(3), ITEM(4)};
    struct list list;

    (void)state;
    list_init(&list);
    assert_true(list_is_empty(&list));
    assert_null(list_first(&list));
    assert_null(list_last(&list));
    list_append(&list, &items[2].link);
    list_append(&list, &items[3].link);
    list_prepend(&list, &items[1].link);
    expect(&list, "123");
    assert_ptr_equal(list_first(&list), &items[1].link);
    assert_ptr_equal(list_last(&list), &items[3].link);
    list_remove(&items[2].link);
    list_remove(&items[2].link);
    list_remove(&items[4].link);
    expect(&list, "13");
}

static void test_removal_in_a_walk(void **state)
{
    struct item items[5] = {ITEM(0), ITEM(1), ITEM(2), ITEM(3), ITEM(4)};
    struct list list;

    (void)state;
    list_init(&list);
    for (int i = 0; i < 5; i++)
        list_append(&list, &items[i].link);
    LIST_EACH (&list, link) {
        if (CONTAINER_OF(link, struct item, link)->number % 2 == 0)
            list_remove(link);
    }
    expect(&list, "13");
}

static void test_move_all(void **state)
{
    struct item items[4] = {ITEM(0), ITEM(1), ITEM(2), ITEM(3)};
    struct list from;
    struct list to;

    (void)state;
    list_init(&from);
    list_init(&to);
    list_move_all(&to, &from);
    expect(&to, "");
    list_append(&from, &items[2].link);
    list_append(&from, &items[3].link);
    list_move_all(&to, &from);
    expect(&to, "23");
    expect(&from, "");
    list_append(&from, &items[0].link);
    list_move_all(&to, &from);
    expect(&to, "230");
}

static void append_twice(void *arg)
{
    static struct item item;

    list_append(arg, &item.link);
    list_append(arg, &item.link);
}

static void test_to_append_twice_dies(void **state)
{
    char output[DIES_OUTPUT_SIZE];
    struct list list;
    struct item other = ITEM(0);

    (void)state;
    list_init(&list);
    list_append(&list, &other.link);
    assert_true(dies(append_twice, &list, output));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_removal_in_a_walk),
        cmocka_unit_test(test_move_all),
        cmocka_unit_test(test_to_append_twice_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
