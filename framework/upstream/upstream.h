/* upstream/upstream.h - a named HTTP server that handlers call: its connections, and calls as ops.
 *
 * Loop:   of one loop.
 * Memory: an upstream owns its connections. A call's texts are copied before it returns; an answer
 *         lives until the op is released or its scope ends; its spans have a NUL behind them.
 * Limits: those of upstream/options.h.
 */
#ifndef WEFT_UPSTREAM_UPSTREAM_H
#define WEFT_UPSTREAM_UPSTREAM_H

#include "base/span.h"
#include "http/message.h"
#include "observe/metrics.h"
#include "task/op.h"
#include "upstream/failure.h"
#include "upstream/options.h"
#include <stdbool.h>
#include <stdint.h>

struct resolver;
struct tasks;
struct upstream;

/* What happened so far, and what there is now. */
struct upstream_counts {
    uint64_t failures[UPSTREAM_FAILURE_COUNT]; /* of the calls, by what went wrong */
    uint64_t calls;                            /* settled */
    uint64_t failed;         /* of them, without an answer, refused ones included */
    uint64_t refused;        /* of these, no place in line, or too long a wait for a connection */
    uint64_t canceled;       /* of the calls, given up by their scope or their user; not failed */
    uint64_t retried;        /* sent once more, on a new connection or to another address */
    uint64_t retries_denied; /* not, since the budget was used up */
    uint64_t ejections;      /* of addresses */
    uint64_t breaks;         /* how often the breaker opened */
    uint64_t shared;         /* asked for while the same was under way, and not sent */
    uint64_t hedged;         /* sent once more, elsewhere if possible, since an answer was slow */
    uint64_t hedges_won;     /* of them, answered there first */
    uint64_t checks;         /* of addresses, ended */
    uint64_t checks_failed;  /* of them */
    uint64_t connects;       /* connections opened */
    uint64_t reused;         /* calls on a kept connection */
    uint32_t connections;    /* open now */
    uint32_t idle;           /* of them, kept */
    uint32_t waiting;        /* calls in line */
};

/* Of the loop of `tasks`, which outlive it. `name` (copied) is for logs and metrics; `options`,
 * which passed upstream_options_check() (checked), is the caller's and outlives it. Connects to
 * nothing yet, and looks no name up. NULL: the files of TLS are not what they were then; `problem`
 * names the file. */
struct upstream *upstream_create(struct tasks *tasks, struct resolver *resolver, const char *name,
                                 const struct upstream_options *options,
                                 char problem[INI_PROBLEM_SIZE]);

/* Looks its names up, and keeps doing so; else the first call does. Twice is fine. */
void upstream_start(struct upstream *upstream);

/* Ends it: every call's op was released, or its scope has ended (checked); connections are closed.
 * NULL is fine. */
void upstream_destroy(struct upstream *upstream);

/* Its name. */
const char *upstream_name(const struct upstream *upstream);

/* What it has counted; changes as it goes on. */
const struct upstream_counts *upstream_counts(const struct upstream *upstream);

/* How long its calls took, from the start to the answer or the failure; the upstream's. */
const struct histogram *upstream_times(const struct upstream *upstream);

/* Flags of a call: it may be sent again, whatever its method; of a stream, its body is written; the
 * server is told that trailers are welcome; gzip is welcome, and decoded: body_max holds for both
 * forms, or, of a stream, decoded_max for what comes out, and Content-Encoding and Content-Length
 * are left out of the fields; a GET may be answered by a call that is under way already, and the
 * same in each byte. */
enum {
    UPSTREAM_IDEMPOTENT = 1,
    UPSTREAM_UPLOAD = 2,
    UPSTREAM_TRAILERS = 4,
    UPSTREAM_DECODE = 8,
    UPSTREAM_SHARED = 16
};

/* Of hedge_ms: whatever the upstream's options say, none. */
#define UPSTREAM_NO_HEDGE UINT32_MAX

/* What to send. Zeroed is a GET, which wants a path. */
struct upstream_call {
    struct span method;              /* absent: GET; CONNECT is refused */
    struct span path;                /* with its query, encoded; begins with '/'; goes behind the
                                        url's prefix */
    const struct http_field *fields; /* `field_count` of them; hop-by-hop ones, Host, Expect and
                                        framing are ours: ERR_INVALID */
    uint32_t field_count;            /* of fields */
    struct span body;                /* may be absent; is, with UPSTREAM_UPLOAD */
    uint32_t flags;                  /* UPSTREAM_... */
    uint32_t timeout_ms;             /* 0: the upstream's, or, of a stream, none; the scope's budget
                                        is a limit besides */
    uint64_t length;                 /* with UPSTREAM_UPLOAD: bytes of the body; 0: not known, it
                                        goes out chunked */
    uint32_t hedge_ms;               /* a GET that is not answered by then is sent once more, to
                                        another address where there is one; 0: the upstream's */
};

