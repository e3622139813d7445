/* Goal: a pool gives every statement an answer within its limits: sessions are opened as needed,
 *       the queue is bounded in length and time, what is prepared is found again and renewed,
 *       those that share a Sync never feel it, and whatever becomes of the server, the pool
 *       recovers without help. */
#include "lib/loop_driver.h"
#include "lib/pg_fixture.h"
#include "lib/test.h"
#include "pg/private.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const struct pg_statement *declare(const char *name, const char *sql, uint32_t flags)
{
    const struct pg_statement *statement = NULL;

    assert_int_equal(pg_pool_declare(world.pool, name, sql, flags, &statement), ERR_OK);
    return statement;
}

static struct op *start(const struct pg_statement *statement)
{
    return pg_query_start(world.scope,
                          &(struct pg_call){.pool = world.pool, .statement = statement});
}

static struct op *start_int(const struct pg_statement *statement, int64_t number)
{
    const struct pg_value value = pg_world_int(number);

    return pg_query_start(
        world.scope, &(struct pg_call){
                         .pool = world.pool, .statement = statement, .values = &value, .count = 1});
}

static enum err await(struct op *op)
{
    return pg_world_await(&world, op);
}

/* The processes of the pool's sessions are told to end. */
static void kill_sessions(void)
{
    (void)pg_server_run(&server, "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                                 "where application_name = 'weft'");
}

/* Sessions */

static void test_a_session_is_set_up_as_the_options_say(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.statement_timeout_ms = 1234;
    assert_int_equal(world.options.idle_transaction_timeout_ms, 60000);
    world.options.idle_transaction_timeout_ms = 7100;
    pg_world_start(&world);
    pg_world_check(pg_world_run(&world, "show statement_timeout"), "1234ms");
    pg_world_check(pg_world_run(&world, "show client_connection_check_interval"), "2s");
    pg_world_check(pg_world_run(&world, "show idle_in_transaction_session_timeout"), "7100ms");
    pg_world_check(pg_world_run(&world, "show application_name"), "weft");
    pg_world_check(pg_world_run(&world, "show client_encoding"), "UTF8");
}

static void test_a_conninfo_may_say_more(void **state)
{
    char conninfo[512];

    (void)state;
    pg_server_need(&server);
    (void)snprintf(conninfo, sizeof conninfo,
                   "host=127.0.0.1 port=%s user=%s dbname=%s password=%s sslmode=disable "
                   "application_name=mine options='-c search_path=elsewhere'",
                   server.port, server.user, server.dbname, server.password);
    pg_world_set(&world.options.conninfo, conninfo);
    pg_world_set(&world.options.host, "");
    pg_world_start(&world);
    pg_world_check(pg_world_run(&world, "show application_name"), "mine");
    pg_world_check(pg_world_run(&world, "show search_path"), "elsewhere");
    pg_world_check(pg_world_run(&world, "show statement_timeout"), "5s");
}

static void test_tcp_with_a_password(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_world_set(&world.options.host, "127.0.0.1");
    pg_world_set(&world.options.password, server.password);
    pg_world_start(&world);
    pg_world_check(pg_world_run(&world, "select inet_server_addr() is not null"), "t");
}

/* Starts a pool that can open no session, and expects a statement to end so. */
static void expect_down(void)
{
    struct op *op;

    world.options.queue_timeout_ms = 300;
    world.pool = pg_pool_create(world.loop, world.helpers, "test", &world.options);
    pg_pool_start(world.pool);
    world.scope = scope_create(world.tasks, NULL, NULL, 0);
    op = pg_world_start_sql(&world, "select 1", 0, NULL);
    assert_int_equal(await(op), ERR_DB_DOWN);
    assert_string_equal(world.scope->reason, "pg_down");
    assert_false(pg_maybe_applied(op));
}

static void test_a_wrong_password_is_no_session(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_world_set(&world.options.host, "127.0.0.1");
    pg_world_set(&world.options.password, "wrong");
    expect_down();
    for (int i = 0; i < 2000 && counts()->sessions_refused < 2; i++)
        loop_turn(world.loop, 10);
    assert_true(counts()->sessions_refused > 1); /* it tried again */
    assert_int_equal(counts()->sessions, 0);
}

static void test_no_server_is_no_session(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_world_set(&world.options.host, "/nonexistent");
    expect_down();
}

static void test_a_server_that_says_nothing_is_given_up(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof addr;
    char conninfo[64];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    pg_server_need(&server);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, size), 0);
    assert_int_equal(listen(fd, 5), 0); /* and never accepts */
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &size), 0);
    (void)snprintf(conninfo, sizeof conninfo, "hostaddr=127.0.0.1 port=%u user=x",
                   ntohs(addr.sin_port));
    pg_world_set(&world.options.conninfo, conninfo);
    pg_world_set(&world.options.host, "");
    world.options.connect_timeout_ms = 50;
    expect_down();
    assert_true(counts()->sessions_refused > 0);
    close_fd(&fd);
}

