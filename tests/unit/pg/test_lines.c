/* Goal: a pool's lines are fair: who is run again for another one's fault waits anew, before all
 *       others and without keeping anybody; who wants a session of his own gets one however steady
 *       the load of those who share is, and the other way round; so is a session renewed that is
 *       old; who could not be sent goes elsewhere. */
#include "lib/loop_driver.h"
#include "lib/pg_fixture.h"
#include "lib/test.h"
#include "pg/private.h"
#include "pg/transaction.h"

#include <libpq-fe.h>
#include <sys/socket.h>

static int tear_down(void **state)
{
    (void)state;
    if (server.is_missing)
        return 0;
    (void)pg_server_run_as(&server, "postgres", "alter role weft login");
    pg_world_deinit(&world);
    return 0;
}

static void start(uint32_t sessions)
{
    world.options.sessions_max = sessions;
    world.options.statement_timeout_ms = 0;
    world.options.queue_timeout_ms = 10000;
    world.options.result_max = 1024 * 1024;
    pg_world_start(&world);
}

/* Ends its session, since more comes than result_max; in several pieces, whatever the speed. */
static struct op *start_flood(void)
{
    return pg_world_start_sql(&world,
                              "select repeat('x', 2 * 1024 * 1024), pg_sleep(0.2) "
                              "from generate_series(1, 10)",
                              0, NULL);
}

static struct op *start_reading(const char *sql)
{
    return pg_query_start(
        world.scope,
        &(struct pg_call){.pool = world.pool, .sql = span_of(sql), .flags = PG_READ_ONLY});
}

/* That its neighbour took long, and then ended the session, is not its fault. */
static void test_who_is_run_again_waits_anew(void **state)
{
    struct op *flood, *read;

    (void)state;
    pg_server_need(&server);
    start(1);
    flood = start_flood();
    read = start_reading("select 'read'");
    run_turns(world.loop, 1);
    pg_world_jump(&world, 11000); /* longer than it may wait in a line */
    assert_int_equal(pg_world_await(&world, flood), ERR_DB);
    assert_int_equal(pg_world_await(&world, read), ERR_OK);
    pg_world_check(read, "read");
    assert_int_equal(counts()->run_again, 1);
}

/* Who stands before others, but began to wait later, does not keep them; and waits no longer than
 * everybody. */
static void test_who_is_run_again_keeps_nobody(void **state)
{
    struct op *flood, *again, *waiting;

    (void)state;
    pg_server_need(&server);
    start(1);
    (void)pg_server_run_as(&server, "postgres", "alter role weft nologin");
    flood = start_flood();
    again = start_reading("select 'again'");
    run_turns(world.loop, 1);
    run_for(world.loop, 20);
    waiting = pg_world_start_sql(&world, "select 'waiting'", 0, NULL);
    pg_world_jump(&world, 6000);
    assert_int_equal(pg_world_await(&world, flood), ERR_DB);
    assert_int_equal(counts()->run_again, 1);
    pg_world_jump(&world, 5000);
    assert_int_equal(waiting->status, ERR_DB_DOWN);
    assert_int_equal(again->state, OP_PENDING);
    pg_world_jump(&world, 6000);
    assert_int_equal(again->status, ERR_DB_DOWN);
}

/* Time stands still, so that no session seems to be held up, and each of them has more to do
 * whenever something ends: none is ever idle, unless it gets nothing new. */
static void test_who_wants_a_session_gets_one_under_steady_load(void **state)
{
    enum { AT_ONCE = 20, ENDS_MAX = 300 };
    struct op *ops[AT_ONCE], *wants;

    (void)state;
    pg_server_need(&server);
    start(2);
    pg_world_run(&world, "select 1");
    pg_world_until_sessions(&world, 2);
    pg_world_stand_still(&world);
    for (int i = 0; i < AT_ONCE; i++)
        ops[i] = start_reading("select pg_sleep(0.02)");
    run_turns(world.loop, 1);
    wants = pg_begin(world.scope, world.pool, 0);
    for (int ends = 0; ends < ENDS_MAX && wants->state == OP_PENDING;) {
        run_turns(world.loop, 1);
        for (int i = 0; i < AT_ONCE; i++) {
            if (ops[i]->state == OP_PENDING)
                continue;
            ops[i] = start_reading("select pg_sleep(0.02)");
            ends++;
        }
    }
    pg_world_go_on(&world);
    assert_int_not_equal(wants->state, OP_PENDING);
    assert_int_equal(wants->status, ERR_OK);
}

/* One is open and others stand in line, whatever has ended. */
static void test_who_shares_is_served_under_steady_transactions(void **state)
{
    enum { AT_ONCE = 3, ENDS_MAX = 30 };
    struct op *begins[AT_ONCE], *reads;
    int ends = 0;

    (void)state;
    pg_server_need(&server);
    start(1);
    pg_world_run(&world, "select 1");
    pg_world_stand_still(&world);
    for (int i = 0; i < AT_ONCE; i++)
        begins[i] = pg_begin(world.scope, world.pool, 0);
    run_turns(world.loop, 1);
    reads = start_reading("select 1");
    while (ends < ENDS_MAX && reads->state == OP_PENDING) {
        run_turns(world.loop, 1);
        for (int i = 0; i < AT_ONCE; i++) {
            if (begins[i]->state == OP_PENDING)
                continue;
            assert_int_equal(begins[i]->status, ERR_OK);
            (void)pg_commit(pg_transaction_of(begins[i]));
            begins[i] = pg_begin(world.scope, world.pool, 0);
            ends++;
        }
    }
    pg_world_go_on(&world);
    assert_int_equal(pg_world_await(&world, reads), ERR_OK);
    assert_true(ends <= AT_ONCE + 1); /* those who came before, and who took its place */
}

