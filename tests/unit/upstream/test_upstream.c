/* Goal: a call settles once, with its own answer or with the documented error and reason, whatever
 *       the server does; and a warm call costs what it must. What is canceled or sent again is in
 *       test_cancel.c and test_again.c. */
#include "base/mem.h"
#include "lib/dies.h"
#include "lib/fault.h"
#include "lib/temp_dir.h"
#include "unit/upstream/place.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- answers ---- */

static void test_get(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    char wanted[128];
    struct span value;
    int fd;

    assert_true(op_is_upstream(op));
    assert_int_equal(op->state, OP_PENDING);
    assert_int_equal(upstream_code(op), 0);
    assert_null(upstream_body(op).ptr);
    fd = place_take_call(place);
    snprintf(wanted, sizeof wanted, "GET /quote HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n",
             place->peer.port);
    assert_string_equal(place->text, wanted);
    peer_send(fd, "HTTP/1.1 418 I'm a teapot\r\nContent-Type: text/plain \r\nX-A:1\r\n"
                  "x-a: 2\r\nX-Empty:\r\nContent-Length: 5\r\n\r\nhello");
    place_assert_answer(place, op, 418, "hello");
    assert_int_equal(upstream_fields(op)->count, 5);
    value = http_field_get(upstream_fields(op), SPAN("content-type"));
    assert_string_equal(value.ptr, "text/plain");
    assert_string_equal(upstream_fields(op)->at[2].name.ptr, "x-a");
    assert_string_equal(upstream_fields(op)->at[2].value.ptr, "2");
    assert_string_equal(upstream_fields(op)->at[3].value.ptr, "");
    assert_int_equal(place->counts->calls, 1);
    assert_int_equal(place->counts->failed, 0);
    assert_int_equal(place->counts->connects, 1);
    close_fd(&fd);
}

static void test_post(void **state)
{
    static const struct http_field type = {SPAN("Content-Type"), SPAN("application/json")};
    struct place *place = *state;
    char body[] = "{\"a\":1}";
    struct upstream_call what = {.method = SPAN("POST"),
                                 .path = SPAN("/books"),
                                 .fields = &type,
                                 .field_count = 1,
                                 .body = {body, sizeof body - 1}};
    struct op *op = upstream_call(place->scope, place->upstream, &what);
    int fd;

    memset(body, 'x', sizeof body); /* it was copied */
    fd = place_take_call(place);
    assert_non_null(strstr(place->text, "\r\nContent-Length: 7\r\n\r\n{\"a\":1}"));
    assert_non_null(strstr(place->text, "\r\nContent-Type: application/json\r\n"));
    peer_send(fd, "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: y\r\n\r\n");
    place_assert_answer(place, op, 201, "hello");
    assert_int_equal(upstream_fields(op)->count, 1);
    close_fd(&fd);
}

static void test_until_close(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    int fd = place_take_call(place);

    peer_send(fd, "HTTP/1.0 200 OK\r\n\r\nhel");
    run_turns(place->world.loop, 3);
    assert_int_equal(op->state, OP_PENDING);
    peer_send(fd, "lo");
    close_fd(&fd);
    place_assert_answer(place, op, 200, "hello");
    assert_int_equal(place->counts->connections, 0);
}

static void test_head(void **state)
{
    struct place *place = *state;
    struct op *op = place_call(place, "HEAD", (struct span){NULL, 0}, 0);
    int fd = place_take_call(place);

    peer_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n");
    place_assert_answer(place, op, 200, "");
    assert_int_equal(place->counts->idle, 1);
    close_fd(&fd);
}

static void test_kept_connection_is_used_again(void **state)
{
    struct place *place = *state;
    int fd = place_warm_up(place);

    for (int i = 0; i < 3; i++) {
        struct op *op = place_get(place);

        peer_request(&place->peer, fd, place->text, sizeof place->text);
        peer_send(fd, OK_HI);
        place_assert_answer(place, op, 200, "hi");
    }
    assert_int_equal(place->counts->connects, 1);
    assert_int_equal(place->counts->reused, 3);
    assert_int_equal(place->counts->calls, 4);
    close_fd(&fd);
}

