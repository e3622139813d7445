/* Goal: COPY brings and takes every byte once, at constant memory; what is copied in takes effect
 *       whole, with its end, or not at all; errors tell the line, and soon; given up in any state,
 *       the session comes back clean, in its pipeline and with its settings, or is closed. */
#include "base/clock.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/copy.h"
#include "pg/copying.h"
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
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "create table t (id int primary key, text text)");
    (void)pg_server_run(&server, "create table slow (id int)");
    (void)pg_server_run(&server,
                        "create function wait() returns trigger language plpgsql as $$ begin "
                        "raise notice 'EEEE waits'; perform pg_advisory_xact_lock(7); return new; "
                        "end $$");
    (void)pg_server_run(&server, "create trigger waits before insert on slow for each row "
                                 "execute function wait()");
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
    (void)pg_server_run(&server, "truncate t, slow");
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
    (void)pg_server_run(&server, "truncate t, slow");
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

static struct op *start_out(const char *sql)
{
    return pg_copy_out(world.scope,
                       &(struct pg_call){.pool = world.pool, .sql = span_of(sql), .is_copy = true});
}

static struct op *start_in(const char *sql)
{
    return pg_copy_in(world.scope,
                      &(struct pg_call){.pool = world.pool, .sql = span_of(sql), .is_copy = true});
}

static struct op *opened(struct op *op)
{
    enum err err = pg_world_await(&world, op);

    if (err != ERR_OK)
        fail_msg("%s: %.*s", err_name(err), SPAN_ARG(op->error));
    return op;
}

static enum err read_on(struct op *stream, struct op **read)
{
    *read = pg_copy_read(stream);
    return pg_world_await(&world, *read);
}

static enum err write_text(struct op *stream, const char *text)
{
    return pg_world_await(&world, pg_copy_write(stream, span_of(text)));
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

static void expect_count(const char *count)
{
    assert_string_equal(pg_server_run(&server, "select count(*) from t"), count);
}

/* The session is as it was: in a pipeline, with the server's limit. */
static void expect_well(void)
{
    until_free();
    for (int i = 0; i < 3; i++)
        pg_world_check(pg_world_run(&world, "show statement_timeout"), "5s");
    assert_int_equal(counts()->sessions_lost, 0);
}

static void expect_stopped(void)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    while (strcmp(pg_server_run(&server, "select count(*) from pg_stat_activity where "
                                         "application_name = 'weft' and state = 'active' and "
                                         "query like 'copy%'"),
                  "0") != 0) {
        if (clock_monotonic_us() > end_us)
            fail_msg("the server still copies");
        run_for(world.loop, 10);
    }
}

static void fill(uint32_t count)
{
    char sql[128];

    (void)snprintf(sql, sizeof sql,
                   "insert into t select i, 'row ' || i from generate_series(1, %u) i", count);
    (void)pg_server_run(&server, sql);
}

/* ---- done ---- */

static void test_every_byte_out(void **state)
{
    struct buf whole = {0};
    struct op *stream, *read;
    const char *at;

    (void)state;
    pg_server_need(&server);
    fill(50000);
    pg_world_start(&world);
    stream = opened(start_out("copy (select * from t order by id) to stdout"));
    do {
        assert_int_equal(read_on(stream, &read), ERR_OK);
        if (read->piece.ptr != NULL) {
            assert_true(read->piece.len > 0 && read->piece.len < 2 * 64 * 1024);
            assert_int_equal(read->piece.ptr[read->piece.len], '\0');
            assert_int_equal(read->piece.ptr[read->piece.len - 1], '\n');
            buf_append(&whole, read->piece);
        }
    } while (read->piece.ptr != NULL);
    buf_append(&whole, (struct span){"", 1});
    at = whole.data;
    for (int i = 1; i <= 50000; i++) {
        char line[64];

        (void)snprintf(line, sizeof line, "%d\trow %d\n", i, i);
        assert_memory_equal(at, line, strlen(line));
        at += strlen(line);
    }
    assert_string_equal(at, "");
    buf_release(&whole);
    assert_int_equal(pg_affected(stream), 50000);
    assert_int_equal(read_on(stream, &read), ERR_OK); /* the end stays the end */
    assert_null(read->piece.ptr);
    expect_well();
}

