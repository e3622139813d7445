/* http/proxy_line.c - the PROXY protocol. */
#include "http/proxy_line.h"
#include "base/number.h"
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

enum { V1_MAX = 107, V2_SIZE = 16 }; /* the longest line with its CRLF; what v2 begins with */

static const char v2_signature[12] = {'\r', '\n', '\r', '\n', 0,   '\r',
                                      '\n', 'Q',  'U',  'I',  'T', '\n'};

static bool starts(struct span bytes, const char *with, size_t len)
{
    return memcmp(bytes.ptr, with, bytes.len < len ? bytes.len : len) == 0;
}

/* ---- version 1: "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n" ---- */

/* The next word, behind one blank. */
static struct span take_word(struct span *line)
{
    const char *blank = memchr(line->ptr, ' ', line->len);
    struct span word = {line->ptr, blank != NULL ? (size_t)(blank - line->ptr) : line->len};
    size_t step = word.len + (blank != NULL);

    line->ptr += step;
    line->len -= step;
    return word;
}

static bool is_port(struct span text, uint16_t *port)
{
    uint64_t number;

    if (!number_uint(text, &number) || number > UINT16_MAX)
        return false;
    *port = (uint16_t)number;
    return true;
}

static bool read_v1(struct span line, struct addr *client)
{
    struct span words[6];
    uint16_t from, to;
    struct addr server;
    sa_family_t family;

    for (int i = 0; i < 6; i++)
        words[i] = take_word(&line);
    if (span_equal(words[1], SPAN("UNKNOWN")))
        return true; /* whatever follows counts for nothing */
    if (line.len > 0 || !is_port(words[4], &from) || !is_port(words[5], &to))
        return false;
    if (span_equal(words[1], SPAN("TCP4")))
        family = AF_INET;
    else if (span_equal(words[1], SPAN("TCP6")))
        family = AF_INET6;
    else
        return false;
    return addr_from_ip(words[2], from, client) && addr_from_ip(words[3], to, &server) &&
           client->storage.ss_family == family && server.storage.ss_family == family;
}

static enum proxy_line parse_v1(struct span bytes, size_t *len, struct addr *client)
{
    size_t most = bytes.len < V1_MAX ? bytes.len : V1_MAX;
    const char *end = memchr(bytes.ptr, '\n', most);

    if (end == NULL)
        return bytes.len < V1_MAX ? PROXY_LINE_MORE : PROXY_LINE_BAD;
    *len = (size_t)(end - bytes.ptr) + 1;
    if (*len < 8 || end[-1] != '\r')
        return PROXY_LINE_BAD;
    return read_v1((struct span){bytes.ptr, *len - 2}, client) ? PROXY_LINE_DONE : PROXY_LINE_BAD;
}

/* ---- version 2 ---- */

static bool read_v2(unsigned family, const unsigned char *at, size_t size, struct addr *client)
{
    struct sockaddr_in ipv4 = {.sin_family = AF_INET};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};

    switch (family) {
    case 0x00: /* not said */
    case 0x31: /* Unix: it has no name that says anything */
        return family == 0 || size >= 216;
    case 0x11: /* TCP over IPv4 */
        if (size < 12)
            return false;
        memcpy(&ipv4.sin_addr, at, 4);
        memcpy(&ipv4.sin_port, at + 8, 2);
        *client = (struct addr){.len = sizeof ipv4};
        memcpy(&client->storage, &ipv4, sizeof ipv4);
        return true;
    case 0x21: /* TCP over IPv6 */
        if (size < 36)
            return false;
        memcpy(&ipv6.sin6_addr, at, 16);
        memcpy(&ipv6.sin6_port, at + 32, 2);
        *client = (struct addr){.len = sizeof ipv6};
        memcpy(&client->storage, &ipv6, sizeof ipv6);
        return true;
    default: /* datagrams, and what nobody knows */
        return false;
    }
}

static enum proxy_line parse_v2(struct span bytes, size_t *len, struct addr *client)
{
    const unsigned char *at = (const unsigned char *)bytes.ptr;
    size_t size;

    if (bytes.len < V2_SIZE)
        return PROXY_LINE_MORE;
    size = (size_t)at[14] << 8 | at[15];
    *len = V2_SIZE + size;
    if (at[12] >> 4 != 2 || *len > PROXY_LINE_MAX)
        return PROXY_LINE_BAD;
    if (bytes.len < *len)
        return PROXY_LINE_MORE;
    switch (at[12] & 0x0f) {
    case 0: /* LOCAL: the balancer itself, such as its health check */
        return PROXY_LINE_DONE;
    case 1: /* PROXY */
        return read_v2(at[13], at + V2_SIZE, size, client) ? PROXY_LINE_DONE : PROXY_LINE_BAD;
    default:
        return PROXY_LINE_BAD;
    }
}

enum proxy_line proxy_line_parse(struct span bytes, size_t *len, struct addr *client)
{
    *len = 0;
    *client = (struct addr){.len = 0};
    if (bytes.len == 0)
        return PROXY_LINE_MORE;
    if (starts(bytes, v2_signature, sizeof v2_signature))
        return parse_v2(bytes, len, client);
    if (starts(bytes, "PROXY ", 6))
        return bytes.len > 6 ? parse_v1(bytes, len, client) : PROXY_LINE_MORE;
    return PROXY_LINE_BAD;
}
