/* Goal: of several servers the right one is found, in bounded time, and what is asked of one is not
 *       asked of another. */
#include "base/clock.h"
#include "base/mem.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/hosts.h"
#include "pg/listen.h"
#include "pg/private.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct pg_server servers[2];
static struct pg_world world;

/* Lists */

static void test_lists_are_taken_apart(void **state)
{
    char problem[INI_PROBLEM_SIZE];
    struct pg_hosts hosts = {.count = 0};

    (void)state;
    assert_true(pg_hosts_init(&hosts, "a,,/tmp", NULL, "1,2,3", problem));
    assert_int_equal(hosts.count, 3);
    assert_string_equal(hosts.list[0].host, "a");
    assert_string_equal(hosts.list[1].host, "");
    assert_string_equal(hosts.list[2].host, "/tmp");
    assert_string_equal(hosts.list[2].hostaddr, "");
    assert_string_equal(hosts.list[1].port, "2");
    pg_hosts_deinit(&hosts);
    pg_hosts_deinit(&hosts);
    assert_true(pg_hosts_init(&hosts, "a,b", "1.2.3.4,", "5", problem));
    assert_string_equal(hosts.list[0].hostaddr, "1.2.3.4");
    assert_string_equal(hosts.list[1].hostaddr, "");
    assert_string_equal(hosts.list[1].port, "5");
    pg_hosts_deinit(&hosts);
    assert_true(pg_hosts_init(&hosts, NULL, NULL, NULL, problem));
    assert_int_equal(hosts.count, 1);
    assert_string_equal(hosts.list[0].port, "");
    pg_hosts_deinit(&hosts);
}

static void test_lists_that_do_not_fit(void **state)
{
    static const struct {
        const char *host, *hostaddr, *port, *problem;
    } cases[] = {
        {"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", NULL, NULL, "17 hosts, expected at most 16"},
        {"a,b", "1.2.3.4", NULL, "2 in host and 1 in hostaddr"},
        {"a,b,c", NULL, "1,2", "2 ports for 3 hosts"},
        {NULL, NULL, "1,2", "2 ports for 1 hosts"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char problem[INI_PROBLEM_SIZE] = "";
        struct pg_hosts hosts = {.count = 0};

        assert_false(
            pg_hosts_init(&hosts, cases[i].host, cases[i].hostaddr, cases[i].port, problem));
        assert_non_null(strstr(problem, cases[i].problem));
        assert_int_equal(hosts.count, 0);
    }
}

/* Two servers */

static int start_servers(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        pg_server_init(&servers[i], "");
    return 0;
}

static int stop_servers(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        pg_server_deinit(&servers[i]);
    return 0;
}

static void be_read_only(int i, bool is_so)
{
    char sql[128];

    (void)snprintf(sql, sizeof sql, "alter role weft set default_transaction_read_only = %s",
                   is_so ? "on" : "off");
    (void)pg_server_run_as(&servers[i], "postgres", sql);
}

static int set_up(void **state)
{
    (void)state;
    if (servers[0].is_missing)
        return 0;
    if (!servers[0].is_running)
        pg_server_start(&servers[0]);
    be_read_only(0, false);
    be_read_only(1, false);
    pg_world_init(&world, &servers[0]);
    world.options.connect_timeout_ms = DRIVER_SECONDS * 1000;
    world.options.queue_timeout_ms = 20000;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!servers[0].is_missing)
        pg_world_deinit(&world);
    return 0;
}

/* Both of them, in this order, and what they are to be. */
static void aim(const char *target)
{
    pg_server_need(&servers[0]);
    mem_free(world.options.conninfo);
    world.options.conninfo =
        mem_format("host=%s,%s port=%s,%s user=%s dbname=%s target_session_attrs=%s",
                   servers[0].host, servers[1].host, servers[0].port, servers[1].port,
                   servers[0].user, servers[0].dbname, target);
}

/* Does the pool run on that server what it is given? */
static void expect_server(int i)
{
    static const char sql[] = "select pg_postmaster_start_time()";

    pg_world_check(pg_world_run(&world, sql), pg_server_run(&servers[i], sql));
}

