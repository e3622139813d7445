/* Goal: an answer that is a file is that file, in its place among others, as fast as its client
 * takes it and in constant memory; a file that fails, a client that leaves or stalls, and a server
 * that drains are each told from the others, and the descriptor is closed once. */
#include "http/inside.h"
#include "http/reply_file.h"
#include "lib/fault.h"
#include "lib/http_world.h"
#include "lib/test.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define G(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

enum { SMALL = 5, LARGE = 3000000 };

static struct http_world http;
static int file;         /* of LARGE bytes */
static uint32_t fds;     /* open ones of the test, without connections */
static enum err outcome; /* of the last http_reply_file() */

static char byte_at(size_t at)
{
    return (char)(at * 31 + at / 251);
}

/* "?from=&len=": that part of the file. */
static void on_file(struct http_request *request, void *data)
{
    struct span from = http_request_query(request, SPAN("from"));
    struct span len = http_request_query(request, SPAN("len"));
    struct http_file sent = {.fd = dup(file)};

    (void)data;
    sent.offset = from.ptr != NULL ? strtoull(from.ptr, NULL, 10) : 0;
    sent.length = len.ptr != NULL ? strtoull(len.ptr, NULL, 10) : LARGE;
    outcome = http_reply_file(request, 200, SPAN("a/b"), &sent);
    if (outcome == ERR_IO)
        assert_int_equal(http_problem(request, 500, SPAN("unreadable")), ERR_OK);
    else
        assert_true(outcome == ERR_OK || request->scope->why != SCOPE_REPLIED);
}

static void make_file(void)
{
    char *bytes = malloc(LARGE);

    file = memfd_create("file", MFD_CLOEXEC);
    for (size_t i = 0; i < LARGE; i++)
        bytes[i] = byte_at(i);
    assert_int_equal(write(file, bytes, LARGE), LARGE);
    free(bytes);
}

static int set_up(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    fault_reset();
    http_world_init(&http);
    http_world_start(&http);
    (void)http_world_route(&http, "GET", "/file", on_file, 0);
    (void)http_world_route(&http, "POST", "/file", on_file, 0);
    (void)http_world_route(&http, "POST", "/stream-file", on_file, HTTP_ROUTE_STREAM_BODY);
    make_file();
    fds = open_fds();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fault_reset();
    http_world_settle(&http);
    assert_int_equal(http_server_counts(http.server)->connections_open, 0);
    assert_int_equal(http.world.tasks->scopes_count, 0);
    assert_int_equal(open_fds(), fds);
    close_fd(&file);
    http_world_deinit(&http);
    return 0;
}

static int ask(const char *request)
{
    int fd = http_world_connect(&http);

    http_world_send(&http, fd, span_of(request));
    return fd;
}

static void part(int *fd)
{
    close_fd(fd);
    http_world_settle(&http);
}

/* Reads all that comes until `size` bytes or an end. The bytes are the caller's. */
static char *take(int fd, size_t size, size_t *got)
{
    char *bytes = malloc(size + 1);
    uint32_t in_vain = 0;

    *got = 0;
    while (*got < size && in_vain < 20) {
        ssize_t more = recv(fd, bytes + *got, size - *got, MSG_DONTWAIT);

        http_world_settle(&http);
        in_vain = more > 0 ? 0 : in_vain + 1;
        *got += more > 0 ? (size_t)more : 0;
    }
    bytes[*got] = '\0';
    return bytes;
}

/* The answer is a head with this length, and the file from `from` on. The bytes behind it. */
static const char *expect_file(const char *answer, size_t got, size_t from, size_t len)
{
    const char *body = strstr(answer, "\r\n\r\n");
    char length[64];

    snprintf(length, sizeof length, "Content-Length: %zu\r\n", len);
    assert_non_null(body);
    body += 4;
    assert_int_equal(strncmp(answer, "HTTP/1.1 200 OK\r\n", 17), 0);
    assert_non_null(strstr(answer, length));
    assert_non_null(strstr(answer, "Content-Type: a/b\r\n"));
    assert_true((size_t)(answer + got - body) >= len);
    for (size_t i = 0; i < len; i++) {
        if (body[i] != byte_at(from + i))
            fail_msg("byte %zu is wrong", i);
    }
    return body + len;
}

static void assert_logged(const char *text)
{
    if (strstr(http_world_log(&http), text) == NULL)
        fail_msg("%s is not in: %s", text, http.text);
}

/* ---- done ---- */

static void test_large(void **state)
{
    int fd = ask(G("/file"));
    size_t got;
    char *answer = take(fd, 2 * LARGE, &got);

    (void)state;
    assert_string_equal(expect_file(answer, got, 0, LARGE), "");
    free(answer);
    assert_int_equal(outcome, ERR_OK);
    http_world_send(&http, fd, SPAN(G("/hello")));
    assert_string_equal(http_world_answers(&http, fd, 0), "200(hello)");
    assert_logged("why=done");
    part(&fd);
}

