/* Goal: a plugin with an llhttp of its own, linked into it, which parses what a request brings. */
#include "weft.h"

#include <llhttp.h>
#include <stddef.h>

static weft_status parse(weft_ctx *ctx, void *self)
{
    weft_str body = weft_body(ctx);
    llhttp_settings_t settings;
    llhttp_t parser;

    (void)self;
    llhttp_settings_init(&settings);
    llhttp_init(&parser, HTTP_RESPONSE, &settings);
    llhttp_errno_t error = llhttp_execute(&parser, body.ptr, body.len);
    int code = (int)llhttp_get_status_code(&parser);
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%s %d", llhttp_errno_name(error), code).ptr);
}

static weft_status init(weft_host *host, void **self)
{
    (void)self;
    return weft_route(host, "POST", "/parse", parse);
}

WEFT_PLUGIN("own_llhttp", "1", init, NULL, NULL);
