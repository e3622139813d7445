/* http/filter.h - who is asked before a handler, and sees every answer's head.
 *
 * A request's filters are those whose prefix its decoded path lies below, in their order. Before
 * its body is read the first of them that wants to be asked is: it asks the others, and either
 * answers or says that the request goes on. Each sees the answer's head before it is written, the
 * last one first, and may have its body changed.
 * Loop:   filled at start, then only read.
 * Memory: prefixes are copied; the list is its router's.
 * Limits: HTTP_FILTERS_MAX filters, HTTP_TRANSFORMS_MAX changes of one body.
 */
#ifndef WEFT_HTTP_FILTER_H
#define WEFT_HTTP_FILTER_H

#include "http/request.h"

enum { HTTP_FILTERS_MAX = 64, HTTP_TRANSFORMS_MAX = 4 };

struct http_filter {
    char *prefix;      /* "/admin/users", or "": everything; the list's copy */
    int32_t order;     /* the lowest first; those that are equal as they came */
    const char *owner; /* the plugin instance's name; outlives the list */
    void *data;        /* the owner's */
    /* Asked with the request's head, on the loop's stack; NULL: it is not. Answers the request, or
     * calls http_request_pass(), now or later, for itself and all that come after it. */
    void (*ask)(struct http_request *request, const struct http_filter *filter);
    /* Sees code and fields of the answer before they are written; NULL: it does not. */
    void (*see)(struct http_request *request, const struct http_filter *filter);
};

/* Those of a router. */
struct http_filters {
    struct http_filter *at[HTTP_FILTERS_MAX]; /* by their order */
    uint32_t count;                           /* of at */
};

/* Adds a copy. ERR_SYNTAX: its prefix is none; ERR_TOO_BIG: HTTP_FILTERS_MAX. */
enum err http_filters_add(struct http_filters *filters, const struct http_filter *filter)
    __attribute__((warn_unused_result));

/* Takes back those of `owner`, compared as text. */
void http_filters_remove_owner(struct http_filters *filters, const char *owner);

/* Frees all. */
void http_filters_clear(struct http_filters *filters);

/* Notes in the request those that its path's `segments` lie below. */
void http_filters_match(const struct http_filters *filters, struct http_request *request,
                        const struct span *segments, uint32_t count);

/* Every filter of the request that was to be asked has let it pass, or there is none; may run on a
 * fiber. One that was answered or given up meanwhile goes nowhere. */
void http_request_pass(struct http_request *request);

/* ---- while an answer's head is seen ---- */

/* Takes every field `name` out of it. ERR_STATE: it is not the time. */
enum err http_reply_remove_field(struct http_request *request, struct span name)
    __attribute__((warn_unused_result));

/* Changes a piece of a body; see http_reply_transform(). False: the answer is to be broken off. */
typedef bool http_transform_fn(struct http_request *request, void *data, struct span in,
                               uint32_t flags, struct span *out);

/* Of a piece: nothing follows; nothing may be kept back. */
enum { HTTP_PIECE_LAST = 1, HTTP_PIECE_FLUSH = 2 };

/* Has `fn` change the body: `*out`, which stays until the next call, takes the place of `in`.
 * ERR_STATE: it is not the time; ERR_UNSUPPORTED: HTTP_TRANSFORMS_MAX, or a large file. */
enum err http_reply_transform(struct http_request *request, http_transform_fn *fn, void *data)
    __attribute__((warn_unused_result));

/* ---- for the other files of the room ---- */

/* Has the answer's head seen; its code, type and length are there. */
void http_filters_see(struct http_request *request);

/* Runs a piece through what changes the body. False: the answer is to be broken off. */
bool http_filters_change(struct http_request *request, struct span in, uint32_t flags,
                         struct span *out);

#endif
