/* streams.c - a plugin for the system tests: bodies that come, and replies that go, in pieces.
 *
 * Settings: database (the name of a section; without it the route that waits for one is not
 * there). */
#include "weft.h"
#include "weft_sse.h"
#include <stdlib.h>

enum { PIECE = 32768 };

static weft_pg *db;
static weft_stmt *wait_for_lock;

/* A client that follows the events. */
struct follower {
    weft_ctx *ctx;         /* its request's */
    struct follower *next; /* NULL: the last */
    struct follower **at;  /* what points here */
};

static struct follower *followers;
static uint32_t follower_count;
static uint32_t event_count;

/* The number in the parameter `name`; 0 where it is none. */
static uint64_t number_in(weft_ctx *ctx, const char *name)
{
    weft_str text = weft_param(ctx, name);

    return text.ptr != NULL ? strtoull(text.ptr, NULL, 10) : 0;
}

/* ---- replies ---- */

/* Sends :bytes bytes; with ?length, which is said before. */
static weft_status down(weft_ctx *ctx, void *self)
{
    static char piece[PIECE];
    uint64_t left = number_in(ctx, "bytes");
    weft_reply_options options = {.size = sizeof options};

    (void)self;
    memset(piece, 'd', sizeof piece);
    options.length = weft_query(ctx, "length").ptr != NULL ? left : 0;
    WEFT_TRY(weft_reply_begin_with(ctx, 200, "application/octet-stream", &options));
    WEFT_TRY(weft_set_trailer(ctx, "X-Whole", weft_cstr("yes")));
    while (left > 0) {
        weft_str some = {piece, left < PIECE ? (size_t)left : PIECE};

        WEFT_TRY(weft_await(weft_write(ctx, some)));
        left -= some.len;
    }
    return weft_reply_end(ctx);
}

/* Begins, and comes to another end than it should. */
static weft_status half(weft_ctx *ctx, void *self)
{
    weft_str how = weft_param(ctx, "how");

    (void)self;
    WEFT_TRY(weft_reply_begin(ctx, 200, "text/plain"));
    WEFT_TRY(weft_await(weft_write(ctx, weft_cstr("half"))));
    if (weft_equal(how, weft_cstr("fails")))
        return WEFT_E_NOT_FOUND;
    if (weft_equal(how, weft_cstr("late")))
        return weft_await(weft_sleep(weft_child(ctx, 50, 0), 60000));
    if (weft_equal(how, weft_cstr("waits")))
        return weft_await(weft_sleep(ctx, 60000));
    return WEFT_OK;
}

/* ---- bodies ---- */

/* Reads a body, waiting `each` time for what comes in between; answers with its length. */
static weft_status count_bytes(weft_ctx *ctx, weft_status (*each)(weft_ctx *ctx))
{
    uint64_t total = 0;
    weft_op *read;

    for (;;) {
        read = weft_body_read(ctx);
        WEFT_TRY(weft_await(read));
        if (weft_piece(read).ptr == NULL)
            break;
        total += weft_piece(read).len;
        if (each != NULL)
            WEFT_TRY(each(ctx));
    }
    return weft_reply(ctx, 200, "text/plain", weft_fmt(ctx, "%llu", (unsigned long long)total));
}

static weft_status up(weft_ctx *ctx, void *self)
{
    (void)self;
    return count_bytes(ctx, NULL);
}

/* In a ctx of its own, since this happens as often as the body is long. */
static weft_status ask_database(weft_ctx *ctx)
{
    weft_ctx *turn = weft_child(ctx, 0, 0);
    weft_status status = weft_await(weft_run(turn, db, wait_for_lock, WEFT_ARGS(weft_int(1))));

    (void)weft_end(turn);
    return status;
}

static weft_status up_slowly(weft_ctx *ctx, void *self)
{
    (void)self;
    return count_bytes(ctx, ask_database);
}

