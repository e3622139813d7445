/* pg/control.c - a pool's own sessions: they cancel what nobody waits for any more, and listen.
 *
 *   CALM ──▶ LOOKING ──▶ SENT (pg_cancel_backend) ──▶ LOOKING, or CALM
 *              │  ▲
 *              └──┘ not yet for long; or a session is opened first
 *
 * The session that listens is opened beside that, by the pool's aim, for as long as it takes: no
 * cancel waits for it. Once it is there, it does what the other one has done, which goes.
 *
 * The signal hits whatever the backend runs when it arrives, which may be a good while after
 * pg_cancel_backend() has answered: it is taken when the backend next gets to run. So until the
 * victim is idle after that answer (pg/pool.c), it gets nothing new, and what stands behind in its
 * pipeline and is hit is run again: it had a Sync of its own, or is read only, and so nothing was
 * applied. What may commit by itself, as a CALL, is not: it fails, and may have been applied
 * (pg/query.c). An idle backend takes the signal before anything else.
 *
 * An address may lead to another server each time, where process ids are those of strangers: a
 * session that is not beside the victim goes, and another one is opened, a few times. Then the
 * victim is let be: the server's own limits end what it runs.
 *
 * Where the session that asked for the cancel is lost before the answer, nobody hears when, or
 * whether, the signal is sent: the victim is lent to nobody any more, and closed once it is idle.
 */
#include "pg/control.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "pg/connect.h"
#include "pg/private.h"
#include <stdio.h>

enum {
    GIVEN_UP_MS = 20,      /* most statements end by themselves sooner than we could cancel them */
    CANCEL_AGAIN_MS = 100, /* what goes on all the same */
    STALL_MS = 1000,       /* how long it may take to answer */
    OPEN_AGAIN_MS = 1000,  /* after an attempt that failed, more or less */
    OPEN_AGAIN_DOUBLINGS = 7,
    ERRANDS_MAX = 8 /* to one session's server, where a balancer leads to others */
};

static void on_timer(struct timer *timer);

static void look_in(struct pg_control *control, uint32_t ms)
{
    control->state = PG_CONTROL_LOOKING;
    timer_start(control->pool->loop, &control->timer, ms, on_timer);
}

/* Its own sessions */

static void close_one(struct pg_control *control, struct pg_session *session)
{
    if (session == NULL)
        return;
    if (session == control->session) {
        control->session = NULL;
    } else {
        CHECK(session == control->errand);
        control->errand = NULL;
    }
    pg_session_destroy(session);
}

/* The one that listens can do all that the other one is there for. */
static void close_spare(struct pg_control *control)
{
    bool is_busy = control->state == PG_CONTROL_SENT && control->canceler == control->errand;

    if (control->errand != NULL && control->session != NULL && !is_busy &&
        pg_session_is_beside(control->session, control->errand))
        close_one(control, control->errand);
}

static void release_victim(struct pg_control *control)
{
    struct pg_session *victim = control->victim;

    control->victim = NULL;
    if (victim != NULL)
        pg_pool_room(control->pool, victim);
}

/* Nobody will hear whether the cancel has been sent. */
static void expire_victim(struct pg_control *control)
{
    struct pg_session *victim = control->victim;

    if (victim == NULL)
        return;
    log_debug("pg %s: session %u may be hit by a cancel at any time: it is to be closed",
              control->pool->name, victim->number);
    victim->expires_ms = loop_now_ms(control->pool->loop);
    release_victim(control);
}

static struct pg_control *control_of(const struct pg_session *session)
{
    struct pg_pool *pool = session->data;

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    return &pool->control;
}

static void on_answer(struct pg_session *session, struct pg_query *query,
                      const struct pg_answer *answer)
{
    struct pg_control *control = control_of(session);

    if (query != control->cancel) {
        pg_listener_answered(&control->pool->listener, query, answer);
        return;
    }
    pg_result_clear(answer->result);
    if (answer->outcome == PG_LOST)
        return; /* on_lost() sees to that */
    CHECK(control->state == PG_CONTROL_SENT);
    release_victim(control);
    look_in(control, 0);
}

static void on_room(struct pg_session *session)
{
    (void)session; /* there is always room for the little that we send */
}

static void on_notify(struct pg_session *session, struct span channel, struct span payload)
{
    pg_listener_heard(&control_of(session)->pool->listener, channel, payload);
}

/* All workers have lost theirs at once: not all are to come back at once. */
static uint32_t open_again_ms(const struct pg_control *control)
{
    return OPEN_AGAIN_MS / 2 + pg_pool_back_off_ms(control->pool, OPEN_AGAIN_DOUBLINGS);
}

static void on_open_timer(struct timer *timer);

static void open_later(struct pg_control *control)
{
    timer_start(control->pool->loop, &control->open_timer, open_again_ms(control), on_open_timer);
}

