/* upstream/call.c - a call of an upstream as an op.
 *
 *   OPEN ──▶ OVER          answered, failed, too slow
 *    ▲│
 *    │▼
 *   PAUSED                 the upstream asked for some time, and there is as much
 *
 * An open call has an attempt:
 *
 *   NONE ──▶ WAITING ──▶ SENT ──▶ NONE       and again, where retry.h says that it is safe
 *
 * A stream's op settles with the answer's head; the call goes on until the bodies are through.
 *
 * WAITING is in line, or while a connection is being opened; an idle connection skips it. What is in
 * flight belongs to the connection. Canceled in any state: the place in line is given up, or the
 * connection closed, since HTTP/1 cannot take a request back; nothing points at the op any more, so
 * it is retired at once.
 */
#include "upstream/call.h"
#include "base/check.h"
#include "http/trailer.h"
#include "task/scope.h"
#include "upstream/request.h"
#include <stdio.h>
#include <string.h>

/* Some thirty years: a stream without a limit in all. */
#define FOREVER_MS (UINT64_C(1) << 40)

static const struct op_kind call_kind;

struct call *call_of(struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    CHECK(op->kind == &call_kind);
    return CONTAINER_OF(op, struct call, op);
}

/* The answer */

static enum err on_head(struct exchange *exchange, const struct http_head *head)
{
    struct attempt *attempt = exchange->user;
    struct call *call = attempt->call;

    CHECK(attempt->state == ATTEMPT_SENT);
    if (call->flow == NULL && head->has_body &&
        head->length > (int64_t)call->upstream->options->body_bytes_max)
        return ERR_TOO_BIG;
    call_take_head(call, attempt->conn, head);
    if (call->flow != NULL) {
        call_tell_breaker(call, !call_is_gateway_error(call->code));
        op_finish(&call->op, ERR_OK, NULL);
        flow_answered(call->flow, call->code);
    }
    return ERR_OK;
}

static enum err on_body(struct exchange *exchange, struct span bytes)
{
    struct attempt *attempt = exchange->user;
    struct call *call = attempt->call;

    CHECK(attempt->state == ATTEMPT_SENT);
    if (call->flow != NULL) {
        flow_take(call->flow, bytes);
        return ERR_OK;
    }
    if (call->inflate != NULL)
        return inflate_feed(call->inflate, bytes, &call->body,
                            (size_t)call->upstream->options->body_bytes_max);
    if (bytes.len > call->upstream->options->body_bytes_max - call->body.len)
        return ERR_TOO_BIG;
    buf_append(&call->body, bytes);
    return ERR_OK;
}

/* Sending */

static void on_drained(struct exchange *exchange)
{
    struct flow *flow = ((struct attempt *)exchange->user)->call->flow;

    if (flow != NULL)
        flow_drained(flow);
}

static void on_done(struct exchange *exchange, enum err err);

static const struct exchange_handler exchange_handler = {
    .on_head = on_head,
    .on_body = on_body,
    .on_done = on_done,
    .on_drained = on_drained,
};

/* Milliseconds that it may still take. */
static uint64_t left_ms_of(const struct call *call)
{
    uint64_t now_ms = call_now_ms(call), left_ms = scope_budget_ms(call->op.scope);

    if (call->due_ms > now_ms && call->due_ms - now_ms < left_ms)
        left_ms = call->due_ms - now_ms;
    return left_ms;
}

/* The end of what it waits for now, and of its time in all. */
static uint64_t due_ms_of(const struct call *call)
{
    uint64_t still_ms = UINT64_MAX;

    if (call->flow != NULL && call->attempt.state == ATTEMPT_SENT)
        still_ms = flow_still_ms(call->flow);
    return still_ms < call->due_ms ? still_ms : call->due_ms;
}

static void on_time(struct timer *timer);

static void wait_on(struct call *call, bool is_in_line)
{
    uint64_t now_ms = call_now_ms(call), due_ms = due_ms_of(call);

    if (now_ms >= call->queue_due_ms) /* it waited for a name, which has a limit of its own */
        call->queue_due_ms = now_ms + call->upstream->options->queue_timeout_ms;
    timer_start_at(call->upstream->loop, &call->timer,
                   is_in_line && call->queue_due_ms < due_ms ? call->queue_due_ms : due_ms,
                   on_time);
}

static void send_on(struct attempt *attempt, struct origin_conn *conn)
{
    struct call *call = attempt->call;

    attempt->state = ATTEMPT_SENT;
    attempt->conn = conn;
    op_begin(&call->op);
    upstream_request_set_budget(&call->request, left_ms_of(call));
    exchange_start(&conn->exchange, call->request.bytes, call->is_head, &exchange_handler, attempt);
    if (call->flow != NULL) {
        conn->exchange.body_bytes_max = UINT64_MAX;
        flow_sent(call->flow);
        wait_on(call, false);
    }
}

static void on_loan(struct origin_loan *loan, const struct conn_failure *failure,
                    struct origin_conn *conn)
{
    struct attempt *attempt = CONTAINER_OF(loan, struct attempt, loan);

    CHECK(attempt->state == ATTEMPT_WAITING);
    if (failure == NULL) {
        send_on(attempt, conn);
        return;
    }
    attempt->state = ATTEMPT_NONE;
    call_fail(attempt->call, failure->what, "%s", failure->problem);
}

/* Lets go of its place or its connection; nothing of them will call back. */
static void detach(struct attempt *attempt)
{
    enum attempt_state state = attempt->state;

    attempt->state = ATTEMPT_NONE;
    if (state == ATTEMPT_WAITING)
        origin_withdraw(&attempt->loan);
    else if (state == ATTEMPT_SENT)
        origin_drop(attempt->conn);
}

/* Something is on its way to it; false: it would have to wait for too many others. */
static bool get_in_line(struct call *call)
{
    struct origin *origin = &call->upstream->origin;

    if (call->is_hedge)
        return origin_try(origin, &call->attempt.loan, on_loan, call->avoid_id);
    return origin_wait(origin, &call->attempt.loan, on_loan);
}

/* Begins an attempt; fails where the line is full. */
static void launch(struct call *call)
{
    struct upstream *upstream = call->upstream;
    const struct upstream_options *options = upstream->options;
    struct origin_conn *conn = origin_take(&upstream->origin, call->avoid_id);
    uint64_t first_ms = call->due_ms;

    call->state = CALL_OPEN;
    if (conn != NULL) {
        send_on(&call->attempt, conn);
        if (call->flow != NULL)
            return; /* it has its own limits */
    } else if (get_in_line(call)) {
        call->attempt.state = ATTEMPT_WAITING;
        call->queue_due_ms = call_now_ms(call) + options->queue_timeout_ms;
        first_ms = call->queue_due_ms < first_ms ? call->queue_due_ms : first_ms;
    } else if (call->is_hedge) {
        op_cancel_as(&call->op, ERR_CANCELED, NULL);
        return;
    } else {
        call_fail(call, UPSTREAM_QUEUE_FULL, "%u calls are waiting already",
                  upstream->counts.waiting);
        return;
    }
    timer_start_at(upstream->loop, &call->timer, first_ms, on_time);
}

/* Sending again */

static bool take_from_budget(struct call *call)
{
    struct upstream *upstream = call->upstream;

    if (retry_budget_take(&upstream->budget))
        return true;
    upstream->counts.retries_denied++;
    return false;
}

/* The connection broke; `facts` without what the upstream knows. */
static bool send_again(struct attempt *attempt, struct retry_facts facts)
{
    struct call *call = attempt->call;
    struct origin_conn *conn = attempt->conn;

    if (call->op.state != OP_PENDING || (call->flow != NULL && !flow_is_replayable(call->flow)))
        return false;
    facts.was_kept = conn->was_kept;
    facts.was_renewed = call->was_renewed;
    facts.is_idempotent = call->is_idempotent;
    facts.has_other = origin_has_other(conn);
    facts.retries = call->retries;
    facts.retries_max = call->upstream->options->retries_max;
    switch (retry_decide(&facts)) {
    case RETRY_NOT:
        return false;
    case RETRY_RENEW:
        call->was_renewed = true;
        break;
    case RETRY_PAID:
        if (!take_from_budget(call))
            return false;
        origin_failed(conn, conn->exchange.problem);
        call->retries++;
        break;
    }
    call->upstream->counts.retried++;
    attempt->state = ATTEMPT_WAITING;
    call->queue_due_ms = call_now_ms(call) + call->upstream->options->queue_timeout_ms;
    origin_dial_again(conn, &attempt->loan, on_loan);
    timer_start_at(call->upstream->loop, &call->timer,
                   call->queue_due_ms < call->due_ms ? call->queue_due_ms : call->due_ms, on_time);
    return true;
}

