/* Goal: every byte goes through in order, once and no more often to the kernel than needed; end,
 * reset, a full kernel and a paused reader are each told once and never make the loop spin; storage
 * is held only while there is something in it; a callback may close and free the stream. */
#include "base/check.h"
#include "lib/fault.h"
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "net/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { IN_MAX = 1000 };

/* A stream, its peer, and what was told. */
struct fixture {
    struct loop *loop;
    struct buf_pool pool;
    struct stream stream;
    int peer;
    bool keeps;        /* on_data does not consume */
    bool pauses;       /* on_data pauses */
    bool echoes;       /* on_data writes back what came */
    char text[4096];   /* consumed so far, with a NUL */
    size_t len;        /* of text */
    uint32_t data;     /* calls of on_data */
    uint32_t ends;     /* of on_end */
    uint32_t fails;    /* of on_fail */
    uint32_t drains;   /* of on_drained */
    uint32_t goodbyes; /* of on_peer_closed */
    enum err err;      /* of on_fail */
};

static void on_data(struct stream *stream)
{
    struct fixture *fixture = CONTAINER_OF(stream, struct fixture, stream);

    fixture->data++;
    if (fixture->pauses)
        stream_pause(stream);
    if (fixture->echoes)
        stream_write(stream, buf_span(&stream->in));
    if (fixture->keeps)
        return;
    assert_true(fixture->len + stream->in.len < sizeof fixture->text);
    memcpy(fixture->text + fixture->len, stream->in.data, stream->in.len);
    fixture->len += stream->in.len;
    fixture->text[fixture->len] = '\0';
    buf_consume(&stream->in, stream->in.len);
}

static void on_end(struct stream *stream)
{
    CONTAINER_OF(stream, struct fixture, stream)->ends++;
}

static void on_fail(struct stream *stream, enum err err)
{
    struct fixture *fixture = CONTAINER_OF(stream, struct fixture, stream);

    fixture->fails++;
    fixture->err = err;
}

static void on_drained(struct stream *stream)
{
    CONTAINER_OF(stream, struct fixture, stream)->drains++;
}

static void on_peer_closed(struct stream *stream)
{
    CONTAINER_OF(stream, struct fixture, stream)->goodbyes++;
}

static const struct stream_handler handler = {
    .on_data = on_data,
    .on_end = on_end,
    .on_fail = on_fail,
    .on_drained = on_drained,
    .on_peer_closed = on_peer_closed,
};

static const struct stream_handler short_handler = {.on_data = on_data, .on_fail = on_fail};

static struct fixture fixture_of_all;

static void open_stream(struct fixture *fixture, int fds[2], const struct stream_handler *told)
{
    fixture->peer = fds[1];
    stream_start(fixture->loop, &fixture->stream, fds[0], &fixture->pool, IN_MAX, told);
    fault_reset();
}

static int set_up_with(void **state, void (*pair)(int fds[2]))
{
    struct fixture *fixture = &fixture_of_all;
    int fds[2];

    memset(fixture, 0, sizeof *fixture);
    fixture->loop = loop_create(NULL);
    buf_pool_init(&fixture->pool, 8, NULL);
    pair(fds);
    open_stream(fixture, fds, &handler);
    *state = fixture;
    return 0;
}

static int set_up_tcp(void **state)
{
    return set_up_with(state, pair_tcp);
}

static int set_up_unix(void **state)
{
    return set_up_with(state, pair_unix);
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    fault_reset();
    stream_close(&fixture->stream);
    stream_close(&fixture->stream);
    close_fd(&fixture->peer);
    buf_pool_deinit(&fixture->pool);
    loop_destroy(fixture->loop);
    return 0;
}

/* The other kind of handler, on a new pair. */
static void reopen(struct fixture *fixture, const struct stream_handler *told)
{
    int fds[2];

    stream_close(&fixture->stream);
    close_fd(&fixture->peer);
    pair_tcp(fds);
    open_stream(fixture, fds, told);
}

