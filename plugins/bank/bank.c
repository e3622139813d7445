/* bank - accounts, and transfers between them: a transaction that is run again where it lost
 * against another one, rows as a stream, COPY both ways, and what happens, live.
 *
 * GET  /bank                 a page with all of it
 * GET  /bank/accounts        their balances
 * POST /bank/transfers       a form: from=1&to=2&amount=30
 * GET  /bank/transfers       all of them, as JSON, at constant memory
 * GET  /bank/transfers.csv   the same by COPY
 * POST /bank/transfers.csv   many at once, all or none of them: lines of from,to,amount
 * GET  /bank/events          server-sent events: "transfer" for each; "anew" where some may have
 *                            been missed, or many came at once
 */
#include "bank.h"
#include "weft.h"
#include "weft_sse.h"
#include "weft_web.h"
#include <stdlib.h>

static weft_pg *db;
static weft_stmt *all_accounts, *all_transfers, *move_money, *add_transfer;

static weft_status show_page(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, "text/html; charset=utf-8", weft_cstr(bank_page));
}

static weft_status list_accounts(weft_ctx *ctx, void *self)
{
    weft_op *found = weft_run(ctx, db, all_accounts, WEFT_NO_ARGS);

    (void)self;
    WEFT_TRY(weft_await(found));
    return weft_reply_rows(ctx, 200, found);
}

/* ---- a transaction ---- */

/* What may have been done is not to be done once more, unseen: so no 503, which tells the client to
 * try again in a second. */
static weft_status answer_maybe(weft_ctx *ctx)
{
    return weft_problem(ctx, 500,
                        "it may have been done, since the database was lost before it said so: see"
                        " GET /bank/transfers before this is sent again");
}

struct transfer {
    weft_str from, to, amount; /* as they came: the database knows what a number is */
    weft_ctx *ctx;             /* of the request, which lives longer than one run */
    weft_str made;             /* the new row, as JSON */
};

/* A weft_tx_fn. Both statements leave at once; the second one tells who listens, with the
 * COMMIT. */
static weft_status transfer_once(weft_ctx *ctx, weft_pg *tx, void *data)
{
    struct transfer *transfer = data;
    weft_value from = weft_text(transfer->from), to = weft_text(transfer->to);
    weft_value amount = weft_text(transfer->amount);
    weft_op *moved = weft_run(ctx, tx, move_money, WEFT_ARGS(from, to, amount));
    weft_op *added = weft_run(ctx, tx, add_transfer, WEFT_ARGS(from, to, amount));

    WEFT_TRY(weft_await(moved));
    if (weft_affected(moved) != 2) /* "1" and "01" are one account, too */
        return weft_explain(transfer->ctx, WEFT_E_DB_CONSTRAINT,
                            "from and to are two accounts, of those that exist");
    WEFT_TRY(weft_await(added));
    transfer->made = weft_fmt(transfer->ctx, "%s", weft_col_text(added, 0, 0).ptr);
    return WEFT_OK;
}

static weft_status add_one(weft_ctx *ctx, void *self)
{
    struct transfer transfer = {.from = weft_form(ctx, "from"),
                                .to = weft_form(ctx, "to"),
                                .amount = weft_form(ctx, "amount"),
                                .ctx = ctx};
    weft_status status;
    uint32_t maybe_made;

    (void)self;
    if (transfer.from.ptr == NULL || transfer.to.ptr == NULL || transfer.amount.ptr == NULL)
        return weft_explain(ctx, WEFT_E_BAD_REQUEST, "a form with from, to and amount expected");
    status =
        weft_transact_told(ctx, db, WEFT_TX_SERIALIZABLE, transfer_once, &transfer, &maybe_made);
    if (maybe_made)
        return answer_maybe(ctx);
    WEFT_TRY(status);
    return weft_reply_json(ctx, 201, transfer.made);
}

/* ---- rows as a stream: as fast as the client takes them ---- */

static weft_status list_transfers(weft_ctx *ctx, void *self)
{
    weft_op *rows = weft_stream(ctx, db, all_transfers, WEFT_NO_ARGS), *page;

    (void)self;
    WEFT_TRY(weft_await(rows));
    WEFT_TRY(weft_reply_begin(ctx, 200, "application/json"));
    do {
        page = weft_stream_next(rows);
        WEFT_TRY(weft_await(page));
        WEFT_TRY(weft_await(weft_write(ctx, weft_stream_json(page))));
    } while (weft_rows(page) > 0);
    return weft_reply_end(ctx);
}

/* ---- COPY ---- */

static weft_status export_transfers(weft_ctx *ctx, void *self)
{
    weft_op *copy =
        weft_copy_out(ctx, db,
                      "copy (select id, at, source, target, amount from transfers order by id)"
                      " to stdout (format csv, header)");
    weft_op *read;

    (void)self;
    WEFT_TRY(weft_await(copy));
    WEFT_TRY(weft_reply_begin(ctx, 200, "text/csv; charset=utf-8"));
    for (;;) {
        read = weft_copy_read(copy);
        WEFT_TRY(weft_await(read));
        if (weft_piece(read).ptr == NULL)
            return weft_reply_end(ctx);
        WEFT_TRY(weft_await(weft_write(ctx, weft_piece(read))));
    }
}

