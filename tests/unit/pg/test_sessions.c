/* Goal: sessions are as many as are needed, none grows old, and whoever gets one finds it as if
 *       nobody had used it before. */
#include "base/clock.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/copy.h"
#include "pg/private.h"

#include <stdio.h>
#include <string.h>

static struct pg_server server;
static struct pg_world world;

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    if (server.is_missing)
        return 0;
    (void)pg_server_run_as(&server, "postgres", "create role other");
    (void)pg_server_run_as(&server, "postgres", "grant other to weft");
    (void)pg_server_run(&server, "create sequence numbers; create table touched (a int); "
                                 "create function hides_its_effects() returns void language sql "
                                 "as $$ select set_config('search_path', 'x', false) $$;"
                                 "create function has_lastval() returns bool language plpgsql as "
                                 "$$ begin perform lastval(); return true; exception when "
                                 "object_not_in_prerequisite_state then return false; end $$;"
                                 "create function hides_too() returns trigger language plpgsql as "
                                 "$$ begin perform hides_its_effects(); return new; end $$;"
                                 "create trigger hides before insert on touched for each row "
                                 "execute function hides_too()");
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_init(&world, &server);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    return 0;
}

static const struct pg_pool_counts *counts(void)
{
    return pg_pool_counts(world.pool);
}

/* How many */

static void until_sessions(uint32_t count)
{
    uint64_t end_us = clock_monotonic_us() + 20000000;

    while (counts()->sessions != count) {
        if (clock_monotonic_us() > end_us)
            fail_msg("%u sessions, not %u", counts()->sessions, count);
        loop_turn(world.loop, 10);
    }
}

