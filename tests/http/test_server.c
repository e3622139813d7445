/* Goal: the server as its worker sees it: room for connections, counts, the access log, drain and
 * abort; and bodies that are pulled hold the client back. */
#include "base/log.h"
#include "http/body.h"
#include "lib/http_world.h"
#include "lib/test.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define G(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static struct http_world http;

static int set_up(void **state)
{
    (void)state;
    http_world_init(&http);
    http.options.connections_max = 2;
    http_world_start(&http);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_world_deinit(&http);
    return 0;
}

static void on_drained(void *data)
{
    struct http_world *world = data;

    world->drained++;
}

static void drain(void)
{
    http_server_drain(http.server, on_drained, &http);
    assert_int_equal(http.drained, 0);
    http_world_settle(&http);
}

static void walk(uint32_t ms)
{
    fake_clock_walk(&http.world.clock, http.world.loop, ms);
    http_world_settle(&http);
}

static void test_room(void **state)
{
    int one = http_world_connect(&http), two;

    (void)state;
    assert_true(http_server_has_room(http.server));
    two = http_world_connect(&http);
    assert_false(http_server_has_room(http.server));
    close_fd(&one);
    http_world_settle(&http);
    assert_true(http_server_has_room(http.server));
    assert_int_equal(http.rooms, 1);
    close_fd(&two);
}

static void test_counts(void **state)
{
    const struct http_server_counts *counts = http_server_counts(http.server);
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN(G("/hello") G("/none") G("/wait/1") G("/wait/2") "X\r\n\r\n"));
    assert_int_equal(counts->connections, 1);
    assert_int_equal(counts->connections_open, 1);
    assert_int_equal(counts->requests, 4);
    assert_int_equal(counts->refused, 2);
    assert_int_equal(counts->requests_open, 3); /* the refused one waits for its turn */
    http_world_answer(&http, 0);
    http_world_answer(&http, 1);
    assert_int_equal(counts->requests_open, 0);
    close_fd(&fd);
    http_world_settle(&http);
    assert_int_equal(counts->connections_open, 0);
}

/* What the loop is told of steps that have ended. */
static struct {
    uint32_t count;
    uint64_t took_us;
} steps;

void __wrap_loop_step_ended(struct loop *loop, uint64_t took_us);

void __wrap_loop_step_ended(struct loop *loop, uint64_t took_us)
{
    (void)loop;
    steps.count++;
    steps.took_us = took_us;
}

static void test_access_lines(void **state)
{
    int fd = http_world_connect(&http);
    const char *log;

    (void)state;
    http_world_send(&http, fd, SPAN(G("/wait/1?x=y")));
    walk(40);
    http.waiting[0]->scope->spent_us[SCOPE_TIME_PG] = 12345;
    http.waiting[0]->scope->spent_us[SCOPE_TIME_CALL] = 2000;
    http.waiting[0]->scope->spent_us[SCOPE_TIME_QUEUE] = 1500;
    steps.count = 0;
    http_world_answer(&http, 0);
    assert_int_equal(steps.count, 1);
    assert_int_equal(steps.took_us, 40000);
    log = http_world_log(&http);
    assert_non_null(strstr(log,
                           " id=00000000000003e9 peer=10.1.2.3:45 method=GET path=\"/wait/1?x=y\" "
                           "route=/wait/:n plugin=test status=200 bytes="));
    assert_non_null(strstr(log, " total_ms=40.000 queue_ms=1.500 pg_ms=12.345 call_ms=2.000 "
                                "why=done\n"));
    close_fd(&fd);
}

/* Why a 503 was one is what the scope says; an answer that is none of an error is done. */
static void test_why(void **state)
{
    int fd = http_world_connect(&http);
    struct http_request *request;
    struct op *op;

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        http_world_send(&http, fd, SPAN(G("/wait/1")));
        request = http.waiting[i];
        op = op_failed(request->scope, ERR_DB_BUSY, "pg_queue_full", SPAN(""));
        assert_int_equal(op->status, ERR_DB_BUSY);
        assert_int_equal(http_problem(request, i == 0 ? 503 : 404, SPAN("")), ERR_OK);
        http_world_settle(&http);
    }
    http_world_send(&http, fd, SPAN(G("/wait/1")));
    request = http.waiting[2];
    request->why = "shed";
    assert_int_equal(http_problem(request, 503, SPAN("")), ERR_OK);
    http_world_settle(&http);
    http_world_log(&http);
    assert_non_null(strstr(http.text, "why=pg_queue_full\n"));
    assert_non_null(strstr(http.text, "why=done\n"));
    assert_non_null(strstr(http.text, "why=shed\n"));
    close_fd(&fd);
}

