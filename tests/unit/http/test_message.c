/* Goal: tokens and values are told apart byte by byte as RFC 9110 section 5 says; methods, codes
 * and fields are known by their names. */
#include "http/message.h"
#include "lib/test.h"

static void test_token_bytes(void **state)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";

    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        char text = (char)byte;
        bool is_alnum = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
                        (byte >= 'A' && byte <= 'Z');
        bool is_mark = byte != 0 && strchr(marks, byte) != NULL;

        assert_int_equal(http_is_token((struct span){&text, 1}), is_alnum || is_mark);
    }
    assert_false(http_is_token(SPAN("")));
    assert_false(http_is_token(SPAN("a b")));
    assert_true(http_is_token(SPAN("Content-Type")));
}

static void test_value_bytes(void **state)
{
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        char text[3] = {'a', (char)byte, 'b'};
        bool is_good = byte == '\t' || (byte >= ' ' && byte != 0x7f);

        assert_int_equal(http_is_field_value((struct span){text, 3}), is_good);
    }
    for (size_t size = 1; size < 40;
         size++) { /* each byte, in each place, in long and short ones */
        for (size_t at = 0; at < size; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                bool is_blank = byte == ' ' || byte == '\t';
                bool is_good = is_blank ? at > 0 && at + 1 < size : byte > ' ' && byte != 0x7f;
                char value[40];

                memset(value, 'a', sizeof(value));
                value[at] = (char)byte;
                assert_int_equal(http_is_field_value((struct span){value, size}), is_good);
            }
        }
    }
    assert_true(http_is_field_value(SPAN("")));
    assert_true(http_is_field_value((struct span){NULL, 0}));
    assert_false(http_is_field_value(SPAN(" a")));
    assert_false(http_is_field_value(SPAN("a\t")));
}

static void test_fields(void **state)
{
    struct http_field at[] = {
        {SPAN("A"), SPAN("1")}, {SPAN("b"), SPAN("")}, {SPAN("a"), SPAN("2")}};
    struct http_fields fields = {at, 3};

    (void)state;
    assert_true(span_equal(http_field_get(&fields, SPAN("a")), SPAN("1")));
    assert_non_null(http_field_get(&fields, SPAN("B")).ptr);
    assert_null(http_field_get(&fields, SPAN("c")).ptr);
    assert_int_equal(http_field_count(&fields, SPAN("a")), 2);
    assert_int_equal(http_field_count(&fields, SPAN("c")), 0);
}

static void test_methods(void **state)
{
    (void)state;
    assert_true(http_is_method(SPAN("GET")));
    assert_true(http_is_method(SPAN("M-SEARCH")));
    assert_false(http_is_method(SPAN("CONNECT")));
    assert_false(http_is_method(SPAN("get")));
    assert_false(http_is_method(SPAN("GETS")));
    assert_false(http_is_method(SPAN("")));
    assert_true(http_is_safe(SPAN("HEAD")));
    assert_true(http_is_safe(SPAN("OPTIONS")));
    assert_false(http_is_safe(SPAN("POST")));
    assert_false(http_is_safe(SPAN("PROPFIND")));
}

static void test_codes(void **state)
{
    (void)state;
    assert_string_equal(http_reason(200), "OK");
    assert_string_equal(http_reason(413), "Content Too Large");
    assert_string_equal(http_reason(299), "Unknown");
    assert_string_equal(http_reason(99999), "Unknown");
    assert_true(http_is_bodyless(103));
    assert_true(http_is_bodyless(204));
    assert_true(http_is_bodyless(304));
    assert_false(http_is_bodyless(200));
    assert_false(http_is_bodyless(205));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_bytes), cmocka_unit_test(test_value_bytes),
        cmocka_unit_test(test_fields),      cmocka_unit_test(test_methods),
        cmocka_unit_test(test_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
