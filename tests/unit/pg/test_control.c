/* Goal: what nobody waits for any more is canceled in the server, soon and without harm: what
 *       stands behind it on its session is answered as if nothing had happened, and a transaction
 *       that somebody still holds is left alone. */
#include "base/clock.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/transaction.h"

#include <stdio.h>
#include <string.h>

static struct pg_server server;
static struct pg_world world;

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "create table written (a int unique)");
    (void)pg_server_run(&server, "create function stubborn() returns void language plpgsql as $$ "
                                 "begin perform pg_sleep(60); exception when query_canceled then "
                                 "perform pg_sleep(60); end $$");
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_init(&world, &server);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    return 0;
}

static const struct pg_pool_counts *counts(void)
{
    return pg_pool_counts(world.pool);
}

/* Turns until the statement that holds the session has ended. */
static void until_idle(void)
{
    for (int i = 0; i < 1000 && counts()->in_flight > 0; i++)
        loop_turn(world.loop, 10);
    assert_int_equal(counts()->in_flight, 0);
}

static void test_what_nobody_waits_for_is_canceled(void **state)
{
    struct op *op;
    uint64_t began_us;

    (void)state;
    pg_server_need(&server);
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    op = pg_world_start_sql(&world, "select pg_sleep(60)", 0, NULL);
    run_for(world.loop, 50);
    began_us = clock_monotonic_us();
    op_cancel(op);
    until_idle();
    assert_true(clock_monotonic_us() - began_us < 5000000);
    assert_int_equal(counts()->cancels_sent, 1);
    assert_int_equal(counts()->sessions_lost, 0);
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

/* As the server does while it prepares for a statement: it forgets a cancel of that time. */
static void test_a_cancel_that_comes_to_nothing(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    op = pg_world_start_sql(&world, "select stubborn()", 0, NULL);
    run_for(world.loop, 50);
    op_cancel(op);
    until_idle();
    assert_int_equal(counts()->cancels_sent, 2);
    assert_int_equal(counts()->sessions_lost, 0);
}

static void test_what_ends_by_itself_is_not_canceled(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (int i = 0; i < 20; i++) {
        struct op *op = pg_world_start_sql(&world, "select 1", 0, NULL);

        run_turns(world.loop, 1);
        op_cancel(op);
        run_for(world.loop, 2);
    }
    until_idle();
    run_for(world.loop, 60);
    assert_true(counts()->cancels_sent < 10); /* none, but on a machine that is busy elsewhere */
}

static void test_who_stands_behind_is_served(void **state)
{
    struct op *op, *behind[3];

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    op = pg_world_start_sql(&world, "select pg_sleep(60)", 0, NULL);
    behind[0] = pg_world_start_sql(&world, "insert into written values (1)", 0, NULL);
    behind[1] = pg_world_start_sql(&world, "select 'behind'", 0, NULL);
    run_for(world.loop, 20);
    behind[2] = pg_world_start_sql(&world, "select 'queued'", 0, NULL);
    op_cancel(op);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pg_world_await(&world, behind[i]), ERR_OK);
    pg_world_check(behind[1], "behind");
    assert_string_equal(pg_server_run(&server, "select count(*) from written where a = 1"), "1");
}

/* Statements that end just when they are canceled: the signal may hit what stands behind. */
static void test_a_cancel_that_comes_late_harms_nobody(void **state)
{
    enum { ROUNDS = 100, BEHIND = 3 };
    uint64_t run_again;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "truncate written");
    world.options.sessions_max = 1;
    pg_world_start(&world);
    for (int round = 0; round < ROUNDS; round++) {
        const struct pg_value seconds = {.kind = PG_DOUBLE, .as.d = 0.020 + 0.0001 * round};
        struct op *behind[BEHIND];
        struct op *op = pg_world_start_sql(&world, "select pg_sleep($1)", 1, &seconds);

        for (int i = 0; i < BEHIND; i++) {
            const struct pg_value number = pg_world_int(round * BEHIND + i);

            behind[i] = pg_world_start_sql(
                &world, "insert into written select $1 from pg_sleep(0.002)", 1, &number);
        }
        run_turns(world.loop, 1);
        op_cancel(op);
        for (int i = 0; i < BEHIND; i++)
            assert_int_equal(pg_world_await(&world, behind[i]), ERR_OK);
        pg_world_renew(&world);
    }
    run_again = counts()->run_again;
    assert_string_equal(pg_server_run(&server, "select count(*) from written"), "300");
    assert_int_equal(counts()->sessions_lost, 0);
    print_message("%u canceled, %u hit and run again\n", (unsigned)counts()->cancels_sent,
                  (unsigned)run_again);
}

