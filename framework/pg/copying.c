/* pg/copying.c - COPY on a session.
 *
 *   OFF ──▶ LIFTING (of the server's limit) ──▶ STARTING ──▶ OUT ──▶ ENDING ──▶ OFF
 *                   │                             │  └────▶ IN ──▶ ENDING      refused: ENDING
 *                   └─ given up: OFF
 *
 * Given up: IN is ended with a refusal, which the server answers with an error; OUT is read by
 * nobody until pg/control.c's cancel has it end. libpq tells of an error of the server's only once
 * a COPY FROM STDIN was ended: so the socket is looked at whenever something comes meanwhile, and
 * the rest of what a client sends is spared. Where TLS hides it, the error is known at the end.
 */
#include "pg/copying.h"
#include "base/check.h"
#include "pg/private.h"
#include <errno.h>
#include <libpq-fe.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum {
    PIECE_SIZE = 64 * 1024,       /* bytes that libpq holds on their way out */
    UNSENT_KEPT_MAX = 256 * 1024, /* bytes of storage that are kept for the next write */
    GLANCE_SIZE = 4096,           /* bytes of the server's that are looked at */
    MESSAGE_HEAD_SIZE = 5         /* type, and length with itself */
};

static struct pg_flight *flight_of(struct pg_session *session)
{
    struct pg_flight *flight = pg_flight_at(&session->_flights, session->_flights.cursor);

    CHECK(flight->kind == PG_FLIGHT_RUN);
    CHECK(flight->is_stream);
    return flight;
}

/* Begin and end */

/* In the ring it is a statement with its Sync. */
static void push(struct pg_session *session, struct pg_query *query)
{
    struct pg_flight *flight;

    query->place = session->_flights.tail;
    query->session = session;
    flight = pg_flight_push(&session->_flights, PG_FLIGHT_RUN);
    flight->query = query;
    flight->is_stream = true;
    session->load.statements++;
    (void)pg_flight_push(&session->_flights, PG_FLIGHT_SYNC);
}

static bool send_sql(struct pg_session *session, const char *sql)
{
    if (PQsendQueryParams(session->conn, sql, 0, NULL, NULL, NULL, NULL, 0) == 0)
        return pg_session_broke(session);
    return pg_session_flush(session);
}

bool pg_copying_start(struct pg_session *session, struct pg_query *query)
{
    struct pg_stream_sql limit = pg_stream_sql(session);
    bool must_lift = limit.lift != NULL;

    CHECK(session->_copying.state == PG_COPY_OFF);
    CHECK(pg_session_is_idle(session));
    if (PQexitPipelineMode(session->conn) == 0)
        return pg_session_broke(session);
    session->_copying = (struct pg_copying){.state = must_lift ? PG_COPY_LIFTING : PG_COPY_STARTING,
                                            .sql = query->sql.ptr,
                                            .restore = limit.restore,
                                            .must_restore = !session->is_pinned};
    push(session, query);
    return send_sql(session, must_lift ? limit.lift : query->sql.ptr);
}

void pg_copying_deinit(struct pg_copying *copying)
{
    buf_release(&copying->unsent);
    buf_release(&copying->deferred);
    pg_result_clear(copying->result);
    *copying = (struct pg_copying){0};
}

static void run_deferred(struct pg_session *session, struct buf *texts)
{
    while (texts->len > 0) {
        pg_session_command(session, texts->data);
        buf_consume(texts, strlen(texts->data) + 1);
    }
}

/* All of it was answered: back to the pipeline. */
static bool finish(struct pg_session *session)
{
    struct pg_copying done = session->_copying;
    struct pg_flight *flight = flight_of(session);
    bool is_fine;

    CHECK(done.state == PG_COPY_ENDING);
    CHECK(done.result != NULL);
    flight->result = done.result;
    flight->is_error = pg_result_kind(done.result) == PG_RESULT_ERROR;
    flight->is_answered = true;
    session->_copying.result = NULL;
    session->_copying.deferred = (struct buf){0};
    pg_copying_deinit(&session->_copying);
    is_fine = PQenterPipelineMode(session->conn) != 0 || pg_session_broke(session);
    if (is_fine)
        pg_session_end_copy(session);
    if (is_fine && done.restore != NULL)
        is_fine = pg_session_restore(session, done.restore, done.must_restore);
    if (is_fine)
        run_deferred(session, &done.deferred);
    buf_release(&done.deferred);
    return is_fine;
}

/* Results */