static void test_nothing_out(void **state)
{
    struct op *stream, *read;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(start_out("/* a comment */ Copy t To stdout"));
    assert_int_equal(read_on(stream, &read), ERR_OK);
    assert_null(read->piece.ptr);
    assert_int_equal(pg_affected(stream), 0);
    expect_well();
}

/* Rows are cut anywhere, and writes not awaited. */
static void test_every_byte_in(void **state)
{
    struct op *stream, *end, *ops[100];
    char text[4000], *at = text;
    size_t left;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (int i = 1; i <= 200; i++)
        at += snprintf(at, (size_t)(text + sizeof text - at), "%d\tsome\\ttext\n", i);
    left = (size_t)(at - text);
    stream = opened(start_in("copy t from stdin"));
    at = text;
    for (size_t i = 0; i < 100; i++) {
        size_t size = i == 99 ? left : left / (100 - i);

        ops[i] = pg_copy_write(stream, (struct span){at, size});
        at += size;
        left -= size;
    }
    assert_int_equal(left, 0);
    end = pg_copy_end(stream);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
    assert_int_equal(pg_world_await(&world, end), ERR_OK);
    assert_int_equal(pg_affected(end), 200);
    assert_false(pg_maybe_applied(end));
    expect_count("200");
    assert_string_equal(pg_server_run(&server, "select text from t where id = 7"), "some\ttext");
    assert_int_equal(pg_copy_write(stream, SPAN("1\n"))->status, ERR_STATE);
    assert_int_equal(pg_copy_end(stream)->status, ERR_STATE);
    expect_well();
}

static void test_nothing_in(void **state)
{
    struct op *stream, *end;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(start_in("copy t from stdin"));
    assert_int_equal(write_text(stream, ""), ERR_OK);
    end = pg_copy_end(stream);
    assert_int_equal(pg_world_await(&world, end), ERR_OK);
    assert_int_equal(pg_affected(end), 0);
    expect_well();
}

static void test_memory_is_constant(void **state)
{
    struct op *stream;
    char text[1000];
    size_t bytes = 0;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(start_in("copy t from stdin (format csv)"));
    for (int i = 0; i < 2000; i++) {
        (void)snprintf(text, sizeof text, "%d,%0900d\n", i, i);
        assert_int_equal(write_text(stream, text), ERR_OK);
        if (i == 1)
            bytes = world.scope->arena.bytes;
    }
    assert_int_equal(world.scope->arena.bytes, bytes);
    assert_int_equal(pg_world_await(&world, pg_copy_end(stream)), ERR_OK);
    expect_count("2000");
    stream = opened(start_out("copy t to stdout"));
    bytes = 0;
    for (struct op *read = stream; read == stream || read->piece.ptr != NULL;) {
        assert_int_equal(read_on(stream, &read), ERR_OK);
        bytes = bytes > 0 ? bytes : world.scope->arena.bytes;
    }
    assert_int_equal(world.scope->arena.bytes, bytes);
}

/* What a client may do in one write: the plugin has it anyway. */
static void test_a_large_write(void **state)
{
    enum { SIZE = 8 * 1024 * 1024 };
    char *text = malloc(SIZE);
    struct op *stream;

    (void)state;
    if (server.is_missing)
        free(text);
    pg_server_need(&server);
    pg_world_start(&world);
    memset(text, 'x', SIZE);
    memcpy(text, "1\t", 2);
    text[SIZE - 1] = '\n';
    stream = opened(start_in("copy t from stdin"));
    assert_int_equal(pg_world_await(&world, pg_copy_write(stream, (struct span){text, SIZE})),
                     ERR_OK);
    free(text);
    assert_int_equal(pg_world_await(&world, pg_copy_end(stream)), ERR_OK);
    assert_string_equal(pg_server_run(&server, "select length(text) from t"), "8388605");
}

