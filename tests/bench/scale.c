/* scale - what the section "scale" of the benchmark asks for: requests that wait, and many routes.
 *
 *   /wait/1000                   waits so many milliseconds, on a fiber
 *   /then/1000                   the same with a callback, without a stack
 *   /many/0/x, /many/1/x, ...    a route each: as many as the setting `routes` says
 *   /heap                        how many bytes this worker has from malloc()
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <weft.h>

static weft_status wait_a_while(weft_ctx *ctx, void *self)
{
    unsigned long ms = strtoul(weft_param(ctx, "ms").ptr, NULL, 10);

    (void)self;
    WEFT_TRY(weft_await(weft_sleep(ctx, (uint32_t)ms)));
    return weft_reply_text(ctx, 200, "waited");
}

static weft_status on_waited(weft_ctx *ctx, weft_op *op, void *data)
{
    (void)op;
    (void)data;
    return weft_reply_text(ctx, 200, "waited");
}

static weft_status wait_with_callback(weft_ctx *ctx, void *self)
{
    unsigned long ms = strtoul(weft_param(ctx, "ms").ptr, NULL, 10);

    (void)self;
    return weft_then(weft_sleep(ctx, (uint32_t)ms), on_waited, NULL);
}

static weft_status one_of_many(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, "text/plain", weft_param(ctx, "id"));
}

static weft_status tell_heap(weft_ctx *ctx, void *self)
{
    struct mallinfo2 heap = mallinfo2();
    char text[32];

    (void)self;
    (void)snprintf(text, sizeof text, "%zu", heap.uordblks + heap.hblkhd);
    return weft_reply_text(ctx, 200, text);
}

static weft_status init(weft_host *host, void **self)
{
    int64_t count = 0;
    char pattern[64];

    (void)self;
    WEFT_TRY(weft_setting_int(host, "routes", 0, 100000, 0, &count));
    for (int64_t i = 0; i < count; i++) {
        (void)snprintf(pattern, sizeof pattern, "/many/%lld/:id", (long long)i);
        WEFT_TRY(weft_route(host, "GET", pattern, one_of_many));
    }
    WEFT_TRY(weft_route(host, "GET", "/heap", tell_heap));
    WEFT_TRY(weft_route(host, "GET", "/then/:ms", wait_with_callback));
    return weft_route(host, "GET", "/wait/:ms", wait_a_while);
}

WEFT_PLUGIN("scale", "1.0", init, NULL, NULL);
