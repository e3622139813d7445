/* Goal: against a real server, a statement's op settles once with what the server answered: values
 *       of all kinds come back as they went, failures are told by class and harm no neighbour, and
 *       an op that is canceled, in whatever state, leaves the session as good as it was. */
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/transaction.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pg_server server;

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    if (!server.is_missing)
        (void)pg_server_run(&server, "create function raises(code text, why text) returns int "
                                     "language plpgsql as $$ begin raise exception '%', why "
                                     "using errcode = code; end $$");
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    return 0;
}

static struct pg_world world;

static int set_up(void **state)
{
    (void)state;
    if (server.is_missing)
        return 0;
    pg_world_init(&world, &server);
    pg_world_start(&world);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    return 0;
}

/* Results */

static void test_rows_and_columns_are_read(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    op = pg_world_run(&world, "select i as id, 'row ' || i as name, i % 2 = 0 as even, "
                              "nullif(i, 2) as gap, i / 4.0 as part from generate_series(1, 3) i");
    assert_true(op_is_pg(op));
    assert_int_equal(pg_rows(op), 3);
    assert_int_equal(pg_columns(op), 5);
    assert_int_equal(pg_affected(op), 3);
    assert_int_equal(pg_column(op, "name"), 1);
    assert_int_equal(pg_column(op, "NAME"), -1);
    assert_string_equal(pg_column_name(op, 4).ptr, "part");
    assert_null(pg_column_name(op, 5).ptr);
    assert_int_equal(pg_column_type(op, 0), 23);
    assert_int_equal(pg_column_type(op, 5), 0);
    assert_int_equal(pg_int(op, 2, 0), 3);
    assert_string_equal(pg_text(op, 2, 1).ptr, "row 3");
    assert_int_equal(pg_text(op, 2, 1).len, 5);
    assert_true(pg_bool(op, 1, 2));
    assert_false(pg_bool(op, 0, 2));
    assert_true(pg_is_null(op, 1, 3));
    assert_false(pg_is_null(op, 0, 3));
    assert_true(pg_double(op, 0, 4) == 0.25);
    assert_null(pg_text(op, 3, 0).ptr);
    assert_null(pg_text(op, 0, 5).ptr);
    assert_int_equal(pg_int(op, 0, 1), 0);
    assert_null(pg_sqlstate(op).ptr);
    assert_false(pg_maybe_applied(op));
}

static void test_every_kind_of_value_comes_back(void **state)
{
    static const char bytes[] = {0, 1, '\\', (char)0xff};
    const struct pg_value values[] = {
        {.kind = PG_NULL},
        {.kind = PG_BOOL, .as.i = 1},
        {.kind = PG_INT, .as.i = INT64_MIN},
        {.kind = PG_DOUBLE, .as.d = 0.1},
        {.kind = PG_TEXT, .as.text = SPAN("it's \"§\" \\ ü")},
        {.kind = PG_BYTES, .as.text = {bytes, sizeof bytes}},
        {.kind = PG_JSON, .as.text = SPAN("{\"a\": [1, null]}")},
        {.kind = PG_TEXT, .as.text = {NULL, 0}},
        {.kind = PG_TEXT, .as.text = SPAN("")},
    };
    struct op *op;

    (void)state;
    pg_server_need(&server);
    op = pg_world_start_sql(&world,
                            "select $1::text, $2::bool, $3::int8, $4::float8, $5::text, "
                            "$6::bytea, $7::jsonb, $8::text, $9::text",
                            9, values);
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    assert_true(pg_is_null(op, 0, 0));
    assert_true(pg_bool(op, 0, 1));
    assert_true(pg_int(op, 0, 2) == INT64_MIN);
    assert_true(pg_double(op, 0, 3) == 0.1);
    assert_string_equal(pg_text(op, 0, 4).ptr, "it's \"§\" \\ ü");
    assert_string_equal(pg_text(op, 0, 5).ptr, "\\x00015cff");
    assert_string_equal(pg_text(op, 0, 6).ptr, "{\"a\": [1, null]}");
    assert_true(pg_is_null(op, 0, 7));
    assert_false(pg_is_null(op, 0, 8));
    assert_int_equal(pg_text(op, 0, 8).len, 0);
}

