/* Goal: dates are right at the calendar's corners, and monotonic time does not go back. */
#include "base/clock.h"
#include "lib/dies.h"
#include "lib/test.h"

#include <time.h>

static const struct {
    uint64_t seconds;
    const char *http;
    const char *iso;
} dates[] = {
    {0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.123Z"},
    {784111777, "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37.123Z"},
    {951782400, "Tue, 29 Feb 2000 00:00:00 GMT", "2000-02-29T00:00:00.123Z"},
    {1767225599, "Wed, 31 Dec 2025 23:59:59 GMT", "2025-12-31T23:59:59.123Z"},
    {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT", "2100-03-01T00:00:00.123Z"},
    {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59.123Z"},
};

static void test_dates(void **state)
{
    char http[CLOCK_HTTP_DATE_SIZE];
    char iso[CLOCK_ISO_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof dates / sizeof dates[0]; i++) {
        clock_http_date(dates[i].seconds * 1000000 + 123999, http);
        clock_iso(dates[i].seconds * 1000000 + 123999, iso);
        assert_string_equal(http, dates[i].http);
        assert_string_equal(iso, dates[i].iso);
    }
}

static void test_time_goes_on(void **state)
{
    uint64_t last = clock_monotonic_us();

    (void)state;
    for (int i = 0; i < 10000; i++) {
        uint64_t now = clock_monotonic_us();

        assert_true(now >= last);
        last = now;
    }
    assert_in_range(clock_wall_us() / 1000000, (uint64_t)time(NULL) - 2, (uint64_t)time(NULL) + 2);
}

static void ask_year_10000(void *arg)
{
    clock_iso(253402300800 * 1000000, arg);
}

static void test_the_year_10000_dies(void **state)
{
    char output[DIES_OUTPUT_SIZE];
    char text[CLOCK_ISO_SIZE];

    (void)state;
    assert_true(dies(ask_year_10000, text, output));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_time_goes_on),
        cmocka_unit_test(test_the_year_10000_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
