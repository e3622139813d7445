/* net/ranges.c - sets of addresses. */
#include "net/ranges.h"
#include "base/number.h"
#include <netinet/in.h>
#include <string.h>

/* The bytes of an address as a range of one. */
static bool take(const struct addr *addr, struct addr_range *range)
{
    const void *storage = &addr->storage;
    const struct sockaddr_in *ipv4 = storage;
    const struct sockaddr_in6 *ipv6 = storage;

    *range = (struct addr_range){.family = addr->len > 0 ? addr->storage.ss_family : AF_UNSPEC};
    if (range->family == AF_INET) {
        range->bits = 32;
        memcpy(range->bytes, &ipv4->sin_addr, 4);
    } else if (range->family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&ipv6->sin6_addr)) {
        range->family = AF_INET;
        range->bits = 32;
        memcpy(range->bytes, ipv6->sin6_addr.s6_addr + 12, 4);
    } else if (range->family == AF_INET6) {
        range->bits = 128;
        memcpy(range->bytes, &ipv6->sin6_addr, 16);
    }
    return range->family != AF_UNSPEC;
}

static void clear_behind(unsigned char bytes[16], uint32_t bits)
{
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t kept = bits > 8 * i ? bits - 8 * i : 0;

        if (kept < 8)
            bytes[i] &= (unsigned char)(0xff00u >> kept);
    }
}

static bool parse_range(struct span text, struct addr_range *range)
{
    const char *slash = memchr(text.ptr, '/', text.len);
    struct span host = {text.ptr, slash != NULL ? (size_t)(slash - text.ptr) : text.len};
    struct addr addr;
    uint64_t bits;

    if (span_equal(text, SPAN("unix"))) {
        *range = (struct addr_range){.family = AF_UNIX};
        return true;
    }
    if (!addr_from_ip(host, 0, &addr) || !take(&addr, range))
        return false;
    if (slash == NULL)
        return true;
    if (!number_uint((struct span){slash + 1, text.len - host.len - 1}, &bits) ||
        bits > range->bits)
        return false;
    range->bits = (uint8_t)bits;
    clear_behind(range->bytes, range->bits);
    return true;
}

bool addr_ranges_parse(struct span text, struct addr_ranges *ranges, struct span *bad)
{
    const char *at = text.ptr, *end = text.ptr + text.len;

    *ranges = (struct addr_ranges){.count = 0};
    for (;;) {
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        *bad = (struct span){at, 0};
        while (at < end && *at != ' ' && *at != '\t')
            at++;
        bad->len = (size_t)(at - bad->ptr);
        if (bad->len == 0)
            return true;
        if (ranges->count == RANGES_MAX || !parse_range(*bad, &ranges->at[ranges->count]))
            return false;
        ranges->count++;
    }
}

bool addr_ranges_have(const struct addr_ranges *ranges, const struct addr *addr)
{
    struct addr_range one;

    if (!take(addr, &one))
        return false;
    for (uint32_t i = 0; i < ranges->count; i++) {
        const struct addr_range *range = &ranges->at[i];
        unsigned char bytes[16];

        if (range->family != one.family)
            continue;
        memcpy(bytes, one.bytes, sizeof bytes);
        clear_behind(bytes, range->bits);
        if (memcmp(bytes, range->bytes, sizeof bytes) == 0)
            return true;
    }
    return false;
}
