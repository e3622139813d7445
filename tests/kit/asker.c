/* asker - a plugin that asks, waits, and answers with all that it was told. */
#include "weft.h"
#include <stdlib.h>
#include <unistd.h>

static weft_pg *db;
static weft_upstream *partner;
static weft_stmt *get, *put, *wrong, *binary;
static weft_inbox *inbox;
static int ticks, posted;

/* "-304 23505 there is one; 0" */
static weft_status tell(weft_ctx *ctx, weft_op *op, weft_status status)
{
    weft_str state = weft_sqlstate(op), text = weft_op_error(op);

    return weft_reply(ctx, 200, NULL,
                      weft_fmt(ctx, "%d %s %s; %u", (int)status,
                               state.ptr != NULL ? state.ptr : "-",
                               text.ptr != NULL ? text.ptr : "-", weft_maybe_applied(op)));
}

static weft_status on_get(weft_ctx *ctx, void *self)
{
    weft_op *op = weft_run(ctx, db, get, WEFT_ARGS(weft_text(weft_query(ctx, "id"))));
    weft_status status = weft_await(op);

    (void)self;
    return status == WEFT_OK ? weft_reply_rows(ctx, 200, op) : tell(ctx, op, status);
}

/* The same rows in binary form, with what the accessors say of the first one. */
static weft_status on_binary(weft_ctx *ctx, void *self)
{
    weft_op *op = weft_run(ctx, db, binary, WEFT_NO_ARGS);
    weft_status status = weft_await(op);

    (void)self;
    if (status != WEFT_OK)
        return tell(ctx, op, status);
    return weft_reply(ctx, 200, NULL,
                      weft_fmt(ctx, "%d %s %d %d %s %s", (int)weft_col_int(op, 0, 0),
                               weft_col_text(op, 0, 1).ptr, (int)(weft_col_double(op, 0, 2) * 4),
                               weft_col_text(op, 0, 0).ptr == NULL,
                               weft_col_bytes(ctx, op, 0, 3).ptr, weft_rows_json(ctx, op).ptr));
}

static weft_status on_put(weft_ctx *ctx, void *self)
{
    weft_op *op =
        weft_run(ctx, db, put,
                 WEFT_ARGS(weft_int(-1), weft_bool(1), weft_double(0.1), weft_null(),
                           weft_bytes(weft_cstr("\x01z")), weft_value_json(weft_cstr("[1]"))));
    weft_status status = weft_await(op);

    (void)self;
    if (status != WEFT_OK)
        return tell(ctx, op, status);
    return weft_reply(ctx, 200, NULL, weft_fmt(ctx, "%d", (int)weft_affected(op)));
}

static weft_status on_wrong(weft_ctx *ctx, void *self)
{
    weft_op *op = weft_run(ctx, db, wrong, WEFT_NO_ARGS);
    weft_status status = weft_await(op);

    (void)self;
    return tell(ctx, op, status);
}

static weft_status on_call(weft_ctx *ctx, void *self)
{
    const weft_field field = {WEFT_S("X-Key"), WEFT_S("k")};
    weft_call call = {sizeof call, 0, "PUT", WEFT_S("/a?b=c"), WEFT_S("body"), &field, 1, 0,
                      0,           0, 0};
    weft_op *op = weft_call_start(ctx, partner, &call);
    weft_status status = weft_await(op);
    weft_str kept;

    (void)self;
    if (status != WEFT_OK)
        return tell(ctx, op, status);
    kept = weft_call_header(op, "x-kept");
    return weft_reply(ctx, 200, NULL,
                      weft_fmt(ctx, "%u %s %s", weft_call_code(op), weft_call_body(op).ptr,
                               kept.ptr != NULL ? kept.ptr : "-"));
}

static weft_op *second(weft_ctx *ctx, void *data)
{
    (void)data;
    return weft_call_get(ctx, partner, "/2");
}

static weft_status on_hedge(weft_ctx *ctx, void *self)
{
    weft_op *hedge = weft_hedge(ctx, weft_call_get(ctx, partner, "/1"), 50, second, NULL);

    (void)self;
    WEFT_TRY(weft_await(hedge));
    return weft_reply(ctx, 200, NULL, weft_fmt(ctx, "%d", (int)weft_winner(hedge)));
}

/* A transfer in a transaction, with an attempt in one within it. */
static weft_status on_transfer(weft_ctx *ctx, void *self)
{
    weft_op *outer = weft_begin(ctx, db, WEFT_TX_SERIALIZABLE), *inner;
    weft_status status;

    (void)self;
    WEFT_TRY(weft_await(outer));
    WEFT_TRY(weft_await(weft_run_sql(ctx, weft_tx(outer), "take", 0, WEFT_NO_ARGS)));
    inner = weft_begin(ctx, weft_tx(outer), 0);
    WEFT_TRY(weft_await(inner));
    status = weft_await(weft_run_sql(ctx, weft_tx(inner), "try", 0, WEFT_NO_ARGS));
    WEFT_TRY(weft_await(status == WEFT_OK ? weft_commit(weft_tx(inner))
                                          : weft_rollback(weft_tx(inner))));
    WEFT_TRY(weft_await(weft_run_sql(ctx, weft_tx(outer), "give", 0, WEFT_NO_ARGS)));
    WEFT_TRY(weft_await(weft_commit(weft_tx(outer))));
    return weft_reply_text(ctx, 201, status == WEFT_OK ? "tried" : "given up");
}

