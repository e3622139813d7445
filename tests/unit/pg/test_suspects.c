/* Goal: ad-hoc text that keeps running for long is kept off shared sessions, as a declared
 *       statement is, and is let back when it no longer does; what is quick is not even watched. */
#include "base/clock.h"
#include "lib/pg_fixture.h"
#include "lib/test.h"
#include "pg/dispatch.h"
#include "pg/private.h"
#include "pg/statement.h"
#include "pg/suspects.h"

#include <stdio.h>
#include <string.h>

static struct pg_suspects suspects;

static int begin(void **state)
{
    (void)state;
    pg_suspects_init(&suspects);
    return 0;
}

static int end(void **state)
{
    (void)state;
    pg_suspects_deinit(&suspects);
    return 0;
}

static const struct span text = SPAN("select 1");

static bool is_slow(struct span sql)
{
    return pg_dispatch_is_slow(pg_suspects_expected_us(&suspects, sql));
}

/* The table */

static void test_what_is_quick_is_not_watched(void **state)
{
    (void)state;
    for (uint32_t us = 0; us <= 5000; us += 100)
        pg_suspects_learn(&suspects, text, us);
    assert_int_equal(suspects.by_text.count, 0);
    assert_int_equal(pg_suspects_expected_us(&suspects, text), 0);
}

static void test_one_long_run_is_none_yet(void **state)
{
    (void)state;
    pg_suspects_learn(&suspects, text, 30000);
    assert_int_equal(suspects.by_text.count, 1);
    assert_false(is_slow(text));
    assert_false(is_slow(SPAN("select 2")));
    pg_suspects_learn(&suspects, text, 30000);
    assert_true(is_slow(text));
    assert_false(is_slow(SPAN("select 2")));
}

static void test_what_is_a_little_slow_is_found_in_time(void **state)
{
    int runs = 0;

    (void)state;
    while (!is_slow(text) && runs < 100) {
        pg_suspects_learn(&suspects, text, 8000);
        runs++;
    }
    assert_int_equal(runs, 8);
}

static void test_what_is_quick_again_is_let_go(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++)
        pg_suspects_learn(&suspects, text, UINT64_MAX);
    assert_true(is_slow(text));
    for (int i = 0; i < 40 && suspects.by_text.count > 0; i++)
        pg_suspects_learn(&suspects, text, 100);
    assert_int_equal(suspects.by_text.count, 0);
    assert_false(is_slow(text));
}

static void test_the_one_that_ran_least_lately_goes(void **state)
{
    char sql[32];

    (void)state;
    pg_suspects_learn(&suspects, text, 80000);
    for (int i = 0; i < PG_SUSPECTS_MAX; i++) {
        (void)snprintf(sql, sizeof sql, "select %d, 'x'", i);
        pg_suspects_learn(&suspects, span_of(sql), 80000);
        if (i < PG_SUSPECTS_MAX - 2)
            pg_suspects_learn(&suspects, text, 80000);
    }
    assert_int_equal(suspects.by_text.count, PG_SUSPECTS_MAX);
    assert_true(is_slow(text));
    assert_false(is_slow(SPAN("select 0, 'x'")));
    assert_true(is_slow(SPAN("select 1, 'x'")));
}

/* However long its texts are, and one that is too long is not watched at all. */
static void test_the_table_is_bounded_in_bytes(void **state)
{
    static char sql[PG_AD_HOC_TEXT_MAX + 1];
    struct span longest = {sql, PG_AD_HOC_TEXT_MAX}, too_long = {sql, PG_AD_HOC_TEXT_MAX + 1};

    (void)state;
    for (int i = 0; i < 100; i++) {
        (void)snprintf(sql, sizeof sql, "select %d", i);
        pg_suspects_learn(&suspects, too_long, 80000);
        assert_int_equal(pg_suspects_look_up(&suspects, too_long), 0);
        pg_suspects_learn(&suspects, longest, 80000);
        assert_true(is_slow(longest));
    }
    assert_int_equal(suspects.bytes, PG_SUSPECTS_BYTES_MAX);
    assert_int_equal(suspects.by_text.count, PG_SUSPECTS_BYTES_MAX / PG_AD_HOC_TEXT_MAX);
    (void)snprintf(sql, sizeof sql, "select %d", 0);
    assert_false(is_slow(longest)); /* it ran least lately */
}

/* The pool */

/* Starts it, lets so much time pass before its answer is read, and awaits it. Had it to have a
 * session of its own? */
static bool run(const char *sql, uint32_t ms)
{
    struct op *op = pg_world_start_sql(&world, sql, 0, NULL);
    bool wants_own = pg_query_of(op)->wants_own;

    loop_turn(world.loop, 0); /* it is sent */
    assert_int_equal(op->state, OP_PENDING);
    if (ms > 0)
        pg_world_jump(&world, ms);
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    return wants_own;
}

/* Until it has been quick so often that it may share a session again. */
static void until_let_back(const char *sql)
{
    for (int i = 0; run(sql, 0); i++)
        assert_true(i < 1000);
}

static void test_text_that_proves_slow_gets_a_session_of_its_own(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    assert_false(run("select 'long'", 100)); /* which says nothing: it was prepared first */
    assert_false(run("select 'long'", 100));
    assert_true(run("select 'long'", 100));
    assert_false(run("select 'another'", 0));
    until_let_back("select 'long'");
}

