/* pg/session.c - one PostgreSQL session on the loop, in pipeline mode.
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
#include "base/log.h"
#include "base/mem.h"
#include "pg/pending.h"
#include "pg/private.h"
#include <libpq-fe.h>
#include <stdio.h>

enum {
    PLACES_PER_STATEMENT = 8,       /* DEALLOCATE, PREPARE and GUARD with their Syncs, and more */
    NULLS_MAX = 4,                  /* an error at a Sync is followed by one */
    RESULT_SIZE_WORN = 1024 * 1024, /* libpq's buffers grow and never shrink */
    TICK_MS = 1000,                 /* of the timer */
    DEAD_HEAD_MS = 10000            /* how long to wait for an answer that nobody wants */
};

static const char guard_sql[] = "select set_config('transaction_read_only', 'on', true)";

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

static bool is_stalled(const struct pg_session *session)
{
    uint64_t age_us = loop_now_us(session->loop) - session->load.head_since_us;

    if (session->stall_ms > 0)
        return age_us > session->stall_ms * 1000ull;
    return age_us > DEAD_HEAD_MS * 1000ull && pg_session_is_head_dead(session);
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
        session->owner->on_idle(session);
        return;
    }
    session->_was_idle = is_idle;
    timer_start(session->loop, timer, TICK_MS, on_tick);
}

/* What begins to run now is timed from here. */
static void start_clock(struct pg_session *session)
{
    if (pg_session_is_idle(session))
        session->load.head_since_us = loop_now_us(session->loop);
    session->_was_idle = false;
    if (!timer_is_on(&session->_timer))
        timer_start(session->loop, &session->_timer, TICK_MS, on_tick);
}

/* Sending */

static void note_problem(struct pg_session *session, struct span problem)
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

/* Nothing more is sent on it, and its owner is told soon. libpq's message is lines for people; the
 * first says what happened. */
static bool broke(struct pg_session *session)
{
    const char *message = PQerrorMessage(session->conn);

    note_problem(session, (struct span){message, strcspn(message, "\n")});
    note_problem(session, SPAN("libpq gave no reason"));
    session->load.is_taken = true;
    ready_start(session->loop, &session->_broken, on_broken);
    return false;
}

static bool flush(struct pg_session *session)
{
    int left = PQflush(session->conn);

    if (left < 0)
        return broke(session);
    io_update(&session->_io, left > 0 ? IO_READ | IO_WRITE : IO_READ);
    return true;
}

static bool sync_up(struct pg_session *session)
{
    if (PQpipelineSync(session->conn) == 0)
        return broke(session);
    (void)pg_flight_push(&session->_flights, PG_FLIGHT_SYNC);
    return flush(session);
}

static bool append_text(struct pg_session *session, const char *sql)
{
    if (PQsendQueryParams(session->conn, sql, 0, NULL, NULL, NULL, NULL, 0) == 0)
        return broke(session);
    return true;
}

static bool command(struct pg_session *session, const char *sql)
{
    start_clock(session);
    if (!append_text(session, sql))
        return false;
    (void)pg_flight_push(&session->_flights, PG_FLIGHT_COMMAND);
    return sync_up(session);
}

void pg_session_command(struct pg_session *session, const char *sql)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    (void)command(session, sql); /* the owner hears of a failure */
}

/* Beyond the array the server keeps a plan that nobody uses, until the session ends. */
static void note_stale(struct pg_session *session, uint32_t number)
{
    if (number != 0 && session->_stale_count < PG_STALE_MAX)
        session->_stale[session->_stale_count++] = number;
}

/* Not within a transaction, which a failure would abort. */
static bool deallocate_stale(struct pg_session *session)
{
    while (session->_stale_count > 0 && !session->is_pinned) {
        uint32_t number = session->_stale[--session->_stale_count];
        char name[PG_PREPARED_NAME_SIZE];
        char sql[sizeof "deallocate " + PG_PREPARED_NAME_SIZE];

        pg_prepared_name(number, name);
        (void)snprintf(sql, sizeof sql, "deallocate %s", name);
        if (!command(session, sql))
            return false;
    }
    return true;
}