/* As many statements at once as there may be sessions. */
static void use_all(void)
{
    struct op *ops[4];

    for (int i = 0; i < 4; i++)
        ops[i] = pg_query_start(world.scope, &(struct pg_call){.pool = world.pool,
                                                               .sql = SPAN("select pg_sleep(0.1)"),
                                                               .flags = PG_SLOW});
    for (int i = 0; i < 4; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
    assert_true(counts()->sessions >= 3);
}

static void test_those_that_nobody_needs_are_closed(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.sessions_min = 2;
    world.options.idle_timeout_ms = 200;
    pg_world_start(&world);
    until_sessions(2);
    use_all();
    until_sessions(2);
    for (int i = 0; i < 10; i++)
        loop_turn(world.loop, 50);
    assert_int_equal(counts()->sessions, 2);
    assert_int_equal(counts()->sessions_lost, 0);
    use_all(); /* and are opened again */
}

static void test_without_a_limit_they_stay(void **state)
{
    uint32_t opened;

    (void)state;
    pg_server_need(&server);
    world.options.idle_timeout_ms = 0;
    world.options.session_age_ms = 0;
    pg_world_start(&world);
    use_all();
    opened = counts()->sessions;
    for (int i = 0; i < 40; i++)
        loop_turn(world.loop, 60);
    assert_int_equal(counts()->sessions, opened);
}

/* So many statements at once that no session ever runs dry by itself, until so many were opened. */
static void flood_until_opened(uint64_t opened)
{
    enum { AT_ONCE = 128 };
    uint64_t end_us = clock_monotonic_us() + 30000000;
    struct op *ops[AT_ONCE] = {NULL};
    uint32_t failed = 0, run = 0;

    while (counts()->sessions_opened < opened && clock_monotonic_us() < end_us) {
        for (int i = 0; i < AT_ONCE; i++) {
            if (ops[i] != NULL)
                failed += pg_world_await(&world, ops[i]) != ERR_OK;
            ops[i] = pg_world_start_sql(&world, "select 1", 0, NULL);
        }
        if (++run % 20 != 0)
            continue;
        for (int i = 0; i < AT_ONCE; i++)
            failed += pg_world_await(&world, ops[i]) != ERR_OK;
        memset(ops, 0, sizeof ops);
        pg_world_renew(&world);
    }
    pg_world_renew(&world);
    assert_int_equal(failed, 0);
    assert_int_equal(counts()->sessions_lost, 0);
    assert_true(counts()->sessions_opened >= opened);
}

/* Under load none is ever idle for long, and yet all are renewed, and nobody notices. */
static void test_old_ones_are_renewed(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.session_age_ms = 300;
    pg_world_start(&world);
    use_all();
    flood_until_opened(12);
}

static void test_one_whose_buffers_grew_is_renewed(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.session_age_ms = 0;
    pg_world_start(&world);
    (void)pg_world_run(&world, "select repeat('x', 2000000)");
    assert_int_equal(counts()->sessions_opened, 1);
    flood_until_opened(2);
    assert_int_equal(counts()->sessions_opened, 2);
}

enum { PILED = 30, PIECE_SIZE = 100000 };

/* None of these is large, all of them together are. */
static struct op *start_piece(void)
{
    static char piece[PIECE_SIZE + 1];
    struct pg_value value;

    memset(piece, 'x', PIECE_SIZE);
    value = pg_world_text(piece);
    return pg_world_start_sql(&world, "select length($1)", 1, &value);
}

/* The server reads nothing while it sleeps: libpq keeps what the socket does not take. */
static void test_one_that_much_piled_up_in_is_renewed(void **state)
{
    struct op *sleeps, *ops[PILED];

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.session_age_ms = 0;
    pg_world_start(&world);
    sleeps = pg_world_start_sql(&world, "select pg_sleep(0.2)", 0, NULL);
    for (int i = 0; i < PILED; i++)
        ops[i] = start_piece();
    assert_int_equal(pg_world_await(&world, sleeps), ERR_OK);
    for (int i = 0; i < PILED; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
    assert_int_equal(counts()->sessions_opened, 1);
    flood_until_opened(2);
    assert_int_equal(counts()->sessions_opened, 2);
}

static void test_one_that_everything_left_at_once_is_kept(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    for (int i = 0; i < PILED; i++)
        assert_int_equal(pg_world_await(&world, start_piece()), ERR_OK);
    assert_false(world.pool->sessions[0]->is_worn);
}

static void test_idle_ones_grow_old_too(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.session_age_ms = 200;
    pg_world_start(&world);
    for (int i = 0; i < 400 && counts()->sessions_opened < 3; i++)
        loop_turn(world.loop, 50);
    assert_true(counts()->sessions_opened >= 3);
    assert_int_equal(counts()->sessions, 1);
}

/* Where others take over, even the last one goes; who comes all the same is served. */
static void test_none_is_kept_while_it_winds_up(void **state)
{
    uint64_t opened;

    (void)state;
    pg_server_need(&server);
    world.options.idle_timeout_ms = 0;
    world.options.sessions_min = 2;
    pg_world_start(&world);
    until_sessions(2);
    use_all();
    pg_pool_wind_up(world.pool, true);
    until_sessions(0);
    opened = counts()->sessions_opened;
    pg_world_check(pg_world_run(&world, "select 1"), "1");
    until_sessions(0);
    assert_int_equal(counts()->sessions_opening, 0);
    assert_int_equal(counts()->sessions_opened, opened + 1); /* as many as wait */
    world.options.sessions_min = 0;
    pg_pool_wind_up(world.pool, false);
    pg_world_check(pg_world_run(&world, "select 1"), "1");
    until_sessions(2); /* one is ahead of need */
    run_for(world.loop, 50);
    assert_int_equal(counts()->sessions_opening, 0);
    assert_int_equal(counts()->sessions_opened, opened + 3);
    world.options.sessions_min = 2;
    pg_pool_wind_up(world.pool, true);
    until_sessions(0);
    pg_pool_wind_up(world.pool, false);
    until_sessions(2);
    assert_int_equal(counts()->sessions_lost, 0);
}

/* As new */

static struct pg_transaction *begin(void)
{
    struct op *op = pg_begin(world.scope, world.pool, 0);

    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    return pg_transaction_of(op);
}

static void run_in_transaction(const char *sql)
{
    struct pg_transaction *transaction = begin();
    struct op *op = pg_query_start(
        world.scope, &(struct pg_call){.transaction = transaction, .sql = span_of(sql)});

    if (pg_world_await(&world, op) != ERR_OK)
        fail_msg("%s: %.*s", sql, SPAN_ARG(op->error));
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
}

static void start_with_one(void)
{
    world.options.sessions_max = 1;
    pg_world_start(&world);
}

static void test_nothing_is_left_behind(void **state)
{
    static const struct {
        const char *sql, *look, *wanted;
    } cases[] = {
        {"select set_config('search_path', 'elsewhere', false)", "show search_path",
         "\"$user\", public"},
        {"select set_config('statement_timeout', '17', false)", "show statement_timeout", "5s"},
        {"create temporary table mine (a int)",
         "select count(*) from pg_class where relname = 'mine'", "0"},
        {"select 1 into temp mine2", "select count(*) from pg_class where relname = 'mine2'", "0"},
        {"select pg_advisory_lock(77)", "select count(*) from pg_locks where objid = 77", "0"},
        {"declare c cursor with hold for select 1",
         "select count(*) from pg_cursors where name = 'c'", "0"},
        {"select set_config('client_connection_check_interval', '0', false)",
         "show client_connection_check_interval", "2s"},
        {"select hides_its_effects()", "show search_path", "\"$user\", public"},
        {"insert into touched values (1)", "show search_path", "\"$user\", public"},
        {"do $$ begin perform set_config('search_path', 'x', not true); end $$", "show search_path",
         "\"$user\", public"},
        {"select set_config('search_path', 'x', /* true) */ false)", "show search_path",
         "\"$user\", public"},
        {"do $$ begin execute 'listen somebody'; end $$",
         "select count(*) from pg_listening_channels()", "0"},
        {"do $$ begin execute 'set role other'; end $$", "select current_user::text", "weft"},
        {"do $$ begin execute 'set session role other'; end $$", "show role", "none"},
        {"select set_config('role', 'other', false)", "select current_user::text", "weft"},
        {"select nextval('numbers')", "select has_lastval()", "f"},
    };

    (void)state;
    pg_server_need(&server);
    start_with_one();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_in_transaction(cases[i].sql);
        pg_world_check(pg_world_run(&world, cases[i].look), cases[i].wanted);
    }
    assert_int_equal(counts()->sessions_opened, 1);
    pg_world_check(pg_world_run(&world, "select count(*) > 3 from pg_prepared_statements"), "t");
}

/* A superuser can become somebody else altogether, and there take a role. */
static void test_nor_is_whose_session_it_is(void **state)
{
    static const char who[] = "select session_user::text || ' ' || current_user::text || ' ' || "
                              "current_setting('role')";

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run_as(&server, "postgres", "alter role weft superuser");
    start_with_one();
    run_in_transaction("select set_config('session_authorization', 'other', false)");
    pg_world_check(pg_world_run(&world, who), "weft weft none");
    run_in_transaction("select set_config('session_authorization', 'other', false), "
                       "set_config('role', 'other', false)");
    pg_world_check(pg_world_run(&world, who), "weft weft none");
    assert_int_equal(counts()->sessions_opened, 1);
    (void)pg_server_run_as(&server, "postgres", "alter role weft nosuperuser");
}

/* Without a pooler, that is: with one the session is not ours. */
static void test_nor_where_nothing_is_prepared(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.is_prepared = false;
    start_with_one();
    run_in_transaction(
        "select set_config('search_path', 'elsewhere', false), pg_advisory_lock(79)");
    pg_world_check(pg_world_run(&world, "show search_path"), "\"$user\", public");
    pg_world_check(pg_world_run(&world, "select count(*) from pg_locks where objid = 79"), "0");
    pg_world_check(pg_world_run(&world, "select count(*) from pg_prepared_statements"), "0");
    assert_int_equal(counts()->sessions_opened, 1);
}

/* BEGIN's own plan may be lost, too: whoever runs transactions again has it at the second time. */
static struct pg_transaction *begin_in_the_end(void)
{
    struct op *op = pg_begin(world.scope, world.pool, 0);

    if (pg_world_await(&world, op) == ERR_OK)
        return pg_transaction_of(op);
    assert_int_equal(op->status, ERR_DB_RETRY);
    return begin();
}

/* What is to clean was itself deallocated. A rollback leaves the lock, a commit the setting, too;
 * it may fail for its own plan, and is a rollback then. */
static void test_nor_where_all_plans_are_lost(void **state)
{
    (void)state;
    pg_server_need(&server);
    start_with_one();
    run_in_transaction("select 1");
    for (int i = 0; i < 6; i++) {
        struct pg_transaction *transaction = begin_in_the_end();
        struct op *op = pg_query_start(
            world.scope,
            &(struct pg_call){.transaction = transaction,
                              .sql = SPAN("do $$ begin perform set_config('search_path', 'x', "
                                          "false), pg_advisory_lock(80); "
                                          "execute 'deallocate all'; end $$")});

        assert_int_equal(pg_world_await(&world, op), ERR_OK);
        if (i % 2 == 0)
            assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
        else
            (void)pg_world_await(&world, pg_commit(transaction));
        pg_world_check(pg_world_run(&world, "show search_path"), "\"$user\", public");
        pg_world_check(pg_world_run(&world, "select count(*) from pg_locks where objid = 80"), "0");
    }
    assert_int_equal(counts()->sessions_opened, 1);
}

/* Behind a COPY nothing can be sent with the end of the transaction. */
static void test_nor_where_a_copy_is_under_way(void **state)
{
    static const char *const copies[] = {"copy touched from stdin",
                                         "copy (select generate_series(1, 300000)) to stdout"};

    (void)state;
    pg_server_need(&server);
    start_with_one();
    for (int is_out = 0; is_out < 2; is_out++) {
        struct pg_transaction *transaction = begin();
        struct op *op = pg_query_start(
            world.scope, &(struct pg_call){.transaction = transaction,
                                           .sql = SPAN("select pg_advisory_lock(81)")});
        struct pg_call call;
        struct op *copy;

        assert_int_equal(pg_world_await(&world, op), ERR_OK);
        call = (struct pg_call){
            .transaction = transaction, .sql = span_of(copies[is_out]), .is_copy = true};
        copy = is_out ? pg_copy_out(world.scope, &call) : pg_copy_in(world.scope, &call);
        assert_int_equal(pg_world_await(&world, copy), ERR_OK);
        pg_world_renew(&world);
        pg_world_check(pg_world_run(&world, "select count(*) from pg_locks where objid = 81"), "0");
    }
    assert_int_equal(counts()->sessions_opened, 1);
}

/* With a rollback it is the same. */
static void test_nor_by_one_that_is_given_up(void **state)
{
    struct pg_transaction *transaction;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    start_with_one();
    transaction = begin();
    op = pg_query_start(world.scope, &(struct pg_call){.transaction = transaction,
                                                       .sql = SPAN("select pg_advisory_lock(78)")});
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    pg_world_renew(&world);
    pg_world_check(pg_world_run(&world, "select count(*) from pg_locks where objid = 78"), "0");
    assert_int_equal(counts()->sessions_opened, 1);
}

/* CPU of a process so far; 0 where the kernel does not count it. */
static uint64_t cpu_us(const char *pid)
{
    char path[64];
    unsigned long long ns = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%s/schedstat", pid);
    file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%llu", &ns) != 1)
            ns = 0;
        (void)fclose(file);
    }
    return ns / 1000;
}

