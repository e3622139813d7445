/* http/server.h - the HTTP side of a worker: its connections, limits and routes.
 *
 * Loop:   of one loop.
 * Memory: owns its connections; the router, tasks and options are the caller's and outlive it. An
 *         idle connection is its struct, without buffers.
 */
#ifndef WEFT_HTTP_SERVER_H
#define WEFT_HTTP_SERVER_H

#include "base/buf.h"
#include "http/options.h"
#include "http/reasons.h"
#include "http/request.h"
#include "http/router.h"
#include "task/tasks.h"

struct access_log;
struct http_server;

/* What happened so far. */
struct http_server_counts {
    uint64_t requests;            /* heads that were whole and right */
    uint64_t refused;             /* answered by the server itself with 4xx, 501 or 505 */
    uint64_t connections;         /* accepted */
    uint64_t connections_refused; /* accepted and closed: too many of one address */
    uint32_t connections_open;    /* now */
    uint32_t requests_open;       /* heads read, answer not complete */
    struct http_reasons reasons;  /* of requests that did not end well */
};

/* What a server is made of. Copied; what it points at is the caller's. */
struct http_server_setup {
    struct tasks *tasks;                /* the worker's; its loop is the server's */
    const struct http_options *options; /* limits */
    const struct router *router;        /* routes */
    struct access_log *access;          /* NULL: none is written */
    uint64_t id_base; /* added to request ids, which count from 1: differs between workers and
                       * generations in its high bits */
    void (*on_room)(void *data); /* a connection went: there is room for another; may be NULL */
    void *data;                  /* for on_room */
    struct http_server_counts *counts; /* where to count, zeroed: memory that others read; NULL: in
                                        * the server's own */
};

/* A server without connections. */
struct http_server *http_server_create(const struct http_server_setup *setup);

/* Closes what is left. Every request must have ended (checked). NULL is fine. */
void http_server_destroy(struct http_server *server);

/* A new connection; `fd` (CLOEXEC, NONBLOCK) is the server's from here. */
void http_server_accept(struct http_server *server, int fd, const struct addr *peer);

/* Below connections_max? */
bool http_server_has_room(const struct http_server *server);

/* May another connection be accepted? From connections_soft on, one that is idle is closed for it.
 * False: on_room() runs when that has changed, but not from inside this call. */
bool http_server_make_room(struct http_server *server);

/* From here answers say `Connection: close`, and connections that are idle are closed: after
 * drain_idle, in which a request that comes, or is on its way, is still served. `drained(data)`
 * runs once when the last connection went and the last request ended, not inside this call.
 * Requests under way go on. */
void http_server_drain(struct http_server *server, void (*drained)(void *data), void *data);

/* Takes http_server_drain() back: connections may stay again; drained() does not run any more. */
void http_server_resume(struct http_server *server);

/* Cancels every request (SCOPE_SHUTDOWN) and closes every connection: the end of the drain's
 * patience. Their scopes end in later turns. Returns how many requests were cut off. */
uint32_t http_server_abort(struct http_server *server);

/* In a forked child, beside loop_abandon(): closes the descriptors and touches nothing else. NULL
 * is fine. */
void http_server_abandon(const struct http_server *server);

/* What happened so far; the server's. */
const struct http_server_counts *http_server_counts(const struct http_server *server);

#endif
