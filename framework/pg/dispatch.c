/* pg/dispatch.c - the policy: which session gets a statement, and which statements share a Sync.
 *
 * Few large batches beat many small ones: a Sync makes the server flush and wakes the client (4.4
 * us of client CPU a query with a Sync each, 1.4 with one a turn). A turn's short statements fill
 * one session up to a depth before the next one is used. Idle sessions come first, then the one
 * with the least in flight, unless its first statement has been running for a while: what sits
 * behind a slow one waits with it (p99 of 12 ms against 50 ms for round robin, with 1 % of 50 ms).
 * Beyond that everything waits in one queue, which is bounded.
 */
#include "pg/dispatch.h"
#include "base/check.h"
#include <stddef.h>

enum {
    HEAD_AGE_MAX_US = 1000,  /* a session whose first statement runs for longer gets nothing more */
    SLOW_US = 5000,          /* above it a statement wants a session of its own */
    BATCH_EXPECTED_US = 1000 /* the server holds a batch's output until its Sync */
};

uint32_t pg_dispatch_taken_max(uint32_t sessions_max)
{
    CHECK(sessions_max > 0);
    return sessions_max > 1 ? sessions_max - 1 : 1;
}

static bool has_room(const struct pg_deal *deal, uint32_t index)
{
    const struct pg_load *load = deal->loads[index];

    return !load->is_taken && load->statements < deal->depth_max && index != deal->draining;
}

static bool is_stuck(const struct pg_deal *deal, const struct pg_load *load)
{
    return load->statements > 0 && load->head_since_us + HEAD_AGE_MAX_US <= deal->now_us;
}

uint32_t pg_dispatch_shared(struct pg_deal *deal)
{
    uint32_t best = PG_NOWHERE;

    CHECK(deal != NULL);
    if (deal->filling != PG_NOWHERE && has_room(deal, deal->filling))
        return deal->filling;
    for (uint32_t i = 0; i < deal->count; i++) {
        if (!has_room(deal, i) || is_stuck(deal, deal->loads[i]))
            continue;
        if (best == PG_NOWHERE || deal->loads[i]->statements < deal->loads[best]->statements)
            best = i;
    }
    deal->filling = best;
    return best;
}

uint32_t pg_dispatch_own(const struct pg_deal *deal)
{
    uint32_t idle = PG_NOWHERE;
    uint32_t taken = 0;

    CHECK(deal != NULL);
    for (uint32_t i = 0; i < deal->count; i++) {
        if (deal->loads[i]->is_taken)
            taken++;
        else if (deal->loads[i]->statements == 0 && idle == PG_NOWHERE)
            idle = i;
    }
    return taken < deal->taken_max ? idle : PG_NOWHERE;
}

uint32_t pg_dispatch_idle(const struct pg_deal *deal)
{
    uint32_t idle = 0;

    CHECK(deal != NULL);
    for (uint32_t i = 0; i < deal->count; i++)
        idle += !deal->loads[i]->is_taken && deal->loads[i]->statements == 0;
    return idle;
}

void pg_dispatch_drain(struct pg_deal *deal)
{
    uint32_t least = PG_NOWHERE;
    uint32_t taken = 0;

    CHECK(deal != NULL);
    for (uint32_t i = 0; i < deal->count; i++) {
        if (deal->loads[i]->is_taken) {
            taken++;
            continue;
        }
        if (least == PG_NOWHERE || deal->loads[i]->statements < deal->loads[least]->statements)
            least = i;
    }
    deal->draining = taken < deal->taken_max ? least : PG_NOWHERE;
}

enum pg_sync pg_dispatch_sync(const struct pg_batch *batch, const struct pg_need *need)
{
    CHECK(batch != NULL);
    CHECK(need != NULL);
    if (!need->is_read_only || !need->is_proven || need->is_slow || need->expected_us == 0)
        return PG_SYNC_OWN;
    if (batch->count > 0 && batch->expected_us + need->expected_us > BATCH_EXPECTED_US)
        return PG_SYNC_NEXT;
    return PG_SYNC_SHARED;
}

bool pg_dispatch_is_slow(uint32_t expected_us)
{
    return expected_us > SLOW_US;
}

/* Rises slowly and falls fast: a stall of the machine must not make every statement a slow one,
 * each with a session of its own, just when there is most to do. */
uint32_t pg_dispatch_learn(uint32_t expected_us, uint64_t took_us)
{
    uint32_t took = took_us < UINT32_MAX / 2 ? (uint32_t)took_us : UINT32_MAX / 2;

    if (took == 0)
        took = 1;
    if (expected_us == 0)
        return took;
    if (took > expected_us)
        return expected_us + (took - expected_us) / 8;
    return expected_us - (expected_us - took + 1) / 2;
}
