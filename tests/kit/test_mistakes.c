/* Goal: the kit reports each kind of mistake, of a plugin and of a test, once, and says where. */
#include "lib/test.h"
#include "weft_test.h"
#include <stdio.h>

enum { TEXT_SIZE = 8192 };

/* A test whose failures are collected. */
struct world {
    weft_test *t;
    int told;             /* failures */
    char text[TEXT_SIZE]; /* of them, a line each */
};

static void on_failure(void *data, const char *text)
{
    struct world *world = data;
    size_t used = strlen(world->text);

    world->told++;
    snprintf(world->text + used, TEXT_SIZE - used, "%s\n", text);
}

static int setup(void **state)
{
    static struct world world;

    world = (struct world){.t = weft_test_start(NULL)};
    weft_test_on_failure(world.t, on_failure, &world);
    *state = &world;
    return 0;
}

/* Ends the test: it had this one failure. */
static void expect_one(struct world *world, const char *text)
{
    int failures = weft_test_end(world->t);

    world->t = NULL;
    if (failures != 1 || world->told != 1 || strstr(world->text, text) == NULL)
        fail_msg("expected one failure with '%s', got %d: %s", text, failures, world->text);
}

static int teardown(void **state)
{
    struct world *world = *state;

    weft_test_end(world->t);
    return 0;
}

static weft_test_step *an_insert(struct world *world, int64_t number)
{
    return weft_test_query(world->t, "insert", WEFT_ARGS(weft_int(number)));
}

/* The plugin's mistakes */

static void no_mistake(void **state)
{
    struct world *world = *state;

    weft_test_is(weft_test_get(world->t, "/fine"), 200, "fine");
    assert_int_equal(weft_test_failures(world->t), 0);
    assert_int_equal(weft_test_end(world->t), 0);
    assert_string_equal(world->text, "");
    world->t = NULL;
}

static void two_replies(void **state)
{
    struct world *world = *state;

    weft_test_is(weft_test_get(world->t, "/twice"), 200, "one");
    assert_string_equal(
        world->text, "GET /twice: weft_reply(): there is a reply already; the first one stands\n");
    expect_one(world, "GET /twice");
}

static void no_reply(void **state)
{
    weft_test_is(weft_test_get(((struct world *)*state)->t, "/nothing"), 500, NULL);
    expect_one(*state, "GET /nothing: the handler sent no reply");
}

static void a_stale_ctx(void **state)
{
    struct world *world = *state;

    (void)weft_test_get(world->t, "/fine");
    (void)weft_test_get(world->t, "/stale-ctx");
    expect_one(world, "GET /stale-ctx: weft_why(): a ctx that has ended");
}

static void a_stale_op(void **state)
{
    struct world *world = *state;

    (void)weft_test_get(world->t, "/fine");
    (void)weft_test_get(world->t, "/stale-op");
    expect_one(world, "GET /stale-op: weft_op_error(): an op that has gone");
}

static void an_op_that_nobody_waits_for(void **state)
{
    struct world *world = *state;

    weft_test_times(an_insert(world, 1), 0);
    (void)weft_test_get(world->t, "/forgets");
    expect_one(world, "GET /forgets: replies while a pg query that it started is under way");
}

static void waiting_in_a_clean_up(void **state)
{
    (void)weft_test_get(((struct world *)*state)->t, "/clean-up");
    expect_one(*state, "weft_await(): nothing can wait here");
}

static void another_thread(void **state)
{
    (void)weft_test_get(((struct world *)*state)->t, "/thread");
    expect_one(*state, "weft_budget_ms(): called from a thread that is not the loop's");
}

static void a_header_that_cannot_be_sent(void **state)
{
    (void)weft_test_get(((struct world *)*state)->t, "/header");
    expect_one(*state, "GET /header: weft_set_header(): ");
}

static void too_early(void **state)
{
    struct world *world = *state;

    assert_int_equal(weft_test_end(world->t), 0);
    world->t = weft_test_start("early = yes\n");
    weft_test_on_failure(world->t, on_failure, world);
    assert_null(weft_test_problem(world->t));
    expect_one(world, "weft_why(): no ctx");
}

static void an_open_transaction(void **state)
{
    struct world *world = *state;
    char place[64];

    const int line = __LINE__ + 1;
    weft_test_query(world->t, "begin", WEFT_NO_ARGS);
    snprintf(place, sizeof place, "test_mistakes.c:%d: GET /open: answered 200", line);
    an_insert(world, 1);
    (void)weft_test_get(world->t, "/open");
    expect_one(world, place);
}

