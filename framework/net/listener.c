/* net/listener.c - a listening socket: making one, and accepting from it on a loop.
 *
 *   ACCEPTING ──▶ HELD (may_accept said no) ──▶ ACCEPTING     listener_resume()
 *        ├──────▶ PAUSED (no descriptor left) ──▶ ACCEPTING   after PAUSE_MS, or listener_resume()
 *        └──────▶ BROKEN (shut down by somebody)              until it is stopped
 *
 * Held and paused, nothing is asked of the kernel, so a full process does not spin on a socket that
 * stays readable (3.7 million failed accepts a second and a half were measured). Before a
 * pause the spare descriptor is given up for a moment, to accept and close who waits: better
 * refused at once than left to a timeout.
 */
#include "net/listener.h"
#include "base/check.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH_MAX = 64, DRAIN_MAX = 65536, PAUSE_MS = 200 };
enum { UNSENT_MAX = 131072 }; /* bytes that the kernel may hold before it says that it is full */

/* Making one */

static bool set_option(int fd, int level, int name)
{
    const int on = 1;

    return setsockopt(fd, level, name, &on, sizeof on) == 0;
}

/* Linux hands these down to each accepted socket: one call here instead of one a connection. They
 * fail for a Unix socket, which has no Nagle, and holds little. Without the second, the kernel says
 * that there is room until megabytes wait for one client who does not read. */
static void set_for_accepted(int fd)
{
    const int unsent_max = UNSENT_MAX;

    (void)set_option(fd, IPPROTO_TCP, TCP_NODELAY);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_max, sizeof unsent_max);
}

/* A Unix socket's file outlives its server. It is in the way only while somebody listens there. */
static void remove_stale(const struct addr *addr)
{
    const struct sockaddr_un *unix_addr = (const struct sockaddr_un *)(const void *)&addr->storage;
    struct stat status;
    int fd;

    if (addr->storage.ss_family != AF_UNIX || unix_addr->sun_path[0] == '\0')
        return;
    if (lstat(unix_addr->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)&addr->storage, addr->len) != 0 &&
        errno == ECONNREFUSED)
        (void)unlink(unix_addr->sun_path);
    (void)close(fd);
}

static bool bind_and_listen(int fd, const struct addr *addr, uint32_t backlog, uint32_t flags)
{
    int family = addr->storage.ss_family;

    if (family != AF_UNIX && !set_option(fd, SOL_SOCKET, SO_REUSEADDR))
        return false;
    if (family == AF_INET6 && !set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY))
        return false;
    if ((flags & LISTENER_REUSEPORT) != 0 && !set_option(fd, SOL_SOCKET, SO_REUSEPORT))
        return false;
    if (bind(fd, (const struct sockaddr *)&addr->storage, addr->len) != 0)
        return false;
    if ((flags & LISTENER_REUSEPORT_LATER) != 0 && !set_option(fd, SOL_SOCKET, SO_REUSEPORT))
        return false;
    return listen(fd, backlog < INT32_MAX ? (int)backlog : INT32_MAX) == 0;
}

static enum err err_of(int os_error)
{
    switch (os_error) {
    case EADDRINUSE:
        return ERR_EXISTS;
    case EADDRNOTAVAIL:
        return ERR_NOT_FOUND;
    default:
        return ERR_IO;
    }
}

enum err listener_socket(const struct addr *addr, uint32_t backlog, uint32_t flags, int *fd)
{
    int os_error;
    int made;

    CHECK(addr != NULL);
    CHECK(addr->len > 0);
    CHECK(fd != NULL);
    made = socket(addr->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made < 0)
        return ERR_IO;
    remove_stale(addr);
    if (bind_and_listen(made, addr, backlog, flags)) {
        *fd = made;
        return ERR_OK;
    }
    os_error = errno;
    (void)close(made);
    errno = os_error;
    return err_of(os_error);
}

