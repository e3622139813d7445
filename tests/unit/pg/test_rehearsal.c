/* Goal: before anybody is served it is known which declared statements the server refuses with the
 *       schema as it is, and that is told apart from what passes: no server, one that is lost, one
 *       that takes too long; and whoever cancels hears nothing. */
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/rehearsal.h"
#include "pg/transaction.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pg_server server;
static struct pg_world world;
static struct pg_rehearsal *rehearsal;

/* What was told. */
static struct {
    char problem[512];
    enum err err;
    uint32_t count;
} told;

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    if (!server.is_missing)
        (void)pg_server_run(&server, "create table books (id int, title text)");
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
    memset(&told, 0, sizeof told);
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

static void on_told(void *data, struct pg_rehearsal *which, enum err err, const char *problem)
{
    assert_ptr_equal(data, &told);
    assert_ptr_equal(which, rehearsal);
    told.err = err;
    snprintf(told.problem, sizeof told.problem, "%s", problem);
    told.count++;
}

/* A pool that opens no session of its own. */
static void make_pool(void)
{
    world.pool = pg_pool_create(world.loop, world.helpers, "test", &world.options);
}

static void declare_as(const char *name, const char *sql, uint32_t flags)
{
    const struct pg_statement *statement;

    assert_int_equal(pg_pool_declare(world.pool, name, sql, flags, &statement), ERR_OK);
}

static void declare(const char *name, const char *sql)
{
    declare_as(name, sql, 0);
}

static void start(void)
{
    rehearsal = pg_rehearsal_start(world.pool, on_told, &told);
    assert_int_equal(told.count, 0);
}

static void rehearse(enum err err, const char *problem)
{
    start();
    run_until_count(world.loop, &told.count, 1);
    assert_string_equal(told.problem, problem);
    assert_int_equal(told.err, err);
    run_turns(world.loop, 5);
    assert_int_equal(told.count, 1);
}

static void test_what_is_right_is_accepted(void **state)
{
    char name[16];

    (void)state;
    pg_server_need(&server);
    make_pool();
    declare("find", "select title from books where id = $1");
    declare("add", "insert into books values ($1, $2)");
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "many%d", i);
        declare(name, "select id, title from books where title like $1");
    }
    rehearse(ERR_OK, "");
    assert_string_equal(pg_server_run(&server, "select count(*) from books"), "0");
}

static void test_what_is_for_transactions_is_tried_outside_of_one(void **state)
{
    static const char *const texts[] = {
        "lock table books",
        "savepoint mine",
        "rollback to mine",
        "set local lock_timeout = 100",
        "do $$ begin perform 1; end $$",
        "declare c cursor for select title from books",
        "fetch c",
        "close c",
        "create temp table made (a int) on commit drop",
        "select title into temp made from books",
    };
    char name[16];

    (void)state;
    pg_server_need(&server);
    make_pool();
    for (uint32_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        snprintf(name, sizeof name, "s%u", i);
        declare_as(name, texts[i], i % 2 == 0 ? PG_BINARY : 0);
    }
    rehearse(ERR_OK, "");
}

static void test_columns_of_binary_rows_are_looked_at(void **state)
{
    (void)state;
    pg_server_need(&server);
    make_pool();
    declare_as("fine", "select id, title from books where id = $1", PG_BINARY);
    declare_as("none", "insert into books values ($1, $2)", PG_BINARY);
    declare("text", "select interval '1 day' took");
    rehearse(ERR_OK, "");
    memset(&told, 0, sizeof told);
    declare_as("took", "select 1 a, interval '1 day' took", PG_BINARY);
    declare_as("wrong", "select no_such_column", PG_BINARY);
    declare_as("late", "select 1", PG_BINARY);
    rehearse(ERR_DB,
             "statement took is refused: column took is of a type (1186) that is not read in "
             "binary form: cast it (::text), or ask for text; so are 1 other statements");
}

static void test_without_statements_the_server_is_enough(void **state)
{
    (void)state;
    pg_server_need(&server);
    make_pool();
    rehearse(ERR_OK, "");
}

static void test_what_is_refused_is_named(void **state)
{
    (void)state;
    pg_server_need(&server);
    make_pool();
    declare("good", "select title from books");
    declare("wrong", "select titel from books");
    declare("good_too", "select 1");
    rehearse(ERR_DB, "statement wrong is refused: column \"titel\" does not exist (42703)");
}

