/* pg/reading.c - what a session hears from the server, and whom it tells.
 *
 *   socket ──▶ libpq ──▶ take(): the flight at the cursor ──▶ at its Sync: the group is told
 *                  └──▶ rows of a stream, pieces of a COPY, notifications: at once
 *
 * Paused, its socket is not in the loop, and what libpq holds stays there.
 */
#include "base/check.h"
#include "base/log.h"
#include "pg/pending.h"
#include "pg/private.h"
#include "pg/session.h"
#include <libpq-fe.h>
#include <string.h>

enum {
    NULLS_MAX = 4 /* an error at a Sync is followed by one */
};

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

/* The transaction has not ended, or the server has lost what was prepared: then nothing else that
 * was is there any more. */
static void note_unclean(struct pg_session *session)
{
    session->is_touched = true;
    session->_must_renew = true;
    for (uint32_t i = 0; i < PG_CLEANING_STEPS; i++)
        session->_cleaning[i].state = PG_UNPREPARED;
}

/* Also where nobody waits for the answer: what stands behind it is refused. */
static void note_failure(struct pg_session *session, const struct pg_result *result)
{
    struct span sqlstate = pg_result_sqlstate(result);

    if (!span_equal(sqlstate, PG_REFUSED_IN_ABORTED))
        session->aborted_by = pg_sqlstate_error(sqlstate);
}

void pg_session_end_copy(struct pg_session *session)
{
    const struct pg_flight *flight = pg_flight_at(&session->_flights, session->_flights.cursor);

    if (flight->is_error)
        note_failure(session, flight->result);
    session->_flights.cursor++;
    end_group(session);
}

/* Keeps the first result of a flight, unless nobody wants it. */
static void keep(struct pg_session *session, struct pg_flight *flight, struct pg_result *result,
                 bool is_ok)
{
    bool is_tombstone = flight->kind == PG_FLIGHT_RUN && flight->query == NULL;
    size_t size = pg_result_size(result);

    flight->is_answered = true;
    if (!is_ok)
        note_failure(session, result);
    if (!is_ok && flight->must_work)
        pg_session_note_problem(session, pg_result_message(result));
    if (!is_ok && flight->is_cleaning)
        note_unclean(session);
    flight->is_too_big |= is_ok && size > session->_result_max;
    session->is_worn |= size > PG_SIZE_WORN || flight->is_too_big;
    if (flight->result != NULL || (is_ok && (is_tombstone || flight->is_too_big))) {
        pg_result_clear(result);
        return;
    }
    flight->result = result;
    flight->is_error = !is_ok;
}

/* A row for whoever streams. What came until now is no part of an answer that is half read. */
static void take_row(struct pg_session *session, struct pg_flight *flight, struct pg_result *row)
{
    session->_half_place = session->_flights.cursor - 1;
    if (pg_result_size(row) > PG_SIZE_WORN)
        session->is_worn = true;
    if (flight->query != NULL)
        session->owner->on_row(session, flight->query, row);
    else
        pg_result_clear(row);
}

static bool out_of_step(struct pg_session *session)
{
    pg_session_note_problem(session, SPAN("answers are out of step"));
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
    enum pg_result_kind kind;

    if (result == NULL)
        return end_answer(session, flight);
    kind = pg_result_kind(result);
    switch (kind) {
    case PG_RESULT_OK:
    case PG_RESULT_ERROR:
        if (flight->is_stream && PQntuples(result) > 0)
            break; /* they are to come one by one */
        keep(session, flight, result, kind == PG_RESULT_OK);
        return true;
    case PG_RESULT_ROW:
        take_row(session, flight, result);
        return true;
    case PG_RESULT_ABORTED:
        flight->is_answered = true;
        pg_result_clear(result);
        return true;
    case PG_RESULT_SYNC:
        pg_result_clear(result);
        return end_sync(session, flight);
    case PG_RESULT_FATAL:
        pg_session_note_problem(session, pg_result_message(result));
        break;
    case PG_RESULT_UNWANTED:
        pg_session_note_problem(session, SPAN("COPY on a session for statements"));
        break;
    }
    pg_result_clear(result);
    return out_of_step(session);
}

/* What has come. libpq before 17 may leave what TLS has decrypted where no epoll sees it. */
static bool read_input(struct pg_session *session)
{
    PGconn *conn = session->conn;

    do {
        if (PQconsumeInput(conn) == 0)
            return pg_session_broke(session);
    } while (PQsslInUse(conn) && pg_has_pending(PQgetssl(conn)));
    return true;
}

/* Before libpq looks at the answer of a stream, it has to know that the rows are wanted one by one.
 * It refuses where there will be none, since the server has skipped the statement. */
static void begin_stream(struct pg_session *session)
{
    struct pg_flight *flight;

    if (pg_session_is_idle(session))
        return;
    flight = pg_flight_at(&session->_flights, session->_flights.cursor);
    if (!flight->is_stream || flight->has_begun)
        return;
    flight->has_begun = true;
    (void)PQsetSingleRowMode(session->conn);
}

static bool take_answers(struct pg_session *session)
{
    while (!session->_is_paused) {
        begin_stream(session);
        /* Also has libpq look at what came while nothing was in flight. */
        if (PQisBusy(session->conn) || pg_session_is_idle(session))
            break;
        if (!take(session, PQgetResult(session->conn)))
            return false;
    }
    return true;
}

