/* Goal: targets are taken apart as RFC 3986 says or refused, paths are decoded once with dot
 * segments resolved and no way out of the root, and values of queries come decoded as browsers send
 * them. */
#include "http/uri.h"
#include "lib/test.h"

#include <stdio.h>
#include <stdlib.h>

/* A target, and its parts as "authority|path|query"; NULL: refused. */
struct target {
    const char *text;   /* what comes */
    const char *wanted; /* "-" for an absent part */
};

static const struct target targets[] = {
    {"/", "-|/|-"},
    {"/a/b", "-|/a/b|-"},
    {"/a?b", "-|/a|b"},
    {"/a?", "-|/a|"},
    {"/a?b?c=/d", "-|/a|b?c=/d"},
    {"/?{}|\\^`[]\"", "-|/|{}|\\^`[]\""},
    {"/a:b@c!$&'()*+,;=-._~%20", "-|/a:b@c!$&'()*+,;=-._~%20|-"},
    {"//a", "-|//a|-"},
    {"*", "-|*|-"},
    {"http://a", "a|/|-"},
    {"HTTP://a/b", "a|/b|-"},
    {"https://a:1?x", "a:1|/|x"},
    {"http://[::1]:80/x", "[::1]:80|/x|-"},
    {"", NULL},
    {"a", NULL},
    {"**", NULL},
    {"*/", NULL},
    {"http:", NULL},
    {"http:/a", NULL},
    {"http://", NULL},
    {"http:///a", NULL},
    {"http://?a", NULL},
    {"http://u@a/", NULL},
    {"http://u:p@a/", NULL},
    {"http://a:65536/", NULL},
    {"http://a:x/", NULL},
    {"httpx://a/", NULL},
    {"ftp://a/", NULL},
    {"/a b", NULL},
    {"/a\"", NULL},
    {"/<", NULL},
    {"/{a}", NULL},
    {"/a|b", NULL},
    {"/a\\b", NULL},
    {"/a^", NULL},
    {"/a`", NULL},
    {"/[a]", NULL},
    {"/\x7f", NULL},
    {"/\xc3\xa9", NULL},
    {"/?<", NULL},
    {"/?a b", NULL},
    {"/?\x01", NULL},
    {"/?#", NULL},
};

/* "-" or the text, into `out`. */
static size_t put(char *out, size_t size, struct span part, const char *behind)
{
    if (part.ptr == NULL)
        part = SPAN("-");
    return (size_t)snprintf(out, size, "%.*s%s", SPAN_ARG(part), behind);
}

static void test_targets(void **state)
{
    char text[128];
    size_t used;

    (void)state;
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        struct uri uri;
        bool is_good = uri_split(span_of(targets[i].text), &uri);

        if (is_good != (targets[i].wanted != NULL))
            fail_msg("%s: %s", targets[i].text, is_good ? "accepted" : "refused");
        if (!is_good)
            continue;
        used = put(text, sizeof(text), uri.authority, "|");
        used += put(text + used, sizeof(text) - used, uri.path, "|");
        put(text + used, sizeof(text) - used, uri.query, "");
        assert_string_equal(text, targets[i].wanted);
    }
}

static void test_hosts(void **state)
{
    static const char *const good[] = {
        "a",       "a.b", "a:80",  "a:",      "127.0.0.1:8080",   "[::1]",
        "[::1]:1", "a_b", "a%20b", "a:65535", "[::ffff:1.2.3.4]", "xn--a"};
    static const char *const bad[] = {
        "",        ":80",  "a:b",  "a:65536",   "a:-1", "a b",     "a/b",
        "u@a",     "[::1", "::1",  "[]",        "[g]",  "[::1]a",  "a,b:1x",
        "a:80:80", "a%2",  "a%zz", "[1.2.3.4]", "a:1 ", "[::1]:x", "a:99999999999999999999"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!uri_is_host(span_of(good[i])))
            fail_msg("%s", good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (uri_is_host(span_of(bad[i])))
            fail_msg("%s", bad[i]);
    }
}

