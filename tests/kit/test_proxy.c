/* Goal: plugins/proxy, with the test kit: what it asks of the upstream, what it answers, and that
 * it answers once, whatever goes wrong with either body. */
#include "lib/test.h"
#include "weft_test.h"
#include <stdlib.h>

static weft_test *start(const char *settings)
{
    weft_test *t = weft_test_start(settings);

    assert_null(weft_test_problem(t));
    return t;
}

static void hands_on(void **state)
{
    weft_test *t = start("upstream = behind\nmount = /api\n");
    weft_test_step *call = weft_test_call(t, "behind", "GET", "/api/x?y=1");
    weft_test_request *request;

    (void)state;
    weft_test_answer(call, 418, "text/x", "tea");
    weft_test_answer_field(call, "X-Kept", "yes");
    weft_test_wants_field(call, "X-Forwarded-Proto", "http");
    request = weft_test_get(t, "/api/x?y=1");
    weft_test_is(request, 418, "tea");
    assert_string_equal(weft_test_field(request, "Content-Type"), "text/x");
    assert_string_equal(weft_test_field(request, "X-Kept"), "yes");
    assert_int_equal(weft_test_end(t), 0);
}

static void bodies_of_any_size(void **state)
{
    weft_test *t = start("upstream = behind\nstrip_mount = on\nmount = /api\n");
    char *large = malloc(300001);
    weft_test_step *call = weft_test_call(t, "behind", "PUT", "/up");

    (void)state;
    memset(large, 'l', 300000);
    large[300000] = '\0';
    weft_test_wants_body(call, large);
    weft_test_answer(call, 200, NULL, large);
    weft_test_is(weft_test_ask(t, "PUT", "/api/up", NULL, large), 200, large);
    free(large);
    assert_int_equal(weft_test_end(t), 0);
}

static void what_an_upstream_does(void **state)
{
    static const struct {
        uint32_t fault, code;
    } faults[] = {
        {WEFT_TEST_BUSY, 503},    {WEFT_TEST_DOWN, 502},    {WEFT_TEST_LOST, 502},
        {WEFT_TEST_TIMEOUT, 504}, {WEFT_TEST_GARBAGE, 502},
    };
    weft_test *t = start("upstream = behind\n");

    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        weft_test_fault(weft_test_call(t, "behind", "POST", "/x"), faults[i].fault);
        weft_test_is(weft_test_post(t, "/x", "{}"), faults[i].code, NULL); /* not sent again */
    }
    assert_int_equal(weft_test_end(t), 0);
}

static void play(weft_test *t, void *data)
{
    (void)data;
    weft_test_answer(weft_test_call(t, "behind", "GET", "/x"), 200, NULL, "x");
    (void)weft_test_get(t, "/x");
    weft_test_answer(weft_test_call(t, "behind", "POST", "/y"), 200, NULL, "y");
    (void)weft_test_post(t, "/y", "{}");
}

static void whatever_goes_wrong(void **state)
{
    weft_test *t = start("upstream = behind\n");

    (void)state;
    assert_true(weft_test_sweep(t, play, NULL) > 10);
    assert_int_equal(weft_test_end(t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hands_on),
        cmocka_unit_test(bodies_of_any_size),
        cmocka_unit_test(what_an_upstream_does),
        cmocka_unit_test(whatever_goes_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
