/* Goal: what a handler may say is said, what it may not is refused with the reason, the first reply
 * stands, and what it leaves undone the server ends. */
#include "base/log.h"
#include "lib/http_world.h"
#include "lib/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define G(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static struct http_world http;

static int set_up(void **state)
{
    (void)state;
    http_world_init(&http);
    http_world_start(&http);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_world_deinit(&http);
    return 0;
}

/* A request that waits, and its client. */
static struct http_request *ask(int *fd, struct span bytes)
{
    *fd = http_world_connect(&http);
    http_world_send(&http, *fd, bytes);
    assert_true(http.waiting_count > 0);
    return http.waiting[http.waiting_count - 1];
}

static const char *answered(int *fd)
{
    static char text[HTTP_TEXT_SIZE];

    http_world_settle(&http);
    snprintf(text, sizeof(text), "%s", http_world_read(&http, *fd));
    close_fd(fd);
    http_world_settle(&http);
    return text;
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("%s is not in: %s", part, text);
}

static void test_the_first_reply_stands(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));

    (void)state;
    assert_int_equal(http_reply(request, 201, SPAN("text/plain"), SPAN("one")), ERR_OK);
    assert_int_equal(http_reply(request, 200, SPAN("text/plain"), SPAN("two")), ERR_STATE);
    assert_int_equal(http_problem(request, 500, SPAN("three")), ERR_STATE);
    assert_int_equal(http_reply_begin(request, 200, SPAN("text/plain"), 3), ERR_STATE);
    assert_int_equal(http_reply_write(request, SPAN("x")), ERR_STATE);
    assert_int_equal(http_reply_end(request), ERR_STATE);
    assert_int_equal(http_reply_field(request, SPAN("A"), SPAN("b")), ERR_STATE);
    assert_int_equal(request->scope->why, SCOPE_REPLIED);
    assert_has(answered(&fd), "HTTP/1.1 201 Created\r\n");
}

static void test_what_is_no_reply(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));

    (void)state;
    assert_int_equal(http_reply(request, 199, SPAN("a/b"), SPAN("")), ERR_INVALID);
    assert_int_equal(http_reply(request, 600, SPAN("a/b"), SPAN("")), ERR_INVALID);
    assert_int_equal(http_reply(request, 200, SPAN("a/b\r\nX: y"), SPAN("")), ERR_INVALID);
    assert_int_equal(http_reply_begin(request, 200, SPAN("a/b"), -2), ERR_INVALID);
    assert_int_equal(http_problem(request, 99, SPAN("")), ERR_INVALID);
    assert_int_equal(http_reply_write(request, SPAN("x")), ERR_STATE);
    assert_int_equal(http_reply_end(request), ERR_STATE);
    assert_int_equal(http_reply(request, 200, SPAN("a/b"), SPAN("fine")), ERR_OK);
    assert_has(answered(&fd), "\r\n\r\nfine");
}

static void test_fields(void **state)
{
    static const char *const own[] = {"Connection", "content-length",    "DATE",
                                      "Keep-Alive", "Proxy-Connection",  "Server",
                                      "Trailer",    "Transfer-Encoding", "Upgrade"};
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));
    char name[16];
    const char *text;

    (void)state;
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        assert_int_equal(http_reply_field(request, span_of(own[i]), SPAN("x")), ERR_INVALID);
    assert_int_equal(http_reply_field(request, SPAN("A B"), SPAN("x")), ERR_INVALID);
    assert_int_equal(http_reply_field(request, SPAN(""), SPAN("x")), ERR_INVALID);
    assert_int_equal(http_reply_field(request, SPAN("A"), SPAN("x\r\nB: y")), ERR_INVALID);
    assert_int_equal(http_reply_field(request, SPAN("A"), SPAN("x\ny")), ERR_INVALID);
    assert_int_equal(http_reply_field(request, SPAN("A"), SPAN("x\0y")), ERR_INVALID);
    assert_int_equal(http_reply_field(request, SPAN("A"), SPAN(" x")), ERR_INVALID);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "X-%d", i);
        assert_int_equal(http_reply_field(request, span_of(name), span_of(name)), ERR_OK);
    }
    assert_int_equal(http_reply_field(request, SPAN("Empty"), SPAN("")), ERR_OK);
    assert_int_equal(http_reply_field(request, SPAN("Content-Type"), SPAN("text/html")), ERR_OK);
    assert_int_equal(http_reply(request, 200, (struct span){NULL, 0}, SPAN("")), ERR_OK);
    text = answered(&fd);
    assert_has(text, "\r\nX-0: X-0\r\nX-1: X-1\r\n");
    assert_has(text, "\r\nX-39: X-39\r\nEmpty: \r\nContent-Type: text/html\r\n\r\n");
}

