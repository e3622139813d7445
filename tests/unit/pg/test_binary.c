/* Goal: whatever comes in binary form is the value that would have come as text: whole numbers,
 *       numbers to their last bit, times, bytes, arrays, JSON; what is not read in that form, and
 *       bytes that are no value of their type, are refused and never taken for something else.
 *
 * WEFT_SOAK=1 tries many more, WEFT_SEED says which. */
#include "base/mem.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/random.h"
#include "lib/test.h"
#include "pg/binary.h"
#include "pg/calendar.h"
#include "pg/decode.h"
#include "pg/number.h"
#include "pg/stream.h"
#include "pg/transaction.h"
#include "pg/types.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOSTILE_MAX = 64 };

static struct pg_server server;
static struct pg_world world;
static uint64_t dice;
static int rounds;

static int start_server(void **state)
{
    const char *seed = getenv("WEFT_SEED");

    (void)state;
    dice = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)getpid() * 0x9e3779b97f4a7c15u;
    rounds = getenv("WEFT_SOAK") != NULL ? 20000 : 200;
    print_message("WEFT_SEED=%" PRIu64 "\n", dice);
    pg_server_init(&server, "");
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "alter database weft set timezone to 'UTC'");
    (void)pg_server_run(&server, "create type mood as enum ('fine', 'bad')");
    (void)pg_server_run(&server, "create table moods (m mood)");
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

static struct op *start(const char *sql, uint32_t flags)
{
    return pg_query_start(
        world.scope, &(struct pg_call){.pool = world.pool, .sql = span_of(sql), .flags = flags});
}

static struct op *run_as(const char *sql, uint32_t flags)
{
    struct op *op = start(sql, flags);
    enum err err = pg_world_await(&world, op);

    if (err != ERR_OK)
        fail_msg("%s: %s: %.*s", sql, err_name(err), SPAN_ARG(op->error));
    return op;
}

/* Texts and JSON */

/* With a NUL behind it. */
static char *json_of(const struct op *op)
{
    struct buf out = {0};

    assert_true(pg_json(op, false, 1 << 30, &out));
    buf_append(&out, (struct span){"", 1});
    return out.data;
}

static void expect_json(const char *sql, const struct op *binary, const struct op *text)
{
    char *one = json_of(binary), *other = json_of(text);

    if (strcmp(one, other) != 0)
        fail_msg("%s: %s instead of %s", sql, one, other);
    mem_free(one);
    mem_free(other);
}

static int64_t time_of(const struct op *op, uint32_t row, uint32_t column)
{
    struct span raw = pg_raw(op, row, column);
    int64_t us = 0;
    bool is_time = pg_is_binary(op, column) ? pg_binary_time(pg_column_type(op, column), raw, &us)
                                            : pg_time_read(raw, &us);

    return is_time ? us : 0;
}

/* A float4 is what it is, and not the double nearest to its text. */
static bool is_same_double(const struct op *op, uint32_t column, double one, double other)
{
    if (pg_column_type(op, column) == PG_OID_FLOAT4)
        return (float)one == (float)other || (isnan(one) && isnan(other));
    return one == other || (isnan(one) && isnan(other));
}

static void expect_cell(const char *sql, const struct op *binary, const struct op *text,
                        uint32_t row, uint32_t column)
{
    bool is_null = pg_is_null(text, row, column);

    assert_int_equal(pg_is_null(binary, row, column), is_null);
    if (pg_int(binary, row, column) != pg_int(text, row, column))
        fail_msg("%s: row %u, column %u: %" PRId64 " instead of %" PRId64, sql, row, column,
                 pg_int(binary, row, column), pg_int(text, row, column));
    if (time_of(text, row, column) == 0 && /* "infinity" reads as a number, too */
        !is_same_double(text, column, pg_double(binary, row, column), pg_double(text, row, column)))
        fail_msg("%s: row %u, column %u: %.17g instead of %.17g", sql, row, column,
                 pg_double(binary, row, column), pg_double(text, row, column));
    assert_int_equal(pg_bool(binary, row, column), pg_bool(text, row, column));
    if (!is_null && time_of(binary, row, column) != time_of(text, row, column))
        fail_msg("%s: row %u, column %u: %" PRId64 " us instead of %" PRId64, sql, row, column,
                 time_of(binary, row, column), time_of(text, row, column));
}

