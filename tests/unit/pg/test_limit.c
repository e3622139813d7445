/* Goal: a statement of a transaction runs no longer in the server than its own op's deadline and
 *       the pool's limit allow, whatever the one before it had; and a limit that the transaction
 *       has set by itself is the one that counts, for the session's own patience, too. */
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/private.h"

#include <signal.h>
#include <stdio.h>

enum { LONG_MS = 20000 }; /* longer than any patience of a session's */

static struct pg_server server;
static struct pg_world world;

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "create table seen (what text); create table t (id int);"
                                 "create function tell() returns trigger language plpgsql as "
                                 "$$ begin insert into seen values "
                                 "(current_setting('statement_timeout')); return null; end $$;"
                                 "create constraint trigger late after insert on t deferrable "
                                 "initially deferred for each row execute function tell()");
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
    (void)pg_server_run(&server, "truncate seen, t");
    pg_world_init(&world, &server);
    world.options.sessions_max = 1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    return 0;
}

static enum err await(struct op *op)
{
    return pg_world_await(&world, op);
}

static struct pg_transaction *begin(void)
{
    struct op *op = pg_begin(world.scope, world.pool, 0);

    assert_int_equal(await(op), ERR_OK);
    return pg_transaction_of(op);
}

static struct pg_transaction *nest(struct pg_transaction *outer)
{
    struct op *op = pg_begin_nested(world.scope, outer);

    assert_int_equal(await(op), ERR_OK);
    return pg_transaction_of(op);
}

static struct op *start_on(struct pg_transaction *transaction, const char *sql)
{
    return pg_query_start(world.scope,
                          &(struct pg_call){.transaction = transaction, .sql = span_of(sql)});
}

static void run_on(struct pg_transaction *transaction, const char *sql)
{
    struct op *op = start_on(transaction, sql);

    if (await(op) != ERR_OK)
        fail_msg("%s: %.*s", sql, SPAN_ARG(op->error));
}

/* What the server allows a statement with a deadline in `ms`; 0: without one. */
static int64_t limit_within(struct pg_transaction *transaction, uint32_t ms)
{
    struct scope *scope = ms > 0 ? scope_child(world.scope, ms, 0) : world.scope;
    struct op *op = pg_query_start(
        scope,
        &(struct pg_call){.transaction = transaction,
                          .sql = SPAN("select extract(epoch from "
                                      "current_setting('statement_timeout')::interval) * 1000")});
    int64_t limit_ms;

    assert_int_equal(await(op), ERR_OK);
    limit_ms = (int64_t)pg_double(op, 0, 0);
    if (ms > 0)
        scope_finish(scope, SCOPE_REPLIED);
    return limit_ms;
}

static void start_ahead(bool is_prepared, uint32_t limit_ms)
{
    pg_world_deinit(&world);
    pg_world_init_ahead(&world, &server);
    world.options.sessions_max = 1;
    world.options.is_prepared = is_prepared;
    world.options.statement_timeout_ms = limit_ms;
    world.options.queue_timeout_ms = 600000;
    pg_world_start(&world);
}

static void test_who_has_more_time_gets_it(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin();
    assert_in_range(limit_within(transaction, 300), 1, 301);
    run_on(transaction, "select pg_sleep(0.6)"); /* which it would not survive */
    assert_int_equal(limit_within(transaction, 0), 5000);
    assert_in_range(limit_within(transaction, 300), 1, 301);
    assert_in_range(limit_within(transaction, 3000), 302, 3001);
    assert_int_equal(limit_within(transaction, LONG_MS), 5000);
    assert_int_equal(await(pg_commit(transaction)), ERR_OK);
    pg_world_check(pg_world_run(&world, "show statement_timeout"), "5s");
}

static void test_a_pool_without_a_limit(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    transaction = begin();
    assert_int_equal(limit_within(transaction, 0), 0);
    assert_in_range(limit_within(transaction, 300), 1, 301);
    assert_int_equal(limit_within(transaction, 0), 0);
    assert_in_range(limit_within(transaction, LONG_MS), 302, LONG_MS + 1);
    assert_int_equal(await(pg_commit(transaction)), ERR_OK);
}

