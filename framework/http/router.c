/* http/router.c - from method and path to a route.
 *
 *   node ──"books"──▶ node ──:──▶ node (GET, PUT)         a tree, one level a segment
 *                       ├──"new"──▶ node (GET)
 *                       └──*──▶ node (GET)                always a leaf
 *
 * The names of parameters are the route's, not the node's: `/books/:id` and `/books/:book/x` share
 * a node. A node that lost its routes stays: there is nothing to find in it.
 */
#include "http/router.h"
#include "base/check.h"
#include "base/mem.h"
#include "base/table.h"
#include "http/filter.h"
#include "http/message.h"
#include "http/uri.h"
#include <stdio.h>

/* A route of a node. */
struct entry {
    struct http_route route;              /* what others see of it; first: they hold its address */
    struct span names[ROUTER_PARAMS_MAX]; /* slices of route.pattern */
    uint32_t names_count;                 /* of them */
    struct span method;                   /* route.method */
    struct entry *next;                   /* of the same node */
    struct node *node;                    /* whose it is */
};

/* A place that a path can lead to. */
struct node {
    struct table exact;    /* segment -> struct node; trusted: patterns are plugins' */
    struct node *param;    /* where any one segment leads, or NULL */
    struct node *rest;     /* where all that is left leads, or NULL */
    struct entry *entries; /* what is served here, one a method */
};

struct router {
    struct node root;            /* before the first segment */
    struct entry **entries;      /* in the order of registration */
    uint32_t count;              /* of them */
    uint32_t size;               /* room for so many */
    struct http_filters filters; /* asked before, and seeing what comes out */
};

/* ---- life ---- */

static void free_node(struct node *node)
{
    uint32_t at = 0;
    void *child;

    if (node == NULL)
        return;
    while (table_next(&node->exact, &at, NULL, &child)) {
        free_node(child);
        mem_free(child);
    }
    table_deinit(&node->exact);
    free_node(node->param);
    free_node(node->rest);
    mem_free(node->param);
    mem_free(node->rest);
}

static void free_entry(struct entry *entry)
{
    mem_free(entry->route.method);
    mem_free(entry->route.pattern);
    mem_free(entry);
}

struct router *router_create(void)
{
    struct router *router = mem_alloc(sizeof(*router));

    table_init_trusted(&router->root.exact);
    return router;
}

void router_destroy(struct router *router)
{
    if (router == NULL)
        return;
    for (uint32_t i = 0; i < router->count; i++)
        free_entry(router->entries[i]);
    mem_free(router->entries);
    http_filters_clear(&router->filters);
    free_node(&router->root);
    mem_free(router);
}

/* ---- filling ---- */

/* The next segment of what is left of a pattern, which starts with '/'. */
static struct span take_segment(struct span *pattern)
{
    const char *start = pattern->ptr + 1;
    const char *slash = memchr(start, '/', pattern->len - 1);
    struct span segment = {start, slash != NULL ? (size_t)(slash - start) : pattern->len - 1};

    pattern->ptr += segment.len + 1;
    pattern->len -= segment.len + 1;
    return segment;
}

static bool is_param(struct span segment)
{
    return segment.len > 0 && (segment.ptr[0] == ':' || segment.ptr[0] == '*');
}

static bool is_name(struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        char byte = name.ptr[i];

        if (!(byte >= 'a' && byte <= 'z') && !(byte >= 'A' && byte <= 'Z') &&
            !(byte >= '0' && byte <= '9') && byte != '_')
            return false;
    }
    return name.len > 0;
}

/* An exact segment is compared with what is decoded already: no path could bring the others. */
static bool is_exact(struct span segment)
{
    for (size_t i = 0; i < segment.len; i++) {
        unsigned char byte = (unsigned char)segment.ptr[i];

        if (byte <= ' ' || byte == 0x7f || byte == '?' || byte == '#')
            return false;
    }
    return !span_equal(segment, SPAN(".")) && !span_equal(segment, SPAN(".."));
}

/* Notes the names of `entry`'s pattern. False: it is none. */
static bool read_pattern(struct entry *entry)
{
    struct span rest = span_of(entry->route.pattern);
    uint32_t count = 0;

    if (rest.len == 0 || rest.ptr[0] != '/')
        return false;
    while (rest.len > 0) {
        struct span segment = take_segment(&rest);
        struct span name = {segment.ptr + 1, segment.len - 1};

        if (++count > URI_SEGMENTS_MAX)
            return false;
        if (!is_param(segment)) {
            if (!is_exact(segment))
                return false;
            continue;
        }
        if (entry->names_count == ROUTER_PARAMS_MAX || !is_name(name) ||
            (segment.ptr[0] == '*' && rest.len > 0))
            return false;
        for (uint32_t i = 0; i < entry->names_count; i++) {
            if (span_equal(entry->names[i], name))
                return false;
        }
        entry->names[entry->names_count++] = name;
    }
    return true;
}

static struct node *make_node(void)
{
    struct node *node = mem_alloc(sizeof(*node));

    table_init_trusted(&node->exact);
    return node;
}

/* Where `segment` of a pattern leads from `node`; made where there is nothing yet. */
static struct node *step_to(struct node *node, struct span segment)
{
    struct node **child = NULL;
    struct node *exact;

    if (is_param(segment)) {
        child = segment.ptr[0] == ':' ? &node->param : &node->rest;
        if (*child == NULL)
            *child = make_node();
        return *child;
    }
    exact = table_get(&node->exact, segment);
    if (exact == NULL) {
        exact = make_node();
        table_set(&node->exact, segment, exact);
    }
    return exact;
}

