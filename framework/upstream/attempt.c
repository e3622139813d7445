/* upstream/attempt.c - the attempts of a call: a connection for it, the request sent, the answer
 * taken, and all of it again where that is safe.
 *
 *   NONE ──▶ WAITING ──▶ SENT ──▶ NONE       and again, where retry.h says that it is safe
 *
 * WAITING is in line, or while a connection is being opened; an idle connection skips it. What is
 * in flight belongs to the connection. Abandoned in any state: the place in line is given up, or
 * the connection closed, since HTTP/1 cannot take a request back.
 */
#include "base/check.h"
#include "http/trailer.h"
#include "task/scope.h"
#include "upstream/call.h"

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
        if (attempt->conn->is_trial && !call_is_gateway_error(call->code))
            origin_recovered(attempt->conn); /* the body may take hours */
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
        enum err err = flow_take(call->flow, bytes);

        if (err != ERR_OK)
            exchange->problem = unpack_problem(err);
        return err;
    }
    if (call->inflate != NULL) {
        enum err err = inflate_feed(call->inflate, bytes, &call->body,
                                    (size_t)call->upstream->options->body_bytes_max);

        if (err == ERR_PROTOCOL)
            exchange->problem = unpack_problem(err);
        return err;
    }
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

static void send_on(struct attempt *attempt, struct origin_conn *conn)
{
    struct call *call = attempt->call;

    CHECK(attempt->state != ATTEMPT_SENT);
    CHECK(call->state == CALL_OPEN);
    CHECK(conn->state == CONN_LENT);
    attempt->state = ATTEMPT_SENT;
    attempt->conn = conn;
    op_begin(&call->op);
    upstream_request_set_budget(&call->request, left_ms_of(call));
    exchange_start(&conn->exchange, call->request.bytes, call->is_head, &exchange_handler, attempt);
    if (call->flow != NULL) {
        conn->exchange.body_bytes_max = UINT64_MAX;
        flow_sent(call->flow);
        call_wait(call, false);
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

void attempt_blame(struct attempt *attempt, const char *problem)
{
    if (attempt->state == ATTEMPT_SENT)
        origin_failed(attempt->conn, problem);
}

void attempt_abandon(struct attempt *attempt)
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

void call_launch(struct call *call)
{
    struct upstream *upstream = call->upstream;
    const struct upstream_options *options = upstream->options;
    struct origin_conn *conn = origin_take(&upstream->origin, call->avoid_id);

    call->state = CALL_OPEN;
    op_line_up(&call->op, &upstream->line);
    if (conn != NULL) {
        send_on(&call->attempt, conn);
        if (call->flow != NULL)
            return; /* it has its own limits */
    } else if (get_in_line(call)) {
        call->attempt.state = ATTEMPT_WAITING;
        call->queue_due_ms = call_now_ms(call) + options->queue_timeout_ms;
    } else if (call->is_hedge) {
        op_cancel_as(&call->op, ERR_CANCELED, NULL);
        return;
    } else {
        call_fail(call, UPSTREAM_QUEUE_FULL, "%u calls are waiting already",
                  upstream->counts.waiting);
        return;
    }
    call_wait(call, call->attempt.state == ATTEMPT_WAITING);
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
    call_wait(call, true);
    return true;
}

/* It was answered that it should come again later; false: hand that on. */
static bool come_again(struct call *call, struct origin_conn *conn)
{
    uint64_t max_ms = call->upstream->options->retry_after_max_ms;
    uint64_t wait_ms;

    if (call->code != 429 && call->code != 503)
        return false;
    if (!retry_after_ms(http_field_get(&call->fields, SPAN("Retry-After")),
                        http_field_get(&call->fields, SPAN("Date")), &wait_ms))
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
    call->code = 0;
    call->fields = (struct http_fields){0};
    inflate_destroy(call->inflate);
    call->inflate = NULL;
    buf_release(&call->body);
    call_pause(call, wait_ms);
    return true;
}

/* What the room's own parts tell, from the loop. */

static void on_answered(struct attempt *attempt)
{
    struct call *call = attempt->call;
    struct origin_conn *conn = attempt->conn;
    bool is_again;

    CHECK(call->code >= 200);
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

/* Its framing says that the body is whole: is the gzip in it? */
static bool is_cut_off(const struct call *call)
{
    if (call->flow != NULL)
        return flow_is_cut_off(call->flow);
    return call->inflate != NULL && !inflate_is_complete(call->inflate);
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
    if (err == ERR_OK && is_cut_off(call)) {
        what = UPSTREAM_PROTOCOL;
        problem = unpack_problem(ERR_CLOSED);
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
