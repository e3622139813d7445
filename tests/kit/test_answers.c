/* Goal: what a plugin is told in a test is what a server would tell it: answers, each fault, times,
 * transactions, streams, clients that leave, threads and jobs; compiled in, and as a shared
 * object. */
#include "lib/test.h"
#include "weft_test.h"
#include <stdio.h>
#include <stdlib.h>

/* Time enough for what is slow. */
static const char patient[] = "[http]\nrequest_timeout = 1m\n";

/* A shared object, where the program was built for that. */
static weft_test *begin(const char *settings)
{
#ifdef WEFT_PLUGIN_FILE
    weft_test *t = weft_test_load(WEFT_PLUGIN_FILE, settings);
#else
    weft_test *t = weft_test_start(settings);
#endif

    assert_null(weft_test_problem(t));
    return t;
}

static void end(weft_test *t)
{
    assert_int_equal(weft_test_end(t), 0);
}

static void is_answered(weft_test *t, const char *target, const char *body)
{
    weft_test_request *request = weft_test_get(t, target);

    assert_int_equal(weft_test_code(request), 200);
    assert_string_equal(weft_test_body(request).ptr, body);
}

static weft_test_step *a_get(weft_test *t, const char *id)
{
    return weft_test_query(t, "get", WEFT_ARGS(weft_text(weft_cstr(id))));
}

static void rows(void **state)
{
    weft_test *t = begin(patient);
    weft_test_step *step = a_get(t, "1");

    (void)state;
    weft_test_columns(step, "n bigint, t, f float8, b bool, j jsonb, x numeric");
    weft_test_row(step, "-5", "a \"b\"", "NaN", "t", "{\"a\":[]}", "1.50");
    weft_test_row(step, "6");
    is_answered(
        t, "/get?id=1",
        "[{\"n\":-5,\"t\":\"a \\\"b\\\"\",\"f\":\"NaN\",\"b\":true,\"j\":{\"a\":[]},\"x\":1.50},"
        "{\"n\":6,\"t\":null,\"f\":null,\"b\":null,\"j\":null,\"x\":null}]");
    weft_test_columns(a_get(t, "2"), "n");
    is_answered(t, "/get?id=2", "[]");
    end(t);
}

static void rows_in_binary_form(void **state)
{
    weft_test *t = begin(patient);
    weft_test_step *step = weft_test_query(t, "binary", WEFT_NO_ARGS);

    (void)state;
    weft_test_columns(step, "n bigint, t, f float8, x bytea, j jsonb, p numeric, d date, b bool, u "
                            "uuid, s timestamptz, q numeric");
    weft_test_row(step, "-5", "a", "0.25", "\\x414200", "{\"a\":[]}", "-12345.60", "2024-02-29",
                  "t", "00112233-4455-6677-8899-aabbccddeeff", "1999-12-31 23:59:59.5+00",
                  "0.00001");
    is_answered(
        t, "/binary",
        "-5 a 1 1 AB [{\"n\":-5,\"t\":\"a\",\"f\":0.25,\"x\":\"\\\\x414200\",\"j\":{\"a\":[]},"
        "\"p\":-12345.60,\"d\":\"2024-02-29\",\"b\":true,\"u\":\"00112233-4455-6677-8899-"
        "aabbccddeeff\",\"s\":\"1999-12-31 23:59:59.5+00\",\"q\":0.00001}]");
    step = weft_test_query(t, "binary", WEFT_NO_ARGS);
    weft_test_columns(step, "at time");
    is_answered(t, "/binary",
                "-303 - column at is of a type (1083) that is not read in binary form: cast it "
                "(::text), or ask for text; 1");
    end(t);
}

static weft_test_step *a_put(weft_test *t)
{
    return weft_test_query(t, "put",
                           WEFT_ARGS(weft_int(-1), weft_bool(1), weft_double(0.1), weft_null(),
                                     weft_bytes(weft_cstr("\x01z")),
                                     weft_value_json(weft_cstr("[1]"))));
}

