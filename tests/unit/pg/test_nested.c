/* Goal: a transaction in another one stands or falls by itself as long as the outer one is open,
 *       and with it in the end, in whatever order and way they end; nothing that is run on the
 *       outer one is ever taken for its own; and a statement in a transaction runs no longer than
 *       its op's deadline, on the server too. */
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/copy.h"
#include "pg/private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pg_server server;
static struct pg_world world;

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "create table t (id int primary key)");
    (void)pg_server_run_as(&server, "postgres", "grant pg_read_all_stats to weft");
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
    world.options.depth_max = 1; /* so that what is in flight has the least room */
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

static struct op *begin_op(struct scope *scope, struct pg_transaction *outer)
{
    struct op *op = pg_begin_nested(scope, outer);

    assert_int_equal(await(op), ERR_OK);
    assert_non_null(pg_transaction_of(op));
    return op;
}

static struct pg_transaction *nest(struct pg_transaction *outer)
{
    return pg_transaction_of(begin_op(world.scope, outer));
}

static struct op *start_on(struct pg_transaction *transaction, const char *sql)
{
    return pg_query_start(world.scope,
                          &(struct pg_call){.transaction = transaction, .sql = span_of(sql)});
}

static enum err run_on(struct pg_transaction *transaction, const char *sql)
{
    return await(start_on(transaction, sql));
}

/* Everything is over: the ids that are there are these, and no session is held. */
static void expect(const char *ids)
{
    for (int i = 0; i < 200 && pg_pool_counts(world.pool)->sessions_pinned > 0; i++)
        loop_turn(world.loop, 10);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_pinned, 0);
    assert_int_equal(world.scope->held_count, 0);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
    assert_string_equal(
        pg_server_run(&server, "select coalesce(string_agg(id::text, ' ' order by id), '') from t"),
        ids);
}

static void test_what_is_committed_stands_with_the_outer_one(void **state)
{
    struct pg_transaction *outer, *inner;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    assert_int_equal(world.scope->held_count, 1);
    assert_int_equal(run_on(outer, "insert into t values (1)"), ERR_OK);
    inner = nest(outer);
    assert_int_equal(run_on(inner, "insert into t values (2)"), ERR_OK);
    assert_int_equal(await(pg_commit(inner)), ERR_OK);
    assert_int_equal(run_on(inner, "insert into t values (9)"), ERR_STATE);
    assert_int_equal(pg_commit(inner)->status, ERR_STATE);
    assert_int_equal(run_on(outer, "insert into t values (3)"), ERR_OK);
    assert_string_equal(pg_server_run(&server, "select count(*) from t"), "0");
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("1 2 3");
}

