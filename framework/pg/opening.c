/* pg/opening.c - sessions are opened as needed, a few at a time, and again after they broke.
 *
 *   wanted ──▶ OPENING (helper thread) ──▶ a session
 *     ▲              │ failed
 *     └── WAITING ◀──┘   up to twice as long each time, from 50 ms to 10 s; when, by chance:
 *                        workers and hosts that lost one server must not come back all at once
 */
#include "base/check.h"
#include "base/log.h"
#include "pg/connect.h"
#include "pg/private.h"
#include <assert.h>
#include <errno.h>
#include <sys/random.h>

enum {
    BACK_OFF_MIN_MS = 50,
    BACK_OFF_MAX_MS = 10000,
    BACK_OFF_DOUBLINGS = 8, /* beyond these it is BACK_OFF_MAX_MS anyway */
    RETRY_MIN_MS = 5,       /* of transactions */
    RETRY_DOUBLINGS = 7
};

static_assert(PG_POOL_HELPERS == PG_OPENING_MAX + PG_CONTROL_SESSIONS, "a thread for each");

static uint32_t random_below(struct pg_pool *pool, uint32_t limit)
{
    while (pool->random == 0) {
        if (getrandom(&pool->random, sizeof pool->random, 0) < 0)
            CHECK(errno == EINTR);
    }
    pool->random ^= pool->random << 13;
    pool->random ^= pool->random >> 7;
    pool->random ^= pool->random << 17;
    return (uint32_t)(pool->random >> 32) % limit;
}

uint32_t pg_pool_back_off_ms(struct pg_pool *pool, uint32_t failures)
{
    uint32_t doublings = failures < RETRY_DOUBLINGS ? failures : RETRY_DOUBLINGS;

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    return 1 + random_below(pool, (uint32_t)RETRY_MIN_MS << doublings);
}

static bool is_wanted(const struct pg_pool *pool)
{
    if (!list_is_empty(&pool->shared) || !list_is_empty(&pool->own))
        return true;
    return pool->is_started && !pool->is_winding_up &&
           pool->counts.sessions + pool->counts.sessions_opening < pool->options->sessions_min;
}

uint64_t pg_pool_expiry_ms(struct pg_pool *pool)
{
    uint32_t age_ms = pool->options->session_age_ms;

    if (age_ms == 0)
        return 0;
    return loop_now_ms(pool->loop) + age_ms - random_below(pool, age_ms / 4 + 1);
}

void pg_pool_fill(struct pg_pool *pool)
{
    if (is_wanted(pool))
        pg_pool_grow(pool);
}

static void on_open_timer(struct timer *timer)
{
    struct pg_pool *pool = CONTAINER_OF(timer, struct pg_pool, open_timer);

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    pg_pool_fill(pool);
}

static uint32_t back_off(struct pg_pool *pool)
{
    uint32_t doublings =
        pool->open_failures < BACK_OFF_DOUBLINGS ? pool->open_failures : BACK_OFF_DOUBLINGS;
    uint32_t most_ms = (uint32_t)BACK_OFF_MIN_MS << doublings;
    uint32_t wait_ms = random_below(pool, most_ms < BACK_OFF_MAX_MS ? most_ms : BACK_OFF_MAX_MS);

    timer_start(pool->loop, &pool->open_timer, wait_ms, on_open_timer);
    return wait_ms;
}

static void on_refused(struct pg_pool *pool, const char *problem)
{
    uint32_t wait_ms;

    pool->open_failures++;
    pool->counts.sessions_refused++;
    wait_ms = back_off(pool);
    log_warn("pg %s: cannot open a session: %s (attempt %u, the next in %u ms)", pool->name,
             problem, pool->open_failures, wait_ms);
}

/* It is under way no more. */
static void forget(struct pg_pool *pool, const struct pg_connect *connect)
{
    uint32_t index = 0;

    while (index < PG_OPENING_MAX && pool->opening[index] != connect)
        index++;
    CHECK(index < PG_OPENING_MAX);
    CHECK(pool->counts.sessions_opening > 0);
    pool->opening[index] = NULL;
    pool->counts.sessions_opening--;
}

static void on_connected(void *data, struct pg_connect *connect, struct pg_conn *conn,
                         const char *problem)
{
    struct pg_pool *pool = data;

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    forget(pool, connect);
    if (conn == NULL) {
        on_refused(pool, problem);
        return;
    }
    if (pool->open_failures > 0)
        log_info("pg %s: sessions can be opened again", pool->name);
    pool->open_failures = 0;
    pool->server = pg_connect_server(connect);
    timer_stop(&pool->open_timer);
    pg_pool_add(pool, conn, pg_connect_traits(connect)); /* which looks who still waits then */
}

void pg_pool_grow(struct pg_pool *pool)
{
    const struct pg_pool_counts *counts = &pool->counts;
    struct pg_wish wish = {.first = pool->server, .addresses = &pool->addresses};

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    if (counts->sessions + counts->sessions_opening >= pool->options->sessions_max ||
        timer_is_on(&pool->open_timer))
        return;
    if (pool->aim.is_spread)
        wish.first = random_below(pool, PG_HOSTS_MAX);
    for (uint32_t i = 0; i < PG_OPENING_MAX; i++) {
        if (pool->opening[i] != NULL)
            continue;
        pool->counts.sessions_opening++;
        pool->opening[i] =
            pg_connect_start(pool->helpers, pool->options, &wish, on_connected, pool);
        return;
    }
}

void pg_pool_reopen(struct pg_pool *pool)
{
    CHECK_OBJ(pool, PG_POOL_MAGIC);
    if (!timer_is_on(&pool->open_timer))
        (void)back_off(pool);
}

void pg_pool_abandon(struct pg_pool *pool)
{
    timer_stop(&pool->open_timer);
    for (uint32_t i = 0; i < PG_OPENING_MAX; i++) {
        pg_connect_abandon(pool->opening[i]);
        pool->opening[i] = NULL;
    }
    pool->counts.sessions_opening = 0;
}
