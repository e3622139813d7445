/* Goal: each connection is handed over once, ready for use; a limit and a process without
 * descriptors stop the accepting without a spin, and it goes on by itself; two hosts cannot take
 * one address by accident, the slots of one host share it, and a Unix socket's stale file is no
 * obstacle. */
#include "base/check.h"
#include "base/log.h"
#include "lib/fault.h"
#include "lib/loop_driver.h"
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { CLIENTS_MAX = 200 };

/* A listener on a free port, and the connections that it handed over. */
struct fixture {
    struct fake_clock clock;
    struct loop *loop;
    struct addr addr;
    int fd;
    struct listener listener;
    int accepted[CLIENTS_MAX];
    uint32_t count;   /* of accepted */
    uint32_t limit;   /* may_accept says no from here on */
    bool stops;       /* the callback stops the listener */
    struct addr peer; /* of the last one */
    int clients[CLIENTS_MAX];
    uint32_t clients_count;
    int log_fd;
};

static struct fixture fixture_of_all;

static void on_connection(struct listener *listener, int fd, const struct addr *peer)
{
    struct fixture *fixture = CONTAINER_OF(listener, struct fixture, listener);

    assert_true(fixture->count < CLIENTS_MAX);
    fixture->accepted[fixture->count++] = fd;
    fixture->peer = *peer;
    if (fixture->stops)
        listener_stop(listener);
}

static bool is_below_limit(struct listener *listener)
{
    struct fixture *fixture = CONTAINER_OF(listener, struct fixture, listener);

    return fixture->count < fixture->limit;
}

static int set_up(void **state)
{
    struct fixture *fixture = &fixture_of_all;

    memset(fixture, 0, sizeof *fixture);
    fault_reset();
    fixture->log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC); /* what it says is wanted here */
    log_setup(fixture->log_fd, LOG_INFO, false);
    fixture->loop = fake_clock_loop(&fixture->clock);
    assert_true(addr_parse(SPAN("127.0.0.1:0"), &fixture->addr));
    assert_int_equal(listener_socket(&fixture->addr, 4096, 0, &fixture->fd), ERR_OK);
    assert_true(addr_of_socket(fixture->fd, &fixture->addr));
    listener_start(fixture->loop, &fixture->listener, fixture->fd, on_connection);
    fixture->limit = CLIENTS_MAX;
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    fault_reset();
    listener_stop(&fixture->listener);
    listener_stop(&fixture->listener);
    listener_resume(&fixture->listener);
    for (uint32_t i = 0; i < fixture->count; i++)
        close_fd(&fixture->accepted[i]);
    for (uint32_t i = 0; i < fixture->clients_count; i++)
        close_fd(&fixture->clients[i]);
    close_fd(&fixture->fd);
    log_setup(STDERR_FILENO, LOG_INFO, false);
    close_fd(&fixture->log_fd);
    loop_destroy(fixture->loop);
    return 0;
}

/* A connected client, kept in the fixture. */
static int add_client(struct fixture *fixture, const struct addr *addr)
{
    int fd = socket(addr->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&addr->storage, addr->len), 0);
    fixture->clients[fixture->clients_count++] = fd;
    return fd;
}

static void add_clients(struct fixture *fixture, uint32_t count)
{
    while (count-- > 0)
        (void)add_client(fixture, &fixture->addr);
}

static void test_a_connection_is_ready_for_use(void **state)
{
    struct fixture *fixture = *state;
    struct addr client;
    int no_delay = 0;
    int unsent_max = 0;
    socklen_t len = sizeof no_delay;
    int fd;

    assert_int_equal(fcntl(fixture->fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(fcntl(fixture->fd, F_GETFD), FD_CLOEXEC);
    assert_true(addr_of_socket(add_client(fixture, &fixture->addr), &client));
    run_until_count(fixture->loop, &fixture->count, 1);
    fd = fixture->accepted[0];
    assert_true(addr_equal(&fixture->peer, &client));
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &len), 0);
    assert_int_not_equal(no_delay, 0);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_max, &len), 0);
    assert_int_equal(unsent_max, 131072);
}

static void test_at_most_64_a_turn(void **state)
{
    struct fixture *fixture = *state;

    add_clients(fixture, 100);
    run_turns(fixture->loop, 1);
    assert_int_equal(fixture->count, 64);
    run_turns(fixture->loop, 1);
    assert_int_equal(fixture->count, 100);
}

static void test_drained_of_all_who_wait(void **state)
{
    struct fixture *fixture = *state;

    add_clients(fixture, 100);
    listener_drain(&fixture->listener);
    assert_int_equal(fixture->count, 100);
    assert_false(io_is_on(&fixture->listener._io));
    listener_drain(&fixture->listener);
}

/* Of a socket that connects without waiting: the handshake on loopback is over when connect()
 * returns, or it was not taken up. */
static uint8_t state_of(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;

    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    return info.tcpi_state;
}

static void test_deafened_it_keeps_who_waits_and_takes_nobody_new(void **state)
{
    struct fixture *fixture = *state;
    const struct sockaddr *to = (const struct sockaddr *)&fixture->addr.storage;
    int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    add_clients(fixture, 10);
    listener_deafen(fixture->fd);
    assert_int_equal(connect(late, to, fixture->addr.len), -1);
    assert_int_equal(errno, EINPROGRESS);
    listener_drain(&fixture->listener);
    assert_int_equal(fixture->count, 10);
    assert_int_equal(state_of(late), TCP_SYN_SENT);
    assert_int_equal(state_of(fixture->clients[9]), TCP_ESTABLISHED);
    close_fd(&late);
}

static void test_held_at_the_limit(void **state)
{
    struct fixture *fixture = *state;

    fixture->limit = 2;
    fixture->listener.may_accept = is_below_limit;
    add_clients(fixture, 3);
    run_turns(fixture->loop, 3);
    assert_int_equal(fixture->count, 2);
    fault_reset();
    fake_clock_walk(&fixture->clock, fixture->loop, 1000);
    assert_int_equal(fault_calls(FAULT_ACCEPT4), 0);
    fixture->limit = 3;
    listener_resume(&fixture->listener);
    run_until_count(fixture->loop, &fixture->count, 3);
    listener_resume(&fixture->listener);
}

static void test_broken_before_it_was_accepted(void **state)
{
    static const int errors[] = {ECONNABORTED, EINTR, EPROTO, EPERM};
    struct fixture *fixture = *state;

    for (uint32_t i = 0; i < 4; i++) {
        add_clients(fixture, 1);
        fault_plan(FAULT_ACCEPT4, 0, 1, errors[i]);
        run_turns(fixture->loop, 1);
        assert_int_equal(fixture->count, i + 1);
    }
}

static void test_without_descriptors_it_waits(void **state)
{
    static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    struct fixture *fixture = *state;

    for (uint32_t i = 0; i < 4; i++) {
        add_clients(fixture, 1);
        fault_reset();
        fault_plan(FAULT_ACCEPT4, 0, 2, errors[i]); /* the spare one does not help either */
        run_turns(fixture->loop, 3);
        assert_int_equal(fixture->count, i);
        assert_int_equal(fault_calls(FAULT_ACCEPT4), 2);
        fake_clock_walk(&fixture->clock, fixture->loop, 199);
        assert_int_equal(fault_calls(FAULT_ACCEPT4), 2);
        fake_clock_walk(&fixture->clock, fixture->loop, 2);
        assert_int_equal(fixture->count, i + 1);
    }
}

static void test_resumed_when_a_descriptor_is_free(void **state)
{
    struct fixture *fixture = *state;

    add_clients(fixture, 1);
    fault_plan(FAULT_ACCEPT4, 0, 2, EMFILE);
    run_turns(fixture->loop, 1);
    listener_resume(&fixture->listener);
    run_turns(fixture->loop, 1);
    assert_int_equal(fixture->count, 1);
    assert_int_equal(fixture->listener.refused, 0);
}

static void test_who_waits_is_turned_away(void **state)
{
    struct fixture *fixture = *state;
    uint32_t before = open_fds();
    char text[4];
    bool is_end = false;

    add_clients(fixture, 3);
    fault_plan(FAULT_ACCEPT4, 0, 1, EMFILE);
    run_turns(fixture->loop, 1);
    assert_int_equal(fixture->count, 0);
    assert_int_equal(fixture->listener.refused, 3);
    assert_int_equal(open_fds(), before + 3);
    for (uint32_t i = 0; i < 3; i++) {
        (void)peer_read(fixture->clients[i], text, sizeof text, &is_end);
        assert_true(is_end);
    }
    assert_true(fixture->listener._spare >= 0);
}

