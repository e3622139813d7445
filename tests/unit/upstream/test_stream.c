/* Goal: the bodies of a call go through in pieces, either way and at once, at constant memory; what
 *       goes wrong is told to whoever waits, in each state; and a connection is kept only where
 *       both bodies came to their ends. */
#include "lib/fault.h"
#include "unit/upstream/place.h"
#include "upstream/flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HEAD_10      "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
#define HEAD_CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static struct op *open_stream(struct place *place, const char *method, uint32_t flags,
                              uint64_t length)
{
    const struct upstream_call what = {
        .method = span_of(method), .path = SPAN("/quote"), .flags = flags, .length = length};

    return upstream_stream(place->scope, place->upstream, &what);
}

static struct op *open_get(struct place *place)
{
    return open_stream(place, NULL, 0, 0);
}

static void assert_open(struct place *place, struct op *op, uint32_t code)
{
    place_run(place, op);
    if (op->status != ERR_OK)
        fail_msg("%s: %.*s", err_name(op->status), SPAN_ARG(op->error));
    assert_int_equal(upstream_code(op), code);
    assert_null(upstream_body(op).ptr);
}

/* The next pull brings this; NULL: the end. */
static void assert_pull(struct place *place, struct op *stream, const char *text)
{
    struct op *pull = upstream_read(stream);

    place_run(place, pull);
    if (pull->status != ERR_OK)
        fail_msg("%s: %.*s", err_name(pull->status), SPAN_ARG(pull->error));
    assert_true(pull->is_retired);
    if (text == NULL)
        assert_null(pull->piece.ptr);
    else
        assert_string_equal(pull->piece.ptr, text);
}

static void assert_ended(struct place *place, struct op *op, enum err err, const char *reason)
{
    place_run(place, op);
    if (op->status != err)
        fail_msg("%s: %.*s", err_name(op->status), SPAN_ARG(op->error));
    if (reason != NULL)
        assert_string_equal(place->scope->reason, reason);
    assert_true(op->is_retired);
    assert_null(op->piece.ptr);
}

/* The peer reads until it has seen `wanted`. */
static void peer_expect(struct place *place, int fd, const char *wanted)
{
    size_t len = 0;

    for (int i = 0; i < 20000; i++) {
        len += peer_read(fd, place->text + len, sizeof place->text - len, NULL);
        place->text[len] = '\0';
        if (strstr(place->text, wanted) != NULL)
            return;
        run_turns(place->world.loop, 1);
    }
    fail_msg("the peer did not get \"%s\" but \"%s\"", wanted, place->text);
}

/* A connection, with nothing read from it. */
static int take(struct place *place)
{
    return peer_accept(&place->peer);
}

/* ---- the answer ---- */

static void test_head_first(void **state)
{
    struct place *place = *state;
    struct op *op = open_get(place);
    int fd = place_take_call(place);

    peer_send(fd, "HTTP/1.1 203 X\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 10\r\n\r\n");
    assert_open(place, op, 203);
    assert_int_equal(upstream_fields(op)->count, 3);
    assert_string_equal(upstream_fields(op)->at[1].value.ptr, "2");
    peer_send(fd, "hello");
    assert_pull(place, op, "hello");
    peer_send(fd, "again");
    assert_pull(place, op, "again");
    assert_pull(place, op, NULL);
    assert_pull(place, op, NULL);
    assert_int_equal(place->counts->idle, 1);
    assert_int_equal(place->counts->calls, 1);
    assert_int_equal(place->counts->failed, 0);
    close_fd(&fd);
}

/* A pull may come before the head, and waits for it. */
static void test_pull_before_the_head(void **state)
{
    struct place *place = *state;
    struct op *op = open_get(place);
    struct op *pull = upstream_read(op);
    int fd = place_take_call(place);

    run_turns(place->world.loop, 3);
    assert_int_equal(pull->state, OP_PENDING);
    peer_send(fd, HEAD_10 "0123456789");
    place_run(place, pull);
    assert_string_equal(pull->piece.ptr, "0123456789");
    assert_int_equal(op->status, ERR_OK);
    assert_pull(place, op, NULL);
    close_fd(&fd);
}

