/* Goal: a transaction has a session of its own from BEGIN to its end, which is what was asked for,
 *       or a rollback, whatever becomes of its op, its scope or its session; the session comes
 *       back clean, and nobody else ever sees a part of it. */
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
    pg_server_init(&server, "--set deadlock_timeout=50ms");
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "create table t (id int primary key)");
    (void)pg_server_run(&server,
                        "create table late (id int);"
                        "create function wait() returns trigger language plpgsql as $$ begin "
                        "perform pg_advisory_xact_lock(7); return null; end $$;"
                        "create constraint trigger at_commit after insert on late "
                        "initially deferred for each row execute function wait()");
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
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "truncate t");
    pg_world_init(&world, &server);
    pg_world_start(&world);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    return 0;
}

static struct pg_transaction *begin_in(struct scope *scope, uint32_t flags)
{
    struct op *op = pg_begin(scope, world.pool, flags);

    assert_null(pg_transaction_of(op));
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    assert_non_null(pg_transaction_of(op));
    return pg_transaction_of(op);
}

static struct op *start_on(struct scope *scope, struct pg_transaction *transaction, const char *sql)
{
    return pg_query_start(scope,
                          &(struct pg_call){.transaction = transaction, .sql = span_of(sql)});
}

static enum err run_on(struct pg_transaction *transaction, const char *sql)
{
    return pg_world_await(&world, start_on(world.scope, transaction, sql));
}

static uint32_t pinned(void)
{
    return pg_pool_counts(world.pool)->sessions_pinned;
}

/* Turns until no session is pinned. */
static void until_unpinned(void)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    while (pinned() > 0 && clock_monotonic_us() < end_us)
        loop_turn(world.loop, 10);
    assert_int_equal(pinned(), 0);
}

static void expect_rows(const char *count)
{
    assert_string_equal(pg_server_run(&server, "select count(*) from t"), count);
}

