/* Goal: an answer in gzip that is streamed comes decoded, however it is cut and framed, at constant
 *       memory and up to its limit; who sends it is held up while nobody pulls; what is wrong with
 *       it is told behind what was good, also where that is found when the call is over; and it can
 *       be given up in each state. */
#include "lib/fault.h"
#include "unit/upstream/pack.h"
#include "unit/upstream/place.h"
#include "upstream/flow.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* The most that a pull brings of gzip. */
enum { PULL_MAX = FLOW_HIGH };

enum framing { BY_LENGTH, BY_CHUNKS, BY_CLOSE, FRAMINGS };

static struct op *open_decoded(struct place *place)
{
    const struct upstream_call what = {.path = SPAN("/quote"), .flags = UPSTREAM_DECODE};

    return upstream_stream(place->scope, place->upstream, &what);
}

static void send_head(int fd, enum framing framing, size_t size)
{
    static const char *const fields[] = {[BY_LENGTH] = "Content-Length: %zu\r\n",
                                         [BY_CHUNKS] = "Transfer-Encoding: chunked\r\n",
                                         [BY_CLOSE] = ""};
    char field[64], text[200];

    snprintf(field, sizeof field, fields[framing], size);
    snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n%sX-A: b\r\n\r\n",
             field);
    peer_send(fd, text);
}

static void send_bytes(struct place *place, int fd, struct span bytes)
{
    while (bytes.len > 0) {
        ssize_t sent = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent > 0) {
            bytes.ptr += sent;
            bytes.len -= (size_t)sent;
        }
        run_turns(place->world.loop, 1);
    }
}

static void send_part(struct place *place, int fd, enum framing framing, struct span bytes)
{
    char size[24];

    if (framing == BY_CHUNKS) {
        snprintf(size, sizeof size, "%zx\r\n", bytes.len);
        peer_send(fd, size);
    }
    send_bytes(place, fd, bytes);
    if (framing == BY_CHUNKS)
        peer_send(fd, "\r\n");
}

static void send_end(int *fd, enum framing framing)
{
    if (framing == BY_CHUNKS)
        peer_send(*fd, "0\r\nX-Sum: 1\r\n\r\n");
    else if (framing == BY_CLOSE)
        close_fd(fd);
}

/* Pulls until it ends or fails; `all` gets what comes. The last pull. */
static struct op *pull_all(struct place *place, struct op *stream, struct buf *all)
{
    for (;;) {
        struct op *pull = upstream_read(stream);

        place_run(place, pull);
        if (pull->status != ERR_OK || pull->piece.ptr == NULL)
            return pull;
        assert_in_range(pull->piece.len, 1, PULL_MAX);
        assert_int_equal(pull->piece.ptr[pull->piece.len], '\0');
        buf_append(all, pull->piece);
    }
}

static void assert_whole(struct place *place, struct op *stream, struct span text)
{
    struct buf all = {0};
    struct op *last = pull_all(place, stream, &all);

    if (last->status != ERR_OK)
        fail_msg("%s: %.*s", err_name(last->status), SPAN_ARG(last->error));
    assert_int_equal(all.len, text.len);
    assert_memory_equal(all.data, text.ptr, text.len);
    buf_release(&all);
}

static void assert_failed(struct place *place, struct op *stream, enum err err, const char *reason)
{
    struct op *pull = upstream_read(stream);

    place_run(place, pull);
    if (pull->status != err || strcmp(place->scope->reason, reason) != 0)
        fail_msg("%s, %s: %.*s", err_name(pull->status), place->scope->reason,
                 SPAN_ARG(pull->error));
    assert_int_equal(strncmp(pull->error.ptr, "upstream partner: ", 18), 0);
}

static void assert_open(struct place *place, struct op *op)
{
    place_run(place, op);
    assert_int_equal(op->status, ERR_OK);
    assert_int_equal(upstream_code(op), 200);
}

/* One answer, all of it sent by the time that somebody pulls; the peer's end. */
static int answer(struct place *place, struct op **op, struct span packed)
{
    int fd;

    *op = open_decoded(place);
    fd = place_take_call(place);
    send_head(fd, BY_LENGTH, packed.len);
    assert_open(place, *op);
    send_bytes(place, fd, packed);
    run_turns(place->world.loop, 10);
    return fd;
}