static void test_sessions_are_opened_as_needed(void **state)
{
    struct op *ops[20];

    (void)state;
    pg_server_need(&server);
    world.options.depth_max = 1;
    pg_world_start(&world);
    assert_int_equal(counts()->sessions, 1);
    pg_world_run(&world, "select 1");
    for (int i = 0; i < 20; i++)
        ops[i] = pg_world_start_sql(&world, "select pg_sleep(0.02)", 0, NULL);
    for (int i = 0; i < 20; i++)
        assert_int_equal(await(ops[i]), ERR_OK);
    assert_int_equal(counts()->sessions, 4);
    assert_int_equal(counts()->sessions_opened, 4);
}

static void test_huge_buffers_are_not_kept(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    pg_world_run(&world, "select repeat('x', 100) from generate_series(1, 30000)");
    assert_int_equal(counts()->sessions_opened, 1);
    for (int i = 0; i < 400 && counts()->sessions_opened < 2; i++)
        loop_turn(world.loop, 10);
    assert_int_equal(counts()->sessions_opened, 2);
    assert_int_equal(counts()->sessions_lost, 0);
    pg_world_check(pg_world_run(&world, "select 1"), "1");
}

/* The queue */

static void test_a_full_queue_refuses(void **state)
{
    struct op *ops[11];

    (void)state;
    pg_server_need(&server);
    world.options.queue_max = 10;
    pg_world_start(&world);
    for (int i = 0; i < 11; i++)
        ops[i] = pg_world_start_sql(&world, "select 1", 0, NULL);
    assert_int_equal(ops[10]->status, ERR_DB_BUSY);
    assert_string_equal(world.scope->reason, "pg_queue_full");
    assert_int_equal(counts()->refused, 1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(await(ops[i]), ERR_OK);
}

static void test_who_waits_too_long_is_refused(void **state)
{
    struct op *slow, *waiting;

    (void)state;
    pg_server_need(&server);
    world.options.queue_timeout_ms = 100;
    world.options.sessions_max = 1;
    pg_world_start(&world);
    slow = pg_world_start_sql(&world, "select pg_sleep(0.4)", 0, NULL);
    run_for(world.loop, 20); /* its session's head is old by now */
    waiting = pg_world_start_sql(&world, "select 1", 0, NULL);
    assert_int_equal(await(waiting), ERR_DB_BUSY);
    assert_string_equal(world.scope->reason, "pg_queue_timeout");
    assert_int_equal(slow->state, OP_PENDING);
    assert_int_equal(await(slow), ERR_OK);
}

static void test_so_is_who_waits_for_a_session_of_his_own(void **state)
{
    struct op *holding, *waiting[2];

    (void)state;
    pg_server_need(&server);
    world.options.queue_timeout_ms = 100;
    world.options.sessions_max = 1;
    pg_world_start(&world);
    holding = pg_begin(world.scope, world.pool, 0);
    assert_int_equal(await(holding), ERR_OK);
    waiting[0] = pg_begin(world.scope, world.pool, 0);
    waiting[1] = pg_query_start(
        world.scope,
        &(struct pg_call){.pool = world.pool, .sql = SPAN("select 1"), .flags = PG_SLOW});
    for (int i = 0; i < 2; i++) {
        assert_int_equal(await(waiting[i]), ERR_DB_BUSY);
        assert_string_equal(world.scope->reason, "pg_queue_timeout");
    }
    assert_int_equal(await(pg_commit(pg_transaction_of(holding))), ERR_OK);
}

static void test_slow_statements_are_kept_off_the_others(void **state)
{
    const struct pg_statement *slow;
    struct op *ops[6], *quick;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    slow = declare("slow", "select pg_sleep(0.3)", PG_SLOW);
    for (int i = 0; i < 6; i++)
        ops[i] = start(slow);
    for (int i = 0; i < 20; i++) {
        quick = pg_world_start_sql(&world, "select 1", 0, NULL);
        assert_int_equal(await(quick), ERR_OK);
    }
    assert_int_equal(ops[5]->state, OP_PENDING);
    for (int i = 0; i < 6; i++)
        assert_int_equal(await(ops[i]), ERR_OK);
}

static void test_what_proves_slow_is_treated_so(void **state)
{
    const struct pg_statement *slow;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 2;
    pg_world_start(&world);
    slow = declare("slow", "select pg_sleep(0.05)", PG_READ_ONLY);
    for (int i = 0; i < 4; i++)
        assert_int_equal(await(start(slow)), ERR_OK);
    op = start(slow);
    pg_world_until_sessions(&world, 2);
    assert_int_equal(await(pg_world_start_sql(&world, "select 1", 0, NULL)), ERR_OK);
    assert_int_equal(await(op), ERR_OK);
}

/* What is prepared */

static void test_declared_and_ad_hoc_are_prepared_once(void **state)
{
    const struct pg_statement *statement;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    statement = declare("double", "select 2 * $1::int", PG_READ_ONLY);
    assert_string_equal(pg_statement_name(statement), "double");
    for (int i = 0; i < 10; i++) {
        struct op *op = start_int(statement, i);

        assert_int_equal(await(op), ERR_OK);
        assert_int_equal(pg_int(op, 0, 0), 2 * i);
        pg_world_run(&world, "select 'ad hoc'");
    }
    /* The two, the guard, and this one. */
    pg_world_check(pg_world_run(&world, "select count(*) from pg_prepared_statements"), "4");
}

static void test_ad_hoc_texts_are_bounded(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    for (int i = 0; i < 300; i++) {
        char sql[32];

        (void)snprintf(sql, sizeof sql, "select %d", i);
        op = pg_world_run(&world, sql);
        assert_int_equal(pg_int(op, 0, 0), i);
    }
    op = pg_world_run(&world, "select count(*) from pg_prepared_statements");
    assert_true(pg_int(op, 0, 0) <= 257);
    pg_world_check(pg_world_run(&world, "select 0"), "0");
}

static void test_a_plan_out_of_date_is_renewed(void **state)
{
    const struct pg_statement *statement;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    (void)pg_server_run(&server, "drop table if exists plans; create table plans (a int);"
                                 "insert into plans values (1)");
    pg_world_start(&world);
    statement = declare("plans", "select * from plans", PG_READ_ONLY);
    op = start(statement);
    assert_int_equal(await(op), ERR_OK);
    assert_int_equal(pg_columns(op), 1);
    pg_world_run(&world, "select * from plans");
    (void)pg_server_run(&server, "alter table plans add b text default 'new'");
    op = start(statement);
    assert_int_equal(await(op), ERR_OK);
    assert_int_equal(pg_columns(op), 2);
    op = pg_world_run(&world, "select * from plans");
    assert_string_equal(pg_text(op, 0, 1).ptr, "new");
    assert_int_equal(counts()->run_again, 2);
    assert_int_equal(await(start(statement)), ERR_OK);
    pg_world_run(&world, "select * from plans");
    assert_int_equal(counts()->run_again, 2);
    /* Those that were of no use any more are gone: guard, declared, ad hoc, and this one. */
    pg_world_check(pg_world_run(&world, "select count(*) from pg_prepared_statements"), "4");
}

static void test_what_the_server_has_lost_is_prepared_anew(void **state)
{
    const struct pg_statement *statement;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "create procedure deallocates_all() language plpgsql "
                                 "as $$ begin execute 'deallocate all'; end $$");
    world.options.sessions_max = 1;
    pg_world_start(&world);
    statement = declare("one", "select 1", PG_READ_ONLY);
    assert_int_equal(await(start(statement)), ERR_OK);
    pg_world_run(&world, "call deallocates_all()");
    assert_int_equal(await(start(statement)), ERR_OK);
    assert_int_equal(await(start(statement)), ERR_OK);
    pg_world_run(&world, "call deallocates_all()");
    pg_world_check(pg_world_run(&world, "select 'still'"), "still");
}

