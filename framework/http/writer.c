/* http/writer.c - messages to bytes. */
#include "http/writer.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/number.h"
#include <assert.h>

#define SERVER_LINE "Server: weft\r\n"

static_assert(sizeof(SERVER_LINE "Date: \r\n") + CLOCK_HTTP_DATE_SIZE - 1 <=
                  sizeof(((struct http_date *)NULL)->text) + 1,
              "room for the two lines");

enum {
    DATE_SIZE = sizeof(SERVER_LINE "Date: \r\n") - 1 + CLOCK_HTTP_DATE_SIZE - 1,
    FIXED_SIZE = 256, /* more than the status line, framing and Connection ever take */
    CHUNK_HEAD_SIZE = 18
};

static char *put(char *at, struct span bytes)
{
    memcpy(at, bytes.ptr, bytes.len);
    return at + bytes.len;
}

void http_date_refresh(struct http_date *date, uint64_t now_us)
{
    char text[CLOCK_HTTP_DATE_SIZE];
    uint64_t wall_us;
    char *at;

    if (now_us < date->until_us)
        return;
    wall_us = clock_wall_us();
    clock_http_date(wall_us, text);
    at = put(date->text, SPAN(SERVER_LINE "Date: "));
    at = put(at, (struct span){text, CLOCK_HTTP_DATE_SIZE - 1});
    at = put(at, SPAN("\r\n"));
    CHECK(at - date->text == DATE_SIZE);
    date->until_us = now_us + 1000000 - wall_us % 1000000;
}

/* "HTTP/1.1 200 OK": the usual ones in one piece. */
static char *put_status(char *at, uint32_t code)
{
    char digits[NUMBER_TEXT_SIZE];

    if (code == 200)
        return put(at, SPAN("HTTP/1.1 200 OK\r\n"));
    at = put(at, SPAN("HTTP/1.1 "));
    at = put(at, (struct span){digits, number_format(code, digits)});
    at = put(at, SPAN(" "));
    at = put(at, span_of(http_reason(code)));
    return put(at, SPAN("\r\n"));
}

static char *put_field(char *at, struct span name, struct span value)
{
    at = put(at, name);
    at = put(at, SPAN(": "));
    at = put(at, value);
    return put(at, SPAN("\r\n"));
}

static char *put_framing(char *at, const struct http_answer *answer)
{
    char digits[NUMBER_TEXT_SIZE];

    switch (answer->framing) {
    case HTTP_FRAMED_BY_LENGTH:
        return put_field(at, SPAN("Content-Length"),
                         (struct span){digits, number_format(answer->length, digits)});
    case HTTP_FRAMED_BY_CHUNKS:
        return put(at, SPAN("Transfer-Encoding: chunked\r\n"));
    case HTTP_FRAMED_NOT:
    case HTTP_FRAMED_BY_CLOSE:
        break;
    }
    return at;
}

static char *put_persistence(char *at, enum http_persistence persistence)
{
    switch (persistence) {
    case HTTP_PERSISTS_IN_10:
        return put(at, SPAN("Connection: keep-alive\r\n"));
    case HTTP_CLOSES:
        return put(at, SPAN("Connection: close\r\n"));
    case HTTP_PERSISTS:
        break;
    }
    return at;
}

static bool is_type(const struct http_field *field)
{
    return span_equal_nocase(field->name, SPAN("Content-Type"));
}

void http_write_head(struct buf *out, const struct http_answer *answer,
                     const struct http_date *date)
{
    size_t size = FIXED_SIZE + DATE_SIZE + answer->type.len;
    char *start, *at;

    CHECK(answer->code >= 200 && answer->code <= 599);
    CHECK(date->until_us > 0);
    for (uint32_t i = 0; i < answer->field_count; i++)
        size += answer->fields[i].name.len + answer->fields[i].value.len + 4;
    start = at = buf_reserve(out, size);
    at = put_status(at, answer->code);
    at = put(at, (struct span){date->text, DATE_SIZE});
    at = put_persistence(at, answer->persistence);
    if (answer->type.ptr != NULL)
        at = put_field(at, SPAN("Content-Type"), answer->type);
    at = put_framing(at, answer);
    for (uint32_t i = 0; i < answer->field_count; i++) {
        if (answer->type.ptr == NULL || !is_type(&answer->fields[i]))
            at = put_field(at, answer->fields[i].name, answer->fields[i].value);
    }
    at = put(at, SPAN("\r\n"));
    buf_commit(out, (size_t)(at - start)); /* checks that it fitted */
}

void http_write_continue(struct buf *out)
{
    buf_append(out, SPAN("HTTP/1.1 100 Continue\r\n\r\n"));
}

static char *put_chunk_head(char *at, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    int shift = 60;

    while ((size >> shift) == 0)
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        *at++ = hex[size >> shift & 15];
    return put(at, SPAN("\r\n"));
}

void http_write_chunk_head(struct buf *out, size_t size)
{
    char *start = buf_reserve(out, CHUNK_HEAD_SIZE + size + 2); /* at once, for the data too */

    CHECK(size > 0);
    buf_commit(out, (size_t)(put_chunk_head(start, size) - start));
}

void http_write_chunk(struct buf *out, struct span bytes)
{
    char *start, *at;

    if (bytes.len == 0)
        return;
    start = buf_reserve(out, CHUNK_HEAD_SIZE + bytes.len + 2);
    at = put_chunk_head(start, bytes.len);
    at = put(at, bytes);
    at = put(at, SPAN("\r\n"));
    buf_commit(out, (size_t)(at - start));
}

void http_write_last_chunk(struct buf *out)
{
    buf_append(out, SPAN("0\r\n\r\n"));
}

void http_write_last_chunk_with(struct buf *out, const struct http_fields *trailers)
{
    buf_append(out, SPAN("0\r\n"));
    for (uint32_t i = 0; i < trailers->count; i++) {
        const struct http_field *field = &trailers->at[i];
        char *start = buf_reserve(out, field->name.len + field->value.len + 4);

        buf_commit(out, (size_t)(put_field(start, field->name, field->value) - start));
    }
    buf_append(out, SPAN("\r\n"));
}