/* Deferred triggers run in it. */
static void test_a_commit_has_its_own_time(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin();
    run_on(transaction, "insert into t values (1)");
    assert_in_range(limit_within(transaction, 300), 1, 301);
    assert_int_equal(await(pg_commit(transaction)), ERR_OK);
    assert_string_equal(pg_server_run(&server, "select what from seen"), "5s");
}

/* What is not a statement's own is not ended by its deadline: the pool's savepoints have their own
 * time, and whatever takes back has a little at least. */
static void test_savepoints_have_their_own_time(void **state)
{
    struct pg_transaction *transaction, *nested;
    struct scope *hurried;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start_ahead(true, 5000);
    transaction = begin();
    pg_world_stand_still(&world);
    assert_int_equal(limit_within(transaction, 1), 50);
    nested = nest(transaction);
    assert_int_equal(transaction->limit.ms, 5000);
    assert_in_range(limit_within(nested, 300), 1, 301);
    assert_int_equal(await(pg_commit(nested)), ERR_OK);
    assert_int_equal(transaction->limit.ms, 5000);
    pg_world_go_on(&world);
    hurried = scope_child(world.scope, 1, 0);
    op = pg_query_start(
        hurried, &(struct pg_call){.transaction = transaction, .sql = SPAN("select pg_sleep(10)")});
    assert_int_equal(await(op), ERR_DEADLINE);
    scope_finish(hurried, SCOPE_REPLIED);
    assert_int_equal(await(pg_rollback(transaction)), ERR_OK);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

/* A savepoint's end may bring an older limit back. */
static void test_what_is_undone_leaves_no_limit(void **state)
{
    struct pg_transaction *transaction, *nested;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin();
    assert_in_range(limit_within(transaction, 300), 1, 301);
    nested = nest(transaction);
    assert_int_equal(limit_within(nested, 0), 5000);
    assert_int_equal(await(pg_rollback(nested)), ERR_OK);
    assert_int_equal(limit_within(transaction, 0), 5000);
    assert_in_range(limit_within(transaction, 300), 1, 301);
    run_on(transaction, "savepoint mine");
    assert_int_equal(limit_within(transaction, 0), 5000);
    run_on(transaction, "rollback to mine");
    assert_int_equal(limit_within(transaction, 0), 5000);
    assert_int_equal(await(pg_commit(transaction)), ERR_OK);
}

/* A query would: what others commit before the lock is there would not be seen. */
static void test_a_limit_takes_no_snapshot(void **state)
{
    struct scope *soon;
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    soon = scope_child(world.scope, 4000, 0);
    op = pg_begin(world.scope, world.pool, PG_TX_REPEATABLE_READ);
    assert_int_equal(await(op), ERR_OK);
    transaction = pg_transaction_of(op);
    scope_tighten(soon, 3000);
    op = pg_query_start(soon, &(struct pg_call){.transaction = transaction,
                                                .sql = SPAN("lock table t in share mode nowait")});
    assert_int_equal(await(op), ERR_OK);
    (void)pg_server_run(&server, "insert into seen values ('late')");
    op = start_on(transaction, "select what from seen");
    assert_int_equal(await(op), ERR_OK);
    pg_world_check(op, "late");
    scope_finish(soon, SCOPE_REPLIED);
}

static void test_its_own_limit_stands(void **state)
{
    static const char *const texts[] = {
        "set local statement_timeout = 100",
        "/* x */ SET LOCAL STATEMENT_TIMEOUT to '100ms'",
        "set local \"statement_timeout\" = 100",
        "select set_config('statement_timeout', '100', true)",
        "do $$ begin set local statement_timeout = 100; end $$",
    };
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        transaction = begin();
        run_on(transaction, texts[i]);
        if (limit_within(transaction, 3000) != 100 || limit_within(transaction, 0) != 100)
            fail_msg("not for: %s", texts[i]);
        assert_int_equal(await(pg_rollback(transaction)), ERR_OK);
    }
}

static void test_one_whose_name_is_a_parameter(void **state)
{
    struct pg_value values[] = {pg_world_text("statement_timeout"), pg_world_text("100")};
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin();
    op = pg_query_start(world.scope,
                        &(struct pg_call){.transaction = transaction,
                                          .sql = SPAN("select set_config($1, $2, true)"),
                                          .count = 2,
                                          .values = values});
    assert_int_equal(await(op), ERR_OK);
    assert_int_equal(limit_within(transaction, 3000), 100);
}

