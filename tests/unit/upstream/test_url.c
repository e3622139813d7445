/* Goal: a url is taken apart as documented, and what is none is refused with what was expected. */
#include "lib/test.h"
#include "upstream/url.h"

#include <string.h>

/* One that is right, and its parts. */
struct good {
    const char *url;
    const char *host;
    const char *authority;
    const char *prefix;
    uint16_t port;
};

static void assert_part(struct span part, const char *wanted)
{
    assert_int_equal(part.len, strlen(wanted));
    assert_memory_equal(part.ptr, wanted, part.len);
}

static void test_good(void **state)
{
    static const struct good table[] = {
        {"http://api", "api", "api", "", 80},
        {"http://api/", "api", "api", "", 80},
        {"HTTP://Api.Example.com:80", "Api.Example.com", "Api.Example.com", "", 80},
        {"http://api:8080", "api", "api:8080", "", 8080},
        {"http://api:8080/v1", "api", "api:8080", "/v1", 8080},
        {"http://api:65535/v1/x//", "api", "api:65535", "/v1/x", 65535},
        {"http://my_service.local.", "my_service.local.", "my_service.local.", "", 80},
        {"http://127.0.0.1:9100/a%20b", "127.0.0.1", "127.0.0.1:9100", "/a%20b", 9100},
        {"http://[::1]", "::1", "[::1]", "", 80},
        {"http://[2001:db8::1]:81/p", "2001:db8::1", "[2001:db8::1]:81", "/p", 81},
        {"http://unix:/run/app.sock", "unix:/run/app.sock", "localhost", "", 0},
        {"http://unix:/run/app.sock:", "unix:/run/app.sock", "localhost", "", 0},
        {"http://unix:/run/app.sock:/v1/", "unix:/run/app.sock", "localhost", "/v1", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char problem[INI_PROBLEM_SIZE] = "";
        struct upstream_url parts;

        if (upstream_url_parse(table[i].url, &parts, problem) != ERR_OK)
            fail_msg("%s: %s", table[i].url, problem);
        assert_int_equal(parts.scheme.len, 4);
        assert_part(parts.host, table[i].host);
        assert_part(parts.authority, table[i].authority);
        assert_part(parts.prefix, table[i].prefix);
        assert_int_equal(parts.port, table[i].port);
    }
}

static void test_bad(void **state)
{
    static const char *const table[] = {
        "",
        "api",
        "//api",
        "http:/api",
        "http://",
        "http:///v1",
        "http://:80",
        "http://-api",
        "http://.api",
        "http://a pi",
        "http://a\tpi",
        "http://api\r\nX: y",
        "http://\xc3\xa4pi",
        "http://user@api",
        "http://user:secret@api",
        "http://api:",
        "http://api:0",
        "http://api:65536",
        "http://api:80x",
        "http://api:+80",
        "http://api:80:81",
        "http://::1",
        "http://[::1",
        "http://[]",
        "http://[::g]",
        "http://[127.0.0.1]",
        "http://[::1]80",
        "http://api?x=1",
        "http://api/?x=1",
        "http://api/v1?x",
        "http://api#x",
        "http://api/v1#x",
        "http://api/v 1",
        "http://api/\x7f",
        "http://unix:/run/app.sock:v1",
        "http://unix:/run/app.sock:/v1?",
        "http://unix:relative.sock",
        "ftp://api",
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char problem[INI_PROBLEM_SIZE] = "";
        struct upstream_url parts = {.port = 42};

        if (upstream_url_parse(table[i], &parts, problem) != ERR_SYNTAX)
            fail_msg("%s was taken", table[i]);
        assert_non_null(strstr(problem, "expected http://host[:port][/prefix]"));
        assert_int_equal(parts.port, 42);
    }
}

static void test_names_too_long(void **state)
{
    char url[512] = "http://";
    char problem[INI_PROBLEM_SIZE];
    struct upstream_url parts;

    (void)state;
    memset(url + 7, 'a', 253);
    assert_int_equal(upstream_url_parse(url, &parts, problem), ERR_OK);
    memset(url + 7, 'a', 254);
    assert_int_equal(upstream_url_parse(url, &parts, problem), ERR_SYNTAX);
    memset(url, 0, sizeof url);
    strcpy(url, "http://unix:/");
    memset(url + strlen(url), 'a', 200);
    assert_int_equal(upstream_url_parse(url, &parts, problem), ERR_SYNTAX);
}

static void test_https(void **state)
{
    char problem[INI_PROBLEM_SIZE];
    struct upstream_url parts;

    (void)state;
    assert_int_equal(upstream_url_parse("https://api.test/v1", &parts, problem), ERR_OK);
    assert_true(parts.is_tls);
    assert_int_equal(parts.port, 443);
    assert_true(span_equal(parts.authority, SPAN("api.test")));
    assert_int_equal(upstream_url_parse("HTTPS://api.test:80", &parts, problem), ERR_OK);
    assert_int_equal(parts.port, 80);
    assert_true(span_equal(parts.authority, SPAN("api.test:80")));
    assert_int_equal(upstream_url_parse("https://unix:/run/a.sock:/v1", &parts, problem), ERR_OK);
    assert_int_equal(parts.port, 0);
    assert_int_equal(upstream_url_parse("http://api.test", &parts, problem), ERR_OK);
    assert_false(parts.is_tls);
}

static enum err parse_places(const char *text, struct upstream_place *places, uint32_t *count)
{
    char problem[INI_PROBLEM_SIZE] = "";
    struct upstream_url url;
    enum err err;

    assert_int_equal(upstream_url_parse("http://api.test:81/v1", &url, problem), ERR_OK);
    err = upstream_places_parse(text, &url, places, count, problem);
    assert_true(err == ERR_OK || strstr(problem, "addresses: \"") != NULL);
    return err;
}

static void test_places(void **state)
{
    static const struct {
        const char *host;
        uint16_t port;
    } wanted[] = {{"10.0.0.1", 81},        {"10.0.0.1", 80},     {"::1", 82},
                  {"unix:/run/a.sock", 0}, {"api-2.test", 8080}, {"::2", 81}};
    struct upstream_place places[UPSTREAM_PLACES_MAX];
    uint32_t count = 0;

    (void)state;
    assert_int_equal(parse_places("", places, &count), ERR_OK);
    assert_int_equal(count, 1);
    assert_true(span_equal(places[0].host, SPAN("api.test")));
    assert_int_equal(places[0].port, 81);
    assert_int_equal(parse_places("10.0.0.1 10.0.0.1:80\t[::1]:82  unix:/run/a.sock "
                                  "api-2.test:8080 [::2] ",
                                  places, &count),
                     ERR_OK);
    assert_int_equal(count, 6);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(span_equal(places[i].host, span_of(wanted[i].host)));
        assert_int_equal(places[i].port, wanted[i].port);
    }
}

static void test_bad_places(void **state)
{
    static const char *const texts[] = {"a:0", "a:65536", "a:",    "::1", "[::1",    "u@h",
                                        "a,b", "a b/",    "unix:", "-a",  "http://a"};
    struct upstream_place places[UPSTREAM_PLACES_MAX];
    char many[(UPSTREAM_PLACES_MAX + 1) * 2 + 1] = "";
    uint32_t count;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (parse_places(texts[i], places, &count) != ERR_SYNTAX)
            fail_msg("%s", texts[i]);
    for (int i = 0; i < UPSTREAM_PLACES_MAX; i++)
        strcat(many, "a ");
    assert_int_equal(parse_places(many, places, &count), ERR_OK);
    strcat(many, "a");
    assert_int_equal(parse_places(many, places, &count), ERR_SYNTAX);
}

static void test_path(void **state)
{
    (void)state;
    assert_true(upstream_is_path(SPAN("/")));
    assert_true(upstream_is_path(SPAN("/a/b?c=d&e=%20")));
    assert_true(upstream_is_path(SPAN("//")));
    assert_false(upstream_is_path(SPAN("")));
    assert_false(upstream_is_path((struct span){NULL, 0}));
    assert_false(upstream_is_path(SPAN("a")));
    assert_false(upstream_is_path(SPAN("*")));
    assert_false(upstream_is_path(SPAN("/a b")));
    assert_false(upstream_is_path(SPAN("/a\r\nX: y")));
    assert_false(upstream_is_path(SPAN("/a\0b")));
    assert_false(upstream_is_path(SPAN("/a#b")));
    assert_false(upstream_is_path(SPAN("/\xc3\xa4")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),           cmocka_unit_test(test_bad),
        cmocka_unit_test(test_names_too_long), cmocka_unit_test(test_https),
        cmocka_unit_test(test_path),           cmocka_unit_test(test_places),
        cmocka_unit_test(test_bad_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