/* The same asked for in both forms: every accessor answers the same. */
static void expect_same(const char *sql)
{
    struct op *text = run_as(sql, 0), *binary = run_as(sql, PG_BINARY);

    assert_int_equal(pg_rows(binary), pg_rows(text));
    assert_int_equal(pg_columns(binary), pg_columns(text));
    for (uint32_t column = 0; column < pg_columns(text); column++) {
        assert_true(pg_is_binary(binary, column));
        assert_false(pg_is_binary(text, column));
        for (uint32_t row = 0; row < pg_rows(text); row++)
            expect_cell(sql, binary, text, row, column);
    }
    expect_json(sql, binary, text);
}

static void test_every_type_answers_as_its_text_does(void **state)
{
    static const char *const each[] = {
        "select true a, false b, null::bool c",
        "select i::int2 a from unnest(array[0, 1, -1, 32767, -32768]) i",
        "select i::int4 a from unnest(array[0, 1, -1, 2147483647, -2147483648]) i",
        "select i::int8 a from unnest(array[0, 1, -1, 9223372036854775807, '-9223372036854775808'"
        "::int8]) i",
        "select 0::oid a, 4294967295::oid b, 7::oid c",
        "select f::float4 a, f::float8 b from unnest(array[0, 1, -1.5, 0.1, 3, 1e5, 999999, 1e6, "
        "16777216, 1e14, 1e15, 1e-5, 1e-4, 1e20, 'NaN', 'Infinity', '-Infinity', '-0']::float8[]) "
        "f",
        "select f::float8 a from unnest(array['4.9e-324', '2.2250738585072014e-308', "
        "'1.7976931348623157e308', '9007199254740993', '123456.7890123456789']::float8[]) f where "
        "f > 1e-300",
        "select n a from unnest(array['0', '0.00', '1', '-1', '10000', '9999', '0.0001', '1e-20', "
        "'1e40', '12345678901234567890.123456789', '-0.5', 'NaN', 'Infinity', '-Infinity', "
        "'9223372036854775807', '-9223372036854775808', '9223372036854775808', '100', "
        "'100000000', '1.50', '123456789.000']::numeric[]) n",
        "select 1e131071::numeric a, 1e-16383::numeric b",
        "select '' a, 'a\"b\\c' b, 'ä'::varchar c, 'x'::bpchar d, 'n'::name e, 'c'::\"char\" f, "
        "'42' g, '1.25' h, 't' i, '2024-02-29' j, null::text k, 'x'::unknown l, '<a/>'::xml m",
        "select '{\"a\": [1, null]}'::json a, '{\"a\": [1, null]}'::jsonb b, 'null'::jsonb c",
        "select ''::bytea a, '\\x00ff41'::bytea b",
        "select '00112233-4455-6677-8899-aabbccddeeff'::uuid a",
        "select d::date a, d::timestamp b, d::timestamptz c from unnest(array['2024-02-29', "
        "'1970-01-01 00:00:00.5', '1999-12-31 23:59:59.999999', '0001-01-01', '0044-03-15 BC', "
        "'2000-01-01 12:30:00.120', 'infinity', '-infinity', '9999-12-31']::timestamp[]) d",
        "select '4713-01-01 BC'::date a, '290000-12-31'::date b, '290000-12-31 23:59:59.999999'"
        "::timestamp c",
        "select pg_notify('nobody', '')",
        "select '{}'::int[] a, '{1,NULL,-3}'::int[] b, '{{1,2},{3,4}}'::int8[] c, "
        "'[0:1]={5,6}'::int2[] d, '{{{1},{2}}}'::oid[] e, '[-1:0][2:3]={{1,2},{3,4}}'::int[] f",
        "select array['', 'NULL', 'null', 'a,b', '{', '}', '\"', '\\', ' ', 'x', null, 'ä', E'\\t'"
        "]::text[] a, '{x}'::varchar[] b, '{x}'::name[] c, '{x}'::bpchar[] d, "
        "'{a,b}'::\"char\"[] e",
        "select '{t,f,NULL}'::bool[] a, '{1.5,NaN,1e20}'::float8[] b, '{0.1,-Infinity}'::float4[] "
        "c, '{00112233-4455-6677-8899-aabbccddeeff}'::uuid[] d",
        "select 1 a where false",
        "select from generate_series(1, 3)",
    };

    (void)state;
    pg_server_need(&server);
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++) {
        expect_same(each[i]);
        pg_world_renew(&world);
    }
}

