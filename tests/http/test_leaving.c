/* Goal: a client may leave at any moment, by FIN, close or reset. What was asked is answered where
 * somebody may listen; what waits for nobody is canceled; nothing stays behind; and the access log
 * says so. */
#include "base/log.h"
#include "lib/http_world.h"
#include "lib/test.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define G(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define P(path) "POST " path " HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy"

static struct http_world http;

static int set_up(void **state)
{
    (void)state;
    http_world_init(&http);
    http_world_start(&http);
    return 0;
}

/* Whatever happened: the connection and its requests are gone, but for those that still wait. */
static int tear_down(void **state)
{
    (void)state;
    http_world_settle(&http);
    assert_int_equal(http_server_counts(http.server)->connections_open, 0);
    assert_int_equal(http_server_counts(http.server)->requests_open, 0);
    assert_int_equal(http.world.tasks->scopes_count, 0);
    http_world_deinit(&http);
    return 0;
}

static void assert_logged(const char *text)
{
    if (strstr(http_world_log(&http), text) == NULL)
        fail_msg("%s is not in: %s", text, http.text);
}

static void say_all(int fd)
{
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    http_world_settle(&http);
}

static void leave(int *fd)
{
    close_fd(fd);
    http_world_settle(&http);
}

static void test_before_anything(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    leave(&fd);
    assert_string_equal(http_world_log(&http), "");
}

static void test_within_a_head(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN("GET /hello HT"));
    leave(&fd);
    assert_string_equal(http_world_log(&http), "");
}

static void test_within_a_body(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd,
                    SPAN("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"));
    leave(&fd);
    assert_int_equal(http.started, 0);
    assert_logged("path=/echo route=/echo plugin=test status=499");
    assert_logged("why=client_gone");
}

static void test_within_a_body_that_nobody_wants(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd,
                    SPAN("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"));
    say_all(fd);
    assert_string_equal(http_world_answers(&http, fd, 0), "404$");
    close_fd(&fd);
}

static void test_within_a_body_that_is_pulled(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd,
                    SPAN("POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"));
    leave(&fd);
    assert_int_equal(http.started, 1);
    assert_logged("path=/stream route=/stream plugin=test status=499");
}

/* FIN while a handler waits: the client has left. */
static void test_while_a_handler_waits(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN(G("/wait/1")));
    assert_int_equal(http.waiting_count, 1);
    say_all(fd);
    assert_string_equal(http_world_answers(&http, fd, 0), "$");
    assert_logged("path=/wait/1 route=/wait/:n plugin=test status=499 bytes=0");
    assert_logged("why=client_gone");
    close_fd(&fd);
}

static enum err awaited;

static void run_await(struct scope *scope, void *data)
{
    (void)data;
    awaited = op_await(op_sleep(scope, 60000));
    /* What it says now nobody hears. */
    assert_int_equal(http_problem(http_request_of(scope), 500, SPAN("late")), ERR_CLOSED);
}

static void serve_await(struct http_request *request, void *data)
{
    (void)data;
    assert_true(scope_run(request->scope, run_await, NULL, false));
}

static void test_while_a_fiber_waits(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_route(&http, "GET", "/await", serve_await, 0);
    http_world_send(&http, fd, SPAN(G("/await")));
    say_all(fd);
    assert_int_equal(awaited, ERR_CANCELED);
    assert_string_equal(http_world_answers(&http, fd, 0), "$");
    assert_logged("path=/await route=/await plugin=test status=499 bytes=0");
    close_fd(&fd);
}

/* FIN that came with the request: such a client has asked, and listens. */
static void test_fin_with_the_request(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    peer_send(fd, G("/wait/1") G("/p/2"));
    say_all(fd);
    assert_int_equal(http.waiting_count, 1);
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    http_world_answer(&http, 0);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(1)200(2)$");
    assert_logged("path=/wait/1 route=/wait/:n plugin=test status=200");
    close_fd(&fd);
}

/* The same client, but it did leave: that is noticed when there is something to write. */
static void test_fin_with_the_request_and_gone(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    peer_send(fd, G("/wait/1"));
    leave(&fd);
    assert_int_equal(http.waiting_count, 1);
    http_world_answer(&http, 0);
}