static weft_status on_stream(weft_ctx *ctx, void *self)
{
    weft_op *rows = weft_stream(ctx, db, get, WEFT_ARGS(weft_text(weft_cstr("all")))), *page;
    int64_t sum = 0;

    (void)self;
    WEFT_TRY(weft_await(rows));
    do {
        page = weft_stream_next(rows);
        WEFT_TRY(weft_await(page));
        for (uint32_t i = 0; i < weft_rows(page); i++)
            sum += weft_col_int(page, i, 0);
    } while (weft_rows(page) > 0);
    return weft_reply(ctx, 200, NULL, weft_fmt(ctx, "%d", (int)sum));
}

static weft_status on_upload(weft_ctx *ctx, void *self)
{
    size_t size = 0;

    (void)self;
    for (;;) {
        weft_op *read = weft_body_read(ctx);

        WEFT_TRY(weft_await(read));
        if (weft_piece(read).ptr == NULL)
            break;
        size += weft_piece(read).len;
    }
    return weft_reply(ctx, 200, NULL, weft_fmt(ctx, "%zu", size));
}

/* As many pieces of 1,000 bytes as asked for. */
static weft_status on_pieces(weft_ctx *ctx, void *self)
{
    int count = atoi(weft_query(ctx, "count").ptr);
    char *piece = weft_alloc(ctx, 1000);

    (void)self;
    memset(piece, 'p', 1000);
    WEFT_TRY(weft_reply_begin(ctx, 200, "text/plain"));
    for (int i = 0; i < count; i++) {
        weft_str bytes = {piece, 1000};

        WEFT_TRY(weft_await(weft_write(ctx, bytes)));
    }
    return weft_reply_end(ctx);
}

/* A file of as many zeros. */
static weft_status on_file(weft_ctx *ctx, void *self)
{
    weft_file sent = {sizeof sent, -1, 0, (uint64_t)atoll(weft_query(ctx, "length").ptr)};
    FILE *file = tmpfile();

    (void)self;
    if (file == NULL || ftruncate(fileno(file), (off_t)sent.length) != 0)
        return WEFT_E_STATE;
    sent.fd = dup(fileno(file));
    (void)fclose(file);
    return weft_reply_file(ctx, 200, "text/plain", &sent);
}

static void on_end(void *data)
{
    weft_log(NULL, WEFT_LOG_INFO, "ended, since %u", weft_why(data));
}

static weft_status on_wait(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_defer(ctx, on_end, ctx));
    WEFT_TRY(weft_await(weft_sleep(ctx, 20000)));
    return weft_reply_text(ctx, 200, "waited");
}

static weft_status work(void *data)
{
    *(int *)data = 42;
    return WEFT_OK;
}

static weft_status on_posted(weft_ctx *background, void *data)
{
    (void)data;
    WEFT_TRY(weft_await(weft_sleep(background, 10)));
    posted++;
    return WEFT_OK;
}

static weft_status on_work(weft_ctx *ctx, void *self)
{
    int *answer = weft_alloc(ctx, sizeof *answer);

    (void)self;
    WEFT_TRY(weft_await(weft_offload(ctx, work, answer)));
    WEFT_TRY(weft_post(inbox, on_posted, NULL));
    return weft_reply(ctx, 200, NULL, weft_fmt(ctx, "%d", *answer));
}

static weft_status on_counts(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, NULL, weft_fmt(ctx, "%d ticks, %d posted", ticks, posted));
}

static weft_status start(weft_ctx *background, void *self)
{
    (void)self;
    for (;;) {
        WEFT_TRY(weft_await(weft_sleep(background, 1000)));
        ticks++;
    }
}

static weft_status init(weft_host *host, void **self)
{
    static const weft_route_options streams = {sizeof streams, WEFT_ROUTE_STREAM, 0, 0, 0};

    (void)self;
    ticks = posted = 0;
    WEFT_TRY(weft_open_inbox(host, &inbox));
    WEFT_TRY(weft_find_pool(host, "main", &db));
    WEFT_TRY(weft_find_upstream(host, "partner", &partner));
    WEFT_TRY(weft_declare(host, db, "get", "select n, t, f from x where id = $1",
                          WEFT_STMT_READ_ONLY, &get));
    WEFT_TRY(
        weft_declare(host, db, "put", "insert into x values ($1, $2, $3, $4, $5, $6)", 0, &put));
    WEFT_TRY(weft_declare(host, db, "wrong", "delete from x", WEFT_STMT_READ_ONLY, &wrong));
    WEFT_TRY(weft_declare(host, db, "binary", "select * from y", WEFT_STMT_BINARY, &binary));
    WEFT_TRY(weft_route(host, "GET", "/binary", on_binary));
    WEFT_TRY(weft_route(host, "GET", "/get", on_get));
    WEFT_TRY(weft_route(host, "GET", "/put", on_put));
    WEFT_TRY(weft_route(host, "GET", "/wrong", on_wrong));
    WEFT_TRY(weft_route(host, "GET", "/call", on_call));
    WEFT_TRY(weft_route(host, "GET", "/hedge", on_hedge));
    WEFT_TRY(weft_route(host, "GET", "/transfer", on_transfer));
    WEFT_TRY(weft_route(host, "GET", "/stream", on_stream));
    WEFT_TRY(weft_route_with(host, "POST", "/upload", on_upload, NULL, &streams));
    WEFT_TRY(weft_route(host, "GET", "/pieces", on_pieces));
    WEFT_TRY(weft_route(host, "GET", "/file", on_file));
    WEFT_TRY(weft_route(host, "GET", "/wait", on_wait));
    WEFT_TRY(weft_route(host, "GET", "/work", on_work));
    return weft_route(host, "GET", "/counts", on_counts);
}

WEFT_PLUGIN("asker", "1.0", init, start, NULL);
