/* Goal: whatever a server answers, and however its bytes come, an exchange ends once, with what the
 *       table says, and the connection is kept only where the next answer cannot be mistaken. */
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "net/stream.h"
#include "upstream/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BODY_MAX = 64 };

/* A connection with an exchange on it, and what was told of it. */
struct place {
    struct fake_clock clock;
    struct loop *loop;
    struct buf_pool buffers;
    struct upstream_options options;
    struct exchange_shared shared;
    struct stream stream;
    struct exchange exchange;
    int peer;
    uint32_t heads; /* on_head */
    uint32_t code;
    char body[BODY_MAX + 1];
    size_t body_len;
    uint32_t done; /* on_done */
    enum err err;
};

static enum err on_head(struct exchange *exchange, const struct http_head *head)
{
    struct place *place = exchange->user;

    assert_int_equal(place->done, 0);
    place->heads++;
    place->code = head->code;
    return ERR_OK;
}

static enum err on_body(struct exchange *exchange, struct span bytes)
{
    struct place *place = exchange->user;

    assert_int_equal(place->heads, 1);
    assert_int_equal(place->done, 0);
    assert_int_not_equal(bytes.len, 0);
    if (place->body_len + bytes.len > BODY_MAX)
        return ERR_TOO_BIG;
    memcpy(place->body + place->body_len, bytes.ptr, bytes.len);
    place->body_len += bytes.len;
    place->body[place->body_len] = '\0';
    return ERR_OK;
}

static void on_done(struct exchange *exchange, enum err err)
{
    struct place *place = exchange->user;

    place->done++;
    place->err = err;
}

static const struct exchange_handler handler = {
    .on_head = on_head,
    .on_body = on_body,
    .on_done = on_done,
};

/* As origin.c does: an exchange hears of the stream while it is under way. */

static void on_data(struct stream *stream)
{
    struct place *place = CONTAINER_OF(stream, struct place, stream);

    if (place->done == 0)
        exchange_on_data(&place->exchange);
}

static void on_end(struct stream *stream)
{
    struct place *place = CONTAINER_OF(stream, struct place, stream);

    if (place->done == 0)
        exchange_on_end(&place->exchange);
}

static void on_fail(struct stream *stream, enum err err)
{
    struct place *place = CONTAINER_OF(stream, struct place, stream);

    if (place->done == 0)
        exchange_on_fail(&place->exchange, err);
}

static const struct stream_handler stream_handler = {
    .on_data = on_data,
    .on_end = on_end,
    .on_fail = on_fail,
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);

    place->loop = fake_clock_loop(&place->clock);
    buf_pool_init(&place->buffers, 4, NULL);
    place->options.first_byte_timeout_ms = 300;
    place->options.write_timeout_ms = 300;
    place->options.between_bytes_timeout_ms = 100;
    place->options.body_bytes_max = BODY_MAX;
    place->shared.loop = place->loop;
    place->shared.options = &place->options;
    place->shared.head = http_head_create(EXCHANGE_FIELDS_MAX);
    place->shared.limits = (struct http_parser_limits){
        .head_bytes_max = 1024, .trailer_bytes_max = 1024, .excess_bytes_max = HTTP_EXCESS_BYTES};
    place->stream.fd = -1;
    place->peer = -1;
    *state = place;
    return 0;
}

static void disconnect(struct place *place)
{
    exchange_stop(&place->exchange);
    stream_close(&place->stream);
    close_fd(&place->peer);
}

static int tear_down(void **state)
{
    struct place *place = *state;

    disconnect(place);
    http_head_destroy(place->shared.head);
    buf_pool_deinit(&place->buffers);
    loop_destroy(place->loop);
    free(place);
    return 0;
}

static void connect_with(struct place *place, void (*pair)(int fds[2]))
{
    int fds[2];

    disconnect(place);
    pair(fds);
    place->peer = fds[1];
    stream_start(place->loop, &place->stream, fds[0], &place->buffers, 32768, &stream_handler);
    exchange_init(&place->exchange, &place->shared, &place->stream);
}

/* Sends a request, which the peer reads. */
static void ask(struct place *place, bool is_head)
{
    char text[64];

    place->heads = place->code = place->done = 0;
    place->body_len = 0;
    place->body[0] = '\0';
    place->err = ERR_OK;
    exchange_start(&place->exchange, SPAN("GET / HTTP/1.1\r\n\r\n"), is_head, &handler, place);
    run_turns(place->loop, 1);
    assert_int_equal(peer_read(place->peer, text, sizeof text, NULL), 18);
    assert_string_equal(text, "GET / HTTP/1.1\r\n\r\n");
    assert_int_equal(exchange_written(&place->exchange), 18);
}