static void test_doubles_come_back_exactly(void **state)
{
    const double numbers[] = {0,      1.0 / 3, 1e300,  DBL_MIN,  DBL_MAX,  -0.1,
                              1e-310, 1e22,    123456, INFINITY, -INFINITY};

    (void)state;
    pg_server_need(&server);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct pg_value value = {.kind = PG_DOUBLE, .as.d = numbers[i]};
        struct op *op = pg_world_start_sql(&world, "select $1::float8", 1, &value);

        assert_int_equal(pg_world_await(&world, op), ERR_OK);
        assert_true(pg_double(op, 0, 0) == numbers[i]);
    }
}

static void test_parameters_take_the_type_that_is_asked_for(void **state)
{
    const struct pg_value id = pg_world_text("00000000-0000-0000-0000-000000000001");
    const struct pg_value number = pg_world_int(7);
    struct op *op;

    (void)state;
    pg_server_need(&server);
    op = pg_world_start_sql(&world, "select $1::uuid = '00000000000000000000000000000001'", 1, &id);
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    assert_true(pg_bool(op, 0, 0));
    op = pg_world_start_sql(&world, "select repeat('x', $1)", 1, &number);
    assert_int_equal(pg_world_await(&world, op), ERR_OK);
    pg_world_check(op, "xxxxxxx");
}

static void test_a_result_is_let_go_of_early(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    op = pg_world_run(&world, "select 1");
    assert_int_equal(op_release(op), ERR_OK);
}

/* Failures */

static void test_failures_are_told_by_class(void **state)
{
    static const struct {
        const char *sql;
        enum err err;
        const char *sqlstate;
    } cases[] = {
        {"select 1/0", ERR_DB, "22012"},
        {"select 'x'::int", ERR_DB_VALUE, "22P02"},
        {"select 99999999999::int", ERR_DB_VALUE, "22003"},
        {"select '2020-13-45'::date", ERR_DB_VALUE, "22008"},
        {"select 'never'::date", ERR_DB_VALUE, "22007"},
        {"insert into failures values (1), (1)", ERR_DB_CONSTRAINT, "23505"},
        {"insert into failures values (null)", ERR_DB_CONSTRAINT, "23502"},
        {"select raises('40001', 'x')", ERR_DB_RETRY, "40001"},
        {"selec 1", ERR_DB, "42601"},
        {"select 1; select 2", ERR_DB, "42601"},
        {"select nobody()", ERR_DB, "42883"},
        {"select * from nothing_there", ERR_DB, "42P01"},
        {"select $1::int", ERR_DB, "08P01"}, /* one parameter is missing */
        {"select raises('57P01', 'x')", ERR_DB, "57P01"},
    };

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "create table failures (id int primary key)");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct op *op = pg_world_start_sql(&world, cases[i].sql, 0, NULL);

        assert_int_equal(pg_world_await(&world, op), cases[i].err);
        assert_string_equal(pg_sqlstate(op).ptr, cases[i].sqlstate);
        assert_true(op->error.len > 0);
        assert_string_equal(world.scope->reason, "pg_error");
        assert_int_equal(pg_rows(op), 0);
        assert_false(pg_maybe_applied(op));
    }
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static void test_a_deferred_constraint_fails_the_statement_that_broke_it(void **state)
{
    struct op *op, *before, *behind;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "create table deferred "
                                 "(id int unique deferrable initially deferred)");
    before = pg_world_start_sql(&world, "insert into deferred values (7)", 0, NULL);
    op = pg_world_start_sql(&world, "insert into deferred values (1), (1)", 0, NULL);
    behind = pg_world_start_sql(&world, "insert into deferred values (8)", 0, NULL);
    assert_int_equal(pg_world_await(&world, op), ERR_DB_CONSTRAINT);
    assert_string_equal(pg_sqlstate(op).ptr, "23505");
    assert_int_equal(pg_world_await(&world, before), ERR_OK);
    assert_int_equal(pg_world_await(&world, behind), ERR_OK);
    pg_world_check(pg_world_run(&world, "select string_agg(id::text, ',' order by id) "
                                        "from deferred"),
                   "7,8");
}