/* Closing a socket resets who is queued at it, and with several processes that have it open the
 * last to close is not the one that accepts. A socket filter that keeps nothing drops the SYN: it
 * is sent again after a second, when the socket is gone or another host has the address. Newer
 * kernels want CAP_NET_ADMIN for a filter at TCP; without it a queue of nobody keeps all but one
 * away. */
void listener_deafen(int fd)
{
    struct sock_filter keep_nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    const struct sock_fprog program = {.len = 1, .filter = &keep_nothing};

    CHECK(fd >= 0);
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
        (void)listen(fd, 0);
}

/* Accepting */

static void go_on(struct listener *listener)
{
    timer_stop(&listener->_pause);
    listener->_is_held = false;
    if (io_is_on(&listener->_io))
        io_update(&listener->_io, IO_READ);
}

static void on_pause_over(struct timer *timer)
{
    go_on(CONTAINER_OF(timer, struct listener, _pause));
}

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Accepts and closes those who wait, with the spare descriptor, and pauses. */
static void turn_away(struct listener *listener, int os_error)
{
    uint32_t count = 0;

    if (listener->_spare >= 0)
        (void)close(listener->_spare);
    while (count < BATCH_MAX) {
        int fd = accept4(listener->_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
            break;
        (void)close(fd);
        count++;
    }
    listener->_spare = open_spare();
    listener->refused += count;
    log_warn("no descriptor for new connections: %s; turned away %u, next try in %d ms",
             strerror(os_error), count, PAUSE_MS);
    io_update(&listener->_io, 0);
    timer_start(listener->_loop, &listener->_pause, PAUSE_MS, on_pause_over);
}

/* Accepts one and hands it over; false: no more in this turn. */
static bool accept_one(struct listener *listener)
{
    struct addr peer = {.len = sizeof peer.storage};
    int fd = accept4(listener->_fd, (struct sockaddr *)&peer.storage, &peer.len,
                     SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0) {
        listener->_fn(listener, fd, &peer);
        return io_is_on(&listener->_io);
    }
    switch (errno) {
    case EAGAIN:
        return false;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        turn_away(listener, errno);
        return false;
    case EBADF:
    case EINVAL:
    case ENOTSOCK:
    case EOPNOTSUPP:
        log_error("the listening socket is broken: %s; no more connections from it",
                  strerror(errno));
        io_stop(&listener->_io);
        return false;
    default: /* that one connection broke before it was accepted, or a firewall refused it */
        return true;
    }
}

static void on_readable(struct io *io, uint32_t events)
{
    struct listener *listener = CONTAINER_OF(io, struct listener, _io);

    (void)events;
    CHECK(listener->_fd >= 0);
    for (uint32_t left = BATCH_MAX; left > 0; left--) {
        if (listener->may_accept != NULL && !listener->may_accept(listener)) {
            listener->_is_held = true;
            io_update(io, 0);
            return;
        }
        if (!accept_one(listener))
            return;
    }
}

void listener_start(struct loop *loop, struct listener *listener, int fd, listener_fn *fn)
{
    CHECK(fd >= 0);
    CHECK(fn != NULL);
    *listener = (struct listener){._loop = loop, ._fd = fd, ._fn = fn};
    listener->_spare = open_spare();
    set_for_accepted(fd);
    io_start(loop, &listener->_io, fd, IO_READ, on_readable);
}

void listener_resume(struct listener *listener)
{
    if (listener->_fd < 0)
        return;
    if (listener->_is_held || timer_is_on(&listener->_pause))
        go_on(listener);
}

void listener_drain(struct listener *listener)
{
    uint32_t left = DRAIN_MAX;

    while (left-- > 0 && listener->_fd >= 0 && io_is_on(&listener->_io) &&
           (listener->may_accept == NULL || listener->may_accept(listener)) && accept_one(listener))
        ;
    listener_stop(listener);
}

void listener_stop(struct listener *listener)
{
    if (listener->_fd < 0)
        return;
    io_stop(&listener->_io);
    timer_stop(&listener->_pause);
    if (listener->_spare >= 0)
        (void)close(listener->_spare);
    listener->_spare = -1;
    listener->_fd = -1;
}