static void test_a_type_is_said_once(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));
    const char *text;

    (void)state;
    assert_int_equal(http_reply_field(request, SPAN("content-type"), SPAN("text/html")), ERR_OK);
    assert_int_equal(http_reply(request, 200, SPAN("text/plain"), SPAN("")), ERR_OK);
    text = answered(&fd);
    assert_has(text, "\r\nContent-Type: text/plain\r\n");
    assert_null(strstr(text, "text/html"));
}

static void test_a_declared_length(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1") G("/hello")));

    (void)state;
    assert_int_equal(http_reply_begin(request, 200, SPAN("text/plain"), 4), ERR_OK);
    assert_int_equal(http_reply_write(request, SPAN("ab")), ERR_OK);
    assert_int_equal(http_reply_write(request, SPAN("cde")), ERR_STATE);
    assert_int_equal(http_reply_write(request, SPAN("cd")), ERR_OK);
    assert_int_equal(http_reply_write(request, SPAN("e")), ERR_STATE);
    assert_int_equal(http_reply_end(request), ERR_OK);
    assert_int_equal(request->reply_bytes, 4);
    http_world_settle(&http);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(abcd)200(hello)");
    close_fd(&fd);
}

static void test_bodies_that_must_not_be(void **state)
{
    static const uint32_t codes[] = {204, 304};
    int fd;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct http_request *request = ask(&fd, SPAN(G("/wait/1") G("/hello")));

        assert_int_equal(http_reply(request, codes[i], SPAN("text/plain"), SPAN("no")), ERR_OK);
        assert_int_equal(request->reply_bytes, 0);
        http_world_settle(&http);
        assert_string_equal(http_world_answers(&http, fd, 0),
                            i == 0 ? "204200(hello)" : "304200(hello)");
        close_fd(&fd);
    }
    assert_int_equal(http_reply(ask(&fd, SPAN(G("/wait/1") G("/hello"))), 205,
                                (struct span){NULL, 0}, SPAN("no")),
                     ERR_OK);
    http_world_settle(&http);
    assert_string_equal(http_world_answers(&http, fd, 0), "205()200(hello)");
    close_fd(&fd);
}