static void test_neighbours_of_a_failure_are_unharmed(void **state)
{
    enum { COUNT = 60 };
    struct op *ops[COUNT];

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "create table neighbours (id int primary key)");
    for (int i = 0; i < COUNT; i++) {
        const struct pg_value id = pg_world_int(i % 3 == 0 ? 0 : i);

        ops[i] = pg_world_start_sql(&world, "insert into neighbours values (1000 / $1)", 1, &id);
    }
    for (int i = 0; i < COUNT; i++) {
        enum err err = pg_world_await(&world, ops[i]);

        if (i % 3 == 0)
            assert_int_equal(err, ERR_DB);
        else if (err != ERR_OK)
            assert_int_equal(err, ERR_DB_CONSTRAINT);
    }
    pg_world_check(pg_world_run(&world, "select count(*) = (select count(distinct 1000 / i) from "
                                        "generate_series(1, 59) i where i % 3 > 0) "
                                        "from neighbours"),
                   "t");
}

static void test_the_same_mistake_twice_in_a_turn_is_told_twice(void **state)
{
    struct op *ops[4];

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < 4; i++)
        ops[i] = pg_world_start_sql(&world, "select nothing_like_it", 0, NULL);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_DB);
        assert_string_equal(pg_sqlstate(ops[i]).ptr, "42703");
    }
}