static void a_ctx_that_is_never_ended(void **state)
{
    (void)weft_test_get(((struct world *)*state)->t, "/child");
    expect_one(*state, "a child of the plugin's background ctx lives on");
}

static void a_request_that_is_never_answered(void **state)
{
    struct world *world = *state;
    weft_test_step *step = an_insert(world, 1);

    weft_test_refuse(step, "XX000", "never");
    weft_test_times(step, 0);
    (void)weft_test_get(world->t, "/hangs");
    assert_int_equal(weft_test_end(world->t), 2);
    world->t = NULL;
    assert_non_null(strstr(world->text, "GET /hangs: goes on ten seconds after it was canceled"));
    assert_non_null(strstr(world->text, "1 of the plugin's ctx do not end"));
}

/* Steps */

static void a_statement_without_a_step(void **state)
{
    weft_test_is(weft_test_get(((struct world *)*state)->t, "/writes"), 500, NULL);
    expect_one(*state, "GET /writes: runs insert ('1') on main, for which there is no step");
}

static void another_parameter(void **state)
{
    struct world *world = *state;

    weft_test_times(an_insert(world, 7), 0);
    (void)weft_test_get(world->t, "/writes");
    expect_one(world, "GET /writes: runs insert ('1'), and this step wants insert ('7')");
}

static void a_step_that_is_not_met(void **state)
{
    struct world *world = *state;
    char place[64];

    const int line = __LINE__ + 1;
    weft_test_query(world->t, "insert", WEFT_TEST_ANY_ARGS);
    snprintf(place, sizeof place, "test_mistakes.c:%d: insert was not run, 0 of 1 times", line);
    expect_one(world, place);
}

static void a_step_that_is_met_too_seldom(void **state)
{
    struct world *world = *state;

    weft_test_times(an_insert(world, 1), 2);
    weft_test_is(weft_test_get(world->t, "/writes"), 200, NULL);
    expect_one(world, "insert was not run, 1 of 2 times");
}

static void a_step_that_is_met_too_often(void **state)
{
    struct world *world = *state;

    an_insert(world, 1);
    weft_test_is(weft_test_get(world->t, "/writes"), 200, NULL);
    weft_test_is(weft_test_get(world->t, "/writes"), 500, NULL);
    expect_one(world, "for which there is no step (left)");
}

static void beside_the_transaction(void **state)
{
    struct world *world = *state;

    weft_test_query(world->t, "begin", WEFT_NO_ARGS);
    weft_test_times(an_insert(world, 1), 0);
    weft_test_query(world->t, "rollback", WEFT_NO_ARGS);
    (void)weft_test_get(world->t, "/beside");
    expect_one(world, "GET /beside: runs insert ('1') outside of the transaction that begins at");
}

static void in_the_transaction_in_order(void **state)
{
    struct world *world = *state;

    weft_test_query(world->t, "begin", WEFT_NO_ARGS);
    an_insert(world, 1);
    an_insert(world, 2);
    weft_test_query(world->t, "commit", WEFT_NO_ARGS);
    weft_test_is(weft_test_get(world->t, "/whole"), 200, NULL);
    assert_int_equal(world->told, 0);
    weft_test_query(world->t, "begin", WEFT_NO_ARGS);
    an_insert(world, 2);
    weft_test_times(an_insert(world, 1), 0);
    weft_test_is(weft_test_get(world->t, "/whole"), 500, NULL);
    assert_non_null(
        strstr(world->text, "GET /whole: runs insert ('1'), and this step wants insert ('2')"));
    assert_int_equal(weft_test_end(world->t), 2);
    world->t = NULL;
    assert_non_null(strstr(world->text, "insert was not run, 0 of 1 times"));
}

static void a_call_without_a_step(void **state)
{
    weft_test_is(weft_test_get(((struct world *)*state)->t, "/calls"), 200, NULL);
    expect_one(*state, "GET /calls: calls partner: POST /x, for which there is no step");
}

static void a_call_with_another_body(void **state)
{
    struct world *world = *state;
    weft_test_step *step = weft_test_call(world->t, "partner", "POST", "/x");

    weft_test_wants_body(step, "[]");
    weft_test_times(step, 0);
    (void)weft_test_get(world->t, "/calls");
    expect_one(world, "GET /calls: calls partner: POST /x with a body or fields that this step");
}