static bool prepare(struct pg_session *session, struct pg_prepared *prepared)
{
    struct pg_flight *flight;

    pg_prepared_begin(&session->_prepared, prepared);
    if (PQsendPrepare(session->conn, prepared->name, prepared->sql.ptr, 0, NULL) == 0)
        return broke(session);
    flight = pg_flight_push(&session->_flights, PG_FLIGHT_PREPARE);
    flight->prepared = prepared;
    flight->number = prepared->number;
    prepared->users++;
    return true;
}

static bool append_prepared(struct pg_session *session, struct pg_prepared *prepared,
                            uint32_t count, const char *const *values)
{
    if (prepared->state == PG_UNPREPARED && !prepare(session, prepared))
        return false;
    if (PQsendQueryPrepared(session->conn, prepared->name, (int)count, values, NULL, NULL, 0) == 0)
        return broke(session);
    return true;
}

static bool append_guard(struct pg_session *session)
{
    struct pg_flight *flight;

    if (session->_has_prepared ? !append_prepared(session, &session->_guard, 0, NULL)
                               : !append_text(session, guard_sql))
        return false;
    flight = pg_flight_push(&session->_flights, PG_FLIGHT_GUARD);
    flight->prepared = session->_has_prepared ? &session->_guard : NULL;
    session->_guard.users += session->_has_prepared;
    return true;
}

static struct pg_prepared *prepared_of(struct pg_session *session, const struct pg_query *query)
{
    struct pg_prepared *prepared;
    uint32_t evicted = 0;

    if (!session->_has_prepared || query->was_renewed)
        return NULL;
    if (query->statement != NULL)
        return pg_prepared_declared(&session->_prepared, query->statement);
    prepared = pg_prepared_ad_hoc(&session->_prepared, query->sql, &evicted);
    note_stale(session, evicted);
    return prepared;
}

static bool append_run(struct pg_session *session, struct pg_query *query)
{
    struct pg_prepared *prepared = prepared_of(session, query);
    struct pg_flight *flight;

    CHECK(query->session == NULL);
    query->number = 0;
    if (prepared != NULL) {
        if (!append_prepared(session, prepared, query->count, query->values))
            return false;
        prepared->users++;
        query->number = prepared->number;
    } else if (PQsendQueryParams(session->conn, query->sql.ptr, (int)query->count, NULL,
                                 query->values, NULL, NULL, 0) == 0) {
        return broke(session);
    }
    query->place = session->_flights.tail;
    query->session = session;
    flight = pg_flight_push(&session->_flights, PG_FLIGHT_RUN);
    flight->query = query;
    flight->prepared = prepared;
    session->load.statements++;
    session->is_worn |= query->bytes > RESULT_SIZE_WORN;
    return true;
}

/* A query that could not be sent is not in flight, whatever of it has been appended. */
static void take_back(struct pg_session *session, struct pg_query *query)
{
    if (query->session != NULL)
        pg_session_forget(session, query);
}

bool pg_session_run(struct pg_session *session, struct pg_query *query, bool is_guarded)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    start_clock(session);
    if (deallocate_stale(session) && (!is_guarded || append_guard(session)) &&
        append_run(session, query) && sync_up(session))
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
    is_fine = deallocate_stale(session) && append_guard(session);
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

bool pg_session_has_prepared(struct pg_session *session, const struct pg_query *query)
{
    struct pg_prepared *prepared = prepared_of(session, query);

    return prepared == NULL || prepared->state == PG_PREPARED;
}

void pg_session_unprepare(struct pg_session *session, const struct pg_query *query, bool is_there)
{
    struct pg_prepared *prepared = prepared_of(session, query);

    if (prepared == NULL || prepared->number != query->number || prepared->state != PG_PREPARED)
        return;
    prepared->state = PG_UNPREPARED;
    if (is_there)
        note_stale(session, prepared->number);
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
    if (flight->result != NULL && pg_result_kind(flight->result) == PG_RESULT_OK) {
        pg_result_clear(flight->result);
        flight->result = NULL;
    }
}

/* Reading */

