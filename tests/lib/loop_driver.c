/* lib/loop_driver.c - driving a loop from a test: until something happened, or through time. */
#include "lib/loop_driver.h"
#include "base/clock.h"
#include "lib/test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A turn that sleeps a little, or lets others run where the loop does not sleep. */
static void turn(struct loop *loop, uint64_t give_up_us)
{
    if (clock_monotonic_us() > give_up_us)
        fail_msg("nothing came of it in %d seconds", DRIVER_SECONDS);
    loop_turn(loop, 10);
    (void)sched_yield();
}

void run_until(struct loop *loop, const bool *is_done)
{
    uint64_t give_up_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    while (!*is_done)
        turn(loop, give_up_us);
}

void run_until_count(struct loop *loop, const uint32_t *count, uint32_t wanted)
{
    uint64_t give_up_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    while (*count < wanted)
        turn(loop, give_up_us);
}

void run_turns(struct loop *loop, uint32_t count)
{
    while (count-- > 0)
        loop_turn(loop, 0);
}

void run_for(struct loop *loop, uint32_t ms)
{
    uint64_t end_us = clock_monotonic_us() + ms * 1000ull;

    for (uint64_t now_us; (now_us = clock_monotonic_us()) < end_us;)
        loop_turn(loop, (uint32_t)((end_us - now_us + 999) / 1000));
}

static uint64_t read_fake_clock(void *data)
{
    const struct fake_clock *clock = data;

    return clock->now_us;
}

struct loop *fake_clock_loop(struct fake_clock *clock)
{
    const struct loop_options options = {.now_us = read_fake_clock, .data = clock};

    clock->now_us = 1000000;
    return loop_create(&options);
}

void fake_clock_jump(struct fake_clock *clock, struct loop *loop, uint64_t ms)
{
    clock->now_us += ms * 1000;
    loop_turn(loop, 0);
}

void fake_clock_walk(struct fake_clock *clock, struct loop *loop, uint32_t ms)
{
    while (ms-- > 0)
        fake_clock_jump(clock, loop, 1);
}

void pair_unix(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
}

void pair_tcp(int fds[2])
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(listening >= 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(listening, 1), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&addr, &len), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fds[0] >= 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&addr, len), 0);
    fds[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(fds[1] >= 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(close(listening), 0);
}

void close_with_reset(int *fd)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};

    assert_int_equal(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    close_fd(fd);
}

void close_fd(int *fd)
{
    if (*fd >= 0)
        assert_int_equal(close(*fd), 0);
    *fd = -1;
}

void peer_send(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

size_t peer_read(int fd, char *text, size_t size, bool *is_end)
{
    size_t len = 0;
    ssize_t got = -1;

    while (len < size - 1 && (got = recv(fd, text + len, size - 1 - len, MSG_DONTWAIT)) > 0)
        len += (size_t)got;
    if (got < 0)
        assert_int_equal(errno, EAGAIN);
    if (is_end != NULL)
        *is_end = got == 0;
    text[len] = '\0';
    return len;
}

uint32_t open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint32_t count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    assert_int_equal(closedir(dir), 0);
    return count - 3; /* "." and ".." and the folder itself */
}
