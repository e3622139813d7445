/* pg/flight.h - what a session has in flight: a ring with a place for each answer that is owed.
 *
 * Loop:   of the session's loop.
 * Memory: the ring is the session's; a flight only points at its query.
 * Limits: the ring's size, which who fills it never exceeds (checked).
 */
#ifndef WEFT_PG_FLIGHT_H
#define WEFT_PG_FLIGHT_H

#include "base/check.h"
#include <stdbool.h>
#include <stdint.h>

struct pg_prepared;
struct pg_query;
struct pg_result; /* libpq's PGresult */

/* One for each answer. */
enum pg_flight_kind {
    PG_FLIGHT_PREPARE, /* of the statement behind it */
    PG_FLIGHT_GUARD,   /* makes what follows up to the Sync read only */
    PG_FLIGHT_RUN,     /* a statement */
    PG_FLIGHT_COMMAND, /* of the session's own: ROLLBACK, DEALLOCATE */
    PG_FLIGHT_SYNC     /* the end of what stands or falls together */
};

struct pg_flight {
    enum pg_flight_kind kind;     /* see above */
    uint32_t number;              /* PREPARE: of the name */
    struct pg_query *query;       /* RUN: whose; NULL: a tombstone, its op is gone */
    struct pg_prepared *prepared; /* what, but of a Sync; NULL: unprepared */
    struct pg_result *result;     /* what was answered so far */
    bool is_error;                /* `result` says that it failed */
    bool is_answered;             /* something was, perhaps without a result worth keeping */
    bool is_too_big;              /* there was one, larger than result_max: freed */
    bool is_stream;               /* RUN: its rows come one by one */
    bool has_begun;               /* and that was said to libpq */
    bool is_cleaning;             /* COMMAND: where it fails, the session is not clean */
    bool must_work;               /* COMMAND: where it fails, the session cannot go on */
};

/* The ring; places count on and on. */
struct pg_flights {
    struct pg_flight *_ring; /* `_size` places */
    uint32_t _size;          /* a power of two */
    uint32_t head;           /* of the first group that was not told */
    uint32_t cursor;         /* whose answer comes next */
    uint32_t tail;           /* behind the last */
    uint32_t syncs;          /* groups that are not told */
};

/* How a statement ended. */
enum pg_outcome {
    PG_ANSWERED,  /* `result` says how */
    PG_TOO_BIG,   /* it ran, unless the session broke; its result was larger than result_max */
    PG_ABORTED,   /* it did not run, or was undone, since another one under its Sync failed */
    PG_UNGUARDED, /* it did not run: the server has no guard under the name that it was given */
    PG_LOST       /* the session broke: nobody knows */
};

struct pg_answer {
    enum pg_outcome outcome;  /* see above */
    struct pg_result *result; /* PG_ANSWERED: the callee's now; else NULL */
    uint32_t group_us;        /* PG_ANSWERED: since its group came to the head of the ring */
    uint32_t took_us;         /* PG_ANSWERED: its share of that */
    bool is_typical; /* and says something about its next run: nothing was prepared first, and
                      * nothing else failed */
};

/* Told of a statement that ended; its place forgets it before. */
typedef void pg_flight_fn(void *data, struct pg_query *query, const struct pg_answer *answer);

/* An empty ring with room for `size_min` places. */
void pg_flights_init(struct pg_flights *flights, uint32_t size_min);

/* Frees it, results too. */
void pg_flights_deinit(struct pg_flights *flights);

/* The flight at a place from head to tail. */
static inline struct pg_flight *pg_flight_at(const struct pg_flights *flights, uint32_t place)
{
    CHECK(place - flights->head < flights->tail - flights->head);
    return &flights->_ring[place & (flights->_size - 1)];
}

/* A new one at the tail. */
struct pg_flight *pg_flight_push(struct pg_flights *flights, enum pg_flight_kind kind);

/* Is nothing in flight? */
static inline bool pg_flights_is_empty(const struct pg_flights *flights)
{
    return flights->head == flights->tail;
}

/* Does nobody want the answers up to the next Sync? */
bool pg_flights_is_head_dead(const struct pg_flights *flights);

/* Does nobody want any of the answers in flight? */
bool pg_flights_are_dead(const struct pg_flights *flights);

/* Does nobody want one of the answers in flight, be it far behind? */
bool pg_flights_has_dead(const struct pg_flights *flights);

/* Does nobody want one of the answers up to the next Sync, which is still owed, while all that
 * shares this Sync can only read, and so may be run again? */
bool pg_flights_is_head_burdened(const struct pg_flights *flights);

/* Is there a stream up to the next Sync, wanted or not? */
bool pg_flights_is_head_stream(const struct pg_flights *flights);

/* Of `took_us` that the group at the head has taken so far, what the statement at a place of the
 * ring accounts for. 0: it is of another group, or something was prepared first. */
uint64_t pg_flights_share_us(const struct pg_flights *flights, uint32_t place, uint64_t took_us);

/* The Sync at the cursor was answered: tells how each statement of its group ended, and takes the
 * group out of the ring. `took_us` is the group's time. Returns how many statements there were,
 * tombstones included. */
uint32_t pg_flights_end_group(struct pg_flights *flights, uint64_t took_us, pg_flight_fn *fn,
                              void *data);

/* Tells each statement in the ring that it is PG_LOST; the ring is empty afterwards. */
void pg_flights_lose(struct pg_flights *flights, pg_flight_fn *fn, void *data);

#endif
