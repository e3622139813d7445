/* lab.c - a plugin for the system tests: one route for each thing that a handler may do, so that a
 * test can say in a URL what happens.
 *
 * Settings: text (what GET /lab/text answers), database and upstream (names of sections; without
 * them the routes that need one are not there). */
#include "weft.h"
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static weft_pg *db;
static weft_upstream *partner;
static weft_str configured_text;

/* The number in the parameter `name`; 0 where it is none. */
static int64_t number_in(weft_ctx *ctx, const char *name)
{
    weft_str text = weft_param(ctx, name);

    return text.ptr != NULL ? strtoll(text.ptr, NULL, 10) : 0;
}

static weft_status text(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, "text/plain", configured_text);
}

/* Which worker is it? */
static weft_status pid(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, "text/plain", weft_fmt(ctx, "%ld", (long)getpid()));
}

static weft_status sleeping(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_await(weft_sleep(ctx, (uint32_t)number_in(ctx, "ms"))));
    return weft_reply_text(ctx, 200, "slept\n");
}

/* The same, registered with WEFT_ROUTE_FINISH: the log tells that it came to its end. */
static weft_status finishing(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_await(weft_sleep(ctx, (uint32_t)number_in(ctx, "ms"))));
    weft_log(ctx, WEFT_LOG_INFO, "finished whatever the client did");
    return weft_reply_text(ctx, 200, "finished\n");
}

/* Work that blocks, until a file is there. */
struct waiting {
    char path[512];
    char mark[16];
};

static weft_status wait_for_file(void *data)
{
    const struct waiting *waiting = data;
    const struct timespec moment = {0, 5000000};

    weft_log(NULL, WEFT_LOG_INFO, "work begins: %s", waiting->mark);
    while (access(waiting->path, F_OK) != 0)
        nanosleep(&moment, NULL);
    weft_log(NULL, WEFT_LOG_INFO, "work ends: %s", waiting->mark);
    return WEFT_OK;
}

/* Waits on a thread for ?path=, and says ?mark= before and behind. */
static weft_status offloading(weft_ctx *ctx, void *self)
{
    struct waiting *waiting = weft_alloc(ctx, sizeof *waiting);

    (void)self;
    snprintf(waiting->path, sizeof waiting->path, "%s", weft_query(ctx, "path").ptr);
    snprintf(waiting->mark, sizeof waiting->mark, "%s", weft_query(ctx, "mark").ptr);
    WEFT_TRY(weft_await(weft_offload(ctx, wait_for_file, waiting)));
    return weft_reply_text(ctx, 200, "worked\n");
}

/* Waits until ?at=, milliseconds of the monotonic clock; without it not at all. */
static weft_status wait_for_time(weft_ctx *ctx)
{
    weft_str at = weft_query(ctx, "at");
    struct timespec now;
    int64_t ms;

    if (at.ptr == NULL)
        return WEFT_OK;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ms = strtoll(at.ptr, NULL, 10) - (now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000);
    return ms > 0 ? weft_await(weft_sleep(ctx, (uint32_t)ms)) : WEFT_OK;
}

/* Keeps the processor, and with it the loop, busy; from ?at= on. */
static weft_status burning(weft_ctx *ctx, void *self)
{
    int64_t ms = number_in(ctx, "ms");
    struct timespec start, now;

    (void)self;
    WEFT_TRY(wait_for_time(ctx));
    clock_gettime(CLOCK_MONOTONIC, &start);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < ms);
    return weft_reply_text(ctx, 200, "burnt\n");
}

/* Needs so many bytes of its stack. */
static weft_status digging(weft_ctx *ctx, void *self)
{
    size_t size = (size_t)number_in(ctx, "bytes");
    volatile char *bytes = __builtin_alloca(size + 1);

    (void)self;
    for (size_t i = 0; i <= size; i += 1024)
        bytes[i] = 1;
    return weft_reply_text(ctx, 200, "dug\n");
}

static weft_status big(weft_ctx *ctx, void *self)
{
    size_t size = (size_t)number_in(ctx, "bytes");
    weft_str body = {NULL, size};
    char *bytes = weft_alloc(ctx, size + 1);

    (void)self;
    memset(bytes, 'x', size);
    body.ptr = bytes;
    return weft_reply(ctx, 200, "application/octet-stream", body);
}

/* Hands a status on, as a handler does whose op has failed. */
static weft_status status(weft_ctx *ctx, void *self)
{
    (void)self;
    return (weft_status)number_in(ctx, "code");
}

/* Forgets to answer. */
static weft_status nothing(weft_ctx *ctx, void *self)
{
    (void)ctx;
    (void)self;
    return WEFT_OK;
}

static weft_status twice(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_reply_text(ctx, 200, "first\n"));
    return weft_reply_text(ctx, 500, "second\n");
}

static weft_status logging(weft_ctx *ctx, void *self)
{
    (void)self;
    for (int64_t i = number_in(ctx, "count"); i > 0; i--)
        weft_log(ctx, WEFT_LOG_ERROR, "the lab has an error");
    return weft_reply_text(ctx, 200, "logged\n");
}

