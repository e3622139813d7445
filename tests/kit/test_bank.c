/* Goal: plugins/bank, with the test kit: its transaction, run again where it lost, its rows as a
 * stream, COPY out and in, and what it tells those who follow; each with what can go wrong. */
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

/* What a transfer runs, with a refusal of its first statement, or none; `commit` is what goes wrong
 * with its COMMIT. */
static void write_transfer_to(weft_test *t, const char *sqlstate, uint32_t commit)
{
    weft_test_step *moved, *added;

    weft_test_query(t, "begin", WEFT_NO_ARGS);
    moved = a_statement(t, "move_money");
    if (sqlstate != NULL) { /* the second one is not run any more */
        weft_test_refuse(moved, sqlstate, "no");
        weft_test_query(t, "rollback", WEFT_NO_ARGS);
        return;
    }
    weft_test_affected(moved, 2);
    added = a_statement(t, "add_transfer");
    weft_test_columns(added, "row_to_json json, pg_notify");
    weft_test_row(added, "{\"id\":7}", "");
    weft_test_fault(weft_test_query(t, "commit", WEFT_NO_ARGS), commit);
}

static void write_transfer(weft_test *t, const char *sqlstate)
{
    write_transfer_to(t, sqlstate, WEFT_TEST_FINE);
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

/* Ten runs in all, and nine waits between them, of 10 ms at most after the first failure and of 640
 * after each of the last three: so several such requests wait for far longer than if no wait grew,
 * and none for longer than all waits together may be. */
static void is_given_up_after_ten_runs(void **state)
{
    enum { RUNS = 10, REQUESTS = 5, WAITS_MS = 10 + 20 + 40 + 80 + 160 + 320 + 3 * 640 };
    weft_test *t = start();
    uint64_t began_ms, waited_ms = 0;
    weft_test_request *request;

    (void)state;
    for (int i = 0; i < REQUESTS; i++) {
        for (int run = 0; run < RUNS; run++)
            write_transfer(t, "40001");
        began_ms = weft_test_now_ms(t);
        request = transfer(t);
        weft_test_is(request, 503, NULL);
        assert_non_null(weft_test_field(request, "Retry-After"));
        assert_in_range(weft_test_now_ms(t) - began_ms, RUNS - 1, WAITS_MS + RUNS);
        waited_ms += weft_test_now_ms(t) - began_ms;
    }
    assert_true(waited_ms > REQUESTS * (RUNS - 1) * 10);
    assert_int_equal(weft_test_end(t), 0);
}

static void is_well_in_its_tenth_run(void **state)
{
    weft_test *t = start();

    (void)state;
    for (int run = 1; run < 10; run++)
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

/* Whatever else the database would say to it: the money would be gone, or come from nowhere. */
static void is_not_within_one_account(void **state)
{
    weft_test *t = start();
    weft_test_step *added;
    weft_test_request *request;

    (void)state;
    weft_test_query(t, "begin", WEFT_NO_ARGS);
    weft_test_affected(a_statement(t, "move_money"), 1);
    added = a_statement(t, "add_transfer");
    weft_test_columns(added, "row_to_json json, pg_notify");
    weft_test_row(added, "{\"id\":7}", "");
    weft_test_query(t, "rollback", WEFT_NO_ARGS);
    request = transfer(t);
    weft_test_is(request, 409, NULL);
    assert_non_null(strstr(weft_test_body(request).ptr, "from and to are two accounts"));
    assert_int_equal(weft_test_end(t), 0);
}

/* Who would do it again would pay twice: nothing tells him to. */
static void assert_maybe(weft_test_request *request)
{
    weft_test_is(request, 500, NULL);
    assert_null(weft_test_field(request, "Retry-After"));
    assert_non_null(strstr(weft_test_body(request).ptr, "it may have been done"));
}

static void whose_commit_is_lost_may_have_been_done(void **state)
{
    weft_test *t = start();
    weft_test_request *request;

    (void)state;
    write_transfer_to(t, NULL, WEFT_TEST_LOST);
    assert_maybe(transfer(t));
    weft_test_fault(weft_test_query(t, "begin", WEFT_NO_ARGS), WEFT_TEST_LOST);
    request = transfer(t); /* has not */
    weft_test_is(request, 503, NULL);
    assert_non_null(weft_test_field(request, "Retry-After"));
    assert_int_equal(weft_test_end(t), 0);
}

/* COPY */

#define EXPORT                                                                          \
    "copy (select id, at, source, target, amount from transfers order by id) to stdout" \
    " (format csv, header)"

static weft_test_step *an_export(weft_test *t)
{
    weft_test_step *step = weft_test_query(t, EXPORT, WEFT_NO_ARGS);

    weft_test_copy_out(step, weft_cstr("id,at,source,target,amount\n"));
    weft_test_copy_out(step, weft_cstr("1,now,1,2,30\n"));
    return step;
}

static void an_export_comes_as_it_is(void **state)
{
    weft_test *t = start();
    weft_test_request *request;

    (void)state;
    (void)an_export(t);
    request = weft_test_get(t, "/bank/transfers.csv");
    weft_test_is(request, 200, "id,at,source,target,amount\n1,now,1,2,30\n");
    assert_string_equal(weft_test_field(request, "Content-Type"), "text/csv; charset=utf-8");
    weft_test_query(t, EXPORT, WEFT_NO_ARGS);
    weft_test_is(weft_test_get(t, "/bank/transfers.csv"), 200, "");
    assert_int_equal(weft_test_end(t), 0);
}

/* What has been sent cannot be taken back: the answer is broken off where all can see it. */
static void an_export_that_fails(void **state)
{
    static const struct {
        uint32_t fault, code;
    } faults[] = {{WEFT_TEST_BUSY, 503}, {WEFT_TEST_DOWN, 503}, {WEFT_TEST_NEVER, 504}};
    weft_test *t = start();
    weft_test_request *request;
    weft_test_step *step;

    (void)state;
    weft_test_refuse(an_export(t), "57P01", "no");
    request = weft_test_get(t, "/bank/transfers.csv");
    assert_false(weft_test_is_complete(request));
    step = an_export(t);
    weft_test_fault(step, WEFT_TEST_LOST);
    weft_test_after(step, 5);
    request = weft_test_get(t, "/bank/transfers.csv");
    assert_int_equal(weft_test_code(request), 200);
    assert_false(weft_test_is_complete(request));
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        weft_test_fault(an_export(t), faults[i].fault);
        weft_test_is(weft_test_get(t, "/bank/transfers.csv"), faults[i].code, NULL);
    }
    (void)an_export(t); /* and all is well again */
    weft_test_is(weft_test_get(t, "/bank/transfers.csv"), 200, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

/* The steps of an import of `csv`, and the step of its COPY. */
static weft_test_step *an_import(weft_test *t, const char *csv)
{
    weft_test_step *copy;

    weft_test_query(t, "begin", WEFT_NO_ARGS);
    weft_test_query(t,
                    "create temporary table incoming (source int, target int, amount bigint) on "
                    "commit drop",
                    WEFT_NO_ARGS);
    copy = weft_test_query(t, "copy incoming from stdin (format csv)", WEFT_NO_ARGS);
    weft_test_copy_in(copy, weft_cstr(csv));
    return copy;
}

static void end_import_with(weft_test *t, uint32_t commit)
{
    weft_test_query(t,
                    "update accounts set balance = balance + change from (select id, sum(amount) "
                    "as change from  (select source as id, -amount as amount from incoming   union "
                    "all select target, amount from incoming) as each group by id) as changes "
                    "where accounts.id = changes.id",
                    WEFT_NO_ARGS);
    weft_test_affected(weft_test_query(t,
                                       "insert into transfers (source, target, amount) select "
                                       "source, target, amount from incoming",
                                       WEFT_NO_ARGS),
                       2);
    weft_test_query(t, "select pg_notify('transfers', '')", WEFT_NO_ARGS);
    weft_test_fault(weft_test_query(t, "commit", WEFT_NO_ARGS), commit);
}

static void end_import(weft_test *t)
{
    end_import_with(t, WEFT_TEST_FINE);
}

static weft_test_request *import(weft_test *t, const char *csv)
{
    return weft_test_ask(t, "POST", "/bank/transfers.csv", NULL, csv);
}

static void an_import_is_written_as_it_came(void **state)
{
    weft_test *t = start();

    (void)state;
    (void)an_import(t, "1,2,30\n2,1,5\n");
    end_import(t);
    weft_test_is(import(t, "1,2,30\n2,1,5\n"), 201, "{\"transfers\":2}");
    assert_int_equal(weft_test_end(t), 0);
}

static void an_import_that_fails(void **state)
{
    weft_test *t = start();

    (void)state;
    weft_test_refuse(an_import(t, "1,x\n"), "22P02", "invalid input syntax");
    weft_test_query(t, "rollback", WEFT_NO_ARGS);
    weft_test_is(import(t, "1,x\n"), 400, NULL);
    weft_test_fault(an_import(t, "1,2,30\n"), WEFT_TEST_LOST);
    weft_test_times(weft_test_query(t, "rollback", WEFT_NO_ARGS), 0); /* on no session any more */
    weft_test_is(import(t, "1,2,30\n"), 503, NULL);
    (void)an_import(t, "1,2,30\n"); /* and all is well again */
    end_import(t);
    weft_test_is(import(t, "1,2,30\n"), 201, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

static void an_import_whose_commit_is_lost(void **state)
{
    weft_test *t = start();

    (void)state;
    (void)an_import(t, "1,2,30\n");
    end_import_with(t, WEFT_TEST_LOST);
    assert_maybe(import(t, "1,2,30\n"));
    assert_int_equal(weft_test_end(t), 0);
}

static void on_failure(void *data, const char *text)
{
    assert_non_null(strstr(text, "was written \"1,2,30"));
    ++*(int *)data;
}

static void other_bytes_are_a_failure(void **state)
{
    weft_test *t = start();
    int failures = 0;

    (void)state;
    weft_test_on_failure(t, on_failure, &failures);
    (void)an_import(t, "1,2,31\n");
    end_import(t);
    (void)import(t, "1,2,30\n");
    assert_int_equal(failures, 1);
    assert_int_equal(weft_test_end(t), 1);
}

static void a_client_that_leaves_an_import(void **state)
{
    weft_test *t = start();
    weft_test_request *request;

    (void)state;
    weft_test_after(an_import(t, "1,2,30\n"), 50);
    weft_test_query(t, "rollback", WEFT_NO_ARGS);
    request = weft_test_send(t, "POST", "/bank/transfers.csv", NULL, weft_cstr("1,2,30\n"));
    weft_test_advance(t, 10);
    weft_test_leave(request);
    weft_test_advance(t, 100);
    assert_int_equal(weft_test_code(request), 0);
    (void)an_import(t, "1,2,30\n"); /* the session is clean */
    end_import(t);
    weft_test_is(import(t, "1,2,30\n"), 201, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

/* LISTEN */

static void who_follows_is_told(void **state)
{
    weft_test *t = start();
    weft_test_request *request = weft_test_send(t, "GET", "/bank/events", NULL, weft_cstr(""));

    (void)state;
    weft_test_advance(t, 1);
    assert_non_null(strstr(weft_test_body(request).ptr, "event: anew"));
    assert_null(strstr(weft_test_body(request).ptr, "{\"id\":7}"));
    weft_test_notify(t, "main", "transfers", "{\"id\":7}");
    assert_non_null(strstr(weft_test_body(request).ptr, "event: transfer\ndata: {\"id\":7}"));
    weft_test_leave(request);
    assert_int_equal(weft_test_end(t), 0);
}

static uint32_t count_of(const char *text, const char *word)
{
    uint32_t count = 0;

    while ((text = strstr(text, word)) != NULL) {
        text += strlen(word);
        count++;
    }
    return count;
}

static void who_follows_hears_that_something_was_missed(void **state)
{
    weft_test *t = start();
    weft_test_request *request = weft_test_send(t, "GET", "/bank/events", NULL, weft_cstr(""));

    (void)state;
    weft_test_advance(t, 1);
    weft_test_disconnect(t, "main");
    assert_int_equal(count_of(weft_test_body(request).ptr, "event: anew"), 1);
    weft_test_advance(t, 20000);
    assert_int_equal(count_of(weft_test_body(request).ptr, "event: anew"), 2);
    weft_test_notify(t, "main", "transfers", NULL);
    assert_int_equal(count_of(weft_test_body(request).ptr, "event: anew"), 3);
    weft_test_leave(request);
    assert_int_equal(weft_test_end(t), 0);
}

static void on_nobody(void *data, const char *text)
{
    assert_non_null(strstr(text, "nobody listens to transfers on main"));
    ++*(int *)data;
}

static void nobody_listens(void **state)
{
    weft_test *t = start();
    int failures = 0;

    (void)state;
    weft_test_on_failure(t, on_nobody, &failures);
    weft_test_notify(t, "main", "transfers", NULL);
    assert_int_equal(failures, 1);
    assert_int_equal(weft_test_end(t), 1);
}

static void play(weft_test *t, void *data)
{
    weft_test_step *rows = weft_test_query(t, "all_transfers", WEFT_NO_ARGS);

    (void)data;
    weft_test_columns(rows, "id int, at timestamptz, source int, target int, amount bigint");
    weft_test_row(rows, "1", "2026-01-01 00:00:00+00", "1", "2", "30");
    (void)weft_test_get(t, "/bank/transfers");
    write_transfer(t, "40001"); /* what comes between two runs, too */
    write_transfer(t, NULL);
    (void)transfer(t);
    (void)an_export(t);
    (void)weft_test_get(t, "/bank/transfers.csv");
    (void)an_import(t, "1,2,30\n");
    end_import(t);
    (void)import(t, "1,2,30\n");
}

static void whatever_goes_wrong(void **state)
{
    weft_test *t = start();

    (void)state;
    assert_true(weft_test_sweep(t, play, NULL) > 60);
    assert_int_equal(weft_test_end(t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accounts),
        cmocka_unit_test(a_transfer),
        cmocka_unit_test(is_run_again_where_it_lost),
        cmocka_unit_test(is_given_up_after_ten_runs),
        cmocka_unit_test(is_well_in_its_tenth_run),
        cmocka_unit_test(is_not_where_it_may_not_be),
        cmocka_unit_test(is_not_within_one_account),
        cmocka_unit_test(whose_commit_is_lost_may_have_been_done),
        cmocka_unit_test(an_export_comes_as_it_is),
        cmocka_unit_test(an_export_that_fails),
        cmocka_unit_test(an_import_is_written_as_it_came),
        cmocka_unit_test(an_import_that_fails),
        cmocka_unit_test(an_import_whose_commit_is_lost),
        cmocka_unit_test(other_bytes_are_a_failure),
        cmocka_unit_test(a_client_that_leaves_an_import),
        cmocka_unit_test(who_follows_is_told),
        cmocka_unit_test(who_follows_hears_that_something_was_missed),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(whatever_goes_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