/* Nothing happens any more, and the loop sleeps instead of spinning. */
static void assert_quiet(struct fixture *fixture)
{
    uint64_t begin_us = loop_refresh_us(fixture->loop);

    loop_turn(fixture->loop, 20); /* what may still be due */
    begin_us = loop_refresh_us(fixture->loop);
    loop_turn(fixture->loop, 20);
    assert_true(loop_now_us(fixture->loop) - begin_us >= 19000);
}

/* As much as the kernel takes, and more. */
static size_t write_until_blocked(struct fixture *fixture)
{
    static const char block[65536];
    size_t size = 0;

    do {
        stream_write(&fixture->stream, (struct span){block, sizeof block});
        size += sizeof block;
        run_turns(fixture->loop, 1);
    } while (stream_unsent(&fixture->stream) == 0);
    return size;
}

/* Reads at the peer's end until `size` bytes came in all. */
static void peer_take(struct fixture *fixture, size_t size)
{
    static char text[65536];

    for (size_t got = 0; got < size;) {
        got += peer_read(fixture->peer, text, sizeof text, NULL);
        run_turns(fixture->loop, 1);
    }
}

static void test_one_recv_and_one_send_a_request(void **state)
{
    struct fixture *fixture = *state;
    char answer[64];

    fixture->echoes = true;
    for (uint32_t i = 0; i < 10; i++) {
        peer_send(fixture->peer, "hello");
        run_until_count(fixture->loop, &fixture->data, i + 1);
        assert_int_equal(peer_read(fixture->peer, answer, sizeof answer, NULL), 5);
    }
    assert_int_equal(fault_calls(FAULT_SEND), 10 + 10); /* the peer's are counted too */
    assert_int_equal(fault_calls(FAULT_RECV), 10 + 20); /* the peer looks twice */
    assert_int_equal(fault_calls(FAULT_EPOLL_CTL), 0);
    assert_int_equal(fixture->stream.received, 50);
    assert_int_equal(fixture->stream.sent, 50);
}

static void test_what_is_written_in_a_turn_is_one_send(void **state)
{
    struct fixture *fixture = *state;
    char answer[64];

    stream_write(&fixture->stream, SPAN("one "));
    stream_write(&fixture->stream, SPAN("two "));
    buf_append(&fixture->stream.out, SPAN("three"));
    stream_flush(&fixture->stream);
    assert_int_equal(stream_unsent(&fixture->stream), 13);
    assert_int_equal(fault_calls(FAULT_SEND), 0);
    run_turns(fixture->loop, 1);
    assert_int_equal(fault_calls(FAULT_SEND), 1);
    assert_int_equal(stream_unsent(&fixture->stream), 0);
    (void)peer_read(fixture->peer, answer, sizeof answer, NULL);
    assert_string_equal(answer, "one two three");
    assert_int_equal(fixture->drains, 0);

    stream_write(&fixture->stream, SPAN("now"));
    stream_flush_now(&fixture->stream);
    (void)peer_read(fixture->peer, answer, sizeof answer, NULL);
    assert_string_equal(answer, "now");
}

static void test_idle_it_holds_no_storage(void **state)
{
    struct fixture *fixture = *state;

    assert_null(fixture->stream.in._base);
    fixture->echoes = true;
    peer_send(fixture->peer, "hello");
    run_until_count(fixture->loop, &fixture->data, 1);
    assert_null(fixture->stream.in._base);
    assert_null(fixture->stream.out._base);
    assert_int_equal(fixture->pool._count, 2);

    fixture->keeps = true;
    fixture->echoes = false;
    peer_send(fixture->peer, "keep");
    run_until_count(fixture->loop, &fixture->data, 2);
    assert_memory_equal(fixture->stream.in.data, "keep", 4);
    assert_int_equal(fixture->pool._count, 1);
}

