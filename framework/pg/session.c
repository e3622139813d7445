/* pg/session.c - one PostgreSQL session on the loop, in pipeline mode: its life, its time, and what
 * is sent on it. pg/reading.c has what it hears.
 *
 *   IDLE ──▶ BUSY (pg/flight.c has the ring) ──▶ IDLE     TAKEN: the same, by one user only
 *
 * A session that breaks, or hears from the server while it is idle, tells its owner, who destroys
 * it; all that is in the ring ends as PG_LOST then.
 *
 * libpq 15 does: PQpipelineSync() flushes; each answer ends with a NULL, but that to a Sync;
 * PQgetResult() blocks where PQisBusy(); COPY in a pipeline answers for ever.
 */
#include "pg/session.h"
#include "base/check.h"
#include "base/mem.h"
#include "pg/plans.h"
#include "pg/private.h"
#include <libpq-fe.h>
#include <stdio.h>

enum {
    PLACES_PER_STATEMENT = 8,     /* DEALLOCATE, PREPARE and GUARD with their Syncs, and more */
    PLACES_TO_CLEAN = 24,         /* with what is prepared for it, and a ROLLBACK */
    PLACES_PER_UNDO = 4,          /* ROLLBACK TO and RELEASE with their Syncs */
    UNSENT_LOOK_SIZE = 64 * 1024, /* from here on libpq sends by itself what the socket takes */
    TICK_MS = 1000,               /* of the timer */
    DEAD_HEAD_MS = 10000          /* how long to wait for an answer that nobody wants */
};

/* Without a column and without a row, of which libpq would make a larger result than of most
 * answers. */
static const char guard_sql[] =
    "select where set_config('transaction_read_only', 'on', true) is null";

bool pg_session_is_idle(const struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    return pg_flights_is_empty(&session->_flights);
}

uint32_t pg_session_place(const struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    return session->_flights.head;
}

bool pg_session_is_head_dead(const struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    return pg_flights_is_head_dead(&session->_flights);
}

/* Time */

static bool has_passed(const struct pg_session *session, uint64_t since_us, uint32_t ms)
{
    return loop_now_us(session->loop) - since_us > ms * 1000ull;
}

/* Is what runs now waited for, though its own op may have gone? A transaction that somebody holds
 * waits for it, and so does whoever stands behind; not what is rolled back, be it by a stream that
 * was given up. */
static bool is_awaited(const struct pg_session *session)
{
    if (!pg_session_is_head_dead(session))
        return true;
    if (!session->is_pinned || session->is_rolling_back)
        return false;
    return session->transaction != NULL ? !session->transaction->is_spoiled
                                        : !pg_flights_are_dead(&session->_flights);
}

/* Where the server has a limit, it is to have answered. Else the op's deadline counts, or whatever
 * else makes nobody want the answer: only from there on. */
static bool is_stalled(const struct pg_session *session)
{
    uint64_t since_us = session->load.head_since_us;

    if (pg_session_is_streaming(session) && !pg_session_is_head_dead(session))
        return false; /* who takes the rows sees to that */
    if (session->stall_ms > 0 && !session->has_own_limit)
        return has_passed(session, since_us, session->stall_ms);
    if (session->_left_us > since_us)
        since_us = session->_left_us;
    return !is_awaited(session) && has_passed(session, since_us, DEAD_HEAD_MS);
}

static void on_tick(struct timer *timer)
{
    struct pg_session *session = CONTAINER_OF(timer, struct pg_session, _timer);
    bool is_idle = pg_session_is_idle(session);

    if (!is_idle && is_stalled(session)) {
        session->owner->on_lost(session, "no answer for too long");
        return;
    }
    if (is_idle && session->_was_idle) {
        uint32_t again_ms = session->owner->on_idle(session);

        if (again_ms > 0)
            timer_start(session->loop, timer, again_ms, on_tick);
        return;
    }
    if (is_idle)
        session->idle_since_ms = loop_now_ms(session->loop);
    session->_was_idle = is_idle;
    timer_start(session->loop, timer, TICK_MS, on_tick);
}

void pg_session_look(struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    timer_start(session->loop, &session->_timer, TICK_MS, on_tick);
}

/* What begins to run now is timed from here. */
static void start_clock(struct pg_session *session)
{
    if (pg_session_is_idle(session))
        session->load.head_since_us = loop_now_us(session->loop);
    if (session->_was_idle || !timer_is_on(&session->_timer))
        timer_start(session->loop, &session->_timer, TICK_MS, on_tick);
    session->_was_idle = false;
}