/* The request's body into a table that this transaction alone sees. */
static weft_status copy_body(weft_ctx *ctx, weft_pg *tx)
{
    weft_op *copy, *body;

    WEFT_TRY(weft_await(weft_run_sql(ctx, tx,
                                     "create temporary table incoming"
                                     " (source int, target int, amount bigint) on commit drop",
                                     0, WEFT_NO_ARGS)));
    copy = weft_copy_in(ctx, tx, "copy incoming from stdin (format csv)");
    WEFT_TRY(weft_await(copy));
    do {
        body = weft_body_read(ctx);
        WEFT_TRY(weft_await(body));
        WEFT_TRY(weft_await(weft_copy_write(copy, weft_piece(body))));
    } while (weft_piece(body).ptr != NULL);
    return weft_await(weft_copy_end(copy));
}

/* What was copied becomes transfers. */
static weft_status book_incoming(weft_ctx *ctx, weft_pg *tx, uint64_t *count)
{
    weft_op *added;

    WEFT_TRY(weft_await(
        weft_run_sql(ctx, tx,
                     "update accounts set balance = balance + change from"
                     " (select id, sum(amount) as change from"
                     "  (select source as id, -amount as amount from incoming"
                     "   union all select target, amount from incoming) as each group by id)"
                     " as changes where accounts.id = changes.id",
                     0, WEFT_NO_ARGS)));
    added = weft_run_sql(ctx, tx,
                         "insert into transfers (source, target, amount)"
                         " select source, target, amount from incoming",
                         0, WEFT_NO_ARGS);
    WEFT_TRY(weft_await(added));
    *count = weft_affected(added);
    return weft_await(weft_run_sql(ctx, tx, "select pg_notify('transfers', '')", 0, WEFT_NO_ARGS));
}

/* What was copied cannot be read again: this transaction is run once. */
static weft_status import_transfers(weft_ctx *ctx, void *self)
{
    weft_op *begun = weft_begin(ctx, db, 0), *commit;
    weft_status status;
    uint64_t count;

    (void)self;
    WEFT_TRY(weft_await(begun));
    WEFT_TRY(copy_body(ctx, weft_tx(begun)));
    WEFT_TRY(book_incoming(ctx, weft_tx(begun), &count));
    commit = weft_commit(weft_tx(begun));
    status = weft_await(commit);
    if (weft_maybe_applied(commit))
        return answer_maybe(ctx);
    WEFT_TRY(status);
    return weft_reply_json(ctx, 201,
                           weft_fmt(ctx, "{\"transfers\":%llu}", (unsigned long long)count));
}

/* ---- what happens, live ---- */

/* Who listens before they read misses nothing: so the stream begins once the server listens, with
 * "anew". */
static weft_status follow(weft_ctx *ctx, void *self)
{
    weft_op *transfers = weft_listen(ctx, db, "transfers"), *next;
    weft_str none = {NULL, 0}, news;

    (void)self;
    WEFT_TRY(weft_await(transfers));
    WEFT_TRY(weft_sse_begin(ctx));
    WEFT_TRY(weft_await(weft_sse_send(ctx, "anew", none, none)));
    for (;;) {
        next = weft_listen_next(transfers);
        WEFT_TRY(weft_await(next));
        news = weft_piece(next);
        WEFT_TRY(weft_await(weft_sse_send(ctx, news.len > 0 ? "transfer" : "anew", none, news)));
    }
}

static weft_status declare_all(weft_host *host)
{
    WEFT_TRY(weft_declare(host, db, "all_accounts",
                          "select id, owner, balance from accounts order by id",
                          WEFT_STMT_READ_ONLY, &all_accounts));
    WEFT_TRY(weft_declare(host, db, "all_transfers",
                          "select id, at, source, target, amount from transfers order by id",
                          WEFT_STMT_READ_ONLY, &all_transfers));
    WEFT_TRY(weft_declare(host, db, "move_money",
                          "update accounts set balance = balance +"
                          " case id when $1 then -$3::bigint else $3 end where id in ($1, $2)",
                          0, &move_money));
    return weft_declare(host, db, "add_transfer",
                        "with made as (insert into transfers (source, target, amount)"
                        " values ($1, $2, $3) returning *) select row_to_json(made),"
                        " pg_notify('transfers', row_to_json(made)::text) from made",
                        0, &add_transfer);
}

static weft_status init(weft_host *host, void **self)
{
    const weft_route_options upload = {sizeof upload, WEFT_ROUTE_STREAM, 0, UINT32_MAX, 0};
    weft_str database;

    (void)self;
    WEFT_TRY(weft_setting(host, "database", "main", &database));
    WEFT_TRY(weft_find_pool(host, database.ptr, &db));
    WEFT_TRY(declare_all(host));
    WEFT_TRY(weft_route(host, "GET", "/bank", show_page));
    WEFT_TRY(weft_route(host, "GET", "/bank/accounts", list_accounts));
    WEFT_TRY(weft_route(host, "POST", "/bank/transfers", add_one));
    WEFT_TRY(weft_route(host, "GET", "/bank/transfers", list_transfers));
    WEFT_TRY(weft_route(host, "GET", "/bank/transfers.csv", export_transfers));
    WEFT_TRY(weft_route_with(host, "POST", "/bank/transfers.csv", import_transfers, NULL, &upload));
    return weft_route(host, "GET", "/bank/events", follow);
}

WEFT_PLUGIN("bank", "1.0", init, NULL, NULL);
