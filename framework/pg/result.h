/* pg/result.h - what the server answered to a statement, for this room.
 *
 * The accessors for everybody else are in pg/query.h.
 * Loop:   any thread, one at a time.
 * Memory: libpq's; whoever holds a result clears it.
 */
#ifndef WEFT_PG_RESULT_H
#define WEFT_PG_RESULT_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stddef.h>

struct pg_result; /* libpq's PGresult */

/* What a result is, apart from its rows. */
enum pg_result_kind {
    PG_RESULT_OK,       /* rows, or done without any */
    PG_RESULT_ROW,      /* one row of a stream; more comes */
    PG_RESULT_ERROR,    /* the server refused it */
    PG_RESULT_FATAL,    /* and ends the session; or libpq lost it */
    PG_RESULT_ABORTED,  /* not run: one before it under the same Sync failed */
    PG_RESULT_SYNC,     /* the end of what stands under one Sync */
    PG_RESULT_UNWANTED, /* COPY and its like: the session cannot go on */
};

/* Of a result that is not NULL. */
enum pg_result_kind pg_result_kind(const struct pg_result *result);

/* Bytes that libpq holds for it. */
size_t pg_result_size(const struct pg_result *result);

/* Frees it; NULL is fine. */
void pg_result_clear(struct pg_result *result);

/* A new one with the same columns and no rows. */
struct pg_result *pg_result_shape(const struct pg_result *result);

/* "23505"; absent where libpq made the error. */
struct span pg_result_sqlstate(const struct pg_result *result);

/* What an error says of the plan that was to run. */
enum pg_plan_fault {
    PG_PLAN_FINE,    /* nothing */
    PG_PLAN_SUSPECT, /* it may be of no use any more, or the statement has raised this by itself */
    PG_PLAN_STALE    /* it is of no use any more: out of date after a change of the schema (0A000),
                      * lost by the server, or never had since its PREPARE failed (26000), its name
                      * is taken already (42P05). Nothing was executed */
};

/* By SQLSTATE, and by the place in the server that raised it. */
enum pg_plan_fault pg_result_plan_fault(const struct pg_result *result);

/* The error's message, one line, cut where it is very long; the result's. */
struct span pg_result_message(const struct pg_result *result);

/* Bytes that a notice had on the wire. */
size_t pg_result_notice_size(const struct pg_result *notice);

/* Where in what it was doing the error happened: "COPY t, line 3, column id"; one line, absent: not
 * told; the result's. */
struct span pg_result_context(const struct pg_result *result);

enum { PG_MISFIT_SIZE = 256 };

/* Of a statement with PG_BINARY: can all of its columns be read in binary form, and is each value
 * that is there one of its type? Else `problem` says what is wrong. */
bool pg_result_fits(const struct pg_result *result, char problem[PG_MISFIT_SIZE])
    __attribute__((warn_unused_result));

/* The command's tag, "COMMIT". */
struct span pg_result_tag(const struct pg_result *result);

/* What the SQLSTATE of a PG_RESULT_ERROR means: the class of the error. The session lives, so it is
 * never ERR_DB_DOWN. */
enum err pg_sqlstate_error(struct span sqlstate);

#endif
