/* server/census.c - what all workers have done and have, added up. */
#include "server/census.h"
#include "base/mem.h"
#include <stdio.h>

enum { KEY_SIZE = BLAME_PLUGIN_SIZE + BLAME_ROUTE_SIZE + 2 };

/* More than a worker can count in its life. */
#define PLAUSIBLE_MAX (UINT64_C(1) << 56)

void census_init(struct census *census)
{
    *census = (struct census){.access_dropped = 0};
    table_init(&census->routes._keys);
    table_init(&census->pools._keys);
    table_init(&census->statements._keys);
    table_init(&census->upstreams._keys);
    table_init(&census->reasons._keys);
}

static void rows_deinit(struct census_rows *rows)
{
    mem_free(rows->at);
    table_deinit(&rows->_keys);
    *rows = (struct census_rows){.at = NULL};
}

void census_deinit(struct census *census)
{
    rows_deinit(&census->routes);
    rows_deinit(&census->pools);
    rows_deinit(&census->statements);
    rows_deinit(&census->upstreams);
    rows_deinit(&census->reasons);
}

/* The row of these two names, zeroed where it is new: *is_new tells. NULL: there are too many. Rows
 * found before move. */
static void *find(struct census_rows *rows, size_t size, const char *first, const char *second,
                  bool *is_new)
{
    char key[KEY_SIZE + BOARD_NAME_SIZE];
    int len = snprintf(key, sizeof key, "%s\n%s", first, second);
    struct span name = {key, len < (int)sizeof key ? (size_t)len : sizeof key - 1};
    uintptr_t known = (uintptr_t)table_get(&rows->_keys, name);

    *is_new = known == 0;
    if (known != 0)
        return (char *)rows->at + (known - 1) * size;
    if (rows->count == CENSUS_ROWS_MAX)
        return NULL;
    if (rows->count == rows->_size) {
        rows->_size = rows->_size > 0 ? 2 * rows->_size : 16;
        rows->at = mem_realloc(rows->at, rows->_size * size);
    }
    known = ++rows->count;
    (void)table_set(&rows->_keys, name, (void *)known);
    memset((char *)rows->at + (known - 1) * size, 0, size);
    return (char *)rows->at + (known - 1) * size;
}

/* Copies a text that may lack its NUL. */
static void copy(char *to, const char *from, size_t size)
{
    memcpy(to, from, size - 1);
    to[size - 1] = '\0';
}

static uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void add_histogram(struct histogram *to, const struct histogram *from)
{
    to->count += from->count;
    to->sum_us += from->sum_us;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->buckets[i] += from->buckets[i];
}

/* ---- routes ---- */

static bool is_plausible(const struct blame_tally *tally)
{
    return tally->latency.count < PLAUSIBLE_MAX && tally->busy_ticks < UINT64_MAX / 2 &&
           tally->refused <= tally->latency.count && tally->failed <= tally->latency.count &&
           tally->gone <= tally->latency.count;
}

static struct census_route *route_of(struct census *census, const char *plugin, const char *route)
{
    bool is_new;
    struct census_route *row = find(&census->routes, sizeof *row, plugin, route, &is_new);

    if (row != NULL && is_new) {
        copy(row->plugin, plugin, sizeof row->plugin);
        copy(row->route, route, sizeof row->route);
    }
    return row;
}

static void add_tally(struct blame_tally *to, const struct blame_tally *from, bool is_alive)
{
    to->refused += from->refused;
    to->failed += from->failed;
    to->gone += from->gone;
    to->busy_ticks += from->busy_ticks;
    to->longest_ticks = max_of(to->longest_ticks, from->longest_ticks);
    add_histogram(&to->latency, &from->latency);
    if (!is_alive)
        return;
    to->live += from->live;
    to->live_bytes += from->live_bytes;
    to->live_ops += from->live_ops;
}

