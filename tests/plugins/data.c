/* Goal: a plugin that uses databases and upstreams in each way that weft.h has, and answers what
 * came of it, for tests against a real database and a scripted upstream. */
#include "weft_json.h"

#include <stdlib.h>

static weft_pg *db;
static weft_upstream *partner;
static weft_stmt *values, *insert, *count;

static weft_op *run_values(weft_ctx *ctx)
{
    static const weft_str bytes = WEFT_S("\x00\x01\xff");

    return weft_run(ctx, db, values,
                    WEFT_ARGS(weft_int(INT64_MIN), weft_text(weft_cstr("gr\xc3\xbc\xc3\x9f")),
                              weft_bool(7), weft_double(0.1), weft_bytes(bytes),
                              weft_value_json(weft_cstr("{\"a\": [1]}")), weft_null()));
}

/* What the accessors answer for one row of every kind. */
static weft_status show_values(weft_ctx *ctx, void *self)
{
    weft_op *row = run_values(ctx);
    double d;

    (void)self;
    WEFT_TRY(weft_await(row));
    d = weft_col_double(row, 0, 3);
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%u %u %d %d %s|%s|%u|%s|%s|%s|%u %u|%d|%s", weft_rows(row),
                               weft_columns(row), (int)weft_column(row, "t"),
                               (int)weft_column(row, "none"), weft_column_name(row, 0).ptr,
                               weft_col_text(row, 0, 1).ptr, weft_col_bool(row, 0, 2),
                               weft_fmt(ctx, "%.17g", d).ptr, weft_col_text(row, 0, 4).ptr,
                               weft_col_text(row, 0, 5).ptr, weft_col_is_null(row, 0, 6),
                               weft_col_is_null(row, 0, 5), weft_col_int(row, 0, 0) == INT64_MIN,
                               weft_col_text(row, 1, 0).ptr == NULL ? "none" : "some"));
}

static weft_status reply_values(weft_ctx *ctx, void *self)
{
    weft_op *row = run_values(ctx);

    (void)self;
    WEFT_TRY(weft_await(row));
    return weft_query(ctx, "one").ptr != NULL ? weft_reply_row(ctx, 200, row)
                                              : weft_reply_rows(ctx, 200, row);
}

static weft_op *run_insert(weft_ctx *ctx, weft_pg *where, const char *name)
{
    return weft_run(ctx, where, insert, WEFT_ARGS(weft_text(weft_cstr(name))));
}

/* Inserts ?name= and ends the transaction as ?end= says; answers the rows that it saw before. */
static weft_status use_transaction(weft_ctx *ctx, void *self)
{
    weft_str how = weft_query(ctx, "end");
    weft_op *begun = weft_begin(ctx, db, WEFT_TX_REPEATABLE_READ), *counted;
    weft_pg *tx;

    (void)self;
    WEFT_TRY(weft_await(begun));
    tx = weft_tx(begun);
    WEFT_TRY(weft_await(run_insert(ctx, tx, weft_query(ctx, "name").ptr)));
    counted = weft_run(ctx, tx, count, WEFT_NO_ARGS);
    WEFT_TRY(weft_await(counted));
    if (how.ptr[0] == 'c')
        WEFT_TRY(weft_await(weft_commit(tx)));
    if (how.ptr[0] == 'r')
        WEFT_TRY(weft_await(weft_rollback(tx)));
    return weft_reply_row(ctx, 200, counted);
}

/* What a transaction answers that has ended, and one that is gone. */
static weft_status use_ended_transaction(weft_ctx *ctx, void *self)
{
    weft_op *begun = weft_begin(ctx, db, 0);
    weft_status after, twice, gone;
    weft_pg *tx;

    (void)self;
    WEFT_TRY(weft_await(begun));
    tx = weft_tx(begun);
    WEFT_TRY(weft_await(weft_commit(tx)));
    after = weft_await(run_insert(ctx, tx, "late"));
    twice = weft_await(weft_commit(tx));
    WEFT_TRY(weft_op_release(begun));
    gone = weft_await(run_insert(ctx, tx, "later"));
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d %d %d", (int)after, (int)twice, (int)gone));
}

static weft_status add_name(weft_ctx *ctx, void *self)
{
    weft_str name = weft_body(ctx).len > 0 ? weft_body(ctx) : weft_query(ctx, "name");
    weft_op *added = weft_run(ctx, db, insert, WEFT_ARGS(weft_text(name)));

    (void)self;
    WEFT_TRY(weft_await(added));
    return weft_reply(ctx, 200, "text/plain", weft_fmt(ctx, "%d", (int)weft_affected(added)));
}

/* Runs ?sql= as it is. */
static weft_status run_sql(weft_ctx *ctx, void *self)
{
    weft_op *done = weft_run_sql(ctx, db, weft_query(ctx, "sql").ptr, 0, WEFT_NO_ARGS);

    (void)self;
    WEFT_TRY(weft_await(done));
    return weft_reply_rows(ctx, 200, done);
}

/* The same, but answers what is known of its failure. */
static weft_status show_failure(weft_ctx *ctx, void *self)
{
    weft_op *done = weft_run_sql(ctx, db, weft_query(ctx, "sql").ptr, 0, WEFT_NO_ARGS);
    weft_status status = weft_await(done);

    (void)self;
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d|%s|%s|%u", (int)status, weft_sqlstate(done).ptr,
                               weft_op_error(done).ptr, weft_maybe_applied(done)));
}

