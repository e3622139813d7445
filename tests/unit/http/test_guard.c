/* Goal: the scan finds the end of a section wherever the bytes are cut, looks at no byte twice,
 * keeps to its limits to the byte, and every rule has a row that says what an answer and a log
 * need. What the rules refuse in whole messages is in test_parser.c. */
#include "http/guard.h"
#include "http/parser.h"
#include "lib/test.h"

#include <stdlib.h>

static const struct guard_limits wide = {1000, 1000};

/* Scans `bytes` in pieces of `step`; the rule, and the size where it is complete. */
static enum guard scan(enum guard_section section, struct span bytes,
                       const struct guard_limits *limits, size_t step, size_t *size)
{
    struct guard_scan progress = {0};
    enum guard rule = GUARD_OK;

    *size = 0;
    for (size_t len = 0; len < bytes.len && rule == GUARD_OK && *size == 0;) {
        char *copy;

        len = len + step < bytes.len ? len + step : bytes.len;
        copy = malloc(len);
        memcpy(copy, bytes.ptr, len);
        rule = guard_scan(&progress, section, (struct span){copy, len}, limits, size);
        free(copy);
    }
    return rule;
}

static void test_every_rule_has_a_row(void **state)
{
    (void)state;
    for (int rule = GUARD_OK + 1; rule < GUARD_COUNT; rule++) {
        const struct guard_rule *row = guard_rule((enum guard)rule);

        assert_in_range(row->status, 400, 505);
        assert_true(strlen(row->token) > 0);
        assert_true(strncmp(row->section, "RFC ", 4) == 0);
        assert_true(strlen(row->text) > 0);
        for (int other = GUARD_OK; other < rule; other++)
            assert_string_not_equal(guard_rule((enum guard)other)->token, row->token);
    }
}

static void test_the_end_is_found_in_any_pieces(void **state)
{
    struct span request = SPAN("GET / HTTP/1.1\r\nHost: a\r\n\r\nmore\n\n");
    struct span answer = SPAN("HTTP/1.0 404 Not here\r\nA: b\r\n\r\nmore");
    struct span trailer = SPAN("A: b\r\nC: d\r\n\r\nmore");
    struct span empty = SPAN("\r\nmore");
    size_t size;

    (void)state;
    for (size_t step = 1; step < 40; step++) {
        assert_int_equal(scan(GUARD_REQUEST, request, &wide, step, &size), GUARD_OK);
        assert_int_equal(size, request.len - 6);
        assert_int_equal(scan(GUARD_RESPONSE, answer, &wide, step, &size), GUARD_OK);
        assert_int_equal(size, answer.len - 4);
        assert_int_equal(scan(GUARD_TRAILER, trailer, &wide, step, &size), GUARD_OK);
        assert_int_equal(size, trailer.len - 4);
        assert_int_equal(scan(GUARD_TRAILER, empty, &wide, step, &size), GUARD_OK);
        assert_int_equal(size, 2);
    }
}

static void test_limits_to_the_byte(void **state)
{
    struct span line = SPAN("GET / HTTP/1.1\r\n\r\n"); /* 14 bytes and ends: 18 in all */
    struct guard_limits limits = {14, 18};
    size_t size;

    (void)state;
    for (size_t step = 1; step < 20; step++) {
        limits = (struct guard_limits){14, 18};
        assert_int_equal(scan(GUARD_REQUEST, line, &limits, step, &size), GUARD_OK);
        assert_int_equal(size, 18);
        limits.line_bytes_max = 13;
        assert_int_equal(scan(GUARD_REQUEST, line, &limits, step, &size), GUARD_LINE_BYTES);
        limits = (struct guard_limits){14, 17};
        assert_int_equal(scan(GUARD_REQUEST, line, &limits, step, &size), GUARD_HEAD_BYTES);
        assert_int_equal(
            scan(GUARD_TRAILER, SPAN("A: 0123456789012345\r\n\r\n"), &limits, step, &size),
            GUARD_TRAILER_BYTES);
        /* a status line has no limit but the head's */
        limits = (struct guard_limits){1, 19};
        assert_int_equal(scan(GUARD_RESPONSE, SPAN("HTTP/1.1 200 \r\n\r\n"), &limits, step, &size),
                         GUARD_OK);
    }
}

