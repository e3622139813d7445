/* upstream/breaker.c - stops calling an upstream of which most calls fail. */
#include "upstream/breaker.h"
#include "base/check.h"

bool breaker_admits(struct breaker *breaker, const struct upstream_options *options,
                    uint64_t now_ms, bool *is_trial)
{
    *is_trial = false;
    if (options->breaker_percent == 0 || breaker->state == BREAKER_CLOSED)
        return true;
    if (breaker->state == BREAKER_TRIED || now_ms < breaker->until_ms)
        return false;
    breaker->state = BREAKER_TRIED;
    *is_trial = true;
    return true;
}

static void open_until(struct breaker *breaker, uint64_t until_ms)
{
    *breaker = (struct breaker){.state = BREAKER_OPEN, .until_ms = until_ms};
}

/* The halves move on: what is older than a whole window is forgotten. */
static void move_on(struct breaker *breaker, uint64_t half_ms, uint64_t now_ms)
{
    if (now_ms < breaker->half_until_ms)
        return;
    breaker->before =
        now_ms < breaker->half_until_ms + half_ms ? breaker->now : (struct breaker_half){0, 0};
    breaker->now = (struct breaker_half){0, 0};
    breaker->half_until_ms = now_ms + half_ms;
}

bool breaker_note(struct breaker *breaker, const struct upstream_options *options, uint64_t now_ms,
                  bool is_trial, bool is_good)
{
    uint64_t calls, failed;

    if (options->breaker_percent == 0)
        return false;
    CHECK(!is_trial || breaker->state == BREAKER_TRIED);
    if (is_trial && is_good) {
        *breaker = (struct breaker){.state = BREAKER_CLOSED};
        return false;
    }
    if (is_trial) {
        open_until(breaker, now_ms + options->breaker_time_ms);
        return false;
    }
    if (breaker->state != BREAKER_CLOSED)
        return false; /* it began before it was opened */
    move_on(breaker, options->breaker_window_ms / 2 + 1, now_ms);
    breaker->now.calls++;
    breaker->now.failed += is_good ? 0 : 1;
    calls = (uint64_t)breaker->now.calls + breaker->before.calls;
    failed = (uint64_t)breaker->now.failed + breaker->before.failed;
    if (is_good || calls < options->breaker_calls ||
        failed * 100 < calls * options->breaker_percent)
        return false;
    open_until(breaker, now_ms + options->breaker_time_ms);
    return true;
}

void breaker_untried(struct breaker *breaker, uint64_t now_ms)
{
    if (breaker->state == BREAKER_TRIED)
        open_until(breaker, now_ms);
}