static void test_commit_makes_it_last(void **state)
{
    struct pg_transaction *transaction;
    struct op *ops[3], *commit;

    (void)state;
    pg_server_need(&server);
    transaction = begin_in(world.scope, 0);
    assert_int_equal(pinned(), 1);
    ops[0] = start_on(world.scope, transaction, "insert into t values (1)");
    ops[1] = start_on(world.scope, transaction, "insert into t values (2)");
    ops[2] = start_on(world.scope, transaction, "select count(*) from t");
    assert_int_equal(pg_world_await(&world, ops[2]), ERR_OK);
    pg_world_check(ops[2], "2");
    expect_rows("0");
    pg_world_check(pg_world_run(&world, "select count(*) from t"), "0"); /* on another session */
    commit = pg_commit(transaction);
    assert_int_equal(pg_world_await(&world, commit), ERR_OK);
    assert_false(pg_maybe_applied(commit));
    expect_rows("2");
    until_unpinned();
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static void test_rollback_undoes_it(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    transaction = begin_in(world.scope, 0);
    assert_int_equal(run_on(transaction, "insert into t values (1)"), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
    expect_rows("0");
    until_unpinned();
}

static void test_late_users_are_told_so(void **state)
{
    struct pg_transaction *transaction;
    struct op *commit;

    (void)state;
    pg_server_need(&server);
    transaction = begin_in(world.scope, 0);
    commit = pg_commit(transaction);
    assert_int_equal(start_on(world.scope, transaction, "select 1")->status, ERR_STATE);
    assert_int_equal(pg_commit(transaction)->status, ERR_STATE);
    assert_int_equal(pg_world_await(&world, commit), ERR_OK);
    assert_int_equal(start_on(world.scope, transaction, "select 1")->status, ERR_STATE);
    assert_int_equal(pg_commit(transaction)->status, ERR_STATE);
    assert_int_equal(pg_rollback(transaction)->status, ERR_STATE);
}

static void test_the_end_of_its_scope_rolls_it_back(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    transaction = begin_in(world.scope, 0);
    assert_int_equal(run_on(transaction, "insert into t values (1)"), ERR_OK);
    pg_world_renew(&world);
    until_unpinned();
    expect_rows("0");
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static void test_the_release_of_its_op_rolls_it_back(void **state)
{
    struct scope *scope;
    struct op *begin, *waiting;

    (void)state;
    pg_server_need(&server);
    scope = scope_child(world.scope, 0, 0);
    begin = pg_begin(scope, world.pool, 0);
    assert_int_equal(pg_world_await(&world, begin), ERR_OK);
    waiting = start_on(world.scope, pg_transaction_of(begin), "insert into t values (1)");
    assert_int_equal(op_release(begin), ERR_OK);
    assert_int_equal(waiting->status, ERR_STATE);
    until_unpinned();
    expect_rows("0");
    scope_finish(scope, SCOPE_REPLIED);
}

static void test_a_canceled_begin_gives_its_session_back(void **state)
{
    struct op *begin;

    (void)state;
    pg_server_need(&server);
    begin = pg_begin(world.scope, world.pool, 0);
    op_cancel(begin); /* while it waits */
    run_turns(world.loop, 2);
    assert_int_equal(pinned(), 0);
    begin = pg_begin(world.scope, world.pool, 0);
    run_turns(world.loop, 1);
    assert_int_equal(pinned(), 1);
    op_cancel(begin); /* while it is sent */
    assert_false(pg_maybe_applied(begin));
    assert_null(pg_transaction_of(begin));
    pg_world_renew(&world);
    until_unpinned();
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

static void test_a_canceled_statement_is_still_undone(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    transaction = begin_in(world.scope, 0);
    op = start_on(world.scope, transaction, "insert into t select 1 from pg_sleep(0.1)");
    run_turns(world.loop, 1);
    op_cancel(op);
    assert_true(pg_maybe_applied(op));
    assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
    expect_rows("0");
    until_unpinned();
}

static void test_a_failed_statement_makes_commit_say_so(void **state)
{
    struct pg_transaction *transaction;
    struct op *commit;

    (void)state;
    pg_server_need(&server);
    transaction = begin_in(world.scope, 0);
    assert_int_equal(run_on(transaction, "insert into t values (1)"), ERR_OK);
    assert_int_equal(run_on(transaction, "insert into t values (1)"), ERR_DB_CONSTRAINT);
    assert_int_equal(run_on(transaction, "select 1"), ERR_DB);
    commit = pg_commit(transaction);
    assert_int_equal(pg_world_await(&world, commit), ERR_DB);
    assert_true(commit->error.len > 0);
    expect_rows("0");
    until_unpinned();
}

static void test_a_savepoint_saves_the_rest(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    transaction = begin_in(world.scope, 0);
    assert_int_equal(run_on(transaction, "insert into t values (1)"), ERR_OK);
    assert_int_equal(run_on(transaction, "savepoint a"), ERR_OK);
    assert_int_equal(run_on(transaction, "insert into t values (1)"), ERR_DB_CONSTRAINT);
    assert_int_equal(run_on(transaction, "rollback to a"), ERR_OK);
    assert_int_equal(run_on(transaction, "insert into t values (2)"), ERR_OK);
    assert_int_equal(run_on(transaction, "commit"), ERR_INVALID);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    expect_rows("2");
}

static void test_a_deferred_constraint_fails_the_commit(void **state)
{
    struct pg_transaction *transaction;
    struct op *commit;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "create table deferred (id int unique initially deferred)");
    transaction = begin_in(world.scope, 0);
    assert_int_equal(run_on(transaction, "insert into deferred values (1), (1)"), ERR_OK);
    commit = pg_commit(transaction);
    assert_int_equal(pg_world_await(&world, commit), ERR_DB_CONSTRAINT);
    assert_string_equal(pg_sqlstate(commit).ptr, "23505");
    until_unpinned();
}

static void expect_shown(struct pg_transaction *transaction, const char *name, const char *value)
{
    char sql[64];
    struct op *op;

    (void)snprintf(sql, sizeof sql, "show %s", name);
    op = start_on(world.scope, transaction, sql);
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    pg_world_check(op, value);
}

static void test_flags_say_how_it_begins(void **state)
{
    static const struct {
        uint32_t flags;
        const char *isolation, *read_only, *deferrable;
    } cases[] = {
        {0, "read committed", "off", "off"},
        {PG_TX_READ_ONLY, "read committed", "on", "off"},
        {PG_TX_REPEATABLE_READ, "repeatable read", "off", "off"},
        {PG_TX_SERIALIZABLE, "serializable", "off", "off"},
        {PG_TX_SERIALIZABLE | PG_TX_REPEATABLE_READ, "serializable", "off", "off"},
        {PG_TX_DEFERRABLE, "read committed", "off", "on"},
        {PG_TX_READ_ONLY | PG_TX_SERIALIZABLE | PG_TX_DEFERRABLE, "serializable", "on", "on"},
    };

    (void)state;
    pg_server_need(&server);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pg_transaction *transaction = begin_in(world.scope, cases[i].flags);

        expect_shown(transaction, "transaction_isolation", cases[i].isolation);
        expect_shown(transaction, "transaction_read_only", cases[i].read_only);
        expect_shown(transaction, "transaction_deferrable", cases[i].deferrable);
        assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
    }
}

static void test_one_that_only_reads_writes_nothing(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    transaction = begin_in(world.scope, PG_TX_READ_ONLY);
    op = start_on(world.scope, transaction, "insert into t values (1)");
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    assert_string_equal(pg_sqlstate(op).ptr, "25006");
    assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
}

static void test_two_that_cannot_both_be_are_told_to_try_again(void **state)
{
    struct pg_transaction *first, *second;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "insert into t values (1)");
    first = begin_in(world.scope, PG_TX_REPEATABLE_READ);
    second = begin_in(world.scope, PG_TX_REPEATABLE_READ);
    assert_int_equal(run_on(first, "select * from t"), ERR_OK);
    assert_int_equal(run_on(second, "select * from t"), ERR_OK);
    assert_int_equal(run_on(first, "update t set id = 2"), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_commit(first)), ERR_OK);
    assert_int_equal(run_on(second, "update t set id = 3"), ERR_DB_RETRY);
    assert_int_equal(pg_world_await(&world, pg_rollback(second)), ERR_OK);
}

