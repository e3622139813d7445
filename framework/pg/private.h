/* pg/private.h - what the files of this room share: the op behind a statement, the pool inside.
 *
 * Loop:   of the pool's loop.
 * Memory: a query lies in its scope's arena, a transaction in the query that began it.
 */
#ifndef WEFT_PG_PRIVATE_H
#define WEFT_PG_PRIVATE_H

#include "base/list.h"
#include "base/table.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "pg/connect.h"
#include "pg/control.h"
#include "pg/hosts.h"
#include "pg/limit.h"
#include "pg/page.h"
#include "pg/parameters.h"
#include "pg/pool.h"
#include "pg/query.h"
#include "pg/result.h"
#include "pg/session.h"
#include "pg/statement.h"
#include "pg/stream.h"
#include "pg/suspects.h"
#include "pg/transaction.h"

struct pg_stream;

/* ---- a statement on its way: query.c ---- */

enum pg_query_what {
    PG_DO_RUN,
    PG_DO_BEGIN,
    PG_DO_COMMIT,
    PG_DO_ROLLBACK,
    PG_DO_SAVEPOINT, /* begins a nested transaction */
    PG_DO_RELEASE,   /* its COMMIT */
    PG_DO_UNDO       /* its ROLLBACK */
};

/* Where it is; see query.c. */
enum pg_query_state { PG_QUERY_QUEUED, PG_QUERY_SENT, PG_QUERY_DONE };

struct pg_query {
    struct op op;                         /* the async noun; first */
    struct pg_pool *pool;                 /* whose sessions it uses */
    const struct pg_statement *statement; /* declared; NULL: ad hoc */
    struct pg_transaction *transaction;   /* on which it waits to be run; NULL: none */
    struct pg_transaction *begins;        /* that it begins, as long as its op lives; NULL: none */
    struct pg_stream *stream;             /* that it opens; NULL: none */
    struct span sql;                      /* with a NUL behind it */
    const char *const *values;            /* `count` texts, NULL: SQL NULL */
    uint32_t count;                       /* of parameters */
    uint32_t bytes;                       /* of the texts */
    uint32_t flags;                       /* PG_READ_ONLY, PG_SLOW, PG_BINARY */
    enum pg_query_what what;              /* see above */
    enum pg_query_state state;            /* see above */
    bool wants_own;                       /* session: waits in the pool's line for these */
    bool must_run_alone;                  /* it was aborted by a neighbour, or is run again */
    bool is_again;                        /* queued again: stands before all others in its line */
    bool was_renewed;                     /* run again, unprepared, its guard too: a plan was out of
                                           * date, or lost */
    bool is_maybe_applied;                /* see pg_maybe_applied() */
    uint32_t savepoint;                   /* RELEASE: of which; 0: none */
    uint32_t aborted_count;               /* by neighbours */
    uint64_t order;                       /* of arrival in the pool */
    uint64_t queued_ms;                   /* when it was queued last */
    struct list link;                     /* while it is queued: pool, transaction or batch */
    struct pg_session *session;           /* once sent; NULL: not any more */
    uint32_t place;                       /* in the session's ring */
    uint32_t number;                      /* of the name under which it was sent; 0: unprepared */
    struct pg_result *result;             /* once it settled OK */
    char sqlstate[6];                     /* once it failed in the server; "" else */
};

/* The query behind an op of this room. */
static inline struct pg_query *pg_query_of(const struct op *op)
{
    return CONTAINER_OF(op, struct pg_query, op);
}

/* ---- notes.c, for the kind of every statement's op ---- */

/* Counts it for its declared statement, and says in the log that it was slow. */
void pg_note_settled(const struct op *op, uint64_t us);

/* "statement book_by_id of main, backend 4711". */
void pg_note_describe(const struct op *op, char *text, size_t size);

/* The answer to a query, which settles it or queues it again. */
void pg_query_answered(struct pg_query *query, struct pg_session *session,
                       const struct pg_answer *answer);

/* One op less of its pool is pending. */
void pg_query_note_over(const struct pg_query *query);

/* Settles a query that is queued no more and not in flight. */
void pg_query_settle(struct pg_query *query, enum err err, const char *reason);

/* Makes `query`, zeroed memory of the scope's arena, an op that has nothing but a text, on `pool`.
 * False: born canceled, there is nothing to submit. */
bool pg_query_init(struct pg_query *query, struct scope *scope, struct pg_pool *pool,
                   enum pg_query_what what, struct span sql) __attribute__((warn_unused_result));

/* Has the pool run it; settles it where the pool's queue is full. */
void pg_query_submit(struct pg_query *query);

