/* pg/pool.h - a named database: sessions, the queue before them, and the statements known to them.
 *
 * Statements of a loop turn are queued first, dealt out at its end (pg/dispatch.c has the policy),
 * and flushed once a session. Sessions are opened in helper threads, as needed, and again with
 * back-off after they broke: a server may restart as often as it likes.
 * Loop:   of one loop.
 * Memory: a pool owns its sessions and declared statements.
 * Limits: sessions, queue and waiting are bounded by its options.
 */
#ifndef WEFT_PG_POOL_H
#define WEFT_PG_POOL_H

#include "base/error.h"
#include "base/span.h"
#include "pg/options.h"
#include <stdbool.h>
#include <stdint.h>

struct helpers;
struct histogram;
struct loop;
struct pg_pool;
struct pg_statement;

/* What a statement is known to be; the ABI's WEFT_STMT_ numbers. */
enum {
    PG_READ_ONLY = 1, /* no side effects: may be run again, may share a Sync; a write is refused. In
                       * a transaction it says nothing: that may read and write as it was begun */
    PG_SLOW = 2,      /* keep it off sessions that others share */
    PG_BINARY = 4     /* its rows come in binary form; see pg/binary.h */
};

/* What a pool opens at once, at most, each on a thread for as long as the server says nothing: with
 * so many threads none of it waits for the rest. */
enum { PG_POOL_HELPERS = 4 };

/* What a pool has done, for metrics. */
struct pg_pool_counts {
    uint64_t statements;       /* settled */
    uint64_t failed;           /* with an error of the database */
    uint64_t refused;          /* queue full, waited too long */
    uint64_t canceled;         /* given up before their answer */
    uint64_t syncs;            /* sent: of one statement, or of a batch */
    uint64_t run_again;        /* a neighbour's error, or a plan out of date */
    uint64_t cancels_sent;     /* pg_cancel_backend() for what nobody waits for */
    uint64_t sessions_opened;  /* since start */
    uint64_t sessions_lost;    /* broken or closed by the server */
    uint64_t sessions_refused; /* attempts to open one that failed */
    uint32_t sessions;         /* open now */
    uint32_t sessions_pinned;  /* of these, lent to transactions */
    uint32_t sessions_opening; /* under way */
    uint32_t queued;           /* now */
    uint32_t in_flight;        /* now, those whose op is gone included */
};

/* `helpers` open its sessions: a pool that shares them waits wherever another one's server is
 * silent. `name` (copied) for logs and metrics; `options` is the caller's and outlives the pool.
 * Opens nothing yet. */
struct pg_pool *pg_pool_create(struct loop *loop, struct helpers *helpers, const char *name,
                               const struct pg_options *options);

/* Opens the first session, so that the first request finds one, and keeps one open from here on;
 * failure is logged and tried again. */
void pg_pool_start(struct pg_pool *pool);

/* Are others to take over? Then sessions are opened as before where somebody waits, but none is
 * kept for more than a moment. False takes that back. */
void pg_pool_wind_up(struct pg_pool *pool, bool is_so);

/* Ends it: no op of it may be pending (checked); sessions are closed, what is being opened is
 * thrown away: the helpers end after the pool. NULL is fine. */
void pg_pool_destroy(struct pg_pool *pool);

/* As given to pg_pool_create(). */
const char *pg_pool_name(const struct pg_pool *pool);

/* As of now; the pool's. */
const struct pg_pool_counts *pg_pool_counts(struct pg_pool *pool);

/* How long who lost against another transaction waits before it tries again, after so many
 * `failures` (from 1): by chance, up to twice as long each time. */
uint32_t pg_pool_back_off_ms(struct pg_pool *pool, uint32_t failures);

/* Makes a statement known: dense id, name for metrics. Texts are copied; the statement is the
 * pool's. The same name and text again: the same statement. ERR_EXISTS: the name has another text
 * or other flags; ERR_INVALID: pg_is_refused_in_transaction(), or a NUL in it. What pg_is_refused()
 * alone refuses can be declared, and is refused where it is run outside of a transaction. */
enum err pg_pool_declare(struct pg_pool *pool, const char *name, const char *sql, uint32_t flags,
                         const struct pg_statement **statement) __attribute__((warn_unused_result));

/* The name it was declared by. */
const char *pg_statement_name(const struct pg_statement *statement);

/* The pool's declared statement number `index`, from 0; NULL beyond the last. */
const struct pg_statement *pg_pool_statement(const struct pg_pool *pool, uint32_t index);

/* How long its runs took, from the call to the answer; *failed is how many of them failed. The
 * statement's. */
const struct histogram *pg_statement_times(const struct pg_statement *statement, uint64_t *failed);

/* Would this text change a shared session (BEGIN, COMMIT, SET, LISTEN, COPY, PREPARE, DO, temporary
 * objects ...), or is there no statement in it? Then a constant text that says what to use instead;
 * else NULL. Comments are skipped; functions and procedures with such effects are not seen. */
const char *pg_is_refused(struct span sql);

/* Is it no COPY, one from or to a file or a program of the server's, or one the other way: FROM
 * STDIN if `is_in`, else TO STDOUT? Then what is wrong; else NULL, also where the server will
 * refuse it. */
const char *pg_is_refused_copy(struct span sql, bool is_in);

/* Does it begin with this keyword? */
bool pg_begins_with(struct span sql, const char *keyword);

/* What a text does to savepoints. */
enum pg_savepoint_step {
    PG_SAVEPOINT_NONE,        /* nothing */
    PG_SAVEPOINT_MADE,        /* SAVEPOINT */
    PG_SAVEPOINT_RELEASED,    /* RELEASE */
    PG_SAVEPOINT_GONE_BACK_TO /* ROLLBACK TO */
};

/* But with NONE, *name is that of the savepoint as it is written, in quotes where it has some. */
enum pg_savepoint_step pg_savepoint_step(struct span sql, struct span *name);

/* Is all that it does undone by its error? Not of what may commit in the middle: CALL, DO, CREATE
 * INDEX CONCURRENTLY, and whatever is not known to be a SELECT or a change of rows. */
bool pg_is_undone_by_error(struct span sql);

/* As pg_is_refused(), for a statement in a transaction, where SET LOCAL, SAVEPOINT, LOCK, DO,
 * cursors, temporary objects and their like may be used. */
const char *pg_is_refused_in_transaction(struct span sql);

#endif
