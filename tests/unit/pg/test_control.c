/* Goal: what nobody waits for any more is canceled in the server, soon and without harm: what
 *       stands behind it on its session is answered as if nothing had happened, and a transaction
 *       that somebody still holds is left alone. */
#include "base/clock.h"
#include "lib/loop_driver.h"
#include "lib/pg_fixture.h"
#include "lib/test.h"
#include "pg/listen.h"
#include "pg/private.h"
#include "pg/transaction.h"
#include "task/group.h"

#include <stdio.h>
#include <string.h>

static int start_server(void **state)
{
    (void)pg_start_server(state);
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "create table written (a int unique)");
    (void)pg_server_run(&server, "create function stubborn() returns void language plpgsql as $$ "
                                 "begin perform pg_sleep(60); exception when query_canceled then "
                                 "perform pg_sleep(60); end $$");
    return 0;
}

static void start_anew(uint32_t sessions)
{
    start_patiently(sessions);
    (void)pg_server_run(&server, "truncate written");
}

static void test_what_nobody_waits_for_is_canceled(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    op = pg_world_start_sql(&world, "select pg_sleep(60)", 0, NULL);
    until_asleep("select pg_sleep(60)");
    give_up(op);
    until_idle();
    assert_int_equal(counts()->cancels_sent, 1);
    assert_int_equal(counts()->sessions_lost, 0);
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

/* A declared statement that only reads, and that is known to be short: it shares its Sync. */
static const struct pg_statement *declare_short(const char *name, const char *sql)
{
    const struct pg_value none = pg_world_int(0);
    const struct pg_statement *statement = NULL;
    struct op *op;

    assert_int_equal(pg_pool_declare(world.pool, name, sql, PG_READ_ONLY, &statement), ERR_OK);
    op = pg_query_start(
        world.scope,
        &(struct pg_call){.pool = world.pool, .statement = statement, .values = &none, .count = 1});
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    world.pool->statements.list[statement->id]->expected_us = 100;
    return statement;
}

static struct op *start_shared(const struct pg_statement *statement, int64_t number)
{
    const struct pg_value value = pg_world_int(number);

    return pg_query_start(
        world.scope, &(struct pg_call){
                         .pool = world.pool, .statement = statement, .values = &value, .count = 1});
}

/* Three under one Sync, the `hanging`-th of which is given up while it runs. */
static void give_up_one_of_three(const struct pg_statement *sleep, const struct pg_statement *add,
                                 int hanging)
{
    uint64_t syncs = counts()->syncs, run_again = counts()->run_again;
    uint64_t cancels = counts()->cancels_sent;
    struct op *ops[3];

    /* What it took the last time was learnt. */
    world.pool->statements.list[sleep->id]->expected_us = 100;
    for (int i = 0; i < 3; i++)
        ops[i] = i == hanging ? start_shared(sleep, 60) : start_shared(add, i);
    until_asleep("select pg_sleep");
    assert_int_equal(counts()->syncs, syncs + 1);
    give_up(ops[hanging]);
    for (int i = 0; i < 3; i++) {
        if (i == hanging)
            continue;
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
        assert_int_equal(pg_int(ops[i], 0, 0), 100 + i);
        assert_int_equal(pg_query_of(ops[i])->aborted_count, 0); /* it was no fault of theirs */
    }
    until_idle();
    assert_int_equal(counts()->cancels_sent, cancels + 1);
    assert_int_equal(counts()->run_again, run_again + 2 - (unsigned)hanging); /* those behind it */
}

static void test_a_neighbour_under_its_sync_does_not_protect_it(void **state)
{
    const struct pg_statement *sleep, *add;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    sleep = declare_short("sleep", "select pg_sleep($1::int)");
    add = declare_short("add", "select 100 + $1::int");
    for (int hanging = 0; hanging < 3; hanging++)
        give_up_one_of_three(sleep, add, hanging);
    assert_int_equal(counts()->sessions_lost, 0);
}

/* It is the neighbour that runs, and that the cancel hits. */
static void test_a_neighbour_that_runs_is_run_again(void **state)
{
    const struct pg_statement *sleep, *add;
    struct op *running, *op;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    sleep = declare_short("sleep", "select 7 from pg_sleep($1::int)");
    add = declare_short("add", "select 100 + $1::int");
    running = start_shared(sleep, 2);
    op = start_shared(add, 0);
    until_asleep("select 7");
    give_up(op);
    assert_int_equal(pg_world_await(&world, running), ERR_OK);
    assert_int_equal(pg_int(running, 0, 0), 7);
    assert_int_equal(pg_query_of(running)->aborted_count, 0);
    assert_int_equal(counts()->cancels_sent, 1);
    assert_int_equal(counts()->run_again, 1);
}

/* While a cancel is under way that is not for it: it is no neighbour's fault, nor run once more. */
static void test_a_neighbour_whose_time_is_up_is_told_so(void **state)
{
    const struct pg_statement *sleep, *add;
    struct op *op, *behind;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.statement_timeout_ms = 500;
    pg_world_start(&world);
    sleep = declare_short("sleep", "select 7 from pg_sleep($1::int)");
    add = declare_short("add", "select 100 + $1::int");
    op = start_shared(sleep, 60);
    behind = start_shared(add, 0);
    run_turns(world.loop, 1);
    assert_int_equal(counts()->in_flight, 2);
    world.pool->sessions[0]->is_canceling = true;
    assert_int_equal(pg_world_await(&world, op), ERR_DEADLINE);
    assert_int_equal(pg_world_await(&world, behind), ERR_OK);
    assert_int_equal(counts()->run_again, 1); /* who was behind it */
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
    assert_true(counts()->cancels_sent >= 2);
    assert_int_equal(counts()->sessions_lost, 0);
}

static void test_what_ends_by_itself_is_not_canceled(void **state)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    pg_world_stand_still(&world);
    for (int i = 0; i < 20; i++) {
        struct op *op = pg_world_start_sql(&world, "select 1", 0, NULL);

        run_turns(world.loop, 1);
        op_cancel(op);
        while (counts()->in_flight > 0 && clock_monotonic_us() < end_us)
            loop_turn(world.loop, 10);
        pg_world_jump(&world, 1); /* so long it has taken */
    }
    until_idle();
    pg_world_jump(&world, 1000);
    run_turns(world.loop, 10);
    assert_int_equal(counts()->cancels_sent, 0);
}