/* Sending */

void pg_session_note_problem(struct pg_session *session, struct span problem)
{
    if (session->_problem[0] == '\0')
        (void)snprintf(session->_problem, sizeof session->_problem, "%.*s", SPAN_ARG(problem));
}

static void on_broken(struct ready *ready)
{
    struct pg_session *session = CONTAINER_OF(ready, struct pg_session, _broken);

    CHECK_OBJ(session, PG_SESSION_MAGIC);
    session->owner->on_lost(session, session->_problem);
}

/* Nothing more is sent on it, and its owner is told soon. libpq may have closed the socket, and a
 * client may be accepted with its number before that. libpq's message is lines for people; the
 * first says what happened. */
bool pg_session_broke(struct pg_session *session)
{
    const char *message = PQerrorMessage(session->conn);

    pg_session_note_problem(session, (struct span){message, strcspn(message, "\n")});
    pg_session_note_problem(session, SPAN("libpq gave no reason"));
    session->load.is_taken = true;
    pg_cork_deinit(&session->cork);
    pg_gather_deinit(&session->gather);
    ready_start(session->loop, &session->_broken, on_broken);
    return false;
}

bool pg_session_flush(struct pg_session *session)
{
    int left = PQflush(session->conn);
    bool wants_more = left > 0 || session->_copying.is_blocked;

    if (left < 0)
        return pg_session_broke(session);
    if (left == 0)
        session->_unsent_bytes = 0;
    if (io_is_on(&session->_io))
        io_update(&session->_io, wants_more ? IO_READ | IO_WRITE : IO_READ);
    return true;
}

static bool sync_up(struct pg_session *session)
{
    if (PQpipelineSync(session->conn) == 0)
        return pg_session_broke(session);
    (void)pg_flight_push(&session->_flights, PG_FLIGHT_SYNC);
    return pg_session_flush(session);
}

static bool append_text(struct pg_session *session, const char *sql)
{
    if (PQsendQueryParams(session->conn, sql, 0, NULL, NULL, NULL, NULL, 0) == 0)
        return pg_session_broke(session);
    return true;
}

static bool command(struct pg_session *session, const char *sql, bool must_work)
{
    start_clock(session);
    if (!append_text(session, sql))
        return false;
    pg_flight_push(&session->_flights, PG_FLIGHT_COMMAND)->must_work = must_work;
    return sync_up(session);
}

void pg_session_command(struct pg_session *session, const char *sql)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    if (pg_session_is_copying(session)) {
        buf_append(&session->_copying.deferred, (struct span){sql, strlen(sql) + 1});
        return;
    }
    (void)command(session, sql, false); /* the owner hears of a failure */
}

bool pg_session_restore(struct pg_session *session, const char *sql, bool must_work)
{
    return command(session, sql, must_work);
}

static bool prepare(struct pg_session *session, struct pg_prepared *prepared)
{
    struct pg_flight *flight;

    pg_prepared_begin(&session->_prepared, prepared);
    if (PQsendPrepare(session->conn, prepared->name, prepared->sql.ptr, 0, NULL) == 0)
        return pg_session_broke(session);
    session->_unsent_bytes += prepared->sql.len;
    flight = pg_flight_push(&session->_flights, PG_FLIGHT_PREPARE);
    flight->prepared = prepared;
    flight->number = prepared->number;
    prepared->users++;
    return true;
}

static int wants_binary(const struct pg_query *query)
{
    return (query->flags & PG_BINARY) != 0;
}

static bool append_prepared(struct pg_session *session, struct pg_prepared *prepared,
                            const struct pg_query *query)
{
    if (prepared->state == PG_UNPREPARED && !prepare(session, prepared))
        return false;
    if (PQsendQueryPrepared(session->conn, prepared->name, (int)query->count, query->values, NULL,
                            NULL, wants_binary(query)) == 0)
        return pg_session_broke(session);
    return true;
}

static bool append_guard(struct pg_session *session, bool is_prepared)
{
    static const struct pg_query plain; /* without parameters */
    struct pg_flight *flight;

    if (is_prepared ? !append_prepared(session, &session->_guard, &plain)
                    : !append_text(session, guard_sql))
        return false;
    flight = pg_flight_push(&session->_flights, PG_FLIGHT_GUARD);
    flight->prepared = is_prepared ? &session->_guard : NULL;
    session->_guard.users += is_prepared;
    return true;
}