/* ---- done ---- */

static void test_cut_at_each_byte(void **state)
{
    struct place *place = *state;
    const struct span text = SPAN("hello hello hello hello, and so on");
    struct span packed = pack(text);

    for (enum framing framing = 0; framing < FRAMINGS; framing++) {
        for (size_t cut = 0; cut <= packed.len; cut++) {
            struct op *op = open_decoded(place);
            int fd = place_take_call(place);

            assert_non_null(strstr(place->text, "\r\nAccept-Encoding: gzip\r\n"));
            send_head(fd, framing, packed.len);
            if (cut > 0)
                send_part(place, fd, framing, (struct span){packed.ptr, cut});
            run_turns(place->world.loop, 2);
            if (cut < packed.len)
                send_part(place, fd, framing, (struct span){packed.ptr + cut, packed.len - cut});
            send_end(&fd, framing);
            assert_open(place, op);
            assert_int_equal(upstream_fields(op)->count, framing == BY_CHUNKS ? 2 : 1);
            assert_whole(place, op, text);
            assert_int_equal(upstream_trailers(op)->count, framing == BY_CHUNKS);
            close_fd(&fd);
            place_renew_scope(place, 0);
            run_turns(place->world.loop, 2);
        }
    }
    assert_int_equal(place->counts->failed, 0);
    free((char *)packed.ptr);
}

/* A byte at a time, with a pull that waits. */
static void test_byte_by_byte(void **state)
{
    struct place *place = *state;
    const struct span text = SPAN("hello hello hello hello, and so on");
    struct span packed = pack(text);
    struct op *op = open_decoded(place);
    int fd = place_take_call(place);
    struct buf all = {0};
    struct op *pull = upstream_read(op);

    send_head(fd, BY_LENGTH, packed.len);
    for (size_t i = 0; i < packed.len; i++) {
        send_bytes(place, fd, (struct span){packed.ptr + i, 1});
        run_turns(place->world.loop, 3);
        if (pull->state == OP_PENDING)
            continue;
        assert_int_equal(pull->status, ERR_OK);
        buf_append(&all, pull->piece);
        pull = upstream_read(op);
    }
    place_run(place, pull);
    if (pull->piece.ptr != NULL)
        buf_append(&all, pull->piece);
    assert_int_equal(all.len, text.len);
    assert_memory_equal(all.data, text.ptr, text.len);
    assert_int_equal(place->counts->idle, 1);
    buf_release(&all);
    close_fd(&fd);
    free((char *)packed.ptr);
}

/* What is no gzip, or not only, comes as it is; and a body without a byte is one. */
static void test_as_it_is(void **state)
{
    static const struct {
        const char *head, *body;
        uint32_t fields;
    } cases[] = {
        {"Content-Length: 2\r\n", "hi", 1},
        {"Content-Length: 2\r\nContent-Encoding: br\r\n", "hi", 2},
        {"Content-Length: 2\r\nContent-Encoding: gzip\r\nContent-Encoding: gzip\r\n", "hi", 3},
        {"Content-Length: 2\r\nContent-Encoding: gzip, gzip\r\n", "hi", 2},
        {"Content-Length: 0\r\nContent-Encoding: gzip\r\n", "", 2},
        {"Transfer-Encoding: chunked\r\nContent-Encoding: x-gzip\r\n", "0\r\n\r\n", 1},
    };
    struct place *place = *state;
    int fd = -1;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct op *op = open_decoded(place);
        char text[200];

        if (fd < 0)
            fd = peer_accept(&place->peer);
        peer_request(&place->peer, fd, place->text, sizeof place->text);
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\n%s\r\n%s", cases[i].head, cases[i].body);
        peer_send(fd, text);
        assert_open(place, op);
        assert_int_equal(upstream_fields(op)->count, cases[i].fields);
        assert_whole(place, op, SPAN("hi").len == strlen(cases[i].body) ? SPAN("hi") : SPAN(""));
    }
    assert_int_equal(place->counts->failed, 0);
    assert_int_equal(place->counts->connects, 1);
    close_fd(&fd);
}