/* Sends back what comes. */
static weft_status echo(weft_ctx *ctx, void *self)
{
    weft_op *read;

    (void)self;
    WEFT_TRY(weft_reply_begin(ctx, 200, "application/octet-stream"));
    for (;;) {
        read = weft_body_read(ctx);
        WEFT_TRY(weft_await(read));
        if (weft_piece(read).ptr == NULL)
            break;
        WEFT_TRY(weft_await(weft_write(ctx, weft_piece(read))));
    }
    return weft_reply_end(ctx);
}

/* ---- events: nobody of those who listen holds a stack, and one turn tells them all ---- */

static void forget(void *data)
{
    struct follower *one = data;

    *one->at = one->next;
    if (one->next != NULL)
        one->next->at = one->at;
    follower_count--;
}

static weft_status on_time(weft_ctx *ctx, weft_op *op, void *data)
{
    (void)data;
    WEFT_TRY(weft_op_status(op));
    return weft_reply_end(ctx);
}

static weft_status follow(weft_ctx *ctx, void *self)
{
    struct follower *one = weft_alloc(ctx, sizeof *one);
    weft_str from = weft_sse_last_id(ctx);

    (void)self;
    WEFT_TRY(weft_sse_begin(ctx));
    *one = (struct follower){ctx, followers, &followers};
    if (followers != NULL)
        followers->at = &one->next;
    followers = one;
    follower_count++;
    WEFT_TRY(weft_defer(ctx, forget, one));
    if (from.ptr != NULL)
        (void)weft_sse_send(ctx, "resumed", weft_cstr(NULL), from);
    return weft_then(weft_sleep(ctx, 24 * 3600 * 1000), on_time, NULL);
}

/* Who has not taken the events of long ago is let go of: a browser comes back. With ?stubborn,
 * nobody is: what cannot be sent is lost to those. */
static weft_status publish(weft_ctx *ctx, void *self)
{
    weft_str id = weft_fmt(ctx, "%u", ++event_count);
    int is_stubborn = weft_query(ctx, "stubborn").ptr != NULL;
    struct follower *next;
    uint32_t told = 0;

    (void)self;
    for (struct follower *one = followers; one != NULL; one = next) {
        weft_op *sent;

        next = one->next;
        sent = weft_sse_send(one->ctx, "news", id, weft_body(ctx));
        if (weft_op_status(sent) != WEFT_E_OVERLOAD)
            told++;
        else if (!is_stubborn)
            weft_cancel(one->ctx);
    }
    return weft_reply(ctx, 200, "text/plain", weft_fmt(ctx, "%u", told));
}

static weft_status count_followers(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, "text/plain", weft_fmt(ctx, "%u", follower_count));
}

static weft_status add_database(weft_host *host, const weft_route_options *stream)
{
    weft_str name;

    WEFT_TRY(weft_setting(host, "database", "", &name));
    if (name.len == 0)
        return WEFT_OK;
    WEFT_TRY(weft_find_pool(host, name.ptr, &db));
    WEFT_TRY(weft_declare(host, db, "wait_for_lock",
                          "select 1 from pg_advisory_xact_lock_shared($1)", 0, &wait_for_lock));
    return weft_route_with(host, "POST", "/streams/slow", up_slowly, NULL, stream);
}

static weft_status init(weft_host *host, void **self)
{
    const weft_route_options stream = {.size = sizeof stream,
                                       .flags = WEFT_ROUTE_STREAM,
                                       .timeout_ms = 30000,
                                       .body_bytes_max = UINT32_MAX};

    (void)self;
    WEFT_TRY(weft_route(host, "GET", "/streams/down/:bytes", down));
    WEFT_TRY(weft_route(host, "GET", "/streams/half/:how", half));
    WEFT_TRY(weft_route_with(host, "POST", "/streams/up", up, NULL, &stream));
    WEFT_TRY(weft_route_with(host, "POST", "/streams/echo", echo, NULL, &stream));
    WEFT_TRY(weft_route(host, "GET", "/streams/events", follow));
    WEFT_TRY(weft_route(host, "POST", "/streams/events", publish));
    WEFT_TRY(weft_route(host, "GET", "/streams/followers", count_followers));
    return add_database(host, &stream);
}

WEFT_PLUGIN("streams", "1.0", init, NULL, NULL);
