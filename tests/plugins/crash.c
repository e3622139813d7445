/* crash.c - a plugin for the system tests that takes its worker down: GET /crash/HOW, or at the
 * moment that the setting `at` names (init, start, fini).
 *
 * HOW: segv, abort, exit, overflow (of the handler's stack), later (segv after it has waited), then
 * (segv in a callback), offload (segv on a helper thread). */
#include "weft.h"
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum moment { NEVER, AT_INIT, AT_START, AT_FINI };

static enum moment moment;

static void segv(void)
{
    *(volatile int *)(uintptr_t)16 = 1;
}

static void leave(void)
{
    _exit(3);
}

/* Needs more stack than there is. Not a loop for the compiler: the frames are used afterwards. */
static unsigned fill(unsigned depth)
{
    volatile char frame[1024];
    unsigned deeper;

    for (size_t i = 0; i < sizeof frame; i += 64)
        frame[i] = (char)depth;
    deeper = depth < 1000000 ? fill(depth + 1) : 0;
    return deeper + (unsigned char)frame[depth % sizeof frame];
}

static void overflow(void)
{
    if (fill(0) == 1)
        abort();
}

static weft_status on_slept(weft_ctx *ctx, weft_op *op, void *data)
{
    (void)ctx;
    (void)op;
    (void)data;
    segv();
    return WEFT_OK;
}

static weft_status work(void *data)
{
    (void)data;
    segv();
    return WEFT_OK;
}

static weft_status crash(weft_ctx *ctx, void *self)
{
    static const struct {
        const char *how;
        void (*crash)(void);
    } ways[] = {{"segv", segv}, {"abort", abort}, {"exit", leave}, {"overflow", overflow}};
    weft_str how = weft_param(ctx, "how");

    (void)self;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (weft_equal(how, weft_cstr(ways[i].how)))
            ways[i].crash();
    if (weft_equal(how, weft_cstr("then")))
        return weft_then(weft_sleep(ctx, 1), on_slept, NULL);
    if (weft_equal(how, weft_cstr("offload")))
        return weft_await(weft_offload(ctx, work, NULL));
    WEFT_TRY(weft_await(weft_sleep(ctx, 1)));
    if (weft_equal(how, weft_cstr("later")))
        segv();
    return WEFT_E_NOT_FOUND;
}

/* Crashes at start only where the file `flag` is there, so that a test can have the first start
 * succeed. */
static weft_status read_settings(weft_host *host)
{
    weft_str at, flag;

    WEFT_TRY(weft_setting(host, "at", "never", &at));
    WEFT_TRY(weft_setting(host, "flag", "", &flag));
    if (flag.len > 0 && access(flag.ptr, F_OK) != 0)
        return WEFT_OK;
    moment = weft_equal(at, weft_cstr("init"))    ? AT_INIT
             : weft_equal(at, weft_cstr("start")) ? AT_START
             : weft_equal(at, weft_cstr("fini"))  ? AT_FINI
                                                  : NEVER;
    return WEFT_OK;
}

static weft_status init(weft_host *host, void **self)
{
    (void)self;
    WEFT_TRY(read_settings(host));
    if (moment == AT_INIT)
        segv();
    return weft_route(host, "GET", "/crash/:how", crash);
}

static weft_status start(weft_ctx *background, void *self)
{
    (void)background;
    (void)self;
    if (moment == AT_START)
        segv();
    return WEFT_OK;
}

static void fini(void *self)
{
    (void)self;
    if (moment == AT_FINI)
        segv();
}

WEFT_PLUGIN("crash", "1.0", init, start, fini);
