/* pg/rehearsal.h - tries a pool's database and its declared statements, before anybody is served.
 *
 * One session is opened beside the pool's own, and each statement declared so far is prepared on it
 * and thrown away: what the server thinks of it, with today's schema, is known then. So is whether
 * the columns of one that wants its rows in binary form can be read so.
 * Loop:   of the pool's loop; cancelling is synchronous and silent.
 * Memory: frees itself once `fn` has returned, or when it was cancelled.
 * Limits: the options' connect_timeout for the session, and again for each statement.
 */
#ifndef WEFT_PG_REHEARSAL_H
#define WEFT_PG_REHEARSAL_H

#include "base/error.h"
#include "pg/pool.h"

struct pg_rehearsal;

/* Runs once, never inside pg_rehearsal_start(), and not after pg_rehearsal_cancel(). ERR_OK: all is
 * well. ERR_DB: the server refuses a statement. ERR_DB_DOWN: that could not be found out.
 * `problem`, "" for ERR_OK and good during the call, says in a line what is wrong, with the
 * statement's name. */
typedef void pg_rehearsal_fn(void *data, struct pg_rehearsal *rehearsal, enum err err,
                             const char *problem);

/* The pool outlives it, and gets no further statements meanwhile. */
struct pg_rehearsal *pg_rehearsal_start(struct pg_pool *pool, pg_rehearsal_fn *fn, void *data);

/* Nobody wants to know any more. NULL is fine. */
void pg_rehearsal_cancel(struct pg_rehearsal *rehearsal);

#endif