/* When it is given up, its turn has not come yet: what runs before it is waited for. */
static void test_what_is_given_up_behind_another_is_canceled(void **state)
{
    struct op *wanted, *op;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    wanted = pg_world_start_sql(&world, "select pg_sleep(0.3)", 0, NULL);
    op = pg_world_start_sql(&world, "select pg_sleep(60)", 0, NULL);
    until_running("select pg_sleep(0.3)", "1");
    pg_world_stand_still(&world);
    op_cancel(op);
    assert_int_equal(pg_world_await(&world, wanted), ERR_OK);
    until_asleep("select pg_sleep(60)");
    pg_world_jump(&world, 50);
    until_idle();
    assert_int_equal(counts()->cancels_sent, 1);
    assert_int_equal(counts()->sessions_lost, 0);
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
static void test_cancels_at_any_time_harm_nobody(void **state)
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

/* A race */

static struct op *race_for_a_second(struct op *op)
{
    struct op *ops[] = {op, op_sleep(world.scope, 1000)};

    return group_start(world.scope, GROUP_RACE, ops, 2);
}

static void lose(struct op *op, struct op *race)
{
    assert_int_equal(race->state, OP_PENDING);
    pg_world_jump(&world, 1000);
    assert_int_equal(pg_world_await(&world, race), ERR_OK);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_true(pg_maybe_applied(op));
}

/* The statement ends in the server, and those behind it on its session never notice. */
static void test_a_statement_that_loses_a_race(void **state)
{
    struct op *op, *race, *behind[3];

    (void)state;
    pg_server_need(&server);
    start_anew(1);
    op = pg_world_start_sql(&world, "insert into written select 1 from pg_sleep(3600)", 0, NULL);
    race = race_for_a_second(op);
    for (int i = 0; i < 3; i++) {
        const struct pg_value number = pg_world_int(10 + i);

        behind[i] = pg_world_start_sql(&world, "insert into written values ($1)", 1, &number);
    }
    until_running("insert into written select", "1");
    lose(op, race);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pg_world_await(&world, behind[i]), ERR_OK);
    assert_string_equal(count_running("insert into written select"), "0");
    assert_string_equal(pg_server_run(&server, "select string_agg(a::text, ' ' order by a) "
                                               "from written"),
                        "10 11 12");
    assert_true(counts()->cancels_sent > 0);
    assert_int_equal(counts()->sessions_opened, 1); /* it is the same one that serves */
    assert_int_equal(counts()->sessions_lost, 0);
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

/* In a transaction that somebody holds it goes on in the server, whatever is behind it waits for
 * it, and what it did is a part of the transaction as if nobody had stopped waiting. */
static void test_one_that_loses_in_a_transaction_goes_on(void **state)
{
    struct pg_transaction *holder, *transaction;
    struct op *op, *race, *behind;

    (void)state;
    pg_server_need(&server);
    start_anew(4);
    holder = begin_transaction();
    assert_int_equal(pg_world_await(&world, start_on(holder, "lock table written")), ERR_OK);
    transaction = begin_transaction();
    op = start_on(transaction, "insert into written values (1)");
    race = race_for_a_second(op);
    behind = start_on(transaction, "select count(*) from written");
    until_running("insert into written", "1");
    lose(op, race);
    pg_world_jump(&world, 1000); /* long enough for any cancel to be sent */
    for (int i = 0; i < 20; i++)
        pg_world_check(pg_world_run(&world, "select 'others are served'"), "others are served");
    assert_string_equal(count_running("insert into written"), "1");
    assert_int_equal(behind->state, OP_PENDING);
    assert_int_equal(pg_world_await(&world, pg_rollback(holder)), ERR_OK);
    assert_int_equal(pg_world_await(&world, behind), ERR_OK);
    pg_world_check(behind, "1");
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    assert_string_equal(pg_server_run(&server, "select count(*) from written"), "1");
    assert_int_equal(counts()->cancels_sent, 0);
    assert_int_equal(counts()->sessions_lost, 0);
}

static void test_one_that_nobody_holds_ends_at_once(void **state)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;
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
    until_running("insert into written", "1");
    pg_world_renew(&world);
    until_idle();
    while (counts()->sessions_pinned > 0 && clock_monotonic_us() < end_us)
        loop_turn(world.loop, 10);
    assert_int_equal(counts()->sessions_pinned, 0);
    assert_true(counts()->cancels_sent > 0);
    assert_string_equal(pg_server_run(&server, "select count(*) from written"), "0");
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

/* Given up first, when somebody still held the transaction; then that is let go of. */
static void test_one_that_was_given_up_before_its_transaction_ends(void **state)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    op = start_on(begin_transaction(), "select pg_sleep(3600)");
    until_running("select pg_sleep(3600)", "1");
    op_cancel(op);
    while (world.pool->control.state != PG_CONTROL_CALM && clock_monotonic_us() < end_us)
        loop_turn(world.loop, 10);
    assert_int_equal(world.pool->control.state, PG_CONTROL_CALM);
    assert_int_equal(counts()->cancels_sent, 0);
    pg_world_renew(&world);
    until_idle();
    assert_true(counts()->cancels_sent > 0);
    assert_string_equal(count_running("select pg_sleep(3600)"), "0");
    assert_int_equal(counts()->sessions_lost, 0);
}

