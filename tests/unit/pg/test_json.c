/* Goal: whatever the server answers, the JSON made of it is what the server itself would make: it
 *       is handed back and compared there. */
#include "lib/pg_server.h"
#include "lib/test.h"

#include <stdio.h>
#include <string.h>

#define BAD "\xef\xbf\xbd" /* U+FFFD */

static struct pg_server server;
static struct pg_world world;

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    if (!server.is_missing) {
        pg_world_init(&world, &server);
        pg_world_start(&world);
    }
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    pg_server_deinit(&server);
    return 0;
}

/* The JSON of an op, with a NUL behind it; the caller's to release. */
static struct buf json_of(const struct op *op, bool one_row)
{
    struct buf out = {0};

    assert_true(pg_json(op, one_row, 1 << 30, &out));
    buf_append(&out, (struct span){"", 1});
    return out;
}

static void expect_json(const char *sql, bool one_row, const char *json)
{
    struct buf out = json_of(pg_world_run(&world, sql), one_row);

    assert_string_equal(out.data, json);
    buf_release(&out);
}

static void test_rows_become_objects(void **state)
{
    (void)state;
    pg_server_need(&server);
    expect_json("select 1 as a, 'x' as b union all select 2, null order by 1", false,
                "[{\"a\":1,\"b\":\"x\"},{\"a\":2,\"b\":null}]");
    expect_json("select 1 as a where false", false, "[]");
    expect_json("select 1 as a where false", true, "null");
    expect_json("select 1 as a union all select 2 order by 1", true, "{\"a\":1}");
    expect_json("select from generate_series(1, 2)", false, "[{},{}]");
    expect_json("create table json_nothing ()", false, "[]");
}

static void test_each_type_is_written_as_what_it_is(void **state)
{
    (void)state;
    pg_server_need(&server);
    expect_json("select true as a, false as b, 1::int2 as c, -5::int8 as d, 7::oid as e", true,
                "{\"a\":true,\"b\":false,\"c\":1,\"d\":-5,\"e\":7}");
    expect_json("select 0.5::float8 as a, -1e-10::float4 as b, 12345678901234567890.5 as c", true,
                "{\"a\":0.5,\"b\":-1e-10,\"c\":12345678901234567890.5}");
    expect_json("select 'NaN'::float8 as a, '-Infinity'::float4 as b, 'Infinity'::numeric as c",
                true, "{\"a\":\"NaN\",\"b\":\"-Infinity\",\"c\":\"Infinity\"}");
    expect_json("select '{\"x\": [1]}'::json as a, '2'::jsonb as b, null::json as c", true,
                "{\"a\":{\"x\": [1]},\"b\":2,\"c\":null}");
    expect_json("select '2020-01-02'::date as a, 'a'::\"char\" as b, '{1,2}'::int[] as c", true,
                "{\"a\":\"2020-01-02\",\"b\":\"a\",\"c\":\"{1,2}\"}");
}

static void test_strings_are_escaped(void **state)
{
    (void)state;
    pg_server_need(&server);
    expect_json("select E'\"\\\\/\\b\\f\\n\\r\\t\\x01\\x1f\\x7f§€😀' as \"a\"\"\\\n\"", true,
                "{\"a\\\"\\\\\\n\":\"\\\"\\\\/\\u0008\\u000c\\n\\r\\t\\u0001\\u001f\x7f§€😀\"}");
}

/* Every character that there is, a thousand at a time. */
static void test_the_server_reads_back_what_was_written(void **state)
{
    (void)state;
    pg_server_need(&server);
    for (int from = 1; from < 0x110000; from += 0x1100) {
        char sql[256];
        struct pg_value values[2];
        struct buf out;
        struct op *op;

        (void)snprintf(sql, sizeof sql,
                       "select string_agg(chr(i), '') as t from generate_series(%d, %d) i "
                       "where i not between 55296 and 57343",
                       from, from + 0x10ff < 0x110000 ? from + 0x10ff : 0x10ffff);
        op = pg_world_run(&world, sql);
        if (pg_is_null(op, 0, 0))
            continue;
        out = json_of(op, true);
        values[0] = pg_world_text(out.data);
        values[1] = (struct pg_value){.kind = PG_TEXT, .as.text = pg_text(op, 0, 0)};
        op = pg_world_start_sql(&world, "select $1::jsonb->>'t' = $2", 2, values);
        assert_int_equal(pg_world_await(&world, op), ERR_OK);
        assert_true(pg_bool(op, 0, 0));
        buf_release(&out);
        pg_world_renew(&world);
    }
}

