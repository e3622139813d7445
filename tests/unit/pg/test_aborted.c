/* Goal: once a statement has aborted its transaction, whatever stands behind it says whether that
 *       transaction is to be run again, as the statement itself did. */
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/copy.h"
#include "pg/transaction.h"

#include <stdio.h>

static struct pg_server server;
static struct pg_world world;

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "create table t (id int); create table lost (id int);"
                                 "create function lose() returns trigger language plpgsql as "
                                 "$$ begin raise exception using errcode = '40001'; end $$;"
                                 "create trigger lose before insert on lost for each row "
                                 "execute function lose()");
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

static struct pg_transaction *begin(void)
{
    struct op *op = pg_begin(world.scope, world.pool, 0);

    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    return pg_transaction_of(op);
}

static struct op *start_on(struct pg_transaction *transaction, const char *sql)
{
    return pg_query_start(world.scope,
                          &(struct pg_call){.transaction = transaction, .sql = span_of(sql)});
}

static enum err run_on(struct pg_transaction *transaction, const char *sql)
{
    return pg_world_await(&world, start_on(transaction, sql));
}

static const char raises[] = "do $$ begin raise exception using errcode = '%s'; end $$";

/* In one turn: what fails so, and what stands behind it. The second one's status. */
static enum err fail_and_go_on(struct pg_transaction *transaction, const char *sqlstate,
                               bool is_given_up)
{
    char sql[128];
    struct op *ops[3];

    (void)snprintf(sql, sizeof sql, raises, sqlstate);
    ops[0] = start_on(transaction, sql);
    ops[1] = start_on(transaction, "select 1");
    ops[2] = start_on(transaction, "insert into t values (1)");
    run_turns(world.loop, 1);
    if (is_given_up)
        op_cancel(ops[0]);
    for (int i = 0; i < 3; i++)
        (void)pg_world_await(&world, ops[i]);
    if (!is_given_up)
        assert_string_equal(pg_sqlstate(ops[0]).ptr, sqlstate);
    assert_string_equal(pg_sqlstate(ops[1]).ptr, "25P02");
    assert_int_equal(ops[1]->status, ops[2]->status);
    return ops[1]->status;
}

/* Who hands on the failure that he met last is told the same as who looks at the first one. */
static void test_what_stands_behind_fails_alike(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    for (int is_given_up = 0; is_given_up < 2; is_given_up++) {
        transaction = begin();
        assert_int_equal(fail_and_go_on(transaction, "40001", is_given_up), ERR_DB_RETRY);
        assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_DB_RETRY);
        transaction = begin();
        assert_int_equal(fail_and_go_on(transaction, "23505", is_given_up), ERR_DB);
        assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_DB);
    }
    transaction = begin();
    assert_int_equal(run_on(transaction, "savepoint a"), ERR_OK);
    assert_int_equal(fail_and_go_on(transaction, "40P01", false), ERR_DB_RETRY);
    assert_int_equal(run_on(transaction, "rollback to a"), ERR_OK);
    assert_int_equal(fail_and_go_on(transaction, "22012", false), ERR_DB);
    assert_int_equal(run_on(transaction, "rollback to a"), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
}

/* A COPY tells of its failure by its own ops. */
static void test_also_behind_a_copy(void **state)
{
    struct pg_transaction *transaction;
    struct op *copy, *end;

    (void)state;
    pg_server_need(&server);
    transaction = begin();
    copy = pg_copy_in(world.scope, &(struct pg_call){.transaction = transaction,
                                                     .sql = SPAN("copy lost from stdin"),
                                                     .is_copy = true});
    assert_int_equal(pg_world_await(&world, copy), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_copy_write(copy, SPAN("1\n"))), ERR_OK);
    end = pg_copy_end(copy);
    assert_int_equal(pg_world_await(&world, end), ERR_DB_RETRY);
    assert_int_equal(run_on(transaction, "select 1"), ERR_DB_RETRY);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_DB_RETRY);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_what_stands_behind_fails_alike),
        TEST(test_also_behind_a_copy),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
