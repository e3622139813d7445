/* A plugin that does with requests and answers what its clients ask it to: as filter, ?NAME=...,
 * where NAME is the instance's setting `name`; and as handler. */
#include "weft.h"
#include "weft_sse.h"

#include <ctype.h>
#include <stdlib.h>

static weft_str name, prefix;
static int64_t order;
static uint32_t has_routes;

static weft_str wanted(weft_ctx *ctx, const char *what)
{
    return weft_query(ctx, weft_fmt(ctx, "%s_%s", name.ptr, what).ptr);
}

static int is(weft_str s, const char *text)
{
    return weft_equal(s, weft_cstr(text));
}

static weft_status stream(weft_ctx *ctx)
{
    WEFT_TRY(weft_reply_begin(ctx, 200, "text/plain"));
    WEFT_TRY(weft_await(weft_write(ctx, weft_cstr("abc"))));
    WEFT_TRY(weft_await(weft_sleep(ctx, 1)));
    WEFT_TRY(weft_await(weft_write(ctx, weft_cstr("def"))));
    return weft_reply_end(ctx);
}

static weft_status deny(weft_ctx *ctx, weft_op *op, void *data)
{
    (void)op;
    (void)data;
    return weft_problem(ctx, 403, "denied, but too late");
}

static weft_status before(weft_ctx *ctx, void *self)
{
    weft_str want = wanted(ctx, "asks");

    (void)self;
    WEFT_TRY(weft_set_header(ctx, "X-Asked", name));
    if (is(want, "deny"))
        return weft_problem(ctx, 403, "denied");
    if (is(want, "fail"))
        return weft_explain(ctx, WEFT_E_BAD_REQUEST, "filtered");
    if (is(want, "wait")) {
        WEFT_TRY(weft_await(weft_sleep(ctx, 20)));
    } else if (is(want, "deny_later")) {
        WEFT_TRY(weft_await(weft_sleep(ctx, 20)));
        return weft_problem(ctx, 403, "denied later");
    } else if (is(want, "never")) {
        WEFT_TRY(weft_await(weft_sleep(ctx, 3600000)));
    } else if (is(want, "stream")) {
        return stream(ctx);
    } else if (is(want, "decide_later")) {
        return weft_then(weft_sleep(ctx, 20), deny, NULL);
    } else if (is(want, "cancel")) {
        weft_cancel(ctx);
    } else if (is(want, "crash")) {
        abort();
    }
    return WEFT_OK;
}

/* Upper case, in a buffer of the ctx's; `data` is what goes behind the last piece. */
static weft_status change(weft_ctx *ctx, void *data, weft_str in, uint32_t flags, weft_str *out)
{
    weft_str tail = weft_cstr((flags & WEFT_PIECE_LAST) != 0 ? (const char *)data : "");
    char *text = (char *)weft_alloc(ctx, in.len + tail.len + 1);

    for (size_t i = 0; i < in.len; i++)
        text[i] = (char)toupper((unsigned char)in.ptr[i]);
    memcpy(text + in.len, tail.ptr, tail.len);
    *out = (weft_str){text, in.len + tail.len};
    return WEFT_OK;
}

static weft_status fail(weft_ctx *ctx, void *data, weft_str in, uint32_t flags, weft_str *out)
{
    (void)ctx;
    (void)data;
    (void)in;
    (void)flags;
    (void)out;
    return WEFT_E_UNSUPPORTED;
}

/* As it is, but for its end. */
static weft_status fail_at_the_end(weft_ctx *ctx, void *data, weft_str in, uint32_t flags,
                                   weft_str *out)
{
    (void)ctx;
    (void)data;
    *out = in;
    return (flags & WEFT_PIECE_LAST) != 0 ? WEFT_E_UNSUPPORTED : WEFT_OK;
}

static weft_status after(weft_ctx *ctx, void *self)
{
    weft_str want = wanted(ctx, "sees"), type = weft_reply_header(ctx, "content-type");

    (void)self;
    WEFT_TRY(
        weft_set_header(ctx, "X-Seen",
                        weft_fmt(ctx, "%s %u %d %s", name.ptr, weft_reply_code(ctx),
                                 (int)weft_reply_length(ctx), type.ptr != NULL ? type.ptr : "-")));
    if (is(want, "upper"))
        return weft_transform(ctx, change, (void *)"!");
    if (is(want, "break"))
        return weft_transform(ctx, fail, NULL);
    if (is(want, "break_end"))
        return weft_transform(ctx, fail_at_the_end, NULL);
    if (is(want, "remove")) {
        WEFT_TRY(weft_remove_header(ctx, "x-asked"));
        return weft_remove_header(ctx, "Content-Type");
    }
    if (is(want, "reply"))
        return weft_reply_text(ctx, 200, "instead");
    if (is(want, "wait"))
        return weft_await(weft_sleep(ctx, 1));
    return is(want, "fail") ? WEFT_E_UNSUPPORTED : WEFT_OK;
}

static weft_status greet(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(ctx, 200, weft_reply_code(ctx) == 0 ? "hello" : "?");
}

static weft_status greet_in_pieces(weft_ctx *ctx, void *self)
{
    (void)self;
    return stream(ctx);
}

/* Has no end of its own. */
static weft_status follow(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_sse_begin(ctx));
    WEFT_TRY(weft_await(weft_sse_send(ctx, NULL, weft_cstr(NULL), weft_cstr("one"))));
    return weft_await(weft_sleep(ctx, 3600000));
}

static weft_status echo(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, "application/octet-stream", weft_body(ctx));
}

static weft_status count(weft_ctx *ctx, void *self)
{
    uint64_t size = 0;
    weft_op *read;

    (void)self;
    do {
        read = weft_body_read(ctx);
        WEFT_TRY(weft_await(read));
        size += weft_piece(read).len;
    } while (weft_piece(read).ptr != NULL);
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%u", (unsigned)size).ptr);
}

static weft_status init(weft_host *host, void **self)
{
    const weft_route_options streams = {sizeof streams, WEFT_ROUTE_STREAM, 0, 0, 0};
    weft_filter_options options = {sizeof options, 0, NULL, before, after, NULL};

    (void)self;
    WEFT_TRY(weft_setting(host, "name", NULL, &name));
    WEFT_TRY(weft_setting(host, "prefix", "", &prefix));
    WEFT_TRY(weft_setting_int(host, "order", INT32_MIN, INT32_MAX, 0, &order));
    WEFT_TRY(weft_setting_bool(host, "routes", 0, &has_routes));
    options.order = (int32_t)order;
    options.prefix = prefix.ptr;
    if (is(name, "none"))
        options.before = options.after = NULL;
    WEFT_TRY(weft_filter(host, &options));
    if (!has_routes)
        return WEFT_OK;
    WEFT_TRY(weft_route(host, "GET", "/hello", greet));
    WEFT_TRY(weft_route(host, "GET", "/in/hello", greet));
    WEFT_TRY(weft_route(host, "GET", "/pieces", greet_in_pieces));
    WEFT_TRY(weft_route(host, "GET", "/follow", follow));
    WEFT_TRY(weft_route(host, "POST", "/echo", echo));
    return weft_route_with(host, "POST", "/count", count, NULL, &streams);
}

WEFT_PLUGIN("filters", "1.0", init, NULL, NULL);
