/* lib/fault.c - making the Nth call of a system function fail, in a test that wraps it.
 *
 * The linker's --wrap=recv sends all calls of recv() to __wrap_recv() and gives us the real one as
 * __real_recv(), which does not exist for a function that is not wrapped: hence weak. */
#include "lib/fault.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

/* What is to happen to the calls of one function. */
struct plan {
    uint32_t good;   /* calls that still go through */
    uint32_t bad;    /* calls after them that fail */
    int error;       /* with this errno */
    size_t size_max; /* bytes a call, 0: as asked for */
    uint32_t calls;  /* so far */
};

static struct plan plans[FAULT_COUNT];

void fault_plan(enum fault_call call, uint32_t good, uint32_t bad, int error)
{
    plans[call].good = good;
    plans[call].bad = bad;
    plans[call].error = error;
}

void fault_limit_bytes(enum fault_call call, size_t size)
{
    plans[call].size_max = size;
}

uint32_t fault_calls(enum fault_call call)
{
    return plans[call].calls;
}

void fault_reset(void)
{
    memset(plans, 0, sizeof plans);
}

/* Does this call fail? */
static bool must_fail(enum fault_call call)
{
    struct plan *plan = &plans[call];

    plan->calls++;
    if (plan->bad == 0)
        return false;
    if (plan->good > 0) {
        plan->good--;
        return false;
    }
    plan->bad--;
    errno = plan->error;
    return true;
}

static size_t cut(enum fault_call call, size_t size)
{
    size_t size_max = plans[call].size_max;

    return size_max > 0 && size > size_max ? size_max : size;
}

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's names */
int __real_accept4(int, struct sockaddr *, socklen_t *, int) __attribute__((weak));
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __real_connect(int, const struct sockaddr *, socklen_t) __attribute__((weak));
int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len);
int __real_epoll_ctl(int, int, int, struct epoll_event *) __attribute__((weak));
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __real_epoll_wait(int, struct epoll_event *, int, int) __attribute__((weak));
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int count_max, int timeout_ms);
ssize_t __real_pread(int, void *, size_t, off_t) __attribute__((weak));
ssize_t __wrap_pread(int fd, void *bytes, size_t size, off_t at);
ssize_t __real_recv(int, void *, size_t, int) __attribute__((weak));
ssize_t __wrap_recv(int fd, void *bytes, size_t size, int flags);
ssize_t __real_send(int, const void *, size_t, int) __attribute__((weak));
ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags);
ssize_t __real_sendfile(int, int, off_t *, size_t) __attribute__((weak));
ssize_t __wrap_sendfile(int fd, int file, off_t *at, size_t size);
int __real_socket(int, int, int) __attribute__((weak));
int __wrap_socket(int domain, int type, int protocol);
/* NOLINTEND(bugprone-reserved-identifier) */

int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    return must_fail(FAULT_ACCEPT4) ? -1 : __real_accept4(fd, addr, len, flags);
}

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    return must_fail(FAULT_CONNECT) ? -1 : __real_connect(fd, addr, len);
}

int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    return must_fail(FAULT_EPOLL_CTL) ? -1 : __real_epoll_ctl(epoll_fd, operation, fd, event);
}

int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int count_max, int timeout_ms)
{
    if (must_fail(FAULT_EPOLL_WAIT))
        return -1;
    return __real_epoll_wait(epoll_fd, events, count_max, timeout_ms);
}

ssize_t __wrap_pread(int fd, void *bytes, size_t size, off_t at)
{
    return must_fail(FAULT_PREAD) ? -1 : __real_pread(fd, bytes, size, at);
}

ssize_t __wrap_recv(int fd, void *bytes, size_t size, int flags)
{
    return must_fail(FAULT_RECV) ? -1 : __real_recv(fd, bytes, cut(FAULT_RECV, size), flags);
}

ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags)
{
    return must_fail(FAULT_SEND) ? -1 : __real_send(fd, bytes, cut(FAULT_SEND, size), flags);
}

ssize_t __wrap_sendfile(int fd, int file, off_t *at, size_t size)
{
    return must_fail(FAULT_SENDFILE) ? -1
                                     : __real_sendfile(fd, file, at, cut(FAULT_SENDFILE, size));
}

int __wrap_socket(int domain, int type, int protocol)
{
    return must_fail(FAULT_SOCKET) ? -1 : __real_socket(domain, type, protocol);
}
