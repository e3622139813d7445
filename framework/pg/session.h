/* pg/session.h - one PostgreSQL session on the loop, in pipeline mode.
 *
 * Statements are appended to it and stand in its ring until the server has answered; which of them
 * share a Sync is the caller's choice. An op that waits is only pointed at: it may go at any
 * time, its answer is read all the same.
 * Loop:   of the pool's loop.
 * Memory: a session owns its connection, what it has prepared, and what is half read.
 * Limits: the caller never lets more than the given depth be in flight. An answer that is half read
 *         and larger than result_max already ends the session, for libpq cannot stop otherwise; one
 *         that turns out to be larger once it is there is freed at once.
 */
#ifndef WEFT_PG_SESSION_H
#define WEFT_PG_SESSION_H

#include "base/error.h"
#include "base/list.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "pg/copying.h"
#include "pg/cork.h"
#include "pg/dispatch.h"
#include "pg/flight.h"
#include "pg/gather.h"
#include "pg/intake.h"
#include "pg/statement.h"
#include <stdbool.h>
#include <stdint.h>

struct pg_conn;   /* libpq's PGconn */
struct pg_result; /* libpq's PGresult */
struct pg_query;
struct pg_session;

/* Whom a session tells. None of these is called from inside a call of its user, but for what
 * pg_session_destroy() says. */
struct pg_session_owner {
    /* The statement ended; the session knows nothing of it any more. */
    void (*on_answer)(struct pg_session *session, struct pg_query *query,
                      const struct pg_answer *answer);
    /* The next row of a statement that streams; the callee's. Another one follows at once, unless
     * the callee pauses the session. */
    void (*on_row)(struct pg_session *session, struct pg_query *query, struct pg_result *row);
    /* All rows that have come of that statement so far were told. */
    void (*on_rest)(struct pg_session *session, struct pg_query *query);
    /* The server is ready for a COPY: to be written to where it `is_in`, else to bring some. */
    void (*on_open)(struct pg_session *session, struct pg_query *query, bool is_in);
    /* The next piece of a COPY TO STDOUT; good during the call. As on_row(). */
    void (*on_data)(struct pg_session *session, struct pg_query *query, struct span data);
    /* All that was written to a COPY FROM STDIN has left. */
    void (*on_space)(struct pg_session *session, struct pg_query *query);
    /* Somebody has notified a channel that it listens to; NULL: it listens to none. Good during the
     * call. */
    void (*on_notify)(struct pg_session *session, struct span channel, struct span payload);
    /* The server has answered up to a Sync: there is room, perhaps the session is idle. */
    void (*on_room)(struct pg_session *session);
    /* It broke, or was closed by the server: `reason` for people. The owner destroys it, which
     * answers for all that was in flight. */
    void (*on_lost)(struct pg_session *session, const char *reason);
    /* Its last statement ended a while ago, at session->idle_since_ms. Returns in how many
     * milliseconds that is to be looked at again; 0: not, also where it has destroyed the session.
     */
    uint32_t (*on_idle)(struct pg_session *session);
};

enum { PG_CLEANING_STEPS = 8, PG_STALE_MAX = 16, PG_PROBLEM_SIZE = 160 };

