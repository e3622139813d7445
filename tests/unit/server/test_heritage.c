/* Goal: what a master leaves to the next one arrives whole, and what is not of this form, or names
 *       descriptors that are not what they should be, is refused without anything taken. */
#include "lib/loop_driver.h"
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "server/admin.h"
#include "server/heritage.h"
#include "server/host.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct temp_dir dir;
static struct settings settings;
static struct admin admin = {.fd = -1};
static struct host host = {.admin = &admin};
static int ends[2];

static void listen_at(const char *address)
{
    assert_true(addr_parse(span_of(address), &settings.listen[settings.listen_count++]));
}

static int set_up(void **state)
{
    char path[256], problem[INI_PROBLEM_SIZE];

    (void)state;
    temp_dir_init(&dir);
    settings = (struct settings){.workers = 3, .server.backlog = 16};
    snprintf(path, sizeof path, "unix:%s/a b", dir.path);
    listen_at("127.0.0.1:0");
    listen_at(path);
    sockets_init(&host.sockets);
    assert_int_equal(sockets_open(&host.sockets, &settings, problem), ERR_OK);
    snprintf(host.runtime.path, sizeof host.runtime.path, "%s", dir.path);
    host.runtime.lock_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pair_unix(ends);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sockets_deinit(&host.sockets); /* what another has closed is not there any more: no harm */
    close_fd(&host.runtime.lock_fd);
    close_fd(&ends[0]);
    close_fd(&ends[1]);
    temp_dir_deinit(&dir);
    (void)unsetenv("WEFT_HERITAGE");
    return 0;
}

static bool outlives_exec(int fd)
{
    return (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0;
}

static int first_of(const struct sockets *sockets, const struct addr *addr)
{
    return sockets_row(sockets, addr)->fds[0];
}

static void test_all_of_it_arrives(void **state)
{
    struct heritage heritage;
    struct sockets sockets;
    char problem[INI_PROBLEM_SIZE];

    (void)state;
    admin.fd = ends[1];
    admin.is_handed = true;
    heritage_leave(&host, ends[0], 7);
    admin.fd = -1;
    assert_true(outlives_exec(ends[1]));
    assert_true(outlives_exec(ends[0]));
    assert_true(outlives_exec(host.runtime.lock_fd));
    assert_true(outlives_exec(first_of(&host.sockets, &settings.listen[1])));
    assert_int_equal(heritage_channel(), ends[0]);
    sockets_init(&sockets);
    assert_int_equal(heritage_read(&heritage, &sockets, problem), ERR_OK);
    assert_int_equal(heritage.channel, ends[0]);
    assert_int_equal(heritage.lock_fd, host.runtime.lock_fd);
    assert_int_equal(heritage.admin, ends[1]);
    assert_true(heritage.is_admin_handed);
    assert_int_equal(heritage.generation, 7);
    assert_string_equal(heritage.folder, dir.path);
    assert_int_equal(sockets.slots, 3);
    for (uint32_t i = 0; i < 2; i++) {
        int fd = first_of(&sockets, &settings.listen[i]);
        assert_int_equal(fd, first_of(&host.sockets, &settings.listen[i]));
        assert_false(outlives_exec(fd));
    }
    assert_null(getenv("WEFT_HERITAGE"));
    assert_int_equal(heritage_read(&heritage, &sockets, problem), ERR_NOT_FOUND);
    assert_int_equal(heritage_channel(), -1);
    sockets_deinit(&sockets);
}

static void test_what_is_not_wanted_is_declined(void **state)
{
    struct settings others = {.workers = 3, .server.backlog = 16};
    struct heritage heritage;
    struct sockets sockets;
    char problem[INI_PROBLEM_SIZE];
    int fds[SETTINGS_WORKERS_MAX];

    (void)state;
    heritage_leave(&host, ends[0], 7);
    assert_int_equal(sockets_of_rows(&host.sockets, 2, fds), 3);
    assert_int_equal(fds[0], first_of(&host.sockets, &settings.listen[1]));
    sockets_init(&sockets);
    assert_int_equal(heritage_read(&heritage, &sockets, problem), ERR_OK);
    assert_int_equal(heritage.admin, -1);
    others.listen[others.listen_count++] = settings.listen[0];
    assert_int_equal(sockets_decline(&sockets, &others), 2);
    assert_int_equal(sockets.row_count, 1);
    assert_null(sockets_row(&sockets, &settings.listen[1]));
    assert_int_equal(fcntl(fds[0], F_GETFD), -1);
    sockets_deinit(&sockets);
}

static void test_what_is_something_else_is_refused(void **state)
{
    static const char *const wrong[] = {
        "",
        "weft 2\nchannel 0\nlock 0\ngeneration 1\nfolder /\n",
        "weft 1\n",
        "weft 1\nchannel 0\nlock 0\ngeneration 1\n",
        "weft 1\nchannel 0\nlock 0\nfolder /\n",
        "weft 1\nchannel 999999\nlock 0\ngeneration 1\nfolder /\n",
        "weft 1\nchannel -1\nlock 0\ngeneration 1\nfolder /\n",
        "weft 1\nchannel 0x\nlock 0\ngeneration 1\nfolder /\n",
        "weft 1\nchannel 0\nlock 0\ngeneration 99999999999\nfolder /\n",
        "weft 1\nchannel 0\nlock 0\ngeneration 1\nfolder relative\n",
        "weft 1\nchannel 0\nlock 0\ngeneration 1\nfolder /\nlisten\n",
        "weft 1\nchannel 0\nlock 0\ngeneration 1\nfolder /\nlisten 0 127.0.0.1:80\n",
        "weft 1\nchannel 0\nlock 0\ngeneration 1\nfolder /\nlisten 999999 127.0.0.1:80\n",
        "weft 1\nchannel 0\nlock 0\ngeneration 1\nfolder /\nsomething else\n",
    };
    struct heritage heritage;
    struct sockets sockets;
    char problem[INI_PROBLEM_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        (void)setenv("WEFT_HERITAGE", wrong[i], 1);
        sockets_init(&sockets);
        if (heritage_read(&heritage, &sockets, problem) != ERR_INVALID)
            fail_msg("accepted: %s", wrong[i]);
        assert_int_equal(sockets.row_count, 0);
        assert_non_null(strstr(problem, "WEFT_HERITAGE"));
        assert_null(getenv("WEFT_HERITAGE"));
    }
}

/* A row with fewer sockets than the one before. */
static void test_rows_of_different_length_are_refused(void **state)
{
    char text[512], problem[INI_PROBLEM_SIZE];
    struct heritage heritage;
    struct sockets sockets;
    const struct sockets_row *row = sockets_row(&host.sockets, &settings.listen[0]);

    (void)state;
    snprintf(text, sizeof text,
             "weft 1\nchannel 0\nlock 0\ngeneration 1\nfolder /\nlisten %d,%d 127.0.0.1:0\n"
             "listen %d 127.0.0.1:1\n",
             row->fds[0], row->fds[1], row->fds[2]);
    (void)setenv("WEFT_HERITAGE", text, 1);
    sockets_init(&sockets);
    assert_int_equal(heritage_read(&heritage, &sockets, problem), ERR_INVALID);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_all_of_it_arrives),
        TEST(test_what_is_not_wanted_is_declined),
        TEST(test_what_is_something_else_is_refused),
        TEST(test_rows_of_different_length_are_refused),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