/* ---- drain ---- */

static void test_drain_of_nothing(void **state)
{
    (void)state;
    drain();
    assert_int_equal(http.drained, 1);
}

/* A request that is on its way to an idle connection is still served, and the last. */
static void test_drain_with_idle_connections(void **state)
{
    int quiet = http_world_connect(&http), busy = http_world_connect(&http);

    (void)state;
    http_world_send(&http, quiet, SPAN(G("/hello")));
    assert_string_equal(http_world_answers(&http, quiet, 0), "200(hello)");
    drain();
    assert_string_equal(http_world_answers(&http, quiet, 0), "");
    http_world_send(&http, busy, SPAN(G("/hello")));
    assert_string_equal(http_world_answers(&http, busy, 0), "200x(hello)$");
    walk(1980);
    assert_string_equal(http_world_answers(&http, quiet, 0), "");
    walk(40);
    assert_string_equal(http_world_answers(&http, quiet, 0), "$");
    assert_int_equal(http.drained, 1);
    close_fd(&quiet);
    close_fd(&busy);
}

/* One that the kernel had queued has as long to ask as one that was there before. */
static void test_drain_and_a_connection_that_comes_late(void **state)
{
    int first = http_world_connect(&http), late;

    (void)state;
    drain();
    walk(1900);
    late = http_world_connect(&http);
    walk(1000);
    assert_string_equal(http_world_answers(&http, first, 0), "$");
    assert_string_equal(http_world_answers(&http, late, 0), "");
    http_world_send(&http, late, SPAN(G("/hello")));
    assert_string_equal(http_world_answers(&http, late, 0), "200x(hello)$");
    close_fd(&first);
    close_fd(&late);
}

/* Taken back: who is there may stay, and whoever waited for the end is not told. */
static void test_drain_and_resume(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    drain();
    walk(1000);
    http_server_resume(http.server);
    walk(5000);
    http_world_send(&http, fd, SPAN(G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "200(hello)");
    close_fd(&fd);
    walk(10);
    assert_int_equal(http.drained, 0);
    drain();
    walk(10);
    assert_int_equal(http.drained, 1);
}

static void test_drain_with_requests_under_way(void **state)
{
    int fd = http_world_connect(&http), half = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN(G("/wait/1") G("/wait/2")));
    http_world_send(&http, half,
                    SPAN("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na"));
    drain();
    walk(1000);
    http_world_answer(&http, 0);
    http_world_send(&http, half, SPAN("b"));
    assert_string_equal(http_world_answers(&http, half, 0), "200x(ab)$");
    assert_int_equal(http.drained, 0);
    http_world_answer(&http, 1);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(1)200x(2)$");
    assert_int_equal(http.drained, 1);
    close_fd(&fd);
    close_fd(&half);
}

/* Work that goes on without its client is waited for, too. */
static void test_drain_waits_for_the_last_request(void **state)
{
    struct addr peer = {.len = 0};
    int fds[2];

    (void)state;
    pair_tcp(fds);
    assert_true(addr_parse(SPAN("10.1.2.3:45"), &peer));
    http_server_accept(http.server, fds[0], &peer);
    http_world_send(&http, fds[1], SPAN(G("/finish/1")));
    run_until_count(http.world.loop, &http.waiting_count, 1);
    close_with_reset(&fds[1]);
    while (http_server_counts(http.server)->connections_open > 0)
        loop_turn(http.world.loop, 0);
    drain();
    assert_int_equal(http.drained, 0);
    http_world_answer(&http, 0);
    assert_int_equal(http.drained, 1);
}

