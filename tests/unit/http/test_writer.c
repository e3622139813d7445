/* Goal: heads and chunks are written byte for byte as they should be, into buffers of any fill, and
 * the date is rendered once a second. */
#include "base/clock.h"
#include "http/writer.h"
#include "lib/test.h"

#include <stdio.h>
#include <stdlib.h>

static struct http_date date;

static int set_date(void **state)
{
    (void)state;
    http_date_refresh(&date, 1);
    date.until_us = 1;
    memcpy(date.text, "Server: weft\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 51);
    return 0;
}

#define FIXED "Server: weft\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"

static void expect(const struct http_answer *answer, const char *wanted)
{
    struct buf out = {0};

    http_write_head(&out, answer, &date);
    *buf_reserve(&out, 1) = '\0';
    assert_string_equal(out.data, wanted);
    buf_release(&out);
}

static void test_heads(void **state)
{
    const struct http_field fields[] = {
        {SPAN("X-A"), SPAN("b")}, {SPAN("content-type"), SPAN("text/html")}, {SPAN("E"), SPAN("")}};
    struct http_answer answer = {.code = 200, .framing = HTTP_FRAMED_BY_LENGTH, .length = 12};

    (void)state;
    expect(&answer, "HTTP/1.1 200 OK\r\n" FIXED "Content-Length: 12\r\n\r\n");
    answer.type = SPAN("text/plain");
    answer.fields = fields;
    answer.field_count = 3;
    answer.persistence = HTTP_CLOSES;
    expect(&answer, "HTTP/1.1 200 OK\r\n" FIXED "Connection: close\r\nContent-Type: text/plain\r\n"
                    "Content-Length: 12\r\nX-A: b\r\nE: \r\n\r\n");
    answer.type = (struct span){NULL, 0};
    answer.code = 431;
    answer.persistence = HTTP_PERSISTS_IN_10;
    answer.framing = HTTP_FRAMED_BY_CHUNKS;
    expect(&answer, "HTTP/1.1 431 Request Header Fields Too Large\r\n" FIXED
                    "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n"
                    "content-type: text/html\r\nE: \r\n\r\n");
    answer = (struct http_answer){.code = 599, .framing = HTTP_FRAMED_NOT};
    expect(&answer, "HTTP/1.1 599 Unknown\r\n" FIXED "\r\n");
    answer.framing = HTTP_FRAMED_BY_CLOSE;
    expect(&answer, "HTTP/1.1 599 Unknown\r\n" FIXED "\r\n");
    answer.framing = HTTP_FRAMED_BY_LENGTH;
    answer.length = UINT64_MAX;
    expect(&answer,
           "HTTP/1.1 599 Unknown\r\n" FIXED "Content-Length: 18446744073709551615\r\n\r\n");
}

/* A head goes behind what is there, wherever the buffer's end is. */
static void test_a_head_finds_room(void **state)
{
    struct http_answer answer = {.code = 204, .framing = HTTP_FRAMED_NOT};
    const char *head = "HTTP/1.1 204 No Content\r\n" FIXED "\r\n";
    struct buf_pool pool;

    (void)state;
    buf_pool_init(&pool, 4, NULL);
    for (size_t fill = 0; fill < 2 * BUF_PIECE_SIZE; fill += 61) {
        struct buf out;

        buf_init(&out, &pool);
        memset(buf_reserve(&out, fill), 'x', fill);
        buf_commit(&out, fill);
        http_write_head(&out, &answer, &date);
        assert_int_equal(out.len, fill + strlen(head));
        assert_memory_equal(out.data + fill, head, strlen(head));
        buf_release(&out);
    }
    buf_pool_deinit(&pool);
}

static void test_chunks(void **state)
{
    static const size_t sizes[] = {1, 9, 10, 15, 16, 255, 256, 4095, 4096, 65535, 65536, 1048577};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *bytes = calloc(1, sizes[i]);
        struct buf out = {0};
        char head[32];
        size_t len = (size_t)snprintf(head, sizeof(head), "%zx\r\n", sizes[i]);

        http_write_chunk(&out, (struct span){bytes, sizes[i]});
        assert_int_equal(out.len, len + sizes[i] + 2);
        assert_memory_equal(out.data, head, len);
        assert_memory_equal(out.data + out.len - 2, "\r\n", 2);
        buf_release(&out);
        free(bytes);
    }
}

static void test_no_bytes_are_no_chunk(void **state)
{
    struct buf out = {0};

    (void)state;
    http_write_chunk(&out, SPAN(""));
    assert_int_equal(out.len, 0);
    http_write_last_chunk(&out);
    http_write_continue(&out);
    assert_true(span_equal(buf_span(&out), SPAN("0\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")));
    buf_release(&out);
}

static void test_the_date_is_true_for_a_second(void **state)
{
    struct http_date fresh = {0};
    char text[CLOCK_HTTP_DATE_SIZE];
    uint64_t until;

    (void)state;
    http_date_refresh(&fresh, 5000000);
    assert_memory_equal(fresh.text, "Server: weft\r\nDate: ", 20);
    assert_memory_equal(fresh.text + 20 + CLOCK_HTTP_DATE_SIZE - 1, "\r\n", 2);
    assert_in_range(fresh.until_us, 5000001, 6000000);
    memset(fresh.text, 'x', sizeof(fresh.text));
    until = fresh.until_us;
    http_date_refresh(&fresh, until - 1);
    assert_int_equal(fresh.text[0], 'x');
    http_date_refresh(&fresh, until);
    clock_http_date(clock_wall_us(), text);
    assert_memory_equal(fresh.text + 20, text, 16); /* up to the day: the second may have passed */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_a_head_finds_room),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_no_bytes_are_no_chunk),
        cmocka_unit_test(test_the_date_is_true_for_a_second),
    };

    return cmocka_run_group_tests(tests, set_date, NULL);
}
