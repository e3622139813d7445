/* Goal: a plugin that answers what the helpers of weft_web.h make of a request. */
#include "weft_web.h"

#include <stdlib.h>

static weft_str shown(weft_ctx *ctx, weft_str s)
{
    return s.ptr == NULL ? weft_cstr("(absent)") : weft_fmt(ctx, "[%.*s]", (int)s.len, s.ptr);
}

/* GET /query?...: all pairs, and the string as it came */
static weft_status query(weft_ctx *ctx, void *self)
{
    weft_str text = shown(ctx, weft_query_string(ctx)), name, value;
    weft_pairs pairs;

    (void)self;
    weft_pairs_begin(&pairs, ctx, weft_query_string(ctx));
    while (weft_pairs_next(&pairs, &name, &value))
        text = weft_fmt(ctx, "%s %s=%s", text.ptr, shown(ctx, name).ptr, shown(ctx, value).ptr);
    return weft_reply_text(ctx, 200, text.ptr);
}

/* POST /form: its fields a and b */
static weft_status form(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(ctx, 200,
                           weft_fmt(ctx, "%s %s %s", shown(ctx, weft_media_type(ctx)).ptr,
                                    shown(ctx, weft_form(ctx, "a")).ptr,
                                    shown(ctx, weft_form(ctx, "b")).ptr)
                               .ptr);
}

/* GET /fields: the names of all header fields but those that each client sends */
static weft_status fields(weft_ctx *ctx, void *self)
{
    weft_str text = weft_cstr("");
    weft_field field;
    uint32_t i;

    (void)self;
    for (i = 0; (field = weft_header_at(ctx, i)).name.ptr != NULL; i++)
        if ((field.name.ptr[0] | 32) == 'x')
            text = weft_fmt(ctx, "%s%s: %s;", text.ptr, field.name.ptr, field.value.ptr);
    if (weft_header_at(ctx, i).value.ptr != NULL ||
        weft_header_at(ctx, UINT32_MAX).name.ptr != NULL)
        return WEFT_E_STATE;
    return weft_reply_text(ctx, 200, text.ptr);
}

static weft_status cookie(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(ctx, 200, shown(ctx, weft_cookie(ctx, "user")).ptr);
}

/* GET /set-cookie?name=&value=&path=&domain=&age=&flags= */
static weft_status set_cookie(weft_ctx *ctx, void *self)
{
    weft_cookie_options options = {weft_query(ctx, "path").ptr, weft_query(ctx, "domain").ptr, 0,
                                   0};
    weft_str age = weft_query(ctx, "age"), flags = weft_query(ctx, "flags");
    weft_status status;

    (void)self;
    options.max_age_s = age.ptr != NULL ? strtoll(age.ptr, NULL, 10) : 0;
    options.flags = flags.ptr != NULL ? (uint32_t)strtoul(flags.ptr, NULL, 10) : 0;
    status = weft_set_cookie(ctx, weft_query(ctx, "name").ptr, weft_query(ctx, "value"),
                             weft_query(ctx, "plain").ptr != NULL ? NULL : &options);
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%d", (int)status).ptr);
}

/* GET /prefers?header=&offers=a,b: the index of what is liked best */
static weft_status prefers(weft_ctx *ctx, void *self)
{
    const char *offers[8];
    weft_str list = weft_dup(ctx, weft_query(ctx, "offers"));
    char *at = (char *)weft_alloc(ctx, list.len + 1), *next;
    uint32_t count = 0;

    (void)self;
    memcpy(at, list.ptr, list.len + 1);
    for (; at != NULL && count < 8; at = next) {
        next = strchr(at, ',');
        if (next != NULL)
            *next++ = '\0';
        offers[count++] = at;
    }
    return weft_reply_text(
        ctx, 200,
        weft_fmt(ctx, "%d", (int)weft_prefers(ctx, weft_query(ctx, "header").ptr, count, offers))
            .ptr);
}

/* GET /date?of=seconds and GET /time?of=date */
static weft_status date(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(ctx, 200,
                           weft_http_date(ctx, strtoll(weft_query(ctx, "of").ptr, NULL, 10)).ptr);
}

static weft_status read_time(weft_ctx *ctx, void *self)
{
    long long found = (long long)weft_http_time(weft_query(ctx, "of"));

    (void)self;
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%lld", found).ptr);
}

/* GET /condition?etag=&modified= */
static weft_status condition(weft_ctx *ctx, void *self)
{
    long long modified = strtoll(weft_query(ctx, "modified").ptr, NULL, 10);
    uint32_t code = weft_precondition(ctx, weft_query(ctx, "etag"), modified);

    (void)self;
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%u", code).ptr);
}

static weft_status content(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_content(ctx, "text/plain", weft_cstr("0123456789"));
}

static weft_status init(weft_host *host, void **self)
{
    (void)self;
    WEFT_TRY(weft_route(host, "GET", "/query", query));
    WEFT_TRY(weft_route(host, "POST", "/form", form));
    WEFT_TRY(weft_route(host, "GET", "/fields", fields));
    WEFT_TRY(weft_route(host, "GET", "/cookie", cookie));
    WEFT_TRY(weft_route(host, "GET", "/set-cookie", set_cookie));
    WEFT_TRY(weft_route(host, "GET", "/prefers", prefers));
    WEFT_TRY(weft_route(host, "GET", "/date", date));
    WEFT_TRY(weft_route(host, "GET", "/time", read_time));
    WEFT_TRY(weft_route(host, "GET", "/condition", condition));
    WEFT_TRY(weft_route(host, "POST", "/condition", condition));
    return weft_route(host, "GET", "/content", content);
}

WEFT_PLUGIN("web", "1.0", init, NULL, NULL);
