/* Goal: with several addresses a failing one costs no call that may be sent again, and gets none
 *       for a while; what an upstream asks for by Retry-After is done; and calls stop where most
 *       fail. */
#include "unit/upstream/place.h"
#include "upstream/retry.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_1S "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy"

enum { PEERS = 2 };

/* The place's upstream at two peers: the place's own and another one. */
struct pair {
    struct place *place;
    struct peer *peers[PEERS];
    struct peer other;
    char addresses[64];
};

static int set_up(void **state)
{
    struct pair *pair = calloc(1, sizeof *pair);
    void *place;

    assert_int_equal(place_set_up(&place), 0);
    pair->place = place;
    peer_init(&pair->other, pair->place->world.loop);
    pair->peers[0] = &pair->place->peer;
    pair->peers[1] = &pair->other;
    snprintf(pair->addresses, sizeof pair->addresses, "127.0.0.1:%u 127.0.0.1:%u",
             pair->place->peer.port, pair->other.port);
    free(pair->place->options.addresses);
    pair->place->options.addresses = pair->addresses;
    pair->place->options.connections_max = 8;
    pair->place->options.eject_failures = 2;
    pair->place->options.eject_time_ms = 10000;
    place_restart(pair->place, pair->place->peer.url);
    *state = pair;
    return 0;
}

static int tear_down(void **state)
{
    struct pair *pair = *state;
    void *place = pair->place;

    peer_deinit(&pair->other);
    pair->place->options.addresses = NULL;
    place_tear_down(&place);
    free(pair);
    return 0;
}

/* Only the first of the two. */
static void use_one(struct pair *pair)
{
    *strchr(pair->addresses, ' ') = '\0';
    place_restart(pair->place, pair->place->peer.url);
}

/* Waits for a request on a new connection to either peer; which one, and the peer's end. */
static int take_any(struct pair *pair, int *fd)
{
    for (;;) {
        for (int i = 0; i < PEERS; i++) {
            if (!peer_has_client(pair->peers[i]))
                continue;
            *fd = peer_accept(pair->peers[i]);
            peer_request(pair->peers[i], *fd, pair->place->text, sizeof pair->place->text);
            return i;
        }
        loop_turn(pair->place->world.loop, 1);
        (void)sched_yield();
    }
}

/* A call that is answered with `answer`, on a connection that is closed then; by which peer. */
static int call_once(struct pair *pair, const char *answer, uint32_t code)
{
    struct op *op = place_get(pair->place);
    int fd;
    int which = take_any(pair, &fd);

    peer_send(fd, answer);
    close_fd(&fd);
    place_run(pair->place, op);
    assert_int_equal(upstream_code(op), code);
    run_turns(pair->place->world.loop, 2);
    return which;
}

#define CLOSING(code) "HTTP/1.1 " code " X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

static void test_reset_is_retried_elsewhere(void **state)
{
    struct pair *pair = *state;
    struct op *op = place_get(pair->place);
    int fd;
    int first = take_any(pair, &fd);

    close_with_reset(&fd);
    fd = peer_accept(pair->peers[1 - first]);
    peer_request(pair->peers[1 - first], fd, pair->place->text, sizeof pair->place->text);
    peer_send(fd, OK_HI);
    place_assert_answer(pair->place, op, 200, "hi");
    assert_int_equal(pair->place->counts->retried, 1);
    assert_int_equal(pair->place->counts->failed, 0);
    close_fd(&fd);
}

static void test_both_reset(void **state)
{
    struct pair *pair = *state;
    struct op *op = place_get(pair->place);
    int fd;

    for (int i = 0; i < 2; i++) {
        (void)take_any(pair, &fd);
        close_with_reset(&fd);
    }
    place_assert_failed(pair->place, op, ERR_UP_RESET, "upstream_reset");
    assert_int_equal(pair->place->counts->failures[UPSTREAM_RESET], 1);
}

static void test_post_is_not_retried(void **state)
{
    struct pair *pair = *state;
    struct op *op = place_call(pair->place, "POST", SPAN("body"), 0);
    int fd;

    (void)take_any(pair, &fd);
    close_with_reset(&fd);
    place_assert_failed(pair->place, op, ERR_UP_RESET, "upstream_reset");
    assert_int_equal(pair->place->counts->retried, 0);
}

