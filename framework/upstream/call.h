/* upstream/call.h - a call as the files of this room see it: call.c has its op and its time,
 * attempt.c asks for it, outcome.c ends it, flow.c has its bodies where they are streamed.
 */
#ifndef WEFT_UPSTREAM_CALL_H
#define WEFT_UPSTREAM_CALL_H

#include "upstream/flight.h"
#include "upstream/flow.h"
#include "upstream/inflate.h"
#include "upstream/inside.h"
#include "upstream/request.h"

/* Where a try is; see attempt.c. */
enum attempt_state { ATTEMPT_NONE, ATTEMPT_WAITING, ATTEMPT_SENT };

/* One try. */
struct attempt {
    struct call *call;        /* whose */
    enum attempt_state state; /* see attempt.c */
    struct origin_loan loan;  /* WAITING: its place in line */
    struct origin_conn *conn; /* SENT: its connection, lent */
};

/* Where a call is; see call.c. */
enum call_state { CALL_OPEN, CALL_PAUSED, CALL_OVER };

/* One call. */
struct call {
    struct op op;                          /* first */
    struct upstream *upstream;             /* whose; NULL: it never began */
    enum call_state state;                 /* see call.c */
    bool is_head;                          /* HEAD: no body in the answer */
    bool is_idempotent;                    /* may be sent again when it was written */
    bool was_renewed;                      /* was sent again since a kept connection was gone */
    bool is_trial;                         /* the breaker waits for its outcome */
    uint32_t retries;                      /* to other addresses */
    struct upstream_request request;       /* as it is sent */
    bool decodes;                          /* gzip is decoded */
    bool is_reused;                        /* the connection that answered had been used before */
    struct inflate *inflate;               /* decodes the answer; NULL: it comes as it is */
    uint64_t begun_us;                     /* loop time */
    int64_t times_us[UPSTREAM_TIME_COUNT]; /* see upstream_time_us() */
    struct span address;                   /* that answered; absent */
    uint64_t queue_due_ms;                 /* the end of its patience in line */
    uint64_t due_ms;                       /* its end in all */
    struct timer timer;                    /* the soonest limit; PAUSED: the end of the pause */
    struct attempt attempt;                /* the try under way */
    uint32_t code;                         /* of the answer; 0: no head yet */
    struct http_fields fields;             /* of the answer, in the arena */
    struct buf body;                       /* of the answer, unless it is streamed */
    bool is_follower;                      /* it has no attempts: a flight answers it */
    bool is_hedge;                         /* it is of no use where it would have to wait */
    uint32_t avoid_id;                     /* rather not to this target; 0: to any */
    struct flight *flight;                 /* that it follows; NULL: none, or not any more */
    struct list flight_link;               /* among its followers */
    struct flow *flow;                     /* the bodies of a stream; NULL: it is none */
};

/* The call behind `op`, one of upstream_call() or upstream_stream() (checked). */
struct call *call_of(struct op *op);

/* The loop's time. */
static inline uint64_t call_now_ms(const struct call *call)
{
    return loop_now_ms(call->upstream->loop);
}

/* The head of the answer came over `conn`. */
void call_take_head(struct call *call, const struct origin_conn *conn,
                    const struct http_head *head);

/* Begins to wait for what is due first: its end in all, a stream's pause or, `is_in_line`, the end
 * of its patience there. It fails when that comes. */
void call_wait(struct call *call, bool is_in_line);

/* Its time in all is over, whatever it waits for: it fails. One that is over stays as it is. */
void call_time_out(struct call *call);

/* Its next attempt begins in `ms`; there is none now. */
void call_pause(struct call *call, uint64_t ms);

/* ---- attempts (attempt.c) ---- */

/* Begins an attempt. It fails where the line is full; a hedge is canceled then. */
void call_launch(struct call *call);

/* The address that it was sent to, if any, has failed; `problem` says how. */
void attempt_blame(struct attempt *attempt, const char *problem);

/* Lets go of its place or its connection; nothing of them will call back. */
void attempt_abandon(struct attempt *attempt);

/* ---- ends (outcome.c): the call holds neither place nor connection by now ---- */

/* It is over, and counted; its op and flow are still to be told. */
void call_end(struct call *call);

/* It is answered. */
void call_succeed(struct call *call);

/* It has failed; `format` makes the text for people, behind the upstream's name. */
void call_fail(struct call *call, enum upstream_failure what, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A pull has found that its stream's body cannot be decoded: `err` of unpack_problem(). The call
 * may be over, and counted as answered, by then. */
void call_fail_body(struct call *call, enum err err);

/* What the breaker learns: the upstream answered, and not with a 502 to 504; or it did not. */
void call_tell_breaker(struct call *call, bool is_good);

/* 502 to 504? */
bool call_is_gateway_error(uint32_t code);

/* Was such a failure the upstream's doing, and not ours or the caller's? */
bool upstream_failure_is_theirs(enum upstream_failure what);

/* ---- giving up ---- */

/* Gives it up, as one that nobody wants any more; one that is over stays as it is. Its flow is told
 * `err`. */
void call_give_up(struct call *call, enum err err);

/* A call of a flight. `is_hedge`: its second one, which is canceled where it would have to wait;
 * rather not to the target `avoid_id`. */
struct op *call_begin_inner(struct scope *scope, struct upstream *upstream,
                            const struct upstream_call *what, bool is_hedge, uint32_t avoid_id);

/* A follower gets a copy of what `inner` was answered with. */
void call_adopt(struct call *call, const struct call *inner);

/* A follower fails; `text` is copied. */
void call_fail_as(struct call *call, enum err err, const char *reason, struct span text);

/* Its stream failed by what its user did. */
void call_spoil(struct call *call, const char *problem);

#endif