static void test_full_it_stops_reading_until_there_is_room(void **state)
{
    struct fixture *fixture = *state;
    char text[IN_MAX + 501];

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    fixture->keeps = true;
    peer_send(fixture->peer, text);
    run_until_count(fixture->loop, &fixture->data, 1);
    while (fixture->stream.in.len < IN_MAX)
        run_turns(fixture->loop, 1);
    assert_int_equal(fixture->stream.in.len, IN_MAX);
    fixture->data = 0;
    assert_quiet(fixture);
    assert_int_equal(fixture->data, 0);

    fixture->keeps = false;
    stream_resume(&fixture->stream);
    assert_int_equal(fixture->data, 0); /* not from inside the call */
    run_until_count(fixture->loop, &fixture->data, 2);
    assert_int_equal(fixture->len, IN_MAX + 500);
}

static void test_consumed_from_outside_it_reads_on(void **state)
{
    struct fixture *fixture = *state;

    fixture->keeps = true;
    fixture->stream.in_max = 4;
    peer_send(fixture->peer, "12345678");
    run_until_count(fixture->loop, &fixture->data, 1);
    buf_consume(&fixture->stream.in, 4);
    stream_resume(&fixture->stream);
    run_until_count(fixture->loop, &fixture->data, 2);
    assert_memory_equal(fixture->stream.in.data, "5678", 4);
}

static void test_fin_comes_after_the_bytes_before_it(void **state)
{
    struct fixture *fixture = *state;
    char answer[64];

    peer_send(fixture->peer, "last words");
    assert_int_equal(shutdown(fixture->peer, SHUT_WR), 0);
    run_until_count(fixture->loop, &fixture->ends, 1);
    assert_string_equal(fixture->text, "last words");
    assert_int_equal(fixture->goodbyes, 0);
    assert_true(stream_is_ended(&fixture->stream));
    assert_quiet(fixture);
    stream_write(&fixture->stream, SPAN("answer"));
    run_turns(fixture->loop, 1);
    (void)peer_read(fixture->peer, answer, sizeof answer, NULL);
    assert_string_equal(answer, "answer");
    assert_int_equal(fixture->ends, 1);
    assert_int_equal(fixture->fails, 0);
}

static void test_fin_is_a_failure_for_who_does_not_handle_it(void **state)
{
    struct fixture *fixture = *state;

    reopen(fixture, &short_handler);
    peer_send(fixture->peer, "x");
    close_fd(&fixture->peer);
    run_until_count(fixture->loop, &fixture->fails, 1);
    assert_string_equal(fixture->text, "x");
    assert_int_equal(fixture->err, ERR_CLOSED);
    assert_quiet(fixture);
    assert_int_equal(fixture->fails, 1);
}

static void test_reset_is_told_and_nothing_after_it(void **state)
{
    struct fixture *fixture = *state;

    close_with_reset(&fixture->peer);
    run_until_count(fixture->loop, &fixture->fails, 1);
    assert_int_equal(fixture->err, ERR_RESET);
    stream_write(&fixture->stream, SPAN("x"));
    buf_append(&fixture->stream.out, SPAN("y"));
    stream_flush(&fixture->stream);
    stream_pause(&fixture->stream);
    stream_resume(&fixture->stream);
    stream_shutdown(&fixture->stream);
    assert_int_equal(stream_unsent(&fixture->stream), 0);
    assert_quiet(fixture);
    assert_int_equal(fixture->fails, 1);
    assert_int_equal(fixture->ends, 0);
}

static void test_reset_while_paused(void **state)
{
    struct fixture *fixture = *state;

    stream_pause(&fixture->stream);
    run_turns(fixture->loop, 1);
    close_with_reset(&fixture->peer);
    run_until_count(fixture->loop, &fixture->fails, 1);
    assert_int_equal(fixture->err, ERR_RESET);
}

static void test_reset_after_fin(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(shutdown(fixture->peer, SHUT_WR), 0);
    run_until_count(fixture->loop, &fixture->ends, 1);
    close_with_reset(&fixture->peer);
    run_until_count(fixture->loop, &fixture->fails, 1);
    assert_int_equal(fixture->err, ERR_RESET);
}