static void test_what_is_not_utf8_is_replaced(void **state)
{
    struct pg_world raw;
    struct buf out = {0};

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "create database raw template template0 encoding 'SQL_ASCII'");
    pg_world_init(&raw, &server);
    strcpy(raw.options.dbname, "raw");
    raw.options.sessions_max = 1;
    pg_world_start(&raw);
    /* The server sees to it that all is UTF-8, unless a function tells it not to. */
    pg_world_run(&raw, "select set_config('client_encoding', 'SQL_ASCII', false)");
    assert_true(
        pg_json(pg_world_run(&raw, "select chr(65) || convert_from('\\xff', 'SQL_ASCII') || "
                                   "convert_from('\\xc3a4', 'SQL_ASCII') || "
                                   "convert_from('\\xc3', 'SQL_ASCII') || "
                                   "convert_from('\\xeda080', 'SQL_ASCII') || "
                                   "convert_from('\\xc0af', 'SQL_ASCII') || "
                                   "convert_from('\\xf4908080', 'SQL_ASCII') as t"),
                true, 100, &out));
    buf_append(&out, (struct span){"", 1});
    assert_string_equal(out.data,
                        "{\"t\":\"A" BAD "ä" BAD BAD BAD BAD BAD BAD BAD BAD BAD BAD "\"}");
    buf_release(&out);
    pg_world_deinit(&raw);
}

/* Nothing else in it is touched: what was escaped stays so, and is not escaped again. */
static void test_nor_what_is_not_utf8_in_json(void **state)
{
    static const char *const types[] = {"json", "jsonb"};
    struct pg_world raw;

    (void)state;
    pg_server_need(&server);
    (void)pg_server_run(&server, "drop database if exists raw");
    (void)pg_server_run(&server, "create database raw template template0 encoding 'SQL_ASCII'");
    pg_world_init(&raw, &server);
    strcpy(raw.options.dbname, "raw");
    raw.options.sessions_max = 1;
    pg_world_start(&raw);
    pg_world_run(&raw, "select set_config('client_encoding', 'SQL_ASCII', false)");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char sql[256];
        struct buf out = {0};

        (void)snprintf(
            sql, sizeof sql,
            "select convert_from('{\"\\377t\": \"\\\\\"12345678 \\303\\303\\244\\377\"}', "
            "'SQL_ASCII')::%s as t",
            types[i]);
        assert_true(pg_json(pg_world_run(&raw, sql), true, 100, &out));
        buf_append(&out, (struct span){"", 1});
        assert_string_equal(out.data, "{\"t\":{\"" BAD "t\": \"\\\"12345678 " BAD "ä" BAD "\"}}");
        buf_release(&out);
    }
    pg_world_deinit(&raw);
}

/* As a function may set it, whatever the database has. */
static void test_latin1_in_json_is_replaced(void **state)
{
    struct pg_world latin;
    struct buf out = {0};

    (void)state;
    pg_server_need(&server);
    pg_world_init(&latin, &server);
    latin.options.sessions_max = 1;
    pg_world_start(&latin);
    pg_world_run(&latin, "select set_config('client_encoding', 'LATIN1', false)");
    assert_true(pg_json(pg_world_run(&latin, "select jsonb_build_array(chr(228), 1) as t, "
                                             "json_build_object('k', chr(223)) as u"),
                        true, 100, &out));
    buf_append(&out, (struct span){"", 1});
    assert_string_equal(out.data, "{\"t\":[\"" BAD "\", 1],\"u\":{\"k\" : \"" BAD "\"}}");
    buf_release(&out);
    pg_world_deinit(&latin);
}

/* To the byte. */
static void test_no_more_is_written_than_may_be(void **state)
{
    static const struct {
        const char *sql;
        size_t size;
    } cases[] = {
        {"select i as a from generate_series(1, 9) i", 9 * sizeof "{\"a\":1}" + 1},
        {"select repeat(chr(1), 100) as a", sizeof "[{\"a\":\"\"}]" - 1 + 600},
        {"select 1 as \"a long name\"", sizeof "[{\"a long name\":1}]" - 1},
        {"select where false", 2},
        {"select 1 as \"a long name\" where false", 2},
    };

    (void)state;
    pg_server_need(&server);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct op *op = pg_world_run(&world, cases[i].sql);
        struct buf out = {0};

        buf_append(&out, SPAN("before"));
        assert_true(pg_json(op, false, cases[i].size, &out));
        assert_int_equal(out.len, 6 + cases[i].size);
        for (size_t max = 0; max < cases[i].size; max++) {
            buf_consume(&out, out.len);
            assert_false(pg_json(op, false, max, &out));
            assert_in_range(out.len, 0, max);
        }
        buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_become_objects),
        cmocka_unit_test(test_each_type_is_written_as_what_it_is),
        cmocka_unit_test(test_strings_are_escaped),
        cmocka_unit_test(test_no_more_is_written_than_may_be),
        cmocka_unit_test(test_the_server_reads_back_what_was_written),
        cmocka_unit_test(test_what_is_not_utf8_is_replaced),
        cmocka_unit_test(test_nor_what_is_not_utf8_in_json),
        cmocka_unit_test(test_latin1_in_json_is_replaced),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