/* A text's own savepoint, whatever its name, is not taken for the nested transaction's. */
static void test_own_savepoints_are_told_apart(void **state)
{
    struct pg_transaction *outer = begin(), *nested = nest(outer);

    (void)state;
    assert_int_equal(run_on(nested, "insert into t values (1)"), ERR_OK);
    assert_int_equal(run_on(nested, "savepoint s1"), ERR_OK);
    assert_int_equal(run_on(nested, "insert into t values (2)"), ERR_OK);
    assert_int_equal(run_on(nested, "savepoint weft_s1"), ERR_INVALID);
    assert_int_equal(await(pg_rollback(nested)), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("");
}

static void test_what_is_rolled_back_leaves_the_outer_one(void **state)
{
    struct pg_transaction *outer, *inner;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    assert_int_equal(run_on(outer, "insert into t values (1)"), ERR_OK);
    inner = nest(outer);
    assert_int_equal(run_on(inner, "insert into t values (2)"), ERR_OK);
    assert_int_equal(run_on(inner, "insert into t values (1)"), ERR_DB_CONSTRAINT);
    assert_int_equal(await(pg_rollback(inner)), ERR_OK);
    assert_int_equal(run_on(outer, "insert into t values (3)"), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("1 3");
}

/* Each subtransaction that the server keeps has a memory context of that name. */
static uint32_t count_subtransactions(struct pg_transaction *transaction)
{
    struct op *op = start_on(transaction, "select count(*) from pg_backend_memory_contexts "
                                          "where name = 'CurTransactionContext'");

    assert_int_equal(await(op), ERR_OK);
    return (uint32_t)pg_int(op, 0, 0);
}

/* Who tries again and again in one transaction leaves nothing on the server. */
static void test_what_is_undone_is_forgotten(void **state)
{
    struct pg_transaction *outer;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    for (int i = 0; i < 3; i++) {
        struct pg_transaction *nested = nest(outer);
        assert_int_equal(count_subtransactions(nested), 1);
        assert_int_equal(await(pg_rollback(nested)), ERR_OK);
    }
    assert_int_equal(count_subtransactions(outer), 0);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("");
}

/* As COMMIT does with a whole one. */
static void test_one_that_has_failed_is_undone_by_its_commit(void **state)
{
    struct pg_transaction *outer, *inner;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    inner = nest(outer);
    assert_int_equal(run_on(inner, "insert into t values (1), (1)"), ERR_DB_CONSTRAINT);
    assert_int_equal(await(pg_commit(inner)), ERR_DB);
    assert_int_equal(run_on(outer, "insert into t values (3)"), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("3");
}

static void test_the_release_of_its_op_undoes_it(void **state)
{
    struct pg_transaction *outer;
    struct op *inner, *late;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    inner = begin_op(world.scope, outer);
    assert_int_equal(run_on(pg_transaction_of(inner), "insert into t values (2)"), ERR_OK);
    late = start_on(pg_transaction_of(inner), "insert into t values (4)");
    assert_int_equal(op_release(inner), ERR_OK);
    assert_int_equal(await(late), ERR_STATE);
    assert_int_equal(run_on(outer, "insert into t values (3)"), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("3");
}

static void test_the_end_of_an_outer_one_ends_it(void **state)
{
    struct pg_transaction *outer, *middle, *inner;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    middle = nest(outer);
    inner = nest(middle);
    assert_int_equal(run_on(inner, "insert into t values (1)"), ERR_OK);
    assert_int_equal(await(pg_rollback(middle)), ERR_OK);
    assert_int_equal(run_on(inner, "insert into t values (2)"), ERR_STATE);
    inner = nest(outer);
    assert_int_equal(run_on(inner, "insert into t values (5)"), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    assert_int_equal(run_on(inner, "insert into t values (6)"), ERR_STATE);
    assert_int_equal(pg_rollback(inner)->status, ERR_STATE);
    expect("5");
}

/* What waits on it behind its end is told so; what waits on the outer one runs. */
static void test_all_at_once(void **state)
{
    struct pg_transaction *outer, *inner;
    struct op *ops[6];

    (void)state;
    pg_server_need(&server);
    outer = begin();
    inner = nest(outer);
    ops[0] = start_on(inner, "insert into t values (1)");
    ops[1] = pg_begin_nested(world.scope, inner);
    ops[2] = start_on(inner, "insert into t values (2)");
    ops[3] = pg_rollback(inner);
    ops[4] = start_on(outer, "insert into t values (3)");
    ops[5] = pg_commit(outer);
    assert_int_equal(start_on(inner, "select 1")->status, ERR_STATE);
    assert_int_equal(await(ops[5]), ERR_OK);
    for (int i = 0; i < 6; i++)
        assert_int_equal(await(ops[i]), ERR_OK);
    assert_int_equal(pg_begin_nested(world.scope, pg_transaction_of(ops[1]))->status, ERR_STATE);
    expect("3");
}

static void test_a_canceled_begin(void **state)
{
    struct pg_transaction *outer;
    struct op *waiting, *sent;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    sent = pg_begin_nested(world.scope, outer);
    loop_turn(world.loop, 0);
    op_cancel(sent);
    waiting = pg_begin_nested(world.scope, outer);
    op_cancel(waiting);
    assert_int_equal(waiting->status, ERR_CANCELED);
    assert_int_equal(run_on(outer, "insert into t values (1)"), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("1");
}

/* The turn of a begin: what would have it wait until a stream was read is refused. */
static void expect_no_stream(struct pg_transaction *transaction)
{
    struct pg_call call = {.transaction = transaction, .sql = SPAN("select 1")};
    struct op *op = pg_stream_start(world.scope, &call);

    assert_int_equal(op->status, ERR_STATE);
    assert_non_null(strstr(op->error.ptr, "begun in it is open"));
    call.sql = SPAN("copy t from stdin");
    call.is_copy = true;
    assert_int_equal(pg_copy_in(world.scope, &call)->status, ERR_STATE);
    assert_int_equal(run_on(transaction, "select 1"), ERR_OK);
}

/* Nothing can be started on it, of whatever kind, and it says why. */
static void expect_shut(struct pg_transaction *transaction)
{
    struct pg_call call = {.transaction = transaction, .sql = SPAN("select 1")};
    struct op *ops[4];

    ops[0] = pg_query_start(world.scope, &call);
    ops[1] = pg_stream_start(world.scope, &call);
    call.sql = SPAN("copy t from stdin");
    call.is_copy = true;
    ops[2] = pg_copy_in(world.scope, &call);
    ops[3] = pg_begin_nested(world.scope, transaction);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ops[i]->status, ERR_STATE);
        assert_non_null(strstr(ops[i]->error.ptr, "begun in it is open"));
    }
}

/* The server would take it for a part of the nested one, and lose it with that. */
static void test_the_outer_one_is_shut_meanwhile(void **state)
{
    struct pg_transaction *outer, *middle, *inner;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    op = pg_begin_nested(world.scope, outer);
    expect_no_stream(outer);
    loop_turn(world.loop, 0);
    assert_int_equal(op->state, OP_PENDING);
    expect_shut(outer);
    assert_int_equal(await(op), ERR_OK);
    middle = pg_transaction_of(op);
    expect_shut(outer);
    assert_int_equal(run_on(middle, "insert into t values (1)"), ERR_OK);
    inner = nest(middle);
    expect_shut(outer);
    expect_shut(middle);
    assert_int_equal(run_on(inner, "insert into t values (2)"), ERR_OK);
    assert_int_equal(await(pg_rollback(inner)), ERR_OK);
    expect_shut(outer);
    assert_int_equal(run_on(middle, "insert into t values (3)"), ERR_OK);
    assert_int_equal(await(pg_commit(middle)), ERR_OK);
    assert_int_equal(run_on(outer, "insert into t values (4)"), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("1 3 4");
}

/* What is run in the turn of a begin leaves before that, whichever was asked for first. */
static void test_what_runs_in_the_turn_of_a_begin_is_not_in_it(void **state)
{
    struct pg_transaction *outer;
    struct op *ops[3], *begun;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    ops[0] = start_on(outer, "insert into t values (1)");
    begun = pg_begin_nested(world.scope, outer);
    ops[1] = start_on(outer, "insert into t values (2)");
    ops[2] = start_on(outer, "insert into t select max(id) + 1 from t");
    assert_int_equal(await(begun), ERR_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ops[i]->status, ERR_OK);
    assert_int_equal(run_on(pg_transaction_of(begun), "insert into t values (9)"), ERR_OK);
    assert_int_equal(await(pg_rollback(pg_transaction_of(begun))), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("1 2 3");
}

/* With an end in line the outer one is open again, and what is in the one that ends is not. */
static void test_whose_turn_it_is_behind_an_end(void **state)
{
    struct pg_transaction *outer, *middle, *inner;
    struct op *end, *behind, *begun;

    (void)state;
    pg_server_need(&server);
    for (int way = 0; way < 2; way++) {
        outer = begin();
        middle = nest(outer);
        inner = nest(middle);
        end = way == 0 ? pg_commit(middle) : pg_rollback(middle);
        assert_int_equal(start_on(inner, "insert into t values (1)")->status, ERR_STATE);
        assert_int_equal(pg_commit(inner)->status, ERR_STATE);
        begun = pg_begin_nested(world.scope, outer);
        behind = start_on(outer, "insert into t values (2)");
        assert_int_equal(await(begun), ERR_OK);
        assert_int_equal(end->status, ERR_OK);
        assert_int_equal(behind->status, ERR_OK);
        assert_int_equal(await(pg_rollback(pg_transaction_of(begun))), ERR_OK);
        assert_int_equal(await(pg_commit(outer)), ERR_OK);
        expect("2");
        (void)pg_server_run(&server, "truncate t");
    }
}

/* It shuts again where that end is canceled, and refuses what was taken by then. */
static void test_what_waits_behind_an_end_that_is_canceled(void **state)
{
    (void)state;
    pg_server_need(&server);
    for (int way = 0; way < 2; way++) {
        struct pg_transaction *outer = begin(), *middle = nest(outer), *inner = nest(middle);
        struct op *own = start_on(inner, "insert into t values (1)");
        struct op *end = way == 0 ? pg_commit(inner) : pg_rollback(inner);
        struct op *behind = start_on(middle, "insert into t values (2)");
        struct op *begun = pg_begin_nested(world.scope, middle);

        op_cancel(end);
        assert_int_equal(behind->status, ERR_STATE);
        assert_non_null(strstr(behind->error.ptr, "begun in it is open"));
        assert_int_equal(begun->status, ERR_STATE);
        assert_null(pg_transaction_of(begun));
        expect_shut(middle);
        assert_int_equal(run_on(inner, "insert into t values (3)"), ERR_OK);
        assert_int_equal(own->status, ERR_OK);
        assert_int_equal(await(pg_commit(inner)), ERR_OK);
        assert_int_equal(run_on(middle, "insert into t values (4)"), ERR_OK);
        assert_int_equal(await(pg_commit(outer)), ERR_OK);
        expect("1 3 4");
        (void)pg_server_run(&server, "truncate t");
    }
}

/* What is begun behind the end of another one is not in that, whatever way it ends. */
static void test_one_that_is_begun_in_the_turn_of_an_end(void **state)
{
    (void)state;
    pg_server_need(&server);
    for (int way = 0; way < 6; way++) {
        struct pg_transaction *outer = begin();
        struct op *first = begin_op(world.scope, outer), *end = NULL, *second;

        assert_int_equal(run_on(pg_transaction_of(first), "insert into t values (1)"), ERR_OK);
        if (way % 3 == 0)
            end = pg_commit(pg_transaction_of(first));
        else if (way % 3 == 1)
            end = pg_rollback(pg_transaction_of(first));
        else
            assert_int_equal(op_release(first), ERR_OK);
        second = begin_op(world.scope, outer);
        if (end != NULL)
            assert_int_equal(end->status, ERR_OK);
        assert_int_equal(run_on(pg_transaction_of(second), "insert into t values (2)"), ERR_OK);
        end =
            way < 3 ? pg_commit(pg_transaction_of(second)) : pg_rollback(pg_transaction_of(second));
        assert_int_equal(await(end), ERR_OK);
        assert_int_equal(run_on(outer, "insert into t values (3)"), ERR_OK);
        assert_int_equal(await(pg_commit(outer)), ERR_OK);
        expect((const char *[]){"1 2 3", "2 3", "2 3", "1 3", "3", "3"}[way]);
        (void)pg_server_run(&server, "truncate t");
    }
}

/* Sent or not, it is in nobody's way once it was canceled. */
static void test_a_canceled_begin_is_its_own_affair(void **state)
{
    (void)state;
    pg_server_need(&server);
    for (int way = 0; way < 4; way++) {
        struct pg_transaction *outer = begin(), *second;
        struct op *canceled = pg_begin_nested(world.scope, outer);

        if (way % 2 == 1)
            loop_turn(world.loop, 0);
        assert_int_equal(pg_begin_nested(world.scope, outer)->status, ERR_STATE);
        op_cancel(canceled);
        second = nest(outer);
        assert_int_equal(run_on(second, "insert into t values (1)"), ERR_OK);
        assert_int_equal(await(way < 2 ? pg_commit(second) : pg_rollback(second)), ERR_OK);
        assert_int_equal(run_on(outer, "insert into t values (2)"), ERR_OK);
        assert_int_equal(await(pg_commit(outer)), ERR_OK);
        expect(way < 2 ? "1 2" : "2");
        (void)pg_server_run(&server, "truncate t");
    }
}

/* So is one that failed, and it is none of those that may be. */
static void test_a_failed_begin_is_its_own_affair(void **state)
{
    struct pg_transaction *outer, *nested;
    struct op *failed, *waiting;

    (void)state;
    pg_server_need(&server);
    pg_world_again(&world);
    world.options.queue_max = 1;
    pg_world_start(&world);
    outer = begin();
    waiting = start_on(outer, "select 1");
    for (int i = 0; i <= PG_NESTED_MAX; i++) {
        failed = pg_begin_nested(world.scope, outer);
        assert_int_equal(failed->status, ERR_DB_BUSY);
    }
    assert_int_equal(await(waiting), ERR_OK);
    nested = nest(outer);
    assert_int_equal(run_on(nested, "insert into t values (1)"), ERR_OK);
    assert_int_equal(op_release(failed), ERR_OK);
    assert_int_equal(run_on(nested, "insert into t values (2)"), ERR_OK);
    assert_int_equal(await(pg_rollback(nested)), ERR_OK);
    assert_int_equal(run_on(outer, "insert into t values (3)"), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("3");
}

/* Not sent yet, it fails with the outer one, and outlives it. */
static void test_an_outer_one_that_ends_before_the_begin_is_sent(void **state)
{
    struct scope *scope;
    struct op *outer, *inner;

    (void)state;
    pg_server_need(&server);
    scope = scope_create(world.tasks, NULL, NULL, 0);
    outer = pg_begin(scope, world.pool, 0);
    assert_int_equal(await(outer), ERR_OK);
    inner = pg_begin_nested(world.scope, pg_transaction_of(outer));
    scope_finish(scope, SCOPE_REPLIED);
    assert_int_equal(await(inner), ERR_STATE);
    loop_turn(world.loop, 0);
    assert_null(pg_transaction_of(inner));
    assert_int_equal(op_release(inner), ERR_OK);
    expect("");
}

/* Where the server refuses it, too: the transaction has failed by then. */
static void test_a_begin_that_the_server_refuses(void **state)
{
    struct pg_transaction *outer, *first, *second;
    struct op *refused, *failed;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    first = nest(outer);
    failed = start_on(first, "select 1 / 0");
    refused = pg_begin_nested(world.scope, first);
    assert_int_equal(await(refused), ERR_DB);
    assert_int_equal(failed->status, ERR_DB);
    assert_null(pg_transaction_of(refused));
    assert_int_equal(await(pg_rollback(first)), ERR_OK);
    second = nest(outer);
    assert_int_equal(op_release(refused), ERR_OK);
    assert_int_equal(run_on(second, "insert into t values (1)"), ERR_OK);
    assert_int_equal(await(pg_commit(second)), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("1");
}

/* Behind the end of the one around it, which ends it all the same, nothing is refused. */
static void test_the_end_of_an_inner_one_that_is_canceled(void **state)
{
    struct pg_transaction *outer, *middle, *inner;
    struct op *end, *middle_end, *insert;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    middle = nest(outer);
    inner = nest(middle);
    assert_int_equal(run_on(inner, "insert into t values (1)"), ERR_OK);
    end = pg_commit(inner);
    middle_end = pg_commit(middle);
    insert = start_on(outer, "insert into t values (2)");
    op_cancel(end);
    assert_int_equal(end->status, ERR_CANCELED);
    assert_int_equal(await(middle_end), ERR_OK);
    assert_int_equal(await(insert), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("1 2");
}

static void test_an_end_that_is_canceled_before_it_is_sent(void **state)
{
    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < 4; i++) {
        struct pg_transaction *outer = begin(), *inner = nest(outer);
        struct op *end = i % 2 == 0 ? pg_commit(inner) : pg_rollback(inner);

        op_cancel(end);
        assert_int_equal(end->status, ERR_CANCELED);
        assert_int_equal(run_on(inner, "insert into t values (1)"), ERR_OK);
        assert_int_equal(await(i < 2 ? pg_rollback(inner) : pg_commit(inner)), ERR_OK);
        assert_int_equal(run_on(outer, "insert into t values (2)"), ERR_OK);
        assert_int_equal(await(pg_commit(outer)), ERR_OK);
        expect(i < 2 ? "2" : "1 2");
        (void)pg_server_run(&server, "truncate t");
    }
}

/* Its op lives on when the outer one's is no more. */
static void test_one_that_was_born_canceled(void **state)
{
    struct scope *scope, *canceled;
    struct op *outer, *born;

    (void)state;
    pg_server_need(&server);
    scope = scope_create(world.tasks, NULL, NULL, 0);
    canceled = scope_create(world.tasks, NULL, NULL, 0);
    scope_cancel(canceled, SCOPE_CLIENT_GONE);
    outer = pg_begin(scope, world.pool, 0);
    assert_int_equal(await(outer), ERR_OK);
    born = pg_begin_nested(canceled, pg_transaction_of(outer));
    assert_int_equal(born->status, ERR_CANCELED);
    assert_null(pg_transaction_of(born));
    scope_finish(scope, SCOPE_REPLIED);
    loop_turn(world.loop, 0);
    loop_turn(world.loop, 0);
    scope_finish(canceled, SCOPE_REPLIED);
    loop_turn(world.loop, 0);
    loop_turn(world.loop, 0);
}

static void test_as_many_as_may_be_and_all_let_go(void **state)
{
    struct pg_transaction *outer;
    struct op *ops[PG_NESTED_MAX];

    (void)state;
    pg_server_need(&server);
    outer = begin();
    for (int i = 0; i < PG_NESTED_MAX; i++)
        ops[i] = begin_op(world.scope, i == 0 ? outer : pg_transaction_of(ops[i - 1]));
    assert_int_equal(
        pg_begin_nested(world.scope, pg_transaction_of(ops[PG_NESTED_MAX - 1]))->status, ERR_STATE);
    for (int i = PG_NESTED_MAX; i > 0; i--)
        assert_int_equal(op_release(ops[i - 1]), ERR_OK);
    assert_int_equal(run_on(outer, "insert into t values (1)"), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    expect("1");
}

/* Its scope ends first, or last. */
static void test_scopes_that_end(void **state)
{
    struct scope *scope;
    struct pg_transaction *outer;
    struct op *inner, *begun;
    const char *problem;

    (void)state;
    pg_server_need(&server);
    scope = scope_create(world.tasks, NULL, NULL, 0);
    outer = begin();
    inner = begin_op(scope, outer);
    assert_int_equal(run_on(pg_transaction_of(inner), "insert into t values (1)"), ERR_OK);
    scope_finish(scope, SCOPE_REPLIED);
    loop_turn(world.loop, 0);
    loop_turn(world.loop, 0);
    assert_int_equal(run_on(outer, "insert into t values (2)"), ERR_OK);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    scope = scope_create(world.tasks, NULL, NULL, 0);
    begun = pg_begin(scope, world.pool, 0);
    assert_int_equal(await(begun), ERR_OK);
    inner = begin_op(world.scope, pg_transaction_of(begun));
    assert_int_equal(run_on(pg_transaction_of(inner), "insert into t values (3)"), ERR_OK);
    scope_finish(scope, SCOPE_REPLIED);
    loop_turn(world.loop, 0);
    assert_int_equal(pg_transaction_check(pg_transaction_of(inner), &problem), ERR_STATE);
    expect("2");
}

static void test_a_session_that_breaks(void **state)
{
    struct pg_transaction *outer, *inner;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    inner = nest(outer);
    (void)pg_server_run(&server, "select pg_terminate_backend(pid) from pg_stat_activity "
                                 "where application_name = 'weft'");
    assert_int_equal(run_on(inner, "select 1"), ERR_DB_DOWN);
    assert_int_equal(pg_begin_nested(world.scope, inner)->status, ERR_DB_DOWN);
    assert_int_equal(pg_commit(inner)->status, ERR_DB_DOWN);
    assert_int_equal(pg_rollback(outer)->status, ERR_OK);
    assert_int_equal(world.scope->held_count, 0);
}

/* The limit of time */

static int64_t limit_on(struct pg_transaction *transaction, struct scope *scope)
{
    struct op *op = pg_query_start(
        scope, &(struct pg_call){.transaction = transaction,
                                 .sql = SPAN("select extract(epoch from setting::int * interval "
                                             "'1 ms') * 1000 from pg_settings where name = "
                                             "'statement_timeout'")});

    assert_int_equal(await(op), ERR_OK);
    return (int64_t)pg_double(op, 0, 0);
}

static void test_a_deadline_tightens_the_servers_limit(void **state)
{
    struct scope *soon = scope_child(world.scope, 3000, 0);
    struct pg_transaction *outer;
    struct op *inner;

    (void)state;
    pg_server_need(&server);
    outer = begin();
    assert_int_equal(limit_on(outer, world.scope), 5000);
    inner = begin_op(world.scope, outer);
    assert_in_range(limit_on(pg_transaction_of(inner), soon), 1, 3000);
    assert_int_equal(await(pg_rollback(pg_transaction_of(inner))), ERR_OK);
    assert_int_equal(limit_on(outer, world.scope), 5000);
    assert_in_range(limit_on(outer, soon), 1, 3000);
    assert_int_equal(await(pg_commit(outer)), ERR_OK);
    pg_world_check(pg_world_run(&world, "show statement_timeout"), "5s");
    scope_finish(soon, SCOPE_REPLIED);
}

static void test_without_a_limit_of_its_own_a_session_gets_one(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    pg_world_again(&world);
    world.options.is_prepared = false;
    pg_world_start(&world);
    pg_world_check(pg_world_run(&world, "show statement_timeout"), "0");
    transaction = begin();
    assert_int_equal(limit_on(transaction, world.scope), 5000);
    assert_int_equal(await(pg_rollback(transaction)), ERR_OK);
    pg_world_check(pg_world_run(&world, "show statement_timeout"), "0");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_committed_stands_with_the_outer_one),
        TEST(test_own_savepoints_are_told_apart),
        TEST(test_what_is_rolled_back_leaves_the_outer_one),
        TEST(test_what_is_undone_is_forgotten),
        TEST(test_one_that_has_failed_is_undone_by_its_commit),
        TEST(test_the_release_of_its_op_undoes_it),
        TEST(test_the_end_of_an_outer_one_ends_it),
        TEST(test_all_at_once),
        TEST(test_a_canceled_begin),
        TEST(test_the_outer_one_is_shut_meanwhile),
        TEST(test_what_runs_in_the_turn_of_a_begin_is_not_in_it),
        TEST(test_whose_turn_it_is_behind_an_end),
        TEST(test_what_waits_behind_an_end_that_is_canceled),
        TEST(test_one_that_is_begun_in_the_turn_of_an_end),
        TEST(test_a_canceled_begin_is_its_own_affair),
        TEST(test_a_failed_begin_is_its_own_affair),
        TEST(test_an_outer_one_that_ends_before_the_begin_is_sent),
        TEST(test_a_begin_that_the_server_refuses),
        TEST(test_the_end_of_an_inner_one_that_is_canceled),
        TEST(test_an_end_that_is_canceled_before_it_is_sent),
        TEST(test_one_that_was_born_canceled),
        TEST(test_as_many_as_may_be_and_all_let_go),
        TEST(test_scopes_that_end),
        TEST(test_a_session_that_breaks),
        TEST(test_a_deadline_tightens_the_servers_limit),
        TEST(test_without_a_limit_of_its_own_a_session_gets_one),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