/* A path, and its segments each behind a '>'; NULL: refused. */
static const struct target paths[] = {
    {"/", ">"},
    {"/a", ">a"},
    {"/a/", ">a>"},
    {"//", ">>"},
    {"/a//b/", ">a>>b>"},
    {"/a%2Fb/c", ">a/b>c"},
    {"/%41%7a%C3%a9", ">Az\xc3\xa9"},
    {"/%2541", ">%41"},
    {"/.", ">"},
    {"/./a", ">a"},
    {"/a/.", ">a>"},
    {"/a/./b", ">a>b"},
    {"/a/..", ">"},
    {"/a/../b", ">b"},
    {"/a/b/../../c", ">c"},
    {"/a/b/..", ">a>"},
    {"/a//../b", ">a>b"},
    {"/%2e/a", ">a"},
    {"/a/%2E%2e/b", ">b"},
    {"/a/.%2e/b", ">b"},
    {"/...", ">..."},
    {"/.a/..b", ">.a>..b"},
    {"/..", NULL},
    {"/../a", NULL},
    {"/a/../..", NULL},
    {"/a/../../b", NULL},
    {"/%2e%2e/a", NULL},
    {"/./..", NULL},
    {"/%", NULL},
    {"/%4", NULL},
    {"/%4g", NULL},
    {"/%g4", NULL},
    {"/a%00b", NULL},
    {"/%00", NULL},
    {"/a/%zz/..", NULL},
};

static void test_segments(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct span segments[URI_SEGMENTS_MAX], path = span_of(paths[i].text);
        char *out = malloc(path.len + 1); /* to the byte, so that ASan sees who writes further */
        char text[128] = "";
        size_t used = 0;
        uint32_t count = 0;
        enum err err = uri_segments(path, out, segments, &count);

        if (paths[i].wanted == NULL) {
            assert_int_equal(err, ERR_SYNTAX);
            free(out);
            continue;
        }
        assert_int_equal(err, ERR_OK);
        for (uint32_t at = 0; at < count; at++) {
            used +=
                (size_t)snprintf(text + used, sizeof(text) - used, ">%.*s", SPAN_ARG(segments[at]));
            assert_int_equal(segments[at].ptr[segments[at].len], at + 1 < count ? '/' : '\0');
            if (at > 0)
                assert_ptr_equal(segments[at].ptr, segments[at - 1].ptr + segments[at - 1].len + 1);
        }
        assert_string_equal(text, paths[i].wanted);
        free(out);
    }
}

static void test_too_many_segments(void **state)
{
    struct span segments[URI_SEGMENTS_MAX];
    char path[URI_SEGMENTS_MAX + 2], out[URI_SEGMENTS_MAX + 3];
    uint32_t count = 0;

    (void)state;
    memset(path, '/', sizeof(path));
    assert_int_equal(uri_segments((struct span){path, URI_SEGMENTS_MAX}, out, segments, &count),
                     ERR_OK);
    assert_int_equal(count, URI_SEGMENTS_MAX);
    assert_int_equal(uri_segments((struct span){path, URI_SEGMENTS_MAX + 1}, out, segments, &count),
                     ERR_TOO_BIG);
}

static void test_queries(void **state)
{
    static const struct span query = {"a=1&b=two+words&c&d=&e=%C3%a9&f=%zz%00%&=g&%68=i&a=2&j=1=2&",
                                      59};
    static const struct {
        const char *name;
        const char *wanted; /* NULL: absent */
    } cases[] = {
        {"a", "1"},        {"b", "two words"}, {"c", ""},    {"d", ""},
        {"e", "\xc3\xa9"}, {"f", "%zz%00%"},   {"", "g"},    {"h", "i"},
        {"j", "1=2"},      {"k", NULL},        {"aa", NULL}, {"A", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct span raw = {NULL, 0};
        char out[32];
        bool is_there = uri_query_find(query, span_of(cases[i].name), &raw);

        assert_int_equal(is_there, cases[i].wanted != NULL);
        if (!is_there)
            continue;
        assert_int_equal(uri_query_decode(raw, out), strlen(cases[i].wanted));
        assert_string_equal(out, cases[i].wanted);
    }
    assert_false(uri_query_find((struct span){NULL, 0}, SPAN("a"), &(struct span){NULL, 0}));
    assert_false(uri_query_find(SPAN("&&"), SPAN(""), &(struct span){NULL, 0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),  cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_segments), cmocka_unit_test(test_too_many_segments),
        cmocka_unit_test(test_queries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