/* HEAD: the length that GET would have, and nothing behind it, however the handler answers. */
static void test_head(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN("HEAD /wait/1 HTTP/1.1\r\nHost: a\r\n\r\n"));
    const char *text;

    (void)state;
    assert_int_equal(http_reply(request, 200, SPAN("text/plain"), SPAN("hello")), ERR_OK);
    text = answered(&fd);
    assert_has(text, "Content-Length: 5\r\n\r\n");
    assert_null(strstr(text, "hello"));
    request = ask(&fd, SPAN("HEAD /wait/1 HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_int_equal(http_reply_begin(request, 200, SPAN("text/plain"), 7), ERR_OK);
    assert_int_equal(http_reply_end(request), ERR_OK); /* it need not write what nobody gets */
    text = answered(&fd);
    assert_has(text, "Content-Length: 7\r\n");
    assert_null(strstr(text, "Connection"));
}

static void test_problems(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));
    const char *text;

    (void)state;
    assert_int_equal(http_problem(request, 404, (struct span){NULL, 0}), ERR_OK);
    text = answered(&fd);
    assert_has(text, "Content-Type: application/problem+json\r\n");
    assert_has(text, "\r\n\r\n{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404}\n");
    assert_null(strstr(text, "Retry-After"));
    request = ask(&fd, SPAN(G("/wait/1")));
    assert_int_equal(
        http_problem(request, 418,
                     SPAN("a \"b\" \\ \x01\n\x7f \xc3\xa9 \xf0\x9f\x98\x80 \xff\xc0\x80 "
                          "\xed\xa0\x80 \xe2\x82")),
        ERR_OK);
    text = answered(&fd);
    assert_has(text,
               "\"detail\":\"a \\\"b\\\" \\\\ \\u0001\\u000a\\u007f \xc3\xa9 \xf0\x9f\x98\x80 "
               "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd "
               "\xef\xbf\xbd\xef\xbf\xbd\"}\n");
}

static void test_retry_after(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));
    const char *text;

    (void)state;
    assert_int_equal(http_problem(request, 503, SPAN("busy")), ERR_OK);
    assert_has(answered(&fd), "\r\nRetry-After: 1\r\n");
    request = ask(&fd, SPAN(G("/wait/1")));
    assert_int_equal(http_reply_field(request, SPAN("retry-after"), SPAN("30")), ERR_OK);
    assert_int_equal(http_problem(request, 503, SPAN("busy")), ERR_OK);
    text = answered(&fd);
    assert_has(text, "\r\nretry-after: 30\r\n");
    assert_null(strstr(text, "Retry-After: 1"));
}

