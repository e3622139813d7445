/* pg/query.h - a statement as an op, and its result.
 *
 * Loop:   of the pool's loop.
 * Memory: parameters are copied before a call returns. A result lives until the op is released or
 *         its scope ends; texts of it have a NUL behind them.
 * Limits: PG_PARAMS_MAX parameters.
 */
#ifndef WEFT_PG_QUERY_H
#define WEFT_PG_QUERY_H

#include "base/buf.h"
#include "pg/pool.h"
#include "task/op.h"

struct pg_transaction;

/* What a parameter is; the ABI's WEFT_V_ numbers. */
enum pg_kind {
    PG_NULL,
    PG_BOOL,
    PG_INT,
    PG_DOUBLE,
    PG_TEXT,
    PG_BYTES,
    PG_JSON,
    PG_TIME,
    PG_INTS,
    PG_TEXTS
};

/* A parameter; sent as text, untyped, so that the server decides its type (bytes as \x hex). */
struct pg_value {
    enum pg_kind kind; /* which member counts */
    union {
        int64_t i;        /* PG_INT; PG_BOOL: 0 or 1; PG_TIME: of pg/calendar.h */
        double d;         /* PG_DOUBLE */
        struct span text; /* PG_TEXT, PG_JSON, PG_BYTES; absent: NULL */
        struct {
            const int64_t *items; /* `count` numbers; NULL: SQL NULL */
            uint32_t count;       /* of items */
        } ints;                   /* PG_INTS */
        struct {
            const struct span *items; /* `count` texts, absent for NULL; NULL: SQL NULL */
            uint32_t count;           /* of items */
        } texts;                      /* PG_TEXTS */
    } as;                             /* the value */
};

enum { PG_PARAMS_MAX = 64 };

/* What to run, and where. One of pool and transaction; one of statement and sql. */
struct pg_call {
    struct pg_pool *pool;                 /* any shared session of it */
    struct pg_transaction *transaction;   /* or the session pinned by this */
    const struct pg_statement *statement; /* declared */
    struct span sql;                      /* or ad hoc: one statement */
    const struct pg_value *values;        /* `count` parameters */
    uint32_t count;  /* at most PG_PARAMS_MAX: else the op fails with ERR_INVALID */
    uint32_t flags;  /* for ad hoc ones: PG_READ_ONLY, PG_SLOW, PG_BINARY */
    bool is_copy;    /* sql is a COPY: pg/copy.h */
    bool is_copy_in; /* and one FROM STDIN, as pg_copy_in() sets it */
};

/* Runs a statement. Errors: ERR_DB_BUSY (reason pg_queue_full, pg_queue_timeout), ERR_DB_DOWN
 * (pg_down: no session, pg_lost: it broke), ERR_DB (pg_error; pg_result_too_big: it ran, or may
 * have; pg_misfit: it has run, and not all of its binary form can be read), ERR_DB_CONSTRAINT,
 * ERR_DB_RETRY (25P02, too, where that had aborted the transaction), ERR_DB_VALUE (pg_error),
 * ERR_DEADLINE (pg_timeout: the server's statement_timeout or somebody's pg_cancel_backend(),
 * SQLSTATE 57014), ERR_INVALID (too many parameters, another pool's statement, pg_is_refused()),
 * ERR_STATE (the transaction has ended), and those of op_init(); parameters beyond scope_room()
 * cancel the scope. */
struct op *pg_query_start(struct scope *scope, const struct pg_call *call);

/* Is it a statement's op (the rest may be called for any other op and answers as for no result)? */
bool op_is_pg(const struct op *op);

/* ---- its result, once it settled OK; else 0 rows. Also of a stream's pull (pg/stream.h) ---- */

/* How many rows it has. */
uint32_t pg_rows(const struct op *op);

/* How many columns. */
uint32_t pg_columns(const struct op *op);

/* Rows inserted, updated or deleted (or selected): the command tag's number. */
uint64_t pg_affected(const struct op *op);

/* The column's index by its name, as the server writes it; -1: none. */
int32_t pg_column(const struct op *op, const char *name);

/* The column's name; absent beyond the last. */
struct span pg_column_name(const struct op *op, uint32_t column);

/* The type's OID; 0 beyond the last. */
uint32_t pg_column_type(const struct op *op, uint32_t column);

/* Does the column come in binary form? */
bool pg_is_binary(const struct op *op, uint32_t column);

/* The value's bytes in the form in which they came; absent: NULL, or no such row or column. */
struct span pg_raw(const struct op *op, uint32_t row, uint32_t column);

/* The value as the server writes it; absent: NULL, or no such row or column, or in binary form what
 * is not text or JSON. */
struct span pg_text(const struct op *op, uint32_t row, uint32_t column);

/* As a whole number; 0 where it is none. */
int64_t pg_int(const struct op *op, uint32_t row, uint32_t column);

/* As a number; 0 where it is none. */
double pg_double(const struct op *op, uint32_t row, uint32_t column);

/* Is it the boolean true? */
bool pg_bool(const struct op *op, uint32_t row, uint32_t column);

/* Is it NULL, or is there no such row or column? */
bool pg_is_null(const struct op *op, uint32_t row, uint32_t column);

/* ---- its failure ---- */

/* "23505"; absent where the failure was not the database's. The server's message is op->error. */
struct span pg_sqlstate(const struct op *op);

/* The name of the declared statement that it runs; absent for one ad hoc. */
struct span pg_op_statement(const struct op *op);

/* Was it sent, not known to be read only, and its outcome not learnt (canceled, session lost,
 * result too big, or not to be read)? Then it may have happened. */
bool pg_maybe_applied(const struct op *op);

/* Appends the result as JSON to `out`: an array of objects, or with `one_row` the first row's
 * object ("null" for none). Numbers, booleans and json columns as they are, all else as strings.
 * False: it would be longer than `size_max` bytes, and what was appended is cut short. */
bool pg_json(const struct op *op, bool one_row, size_t size_max, struct buf *out)
    __attribute__((warn_unused_result));

/* The same with the rows as a piece of an array: `is_first` opens it, a piece without rows closes
 * it. */
bool pg_json_piece(const struct op *op, bool is_first, size_t size_max, struct buf *out)
    __attribute__((warn_unused_result));

#endif
