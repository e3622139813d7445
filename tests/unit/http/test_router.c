/* Goal: the best route is found whatever the order of registration, a wrong method is told from a
 * wrong path, and ten thousand routes cost no more than a few. */
#include "base/check.h"
#include "http/router.h"
#include "http/uri.h"
#include "lib/test.h"

#include <stdio.h>

static void serve(struct http_request *request, void *data)
{
    (void)request;
    (void)data;
}

static enum err add(struct router *router, const char *method, const char *pattern,
                    const char *owner, const struct http_route **other)
{
    struct http_route route = {.fn = serve, .owner = owner};

    route.method = (char *)(uintptr_t)method;
    route.pattern = (char *)(uintptr_t)pattern;
    return router_add(router, &route, NULL, other);
}

/* Matches, and writes what was found as "pattern name=value ...", or "405 ALLOW", or "404". */
static const char *match(const struct router *router, const char *method, const char *path)
{
    static char text[512], out[256];
    struct span segments[URI_SEGMENTS_MAX];
    struct route_match found;
    uint32_t count;
    size_t used;

    assert_int_equal(uri_segments(span_of(path), out, segments, &count), ERR_OK);
    router_match(router, span_of(method), segments, count, &found);
    if (found.route == NULL) {
        snprintf(text, sizeof(text), found.is_other_method ? "405 %s" : "404", found.allow);
        return text;
    }
    used = (size_t)snprintf(text, sizeof(text), "%s", found.route->pattern);
    for (uint32_t i = 0; i < found.count; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, " %.*s=%.*s",
                                 SPAN_ARG(found.names[i]), SPAN_ARG(found.values[i]));
    return text;
}

/* Registers `patterns` for GET forwards or backwards. */
static struct router *router_of(const char *const *patterns, uint32_t count, bool is_reversed)
{
    struct router *router = router_create();

    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(add(router, "GET", patterns[is_reversed ? count - 1 - i : i], "x", NULL),
                         ERR_OK);
    return router;
}

static void test_exact_before_param_before_rest(void **state)
{
    static const char *const patterns[] = {
        "/",          "/a",           "/a/",      "/:x",          "/*all",
        "/a/:x",      "/a/b",         "/a/b/c",   "/a/:x/d",      "/a/*rest",
        "/f/:x/edit", "/f/new/*rest", "/g/:a/:b", "/g/one/two/z", "/g/:p/two",
    };

    (void)state;
    for (int is_reversed = 0; is_reversed < 2; is_reversed++) {
        struct router *router =
            router_of(patterns, sizeof(patterns) / sizeof(patterns[0]), is_reversed);

        assert_string_equal(match(router, "GET", "/"), "/");
        assert_string_equal(match(router, "GET", "/a"), "/a");
        assert_string_equal(match(router, "GET", "/a/"), "/a/");
        assert_string_equal(match(router, "GET", "/b"), "/:x x=b");
        assert_string_equal(match(router, "GET", "/b/"), "/*all all=b/");
        assert_string_equal(match(router, "GET", "/b/c/d"), "/*all all=b/c/d");
        assert_string_equal(match(router, "GET", "//"), "/*all all=/");
        assert_string_equal(match(router, "GET", "/a/b"), "/a/b");
        assert_string_equal(match(router, "GET", "/a/c"), "/a/:x x=c");
        assert_string_equal(match(router, "GET", "/a/b/c"), "/a/b/c");
        /* a step back: /a/b leads nowhere for d, /a/:x does; for e nothing but the rest does */
        assert_string_equal(match(router, "GET", "/a/b/d"), "/a/:x/d x=b");
        assert_string_equal(match(router, "GET", "/a/b/e"), "/a/*rest rest=b/e");
        assert_string_equal(match(router, "GET", "/a//"), "/a/*rest rest=/");
        assert_string_equal(match(router, "GET", "/f/new/"), "/f/new/*rest rest=");
        assert_string_equal(match(router, "GET", "/f/new/edit"), "/f/new/*rest rest=edit");
        assert_string_equal(match(router, "GET", "/f/old/edit"), "/f/:x/edit x=old");
        assert_string_equal(match(router, "GET", "/g/one/two"), "/g/:p/two p=one");
        assert_string_equal(match(router, "GET", "/g/one/three"), "/g/:a/:b a=one b=three");
        /* decoded once, and a decoded slash stays in its segment */
        assert_string_equal(match(router, "GET", "/a/%62"), "/a/b");
        assert_string_equal(match(router, "GET", "/x%2Fy"), "/:x x=x/y");
        assert_string_equal(match(router, "GET", "/%2562"), "/:x x=%62");
        router_destroy(router);
    }
}

static void test_trailing_slash_counts(void **state)
{
    static const char *const patterns[] = {"/a", "/b/", "/c/*rest"};
    struct router *router = router_of(patterns, 3, false);

    (void)state;
    assert_string_equal(match(router, "GET", "/a/"), "404");
    assert_string_equal(match(router, "GET", "/b"), "404");
    assert_string_equal(match(router, "GET", "/c"), "404");
    assert_string_equal(match(router, "GET", "/c/"), "/c/*rest rest=");
    assert_string_equal(match(router, "GET", "/"), "404");
    router_destroy(router);
}