/* Each waits for the row that the other one has; the server ends one of them. */
static void test_one_of_two_that_wait_for_each_other_is_told_to_try_again(void **state)
{
    struct pg_transaction *both[2];
    struct op *ops[2];
    int loser;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "insert into t values (1), (2)");
    for (int i = 0; i < 2; i++)
        both[i] = begin_in(world.scope, 0);
    assert_int_equal(run_on(both[0], "select from t where id = 1 for update"), ERR_OK);
    assert_int_equal(run_on(both[1], "select from t where id = 2 for update"), ERR_OK);
    ops[0] = start_on(world.scope, both[0], "update t set id = 20 where id = 2");
    ops[1] = start_on(world.scope, both[1], "update t set id = 10 where id = 1");
    for (int i = 0; i < 2; i++)
        (void)pg_world_await(&world, ops[i]);
    loser = ops[0]->status == ERR_OK;
    assert_int_equal(ops[loser]->status, ERR_DB_RETRY);
    assert_string_equal(pg_sqlstate(ops[loser]).ptr, "40P01");
    assert_int_equal(ops[!loser]->status, ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_rollback(both[loser])), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_commit(both[!loser])), ERR_OK);
    assert_string_equal(pg_server_run(&server, "select string_agg(id::text, ' ' order by id) "
                                               "from t"),
                        loser == 0 ? "2 10" : "1 20");
}

static void kill_pinned(struct pg_transaction *transaction)
{
    struct op *op = start_on(world.scope, transaction, "select pg_backend_pid()");
    char sql[64];

    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    (void)snprintf(sql, sizeof sql, "select pg_terminate_backend(%s)", pg_text(op, 0, 0).ptr);
    (void)pg_server_run(&server, sql);
}

static void test_a_broken_session_ends_it(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    transaction = begin_in(world.scope, 0);
    assert_int_equal(run_on(transaction, "insert into t values (1)"), ERR_OK);
    kill_pinned(transaction);
    op = start_on(world.scope, transaction, "insert into t values (2)");
    assert_int_equal(pg_world_await(&world, op), ERR_DB_DOWN);
    assert_false(pg_maybe_applied(op)); /* without a COMMIT nothing is */
    op = start_on(world.scope, transaction, "select 1");
    assert_int_equal(pg_world_await(&world, op), ERR_DB_DOWN);
    assert_string_equal(op->error.ptr, "the transaction's session broke");
    assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
    assert_int_equal(pg_rollback(transaction)->status, ERR_STATE);
    expect_rows("0");
    assert_int_equal(pinned(), 0);
    transaction = begin_in(world.scope, 0);
    kill_pinned(transaction);
    run_for(world.loop, 20); /* the loss is noticed while nothing is in flight */
    op = pg_commit(transaction);
    assert_int_equal(pg_world_await(&world, op), ERR_DB_DOWN);
    assert_false(pg_maybe_applied(op));
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

static void test_a_lost_commit_may_have_been_applied(void **state)
{
    struct pg_transaction *transaction;
    struct op *insert, *commit;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server,
                        "create function die() returns trigger language plpgsql as $$ begin "
                        "perform pg_terminate_backend(pg_backend_pid()); return null; end $$;"
                        "create table fatal (id int);"
                        "create constraint trigger at_commit after insert on fatal "
                        "initially deferred for each row execute function die()");
    transaction = begin_in(world.scope, 0);
    insert = start_on(world.scope, transaction, "insert into fatal values (1)");
    commit = pg_commit(transaction);
    assert_int_equal(pg_world_await(&world, commit), ERR_DB_DOWN);
    assert_int_equal(insert->status, ERR_OK);
    assert_true(pg_maybe_applied(commit));
}

