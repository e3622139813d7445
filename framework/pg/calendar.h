/* pg/calendar.h - points in time as the server writes and reads them.
 *
 * A time is microseconds since 1970-01-01 00:00 UTC; INT64_MAX and INT64_MIN are the server's
 * infinity and -infinity. Dates are of the Gregorian calendar, before it was in use, too.
 * Loop:   any thread; nothing is kept.
 * Memory: the caller's.
 */
#ifndef WEFT_PG_CALENDAR_H
#define WEFT_PG_CALENDAR_H

#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

/* Room for pg_time_write(), with its NUL. */
enum { PG_TIME_SIZE = 64 };

/* "2024-02-29 12:00:00.000001+00", for timestamptz, timestamp (UTC then) and date; what is beyond
 * these types is for the server to refuse. */
void pg_time_write(int64_t us, char text[PG_TIME_SIZE]);

/* The same for the time of day, `rest` microseconds of less than a day, on the day `days` after
 * 1970-01-01; for any day that fits into 32 bits. */
void pg_time_write_day(int64_t days, int64_t rest, char text[PG_TIME_SIZE]);

/* Reads what the server writes for these types with DateStyle ISO; a text without a zone counts as
 * UTC. False: none of these. */
bool pg_time_read(struct span text, int64_t *us);

#endif
