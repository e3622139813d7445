/* Goal: a host has a folder of its own, even beside another from the same ini file, refuses one
 * that others could write, and leaves nothing behind. */
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "server/runtime.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct temp_dir dir;

static int set_up(void **state)
{
    (void)state;
    temp_dir_init(&dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_deinit(&dir);
    return 0;
}

static bool is_there(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

static void test_made_locked_and_removed(void **state)
{
    char problem[INI_PROBLEM_SIZE], file[PATH_MAX + 16], base[PATH_MAX];
    struct runtime runtime;
    struct stat st;

    (void)state;
    snprintf(base, sizeof base, "%s", temp_dir_path(&dir, "run"));
    assert_int_equal(runtime_open(&runtime, base, "/etc/weft/server.ini", 1, problem), ERR_OK);
    assert_int_equal(stat(runtime.generation, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    snprintf(file, sizeof file, "%s/weft.pid", runtime.path);
    assert_true(is_there(file));
    runtime_close(&runtime);
    assert_false(is_there(runtime.path));
    assert_true(is_there(base));
    runtime_close(&runtime);
}

static void test_two_hosts_of_one_file(void **state)
{
    char problem[INI_PROBLEM_SIZE];
    struct runtime first, second, other;

    (void)state;
    assert_int_equal(runtime_open(&first, dir.path, "/a.ini", 1, problem), ERR_OK);
    assert_int_equal(runtime_open(&second, dir.path, "/a.ini", 1, problem), ERR_OK);
    assert_int_equal(runtime_open(&other, dir.path, "/b.ini", 1, problem), ERR_OK);
    assert_string_not_equal(first.path, second.path);
    assert_string_not_equal(first.path, other.path);
    runtime_close(&first);
    assert_true(is_there(second.generation));
    runtime_close(&second);
    runtime_close(&other);
}

static void test_copies_of_a_killed_host_are_gone(void **state)
{
    char problem[INI_PROBLEM_SIZE], file[PATH_MAX + 16];
    struct runtime killed, next;
    FILE *copy;

    (void)state;
    assert_int_equal(runtime_open(&killed, dir.path, "/a.ini", 1, problem), ERR_OK);
    snprintf(file, sizeof file, "%s/hello.so", killed.generation);
    copy = fopen(file, "w");
    assert_non_null(copy);
    assert_int_equal(fclose(copy), 0);
    close(killed.lock_fd); /* what the kernel does for a process that dies */
    assert_int_equal(runtime_open(&next, dir.path, "/a.ini", 1, problem), ERR_OK);
    assert_string_equal(killed.path, next.path);
    assert_false(is_there(file));
    runtime_close(&next);
}

static void test_a_folder_that_others_can_write_is_refused(void **state)
{
    char problem[INI_PROBLEM_SIZE], base[PATH_MAX];
    struct runtime runtime;

    (void)state;
    snprintf(base, sizeof base, "%s", temp_dir_path(&dir, "open"));
    assert_int_equal(mkdir(base, 0700), 0);
    assert_int_equal(chmod(base, 0777), 0);
    assert_int_equal(runtime_open(&runtime, base, "/a.ini", 1, problem), ERR_IO);
    assert_non_null(strstr(problem, base));
    assert_non_null(strstr(problem, "runtime_dir"));
    runtime_close(&runtime);
}

static void test_a_folder_that_cannot_be_made(void **state)
{
    char problem[INI_PROBLEM_SIZE];
    struct runtime runtime;

    (void)state;
    assert_int_equal(runtime_open(&runtime, "/proc/no/such", "/a.ini", 1, problem), ERR_IO);
    assert_non_null(strstr(problem, "/proc/no/such"));
    runtime_close(&runtime);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_made_locked_and_removed),
        TEST(test_two_hosts_of_one_file),
        TEST(test_copies_of_a_killed_host_are_gone),
        TEST(test_a_folder_that_others_can_write_is_refused),
        TEST(test_a_folder_that_cannot_be_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