/* All rows that are there were told. */
static void rest(struct pg_session *session)
{
    const struct pg_flight *flight;

    if (pg_session_is_idle(session))
        return;
    flight = pg_flight_at(&session->_flights, session->_flights.cursor);
    if (flight->is_stream && flight->query != NULL)
        session->owner->on_rest(session, flight->query);
}

/* Of the answer that is half read, as far as it was looked at. */
static uint64_t half_bytes(const struct pg_session *session)
{
    uint64_t bytes = pg_intake_bytes(&session->_intake);

    return bytes > session->_noticed_bytes ? bytes - session->_noticed_bytes : 0;
}

/* After a read: is the answer that it left half read too big by now? All that came since the cursor
 * has moved is of that answer, but for notices. What is short costs nothing here: only the second
 * read of an answer in a row is counted. */
static bool is_flooded(struct pg_session *session)
{
    uint32_t place = session->_flights.cursor;

    if (pg_session_is_idle(session) || session->_half_place != place) {
        session->_half_place = place;
        session->_half_reads = 0;
        return false;
    }
    if (session->_half_reads < 2 && ++session->_half_reads == 1) {
        pg_intake_begin(&session->_intake, PQsocket(session->conn));
        session->_noticed_bytes = 0;
    }
    return session->_half_reads == 2 && half_bytes(session) > session->_result_max;
}

/* Whose answer it is hears of it; the session cannot go on. */
static void end_flooded(struct pg_session *session)
{
    struct pg_flight *flight = pg_flight_at(&session->_flights, session->_flights.cursor);
    const struct pg_answer answer = {.outcome = PG_TOO_BIG};
    struct pg_query *query = flight->query;

    pg_session_note_problem(session, SPAN("an answer is larger than result_max"));
    session->is_overfull = true;
    if (query == NULL)
        return;
    flight->query = NULL;
    on_answer(session, query, &answer);
}

/* Most sessions listen to nothing, unless a function of the database's has them do so. */
static void take_notifications(struct pg_session *session)
{
    PGnotify *notify;

    while ((notify = PQnotifies(session->conn)) != NULL) {
        if (session->owner->on_notify != NULL)
            session->owner->on_notify(session, span_of(notify->relname), span_of(notify->extra));
        PQfreemem(notify);
    }
}

/* Takes what libpq holds, and tells whom it concerns. False for `is_fine`: the connection has
 * ended; what came before that is good. */
static void go_on(struct pg_session *session, bool is_fine)
{
    uint32_t head = session->_flights.head;

    if (pg_session_is_copying(session))
        is_fine = pg_copying_go_on(session) && is_fine;
    else
        is_fine = take_answers(session) && is_fine;
    take_notifications(session);
    if (is_fine && is_flooded(session))
        end_flooded(session);
    if (!is_fine || session->_problem[0] != '\0' || !pg_session_flush(session)) {
        session->owner->on_lost(session, session->_problem);
        return;
    }
    pg_gather_next(&session->gather, pg_session_awaited(session));
    rest(session);
    if (session->_flights.head != head)
        session->owner->on_room(session);
}

static void on_socket(struct io *io, uint32_t events)
{
    struct pg_session *session = CONTAINER_OF(io, struct pg_session, _io);

    CHECK_OBJ(session, PG_SESSION_MAGIC);
    (void)events;
    pg_copying_look(session);
    pg_gather_look(&session->gather, pg_session_awaited(session));
    go_on(session, read_input(session));
}

static void on_resume(struct ready *ready)
{
    struct pg_session *session = CONTAINER_OF(ready, struct pg_session, _resume);

    CHECK_OBJ(session, PG_SESSION_MAGIC);
    if (!io_is_on(&session->_io))
        io_start(session->loop, &session->_io, PQsocket(session->conn), IO_READ, on_socket);
    go_on(session, true);
}

void pg_session_step(struct pg_session *session)
{
    if (!session->_is_paused)
        ready_start(session->loop, &session->_resume, on_resume);
}

/* Without its socket in the loop: a peer that is gone would wake us again and again. */
void pg_session_pause(struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    session->_is_paused = true;
    io_stop(&session->_io);
    ready_stop(&session->_resume);
}

void pg_session_resume(struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    if (!session->_is_paused)
        return;
    session->_is_paused = false;
    ready_start(session->loop, &session->_resume, on_resume);
}

/* What comes unasked: harmless notices, and the last words of a server that closes the session,
 * which libpq hands on as a notice where nothing is in flight. */
static void on_notice(void *data, const PGresult *result)
{
    struct pg_session *session = data;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    struct span message = pg_result_message(result);

    session->_noticed_bytes += pg_result_notice_size(result);
    if (severity == NULL || strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0 ||
        strcmp(severity, "ERROR") == 0)
        pg_session_note_problem(session, message);
    else
        log_debug("pg session %u: %s: %.*s", session->number, severity, SPAN_ARG(message));
}

/* Its beginning and its end */

void pg_session_start_reading(struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    (void)PQsetNoticeReceiver(session->conn, on_notice, session);
    io_start(session->loop, &session->_io, PQsocket(session->conn), IO_READ, on_socket);
}

void pg_session_stop_reading(struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    io_stop(&session->_io);
    pg_gather_deinit(&session->gather);
    ready_stop(&session->_resume);
    pg_flights_lose(&session->_flights, on_answer, session);
}
