/* pg/limit.h - how long the server lets a statement of a transaction run.
 *
 * Where a statement's deadline is sooner than the session's statement_timeout, that is set to it
 * with SET LOCAL, but not to less than 50 ms, and anew for who has more time. Once the
 * transaction's own text has set it, it is not touched any more, until that is undone: with the
 * nested transaction, or to the savepoint of the text's own, behind which it was set. Whether a
 * statement succeeds is not known when the next one is sent. So where two of the text's savepoints
 * have one name, going back to it counts as going back to the older one, and going back to a name
 * that is not known as undoing all: a limit of the text's own may be taken for undone that is not,
 * and ours is set then; never one that is undone for one that stands. What a function sets is not
 * seen.
 * Loop:   of the pool's loop.
 * Memory: none of its own.
 */
#ifndef WEFT_PG_LIMIT_H
#define WEFT_PG_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct pg_options;
struct pg_query;

enum {
    PG_LIMIT_SQL_SIZE = 64,
    PG_LIMIT_MARKS_MAX = 16 /* names of the text's savepoints; of those beyond none is known */
};

/* A savepoint of the text's own. */
struct pg_limit_mark {
    uint32_t name;      /* a hash of it */
    uint32_t savepoint; /* the nested transaction that was begun last before it; 0: none */
};

/* Of one transaction, those nested in it included. */
struct pg_limit {
    uint32_t ms;            /* of a statement, as the server has it; 0: none that is known */
    bool was_set;           /* by pg_limit_change() */
    bool is_unknown;        /* a savepoint was gone back to, which may have had another one */
    bool is_own;            /* the transaction's text has set one */
    uint32_t own_savepoint; /* is_own: the nested transaction begun last before that; 0: none */
    uint32_t own_depth;     /* is_own: behind how many savepoints of the text's own */
    uint32_t savepoint;     /* number of the nested transaction that was begun last; 0: none */
    uint32_t depth;         /* savepoints of the text's own, the innermost last in: */
    struct pg_limit_mark marks[PG_LIMIT_MARKS_MAX]; /* the first of them */
};

/* Of a transaction that begins on a session of a pool with these options. */
void pg_limit_init(struct pg_limit *limit, const struct pg_options *options);

/* Must the server be told before `query` is sent? Writes the statement that does. */
bool pg_limit_change(struct pg_limit *limit, const struct pg_query *query,
                     char sql[PG_LIMIT_SQL_SIZE]);

/* `query` was sent. True: it may set a limit. */
bool pg_limit_note(struct pg_limit *limit, const struct pg_query *query);

/* The nested transaction with this number is undone. */
void pg_limit_undo(struct pg_limit *limit, uint32_t savepoint);

#endif
