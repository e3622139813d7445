/* Goal: whatever a client does not do, the server waits for it only so long: each limit to the
 * millisecond or a few, with its answer and its word in the access log, and none of them while it
 * is the server that lets the client wait. */
#include "base/log.h"
#include "lib/http_world.h"
#include "lib/test.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD  "GET /hello HTTP/1.1\r\nHost: a\r\n"
#define HELLO HEAD "\r\n"

static struct http_world http;

static int set_up(void **state)
{
    (void)state;
    http_world_init(&http);
    http.options.idle_timeout_ms = 7000;
    http.options.header_timeout_ms = 1000;
    http.options.body_timeout_ms = 2000;
    http.options.body_rate_min = 0;
    http.options.write_timeout_ms = 3000;
    http.options.request_timeout_ms = 500;
    http_world_start(&http);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_world_deinit(&http);
    return 0;
}

static void walk(uint32_t ms)
{
    fake_clock_walk(&http.world.clock, http.world.loop, ms);
    http_world_settle(&http);
}

static uint32_t open_connections(void)
{
    return http_server_counts(http.server)->connections_open;
}

static void assert_logged(const char *text)
{
    if (strstr(http_world_log(&http), text) == NULL)
        fail_msg("%s is not in: %s", text, http.text);
}

static void test_idle_from_the_start(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    walk(6990);
    assert_int_equal(open_connections(), 1);
    walk(20);
    assert_int_equal(open_connections(), 0);
    assert_string_equal(http_world_answers(&http, fd, 0), "$");
    assert_int_equal(http.rooms, 1);
    assert_string_equal(http_world_log(&http), ""); /* there was no request */
    close_fd(&fd);
}

static void test_idle_between_requests(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    for (int i = 0; i < 5; i++) {
        walk(6000);
        http_world_send(&http, fd, SPAN(HELLO));
        assert_string_equal(http_world_answers(&http, fd, 0), "200(hello)");
    }
    walk(6990);
    assert_int_equal(open_connections(), 1);
    walk(20);
    assert_int_equal(open_connections(), 0);
    close_fd(&fd);
}

/* The limit of a head is absolute: bytes in between do not move it. */
static void test_head_in_drops(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    walk(5000); /* before its first byte there is the idle limit alone */
    for (int i = 0; i < 9; i++) {
        http_world_send(&http, fd, (struct span){&HEAD[i], 1});
        walk(110);
    }
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    walk(20);
    assert_string_equal(http_world_answers(&http, fd, 0), "408x$");
    assert_logged("method=- path=- route=- plugin=- status=408");
    assert_logged("why=header_timeout");
    close_fd(&fd);
}

static void test_head_of_a_later_request(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN(HELLO HEAD));
    assert_string_equal(http_world_answers(&http, fd, 0), "200(hello)");
    walk(990);
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    walk(20);
    assert_string_equal(http_world_answers(&http, fd, 0), "408x$");
    close_fd(&fd);
}

/* The limit of a body counts from its last byte. */
static void test_body_that_pauses(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"));
    for (int i = 0; i < 4; i++) {
        walk(1900);
        http_world_send(&http, fd, SPAN("x"));
    }
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    walk(1990);
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    walk(20);
    assert_string_equal(http_world_answers(&http, fd, 0), "408x$");
    assert_int_equal(http.started, 0);
    assert_logged("path=/echo route=/echo plugin=test status=408");
    assert_logged("why=body_timeout");
    close_fd(&fd);
}

static void test_body_that_pauses_behind_a_refusal(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd,
                    SPAN("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab"));
    assert_string_equal(http_world_answers(&http, fd, 0), "404");
    walk(1990);
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    walk(20);
    assert_string_equal(http_world_answers(&http, fd, 0), "$");
    close_fd(&fd);
}

/* The handler is told, and may still answer. */
static void test_body_that_pauses_while_it_is_pulled(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http.options.request_timeout_ms = 60000;
    http_world_send(&http, fd,
                    SPAN("POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab"));
    walk(1990);
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    walk(20);
    assert_non_null(strstr(http_world_read(&http, fd), "ERR_BODY_SLOW"));
    assert_logged("status=400");
    close_fd(&fd);
}

static void test_a_handler_out_of_budget(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN("GET /wait/1 HTTP/1.1\r\nHost: a\r\n\r\n" HELLO));
    walk(490);
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    walk(20);
    assert_string_equal(http_world_answers(&http, fd, 0), "504200(hello)");
    assert_logged("path=/wait/1 route=/wait/:n plugin=test status=504");
    assert_logged("why=deadline");
    assert_int_equal(open_connections(), 1);
    close_fd(&fd);
}