static void test_bodyless(void **state)
{
    static const struct {
        const char *method, *answer;
    } cases[] = {{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"},
                 {"GET", "HTTP/1.1 204 No Content\r\n\r\n"},
                 {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"},
                 {"DELETE", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}};
    struct place *place = *state;
    int fd = -1;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct op *op = open_stream(place, cases[i].method, 0, 0);

        if (fd < 0)
            fd = take(place);
        peer_request(&place->peer, fd, place->text, sizeof place->text);
        peer_send(fd, cases[i].answer);
        place_run(place, op);
        assert_pull(place, op, NULL);
        assert_int_equal(place->counts->idle, 1);
    }
    assert_int_equal(place->counts->connects, 1);
    close_fd(&fd);
}

static void test_chunked_with_trailers(void **state)
{
    struct place *place = *state;
    struct op *op = open_stream(place, NULL, UPSTREAM_TRAILERS, 0);
    int fd = place_take_call(place);

    assert_non_null(strstr(place->text, "\r\nTE: trailers\r\nConnection: TE\r\n"));
    peer_send(fd, HEAD_CHUNKED "3\r\nabc\r\n");
    assert_open(place, op, 200);
    assert_pull(place, op, "abc");
    assert_int_equal(upstream_trailers(op)->count, 0);
    peer_send(fd, "0\r\nX-Sum: 42 \r\nx-other:\r\n\r\n");
    assert_pull(place, op, NULL);
    assert_int_equal(upstream_trailers(op)->count, 2);
    assert_string_equal(http_field_get(upstream_trailers(op), SPAN("x-sum")).ptr, "42");
    assert_int_equal(place->counts->idle, 1);
    close_fd(&fd);
}

static void test_too_many_trailers(void **state)
{
    struct place *place = *state;
    struct op *op = open_get(place);
    int fd = place_take_call(place);

    peer_send(fd, HEAD_CHUNKED "3\r\nabc\r\n0\r\n");
    for (int i = 0; i < 101; i++)
        peer_send(fd, "a: b\r\n");
    peer_send(fd, "\r\n");
    assert_open(place, op, 200);
    assert_pull(place, op, "abc");
    assert_ended(place, upstream_read(op), ERR_UP_TOO_BIG, "upstream_head_too_big");
    assert_int_equal(place->counts->connections, 0);
    close_fd(&fd);
}

static void test_until_close(void **state)
{
    struct place *place = *state;
    struct op *op = open_get(place);
    int fd = place_take_call(place);

    peer_send(fd, "HTTP/1.1 200 OK\r\n\r\nhel");
    assert_open(place, op, 200);
    assert_pull(place, op, "hel");
    peer_send(fd, "lo");
    close_fd(&fd);
    assert_pull(place, op, "lo");
    assert_pull(place, op, NULL);
    assert_int_equal(place->counts->connections, 0);
}

/* Nobody pulls: the peer is held up by its window, whatever it has to say, and body_max is not for
 * streams. */
static void test_backpressure(void **state)
{
    enum { SIZE = 32 << 20, QUIET_TURNS = 50 };
    struct place *place = *state;
    static char chunk[65536];
    struct op *op = open_get(place);
    int fd = place_take_call(place), quiet = 0;
    uint64_t sent = 0, pulled = 0;
    char head[80];

    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", SIZE);
    peer_send(fd, head);
    assert_open(place, op, 200);
    memset(chunk, 'x', sizeof chunk);
    while (quiet < QUIET_TURNS) {
        ssize_t got = send(fd, chunk, sizeof chunk, MSG_NOSIGNAL | MSG_DONTWAIT);

        sent += got > 0 ? (uint64_t)got : 0;
        quiet = got > 0 ? 0 : quiet + 1;
        run_turns(place->world.loop, 1);
    }
    assert_in_range(sent, FLOW_HIGH, 24 << 20); /* what the kernel buffers, but not all */
    while (pulled < SIZE) {
        struct op *pull = upstream_read(op);

        while (pull->state == OP_PENDING) {
            ssize_t got = send(fd, chunk, sent < SIZE - sizeof chunk ? sizeof chunk : SIZE - sent,
                               MSG_NOSIGNAL | MSG_DONTWAIT);

            sent += got > 0 ? (uint64_t)got : 0;
            run_turns(place->world.loop, 1);
        }
        assert_int_equal(pull->status, ERR_OK);
        assert_in_range(pull->piece.len, 1, FLOW_HIGH + 128 * 1024);
        pulled += pull->piece.len;
    }
    assert_int_equal(pulled, SIZE);
    assert_pull(place, op, NULL);
    assert_int_equal(place->counts->idle, 1);
    assert_true(place->scope->held < 100000); /* pulls take no more than one */
    close_fd(&fd);
}

static void test_one_pull_at_a_time(void **state)
{
    struct place *place = *state;
    struct op *op = open_get(place);
    int fd = place_take_call(place);
    struct op *pull;

    peer_send(fd, HEAD_10);
    assert_open(place, op, 200);
    pull = upstream_read(op);
    assert_ended(place, upstream_read(op), ERR_STATE, NULL);
    peer_send(fd, "0123456789");
    place_run(place, pull);
    assert_string_equal(pull->piece.ptr, "0123456789");
    close_fd(&fd);
}

static void test_no_stream(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    int fd = place_take_call(place);

    peer_send(fd, OK_HI);
    place_assert_answer(place, op, 200, "hi");
    assert_ended(place, upstream_read(op), ERR_STATE, NULL);
    assert_ended(place, upstream_write(op, SPAN("x")), ERR_STATE, NULL);
    assert_int_equal(upstream_write_end(op, NULL, 0), ERR_STATE);
    assert_false(upstream_wants(op));
    assert_int_equal(upstream_trailers(op)->count, 0);
    close_fd(&fd);
    op = place_call(place, "POST", (struct span){NULL, 0}, UPSTREAM_UPLOAD);
    place_assert_failed(place, op, ERR_INVALID, "upstream_invalid");
}

/* ---- the request ---- */

static void test_upload_chunked(void **state)
{
    static const struct http_field sum = {SPAN("X-Sum"), SPAN("42")};
    struct place *place = *state;
    struct op *op = open_stream(place, "PUT", UPSTREAM_UPLOAD, 0);
    int fd;

    assert_true(upstream_wants(op));
    assert_int_equal(upstream_write(op, SPAN("early"))->status, ERR_OK); /* no connection yet */
    fd = take(place);
    peer_expect(place, fd, "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n");
    assert_int_equal(upstream_write(op, SPAN("0123456789abcdef"))->status, ERR_OK);
    assert_int_equal(upstream_write(op, SPAN(""))->status, ERR_OK); /* would be the end */
    assert_int_equal(upstream_write_end(op, &sum, 1), ERR_OK);
    peer_expect(place, fd, "10\r\n0123456789abcdef\r\n0\r\nX-Sum: 42\r\n\r\n");
    assert_int_equal(upstream_write_end(op, NULL, 0), ERR_STATE);
    assert_ended(place, upstream_write(op, SPAN("x")), ERR_STATE, NULL);
    assert_int_equal(op->state, OP_PENDING);
    peer_send(fd, OK_HI);
    assert_open(place, op, 200);
    assert_pull(place, op, "hi");
    assert_pull(place, op, NULL);
    assert_int_equal(place->counts->idle, 1);
    close_fd(&fd);
}

static void test_upload_with_a_length(void **state)
{
    struct place *place = *state;
    struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, 10);
    int fd = take(place);

    peer_expect(place, fd, "\r\nContent-Length: 10\r\n\r\n");
    assert_ended(place, upstream_write(op, SPAN("more than it is")), ERR_STATE, NULL);
    assert_int_equal(upstream_write(op, SPAN("01234"))->status, ERR_OK);
    peer_expect(place, fd, "01234");
    assert_int_equal(upstream_write(op, SPAN("56789"))->status, ERR_OK);
    assert_int_equal(upstream_write_end(op, NULL, 0), ERR_OK);
    peer_expect(place, fd, "56789");
    peer_send(fd, OK_HI);
    assert_open(place, op, 200);
    assert_pull(place, op, "hi");
    assert_pull(place, op, NULL);
    assert_int_equal(place->counts->idle, 1);
    close_fd(&fd);
}