static struct entry *entry_of(const struct node *node, struct span method)
{
    for (struct entry *entry = node->entries; entry != NULL; entry = entry->next) {
        if (span_equal(entry->method, method))
            return entry;
    }
    return NULL;
}

static void keep(struct router *router, struct entry *entry)
{
    if (router->count == router->size) {
        router->size = router->size > 0 ? 2 * router->size : 64;
        router->entries = mem_realloc(router->entries, router->size * sizeof(router->entries[0]));
    }
    router->entries[router->count++] = entry;
}

enum err router_add(struct router *router, const struct http_route *route,
                    struct http_route **added, const struct http_route **other)
{
    struct entry *entry = mem_alloc(sizeof(*entry));
    struct node *node = &router->root;
    struct entry *same;
    struct span rest;

    CHECK(route->fn != NULL);
    entry->route = *route;
    entry->route.method = mem_copy(span_of(route->method));
    entry->route.pattern = mem_copy(span_of(route->pattern));
    entry->route.requests = 0;
    entry->route.requests_open = 0;
    entry->method = span_of(entry->route.method);
    if (!http_is_method(entry->method) || !read_pattern(entry)) {
        free_entry(entry);
        return ERR_SYNTAX;
    }
    rest = span_of(entry->route.pattern);
    while (rest.len > 0)
        node = step_to(node, take_segment(&rest));
    same = entry_of(node, entry->method);
    if (same != NULL) {
        free_entry(entry);
        if (other != NULL)
            *other = &same->route;
        return ERR_EXISTS;
    }
    entry->node = node;
    entry->next = node->entries;
    node->entries = entry;
    keep(router, entry);
    if (added != NULL)
        *added = &entry->route;
    return ERR_OK;
}

static void unlink_entry(struct entry *entry)
{
    struct entry **link = &entry->node->entries;

    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
}

enum err router_add_filter(struct router *router, const struct http_filter *filter)
{
    CHECK(router != NULL);
    return http_filters_add(&router->filters, filter);
}

const struct http_filters *router_filters(const struct router *router)
{
    return &router->filters;
}

void router_remove_owner(struct router *router, const char *owner)
{
    uint32_t kept = 0;

    CHECK(owner != NULL);
    http_filters_remove_owner(&router->filters, owner);
    for (uint32_t i = 0; i < router->count; i++) {
        struct entry *entry = router->entries[i];

        if (entry->route.owner == NULL || strcmp(entry->route.owner, owner) != 0) {
            router->entries[kept++] = entry;
            continue;
        }
        unlink_entry(entry);
        free_entry(entry);
    }
    router->count = kept;
}

struct http_route *router_next(const struct router *router, uint32_t *at)
{
    CHECK(at != NULL);
    return *at < router->count ? &router->entries[(*at)++]->route : NULL;
}

/* ---- matching ---- */

/* A look-up under way. */
struct walk {
    struct span method;          /* wanted */
    const struct span *segments; /* of the path */
    uint32_t count;              /* of them */
    struct route_match *match;   /* values and allow are filled in on the way */
};

static bool is_in_list(const char *list, struct span word)
{
    const char *at = strstr(list, word.ptr);

    return at != NULL && (at == list || at[-1] == ' ') &&
           (at[word.len] == '\0' || at[word.len] == ',');
}

static void allow(struct route_match *match, struct span method)
{
    size_t used = strlen(match->allow);

    match->is_other_method = true;
    if (is_in_list(match->allow, method) || used + method.len + 3 > sizeof(match->allow))
        return;
    snprintf(match->allow + used, sizeof(match->allow) - used, "%s%s", used > 0 ? ", " : "",
             method.ptr);
}

/* The path ends at `node`: is the method served there? */
static struct entry *choose(const struct node *node, struct walk *walk)
{
    struct entry *entry = entry_of(node, walk->method);

    if (entry == NULL && span_equal(walk->method, SPAN("HEAD")))
        entry = entry_of(node, SPAN("GET"));
    if (entry != NULL)
        return entry;
    for (const struct entry *each = node->entries; each != NULL; each = each->next) {
        allow(walk->match, each->method);
        if (span_equal(each->method, SPAN("GET")))
            allow(walk->match, SPAN("HEAD"));
    }
    return NULL;
}

/* Goes on from `node` with segment `at`, `params` having been found. */
static struct entry *find(const struct node *node, struct walk *walk, uint32_t at, uint32_t params)
{
    struct entry *entry = NULL;
    const struct node *exact;
    struct span segment, last;

    if (at == walk->count)
        return choose(node, walk);
    segment = walk->segments[at];
    exact = table_get(&node->exact, segment);
    if (exact != NULL)
        entry = find(exact, walk, at + 1, params);
    if (entry == NULL && node->param != NULL && segment.len > 0) {
        walk->match->values[params] = segment;
        entry = find(node->param, walk, at + 1, params + 1);
    }
    if (entry == NULL && node->rest != NULL) {
        last = walk->segments[walk->count - 1];
        walk->match->values[params] =
            (struct span){segment.ptr, (size_t)(last.ptr + last.len - segment.ptr)};
        entry = choose(node->rest, walk);
    }
    return entry;
}

void router_match(const struct router *router, struct span method, const struct span *segments,
                  uint32_t count, struct route_match *match)
{
    struct walk walk = {method, segments, count, match};
    struct entry *entry;

    CHECK(count > 0);
    match->route = NULL;
    match->count = 0;
    match->is_other_method = false;
    match->allow[0] = '\0';
    entry = find(&router->root, &walk, 0, 0);
    if (entry == NULL)
        return;
    match->is_other_method = false;
    match->route = &entry->route;
    match->names = entry->names;
    match->count = entry->names_count;
}