static void test_reset_while_blocked(void **state)
{
    struct fixture *fixture = *state;

    (void)write_until_blocked(fixture);
    close_with_reset(&fixture->peer);
    run_until_count(fixture->loop, &fixture->fails, 1);
    assert_int_equal(fixture->err, ERR_RESET);
    assert_int_equal(fixture->drains, 0);
    assert_int_equal(stream_unsent(&fixture->stream), 0);
}

static void test_paused_it_reads_nothing(void **state)
{
    struct fixture *fixture = *state;

    stream_pause(&fixture->stream);
    stream_pause(&fixture->stream);
    peer_send(fixture->peer, "later");
    assert_quiet(fixture);
    assert_int_equal(fixture->data, 0);
    stream_resume(&fixture->stream);
    run_until_count(fixture->loop, &fixture->data, 1);
    assert_string_equal(fixture->text, "later");
}

static void test_pause_and_resume_in_one_turn_cost_nothing(void **state)
{
    struct fixture *fixture = *state;

    stream_pause(&fixture->stream);
    stream_resume(&fixture->stream);
    run_turns(fixture->loop, 2);
    assert_int_equal(fault_calls(FAULT_EPOLL_CTL), 0);
}

static void test_unread_bytes_come_again_after_a_pause(void **state)
{
    struct fixture *fixture = *state;

    fixture->keeps = true;
    fixture->pauses = true;
    peer_send(fixture->peer, "half");
    run_until_count(fixture->loop, &fixture->data, 1);
    peer_send(fixture->peer, " more");
    assert_quiet(fixture);
    assert_int_equal(fixture->stream.in.len, 4);
    fixture->keeps = fixture->pauses = false;
    stream_resume(&fixture->stream);
    stream_pause(&fixture->stream); /* thought better of it */
    run_turns(fixture->loop, 2);
    assert_int_equal(fixture->data, 1);
    stream_resume(&fixture->stream);
    run_until_count(fixture->loop, &fixture->data, 3);
    assert_string_equal(fixture->text, "half more");
}

static void test_fin_while_paused_with_nothing_unread(void **state)
{
    struct fixture *fixture = *state;

    stream_pause(&fixture->stream);
    run_turns(fixture->loop, 1);
    assert_int_equal(shutdown(fixture->peer, SHUT_WR), 0);
    run_until_count(fixture->loop, &fixture->ends, 1);
    assert_int_equal(fixture->goodbyes, 0);
    assert_quiet(fixture);
    stream_resume(&fixture->stream);
    assert_quiet(fixture);
    assert_int_equal(fixture->ends, 1);
}

static void test_fin_while_paused_behind_unread_bytes(void **state)
{
    struct fixture *fixture = *state;

    stream_pause(&fixture->stream);
    run_turns(fixture->loop, 1);
    peer_send(fixture->peer, "unread");
    close_fd(&fixture->peer);
    run_until_count(fixture->loop, &fixture->goodbyes, 1);
    assert_int_equal(fixture->ends, 0);
    assert_true(stream_is_ended(&fixture->stream));
    assert_quiet(fixture);
    assert_int_equal(fixture->data, 0);
    stream_resume(&fixture->stream);
    run_until_count(fixture->loop, &fixture->ends, 1);
    assert_string_equal(fixture->text, "unread");
    assert_int_equal(fixture->goodbyes, 1);
    assert_quiet(fixture);
}

static void test_hang_up_does_not_spin(void **state)
{
    struct fixture *fixture = *state;

    /* A TCP socket hangs up when both have sent FIN, a Unix one when its peer is closed. */
    fixture->keeps = true;
    fixture->stream.in_max = 3;
    peer_send(fixture->peer, "abcdef");
    run_until_count(fixture->loop, &fixture->data, 1);
    stream_shutdown(&fixture->stream);
    run_turns(fixture->loop, 1);
    close_fd(&fixture->peer);
    run_until_count(fixture->loop, &fixture->goodbyes, 1);
    assert_quiet(fixture);
    assert_int_equal(fixture->fails, 0);

    fixture->keeps = false;
    stream_resume(&fixture->stream);
    run_until_count(fixture->loop, &fixture->ends, 1);
    assert_string_equal(fixture->text, "abcdef");
    assert_quiet(fixture);
    assert_int_equal(fixture->fails, 0);
    assert_int_equal(fixture->ends, 1);
}