struct pg_session {
    uint32_t magic;                       /* PG_SESSION_MAGIC */
    struct loop *loop;                    /* its loop */
    struct pg_conn *conn;                 /* libpq's */
    const struct pg_session_owner *owner; /* whom it tells */
    void *data;                           /* the owner's */
    struct pg_load load;                  /* what the policy sees */
    struct pg_batch batch;                /* what is to share the next Sync */
    struct list batch_queries;            /* these, not yet sent */
    struct pg_cork cork;                  /* for who has several Syncs for it in a turn */
    struct pg_gather gather;              /* how many of its answers are read at once */
    struct pg_transaction *transaction;   /* that it is pinned to; NULL: none, or it has gone */
    bool is_pinned;                       /* by a transaction; goes back when it is idle */
    bool is_returning;                    /* COMMIT or ROLLBACK was sent: idle, it goes back */
    bool is_rolling_back;                 /* ROLLBACK was: nothing before it is of use to anybody */
    bool is_canceling;                    /* pg/control.c canceled what it ran: nothing new until it
                                           * is idle, and what is hit is run again */
    uint32_t canceled_place;              /* the head that was canceled last, or PG_NOWHERE */
    uint64_t canceled_ms;                 /* and when, on the loop's scale */
    bool is_out_of_reach;                 /* no session of pg/control.c comes to its server */
    bool has_own_limit;                   /* pinned: a limit of time may be set that is not the
                                           * pool's, and the head is as old as that allows */
    bool is_touched;                      /* pinned: it is to be cleaned before it is lent again */
    enum err aborted_by;                  /* pinned: the last failure but 25P02; ERR_OK: none */
    uint64_t idle_since_ms;               /* see on_idle() */
    uint64_t expires_ms;                  /* it is old then, and closed when idle; 0: never */
    bool is_unwanted;                     /* pg_session_end(): it was not lost, we close it */
    bool is_worn;                         /* its buffers grew huge: to be closed when idle */
    bool is_overfull;                     /* it ends since an answer is larger than result_max */
    uint32_t stall_ms;                    /* a head older than this ends the session, as the
                                           * server's limit has not; 0: it is bound by its op */
    uint32_t number;                      /* for logs */
    struct io _io;                        /* of the socket */
    struct ready _broken;                 /* a send failed: the owner is told */
    struct ready _resume;                 /* what libpq holds is looked at again */
    struct pg_copying _copying;           /* a COPY under way */
    bool _is_paused;                      /* nothing is read: whoever takes the rows wants none */
    struct timer _timer;                  /* stall and idleness */
    bool has_prepared;                    /* statements are prepared on it: it is our own */
    struct pg_prepared_set _prepared;     /* what the server has prepared */
    bool is_direct;                       /* it is one session of the server's all the time */
    bool checks_client;                   /* PG_CLIENT_CHECK_SQL was run on it */
    uint64_t server_us;                   /* see struct pg_traits */
    struct pg_prepared _cleaning[PG_CLEANING_STEPS]; /* for clean.c */
    struct pg_prepared _guard;                       /* the guard's */
    uint32_t _stale[PG_STALE_MAX];  /* numbers of names to deallocate with the next send */
    uint32_t _stale_count;          /* how many */
    bool _must_renew;               /* there were more of them */
    uint32_t plans_round;           /* see struct pg_pool: since which nothing is out of date */
    struct pg_flights _flights;     /* what the server owes answers to */
    uint64_t _unsent_bytes;         /* appended since libpq had nothing left to send */
    uint64_t _result_max;           /* bytes of an answer */
    struct pg_intake _intake;       /* what has come of the answer that is half read */
    uint64_t _noticed_bytes;        /* of that: notices, which are handed on at once */
    uint32_t _half_place;           /* whose that is */
    uint32_t _half_reads;           /* how often something of it came, at most 2 */
    uint32_t _nulls;                /* ends of answers in a row that ended nothing */
    uint64_t _left_us;              /* when something in flight was last forgotten, or all of it */
    bool _was_idle;                 /* at the timer's last run, and since */
    char _problem[PG_PROBLEM_SIZE]; /* what the server said as it closed the session */
};

#define PG_SESSION_MAGIC 0x70677373u

/* How it is to be used. */
struct pg_session_options {
    uint64_t result_max; /* bytes of an answer, received or held; beyond it the statement fails */
    uint32_t depth_max;  /* statements in flight, at most */
    uint32_t stall_ms;   /* see above */
    uint32_t number;     /* for logs */
    bool is_direct;      /* it is one session of the server's all the time */
    bool checks_client;  /* PG_CLIENT_CHECK_SQL was run on it */
    uint64_t server_us;  /* see struct pg_traits */
    bool is_prepared;    /* false: nothing is prepared on it, which costs the server more */
};

/* A session on an open connection, which it owns from here on. */
struct pg_session *pg_session_create(struct loop *loop, struct pg_conn *conn,
                                     const struct pg_session_options *options,
                                     const struct pg_session_owner *owner, void *data);

/* Closes it; what is in flight is answered with PG_LOST, while `session` still is what it was. NULL
 * is fine. */
void pg_session_destroy(struct pg_session *session);

/* Appends a statement, with its preparing where that is needed, and a Sync. With `is_guarded` it
 * can only read. False: the session broke: the statement is not in flight, nothing more is to be
 * sent, and on_lost() comes soon. */
bool pg_session_run(struct pg_session *session, struct pg_query *query, bool is_guarded)
    __attribute__((warn_unused_result));

/* Adds a statement to session->batch_queries: it counts as in flight from here on, and is sent by
 * pg_session_run_batch(). */