static void test_budget_is_used_up(void **state)
{
    struct pair *pair = *state;
    uint32_t failed = 0;

    pair->place->options.eject_failures = 0;
    pair->place->options.retry_percent = 0;
    for (int i = 0; i < RETRY_RESERVE + 3; i++) {
        struct op *op = place_get(pair->place);
        int fd;

        (void)take_any(pair, &fd);
        close_with_reset(&fd);
        if (i < RETRY_RESERVE) {
            (void)take_any(pair, &fd);
            peer_send(fd, CLOSING("200"));
            close_fd(&fd);
        }
        place_run(pair->place, op);
        failed += op->status != ERR_OK;
    }
    assert_int_equal(failed, 3);
    assert_int_equal(pair->place->counts->retried, RETRY_RESERVE);
    assert_int_equal(pair->place->counts->retries_denied, 3);
}

/* Bad answers are handed on, and their address is out after two in a row. */
static void eject(struct pair *pair, int bad)
{
    for (int i = 0; i < 100 && pair->place->counts->ejections == 0; i++) {
        struct op *op = place_get(pair->place);
        int fd;
        int which = take_any(pair, &fd);

        peer_send(fd, which == bad ? CLOSING("502") : CLOSING("200"));
        close_fd(&fd);
        place_run(pair->place, op);
    }
    assert_int_equal(pair->place->counts->ejections, 1);
}

/* The call that tries an ejected address may be a stream without end: its head tells. */
static void test_stream_brings_it_back_with_its_head(void **state)
{
    const struct upstream_call what = {.path = SPAN("/quote")};
    struct pair *pair = *state;
    const int bad = 0;
    int trial = -1, other;

    eject(pair, bad);
    fake_clock_jump(&pair->place->world.clock, pair->place->world.loop, 10000);
    for (int i = 0; i < 100 && trial < 0; i++) {
        struct op *op = upstream_stream(pair->place->scope, pair->place->upstream, &what);
        int fd, which = take_any(pair, &fd);

        peer_send(fd,
                  which == bad ? "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" : CLOSING("200"));
        place_run(pair->place, op);
        if (which == bad)
            trial = fd;
        else
            close_fd(&fd);
    }
    assert_true(trial >= 0);
    (void)place_get(pair->place); /* as much is under way at the other one */
    assert_int_equal(take_any(pair, &other), 1 - bad);
    for (int i = 0; i < 100; i++) {
        if (call_once(pair, CLOSING("200"), 200) == bad) {
            close_fd(&trial);
            close_fd(&other);
            return;
        }
    }
    fail_msg("it stays out until the stream has ended");
}

static void test_ejected(void **state)
{
    struct pair *pair = *state;
    const int bad = 0;

    eject(pair, bad);
    for (int i = 0; i < 20; i++)
        assert_int_equal(call_once(pair, CLOSING("502"), 502), 1 - bad); /* the last one stays */
    fake_clock_jump(&pair->place->world.clock, pair->place->world.loop, 10000);
    for (int i = 0; i < 100; i++)
        if (call_once(pair, CLOSING("200"), 200) == bad)
            return;
    fail_msg("it never came back");
}

static void test_nobody_connects_to_the_dead(void **state)
{
    struct pair *pair = *state;
    struct op *op;
    int fd;

    peer_deinit(&pair->other);
    for (int i = 0; i < 20; i++) {
        op = place_get(pair->place);
        fd = place_take_call(pair->place);
        peer_send(fd, CLOSING("200"));
        close_fd(&fd);
        place_assert_answer(pair->place, op, 200, "");
    }
    assert_int_equal(pair->place->counts->failed, 0);
    assert_int_equal(pair->place->counts->ejections, 1);
}

static void test_all_are_dead(void **state)
{
    struct pair *pair = *state;
    struct op *op;

    peer_deinit(&pair->other);
    peer_deinit(&pair->place->peer);
    for (int i = 0; i < 5; i++) {
        op = place_get(pair->place);
        place_assert_failed(pair->place, op, ERR_UP_CONNECT, "upstream_connect");
    }
    assert_in_range(pair->place->counts->ejections, 0, 1);
}

/* ---- Retry-After ---- */