static void test_who_only_looks_sets_none(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin();
    run_on(transaction, "show statement_timeout");
    run_on(transaction, "select current_setting('statement_timeout')");
    run_on(transaction, "select set_config('x.y', '1', true)");
    run_on(transaction, "set local lock_timeout = 100");
    assert_in_range(limit_within(transaction, 3000), 1, 3001);
}

/* It ends with the savepoint in which it was set, and no other. */
static void test_its_own_limit_is_undone_where_it_was_set(void **state)
{
    struct pg_transaction *transaction, *nested, *inner;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin();
    nested = nest(transaction);
    inner = nest(nested);
    run_on(inner, "set local statement_timeout = 100");
    assert_int_equal(await(pg_commit(inner)), ERR_OK);
    assert_int_equal(limit_within(nested, 3000), 100);
    assert_int_equal(await(pg_rollback(nested)), ERR_OK);
    assert_in_range(limit_within(transaction, 3000), 101, 3001);
    run_on(transaction, "set local statement_timeout = 200");
    nested = nest(transaction);
    run_on(nested, "set local statement_timeout = 100");
    assert_int_equal(limit_within(nested, 3000), 100);
    assert_int_equal(await(pg_rollback(nested)), ERR_OK);
    assert_int_equal(limit_within(transaction, 3000), 200);
}

/* Nor does it outlive the savepoint of the text's own behind which it was set; what was set before
 * does. */
static void test_its_own_limit_and_its_own_savepoints(void **state)
{
    static const struct {
        const char *texts[8];
        int64_t limit_ms; /* behind the texts, without a deadline; 5000 is the pool's */
    } cases[] = {
        {{"savepoint a", "set local statement_timeout = 100", "rollback to a"}, 5000},
        {{"SAVEPOINT A", "set local statement_timeout = 100", "rollback to \"a\""}, 5000},
        {{"savepoint a", "set local statement_timeout = 100", "release a"}, 100},
        {{"savepoint a", "set local statement_timeout = 100", "savepoint b", "rollback to b"}, 100},
        {{"set local statement_timeout = 200", "savepoint a", "set local statement_timeout = 100",
          "rollback work to savepoint a"},
         200},
        {{"savepoint a", "savepoint b", "set local statement_timeout = 100", "release savepoint b",
          "rollback to a"},
         5000},
        {{"savepoint a", "savepoint b", "rollback to a", "set local statement_timeout = 100",
          "savepoint b", "rollback to b"},
         100},
        {{"savepoint a", "release a", "set local statement_timeout = 100", "savepoint a",
          "rollback to a"},
         100},
        {{"savepoint a", "set local statement_timeout = 100", "release a", "savepoint b",
          "rollback to b"},
         100},
        {{"savepoint \"A\"", "set local statement_timeout = 100", "savepoint a", "rollback to a"},
         100},
    };

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pg_transaction *transaction = begin();
        int64_t limit_ms;

        (void)limit_within(transaction, 3000); /* ours was set */
        for (size_t j = 0; cases[i].texts[j] != NULL; j++)
            run_on(transaction, cases[i].texts[j]);
        limit_ms = limit_within(transaction, 0);
        if (limit_ms != cases[i].limit_ms)
            fail_msg("%zu: %lld ms", i, (long long)limit_ms);
        if (limit_ms == 5000)
            assert_in_range(limit_within(transaction, 3000), 1, 3001);
        assert_int_equal(await(pg_rollback(transaction)), ERR_OK);
    }
}

static void expect_failure(struct pg_transaction *transaction, const char *sql)
{
    if (await(start_on(transaction, sql)) == ERR_OK)
        fail_msg("%s: OK", sql);
}

/* A SET that fails sets nothing, and a SAVEPOINT that fails makes none. */
static void test_its_own_limit_that_was_refused(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin();
    run_on(transaction, "savepoint a");
    expect_failure(transaction, "set local statement_timeout = 'long'");
    run_on(transaction, "rollback to a");
    assert_in_range(limit_within(transaction, 3000), 1, 3001);
    run_on(transaction, "set local statement_timeout = 100");
    expect_failure(transaction, "select nothing");
    expect_failure(transaction, "savepoint a");
    run_on(transaction, "rollback to a"); /* the first one */
    assert_in_range(limit_within(transaction, 3000), 101, 3001);
    run_on(transaction, "savepoint b");
    run_on(transaction, "set local statement_timeout = 100");
    expect_failure(transaction, "select nothing");
    expect_failure(transaction, "release b");
    run_on(transaction, "rollback to b");
    assert_in_range(limit_within(transaction, 3000), 101, 3001);
    assert_int_equal(await(pg_rollback(transaction)), ERR_OK);
}