/* A body that ends too soon must not be taken for a whole one. */
static void test_upload_short_of_its_length(void **state)
{
    struct place *place = *state;
    struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, 10);
    int fd = take(place);

    assert_int_equal(upstream_write(op, SPAN("01234"))->status, ERR_OK);
    peer_expect(place, fd, "01234");
    assert_int_equal(upstream_write_end(op, NULL, 0), ERR_STATE);
    place_assert_failed(place, op, ERR_INVALID, "upstream_invalid");
    assert_ended(place, upstream_read(op), ERR_INVALID, NULL);
    peer_wait_closed(&place->peer, &fd);
    assert_int_equal(place->counts->connections, 0);
}

static void test_trailers_that_are_refused(void **state)
{
    static const struct http_field bad[] = {
        {SPAN("Content-Length"), SPAN("9")},
        {SPAN("Host"), SPAN("a")},
        {SPAN("A b"), SPAN("x")},
        {SPAN("X"), SPAN("a\r\nb: c")},
        {SPAN("Authorization"), SPAN("x")},
        {SPAN("Transfer-Encoding"), SPAN("chunked")},
    };
    struct place *place = *state;
    struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, 0);
    int fd = take(place);

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(upstream_write_end(op, &bad[i], 1), ERR_INVALID);
    assert_true(upstream_wants(op));
    assert_int_equal(upstream_write_end(op, NULL, 0), ERR_OK);
    peer_expect(place, fd, "\r\n\r\n0\r\n\r\n");
    peer_send(fd, OK_HI);
    assert_open(place, op, 200);
    close_fd(&fd);
}