static void test_retry_after_elsewhere(void **state)
{
    struct pair *pair = *state;
    struct op *op = place_get(pair->place);
    int fds[2];
    int first = take_any(pair, &fds[0]);

    peer_send(fds[0], BUSY_1S);
    assert_int_equal(take_any(pair, &fds[1]), 1 - first); /* at once */
    peer_send(fds[1], OK_HI);
    place_assert_answer(pair->place, op, 200, "hi");
    assert_int_equal(pair->place->counts->retried, 1);
    close_fd(&fds[1]);
    for (int i = 0; i < 5; i++) { /* it has its rest */
        op = place_get(pair->place);
        assert_int_equal(take_any(pair, &fds[1]), 1 - first);
        peer_send(fds[1], CLOSING("200"));
        place_assert_answer(pair->place, op, 200, "");
        close_fd(&fds[1]);
    }
    close_fd(&fds[0]);
}

static void test_retry_after_a_while(void **state)
{
    struct pair *pair = *state;
    struct op *op;
    int fd;

    pair->place->options.timeout_ms = 5000;
    use_one(pair);
    op = place_get(pair->place);
    fd = place_take_call(pair->place);
    peer_send(fd, BUSY_1S);
    run_until_count(pair->place->world.loop, &pair->place->counts->idle, 1);
    fake_clock_walk(&pair->place->world.clock, pair->place->world.loop, 990);
    assert_int_equal(op->state, OP_PENDING);
    assert_int_equal(pair->place->counts->idle, 1);
    fake_clock_walk(&pair->place->world.clock, pair->place->world.loop, 20);
    peer_request(&pair->place->peer, fd, pair->place->text, sizeof pair->place->text);
    peer_send(fd, OK_HI);
    place_assert_answer(pair->place, op, 200, "hi");
    close_fd(&fd);
}

/* The same as a date, by the peer's clock. */
static void test_retry_after_a_date(void **state)
{
    struct pair *pair = *state;
    struct op *op;
    int fd;

    pair->place->options.timeout_ms = 5000;
    use_one(pair);
    op = place_get(pair->place);
    fd = place_take_call(pair->place);
    peer_send(fd, "HTTP/1.1 429 Busy\r\nDate: Mon, 01 Jan 2001 00:00:00 GMT\r\n"
                  "Retry-After: Mon, 01 Jan 2001 00:00:01 GMT\r\nContent-Length: 0\r\n\r\n");
    run_until_count(pair->place->world.loop, &pair->place->counts->idle, 1);
    fake_clock_walk(&pair->place->world.clock, pair->place->world.loop, 990);
    assert_int_equal(op->state, OP_PENDING);
    fake_clock_walk(&pair->place->world.clock, pair->place->world.loop, 20);
    peer_request(&pair->place->peer, fd, pair->place->text, sizeof pair->place->text);
    peer_send(fd, OK_HI);
    place_assert_answer(pair->place, op, 200, "hi");
    close_fd(&fd);
}

static void test_retry_after_is_handed_on(void **state)
{
    static const struct {
        const char *method;
        uint32_t max_ms;
        uint32_t timeout_ms;
    } cases[] = {
        {"POST", 1000, 5000}, /* may not be sent again */
        {"GET", 999, 5000},   /* longer than we wait */
        {"GET", 1000, 1000},  /* longer than there is */
        {"GET", 0, 5000},     /* never */
    };
    struct pair *pair = *state;

    use_one(pair);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct op *op;
        int fd;

        pair->place->options.retry_after_max_ms = cases[i].max_ms;
        pair->place->options.timeout_ms = cases[i].timeout_ms;
        place_restart(pair->place, pair->place->peer.url);
        op = place_call(pair->place, cases[i].method, (struct span){NULL, 0}, 0);
        fd = place_take_call(pair->place);
        peer_send(fd, BUSY_1S);
        place_assert_answer(pair->place, op, 503, "busy");
        close_fd(&fd);
    }
}

static void test_canceled_in_the_pause(void **state)
{
    struct pair *pair = *state;
    struct op *op;
    int fd;

    pair->place->options.timeout_ms = 5000;
    use_one(pair);
    op = place_get(pair->place);
    fd = place_take_call(pair->place);
    peer_send(fd, BUSY_1S);
    run_until_count(pair->place->world.loop, &pair->place->counts->idle, 1);
    assert_int_equal(op->state, OP_PENDING);
    op_cancel(op);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_true(op->is_retired);
    fake_clock_walk(&pair->place->world.clock, pair->place->world.loop, 1500);
    assert_int_equal(pair->place->counts->canceled, 1);
    close_fd(&fd);
}

