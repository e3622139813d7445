/* upstream/url.c - where an upstream is. */
#include "upstream/url.h"
#include "base/check.h"
#include "base/number.h"
#include "net/addr.h"
#include <stdio.h>
#include <string.h>

enum { PORT_HTTP = 80, PORT_HTTPS = 443, PORT_MAX = 65535, NAME_MAX_LEN = 253 };

/* What is left of a text while it is taken apart. */
static struct span rest_of(struct span text, size_t from)
{
    return (struct span){text.ptr + from, text.len - from};
}

/* Up to the first of `bytes`, or all of it. */
static struct span until(struct span text, const char *bytes)
{
    size_t len = 0;

    while (len < text.len && strchr(bytes, text.ptr[len]) == NULL)
        len++;
    return (struct span){text.ptr, len};
}

static bool starts_with(struct span text, struct span start)
{
    return text.len >= start.len && span_equal_nocase((struct span){text.ptr, start.len}, start);
}

static bool is_name(struct span host)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";

    if (host.len == 0 || host.len > NAME_MAX_LEN || host.ptr[0] == '.' || host.ptr[0] == '-')
        return false;
    for (size_t i = 0; i < host.len; i++)
        if (memchr(allowed, host.ptr[i], sizeof allowed - 1) == NULL)
            return false;
    return true;
}

bool upstream_is_path(struct span path)
{
    if (path.len == 0 || path.ptr[0] != '/')
        return false;
    for (size_t i = 0; i < path.len; i++)
        if (path.ptr[i] <= ' ' || path.ptr[i] > '~' || path.ptr[i] == '#')
            return false;
    return true;
}

/* The functions below answer NULL, or what is wrong. */

static const char *parse_prefix(struct span text, struct upstream_url *parts)
{
    if (text.len > 0 && (!upstream_is_path(text) || memchr(text.ptr, '?', text.len) != NULL))
        return "has a path that cannot be a prefix";
    while (text.len > 0 && text.ptr[text.len - 1] == '/')
        text.len--;
    parts->prefix = text;
    return NULL;
}

static const char *parse_port(struct span text, struct upstream_url *parts)
{
    uint16_t usual = parts->is_tls ? PORT_HTTPS : PORT_HTTP;
    uint64_t port;

    parts->port = usual;
    if (text.len == 0)
        return NULL;
    if (text.ptr[0] != ':' || !number_uint(rest_of(text, 1), &port) || port == 0 || port > PORT_MAX)
        return "has a port that is none";
    parts->port = (uint16_t)port;
    if (port != usual)
        parts->authority.len += text.len;
    return NULL;
}

/* "[::1]" and what follows it. */
static const char *parse_ipv6(struct span server, struct upstream_url *parts)
{
    struct span inside = until(rest_of(server, 1), "]");
    struct addr addr;

    if (inside.len + 2 > server.len || memchr(inside.ptr, ':', inside.len) == NULL ||
        !addr_from_ip(inside, PORT_HTTP, &addr))
        return "has brackets without an IPv6 address";
    parts->host = inside;
    parts->authority = (struct span){server.ptr, inside.len + 2};
    return parse_port(rest_of(server, inside.len + 2), parts);
}

static const char *parse_server(struct span server, struct upstream_url *parts)
{
    if (memchr(server.ptr, '@', server.len) != NULL)
        return "has a user name, which belongs into an Authorization field";
    if (server.len > 0 && server.ptr[0] == '[')
        return parse_ipv6(server, parts);
    parts->host = until(server, ":");
    parts->authority = parts->host;
    if (!is_name(parts->host))
        return "has no host name or address";
    return parse_port(rest_of(server, parts->host.len), parts);
}

/* "unix:/run/app.sock" or "unix:/run/app.sock:/prefix". */
static const char *parse_unix(struct span text, struct upstream_url *parts)
{
    struct span path = until(rest_of(text, SPAN("unix:").len), ":");
    struct addr addr;

    parts->host = (struct span){text.ptr, SPAN("unix:").len + path.len};
    parts->authority = SPAN("localhost");
    parts->port = 0;
    if (path.len == 0 || path.ptr[0] != '/' || !addr_parse(parts->host, &addr))
        return "has no path of a Unix socket that the kernel would take";
    text = rest_of(text, parts->host.len);
    return parse_prefix(text.len > 0 ? rest_of(text, 1) : text, parts);
}

static const char *parse(struct span text, struct upstream_url *parts)
{
    struct span server;
    const char *wrong;

    parts->is_tls = starts_with(text, SPAN("https://"));
    if (!parts->is_tls && !starts_with(text, SPAN("http://")))
        return "is of another kind";
    parts->scheme = (struct span){text.ptr, parts->is_tls ? 5 : 4};
    text = rest_of(text, parts->scheme.len + SPAN("://").len);
    if (starts_with(text, SPAN("unix:/")))
        return parse_unix(text, parts);
    server = until(text, "/?#");
    wrong = parse_server(server, parts);
    return wrong != NULL ? wrong : parse_prefix(rest_of(text, server.len), parts);
}

enum err upstream_url_parse(const char *url, struct upstream_url *parts,
                            char problem[INI_PROBLEM_SIZE])
{
    struct upstream_url found = {0};
    const char *wrong;

    CHECK(url != NULL);
    CHECK(parts != NULL);
    wrong = parse(span_of(url), &found);
    if (wrong != NULL) {
        snprintf(problem, INI_PROBLEM_SIZE,
                 "url = %.200s %s, expected http://host[:port][/prefix] or "
                 "http://unix:/path[:/prefix]",
                 url, wrong);
        return ERR_SYNTAX;
    }
    *parts = found;
    return ERR_OK;
}

static bool parse_place(struct span text, const struct upstream_url *url,
                        struct upstream_place *place)
{
    struct upstream_url parts = {0};
    struct addr addr;
    size_t host_len;

    if (starts_with(text, SPAN("unix:/"))) {
        *place = (struct upstream_place){.host = text};
        return addr_parse(text, &addr);
    }
    if (parse_server(text, &parts) != NULL)
        return false;
    host_len = parts.host.len + (text.ptr[0] == '[' ? 2 : 0);
    *place = (struct upstream_place){parts.host, host_len < text.len ? parts.port : url->port};
    return place->port != 0;
}

enum err upstream_places_parse(const char *text, const struct upstream_url *url,
                               struct upstream_place places[UPSTREAM_PLACES_MAX], uint32_t *count,
                               char problem[INI_PROBLEM_SIZE])
{
    uint32_t found = 0;

    for (const char *at = text + strspn(text, " \t"); *at != '\0'; at += strspn(at, " \t")) {
        struct span item = {at, strcspn(at, " \t")};

        if (found == UPSTREAM_PLACES_MAX || !parse_place(item, url, &places[found])) {
            snprintf(problem, INI_PROBLEM_SIZE,
                     "addresses: \"%.*s\", expected 1 to %d of host:port, [IPv6]:port or "
                     "unix:/path, with blanks between them",
                     item.len < 200 ? (int)item.len : 200, item.ptr, UPSTREAM_PLACES_MAX);
            return ERR_SYNTAX;
        }
        found++;
        at += item.len;
    }
    if (found == 0)
        places[found++] = (struct upstream_place){url->host, url->port};
    *count = found;
    return ERR_OK;
}
