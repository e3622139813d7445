/* pg/flight.c - what a session has in flight.
 *
 * The ring mirrors libpq's own queue. What stands up to a Sync is a group: it stands or falls
 * together, and its statements end when the Sync is answered, since what was inserted before is
 * not yet committed.
 *
 *        head                 cursor                        tail
 *         ▼                     ▼                            ▼
 *       [ PREPARE  RUN  SYNC ][ RUN  SYNC ][ GUARD RUN RUN SYNC ]
 *
 * A statement whose op went is a RUN without a query: a tombstone that swallows its answer.
 */
#include "pg/flight.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "pg/private.h"

/* What a group's flights say together. */
struct group {
    uint32_t runs;             /* statements, tombstones included */
    uint32_t group_us;         /* all of it */
    uint32_t took_us;          /* a statement of it */
    bool has_prepared;         /* one of them was prepared first */
    struct pg_flight *guard;   /* before its statements, or NULL */
    struct pg_flight *failure; /* the first that failed, or NULL */
    struct pg_flight *sync;    /* its end */
    pg_flight_fn *fn;          /* who is told */
    void *data;                /* for fn */
};

void pg_flights_init(struct pg_flights *flights, uint32_t size_min)
{
    *flights = (struct pg_flights){._size = 16};
    while (flights->_size < size_min)
        flights->_size *= 2;
    flights->_ring = mem_calloc(flights->_size, sizeof *flights->_ring);
}

static struct pg_result *take_result(struct pg_flight *flight)
{
    struct pg_result *result = flight->result;

    flight->result = NULL;
    return result;
}

void pg_flights_deinit(struct pg_flights *flights)
{
    for (uint32_t place = flights->head; place != flights->tail; place++)
        pg_result_clear(take_result(pg_flight_at(flights, place)));
    mem_free(flights->_ring);
    *flights = (struct pg_flights){0};
}

struct pg_flight *pg_flight_push(struct pg_flights *flights, enum pg_flight_kind kind)
{
    struct pg_flight *flight;

    CHECK(flights->_size > 0);
    CHECK(flights->tail - flights->head < flights->_size);
    flight = pg_flight_at(flights, flights->tail++);
    *flight = (struct pg_flight){.kind = kind};
    flights->syncs += kind == PG_FLIGHT_SYNC;
    return flight;
}

bool pg_flights_is_head_dead(const struct pg_flights *flights)
{
    for (uint32_t place = flights->head; place != flights->tail; place++) {
        const struct pg_flight *flight = pg_flight_at(flights, place);

        if (flight->kind == PG_FLIGHT_SYNC)
            return true;
        if (flight->query != NULL)
            return false;
    }
    return true;
}

bool pg_flights_are_dead(const struct pg_flights *flights)
{
    for (uint32_t place = flights->head; place != flights->tail; place++)
        if (pg_flight_at(flights, place)->query != NULL)
            return false;
    return true;
}

bool pg_flights_has_dead(const struct pg_flights *flights)
{
    for (uint32_t place = flights->head; place != flights->tail; place++) {
        const struct pg_flight *flight = pg_flight_at(flights, place);

        if (flight->kind == PG_FLIGHT_RUN && flight->query == NULL)
            return true;
    }
    return false;
}

bool pg_flights_is_head_burdened(const struct pg_flights *flights)
{
    bool is_guarded = false;

    for (uint32_t place = flights->head; place != flights->tail; place++) {
        const struct pg_flight *flight = pg_flight_at(flights, place);

        if (flight->kind == PG_FLIGHT_SYNC)
            return false;
        is_guarded |= flight->kind == PG_FLIGHT_GUARD;
        if (is_guarded && flight->kind == PG_FLIGHT_RUN && flight->query == NULL &&
            !flight->is_answered)
            return true;
    }
    return false;
}

bool pg_flights_is_head_stream(const struct pg_flights *flights)
{
    for (uint32_t place = flights->head; place != flights->tail; place++) {
        const struct pg_flight *flight = pg_flight_at(flights, place);

        if (flight->kind == PG_FLIGHT_SYNC || flight->is_stream)
            return flight->is_stream;
    }
    return false;
}

uint64_t pg_flights_share_us(const struct pg_flights *flights, uint32_t place, uint64_t took_us)
{
    uint32_t runs = 0;
    bool is_in_it = false;

    for (uint32_t at = flights->head; at != flights->tail; at++) {
        const struct pg_flight *flight = pg_flight_at(flights, at);

        if (flight->kind == PG_FLIGHT_PREPARE)
            return 0;
        if (flight->kind == PG_FLIGHT_SYNC)
            break;
        runs += flight->kind == PG_FLIGHT_RUN;
        is_in_it |= at == place;
    }
    return is_in_it && runs > 0 ? took_us / runs : 0;
}

static bool is_error(const struct pg_flight *flight)
{
    return flight->result != NULL && flight->is_error;
}

static struct group sum_up(const struct pg_flights *flights, uint64_t took_us)
{
    struct group group = {.sync = pg_flight_at(flights, flights->cursor)};

