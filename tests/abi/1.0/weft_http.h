/* weft_http.h - the plugin ABI's chapter on HTTP: the request and the reply. Included by weft.h,
 * which has the rules for all chapters.
 */
#ifndef WEFT_HTTP_H
#define WEFT_HTTP_H

#ifndef WEFT_H
#error "include weft.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the request, of its ctx or a child of that; absent in a ctx without one ----------------- */

/* "GET"; HEAD stays HEAD. [loop] */
static inline weft_str weft_method(weft_ctx *ctx) { return weft__api->http->method(ctx); }

/* The path as it came: percent-encoded, mount included, without its query. [loop] */
static inline weft_str weft_path(weft_ctx *ctx) { return weft__api->http->path(ctx); }

/* The pattern's `:name` or `*name`, decoded; absent where the pattern has none. [loop] */
static inline weft_str weft_param(weft_ctx *ctx, const char *name)
{
    return weft__api->http->param(ctx, name);
}

/* The first `?name=`, decoded; empty for `?name`; absent. [loop] */
static inline weft_str weft_query(weft_ctx *ctx, const char *name)
{
    return weft__api->http->query(ctx, name);
}

/* The first header field `name`, in any case; absent. [loop] */
static inline weft_str weft_header(weft_ctx *ctx, const char *name)
{
    return weft__api->http->header(ctx, name);
}

/* What stands behind the path's '?', as it came: percent-encoded; absent where there is no '?'. See
 * weft_web.h for its parts. [loop] */
static inline weft_str weft_query_string(weft_ctx *ctx)
{
    return weft__api->http->query_string(ctx);
}

/* The header field at `index` (from 0), as they came; its name is absent behind the last. [loop] */
static inline weft_field weft_header_at(weft_ctx *ctx, uint32_t index)
{
    return weft__api->http->header_at(ctx, index);
}

/* The request's id: what a trusted proxy calls it ([server] request_id), or the one of the logs, in
 * 16 hex digits; never empty. [loop] */
static inline weft_str weft_request_id(weft_ctx *ctx) { return weft__api->http->request_id(ctx); }

/* The client's address without its port; behind [server] trusted_proxies, the one that they tell.
 * [loop] */
static inline weft_str weft_peer(weft_ctx *ctx) { return weft__api->http->peer(ctx); }

/* The prefix that the instance is mounted at, "" or "/then": what goes before a Location. [loop] */
static inline weft_str weft_mount(weft_ctx *ctx) { return weft__api->http->mount(ctx); }

/* The whole body; empty where there is none, and on a route that streams. [loop] */
static inline weft_str weft_body(weft_ctx *ctx) { return weft__api->http->body(ctx); }

/* The first field `name` behind a chunked body, once that has ended; absent. It is no header: what
 * it says of framing, routing or who somebody is counts for nothing. [loop] */
static inline weft_str weft_trailer(weft_ctx *ctx, const char *name)
{
    return weft__api->http->trailer(ctx, name);
}

/* The field number `index` behind a chunked body, in their order, those of one name too; without a
 * name behind the last one. As weft_trailer(). [loop] */
static inline weft_field weft_trailer_at(weft_ctx *ctx, uint32_t index)
{
    return weft__api->http->trailer_at(ctx, index);
}

/* ---- a body as a stream, on a route with WEFT_ROUTE_STREAM: the handler starts with the head, and
 * whoever sends is held back while it does not read. Memory stays the same for any length:
 *
 *     static weft_status upload(weft_ctx *ctx, void *self)
 *     {
 *         weft_op *read;
 *         for (;;) {
 *             read = weft_body_read(ctx);
 *             WEFT_TRY(weft_await(read));
 *             if (weft_piece(read).ptr == NULL)
 *                 break;
 *             WEFT_TRY(store(ctx, weft_piece(read)));
 *         }
 *         return weft_reply_text(ctx, 201, "stored");
 *     }
 *
 * The route's timeout does not count while a read waits for the client, and begins anew with each
 * piece. A handler may answer before it has read all: what little is left is then dropped, else the
 * connection ends behind the answer. A route's body_bytes_max holds, too. ---- */

