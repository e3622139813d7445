/* weft_pg.h - the plugin ABI's chapter on PostgreSQL: parameters, statements, transactions and
 * results. Included by weft.h, which has the rules for all chapters.
 */
#ifndef WEFT_PG_H
#define WEFT_PG_H

#ifndef WEFT_H
#error "include weft.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- parameters: no call of the host -------------------------------------------------------- */

/* What a weft_value is. */
enum {
    WEFT_V_NULL,
    WEFT_V_BOOL,   /* as.i, 0 or 1 */
    WEFT_V_INT,    /* as.i */
    WEFT_V_DOUBLE, /* as.d */
    WEFT_V_TEXT,   /* len bytes at as.p */
    WEFT_V_BYTES,  /* the same, for bytea */
    WEFT_V_JSON,   /* the same, for json and jsonb */
    WEFT_V_TIME,   /* as.i, microseconds since 1970 */
    WEFT_V_INTS,   /* len int64_t at as.p, an array */
    WEFT_V_TEXTS   /* len weft_str at as.p, an array */
};

/* A statement's parameter; made by weft_int() and its like. All go untyped: the server decides, so
 * `uuid = $1` and f(int4) work. Frozen. */
struct weft_value {
    uint32_t kind; /* WEFT_V_... */
    uint32_t len;  /* bytes, or items, at as.p */
    union {
        int64_t i;
        double d;
        const void *p;
    } as; /* which one: by kind */
};

/* The parameters of a call: weft_run(ctx, db, stmt, WEFT_ARGS(weft_int(1), weft_text(name))). */
/* clang-format off */
#ifdef __cplusplus
#define WEFT_ARGS(...) {__VA_ARGS__}
#else
#define WEFT_ARGS(...) \
    (uint32_t)(sizeof((const weft_value[]){__VA_ARGS__}) / sizeof(weft_value)), \
    (const weft_value[]){__VA_ARGS__}
#endif
/* clang-format on */
#define WEFT_NO_ARGS 0u, NULL

/* A parameter of `kind` with an integer. [any] */
static inline weft_value weft__value_int(uint32_t kind, int64_t i)
{
    weft_value v = {kind, 0, {i}};
    return v;
}

/* A parameter of `kind` with bytes; NULL where they are absent. [any] */
static inline weft_value weft__value_bytes(uint32_t kind, weft_str s)
{
    weft_value v = {s.ptr != NULL ? kind : 0, 0, {0}};
    v.len = s.len < UINT32_MAX ? (uint32_t)s.len : UINT32_MAX;
    v.as.p = s.ptr;
    return v;
}

/* SQL NULL as a parameter. [any] */
static inline weft_value weft_null(void) { return weft__value_int(WEFT_V_NULL, 0); }

/* A number as a parameter. [any] */
static inline weft_value weft_int(int64_t i) { return weft__value_int(WEFT_V_INT, i); }

/* true (not 0) or false as a parameter. [any] */
static inline weft_value weft_bool(int is_true)
{
    return weft__value_int(WEFT_V_BOOL, is_true != 0);
}

/* A floating point number as a parameter, to its last bit. [any] */
static inline weft_value weft_double(double d)
{
    weft_value v = {WEFT_V_DOUBLE, 0, {0}};
    v.as.d = d;
    return v;
}

/* Text as a parameter; absent is SQL NULL; with a NUL within, which no text of the database can
 * have, the op fails with WEFT_E_DB_VALUE. The bytes must stay until the statement was started.
 * [any] */
static inline weft_value weft_text(weft_str s) { return weft__value_bytes(WEFT_V_TEXT, s); }

/* Bytes as a parameter, for bytea; absent is SQL NULL. [any] */
static inline weft_value weft_bytes(weft_str s) { return weft__value_bytes(WEFT_V_BYTES, s); }

/* A JSON text as a parameter; absent is SQL NULL. [any] */
static inline weft_value weft_value_json(weft_str s) { return weft__value_bytes(WEFT_V_JSON, s); }

/* A point in time as a parameter, for timestamptz, timestamp (which gets UTC) and date:
 * microseconds since 1970-01-01 00:00 UTC; INT64_MAX and INT64_MIN are infinity and -infinity.
 * [any] */
