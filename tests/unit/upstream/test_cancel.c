/* Goal: a call that is canceled, in whatever state, settles at once and lets go of its place in
 *       line or its connection, which goes to the next. */
#include "unit/upstream/place.h"

static void assert_canceled(struct place *place, struct op *op)
{
    op_cancel(op);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_true(op->is_retired);
    assert_int_equal(upstream_code(op), 0);
    assert_null(upstream_body(op).ptr);
    run_turns(place->world.loop, 3);
}

static void test_canceled_in_line(void **state)
{
    struct place *place = *state;
    struct op *ops[3];
    int fds[2];

    for (int i = 0; i < 3; i++)
        ops[i] = place_get(place);
    assert_canceled(place, ops[2]);
    assert_int_equal(place->counts->waiting, 0);
    for (int i = 0; i < 2; i++) {
        fds[i] = place_take_call(place);
        peer_send(fds[i], OK_HI);
        place_assert_answer(place, ops[i], 200, "hi");
        close_fd(&fds[i]);
    }
}

static void test_canceled_while_resolving(void **state)
{
    struct place *place = *state;
    struct op *op;

    place->dns.is_silent = true;
    place_restart(place, place->name_url);
    op = place_get(place);
    run_turns(place->world.loop, 3);
    assert_canceled(place, op);
    fake_clock_walk(&place->world.clock, place->world.loop, 400);
    assert_int_equal(place->counts->calls, 1);
}

static void test_canceled_while_connecting(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    int fd;

    assert_canceled(place, op);
    fd = peer_accept(&place->peer); /* it goes on, for whoever comes next */
    run_until_count(place->world.loop, &place->counts->idle, 1);
    op = place_get(place);
    peer_request(&place->peer, fd, place->text, sizeof place->text);
    peer_send(fd, OK_HI);
    place_assert_answer(place, op, 200, "hi");
    assert_int_equal(place->counts->connects, 1);
    close_fd(&fd);
}

static void test_canceled_while_connecting_hangs(void **state)
{
    struct place *place = *state;
    struct op *op;
    int fillers[2];

    place_hang(place, fillers);
    op = place_get(place);
    run_turns(place->world.loop, 3);
    assert_canceled(place, op);
    fake_clock_walk(&place->world.clock, place->world.loop, 400);
    assert_int_equal(place->counts->calls, 1);
    assert_int_equal(place->counts->canceled, 1);
    close_fd(&fillers[0]);
    close_fd(&fillers[1]);
}

static void test_canceled_when_sent(void **state)
{
    static const char *const said[] = {"", "HTTP/1.1 20",
                                       "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
                                       "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"};
    struct place *place = *state;

    for (int i = 0; i < 4; i++) {
        struct op *op = place_get(place);
        int fd = place_take_call(place);

        peer_send(fd, said[i]);
        run_turns(place->world.loop, 3);
        assert_canceled(place, op);
        peer_wait_closed(&place->peer, &fd);
        assert_int_equal(place->counts->connections, 0);
    }
    assert_int_equal(place->counts->canceled, 4);
}

static bool peer_has_bytes(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* Of a large request the kernel has taken some; the rest is nobody's any more. */
static void test_canceled_with_some_of_it_sent(void **state)
{
    static char body[8 << 20];
    struct place *place = *state;

    for (int turns = 0; turns < 3; turns++) {
        struct op *op = place_call(place, "POST", (struct span){body, sizeof body}, 0);
        int fd = peer_accept(&place->peer);

        while (!peer_has_bytes(fd))
            run_turns(place->world.loop, 1);
        run_turns(place->world.loop, (uint32_t)turns);
        assert_canceled(place, op);
        assert_int_equal(place->counts->connections, 0);
        place_renew_scope(place, 0); /* where its bytes were */
        run_turns(place->world.loop, 3);
        close_fd(&fd);
    }
}

/* What a canceled call leaves free goes to the next in line. */
static void test_canceled_makes_room(void **state)
{
    struct place *place = *state;
    struct op *ops[3];
    int fds[3];

    for (int i = 0; i < 3; i++)
        ops[i] = place_get(place);
    fds[0] = place_take_call(place);
    fds[1] = place_take_call(place);
    op_cancel(ops[0]);
    op_cancel(ops[1]);
    fds[2] = place_take_call(place);
    peer_send(fds[2], OK_HI);
    place_assert_answer(place, ops[2], 200, "hi");
    for (int i = 0; i < 3; i++)
        close_fd(&fds[i]);
}

static void test_canceled_with_its_scope(void **state)
{
    struct place *place = *state;
    struct op *ops[3];
    int fds[2];

    for (int i = 0; i < 3; i++)
        ops[i] = place_get(place);
    fds[0] = place_take_call(place);
    fds[1] = place_take_call(place);
    scope_cancel(place->scope, SCOPE_CLIENT_GONE);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ops[i]->status, ERR_CANCELED);
    peer_wait_closed(&place->peer, &fds[0]);
    peer_wait_closed(&place->peer, &fds[1]);
    assert_int_equal(place->counts->connections, 0);
}

/* A request that is more than its scope may hold cancels the scope before it is sent. */
static void test_more_than_the_scope_may_hold(void **state)
{
    static char body[100000];
    struct place *place = *state;
    struct op *op;

    place->scope->memory_max = 50000;
    op = place_call(place, "POST", (struct span){body, sizeof body}, 0);
    run_turns(place->world.loop, 3);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_int_equal(place->counts->connects, 0);
    assert_false(peer_has_client(&place->peer));
}

/* Nor does it end the worker where it is more than any scope may hold. */
static void test_more_than_any_scope_may_hold(void **state)
{
    static char body[100000];
    struct place *place = *state;
    struct op *op;

    place->scope->memory_hard = 100000;
    op = place_call(place, "POST", (struct span){body, sizeof body}, 0);
    run_turns(place->world.loop, 3);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_int_equal(place->scope->why, SCOPE_MEMORY);
    assert_int_equal(place->counts->connects, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, place_set_up, place_tear_down)
        TEST(test_canceled_in_line),
        TEST(test_canceled_while_resolving),
        TEST(test_canceled_while_connecting),
        TEST(test_canceled_while_connecting_hangs),
        TEST(test_canceled_when_sent),
        TEST(test_canceled_with_some_of_it_sent),
        TEST(test_canceled_makes_room),
        TEST(test_canceled_with_its_scope),
        TEST(test_more_than_the_scope_may_hold),
        TEST(test_more_than_any_scope_may_hold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
