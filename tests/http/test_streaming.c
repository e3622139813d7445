/* Goal: an answer in pieces goes out as fast as its client takes it, framed as the client
 * understands it and in its place among others; what waits for room waits in bounded memory;
 * whoever leaves, stalls or fails in any state leaves nothing behind; and what was broken off looks
 * like it. */
#include "base/log.h"
#include "http/inside.h"
#include "http/reply_stream.h"
#include "lib/http_world.h"
#include "lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define G(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

enum { PIECE = 8192 };

static struct http_world http;

/* What happened to the writes that the test asked about. */
static struct told {
    uint32_t count;   /* that have settled */
    enum err last;    /* with what */
    uint32_t refused; /* of them with ERR_OVERLOAD */
} told;

static int set_up(void **state)
{
    (void)state;
    told = (struct told){.count = 0};
    http_world_init(&http);
    http_world_start(&http);
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

static struct http_request *ask(int *fd, struct span bytes)
{
    *fd = http_world_connect(&http);
    http_world_send(&http, *fd, bytes);
    assert_true(http.waiting_count > 0);
    return http.waiting[http.waiting_count - 1];
}

static enum err begin_with(struct http_request *request, const struct http_stream_options *options)
{
    return http_stream_begin(request, 200, SPAN("text/plain"), options);
}

static void begin(struct http_request *request)
{
    assert_int_equal(begin_with(request, &(struct http_stream_options){.length = -1}), ERR_OK);
}

static void on_written(struct op *op, void *data)
{
    (void)data;
    told.count++;
    told.last = op->status;
    told.refused += op->status == ERR_OVERLOAD;
}

static struct op *write_in(struct scope *scope, struct span bytes)
{
    struct op *op = http_stream_write(scope, &bytes, 1);

    assert_int_equal(op_notify(op, on_written, NULL), ERR_OK);
    return op;
}

static struct op *write_to(struct http_request *request, struct span bytes)
{
    return write_in(request->scope, bytes);
}

static void walk(uint32_t ms)
{
    fake_clock_walk(&http.world.clock, http.world.loop, ms);
    http_world_settle(&http);
}

static void finish(int *fd, const char *answers)
{
    http_world_settle(&http);
    assert_string_equal(http_world_answers(&http, *fd, 0), answers);
    close_fd(fd);
    http_world_settle(&http);
}

static void assert_logged(const char *text)
{
    if (strstr(http_world_log(&http), text) == NULL)
        fail_msg("%s is not in: %s", text, http.text);
}

/* Writes pieces until one waits; how many were written. */
static uint32_t fill(struct http_request *request)
{
    static char piece[PIECE];
    uint32_t count = 0;
    struct op *op;

    do {
        op = write_to(request, (struct span){piece, PIECE});
        count++;
        assert_true(count < 1000);
        if (op->state == OP_PENDING)
            http_world_settle(&http);
    } while (op->state != OP_PENDING);
    return count;
}

/* Takes what there is, and how much that was. */
static size_t drain(int fd)
{
    static char text[65536];
    size_t total = 0;
    ssize_t got;

    while ((got = recv(fd, text, sizeof(text), MSG_DONTWAIT)) > 0)
        total += (size_t)got;
    http_world_settle(&http);
    return total;
}

/* ---- done: each framing ---- */

static void test_chunks(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1") G("/hello")));
    const struct span pieces[] = {SPAN("three "), SPAN(""), SPAN("pieces")};

    (void)state;
    begin(request);
    write_to(request, SPAN("ab"));
    write_to(request, SPAN(""));
    http_world_settle(&http);
    assert_non_null(
        strstr(http_world_read(&http, fd), "\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"));
    assert_int_equal(op_notify(http_stream_write(request->scope, pieces, 3), on_written, NULL),
                     ERR_OK);
    http_world_settle(&http);
    assert_string_equal(http_world_read(&http, fd), "c\r\nthree pieces\r\n");
    assert_int_equal(told.count, 3);
    assert_int_equal(told.last, ERR_OK);
    assert_int_equal(request->reply_bytes, 14);
    assert_int_equal(http_reply_end(request), ERR_OK);
    http_world_settle(&http);
    assert_memory_equal(http_world_read(&http, fd), "0\r\n\r\nHTTP/1.1 200 OK\r\n", 22);
    close_fd(&fd);
    http_world_settle(&http);
    assert_logged("path=/wait/1 route=/wait/:n plugin=test status=200");
    assert_non_null(strstr(http.text, "why=done"));
}

static void test_a_declared_length(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1") G("/hello")));

    (void)state;
    assert_int_equal(begin_with(request, &(struct http_stream_options){.length = 4}), ERR_OK);
    write_to(request, SPAN("ab"));
    assert_int_equal(write_to(request, SPAN("cde"))->status,
                     ERR_STATE); /* and none of it is sent */
    write_to(request, SPAN("cd"));
    assert_int_equal(http_reply_end(request), ERR_OK);
    finish(&fd, "200(abcd)200(hello)");
}

static void test_what_has_no_body(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN("HEAD /wait/1 HTTP/1.1\r\nHost: a\r\n\r\n"));
    static char much[HTTP_STREAM_HIGH * 2];

    (void)state;
    begin(request);
    assert_int_equal(write_to(request, (struct span){much, sizeof(much)})->status, ERR_OK);
    assert_int_equal(http_reply_end(request), ERR_OK);
    http_world_send(&http, fd, SPAN(G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 1), "200200(hello)");
    close_fd(&fd);
    request = ask(&fd, SPAN(G("/wait/1") G("/hello")));
    assert_int_equal(http_stream_begin(request, 204, (struct span){NULL, 0},
                                       &(struct http_stream_options){.length = -1}),
                     ERR_OK);
    write_to(request, SPAN("no"));
    assert_int_equal(http_reply_end(request), ERR_OK);
    finish(&fd, "204200(hello)");
}

