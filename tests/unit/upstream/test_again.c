/* Goal: a call that a closing connection took with it is sent once more where that is safe, on a
 *       new connection, and in no other case. */
#include "unit/upstream/place.h"

#include <string.h>

/* Sends a call on a kept connection, which the peer closes when it has read it. */
static struct op *call_into_closing(struct place *place, const char *method, uint32_t flags)
{
    int fd = place_warm_up(place);
    struct op *op = place_call(place, method, SPAN("body"), flags);

    peer_request(&place->peer, fd, place->text, sizeof place->text);
    close_fd(&fd);
    return op;
}

static void assert_sent_again(struct place *place, struct op *op)
{
    char first[sizeof place->text];
    int fd;

    strcpy(first, place->text);
    fd = place_take_call(place);
    assert_string_equal(place->text, first);
    peer_send(fd, OK_HI);
    place_assert_answer(place, op, 200, "hi");
    assert_int_equal(place->counts->retried, 1);
    assert_int_equal(place->counts->failed, 0);
    close_fd(&fd);
}

static void test_get_is_sent_again(void **state)
{
    assert_sent_again(*state, call_into_closing(*state, "GET", 0));
}

static void test_post_is_not(void **state)
{
    struct place *place = *state;

    place_assert_failed(place, call_into_closing(place, "POST", 0), ERR_UP_RESET, "upstream_reset");
    assert_int_equal(place->counts->retried, 0);
    assert_false(peer_has_client(&place->peer));
}

static void test_post_that_says_so(void **state)
{
    assert_sent_again(*state, call_into_closing(*state, "POST", UPSTREAM_IDEMPOTENT));
}

static void test_post_that_was_never_written(void **state)
{
    struct place *place = *state;
    int fd = place_warm_up(place);
    struct op *op = place_call(place, "POST", SPAN("body"), 0);

    close_fd(&fd); /* seen by the loop before it sends, at the end of its turn */
    fd = place_take_call(place);
    peer_send(fd, OK_HI);
    place_assert_answer(place, op, 200, "hi");
    assert_int_equal(place->counts->retried, 1);
    close_fd(&fd);
}

static void test_not_after_a_byte_of_the_answer(void **state)
{
    struct place *place = *state;
    int fd = place_warm_up(place);
    struct op *op = place_get(place);

    peer_request(&place->peer, fd, place->text, sizeof place->text);
    peer_send(fd, "H");
    close_fd(&fd);
    place_assert_failed(place, op, ERR_UP_RESET, "upstream_reset");
    assert_int_equal(place->counts->retried, 0);
}

static void test_not_on_a_new_connection(void **state)
{
    struct place *place = *state;
    struct op *op = place_get(place);
    int fd = place_take_call(place);

    close_fd(&fd);
    place_assert_failed(place, op, ERR_UP_RESET, "upstream_reset");
    assert_int_equal(place->counts->retried, 0);
}

static void test_only_once(void **state)
{
    struct place *place = *state;
    struct op *op = call_into_closing(place, "GET", 0);
    int fd = place_take_call(place);

    close_fd(&fd);
    place_assert_failed(place, op, ERR_UP_RESET, "upstream_reset");
    assert_int_equal(place->counts->retried, 1);
    assert_int_equal(place->counts->failed, 1);
}

static void test_refused_when_sent_again(void **state)
{
    struct place *place = *state;
    struct op *op = call_into_closing(place, "GET", 0);

    peer_deinit(&place->peer);
    place_assert_failed(place, op, ERR_UP_CONNECT, "upstream_connect");
}

static void test_canceled_when_sent_again(void **state)
{
    struct place *place = *state;
    struct op *op = call_into_closing(place, "GET", 0);
    int fd;

    while (place->counts->retried == 0)
        loop_turn(place->world.loop, 1);
    op_cancel(op);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_true(op->is_retired);
    fd = peer_accept(&place->peer);
    run_until_count(place->world.loop, &place->counts->idle, 1);
    close_fd(&fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, place_set_up, place_tear_down)
        TEST(test_get_is_sent_again),
        TEST(test_post_is_not),
        TEST(test_post_that_says_so),
        TEST(test_post_that_was_never_written),
        TEST(test_not_after_a_byte_of_the_answer),
        TEST(test_not_on_a_new_connection),
        TEST(test_only_once),
        TEST(test_refused_when_sent_again),
        TEST(test_canceled_when_sent_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