static void test_a_route_has_its_own_budget(void **state)
{
    struct route_match match;
    struct span segments[2] = {SPAN("wait"), SPAN("1")};
    int fd = http_world_connect(&http);

    (void)state;
    router_match(http.router, SPAN("GET"), segments, 2, &match);
    match.route->timeout_ms = 1500;
    http_world_send(&http, fd, SPAN("GET /wait/1 HTTP/1.1\r\nHost: a\r\n\r\n"));
    walk(1490);
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    walk(20);
    assert_string_equal(http_world_answers(&http, fd, 0), "504");
    close_fd(&fd);
}

/* While a handler works the client is not idle, however long that takes. */
static void test_no_limit_while_the_client_waits(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http.options.request_timeout_ms = 60000;
    http_world_send(&http, fd, SPAN("GET /wait/1 HTTP/1.1\r\nHost: a\r\n\r\n"));
    walk(20000);
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    http_world_answer(&http, 0);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(1)");
    walk(6980);
    assert_int_equal(open_connections(), 1);
    walk(40);
    assert_int_equal(open_connections(), 0);
    close_fd(&fd);
}

static void serve_much(struct http_request *request, void *data)
{
    static char much[1 << 22];

    (void)data;
    memset(much, 'x', sizeof(much));
    assert_int_equal(
        http_reply(request, 200, SPAN("text/plain"), (struct span){much, sizeof(much)}), ERR_OK);
}

/* A client that takes something now and then is served; one that takes nothing is given up. */
static void test_a_slow_reader(void **state)
{
    int fd = http_world_connect(&http);
    char text[65536];

    (void)state;
    http_world_route(&http, "GET", "/much", serve_much, 0);
    http_world_send(&http, fd, SPAN("GET /much HTTP/1.1\r\nHost: a\r\n\r\n"));
    for (int i = 0; i < 5; i++) {
        walk(2900);
        while (recv(fd, text, sizeof(text), MSG_DONTWAIT) > 0)
            continue;
        http_world_settle(&http);
        assert_int_equal(open_connections(), 1);
    }
    walk(2990);
    assert_int_equal(open_connections(), 1);
    walk(20);
    assert_int_equal(open_connections(), 0);
    close_fd(&fd);
}

/* The limit of writing counts from when the client began to refuse, not from an earlier time. */
static void test_a_reader_that_was_idle_before(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_route(&http, "GET", "/much", serve_much, 0);
    walk(6000);
    http_world_send(&http, fd, SPAN("GET /much HTTP/1.1\r\nHost: a\r\n\r\n"));
    walk(2990);
    assert_int_equal(open_connections(), 1);
    walk(20);
    assert_int_equal(open_connections(), 0);
    close_fd(&fd);
}

/* Bytes that come behind a refusal are read and thrown away, but not for ever. */
static void test_lingering_has_an_end(void **state)
{
    int quiet = http_world_connect(&http), busy = http_world_connect(&http);

    (void)state;
    http_world_send(&http, quiet, SPAN("GET / HTTP/9.9\r\n\r\n"));
    http_world_send(&http, busy, SPAN("GET / HTTP/9.9\r\n\r\n"));
    assert_string_equal(http_world_answers(&http, quiet, 0), "505x$");
    assert_string_equal(http_world_answers(&http, busy, 0), "505x$");
    walk(990);
    assert_int_equal(open_connections(), 2);
    http_world_send(&http, busy, SPAN("more"));
    walk(20);
    assert_int_equal(open_connections(), 1);
    for (int i = 0; i < 7; i++) {
        http_world_send(&http, busy, SPAN("more"));
        walk(500);
    }
    assert_int_equal(open_connections(), 1);
    http_world_send(&http, busy, SPAN("more"));
    walk(600);
    assert_int_equal(open_connections(), 0); /* 5 s are over */
    close_fd(&quiet);
    close_fd(&busy);
}

static void test_lingering_takes_only_so_much(void **state)
{
    static char much[65536];
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN("GET / HTTP/9.9\r\n\r\n"));
    for (int i = 0; i < 64 && open_connections() > 0; i++)
        http_world_send(&http, fd, (struct span){much, sizeof(much)});
    assert_int_equal(open_connections(), 0);
    close_fd(&fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_idle_from_the_start),
        TEST(test_idle_between_requests),
        TEST(test_head_in_drops),
        TEST(test_head_of_a_later_request),
        TEST(test_body_that_pauses),
        TEST(test_body_that_pauses_behind_a_refusal),
        TEST(test_body_that_pauses_while_it_is_pulled),
        TEST(test_a_handler_out_of_budget),
        TEST(test_a_route_has_its_own_budget),
        TEST(test_no_limit_while_the_client_waits),
        TEST(test_a_slow_reader),
        TEST(test_a_reader_that_was_idle_before),
        TEST(test_lingering_has_an_end),
        TEST(test_lingering_takes_only_so_much),
    };

    log_setup(STDERR_FILENO, LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