static void test_a_client_of_1_0(void **state)
{
    int fd;
    struct http_request *request =
        ask(&fd, SPAN("GET /wait/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));

    (void)state;
    begin(request);
    write_to(request, SPAN("ab"));
    write_to(request, SPAN("cd"));
    assert_int_equal(http_reply_end(request), ERR_OK);
    finish(&fd, "200x(abcd)$");
}

static void test_trailers(void **state)
{
    static const char *const barred[] = {"Content-Length", "transfer-encoding", "Host",
                                         "Content-Type",   "Set-Cookie",        "A B"};
    int fd;
    struct http_request *request =
        ask(&fd, SPAN("GET /wait/1 HTTP/1.1\r\nHost: a\r\nTE: gzip;q=0.5 , Trailers\r\n\r\n"));

    (void)state;
    assert_int_equal(http_stream_trailer(request, SPAN("X"), SPAN("y")), ERR_STATE);
    begin(request);
    write_to(request, SPAN("ab"));
    for (size_t i = 0; i < sizeof(barred) / sizeof(barred[0]); i++)
        assert_int_equal(http_stream_trailer(request, span_of(barred[i]), SPAN("x")), ERR_INVALID);
    assert_int_equal(http_stream_trailer(request, SPAN("X-A"), SPAN("a\r\nb")), ERR_INVALID);
    for (char i = 'A'; i < 'F'; i++)
        assert_int_equal(http_stream_trailer(request, (struct span){&i, 1}, SPAN("b c")), ERR_OK);
    assert_int_equal(http_reply_end(request), ERR_OK);
    http_world_settle(&http);
    assert_non_null(
        strstr(http_world_read(&http, fd),
               "\r\n2\r\nab\r\n0\r\nA: b c\r\nB: b c\r\nC: b c\r\nD: b c\r\nE: b c\r\n\r\n"));
    close_fd(&fd);
    request = ask(&fd, SPAN(G("/wait/1"))); /* who does not take them gets none */
    begin(request);
    assert_int_equal(http_stream_trailer(request, SPAN("X-A"), SPAN("b")), ERR_OK);
    assert_int_equal(http_reply_end(request), ERR_OK);
    http_world_settle(&http);
    assert_non_null(strstr(http_world_read(&http, fd), "chunked\r\n\r\n0\r\n\r\n"));
    close_fd(&fd);
}

static void test_what_is_none(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));
    struct scope *background = scope_create(http.world.tasks, NULL, &http, 0);

    (void)state;
    assert_int_equal(write_in(background, SPAN("x"))->status, ERR_STATE);
    scope_finish(background, SCOPE_EXPLICIT);
    assert_int_equal(write_to(request, SPAN("x"))->status, ERR_STATE);
    assert_int_equal(
        begin_with(request,
                   &(struct http_stream_options){.length = 4, .idle_ms = 1, .idle = SPAN("x")}),
        ERR_INVALID);
    assert_int_equal(begin_with(request, &(struct http_stream_options){.length = -1, .idle_ms = 1}),
                     ERR_INVALID);
    assert_int_equal(
        http_stream_begin(request, 99, SPAN("a/b"), &(struct http_stream_options){.length = -1}),
        ERR_INVALID);
    assert_int_equal(write_to(request, SPAN("x"))->status, ERR_STATE);
    begin(request);
    assert_int_equal(begin_with(request, &(struct http_stream_options){.length = -1}), ERR_STATE);
    assert_int_equal(http_reply_end(request), ERR_OK);
    finish(&fd, "200()");
}