static void test_with_a_real_limit_of_descriptors(void **state)
{
    struct fixture *fixture = *state;
    struct rlimit before;
    struct rlimit tight;
    int next;

    add_clients(fixture, 5);
    next = dup(0);
    assert_true(next >= 0);
    close_fd(&next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    next = fcntl(0, F_DUPFD, 0); /* the lowest free number: two more fit below the limit */
    tight = (struct rlimit){.rlim_cur = (rlim_t)next + 2, .rlim_max = before.rlim_max};
    close_fd(&next);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    run_turns(fixture->loop, 3);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    /* Under valgrind the one that meets the limit is lost: it accepts, and then takes that back. */
    assert_in_range(fixture->count + fixture->listener.refused, 4, 5);
    assert_in_range(fixture->count, 1, 2);
    add_clients(fixture, 1);
    fake_clock_walk(&fixture->clock, fixture->loop, 250);
    assert_in_range(fixture->count + fixture->listener.refused, 5, 6);
}

static void test_a_broken_socket_is_left_alone(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(shutdown(fixture->fd, SHUT_RDWR), 0);
    run_turns(fixture->loop, 2);
    assert_int_equal(fault_calls(FAULT_ACCEPT4), 1);
    listener_resume(&fixture->listener);
    run_turns(fixture->loop, 2);
    assert_int_equal(fault_calls(FAULT_ACCEPT4), 1);
}

static void test_stopped_by_its_own_callback(void **state)
{
    struct fixture *fixture = *state;

    fixture->stops = true;
    add_clients(fixture, 3);
    run_turns(fixture->loop, 3);
    assert_int_equal(fixture->count, 1);
    listener_start(fixture->loop, &fixture->listener, fixture->fd, on_connection);
    fixture->stops = false;
    run_turns(fixture->loop, 1);
    assert_int_equal(fixture->count, 3);
}

/* A socket for `addr`, and what came of it. */
static enum err try_socket(const struct addr *addr, uint32_t flags, int *fd)
{
    *fd = -1;
    return listener_socket(addr, 16, flags, fd);
}

static void test_slots_share_an_address_and_hosts_do_not(void **state)
{
    struct addr addr;
    int slots[2];
    int other;

    (void)state;
    assert_true(addr_parse(SPAN("127.0.0.1:0"), &addr));
    assert_int_equal(try_socket(&addr, LISTENER_REUSEPORT_LATER, &slots[0]), ERR_OK);
    assert_true(addr_of_socket(slots[0], &addr));
    assert_int_equal(try_socket(&addr, LISTENER_REUSEPORT, &slots[1]), ERR_OK);
    assert_int_equal(try_socket(&addr, LISTENER_REUSEPORT_LATER, &other), ERR_EXISTS);
    assert_int_equal(errno, EADDRINUSE);
    assert_int_equal(other, -1);
    assert_int_equal(try_socket(&addr, 0, &other), ERR_EXISTS);
    close_fd(&slots[0]);
    close_fd(&slots[1]);
}

static void test_hosts_share_where_both_want_to(void **state)
{
    struct addr addr;
    int fds[2];

    (void)state;
    assert_true(addr_parse(SPAN("127.0.0.1:0"), &addr));
    assert_int_equal(try_socket(&addr, LISTENER_REUSEPORT, &fds[0]), ERR_OK);
    assert_true(addr_of_socket(fds[0], &addr));
    assert_int_equal(try_socket(&addr, LISTENER_REUSEPORT, &fds[1]), ERR_OK);
    close_fd(&fds[0]);
    close_fd(&fds[1]);
}

/* A port of IPv6 that the kernel chooses, and the same of IPv4: which somebody may have already. */
static enum err open_both(int fds[2])
{
    struct addr ipv4, ipv6;

    assert_true(addr_parse(SPAN("[::]:0"), &ipv6));
    assert_int_equal(try_socket(&ipv6, 0, &fds[0]), ERR_OK);
    assert_true(addr_of_socket(fds[0], &ipv6));
    assert_true(addr_parse(SPAN("0.0.0.0:0"), &ipv4));
    addr_set_port(&ipv4, addr_port(&ipv6));
    return try_socket(&ipv4, 0, &fds[1]);
}

static void test_both_families_on_one_port(void **state)
{
    struct addr ipv6;
    int fds[2];
    enum err err = ERR_EXISTS;

    (void)state;
    assert_true(addr_parse(SPAN("[::1]:0"), &ipv6));
    if (try_socket(&ipv6, 0, &fds[0]) != ERR_OK) {
        test_skip("this machine has no IPv6");
        return;
    }
    close_fd(&fds[0]);
    for (int i = 0; i < 50 && err == ERR_EXISTS; i++) {
        err = open_both(fds);
        close_fd(&fds[0]);
        close_fd(&fds[1]);
    }
    assert_int_equal(err, ERR_OK);
}

static void test_addresses_that_cannot_be(void **state)
{
    struct addr addr;
    int fd;

    (void)state;
    assert_true(addr_parse(SPAN("192.0.2.1:0"), &addr));
    assert_int_equal(try_socket(&addr, 0, &fd), ERR_NOT_FOUND);
    assert_true(addr_parse(SPAN("unix:/no/such/folder/socket"), &addr));
    assert_int_equal(try_socket(&addr, 0, &fd), ERR_IO);
    assert_int_equal(errno, ENOENT);
    fault_plan(FAULT_SOCKET, 0, 1, EMFILE);
    assert_int_equal(try_socket(&addr, 0, &fd), ERR_IO);
    assert_int_equal(errno, EMFILE);
    assert_int_equal(fd, -1);
}

static void test_unix_socket_and_its_stale_file(void **state)
{
    struct fixture *fixture = *state;
    struct temp_dir dir;
    struct addr addr;
    char text[300];
    int fds[2];

    temp_dir_init(&dir);
    (void)snprintf(text, sizeof text, "unix:%s", temp_dir_path(&dir, "socket"));
    assert_true(addr_parse(span_of(text), &addr));
    assert_int_equal(try_socket(&addr, 0, &fds[0]), ERR_OK);
    assert_int_equal(try_socket(&addr, 0, &fds[1]), ERR_EXISTS); /* it is served */
    close_fd(&fds[0]);
    assert_int_equal(try_socket(&addr, 0, &fds[0]), ERR_OK); /* nobody does any more */

    listener_stop(&fixture->listener);
    listener_start(fixture->loop, &fixture->listener, fds[0], on_connection);
    (void)add_client(fixture, &addr);
    run_until_count(fixture->loop, &fixture->count, 1);
    (void)addr_format(&fixture->peer, text);
    assert_string_equal(text, "unix:");
    listener_stop(&fixture->listener);
    close_fd(&fds[0]);

    (void)temp_dir_write(&dir, "socket2", "x", 1); /* what is no socket is not removed */
    (void)snprintf(text, sizeof text, "unix:%s", temp_dir_path(&dir, "socket2"));
    assert_true(addr_parse(span_of(text), &addr));
    assert_int_equal(try_socket(&addr, 0, &fds[0]), ERR_EXISTS);
    assert_int_equal(access(temp_dir_path(&dir, "socket2"), F_OK), 0);
    temp_dir_deinit(&dir);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_connection_is_ready_for_use),
        TEST(test_at_most_64_a_turn),
        TEST(test_drained_of_all_who_wait),
        TEST(test_deafened_it_keeps_who_waits_and_takes_nobody_new),
        TEST(test_held_at_the_limit),
        TEST(test_broken_before_it_was_accepted),
        TEST(test_without_descriptors_it_waits),
        TEST(test_resumed_when_a_descriptor_is_free),
        TEST(test_who_waits_is_turned_away),
        TEST(test_with_a_real_limit_of_descriptors),
        TEST(test_a_broken_socket_is_left_alone),
        TEST(test_stopped_by_its_own_callback),
        TEST(test_slots_share_an_address_and_hosts_do_not),
        TEST(test_hosts_share_where_both_want_to),
        TEST(test_both_families_on_one_port),
        TEST(test_addresses_that_cannot_be),
        TEST(test_unix_socket_and_its_stale_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
