/* crash.c - a plugin for the system tests that takes its worker down: GET /crash/HOW, or at the
 * moment that the setting `at` names (init, start, fini; job and post: in the background).
 *
 * HOW: segv, abort, leave (_exit), exit, exit78, overflow (of the handler's stack), heap (ruined,
 * and noticed by free()), later (segv after it has waited), then (segv in a callback), offload
 * (segv on a helper thread), offload-overflow (of its stack).
 *
 * And one that blocks its worker's loop, GET /block/HOW: loop (until the file `flag` is there),
 * sleep, poll, read (of a pipe that stays empty), mutex (which it holds already). */
#include "weft.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum moment { NEVER, AT_INIT, AT_START, AT_FINI, AT_JOB, AT_POST };

static enum moment moment;
static char flag_path[512];
static weft_inbox *inbox;

static void segv(void)
{
    *(volatile int *)(uintptr_t)16 = 1;
}

static void leave(void)
{
    _exit(3);
}

static void end(void)
{
    exit(4);
}

/* What a worker that cannot start exits with. */
static void refuse(void)
{
    exit(78);
}

/* The C library keeps its own notes before and behind each block. */
static void ruin_heap(void)
{
    char *volatile block = malloc(100);

    memset(block - 16, 0x5a, 16);
    free(block);
    abort(); /* a sanitizer's malloc() has no notes there */
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

static weft_status work_overflowing(void *data)
{
    (void)data;
    overflow();
    return WEFT_OK;
}

static weft_status crash(weft_ctx *ctx, void *self)
{
    static const struct {
        const char *how;
        void (*crash)(void);
    } ways[] = {{"segv", segv},     {"abort", abort},    {"leave", leave},      {"exit", end},
                {"exit78", refuse}, {"heap", ruin_heap}, {"overflow", overflow}};
    weft_str how = weft_param(ctx, "how");

    (void)self;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (weft_equal(how, weft_cstr(ways[i].how)))
            ways[i].crash();
    if (weft_equal(how, weft_cstr("then")))
        return weft_then(weft_sleep(ctx, 1), on_slept, NULL);
    if (weft_equal(how, weft_cstr("offload")))
        return weft_await(weft_offload(ctx, work, NULL));
    if (weft_equal(how, weft_cstr("offload-overflow")))
        return weft_await(weft_offload(ctx, work_overflowing, NULL));
    WEFT_TRY(weft_await(weft_sleep(ctx, 1)));
    if (weft_equal(how, weft_cstr("later")))
        segv();
    return WEFT_E_NOT_FOUND;
}

static void block_in_loop(void)
{
    for (volatile unsigned long turns = 0; access(flag_path, F_OK) != 0; turns++)
        continue;
}

static void block_in_sleep(void)
{
    while (access(flag_path, F_OK) != 0)
        sleep(60);
}

static void block_in_poll(void)
{
    while (access(flag_path, F_OK) != 0)
        (void)poll(NULL, 0, -1);
}

static void block_in_read(void)
{
    int ends[2];
    char byte;

    if (pipe(ends) != 0)
        return;
    (void)!read(ends[0], &byte, 1);
}

static void block_in_mutex(void)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

    pthread_mutex_lock(&mutex);
    pthread_mutex_lock(&mutex);
}

static weft_status block(weft_ctx *ctx, void *self)
{
    static const struct {
        const char *how;
        void (*block)(void);
    } ways[] = {{"loop", block_in_loop},
                {"sleep", block_in_sleep},
                {"poll", block_in_poll},
                {"read", block_in_read},
                {"mutex", block_in_mutex}};
    weft_str how = weft_param(ctx, "how");

    (void)self;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (weft_equal(how, weft_cstr(ways[i].how)))
            ways[i].block();
    return weft_reply_text(ctx, 200, "free again\n");
}

/* Crashes at start only where the file `flag` is there, so that a test can have the first start
 * succeed. */
static weft_status read_settings(weft_host *host)
{
    weft_str at, flag;

    WEFT_TRY(weft_setting(host, "at", "never", &at));
    WEFT_TRY(weft_setting(host, "flag", "", &flag));
    if (flag.len > 0 && flag.len < sizeof flag_path)
        memcpy(flag_path, flag.ptr, flag.len + 1);
    moment = weft_equal(at, weft_cstr("job"))    ? AT_JOB
             : weft_equal(at, weft_cstr("post")) ? AT_POST
                                                 : NEVER;
    if (moment != NEVER || (flag.len > 0 && access(flag.ptr, F_OK) != 0))
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
    WEFT_TRY(weft_open_inbox(host, &inbox));
    WEFT_TRY(weft_route(host, "GET", "/block/:how", block));
    return weft_route(host, "GET", "/crash/:how", crash);
}

static weft_status on_post(weft_ctx *background, void *data)
{
    (void)background;
    (void)data;
    segv();
    return WEFT_OK;
}

/* With a moment of the background: crashes there once the file is there. */
static weft_status start(weft_ctx *background, void *self)
{
    (void)self;
    if (moment == AT_START)
        segv();
    if (moment != AT_JOB && moment != AT_POST)
        return WEFT_OK;
    while (access(flag_path, F_OK) != 0)
        WEFT_TRY(weft_await(weft_sleep(background, 10)));
    if (moment == AT_JOB)
        segv();
    return weft_post(inbox, on_post, NULL);
}

static void fini(void *self)
{
    (void)self;
    if (moment == AT_FINI)
        segv();
}

WEFT_PLUGIN("crash", "1.0", init, start, fini);