static void test_without_preparing(void **state)
{
    const struct pg_statement *statement;
    struct op *ops[20];

    (void)state;
    pg_server_need(&server);
    world.options.is_prepared = false;
    pg_world_start(&world);
    statement = declare("double", "select 2 * $1::int", PG_READ_ONLY);
    for (int i = 0; i < 20; i++)
        ops[i] = start_int(statement, i);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(await(ops[i]), ERR_OK);
        assert_int_equal(pg_int(ops[i], 0, 0), 2 * i);
    }
    pg_world_check(pg_world_run(&world, "select count(*) from pg_prepared_statements"), "0");
    pg_world_check(pg_world_run(&world, "show statement_timeout"), "0");
}

static void test_declaring_refuses_what_running_would(void **state)
{
    const struct pg_statement *statement = NULL;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    assert_int_equal(pg_pool_declare(world.pool, "a", "set x = 1", 0, &statement), ERR_INVALID);
    assert_int_equal(pg_pool_declare(world.pool, "a", "savepoint weft_s1", 0, &statement),
                     ERR_INVALID);
    assert_null(statement);
    (void)declare("a", "select 1", 0);
    assert_int_equal(pg_pool_declare(world.pool, "a", "select 2", 0, &statement), ERR_EXISTS);
}

/* Sharing a Sync */

