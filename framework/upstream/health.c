/* upstream/health.c - is an address fit to be called? */
#include "upstream/health.h"

/* An ejection lasts as long as the first one times how many there were in a row, up to this. */
enum { EJECTIONS_MAX = 10 };

bool health_may_serve(const struct health *health, uint64_t now_ms)
{
    if (health->is_down || now_ms < health->rest_until_ms)
        return false;
    switch (health->state) {
    case HEALTH_GOOD:
        return true;
    case HEALTH_EJECTED:
        return now_ms >= health->until_ms;
    case HEALTH_TRIED:
        return false;
    }
    return false;
}

bool health_begin(struct health *health, uint64_t now_ms)
{
    if (health->state != HEALTH_EJECTED || now_ms < health->until_ms)
        return false;
    health->state = HEALTH_TRIED;
    return true;
}

void health_untried(struct health *health, uint64_t now_ms)
{
    if (health->state != HEALTH_TRIED)
        return;
    health->state = HEALTH_EJECTED;
    health->until_ms = now_ms;
}

void health_succeeded(struct health *health, const struct upstream_options *options,
                      uint64_t now_ms)
{
    health->failures = 0;
    if (health->state != HEALTH_GOOD) {
        health->state = HEALTH_GOOD;
        health->good_since_ms = now_ms;
    } else if (health->ejections > 0 && now_ms - health->good_since_ms >= options->eject_time_ms) {
        health->ejections = 0;
    }
}

bool health_failed(struct health *health, const struct upstream_options *options, uint64_t now_ms,
                   bool may_eject)
{
    bool was_good = health->state == HEALTH_GOOD;

    health->failures++;
    if (options->eject_failures == 0 || health->state == HEALTH_EJECTED)
        return false; /* calls that were under way when it was ejected say nothing new */
    if (was_good && (!may_eject || health->failures < options->eject_failures))
        return false;
    if (health->ejections < EJECTIONS_MAX)
        health->ejections++;
    health->state = HEALTH_EJECTED;
    health->until_ms = now_ms + (uint64_t)options->eject_time_ms * health->ejections;
    return was_good;
}

void health_rest(struct health *health, uint64_t now_ms, uint64_t ms)
{
    if (health->rest_until_ms < now_ms + ms)
        health->rest_until_ms = now_ms + ms;
}

bool health_checked(struct health *health, const struct upstream_options *options, bool is_good)
{
    uint32_t wanted = health->is_down ? options->check_rise : options->check_fall;

    if (is_good != health->is_down) {
        health->check_row = 0;
        return false;
    }
    if (++health->check_row < wanted)
        return false;
    health->check_row = 0;
    health->is_down = !health->is_down;
    return true;
}
