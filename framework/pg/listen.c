/* pg/listen.c - LISTEN, on the pool's control session.
 *
 *   channel:  OFF ──▶ SENT (LISTEN) ──▶ ON ──▶ LEAVING (UNLISTEN: nobody is left) ──▶ gone
 *              ▲        │ refused         │         │ somebody came meanwhile
 *              └────────┴── session lost ─┴─────────┘
 *
 * Commands stand in a line, so that the session's ring is never full of them. Its news are a list,
 * each with the number of those that have not pulled it: what nobody waits for goes. Where the list
 * is full the oldest goes, and who waited for it has missed it.
 */
#include "pg/listen.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "pg/private.h"
#include "task/scope.h"
#include <stdio.h>
#include <string.h>

enum {
    COMMANDS_MAX = 8,                                      /* on their way at once */
    SQL_SIZE = sizeof "unlisten \"\"" + 2 * PG_CHANNEL_MAX /* of the longest command */
};

enum channel_state { OFF, SENT, ON, LEAVING };

struct pg_channel {
    struct list link;         /* among the listener's */
    struct list line;         /* in the line for the session */
    enum channel_state state; /* see above */
    struct pg_pool *pool;     /* whose */
    char name[PG_CHANNEL_MAX + 1];
    char sql[SQL_SIZE];     /* SENT, LEAVING: the command under way */
    struct pg_query query;  /* the same, as a session knows it; it has no op */
    struct list listenings; /* struct pg_listening */
    struct list news;       /* struct pg_news, the oldest first */
    uint32_t news_count;    /* of these */
};

struct pg_news {
    struct list link;    /* in the channel's list */
    uint32_t waiting;    /* who has not pulled it */
    struct span payload; /* behind the struct, with a NUL */
};

struct pg_listening {
    struct op op;               /* first: pending until the server listens */
    struct pg_channel *channel; /* NULL: failed, or gone */
    struct list link;           /* in the channel's list */
    struct timer timer;         /* pending: the longest wait */
    struct pg_news *next;       /* not pulled; NULL: all are */
    bool has_missed;            /* and was not told */
    struct pg_hearing *pull;    /* the last one; NULL: none, or it was released */
    struct buf payload;         /* what it brought, with a NUL */
};

struct pg_hearing {
    struct op op;                   /* first */
    struct pg_listening *listening; /* NULL: it has gone, or there was a later pull */
};

static struct pg_listening *listening_of(const struct op *op)
{
    return CONTAINER_OF(op, struct pg_listening, op);
}

static struct pg_hearing *hearing_of(const struct op *op)
{
    return CONTAINER_OF(op, struct pg_hearing, op);
}

/* News */

static void drop_news(struct pg_channel *channel, struct pg_news *news)
{
    CHECK(news->waiting == 0);
    CHECK(channel->news_count > 0);
    list_remove(&news->link);
    channel->news_count--;
    mem_free(news);
}

/* It has pulled its next one, or never will. */
static void advance(struct pg_listening *listening)
{
    struct pg_channel *channel = listening->channel;
    struct pg_news *news = listening->next;
    struct list *link = news->link.next;

    CHECK(channel != NULL);
    CHECK(news->waiting > 0);
    listening->next = link != &channel->news ? CONTAINER_OF(link, struct pg_news, link) : NULL;
    if (--news->waiting == 0)
        drop_news(channel, news);
}

static bool is_pulled(const struct pg_listening *listening)
{
    return listening->pull != NULL && listening->pull->op.state == OP_PENDING;
}

/* Settles its pull, if there is one and something for it. */
static void deliver(struct pg_listening *listening)
{
    struct buf *payload = &listening->payload;
    struct op *op;

    if (!is_pulled(listening) || (!listening->has_missed && listening->next == NULL))
        return;
    op = &listening->pull->op;
    buf_consume(payload, payload->len);
    if (listening->has_missed) {
        listening->has_missed = false;
    } else {
        struct span next = listening->next->payload;

        buf_append(payload, (struct span){next.ptr, next.len + 1});
        op->piece = (struct span){payload->data, next.len};
        advance(listening);
    }
    op_finish(op, ERR_OK, NULL);
}

static void drop_oldest(struct pg_channel *channel)
{
    const struct pg_news *oldest = CONTAINER_OF(list_first(&channel->news), struct pg_news, link);
    uint32_t count = channel->news_count;

    LIST_EACH (&channel->listenings, link) {
        struct pg_listening *listening = CONTAINER_OF(link, struct pg_listening, link);

        if (listening->next != oldest)
            continue;
        listening->has_missed = true;
        advance(listening); /* the last one frees it */
    }
    CHECK(channel->news_count == count - 1);
}

