/* lib/pg_fixture.c - the server and the world of a test of the pg room, as most have them. */
#include "lib/pg_fixture.h"
#include "base/clock.h"
#include "lib/loop_driver.h"
#include "lib/test.h"

#include <stdio.h>
#include <string.h>

enum { LOOK_MS = 50 }; /* the pool has looked what it is to cancel, and would not do so again */

struct pg_server server;
struct pg_world world;

int pg_start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    return 0;
}

int pg_start_tcp_server(void **state)
{
    (void)state;
    pg_server_init(&server, "--tcp");
    return 0;
}

int pg_stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    return 0;
}

int pg_set_up(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_init(&world, &server);
    return 0;
}

int pg_set_up_ahead(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_init_ahead(&world, &server);
    return 0;
}

int pg_tear_down(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    return 0;
}

void start_patiently(uint32_t sessions)
{
    pg_world_deinit(&world);
    pg_world_init_ahead(&world, &server);
    world.options.sessions_max = sessions;
    world.options.statement_timeout_ms = 0;
    world.options.queue_timeout_ms = 60000;
    pg_world_start(&world);
}

const struct pg_pool_counts *counts(void)
{
    return pg_pool_counts(world.pool);
}

void until_idle(void)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    while (counts()->in_flight > 0 && clock_monotonic_us() < end_us)
        loop_turn(world.loop, 10);
    assert_int_equal(counts()->in_flight, 0);
    pg_world_go_on(&world);
}

static const char *count_those(const char *text, const char *condition)
{
    char sql[256];

    (void)snprintf(sql, sizeof sql,
                   "select count(*) from pg_stat_activity where application_name = 'weft' and "
                   "state = 'active' and query like '%s%%' %s",
                   text, condition);
    return pg_server_run(&server, sql);
}

const char *count_running(const char *text)
{
    return count_those(text, "");
}

static void until(const char *text, const char *condition, const char *count)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    while (strcmp(count_those(text, condition), count) != 0 && clock_monotonic_us() < end_us)
        for (int i = 0; i < 10; i++)
            loop_turn(world.loop, 1);
    assert_string_equal(count_those(text, condition), count);
}

void until_running(const char *text, const char *count)
{
    until(text, "", count);
}

void until_asleep(const char *text)
{
    until(text, "and wait_event = 'PgSleep'", "1");
}

struct pg_transaction *begin_transaction(void)
{
    struct op *op = pg_begin(world.scope, world.pool, 0);

    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    return pg_transaction_of(op);
}

struct op *start_on(struct pg_transaction *transaction, const char *sql)
{
    return pg_query_start(world.scope,
                          &(struct pg_call){.transaction = transaction, .sql = span_of(sql)});
}

void give_up(struct op *op)
{
    pg_world_stand_still(&world);
    op_cancel(op);
    pg_world_jump(&world, LOOK_MS);
}