void pg_session_join(struct pg_session *session, struct pg_query *query, uint32_t expected_us);

/* Appends those of session->batch_queries, guarded, under one Sync, and empties the list. False: as
 * above, and those of the list are still in it. */
bool pg_session_run_batch(struct pg_session *session) __attribute__((warn_unused_result));

/* Reads no further, from the socket and from what libpq holds, until it is resumed: for who takes
 * the rows of a stream. Twice is fine. */
void pg_session_pause(struct pg_session *session);

/* Goes on reading, in this turn at the earliest and never from inside this call. Not paused is
 * fine. */
void pg_session_resume(struct pg_session *session);

/* Is what runs now a stream, wanted or not? */
bool pg_session_is_streaming(const struct pg_session *session);

/* It cannot go on, for a constant `reason`: nothing more is sent, and on_lost() comes soon, with
 * is_unwanted set. */
void pg_session_end(struct pg_session *session, const char *reason);

/* Is a COPY under way? Nothing can be sent until it has ended. */
bool pg_session_is_copying(const struct pg_session *session);

/* Appends a command of the pool's own, and a Sync; behind a COPY that is under way. Where the
 * session breaks, on_lost() comes soon. */
void pg_session_command(struct pg_session *session, const char *sql);

/* Appends what takes back all that statements may have left in the session: role, settings,
 * temporary tables, advisory locks, cursors, what it listens to. Where that fails, it is lost if it
 * `must_work`, else it is touched again. */
void pg_session_clean(struct pg_session *session, bool must_work);

/* Appends the first `count` of session->_cleaning under one Sync: for clean.c. */
void pg_session_append_cleaning(struct pg_session *session, uint32_t count, bool must_work);

/* Takes the op's statement out of the ring: a tombstone stays. */
void pg_session_forget(struct pg_session *session, struct pg_query *query);

/* A ROLLBACK is sent, or about to be: nobody waits for anything before it from here on. */
void pg_session_roll_back(struct pg_session *session);

/* ---- for copying.c ---- */

/* The COPY was answered: its place in the ring has the result. */
void pg_session_end_copy(struct pg_session *session);

/* Runs a constant text that undoes a setting. Where it `must_work` and does not, the session
 * ends. */
bool pg_session_restore(struct pg_session *session, const char *sql, bool must_work);

/* Sends what libpq holds. False: it broke. */
bool pg_session_flush(struct pg_session *session) __attribute__((warn_unused_result));

/* libpq cannot go on: the owner is told soon. False always. */
bool pg_session_broke(struct pg_session *session);

/* Notes why it cannot go on; the first reason stands. */
void pg_session_note_problem(struct pg_session *session, struct span problem);

/* Has it look again at what libpq holds, or wants, in this turn. */
void pg_session_step(struct pg_session *session);

/* ---- */

/* Has on_idle() ask soon, where it is idle. */
void pg_session_look(struct pg_session *session);

/* For how long the op's statement has been running, as far as is known; 0: it has not begun, or
 * something was prepared first. */
uint64_t pg_session_ran_us(const struct pg_session *session, const struct pg_query *query);

/* Where its ring begins: changes when what runs now has ended. */
uint32_t pg_session_place(const struct pg_session *session);

/* Does nobody want what runs now? */
bool pg_session_is_head_dead(const struct pg_session *session);

/* How many answers are in flight, if they need not be read one by one: whoever has the session for
 * himself gets each as it comes. */
static inline uint32_t pg_session_awaited(const struct pg_session *session)
{
    return session->load.is_taken ? 0 : session->_flights.syncs;
}

/* Is nothing in flight? */
bool pg_session_is_idle(const struct pg_session *session);

/* Idle, is it outside of any transaction? */
bool pg_session_is_clean(const struct pg_session *session);

/* Is it known that its server is no standby? It may take no writes all the same, by a setting. */
bool pg_session_is_primary(const struct pg_session *session);

/* Is it known that its server takes writes? Then what refuses one (25006) is the transaction's own:
 * by SET TRANSACTION, or what a function has set. */
bool pg_session_takes_writes(const struct pg_session *session);

/* Are both sessions of one server? One address may be that of several: a balancer's. */
bool pg_session_is_beside(const struct pg_session *session, const struct pg_session *other);

/* The server's process, for pg_cancel_backend(). */
int pg_session_backend(const struct pg_session *session);

#endif