static bool fail(struct pg_session *session, struct pg_result *result)
{
    pg_session_note_problem(session, pg_result_message(result));
    pg_result_clear(result);
    return false;
}

/* The first error, or else the last result, is how it ended. */
static void keep(struct pg_copying *copying, struct pg_result *result)
{
    if (copying->result != NULL && pg_result_kind(copying->result) == PG_RESULT_ERROR) {
        pg_result_clear(result);
        return;
    }
    pg_result_clear(copying->result);
    copying->result = result;
}

static bool lift(struct pg_session *session)
{
    struct pg_copying *copying = &session->_copying;
    struct pg_result *result = PQgetResult(session->conn);

    if (result != NULL && pg_result_kind(result) == PG_RESULT_FATAL)
        return fail(session, result);
    if (result != NULL) { /* one that fails leaves the limit as it is */
        keep(copying, result);
        return true;
    }
    if (copying->result == NULL)
        return pg_session_broke(session);
    if (flight_of(session)->query == NULL) { /* given up, and its text is gone: it never begins */
        copying->state = PG_COPY_ENDING;
        return finish(session);
    }
    pg_result_clear(copying->result);
    copying->result = NULL;
    copying->state = PG_COPY_STARTING;
    return send_sql(session, copying->sql);
}

/* The server is ready: for what it is asked for, or else the COPY is one the other way round. */
static void open_as(struct pg_session *session, enum pg_copying_state state)
{
    struct pg_flight *flight = flight_of(session);

    CHECK(session->_copying.state == PG_COPY_STARTING);
    session->_copying.state = state;
    if (flight->query == NULL)
        pg_copying_give_up(session);
    else
        session->owner->on_open(session, flight->query, state == PG_COPY_IN);
}

static bool begin(struct pg_session *session)
{
    struct pg_copying *copying = &session->_copying;
    struct pg_result *result = PQgetResult(session->conn);
    ExecStatusType status = PQresultStatus(result);

    if (result == NULL)
        return pg_session_broke(session);
    if (status == PGRES_COPY_OUT || status == PGRES_COPY_IN) {
        pg_result_clear(result);
        open_as(session, status == PGRES_COPY_OUT ? PG_COPY_OUT : PG_COPY_IN);
        return true;
    }
    if (pg_result_kind(result) == PG_RESULT_FATAL)
        return fail(session, result);
    copying->state = PG_COPY_ENDING;
    keep(copying, result);
    return true;
}

static bool end(struct pg_session *session)
{
    struct pg_result *result = PQgetResult(session->conn);

    if (result == NULL)
        return session->_copying.result != NULL ? finish(session) : pg_session_broke(session);
    if (pg_result_kind(result) != PG_RESULT_OK && pg_result_kind(result) != PG_RESULT_ERROR)
        return fail(session, result);
    keep(&session->_copying, result);
    return true;
}

/* Out. *is_waiting: nothing more is there. */
static bool take_piece(struct pg_session *session, bool *is_waiting)
{
    struct pg_flight *flight = flight_of(session);
    char *bytes = NULL;
    int len = PQgetCopyData(session->conn, &bytes, 1);

    *is_waiting = len == 0;
    if (len == -2)
        return pg_session_broke(session);
    if (len == -1)
        session->_copying.state = PG_COPY_ENDING;
    if (len <= 0)
        return true;
    session->_half_place = session->_flights.cursor - 1; /* it is no answer that is half read */
    if (flight->query != NULL)
        session->owner->on_data(session, flight->query, (struct span){bytes, (size_t)len});
    PQfreemem(bytes);
    return true;
}

/* In */

enum pg_glance pg_copying_glance(const unsigned char *bytes, size_t len)
{
    while (len >= MESSAGE_HEAD_SIZE) {
        size_t size = (size_t)bytes[1] << 24 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 8 |
                      (size_t)bytes[4];

        if (bytes[0] == 'E' && len > MESSAGE_HEAD_SIZE && bytes[MESSAGE_HEAD_SIZE] == 'S')
            return PG_GLANCE_FAILED;
        if ((bytes[0] != 'N' && bytes[0] != 'A') || size < MESSAGE_HEAD_SIZE - 1 || size >= len)
            return PG_GLANCE_CUT;
        bytes += size + 1;
        len -= size + 1;
    }
    return len == 0 ? PG_GLANCE_FINE : PG_GLANCE_CUT;
}

/* An error begins with its severity, and a length with a zero: what is none does not look like one,
 * even where we begin to look in the middle. What is looked at here is not read: libpq does
 * that. */
