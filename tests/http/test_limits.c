/* Goal: each limit on what a client sends, and on how much is done at once, holds at its number and
 * not one below it, with its answer, and its word in the access log; whoever keeps within them is
 * served meanwhile. (Limits of time: test_timeouts.c.) */
#include "base/log.h"
#include "http/body.h"
#include "http/inside.h"
#include "lib/http_world.h"
#include "lib/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define G(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define CHUNKED "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

static struct http_world http;

static int set_up(void **state)
{
    (void)state;
    http_world_init(&http);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_world_settle(&http);
    http_world_deinit(&http);
    return 0;
}

static uint32_t open_connections(void)
{
    return http_server_counts(http.server)->connections_open;
}

static void walk(uint32_t ms)
{
    fake_clock_walk(&http.world.clock, http.world.loop, ms);
    http_world_settle(&http);
}

static void assert_logged(const char *text)
{
    if (strstr(http_world_log(&http), text) == NULL)
        fail_msg("%s is not in: %s", text, http.text);
}

/* What `bytes` are answered with, on a connection of their own. */
static const char *answers_to(struct span bytes)
{
    int fd = http_world_connect(&http);
    const char *answers;

    http_world_send(&http, fd, bytes);
    answers = http_world_answers(&http, fd, 0);
    close_fd(&fd);
    http_world_settle(&http);
    return answers;
}

/* `start`, so many letters that it is `size` bytes with `end`, and that. */
static struct span filled(const char *start, const char *end, size_t size)
{
    static char text[4096];
    size_t head = strlen(start), tail = strlen(end);

    assert_true(size < sizeof(text) && size >= head + tail);
    memset(text, 'a', size);
    memcpy(text, start, head);
    memcpy(text + size - tail, end, tail);
    return (struct span){text, size};
}

/* ---- sizes of a head, a body, and what is around it ---- */

static void test_request_line(void **state)
{
    const char rest[] = " HTTP/1.1\r\nHost: a\r\n\r\n";

    (void)state;
    http.options.request_line_bytes_max = 100;
    http_world_start(&http);
    /* The line is counted without its end: " HTTP/1.1" belongs to it, the rest does not. */
    assert_memory_equal(answers_to(filled("GET /p/", rest, 100 + sizeof(rest) - 1 - 9)), "200(aa",
                        6);
    assert_string_equal(answers_to(filled("GET /p/", rest, 101 + sizeof(rest) - 1 - 9)), "414x$");
    assert_logged("status=414");
    assert_logged("why=line_too_long");
}

static void test_fields(void **state)
{
    (void)state;
    http.options.fields_max = 3;
    http_world_start(&http);
    assert_string_equal(answers_to(SPAN("GET /hello HTTP/1.1\r\nHost: a\r\nB: b\r\nC: c\r\n\r\n")),
                        "200(hello)");
    assert_string_equal(
        answers_to(SPAN("GET /hello HTTP/1.1\r\nHost: a\r\nB: b\r\nC: c\r\nD: d\r\n\r\n")),
        "431x$");
    assert_logged("why=too_many_fields");
}

static void test_head_bytes(void **state)
{
    (void)state;
    http.options.head_bytes_max = 300;
    http_world_start(&http);
    assert_string_equal(
        answers_to(filled("GET /hello HTTP/1.1\r\nHost: a\r\nB: ", "\r\n\r\n", 300)), "200(hello)");
    assert_string_equal(
        answers_to(filled("GET /hello HTTP/1.1\r\nHost: a\r\nB: ", "\r\n\r\n", 301)), "431x$");
    assert_logged("why=head_too_big");
}