static bool is_open(uint32_t number)
{
    for (uint32_t i = 0; i < world.pool->counts.sessions; i++)
        if (world.pool->sessions[i]->number == number)
            return true;
    return false;
}

/* As above: none is ever idle, unless it gets nothing new. */
static void test_an_old_session_goes_under_steady_load(void **state)
{
    enum { AT_ONCE = 20, ENDS_MAX = 300 };
    struct op *ops[AT_ONCE];
    uint32_t old;

    (void)state;
    pg_server_need(&server);
    start(2);
    pg_world_run(&world, "select 1");
    pg_world_until_sessions(&world, 2);
    pg_world_stand_still(&world);
    for (int i = 0; i < AT_ONCE; i++)
        ops[i] = start_reading("select pg_sleep(0.02)");
    run_turns(world.loop, 1);
    old = world.pool->sessions[0]->number;
    world.pool->sessions[0]->expires_ms = loop_now_ms(world.loop);
    for (int ends = 0; ends < ENDS_MAX && is_open(old);) {
        run_turns(world.loop, 1);
        for (int i = 0; i < AT_ONCE; i++) {
            if (ops[i]->state == OP_PENDING)
                continue;
            assert_int_equal(ops[i]->status, ERR_OK);
            ops[i] = start_reading("select pg_sleep(0.02)");
            ends++;
        }
    }
    pg_world_go_on(&world);
    assert_false(is_open(old));
    assert_int_equal(counts()->sessions_lost, 0);
}

/* Sends fail on it, before anybody has been told. */
static void break_first_session(void)
{
    struct pg_session *session = world.pool->sessions[0];
    PGconn *conn = session->conn;

    assert_true(pg_session_is_idle(session));
    pg_session_pause(session);
    assert_int_equal(shutdown(PQsocket(conn), SHUT_RDWR), 0);
    for (int i = 0; i < 10 && PQstatus(conn) == CONNECTION_OK; i++)
        (void)PQconsumeInput(conn);
    assert_int_equal(PQstatus(conn), CONNECTION_BAD);
}

/* With two sessions, the one that is left, and no other to come. */
static void start_with_one_left(void)
{
    start(2);
    pg_world_run(&world, "select 1");
    pg_world_until_sessions(&world, 2);
    (void)pg_server_run_as(&server, "postgres", "alter role weft nologin");
    pg_world_stand_still(&world); /* the wait in the line does not end */
}

static void test_who_could_not_be_sent_goes_elsewhere(void **state)
{
    struct op *begins, *reads;

    (void)state;
    pg_server_need(&server);
    start_with_one_left();
    break_first_session();
    begins = pg_begin(world.scope, world.pool, 0);
    assert_int_equal(pg_world_await(&world, begins), ERR_OK);
    assert_int_equal(counts()->sessions_lost, 1);
    assert_int_equal(pg_world_await(&world, pg_rollback(pg_transaction_of(begins))), ERR_OK);
    reads = start_reading("select 'read'");
    assert_int_equal(pg_world_await(&world, reads), ERR_OK);
    pg_world_go_on(&world);
}

static struct op *start_declared(const struct pg_statement *statement)
{
    return pg_query_start(world.scope,
                          &(struct pg_call){.pool = world.pool, .statement = statement});
}

/* Those of one Sync. */
static void test_a_batch_that_could_not_be_sent_goes_elsewhere(void **state)
{
    const struct pg_statement *short_one;
    struct op *ops[3];

    (void)state;
    pg_server_need(&server);
    start_with_one_left();
    assert_int_equal(pg_pool_declare(world.pool, "short_one", "select 1", PG_READ_ONLY, &short_one),
                     ERR_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pg_world_await(&world, start_declared(short_one)), ERR_OK);
    break_first_session();
    for (int i = 0; i < 3; i++)
        ops[i] = start_declared(short_one);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
    assert_int_equal(counts()->sessions_lost, 1);
    pg_world_go_on(&world);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, pg_set_up_ahead, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_who_is_run_again_waits_anew),
        TEST(test_who_is_run_again_keeps_nobody),
        TEST(test_who_wants_a_session_gets_one_under_steady_load),
        TEST(test_who_shares_is_served_under_steady_transactions),
        TEST(test_an_old_session_goes_under_steady_load),
        TEST(test_who_could_not_be_sent_goes_elsewhere),
        TEST(test_a_batch_that_could_not_be_sent_goes_elsewhere),
    };
#undef TEST

    return cmocka_run_group_tests(tests, pg_start_server, pg_stop_server);
}