/* Noise does not shrink: its sender is held up by what nobody pulls. */
static void test_backpressure(void **state)
{
    enum { SIZE = 24 << 20, QUIET_TURNS = 50 };
    struct place *place = *state;
    char *noise = pack_noise(SIZE);
    struct span packed = pack((struct span){noise, SIZE});
    struct op *op = open_decoded(place), *pull = NULL;
    int fd = place_take_call(place), quiet = 0;
    size_t sent = 0, pulled = 0;

    send_head(fd, BY_LENGTH, packed.len);
    assert_open(place, op);
    while (quiet < QUIET_TURNS) {
        ssize_t got = send(fd, packed.ptr + sent, packed.len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        sent += got > 0 ? (size_t)got : 0;
        quiet = got > 0 ? 0 : quiet + 1;
        run_turns(place->world.loop, 1);
    }
    assert_in_range(sent, FLOW_HIGH, 20 << 20); /* what the kernel buffers, but not all */
    while (pulled < SIZE) {
        pull = upstream_read(op);
        while (pull->state == OP_PENDING) {
            ssize_t got =
                send(fd, packed.ptr + sent, packed.len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

            sent += got > 0 ? (size_t)got : 0;
            run_turns(place->world.loop, 1);
        }
        assert_int_equal(pull->status, ERR_OK);
        assert_in_range(pull->piece.len, 1, PULL_MAX);
        assert_memory_equal(pull->piece.ptr, noise + pulled, pull->piece.len);
        pulled += pull->piece.len;
    }
    assert_whole(place, op, SPAN(""));
    assert_int_equal(place->counts->idle, 1);
    assert_true(place->scope->held < 100000);
    close_fd(&fd);
    free((char *)packed.ptr);
    free(noise);
}

/* 64 MB come as 64 KB, which are here at once: they come out bit by bit, while their connection
 * serves others. */
static void test_bomb_at_constant_memory(void **state)
{
    enum { SIZE = 64 << 20 };
    struct place *place = *state;
    char *zeros = calloc(1, SIZE);
    struct span packed = pack((struct span){zeros, SIZE});
    size_t pulled = 0, pulls = 0;
    struct op *op, *pull;
    int fd = answer(place, &op, packed);

    while (place->counts->idle == 0) { /* until all of it is here */
        pull = upstream_read(op);
        place_run(place, pull);
        assert_in_range(pull->piece.len, 1, PULL_MAX);
        pulled += pull->piece.len;
        run_turns(place->world.loop, 3);
    }
    assert_in_range(pulled, 1, SIZE - (4 << 20)); /* much is still to come out */
    pull = place_get(place);
    peer_request(&place->peer, fd, place->text, sizeof place->text);
    peer_send(fd, OK_HI);
    place_assert_answer(place, pull, 200, "hi");
    for (pull = upstream_read(op); pull->piece.ptr != NULL; pull = upstream_read(op)) {
        assert_in_range(pull->piece.len, 1, PULL_MAX);
        pulled += pull->piece.len;
        pulls++;
        run_turns(place->world.loop, 1);
    }
    assert_int_equal(pull->status, ERR_OK);
    assert_int_equal(pulled, SIZE);
    assert_true(pulls >= (4 << 20) / PULL_MAX);
    assert_int_equal(place->counts->reused, 1);
    assert_int_equal(place->counts->failed, 0);
    close_fd(&fd);
    free((char *)packed.ptr);
    free(zeros);
}

/* ---- failed ---- */

static void test_limit(void **state)
{
    static const size_t limits[] = {1, 1000, FLOW_HIGH, FLOW_HIGH + 1, 299999, 300000};
    enum { SIZE = 300000 };
    struct place *place = *state;
    char *text = pack_text(SIZE);
    struct span packed = pack((struct span){text, SIZE});

    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct buf all = {0};
        struct op *op, *last;
        uint64_t failed = place->counts->failed;
        int fd;

        place->options.decoded_bytes_max = limits[i];
        fd = answer(place, &op, packed);
        last = pull_all(place, op, &all);
        assert_int_equal(all.len, limits[i]);
        assert_memory_equal(all.data, text, limits[i]);
        if (limits[i] == SIZE) {
            assert_int_equal(last->status, ERR_OK);
        } else {
            assert_failed(place, op, ERR_UP_TOO_BIG, "upstream_body_too_big");
            assert_non_null(strstr(last->error.ptr, "decoded_max"));
        }
        assert_int_equal(place->counts->failed, failed + (limits[i] != SIZE));
        assert_int_equal(place->counts->failures[UPSTREAM_BODY_TOO_BIG],
                         failed + (limits[i] != SIZE));
        assert_int_equal(place->counts->calls, i + 1);
        buf_release(&all);
        close_fd(&fd);
        place_renew_scope(place, 0);
        run_turns(place->world.loop, 3);
    }
    free((char *)packed.ptr);
    free(text);
}

/* What is wrong with `packed`, however soon it is met: what was good comes first. `good`: so many
 * bytes at least. */
static void check_wrong(struct place *place, struct span packed, size_t good)
{
    uint64_t failed = place->counts->failed, calls = place->counts->calls;
    struct buf all = {0};
    struct op *op, *last;
    int fd = answer(place, &op, packed);

    last = pull_all(place, op, &all);
    assert_int_equal(last->status, ERR_UP_RESET);
    assert_true(all.len >= good);
    assert_failed(place, op, ERR_UP_RESET, "upstream_protocol");
    assert_failed(place, op, ERR_UP_RESET, "upstream_protocol"); /* and again */
    assert_int_equal(place->counts->failed, failed + 1);
    assert_int_equal(place->counts->calls, calls + 1);
    assert_int_equal(place->counts->retried, 0);
    buf_release(&all);
    close_fd(&fd);
    place_renew_scope(place, 0);
    run_turns(place->world.loop, 3);
    assert_int_equal(place->counts->connections, 0);
}

/* Small ones are found out as they come, in large ones the last bytes wait for a pull. */
static void test_what_is_wrong(void **state)
{
    static const size_t sizes[] = {0, 10, 300000};
    struct place *place = *state;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *text = pack_text(300000);
        struct span packed = pack((struct span){text, sizes[i]});
        struct buf bytes = {0};

        buf_append(&bytes, packed);
        buf_append(&bytes, SPAN("\r\n"));
        check_wrong(place, buf_span(&bytes), sizes[i]); /* something behind it */
        check_wrong(place, (struct span){bytes.data, packed.len - 1}, sizes[i]); /* cut off */
        bytes.data[packed.len - 5] ^= 1;                                         /* its checksum */
        check_wrong(place, (struct span){bytes.data, packed.len}, sizes[i]);
        bytes.data[packed.len - 5] ^= 1;
        bytes.data[packed.len - 1] ^= 1; /* its length */
        check_wrong(place, (struct span){bytes.data, packed.len}, sizes[i]);
        bytes.data[1] ^= 1; /* its magic */
        check_wrong(place, (struct span){bytes.data, packed.len}, 0);
        buf_release(&bytes);
        free((char *)packed.ptr);
        free(text);
    }
}