static void add_page(struct census *census, const struct blame *page, bool is_alive)
{
    uint32_t count = page->count <= BLAME_NAMES_MAX ? page->count : BLAME_NAMES_MAX;

    for (uint32_t i = 0; i < count; i++) {
        const struct blame_name *name = &page->names[i];
        char plugin[BLAME_PLUGIN_SIZE], route[BLAME_ROUTE_SIZE];
        struct census_route *row;

        copy(plugin, name->plugin, sizeof plugin);
        copy(route, name->route, sizeof route);
        row = is_plausible(&name->tally) ? route_of(census, plugin, route) : NULL;
        if (row != NULL)
            add_tally(&row->tally, &name->tally, is_alive);
    }
}

void census_blame(struct census *census, const struct quarantine *book)
{
    for (uint32_t i = 0; i < book->count; i++) {
        const struct quarantine_culprit *culprit = &book->culprits[i];
        struct census_route *row = route_of(census, culprit->plugin, culprit->route);

        if (row == NULL)
            continue;
        row->crashes += culprit->crashes;
        row->stalls += culprit->stalls;
        row->is_closed = culprit->is_closed;
    }
}

/* ---- what a board shows ---- */

static void add_pool(struct census *census, const struct board_pool *shown, bool is_alive)
{
    char name[BOARD_NAME_SIZE];
    struct board_pool *row;
    bool is_new;

    copy(name, shown->name, sizeof name);
    row = find(&census->pools, sizeof *row, name, "", &is_new);
    if (row == NULL)
        return;
    memcpy(row->name, name, sizeof name);
    row->counts.statements += shown->counts.statements;
    row->counts.failed += shown->counts.failed;
    row->counts.refused += shown->counts.refused;
    row->counts.canceled += shown->counts.canceled;
    row->counts.syncs += shown->counts.syncs;
    row->counts.run_again += shown->counts.run_again;
    row->counts.cancels_sent += shown->counts.cancels_sent;
    row->counts.sessions_opened += shown->counts.sessions_opened;
    row->counts.sessions_lost += shown->counts.sessions_lost;
    row->counts.sessions_refused += shown->counts.sessions_refused;
    if (!is_alive)
        return;
    row->counts.sessions += shown->counts.sessions;
    row->counts.sessions_pinned += shown->counts.sessions_pinned;
    row->counts.sessions_opening += shown->counts.sessions_opening;
    row->counts.queued += shown->counts.queued;
    row->counts.in_flight += shown->counts.in_flight;
}

static void add_upstream(struct census *census, const struct board_upstream *shown, bool is_alive)
{
    char name[BOARD_NAME_SIZE];
    struct board_upstream *row;
    bool is_new;

    copy(name, shown->name, sizeof name);
    row = find(&census->upstreams, sizeof *row, name, "", &is_new);
    if (row == NULL)
        return;
    memcpy(row->name, name, sizeof name);
    row->counts.calls += shown->counts.calls;
    row->counts.failed += shown->counts.failed;
    row->counts.refused += shown->counts.refused;
    row->counts.canceled += shown->counts.canceled;
    row->counts.retried += shown->counts.retried;
    row->counts.retries_denied += shown->counts.retries_denied;
    row->counts.shared += shown->counts.shared;
    row->counts.hedged += shown->counts.hedged;
    row->counts.hedges_won += shown->counts.hedges_won;
    row->counts.ejections += shown->counts.ejections;
    row->counts.breaks += shown->counts.breaks;
    row->counts.checks += shown->counts.checks;
    row->counts.checks_failed += shown->counts.checks_failed;
    for (uint32_t i = 0; i < UPSTREAM_FAILURE_COUNT; i++)
        row->counts.failures[i] += shown->counts.failures[i];
    row->counts.connects += shown->counts.connects;
    row->counts.reused += shown->counts.reused;
    add_histogram(&row->times, &shown->times);
    if (!is_alive)
        return;
    row->counts.connections += shown->counts.connections;
    row->counts.idle += shown->counts.idle;
    row->counts.waiting += shown->counts.waiting;
}

static void add_statement(struct census *census, const struct board_statement *shown)
{
    char pool[BOARD_NAME_SIZE], name[BOARD_NAME_SIZE];
    struct board_statement *row;
    bool is_new;

    copy(pool, shown->pool, sizeof pool);
    copy(name, shown->name, sizeof name);
    row = find(&census->statements, sizeof *row, pool, name, &is_new);
    if (row == NULL)
        return;
    memcpy(row->pool, pool, sizeof pool);
    memcpy(row->name, name, sizeof name);
    row->failed += shown->failed;
    add_histogram(&row->times, &shown->times);
}

/* A page that a plugin has ruined has no names of ours. */
static bool is_token(const char *name)
{
    for (; *name != '\0'; name++)
        if ((*name < 'a' || *name > 'z') && (*name < '0' || *name > '9') && *name != '_')
            return false;
    return true;
}

static void add_reason(struct census *census, const struct http_reason *shown)
{
    char name[HTTP_REASON_SIZE];
    struct http_reason *row;
    bool is_new;

    copy(name, shown->name, sizeof name);
    if (name[0] == '\0' || !is_token(name) || shown->count >= PLAUSIBLE_MAX)
        return;
    row = find(&census->reasons, sizeof *row, name, "", &is_new);
    if (row == NULL)
        return;
    memcpy(row->name, name, sizeof name);
    row->count += shown->count;
}

static void add_http(struct http_server_counts *to, const struct http_server_counts *from,
                     bool is_alive)
{
    to->requests += from->requests;
    to->refused += from->refused;
    to->connections += from->connections;
    to->connections_refused += from->connections_refused;
    if (!is_alive)
        return;
    to->connections_open += from->connections_open;
    to->requests_open += from->requests_open;
}

static uint32_t least(uint32_t count, uint32_t max)
{
    return count < max ? count : max;
}

void census_add(struct census *census, const struct blame *page, const struct board *board,
                bool is_alive)
{
    add_page(census, page, is_alive);
    add_http(&census->http, &board->http, is_alive);
    for (uint32_t i = 0; i < HTTP_REASONS_MAX; i++)
        add_reason(census, &board->http.reasons.at[i]);
    census->access_dropped += board->access_dropped;
    census->log_dropped += board->log_dropped;
    for (uint32_t i = 0; i < least(board->pool_count, BOARD_POOLS_MAX); i++)
        add_pool(census, &board->pools[i], is_alive);
    for (uint32_t i = 0; i < least(board->statement_count, BOARD_STATEMENTS_MAX); i++)
        add_statement(census, &board->statements[i]);
    for (uint32_t i = 0; i < least(board->upstream_count, BOARD_UPSTREAMS_MAX); i++)
        add_upstream(census, &board->upstreams[i], is_alive);
}

void census_merge(struct census *census, const struct census *other)
{
    for (uint32_t i = 0; i < other->routes.count; i++) {
        const struct census_route *from = census_route(other, i);
        struct census_route *row = route_of(census, from->plugin, from->route);

        if (row != NULL)
            add_tally(&row->tally, &from->tally, true);
    }
    add_http(&census->http, &other->http, true);
    for (uint32_t i = 0; i < other->reasons.count; i++)
        add_reason(census, (struct http_reason *)other->reasons.at + i);
    census->access_dropped += other->access_dropped;
    census->log_dropped += other->log_dropped;
    for (uint32_t i = 0; i < other->pools.count; i++)
        add_pool(census, (struct board_pool *)other->pools.at + i, true);
    for (uint32_t i = 0; i < other->statements.count; i++)
        add_statement(census, (struct board_statement *)other->statements.at + i);
    for (uint32_t i = 0; i < other->upstreams.count; i++)
        add_upstream(census, (struct board_upstream *)other->upstreams.at + i, true);
}
