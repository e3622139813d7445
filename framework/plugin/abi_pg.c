/* plugin/abi_pg.c - the table `pg`: pools, statements, transactions and results.
 *
 * A weft_pg is the handle of a pool, or of the op that began a transaction.
 */
#include "base/check.h"
#include "base/slots.h"
#include "http/response.h"
#include "pg/query.h"
#include "pg/stream.h"
#include "pg/transaction.h"
#include "plugin/inside.h"
#include "task/tasks.h"
#include <assert.h>

enum {
    JSON_KEPT_MAX = 256 * 1024, /* bytes of abi->json that are kept for the next result */
    RUNS_MAX = 10,              /* of a transaction that others do not let through */
    PARAMS_FEW = 8              /* as most calls have at most */
};

static_assert(WEFT_STMT_READ_ONLY == PG_READ_ONLY && WEFT_STMT_SLOW == PG_SLOW &&
                  WEFT_STMT_BINARY == PG_BINARY,
              "flags of a statement");
static_assert(WEFT_TX_READ_ONLY == PG_TX_READ_ONLY &&
                  WEFT_TX_REPEATABLE_READ == PG_TX_REPEATABLE_READ &&
                  WEFT_TX_SERIALIZABLE == PG_TX_SERIALIZABLE &&
                  WEFT_TX_DEFERRABLE == PG_TX_DEFERRABLE,
              "flags of a transaction");

static const weft_str absent = {NULL, 0};

/* All that there are. */
#define STMT_FLAGS (WEFT_STMT_READ_ONLY | WEFT_STMT_SLOW | WEFT_STMT_BINARY)
#define TX_FLAGS \
    (WEFT_TX_READ_ONLY | WEFT_TX_REPEATABLE_READ | WEFT_TX_SERIALIZABLE | WEFT_TX_DEFERRABLE)

/* At init */

static weft_status pool(weft_host *host, const char *name, weft_pg **db)
{
    struct instance *instance = abi_init_of(host, "find_pool");
    const struct plugin_services *services;
    struct pg_pool *found;

    if (instance == NULL)
        return WEFT_E_STATE;
    services = abi_services(instance->abi);
    found = name != NULL ? services->pool(services->data, name) : NULL;
    if (found == NULL) {
        instance_fail(instance, 0, "there is no section [pg.%s], which the plugin wants",
                      name != NULL ? name : "");
        return WEFT_E_INVALID;
    }
    *db = (weft_pg *)(uintptr_t)instance_handle(instance, instance->abi->pools, found);
    return WEFT_OK;
}

static weft_status declare(weft_host *host, weft_pg *db, const char *name, const char *sql,
                           uint32_t flags, weft_stmt **stmt)
{
    struct instance *instance = abi_init_of(host, "declare");
    const struct plugin_watch *watch;
    struct abi_statement *made;
    struct pg_pool *found;
    enum err err;

    if (instance == NULL)
        return WEFT_E_STATE;
    watch = abi_services(instance->abi)->watch;
    found = slots_get(instance->abi->pools, abi_number(db));
    if (found == NULL || name == NULL || sql == NULL || (flags & ~STMT_FLAGS) != 0) {
        instance_fail(instance, 0, "statement %s: no pool, no name, no text or unknown flags",
                      name != NULL ? name : "(null)");
        return WEFT_E_INVALID;
    }
    made = arena_alloc(&instance->arena, sizeof *made);
    made->pool = found;
    err = pg_pool_declare(found, name, sql, flags, &made->statement);
    if (err != ERR_OK) {
        const char *refused = pg_is_refused_in_transaction(span_of(sql));

        instance_fail(instance, 0, "statement %s: %s", name,
                      refused != NULL ? refused
                                      : "the pool has another text of this name, or other flags");
        return WEFT_E_INVALID;
    }
    if (watch != NULL)
        watch->declared(watch->data, pg_pool_name(found), name, sql, flags);
    *stmt = (weft_stmt *)(uintptr_t)instance_handle(instance, instance->abi->statements, made);
    return WEFT_OK;
}

/* Running */

bool abi_database(weft_pg *db, struct pg_call *call, const char *entry)
{
    const struct abi *abi = abi_here();
    struct op *begin;

    call->pool = slots_get(abi->pools, abi_number(db));
    if (call->pool != NULL)
        return true;
    begin = op_of(abi->services.tasks, abi_number(db));
    call->transaction = begin != NULL ? pg_transaction_of(begin) : NULL;
    if (call->transaction == NULL)
        abi_misuse(entry, db == NULL ? "no database" : "a database that has gone, or none");
    return call->transaction != NULL;
}

static weft_op *refuse(struct scope *scope, enum err err, const char *why)
{
    return abi_handle(op_failed(scope, err, err == ERR_DB_VALUE ? "pg_error" : NULL, span_of(why)));
}

/* What starts a call: pg_query_start() or pg_stream_start(). */
typedef struct op *start_fn(struct scope *scope, const struct pg_call *call);

/* `taken` has room for as many values as call->count says. */
static weft_op *start_with(struct scope *scope, struct pg_call *call, const weft_value *values,
                           struct pg_value *taken, start_fn *fn)
{
    const char *why = NULL;
    enum err err = abi_take_values(values, call->count, taken, &why);

    if (err != ERR_OK)
        return refuse(scope, err, why);
    call->values = taken;
    return abi_handle(fn(scope, call));
}

/* Not within start(), whose frame would be as large then. More than PG_PARAMS_MAX are refused
 * before any is taken. */
static __attribute__((noinline)) weft_op *start_many(struct scope *scope, struct pg_call *call,
                                                     const weft_value *values, start_fn *fn)
{
    struct pg_value taken[PG_PARAMS_MAX];

    return start_with(scope, call, values, taken, fn);
}

/* A handler waits behind this, and what it has used of its stack stays in memory as long: most
 * calls have few parameters, and use little. */
static weft_op *start(struct scope *scope, struct pg_call *call, uint32_t count,
                      const weft_value *values, start_fn *fn)
{
    struct pg_value taken[PARAMS_FEW];

    call->count = count;
    return count <= PARAMS_FEW ? start_with(scope, call, values, taken, fn)
                               : start_many(scope, call, values, fn);
}

/* Fills in where a declared statement runs, and which. NULL; or why not, which was told. */
static const char *find_declared(weft_pg *db, weft_stmt *stmt, struct pg_call *call,
                                 const char *entry)
{
    const struct abi_statement *statement;

    if (!abi_database(db, call, entry))
        return "no such database";
    statement = slots_get(abi_here()->statements, abi_number(stmt));
    if (statement == NULL) {
        abi_misuse(entry, "no statement of this plugin");
        return "no such statement";
    }
    call->statement = statement->statement;
    return NULL;
}

static weft_op *run(weft_ctx *ctx, weft_pg *db, weft_stmt *stmt, uint32_t count,
                    const weft_value *values)
{
    struct scope *scope = abi_scope(ctx, "run");
    struct pg_call call = {0};
    const char *why;

    if (scope == NULL)
        return NULL;
    why = find_declared(db, stmt, &call, "run");
    return why != NULL ? refuse(scope, ERR_STATE, why)
                       : start(scope, &call, count, values, pg_query_start);
}

static weft_op *stream(weft_ctx *ctx, weft_pg *db, weft_stmt *stmt, uint32_t count,
                       const weft_value *values)
{
    struct scope *scope = abi_scope(ctx, "stream");
    struct pg_call call = {0};
    const char *why;

    if (scope == NULL)
        return NULL;
    why = find_declared(db, stmt, &call, "stream");
    return why != NULL ? refuse(scope, ERR_STATE, why)
                       : start(scope, &call, count, values, pg_stream_start);
}

/* The same as find_declared() for a text, which `call` has, with its flags. The failed op; or NULL:
 * nothing is wrong. */
static weft_op *find_ad_hoc(struct scope *scope, weft_pg *db, struct pg_call *call,
                            const char *entry)
{
    if (!abi_database(db, call, entry))
        return refuse(scope, ERR_STATE, "no such database");
    if (call->sql.ptr != NULL && (call->flags & ~STMT_FLAGS) == 0)
        return NULL;
    abi_misuse(entry, "no text, or unknown flags");
    return refuse(scope, ERR_INVALID, "no text, or unknown flags");
}

static weft_op *run_sql(weft_ctx *ctx, weft_pg *db, const char *sql, uint32_t flags, uint32_t count,
                        const weft_value *values)
{
    struct scope *scope = abi_scope(ctx, "run_sql");
    struct pg_call call = {.sql = span_of(sql), .flags = flags};
    weft_op *failed;

    if (scope == NULL)
        return NULL;
    failed = find_ad_hoc(scope, db, &call, "run_sql");
    return failed != NULL ? failed : start(scope, &call, count, values, pg_query_start);
}

static weft_op *stream_sql(weft_ctx *ctx, weft_pg *db, const char *sql, uint32_t flags,
                           uint32_t count, const weft_value *values)
{
    struct scope *scope = abi_scope(ctx, "stream_sql");
    struct pg_call call = {.sql = span_of(sql), .flags = flags};
    weft_op *failed;

    if (scope == NULL)
        return NULL;
    failed = find_ad_hoc(scope, db, &call, "stream_sql");
    return failed != NULL ? failed : start(scope, &call, count, values, pg_stream_start);
}

static weft_op *stream_next(weft_op *handle)
{
    struct op *op = abi_op(handle, "stream_next");

    return op != NULL ? abi_handle(pg_stream_next(op)) : NULL;
}

static weft_str stream_json(weft_op *handle)
{
    struct op *op = abi_op(handle, "stream_json");
    struct span made;

    if (op == NULL || !pg_stream_has_page(op))
        return absent;
    made = pg_stream_json(op, scope_room(op->scope));
    if (made.ptr == NULL)
        scope_cancel(op->scope, SCOPE_MEMORY);
    return abi_str(made);
}

/* Transactions */

static weft_op *begin(weft_ctx *ctx, weft_pg *db, uint32_t flags)
{
    struct scope *scope = abi_scope(ctx, "begin");
    struct pg_call call = {0};

    if (scope == NULL)
        return NULL;
    if (!abi_database(db, &call, "begin"))
        return refuse(scope, ERR_STATE, "no such database");
    if ((flags & ~TX_FLAGS) != 0 || (flags != 0 && call.transaction != NULL)) {
        abi_misuse("begin", "flags that do not exist, or in a transaction that has its own");
        return refuse(scope, ERR_INVALID, "flags that this transaction cannot have");
    }
    if (call.transaction != NULL)
        return abi_handle(pg_begin_nested(scope, call.transaction));
    return abi_handle(pg_begin(scope, call.pool, flags));
}

static weft_pg *tx(weft_op *handle)
{
    struct op *op = abi_op(handle, "tx");

    return op != NULL && pg_transaction_of(op) != NULL ? (weft_pg *)(void *)handle : NULL;
}

/* The transaction that `db` is; NULL: told. */
static struct pg_transaction *transaction_of(weft_pg *db, const char *entry)
{
    struct abi *abi = abi_enter(entry);
    struct op *op = abi != NULL ? op_of(abi->services.tasks, abi_number(db)) : NULL;
    struct pg_transaction *found = op != NULL ? pg_transaction_of(op) : NULL;

    if (abi != NULL && found == NULL)
        abi_misuse(entry, "no transaction, or one that has gone");
    return found;
}

static weft_op *commit(weft_pg *db)
{
    struct pg_transaction *transaction = transaction_of(db, "commit");

    return transaction != NULL ? abi_handle(pg_commit(transaction)) : NULL;
}

static weft_op *rollback(weft_pg *db)
{
    struct pg_transaction *transaction = transaction_of(db, "rollback");

    return transaction != NULL ? abi_handle(pg_rollback(transaction)) : NULL;
}

/* A retry waits for others to finish: they, and those that wait as well, must not meet again. */
static weft_op *back_off(weft_ctx *ctx, weft_pg *db, uint32_t failures)
{
    struct scope *scope = abi_scope(ctx, "transact");
    struct pg_call call = {0};

    if (scope == NULL)
        return NULL;
    if (!abi_database(db, &call, "transact"))
        return refuse(scope, ERR_STATE, "no such database");
    if (call.pool == NULL)
        return refuse(scope, ERR_DB_RETRY,
                      "in a transaction, the outermost one is to be run again");
    if (failures >= RUNS_MAX)
        return refuse(scope, ERR_DB_RETRY, "the transaction was run often enough");
    return abi_handle(op_sleep(scope, pg_pool_back_off_ms(call.pool, failures)));
}

/* Results */

static uint32_t rows(weft_op *handle)
{
    const struct op *op = abi_op(handle, "rows");

    return op != NULL ? pg_rows(op) : 0;
}

static uint32_t columns(weft_op *handle)
{
    const struct op *op = abi_op(handle, "columns");

    return op != NULL ? pg_columns(op) : 0;
}

static uint64_t affected(weft_op *handle)
{
    const struct op *op = abi_op(handle, "affected");

    return op != NULL ? pg_affected(op) : 0;
}

static int32_t column(weft_op *handle, const char *name)
{
    const struct op *op = abi_op(handle, "column");

    return op != NULL && name != NULL ? pg_column(op, name) : -1;
}

static weft_str column_name(weft_op *handle, uint32_t index)
{
    const struct op *op = abi_op(handle, "column_name");

    return op != NULL ? abi_str(pg_column_name(op, index)) : absent;
}

static weft_str text(weft_op *handle, uint32_t row, uint32_t index)
{
    const struct op *op = abi_op(handle, "col_text");

    return op != NULL ? abi_str(pg_text(op, row, index)) : absent;
}