/* It fails as it would have anyway, and at once: it is not run again and again. */
static void test_a_neighbour_that_takes_too_long_is_not_run_again(void **state)
{
    struct op *op, *behind;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.statement_timeout_ms = 5000;
    pg_world_start(&world);
    op = pg_world_start_sql(&world, "select pg_sleep(60)", 0, NULL);
    behind = pg_world_start_sql(&world, "insert into written select 1 from pg_sleep(60)", 0, NULL);
    until_running("select pg_sleep(60)", "1");
    op_cancel(op);
    until_running("insert into written", "1");
    assert_true(counts()->cancels_sent > 0);
    assert_int_equal(pg_world_await(&world, behind), ERR_DEADLINE);
    assert_int_equal(counts()->run_again, 0);
}

/* What was given up in a transaction runs on there, until that is rolled back. */
static void test_a_rollback_does_not_wait_for_what_was_given_up(void **state)
{
    uint64_t began_us = clock_monotonic_us();

    (void)state;
    pg_server_need(&server);
    world.options.statement_timeout_ms = 0;
    world.options.sessions_max = 1;
    pg_world_start(&world);
    for (int i = 0; i < 10; i++) {
        struct op *begin = pg_begin(world.scope, world.pool, 0), *op;
        struct pg_transaction *transaction;

        assert_int_equal(pg_world_await(&world, begin), ERR_OK);
        transaction = pg_transaction_of(begin);
        op = pg_query_start(world.scope, &(struct pg_call){.transaction = transaction,
                                                           .sql = SPAN("select pg_sleep(60)")});
        run_for(world.loop, 30);
        op_cancel(op);
        assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
        pg_world_check(pg_world_run(&world, "select 'well'"), "well");
    }
    assert_true(clock_monotonic_us() - began_us < 30000000);
    assert_int_equal(counts()->sessions_lost, 0);
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
    for (int i = 0; i < 200; i++) {
        run_for(world.loop, 100);
        if (strcmp(pg_server_run(&server, "select count(*) from pg_stat_activity "
                                          "where application_name = 'weft'"),
                   "1") == 0)
            return;
    }
    fail_msg("the control session is still there");
}