/* Small ones pile up, too, while the socket takes nothing: that is looked at where libpq has tried
 * to send them, which most turns do not come to. */
static bool pile_up(struct pg_session *session)
{
    if (session->_unsent_bytes < UNSENT_LOOK_SIZE)
        return true;
    if (!pg_session_flush(session))
        return false;
    session->is_worn |= session->_unsent_bytes > PG_SIZE_WORN;
    return true;
}

static bool append_run(struct pg_session *session, struct pg_query *query)
{
    struct pg_prepared *prepared = pg_plans_of(session, query);
    struct pg_flight *flight;

    CHECK(query->session == NULL);
    query->number = 0;
    if (prepared != NULL) {
        if (!append_prepared(session, prepared, query))
            return false;
        prepared->users++;
        query->number = prepared->number;
    } else if (PQsendQueryParams(session->conn, query->sql.ptr, (int)query->count, NULL,
                                 query->values, NULL, NULL, wants_binary(query)) == 0) {
        return pg_session_broke(session);
    }
    query->place = session->_flights.tail;
    query->session = session;
    flight = pg_flight_push(&session->_flights, PG_FLIGHT_RUN);
    flight->query = query;
    flight->prepared = prepared;
    flight->is_stream = query->stream != NULL;
    session->load.statements++;
    session->is_worn |= query->bytes > PG_SIZE_WORN;
    session->_unsent_bytes += query->bytes + (prepared == NULL ? query->sql.len : 0);
    return pile_up(session);
}

/* A query that could not be sent is not in flight, whatever of it has been appended. */
static void take_back(struct pg_session *session, struct pg_query *query)
{
    if (query->session != NULL)
        pg_session_forget(session, query);
}

/* The statement and what goes with it, under one Sync. */
static bool append_group(struct pg_session *session, struct pg_query *query, bool is_guarded)
{
    bool is_prepared = session->has_prepared && !query->was_renewed;

    return pg_plans_tidy(session) && (!is_guarded || append_guard(session, is_prepared)) &&
           append_run(session, query) && sync_up(session);
}

static bool append_stream(struct pg_session *session, struct pg_query *query, bool is_guarded)
{
    struct pg_stream_sql sql = pg_stream_sql(session);

    if (sql.lift == NULL)
        return append_group(session, query, is_guarded);
    return command(session, sql.lift, false) && append_group(session, query, is_guarded) &&
           command(session, sql.restore, !session->is_pinned);
}

/* One that runs alone among the rest. */
static bool run_alone(struct pg_session *session, struct pg_query *query, bool is_guarded)
{
    if (query->stream == NULL)
        return append_group(session, query, is_guarded);
    if (query->stream->kind == PG_STREAM_ROWS)
        return append_stream(session, query, is_guarded);
    return pg_copying_start(session, query);
}

static bool append_step(struct pg_session *session, struct pg_prepared *step, bool must_work)
{
    static const struct pg_query plain; /* without parameters */
    struct pg_flight *flight;

    if (session->has_prepared ? !append_prepared(session, step, &plain)
                              : !append_text(session, step->sql.ptr))
        return false;
    flight = pg_flight_push(&session->_flights, PG_FLIGHT_COMMAND);
    flight->prepared = session->has_prepared ? step : NULL;
    flight->must_work = must_work;
    flight->is_cleaning = true;
    step->users += session->has_prepared;
    return true;
}

void pg_session_append_cleaning(struct pg_session *session, uint32_t count, bool must_work)
{
    CHECK(count <= PG_CLEANING_STEPS);
    start_clock(session);
    for (uint32_t i = 0; i < count; i++)
        if (!append_step(session, &session->_cleaning[i], must_work))
            return;
    (void)sync_up(session);
}

bool pg_session_run(struct pg_session *session, struct pg_query *query, bool is_guarded)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    start_clock(session);
    if (run_alone(session, query, is_guarded))
        return true;
    take_back(session, query);
    return false;
}

void pg_session_join(struct pg_session *session, struct pg_query *query, uint32_t expected_us)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    start_clock(session);
    list_append(&session->batch_queries, &query->link);
    session->batch.count++;
    session->batch.expected_us += expected_us;
    session->load.statements++;
}

static void empty_batch(struct pg_session *session)
{
    session->load.statements -= session->batch.count;
    session->batch = (struct pg_batch){0};
}

