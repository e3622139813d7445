/* server/activation.c - listening sockets that the service manager has made. */
#include "server/activation.h"
#include "base/check.h"
#include "base/log.h"
#include "base/number.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST_FD = 3 };

static bool is_listening(int fd)
{
    int type = 0, listens = 0;
    socklen_t len = sizeof type;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_STREAM)
        return false;
    len = sizeof listens;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens != 0;
}

static bool prepare(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
           fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

/* How many there are, where they are meant for us. */
static uint64_t count_of_ours(void)
{
    const char *who = getenv("LISTEN_PID"), *text = getenv("LISTEN_FDS");
    uint64_t pid, count;

    if (who == NULL || text == NULL || !number_uint(span_of(who), &pid) ||
        pid != (uint64_t)getpid() || !number_uint(span_of(text), &count))
        return 0;
    return count;
}

enum err activation_find(struct activation *activation, char problem[INI_PROBLEM_SIZE])
{
    uint64_t count = count_of_ours();

    *activation = (struct activation){._count = 0};
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (count > ACTIVATION_MAX) {
        snprintf(problem, INI_PROBLEM_SIZE, "$LISTEN_FDS: %llu sockets, expected at most %d",
                 (unsigned long long)count, ACTIVATION_MAX);
        return ERR_INVALID;
    }
    for (int fd = FIRST_FD; fd < FIRST_FD + (int)count; fd++) {
        struct addr addr;

        if (!is_listening(fd) || !prepare(fd) || !addr_of_socket(fd, &addr)) {
            snprintf(problem, INI_PROBLEM_SIZE,
                     "$LISTEN_FDS: descriptor %d is no listening stream socket", fd);
            return ERR_INVALID;
        }
        activation->_sockets[activation->_count].addr = addr;
        activation->_sockets[activation->_count++].fd = fd;
    }
    return ERR_OK;
}

int activation_take(struct activation *activation, const struct addr *addr)
{
    for (uint32_t i = 0; i < activation->_count; i++) {
        int fd = activation->_sockets[i].fd;

        if (fd < 0 || !addr_equal(&activation->_sockets[i].addr, addr))
            continue;
        activation->_sockets[i].fd = -1;
        return fd;
    }
    return -1;
}

void activation_close(struct activation *activation)
{
    char text[ADDR_TEXT_SIZE];

    for (uint32_t i = 0; i < activation->_count; i++) {
        if (activation->_sockets[i].fd < 0)
            continue;
        addr_format(&activation->_sockets[i].addr, text);
        log_warn("the service manager has handed over a socket at %s, which neither listen nor "
                 "admin names: closed",
                 text);
        close(activation->_sockets[i].fd);
        activation->_sockets[i].fd = -1;
    }
}
