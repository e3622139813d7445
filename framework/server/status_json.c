/* server/status_json.c - what `weft status --json` and /status say of the host. */
#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"
#include "server/reload.h"
#include "server/status.h"
#include "server/watch.h"
#include <inttypes.h>
#include <unistd.h>

/* What is written: one value after the other, with the commas between them. */
struct json {
    struct buf *out;
    bool needs_comma;
};

static void begin_value(struct json *json, const char *key)
{
    if (json->needs_comma)
        buf_append(json->out, SPAN(","));
    if (key != NULL)
        buf_format(json->out, "\"%s\":", key);
    json->needs_comma = true;
}

/* Elements of an array, which have no key, begin a line: that is easier to read, and no line of the
 * control socket is too long. */
static void open(struct json *json, const char *key, const char *bracket)
{
    begin_value(json, key);
    if (key == NULL && json->out->len > 0)
        buf_append(json->out, SPAN("\n "));
    buf_append(json->out, span_of(bracket));
    json->needs_comma = false;
}

static void close_with(struct json *json, const char *bracket)
{
    buf_append(json->out, span_of(bracket));
    json->needs_comma = true;
}

static void number(struct json *json, const char *key, uint64_t value)
{
    begin_value(json, key);
    buf_format(json->out, "%" PRIu64, value);
}

static void boolean(struct json *json, const char *key, bool value)
{
    begin_value(json, key);
    buf_append(json->out, value ? SPAN("true") : SPAN("false"));
}

/* At most `size` bytes of `value`, which may lack its NUL. */
static void text(struct json *json, const char *key, const char *value, size_t size)
{
    char escaped[6 * 640 + 3];
    struct span bytes = {value, strnlen(value, size)};

    begin_value(json, key);
    buf_append(json->out, (struct span){escaped, log_escape(escaped, sizeof escaped, bytes, true)});
}

static void times(struct json *json, const struct histogram *histogram)
{
    static const struct {
        const char *key;
        uint32_t permille;
    } wanted[] = {{"p50_us", 500}, {"p99_us", 990}};

    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        uint64_t us = histogram_quantile(histogram, wanted[i].permille);

        if (histogram->count > 0 && us != UINT64_MAX)
            number(json, wanted[i].key, us);
        else {
            begin_value(json, wanted[i].key);
            buf_append(json->out, SPAN("null"));
        }
    }
    number(json, "total_us", histogram->sum_us);
}

static void put_workers(struct json *json, const struct watch *watch)
{
    open(json, "workers", "[");
    LIST_EACH (&watch->workers, link) {
        const struct watched *worker = CONTAINER_OF(link, struct watched, _link);
        const struct board *board = worker->board;

        open(json, NULL, "{");
        number(json, "worker", worker->slot);
        number(json, "pid", (uint64_t)worker->pid);
        number(json, "generation", worker->generation);
        text(json, "state", status_worker_state(worker), 16);
        number(json, "turn_ms", status_turn_ms(worker));
        number(json, "up_ms", loop_now_ms(watch->loop) - worker->started_ms);
        number(json, "connections", board->http.connections_open);
        number(json, "requests", board->http.requests);
        number(json, "under_way", board->http.requests_open);
        number(json, "fibers", board->fibers);
        number(json, "fibers_high", board->fibers_high);
        number(json, "fiber_stack_bytes", board->fiber_stack);
        number(json, "fiber_stack_high_bytes", board->fiber_stack_high);
        number(json, "memory", watch_memory(worker->pid));
        close_with(json, "}");
    }
    close_with(json, "]");
}

static void put_slots(struct json *json, const struct status *status)
{
    char time[CLOCK_ISO_SIZE];

    open(json, "slots", "[");
    for (uint32_t i = 0; i < status->slots && i < SETTINGS_WORKERS_MAX; i++) {
        const struct watch_slot *slot = &status->watch->slots[i];

        open(json, NULL, "{");
        number(json, "worker", i);
        number(json, "deaths", slot->deaths);
        if (slot->deaths > 0) {
            clock_iso(slot->died_us, time);
            text(json, "last_death", time, sizeof time);
            text(json, "why", slot->why, sizeof slot->why);
        }
        close_with(json, "}");
    }
    close_with(json, "]");
}

