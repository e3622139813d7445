/* net/listener.h - a listening socket: making one, and accepting from it on a loop.
 *
 * Sockets are made by the master, one a worker slot with SO_REUSEPORT, and inherited; a listener
 * accepts in batches, stops at a limit of connections, and never spins when the process has no
 * descriptor left: it turns away who waits, and leaves the socket alone for a while.
 * Loop:   of one loop, but listener_socket() before any.
 * Memory: embedded; the descriptor stays the caller's.
 * Limits: 64 connections a turn; how many there may be at once is the business of `may_accept`.
 */
#ifndef WEFT_NET_LISTENER_H
#define WEFT_NET_LISTENER_H

#include "base/error.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "net/addr.h"

struct listener;

/* Runs for each connection: `fd` (CLOEXEC, NONBLOCK, TCP_NODELAY) is the callee's. It may stop the
 * listener, but not free it. */
typedef void listener_fn(struct listener *listener, int fd, const struct addr *peer);

/* One socket that is accepted from. Zeroed with _fd -1: stopped. */
struct listener {
    struct loop *_loop;  /* its loop */
    struct io _io;       /* of the socket */
    struct timer _pause; /* until it tries again when there was no descriptor left */
    int _fd;             /* the caller's; -1: stopped */
    int _spare;          /* a descriptor kept to be given up when there is none left; -1 */
    listener_fn *_fn;    /* what runs */
    /* NULL, or asked before each accept: false holds until listener_resume(). To be set after
     * listener_start(). */
    bool (*may_accept)(struct listener *listener);
    bool _is_held;    /* may_accept said no */
    uint64_t refused; /* connections closed at once, since there was no descriptor for them */
};

/* LISTENER_REUSEPORT: SO_REUSEPORT is set before bind, so others that have it set can share the
 * address. LISTENER_REUSEPORT_LATER: it is set after bind: whoever has the address already is in
 * the way, but sockets with LISTENER_REUSEPORT may join this one. */
enum { LISTENER_REUSEPORT = 1, LISTENER_REUSEPORT_LATER = 2 };

/* A bound and listening socket, CLOEXEC and NONBLOCK. The file of a Unix socket that nobody serves
 * any more is replaced. An IPv6 address takes IPv6 alone. ERR_EXISTS: the address is in use;
 * ERR_NOT_FOUND: it is none of this machine's; ERR_IO: any other failure. `fd` is not set then,
 * errno says more. */
enum err listener_socket(const struct addr *addr, uint32_t backlog, uint32_t flags, int *fd)
    __attribute__((warn_unused_result));

/* From now on nobody new is queued at the listening socket `fd`, in whichever process it is open:
 * the kernel drops what asks for a connection, and whoever asks again once the socket is closed is
 * refused. Who is queued already can be accepted. No more than a wish: a Unix socket takes no
 * notice. */
void listener_deafen(int fd);

/* Accepts on `loop` from `fd`. */
void listener_start(struct loop *loop, struct listener *listener, int fd, listener_fn *fn);

/* A connection went: accepts again if it was held, or had no descriptor. */
void listener_resume(struct listener *listener);

/* Accepts what the kernel has queued, then stops: closing the socket afterwards resets nobody who
 * came before, and hardly anybody where it was deafened. Stopped already is fine. */
void listener_drain(struct listener *listener);

/* Stops accepting; the descriptor stays open. Twice is fine. */
void listener_stop(struct listener *listener);

#endif