static void test_random_numbers(void **state)
{
    char sql[600];

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < rounds; i++) {
        uint64_t bits = random_next(&dice), less = random_next(&dice);
        struct op *binary;
        struct buf text = {0};
        double number;
        float single;
        uint32_t half = (uint32_t)less;

        memcpy(&number, &bits, sizeof number);
        memcpy(&single, &half, sizeof single);
        (void)snprintf(sql, sizeof sql,
                       "select (%" PRId64 ")::int8 a, (%" PRId64
                       ")::numeric / (10 ^ %u)::numeric b, to_timestamp(%" PRId64 " / 1e6) c",
                       (int64_t)(bits >> 1), (int64_t)(less >> 1), random_below(&dice, 30),
                       (int64_t)(bits >> 12));
        expect_same(sql);
        pg_float_write(number, false, &text);
        buf_append(&text, SPAN("'::float8 a, '"));
        pg_float_write((double)single, true, &text);
        (void)snprintf(sql, sizeof sql, "select '%.*s'::float4 b", (int)text.len, text.data);
        if (!isnan(number) && isfinite(number) && !isnan(single) && fabsf(single) > 1e-37f) {
            binary = run_as(sql, PG_BINARY);
            assert_true(pg_double(binary, 0, 0) == number);
            assert_true(pg_double(binary, 0, 1) == (double)single);
        }
        buf_release(&text);
        if (i % 50 == 49)
            pg_world_renew(&world);
    }
}

static void test_text_is_text_alone(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    op = run_as("select 'text' a, '[1]'::json b, '[1]'::jsonb c, 1 d, null::text e", PG_BINARY);
    assert_string_equal(pg_text(op, 0, 0).ptr, "text");
    assert_string_equal(pg_text(op, 0, 1).ptr, "[1]");
    assert_string_equal(pg_text(op, 0, 2).ptr, "[1]");
    assert_int_equal(pg_text(op, 0, 2).len, 3);
    assert_null(pg_text(op, 0, 3).ptr);
    assert_false(pg_is_null(op, 0, 3));
    assert_null(pg_text(op, 0, 4).ptr);
    assert_true(pg_is_null(op, 0, 4));
    assert_null(pg_raw(op, 1, 0).ptr);
    assert_null(pg_raw(op, 0, 5).ptr);
    assert_false(pg_is_binary(op, 5));
    assert_int_equal(pg_int(op, 0, 5), 0);
}

static void test_bytes_come_as_they_are(void **state)
{
    struct op *op;
    char out[16];
    size_t len;

    (void)state;
    pg_server_need(&server);
    op = run_as("select '\\x00ff41'::bytea a, '\\x4142' b, 1 c", PG_BINARY);
    assert_true(pg_binary_bytes(PG_OID_BYTEA, pg_raw(op, 0, 0), out, &len));
    assert_int_equal(len, 3);
    assert_memory_equal(out,
                        "\0\xff"
                        "A",
                        3);
    assert_true(pg_binary_bytes(pg_column_type(op, 1), pg_raw(op, 0, 1), out, &len));
    assert_memory_equal(out, "AB", 2);
    assert_false(pg_binary_bytes(pg_column_type(op, 2), pg_raw(op, 0, 2), out, &len));
}

/* What is not read in this form */