/* ---- room ---- */

static void test_a_slow_client_holds_the_handler_back(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1") G("/hello")));
    uint32_t written;
    size_t taken = 0;

    (void)state;
    begin(request);
    written = fill(request);
    for (int i = 0; i < 5; i++)
        http_world_settle(&http);
    assert_int_equal(told.count, written - 1);
    assert_true(stream_unsent(&request->conn->stream) < HTTP_STREAM_HIGH + 2 * PIECE);
    for (int i = 0; i < 20; i++) {
        taken += drain(fd);
        http_world_settle(&http);
        if (told.count == written)
            written += fill(request);
    }
    assert_int_equal(told.last, ERR_OK);
    assert_int_equal(http_reply_end(request), ERR_OK);
    for (int i = 0; i < 100; i++)
        taken += drain(fd);
    assert_true(taken > (size_t)written * PIECE);
    http_world_send(&http, fd, SPAN(G("/p/2")));
    finish(&fd, "200(2)");
}

/* A handler that writes as fast as it can to a client that takes all gets its share of a turn. */
static void test_a_fast_client_leaves_turns_to_others(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));
    static char piece[PIECE];
    uint64_t before;

    (void)state;
    begin(request);
    before = request->conn->stream.sent;
    for (int turn = 0; turn < 8; turn++) {
        struct op *op;

        do
            op = write_to(request, (struct span){piece, PIECE});
        while (op->state != OP_PENDING);
        run_turns(http.world.loop, 1);
        assert_in_range(request->conn->stream.sent - before, HTTP_STREAM_HIGH,
                        HTTP_STREAM_HIGH + 2 * PIECE);
        before = request->conn->stream.sent;
        (void)recv(fd, http.text, 0, MSG_DONTWAIT);
        (void)drain(fd);
        assert_int_not_equal(op->state, OP_PENDING);
    }
    assert_int_equal(http_reply_end(request), ERR_OK);
    (void)drain(fd);
    close_fd(&fd);
}

static void test_who_does_not_wait_is_refused(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));
    static char large[HTTP_STREAM_MAX];
    uint32_t before;

    (void)state;
    begin(request);
    fill(request);
    before = told.count;
    write_to(request, (struct span){large, sizeof(large)}); /* one more, of any size */
    for (int i = 0; i < 5; i++)
        assert_int_equal(write_to(request, SPAN("x"))->status, ERR_OVERLOAD);
    http_world_settle(&http);
    assert_int_equal(told.count, before + 5);
    assert_true(stream_unsent(&request->conn->stream) < 2 * HTTP_STREAM_MAX + HTTP_STREAM_HIGH);
    close_fd(&fd);
}

