/* Goal: statements of one turn that have a Sync each leave in one piece over TCP, as does what a
 *       transaction pipelines; a Unix socket works as ever, and a single statement is not held. */
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/cork.h"
#include "pg/private.h"
#include "pg/query.h"
#include "pg/session.h"
#include "pg/transaction.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WRITES = 20 };

static struct pg_server server;
static struct pg_world world;

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "--tcp");
    if (!server.is_missing)
        (void)pg_server_run(&server, "create table t (id int)");
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
    world.options.sessions_max = 1;
    world.options.depth_max = WRITES;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    return 0;
}

static void start_over_tcp(void)
{
    pg_world_set(&world.options.host, "127.0.0.1");
    pg_world_set(&world.options.password, server.password);
    pg_world_start(&world);
}

/* Pieces with bytes that have left through the socket. */
static uint32_t sent_by(int fd)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;

    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    return info.tcpi_data_segs_out;
}

static int session_fd(void)
{
    assert_int_equal(world.pool->counts.sessions, 1);
    return world.pool->sessions[0]->cork.fd;
}

static struct op *start_write(int id)
{
    struct pg_value value = pg_world_int(id);

    return pg_world_start_sql(&world, "insert into t values ($1::int)", 1, &value);
}

static void write_many(int count)
{
    struct op *ops[WRITES];

    for (int i = 0; i < count; i++)
        ops[i] = start_write(i);
    for (int i = 0; i < count; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
}

static void test_writes_of_a_turn_leave_in_one_piece(void **state)
{
    uint32_t before;

    (void)state;
    pg_server_need(&server);
    start_over_tcp();
    write_many(1);
    before = sent_by(session_fd());
    write_many(WRITES);
    assert_int_equal(sent_by(session_fd()) - before, 1);
    assert_false(world.pool->sessions[0]->cork.is_in);
    assert_string_equal(pg_server_run(&server, "select count(*) from t"), "21");
}

static void test_one_alone_is_not_held(void **state)
{
    uint32_t before;

    (void)state;
    pg_server_need(&server);
    start_over_tcp();
    write_many(1);
    before = sent_by(session_fd());
    for (int i = 0; i < 3; i++)
        write_many(1);
    assert_int_equal(sent_by(session_fd()) - before, 3);
}

static void test_what_a_transaction_pipelines_leaves_in_one_piece(void **state)
{
    struct pg_transaction *transaction;
    struct op *ops[WRITES];
    struct op *begin;
    uint32_t before;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 2; /* one is pinned */
    start_over_tcp();
    begin = pg_begin(world.scope, world.pool, 0);
    assert_int_equal(pg_world_await(&world, begin), ERR_OK);
    transaction = pg_transaction_of(begin);
    before = sent_by(transaction->session->cork.fd);
    for (int i = 0; i < WRITES; i++)
        ops[i] =
            pg_query_start(world.scope, &(struct pg_call){.transaction = transaction,
                                                          .sql = SPAN("insert into t values (1)")});
    for (int i = 0; i < WRITES; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
    assert_int_equal(sent_by(transaction->session->cork.fd) - before, 1);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    assert_string_equal(pg_server_run(&server, "select count(*) from t"), "20");
}

static void test_a_unix_socket_cannot_hold_and_is_not_asked_again(void **state)
{
    struct pg_cork *cork;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    write_many(WRITES);
    cork = &world.pool->sessions[0]->cork;
    assert_true(cork->is_refused);
    assert_false(cork->is_in);
    write_many(WRITES);
    assert_string_equal(pg_server_run(&server, "select count(*) from t"), "40");
}

/* The number may be a client's by then. */
static void test_a_socket_that_was_given_up_is_not_touched(void **state)
{
    socklen_t size = sizeof(int);
    struct pg_cork cork;
    int fds[2], is_in = 1;

    (void)state;
    pair_tcp(fds);
    pg_cork_init(&cork, fds[0]);
    pg_cork_push(&cork);
    assert_true(cork.is_in);
    pg_cork_deinit(&cork);
    pg_cork_pull(&cork);
    assert_int_equal(getsockopt(fds[0], IPPROTO_TCP, TCP_CORK, &is_in, &size), 0);
    assert_int_equal(is_in, 1);
    assert_int_equal(setsockopt(fds[0], IPPROTO_TCP, TCP_CORK, &(int){0}, sizeof(int)), 0);
    pg_cork_push(&cork);
    assert_int_equal(getsockopt(fds[0], IPPROTO_TCP, TCP_CORK, &is_in, &size), 0);
    assert_int_equal(is_in, 0);
    close_fd(&fds[0]);
    close_fd(&fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_socket_that_was_given_up_is_not_touched),
        cmocka_unit_test_setup_teardown(test_writes_of_a_turn_leave_in_one_piece, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_one_alone_is_not_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_a_transaction_pipelines_leaves_in_one_piece,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_unix_socket_cannot_hold_and_is_not_asked_again,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
