/* Goal: a file goes out behind what was written, whole and in order, a piece a turn and no faster
 * than the peer takes it, and is told and closed once: when it is done, when it cannot be read,
 * when it is shorter than was said, and when the peer, or the stream, goes. */
#include "base/check.h"
#include "lib/fault.h"
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "net/stream.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FILE_SIZE = 3 * STREAM_FILE_TURN + 12345 };

/* A stream, its peer, a file, and what was told. */
struct fixture {
    struct loop *loop;
    struct buf_pool pool;
    struct stream stream;
    int peer;
    int file;       /* the test's own descriptor of it */
    uint32_t fds;   /* open ones, without the stream's copy of it */
    uint32_t files; /* calls of on_file */
    uint32_t fails; /* of on_fail */
    enum err err;   /* of on_file */
    bool answers;   /* on_file writes " end" */
    bool closes;    /* on_file closes the stream */
    size_t got;     /* bytes that the peer has read */
};

static void on_data(struct stream *stream)
{
    buf_consume(&stream->in, stream->in.len);
}

static void on_fail(struct stream *stream, enum err err)
{
    (void)err;
    CONTAINER_OF(stream, struct fixture, stream)->fails++;
}

static void on_file(struct stream *stream, enum err err)
{
    struct fixture *fixture = CONTAINER_OF(stream, struct fixture, stream);

    fixture->files++;
    fixture->err = err;
    assert_false(stream_is_sending(stream));
    if (fixture->answers)
        stream_write(stream, SPAN(" end"));
    if (fixture->closes)
        stream_close(stream);
}

static const struct stream_handler handler = {
    .on_data = on_data, .on_fail = on_fail, .on_file = on_file};

static struct fixture fixture_of_all;

/* What byte number `at` of the file is. */
static char byte_at(size_t at)
{
    return (char)(at * 31 + at / 251);
}

static int make_file(void)
{
    char *bytes = malloc(FILE_SIZE);
    int fd = memfd_create("file", MFD_CLOEXEC);

    assert_true(fd >= 0);
    for (size_t i = 0; i < FILE_SIZE; i++)
        bytes[i] = byte_at(i);
    assert_int_equal(write(fd, bytes, FILE_SIZE), FILE_SIZE);
    free(bytes);
    return fd;
}

static int set_up(void **state)
{
    struct fixture *fixture = &fixture_of_all;
    int fds[2];

    signal(SIGPIPE, SIG_IGN); /* NOLINT(bugprone-unused-return-value,cert-err33-c): it can be */
    memset(fixture, 0, sizeof *fixture);
    fixture->loop = loop_create(NULL);
    buf_pool_init(&fixture->pool, 8, NULL);
    pair_tcp(fds);
    fixture->peer = fds[1];
    stream_start(fixture->loop, &fixture->stream, fds[0], &fixture->pool, 1000, &handler);
    fixture->file = make_file();
    fixture->fds = open_fds();
    fault_reset();
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    fault_reset();
    stream_close(&fixture->stream);
    close_fd(&fixture->peer);
    close_fd(&fixture->file);
    buf_pool_deinit(&fixture->pool);
    loop_destroy(fixture->loop);
    return 0;
}

static void send_file(struct fixture *fixture, uint64_t offset, uint64_t length)
{
    int fd = dup(fixture->file);

    assert_true(fd >= 0);
    stream_send_file(&fixture->stream, fd, offset, length);
}

