/* http/server_conn.c - one client's connection: bytes in, states, limits, and how it ends.
 *
 *   IDLE ──▶ HEAD ──▶ BODY ──▶ IDLE         a request after the other; BODY: the rest of a message,
 *     └───────────────▶│                     be it empty
 *                      ├──▶ DISCARD ──▶ IDLE its request is answered already, the rest is dropped
 *   any of these ──▶ LAST                    no further request is read; answers still go out
 *   LAST ──▶ LINGER                          all is answered, but bytes may be under way: a close
 *                                            would reset the connection under the last answer
 *   LAST, LINGER, IDLE, or a failure in any ──▶ closed, and freed
 *
 * One recv's bytes are parsed in one loop; answers gather in the stream and leave with one send at
 * the end of the turn. The loop stops while too many requests wait, while one must wait for those
 * before it, or while the client takes no answers: then bytes stay where they are, down to the
 * client's TCP window.
 *
 * FIN: what was received is served. Requests whose handlers wait are canceled (the client is gone),
 * unless FIN was there when they started, or their route says FINISH; the connection is closed
 * then, and what came behind such a request is lost with it, since answers keep their order.
 *
 * There is one timer. It is never later than the limit that is next, and often earlier: then it
 * finds nothing wrong and is set anew, so that activity costs no more than a number.
 */
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/body.h"
#include "http/inside.h"

enum {
    IN_MIN = 16384,        /* bytes that are read ahead, at least */
    UNSENT_MAX = 262144,   /* with more than these unsent, no further request is read */
    DISCARD_MAX = 65536,   /* of a body that nobody wants; more of it ends the connection */
    LINGER_MS = 5000,      /* in all */
    LINGER_IDLE_MS = 1000, /* without a byte */
    LINGER_MAX = 1 << 20,  /* bytes */
    DRAIN_GRACE_MS = 250   /* a request that is on its way to an idle connection */
};

#define NEVER UINT64_MAX

static const struct {
    const char *name;
    unsigned next; /* the states that may follow, one bit each */
} states[] = {
    [CONN_IDLE] = {"idle", 1u << CONN_HEAD | 1u << CONN_BODY | 1u << CONN_LAST},
    [CONN_HEAD] = {"head", 1u << CONN_BODY | 1u << CONN_LAST},
    [CONN_BODY] = {"body", 1u << CONN_IDLE | 1u << CONN_DISCARD | 1u << CONN_LAST},
    [CONN_DISCARD] = {"discard", 1u << CONN_IDLE | 1u << CONN_LAST},
    [CONN_LAST] = {"last", 1u << CONN_LINGER},
    [CONN_LINGER] = {"linger", 0},
};

static void move(struct http_conn *conn, enum http_conn_state state)
{
    CHECK((states[conn->state].next & 1u << state) != 0);
    log_trace("http %d: %s -> %s", conn->stream.fd, states[conn->state].name, states[state].name);
    conn->state = (uint8_t)state;
}

static uint64_t now_us(const struct http_conn *conn)
{
    return loop_now_us(conn->server->loop);
}

/* No further request is read. In the middle of a message the client may still be sending. */
static void stop_reading(struct http_conn *conn)
{
    if (conn->state >= CONN_LAST)
        return;
    conn->must_linger |= conn->state != CONN_IDLE;
    conn->reading = NULL;
    move(conn, CONN_LAST);
}

/* ---- limits ---- */

static uint64_t after(uint64_t since_us, uint32_t ms)
{
    return (since_us + 999) / 1000 + ms;
}

static uint64_t soonest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When the client has been idle for too long. */
static uint64_t idle_due_ms(const struct http_conn *conn)
{
    const struct http_server *server = conn->server;
    uint64_t due = after(conn->since_us, server->options->idle_timeout_ms);

    if (!list_is_empty(&conn->pipeline))
        return NEVER;
    return server->is_draining ? soonest(due, server->draining_since_ms + DRAIN_GRACE_MS) : due;
}

/* When the rest of a body has been due for too long; not while it is us who don't take it. */
static uint64_t body_due_ms(const struct http_conn *conn)
{
    const struct http_request *reading = conn->reading;

    if (reading != NULL && (reading->_expects_word || http_body_is_full(reading)))
        return NEVER;
    return after(conn->heard_us, conn->server->options->body_timeout_ms);
}