static void expect_misfit(const char *sql, const char *column, bool may_have_applied)
{
    struct op *op = start(sql, PG_BINARY);

    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    assert_string_equal(world.scope->reason, "pg_misfit");
    assert_non_null(strstr(op->error.ptr, column));
    assert_non_null(strstr(op->error.ptr, "cast it"));
    assert_int_equal(pg_rows(op), 0);
    assert_null(pg_sqlstate(op).ptr);
    assert_int_equal(pg_maybe_applied(op), may_have_applied);
    pg_world_renew(&world);
}

static void test_other_types_are_refused(void **state)
{
    (void)state;
    pg_server_need(&server);
    expect_misfit("select 1 a, interval '1 day' took", "column took", true);
    expect_misfit("select time '12:00' at", "column at", true);
    expect_misfit("select '{1.5}'::numeric[] prices", "column prices", true);
    expect_misfit("select 'fine'::mood m where false", "column m", true);
    expect_misfit("select row(1, 2) r", "column r", true);
    expect_misfit("insert into moods values ('fine') returning m", "column m", true);
    assert_string_equal(pg_server_run(&server, "select count(*) from moods"), "1");
    (void)run_as("select 'fine'::mood::text", PG_BINARY);
    (void)run_as("insert into moods values ('bad')", PG_BINARY); /* no columns at all */
}

static void test_the_server_s_errors_stay_what_they_are(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    op = start("select 1 / 0", PG_BINARY);
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    assert_string_equal(pg_sqlstate(op).ptr, "22012");
    op = start("select 'x'::int", PG_BINARY);
    assert_int_equal(pg_world_await(&world, op), ERR_DB_VALUE);
}

/* Ways in which statements run */

static void test_declared_shared_and_unprepared(void **state)
{
    const struct pg_statement *binary, *text;
    struct op *ops[20];

    (void)state;
    pg_server_need(&server);
    for (int is_prepared = 1; is_prepared >= 0; is_prepared--) {
        pg_world_again(&world);
        world.options.is_prepared = is_prepared != 0;
        pg_world_start(&world);
        assert_int_equal(pg_pool_declare(world.pool, "bin", "select $1::int4 * 2 a",
                                         PG_READ_ONLY | PG_BINARY, &binary),
                         ERR_OK);
        assert_int_equal(
            pg_pool_declare(world.pool, "txt", "select $1::int4 * 2 a", PG_READ_ONLY, &text),
            ERR_OK);
        for (int round = 0; round < 3; round++) { /* one Sync has both from the second on */
            for (uint32_t i = 0; i < 20; i++) {
                const struct pg_value value = pg_world_int(i);

                ops[i] = pg_query_start(world.scope,
                                        &(struct pg_call){.pool = world.pool,
                                                          .statement = i % 2 == 0 ? binary : text,
                                                          .values = &value,
                                                          .count = 1});
            }
            for (uint32_t i = 0; i < 20; i++) {
                assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
                assert_int_equal(pg_is_binary(ops[i], 0), i % 2 == 0);
                assert_int_equal(pg_int(ops[i], 0, 0), 2 * i);
            }
        }
    }
}

static void test_a_name_has_one_form(void **state)
{
    const struct pg_statement *statement;

    (void)state;
    pg_server_need(&server);
    assert_int_equal(pg_pool_declare(world.pool, "one", "select 1", PG_BINARY, &statement), ERR_OK);
    assert_int_equal(pg_pool_declare(world.pool, "one", "select 1", 0, &statement), ERR_EXISTS);
}