/* The trigger of `slow` says something for each row. */
static void test_notices_do_no_harm(void **state)
{
    struct op *stream, *end;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(start_in("copy slow from stdin"));
    for (int i = 0; i < 300; i++) {
        assert_int_equal(write_text(stream, "1\n2\n3\n"), ERR_OK);
        run_turns(world.loop, 1);
    }
    end = pg_copy_end(stream);
    assert_int_equal(pg_world_await(&world, end), ERR_OK);
    assert_int_equal(pg_affected(end), 900);
    expect_well();
}

/* ---- back pressure, and neighbours ---- */

static void test_writes_wait_for_the_server(void **state)
{
    static char rows[64 * 1024];
    struct op *stream, *op, *holder;
    enum err err = ERR_OK;
    int count = 0;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 3;
    memset(rows, '\n', sizeof rows);
    for (size_t i = 0; i + 1 < sizeof rows; i += 2)
        rows[i] = '1';
    pg_world_start(&world);
    holder = pg_begin(world.scope, world.pool, 0);
    (void)opened(holder);
    op = pg_query_start(world.scope,
                        &(struct pg_call){.transaction = pg_transaction_of(holder),
                                          .sql = SPAN("select pg_advisory_xact_lock(7)")});
    (void)opened(op);
    stream = opened(start_in("copy slow from stdin"));
    while (err == ERR_OK && ++count < 1000) {
        op = pg_copy_write(stream, (struct span){rows, sizeof rows});
        run_turns(world.loop, 1);
        err = op->state == OP_PENDING ? ERR_OK : op->status;
    }
    assert_int_equal(err, ERR_OVERLOAD);
    assert_true(count < 40);
    op = pg_copy_end(stream);
    run_for(world.loop, 30);
    assert_int_equal(op->state, OP_PENDING);
    assert_int_equal(pg_world_await(&world, pg_rollback(pg_transaction_of(holder))), ERR_OK);
    op_cancel(op); /* it would take a while */
    assert_true(pg_maybe_applied(op));
    until_free();
    expect_stopped();
}

static void test_nobody_reads_while_nobody_pulls(void **state)
{
    struct op *stream;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(start_out("copy (select generate_series(1, 10000000)) to stdout"));
    run_for(world.loop, 50);
    assert_string_equal(pg_server_run(&server, "select wait_event from pg_stat_activity where "
                                               "application_name = 'weft' and state = 'active'"),
                        "ClientWrite");
    pg_world_check(pg_world_run(&world, "select 'beside'"), "beside");
    assert_int_equal(op_release(stream), ERR_OK);
    expect_well();
    expect_stopped();
}

/* ---- failed ---- */

/* Refused before it was sent, or by what the server makes of it. */
static void expect_other_way(struct op *op, bool is_at_once)
{
    assert_int_equal(op->state == OP_PENDING, !is_at_once);
    assert_int_equal(pg_world_await(&world, op), ERR_INVALID);
    assert_non_null(strstr(op->error.ptr, "COPY"));
    if (is_at_once)
        assert_false(pg_maybe_applied(op));
}

/* What looks like one way is the other one where a backslash escapes in strings: only the server
 * knows, and what it reads from us for nobody may have done something. */
static void test_the_server_knows_the_way(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "alter role weft set standard_conforming_strings = off");
    pg_world_start(&world);
    op = start_in("copy (insert into t select 1 where '\\') from stdin --' > '' returning id) "
                  "to stdout");
    expect_other_way(op, false);
    assert_true(pg_maybe_applied(op));
    expect_well();
    (void)pg_server_run(&server, "alter role weft reset standard_conforming_strings");
}

