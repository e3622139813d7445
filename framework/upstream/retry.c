/* upstream/retry.c - may a call that failed be sent once more? */
#include "upstream/retry.h"
#include "base/number.h"

enum retry retry_decide(const struct retry_facts *facts)
{
    if (facts->err != ERR_RESET && facts->err != ERR_CLOSED && facts->err != ERR_IO)
        return RETRY_NOT;
    if (facts->received > 0 || (facts->written > 0 && !facts->is_idempotent))
        return RETRY_NOT;
    if (facts->was_kept && !facts->was_renewed)
        return RETRY_RENEW;
    /* A new connection that breaks says that the peer is unwell, not that the call came late. */
    if (facts->has_other && facts->retries < facts->retries_max)
        return RETRY_PAID;
    return RETRY_NOT;
}

bool retry_is_idempotent(struct span method)
{
    static const struct span methods[] = {
        {"GET", 3}, {"HEAD", 4}, {"PUT", 3}, {"DELETE", 6}, {"OPTIONS", 7}, {"TRACE", 5},
    };

    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (span_equal(method, methods[i]))
            return true;
    return false;
}

void retry_budget_init(struct retry_budget *budget)
{
    budget->percents = RETRY_RESERVE * 100;
}

bool retry_budget_take(struct retry_budget *budget)
{
    if (budget->percents < 100)
        return false;
    budget->percents -= 100;
    return true;
}

bool retry_after_ms(struct span value, uint64_t *ms)
{
    uint64_t seconds;

    if (!number_uint(value, &seconds) || seconds > 1000000)
        return false;
    *ms = seconds * 1000;
    return true;
}