static void test_in_a_transaction(void **state)
{
    struct op *begin, *op;
    struct pg_transaction *tx;

    (void)state;
    pg_server_need(&server);
    begin = pg_begin(world.scope, world.pool, 0);
    assert_int_equal(pg_world_await(&world, begin), ERR_OK);
    tx = pg_transaction_of(begin);
    op = pg_query_start(world.scope, &(struct pg_call){.transaction = tx,
                                                       .sql = SPAN("select interval '1 day' took"),
                                                       .flags = PG_BINARY});
    assert_int_equal(pg_world_await(&world, op), ERR_DB);
    assert_false(pg_maybe_applied(op)); /* the COMMIT applies it */
    op = pg_query_start(
        world.scope,
        &(struct pg_call){.transaction = tx, .sql = SPAN("select 7::int8 a"), .flags = PG_BINARY});
    assert_int_equal(pg_world_await(&world, op), ERR_OK); /* the server is content */
    assert_int_equal(pg_int(op, 0, 0), 7);
    assert_int_equal(pg_world_await(&world, pg_commit(tx)), ERR_OK);
}

static struct op *open_stream(const char *sql)
{
    return pg_stream_start(
        world.scope,
        &(struct pg_call){.pool = world.pool, .sql = span_of(sql), .flags = PG_BINARY});
}

static void test_streams(void **state)
{
    struct op *stream = NULL, *page;
    uint32_t seen = 0;

    (void)state;
    pg_server_need(&server);
    stream = open_stream("select i, i::float8 / 2 h, repeat('x', 50) t, case when i % 3 = 0 then "
                         "i::numeric end n from generate_series(0, 9999) i");
    assert_int_equal(pg_world_await(&world, stream), ERR_OK);
    for (;;) {
        struct span json;

        page = pg_stream_next(stream);
        assert_int_equal(pg_world_await(&world, page), ERR_OK);
        if (pg_rows(page) == 0)
            break;
        assert_true(pg_is_binary(page, 0));
        json = pg_stream_json(page, 1 << 20);
        if (seen == 0)
            assert_memory_equal(json.ptr, "[{\"i\":0,\"h\":0,\"t\":\"xx", 21);
        for (uint32_t row = 0; row < pg_rows(page); row++, seen++) {
            assert_int_equal(pg_int(page, row, 0), seen);
            assert_true(pg_double(page, row, 1) == seen / 2.0);
            assert_int_equal(pg_text(page, row, 2).len, 50);
            assert_int_equal(pg_is_null(page, row, 3), seen % 3 != 0);
        }
    }
    assert_int_equal(seen, 10000);
}

static void test_a_stream_that_cannot_be_read(void **state)
{
    struct op *stream;

    (void)state;
    pg_server_need(&server);
    stream = open_stream("select interval '1 day' took from generate_series(1, 100000)");
    assert_int_equal(pg_world_await(&world, stream), ERR_DB);
    assert_non_null(strstr(stream->error.ptr, "column took"));
    pg_world_renew(&world);
    assert_int_equal(pg_int(run_as("select 5", PG_BINARY), 0, 0), 5);
}

/* Bytes that are no value */

static const uint32_t all_types[] = {
    PG_OID_BOOL,     PG_OID_BYTEA,        PG_OID_CHAR,
    PG_OID_NAME,     PG_OID_INT8,         PG_OID_INT2,
    PG_OID_INT4,     PG_OID_TEXT,         PG_OID_OID,
    PG_OID_JSON,     PG_OID_XML,          PG_OID_FLOAT4,
    PG_OID_FLOAT8,   PG_OID_UNKNOWN,      PG_OID_BOOLS,
    PG_OID_CHARS,    PG_OID_NAMES,        PG_OID_INT2S,
    PG_OID_INT4S,    PG_OID_TEXTS,        PG_OID_BPCHARS,
    PG_OID_VARCHARS, PG_OID_INT8S,        PG_OID_FLOAT4S,
    PG_OID_FLOAT8S,  PG_OID_OIDS,         PG_OID_BPCHAR,
    PG_OID_VARCHAR,  PG_OID_DATE,         PG_OID_TIMESTAMP,
    PG_OID_NUMERIC,  PG_OID_VOID,         PG_OID_TIMESTAMPTZ,
    PG_OID_UUID,     PG_OID_UUIDS,        PG_OID_JSONB,
    1083 /* time */, 1186 /* interval */, 0,
};

