/* Goal: a host and a port become a connected socket, or one reason why not, within the time that
 * was given; dead addresses delay live ones by a quarter of a second and no more; withdrawn in any
 * state nothing is left over. */
#include "base/check.h"
#include "lib/dns_server.h"
#include "lib/fault.h"
#include "lib/loop_driver.h"
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "net/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FULL_MAX = 6 };

/* A dial, names of its own, and one port on many loopback addresses: 127.0.0.1 answers, 127.0.0.2
 * refuses, 127.0.0.11 and on have full queues and say nothing. */
struct fixture {
    struct fake_clock clock;
    struct loop *loop;
    struct dns_server server;
    struct resolver *resolver;
    uint16_t port;
    int live;           /* listens */
    int dead;           /* bound, does not listen */
    int full[FULL_MAX]; /* listen, with nobody accepting */
    int fill[FULL_MAX]; /* the clients that fill their queues */
    struct dial dial;
    uint32_t count; /* times that `done` ran */
    enum err err;   /* what it got */
    int fd;         /* the same */
};

static int bind_to(const char *ip, uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct addr addr;

    assert_true(fd >= 0);
    assert_true(addr_from_ip(span_of(ip), port, &addr));
    assert_int_equal(bind(fd, (const struct sockaddr *)&addr.storage, addr.len), 0);
    return fd;
}

/* A socket whose queue of connections is full: further SYNs are dropped. */
static void fill_up(struct fixture *fixture, uint32_t index)
{
    char ip[16];
    struct addr addr;

    (void)snprintf(ip, sizeof ip, "127.0.0.%u", 11 + index);
    fixture->full[index] = bind_to(ip, fixture->port);
    assert_int_equal(listen(fixture->full[index], 0), 0);
    assert_true(addr_from_ip(span_of(ip), fixture->port, &addr));
    fixture->fill[index] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        connect(fixture->fill[index], (const struct sockaddr *)&addr.storage, addr.len), 0);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    struct addr addr;

    memset(&fixture, 0, sizeof fixture);
    fault_reset();
    fixture.loop = fake_clock_loop(&fixture.clock);
    dns_server_start(&fixture.server, fixture.loop);
    fixture.resolver = resolver_create(fixture.loop, fixture.server.servers);
    fixture.live = bind_to("127.0.0.1", 0);
    assert_int_equal(listen(fixture.live, 16), 0);
    assert_true(addr_of_socket(fixture.live, &addr));
    fixture.port = addr_port(&addr);
    fixture.dead = bind_to("127.0.0.2", fixture.port);
    for (uint32_t i = 0; i < FULL_MAX; i++)
        fill_up(&fixture, i);
    fixture.fd = -1;
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    fault_reset();
    dial_cancel(&fixture->dial);
    resolver_destroy(fixture->resolver);
    dns_server_stop(&fixture->server);
    close_fd(&fixture->fd);
    close_fd(&fixture->live);
    close_fd(&fixture->dead);
    for (uint32_t i = 0; i < FULL_MAX; i++) {
        close_fd(&fixture->full[i]);
        close_fd(&fixture->fill[i]);
    }
    loop_destroy(fixture->loop);
    return 0;
}

static void on_done(struct dial *dial, enum err err, int fd)
{
    struct fixture *fixture = CONTAINER_OF(dial, struct fixture, dial);

    assert_int_equal(err == ERR_OK, fd >= 0);
    fixture->count++;
    fixture->err = err;
    fixture->fd = fd;
}

static void begin(struct fixture *fixture, const char *host)
{
    const struct dial_target target = {
        .host = span_of(host), .port = fixture->port, .timeout_ms = 3000};

    fixture->count = 0;
    close_fd(&fixture->fd);
    dial_start(fixture->loop, fixture->resolver, &fixture->dial, &target, on_done);
    assert_int_equal(fixture->count, 0); /* never from inside the call */
}

/* Dials and waits; the error's name. */
static const char *dial_to(struct fixture *fixture, const char *host)
{
    begin(fixture, host);
    run_until_count(fixture->loop, &fixture->count, 1);
    return err_name(fixture->err);
}