/* A write waits while the peer takes nothing, and goes on when it does. */
static void test_write_waits(void **state)
{
    enum { SIZE = 512 * 1024 };
    struct place *place = *state;
    static char bytes[SIZE];
    struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, 0), *write;
    int fd = take(place), writes = 0;

    memset(bytes, 'w', sizeof bytes);
    do {
        write = upstream_write(op, (struct span){bytes, sizeof bytes});
        run_turns(place->world.loop, 10);
        assert_true(++writes < 200);
    } while (write->state != OP_PENDING);
    while (write->state == OP_PENDING) {
        (void)recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        run_turns(place->world.loop, 1);
    }
    assert_int_equal(write->status, ERR_OK);
    assert_true(place->scope->held < 100000); /* writes take no more than one */
    close_fd(&fd);
    place_run(place, op);
}

static void test_unawaited_writes_have_a_limit(void **state)
{
    struct place *place = *state;
    static char bytes[300 * 1024];
    struct op *op, *last = NULL;
    int fillers[2];

    place_hang(place, fillers); /* there is no connection */
    op = open_stream(place, "POST", UPSTREAM_UPLOAD, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(upstream_write(op, (struct span){bytes, sizeof bytes})->state, OP_PENDING);
    last = upstream_write(op, (struct span){bytes, sizeof bytes});
    assert_ended(place, last, ERR_OVERLOAD, NULL);
    for (int i = 3; i < FLOW_WRITES_MAX; i++)
        assert_int_equal(upstream_write(op, SPAN("x"))->state, OP_PENDING);
    assert_ended(place, upstream_write(op, SPAN("x")), ERR_OVERLOAD, NULL);
    op_cancel(op);
    close_fd(&fillers[0]);
    close_fd(&fillers[1]);
}

/* Both at once: what goes in comes out, before all of it went in. */
static void test_both_ways(void **state)
{
    struct place *place = *state;
    struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, 0);
    int fd = take(place);

    peer_expect(place, fd, "\r\n\r\n");
    peer_send(fd, HEAD_CHUNKED);
    assert_open(place, op, 200);
    for (int i = 0; i < 3; i++) {
        assert_true(upstream_wants(op));
        assert_int_equal(upstream_write(op, SPAN("ping"))->status, ERR_OK);
        peer_expect(place, fd, "4\r\nping\r\n");
        peer_send(fd, "4\r\npong\r\n");
        assert_pull(place, op, "pong");
    }
    assert_int_equal(upstream_write_end(op, NULL, 0), ERR_OK);
    peer_expect(place, fd, "0\r\n\r\n");
    peer_send(fd, "0\r\n\r\n");
    assert_pull(place, op, NULL);
    assert_int_equal(place->counts->idle, 1);
    close_fd(&fd);
}

/* ---- early answers ---- */

/* A refusal: whoever waits with his write is told that no more is wanted, and the answer comes. */
static void test_refused_while_uploading(void **state)
{
    struct place *place = *state;
    static char bytes[8 << 20];
    struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, 0), *write;
    int fd = take(place);

    write = upstream_write(op, (struct span){bytes, sizeof bytes});
    run_turns(place->world.loop, 5);
    assert_int_equal(write->state, OP_PENDING);
    peer_send(fd, "HTTP/1.1 413 Too Big\r\nContent-Length: 2\r\n\r\n");
    place_run(place, write);
    assert_int_equal(write->status, ERR_OK);
    assert_false(upstream_wants(op));
    assert_int_equal(upstream_write(op, SPAN("more"))->status, ERR_OK);
    assert_int_equal(upstream_write_end(op, NULL, 0), ERR_OK);
    assert_open(place, op, 413);
    peer_send(fd, "no");
    assert_pull(place, op, "no");
    assert_pull(place, op, NULL);
    assert_int_equal(place->counts->connections, 0); /* of no use for another call */
    assert_int_equal(place->counts->failed, 0);
    close_fd(&fd);
}

