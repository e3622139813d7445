/* Goal: the control socket hands on one command a line and carries answers back, now or later, to
 * one or to many; whoever sends too much, too slowly or takes nothing is closed; nobody's leaving
 * disturbs it; and the socket's file is ours alone. */
#include "base/check.h"
#include "lib/loop_driver.h"
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "loop/loop.h"
#include "server/control.h"
#include "server/nearby.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TICKET = 7, ANSWER_SIZE = 65536 };

static struct temp_dir dir;
static struct fake_clock fake;
static struct loop *loop;
static struct control control;
static char path[256];
static uint32_t told;
static char last[600];
static uint32_t before;

static void on_command(void *data, struct control_asker *asker, const char *verb, const char *rest)
{
    assert_ptr_equal(data, &control);
    told++;
    snprintf(last, sizeof last, "%s|%s", verb, rest);
    if (strcmp(verb, "wait") == 0) {
        control_wait(asker, TICKET);
        return;
    }
    if (strcmp(verb, "much") == 0)
        for (int i = 0; i < 100000; i++)
            control_say(asker, "%0100d", i);
    else
        control_say(asker, "you said %s", verb);
    control_warn(asker, "careful");
    control_end(asker, 3);
}

static int set_up(void **state)
{
    char problem[INI_PROBLEM_SIZE];

    (void)state;
    before = open_fds();
    temp_dir_init(&dir);
    snprintf(path, sizeof path, "%s", temp_dir_path(&dir, "control.sock"));
    loop = fake_clock_loop(&fake);
    told = 0;
    assert_int_equal(control_open(&control, loop, path, false, problem), ERR_OK);
    control_start(&control, on_command, &control);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    control_close(&control);
    control_close(&control);
    loop_destroy(loop);
    temp_dir_deinit(&dir);
    assert_int_equal(open_fds(), before);
    return 0;
}

/* A client, with `text` sent and the loop given time. */
static int client(const char *text)
{
    int fd = nearby_connect(path);

    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    if (text[0] != '\0')
        peer_send(fd, text);
    run_turns(loop, 10);
    return fd;
}

/* What came, behind the greeting, which must be there. */
static const char *answer(int fd, bool *is_end)
{
    static char text[ANSWER_SIZE];
    char greeting[32];
    size_t len;

    run_turns(loop, 10);
    len = peer_read(fd, text, sizeof text, is_end);
    assert_true(len < sizeof text);
    snprintf(greeting, sizeof greeting, "weft %d\n", (int)getpid());
    assert_memory_equal(text, greeting, strlen(greeting));
    return text + strlen(greeting);
}

static void test_done_at_once(void **state)
{
    bool is_end = false;
    int fd = client("status json all\n");

    (void)state;
    assert_string_equal(last, "status|json all");
    assert_string_equal(answer(fd, &is_end), "+you said status\n!careful\n=3\n");
    assert_true(is_end);
    close(fd);
}

static void test_a_line_in_pieces(void **state)
{
    bool is_end = false;
    int fd = client("sta");

    (void)state;
    assert_int_equal(told, 0);
    peer_send(fd, "tus\n");
    assert_string_equal(answer(fd, &is_end), "+you said status\n!careful\n=3\n");
    assert_string_equal(last, "status|");
    close(fd);
}

static void test_many_wait_for_one_ticket(void **state)
{
    bool is_end = false, is_over = false;
    int first = client("wait 1\n"), second = client("wait 2\n");

    (void)state;
    assert_int_equal(told, 2);
    control_end_all(&control, TICKET + 1, 0, "not for them");
    control_warn_all(&control, TICKET, "one\ntwo");
    fake_clock_walk(&fake, loop, 2500);
    control_end_all(&control, TICKET, 0, "done");
    control_end_all(&control, TICKET, 0, "twice is nothing");
    assert_string_equal(answer(first, &is_end), "!one\n!two\n~\n~\n+done\n=0\n");
    assert_string_equal(answer(second, &is_over), "!one\n!two\n~\n~\n+done\n=0\n");
    assert_true(is_end && is_over);
    close(first);
    close(second);
}

static void test_failed(void **state)
{
    bool is_end = false;
    int fd = client("wait\n");

    (void)state;
    control_end_all(&control, TICKET, 1, "no");
    assert_string_equal(answer(fd, &is_end), "!no\n=1\n");
    close(fd);
}

static void test_one_that_waits_may_go(void **state)
{
    int first = client("wait\n"), second = client("wait\n");
    bool is_end = false;

    (void)state;
    close(first);
    run_turns(loop, 10);
    control_end_all(&control, TICKET, 0, "done");
    assert_string_equal(answer(second, &is_end), "+done\n=0\n");
    close(second);
}

static void test_one_that_reads_may_go(void **state)
{
    (void)state;
    close(client(""));
    close(client("sta"));
    close(client("much\n"));
    run_turns(loop, 10);
    assert_int_equal(open_fds(), before + 2); /* the loop's, and the socket */
}

