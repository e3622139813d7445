/* net/resolve.h - names to addresses without blocking, through c-ares (the one user of ares.h).
 *
 * A resolver keeps answers for their TTL (1 s to 5 min), failures for 2 s, and serves a stale answer where a
 * refresh fails. /etc/hosts is honoured. Literal addresses and "localhost" never reach the network.
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

enum { RESOLVE_ADDRS_MAX = 16 };

/* Runs once unless cancelled. ERR_OK: request->addrs has `count` >= 1; ERR_UNKNOWN_NAME, ERR_TIMED_OUT. */
typedef void resolve_fn(struct resolve *request, enum err err);

struct resolve {
    struct addr
        addrs[RESOLVE_ADDRS_MAX]; /* families interleaved, IPv6 first, in the server's order else */
    uint32_t count;               /* of addrs */
    uint16_t _port;               /* put into each address */
    struct list _link;            /* waiting for a name's answer */
    struct ready _ready;          /* an answer that was there at once */
    resolve_fn *_fn;              /* what runs */
    enum err _err;                /* what it gets */
    bool _is_on;                  /* it will run */
};

/* `servers` is NULL (/etc/resolv.conf) or "127.0.0.1:5353,..." for tests. */
struct resolver *resolver_create(struct loop *loop, const char *servers);
void resolver_destroy(struct resolver *resolver);

/* Asks for `host` (a name or a literal address); `fn` runs later. */
void resolve_start(struct resolver *resolver, struct resolve *request, struct span host,
                   uint16_t port, resolve_fn *fn);

/* `fn` will not run. Done or zeroed is fine. */
void resolve_cancel(struct resolve *request);

#endif
