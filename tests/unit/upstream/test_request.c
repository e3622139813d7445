/* Goal: a request is written byte for byte as it must be, and nothing of a handler's can add a line
 *       to it, change where it goes, or how long it is. */
#include "lib/task_world.h"
#include "lib/test.h"
#include "upstream/request.h"

#include <stdio.h>
#include <string.h>

/* A scope to write in. */
struct place {
    struct world world;
    struct scope *scope;
};

static int set_up(void **state)
{
    static struct place place;

    world_init(&place.world, NULL, NULL);
    place.scope = scope_create(place.world.tasks, NULL, NULL, 0);
    *state = &place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;

    scope_finish(place->scope, SCOPE_REPLIED);
    world_deinit(&place->world);
    return 0;
}

static const struct upstream_extras none;

static void assert_written(struct place *place, const char *url, const struct upstream_call *call,
                           const char *wanted)
{
    char problem[UPSTREAM_PROBLEM_SIZE];
    char url_problem[INI_PROBLEM_SIZE];
    struct upstream_url parts;
    struct span bytes;

    assert_int_equal(upstream_url_parse(url, &parts, url_problem), ERR_OK);
    assert_true(upstream_request_check(call, problem));
    bytes = upstream_request_render(place->scope, &parts, call, &none).bytes;
    assert_int_equal(bytes.len, strlen(wanted));
    assert_memory_equal(bytes.ptr, wanted, bytes.len);
}

static void test_smallest(void **state)
{
    struct upstream_call call = {.path = SPAN("/quote?x=1")};

    assert_written(*state, "http://api:81", &call,
                   "GET /quote?x=1 HTTP/1.1\r\nHost: api:81\r\n\r\n");
    assert_written(*state, "http://api/v1/", &call,
                   "GET /v1/quote?x=1 HTTP/1.1\r\nHost: api\r\n\r\n");
    assert_written(*state, "http://unix:/run/x.sock", &call,
                   "GET /quote?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

static void test_fields_and_body(void **state)
{
    static const struct http_field fields[] = {
        {SPAN("Content-Type"), SPAN("application/json")},
        {SPAN("X-A"), SPAN("")},
        {SPAN("x-a"), SPAN("t\xc3\xa4glich\tb")},
    };
    struct upstream_call call = {
        .method = SPAN("POST"),
        .path = SPAN("/books"),
        .fields = fields,
        .field_count = 3,
        .body = SPAN("{}\0\r\n"),
    };
    struct place *place = *state;
    char problem[INI_PROBLEM_SIZE];
    struct upstream_url parts;
    struct span bytes;
    static const char wanted[] = "POST /books HTTP/1.1\r\nHost: api\r\n"
                                 "Content-Type: application/json\r\nX-A: \r\n"
                                 "x-a: t\xc3\xa4glich\tb\r\nContent-Length: 5\r\n\r\n{}\0\r\n";

    assert_int_equal(upstream_url_parse("http://api", &parts, problem), ERR_OK);
    bytes = upstream_request_render(place->scope, &parts, &call, &none).bytes;
    assert_int_equal(bytes.len, sizeof wanted - 1);
    assert_memory_equal(bytes.ptr, wanted, bytes.len);
}

/* What goes along, with the budget told as it is when the request is sent. */
static void test_extras(void **state)
{
    const struct upstream_extras extras = {
        .traceparent = SPAN("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        .tracestate = SPAN("a=1"),
        .budget_field = SPAN("X-Budget-Ms"),
        .decodes = true};
    const struct upstream_call call = {.path = SPAN("/")};
    struct place *place = *state;
    char problem[INI_PROBLEM_SIZE];
    struct upstream_request request;
    struct upstream_url parts;

    assert_int_equal(upstream_url_parse("http://api", &parts, problem), ERR_OK);
    request = upstream_request_render(place->scope, &parts, &call, &extras);
    for (int i = 0; i < 2; i++) {
        const char *wanted =
            i == 0 ? "X-Budget-Ms: 1500      \r\n\r\n" : "X-Budget-Ms: 9999999999\r\n\r\n";

        upstream_request_set_budget(&request, i == 0 ? 1500 : UINT64_MAX);
        assert_memory_equal(request.bytes.ptr + request.bytes.len - strlen(wanted), wanted,
                            strlen(wanted));
    }
    assert_non_null(
        strstr(request.bytes.ptr,
               "\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
               "\r\ntracestate: a=1\r\nAccept-Encoding: gzip\r\n"));
}

static void test_length_of_no_body(void **state)
{
    static const char *const with[] = {"POST", "PUT", "PATCH"};
    static const char *const without[] = {"GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND"};
    char wanted[128];

    for (size_t i = 0; i < 3; i++) {
        struct upstream_call call = {.method = span_of(with[i]), .path = SPAN("/")};

        snprintf(wanted, sizeof wanted, "%s / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                 with[i]);
        assert_written(*state, "http://a", &call, wanted);
    }
    for (size_t i = 0; i < 5; i++) {
        struct upstream_call call = {.method = span_of(without[i]), .path = SPAN("/")};

        snprintf(wanted, sizeof wanted, "%s / HTTP/1.1\r\nHost: a\r\n\r\n", without[i]);
        assert_written(*state, "http://a", &call, wanted);
    }
}

static void test_body_of_a_get(void **state)
{
    struct upstream_call call = {.path = SPAN("/"), .body = SPAN("q")};

    assert_written(*state, "http://a", &call,
                   "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nq");
}

static void assert_refused(const struct upstream_call *call, const char *wanted)
{
    char problem[UPSTREAM_PROBLEM_SIZE] = "";

    assert_false(upstream_request_check(call, problem));
    if (strstr(problem, wanted) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", problem, wanted);
}

static void test_bad_fields(void **state)
{
    static const struct http_field bad[] = {
        {SPAN("Host"), SPAN("evil")},
        {SPAN("hOST"), SPAN("evil")},
        {SPAN("Content-Length"), SPAN("5")},
        {SPAN("Transfer-Encoding"), SPAN("chunked")},
        {SPAN("Connection"), SPAN("close")},
        {SPAN("Keep-Alive"), SPAN("timeout=5")},
        {SPAN("Proxy-Connection"), SPAN("close")},
        {SPAN("Proxy-Authorization"), SPAN("x")},
        {SPAN("TE"), SPAN("trailers")},
        {SPAN("Trailer"), SPAN("X")},
        {SPAN("Upgrade"), SPAN("h2c")},
        {SPAN("HTTP2-Settings"), SPAN("x")},
        {SPAN("Expect"), SPAN("100-continue")},
        {SPAN(""), SPAN("x")},
        {{NULL, 0}, SPAN("x")},
        {SPAN("X Y"), SPAN("x")},
        {SPAN("X:"), SPAN("x")},
        {SPAN("X\r\nY"), SPAN("x")},
        {SPAN("X\0"), SPAN("x")},
        {SPAN("X"), SPAN("a\r\nY: b")},
        {SPAN("X"), SPAN("a\nY: b")},
        {SPAN("X"), SPAN("a\rY: b")},
        {SPAN("X"), SPAN("a\0b")},
        {SPAN("X"), SPAN("a\x7f")},
        {SPAN("X"), SPAN("a\x1b[0m")},
    };
    struct http_field fields[2] = {{SPAN("X-Good"), SPAN("x")}};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct upstream_call call = {.path = SPAN("/"), .fields = fields, .field_count = 2};

        fields[1] = bad[i];
        assert_refused(&call, "field 2");
    }
}

static void test_bad_lines(void **state)
{
    static const struct span methods[] = {
        SPAN(""),        SPAN("GET "), SPAN("GET / HTTP/1.1"), SPAN("GE\r\nT"),
        SPAN("CONNECT"), SPAN("G\0T"), SPAN("G\xc3\xa4T")};
    static const struct span paths[] = {
        {NULL, 0},          SPAN(""),      SPAN("quote"),        SPAN("/a b"),
        SPAN("/a\r\nX: y"), SPAN("/a\0b"), SPAN("http://evil/"), SPAN("/\xc3\xa4")};

    (void)state;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        assert_refused(&(struct upstream_call){.method = methods[i], .path = SPAN("/")}, "method");
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        assert_refused(&(struct upstream_call){.path = paths[i]}, "path");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_smallest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fields_and_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_extras, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_length_of_no_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_body_of_a_get, set_up, tear_down),
        cmocka_unit_test(test_bad_fields),
        cmocka_unit_test(test_bad_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
