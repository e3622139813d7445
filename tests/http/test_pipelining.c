/* Goal: answers come in the order of their requests, whatever the order in which handlers answer;
 * what must not run beside others does not; too many wait in the socket, not in memory; and a whole
 * line of requests costs one recv and one send. */
#include "base/log.h"
#include "lib/fault.h"
#include "lib/http_world.h"
#include "lib/test.h"

#include <stdio.h>
#include <unistd.h>

#define G(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define P(path) "POST " path " HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy"

static struct http_world http;

static int set_up(void **state)
{
    (void)state;
    http_world_init(&http);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_world_deinit(&http);
    return 0;
}

static void test_answers_keep_their_order(void **state)
{
    int fd;

    (void)state;
    http_world_start(&http);
    fd = http_world_connect(&http);
    http_world_send(&http, fd,
                    SPAN(G("/wait/1") G("/wait/2") G("/p/3") G("/wait/4") G("/chunked")));
    assert_int_equal(http.waiting_count, 3);
    assert_int_equal(http.started, 5);
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    http_world_answer(&http, 2);
    http_world_answer(&http, 1);
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    http_world_answer(&http, 0);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(1)200(2)200(3)200(4)200(abcd)");
    assert_int_equal(http_server_counts(http.server)->requests_open, 0);
    close_fd(&fd);
}

/* What the one who waits behind has written goes out as soon as it is its turn, ended or not. */
static void test_a_begun_answer_follows(void **state)
{
    struct http_request *second;
    int fd;

    (void)state;
    http_world_start(&http);
    fd = http_world_connect(&http);
    http_world_send(&http, fd, SPAN(G("/wait/1") G("/wait/2")));
    second = http.waiting[1];
    assert_int_equal(http_reply_begin(second, 200, SPAN("text/plain"), 6), ERR_OK);
    assert_int_equal(http_reply_write(second, SPAN("abc")), ERR_OK);
    http_world_settle(&http);
    assert_string_equal(http_world_read(&http, fd), "");
    http_world_answer(&http, 0);
    assert_non_null(strstr(http_world_read(&http, fd), "\r\n\r\nabc"));
    assert_int_equal(http_reply_write(second, SPAN("def")), ERR_OK);
    http_world_settle(&http);
    assert_string_equal(http_world_read(&http, fd), "def");
    assert_int_equal(http_reply_end(second), ERR_OK);
    http_world_settle(&http);
    http_world_send(&http, fd, SPAN(G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "200(hello)");
    close_fd(&fd);
}

/* RFC 9112 section 9.3.2: only safe methods run beside one another. */
static void test_unsafe_methods_wait_for_their_turn(void **state)
{
    int fd;

    (void)state;
    http_world_start(&http);
    fd = http_world_connect(&http);
    http_world_send(&http, fd,
                    SPAN(G("/wait/1") G("/wait/2") P("/wait/3") G("/wait/4") P("/wait/5")));
    assert_int_equal(http.waiting_count, 2);
    http_world_answer(&http, 1);
    assert_int_equal(http.waiting_count, 2);
    http_world_answer(&http, 0);
    assert_int_equal(http.waiting_count, 3); /* the POST alone */
    http_world_answer(&http, 2);
    assert_int_equal(http.waiting_count, 4);
    http_world_answer(&http, 3);
    http_world_answer(&http, 4);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(1)200(2)200(3)200(4)200(5)");
    close_fd(&fd);
}

static void test_too_many_wait_in_the_socket(void **state)
{
    char request[64], wanted[512] = "";
    size_t used = 0;
    int fd;

    (void)state;
    http.options.pipelined_max = 4;
    http_world_start(&http);
    fd = http_world_connect(&http);
    for (int i = 0; i < 20; i++) {
        snprintf(request, sizeof(request), G("/wait/%d"), i);
        http_world_send(&http, fd, span_of(request));
        used += (size_t)snprintf(wanted + used, sizeof(wanted) - used, "200(%d)", i);
    }
    assert_int_equal(http.waiting_count, 4);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(http.waiting_count, i + 4 < 20 ? i + 4 : 20);
        http_world_answer(&http, i);
    }
    assert_string_equal(http_world_answers(&http, fd, 0), wanted);
    close_fd(&fd);
}

/* More requests than the read buffer holds: reading stops, and goes on when there is room. */
static void test_reading_stops_and_goes_on(void **state)
{
    struct buf bytes = {0};
    const struct http_server_counts *counts;
    size_t sent = 0;
    int fd;

    (void)state;
    http.options.pipelined_max = 2;
    http_world_start(&http);
    fd = http_world_connect(&http);
    counts = http_server_counts(http.server);
    for (uint32_t i = 0; i < 3000; i++)
        buf_append(&bytes, i % 100 == 0 ? SPAN(G("/wait/1")) : SPAN(G("/p/2")));
    for (uint32_t spent = 0; counts->requests < 3000 || counts->requests_open > 0; spent++) {
        ssize_t got = sent < bytes.len ? write(fd, bytes.data + sent, bytes.len - sent) : 0;

        sent += got > 0 ? (size_t)got : 0;
        http_world_settle(&http);
        while (http.waiting_count > 0) {
            http.waiting_count--;
            http_world_answer(&http, http.waiting_count);
        }
        (void)http_world_read(&http, fd);
        assert_true(spent < 10000);
    }
    assert_int_equal(sent, bytes.len);
    buf_release(&bytes);
    close_fd(&fd);
}

