/* http/uri.c - the target of a request: its parts, and percent-encoding.
 *
 * What may stand where is in one table of bits, so that a byte is looked up, not compared.
 */
#include "http/uri.h"
#include "base/check.h"
#include "base/number.h"
#include <arpa/inet.h>

enum {
    IN_PATH = 1,       /* pchar and '/' of RFC 3986 section 3.3 */
    IN_QUERY = 2,      /* the same with '?', and what browsers leave as it is: "{}|\^`[] */
    IN_NAME = 4,       /* reg-name of section 3.2.2 */
    IN_PLAIN_NAME = 8, /* the same without '%' */
    ANY = IN_PATH | IN_QUERY | IN_NAME | IN_PLAIN_NAME
};

static const unsigned char places[256] = {
    ['0'] = ANY,
    ['1'] = ANY,
    ['2'] = ANY,
    ['3'] = ANY,
    ['4'] = ANY,
    ['5'] = ANY,
    ['6'] = ANY,
    ['7'] = ANY,
    ['8'] = ANY,
    ['9'] = ANY,
    ['A'] = ANY,
    ['B'] = ANY,
    ['C'] = ANY,
    ['D'] = ANY,
    ['E'] = ANY,
    ['F'] = ANY,
    ['G'] = ANY,
    ['H'] = ANY,
    ['I'] = ANY,
    ['J'] = ANY,
    ['K'] = ANY,
    ['L'] = ANY,
    ['M'] = ANY,
    ['N'] = ANY,
    ['O'] = ANY,
    ['P'] = ANY,
    ['Q'] = ANY,
    ['R'] = ANY,
    ['S'] = ANY,
    ['T'] = ANY,
    ['U'] = ANY,
    ['V'] = ANY,
    ['W'] = ANY,
    ['X'] = ANY,
    ['Y'] = ANY,
    ['Z'] = ANY,
    ['a'] = ANY,
    ['b'] = ANY,
    ['c'] = ANY,
    ['d'] = ANY,
    ['e'] = ANY,
    ['f'] = ANY,
    ['g'] = ANY,
    ['h'] = ANY,
    ['i'] = ANY,
    ['j'] = ANY,
    ['k'] = ANY,
    ['l'] = ANY,
    ['m'] = ANY,
    ['n'] = ANY,
    ['o'] = ANY,
    ['p'] = ANY,
    ['q'] = ANY,
    ['r'] = ANY,
    ['s'] = ANY,
    ['t'] = ANY,
    ['u'] = ANY,
    ['v'] = ANY,
    ['w'] = ANY,
    ['x'] = ANY,
    ['y'] = ANY,
    ['z'] = ANY,
    ['-'] = ANY,
    ['.'] = ANY,
    ['_'] = ANY,
    ['~'] = ANY,
    ['!'] = ANY,
    ['$'] = ANY,
    ['&'] = ANY,
    ['\''] = ANY,
    ['('] = ANY,
    [')'] = ANY,
    ['*'] = ANY,
    ['+'] = ANY,
    [','] = ANY,
    [';'] = ANY,
    ['='] = ANY,
    ['%'] = IN_PATH | IN_QUERY | IN_NAME,
    [':'] = IN_PATH | IN_QUERY,
    ['@'] = IN_PATH | IN_QUERY,
    ['/'] = IN_PATH | IN_QUERY,
    ['?'] = IN_QUERY,
    ['"'] = IN_QUERY,
    ['{'] = IN_QUERY,
    ['}'] = IN_QUERY,
    ['|'] = IN_QUERY,
    ['\\'] = IN_QUERY,
    ['^'] = IN_QUERY,
    ['`'] = IN_QUERY,
    ['['] = IN_QUERY,
    [']'] = IN_QUERY,
};

static bool is_all(struct span text, unsigned place)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((places[(unsigned char)text.ptr[i]] & place) == 0)
            return false;
    }
    return true;
}

