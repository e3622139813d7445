/* Goal: a client's address is what the last proxy that is trusted says, and never what somebody has
 * said who is not. */
#include "http/forwarded.h"
#include "lib/test.h"

static struct addr_ranges trusted;

static struct addr address(const char *text)
{
    struct addr addr;

    assert_true(addr_from_ip(span_of(text), 0, &addr));
    return addr;
}

/* 10.0.0.0/8 is trusted. `first` and `second` are fields of the same name; NULL: there is none. */
static void is_client(enum http_forwarding where, const char *peer, const char *first,
                      const char *second, const char *expected)
{
    struct span name = where == HTTP_FORWARDED ? SPAN("forwarded") : SPAN("x-FORWARDED-for");
    struct http_field at[3] = {
        {SPAN("Accept"), SPAN("*/*")}, {name, span_of(first)}, {name, span_of(second)}};
    struct http_fields fields = {at, 1u + (first != NULL) + (second != NULL)};
    struct addr from = address(peer);
    struct addr client = http_forwarded_client(&fields, where, &trusted, &from);
    char text[ADDR_TEXT_SIZE];

    addr_format_host(&client, text);
    assert_string_equal(text, expected);
}

static int set_up(void **state)
{
    struct span bad;

    (void)state;
    return !addr_ranges_parse(SPAN("10.0.0.0/8 2001:db8::/32"), &trusted, &bad);
}

static void test_x_forwarded_for(void **state)
{
    enum http_forwarding x = HTTP_X_FORWARDED_FOR;

    (void)state;
    is_client(x, "10.0.0.1", NULL, NULL, "10.0.0.1");
    is_client(x, "10.0.0.1", "1.2.3.4", NULL, "1.2.3.4");
    is_client(x, "9.9.9.9", "1.2.3.4", NULL, "9.9.9.9");
    is_client(x, "10.0.0.1", "6.6.6.6, 1.2.3.4", NULL, "1.2.3.4");
    is_client(x, "10.0.0.1", "6.6.6.6, 1.2.3.4,10.0.0.2 ,\t10.0.0.3", NULL, "1.2.3.4");
    is_client(x, "10.0.0.1", "10.0.0.9, 10.0.0.2", NULL, "10.0.0.9");
    is_client(x, "10.0.0.1", "6.6.6.6", "1.2.3.4", "1.2.3.4");
    is_client(x, "10.0.0.1", "1.2.3.4", "10.0.0.2", "1.2.3.4");
    is_client(x, "10.0.0.1", "1.2.3.4:5678", NULL, "1.2.3.4");
    is_client(x, "10.0.0.1", "2a00::1", NULL, "2a00::1");
    is_client(x, "10.0.0.1", "[2a00::1]", NULL, "2a00::1");
    is_client(x, "10.0.0.1", "[2a00::1]:80", NULL, "2a00::1");
    is_client(x, "2001:db8::1", "1.2.3.4, 2001:db8::7", NULL, "1.2.3.4");
    is_client(x, "10.0.0.1", "", NULL, "10.0.0.1");
    is_client(x, "10.0.0.1", "unknown", NULL, "10.0.0.1");
    is_client(x, "10.0.0.1", "1.2.3.4, unknown, 10.0.0.2", NULL, "10.0.0.2");
    is_client(x, "10.0.0.1", "1.2.3.4, , 10.0.0.2", NULL, "10.0.0.2");
    is_client(x, "10.0.0.1", "1.2.3.4.5", NULL, "10.0.0.1");
    is_client(x, "10.0.0.1", "unix:/x", NULL, "10.0.0.1");
}

static void test_forwarded(void **state)
{
    enum http_forwarding f = HTTP_FORWARDED;

    (void)state;
    is_client(f, "10.0.0.1", "for=1.2.3.4", NULL, "1.2.3.4");
    is_client(f, "10.0.0.1", "FOR=\"1.2.3.4:80\";proto=https;by=10.0.0.1", NULL, "1.2.3.4");
    is_client(f, "10.0.0.1", "proto=https; for=\"[2a00::1]:4711\"", NULL, "2a00::1");
    is_client(f, "10.0.0.1", "for=6.6.6.6, for=1.2.3.4, for=10.0.0.2", NULL, "1.2.3.4");
    is_client(f, "9.9.9.9", "for=1.2.3.4", NULL, "9.9.9.9");
    is_client(f, "10.0.0.1", "for=_hidden", NULL, "10.0.0.1");
    is_client(f, "10.0.0.1", "for=unknown, for=10.0.0.2", NULL, "10.0.0.2");
    is_client(f, "10.0.0.1", "by=1.2.3.4", NULL, "10.0.0.1");
    is_client(f, "10.0.0.1", "for=", NULL, "10.0.0.1");
    is_client(f, "10.0.0.1", "for=\"", NULL, "10.0.0.1");
    is_client(f, "10.0.0.1", "1.2.3.4", NULL, "10.0.0.1");
}

static void test_never(void **state)
{
    (void)state;
    is_client(HTTP_FORWARDED_NEVER, "10.0.0.1", "1.2.3.4", NULL, "10.0.0.1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_x_forwarded_for),
                                       cmocka_unit_test(test_forwarded),
                                       cmocka_unit_test(test_never)};

    return cmocka_run_group_tests(tests, set_up, NULL);
}