static void test_abort(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN(G("/wait/1") G("/finish/2") G("/p/3")));
    drain();
    assert_int_equal(http_server_abort(http.server), 3);
    http_world_settle(&http);
    assert_int_equal(http.drained, 1);
    assert_string_equal(http_world_answers(&http, fd, 0), "$");
    http_world_log(&http);
    assert_non_null(strstr(http.text, "path=/wait/1 route=/wait/:n plugin=test status=0"));
    assert_non_null(strstr(http.text, "why=shutdown"));
    close_fd(&fd);
}

/* ---- bodies that are pulled ---- */

struct puller {
    struct http_request *request; /* the one that is pulled */
    struct op *op;                /* the pull under way */
    uint32_t told;                /* pulls that were told */
    enum err status;              /* of the last */
    size_t total;                 /* bytes so far */
    bool is_end;                  /* the last one said so */
};

static struct puller puller;

static void serve_slowly(struct http_request *request, void *data)
{
    (void)data;
    puller = (struct puller){.request = request};
}

static void on_pulled(struct op *op, void *data)
{
    (void)data;
    puller.told++;
    puller.status = op->status;
    puller.total += op->piece.len;
    puller.is_end = op->status == ERR_OK && op->piece.len == 0;
    puller.op = NULL;
}

static void pull(size_t bytes_max)
{
    puller.op = http_body_read(puller.request->scope, bytes_max);
    assert_int_equal(op_notify(puller.op, on_pulled, NULL), ERR_OK);
    http_world_settle(&http);
}

static int start_upload(const char *head)
{
    int fd = http_world_connect(&http);

    http_world_route(&http, "POST", "/slow", serve_slowly, HTTP_ROUTE_STREAM_BODY);
    http_world_send(&http, fd, span_of(head));
    assert_non_null(puller.request);
    return fd;
}

