/* Goal: a stream brings every row once and in order, at constant memory; nobody reads while nobody
 *       pulls; its end, its errors and its giving up are told once, in every state; the session
 *       comes back clean, with its settings, or is closed. */
#include "base/clock.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/stream.h"
#include "pg/transaction.h"

#include <stdio.h>
#include <stdlib.h>

enum { LONG_MS = 600000 }; /* longer than anything takes here */

static struct pg_server server;
static struct pg_world world;

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    if (!server.is_missing)
        (void)pg_server_run(&server, "create table t (id int primary key)");
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    return 0;
}

/* A world whose options a test may change before pg_world_start(). */
static int set_up(void **state)
{
    (void)state;
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "truncate t");
    pg_world_init(&world, &server);
    world.options.sessions_max = 2;
    return 0;
}

/* The same for a test that decides how late it is. */
static int set_up_ahead(void **state)
{
    (void)state;
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "truncate t");
    pg_world_init_ahead(&world, &server);
    world.options.sessions_max = 2;
    world.options.stream_timeout_ms = LONG_MS;
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

static struct op *start(const char *sql)
{
    return pg_stream_start(world.scope, &(struct pg_call){.pool = world.pool, .sql = span_of(sql)});
}

static struct op *open_stream(const char *sql)
{
    struct op *op = start(sql);
    enum err err = pg_world_await(&world, op);

    if (err != ERR_OK)
        fail_msg("%s: %s: %.*s", sql, err_name(err), SPAN_ARG(op->error));
    return op;
}

static enum err pull(struct op *stream, struct op **page)
{
    *page = pg_stream_next(stream);
    return pg_world_await(&world, *page);
}

/* Pulls to the end and answers how many rows there were, which must be 1, 2, 3... */
static uint32_t drain(struct op *stream)
{
    uint32_t count = 0, rows;
    struct op *page;

    do {
        assert_int_equal(pull(stream, &page), ERR_OK);
        rows = pg_rows(page);
        for (uint32_t i = 0; i < rows; i++)
            assert_int_equal(pg_int(page, i, 0), ++count);
    } while (rows > 0);
    return count;
}

static void until_free(void)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    while (counts()->in_flight > 0 || counts()->sessions_pinned > 0) {
        if (clock_monotonic_us() > end_us)
            fail_msg("the session does not come back");
        loop_turn(world.loop, 10);
    }
}

/* Makes rows that are sent once the next one is made: the server collects 8 KB first. */
#define FILLER "repeat('x', 9000) as filler"

/* How many backends of the pool run something that begins like this. */
static int running(const char *begin)
{
    char sql[256];

    (void)snprintf(sql, sizeof sql,
                   "select count(*) from pg_stat_activity where application_name = 'weft' and "
                   "state = 'active' and query like '%s%%'",
                   begin);
    return atoi(pg_server_run(&server, sql));
}

static void expect_stopped(const char *begin)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    while (running(begin) > 0) {
        if (clock_monotonic_us() > end_us)
            fail_msg("the server still runs %s", begin);
        run_for(world.loop, 10);
    }
}

static void until_running(const char *begin)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    while (running(begin) == 0) {
        if (clock_monotonic_us() > end_us)
            fail_msg("the server does not run %s", begin);
        run_turns(world.loop, 10);
    }
}

/* ---- done ---- */

static void test_every_row_once(void **state)
{
    struct op *stream, *page;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = open_stream("select i as n, 'row ' || i as text, null as nothing "
                         "from generate_series(1, 100000) i");
    assert_int_equal(pg_columns(stream), 3);
    assert_int_equal(pg_rows(stream), 0);
    assert_int_equal(pull(stream, &page), ERR_OK);
    assert_true(pg_rows(page) > 1);
    assert_int_equal(pg_columns(page), 3);
    assert_int_equal(pg_column(page, "text"), 1);
    assert_string_equal(pg_column_name(page, 2).ptr, "nothing");
    assert_string_equal(pg_text(page, 0, 1).ptr, "row 1");
    assert_true(pg_is_null(page, 0, 2));
    assert_null(pg_text(page, pg_rows(page), 0).ptr);
    assert_null(pg_text(page, 0, 3).ptr);
    for (uint32_t count = 1, rows; (rows = pg_rows(page)) > 0;) {
        for (uint32_t i = 0; i < rows; i++)
            assert_int_equal(pg_int(page, i, 0), count++);
        assert_int_equal(pull(stream, &page), ERR_OK);
        if (pg_rows(page) == 0)
            assert_int_equal(count, 100001);
    }
    assert_int_equal(pg_affected(stream), 100000);
    assert_int_equal(pull(stream, &page), ERR_OK); /* the end stays the end */
    assert_int_equal(pg_rows(page), 0);
    until_free();
    assert_int_equal(counts()->sessions_lost, 0);
    assert_int_equal(counts()->cancels_sent, 0);
}

