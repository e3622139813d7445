/* pg/pool.c - a named database: sessions, and the queue before them.
 *
 *   submit ──▶ shared ──┐ end of the turn, pg/dispatch.c ──▶ a session, with others
 *         └──▶ own ─────┤                                ──▶ an idle session, alone
 *         └──▶ a transaction's own line ─────────────────▶ its session
 *
 * What waits too long, or is canceled, leaves its line. A session that breaks answers for what it
 * has in flight and goes; pg/opening.c opens others.
 */
#include "pg/pool.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "pg/plans.h"
#include "pg/private.h"

enum {
    STALL_GRACE_MS = 5000, /* beyond the server's own limit */
    LOOK_MS_MAX = 60000,   /* between looks at an idle session */
    WORN_LIFE_MS = 2000    /* how long one whose buffers grew huge may be used nevertheless */
};

static struct pg_query *query_in(struct list *link)
{
    return link != NULL ? CONTAINER_OF(link, struct pg_query, link) : NULL;
}

/* Lines */

static void on_wait_timer(struct timer *timer);

static bool has_waited(const struct pg_pool *pool, const struct pg_query *query)
{
    return query->queued_ms + pool->options->queue_timeout_ms <= loop_now_ms(pool->loop);
}

/* Whose wait ends first; NULL: nobody waits. Who is run again, of whom there are no more than were
 * in flight, stands before all others, and waits anew. */
static struct pg_query *next_in(const struct list *line)
{
    struct pg_query *next = NULL;

    LIST_EACH (line, link) {
        struct pg_query *query = query_in(link);

        if (next == NULL || query->queued_ms < next->queued_ms)
            next = query;
        if (!query->is_again)
            break;
    }
    return next;
}

/* Lazily: what leaves its line sooner leaves the timer alone. */
static void watch_line(struct pg_pool *pool, const struct list *line)
{
    const struct pg_query *next = next_in(line);
    uint64_t deadline_ms;

    if (next == NULL)
        return;
    deadline_ms = next->queued_ms + pool->options->queue_timeout_ms;
    if (!timer_is_on(&pool->wait_timer) || deadline_ms < pool->wait_timer.deadline_ms)
        timer_start_at(pool->loop, &pool->wait_timer, deadline_ms, on_wait_timer);
}

static void end_waits(struct pg_pool *pool, struct list *line)
{
    struct pg_query *query;
    bool is_down = pool->counts.sessions == 0;

    while ((query = next_in(line)) != NULL && has_waited(pool, query)) {
        pg_pool_withdraw(pool, query);
        pool->counts.refused++;
        pg_query_settle(query, is_down ? ERR_DB_DOWN : ERR_DB_BUSY,
                        is_down ? "pg_down" : "pg_queue_timeout");
    }
    watch_line(pool, line);
}

static void on_wait_timer(struct timer *timer)
{
    struct pg_pool *pool = CONTAINER_OF(timer, struct pg_pool, wait_timer);

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    end_waits(pool, &pool->shared);
    end_waits(pool, &pool->own);
}

static bool wants_own(const struct pg_query *query)
{
    if (query->what == PG_DO_BEGIN || query->stream != NULL || (query->flags & PG_SLOW) != 0)
        return true;
    return pg_dispatch_is_slow(query->statement != NULL
                                   ? query->statement->expected_us
                                   : pg_suspects_expected_us(&query->pool->suspects, query->sql));
}

/* Whoever has the session that is waited for goes on with the loop's next turn. */
static void hold_loop(struct pg_pool *pool, bool should_hold)
{
    if (should_hold && !pool->is_holding)
        loop_hold(pool->loop);
    if (!should_hold && pool->is_holding)
        loop_release(pool->loop);
    pool->is_holding = should_hold;
}