/* A complete answer, whatever it says. */
static void test_answered_while_uploading(void **state)
{
    struct place *place = *state;
    struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, 100);
    int fd = take(place);

    assert_int_equal(upstream_write(op, SPAN("some"))->status, ERR_OK);
    peer_expect(place, fd, "some");
    peer_send(fd, OK_HI);
    assert_open(place, op, 200);
    assert_false(upstream_wants(op));
    assert_int_equal(upstream_write(op, SPAN("more"))->status, ERR_OK);
    assert_int_equal(upstream_write_end(op, NULL, 0), ERR_OK);
    assert_pull(place, op, "hi");
    assert_pull(place, op, NULL);
    assert_int_equal(place->counts->connections, 0);
    close_fd(&fd);
}

/* ---- failures ---- */

static void test_fails_before_the_head(void **state)
{
    struct place *place = *state;
    static char bytes[8 << 20];
    struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, 0);
    struct op *pull = upstream_read(op);
    struct op *write = upstream_write(op, (struct span){bytes, sizeof bytes});
    int fd = take(place);

    run_turns(place->world.loop, 5);
    close_with_reset(&fd);
    place_assert_failed(place, op, ERR_UP_RESET, "upstream_reset");
    assert_ended(place, pull, ERR_UP_RESET, NULL);
    assert_ended(place, write, ERR_UP_RESET, NULL);
    assert_ended(place, upstream_read(op), ERR_UP_RESET, NULL);
    assert_ended(place, upstream_write(op, SPAN("x")), ERR_UP_RESET, NULL);
    assert_int_equal(place->counts->failed, 1);
    assert_int_equal(place->counts->retried, 0);
    assert_int_equal(place->counts->connections, 0);
}

/* What came before is handed on first. */
static void test_fails_within_the_answer(void **state)
{
    static const struct {
        const char *said, *reason;
        enum err err;
        bool resets;
    } cases[] = {
        {HEAD_10 "half", "upstream_reset", ERR_UP_RESET, false},
        {HEAD_10 "half", "upstream_reset", ERR_UP_RESET, true},
        {HEAD_CHUNKED "4\r\nhalf\r\n", "upstream_reset", ERR_UP_RESET, false},
        {HEAD_CHUNKED "4\r\nhalf\r\n0\r\n", "upstream_reset", ERR_UP_RESET, false},
        {HEAD_CHUNKED "4\r\nhalf\r\nfffffffffffffffff\r\n", "upstream_protocol", ERR_UP_RESET,
         false},
        {HEAD_CHUNKED "4\r\nhalfXX", "upstream_protocol", ERR_UP_RESET, false},
        {HEAD_CHUNKED "4\r\nhalf\r\n0\r\nbad\nline: x\r\n\r\n", "upstream_protocol", ERR_UP_RESET,
         false},
    };
    struct place *place = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct op *op = open_get(place);
        int fd = place_take_call(place);

        peer_send(fd, cases[i].said);
        assert_open(place, op, 200);
        run_turns(place->world.loop, 5);
        if (cases[i].resets)
            close_with_reset(&fd);
        else
            close_fd(&fd);
        run_turns(place->world.loop, 5);
        assert_pull(place, op, "half");
        assert_ended(place, upstream_read(op), cases[i].err, cases[i].reason);
        assert_ended(place, upstream_read(op), cases[i].err, cases[i].reason);
        assert_int_equal(place->counts->connections, 0);
        assert_int_equal(place->counts->retried, 0);
    }
}

/* Unsolicited bytes behind the answer, and an end of the connection, spoil it for others only. */
static void test_bytes_behind_the_answer(void **state)
{
    struct place *place = *state;
    struct op *op = open_get(place);
    int fd = place_take_call(place);

    peer_send(fd, OK_HI OK_HI);
    assert_open(place, op, 200);
    assert_pull(place, op, "hi");
    assert_pull(place, op, NULL);
    assert_int_equal(place->counts->connections, 0);
    close_fd(&fd);
}

/* ---- too slow ---- */