/* Whether the COMMIT behind it was still executed, nobody knows. */
static void test_so_may_what_was_lost_with_it(void **state)
{
    struct pg_transaction *transaction;
    struct op *write, *read, *commit;
    char sql[64];

    (void)state;
    pg_server_need(&server);
    transaction = begin_in(world.scope, 0);
    read = start_on(world.scope, transaction, "select pg_backend_pid()");
    assert_int_equal(pg_world_await(&world, read), ERR_OK);
    (void)snprintf(sql, sizeof sql, "select pg_terminate_backend(%s)", pg_text(read, 0, 0).ptr);
    write = start_on(world.scope, transaction, "insert into t select 1 from pg_sleep(60)");
    commit = pg_commit(transaction);
    run_turns(world.loop, 2); /* both are sent by then */
    (void)pg_server_run(&server, sql);
    assert_int_equal(pg_world_await(&world, commit), ERR_DB_DOWN);
    assert_true(pg_maybe_applied(commit));
    assert_int_equal(write->status, ERR_DB_DOWN);
    assert_true(pg_maybe_applied(write));
    expect_rows("0");
}

/* A write that is said to be none is one, and not to be taken for one that only read. */
static void test_in_one_it_says_nothing_that_a_statement_only_reads(void **state)
{
    struct pg_call call = {.sql = SPAN("insert into t values (1)"), .flags = PG_READ_ONLY};
    struct op *write;

    (void)state;
    pg_server_need(&server);
    call.transaction = begin_in(world.scope, 0);
    assert_int_equal(pg_world_await(&world, pg_query_start(world.scope, &call)), ERR_OK);
    call.sql = SPAN("insert into t select 2 from pg_sleep(0.2)");
    write = pg_query_start(world.scope, &call);
    run_turns(world.loop, 2);
    op_cancel(write);
    assert_true(pg_maybe_applied(write));
    assert_int_equal(pg_world_await(&world, pg_commit(call.transaction)), ERR_OK);
    expect_rows("2");
}

/* A COMMIT that waits in the server until the lock's holder is rolled back, in a scope with a
 * deadline in an hour. */
struct slow_commit {
    struct pg_transaction *holder;
    struct scope *scope;
    struct op *commit;
};

static const char blocked[] = "select count(*) from pg_stat_activity where query = 'commit' and "
                              "wait_event_type = 'Lock'";

static void until_sent(const struct slow_commit *slow)
{
    for (int i = 0; i < 1000 && strcmp(pg_server_run(&server, blocked), "1") != 0; i++)
        loop_turn(world.loop, 10);
    assert_string_equal(pg_server_run(&server, blocked), "1");
    assert_int_equal(slow->commit->state, OP_PENDING);
}

static void start_slow_commit(struct slow_commit *slow)
{
    struct pg_transaction *transaction;

    pg_world_deinit(&world);
    pg_world_init_ahead(&world, &server);
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    (void)pg_server_run(&server, "truncate late");
    slow->holder = begin_in(world.scope, 0);
    assert_int_equal(run_on(slow->holder, "select pg_advisory_xact_lock(7)"), ERR_OK);
    slow->scope = scope_child(world.scope, 3600000, 0);
    transaction = begin_in(slow->scope, 0);
    assert_int_equal(run_on(transaction, "insert into late values (1)"), ERR_OK);
    slow->commit = pg_commit(transaction);
}

