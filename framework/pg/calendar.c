/* pg/calendar.c - points in time as the server writes and reads them. */
#include "pg/calendar.h"
#include "base/number.h"
#include <stdio.h>

enum { DAYS_OF_ERA = 146097, DAYS_TO_1970 = 719468, YEARS_OF_ERA = 400, DAY_S = 86400 };
enum { US = 1000000, YEAR_MAX = 294276, ZONE_HOURS_MAX = 15 };

/* A date; the year before 1 is 0. */
struct date {
    int64_t year;
    int64_t month, day; /* from 1 */
};

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Years begin in March here, so that a leap day is the last one of a year. */
static int64_t days_of(const struct date *date)
{
    int64_t year = date->month <= 2 ? date->year - 1 : date->year;
    int64_t era = floor_div(year, YEARS_OF_ERA);
    int64_t of_era = year - era * YEARS_OF_ERA;
    int64_t of_year = (153 * (date->month + (date->month > 2 ? -3 : 9)) + 2) / 5 + date->day - 1;

    return era * DAYS_OF_ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970;
}

static struct date date_of(int64_t days)
{
    int64_t era = floor_div(days + DAYS_TO_1970, DAYS_OF_ERA);
    int64_t day = days + DAYS_TO_1970 - era * DAYS_OF_ERA;
    int64_t year = (day - day / 1460 + day / 36524 - day / (DAYS_OF_ERA - 1)) / 365;
    int64_t of_year = day - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;

    return (struct date){
        .year = year + era * YEARS_OF_ERA + (month >= 10),
        .month = month < 10 ? month + 3 : month - 9,
        .day = of_year - (153 * month + 2) / 5 + 1,
    };
}

void pg_time_write_day(int64_t days, int64_t rest, char text[PG_TIME_SIZE])
{
    struct date date = date_of(days);
    int second = (int)(rest / US);

    (void)snprintf(text, PG_TIME_SIZE, "%04d-%02d-%02d %02d:%02d:%02d.%06d+00%s",
                   (int)(date.year > 0 ? date.year : 1 - date.year), (int)date.month, (int)date.day,
                   second / 3600, second / 60 % 60, second % 60, (int)(rest % US),
                   date.year > 0 ? "" : " BC");
}

void pg_time_write(int64_t us, char text[PG_TIME_SIZE])
{
    const int64_t day_us = (int64_t)DAY_S * US;
    int64_t rest = (us % day_us + day_us) % day_us; /* days * day_us could be beyond INT64_MIN */

    if (us == INT64_MAX || us == INT64_MIN)
        (void)snprintf(text, PG_TIME_SIZE, us > 0 ? "infinity" : "-infinity");
    else
        pg_time_write_day(floor_div(us, day_us), rest, text);
}

/* Takes `count` digits at least, at most 6, that are one number of at most `max`. */
static bool take_digits(struct span *text, size_t count, int64_t max, int64_t *value)
{
    size_t len = 0;

    while (len < text->len && len < 6 && text->ptr[len] >= '0' && text->ptr[len] <= '9')
        len++;
    if (len < count || !number_int((struct span){text->ptr, len}, value) || *value > max)
        return false;
    *text = (struct span){text->ptr + len, text->len - len};
    return true;
}

static bool take_sign(struct span *text, char sign)
{
    if (text->len == 0 || text->ptr[0] != sign)
        return false;
    *text = (struct span){text->ptr + 1, text->len - 1};
    return true;
}

static bool take_date(struct span *text, struct date *date)
{
    return take_digits(text, 4, YEAR_MAX, &date->year) && take_sign(text, '-') &&
           take_digits(text, 2, 12, &date->month) && take_sign(text, '-') &&
           take_digits(text, 2, 31, &date->day) && date->year > 0 && date->month > 0 &&
           date->day > 0;
}

/* "12:00:00" and perhaps ".5". */
static bool take_clock(struct span *text, int64_t *us)
{
    int64_t hour, minute, second, part = 0;
    size_t before;

    if (!take_digits(text, 2, 24, &hour) || !take_sign(text, ':') ||
        !take_digits(text, 2, 59, &minute) || !take_sign(text, ':') ||
        !take_digits(text, 2, 60, &second))
        return false;
    if (take_sign(text, '.')) {
        before = text->len;
        if (!take_digits(text, 1, US, &part))
            return false;
        for (size_t digits = before - text->len; digits < 6; digits++)
            part *= 10;
    }
    *us = ((hour * 60 + minute) * 60 + second) * US + part;
    return true;
}

/* "+02", "-03:30", "+00:19:32", or nothing. */
static bool take_zone(struct span *text, int64_t *seconds)
{
    int64_t sign = 1, hour, minute = 0, second = 0;

    *seconds = 0;
    if (take_sign(text, '-'))
        sign = -1;
    else if (!take_sign(text, '+'))
        return true;
    if (!take_digits(text, 2, ZONE_HOURS_MAX, &hour))
        return false;
    if (take_sign(text, ':') && !take_digits(text, 2, 59, &minute))
        return false;
    if (take_sign(text, ':') && !take_digits(text, 2, 59, &second))
        return false;
    *seconds = sign * ((hour * 60 + minute) * 60 + second);
    return true;
}

static bool take_all(struct span text, struct date *date, int64_t *us, int64_t *zone)
{
    if (!take_date(&text, date))
        return false;
    if (take_sign(&text, ' ') && text.len > 0 && text.ptr[0] != 'B') {
        if (!take_clock(&text, us) || !take_zone(&text, zone))
            return false;
        (void)take_sign(&text, ' ');
    }
    if (span_equal(text, SPAN("BC"))) {
        date->year = 1 - date->year;
        text.len = 0;
    }
    return text.len == 0;
}

bool pg_time_read(struct span text, int64_t *us)
{
    struct date date = {0};
    int64_t of_day = 0, zone = 0, total;

    if (span_equal(text, SPAN("infinity")) || span_equal(text, SPAN("-infinity"))) {
        *us = text.ptr[0] == '-' ? INT64_MIN : INT64_MAX;
        return true;
    }
    if (!take_all(text, &date, &of_day, &zone))
        return false;
    if (__builtin_mul_overflow(days_of(&date) * DAY_S - zone, (int64_t)US, &total) ||
        __builtin_add_overflow(total, of_day, &total))
        return false;
    *us = total;
    return true;
}