static void affected(void **state)
{
    weft_test *t = begin(patient);

    (void)state;
    weft_test_affected(a_put(t), 3);
    is_answered(t, "/put", "3");
    a_put(t);
    is_answered(t, "/put", "0");
    end(t);
}

static void what_a_database_does(void **state)
{
    static const struct {
        uint32_t fault;
        const char *read, *write;
    } faults[] = {
        {WEFT_TEST_BUSY, "-301 - the pool's queue is full; 0",
         "-301 - the pool's queue is full; 0"},
        {WEFT_TEST_DOWN, "-302 - there is no session with the database; 0",
         "-302 - there is no session with the database; 0"},
        {WEFT_TEST_LOST, "-302 - -; 0", "-302 - -; 1"},
        {WEFT_TEST_TIMEOUT, "-202 57014 canceling statement due to statement timeout; 0",
         "-202 57014 canceling statement due to statement timeout; 0"},
        {WEFT_TEST_TOO_BIG, "-303 - the result is larger than result_max; 0",
         "-303 - the result is larger than result_max; 1"},
    };
    weft_test *t = begin(patient);

    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        weft_test_step *step = a_get(t, "1");

        weft_test_columns(step, "n");
        weft_test_fault(step, faults[i].fault);
        is_answered(t, "/get?id=1", faults[i].read);
        step = a_put(t);
        weft_test_fault(step, faults[i].fault);
        weft_test_after(step, 3);
        is_answered(t, "/put", faults[i].write);
    }
    weft_test_refuse(a_put(t), "23505", "there is one");
    is_answered(t, "/put", "-304 23505 there is one; 0");
    weft_test_times(weft_test_query(t, "wrong", WEFT_NO_ARGS), 0);
    is_answered(t, "/wrong", "-303 25006 cannot execute a write in a read-only transaction; 0");
    a_put(t);
    is_answered(t, "/put", "0");
    end(t);
}

/* Nobody ever answers: the request's time is over, and the server is told to stop. */
static void a_database_that_says_nothing(void **state)
{
    weft_test *t = begin("[http]\nrequest_timeout = 900ms\n");
    uint64_t begun = weft_test_now_ms(t);

    (void)state;
    weft_test_fault(a_put(t), WEFT_TEST_NEVER);
    is_answered(t, "/put", "-202 - -; 1");
    assert_in_range(weft_test_now_ms(t) - begun, 900, 905);
    weft_test_advance(t, 1000);
    assert_non_null(strstr(weft_test_log(t), "runs what nobody waits for: canceled"));
    a_put(t);
    is_answered(t, "/put", "0");
    end(t);
}

static weft_test_step *a_call(weft_test *t)
{
    weft_test_step *step = weft_test_call(t, "partner", "PUT", "/a?b=c");

    weft_test_wants_body(step, "body");
    weft_test_wants_field(step, "x-key", "k");
    return step;
}

static void what_an_upstream_does(void **state)
{
    static const struct {
        uint32_t fault;
        const char *told;
    } faults[] = {
        {WEFT_TEST_BUSY, "-401 "},    {WEFT_TEST_DOWN, "-402 "},    {WEFT_TEST_LOST, "-403 "},
        {WEFT_TEST_TIMEOUT, "-404 "}, {WEFT_TEST_TOO_BIG, "-405 "}, {WEFT_TEST_CUT, "-403 "},
        {WEFT_TEST_GARBAGE, "-403 "},
    };
    weft_test *t = begin("[upstream.partner]\nurl = http://10.0.0.1:8080/prefix\n");
    weft_test_step *step = a_call(t);

    (void)state;
    weft_test_answer(step, 418, "text/plain", "short and stout");
    weft_test_answer_field(step, "X-Kept", "yes");
    is_answered(t, "/call", "418 short and stout yes");
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        weft_test_request *request;

        weft_test_fault(a_call(t), faults[i].fault);
        request = weft_test_get(t, "/call");
        assert_int_equal(strncmp(weft_test_body(request).ptr, faults[i].told, 5), 0);
    }
    a_call(t);
    is_answered(t, "/call", "200  -");
    end(t);
}