/* A turn of many, some of which fail; each gets its own answer. */
static void divide_by_many(const struct pg_statement *divide)
{
    enum { COUNT = 200 };
    struct op *ops[COUNT];

    for (int i = 0; i < COUNT; i++)
        ops[i] = start_int(divide, i % 50 == 10 ? 0 : i + 1);
    for (int i = 0; i < COUNT; i++) {
        if (i % 50 == 10) {
            assert_int_equal(await(ops[i]), ERR_DB);
            assert_string_equal(pg_sqlstate(ops[i]).ptr, "22012");
        } else {
            assert_int_equal(await(ops[i]), ERR_OK);
            assert_int_equal(pg_int(ops[i], 0, 0), 100 / (i + 1));
        }
    }
}

static void test_those_that_share_do_not_feel_it(void **state)
{
    const struct pg_statement *divide;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.depth_max = 200;
    pg_world_start(&world);
    divide = declare("divide", "select 100 / $1::int", PG_READ_ONLY);
    for (int i = 0; i < 3; i++)
        assert_int_equal(await(start_int(divide, 1)), ERR_OK);
    /* On a machine that is busy elsewhere it may take a while to prove short. */
    for (int i = 0; i < 50 && counts()->run_again == 0; i++)
        divide_by_many(divide);
    assert_true(counts()->run_again > 0);
    assert_true(counts()->syncs < counts()->statements);
    assert_int_equal(counts()->sessions_lost, 0);
}