static void test_an_error_waits_for_its_turn(void **state)
{
    int fd;

    (void)state;
    http_world_start(&http);
    fd = http_world_connect(&http);
    http_world_send(&http, fd, SPAN(G("/wait/1") "NONSENSE\r\n\r\n" G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    http_world_answer(&http, 0);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(1)400x$");
    close_fd(&fd);
}

static void test_a_refusal_waits_for_its_turn(void **state)
{
    int fd;

    (void)state;
    http_world_start(&http);
    fd = http_world_connect(&http);
    http_world_send(&http, fd, SPAN(G("/wait/1") P("/nothing") G("/p/2")));
    assert_string_equal(http_world_answers(&http, fd, 0), "");
    http_world_answer(&http, 0);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(1)404200(2)");
    close_fd(&fd);
}

/* An answer that can only end with the connection cuts off what is behind it. */
static void test_a_short_answer_cuts_the_line(void **state)
{
    struct http_request *first;
    int fd;

    (void)state;
    http_world_start(&http);
    fd = http_world_connect(&http);
    http_world_send(&http, fd, SPAN(G("/wait/1") G("/wait/2") G("/p/3")));
    first = http.waiting[0];
    assert_int_equal(http_reply_begin(first, 200, SPAN("text/plain"), 5), ERR_OK);
    assert_int_equal(http_reply_write(first, SPAN("abc")), ERR_OK);
    assert_int_equal(http_reply_end(first), ERR_STATE);
    http_world_answer(&http, 1); /* before the connection had a chance to end: to nobody */
    assert_string_equal(http_world_answers(&http, fd, 0), "200(?$");
    assert_int_equal(http_server_counts(http.server)->requests_open, 0);
    assert_int_equal(http_server_counts(http.server)->connections_open, 0);
    close_fd(&fd);
}

/* What lessons were paid for: one recv, all parsed, one send. */
static void test_a_line_costs_two_calls(void **state)
{
    struct span line;
    int fd;

    (void)state;
    http_world_start(&http);
    fd = http_world_connect(&http);
    http_world_send(&http, fd, SPAN(G("/hello")));
    (void)http_world_read(&http, fd);
    fault_reset();
    line = SPAN(G("/p/1") G("/p/2") G("/p/3") G("/p/4") G("/p/5") G("/p/6") G("/p/7") G("/p/8") G(
        "/p/9") G("/p/10") G("/p/11") G("/p/12") G("/p/13") G("/p/14") G("/p/15") G("/p/16"));
    assert_int_equal(write(fd, line.ptr, line.len), line.len);
    loop_turn(http.world.loop, 0);
    assert_int_equal(fault_calls(FAULT_RECV), 1);
    assert_int_equal(fault_calls(FAULT_SEND), 1);
    assert_int_equal(fault_calls(FAULT_EPOLL_CTL), 0);
    assert_int_equal(http_server_counts(http.server)->requests, 17);
    close_fd(&fd);
}

/* A client that asks and does not read is served only so far. */
static void test_a_client_that_does_not_read(void **state)
{
    struct span request = SPAN(G("/p/0123456789012345678901234567890123456789"));
    uint64_t before = 0;
    int fd;

    (void)state;
    http_world_start(&http);
    fd = http_world_connect(&http);
    for (int i = 0; i < 20000; i++) {
        if (send(fd, request.ptr, request.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            before = http_server_counts(http.server)->requests;
        loop_turn(http.world.loop, 0);
    }
    assert_true(before > 0);
    assert_int_equal(http_server_counts(http.server)->requests, before);
    assert_true(before < 10000);
    while (strlen(http_world_read(&http, fd)) > 0)
        http_world_settle(&http);
    assert_true(http_server_counts(http.server)->requests > before);
    close_fd(&fd);
}

static void serve_much(struct http_request *request, void *data)
{
    static char much[200000];

    (void)data;
    assert_int_equal(
        http_reply(request, 200, SPAN("text/plain"), (struct span){much, sizeof(much)}), ERR_OK);
}

/* More was written in one turn than may be unsent, but the kernel took all of it at once: what lies
 * behind in the buffer is read all the same. */
static void test_much_that_is_sent_at_once(void **state)
{
    const int wanted = 1 << 20;
    size_t total = 0;
    struct addr peer;
    ssize_t got;
    int fds[2];

    (void)state;
    http_world_start(&http);
    http_world_route(&http, "GET", "/much", serve_much, 0);
    assert_true(addr_parse(SPAN("10.1.2.3:45"), &peer));
    pair_unix(fds);
    assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &wanted, sizeof(wanted)), 0);
    http_server_accept(http.server, fds[0], &peer);
    http_world_send(&http, fds[1], SPAN(G("/much") G("/much") G("/p/1") G("/p/2")));
    while ((got = recv(fds[1], http.text, HTTP_TEXT_SIZE, MSG_DONTWAIT)) > 0) {
        total += (size_t)got;
        http_world_settle(&http);
    }
    assert_true(total > 400000);
    assert_int_equal(http_server_counts(http.server)->requests, 4);
    assert_int_equal(http_server_counts(http.server)->requests_open, 0);
    close_fd(&fds[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answers_keep_their_order),
        TEST(test_a_begun_answer_follows),
        TEST(test_unsafe_methods_wait_for_their_turn),
        TEST(test_too_many_wait_in_the_socket),
        TEST(test_reading_stops_and_goes_on),
        TEST(test_an_error_waits_for_its_turn),
        TEST(test_a_refusal_waits_for_its_turn),
        TEST(test_a_short_answer_cuts_the_line),
        TEST(test_a_line_costs_two_calls),
        TEST(test_a_client_that_does_not_read),
        TEST(test_much_that_is_sent_at_once),
    };

    log_setup(STDERR_FILENO, LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
