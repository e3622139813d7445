/* upstream/check.h - asks an address again and again whether it is well.
 *
 * On a connection of its own, so that connecting is checked too and no call waits for it. The first
 * check begins at once, the next ones an interval after the last one's end, a little less for some,
 * so that workers do not ask in step.
 *
 * Loop:   of one loop; the callback runs from the loop only.
 * Memory: a check points at its target, which must outlive it.
 * Limits: check_timeout_ms, connect_timeout_ms of the options.
 */
#ifndef WEFT_UPSTREAM_CHECK_H
#define WEFT_UPSTREAM_CHECK_H

#include "base/buf.h"
#include "base/span.h"
#include <stdbool.h>

struct check;
struct exchange_shared;
struct target;
struct tls_context;

/* A check has ended; `why` is for people where it was bad. */
typedef void check_fn(struct target *target, bool is_good, const char *why, void *data);

/* What the checks of an upstream share; the caller's, and outlives them. */
struct check_shared {
    struct tls_context *tls;                 /* NULL: without TLS */
    struct span tls_name;                    /* whom a certificate must name */
    const char *name;                        /* of the upstream, for logs */
    struct span host;                        /* for the Host field */
    struct buf_pool *buffers;                /* for the connections */
    const struct exchange_shared *exchanges; /* loop and options too */
    check_fn *fn;                            /* who is told */
    void *data;                              /* for fn */
};

/* Begins. */
struct check *check_create(const struct check_shared *shared, struct target *target);

/* Ends it, whatever it does. NULL is fine. */
void check_destroy(struct check *check);

#endif