static void say(struct place *place, const char *bytes, size_t len)
{
    if (len == 0)
        return;
    assert_int_equal(send(place->peer, bytes, len, MSG_NOSIGNAL), len);
    run_turns(place->loop, 2);
}

static void hang_up(struct place *place)
{
    close_fd(&place->peer);
    run_turns(place->loop, 3);
}

/* The connection may carry another exchange; the request was a HEAD; the peer closes behind it. */
enum { KEPT = 1, HEADS = 2, ENDS = 4 };

/* What a peer says, and what becomes of it. */
struct answer {
    const char *bytes;
    uint32_t code;      /* 0: no head was handed on */
    const char *body;   /* what was handed on of it; NULL: some */
    enum err err;       /* ERR_OK: complete */
    const char *reason; /* of a failure */
    uint32_t flags;     /* KEPT, HEADS, ENDS */
};

static const struct answer answers[] = {
    /* framing */
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", ERR_OK, NULL, KEPT},
    {"HTTP/1.1 200 OK\r\ncontent-length:5 \r\n\r\nhello", 200, "hello", ERR_OK, NULL, KEPT},
    {"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, "", ERR_OK, NULL, KEPT},
    {"HTTP/1.1 503 Nope\r\nContent-Length: 2\r\n\r\nno", 503, "no", ERR_OK, NULL, KEPT},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", 200,
     "hello", ERR_OK, NULL, KEPT},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
     200, "hello", ERR_OK, NULL, KEPT},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, "", ERR_OK, NULL, KEPT},
    {"HTTP/1.1 200 OK\r\n\r\nhello", 200, "hello", ERR_OK, NULL, ENDS},
    {"HTTP/1.1 200 OK\r\n\r\n", 200, "", ERR_OK, NULL, ENDS},
    {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", 200, "hello", ERR_OK, NULL, ENDS},
    {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", ERR_OK,
     NULL, 0},
    {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", ERR_OK, NULL, 0},
    {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", 200, "hello",
     ERR_OK, NULL, KEPT},
    {"HTTP/1.0 200 OK\r\n\r\nhello", 200, "hello", ERR_OK, NULL, ENDS},
    /* answers without a body, whatever they say */
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, "", ERR_OK, NULL, KEPT | HEADS},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, "", ERR_OK, NULL, KEPT | HEADS},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, "", ERR_OK, NULL, KEPT},
    {"HTTP/1.1 204 No Content\r\n\r\n", 204, "", ERR_OK, NULL, KEPT},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, "", ERR_OK, NULL, KEPT},
    /* interim answers */
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi",
     ERR_OK, NULL, KEPT},
    {"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 P\r\n\r\n"
     "HTTP/1.1 204 No Content\r\n\r\n",
     204, "", ERR_OK, NULL, KEPT},
    {"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, "", ERR_OK, NULL,
     KEPT | HEADS},
    {"HTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\n"
     "HTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\n"
     "HTTP/1.1 204 \r\n\r\n",
     204, "", ERR_OK, NULL, KEPT},
    {"HTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\n"
     "HTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\n"
     "HTTP/1.1 102 \r\n\r\n",
     0, "", ERR_PROTOCOL, "upstream_protocol", 0},
    {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 0, "",
     ERR_PROTOCOL, "upstream_protocol", 0},
    {"HTTP/1.1 100 Continue\r\n\r\n", 0, "", ERR_CLOSED, "upstream_reset", ENDS},
    /* cut off */
    {"", 0, "", ERR_CLOSED, "upstream_reset", ENDS},
    {"HTTP/1.1 200 OK\r\nContent-", 0, "", ERR_CLOSED, "upstream_reset", ENDS},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", 200, "hell", ERR_CLOSED, "upstream_reset",
     ENDS},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 200, "hello",
     ERR_CLOSED, "upstream_reset", ENDS},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", 200, "hello",
     ERR_CLOSED, "upstream_reset", ENDS},
    /* what breaks the protocol */
    {"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n", 0, "", ERR_PROTOCOL, "upstream_protocol", 0},
    {"HTTP/2.0 200 OK\r\n\r\n", 0, "", ERR_PROTOCOL, "upstream_protocol", 0},
    {"HTTP/1.1 099 OK\r\n\r\n", 0, "", ERR_PROTOCOL, "upstream_protocol", 0},
    {"HTTP/1.1 600 OK\r\n\r\n", 0, "", ERR_PROTOCOL, "upstream_protocol", 0},
    {"HTTP/1.1 200 OK\nContent-Length: 0\n\n", 0, "", ERR_PROTOCOL, "upstream_protocol", 0},
    {"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", 0, "", ERR_PROTOCOL,
     "upstream_protocol", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 0, "", ERR_PROTOCOL,
     "upstream_protocol", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, "", ERR_PROTOCOL, "upstream_protocol", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "",
     ERR_PROTOCOL, "upstream_protocol", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 0, "", ERR_PROTOCOL,
     "upstream_protocol", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 200, "", ERR_PROTOCOL,
     "upstream_protocol", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", 200, "hello",
     ERR_PROTOCOL, "upstream_protocol", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n", 200, "", ERR_PROTOCOL,
     "upstream_protocol", 0},
    /* too much */
    {"HTTP/1.1 200 OK\r\n\r\n"
     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef!",
     200, NULL, ERR_TOO_BIG, "upstream_body_too_big", ENDS},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n41\r\n", 200, "", ERR_TOO_BIG,
     "upstream_body_too_big", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nFFFFFFFFFFFFFFFF\r\n", 200,
     "hi", ERR_TOO_BIG, "upstream_body_too_big", 0},
};