static void test_parts_of_each_size(void **state)
{
    static const size_t sizes[] = {
        0, 1, SMALL, HTTP_FILE_COPY_MAX, HTTP_FILE_COPY_MAX + 1, 262144, 262145,
    };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char request[128];
        size_t got;
        char *answer;
        int fd;

        snprintf(request, sizeof request, G("/file?from=%zu&len=%zu"), 1000 + i, sizes[i]);
        fd = ask(request);
        answer = take(fd, LARGE, &got);
        assert_string_equal(expect_file(answer, got, 1000 + i, sizes[i]), "");
        free(answer);
        part(&fd);
    }
}

static void test_head_has_the_length_alone(void **state)
{
    int fd = ask("HEAD /file HTTP/1.1\r\nHost: a\r\n\r\n");

    (void)state;
    assert_non_null(strstr(http_world_read(&http, fd), "Content-Length: 3000000\r\n"));
    assert_string_equal(strstr(http.text, "\r\n\r\n"), "\r\n\r\n");
    assert_int_equal(fault_calls(FAULT_SENDFILE), 0);
    part(&fd);
}

/* Its answer is the first, in between, and the last. */
static void test_in_its_place_among_others(void **state)
{
    int fd =
        ask(G("/wait/1") G("/file?len=100000") G("/hello") G("/file?from=5&len=20000") G("/hello"));
    const char *rest;
    size_t got;
    char *answer;

    (void)state;
    assert_string_equal(http_world_read(&http, fd), "");
    assert_int_equal(fault_calls(FAULT_SENDFILE), 0);
    http_world_answer(&http, 0);
    answer = take(fd, LARGE, &got);
    rest = expect_file(strstr(answer, "\r\n\r\n1") + 5, got, 0, 100000);
    assert_non_null(rest = strstr(rest, "\r\n\r\nhello"));
    rest = expect_file(rest + 9, got, 5, 20000);
    assert_non_null(strstr(rest, "\r\n\r\nhello"));
    free(answer);
    part(&fd);
}

