/* Goal: what is written as a whole goes to the kernel from where it lies, and every byte once and
 * in order whatever the kernel takes; the writer may use its memory again at once; an end is told
 * from the loop, once, and a stream that is closed in between tells nothing. */
#include "base/check.h"
#include "lib/fault.h"
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "net/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { LARGE = 8 << 20 }; /* more than the kernel takes at once */

struct fixture {
    struct loop *loop;
    struct buf_pool pool;
    struct stream stream;
    int peer;
    uint32_t drains; /* of on_drained */
    uint32_t fails;  /* of on_fail */
    enum err err;    /* of on_fail */
    char *bytes;     /* LARGE ones */
};

static void on_data(struct stream *stream)
{
    buf_consume(&stream->in, stream->in.len);
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

static const struct stream_handler handler = {
    .on_data = on_data,
    .on_fail = on_fail,
    .on_drained = on_drained,
};

/* What belongs at this place: no piece looks like another. */
static char byte_at(size_t at)
{
    return (char)(at * 31 + at / 251);
}

static void connect_anew(struct fixture *fixture)
{
    int fds[2];

    stream_close(&fixture->stream);
    close_fd(&fixture->peer);
    pair_tcp(fds);
    fixture->peer = fds[1];
    stream_start(fixture->loop, &fixture->stream, fds[0], &fixture->pool, 1000, &handler);
    for (size_t i = 0; i < LARGE; i++)
        fixture->bytes[i] = byte_at(i);
    fault_reset();
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);

    fixture->loop = loop_create(NULL);
    buf_pool_init(&fixture->pool, 8, NULL);
    fixture->stream.fd = fixture->peer = -1;
    fixture->bytes = malloc(LARGE);
    connect_anew(fixture);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    fault_reset();
    stream_close(&fixture->stream);
    close_fd(&fixture->peer);
    buf_pool_deinit(&fixture->pool);
    loop_destroy(fixture->loop);
    free(fixture->bytes);
    free(fixture);
    return 0;
}

/* Writes so many as a whole, and has other bytes in their place at once. */
static void write_whole(struct fixture *fixture, size_t size)
{
    stream_write_whole(&fixture->stream, (struct span){fixture->bytes, size});
    memset(fixture->bytes, 'x', LARGE);
}

/* The peer has got these, and no more. */
static void assert_got(struct fixture *fixture, size_t size)
{
    static char text[65536];
    size_t got = 0;

    while (got < size) {
        size_t more = peer_read(fixture->peer, text, sizeof text, NULL);

        for (size_t i = 0; i < more; i++)
            assert_int_equal(text[i], byte_at(got + i));
        got += more;
        run_turns(fixture->loop, 1);
    }
    assert_int_equal(got, size);
    assert_int_equal(peer_read(fixture->peer, text, sizeof text, NULL), 0);
    assert_int_equal(fixture->stream.sent, size);
    assert_int_equal(stream_unsent(&fixture->stream), 0);
    assert_null(fixture->stream.out._base);
    assert_int_equal(fixture->fails, 0);
}

static void test_what_the_kernel_takes_is_not_copied(void **state)
{
    struct fixture *fixture = *state;

    write_whole(fixture, STREAM_WHOLE_MIN);
    assert_int_equal(fault_calls(FAULT_SEND), 1);
    assert_int_equal(stream_unsent(&fixture->stream), 0);
    assert_null(fixture->stream.out._base);
    run_turns(fixture->loop, 2);
    assert_int_equal(fault_calls(FAULT_SEND), 1);
    assert_got(fixture, STREAM_WHOLE_MIN);
    assert_int_equal(fixture->drains, 0);
}

static void test_few_bytes_wait_for_the_turn_s_end(void **state)
{
    struct fixture *fixture = *state;

    write_whole(fixture, STREAM_WHOLE_MIN - 1);
    assert_int_equal(fault_calls(FAULT_SEND), 0);
    assert_int_equal(stream_unsent(&fixture->stream), STREAM_WHOLE_MIN - 1);
    assert_got(fixture, STREAM_WHOLE_MIN - 1);
}

static void test_what_the_kernel_does_not_take_goes_later(void **state)
{
    struct fixture *fixture = *state;
    size_t sent;

    write_whole(fixture, LARGE);
    sent = fixture->stream.sent;
    assert_true(sent > 0 && sent < LARGE);
    assert_int_equal(stream_unsent(&fixture->stream), LARGE - sent);
    run_turns(fixture->loop, 2);
    assert_int_equal(fault_calls(FAULT_SEND), 1); /* it waits until there is room */
    assert_got(fixture, LARGE);
    assert_int_equal(fixture->drains, 1);
}