static void assert_outcome(const struct place *place, const struct answer *answer, size_t split)
{
    char what[256];

    snprintf(what, sizeof what, "split at %zu: %.*s", split, 200, answer->bytes);
    if (place->done != 1)
        fail_msg("done %u times, %s", place->done, what);
    if (place->err != answer->err)
        fail_msg("%s (%s), %s", err_name(place->err),
                 place->exchange.problem != NULL ? place->exchange.problem : "", what);
    if (place->code != answer->code)
        fail_msg("code %u, %s", place->code, what);
    if (answer->body != NULL && strcmp(place->body, answer->body) != 0)
        fail_msg("body \"%s\", %s", place->body, what);
    if (place->exchange.is_reusable != ((answer->flags & KEPT) != 0))
        fail_msg("%s, %s", place->exchange.is_reusable ? "is kept" : "is not kept", what);
    if (answer->err == ERR_OK)
        return;
    assert_string_equal(upstream_failure_reason(place->exchange.failure), answer->reason);
    assert_non_null(place->exchange.problem);
}

static void test_answers_split_anywhere(void **state)
{
    struct place *place = *state;

    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        size_t len = strlen(answers[i].bytes);

        for (size_t split = 0; split <= len; split++) {
            connect_with(place, pair_unix);
            ask(place, (answers[i].flags & HEADS) != 0);
            say(place, answers[i].bytes, split);
            if (place->done == 0)
                say(place, answers[i].bytes + split, len - split);
            if ((answers[i].flags & ENDS) != 0)
                hang_up(place);
            assert_outcome(place, &answers[i], split);
        }
    }
}

static void test_answers_byte_by_byte(void **state)
{
    struct place *place = *state;

    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        connect_with(place, pair_unix);
        ask(place, (answers[i].flags & HEADS) != 0);
        for (const char *byte = answers[i].bytes; *byte != '\0' && place->done == 0; byte++)
            say(place, byte, 1);
        if ((answers[i].flags & ENDS) != 0)
            hang_up(place);
        assert_outcome(place, &answers[i], 1);
    }
}

/* Everything that may be kept, one behind the other on one connection. */
static void test_one_after_the_other(void **state)
{
    struct place *place = *state;

    connect_with(place, pair_unix);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        if ((answers[i].flags & KEPT) == 0)
            continue;
        ask(place, (answers[i].flags & HEADS) != 0);
        say(place, answers[i].bytes, strlen(answers[i].bytes));
        assert_outcome(place, &answers[i], 0);
    }
}

static void assert_failed(const struct place *place, enum err err, const char *reason)
{
    assert_int_equal(place->done, 1);
    assert_int_equal(place->err, err);
    assert_string_equal(upstream_failure_reason(place->exchange.failure), reason);
    assert_false(place->exchange.is_reusable);
}

/* How a peer ends it early. */
enum cut { CUT_CLOSE, CUT_RESET, CUT_STALL, CUTS };