/* ---- database and upstream ---- */

/* Runs ?q=, whatever it is, from ?at= on, with ?read_only as such and ?copy by way of the ctx's
 * memory: for tests only. */
static weft_status sql(weft_ctx *ctx, void *self)
{
    uint32_t flags = weft_query(ctx, "read_only").ptr != NULL ? WEFT_STMT_READ_ONLY : 0;
    weft_op *done;

    (void)self;
    WEFT_TRY(wait_for_time(ctx));
    done = weft_run_sql(ctx, db, weft_query(ctx, "q").ptr, flags, WEFT_NO_ARGS);
    WEFT_TRY(weft_await(done));
    if (weft_query(ctx, "copy").ptr != NULL)
        return weft_reply_json(ctx, 200, weft_rows_json(ctx, done));
    return weft_reply_rows(ctx, 200, done);
}

/* Runs ?undone= in a savepoint, which is rolled back. */
static weft_status undo(weft_ctx *ctx, weft_pg *tx)
{
    weft_op *begun = weft_begin(ctx, tx, 0);

    WEFT_TRY(weft_await(begun));
    WEFT_TRY(weft_await(
        weft_run_sql(ctx, weft_tx(begun), weft_query(ctx, "undone").ptr, 0, WEFT_NO_ARGS)));
    return weft_await(weft_rollback(weft_tx(begun)));
}

/* Runs ?q= and ?then= in a transaction, and ?undone= for nothing between them. */
static weft_status transaction(weft_ctx *ctx, void *self)
{
    weft_op *begun = weft_begin(ctx, db, 0), *done;

    (void)self;
    WEFT_TRY(weft_await(begun));
    weft_pg *tx = weft_tx(begun);
    WEFT_TRY(weft_await(weft_run_sql(ctx, tx, weft_query(ctx, "q").ptr, 0, WEFT_NO_ARGS)));
    if (weft_query(ctx, "undone").ptr != NULL)
        WEFT_TRY(undo(ctx, tx));
    done = weft_run_sql(ctx, tx, weft_query(ctx, "then").ptr, 0, WEFT_NO_ARGS);
    WEFT_TRY(weft_await(done));
    WEFT_TRY(weft_await(weft_commit(tx)));
    return weft_reply_rows(ctx, 200, done);
}

static int64_t runs; /* of count_in() */

/* A weft_tx_fn: reads, waits for a moment, and writes what it read, plus one. */
static weft_status count_in(weft_ctx *ctx, weft_pg *tx, void *data)
{
    weft_op *read = weft_run_sql(ctx, tx, "select n from counted", 0, WEFT_NO_ARGS);

    (void)data;
    runs++;
    WEFT_TRY(weft_await(read));
    WEFT_TRY(weft_await(weft_sleep(ctx, 2)));
    return weft_await(weft_run_sql(ctx, tx, "update counted set n = $1", 0,
                                   WEFT_ARGS(weft_int(weft_col_int(read, 0, 0) + 1))));
}

static weft_status counting(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_transact(ctx, db, WEFT_TX_SERIALIZABLE, count_in, NULL));
    return weft_reply_text(ctx, 200, "counted\n");
}

static weft_status show_runs(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%lld", (long long)runs).ptr);
}

/* One of two that take their rows crosswise. */
struct crossing {
    weft_str first, then; /* numbers of rows */
    int runs;
    char sqlstate[6]; /* of the last failure */
};

static int crossing; /* how many have their first row */

/* A weft_tx_fn: takes the second row once another one has its first one, too. */
static weft_status cross_in(weft_ctx *ctx, weft_pg *tx, void *data)
{
    static const char update[] = "update crossed set n = n + 1 where id = $1::int";
    struct crossing *it = data;
    weft_op *then;
    weft_status status;

    it->runs++;
    WEFT_TRY(weft_await(weft_run_sql(ctx, tx, update, 0, WEFT_ARGS(weft_text(it->first)))));
    crossing++;
    while (crossing < 2)
        WEFT_TRY(weft_await(weft_sleep(ctx, 1)));
    then = weft_run_sql(ctx, tx, update, 0, WEFT_ARGS(weft_text(it->then)));
    status = weft_await(then);
    for (size_t i = 0; i < weft_sqlstate(then).len && i < sizeof it->sqlstate - 1; i++)
        it->sqlstate[i] = weft_sqlstate(then).ptr[i];
    return status;
}

/* Updates row ?first= and then ?then= of a table: the runs that it took, and what failed. */
static weft_status cross(weft_ctx *ctx, void *self)
{
    struct crossing it = {weft_query(ctx, "first"), weft_query(ctx, "then"), 0, ""};

    (void)self;
    WEFT_TRY(weft_transact(ctx, db, 0, cross_in, &it));
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%d %s", it.runs, it.sqlstate).ptr);
}