static int64_t i64(weft_op *handle, uint32_t row, uint32_t index)
{
    const struct op *op = abi_op(handle, "col_int");

    return op != NULL ? pg_int(op, row, index) : 0;
}

static double f64(weft_op *handle, uint32_t row, uint32_t index)
{
    const struct op *op = abi_op(handle, "col_double");

    return op != NULL ? pg_double(op, row, index) : 0;
}

static uint32_t boolean(weft_op *handle, uint32_t row, uint32_t index)
{
    const struct op *op = abi_op(handle, "col_bool");

    return op != NULL && pg_bool(op, row, index);
}

static uint32_t is_null(weft_op *handle, uint32_t row, uint32_t index)
{
    const struct op *op = abi_op(handle, "col_is_null");

    return op == NULL || pg_is_null(op, row, index);
}

static void empty_json(void)
{
    struct buf *buf = &abi_here()->json;

    if (buf->len > JSON_KEPT_MAX)
        buf_release(buf);
    else
        buf_consume(buf, buf->len);
}

/* The result's JSON, in the one buffer for that, which empty_json() makes as it was. Absent: it is
 * more than the scope may take, and that is canceled. The sizes are a database's, or whoever's that
 * fills it: they must not end the worker. */
static struct span write_json(struct scope *scope, const struct op *op, uint32_t flags)
{
    struct buf *buf = &abi_here()->json;
    size_t room = scope_room(scope);

    CHECK(buf->len == 0);
    if (room > 0 && pg_json(op, (flags & WEFT_PG_ONE_ROW) != 0, room - 1, buf))
        return buf_span(buf);
    empty_json();
    scope_cancel(scope, SCOPE_MEMORY);
    return (struct span){NULL, 0};
}

static weft_str json(weft_ctx *ctx, weft_op *handle, uint32_t flags)
{
    struct scope *scope = abi_scope(ctx, "json");
    const struct op *op = scope != NULL ? abi_op(handle, "json") : NULL;
    struct span made;
    char *copy;

    if (op == NULL)
        return absent;
    made = write_json(scope, op, flags);
    if (made.ptr == NULL)
        return absent;
    copy = scope_alloc(scope, made.len + 1);
    memcpy(copy, made.ptr, made.len);
    empty_json();
    return (weft_str){copy, made.len};
}

static weft_status reply(weft_ctx *ctx, uint32_t code, weft_op *handle, uint32_t flags)
{
    struct http_request *request = abi_request(ctx, "reply_rows");
    const struct op *op = request != NULL ? abi_op(handle, "reply_rows") : NULL;
    struct span made;
    weft_status status;

    if (op == NULL)
        return WEFT_E_STATE;
    made = write_json(request->scope, op, flags);
    if (made.ptr == NULL)
        return WEFT_E_CANCELED;
    status = abi_http.reply(ctx, code, "application/json", abi_str(made));
    empty_json();
    return status;
}

static weft_str sqlstate(weft_op *handle)
{
    const struct op *op = abi_op(handle, "sqlstate");

    return op != NULL ? abi_str(pg_sqlstate(op)) : absent;
}

static uint32_t maybe_applied(weft_op *handle)
{
    const struct op *op = abi_op(handle, "maybe_applied");

    return op != NULL && pg_maybe_applied(op);
}

const weft_pg_api abi_pg = {
    .size = sizeof(weft_pg_api),
    .pool = pool,
    .declare = declare,
    .run = run,
    .run_sql = run_sql,
    .begin = begin,
    .tx = tx,
    .commit = commit,
    .rollback = rollback,
    .rows = rows,
    .columns = columns,
    .affected = affected,
    .column = column,
    .column_name = column_name,
    .text = text,
    .i64 = i64,
    .f64 = f64,
    .boolean = boolean,
    .is_null = is_null,
    .json = json,
    .reply = reply,
    .sqlstate = sqlstate,
    .maybe_applied = maybe_applied,
    .stream = stream,
    .stream_sql = stream_sql,
    .stream_next = stream_next,
    .stream_json = stream_json,
    .copy_out = abi_copy_out,
    .copy_read = abi_copy_read,
    .copy_in = abi_copy_in,
    .copy_write = abi_copy_write,
    .copy_end = abi_copy_end,
    .listen = abi_listen,
    .listen_next = abi_listen_next,
    .back_off = back_off,
    .col_time = abi_col_time,
    .col_bytes = abi_col_bytes,
    .col_ints = abi_col_ints,
    .col_texts = abi_col_texts,
};