static inline weft_value weft_time(int64_t us) { return weft__value_int(WEFT_V_TIME, us); }

/* An array of `count` items as a parameter; NULL without any. [any] */
static inline weft_value weft__value_items(uint32_t kind, size_t count, const void *items)
{
    weft_value v = {items != NULL ? kind : 0, 0, {0}};
    v.len = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
    v.as.p = items;
    return v;
}

/* An array of `count` numbers as a parameter, for int[] and bigint[]: `id = any($1)`. An array
 * without items has a pointer, too: NULL is SQL NULL. The items must stay until the statement was
 * started. [any] */
static inline weft_value weft_ints(size_t count, const int64_t *items)
{
    return weft__value_items(WEFT_V_INTS, count, items);
}

/* The same of texts, for text[], absent ones as NULL. As with weft_text(), none has a NUL. [any] */
static inline weft_value weft_texts(size_t count, const weft_str *items)
{
    return weft__value_items(WEFT_V_TEXTS, count, items);
}

/* ---- at init -------------------------------------------------------------------------------- */

/* The database pool of section [pg.NAME]. WEFT_E_INVALID: there is none. [init] */
static inline WEFT_MUST_USE weft_status weft_find_pool(weft_host *host, const char *name,
                                                       weft_pg **db)
{
    return weft__api->pg->pool(host, name, db);
}

/* Of a statement. No side effects: may share a batch with others and may be run again. pg_notify()
 * and advisory locks are side effects that nobody checks: they may be lost. Any other write is
 * refused (25006), but not in a transaction, where the flag says nothing: what runs there may do
 * what WEFT_TX_READ_ONLY leaves it. */
#define WEFT_STMT_READ_ONLY 1u
/* Slow: kept off sessions that others share. */
#define WEFT_STMT_SLOW 2u
/* Its rows come in binary form instead of as text: a bytea as half as many bytes, a float without
 * being written and read. weft_col_int(), _double(), _bool(), _time(), _bytes(), _ints(), _texts(),
 * weft_col_is_null() and the JSON of a result answer as they would, times in JSON in UTC;
 * weft_col_text() only has what is text or JSON (elsewhere absent).
 * Read are boolean, smallint, integer, bigint, oid, real, double precision, numeric, text and its
 * like, json, jsonb, xml, bytea, uuid, date, timestamp, timestamptz, and arrays of these but for
 * numeric, JSON, XML, bytea and times. A result with a column of any other type fails with
 * WEFT_E_DB, weft_op_error() naming the column, and so does one with a value that is not of its
 * type, or a "char" that is not one of ASCII; the statement has run then, see weft_maybe_applied().
 * `weft check`, `weft reload` and an upgrade refuse a declared one beforehand. Such a column is to
 * be cast: mood::text. */
#define WEFT_STMT_BINARY 4u

/* Declares a statement for `db`, a pool: prepared on each session when first used, `name` is for
 * logs and metrics, `flags` are WEFT_STMT_.... WEFT_E_INVALID: the name has another text or other
 * flags in this pool, or the text can be run nowhere (BEGIN, SET, LISTEN ...). What would change a
 * session that others share (SET LOCAL, LOCK, DO, a temporary table ...) is declared, too, for
 * transactions: elsewhere its op fails with WEFT_E_INVALID, as the same text would. What is run on
 * a temporary table is not to be declared: `weft check` and a reload would not find the table.
 * [init] */
static inline WEFT_MUST_USE weft_status weft_declare(weft_host *host, weft_pg *db, const char *name,
                                                     const char *sql, uint32_t flags,
                                                     weft_stmt **stmt)
{
    return weft__api->pg->declare(host, db, name, sql, flags, stmt);
}

/* ---- the database --------------------------------------------------------------------------- */