/* Calls. An answer of any status is OK. Errors, with their reasons:
 *   ERR_UP_BUSY     upstream_queue_full, upstream_queue_timeout, upstream_breaker_open
 *   ERR_UP_CONNECT  upstream_resolve, upstream_resolve_timeout, upstream_connect (refused),
 *                   upstream_connect_timeout, upstream_tls, upstream_tls_timeout
 *   ERR_UP_RESET    upstream_reset (it broke off), upstream_protocol (it broke the protocol)
 *   ERR_UP_TIMEOUT  upstream_write_timeout, upstream_first_byte_timeout,
 *                   upstream_between_bytes_timeout, upstream_timeout
 *   ERR_UP_TOO_BIG  upstream_head_too_big, upstream_body_too_big
 *   ERR_INVALID     upstream_invalid
 * and those of op_init(). op->error has a text for people that names the upstream. */
struct op *upstream_call(struct scope *scope, struct upstream *upstream,
                         const struct upstream_call *call);

/* Is it a call's op (the rest may be called for any other op and answers as for no answer)? */
bool op_is_upstream(const struct op *op);

/* ---- the answer, once it settled OK ---- */

/* Its status, 200 to 599; 0: none. */
uint32_t upstream_code(const struct op *op);

/* Its fields, in their order; none without an answer. Never NULL. */
const struct http_fields *upstream_fields(const struct op *op);

/* Its body; empty where it has none, absent without an answer. */
struct span upstream_body(const struct op *op);

/* What a call has taken: to connect (0: it was connected already), from its start to the first byte
 * of the answer's head, and to its end. */
enum { UPSTREAM_TIME_CONNECT, UPSTREAM_TIME_FIRST_BYTE, UPSTREAM_TIME_TOTAL, UPSTREAM_TIME_COUNT };

/* Microseconds, of the try that was answered; -1: not known (yet). */
int64_t upstream_time_us(const struct op *op, uint32_t which);

/* The address that answered, "127.0.0.1:80"; absent. */
struct span upstream_address(const struct op *op);

/* Did the answer come over a connection that had been used before? */
bool upstream_is_reused(const struct op *op);

/* ---- bodies in pieces, at constant memory ---- */

/* Calls, and settles with the head of the answer, or as upstream_call() does; what fails later is
 * told by pulls and writes, with the same errors. The op is the stream: the call is given up when
 * it is released, or its scope is canceled or ends. body_max is not for it, nor is the upstream's
 * timeout. ERR_DEADLINE, upstream_stream_timeout: nothing has moved for stream_timeout. It is never
 * sent again once some of a body written was sent; nor for a Retry-After. */
struct op *upstream_stream(struct scope *scope, struct upstream *upstream,
                           const struct upstream_call *call);

/* Pulls what there is of the answer's body as op->piece, a NUL behind it; absent: the end. Good
 * until the next pull of the stream, as the op itself is. May be asked for before the head is
 * there. Canceled alone it loses nothing. ERR_STATE: a pull waits already, or it is no stream. */
struct op *upstream_read(struct op *stream);

/* Writes some more of the request's body, which is copied: OK when there is room for more. Canceled
 * alone it goes all the same. The op is good until the next write. ERR_OVERLOAD: more than
 * FLOW_UNSENT_MAX bytes or FLOW_WRITES_MAX writes would wait; ERR_STATE: not UPSTREAM_UPLOAD,
 * ended, or beyond its length. */
struct op *upstream_write(struct op *stream, struct span bytes);

/* That was the whole body; `count` fields go behind it where it is chunked. ERR_STATE: it has
 * ended, or is short of its length: then the call fails; ERR_INVALID: a field is none, or must not
 * stand there. */
enum err upstream_write_end(struct op *stream, const struct http_field *trailers, uint32_t count)
    __attribute__((warn_unused_result));

/* Is more of the request's body of any use? Not, once it has ended, the answer is complete or has a
 * code from 400 on, or the call has failed. What is written then is forgotten. */
bool upstream_wants(const struct op *stream);

/* The fields behind the answer's body, once its end was pulled. Never NULL. */
const struct http_fields *upstream_trailers(const struct op *stream);

#endif
