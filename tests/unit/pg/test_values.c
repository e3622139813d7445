/* Goal: whatever value is given as a parameter comes back as the same value: times from the first
 *       to the last that the server has, numbers to their last bit, bytes, texts and arrays of any
 *       content; and whatever a server may write is read, or refused, within its bounds.
 *
 * WEFT_SOAK=1 tries many more, WEFT_SEED says which. */
#include "base/mem.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/random.h"
#include "lib/test.h"
#include "pg/calendar.h"
#include "pg/decode.h"
#include "pg/encode.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ITEMS_MAX = 40, TEXT_MAX = 200 };

static struct pg_server server;
static struct pg_world world;
static uint64_t dice;
static int rounds;

static int start_server(void **state)
{
    const char *seed = getenv("WEFT_SEED");

    (void)state;
    dice = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)getpid() * 0x9e3779b97f4a7c15u;
    rounds = getenv("WEFT_SOAK") != NULL ? 100000 : 500;
    print_message("WEFT_SEED=%" PRIu64 "\n", dice);
    pg_server_init(&server, "");
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

static struct op *ask(const char *sql, const struct pg_value *value)
{
    struct op *op = pg_world_start_sql(&world, sql, 1, value);
    enum err err = pg_world_await(&world, op);

    if (err != ERR_OK)
        fail_msg("%s: %s: %.*s", sql, err_name(err), SPAN_ARG(op->error));
    return op;
}

static void expect_refused(const char *sql, const struct pg_value *value, const char *sqlstate)
{
    struct op *op = pg_world_start_sql(&world, sql, 1, value);
    enum err err = pg_world_await(&world, op);

    assert_int_not_equal(err, ERR_OK);
    assert_string_equal(pg_sqlstate(op).ptr, sqlstate);
}

/* Times */

static void expect_time(const char *text, int64_t us)
{
    int64_t read = 1;

    assert_true(pg_time_read(span_of(text), &read));
    if (read != us)
        fail_msg("%s is %" PRId64 ", not %" PRId64, text, read, us);
}

static void test_times_are_read(void **state)
{
    static const char *const none[] = {
        "",           "1970",       "1970-01-01 00", "1970-01-01 00:00:00+",  "1970-13-01",
        "1970-01-00", "1970-01-32", "0000-01-01",    "1970-01-01 00:00:00.",  "1970-01-01x",
        "01/02/1970", "1 day",      "1970-1-1",      "1970-01-01 00:00:00+0", "9999999-01-01",
        "-1970-01-01"};
    int64_t us;

    (void)state;
    expect_time("1970-01-01", 0);
    expect_time("1970-01-01 00:00:00", 0);
    expect_time("1970-01-01 00:00:00.000001+00", 1);
    expect_time("1970-01-01 02:30:00.5+02:30", 500000);
    expect_time("1969-12-31 23:59:59.999999+00", -1);
    expect_time("1970-01-01 00:00:00-00:19:32", 1172000000);
    expect_time("2000-02-29 12:00:00+00", 951825600000000);
    expect_time("infinity", INT64_MAX);
    expect_time("-infinity", INT64_MIN);
    expect_time("0001-12-31 00:00:00+00 BC", -62135683200000000 - 86400000000 + 86400000000);
    expect_time("0001-12-31 BC", -62135683200000000);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        if (pg_time_read(span_of(none[i]), &us))
            fail_msg("%s was read", none[i]);
}

static int64_t random_time(void)
{
    static const int64_t some[] = {
        0, 1, -1, INT64_MAX, INT64_MIN, -210866803200000000, INT64_MAX - 1};
    int64_t us = (int64_t)random_next(&dice);

    if (random_below(&dice, 4) == 0)
        return some[random_below(&dice, sizeof some / sizeof some[0])];
    return us >> random_below(&dice, 60);
}

static void test_times_come_back(void **state)
{
    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < rounds; i++) {
        const struct pg_value value = {.kind = PG_TIME, .as.i = random_time()};
        char text[PG_TIME_SIZE];
        int64_t us = 0;
        struct op *op;

        pg_time_write(value.as.i, text);
        assert_true(pg_time_read(span_of(text), &us));
        assert_true(us == value.as.i);
        if (value.as.i < -210866803200000000 && value.as.i != INT64_MIN)
            continue; /* before the server's first day */
        op = ask("select $1::timestamptz, $1::timestamp, extract(epoch from $1::timestamptz)",
                 &value);
        for (uint32_t column = 0; column < 2; column++) {
            assert_true(pg_time_read(pg_text(op, 0, column), &us));
            if (us != value.as.i)
                fail_msg("%s came back as %s", text, pg_text(op, 0, column).ptr);
        }
        if (i % 100 == 99)
            pg_world_renew(&world);
    }
}

