/* pg/transaction.h - a session of one's own between BEGIN and COMMIT.
 *
 *   begin ──▶ OPEN ──▶ commit or rollback ──▶ ENDED        the scope's end before that: rolled back
 *
 * Statements run on it with pg_query_start(); they are pipelined. A session that comes back with its transaction open is rolled
 * back; a broken one is closed.
 * Loop:   of the pool's loop.
 * Memory: of the scope that began it.
 */
#ifndef WEFT_PG_TRANSACTION_H
#define WEFT_PG_TRANSACTION_H

#include "pg/query.h"

enum {
    PG_TX_READ_ONLY = 1,
    PG_TX_REPEATABLE_READ = 2,
    PG_TX_SERIALIZABLE = 4,
    PG_TX_DEFERRABLE = 8
};

/* Waits for a session, pins it and begins. Errors as of pg_query_start(). */
struct op *pg_begin(struct scope *scope, struct pg_pool *pool, uint32_t flags);

/* The transaction of a pg_begin() op that settled OK; NULL else. Its handle is for who must not hold addresses. */
struct pg_transaction *pg_transaction_of(struct op *begin);

/* COMMIT: ERR_DB_RETRY, ERR_DB_CONSTRAINT (deferred ones), ERR_DB where it was rolled back instead, ERR_DB_DOWN with
 * pg_maybe_applied(). ERR_STATE where it has ended. */
struct op *pg_commit(struct pg_transaction *transaction);

/* ROLLBACK; OK also where the session broke: nothing was applied. */
struct op *pg_rollback(struct pg_transaction *transaction);

#endif
