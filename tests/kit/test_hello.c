/* Goal: plugins/hello, with the test kit. */
#include "lib/test.h"
#include "weft_test.h"

static void greets_and_echoes(void **state)
{
    weft_test *t = weft_test_start("");
    weft_test_request *request;

    (void)state;
    weft_test_is(weft_test_get(t, "/hello"), 200, "Hello, World!\n");
    request = weft_test_ask(t, "POST", "/echo", "Content-Type: text/x", "a body");
    weft_test_is(request, 200, "a body");
    assert_string_equal(weft_test_field(request, "Content-Type"), "text/x");
    weft_test_is(weft_test_ask(t, "POST", "/echo", NULL, NULL), 200, "");
    assert_int_equal(weft_test_end(t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(greets_and_echoes)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