static void test_parameters_and_declared_ones(void **state)
{
    const struct pg_statement *statement;
    const struct pg_value value = pg_world_int(7);
    struct op *stream;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    assert_int_equal(pg_pool_declare(world.pool, "series",
                                     "select i from generate_series(1, $1::int) i", PG_READ_ONLY,
                                     &statement),
                     ERR_OK);
    for (int round = 0; round < 3; round++) { /* prepared the first time */
        stream = pg_stream_start(world.scope, &(struct pg_call){.pool = world.pool,
                                                                .statement = statement,
                                                                .values = &value,
                                                                .count = 1});
        assert_int_equal(pg_world_await(&world, stream), ERR_OK);
        assert_int_equal(drain(stream), 7);
        until_free();
    }
}

static void test_no_rows_and_no_result(void **state)
{
    struct op *stream;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = open_stream("select 1 as n where false");
    assert_int_equal(pg_columns(stream), 1);
    assert_int_equal(drain(stream), 0);
    stream = open_stream("insert into t values (1), (2)");
    assert_int_equal(drain(stream), 0);
    assert_int_equal(pg_affected(stream), 2);
}

static void test_json_in_pieces(void **state)
{
    struct buf whole = {0};
    struct op *stream, *page;
    const char *at;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = open_stream("select 1 as n where false");
    assert_int_equal(pull(stream, &page), ERR_OK);
    assert_string_equal(pg_stream_json(page, 100).ptr, "[]");
    stream = open_stream("select i as n from generate_series(1, 20000) i");
    do {
        struct span piece;

        assert_int_equal(pull(stream, &page), ERR_OK);
        piece = pg_stream_json(page, 1000000);
        assert_non_null(piece.ptr);
        assert_ptr_equal(pg_stream_json(page, 1000000).ptr, piece.ptr);
        buf_append(&whole, piece);
    } while (pg_rows(page) > 0);
    buf_append(&whole, (struct span){"", 1});
    at = whole.data;
    for (int i = 1; i <= 20000; i++) {
        char expected[32];

        (void)snprintf(expected, sizeof expected, "%s{\"n\":%d}", i == 1 ? "[" : ",", i);
        assert_memory_equal(at, expected, strlen(expected));
        at += strlen(expected);
    }
    assert_string_equal(at, "]");
    buf_release(&whole);
    stream = open_stream("select repeat('x', 1000) as n");
    assert_int_equal(pull(stream, &page), ERR_OK);
    assert_null(pg_stream_json(page, 999).ptr);
    assert_null(pg_stream_json(stream, 999).ptr);
}

static void test_memory_is_constant(void **state)
{
    size_t bytes = 0;
    struct op *stream, *page;
    uint32_t pulls = 0;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = open_stream("select i, repeat('x', 1000) from generate_series(1, 50000) i");
    do {
        assert_int_equal(pull(stream, &page), ERR_OK);
        if (++pulls == 2)
            bytes = world.scope->arena.bytes;
    } while (pg_rows(page) > 0);
    assert_true(pulls > 100);
    assert_int_equal(world.scope->arena.bytes, bytes);
}

/* ---- back pressure, and neighbours ---- */

static void test_nobody_reads_while_nobody_pulls(void **state)
{
    struct op *stream;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = open_stream("select generate_series(1, 3000000) as i");
    run_for(world.loop, 50);
    assert_string_equal(pg_server_run(&server, "select wait_event from pg_stat_activity where "
                                               "application_name = 'weft' and state = 'active'"),
                        "ClientWrite");
    pg_world_check(pg_world_run(&world, "select 'beside'"), "beside");
    assert_int_equal(op_release(stream), ERR_OK);
    until_free();
    expect_stopped("select generate_series");
    assert_int_equal(counts()->sessions_lost, 0);
}

