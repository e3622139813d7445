/* base/clock.h - time: monotonic for limits, wall time for people.
 *
 * Units: microseconds where a name ends in _us, milliseconds where in _ms.
 */
#ifndef WEFT_BASE_CLOCK_H
#define WEFT_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Monotonic; never goes back, unrelated to the calendar. */
uint64_t clock_monotonic_us(void);

/* A counter that goes up evenly and costs next to nothing to read, for what is measured often. How
 * fast is to be found out: by reading it and clock_monotonic_us() twice. */
static inline uint64_t clock_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;

    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return clock_monotonic_us();
#endif
}

/* Since 1970, UTC. */
uint64_t clock_wall_us(void);

/* Of the texts below, with their NUL. Both end with the year 9999 (checked). */
enum { CLOCK_HTTP_DATE_SIZE = 30, CLOCK_ISO_SIZE = 28 };

/* IMF-fixdate of RFC 9110 section 5.6.7, "Sun, 06 Nov 1994 08:49:37 GMT", with its NUL. */
void clock_http_date(uint64_t wall_us, char text[CLOCK_HTTP_DATE_SIZE]);

/* RFC 3339 in UTC with milliseconds, "2026-01-31T08:49:37.123Z", with its NUL. */
void clock_iso(uint64_t wall_us, char text[CLOCK_ISO_SIZE]);

#endif