static void assert_addr(struct fixture *fixture, const char *ip)
{
    char text[ADDR_TEXT_SIZE];

    (void)addr_format_host(&fixture->dial.addr, text);
    assert_string_equal(text, ip);
    assert_int_equal(addr_port(&fixture->dial.addr), fixture->port);
}

static void test_a_literal_address(void **state)
{
    struct fixture *fixture = *state;
    int no_delay = 0;
    socklen_t len = sizeof no_delay;

    assert_string_equal(dial_to(fixture, "127.0.0.1"), "ERR_OK");
    assert_addr(fixture, "127.0.0.1");
    assert_int_equal(fcntl(fixture->fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(fcntl(fixture->fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(getsockopt(fixture->fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &len), 0);
    assert_int_not_equal(no_delay, 0);
    run_turns(fixture->loop, 2);
    fake_clock_jump(&fixture->clock, fixture->loop, 10000);
    assert_int_equal(fixture->count, 1);
}

static void test_a_name(void **state)
{
    struct fixture *fixture = *state;

    dns_server_set(&fixture->server, "up.test", "127.0.0.1", 60);
    assert_string_equal(dial_to(fixture, "up.test"), "ERR_OK");
    assert_addr(fixture, "127.0.0.1");
    assert_string_equal(dial_to(fixture, "localhost"),
                        "ERR_OK"); /* ::1 refuses, or there is none */
    assert_addr(fixture, "127.0.0.1");
}

static void test_a_path(void **state)
{
    struct fixture *fixture = *state;
    struct temp_dir dir;
    struct addr addr;
    char host[300];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    temp_dir_init(&dir);
    (void)snprintf(host, sizeof host, "unix:%s", temp_dir_path(&dir, "socket"));
    assert_string_equal(dial_to(fixture, host), "ERR_UNREACHABLE");
    assert_int_equal(fixture->dial.os_error, ENOENT);

    assert_true(addr_parse(span_of(host), &addr));
    assert_int_equal(bind(fd, (const struct sockaddr *)&addr.storage, addr.len), 0);
    assert_string_equal(dial_to(fixture, host), "ERR_UNREACHABLE");
    assert_int_equal(fixture->dial.os_error, ECONNREFUSED);

    assert_int_equal(listen(fd, 4), 0);
    assert_string_equal(dial_to(fixture, host), "ERR_OK");
    assert_true(addr_equal(&fixture->dial.addr, &addr));
    assert_int_equal(fcntl(fixture->fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    close_fd(&fd);
    temp_dir_deinit(&dir);
}

static void test_a_path_that_is_none(void **state)
{
    struct fixture *fixture = *state;
    char host[200] = "unix:/";

    assert_string_equal(dial_to(fixture, "unix:"), "ERR_UNREACHABLE");
    memset(host + 6, 'x', sizeof host - 7);
    assert_string_equal(dial_to(fixture, host), "ERR_UNREACHABLE");
    assert_int_equal(fixture->dial.os_error, ENAMETOOLONG);
}

static void test_no_such_name(void **state)
{
    struct fixture *fixture = *state;

    assert_string_equal(dial_to(fixture, "none.test"), "ERR_UNKNOWN_NAME");
    assert_int_equal(fixture->dial.os_error, 0);
    dns_server_set_code(&fixture->server, "bad.test", DNS_SERVFAIL);
    assert_string_equal(dial_to(fixture, "bad.test"), "ERR_UNREACHABLE");
}

static void test_refused(void **state)
{
    struct fixture *fixture = *state;
    uint32_t fds = open_fds();

    assert_string_equal(dial_to(fixture, "127.0.0.2"), "ERR_UNREACHABLE");
    assert_int_equal(fixture->dial.os_error, ECONNREFUSED);
    assert_int_equal(open_fds(), fds);
}

static void test_the_next_address_where_one_refuses(void **state)
{
    struct fixture *fixture = *state;

    dns_server_set(&fixture->server, "up.test", "127.0.0.2 127.0.0.1", 60);
    assert_string_equal(dial_to(fixture, "up.test"), "ERR_OK");
    assert_addr(fixture, "127.0.0.1");
    dns_server_set(&fixture->server, "down.test", "127.0.0.2 127.0.0.2 ::1", 60);
    assert_string_equal(dial_to(fixture, "down.test"), "ERR_UNREACHABLE");
}

static void test_no_socket_for_the_first(void **state)
{
    struct fixture *fixture = *state;

    dns_server_set(&fixture->server, "up.test", "127.0.0.3 127.0.0.1", 60);
    assert_string_equal(dial_to(fixture, "up.test"), "ERR_OK"); /* now the name is known */
    fault_plan(FAULT_SOCKET, 0, 1, EMFILE);
    assert_string_equal(dial_to(fixture, "up.test"), "ERR_OK");
    assert_int_equal(fixture->dial.os_error, EMFILE);
    fault_plan(FAULT_SOCKET, 0, 2, EMFILE);
    assert_string_equal(dial_to(fixture, "up.test"), "ERR_UNREACHABLE");
}

static void test_a_silent_address_delays_by_a_quarter_second(void **state)
{
    struct fixture *fixture = *state;
    uint32_t fds = open_fds();

    dns_server_set(&fixture->server, "up.test", "127.0.0.11 127.0.0.12 127.0.0.1", 60);
    begin(fixture, "up.test");
    while (!io_is_on(&fixture->dial._attempts[0].io))
        run_turns(fixture->loop, 1);
    fake_clock_jump(&fixture->clock, fixture->loop, 249);
    assert_false(io_is_on(&fixture->dial._attempts[1].io));
    fake_clock_jump(&fixture->clock, fixture->loop, 1);
    assert_true(io_is_on(&fixture->dial._attempts[1].io));
    fake_clock_jump(&fixture->clock, fixture->loop, 249);
    run_turns(fixture->loop, 3);
    assert_int_equal(fixture->count, 0);
    fake_clock_jump(&fixture->clock, fixture->loop, 1);
    run_until_count(fixture->loop, &fixture->count, 1);
    assert_int_equal(fixture->err, ERR_OK);
    assert_addr(fixture, "127.0.0.1");
    assert_int_equal(open_fds(), fds + 1); /* the others are closed, and those of c-ares */
}

static void test_the_first_to_answer_wins(void **state)
{
    struct fixture *fixture = *state;
    int fd;

    /* The first one wakes up after the second one was begun, which stays silent. */
    dns_server_set(&fixture->server, "up.test", "127.0.0.11 127.0.0.12", 60);
    begin(fixture, "up.test");
    while (!io_is_on(&fixture->dial._attempts[0].io))
        run_turns(fixture->loop, 1);
    fake_clock_jump(&fixture->clock, fixture->loop, 250);
    fd = accept4(fixture->full[0], NULL, NULL, SOCK_CLOEXEC); /* the next SYN fits in */
    run_until_count(fixture->loop, &fixture->count, 1);
    assert_int_equal(fixture->err, ERR_OK);
    assert_addr(fixture, "127.0.0.11");
    close_fd(&fd);
}

static void test_the_time_is_up(void **state)
{
    struct fixture *fixture = *state;
    uint32_t fds = open_fds();

    begin(fixture, "127.0.0.11");
    run_turns(fixture->loop, 3);
    fake_clock_jump(&fixture->clock, fixture->loop, 2999);
    assert_int_equal(fixture->count, 0);
    fake_clock_jump(&fixture->clock, fixture->loop, 1);
    assert_int_equal(fixture->count, 1);
    assert_int_equal(fixture->err, ERR_TIMED_OUT);
    assert_int_equal(open_fds(), fds);
    fake_clock_jump(&fixture->clock, fixture->loop, 10000);
    assert_int_equal(fixture->count, 1);
}

static void test_the_time_is_up_while_resolving(void **state)
{
    struct fixture *fixture = *state;

    fixture->server.is_silent = true;
    begin(fixture, "up.test");
    run_turns(fixture->loop, 3);
    fake_clock_jump(&fixture->clock, fixture->loop, 3000);
    assert_int_equal(fixture->count, 1);
    assert_int_equal(fixture->err, ERR_TIMED_OUT);
    fake_clock_jump(&fixture->clock, fixture->loop, 10000);
    assert_int_equal(fixture->count, 1);
}

static void test_four_at_the_same_time_and_no_more(void **state)
{
    struct fixture *fixture = *state;

    dns_server_set(&fixture->server, "up.test",
                   "127.0.0.11 127.0.0.12 127.0.0.13 127.0.0.14 127.0.0.15 127.0.0.16", 60);
    begin(fixture, "up.test");
    while (!io_is_on(&fixture->dial._attempts[0].io))
        run_turns(fixture->loop, 1);
    fake_clock_walk(&fixture->clock, fixture->loop, 2000);
    assert_int_equal(fixture->dial._next, DIAL_ATTEMPTS_MAX);
    assert_int_equal(fixture->count, 0);
    fake_clock_walk(&fixture->clock, fixture->loop, 1000);
    assert_int_equal(fixture->count, 1);
    assert_int_equal(fixture->err, ERR_TIMED_OUT);
}

static void test_cancelled_in_each_state(void **state)
{
    struct fixture *fixture = *state;
    uint32_t fds = open_fds();
    struct dial zeroed = {._state = 0};

    dial_cancel(&zeroed);

    fixture->server.is_silent = true; /* resolving */
    begin(fixture, "silent.test");
    run_turns(fixture->loop, 1);
    dial_cancel(&fixture->dial);
    dial_cancel(&fixture->dial);
    fixture->server.is_silent = false;

    begin(fixture, "127.0.0.1"); /* resolved, not told yet */
    dial_cancel(&fixture->dial);

    begin(fixture, "unix:/nowhere"); /* the same for a path */
    dial_cancel(&fixture->dial);

    begin(fixture, "127.0.0.11"); /* connecting */
    run_turns(fixture->loop, 2);
    assert_true(io_is_on(&fixture->dial._attempts[0].io));
    dial_cancel(&fixture->dial);

    dns_server_set(&fixture->server, "up.test", "127.0.0.11 127.0.0.12", 60); /* to several */
    begin(fixture, "up.test");
    while (!io_is_on(&fixture->dial._attempts[0].io))
        run_turns(fixture->loop, 1);
    fake_clock_jump(&fixture->clock, fixture->loop, 250);
    assert_true(io_is_on(&fixture->dial._attempts[1].io));
    dial_cancel(&fixture->dial);

    run_turns(fixture->loop, 3);
    fake_clock_jump(&fixture->clock, fixture->loop, 10000);
    assert_int_equal(fixture->count, 0);
    /* c-ares keeps its socket for the question that nobody answered */
    assert_in_range(open_fds(), fds, fds + 1);

    assert_string_equal(dial_to(fixture, "127.0.0.1"), "ERR_OK"); /* done */
    dial_cancel(&fixture->dial);
}

/* A dial that frees itself. */
struct doomed {
    struct dial dial;
    bool *is_gone;
};

static void free_doomed(struct dial *dial, enum err err, int fd)
{
    struct doomed *doomed = CONTAINER_OF(dial, struct doomed, dial);

    (void)err;
    close_fd(&fd);
    *doomed->is_gone = true;
    free(doomed);
}

static void test_freed_by_its_callback(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "127.0.0.2", "none.test", "unix:/nowhere"};
    struct fixture *fixture = *state;

    for (uint32_t i = 0; i < 4; i++) {
        struct doomed *doomed = calloc(1, sizeof *doomed);
        const struct dial_target target = {
            .host = span_of(hosts[i]), .port = fixture->port, .timeout_ms = 3000};
        bool is_gone = false;

        doomed->is_gone = &is_gone;
        dial_start(fixture->loop, fixture->resolver, &doomed->dial, &target, free_doomed);
        run_until(fixture->loop, &is_gone);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_literal_address),
        TEST(test_a_name),
        TEST(test_a_path),
        TEST(test_a_path_that_is_none),
        TEST(test_no_such_name),
        TEST(test_refused),
        TEST(test_the_next_address_where_one_refuses),
        TEST(test_no_socket_for_the_first),
        TEST(test_a_silent_address_delays_by_a_quarter_second),
        TEST(test_the_first_to_answer_wins),
        TEST(test_the_time_is_up),
        TEST(test_the_time_is_up_while_resolving),
        TEST(test_four_at_the_same_time_and_no_more),
        TEST(test_cancelled_in_each_state),
        TEST(test_freed_by_its_callback),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
