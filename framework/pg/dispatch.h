/* pg/dispatch.h - the policy: which session gets a statement, and which statements share a Sync.
 *
 * Plain numbers in, a choice out: nothing here knows of libpq, ops or time.
 * Loop:   any thread; nothing is kept.
 * Memory: the caller's.
 */
#ifndef WEFT_PG_DISPATCH_H
#define WEFT_PG_DISPATCH_H

#include <stdbool.h>
#include <stdint.h>

/* What the policy sees of a session. */
struct pg_load {
    uint32_t statements;    /* in flight, those whose op is gone included */
    uint64_t head_since_us; /* since when the first of them runs; of no meaning without one */
    bool is_taken;          /* by a transaction or a slow statement: gets nothing else */
};

/* What the policy sees of a statement. */
struct pg_need {
    bool may_share;       /* it is read only, and so may be run again where a neighbour fails */
    bool is_proven;       /* it is prepared on the session */
    uint32_t expected_us; /* its moving average; 0: not yet known */
};

/* The dealing of one turn. */
struct pg_deal {
    const struct pg_load *const *loads; /* of the sessions */
    uint32_t count;                     /* how many */
    uint32_t depth_max;                 /* statements in flight on a session */
    uint32_t taken_max;                 /* sessions that may be taken at once */
    uint32_t filling;                   /* the session that gets this turn's, or PG_NOWHERE */
    uint32_t filled_us;                 /* what it got, by the averages */
    bool is_fresh;                      /* it was idle before */
    uint32_t draining;                  /* gets nothing more, since somebody waits for a session of
                                         * his own; or PG_NOWHERE */
    uint64_t now_us;                    /* of the turn */
};

/* What shares the next Sync of a session. */
struct pg_batch {
    uint32_t count;       /* statements */
    uint32_t expected_us; /* the sum of their averages */
};

/* A statement's Sync. */
enum pg_sync {
    PG_SYNC_OWN,    /* one of its own */
    PG_SYNC_SHARED, /* that of the batch */
    PG_SYNC_NEXT    /* the batch is full: that of the next one */
};

enum { PG_NOWHERE = UINT32_MAX };

/* How many sessions transactions and slow statements may take of `sessions_max`. */
uint32_t pg_dispatch_taken_max(uint32_t sessions_max);

/* The session that a statement goes to; PG_NOWHERE: it stays in the queue. Notes it in
 * deal->filling. need->is_proven is not looked at. */
uint32_t pg_dispatch_shared(struct pg_deal *deal, const struct pg_need *need);

/* An idle session for one that wants it for itself; PG_NOWHERE: it stays in the queue. */
uint32_t pg_dispatch_own(const struct pg_deal *deal);

/* How many sessions are idle. */
uint32_t pg_dispatch_idle(const struct pg_deal *deal);

/* Notes in deal->draining which session is to become idle, since somebody waits for one of his
 * own and may have it. */
void pg_dispatch_drain(struct pg_deal *deal);

/* Which Sync does the statement get, where `batch` has been waiting for the session's next one? */
enum pg_sync pg_dispatch_sync(const struct pg_batch *batch, const struct pg_need *need);

/* Does a statement with this average run long enough to be kept off shared sessions? */
bool pg_dispatch_is_slow(uint32_t expected_us);

/* The moving average after a run of `took_us`. */
uint32_t pg_dispatch_learn(uint32_t expected_us, uint64_t took_us);

#endif