static void a_hedge(void **state)
{
    weft_test *t = begin(patient);

    (void)state;
    weft_test_after(weft_test_call(t, "partner", "GET", "/1"), 49);
    is_answered(t, "/hedge", "0");
    weft_test_after(weft_test_call(t, "partner", "GET", "/1"), 100);
    weft_test_after(weft_test_call(t, "partner", "GET", "/2"), 20);
    is_answered(t, "/hedge", "1");
    assert_in_range(weft_test_now_ms(t), 119, 125);
    end(t);
}

/* Steps of a transaction, and of one within it that may fail. */
static void write_transfer(weft_test *t, const char *sqlstate)
{
    weft_test_step *step;

    weft_test_query(t, "begin", WEFT_NO_ARGS);
    weft_test_query(t, "take", WEFT_NO_ARGS);
    weft_test_query(t, "begin", WEFT_NO_ARGS);
    step = weft_test_query(t, "try", WEFT_NO_ARGS);
    if (sqlstate != NULL)
        weft_test_refuse(step, sqlstate, "no");
    weft_test_query(t, sqlstate != NULL ? "rollback" : "commit", WEFT_NO_ARGS);
    weft_test_query(t, "give", WEFT_NO_ARGS);
    weft_test_query(t, "commit", WEFT_NO_ARGS);
}

static void transactions(void **state)
{
    weft_test *t = begin(patient);

    (void)state;
    write_transfer(t, NULL);
    weft_test_is(weft_test_get(t, "/transfer"), 201, "tried");
    write_transfer(t, "23514");
    weft_test_is(weft_test_get(t, "/transfer"), 201, "given up");
    end(t);
}

static void a_transaction_that_fails_is_rolled_back(void **state)
{
    weft_test *t = begin(patient);

    (void)state;
    weft_test_query(t, "begin", WEFT_NO_ARGS);
    weft_test_refuse(weft_test_query(t, "take", WEFT_NO_ARGS), "40001", "try again");
    weft_test_query(t, "rollback", WEFT_NO_ARGS);
    weft_test_is(weft_test_get(t, "/transfer"), 503, NULL);
    weft_test_query(t, "begin", WEFT_NO_ARGS);
    weft_test_fault(weft_test_query(t, "take", WEFT_NO_ARGS), WEFT_TEST_LOST);
    weft_test_is(weft_test_get(t, "/transfer"), 503, NULL);
    end(t);
}

static void a_stream(void **state)
{
    weft_test *t = begin(patient);
    weft_test_step *step = a_get(t, "all");

    (void)state;
    weft_test_columns(step, "n int");
    for (int i = 0; i < 1000; i++)
        weft_test_row(step, "2");
    is_answered(t, "/stream", "2000");
    weft_test_fault(a_get(t, "all"), WEFT_TEST_BUSY);
    weft_test_is(weft_test_get(t, "/stream"), 503, NULL);
    end(t);
}

static void a_large_body(void **state)
{
    enum { SIZE = 900000 };
    weft_test *t = begin(patient);
    char *text = malloc(SIZE);
    const weft_str body = {text, SIZE};
    weft_test_request *request;

    (void)state;
    memset(text, 'x', SIZE);
    request = weft_test_send(t, "POST", "/upload", "X-A: 1\nX-B: 2", body);
    weft_test_wait(request);
    assert_string_equal(weft_test_body(request).ptr, "900000");
    free(text);
    end(t);
}

static void time_goes_on_when_the_test_says_so(void **state)
{
    weft_test *t = begin(patient);
    weft_test_request *request = weft_test_send(t, "GET", "/wait", NULL, (weft_str){NULL, 0});

    (void)state;
    weft_test_advance(t, 19999);
    assert_int_equal(weft_test_code(request), 0);
    assert_int_equal(weft_test_is_complete(request), 0);
    weft_test_advance(t, 2);
    assert_int_equal(weft_test_code(request), 200);
    assert_int_equal(weft_test_is_complete(request), 1);
    assert_string_equal(weft_test_field(request, "CONTENT-type"), "text/plain; charset=utf-8");
    assert_string_equal(weft_test_field(request, "Date"), "Thu, 01 Jan 2026 00:00:20 GMT");
    assert_null(weft_test_field(request, "X-None"));
    end(t);
}