static void test_so_does_what_is_not_prepared(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.is_prepared = false;
    pg_world_start(&world);
    assert_false(run("select 'long'", 100));
    assert_true(run("select 'long'", 100));
    assert_false(run("select 'another'", 0));
    until_let_back("select 'long'");
}

/* It never gets to its end, so nobody sees how long it would take. */
static void test_what_always_times_out_is_slow(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.statement_timeout_ms = 100;
    pg_world_start(&world);
    for (int i = 0; i < 3; i++) {
        op = pg_world_start_sql(&world, "select pg_sleep(30)", 0, NULL);
        assert_int_equal(pg_query_of(op)->wants_own, i == 2);
        assert_int_equal(pg_world_await(&world, op), ERR_DEADLINE);
    }
}

static void test_and_a_declared_one(void **state)
{
    const struct pg_statement *statement;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.statement_timeout_ms = 100;
    pg_world_start(&world);
    assert_int_equal(pg_pool_declare(world.pool, "sleeps", "select pg_sleep(30)", 0, &statement),
                     ERR_OK);
    for (int i = 0; i < 3; i++) {
        op = pg_query_start(world.scope,
                            &(struct pg_call){.pool = world.pool, .statement = statement});
        assert_int_equal(pg_query_of(op)->wants_own, i == 2);
        assert_int_equal(pg_world_await(&world, op), ERR_DEADLINE);
    }
}

/* It is prepared, and starts at once. */
static struct op *start_sleep(const char *seconds)
{
    struct pg_value value = pg_world_text(seconds);

    return pg_world_start_sql(&world, "select pg_sleep($1)", 1, &value);
}

static uint32_t sleep_us(void)
{
    return pg_suspects_expected_us(&world.pool->suspects, SPAN("select pg_sleep($1)"));
}

static void until_sent(const struct op *op)
{
    uint64_t end_us = clock_monotonic_us() + 20000000;

    while (pg_query_of(op)->session == NULL) {
        assert_int_equal(op->state, OP_PENDING);
        assert_true(clock_monotonic_us() < end_us);
        loop_turn(world.loop, 10);
    }
}

/* What was given up ends in the server. */
static void until_the_session_is_idle(void)
{
    uint64_t end_us = clock_monotonic_us() + 20000000;

    while (!pg_session_is_idle(world.pool->sessions[0])) {
        assert_true(clock_monotonic_us() < end_us);
        loop_turn(world.loop, 10);
    }
}

/* Only for the time in which it ran is it to blame. */
static void test_what_is_given_up_has_taken_as_long_at_least(void **state)
{
    struct op *first, *behind;
    uint32_t so_far_us;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.statement_timeout_ms = 1000; /* the longest that a sleep lasts here */
    pg_world_start(&world);
    assert_int_equal(pg_world_await(&world, start_sleep("0")), ERR_OK);
    first = pg_world_start_sql(&world, "select pg_sleep(0.2)", 0, NULL);
    behind = start_sleep("30");
    until_sent(behind);
    assert_ptr_equal(pg_query_of(first)->session, pg_query_of(behind)->session);
    pg_world_jump(&world, 100);
    op_cancel(behind);
    assert_int_equal(sleep_us(), 0);
    assert_int_equal(pg_world_await(&world, first), ERR_OK);
    until_the_session_is_idle();

    first = start_sleep("30");
    until_sent(first);
    pg_world_jump(&world, 100);
    op_cancel(first);
    so_far_us = sleep_us();
    assert_in_range(so_far_us, 100000 / 8, 10000000);
    until_the_session_is_idle();

    first = start_sleep("30");
    assert_true(pg_query_of(first)->wants_own);
    until_sent(first);
    op_cancel(first); /* at once, which proves nothing */
    assert_true(sleep_us() >= so_far_us);
}

/* What the pool says itself is not watched, however long it takes. */
static void test_begin_and_commit_are_not_watched(void **state)
{
    struct op *begins, *op;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (int i = 0; i < 3; i++) {
        begins = pg_begin(world.scope, world.pool, 0);
        loop_turn(world.loop, 0);
        pg_world_jump(&world, 100);
        assert_int_equal(pg_world_await(&world, begins), ERR_OK);
        op = pg_commit(pg_transaction_of(begins));
        loop_turn(world.loop, 0);
        pg_world_jump(&world, 100);
        assert_int_equal(pg_world_await(&world, op), ERR_OK);
        pg_world_renew(&world);
    }
    assert_int_equal(world.pool->suspects.by_text.count, 0);
}

int main(void)
{
#define TABLE(name) cmocka_unit_test_setup_teardown(name, begin, end)
#define POOL(name)  cmocka_unit_test_setup_teardown(name, pg_set_up_ahead, pg_tear_down)
    const struct CMUnitTest tests[] = {
        TABLE(test_what_is_quick_is_not_watched),
        TABLE(test_one_long_run_is_none_yet),
        TABLE(test_what_is_a_little_slow_is_found_in_time),
        TABLE(test_what_is_quick_again_is_let_go),
        TABLE(test_the_one_that_ran_least_lately_goes),
        TABLE(test_the_table_is_bounded_in_bytes),
        POOL(test_text_that_proves_slow_gets_a_session_of_its_own),
        POOL(test_so_does_what_is_not_prepared),
        POOL(test_what_always_times_out_is_slow),
        POOL(test_and_a_declared_one),
        POOL(test_what_is_given_up_has_taken_as_long_at_least),
        POOL(test_begin_and_commit_are_not_watched),
    };
#undef TABLE
#undef POOL

    return cmocka_run_group_tests(tests, pg_start_server, pg_stop_server);
}
