/* Goal: plugins/thirdparty, with the test kit: what books calls, the slow route included. */
#include "lib/test.h"
#include "weft_test.h"

static void answers_in_turn(void **state)
{
    weft_test *t = weft_test_start(NULL);
    weft_test_request *first = weft_test_get(t, "/quote"), *next = weft_test_get(t, "/quote");

    (void)state;
    assert_int_equal(weft_test_code(first), 200);
    assert_string_not_equal(weft_test_body(first).ptr, weft_test_body(next).ptr);
    assert_non_null(strstr(weft_test_body(weft_test_get(t, "/book")).ptr, "\"title\":"));
    assert_int_equal(weft_test_end(t), 0);
}

static void announces(void **state)
{
    weft_test *t = weft_test_start(NULL);

    (void)state;
    weft_test_is(weft_test_post(t, "/announcements", "{\"title\":\"Emma\"}"), 200,
                 "{\"announced\":\"Emma\",\"number\":1}");
    weft_test_is(weft_test_post(t, "/announcements", "{\"title\":1}"), 400, NULL);
    weft_test_is(weft_test_post(t, "/announcements", "{"), 400, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

static void is_slow_where_that_is_wanted(void **state)
{
    weft_test *t = weft_test_start(NULL);

    (void)state;
    weft_test_is(weft_test_get(t, "/slow?ms=60000"), 200, NULL);
    assert_in_range(weft_test_now_ms(t), 60000, 60010);
    weft_test_is(weft_test_get(t, "/slow?ms=60001"), 400, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

static void play(weft_test *t, void *data)
{
    (void)data;
    (void)weft_test_get(t, "/slow?ms=10");
}

static void whatever_goes_wrong(void **state)
{
    weft_test *t = weft_test_start(NULL);

    (void)state;
    assert_int_equal(weft_test_sweep(t, play, NULL), 4);
    assert_int_equal(weft_test_end(t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_in_turn),
        cmocka_unit_test(announces),
        cmocka_unit_test(is_slow_where_that_is_wanted),
        cmocka_unit_test(whatever_goes_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