static void test_short_sends_and_interruptions_lose_nothing(void **state)
{
    static const int errors[] = {EINTR, EAGAIN};
    struct fixture *fixture = *state;

    for (uint32_t i = 0; i < 2; i++) {
        connect_anew(fixture);
        fault_plan(FAULT_SEND, 0, 1, errors[i]);
        write_whole(fixture, 50000);
        assert_int_equal(stream_unsent(&fixture->stream), 50000);
        assert_got(fixture, 50000);
    }
    connect_anew(fixture);
    fault_limit_bytes(FAULT_SEND, 7000);
    write_whole(fixture, 50000);
    assert_int_equal(stream_unsent(&fixture->stream), 43000);
    assert_got(fixture, 50000);
}

static void test_it_comes_behind_what_is_unsent(void **state)
{
    struct fixture *fixture = *state;

    stream_write(&fixture->stream, (struct span){fixture->bytes, 3});
    stream_write_whole(&fixture->stream, (struct span){fixture->bytes + 3, 40000});
    assert_int_equal(fault_calls(FAULT_SEND), 0);
    stream_flush_now(&fixture->stream);
    write_whole(fixture, 0);
    assert_got(fixture, 40003);

    connect_anew(fixture);
    stream_write_whole(&fixture->stream, (struct span){fixture->bytes, LARGE / 2});
    stream_write_whole(&fixture->stream, (struct span){fixture->bytes + LARGE / 2, LARGE / 2});
    assert_int_equal(fault_calls(FAULT_SEND), 1); /* blocked or not: nothing goes past the rest */
    write_whole(fixture, 0);
    assert_got(fixture, LARGE);
}

static void test_failures_are_told_from_the_loop(void **state)
{
    static const struct {
        int os_error;
        enum err err;
    } cases[] = {
        {EPIPE, ERR_RESET}, {ECONNRESET, ERR_RESET}, {ETIMEDOUT, ERR_TIMED_OUT}, {ENOMEM, ERR_IO}};
    struct fixture *fixture = *state;

    for (uint32_t i = 0; i < 4; i++) {
        connect_anew(fixture);
        stream_pause(&fixture->stream); /* no answer is awaited */
        run_turns(fixture->loop, 1);
        fault_plan(FAULT_SEND, 0, 1, cases[i].os_error);
        write_whole(fixture, LARGE);
        assert_int_equal(fixture->fails, i);
        assert_int_equal(stream_unsent(&fixture->stream), 0);
        run_turns(fixture->loop, 2);
        assert_int_equal(fixture->fails, i + 1);
        assert_int_equal(fixture->err, cases[i].err);
        stream_write_whole(&fixture->stream, (struct span){fixture->bytes, LARGE}); /* ignored */
        assert_int_equal(fault_calls(FAULT_SEND), 1);
    }
}

static void test_reset_while_the_rest_waits(void **state)
{
    struct fixture *fixture = *state;

    write_whole(fixture, LARGE);
    close_with_reset(&fixture->peer);
    run_until_count(fixture->loop, &fixture->fails, 1);
    assert_int_equal(fixture->err, ERR_RESET);
    assert_int_equal(stream_unsent(&fixture->stream), 0);
    assert_int_equal(fixture->drains, 0);
}

static void test_closed_it_tells_nothing(void **state)
{
    struct fixture *fixture = *state;

    for (uint32_t turns = 0; turns < 2; turns++) {
        connect_anew(fixture);
        write_whole(fixture, turns == 0 ? LARGE : STREAM_WHOLE_MIN);
        run_turns(fixture->loop, turns);
        stream_close(&fixture->stream);
        run_turns(fixture->loop, 3);
        assert_int_equal(fixture->fails + fixture->drains, 0);
        assert_null(fixture->stream.out._base);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_what_the_kernel_takes_is_not_copied),
        TEST(test_few_bytes_wait_for_the_turn_s_end),
        TEST(test_what_the_kernel_does_not_take_goes_later),
        TEST(test_short_sends_and_interruptions_lose_nothing),
        TEST(test_it_comes_behind_what_is_unsent),
        TEST(test_failures_are_told_from_the_loop),
        TEST(test_reset_while_the_rest_waits),
        TEST(test_closed_it_tells_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