/* Two answers that come in pieces, in turns: each call gets its own. */
static void test_two_at_once(void **state)
{
    struct place *place = *state;
    struct op *first = place_get(place);
    int first_fd = place_take_call(place);
    struct op *second = place_get(place);
    int second_fd = place_take_call(place);
    static const char one[] = "HTTP/1.1 201 A\r\nX: one\r\nContent-Length: 3\r\n\r\none";
    static const char two[] = "HTTP/1.1 202 B\r\nX: two\r\nContent-Length: 3\r\n\r\ntwo";

    for (size_t i = 0; i < sizeof one - 1; i++) {
        assert_int_equal(send(first_fd, one + i, 1, MSG_NOSIGNAL), 1);
        assert_int_equal(send(second_fd, two + i, 1, MSG_NOSIGNAL), 1);
        run_turns(place->world.loop, 1);
    }
    place_assert_answer(place, second, 202, "two");
    place_assert_answer(place, first, 201, "one");
    assert_string_equal(upstream_fields(first)->at[0].value.ptr, "one");
    assert_string_equal(upstream_fields(second)->at[0].value.ptr, "two");
    close_fd(&first_fd);
    close_fd(&second_fd);
}

static void test_body_at_the_limit(void **state)
{
    static const char *const heads[] = {"Content-Length: 1000\r\n\r\n",
                                        "Connection: close\r\n\r\n"};
    struct place *place = *state;
    char body[1001];

    memset(body, 'b', sizeof body - 1);
    body[1000] = '\0';
    for (int i = 0; i < 2; i++) {
        struct op *op = place_get(place);
        int fd = place_take_call(place);

        peer_send(fd, "HTTP/1.1 200 OK\r\n");
        peer_send(fd, heads[i]);
        peer_send(fd, body);
        shutdown(fd, SHUT_WR);
        place_assert_answer(place, op, 200, body);
        close_fd(&fd);
        run_turns(place->world.loop, 2);
    }
}

static void test_body_beyond_the_limit(void **state)
{
    static const char *const heads[] = {"Content-Length: 1001\r\n\r\n", "Connection: close\r\n\r\n",
                                        "Transfer-Encoding: chunked\r\n\r\n3e9\r\n"};
    struct place *place = *state;
    char body[1002];

    memset(body, 'b', sizeof body - 1);
    body[1001] = '\0';
    for (int i = 0; i < 3; i++) {
        struct op *op = place_get(place);
        int fd = place_take_call(place);

        peer_send(fd, "HTTP/1.1 200 OK\r\n");
        peer_send(fd, heads[i]);
        if (i == 1) /* the others say beforehand how much it will be */
            peer_send(fd, body);
        place_assert_failed(place, op, ERR_UP_TOO_BIG, "upstream_body_too_big");
        peer_wait_closed(&place->peer, &fd);
    }
    assert_int_equal(place->counts->failed, 3);
}

static void test_broken_protocol(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    int fd = place_take_call(place);

    peer_send(fd, "220 smtp.example.com ESMTP\r\n\r\n");
    place_assert_failed(place, op, ERR_UP_RESET, "upstream_protocol");
    peer_wait_closed(&place->peer, &fd);
    assert_int_equal(place->counts->retried, 0);
}

