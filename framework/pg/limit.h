/* pg/limit.h - how long the server lets a statement of a transaction run.
 *
 * Where a statement's deadline is sooner than the session's statement_timeout, that is set to it
 * with SET LOCAL, and anew for who has more time. Once the transaction's own text has set it, it is
 * not touched any more. What a function sets is not seen.
 * Loop:   of the pool's loop.
 * Memory: none of its own.
 */
#ifndef WEFT_PG_LIMIT_H
#define WEFT_PG_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct pg_options;
struct pg_query;

enum { PG_LIMIT_SQL_SIZE = 64 };

/* Of one transaction, those nested in it included. */
struct pg_limit {
    uint32_t ms;            /* of a statement, as the server has it; 0: none that is known */
    bool was_set;           /* by pg_limit_change() */
    bool is_unknown;        /* a savepoint was gone back to, which may have had another one */
    bool is_own;            /* the transaction's text has set one */
    uint32_t own_savepoint; /* is_own: behind which; 0: none */
};

/* Of a transaction that begins on a session of a pool with these options. */
void pg_limit_init(struct pg_limit *limit, const struct pg_options *options);

/* Must the server be told before `query` is sent? Writes the statement that does. */
bool pg_limit_change(struct pg_limit *limit, const struct pg_query *query,
                     char sql[PG_LIMIT_SQL_SIZE]);

/* `query` is sent behind `savepoint`, the innermost; 0: there is none. True: it may set a limit. */
bool pg_limit_note(struct pg_limit *limit, const struct pg_query *query, uint32_t savepoint);

/* The transaction goes back to `savepoint`. */
void pg_limit_undo(struct pg_limit *limit, uint32_t savepoint);

#endif
