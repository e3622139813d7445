/* Goal: a body that is pulled comes in pieces of bounded memory; who sends too slowly, too much or
 * not to the end is told so; time that the handler takes is its own, time that the client takes is
 * not; FIN behind a whole body cancels nothing; and what stands behind the last chunk can be
 * read. */
#include "base/log.h"
#include "http/body.h"
#include "http/reply_stream.h"
#include "lib/http_world.h"
#include "lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define G(path)     "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST_HEAD   "POST /slow HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED     "Transfer-Encoding: chunked\r\n\r\n"
#define LENGTH(len) "Content-Length: " #len "\r\n\r\n"

static struct http_world http;

/* The handler that the test plays. */
static struct puller {
    struct http_request *request; /* NULL: not started */
    struct op *op;                /* waits, NULL: none */
    enum err status;              /* of the last */
    size_t total;                 /* bytes so far */
    bool is_end;                  /* the last one said so */
} puller;

static void serve(struct http_request *request, void *data)
{
    (void)data;
    puller = (struct puller){.request = request};
}

static struct http_route *route;

static int set_up(void **state)
{
    (void)state;
    puller = (struct puller){.request = NULL};
    http_world_init(&http);
    http.options.body_rate_min = 0;
    http_world_start(&http);
    route = http_world_route(&http, "POST", "/slow", serve, HTTP_ROUTE_STREAM_BODY);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_world_settle(&http);
    assert_int_equal(http_server_counts(http.server)->connections_open, 0);
    assert_int_equal(http.world.tasks->scopes_count, 0);
    http_world_deinit(&http);
    return 0;
}

static void on_pulled(struct op *op, void *data)
{
    (void)data;
    puller.status = op->status;
    puller.total += op->piece.len;
    puller.is_end = op->status == ERR_OK && op->piece.ptr == NULL;
    if (op->piece.ptr != NULL)
        assert_int_equal(op->piece.ptr[op->piece.len], 0);
    puller.op = NULL;
}

static void pull(void)
{
    assert_null(puller.op);
    puller.op = http_body_read(puller.request->scope, SIZE_MAX);
    assert_int_equal(op_notify(puller.op, on_pulled, NULL), ERR_OK);
    http_world_settle(&http);
}

static int start(struct span bytes)
{
    int fd = http_world_connect(&http);

    http_world_send(&http, fd, bytes);
    assert_non_null(puller.request);
    return fd;
}

static void walk(uint32_t ms)
{
    fake_clock_walk(&http.world.clock, http.world.loop, ms);
    http_world_settle(&http);
}

static void reply(void)
{
    enum err err = http_reply(puller.request, 200, SPAN("a/b"), SPAN("ok"));

    assert_true(err == ERR_OK || err == ERR_CLOSED);
    http_world_settle(&http);
}

static void finish(int *fd, const char *answers)
{
    http_world_settle(&http);
    assert_string_equal(http_world_answers(&http, *fd, 0), answers);
    close_fd(fd);
    http_world_settle(&http);
}

/* ---- pieces ---- */

static void test_pulls_take_no_more_memory(void **state)
{
    static char piece[5000];
    size_t before = 0, start_bytes;
    int fd;

    (void)state;
    route->body_bytes_max = INT64_MAX;
    fd = start(SPAN(POST_HEAD LENGTH(5000000)));
    start_bytes = puller.request->scope->arena.bytes;
    for (int i = 0; i < 1000; i++) {
        if (i % 2 == 0)
            pull();
        http_world_send(&http, fd, (struct span){piece, sizeof(piece)});
        if (i % 2 != 0)
            pull();
        before = i == 10 ? puller.request->scope->arena.bytes : before;
    }
    pull();
    assert_int_equal(puller.total, 5000000);
    assert_true(puller.is_end);
    assert_true(before >= start_bytes);
    assert_int_equal(puller.request->scope->arena.bytes, before);
    reply();
    http_world_send(&http, fd, SPAN(G("/hello")));
    finish(&fd, "200(ok)200(hello)");
}

/* What one pull brought is gone with the next, and cannot be read by mistake. */
static void test_a_piece_goes_with_the_next_pull(void **state)
{
    int fd = start(SPAN(POST_HEAD LENGTH(6) "abc"));
    struct op *first = http_body_read(puller.request->scope, 2);
    uint64_t handle = first->handle;

    (void)state;
    assert_int_equal(first->piece.len, 2);
    assert_memory_equal(first->piece.ptr, "ab", 2);
    pull();
    assert_int_equal(puller.total, 1);
    assert_null(op_of(http.world.tasks, handle));
    http_world_send(&http, fd, SPAN("def"));
    pull();
    pull();
    assert_true(puller.is_end);
    reply();
    finish(&fd, "200(ok)");
}

