/* upstream/upstream.h - a named HTTP server that handlers call: its pool of connections, and calls as ops.
 *
 * Loop:   of one loop.
 * Memory: an upstream owns its connections. A call's texts are copied before it returns; an answer lives until the op is released or
 *         its scope ends; its spans have a NUL behind them.
 */
#ifndef WEFT_UPSTREAM_UPSTREAM_H
#define WEFT_UPSTREAM_UPSTREAM_H

#include "http/message.h"
#include "task/op.h"
#include "upstream/options.h"

struct buf_pool;
struct loop;
struct resolver;
struct upstream;

struct upstream_counts {
    uint64_t calls;       /* settled */
    uint64_t failed;      /* without an answer */
    uint64_t refused;     /* no place, or waited too long */
    uint64_t retried;     /* sent once more */
    uint64_t connects;    /* connections opened */
    uint64_t reused;      /* calls on a kept connection */
    uint32_t connections; /* open now */
    uint32_t idle;        /* of them, kept */
    uint32_t waiting;     /* calls in line */
};

/* `name` for logs and metrics; `options` (checked) is the caller's and outlives it. Connects to nothing yet. */
struct upstream *upstream_create(struct loop *loop, struct resolver *resolver, const char *name,
                                 const struct upstream_options *options);

/* Ends it: no call may be pending (checked); connections are closed. NULL is fine. */
void upstream_destroy(struct upstream *upstream);

const char *upstream_name(const struct upstream *upstream);
const struct upstream_counts *upstream_counts(const struct upstream *upstream);

enum { UPSTREAM_IDEMPOTENT = 1 }; /* may be sent again, whatever its method */

struct upstream_call {
    struct span method; /* absent: GET */
    struct span path;   /* with its query, encoded; begins with '/'; goes behind the url's prefix */
    const struct http_field *
        fields; /* `field_count` of them; hop-by-hop ones, Host and framing are ours: ERR_INVALID */
    uint32_t field_count; /* of fields */
    struct span body;     /* may be absent */
    uint32_t flags;       /* UPSTREAM_... */
    uint32_t timeout_ms;  /* 0: the upstream's; only ever shortens the scope's budget */
};

/* Calls. An answer of any status is OK. Errors: ERR_UP_BUSY (reason upstream_queue_full, upstream_queue_timeout), ERR_UP_CONNECT
 * (upstream_connect, upstream_resolve), ERR_UP_RESET (upstream_reset, upstream_protocol), ERR_UP_TIMEOUT (upstream_timeout), ERR_UP_TOO_BIG
 * (upstream_too_big), ERR_INVALID, and those of op_init(). */
struct op *upstream_call(struct scope *scope, struct upstream *upstream,
                         const struct upstream_call *call);

/* Is it a call's op (the rest may be called for any other op and answers as for no answer)? */
bool op_is_upstream(const struct op *op);

/* ---- the answer, once it settled OK ---- */
/* Its status; 0: none. */
uint32_t upstream_code(const struct op *op);
const struct http_fields *upstream_fields(const struct op *op);
struct span upstream_body(const struct op *op);

#endif