static void test_refused_at_once(void **state)
{
    struct op *op, *read;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    assert_int_equal(start_out("select 1")->status, ERR_INVALID);
    assert_int_equal(start_in("")->status, ERR_INVALID);
    assert_int_equal(start_out("copy t to program 'cat > /dev/null'")->status, ERR_INVALID);
    assert_int_equal(start_in("copy t from program 'echo 1'")->status, ERR_INVALID);
    assert_int_equal(start_in("copy t from '/dev/null'")->status, ERR_INVALID);
    op = start_out("copy nowhere to stdout");
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    assert_string_equal(pg_sqlstate(op).ptr, "42P01");
    assert_int_equal(read_on(op, &read), ERR_STATE);
    op = start_in("copy t from stdin; drop table t"); /* one statement only */
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    assert_int_equal(pg_copy_write(op, SPAN("x"))->status, ERR_STATE);
    expect_other_way(start_out("copy t from stdin"), true);
    expect_other_way(start_in("copy (insert into t values (1) returning id) to stdout"), true);
    expect_count("0");
    op = opened(start_out("copy t to stdout"));
    assert_int_equal(pg_stream_next(op)->status, ERR_STATE);
    assert_int_equal(pg_copy_write(op, SPAN("x"))->status, ERR_STATE);
    assert_int_equal(pg_copy_end(op)->status, ERR_STATE);
    assert_int_equal(read_on(op, &read), ERR_OK);
    expect_well();
}

static void test_an_error_tells_the_line(void **state)
{
    struct op *stream, *end;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(start_in("copy t from stdin"));
    assert_int_equal(write_text(stream, "1\ta\nzwei\tb\n"), ERR_OK);
    end = pg_copy_end(stream);
    assert_int_equal(pg_world_await(&world, end), ERR_DB_VALUE);
    assert_string_equal(end->error.ptr, "invalid input syntax for type integer: \"zwei\" "
                                        "(COPY t, line 2, column id: \"zwei\")");
    assert_string_equal(pg_sqlstate(end).ptr, "22P02");
    stream = opened(start_in("copy t from stdin"));
    assert_int_equal(write_text(stream, "1\ta\n1\tb\n"), ERR_OK);
    end = pg_copy_end(stream);
    assert_int_equal(pg_world_await(&world, end), ERR_DB_CONSTRAINT);
    assert_false(pg_maybe_applied(end));
    stream = opened(start_in("copy t from stdin"));
    assert_int_equal(write_text(stream, "1\n"), ERR_OK);
    end = pg_copy_end(stream);
    assert_int_equal(pg_world_await(&world, end), ERR_DB_VALUE);
    assert_string_equal(pg_sqlstate(end).ptr, "22P04");
    expect_count("0");
    expect_well();
}

/* Without that a client sends gigabytes in vain. */
static void test_an_error_is_known_before_the_end(void **state)
{
    struct op *stream, *op;
    enum err err = ERR_OK;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(start_in("copy t from stdin"));
    for (int i = 0; i < 1000 && err == ERR_OK; i++) {
        err = write_text(stream, "zwei\n");
        run_for(world.loop, 1);
    }
    assert_int_equal(err, ERR_DB_VALUE);
    op = pg_copy_write(stream, SPAN("more"));
    assert_int_equal(op->status, ERR_DB_VALUE); /* and stays */
    assert_int_equal(pg_copy_end(stream)->status, ERR_DB_VALUE);
    expect_count("0");
    expect_well();
}

static void test_an_error_behind_data(void **state)
{
    struct op *stream, *read;
    size_t bytes = 0;
    enum err err;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(
        start_out("copy (select 1 / (50001 - i) from generate_series(1, 100000) i) to stdout"));
    while ((err = read_on(stream, &read)) == ERR_OK) {
        assert_non_null(read->piece.ptr);
        bytes += read->piece.len;
    }
    assert_int_equal(bytes, 2 * 50000);
    assert_int_equal(err, ERR_DB);
    assert_string_equal(pg_sqlstate(read).ptr, "22012");
    assert_null(read->piece.ptr);
    expect_well();
}

static void test_a_row_too_large(void **state)
{
    struct op *stream, *read;
    enum err err;

    (void)state;
    pg_server_need(&server);
    world.options.result_max = 1024 * 1024;
    pg_world_start(&world);
    stream = opened(start_out("copy (select repeat('x', 900000 * i) from generate_series(1, 4) i) "
                              "to stdout"));
    while ((err = read_on(stream, &read)) == ERR_OK)
        assert_non_null(read->piece.ptr);
    assert_int_equal(err, ERR_DB);
    assert_string_equal(read->error.ptr, "a row is larger than result_max");
}

