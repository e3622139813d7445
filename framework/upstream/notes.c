/* upstream/notes.c - what is told of calls beside their answers: times, and which were slow. */
#include "base/check.h"
#include "base/log.h"
#include "task/scope.h"
#include "upstream/inside.h"
#include <stdio.h>

static void log_slow(const struct upstream *upstream, const struct op *op, uint64_t us)
{
    struct scope_who who;
    char queue_ms[24];

    scope_who(op->scope, &who);
    snprintf(queue_ms, sizeof queue_ms, "%.3f",
             (double)(op->has_begun ? op->begun_after_us : us) / 1000);
    log_fields(LOG_WARN,
               LOG_FIELDS({"upstream", span_of(upstream->name)}, {"queue_ms", span_of(queue_ms)},
                          {"outcome", span_of(err_text(op->status))}, who.fields[0], who.fields[1],
                          who.fields[2]),
               "slow call: %.3f ms", (double)us / 1000);
}

void upstream_note_settled(struct upstream *upstream, const struct op *op, uint64_t us)
{
    uint32_t slow_ms = upstream->options->slow_call_ms;

    histogram_add(&upstream->times, us);
    if (slow_ms > 0 && us / 1000 >= slow_ms)
        log_slow(upstream, op, us);
}

const struct histogram *upstream_times(const struct upstream *upstream)
{
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    return &upstream->times;
}
