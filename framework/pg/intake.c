/* pg/intake.c - how much was read from a socket, where libpq reads and does not tell.
 *
 * A TCP socket knows what has arrived, and what of it still waits. A Unix socket knows neither, but
 * keeps an offset for MSG_PEEK that each plain read takes back by what it read: set high once, and
 * never used for a peek, it counts.
 */
#include "pg/intake.h"
#include "base/check.h"
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static uint64_t read_of_tcp(int fd)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    uint64_t arrived;
    int waiting = 0;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
        size < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received ||
        ioctl(fd, FIONREAD, &waiting) != 0)
        return 0;
    arrived = info.tcpi_bytes_received;
    return arrived > (uint64_t)waiting ? arrived - (uint64_t)waiting : 0;
}

static uint64_t read_of_unix(int fd)
{
    int left = INT32_MAX;
    socklen_t size = sizeof left;

    if (getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &left, &size) != 0 || left < 0)
        return 0;
    return (uint64_t)(INT32_MAX - left);
}

void pg_intake_begin(struct pg_intake *intake, int fd)
{
    socklen_t size = sizeof intake->domain;
    int high = INT32_MAX;

    CHECK(fd >= 0);
    *intake = (struct pg_intake){.fd = fd};
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &intake->domain, &size) != 0)
        intake->domain = 0;
    if (intake->domain == AF_UNIX &&
        setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &high, sizeof high) != 0)
        intake->domain = 0;
    if (intake->domain == AF_INET || intake->domain == AF_INET6)
        intake->begin = read_of_tcp(fd);
}

uint64_t pg_intake_bytes(const struct pg_intake *intake)
{
    uint64_t now = intake->begin;

    if (intake->domain == AF_UNIX)
        return read_of_unix(intake->fd);
    if (intake->domain == AF_INET || intake->domain == AF_INET6)
        now = read_of_tcp(intake->fd);
    return now > intake->begin ? now - intake->begin : 0;
}