/* A child's memory goes with the child: what it pulled last is not used again. */
static void test_pulls_of_children(void **state)
{
    int fd = start(SPAN(POST_HEAD LENGTH(4) "ab"));
    struct scope *child = scope_child(puller.request->scope, 0, 0);
    struct op *op = http_body_read(child, SIZE_MAX);

    (void)state;
    assert_int_equal(op->piece.len, 2);
    pull(); /* waits */
    assert_non_null(puller.op);
    scope_finish(child, SCOPE_EXPLICIT);
    http_world_settle(&http);
    child = scope_child(puller.request->scope, 0, 0);
    http_world_send(&http, fd, SPAN("cd"));
    assert_int_equal(puller.total, 2);
    op = http_body_read(child, SIZE_MAX);
    assert_int_equal(op->status, ERR_OK);
    assert_null(op->piece.ptr);
    scope_finish(child, SCOPE_EXPLICIT);
    http_world_settle(&http);
    pull();
    assert_true(puller.is_end);
    reply();
    finish(&fd, "200(ok)");
}

/* ---- time ---- */

static void test_the_client_s_time_is_not_the_handler_s(void **state)
{
    int fd = start(SPAN(POST_HEAD LENGTH(4)));

    (void)state;
    pull();
    walk(8000); /* of a budget of 5 s, while the pull waits */
    http_world_send(&http, fd, SPAN("a"));
    assert_int_equal(puller.total, 1);
    walk(4000); /* ours */
    pull();
    walk(8000);
    http_world_send(&http, fd, SPAN("bcd"));
    walk(4000);
    pull();
    assert_true(puller.is_end);
    reply();
    finish(&fd, "200(ok)");
}

static void test_the_handler_s_time_is_limited(void **state)
{
    int fd = start(SPAN(POST_HEAD LENGTH(4) "a"));

    (void)state;
    pull();
    assert_int_equal(puller.total, 1);
    walk(5010);
    finish(&fd, "504");
}

static void test_a_pull_that_was_canceled_counts_again(void **state)
{
    int fd = start(SPAN(POST_HEAD LENGTH(4)));

    (void)state;
    pull();
    op_cancel(puller.op);
    http_world_settle(&http);
    assert_int_equal(puller.status, ERR_CANCELED);
    walk(5010);
    finish(&fd, "504");
}

static void test_a_body_that_stops(void **state)
{
    int fd = start(SPAN(POST_HEAD LENGTH(4) "a"));

    (void)state;
    pull();
    pull();
    walk(20010);
    assert_int_equal(puller.status, ERR_BODY_SLOW);
    pull();
    assert_int_equal(puller.status, ERR_BODY_SLOW);
    assert_int_equal(http_problem(puller.request, 408, SPAN("")), ERR_OK);
    finish(&fd, "408x$");
    assert_non_null(strstr(http_world_log(&http), "why=body_timeout"));
}

/* A handler that takes a minute over a full buffer: the client, who could not send, is not late. */
static void test_who_was_held_back_is_not_late(void **state)
{
    static char much[HTTP_BODY_HIGH];
    int fd;

    (void)state;
    route->timeout_ms = 3600000;
    fd = start(SPAN(POST_HEAD LENGTH(65537)));
    http_world_send(&http, fd, (struct span){much, sizeof(much)});
    walk(60000);
    pull();
    assert_int_equal(puller.total, sizeof(much));
    pull();
    walk(19000);
    http_world_send(&http, fd, SPAN("x"));
    pull();
    assert_true(puller.is_end);
    reply();
    finish(&fd, "200(ok)");
}

/* ---- the client's word, and its end ---- */

static void test_continue_is_said_with_the_first_pull(void **state)
{
    int fd = start(SPAN(POST_HEAD "Expect: 100-continue\r\n" LENGTH(1)));

    (void)state;
    assert_string_equal(http_world_read(&http, fd), "");
    pull();
    assert_string_equal(http_world_read(&http, fd), "HTTP/1.1 100 Continue\r\n\r\n");
    http_world_send(&http, fd, SPAN("a"));
    pull();
    assert_true(puller.is_end);
    reply();
    finish(&fd, "200(ok)");
}

static void test_who_did_not_wait_gets_no_word(void **state)
{
    int fd = start(SPAN(POST_HEAD "Expect: 100-continue\r\n" LENGTH(2) "a"));

    (void)state;
    pull();
    pull();
    http_world_send(&http, fd, SPAN("b"));
    pull();
    assert_true(puller.is_end);
    reply();
    finish(&fd, "200(ok)");
}

/* The word would stand within the answer, and be taken for its body, or for the next answer.
 * Whether such a client still sends its body nobody knows: the connection ends. */
static void test_no_word_within_an_answer(void **state)
{
    static const struct http_stream_options chunked = {.length = -1}, known = {.length = 2};
    int fd = start(SPAN(POST_HEAD "Expect: 100-continue\r\n" LENGTH(1)));

    (void)state;
    assert_int_equal(http_stream_begin(puller.request, 200, SPAN("a/b"), &chunked), ERR_OK);
    pull();
    http_world_send(&http, fd, SPAN("a"));
    pull();
    assert_true(puller.is_end);
    assert_int_equal(puller.total, 1);
    assert_int_equal(http_reply_write(puller.request, SPAN("ok")), ERR_OK);
    assert_int_equal(http_reply_end(puller.request), ERR_OK);
    finish(&fd, "200x(ok)$");

    fd = start(SPAN(POST_HEAD "Expect: 100-continue\r\n" LENGTH(1)));
    assert_int_equal(http_stream_begin(puller.request, 200, SPAN("a/b"), &known), ERR_OK);
    pull();
    assert_int_equal(http_reply_write(puller.request, SPAN("ok")), ERR_OK);
    assert_int_equal(http_reply_end(puller.request), ERR_OK);
    http_world_send(&http, fd, SPAN(G("/hello"))); /* it keeps its body */
    finish(&fd, "200x(ok)$");
}

static void test_fin_behind_a_whole_body(void **state)
{
    int fd = start(SPAN(POST_HEAD LENGTH(3) "a"));

    (void)state;
    pull();
    http_world_send(&http, fd, SPAN("bc"));
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    http_world_settle(&http);
    finish(&fd, "$"); /* said all, then left */
    puller.request = NULL;
    fd = http_world_connect(&http);
    assert_int_equal(send(fd, POST_HEAD LENGTH(3) "abc", sizeof(POST_HEAD LENGTH(3) "abc") - 1, 0),
                     sizeof(POST_HEAD LENGTH(3) "abc") - 1);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    http_world_settle(&http);
    pull();
    pull();
    assert_true(puller.is_end);
    reply();
    finish(&fd, "200(ok)$");
}

/* FIN lies behind bytes that nobody has read yet, since the handler holds the client back. */
static void test_fin_behind_what_is_held_back(void **state)
{
    static char much[HTTP_BODY_HIGH + 40000];
    int fd = start(SPAN(POST_HEAD LENGTH(105536)));

    (void)state;
    http_world_send(&http, fd, (struct span){much, sizeof(much)});
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    http_world_settle(&http);
    while (!puller.is_end)
        pull();
    assert_int_equal(puller.total, sizeof(much));
    reply();
    finish(&fd, "200(ok)$");
}

static void test_fin_within_a_body(void **state)
{
    int fd = start(SPAN(POST_HEAD LENGTH(3) "a"));

    (void)state;
    pull();
    pull();
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    http_world_settle(&http);
    assert_int_equal(puller.status, ERR_CANCELED);
    finish(&fd, "$");
    assert_non_null(strstr(http_world_log(&http), "status=499"));
    assert_non_null(strstr(http.text, "why=client_gone"));
}

static void test_fin_within_a_body_that_finishes(void **state)
{
    int fd;

    (void)state;
    route->flags |= HTTP_ROUTE_FINISH;
    fd = start(SPAN(POST_HEAD LENGTH(3) "a"));
    pull();
    pull();
    close_fd(&fd);
    http_world_settle(&http);
    assert_int_equal(puller.status, ERR_CANCELED);
    assert_int_equal(puller.request->scope->why, SCOPE_ALIVE);
    reply();
}

/* ---- answers before the end ---- */

static void test_an_answer_before_a_short_rest(void **state)
{
    int fd = start(SPAN(POST_HEAD LENGTH(6) "abc"));

    (void)state;
    reply();
    http_world_send(&http, fd, SPAN("def" G("/hello")));
    finish(&fd, "200(ok)200(hello)");
}

static void test_an_answer_before_a_long_rest(void **state)
{
    int fd = start(SPAN(POST_HEAD LENGTH(600000) "abc"));

    (void)state;
    reply();
    finish(&fd, "200x(ok)$");
}

/* ---- what is wrong ---- */

static void test_a_chunk_beyond_the_limit(void **state)
{
    int fd;

    (void)state;
    route->body_bytes_max = 4;
    fd = start(SPAN(POST_HEAD CHUNKED "3\r\nabc\r\n"));
    pull();
    http_world_send(&http, fd, SPAN("2\r\n"));
    pull();
    assert_int_equal(puller.status, ERR_BODY_TOO_BIG);
    assert_int_equal(http_problem(puller.request, 413, SPAN("")), ERR_OK);
    finish(&fd, "413x$");
    assert_non_null(strstr(http_world_log(&http), "why=body_too_big"));
}

