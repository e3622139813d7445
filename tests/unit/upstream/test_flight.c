/* Goal: calls that are the same share one, each with its own deadline, and none is left without an
 *       outcome whoever leaves; a call that is slow goes to a second address, and the first answer
 *       counts. */
#include "unit/upstream/place.h"

#include <stdio.h>
#include <string.h>

static const struct http_field own = {SPAN("X-A"), SPAN("1")};

static struct op *get(struct place *place, struct scope *scope, const char *path, uint32_t flags,
                      uint32_t timeout_ms)
{
    const struct upstream_call what = {
        .path = span_of(path), .flags = flags, .timeout_ms = timeout_ms};

    return upstream_call(scope, place->upstream, &what);
}

static struct op *share(struct place *place)
{
    return get(place, place->scope, "/quote", UPSTREAM_SHARED, 0);
}

/* ---- one for all ---- */

static void test_same_calls_share_one(void **state)
{
    struct place *place = *state;
    struct op *ops[5];
    int fd;

    for (int i = 0; i < 5; i++)
        ops[i] = share(place);
    fd = place_take_call(place);
    peer_send(fd, "HTTP/1.1 203 X\r\nX-A: b\r\nX-Empty:\r\nContent-Length: 5\r\n\r\nhello");
    for (int i = 0; i < 5; i++) {
        place_assert_answer(place, ops[i], 203, "hello");
        assert_int_equal(upstream_fields(ops[i])->count, 3);
        assert_string_equal(upstream_fields(ops[i])->at[0].value.ptr, "b");
        assert_string_equal(upstream_fields(ops[i])->at[1].value.ptr, "");
        assert_non_null(upstream_address(ops[i]).ptr);
        assert_true(upstream_time_us(ops[i], UPSTREAM_TIME_TOTAL) >= 0);
    }
    assert_int_equal(place->counts->calls, 1);
    assert_int_equal(place->counts->shared, 4);
    assert_int_equal(place->counts->connects, 1);
    ops[0] = share(place); /* what is over is not shared */
    peer_request(&place->peer, fd, place->text, sizeof place->text);
    peer_send(fd, OK_HI);
    place_assert_answer(place, ops[0], 200, "hi");
    assert_int_equal(place->counts->calls, 2);
    close_fd(&fd);
}

static void test_setting_is_for_all(void **state)
{
    struct place *place = *state;
    struct op *ops[2];
    int fd;

    place->options.is_single_flight = true;
    ops[0] = place_get(place);
    ops[1] = place_get(place);
    fd = place_take_call(place);
    peer_send(fd, OK_HI);
    place_assert_answer(place, ops[0], 200, "hi");
    place_assert_answer(place, ops[1], 200, "hi");
    assert_int_equal(place->counts->calls, 1);
    close_fd(&fd);
}

/* Another path, another field, another wish for gzip, another method, or a body. */
static void test_what_differs_is_not_shared(void **state)
{
    const struct upstream_call calls[] = {
        {.path = SPAN("/quote"), .flags = UPSTREAM_SHARED},
        {.path = SPAN("/quote?"), .flags = UPSTREAM_SHARED},
        {.path = SPAN("/quote"), .flags = UPSTREAM_SHARED, .fields = &own, .field_count = 1},
        {.path = SPAN("/quote"), .flags = UPSTREAM_SHARED | UPSTREAM_DECODE},
        {.path = SPAN("/quote"), .flags = UPSTREAM_SHARED, .method = SPAN("POST")},
        {.path = SPAN("/quote"), .flags = UPSTREAM_SHARED, .body = SPAN("x")},
        {.path = SPAN("/quote")},
    };
    enum { COUNT = sizeof calls / sizeof calls[0] };
    struct place *place = *state;
    struct op *ops[COUNT];
    int fds[COUNT];

    place->options.connections_max = COUNT;
    for (int i = 0; i < COUNT; i++)
        ops[i] = upstream_call(place->scope, place->upstream, &calls[i]);
    for (int i = 0; i < COUNT; i++)
        fds[i] = place_take_call(place);
    for (int i = 0; i < COUNT; i++) {
        peer_send(fds[i], OK_HI);
        run_turns(place->world.loop, 5);
    }
    for (int i = 0; i < COUNT; i++) {
        place_assert_answer(place, ops[i], 200, "hi");
        close_fd(&fds[i]);
    }
    assert_int_equal(place->counts->shared, 0);
}

