/* Goal: a plan that is out of date, lost, or in the way of a name that is taken costs a run, and
 *       nobody notices: alone it is run again, in a transaction the whole is, once, however many
 *       plans and sessions there are. What may have been executed and have committed something is
 *       never run again. However long a transaction lasts, the server's plans are bounded. */
#include "base/mem.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/private.h"

#include <stdio.h>
#include <string.h>

enum { STATEMENTS = 3 };

static struct pg_server server;
static struct pg_world world;
static const struct pg_statement *statements[STATEMENTS];

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "create table runs (n int)");
    (void)pg_server_run(&server,
                        "create procedure commits_and_raises(code text) language plpgsql as $$ "
                        "begin insert into runs values (1); commit; "
                        "raise exception 'raised' using errcode = code; end $$");
    (void)pg_server_run(&server, "create procedure commits_and_executes() language plpgsql as $$ "
                                 "begin insert into runs values (1); commit; "
                                 "execute 'execute nothing_of_this_name'; end $$");
    (void)pg_server_run(&server, "create procedure commits() language plpgsql as $$ "
                                 "begin insert into runs values (1); commit; end $$");
    (void)pg_server_run(
        &server,
        "create procedure takes_names() language plpgsql as $$ begin for i in 1 .. 100 loop if not "
        "exists (select from pg_prepared_statements where name = 'w' || i) then execute 'prepare "
        "w' || i || ' as select ''taken'''; end if; end loop; end $$");
    (void)pg_server_run(&server, "create procedure deallocates_all() language plpgsql "
                                 "as $$ begin execute 'deallocate all'; end $$");
    (void)pg_server_run(&server, "create function raises(code text) returns int language plpgsql "
                                 "as $$ begin raise exception 'raised' using errcode = code; "
                                 "end $$");
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
    (void)pg_server_run(&server, "truncate runs; drop table if exists plans; "
                                 "create table plans (a int); insert into plans values (1)");
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

static void start(void)
{
    pg_world_start(&world);
    for (int i = 0; i < STATEMENTS; i++) {
        char name[32], sql[64];

        (void)snprintf(name, sizeof name, "plans%d", i);
        (void)snprintf(sql, sizeof sql, "select * from plans where a > %d", i - STATEMENTS);
        assert_int_equal(pg_pool_declare(world.pool, name, sql, 0, &statements[i]), ERR_OK);
    }
}

static void change_the_schema(void)
{
    (void)pg_server_run(&server, "alter table plans add b text default 'new'");
}

static struct pg_transaction *begin(void)
{
    struct op *op = pg_begin(world.scope, world.pool, 0);

    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    return pg_transaction_of(op);
}

static struct op *await_on(struct pg_transaction *transaction, const char *sql)
{
    struct op *op = pg_query_start(
        world.scope, &(struct pg_call){.transaction = transaction, .sql = span_of(sql)});

    (void)pg_world_await(&world, op);
    return op;
}

