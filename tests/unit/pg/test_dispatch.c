/* Goal: a turn's statements fill one idle session before the next, nothing goes behind what has
 *       been running for long, who wants a session of his own gets one in the end, and only what
 *       is known to be short, read only and prepared shares a Sync. */
#include "lib/test.h"
#include "pg/dispatch.h"

enum { SESSIONS = 3, DEPTH = 4, NOW_US = 1000000 };

/* A deal over a few sessions. */
struct table {
    struct pg_load loads[SESSIONS];
    const struct pg_load *pointers[SESSIONS];
    struct pg_deal deal;
};

static void table_init(struct table *table)
{
    *table = (struct table){0};
    for (uint32_t i = 0; i < SESSIONS; i++)
        table->pointers[i] = &table->loads[i];
    table->deal = (struct pg_deal){
        .loads = table->pointers,
        .count = SESSIONS,
        .depth_max = DEPTH,
        .taken_max = pg_dispatch_taken_max(SESSIONS),
        .filling = PG_NOWHERE,
        .draining = PG_NOWHERE,
        .now_us = NOW_US,
    };
}

/* A session with so many statements, the first of which began `age_us` ago. */
static void load(struct table *table, uint32_t index, uint32_t statements, uint32_t age_us)
{
    table->loads[index].statements = statements;
    table->loads[index].head_since_us = NOW_US - age_us;
}

/* What the policy answers, put where it says. */
static uint32_t give_need(struct table *table, const struct pg_need *need)
{
    uint32_t index = pg_dispatch_shared(&table->deal, need);

    if (index != PG_NOWHERE) {
        if (table->loads[index].statements++ == 0)
            table->loads[index].head_since_us = NOW_US;
    }
    return index;
}

/* A statement that does not share. */
static uint32_t give_long(struct table *table, uint32_t expected_us)
{
    return give_need(table, &(struct pg_need){.expected_us = expected_us});
}

static uint32_t give(struct table *table)
{
    return give_long(table, 0);
}

/* One that does. */
static uint32_t give_sharing(struct table *table, uint32_t expected_us)
{
    return give_need(table, &(struct pg_need){.may_share = true, .expected_us = expected_us});
}

static void test_a_turn_fills_one_session_before_the_next(void **state)
{
    struct table table;

    (void)state;
    table_init(&table);
    for (uint32_t i = 0; i < SESSIONS * DEPTH; i++)
        assert_int_equal(give(&table), i / DEPTH);
    assert_int_equal(give(&table), PG_NOWHERE);
}

static void test_much_work_is_spread_over_idle_sessions(void **state)
{
    struct table table;

    (void)state;
    table_init(&table);
    assert_int_equal(give_long(&table, 600), 0);
    assert_int_equal(give_long(&table, 300), 0);
    assert_int_equal(give_long(&table, 300), 1);
    assert_int_equal(give_long(&table, 900), 2);
    /* None is idle any more: the least in flight. */
    assert_int_equal(give_long(&table, 900), 1);
    assert_int_equal(give_long(&table, 900), 2);
    assert_int_equal(give_long(&table, 900), 0);
}

static void test_what_shares_waits_for_an_idle_session(void **state)
{
    struct table table;

    (void)state;
    table_init(&table);
    load(&table, 0, 1, 100);
    load(&table, 1, 1, 100);
    assert_int_equal(give_sharing(&table, 500), 2);
    assert_int_equal(give_sharing(&table, 500), 2);
    assert_int_equal(give_sharing(&table, 500), 2); /* none else is idle */
    assert_int_equal(give_sharing(&table, 500), 2);
    assert_int_equal(give_sharing(&table, 500), PG_NOWHERE); /* full */
    assert_int_equal(give(&table), 0);                       /* does not share: least in flight */
    assert_int_equal(give_sharing(&table, 500), PG_NOWHERE);
    table_init(&table);
    for (uint32_t i = 0; i < SESSIONS; i++)
        load(&table, i, 1, 100);
    assert_int_equal(give_sharing(&table, 500), PG_NOWHERE);
    assert_int_equal(give_sharing(&table, 0), 0); /* unknown: does not share yet */
}

static void test_idle_comes_first_then_the_least_in_flight(void **state)
{
    struct table table;

    (void)state;
    table_init(&table);
    load(&table, 0, 2, 100);
    load(&table, 1, 1, 100);
    assert_int_equal(give(&table), 2);
    table_init(&table);
    load(&table, 0, 2, 100);
    load(&table, 1, 1, 100);
    load(&table, 2, 3, 100);
    assert_int_equal(give(&table), 1);
}

static void test_nothing_goes_behind_what_runs_for_long(void **state)
{
    struct table table;

    (void)state;
    table_init(&table);
    load(&table, 0, 1, 5000);
    load(&table, 1, 3, 100);
    load(&table, 2, 1, 2000);
    assert_int_equal(give(&table), 1);
    assert_int_equal(give(&table), PG_NOWHERE);
}