bool pg_pool_submit(struct pg_pool *pool, struct pg_query *query)
{
    CHECK_OBJ(pool, PG_POOL_MAGIC);
    CHECK(query->state == PG_QUERY_QUEUED);
    CHECK(query->pool == pool);
    CHECK(list_is_empty(&query->link));
    /* A transaction can always be ended. */
    if (pool->counts.queued >= pool->options->queue_max &&
        (query->what == PG_DO_RUN || query->begins != NULL))
        return false;
    pool->counts.queued++;
    query->order = ++pool->order;
    query->queued_ms = loop_now_ms(pool->loop);
    query->wants_own = wants_own(query);
    if (query->transaction != NULL) {
        pg_transaction_add(query);
        return true;
    }
    op_line_up(&query->op, &pool->line);
    list_append(query->wants_own ? &pool->own : &pool->shared, &query->link);
    pg_pool_wake(pool);
    return true;
}

void pg_pool_submit_again(struct pg_pool *pool, struct pg_query *query)
{
    CHECK(query->session == NULL);
    CHECK(query->state == PG_QUERY_SENT);
    CHECK(query->transaction == NULL); /* in one, an error has aborted it */
    CHECK(list_is_empty(&query->link));
    query->state = PG_QUERY_QUEUED;
    query->is_again = true;
    query->queued_ms = loop_now_ms(pool->loop); /* what it has run for was no wait */
    pool->counts.queued++;
    list_prepend(query->wants_own ? &pool->own : &pool->shared, &query->link);
    pg_pool_wake(pool);
}

void pg_pool_withdraw(struct pg_pool *pool, struct pg_query *query)
{
    CHECK(query->state == PG_QUERY_QUEUED);
    CHECK(pool->counts.queued > 0);
    list_remove(&query->link);
    pool->counts.queued--;
    if (list_is_empty(&pool->own))
        hold_loop(pool, false);
}

void pg_pool_sent(struct pg_pool *pool, struct pg_query *query)
{
    CHECK(query->session != NULL);
    pg_pool_withdraw(pool, query);
    op_begin(&query->op);
    query->state = PG_QUERY_SENT;
}

/* Dealing out */

/* A transaction that is aborted by a plan out of date is run again: not to meet the next one then,
 * here or on another session. False: the session broke. */
static bool renew_plans(const struct pg_pool *pool, struct pg_session *session)
{
    if (session->plans_round == pool->plans_round)
        return true;
    session->plans_round = pool->plans_round;
    return pg_plans_renew(session);
}

static void run_own(struct pg_pool *pool, struct pg_session *session, struct pg_query *query)
{
    bool is_guarded = (query->flags & PG_READ_ONLY) != 0;

    if (query->what == PG_DO_BEGIN && !renew_plans(pool, session))
        return;
    if (!pg_session_run(session, query, is_guarded))
        return; /* it stays in its line */
    pg_pool_sent(pool, query);
    pool->counts.syncs++;
    if (query->what == PG_DO_BEGIN)
        pg_transaction_pin(query->begins, session);
    else if (query->wants_own)
        session->load.is_taken = true;
}

/* Sends what shares the session's next Sync. False: the session broke, and they wait in their line
 * again, before all others. */
static bool run_batch(struct pg_pool *pool, struct pg_session *session)
{
    uint32_t count = session->batch.count;
    struct list *link;

    if (count == 0)
        return true;
    CHECK(pool->counts.queued >= count);
    LIST_EACH (&session->batch_queries, each) {
        query_in(each)->state = PG_QUERY_SENT;
        op_begin(&query_in(each)->op);
    }
    if (pg_session_run_batch(session)) {
        pool->counts.queued -= count;
        pool->counts.syncs++;
        return true;
    }
    while ((link = list_last(&session->batch_queries)) != NULL) {
        list_remove(link);
        query_in(link)->state = PG_QUERY_QUEUED;
        list_prepend(&pool->shared, link);
    }
    return false;
}

/* And what was held back of those with a Sync of their own. */
static void run_batches(struct pg_pool *pool)
{
    for (uint32_t i = 0; i < pool->counts.sessions; i++) {
        (void)run_batch(pool, pool->sessions[i]);
        pg_cork_pull(&pool->sessions[i]->cork);
        pg_gather_sent(&pool->sessions[i]->gather, pg_session_awaited(pool->sessions[i]));
    }
}