static void test_a_transaction_that_is_held_is_left_alone(void **state)
{
    struct pg_transaction *transaction;
    struct op *begin, *op;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "truncate written");
    pg_world_start(&world);
    begin = pg_begin(world.scope, world.pool, 0);
    assert_int_equal(pg_world_await(&world, begin), ERR_OK);
    transaction = pg_transaction_of(begin);
    op = pg_query_start(world.scope, &(struct pg_call){.transaction = transaction,
                                                       .sql = SPAN("insert into written select 1 "
                                                                   "from pg_sleep(0.2)")});
    run_for(world.loop, 20);
    op_cancel(op);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    assert_string_equal(pg_server_run(&server, "select count(*) from written"), "1");
    assert_int_equal(counts()->cancels_sent, 0);
}

static void test_one_that_nobody_holds_ends_at_once(void **state)
{
    struct op *begin;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "truncate written");
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    begin = pg_begin(world.scope, world.pool, 0);
    assert_int_equal(pg_world_await(&world, begin), ERR_OK);
    (void)pg_query_start(world.scope, &(struct pg_call){.transaction = pg_transaction_of(begin),
                                                        .sql = SPAN("insert into written select 1 "
                                                                    "from pg_sleep(60)")});
    run_for(world.loop, 50);
    pg_world_renew(&world);
    until_idle();
    for (int i = 0; i < 200 && counts()->sessions_pinned > 0; i++)
        loop_turn(world.loop, 10);
    assert_int_equal(counts()->sessions_pinned, 0);
    assert_int_equal(counts()->cancels_sent, 1);
    assert_string_equal(pg_server_run(&server, "select count(*) from written"), "0");
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

static void test_the_server_goes_while_it_is_asked_to_cancel(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.statement_timeout_ms = 0;
    world.options.queue_timeout_ms = 20000;
    pg_world_start(&world);
    for (int i = 0; i < 3; i++) {
        op = pg_world_start_sql(&world, "select pg_sleep(60)", 0, NULL);
        run_for(world.loop, 30);
        op_cancel(op);
        run_for(world.loop, (uint32_t)(15 + 5 * i));
        (void)pg_server_run(&server, "select count(pg_terminate_backend(pid)) "
                                     "from pg_stat_activity where application_name = 'weft'");
        run_for(world.loop, 30); /* the loss is noticed */
        pg_world_check(pg_world_run(&world, "select 'well'"), "well");
    }
}

static void test_the_control_session_does_not_stay(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    op = pg_world_start_sql(&world, "select pg_sleep(4)", 0, NULL);
    run_for(world.loop, 50);
    op_cancel(op);
    until_idle();
    for (int i = 0; i < 60; i++) {
        run_for(world.loop, 100);
        if (strcmp(pg_server_run(&server, "select count(*) from pg_stat_activity "
                                          "where application_name = 'weft'"),
                   "1") == 0)
            return;
    }
    fail_msg("the control session is still there");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_what_nobody_waits_for_is_canceled),
        TEST(test_a_cancel_that_comes_to_nothing),
        TEST(test_what_ends_by_itself_is_not_canceled),
        TEST(test_who_stands_behind_is_served),
        TEST(test_a_cancel_that_comes_late_harms_nobody),
        TEST(test_a_transaction_that_is_held_is_left_alone),
        TEST(test_one_that_nobody_holds_ends_at_once),
        TEST(test_the_server_goes_while_it_is_asked_to_cancel),
        TEST(test_the_control_session_does_not_stay),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