static void test_blocked_it_waits_and_says_when_all_is_gone(void **state)
{
    struct fixture *fixture = *state;
    uint64_t began_ms = fixture->stream.progress_ms;
    size_t size;

    run_for(fixture->loop, 5);
    size = write_until_blocked(fixture);
    assert_true(fixture->stream.progress_ms >= began_ms + 5);
    fault_reset();
    stream_flush_now(&fixture->stream); /* the kernel would refuse: it is not asked */
    assert_int_equal(fault_calls(FAULT_SEND), 0);
    assert_quiet(fixture);
    assert_int_equal(fixture->drains, 0);
    peer_take(fixture, size);
    assert_int_equal(fixture->drains, 1);
    assert_int_equal(stream_unsent(&fixture->stream), 0);
    assert_int_equal(fixture->stream.sent, size);
    assert_null(fixture->stream.out._base);
    assert_quiet(fixture);
}

static void test_reads_while_blocked(void **state)
{
    struct fixture *fixture = *state;

    (void)write_until_blocked(fixture);
    peer_send(fixture->peer, "stop");
    run_until_count(fixture->loop, &fixture->data, 1);
    assert_string_equal(fixture->text, "stop");
}

static void test_short_sends_and_interruptions_lose_nothing(void **state)
{
    struct fixture *fixture = *state;
    char answer[64];

    fault_limit_bytes(FAULT_SEND, 3);
    fault_plan(FAULT_SEND, 1, 1, EINTR);
    stream_write(&fixture->stream, SPAN("byte by byte"));
    run_until_count(fixture->loop, &fixture->drains, 1);
    (void)peer_read(fixture->peer, answer, sizeof answer, NULL);
    assert_string_equal(answer, "byte by byte");

    fault_reset();
    fault_limit_bytes(FAULT_RECV, 1);
    peer_send(fixture->peer, "in too");
    fault_plan(FAULT_RECV, 2, 1, EINTR);
    run_until_count(fixture->loop, &fixture->data, 6);
    assert_string_equal(fixture->text, "in too");
    assert_int_equal(fixture->fails, 0);
}

static void test_broken_pipe_lets_the_answer_be_read(void **state)
{
    struct fixture *fixture = *state;

    peer_send(fixture->peer, "413 too large");
    fault_plan(FAULT_SEND, 0, 1, EPIPE);
    stream_write(&fixture->stream, SPAN("endless body"));
    stream_flush_now(&fixture->stream);
    stream_write(&fixture->stream, SPAN("ignored"));
    run_until_count(fixture->loop, &fixture->data, 1);
    assert_string_equal(fixture->text, "413 too large");
    assert_int_equal(fixture->fails, 0);
    close_fd(&fixture->peer);
    run_until_count(fixture->loop, &fixture->fails, 1);
    assert_int_equal(fixture->err, ERR_RESET);
    assert_int_equal(fixture->ends, 0);
}

static void test_broken_pipe_while_paused(void **state)
{
    struct fixture *fixture = *state;

    stream_pause(&fixture->stream);
    run_turns(fixture->loop, 1);
    fault_plan(FAULT_SEND, 0, 1, EPIPE);
    stream_write(&fixture->stream, SPAN("x"));
    stream_flush_now(&fixture->stream);
    assert_int_equal(fixture->fails, 0); /* not from inside the call */
    run_turns(fixture->loop, 1);
    assert_int_equal(fixture->fails, 1);
    assert_int_equal(fixture->err, ERR_RESET);
}