static void a_client_that_leaves(void **state)
{
    weft_test *t = begin(patient);
    weft_test_request *request = weft_test_send(t, "GET", "/wait", NULL, (weft_str){NULL, 0});
    char text[64];

    (void)state;
    weft_test_advance(t, 5);
    weft_test_leave(request);
    assert_int_equal(weft_test_code(request), 0);
    snprintf(text, sizeof text, "ended, since %d", (int)WEFT_WHY_CLIENT_GONE);
    assert_non_null(strstr(weft_test_log(t), text));
    assert_string_equal(weft_test_log(t), "");
    end(t);
}

static void threads_and_jobs(void **state)
{
    weft_test *t = begin(patient);

    (void)state;
    is_answered(t, "/work", "42");
    is_answered(t, "/counts", "0 ticks, 0 posted");
    weft_test_advance(t, 2500);
    is_answered(t, "/counts", "2 ticks, 1 posted");
    end(t);
}

static void replies_in_pieces_and_files(void **state)
{
    weft_test *t = begin(patient);
    weft_test_request *request = weft_test_get(t, "/pieces?count=1000");

    (void)state;
    assert_int_equal(weft_test_body(request).len, 1000000);
    assert_true(weft_test_is_complete(request));
    request = weft_test_get(t, "/file?length=2000000");
    assert_int_equal(weft_test_body(request).len, 2000000);
    assert_true(weft_test_is_complete(request));
    weft_test_is(weft_test_get(t, "/file?length=0"), 200, "");
    end(t);
}

static void what_no_route_serves(void **state)
{
    weft_test *t = begin(patient);

    (void)state;
    weft_test_is(weft_test_get(t, "/none"), 404, NULL);
    weft_test_is(weft_test_post(t, "/get", "{}"), 405, NULL);
    weft_test_columns(a_get(t, "1"), "n");
    weft_test_is(weft_test_ask(t, "HEAD", "/get?id=1", NULL, NULL), 200, "");
    end(t);
}

static void play(weft_test *t, void *data)
{
    weft_test_step *step;

    (void)data;
    write_transfer(t, NULL);
    weft_test_is(weft_test_get(t, "/transfer"), 201, NULL);
    step = a_get(t, "all");
    weft_test_columns(step, "n int");
    weft_test_row(step, "1");
    weft_test_is(weft_test_get(t, "/stream"), 200, "1");
    weft_test_after(weft_test_call(t, "partner", "GET", "/1"), 100);
    weft_test_call(t, "partner", "GET", "/2");
    weft_test_is(weft_test_get(t, "/hedge"), 200, "1");
    weft_test_is(weft_test_get(t, "/work"), 200, "42");
    (void)weft_test_get(t, "/pieces?count=300");
}

static void everything_goes_wrong(void **state)
{
    weft_test *t = begin(patient);

    (void)state;
    assert_true(weft_test_sweep(t, play, NULL) > 50);
    end(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),
        cmocka_unit_test(rows_in_binary_form),
        cmocka_unit_test(affected),
        cmocka_unit_test(what_a_database_does),
        cmocka_unit_test(a_database_that_says_nothing),
        cmocka_unit_test(what_an_upstream_does),
        cmocka_unit_test(a_hedge),
        cmocka_unit_test(transactions),
        cmocka_unit_test(a_transaction_that_fails_is_rolled_back),
        cmocka_unit_test(a_stream),
        cmocka_unit_test(a_large_body),
        cmocka_unit_test(time_goes_on_when_the_test_says_so),
        cmocka_unit_test(a_client_that_leaves),
        cmocka_unit_test(threads_and_jobs),
        cmocka_unit_test(replies_in_pieces_and_files),
        cmocka_unit_test(what_no_route_serves),
        cmocka_unit_test(everything_goes_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