/* Starts what pg_query_start() starts, with `query`, zeroed memory of the scope's arena, where
 * nothing is wrong with the call; the op, which is of another kind where something is. */
struct op *pg_query_start_as(struct scope *scope, const struct pg_call *call,
                             struct pg_query *query);

/* The statement behind an op of this room, a stream's pulls included; NULL: none. */
const struct pg_query *pg_query_behind(const struct op *op);

/* ---- a session's two halves: session.c sends, reading.c reads ---- */

/* What the server says of a statement that it refuses since another one has aborted the
 * transaction. */
#define PG_REFUSED_IN_ABORTED SPAN("25P02")

enum { PG_SIZE_WORN = 1024 * 1024 }; /* bytes: libpq's buffers grow so far, and never shrink */

/* The session is told from here on of what comes. */
void pg_session_start_reading(struct pg_session *session);

/* Nothing more is read; all that is in flight is answered with PG_LOST. */
void pg_session_stop_reading(struct pg_session *session);

/* ---- streams: stream.c, copy.c ---- */

/* What lifts the server's limit for a statement, and what sets it as it was. */
struct pg_stream_sql {
    const char *lift, *restore; /* constant; NULL: the session keeps what it has */
};

/* For the session as it is now, pinned or not. */
struct pg_stream_sql pg_stream_sql(const struct pg_session *session);

/* What it brings, or takes. */
enum pg_stream_kind { PG_STREAM_ROWS, PG_STREAM_COPY_OUT, PG_STREAM_COPY_IN };

/* See stream.c. */
enum pg_stream_state { PG_STREAM_OPENING, PG_STREAM_FLOWING, PG_STREAM_ENDED };

struct pg_stream {
    struct pg_query query;              /* first: the op that opens it */
    enum pg_stream_kind kind;           /* see above */
    enum pg_stream_state state;         /* see stream.c */
    enum err err;                       /* ENDED: what its ops get from now on */
    const char *reason;                 /* of err: a token for the access log, or NULL */
    struct span error;                  /* of err: for people, in the arena; absent */
    struct pg_transaction *transaction; /* on which it is open; NULL: none */
    struct timer timer;                 /* it stands still for too long */
    uint64_t moved_ms;                  /* when it last did not */
    /* what it brings */
    bool is_fresh;        /* there is what no pull has brought yet */
    struct pg_page page;  /* rows that the last pull brought, or the next one will */
    struct buf piece;     /* the same of a COPY */
    struct buf json;      /* the page as a piece of an array; empty before it was asked for */
    struct pg_pull *pull; /* the last one; NULL: none, or it was released */
    uint64_t pulls;       /* that brought something, or the end */
    /* what it takes: copy.c */
    struct list writes;     /* struct pg_write: pending */
    struct pg_write *write; /* the last one; NULL: none, or it was released */
    struct pg_write *close; /* the end that was asked for, pending; NULL: none */
    bool is_closing;        /* it was asked for */
};

/* Opens one of this kind; the op. */
struct op *pg_stream_open(struct scope *scope, const struct pg_call *call,
                          enum pg_stream_kind kind);

/* Pulls the next page or piece of one of this kind. */
struct op *pg_stream_pull(struct op *open, enum pg_stream_kind kind);

/* The server is ready for a COPY, in or out. */
void pg_stream_ready(struct pg_stream *stream, bool is_in);

/* The next piece of a COPY TO STDOUT, which is copied. */
void pg_stream_data(struct pg_stream *stream, struct span data);

/* All that was written to a COPY FROM STDIN has left. */
void pg_copy_space(struct pg_stream *stream);

/* It has ended: its writes and its end are told. */
void pg_copy_ended(struct pg_stream *stream);

/* Its op goes; it has ended. */
void pg_copy_release(struct pg_stream *stream);

/* The statement behind a write or an end; NULL: it is neither. */
const struct pg_query *pg_copy_query(const struct op *op);

/* The next row; NULL is not one. The callee's. */
void pg_stream_row(struct pg_stream *stream, struct pg_result *row);

/* All rows that came so far were told. */
void pg_stream_rest(struct pg_stream *stream);

/* The op that opens it has settled without a row, or was canceled. */
void pg_stream_unopened(struct pg_stream *stream);

/* Its statement, which was sent, is forgotten: the server is to stop, and what still comes is read
 * by nobody. */
void pg_stream_leave(struct pg_stream *stream);

/* It has been opened, and the server has answered to all of it now, or the session broke. */
void pg_stream_answered(struct pg_stream *stream, struct pg_session *session,
                        const struct pg_answer *answer);