/* A handler that does not pull holds the client back: no more than so much is kept. */
static void test_a_pull_lets_more_come(void **state)
{
    static char much[1 << 16];
    struct http_request *request;
    size_t sent = 0, wanted = 900000;
    int fd = start_upload("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");

    (void)state;
    request = puller.request;
    for (int i = 0; i < 200; i++) {
        size_t size = wanted - sent < sizeof(much) ? wanted - sent : sizeof(much);
        ssize_t got = size > 0 ? send(fd, much, size, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

        sent += got > 0 ? (size_t)got : 0;
        http_world_settle(&http);
    }
    assert_true(sent < wanted);
    assert_true(request->body.len < HTTP_BODY_HIGH + 32768);
    for (int i = 0; i < 1000 && !puller.is_end; i++) {
        size_t size = wanted - sent < sizeof(much) ? wanted - sent : sizeof(much);
        ssize_t got = size > 0 ? send(fd, much, size, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

        sent += got > 0 ? (size_t)got : 0;
        if (puller.op == NULL)
            pull(10000);
        assert_true(request->body.len + request->_piece.len < HTTP_BODY_HIGH + 32768 + 10000);
    }
    assert_int_equal(puller.total, wanted);
    assert_int_equal(http_reply(request, 200, SPAN("a/b"), SPAN("ok")), ERR_OK);
    http_world_send(&http, fd, SPAN(G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "200(ok)200(hello)");
    close_fd(&fd);
}

static void test_two_pulls_at_once(void **state)
{
    int fd = start_upload("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    struct op *second;

    (void)state;
    pull(10);
    second = http_body_read(puller.request->scope, 10);
    assert_int_equal(second->status, ERR_STATE);
    assert_int_equal(puller.told, 0);
    http_world_send(&http, fd, SPAN("a"));
    assert_int_equal(puller.told, 1);
    assert_int_equal(puller.total, 1);
    close_fd(&fd);
}

/* A pull that is canceled takes nothing with it. */
static void test_a_pull_that_is_canceled(void **state)
{
    int fd = start_upload("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");

    (void)state;
    pull(10);
    op_cancel(puller.op);
    http_world_settle(&http);
    assert_int_equal(puller.status, ERR_CANCELED);
    http_world_send(&http, fd, SPAN("ab"));
    pull(10);
    assert_int_equal(puller.status, ERR_OK);
    assert_int_equal(puller.total, 2);
    pull(10);
    assert_true(puller.is_end);
    pull(10);
    assert_true(puller.is_end);
    close_fd(&fd);
}

/* The client's word is asked for when the handler wants the body, not before. */
static void test_continue_comes_with_the_first_pull(void **state)
{
    int fd = start_upload("POST /slow HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                          "Content-Length: 2\r\n\r\n");

    (void)state;
    walk(3000);
    assert_string_equal(http_world_read(&http, fd), "");
    pull(10);
    assert_string_equal(http_world_read(&http, fd), "HTTP/1.1 100 Continue\r\n\r\n");
    http_world_send(&http, fd, SPAN("ab"));
    assert_int_equal(puller.total, 2);
    assert_int_equal(http_reply(puller.request, 200, SPAN("a/b"), SPAN("ok")), ERR_OK);
    http_world_settle(&http);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(ok)");
    close_fd(&fd);
}

static void test_continue_for_a_buffered_body(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd,
                    SPAN("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                         "Content-Length: 2\r\n\r\n"));
    assert_string_equal(http_world_read(&http, fd), "HTTP/1.1 100 Continue\r\n\r\n");
    http_world_send(&http, fd, SPAN("ab"));
    assert_string_equal(http_world_answers(&http, fd, 0), "200(ab)");
    close_fd(&fd);
}

/* Refused: no word, and the connection ends, since nobody knows whether the body comes. */
static void test_no_continue_for_what_is_refused(void **state)
{
    static const char *const heads[] = {
        "POST /none HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n",
        "POST /hello HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 2\r\n\r\n",
    };
    static const char *const wanted[] = {"404x$", "413x$", "405x$", "417x$"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        int fd = http_world_connect(&http);

        http_world_send(&http, fd, span_of(heads[i]));
        assert_string_equal(http_world_answers(&http, fd, 0), wanted[i]);
        assert_null(strstr(http.text, "100 Continue"));
        close_fd(&fd);
        http_world_settle(&http);
    }
}

/* An early answer: what is left of a small body is read and dropped, a large one ends it. */
static void test_answers_before_the_body(void **state)
{
    int fd = start_upload("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab");

    (void)state;
    assert_int_equal(http_reply(puller.request, 200, SPAN("a/b"), SPAN("ok")), ERR_OK);
    http_world_send(&http, fd, SPAN("cdefghij" G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "200(ok)200(hello)");
    http_world_send(&http, fd,
                    SPAN("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\nab"));
    assert_int_equal(http_reply(puller.request, 200, SPAN("a/b"), SPAN("ok")), ERR_OK);
    http_world_settle(&http);
    assert_string_equal(http_world_answers(&http, fd, 0), "200x(ok)$");
    close_fd(&fd);
}

static void test_a_pulled_body_too_big(void **state)
{
    int fd = start_upload("POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");

    (void)state;
    pull(10);
    http_world_send(&http, fd, SPAN("2\r\nab\r\nFFFFFFFFFFFFFFFF\r\n"));
    assert_int_equal(puller.total, 2);
    pull(10);
    assert_int_equal(puller.status, ERR_BODY_TOO_BIG);
    assert_int_equal(http_problem(puller.request, 413, SPAN("")), ERR_OK);
    http_world_settle(&http);
    assert_string_equal(http_world_answers(&http, fd, 0), "413x$");
    close_fd(&fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_room),
        TEST(test_counts),
        TEST(test_access_lines),
        TEST(test_why),
        TEST(test_drain_of_nothing),
        TEST(test_drain_with_idle_connections),
        TEST(test_drain_and_a_connection_that_comes_late),
        TEST(test_drain_and_resume),
        TEST(test_drain_with_requests_under_way),
        TEST(test_drain_waits_for_the_last_request),
        TEST(test_abort),
        TEST(test_a_pull_lets_more_come),
        TEST(test_two_pulls_at_once),
        TEST(test_a_pull_that_is_canceled),
        TEST(test_continue_comes_with_the_first_pull),
        TEST(test_continue_for_a_buffered_body),
        TEST(test_no_continue_for_what_is_refused),
        TEST(test_answers_before_the_body),
        TEST(test_a_pulled_body_too_big),
    };

    log_setup(STDERR_FILENO, LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
