/* Goal: the folders that other tests work in are empty at first, apart from one another, and gone
 * afterwards with everything that was put there, but never with what a link in them points to. */
#include "lib/temp_dir.h"
#include "lib/test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_two_folders_are_apart(void **state)
{
    struct temp_dir one;
    struct temp_dir two;

    (void)state;
    temp_dir_init(&one);
    temp_dir_init(&two);
    assert_string_not_equal(one.path, two.path);
    (void)temp_dir_write(&one, "file", "x", 1);
    assert_int_equal(access(temp_dir_path(&one, "file"), F_OK), 0);
    assert_int_equal(access(temp_dir_path(&two, "file"), F_OK), -1);
    temp_dir_deinit(&one);
    temp_dir_deinit(&two);
}

static void test_write_keeps_every_byte(void **state)
{
    struct temp_dir dir;
    char data[8] = {0};
    FILE *file;

    (void)state;
    temp_dir_init(&dir);
    file = fopen(temp_dir_write(&dir, "bytes", "a\0b\n", 4), "re");
    assert_non_null(file);
    assert_int_equal(fread(data, 1, sizeof data, file), 4);
    assert_memory_equal(data, "a\0b\n", 4);
    (void)fclose(file);
    temp_dir_deinit(&dir);
}

static void test_deinit_removes_all_of_it_and_nothing_else(void **state)
{
    struct temp_dir dir;
    struct temp_dir other;
    char path[sizeof dir.path];

    (void)state;
    temp_dir_init(&dir);
    temp_dir_init(&other);
    (void)temp_dir_write(&other, "kept", "x", 1);
    assert_int_equal(mkdir(temp_dir_path(&dir, "folder"), 0700), 0);
    (void)temp_dir_write(&dir, "folder/file", "x", 1);
    assert_int_equal(symlink(other.path, temp_dir_path(&dir, "link")), 0);
    memcpy(path, dir.path, sizeof path);

    temp_dir_deinit(&dir);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(temp_dir_path(&other, "kept"), F_OK), 0);
    temp_dir_deinit(&dir);
    temp_dir_deinit(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_folders_are_apart),
        cmocka_unit_test(test_write_keeps_every_byte),
        cmocka_unit_test(test_deinit_removes_all_of_it_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