/* It was answered that it should come again later; false: hand that on. */
static bool come_again(struct call *call, struct origin_conn *conn)
{
    uint64_t max_ms = call->upstream->options->retry_after_max_ms;
    uint64_t wait_ms;

    if (call->code != 429 && call->code != 503)
        return false;
    if (!retry_after_ms(http_field_get(&call->fields, SPAN("Retry-After")), &wait_ms))
        return false;
    if (call->code == 503) {
        origin_rest(conn, wait_ms < max_ms * 30 ? wait_ms : max_ms * 30);
        wait_ms = origin_has_other(conn) ? 0 : wait_ms;
    }
    if (call->flow != NULL || !call->is_idempotent ||
        call->retries >= call->upstream->options->retries_max || wait_ms > max_ms ||
        call_now_ms(call) + wait_ms >= call->due_ms || wait_ms >= scope_budget_ms(call->op.scope))
        return false;
    if (!take_from_budget(call))
        return false;
    call->retries++;
    call->upstream->counts.retried++;
    call->state = CALL_PAUSED;
    call->code = 0;
    call->fields = (struct http_fields){0};
    inflate_destroy(call->inflate);
    call->inflate = NULL;
    buf_release(&call->body);
    timer_start(call->upstream->loop, &call->timer, wait_ms, on_time);
    return true;
}

/* What the room's own parts tell, from the loop. */

static void on_answered(struct attempt *attempt)
{
    struct call *call = attempt->call;
    struct origin_conn *conn = attempt->conn;
    bool is_again;

    if (call_is_gateway_error(call->code))
        origin_failed(conn, "it answers with 502, 503 or 504");
    else
        origin_succeeded(conn);
    is_again = come_again(call, conn);
    attempt->state = ATTEMPT_NONE;
    if (conn->exchange.is_reusable)
        origin_keep(conn, conn->exchange.keep_ms);
    else
        origin_drop(conn);
    if (!is_again)
        call_succeed(call);
}

static bool take_trailers(struct call *call, const struct exchange *exchange)
{
    if (call->flow == NULL || exchange->trailer.len == 0)
        return true;
    return http_trailer_fields(&call->op.scope->arena, exchange->trailer, EXCHANGE_FIELDS_MAX,
                               &call->flow->trailers);
}

static void on_done(struct exchange *exchange, enum err err)
{
    struct attempt *attempt = exchange->user;
    struct call *call = attempt->call;
    struct origin_conn *conn = attempt->conn;
    const char *problem = exchange->problem;
    enum upstream_failure what = exchange->failure;
    const struct retry_facts facts = {
        .err = err, .written = exchange_written(exchange), .received = exchange_received(exchange)};

    CHECK(attempt->state == ATTEMPT_SENT);
    if (err == ERR_OK && call->inflate != NULL && !inflate_is_complete(call->inflate)) {
        what = UPSTREAM_PROTOCOL;
        problem = "its body is gzip that was cut off";
    } else if (err == ERR_OK && take_trailers(call, exchange)) {
        on_answered(attempt);
        return;
    } else if (err == ERR_OK) {
        what = UPSTREAM_HEAD_TOO_BIG;
        problem = "there are too many fields behind its body";
    } else if (send_again(attempt, facts)) {
        return;
    }
    attempt->state = ATTEMPT_NONE;
    if (upstream_failure_is_theirs(what) && what != UPSTREAM_BODY_TOO_BIG)
        origin_failed(conn, problem);
    origin_drop(conn);
    call_fail(call, what, "%s", problem);
}