/* Runs a declared statement on its pool or on a transaction of that pool. WEFT_E_DB_... and
 * WEFT_E_DB as weft.h has them; WEFT_E_DEADLINE: statement_timeout of [pg.NAME], too;
 * WEFT_E_INVALID: more than 64 parameters, a statement of another pool, or one for transactions
 * outside of one; WEFT_E_STATE: the transaction has ended, or one that was begun in it is open.
 * Statements on a pool run in any order beside one another; those on a transaction in theirs. Where
 * one has failed, those behind it are refused with WEFT_E_DB, or with WEFT_E_DB_RETRY where that is
 * what the first one failed with, and so is weft_commit().
 * Parameters too large for the ctx's memory cancel it. A result larger than result_max of [pg.NAME]
 * fails with WEFT_E_DB and no weft_sqlstate(); the statement has run then, unless a transaction
 * undoes it: see weft_maybe_applied().
 * SET, LISTEN, PREPARE, DO, temporary objects and their like are refused outside of a transaction;
 * functions and procedures with the same effects are not seen: set_config(..., false),
 * session-level advisory locks, lo_open() and what a function of yours does, or what you CALL, need
 * a transaction, or they hit whoever has the session next. Behind each transaction the session is
 * cleaned before it is anybody else's, as by DISCARD ALL: role, settings, advisory locks, temporary
 * tables, cursors, what it listens to. Behind a transaction pooler (prepared = off) nothing of that
 * is done by weft, since the session is another one by then; unless the pooler does it (one in
 * session mode does not, and is not to be used), whatever outlives the transaction is found by
 * whoever has that session next, of other programs, too. There use what ends with the transaction
 * alone: set_config(..., true), pg_advisory_xact_lock(), ON COMMIT DROP, cursors without HOLD.
 * [loop] */
static inline weft_op *weft_run(weft_ctx *ctx, weft_pg *db, weft_stmt *stmt, uint32_t count,
                                const weft_value *values)
{
    return weft__api->pg->run(ctx, db, stmt, count, values);
}

/* Runs one statement of any text, with flags WEFT_STMT_.... Never make the text from what came from
 * outside: that goes into parameters. What of it was used last is kept prepared on a session, 256
 * texts and 1 MiB of them; text beyond 16 KiB is planned anew each time, and only WEFT_STMT_SLOW
 * says that it is slow: there the host does not find out by itself. Errors as of weft_run();
 * WEFT_E_INVALID as well for no text, unknown flags, or what is refused outside of a transaction.
 * [loop] */
static inline weft_op *weft_run_sql(weft_ctx *ctx, weft_pg *db, const char *sql, uint32_t flags,
                                    uint32_t count, const weft_value *values)
{
    return weft__api->pg->run_sql(ctx, db, sql, flags, count, values);
}

/* Of a transaction. */
#define WEFT_TX_READ_ONLY       1u
#define WEFT_TX_REPEATABLE_READ 2u
#define WEFT_TX_SERIALIZABLE    4u
#define WEFT_TX_DEFERRABLE      8u

/* Begins a transaction on a session of its own; `flags` are WEFT_TX_.... It is rolled back when the
 * ctx ends or the op is released, unless it was ended before. Each statement in it has the deadline
 * of its own ctx as its statement_timeout where that is sooner than that of [pg.NAME], until a
 * statement of yours sets another one (SET LOCAL, set_config(), DO), which then stands, and may be
 * later, until it is undone by the weft_rollback() of a nested one or your own ROLLBACK TO; give
 * your savepoints different names: with two of one name, it counts as undone by a ROLLBACK TO of
 * either. What a function sets is not seen. One that is given up (canceled, or it lost a
 * weft_race()) while the transaction goes on is not canceled in the server, which would abort all
 * of it: it runs to its end, what it does counts, and what follows waits for it, a nested one's
 * weft_rollback() too; with weft_rollback() of the whole, or the end of its op, it is canceled.
 * Errors as of weft_run(); WEFT_E_INVALID for unknown flags, too.
 * `db` may be a transaction: what is begun in it is a savepoint, without flags, whose
 * weft_rollback() undoes that part alone, and whose weft_commit() leaves the rest to the outer one,
 * whose end ends it; WEFT_E_STATE beyond 16 of them. The server has one line of savepoints, so that
 * what ran on the outer one meanwhile would be undone with it: from this call until that of its
 * weft_commit() or weft_rollback(), or the release of its op, the outer one can only be ended, and
 * what else is run on it or begun in it is WEFT_E_STATE; but a statement of the same turn, before
 * anything is awaited, leaves before the savepoint. A text's own savepoints have other names than
 * weft_s..., which are refused. [loop] */
static inline weft_op *weft_begin(weft_ctx *ctx, weft_pg *db, uint32_t flags)
{
    return weft__api->pg->begin(ctx, db, flags);
}