static void test_the_servers_limit_is_for_statements_only(void **state)
{
    struct op *stream, *page, *other;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    world.options.statement_timeout_ms = 300;
    pg_world_start(&world);
    stream = open_stream("select i, pg_sleep(0.1) from generate_series(1, 6) i");
    assert_int_equal(drain(stream), 6);
    until_free();
    pg_world_check(pg_world_run(&world, "show statement_timeout"), "300ms");
    stream = open_stream("select generate_series(1, 3000000) as i");
    assert_int_equal(pull(stream, &page), ERR_OK);
    assert_int_equal(op_release(stream), ERR_OK); /* the same where it is given up */
    pg_world_check(pg_world_run(&world, "show statement_timeout"), "300ms");
    other = pg_world_start_sql(&world, "select pg_sleep(5)", 0, NULL);
    assert_int_equal(pg_world_await(&world, other), ERR_DEADLINE);
    assert_int_equal(counts()->sessions_lost, 0);
}

/* ---- failed ---- */

static void test_refused_at_once(void **state)
{
    struct op *op, *page;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    op = start("select nothing from nowhere");
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    assert_string_equal(pg_sqlstate(op).ptr, "42P01");
    assert_int_equal(pull(op, &page), ERR_STATE);
    assert_int_equal(start("begin")->status, ERR_INVALID);
    until_free();
    assert_int_equal(counts()->sessions_lost, 0);
}

static void test_an_error_behind_rows(void **state)
{
    struct op *stream, *page;
    uint32_t count = 0;
    enum err err;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = open_stream("select 1 / (50001 - i) * 0 + i from generate_series(1, 100000) i");
    while ((err = pull(stream, &page)) == ERR_OK) {
        assert_true(pg_rows(page) > 0);
        count += pg_rows(page);
    }
    assert_int_equal(count, 50000);
    assert_int_equal(err, ERR_DB);
    assert_string_equal(pg_sqlstate(page).ptr, "22012");
    assert_string_equal(page->error.ptr, "division by zero");
    assert_int_equal(pg_rows(page), 0);
    assert_null(pg_sqlstate(stream).ptr);
    assert_int_equal(pull(stream, &page), ERR_DB); /* and stays */
    until_free();
    assert_int_equal(counts()->sessions_lost, 0);
}

static void test_what_is_read_only_cannot_write(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    op = pg_stream_start(world.scope,
                         &(struct pg_call){.pool = world.pool,
                                           .sql = SPAN("insert into t values (1) returning id"),
                                           .flags = PG_READ_ONLY});
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    assert_string_equal(pg_sqlstate(op).ptr, "25006");
    assert_string_equal(pg_server_run(&server, "select count(*) from t"), "0");
}

static void test_a_row_too_large(void **state)
{
    struct op *stream, *page;

    (void)state;
    pg_server_need(&server);
    world.options.result_max = 1024 * 1024;
    pg_world_start(&world);
    stream = open_stream("select i, repeat('x', case when i < 3 then 900000 else 4000000 end) "
                         "from generate_series(1, 3) i");
    assert_int_equal(pull(stream, &page), ERR_OK);
    while (pg_rows(page) > 0 && page->status == ERR_OK)
        (void)pull(stream, &page);
    assert_int_equal(page->status, ERR_DB);
    assert_string_equal(page->error.ptr, "a row is larger than result_max");
    until_free();
    /* Seen to be too large while it comes, the session goes: libpq cannot stop otherwise. */
    assert_true(counts()->sessions_lost <= 1);
}

static void kill_backends(void)
{
    (void)pg_server_run(&server, "select pg_terminate_backend(pid) from pg_stat_activity where "
                                 "application_name = 'weft'");
}

