/* lib/peer.c - a scripted server: a test accepts its connections and says what it likes on them. */
#include "lib/peer.h"
#include "base/clock.h"
#include "lib/loop_driver.h"
#include "lib/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void peer_init(struct peer *peer, struct loop *loop)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;

    peer->loop = loop;
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(peer->fd >= 0);
    assert_int_equal(bind(peer->fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(peer->fd, 128), 0);
    assert_int_equal(getsockname(peer->fd, (struct sockaddr *)&addr, &len), 0);
    peer->port = ntohs(addr.sin_port);
    snprintf(peer->url, sizeof peer->url, "http://127.0.0.1:%u", peer->port);
}

void peer_deinit(struct peer *peer)
{
    close_fd(&peer->fd);
}

/* A turn of the client's loop; fails the test when it has waited for too long. */
static void turn(const struct peer *peer, uint64_t since_us)
{
    if (clock_monotonic_us() - since_us > DRIVER_SECONDS * 1000000ull)
        fail_msg("the client did nothing for %d seconds", DRIVER_SECONDS);
    loop_turn(peer->loop, 1);
    (void)sched_yield();
}

int peer_accept(struct peer *peer)
{
    uint64_t since_us = clock_monotonic_us();
    int fd;

    while ((fd = accept4(peer->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) < 0) {
        assert_int_equal(errno, EAGAIN);
        turn(peer, since_us);
    }
    return fd;
}

bool peer_has_client(const struct peer *peer)
{
    struct pollfd wanted = {.fd = peer->fd, .events = POLLIN};

    return poll(&wanted, 1, 0) == 1;
}

/* Of the head and the body that it announces; 0: not known yet. */
static size_t request_size(const char *text)
{
    static const char field[] = "\r\nContent-Length: ";
    const char *end = strstr(text, "\r\n\r\n");
    const char *length = strstr(text, field);

    if (end == NULL)
        return 0;
    return (size_t)(end + 4 - text) +
           (length != NULL && length < end ? strtoul(length + sizeof field - 1, NULL, 10) : 0);
}

void peer_request(struct peer *peer, int fd, char *text, size_t size)
{
    uint64_t since_us = clock_monotonic_us();
    size_t len = 0;

    text[0] = '\0';
    while (request_size(text) == 0 || len < request_size(text)) {
        bool is_end = false;
        size_t got = peer_read(fd, text + len, size - len, &is_end);

        len += got;
        assert_true(len < size - 1);
        assert_false(is_end);
        if (got == 0)
            turn(peer, since_us);
    }
    assert_int_equal(len, request_size(text));
}

bool peer_is_closed(int fd)
{
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    return got == 0 || (got < 0 && errno != EAGAIN);
}

void peer_wait_closed(struct peer *peer, int *fd)
{
    uint64_t since_us = clock_monotonic_us();
    char text[4096];

    while (!peer_is_closed(*fd)) {
        (void)recv(*fd, text, sizeof text, MSG_DONTWAIT);
        turn(peer, since_us);
    }
    close_fd(fd);
}