/* The transaction of a weft_begin() that settled OK, to run statements on; NULL else. [loop] */
static inline weft_pg *weft_tx(weft_op *begin) { return weft__api->pg->tx(begin); }

/* Commits, as an op in the transaction's ctx. WEFT_E_DB_RETRY, WEFT_E_DB_CONSTRAINT, WEFT_E_DB: it
 * was rolled back; WEFT_E_DB_DOWN: see weft_maybe_applied(). The log warns of a route that calls an
 * upstream while a transaction is open: a session and locks are held as long as others please.
 * [loop] */
static inline weft_op *weft_commit(weft_pg *tx) { return weft__api->pg->commit(tx); }

/* Rolls back, as an op in the transaction's ctx; OK where the session broke, too. WEFT_E_STATE: it
 * has ended. [loop] */
static inline weft_op *weft_rollback(weft_pg *tx) { return weft__api->pg->rollback(tx); }

/* ---- the result of an op that has settled ---------------------------------------------------- */

/* How many rows the result has; 0 for every op without one. [loop] */
static inline uint32_t weft_rows(weft_op *op) { return weft__api->pg->rows(op); }

/* How many columns the result has. [loop] */
static inline uint32_t weft_columns(weft_op *op) { return weft__api->pg->columns(op); }

/* How many rows were inserted, updated, deleted or selected. [loop] */
static inline uint64_t weft_affected(weft_op *op) { return weft__api->pg->affected(op); }

/* The index of the column `name`; -1: none. [loop] */
static inline int32_t weft_column(weft_op *op, const char *name)
{
    return weft__api->pg->column(op, name);
}

/* The column's name; absent beyond the last. [loop] */
static inline weft_str weft_column_name(weft_op *op, uint32_t column)
{
    return weft__api->pg->column_name(op, column);
}

/* The value as the server writes it; absent: NULL, or no such row or column, or of a
 * WEFT_STMT_BINARY statement neither text nor JSON. [loop] */
static inline weft_str weft_col_text(weft_op *op, uint32_t row, uint32_t column)
{
    return weft__api->pg->text(op, row, column);
}

/* The value as a number; 0 where it is none. [loop] */
static inline int64_t weft_col_int(weft_op *op, uint32_t row, uint32_t column)
{
    return weft__api->pg->i64(op, row, column);
}

/* The value as a floating point number; 0 where it is none. A real in binary form is what it is,
 * not what is nearest to its text: 0.1 is 0.10000000149011612. [loop] */
static inline double weft_col_double(weft_op *op, uint32_t row, uint32_t column)
{
    return weft__api->pg->f64(op, row, column);
}

/* 1: the value is true. [loop] */
static inline uint32_t weft_col_bool(weft_op *op, uint32_t row, uint32_t column)
{
    return weft__api->pg->boolean(op, row, column);
}

/* The value of a timestamptz, timestamp (as UTC) or date in microseconds since 1970-01-01 00:00
 * UTC, INT64_MAX and INT64_MIN for infinity and -infinity; 0 where it is none of these. [loop] */
static inline int64_t weft_col_time(weft_op *op, uint32_t row, uint32_t column)
{
    return weft__api->pg->col_time(op, row, column);
}

/* The bytes of a bytea, in the ctx's memory; absent: NULL, or none. One that is too large for the
 * ctx's memory cancels it, here and with arrays. [loop] */
static inline weft_str weft_col_bytes(weft_ctx *ctx, weft_op *op, uint32_t row, uint32_t column)
{
    return weft__api->pg->col_bytes(ctx, op, row, column);
}

/* The items of an array of numbers, in the ctx's memory, *count of them, a NULL among them as 0;
 * NULL: SQL NULL, or no array of one dimension. [loop] */
static inline const int64_t *weft_col_ints(weft_ctx *ctx, weft_op *op, uint32_t row,
                                           uint32_t column, uint32_t *count)
{
    return weft__api->pg->col_ints(ctx, op, row, column, count);
}

/* The items of any array as texts, absent for NULL; otherwise the same. [loop] */
static inline const weft_str *weft_col_texts(weft_ctx *ctx, weft_op *op, uint32_t row,
                                             uint32_t column, uint32_t *count)
{
    return weft__api->pg->col_texts(ctx, op, row, column, count);
}