static void test_allow(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN("DELETE /echo HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_has(answered(&fd), "\r\nAllow: PUT, POST\r\n");
}

/* ---- what is left undone ---- */

static void run_nothing(struct scope *scope, void *data)
{
    (void)scope;
    (void)data;
}

static void serve_nothing(struct http_request *request, void *data)
{
    (void)data;
    assert_true(scope_run(request->scope, run_nothing, NULL, false));
}

static void run_begin(struct scope *scope, void *data)
{
    (void)data;
    assert_int_equal(http_reply_begin(http_request_of(scope), 200, SPAN("text/plain"), -1), ERR_OK);
}

static void serve_half(struct http_request *request, void *data)
{
    (void)data;
    assert_true(scope_run(request->scope, run_begin, NULL, false));
}

static void run_sleep(struct scope *scope, void *data)
{
    enum err err = op_await(op_sleep(scope, 60000));

    *(enum err *)data = err;
}

static enum err slept;

static void serve_sleep(struct http_request *request, void *data)
{
    (void)data;
    assert_true(scope_run(request->scope, run_sleep, &slept, false));
}

static void test_a_handler_that_forgets(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    log_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_ERROR, false);
    http_world_route(&http, "GET", "/nothing", serve_nothing, 0);
    http_world_send(&http, fd, SPAN(G("/nothing") G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "500200(hello)");
    assert_has(http_world_log(&http), "path=/nothing route=/nothing plugin=test status=500");
    assert_has(http.text, "why=no_reply");
    close_fd(&fd);
}

static void test_a_handler_that_stops_halfway(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_route(&http, "GET", "/half", serve_half, 0);
    http_world_send(&http, fd, SPAN(G("/half") G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "200()?$"); /* no last chunk: cut off */
    close_fd(&fd);
}

static void test_a_handler_that_does_not_answer_in_time(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_route(&http, "GET", "/sleep", serve_sleep, 0);
    http_world_send(&http, fd, SPAN(G("/sleep") G("/hello")));
    fake_clock_walk(&http.world.clock, http.world.loop, 5010);
    http_world_settle(&http);
    assert_int_equal(slept, ERR_DEADLINE);
    assert_string_equal(http_world_answers(&http, fd, 0), "504200(hello)");
    close_fd(&fd);
}

static void on_idle_teapot(struct http_request *request)
{
    assert_int_equal(http_problem(request, 418, SPAN("the layer's own")), ERR_OK);
}

static void serve_layer(struct http_request *request, void *data)
{
    (void)data;
    request->on_idle = on_idle_teapot;
    assert_true(scope_run(request->scope, run_nothing, NULL, false));
}

static void test_the_layer_is_asked_first(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_route(&http, "GET", "/layer", serve_layer, 0);
    http_world_send(&http, fd, SPAN(G("/layer") G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "418200(hello)");
    close_fd(&fd);
}

static void test_a_scope_that_is_canceled(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1") G("/hello")));

    (void)state;
    scope_cancel(request->scope, SCOPE_SHUTDOWN);
    http_world_settle(&http);
    assert_string_equal(http_world_answers(&http, fd, 0), "503200(hello)");
    assert_has(http_world_log(&http), "status=503");
    assert_has(http.text, "why=shutdown");
    close_fd(&fd);
}

/* ---- reading a request ---- */

static void test_a_request_outlives_its_bytes(void **state)
{
    int fd;
    struct http_request *request =
        ask(&fd, SPAN("POST /wait/a%20b?x=1&y HTTP/1.1\r\nHost: h:1\r\nX-One: 1\r\nx-ONE: 2\r\n"
                      "Empty:\r\nContent-Length: 3\r\n\r\nabc" G("/hello")));

    (void)state;
    assert_string_equal(request->method.ptr, "POST");
    assert_string_equal(request->target.ptr, "/wait/a%20b?x=1&y");
    assert_string_equal(request->path.ptr, "/wait/a%20b");
    assert_string_equal(request->query.ptr, "x=1&y");
    assert_string_equal(request->host.ptr, "h:1");
    assert_string_equal(http_request_header(request, SPAN("X-ONE")).ptr, "1");
    assert_string_equal(http_request_header(request, SPAN("empty")).ptr, "");
    assert_null(http_request_header(request, SPAN("none")).ptr);
    assert_string_equal(request->fields.at[1].name.ptr, "X-One");
    assert_string_equal(http_request_param(request, SPAN("n")).ptr, "a b");
    assert_null(http_request_param(request, SPAN("m")).ptr);
    assert_string_equal(http_request_query(request, SPAN("x")).ptr, "1");
    assert_string_equal(http_request_query(request, SPAN("y")).ptr, "");
    assert_null(http_request_query(request, SPAN("z")).ptr);
    assert_string_equal(http_request_body(request).ptr, "abc");
    assert_string_equal(http_request_peer(request).ptr, "10.1.2.3");
    assert_ptr_equal(http_request_of(request->scope), request);
    assert_ptr_equal(http_request_of(scope_child(request->scope, 0, 0)), request);
    assert_true(request->id > 1000);
    http_world_answer(&http, 0);
    close_fd(&fd);
}

static void test_a_scope_of_something_else(void **state)
{
    struct scope *scope = scope_create(http.world.tasks, NULL, &http, 0);

    (void)state;
    assert_null(http_request_of(scope));
    scope_finish(scope, SCOPE_EXPLICIT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_first_reply_stands),
        TEST(test_what_is_no_reply),
        TEST(test_fields),
        TEST(test_a_type_is_said_once),
        TEST(test_a_declared_length),
        TEST(test_bodies_that_must_not_be),
        TEST(test_head),
        TEST(test_problems),
        TEST(test_retry_after),
        TEST(test_allow),
        TEST(test_a_handler_that_forgets),
        TEST(test_a_handler_that_stops_halfway),
        TEST(test_a_handler_that_does_not_answer_in_time),
        TEST(test_the_layer_is_asked_first),
        TEST(test_a_scope_that_is_canceled),
        TEST(test_a_request_outlives_its_bytes),
        TEST(test_a_scope_of_something_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