static void be_read_only(bool is_so)
{
    (void)pg_server_run_as(&server, "postgres",
                           is_so ? "alter role weft set default_transaction_read_only = on"
                                 : "alter role weft reset default_transaction_read_only");
}

/* The pool's sessions are open, but none that listens can be opened any more: nothing takes writes,
 * as the pool wants it. */
static void test_a_cancel_waits_for_nobody_who_listens(void **state)
{
    struct op *listening, *op;

    (void)state;
    pg_server_need(&server);
    world.options.statement_timeout_ms = 0;
    world.options.queue_timeout_ms = DRIVER_SECONDS * 1000;
    world.options.target = PG_TARGET_READ_WRITE;
    pg_world_start(&world);
    be_read_only(true);
    listening = pg_listen(world.scope, world.pool, "news");
    op = pg_world_start_sql(&world, "select pg_sleep(60)", 0, NULL);
    run_for(world.loop, 300); /* the attempt to listen has failed */
    until_asleep("select pg_sleep(60)");
    give_up(op);
    until_idle();
    assert_int_equal(counts()->cancels_sent, 1);
    assert_non_null(world.pool->control.errand);
    assert_int_equal(listening->state, OP_PENDING);
    be_read_only(false);
    assert_int_equal(pg_world_await(&world, listening), ERR_OK);
    /* From here on it cancels, too, and the one that did so before is not kept beside it. */
    assert_null(world.pool->control.errand);
    op = pg_world_start_sql(&world, "select pg_sleep(60)", 0, NULL);
    until_asleep("select pg_sleep(60)");
    give_up(op);
    until_idle();
    assert_int_equal(counts()->cancels_sent, 2);
    assert_int_equal(counts()->sessions_lost, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, pg_set_up_ahead, pg_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_what_nobody_waits_for_is_canceled),
        TEST(test_a_neighbour_under_its_sync_does_not_protect_it),
        TEST(test_a_neighbour_that_runs_is_run_again),
        TEST(test_a_neighbour_whose_time_is_up_is_told_so),
        TEST(test_a_cancel_that_comes_to_nothing),
        TEST(test_what_ends_by_itself_is_not_canceled),
        TEST(test_what_is_given_up_behind_another_is_canceled),
        TEST(test_who_stands_behind_is_served),
        TEST(test_cancels_at_any_time_harm_nobody),
        TEST(test_a_transaction_that_is_held_is_left_alone),
        TEST(test_a_statement_that_loses_a_race),
        TEST(test_one_that_loses_in_a_transaction_goes_on),
        TEST(test_one_that_nobody_holds_ends_at_once),
        TEST(test_one_that_was_given_up_before_its_transaction_ends),
        TEST(test_a_neighbour_that_takes_too_long_is_not_run_again),
        TEST(test_a_rollback_does_not_wait_for_what_was_given_up),
        TEST(test_the_server_goes_while_it_is_asked_to_cancel),
        TEST(test_the_control_session_does_not_stay),
        TEST(test_a_cancel_waits_for_nobody_who_listens),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, pg_stop_server);
}