static void test_the_last_of_a_connection(void **state)
{
    int fd = ask("GET /file?len=20000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    bool is_end = false;
    size_t got;
    char *answer = take(fd, LARGE, &got);

    (void)state;
    (void)expect_file(answer, got, 0, 20000);
    assert_non_null(strstr(answer, "Connection: close\r\n"));
    free(answer);
    (void)peer_read(fd, (char[2]){0}, 2, &is_end);
    assert_true(is_end);
    part(&fd);
}

/* FIN right behind the request: such a client listens. */
static void test_for_one_that_has_said_all(void **state)
{
    int fd = http_world_connect(&http);
    size_t got;
    char *answer;

    (void)state;
    assert_int_equal(send(fd, G("/file"), strlen(G("/file")), 0), strlen(G("/file")));
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    answer = take(fd, 2 * LARGE, &got);
    (void)expect_file(answer, got, 0, LARGE);
    free(answer);
    part(&fd);
}

/* And one that says so while it is sent. */
static void test_for_one_that_says_so_meanwhile(void **state)
{
    int fd = ask(G("/file"));
    size_t got;
    char *answer;

    (void)state;
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    http_world_settle(&http);
    answer = take(fd, 2 * LARGE, &got);
    (void)expect_file(answer, got, 0, LARGE);
    free(answer);
    part(&fd);
}

/* The request's body still comes: it is of no use. */
static void test_before_the_body_was_read(void **state)
{
    int fd = ask("POST /stream-file HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
    const char *rest;
    size_t got;
    char *answer;

    (void)state;
    http_world_send(&http, fd, SPAN("67890" G("/hello")));
    answer = take(fd, 2 * LARGE, &got);
    rest = expect_file(answer, got, 0, LARGE);
    assert_non_null(strstr(rest, "\r\n\r\nhello"));
    free(answer);
    part(&fd);
}

static void test_constant_memory(void **state)
{
    int fd;

    (void)state;
    assert_int_equal(ftruncate(file, (off_t)1 << 40), 0);
    fd = ask(G("/file?len=1099511627776"));
    for (int i = 0; i < 50; i++) {
        size_t got;
        char *bytes = take(fd, 100000, &got);

        assert_int_equal(got, 100000);
        free(bytes);
    }
    assert_true(http.world.tasks->scopes_count == 1);
    part(&fd);
    assert_logged("why=client_gone");
    assert_logged("status=499");
}

/* ---- refused ---- */

static void test_what_cannot_be_asked_for(void **state)
{
    int fd = ask(G("/file?from=9223372036854775807&len=1") G("/file?len=9223372036854775808"));

    (void)state;
    assert_int_equal(outcome, ERR_INVALID);
    (void)http_world_read(&http, fd);
    part(&fd);
}

static void test_two_answers(void **state)
{
    int fd = ask(G("/wait/1"));
    struct http_file sent = {.fd = dup(file), .length = LARGE};

    (void)state;
    assert_int_equal(http_reply(http.waiting[0], 200, SPAN("a/b"), SPAN("x")), ERR_OK);
    assert_int_equal(http_reply_file(http.waiting[0], 200, SPAN("a/b"), &sent), ERR_STATE);
    http_world_settle(&http);
    assert_string_equal(http_world_answers(&http, fd, 0), "200(x)");
    part(&fd);
}

/* ---- the file fails ---- */

static void test_a_small_one_that_cannot_be_read(void **state)
{
    int fd;

    (void)state;
    fault_plan(FAULT_PREAD, 0, 1, EIO);
    fd = ask(G("/file?len=5"));
    assert_string_equal(http_world_answers(&http, fd, 0), "500");
    fault_plan(FAULT_PREAD, 0, 1, EINTR);
    http_world_send(&http, fd, SPAN(G("/file?len=0&from=9") G("/file?len=5&from=2999999")));
    assert_string_equal(http_world_answers(&http, fd, 0), "200()500");
    part(&fd);
}

static void test_one_that_gets_shorter(void **state)
{
    int fd = ask(G("/file") G("/hello"));
    bool is_end = false;
    size_t got;
    char *answer;

    (void)state;
    assert_int_equal(ftruncate(file, 2500000), 0);
    answer = take(fd, 2 * LARGE, &got);
    assert_true(got > 2500000);
    assert_true(got < 2501000);
    free(answer);
    (void)peer_read(fd, (char[2]){0}, 2, &is_end);
    assert_true(is_end);
    assert_logged("why=file");
    part(&fd);
}

static void test_a_disk_that_fails(void **state)
{
    int fd;
    size_t got;
    char *answer;

    (void)state;
    fault_plan(FAULT_SENDFILE, 2, 1, EIO);
    fd = ask(G("/file"));
    answer = take(fd, 2 * LARGE, &got);
    assert_true(got < LARGE);
    free(answer);
    assert_logged("why=file");
    part(&fd);
}

/* ---- the client goes ---- */

static void test_a_client_that_leaves(void **state)
{
    static const char *const requests[] = {G("/file"), G("/wait/1") G("/file"),
                                           G("/file") G("/file")};

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        int fd = ask(requests[i]);

        part(&fd);
        assert_int_equal(open_fds(), fds);
    }
    assert_logged("why=client_gone");
}

static void test_a_client_that_has_left(void **state)
{
    int fd = http_world_connect(&http);
    struct http_file sent = {.fd = dup(file), .length = LARGE};
    struct http_request *request;

    (void)state;
    http_world_send(&http, fd, SPAN(G("/finish/1") G("/finish/2")));
    request = http.waiting[1];
    part(&fd);
    http_world_answer(&http, 0); /* shows that nobody is there */
    assert_int_equal(http_reply_file(request, 200, SPAN("a/b"), &sent), ERR_CLOSED);
}

static void test_a_client_that_stalls(void **state)
{
    int fd = ask(G("/file"));
    uint32_t ms = http.options.write_timeout_ms;

    (void)state;
    fake_clock_walk(&http.world.clock, http.world.loop, ms - 10);
    http_world_settle(&http);
    assert_int_equal(http_server_counts(http.server)->connections_open, 1);
    fake_clock_walk(&http.world.clock, http.world.loop, 200);
    http_world_settle(&http);
    assert_int_equal(http_server_counts(http.server)->connections_open, 0);
    assert_logged("why=write_timeout");
    part(&fd);
}

/* It takes long, but takes: neither its budget nor a time limit ends it. */
static void test_a_client_that_is_slow(void **state)
{
    int fd = ask(G("/file"));
    uint32_t ms = http.options.write_timeout_ms / 4;
    size_t total = 0;

    (void)state;
    for (int i = 0; i < 20; i++) {
        size_t got;

        free(take(fd, 150000, &got));
        total += got;
        fake_clock_walk(&http.world.clock, http.world.loop, ms);
        http_world_settle(&http);
    }
    assert_int_equal(total, 20 * 150000);
    part(&fd);
}

static void on_drained(void *data)
{
    ++*(uint32_t *)data;
}

static void test_a_server_that_drains(void **state)
{
    int fd = ask(G("/file"));
    uint32_t drained = 0;
    size_t got;
    char *answer;

    (void)state;
    http_server_drain(http.server, on_drained, &drained);
    answer = take(fd, 2 * LARGE, &got);
    (void)expect_file(answer, got, 0, LARGE);
    free(answer);
    fake_clock_walk(&http.world.clock, http.world.loop, http.options.drain_idle_ms + 100);
    http_world_settle(&http);
    assert_int_equal(drained, 1);
    part(&fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_large),
        TEST(test_parts_of_each_size),
        TEST(test_head_has_the_length_alone),
        TEST(test_in_its_place_among_others),
        TEST(test_the_last_of_a_connection),
        TEST(test_for_one_that_has_said_all),
        TEST(test_for_one_that_says_so_meanwhile),
        TEST(test_before_the_body_was_read),
        TEST(test_constant_memory),
        TEST(test_what_cannot_be_asked_for),
        TEST(test_two_answers),
        TEST(test_a_small_one_that_cannot_be_read),
        TEST(test_one_that_gets_shorter),
        TEST(test_a_disk_that_fails),
        TEST(test_a_client_that_leaves),
        TEST(test_a_client_that_has_left),
        TEST(test_a_client_that_stalls),
        TEST(test_a_client_that_is_slow),
        TEST(test_a_server_that_drains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