/* Its body is whatever comes until the connection ends. */
static bool is_until_the_end(const struct answer *answer)
{
    return (answer->flags & ENDS) != 0 && answer->err != ERR_CLOSED;
}

/* Nothing of an answer came, or only whole interim ones. */
static bool is_at_the_start(const struct place *place, const char *bytes, size_t len)
{
    return place->code == 0 &&
           (len == 0 || (len >= 4 && memcmp(bytes + len - 4, "\r\n\r\n", 4) == 0));
}

static void assert_stalled(struct place *place, bool is_at_start)
{
    fake_clock_jump(&place->clock, place->loop, is_at_start ? 299 : 99);
    assert_int_equal(place->done, 0);
    fake_clock_jump(&place->clock, place->loop, 3);
    assert_failed(place, ERR_TIMED_OUT,
                  is_at_start ? "upstream_first_byte_timeout" : "upstream_between_bytes_timeout");
}

/* The first `len` bytes and no more. False: these decide already what becomes of it. */
static bool cut_off(struct place *place, const struct answer *answer, size_t len, enum cut cut)
{
    connect_with(place, pair_tcp);
    ask(place, (answer->flags & HEADS) != 0);
    say(place, answer->bytes, len);
    if (place->done != 0)
        return false;
    if (cut == CUT_CLOSE) {
        hang_up(place);
        if (!is_until_the_end(answer) || place->code == 0) {
            assert_failed(place, ERR_CLOSED, "upstream_reset");
        } else {
            assert_int_equal(place->done, 1);
            assert_int_equal(place->err, ERR_OK);
            assert_false(place->exchange.is_reusable);
        }
    } else if (cut == CUT_RESET) {
        close_with_reset(&place->peer);
        run_turns(place->loop, 3);
        assert_failed(place, ERR_RESET, "upstream_reset");
    } else {
        assert_stalled(place, is_at_the_start(place, answer->bytes, len));
    }
    assert_int_equal(exchange_received(&place->exchange), len);
    return true;
}

/* Every answer of the table breaks off behind each of its bytes, in each way. */
static void test_cut_off_anywhere(void **state)
{
    struct place *place = *state;

    for (enum cut cut = 0; cut < CUTS; cut++) {
        for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
            size_t len = 0;

            while (len <= strlen(answers[i].bytes) && cut_off(place, &answers[i], len, cut))
                len++;
            /* What is complete needs all of its bytes, and what goes on until the end never is. */
            if (answers[i].err == ERR_OK)
                assert_int_equal(len, strlen(answers[i].bytes) + is_until_the_end(&answers[i]));
        }
    }
}

/* What comes with an answer and is none of it: that one counts, and nothing is kept. */
static void test_bytes_behind_any_answer(void **state)
{
    static const char *const behind[] = {"x", "\r\n",
                                         "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"};
    struct place *place = *state;
    char bytes[1024];

    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        for (size_t j = 0; (answers[i].flags & KEPT) != 0 && j < sizeof behind / sizeof behind[0];
             j++) {
            struct answer answer = answers[i];

            answer.flags &= ~(uint32_t)KEPT;
            connect_with(place, pair_unix);
            ask(place, (answer.flags & HEADS) != 0);
            snprintf(bytes, sizeof bytes, "%s%s", answer.bytes, behind[j]);
            say(place, bytes, strlen(bytes));
            assert_outcome(place, &answer, strlen(answer.bytes));
        }
    }
}

static void test_bytes_left_over(void **state)
{
    static const char two[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
                              "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    struct place *place = *state;

    connect_with(place, pair_unix);
    ask(place, false);
    say(place, two, sizeof two - 1);
    assert_int_equal(place->done, 1);
    assert_int_equal(place->err, ERR_OK);
    assert_string_equal(place->body, "hi");
    assert_false(place->exchange.is_reusable);
}

static void test_fin_with_the_answer(void **state)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    struct place *place = *state;

    /* The FIN is seen a read later: the answer is whole, and the look before lending finds it. */
    connect_with(place, pair_unix);
    ask(place, false);
    assert_int_equal(send(place->peer, answer, sizeof answer - 1, MSG_NOSIGNAL), sizeof answer - 1);
    hang_up(place);
    assert_int_equal(place->done, 1);
    assert_int_equal(place->err, ERR_OK);
    assert_string_equal(place->body, "hi");
}

