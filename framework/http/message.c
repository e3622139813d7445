/* http/message.c - what requests and answers have in common: methods, codes, fields. */
#include "http/message.h"
#include "base/check.h"

/* tchar of RFC 9110 section 5.6.2: "!#$%&'*+-.^_`|~", digits and letters; one bit a byte. */
static const uint64_t token_bytes[4] = {
    0x03ff6cfa00000000u,
    0x57ffffffc7fffffeu,
    0,
    0,
};

struct span http_field_get(const struct http_fields *fields, struct span name)
{
    CHECK(fields != NULL);
    for (uint32_t i = 0; i < fields->count; i++) {
        if (span_equal_nocase(fields->at[i].name, name))
            return fields->at[i].value;
    }
    return (struct span){NULL, 0};
}

uint32_t http_field_count(const struct http_fields *fields, struct span name)
{
    uint32_t count = 0;

    CHECK(fields != NULL);
    for (uint32_t i = 0; i < fields->count; i++)
        count += span_equal_nocase(fields->at[i].name, name);
    return count;
}

bool http_is_token(struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char byte = (unsigned char)name.ptr[i];

        if ((token_bytes[byte / 64] >> byte % 64 & 1) == 0)
            return false;
    }
    return name.len > 0;
}

#define EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Is one of the eight bytes at `at` below ' ', or 0x7f? True in vain only for a tab. */
static bool is_suspect(const char *at)
{
    uint64_t word, del;

    memcpy(&word, at, sizeof(word));
    del = word ^ EACH_BYTE(0x7f);
    return (((word - EACH_BYTE(' ')) & ~word) | ((del - EACH_BYTE(1)) & ~del)) & EACH_BYTE(0x80);
}

static bool has_controls(const char *at, const char *end)
{
    for (; at < end; at++) {
        unsigned char byte = (unsigned char)*at;

        if ((byte < ' ' && byte != '\t') || byte == 0x7f)
            return true;
    }
    return false;
}

bool http_is_field_value(struct span value)
{
    const char *at = value.ptr, *end;

    if (value.len == 0)
        return true;
    end = at + value.len;
    while ((size_t)(end - at) >= sizeof(uint64_t) && !is_suspect(at))
        at += sizeof(uint64_t);
    if (at > value.ptr && at < end && end - at < 8 && !is_suspect(end - 8))
        at = end;
    return !has_controls(at, end) && span_trim(value).len == value.len;
}

bool http_is_safe(struct span method)
{
    return span_equal(method, SPAN("GET")) || span_equal(method, SPAN("HEAD")) ||
           span_equal(method, SPAN("OPTIONS")) || span_equal(method, SPAN("TRACE"));
}

bool http_is_method(struct span method)
{
    /* Those of the IANA registry that the parser knows; the usual ones first. */
    static const struct span methods[] = {
        {"GET", 3},      {"POST", 4},        {"PUT", 3},          {"DELETE", 6},    {"HEAD", 4},
        {"PATCH", 5},    {"OPTIONS", 7},     {"TRACE", 5},        {"ACL", 3},       {"BIND", 4},
        {"CHECKOUT", 8}, {"COPY", 4},        {"LINK", 4},         {"LOCK", 4},      {"M-SEARCH", 8},
        {"MERGE", 5},    {"MKACTIVITY", 10}, {"MKCALENDAR", 10},  {"MKCOL", 5},     {"MOVE", 4},
        {"NOTIFY", 6},   {"PROPFIND", 8},    {"PROPPATCH", 9},    {"PURGE", 5},     {"REBIND", 6},
        {"REPORT", 6},   {"SEARCH", 6},      {"SOURCE", 6},       {"SUBSCRIBE", 9}, {"UNBIND", 6},
        {"UNLINK", 6},   {"UNLOCK", 6},      {"UNSUBSCRIBE", 11},
    };

    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (span_equal(methods[i], method))
            return true;
    }
    return false;
}

/* The IANA registry of status codes; 418 is reserved and 306 unused. */
static const char *const reasons[] = {
    [100] = "Continue",
    [101] = "Switching Protocols",
    [102] = "Processing",
    [103] = "Early Hints",
    [200] = "OK",
    [201] = "Created",
    [202] = "Accepted",
    [203] = "Non-Authoritative Information",
    [204] = "No Content",
    [205] = "Reset Content",
    [206] = "Partial Content",
    [207] = "Multi-Status",
    [208] = "Already Reported",
    [226] = "IM Used",
    [300] = "Multiple Choices",
    [301] = "Moved Permanently",
    [302] = "Found",
    [303] = "See Other",
    [304] = "Not Modified",
    [305] = "Use Proxy",
    [307] = "Temporary Redirect",
    [308] = "Permanent Redirect",
    [400] = "Bad Request",
    [401] = "Unauthorized",
    [402] = "Payment Required",
    [403] = "Forbidden",
    [404] = "Not Found",
    [405] = "Method Not Allowed",
    [406] = "Not Acceptable",
    [407] = "Proxy Authentication Required",
    [408] = "Request Timeout",
    [409] = "Conflict",
    [410] = "Gone",
    [411] = "Length Required",
    [412] = "Precondition Failed",
    [413] = "Content Too Large",
    [414] = "URI Too Long",
    [415] = "Unsupported Media Type",
    [416] = "Range Not Satisfiable",
    [417] = "Expectation Failed",
    [418] = "I'm a Teapot",
    [421] = "Misdirected Request",
    [422] = "Unprocessable Content",
    [423] = "Locked",
    [424] = "Failed Dependency",
    [425] = "Too Early",
    [426] = "Upgrade Required",
    [428] = "Precondition Required",
    [429] = "Too Many Requests",
    [431] = "Request Header Fields Too Large",
    [451] = "Unavailable For Legal Reasons",
    [500] = "Internal Server Error",
    [501] = "Not Implemented",
    [502] = "Bad Gateway",
    [503] = "Service Unavailable",
    [504] = "Gateway Timeout",
    [505] = "HTTP Version Not Supported",
    [506] = "Variant Also Negotiates",
    [507] = "Insufficient Storage",
    [508] = "Loop Detected",
    [511] = "Network Authentication Required",
};

const char *http_reason(uint32_t code)
{
    if (code >= sizeof(reasons) / sizeof(reasons[0]) || reasons[code] == NULL)
        return "Unknown";
    return reasons[code];
}

bool http_is_bodyless(uint32_t code)
{
    return code < 200 || code == 204 || code == 304;
}

bool http_has_token(struct span list, struct span token)
{
    const char *end = list.ptr + list.len;

    for (const char *at = list.ptr; at < end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        struct span element = {at, (size_t)((comma != NULL ? comma : end) - at)};
        const char *semicolon = memchr(at, ';', element.len);

        if (semicolon != NULL)
            element.len = (size_t)(semicolon - at);
        if (span_equal_nocase(span_trim(element), token))
            return true;
        at = comma != NULL ? comma + 1 : end;
    }
    return false;
}