    for (uint32_t place = flights->head; place != flights->cursor + 1; place++) {
        struct pg_flight *flight = pg_flight_at(flights, place);

        group.runs += flight->kind == PG_FLIGHT_RUN;
        group.has_prepared |= flight->kind == PG_FLIGHT_PREPARE;
        if (flight->kind == PG_FLIGHT_GUARD)
            group.guard = flight;
        if (group.failure == NULL && is_error(flight))
            group.failure = flight;
    }
    group.group_us = took_us < UINT32_MAX ? (uint32_t)took_us : UINT32_MAX;
    group.took_us = group.group_us / (group.runs > 0 ? group.runs : 1);
    return group;
}

/* The error of a statement that did not run, or was undone: its PREPARE's, or, where it was alone
 * under its Sync, whatever failed there. NULL: somebody else's. */
static struct pg_result *take_error(const struct group *group, struct pg_flight *before)
{
    if (before->kind == PG_FLIGHT_PREPARE && is_error(before))
        return take_result(before);
    if (group->runs == 1 && group->failure != NULL)
        return take_result(group->failure);
    return NULL;
}

/* Was the guard lost, or could not be prepared? That is no error of those behind it. */
static bool is_unguarded(const struct group *group)
{
    const struct pg_flight *guard = group->guard, *failure = group->failure;

    return guard != NULL && failure != NULL && guard->prepared != NULL &&
           guard->prepared == failure->prepared &&
           pg_result_plan_fault(failure->result) == PG_PLAN_STALE;
}

static struct pg_answer answer_of(const struct group *group, struct pg_flight *flight,
                                  struct pg_flight *before)
{
    struct pg_answer answer = {
        .outcome = PG_ANSWERED, .group_us = group->group_us, .took_us = group->took_us};

    if (is_unguarded(group)) {
        answer.outcome = PG_UNGUARDED;
        return answer;
    }
    if (flight->result != NULL && (is_error(flight) || !is_error(group->sync))) {
        answer.result = take_result(flight);
        answer.is_typical =
            !group->has_prepared && (group->failure == NULL || group->failure == flight);
        return answer;
    }
    if (flight->is_too_big && !is_error(group->sync)) {
        answer.outcome = PG_TOO_BIG;
        return answer;
    }
    answer.result = take_error(group, before);
    if (answer.result == NULL)
        answer.outcome = PG_ABORTED;
    return answer;
}

/* One flight less points at it. */
static void leave(struct pg_prepared *prepared)
{
    CHECK(prepared->users > 0);
    prepared->users--;
}

static void end_prepare(struct pg_flight *flight)
{
    struct pg_prepared *prepared = flight->prepared;
    bool is_fine = flight->is_answered && flight->result != NULL && !is_error(flight);

    leave(prepared);
    if (prepared->number == flight->number && prepared->state == PG_PREPARING)
        prepared->state = is_fine ? PG_PREPARED : PG_UNPREPARED;
}

static void end_fixed(struct pg_flight *flight)
{
    if (flight->prepared == NULL)
        return;
    leave(flight->prepared);
    if (is_error(flight) && flight->prepared->state == PG_PREPARED)
        flight->prepared->state = PG_UNPREPARED;
}

static void end_run(const struct group *group, struct pg_flight *flight, struct pg_flight *before)
{
    struct pg_query *query = flight->query;
    struct pg_answer answer;

    if (flight->prepared != NULL)
        leave(flight->prepared);
    if (query == NULL)
        return;
    answer = answer_of(group, flight, before);
    flight->query = NULL;
    group->fn(group->data, query, &answer);
}

static void end_flight(const struct group *group, struct pg_flight *flight,
                       struct pg_flight *before)
{
    switch (flight->kind) {
    case PG_FLIGHT_PREPARE:
        end_prepare(flight);
        break;
    case PG_FLIGHT_GUARD:
        end_fixed(flight);
        break;
    case PG_FLIGHT_RUN:
        end_run(group, flight, before);
        break;
    case PG_FLIGHT_COMMAND:
        end_fixed(flight);
        if (is_error(flight))
            log_debug("pg: %.*s", SPAN_ARG(pg_result_message(flight->result)));
        break;
    case PG_FLIGHT_SYNC:
        break;
    }
}

uint32_t pg_flights_end_group(struct pg_flights *flights, uint64_t took_us, pg_flight_fn *fn,
                              void *data)
{
    struct group group = sum_up(flights, took_us);
    struct pg_flight *before = group.sync;

    CHECK(group.sync->kind == PG_FLIGHT_SYNC);
    group.fn = fn;
    group.data = data;
    for (uint32_t place = flights->head; place != flights->cursor; place++) {
        struct pg_flight *flight = pg_flight_at(flights, place);

        end_flight(&group, flight, before);
        before = flight;
    }
    for (uint32_t place = flights->head; place != flights->cursor + 1; place++)
        pg_result_clear(take_result(pg_flight_at(flights, place)));
    flights->head = ++flights->cursor;
    flights->syncs--;
    return group.runs;
}

void pg_flights_lose(struct pg_flights *flights, pg_flight_fn *fn, void *data)
{
    const struct pg_answer lost = {.outcome = PG_LOST};

    flights->syncs = 0;
    while (flights->head != flights->tail) {
        struct pg_flight *flight = pg_flight_at(flights, flights->head);
        struct pg_query *query = flight->query;

        pg_result_clear(take_result(flight));
        flights->cursor = ++flights->head;
        if (query != NULL)
            fn(data, query, &lost);
    }
}