/* So that its neighbours' errors are never told to it, however unlucky it is. */
static void test_the_last_run_has_no_neighbours(void **state)
{
    const struct pg_statement *divide;
    bool had_its_own = false;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    divide = declare("divide", "select 100 / $1::int", PG_READ_ONLY);
    for (int i = 0; i < 3; i++)
        assert_int_equal(await(start_int(divide, 1)), ERR_OK);
    for (int i = 0; i < 50 && !had_its_own; i++) { /* until the two share a Sync */
        struct op *wrong = start_int(divide, 0), *unlucky = start_int(divide, 1);

        pg_query_of(unlucky)->aborted_count = 1;
        assert_int_equal(await(wrong), ERR_DB);
        assert_int_equal(await(unlucky), ERR_OK);
        had_its_own = pg_query_of(unlucky)->wants_own;
    }
    assert_true(had_its_own);
}

static void test_a_wrong_declaration_is_refused(void **state)
{
    const struct pg_statement *statement;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "drop table if exists wrong; create table wrong (a int)");
    pg_world_start(&world);
    statement = declare("wrong", "insert into wrong values (1)", PG_READ_ONLY);
    for (int i = 0; i < 2; i++) {
        op = start(statement);
        assert_int_equal(await(op), ERR_DB);
        assert_string_equal(pg_sqlstate(op).ptr, "25006");
    }
    pg_world_run(&world, "insert into wrong values (2)"); /* and the session is as before */
    assert_string_equal(pg_server_run(&server, "select sum(a) from wrong"), "2");
}

/* Faults */