/* 1: the value is NULL, or there is no such row or column. [loop] */
static inline uint32_t weft_col_is_null(weft_op *op, uint32_t row, uint32_t column)
{
    return weft__api->pg->is_null(op, row, column);
}

/* Of pg's json and reply: the first row as an object, not all of them as an array. */
#define WEFT_PG_ONE_ROW 1u

/* The result as a JSON array of objects, in the ctx's memory: numbers, booleans and json columns as
 * they are, all else as strings, NaN and the infinities among it. "[]" where there is none; absent
 * for a stale handle, and where it is too large for the ctx's memory, which cancels the ctx
 * (WEFT_WHY_MEMORY). [loop] */
static inline weft_str weft_rows_json(weft_ctx *ctx, weft_op *op)
{
    return weft__api->pg->json(ctx, op, 0u);
}

/* Its first row as an object; "null" where there is none. [loop] */
static inline weft_str weft_row_json(weft_ctx *ctx, weft_op *op)
{
    return weft__api->pg->json(ctx, op, WEFT_PG_ONE_ROW);
}

/* Answers as weft_reply_json() with weft_rows_json(); WEFT_E_STATE for a stale `op`, too, and
 * WEFT_E_CANCELED where the JSON is too large: the ctx is canceled, the client gets 500. [loop] */
static inline weft_status weft_reply_rows(weft_ctx *ctx, uint32_t code, weft_op *op)
{
    return weft__api->pg->reply(ctx, code, op, 0u);
}

/* The same with weft_row_json(). [loop] */
static inline weft_status weft_reply_row(weft_ctx *ctx, uint32_t code, weft_op *op)
{
    return weft__api->pg->reply(ctx, code, op, WEFT_PG_ONE_ROW);
}

/* "23505"; absent where the failure was not the database's. [loop] */
static inline weft_str weft_sqlstate(weft_op *op) { return weft__api->pg->sqlstate(op); }

/* 1: it was sent and its outcome was not learnt (canceled, the session broke, or its result was
 * larger than result_max): it may have happened. [loop] */
static inline uint32_t weft_maybe_applied(weft_op *op) { return weft__api->pg->maybe_applied(op); }

/* ---- rows as a stream: a result of any size at constant memory ---------------------------------
 *
 *     weft_op *rows = weft_stream(ctx, db, all_books, WEFT_NO_ARGS), *page;
 *     WEFT_TRY(weft_await(rows));
 *     do {
 *         page = weft_stream_next(rows);
 *         WEFT_TRY(weft_await(page));
 *         for (uint32_t i = 0; i < weft_rows(page); i++)
 *             use(weft_col_text(page, i, 0));
 *     } while (weft_rows(page) > 0);
 *
 * Nothing is read from the database while nobody pulls. A stream has a session for itself until its
 * end; on a transaction nothing else can run until then (WEFT_E_STATE). statement_timeout is not
 * for it: what bounds it are the ctx's budget (give the route a timeout_ms that fits) and, where it
 * stands still, stream_timeout of [pg.NAME]. With prepared = off (a pooler), that of the role ends
 * it all the same: a long one is to be opened on a transaction, where it is lifted. The server
 * sends rows in pieces of 8 KB, so that a row may come later than it was made. */

/* Opens a stream of a declared statement's rows, on a pool or on a transaction: OK with the first
 * row, or the end; weft_columns() and weft_column_name() of it answer from then on, weft_affected()
 * once its end was pulled. The op is the stream: it is given up when the op is released
 * (weft_op_release()) or its ctx is canceled or ends; the server stops then, and a transaction can
 * only be rolled back. Errors as of weft_run(); WEFT_E_DEADLINE where it stands still. [loop] */
static inline weft_op *weft_stream(weft_ctx *ctx, weft_pg *db, weft_stmt *stmt, uint32_t count,
                                   const weft_value *values)
{
    return weft__api->pg->stream(ctx, db, stmt, count, values);
}

/* The same for one statement of any text, with flags WEFT_STMT_.... [loop] */
static inline weft_op *weft_stream_sql(weft_ctx *ctx, weft_pg *db, const char *sql, uint32_t flags,
                                       uint32_t count, const weft_value *values)
{
    return weft__api->pg->stream_sql(ctx, db, sql, flags, count, values);
}

