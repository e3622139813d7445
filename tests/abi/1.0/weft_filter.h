/* weft_filter.h - the plugin ABI's chapter on filters: what is asked before the handlers of other
 * plugins, and sees every answer's head. Included by weft.h, which has the rules for all chapters.
 *
 *     static weft_status guard(weft_ctx *ctx, void *self)
 *     {
 *         (void)self;
 *         if (is_known(weft_header(ctx, "Authorization")))
 *             return WEFT_OK;
 *         WEFT_TRY(weft_set_header(ctx, "WWW-Authenticate", weft_cstr("Bearer")));
 *         return weft_problem(ctx, 401, NULL);
 *     }
 *
 *     const weft_filter_options options = {sizeof options, 100, "/admin", guard, NULL, NULL};
 *     return weft_filter(host, &options);
 *
 * A request's filters are those whose prefix its path lies below, of all plugins, by their order.
 * They are asked once the head is there, before the body is read, whether a route is there or not;
 * then comes the handler, or the host's 404 or 405. Of requests that the host refuses itself
 * (malformed, a body beyond its limit) nobody is asked, but their answers are seen, where their
 * path is known.
 */
#ifndef WEFT_FILTER_H
#define WEFT_FILTER_H

#ifndef WEFT_H
#error "include weft.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Of a filter. */
struct weft_filter_options {
    uint32_t size;        /* sizeof(weft_filter_options) */
    int32_t order;        /* the lowest is asked first, and sees the answer last */
    const char *prefix;   /* exact segments, "/admin": it and all below; NULL or "": everything. The
                           * instance's mount goes before it. A path is decoded for that, its dot
                           * segments are gone, but "//" is not "/", and %2F not a boundary: a
                           * handler that hands paths on to what sees that otherwise refuses them */
    weft_handler *before; /* asked; NULL: it is not. It may wait, with weft_await(); where it
                           * returns with a weft_then() still to come, the answer is 500. WEFT_OK
                           * without a reply: go on. A reply, or another status, which is answered
                           * as a handler's: nobody else is asked, and no handler runs */
    weft_handler *after;  /* sees the head of each answer that is sent, the host's own among them;
                           * NULL: it does not. It cannot wait; what it returns but WEFT_OK is
                           * logged, and the answer is sent */
    void *self;           /* for both; NULL: what init() made */
};

/* Adds a filter. WEFT_E_INVALID: neither `before` nor `after`, a prefix that is none, or more than
 * 64 filters. [init] */
static inline WEFT_MUST_USE weft_status weft_filter(weft_host *host,
                                                    const weft_filter_options *options)
{
    return weft__api->http->filter(host, options);
}

/* ---- in `after`: the head that is about to be sent. weft_set_header() adds to it. Elsewhere
 * these are WEFT_E_STATE, 0, absent or -1 ------------------------------------------------------ */

/* Its status code. [loop] */
static inline uint32_t weft_reply_code(weft_ctx *ctx) { return weft__api->http->reply_code(ctx); }

/* Its first field `name`, in any case, Content-Type among them; absent. What the host writes itself
 * (framing, Date, Server) is not there. [loop] */
static inline weft_str weft_reply_header(weft_ctx *ctx, const char *name)
{
    return weft__api->http->reply_header(ctx, name);
}

/* Takes every field `name` out; none there is fine. [loop] */
static inline weft_status weft_remove_header(weft_ctx *ctx, const char *name)
{
    return weft__api->http->remove_header(ctx, name);
}

/* Bytes of its body; -1: not known yet. What is not sent (HEAD, 204, 304) counts too, where it is
 * known. [loop] */
static inline int64_t weft_reply_length(weft_ctx *ctx)
{
    return weft__api->http->reply_length(ctx);
}

/* Of a piece, for a weft_transform_fn. Nothing follows: the rest must come out now. */
#define WEFT_PIECE_LAST 1u
/* The client waits for it: nothing may be kept back. */
#define WEFT_PIECE_FLUSH 2u

/* Has `fn(ctx, data, ...)` change the body; its length is then what comes out. Where there is no
 * body to send (HEAD, 204, 304) it does not run, and the length is left out. Several are chained,
 * the one set first runs first. WEFT_E_INVALID: no `fn`; WEFT_E_UNSUPPORTED: the body is a file's,
 * or four are there already. [loop] */
static inline weft_status weft_transform(weft_ctx *ctx, weft_transform_fn *fn, void *data)
{
    return weft__api->http->transform(ctx, fn, data);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif
