/* pg/plans.c - what a session has prepared for statements, and how that is let go of.
 *
 * A name that is of no use any more is deallocated with the next statement outside of a
 * transaction. Where too many of them wait for that, new texts run unprepared, and so do those for
 * which there is no room once another one has gone: there is one to deallocate for each statement,
 * not more, and the session's ring has places for so many. */
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

static bool make_room(struct pg_session *session, struct span sql)
{
    struct pg_prepared_set *set = &session->_prepared;

    if (pg_prepared_has_room(set, sql))
        return true;
    if (session->_stale_count == PG_STALE_MAX)
        return false;
    note_stale(session, pg_prepared_evict(set));
    return pg_prepared_has_room(set, sql);
}

static bool is_never_prepared(const struct pg_session *session, const struct pg_query *query)
{
    return !session->has_prepared || query->was_renewed ||
           (query->statement == NULL && query->sql.len > PG_AD_HOC_TEXT_MAX);
}

/* What there is for the query already; NULL: nothing. */
static struct pg_prepared *find(struct pg_session *session, const struct pg_query *query)
{
    if (is_never_prepared(session, query))
        return NULL;
    if (query->statement != NULL)
        return pg_prepared_declared(&session->_prepared, query->statement);
    return pg_prepared_find(&session->_prepared, query->sql);
}

struct pg_prepared *pg_plans_of(struct pg_session *session, const struct pg_query *query)
{
    CHECK_OBJ(session, PG_SESSION_MAGIC);
    if (is_never_prepared(session, query))
        return NULL;
    if (query->statement != NULL)
        return pg_prepared_declared(&session->_prepared, query->statement);
    if (!make_room(session, query->sql))
        return NULL;
    return pg_prepared_ad_hoc(&session->_prepared, query->sql);
}

bool pg_plans_has(struct pg_session *session, const struct pg_query *query)
{
    const struct pg_prepared *prepared = find(session, query);

    if (prepared == NULL)
        return is_never_prepared(session, query);
    return prepared->state == PG_PREPARED;
}

void pg_plans_drop(struct pg_session *session, const struct pg_query *query, bool is_there)
{
    struct pg_prepared *prepared = find(session, query);

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
