/* Goal: the signal of a cancel may come late, also when nobody hears of it any more: it hits nobody
 *       who has nothing to do with it, and what it hits behind its victim is run again. */
#include "base/clock.h"
#include "lib/loop_driver.h"
#include "lib/pg_fixture.h"
#include "lib/test.h"
#include "pg/copy.h"
#include "pg/private.h"
#include "pg/transaction.h"

#include <stdio.h>
#include <string.h>

static int start_server(void **state)
{
    (void)pg_start_server(state);
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "create table written (a int unique)");
    return 0;
}

static void start_anew(uint32_t sessions)
{
    start_patiently(sessions);
    (void)pg_server_run(&server, "truncate written");
}

/* The server is made to take its time: of this role pg_cancel_backend() is a function that waits
 * for lock 8 first. Every call that has come as far as the signal is counted. */
static void slow_down(void)
{
    (void)pg_server_run(&server, "create schema slow; create sequence slow.called; "
                                 "create function slow.pg_cancel_backend(int) "
                                 "returns bool language plpgsql as $$ begin "
                                 "perform pg_advisory_xact_lock(8); "
                                 "perform nextval('slow.called'); "
                                 "return pg_catalog.pg_cancel_backend($1); end $$; "
                                 "alter role weft set search_path = slow, pg_catalog, public");
}

static void speed_up(void)
{
    (void)pg_server_run(&server, "alter role weft reset search_path; drop schema slow cascade");
}

static bool has_been_called(void)
{
    return strcmp(pg_server_run(&server, "select is_called::text from slow.called"), "true") == 0;
}

static void unlock(struct pg_transaction *holder, int lock)
{
    char sql[64];

    (void)snprintf(sql, sizeof sql, "select pg_advisory_unlock(%d)", lock);
    assert_int_equal(pg_world_await(&world, start_on(holder, sql)), ERR_OK);
}

/* A cancel that hits what stands behind the statement that it is for. They wait for locks, too,
 * which the test gives back one after the other. How often the neighbour was run again. */
static uint64_t hit_a_neighbour(struct pg_transaction *holder)
{
    static const char locks[] = "select pg_advisory_lock(7), pg_advisory_lock(8), "
                                "pg_advisory_lock(9)";
    uint64_t before = counts()->run_again;
    struct op *op, *behind[2];

    assert_int_equal(pg_world_await(&world, start_on(holder, locks)), ERR_OK);
    op = pg_world_start_sql(&world, "select pg_advisory_xact_lock(7)", 0, NULL);
    behind[0] = pg_world_start_sql(
        &world, "insert into written select 1 from pg_advisory_xact_lock(9)", 0, NULL);
    behind[1] = pg_world_start_sql(&world, "insert into written values (2)", 0, NULL);
    until_running("select pg_advisory_xact_lock(7)", "1");
    op_cancel(op);
    until_running("select pg_cancel_backend", "1");
    unlock(holder, 7);
    until_running("insert into written", "1");
    unlock(holder, 8);
    until_running("select pg_cancel_backend", "0");
    unlock(holder, 9);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pg_world_await(&world, behind[i]), ERR_OK);
    return counts()->run_again - before;
}

/* A machine that stands still for a second in between has the control session given up, and the
 * cancel with it: then once more. */
static void test_a_neighbour_that_is_hit_is_run_again(void **state)
{
    uint64_t hits = 0;

    (void)state;
    pg_server_need(&server);
    slow_down();
    world.options.sessions_max = 2;
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    for (int i = 0; i < 10 && hits == 0; i++) {
        (void)pg_server_run(&server, "truncate written");
        hits = hit_a_neighbour(begin_transaction());
        assert_string_equal(pg_server_run(&server, "select string_agg(a::text, ' ' order by a) "
                                                   "from written"),
                            "1 2");
        pg_world_renew(&world);
    }
    speed_up();
    assert_int_equal(hits, 1);
    assert_int_equal(counts()->sessions_lost, 0);
}

/* A world of its own in which a statement was given up, and its cancel waits for lock 8; the
 * statement ends with lock 7. Who holds the locks. */
static struct pg_transaction *cancel_slowly(const char *behind_sql, struct op **behind)
{
    static const char locks[] = "select pg_advisory_lock(7), pg_advisory_lock(8), "
                                "pg_advisory_lock(9)";
    struct pg_transaction *holder;
    struct op *op;

    start_anew(3); /* two of which may be lent at a time */
    holder = begin_transaction();
    assert_int_equal(pg_world_await(&world, start_on(holder, locks)), ERR_OK);
    op = pg_world_start_sql(&world, "select pg_advisory_xact_lock(7)", 0, NULL);
    if (behind != NULL)
        *behind = pg_world_start_sql(&world, behind_sql, 0, NULL);
    until_running("select pg_advisory_xact_lock(7)", "1");
    op_cancel(op);
    until_running("select pg_cancel_backend", "1");
    return holder;
}

/* The control session has not answered for so long that it is given up. */
static void give_up_control(void)
{
    pg_world_jump(&world, 2500);
    assert_null(world.pool->control.victim);
}

/* One whose statement has ended meanwhile is idle, but a signal is due on it. */
static void test_a_session_with_a_signal_due_is_not_lent(void **state)
{
    struct pg_transaction *holder;
    struct op *op, *next;

    (void)state;
    pg_server_need(&server);
    slow_down();
    holder = cancel_slowly(NULL, NULL);
    op = pg_begin(world.scope, world.pool, 0);
    unlock(holder, 7);
    until_running("select pg_advisory_xact_lock(7)", "0");
    until_idle();
    run_turns(world.loop, 20);
    assert_true(op->state == OP_PENDING || world.pool->control.victim == NULL);
    unlock(holder, 8);
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    next = start_on(pg_transaction_of(op), "select 'well'");
    assert_int_equal(pg_world_await(&world, next), ERR_OK);
    assert_int_equal(counts()->sessions_lost, 0);
    speed_up();
}