/* It goes on in the server, which nobody can take back, and its session serves others. */
static void expect_late(struct slow_commit *slow, const char *count)
{
    scope_finish(slow->scope, SCOPE_REPLIED);
    assert_int_equal(pg_world_await(&world, pg_rollback(slow->holder)), ERR_OK);
    until_unpinned();
    assert_string_equal(pg_server_run(&server, "select count(*) from late"), count);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

static void test_a_canceled_commit_may_have_been_applied(void **state)
{
    struct slow_commit slow;

    (void)state;
    pg_server_need(&server);
    start_slow_commit(&slow);
    until_sent(&slow);
    op_cancel(slow.commit);
    assert_int_equal(slow.commit->status, ERR_CANCELED);
    assert_true(pg_maybe_applied(slow.commit));
    expect_late(&slow, "1");
}

static void test_a_commit_that_is_canceled_before_it_is_sent_was_not(void **state)
{
    struct slow_commit slow;

    (void)state;
    pg_server_need(&server);
    start_slow_commit(&slow);
    op_cancel(slow.commit);
    assert_int_equal(slow.commit->status, ERR_CANCELED);
    assert_false(pg_maybe_applied(slow.commit));
    expect_late(&slow, "0");
}

/* Whatever end was canceled, the transaction goes on, and can be ended either way. */
static void test_an_end_that_is_canceled_before_it_is_sent_is_none(void **state)
{
    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < 4; i++) {
        struct pg_transaction *transaction = begin_in(world.scope, 0);
        struct op *end = i % 2 == 0 ? pg_commit(transaction) : pg_rollback(transaction);

        op_cancel(end);
        assert_int_equal(end->status, ERR_CANCELED);
        assert_false(pg_maybe_applied(end));
        assert_int_equal(run_on(transaction, "insert into t values (1)"), ERR_OK);
        end = i < 2 ? pg_rollback(transaction) : pg_commit(transaction);
        assert_int_equal(pg_world_await(&world, end), ERR_OK);
        until_unpinned();
        expect_rows(i < 2 ? "0" : "1");
        (void)pg_server_run(&server, "truncate t");
    }
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static void test_a_commit_whose_deadline_passes_may_have_been_applied(void **state)
{
    struct slow_commit slow;

    (void)state;
    pg_server_need(&server);
    start_slow_commit(&slow);
    until_sent(&slow);
    pg_world_jump(&world, 3600000);
    assert_int_equal(pg_world_await(&world, slow.commit), ERR_DEADLINE);
    assert_true(pg_maybe_applied(slow.commit));
    expect_late(&slow, "1");
}

static void test_transactions_leave_a_session_to_the_others(void **state)
{
    struct pg_transaction *transactions[3];
    struct op *waiting;

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < 3; i++)
        transactions[i] = begin_in(world.scope, 0);
    waiting = pg_begin(world.scope, world.pool, 0);
    pg_world_check(pg_world_run(&world, "select 'served'"), "served");
    assert_int_equal(waiting->state, OP_PENDING);
    assert_int_equal(pinned(), 3);
    assert_int_equal(pg_world_await(&world, pg_commit(transactions[1])), ERR_OK);
    assert_int_equal(pg_world_await(&world, waiting), ERR_OK);
    assert_int_equal(pinned(), 3);
}

static void test_one_session_serves_both(void **state)
{
    struct pg_transaction *transaction;
    struct op *waiting;

    (void)state;
    pg_server_need(&server);
    pg_world_again(&world);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    transaction = begin_in(world.scope, 0);
    waiting = pg_world_start_sql(&world, "select 'later'", 0, NULL);
    assert_int_equal(run_on(transaction, "insert into t values (1)"), ERR_OK);
    assert_int_equal(waiting->state, OP_PENDING);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    assert_int_equal(pg_world_await(&world, waiting), ERR_OK);
}

static void test_more_than_fits_is_sent_bit_by_bit(void **state)
{
    enum { COUNT = 200 };
    struct pg_transaction *transaction;
    struct op *ops[COUNT], *commit;

    (void)state;
    pg_server_need(&server);
    transaction = begin_in(world.scope, 0);
    for (int i = 0; i < COUNT; i++) {
        const struct pg_value id = pg_world_int(i);

        ops[i] =
            pg_query_start(world.scope, &(struct pg_call){.transaction = transaction,
                                                          .sql = SPAN("insert into t values ($1)"),
                                                          .values = &id,
                                                          .count = 1});
    }
    commit = pg_commit(transaction);
    assert_int_equal(pg_world_await(&world, commit), ERR_OK);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(ops[i]->status, ERR_OK);
    expect_rows("200");
}

static void test_a_deadline_rolls_it_back(void **state)
{
    struct scope *scope;
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    scope = scope_child(world.scope, 100, 0);
    transaction = begin_in(scope, 0);
    op = start_on(scope, transaction, "insert into t select 1 from pg_sleep(0.3)");
    assert_int_equal(pg_world_await(&world, op), ERR_DEADLINE);
    assert_int_equal(pg_commit(transaction)->status, ERR_DEADLINE);
    scope_finish(scope, SCOPE_REPLIED);
    until_unpinned();
    expect_rows("0");
}