static void test_broken_off(void **state)
{
    struct place *place = *state;
    char *noise = pack_noise(300);
    struct span packed = pack((struct span){noise, 300});

    for (int i = 0; i < 2; i++) {
        struct op *op = open_decoded(place);
        int fd = place_take_call(place);
        struct buf all = {0};
        struct op *last;

        send_head(fd, BY_LENGTH, packed.len);
        assert_open(place, op);
        send_bytes(place, fd, (struct span){packed.ptr, packed.len - 1});
        run_turns(place->world.loop, 5);
        if (i == 0)
            close_fd(&fd);
        else
            close_with_reset(&fd);
        last = pull_all(place, op, &all);
        assert_int_equal(last->status, ERR_UP_RESET);
        assert_int_equal(all.len, 300);
        assert_failed(place, op, ERR_UP_RESET, "upstream_reset");
        assert_int_equal(place->counts->failed, i + 1);
        buf_release(&all);
    }
    free((char *)packed.ptr);
    free(noise);
}

/* ---- timed out ---- */

static void test_pause_between_bytes(void **state)
{
    struct place *place = *state;
    struct span packed = pack(SPAN("hello"));
    struct op *op = open_decoded(place);
    int fd = place_take_call(place);

    send_head(fd, BY_LENGTH, packed.len);
    assert_open(place, op);
    send_bytes(place, fd, (struct span){packed.ptr, 11}); /* not a letter yet */
    (void)upstream_read(op);
    fake_clock_walk(&place->world.clock, place->world.loop, 150);
    assert_failed(place, op, ERR_UP_TIMEOUT, "upstream_between_bytes_timeout");
    close_fd(&fd);
    free((char *)packed.ptr);
}

