/* Goal: a handle finds its object while that lives, and never anything else: not after its end, not
 * when the slot is used again, not with another kind, not for random numbers.
 *
 * slots.c is included, so that a slot can be put at the end of its generations. */
#include "base/slots.c"
#include "lib/dies.h"
#include "lib/random.h"
#include "lib/test.h"

static void test_a_handle_finds_its_object(void **state)
{
    struct slots *slots = slots_create(5);
    int object = 0;
    uint64_t handle = slots_add(slots, &object);

    (void)state;
    assert_int_equal(handle >> 56, 5);
    assert_ptr_equal(slots_get(slots, handle), &object);
    assert_int_equal(slots_count(slots), 1);
    slots_remove(slots, handle);
    assert_null(slots_get(slots, handle));
    assert_int_equal(slots_count(slots), 0);
    slots_destroy(slots);
    slots_destroy(NULL);
}

static void test_a_slot_used_again_has_another_handle(void **state)
{
    struct slots *slots = slots_create(1);
    int a = 0;
    int b = 0;
    uint64_t first = slots_add(slots, &a);
    uint64_t second;

    (void)state;
    slots_remove(slots, first);
    second = slots_add(slots, &b);
    assert_int_equal(first & 0xffffff, second & 0xffffff);
    assert_true(first != second);
    assert_null(slots_get(slots, first));
    assert_ptr_equal(slots_get(slots, second), &b);
    slots_destroy(slots);
}

static void test_other_numbers_find_nothing(void **state)
{
    struct slots *slots = slots_create(1);
    uint64_t random = 99;
    int object = 0;
    uint64_t handle;

    (void)state;
    assert_null(slots_get(slots, 0));
    handle = slots_add(slots, &object);
    assert_null(slots_get(slots, 0));
    assert_null(slots_get(slots, handle ^ (uint64_t)3 << 56));
    assert_null(slots_get(slots, handle + 1));
    assert_null(slots_get(slots, handle + (1 << 24)));
    assert_null(slots_get(slots, UINT64_MAX));
    for (int i = 0; i < 100000; i++)
        assert_null(slots_get(slots, random_next(&random) | 2));
    slots_destroy(slots);
}

static void test_a_slot_ends_with_its_generations(void **state)
{
    struct slots *slots = slots_create(1);
    int object = 0;
    uint64_t handle;

    (void)state;
    slots_remove(slots, slots_add(slots, &object));
    slot_at(slots, 0)->generation = UINT32_MAX;
    handle = slots_add(slots, &object);
    assert_int_equal(handle & 0xffffff, 0);
    assert_ptr_equal(slots_get(slots, handle), &object);
    slots_remove(slots, handle);
    assert_null(slots_get(slots, handle));
    handle = slots_add(slots, &object);
    assert_int_equal(handle & 0xffffff, 1);
    slots_destroy(slots);
}

enum { LIVING_MAX = 3000 };

static void test_random_lives(void **state)
{
    static struct {
        uint64_t handle;
        int object;
    } living[LIVING_MAX];
    struct slots *slots = slots_create(127);
    static uint64_t dead[4096];
    uint64_t random = 4711;
    uint32_t deaths = 0;
    uint32_t count = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        uint32_t at = random_below(&random, LIVING_MAX);

        if (living[at].handle == 0) {
            living[at].handle = slots_add(slots, &living[at].object);
            count++;
        } else {
            assert_ptr_equal(slots_get(slots, living[at].handle), &living[at].object);
            slots_remove(slots, living[at].handle);
            dead[deaths++ % 4096] = living[at].handle;
            living[at].handle = 0;
            count--;
        }
        assert_null(slots_get(slots, dead[random_below(&random, 4096)]));
        assert_int_equal(slots_count(slots), count);
    }
    for (uint32_t i = 0; i < LIVING_MAX; i++) {
        if (living[i].handle != 0)
            assert_ptr_equal(slots_get(slots, living[i].handle), &living[i].object);
    }
    assert_true(slots->made <= LIVING_MAX);
    slots_destroy(slots);
}

static void remove_twice(void *arg)
{
    struct slots *slots = slots_create(1);
    uint64_t handle = slots_add(slots, arg);

    slots_remove(slots, handle);
    slots_remove(slots, handle);
}

static void test_to_remove_twice_dies(void **state)
{
    char output[DIES_OUTPUT_SIZE];
    int object = 0;

    (void)state;
    assert_true(dies(remove_twice, &object, output));
    assert_non_null(strstr(output, "slots.c"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_handle_finds_its_object),
        cmocka_unit_test(test_a_slot_used_again_has_another_handle),
        cmocka_unit_test(test_other_numbers_find_nothing),
        cmocka_unit_test(test_a_slot_ends_with_its_generations),
        cmocka_unit_test(test_random_lives),
        cmocka_unit_test(test_to_remove_twice_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
