/* pg/transaction.h - a session of one's own between BEGIN and COMMIT.
 *
 *   begin ──▶ OPEN ──▶ commit or rollback ──▶ ENDED     the end of the begin op before: rolled back
 *
 * One that is begun in another is a savepoint of that: what it did stands or falls with the outer
 * one, or is undone alone. The end of an outer one ends those in it. Between the turn in which one
 * was begun and the call that ends it, nothing is started on an outer one: see pg_begin_nested().
 *
 * Statements run on it with pg_query_start(); they are pipelined, in order. How long the server
 * lets each run: pg/limit.h.
 * A transaction is named by its pg_begin() op: who must not hold addresses keeps that op's handle
 * and asks pg_transaction_of() each time. It lives as long as that op: where the op is released, or
 * its scope ends, an open transaction is rolled back. A session comes back to the pool once it
 * is outside of a transaction; a broken one is closed.
 * Loop:   of the pool's loop.
 * Memory: of the scope that began it; statements on it may run in other scopes.
 * Limits: pinned sessions and slow statements together leave one session to all others, where the
 *         pool has two or more. Statements that wait on a transaction count for the pool's queue.
 *         PG_NESTED_MAX open ones in one another.
 */
#ifndef WEFT_PG_TRANSACTION_H
#define WEFT_PG_TRANSACTION_H

#include "pg/query.h"

/* How to begin; may be combined. REPEATABLE_READ and SERIALIZABLE exclude each other: the latter
 * counts. */
enum {
    PG_TX_READ_ONLY = 1,
    PG_TX_REPEATABLE_READ = 2,
    PG_TX_SERIALIZABLE = 4,
    PG_TX_DEFERRABLE = 8
};

/* Waits for a session, pins it and begins. Errors as of pg_query_start(). */
struct op *pg_begin(struct scope *scope, struct pg_pool *pool, uint32_t flags);

enum { PG_NESTED_MAX = 16 };

/* Begins one that is nested in `outer`. What is run on `outer` in this turn leaves before it; from
 * then on that takes neither statements nor begins, which are ERR_STATE, until the end of the
 * nested one was asked for, its op has gone, or its begin has failed or was canceled. Where that
 * end is canceled before it was sent, what `outer` has taken behind it is ERR_STATE, too.
 * ERR_STATE: `outer` has ended, another one is open in it, or there are too many in one another. */
struct op *pg_begin_nested(struct scope *scope, struct pg_transaction *outer);

/* The transaction of a pg_begin() op that settled OK; NULL for every other op. Good as long as the
 * op lives. */
struct pg_transaction *pg_transaction_of(struct op *begin);

/* COMMIT, or for a nested one RELEASE SAVEPOINT, as an op of the scope that began. Canceled before
 * it was sent, which is at the end of the turn at the earliest, it is as if never asked for, as a
 * ROLLBACK is: the transaction goes on. ERR_DB_RETRY,
 * ERR_DB_CONSTRAINT (deferred ones), ERR_DB where it was rolled back instead since a statement had
 * failed, ERR_DB_DOWN with pg_maybe_applied(). ERR_STATE where it has ended. */
struct op *pg_commit(struct pg_transaction *transaction);

/* ROLLBACK, as an op of the same scope; OK also where the session broke: nothing was applied.
 * ERR_STATE where it has ended. */
struct op *pg_rollback(struct pg_transaction *transaction);

#endif