static void test_writes_that_wait_are_counted(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));

    (void)state;
    begin(request);
    fill(request); /* one waits */
    for (int i = 1; i < HTTP_STREAM_WRITES_MAX; i++)
        assert_int_equal(write_to(request, SPAN("x"))->state, OP_PENDING);
    assert_int_equal(write_to(request, SPAN("x"))->status, ERR_OVERLOAD);
    for (int i = 0; i < 30; i++)
        (void)drain(fd);
    assert_int_equal(told.refused, 1);
    assert_int_equal(http_reply_end(request), ERR_OK);
    (void)drain(fd);
    close_fd(&fd);
}

/* A hundred thousand writes cost no more memory than a few. */
static void test_writes_take_no_more_memory(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));
    size_t before = 0;

    (void)state;
    begin(request);
    for (int i = 0; i < 20000; i++) {
        write_to(request, SPAN("some words to be written, again and again"));
        if (i % 100 == 0)
            (void)drain(fd);
        before = i == 2000 ? request->scope->arena.bytes : before;
    }
    assert_int_equal(request->scope->arena.bytes, before);
    http_world_settle(&http);
    assert_int_equal(told.refused, 0);
    assert_int_equal(http_reply_end(request), ERR_OK);
    (void)drain(fd);
    close_fd(&fd);
}

static void test_writes_of_children(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));

    (void)state;
    begin(request);
    for (int i = 0; i < 10; i++) {
        struct scope *child = scope_child(request->scope, 0, 0);

        write_in(child, SPAN("a"));
        write_to(request, SPAN("b"));
        write_in(child, SPAN("c"));
        scope_finish(child, SCOPE_EXPLICIT);
        http_world_settle(&http);
    }
    assert_int_equal(http_reply_end(request), ERR_OK);
    finish(&fd, "200(abcabcabcabcabcabcabcabcabcabc)");
}

/* ---- its place among others ---- */

static void test_behind_a_slow_answer(void **state)
{
    int fd;
    struct http_request *second = ask(&fd, SPAN(G("/wait/1") G("/wait/2") G("/hello")));
    uint32_t written;
    size_t taken;

    (void)state;
    begin(second);
    written = fill(second);
    assert_int_equal(written, HTTP_STREAM_HIGH / PIECE); /* bounded: its turn has not come */
    assert_int_equal(second->conn->stream.out.len, 0);
    walk(1000);
    assert_int_equal(told.count, written - 1);
    assert_string_equal(http_world_read(&http, fd), "");
    http_world_answer(&http, 0);
    taken = drain(fd);
    assert_true(taken > (size_t)written * PIECE);
    assert_int_equal(told.count, written);
    write_to(second, SPAN("end"));
    assert_int_equal(http_reply_end(second), ERR_OK);
    http_world_settle(&http);
    assert_memory_equal(http_world_read(&http, fd), "3\r\nend\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n", 30);
    close_fd(&fd);
}

static void test_it_ends_before_its_turn(void **state)
{
    int fd;
    struct http_request *second = ask(&fd, SPAN(G("/wait/1") G("/wait/2") G("/hello")));

    (void)state;
    begin(second);
    write_to(second, SPAN("ab"));
    assert_int_equal(http_reply_end(second), ERR_OK);
    http_world_settle(&http);
    assert_string_equal(http_world_read(&http, fd), "");
    http_world_answer(&http, 0);
    finish(&fd, "200(1)200(ab)200(hello)");
}

/* ---- time ---- */

static void test_no_budget_once_it_has_begun(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));

    (void)state;
    walk(4000);
    begin(request);
    walk(3600000);
    assert_int_equal(request->scope->why, SCOPE_ALIVE);
    write_to(request, SPAN("late"));
    assert_int_equal(http_reply_end(request), ERR_OK);
    finish(&fd, "200(late)");
}

