/* pg/copy.h - COPY TO STDOUT as a stream of pieces, COPY FROM STDIN as one that is written to.
 *
 * Streams as those of pg/stream.h, with the same limits and the same end: a session for itself, or
 * a transaction's; the op that opens one is the stream. What is copied in takes effect with its
 * end alone: a stream that is given up before has done nothing.
 * Loop:   of the pool's loop.
 * Memory: one piece, or what was written and has not left: PG_COPY_UNSENT_MAX, or one write where
 *         that is larger. A row is no larger than result_max.
 */
#ifndef WEFT_PG_COPY_H
#define WEFT_PG_COPY_H

#include "pg/query.h"

/* Bytes that may wait while more is written. */
enum { PG_COPY_UNSENT_MAX = 1024 * 1024 };

/* Opens a COPY TO STDOUT: OK once the server is ready. Of `call` count pool or transaction, and
 * sql, without parameters; is_copy is set. Errors as of pg_stream_start(), ERR_INVALID for another
 * statement or direction, and for a file or a program of the server's: nothing has happened. */
struct op *pg_copy_out(struct scope *scope, const struct pg_call *call);

/* Pulls the next piece as op->piece: whole rows, some 64 KB, or what has come; absent: the end,
 * or it is good no more. Otherwise as pg_stream_next(). */
struct op *pg_copy_read(struct op *open);

/* Opens a COPY FROM STDIN in the same way. */
struct op *pg_copy_in(struct scope *scope, const struct pg_call *call);

/* Writes `bytes`, which are copied, as they are: a row may be cut anywhere. OK once all that was
 * written has left, and more is welcome. Canceled it goes all the same. The op is good until the
 * next write. Errors: those of the statement as soon as the server tells, with TLS at the end
 * alone, then of each write; ERR_OVERLOAD: more than PG_COPY_UNSENT_MAX would wait; ERR_STATE: not
 * open, or ended. */
struct op *pg_copy_write(struct op *open, struct span bytes);

/* Ends it: OK once the server has taken all of it, with pg_affected(). Otherwise it has done
 * nothing; canceled, or with ERR_DB_DOWN, see pg_maybe_applied(). ERR_STATE: not open, or ended. */
struct op *pg_copy_end(struct op *open);

#endif