static struct pg_need need_of(const struct pg_query *query)
{
    return (struct pg_need){
        .may_share = (query->flags & PG_READ_ONLY) != 0 && !query->must_run_alone,
        .expected_us = query->statement != NULL ? query->statement->expected_us : 0,
    };
}

/* With others under one Sync at the end of the dealing, or with a Sync of its own at once. */
static void run_shared(struct pg_pool *pool, struct pg_session *session, struct pg_query *query,
                       struct pg_need *need)
{
    need->is_proven = pg_plans_has(session, query);
    switch (pg_dispatch_sync(&session->batch, need)) {
    case PG_SYNC_OWN:
        if (list_last(&pool->shared) != &query->link)
            pg_cork_push(&session->cork);
        run_own(pool, session, query);
        return;
    case PG_SYNC_NEXT:
        if (!run_batch(pool, session))
            return; /* it stays in its line */
        break;
    case PG_SYNC_SHARED:
        break;
    }
    list_remove(&query->link);
    pg_session_join(session, query, need->expected_us);
}

/* Whose turn is it, where one idle session is left? Who came first. */
static bool must_wait(const struct pg_pool *pool, const struct pg_deal *deal,
                      const struct pg_query *query)
{
    const struct pg_query *first = query_in(list_first(&pool->shared));

    return first != NULL && first->order < query->order && pg_dispatch_idle(deal) <= 1;
}

static void deal_own(struct pg_pool *pool, struct pg_deal *deal)
{
    struct pg_query *query;

    while ((query = query_in(list_first(&pool->own))) != NULL) {
        uint32_t index = pg_dispatch_own(deal);

        if (index == PG_NOWHERE || must_wait(pool, deal, query))
            break;
        run_own(pool, pool->sessions[index], query);
    }
    if (query != NULL && !must_wait(pool, deal, query))
        pg_dispatch_drain(deal);
}

static void deal_shared(struct pg_pool *pool, struct pg_deal *deal)
{
    struct pg_query *query;

    while ((query = query_in(list_first(&pool->shared))) != NULL) {
        struct pg_need need = need_of(query);
        uint32_t index = pg_dispatch_shared(deal, &need);

        if (index == PG_NOWHERE)
            break;
        run_shared(pool, pool->sessions[index], query, &need);
    }
}

static void send_transactions(struct pg_pool *pool)
{
    LIST_EACH (&pool->transactions, link)
        pg_transaction_send(CONTAINER_OF(link, struct pg_transaction, link));
}

static void move_away(struct pg_pool *pool);

static void on_turn_end(struct hook *hook)
{
    struct pg_pool *pool = CONTAINER_OF(hook, struct pg_pool, hook);
    struct pg_deal deal = {
        .loads = pool->loads,
        .count = pool->counts.sessions,
        .depth_max = pool->options->depth_max,
        .taken_max = pg_dispatch_taken_max(pool->options->sessions_max),
        .filling = PG_NOWHERE,
        .draining = PG_NOWHERE,
        .now_us = loop_now_us(pool->loop),
    };

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    if (pool->is_moving) {
        move_away(pool);
        deal.count = pool->counts.sessions;
    }
    send_transactions(pool);
    deal_own(pool, &deal);
    deal_shared(pool, &deal);
    run_batches(pool);
    watch_line(pool, &pool->shared);
    watch_line(pool, &pool->own);
    hold_loop(pool, !list_is_empty(&pool->own));
    if (pg_dispatch_idle(&deal) == 0 && !pool->is_winding_up)
        pg_pool_grow(pool); /* one is to be idle for what comes next */
    else
        pg_pool_fill(pool);
}

void pg_pool_wake(struct pg_pool *pool)
{
    hook_start(pool->loop, &pool->hook, on_turn_end);
}

/* Sessions */

static struct pg_pool *pool_of(const struct pg_session *session)
{
    struct pg_pool *pool = session->data;

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    return pool;
}