static void test_trailers(void **state)
{
    static const char *const answers[] = {"200(ab)", "431x$"};

    (void)state;
    http.options.trailer_bytes_max = 50;
    http.options.fields_max = 3;
    http_world_start(&http);
    for (size_t i = 0; i < 2; i++) {
        struct span trailer = filled("B: ", "\r\n\r\n", 50 + i);
        int fd = http_world_connect(&http);

        http_world_send(&http, fd, SPAN(CHUNKED "2\r\nab\r\n0\r\n"));
        http_world_send(&http, fd, trailer);
        assert_string_equal(http_world_answers(&http, fd, 0), answers[i]);
        close_fd(&fd);
    }
    assert_logged("why=trailer_too_big");
    assert_string_equal(
        answers_to(SPAN(CHUNKED "2\r\nab\r\n0\r\nA: a\r\nB: b\r\nC: c\r\nD: d\r\n\r\n")), "431x$");
    assert_logged("why=too_many_fields");
}

/* What comes of chunks beyond what they carry: here extensions, in one chunk or in many. */
static void test_chunk_extensions(void **state)
{
    char extension[301];

    (void)state;
    memset(extension, 'e', sizeof(extension) - 1);
    extension[sizeof(extension) - 1] = '\0';
    http.options.chunk_excess_bytes_max = 1000;
    http_world_start(&http);
    for (int chunks = 3; chunks < 5; chunks++) {
        char text[4096];
        size_t len = (size_t)snprintf(text, sizeof(text), CHUNKED);

        for (int i = 0; i < chunks; i++)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "1;%s\r\nx\r\n", extension);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "0\r\n\r\n");
        assert_string_equal(answers_to((struct span){text, len}),
                            chunks == 3 ? "200(xxx)" : "400x$");
    }
    assert_logged("why=chunk_excess");
}

static void test_body(void **state)
{
    (void)state;
    http.options.body_bytes_max = 5;
    http_world_start(&http);
#define POST(path, length, body) \
    "POST " path " HTTP/1.1\r\nHost: a\r\nContent-Length: " length "\r\n\r\n" body
    assert_string_equal(answers_to(SPAN(POST("/echo", "5", "12345"))), "200(12345)");
    assert_string_equal(answers_to(SPAN(POST("/echo", "6", "123456"))), "413");
    assert_string_equal(answers_to(SPAN(CHUNKED "5\r\n12345\r\n0\r\n\r\n")), "200(12345)");
    assert_string_equal(answers_to(SPAN(CHUNKED "5\r\n12345\r\n1\r\n6\r\n0\r\n\r\n")), "413x$");
    /* A route's own. */
    assert_string_equal(answers_to(SPAN(POST("/small", "4", "1234"))), "200(1234)");
    assert_string_equal(answers_to(SPAN(POST("/small", "5", "12345"))), "413");
    assert_logged("path=/small route=/small plugin=test status=413");
    assert_logged("why=body_too_big");
}

/* ---- a body that comes in drops ---- */

static void begin_body(int *fd, const char *path)
{
    char head[128];

    snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n",
             path);
    *fd = http_world_connect(&http);
    http_world_send(&http, *fd, span_of(head));
}

/* 100 bytes a second are wanted: 90 are too few, 110 are enough, however long it goes on. */
static void test_body_rate(void **state)
{
    static char some[110];
    int slow, fast;

    (void)state;
    http.options.body_rate_min = 100;
    http.options.body_timeout_ms = 5000;
    http_world_start(&http);
    begin_body(&slow, "/echo");
    begin_body(&fast, "/echo");
    for (int i = 0; i < 60; i++) {
        if (i < 50)
            assert_int_equal(open_connections(), 2); /* a grace of 5 s, and 90 % of each second */
        http_world_send(&http, slow, (struct span){some, 90});
        http_world_send(&http, fast, (struct span){some, 110});
        walk(1000);
    }
    assert_string_equal(http_world_answers(&http, slow, 0), "408x$");
    assert_string_equal(http_world_answers(&http, fast, 0), "");
    assert_int_equal(open_connections(), 1);
    assert_logged("status=408");
    assert_logged("why=body_rate");
    close_fd(&slow);
    close_fd(&fast);
}