/* Nobody wants more of it. Its pull, if one is pending, and all later ones get `err` with `error`,
 * a constant text or none. Twice is fine. */
void pg_stream_give_up(struct pg_stream *stream, enum err err, const char *reason,
                       struct span error);

/* Its op goes. */
void pg_stream_release(struct pg_stream *stream);

/* The page of a pull that settled OK; NULL: no pull, or the page was given to a later one. */
const struct pg_page *pg_stream_page(const struct op *pull);

/* ---- LISTEN: listen.c ---- */

/* Who listens through a pool. */
struct pg_listener {
    struct pg_pool *pool;          /* whose */
    struct table by_name;          /* struct pg_channel */
    struct list channels;          /* the same */
    struct list line;              /* of these: something is to be said to the server */
    uint32_t commands;             /* on their way */
    bool is_open;                  /* the control session can be used */
    bool is_lost;                  /* notifications are missed now, and the log says so */
    char problem[PG_PROBLEM_SIZE]; /* why the control session is not open; "" : not known */
};

void pg_listener_init(struct pg_listener *listener, struct pg_pool *pool);

/* Nobody listens any more. */
void pg_listener_deinit(struct pg_listener *listener);

/* Is the control session to be open for it? */
bool pg_listener_is_wanted(const struct pg_listener *listener);

/* The control session is open. */
void pg_listener_opened(struct pg_listener *listener);

/* It could not be opened; that is tried again. */
void pg_listener_refused(struct pg_listener *listener, const char *problem);

/* It broke, or was closed, and has gone. */
void pg_listener_lost(struct pg_listener *listener, const char *problem);

/* A statement of the listener's was answered; the result is the callee's. */
void pg_listener_answered(struct pg_listener *listener, struct pg_query *query,
                          const struct pg_answer *answer);

/* A notification has come. */
void pg_listener_heard(struct pg_listener *listener, struct span channel, struct span payload);

/* ---- transactions: transaction.c ---- */

enum pg_transaction_state { PG_TX_BEGINNING, PG_TX_OPEN, PG_TX_ENDED };

struct pg_transaction {
    uint32_t magic;                  /* PG_TRANSACTION_MAGIC */
    enum pg_transaction_state state; /* see transaction.c */
    struct pg_pool *pool;            /* whose session it has */
    struct scope *scope;             /* that began it */
    struct pg_transaction *root;     /* in which it is nested; itself; NULL: that has ended */
    struct pg_session *session;      /* pinned; NULL: not yet, or not any more */
    struct pg_stream *stream;        /* open on it: nothing else may run; NULL: none */
    bool is_spoiled;                 /* a stream on it was given up: it can only be rolled back */
    bool is_lost;                    /* its session broke */
    bool is_committing;              /* COMMIT was asked for, or ROLLBACK: nothing may follow */
    bool is_read_only;               /* begun so */
    bool is_held;                    /* counted in its root scope's held_count */
    uint32_t savepoint;              /* nested: its number; else the last that was given */
    uint32_t nested_count;           /* begun in it and not ended, be they sent or not */
    struct pg_limit limit;           /* of time, on its session */
    struct list waiting;             /* struct pg_query: not yet sent, those of nested ones too */
    struct list nested;              /* struct pg_transaction: whose SAVEPOINT was sent, and which
                                      * have not ended, innermost last */
    struct list link;                /* among the pool's transactions with something to send; of a
                                      * nested one: among its root's */
};

#define PG_TRANSACTION_MAGIC 0x70677478u

/* BEGIN was sent on `session`: it is the transaction's. */
void pg_transaction_pin(struct pg_transaction *transaction, struct pg_session *session);

/* BEGIN, or SAVEPOINT, has settled. */
void pg_transaction_begun(struct pg_transaction *transaction, bool is_ok);

/* It ends with its op: what waits on it fails, its session is rolled back. Twice is fine. */
void pg_transaction_end(struct pg_transaction *transaction);

/* Its session broke. */
void pg_transaction_lost(struct pg_transaction *transaction);

/* Sends what waits on it, as far as there is room. */
void pg_transaction_send(struct pg_transaction *transaction);

/* Its session has room again. */
void pg_transaction_room(struct pg_transaction *transaction);

/* May a statement be added? ERR_STATE: it has ended, or is about to, or a stream is open on it or
 * was given up, or a nested one is open in it; ERR_DB_DOWN: its session broke. *problem says so in
 * words. */
enum err pg_transaction_check(const struct pg_transaction *transaction, const char **problem);

/* The same for what the line stops at: a stream, or a begin. ERR_STATE also where a begin waits. */
enum err pg_transaction_check_alone(const struct pg_transaction *transaction, const char **problem);