static void close_session(struct pg_pool *pool, struct pg_session *session)
{
    uint32_t index = 0;

    while (index < pool->counts.sessions && pool->sessions[index] != session)
        index++;
    CHECK(index < pool->counts.sessions);
    CHECK(pool->counts.sessions_pinned >= session->is_pinned);
    pool->counts.sessions--;
    pool->counts.sessions_pinned -= session->is_pinned;
    pool->sessions[index] = pool->sessions[pool->counts.sessions];
    pool->loads[index] = pool->loads[pool->counts.sessions];
    pg_control_forget(&pool->control, session);
    if (session->transaction != NULL)
        pg_transaction_lost(session->transaction);
    pg_session_destroy(session);
}

static bool is_old(const struct pg_pool *pool, const struct pg_session *session)
{
    return session->expires_ms > 0 && session->expires_ms <= loop_now_ms(pool->loop);
}

static void on_lost(struct pg_session *session, const char *reason)
{
    struct pg_pool *pool = pool_of(session);

    if (session->is_unwanted) {
        log_debug("pg %s: session %u is closed, since %s", pool->name, session->number, reason);
    } else {
        log_warn("pg %s: session %u lost: %s", pool->name, session->number, reason);
        pool->counts.sessions_lost++;
    }
    close_session(pool, session);
    pg_pool_reopen(pool);
    if (!list_is_empty(&pool->shared) || !list_is_empty(&pool->own))
        pg_pool_wake(pool); /* what could not be sent here goes elsewhere */
}

/* Idle, it goes by itself: too large, too old, or not needed any more. */
static void retire(struct pg_pool *pool, struct pg_session *session)
{
    log_debug("pg %s: session %u is closed, since %s", pool->name, session->number,
              session->is_worn        ? "its buffers grew large"
              : is_old(pool, session) ? "it is old"
                                      : "nobody needs it");
    close_session(pool, session);
    pg_pool_fill(pool);
}

/* Back from a transaction, from a slow statement, or from one that was canceled. False: not yet,
 * or it has gone. */
static bool give_back(struct pg_pool *pool, struct pg_session *session)
{
    if (session == pool->control.victim || (session->is_pinned && !session->is_returning))
        return false; /* pg/control.c comes back to it, or the transaction goes on */
    if (session->is_pinned) {
        if (!pg_session_is_clean(session)) {
            on_lost(session, "it was left in a transaction");
            return false;
        }
        if (session->is_touched && !is_old(pool, session)) {
            pg_session_clean(session, true); /* and comes back once more */
            return false;
        }
        CHECK(pool->counts.sessions_pinned > 0);
        pool->counts.sessions_pinned--;
    }
    CHECK(session->transaction == NULL);
    session->is_pinned = session->is_returning = session->is_rolling_back = false;
    session->is_touched = session->is_canceling = session->has_own_limit = false;
    session->load.is_taken = false;
    return true;
}

/* One that is never idle for long has to go, too: it gets nothing new until it is idle. */
static void grow_old(struct pg_pool *pool, struct pg_session *session)
{
    uint64_t end_ms = loop_now_ms(pool->loop) + WORN_LIFE_MS;

    if (session->is_worn && (session->expires_ms == 0 || session->expires_ms > end_ms))
        session->expires_ms = end_ms;
    if (is_old(pool, session))
        session->load.is_taken = true;
}

void pg_pool_room(struct pg_pool *pool, struct pg_session *session)
{
    if (session->transaction != NULL)
        pg_transaction_room(session->transaction);
    grow_old(pool, session);
    if (!list_is_empty(&pool->shared) || !list_is_empty(&pool->own))
        pg_pool_wake(pool);
    if (pg_session_is_idle(session) && give_back(pool, session) && is_old(pool, session))
        retire(pool, session);
}

/* Those that are idle go at once; the others with their last answer. */
static void move_away(struct pg_pool *pool)
{
    pool->is_moving = false;
    pg_control_move(&pool->control);
    for (uint32_t i = pool->counts.sessions; i-- > 0;) {
        struct pg_session *session = pool->sessions[i];

        if (is_old(pool, session) && !session->is_pinned && pg_session_is_idle(session))
            retire(pool, session);
    }
}

