/* pg/plans.c - what a session has prepared for statements, and how that is let go of.
 *
 * A name that is of no use any more is deallocated with the next statement outside of a
 * transaction. Where too many of them wait for that, new texts run unprepared. */
#include "pg/plans.h"
#include "base/check.h"
#include "pg/private.h"
#include <stdio.h>

static void note_stale(struct pg_session *session, uint32_t number)
{
    if (number == 0)
        return;
    if (session->_stale_count < PG_STALE_MAX)
        session->_stale[session->_stale_count++] = number;
    else
        session->_must_renew = true;
}

static struct pg_prepared *ad_hoc(struct pg_session *session, struct span sql)
{
    struct pg_prepared *prepared;
    uint32_t evicted;

    if (session->_stale_count == PG_STALE_MAX && !pg_prepared_has_room(&session->_prepared, sql))
        return NULL;
    prepared = pg_prepared_ad_hoc(&session->_prepared, sql, &evicted);
    note_stale(session, evicted);
    return prepared;
}

struct pg_prepared *pg_plans_of(struct pg_session *session, const struct pg_query *query)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    if (!session->has_prepared || query->was_renewed)
        return NULL;
    if (query->statement != NULL)
        return pg_prepared_declared(&session->_prepared, query->statement);
    return ad_hoc(session, query->sql);
}

bool pg_plans_has(struct pg_session *session, const struct pg_query *query)
{
    const struct pg_prepared *prepared = pg_plans_of(session, query);

    return prepared == NULL || prepared->state == PG_PREPARED;
}

void pg_plans_drop(struct pg_session *session, const struct pg_query *query, bool is_there)
{
    struct pg_prepared *prepared = pg_plans_of(session, query);

    if (prepared == NULL || prepared->number != query->number || prepared->state != PG_PREPARED)
        return;
    prepared->state = PG_UNPREPARED;
    if (is_there)
        note_stale(session, prepared->number);
}

bool pg_plans_renew(struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    CHECK(!session->is_pinned);
    if (!session->has_prepared)
        return true;
    session->_stale_count = 0;
    session->_must_renew = false;
    session->_guard.state = PG_UNPREPARED;
    for (uint32_t i = 0; i < PG_CLEANING_STEPS; i++)
        session->_cleaning[i].state = PG_UNPREPARED;
    pg_prepared_set_lose(&session->_prepared);
    return pg_session_restore(session, "deallocate all", false);
}

bool pg_plans_tidy(struct pg_session *session)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    if (session->is_pinned)
        return true;
    if (session->_must_renew)
        return pg_plans_renew(session);
    while (session->_stale_count > 0) {
        uint32_t number = session->_stale[--session->_stale_count];
        char name[PG_PREPARED_NAME_SIZE];
        char sql[sizeof "deallocate " + PG_PREPARED_NAME_SIZE];

        pg_prepared_name(number, name);
        (void)snprintf(sql, sizeof sql, "deallocate %s", name);
        if (!pg_session_restore(session, sql, false))
            return false;
    }
    return true;
}
