/* net/resolve.h - names to addresses without blocking, through c-ares (the one user of ares.h).
 *
 * A resolver keeps answers for their TTL (1 s to 5 min), failures for 2 s, and serves a stale
 * answer where a refresh fails; a name that is gone for certain is gone. /etc/hosts is honoured,
 * and /etc/resolv.conf read again when it has changed. Literal addresses and "localhost" never
 * reach the network. Who asks for a name that is being looked up waits for the same answer.
 * Loop:   of one loop; callbacks never inside the call that took them.
 * Memory: a request is embedded; it must stay put until it ran or was cancelled.
 * Limits: 16 addresses a name, 1024 names kept, 5 s a look-up in all.
 */
#ifndef WEFT_NET_RESOLVE_H
#define WEFT_NET_RESOLVE_H

#include "base/error.h"
#include "loop/loop.h"
#include "net/addr.h"

struct resolver;
struct resolve;

/* Addresses of one name that are told; what a server answers beyond them is left out. */
enum { RESOLVE_ADDRS_MAX = 16 };

/* Runs once unless cancelled. ERR_OK: request->addrs has `count` >= 1. Else there is none:
 * ERR_UNKNOWN_NAME, ERR_TIMED_OUT, ERR_UNREACHABLE (no server gave an answer). */
typedef void resolve_fn(struct resolve *request, enum err err);

/* One question. Zeroed: not asked. */
struct resolve {
    struct addr
        addrs[RESOLVE_ADDRS_MAX]; /* families in turn, IPv6 first, else as the server said */
    uint32_t count;               /* of addrs */
    uint32_t good_ms;    /* when it ran: how long the answer holds; asking again before that
                                     brings the same, and after a failure the same failure */
    uint16_t _port;      /* put into each address */
    struct list _link;   /* waiting for a name's answer */
    struct ready _ready; /* the answer is there, told soon */
    resolve_fn *_fn;     /* what runs */
    enum err _err;       /* what it gets */
};

/* `servers` is NULL (/etc/resolv.conf) or "127.0.0.1:5353,..." for tests. Aborts where c-ares
 * cannot be set up, which is only so without memory. */
struct resolver *resolver_create(struct loop *loop, const char *servers);

/* Gives up all look-ups; nobody may be waiting (checked). NULL is fine. */
void resolver_destroy(struct resolver *resolver);

/* Asks for `host` (a name or a literal address, copied); `fn` runs later. */
void resolve_start(struct resolver *resolver, struct resolve *request, struct span host,
                   uint16_t port, resolve_fn *fn);

/* `fn` will not run. Done or zeroed is fine. */
void resolve_cancel(struct resolve *request);

#endif
