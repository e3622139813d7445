/* weft_call.h - the plugin ABI's chapter on upstreams: calls to other servers over HTTP. Included
 * by weft.h, which has the rules for all chapters.
 */
#ifndef WEFT_CALL_H
#define WEFT_CALL_H

#ifndef WEFT_H
#error "include weft.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- at init -------------------------------------------------------------------------------- */

/* The upstream of section [upstream.NAME]. WEFT_E_INVALID: there is none. [init] */
static inline WEFT_MUST_USE weft_status weft_find_upstream(weft_host *host, const char *name,
                                                           weft_upstream **upstream)
{
    return weft__api->call->upstream(host, name, upstream);
}

/* ---- upstreams ------------------------------------------------------------------------------
 *
 * Calls go to the sections [upstream.NAME], and nowhere else: nothing that a client sends is taken
 * for a URL, and a redirect is an answer like any other, which nothing follows. What a client may
 * have a part in is the path; weft_encode() keeps it to its segment. Where others have a say in
 * what a section's name resolves to, private = off refuses private addresses at each look-up, and
 * what is connected to is what was looked at: upstream_private. ---- */

/* Of a call to an upstream. */
struct weft_call {
    uint32_t size;      /* sizeof(weft_call) */
    uint32_t flags;     /* WEFT_CALL_... */
    const char *method; /* NULL: GET */
    weft_str path;      /* with its query, percent-encoded; begins with '/' */
    weft_str body;      /* may be absent */
    const weft_field
        *fields;          /* `field_count` of them; Host, framing and hop-by-hop are the host's */
    uint32_t field_count; /* of fields */
    uint32_t timeout_ms;  /* 0: the upstream's; only ever shortens the ctx's budget */
    uint64_t length;   /* with WEFT_CALL_UPLOAD: bytes of the body; 0: not known, it is chunked */
    uint32_t hedge_ms; /* a GET that is not answered by then is sent once more, to another address
                           * where there is one, within the budget for retries; 0: hedge of
                           * [upstream.NAME]; streams are not hedged */
    uint32_t reserved; /* 0 */
};

/* May be sent again, whatever its method (it carries an Idempotency-Key, say). */
#define WEFT_CALL_IDEMPOTENT 1u
/* Of weft_call_stream(): the request's body is written, by weft_call_write(). */
#define WEFT_CALL_UPLOAD 2u
/* The upstream is told that trailers are welcome. */
#define WEFT_CALL_TRAILERS 4u
/* An answer in gzip is welcome, and decoded: Content-Encoding and Content-Length are not among its
 * fields then. What limits what comes out is body_max of [upstream.NAME], and of
 * weft_call_stream() decoded_max: WEFT_E_UP_TOO_BIG. Gzip that is none, is damaged, is cut off or
 * has anything but more gzip behind it is WEFT_E_UP_RESET, upstream_protocol: a stream's pulls
 * bring what came before first. */
#define WEFT_CALL_DECODE 8u
/* Of a GET, not of weft_call_stream(): where a call that is the same in each byte is under way
 * already, its answer is this one's, too. Each has a deadline of its own. What a handler does not
 * choose, such as traceparent, is the first one's. As single_flight of [upstream.NAME], which is
 * for all calls. */
#define WEFT_CALL_SHARED 16u
/* Of hedge_ms: none, whatever the settings say. */
#define WEFT_CALL_NO_HEDGE 0xffffffffu

/* Calls. An answer of any status, 4xx and 5xx too, is WEFT_OK with that code. WEFT_E_UP_...: there
 * is none; WEFT_E_INVALID: no path, method or field that can be sent (a field has a name and a
 * value); WEFT_E_UNSUPPORTED: unknown options or flags. The upstream may have got all of it as soon
 * as this returns, and go on with it where the call is canceled. [loop] */
static inline weft_op *weft_call_start(weft_ctx *ctx, weft_upstream *upstream,
                                       const weft_call *call)
{
    return weft__api->call->start(ctx, upstream, call);
}

/* The answer's status; 0: no answer. [loop] */
static inline uint32_t weft_call_code(weft_op *op) { return weft__api->call->code(op); }

/* The answer's first field `name`, in any case; absent. [loop] */
static inline weft_str weft_call_header(weft_op *op, const char *name)
{
    return weft__api->call->header(op, name);
}

/* The answer's field number `index`, in their order, those of one name too; without a name behind
 * the last one. [loop] */
static inline weft_field weft_call_header_at(weft_op *op, uint32_t index)
{
    return weft__api->call->header_at(op, index);
}

/* The answer's body; absent: no answer. [loop] */
static inline weft_str weft_call_body(weft_op *op) { return weft__api->call->body(op); }