static void on_answer(void *data, struct pg_query *query, const struct pg_answer *answer)
{
    struct pg_session *session = data;

    query->session = NULL;
    session->owner->on_answer(session, query, answer);
}

static void end_group(struct pg_session *session)
{
    uint64_t now_us = loop_now_us(session->loop);

    session->load.statements -= pg_flights_end_group(
        &session->_flights, now_us - session->load.head_since_us, on_answer, session);
    session->load.head_since_us = now_us;
}

/* Keeps the first result of a flight, unless nobody wants it. */
static void keep(struct pg_session *session, struct pg_flight *flight, struct pg_result *result)
{
    bool is_tombstone = flight->kind == PG_FLIGHT_RUN && flight->query == NULL;

    size_t size = pg_result_size(result);
    bool is_ok = pg_result_kind(result) == PG_RESULT_OK;

    flight->is_answered = true;
    flight->is_too_big |= is_ok && size > session->_result_max;
    session->is_worn |= size > RESULT_SIZE_WORN || flight->is_too_big;
    if (flight->result != NULL || (is_ok && (is_tombstone || flight->is_too_big)))
        pg_result_clear(result);
    else
        flight->result = result;
}

static bool out_of_step(struct pg_session *session)
{
    note_problem(session, SPAN("answers are out of step"));
    return false;
}

/* A NULL ends the answer of a flight. */
static bool end_answer(struct pg_session *session, struct pg_flight *flight)
{
    if (flight->kind != PG_FLIGHT_SYNC && flight->is_answered) {
        session->_flights.cursor++;
        session->_nulls = 0;
        return true;
    }
    return ++session->_nulls <= NULLS_MAX || out_of_step(session);
}

static bool end_sync(struct pg_session *session, struct pg_flight *flight)
{
    if (flight->kind != PG_FLIGHT_SYNC)
        return out_of_step(session);
    end_group(session);
    return true;
}

/* False: the session cannot go on. */
static bool take(struct pg_session *session, struct pg_result *result)
{
    struct pg_flight *flight = pg_flight_at(&session->_flights, session->_flights.cursor);

    if (result == NULL)
        return end_answer(session, flight);
    switch (pg_result_kind(result)) {
    case PG_RESULT_OK:
    case PG_RESULT_ERROR:
        keep(session, flight, result);
        return true;
    case PG_RESULT_ABORTED:
        flight->is_answered = true;
        pg_result_clear(result);
        return true;
    case PG_RESULT_SYNC:
        pg_result_clear(result);
        return end_sync(session, flight);
    case PG_RESULT_FATAL:
        note_problem(session, pg_result_message(result));
        break;
    case PG_RESULT_UNWANTED:
        note_problem(session, SPAN("COPY on a session for statements"));
        break;
    }
    pg_result_clear(result);
    return false;
}

/* What has come. libpq before 17 may leave what TLS has decrypted where no epoll sees it. */
static bool read_input(struct pg_session *session)
{
    PGconn *conn = session->conn;

    do {
        if (PQconsumeInput(conn) == 0)
            return broke(session);
    } while (PQsslInUse(conn) && pg_has_pending(PQgetssl(conn)));
    return true;
}

static bool take_answers(struct pg_session *session)
{
    /* Also has libpq look at what came while nothing was in flight. */
    while (!PQisBusy(session->conn) && !pg_session_is_idle(session)) {
        if (!take(session, PQgetResult(session->conn)))
            return false;
    }
    return true;
}

/* After a read: is the answer that it left half read too big by now? All that came since the cursor
 * has moved is of that answer. What is short costs nothing here: only the second read of an answer
 * in a row is counted. */
static bool is_flooded(struct pg_session *session)
{
    uint32_t place = session->_flights.cursor;

    if (pg_session_is_idle(session) || session->_half_place != place) {
        session->_half_place = place;
        session->_half_reads = 0;
        return false;
    }
    if (session->_half_reads < 2 && ++session->_half_reads == 1)
        pg_intake_begin(&session->_intake, PQsocket(session->conn));
    return session->_half_reads == 2 && pg_intake_bytes(&session->_intake) > session->_result_max;
}