static void test_reset(void **state)
{
    static const char *const before[] = {"", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\n\r\nhe"};
    struct place *place = *state;

    for (size_t i = 0; i < 3; i++) {
        connect_with(place, pair_tcp);
        ask(place, false);
        say(place, before[i], strlen(before[i]));
        close_with_reset(&place->peer);
        run_turns(place->loop, 3);
        assert_failed(place, ERR_RESET, "upstream_reset");
        assert_int_equal(exchange_received(&place->exchange), strlen(before[i]));
    }
}

static void test_head_too_big(void **state)
{
    struct place *place = *state;
    char line[64];

    connect_with(place, pair_unix);
    ask(place, false);
    say(place, "HTTP/1.1 200 OK\r\n", 17);
    for (int i = 0; i < 40 && place->done == 0; i++) {
        int len = snprintf(line, sizeof line, "X-Field-%02d: 0123456789abcdef0123456789\r\n", i);

        say(place, line, (size_t)len);
    }
    assert_failed(place, ERR_TOO_BIG, "upstream_head_too_big");

    connect_with(place, pair_unix);
    ask(place, false);
    for (int i = 0; i < 1100 && place->done == 0; i++)
        say(place, &"HTTP/1.1 200 aaaaaaaa"[i < 20 ? i : 20], 1);
    assert_failed(place, ERR_TOO_BIG, "upstream_head_too_big");
}

static void test_too_many_fields(void **state)
{
    struct place *place = *state;
    char head[1024] = "HTTP/1.1 200 OK\r\n";

    for (int i = 0; i < EXCHANGE_FIELDS_MAX + 1; i++)
        strcat(head, "X: y\r\n");
    strcat(head, "\r\n");
    connect_with(place, pair_unix);
    ask(place, false);
    say(place, head, strlen(head));
    assert_failed(place, ERR_TOO_BIG, "upstream_head_too_big");
}

static void test_first_byte_timeout(void **state)
{
    struct place *place = *state;

    connect_with(place, pair_unix);
    ask(place, false);
    fake_clock_walk(&place->clock, place->loop, 299);
    assert_int_equal(place->done, 0);
    fake_clock_walk(&place->clock, place->loop, 3);
    assert_failed(place, ERR_TIMED_OUT, "upstream_first_byte_timeout");
}

static void test_between_bytes_timeout(void **state)
{
    static const char *const parts[] = {"H", "HTTP/1.1 200 OK\r\nX",
                                        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
                                        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhe"};
    struct place *place = *state;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        connect_with(place, pair_unix);
        ask(place, false);
        fake_clock_walk(&place->clock, place->loop, 250);
        say(place, parts[i], strlen(parts[i]));
        fake_clock_walk(&place->clock, place->loop, 99);
        assert_int_equal(place->done, 0);
        fake_clock_walk(&place->clock, place->loop, 3);
        assert_failed(place, ERR_TIMED_OUT, "upstream_between_bytes_timeout");
    }
}

static void test_slow_but_steady(void **state)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    struct place *place = *state;

    connect_with(place, pair_unix);
    ask(place, false);
    for (size_t i = 0; i < sizeof answer - 1; i++) {
        fake_clock_walk(&place->clock, place->loop, 90);
        assert_int_equal(place->done, 0);
        say(place, answer + i, 1);
    }
    assert_int_equal(place->done, 1);
    assert_int_equal(place->err, ERR_OK);
}

/* An interim answer says that the peer is alive: the wait for a first byte begins again. */
static void test_waiting_behind_an_interim_answer(void **state)
{
    struct place *place = *state;

    connect_with(place, pair_unix);
    ask(place, false);
    fake_clock_walk(&place->clock, place->loop, 250);
    say(place, "HTTP/1.1 102 Processing\r\n\r\n", 27);
    fake_clock_walk(&place->clock, place->loop, 298);
    assert_int_equal(place->done, 0);
    fake_clock_walk(&place->clock, place->loop, 4);
    assert_failed(place, ERR_TIMED_OUT, "upstream_first_byte_timeout");
    assert_int_equal(exchange_received(&place->exchange), 27);
}

static char long_request[4 << 20];

static void ask_at_length(struct place *place)
{
    memset(long_request, 'x', sizeof long_request);
    place->done = 0;
    exchange_start(&place->exchange, (struct span){long_request, sizeof long_request}, false,
                   &handler, place);
    run_turns(place->loop, 2);
    assert_int_not_equal(stream_unsent(&place->stream), 0);
}