static void test_a_taken_session_gets_nothing(void **state)
{
    struct table table;

    (void)state;
    table_init(&table);
    table.loads[0].is_taken = true;
    assert_int_equal(give(&table), 1);
    table.loads[1].is_taken = table.loads[2].is_taken = true;
    assert_int_equal(give(&table), PG_NOWHERE);
    assert_int_equal(pg_dispatch_idle(&table.deal), 0);
}

static void test_own_sessions_leave_one_to_all_others(void **state)
{
    struct table table;

    (void)state;
    assert_int_equal(pg_dispatch_taken_max(1), 1);
    assert_int_equal(pg_dispatch_taken_max(4), 3);
    table_init(&table);
    assert_int_equal(pg_dispatch_own(&table.deal), 0);
    table.loads[0].is_taken = true;
    load(&table, 1, 1, 0);
    assert_int_equal(pg_dispatch_own(&table.deal), 2);
    table.loads[2].is_taken = true;
    load(&table, 1, 0, 0);
    assert_int_equal(pg_dispatch_own(&table.deal), PG_NOWHERE);
}

static void test_who_waits_for_an_own_session_gets_one_drained(void **state)
{
    struct table table;

    (void)state;
    table_init(&table);
    load(&table, 0, 3, 100);
    load(&table, 1, 1, 100);
    load(&table, 2, 2, 100);
    assert_int_equal(pg_dispatch_own(&table.deal), PG_NOWHERE);
    pg_dispatch_drain(&table.deal);
    assert_int_equal(table.deal.draining, 1);
    assert_int_equal(give(&table), 2);
    /* Nobody may have one: nothing is drained. */
    table_init(&table);
    table.loads[0].is_taken = table.loads[1].is_taken = true;
    pg_dispatch_drain(&table.deal);
    assert_int_equal(table.deal.draining, PG_NOWHERE);
}

static void test_without_sessions_all_waits(void **state)
{
    struct table table;

    (void)state;
    table_init(&table);
    table.deal.count = 0;
    assert_int_equal(give(&table), PG_NOWHERE);
    assert_int_equal(pg_dispatch_own(&table.deal), PG_NOWHERE);
    pg_dispatch_drain(&table.deal);
    assert_int_equal(table.deal.draining, PG_NOWHERE);
}

static void test_only_the_short_and_proven_share_a_sync(void **state)
{
    const struct pg_need fine = {.may_share = true, .is_proven = true, .expected_us = 400};
    struct pg_need need = fine;
    struct pg_batch batch = {0};

    (void)state;
    assert_int_equal(pg_dispatch_sync(&batch, &need), PG_SYNC_SHARED);
    need.may_share = false;
    assert_int_equal(pg_dispatch_sync(&batch, &need), PG_SYNC_OWN);
    need = fine;
    need.is_proven = false;
    assert_int_equal(pg_dispatch_sync(&batch, &need), PG_SYNC_OWN);
    need = fine;
    need.expected_us = 0; /* not yet known */
    assert_int_equal(pg_dispatch_sync(&batch, &need), PG_SYNC_OWN);
    batch = (struct pg_batch){.count = 2, .expected_us = 2800};
    assert_int_equal(pg_dispatch_sync(&batch, &fine), PG_SYNC_NEXT);
    batch.expected_us = 2600;
    assert_int_equal(pg_dispatch_sync(&batch, &fine), PG_SYNC_SHARED);
}

static void test_an_average_rises_slowly_and_falls_fast(void **state)
{
    uint32_t expected_us = pg_dispatch_learn(0, 100);

    (void)state;
    assert_int_equal(expected_us, 100);
    assert_int_equal(pg_dispatch_learn(100, 0), 50);
    expected_us = pg_dispatch_learn(expected_us, 20000); /* a stall */
    assert_false(pg_dispatch_is_slow(expected_us));
    for (int i = 0; i < 20; i++)
        expected_us = pg_dispatch_learn(expected_us, 20000);
    assert_true(pg_dispatch_is_slow(expected_us));
    for (int i = 0; i < 3; i++)
        expected_us = pg_dispatch_learn(expected_us, 100);
    assert_false(pg_dispatch_is_slow(expected_us));
    for (int i = 0; i < 20; i++)
        expected_us = pg_dispatch_learn(expected_us, 100);
    assert_int_equal(expected_us, 100);
    assert_true(pg_dispatch_learn(1, UINT64_MAX) > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_turn_fills_one_session_before_the_next),
        cmocka_unit_test(test_much_work_is_spread_over_idle_sessions),
        cmocka_unit_test(test_what_shares_waits_for_an_idle_session),
        cmocka_unit_test(test_idle_comes_first_then_the_least_in_flight),
        cmocka_unit_test(test_nothing_goes_behind_what_runs_for_long),
        cmocka_unit_test(test_a_taken_session_gets_nothing),
        cmocka_unit_test(test_own_sessions_leave_one_to_all_others),
        cmocka_unit_test(test_who_waits_for_an_own_session_gets_one_drained),
        cmocka_unit_test(test_without_sessions_all_waits),
        cmocka_unit_test(test_only_the_short_and_proven_share_a_sync),
        cmocka_unit_test(test_an_average_rises_slowly_and_falls_fast),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
