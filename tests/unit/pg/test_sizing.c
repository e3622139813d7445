/* Goal: what servers allow is asked once, on a session that goes again; whoever does not answer is
 *       asked later, one at a time; and given up at any point, it leaves nothing behind. */
#include "base/clock.h"
#include "base/log.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/sizing.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct pg_server server;
static struct pg_world world;
static struct pg_sizing *sizing;
static char text[65536]; /* what was logged */
static size_t text_len;
static int fds[2];

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    if (server.is_missing)
        return 0;
    pg_world_init_ahead(&world, &server);
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    log_setup(fds[1], LOG_DEBUG, false);
    text[text_len = 0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (server.is_missing)
        return 0;
    pg_sizing_destroy(sizing);
    sizing = NULL;
    pg_world_deinit(&world);
    log_setup(STDERR_FILENO, LOG_INFO, false);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return 0;
}

static bool was_logged(const char *line)
{
    ssize_t got = read(fds[0], text + text_len, sizeof text - 1 - text_len);

    if (got > 0)
        text[text_len += (size_t)got] = '\0';
    return strstr(text, line) != NULL;
}

static void until_logged(const char *line)
{
    uint64_t end_us = clock_monotonic_us() + 20000000;

    while (!was_logged(line)) {
        if (clock_monotonic_us() > end_us)
            fail_msg("not logged: %s\n%s", line, text);
        loop_turn(world.loop, 0);
    }
}

/* One claim, of two workers, on the world's server. */
static struct pg_claim claim(void)
{
    return (struct pg_claim){.name = "main", .options = &world.options, .workers = 2};
}

static void start(void)
{
    const struct pg_claim one = claim();

    sizing = pg_sizing_start(world.loop, world.helpers, &one, 1);
}

/* Somebody who listens there and says nothing. */
static int listen_silently(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    pg_world_set(&world.options.host, "127.0.0.1");
    world.options.port = ntohs(address.sin_port);
    return fd;
}

static int until_accepted(int fd)
{
    uint64_t end_us = clock_monotonic_us() + 20000000;
    int accepted;

    while ((accepted = accept(fd, NULL, NULL)) < 0) {
        if (clock_monotonic_us() > end_us)
            fail_msg("nobody came");
        loop_turn(world.loop, 0);
    }
    return accepted;
}

static const char *count_sessions(void)
{
    return pg_server_run(&server, "select count(*) from pg_stat_activity where application_name ="
                                  " 'weft' and backend_type = 'client backend'");
}

static void until_no_session(void)
{
    uint64_t end_us = clock_monotonic_us() + 20000000;

    while (strcmp(count_sessions(), "0") != 0) {
        if (clock_monotonic_us() > end_us)
            fail_msg("a session stays");
    }
}

/* Done */

static void test_it_is_told_and_the_session_goes(void **state)
{
    (void)state;
    pg_server_need(&server);
    world.options.sessions_max = 200;
    start();
    until_logged("1 of 1 servers have said");
    assert_true(
        was_logged("pg main: 2 workers x (200 sessions + up to 2 to cancel and listen) = 404, "
                   "and up to 808 while a reload goes on; "));
    until_no_session();
    text[text_len = 0] = '\0';
    for (int i = 0; i < 10; i++)
        pg_world_jump(&world, 600000);
    assert_false(was_logged("pg"));
}

static void test_the_generation_beside_counts(void **state)
{
    struct pg_options mine;
    struct pg_claim claims[2];

    (void)state;
    pg_server_need(&server);
    mine = world.options;
    mine.sessions_max = 1;
    world.options.sessions_max = 100;
    claims[0] = claims[1] = claim();
    claims[0].options = &mine;
    claims[1].is_beside = true;
    sizing = pg_sizing_start(world.loop, world.helpers, claims, 2);
    until_logged("2 of 2 servers have said");
    assert_true(was_logged("pg main: 2 workers x (1 sessions + up to 2 to cancel and listen) = 6, "
                           "and up to 210 while a reload goes on, as it does; "));
}

static void test_a_server_that_does_not_say_who_it_is(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_server_run_as(&server, "postgres",
                     "revoke execute on function pg_postmaster_start_time() from public");
    world.options.sessions_max = 1000;
    start();
    until_logged("1 of 1 servers have said");
    pg_server_run_as(&server, "postgres",
                     "grant execute on function pg_postmaster_start_time() to public");
    assert_false(was_logged("while a reload goes on"));
}

/* Failed, and timed out */

static void test_a_server_that_is_down_is_asked_again(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_server_stop(&server);
    world.options.sessions_max = 200;
    start();
    until_logged("0 of 1 servers have said");
    text[text_len = 0] = '\0';
    pg_world_jump(&world, 1000);
    until_logged("0 of 1 servers have said");
    text[text_len = 0] = '\0';
    pg_server_start(&server);
    pg_world_jump(&world, 1999); /* twice as long */
    assert_false(was_logged("servers have said"));
    pg_world_jump(&world, 1);
    until_logged("1 of 1 servers have said");
    assert_true(was_logged("= 404"));
}

static void test_one_that_does_not_answer_is_given_up(void **state)
{
    int fd;

    (void)state;
    pg_server_need(&server);
    fd = listen_silently();
    world.options.connect_timeout_ms = 50;
    start();
    until_logged("0 of 1 servers have said");
    assert_true(was_logged("too long to answer"));
    (void)close(fd);
}

/* Given up */

static void test_given_up_at_once(void **state)
{
    (void)state;
    pg_server_need(&server);
    start();
    pg_sizing_destroy(sizing);
    sizing = NULL;
    loop_turn(world.loop, 0);
    assert_string_equal(count_sessions(), "0");
    pg_sizing_destroy(NULL);
}

static void test_given_up_while_it_asks(void **state)
{
    int fd, accepted;

    (void)state;
    pg_server_need(&server);
    fd = listen_silently();
    world.options.connect_timeout_ms = 60000;
    start();
    accepted = until_accepted(fd);
    pg_sizing_destroy(sizing);
    sizing = NULL;
    assert_false(was_logged("servers have said"));
    (void)close(accepted);
    (void)close(fd);
}

static void test_given_up_while_it_waits(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_world_set(&world.options.host, "/nowhere");
    start();
    until_logged("0 of 1 servers have said");
    pg_sizing_destroy(sizing);
    sizing = NULL;
    text[text_len = 0] = '\0';
    pg_world_jump(&world, 600000);
    assert_false(was_logged("pg"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_it_is_told_and_the_session_goes),
        TEST(test_the_generation_beside_counts),
        TEST(test_a_server_that_does_not_say_who_it_is),
        TEST(test_a_server_that_is_down_is_asked_again),
        TEST(test_one_that_does_not_answer_is_given_up),
        TEST(test_given_up_at_once),
        TEST(test_given_up_while_it_asks),
        TEST(test_given_up_while_it_waits),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