static void kill_backends(void)
{
    (void)pg_server_run(&server, "select pg_terminate_backend(pid) from pg_stat_activity where "
                                 "application_name = 'weft'");
}

static void test_the_session_breaks(void **state)
{
    struct op *stream, *read, *end;
    enum err err;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    stream = opened(start_out("copy (select generate_series(1, 3000000)) to stdout"));
    kill_backends();
    while ((err = read_on(stream, &read)) == ERR_OK)
        assert_non_null(read->piece.ptr);
    assert_int_equal(err, ERR_DB_DOWN);
    assert_true(pg_maybe_applied(read));
    while (counts()->sessions_lost == 0)
        loop_turn(world.loop, 10);
    stream = opened(start_in("copy t from stdin"));
    assert_int_equal(write_text(stream, "1\ta\n"), ERR_OK);
    kill_backends();
    while ((err = write_text(stream, "2\tb\n")) == ERR_OK)
        run_turns(world.loop, 1);
    assert_int_equal(err, ERR_DB_DOWN);
    end = pg_copy_end(stream);
    assert_int_equal(end->status, ERR_DB_DOWN);
    assert_false(pg_maybe_applied(end));
    expect_count("0");
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

/* Until the server runs something that begins like this. */
static void until_active(const char *begin)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;
    char sql[256];

    (void)snprintf(sql, sizeof sql,
                   "select count(*) from pg_stat_activity where application_name = 'weft' and "
                   "state = 'active' and query like '%s%%'",
                   begin);
    while (strcmp(pg_server_run(&server, sql), "0") == 0) {
        if (clock_monotonic_us() > end_us)
            fail_msg("the server does not run %s", begin);
        run_turns(world.loop, 10);
    }
}

/* It waits for a lock, and nothing was written to it: then it has done nothing. What is read may
 * have, as far as anybody knows. */
static void test_nothing_happens_while_it_opens(void **state)
{
    static const char *const in = "copy t from stdin",
                             *const out = "copy (insert into t values (1) returning id) to stdout";

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < 4; i++) {
        bool is_in = i % 2 == 0, is_killed = i / 2 == 0;
        struct op *holder, *op;

        pg_world_again(&world);
        pg_world_start(&world);
        holder = opened(pg_begin(world.scope, world.pool, 0));
        (void)opened(pg_query_start(
            world.scope, &(struct pg_call){.transaction = pg_transaction_of(holder),
                                           .sql = SPAN("lock table t in exclusive mode")}));
        op = is_in ? start_in(in) : start_out(out);
        until_active("copy");
        if (is_killed) /* not who holds the lock */
            (void)pg_server_run(&server, "select pg_terminate_backend(pid) from pg_stat_activity "
                                         "where application_name = 'weft' and query like 'copy%'");
        else
            op_cancel(op);
        assert_int_equal(pg_world_await(&world, op), is_killed ? ERR_DB_DOWN : ERR_CANCELED);
        assert_int_equal(pg_maybe_applied(op), !is_in);
        expect_count("0");
        expect_stopped();
    }
}

/* ---- timed out ---- */

static void test_it_stands_still(void **state)
{
    struct op *stream, *read;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(start_in("copy t from stdin")); /* nobody writes */
    assert_int_equal(write_text(stream, "1\ta\n"), ERR_OK);
    pg_world_jump(&world, LONG_MS + 1);
    assert_int_equal(pg_copy_end(stream)->status, ERR_DEADLINE);
    stream = opened(start_out("copy (select generate_series(1, 3000000)) to stdout"));
    pg_world_jump(&world, LONG_MS + 1); /* nobody reads */
    assert_int_equal(read_on(stream, &read), ERR_DEADLINE);
    stream = start_out("copy (select pg_sleep(60)) to stdout");
    until_active("copy (select pg_sleep(60))");
    assert_int_equal(stream->state, OP_PENDING);
    pg_world_jump(&world, LONG_MS + 1);
    assert_int_equal(pg_world_await(&world, stream), ERR_DEADLINE); /* the server does not answer */
    expect_count("0");
    expect_well();
    expect_stopped();
}

