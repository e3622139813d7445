/* Goal: plugins/bench, with the test kit: each workload answers what it should, and only once
 * whatever goes wrong. Its rows are taken at random: their numbers are not looked at. */
#include "lib/test.h"
#include "weft_test.h"
#include <string.h>

enum { FEW = 3 };

/* Each of `count` rows that are asked for. */
static void write_rows(weft_test *t, uint32_t count)
{
    weft_test_step *step = weft_test_query(t, "world", WEFT_TEST_ANY_ARGS);

    weft_test_columns(step, "id int, randomnumber int");
    weft_test_row(step, "5", "7");
    weft_test_times(step, count);
}

static void write_quote(weft_test *t)
{
    weft_test_answer(weft_test_call(t, "quotes", "GET", "/quote"), 200, "application/json",
                     "{\"text\":\"x\"}");
}

static void play(weft_test *t, void *data)
{
    weft_test_step *step;

    (void)data;
    weft_test_is(weft_test_get(t, "/plaintext"), 200, "Hello, World!");
    weft_test_is(weft_test_get(t, "/json"), 200, "{\"message\":\"Hello, World!\"}");
    weft_test_is(weft_test_get(t, "/work?us=10"), 200, "done");
    weft_test_query(t, "sleeping", WEFT_TEST_ANY_ARGS);
    weft_test_is(weft_test_get(t, "/wait?ms=5"), 200, "done");
    write_rows(t, 1);
    weft_test_is(weft_test_get(t, "/db"), 200, "{\"id\":5,\"randomNumber\":7}");
    write_rows(t, FEW);
    weft_test_is(weft_test_get(t, "/queries?n=3"), 200,
                 "[{\"id\":5,\"randomNumber\":7},{\"id\":5,\"randomNumber\":7},"
                 "{\"id\":5,\"randomNumber\":7}]");
    write_rows(t, FEW);
    weft_test_query(t, "update", WEFT_TEST_ANY_ARGS);
    weft_test_is(weft_test_get(t, "/updates?n=3"), 200, NULL);
    write_quote(t);
    weft_test_is(weft_test_get(t, "/api"), 200, "{\"text\":\"x\"}");
    write_quote(t);
    step = weft_test_query(t, "upsert", WEFT_TEST_ANY_ARGS);
    weft_test_columns(step, "hits int");
    weft_test_row(step, "9");
    weft_test_is(weft_test_get(t, "/api-db"), 200, NULL);
    write_rows(t, 1);
    write_quote(t);
    weft_test_is(weft_test_get(t, "/db-api"), 200,
                 "{\"world\":{\"id\":5,\"randomNumber\":7},\"quote\":{\"text\":\"x\"}}");
}

static void each_workload(void **state)
{
    weft_test *t = weft_test_start(NULL);

    (void)state;
    assert_true(weft_test_sweep(t, play, NULL) > 50);
    assert_int_equal(weft_test_end(t), 0);
}

static void fortunes_are_sorted_and_escaped(void **state)
{
    weft_test *t = weft_test_start(NULL);
    weft_test_step *step = weft_test_query(t, "fortunes", WEFT_NO_ARGS);
    const char *page;

    (void)state;
    weft_test_columns(step, "id int, message text");
    weft_test_row(step, "1", "Zebras");
    weft_test_row(step, "2", "<b>");
    page = weft_test_body(weft_test_get(t, "/fortunes")).ptr;
    assert_non_null(
        strstr(page, "<tr><td>2</td><td>&lt;b&gt;</td></tr><tr><td>0</td><td>Additional"));
    assert_non_null(strstr(page, "<tr><td>1</td><td>Zebras</td></tr></table>"));
    assert_int_equal(weft_test_end(t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_workload),
        cmocka_unit_test(fortunes_are_sorted_and_escaped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