static void test_no_first_byte(void **state)
{
    struct place *place = *state;
    struct op *op = open_get(place);
    int fd = place_take_call(place);

    fake_clock_walk(&place->world.clock, place->world.loop, 450);
    place_assert_failed(place, op, ERR_UP_TIMEOUT, "upstream_first_byte_timeout");
    close_fd(&fd);
}

/* While the request's body is missing, nobody waits for the answer; then one does. */
static void test_no_first_byte_behind_an_upload(void **state)
{
    struct place *place = *state;
    struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, 0);
    int fd = take(place);

    fake_clock_walk(&place->world.clock, place->world.loop, 2000);
    assert_int_equal(op->state, OP_PENDING);
    assert_int_equal(upstream_write_end(op, NULL, 0), ERR_OK);
    fake_clock_walk(&place->world.clock, place->world.loop, 350);
    assert_int_equal(op->state, OP_PENDING);
    fake_clock_walk(&place->world.clock, place->world.loop, 450);
    place_assert_failed(place, op, ERR_UP_TIMEOUT, "upstream_first_byte_timeout");
    close_fd(&fd);
}

static void test_pause_between_bytes(void **state)
{
    struct place *place = *state;
    struct op *op = open_get(place), *pull;
    int fd = place_take_call(place);

    peer_send(fd, HEAD_10);
    assert_open(place, op, 200);
    pull = upstream_read(op);
    fake_clock_walk(&place->world.clock, place->world.loop, 150);
    assert_ended(place, pull, ERR_UP_TIMEOUT, "upstream_between_bytes_timeout");
    assert_int_equal(place->counts->connections, 0);
    close_fd(&fd);
}

static void test_write_stalls(void **state)
{
    struct place *place = *state;
    static char bytes[8 << 20];
    struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, 0);
    struct op *write;
    int fd = take(place);

    run_turns(place->world.loop, 5);
    write = upstream_write(op, (struct span){bytes, sizeof bytes});
    fake_clock_walk(&place->world.clock, place->world.loop, 500);
    assert_ended(place, write, ERR_UP_TIMEOUT, "upstream_write_timeout");
    place_assert_failed(place, op, ERR_UP_TIMEOUT, "upstream_write_timeout");
    close_fd(&fd);
}

/* The upstream's limit in all is not for a stream; one of the call's own is. */
static void test_time_in_all(void **state)
{
    struct place *place = *state;
    struct upstream_call what = {.path = SPAN("/quote"), .timeout_ms = 3000};
    struct op *op = upstream_stream(place->scope, place->upstream, &what);
    int fd = place_take_call(place);

    peer_send(fd, HEAD_CHUNKED);
    assert_open(place, op, 200);
    for (int i = 0; i < 29; i++) { /* longer than options.timeout_ms */
        peer_send(fd, "1\r\nx\r\n");
        assert_pull(place, op, "x");
        fake_clock_walk(&place->world.clock, place->world.loop, 90);
    }
    assert_int_equal(place->counts->failed, 0);
    for (int i = 0; i < 6; i++) {
        peer_send(fd, "1\r\nx\r\n");
        fake_clock_walk(&place->world.clock, place->world.loop, 90);
    }
    assert_int_equal(place->counts->failed, 1);
    assert_pull(place, op, "xxxxx");
    assert_ended(place, upstream_read(op), ERR_UP_TIMEOUT, "upstream_timeout");
    close_fd(&fd);
}

/* Its user neither pulls nor writes. */
static void test_stands_still(void **state)
{
    struct place *place = *state;
    static char bytes[200000];
    struct op *op;
    char head[80];
    int fd;

    place->options.stream_timeout_ms = 5000;
    op = open_get(place);
    fd = place_take_call(place);
    memset(bytes, 'x', sizeof bytes - 1);
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", sizeof bytes);
    peer_send(fd, head);
    peer_send(fd, bytes);
    assert_open(place, op, 200);
    fake_clock_walk(&place->world.clock, place->world.loop, 4000); /* paused: no other limit */
    assert_int_equal(place->counts->failed, 0);
    fake_clock_walk(&place->world.clock, place->world.loop, 2000);
    assert_int_equal(place->counts->failed, 1);
    assert_int_equal(place->counts->connections, 0);
    place_run(place, upstream_read(op)); /* what came */
    assert_ended(place, upstream_read(op), ERR_DEADLINE, "upstream_stream_timeout");
    close_fd(&fd);
}

