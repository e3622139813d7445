/* Goal: what was read from a socket is counted to the byte, over TCP and over a Unix socket, and
 *       what still waits is not. */
#include "lib/test.h"
#include "pg/intake.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char bytes[50000];

static void read_all(int fd, size_t size)
{
    while (size > 0) {
        ssize_t got = recv(fd, bytes, size, 0);

        assert_true(got > 0);
        size -= (size_t)got;
    }
}

/* Writes to `out` what is read at `in`. */
static void expect_count(int out, int in)
{
    struct pg_intake intake;

    assert_int_equal(write(out, bytes, 1000), 1000);
    read_all(in, 1000);
    pg_intake_begin(&intake, in);
    assert_int_equal(pg_intake_bytes(&intake), 0);
    for (int i = 1; i <= 20; i++) {
        assert_int_equal(write(out, bytes, sizeof bytes), sizeof bytes);
        read_all(in, sizeof bytes - 100);
        assert_int_equal(pg_intake_bytes(&intake), (size_t)i * sizeof bytes - 100);
        read_all(in, 100);
        assert_int_equal(pg_intake_bytes(&intake), (size_t)i * sizeof bytes);
    }
    pg_intake_begin(&intake, in);
    assert_int_equal(pg_intake_bytes(&intake), 0);
}

static void test_a_unix_socket_is_counted(void **state)
{
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    expect_count(pair[0], pair[1]);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void test_a_tcp_socket_is_counted(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t size = sizeof addr;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int in;

    (void)state;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &size), 0);
    assert_int_equal(connect(out, (struct sockaddr *)&addr, size), 0);
    in = accept(listener, NULL, NULL);
    assert_true(in >= 0);
    expect_count(out, in);
    (void)close(in);
    (void)close(out);
    (void)close(listener);
}

static void test_what_is_no_socket_counts_nothing(void **state)
{
    struct pg_intake intake;
    int pipes[2];

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    pg_intake_begin(&intake, pipes[0]);
    assert_int_equal(pg_intake_bytes(&intake), 0);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_unix_socket_is_counted),
        cmocka_unit_test(test_a_tcp_socket_is_counted),
        cmocka_unit_test(test_what_is_no_socket_counts_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