/* Nobody reads what a refused request still sends; it comes in its time all the same. */
static void test_body_rate_behind_a_refusal(void **state)
{
    int fd;

    (void)state;
    http.options.body_rate_min = 100;
    http.options.body_timeout_ms = 5000;
    http_world_start(&http);
    begin_body(&fd, "/nothing");
    for (int i = 0; i < 7 && open_connections() == 1; i++) {
        http_world_send(&http, fd, SPAN("x"));
        walk(1000);
    }
    assert_int_equal(open_connections(), 0);
    close_fd(&fd);
}

static struct http_request *holding;

static void serve_hold(struct http_request *request, void *data)
{
    (void)data;
    holding = request;
}

/* While it is the handler that does not read, the clock stands. */
static void test_body_rate_while_nobody_reads(void **state)
{
    static char much[90000];
    int fd;

    (void)state;
    http.options.body_rate_min = 10000;
    http.options.body_timeout_ms = 5000;
    http.options.request_timeout_ms = 1000000;
    http_world_start(&http);
    http_world_route(&http, "POST", "/hold", serve_hold, HTTP_ROUTE_STREAM_BODY);
    begin_body(&fd, "/hold");
    http_world_send(&http, fd, (struct span){much, sizeof(much) - 1});
    walk(100000);
    assert_int_equal(open_connections(), 1);
    while (holding->body_bytes < sizeof(much) - 1) {
        struct op *op = http_body_read(holding->scope, SIZE_MAX);

        http_world_settle(&http);
        assert_int_equal(op->state == OP_PENDING ? ERR_OK : op->status, ERR_OK);
    }
    walk(4000);
    assert_int_equal(open_connections(),
                     1); /* 90,000 bytes were worth 9 s, and there is the grace */
    walk(2000);
    assert_int_equal(http_problem(holding, 400, SPAN("slow")), ERR_OK);
    http_world_settle(&http);
    assert_logged("why=body_timeout"); /* the last byte has not come for 5 s */
    close_fd(&fd);
}

/* ---- connections ---- */

static void test_connections(void **state)
{
    int fds[4];

    (void)state;
    http.options.connections_max = 4;
    http.options.connections_soft = 4;
    http_world_start(&http);
    for (int i = 0; i < 4; i++) {
        assert_true(http_server_make_room(http.server));
        fds[i] = http_world_connect(&http);
        http_world_send(&http, fds[i], SPAN("GET /hel")); /* none of them is idle */
    }
    walk(1200);
    assert_false(http_server_has_room(http.server));
    assert_false(http_server_make_room(http.server));
    walk(1000);
    assert_int_equal(http.rooms, 0);
    close_fd(&fds[2]);
    http_world_settle(&http);
    assert_int_equal(http.rooms, 1);
    assert_true(http_server_make_room(http.server));
    for (int i = 0; i < 4; i++)
        close_fd(&fds[i]);
}

static bool is_open(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0;
}

/* The one that has been idle for longest goes, in the order in which they became so; one that was
 * idle for a moment is spared, and who is busy. */
