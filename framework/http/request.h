/* http/request.h - one request, from its head to its last byte of answer.
 *
 * The connection parses it and owns its place in the pipeline; its memory is its scope's, head and
 * body are copies there, so that it outlives the connection's buffers. A handler reads it with
 * these calls and answers it with http/response.h.
 *
 *   HEAD ──▶ BODY ──▶ HANDLER ──▶ ANSWERED (reply ended, or the client left) ──▶ scope ends
 *
 * A client that closes, or says that it has sent all (FIN), while a handler waits has left: the
 * scope is canceled (SCOPE_CLIENT_GONE), unless the route says HTTP_ROUTE_FINISH. A FIN that was
 * there when the handler started, or while the body still came, cancels nothing: such a client has
 * asked, and listens.
 * Loop:   of its worker's loop.
 * Memory: everything here lives until its scope ends. Every span has a NUL behind it.
 */
#ifndef WEFT_HTTP_REQUEST_H
#define WEFT_HTTP_REQUEST_H

#include "base/buf.h"
#include "base/error.h"
#include "http/message.h"
#include "http/router.h"
#include "net/addr.h"
#include "task/op.h"
#include "task/scope.h"

struct http_conn;
struct http_filter;
struct http_server;
struct http_transform;

/* How far its answer is; SEEN: filters look at its head (http/filter.h). */
enum http_reply_state { HTTP_REPLY_NONE, HTTP_REPLY_SEEN, HTTP_REPLY_BEGUN, HTTP_REPLY_ENDED };

/* One request. To be read by all; others write only where it says so. */
struct http_request {
    uint32_t magic;              /* HTTP_REQUEST_MAGIC */
    enum http_reply_state reply; /* see above */
    struct scope *scope;         /* its lifetime; scope->owner is the request */
    struct http_server *server;  /* the worker's */
    struct http_conn *conn;      /* NULL once the connection went or the answer is complete */
    uint64_t id;                 /* unique within the host's life; in logs as it is */
    struct span method;          /* "GET"; empty where the head was refused before */
    struct span target;          /* as it came */
    struct span path;            /* of the target: percent-encoded, without query */
    struct span query;           /* behind '?'; absent */
    struct span host;            /* of the Host field or the absolute target; may be empty */
    struct http_fields fields;   /* the head's */
    struct http_fields trailers; /* those behind a chunked body, once it is complete */
    struct route_match match;    /* route and parameters */
    struct buf body;             /* what came of it and was not pulled */
    uint64_t body_bytes;         /* received so far */
    uint64_t begun_us;           /* loop time of the head's first byte */
    uint64_t handler_us;         /* loop time when its handler was called; 0: never */
    const struct addr
        *peer;            /* the client's address, as far as trusted proxies tell it; a copy in the
                              * arena */
    struct span given_id; /* what a trusted proxy calls the request; absent */
    const struct http_filter **filters; /* those that its path lies below, by their order; NULL */
    uint32_t filter_count;              /* of them */
    struct http_field *reply_fields;    /* set by the handler so far */
    uint32_t reply_field_count;         /* of them */
    uint32_t code;                      /* of the reply */
    struct span reply_type;             /* Content-Type, until the head is written; absent */
    uint64_t reply_bytes;               /* of the answer's body, sent or queued */
    const char *why;    /* for the access log; set by who knows it: "shed", "body_too_big"; NULL:
                         * derived from the scope */
    struct span detail; /* what the handler explained for its error status; absent. The handler's
                         * layer writes it */
    void *user;         /* the handler's layer's own */
    /* Set by the handler's layer, or NULL: nothing runs and nothing is pending, and there is no
     * reply; scope->why says whether it was canceled. Where it does not reply, the server does. */
    void (*on_idle)(struct http_request *request);
    bool is_body_complete;    /* the last byte is there */
    bool is_head;             /* HEAD: no body in the answer */
    bool is_http10;           /* answers are framed for HTTP/1.0 */
    bool must_close;          /* the connection ends behind this answer */
    bool _expects_word;       /* the client waits for ours before it sends the body */
    bool _is_after_fin;       /* the client had sent FIN when the handler started */
    bool _is_asked;           /* a filter was asked, and has not let it pass */
    bool _has_passed;         /* the last one has just done so */
    bool _is_counted;         /* among its route's requests_open */
    bool _is_over;            /* logged, and let go of */
    bool _has_no_body;        /* of the answer: what is written of one is dropped */
    bool _is_broken;          /* the answer ends before its end, and nothing else says so */
    bool _is_spoiled;         /* a change of the body has failed: it is broken off */
    uint8_t _transform_count; /* of _transforms */
    uint8_t _framing;         /* of the answer: enum http_framing */
    struct http_transform *_transforms; /* what changes the answer's body; NULL */
    int64_t _reply_left;                /* of the declared length; -1: none was declared */
    uint64_t _out_bytes;                /* of the answer, head and framing too */
    uint64_t _body_max;                 /* bytes of body, inclusive */
    int64_t _body_length;               /* Content-Length; -1: none */
    enum err _body_err;                 /* why it will never be complete */
    struct buf _piece;                  /* what pulls are served from */
    size_t _handed;                     /* bytes of it that the last pull was given */
    struct http_body_pull *_pull;       /* the pull that waits; NULL */
    struct http_body_pull *_last_pull;  /* the last one that was started and lives; NULL */
    struct http_stream *_stream;        /* its answer, where that comes in pieces; NULL */
    struct http_file_reply *_file;      /* its answer, where that is a large file; NULL */
    struct list _link; /* in the connection's pipeline, or among the server's lost ones */
    struct buf _out;   /* its answer's bytes while an earlier answer is not complete */
};

#define HTTP_REQUEST_MAGIC 0x68747271u

/* The first field `name`; absent. */
struct span http_request_header(const struct http_request *request, struct span name);

/* The route's parameter `name`, decoded; absent. */
struct span http_request_param(const struct http_request *request, struct span name);

/* The first `?name=`, decoded ('+' is a blank; an escape that is none stays as it is); absent;
 * empty for `?name`. */
struct span http_request_query(struct http_request *request, struct span name);

/* The whole body, buffered before the handler starts. Empty, not absent, where there is none, and
 * where the route streams (http/body.h). */
struct span http_request_body(const struct http_request *request);

/* The request's name: what a trusted proxy gave it, or `id` in 16 hex digits. */
struct span http_request_name(struct http_request *request);

/* The client's address without its port. */
struct span http_request_peer(struct http_request *request);

/* The request that `scope`, or the root of its tree, serves; NULL: none. */
struct http_request *http_request_of(const struct scope *scope);

#endif
