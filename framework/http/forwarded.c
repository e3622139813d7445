/* http/forwarded.c - reads Forwarded and X-Forwarded-For from their end. */
#include "http/forwarded.h"
#include <string.h>

static struct span trimmed(struct span s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* Takes what stands behind the last `separator` off the list. False: nothing is left. Quotes hide
 * no separator here: an address has none. */
static bool take_last(struct span *list, char separator, struct span *last)
{
    size_t at = list->len;

    if (list->ptr == NULL)
        return false;
    while (at > 0 && list->ptr[at - 1] != separator)
        at--;
    *last = trimmed((struct span){list->ptr + at, list->len - at});
    *list = at > 0 ? (struct span){list->ptr, at - 1} : (struct span){NULL, 0};
    return true;
}

/* "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80". */
static bool read_node(struct span node, struct addr *addr)
{
    if (addr_from_ip(node, 0, addr))
        return true;
    if (node.len > 2 && node.ptr[0] == '[' && node.ptr[node.len - 1] == ']')
        return addr_from_ip((struct span){node.ptr + 1, node.len - 2}, 0, addr);
    return addr_parse(node, addr) && addr->storage.ss_family != AF_UNIX;
}

/* for="[2001:db8::1]:4711";proto=https */
static bool read_element(struct span element, struct addr *addr)
{
    struct span pair;

    while (take_last(&element, ';', &pair)) {
        if (pair.len < 4 || !span_equal_nocase((struct span){pair.ptr, 4}, SPAN("for=")))
            continue;
        pair = (struct span){pair.ptr + 4, pair.len - 4};
        if (pair.len > 1 && pair.ptr[0] == '"' && pair.ptr[pair.len - 1] == '"')
            pair = (struct span){pair.ptr + 1, pair.len - 2};
        return read_node(pair, addr);
    }
    return false;
}

struct addr http_forwarded_client(const struct http_fields *fields, enum http_forwarding where,
                                  const struct addr_ranges *trusted, const struct addr *peer)
{
    struct span name = where == HTTP_FORWARDED ? SPAN("Forwarded") : SPAN("X-Forwarded-For");
    struct addr client = *peer, next;
    struct span last;

    if (where == HTTP_FORWARDED_NEVER)
        return client;
    for (uint32_t i = fields->count; i-- > 0;) {
        struct span list = fields->at[i].value;

        if (!span_equal_nocase(fields->at[i].name, name))
            continue;
        while (take_last(&list, ',', &last)) {
            bool is_good =
                addr_ranges_have(trusted, &client) &&
                (where == HTTP_FORWARDED ? read_element(last, &next) : read_node(last, &next));
            if (!is_good)
                return client;
            client = next;
        }
    }
    return client;
}