/* When the limit of the state is reached. */
static uint64_t state_due_ms(const struct http_conn *conn)
{
    switch ((enum http_conn_state)conn->state) {
    case CONN_IDLE:
        return idle_due_ms(conn);
    case CONN_HEAD:
        return after(conn->since_us, conn->server->options->header_timeout_ms);
    case CONN_BODY:
    case CONN_DISCARD:
        return body_due_ms(conn);
    case CONN_LAST:
        return NEVER;
    case CONN_LINGER:
        return soonest(after(conn->since_us, LINGER_MS), after(conn->heard_us, LINGER_IDLE_MS));
    }
    return NEVER;
}

static uint64_t write_due_ms(const struct http_conn *conn)
{
    if (stream_unsent(&conn->stream) == 0)
        return NEVER;
    return conn->stream.progress_ms + conn->server->options->write_timeout_ms;
}

static void on_timer(struct timer *timer);

/* Has the timer run at `due_ms` or before. */
static void arm(struct http_conn *conn, uint64_t due_ms)
{
    if (due_ms != NEVER && (!timer_is_on(&conn->timer) || due_ms < conn->timer.deadline_ms))
        timer_start_at(conn->server->loop, &conn->timer, due_ms, on_timer);
}

/* ---- the end ---- */

void http_conn_close(struct http_conn *conn, enum scope_why why)
{
    struct http_server *server = conn->server;

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    CHECK(!conn->is_parsing);
    http_pipeline_drop(conn, why);
    timer_stop(&conn->timer);
    ready_stop(&conn->step);
    stream_close(&conn->stream);
    list_remove(&conn->_link);
    conn->magic = 0;
    mem_free(conn);
    CHECK(server->counts->connections_open > 0);
    server->counts->connections_open--;
    if (server->setup.on_room != NULL)
        server->setup.on_room(server->setup.data);
    http_server_lost(server);
}

/* All is answered, and nothing more is read. The functions down to settle() may free `conn`. */
static void part(struct http_conn *conn)
{
    bool is_heard = !conn->is_ended && (conn->must_linger || conn->stream.in.len > 0);

    if (is_heard) {
        move(conn, CONN_LINGER);
        conn->since_us = conn->heard_us = now_us(conn);
        conn->discarded = 0;
        buf_consume(&conn->stream.in, conn->stream.in.len);
        stream_shutdown(&conn->stream);
        arm(conn, state_due_ms(conn));
        return;
    }
    stream_flush_now(&conn->stream);
    if (stream_unsent(&conn->stream) == 0)
        http_conn_close(conn, SCOPE_CLIENT_GONE);
}

/* After anything that happened: is it over, and if not, how long may it go on like this? */
static void settle(struct http_conn *conn)
{
    if (conn->is_cut)
        stop_reading(conn);
    if (conn->state == CONN_LAST && list_is_empty(&conn->pipeline))
        part(conn);
    else
        arm(conn, state_due_ms(conn));
}

/* ---- events of the parser ---- */

static bool is_streaming(const struct http_request *request)
{
    return (request->match.route->flags & HTTP_ROUTE_STREAM_BODY) != 0;
}

static void start_or_hold(struct http_conn *conn, struct http_request *request)
{
    if (http_pipeline_may_start(conn, request)) {
        conn->held = NULL;
        http_request_start(request);
    } else {
        conn->held = request;
    }
}

/* The client may wait for our word: not where its body is under way already. */
static void let_body_come(struct http_conn *conn, struct http_request *request)
{
    if (!request->_expects_word)
        return;
    request->_expects_word = false;
    conn->heard_us = now_us(conn);
    if (conn->stream.in.len == 0)
        http_pipeline_continue(request);
}

static void on_head(struct http_conn *conn)
{
    const struct http_head *head = conn->parser.head;
    struct http_request *request = http_request_make(conn, head);

    conn->is_final = !head->is_persistent;
    conn->heard_us = now_us(conn);
    conn->reading = request;
    request->is_body_complete = !head->has_body;
    move(conn, CONN_BODY);
    if (!http_request_admit(request, head)) {
        if (conn->reading == request)
            http_conn_skip_body(conn, request);
        http_request_reap(request);
        return;
    }
    if (!head->has_body)
        return;
    http_parser_limit_chunks(&conn->parser, request->_body_max);
    if (is_streaming(request))
        start_or_hold(conn, request);
    else
        let_body_come(conn, request);
}

/* Answers a request for which nothing more is read. */
static void refuse_reading(struct http_conn *conn, uint32_t code, const char *why,
                           struct span detail)
{
    struct http_request *request = conn->reading;

    request->must_close = true;
    stop_reading(conn);
    http_request_refuse(request, code, why, detail);
}

/* What is read is of no use any more: neither is what its handler waits for. */
static void fail_reading(struct http_conn *conn, enum err err)
{
    struct http_request *request = conn->reading;

    request->must_close = true;
    stop_reading(conn);
    http_body_fail(request, err);
}

static void on_body(struct http_conn *conn, struct span bytes)
{
    conn->heard_us = now_us(conn);
    if (conn->reading == NULL) {
        conn->discarded += (uint32_t)bytes.len;
        if (conn->discarded > DISCARD_MAX)
            stop_reading(conn);
        return;
    }
    http_body_receive(conn->reading, bytes);
}

static void on_message_end(struct http_conn *conn)
{
    struct http_request *request = conn->reading;

    conn->reading = NULL;
    conn->since_us = now_us(conn);
    move(conn, conn->is_final ? CONN_LAST : CONN_IDLE);
    if (request == NULL)
        return;
    http_body_complete(request);
    if (!http_request_is_started(request))
        start_or_hold(conn, request);
}

/* A head that will never be one: its answer needs a request all the same. */
static void answer_headless(struct http_conn *conn, uint32_t code, const char *why,
                            struct span detail)
{
    const struct buf *in = &conn->stream.in;
    struct http_request *request = http_request_make(conn, NULL);

    request->is_head = in->len > 5 && memcmp(in->data, "HEAD ", 5) == 0;
    request->is_body_complete = true;
    request->must_close = true;
    stop_reading(conn);
    http_request_refuse(request, code, why, detail);
}

static void log_refusal(const struct http_conn *conn, const struct guard_rule *rule)
{
    struct addr addr = {.len = conn->peer_len};
    char peer[ADDR_TEXT_SIZE];

    memcpy(&addr.storage, conn->peer, conn->peer_len);
    addr_format(&addr, peer);
    log_fields(LOG_INFO,
               LOG_FIELDS({"peer", span_of(peer)}, {"rule", span_of(rule->token)},
                          {"rfc", span_of(rule->section)}),
               "http: request refused with %u: %s", rule->status, rule->text);
}

static void on_refused(struct http_conn *conn)
{
    const struct guard_rule *rule = guard_rule(conn->parser.refused);

    log_refusal(conn, rule);
    conn->must_linger = true;
    if (conn->state == CONN_IDLE || conn->state == CONN_HEAD)
        answer_headless(conn, rule->status, rule->token, span_of(rule->text));
    else if (conn->reading == NULL)
        stop_reading(conn);
    else if (http_request_is_started(conn->reading))
        fail_reading(conn, rule->status == 413 ? ERR_BODY_TOO_BIG : ERR_BAD_REQUEST);
    else
        refuse_reading(conn, rule->status, rule->token, span_of(rule->text));
}

/* FIN came, and all before it was looked at: what is incomplete stays so. */
static void cut_off(struct http_conn *conn)
{
    struct http_request *request = conn->reading;

    if (request != NULL && http_request_is_started(request)) {
        fail_reading(conn, ERR_CLOSED);
        return;
    }
    stop_reading(conn);
    if (request == NULL)
        return;
    http_pipeline_remove(conn, request);
    http_request_lose(request, SCOPE_CLIENT_GONE);
}

static void on_more(struct http_conn *conn)
{
    if (conn->is_ended) {
        cut_off(conn);
    } else if (conn->state == CONN_IDLE && conn->stream.in.len > 0) {
        move(conn, CONN_HEAD);
        conn->since_us = now_us(conn);
    }
}

/* ---- the parse loop ---- */

/* Does the client take its answers? What has gathered in this turn is tried first: on_drained tells
 * only of what the kernel did not take. */
static bool is_taking(struct http_conn *conn)
{
    if (stream_unsent(&conn->stream) >= UNSENT_MAX)
        stream_flush_now(&conn->stream);
    return stream_unsent(&conn->stream) < UNSENT_MAX;
}

static bool may_parse(struct http_conn *conn)
{
    switch ((enum http_conn_state)conn->state) {
    case CONN_IDLE:
        return conn->held == NULL && conn->open < conn->server->options->pipelined_max &&
               !conn->is_cut && is_taking(conn);
    case CONN_BODY:
        return conn->reading == NULL || !http_body_is_full(conn->reading);
    case CONN_HEAD:
    case CONN_DISCARD:
        return true;
    case CONN_LAST:
    case CONN_LINGER:
        break;
    }
    return false;
}

/* Takes one event. False: there is none. */
static bool parse_next(struct http_conn *conn)
{
    struct span bytes;

    switch (http_parser_next(&conn->parser, &conn->stream.in, &bytes)) {
    case HTTP_EVENT_MORE:
        on_more(conn);
        return false;
    case HTTP_EVENT_HEAD:
        on_head(conn);
        return true;
    case HTTP_EVENT_BODY:
        on_body(conn, bytes);
        return true;
    case HTTP_EVENT_END:
        on_message_end(conn);
        return true;
    case HTTP_EVENT_REFUSED:
        on_refused(conn);
        return false;
    }
    return false;
}

static void start_held(struct http_conn *conn)
{
    struct http_request *held = conn->held;

    if (held == NULL || conn->is_cut || !http_pipeline_may_start(conn, held))
        return;
    conn->held = NULL;
    http_request_start(held);
}

static void parse(struct http_conn *conn)
{
    conn->is_parsing = true;
    start_held(conn);
    while (may_parse(conn) && parse_next(conn))
        start_held(conn);
    conn->is_parsing = false;
}

/* ---- what the stream, the timer and the ready list call ---- */

static void linger_on(struct http_conn *conn)
{
    conn->heard_us = now_us(conn);
    conn->discarded += (uint32_t)conn->stream.in.len;
    buf_consume(&conn->stream.in, conn->stream.in.len);
    if (conn->discarded > LINGER_MAX)
        http_conn_close(conn, SCOPE_CLIENT_GONE);
}

static void on_data(struct stream *stream)
{
    struct http_conn *conn = CONTAINER_OF(stream, struct http_conn, stream);

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    if (conn->state == CONN_LINGER) {
        linger_on(conn);
        return;
    }
    parse(conn);
    settle(conn);
}

/* Cancels what waits for nobody. True: there was something. */
static bool cancel_waiting(struct http_conn *conn)
{
    bool is_any = false;

    LIST_EACH (&conn->pipeline, link) {
        struct http_request *request = CONTAINER_OF(link, struct http_request, _link);

        if (!http_request_is_started(request) || request->reply == HTTP_REPLY_ENDED ||
            request->_is_after_fin || (request->match.route->flags & HTTP_ROUTE_FINISH) != 0)
            continue;
        scope_cancel(request->scope, SCOPE_CLIENT_GONE);
        is_any |= request->scope->why == SCOPE_CLIENT_GONE;
    }
    return is_any;
}

static void on_end(struct stream *stream)
{
    struct http_conn *conn = CONTAINER_OF(stream, struct http_conn, stream);

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    conn->is_ended = true;
    if (conn->state == CONN_LINGER) {
        http_conn_close(conn, SCOPE_CLIENT_GONE);
        return;
    }
    if (cancel_waiting(conn))
        return; /* serve.c is told, and closes the connection */
    parse(conn);
    settle(conn);
}

static void on_fail(struct stream *stream, enum err err)
{
    struct http_conn *conn = CONTAINER_OF(stream, struct http_conn, stream);

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    log_debug("http %d: %s", stream->fd, err_text(err));
    http_conn_close(conn, SCOPE_CLIENT_GONE);
}

static void on_drained(struct stream *stream)
{
    struct http_conn *conn = CONTAINER_OF(stream, struct http_conn, stream);

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    if (conn->state == CONN_LINGER)
        return;
    if (conn->state == CONN_IDLE)
        conn->since_us = now_us(conn);
    parse(conn);
    settle(conn);
}

static const struct stream_handler stream_handler = {
    .on_data = on_data, .on_end = on_end, .on_fail = on_fail, .on_drained = on_drained};

static void on_step(struct ready *ready)
{
    struct http_conn *conn = CONTAINER_OF(ready, struct http_conn, step);
    bool was_full = conn->stream.in.len >= conn->stream.in_max;

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    if (conn->state == CONN_LINGER)
        return;
    parse(conn);
    if (was_full && conn->stream.in.len < conn->stream.in_max)
        stream_resume(&conn->stream);
    settle(conn);
}

/* The client did not take a byte for too long: what it is owed it will not get. */
static void give_up_writing(struct http_conn *conn)
{
    LIST_EACH (&conn->pipeline, link) {
        struct http_request *request = CONTAINER_OF(link, struct http_request, _link);

        if (request->why == NULL)
            request->why = "write_timeout";
    }
    http_conn_close(conn, SCOPE_CLIENT_GONE);
}

/* The limit of the state is reached. */
static void expire(struct http_conn *conn)
{
    switch ((enum http_conn_state)conn->state) {
    case CONN_IDLE:
    case CONN_LINGER:
        http_conn_close(conn, SCOPE_CLIENT_GONE);
        return;
    case CONN_HEAD:
        answer_headless(conn, 408, "header_timeout", SPAN("the head did not come in time"));
        break;
    case CONN_BODY:
        CHECK(conn->reading != NULL);
        if (http_request_is_started(conn->reading))
            fail_reading(conn, ERR_TIMED_OUT);
        else
            refuse_reading(conn, 408, "body_timeout", SPAN("the body did not come in time"));
        break;
    case CONN_DISCARD:
    case CONN_LAST:
        stop_reading(conn);
        break;
    }
    settle(conn);
}

static void on_timer(struct timer *timer)
{
    struct http_conn *conn = CONTAINER_OF(timer, struct http_conn, timer);
    uint64_t now_ms = loop_now_ms(conn->server->loop);

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    if (conn->state == CONN_IDLE && stream_unsent(&conn->stream) > 0)
        conn->since_us = now_us(conn); /* one that is still taking an answer is not idle */
    if (write_due_ms(conn) <= now_ms)
        stream_flush_now(&conn->stream); /* perhaps it was written a moment ago */
    if (write_due_ms(conn) <= now_ms)
        give_up_writing(conn);
    else if (state_due_ms(conn) <= now_ms)
        expire(conn);
    else
        arm(conn, soonest(write_due_ms(conn), state_due_ms(conn)));
}

/* ---- for the other files ---- */

void http_conn_start(struct http_server *server, int fd, const struct addr *peer)
{
    struct http_conn *conn = mem_alloc(sizeof(*conn));
    size_t in_max = server->limits.head_bytes_max;

    conn->magic = HTTP_CONN_MAGIC;
    conn->server = server;
    conn->state = CONN_IDLE;
    list_init(&conn->pipeline);
    list_append(&server->conns, &conn->_link);
    /* The address of a client on a Unix socket has no name, but perhaps a long path. */
    conn->peer_len =
        (unsigned char)(peer->len <= sizeof(conn->peer) ? peer->len : sizeof(sa_family_t));
    memcpy(conn->peer, &peer->storage, conn->peer_len);
    http_parser_init(&conn->parser, HTTP_PARSE_REQUESTS, server->head, &server->limits);
    stream_start(server->loop, &conn->stream, fd, &server->buffers,
                 in_max > IN_MIN ? in_max : IN_MIN, &stream_handler);
    conn->since_us = now_us(conn);
    arm(conn, state_due_ms(conn));
    server->counts->connections++;
    server->counts->connections_open++;
}

void http_conn_wake(struct http_conn *conn)
{
    ready_start(conn->server->loop, &conn->step, on_step);
}

void http_conn_drain(struct http_conn *conn)
{
    arm(conn, state_due_ms(conn));
}

void http_conn_wrote(struct http_conn *conn)
{
    stream_flush(&conn->stream);
    arm(conn, after(now_us(conn), conn->server->options->write_timeout_ms));
}

void http_conn_want_body(struct http_conn *conn, struct http_request *request)
{
    CHECK(conn->reading == request);
    let_body_come(conn, request);
    if (!conn->is_parsing)
        http_conn_wake(conn);
}

bool http_conn_must_cut(const struct http_conn *conn, const struct http_request *request)
{
    if (conn->reading != request || request->is_body_complete)
        return false;
    return request->_expects_word ||
           request->_body_length - (int64_t)request->body_bytes > DISCARD_MAX;
}

void http_conn_skip_body(struct http_conn *conn, struct http_request *request)
{
    CHECK(conn->reading == request);
    conn->reading = NULL;
    conn->discarded = 0;
    if (request->is_body_complete)
        return; /* its end is what is read next */
    if (request->must_close)
        stop_reading(conn);
    else
        move(conn, CONN_DISCARD);
}