bool pg_session_run_batch(struct pg_session *session)
{
    bool is_fine;

    CHECK_OBJ(session, PG_SESSION_MAGIC);
    CHECK(!list_is_empty(&session->batch_queries));
    empty_batch(session);
    is_fine = pg_plans_tidy(session) && append_guard(session, session->has_prepared);
    LIST_EACH (&session->batch_queries, link)
        is_fine = is_fine && append_run(session, CONTAINER_OF(link, struct pg_query, link));
    is_fine = is_fine && sync_up(session);
    LIST_EACH (&session->batch_queries, link) {
        if (is_fine)
            list_remove(link);
        else
            take_back(session, CONTAINER_OF(link, struct pg_query, link));
    }
    return is_fine;
}

void pg_session_forget(struct pg_session *session, struct pg_query *query)
{
    struct pg_flight *flight;

    CHECK_OBJ(session, PG_SESSION_MAGIC);
    CHECK(query->session == session);
    flight = pg_flight_at(&session->_flights, query->place);
    CHECK(flight->query == query);
    flight->query = NULL;
    query->session = NULL;
    session->_left_us = loop_now_us(session->loop);
    if (flight->result != NULL && !flight->is_error) {
        pg_result_clear(flight->result);
        flight->result = NULL;
    }
    if (!flight->is_stream)
        return;
    session->load.head_since_us = session->_left_us; /* from here on nobody wants it */
    pg_session_resume(session);
    if (pg_session_is_copying(session))
        pg_copying_give_up(session);
}

void pg_session_roll_back(struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    CHECK(session->is_pinned);
    session->is_rolling_back = true;
    session->_left_us = loop_now_us(session->loop);
}

bool pg_session_is_copying(const struct pg_session *session)
{
    return session->_copying.state != PG_COPY_OFF;
}

bool pg_session_is_streaming(const struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    return pg_flights_is_head_stream(&session->_flights);
}

void pg_session_end(struct pg_session *session, const char *reason)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    pg_session_note_problem(session, span_of(reason));
    session->load.is_taken = true;
    session->is_unwanted = true;
    ready_start(session->loop, &session->_broken, on_broken);
}

/* Life */

/* What it is given: nothing has been sent or read. */
static void set(struct pg_session *session, const struct pg_session_options *options)
{
    CHECK(options->depth_max > 0);
    CHECK(options->result_max > 0);
    session->stall_ms = options->stall_ms;
    session->_result_max = options->result_max;
    session->number = options->number;
    session->has_prepared = options->is_prepared;
    session->is_direct = options->is_direct;
    session->checks_client = options->checks_client;
    session->server_us = options->server_us;
    pg_flights_init(&session->_flights, (options->depth_max + 1) * PLACES_PER_STATEMENT +
                                            2 * PG_STALE_MAX + PLACES_PER_UNDO * PG_NESTED_MAX +
                                            PLACES_TO_CLEAN);
}

struct pg_session *pg_session_create(struct loop *loop, struct pg_conn *conn,
                                     const struct pg_session_options *options,
                                     const struct pg_session_owner *owner, void *data)
{
    struct pg_session *session = mem_alloc(sizeof *session);

    CHECK(conn != NULL);
    session->magic = PG_SESSION_MAGIC;
    session->loop = loop;
    session->conn = conn;
    session->owner = owner;
    session->data = data;
    set(session, options);
    session->canceled_place = PG_NOWHERE;
    session->_guard.sql = span_of(guard_sql);
    list_init(&session->batch_queries);
    pg_cork_init(&session->cork, PQsocket(conn));
    pg_gather_init(&session->gather, loop, PQsocket(conn));
    pg_prepared_set_init(&session->_prepared);
    CHECK(PQsetnonblocking(conn, 1) == 0);
    CHECK(PQenterPipelineMode(conn) == 1);
    pg_session_start_reading(session);
    timer_start(loop, &session->_timer, TICK_MS, on_tick);
    return session;
}

void pg_session_destroy(struct pg_session *session)
{
    if (session == NULL)
        return;
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    CHECK(list_is_empty(&session->batch_queries));
    timer_stop(&session->_timer);
    ready_stop(&session->_broken);
    pg_session_stop_reading(session);
    PQfinish(session->conn);
    pg_copying_deinit(&session->_copying);
    pg_flights_deinit(&session->_flights);
    pg_prepared_set_deinit(&session->_prepared);
    session->magic = 0;
    mem_free(session);
}