/* What a call has taken: weft_call_time_us(). */
enum {
    WEFT_CALL_TIME_CONNECT,    /* to connect, handshakes included; 0: it was connected already */
    WEFT_CALL_TIME_FIRST_BYTE, /* from its start until the answer's head was there */
    WEFT_CALL_TIME_TOTAL       /* from its start to the answer's end */
};

/* Microseconds; -1: no answer, or it has not ended. [loop] */
static inline int64_t weft_call_time_us(weft_op *op, uint32_t which)
{
    return weft__api->call->time_us(op, which);
}

/* The address that answered, "127.0.0.1:80"; absent: no answer. [loop] */
static inline weft_str weft_call_address(weft_op *op) { return weft__api->call->address(op); }

/* 1: the answer came over a connection that had been used before; 0: over a new one, or none.
 * [loop] */
static inline uint32_t weft_call_is_reused(weft_op *op) { return weft__api->call->is_reused(op); }

/* `text` percent-encoded, for a segment of a path or a value of a query; absent where it is.
 * [loop] */
static inline weft_str weft_encode(weft_ctx *ctx, weft_str text)
{
    static const char digits[] = "0123456789ABCDEF";
    weft_str made = {NULL, 0};
    char *to;

    if (text.ptr == NULL)
        return made;
    to = (char *)weft_alloc(ctx, 3 * text.len + 1);
    made.ptr = to;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];

        if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
            (byte >= '0' && byte <= '9') || byte == '-' || byte == '_' || byte == '.' ||
            byte == '~') {
            to[made.len++] = (char)byte;
            continue;
        }
        to[made.len++] = '%';
        to[made.len++] = digits[byte >> 4];
        to[made.len++] = digits[byte & 15];
    }
    return made;
}

/* `path` with "?name=value" or "&name=value" behind it, both encoded; as it is where `value` is
 * absent: path = weft_query_add(ctx, weft_cstr("/search"), "q", words). [loop] */
static inline weft_str weft_query_add(weft_ctx *ctx, weft_str path, const char *name,
                                      weft_str value)
{
    weft_str key = weft_encode(ctx, weft_cstr(name)), text = weft_encode(ctx, value);
    int has_query = path.len > 0 && memchr(path.ptr, '?', path.len) != NULL;
    char *to;

    if (text.ptr == NULL || key.ptr == NULL)
        return path;
    to = (char *)weft_alloc(ctx, path.len + key.len + text.len + 3);
    if (path.len > 0)
        memcpy(to, path.ptr, path.len);
    to[path.len] = has_query ? '&' : '?';
    memcpy(to + path.len + 1, key.ptr, key.len);
    to[path.len + key.len + 1] = '=';
    memcpy(to + path.len + key.len + 2, text.ptr, text.len);
    path.ptr = to;
    path.len += key.len + text.len + 2;
    return path;
}

/* GETs `path`, a constant or encoded text. Errors as of weft_call_start(). [loop] */
static inline weft_op *weft_call_get(weft_ctx *ctx, weft_upstream *upstream, const char *path)
{
    weft_call call = {sizeof call, 0, NULL, weft_cstr(path), {NULL, 0}, NULL, 0, 0, 0, 0, 0};
    return weft_call_start(ctx, upstream, &call);
}

/* POSTs `json` to `path`. Errors as of weft_call_start(). [loop] */
static inline weft_op *weft_call_post_json(weft_ctx *ctx, weft_upstream *upstream, const char *path,
                                           weft_str json)
{
    weft_field type = {WEFT_S("Content-Type"), WEFT_S("application/json")};
    weft_call call = {sizeof call, 0, "POST", weft_cstr(path), json, &type, 1, 0, 0, 0, 0};
    return weft_call_start(ctx, upstream, &call);
}

/* ---- bodies in pieces, at constant memory, either way ------------------------------------------
 *
 *     weft_op *answer = weft_call_stream(ctx, partner, &call), *pulled;
 *     WEFT_TRY(weft_await(answer));                       the head: weft_call_code(answer) ...
 *     for (;;) {
 *         pulled = weft_call_read(answer);
 *         WEFT_TRY(weft_await(pulled));
 *         if (weft_piece(pulled).ptr == NULL)
 *             break;
 *         use(weft_piece(pulled));
 *     }
 *
 * Nothing is read from the upstream while nobody pulls. A stream has a connection for itself, which
 * is kept for other calls where both bodies came to their ends. What bounds it are timeout_ms of
 * the call, where that is set, the ctx's budget and, where nothing moves, stream_timeout of
 * [upstream.NAME]; timeout and body_max there are not for it, but decoded_max is, with
 * WEFT_CALL_DECODE. It is not sent again once some of a
 * body was sent that was written. ---- */

