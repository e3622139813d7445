/* Goal: of several addresses the one with less to do is chosen; one that was tried, is full or is
 *       gone is not; and a set that changes keeps what it still has. */
#include "lib/test.h"
#include "upstream/target.h"

#include <stdio.h>
#include <string.h>

enum { COUNT = 5 };

/* A set of 10.0.0.1 to 10.0.0.COUNT. */
struct place {
    struct names names;
    struct targets targets;
    uint32_t gone;
};

static void on_gone(struct target *target, void *data)
{
    ((struct place *)data)->gone++;
    targets_forget(target);
}

static void fill(struct place *place, uint32_t first, uint32_t count)
{
    struct upstream_place places[COUNT];
    char texts[COUNT][16];

    for (uint32_t i = 0; i < count; i++) {
        snprintf(texts[i], sizeof texts[i], "10.0.0.%u", first + i);
        places[i] = (struct upstream_place){span_of(texts[i]), 80};
    }
    names_deinit(&place->names);
    names_init(&place->names, NULL, NULL, places, count);
    targets_update(&place->targets, &place->names, on_gone, place);
}

static int set_up(void **state)
{
    static struct place place;

    place = (struct place){0};
    targets_init(&place.targets, 4711);
    fill(&place, 1, COUNT);
    *state = &place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;

    for (uint32_t i = 0; i < place->targets.count; i++)
        place->targets.at[i]->places = 0;
    targets_deinit(&place->targets);
    targets_deinit(&place->targets);
    names_deinit(&place->names);
    return 0;
}

/* Calls that last for ever: none has two more than another. */
static void test_spread(void **state)
{
    struct place *place = *state;
    const struct target_wish wish = {.may_open = true};

    for (int i = 0; i < 1000; i++)
        targets_pick(&place->targets, &wish)->places++;
    for (int i = 0; i < COUNT; i++)
        assert_in_range(place->targets.at[i]->places, 1000 / COUNT - 4, 1000 / COUNT + 4);
}

/* One that is slow has more under way, and gets fewer. */
static void test_slow_one(void **state)
{
    struct place *place = *state;
    const struct target_wish wish = {.may_open = true};
    int count = 0;

    place->targets.at[3]->places = 10;
    for (int i = 0; i < 1000; i++)
        count += targets_pick(&place->targets, &wish) == place->targets.at[3];
    assert_int_equal(count, 0);
}

static void test_avoided(void **state)
{
    struct place *place = *state;
    uint32_t ids[COUNT];
    struct target_wish wish = {.may_open = true, .avoid = ids, .avoid_count = COUNT - 1};

    for (int i = 0; i < COUNT; i++)
        ids[i] = place->targets.at[i]->id;
    for (int i = 0; i < 100; i++)
        assert_ptr_equal(targets_pick(&place->targets, &wish), place->targets.at[COUNT - 1]);
    wish.avoid_count = COUNT;
    assert_non_null(targets_pick(&place->targets, &wish));
    wish.must_avoid = true;
    assert_null(targets_pick(&place->targets, &wish));
}

static void test_room(void **state)
{
    struct place *place = *state;
    struct target_wish wish = {.may_open = true, .places_max = 2};

    for (int i = 0; i < COUNT; i++)
        place->targets.at[i]->places = i == 2 ? 1 : 2;
    for (int i = 0; i < 100; i++)
        assert_ptr_equal(targets_pick(&place->targets, &wish), place->targets.at[2]);
    place->targets.at[2]->places = 2;
    assert_null(targets_pick(&place->targets, &wish));
    place->targets.at[4]->idle_count = 1;
    assert_null(targets_pick(&place->targets, &wish));
    wish.may_be_idle = true;
    wish.may_open = false;
    for (int i = 0; i < 100; i++)
        assert_ptr_equal(targets_pick(&place->targets, &wish), place->targets.at[4]);
    place->targets.at[4]->idle_count = 0;
}

static void test_one_alone(void **state)
{
    struct place *place = *state;
    const struct target_wish wish = {.may_open = true, .places_max = 1};

    fill(place, 3, 1);
    assert_int_equal(place->gone, COUNT - 1);
    assert_string_equal(targets_pick(&place->targets, &wish)->text, "10.0.0.3:80");
    place->targets.at[0]->places = 1;
    assert_null(targets_pick(&place->targets, &wish));
}

static void test_update(void **state)
{
    struct place *place = *state;
    struct target *kept = place->targets.at[4];
    struct target *used = place->targets.at[0];
    uint32_t last_id = place->targets.at[COUNT - 1]->id;

    used->places = 1;
    fill(place, 5, 2);
    assert_int_equal(place->targets.count, 2);
    assert_ptr_equal(place->targets.at[0], kept);
    assert_int_equal(place->targets.at[1]->id, last_id + 1);
    assert_int_equal(place->gone, 4);
    assert_true(used->is_gone);
    targets_forget(used);
    used->places = 0;
    targets_forget(used);
}

static void fill_with(struct place *place, const char *const *texts, uint32_t count)
{
    struct upstream_place places[COUNT];

    for (uint32_t i = 0; i < count; i++)
        places[i] = (struct upstream_place){span_of(texts[i]), texts[i][0] == 'u' ? 0 : 80};
    names_deinit(&place->names);
    names_init(&place->names, NULL, NULL, places, count);
    targets_update(&place->targets, &place->names, on_gone, place);
}

/* A name that changes its mind (DNS rebinding): whatever it says, nothing private is left to
 * choose, in whichever clothes it comes, and what was good goes when the name turns. */
static void test_private_ones_are_left_out(void **state)
{
    static const char *const public[] = {"1.1.1.1", "2606:4700::1111"};
    static const char *const mixed[] = {"169.254.169.254", "1.1.1.1", "::ffff:169.254.169.254",
                                        "0.0.0.0", "fe80::1"};
    static const char *const private[] = {"127.0.0.1", "::1", "::", "64:ff9b::a00:1",
                                          "unix:/run/docker.sock"};
    const struct target_wish wish = {.may_open = true};
    struct place *place = *state;
    struct target *kept;

    place->targets.no_private = true;
    fill_with(place, public, 2);
    assert_int_equal(place->targets.count, 2);
    assert_false(place->targets.has_left_out);
    assert_int_equal(place->gone, COUNT);
    kept = place->targets.at[0];
    fill_with(place, mixed, 5);
    assert_int_equal(place->targets.count, 1);
    assert_ptr_equal(place->targets.at[0], kept);
    assert_true(place->targets.has_left_out);
    fill_with(place, private, 5);
    assert_int_equal(place->targets.count, 0);
    assert_null(targets_pick(&place->targets, &wish));
    assert_int_equal(place->gone, COUNT + 2);
    fill_with(place, public, 2);
    assert_int_equal(place->targets.count, 2);
    assert_false(place->targets.has_left_out);
    place->targets.no_private = false;
    fill_with(place, private, 5);
    assert_int_equal(place->targets.count, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_spread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slow_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_avoided, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_update, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_private_ones_are_left_out, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
