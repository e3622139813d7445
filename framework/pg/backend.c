/* pg/backend.c - a session's other end, as far as libpq knows it: where it is, which process, and
 * whether it is within a transaction or takes writes; and for how long it has been at a
 * statement. */
#include "base/check.h"
#include "loop/loop.h"
#include "pg/private.h"
#include "pg/session.h"
#include <libpq-fe.h>
#include <string.h>

bool pg_session_is_clean(const struct pg_session *session)
{
    CHECK(pg_session_is_idle(session));
    return PQtransactionStatus(session->conn) == PQTRANS_IDLE;
}

/* Version 14 and later report both of themselves, and each change before they are ready for what
 * comes next: so the answer to a statement that met it is told after that. */
static bool is_off(const struct pg_session *session, const char *parameter)
{
    const char *status = PQparameterStatus(session->conn, parameter);

    return status != NULL && strcmp(status, "off") == 0;
}

bool pg_session_is_primary(const struct pg_session *session)
{
    return session->is_direct && is_off(session, "in_hot_standby");
}

bool pg_session_takes_writes(const struct pg_session *session)
{
    return pg_session_is_primary(session) && is_off(session, "default_transaction_read_only");
}

bool pg_session_is_beside(const struct pg_session *session, const struct pg_session *other)
{
    const PGconn *one = session->conn, *two = other->conn;

    return session->server_us == other->server_us && strcmp(PQhost(one), PQhost(two)) == 0 &&
           strcmp(PQport(one), PQport(two)) == 0 && strcmp(PQhostaddr(one), PQhostaddr(two)) == 0;
}

int pg_session_backend(const struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    return PQbackendPID(session->conn);
}

uint64_t pg_session_ran_us(const struct pg_session *session, const struct pg_query *query)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    CHECK(query->session == session);
    return pg_flights_share_us(&session->_flights, query->place,
                               loop_now_us(session->loop) - session->load.head_since_us);
}