static void a_call_that_is_not_made(void **state)
{
    struct world *world = *state;

    weft_test_call(world->t, "partner", "GET", "/y");
    expect_one(world, "partner was not called: GET /y, 0 of 1 times");
}

static void another_answer(void **state)
{
    struct world *world = *state;

    assert_int_equal(weft_test_is(weft_test_get(world->t, "/fine"), 200, "Fine"), 0);
    expect_one(world, "GET /fine: answered 200 fine, expected 200 Fine");
}

/* A step that asks for what it cannot have */

static void steps_that_cannot_be(void **state)
{
    struct world *world = *state;
    weft_test_step *call = weft_test_call(world->t, "partner", "GET", "/x");
    weft_test_step *query = weft_test_query(world->t, "insert", WEFT_NO_ARGS);

    weft_test_times(call, 0);
    weft_test_times(query, 0);
    weft_test_columns(call, "a");
    weft_test_row(call, "1");
    weft_test_affected(call, 1);
    weft_test_refuse(call, "23505", "");
    weft_test_answer(query, 200, NULL, NULL);
    weft_test_answer_field(query, "a", "b");
    weft_test_wants_body(query, "");
    weft_test_wants_field(query, "a", "b");
    weft_test_fault(query, WEFT_TEST_CUT);
    weft_test_fault(call, 99);
    weft_test_answer(call, 99, NULL, NULL);
    weft_test_refuse(query, "1", "");
    weft_test_columns(query, "a nothing");
    weft_test_row(query, "1", "2");
    assert_int_equal(weft_test_end(world->t), 14);
    world->t = NULL;
}

/* Starting */

static void a_setting_that_is_refused(void **state)
{
    struct world *world = *state;

    assert_int_equal(weft_test_end(world->t), 0);
    world->t = weft_test_start("limit = 11\n");
    weft_test_on_failure(world->t, on_failure, world);
    assert_non_null(strstr(weft_test_problem(world->t), "expected a whole number from 0 to 10"));
    assert_int_equal(weft_test_end(world->t), 0);
    world->t = weft_test_start("limit = 11\n");
    weft_test_on_failure(world->t, on_failure, world);
    expect_one(world, "the plugin was not started: ");
    world->told = 0;
    world->t = weft_test_start("limt = 11\n");
    weft_test_on_failure(world->t, on_failure, world);
    assert_non_null(strstr(weft_test_problem(world->t), "limt"));
    assert_int_equal(weft_test_code(weft_test_get(world->t, "/fine")), 0);
    expect_one(world, "GET /fine: there is no plugin to answer it");
}

/* Sweeping */

static void hangs(weft_test *t, void *data)
{
    (void)data;
    weft_test_times(weft_test_query(t, "insert", WEFT_TEST_ANY_ARGS), 0);
    weft_test_is(weft_test_get(t, "/hangs"), 200, NULL);
}

static void a_sweep_finds_what_hangs(void **state)
{
    struct world *world = *state;

    (void)weft_test_sweep(world->t, hangs, NULL);
    assert_non_null(strstr(world->text,
                           "GET /hangs: goes on ten seconds after it was canceled [op 1 of the "
                           "scene, a pg query of GET /hangs, is under way as the "
                           "request's time is over]"));
    assert_true(weft_test_end(world->t) > 0);
    world->t = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_mistake),
        TEST(two_replies),
        TEST(no_reply),
        TEST(a_stale_ctx),
        TEST(a_stale_op),
        TEST(an_op_that_nobody_waits_for),
        TEST(waiting_in_a_clean_up),
        TEST(another_thread),
        TEST(a_header_that_cannot_be_sent),
        TEST(too_early),
        TEST(an_open_transaction),
        TEST(a_ctx_that_is_never_ended),
        TEST(a_request_that_is_never_answered),
        TEST(a_statement_without_a_step),
        TEST(another_parameter),
        TEST(a_step_that_is_not_met),
        TEST(a_step_that_is_met_too_seldom),
        TEST(a_step_that_is_met_too_often),
        TEST(beside_the_transaction),
        TEST(in_the_transaction_in_order),
        TEST(a_call_without_a_step),
        TEST(a_call_with_another_body),
        TEST(a_call_that_is_not_made),
        TEST(another_answer),
        TEST(steps_that_cannot_be),
        TEST(a_setting_that_is_refused),
        TEST(a_sweep_finds_what_hangs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