static void test_deadline_of_the_scope(void **state)
{
    struct place *place = *state;
    struct op *op, *pull;
    int fd;

    place_renew_scope(place, 500);
    op = open_get(place);
    fd = place_take_call(place);
    peer_send(fd, HEAD_CHUNKED);
    assert_open(place, op, 200);
    do {
        pull = upstream_read(op);
        peer_send(fd, "1\r\nx\r\n");
        fake_clock_walk(&place->world.clock, place->world.loop, 90);
        assert_int_not_equal(pull->state, OP_PENDING);
    } while (pull->status == ERR_OK);
    assert_int_equal(pull->status, ERR_DEADLINE);
    place_renew_scope(place, 0);
    assert_int_equal(place->counts->connections, 0);
    peer_wait_closed(&place->peer, &fd);
}

/* ---- canceled ---- */

/* In each state, by the op, and by the scope. */
static void test_canceled_anywhere(void **state)
{
    static const char *const said[] = {NULL, "", "HTTP/1.1 20", HEAD_10, HEAD_10 "half"};
    struct place *place = *state;

    for (int i = 0; i < 10; i++) {
        struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, 0);
        struct op *write = upstream_write(op, SPAN("w")), *pull;
        int fd = take(place);

        if (said[i / 2] != NULL)
            peer_send(fd, said[i / 2]);
        run_turns(place->world.loop, 3);
        pull = upstream_read(op);
        if (pull->state != OP_PENDING) /* the half that came */
            pull = upstream_read(op);
        assert_int_equal(write->status, ERR_OK);
        if (i % 2 == 0 && op->state == OP_PENDING)
            op_cancel(op);
        else
            scope_cancel(place->scope, SCOPE_CLIENT_GONE);
        assert_int_equal(pull->status, ERR_CANCELED);
        assert_true(pull->is_retired);
        peer_wait_closed(&place->peer, &fd);
        assert_int_equal(place->counts->connections, 0);
        assert_false(upstream_wants(op));
        place_renew_scope(place, 0);
    }
    assert_int_equal(place->counts->canceled, 10);
    assert_int_equal(place->counts->failed, 0);
}

static void test_canceled_while_connecting(void **state)
{
    struct place *place = *state;
    struct op *op, *write, *pull;
    static char bytes[100000];
    int fillers[2];

    place_hang(place, fillers);
    op = open_stream(place, "POST", UPSTREAM_UPLOAD, 0);
    write = upstream_write(op, (struct span){bytes, sizeof bytes});
    pull = upstream_read(op);
    run_turns(place->world.loop, 3);
    assert_int_equal(write->state, OP_PENDING);
    op_cancel(op);
    assert_int_equal(write->status, ERR_CANCELED);
    assert_int_equal(pull->status, ERR_CANCELED);
    assert_int_equal(place->counts->canceled, 1);
    close_fd(&fillers[0]);
    close_fd(&fillers[1]);
}

/* A pull or a write alone: the stream goes on. */
static void test_one_of_it_canceled(void **state)
{
    struct place *place = *state;
    static char bytes[8 << 20];
    struct op *op = open_stream(place, "POST", UPSTREAM_UPLOAD, sizeof bytes), *pull, *write;
    int fd = take(place);
    uint64_t got = 0;

    write = upstream_write(op, (struct span){bytes, sizeof bytes});
    run_turns(place->world.loop, 5);
    assert_int_equal(write->state, OP_PENDING);
    op_cancel(write);
    assert_int_equal(upstream_write_end(op, NULL, 0), ERR_OK);
    pull = upstream_read(op);
    op_cancel(pull);
    while (got < sizeof bytes) {
        ssize_t part = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);

        got += part > 0 ? (uint64_t)part : 0;
        run_turns(place->world.loop, 1);
    }
    peer_send(fd, HEAD_10 "0123456789");
    assert_open(place, op, 200);
    assert_pull(place, op, "0123456789");
    assert_pull(place, op, NULL);
    close_fd(&fd);
}

static void test_released(void **state)
{
    struct place *place = *state;
    struct op *op = open_get(place), *pull;
    int fd = place_take_call(place);

    peer_send(fd, HEAD_10 "half");
    assert_open(place, op, 200);
    assert_pull(place, op, "half");
    pull = upstream_read(op);
    run_turns(place->world.loop, 3);
    assert_int_equal(op_release(op), ERR_OK);
    assert_int_equal(pull->status, ERR_STATE);
    peer_wait_closed(&place->peer, &fd);
    assert_int_equal(place->counts->connections, 0);
    assert_int_equal(place->counts->canceled, 1);
}

