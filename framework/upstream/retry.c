/* upstream/retry.c - may a call that failed be sent once more? */
#include "upstream/retry.h"
#include "base/check.h"

bool retry_is_safe(const struct retry_facts *facts)
{
    CHECK(facts->tries > 0);
    if (facts->err != ERR_RESET && facts->err != ERR_CLOSED && facts->err != ERR_IO)
        return false;
    /* A new connection that breaks says that the peer is unwell, not that the call came late. */
    if (!facts->was_reused || facts->tries >= RETRY_TRIES_MAX || facts->received > 0)
        return false;
    return facts->written == 0 || facts->is_idempotent;
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