/* Arrays at addresses where none of their items can be. */
static weft_status misplace(weft_ctx *ctx, void *self)
{
    static const char place[64] = {0};
    const weft_value arrays[] = {weft__value_items(WEFT_V_INTS, 2, place + 1),
                                 weft__value_items(WEFT_V_TEXTS, 2, place + 1)};
    weft_status status[2];

    (void)self;
    for (int i = 0; i < 2; i++)
        status[i] = weft_await(weft_run_sql(ctx, db, "select $1", 0, 1, &arrays[i]));
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d %d", (int)status[0], (int)status[1]));
}

/* The sum of ?count= parameters, 1 and 2 and so on. */
static weft_status sum_many(weft_ctx *ctx, void *self)
{
    uint32_t many = (uint32_t)strtoul(weft_query(ctx, "count").ptr, NULL, 10);
    weft_str sql = weft_cstr("select 0::int8");
    weft_value numbers[100];
    weft_op *done;

    (void)self;
    for (uint32_t i = 0; i < many && i < 100; i++) {
        sql = weft_fmt(ctx, "%s + $%u", sql.ptr, i + 1);
        numbers[i] = weft_int(i + 1);
    }
    done = weft_run_sql(ctx, db, sql.ptr, 0, many, numbers);
    WEFT_TRY(weft_await(done));
    return weft_reply(ctx, 200, "text/plain", weft_col_text(done, 0, 0));
}

/* A group of which the second fails in the database. */
static weft_status fail_in_group(weft_ctx *ctx, void *self)
{
    weft_op *ops[] = {weft_sleep(ctx, 10000), weft_run_sql(ctx, db, "select 1/0", 0, WEFT_NO_ARGS)};

    (void)self;
    return weft_await(weft_all(ctx, 2, ops));
}

/* Calls ?path= with the request's body and a field, and answers code, a field and the body. */
static weft_status call(weft_ctx *ctx, void *self)
{
    static const weft_field fields[] = {{WEFT_S("X-Ours"), WEFT_S("1")},
                                        {WEFT_S("Accept"), WEFT_S("text/x")}};
    weft_call what = {0};
    weft_op *answer;

    (void)self;
    what.size = sizeof what;
    what.method = "PUT";
    what.path = weft_query(ctx, "path");
    what.body = weft_body(ctx);
    what.fields = fields;
    what.field_count = 2;
    what.timeout_ms = 300;
    answer = weft_call_start(ctx, partner, &what);
    WEFT_TRY(weft_await(answer));
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%u|%s|%s|%s", weft_call_code(answer),
                               weft_call_header(answer, "x-theirs").ptr,
                               weft_call_header(answer, "none").ptr == NULL ? "none" : "some",
                               weft_call_body(answer).ptr));
}

/* An answer of one kind asked as if it were of the other. */
static weft_status mix_up(weft_ctx *ctx, void *self)
{
    weft_op *row = weft_run(ctx, db, count, WEFT_NO_ARGS);

    (void)self;
    if (weft_rows(row) != 0 || weft_call_code(row) != 0)
        return WEFT_E_INVALID;
    WEFT_TRY(weft_await(row));
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%u %d %d %d", weft_call_code(row),
                               weft_call_body(row).ptr != NULL,
                               weft_call_header(row, "x").ptr != NULL, weft_tx(row) != NULL));
}

static weft_status find_all(weft_host *host)
{
    WEFT_TRY(weft_find_pool(host, "main", &db));
    WEFT_TRY(weft_find_upstream(host, "partner", &partner));
    WEFT_TRY(weft_declare(host, db, "values",
                          "select $1::int8 as i, $2::text as t, $3::bool as b, $4::float8 as d,"
                          " $5::bytea as x, $6::json as j, $7::text as n",
                          WEFT_STMT_READ_ONLY, &values));
    WEFT_TRY(weft_declare(host, db, "insert", "insert into names (name) values ($1)", 0, &insert));
    return weft_declare(host, db, "count", "select count(*) as n from names", WEFT_STMT_READ_ONLY,
                        &count);
}

/* Declares setting `declare` too, if there is one: to see it refused. */
static weft_status declare_as_told(weft_host *host)
{
    weft_stmt *stmt;
    weft_str sql;

    WEFT_TRY(weft_setting(host, "declare", "", &sql));
    return sql.len > 0 ? weft_declare(host, db, "count", sql.ptr, 0, &stmt) : WEFT_OK;
}

static weft_status init(weft_host *host, void **self)
{
    (void)self;
    WEFT_TRY(find_all(host));
    WEFT_TRY(declare_as_told(host));
    WEFT_TRY(weft_route(host, "GET", "/values", show_values));
    WEFT_TRY(weft_route(host, "GET", "/json", reply_values));
    WEFT_TRY(weft_route(host, "POST", "/tx", use_transaction));
    WEFT_TRY(weft_route(host, "POST", "/tx-ended", use_ended_transaction));
    WEFT_TRY(weft_route(host, "POST", "/names", add_name));
    WEFT_TRY(weft_route(host, "GET", "/sql", run_sql));
    WEFT_TRY(weft_route(host, "GET", "/failure", show_failure));
    WEFT_TRY(weft_route(host, "GET", "/group", fail_in_group));
    WEFT_TRY(weft_route(host, "GET", "/misplaced", misplace));
    WEFT_TRY(weft_route(host, "GET", "/sum", sum_many));
    WEFT_TRY(weft_route(host, "PUT", "/call", call));
    return weft_route(host, "GET", "/mixed", mix_up);
}

WEFT_PLUGIN("data", "1.0", init, NULL, NULL);
