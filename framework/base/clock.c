/* base/clock.c - time: monotonic for limits, wall time for people. */
#include "base/clock.h"
#include "base/check.h"
#include <string.h>
#include <time.h>

static uint64_t read_us(clockid_t id)
{
    struct timespec now;

    CHECK(clock_gettime(id, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_monotonic_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

uint64_t clock_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

/* The calendar of `wall_us`, which four digits of a year must hold. */
static struct tm calendar(uint64_t wall_us)
{
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm tm;

    CHECK(wall_us / 1000000 <= 253402300799u);
    CHECK(gmtime_r(&seconds, &tm) != NULL);
    return tm;
}

/* `value` as `count` digits; returns what follows. By hand: strftime() asks the locale. */
static char *put(char *at, int value, int count)
{
    for (int i = count - 1; i >= 0; i--) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + count;
}

static char *put_text(char *at, const char *text, size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

void clock_http_date(uint64_t wall_us, char text[CLOCK_HTTP_DATE_SIZE])
{
    struct tm tm = calendar(wall_us);
    char *at = text;

    CHECK(text != NULL);
    at = put_text(at, &"SunMonTueWedThuFriSat"[3 * tm.tm_wday], 3);
    at = put_text(at, ", ", 2);
    at = put(at, tm.tm_mday, 2);
    *at++ = ' ';
    at = put_text(at, &"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * tm.tm_mon], 3);
    *at++ = ' ';
    at = put(at, tm.tm_year + 1900, 4);
    *at++ = ' ';
    at = put(at, tm.tm_hour, 2);
    *at++ = ':';
    at = put(at, tm.tm_min, 2);
    *at++ = ':';
    at = put(at, tm.tm_sec, 2);
    at = put_text(at, " GMT", 5);
    CHECK(at == text + CLOCK_HTTP_DATE_SIZE);
}

void clock_iso(uint64_t wall_us, char text[CLOCK_ISO_SIZE])
{
    struct tm tm = calendar(wall_us);
    char *at = text;

    CHECK(text != NULL);
    at = put(at, tm.tm_year + 1900, 4);
    *at++ = '-';
    at = put(at, tm.tm_mon + 1, 2);
    *at++ = '-';
    at = put(at, tm.tm_mday, 2);
    *at++ = 'T';
    at = put(at, tm.tm_hour, 2);
    *at++ = ':';
    at = put(at, tm.tm_min, 2);
    *at++ = ':';
    at = put(at, tm.tm_sec, 2);
    *at++ = '.';
    at = put(at, (int)(wall_us / 1000 % 1000), 3);
    at = put_text(at, "Z", 2);
    CHECK(at <= text + CLOCK_ISO_SIZE);
}