/* Whichever was asked for first: what the outer one sets is sent before the begin. */
static void test_its_own_limit_and_a_begin_in_one_turn(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (int is_behind = 0; is_behind < 2; is_behind++) {
        struct pg_transaction *transaction = begin();
        struct op *nested = is_behind ? pg_begin_nested(world.scope, transaction) : NULL;
        struct op *set = start_on(transaction, "set local statement_timeout = 100");

        if (!is_behind)
            nested = pg_begin_nested(world.scope, transaction);
        assert_int_equal(await(set), ERR_OK);
        assert_int_equal(await(nested), ERR_OK);
        assert_int_equal(limit_within(pg_transaction_of(nested), 3000), 100);
        assert_int_equal(await(pg_rollback(pg_transaction_of(nested))), ERR_OK);
        assert_int_equal(limit_within(transaction, 3000), 100);
        assert_int_equal(await(pg_rollback(transaction)), ERR_OK);
    }
}

/* A SAVEPOINT whose op was given up stays where it was sent: what is set behind it stands. */
static void test_its_own_limit_and_a_begin_that_is_given_up(void **state)
{
    struct pg_transaction *transaction, *nested;
    struct op *canceled;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin();
    canceled = pg_begin_nested(world.scope, transaction);
    run_turns(world.loop, 1);
    op_cancel(canceled);
    run_on(transaction, "set local statement_timeout = 100");
    nested = nest(transaction);
    assert_int_equal(limit_within(nested, 3000), 100);
    assert_int_equal(await(pg_rollback(nested)), ERR_OK);
    assert_int_equal(limit_within(transaction, 3000), 100);
    assert_int_equal(await(pg_rollback(transaction)), ERR_OK);
}

/* What one sets that is begun in the turn of the other's end is its own. */
static void test_its_own_limit_and_an_end_in_one_turn(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (int is_undone = 0; is_undone < 2; is_undone++) {
        struct pg_transaction *transaction = begin(), *first = nest(transaction), *second;

        run_on(first, "set local statement_timeout = 100");
        if (is_undone)
            (void)pg_rollback(first);
        else
            (void)pg_commit(first);
        second = nest(transaction);
        if (is_undone) {
            assert_in_range(limit_within(second, 3000), 101, 3001);
            run_on(second, "set local statement_timeout = 100");
        }
        assert_int_equal(limit_within(second, 3000), 100);
        assert_int_equal(await(pg_rollback(second)), ERR_OK);
        if (is_undone)
            assert_in_range(limit_within(transaction, 3000), 101, 3001);
        else
            assert_int_equal(limit_within(transaction, 3000), 100);
        assert_int_equal(await(pg_rollback(transaction)), ERR_OK);
    }
}

static void test_a_nested_one_takes_its_savepoints_along(void **state)
{
    struct pg_transaction *transaction, *nested;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin();
    nested = nest(transaction);
    run_on(nested, "savepoint a");
    assert_int_equal(await(pg_commit(nested)), ERR_OK);
    run_on(transaction, "set local statement_timeout = 100");
    run_on(transaction, "savepoint a");
    run_on(transaction, "rollback to a");
    assert_int_equal(limit_within(transaction, 3000), 100);
    assert_int_equal(await(pg_rollback(transaction)), ERR_OK);
}

/* A nested one that is undone since its commit was refused leaves what was set before it. */
static void test_its_own_limit_and_a_release_that_fails(void **state)
{
    struct pg_transaction *transaction, *nested;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin();
    run_on(transaction, "set local statement_timeout = 100");
    nested = nest(transaction);
    run_on(nested, "savepoint a");
    expect_failure(nested, "select nothing");
    assert_int_not_equal(await(pg_commit(nested)), ERR_OK);
    assert_int_equal(limit_within(transaction, 3000), 100);
    run_on(transaction, "savepoint b");
    run_on(transaction, "rollback to b");
    assert_int_equal(limit_within(transaction, 3000), 100);
    assert_int_equal(await(pg_rollback(transaction)), ERR_OK);
}