void pg_pool_move(struct pg_pool *pool, const struct pg_session *session)
{
    CHECK_OBJ(pool, PG_POOL_MAGIC);
    if (is_old(pool, session))
        return; /* it is known */
    log_warn("pg %s: the server of session %u takes no writes any more: sessions are closed, and "
             "opened where writes are taken",
             pool->name, session->number);
    for (uint32_t i = 0; i < pool->counts.sessions; i++) {
        pool->sessions[i]->expires_ms = loop_now_ms(pool->loop);
        pool->sessions[i]->load.is_taken = true;
    }
    pool->is_moving = true;
    pg_pool_wake(pool);
}

static void on_room(struct pg_session *session)
{
    pg_pool_room(pool_of(session), session);
}

/* How long until it is to be looked at again, where it need not be closed now; 0: it is closed. */
static uint32_t next_look_ms(struct pg_pool *pool, const struct pg_session *session)
{
    uint64_t now_ms = loop_now_ms(pool->loop);
    uint64_t idle_ms = now_ms - session->idle_since_ms;
    uint32_t kept = pool->is_winding_up ? 0 : pool->options->sessions_min;
    uint64_t most_ms = pool->is_winding_up ? 1 : pool->options->idle_timeout_ms;
    uint64_t next_ms = most_ms > idle_ms ? most_ms - idle_ms : most_ms;

    if (session->is_worn || is_old(pool, session))
        return 0;
    if (most_ms > 0 && idle_ms >= most_ms && pool->counts.sessions > kept)
        return 0;
    if (session->expires_ms > 0 && (next_ms == 0 || session->expires_ms - now_ms < next_ms))
        next_ms = session->expires_ms - now_ms;
    return next_ms > 0 && next_ms < LOOK_MS_MAX ? (uint32_t)next_ms : LOOK_MS_MAX;
}

static uint32_t on_idle(struct pg_session *session)
{
    struct pg_pool *pool = pool_of(session);
    uint32_t next_ms = session->is_pinned ? LOOK_MS_MAX : next_look_ms(pool, session);

    if (next_ms == 0)
        retire(pool, session);
    return next_ms;
}

static void on_answer(struct pg_session *session, struct pg_query *query,
                      const struct pg_answer *answer)
{
    pg_query_answered(query, session, answer);
}

static void on_row(struct pg_session *session, struct pg_query *query, struct pg_result *row)
{
    (void)session;
    pg_stream_row(query->stream, row);
}

static void on_rest(struct pg_session *session, struct pg_query *query)
{
    (void)session;
    pg_stream_rest(query->stream);
}

static void on_open(struct pg_session *session, struct pg_query *query, bool is_in)
{
    (void)session;
    pg_stream_ready(query->stream, is_in);
}

static void on_data(struct pg_session *session, struct pg_query *query, struct span data)
{
    (void)session;
    pg_stream_data(query->stream, data);
}

static void on_space(struct pg_session *session, struct pg_query *query)
{
    (void)session;
    pg_copy_space(query->stream);
}

static const struct pg_session_owner session_owner = {
    .on_answer = on_answer,
    .on_open = on_open,
    .on_data = on_data,
    .on_space = on_space,
    .on_row = on_row,
    .on_rest = on_rest,
    .on_room = on_room,
    .on_lost = on_lost,
    .on_idle = on_idle,
};

/* Unprepared, a session has no limit of ours. */
static uint32_t stall_ms(const struct pg_options *options)
{
    if (!options->is_prepared || options->statement_timeout_ms == 0)
        return 0;
    return options->statement_timeout_ms + STALL_GRACE_MS;
}

void pg_pool_add(struct pg_pool *pool, struct pg_conn *conn, const struct pg_traits *traits)
{
    const struct pg_options *options = pool->options;
    const struct pg_session_options session_options = {
        .result_max = options->result_max,
        .depth_max = options->depth_max,
        .stall_ms = stall_ms(options),
        .number = ++pool->open_number,
        .is_prepared = options->is_prepared,
        .is_direct = traits->is_direct,
        .checks_client = traits->checks_client,
        .server_us = traits->server_us,
    };
    struct pg_session *session;

    CHECK(pool->counts.sessions < options->sessions_max);
    session = pg_session_create(pool->loop, conn, &session_options, &session_owner, pool);
    session->expires_ms = pg_pool_expiry_ms(pool);
    session->plans_round = pool->plans_round;
    pool->sessions[pool->counts.sessions] = session;
    pool->loads[pool->counts.sessions++] = &session->load;
    pool->counts.sessions_opened++;
    pg_pool_wake(pool);
}