static void test_idle_bytes(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));
    struct http_stream_options options = {.length = -1, .idle_ms = 1000, .idle = SPAN(":\n")};

    (void)state;
    assert_int_equal(begin_with(request, &options), ERR_OK);
    http_world_settle(&http);
    assert_non_null(strstr(http_world_read(&http, fd), "chunked\r\n\r\n"));
    walk(990);
    write_to(request, SPAN("a"));
    http_world_settle(&http);
    assert_string_equal(http_world_read(&http, fd), "1\r\na\r\n");
    walk(900);
    assert_string_equal(http_world_read(&http, fd), "");
    walk(200);
    assert_string_equal(http_world_read(&http, fd), "2\r\n:\n\r\n");
    walk(2000);
    assert_string_equal(http_world_read(&http, fd), "2\r\n:\n\r\n2\r\n:\n\r\n");
    fill(request); /* who takes nothing gets nothing more */
    walk(5000);
    assert_int_equal(http_server_counts(http.server)->connections_open, 1);
    for (int i = 0; i < 30; i++)
        (void)drain(fd);
    assert_int_equal(http_reply_end(request), ERR_OK);
    walk(5000);
    (void)drain(fd);
    assert_int_equal(drain(fd), 0);
    close_fd(&fd);
}

static void test_a_client_that_never_reads(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));
    uint32_t written;

    (void)state;
    begin(request);
    written = fill(request);
    walk(29000);
    assert_int_equal(told.count, written - 1);
    walk(1100);
    assert_int_equal(told.count, written);
    assert_int_equal(told.last, ERR_CANCELED);
    assert_int_equal(http_server_counts(http.server)->connections_open, 0);
    assert_logged("why=write_timeout");
    close_fd(&fd);
}

/* ---- canceled, and left, in each state ---- */

static void test_a_write_is_canceled(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1")));
    struct scope *child;
    struct op *op;
    uint32_t count;

    (void)state;
    begin(request);
    fill(request);
    child = scope_child(request->scope, 0, 0);
    op = write_in(child, SPAN("still written"));
    count = told.count;
    op_cancel(op);
    http_world_settle(&http);
    assert_int_equal(told.count, count + 1);
    assert_int_equal(told.last, ERR_CANCELED);
    write_in(child, SPAN("and this"));
    scope_finish(child, SCOPE_EXPLICIT);
    http_world_settle(&http);
    assert_int_equal(told.count, count + 2);
    for (int i = 0; i < 30; i++)
        (void)drain(fd);
    assert_int_equal(told.count, count + 3);
    assert_int_equal(told.last, ERR_OK);
    assert_int_equal(http_reply_end(request), ERR_OK);
    (void)drain(fd);
    close_fd(&fd);
}

static void leave(int *fd, bool resets)
{
    if (resets)
        close_with_reset(fd);
    else
        close_fd(fd);
    http_world_settle(&http);
}

static void test_the_client_leaves(void **state)
{
    (void)state;
    for (int stage = 0; stage < 10; stage++) {
        int fd;
        struct http_request *request = ask(&fd, SPAN(G("/wait/1") G("/wait/2")));
        uint32_t count = told.count;

        if (stage / 2 == 4) /* behind another one */
            http.waiting[http.waiting_count - 2] = NULL;
        else
            request = http.waiting[http.waiting_count - 2];
        if (stage / 2 >= 1)
            begin(request);
        if (stage / 2 == 2)
            write_to(request, SPAN("ab"));
        if (stage / 2 >= 3) {
            told.count = 0;
            (void)fill(request);
            count = told.count;
        }
        leave(&fd, stage % 2 != 0);
        if (stage / 2 >= 3)
            assert_int_equal(told.count, count + 1);
        if (stage / 2 >= 3)
            assert_int_equal(told.last, ERR_CANCELED);
        assert_int_equal(http_server_counts(http.server)->connections_open, 0);
        assert_int_equal(http_server_counts(http.server)->requests_open, 0);
        assert_int_equal(http.world.tasks->scopes_count, 0);
        assert_logged("status=499");
        assert_null(strstr(http.text, "status=200"));
    }
}

