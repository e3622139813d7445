/* hello - the smallest plugin: a greeting, and an echo. */
#include "weft.h"

static weft_status hello(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, "text/plain", weft_cstr("Hello, World!\n"));
}

static weft_status echo(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, weft_header(ctx, "Content-Type").ptr, weft_body(ctx));
}

static weft_status init(weft_host *host, void **self)
{
    (void)self;
    WEFT_TRY(weft_route(host, "GET", "/hello", hello));
    return weft_route(host, "POST", "/echo", echo);
}

WEFT_PLUGIN("hello", "1.0", init, NULL, NULL);