static void test_zones_and_dates_of_the_server(void **state)
{
    static const char *const zones[] = {"UTC", "Europe/Vienna", "Asia/Kolkata", "America/St_Johns",
                                        "Africa/Monrovia"};
    char sql[400];
    int64_t us;

    (void)state;
    pg_server_need(&server);
    for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++) {
        struct op *op;

        (void)snprintf(sql, sizeof sql,
                       "select t::text, (extract(epoch from t) * 1000000)::int8 from (select "
                       "set_config('timezone', '%s', false)) z, generate_series(timestamptz "
                       "'1890-05-01', '2040-01-01', '10001 hours') t",
                       zones[i]);
        op = pg_world_run(&world, sql);
        for (uint32_t row = 0; row < pg_rows(op); row++) {
            assert_true(pg_time_read(pg_text(op, row, 0), &us));
            assert_true(us == pg_int(op, row, 1));
        }
    }
    pg_world_check(pg_world_run(&world, "show datestyle"), "ISO, MDY");
}

/* Numbers and truth */

static double random_double(void)
{
    static const double some[] = {
        0.0,           -0.0,     1.0,       -1.5,     0.1,     1e15,
        1e16,          1e300,    DBL_MAX,   -DBL_MAX, DBL_MIN, DBL_TRUE_MIN,
        -DBL_TRUE_MIN, INFINITY, -INFINITY, NAN,      0x1p53,  123456789012345678.0};
    uint64_t bits = random_next(&dice);
    double any;

    switch (random_below(&dice, 4)) {
    case 0:
        return some[random_below(&dice, sizeof some / sizeof some[0])];
    case 1:
        bits &= 0x800fffffffffffff; /* a denormal one */
        break;
    default:
        break;
    }
    memcpy(&any, &bits, sizeof any);
    return any;
}

static bool is_same(double one, double other)
{
    return memcmp(&one, &other, sizeof one) == 0 || (isnan(one) && isnan(other));
}

/* The server sends the number's own bits, as bytes: nothing that we read text with is asked. */
static void test_doubles_come_back(void **state)
{
    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < rounds; i++) {
        const struct pg_value value = {.kind = PG_DOUBLE, .as.d = random_double()};
        struct op *op = ask("select $1::float8, ('x' || encode(float8send($1::float8), 'hex'))"
                            "::bit(64)::int8",
                            &value);
        int64_t bits = pg_int(op, 0, 1);
        double sent;

        memcpy(&sent, &bits, sizeof sent);
        if (!is_same(sent, value.as.d) || !is_same(pg_double(op, 0, 0), value.as.d))
            fail_msg("%.17g came to the server as %.17g, and back as %s", value.as.d, sent,
                     pg_text(op, 0, 0).ptr);
        if (i % 100 == 99)
            pg_world_renew(&world);
    }
}

/* A number of up to 17 digits, of which up to 9 stand behind the point. */
static double random_decimal(void)
{
    uint64_t digits = random_next(&dice) % 100000000000000000;
    double number;

    for (uint32_t less = random_below(&dice, 18); less > 0; less--)
        digits /= 10;
    number = (double)digits;
    for (uint32_t places = random_below(&dice, 10); places > 0; places--)
        number /= 10;
    return random_below(&dice, 2) == 0 ? number : -number;
}

/* Most are written without printf(), and to the same digits. */
static void test_doubles_are_written_as_printf_does(void **state)
{
    static const double some[] = {0.0001, 0.0002,           0.00009, 1e-6,      999999999999999,
                                  1e15,   99999999.9999999, 0.5,     1e14 + .5, 0.1 + 0.2};

    (void)state;
    for (int i = 0; i < rounds * 20; i++) {
        struct pg_value value = {.kind = PG_DOUBLE, .as.d = random_decimal()};
        char expected[64], text[64];

        if (i % 4 == 0)
            value.as.d = random_double();
        if ((size_t)i < sizeof some / sizeof some[0])
            value.as.d = some[i];
        if (isnan(value.as.d) || isinf(value.as.d))
            continue;
        for (int digits = 15; digits <= 17; digits++) {
            (void)snprintf(expected, sizeof expected, "%.*g", digits, value.as.d);
            if (strtod(expected, NULL) == value.as.d)
                break;
        }
        assert_true(pg_value_size(&value) <= sizeof text);
        pg_value_write(&value, text);
        assert_string_equal(text, expected);
    }
}

