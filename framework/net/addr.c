/* net/addr.c - a socket address: IPv4, IPv6 or a Unix path. */
#include "net/addr.h"
#include "base/check.h"
#include "base/number.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum { IP_TEXT_SIZE = INET6_ADDRSTRLEN };

static const struct sockaddr_in *as_ipv4(const struct addr *addr)
{
    return (const struct sockaddr_in *)(const void *)&addr->storage;
}

static const struct sockaddr_in6 *as_ipv6(const struct addr *addr)
{
    return (const struct sockaddr_in6 *)(const void *)&addr->storage;
}

static const struct sockaddr_un *as_unix(const struct addr *addr)
{
    return (const struct sockaddr_un *)(const void *)&addr->storage;
}

static int family_of(const struct addr *addr)
{
    return addr->len == 0 ? AF_UNSPEC : addr->storage.ss_family;
}

bool addr_from_ip(struct span host, uint16_t port, struct addr *addr)
{
    char text[IP_TEXT_SIZE];
    struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

    CHECK(addr != NULL);
    if (host.len == 0 || host.len >= sizeof text || memchr(host.ptr, '\0', host.len) != NULL)
        return false;
    memcpy(text, host.ptr, host.len);
    text[host.len] = '\0';
    if (inet_pton(AF_INET, text, &ipv4.sin_addr) == 1) {
        *addr = (struct addr){.len = sizeof ipv4};
        memcpy(&addr->storage, &ipv4, sizeof ipv4);
        return true;
    }
    if (inet_pton(AF_INET6, text, &ipv6.sin6_addr) == 1) {
        *addr = (struct addr){.len = sizeof ipv6};
        memcpy(&addr->storage, &ipv6, sizeof ipv6);
        return true;
    }
    return false;
}

static bool parse_unix(struct span path, struct addr *addr)
{
    struct sockaddr_un unix_addr = {.sun_family = AF_UNIX};

    if (path.len == 0 || path.len >= sizeof unix_addr.sun_path)
        return false;
    if (memchr(path.ptr, '\0', path.len) != NULL)
        return false;
    memcpy(unix_addr.sun_path, path.ptr, path.len);
    *addr =
        (struct addr){.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1)};
    memcpy(&addr->storage, &unix_addr, sizeof unix_addr);
    return true;
}

bool addr_parse(struct span text, struct addr *addr)
{
    static const struct span prefix = {"unix:", 5};
    struct span host = text;
    struct span port = {NULL, 0};
    uint64_t number;

    CHECK(addr != NULL);
    if (text.len >= prefix.len && memcmp(text.ptr, prefix.ptr, prefix.len) == 0)
        return parse_unix((struct span){text.ptr + prefix.len, text.len - prefix.len}, addr);
    while (host.len > 0 && host.ptr[host.len - 1] != ':')
        host.len--;
    if (host.len == 0)
        return false;
    port = (struct span){text.ptr + host.len, text.len - host.len};
    host.len--;
    if (!number_uint(port, &number) || number > UINT16_MAX)
        return false;
    if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = (struct span){host.ptr + 1, host.len - 2};
    else if (memchr(host.ptr, ':', host.len) != NULL)
        return false; /* IPv6 wants its brackets: where would the port begin? */
    return addr_from_ip(host, (uint16_t)number, addr);
}

bool addr_of_socket(int fd, struct addr *addr)
{
    struct addr own = {.len = sizeof own.storage};

    CHECK(addr != NULL);
    if (getsockname(fd, (struct sockaddr *)&own.storage, &own.len) != 0)
        return false;
    *addr = own;
    return true;
}

static size_t format_unix(const struct addr *addr, char text[ADDR_TEXT_SIZE])
{
    const struct sockaddr_un *unix_addr = as_unix(addr);
    size_t len = addr->len - offsetof(struct sockaddr_un, sun_path);
    int size;

    if (addr->len <= offsetof(struct sockaddr_un, sun_path))
        len = 0;                                   /* a client that did not bind */
    if (len > 0 && unix_addr->sun_path[0] == '\0') /* Linux's abstract names */
        size = snprintf(text, ADDR_TEXT_SIZE, "unix:@%.*s", (int)len - 1, unix_addr->sun_path + 1);
    else
        size = snprintf(text, ADDR_TEXT_SIZE, "unix:%.*s", (int)len, unix_addr->sun_path);
    CHECK(size > 0);
    CHECK(size < ADDR_TEXT_SIZE);
    return (size_t)size;
}

static void format_ip(const struct addr *addr, char text[IP_TEXT_SIZE])
{
    const void *bytes = family_of(addr) == AF_INET ? (const void *)&as_ipv4(addr)->sin_addr
                                                   : (const void *)&as_ipv6(addr)->sin6_addr;

    CHECK(inet_ntop(family_of(addr), bytes, text, IP_TEXT_SIZE) != NULL);
}