static void test_the_session_breaks(void **state)
{
    struct op *stream, *page;
    enum err err;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = start("select pg_sleep(60)");
    run_for(world.loop, 50);
    kill_backends();
    assert_int_equal(pg_world_await(&world, stream), ERR_DB_DOWN);
    while (counts()->sessions > 0)
        loop_turn(world.loop, 10);
    stream = open_stream("select generate_series(1, 3000000) as i");
    kill_backends();
    while ((err = pull(stream, &page)) == ERR_OK)
        assert_true(pg_rows(page) > 0);
    assert_int_equal(err, ERR_DB_DOWN);
    assert_true(pg_maybe_applied(page));
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

static void test_wrong_pulls(void **state)
{
    struct op *stream, *first;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    assert_int_equal(pg_stream_next(pg_world_run(&world, "select 1"))->status, ERR_STATE);
    stream = start("select i, pg_sleep((i - 1) * 0.2), " FILLER " from generate_series(1, 2) i");
    assert_int_equal(pg_stream_next(stream)->status, ERR_STATE); /* not open yet */
    assert_int_equal(pg_world_await(&world, stream), ERR_OK);
    first = pg_stream_next(stream);
    assert_int_equal(pg_stream_next(stream)->status, ERR_STATE);
    assert_int_equal(pg_world_await(&world, first), ERR_OK);
    assert_int_equal(pg_rows(first), 1);
    assert_int_equal(pg_stream_next(first)->status, ERR_STATE); /* a pull is no stream */
}

/* ---- timed out ---- */

static void test_it_stands_still(void **state)
{
    struct op *stream, *page;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = start("select pg_sleep(60)"); /* the server does not answer */
    until_running("select pg_sleep(60)");
    assert_int_equal(stream->state, OP_PENDING);
    pg_world_jump(&world, LONG_MS + 1);
    assert_int_equal(pg_world_await(&world, stream), ERR_DEADLINE);
    stream = open_stream("select i, pg_sleep(case when i > 2 then 60 else 0 end), " FILLER
                         " from generate_series(1, 3) i");
    assert_int_equal(pull(stream, &page), ERR_OK);
    page = pg_stream_next(stream);
    run_turns(world.loop, 100);
    assert_int_equal(page->state, OP_PENDING); /* it does not go on */
    pg_world_jump(&world, LONG_MS + 1);
    assert_int_equal(pg_world_await(&world, page), ERR_DEADLINE);
    stream = open_stream("select generate_series(1, 3000000) as i");
    pg_world_jump(&world, LONG_MS + 1); /* nobody pulls */
    assert_int_equal(pull(stream, &page), ERR_OK);
    assert_int_equal(pg_rows(page), 1); /* it has come before */
    assert_int_equal(pull(stream, &page), ERR_DEADLINE);
    until_free();
    expect_stopped("select");
    assert_int_equal(counts()->sessions_lost, 0);
}

static void test_a_stream_that_moves_may_take_its_time(void **state)
{
    struct op *stream, *page;
    uint32_t count = 0, pages = 0;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = open_stream("select i, " FILLER " from generate_series(1, 100) i");
    do {
        pg_world_jump(&world, LONG_MS - LONG_MS / 4);
        assert_int_equal(pull(stream, &page), ERR_OK);
        count += pg_rows(page);
        pages++;
    } while (pg_rows(page) > 0);
    assert_int_equal(count, 100);
    assert_true(pages > 4);
}

/* ---- canceled ---- */

static void test_canceled_in_line(void **state)
{
    struct op *first, *second;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    first = open_stream("select generate_series(1, 3000000) as i");
    second = start("select 2");
    run_for(world.loop, 20);
    op_cancel(second);
    assert_int_equal(second->status, ERR_CANCELED);
    assert_int_equal(op_release(first), ERR_OK);
    until_free();
}

static void test_canceled_before_the_first_row(void **state)
{
    struct op *stream;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = start("select pg_sleep(60)");
    run_for(world.loop, 50);
    op_cancel(stream);
    assert_int_equal(stream->status, ERR_CANCELED);
    until_free();
    expect_stopped("select pg_sleep");
    assert_int_equal(counts()->sessions_lost, 0);
}

/* That is no end of the stream: who waits for it or for a clock may come back. */
static void test_a_pull_canceled(void **state)
{
    struct op *stream, *page;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream =
        open_stream("select i, pg_sleep((i - 1) * 0.1), " FILLER " from generate_series(1, 3) i");
    assert_int_equal(pull(stream, &page), ERR_OK);
    assert_int_equal(pg_int(page, 0, 0), 1);
    page = pg_stream_next(stream);
    run_turns(world.loop, 1);
    op_cancel(page);
    assert_int_equal(page->status, ERR_CANCELED);
    assert_int_equal(pull(stream, &page), ERR_OK);
    assert_int_equal(pg_int(page, 0, 0), 2);
    assert_int_equal(op_release(page), ERR_OK);
    assert_int_equal(pull(stream, &page), ERR_OK);
    assert_int_equal(pg_int(page, 0, 0), 3);
}

static void test_the_scope_canceled(void **state)
{
    struct op *stream, *page;
    uint64_t began_us;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = open_stream("select i, pg_sleep(case when i > 2 then 60 else 0 end), " FILLER
                         " from generate_series(1, 3) i");
    assert_int_equal(pull(stream, &page), ERR_OK);
    page = pg_stream_next(stream);
    run_for(world.loop, 20);
    began_us = clock_monotonic_us();
    scope_cancel(world.scope, SCOPE_CLIENT_GONE);
    assert_int_equal(page->status, ERR_CANCELED);
    assert_int_equal(pg_stream_next(stream)->status, ERR_CANCELED);
    until_free();
    expect_stopped("select i, pg_sleep");
    print_message("gone after %u ms\n", (unsigned)((clock_monotonic_us() - began_us) / 1000));
    pg_world_renew(&world);
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
    assert_int_equal(start("select 1")->state, OP_PENDING); /* the world's end cancels it */
}

static void test_born_canceled(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    scope_cancel(world.scope, SCOPE_CLIENT_GONE);
    assert_int_equal(start("select 1")->status, ERR_CANCELED);
}

static void test_the_scope_ends(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    (void)open_stream("select generate_series(1, 3000000) as i");
    pg_world_renew(&world);
    until_free();
    expect_stopped("select generate_series");
    assert_true(counts()->cancels_sent >= 1); /* again where the server takes its time */
    assert_int_equal(counts()->sessions_lost, 0);
}

/* Nobody can tell the server behind it to stop. */
static void test_a_poolers_session_is_closed(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.is_prepared = false;
    pg_world_start(&world);
    assert_int_equal(drain(open_stream("select i from generate_series(1, 1000) i")), 1000);
    (void)open_stream("select generate_series(1, 3000000) as i");
    pg_world_renew(&world);
    until_free();
    expect_stopped("select generate_series");
    assert_int_equal(counts()->cancels_sent, 0);
    assert_int_equal(counts()->sessions_lost, 0); /* it was closed, by ourselves */
}

/* ---- on a transaction ---- */

static struct pg_transaction *begin(struct op **op)
{
    *op = pg_begin(world.scope, world.pool, 0);
    assert_int_equal(pg_world_await(&world, *op), ERR_OK);
    return pg_transaction_of(*op);
}

static struct op *start_on(struct pg_transaction *transaction, const char *sql)
{
    return pg_stream_start(world.scope,
                           &(struct pg_call){.transaction = transaction, .sql = span_of(sql)});
}

static struct op *run_on(struct pg_transaction *transaction, const char *sql)
{
    struct op *op = pg_query_start(
        world.scope, &(struct pg_call){.transaction = transaction, .sql = span_of(sql)});

    (void)pg_world_await(&world, op);
    return op;
}

static void test_on_a_transaction(void **state)
{
    struct pg_transaction *transaction;
    struct op *op, *stream;

    (void)state;
    pg_server_need(&server);
    world.options.statement_timeout_ms = LONG_MS;
    pg_world_start(&world);
    transaction = begin(&op);
    (void)run_on(transaction, "insert into t select generate_series(1, 50000)");
    assert_int_equal(run_on(transaction, "set local statement_timeout = '1500ms'")->status, ERR_OK);
    stream = start_on(transaction, "select id from t order by id");
    assert_int_equal(run_on(transaction, "select 1")->status, ERR_STATE);
    assert_int_equal(pg_world_await(&world, stream), ERR_OK);
    assert_int_equal(run_on(transaction, "select 1")->status, ERR_STATE);
    assert_int_equal(start_on(transaction, "select 1")->status, ERR_STATE);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_STATE);
    run_for(world.loop, 1600); /* the server's limit would have ended it */
    assert_int_equal(drain(stream), 50000);
    pg_world_check(run_on(transaction, "show statement_timeout"), "1500ms");
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    assert_string_equal(pg_server_run(&server, "select count(*) from t"), "50000");
    until_free();
    assert_int_equal(counts()->sessions_lost, 0);
}