/* Without an end there is a limit too, and it is told as soon as it is passed. */
static void test_what_never_ends(void **state)
{
    struct guard_limits limits = {20, 64};
    struct guard_scan progress = {0};
    char bytes[64];
    size_t size;

    (void)state;
    memset(bytes, 'a', sizeof(bytes));
    assert_int_equal(guard_scan(&progress, GUARD_REQUEST, (struct span){bytes, 21}, &limits, &size),
                     GUARD_OK);
    assert_int_equal(guard_scan(&progress, GUARD_REQUEST, (struct span){bytes, 22}, &limits, &size),
                     GUARD_LINE_BYTES);
    progress = (struct guard_scan){0};
    assert_int_equal(guard_scan(&progress, GUARD_TRAILER, (struct span){bytes, 63}, &limits, &size),
                     GUARD_OK);
    assert_int_equal(guard_scan(&progress, GUARD_TRAILER, (struct span){bytes, 64}, &limits, &size),
                     GUARD_TRAILER_BYTES);
}

/* What is wrong with a line is told before the line is complete, where its first byte says so. */
static void test_early_refusals(void **state)
{
    struct guard_scan progress = {0};
    size_t size;

    (void)state;
    assert_int_equal(guard_scan(&progress, GUARD_REQUEST, SPAN("\x16"), &wide, &size),
                     GUARD_REQUEST_LINE);
    progress = (struct guard_scan){0};
    assert_int_equal(
        guard_scan(&progress, GUARD_REQUEST, SPAN("GET / HTTP/1.1\r\n "), &wide, &size),
        GUARD_FOLD);
    progress = (struct guard_scan){0};
    assert_int_equal(guard_scan(&progress, GUARD_TRAILER, SPAN("\t"), &wide, &size), GUARD_FOLD);
}

static void test_trailers(void **state)
{
    (void)state;
    assert_true(guard_trailer(SPAN("\r\n")));
    assert_true(guard_trailer(SPAN("A: b\r\nContent-Length:5\r\n\r\n")));
    assert_true(guard_trailer(SPAN("A:\r\n\r\n")));
    assert_false(guard_trailer(SPAN("A\r\n\r\n")));
    assert_false(guard_trailer(SPAN("A\r\nB: c\r\n\r\n")));
    assert_false(guard_trailer(SPAN("A : b\r\n\r\n")));
    assert_false(guard_trailer(SPAN("A: \x01\r\n\r\n")));
    assert_false(guard_trailer(SPAN(": b\r\n\r\n")));
}

/* The framing rules without llhttp before them: a later one may let more pass. */
static enum guard judge(const char *coding, const char *coding2, const char *length,
                        const char *length2)
{
    const char *values[] = {"a", coding, coding2, length, length2};
    const char *names[] = {"Host", "Transfer-Encoding", "transfer-encoding", "Content-Length",
                           "content-length"};
    struct http_field at[5];
    struct http_head head = {.method = SPAN("POST"), .target = SPAN("/"), .minor = 1};

    head.is_request = true;
    head.fields.at = at;
    for (int i = 0; i < 5; i++) {
        if (values[i] != NULL)
            at[head.fields.count++] = (struct http_field){span_of(names[i]), span_of(values[i])};
    }
    return guard_head(&head);
}

static void test_framing(void **state)
{
    (void)state;
    assert_int_equal(judge(NULL, NULL, NULL, NULL), GUARD_OK);
    assert_int_equal(judge("chunked", NULL, NULL, NULL), GUARD_OK);
    assert_int_equal(judge("CHUNKED", NULL, NULL, NULL), GUARD_OK);
    assert_int_equal(judge("chunked", "chunked", NULL, NULL), GUARD_CODING_TWICE);
    assert_int_equal(judge("chunked", NULL, "1", NULL), GUARD_CODING_LENGTH);
    assert_int_equal(judge("", NULL, "1", NULL), GUARD_CODING_LENGTH);
    assert_int_equal(judge("", NULL, NULL, NULL), GUARD_CODING_FINAL);
    assert_int_equal(judge("a,b;c, chunked", NULL, NULL, NULL), GUARD_CODING_FINAL);
    assert_int_equal(judge("a,b , chunked", NULL, NULL, NULL), GUARD_CODING);
    assert_int_equal(judge(NULL, NULL, "1", "1"), GUARD_LENGTH);
    assert_int_equal(judge(NULL, NULL, "1,1", NULL), GUARD_LENGTH);
    assert_int_equal(judge(NULL, NULL, "", NULL), GUARD_LENGTH);
    assert_int_equal(judge(NULL, NULL, "9223372036854775807", NULL), GUARD_OK);
    assert_int_equal(judge(NULL, NULL, "9223372036854775808", NULL), GUARD_LENGTH_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rule_has_a_row),
        cmocka_unit_test(test_the_end_is_found_in_any_pieces),
        cmocka_unit_test(test_limits_to_the_byte),
        cmocka_unit_test(test_what_never_ends),
        cmocka_unit_test(test_early_refusals),
        cmocka_unit_test(test_trailers),
        cmocka_unit_test(test_framing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
