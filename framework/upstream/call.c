/* upstream/call.c - a call of an upstream as an op.
 *
 *   OPEN ──▶ OVER          answered, failed, too slow
 *    ▲│
 *    │▼
 *   PAUSED                 the upstream asked for some time, and there is as much
 *
 * An open call has an attempt (attempt.c), which outcome.c is told of when it is the last one. A
 * stream's op settles with the answer's head; the call goes on until the bodies are through.
 * Canceled in any state: its attempt is abandoned and nothing points at the op any more, so it is
 * retired at once.
 */
#include "upstream/call.h"
#include "base/check.h"
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

/* Limits of time */

/* The end of what it waits for now, and of its time in all. */
static uint64_t due_ms_of(const struct call *call)
{
    uint64_t still_ms = UINT64_MAX;

    if (call->flow != NULL && call->attempt.state == ATTEMPT_SENT)
        still_ms = flow_still_ms(call->flow);
    return still_ms < call->due_ms ? still_ms : call->due_ms;
}

static void on_time(struct timer *timer);

void call_wait(struct call *call, bool is_in_line)
{
    uint64_t now_ms = call_now_ms(call), due_ms = due_ms_of(call);

    if (now_ms >= call->queue_due_ms) /* it waited for a name, which has a limit of its own */
        call->queue_due_ms = now_ms + call->upstream->options->queue_timeout_ms;
    timer_start_at(call->upstream->loop, &call->timer,
                   is_in_line && call->queue_due_ms < due_ms ? call->queue_due_ms : due_ms,
                   on_time);
}

void call_pause(struct call *call, uint64_t ms)
{
    CHECK(call->state == CALL_OPEN);
    CHECK(call->flow == NULL); /* a stream is not sent again */
    call->state = CALL_PAUSED;
    timer_start(call->upstream->loop, &call->timer, ms, on_time);
}

void call_time_out(struct call *call)
{
    const char *what =
        call->attempt.state == ATTEMPT_SENT ? "the answer is not complete" : "not connected";

    if (call->state == CALL_OVER)
        return;
    attempt_abandon(&call->attempt);
    call_fail(call, UPSTREAM_TIMEOUT, "too slow in all, %s", what);
}

static void on_time(struct timer *timer)
{
    struct call *call = CONTAINER_OF(timer, struct call, timer);
    struct attempt *attempt = &call->attempt;
    uint64_t now_ms = call_now_ms(call);
    bool is_in_line = attempt->state == ATTEMPT_WAITING && origin_is_in_line(&attempt->loan);

    CHECK(call->state != CALL_OVER);
    if (call->state == CALL_PAUSED) {
        call_launch(call);
    } else if (now_ms >= call->due_ms) {
        if (!call->is_follower || !flight_time_out(call))
            call_time_out(call);
    } else if (attempt->state == ATTEMPT_SENT && now_ms >= due_ms_of(call)) {
        attempt_abandon(attempt);
        call_fail(call, UPSTREAM_STREAM_TIMEOUT, "the stream stood still for longer than %u ms",
                  call->upstream->options->stream_timeout_ms);
    } else if (is_in_line && now_ms >= call->queue_due_ms &&
               !origin_is_nowhere(&call->upstream->origin)) {
        attempt_abandon(attempt);
        call_fail(call, UPSTREAM_QUEUE_TIMEOUT, "all %u connections are in use",
                  call->upstream->counts.connections);
    } else {
        call_wait(call, is_in_line);
    }
}

/* The op */

/* Nobody wants it any more; its op has settled. */
static void abandon(struct call *call, enum err err)
{
    attempt_abandon(&call->attempt);
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
    attempt_abandon(&call->attempt);
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
    CHECK(call->state == CALL_OVER);
    CHECK(call->upstream->alive > 0);
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
    call_launch(call);
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
