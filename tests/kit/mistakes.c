/* mistakes - a plugin that does wrong what can be done wrong, a route each. */
#include "weft.h"

static weft_pg *db;
static weft_upstream *partner;
static weft_stmt *insert;
static weft_ctx *kept_ctx, *background;
static weft_op *kept_op;

static weft_status fine(weft_ctx *ctx, void *self)
{
    (void)self;
    kept_ctx = ctx;
    kept_op = weft_sleep(ctx, 0);
    WEFT_TRY(weft_await(kept_op));
    return weft_reply_text(ctx, 200, "fine");
}

static weft_status twice(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_reply_text(ctx, 200, "one"));
    return weft_reply_text(ctx, 200, "two");
}

static weft_status nothing(weft_ctx *ctx, void *self)
{
    (void)ctx;
    (void)self;
    return WEFT_OK;
}

static weft_status stale_ctx(weft_ctx *ctx, void *self)
{
    (void)self;
    (void)weft_why(kept_ctx);
    return weft_reply_text(ctx, 200, "");
}

static weft_status stale_op(weft_ctx *ctx, void *self)
{
    (void)self;
    (void)weft_op_error(kept_op);
    return weft_reply_text(ctx, 200, "");
}

static weft_status forgets(weft_ctx *ctx, void *self)
{
    (void)self;
    (void)weft_run(ctx, db, insert, WEFT_ARGS(weft_int(1)));
    return weft_reply_text(ctx, 200, "");
}

static void on_end(void *data)
{
    weft_status status = weft_await(data);

    (void)status;
}

static weft_status waits_in_clean_up(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_defer(ctx, on_end, weft_sleep(ctx, 0)));
    return weft_problem(ctx, 400, NULL);
}

static weft_status work(void *data)
{
    (void)weft_budget_ms(data);
    return WEFT_OK;
}

static weft_status wrong_thread(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_await(weft_offload(ctx, work, ctx)));
    return weft_reply_text(ctx, 200, "");
}

static weft_status bad_header(weft_ctx *ctx, void *self)
{
    (void)self;
    (void)weft_set_header(ctx, "X", weft_cstr("a\r\nb"));
    return weft_reply_text(ctx, 200, "");
}

static weft_status open_transaction(weft_ctx *ctx, void *self)
{
    weft_op *begun = weft_begin(ctx, db, 0);

    (void)self;
    WEFT_TRY(weft_await(begun));
    WEFT_TRY(weft_await(weft_run(ctx, weft_tx(begun), insert, WEFT_ARGS(weft_int(1)))));
    return weft_reply_text(ctx, 200, "");
}

static weft_status beside_transaction(weft_ctx *ctx, void *self)
{
    weft_op *begun = weft_begin(ctx, db, 0);

    (void)self;
    WEFT_TRY(weft_await(begun));
    WEFT_TRY(weft_await(weft_run(ctx, db, insert, WEFT_ARGS(weft_int(1)))));
    WEFT_TRY(weft_await(weft_commit(weft_tx(begun))));
    return weft_reply_text(ctx, 200, "");
}

static weft_status whole_transaction(weft_ctx *ctx, void *self)
{
    weft_op *begun = weft_begin(ctx, db, 0);
    weft_pg *tx;

    (void)self;
    WEFT_TRY(weft_await(begun));
    tx = weft_tx(begun);
    WEFT_TRY(weft_await(weft_run(ctx, tx, insert, WEFT_ARGS(weft_int(1)))));
    WEFT_TRY(weft_await(weft_run(ctx, tx, insert, WEFT_ARGS(weft_int(2)))));
    WEFT_TRY(weft_await(weft_commit(tx)));
    return weft_reply_text(ctx, 200, "");
}

static weft_status writes(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_await(weft_run(ctx, db, insert, WEFT_ARGS(weft_int(1)))));
    return weft_reply_text(ctx, 200, "");
}

static weft_status calls(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_await(weft_call_post_json(ctx, partner, "/x", weft_cstr("{}"))));
    return weft_reply_text(ctx, 200, "");
}

/* A fault that it meets is not answered, but waited out for ever. */
static weft_status hangs_where_it_fails(weft_ctx *ctx, void *self)
{
    (void)self;
    while (weft_await(weft_run(ctx, db, insert, WEFT_ARGS(weft_int(1)))) != WEFT_OK)
        ;
    return weft_reply_text(ctx, 200, "");
}

static weft_status leaves_a_child(weft_ctx *ctx, void *self)
{
    (void)self;
    (void)weft_child(background, 0, 0);
    return weft_reply_text(ctx, 200, "");
}

static weft_status start(weft_ctx *ctx, void *self)
{
    (void)self;
    background = ctx;
    return WEFT_OK;
}

static weft_status init(weft_host *host, void **self)
{
    static const struct {
        const char *path;
        weft_handler *fn;
    } routes[] = {
        {"/fine", fine},
        {"/twice", twice},
        {"/nothing", nothing},
        {"/stale-ctx", stale_ctx},
        {"/stale-op", stale_op},
        {"/forgets", forgets},
        {"/clean-up", waits_in_clean_up},
        {"/thread", wrong_thread},
        {"/header", bad_header},
        {"/open", open_transaction},
        {"/beside", beside_transaction},
        {"/whole", whole_transaction},
        {"/writes", writes},
        {"/calls", calls},
        {"/hangs", hangs_where_it_fails},
        {"/child", leaves_a_child},
    };
    int64_t limit;
    uint32_t is_early;

    (void)self;
    WEFT_TRY(weft_setting_int(host, "limit", 0, 10, 5, &limit));
    WEFT_TRY(weft_setting_bool(host, "early", 0, &is_early));
    if (is_early)
        (void)weft_why(NULL);
    WEFT_TRY(weft_find_pool(host, "main", &db));
    WEFT_TRY(weft_find_upstream(host, "partner", &partner));
    WEFT_TRY(weft_declare(host, db, "insert", "insert into t values ($1)", 0, &insert));
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        WEFT_TRY(weft_route(host, "GET", routes[i].path, routes[i].fn));
    return WEFT_OK;
}

WEFT_PLUGIN("mistakes", "1.0", init, start, NULL);