/* In memory of just that size, so that the sanitizer sees who reads behind it. */
static void try_all(uint32_t type, const char *bytes, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1), *out = malloc(len + 1);
    struct span value = {copy, len}, text, item;
    struct pg_items items;
    struct buf written = {0};
    int64_t number;
    size_t out_len = 0;
    bool is_fine;

    memcpy(copy, bytes, len);
    is_fine = pg_binary_is_fine(type, value);
    if (pg_binary_text(type, value, &text))
        assert_true(text.ptr >= copy && text.ptr + text.len <= copy + len);
    (void)pg_binary_int(type, value, &number);
    (void)pg_binary_bool(type, value);
    (void)pg_binary_time(type, value, &number);
    if (pg_binary_bytes(type, value, out, &out_len))
        assert_true(out_len <= len);
    if (pg_items_open(type, value, &items)) {
        assert_true(items.count <= len / 4);
        for (uint32_t i = 0; i < items.count && pg_items_next(&items, &item); i++)
            assert_true(item.ptr == NULL ||
                        (item.ptr >= copy && item.ptr + item.len <= copy + len));
    }
    pg_binary_write(type, value, &written);
    if (is_fine && len > 1 && type != PG_OID_VOID)
        assert_true(written.len > 0);
    buf_release(&written);
    free(copy);
    free(out);
}

static void test_every_length_of_every_type(void **state)
{
    static const struct {
        uint32_t type, len;
    } fixed[] = {
        {PG_OID_BOOL, 1}, {PG_OID_CHAR, 1},      {PG_OID_INT2, 2},        {PG_OID_INT4, 4},
        {PG_OID_INT8, 8}, {PG_OID_OID, 4},       {PG_OID_FLOAT4, 4},      {PG_OID_FLOAT8, 8},
        {PG_OID_DATE, 4}, {PG_OID_TIMESTAMP, 8}, {PG_OID_TIMESTAMPTZ, 8}, {PG_OID_UUID, 16},
    };
    char bytes[HOSTILE_MAX] = {1};

    (void)state;
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        for (uint32_t len = 0; len < HOSTILE_MAX; len++)
            assert_int_equal(pg_binary_is_fine(fixed[i].type, (struct span){bytes, len}),
                             len == fixed[i].len);
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (char)(random_below(&dice, 3) == 0 ? random_below(&dice, 256)
                                                          : random_below(&dice, 3));
        for (size_t i = 0; i < sizeof all_types / sizeof all_types[0]; i++)
            try_all(all_types[i], bytes, random_below(&dice, HOSTILE_MAX));
    }
}

static void expect_fine(uint32_t type, const char *bytes, size_t len, bool is_fine)
{
    assert_int_equal(pg_binary_is_fine(type, (struct span){bytes, len}), is_fine);
    try_all(type, bytes, len);
}

#define FINE(type, bytes) expect_fine(type, bytes, sizeof bytes - 1, true)
#define NONE(type, bytes) expect_fine(type, bytes, sizeof bytes - 1, false)

