/* upstream/retry.c - may a call that failed be sent once more? */
#include "upstream/retry.h"
#include "base/clock.h"
#include "base/number.h"
#include <stddef.h>
#include <string.h>
#include <time.h>

/* A longer wait is none that anybody means. */
enum { AFTER_S_MAX = 1000000 };

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

/* Of exactly so many digits. */
static bool digits(const char *at, size_t len, int *value)
{
    *value = 0;
    for (size_t i = 0; i < len; i++) {
        if (at[i] < '0' || at[i] > '9')
            return false;
        *value = *value * 10 + (at[i] - '0');
    }
    return true;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", the form that everybody has to send (RFC 9110 section 5.6.7). */
static bool date_of(struct span text, int64_t *seconds)
{
    static const char form[] = "???, ?? ??? ???? ??:??:?? GMT";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm = {0};

    if (text.len != sizeof form - 1)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (form[i] != '?' && form[i] != text.ptr[i])
            return false;
    while (tm.tm_mon < 12 && memcmp(months + (ptrdiff_t)tm.tm_mon * 3, text.ptr + 8, 3) != 0)
        tm.tm_mon++;
    if (tm.tm_mon == 12 || !digits(text.ptr + 5, 2, &tm.tm_mday) ||
        !digits(text.ptr + 12, 4, &tm.tm_year) || !digits(text.ptr + 17, 2, &tm.tm_hour) ||
        !digits(text.ptr + 20, 2, &tm.tm_min) || !digits(text.ptr + 23, 2, &tm.tm_sec))
        return false;
    tm.tm_year -= 1900;
    *seconds = timegm(&tm);
    return true;
}

bool retry_after_ms(struct span value, struct span date, uint64_t *ms)
{
    uint64_t seconds;
    int64_t then_s, now_s;

    if (date_of(value, &then_s)) {
        if (!date_of(date, &now_s))
            now_s = (int64_t)(clock_wall_us() / 1000000);
        seconds = then_s > now_s ? (uint64_t)(then_s - now_s) : 0;
    } else if (!number_uint(value, &seconds)) {
        return false;
    }
    if (seconds > AFTER_S_MAX)
        return false;
    *ms = seconds * 1000;
    return true;
}
