/* upstream/flow.h - the bodies of a call that is streamed: the answer's is pulled, the request's is
 * written.
 *
 *   answer:   connection ──take──▶ (unpack) ──▶ gathered ──(all of it at once)──▶ piece ──▶ pull
 *   request:  write ──▶ unsent, before there is a connection ──▶ the connection
 *
 * From FLOW_HIGH bytes on that nobody has pulled, the connection is not read; a write settles once
 * less than FLOW_HIGH wait to be sent. Where gzip is decoded, no more than FLOW_HIGH comes out of
 * it at once, and the connection is not read while any of it waits.
 * Loop:   of the call's.
 * Memory: in the call's scope; bounded, however long the bodies are.
 * Limits: FLOW_UNSENT_MAX bytes and FLOW_WRITES_MAX writes wait to be sent; stream_timeout_ms of
 *         the options, in which something has to move.
 */
#ifndef WEFT_UPSTREAM_FLOW_H
#define WEFT_UPSTREAM_FLOW_H

#include "base/buf.h"
#include "http/message.h"
#include "loop/loop.h"
#include "task/op.h"
#include "upstream/unpack.h"
#include <stdbool.h>
#include <stdint.h>

struct call;
struct flow_pull;
struct flow_write;

enum { FLOW_HIGH = 64 * 1024, FLOW_UNSENT_MAX = 1024 * 1024, FLOW_WRITES_MAX = 64 };

/* Of the request's body. UNWANTED: an answer came that makes the rest of it pointless. */
enum flow_upload { FLOW_NONE, FLOW_OPEN, FLOW_ENDED, FLOW_UNWANTED };

/* One call's. */
struct flow {
    struct call *call;           /* whose */
    struct flow_pull *pull;      /* the last one; NULL: it was let go of */
    struct buf gathered;         /* of the answer, not yet pulled */
    struct buf piece;            /* what the last pull brought */
    struct unpack unpack;        /* decodes the answer, where that is wanted */
    struct http_fields trailers; /* behind the answer's body */
    bool is_over;                /* nothing more comes or goes */
    enum err err;                /* once over: how */
    const char *reason;          /* the same for the access log; NULL */
    struct span error;           /* the same for people; absent */
    enum flow_upload upload;     /* see above */
    bool is_chunked;             /* the request's length is not known */
    bool has_written;            /* bytes of the request's body went to a connection */
    uint64_t left;               /* not chunked: bytes that are still to be written */
    struct buf unsent;           /* written before there was a connection, framed */
    struct list writes;          /* that wait, oldest first */
    uint32_t write_count;        /* of them */
    struct flow_write *write;    /* the last one; NULL: it was let go of */
    struct ready space;          /* all has been sent at once: the writes that wait are told */
    uint64_t moved_ms;           /* loop time when it moved last */
};

/* ---- for call.c ---- */

/* A flow for `call`. `is_upload`: the request's body will be written; `length` bytes, 0:
 * unknown. */
struct flow *flow_create(struct call *call, bool is_upload, uint64_t length);

/* The call's request was started on a connection: what was written follows. */
void flow_sent(struct flow *flow);

/* The answer's head came. */
void flow_answered(struct flow *flow, uint32_t code);

/* What comes of the answer's body is gzip, and to be decoded. */
void flow_decode(struct flow *flow);

/* Some of the answer's body. ERR_TOO_BIG, ERR_PROTOCOL: that cannot be decoded, and the caller ends
 * the call. */
enum err flow_take(struct flow *flow, struct span bytes) __attribute__((warn_unused_result));

/* Has the answer's body, which came to its end, been cut off? What was not pulled yet is looked at
 * when it is. */
bool flow_is_cut_off(const struct flow *flow);

/* There is room for more of the request. */
void flow_drained(struct flow *flow);

/* Nothing more comes: the answer is complete, or `err`; `reason` and `error`, which stay put, say
 * why. All that is pending settles; once. */
void flow_end(struct flow *flow, enum err err, const char *reason, struct span error);

/* The loop time from which it has stood still for too long. */
uint64_t flow_still_ms(const struct flow *flow);

/* May the request be sent once more: did nothing of a body go with it? */
static inline bool flow_is_replayable(const struct flow *flow)
{
    return !flow->has_written;
}

/* The call's op is released. It is over. */
void flow_release(struct flow *flow);

#endif
