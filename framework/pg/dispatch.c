/* pg/dispatch.c - the policy: which session gets a statement, and which statements share a Sync.
 *
 * Few large batches beat many small ones: a Sync makes the server flush and wakes the client (4.4
 * us of client CPU a query with a Sync each, 1.4 with one a turn). A turn's short statements fill
 * one session, up to a depth or as long as the server would not be done sooner with two, before the
 * next one is used. Idle sessions come first, then the one with the least in flight, unless its
 * first statement has been running for a while: what sits behind a slow one waits with it (p99 of
 * 12 ms against 50 ms for round robin, with 1 % of 50 ms). Beyond that everything waits in one
 * queue, which is bounded.
 */
#include "pg/dispatch.h"
#include "base/check.h"
#include <stddef.h>

enum {
    HEAD_AGE_MAX_US = 1000,  /* a session whose first statement runs for longer gets nothing more */
    SLOW_US = 5000,          /* above it a statement wants a session of its own */
    FILL_US = 1000,          /* so much work goes to one session while another one is idle */
    UNKNOWN_US = 100,        /* what is taken for it where there is no average yet */
    BATCH_EXPECTED_US = 3000 /* the server holds a batch's output until its Sync */
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

static uint32_t least_loaded(const struct pg_deal *deal)
{
    uint32_t best = PG_NOWHERE;

    for (uint32_t i = 0; i < deal->count; i++) {
        if (!has_room(deal, i) || is_stuck(deal, deal->loads[i]))
            continue;
        if (best == PG_NOWHERE || deal->loads[i]->statements < deal->loads[best]->statements)
            best = i;
    }
    return best;
}

/* What shares a Sync waits for an idle session: it then goes there in one piece, and the longer it
 * had to wait, the larger the piece is. Behind others it would be answered no sooner. */
static uint32_t next_session(const struct pg_deal *deal, bool may_share)
{
    uint32_t best = least_loaded(deal);

    if (best != PG_NOWHERE && may_share && deal->loads[best]->statements > 0)
        return PG_NOWHERE;
    return best;
}

uint32_t pg_dispatch_shared(struct pg_deal *deal, const struct pg_need *need)
{
    uint32_t expected_us = need->expected_us > 0 ? need->expected_us : UNKNOWN_US;
    bool may_share = need->may_share && need->expected_us > 0;
    bool may_stay;
    uint32_t next;

    CHECK(deal != NULL);
    may_stay = deal->filling != PG_NOWHERE && has_room(deal, deal->filling) &&
               (deal->is_fresh || !may_share);
    if (!may_stay || deal->filled_us + expected_us > FILL_US) {
        next = next_session(deal, may_share);
        if (next == PG_NOWHERE && !may_stay)
            return PG_NOWHERE;
        if (next != PG_NOWHERE && next != deal->filling) {
            deal->filling = next;
            deal->is_fresh = deal->loads[next]->statements == 0;
        }
        deal->filled_us = 0;
    }
    deal->filled_us += expected_us;
    return deal->filling;
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
    if (!need->may_share || !need->is_proven || need->expected_us == 0)
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
