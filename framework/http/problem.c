/* http/problem.c - application/problem+json (RFC 9457): errors that a program can read.
 *
 * The body is put together in the request's arena. What is not UTF-8 in a detail becomes U+FFFD, so
 * that the answer is JSON whatever a handler, or a database's message, brought.
 */
#include "base/check.h"
#include "base/number.h"
#include "http/inside.h"
#include "http/response.h"

enum {
    DETAIL_MAX = 4096, /* bytes of it that are told */
    ESCAPED_MAX = 6,   /* bytes that one byte becomes at most: \u0000 */
    FIXED_SIZE = 160   /* the rest, with the longest title */
};

/* How long the character at the front of `text` is; 0: it is none (RFC 3629 section 4). */
static size_t character_size(struct span text)
{
    const unsigned char *at = (const unsigned char *)text.ptr;
    unsigned char low = 0x80, high = 0xbf;
    size_t size;

    if (at[0] < 0x80)
        return 1;
    if (at[0] < 0xc2 || at[0] > 0xf4)
        return 0;
    size = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (at[0] == 0xe0)
        low = 0xa0;
    else if (at[0] == 0xed)
        high = 0x9f;
    else if (at[0] == 0xf0)
        low = 0x90;
    else if (at[0] == 0xf4)
        high = 0x8f;
    if (text.len < size || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++) {
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    }
    return size;
}

static char *put(char *at, struct span bytes)
{
    memcpy(at, bytes.ptr, bytes.len);
    return at + bytes.len;
}

static char *put_control(char *at, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";

    at = put(at, SPAN("\\u00"));
    *at++ = hex[byte >> 4];
    *at++ = hex[byte & 15];
    return at;
}

/* The inside of a JSON string (RFC 8259 section 7). */
static char *put_escaped(char *at, struct span text)
{
    while (text.len > 0) {
        size_t size = character_size(text);
        unsigned char byte = (unsigned char)text.ptr[0];

        if (size == 0)
            at = put(at, SPAN("\xef\xbf\xbd"));
        else if (byte == '"' || byte == '\\')
            at = put(put(at, SPAN("\\")), (struct span){text.ptr, 1});
        else if (byte < ' ' || byte == 0x7f)
            at = put_control(at, byte);
        else
            at = put(at, (struct span){text.ptr, size});
        size += size == 0;
        text.ptr += size;
        text.len -= size;
    }
    return at;
}

static struct span render(struct http_request *request, uint32_t code, struct span detail)
{
    char digits[NUMBER_TEXT_SIZE];
    char *start, *at;

    if (detail.len > DETAIL_MAX)
        detail.len = DETAIL_MAX;
    start = at = arena_bytes(&request->scope->arena, FIXED_SIZE + detail.len * ESCAPED_MAX);
    at = put(at, SPAN("{\"type\":\"about:blank\",\"title\":\""));
    at = put(at, span_of(http_reason(code)));
    at = put(at, SPAN("\",\"status\":"));
    at = put(at, (struct span){digits, number_format(code, digits)});
    if (detail.ptr != NULL) {
        at = put(at, SPAN(",\"detail\":\""));
        at = put_escaped(at, detail);
        at = put(at, SPAN("\""));
    }
    at = put(at, SPAN("}\n"));
    return (struct span){start, (size_t)(at - start)};
}

enum err http_problem(struct http_request *request, uint32_t code, struct span detail)
{
    struct http_fields fields;

    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    fields = (struct http_fields){request->reply_fields, request->reply_field_count};
    if (request->reply != HTTP_REPLY_NONE)
        return ERR_STATE;
    if (code < 200 || code > 599)
        return ERR_INVALID;
    if (code == 503 && http_field_get(&fields, SPAN("Retry-After")).ptr == NULL) {
        enum err err = http_reply_field(request, SPAN("Retry-After"), SPAN("1"));

        CHECK(err == ERR_OK);
    }
    return http_reply(request, code, SPAN("application/problem+json"),
                      render(request, code, detail));
}