static void test_the_server_ends_what_runs_too_long(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    pg_world_again(&world);
    world.options.statement_timeout_ms = 50;
    pg_world_start(&world);
    op = pg_world_start_sql(&world, "select pg_sleep(30)", 0, NULL);
    assert_int_equal(pg_world_await(&world, op), ERR_DEADLINE);
    assert_string_equal(pg_sqlstate(op).ptr, "57014");
    assert_string_equal(world.scope->reason, "pg_timeout");
    pg_world_check(pg_world_run(&world, "select 1"), "1");
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static void expect_refusal(const struct pg_call *call, enum err err)
{
    struct op *op = pg_query_start(world.scope, call);

    assert_int_equal(op->status, err);
    assert_true(op->error.len > 0);
    assert_false(op_is_pg(op));
    assert_int_equal(pg_rows(op), 0);
    assert_null(pg_text(op, 0, 0).ptr);
}

static void test_what_cannot_be_run_is_refused_at_once(void **state)
{
    struct pg_value values[PG_PARAMS_MAX + 1] = {{.kind = PG_NULL}};
    const struct pg_value with_nul = {.kind = PG_TEXT, .as.text = SPAN("a\0b")};
    const struct pg_value unknown = {.kind = (enum pg_kind)99};

    (void)state;
    pg_server_need(&server);
    expect_refusal(&(struct pg_call){.pool = world.pool, .sql = SPAN("begin")}, ERR_INVALID);
    expect_refusal(&(struct pg_call){.pool = world.pool, .sql = SPAN("")}, ERR_INVALID);
    expect_refusal(&(struct pg_call){.pool = world.pool, .sql = SPAN("select\0 1")}, ERR_INVALID);
    expect_refusal(&(struct pg_call){.pool = world.pool,
                                     .sql = SPAN("select 1"),
                                     .values = values,
                                     .count = PG_PARAMS_MAX + 1},
                   ERR_INVALID);
    expect_refusal(
        &(struct pg_call){
            .pool = world.pool, .sql = SPAN("select $1"), .values = &unknown, .count = 1},
        ERR_INVALID);
    expect_refusal(
        &(struct pg_call){
            .pool = world.pool, .sql = SPAN("select $1"), .values = &with_nul, .count = 1},
        ERR_DB_VALUE);
}

/* Results that are too big */

static void expect_too_big(struct op *op, bool is_maybe_applied)
{
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    assert_string_equal(op->error.ptr, "the result is larger than result_max");
    assert_null(pg_sqlstate(op).ptr);
    assert_int_equal(pg_rows(op), 0);
    assert_int_equal(pg_maybe_applied(op), is_maybe_applied);
}

static struct op *start_reading(const char *sql)
{
    const struct pg_call call = {.pool = world.pool, .sql = span_of(sql), .flags = PG_READ_ONLY};

    return pg_query_start(world.scope, &call);
}

/* Small on the wire, as libpq holds it too large. */
static void test_a_result_that_is_too_big_once_it_is_there(void **state)
{
    struct op *op, *neighbour;

    (void)state;
    pg_server_need(&server);
    pg_world_again(&world);
    world.options.result_max = 65536;
    pg_world_start(&world);
    op = pg_world_start_sql(&world, "select 1 from generate_series(1, 3000)", 0, NULL);
    neighbour = pg_world_start_sql(&world, "select 2", 0, NULL);
    expect_too_big(op, true);
    assert_int_equal(pg_world_await(&world, neighbour), ERR_OK);
    pg_world_check(neighbour, "2");
    expect_too_big(start_reading("select 1 from generate_series(1, 3000)"), false);
    assert_int_equal(pg_rows(pg_world_run(&world, "select 1 from generate_series(1, 500)")), 500);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

/* Large values, and many rows; the server pauses between them, so that an answer is seen to be half
 * read whatever the speed of either side. */
#define LARGE_VALUES \
    "select repeat('x', 2 * 1024 * 1024), pg_sleep(0.1) from generate_series(1, 10)"
#define MANY_ROWS                                                              \
    "select repeat('x', 1000), case when n % 4096 = 0 then pg_sleep(0.1) end " \
    "from generate_series(1, 32 * 1024) n"

/* Who only reads behind it is run again on another session. */
static void test_a_result_that_is_too_big_while_it_comes(void **state)
{
    static const char *const texts[] = {LARGE_VALUES, MANY_ROWS};

    (void)state;
    pg_server_need(&server);
    pg_world_again(&world);
    world.options.sessions_max = 1;
    world.options.result_max = 1024 * 1024;
    world.options.queue_timeout_ms = 60000;
    pg_world_start(&world);
    for (uint32_t i = 0; i < 2; i++) {
        struct op *op = pg_world_start_sql(&world, texts[i], 0, NULL);
        struct op *reading = start_reading("select 'read'");
        struct op *writing = pg_world_start_sql(&world, "select 'written'", 0, NULL);

        expect_too_big(op, true);
        assert_int_equal(pg_world_await(&world, reading), ERR_OK);
        pg_world_check(reading, "read");
        assert_int_equal(pg_world_await(&world, writing), ERR_DB_DOWN);
        assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, i + 1);
        assert_int_equal(pg_rows(pg_world_run(&world, "select repeat('x', 100 * 1024) "
                                                      "from generate_series(1, 9)")),
                         9);
        pg_world_renew(&world);
    }
}

/* They are handed on as they come: libpq holds none of them. */
static void test_notices_are_no_part_of_a_result(void **state)
{
    struct op *noisy, *neighbour;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server,
                        "create function noisy(times int) returns int language plpgsql as $$ begin "
                        "for i in 1 .. times loop raise notice '%', repeat('x', 1000); "
                        "if i % 500 = 0 then perform pg_sleep(0.02); end if; end loop; "
                        "return times; end $$");
    pg_world_again(&world);
    world.options.sessions_max = 1;
    world.options.result_max = 1024 * 1024;
    pg_world_start(&world);
    noisy = start_reading("select noisy(3000)");
    neighbour = start_reading("select 'well'");
    assert_int_equal(pg_world_await(&world, noisy), ERR_OK);
    pg_world_check(noisy, "3000");
    assert_int_equal(pg_world_await(&world, neighbour), ERR_OK);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
    expect_too_big(start_reading("select repeat('x', 4000), noisy(n % 2), "
                                 "case when n % 1024 = 0 then pg_sleep(0.1) end "
                                 "from generate_series(1, 8 * 1024) n"),
                   false);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 1);
}