/* ---- the breaker ---- */

static void test_breaker(void **state)
{
    struct pair *pair = *state;
    struct op *op;
    int fd;

    pair->place->options.breaker_percent = 50;
    pair->place->options.breaker_calls = 4;
    use_one(pair);
    for (int i = 0; i < 4; i++)
        (void)call_once(pair, CLOSING("503"), 503);
    assert_int_equal(pair->place->counts->breaks, 1);
    op = place_get(pair->place);
    place_assert_failed(pair->place, op, ERR_UP_BUSY, "upstream_breaker_open");
    fake_clock_jump(&pair->place->world.clock, pair->place->world.loop, 5000);

    op = place_get(pair->place); /* one tries, and is given up */
    place_assert_failed(pair->place, place_get(pair->place), ERR_UP_BUSY, "upstream_breaker_open");
    fd = place_take_call(pair->place);
    op_cancel(op);
    close_fd(&fd);
    (void)call_once(pair, CLOSING("200"), 200);
    for (int i = 0; i < 5; i++)
        (void)call_once(pair, CLOSING("200"), 200);
}

/* ---- checks ---- */

/* Serves checks of both until `turns` have come; those of `down` are answered with 500. */
static void serve_checks(struct pair *pair, int down, int turns)
{
    while (turns-- > 0) {
        int fd;
        int which = take_any(pair, &fd);

        assert_non_null(strstr(pair->place->text, "GET /health HTTP/1.1\r\n"));
        peer_send(fd, which == down ? CLOSING("500") : CLOSING("204"));
        peer_wait_closed(pair->peers[which], &fd);
        fake_clock_walk(&pair->place->world.clock, pair->place->world.loop, 60);
    }
}

static void test_checks(void **state)
{
    struct pair *pair = *state;

    free(pair->place->options.check_path);
    pair->place->options.check_path = (char[]){"/health"};
    pair->place->options.check_interval_ms = 100;
    place_restart(pair->place, pair->place->peer.url);
    upstream_start(pair->place->upstream);
    serve_checks(pair, 1, 8);
    assert_in_range(pair->place->counts->checks_failed, 3, 5);
    pair->place->options.check_interval_ms = 100000; /* no more of them from the next one on */
    serve_checks(pair, 1, 2);
    for (int i = 0; i < 20; i++)
        assert_int_equal(call_once(pair, CLOSING("200"), 200), 0);
    pair->place->options.check_interval_ms = 100;
    fake_clock_jump(&pair->place->world.clock, pair->place->world.loop, 100000);
    serve_checks(pair, -1, 6);
    pair->place->options.check_interval_ms = 100000;
    serve_checks(pair, -1, 2);
    for (int i = 0; i < 200; i++)
        if (call_once(pair, CLOSING("200"), 200) == 1)
            break;
        else
            assert_int_not_equal(i, 199);
    place_restart(pair->place, pair->place->peer.url);
    pair->place->options.check_path = calloc(1, 1);
}

static void test_check_is_too_slow(void **state)
{
    struct pair *pair = *state;
    int fd;

    free(pair->place->options.check_path);
    pair->place->options.check_path = (char[]){"/health"};
    pair->place->options.check_timeout_ms = 50;
    use_one(pair);
    upstream_start(pair->place->upstream);
    fd = place_take_call(pair->place);
    fake_clock_walk(&pair->place->world.clock, pair->place->world.loop, 60);
    peer_wait_closed(&pair->place->peer, &fd);
    assert_int_equal(pair->place->counts->checks_failed, 1);
    place_restart(pair->place, pair->place->peer.url);
    pair->place->options.check_path = calloc(1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reset_is_retried_elsewhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_both_reset, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_post_is_not_retried, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_budget_is_used_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ejected, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stream_brings_it_back_with_its_head, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_retry_after_a_date, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_connects_to_the_dead, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_all_are_dead, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retry_after_elsewhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retry_after_a_while, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retry_after_is_handed_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_canceled_in_the_pause, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_breaker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_is_too_slow, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