/* An op for some more of the body: weft_piece(), at most about 100 KB; absent at its end. One at a
 * time; piece and op are good until the next one. A client that waits for "100 Continue" gets it
 * with the first, unless its answer has begun: then it gets none, and the connection ends behind
 * the answer. WEFT_E_STATE: another one waits, or the route does not stream; WEFT_E_TOO_BIG: beyond
 * the limit; WEFT_E_TOO_SLOW; WEFT_E_BAD_REQUEST: malformed; WEFT_E_CANCELED: the client left.
 * [loop] */
static inline weft_op *weft_body_read(weft_ctx *ctx) { return weft__api->http->body_read(ctx); }

/* ---- the reply: the first one stands, and ends the ctx. WEFT_E_STATE: there is one already;
 * WEFT_E_CANCELED: the client has left; WEFT_E_INVALID: no code from 200 to 599, or a type that
 * cannot be sent ------------------------------------------------------------------------------- */

/* Adds a field; twice the same name makes two. WEFT_E_INVALID, and nothing is added: no name or an
 * absent value, CR, LF or NUL in one of them, or a field of the host's own (framing, Date, Server).
 * [loop] */
static inline weft_status weft_set_header(weft_ctx *ctx, const char *name, weft_str value)
{
    return weft__api->http->set_header(ctx, name, value);
}

/* Answers. `type` is the Content-Type, or NULL: none. [loop] */
static inline weft_status weft_reply(weft_ctx *ctx, uint32_t code, const char *type, weft_str body)
{
    return weft__api->http->reply(ctx, code, type, body);
}

/* Answers with text, as text/plain in UTF-8. [loop] */
static inline weft_status weft_reply_text(weft_ctx *ctx, uint32_t code, const char *text)
{
    return weft_reply(ctx, code, "text/plain; charset=utf-8", weft_cstr(text));
}

/* Answers with JSON, which is not checked. [loop] */
static inline weft_status weft_reply_json(weft_ctx *ctx, uint32_t code, weft_str json)
{
    return weft_reply(ctx, code, "application/json", json);
}

/* Sends the client to `location`, a path or URL, with a code from 300 to 399, such as 303; another
 * one is WEFT_E_INVALID. [loop] */
static inline weft_status weft_redirect(weft_ctx *ctx, uint32_t code, weft_str location)
{
    if (code < 300 || code > 399)
        return weft_reply(ctx, 0, NULL, location); /* which is refused, and told */
    WEFT_TRY(weft_set_header(ctx, "Location", location));
    return weft_reply(ctx, code, NULL, weft_cstr(""));
}

/* Answers with application/problem+json (RFC 9457); `detail` is for the client and may be NULL.
 * [loop] */
static inline weft_status weft_problem(weft_ctx *ctx, uint32_t code, const char *detail)
{
    return weft__api->http->problem(ctx, code, weft_cstr(detail));
}

/* The detail that the client gets with the status that is handed on: return weft_explain(ctx,
 * WEFT_E_BAD_REQUEST, "title: %s", reason). At most 1,023 bytes. Returns `status`. [loop] */
WEFT_PRINTF(3, 4)
static inline weft_status weft_explain(weft_ctx *ctx, weft_status status, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    (void)weft__api->http->explain(ctx, weft__print(text, sizeof text, format, args));
    va_end(args);
    return status;
}

/* ---- a reply in pieces: begin, write as often as it takes, end. Awaiting a write is what keeps
 * memory small: it goes on when the client has taken enough of what went before.
 *
 *     static weft_status export_rows(weft_ctx *ctx, void *self)
 *     {
 *         weft_str line;
 *         WEFT_TRY(weft_reply_begin(ctx, 200, "text/csv"));
 *         while (next_line(ctx, &line))
 *             WEFT_TRY(weft_await(weft_write(ctx, line)));
 *         return weft_reply_end(ctx);
 *     }
 *
 * Without a length it goes out chunked, to clients of HTTP/1.0 up to the connection's end. The
 * route's timeout counts until weft_reply_begin(): after it, what limits the reply is a client that
 * takes nothing (write_timeout of server.ini: the ctx is canceled, WEFT_WHY_CLIENT_GONE), and what
 * the handler waits for; a child ctx may have a deadline of its own. A failure that the handler
 * returns, or a handler that comes to its end without weft_reply_end(), breaks the reply off, so
 * that the client sees that it is not whole, with a line in the log. ---- */