/* Pulls the next page, some 64 KB of rows or what has come, as an op of the stream's ctx: OK with
 * rows, for weft_rows(), weft_col_...() and their like; OK with none: the end. What it brought, and
 * the op itself, is good until the next pull of the stream, or until the stream's op is released.
 * An error of the statement behind some rows comes behind those. WEFT_E_DB: a row larger than
 * result_max, too; WEFT_E_STATE: the stream is not open, or a pull of it is pending. [loop] */
static inline weft_op *weft_stream_next(weft_op *stream)
{
    return weft__api->pg->stream_next(stream);
}

/* A page as a piece of a JSON array: all pieces of a stream one behind the other, that of its end
 * included, are what weft_rows_json() would be. Good until the next pull, or until the stream's op
 * is released; absent: no page, or none any more, or it is too large for the ctx's memory, which
 * cancels the ctx (WEFT_WHY_MEMORY). [loop] */
static inline weft_str weft_stream_json(weft_op *page) { return weft__api->pg->stream_json(page); }

/* ---- COPY: rows as text, CSV or binary, out of and into the database, at constant memory -------
 *
 *     weft_op *copy = weft_copy_in(ctx, db, "copy books from stdin (format csv)"), *body;
 *     WEFT_TRY(weft_await(copy));
 *     do {
 *         body = weft_body_read(ctx);
 *         WEFT_TRY(weft_await(body));
 *         WEFT_TRY(weft_await(weft_copy_write(copy, weft_piece(body))));
 *     } while (weft_piece(body).ptr != NULL);
 *     copy = weft_copy_end(copy);
 *     WEFT_TRY(weft_await(copy));
 *     return weft_reply_text(ctx, 200, weft_fmt(ctx, "%d rows", (int)weft_affected(copy)).ptr);
 *
 * A COPY is a stream as weft_stream()'s, with the same limits and the same end. Where it is given
 * up before weft_copy_end(), nothing of it has happened. */

/* Opens a COPY ... TO STDOUT on a pool or on a transaction: OK once the server is ready;
 * weft_affected() once the end was read. Errors as of weft_stream(), WEFT_E_INVALID for another
 * statement, for COPY FROM STDIN, and where it is to a file or a PROGRAM of the server's: of that
 * nothing has happened. Never make the text from what came from outside. [loop] */
static inline weft_op *weft_copy_out(weft_ctx *ctx, weft_pg *db, const char *sql)
{
    return weft__api->pg->copy_out(ctx, db, sql);
}

/* Pulls the next piece: weft_piece(), whole rows of some 64 KB or what has come; absent: the end.
 * Otherwise as weft_stream_next(). [loop] */
static inline weft_op *weft_copy_read(weft_op *copy) { return weft__api->pg->copy_read(copy); }

/* Opens a COPY ... FROM STDIN in the same way, and not from a file or a PROGRAM: OK once the server
 * wants rows. [loop] */
static inline weft_op *weft_copy_in(weft_ctx *ctx, weft_pg *db, const char *sql)
{
    return weft__api->pg->copy_in(ctx, db, sql);
}

/* Writes bytes, copied, cut anywhere; absent or empty ones do nothing. OK once all that was written
 * has left: who awaits it is held back as the database is. The op is good until the next write. The
 * server's errors, as soon as it tells (weft_op_error() says the line), or, on a session with TLS,
 * by weft_copy_end() alone, after all else was sent in vain: WEFT_E_DB_VALUE, WEFT_E_DB_CONSTRAINT,
 * WEFT_E_DB ...; WEFT_E_OVERLOAD: some of it waits, and with these bytes more than 1 MiB would;
 * where nothing waits, a write of any size is taken and copied whole, and the ctx's memory limit is
 * not asked: write what is large in pieces; WEFT_E_STATE: not open, or ended. [loop] */
static inline weft_op *weft_copy_write(weft_op *copy, weft_str bytes)
{
    return weft__api->pg->copy_write(copy, bytes);
}

/* Ends a COPY FROM STDIN: OK once the server has taken all rows, of which the op's weft_affected()
 * tells. Else it has taken none; where it was canceled or the session broke, see
 * weft_maybe_applied(). [loop] */