static void put_routes(struct json *json, const struct status *status)
{
    open(json, "routes", "[");
    for (uint32_t i = 0; i < status->census.routes.count; i++) {
        const struct census_route *row = census_route(&status->census, i);
        const struct blame_tally *tally = &row->tally;

        open(json, NULL, "{");
        text(json, "plugin", row->plugin, sizeof row->plugin);
        text(json, "route", row->route, sizeof row->route);
        number(json, "requests", tally->latency.count);
        number(json, "status_4xx", tally->refused);
        number(json, "status_5xx", tally->failed);
        number(json, "gone", tally->gone);
        times(json, &tally->latency);
        number(json, "busy_us", watch_ticks_us(status->watch, tally->busy_ticks));
        number(json, "longest_us", watch_ticks_us(status->watch, tally->longest_ticks));
        number(json, "ctx", tally->live);
        number(json, "ctx_bytes", tally->live_bytes);
        number(json, "ops", tally->live_ops);
        number(json, "crashes", row->crashes);
        number(json, "stalls", row->stalls);
        boolean(json, "quarantined", row->is_closed);
        close_with(json, "}");
    }
    close_with(json, "]");
}

static void put_reasons(struct json *json, const struct status *status)
{
    open(json, "errors", "[");
    for (uint32_t i = 0; i < status->census.reasons.count; i++) {
        const struct http_reason *row = (const struct http_reason *)status->census.reasons.at + i;

        open(json, NULL, "{");
        text(json, "reason", row->name, sizeof row->name);
        number(json, "requests", row->count);
        close_with(json, "}");
    }
    close_with(json, "]");
}

static void put_pools(struct json *json, const struct status *status)
{
    open(json, "pools", "[");
    for (uint32_t i = 0; i < status->census.pools.count; i++) {
        const struct board_pool *row = (const struct board_pool *)status->census.pools.at + i;

        open(json, NULL, "{");
        text(json, "pool", row->name, sizeof row->name);
        number(json, "sessions", row->counts.sessions);
        number(json, "pinned", row->counts.sessions_pinned);
        number(json, "opening", row->counts.sessions_opening);
        number(json, "waiting", row->counts.queued);
        number(json, "in_flight", row->counts.in_flight);
        number(json, "statements", row->counts.statements);
        number(json, "failed", row->counts.failed);
        number(json, "refused", row->counts.refused);
        number(json, "canceled", row->counts.canceled);
        number(json, "sessions_lost", row->counts.sessions_lost);
        close_with(json, "}");
    }
    close_with(json, "]");
}

static void put_statements(struct json *json, const struct status *status)
{
    open(json, "statements", "[");
    for (uint32_t i = 0; i < status->census.statements.count; i++) {
        const struct board_statement *row =
            (const struct board_statement *)status->census.statements.at + i;

        open(json, NULL, "{");
        text(json, "pool", row->pool, sizeof row->pool);
        text(json, "statement", row->name, sizeof row->name);
        number(json, "runs", row->times.count);
        number(json, "failed", row->failed);
        times(json, &row->times);
        close_with(json, "}");
    }
    close_with(json, "]");
}

static void put_upstreams(struct json *json, const struct status *status)
{
    open(json, "upstreams", "[");
    for (uint32_t i = 0; i < status->census.upstreams.count; i++) {
        const struct board_upstream *row =
            (const struct board_upstream *)status->census.upstreams.at + i;

        open(json, NULL, "{");
        text(json, "upstream", row->name, sizeof row->name);
        number(json, "connections", row->counts.connections);
        number(json, "idle", row->counts.idle);
        number(json, "waiting", row->counts.waiting);
        number(json, "calls", row->counts.calls);
        number(json, "failed", row->counts.failed);
        number(json, "refused", row->counts.refused);
        number(json, "retried", row->counts.retried);
        number(json, "shared", row->counts.shared);
        number(json, "hedged", row->counts.hedged);
        number(json, "hedges_won", row->counts.hedges_won);
        times(json, &row->times);
        close_with(json, "}");
    }
    close_with(json, "]");
}

static void put_id(struct json *json, uint64_t id)
{
    begin_value(json, "request");
    buf_format(json->out, "\"%016" PRIx64 "\"", id);
}

static void put_requests(struct json *json, const struct watch *watch)
{
    open(json, "requests_under_way", "[");
    LIST_EACH (&watch->workers, link) {
        const struct watched *worker = CONTAINER_OF(link, struct watched, _link);
        const struct board *board = worker->board;

        for (uint32_t i = 0; i < board->request_count && i < BOARD_REQUESTS_MAX; i++) {
            const struct board_request *row = &board->requests[i];

            open(json, NULL, "{");
            number(json, "age_us", row->age_us);
            number(json, "worker", worker->slot);
            put_id(json, row->id);
            text(json, "plugin", row->plugin, sizeof row->plugin);
            text(json, "route", row->route, sizeof row->route);
            text(json, "awaits", row->awaits, sizeof row->awaits);
            close_with(json, "}");
        }
    }
    close_with(json, "]");
}

/* What a worker that hangs is running. */
static void put_hanging(struct json *json, const struct watch *watch)
{
    open(json, "hanging", "[");
    LIST_EACH (&watch->workers, link) {
        const struct watched *worker = CONTAINER_OF(link, struct watched, _link);
        struct blame_culprit culprit;

        if (strcmp(status_worker_state(worker), "hangs") != 0)
            continue;
        blame_read(worker->blame, &culprit);
        open(json, NULL, "{");
        number(json, "worker", worker->slot);
        number(json, "turn_ms", status_turn_ms(worker));
        put_id(json, culprit.request);
        text(json, "plugin", culprit.plugin, sizeof culprit.plugin);
        text(json, "route", culprit.route, sizeof culprit.route);
        close_with(json, "}");
    }
    close_with(json, "]");
}

static void put_reloads(struct json *json, const struct reload_history *history)
{
    char time[CLOCK_ISO_SIZE];

    if (history == NULL)
        return;
    open(json, "reloads", "{");
    number(json, "served", history->counts[RELOAD_SERVED]);
    number(json, "failed", history->counts[RELOAD_FAILED]);
    number(json, "taken_back", history->counts[RELOAD_TAKEN_BACK]);
    if (history->text[0] != '\0') {
        clock_iso(history->at_us, time);
        text(json, "last", time, sizeof time);
        text(json, "last_text", history->text, sizeof history->text);
    }
    close_with(json, "}");
}

void status_json(const struct status *status, struct buf *out)
{
    const struct watch *watch = status->watch;
    struct json json = {.out = out};

    open(&json, NULL, "{");
    text(&json, "version", WEFT_VERSION, 32);
    number(&json, "pid", (uint64_t)getpid());
    text(&json, "state", status_phase(watch), 16);
    number(&json, "generation", status->generation);
    number(&json, "up_ms", loop_now_ms(watch->loop) - watch->since_ms);
    number(&json, "requests", status->census.http.requests);
    number(&json, "under_way", status->census.http.requests_open);
    number(&json, "connections", status->census.http.connections_open);
    put_reloads(&json, status->history);
    put_workers(&json, watch);
    put_slots(&json, status);
    put_routes(&json, status);
    put_reasons(&json, status);
    put_pools(&json, status);
    put_statements(&json, status);
    put_upstreams(&json, status);
    put_hanging(&json, watch);
    if (status->with_requests)
        put_requests(&json, watch);
    close_with(&json, "}");
    buf_append(out, SPAN("\n"));
}
