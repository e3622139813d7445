/* pg/sizing.c - do all sessions that the settings allow fit into the server? */
#include "base/check.h"
#include "base/log.h"
#include "pg/private.h"
#include <inttypes.h>

void pg_pool_expect(struct pg_pool *pool, const struct pg_demand *demand)
{
    CHECK_OBJ(pool, PG_POOL_MAGIC);
    CHECK(!pool->is_started);
    pool->demand = *demand;
}

/* Each pool has one more, which cancels and listens. During a reload two generations live: the new
 * one opens sessions while the old one still closes its own. */
void pg_pool_compare(struct pg_pool *pool, const struct pg_limit *limit)
{
    const struct pg_demand demand = pool->demand;
    uint64_t at_most = (uint64_t)demand.workers * (demand.sessions + demand.pools);

    pool->demand.workers = 0; /* once is enough */
    if (limit->sessions == 0 || 2 * at_most <= limit->sessions)
        return;
    log_warn("pg %s: %u workers x (%u sessions + %u to cancel and listen) = %" PRIu64
             ", and up to %" PRIu64 " while a reload goes on; %s allows %u: %s",
             pool->name, demand.workers, demand.sessions, demand.pools, at_most, 2 * at_most,
             limit->whose, limit->sessions,
             at_most > limit->sessions ? "some sessions will be refused"
                                       : "some may be refused then");
}
