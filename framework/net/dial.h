/* net/dial.h - from a host name to a connected socket.
 *
 * Addresses are tried one after the other; the next one also when one has not answered within 250
 * ms (RFC 8305), and the first to connect wins.
 * Loop:   of one loop; `done` never runs inside dial_start().
 * Memory: embedded; must stay put until `done` ran or it was cancelled.
 * Limits: at most 4 addresses are tried at the same time.
 */
#ifndef WEFT_NET_DIAL_H
#define WEFT_NET_DIAL_H

#include "loop/timer.h"
#include "net/resolve.h"

struct dial;

/* Runs once, unless dial_cancel() came first. `fd` (CLOEXEC, NONBLOCK, TCP_NODELAY) is the
 * callee's, or -1 where `err` says why: ERR_UNKNOWN_NAME, ERR_UNREACHABLE (every address refused,
 * `os_error` of the last; or no server knew the name), ERR_TIMED_OUT. */
typedef void dial_fn(struct dial *dial, enum err err, int fd);

/* Where to. Needed only during dial_start(). */
struct dial_target {
    const struct addr *addr; /* NULL, or just this one; host and port are not looked at then */
    struct span host;        /* a name, a literal address, or "unix:" and a path */
    uint16_t port;           /* 0 with "unix:" */
    uint32_t timeout_ms;     /* for all of it; at least 1 */
};

/* One address that is being tried. */
struct dial_attempt {
    struct dial *dial;   /* whose */
    struct io io;        /* of its socket; off: this place is free */
    int fd;              /* the socket */
    uint32_t addr_index; /* of the address in the answer */
};

/* Attempts at the same time: a few dead addresses must not hide a live one. */
enum { DIAL_ATTEMPTS_MAX = 4 };

/* One connection to be. Zeroed: done. */
struct dial {
    struct loop *_loop;                               /* its loop */
    struct resolve _resolve;                          /* the addresses */
    struct dial_attempt _attempts[DIAL_ATTEMPTS_MAX]; /* connects under way */
    struct timer _deadline;                           /* of all of it */
    struct timer _stagger;                            /* the next address gets its turn */
    struct ready _ready;                              /* nothing to look up: begins soon */
    struct addr addr;                                 /* the address that connected */
    dial_fn *_done;                                   /* what runs */
    uint32_t _next;                                   /* the next address to try */
    int os_error;                                     /* errno of the last refusal, 0: none */
    int _state;                                       /* see dial.c */
};

/* Begins; `dial` is zeroed or done. `resolver` may be NULL where nothing is to be looked up. */
void dial_start(struct loop *loop, struct resolver *resolver, struct dial *dial,
                const struct dial_target *target, dial_fn *done);

/* Withdraws whatever is under way. Done or zeroed is fine. */
void dial_cancel(struct dial *dial);

#endif