/* Nobody waits for it, and it must not fill the memory either. */
static void test_a_tombstone_s_result_that_is_too_big(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    pg_world_again(&world);
    world.options.sessions_max = 1;
    world.options.result_max = 1024 * 1024;
    pg_world_start(&world);
    op = pg_world_start_sql(&world, "select repeat('x', 16 * 1024 * 1024)", 0, NULL);
    run_turns(world.loop, 2);
    op_cancel(op);
    assert_int_equal(pg_world_await(&world, start_reading("select 3")), ERR_OK);
}

static void test_a_transaction_ends_with_a_result_that_is_too_big(void **state)
{
    struct pg_call call = {.sql = SPAN(LARGE_VALUES)};
    struct op *begin, *behind;

    (void)state;
    pg_server_need(&server);
    pg_world_again(&world);
    world.options.result_max = 1024 * 1024;
    pg_world_start(&world);
    begin = pg_begin(world.scope, world.pool, 0);
    assert_int_equal(pg_world_await(&world, begin), ERR_OK);
    call.transaction = pg_transaction_of(begin);
    expect_too_big(pg_query_start(world.scope, &call), false);
    assert_string_equal(world.scope->reason, "pg_result_too_big");
    call.sql = SPAN("select 1");
    behind = pg_query_start(world.scope, &call);
    assert_int_equal(pg_world_await(&world, behind), ERR_DB_DOWN);
    pg_world_check(pg_world_run(&world, "select 4"), "4");
}

/* Sizes of others */

static void test_parameters_beyond_the_limit_of_memory(void **state)
{
    static char text[20 << 20];
    const struct pg_value bytes = {.kind = PG_BYTES, .as.text = {text, sizeof text}};
    struct op *op;

    (void)state;
    pg_server_need(&server);
    op = pg_world_start_sql(&world, "select length($1)", 1, &bytes);
    assert_int_equal(op->state, OP_PENDING);
    op = pg_world_start_sql(&world, "select length($1)", 1, &bytes);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_int_equal(world.scope->why, SCOPE_MEMORY);
}

static void test_a_very_long_error_is_cut(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    op = pg_world_start_sql(&world, "select raises('P0001', 'x' || repeat('\xc3\xa4', 400000))", 0,
                            NULL);
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    assert_int_equal(op->error.len, 2047);
    assert_in_range(world.scope->arena.bytes, 0, 10000);
}

/* Wherever the limit falls. */
static void test_it_is_cut_behind_a_whole_character(void **state)
{
    static const char *const characters[] = {"x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};

    (void)state;
    pg_server_need(&server);
    for (size_t size = 1; size <= 4; size++) {
        for (size_t before = 0; before < size; before++) {
            size_t whole = (2048 - before) / size;
            char sql[128];
            struct op *op;

            (void)snprintf(sql, sizeof sql,
                           "select raises('P0001', repeat('y', %zu) || repeat('%s', 2048))", before,
                           characters[size - 1]);
            op = pg_world_start_sql(&world, sql, 0, NULL);
            assert_int_equal(pg_world_await(&world, op), ERR_DB);
            assert_int_equal(op->error.len, before + whole * size);
            for (size_t at = before; at < op->error.len; at += size)
                assert_memory_equal(op->error.ptr + at, characters[size - 1], size);
        }
    }
}

/* Canceling */

static void test_canceled_while_it_waits_it_is_never_sent(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "create table canceled (id int)");
    op = pg_world_start_sql(&world, "insert into canceled values (1)", 0, NULL);
    assert_int_equal(pg_pool_counts(world.pool)->queued, 1);
    op_cancel(op);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_true(op->is_retired);
    assert_false(pg_maybe_applied(op));
    assert_int_equal(pg_pool_counts(world.pool)->queued, 0);
    pg_world_check(pg_world_run(&world, "select count(*) from canceled"), "0");
    assert_int_equal(pg_pool_counts(world.pool)->canceled, 1);
}

