/* Goal: a number is read whole or not at all, to the last value that fits, and what is written
 *       reads
 * back the same. */
#include "base/number.h"
#include "lib/random.h"
#include "lib/test.h"

#include <inttypes.h>
#include <stdio.h>

static void test_uint(void **state)
{
    const char *bad[] = {"",
                         " 1",
                         "1 ",
                         "+1",
                         "-1",
                         "0x1",
                         "1.0",
                         "a",
                         "18446744073709551616",
                         "99999999999999999999",
                         "184467440737095516150"};
    uint64_t value = 42;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(number_uint(span_of(bad[i]), &value));
    assert_false(number_uint((struct span){NULL, 0}, &value));
    assert_false(number_uint((struct span){"1\0", 2}, &value));
    assert_int_equal(value, 42);
    assert_true(number_uint(SPAN("18446744073709551615"), &value));
    assert_int_equal(value, UINT64_MAX);
    assert_true(number_uint(SPAN("007"), &value));
    assert_int_equal(value, 7);
}

static void test_int(void **state)
{
    const char *bad[] = {
        "", "-", "--1", "- 1", "+1", "1-", "9223372036854775808", "-9223372036854775809"};
    int64_t value = 42;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(number_int(span_of(bad[i]), &value));
    assert_int_equal(value, 42);
    assert_true(number_int(SPAN("9223372036854775807"), &value));
    assert_true(value == INT64_MAX);
    assert_true(number_int(SPAN("-9223372036854775808"), &value));
    assert_true(value == INT64_MIN);
    assert_true(number_int(SPAN("-0"), &value));
    assert_int_equal(value, 0);
}

static void test_duration(void **state)
{
    const char *bad[] = {"",
                         "1",
                         "00",
                         "s",
                         "10 s",
                         "10S",
                         "10sec",
                         "-1s",
                         "1.5s",
                         "1m30s",
                         "18446744073709552s",
                         "213503982335d"};
    uint64_t ms = 42;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(number_duration_ms(span_of(bad[i]), &ms));
    assert_false(number_duration_ms((struct span){NULL, 0}, &ms));
    assert_int_equal(ms, 42);
    assert_true(number_duration_ms(SPAN("0"), &ms));
    assert_int_equal(ms, 0);
    assert_true(number_duration_ms(SPAN("250ms"), &ms));
    assert_int_equal(ms, 250);
    assert_true(number_duration_ms(SPAN("10s"), &ms));
    assert_int_equal(ms, 10000);
    assert_true(number_duration_ms(SPAN("5m"), &ms));
    assert_int_equal(ms, 300000);
    assert_true(number_duration_ms(SPAN("2h"), &ms));
    assert_int_equal(ms, 7200000);
    assert_true(number_duration_ms(SPAN("1d"), &ms));
    assert_int_equal(ms, 86400000);
    assert_true(number_duration_ms(SPAN("18446744073709551615ms"), &ms));
    assert_true(ms == UINT64_MAX);
}

static void test_size(void **state)
{
    const char *bad[] = {"", "k", "1kb", "1 k", "-1", "1.5m", "17179869184g", "1t"};
    uint64_t bytes = 42;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(number_size(span_of(bad[i]), &bytes));
    assert_int_equal(bytes, 42);
    assert_true(number_size(SPAN("512"), &bytes));
    assert_int_equal(bytes, 512);
    assert_true(number_size(SPAN("64k"), &bytes));
    assert_int_equal(bytes, 65536);
    assert_true(number_size(SPAN("64K"), &bytes));
    assert_int_equal(bytes, 65536);
    assert_true(number_size(SPAN("10m"), &bytes));
    assert_int_equal(bytes, 10485760);
    assert_true(number_size(SPAN("2G"), &bytes));
    assert_true(bytes == 2147483648u);
}

static void test_texts_read_back(void **state)
{
    char text[NUMBER_TEXT_SIZE];
    uint64_t random = 5;
    uint64_t back;
    size_t len;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint64_t value = random_next(&random) >> random_below(&random, 64);
        uint64_t unit = (uint64_t[]){1, 1000, 60000, 86400000, 1024, 1 << 20}[i % 6];

        value = i < 6 ? 0 : i < 12 ? UINT64_MAX : value / unit * unit;
        len = number_format(value, text);
        assert_int_equal(len, strlen(text));
        assert_true(number_uint(span_of(text), &back));
        assert_true(back == value);
        len = number_format_duration(value, text);
        assert_int_equal(len, strlen(text));
        assert_true(number_duration_ms(span_of(text), &back));
        assert_true(back == value);
        len = number_format_size(value, text);
        assert_int_equal(len, strlen(text));
        assert_true(number_size(span_of(text), &back));
        assert_true(back == value);
    }
    (void)number_format_duration(10000, text);
    assert_string_equal(text, "10s");
    (void)number_format_duration(90000, text);
    assert_string_equal(text, "90s");
    (void)number_format_duration(0, text);
    assert_string_equal(text, "0");
    (void)number_format_size(65536, text);
    assert_string_equal(text, "64k");
    (void)number_format_size(1025, text);
    assert_string_equal(text, "1025");
}

/* On both sides of each power of ten, where a text gets a digit more. */
static void test_every_length(void **state)
{
    char text[NUMBER_TEXT_SIZE], wanted[NUMBER_TEXT_SIZE];
    uint64_t power = 1;

    (void)state;
    for (int digits = 1; digits <= 20; digits++, power *= 10) {
        for (int below = 0; below < 2; below++) {
            int len = snprintf(wanted, sizeof(wanted), "%" PRIu64, power - (uint64_t)below);

            assert_int_equal(number_format(power - (uint64_t)below, text), len);
            assert_string_equal(text, wanted);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uint),
        cmocka_unit_test(test_int),
        cmocka_unit_test(test_duration),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_texts_read_back),
        cmocka_unit_test(test_every_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