/* Pulls to the end, whichever that is. */
static enum err end_of(struct op *stream, uint32_t *rows)
{
    struct op *page;
    enum err err = pg_world_await(&world, stream);

    *rows = 0;
    while (err == ERR_OK) {
        err = pull(stream, &page);
        if (err == ERR_OK && pg_rows(page) == 0)
            return ERR_OK;
        *rows += err == ERR_OK ? pg_rows(page) : 0;
    }
    return err;
}

/* Behind a pooler nothing may be set for a session, and so the role's limit can be lifted in a
 * transaction only. */
static void test_the_roles_limit_is_lifted_on_a_transaction(void **state)
{
    static const char sql[] = "select pg_sleep(0.1) from generate_series(1, 6)";
    struct pg_transaction *transaction;
    struct op *op;
    uint32_t rows;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run_as(&server, "postgres", "alter role weft set statement_timeout = '300ms'");
    world.options.is_prepared = false;
    pg_world_start(&world);
    assert_int_equal(end_of(start(sql), &rows), ERR_DEADLINE);
    transaction = begin(&op);
    assert_int_equal(end_of(start_on(transaction, sql), &rows), ERR_OK);
    assert_int_equal(rows, 6);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    (void)pg_server_run_as(&server, "postgres", "alter role weft reset statement_timeout");
    assert_int_equal(counts()->sessions_lost, 0);
}