static int hex_of(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte = (char)(byte | 0x20);
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The byte that the escape at `at` stands for; -1: it is none, or stands for NUL. */
static int unescape(struct span text, size_t at)
{
    int high, low;

    if (text.len - at < 3)
        return -1;
    high = hex_of(text.ptr[at + 1]);
    low = hex_of(text.ptr[at + 2]);
    if (high < 0 || low < 0 || (high | low) == 0)
        return -1;
    return high << 4 | low;
}

/* ---- parts ---- */

static bool has_good_escapes(struct span text)
{
    size_t at = 0;
    const char *escape;

    while (at < text.len && (escape = memchr(text.ptr + at, '%', text.len - at)) != NULL) {
        at = (size_t)(escape - text.ptr);
        if (unescape(text, at) < 0)
            return false;
        at += 3;
    }
    return true;
}

/* Behind a host: nothing, or ':' and digits up to 65535; "host:" is allowed by the RFC. */
static bool is_port(struct span port)
{
    uint64_t number = 0;

    if (port.len == 0)
        return true;
    if (port.ptr[0] != ':')
        return false;
    if (port.len == 1)
        return true;
    return number_uint((struct span){port.ptr + 1, port.len - 1}, &number) && number <= 65535;
}

/* "[...]" and perhaps a port. */
static bool is_ipv6_host(struct span host)
{
    const char *end = memchr(host.ptr, ']', host.len);
    char text[INET6_ADDRSTRLEN];
    struct in6_addr addr;
    size_t size;

    if (end == NULL)
        return false;
    size = (size_t)(end - host.ptr) - 1;
    if (size >= sizeof(text))
        return false;
    memcpy(text, host.ptr + 1, size);
    text[size] = '\0';
    return inet_pton(AF_INET6, text, &addr) == 1 &&
           is_port((struct span){end + 1, host.len - size - 2});
}

static bool is_reg_name(struct span name)
{
    return is_all(name, IN_PLAIN_NAME) || (is_all(name, IN_NAME) && has_good_escapes(name));
}

bool uri_is_host(struct span host)
{
    struct span name = host;
    const char *end;

    if (host.len == 0)
        return false;
    if (host.ptr[0] == '[')
        return is_ipv6_host(host);
    end = memchr(host.ptr, ':', host.len);
    if (end != NULL)
        name.len = (size_t)(end - host.ptr);
    return name.len > 0 && is_reg_name(name) &&
           is_port((struct span){host.ptr + name.len, host.len - name.len});
}

/* "http://host" or "https://host" at the front; `rest` is what is behind. False: it is
 * malformed. */
static bool take_authority(struct span target, struct span *authority, struct span *rest)
{
    size_t at = target.len >= 8 && (target.ptr[4] | 0x20) == 's' ? 8 : 7;
    size_t end;

    if (target.len <= at ||
        (!span_is_nocase(target.ptr, "http://", 7) && !span_is_nocase(target.ptr, "https://", 8)))
        return false;
    end = at;
    while (end < target.len && target.ptr[end] != '/' && target.ptr[end] != '?')
        end++;
    *authority = (struct span){target.ptr + at, end - at};
    *rest = (struct span){target.ptr + end, target.len - end};
    return uri_is_host(*authority);
}

bool uri_split(struct span target, struct uri *uri)
{
    struct uri parts = {.path = target};
    const char *mark;

    CHECK(uri != NULL);
    if (target.len == 0)
        return false;
    if (target.len == 1 && target.ptr[0] == '*') {
        *uri = parts;
        return true;
    }
    if (target.ptr[0] != '/' && !take_authority(target, &parts.authority, &parts.path))
        return false;
    mark = memchr(parts.path.ptr, '?', parts.path.len);
    if (mark != NULL) {
        size_t size = (size_t)(mark - parts.path.ptr);

        parts.query = (struct span){mark + 1, parts.path.len - size - 1};
        parts.path.len = size;
    }
    if (parts.path.len == 0)
        parts.path = SPAN("/");
    if (!is_all(parts.path, IN_PATH) || !is_all(parts.query, IN_QUERY))
        return false;
    *uri = parts;
    return true;
}

/* ---- paths ---- */

/* Decodes `segment` to `out`. Returns the end, or NULL for a bad escape. */
static char *decode_segment(struct span segment, char *out)
{
    for (size_t i = 0; i < segment.len; i++) {
        int byte = (unsigned char)segment.ptr[i];

        if (byte == '%') {
            byte = unescape(segment, i);
            if (byte < 0)
                return NULL;
            i += 2;
        }
        *out++ = (char)byte;
    }
    return out;
}

static bool is_dots(const char *segment, size_t size, size_t dots)
{
    return size == dots && memcmp(segment, "..", dots) == 0;
}

enum err uri_segments(struct span path, char *out, struct span segments[URI_SEGMENTS_MAX],
                      uint32_t *count)
{
    const char *next = path.ptr + 1, *end = path.ptr + path.len;
    uint32_t depth = 0;

    CHECK(path.len > 0);
    CHECK(path.ptr[0] == '/');
    for (bool is_last = false; !is_last;) {
        const char *slash = memchr(next, '/', (size_t)(end - next));
        size_t size = (size_t)((slash != NULL ? slash : end) - next);
        char *stop = decode_segment((struct span){next, size}, out);
        size_t length;

        is_last = slash == NULL;
        next += size + 1;
        if (stop == NULL)
            return ERR_SYNTAX;
        if (depth == URI_SEGMENTS_MAX)
            return ERR_TOO_BIG;
        length = (size_t)(stop - out);
        if (is_dots(out, length, 1) || is_dots(out, length, 2)) {
            if (length == 2) {
                if (depth == 0)
                    return ERR_SYNTAX;
                out -= segments[--depth].len + 1;
            }
            if (!is_last)
                continue;
            stop = out; /* "/a/." is "/a/" */
        }
        segments[depth++] = (struct span){out, (size_t)(stop - out)};
        *stop = is_last ? '\0' : '/';
        out = stop + 1;
    }
    *count = depth;
    return ERR_OK;
}

/* ---- queries ---- */

/* The decoded byte at `*at`, which moves to the last one that it is written with. */
static char query_byte(struct span raw, size_t *at)
{
    char byte = raw.ptr[*at];
    int decoded = byte == '%' ? unescape(raw, *at) : -1;

    if (decoded < 0)
        return byte == '+' ? ' ' : byte;
    *at += 2;
    return (char)decoded;
}

size_t uri_query_decode(struct span raw, char *out)
{
    char *start = out;

    for (size_t i = 0; i < raw.len; i++)
        *out++ = query_byte(raw, &i);
    *out = '\0';
    return (size_t)(out - start);
}

/* Is `raw`, decoded, `name`? */
static bool is_name(struct span raw, struct span name)
{
    size_t at = 0;

    for (size_t i = 0; i < raw.len; i++, at++) {
        if (at == name.len || query_byte(raw, &i) != name.ptr[at])
            return false;
    }
    return at == name.len;
}

bool uri_query_find(struct span query, struct span name, struct span *raw)
{
    while (query.len > 0) {
        const char *amp = memchr(query.ptr, '&', query.len);
        size_t size = amp != NULL ? (size_t)(amp - query.ptr) : query.len;
        const char *equals = memchr(query.ptr, '=', size);
        size_t key_size = equals != NULL ? (size_t)(equals - query.ptr) : size;

        if (size > 0 && is_name((struct span){query.ptr, key_size}, name)) {
            *raw = equals != NULL ? (struct span){equals + 1, size - key_size - 1}
                                  : (struct span){query.ptr + size, 0};
            return true;
        }
        query.ptr += size + (amp != NULL);
        query.len -= size + (amp != NULL);
    }
    return false;
}