/* A second answer behind the first is nobody's: the connection is not used again. */
static void test_bytes_behind_an_answer(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    int fd = place_take_call(place);

    peer_send(fd, OK_HI "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    place_assert_answer(place, op, 200, "hi");
    assert_int_equal(place->counts->connections, 0);
    peer_wait_closed(&place->peer, &fd);
    fd = place_warm_up(place);
    close_fd(&fd);
}

/* The server refuses a long body and goes: its answer is the outcome. */
static void test_early_answer(void **state)
{
    static char body[6 << 20];
    struct place *place = *state;
    struct op *op = place_call(place, "POST", (struct span){body, sizeof body}, 0);
    int fd = peer_accept(&place->peer);

    run_turns(place->world.loop, 3);
    peer_send(fd, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    place_assert_answer(place, op, 413, "no");
    assert_int_equal(place->counts->connections, 0);
    peer_wait_closed(&place->peer, &fd);
}

static void test_over_a_unix_socket(void **state)
{
    struct place *place = *state;
    struct temp_dir dir;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char url[300];
    struct op *op;
    int fd;

    temp_dir_init(&dir);
    strcpy(addr.sun_path, temp_dir_path(&dir, "s"));
    peer_deinit(&place->peer);
    place->peer.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(place->peer.fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(place->peer.fd, 8), 0);
    snprintf(url, sizeof url, "http://unix:%s:/v1", addr.sun_path);
    place_restart(place, url);
    op = place_get(place);
    fd = place_take_call(place);
    assert_string_equal(place->text, "GET /v1/quote HTTP/1.1\r\nHost: localhost\r\n\r\n");
    peer_send(fd, OK_HI);
    place_assert_answer(place, op, 200, "hi");
    close_fd(&fd);
    temp_dir_deinit(&dir);
    place_restart(place, place->peer.url);
}

/* ---- no connection ---- */

static void test_refused(void **state)
{
    struct place *place = *state;
    struct op *op;

    peer_deinit(&place->peer);
    op = place_get(place);
    place_assert_failed(place, op, ERR_UP_CONNECT, "upstream_connect");
    assert_non_null(strstr(op->error.ptr, "Connection refused"));
    assert_int_equal(place->counts->calls, 1);
    assert_int_equal(place->counts->failed, 1);
}

static void test_no_such_name(void **state)
{
    struct place *place = *state;

    place_restart(place, (char[]){"http://nobody.test"});
    place_assert_failed(place, place_get(place), ERR_UP_CONNECT, "upstream_resolve");
    place_restart(place, place->peer.url);
}

static void test_too_slow_to_connect(void **state)
{
    struct place *place = *state;
    struct op *op;

    place->dns.is_silent = true;
    place_restart(place, place->name_url);
    op = place_get(place);
    fake_clock_walk(&place->world.clock, place->world.loop, 299);
    assert_int_equal(op->state, OP_PENDING);
    fake_clock_walk(&place->world.clock, place->world.loop, 3);
    place_assert_failed(place, op, ERR_UP_CONNECT, "upstream_resolve_timeout");
}

static void test_server_that_does_not_accept(void **state)
{
    struct place *place = *state;
    struct op *op;
    int fillers[2];

    place_hang(place, fillers);
    op = place_get(place);
    fake_clock_walk(&place->world.clock, place->world.loop, 299);
    assert_int_equal(op->state, OP_PENDING);
    fake_clock_walk(&place->world.clock, place->world.loop, 3);
    place_assert_failed(place, op, ERR_UP_CONNECT, "upstream_connect_timeout");
    assert_int_equal(place->counts->connects, 0);
    close_fd(&fillers[0]);
    close_fd(&fillers[1]);
}

static void test_line(void **state)
{
    struct place *place = *state;
    struct op *ops[5];
    int fds[2];

    for (int i = 0; i < 5; i++)
        ops[i] = place_get(place);
    assert_int_equal(place->counts->waiting, 2);
    place_assert_failed(place, ops[4], ERR_UP_BUSY, "upstream_queue_full");
    for (int i = 0; i < 2; i++)
        fds[i] = place_take_call(place);
    for (int i = 0; i < 2; i++) {
        peer_send(fds[1], OK_HI);
        run_turns(place->world.loop, 3);
        peer_request(&place->peer, fds[1], place->text, sizeof place->text);
    }
    peer_send(fds[1], OK_HI);
    peer_send(fds[0], OK_HI);
    for (int i = 0; i < 4; i++)
        place_assert_answer(place, ops[i], 200, "hi");
    assert_int_equal(place->counts->connects, 2);
    assert_int_equal(place->counts->refused, 1);
    close_fd(&fds[0]);
    close_fd(&fds[1]);
}

static void test_too_long_in_line(void **state)
{
    struct place *place = *state;
    struct op *ops[3];
    int fds[2];

    for (int i = 0; i < 3; i++)
        ops[i] = place_get(place);
    fds[0] = place_take_call(place);
    fds[1] = place_take_call(place);
    fake_clock_walk(&place->world.clock, place->world.loop, 199);
    assert_int_equal(ops[2]->state, OP_PENDING);
    fake_clock_walk(&place->world.clock, place->world.loop, 3);
    place_assert_failed(place, ops[2], ERR_UP_BUSY, "upstream_queue_timeout");
    assert_int_equal(place->counts->waiting, 0);
    assert_int_equal(place->counts->refused, 1);
    for (int i = 0; i < 2; i++) { /* these were not in line */
        peer_send(fds[i], OK_HI);
        place_assert_answer(place, ops[i], 200, "hi");
        close_fd(&fds[i]);
    }
}

/* ---- time ---- */

static void test_first_byte_timeout(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    int fd = place_take_call(place);

    fake_clock_walk(&place->world.clock, place->world.loop, 399);
    assert_int_equal(op->state, OP_PENDING);
    fake_clock_walk(&place->world.clock, place->world.loop, 3);
    place_assert_failed(place, op, ERR_UP_TIMEOUT, "upstream_first_byte_timeout");
    peer_wait_closed(&place->peer, &fd);
    assert_int_equal(place->counts->retried, 0);
}

static void test_between_bytes_timeout(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    int fd = place_take_call(place);

    peer_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh");
    fake_clock_walk(&place->world.clock, place->world.loop, 99);
    assert_int_equal(op->state, OP_PENDING);
    fake_clock_walk(&place->world.clock, place->world.loop, 3);
    place_assert_failed(place, op, ERR_UP_TIMEOUT, "upstream_between_bytes_timeout");
    peer_wait_closed(&place->peer, &fd);
}

static void test_total_timeout_of_an_answer(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    int fd = place_take_call(place);

    peer_send(fd, "HTTP/1.1 200 OK\r\n\r\n");
    for (int i = 0; i < 19; i++) {
        fake_clock_walk(&place->world.clock, place->world.loop, 50);
        assert_int_equal(op->state, OP_PENDING);
        peer_send(fd, "x");
    }
    fake_clock_walk(&place->world.clock, place->world.loop, 52);
    place_assert_failed(place, op, ERR_UP_TIMEOUT, "upstream_timeout");
    peer_wait_closed(&place->peer, &fd);
}

/* A call's own limit is over first: in line, resolving, and sent. */
static void test_timeout_of_a_call(void **state)
{
    const struct upstream_call what = {.path = SPAN("/quote"), .timeout_ms = 50};
    struct place *place = *state;
    struct op *sent = upstream_call(place->scope, place->upstream, &what);
    int fds[2] = {place_take_call(place), -1};
    struct op *other = place_get(place);
    struct op *in_line = upstream_call(place->scope, place->upstream, &what);
    struct op *resolving;

    fds[1] = place_take_call(place);
    fake_clock_walk(&place->world.clock, place->world.loop, 52);
    place_assert_failed(place, sent, ERR_UP_TIMEOUT, "upstream_timeout");
    place_assert_failed(place, in_line, ERR_UP_TIMEOUT, "upstream_timeout");
    assert_int_equal(other->state, OP_PENDING);
    peer_wait_closed(&place->peer, &fds[0]);
    close_fd(&fds[1]);

    place->dns.is_silent = true;
    place_restart(place, place->name_url);
    resolving = upstream_call(place->scope, place->upstream, &what);
    fake_clock_walk(&place->world.clock, place->world.loop, 52);
    place_assert_failed(place, resolving, ERR_UP_TIMEOUT, "upstream_timeout");
}

/* ... or later than the upstream's. */
static void test_longer_timeout_of_a_call(void **state)
{
    const struct upstream_call what = {.path = SPAN("/quote"), .timeout_ms = 5000};
    struct place *place = *state;
    struct op *op;
    int fd;

    place->options.first_byte_timeout_ms = 10000;
    op = upstream_call(place->scope, place->upstream, &what);
    fd = place_take_call(place);
    fake_clock_walk(&place->world.clock, place->world.loop, 4990);
    assert_int_equal(op->state, OP_PENDING);
    fake_clock_walk(&place->world.clock, place->world.loop, 15);
    place_assert_failed(place, op, ERR_UP_TIMEOUT, "upstream_timeout");
    close_fd(&fd);
}

static void test_budget_of_the_scope(void **state)
{
    struct place *place = *state;
    struct op *op;
    int fd;

    place_renew_scope(place, 100);
    op = place_get(place);
    fd = place_take_call(place);
    fake_clock_walk(&place->world.clock, place->world.loop, 102);
    assert_int_equal(op->status, ERR_DEADLINE);
    assert_true(op->is_retired);
    peer_wait_closed(&place->peer, &fd);
    op = place_get(place); /* born canceled */
    assert_int_equal(op->status, ERR_DEADLINE);
    assert_int_equal(upstream_code(op), 0);
    assert_int_equal(place->counts->calls, 1);
    assert_int_equal(place->counts->canceled, 1);
    assert_int_equal(place->counts->failed, 0);
}

static uint32_t allocations;

void *__real_mem_alloc(size_t size);
void *__wrap_mem_alloc(size_t size);
void *__wrap_mem_alloc(size_t size)
{
    allocations++;
    return __real_mem_alloc(size);
}

void *__real_mem_realloc(void *ptr, size_t size);
void *__wrap_mem_realloc(void *ptr, size_t size);
void *__wrap_mem_realloc(void *ptr, size_t size)
{
    allocations++;
    return __real_mem_realloc(ptr, size);
}

/* ---- the rest ---- */

static void test_invalid(void **state)
{
    static const struct http_field host = {SPAN("Host"), SPAN("evil")};
    const struct upstream_call bad[] = {
        {.path = SPAN("quote")},
        {.path = SPAN("/quote\r\nX: y")},
        {.path = SPAN("/quote"), .method = SPAN("GET /x HTTP/1.1\r\nX:")},
        {.path = SPAN("/quote"), .fields = &host, .field_count = 1},
    };
    struct place *place = *state;

    for (size_t i = 0; i < 4; i++)
        place_assert_failed(place, upstream_call(place->scope, place->upstream, &bad[i]),
                            ERR_INVALID, "upstream_invalid");
    assert_false(peer_has_client(&place->peer));
}

static void test_ops_of_others(void **state)
{
    struct place *place = *state;
    struct op *op = op_sleep(place->scope, 0);

    assert_false(op_is_upstream(op));
    place_run(place, op);
    assert_int_equal(upstream_code(op), 0);
    assert_int_equal(upstream_fields(op)->count, 0);
    assert_null(upstream_body(op).ptr);
    assert_string_equal(upstream_name(place->upstream), "partner");
}

static void test_released(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    int fd = place_take_call(place);

    assert_int_equal(op_release(op), ERR_STATE);
    peer_send(fd, OK_HI);
    place_assert_answer(place, op, 200, "hi");
    run_turns(place->world.loop, 2);
    assert_int_equal(op_release(op), ERR_OK);
    close_fd(&fd);
}

static void destroy(void *data)
{
    upstream_destroy(data);
}

static void test_destroyed_too_early(void **state)
{
    static char output[DIES_OUTPUT_SIZE];
    struct place *place = *state;

    (void)place_get(place);
    assert_true(dies(destroy, place->upstream, output));
    upstream_destroy(NULL);
}

/* Once it is warm, a call costs a look, a send and a receive, and not one allocation. */
static void test_cost_of_a_warm_call(void **state)
{
    struct place *place = *state;
    int fd = place_warm_up(place);

    for (int i = 0; i < 20; i++) {
        struct op *op;
        char text[256];

        place_renew_scope(place, 5000);
        fault_reset();
        allocations = 0;
        op = place_get(place);
        run_turns(place->world.loop, 1);
        assert_true(read(fd, text, sizeof text) > 0);
        assert_int_equal(write(fd, OK_HI, sizeof OK_HI - 1), sizeof OK_HI - 1);
        place_assert_answer(place, op, 200, "hi");
        place_renew_scope(place, 0);
        if (i < 2)
            continue;
        assert_int_equal(fault_calls(FAULT_SEND), 1);
        assert_int_equal(fault_calls(FAULT_RECV), 2);
        assert_int_equal(fault_calls(FAULT_EPOLL_CTL), 0);
        assert_int_equal(allocations, 0);
    }
    close_fd(&fd);
}

/* ---- gzip, and what is known of an answer ---- */

static struct op *get_decoded(struct place *place)
{
    const struct upstream_call what = {.path = SPAN("/quote"), .flags = UPSTREAM_DECODE};

    return upstream_call(place->scope, place->upstream, &what);
}

/* gzip of "hello hello hello hello\n" */
static const unsigned char packed[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03,
                                       0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x40, 0x27, 0xb9,
                                       0x00, 0x00, 0x88, 0x59, 0x0b, 0x18, 0x00, 0x00, 0x00};

static void send_packed(int fd, const char *head, size_t size)
{
    char text[200];

    snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\n%sContent-Length: %zu\r\nX-A: b\r\n\r\n", head,
             size);
    peer_send(fd, text);
    assert_int_equal(send(fd, packed, size, MSG_NOSIGNAL), size);
}

static void test_gzip(void **state)
{
    struct place *place = *state;
    struct op *op = get_decoded(place);
    int fd = place_take_call(place);

    assert_non_null(strstr(place->text, "\r\nAccept-Encoding: gzip\r\n"));
    send_packed(fd, "Content-Encoding: gzip\r\n", sizeof packed);
    place_assert_answer(place, op, 200, "hello hello hello hello\n");
    assert_int_equal(upstream_fields(op)->count, 1);
    assert_int_equal(place->counts->idle, 1);
    op = get_decoded(place); /* one that comes as it is */
    peer_request(&place->peer, fd, place->text, sizeof place->text);
    peer_send(fd, OK_HI);
    place_assert_answer(place, op, 200, "hi");
    op = place_get(place); /* one that nobody wants decoded */
    peer_request(&place->peer, fd, place->text, sizeof place->text);
    assert_null(strstr(place->text, "Accept-Encoding"));
    send_packed(fd, "Content-Encoding: gzip\r\n", sizeof packed);
    place_run(place, op);
    assert_int_equal(upstream_body(op).len, sizeof packed);
    assert_int_equal(upstream_fields(op)->count, 3);
    close_fd(&fd);
}

static void test_gzip_that_is_wrong(void **state)
{
    struct place *place = *state;
    struct op *op;
    int fd;

    place->options.retries_max = 0;
    op = get_decoded(place);
    fd = place_take_call(place);
    send_packed(fd, "Content-Encoding: gzip\r\n", sizeof packed - 3); /* cut off */
    place_assert_failed(place, op, ERR_UP_RESET, "upstream_protocol");
    close_fd(&fd);
    op = get_decoded(place);
    fd = place_take_call(place);
    peer_send(fd, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone");
    place_assert_failed(place, op, ERR_UP_RESET, "upstream_protocol");
    close_fd(&fd);
    place->options.body_bytes_max = sizeof packed; /* it fits as it comes, but not decoded */
    op = get_decoded(place);
    fd = place_take_call(place);
    place->options.body_bytes_max = 20;
    peer_send(fd, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n");
    assert_int_equal(send(fd, packed, sizeof packed, MSG_NOSIGNAL), sizeof packed);
    place_assert_failed(place, op, ERR_UP_TOO_BIG, "upstream_body_too_big");
    close_fd(&fd);
}

static void test_times_and_address(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    char where[40];
    int fd = place_take_call(place);

    snprintf(where, sizeof where, "127.0.0.1:%u", place->peer.port);
    assert_int_equal(upstream_time_us(op, UPSTREAM_TIME_TOTAL), -1);
    assert_null(upstream_address(op).ptr);
    fake_clock_walk(&place->world.clock, place->world.loop, 50);
    peer_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    run_turns(place->world.loop, 5);
    fake_clock_walk(&place->world.clock, place->world.loop, 20);
    peer_send(fd, "hi");
    place_assert_answer(place, op, 200, "hi");
    assert_in_range(upstream_time_us(op, UPSTREAM_TIME_FIRST_BYTE), 50000, 60000);
    assert_in_range(upstream_time_us(op, UPSTREAM_TIME_TOTAL), 70000, 80000);
    assert_in_range(upstream_time_us(op, UPSTREAM_TIME_CONNECT), 0, 10000);
    assert_int_equal(upstream_time_us(op, UPSTREAM_TIME_COUNT), -1);
    assert_string_equal(upstream_address(op).ptr, where);
    assert_false(upstream_is_reused(op));
    op = place_get(place);
    peer_request(&place->peer, fd, place->text, sizeof place->text);
    peer_send(fd, OK_HI);
    place_assert_answer(place, op, 200, "hi");
    assert_true(upstream_is_reused(op));
    assert_int_equal(upstream_time_us(op, UPSTREAM_TIME_CONNECT), 0);
    close_fd(&fd);
}

/* What is left of the call's time, and of its scope's where that is less. */
static void test_budget_is_told(void **state)
{
    struct place *place = *state;
    char name[] = "X-Budget-Ms", *none = place->options.budget_field;
    struct op *op;
    int fd;

    place->options.budget_field = name;
    op = place_get(place); /* a scope without a budget */
    fd = place_take_call(place);
    assert_null(strstr(place->text, "X-Budget-Ms"));
    peer_send(fd, OK_HI);
    place_assert_answer(place, op, 200, "hi");
    place_renew_scope(place, 700);
    op = place_get(place);
    peer_request(&place->peer, fd, place->text, sizeof place->text);
    assert_non_null(strstr(place->text, "\r\nX-Budget-Ms: 700       \r\n"));
    op_cancel(op);
    place_renew_scope(place, 5000);
    close_fd(&fd);
    op = place_get(place);
    fd = place_take_call(place);
    assert_non_null(strstr(place->text, "\r\nX-Budget-Ms: 1000      \r\n"));
    op_cancel(op);
    place->options.budget_field = none;
    close_fd(&fd);
}

/* Whatever the name says: nobody nearby is connected to. */
static void test_private_addresses_are_refused(void **state)
{
    struct place *place = *state;
    struct op *op;

    place->options.allows_private = false;
    place_restart(place, place->name_url);
    op = place_get(place);
    place_assert_failed(place, op, ERR_UP_CONNECT, "upstream_private");
    assert_int_equal(place->counts->connects, 0);
    assert_false(peer_has_client(&place->peer));
    place_restart(place, place->peer.url); /* nor where it is literal */
    op = place_get(place);
    place_assert_failed(place, op, ERR_UP_CONNECT, "upstream_private");
    assert_false(peer_has_client(&place->peer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, place_set_up, place_tear_down)
        TEST(test_gzip),
        TEST(test_gzip_that_is_wrong),
        TEST(test_times_and_address),
        TEST(test_budget_is_told),
        TEST(test_private_addresses_are_refused),
        TEST(test_get),
        TEST(test_post),
        TEST(test_until_close),
        TEST(test_head),
        TEST(test_kept_connection_is_used_again),
        TEST(test_two_at_once),
        TEST(test_body_at_the_limit),
        TEST(test_body_beyond_the_limit),
        TEST(test_broken_protocol),
        TEST(test_bytes_behind_an_answer),
        TEST(test_early_answer),
        TEST(test_over_a_unix_socket),
        TEST(test_refused),
        TEST(test_no_such_name),
        TEST(test_too_slow_to_connect),
        TEST(test_server_that_does_not_accept),
        TEST(test_line),
        TEST(test_too_long_in_line),
        TEST(test_first_byte_timeout),
        TEST(test_between_bytes_timeout),
        TEST(test_total_timeout_of_an_answer),
        TEST(test_timeout_of_a_call),
        TEST(test_longer_timeout_of_a_call),
        TEST(test_budget_of_the_scope),
        TEST(test_invalid),
        TEST(test_ops_of_others),
        TEST(test_released),
        TEST(test_destroyed_too_early),
        TEST(test_cost_of_a_warm_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