static void test_the_idlest_goes_first(void **state)
{
    static const int order[] = {2, 0, 3, 1}; /* in which they are served last */
    int fds[6];

    (void)state;
    http.options.connections_max = 8;
    http.options.connections_soft = 6;
    http_world_start(&http);
    for (int i = 0; i < 6; i++)
        fds[i] = http_world_connect(&http);
    http_world_send(&http, fds[4], SPAN(G("/wait/1")));
    http_world_send(&http, fds[5], SPAN("GET /hello"));
    for (int i = 0; i < 4; i++) {
        walk(300);
        http_world_send(&http, fds[order[i]], SPAN(G("/hello")));
        assert_string_equal(http_world_answers(&http, fds[order[i]], 0), "200(hello)");
    }
    walk(50);
    assert_true(http_server_make_room(http.server)); /* there is room, and all were just served */
    assert_int_equal(open_connections(), 6);
    for (uint32_t i = 0; i < 4; i++) {
        walk(300);
        assert_true(is_open(fds[order[i]]));
        assert_true(http_server_make_room(http.server));
        assert_false(is_open(fds[order[i]]));
        assert_int_equal(http.rooms, 0); /* whoever accepts knows */
        close_fd(&fds[order[i]]);
        fds[order[i]] = http_world_connect(&http);
    }
    http_world_answer(&http, 0);
    http_world_send(&http, fds[5], SPAN(" HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_string_equal(http_world_answers(&http, fds[4], 0), "200(1)");
    assert_string_equal(http_world_answers(&http, fds[5], 0), "200(hello)");
    for (int i = 0; i < 6; i++)
        close_fd(&fds[i]);
}

/* It is full, and nobody is idle for long enough: as soon as somebody is, there is room. */
static void test_room_comes_of_itself(void **state)
{
    int fds[2];

    (void)state;
    http.options.connections_max = 2;
    http_world_start(&http);
    for (int i = 0; i < 2; i++)
        fds[i] = http_world_connect(&http);
    walk(500);
    assert_false(http_server_make_room(http.server));
    assert_false(http_server_make_room(http.server));
    walk(480);
    assert_int_equal(http.rooms, 0);
    walk(300);
    assert_int_equal(http.rooms, 1);
    assert_int_equal(open_connections(), 1);
    for (int i = 0; i < 2; i++)
        close_fd(&fds[i]);
}

static int connect_from(const char *address)
{
    struct addr peer;
    int fds[2];

    assert_true(addr_parse(span_of(address), &peer));
    pair_unix(fds);
    http_server_accept(http.server, fds[0], &peer);
    http_world_settle(&http);
    return fds[1];
}

static void test_connections_of_an_address(void **state)
{
    static const struct {
        const char *address;
        bool is_served;
    } comes[] = {
        {"10.0.0.1:1", true},          {"10.0.0.1:2", true},
        {"10.0.0.1:3", false},         {"10.0.0.2:1", true},
        {"[2001:db8::1]:1", true},     {"[2001:db8::2]:1", true},
        {"[2001:db8::3]:1", false},    {"[2001:db8:0:1::3]:1", true},
        {"[::ffff:10.0.0.2]:1", true}, {"[::ffff:10.0.0.2]:2", false},
    };
    int fds[sizeof(comes) / sizeof(comes[0])];

    (void)state;
    http.options.address_connections_max = 2;
    http_world_start(&http);
    for (size_t i = 0; i < sizeof(comes) / sizeof(comes[0]); i++) {
        fds[i] = connect_from(comes[i].address);
        http_world_send(&http, fds[i], SPAN(G("/hello")));
        if (comes[i].is_served)
            assert_string_equal(http_world_answers(&http, fds[i], 0), "200(hello)");
        else
            assert_non_null(strstr(http_world_read(&http, fds[i]), "503 Service Unavailable\r\n"
                                                                   "Content-Length: 0\r\n"
                                                                   "Retry-After: 1\r\n"));
    }
    assert_int_equal(http_server_counts(http.server)->connections_refused, 3);
    assert_int_equal(open_connections(), 7);
    close_fd(&fds[0]);
    http_world_settle(&http);
    fds[0] = connect_from("10.0.0.1:4");
    http_world_send(&http, fds[0], SPAN(G("/hello")));
    assert_string_equal(http_world_answers(&http, fds[0], 0), "200(hello)");
    for (size_t i = 0; i < sizeof(comes) / sizeof(comes[0]); i++)
        close_fd(&fds[i]);
    http_world_settle(&http);
    assert_int_equal(http.server->clients.count, 0);
}

/* ---- requests ---- */

static void test_requests_of_a_connection(void **state)
{
    int fd;

    (void)state;
    http.options.connection_requests_max = 3;
    http_world_start(&http);
    fd = http_world_connect(&http);
    http_world_send(&http, fd, SPAN(G("/hello") G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "200(hello)200(hello)");
    http_world_send(&http, fd, SPAN(G("/hello") G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "200x(hello)$");
    close_fd(&fd);
}

static void test_pipelined_requests_wait(void **state)
{
    int fd;

    (void)state;
    http.options.pipelined_max = 2;
    http_world_start(&http);
    fd = http_world_connect(&http);
    http_world_send(&http, fd, SPAN(G("/wait/1") G("/wait/2") G("/wait/3") G("/hello")));
    assert_int_equal(http.waiting_count, 2);
    http_world_answer(&http, 0);
    assert_int_equal(http.waiting_count, 3);
    http_world_answer(&http, 1);
    http_world_answer(&http, 2);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(1)200(2)200(3)200(hello)");
    close_fd(&fd);
}

static void test_requests_under_way(void **state)
{
    int first, second, third;

    (void)state;
    http.options.requests_max = 2;
    http_world_start(&http);
    http_world_route(&http, "GET", "/health", serve_hold, HTTP_ROUTE_VITAL);
    first = http_world_connect(&http);
    second = http_world_connect(&http);
    third = http_world_connect(&http);
    http_world_send(&http, first, SPAN(G("/wait/1")));
    http_world_send(&http, second, SPAN(G("/wait/2")));
    http_world_send(&http, third, SPAN(G("/wait/3")));
    assert_non_null(strstr(http_world_read(&http, third), "\r\nRetry-After: 1\r\n"));
    assert_logged("path=/wait/3 route=/wait/:n plugin=test status=503");
    assert_logged("why=requests_max");
    http_world_send(&http, third, SPAN(G("/health"))); /* what is vital is served */
    assert_int_equal(http_reply(holding, 200, SPAN("text/plain"), SPAN("well")), ERR_OK);
    http_world_settle(&http);
    assert_string_equal(http_world_answers(&http, third, 0), "200(well)");
    http_world_answer(&http, 0);
    http_world_send(&http, third, SPAN(G("/hello")));
    assert_string_equal(http_world_answers(&http, third, 0), "200(hello)");
    close_fd(&first);
    close_fd(&second);
    close_fd(&third);
}

/* Of one route: by what is under way there, and nothing else. */
static void test_requests_of_a_route(void **state)
{
    struct http_route *route;
    int fd, gone;

    (void)state;
    http_world_start(&http);
    route = http_world_route(&http, "GET", "/narrow", serve_hold, 0);
    route->requests_max = 1;
    gone = http_world_connect(&http);
    fd = http_world_connect(&http);
    http_world_send(&http, gone, SPAN(G("/narrow")));
    http_world_send(&http, fd, SPAN(G("/narrow") G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "503200(hello)");
    assert_logged("path=/narrow route=/narrow plugin=test status=503");
    assert_logged("why=route_busy");
    assert_int_equal(route->requests_open, 1);
    close_fd(&gone); /* its handler waits for nobody any more */
    http_world_settle(&http);
    assert_int_equal(route->requests_open, 0);
    http_world_send(&http, fd, SPAN(G("/narrow")));
    assert_int_equal(http_reply(holding, 200, SPAN("text/plain"), SPAN("ok")), ERR_OK);
    http_world_settle(&http);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(ok)");
    assert_int_equal(route->requests_open, 0);
    close_fd(&fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_request_line),
        TEST(test_fields),
        TEST(test_head_bytes),
        TEST(test_trailers),
        TEST(test_chunk_extensions),
        TEST(test_body),
        TEST(test_body_rate),
        TEST(test_body_rate_behind_a_refusal),
        TEST(test_body_rate_while_nobody_reads),
        TEST(test_connections),
        TEST(test_the_idlest_goes_first),
        TEST(test_room_comes_of_itself),
        TEST(test_connections_of_an_address),
        TEST(test_requests_of_a_connection),
        TEST(test_pipelined_requests_wait),
        TEST(test_requests_under_way),
        TEST(test_requests_of_a_route),
    };

    log_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