/* Tells all who listen already of one more; NULL: that they may have missed some. */
static void spread(struct pg_channel *channel, struct pg_news *news)
{
    LIST_EACH (&channel->listenings, link) {
        struct pg_listening *listening = CONTAINER_OF(link, struct pg_listening, link);

        if (listening->op.state == OP_PENDING)
            continue;
        if (news == NULL)
            listening->has_missed = true;
        else
            news->waiting++;
        if (listening->next == NULL)
            listening->next = news;
    }
}

static void deliver_all(struct pg_channel *channel)
{
    LIST_EACH (&channel->listenings, link)
        deliver(CONTAINER_OF(link, struct pg_listening, link));
}

static void add_news(struct pg_channel *channel, struct span payload)
{
    struct pg_news *news = mem_alloc(sizeof *news + payload.len + 1);
    char *copy = (char *)(news + 1);

    *news = (struct pg_news){.payload = {copy, payload.len}};
    memcpy(copy, payload.ptr, payload.len);
    copy[payload.len] = '\0';
    if (channel->news_count >= channel->pool->options->notify_queue)
        drop_oldest(channel);
    list_append(&channel->news, &news->link);
    channel->news_count++;
    spread(channel, news);
    if (news->waiting == 0)
        drop_news(channel, news);
}

void pg_listener_heard(struct pg_listener *listener, struct span name, struct span payload)
{
    struct pg_channel *channel = table_get(&listener->by_name, name);

    if (channel == NULL)
        return; /* nobody is left */
    if (payload.len > PG_PAYLOAD_MAX) {
        log_warn("pg %s: a notification of %zu bytes was dropped", channel->pool->name,
                 payload.len);
        spread(channel, NULL);
    } else {
        add_news(channel, payload);
    }
    deliver_all(channel);
}

/* Channels */

static struct pg_channel *make_channel(struct pg_listener *listener, struct span name)
{
    struct pg_channel *channel = mem_alloc(sizeof *channel);

    *channel = (struct pg_channel){.pool = listener->pool};
    memcpy(channel->name, name.ptr, name.len);
    list_init(&channel->line);
    list_init(&channel->listenings);
    list_init(&channel->news);
    list_append(&listener->channels, &channel->link);
    (void)table_set(&listener->by_name, name, channel);
    return channel;
}

static void free_channel(struct pg_listener *listener, struct pg_channel *channel)
{
    CHECK(list_is_empty(&channel->listenings));
    CHECK(list_is_empty(&channel->news));
    list_remove(&channel->line);
    list_remove(&channel->link);
    (void)table_remove(&listener->by_name, span_of(channel->name));
    mem_free(channel);
}

/* A name within quotes, and so as it is. */
static void write_command(struct pg_channel *channel, const char *verb)
{
    char *out = channel->sql + snprintf(channel->sql, SQL_SIZE, "%s \"", verb);

    for (const char *at = channel->name; *at != '\0'; at++) {
        if (*at == '"')
            *out++ = '"';
        *out++ = *at;
    }
    *out++ = '"';
    *out = '\0';
}

/* False: the session broke, of which pg_listener_lost() will tell. */
static bool send_command(struct pg_channel *channel, struct pg_session *session,
                         enum channel_state state)
{
    CHECK(state == SENT ? channel->state == OFF : channel->state == ON);
    write_command(channel, state == SENT ? "listen" : "unlisten");
    channel->query = (struct pg_query){.pool = channel->pool, .sql = span_of(channel->sql)};
    if (!pg_session_run(session, &channel->query, false))
        return false;
    channel->state = state;
    return true;
}

/* Says to the server what stands in the line, a few at a time. */
static void go_on(struct pg_listener *listener)
{
    struct list *link;

    while (listener->is_open && listener->commands < COMMANDS_MAX &&
           (link = list_first(&listener->line)) != NULL) {
        struct pg_channel *channel = CONTAINER_OF(link, struct pg_channel, line);
        bool is_wanted = !list_is_empty(&channel->listenings);

        CHECK(channel->state == OFF || channel->state == ON);
        list_remove(link);
        if (is_wanted == (channel->state == ON))
            continue; /* it was changed back meanwhile */
        listener->is_open =
            send_command(channel, listener->pool->control.session, is_wanted ? SENT : LEAVING);
        listener->commands += listener->is_open;
    }
}

static void enter_line(struct pg_listener *listener, struct pg_channel *channel)
{
    list_remove(&channel->line);
    list_append(&listener->line, &channel->line);
}