static void on_time(struct timer *timer)
{
    struct call *call = CONTAINER_OF(timer, struct call, timer);
    struct attempt *attempt = &call->attempt;
    uint64_t now_ms = call_now_ms(call);
    bool is_in_line = attempt->state == ATTEMPT_WAITING && origin_is_in_line(&attempt->loan);

    CHECK(call->state != CALL_OVER);
    if (call->state == CALL_PAUSED) {
        launch(call);
    } else if (now_ms >= call->due_ms) {
        const char *what =
            attempt->state == ATTEMPT_SENT ? "the answer is not complete" : "not connected";

        detach(attempt);
        call_fail(call, UPSTREAM_TIMEOUT, "too slow in all, %s", what);
    } else if (attempt->state == ATTEMPT_SENT && now_ms >= due_ms_of(call)) {
        detach(attempt);
        call_fail(call, UPSTREAM_STREAM_TIMEOUT, "the stream stood still for longer than %u ms",
                  call->upstream->options->stream_timeout_ms);
    } else if (is_in_line && now_ms >= call->queue_due_ms &&
               !origin_is_nowhere(&call->upstream->origin)) {
        detach(attempt);
        call_fail(call, UPSTREAM_QUEUE_TIMEOUT, "all %u connections are in use",
                  call->upstream->counts.connections);
    } else {
        wait_on(call, is_in_line);
    }
}

/* The op */

/* Nobody wants it any more; its op has settled. */
static void abandon(struct call *call, enum err err)
{
    detach(&call->attempt);
    call->upstream->counts.canceled += !call->is_follower;
    call_end(call);
    buf_release(&call->body);
    if (call->flow != NULL)
        flow_end(call->flow, err, NULL, (struct span){NULL, 0});
}

static void withdraw(struct op *op)
{
    abandon(call_of(op), op->status);
    op_retire(op);
}

void call_give_up(struct call *call, enum err err)
{
    if (call->state == CALL_OVER)
        return;
    if (call->op.state == OP_PENDING)
        op_cancel_as(&call->op, err, NULL);
    else
        abandon(call, err);
}

void call_spoil(struct call *call, const char *problem)
{
    if (call->state == CALL_OVER)
        return;
    detach(&call->attempt);
    call_fail(call, UPSTREAM_INVALID, "%s", problem);
}

static void release(struct op *op)
{
    struct call *call = call_of(op);

    if (call->upstream == NULL)
        return;
    if (call->flow != NULL) {
        call_give_up(call, ERR_STATE);
        flow_release(call->flow);
    }
    buf_release(&call->body);
    call->upstream->alive--;
}

static void on_settled(const struct op *op, uint64_t us)
{
    const struct call *call = CONTAINER_OF(op, struct call, op);

    if (call->upstream != NULL && !call->is_follower)
        upstream_note_settled(call->upstream, op, us);
}

static void describe(const struct op *op, char *text, size_t size)
{
    const struct call *call = CONTAINER_OF(op, struct call, op);
    const struct origin_conn *conn =
        call->attempt.state == ATTEMPT_SENT ? call->attempt.conn : NULL;
    const char *name = call->upstream != NULL ? call->upstream->name : "-";

    if (call->state == CALL_PAUSED)
        snprintf(text, size, "upstream %s, pauses before it is asked again", name);
    else
        snprintf(text, size, "upstream %s, %s", name,
                 conn != NULL ? conn->target->text : "waits for a connection");
}

static const struct op_kind call_kind = {
    .name = "upstream call",
    .account = SCOPE_TIME_CALL,
    .withdraw = withdraw,
    .release = release,
    .settled = on_settled,
    .describe = describe,
};

