/* Goal: of a name with several addresses one that is silent costs its connect_timeout, once, and
 *       the next one is tried; one that refuses connections costs nothing; and what a server
 *       answers to a login it has answered for all of them. */
#include "base/mem.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/hosts.h"
#include "pg/listen.h"
#include "pg/private.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct pg_server server;
static struct pg_world world;

/* The addresses of "db.test"; the last one is NULL. */
static const char *addresses[11];

int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);
int __real_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);

int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found)
{
    struct addrinfo **end = found;

    if (strcmp(name, "db.test") != 0)
        return __real_getaddrinfo(name, service, hints, found);
    for (uint32_t i = 0; addresses[i] != NULL; i++) {
        assert_int_equal(__real_getaddrinfo(addresses[i], service, hints, end), 0);
        end = &(*end)->ai_next;
    }
    return 0;
}

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "--tcp");
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
    mem_free(world.options.conninfo);
    world.options.conninfo =
        mem_format("host=db.test port=%s user=%s dbname=%s password=%s sslmode=disable",
                   server.port, server.user, server.dbname, server.password);
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

static void aim(const char *first, const char *second, const char *third)
{
    addresses[0] = first;
    addresses[1] = second;
    addresses[2] = third;
    addresses[3] = NULL;
}

/* Listens beside the server, and never answers: connections stay in the kernel's queue. */
static int listen_silently(const char *address)
{
    struct sockaddr_in own = {.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)atoi(server.port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    assert_int_equal(inet_pton(AF_INET, address, &own.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof own), 0);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static void test_the_address_behind_a_silent_one(void **state)
{
    int fd;

    (void)state;
    pg_server_need(&server);
    fd = listen_silently("127.0.0.2");
    aim("127.0.0.2", "127.0.0.1", NULL);
    world.options.connect_timeout_ms = 1000; /* the server itself needs some of that */
    pg_world_start(&world);
    pg_world_check(pg_world_run(&world, "select host(inet_server_addr())"), "127.0.0.1");
    (void)close(fd);
}

static void test_the_address_behind_one_that_refuses(void **state)
{
    (void)state;
    pg_server_need(&server);
    aim("127.0.0.3", "127.0.0.4", "127.0.0.1");
    pg_world_start(&world);
    pg_world_check(pg_world_run(&world, "select 'there'"), "there");
}

/* Somebody else beside the server, on a thread */

/* Answers each login with an error, or just goes. */
struct stranger {
    int fd;               /* listens */
    const char *sqlstate; /* of the error; "": the connection ends without a word */
    atomic_uint count;    /* of those who came */
    pthread_t thread;     /* answers them */
};

static void answer(int fd, const char *sqlstate)
{
    char text[] = "E\0\0\0\x17"
                  "SFATAL\0"
                  "C.....\0"
                  "Mno\0",
         hello[512];

    if (recv(fd, hello, sizeof hello, 0) <= 0 || sqlstate[0] == '\0')
        return;
    memcpy(text + 13, sqlstate, 5);
    (void)send(fd, text, sizeof text, MSG_NOSIGNAL);
}

static void *serve(void *data)
{
    struct stranger *stranger = data;
    int fd;

    while ((fd = accept(stranger->fd, NULL, NULL)) >= 0) {
        atomic_fetch_add(&stranger->count, 1);
        answer(fd, stranger->sqlstate);
        (void)close(fd);
    }
    return NULL;
}

static void stranger_start(struct stranger *stranger, const char *address, const char *sqlstate)
{
    *stranger = (struct stranger){.fd = listen_silently(address), .sqlstate = sqlstate};
    assert_int_equal(pthread_create(&stranger->thread, NULL, serve, stranger), 0);
}

/* How many came. */
static unsigned stranger_stop(struct stranger *stranger)
{
    (void)shutdown(stranger->fd, SHUT_RDWR);
    assert_int_equal(pthread_join(stranger->thread, NULL), 0);
    (void)close(stranger->fd);
    return stranger->count;
}

/* One attempt */

struct outcome {
    bool is_done;      /* `done` ran */
    bool is_there;     /* it was given a session */
    char address[64];  /* of whom it is */
    char problem[512]; /* or why not */
};

static void on_connected(void *data, struct pg_connect *connect, struct pg_conn *conn,
                         const char *problem)
{
    struct outcome *outcome = data;

    (void)connect;
    assert_false(outcome->is_done);
    outcome->is_done = true;
    outcome->is_there = conn != NULL;
    (void)snprintf(outcome->address, sizeof outcome->address, "%s",
                   conn != NULL ? PQhostaddr(conn) : "");
    (void)snprintf(outcome->problem, sizeof outcome->problem, "%s", problem);
    PQfinish(conn);
}

static struct outcome attempt(struct pg_addresses *known)
{
    struct outcome outcome = {.is_done = false};
    struct pg_wish wish = {.first = 0, .addresses = known};

    (void)pg_connect_start(world.helpers, &world.options, &wish, on_connected, &outcome);
    for (int i = 0; i < 100 * DRIVER_SECONDS && !outcome.is_done; i++)
        loop_turn(world.loop, 10);
    assert_true(outcome.is_done);
    return outcome;
}

/* "db.test", and then the server itself. */
static void add_a_second_host(void)
{
    mem_free(world.options.conninfo);
    world.options.conninfo =
        mem_format("host=db.test,127.0.0.1 port=%s user=%s dbname=%s password=%s sslmode=disable",
                   server.port, server.user, server.dbname, server.password);
}

/* It would be asked to no end at each address, and each attempt counts as a wrong password does. */
static void test_a_refusal_is_not_asked_for_again(void **state)
{
    static const char *const sqlstates[] = {"28P01", "28000", "3D000", "53300", "08P01"};

    (void)state;
    pg_server_need(&server);
    add_a_second_host();
    aim("127.0.0.2", "127.0.0.3", NULL);
    for (size_t i = 0; i < sizeof sqlstates / sizeof sqlstates[0]; i++) {
        struct stranger first, second;
        struct outcome outcome;

        stranger_start(&first, "127.0.0.2", sqlstates[i]);
        stranger_start(&second, "127.0.0.3", "");
        outcome = attempt(NULL);
        assert_int_equal(stranger_stop(&second), 0);
        assert_int_equal(stranger_stop(&first), 1);
        assert_false(outcome.is_there);
        assert_non_null(strstr(outcome.problem, sqlstates[i]));
        assert_null(strstr(outcome.problem, "; ")); /* nobody else was asked */
    }
}

static void test_nor_is_one_of_the_real_server(void **state)
{
    struct stranger second;
    struct outcome outcome;

    (void)state;
    pg_server_need(&server);
    mem_free(world.options.conninfo);
    world.options.conninfo = mem_format("host=db.test port=%s user=%s dbname=%s password=wrong "
                                        "target_session_attrs=prefer-standby",
                                        server.port, server.user, server.dbname);
    aim("127.0.0.1", "127.0.0.2", NULL);
    stranger_start(&second, "127.0.0.2", "");
    outcome = attempt(NULL);
    assert_int_equal(stranger_stop(&second), 0);
    assert_false(outcome.is_there);
    assert_non_null(strstr(outcome.problem, "28P01: password authentication failed"));
}

/* One that is just starting, or stopping: another server may be there, another address is not. */
static void test_not_now_leads_to_the_next_server(void **state)
{
    struct stranger first, second;
    struct outcome outcome;

    (void)state;
    pg_server_need(&server);
    add_a_second_host();
    aim("127.0.0.2", "127.0.0.3", NULL);
    stranger_start(&first, "127.0.0.2", "57P03");
    stranger_start(&second, "127.0.0.3", "");
    outcome = attempt(NULL);
    assert_int_equal(stranger_stop(&second), 0);
    assert_int_equal(stranger_stop(&first), 1);
    assert_true(outcome.is_there);
    assert_string_equal(outcome.address, "127.0.0.1");
}

/* What is known of the addresses */

/* The one that answered is where the next attempts begin, those of the session that listens, too:
 * that another one says nothing, they need not find out each for itself. */
static void test_what_has_not_answered_is_not_tried_again(void **state)
{
    struct stranger first;
    struct op *ops[4], *listening;

    (void)state;
    pg_server_need(&server);
    aim("127.0.0.2", "127.0.0.1", NULL);
    stranger_start(&first, "127.0.0.2", "");
    world.options.sessions_max = 4;
    pg_world_start(&world);
    assert_int_equal(atomic_load(&first.count), 1);
    for (int i = 0; i < 4; i++)
        ops[i] = pg_query_start(world.scope, &(struct pg_call){.pool = world.pool,
                                                               .sql = SPAN("select pg_sleep(0.2)"),
                                                               .flags = PG_SLOW});
    for (int i = 0; i < 4; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
    listening = pg_listen(world.scope, world.pool, "news");
    assert_int_equal(pg_world_await(&world, listening), ERR_OK);
    assert_true(pg_pool_counts(world.pool)->sessions_opened > 1);
    assert_int_equal(stranger_stop(&first), 1);
}

/* As after a failover behind the name. */
static void test_the_known_one_is_gone(void **state)
{
    struct stranger other;
    struct pg_addresses known = {.last = {"127.0.0.2"}};
    struct outcome outcome;

    (void)state;
    pg_server_need(&server);
    aim("127.0.0.3", "127.0.0.1", "127.0.0.2");
    stranger_start(&other, "127.0.0.2", "");
    outcome = attempt(&known);
    assert_int_equal(stranger_stop(&other), 1);
    assert_string_equal(outcome.address, "127.0.0.1");
    assert_string_equal(known.last[0], "127.0.0.1");
}

static void test_the_known_one_is_no_address_of_the_name(void **state)
{
    struct pg_addresses known = {.last = {"127.0.0.9"}};

    (void)state;
    pg_server_need(&server);
    aim("127.0.0.1", "127.0.0.2", NULL);
    assert_string_equal(attempt(&known).address, "127.0.0.1");
    assert_string_equal(known.last[0], ""); /* it is the first anyway */
}

/* Also beyond the number of those that are tried. */
static void test_the_known_one_is_the_last_of_many(void **state)
{
    struct pg_addresses known = {.last = {"127.0.0.1"}};
    struct outcome outcome;

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < 9; i++)
        addresses[i] = "127.0.0.3";
    addresses[9] = "127.0.0.1";
    addresses[10] = NULL;
    outcome = attempt(&known);
    assert_string_equal(outcome.address, "127.0.0.1");
    assert_string_equal(outcome.problem, ""); /* nobody was tried before it */
    assert_false(attempt(NULL).is_there);
}

/* Who says no is there all the same. */
static void test_who_refuses_a_login_is_known(void **state)
{
    struct stranger first, second;
    struct pg_addresses known = {.last = {""}};

    (void)state;
    pg_server_need(&server);
    aim("127.0.0.2", "127.0.0.3", NULL);
    stranger_start(&first, "127.0.0.2", "");
    stranger_start(&second, "127.0.0.3", "28P01");
    assert_false(attempt(&known).is_there);
    assert_string_equal(known.last[0], "127.0.0.3");
    assert_false(attempt(&known).is_there);
    assert_int_equal(stranger_stop(&second), 2);
    assert_int_equal(stranger_stop(&first), 1);
}

/* To cancel */

/* Where the statement runs, that is: the name's first address is not asked for it. */
static void test_a_cancel_goes_to_the_address_of_its_session(void **state)
{
    struct stranger first;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    aim("127.0.0.2", "127.0.0.1", NULL);
    stranger_start(&first, "127.0.0.2", "");
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    assert_int_equal(atomic_load(&first.count), 1);
    op = pg_world_start_sql(&world, "select pg_sleep(3600)", 0, NULL);
    while (pg_pool_counts(world.pool)->in_flight == 0)
        loop_turn(world.loop, 10);
    op_cancel(op);
    for (int i = 0; i < 100 * DRIVER_SECONDS && pg_pool_counts(world.pool)->in_flight > 0; i++)
        loop_turn(world.loop, 10);
    assert_int_equal(pg_pool_counts(world.pool)->in_flight, 0);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
    assert_int_equal(stranger_stop(&first), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_the_address_behind_a_silent_one),
        TEST(test_the_address_behind_one_that_refuses),
        TEST(test_a_refusal_is_not_asked_for_again),
        TEST(test_nor_is_one_of_the_real_server),
        TEST(test_not_now_leads_to_the_next_server),
        TEST(test_what_has_not_answered_is_not_tried_again),
        TEST(test_the_known_one_is_gone),
        TEST(test_the_known_one_is_no_address_of_the_name),
        TEST(test_the_known_one_is_the_last_of_many),
        TEST(test_who_refuses_a_login_is_known),
        TEST(test_a_cancel_goes_to_the_address_of_its_session),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