static void test_canceled_while_it_runs_it_leaves_a_tombstone(void **state)
{
    struct op *op, *behind;

    (void)state;
    pg_server_need(&server);
    op = pg_world_start_sql(&world, "select pg_sleep(0.2)", 0, NULL);
    behind = pg_world_start_sql(&world, "select 'behind'", 0, NULL);
    run_turns(world.loop, 2);
    assert_int_equal(pg_pool_counts(world.pool)->queued, 0);
    op_cancel(op);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_true(op->is_retired);
    assert_true(pg_maybe_applied(op));
    assert_int_equal(pg_pool_counts(world.pool)->in_flight, 2);
    assert_int_equal(pg_world_await(&world, behind), ERR_OK);
    pg_world_check(behind, "behind");
    assert_int_equal(pg_pool_counts(world.pool)->in_flight, 0);
}

static void test_canceled_while_its_result_is_half_read(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    op = pg_world_start_sql(&world, "select repeat('x', 1000) from generate_series(1, 20000)", 0,
                            NULL);
    run_turns(world.loop, 1);
    loop_turn(world.loop, 1000);
    loop_turn(world.loop, 1000);
    assert_int_equal(op->state, OP_PENDING);
    op_cancel(op);
    pg_world_check(pg_world_run(&world, "select 2"), "2");
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static void test_a_canceled_scope_starts_nothing(void **state)
{
    struct op *running, *born;

    (void)state;
    pg_server_need(&server);
    running = pg_world_start_sql(&world, "select pg_sleep(0.1)", 0, NULL);
    run_turns(world.loop, 1);
    scope_cancel(world.scope, SCOPE_CLIENT_GONE);
    born = pg_world_start_sql(&world, "select 1", 0, NULL);
    assert_int_equal(running->status, ERR_CANCELED);
    assert_int_equal(born->status, ERR_CANCELED);
    assert_false(pg_maybe_applied(born));
    pg_world_renew(&world);
    pg_world_check(pg_world_run(&world, "select 3"), "3");
}

static void test_a_deadline_ends_what_waits_and_what_runs(void **state)
{
    struct scope *scope;
    struct op *op;

    (void)state;
    pg_server_need(&server);
    scope = scope_child(world.scope, 30, 0);
    op = pg_query_start(scope,
                        &(struct pg_call){.pool = world.pool, .sql = SPAN("select pg_sleep(0.2)")});
    assert_int_equal(pg_world_await(&world, op), ERR_DEADLINE);
    assert_true(pg_maybe_applied(op));
    scope_finish(scope, SCOPE_REPLIED);
    pg_world_check(pg_world_run(&world, "select 4"), "4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rows_and_columns_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_kind_of_value_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_doubles_come_back_exactly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parameters_take_the_type_that_is_asked_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_result_is_let_go_of_early, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failures_are_told_by_class, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_deferred_constraint_fails_the_statement_that_broke_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_neighbours_of_a_failure_are_unharmed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_same_mistake_twice_in_a_turn_is_told_twice, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_server_ends_what_runs_too_long, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_result_that_is_too_big_once_it_is_there, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_result_that_is_too_big_while_it_comes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_notices_are_no_part_of_a_result, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_tombstone_s_result_that_is_too_big, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_transaction_ends_with_a_result_that_is_too_big,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parameters_beyond_the_limit_of_memory, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_very_long_error_is_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_is_cut_behind_a_whole_character, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_run_is_refused_at_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_canceled_while_it_waits_it_is_never_sent, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_canceled_while_it_runs_it_leaves_a_tombstone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_canceled_while_its_result_is_half_read, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_canceled_scope_starts_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_deadline_ends_what_waits_and_what_runs, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