static const struct pg_statement *declare(const char *name, const char *sql)
{
    const struct pg_statement *statement = NULL;

    assert_int_equal(pg_pool_declare(world.pool, name, sql, 0, &statement), ERR_OK);
    return statement;
}

static struct op *run_declared(struct pg_transaction *transaction,
                               const struct pg_statement *statement)
{
    struct pg_call call = {.transaction = transaction, .statement = statement};
    struct op *op;

    if (transaction == NULL)
        call.pool = world.pool;
    op = pg_query_start(world.scope, &call);
    (void)pg_world_await(&world, op);
    return op;
}

/* Outside of one it is refused with what to use instead, and nothing of it reaches a session. */
static void test_declared_for_transactions(void **state)
{
    static const char *const texts[] = {
        "create temp table made (a int) on commit drop",
        "insert into made values (7)",
        "select a into temp copied from made",
        "do $$ begin perform set_config('weft.done', a::text, true) from copied; end $$",
        "lock table made",
        "set local statement_timeout = 4321",
        "savepoint mine",
        "rollback to mine",
    };
    const struct pg_statement *statements[sizeof texts / sizeof texts[0]];
    uint32_t count = sizeof texts / sizeof texts[0];
    char name[16];

    (void)state;
    pg_server_need(&server);
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "s%u", i);
        statements[i] = declare(name, texts[i]);
    }
    for (int run = 0; run < 2; run++) { /* prepared by the second time */
        struct op *begun = pg_begin(world.scope, world.pool, 0);
        struct pg_transaction *transaction;

        for (uint32_t i = 0; i < count; i++) {
            const char *advice = pg_is_refused(span_of(texts[i]));
            struct op *op = advice != NULL ? run_declared(NULL, statements[i]) : NULL;

            if (op != NULL &&
                (op->status != ERR_INVALID || !span_equal(op->error, span_of(advice))))
                fail_msg("%s: %s", texts[i], err_name(op->status));
        }
        assert_int_equal(pg_world_await(&world, begun), ERR_OK);
        transaction = pg_transaction_of(begun);
        for (uint32_t i = 0; i < count; i++) {
            struct op *op = run_declared(transaction, statements[i]);

            if (op->status != ERR_OK)
                fail_msg("%s: %.*s", texts[i], SPAN_ARG(op->error));
        }
        pg_world_check(run_declared(transaction, declare("done", "select current_setting("
                                                                 "'weft.done')")),
                       "7");
        pg_world_check(run_declared(transaction, declare("limit", "show statement_timeout")),
                       "4321ms");
        assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_commit_makes_it_last),
        TEST(test_rollback_undoes_it),
        TEST(test_late_users_are_told_so),
        TEST(test_the_end_of_its_scope_rolls_it_back),
        TEST(test_the_release_of_its_op_rolls_it_back),
        TEST(test_a_canceled_begin_gives_its_session_back),
        TEST(test_a_canceled_statement_is_still_undone),
        TEST(test_a_failed_statement_makes_commit_say_so),
        TEST(test_a_savepoint_saves_the_rest),
        TEST(test_a_deferred_constraint_fails_the_commit),
        TEST(test_flags_say_how_it_begins),
        TEST(test_one_that_only_reads_writes_nothing),
        TEST(test_two_that_cannot_both_be_are_told_to_try_again),
        TEST(test_one_of_two_that_wait_for_each_other_is_told_to_try_again),
        TEST(test_a_broken_session_ends_it),
        TEST(test_a_lost_commit_may_have_been_applied),
        TEST(test_so_may_what_was_lost_with_it),
        TEST(test_in_one_it_says_nothing_that_a_statement_only_reads),
        TEST(test_a_canceled_commit_may_have_been_applied),
        TEST(test_a_commit_that_is_canceled_before_it_is_sent_was_not),
        TEST(test_an_end_that_is_canceled_before_it_is_sent_is_none),
        TEST(test_a_commit_whose_deadline_passes_may_have_been_applied),
        TEST(test_transactions_leave_a_session_to_the_others),
        TEST(test_one_session_serves_both),
        TEST(test_more_than_fits_is_sent_bit_by_bit),
        TEST(test_a_deadline_rolls_it_back),
        TEST(test_declared_for_transactions),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
