/* net/dial.c - from a host name to a connected socket.
 *
 *   RESOLVING ──▶ CONNECTING ──▶ DONE     one address connected: the others are closed
 *       │              ├───────▶ DONE     the last one refused
 *       └──────────────┴───────▶ DONE     no such name, or the deadline passed
 *
 * CONNECTING has one attempt or more. The next address gets one when an attempt fails, or when
 * STAGGER_MS have passed without an outcome.
 *
 * Cancelled: whatever is under way is withdrawn, and `done` does not run.
 */
#include "net/dial.h"
#include "base/check.h"
#include "base/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

enum { STAGGER_MS = 250 };

enum { DONE, RESOLVING, CONNECTING }; /* zeroed is done */

static const struct {
    const char *name;
    unsigned next; /* the states that may follow, one bit each */
} states[] = {
    [DONE] = {"done", 0},
    [RESOLVING] = {"resolving", 1u << CONNECTING | 1u << DONE},
    [CONNECTING] = {"connecting", 1u << DONE},
};

static void move(struct dial *dial, int state)
{
    CHECK((states[dial->_state].next & 1u << state) != 0);
    log_trace("dial: %s -> %s", states[dial->_state].name, states[state].name);
    dial->_state = state;
}

static void drop(struct dial_attempt *attempt)
{
    if (!io_is_on(&attempt->io))
        return;
    io_stop(&attempt->io);
    (void)close(attempt->fd);
}

/* The one way out: lets go of all that is held, whatever the state. */
static void release(struct dial *dial)
{
    move(dial, DONE);
    timer_stop(&dial->_deadline);
    timer_stop(&dial->_stagger);
    ready_stop(&dial->_ready);
    resolve_cancel(&dial->_resolve);
    for (uint32_t i = 0; i < DIAL_ATTEMPTS_MAX; i++)
        drop(&dial->_attempts[i]);
}

static void fail(struct dial *dial, enum err err)
{
    release(dial);
    dial->_done(dial, err, -1); /* last: the callee may free dial */
}

static void succeed(struct dial *dial, int fd, uint32_t addr_index)
{
    dial->addr = dial->_resolve.addrs[addr_index];
    release(dial);
    dial->_done(dial, ERR_OK, fd);
}

/* A place for one more attempt, or NULL. */
static struct dial_attempt *free_attempt(struct dial *dial)
{
    for (uint32_t i = 0; i < DIAL_ATTEMPTS_MAX; i++) {
        if (!io_is_on(&dial->_attempts[i].io))
            return &dial->_attempts[i];
    }
    return NULL;
}

static bool has_attempts(const struct dial *dial)
{
    for (uint32_t i = 0; i < DIAL_ATTEMPTS_MAX; i++) {
        if (io_is_on(&dial->_attempts[i].io))
            return true;
    }
    return false;
}

/* A socket on its way to `addr`: 0 connected, EINPROGRESS, or why not; *fd only in the first
 * two. */
static int begin_connect(const struct addr *addr, int *fd)
{
    const int on = 1;
    int family = addr->storage.ss_family;
    int os_error = 0;
    int made = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (made < 0)
        return errno;
    if (family != AF_UNIX)
        (void)setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(made, (const struct sockaddr *)&addr->storage, addr->len) != 0)
        os_error = errno;
    if (os_error == 0 || os_error == EINPROGRESS)
        *fd = made;
    else
        (void)close(made);
    return os_error;
}

static void on_writable(struct io *io, uint32_t events);
static void on_stagger(struct timer *timer);

/* Gives the next addresses their turn until one is on its way; ends the dial where one connects at
 * once, or none is left. */
static void connect_next(struct dial *dial)
{
    struct dial_attempt *attempt = free_attempt(dial);
    int fd = -1;

    while (attempt != NULL && dial->_next < dial->_resolve.count) {
        uint32_t index = dial->_next++;
        int os_error = begin_connect(&dial->_resolve.addrs[index], &fd);

        if (os_error == 0) {
            succeed(dial, fd, index);
            return;
        }
        if (os_error != EINPROGRESS) {
            dial->os_error = os_error;
            continue;
        }
        attempt->dial = dial;
        attempt->fd = fd;
        attempt->addr_index = index;
        io_start(dial->_loop, &attempt->io, fd, IO_WRITE, on_writable);
        if (dial->_next < dial->_resolve.count)
            timer_start(dial->_loop, &dial->_stagger, STAGGER_MS, on_stagger);
        return;
    }
    if (!has_attempts(dial))
        fail(dial, ERR_UNREACHABLE);
}

/* What the loop calls: note what happened, hand over. No policy below this line. */

static void on_resolved(struct resolve *resolve, enum err err)
{
    struct dial *dial = CONTAINER_OF(resolve, struct dial, _resolve);

    CHECK(dial->_state == RESOLVING);
    if (err != ERR_OK) {
        fail(dial, err);
        return;
    }
    move(dial, CONNECTING);
    connect_next(dial);
}

static void on_known(struct ready *ready)
{
    struct dial *dial = CONTAINER_OF(ready, struct dial, _ready);

    CHECK(dial->_state == RESOLVING);
    move(dial, CONNECTING);
    connect_next(dial);
}

static void on_writable(struct io *io, uint32_t events)
{
    struct dial_attempt *attempt = CONTAINER_OF(io, struct dial_attempt, io);
    struct dial *dial = attempt->dial;
    int os_error = 0;
    socklen_t len = sizeof os_error;

    (void)events;
    CHECK(dial->_state == CONNECTING);
    CHECK(getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &os_error, &len) == 0);
    if (os_error == 0) {
        io_stop(io); /* so that it is not closed with the others */
        succeed(dial, attempt->fd, attempt->addr_index);
        return;
    }
    dial->os_error = os_error;
    drop(attempt);
    connect_next(dial);
}

static void on_stagger(struct timer *timer)
{
    struct dial *dial = CONTAINER_OF(timer, struct dial, _stagger);

    CHECK(dial->_state == CONNECTING);
    connect_next(dial);
}

static void on_deadline(struct timer *timer)
{
    fail(CONTAINER_OF(timer, struct dial, _deadline), ERR_TIMED_OUT);
}

static bool is_path(struct span host)
{
    static const char prefix[] = "unix:";

    return host.len >= sizeof prefix - 1 && memcmp(host.ptr, prefix, sizeof prefix - 1) == 0;
}

void dial_start(struct loop *loop, struct resolver *resolver, struct dial *dial,
                const struct dial_target *target, dial_fn *done)
{
    CHECK(dial->_state == DONE);
    CHECK(target->timeout_ms > 0); /* nothing waits for ever */
    CHECK(done != NULL);
    memset(dial, 0, sizeof *dial);
    dial->_loop = loop;
    dial->_done = done;
    dial->_state = RESOLVING;
    timer_start(loop, &dial->_deadline, target->timeout_ms, on_deadline);
    if (target->addr == NULL && !is_path(target->host)) {
        resolve_start(resolver, &dial->_resolve, target->host, target->port, on_resolved);
        return;
    }
    if (target->addr != NULL)
        dial->_resolve.addrs[0] = *target->addr;
    if (target->addr != NULL || addr_parse(target->host, &dial->_resolve.addrs[0]))
        dial->_resolve.count = 1;
    else
        dial->os_error = ENAMETOOLONG; /* or empty: no address to try, so it cannot be reached */
    ready_start(loop, &dial->_ready, on_known);
}

void dial_cancel(struct dial *dial)
{
    if (dial->_state != DONE)
        release(dial);
}