static void test_errors_of_the_kernel(void **state)
{
    static const struct {
        int os_error;
        enum err err;
    } cases[] = {{ETIMEDOUT, ERR_TIMED_OUT}, {ENOMEM, ERR_IO}, {ECONNRESET, ERR_RESET}};
    struct fixture *fixture = *state;

    for (uint32_t i = 0; i < 3; i++) {
        reopen(fixture, &handler);
        peer_send(fixture->peer, "x");
        fault_plan(FAULT_RECV, 0, 1, cases[i].os_error);
        run_until_count(fixture->loop, &fixture->fails, 2 * i + 1);
        assert_int_equal(fixture->err, cases[i].err);

        reopen(fixture, &handler);
        fault_plan(FAULT_SEND, 0, 1, cases[i].os_error);
        stream_write(&fixture->stream, SPAN("x"));
        stream_pause(&fixture->stream);
        run_until_count(fixture->loop, &fixture->fails, 2 * i + 2);
        assert_int_equal(fixture->err, cases[i].err);
    }
}

static void test_shutdown_comes_behind_what_is_unsent(void **state)
{
    struct fixture *fixture = *state;
    static char text[65536];
    size_t size = write_until_blocked(fixture);
    size_t got = 0;
    bool is_end = false;

    stream_shutdown(&fixture->stream);
    stream_shutdown(&fixture->stream);
    while (!is_end) {
        got += peer_read(fixture->peer, text, sizeof text, &is_end);
        run_turns(fixture->loop, 1);
    }
    assert_int_equal(got, size);
    peer_send(fixture->peer, "still heard");
    run_until_count(fixture->loop, &fixture->data, 1);
    close_fd(&fixture->peer);
    run_until_count(fixture->loop, &fixture->ends, 1);
    assert_quiet(fixture);
    assert_int_equal(fixture->fails, 0);
}

static void test_closed_with_everything_under_way(void **state)
{
    struct fixture *fixture = *state;

    fixture->keeps = true;
    peer_send(fixture->peer, "x");
    run_until_count(fixture->loop, &fixture->data, 1);
    (void)write_until_blocked(fixture);
    stream_resume(&fixture->stream);
    close_fd(&fixture->peer);
    stream_close(&fixture->stream);
    assert_quiet(fixture);
    assert_int_equal(fixture->data, 1);
    assert_int_equal(fixture->fails + fixture->ends + fixture->drains, 0);
}

/* ---- each callback may free the stream ---- */

/* One on the heap, freed by the first callback. */
struct doomed {
    struct stream stream;
    bool *is_gone;
};

static void free_doomed(struct stream *stream)
{
    struct doomed *doomed = CONTAINER_OF(stream, struct doomed, stream);

    stream_close(stream);
    *doomed->is_gone = true;
    free(doomed);
}

static void free_failed(struct stream *stream, enum err err)
{
    (void)err;
    free_doomed(stream);
}

static void keep_data(struct stream *stream)
{
    (void)stream;
}

/* Starts one on a new pair; the peer is *fd. */
static struct doomed *doom(struct fixture *fixture, const struct stream_handler *told,
                           bool *is_gone, int *fd)
{
    struct doomed *doomed = calloc(1, sizeof *doomed);
    int fds[2];

    pair_tcp(fds);
    *fd = fds[1];
    *is_gone = false;
    doomed->is_gone = is_gone;
    stream_start(fixture->loop, &doomed->stream, fds[0], &fixture->pool, IN_MAX, told);
    return doomed;
}

static void test_freed_by_on_data(void **state)
{
    static const struct stream_handler told = {.on_data = free_doomed, .on_fail = free_failed};
    struct fixture *fixture = *state;
    bool is_gone;
    int fd;

    (void)doom(fixture, &told, &is_gone, &fd);
    peer_send(fd, "x");
    run_until(fixture->loop, &is_gone);
    close_fd(&fd);
}