static void test_the_first_that_is_there(void **state)
{
    (void)state;
    aim("any");
    pg_world_start(&world);
    expect_server(0);
    pg_server_stop(&servers[0]);
    for (int i = 0; i < 1000 && pg_pool_counts(world.pool)->sessions_lost == 0; i++)
        loop_turn(world.loop, 10);
    expect_server(1);
    pg_server_start(&servers[0]);
    expect_server(1); /* where it is, it stays */
}

static void test_the_one_that_takes_writes(void **state)
{
    (void)state;
    aim("read-write");
    be_read_only(0, true);
    pg_world_start(&world);
    expect_server(1);
}

/* A socket that listens and says nothing; its port. */
static int listen_silently(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static uint32_t count_accepted(int fd)
{
    uint32_t count = 0;
    int accepted;

    while ((accepted = accept(fd, NULL, NULL)) >= 0) {
        count++;
        (void)close(accepted);
    }
    return count;
}

/* It costs its time once; later attempts begin with the one that was there. */
static void test_one_that_hangs_keeps_nobody_from_the_next(void **state)
{
    int port, fd;
    struct op *ops[4];

    (void)state;
    pg_server_need(&servers[0]);
    fd = listen_silently(&port);
    mem_free(world.options.conninfo);
    world.options.conninfo =
        mem_format("host=127.0.0.1,%s port=%d,%s user=%s dbname=%s", servers[0].host, port,
                   servers[0].port, servers[0].user, servers[0].dbname);
    world.options.connect_timeout_ms = 1000; /* the server itself needs some of that */
    pg_world_start(&world);
    expect_server(0);
    assert_true(count_accepted(fd) > 0);
    world.options.connect_timeout_ms = DRIVER_SECONDS * 1000; /* it is not to seem silent, too */
    for (int i = 0; i < 4; i++)
        ops[i] = pg_query_start(world.scope, &(struct pg_call){.pool = world.pool,
                                                               .sql = SPAN("select pg_sleep(0.2)"),
                                                               .flags = PG_SLOW});
    for (int i = 0; i < 4; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
    assert_true(pg_pool_counts(world.pool)->sessions_opened > 1);
    assert_int_equal(count_accepted(fd), 0);
    (void)close(fd);
}

/* A failover */

static void make_table(void)
{
    for (int i = 0; i < 2; i++)
        (void)pg_server_run(&servers[i], "drop table if exists t");
    for (int i = 0; i < 2; i++)
        (void)pg_server_run(&servers[i], "create table t (a int)");
}

/* The first one is read only from now on, also for the session that there is, which is the only
 * one. */
static void demote(void)
{
    be_read_only(0, true);
    (void)pg_world_run(&world, "select set_config('default_transaction_read_only', 'on', false)");
}

static void test_writes_follow_the_writer(void **state)
{
    struct op *ops[40];

    (void)state;
    aim("read-write");
    make_table();
    world.options.sessions_max = 1;
    pg_world_start(&world);
    pg_world_run(&world, "insert into t values (0)");
    demote();
    for (int i = 0; i < 40; i++)
        ops[i] = pg_world_start_sql(&world, "insert into t values (1)", 0, NULL);
    for (int i = 0; i < 40; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
    expect_server(1);
    assert_string_equal(pg_server_run(&servers[1], "select count(*) from t"), "40");
    assert_string_equal(pg_server_run(&servers[0], "select count(*) from t"), "1");
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static struct pg_transaction *begin(uint32_t flags)
{
    struct op *op = pg_begin(world.scope, world.pool, flags);

    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    return pg_transaction_of(op);
}

static enum err run_in(struct pg_transaction *transaction, const char *sql)
{
    return pg_world_await(
        &world, pg_query_start(world.scope,
                               &(struct pg_call){.transaction = transaction, .sql = span_of(sql)}));
}

static enum err insert_in(struct pg_transaction *transaction)
{
    return run_in(transaction, "insert into t values (1)");
}

/* Its statements before may be of use no more: it is for its user to run it again. */
static void test_a_transaction_is_to_be_run_again(void **state)
{
    struct pg_transaction *transaction;

    (void)state;
    aim("read-write");
    make_table();
    world.options.sessions_max = 1;
    pg_world_start(&world);
    demote();
    transaction = begin(0);
    assert_int_equal(insert_in(transaction), ERR_DB_RETRY);
    assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
    transaction = begin(0);
    assert_int_equal(insert_in(transaction), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    assert_string_equal(pg_server_run(&servers[1], "select count(*) from t"), "1");
}

static void expect_none_has_moved(void)
{
    (void)pg_world_run(&world, "insert into t values (1)");
    expect_server(0);
    for (uint32_t i = 0; i < pg_pool_counts(world.pool)->sessions; i++)
        assert_false(world.pool->sessions[i]->load.is_taken);
}

/* Who has said that it only reads is refused, and nothing moves. */
static void test_a_wrong_declaration_moves_nothing(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    aim("read-write");
    make_table();
    pg_world_start(&world);
    op = pg_query_start(world.scope, &(struct pg_call){.pool = world.pool,
                                                       .sql = SPAN("insert into t values (1)"),
                                                       .flags = PG_READ_ONLY});
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    transaction = begin(PG_TX_READ_ONLY);
    assert_int_equal(insert_in(transaction), ERR_DB);
    pg_world_renew(&world);
    expect_none_has_moved();
}

/* Whatever has said so, and whenever: the server is the one that knows whether it takes writes. */
static void test_who_only_reads_by_own_will_moves_nothing(void **state)
{
    static const char *const texts[] = {
        "set transaction read only", "set local transaction_read_only to on",
        "select set_config('transaction_read_only', 'on', true)", "select only_read()"};
    struct pg_transaction *transaction;

    (void)state;
    aim("read-write");
    make_table();
    (void)pg_server_run(&servers[0],
                        "create or replace function only_read() returns void language plpgsql as "
                        "$$ begin set local transaction_read_only = on; end $$; "
                        "create or replace function contradict() returns void language plpgsql as "
                        "$$ begin perform only_read(); insert into t values (1); end $$");
    pg_world_start(&world);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        transaction = begin(0);
        assert_int_equal(run_in(transaction, texts[i]), ERR_OK);
        assert_int_equal(insert_in(transaction), ERR_DB);
        assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
        expect_none_has_moved();
    }
    assert_int_equal(
        pg_world_await(&world, pg_world_start_sql(&world, "select contradict()", 0, NULL)), ERR_DB);
    expect_none_has_moved();
}

/* A primary whose settings have it only read, for maintenance, is a primary: to open another
 * session would find it again, at each write. */
static void test_a_primary_that_only_reads_is_not_left(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    aim("primary");
    make_table();
    be_read_only(0, true);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    for (int i = 0; i < 3; i++) {
        op = pg_world_start_sql(&world, "insert into t values (1)", 0, NULL);
        assert_int_equal(pg_world_await(&world, op), ERR_DB);
        assert_string_equal(pg_sqlstate(op).ptr, "25006");
        transaction = begin(0);
        assert_int_equal(insert_in(transaction), ERR_DB);
        assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
        expect_server(0);
    }
    transaction = begin(0);
    assert_int_equal(run_in(transaction, "set transaction read write"), ERR_OK);
    assert_int_equal(insert_in(transaction), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_opened, 1);
    assert_int_equal(pg_pool_counts(world.pool)->run_again, 0);
}

/* Where nobody has asked for a writer, a server that only reads is what it is. */
static void test_without_an_aim_nothing_moves(void **state)
{
    struct op *op;

    (void)state;
    aim("any");
    make_table();
    be_read_only(0, true);
    pg_world_start(&world);
    op = pg_world_start_sql(&world, "insert into t values (1)", 0, NULL);
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    assert_string_equal(pg_sqlstate(op).ptr, "25006");
    expect_server(0);
}

/* Whoever listens hears the new one, and is told that there may have been more. */
static void test_who_listens_moves_too(void **state)
{
    struct op *listening, *pull;

    (void)state;
    aim("read-write");
    make_table();
    world.options.sessions_max = 1;
    pg_world_start(&world);
    listening = pg_listen(world.scope, world.pool, "news");
    assert_int_equal(pg_world_await(&world, listening), ERR_OK);
    demote();
    pull = pg_listen_next(listening);
    (void)pg_world_run(&world, "insert into t values (1)");
    assert_int_equal(pg_world_await(&world, pull), ERR_OK);
    assert_null(pull->piece.ptr);
    pull = pg_listen_next(listening);
    (void)pg_world_run(&world, "select pg_notify('news', 'from the new one')");
    assert_int_equal(pg_world_await(&world, pull), ERR_OK);
    assert_string_equal(pull->piece.ptr, "from the new one");
}

/* Cancels */

static const char running[] = "select count(*) from pg_stat_activity where state = 'active' and "
                              "query like 'select pg_sleep(97)%'";

enum { SLEEPERS = 24 }; /* that chance has all of them on one server is no case */

/* Sessions are spread over both; each victim is canceled where it is. */
static void cancel_on_both(void)
{
    struct scope *scope = scope_create(world.tasks, NULL, NULL, 0);
    uint64_t end_us;
    bool is_spread = false;

    for (int i = 0; i < SLEEPERS; i++)
        (void)pg_query_start(scope, &(struct pg_call){.pool = world.pool,
                                                      .sql = SPAN("select pg_sleep(97)"),
                                                      .flags = PG_SLOW});
    end_us = clock_monotonic_us() + 20000000;
    while (!is_spread && clock_monotonic_us() < end_us) {
        for (int i = 0; i < 10; i++)
            loop_turn(world.loop, 10);
        is_spread = atoi(pg_server_run(&servers[0], running)) > 0 &&
                    atoi(pg_server_run(&servers[1], running)) > 0;
    }
    scope_finish(scope, SCOPE_CLIENT_GONE);
    end_us = clock_monotonic_us() + 20000000;
    while (clock_monotonic_us() < end_us && (atoi(pg_server_run(&servers[0], running)) > 0 ||
                                             atoi(pg_server_run(&servers[1], running)) > 0))
        for (int i = 0; i < 10; i++)
            loop_turn(world.loop, 10);
    assert_true(is_spread);
    assert_string_equal(pg_server_run(&servers[0], running), "0");
    assert_string_equal(pg_server_run(&servers[1], running), "0");
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static void start_spread(void)
{
    aim("prefer-standby");
    world.options.sessions_max = SLEEPERS + 4;
    pg_world_start(&world);
}

static void test_a_cancel_finds_its_server(void **state)
{
    (void)state;
    pg_server_need(&servers[0]);
    start_spread();
    cancel_on_both();
}

/* The session that listens is one of theirs, and stays. */
static void test_who_listens_is_not_disturbed_by_that(void **state)
{
    struct op *listening, *pull;

    (void)state;
    pg_server_need(&servers[0]);
    start_spread();
    listening = pg_listen(world.scope, world.pool, "news");
    assert_int_equal(pg_world_await(&world, listening), ERR_OK);
    pull = pg_listen_next(listening);
    cancel_on_both();
    assert_int_equal(pull->state, OP_PENDING);
    for (int i = 0; i < 2; i++)
        (void)pg_server_run(&servers[i], "notify news, 'late'");
    assert_int_equal(pg_world_await(&world, pull), ERR_OK);
    assert_string_equal(pull->piece.ptr, "late");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists_are_taken_apart),
        cmocka_unit_test(test_lists_that_do_not_fit),
        TEST(test_the_first_that_is_there),
        TEST(test_the_one_that_takes_writes),
        TEST(test_one_that_hangs_keeps_nobody_from_the_next),
        TEST(test_writes_follow_the_writer),
        TEST(test_a_transaction_is_to_be_run_again),
        TEST(test_a_wrong_declaration_moves_nothing),
        TEST(test_who_only_reads_by_own_will_moves_nothing),
        TEST(test_a_primary_that_only_reads_is_not_left),
        TEST(test_without_an_aim_nothing_moves),
        TEST(test_who_listens_moves_too),
        TEST(test_a_cancel_finds_its_server),
        TEST(test_who_listens_is_not_disturbed_by_that),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
