/* weft_sse.h - server-sent events: a reply that goes on, an event now and then.
 *
 *     static weft_status follow(weft_ctx *ctx, void *self)
 *     {
 *         weft_str from = weft_sse_last_id(ctx);
 *         WEFT_TRY(weft_sse_begin(ctx));
 *         for (;;) {
 *             ... wait for what is new behind `from` ...
 *             WEFT_TRY(weft_await(weft_sse_send(ctx, "change", id, data)));
 *         }
 *     }
 *
 * It goes on until the handler ends it (weft_reply_end()), the client leaves
 * (WEFT_WHY_CLIENT_GONE) or the worker begins to stop (WEFT_WHY_SHUTDOWN): then what the handler
 * waits for settles with WEFT_E_CANCELED, and handing that on is all there is to do. A browser
 * comes back by itself, to another worker, and says what it saw last. While nothing is sent the
 * host writes a comment every 15 s, which proxies need to see.
 *
 * A stream lasts for days: what a turn allocates belongs into a child ctx that ends with the turn.
 * Threads: [loop], all of it.
 * Memory:  nothing is kept.
 *
 * Header-only; C99 or later, C++11 or later.
 */
#ifndef WEFT_SSE_H
#define WEFT_SSE_H

#include "weft.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Milliseconds without an event, until a comment is sent. */
#define WEFT_SSE_IDLE_MS 15000u
/* Pieces of an event that leave in one weft_write_all(). */
#define WEFT_SSE_PIECES_MAX 64u

/* Begins a stream of events. Its status is weft_reply_begin()'s. [loop] */
static inline weft_status weft_sse_begin(weft_ctx *ctx)
{
    weft_reply_options options;

    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.flags = WEFT_REPLY_LIVE;
    options.idle_ms = WEFT_SSE_IDLE_MS;
    options.idle_bytes = weft_cstr(":\n\n");
    WEFT_TRY(weft_set_header(ctx, "Cache-Control", weft_cstr("no-store")));
    WEFT_TRY(weft_set_header(ctx, "X-Accel-Buffering", weft_cstr("no")));
    return weft_reply_begin_with(ctx, 200, "text/event-stream", &options);
}

/* The id of the last event that the client saw before it came back; absent. [loop] */
static inline weft_str weft_sse_last_id(weft_ctx *ctx) { return weft_header(ctx, "Last-Event-ID"); }

/* The first line of `text`, and `*rest`, what stands behind its end; absent where there is none. */
static inline weft_str weft_sse__line(weft_str text, weft_str *rest)
{
    size_t len = 0, end;

    while (len < text.len && text.ptr[len] != '\n' && text.ptr[len] != '\r')
        len++;
    end = len + (len < text.len);
    if (end < text.len && text.ptr[len] == '\r' && text.ptr[end] == '\n')
        end++;
    rest->ptr = len < text.len ? text.ptr + end : NULL;
    rest->len = len < text.len ? text.len - end : 0;
    text.len = len;
    return text;
}

/* Sends an event: `event` is its type, NULL: "message"; `id` and `data` may be absent, and `data`
 * may have lines. Of `event` and `id` the first line counts. The op is weft_write()'s, to be
 * awaited. Where it is WEFT_E_OVERLOAD, the event was not sent; where a part of a long one was, the
 * ctx is canceled, and the client comes back. [loop] */
static inline weft_op *weft_sse_send(weft_ctx *ctx, const char *event, weft_str id, weft_str data)
{
    static const weft_str head_event = WEFT_S("event: "), head_id = WEFT_S("id: "),
                          head_data = WEFT_S("data: "), end = WEFT_S("\n");
    weft_str pieces[WEFT_SSE_PIECES_MAX], rest;
    uint32_t count = 0;
    int is_split = 0;
    weft_op *op;

    if (event != NULL) {
        pieces[count++] = head_event;
        pieces[count++] = weft_sse__line(weft_cstr(event), &rest);
        pieces[count++] = end;
    }
    if (id.ptr != NULL) {
        pieces[count++] = head_id;
        pieces[count++] = weft_sse__line(id, &rest);
        pieces[count++] = end;
    }
    for (rest = data.ptr != NULL ? data : weft_cstr(""); rest.ptr != NULL;) {
        if (count + 4 > WEFT_SSE_PIECES_MAX) {
            (void)weft_write_all(ctx, count, pieces); /* where that fails, the last one does */
            is_split = 1;
            count = 0;
        }
        pieces[count++] = head_data;
        pieces[count] = weft_sse__line(rest, &rest);
        pieces[++count] = end;
        count++;
    }
    pieces[count++] = end;
    op = weft_write_all(ctx, count, pieces);
    if (is_split && weft_op_status(op) == WEFT_E_OVERLOAD)
        weft_cancel(ctx); /* half an event must not become part of the next one */
    return op;
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif
