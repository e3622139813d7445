/* Goal: plugins/bank, with the test kit: its transaction, run again where it lost, and its rows as
 * a stream. COPY and LISTEN are not the kit's: tests/system has them. */
#include "lib/test.h"
#include "weft_test.h"

#define FORM "Content-Type: application/x-www-form-urlencoded"

static weft_test *start(void)
{
    weft_test *t = weft_test_start(NULL);

    assert_null(weft_test_problem(t));
    return t;
}

static weft_test_request *transfer(weft_test *t)
{
    return weft_test_ask(t, "POST", "/bank/transfers", FORM, "from=1&to=2&amount=30");
}

static weft_test_step *a_statement(weft_test *t, const char *name)
{
    return weft_test_query(t, name,
                           WEFT_ARGS(weft_text(weft_cstr("1")), weft_text(weft_cstr("2")),
                                     weft_text(weft_cstr("30"))));
}

/* What a transfer runs, with a refusal of its first statement, or none. */
static void write_transfer(weft_test *t, const char *sqlstate)
{
    weft_test_step *moved, *added;

    weft_test_query(t, "begin", WEFT_NO_ARGS);
    moved = a_statement(t, "move_money");
    if (sqlstate != NULL) { /* the second one is not run any more */
        weft_test_refuse(moved, sqlstate, "no");
        weft_test_query(t, "rollback", WEFT_NO_ARGS);
        return;
    }
    added = a_statement(t, "add_transfer");
    weft_test_columns(added, "row_to_json json, pg_notify");
    weft_test_row(added, "{\"id\":7}", "");
    weft_test_query(t, "commit", WEFT_NO_ARGS);
}

static void accounts(void **state)
{
    weft_test *t = start();
    weft_test_step *found = weft_test_query(t, "all_accounts", WEFT_NO_ARGS);

    (void)state;
    weft_test_columns(found, "id int, owner, balance bigint");
    weft_test_row(found, "1", "Ann", "100");
    weft_test_is(weft_test_get(t, "/bank/accounts"), 200,
                 "[{\"id\":1,\"owner\":\"Ann\",\"balance\":100}]");
    assert_int_equal(weft_test_end(t), 0);
}

static void a_transfer(void **state)
{
    weft_test *t = start();

    (void)state;
    write_transfer(t, NULL);
    weft_test_is(transfer(t), 201, "{\"id\":7}");
    weft_test_is(weft_test_ask(t, "POST", "/bank/transfers", FORM, "from=1"), 400, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

static void is_run_again_where_it_lost(void **state)
{
    weft_test *t = start();

    (void)state;
    write_transfer(t, "40001");
    write_transfer(t, "40P01");
    write_transfer(t, NULL);
    weft_test_is(transfer(t), 201, "{\"id\":7}");
    assert_int_equal(weft_test_end(t), 0);
}

static void is_not_where_it_may_not_be(void **state)
{
    weft_test *t = start();

    (void)state;
    write_transfer(t, "23514");
    weft_test_is(transfer(t), 409, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

static void play(weft_test *t, void *data)
{
    weft_test_step *rows = weft_test_query(t, "all_transfers", WEFT_NO_ARGS);

    (void)data;
    weft_test_columns(rows, "id int, at timestamptz, source int, target int, amount bigint");
    weft_test_row(rows, "1", "2026-01-01 00:00:00+00", "1", "2", "30");
    (void)weft_test_get(t, "/bank/transfers");
    write_transfer(t, NULL);
    (void)transfer(t);
}

static void whatever_goes_wrong(void **state)
{
    weft_test *t = start();

    (void)state;
    assert_true(weft_test_sweep(t, play, NULL) > 20);
    assert_int_equal(weft_test_end(t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accounts),
        cmocka_unit_test(a_transfer),
        cmocka_unit_test(is_run_again_where_it_lost),
        cmocka_unit_test(is_not_where_it_may_not_be),
        cmocka_unit_test(whatever_goes_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
