/* server/status.c - what `weft status` says of the host, as tables. */
#include "server/status.h"
#include "base/clock.h"
#include "loop/loop.h"
#include "server/grid.h"
#include "server/reload.h"
#include "server/watch.h"
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { TEXT_SIZE = 64, HANGS_MS = 500 };

/* ---- what both forms say ---- */

void status_gather(struct status *status, const struct watch *watch)
{
    status->watch = watch;
    census_init(&status->census);
    census_merge(&status->census, &watch->past);
    LIST_EACH (&watch->workers, link) {
        const struct watched *worker = CONTAINER_OF(link, struct watched, _link);

        census_add(&status->census, worker->blame, worker->board, true);
    }
    census_blame(&status->census, &watch->quarantine);
}

void status_release(struct status *status)
{
    census_deinit(&status->census);
}

uint64_t status_turn_ms(const struct watched *worker)
{
    uint64_t start_us = __atomic_load_n(&worker->blame->turn_start_us, __ATOMIC_RELAXED);
    uint64_t now_us = clock_monotonic_us();

    return start_us != 0 && now_us > start_us ? (now_us - start_us) / 1000 : 0;
}

const char *status_worker_state(const struct watched *worker)
{
    if (status_turn_ms(worker) >= HANGS_MS)
        return "hangs";
    switch ((enum board_state)worker->board->state) {
    case BOARD_STARTING:
        return "starting";
    case BOARD_READY:
        return "ready";
    case BOARD_SERVING:
        return "serving";
    case BOARD_HOLDING:
        return "holding";
    case BOARD_DRAINING:
        return "draining";
    }
    return "?";
}

const char *status_phase(const struct watch *watch)
{
    switch (watch->phase) {
    case WATCH_STARTING:
        return "starting";
    case WATCH_SERVING:
        return "serving";
    case WATCH_DRAINING:
        return "draining";
    }
    return "?";
}

/* ---- for people ---- */

/* "2d 3h", "4m 5s". */
static const char *span_text(uint64_t ms, char text[TEXT_SIZE])
{
    uint64_t s = ms / 1000;

    if (s >= 86400)
        snprintf(text, TEXT_SIZE, "%" PRIu64 "d %" PRIu64 "h", s / 86400, s / 3600 % 24);
    else if (s >= 3600)
        snprintf(text, TEXT_SIZE, "%" PRIu64 "h %" PRIu64 "m", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(text, TEXT_SIZE, "%" PRIu64 "m %" PRIu64 "s", s / 60, s % 60);
    else
        snprintf(text, TEXT_SIZE, "%" PRIu64 ".%" PRIu64 "s", s, ms / 100 % 10);
    return text;
}

static const char *bytes_text(uint64_t bytes, char text[TEXT_SIZE])
{
    if (bytes >= 10 << 20)
        snprintf(text, TEXT_SIZE, "%" PRIu64 "M", bytes >> 20);
    else if (bytes >= 10 << 10)
        snprintf(text, TEXT_SIZE, "%" PRIu64 "k", bytes >> 10);
    else
        snprintf(text, TEXT_SIZE, "%" PRIu64, bytes);
    return text;
}

/* A time below which so many of a histogram's values lie. */
static const char *quantile_text(const struct histogram *times, uint32_t permille,
                                 char text[TEXT_SIZE])
{
    uint64_t us = histogram_quantile(times, permille);

    if (times->count == 0)
        snprintf(text, TEXT_SIZE, "-");
    else if (us == UINT64_MAX)
        snprintf(text, TEXT_SIZE, "1h+");
    else
        snprintf(text, TEXT_SIZE, "%.3f", (double)us / 1000);
    return text;
}

static void header(struct grid *grid, const char *const *names)
{
    grid_row(grid);
    for (; *names != NULL; names++)
        grid_cell(grid, "%s", *names);
}

static void put_head(const struct status *status, struct buf *out)
{
    const struct reload_history *history = status->history;
    const struct watch *watch = status->watch;
    char up[TEXT_SIZE];

    buf_format(out,
               "weft " WEFT_VERSION ", process %d, %s, generation %u, up %s: %" PRIu64
               " requests, %u under way, %u connections\n",
               (int)getpid(), status_phase(watch), status->generation,
               span_text(loop_now_ms(watch->loop) - watch->since_ms, up),
               status->census.http.requests, status->census.http.requests_open,
               status->census.http.connections_open);
    if (history != NULL && history->text[0] != '\0')
        buf_format(out, "last reload %s ago: %s\n",
                   span_text((clock_wall_us() - history->at_us) / 1000, up), history->text);
    buf_append(out, SPAN("\n"));
}

static void put_worker(struct grid *grid, const struct watched *worker)
{
    const struct watch *watch = worker->_watch;
    const struct board *board = worker->board;
    char up[TEXT_SIZE], stack[TEXT_SIZE], memory[TEXT_SIZE];

    grid_row(grid);
    grid_cell(grid, "%u", worker->slot);
    grid_cell(grid, "%d", (int)worker->pid);
    grid_cell(grid, "%u", worker->generation);
    grid_cell(grid, "%s", status_worker_state(worker));
    grid_cell(grid, "%s", span_text(loop_now_ms(watch->loop) - worker->started_ms, up));
    grid_cell(grid, "%u", board->http.connections_open);
    grid_cell(grid, "%" PRIu64, board->http.requests);
    grid_cell(grid, "%u", board->http.requests_open);
    grid_cell(grid, "%u", board->fibers);
    grid_cell(grid, "%s of %s", bytes_text(board->fiber_stack_high, stack),
              bytes_text(board->fiber_stack, memory));
    grid_cell(grid, "%s", bytes_text(watch_memory(worker->pid), memory));
    grid_cell(grid, "%u", watch->slots[worker->slot].deaths);
}

static void put_workers(const struct status *status, struct buf *out)
{
    static const char *const names[] = {"WORKER", "PID",      "GEN",       "STATE",  "UP",
                                        "CONNS",  "REQUESTS", "UNDER WAY", "FIBERS", "STACK",
                                        "MEMORY", "DEATHS",   NULL};
    struct grid grid = {.row = 0};

    header(&grid, names);
    LIST_EACH (&status->watch->workers, link) {
        put_worker(&grid, CONTAINER_OF(link, struct watched, _link));
    }
    grid_print(&grid, out);
}

static void put_deaths(const struct status *status, struct buf *out)
{
    static const char *const names[] = {"WORKER", "DEATHS", "LAST", "WHY", NULL};
    const struct watch *watch = status->watch;
    struct grid grid = {.row = 0};
    char ago[TEXT_SIZE];

    header(&grid, names);
    for (uint32_t i = 0; i < SETTINGS_WORKERS_MAX; i++) {
        const struct watch_slot *slot = &watch->slots[i];

        if (slot->deaths == 0)
            continue;
        grid_row(&grid);
        grid_cell(&grid, "%u", i);
        grid_cell(&grid, "%u", slot->deaths);
        grid_cell(&grid, "%s ago", span_text((clock_wall_us() - slot->died_us) / 1000, ago));
        grid_cell(&grid, "%s", slot->why);
    }
    grid_print(&grid, out);
}

static void put_route(struct grid *grid, const struct watch *watch, const struct census_route *row)
{
    const struct blame_tally *tally = &row->tally;
    char text[TEXT_SIZE];

    grid_row(grid);
    grid_cell(grid, "%s", row->plugin[0] != '\0' ? row->plugin : "-");
    grid_cell(grid, "%s%s", row->plugin[0] != '\0' ? row->route : "(no route)",
              row->is_closed ? " [QUARANTINE]" : "");
    grid_cell(grid, "%" PRIu64, tally->latency.count);
    grid_cell(grid, "%" PRIu64, tally->refused);
    grid_cell(grid, "%" PRIu64, tally->failed);
    grid_cell(grid, "%" PRIu64, tally->gone);
    grid_cell(grid, "%s", quantile_text(&tally->latency, 500, text));
    grid_cell(grid, "%s", quantile_text(&tally->latency, 990, text));
    grid_cell(grid, "%.1f", (double)watch_ticks_us(watch, tally->busy_ticks) / 1000);
    grid_cell(grid, "%.3f", (double)watch_ticks_us(watch, tally->longest_ticks) / 1000);
    grid_cell(grid, "%" PRIu64, tally->live);
    grid_cell(grid, "%s", bytes_text(tally->live_bytes, text));
    grid_cell(grid, "%" PRIu64, tally->live_ops);
    grid_cell(grid, "%" PRIu64, row->crashes);
    grid_cell(grid, "%" PRIu64, row->stalls);
}

static void put_routes(const struct status *status, struct buf *out)
{
    static const char *const names[] = {
        "PLUGIN",  "ROUTE",      "REQUESTS", "4XX",   "5XX", "GONE",    "P50 MS", "P99 MS",
        "BUSY MS", "LONGEST MS", "CTX",      "BYTES", "OPS", "CRASHES", "STALLS", NULL};
    struct grid grid = {.row = 0};

    header(&grid, names);
    for (uint32_t i = 0; i < status->census.routes.count; i++) {
        const struct census_route *row = census_route(&status->census, i);

        if (row->plugin[0] != '\0' || row->tally.latency.count > 0)
            put_route(&grid, status->watch, row);
    }
    grid_print(&grid, out);
}

static void put_reasons(const struct status *status, struct buf *out)
{
    static const char *const names[] = {"ERROR", "REQUESTS", NULL};
    struct grid grid = {.row = 0};

    header(&grid, names);
    for (uint32_t i = 0; i < status->census.reasons.count; i++) {
        const struct http_reason *row = (const struct http_reason *)status->census.reasons.at + i;

        grid_row(&grid);
        grid_cell(&grid, "%s", row->name);
        grid_cell(&grid, "%" PRIu64, row->count);
    }
    grid_print(&grid, out);
}

static void put_pools(const struct status *status, struct buf *out)
{
    static const char *const names[] = {"POOL",      "SESSIONS",   "PINNED", "WAITING",
                                        "IN FLIGHT", "STATEMENTS", "FAILED", "REFUSED",
                                        "CANCELED",  "LOST",       NULL};
    struct grid grid = {.row = 0};

    header(&grid, names);
    for (uint32_t i = 0; i < status->census.pools.count; i++) {
        const struct board_pool *row = (const struct board_pool *)status->census.pools.at + i;

        grid_row(&grid);
        grid_cell(&grid, "%s", row->name);
        grid_cell(&grid, "%u", row->counts.sessions);
        grid_cell(&grid, "%u", row->counts.sessions_pinned);
        grid_cell(&grid, "%u", row->counts.queued);
        grid_cell(&grid, "%u", row->counts.in_flight);
        grid_cell(&grid, "%" PRIu64, row->counts.statements);
        grid_cell(&grid, "%" PRIu64, row->counts.failed);
        grid_cell(&grid, "%" PRIu64, row->counts.refused);
        grid_cell(&grid, "%" PRIu64, row->counts.canceled);
        grid_cell(&grid, "%" PRIu64, row->counts.sessions_lost);
    }
    grid_print(&grid, out);
}

static void put_statements(const struct status *status, struct buf *out)
{
    static const char *const names[] = {"POOL",   "STATEMENT", "RUNS", "FAILED",
                                        "P50 MS", "P99 MS",    NULL};
    struct grid grid = {.row = 0};
    char text[TEXT_SIZE];

    header(&grid, names);
    for (uint32_t i = 0; i < status->census.statements.count; i++) {
        const struct board_statement *row =
            (const struct board_statement *)status->census.statements.at + i;

        grid_row(&grid);
        grid_cell(&grid, "%s", row->pool);
        grid_cell(&grid, "%s", row->name);
        grid_cell(&grid, "%" PRIu64, row->times.count);
        grid_cell(&grid, "%" PRIu64, row->failed);
        grid_cell(&grid, "%s", quantile_text(&row->times, 500, text));
        grid_cell(&grid, "%s", quantile_text(&row->times, 990, text));
    }
    grid_print(&grid, out);
}

static void put_upstreams(const struct status *status, struct buf *out)
{
    static const char *const names[] = {"UPSTREAM", "CONNS",   "IDLE",    "WAITING", "CALLS",
                                        "FAILED",   "REFUSED", "RETRIED", "SHARED",  "HEDGED",
                                        "P50 MS",   "P99 MS",  NULL};
    struct grid grid = {.row = 0};
    char text[TEXT_SIZE];

    header(&grid, names);
    for (uint32_t i = 0; i < status->census.upstreams.count; i++) {
        const struct board_upstream *row =
            (const struct board_upstream *)status->census.upstreams.at + i;

        grid_row(&grid);
        grid_cell(&grid, "%s", row->name);
        grid_cell(&grid, "%u", row->counts.connections);
        grid_cell(&grid, "%u", row->counts.idle);
        grid_cell(&grid, "%u", row->counts.waiting);
        grid_cell(&grid, "%" PRIu64, row->counts.calls);
        grid_cell(&grid, "%" PRIu64, row->counts.failed);
        grid_cell(&grid, "%" PRIu64, row->counts.refused);
        grid_cell(&grid, "%" PRIu64, row->counts.retried);
        grid_cell(&grid, "%" PRIu64, row->counts.shared);
        grid_cell(&grid, "%" PRIu64, row->counts.hedged);
        grid_cell(&grid, "%s", quantile_text(&row->times, 500, text));
        grid_cell(&grid, "%s", quantile_text(&row->times, 990, text));
    }
    grid_print(&grid, out);
}

/* A worker that hangs shows nothing, but the page of blame says what it runs. */
static void put_hanging(struct grid *grid, const struct watched *worker)
{
    struct blame_culprit culprit;
    uint64_t turn_ms = status_turn_ms(worker);

    if (turn_ms < HANGS_MS)
        return;
    blame_read(worker->blame, &culprit);
    grid_row(grid);
    grid_cell(grid, "%.1f", (double)turn_ms);
    grid_cell(grid, "%u", worker->slot);
    grid_cell(grid, "%016" PRIx64, culprit.request);
    grid_cell(grid, "%s", culprit.plugin[0] != '\0' ? culprit.plugin : "-");
    grid_cell(grid, "%s", culprit.route[0] != '\0' ? culprit.route : "-");
    grid_cell(grid, "nothing: it has kept its worker from turning for so long");
}

static void put_requests(const struct status *status, struct buf *out)
{
    static const char *const names[] = {"AGE MS", "WORKER", "REQUEST", "PLUGIN",
                                        "ROUTE",  "AWAITS", NULL};
    struct grid grid = {.row = 0};

    header(&grid, names);
    LIST_EACH (&status->watch->workers, link) {
        const struct watched *worker = CONTAINER_OF(link, struct watched, _link);
        const struct board *board = worker->board;

        put_hanging(&grid, worker);
        for (uint32_t i = 0; i < board->request_count && i < BOARD_REQUESTS_MAX; i++) {
            const struct board_request *row = &board->requests[i];

            grid_row(&grid);
            grid_cell(&grid, "%.1f", (double)row->age_us / 1000);
            grid_cell(&grid, "%u", worker->slot);
            grid_cell(&grid, "%016" PRIx64, row->id);
            grid_cell(&grid, "%.*s", BOARD_NAME_SIZE - 1,
                      row->plugin[0] != '\0' ? row->plugin : "-");
            grid_cell(&grid, "%.*s", BOARD_ROUTE_SIZE - 1,
                      row->route[0] != '\0' ? row->route : "-");
            grid_cell(&grid, "%.*s", BOARD_TEXT_SIZE - 1, row->awaits);
        }
    }
    grid_print(&grid, out);
}

void status_text(const struct status *status, struct buf *out)
{
    put_head(status, out);
    if (status->with_requests) {
        put_requests(status, out);
        return;
    }
    put_workers(status, out);
    put_deaths(status, out);
    put_routes(status, out);
    put_reasons(status, out);
    put_pools(status, out);
    put_statements(status, out);
    put_upstreams(status, out);
}