/* Beyond those that are counted its own limit may be taken for undone, never ours for its own. */
static void test_many_savepoints(void **state)
{
    enum { COUNT = PG_LIMIT_MARKS_MAX + 3 };
    struct pg_transaction *transaction;
    char sql[64];

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin();
    for (int i = 0; i < COUNT; i++) {
        if (i == COUNT - 1)
            run_on(transaction, "set local statement_timeout = 100");
        (void)snprintf(sql, sizeof sql, "savepoint a%d", i);
        run_on(transaction, sql);
    }
    run_on(transaction, "rollback to a18");
    assert_int_equal(limit_within(transaction, 0), 5000); /* though it was set before */
    run_on(transaction, "set local statement_timeout = 100");
    run_on(transaction, "release a17");
    run_on(transaction, "rollback to a3");
    assert_in_range(limit_within(transaction, 3000), 101, 3001);
    run_on(transaction, "set local statement_timeout = 100");
    run_on(transaction, "savepoint b");
    run_on(transaction, "rollback to b");
    assert_int_equal(limit_within(transaction, 3000), 100);
    run_on(transaction, "rollback to a0");
    assert_in_range(limit_within(transaction, 3000), 101, 3001);
    assert_int_equal(await(pg_rollback(transaction)), ERR_OK);
}

/* Patience */

static void jump(uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i += 1000)
        pg_world_jump(&world, 1000);
}

/* It would be answered by now, and nothing was lost. */
static void expect_well(struct op *op)
{
    jump(LONG_MS);
    assert_int_equal(op->state, OP_PENDING);
    assert_int_equal(await(op), ERR_OK);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static void test_patience_with_a_limit_of_its_own(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    start_ahead(true, 200);
    transaction = begin();
    run_on(transaction, "set local statement_timeout = '60s'");
    expect_well(start_on(transaction, "select pg_sleep(1)"));
    assert_int_equal(await(pg_commit(transaction)), ERR_OK);
    pg_world_check(pg_world_run(&world, "show statement_timeout"), "200ms");
    assert_false(world.pool->sessions[0]->has_own_limit);
}

static void test_patience_without_a_limit_of_ours(void **state)
{
    (void)state;
    pg_server_need(&server);
    start_ahead(false, 200);
    expect_well(pg_world_start_sql(&world, "select pg_sleep(1)", 0, NULL));
}

/* From the deadline of its op on a session has ten seconds, however long that took. */
static void test_patience_ends(void **state)
{
    struct scope *scope;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start_ahead(false, 200);
    scope = scope_child(world.scope, LONG_MS, 0);
    op = pg_query_start(
        scope, &(struct pg_call){.pool = world.pool, .sql = SPAN("select pg_sleep(3600)")});
    jump(LONG_MS - 2000);
    assert_int_equal(op->state, OP_PENDING);
    op_cancel(op); /* as its deadline would */
    jump(8000);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
    jump(5000);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 1);
    pg_world_check(pg_world_run(&world, "select 'next'"), "next");
    scope_finish(scope, SCOPE_REPLIED);
}

/* A transaction on a session without a limit of ours, at the head of which stands what nobody waits
 * for any more: for a second, or for ever. */
static struct pg_transaction *begin_with_dead_head(const char *seconds)
{
    char sql[64];
    struct pg_transaction *transaction;
    struct op *op;

    (void)snprintf(sql, sizeof sql, "select pg_sleep(%s)", seconds);
    start_ahead(false, 0); /* nothing is canceled there */
    transaction = begin();
    op = start_on(transaction, sql);
    run_turns(world.loop, 2);
    assert_int_equal(pg_pool_counts(world.pool)->in_flight, 1);
    op_cancel(op);
    return transaction;
}

static void test_patience_in_a_transaction_that_is_held(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    transaction = begin_with_dead_head("1");
    expect_well(start_on(transaction, "select 'behind'"));
    assert_int_equal(await(pg_commit(transaction)), ERR_OK);
}

