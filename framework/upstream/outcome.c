/* upstream/outcome.c - how calls end: what is counted, what the breaker learns, who is told. */
#include "base/check.h"
#include "base/log.h"
#include "task/scope.h"
#include "upstream/call.h"
#include <stdarg.h>
#include <stdio.h>

/* A text for people. */
enum { EXPLAIN_SIZE = 700 };

/* What the breaker learns; `is_good` where the upstream answered, and not with a 502 to 504. */
static void note_outcome(struct call *call, bool is_good)
{
    struct upstream *upstream = call->upstream;
    const struct upstream_options *options = upstream->options;
    bool is_trial = call->is_trial;

    call->is_trial = false;
    if (!breaker_note(&upstream->breaker, options, call_now_ms(call), is_trial, is_good))
        return;
    upstream->counts.breaks++;
    log_warn("upstream %s: %u percent of the calls failed, calls fail at once for %u ms",
             upstream->name, options->breaker_percent, options->breaker_time_ms);
}

void call_tell_breaker(struct call *call, bool is_good)
{
    if (call->upstream->options->breaker_percent != 0 && !call->is_follower)
        note_outcome(call, is_good);
}

void call_end(struct call *call)
{
    CHECK(call->state != CALL_OVER);
    CHECK(call->attempt.state == ATTEMPT_NONE);
    if (call->is_trial)
        breaker_untried(&call->upstream->breaker, call_now_ms(call));
    call->state = CALL_OVER;
    timer_stop(&call->timer);
    inflate_destroy(call->inflate);
    call->inflate = NULL;
    call->times_us[UPSTREAM_TIME_TOTAL] =
        (int64_t)(loop_now_us(call->upstream->loop) - call->begun_us);
    if (!call->is_follower)
        call->upstream->counts.calls++;
    flight_leave(call);
}

bool call_is_gateway_error(uint32_t code)
{
    return code >= 502 && code <= 504;
}

void call_succeed(struct call *call)
{
    if (call->flow != NULL) {
        call_end(call);
        flow_end(call->flow, ERR_OK, NULL, (struct span){NULL, 0});
        return;
    }
    op_hold(&call->op, call->body.len);
    if (call->body.len > 0)
        *buf_reserve(&call->body, 1) = '\0';
    call_tell_breaker(call, !call_is_gateway_error(call->code));
    call_end(call);
    op_finish(&call->op, ERR_OK, NULL);
}

bool upstream_failure_is_theirs(enum upstream_failure what)
{
    return upstream_failure_err(what) != ERR_UP_BUSY && what != UPSTREAM_INVALID &&
           what != UPSTREAM_STREAM_TIMEOUT;
}

/* Of a stream, its flow is told, and the op only where there is no answer yet. */
static void tell_failure(struct call *call, enum upstream_failure what, struct span text)
{
    enum err err = upstream_failure_err(what);
    const char *reason = upstream_failure_reason(what);
    struct flow *flow = call->flow;

    if (call->op.state == OP_PENDING) {
        op_explain(&call->op, text);
        text = call->op.error;
        op_finish(&call->op, err, reason);
    } else {
        text = arena_copy(&call->op.scope->arena, text);
    }
    if (flow != NULL)
        flow_end(flow, err, reason, text);
}

void call_fail(struct call *call, enum upstream_failure what, const char *format, ...)
{
    struct upstream_counts *counts = &call->upstream->counts;
    char text[EXPLAIN_SIZE];
    int len = snprintf(text, sizeof text, "upstream %s: ", call->upstream->name);
    size_t used = len < (int)sizeof text ? (size_t)len : sizeof text - 1;
    va_list args;

    va_start(args, format);
    vsnprintf(text + used, sizeof text - used, format, args);
    va_end(args);
    counts->failed += !call->is_follower;
    counts->failures[what] += !call->is_follower;
    if (upstream_failure_err(what) == ERR_UP_BUSY && !call->is_follower)
        counts->refused++;
    if (upstream_failure_is_theirs(what) && call->op.state == OP_PENDING)
        call_tell_breaker(call, false);
    buf_release(&call->body);
    call_end(call);
    tell_failure(call, what, span_of(text));
}

void call_fail_body(struct call *call, enum err err)
{
    enum upstream_failure what = err == ERR_TOO_BIG ? UPSTREAM_BODY_TOO_BIG : UPSTREAM_PROTOCOL;
    struct upstream_counts *counts = &call->upstream->counts;
    const char *problem = unpack_problem(err);
    char text[EXPLAIN_SIZE];

    if (call->state != CALL_OVER) {
        if (what == UPSTREAM_PROTOCOL)
            attempt_blame(&call->attempt, problem);
        attempt_abandon(&call->attempt);
        call_fail(call, what, "%s", problem);
        return;
    }
    CHECK(call->flow != NULL);
    CHECK(call->flow->is_over);
    counts->failed++;
    counts->failures[what]++;
    snprintf(text, sizeof text, "upstream %s: %s", call->upstream->name, problem);
    call->flow->err = upstream_failure_err(what);
    call->flow->reason = upstream_failure_reason(what);
    call->flow->error = arena_copy(&call->op.scope->arena, span_of(text));
}

void call_adopt(struct call *call, const struct call *inner)
{
    struct arena *arena = &call->op.scope->arena;
    uint32_t count = inner->fields.count;
    struct http_field *fields = arena_alloc(arena, (count + 1) * sizeof *fields);

    for (uint32_t i = 0; i < count; i++)
        fields[i] = (struct http_field){arena_copy(arena, inner->fields.at[i].name),
                                        arena_copy(arena, inner->fields.at[i].value)};
    call->fields = (struct http_fields){fields, count};
    call->code = inner->code;
    call->is_reused = inner->is_reused;
    call->address = arena_copy(arena, inner->address);
    for (uint32_t i = 0; i < UPSTREAM_TIME_COUNT; i++)
        call->times_us[i] = inner->times_us[i];
    if (inner->body.len > 0)
        buf_append(&call->body, buf_span(&inner->body));
    call_succeed(call);
}

void call_fail_as(struct call *call, enum err err, const char *reason, struct span text)
{
    op_explain(&call->op, text);
    call_end(call);
    op_finish(&call->op, err, reason);
}