static void test_request_that_is_not_taken(void **state)
{
    struct place *place = *state;

    connect_with(place, pair_unix);
    ask_at_length(place);
    fake_clock_walk(&place->clock, place->loop, 299);
    assert_int_equal(place->done, 0);
    fake_clock_walk(&place->clock, place->loop, 3);
    assert_failed(place, ERR_TIMED_OUT, "upstream_write_timeout");
}

static void test_request_that_is_taken_slowly(void **state)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    struct place *place = *state;
    size_t taken = 0;

    connect_with(place, pair_unix);
    ask_at_length(place);
    while (taken < sizeof long_request) {
        static char text[1 << 18];

        fake_clock_walk(&place->clock, place->loop, 200);
        assert_int_equal(place->done, 0);
        for (size_t got; (got = peer_read(place->peer, text, sizeof text, NULL)) > 0;)
            taken += got;
    }
    fake_clock_walk(&place->clock, place->loop, 90);
    assert_int_equal(place->done, 0);
    say(place, answer, sizeof answer - 1);
    assert_int_equal(place->done, 1);
    assert_int_equal(place->err, ERR_OK);
    assert_true(place->exchange.is_reusable);
}

static void test_early_answer(void **state)
{
    static const char answer[] = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
    struct place *place = *state;

    connect_with(place, pair_unix);
    ask_at_length(place);
    say(place, answer, sizeof answer - 1);
    assert_int_equal(place->done, 1);
    assert_int_equal(place->err, ERR_OK);
    assert_int_equal(place->code, 413);
    assert_string_equal(place->body, "no");
    assert_false(place->exchange.is_reusable);
}

/* The peer answers and closes without reading on: its answer counts, not the broken pipe. */
static void test_early_answer_and_gone(void **state)
{
    static const char answer[] = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
    struct place *place = *state;

    connect_with(place, pair_tcp);
    ask_at_length(place);
    assert_int_equal(send(place->peer, answer, sizeof answer - 1, MSG_NOSIGNAL), sizeof answer - 1);
    close_fd(&place->peer);
    run_turns(place->loop, 3);
    assert_int_equal(place->done, 1);
    assert_int_equal(place->code, 413);
    assert_false(place->exchange.is_reusable);
}

static void test_keep_alive_hints(void **state)
{
    static const struct {
        const char *field;
        uint32_t keep_ms;
    } hints[] = {
        {"", UINT32_MAX},
        {"Keep-Alive: timeout=5, max=100\r\n", 3000},
        {"keep-alive: max=100 , Timeout=60\r\n", 58000},
        {"Keep-Alive: timeout=4\r\n", 2000},
        {"Keep-Alive: timeout=2\r\n", 1000},
        {"Keep-Alive: timeout=1\r\n", 500},
        {"Keep-Alive: timeout=0\r\n", 0},
        {"Keep-Alive: timeout=\r\n", UINT32_MAX},
        {"Keep-Alive: timeout=x\r\n", UINT32_MAX},
        {"Keep-Alive: timeout\r\n", UINT32_MAX},
        {"Keep-Alive: ,,timeout=99999999999\r\n", UINT32_MAX},
        {"Keep-Alive: max=1\r\n", UINT32_MAX},
    };
    struct place *place = *state;
    char answer[256];

    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++) {
        snprintf(answer, sizeof answer, "HTTP/1.1 204 No Content\r\n%s\r\n", hints[i].field);
        connect_with(place, pair_unix);
        ask(place, false);
        say(place, answer, strlen(answer));
        assert_int_equal(place->done, 1);
        assert_int_equal(place->exchange.keep_ms, hints[i].keep_ms);
    }
}

static void test_stopped_in_each_state(void **state)
{
    static const char *const said[] = {"", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\n\r\nhe"};
    struct place *place = *state;

    for (size_t i = 0; i < 3; i++) {
        connect_with(place, pair_unix);
        ask(place, false);
        say(place, said[i], strlen(said[i]));
        exchange_stop(&place->exchange);
        stream_close(&place->stream);
        fake_clock_walk(&place->clock, place->loop, 500);
        assert_int_equal(place->done, 0);
    }
    exchange_stop(&(struct exchange){0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers_split_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_answers_byte_by_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_after_the_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut_off_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes_behind_any_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes_left_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fin_with_the_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reset, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_head_too_big, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_many_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_first_byte_timeout, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_between_bytes_timeout, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slow_but_steady, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_waiting_behind_an_interim_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_request_that_is_not_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_request_that_is_taken_slowly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_early_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_early_answer_and_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keep_alive_hints, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopped_in_each_state, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