static void test_patience_with_a_limit_that_a_held_one_has_set(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start_ahead(true, 200);
    transaction = begin();
    run_on(transaction, "set local statement_timeout = 0");
    op = start_on(transaction, "select pg_sleep(1)");
    run_turns(world.loop, 2);
    op_cancel(op);
    jump(LONG_MS); /* and nothing behind it yet */
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
    assert_int_equal(pg_pool_counts(world.pool)->cancels_sent, 0);
    run_on(transaction, "select 'behind'");
    assert_int_equal(await(pg_commit(transaction)), ERR_OK);
}

static void test_patience_of_who_commits(void **state)
{
    (void)state;
    pg_server_need(&server);
    expect_well(pg_commit(begin_with_dead_head("1")));
}

/* Once nobody waits for the COMMIT either, nobody waits for the session. */
static void test_patience_ends_with_who_commits(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    op = pg_commit(begin_with_dead_head("3600"));
    jump(LONG_MS);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
    op_cancel(op);
    jump(8000);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
    jump(5000);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 1);
}

/* However a transaction ends, its session has ten seconds from there on. */
static void end_by_rollback(struct pg_transaction *transaction, struct op **ended)
{
    *ended = pg_rollback(transaction);
}

static void end_by_release(struct pg_transaction *transaction, struct op **ended)
{
    (void)transaction;
    (void)ended;
    pg_world_renew(&world);
}

static void test_patience_ends_with_a_rollback(void **state)
{
    static void (*const ends[])(struct pg_transaction *, struct op **) = {end_by_rollback,
                                                                          end_by_release};

    (void)state;
    pg_server_need(&server);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        struct pg_transaction *transaction = begin_with_dead_head("3600");
        struct op *ended = NULL;

        jump(LONG_MS);
        assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
        ends[i](transaction, &ended);
        jump(8000);
        assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
        jump(5000);
        assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 1);
        if (ended != NULL)
            assert_int_equal(await(ended), ERR_OK);
        pg_world_check(pg_world_run(&world, "select 'next'"), "next");
    }
}

/* It has spoiled the transaction, whoever still holds that; and a backend that stands still hears
 * of no cancel. */
static void test_patience_ends_with_a_stream(void **state)
{
    struct pg_transaction *transaction;
    struct op *stream;
    int backend;

    (void)state;
    pg_server_need(&server);
    start_ahead(true, 0);
    transaction = begin();
    stream = pg_stream_start(world.scope, &(struct pg_call){.transaction = transaction,
                                                            .sql = SPAN("select pg_sleep(3600)")});
    run_turns(world.loop, 2);
    backend = pg_session_backend(world.pool->sessions[0]);
    assert_int_equal(kill(backend, SIGSTOP), 0);
    op_cancel(stream);
    jump(8000);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
    jump(5000);
    assert_int_equal(kill(backend, SIGCONT), 0);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_who_has_more_time_gets_it),
        TEST(test_a_pool_without_a_limit),
        TEST(test_a_commit_has_its_own_time),
        TEST(test_savepoints_have_their_own_time),
        TEST(test_what_is_undone_leaves_no_limit),
        TEST(test_a_limit_takes_no_snapshot),
        TEST(test_its_own_limit_stands),
        TEST(test_one_whose_name_is_a_parameter),
        TEST(test_who_only_looks_sets_none),
        TEST(test_its_own_limit_is_undone_where_it_was_set),
        TEST(test_its_own_limit_and_its_own_savepoints),
        TEST(test_its_own_limit_that_was_refused),
        TEST(test_its_own_limit_and_a_begin_in_one_turn),
        TEST(test_its_own_limit_and_a_begin_that_is_given_up),
        TEST(test_its_own_limit_and_an_end_in_one_turn),
        TEST(test_a_nested_one_takes_its_savepoints_along),
        TEST(test_its_own_limit_and_a_release_that_fails),
        TEST(test_many_savepoints),
        TEST(test_patience_with_a_limit_of_its_own),
        TEST(test_patience_without_a_limit_of_ours),
        TEST(test_patience_ends),
        TEST(test_patience_in_a_transaction_that_is_held),
        TEST(test_patience_with_a_limit_that_a_held_one_has_set),
        TEST(test_patience_of_who_commits),
        TEST(test_patience_ends_with_who_commits),
        TEST(test_patience_ends_with_a_rollback),
        TEST(test_patience_ends_with_a_stream),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