/* Whose answer it is hears of it; the session cannot go on. */
static void end_flooded(struct pg_session *session)
{
    struct pg_flight *flight = pg_flight_at(&session->_flights, session->_flights.cursor);
    const struct pg_answer answer = {.outcome = PG_TOO_BIG};
    struct pg_query *query = flight->query;

    note_problem(session, SPAN("an answer is larger than result_max"));
    session->is_overfull = true;
    if (query == NULL)
        return;
    flight->query = NULL;
    on_answer(session, query, &answer);
}

/* Notifications are for a session of their own; here nobody wants them. */
static void drop_notifications(struct pg_session *session)
{
    PGnotify *notify;

    while ((notify = PQnotifies(session->conn)) != NULL)
        PQfreemem(notify);
}

static void on_socket(struct io *io, uint32_t events)
{
    struct pg_session *session = CONTAINER_OF(io, struct pg_session, _io);
    uint32_t head = session->_flights.head;
    bool is_fine;

    CHECK_OBJ(session, PG_SESSION_MAGIC);
    (void)events;
    is_fine = read_input(session);
    is_fine = take_answers(session) && is_fine; /* what came before the end is good */
    drop_notifications(session);
    if (is_fine && is_flooded(session))
        end_flooded(session);
    if (!is_fine || session->_problem[0] != '\0' || !flush(session))
        session->owner->on_lost(session, session->_problem);
    else if (session->_flights.head != head)
        session->owner->on_room(session);
}

/* What comes unasked: harmless notices, and the last words of a server that closes the session,
 * which libpq hands on as a notice where nothing is in flight. */
static void on_notice(void *data, const PGresult *result)
{
    struct pg_session *session = data;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    struct span message = pg_result_message(result);

    if (severity == NULL || strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0 ||
        strcmp(severity, "ERROR") == 0)
        note_problem(session, message);
    else
        log_debug("pg session %u: %s: %.*s", session->number, severity, SPAN_ARG(message));
}

/* Life */

struct pg_session *pg_session_create(struct loop *loop, struct pg_conn *conn,
                                     const struct pg_session_options *options,
                                     const struct pg_session_owner *owner, void *data)
{
    struct pg_session *session = mem_alloc(sizeof *session);

    CHECK(conn != NULL);
    CHECK(options->depth_max > 0);
    CHECK(options->result_max > 0);
    session->magic = PG_SESSION_MAGIC;
    session->loop = loop;
    session->conn = conn;
    session->owner = owner;
    session->data = data;
    session->stall_ms = options->stall_ms;
    session->_result_max = options->result_max;
    session->number = options->number;
    session->_has_prepared = options->is_prepared;
    session->canceled_place = PG_NOWHERE;
    session->_guard.sql = span_of(guard_sql);
    list_init(&session->batch_queries);
    pg_prepared_set_init(&session->_prepared);
    pg_flights_init(&session->_flights,
                    (options->depth_max + 1) * PLACES_PER_STATEMENT + 2 * PG_STALE_MAX);
    (void)PQsetNoticeReceiver(conn, on_notice, session);
    CHECK(PQsetnonblocking(conn, 1) == 0);
    CHECK(PQenterPipelineMode(conn) == 1);
    io_start(loop, &session->_io, PQsocket(conn), IO_READ, on_socket);
    timer_start(loop, &session->_timer, TICK_MS, on_tick);
    return session;
}

void pg_session_destroy(struct pg_session *session)
{
    if (session == NULL)
        return;
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    CHECK(list_is_empty(&session->batch_queries));
    io_stop(&session->_io);
    timer_stop(&session->_timer);
    ready_stop(&session->_broken);
    pg_flights_lose(&session->_flights, on_answer, session);
    PQfinish(session->conn);
    pg_flights_deinit(&session->_flights);
    pg_prepared_set_deinit(&session->_prepared);
    session->magic = 0;
    mem_free(session);
}

bool pg_session_is_clean(const struct pg_session *session)
{
    CHECK(pg_session_is_idle(session));
    return PQtransactionStatus(session->conn) == PQTRANS_IDLE;
}

int pg_session_backend(const struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    return PQbackendPID(session->conn);
}