/* Of a reply in pieces. */
struct weft_reply_options {
    uint32_t size;       /* sizeof(weft_reply_options) */
    uint32_t flags;      /* WEFT_REPLY_... */
    uint64_t length;     /* bytes of the body, if they are known; 0: they are not */
    uint32_t idle_ms;    /* where nothing was written for so long, idle_bytes are; 0: never */
    uint32_t reserved;   /* 0 */
    weft_str idle_bytes; /* at most 1,024, such as a comment that keeps proxies from closing */
};

/* It has no end of its own: when the worker begins to stop, the ctx is canceled with
 * WEFT_WHY_SHUTDOWN, and the reply ends in order. */
#define WEFT_REPLY_LIVE 1u

/* Begins one; its head leaves with this turn. `options` may be NULL. Statuses are weft_reply()'s;
 * WEFT_E_INVALID as well for idle_bytes with a length, or idle_ms without them. [loop] */
static inline weft_status weft_reply_begin_with(weft_ctx *ctx, uint32_t code, const char *type,
                                                const weft_reply_options *options)
{
    return weft__api->http->reply_begin(ctx, code, type, options);
}

/* The same with default options. [loop] */
static inline weft_status weft_reply_begin(weft_ctx *ctx, uint32_t code, const char *type)
{
    return weft__api->http->reply_begin(ctx, code, type, NULL);
}

/* An op for `count` (at most 64) pieces of the body, which are copied, and sent in one go: OK once
 * there is room for more. It need not be awaited: up to 1 MiB that the client has not taken, or 64
 * writes that wait; beyond that WEFT_E_OVERLOAD, and nothing was written. WEFT_E_CANCELED: the
 * client left; WEFT_E_STATE: no reply has begun, it has ended, or this is beyond its length;
 * WEFT_E_INVALID: more pieces. The op is good until a write that follows when it has settled.
 * [loop] */
static inline weft_op *weft_write_all(weft_ctx *ctx, uint32_t count, const weft_str *pieces)
{
    return weft__api->http->write(ctx, count, pieces);
}

/* The same for one piece. [loop] */
static inline weft_op *weft_write(weft_ctx *ctx, weft_str bytes)
{
    return weft__api->http->write(ctx, 1, &bytes);
}

/* Adds a field for behind the body, until the end; it goes to clients that take trailers ("TE:
 * trailers") where the reply is chunked, else nowhere. WEFT_E_INVALID: no field, or one that must
 * not stand there; WEFT_E_STATE: no reply in pieces goes on. [loop] */
static inline weft_status weft_set_trailer(weft_ctx *ctx, const char *name, weft_str value)
{
    return weft__api->http->set_trailer(ctx, name, value);
}

/* Ends it, and the ctx. WEFT_E_STATE: none goes on, or it is short of its length, and was broken
 * off; WEFT_E_CANCELED: the client left. [loop] */
static inline weft_status weft_reply_end(weft_ctx *ctx) { return weft__api->http->reply_end(ctx); }

/* ---- a reply that is a file, or a part of one: sent by the kernel, as fast as the client takes
 * it, and in no memory of ours. plugins/static serves folders with it. ---- */

/* What is sent. */
struct weft_file {
    uint32_t size;   /* sizeof(weft_file) */
    int32_t fd;      /* open for reading; at least 3 */
    uint64_t offset; /* bytes before the first one that is sent */
    uint64_t length; /* bytes from there on */
};

/* Replies with it. `file->fd` is the host's from the call on, whatever its status: it closes it.
 * Statuses are weft_reply()'s; WEFT_E_INVALID as well for no descriptor, or a small file that
 * cannot be read or is shorter: then there is no reply yet. A larger one that turns out so when it
 * is sent is broken off, with a line in the log. The ctx ends with the call, the request with the
 * last byte. Reading blocks the worker where the kernel does not have the bytes in memory, 256 KiB
 * at a time: open what may be cold in weft_offload(), with posix_fadvise(). [loop] */
static inline weft_status weft_reply_file(weft_ctx *ctx, uint32_t code, const char *type,
                                          const weft_file *file)
{
    return weft__api->http->reply_file(ctx, code, type, file);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif
