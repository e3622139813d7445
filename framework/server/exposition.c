/* server/exposition.c - what the host has counted, as Prometheus reads it.
 *
 * A set of metrics is filled with what the census has, written and let go: what a family's name,
 * type and labels look like stays the business of observe/metrics.c.
 */
#include "server/exposition.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"
#include "server/reload.h"
#include "server/status.h"
#include "server/watch.h"
#include <stdio.h>

enum { NUMBER_SIZE = 16 };

/* Of a member: which it is, and what it is called. */
struct listed {
    size_t offset;    /* of the member */
    bool is_small;    /* uint32_t, a gauge; else uint64_t, a counter */
    const char *name; /* of the metric */
    const char *help; /* the same */
};

/* The labels of a row: `count` of them. */
struct labels {
    struct metric_label at[3];
    uint32_t count;
};

static struct metric_name named(const char *name, const char *help, const struct labels *labels)
{
    return (struct metric_name){.name = name,
                                .help = help,
                                .labels = labels != NULL ? labels->at : NULL,
                                .labels_count = labels != NULL ? labels->count : 0};
}

static struct labels label(const char *key, const char *value)
{
    return (struct labels){.at = {{key, span_of(value)}}, .count = 1};
}

static struct labels and (struct labels labels, const char *key, const char *value)
{
    labels.at[labels.count++] = (struct metric_label){key, span_of(value)};
    return labels;
}

static void counter(struct metrics *set, const char *name, const char *help,
                    const struct labels *labels, uint64_t value)
{
    const struct metric_name metric = named(name, help, labels);

    *metrics_counter(set, &metric) = value;
}

static void gauge(struct metrics *set, const char *name, const char *help,
                  const struct labels *labels, uint64_t value)
{
    const struct metric_name metric = named(name, help, labels);

    *metrics_gauge(set, &metric) = value;
}

static void spread(struct metrics *set, const char *name, const char *help,
                   const struct labels *labels, const struct histogram *value)
{
    const struct metric_name metric = named(name, help, labels);

    *metrics_histogram(set, &metric) = *value;
}

/* Every listed member of the struct at `row`. */
static void put_listed(struct metrics *set, const struct listed *list, uint32_t count,
                       const void *row, const struct labels *labels)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *at = (const char *)row + list[i].offset;

        if (list[i].is_small)
            gauge(set, list[i].name, list[i].help, labels, *(const uint32_t *)(const void *)at);
        else
            counter(set, list[i].name, list[i].help, labels, *(const uint64_t *)(const void *)at);
    }
}

#define COUNT(list) (uint32_t)(sizeof(list) / sizeof *(list))

/* ---- the host ---- */

static void put_reloads(struct metrics *set, const struct reload_history *history)
{
    static const char *const ends[RELOAD_ENDS] = {"served", "failed", "taken_back"};

    for (int i = 0; i < RELOAD_ENDS && history != NULL; i++) {
        const struct labels end = label("end", ends[i]);
        counter(set, "weft_reloads_total", "Reloads and upgrades, by how they ended.", &end,
                history->counts[i]);
    }
}

static void put_host(struct metrics *set, const struct status *status)
{
    const struct watch *watch = status->watch;
    const struct labels version = label("version", WEFT_VERSION);
    uint64_t up_us = (loop_now_ms(watch->loop) - watch->since_ms) * 1000;
    const struct metric_name start =
        named("weft_start_time_seconds", "When the host was started, since 1970.", NULL);

    gauge(set, "weft_build_info", "The version of the host.", &version, 1);
    *metrics_gauge_us(set, &start) = clock_wall_us() - up_us;
    gauge(set, "weft_ready", "Whether the host serves and is not about to end.", NULL,
          watch_is_ready(watch));
    gauge(set, "weft_generation", "The number of the settings and plugins that serve.", NULL,
          status->generation);
    put_reloads(set, status->history);
    counter(set, "weft_access_log_lost_total", "Lines of the access log that could not be written.",
            NULL, status->census.access_dropped);
    counter(set, "weft_error_log_lost_total", "Lines of the error log that could not be written.",
            NULL, status->census.log_dropped + log_lost());
}

static void put_workers(struct metrics *set, const struct status *status)
{
    const struct watch *watch = status->watch;

    LIST_EACH (&watch->workers, link) {
        const struct watched *worker = CONTAINER_OF(link, struct watched, _link);
        char slot[NUMBER_SIZE], generation[NUMBER_SIZE];

        snprintf(slot, sizeof slot, "%u", worker->slot);
        snprintf(generation, sizeof generation, "%u", worker->generation);
        const struct labels who = and(label("worker", slot), "generation", generation);
        const struct labels doing = and(who, "state", status_worker_state(worker));

        gauge(set, "weft_worker", "Worker processes, by what they do.", &doing, 1);
        gauge(set, "weft_worker_memory_bytes", "Memory of the process.", &who,
              watch_memory(worker->pid));
        gauge(set, "weft_worker_fibers", "Handlers that live.", &who, worker->board->fibers);
        gauge(set, "weft_worker_fibers_high", "The most handlers that have lived at once.", &who,
              worker->board->fibers_high);
        gauge(set, "weft_worker_fiber_stack_high_bytes",
              "The most that was used of a handler's stack.", &who,
              worker->board->fiber_stack_high);
    }
    for (uint32_t i = 0; i < status->slots && i < SETTINGS_WORKERS_MAX; i++) {
        char slot[NUMBER_SIZE];

        snprintf(slot, sizeof slot, "%u", i);
        const struct labels who = label("worker", slot);
        counter(set, "weft_worker_deaths_total", "Workers that ended without being told to.", &who,
                watch->slots[i].deaths);
    }
}

/* ---- HTTP ---- */

#define HTTP(member) offsetof(struct http_server_counts, member)

static const struct listed http_list[] = {
    {HTTP(connections), false, "weft_http_connections_total", "Connections of clients."},
    {HTTP(connections_refused), false, "weft_http_connections_refused_total",
     "Connections that were closed at once, since their address had too many."},
    {HTTP(connections_open), true, "weft_http_connections_open", "Connections that are open."},
    {HTTP(requests), false, "weft_http_requests_total", "Requests whose head was whole and right."},
    {HTTP(requests_open), true, "weft_http_requests_open", "Requests that are under way."},
    {HTTP(refused), false, "weft_http_refused_total",
     "Requests that the host itself has answered with 4xx, 501 or 505."},
};

static void put_reasons(struct metrics *set, const struct status *status)
{
    for (uint32_t i = 0; i < status->census.reasons.count; i++) {
        const struct http_reason *row = (const struct http_reason *)status->census.reasons.at + i;
        const struct labels why = label("reason", row->name);

        counter(set, "weft_http_errors_total",
                "Requests that did not end well, by what was to blame: limits, time, peers.", &why,
                row->count);
    }
}

static void put_answers(struct metrics *set, const struct blame_tally *tally,
                        const struct labels *who)
{
    static const char name[] = "weft_requests_total";
    static const char help[] = "Requests that are over, by how they were answered; gone: the "
                               "client left, or they were cut off.";
    const struct labels good = and(*who, "answer", "ok"), refused = and(*who, "answer", "4xx"),
                        failed = and(*who, "answer", "5xx"), gone = and(*who, "answer", "gone");
    uint64_t bad = tally->refused + tally->failed + tally->gone;

    counter(set, name, help, &good, tally->latency.count > bad ? tally->latency.count - bad : 0);
    counter(set, name, help, &refused, tally->refused);
    counter(set, name, help, &failed, tally->failed);
    counter(set, name, help, &gone, tally->gone);
}

static void put_route(struct metrics *set, const struct watch *watch,
                      const struct census_route *row)
{
    const struct labels who = and(label("plugin", row->plugin), "route", row->route);
    const struct metric_name busy =
        named("weft_busy_seconds_total", "Time that a route's code has run on a loop.", &who);
    const struct metric_name longest =
        named("weft_longest_run_seconds", "The longest time of that in one go.", &who);

    put_answers(set, &row->tally, &who);
    spread(set, "weft_request_duration_seconds",
           "From the first byte of a request to the last of its answer.", &who,
           &row->tally.latency);
    *metrics_counter_us(set, &busy) = watch_ticks_us(watch, row->tally.busy_ticks);
    *metrics_gauge_us(set, &longest) = watch_ticks_us(watch, row->tally.longest_ticks);
    gauge(set, "weft_ctx_open", "Contexts that live.", &who, row->tally.live);
    gauge(set, "weft_ctx_bytes", "Memory of these.", &who, row->tally.live_bytes);
    gauge(set, "weft_ops_open", "Operations that are pending.", &who, row->tally.live_ops);
    counter(set, "weft_crashes_total", "Workers that died in it.", &who, row->crashes);
    counter(set, "weft_stalls_total", "Turns of a loop that it held up for stall_warn.", &who,
            row->stalls);
    gauge(set, "weft_quarantined", "Whether it is answered 503 for its crashes.", &who,
          row->is_closed);
}

static void put_routes(struct metrics *set, const struct status *status)
{
    for (uint32_t i = 0; i < status->census.routes.count; i++) {
        const struct census_route *row = census_route(&status->census, i);

        if (row->plugin[0] != '\0' || row->tally.latency.count > 0)
            put_route(set, status->watch, row);
    }
}

/* ---- PostgreSQL ---- */

#define PG(member) offsetof(struct pg_pool_counts, member)

static const struct listed pg_list[] = {
    {PG(sessions), true, "weft_pg_sessions", "Sessions that are open."},
    {PG(sessions_pinned), true, "weft_pg_sessions_pinned", "Of these, lent to transactions."},
    {PG(sessions_opening), true, "weft_pg_sessions_opening", "Sessions that are being opened."},
    {PG(sessions_opened), false, "weft_pg_sessions_opened_total", "Sessions that were opened."},
    {PG(sessions_lost), false, "weft_pg_sessions_lost_total",
     "Sessions that broke or were closed by the server."},
    {PG(sessions_refused), false, "weft_pg_sessions_refused_total",
     "Attempts to open one that failed."},
    {PG(queued), true, "weft_pg_waiting", "Statements that wait for a session."},
    {PG(in_flight), true, "weft_pg_in_flight", "Statements that were sent."},
    {PG(statements), false, "weft_pg_statements_total", "Statements that are settled."},
    {PG(failed), false, "weft_pg_failed_total", "Of these, with an error of the database."},
    {PG(refused), false, "weft_pg_refused_total",
     "Of these, for want of a place in line or of a session in time."},
    {PG(canceled), false, "weft_pg_canceled_total", "Of these, given up before their answer."},
    {PG(syncs), false, "weft_pg_syncs_total", "Round trips that were begun."},
    {PG(run_again), false, "weft_pg_run_again_total",
     "Statements run again for a neighbour's error or a plan out of date."},
    {PG(cancels_sent), false, "weft_pg_cancels_sent_total",
     "Statements that the server was asked to cancel."},
};

static void put_pg(struct metrics *set, const struct status *status)
{
    const struct census *census = &status->census;

    for (uint32_t i = 0; i < census->pools.count; i++) {
        const struct board_pool *row = (const struct board_pool *)census->pools.at + i;
        const struct labels pool = label("pool", row->name);

        put_listed(set, pg_list, COUNT(pg_list), &row->counts, &pool);
    }
    for (uint32_t i = 0; i < census->statements.count; i++) {
        const struct board_statement *row =
            (const struct board_statement *)census->statements.at + i;
        const struct labels who = and(label("pool", row->pool), "statement", row->name);

        spread(set, "weft_pg_statement_duration_seconds",
               "From a declared statement's call to its answer.", &who, &row->times);
        counter(set, "weft_pg_statement_failed_total", "Of its runs.", &who, row->failed);
    }
}

/* ---- upstreams ---- */

#define UP(member) offsetof(struct upstream_counts, member)

static const struct listed upstream_list[] = {
    {UP(connections), true, "weft_upstream_connections", "Connections that are open."},
    {UP(idle), true, "weft_upstream_idle", "Of these, kept for the next call."},
    {UP(waiting), true, "weft_upstream_waiting", "Calls that wait for a connection."},
    {UP(calls), false, "weft_upstream_calls_total", "Calls that are settled."},
    {UP(failed), false, "weft_upstream_failed_total", "Of these, without an answer."},
    {UP(refused), false, "weft_upstream_refused_total",
     "Of these, for want of a place in line or of a connection in time."},
    {UP(canceled), false, "weft_upstream_canceled_total", "Calls that were given up."},
    {UP(retried), false, "weft_upstream_retried_total", "Calls that were sent once more."},
    {UP(retries_denied), false, "weft_upstream_retries_denied_total",
     "Retries that the budget did not allow."},
    {UP(shared), false, "weft_upstream_shared_total",
     "Calls that were answered by another one that was the same; in no other count."},
    {UP(hedged), false, "weft_upstream_hedged_total",
     "Calls that went to a second address, since the first was slow."},
    {UP(hedges_won), false, "weft_upstream_hedges_won_total", "Of these, answered there first."},
    {UP(ejections), false, "weft_upstream_ejections_total", "Addresses that were put out."},
    {UP(breaks), false, "weft_upstream_breaks_total", "How often the breaker opened."},
    {UP(checks), false, "weft_upstream_checks_total", "Health checks of addresses."},
    {UP(checks_failed), false, "weft_upstream_checks_failed_total", "Of these, failed."},
    {UP(connects), false, "weft_upstream_connects_total", "Connections that were opened."},
    {UP(reused), false, "weft_upstream_reused_total", "Calls on a kept connection."},
};

static void put_failures(struct metrics *set, const struct board_upstream *row,
                         const struct labels *who)
{
    for (uint32_t i = 0; i < UPSTREAM_FAILURE_COUNT; i++) {
        const char *reason = upstream_failure_reason((enum upstream_failure)i);
        const struct labels why = and(*who, "reason", reason);

        counter(set, "weft_upstream_errors_total", "Calls without an answer, by what went wrong.",
                &why, row->counts.failures[i]);
    }
}

static void put_upstreams(struct metrics *set, const struct status *status)
{
    const struct census *census = &status->census;

    for (uint32_t i = 0; i < census->upstreams.count; i++) {
        const struct board_upstream *row = (const struct board_upstream *)census->upstreams.at + i;
        const struct labels who = label("upstream", row->name);

        put_listed(set, upstream_list, COUNT(upstream_list), &row->counts, &who);
        put_failures(set, row, &who);
        spread(set, "weft_upstream_call_duration_seconds", "From a call to its answer or failure.",
               &who, &row->times);
    }
}

void exposition_text(const struct status *status, struct buf *out)
{
    struct metrics *set = metrics_create();

    put_host(set, status);
    put_workers(set, status);
    put_listed(set, http_list, COUNT(http_list), &status->census.http, NULL);
    put_reasons(set, status);
    put_routes(set, status);
    put_pg(set, status);
    put_upstreams(set, status);
    metrics_text(set, out);
    metrics_destroy(set);
}
