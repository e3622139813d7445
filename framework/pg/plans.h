/* pg/plans.h - what a session has prepared for statements, and how that is let go of.
 *
 * Loop:   of the session's loop.
 * Memory: the session's.
 * Limits: PG_AD_HOC_MAX ad-hoc texts, none longer than PG_AD_HOC_TEXT_MAX, PG_AD_HOC_BYTES_MAX
 *         together, and PG_STALE_MAX names that are of no use any more, beside one for each
 *         declared statement, however long a transaction lasts.
 */
#ifndef WEFT_PG_PLANS_H
#define WEFT_PG_PLANS_H

#include "pg/result.h"
#include <stdbool.h>

struct pg_prepared;
struct pg_query;
struct pg_session;

/* What is, or will be, prepared for the query, which is sent now; NULL: it runs unprepared. */
struct pg_prepared *pg_plans_of(struct pg_session *session, const struct pg_query *query);

/* Is it ready to be run without being prepared first? Of new text that there might be no room for
 * it says no. */
bool pg_plans_has(struct pg_session *session, const struct pg_query *query);

/* What was prepared for the query, which was answered just now, is of no use any more: it will be
 * prepared anew. The server still has it where it `is_there`. */
void pg_plans_drop(struct pg_session *session, const struct pg_query *query, bool is_there);

/* Appends what lets go of names that are of no use any more; nothing in a transaction, which a
 * failure would abort. False: the session broke. */
bool pg_plans_tidy(struct pg_session *session) __attribute__((warn_unused_result));

/* Appends what lets go of all names: everything is prepared anew. Not in a transaction. False: the
 * session broke. */
bool pg_plans_renew(struct pg_session *session) __attribute__((warn_unused_result));

#endif