static void test_bytes_that_are_no_value(void **state)
{
    (void)state;
    FINE(PG_OID_BOOL, "\1");
    NONE(PG_OID_BOOL, "\2");
    FINE(PG_OID_CHAR, "c");
    FINE(PG_OID_CHAR, "\177");
    NONE(PG_OID_CHAR, "\200"); /* as text it is four characters */
    NONE(PG_OID_CHAR, "\0");   /* and none */
    FINE(PG_OID_JSONB, "\1{}");
    NONE(PG_OID_JSONB, "\2{}");
    NONE(PG_OID_JSONB, "");
    FINE(PG_OID_NUMERIC, "\0\1\0\0\0\0\0\0\0\7");
    FINE(PG_OID_NUMERIC, "\0\0\0\0\300\0\0\0");
    NONE(PG_OID_NUMERIC, "\0\1\0\0\300\0\0\0\0\7");   /* NaN with a digit */
    NONE(PG_OID_NUMERIC, "\0\0\0\0\1\0\0\0");         /* an unknown sign */
    NONE(PG_OID_NUMERIC, "\0\1\0\0\0\0\0\0\x27\x10"); /* 10000 */
    NONE(PG_OID_NUMERIC, "\0\2\0\0\0\0\0\0\0\7");
    NONE(PG_OID_NUMERIC, "\0\1\0\0\0\0\x40\0\0\7"); /* its scale */
    NONE(PG_OID_NUMERIC, "\377\377\0\0\0\0\0\0");
    FINE(PG_OID_INT4S, "\0\0\0\0\0\0\0\0\0\0\0\27");
    FINE(PG_OID_INT4S, "\0\0\0\1\0\0\0\0\0\0\0\27\0\0\0\1\0\0\0\1\0\0\0\4\0\0\0\7");
    FINE(PG_OID_INT4S, "\0\0\0\1\0\0\0\1\0\0\0\27\0\0\0\1\0\0\0\1\377\377\377\377");
    NONE(PG_OID_INT4S, "\0\0\0\1\0\0\0\0\0\0\0\24\0\0\0\1\0\0\0\1\0\0\0\4\0\0\0\7"); /* of int8 */
    NONE(PG_OID_INT4S, "\0\0\0\1\0\0\0\0\0\0\0\27\0\0\0\1\0\0\0\1\0\0\0\3\0\0\7");
    NONE(PG_OID_INT4S, "\0\0\0\1\0\0\0\0\0\0\0\27\0\0\0\2\0\0\0\1\0\0\0\4\0\0\0\7");
    NONE(PG_OID_INT4S, "\0\0\0\1\0\0\0\0\0\0\0\27\0\0\0\1\0\0\0\1\0\0\0\4\0\0\0\7x");
    NONE(PG_OID_INT4S, "\0\0\0\1\0\0\0\0\0\0\0\27\377\377\377\377\0\0\0\1\0\0\0\4\0\0\0\7");
    NONE(PG_OID_INT4S, "\0\0\0\7\0\0\0\0\0\0\0\27"); /* seven dimensions */
    NONE(PG_OID_INT4S, "\0\0\0\3\0\0\0\0\0\0\0\27\177\377\377\377\0\0\0\1\177\377\377\377\0\0\0\1"
                       "\177\377\377\377\0\0\0\1\377\377\377\377");
    NONE(PG_OID_TEXTS, "\0\0\0\1\0\0\0\0\0\0\0\31\0\0\0\1\0\0\0\1\377\377\377\376");
    assert_false(pg_binary_is_fine(PG_OID_TEXT, (struct span){NULL, 0}));
    assert_false(pg_binary_is_known(1186));
}

static void test_times_beyond_what_can_be_told(void **state)
{
    int64_t us = 1;

    (void)state;
    /* 2000 + 292277 years count from 1970 in more than 63 bits. */
    assert_false(pg_binary_time(PG_OID_TIMESTAMPTZ,
                                (struct span){"\177\377\377\377\377\377\377\376", 8}, &us));
    assert_false(pg_binary_time(PG_OID_DATE, (struct span){"\177\377\377\376", 4}, &us));
    assert_true(pg_binary_time(PG_OID_DATE, (struct span){"\177\377\377\377", 4}, &us));
    assert_true(us == INT64_MAX);
    assert_true(pg_binary_time(PG_OID_DATE, (struct span){"\200\0\0\0", 4}, &us));
    assert_true(us == INT64_MIN);
    assert_true(pg_binary_time(PG_OID_TIMESTAMP, (struct span){"\0\0\0\0\0\0\0\0", 8}, &us));
    assert_true(us == 946684800000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_type_answers_as_its_text_does, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_random_numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text_is_text_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes_come_as_they_are, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_types_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_server_s_errors_stay_what_they_are, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_declared_shared_and_unprepared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_name_has_one_form, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_in_a_transaction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_streams, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_stream_that_cannot_be_read, set_up, tear_down),
        cmocka_unit_test(test_every_length_of_every_type),
        cmocka_unit_test(test_bytes_that_are_no_value),
        cmocka_unit_test(test_times_beyond_what_can_be_told),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
