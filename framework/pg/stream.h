/* pg/stream.h - a statement's rows, pulled in pages, at constant memory.
 *
 * A stream has a session for itself until its end, as a transaction has; one on a transaction has
 * that of the transaction, on which nothing else runs meanwhile. While nobody pulls, nothing is
 * read from the socket, and so the server stops, too.
 * The server's statement_timeout is not for a stream, whose time its reader decides: what bounds it
 * is the scope's deadline and, where it stands still, the pool's stream_timeout. Behind a pooler
 * that of the role binds it all the same, unless it is in a transaction.
 * Given up before its end (its op is released, its scope canceled or ended), its statement is
 * canceled in the server, and the session comes back; a pooler's is closed. A transaction on which
 * that happened can only be rolled back.
 * Loop:   of the pool's loop.
 * Memory: one page (pg/page.h) and one read's worth in libpq; a row is no larger than result_max.
 */
#ifndef WEFT_PG_STREAM_H
#define WEFT_PG_STREAM_H

#include "pg/query.h"

/* Opens one: the op settles OK with the first row, or with the statement's end where there is none.
 * Its columns are known from then on, pg_affected() is once the stream has ended. It is the stream:
 * released, or with its scope, it ends. Errors as of pg_query_start(), and ERR_DEADLINE
 * (pg_stream_timeout). */
struct op *pg_stream_start(struct scope *scope, const struct pg_call *call);

/* Pulls the next page, as an op of the stream's scope: OK with rows, for the accessors of
 * pg/query.h; OK without any: the end, and again each time. What it brought, the op with it, is
 * good until the next pull, or until the stream's op is released. Errors: those of the statement,
 * ERR_DB_DOWN (pg_lost), ERR_DB (pg_result_too_big: a row larger than result_max), ERR_DEADLINE
 * (pg_stream_timeout); ERR_STATE: no stream that is open, or a pull of it is pending. */
struct op *pg_stream_next(struct op *open);

/* Is it a pull's op? */
bool op_is_pg_pull(const struct op *op);

/* Is it that of a pull that settled OK, and has what it brought still? */
bool pg_stream_has_page(const struct op *op);

/* A page as a piece of a JSON array of objects, as of pg_json(): all pieces of a stream one behind
 * the other, the one of its end included, are the array. Good as long as the page; absent:
 * pg_stream_has_page() is false, or longer than `size_max` bytes. */
struct span pg_stream_json(const struct op *pull, size_t size_max);

#endif