/* Reads what the peer has got so far: it must be the file from `offset` on. */
static void take(struct fixture *fixture, size_t offset)
{
    static char bytes[65536];
    ssize_t got;

    while ((got = recv(fixture->peer, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        for (ssize_t i = 0; i < got; i++)
            assert_int_equal(bytes[i], byte_at(offset + fixture->got + (size_t)i));
        fixture->got += (size_t)got;
    }
}

/* Takes until it was told. */
static void take_all(struct fixture *fixture, size_t offset)
{
    uint64_t end_us = loop_refresh_us(fixture->loop) + DRIVER_SECONDS * 1000000ull;

    while (fixture->files == 0 && loop_refresh_us(fixture->loop) < end_us) {
        loop_turn(fixture->loop, 1);
        take(fixture, offset);
    }
    take(fixture, offset);
}

static void expect(const struct fixture *fixture, enum err err)
{
    assert_int_equal(fixture->files, 1);
    assert_int_equal(fixture->err, err);
    assert_int_equal(open_fds(), fixture->fds);
}

static void test_whole(void **state)
{
    struct fixture *fixture = *state;

    send_file(fixture, 0, FILE_SIZE);
    assert_int_equal(fixture->files, 0); /* not from inside the call */
    take_all(fixture, 0);
    expect(fixture, ERR_OK);
    assert_int_equal(fixture->got, FILE_SIZE);
    assert_int_equal(fixture->stream.sent, FILE_SIZE);
    assert_true(fault_calls(FAULT_SENDFILE) >= 4);
    run_turns(fixture->loop, 3);
    assert_int_equal(fixture->files, 1);
}

static void test_a_part_behind_what_was_written(void **state)
{
    struct fixture *fixture = *state;
    char text[64];

    stream_write(&fixture->stream, SPAN("head "));
    send_file(fixture, 1000, 3);
    assert_true(stream_is_sending(&fixture->stream));
    fixture->answers = true;
    run_until_count(fixture->loop, &fixture->files, 1);
    run_turns(fixture->loop, 1);
    assert_int_equal(peer_read(fixture->peer, text, sizeof text, NULL), 12);
    assert_memory_equal(text, "head ", 5);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(text[5 + i], byte_at(1000 + i));
    assert_memory_equal(text + 8, " end", 4);
    expect(fixture, ERR_OK);
    assert_int_equal(fault_calls(FAULT_SENDFILE), 1);
}

static void test_a_piece_a_turn(void **state)
{
    struct fixture *fixture = *state;
    uint32_t calls = 0;

    send_file(fixture, 0, FILE_SIZE);
    while (fixture->files == 0) {
        run_turns(fixture->loop, 1);
        assert_true(fault_calls(FAULT_SENDFILE) <= calls + 1);
        calls = fault_calls(FAULT_SENDFILE);
        take(fixture, 0);
    }
    expect(fixture, ERR_OK);
}

/* The peer takes nothing: the loop sleeps until it does. */
static void test_as_fast_as_the_peer_takes_it(void **state)
{
    struct fixture *fixture = *state;
    uint32_t calls = 0;

    assert_int_equal(ftruncate(fixture->file, 64 << 20), 0);
    send_file(fixture, 0, 64 << 20);
    for (uint32_t i = 0; i < 2000 && fault_calls(FAULT_SENDFILE) > calls; i++) {
        calls = fault_calls(FAULT_SENDFILE);
        loop_turn(fixture->loop, 50);
    }
    assert_int_equal(fault_calls(FAULT_SENDFILE), calls);
    assert_true(fixture->stream.sent < 64 << 20);
    assert_int_equal(fixture->files, 0);
    assert_int_equal(open_fds(), fixture->fds + 1);
}

static void test_pieces_of_any_size(void **state)
{
    struct fixture *fixture = *state;

    fault_limit_bytes(FAULT_SENDFILE, 4099);
    send_file(fixture, 7, FILE_SIZE - 7);
    take_all(fixture, 7);
    expect(fixture, ERR_OK);
    assert_int_equal(fixture->got, FILE_SIZE - 7);
}

/* For some files there is no sendfile(). */
static void test_copied(void **state)
{
    struct fixture *fixture = *state;

    fault_plan(FAULT_SENDFILE, 1, 1, EINVAL);
    fault_limit_bytes(FAULT_SENDFILE, 100);
    fault_limit_bytes(FAULT_SEND, 50000);
    send_file(fixture, 0, FILE_SIZE);
    take_all(fixture, 0);
    expect(fixture, ERR_OK);
    assert_int_equal(fixture->got, FILE_SIZE);
    assert_int_equal(fault_calls(FAULT_SENDFILE), 2);
}

static void test_interrupted(void **state)
{
    struct fixture *fixture = *state;

    fault_plan(FAULT_SENDFILE, 0, 3, EINTR);
    send_file(fixture, 0, 10);
    take_all(fixture, 0);
    expect(fixture, ERR_OK);
    assert_int_equal(fixture->got, 10);
}

static void test_shorter_than_was_said(void **state)
{
    struct fixture *fixture = *state;

    send_file(fixture, 10, FILE_SIZE);
    take_all(fixture, 10);
    expect(fixture, ERR_NOT_FOUND);
    assert_int_equal(fixture->got, FILE_SIZE - 10);
    assert_int_equal(fixture->fails, 0);
}

static void test_shorter_and_copied(void **state)
{
    struct fixture *fixture = *state;

    fault_plan(FAULT_SENDFILE, 0, 1, ENOSYS);
    send_file(fixture, 10, FILE_SIZE);
    take_all(fixture, 10);
    expect(fixture, ERR_NOT_FOUND);
    assert_int_equal(fixture->got, FILE_SIZE - 10);
}

static void test_a_disk_that_fails(void **state)
{
    struct fixture *fixture = *state;

    fault_plan(FAULT_SENDFILE, 1, 1, EIO);
    send_file(fixture, 0, FILE_SIZE);
    take_all(fixture, 0);
    expect(fixture, ERR_IO);
    assert_int_equal(fixture->fails, 0);
}

static void test_a_disk_that_fails_while_it_is_copied(void **state)
{
    struct fixture *fixture = *state;

    fault_plan(FAULT_SENDFILE, 0, 1, EINVAL);
    fault_plan(FAULT_PREAD, 1, 1, EIO);
    send_file(fixture, 0, FILE_SIZE);
    take_all(fixture, 0);
    expect(fixture, ERR_IO);
    assert_int_equal(fixture->got, 65536);
}

static void test_a_peer_that_goes(void **state)
{
    struct fixture *fixture = *state;

    send_file(fixture, 0, FILE_SIZE);
    run_turns(fixture->loop, 1);
    close_with_reset(&fixture->peer);
    run_until_count(fixture->loop, &fixture->fails, 1);
    assert_int_equal(fixture->files, 0);
    assert_int_equal(open_fds(), fixture->fds - 1); /* the peer's, too */
    send_file(fixture, 0, 1);                       /* only closed */
    assert_int_equal(open_fds(), fixture->fds - 1);
    run_turns(fixture->loop, 3);
    assert_int_equal(fixture->files, 0);
}

static void test_a_broken_pipe(void **state)
{
    struct fixture *fixture = *state;

    fault_plan(FAULT_SENDFILE, 0, 1, EPIPE);
    send_file(fixture, 0, FILE_SIZE);
    run_turns(fixture->loop, 1);
    assert_int_equal(open_fds(), fixture->fds);
    assert_int_equal(fixture->files, 0);
    assert_false(stream_is_sending(&fixture->stream));
    close_fd(&fixture->peer);
    run_until_count(fixture->loop, &fixture->fails, 1);
}

static void test_closed_meanwhile(void **state)
{
    struct fixture *fixture = *state;

    send_file(fixture, 0, FILE_SIZE);
    run_turns(fixture->loop, 1);
    stream_close(&fixture->stream);
    assert_int_equal(open_fds(), fixture->fds - 1);
    run_turns(fixture->loop, 3);
    assert_int_equal(fixture->files, 0);
}

static void test_closed_by_who_is_told(void **state)
{
    struct fixture *fixture = *state;

    fixture->closes = true;
    send_file(fixture, 0, FILE_SIZE);
    take_all(fixture, 0);
    assert_int_equal(fixture->files, 1);
    assert_int_equal(open_fds(), fixture->fds - 1);
    run_turns(fixture->loop, 3);
}

/* FIN follows the file. */
static void test_shut_behind_it(void **state)
{
    struct fixture *fixture = *state;
    char text[64];
    bool is_end = false;

    send_file(fixture, 0, 20);
    stream_shutdown(&fixture->stream);
    run_until_count(fixture->loop, &fixture->files, 1);
    run_turns(fixture->loop, 2);
    assert_int_equal(peer_read(fixture->peer, text, sizeof text, NULL), 20);
    (void)peer_read(fixture->peer, text, sizeof text, &is_end);
    assert_true(is_end);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_whole),
        TEST(test_a_part_behind_what_was_written),
        TEST(test_a_piece_a_turn),
        TEST(test_as_fast_as_the_peer_takes_it),
        TEST(test_pieces_of_any_size),
        TEST(test_copied),
        TEST(test_interrupted),
        TEST(test_shorter_than_was_said),
        TEST(test_shorter_and_copied),
        TEST(test_a_disk_that_fails),
        TEST(test_a_disk_that_fails_while_it_is_copied),
        TEST(test_a_peer_that_goes),
        TEST(test_a_broken_pipe),
        TEST(test_closed_meanwhile),
        TEST(test_closed_by_who_is_told),
        TEST(test_shut_behind_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