/* Nobody pulls what waits. */
static void test_stands_still(void **state)
{
    enum { SIZE = 400000 };
    struct place *place = *state;
    char *noise = pack_noise(SIZE);
    struct span packed = pack((struct span){noise, SIZE});
    struct buf all = {0};
    struct op *op;
    int fd;

    place->options.stream_timeout_ms = 5000;
    op = open_decoded(place);
    fd = place_take_call(place);
    send_head(fd, BY_LENGTH, packed.len);
    assert_open(place, op);
    (void)send(fd, packed.ptr, packed.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    fake_clock_walk(&place->world.clock, place->world.loop, 4000); /* paused: no other limit */
    assert_int_equal(place->counts->failed, 0);
    fake_clock_walk(&place->world.clock, place->world.loop, 2000);
    assert_int_equal(place->counts->failed, 1);
    assert_int_equal(place->counts->connections, 0);
    (void)pull_all(place, op, &all); /* what came */
    assert_true(all.len >= FLOW_HIGH);
    assert_memory_equal(all.data, noise, all.len);
    assert_failed(place, op, ERR_DEADLINE, "upstream_stream_timeout");
    buf_release(&all);
    close_fd(&fd);
    free((char *)packed.ptr);
    free(noise);
}

/* ---- canceled ---- */

/* In each state: nothing, some of a head of gzip, something to pull, much that waits, all of it
 * here; by the op, by its release, by the scope. */
static void test_given_up_anywhere(void **state)
{
    enum { SIZE = 4 << 20, WAYS = 3, PLACES = 5 };
    struct place *place = *state;
    char *zeros = calloc(1, SIZE);
    struct span packed = pack((struct span){zeros, SIZE});
    const size_t sent[PLACES] = {0, 5, 40, packed.len - 1, packed.len};

    for (size_t i = 0; i < PLACES * WAYS; i++) {
        struct op *op = open_decoded(place), *pull;
        int fd = place_take_call(place);

        send_head(fd, BY_LENGTH, packed.len);
        assert_open(place, op);
        send_bytes(place, fd, (struct span){packed.ptr, sent[i % PLACES]});
        run_turns(place->world.loop, 5);
        pull = upstream_read(op);
        if (i / PLACES == 0)
            assert_int_equal(op_release(op), ERR_OK);
        else if (i / PLACES == 1)
            scope_cancel(place->scope, SCOPE_CLIENT_GONE);
        else
            place_renew_scope(place, 0);
        if (i / PLACES < 2)
            assert_int_not_equal(pull->state, OP_PENDING);
        place_renew_scope(place, 0);
        close_fd(&fd);
        run_turns(place->world.loop, 3);
        assert_int_equal(place->counts->connections, 0);
        assert_int_equal(place->counts->failed, 0);
    }
    free((char *)packed.ptr);
    free(zeros);
}

/* A pull alone: nothing is lost. */
static void test_pull_canceled(void **state)
{
    struct place *place = *state;
    const struct span text = SPAN("hello hello hello hello, and so on");
    struct span packed = pack(text);
    struct op *op = open_decoded(place);
    int fd = place_take_call(place);

    send_head(fd, BY_LENGTH, packed.len);
    assert_open(place, op);
    for (size_t i = 0; i < packed.len; i++) {
        struct op *pull = NULL;

        if (i < 5)
            pull = upstream_read(op);
        send_bytes(place, fd, (struct span){packed.ptr + i, 1});
        if (pull != NULL)
            op_cancel(pull);
    }
    assert_whole(place, op, text);
    close_fd(&fd);
    free((char *)packed.ptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, place_set_up, place_tear_down)
        TEST(test_cut_at_each_byte),
        TEST(test_byte_by_byte),
        TEST(test_as_it_is),
        TEST(test_backpressure),
        TEST(test_bomb_at_constant_memory),
        TEST(test_limit),
        TEST(test_what_is_wrong),
        TEST(test_broken_off),
        TEST(test_pause_between_bytes),
        TEST(test_stands_still),
        TEST(test_given_up_anywhere),
        TEST(test_pull_canceled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
