/* server/quarantine.c - routes that are answered 503 until a reload. */
#include "server/quarantine.h"
#include "base/log.h"
#include "http/router.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* What a client of a closed route reads. */
static const char why[] = "this route is in quarantine: its plugin has crashed too often, and the "
                          "route is served again after a reload";

void quarantine_init(struct quarantine *book, uint32_t limit, uint32_t window_ms)
{
    struct quarantine_list *list =
        mmap(NULL, sizeof *list, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (list == MAP_FAILED) {
        log_error("no memory for a page shared with workers: %s", strerror(errno));
        abort();
    }
    CHECK(limit <= QUARANTINE_LIMIT_MAX);
    *book = (struct quarantine){.list = list, .limit = limit, .window_ms = window_ms};
    list->version = 1;
}

void quarantine_deinit(struct quarantine *book)
{
    if (book->list != NULL)
        CHECK(munmap(book->list, sizeof *book->list) == 0);
    book->list = NULL;
}

/* A version that is never 0, written behind what it stands for. */
static void publish(struct quarantine_list *list)
{
    uint32_t next = list->version + 1;

    __atomic_store_n(&list->version, next != 0 ? next : 1, __ATOMIC_RELEASE);
}

/* The place of one who is not known yet: a free one, or that of the one heard of longest ago. */
static struct quarantine_culprit *free_place(struct quarantine *book)
{
    struct quarantine_culprit *oldest = NULL;

    if (book->count < QUARANTINE_MAX)
        return &book->culprits[book->count++];
    for (uint32_t i = 0; i < book->count; i++) {
        struct quarantine_culprit *at = &book->culprits[i];

        if (!at->is_closed && (oldest == NULL || at->heard_ms < oldest->heard_ms))
            oldest = at;
    }
    return oldest;
}

/* NULL: all places are those of closed routes. */
static struct quarantine_culprit *find(struct quarantine *book, const struct blame_culprit *who)
{
    struct quarantine_culprit *place;

    for (uint32_t i = 0; i < book->count; i++)
        if (strcmp(book->culprits[i].plugin, who->plugin) == 0 &&
            strcmp(book->culprits[i].route, who->route) == 0)
            return &book->culprits[i];
    place = free_place(book);
    if (place == NULL)
        return NULL;
    *place = (struct quarantine_culprit){.crashes = 0};
    memcpy(place->plugin, who->plugin, sizeof place->plugin);
    memcpy(place->route, who->route, sizeof place->route);
    return place;
}

static void close_route(struct quarantine *book, struct quarantine_culprit *culprit)
{
    struct quarantine_list *list = book->list;

    if (list->count == QUARANTINE_MAX)
        return;
    memcpy(list->routes[list->count].plugin, culprit->plugin, sizeof culprit->plugin);
    memcpy(list->routes[list->count].route, culprit->route, sizeof culprit->route);
    list->count++;
    culprit->is_closed = true;
    publish(list);
    log_fields(LOG_ERROR,
               LOG_FIELDS({"plugin", span_of(culprit->plugin)}, {"route", span_of(culprit->route)}),
               "quarantine: %u crashes within %u ms: answered 503 until a reload", book->limit,
               book->window_ms);
}

/* Were the last `limit` crashes within the window? */
static bool is_too_often(const struct quarantine *book, const struct quarantine_culprit *culprit,
                         uint64_t now_ms)
{
    uint64_t first;

    if (book->limit == 0 || culprit->recent < book->limit)
        return false;
    first = culprit->times[(culprit->recent - book->limit) % QUARANTINE_LIMIT_MAX];
    return now_ms - first <= book->window_ms;
}

bool quarantine_note_crash(struct quarantine *book, const struct blame_culprit *who,
                           uint64_t now_ms)
{
    struct quarantine_culprit *culprit;

    if (who->plugin[0] == '\0')
        return false;
    culprit = find(book, who);
    if (culprit == NULL)
        return false;
    culprit->heard_ms = now_ms;
    culprit->crashes++;
    culprit->times[culprit->recent++ % QUARANTINE_LIMIT_MAX] = now_ms;
    if (culprit->is_closed || culprit->route[0] == '(' || !is_too_often(book, culprit, now_ms))
        return false;
    close_route(book, culprit);
    return culprit->is_closed;
}

void quarantine_note_stall(struct quarantine *book, const struct blame_culprit *who,
                           uint64_t now_ms)
{
    struct quarantine_culprit *culprit;

    if (who->plugin[0] == '\0')
        return;
    culprit = find(book, who);
    if (culprit == NULL)
        return;
    culprit->heard_ms = now_ms;
    culprit->stalls++;
}

void quarantine_clear(struct quarantine *book, uint32_t limit, uint32_t window_ms)
{
    CHECK(limit <= QUARANTINE_LIMIT_MAX);
    if (book->list->count > 0)
        log_info("quarantine: ended for %u route%s, by the reload", book->list->count,
                 book->list->count == 1 ? "" : "s");
    book->limit = limit;
    book->window_ms = window_ms;
    for (uint32_t i = 0; i < book->count; i++) {
        book->culprits[i].recent = 0;
        book->culprits[i].is_closed = false;
    }
    book->list->count = 0;
    publish(book->list);
}

/* The worker */

void quarantine_seal(const struct quarantine_list *list)
{
    if (list != NULL)
        CHECK(mprotect((void *)list, sizeof *list, PROT_READ) == 0);
}

static bool is_listed(const struct quarantine_list *list, const struct http_route *route)
{
    char text[BLAME_ROUTE_SIZE], plugin[BLAME_PLUGIN_SIZE];

    if (route->owner == NULL)
        return false;
    /* Cut as the page of blame cuts them. */
    (void)snprintf(plugin, sizeof plugin, "%s", route->owner);
    (void)snprintf(text, sizeof text, "%s %s", route->method, route->pattern);
    for (uint32_t i = 0; i < list->count && i < QUARANTINE_MAX; i++)
        if (strcmp(list->routes[i].plugin, plugin) == 0 && strcmp(list->routes[i].route, text) == 0)
            return true;
    return false;
}

void quarantine_apply(const struct quarantine_list *list, uint32_t *version, struct router *router)
{
    struct http_route *route;
    uint32_t now, at = 0;

    if (list == NULL)
        return;
    now = __atomic_load_n(&list->version, __ATOMIC_ACQUIRE);
    if (now == *version)
        return;
    *version = now;
    while ((route = router_next(router, &at)) != NULL)
        route->closed = is_listed(list, route) ? why : NULL;
}