static void test_what_cleaning_costs(void **state)
{
    enum { RUNS = 300 };
    char backend[16];

    (void)state;
    pg_server_need(&server);
    start_with_one();
    (void)snprintf(backend, sizeof backend, "%d", pg_session_backend(world.pool->sessions[0]));
    for (int i = 0; i < 6; i++) {
        uint64_t start_us = clock_monotonic_us(), own_us = cpu_us("self");
        uint64_t server_us = cpu_us(backend);

        world.pool->sessions[0]->is_direct = i % 2 != 0;
        for (int run = 0; run < RUNS; run++) {
            run_in_transaction("select 1");
            if (run % 100 == 0)
                pg_world_renew(&world);
        }
        print_message("cleaned %d: %u us a transaction, own %u, server %u\n", i % 2,
                      (unsigned)((clock_monotonic_us() - start_us) / RUNS),
                      (unsigned)((cpu_us("self") - own_us) / RUNS),
                      (unsigned)((cpu_us(backend) - server_us) / RUNS));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_those_that_nobody_needs_are_closed),
        TEST(test_without_a_limit_they_stay),
        TEST(test_old_ones_are_renewed),
        TEST(test_one_whose_buffers_grew_is_renewed),
        TEST(test_one_that_much_piled_up_in_is_renewed),
        TEST(test_one_that_everything_left_at_once_is_kept),
        TEST(test_idle_ones_grow_old_too),
        TEST(test_none_is_kept_while_it_winds_up),
        TEST(test_nothing_is_left_behind),
        TEST(test_nor_is_whose_session_it_is),
        TEST(test_nor_by_one_that_is_given_up),
        TEST(test_what_cleaning_costs),
        TEST(test_nor_where_nothing_is_prepared),
        TEST(test_nor_where_all_plans_are_lost),
        TEST(test_nor_where_a_copy_is_under_way),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