/* What was written for nobody is not counted as sent. */
static void test_bytes_that_never_left(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1") G("/wait/2")));

    (void)state;
    begin(request); /* the second: nothing of it can have left */
    write_to(request, SPAN("ab"));
    leave(&fd, false);
    assert_logged("path=/wait/2 route=/wait/:n plugin=test status=499 bytes=0");
}

static void test_who_finishes_writes_for_nobody(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/finish/1")));

    (void)state;
    begin(request);
    (void)fill(request);
    leave(&fd, true);
    assert_int_equal(told.last, ERR_CANCELED);
    assert_int_equal(request->scope->why, SCOPE_ALIVE);
    assert_int_equal(write_to(request, SPAN("x"))->status, ERR_CANCELED);
    assert_int_equal(http_stream_trailer(request, SPAN("X"), SPAN("y")), ERR_OK);
    assert_int_equal(http_reply_end(request), ERR_CLOSED);
}

/* ---- broken off ---- */

static void test_broken_off(void **state)
{
    int fd;
    struct http_request *request = ask(&fd, SPAN(G("/wait/1") G("/hello")));

    (void)state;
    begin(request);
    write_to(request, SPAN("ab"));
    http_stream_break(request, "handler");
    http_stream_break(request, "twice");
    finish(&fd, "200(ab)?$");
    assert_logged("why=handler");
    request = ask(&fd, SPAN(G("/wait/1")));
    assert_int_equal(begin_with(request, &(struct http_stream_options){.length = 4}), ERR_OK);
    write_to(request, SPAN("ab"));
    assert_int_equal(http_reply_end(request), ERR_STATE);
    http_world_settle(&http);
    assert_non_null(strstr(http_world_read(&http, fd), "Content-Length: 4\r\n\r\nab"));
    close_fd(&fd);
}

/* A client of HTTP/1.0 cannot see a broken answer from its end, but from how it ends. */
static void test_broken_off_for_1_0(void **state)
{
    struct linger linger = {.l_onoff = 0};
    socklen_t size = sizeof(linger);
    int fd;
    struct http_request *request = ask(&fd, SPAN("GET /wait/1 HTTP/1.0\r\n\r\n"));
    int copy;

    (void)state;
    begin(request);
    write_to(request, SPAN("ab"));
    copy = dup(request->conn->stream.fd);
    http_stream_break(request, "handler");
    http_world_settle(&http);
    assert_int_equal(http_server_counts(http.server)->connections_open, 0);
    assert_int_equal(getsockopt(copy, SOL_SOCKET, SO_LINGER, &linger, &size), 0);
    assert_true(linger.l_onoff != 0 && linger.l_linger == 0); /* close sends a reset */
    close_fd(&copy);
    close_fd(&fd);
}

static void run_half(struct scope *scope, void *data)
{
    struct http_request *request = http_request_of(scope);

    (void)data;
    begin(request);
    (void)op_await(http_stream_write(scope, &SPAN("ab"), 1));
}

static void serve_half(struct http_request *request, void *data)
{
    (void)data;
    assert_true(scope_run(request->scope, run_half, NULL, false));
}

static void test_a_handler_that_stops(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_route(&http, "GET", "/half", serve_half, 0);
    http_world_send(&http, fd, SPAN(G("/half") G("/hello")));
    finish(&fd, "200(ab)?$");
    assert_logged("path=/half route=/half plugin=test status=200");
    assert_non_null(strstr(http.text, "why=unfinished"));
}

/* ---- the end of the server ---- */

static enum err awaited;

static void run_live(struct scope *scope, void *data)
{
    struct http_request *request = http_request_of(scope);
    struct http_stream_options options = {.length = -1, .is_live = data != NULL};

    assert_int_equal(begin_with(request, &options), ERR_OK);
    (void)op_await(http_stream_write(scope, &SPAN("ab"), 1));
    awaited = op_await(op_sleep(scope, 3600000));
}

static void serve_live(struct http_request *request, void *data)
{
    assert_true(scope_run(request->scope, run_live, data, false));
}

static void serve_long(struct http_request *request, void *data)
{
    (void)data;
    assert_true(scope_run(request->scope, run_live, NULL, false));
}