/* One of its sessions goes. */
static void lose(struct pg_control *control, struct pg_session *session, const char *reason)
{
    bool has_listened = session == control->session, has_canceled = session == control->canceler;

    close_one(control, session);
    if (has_listened) {
        pg_listener_lost(&control->pool->listener, reason);
        open_later(control);
    }
    if (control->state == PG_CONTROL_SENT && !has_canceled)
        return; /* the other one will answer, and then there is a look */
    if (control->state == PG_CONTROL_SENT)
        expire_victim(control);
    else if (has_listened)
        return; /* a look does not need it */
    if (control->state != PG_CONTROL_CALM)
        look_in(control, open_again_ms(control));
}

static void on_lost(struct pg_session *session, const char *reason)
{
    struct pg_control *control = control_of(session);
    char copy[PG_PROBLEM_SIZE];

    (void)snprintf(copy, sizeof copy, "%s", reason); /* the session's */
    log_debug("pg %s: control session lost: %s", control->pool->name, copy);
    lose(control, session, copy);
}

static uint32_t on_idle(struct pg_session *session)
{
    struct pg_control *control = control_of(session);
    bool has_listened = session == control->session;

    if (has_listened && pg_listener_is_wanted(&control->pool->listener))
        return 0;
    close_one(control, session);
    if (has_listened)
        pg_listener_lost(&control->pool->listener, "");
    return 0;
}

static const struct pg_session_owner session_owner = {
    .on_answer = on_answer,
    .on_notify = on_notify,
    .on_room = on_room,
    .on_lost = on_lost,
    .on_idle = on_idle,
};

/* What was opened; NULL: nothing was. */
static struct pg_session *make_session(struct pg_pool *pool, const struct pg_connect *connect,
                                       struct pg_conn *conn, const char *problem)
{
    const struct pg_session_options options = {.result_max = pool->options->result_max,
                                               .depth_max = 1,
                                               .stall_ms = STALL_MS,
                                               .server_us = pg_connect_traits(connect)->server_us};

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    if (conn != NULL)
        return pg_session_create(pool->loop, conn, &options, &session_owner, pool);
    log_debug("pg %s: cannot open the control session: %s", pool->name, problem);
    return NULL;
}

static void on_connected(void *data, struct pg_connect *connect, struct pg_conn *conn,
                         const char *problem)
{
    struct pg_pool *pool = data;
    struct pg_control *control = &pool->control;

    CHECK(control->opening == connect);
    CHECK(control->session == NULL);
    control->opening = NULL;
    control->session = make_session(pool, connect, conn, problem);
    if (control->session == NULL) {
        pg_listener_refused(&pool->listener, problem);
        open_later(control);
        return;
    }
    close_spare(control);
    pg_listener_opened(&pool->listener);
    if (control->state == PG_CONTROL_LOOKING)
        look_in(control, 0); /* it may cancel as well */
}

static void on_errand_connected(void *data, struct pg_connect *connect, struct pg_conn *conn,
                                const char *problem)
{
    struct pg_pool *pool = data;
    struct pg_control *control = &pool->control;

    CHECK(control->errand_opening == connect);
    CHECK(control->errand == NULL);
    control->errand_opening = NULL;
    control->errand = make_session(pool, connect, conn, problem);
    close_spare(control);
    if (control->state == PG_CONTROL_LOOKING)
        look_in(control, conn != NULL ? 0 : open_again_ms(control));
}

static void on_open_timer(struct timer *timer)
{
    pg_control_open(CONTAINER_OF(timer, struct pg_control, open_timer));
}

/* Looking */

/* Was what it runs canceled just now? That may come to nothing: the server forgets a cancel that
 * comes while it prepares for the statement, and a function may catch it. */
static bool was_canceled(const struct pg_session *session)
{
    return session->canceled_place == pg_session_place(session) &&
           loop_now_ms(session->loop) < session->canceled_ms + CANCEL_AGAIN_MS;
}

/* Does the session run what nobody waits for? In a transaction that somebody still holds, a cancel
 * would end more than the statement; a stream that was given up has ended it already. Of those that
 * share a Sync nobody tells which one runs: the rest of them, which only read, are run again. */
static bool is_given_up(const struct pg_session *session)
{
    if (pg_session_is_idle(session))
        return false;
    if (!session->is_pinned && pg_flights_is_head_burdened(&session->_flights))
        return true;
    if (!pg_session_is_head_dead(session))
        return false;
    return !session->is_pinned || session->is_rolling_back || pg_session_is_streaming(session);
}

static void cancel(struct pg_control *control, struct pg_session *canceler,
                   struct pg_session *victim)
{
    log_debug("pg %s: session %u runs what nobody waits for: canceled", control->pool->name,
              victim->number);
    (void)snprintf(control->sql, sizeof control->sql, "select pg_cancel_backend(%d)",
                   pg_session_backend(victim));
    *control->cancel = (struct pg_query){.pool = control->pool, .sql = span_of(control->sql)};
    victim->canceled_place = pg_session_place(victim);
    victim->canceled_ms = loop_now_ms(control->pool->loop);
    victim->is_canceling = true;
    victim->load.is_taken = true;
    control->victim = victim;
    control->canceler = canceler;
    control->state = PG_CONTROL_SENT;
    control->pool->counts.cancels_sent++;
    timer_stop(&control->timer);
    if (!pg_session_run(canceler, control->cancel, false))
        log_debug("pg %s: the control session broke", control->pool->name); /* see on_lost() */
}