/* ?q= against a sleep of ?ms=: who won, and what became of the statement. */
static weft_status race(weft_ctx *ctx, void *self)
{
    uint32_t ms = (uint32_t)strtoul(weft_query(ctx, "ms").ptr, NULL, 10);
    weft_op *ops[] = {weft_run_sql(ctx, db, weft_query(ctx, "q").ptr, 0, WEFT_NO_ARGS),
                      weft_sleep(ctx, ms)};
    weft_op *both = weft_race(ctx, 2, ops);

    (void)self;
    WEFT_TRY(weft_await(both));
    return weft_reply_text(ctx, 200,
                           weft_fmt(ctx, "%d %d %u", (int)weft_winner(both),
                                    (int)weft_op_status(ops[0]), weft_maybe_applied(ops[0]))
                               .ptr);
}

/* GETs ?path= while a transaction is open. */
static weft_status calling_in_transaction(weft_ctx *ctx, void *self)
{
    weft_op *begun = weft_begin(ctx, db, 0);

    (void)self;
    WEFT_TRY(weft_await(begun));
    WEFT_TRY(weft_await(weft_call_get(ctx, partner, weft_query(ctx, "path").ptr)));
    WEFT_TRY(weft_await(weft_commit(weft_tx(begun))));
    return weft_reply_text(ctx, 200, "called\n");
}

/* GETs ?path= from the upstream and hands its answer on. */
static weft_status call(weft_ctx *ctx, void *self)
{
    weft_op *answer = weft_call_get(ctx, partner, weft_query(ctx, "path").ptr);

    (void)self;
    WEFT_TRY(weft_await(answer));
    return weft_reply(ctx, weft_call_code(answer), "text/plain", weft_call_body(answer));
}

/* The same with gzip decoded, in pieces. */
static weft_status call_decoded(weft_ctx *ctx, void *self)
{
    weft_call what = {
        .size = sizeof what, .flags = WEFT_CALL_DECODE, .path = weft_query(ctx, "path")};
    weft_op *answer = weft_call_stream(ctx, partner, &what);

    (void)self;
    WEFT_TRY(weft_await(answer));
    WEFT_TRY(weft_reply_begin(ctx, weft_call_code(answer), "text/plain"));
    WEFT_TRY(weft_call_download(ctx, answer));
    return weft_reply_end(ctx);
}

static weft_status add_peers(weft_host *host)
{
    weft_str name;

    WEFT_TRY(weft_setting(host, "database", "", &name));
    if (name.len > 0) {
        WEFT_TRY(weft_find_pool(host, name.ptr, &db));
        const weft_route_options hasty = {sizeof hasty, 0, 300, 0, 0};
        WEFT_TRY(weft_route(host, "GET", "/lab/sql", sql));
        WEFT_TRY(weft_route_with(host, "GET", "/lab/hasty-sql", sql, NULL, &hasty));
        WEFT_TRY(weft_route(host, "GET", "/lab/transaction", transaction));
        WEFT_TRY(weft_route_with(host, "GET", "/lab/hasty-transaction", transaction, NULL, &hasty));
        WEFT_TRY(weft_route(host, "GET", "/lab/count", counting));
        WEFT_TRY(weft_route(host, "GET", "/lab/counted", show_runs));
        WEFT_TRY(weft_route(host, "GET", "/lab/cross", cross));
        WEFT_TRY(weft_route(host, "GET", "/lab/race", race));
    }
    WEFT_TRY(weft_setting(host, "upstream", "", &name));
    if (name.len == 0)
        return WEFT_OK;
    WEFT_TRY(weft_find_upstream(host, name.ptr, &partner));
    if (db != NULL)
        WEFT_TRY(weft_route(host, "GET", "/lab/held", calling_in_transaction));
    WEFT_TRY(weft_route(host, "GET", "/lab/decoded", call_decoded));
    return weft_route(host, "GET", "/lab/call", call);
}

static weft_status init(weft_host *host, void **self)
{
    static const struct {
        const char *pattern;
        weft_handler *handler;
    } routes[] = {
        {"/lab/text", text},          {"/lab/pid", pid},
        {"/lab/sleep/:ms", sleeping}, {"/lab/burn/:ms", burning},
        {"/lab/big/:bytes", big},     {"/lab/status/:code", status},
        {"/lab/nothing", nothing},    {"/lab/log/:count", logging},
        {"/lab/twice", twice},        {"/lab/dig/:bytes", digging},
        {"/lab/offload", offloading},
    };
    const weft_route_options finish = {sizeof finish, WEFT_ROUTE_FINISH, 0, 0, 0};

    (void)self;
    WEFT_TRY(weft_setting(host, "text", "the lab", &configured_text));
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        WEFT_TRY(weft_route(host, "GET", routes[i].pattern, routes[i].handler));
    WEFT_TRY(weft_route_with(host, "GET", "/lab/finish/:ms", finishing, NULL, &finish));
    return add_peers(host);
}

WEFT_PLUGIN("lab", "1.0", init, NULL, NULL);