static void test_fin_behind_what_must_wait_its_turn(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    peer_send(fd, P("/wait/1") P("/wait/2") G("/p/3"));
    say_all(fd);
    http_world_answer(&http, 0);
    http_world_answer(&http, 1);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(1)200(2)200(3)$");
    close_fd(&fd);
}

/* What is behind one that was canceled has no place in the line any more. */
static void test_fin_behind_one_that_waits(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN(G("/wait/1") P("/echo") G("/p/3")));
    say_all(fd);
    assert_string_equal(http_world_answers(&http, fd, 0), "$");
    assert_logged("path=/wait/1 route=/wait/:n plugin=test status=499");
    assert_logged("path=/echo route=/echo plugin=test status=499");
    assert_int_equal(http.started, 1);
    close_fd(&fd);
}

static void test_fin_while_an_answered_one_waits_its_turn(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN(G("/wait/1") G("/p/2")));
    say_all(fd);
    assert_string_equal(http_world_answers(&http, fd, 0), "$");
    assert_logged("path=/p/2 route=/p/:id plugin=test status=499");
    close_fd(&fd);
}

/* A route that finishes whatever the client does: FIN alone costs it nothing. */
static void test_fin_on_a_route_that_finishes(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN(G("/finish/1") G("/p/2")));
    say_all(fd);
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    http_world_answer(&http, 0);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(1)200(2)$");
    close_fd(&fd);
}

static int connect_tcp(void)
{
    struct addr peer;
    int fds[2];

    assert_true(addr_parse(SPAN("10.1.2.3:45"), &peer));
    pair_tcp(fds);
    http_server_accept(http.server, fds[0], &peer);
    return fds[1];
}

static void test_reset_on_a_route_that_finishes(void **state)
{
    int fd = connect_tcp();

    (void)state;
    http_world_send(&http, fd, SPAN(G("/finish/1")));
    run_until_count(http.world.loop, &http.waiting_count, 1);
    close_with_reset(&fd);
    while (http_server_counts(http.server)->connections_open > 0)
        loop_turn(http.world.loop, 0);
    assert_null(http.waiting[0]->conn);
    assert_int_equal(http.waiting[0]->scope->why, SCOPE_ALIVE);
    assert_string_equal(http_world_log(&http), "");
    http_world_answer(&http, 0);
    assert_logged("path=/finish/1 route=/finish/:n plugin=test status=499");
}

static void test_reset_while_a_handler_waits(void **state)
{
    int fd = connect_tcp();

    (void)state;
    http_world_send(&http, fd, SPAN(G("/wait/1")));
    run_until_count(http.world.loop, &http.waiting_count, 1);
    close_with_reset(&fd);
    while (http_server_counts(http.server)->requests_open > 0)
        loop_turn(http.world.loop, 0);
    assert_logged("path=/wait/1 route=/wait/:n plugin=test status=499");
}

static void test_reset_in_the_line(void **state)
{
    int fd = connect_tcp();

    (void)state;
    http_world_send(&http, fd, SPAN(G("/wait/1") G("/wait/2") P("/wait/3") G("/p/4")));
    run_until_count(http.world.loop, &http.waiting_count, 2);
    close_with_reset(&fd);
    while (http_server_counts(http.server)->requests_open > 0)
        loop_turn(http.world.loop, 0);
    assert_logged("path=/wait/2 route=/wait/:n plugin=test status=499");
    assert_logged("path=/wait/3 route=/wait/:n plugin=test status=499");
}

static void test_reset_while_lingering(void **state)
{
    int fd = connect_tcp();

    (void)state;
    http_world_send(&http, fd, SPAN("GET / HTTP/9.9\r\n\r\n"));
    while (http_server_counts(http.server)->refused == 0)
        loop_turn(http.world.loop, 0);
    close_with_reset(&fd);
    while (http_server_counts(http.server)->connections_open > 0)
        loop_turn(http.world.loop, 0);
}

static void serve_much(struct http_request *request, void *data)
{
    static char much[1 << 20];

    (void)data;
    assert_int_equal(
        http_reply(request, 200, SPAN("text/plain"), (struct span){much, sizeof(much)}), ERR_OK);
}

static void test_while_an_answer_is_unsent(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_route(&http, "GET", "/much", serve_much, 0);
    http_world_send(&http, fd, SPAN(G("/much")));
    assert_int_equal(http_server_counts(http.server)->connections_open, 1);
    leave(&fd);
}