/* The scope ends with the stream half read. */
static void test_scope_ends(void **state)
{
    struct place *place = *state;
    struct op *op = open_get(place);
    int fd = place_take_call(place);

    peer_send(fd, HEAD_10 "half");
    assert_open(place, op, 200);
    place_renew_scope(place, 0);
    peer_wait_closed(&place->peer, &fd);
    assert_int_equal(place->counts->connections, 0);
}

/* ---- sent again ---- */

/* A kept connection that the peer has closed: a stream without an upload is sent again, and one
 * with, as long as nothing of its body was. */
static void test_kept_connection_is_gone(void **state)
{
    static const struct {
        uint32_t flags;
        const char *method, *body;
        bool is_again;
    } cases[] = {
        {0, "GET", "", true},
        {UPSTREAM_UPLOAD, "PUT", "", true},
        {UPSTREAM_UPLOAD, "PUT", "x", false},
        {UPSTREAM_UPLOAD, "POST", "", false},
    };
    struct place *place = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = place_warm_up(place);
        struct op *op = open_stream(place, cases[i].method, cases[i].flags, 0);

        (void)upstream_write(op, span_of(cases[i].body));
        peer_expect(place, fd, "\r\n\r\n");
        close_fd(&fd);
        if (cases[i].is_again) {
            fd = take(place);
            if (cases[i].flags != 0)
                assert_int_equal(upstream_write_end(op, NULL, 0), ERR_OK);
            peer_expect(place, fd, "\r\n\r\n");
            peer_send(fd, OK_HI);
            assert_open(place, op, 200);
            assert_pull(place, op, "hi");
            assert_pull(place, op, NULL);
            close_fd(&fd);
            run_turns(place->world.loop, 3);
        } else {
            place_assert_failed(place, op, ERR_UP_RESET, "upstream_reset");
        }
        assert_int_equal(place->counts->connections, 0);
    }
}

/* A call that follows on the same connection gets its own answer. */
static void test_connection_is_kept(void **state)
{
    struct place *place = *state;
    int fd = -1;

    for (int i = 0; i < 3; i++) {
        struct op *op = open_stream(place, "PUT", UPSTREAM_UPLOAD, 0);

        if (fd < 0)
            fd = take(place);
        (void)upstream_write(op, SPAN("body"));
        assert_int_equal(upstream_write_end(op, NULL, 0), ERR_OK);
        peer_expect(place, fd, "4\r\nbody\r\n0\r\n\r\n");
        peer_send(fd, HEAD_CHUNKED "2\r\nok\r\n0\r\n\r\n");
        assert_open(place, op, 200);
        assert_pull(place, op, "ok");
        assert_pull(place, op, NULL);
    }
    assert_int_equal(place->counts->connects, 1);
    assert_int_equal(place->counts->reused, 2);
    close_fd(&fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, place_set_up, place_tear_down)
        TEST(test_head_first),
        TEST(test_pull_before_the_head),
        TEST(test_bodyless),
        TEST(test_chunked_with_trailers),
        TEST(test_too_many_trailers),
        TEST(test_until_close),
        TEST(test_backpressure),
        TEST(test_one_pull_at_a_time),
        TEST(test_no_stream),
        TEST(test_upload_chunked),
        TEST(test_upload_with_a_length),
        TEST(test_upload_short_of_its_length),
        TEST(test_trailers_that_are_refused),
        TEST(test_write_waits),
        TEST(test_unawaited_writes_have_a_limit),
        TEST(test_both_ways),
        TEST(test_refused_while_uploading),
        TEST(test_answered_while_uploading),
        TEST(test_fails_before_the_head),
        TEST(test_fails_within_the_answer),
        TEST(test_bytes_behind_the_answer),
        TEST(test_no_first_byte),
        TEST(test_no_first_byte_behind_an_upload),
        TEST(test_pause_between_bytes),
        TEST(test_write_stalls),
        TEST(test_time_in_all),
        TEST(test_stands_still),
        TEST(test_deadline_of_the_scope),
        TEST(test_canceled_anywhere),
        TEST(test_canceled_while_connecting),
        TEST(test_one_of_it_canceled),
        TEST(test_released),
        TEST(test_scope_ends),
        TEST(test_kept_connection_is_gone),
        TEST(test_connection_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
