/* copies.c - a plugin for the system tests: what a database streams, to the client and from it.
 *
 * Setting database: the name of the pool. */
#include "weft.h"
#include <stdlib.h>

static weft_pg *db;
static weft_stmt *rows_stmt;

/* GET /copies/rows/:count: rows of some 100 bytes, as JSON. */
static weft_status rows(weft_ctx *ctx, void *self)
{
    weft_op *opened =
        weft_stream(ctx, db, rows_stmt, WEFT_ARGS(weft_text(weft_param(ctx, "count"))));
    weft_op *page;

    (void)self;
    WEFT_TRY(weft_await(opened));
    WEFT_TRY(weft_reply_begin(ctx, 200, "application/json"));
    do {
        page = weft_stream_next(opened);
        WEFT_TRY(weft_await(page));
        WEFT_TRY(weft_await(weft_write(ctx, weft_stream_json(page))));
    } while (weft_rows(page) > 0);
    return weft_reply_end(ctx);
}

/* GET /copies/out/:count: lines of 64 bytes. */
static weft_status out(weft_ctx *ctx, void *self)
{
    long long count = atoll(weft_param(ctx, "count").ptr);
    weft_str sql = weft_fmt(ctx,
                            "copy (select lpad(i::text, 63, 'x') from generate_series(1, %lld) i)"
                            " to stdout",
                            count);
    weft_op *copy = weft_copy_out(ctx, db, sql.ptr), *read;

    (void)self;
    WEFT_TRY(weft_await(copy));
    WEFT_TRY(weft_reply_begin(ctx, 200, "text/plain"));
    for (;;) {
        read = weft_copy_read(copy);
        WEFT_TRY(weft_await(read));
        if (weft_piece(read).ptr == NULL)
            return weft_reply_end(ctx);
        WEFT_TRY(weft_await(weft_write(ctx, weft_piece(read))));
    }
}

/* POST /copies/in: the body's lines into the table `lines`; how many. */
static weft_status in(weft_ctx *ctx, void *self)
{
    weft_op *copy = weft_copy_in(ctx, db, "copy lines from stdin"), *body;

    (void)self;
    WEFT_TRY(weft_await(copy));
    do {
        body = weft_body_read(ctx);
        WEFT_TRY(weft_await(body));
        WEFT_TRY(weft_await(weft_copy_write(copy, weft_piece(body))));
    } while (weft_piece(body).ptr != NULL);
    copy = weft_copy_end(copy);
    WEFT_TRY(weft_await(copy));
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%llu", (unsigned long long)weft_affected(copy)));
}

/* GET /copies/news/:channel: a line for each notification; "(missed)". */
static weft_status news(weft_ctx *ctx, void *self)
{
    const weft_reply_options live = {.size = sizeof live, .flags = WEFT_REPLY_LIVE};
    weft_op *listening = weft_listen(ctx, db, weft_param(ctx, "channel").ptr), *next;
    weft_str line[2] = {{NULL, 0}, WEFT_S("\n")};

    (void)self;
    WEFT_TRY(weft_await(listening));
    WEFT_TRY(weft_reply_begin_with(ctx, 200, "text/plain", &live));
    WEFT_TRY(weft_await(weft_write(ctx, weft_cstr("(listening)\n"))));
    for (;;) {
        next = weft_listen_next(listening);
        WEFT_TRY(weft_await(next));
        line[0] = weft_piece(next).ptr != NULL ? weft_piece(next) : weft_cstr("(missed)");
        WEFT_TRY(weft_await(weft_write_all(ctx, 2, line)));
    }
}

/* GET /copies/left: pulls rows and a piece, lets go of what they came from, and looks at them. */
static weft_status left(weft_ctx *ctx, void *self)
{
    weft_op *opened = weft_stream(ctx, db, rows_stmt, WEFT_ARGS(weft_int(1000))), *page;
    weft_op *copy = weft_copy_out(ctx, db, "copy (select 1) to stdout"), *read;
    uint32_t brought;

    (void)self;
    WEFT_TRY(weft_await(opened));
    WEFT_TRY(weft_await(copy));
    page = weft_stream_next(opened);
    read = weft_copy_read(copy);
    WEFT_TRY(weft_await(page));
    WEFT_TRY(weft_await(read));
    brought = weft_rows(page) > 0 && weft_stream_json(page).len > 0 && weft_piece(read).len > 0;
    WEFT_TRY(weft_op_release(opened));
    WEFT_TRY(weft_op_release(copy));
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%u, then %u rows, %s, %s", brought, weft_rows(page),
                               weft_stream_json(page).ptr != NULL ? "json" : "no json",
                               weft_piece(read).ptr != NULL ? "a piece" : "no piece"));
}

static weft_status init(weft_host *host, void **self)
{
    const weft_route_options stream = {
        .size = sizeof stream, .flags = WEFT_ROUTE_STREAM, .body_bytes_max = UINT32_MAX};
    weft_str name;

    (void)self;
    WEFT_TRY(weft_setting(host, "database", NULL, &name));
    WEFT_TRY(weft_find_pool(host, name.ptr, &db));
    WEFT_TRY(weft_declare(host, db, "rows",
                          "select i as n, repeat('x', 80) as text from generate_series(1, $1) i", 0,
                          &rows_stmt));
    WEFT_TRY(weft_route(host, "GET", "/copies/rows/:count", rows));
    WEFT_TRY(weft_route(host, "GET", "/copies/out/:count", out));
    WEFT_TRY(weft_route(host, "GET", "/copies/left", left));
    WEFT_TRY(weft_route(host, "GET", "/copies/news/:channel", news));
    return weft_route_with(host, "POST", "/copies/in", in, NULL, &stream);
}

WEFT_PLUGIN("copies", "1.0", init, NULL, NULL);