void pg_copying_look(struct pg_session *session)
{
    struct pg_copying *copying = &session->_copying;
    unsigned char bytes[GLANCE_SIZE];
    int fd = PQsocket(session->conn), from_start = -1;
    ssize_t len;

    if (copying->state != PG_COPY_IN || copying->is_unclear || copying->refusal != NULL)
        return;
    if (PQsslInUse(session->conn)) {
        copying->is_unclear = true;
        return;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &from_start, sizeof from_start); /* pg/intake.c */
    len = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    if (len <= 0)
        return;
    switch (pg_copying_glance(bytes, (size_t)len)) {
    case PG_GLANCE_FINE:
        break;
    case PG_GLANCE_CUT:
        copying->is_unclear = true;
        break;
    case PG_GLANCE_FAILED:
        copying->refusal = "the server has refused it";
        break;
    }
}

/* Hands the next piece to libpq once the one before has left. */
static bool feed(struct pg_session *session, bool *is_waiting)
{
    struct buf *unsent = &session->_copying.unsent;
    size_t size = unsent->len < PIECE_SIZE ? unsent->len : PIECE_SIZE;
    int left = PQflush(session->conn), put = 1;

    if (left == 0 && size > 0) {
        put = PQputCopyData(session->conn, unsent->data, (int)size);
        left = put < 0 ? -1 : PQflush(session->conn);
        if (put > 0)
            buf_consume(unsent, size);
    }
    *is_waiting = put == 0 || left > 0;
    session->_copying.is_blocked = *is_waiting;
    return left >= 0 || pg_session_broke(session);
}

/* All that was to be written has been handed over: now the end, or the writer again. */
static bool go_on_writing(struct pg_session *session)
{
    struct pg_copying *copying = &session->_copying;
    struct pg_flight *flight = flight_of(session);

    if (!copying->must_end && copying->refusal == NULL) {
        if (flight->query != NULL && copying->is_owed) {
            copying->is_owed = false;
            session->owner->on_space(session, flight->query);
        }
        return true;
    }
    if (PQputCopyEnd(session->conn, copying->refusal) != 1)
        return pg_session_broke(session);
    copying->state = PG_COPY_ENDING;
    return pg_session_flush(session);
}

static bool write_on(struct pg_session *session, bool *is_waiting)
{
    struct pg_copying *copying = &session->_copying;

    if (copying->refusal != NULL)
        buf_release(&copying->unsent);
    (void)PQisBusy(session->conn); /* has libpq look at notices */
    if (!feed(session, is_waiting))
        return false;
    if (*is_waiting || copying->unsent.len > 0)
        return true;
    *is_waiting = true;
    if (copying->unsent._size > UNSENT_KEPT_MAX)
        buf_release(&copying->unsent);
    return go_on_writing(session);
}

void pg_copying_write(struct pg_session *session, struct span bytes)
{
    CHECK(pg_session_is_copying(session));
    if (session->_copying.state != PG_COPY_IN)
        return; /* the server has refused it, and says why in a moment */
    buf_append(&session->_copying.unsent, bytes);
    session->_copying.is_owed = true;
    pg_session_step(session);
}

void pg_copying_end(struct pg_session *session)
{
    CHECK(pg_session_is_copying(session));
    session->_copying.must_end = true;
    pg_session_step(session);
}

void pg_copying_give_up(struct pg_session *session)
{
    if (session->_copying.state == PG_COPY_IN)
        session->_copying.refusal = "given up";
    pg_session_step(session);
}

/* Steps */

bool pg_copying_go_on(struct pg_session *session)
{
    struct pg_copying *copying = &session->_copying;
    bool is_waiting = false;
    bool is_fine = true;

    while (is_fine && !is_waiting && !session->_is_paused) {
        switch (copying->state) {
        case PG_COPY_OFF:
            return true;
        case PG_COPY_OUT:
            is_fine = take_piece(session, &is_waiting);
            continue;
        case PG_COPY_IN:
            is_fine = write_on(session, &is_waiting);
            continue;
        case PG_COPY_LIFTING:
        case PG_COPY_STARTING:
        case PG_COPY_ENDING:
            break;
        }
        is_waiting = PQisBusy(session->conn);
        if (is_waiting)
            break;
        if (copying->state == PG_COPY_LIFTING)
            is_fine = lift(session);
        else
            is_fine = copying->state == PG_COPY_STARTING ? begin(session) : end(session);
    }
    return is_fine;
}
