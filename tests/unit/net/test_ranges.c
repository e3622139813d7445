/* Goal: an address is in a range exactly when its first bits are; what is no range is named. */
#include "lib/test.h"
#include "net/ranges.h"

#include <stdio.h>
#include <string.h>

static struct addr address(const char *text)
{
    struct addr addr;

    if (strcmp(text, "unix") == 0)
        assert_true(addr_parse(SPAN("unix:/x"), &addr));
    else
        assert_true(addr_from_ip(span_of(text), 80, &addr));
    return addr;
}

static void test_in_and_out(void **state)
{
    static const struct {
        const char *ranges, *in, *out;
    } cases[] = {
        {"", NULL, "127.0.0.1"},
        {"127.0.0.1", "127.0.0.1", "127.0.0.2"},
        {"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
        {"10.1.2.3/8", "10.9.9.9", "9.255.255.255"},
        {"192.168.4.0/22", "192.168.7.255", "192.168.8.0"},
        {"0.0.0.0/0", "255.255.255.255", "::"},
        {"10.0.0.0/31", "10.0.0.1", "10.0.0.2"},
        {"10.0.0.1/32", "10.0.0.1", "10.0.0.0"},
        {"::/0", "2001:db8::1", "10.0.0.1"},
        {"2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"},
        {"::1", "::1", "::2"},
        {"10.0.0.0/8", "::ffff:10.1.1.1", "::ffff:11.1.1.1"},
        {"::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"},
        {"unix", "unix", "127.0.0.1"},
        {" 1.2.3.4\t 10.0.0.0/8  unix ::1 ", "::1", "1.2.3.5"},
        {"1.2.3.4 5.6.7.8", "5.6.7.8", "unix"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct addr_ranges ranges;
        struct span bad;
        struct addr out = address(cases[i].out);

        assert_true(addr_ranges_parse(span_of(cases[i].ranges), &ranges, &bad));
        if (cases[i].in != NULL) {
            struct addr in = address(cases[i].in);
            assert_true(addr_ranges_have(&ranges, &in));
        }
        assert_false(addr_ranges_have(&ranges, &out));
    }
}

static void test_what_is_none(void **state)
{
    static const char *const texts[] = {
        "10.0.0.0/33", "::/129",      "10.0.0/8",    "10.0.0.0/", "/8",
        "name",        "10.0.0.1:80", "10.0.0.0/-1", "unix:/x",   "10.0.0.0/8,10.1.0.0/16",
        "10.0.0.0/+8"};
    struct addr_ranges ranges;
    struct span bad;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char text[80];
        snprintf(text, sizeof text, "::1 %s 1.2.3.4", texts[i]);
        assert_false(addr_ranges_parse(span_of(text), &ranges, &bad));
        assert_true(span_equal(bad, span_of(texts[i])));
    }
}

static void test_too_many(void **state)
{
    char text[RANGES_MAX * 16 + 64] = "";
    struct addr_ranges ranges;
    struct span bad;

    (void)state;
    for (int i = 0; i < RANGES_MAX; i++)
        snprintf(text + strlen(text), 24, "10.0.0.%d ", i);
    assert_true(addr_ranges_parse(span_of(text), &ranges, &bad));
    assert_int_equal(ranges.count, RANGES_MAX);
    strcat(text, "10.0.1.0");
    assert_false(addr_ranges_parse(span_of(text), &ranges, &bad));
    assert_true(span_equal(bad, SPAN("10.0.1.0")));
}

static void test_no_address(void **state)
{
    const struct addr none = {.len = 0};
    struct addr_ranges ranges;
    struct span bad;

    (void)state;
    assert_true(addr_ranges_parse(SPAN("0.0.0.0/0 ::/0 unix"), &ranges, &bad));
    assert_false(addr_ranges_have(&ranges, &none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_and_out), cmocka_unit_test(test_what_is_none),
        cmocka_unit_test(test_too_many), cmocka_unit_test(test_no_address)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
