/* Goal: what weft_json.h writes is JSON, whatever it is given, reads back as what it was, and calls
 * that do not nest are found. The host is a table of three functions. */
#include "lib/random.h"
#include "lib/test.h"
#include "weft_json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* What was allocated, to be freed. */
static void *kept[512];
static size_t kept_count;

static void *fake_alloc(weft_ctx *ctx, size_t size)
{
    (void)ctx;
    assert_in_range(kept_count, 0, 511);
    kept[kept_count] = calloc(1, size);
    return kept[kept_count++];
}

static void fake_log(weft_ctx *ctx, uint32_t level, weft_str text)
{
    (void)ctx;
    (void)level;
    assert_non_null(text.ptr);
}

static uint32_t fake_level(void)
{
    return WEFT_LOG_ERROR;
}

static const weft_core_api core = {.alloc = fake_alloc, .log = fake_log, .log_level = fake_level};
static const weft_api api = {.core = &core};
const weft_api *weft__api = &api;

static int tear_down(void **state)
{
    (void)state;
    while (kept_count > 0)
        free(kept[--kept_count]);
    return 0;
}

static void assert_text(weft_json *json, const char *wanted)
{
    weft_str text;

    assert_int_equal(weft_json_finish(json, &text), WEFT_OK);
    assert_string_equal(text.ptr, wanted);
    assert_int_equal(text.len, strlen(wanted));
}

static void test_writes_values(void **state)
{
    weft_json json;

    (void)state;
    weft_json_begin(&json, NULL);
    weft_json_object(&json);
    weft_json_key(&json, "int");
    weft_json_int(&json, INT64_MIN);
    weft_json_key(&json, "list");
    weft_json_array(&json);
    weft_json_bool(&json, 1);
    weft_json_bool(&json, 0);
    weft_json_null(&json);
    weft_json_object(&json);
    weft_json_end(&json);
    weft_json_string(&json, weft_cstr("a\"b\\c\n\t\x01/"));
    weft_json_string(&json, weft_cstr(NULL));
    weft_json_raw(&json, weft_cstr("{\"x\":[]}"));
    weft_json_raw(&json, weft_cstr(""));
    weft_json_end(&json);
    weft_json_key(&json, "zero");
    weft_json_int(&json, 0);
    weft_json_end(&json);
    assert_text(&json, "{\"int\":-9223372036854775808,\"list\":[true,false,null,{},"
                       "\"a\\\"b\\\\c\\n\\t\\u0001/\",null,{\"x\":[]},null],\"zero\":0}");
}

static void test_numbers_read_back(void **state)
{
    static const double numbers[] = {0,       -0.0, 1,      0.1,      1e300,  5e-324,
                                     1.0 / 3, -1.5, 1e-300, 123456.7, 1 << 30};
    double infinite = strtod("inf", NULL);

    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        weft_json json;
        weft_str text;

        weft_json_begin(&json, NULL);
        weft_json_double(&json, numbers[i]);
        assert_int_equal(weft_json_finish(&json, &text), WEFT_OK);
        double again = strtod(text.ptr, NULL);
        assert_memory_equal(&again, &numbers[i], sizeof again);
    }
    weft_json json;
    weft_json_begin(&json, NULL);
    weft_json_array(&json);
    weft_json_double(&json, infinite);
    weft_json_double(&json, -infinite);
    weft_json_double(&json, infinite - infinite);
    weft_json_end(&json);
    assert_text(&json, "[null,null,null]");
}

static void test_bytes_become_utf8(void **state)
{
    static const struct {
        const char *given, *wanted;
    } cases[] = {
        {"gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\""},
        {"\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\""},
        {"\xff", "\"\xef\xbf\xbd\""},
        {"a\xc3", "\"a\xef\xbf\xbd\""},
        {"\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\""},                 /* overlong */
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* a surrogate */
        {"\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* too high */
        {"\xe2\x82z", "\"\xef\xbf\xbd\xef\xbf\xbdz\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weft_json json;

        weft_json_begin(&json, NULL);
        weft_json_string(&json, weft_cstr(cases[i].given));
        assert_text(&json, cases[i].wanted);
    }
}

static void test_any_bytes_make_a_string(void **state)
{
    uint64_t random = 0x5eed;

    (void)state;
    for (uint32_t round = 0; round < 3000; round++) {
        char bytes[64];
        weft_str given = {bytes, random_below(&random, sizeof bytes)}, text;
        weft_json json;

        for (size_t i = 0; i < given.len; i++)
            bytes[i] = (char)random_below(&random, 256);
        weft_json_begin(&json, NULL);
        weft_json_string(&json, given);
        assert_int_equal(weft_json_finish(&json, &text), WEFT_OK);
        json_t *value = json_loadb(text.ptr, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_true(json_is_string(value));
        json_decref(value);
        (void)tear_down(NULL);
    }
}

/* Each letter is a call: { [ k(ey) v(alue) ). */
static void play(weft_json *json, const char *calls)
{
    weft_json_begin(json, NULL);
    for (; *calls != '\0'; calls++) {
        switch (*calls) {
        case '{':
            weft_json_object(json);
            break;
        case '[':
            weft_json_array(json);
            break;
        case 'k':
            weft_json_key(json, "k");
            break;
        case 'v':
            weft_json_int(json, 1);
            break;
        default:
            weft_json_end(json);
        }
    }
}

static void test_nesting_is_checked(void **state)
{
    static const char *const wrong[] = {"",   "{",  "[",   "{v)", "{k)",   "{kk",  "[kv)", "k",
                                        "v)", "vv", "[))", "[)v", "{kvv)", "[)[)", "{kv",  "{k{k)"};
    static const char *const right[] = {"v", "[)", "{)", "{kv)", "{k{kv)k[vv))", "[[)[)v{))"};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        weft_json json;
        weft_str text = {"x", 1};

        play(&json, wrong[i]);
        assert_int_equal(weft_json_finish(&json, &text), WEFT_E_STATE);
        assert_null(text.ptr);
    }
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        weft_json json;
        weft_str text;

        play(&json, right[i]);
        assert_int_equal(weft_json_finish(&json, &text), WEFT_OK);
        json_t *value = json_loads(text.ptr, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        json_decref(value);
    }
}

static void test_depth_is_limited(void **state)
{
    weft_json json;
    weft_str text;

    (void)state;
    for (uint32_t depth = 60; depth < 70; depth++) {
        weft_json_begin(&json, NULL);
        for (uint32_t i = 0; i < depth; i++)
            weft_json_array(&json);
        for (uint32_t i = 0; i < depth; i++)
            weft_json_end(&json);
        assert_int_equal(weft_json_finish(&json, &text),
                         depth < WEFT_JSON_DEPTH_MAX ? WEFT_OK : WEFT_E_STATE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_writes_values, tear_down),
        cmocka_unit_test_teardown(test_numbers_read_back, tear_down),
        cmocka_unit_test_teardown(test_bytes_become_utf8, tear_down),
        cmocka_unit_test_teardown(test_any_bytes_make_a_string, tear_down),
        cmocka_unit_test_teardown(test_nesting_is_checked, tear_down),
        cmocka_unit_test_teardown(test_depth_is_limited, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