static inline weft_op *weft_copy_end(weft_op *copy) { return weft__api->pg->copy_end(copy); }

/* ---- LISTEN: what other sessions NOTIFY ------------------------------------------------------
 *
 *     weft_op *orders = weft_listen(ctx, db, "orders"), *next;
 *     WEFT_TRY(weft_await(orders));
 *     for (;;) {
 *         next = weft_listen_next(orders);
 *         WEFT_TRY(weft_await(next));
 *         if (weft_piece(next).ptr != NULL)
 *             use(weft_piece(next));
 *         else
 *             read_all_anew();
 *     }
 *
 * In any ctx: that of a request that streams its reply, or a plugin's background one. Notifications
 * come to each worker, once whoever sent them has committed; however many ctxs listen to a channel,
 * the server is asked for it once a worker. They come to a session of their own, beside `sessions`
 * of [pg.NAME]. Sending one is a statement, of at most 7,999 bytes, but not WEFT_STMT_READ_ONLY:
 * "select pg_notify($1, $2)". */

/* Listens to a channel of the database of `db`, a pool. Its name counts byte for byte: "Orders" is
 * another one than NOTIFY Orders notifies, which is "orders". OK once the server listens: what is
 * committed after that is heard, until the op is released or its ctx ends. WEFT_E_UNSUPPORTED:
 * behind a pooler (prepared = off) nobody is notified; WEFT_E_DB_DOWN: no session within
 * queue_timeout of [pg.NAME]; WEFT_E_INVALID: no name of 1 to 63 bytes, or `db` is a transaction.
 * [loop] */
static inline weft_op *weft_listen(weft_ctx *ctx, weft_pg *db, const char *channel)
{
    return weft__api->pg->listen(ctx, db, channel);
}

/* Pulls the next notification, as an op of the same ctx: weft_piece() is its payload, until the
 * next pull, or until `listening` is released. Absent: some may have been missed, since the session
 * broke and is back, or since more than notify_queue of [pg.NAME] waited; what they are about is to
 * be read anew. A pull that is canceled loses none. WEFT_E_STATE: nothing that listens, or a pull
 * of it is pending. [loop] */
static inline weft_op *weft_listen_next(weft_op *listening)
{
    return weft__api->pg->listen_next(listening);
}

/* ---- transactions that are run again ----------------------------------------------------------
 *
 *     static weft_status transfer(weft_ctx *ctx, weft_pg *tx, void *coins)
 *     {
 *         weft_value amount = weft_int(*(int64_t *)coins);
 *         weft_op *took = weft_run_sql(ctx, tx, "update a set coins = coins - $1 where id = 1", 0,
 *                                      WEFT_ARGS(amount));
 *         weft_op *gave = weft_run_sql(ctx, tx, "update a set coins = coins + $1 where id = 2", 0,
 *                                      WEFT_ARGS(amount));
 *         weft_op *note = weft_begin(ctx, tx, 0);   a savepoint: all three leave together
 *         weft_status status;
 *         WEFT_TRY(weft_await(took));
 *         WEFT_TRY(weft_await(gave));
 *         WEFT_TRY(weft_await(note));
 *         status = weft_await(weft_run_sql(ctx, weft_tx(note), "insert into notes values ($1)", 0,
 *                                          WEFT_ARGS(amount)));
 *         if (status == WEFT_E_DB_CONSTRAINT)   the note is undone, and the rest is not
 *             return weft_await(weft_rollback(weft_tx(note)));
 *         WEFT_TRY(status);
 *         return weft_await(weft_commit(weft_tx(note)));
 *     }
 *
 *     int64_t amount = 30;
 *     uint32_t maybe;
 *     weft_status status = weft_transact_told(ctx, db, WEFT_TX_SERIALIZABLE, transfer, &amount,
 *                                             &maybe);
 *     if (maybe)   the answer to its COMMIT was lost: no 503, which says to try again at once
 *         return weft_problem(ctx, 500, "the transfer may have been made: look, before the next");
 *     WEFT_TRY(status);
 *
 * weft_transact() is the same for who need not know; each run begins with what the database has
 * then, so that what is computed from it is computed in `fn`. */