/* Life */

struct pg_pool *pg_pool_create(struct loop *loop, struct helpers *helpers, const char *name,
                               const struct pg_options *options)
{
    struct pg_pool *pool = mem_alloc(sizeof *pool);

    CHECK(loop != NULL);
    CHECK(helpers != NULL);
    CHECK(options->sessions_max > 0);
    CHECK(options->depth_max > 0);
    pool->magic = PG_POOL_MAGIC;
    pool->loop = loop;
    pool->helpers = helpers;
    pool->name = mem_copy(span_of(name));
    pool->options = options;
    pool->aim = pg_parameters_aim(options);
    pool->sessions = mem_calloc(options->sessions_max, sizeof *pool->sessions);
    pool->loads = mem_calloc(options->sessions_max, sizeof *pool->loads);
    list_init(&pool->shared);
    list_init(&pool->own);
    list_init(&pool->transactions);
    pool->line = (struct line){.kind = "pg", .name = pool->name, .places = options->sessions_max};
    pg_control_init(&pool->control, pool);
    pg_listener_init(&pool->listener, pool);
    pg_suspects_init(&pool->suspects);
    return pool;
}

void pg_pool_start(struct pg_pool *pool)
{
    CHECK_OBJ(pool, PG_POOL_MAGIC);
    pool->is_started = true;
    pg_pool_fill(pool);
}

void pg_pool_wind_up(struct pg_pool *pool, bool is_so)
{
    CHECK_OBJ(pool, PG_POOL_MAGIC);
    pool->is_winding_up = is_so;
    for (uint32_t i = 0; i < pool->counts.sessions; i++)
        pg_session_look(pool->sessions[i]);
    pg_pool_fill(pool);
}

void pg_pool_destroy(struct pg_pool *pool)
{
    if (pool == NULL)
        return;
    CHECK_OBJ(pool, PG_POOL_MAGIC);
    CHECK(pool->pending == 0);
    CHECK(pool->counts.queued == 0);
    pg_pool_abandon(pool);
    pg_control_deinit(&pool->control);
    pg_listener_deinit(&pool->listener);
    while (pool->counts.sessions > 0)
        close_session(pool, pool->sessions[0]);
    hook_stop(&pool->hook);
    hold_loop(pool, false);
    timer_stop(&pool->wait_timer);
    line_deinit(&pool->line);
    pg_statements_deinit(&pool->statements);
    pg_suspects_deinit(&pool->suspects);
    mem_free(pool->sessions);
    mem_free(pool->loads);
    mem_free(pool->name);
    pool->magic = 0;
    mem_free(pool);
}

const char *pg_pool_name(const struct pg_pool *pool)
{
    CHECK_OBJ(pool, PG_POOL_MAGIC);
    return pool->name;
}

const struct pg_pool_counts *pg_pool_counts(struct pg_pool *pool)
{
    CHECK_OBJ(pool, PG_POOL_MAGIC);
    pool->counts.in_flight = 0;
    for (uint32_t i = 0; i < pool->counts.sessions; i++)
        pool->counts.in_flight += pool->loads[i]->statements;
    return &pool->counts;
}

enum err pg_pool_declare(struct pg_pool *pool, const char *name, const char *sql, uint32_t flags,
                         const struct pg_statement **statement)
{
    struct pg_statement *declared = NULL;
    enum err err;

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    CHECK(name != NULL && sql != NULL);
    if (pg_is_refused_in_transaction(span_of(sql)) != NULL)
        return ERR_INVALID;
    err = pg_statements_declare(&pool->statements, pool, name, sql, flags, &declared);
    if (err == ERR_OK)
        *statement = declared;
    return err;
}