static void start(struct call *call, const struct upstream_call *what)
{
    struct upstream *upstream = call->upstream;
    uint64_t timeout_ms = what->timeout_ms != 0 ? what->timeout_ms
                          : call->flow == NULL  ? upstream->options->timeout_ms
                                                : FOREVER_MS;

    call->is_head = span_equal(what->method, SPAN("HEAD"));
    call->is_idempotent = (what->flags & UPSTREAM_IDEMPOTENT) != 0 || what->method.ptr == NULL ||
                          retry_is_idempotent(what->method);
    call->decodes = (what->flags & UPSTREAM_DECODE) != 0;
    call->due_ms = call_now_ms(call) + timeout_ms;
    call->attempt.call = call;
    if (call->is_follower) {
        timer_start_at(upstream->loop, &call->timer, call->due_ms, on_time);
        flight_join(call, what);
        return;
    }
    if (upstream->options->breaker_percent != 0 &&
        !breaker_admits(&upstream->breaker, upstream->options, call_now_ms(call),
                        &call->is_trial)) {
        call_fail(call, UPSTREAM_BREAKER, "most calls failed lately, this one is not tried");
        return;
    }
    retry_budget_add(&upstream->budget, upstream->options->retry_percent);
    launch(call);
}

/* May it be made? False: `problem` says why not. */
static bool is_fit(const struct upstream_call *what, bool is_stream,
                   char problem[UPSTREAM_PROBLEM_SIZE])
{
    if (!upstream_request_check(what, problem))
        return false;
    if (!is_stream && (what->flags & UPSTREAM_UPLOAD) != 0) {
        snprintf(problem, UPSTREAM_PROBLEM_SIZE, "a body is written to streams only");
        return false;
    }
    if (is_stream && (what->flags & UPSTREAM_DECODE) != 0) {
        snprintf(problem, UPSTREAM_PROBLEM_SIZE,
                 "the body of a stream comes as it is, not decoded");
        return false;
    }
    return true;
}

/* What a call is, beside what is asked for. */
struct manner {
    bool is_stream, is_follower, is_hedge;
    uint32_t avoid_id;
};

static struct op *begin(struct scope *scope, struct upstream *upstream,
                        const struct upstream_call *what, const struct manner *manner)
{
    char problem[UPSTREAM_PROBLEM_SIZE];
    struct upstream_extras extras = {.decodes = false};
    struct call *call;
    bool can_start;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    CHECK(upstream->loop == scope->tasks->loop);
    call = scope_alloc(scope, sizeof *call);
    can_start = is_fit(what, manner->is_stream, problem);
    if (manner->is_follower) /* its request tells what is the same, and goes nowhere */
        extras.decodes = (what->flags & UPSTREAM_DECODE) != 0;
    else
        extras = upstream_extras_of(scope, upstream->options, what);
    if (can_start) /* before the op is there: too much memory cancels the scope's ops at once */
        call->request = upstream_request_render(scope, &upstream->url, what, &extras);
    if (!op_init(&call->op, scope, &call_kind))
        return &call->op;
    call->upstream = upstream;
    call->is_follower = manner->is_follower;
    call->is_hedge = manner->is_hedge;
    call->avoid_id = manner->avoid_id;
    upstream->alive++;
    call->begun_us = loop_now_us(upstream->loop);
    for (uint32_t i = 0; i < UPSTREAM_TIME_COUNT; i++)
        call->times_us[i] = -1;
    buf_init(&call->body, &upstream->buffers);
    if (manner->is_stream)
        call->flow = flow_create(call, (what->flags & UPSTREAM_UPLOAD) != 0, what->length);
    if (can_start)
        start(call, what);
    else
        call_fail(call, UPSTREAM_INVALID, "%s", problem);
    return &call->op;
}

struct op *upstream_call(struct scope *scope, struct upstream *upstream,
                         const struct upstream_call *what)
{
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    return begin(scope, upstream, what,
                 &(struct manner){.is_follower = flight_is_wanted(upstream, what)});
}

struct op *upstream_stream(struct scope *scope, struct upstream *upstream,
                           const struct upstream_call *what)
{
    return begin(scope, upstream, what, &(struct manner){.is_stream = true});
}

/* Flights */

struct op *call_begin_inner(struct scope *scope, struct upstream *upstream,
                            const struct upstream_call *what, bool is_hedge, uint32_t avoid_id)
{
    return begin(scope, upstream, what,
                 &(struct manner){.is_hedge = is_hedge, .avoid_id = avoid_id});
}

bool op_is_upstream(const struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    return op->kind == &call_kind;
}