static void test_failure_is_everybodys(void **state)
{
    struct place *place = *state;
    struct op *ops[3];
    int fd;

    for (int i = 0; i < 3; i++)
        ops[i] = share(place);
    fd = place_take_call(place);
    close_with_reset(&fd);
    for (int i = 0; i < 3; i++)
        place_assert_failed(place, ops[i], ERR_UP_RESET, "upstream_reset");
    assert_int_equal(place->counts->failed, 1);
    ops[0] = share(place);
    fd = place_take_call(place);
    peer_send(fd, OK_HI);
    place_assert_answer(place, ops[0], 200, "hi");
    close_fd(&fd);
}

static void test_call_that_is_wrong(void **state)
{
    struct place *place = *state;

    place_assert_failed(place, get(place, place->scope, "no path", UPSTREAM_SHARED, 0), ERR_INVALID,
                        "upstream_invalid");
    assert_int_equal(place->counts->connects, 0);
}

/* One is in a hurry, the other one is not. */
/* Where everybody's time is over, that is the upstream's failure, which metrics and breaker see. */
static void test_too_slow_for_all_is_a_failure(void **state)
{
    struct place *place = *state;
    struct op *ops[2];
    int fd;

    place->options.first_byte_timeout_ms = 60000;
    place->options.is_single_flight = true;
    for (int i = 0; i < 3; i++) { /* alone; two of them; hedged only */
        uint64_t failed = place->counts->failed;

        ops[0] = place_get(place);
        ops[1] = i == 1 ? place_get(place) : NULL;
        fd = place_take_call(place);
        fake_clock_walk(&place->world.clock, place->world.loop, 1100);
        place_assert_failed(place, ops[0], ERR_UP_TIMEOUT, "upstream_timeout");
        if (ops[1] != NULL)
            place_assert_failed(place, ops[1], ERR_UP_TIMEOUT, "upstream_timeout");
        assert_int_equal(place->counts->failed, failed + 1);
        assert_int_equal(place->counts->failures[UPSTREAM_TIMEOUT], failed + 1);
        assert_int_equal(place->counts->canceled, 0);
        close_fd(&fd);
        if (i == 1) {
            place->options.is_single_flight = false;
            place->options.hedge_ms = 30000;
        }
    }
}

