/* Goal: a connection holds a parser while a message is half here, and never else; what one
 * connection has sent changes nothing for the one that takes its parser over. */
#include "base/log.h"
#include "http/inside.h"
#include "lib/http_world.h"
#include "lib/test.h"

#include <unistd.h>

#define G(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define CHUNKED "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

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
    http_world_settle(&http);
    http_world_deinit(&http);
    return 0;
}

/* How many connections have one. */
static uint32_t in_use(void)
{
    uint32_t count = 0;

    LIST_EACH (&http.server->conns, link) {
        count += CONTAINER_OF(link, struct http_conn, _link)->intake != NULL;
    }
    return count;
}

static uint32_t free_ones(void)
{
    return http.server->intakes_count;
}

static void test_nobody_keeps_one(void **state)
{
    int idle = http_world_connect(&http), waiting = http_world_connect(&http);

    (void)state;
    http_world_settle(&http);
    assert_int_equal(in_use() + free_ones(), 0); /* connected, and nothing was said */
    http_world_send(&http, idle, SPAN(G("/hello")));
    assert_string_equal(http_world_answers(&http, idle, 0), "200(hello)");
    http_world_send(&http, waiting, SPAN(G("/wait/1")));
    assert_int_equal(http.waiting_count, 1);
    assert_int_equal(in_use(), 0);
    assert_int_equal(free_ones(), 1); /* one was enough for both */
    http_world_answer(&http, 0);
    assert_string_equal(http_world_answers(&http, waiting, 0), "200(1)");
    close_fd(&idle);
    close_fd(&waiting);
}

static void test_half_a_message_keeps_one(void **state)
{
    static const struct {
        struct span first, rest;
        const char *answers;
    } cases[] = {
        {SPAN("G"), SPAN("ET /hello HTTP/1.1\r\nHost: a\r\n\r\n"), "200(hello)"},
        {SPAN("GET /hello HTTP/1.1\r\nHost: a\r\n\r"), SPAN("\n"), "200(hello)"},
        {SPAN("\r"), SPAN("\n" G("/hello")), "200(hello)"},
        {SPAN("\r\n"), SPAN(G("/hello")), "200(hello)"},
        {SPAN("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab"), SPAN("cd"),
         "200(abcd)"},
        {SPAN(CHUNKED "2\r\nab\r\n"), SPAN("1\r\nc\r\n0\r\n\r\n"), "200(abc)"},
        {SPAN(CHUNKED "2\r\nab\r\n0\r\nA: b\r\n"), SPAN("\r\n"), "200(ab)"},
        {SPAN(G("/hello") "GET /p/"), SPAN("1 HTTP/1.1\r\nHost: a\r\n\r\n"), "200(hello)200(1)"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = http_world_connect(&http);

        http_world_send(&http, fd, cases[i].first);
        assert_int_equal(in_use(), 1);
        http_world_send(&http, fd, cases[i].rest);
        assert_int_equal(in_use(), 0);
        assert_int_equal(free_ones(), 1);
        assert_string_equal(http_world_answers(&http, fd, 0), cases[i].answers);
        close_fd(&fd);
    }
}

/* More messages at once than are kept free afterwards, byte by byte in turn. */
static void test_many_at_once(void **state)
{
    enum { MANY = HTTP_INTAKES_KEPT + 20 };
    static const char text[] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    int fds[MANY];

    (void)state;
    for (int i = 0; i < MANY; i++)
        fds[i] = http_world_connect(&http);
    for (size_t at = 0; at + 1 < sizeof(text); at++) {
        for (int i = 0; i < MANY; i++)
            assert_int_equal(send(fds[i], &text[at], 1, 0), 1);
        http_world_settle(&http);
        assert_int_equal(in_use(), at + 2 < sizeof(text) ? MANY : 0);
    }
    assert_int_equal(free_ones(), HTTP_INTAKES_KEPT);
    for (int i = 0; i < MANY; i++) {
        assert_string_equal(http_world_answers(&http, fds[i], 0), "200(abc)");
        close_fd(&fds[i]);
    }
}

/* Two empty lines may precede a request: those of one connection don't count for another, and its
 * own count however slowly they come. */
static void test_empty_lines_are_counted_for_each(void **state)
{
    int one = http_world_connect(&http), two = http_world_connect(&http);

    (void)state;
    http_world_send(&http, one, SPAN("\r\n"));
    http_world_send(&http, one, SPAN("\r\n"));
    http_world_send(&http, two, SPAN("\r\n\r\n" G("/hello")));
    assert_string_equal(http_world_answers(&http, two, 0), "200(hello)");
    http_world_send(&http, one, SPAN("\r\n"));
    assert_string_equal(http_world_answers(&http, one, 0), "400x$");
    close_fd(&one);
    close_fd(&two);
}

/* A parser that stopped within a message, or refused it, is nobody's afterwards. */
static void test_a_broken_one_is_not_taken_over(void **state)
{
    static const struct span breaks[] = {
        SPAN("GET /hello HTT"),
        SPAN("GET /hello HTTP/1.1\r\nHost: a\r\nX: "),
        SPAN("BROKEN\r\n\r\n"),
        SPAN("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab"),
        SPAN(CHUNKED "5\r\nab"),
        SPAN(CHUNKED "zz\r\n"),
        SPAN(CHUNKED "0\r\nA: b\r\n"),
        SPAN("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(breaks) / sizeof(breaks[0]); i++) {
        int fd = http_world_connect(&http);

        http_world_send(&http, fd, breaks[i]);
        close_fd(&fd);
        http_world_settle(&http);
        assert_int_equal(http_server_counts(http.server)->connections_open, 0);
        assert_int_equal(free_ones(), 0);
    }
}

/* One that lingers counts what comes until it is closed. */
static void test_lingering(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN("BROKEN\r\n\r\nand more"));
    assert_int_equal(http_server_counts(http.server)->connections_open, 1);
    http_world_send(&http, fd, SPAN("and still more"));
    assert_int_equal(in_use(), 1);
    close_fd(&fd);
    http_world_settle(&http);
    assert_int_equal(http_server_counts(http.server)->connections_open, 0);
    assert_int_equal(free_ones(), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nobody_keeps_one),
        TEST(test_half_a_message_keeps_one),
        TEST(test_many_at_once),
        TEST(test_empty_lines_are_counted_for_each),
        TEST(test_a_broken_one_is_not_taken_over),
        TEST(test_lingering),
    };

    log_setup(STDERR_FILENO, LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
