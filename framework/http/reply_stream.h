/* http/reply_stream.h - an answer in pieces, as fast as its client takes them.
 *
 *   begin ──▶ write, write, ... ──▶ http_reply_end()
 *                 │
 *                 └── an op: settles when there is room for more
 *
 * What the client has not taken gathers in the connection's buffer; behind an earlier answer that
 * is not complete, in one of the request's own. From HTTP_STREAM_HIGH on a write's op waits until
 * there is less than HTTP_STREAM_LOW; who does not wait is refused from HTTP_STREAM_MAX on.
 *
 * Once such an answer has begun, the request's budget counts no more: what has no length of its own
 * is limited by its client (write_timeout), by what its handler waits for, and by who ends it.
 * Loop:   of the worker's loop.
 * Memory: a stream is its request's. Its bytes are copied before a call returns; its writes take no
 *         more memory the more there are.
 * Limits: below.
 */
#ifndef WEFT_HTTP_REPLY_STREAM_H
#define WEFT_HTTP_REPLY_STREAM_H

#include "http/request.h"

enum {
    HTTP_STREAM_LOW = 16384,    /* bytes that the kernel has not: writes that wait go on */
    HTTP_STREAM_HIGH = 65536,   /* a write waits */
    HTTP_STREAM_MAX = 1 << 20,  /* a write is refused; one that comes before may be of any size */
    HTTP_STREAM_WRITES_MAX = 64 /* writes that wait; more are refused */
};

/* How an answer is streamed. */
struct http_stream_options {
    int64_t length;   /* of the body; -1: unknown */
    bool is_live;     /* it has no end of its own: its scope is canceled (SCOPE_SHUTDOWN) when the
                       * server drains, and what its handler leaves unended then ends in order */
    uint32_t idle_ms; /* after so long without a write, `idle` is written; 0: never */
    struct span idle; /* such as a comment that keeps a connection alive; copied */
};

/* The head. The errors are http_reply_begin()'s; ERR_INVALID as well where `idle` would spoil a
 * declared length. */
enum err http_stream_begin(struct http_request *request, uint32_t code, struct span type,
                           const struct http_stream_options *options)
    __attribute__((warn_unused_result));

/* Some of the body, `count` spans of it in one piece, of the request that `scope` or its root
 * serves. OK: there is room for more. ERR_STATE: no stream has begun, it has ended, or this is more
 * than the declared length; ERR_OVERLOAD: HTTP_STREAM_MAX; ERR_CANCELED: the client has left. What
 * failed was not written. Canceled while it waits, it is written all the same. The op is good until
 * a write that follows once it has settled. */
struct op *http_stream_write(struct scope *scope, const struct span *pieces, uint32_t count);

/* A field for behind the body. It is sent where the answer is chunked and the client said that it
 * takes trailers (TE), and dropped elsewhere. ERR_STATE: no stream goes on; ERR_INVALID: no field,
 * or one that must not stand there (framing, routing, ...). */
enum err http_stream_trailer(struct http_request *request, struct span name, struct span value)
    __attribute__((warn_unused_result));

/* Breaks off an answer that has begun, so that the client sees it: no last chunk, a length that is
 * not reached, or a reset. `why` is for the access log; NULL: derived. */
void http_stream_break(struct http_request *request, const char *why);

/* ---- for the other files of the room ---- */

/* The kernel has taken some of what was written, or the answer is first in line now. */
void http_stream_room(struct http_request *request);

/* Its request is over, or lost its connection: nothing of it runs any more. */
void http_stream_stop(struct http_request *request);

/* The server drains. */
void http_stream_drain(struct http_request *request);

/* Is it one that has no end of its own? */
bool http_stream_is_live(const struct http_request *request);

/* Ends such a one, in order. `why` as above. */
void http_stream_end_live(struct http_request *request, const char *why);

/* Its trailers, perhaps none. */
struct http_fields http_stream_trailers(const struct http_request *request);

#endif