/* Calls: OK with the answer's head, whose code and fields are there from then on; errors as of
 * weft_call_start(). The op is the stream: it is given up, and its connection closed, when the op
 * is released (weft_op_release()) or its ctx is canceled or ends. What fails later, pulls and
 * writes say. WEFT_E_DEADLINE: nothing has moved for stream_timeout. [loop] */
static inline weft_op *weft_call_stream(weft_ctx *ctx, weft_upstream *upstream,
                                        const weft_call *call)
{
    return weft__api->call->stream(ctx, upstream, call);
}

/* Pulls what there is of the answer's body, some 64 KB at most, as an op of the stream's ctx, for
 * weft_piece(); an absent piece is the end. What it brought, and the op itself, is good until the
 * next pull. It may be asked for before the head is there. WEFT_E_STATE: no stream, or a pull of
 * it is pending. [loop] */
static inline weft_op *weft_call_read(weft_op *stream) { return weft__api->call->read(stream); }

/* Writes some more of the request's body (WEFT_CALL_UPLOAD), which is copied: OK once there is
 * room for more. It need not be awaited: up to 1 MiB that the upstream has not taken, or 64 writes
 * that wait; beyond that WEFT_E_OVERLOAD, and nothing was written. It may begin before there is a
 * connection. WEFT_E_STATE: not WEFT_CALL_UPLOAD, ended, or beyond the call's length. The op is
 * good until a write that follows when it has settled. [loop] */
static inline weft_op *weft_call_write(weft_op *stream, weft_str bytes)
{
    return weft__api->call->write(stream, bytes);
}

/* That was the body; `count` trailers go behind it where it is chunked. WEFT_E_STATE: it has
 * ended, or is short of the call's length: the call fails then; WEFT_E_INVALID: a trailer is no
 * field, or must not stand there. [loop] */
static inline weft_status weft_call_write_end_with(weft_op *stream, uint32_t count,
                                                   const weft_field *trailers)
{
    return weft__api->call->write_end(stream, count, trailers);
}

/* The same without trailers. [loop] */
static inline weft_status weft_call_write_end(weft_op *stream)
{
    return weft__api->call->write_end(stream, 0, NULL);
}

/* 1: more of the request's body is wanted. 0: it has ended; or the answer is there already,
 * complete or with a code from 400 on, or the call has failed: what is written then is forgotten,
 * with OK or that failure, and weft_await(stream) tells what came of it. [loop] */
static inline uint32_t weft_call_wants(weft_op *stream) { return weft__api->call->wants(stream); }

/* The field `name` behind the answer's body, in any case, once its end was pulled; absent. [loop]
 */
static inline weft_str weft_call_trailer(weft_op *stream, const char *name)
{
    return weft__api->call->trailer(stream, name);
}

/* The field number `index` behind the answer's body, once its end was pulled, in their order, those
 * of one name too; without a name behind the last one. [loop] */
static inline weft_field weft_call_trailer_at(weft_op *stream, uint32_t index)
{
    return weft__api->call->trailer_at(stream, index);
}

/* Writes the body of the client's request (of a route with WEFT_ROUTE_STREAM) to the upstream as
 * it comes, and ends it: on the caller's stack, as fast as the upstream takes it. WEFT_OK too
 * where the upstream wanted no more; else the status of the pull or write that failed. [loop] */
static inline weft_status weft_call_upload(weft_ctx *ctx, weft_op *stream)
{
    while (weft_call_wants(stream)) {
        weft_op *pulled = weft_body_read(ctx);
        weft_str piece;
        WEFT_TRY(weft_await(pulled));
        piece = weft_piece(pulled);
        if (piece.ptr == NULL)
            return weft_call_write_end(stream);
        WEFT_TRY(weft_await(weft_call_write(stream, piece)));
    }
    return WEFT_OK;
}

/* Writes the rest of the answer's body to the client, behind weft_reply_begin(), as it comes and
 * as fast as the client takes it; weft_reply_end() is the caller's. The status of the pull or
 * write that failed: handed on, it breaks the reply off. [loop] */
static inline weft_status weft_call_download(weft_ctx *ctx, weft_op *stream)
{
    for (;;) {
        weft_op *pulled = weft_call_read(stream);
        weft_str piece;
        WEFT_TRY(weft_await(pulled));
        piece = weft_piece(pulled);
        if (piece.ptr == NULL)
            return WEFT_OK;
        WEFT_TRY(weft_await(weft_write(ctx, piece)));
    }
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif
