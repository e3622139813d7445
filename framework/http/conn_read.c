/* http/conn_read.c - what a client's bytes become: requests, bodies, refusals.
 *
 * One recv's bytes are parsed in one loop; answers gather in the stream and leave with one send at
 * the end of the turn. The loop stops while too many requests wait, while one must wait for those
 * before it, or while the client takes no answers: then bytes stay where they are, down to the
 * client's TCP window.
 */
#include "base/check.h"
#include "base/log.h"
#include "http/body.h"
#include "http/inside.h"

enum {
    UNSENT_MAX = 262144, /* with more than these unsent, no further request is read */
    DISCARD_MAX = 65536  /* of a body that nobody wants; more of it ends the connection */
};

static uint64_t now_us(const struct http_conn *conn)
{
    return loop_now_us(conn->server->loop);
}

/* In the middle of a message the client may still be sending. */
void http_conn_stop_reading(struct http_conn *conn)
{
    if (conn->state >= CONN_LAST)
        return;
    conn->must_linger |= conn->state != CONN_IDLE;
    conn->reading = NULL;
    http_conn_move(conn, CONN_LAST);
}
/* ---- events of the parser ---- */

static void start_or_hold(struct http_conn *conn, struct http_request *request)
{
    if (http_pipeline_may_start(conn, request)) {
        conn->held = NULL;
        http_request_start(request);
    } else {
        conn->held = request;
    }
}

/* The client may wait for our word: not where its body is under way already, nor behind the head of
 * its answer, where the word would be taken for a part of that. */
static void let_body_come(struct http_conn *conn, struct http_request *request)
{
    if (!request->_expects_word)
        return;
    request->_expects_word = false;
    http_conn_time_body(conn);
    if (request->reply == HTTP_REPLY_NONE && conn->stream.in.len == 0 && request->body_bytes == 0)
        http_pipeline_continue(request);
}

/* Nobody wants what is read any more. */
static void leave_reading(struct http_conn *conn, struct http_request *request)
{
    if (conn->reading == request)
        http_conn_skip_body(conn, request);
    http_request_reap(request);
}

/* It is to be served: its body may come. */
static void take_body(struct http_conn *conn, struct http_request *request)
{
    if (request->is_body_complete)
        return;
    http_parser_limit_chunks(&conn->intake->parser, request->_body_max);
    if (http_request_streams(request))
        start_or_hold(conn, request);
    else
        let_body_come(conn, request);
}

/* Its filters have let it pass. */
static void enter(struct http_conn *conn, struct http_request *request)
{
    request->_has_passed = false;
    http_conn_time_body(conn);
    if (http_request_admit_route(request))
        take_body(conn, request);
    else
        leave_reading(conn, request);
}

/* The last that the connection may have is told so. */
static void count_request(struct http_conn *conn, struct http_request *request)
{
    uint32_t most = conn->server->options->connection_requests_max;

    if (most == 0 || ++conn->requests < most)
        return;
    conn->is_final = true;
    request->must_close = true;
}

static void on_head(struct http_conn *conn)
{
    const struct http_head *head = conn->intake->parser.head;
    struct http_request *request = http_request_make(conn, head);

    conn->is_final = !head->is_persistent;
    count_request(conn, request);
    conn->intake->heard_us = now_us(conn);
    conn->reading = request;
    request->is_body_complete = !head->has_body;
    http_conn_move(conn, CONN_BODY);
    if (head->has_body) {
        conn->intake->body_bytes = 0;
        http_conn_time_body(conn);
    }
    if (!http_request_admit(request, head)) {
        leave_reading(conn, request);
    } else if (request->_is_asked) {
        http_request_ask(request);
        if (request->_has_passed)
            enter(conn, request);
        else if (request->reply == HTTP_REPLY_ENDED)
            leave_reading(conn, request);
    } else {
        take_body(conn, request);
    }
}

/* Answers a request for which nothing more is read. */
static void refuse_reading(struct http_conn *conn, uint32_t code, const char *why,
                           struct span detail)
{
    struct http_request *request = conn->reading;

    request->must_close = true;
    http_conn_stop_reading(conn);
    http_request_refuse(request, code, why, detail);
}

/* What is read is of no use any more: neither is what its handler waits for. */
static void fail_reading(struct http_conn *conn, enum err err, const char *why)
{
    struct http_request *request = conn->reading;

    request->must_close = true;
    http_conn_stop_reading(conn);
    http_body_fail(request, err, why);
}

static void on_body(struct http_conn *conn, struct span bytes)
{
    conn->intake->heard_us = now_us(conn);
    conn->intake->body_bytes += bytes.len;
    if (conn->reading == NULL) {
        conn->intake->discarded += (uint32_t)bytes.len;
        if (conn->intake->discarded > DISCARD_MAX)
            http_conn_stop_reading(conn);
        return;
    }
    http_body_receive(conn->reading, bytes);
}

/* False: the request is refused. */
static bool take_trailer(struct http_conn *conn)
{
    const struct guard_rule *rule = guard_rule(GUARD_FIELD_COUNT);
    struct span section = conn->intake->parser.trailer;

    conn->intake->parser.trailer = (struct span){NULL, 0};
    if (conn->reading == NULL || http_trailer_take(conn->reading, section))
        return true;
    if (http_request_is_started(conn->reading))
        fail_reading(conn, ERR_BAD_REQUEST, rule->token);
    else
        refuse_reading(conn, rule->status, rule->token, span_of(rule->text));
    return false;
}

static void on_message_end(struct http_conn *conn)
{
    struct http_request *request = conn->reading;

    if (conn->intake->parser.trailer.len > 0 && !take_trailer(conn))
        return;
    conn->reading = NULL;
    conn->since_us = now_us(conn);
    http_conn_move(conn, conn->is_final ? CONN_LAST : CONN_IDLE);
    if (request == NULL)
        return;
    if (http_request_is_started(request)) /* FIN may be here, right behind the body: see on_end() */
        request->_is_after_fin |= conn->is_ended || stream_is_ended(&conn->stream);
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
    http_conn_stop_reading(conn);
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
    const struct guard_rule *rule = guard_rule(conn->intake->parser.refused);

    log_refusal(conn, rule);
    conn->must_linger = true;
    if (conn->state == CONN_IDLE || conn->state == CONN_HEAD)
        answer_headless(conn, rule->status, rule->token, span_of(rule->text));
    else if (conn->reading == NULL)
        http_conn_stop_reading(conn);
    else if (http_request_is_started(conn->reading))
        fail_reading(conn, rule->status == 413 ? ERR_BODY_TOO_BIG : ERR_BAD_REQUEST, rule->token);
    else
        refuse_reading(conn, rule->status, rule->token, span_of(rule->text));
}

/* FIN came, and all before it was looked at: what is incomplete stays so. */
static void cut_off(struct http_conn *conn)
{
    struct http_request *request = conn->reading;

    if (request != NULL && http_request_is_started(request)) {
        if ((request->match.route->flags & HTTP_ROUTE_FINISH) == 0)
            scope_cancel(request->scope, SCOPE_CLIENT_GONE);
        fail_reading(conn, ERR_CANCELED, NULL);
        return;
    }
    http_conn_stop_reading(conn);
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
        http_conn_move(conn, CONN_HEAD);
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

    if (conn->state == CONN_IDLE && conn->stream.in.len == 0) { /* nothing of the next one */
        on_more(conn);
        return false;
    }
    switch (http_parser_next(&http_intake_take(conn)->parser, &conn->stream.in, &bytes)) {
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

void http_conn_parse(struct http_conn *conn)
{
    if (conn->must_introduce && !http_conn_introduce(conn))
        return;
    conn->is_parsing = true;
    if (conn->reading != NULL && conn->reading->_has_passed)
        enter(conn, conn->reading);
    start_held(conn);
    while (may_parse(conn) && parse_next(conn))
        start_held(conn);
    conn->is_parsing = false;
    if (conn->state == CONN_IDLE)
        http_intake_rest(conn);
}

/* ---- for the other files ---- */

void http_conn_expire_reading(struct http_conn *conn)
{
    const char *why;

    switch ((enum http_conn_state)conn->state) {
    case CONN_HEAD:
        answer_headless(conn, 408, "header_timeout", SPAN("the head did not come in time"));
        break;
    case CONN_BODY:
        CHECK(conn->reading != NULL);
        why = http_conn_is_trickling(conn) ? "body_rate" : "body_timeout";
        if (http_request_is_started(conn->reading))
            fail_reading(conn, ERR_BODY_SLOW, why);
        else
            refuse_reading(conn, 408, why, SPAN("the body did not come in time"));
        break;
    case CONN_DISCARD:
    case CONN_LAST:
        http_conn_stop_reading(conn);
        break;
    case CONN_IDLE:
    case CONN_LINGER:
        break;
    }
}

void http_conn_want_body(struct http_conn *conn, struct http_request *request, bool was_full)
{
    CHECK(conn->reading == request);
    if (was_full) /* what the client could not send until now is not late */
        http_conn_time_body(conn);
    let_body_come(conn, request);
    if (!conn->is_parsing)
        http_conn_wake(conn);
}

void http_conn_go_on(struct http_conn *conn)
{
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
    conn->intake->discarded = 0;
    if (request->is_body_complete)
        return; /* its end is what is read next */
    if (request->must_close)
        http_conn_stop_reading(conn);
    else
        http_conn_move(conn, CONN_DISCARD);
}