/* Nobody listens to it any more, or somebody does. */
static void review(struct pg_listener *listener, struct pg_channel *channel)
{
    bool is_wanted = !list_is_empty(&channel->listenings);

    if (channel->state == OFF && !is_wanted)
        free_channel(listener, channel);
    else if (is_wanted ? channel->state == OFF : channel->state == ON)
        enter_line(listener, channel);
}

/* Who listens */

static void detach(struct pg_listening *listening)
{
    timer_stop(&listening->timer);
    while (listening->next != NULL)
        advance(listening);
    list_remove(&listening->link);
    listening->channel = NULL;
}

static void leave(struct pg_listening *listening)
{
    struct pg_channel *channel = listening->channel;
    struct pg_listener *listener;

    if (channel == NULL)
        return;
    listener = &channel->pool->listener;
    detach(listening);
    review(listener, channel);
    go_on(listener);
}

static void withdraw(struct op *op)
{
    leave(listening_of(op));
    op_retire(op);
}

/* What it brought is given up. */
static void part(struct pg_hearing *pull)
{
    pull->listening = NULL;
    pull->op.piece = (struct span){NULL, 0};
}

static void release(struct op *op)
{
    struct pg_listening *listening = listening_of(op);
    struct pg_hearing *pull = listening->pull;

    leave(listening);
    if (is_pulled(listening))
        op_finish(&pull->op, ERR_STATE, NULL);
    if (pull != NULL)
        part(pull);
    listening->pull = NULL;
    buf_release(&listening->payload);
}

static const struct op_kind listening_kind = {
    .name = "pg listen",
    .account = SCOPE_TIME_PG,
    .withdraw = withdraw,
    .release = release,
};

static void on_late(struct timer *timer)
{
    struct pg_listening *listening = CONTAINER_OF(timer, struct pg_listening, timer);
    struct span problem = span_of(listening->channel->pool->listener.problem);

    CHECK(listening->op.state == OP_PENDING);
    op_explain(&listening->op,
               problem.len > 0 ? problem : SPAN("the session for notifications is not open"));
    leave(listening);
    op_finish(&listening->op, ERR_DB_DOWN, "pg_down");
}

/* What the control session tells */

/* The server listens: also for those who listened before the session broke. */
static void begin(struct pg_channel *channel)
{
    channel->state = ON;
    spread(channel, NULL);
    LIST_EACH (&channel->listenings, link) {
        struct pg_listening *listening = CONTAINER_OF(link, struct pg_listening, link);

        if (listening->op.state != OP_PENDING)
            continue;
        timer_stop(&listening->timer);
        op_finish(&listening->op, ERR_OK, NULL);
    }
    deliver_all(channel);
}

/* The server does not. Those who listened before will do so again, perhaps to another server. */
static void refuse(struct pg_listener *listener, struct pg_channel *channel,
                   const struct pg_result *result)
{
    struct span message = pg_result_message(result);

    LIST_EACH (&channel->listenings, link) {
        struct pg_listening *listening = CONTAINER_OF(link, struct pg_listening, link);

        if (listening->op.state != OP_PENDING)
            continue;
        detach(listening);
        op_explain(&listening->op, message);
        op_finish(&listening->op, pg_sqlstate_error(pg_result_sqlstate(result)), "pg_error");
    }
    if (list_is_empty(&channel->listenings) || !listener->is_open)
        return;
    listener->is_open = false;
    log_warn("pg %s: LISTEN \"%s\" was refused: %.*s", listener->pool->name, channel->name,
             SPAN_ARG(message));
    pg_session_end(listener->pool->control.session, "LISTEN was refused");
}

void pg_listener_answered(struct pg_listener *listener, struct pg_query *query,
                          const struct pg_answer *answer)
{
    struct pg_channel *channel = CONTAINER_OF(query, struct pg_channel, query);
    bool is_begun = channel->state == SENT && answer->result != NULL;

    CHECK(channel->state == SENT || channel->state == LEAVING);
    CHECK(listener->commands > 0);
    listener->commands--;
    channel->state = OFF;
    listener->is_open &= answer->outcome != PG_LOST; /* pg_listener_lost() comes */
    if (is_begun && pg_result_kind(answer->result) == PG_RESULT_OK)
        begin(channel);
    else if (is_begun)
        refuse(listener, channel, answer->result);
    pg_result_clear(answer->result);
    review(listener, channel);
    go_on(listener);
}

void pg_listener_opened(struct pg_listener *listener)
{
    CHECK(!listener->is_open);
    CHECK(listener->commands == 0);
    if (listener->is_lost)
        log_info("pg %s: notifications are heard again", listener->pool->name);
    listener->is_lost = false;
    listener->is_open = true;
    listener->problem[0] = '\0';
    go_on(listener);
}

void pg_listener_refused(struct pg_listener *listener, const char *problem)
{
    (void)snprintf(listener->problem, sizeof listener->problem, "%s", problem);
}

void pg_listener_lost(struct pg_listener *listener, const char *problem)
{
    listener->is_open = false;
    CHECK(listener->commands == 0);
    LIST_EACH (&listener->channels, link) {
        struct pg_channel *channel = CONTAINER_OF(link, struct pg_channel, link);

        listener->is_lost |= channel->state == ON && !list_is_empty(&channel->listenings);
        channel->state = OFF;
        review(listener, channel);
    }
    if (listener->is_lost)
        log_warn("pg %s: notifications are not heard until the server is reached again: %s",
                 listener->pool->name, problem);
    pg_listener_refused(listener, problem);
}

/* Life */

void pg_listener_init(struct pg_listener *listener, struct pg_pool *pool)
{
    *listener = (struct pg_listener){.pool = pool};
    table_init(&listener->by_name);
    list_init(&listener->channels);
    list_init(&listener->line);
}

void pg_listener_deinit(struct pg_listener *listener)
{
    struct list *link;

    while ((link = list_first(&listener->channels)) != NULL)
        free_channel(listener, CONTAINER_OF(link, struct pg_channel, link));
    table_deinit(&listener->by_name);
}

bool pg_listener_is_wanted(const struct pg_listener *listener)
{
    return !list_is_empty(&listener->channels);
}

/* For users */

static void join(struct pg_listening *listening, struct pg_pool *pool, struct span name)
{
    struct pg_listener *listener = &pool->listener;
    struct pg_channel *channel = table_get(&listener->by_name, name);

    if (channel == NULL)
        channel = make_channel(listener, name);
    listening->channel = channel;
    list_append(&channel->listenings, &listening->link);
    if (channel->state == ON) {
        op_finish(&listening->op, ERR_OK, NULL);
        return;
    }
    timer_start(pool->loop, &listening->timer, pool->options->queue_timeout_ms, on_late);
    review(listener, channel);
    go_on(listener);
    pg_control_open(&pool->control);
}

struct op *pg_listen(struct scope *scope, struct pg_pool *pool, const char *channel)
{
    struct span name = span_of(channel);
    struct pg_listening *listening;

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    if (name.len == 0 || name.len > PG_CHANNEL_MAX)
        return op_failed(scope, ERR_INVALID, "pg_error",
                         SPAN("a channel's name has 1 to 63 bytes"));
    if (!pool->options->is_prepared)
        return op_failed(scope, ERR_UNSUPPORTED, "pg_error",
                         SPAN("behind a pooler (prepared = off) nobody is notified: LISTEN needs a "
                              "pool of its own, straight to the server"));
    listening = scope_alloc(scope, sizeof *listening);
    if (!op_init(&listening->op, scope, &listening_kind))
        return &listening->op;
    op_begin(&listening->op);
    join(listening, pool, name);
    return &listening->op;
}

/* Pulling */

/* None is lost: what is settled has the payload, what is pending nothing yet. */
static void withdraw_hearing(struct op *op)
{
    op_retire(op);
}

static void release_hearing(struct op *op)
{
    struct pg_hearing *pull = hearing_of(op);

    if (pull->listening != NULL)
        pull->listening->pull = NULL;
}

static const struct op_kind hearing_kind = {
    .name = "pg notification",
    .account = -1,
    .withdraw = withdraw_hearing,
    .release = release_hearing,
};

/* Memory for a pull: that of the last one, where nobody looks at it any more, since there may be as
 * many as the plugin likes. */
static struct pg_hearing *make_hearing(struct pg_listening *listening)
{
    struct pg_hearing *last = listening->pull;

    listening->pull = NULL;
    if (last != NULL)
        part(last);
    if (last == NULL || op_release(&last->op) != ERR_OK)
        return scope_alloc(listening->op.scope, sizeof *last);
    memset(last, 0, sizeof *last);
    return last;
}

static struct op *refuse_pull(const struct op *op, const char *why)
{
    return op_failed(op->scope, ERR_STATE, "pg_error", span_of(why));
}

struct op *pg_listen_next(struct op *op)
{
    struct pg_listening *listening = listening_of(op);
    struct pg_hearing *pull;

    if (op->kind != &listening_kind || op->state == OP_PENDING || op->status != ERR_OK)
        return refuse_pull(op, "nothing that listens");
    if (is_pulled(listening))
        return refuse_pull(op, "a pull of these notifications is pending");
    pull = make_hearing(listening);
    if (!op_init(&pull->op, op->scope, &hearing_kind))
        return &pull->op;
    op_begin(&pull->op);
    pull->listening = listening;
    listening->pull = pull;
    deliver(listening);
    return &pull->op;
}