/* ---- canceled ---- */

static void test_given_up_in_line(void **state)
{
    struct op *first, *second;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    first = opened(start_in("copy t from stdin"));
    second = start_in("copy t from stdin");
    run_for(world.loop, 20);
    op_cancel(second);
    assert_int_equal(second->status, ERR_CANCELED);
    assert_int_equal(write_text(first, "1\ta\n"), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_copy_end(first)), ERR_OK);
    expect_count("1");
    expect_well();
}

/* On a busy machine it may be open by now. */
static void give_up(struct op *op)
{
    if (op->state == OP_PENDING)
        op_cancel(op);
    else
        assert_int_equal(op_release(op), ERR_OK);
}

static void test_given_up_before_it_is_open(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    for (int turns = 0; turns < 6; turns++) {
        op = start_in("copy t from stdin");
        run_turns(world.loop, (uint32_t)turns);
        give_up(op);
        op = start_out("copy t to stdout");
        run_turns(world.loop, (uint32_t)turns);
        give_up(op);
        expect_well();
    }
}

/* The text of the COPY goes with its request, which the server may not have been sent by then: the
 * limit comes first. */
static void test_its_request_ends_before_it_is_open(void **state)
{
    char limit[32];

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 1;
    pg_world_start(&world);
    (void)snprintf(limit, sizeof limit, "%s",
                   pg_text(pg_world_run(&world, "show statement_timeout"), 0, 0).ptr);
    for (int turns = 0; turns < 6; turns++) {
        (void)start_in("copy t from stdin");
        run_turns(world.loop, (uint32_t)turns);
        pg_world_renew(&world);
        expect_well();
        (void)start_out("copy t to stdout");
        run_turns(world.loop, (uint32_t)turns);
        pg_world_renew(&world);
        expect_well();
    }
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
    pg_world_check(pg_world_run(&world, "show statement_timeout"), limit);
}

static void test_given_up_while_it_is_written_to(void **state)
{
    struct op *stream, *write;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(start_in("copy t from stdin"));
    assert_int_equal(write_text(stream, "1\ta\n"), ERR_OK);
    assert_int_equal(op_release(stream), ERR_OK);
    expect_well();
    stream = opened(start_in("copy t from stdin"));
    write = pg_copy_write(stream, SPAN("1\ta\n"));
    scope_cancel(world.scope, SCOPE_CLIENT_GONE);
    assert_int_equal(write->status, ERR_CANCELED);
    assert_int_equal(pg_copy_end(stream)->status, ERR_CANCELED);
    pg_world_renew(&world);
    expect_well();
    expect_count("0");
}

/* It has left already: the rows stay what they are. */
static void test_a_write_canceled(void **state)
{
    struct op *stream, *write;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(start_in("copy t from stdin"));
    write = pg_copy_write(stream, SPAN("1\ta\n"));
    op_cancel(write);
    assert_int_equal(write->status, ERR_CANCELED);
    assert_int_equal(pg_world_await(&world, pg_copy_end(stream)), ERR_OK);
    expect_count("1");
    expect_well();
}

static void test_given_up_while_it_ends(void **state)
{
    struct op *stream, *end, *holder, *op;

    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 3;
    pg_world_start(&world);
    holder = opened(pg_begin(world.scope, world.pool, 0));
    op = pg_query_start(world.scope,
                        &(struct pg_call){.transaction = pg_transaction_of(holder),
                                          .sql = SPAN("select pg_advisory_xact_lock(7)")});
    (void)opened(op);
    stream = opened(start_in("copy slow from stdin"));
    assert_int_equal(write_text(stream, "1\n"), ERR_OK);
    end = pg_copy_end(stream);
    run_for(world.loop, 50);
    assert_int_equal(end->state, OP_PENDING);
    op_cancel(end);
    assert_true(pg_maybe_applied(end));
    expect_stopped(); /* though the lock is held */
    assert_int_equal(pg_world_await(&world, pg_rollback(pg_transaction_of(holder))), ERR_OK);
    expect_well();
    assert_string_equal(pg_server_run(&server, "select count(*) from slow"), "0");
}

