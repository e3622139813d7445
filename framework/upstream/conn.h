/* upstream/conn.h - one connection to an address: opened, lent, kept, closed.
 *
 * Loop:   of one loop; what it tells, it tells from the loop only.
 * Memory: allocated by conn_open(), gone with conn_close(); origin.c is its one user.
 * Limits: connect_timeout_ms and tls_timeout_ms of the options.
 */
#ifndef WEFT_UPSTREAM_CONN_H
#define WEFT_UPSTREAM_CONN_H

#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"
#include "loop/timer.h"
#include "net/stream.h"
#include "upstream/exchange.h"
#include "upstream/failure.h"
#include <stdbool.h>
#include <stdint.h>

struct origin;
struct origin_conn;
struct origin_dial;
struct origin_loan;
struct target;
struct tls_context;

/* Room for what a failure to connect has to say. */
enum { CONN_PROBLEM_SIZE = 640 };

/* Why there is no connection. */
struct conn_failure {
    enum upstream_failure what;      /* at which step */
    char problem[CONN_PROBLEM_SIZE]; /* for people; names the address where there is one */
};

/* What the owner of a connection is told. */
struct conn_handler {
    /* It is there: to be lent or kept. */
    void (*on_open)(struct origin_conn *conn);
    /* It could not be opened; to be closed. */
    void (*on_failed)(struct origin_conn *conn, const struct conn_failure *failure);
    /* While it was kept the peer closed it or said something, or its time is over; to be closed. */
    void (*on_spoiled)(struct origin_conn *conn);
};

/* What connections of an upstream share; the caller's, and outlives them. */
struct conn_shared {
    struct tls_context *tls;                 /* NULL: without TLS */
    struct span tls_name;                    /* whom a certificate must name */
    struct buf_pool *buffers;                /* for their streams */
    const struct exchange_shared *exchanges; /* loop and options too */
    const struct conn_handler *handler;      /* who is told */
};

/* The states of a connection. */
enum conn_state { CONN_OPENING, CONN_IDLE, CONN_LENT, CONN_STATE_COUNT };

/* A connection, or one on its way. */
struct origin_conn {
    struct target *target;             /* to where */
    struct exchange exchange;          /* while lent: the borrower's to start */
    struct stream stream;              /* once connected */
    uint64_t asked_us;                 /* loop time when it began to be opened */
    uint64_t connected_us;             /* loop time when it was there */
    uint64_t old_at_ms;                /* not to be used again from then on */
    uint32_t uses;                     /* how often it was lent, this time included */
    bool was_kept;                     /* nobody used it for a while before this time: the peer may
                                          have closed it meanwhile */
    bool is_trial;                     /* it tries an ejected address; for the origin alone */
    enum conn_state state;             /* see above */
    void *user;                        /* the owner's own, where it is not the origin */
    struct origin *origin;             /* whose; for the origin alone */
    struct origin_loan *loan;          /* for whom it is opened, or NULL: whoever waits by then;
                                          for the origin alone */
    struct list link;                  /* in the list of its state; for the origin alone */
    const struct conn_shared *_shared; /* what it stands on */
    struct origin_dial *_dial;         /* while it is being opened, else NULL */
    struct timer _timer;               /* how long it may be idle */
};

/* Begins to connect to `target`. */
struct origin_conn *conn_open(const struct conn_shared *shared, struct target *target);

/* Closes it, in any state; nothing of it runs any more. */
void conn_close(struct origin_conn *conn);

/* Lent from now on, perhaps by one borrower to the next. */
void conn_lend(struct origin_conn *conn);

/* Kept from now on, for `idle_ms` at most. */
void conn_keep(struct origin_conn *conn, uint32_t idle_ms);

/* Is there nothing to be read: neither bytes nor an end nor an error? */
bool conn_is_quiet(struct origin_conn *conn);

/* Has it reached age_max_ms? */
static inline bool conn_is_too_old(const struct origin_conn *conn, uint64_t now_ms)
{
    return now_ms >= conn->old_at_ms;
}

#endif
