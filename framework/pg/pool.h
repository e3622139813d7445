/* pg/pool.h - a named database: sessions, the queue before them, and the statements known to them.
 *
 * Statements of a loop turn are queued first, dealt out at its end (pg/dispatch.c has the policy), and flushed once a
 * session. Sessions are opened in helper threads, as needed, and again with back-off after they broke.
 * Loop:   of one loop.
 * Memory: a pool owns its sessions and declared statements.
 */
#ifndef WEFT_PG_POOL_H
#define WEFT_PG_POOL_H

#include "base/error.h"
#include "base/span.h"
#include "pg/options.h"
#include <stdbool.h>
#include <stdint.h>

struct helpers;
struct loop;
struct pg_pool;
struct pg_statement;

/* What a statement is known to be; the ABI's WEFT_STMT_ numbers. */
enum {
    PG_READ_ONLY = 1, /* no side effects: may be run again, may share a Sync */
    PG_SLOW = 2       /* keep it off shared sessions */
};

struct pg_pool_counts {
    uint64_t statements;       /* settled */
    uint64_t failed;           /* with an error of the database */
    uint64_t refused;          /* queue full, waited too long */
    uint64_t sessions_opened;  /* since start */
    uint64_t sessions_lost;    /* broken or closed by the server */
    uint32_t sessions;         /* open now */
    uint32_t sessions_opening; /* under way */
    uint32_t queued;           /* now */
    uint32_t in_flight;        /* now */
};

/* `name` for logs and metrics; `options` is the caller's and outlives the pool. Opens nothing yet. */
struct pg_pool *pg_pool_create(struct loop *loop, struct helpers *helpers, const char *name,
                               const struct pg_options *options);

/* Opens the first session, so that the first request finds one; failure is logged and tried again. */
void pg_pool_start(struct pg_pool *pool);

/* Ends it: no op of it may be pending (checked); sessions are closed, what is being opened is thrown away. NULL is fine. */
void pg_pool_destroy(struct pg_pool *pool);

const char *pg_pool_name(const struct pg_pool *pool);
const struct pg_pool_counts *pg_pool_counts(const struct pg_pool *pool);

/* Makes a statement known: dense id, name for metrics. Texts are copied. ERR_EXISTS: the name has another text; ERR_INVALID: its
 * leading keyword would change a shared session (pg_is_refused()). */
enum err pg_pool_declare(struct pg_pool *pool, const char *name, const char *sql, uint32_t flags,
                         const struct pg_statement **statement) __attribute__((warn_unused_result));

/* Would this text change a shared session (BEGIN, COMMIT, SET, LISTEN, COPY, PREPARE, ...)? Then a constant text that says what to use
 * instead; else NULL. */
const char *pg_is_refused(struct span sql);

#endif