static void test_given_up_while_it_is_read(void **state)
{
    struct op *stream, *read;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(start_out("copy (select i, repeat('x', 9000), "
                              "pg_sleep(case when i > 2 then 60 else 0 end) "
                              "from generate_series(1, 4) i) to stdout"));
    assert_int_equal(read_on(stream, &read), ERR_OK);
    read = pg_copy_read(stream);
    run_for(world.loop, 20);
    scope_cancel(world.scope, SCOPE_CLIENT_GONE);
    assert_int_equal(read->status, ERR_CANCELED);
    pg_world_renew(&world);
    expect_stopped();
    expect_well();
    (void)opened(start_out("copy (select generate_series(1, 3000000)) to stdout"));
    pg_world_renew(&world);
    expect_stopped();
    expect_well();
}

/* What a read has brought goes with the stream, though its op stays: half read, and at the end. */
static void test_what_was_read_goes(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (uint32_t rows = 1; rows <= 1000000; rows *= 1000000) {
        struct op *stream, *read;
        char sql[128];

        (void)snprintf(sql, sizeof sql,
                       "copy (select repeat('x', 99) from generate_series(1, %u)) to stdout", rows);
        stream = opened(start_out(sql));
        assert_int_equal(read_on(stream, &read), ERR_OK);
        assert_in_range(read->piece.len, 100, SIZE_MAX);
        assert_int_equal(op_release(stream), ERR_OK);
        assert_null(read->piece.ptr);
        assert_int_equal(read->piece.len, 0);
        assert_int_equal(read->status, ERR_OK);
    }
    expect_stopped();
    expect_well();
}

static void test_behind_a_pooler(void **state)
{
    struct op *stream, *end;

    (void)state;
    pg_server_need(&server);
    world.options.is_prepared = false;
    pg_world_start(&world);
    stream = opened(start_in("copy t from stdin"));
    assert_int_equal(write_text(stream, "1\ta\n"), ERR_OK);
    end = pg_copy_end(stream);
    assert_int_equal(pg_world_await(&world, end), ERR_OK);
    pg_world_check(pg_world_run(&world, "select count(*) from t"), "1");
    (void)opened(start_in("copy t from stdin"));
    pg_world_renew(&world);
    until_free();
    expect_stopped();
    assert_int_equal(counts()->cancels_sent, 0);
    assert_int_equal(counts()->sessions_lost, 0); /* it was closed, by ourselves */
    pg_world_check(pg_world_run(&world, "select 'well'"), "well");
}

/* ---- on a transaction ---- */

static struct pg_transaction *begin(struct op **op)
{
    *op = opened(pg_begin(world.scope, world.pool, 0));
    return pg_transaction_of(*op);
}

static struct op *run_on(struct pg_transaction *transaction, const char *sql)
{
    struct op *op = pg_query_start(
        world.scope, &(struct pg_call){.transaction = transaction, .sql = span_of(sql)});

    (void)pg_world_await(&world, op);
    return op;
}

static struct op *in_on(struct pg_transaction *transaction)
{
    return pg_copy_in(world.scope, &(struct pg_call){.transaction = transaction,
                                                     .sql = SPAN("copy t from stdin"),
                                                     .is_copy = true});
}

static void test_on_a_transaction(void **state)
{
    struct pg_transaction *transaction;
    struct op *op, *stream, *before;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    transaction = begin(&op);
    before = pg_query_start(world.scope,
                            &(struct pg_call){.transaction = transaction,
                                              .sql = SPAN("insert into t values (1, 'before')")});
    stream = in_on(transaction); /* right behind it */
    assert_int_equal(run_on(transaction, "select 1")->status, ERR_STATE);
    (void)opened(stream);
    assert_int_equal(before->status, ERR_OK);
    assert_int_equal(write_text(stream, "2\tb\n3\tc\n"), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_STATE);
    assert_int_equal(pg_world_await(&world, pg_copy_end(stream)), ERR_OK);
    pg_world_check(run_on(transaction, "select count(*) from t"), "3");
    pg_world_check(run_on(transaction, "show statement_timeout"), "5s");
    expect_count("0");
    assert_int_equal(pg_world_await(&world, pg_commit(transaction)), ERR_OK);
    expect_count("3");
    expect_well();
}

