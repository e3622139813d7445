/* http/router.h - from method and path to a route.
 *
 * A pattern is segments: `exact`, `:param` (one segment, not empty), `*rest` (the last one: all
 * that is left, perhaps empty). In each segment exact goes before `:param` before `*rest`, whatever
 * the order of registration, with a step back where the better one leads nowhere, or only to other
 * methods. A trailing slash counts. HEAD is implied by GET. A handler is a function and its data:
 * the router knows no plugin.
 * Loop:   filled at start, then only read.
 * Memory: methods, patterns and names are copied; routes live as long as the router.
 * Limits: ROUTER_PARAMS_MAX parameters a pattern, URI_SEGMENTS_MAX segments. A look-up visits each
 *         node of the tree once at most: adversarial paths cost no more than the routes warrant.
 */
#ifndef WEFT_HTTP_ROUTER_H
#define WEFT_HTTP_ROUTER_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

struct http_filter;
struct http_filters;
struct http_request;
struct router;

/* Serves a request: on the loop's stack, once its body is there (or at once,
 * HTTP_ROUTE_STREAM_BODY). It answers now or later; the request's scope tells when
 * (http/request.h). */
typedef void http_handler_fn(struct http_request *request, void *data);

/* Flags of a route. STREAM_BODY: the handler starts before the body is there, and pulls it
 * (http/body.h). FINISH: the client's leaving does not cancel. VITAL: served whatever the load. */
enum { HTTP_ROUTE_STREAM_BODY = 1, HTTP_ROUTE_FINISH = 2, HTTP_ROUTE_VITAL = 4 };

/* Who serves what. */
struct http_route {
    char *method;            /* "GET"; the router's copy */
    char *pattern;           /* "/books/:id", mount included; the router's copy */
    http_handler_fn *fn;     /* serves it */
    void *data;              /* for fn */
    const char *owner;       /* the plugin instance's name, for logs; the registrar's, outlives the
                              * router; NULL: the host itself */
    uint32_t blame_index;    /* in the blame page */
    uint32_t flags;          /* HTTP_ROUTE_... */
    uint32_t timeout_ms;     /* budget; 0: the server's */
    uint64_t body_bytes_max; /* inclusive; 0: the server's */
    uint32_t requests_max;   /* under way at once; more: 503; 0: the server's limit alone */
    uint32_t requests_open;  /* where requests_max is not 0; counted by the server */
    uint64_t requests;       /* counted by the server */
    uint32_t lines;          /* the lines (task/line.h) that its requests join; by the server */
    uint32_t lines_seen[2];  /* those of the last two requests; by the server */
    const char *closed;      /* NULL, or why it is answered 503: a constant sentence for the client.
                              * Written by who watches over the routes, at any time */
};

/* Of one pattern. */
enum { ROUTER_PARAMS_MAX = 16 };

/* What a look-up found. What is behind `count` is not set. */
struct route_match {
    struct http_route *route;              /* NULL: none */
    const struct span *names;              /* of params, without ':' or '*'; the router's */
    struct span values[ROUTER_PARAMS_MAX]; /* segments that were given; *rest: of the first of its
                                            * segments to the end of the last */
    uint32_t count;                        /* of params */
    bool is_other_method;                  /* the path exists, the method does not: 405 */
    char allow[96];                        /* then the Allow field's value */
};

/* A router without routes. */
struct router *router_create(void);

/* Frees it with its routes. NULL is fine. */
void router_destroy(struct router *router);

/* Adds a copy of `route` (method, pattern, fn, data, owner, ... set). ERR_SYNTAX: the pattern or
 * method is none, or a method that is not served (http_is_method()); ERR_EXISTS: the same method
 * and pattern (names of params apart) is there: `*other` is that route. On success `*added` is the
 * route. `other` and `added` may be NULL. */
enum err router_add(struct router *router, const struct http_route *route,
                    struct http_route **added, const struct http_route **other)
    __attribute__((warn_unused_result));

/* Adds a copy of `filter`; the errors are http_filters_add()'s. */
enum err router_add_filter(struct router *router, const struct http_filter *filter)
    __attribute__((warn_unused_result));

/* All of them. */
const struct http_filters *router_filters(const struct router *router);

/* Takes back every route and filter of `owner` (an init that failed), compared as text. */
void router_remove_owner(struct router *router, const char *owner);

/* Finds the route of `segments` (at least one), which are those of uri_segments(): decoded, so that
 * `%2F` stays inside of one, and slices of one buffer with one byte between two. */
void router_match(const struct router *router, struct span method, const struct span *segments,
                  uint32_t count, struct route_match *match);

/* Each route in the order of registration; NULL at the end. Start with *at == 0. Only `closed` may
 * be written. */
struct http_route *router_next(const struct router *router, uint32_t *at);

#endif