static void test_a_length_beyond_the_limit(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    route->body_bytes_max = 4;
    http_world_send(&http, fd, SPAN(POST_HEAD LENGTH(500000)));
    assert_null(puller.request); /* refused before it started */
    finish(&fd, "413x$");
}

/* ---- trailers ---- */

static void test_trailers(void **state)
{
    int fd = start(SPAN(POST_HEAD CHUNKED "1\r\na\r\n"));

    (void)state;
    pull();
    assert_int_equal(puller.request->trailers.count, 0);
    http_world_send(&http, fd, SPAN("0\r\nX-Sum:  17 \r\nEmpty:\r\nContent-Length: 99\r\n\r\n"));
    pull();
    assert_true(puller.is_end);
    assert_int_equal(puller.request->trailers.count, 3);
    assert_string_equal(http_field_get(&puller.request->trailers, SPAN("x-sum")).ptr, "17");
    assert_string_equal(http_field_get(&puller.request->trailers, SPAN("empty")).ptr, "");
    assert_null(http_request_header(puller.request, SPAN("content-length")).ptr);
    reply();
    puller.request = NULL; /* the next one has none of them */
    http_world_send(&http, fd, SPAN(POST_HEAD CHUNKED "0\r\n\r\n"));
    assert_int_equal(puller.request->trailers.count, 0);
    reply();
    finish(&fd, "200(ok)200(ok)");
}

static void test_trailers_of_a_body_that_is_not_pulled(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(
        &http, fd,
        SPAN("POST /wait/1 HTTP/1.1\r\nHost: a\r\n" CHUNKED "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"));
    assert_int_equal(http.waiting_count, 1);
    assert_string_equal(http_field_get(&http.waiting[0]->trailers, SPAN("X-Sum")).ptr, "1");
    http_world_answer(&http, 0);
    finish(&fd, "200(1)");
}

static void send_trailers(int fd, uint32_t count)
{
    char line[32];

    http_world_send(&http, fd, SPAN("0\r\n"));
    for (uint32_t i = 0; i < count; i++) {
        snprintf(line, sizeof(line), "X-%u: %u\r\n", i, i);
        http_world_send(&http, fd, span_of(line));
    }
    http_world_send(&http, fd, SPAN("\r\n"));
}

static void test_too_many_trailers(void **state)
{
    int fd = start(SPAN(POST_HEAD CHUNKED));

    (void)state;
    send_trailers(fd, http.options.fields_max + 1);
    pull();
    assert_int_equal(puller.status, ERR_BAD_REQUEST);
    assert_int_equal(http_problem(puller.request, 431, SPAN("")), ERR_OK);
    finish(&fd, "431x$");
    fd = http_world_connect(&http);
    http_world_send(&http, fd, SPAN("POST /echo HTTP/1.1\r\nHost: a\r\n" CHUNKED));
    send_trailers(fd, http.options.fields_max);
    send_trailers(fd, 0);
    http_world_settle(&http);
    assert_memory_equal(http_world_answers(&http, fd, 0), "200()", 5);
    close_fd(&fd);
    fd = http_world_connect(&http);
    http_world_send(&http, fd, SPAN("POST /echo HTTP/1.1\r\nHost: a\r\n" CHUNKED));
    send_trailers(fd, http.options.fields_max + 1);
    finish(&fd, "431x$");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pulls_take_no_more_memory),
        TEST(test_a_piece_goes_with_the_next_pull),
        TEST(test_pulls_of_children),
        TEST(test_the_client_s_time_is_not_the_handler_s),
        TEST(test_the_handler_s_time_is_limited),
        TEST(test_a_pull_that_was_canceled_counts_again),
        TEST(test_a_body_that_stops),
        TEST(test_who_was_held_back_is_not_late),
        TEST(test_continue_is_said_with_the_first_pull),
        TEST(test_who_did_not_wait_gets_no_word),
        TEST(test_no_word_within_an_answer),
        TEST(test_fin_behind_a_whole_body),
        TEST(test_fin_behind_what_is_held_back),
        TEST(test_fin_within_a_body),
        TEST(test_fin_within_a_body_that_finishes),
        TEST(test_an_answer_before_a_short_rest),
        TEST(test_an_answer_before_a_long_rest),
        TEST(test_a_chunk_beyond_the_limit),
        TEST(test_a_length_beyond_the_limit),
        TEST(test_trailers),
        TEST(test_trailers_of_a_body_that_is_not_pulled),
        TEST(test_too_many_trailers),
    };

    log_setup(STDERR_FILENO, LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