static void test_freed_by_on_end_and_on_peer_closed(void **state)
{
    static const struct stream_handler told = {.on_data = keep_data,
                                               .on_end = free_doomed,
                                               .on_fail = free_failed,
                                               .on_peer_closed = free_doomed};
    struct fixture *fixture = *state;
    bool is_gone;
    int fd;

    (void)doom(fixture, &told, &is_gone, &fd);
    peer_send(fd, "x");
    close_fd(&fd);
    run_until(fixture->loop, &is_gone);

    stream_pause(&doom(fixture, &told, &is_gone, &fd)->stream);
    run_turns(fixture->loop, 1);
    peer_send(fd, "x");
    close_fd(&fd);
    run_until(fixture->loop, &is_gone);
}

static void test_freed_by_on_fail_after_reading_and_writing(void **state)
{
    static const struct stream_handler told = {.on_data = keep_data, .on_fail = free_failed};
    struct fixture *fixture = *state;
    struct doomed *doomed;
    bool is_gone;
    int fd;

    (void)doom(fixture, &told, &is_gone, &fd);
    close_with_reset(&fd);
    run_until(fixture->loop, &is_gone);

    doomed = doom(fixture, &told, &is_gone, &fd);
    fault_plan(FAULT_SEND, 0, 1, ENOMEM);
    stream_write(&doomed->stream, SPAN("x"));
    run_until(fixture->loop, &is_gone);
    close_fd(&fd);
}

static void test_freed_by_on_drained(void **state)
{
    static const struct stream_handler told = {
        .on_data = keep_data, .on_fail = free_failed, .on_drained = free_doomed};
    struct fixture *fixture = *state;
    bool is_gone;
    int fd;

    fault_limit_bytes(FAULT_SEND, 1);
    stream_write(&doom(fixture, &told, &is_gone, &fd)->stream, SPAN("xyz"));
    run_until(fixture->loop, &is_gone);
    close_fd(&fd);
}

int main(void)
{
#define TCP(name) cmocka_unit_test_setup_teardown(name, set_up_tcp, tear_down)
#define UNIX(name)                                          \
    {                                                       \
#name " (unix)", name, set_up_unix, tear_down, NULL \
    }
    const struct CMUnitTest tests[] = {
        TCP(test_one_recv_and_one_send_a_request),
        TCP(test_what_is_written_in_a_turn_is_one_send),
        TCP(test_idle_it_holds_no_storage),
        TCP(test_full_it_stops_reading_until_there_is_room),
        TCP(test_consumed_from_outside_it_reads_on),
        TCP(test_fin_comes_after_the_bytes_before_it),
        UNIX(test_fin_comes_after_the_bytes_before_it),
        TCP(test_fin_is_a_failure_for_who_does_not_handle_it),
        TCP(test_reset_is_told_and_nothing_after_it),
        TCP(test_reset_while_paused),
        TCP(test_reset_after_fin),
        TCP(test_reset_while_blocked),
        TCP(test_paused_it_reads_nothing),
        TCP(test_pause_and_resume_in_one_turn_cost_nothing),
        TCP(test_unread_bytes_come_again_after_a_pause),
        TCP(test_fin_while_paused_with_nothing_unread),
        UNIX(test_fin_while_paused_with_nothing_unread),
        TCP(test_fin_while_paused_behind_unread_bytes),
        UNIX(test_fin_while_paused_behind_unread_bytes),
        TCP(test_hang_up_does_not_spin),
        UNIX(test_hang_up_does_not_spin),
        TCP(test_blocked_it_waits_and_says_when_all_is_gone),
        UNIX(test_blocked_it_waits_and_says_when_all_is_gone),
        TCP(test_reads_while_blocked),
        TCP(test_short_sends_and_interruptions_lose_nothing),
        TCP(test_broken_pipe_lets_the_answer_be_read),
        TCP(test_broken_pipe_while_paused),
        TCP(test_errors_of_the_kernel),
        TCP(test_shutdown_comes_behind_what_is_unsent),
        UNIX(test_shutdown_comes_behind_what_is_unsent),
        TCP(test_closed_with_everything_under_way),
        TCP(test_freed_by_on_data),
        TCP(test_freed_by_on_end_and_on_peer_closed),
        TCP(test_freed_by_on_fail_after_reading_and_writing),
        TCP(test_freed_by_on_drained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