/* Will it run such a thing? Behind what somebody waits for, whose turn has not come yet. */
static bool has_given_up(const struct pg_session *session)
{
    return !session->is_pinned && pg_flights_has_dead(&session->_flights);
}

/* The first session that runs for long what nobody waits for; NULL: none. *is_young: there is one
 * that may become such. */
static struct pg_session *find_victim(const struct pg_pool *pool, bool *is_young)
{
    *is_young = false;
    for (uint32_t i = 0; i < pool->counts.sessions; i++) {
        struct pg_session *session = pool->sessions[i];
        uint64_t age_us = loop_now_us(pool->loop) - session->load.head_since_us;

        if (session->is_out_of_reach)
            continue;
        if (!is_given_up(session)) {
            *is_young |= has_given_up(session);
            continue;
        }
        if (age_us >= GIVEN_UP_MS * 1000 && !was_canceled(session))
            return session;
        *is_young = true;
    }
    return NULL;
}

/* Where the victim is. */
static void open_errand(struct pg_control *control, const struct pg_session *victim)
{
    const struct pg_wish wish = {.first = control->pool->server, .like = victim->conn};

    control->errand_for = victim->number;
    control->errand_opening = pg_connect_start(control->pool->helpers, control->pool->options,
                                               &wish, on_errand_connected, control->pool);
}

static void let_be(struct pg_control *control, struct pg_session *victim)
{
    log_warn("pg %s: session %u runs what nobody waits for, and its server cannot be reached to "
             "cancel that: its address leads to others; statement_timeout is left",
             control->pool->name, victim->number);
    victim->is_out_of_reach = true;
    victim->expires_ms = loop_now_ms(control->pool->loop); /* another one may be better off */
    look_in(control, 0);
}

/* One more, unless enough of them have gone astray. */
static void send_errand(struct pg_control *control, struct pg_session *victim)
{
    bool was_sent = control->errand != NULL && control->errand_for == victim->number;

    control->errands_astray = was_sent ? control->errands_astray + 1 : 0;
    close_one(control, control->errand);
    if (control->errands_astray < ERRANDS_MAX)
        open_errand(control, victim);
    else
        let_be(control, victim);
}

/* Process ids are a server's own: the cancel is asked for on that of the victim. */
static void reach(struct pg_control *control, struct pg_session *victim)
{
    if (control->session != NULL && pg_session_is_beside(control->session, victim)) {
        cancel(control, control->session, victim);
    } else if (control->errand != NULL && pg_session_is_beside(control->errand, victim)) {
        cancel(control, control->errand, victim);
    } else if (control->errand_opening == NULL) {
        send_errand(control, victim);
    }
}

static void look(struct pg_control *control)
{
    bool is_young;
    struct pg_session *victim = find_victim(control->pool, &is_young);

    close_spare(control);
    if (victim != NULL)
        reach(control, victim);
    else if (is_young)
        look_in(control, GIVEN_UP_MS);
    else
        control->state = PG_CONTROL_CALM;
}

static void on_timer(struct timer *timer)
{
    struct pg_control *control = CONTAINER_OF(timer, struct pg_control, timer);

    CHECK(control->state == PG_CONTROL_LOOKING);
    look(control);
}

/* Life */

void pg_control_init(struct pg_control *control, struct pg_pool *pool)
{
    *control = (struct pg_control){.pool = pool};
    control->cancel = mem_alloc(sizeof *control->cancel);
}

void pg_control_deinit(struct pg_control *control)
{
    timer_stop(&control->timer);
    timer_stop(&control->open_timer);
    pg_connect_abandon(control->opening);
    pg_connect_abandon(control->errand_opening);
    control->opening = control->errand_opening = NULL;
    close_one(control, control->session);
    close_one(control, control->errand);
    mem_free(control->cancel);
    control->cancel = NULL;
}

void pg_control_open(struct pg_control *control)
{
    const struct pg_wish wish = {.first = control->pool->server,
                                 .addresses = &control->pool->addresses};

    if (control->session != NULL || control->opening != NULL || timer_is_on(&control->open_timer) ||
        !pg_listener_is_wanted(&control->pool->listener))
        return;
    control->opening = pg_connect_start(control->pool->helpers, control->pool->options, &wish,
                                        on_connected, control->pool);
}

void pg_control_move(struct pg_control *control)
{
    if (control->session != NULL)
        lose(control, control->session, "its server takes no writes any more");
}

/* Behind a pooler a session has no process of its own. */
void pg_control_notice(struct pg_control *control)
{
    if (control->state == PG_CONTROL_CALM && control->pool->options->is_prepared)
        look_in(control, GIVEN_UP_MS);
}

void pg_control_forget(struct pg_control *control, const struct pg_session *session)
{
    if (control->victim == session)
        control->victim = NULL;
}