/* What weft_transact() runs in the transaction `tx`; `ctx` is that of this run. A failure that it
 * returns rolls back; it neither commits nor rolls back by itself. Of what it does beside `tx`
 * nothing is undone where it is run again. [loop] */
typedef weft_status weft_tx_fn(weft_ctx *ctx, weft_pg *tx, void *data);

/* One run of `fn`. [loop] */
static inline weft_status weft__transact_once(weft_ctx *ctx, weft_pg *db, uint32_t flags,
                                              weft_tx_fn *fn, void *data, uint32_t *maybe_applied)
{
    weft_op *begun = weft_begin(ctx, db, flags), *commit;
    weft_status status = weft_await(begun);
    if (status == WEFT_OK)
        status = fn(ctx, weft_tx(begun), data);
    if (status != WEFT_OK)
        return status;
    commit = weft_commit(weft_tx(begun));
    status = weft_await(commit);
    *maybe_applied = weft_maybe_applied(commit);
    return status;
}

/* As weft_transact(), and tells whether a transaction of which it answers a failure may have been
 * applied all the same, since the answer to its COMMIT was lost: *maybe_applied is 1 then, else 0.
 * [loop] */
static inline weft_status weft_transact_told(weft_ctx *ctx, weft_pg *db, uint32_t flags,
                                             weft_tx_fn *fn, void *data, uint32_t *maybe_applied)
{
    uint32_t failures = 0;
    weft_status status;
    for (;;) {
        weft_ctx *run = weft_child(ctx, 0, 0);
        *maybe_applied = 0;
        status = weft__transact_once(run, db, flags, fn, data, maybe_applied);
        (void)weft_end(run);
        if (status != WEFT_E_DB_RETRY)
            return status;
        status = weft_await(weft__api->pg->back_off(ctx, db, ++failures));
        if (status != WEFT_OK)
            return status;
    }
}

/* Runs `fn` in a transaction and commits, on the caller's stack. Where the database says that two
 * transactions cannot both be, that a statement's plan is out of date after a change of the schema,
 * or that it takes no writes any more where target_session_attrs wants a server that does
 * (WEFT_E_DB_RETRY, which `fn` must hand on, be it of that statement or of one behind it), waits
 * for a moment and runs it again, up to 10 times in all and as long as the ctx has time. Each run
 * has a ctx of its own, whose memory, ops and results go with it: what is to stay is copied to
 * `data`. In a transaction (`db`) it is a nested one, and the outermost alone is run again. The
 * statuses of weft_begin(), `fn` and weft_commit(). [loop] */
static inline weft_status weft_transact(weft_ctx *ctx, weft_pg *db, uint32_t flags, weft_tx_fn *fn,
                                        void *data)
{
    uint32_t maybe_applied;
    return weft_transact_told(ctx, db, flags, fn, data, &maybe_applied);
}

#ifdef __cplusplus
} /* extern "C" */

#include <initializer_list>

/* weft_run() and weft_run_sql() for WEFT_ARGS(...), which is a list in C++. [loop] */
inline weft_op *weft_run(weft_ctx *ctx, weft_pg *db, weft_stmt *stmt,
                         std::initializer_list<weft_value> values)
{
    return weft_run(ctx, db, stmt, static_cast<uint32_t>(values.size()), values.begin());
}
inline weft_op *weft_run_sql(weft_ctx *ctx, weft_pg *db, const char *sql, uint32_t flags,
                             std::initializer_list<weft_value> values)
{
    return weft_run_sql(ctx, db, sql, flags, static_cast<uint32_t>(values.size()), values.begin());
}

/* weft_stream() and weft_stream_sql() in the same way. [loop] */
inline weft_op *weft_stream(weft_ctx *ctx, weft_pg *db, weft_stmt *stmt,
                            std::initializer_list<weft_value> values)
{
    return weft_stream(ctx, db, stmt, static_cast<uint32_t>(values.size()), values.begin());
}
inline weft_op *weft_stream_sql(weft_ctx *ctx, weft_pg *db, const char *sql, uint32_t flags,
                                std::initializer_list<weft_value> values)
{
    return weft_stream_sql(ctx, db, sql, flags, static_cast<uint32_t>(values.size()),
                           values.begin());
}
#endif

#endif