/* Adds a statement to query->transaction, which the pool sends at the end of the turn; before a
 * begin that waits on the same one. */
void pg_transaction_add(struct pg_query *query);

/* `query` was canceled before it was sent: where it was to end its transaction, that goes on. */
void pg_transaction_withdrawn(const struct pg_query *query);

/* RELEASE failed, since a statement had: what was done since the savepoint is undone. */
void pg_transaction_undo(struct pg_session *session, const struct pg_query *query);

/* ---- the pool inside: pool.c, opening.c ---- */

enum { PG_OPENING_MAX = 2 }; /* sessions that are opened at once */

struct pg_pool {
    uint32_t magic;                   /* PG_POOL_MAGIC */
    struct loop *loop;                /* its loop */
    struct helpers *helpers;          /* who open sessions */
    char *name;                       /* for logs and metrics */
    const struct pg_options *options; /* the caller's */
    struct pg_pool_counts counts;     /* always up to date */
    struct pg_statements statements;  /* declared ones */
    struct pg_suspects suspects;      /* ad-hoc texts that may be slow */
    struct pg_session **sessions;     /* open ones, counts.sessions of them */
    const struct pg_load **loads;     /* the same in the same order, for the policy */
    struct list shared;               /* struct pg_query: wait for a place, in order */
    struct list own;                  /* struct pg_query: wait for a session of their own */
    struct line line;                 /* both of these together, as newcomers see them */
    struct list transactions;         /* struct pg_transaction: have something to send */
    uint32_t pending;                 /* ops that did not settle */
    uint64_t order;                   /* of the last arrival */
    struct hook hook;                 /* deals out at the end of the turn */
    struct timer wait_timer;          /* the longest wait ends */
    struct timer open_timer;          /* not before it runs another session is opened */
    uint32_t open_failures;           /* in a row */
    uint32_t open_number;             /* of the last session, for logs */
    bool is_started;                  /* one session is kept open */
    uint64_t random;                  /* state of the generator */
    struct pg_connect *opening[PG_OPENING_MAX]; /* under way; NULL: free */
    struct pg_control control;                  /* cancels, and listens */
    struct pg_listener listener;                /* to whom it tells what it hears */
    struct pg_aim aim;                          /* which servers it wants */
    uint32_t server;                            /* index of the one that was there last */
    struct pg_addresses addresses;              /* of all of them, which answered last */
    uint32_t plans_round; /* counts transactions that met a plan out of date */
    bool is_winding_up;   /* no session is kept that is not needed */
    bool is_holding;      /* the loop: somebody waits for a session of his own */
    bool is_moving;       /* sessions are to be closed, since their server was demoted */
};

#define PG_POOL_MAGIC 0x7067706fu

/* Queues a query and has it dealt out at the end of the turn. False: the queue is full. */
bool pg_pool_submit(struct pg_pool *pool, struct pg_query *query)
    __attribute__((warn_unused_result));

/* Queues it again, before what came after it. */
void pg_pool_submit_again(struct pg_pool *pool, struct pg_query *query);

/* A queued query is given up, or moved elsewhere. */
void pg_pool_withdraw(struct pg_pool *pool, struct pg_query *query);

/* Has the end of this turn look for what can be sent. */
void pg_pool_wake(struct pg_pool *pool);

/* A session has room, or is nobody's any more. */
void pg_pool_room(struct pg_pool *pool, struct pg_session *session);

/* Its server takes no writes any more, which are what the pool is for: each session gets nothing
 * new and is closed when idle, and others are opened where writes are taken. */
void pg_pool_move(struct pg_pool *pool, const struct pg_session *session);

/* It was sent: not queued any more. */
void pg_pool_sent(struct pg_pool *pool, struct pg_query *query);

/* ---- opening.c ---- */

/* Opens a session unless enough are open or under way, or it is too early. */
void pg_pool_grow(struct pg_pool *pool);

/* A session was lost: others are opened where somebody waits, or none is left; not all at once. */
void pg_pool_reopen(struct pg_pool *pool);

/* Opens one where sessions_min wants one, or somebody waits. */
void pg_pool_fill(struct pg_pool *pool);

/* When a session that is opened now is old, on the loop's scale: not all at once; 0: never. */
uint64_t pg_pool_expiry_ms(struct pg_pool *pool);

/* Throws away what is being opened. */
void pg_pool_abandon(struct pg_pool *pool);

/* An open connection becomes a session. */
void pg_pool_add(struct pg_pool *pool, struct pg_conn *conn, const struct pg_traits *traits);

#endif