static void test_given_up_on_a_transaction(void **state)
{
    struct pg_transaction *transaction;
    struct op *op, *stream;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin(&op);
    stream = start_on(transaction, "select generate_series(1, 3000000) as i");
    assert_int_equal(pg_world_await(&world, stream), ERR_OK);
    assert_int_equal(op_release(stream), ERR_OK);
    assert_int_equal(run_on(transaction, "select 1")->status, ERR_STATE);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_STATE);
    assert_int_equal(pg_world_await(&world, pg_rollback(transaction)), ERR_OK);
    until_free();
    assert_int_equal(counts()->sessions_lost, 0);
}

static void test_rolled_back_with_a_stream(void **state)
{
    struct op *op, *stream, *page;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = start_on(begin(&op), "select generate_series(1, 3000000) as i");
    assert_int_equal(pg_world_await(&world, stream), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_rollback(pg_transaction_of(op))), ERR_OK);
    assert_int_equal(pull(stream, &page), ERR_OK); /* what came before */
    assert_int_equal(pull(stream, &page), ERR_STATE);
    stream = start_on(begin(&op), "select pg_sleep(60)"); /* before its first row */
    run_for(world.loop, 50);
    assert_int_equal(op_release(op), ERR_OK);
    assert_int_equal(pg_world_await(&world, stream), ERR_STATE);
    until_free();
    expect_stopped("select");
    assert_int_equal(counts()->sessions_lost, 0);
}

static void test_a_transaction_lost(void **state)
{
    struct pg_transaction *transaction;
    struct op *op, *stream, *page;
    enum err err;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin(&op);
    stream = start_on(transaction, "select generate_series(1, 3000000) as i");
    assert_int_equal(pg_world_await(&world, stream), ERR_OK);
    kill_backends();
    while ((err = pull(stream, &page)) == ERR_OK)
        assert_true(pg_rows(page) > 0);
    assert_int_equal(err, ERR_DB_DOWN);
    assert_false(pg_maybe_applied(page));
    assert_int_equal(run_on(transaction, "select 1")->status, ERR_DB_DOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_row_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parameters_and_declared_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_rows_and_no_result, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_is_constant, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_reads_while_nobody_pulls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_servers_limit_is_for_statements_only, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_refused_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_error_behind_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_read_only_cannot_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_row_too_large, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_session_breaks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_pulls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_stands_still, set_up_ahead, tear_down),
        cmocka_unit_test_setup_teardown(test_a_stream_that_moves_may_take_its_time, set_up_ahead,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_canceled_in_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_canceled_before_the_first_row, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_pull_canceled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_scope_canceled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_born_canceled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_scope_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_poolers_session_is_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_on_a_transaction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_roles_limit_is_lifted_on_a_transaction, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_on_a_transaction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rolled_back_with_a_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_transaction_lost, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
