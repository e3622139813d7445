/* ledger.c - a plugin for the system tests: transfers between accounts, each told to the client as
 * what it is: done, not done, or perhaps done.
 *
 * Setting database: the name of the pool. POST /ledger/transfer?id=&from=&to=&amount=, with &pipe
 * all of it in one piece, else with weft_transact(); GET /ledger/balance/:id; GET /ledger/ping,
 * which needs no database; GET /ledger/heap: how many bytes its worker has allocated and not
 * freed. */
#include "weft.h"
#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>

/* The sanitizers' allocator tells it, which does not count what it holds back after free(). */
extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static weft_pg *db;
static weft_stmt *note, *take, *give, *balance;

static int64_t number_in(weft_ctx *ctx, const char *name)
{
    weft_str text = weft_query(ctx, name);

    return text.ptr != NULL ? strtoll(text.ptr, NULL, 10) : 0;
}

/* Starts the statements of a transfer, which its request has; returns how many. */
static uint32_t start_all(weft_ctx *ctx, weft_pg *tx, weft_op *ops[3])
{
    weft_value id = weft_int(number_in(ctx, "id")), amount = weft_int(number_in(ctx, "amount"));
    weft_value from = weft_int(number_in(ctx, "from")), to = weft_int(number_in(ctx, "to"));

    ops[0] = weft_run(ctx, tx, note, WEFT_ARGS(id, from, to, amount));
    ops[1] = weft_run(ctx, tx, take, WEFT_ARGS(from, amount));
    ops[2] = weft_run(ctx, tx, give, WEFT_ARGS(to, amount));
    return 3;
}

/* All of it in one piece, COMMIT too, which alone counts. */
static weft_status transfer_piped(weft_ctx *ctx, uint32_t *maybe)
{
    weft_op *begun = weft_begin(ctx, db, 0), *ops[3], *commit;
    weft_status status;

    WEFT_TRY(weft_await(begun));
    (void)start_all(ctx, weft_tx(begun), ops);
    commit = weft_commit(weft_tx(begun));
    status = weft_await(commit);
    *maybe = weft_maybe_applied(commit);
    return status;
}

/* A weft_tx_fn. */
static weft_status transfer_in(weft_ctx *ctx, weft_pg *tx, void *data)
{
    weft_op *ops[3];
    uint32_t count = start_all(ctx, tx, ops);

    (void)data;
    for (uint32_t i = 0; i < count; i++)
        WEFT_TRY(weft_await(ops[i]));
    return WEFT_OK;
}

static weft_status transfer(weft_ctx *ctx, void *self)
{
    uint32_t maybe = 0;
    weft_status status = weft_query(ctx, "pipe").ptr != NULL
                             ? transfer_piped(ctx, &maybe)
                             : weft_transact_told(ctx, db, 0, transfer_in, ctx, &maybe);
    const char *what = status == WEFT_OK ? "done" : maybe != 0 ? "maybe" : "no";

    (void)self;
    return weft_reply(ctx, status == WEFT_OK ? 200 : 503, "text/plain",
                      weft_fmt(ctx, "%s %d", what, (int)status));
}

static weft_status show_balance(weft_ctx *ctx, void *self)
{
    weft_op *found = weft_run(ctx, db, balance, WEFT_ARGS(weft_text(weft_param(ctx, "id"))));

    (void)self;
    WEFT_TRY(weft_await(found));
    return weft_rows(found) > 0 ? weft_reply_row(ctx, 200, found) : WEFT_E_NOT_FOUND;
}

static weft_status ping(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(ctx, 200, "pong\n");
}

static weft_status show_heap(weft_ctx *ctx, void *self)
{
    struct mallinfo2 heap;

    (void)self;
    if (__sanitizer_get_current_allocated_bytes != NULL)
        return weft_reply_text(ctx, 200,
                               weft_fmt(ctx, "%zu", __sanitizer_get_current_allocated_bytes()).ptr);
    heap = mallinfo2();
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%zu", heap.uordblks + heap.hblkhd).ptr);
}

static weft_status init(weft_host *host, void **self)
{
    weft_str name;

    (void)self;
    WEFT_TRY(weft_setting(host, "database", "main", &name));
    WEFT_TRY(weft_find_pool(host, name.ptr, &db));
    WEFT_TRY(weft_declare(host, db, "note",
                          "insert into transfers (id, source, target, amount)"
                          " values ($1, $2, $3, $4)",
                          0, &note));
    WEFT_TRY(weft_declare(host, db, "take",
                          "update accounts set balance = balance - $2 where id = $1", 0, &take));
    WEFT_TRY(weft_declare(host, db, "give",
                          "update accounts set balance = balance + $2 where id = $1", 0, &give));
    WEFT_TRY(weft_declare(host, db, "balance", "select id, balance from accounts where id = $1",
                          WEFT_STMT_READ_ONLY, &balance));
    WEFT_TRY(weft_route(host, "GET", "/ledger/ping", ping));
    WEFT_TRY(weft_route(host, "GET", "/ledger/heap", show_heap));
    WEFT_TRY(weft_route(host, "POST", "/ledger/transfer", transfer));
    return weft_route(host, "GET", "/ledger/balance/:id", show_balance);
}

WEFT_PLUGIN("ledger", "1.0", init, NULL, NULL);