static void test_rolled_back_meanwhile(void **state)
{
    struct op *op, *stream, *write;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    stream = opened(in_on(begin(&op)));
    write = pg_copy_write(stream, SPAN("1\ta\n"));
    assert_int_equal(pg_world_await(&world, pg_rollback(pg_transaction_of(op))), ERR_OK);
    assert_int_equal(write->status, ERR_STATE);
    expect_well();
    stream = opened(in_on(begin(&op)));
    assert_int_equal(write_text(stream, "1\ta\n"), ERR_OK);
    assert_int_equal(op_release(op), ERR_OK); /* the transaction goes with its op */
    assert_int_equal(pg_copy_end(stream)->status, ERR_STATE);
    expect_well();
    stream = opened(in_on(begin(&op)));
    assert_int_equal(op_release(stream), ERR_OK);
    assert_int_equal(run_on(pg_transaction_of(op), "select 1")->status, ERR_STATE);
    pg_world_renew(&world);
    expect_well();
    expect_count("0");
}

/* What ends behind a COPY is undone when that has ended. */
static void test_a_nested_one_ends_meanwhile(void **state)
{
    struct op *op, *nested, *stream;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    (void)begin(&op);
    nested = opened(pg_begin_nested(world.scope, pg_transaction_of(op)));
    stream = opened(in_on(pg_transaction_of(nested)));
    assert_int_equal(write_text(stream, "1\ta\n"), ERR_OK);
    assert_int_equal(op_release(nested), ERR_OK);
    assert_int_equal(pg_world_await(&world, pg_copy_end(stream)), ERR_OK);
    pg_world_check(run_on(pg_transaction_of(op), "select count(*) from t"), "0");
    assert_int_equal(pg_world_await(&world, pg_commit(pg_transaction_of(op))), ERR_OK);
    expect_count("0");
    expect_well();
}

/* ---- what is looked at while we write ---- */

static void test_glances(void **state)
{
    static const unsigned char notice[] = "N\0\0\0\7abc", failed[] = "E\0\0\0\20SERROR";

    (void)state;
    assert_int_equal(pg_copying_glance(notice, 0), PG_GLANCE_FINE);
    assert_int_equal(pg_copying_glance(notice, 8), PG_GLANCE_FINE);
    assert_int_equal(pg_copying_glance(failed, 11), PG_GLANCE_FAILED);
    for (size_t len = 1; len < 8; len++)
        assert_int_equal(pg_copying_glance(notice, len), PG_GLANCE_CUT);
    for (size_t len = 1; len < 6; len++)
        assert_int_equal(pg_copying_glance(failed, len), PG_GLANCE_CUT);
    assert_int_equal(pg_copying_glance((const unsigned char *)"A\0\0\0\4E\0\0\0\20S", 11),
                     PG_GLANCE_FAILED);
    assert_int_equal(pg_copying_glance((const unsigned char *)"N\0\0\0\3", 5), PG_GLANCE_CUT);
    assert_int_equal(pg_copying_glance((const unsigned char *)"S\0\0\0\4", 5), PG_GLANCE_CUT);
    assert_int_equal(pg_copying_glance((const unsigned char *)"N\377\377\377\377", 5),
                     PG_GLANCE_CUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_byte_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_byte_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_is_constant, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_large_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_notices_do_no_harm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_writes_wait_for_the_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_reads_while_nobody_pulls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_server_knows_the_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_error_tells_the_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_error_is_known_before_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_error_behind_data, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_row_too_large, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_session_breaks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_happens_while_it_opens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_stands_still, set_up_ahead, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_in_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_before_it_is_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_its_request_ends_before_it_is_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_while_it_is_written_to, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_write_canceled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_while_it_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_while_it_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_read_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_behind_a_pooler, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_on_a_transaction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rolled_back_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_nested_one_ends_meanwhile, set_up, tear_down),
        cmocka_unit_test(test_glances),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