/* A client that has said all and reads slowly gets it to the last byte. */
static void test_fin_while_an_answer_is_unsent(void **state)
{
    int fd = http_world_connect(&http);
    size_t total = 0;
    ssize_t got;

    (void)state;
    http_world_route(&http, "GET", "/much", serve_much, 0);
    http_world_send(&http, fd, SPAN(G("/much")));
    say_all(fd);
    while ((got = recv(fd, http.text, HTTP_TEXT_SIZE, MSG_DONTWAIT)) != 0) {
        total += got > 0 ? (size_t)got : 0;
        http_world_settle(&http);
    }
    assert_true(total > 1 << 20);
    close_fd(&fd);
}

/* While a shield is up, the client's leaving does not count; after it, it does. */
static void test_behind_a_shield(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN(G("/wait/1")));
    scope_shield(http.waiting[0]->scope, 1000);
    say_all(fd);
    assert_int_equal(http.waiting[0]->scope->why, SCOPE_ALIVE);
    fake_clock_walk(&http.world.clock, http.world.loop, 990);
    assert_int_equal(http_server_counts(http.server)->requests_open, 1);
    fake_clock_walk(&http.world.clock, http.world.loop, 20);
    assert_string_equal(http_world_answers(&http, fd, 0), "$");
    assert_logged("status=499");
    close_fd(&fd);
}

static void test_behind_a_shield_that_was_enough(void **state)
{
    int fd = http_world_connect(&http);

    (void)state;
    http_world_send(&http, fd, SPAN(G("/wait/1")));
    scope_shield(http.waiting[0]->scope, 1000);
    say_all(fd);
    http_world_answer(&http, 0);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(1)$");
    close_fd(&fd);
}

static void test_reset_behind_a_shield(void **state)
{
    int fd = connect_tcp();

    (void)state;
    http_world_send(&http, fd, SPAN(G("/wait/1")));
    run_until_count(http.world.loop, &http.waiting_count, 1);
    scope_shield(http.waiting[0]->scope, 1000);
    close_with_reset(&fd);
    while (http_server_counts(http.server)->connections_open > 0)
        loop_turn(http.world.loop, 0);
    assert_int_equal(http.waiting[0]->scope->why, SCOPE_ALIVE);
    fake_clock_walk(&http.world.clock, http.world.loop, 1010);
    http_world_settle(&http);
    assert_logged("status=499");
}

/* A deadline that passes while nobody listens ends what only went on to finish. */
static void test_deadline_without_a_client(void **state)
{
    int fd = connect_tcp();

    (void)state;
    http_world_send(&http, fd, SPAN(G("/finish/1")));
    run_until_count(http.world.loop, &http.waiting_count, 1);
    close_with_reset(&fd);
    while (http_server_counts(http.server)->connections_open > 0)
        loop_turn(http.world.loop, 0);
    fake_clock_walk(&http.world.clock, http.world.loop, 5010);
    http_world_settle(&http);
    assert_logged("status=499");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_before_anything),
        TEST(test_within_a_head),
        TEST(test_within_a_body),
        TEST(test_within_a_body_that_nobody_wants),
        TEST(test_within_a_body_that_is_pulled),
        TEST(test_while_a_handler_waits),
        TEST(test_while_a_fiber_waits),
        TEST(test_fin_with_the_request),
        TEST(test_fin_with_the_request_and_gone),
        TEST(test_fin_behind_what_must_wait_its_turn),
        TEST(test_fin_behind_one_that_waits),
        TEST(test_fin_while_an_answered_one_waits_its_turn),
        TEST(test_fin_on_a_route_that_finishes),
        TEST(test_reset_on_a_route_that_finishes),
        TEST(test_reset_while_a_handler_waits),
        TEST(test_reset_in_the_line),
        TEST(test_reset_while_lingering),
        TEST(test_while_an_answer_is_unsent),
        TEST(test_fin_while_an_answer_is_unsent),
        TEST(test_behind_a_shield),
        TEST(test_behind_a_shield_that_was_enough),
        TEST(test_reset_behind_a_shield),
        TEST(test_deadline_without_a_client),
    };

    log_setup(STDERR_FILENO, LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
