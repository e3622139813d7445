/* upstream/origin.h - the connections of an upstream to all of its addresses, and the line before
 * them.
 *
 * A connection is lent for one exchange at a time; of an address, the one used last first. Where
 * the chosen address has none idle and there is a place left, another one is opened; else the
 * borrower waits in line. A connection that is free goes to the one who waits longest, even where a
 * new one is on its way for that one. An address that refuses, or is slow to connect, is no reason
 * to fail while there is another: connecting elsewhere repeats nothing.
 *
 * Loop:   of one loop.
 * Memory: an origin owns its targets and connections; a borrower owns its `struct origin_loan`.
 * Limits: connections_max, connections_per_address_max, waiting_max, resolve_timeout_ms,
 *         connect_timeout_ms, idle_timeout_ms, age_max_ms of the options; ORIGIN_TRIES_MAX
 *         addresses for a loan, two of them at once; the wait in line is bounded by the borrower,
 *         who withdraws.
 */
#ifndef WEFT_UPSTREAM_ORIGIN_H
#define WEFT_UPSTREAM_ORIGIN_H

#include "base/list.h"
#include "loop/timer.h"
#include "upstream/check.h"
#include "upstream/conn.h"
#include "upstream/names.h"
#include "upstream/target.h"
#include "upstream/upstream.h"
#include <stdbool.h>
#include <stdint.h>

/* Runs once for each origin_wait() and origin_dial_again(), from the loop, never from inside these,
 * and not after origin_withdraw(). `conn` is lent until origin_keep() or origin_drop(), and its
 * exchange is to be started at once. It is NULL where `failure`, good until this returns, says why
 * there is none; else `failure` is NULL. */
typedef void origin_loan_fn(struct origin_loan *loan, const struct conn_failure *failure,
                            struct origin_conn *conn);

/* Addresses that a loan tries, and how many at once. */
enum { ORIGIN_TRIES_MAX = 4, ORIGIN_DIALS_MAX = 2 };

/* A place in line. Embed it; zeroed it waits for nothing. */
struct origin_loan {
    origin_loan_fn *_fn;                          /* what runs */
    struct origin *_origin;                       /* where it waits */
    struct list _link;                            /* in line, or among those being dialed for */
    struct origin_conn *_conns[ORIGIN_DIALS_MAX]; /* being opened for it; none: it is in line */
    struct timer _stagger;                        /* another address gets its turn */
    uint32_t _tried[ORIGIN_TRIES_MAX];            /* ids of the targets that were tried */
    uint32_t _tried_count;                        /* of _tried */
    bool _is_fresh;                               /* only a connection that nobody used will do */
};

/* An upstream's connections. Embed it. */
struct origin {
    struct loop *_loop;                      /* its loop; NULL: none */
    const char *_name;                       /* of the upstream, for logs */
    const struct upstream_options *_options; /* limits */
    struct upstream_counts *_counts;         /* the upstream's */
    struct conn_shared _conns_shared;        /* what connections stand on */
    struct names _names;                     /* where it is */
    struct targets _targets;                 /* the same as addresses */
    struct check_shared _checks;             /* what their checks stand on */
    struct list _conns[CONN_STATE_COUNT];    /* OPENING and LENT; the one used last first */
    uint32_t _places;                        /* taken by connections */
    struct list _dialing;                    /* loans with one on its way, oldest first */
    struct list _line;                       /* loans without, oldest first */
    struct timer _resolving;                 /* while the line waits for the first address */
};

/* What an origin stands on; all of it is the caller's and outlives it. */
struct origin_setup {
    struct tls_context *tls;                 /* NULL: without TLS */
    struct span tls_name;                    /* whom a certificate must name */
    const char *name;                        /* of the upstream, for logs */
    struct span host;                        /* for the Host field of checks */
    struct resolver *resolver;               /* for names; NULL where there are none */
    struct buf_pool *buffers;                /* for the connections */
    const struct exchange_shared *exchanges; /* loop and options too */
    const struct upstream_place *places;     /* `place_count` of them; needed only now, but for the
                                                texts */
    uint32_t place_count;                    /* of places */
    struct upstream_counts *counts;          /* its connects, reused, connections, idle and waiting
                                                are kept here */
};

/* Opens nothing yet, and looks no name up before origin_start() or the first loan. */
void origin_init(struct origin *origin, const struct origin_setup *setup);

/* Closes what is idle or on its way. Nothing may be lent and nobody wait (checked). Zeroed and
 * twice is fine. */
void origin_deinit(struct origin *origin);

/* Looks names up, and keeps doing so. Twice is fine. */
void origin_start(struct origin *origin);

/* An idle connection, lent, whose exchange is to be started at once; NULL: none, or the choice fell
 * on an address without. Looks whether the peer has closed it, or said something. `avoid_id`:
 * rather not of this target; 0: of any. */
struct origin_conn *origin_take(struct origin *origin, uint32_t avoid_id);

/* Opens a connection for `loan`, or puts it in line. False: the line is full, nothing was done. */
bool origin_wait(struct origin *origin, struct origin_loan *loan, origin_loan_fn *fn)
    __attribute__((warn_unused_result));

/* Opens a connection for `loan`, rather not to the target `avoid_id`. False: it would have to wait
 * in line, nothing was done. */
bool origin_try(struct origin *origin, struct origin_loan *loan, origin_loan_fn *fn,
                uint32_t avoid_id) __attribute__((warn_unused_result));

/* Closes the lent `conn` and opens another one in its place, for `loan` and before all others; to
 * another address where there is one. */
void origin_dial_again(struct origin_conn *conn, struct origin_loan *loan, origin_loan_fn *fn);

/* `fn` will not run. One that waits for nothing is fine. */
void origin_withdraw(struct origin_loan *loan);

/* Does `loan` wait with no connection on its way to it? */
bool origin_is_in_line(const struct origin_loan *loan);

/* Is no address known (yet)? Who is in line then waits for a name to be looked up. */
bool origin_is_nowhere(const struct origin *origin);

/* What a call met on a lent connection tells of its address: it answered; it failed, for people
 * `why`; it asked for a rest. Who says nothing, since the call was given up, changes nothing. */
void origin_recovered(struct origin_conn *conn);
static inline void origin_succeeded(struct origin_conn *conn)
{
    const struct health *health = &conn->target->health;

    if (health->state != HEALTH_GOOD || health->failures > 0 || health->ejections > 0)
        origin_recovered(conn);
}
void origin_failed(struct origin_conn *conn, const char *why);
void origin_rest(struct origin_conn *conn, uint64_t ms);

/* Is there another address than that of `conn` which is fit to be called? */
bool origin_has_other(const struct origin_conn *conn);

/* Gives back a lent connection whose exchange left it fit for another; it is kept for the options'
 * time, or for `idle_ms_max` where that is shorter (UINT32_MAX: the peer did not say). */
void origin_keep(struct origin_conn *conn, uint32_t idle_ms_max);

/* Gives back a lent connection that is of no more use: it is closed at once. */
void origin_drop(struct origin_conn *conn);

#endif