static void test_the_others_are_counted(void **state)
{
    (void)state;
    pg_server_need(&server);
    make_pool();
    declare("first", "select * from nowhere");
    declare("good", "select 1");
    declare("second", "selct");
    declare("third", "select $1 + $2");
    rehearse(ERR_DB, "statement first is refused: relation \"nowhere\" does not exist (42P01); "
                     "so are 2 other statements");
}

static void test_a_pooler_s_session_will_do(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.is_prepared = false;
    make_pool();
    declare("wrong", "select titel from books");
    rehearse(ERR_DB, "statement wrong is refused: column \"titel\" does not exist (42703)");
}

static void test_no_server_is_no_refusal(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.port++;
    make_pool();
    declare("wrong", "select titel from books");
    start();
    run_until_count(world.loop, &told.count, 1);
    assert_int_equal(told.err, ERR_DB_DOWN);
    assert_non_null(strstr(told.problem, "No such file"));
}

/* Another session keeps the table from everybody. */
static struct pg_transaction *lock_books(void)
{
    struct op *begin, *op;

    pg_world_start(&world);
    begin = pg_begin(world.scope, world.pool, 0);
    assert_int_equal(pg_world_await(&world, begin), ERR_OK);
    op = pg_query_start(world.scope, &(struct pg_call){.transaction = pg_transaction_of(begin),
                                                       .sql = SPAN("lock table books")});
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    declare("waits", "select title from books");
    return pg_transaction_of(begin);
}

/* Until so many backends wait for it. */
static void until_wait(const char *count)
{
    while (strcmp(pg_server_run(&server, "select count(*) from pg_locks where not granted"),
                  count) != 0)
        loop_turn(world.loop, 10);
}

static void test_one_that_takes_too_long_is_no_refusal(void **state)
{
    (void)state;
    pg_server_need(&server);
    (void)lock_books();
    world.options.connect_timeout_ms = 300;
    rehearse(ERR_DB_DOWN, "statement waits could not be tried: the server took too long to answer");
}

static void test_a_lock_that_is_given_back_in_time(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    pg_server_need(&server);
    transaction = lock_books();
    start();
    until_wait("1");
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    run_until_count(world.loop, &told.count, 1);
    assert_int_equal(told.err, ERR_OK);
}

static void test_a_session_that_is_lost_is_no_refusal(void **state)
{
    (void)state;
    pg_server_need(&server);
    (void)lock_books();
    start();
    until_wait("1");
    (void)pg_server_run(&server,
                        "select pg_terminate_backend(pid) from pg_locks where not granted");
    run_until_count(world.loop, &told.count, 1);
    assert_int_equal(told.err, ERR_DB_DOWN);
    assert_non_null(strstr(told.problem, "statement waits could not be tried: "));
}

static void test_a_cancel_while_it_connects(void **state)
{
    uint32_t files = open_fds();

    (void)state;
    pg_server_need(&server);
    make_pool();
    start();
    pg_rehearsal_cancel(rehearsal);
    while (helpers_pending(world.helpers) > 0)
        loop_turn(world.loop, 10);
    assert_int_equal(told.count, 0);
    assert_int_equal(open_fds(), files);
    pg_rehearsal_cancel(NULL);
}

static void test_a_cancel_while_it_prepares(void **state)
{
    (void)state;
    pg_server_need(&server);
    (void)lock_books();
    start();
    until_wait("1");
    pg_rehearsal_cancel(rehearsal);
    until_wait("0"); /* its session was closed: client_connection_check_interval */
    assert_int_equal(told.count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_right_is_accepted),
        TEST(test_what_is_for_transactions_is_tried_outside_of_one),
        TEST(test_columns_of_binary_rows_are_looked_at),
        TEST(test_without_statements_the_server_is_enough),
        TEST(test_what_is_refused_is_named),
        TEST(test_the_others_are_counted),
        TEST(test_a_pooler_s_session_will_do),
        TEST(test_no_server_is_no_refusal),
        TEST(test_one_that_takes_too_long_is_no_refusal),
        TEST(test_a_lock_that_is_given_back_in_time),
        TEST(test_a_session_that_is_lost_is_no_refusal),
        TEST(test_a_cancel_while_it_connects),
        TEST(test_a_cancel_while_it_prepares),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