static void test_idle_sessions_that_end_are_replaced(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    pg_world_run(&world, "select 1");
    kill_sessions();
    for (int i = 0; i < 400 && counts()->sessions_opened < 2; i++)
        loop_turn(world.loop, 10);
    assert_true(counts()->sessions_lost > 0);
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

/* However often all are lost, as many as may be are opened again when they are needed. */
static void test_all_that_were_lost_can_be_had_again(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.depth_max = 1;
    world.options.queue_timeout_ms = 20000;
    pg_world_start(&world);
    for (uint32_t round = 0; round < 3; round++) {
        struct op *ops[4];

        for (int i = 0; i < 4; i++)
            ops[i] = pg_world_start_sql(&world, "select pg_sleep(60)", 0, NULL);
        pg_world_until_sessions(&world, 4);
        assert_int_equal(counts()->sessions, 4);
        for (int i = 0; i < 4; i++)
            op_cancel(ops[i]);
        kill_sessions();
        for (int i = 0; i < 2000 && counts()->sessions_lost < 4 * (round + 1); i++)
            loop_turn(world.loop, 10);
        assert_int_equal(counts()->sessions_lost, 4 * (round + 1));
        pg_world_renew(&world);
    }
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

static void test_a_session_that_breaks_answers_for_what_runs(void **state)
{
    const struct pg_statement *reads;
    struct op *writes[2], *read, *queued;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "drop table if exists lost; create table lost (a int)");
    world.options.sessions_max = 1;
    world.options.depth_max = 3;
    pg_world_start(&world);
    reads = declare("reads", "select 1", PG_READ_ONLY);
    writes[0] = pg_world_start_sql(&world, "insert into lost select 1 from pg_sleep(5)", 0, NULL);
    writes[1] = pg_world_start_sql(&world, "insert into lost values (2)", 0, NULL);
    read = start(reads);
    queued = pg_world_start_sql(&world, "insert into lost values (3)", 0, NULL);
    run_turns(world.loop, 2);
    run_for(world.loop, 50);
    kill_sessions();
    assert_int_equal(await(writes[0]), ERR_DB_DOWN);
    assert_int_equal(await(writes[1]), ERR_DB_DOWN);
    assert_int_equal(await(read), ERR_DB_DOWN);
    assert_true(pg_maybe_applied(writes[0]));
    assert_true(pg_maybe_applied(writes[1]));
    assert_false(pg_maybe_applied(read));
    assert_string_equal(world.scope->reason, "pg_lost");
    assert_int_equal(await(queued), ERR_OK);
    assert_string_equal(pg_server_run(&server, "select string_agg(a::text, ',') from lost"), "3");
    assert_int_equal(counts()->sessions_lost, 1);
}

static void test_the_server_stops_and_starts(void **state)
{
    struct op *running, *waiting;

    (void)state;
    pg_server_need(&server);
    world.options.queue_timeout_ms = 200;
    pg_world_start(&world);
    running = pg_world_start_sql(&world, "select pg_sleep(10)", 0, NULL);
    run_turns(world.loop, 2);
    pg_server_stop(&server);
    assert_int_equal(await(running), ERR_DB_DOWN);
    waiting = pg_world_start_sql(&world, "select 1", 0, NULL);
    assert_int_equal(await(waiting), ERR_DB_DOWN);
    assert_string_equal(world.scope->reason, "pg_down");
    assert_int_equal(counts()->sessions, 0);
    pg_server_start(&server);
    pg_world_until_sessions(&world, 1);
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

static void test_who_waits_through_a_restart_is_served(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.queue_timeout_ms = 20000;
    pg_world_start(&world);
    pg_server_stop(&server);
    run_for(world.loop, 50);
    op = pg_world_start_sql(&world, "select 'patience'", 0, NULL);
    run_for(world.loop, 50);
    pg_server_start(&server);
    assert_int_equal(await(op), ERR_OK);
    pg_world_check(op, "patience");
}

static void test_a_backend_that_hangs_is_given_up(void **state)
{
    struct op *op, *next;
    int pid;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.statement_timeout_ms = 1; /* and the grace */
    world.options.queue_timeout_ms = 20000;
    pg_world_start(&world);
    pid = pg_session_backend(world.pool->sessions[0]);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    op = pg_world_start_sql(&world, "select 1", 0, NULL);
    run_for(world.loop, 20); /* its session's head is old by now */
    next = pg_world_start_sql(&world, "select 'next'", 0, NULL);
    assert_int_equal(await(op), ERR_DB_DOWN);
    assert_true(await(next) == ERR_OK || next->status == ERR_DEADLINE); /* within 1 ms? */
    assert_int_equal(kill(pid, SIGCONT), 0);
}

static void test_a_pool_can_go_while_it_opens_sessions(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.pool = pg_pool_create(world.loop, world.helpers, "test", &world.options);
    pg_pool_start(world.pool);
    pg_pool_destroy(world.pool);
    pg_pool_destroy(NULL);
    while (helpers_pending(world.helpers) > 0)
        loop_turn(world.loop, 10);
    world.pool = NULL;
}

/* Load */

/* Every write that was answered is known: applied, not applied, or maybe; afterwards the table must
 * agree with each. */
static void test_sessions_that_end_at_random_lose_nothing(void **state)
{
    enum { COUNT = 3000, KILL_EACH = 250 };
    const struct pg_statement *write, *read;
    struct op *writes[COUNT], *reads[COUNT];
    uint32_t fine = 0, lost = 0;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "drop table if exists ledger; create table ledger (a int unique)");
    world.options.queue_max = 10000;
    world.options.queue_timeout_ms = 20000;
    pg_world_start(&world);
    write = declare("write", "insert into ledger values ($1)", 0);
    read = declare("read", "select $1::int", PG_READ_ONLY);
    for (int i = 0; i < COUNT; i++) {
        writes[i] = start_int(write, i);
        reads[i] = start_int(read, i);
        if (i % 10 == 0)
            loop_turn(world.loop, 0);
        if (i % KILL_EACH == KILL_EACH - 1)
            kill_sessions();
    }
    for (int i = 0; i < COUNT; i++) {
        enum err err = await(writes[i]);
        char sql[64];
        bool is_there;

        (void)snprintf(sql, sizeof sql, "select count(*) from ledger where a = %d", i);
        is_there = pg_int(pg_world_run(&world, sql), 0, 0) == 1;
        assert_true(err == ERR_OK || err == ERR_DB_DOWN);
        assert_true(is_there || err != ERR_OK);
        assert_true(!is_there || err == ERR_OK || pg_maybe_applied(writes[i]));
        err = await(reads[i]);
        assert_true(err == ERR_OK || err == ERR_DB_DOWN);
        assert_false(pg_maybe_applied(reads[i]));
        fine += err == ERR_OK;
        lost += err != ERR_OK;
    }
    assert_true(counts()->sessions_lost > 0);
    assert_true(fine > COUNT / 2);
    print_message("%u of %u reads lost with %" PRIu64 " sessions\n", lost, COUNT,
                  counts()->sessions_lost);
}

/* Each failure doubles what a retry may wait at most, up to the seventh; how long it is is left to
 * chance, so that those that met do not meet again. */
static void test_a_retry_waits_for_longer_each_time(void **state)
{
    enum { DRAWS = 4000 };
    static const uint32_t most_ms[] = {10, 20, 40, 80, 160, 320, 640, 640, 640};

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (uint32_t i = 0; i < sizeof most_ms / sizeof most_ms[0]; i++) {
        uint32_t least = UINT32_MAX, most = 0, sum = 0;

        for (int draw = 0; draw < DRAWS; draw++) {
            uint32_t ms = pg_pool_back_off_ms(world.pool, i + 1);

            least = ms < least ? ms : least;
            most = ms > most ? ms : most;
            sum += ms;
        }
        assert_in_range(least, 1, 1 + most_ms[i] / 20);
        assert_in_range(most, most_ms[i] - most_ms[i] / 20, most_ms[i]);
        assert_in_range(sum / DRAWS, most_ms[i] * 45 / 100, most_ms[i] * 55 / 100 + 1);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, pg_set_up, pg_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_session_is_set_up_as_the_options_say),
        TEST(test_a_conninfo_may_say_more),
        TEST(test_tcp_with_a_password),
        TEST(test_a_wrong_password_is_no_session),
        TEST(test_no_server_is_no_session),
        TEST(test_a_server_that_says_nothing_is_given_up),
        TEST(test_sessions_are_opened_as_needed),
        TEST(test_huge_buffers_are_not_kept),
        TEST(test_a_full_queue_refuses),
        TEST(test_who_waits_too_long_is_refused),
        TEST(test_so_is_who_waits_for_a_session_of_his_own),
        TEST(test_slow_statements_are_kept_off_the_others),
        TEST(test_what_proves_slow_is_treated_so),
        TEST(test_declared_and_ad_hoc_are_prepared_once),
        TEST(test_ad_hoc_texts_are_bounded),
        TEST(test_a_plan_out_of_date_is_renewed),
        TEST(test_what_the_server_has_lost_is_prepared_anew),
        TEST(test_without_preparing),
        TEST(test_declaring_refuses_what_running_would),
        TEST(test_those_that_share_do_not_feel_it),
        TEST(test_the_last_run_has_no_neighbours),
        TEST(test_a_wrong_declaration_is_refused),
        TEST(test_idle_sessions_that_end_are_replaced),
        TEST(test_all_that_were_lost_can_be_had_again),
        TEST(test_a_session_that_breaks_answers_for_what_runs),
        TEST(test_the_server_stops_and_starts),
        TEST(test_who_waits_through_a_restart_is_served),
        TEST(test_a_backend_that_hangs_is_given_up),
        TEST(test_a_pool_can_go_while_it_opens_sessions),
        TEST(test_sessions_that_end_at_random_lose_nothing),
        TEST(test_a_retry_waits_for_longer_each_time),
    };
#undef TEST

    return cmocka_run_group_tests(tests, pg_start_tcp_server, pg_stop_server);
}
