/* pg/clean.c - how what statements have left in their session is taken back.
 *
 * A transaction's own effects end with it; what outlives it would be found by whoever has the
 * session next. A function, a trigger or a DO may leave something that no text shows, so this is
 * done behind every transaction, with its end. It costs the server 30 us, and no round trip: in
 * sum as much as the shortest transaction there is. */
#include "base/check.h"
#include "pg/connect.h"
#include "pg/private.h"
#include <assert.h>

/* As DISCARD ALL does, but for what is prepared, which stays. */
static const char *const texts[] = {
    "reset session authorization",
    "reset all",
    "close all",
    "unlisten *",
    "discard temp",
    "discard sequences",
    "select pg_catalog.pg_advisory_unlock_all()",
    PG_CLIENT_CHECK_SQL,
};

static_assert(sizeof texts / sizeof texts[0] == PG_CLEANING_STEPS, "one for each text");

void pg_session_clean(struct pg_session *session, bool must_work)
{
    uint32_t count = PG_CLEANING_STEPS;

    CHECK_OBJ(session, PG_SESSION_MAGIC);
    if (!session->checks_client)
        count--;
    for (uint32_t i = 0; i < count; i++)
        session->_cleaning[i].sql = span_of(texts[i]);
    session->is_touched = false;
    pg_session_append_cleaning(session, count, must_work);
}