static void on_drained(void *data)
{
    *(bool *)data = true;
}

static void test_a_live_one_ends_when_the_server_drains(void **state)
{
    bool is_drained = false;
    int live = http_world_connect(&http), longer = http_world_connect(&http);
    int late = http_world_connect(&http);

    (void)state;
    awaited = ERR_OK;
    http_world_route(&http, "GET", "/live", serve_live, 0);
    http_world_route(&http, "GET", "/long", serve_long, 0);
    http_world_send(&http, live, SPAN(G("/live")));
    http_world_send(&http, longer, SPAN(G("/long")));
    http_server_drain(http.server, on_drained, &is_drained);
    http_world_send(&http, late, SPAN(G("/live"))); /* on its way: begins, and ends */
    assert_int_equal(awaited, ERR_CANCELED);
    assert_string_equal(http_world_answers(&http, late, 0), "200x()$");
    walk(http.options.drain_idle_ms);
    assert_string_equal(http_world_answers(&http, live, 0), "200(ab)$");
    assert_false(is_drained);
    assert_int_equal(http_server_abort(http.server), 1); /* the end of patience */
    http_world_settle(&http);
    assert_true(is_drained);
    assert_string_equal(http_world_answers(&http, longer, 0), "200(ab)?$");
    assert_logged("path=/live route=/live plugin=test status=200");
    assert_non_null(strstr(http.text, "why=shutdown"));
    close_fd(&live);
    close_fd(&longer);
    close_fd(&late);
}

/* ---- a request's body meanwhile ---- */

static void serve_upload(struct http_request *request, void *data)
{
    struct http_world *world = data;

    world->waiting[world->waiting_count++] = request;
}

/* An answer in pieces says nothing of the end while its handler may still read the body; where a
 * long rest of that is left in the end, the connection ends, too. */
static void test_what_is_left_of_the_body(void **state)
{
    static const char *const lengths[] = {"Content-Length: 5\r\n\r\nab",
                                          "Content-Length: 500000\r\n\r\nab"};

    (void)state;
    http_world_route(&http, "POST", "/up", serve_upload, HTTP_ROUTE_STREAM_BODY);
    for (int i = 0; i < 2; i++) {
        int fd;
        struct http_request *request;
        char head[128];

        snprintf(head, sizeof(head), "POST /up HTTP/1.1\r\nHost: a\r\n%s", lengths[i]);
        request = ask(&fd, span_of(head));
        begin(request);
        write_to(request, SPAN("ok"));
        assert_int_equal(http_reply_end(request), ERR_OK);
        http_world_settle(&http);
        http_world_send(&http, fd, SPAN("cde" G("/hello")));
        finish(&fd, i == 0 ? "200(ok)200(hello)" : "200(ok)$");
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_chunks),
        TEST(test_a_declared_length),
        TEST(test_what_has_no_body),
        TEST(test_a_client_of_1_0),
        TEST(test_trailers),
        TEST(test_what_is_none),
        TEST(test_a_slow_client_holds_the_handler_back),
        TEST(test_a_fast_client_leaves_turns_to_others),
        TEST(test_who_does_not_wait_is_refused),
        TEST(test_writes_that_wait_are_counted),
        TEST(test_writes_take_no_more_memory),
        TEST(test_writes_of_children),
        TEST(test_behind_a_slow_answer),
        TEST(test_it_ends_before_its_turn),
        TEST(test_no_budget_once_it_has_begun),
        TEST(test_idle_bytes),
        TEST(test_a_client_that_never_reads),
        TEST(test_a_write_is_canceled),
        TEST(test_the_client_leaves),
        TEST(test_bytes_that_never_left),
        TEST(test_who_finishes_writes_for_nobody),
        TEST(test_broken_off),
        TEST(test_broken_off_for_1_0),
        TEST(test_a_handler_that_stops),
        TEST(test_a_live_one_ends_when_the_server_drains),
        TEST(test_what_is_left_of_the_body),
    };

    log_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