/* The same where nobody will ever hear of that signal. */
static bool is_next_one_safe(void)
{
    struct pg_transaction *holder = cancel_slowly(NULL, NULL), *next;
    struct op *op;

    unlock(holder, 7);
    until_idle();
    give_up_control();
    next = begin_transaction();
    op = start_on(next, "insert into written select 1 from pg_advisory_xact_lock(9)");
    until_running("insert into written", "1");
    unlock(holder, 8);
    until_running("select pg_cancel_backend", "0");
    until_running("insert into written", "1");
    run_for(world.loop, 20); /* a signal on it has been taken by then, if there was one */
    unlock(holder, 9);
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_commit(next)), ERR_OK);
    assert_int_equal(counts()->sessions_lost, 0);
    return has_been_called();
}

/* A server that looks whether its client is there may notice in time that the control session has
 * gone, and the signal is never sent: then once more. */
static void test_nor_is_one_whose_cancel_was_never_answered(void **state)
{
    bool is_sent = false;

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < 10 && !is_sent; i++) {
        slow_down();
        is_sent = is_next_one_safe();
        speed_up();
    }
    assert_true(is_sent);
}

/* What stands behind the victim is run again where it is hit, however late. */
static void test_a_neighbour_that_is_hit_late_is_run_again(void **state)
{
    bool is_sent = false;

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < 10 && !is_sent; i++) {
        uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;
        struct op *behind;
        struct pg_transaction *holder;

        slow_down();
        holder =
            cancel_slowly("insert into written select 1 from pg_advisory_xact_lock(9)", &behind);
        unlock(holder, 7);
        until_running("insert into written", "1");
        give_up_control();
        unlock(holder, 8);
        until_running("select pg_cancel_backend", "0");
        is_sent = has_been_called();
        while (is_sent && counts()->run_again == 0 && clock_monotonic_us() < end_us)
            loop_turn(world.loop, 10);
        assert_int_equal(counts()->run_again, is_sent);
        unlock(holder, 9);
        assert_int_equal(pg_world_await(&world, behind), ERR_OK);
        assert_string_equal(pg_server_run(&server, "select count(*) from written"), "1");
        assert_int_equal(counts()->sessions_lost, 0);
        speed_up();
    }
    assert_true(is_sent);
}

/* What has committed before it was hit stands, and is not run once more. */
static void test_a_neighbour_that_commits_by_itself_runs_once(void **state)
{
    struct pg_transaction *holder;
    struct op *behind;

    (void)state;
    pg_server_need(&server);
    slow_down();
    (void)pg_server_run(&server, "create or replace procedure commits_first() language plpgsql as "
                                 "$$ begin insert into written values (3); commit; "
                                 "perform pg_advisory_xact_lock(9); end $$");
    holder = cancel_slowly("call commits_first()", &behind);
    unlock(holder, 7);
    until_running("call commits_first", "1");
    unlock(holder, 8);
    assert_int_equal(pg_world_await(&world, behind), ERR_DEADLINE);
    assert_true(pg_query_of(behind)->is_maybe_applied);
    assert_int_equal(counts()->run_again, 0);
    assert_string_equal(pg_server_run(&server, "select count(*) from written"), "1");
    unlock(holder, 9);
    speed_up();
}

/* A signal that is late may as well hit what is sent in the end of a transaction or a COPY. When it
 * does cannot be chosen: texts that fail as if it had take their place. */
static const char hit[] = "do $$ begin raise exception using errcode = '57014'; end $$";

static void test_a_rollback_that_is_hit_rolls_back(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start_anew(1);
    transaction = begin_transaction();
    op = start_on(transaction, "insert into written values (1)");
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    op = pg_rollback(transaction);
    pg_query_of(op)->sql = span_of(hit); /* before the turn ends, which sends it */
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    pg_world_check(pg_world_run(&world, "select count(*) from written"), "0");
    assert_int_equal(counts()->sessions_lost, 0);
}

/* Its session would have no limit of time from there on. */
static void test_a_session_is_closed_where_the_end_of_a_copy_is_hit(void **state)
{
    struct op *copy;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    copy = pg_copy_in(world.scope, &(struct pg_call){.pool = world.pool,
                                                     .sql = SPAN("copy written from stdin"),
                                                     .is_copy = true});
    assert_int_equal(pg_world_await(&world, copy), ERR_OK);
    assert_string_equal(world.pool->sessions[0]->_copying.restore, "reset statement_timeout");
    world.pool->sessions[0]->_copying.restore = hit;
    assert_int_equal(pg_world_await(&world, pg_copy_end(copy)), ERR_OK);
    until_idle();
    pg_world_check(pg_world_run(&world, "show statement_timeout"), "5s");
    assert_int_equal(counts()->sessions_lost, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, pg_set_up_ahead, pg_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_neighbour_that_is_hit_is_run_again),
        TEST(test_a_session_with_a_signal_due_is_not_lent),
        TEST(test_nor_is_one_whose_cancel_was_never_answered),
        TEST(test_a_neighbour_that_is_hit_late_is_run_again),
        TEST(test_a_neighbour_that_commits_by_itself_runs_once),
        TEST(test_a_rollback_that_is_hit_rolls_back),
        TEST(test_a_session_is_closed_where_the_end_of_a_copy_is_hit),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, pg_stop_server);
}