static size_t format_none(char text[ADDR_TEXT_SIZE])
{
    memcpy(text, "none", sizeof "none");
    return sizeof "none" - 1;
}

/* Without printf: each line of the access log has one. */
static size_t format_ipv4(const struct sockaddr_in *in, char text[ADDR_TEXT_SIZE])
{
    const unsigned char *bytes = (const unsigned char *)&in->sin_addr;
    size_t len = 0;

    for (int i = 0; i < 4; i++) {
        len += number_format(bytes[i], text + len);
        text[len++] = i < 3 ? '.' : ':';
    }
    return len + number_format(ntohs(in->sin_port), text + len);
}

size_t addr_format(const struct addr *addr, char text[ADDR_TEXT_SIZE])
{
    char ip[IP_TEXT_SIZE];
    int family = family_of(addr);

    if (family == AF_INET)
        return format_ipv4(as_ipv4(addr), text);
    if (family == AF_UNIX)
        return format_unix(addr, text);
    if (family != AF_INET6)
        return format_none(text);
    format_ip(addr, ip);
    return (size_t)snprintf(text, ADDR_TEXT_SIZE, "[%s]:%u", ip, addr_port(addr));
}

size_t addr_format_host(const struct addr *addr, char text[ADDR_TEXT_SIZE])
{
    static const char mapped[] = "::ffff:";
    int family = family_of(addr);

    if (family == AF_UNIX)
        return format_unix(addr, text);
    if (family != AF_INET && family != AF_INET6)
        return format_none(text);
    format_ip(addr, text);
    if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&as_ipv6(addr)->sin6_addr))
        memmove(text, text + sizeof mapped - 1, strlen(text + sizeof mapped - 1) + 1);
    return strlen(text);
}

uint16_t addr_port(const struct addr *addr)
{
    switch (family_of(addr)) {
    case AF_INET:
        return ntohs(as_ipv4(addr)->sin_port);
    case AF_INET6:
        return ntohs(as_ipv6(addr)->sin6_port);
    default:
        return 0;
    }
}

void addr_set_port(struct addr *addr, uint16_t port)
{
    if (family_of(addr) == AF_INET)
        ((struct sockaddr_in *)(void *)&addr->storage)->sin_port = htons(port);
    else if (family_of(addr) == AF_INET6)
        ((struct sockaddr_in6 *)(void *)&addr->storage)->sin6_port = htons(port);
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
    if (family_of(a) != family_of(b) || addr_port(a) != addr_port(b))
        return false;
    switch (family_of(a)) {
    case AF_INET:
        return as_ipv4(a)->sin_addr.s_addr == as_ipv4(b)->sin_addr.s_addr;
    case AF_INET6:
        return as_ipv6(a)->sin6_scope_id == as_ipv6(b)->sin6_scope_id &&
               memcmp(&as_ipv6(a)->sin6_addr, &as_ipv6(b)->sin6_addr, sizeof(struct in6_addr)) == 0;
    default:
        return a->len == b->len && memcmp(&a->storage, &b->storage, a->len) == 0;
    }
}

/* Networks of RFC 6890 and its heirs that are not for everybody. */
static const struct {
    uint32_t network;
    uint32_t bits;
} private_ipv4[] = {
    {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
    {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0a80000, 16}, {0xc6120000, 15},
    {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 3},
};

static bool is_private_ipv4(uint32_t ip)
{
    for (size_t i = 0; i < sizeof private_ipv4 / sizeof private_ipv4[0]; i++)
        if (((ip ^ private_ipv4[i].network) >> (32 - private_ipv4[i].bits)) == 0)
            return true;
    return false;
}

static uint32_t ipv4_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Of global unicast (2000::/3), but for what holds an IPv4 address (6to4, NAT64), is for tunnels or
 * for documents. */
static bool is_private_ipv6(const uint8_t *ip)
{
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};

    if (memcmp(ip, nat64, sizeof nat64) == 0)
        return is_private_ipv4(ipv4_at(ip + 12));
    if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)(const void *)ip))
        return is_private_ipv4(ipv4_at(ip + 12));
    if (ip[0] == 0x20 && ip[1] == 0x02)
        return is_private_ipv4(ipv4_at(ip + 2));
    if (ip[0] == 0x20 && ip[1] == 0x01 && (ip[2] < 2 || (ip[2] == 0x0d && ip[3] == 0xb8)))
        return true;
    return (ip[0] & 0xe0) != 0x20;
}

bool addr_is_private(const struct addr *addr)
{
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)(const void *)&addr->storage;

    if (addr->storage.ss_family == AF_INET)
        return is_private_ipv4(ntohl(ipv4->sin_addr.s_addr));
    if (addr->storage.ss_family == AF_INET6)
        return is_private_ipv6(as_ipv6(addr)->sin6_addr.s6_addr);
    return true;
}