/* All statements, up to the first that fails. */
static enum err run_all(struct pg_transaction *transaction)
{
    for (int i = 0; i < STATEMENTS; i++) {
        const struct pg_call call = {.transaction = transaction, .statement = statements[i]};
        enum err err = pg_world_await(&world, pg_query_start(world.scope, &call));

        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

/* As weft_transact() does; *failures is how often it was told to run again. */
static void transact(uint32_t *failures)
{
    struct pg_transaction *transaction = begin();
    enum err err = run_all(transaction);

    for (*failures = 0; err == ERR_DB_RETRY && *failures < 10; ++*failures) {
        assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
        transaction = begin();
        err = run_all(transaction);
    }
    assert_int_equal(err, ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
}

static void expect_runs(const char *count)
{
    assert_string_equal(pg_server_run(&server, "select count(*) from runs"), count);
}

static void deallocate_all(void)
{
    pg_world_run(&world, "call deallocates_all()");
}

/* In a transaction */

static void test_a_transaction_with_plans_out_of_date_is_run_again_once(void **state)
{
    enum { SESSIONS = 4 };
    struct pg_transaction *transactions[SESSIONS];
    uint32_t failures;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = SESSIONS + 1; /* one is left to the others */
    start();
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < SESSIONS; i++)
            transactions[i] = begin();
        for (int i = 0; i < SESSIONS; i++) {
            assert_int_equal(run_all(transactions[i]), ERR_OK);
            assert_int_equal(pg_world_await(&world, pg_commit(transactions[i])), ERR_OK);
        }
        if (round == 0)
            change_the_schema();
        transact(&failures);
        assert_int_equal(failures, round == 0 ? 1 : 0);
    }
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static void test_a_transaction_whose_plans_the_server_has_lost(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start();
    pg_world_run(&world, "select 1");
    transaction = begin();
    assert_int_equal(await_on(transaction, "insert into runs values (1)")->status, ERR_OK);
    (void)await_on(transaction, "do $$ begin execute 'deallocate all'; end $$");
    op = await_on(transaction, "select 1");
    assert_int_equal(op->status, ERR_DB_RETRY);
    assert_string_equal(pg_sqlstate(op).ptr, "26000");
    assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
    transaction = begin();
    assert_int_equal(await_on(transaction, "insert into runs values (1)")->status, ERR_OK);
    pg_world_check(await_on(transaction, "select 1"), "1");
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    expect_runs("1");
}

/* BEGIN and COMMIT are prepared, too. */
static void test_neither_begin_nor_commit_is_lost_for_good(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start();
    transaction = begin();
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    deallocate_all();
    assert_int_equal(pg_world_await(&world, pg_begin(world.scope, world.pool, 0)), ERR_DB_RETRY);
    transaction = begin();
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    transaction = begin();
    assert_int_equal(await_on(transaction, "insert into runs values (1)")->status, ERR_OK);
    (void)await_on(transaction, "do $$ begin execute 'deallocate all'; end $$");
    op = pg_commit(transaction);
    assert_int_equal(pg_world_await(&world, op), ERR_DB_RETRY);
    assert_false(pg_maybe_applied(op));
    expect_runs("0");
    transaction = begin();
    assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
    transaction = begin();
    (void)await_on(transaction, "do $$ begin execute 'deallocate all'; end $$");
    assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

/* The same of a transaction in another one, which goes on where it is rolled back. */
static void test_nor_is_a_savepoint(void **state)
{
    struct pg_transaction *outer, *inner;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start();
    outer = begin();
    assert_int_equal(await_on(outer, "insert into runs values (1)")->status, ERR_OK);
    op = pg_begin_nested(world.scope, outer);
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    inner = pg_transaction_of(op);
    (void)await_on(inner, "do $$ begin execute 'deallocate all'; end $$");
    assert_int_equal(pg_world_await(&world, pg_rollback(inner)), ERR_OK);
    op = pg_begin_nested(world.scope, outer);
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    inner = pg_transaction_of(op);
    assert_int_equal(await_on(inner, "insert into runs values (2)")->status, ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_commit(inner)), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_commit(outer)), ERR_OK);
    expect_runs("2");
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

/* All names that the session would give next. */
static void take_the_names(void)
{
    pg_world_run(&world, "call takes_names()");
}

static void test_a_name_that_is_taken(void **state)
{
    struct pg_transaction *transaction;
    uint32_t failures;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start();
    take_the_names();
    pg_world_check(pg_world_run(&world, "select 'a'"), "a");
    assert_int_equal(pg_pool_counts(world.pool)->run_again, 1);
    transaction = NULL;
    op = pg_begin(world.scope, world.pool, 0);
    assert_int_equal(pg_world_await(&world, op), ERR_DB_RETRY);
    assert_string_equal(pg_sqlstate(op).ptr, "42P05");
    transact(&failures);
    assert_int_equal(failures, 0);
    take_the_names();
    transaction = begin();
    op = await_on(transaction, "select 'b'");
    assert_int_equal(op->status, ERR_DB_RETRY);
    assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
    transaction = begin();
    pg_world_check(await_on(transaction, "select 'b'"), "b");
}

/* By a function of its own: running it again would not help. */
static void test_what_raises_it_by_itself_fails_in_a_transaction(void **state)
{
    static const char *const codes[] = {"0A000", "26000", "42P05"};

    (void)state;
    pg_server_need(&server);
    start();
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct pg_transaction *transaction = begin();
        char sql[64];
        struct op *op;

        (void)snprintf(sql, sizeof sql, "select raises('%s')", codes[i]);
        op = await_on(transaction, sql);
        assert_int_equal(op->status, ERR_DB);
        assert_string_equal(pg_sqlstate(op).ptr, codes[i]);
        assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
    }
}

/* Alone */

static void expect_one_run(const char *sql, const char *sqlstate)
{
    struct op *op;

    (void)pg_server_run(&server, "truncate runs");
    op = pg_world_start_sql(&world, sql, 0, NULL);
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    if (strcmp(pg_sqlstate(op).ptr, sqlstate) != 0)
        fail_msg("%s: %s", sql, pg_sqlstate(op).ptr);
    expect_runs("1");
}

static void test_what_has_committed_is_never_run_twice(void **state)
{
    (void)state;
    pg_server_need(&server);
    start();
    for (int i = 0; i < 2; i++) {
        expect_one_run("call commits_and_raises('0A000')", "0A000");
        expect_one_run("call commits_and_raises('26000')", "26000");
        expect_one_run("call commits_and_raises('42P05')", "42P05");
        expect_one_run("call commits_and_executes()", "26000");
    }
    assert_int_equal(pg_pool_counts(world.pool)->run_again, 0);
}

/* What was not executed yet is run again all the same. */
static void test_a_call_whose_plan_was_lost_runs_once(void **state)
{
    (void)state;
    pg_server_need(&server);
    start();
    pg_world_run(&world, "call commits()");
    expect_runs("1");
    deallocate_all();
    pg_world_run(&world, "call commits()");
    expect_runs("2");
    assert_int_equal(pg_pool_counts(world.pool)->run_again, 1);
}

/* Bounds */

static void test_a_long_transaction_leaves_few_plans(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start();
    transaction = begin();
    for (int i = 0; i < 400; i++) {
        char sql[64];

        (void)snprintf(sql, sizeof sql, "select %d", i);
        op = await_on(transaction, sql);
        assert_int_equal(pg_int(op, 0, 0), i);
    }
    op = await_on(transaction, "select count(*) from pg_prepared_statements");
    assert_true(pg_int(op, 0, 0) > PG_AD_HOC_MAX);
    assert_true(pg_int(op, 0, 0) <= PG_AD_HOC_MAX + PG_STALE_MAX);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    pg_world_run(&world, "select 1");
    op = pg_world_run(&world, "select count(*) from pg_prepared_statements");
    assert_true(pg_int(op, 0, 0) <= PG_AD_HOC_MAX + 1 + PG_CLEANING_STEPS);
}

/* A statement of so many bytes, which selects the number. */
static void run_long(int number, int bytes)
{
    char *sql = mem_format("select %8d%*s", number, bytes - (int)sizeof "select" - 8, "");

    assert_int_equal(strlen(sql), bytes);
    assert_int_equal(pg_int(pg_world_run(&world, sql), 0, 0), number);
    mem_free(sql);
    pg_world_renew(&world);
}

static int64_t ask(const char *sql)
{
    return pg_int(pg_world_run(&world, sql), 0, 0);
}

static void test_texts_are_bounded_in_bytes_as_well(void **state)
{
    static const char bytes[] = "select coalesce(sum(length(statement)), 0) "
                                "from pg_prepared_statements where statement ~ '^select +[0-9]'";

    (void)state;
    pg_server_need(&server);
    start();
    for (int round = 0; round < 2; round++)
        run_long(round, PG_AD_HOC_TEXT_MAX + 1);
    assert_int_equal(ask(bytes), 0); /* too long, however often */
    for (int i = 0; i < PG_AD_HOC_MAX; i++)
        run_long(i, PG_AD_HOC_TEXT_MAX);
    assert_true(ask(bytes) <= PG_AD_HOC_BYTES_MAX);
    assert_true(ask(bytes) > PG_AD_HOC_BYTES_MAX - 2 * PG_AD_HOC_TEXT_MAX);
    for (int i = 0; i < PG_AD_HOC_MAX; i++)
        run_long(i, PG_AD_HOC_TEXT_MAX / 2);
    for (int i = 0; i < 4; i++)
        run_long(i, PG_AD_HOC_TEXT_MAX / 4); /* room for some, not for all */
    for (int i = 0; i < 4; i++)
        run_long(0, PG_AD_HOC_TEXT_MAX); /* one goes for each run, until it has room */
    assert_int_equal(ask("select count(*) from pg_prepared_statements "
                         "where length(statement) = 16384"),
                     1);
    assert_true(ask(bytes) <= PG_AD_HOC_BYTES_MAX);
    for (int i = 0; i < PG_AD_HOC_MAX; i++)
        run_long(i, 32);
    assert_true(ask(bytes) <= 32 * PG_AD_HOC_MAX); /* those that were used last */
    assert_int_equal(pg_pool_counts(world.pool)->run_again, 0);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static void run_guarded(const struct pg_statement *reads)
{
    struct op *op =
        pg_query_start(world.scope, &(struct pg_call){.pool = world.pool, .statement = reads});

    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    pg_world_check(op, "1");
}

/* The guard, too, is prepared anew where all names were let go of. */
static void test_a_guard_is_renewed_with_the_rest(void **state)
{
    const struct pg_statement *reads;
    uint32_t failures;

    (void)state;
    pg_server_need(&server);
    start();
    assert_int_equal(pg_pool_declare(world.pool, "reads", "select 1", PG_READ_ONLY, &reads),
                     ERR_OK);
    run_guarded(reads);
    transact(&failures);
    assert_int_equal(ask("select count(*) from pg_prepared_statements "
                         "where statement ~ '^select where set_config'"),
                     1);
    change_the_schema();
    transact(&failures);
    assert_int_equal(failures, 1);
    for (int i = 0; i < 2; i++)
        run_guarded(reads);
    assert_int_equal(pg_pool_counts(world.pool)->run_again, 0);
}

/* Two reads that are not prepared, in one turn or one after the other, with a guard that the server
 * has no longer, or cannot have since its name is taken. */
static void expect_guard(const char *breaking, bool is_together)
{
    static char sql[PG_AD_HOC_TEXT_MAX + 64];
    const struct pg_call call = {
        .pool = world.pool, .sql = {sql, sizeof sql - 1}, .flags = PG_READ_ONLY};
    uint64_t run_again = pg_pool_counts(world.pool)->run_again;
    struct op *ops[2];

    (void)snprintf(sql, sizeof sql, "select 'well'%*s", (int)(sizeof sql - 1 - 13), "");
    for (int i = 0; i < 2; i++)
        assert_int_equal(pg_world_await(&world, pg_query_start(world.scope, &call)), ERR_OK);
    pg_world_run(&world, breaking);
    for (int i = 0; i < 2; i++) {
        ops[i] = pg_query_start(world.scope, &call);
        if (!is_together)
            (void)pg_world_await(&world, ops[i]);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
        pg_world_check(ops[i], "well");
    }
    assert_int_equal(pg_pool_counts(world.pool)->run_again - run_again, is_together ? 2 : 1);
    assert_int_equal(pg_pool_counts(world.pool)->failed, 0);
}

/* What it guards is not told of it: neither where that has a plan nor where it has none. */
static void test_a_guard_that_the_server_has_lost_is_nobodys_error(void **state)
{
    (void)state;
    pg_server_need(&server);
    start();
    expect_guard("call deallocates_all()", false);
    expect_guard("call deallocates_all( )", true); /* has a plan of its own */
}

/* Its first name, and the next one. */
static void test_a_guard_whose_name_is_taken_is_nobodys_error(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start();
    take_the_names();
    op = pg_query_start(
        world.scope,
        &(struct pg_call){.pool = world.pool, .sql = SPAN("select 'well'"), .flags = PG_READ_ONLY});
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    pg_world_check(op, "well");
    assert_int_equal(pg_pool_counts(world.pool)->run_again, 1);
}

/* Renewed, it still guards. */
static void test_who_runs_again_for_its_guard_cannot_write(void **state)
{
    struct pg_call call = {.sql = SPAN("insert into runs values (1)"), .flags = PG_READ_ONLY};
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start();
    call.pool = world.pool;
    for (int i = 0; i < 2; i++) {
        op = pg_query_start(world.scope, &call);
        assert_int_equal(pg_world_await(&world, op), ERR_DB);
        assert_string_equal(pg_sqlstate(op).ptr, "25006");
        if (i == 0)
            deallocate_all();
    }
    assert_int_equal(pg_pool_counts(world.pool)->run_again, 1);
    expect_runs("0");
}

/* As often as a savepoint can be rolled back to. */
static void test_plans_that_get_out_of_date_in_a_transaction(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start();
    transaction = begin();
    for (int i = 0; i < PG_STALE_MAX + 4; i++) {
        char sql[64];

        assert_int_equal(await_on(transaction, "savepoint s")->status, ERR_OK);
        assert_int_equal(await_on(transaction, "select * from plans")->status, ERR_OK);
        (void)snprintf(sql, sizeof sql, "alter table plans add b%d int", i);
        assert_int_equal(await_on(transaction, sql)->status, ERR_OK);
        assert_int_equal(await_on(transaction, "select * from plans")->status, ERR_DB_RETRY);
        assert_int_equal(await_on(transaction, "rollback to s")->status, ERR_OK);
    }
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    pg_world_run(&world, "select 1");
    op = pg_world_run(&world, "select count(*) from pg_prepared_statements");
    assert_true(pg_int(op, 0, 0) <= 2 + PG_CLEANING_STEPS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_transaction_with_plans_out_of_date_is_run_again_once),
        TEST(test_a_transaction_whose_plans_the_server_has_lost),
        TEST(test_neither_begin_nor_commit_is_lost_for_good),
        TEST(test_nor_is_a_savepoint),
        TEST(test_a_name_that_is_taken),
        TEST(test_what_raises_it_by_itself_fails_in_a_transaction),
        TEST(test_what_has_committed_is_never_run_twice),
        TEST(test_a_call_whose_plan_was_lost_runs_once),
        TEST(test_a_long_transaction_leaves_few_plans),
        TEST(test_texts_are_bounded_in_bytes_as_well),
        TEST(test_a_guard_is_renewed_with_the_rest),
        TEST(test_a_guard_that_the_server_has_lost_is_nobodys_error),
        TEST(test_a_guard_whose_name_is_taken_is_nobodys_error),
        TEST(test_who_runs_again_for_its_guard_cannot_write),
        TEST(test_plans_that_get_out_of_date_in_a_transaction),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
