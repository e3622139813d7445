/* pg/control.h - a pool's own sessions: they cancel what nobody waits for any more, and listen.
 *
 * A statement whose op was given up while it ran would run on, and all behind it on its session
 * would wait. So the pool has a session of its own for pg_cancel_backend(), opened when it is
 * needed, outside of its limit. One statement is canceled at a time. Notifications come to another
 * one (pg/listen.h), which stays open as long as somebody listens, and cancels as well.
 * Loop:   of the pool's loop.
 * Memory: the pool's.
 * Limits: PG_CONTROL_SESSIONS: both are there where the one that listens is just being opened, or
 *         is on another server than what is to be canceled.
 */
#ifndef WEFT_PG_CONTROL_H
#define WEFT_PG_CONTROL_H

#include "loop/timer.h"
#include <stdbool.h>
#include <stdint.h>

struct pg_connect;
struct pg_pool;
struct pg_query;
struct pg_session;

enum { PG_CONTROL_SESSIONS = 2 };

/* Where it is; see control.c. */
enum pg_control_state { PG_CONTROL_CALM, PG_CONTROL_LOOKING, PG_CONTROL_SENT };

struct pg_control {
    enum pg_control_state state; /* see control.c */
    struct pg_pool *pool;        /* whose sessions */
    struct pg_session
        *session;              /* its own, which listens, and cancels where it is; NULL: not open */
    struct pg_session *errand; /* to cancel where that is not; NULL: not open */
    uint32_t errand_for;       /* number of the session that it was opened for last */
    uint32_t errands_astray;   /* opened for that one in a row, which came to other servers */
    struct pg_session *canceler;       /* which of them has canceled last */
    struct pg_connect *opening;        /* of the one that listens, under way; NULL: not */
    struct timer open_timer;           /* its next attempt */
    struct pg_connect *errand_opening; /* of the other one; NULL: not */
    struct pg_session *victim;         /* of the cancel under way; NULL: none, or it has gone */
    struct timer timer;                /* the next look */
    struct pg_query *cancel;           /* what is sent for it; it has no op */
    char sql[64];                      /* its text */
};

/* Nothing to do yet. */
void pg_control_init(struct pg_control *control, struct pg_pool *pool);

/* Closes its session. */
void pg_control_deinit(struct pg_control *control);

/* A statement in flight was given up: looks soon whether it still runs. */
void pg_control_notice(struct pg_control *control);

/* Has the session that listens opened where somebody wants to listen, unless it is. */
void pg_control_open(struct pg_control *control);

/* The pool's sessions move to another server: so does the one that listens. */
void pg_control_move(struct pg_control *control);

/* The session goes. */
void pg_control_forget(struct pg_control *control, const struct pg_session *session);

#endif