static void test_methods(void **state)
{
    struct router *router = router_create();

    (void)state;
    assert_int_equal(add(router, "GET", "/a", "x", NULL), ERR_OK);
    assert_int_equal(add(router, "POST", "/a", "x", NULL), ERR_OK);
    assert_int_equal(add(router, "PUT", "/:any", "x", NULL), ERR_OK);
    assert_int_equal(add(router, "DELETE", "/*all", "x", NULL), ERR_OK);
    assert_int_equal(add(router, "POST", "/p", "x", NULL), ERR_OK);
    assert_int_equal(add(router, "GET", "/h", "x", NULL), ERR_OK);
    assert_int_equal(add(router, "HEAD", "/:h", "y", NULL), ERR_OK);
    assert_string_equal(match(router, "GET", "/a"), "/a");
    assert_string_equal(match(router, "HEAD", "/h"), "/h");
    /* another pattern serves the method */
    assert_string_equal(match(router, "PUT", "/a"), "/:any any=a");
    assert_string_equal(match(router, "DELETE", "/a"), "/*all all=a");
    assert_string_equal(match(router, "HEAD", "/p"), "/:h h=p");
    /* Allow has the methods of every pattern that fits, once each */
    assert_string_equal(match(router, "PATCH", "/a"), "405 POST, GET, HEAD, PUT, DELETE");
    assert_string_equal(match(router, "GET", "/b/c"), "405 DELETE");
    router_destroy(router);
}

static void test_routes_that_are_none(void **state)
{
    static const char *const patterns[] = {
        "",     "a",    "/a/*rest/b", "/:",  "/*",    "/:a/:a", "/:a/*a", "/a b",
        "/a?b", "/a#b", "/./a",       "/..", "/:a-b", "/a\nb",  "/:a.b",
    };
    struct router *router = router_create();
    uint32_t at = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
        assert_int_equal(add(router, "GET", patterns[i], "x", NULL), ERR_SYNTAX);
    assert_int_equal(add(router, "", "/", "x", NULL), ERR_SYNTAX);
    assert_int_equal(add(router, "G T", "/", "x", NULL), ERR_SYNTAX);
    assert_int_equal(add(router, "CONNECT", "/", "x", NULL), ERR_SYNTAX);
    assert_int_equal(add(router, "get", "/", "x", NULL), ERR_SYNTAX);
    assert_int_equal(
        add(router, "GET", "/:a/:b/:c/:d/:e/:f/:g/:h/:i/:j/:k/:l/:m/:n/:o/:p", "x", NULL), ERR_OK);
    assert_int_equal(
        add(router, "GET", "/:a/:b/:c/:d/:e/:f/:g/:h/:i/:j/:k/:l/:m/:n/:o/:p/:q", "x", NULL),
        ERR_SYNTAX);
    assert_non_null(router_next(router, &at));
    assert_null(router_next(router, &at));
    router_destroy(router);
}

static void test_the_same_route_twice(void **state)
{
    struct router *router = router_create();
    const struct http_route *other = NULL;

    (void)state;
    assert_int_equal(add(router, "GET", "/books/:id", "one", NULL), ERR_OK);
    assert_int_equal(add(router, "GET", "/books/:book", "two", &other), ERR_EXISTS);
    assert_string_equal(other->owner, "one");
    assert_string_equal(other->pattern, "/books/:id");
    assert_int_equal(add(router, "PUT", "/books/:book", "two", NULL), ERR_OK);
    assert_string_equal(match(router, "GET", "/books/1"), "/books/:id id=1");
    assert_string_equal(match(router, "PUT", "/books/1"), "/books/:book book=1");
    router_destroy(router);
}

static void test_an_owner_takes_its_routes_back(void **state)
{
    struct router *router = router_create();
    const struct http_route *route;
    uint32_t at = 0;

    (void)state;
    assert_int_equal(add(router, "GET", "/a", "one", NULL), ERR_OK);
    assert_int_equal(add(router, "GET", "/b", "two", NULL), ERR_OK);
    assert_int_equal(add(router, "PUT", "/a", "two", NULL), ERR_OK);
    assert_int_equal(add(router, "GET", "/c", NULL, NULL), ERR_OK);
    router_remove_owner(router, "two");
    route = router_next(router, &at);
    assert_string_equal(route->pattern, "/a");
    route = router_next(router, &at);
    assert_string_equal(route->pattern, "/c");
    assert_null(router_next(router, &at));
    assert_string_equal(match(router, "GET", "/b"), "404");
    assert_string_equal(match(router, "PUT", "/a"), "405 GET, HEAD");
    assert_int_equal(add(router, "GET", "/b", "three", NULL), ERR_OK);
    assert_string_equal(match(router, "GET", "/b"), "/b");
    router_destroy(router);
}

static void test_ten_thousand_routes(void **state)
{
    struct router *router = router_create();
    char pattern[64], wanted[80];

    (void)state;
    for (int i = 0; i < 10000; i++) {
        snprintf(pattern, sizeof(pattern), "/g%d/r%d/:id", i % 100, i);
        assert_int_equal(add(router, "GET", pattern, "x", NULL), ERR_OK);
    }
    for (int i = 0; i < 10000; i += 7) {
        snprintf(pattern, sizeof(pattern), "/g%d/r%d/5", i % 100, i);
        snprintf(wanted, sizeof(wanted), "/g%d/r%d/:id id=5", i % 100, i);
        assert_string_equal(match(router, "GET", pattern), wanted);
    }
    assert_string_equal(match(router, "GET", "/g1/r2/5"), "404");
    router_destroy(router);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_before_param_before_rest),
        cmocka_unit_test(test_trailing_slash_counts),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_routes_that_are_none),
        cmocka_unit_test(test_the_same_route_twice),
        cmocka_unit_test(test_an_owner_takes_its_routes_back),
        cmocka_unit_test(test_ten_thousand_routes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