/* As a numeric, too, which is more strict. */
static void test_numbers_that_are_none(void **state)
{
    static const struct {
        double number;
        const char *text;
    } cases[] = {{NAN, "NaN"}, {-NAN, "NaN"}, {INFINITY, "Infinity"}, {-INFINITY, "-Infinity"}};

    (void)state;
    pg_server_need(&server);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct pg_value value = {.kind = PG_DOUBLE, .as.d = cases[i].number};

        pg_world_check(ask("select $1::numeric", &value), cases[i].text);
        pg_world_check(ask("select $1::float8", &value), cases[i].text);
        pg_world_check(ask("select $1::float4", &value), cases[i].text);
    }
}

static void test_ints_and_bools_come_back(void **state)
{
    static const int64_t some[] = {0, 1, -1, INT64_MIN, INT64_MAX, INT32_MIN, INT32_MAX};

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < rounds; i++) {
        struct pg_value value = {.kind = PG_INT, .as.i = (int64_t)random_next(&dice)};
        char text[32];
        struct op *op;

        if (i % 4 == 0)
            value.as.i = some[random_below(&dice, sizeof some / sizeof some[0])];
        value.as.i >>= i % 4 == 1 ? random_below(&dice, 64) : 0;
        (void)snprintf(text, sizeof text, "%" PRId64, value.as.i);
        op = ask("select $1::int8, int8send($1::int8) = decode(lpad(to_hex($1::int8), 16, '0'),"
                 " 'hex')",
                 &value);
        pg_world_check(op, text);
        assert_true(pg_int(op, 0, 0) == value.as.i && pg_bool(op, 0, 1));
        value.kind = PG_BOOL;
        op = ask("select $1::bool, (not $1::bool)::int", &value);
        assert_true(pg_bool(op, 0, 0) == (value.as.i != 0));
        assert_int_equal(pg_int(op, 0, 1), value.as.i == 0);
        if (i % 100 == 99)
            pg_world_renew(&world);
    }
}

/* Texts, bytes, arrays */

/* Any bytes, or characters of each length, among them all that mean something in an array. */
static struct span random_text(char *out, bool may_be_any)
{
    static const char *const letters[] = {
        "a", "b",  ",", "{", "}", "\"", "\\", " ", "'",        "\n",           "NULL",
        "x", "\t", "[", "]", "=", ";",  "%",  "$", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    size_t most = random_below(&dice, 3) == 0 ? 0 : random_below(&dice, TEXT_MAX), len = 0;

    while (len < most) {
        const char *letter = letters[random_below(&dice, sizeof letters / sizeof letters[0])];

        if (may_be_any)
            out[len++] = (char)random_below(&dice, 256);
        else if (len + strlen(letter) > most)
            break;
        else
            for (; *letter != '\0'; letter++)
                out[len++] = *letter;
    }
    return (struct span){out, len};
}

static void expect_same(struct span is, struct span wanted)
{
    assert_int_equal(is.ptr == NULL, wanted.ptr == NULL);
    assert_int_equal(is.len, wanted.len);
    if (wanted.len > 0)
        assert_memory_equal(is.ptr, wanted.ptr, wanted.len);
}

static void test_bytes_come_back(void **state)
{
    char in[TEXT_MAX], out[5 * TEXT_MAX];
    size_t len;

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < rounds; i++) {
        const struct pg_value value = {.kind = PG_BYTES, .as.text = random_text(in, true)};
        struct op *op = ask("select $1::bytea, encode($1::bytea, 'escape')", &value);

        for (uint32_t column = 0; column < 2; column++) {
            assert_true(pg_bytes_read(pg_text(op, 0, column), out, &len));
            expect_same((struct span){out, len}, value.as.text);
        }
        if (i % 100 == 99)
            pg_world_renew(&world);
    }
    assert_false(pg_bytes_read(SPAN("\\x0"), out, &len));
    assert_false(pg_bytes_read(SPAN("\\x0g"), out, &len));
    assert_false(pg_bytes_read(SPAN("a\\"), out, &len));
    assert_false(pg_bytes_read(SPAN("\\40"), out, &len));
    assert_false(pg_bytes_read(SPAN("\\400"), out, &len));
}

static void expect_array(const struct op *op, const struct span *wanted, uint32_t wanted_count)
{
    struct span text = pg_text(op, 0, 0);
    char *store = malloc(2 * text.len + 2);
    struct span *items = malloc(pg_array_count_max(text) * sizeof *items);
    uint32_t count = 0;

    assert_true(pg_array_read(text, store, items, &count));
    assert_int_equal(count, wanted_count);
    for (uint32_t i = 0; i < count; i++)
        expect_same(items[i], wanted[i]);
    free(items);
    free(store);
}

static void test_arrays_of_text_come_back(void **state)
{
    static char store[ITEMS_MAX][TEXT_MAX];
    struct span items[ITEMS_MAX];
    uint32_t count;

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < rounds; i++) {
        count = random_below(&dice, ITEMS_MAX);
        for (uint32_t at = 0; at < count; at++)
            items[at] = random_below(&dice, 10) == 0 ? (struct span){NULL, 0}
                                                     : random_text(store[at], false);
        expect_array(ask("select $1::text[]", &(struct pg_value){.kind = PG_TEXTS,
                                                                 .as.texts.items = items,
                                                                 .as.texts.count = count}),
                     items, count);
        if (i % 100 == 99)
            pg_world_renew(&world);
    }
}

static void test_arrays_of_numbers_come_back(void **state)
{
    int64_t numbers[ITEMS_MAX];
    struct span texts[ITEMS_MAX];
    char store[ITEMS_MAX][32];

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < rounds; i++) {
        uint32_t count = random_below(&dice, ITEMS_MAX);

        for (uint32_t at = 0; at < count; at++) {
            numbers[at] = random_below(&dice, 9) == 0 ? INT64_MIN : (int64_t)random_next(&dice);
            (void)snprintf(store[at], sizeof store[at], "%" PRId64, numbers[at]);
            texts[at] = span_of(store[at]);
        }
        expect_array(ask("select $1::int8[]", &(struct pg_value){.kind = PG_INTS,
                                                                 .as.ints.items = numbers,
                                                                 .as.ints.count = count}),
                     texts, count);
        if (i % 100 == 99)
            pg_world_renew(&world);
    }
}

/* The server reads the JSON that it would write of a text itself, and takes it for the same. */
static void test_texts_and_json_come_back(void **state)
{
    char store[TEXT_MAX];

    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < rounds; i++) {
        struct pg_value value = {.kind = PG_TEXT, .as.text = random_text(store, false)};
        struct op *op = ask("select $1::text, to_json($1::text)::text", &value);
        struct pg_value json = {.kind = PG_JSON, .as.text = pg_text(op, 0, 1)};

        expect_same(pg_text(op, 0, 0), value.as.text);
        op = ask("select $1::jsonb #>> '{}', $1::json::text", &json);
        expect_same(pg_text(op, 0, 0), value.as.text);
        expect_same(pg_text(op, 0, 1), json.as.text);
        if (i % 100 == 99)
            pg_world_renew(&world);
    }
}

/* By the server: a text is no UTF-8, or has what JSON may not have; and by us: a NUL. */
static void test_texts_that_are_none(void **state)
{
    static const struct span bad[] = {SPAN("\xff"), SPAN("a\xc3"), SPAN("\xed\xa0\x80"),
                                      SPAN("\xc0\x80"), SPAN("\xf4\x90\x80\x80")};
    static const struct span nul = SPAN("a\0b");
    static const enum pg_kind kinds[] = {PG_TEXT, PG_JSON};
    struct pg_value value = {.kind = PG_TEXTS, .as.texts = {bad, 1}};

    (void)state;
    pg_server_need(&server);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        value = (struct pg_value){.kind = PG_TEXT, .as.text = bad[i]};
        expect_refused("select $1::text", &value, "22021");
        value = (struct pg_value){.kind = PG_TEXTS, .as.texts = {&bad[i], 1}};
        expect_refused("select $1::text[]", &value, "22021");
    }
    value = (struct pg_value){.kind = PG_JSON, .as.text = SPAN("{\"a\":")};
    expect_refused("select $1::json", &value, "22P02");
    value = (struct pg_value){.kind = PG_JSON, .as.text = SPAN("\"\\u0000\"")};
    expect_refused("select $1::jsonb", &value, "22P05");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        value = (struct pg_value){.kind = kinds[i], .as.text = nul};
        assert_int_equal(pg_world_start_sql(&world, "select $1", 1, &value)->status, ERR_DB_VALUE);
    }
    pg_world_check(pg_world_run(&world, "select 1"), "1");
}