/* A call may want more time than the upstream's, alone, and where it comes second. */
static void test_longer_than_the_upstreams(void **state)
{
    struct place *place = *state;
    struct op *hasty, *patient;
    int fd;

    place->options.first_byte_timeout_ms = 60000;
    for (int i = 0; i < 2; i++) {
        hasty = i == 1 ? share(place) : NULL;
        patient = get(place, place->scope, "/quote", UPSTREAM_SHARED, 3000);
        fd = place_take_call(place);
        fake_clock_walk(&place->world.clock, place->world.loop, 2500);
        if (hasty != NULL)
            place_assert_failed(place, hasty, ERR_UP_TIMEOUT, "upstream_timeout");
        assert_int_equal(patient->state, OP_PENDING);
        peer_send(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
        place_assert_answer(place, patient, 200, "hi");
        close_fd(&fd);
    }
    assert_int_equal(place->counts->calls, 2);
    assert_int_equal(place->counts->failed, 0);
}

static void test_each_has_its_own_time(void **state)
{
    struct place *place = *state;
    struct op *slow = share(place);
    struct op *hasty = get(place, place->scope, "/quote", UPSTREAM_SHARED, 50);
    int fd = place_take_call(place);

    fake_clock_walk(&place->world.clock, place->world.loop, 100);
    place_assert_failed(place, hasty, ERR_UP_TIMEOUT, "upstream_timeout");
    assert_int_equal(slow->state, OP_PENDING);
    peer_send(fd, OK_HI);
    place_assert_answer(place, slow, 200, "hi");
    assert_int_equal(place->counts->failed, 0);
    close_fd(&fd);
}

/* The one who asked first leaves, by its op or with its scope: the others are answered. */
static void test_first_one_leaves(void **state)
{
    struct place *place = *state;

    for (int i = 0; i < 2; i++) {
        struct scope *scope = scope_create(place->world.tasks, NULL, NULL, 0);
        struct op *first = get(place, scope, "/quote", UPSTREAM_SHARED, 0);
        struct op *second = share(place);
        int fd = place_take_call(place);

        if (i == 0)
            op_cancel(first);
        else
            scope_cancel(scope, SCOPE_CLIENT_GONE);
        assert_int_equal(first->status, ERR_CANCELED);
        assert_true(first->is_retired);
        scope_finish(scope, SCOPE_REPLIED);
        world_settle(&place->world);
        peer_send(fd, OK_HI);
        place_assert_answer(place, second, 200, "hi");
        close_fd(&fd);
        run_turns(place->world.loop, 3);
    }
    assert_int_equal(place->counts->canceled, 0);
}

/* Nobody is left: the call is given up, and its connection with it. */
static void test_all_leave(void **state)
{
    struct place *place = *state;
    struct op *ops[2] = {share(place), share(place)};
    int fd = place_take_call(place);

    op_cancel(ops[0]);
    run_turns(place->world.loop, 3);
    assert_int_equal(place->counts->connections, 1);
    op_cancel(ops[1]);
    peer_wait_closed(&place->peer, &fd);
    assert_int_equal(place->counts->connections, 0);
    assert_int_equal(place->counts->canceled, 1);
    ops[0] = share(place); /* and the next one begins anew */
    fd = place_take_call(place);
    peer_send(fd, OK_HI);
    place_assert_answer(place, ops[0], 200, "hi");
    close_fd(&fd);
}

/* In line, where no connection is to be had yet. */
static void test_left_while_in_line(void **state)
{
    struct place *place = *state;
    struct op *busy[2] = {place_get(place), place_get(place)}, *waits = share(place);

    run_turns(place->world.loop, 3);
    assert_int_equal(place->counts->waiting, 1);
    op_cancel(waits);
    world_settle(&place->world);
    assert_int_equal(place->counts->waiting, 0);
    op_cancel(busy[0]);
    op_cancel(busy[1]);
}

/* ---- a second one ---- */

struct two {
    struct place *place;
    struct peer other;
    char addresses[80];
    char *none; /* the options' own */
};

static void two_set_up(struct two *two, struct place *place, uint32_t hedge_ms)
{
    two->place = place;
    peer_init(&two->other, place->world.loop);
    snprintf(two->addresses, sizeof two->addresses, "127.0.0.1:%u 127.0.0.1:%u", place->peer.port,
             two->other.port);
    two->none = place->options.addresses;
    place->options.addresses = two->addresses;
    place->options.hedge_ms = hedge_ms;
    place_restart(place, place->peer.url);
}

static void two_tear_down(struct two *two)
{
    two->place->options.addresses = two->none;
    peer_deinit(&two->other);
}

/* Who was asked first, and the connection. */
static struct peer *take_first(struct two *two, int *fd)
{
    struct peer *asked;

    run_turns(two->place->world.loop, 10);
    asked = peer_has_client(&two->other) ? &two->other : &two->place->peer;
    *fd = peer_accept(asked);
    peer_request(asked, *fd, two->place->text, sizeof two->place->text);
    return asked;
}

static int take_second(struct two *two, const struct peer *first)
{
    struct peer *asked = first == &two->other ? &two->place->peer : &two->other;
    int fd = peer_accept(asked);

    peer_request(asked, fd, two->place->text, sizeof two->place->text);
    return fd;
}

static void test_second_one_wins(void **state)
{
    struct place *place = *state;
    struct two two;
    struct peer *first;
    struct op *op;
    int fds[2];

    two_set_up(&two, place, 100);
    op = place_get(place);
    first = take_first(&two, &fds[0]);
    fake_clock_walk(&place->world.clock, place->world.loop, 90);
    assert_int_equal(place->counts->hedged, 0);
    fake_clock_walk(&place->world.clock, place->world.loop, 30);
    assert_int_equal(place->counts->hedged, 1);
    fds[1] = take_second(&two, first);
    peer_send(fds[1], OK_HI);
    place_assert_answer(place, op, 200, "hi");
    assert_int_equal(place->counts->hedges_won, 1);
    peer_wait_closed(first, &fds[0]); /* the slow one is given up */
    assert_int_equal(place->counts->calls, 2);
    assert_int_equal(place->counts->canceled, 1);
    close_fd(&fds[1]);
    two_tear_down(&two);
}

static void test_first_one_wins(void **state)
{
    struct place *place = *state;
    struct two two;
    struct peer *first;
    struct op *op;
    int fds[2];

    two_set_up(&two, place, 100);
    op = place_get(place);
    first = take_first(&two, &fds[0]);
    fake_clock_walk(&place->world.clock, place->world.loop, 120);
    fds[1] = take_second(&two, first);
    peer_send(fds[0], OK_HI);
    place_assert_answer(place, op, 200, "hi");
    assert_int_equal(place->counts->hedges_won, 0);
    close_fd(&fds[0]);
    close_fd(&fds[1]);
    two_tear_down(&two);
}

/* The first one fails while the second one is under way: that one counts; and the other way
 * round. */
static void test_one_of_two_fails(void **state)
{
    struct place *place = *state;
    struct two two;

    place->options.retries_max = 0;
    two_set_up(&two, place, 100);
    for (int fails = 0; fails < 2; fails++) {
        struct op *op = place_get(place);
        struct peer *first;
        int fds[2];

        first = take_first(&two, &fds[0]);
        fake_clock_walk(&place->world.clock, place->world.loop, 120);
        fds[1] = take_second(&two, first);
        close_with_reset(&fds[fails]);
        run_turns(place->world.loop, 5);
        assert_int_equal(op->state, OP_PENDING);
        peer_send(fds[1 - fails], OK_HI);
        place_assert_answer(place, op, 200, "hi");
        close_fd(&fds[1 - fails]);
        run_turns(place->world.loop, 5);
    }
    two_tear_down(&two);
}

static void test_both_fail(void **state)
{
    struct place *place = *state;
    struct two two;
    struct peer *first;
    struct op *op;
    int fds[2];

    place->options.retries_max = 0;
    two_set_up(&two, place, 100);
    op = place_get(place);
    first = take_first(&two, &fds[0]);
    fake_clock_walk(&place->world.clock, place->world.loop, 120);
    fds[1] = take_second(&two, first);
    close_with_reset(&fds[0]);
    close_with_reset(&fds[1]);
    place_assert_failed(place, op, ERR_UP_RESET, "upstream_reset");
    two_tear_down(&two);
}

/* Not by the call's own word, not for a POST, and not beyond the budget for retries. */
/* The only address may have others behind it: another connection may end up at one that is well. */
static void test_second_one_to_the_only_address(void **state)
{
    struct place *place = *state;
    struct op *op;
    int fds[2];

    place->options.hedge_ms = 100;
    op = place_get(place);
    fds[0] = place_take_call(place);
    fake_clock_walk(&place->world.clock, place->world.loop, 120);
    fds[1] = place_take_call(place);
    peer_send(fds[1], OK_HI);
    place_assert_answer(place, op, 200, "hi");
    assert_int_equal(place->counts->hedges_won, 1);
    peer_wait_closed(&place->peer, &fds[0]);
    close_fd(&fds[1]);
}

/* One that has to wait for a place first, and is slow then. */
static void test_second_one_for_one_that_waited(void **state)
{
    struct place *place = *state;
    const struct upstream_call other = {.path = SPAN("/other"), .hedge_ms = UPSTREAM_NO_HEDGE};
    struct op *ops[2], *op;
    struct two two;

    place->options.queue_timeout_ms = 900;
    two_set_up(&two, place, 100);
    for (int i = 0; i < 2; i++)
        ops[i] = upstream_call(place->scope, place->upstream, &other);
    op = place_get(place);
    fake_clock_walk(&place->world.clock, place->world.loop, 150); /* it waits for one of two */
    assert_int_equal(place->counts->hedged, 0);
    op_cancel(ops[0]);
    op_cancel(ops[1]);
    fake_clock_walk(&place->world.clock, place->world.loop, 250);
    assert_int_equal(place->counts->hedged, 1);
    op_cancel(op);
    two_tear_down(&two);
}

static void test_no_second_one(void **state)
{
    const struct upstream_call calls[] = {
        {.path = SPAN("/quote"), .hedge_ms = UPSTREAM_NO_HEDGE},
        {.path = SPAN("/quote"), .method = SPAN("POST")},
        {.path = SPAN("/quote")},
    };
    struct place *place = *state;
    struct two two;

    place->options.retry_percent = 0;
    two_set_up(&two, place, 100);
    for (int i = 0; i < 3; i++) {
        struct op *op;
        int fd, spent = 0;

        for (; i == 2 && spent < 10; spent++) { /* uses the reserve up */
            struct op *other = place_get(place);
            int fds[2];
            struct peer *first = take_first(&two, &fds[0]);

            fake_clock_walk(&place->world.clock, place->world.loop, 120);
            fds[1] = take_second(&two, first);
            op_cancel(other);
            close_fd(&fds[0]);
            close_fd(&fds[1]);
            world_settle(&place->world);
        }
        op = upstream_call(place->scope, place->upstream, &calls[i]);
        (void)take_first(&two, &fd);
        fake_clock_walk(&place->world.clock, place->world.loop, 150);
        assert_int_equal(place->counts->hedged, spent);
        peer_send(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
        place_assert_answer(place, op, 200, "hi");
        close_fd(&fd);
    }
    assert_int_equal(place->counts->retries_denied, 1);
    two_tear_down(&two);
}

/* The deadline of the one who asks ends both. */
static void test_canceled_with_two_under_way(void **state)
{
    struct place *place = *state;
    struct two two;
    struct peer *first;
    struct op *op;
    int fds[2];

    two_set_up(&two, place, 100);
    place_renew_scope(place, 300);
    op = place_get(place);
    first = take_first(&two, &fds[0]);
    fake_clock_walk(&place->world.clock, place->world.loop, 120);
    fds[1] = take_second(&two, first);
    fake_clock_walk(&place->world.clock, place->world.loop, 250);
    assert_int_equal(op->status, ERR_DEADLINE);
    peer_wait_closed(&place->peer, &fds[0]);
    peer_wait_closed(&place->peer, &fds[1]);
    assert_int_equal(place->counts->connections, 0);
    two_tear_down(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, place_set_up, place_tear_down)
        TEST(test_same_calls_share_one),
        TEST(test_setting_is_for_all),
        TEST(test_what_differs_is_not_shared),
        TEST(test_failure_is_everybodys),
        TEST(test_call_that_is_wrong),
        TEST(test_each_has_its_own_time),
        TEST(test_too_slow_for_all_is_a_failure),
        TEST(test_longer_than_the_upstreams),
        TEST(test_second_one_for_one_that_waited),
        TEST(test_second_one_to_the_only_address),
        TEST(test_first_one_leaves),
        TEST(test_all_leave),
        TEST(test_left_while_in_line),
        TEST(test_second_one_wins),
        TEST(test_first_one_wins),
        TEST(test_one_of_two_fails),
        TEST(test_both_fail),
        TEST(test_no_second_one),
        TEST(test_canceled_with_two_under_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
