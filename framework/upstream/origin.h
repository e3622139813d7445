/* upstream/origin.h - one server: its keep-alive connections, and the line before them.
 *
 * A connection is lent for one exchange at a time, the one used last first. Where none is idle and
 * there is a place left, another one is opened; else the borrower waits in line. A connection that
 * is free goes to the one who waits longest, even where a new one is on its way for that one.
 *
 * Loop:   of one loop.
 * Memory: an origin owns its connections; a borrower owns its `struct origin_loan`.
 * Limits: connections_max, waiting_max, connect_timeout_ms, idle_timeout_ms, age_max_ms of the
 *         options; the wait in line is bounded by the borrower, who withdraws.
 */
#ifndef WEFT_UPSTREAM_ORIGIN_H
#define WEFT_UPSTREAM_ORIGIN_H

#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"
#include "loop/timer.h"
#include "net/stream.h"
#include "upstream/exchange.h"
#include "upstream/upstream.h"
#include <stdbool.h>
#include <stdint.h>

struct origin;
struct origin_conn;
struct origin_dial;
struct origin_loan;

/* Runs once for each origin_wait() and origin_dial_again(), from the loop, never from inside these,
 * and not after origin_withdraw(). `conn` is lent until origin_keep() or origin_drop(), and its
 * exchange is to be started at once. It is NULL where `err` is what dial_fn says; `os_error` is then
 * the errno of a refusal, or 0. */
typedef void origin_loan_fn(struct origin_loan *loan, enum err err, int os_error,
                            struct origin_conn *conn);

/* A place in line. Embed it; zeroed it waits for nothing. */
struct origin_loan {
    origin_loan_fn *_fn;       /* what runs */
    struct origin *_origin;    /* where it waits */
    struct list _link;         /* in line, or among those for whom is being dialed */
    struct origin_conn *_conn; /* what is being opened for it, or NULL: it is in line */
    bool _is_fresh;            /* only a connection that nobody used before will do */
};

/* A connection, or one on its way. */
struct origin_conn {
    struct origin *origin;     /* whose */
    struct exchange exchange;  /* while lent: the borrower's to start */
    struct stream stream;      /* once connected */
    uint64_t connected_ms;     /* loop time */
    uint32_t uses;             /* how often it was lent, this time included */
    int _state;                /* see origin.c */
    struct origin_dial *_dial; /* while it is being opened, else NULL */
    struct origin_loan *_loan; /* for whom, or NULL: whoever waits by then */
    struct list _link;         /* in the list of its state */
    struct timer _timer;       /* how long it may be idle */
};

/* The states of a connection: opening, idle, lent. */
enum { ORIGIN_STATE_COUNT = 3 };

/* A server's connections. Embed it. */
struct origin {
    struct loop *_loop;                       /* its loop; NULL: none */
    struct resolver *_resolver;               /* for its name */
    struct buf_pool *_buffers;                /* for the connections */
    const struct upstream_options *_options;  /* limits */
    const struct exchange_shared *_exchanges; /* what exchanges share */
    const struct upstream_url *_url;          /* host and port */
    struct upstream_counts *_counts;          /* the upstream's */
    struct list _conns[ORIGIN_STATE_COUNT];   /* by state; the one used last first */
    uint32_t _places;                         /* taken by them */
    struct list _dialing;                     /* loans with one on its way, oldest first */
    struct list _line;                        /* loans without, oldest first */
};

/* What an origin stands on; all of it is the caller's and outlives it. */
struct origin_setup {
    struct resolver *resolver;               /* for the name */
    struct buf_pool *buffers;                /* for the connections */
    const struct exchange_shared *exchanges; /* loop and options too */
    const struct upstream_url *url;          /* host and port */
    struct upstream_counts *counts; /* its connects, reused, connections, idle and waiting are kept
                                       here */
};

/* Opens nothing yet. */
void origin_init(struct origin *origin, const struct origin_setup *setup);

/* Closes what is idle or on its way. Nothing may be lent and nobody wait (checked). Zeroed and
 * twice is fine. */
void origin_deinit(struct origin *origin);

/* An idle connection, lent, whose exchange is to be started at once; NULL: none. Looks whether the
 * peer has closed it, or said something. */
struct origin_conn *origin_take(struct origin *origin);

/* Opens a connection for `loan`, or puts it in line. False: the line is full, nothing was done. */
bool origin_wait(struct origin *origin, struct origin_loan *loan, origin_loan_fn *fn)
    __attribute__((warn_unused_result));

/* Closes the lent `conn` and opens another in its place, for `loan` and before all others. */
void origin_dial_again(struct origin_conn *conn, struct origin_loan *loan, origin_loan_fn *fn);

/* `fn` will not run. One that waits for nothing is fine. */
void origin_withdraw(struct origin_loan *loan);

/* Does `loan` wait with no connection on its way to it? */
bool origin_is_in_line(const struct origin_loan *loan);

/* Gives back a lent connection whose exchange left it fit for another; it is kept for the options'
 * time, or for `idle_ms_max` where that is shorter (UINT32_MAX: the peer did not say). */
void origin_keep(struct origin_conn *conn, uint32_t idle_ms_max);

/* Gives back a lent connection that is of no more use: it is closed at once. */
void origin_drop(struct origin_conn *conn);

#endif