static void test_what_an_array_is_used_for(void **state)
{
    static const int64_t ids[] = {2, 3, 9};
    static const struct span names[] = {SPAN("a"), {NULL, 0}};
    struct pg_value value = {.kind = PG_INTS, .as.ints.items = ids, .as.ints.count = 3};
    struct op *op;

    (void)state;
    pg_server_need(&server);
    op = ask("select string_agg(n::text, ' ' order by n) from generate_series(1, 5) n where "
             "n = any($1)",
             &value);
    pg_world_check(op, "2 3");
    value.as.ints.items = NULL;
    assert_true(pg_is_null(ask("select $1::int[]", &value), 0, 0));
    value = (struct pg_value){.kind = PG_TEXTS, .as.texts.items = names, .as.texts.count = 2};
    pg_world_check(ask("select array_position($1::text[], null)", &value), "2");
    value.as.texts.items = &(struct span){"a\0b", 3};
    value.as.texts.count = 1;
    assert_int_equal(pg_world_start_sql(&world, "select $1::text[]", 1, &value)->status,
                     ERR_DB_VALUE);
}

/* What no server of ours would write */

static void test_any_text_is_read_or_refused(void **state)
{
    static const char letters[] = "{}[],\"\\=0123456789x-:. +BCinfty";
    char text[64], store[130], out[64];
    struct span items[65];

    (void)state;
    for (int i = 0; i < 200 * rounds; i++) {
        struct span any = {text, random_below(&dice, sizeof text)};
        char *exact = malloc(any.len + 1); /* so that the sanitizer sees a step beyond it */
        uint32_t count = 0;
        int64_t us;
        size_t len;

        for (size_t at = 0; at < any.len; at++)
            exact[at] = letters[random_below(&dice, sizeof letters - 1)];
        any.ptr = exact;
        if (any.len > 0 && i % 2 == 0)
            exact[0] = '{';
        if (pg_array_read(any, store, items, &count))
            assert_true(count <= pg_array_count_max(any));
        if (pg_bytes_read(any, out, &len))
            assert_true(len <= any.len);
        (void)pg_time_read(any, &us);
        free(exact);
    }
}

static void test_arrays_of_other_forms(void **state)
{
    static const char *const none[] = {"",       "{",        "}",        "{1",        "{1,}",
                                       "{,1}",   "{1}x",     "1,2",      "{{1},{2}}", "{\"a}",
                                       "{\"a\\", "[0:1]{1}", "{\"a\"b}", "{a\"b\"}"};
    char store[64];
    struct span items[32];
    uint32_t count = 9;

    (void)state;
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        if (pg_array_read(span_of(none[i]), store, items, &count))
            fail_msg("%s was read", none[i]);
    assert_true(pg_array_read(SPAN("[0:1]={a,NULL}"), store, items, &count));
    assert_int_equal(count, 2);
    expect_same(items[0], SPAN("a"));
    assert_null(items[1].ptr);
    assert_true(pg_array_read(SPAN("{}"), store, items, &count));
    assert_int_equal(count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times_are_read),
        TEST(test_times_come_back),
        TEST(test_zones_and_dates_of_the_server),
        TEST(test_doubles_come_back),
        cmocka_unit_test(test_doubles_are_written_as_printf_does),
        TEST(test_numbers_that_are_none),
        TEST(test_ints_and_bools_come_back),
        TEST(test_texts_and_json_come_back),
        TEST(test_texts_that_are_none),
        TEST(test_bytes_come_back),
        TEST(test_arrays_of_text_come_back),
        TEST(test_arrays_of_numbers_come_back),
        TEST(test_what_an_array_is_used_for),
        cmocka_unit_test(test_any_text_is_read_or_refused),
        cmocka_unit_test(test_arrays_of_other_forms),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
