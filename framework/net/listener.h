/* net/listener.h - a listening socket: making one, and accepting from it on a loop.
 *
 * Sockets are made by the master, one a worker slot with SO_REUSEPORT, and inherited; a listener accepts in batches,
 * stops at a limit of connections, and never spins on EMFILE: it leaves the loop for a while (engine facts 3.3).
 * Loop:   of one loop, but listener_socket() before any.
 * Memory: embedded; the descriptor stays the caller's.
 */
#ifndef WEFT_NET_LISTENER_H
#define WEFT_NET_LISTENER_H

#include "base/error.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "net/addr.h"

struct listener;

/* Runs for each connection: `fd` (CLOEXEC, NONBLOCK, TCP_NODELAY) is the callee's. */
typedef void listener_fn(struct listener *listener, int fd, const struct addr *peer);

struct listener {
    struct loop *_loop;  /* its loop */
    struct io _io;       /* of the socket */
    struct timer _pause; /* until it tries again after EMFILE */
    int _fd;             /* the caller's; -1: stopped */
    int _spare;          /* a descriptor kept to be given up when there is none left; -1 */
    listener_fn *_fn;    /* what runs */
    bool (*may_accept)(
        struct listener *
            listener); /* NULL, or asked before each accept: false pauses until listener_resume() */
    bool _is_held;     /* may_accept said no */
};

/* A bound and listening socket, CLOEXEC and NONBLOCK. `reuseport`: SO_REUSEPORT is set before bind; `reuseport_later`: after it,
 * so that a second host gets EADDRINUSE but further slots of this one can join. On failure `fd` is not set, errno says why. */
enum { LISTENER_REUSEPORT = 1, LISTENER_REUSEPORT_LATER = 2 };
enum err listener_socket(const struct addr *addr, uint32_t backlog, uint32_t flags, int *fd)
    __attribute__((warn_unused_result));

/* Accepts on `loop`; at most 64 a wake-up. */
void listener_start(struct loop *loop, struct listener *listener, int fd, listener_fn *fn);

/* A connection went: accepts again if it was held. */
void listener_resume(struct listener *listener);

/* Stops accepting; the descriptor stays open. Twice is fine. */
void listener_stop(struct listener *listener);

#endif