static void test_timed_out(void **state)
{
    char text[256];
    bool is_end = false;
    int fd = client("sta");

    (void)state;
    fake_clock_walk(&fake, loop, 4000);
    (void)peer_read(fd, text, sizeof text, &is_end);
    assert_false(is_end);
    fake_clock_walk(&fake, loop, 2500);
    (void)peer_read(fd, text, sizeof text, &is_end);
    assert_true(is_end);
    assert_int_equal(told, 0);
    close(fd);
}

static void test_one_that_takes_nothing_is_closed(void **state)
{
    int fd = client("much\n");

    (void)state;
    fake_clock_walk(&fake, loop, 12500);
    assert_int_equal(open_fds(), before + 3);
    close(fd);
}

static void test_too_long_a_line(void **state)
{
    char text[CONTROL_LINE_MAX + 1];
    bool is_end = false;

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    int fd = client(text);
    (void)peer_read(fd, text, sizeof text, &is_end);
    assert_true(is_end);
    assert_int_equal(told, 0);
    close(fd);
}

static void test_more_than_one_line(void **state)
{
    bool is_end = false;
    int fd = client("wait\n");
    char text[64];

    (void)state;
    peer_send(fd, "wait\n");
    run_turns(loop, 10);
    (void)peer_read(fd, text, sizeof text, &is_end);
    assert_true(is_end);
    assert_int_equal(told, 1);
    close(fd);
}

static void test_too_many(void **state)
{
    int fds[CONTROL_ASKERS_MAX], more;
    char text[64];
    bool is_end = false;

    (void)state;
    for (int i = 0; i < CONTROL_ASKERS_MAX; i++)
        fds[i] = client("wait\n");
    more = client("");
    (void)peer_read(more, text, sizeof text, &is_end);
    assert_true(is_end);
    close(more);
    for (int i = 0; i < CONTROL_ASKERS_MAX; i++)
        close(fds[i]);
    run_turns(loop, 10);
    more = client("status\n");
    assert_string_equal(answer(more, &is_end), "+you said status\n!careful\n=3\n");
    close(more);
}

static void test_closed_while_one_waits(void **state)
{
    bool is_end = false;
    int fd = client("wait\n");
    char text[64];

    (void)state;
    control_end_all(&control, TICKET, 0, "stopped");
    control_close(&control);
    (void)peer_read(fd, text, sizeof text, &is_end);
    assert_non_null(strstr(text, "+stopped\n=0\n"));
    assert_true(is_end);
    close(fd);
    assert_int_equal(nearby_connect(path), -1);
}

static void test_the_file_is_private_and_ours(void **state)
{
    char problem[INI_PROBLEM_SIZE];
    struct control other;
    struct stat st;

    (void)state;
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(control_open(&other, loop, path, false, problem), ERR_EXISTS);
    assert_non_null(strstr(problem, "another host"));
    assert_int_equal(control_open(&other, loop, path, true, problem), ERR_OK);
    control_close(&control); /* the other one has the name by now: it stays */
    assert_int_equal(lstat(path, &st), 0);
    control_close(&other);
    assert_int_equal(lstat(path, &st), -1);
    assert_int_equal(control_open(&other, loop, "/nowhere/at/all", false, problem), ERR_IO);
    assert_non_null(strstr(problem, "/nowhere/at/all"));
}

static void test_a_file_that_was_left_is_replaced(void **state)
{
    char problem[INI_PROBLEM_SIZE], left[256];
    struct control other;

    (void)state;
    snprintf(left, sizeof left, "%s", temp_dir_path(&dir, "left.sock"));
    close(nearby_listen(left));
    assert_int_equal(control_open(&other, loop, left, false, problem), ERR_OK);
    control_close(&other);
}

static void test_a_path_longer_than_an_address(void **state)
{
    char problem[INI_PROBLEM_SIZE], deep[700];
    struct control other;

    (void)state;
    snprintf(deep, sizeof deep, "%s/%0100d", dir.path, 1);
    assert_int_equal(mkdir(deep, 0700), 0);
    snprintf(deep, sizeof deep, "%s/%0100d/control.sock", dir.path, 1);
    assert_int_equal(control_open(&other, loop, deep, false, problem), ERR_OK);
    int fd = nearby_connect(deep);
    assert_true(fd >= 0);
    close(fd);
    control_close(&other);
    assert_int_equal(nearby_connect(deep), -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_done_at_once),
        TEST(test_a_line_in_pieces),
        TEST(test_many_wait_for_one_ticket),
        TEST(test_failed),
        TEST(test_one_that_waits_may_go),
        TEST(test_one_that_reads_may_go),
        TEST(test_timed_out),
        TEST(test_one_that_takes_nothing_is_closed),
        TEST(test_too_long_a_line),
        TEST(test_more_than_one_line),
        TEST(test_too_many),
        TEST(test_closed_while_one_waits),
        TEST(test_the_file_is_private_and_ours),
        TEST(test_a_file_that_was_left_is_replaced),
        TEST(test_a_path_longer_than_an_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
