/* Goal: a plugin is loaded from a copy of its own, once a name, and each thing that can be wrong
 * with it is one sentence with the file in it; nothing of it has run before its note was found
 * right. */
#include "base/log.h"
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "plugin/abi.h"
#include "plugin/loader.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder for copies, and the last answer. */
struct loader_world {
    struct temp_dir dir;
    const void *descriptor;
    char problem[INI_PROBLEM_SIZE];
    bool writable_by_all;
};

static int set_up(void **state)
{
    struct loader_world *world = calloc(1, sizeof *world);

    temp_dir_init(&world->dir);
    unsetenv("WEFT_TEST_PLUGIN_RAN");
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct loader_world *world = *state;

    temp_dir_deinit(&world->dir);
    free(world);
    return 0;
}

static enum err load(struct loader_world *world, const char *file, const char *instance)
{
    const struct loader_request request = {.file = file,
                                           .copy_dir = world->dir.path,
                                           .instance = instance,
                                           .symbol = ABI_SYMBOL,
                                           .major = 1,
                                           .minor = 0,
                                           .writable_by_all = world->writable_by_all};

    world->problem[0] = '\0';
    return loader_load(&request, &world->descriptor, world->problem);
}

static bool exists(struct loader_world *world, const char *name)
{
    return access(temp_dir_path(&world->dir, name), F_OK) == 0;
}

/* Refused with `err`, in one sentence with file and `reason`; no copy is left. */
static void assert_refused(struct loader_world *world, const char *file, enum err err,
                           const char *reason)
{
    enum err found = load(world, file, "x");

    if (found != err || strstr(world->problem, reason) == NULL ||
        strncmp(world->problem, file, strlen(file)) != 0 || strchr(world->problem, '\n') != NULL)
        fail_msg("%s: %s: %s", file, err_name(found), world->problem);
    assert_false(exists(world, "x.so"));
}

static void test_loads_a_copy_of_its_own(void **state)
{
    struct loader_world *world = *state;
    const char *file = TEST_PLUGINS "/refused_not.so";
    const void *first, *second;
    Dl_info info;

    assert_int_equal(load(world, file, "one"), ERR_OK);
    first = world->descriptor;
    assert_int_equal(load(world, file, "two"), ERR_OK);
    second = world->descriptor;
    assert_ptr_not_equal(first, second);
    assert_true(exists(world, "one.so"));
    assert_int_not_equal(dladdr(first, &info), 0);
    assert_string_equal(info.dli_fname, temp_dir_path(&world->dir, "one.so"));
    assert_string_equal(getenv("WEFT_TEST_PLUGIN_RAN"), "1");
}

/* A worker that comes later runs what the first one has copied. */
static void test_uses_the_copy_that_is_there(void **state)
{
    struct loader_world *world = *state;
    struct stat before, after;

    assert_int_equal(load(world, TEST_PLUGINS "/refused_not.so", "kept"), ERR_OK);
    assert_int_equal(stat(temp_dir_path(&world->dir, "kept.so"), &before), 0);
    assert_int_equal(load(world, TEST_PLUGINS "/refused_init.so", "kept"), ERR_OK);
    assert_int_equal(stat(temp_dir_path(&world->dir, "kept.so"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
}

static void test_refuses_another_abi(void **state)
{
    struct loader_world *world = *state;

    assert_refused(world, TEST_PLUGINS "/refused_major.so", ERR_UNSUPPORTED,
                   "needs ABI 2.0, and this host has 1.0");
    assert_refused(world, TEST_PLUGINS "/refused_minor.so", ERR_UNSUPPORTED,
                   "needs ABI 1.7, and this host has 1.0");
    assert_refused(world, TEST_PLUGINS "/refused_no_note.so", ERR_NOT_FOUND, "no note of the ABI");
    assert_null(getenv("WEFT_TEST_PLUGIN_RAN"));
}

static void test_refuses_what_does_not_link(void **state)
{
    struct loader_world *world = *state;

    assert_refused(world, TEST_PLUGINS "/refused_symbol.so", ERR_INVALID,
                   "undefined symbol: weft_test_that_nobody_has");
    assert_null(getenv("WEFT_TEST_PLUGIN_RAN"));
    assert_refused(world, TEST_PLUGINS "/refused_no_descriptor.so", ERR_NOT_FOUND,
                   "does not export weft_plugin_1");
}

static void test_refuses_what_is_no_plugin(void **state)
{
    struct loader_world *world = *state;
    char path[256], *bytes = calloc(1, 4096);
    int fd = open(TEST_PLUGINS "/refused_not.so", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(read(fd, bytes, 4096), 4096);
    close(fd);
    strcpy(path, temp_dir_write(&world->dir, "text", "hello\n", 6));
    assert_refused(world, path, ERR_SYNTAX, "not an ELF file");
    strcpy(path, temp_dir_write(&world->dir, "half", bytes, 4096));
    assert_refused(world, path, ERR_TOO_BIG, "is cut off");
    assert_refused(world, world->dir.path, ERR_SYNTAX, "is no file");
    strcpy(path, temp_dir_path(&world->dir, "nobody"));
    assert_refused(world, path, ERR_NOT_FOUND, "cannot be opened: No such file");
    free(bytes);
}

/* Another machine's file: the same bytes with another number in the head. */
static void test_refuses_another_machine(void **state)
{
    struct loader_world *world = *state;
    char path[256], *bytes = calloc(1, 1 << 20);
    int fd = open(TEST_PLUGINS "/refused_not.so", O_RDONLY | O_CLOEXEC);
    ssize_t len = read(fd, bytes, 1 << 20);

    assert_in_range(len, 4096, (1 << 20) - 1);
    close(fd);
    ((Elf64_Ehdr *)bytes)->e_machine = EM_S390;
    strcpy(path, temp_dir_write(&world->dir, "foreign", bytes, (size_t)len));
    assert_refused(world, path, ERR_UNSUPPORTED, "is for another machine: ELF class 2, machine 22");
    free(bytes);
}

/* Copies the good plugin to `to`, with this mode. */
static void copy_plugin(const char *to, mode_t mode)
{
    int from = open(TEST_PLUGINS "/refused_not.so", O_RDONLY | O_CLOEXEC);
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(from >= 0 && fd >= 0);
    while (sendfile(fd, from, NULL, 1 << 20) > 0)
        ;
    assert_int_equal(fchmod(fd, mode), 0);
    close(from);
    close(fd);
}

/* What anybody could have changed is refused before any of it runs, unless that was allowed. */
static void test_refuses_what_everybody_may_write(void **state)
{
    struct loader_world *world = *state;
    char open_dir[256], file[300], link[300];

    strcpy(link, temp_dir_path(&world->dir, "link.so"));
    strcpy(file, temp_dir_path(&world->dir, "open.so"));
    copy_plugin(file, 0646);
    assert_refused(world, file, ERR_INVALID,
                   "it can be written by everybody, expected chmod o-w, or "
                   "plugins_writable_by_all = on in [server]");
    strcpy(open_dir, temp_dir_path(&world->dir, "open"));
    assert_int_equal(mkdir(open_dir, 0700), 0);
    assert_int_equal(chmod(open_dir, 0777), 0);
    snprintf(file, sizeof file, "%s/x.so", open_dir);
    copy_plugin(file, 0644);
    assert_refused(world, file, ERR_INVALID, "/open can be written by everybody");
    assert_int_equal(symlink(file, link), 0);
    assert_refused(world, link, ERR_INVALID, "/open can be written by everybody");
    assert_null(getenv("WEFT_TEST_PLUGIN_RAN"));
    world->writable_by_all = true;
    assert_int_equal(load(world, link, "allowed"), ERR_OK);
    world->writable_by_all = false; /* in a sticky folder nobody else can replace what is ours */
    assert_int_equal(chmod(open_dir, 01777), 0);
    assert_int_equal(load(world, link, "sticky"), ERR_OK);
}

/* The section's name becomes a file's, so it must not lead elsewhere. */
static void test_refuses_names_that_are_paths(void **state)
{
    struct loader_world *world = *state;
    static const char *const names[] = {"../x", "a/b", ".hidden", ""};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(load(world, TEST_PLUGINS "/refused_not.so", names[i]), ERR_INVALID);
}

static void test_says_that_there_is_no_place_for_a_copy(void **state)
{
    struct loader_world *world = *state;

    temp_dir_deinit(&world->dir);
    strcpy(world->dir.path, "/proc/self/nowhere");
    assert_int_equal(load(world, TEST_PLUGINS "/refused_not.so", "x"), ERR_IO);
    assert_non_null(strstr(world->problem, "cannot be copied to /proc/self/nowhere/"));
    world->dir.path[0] = '\0';
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_loads_a_copy_of_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_uses_the_copy_that_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_another_abi, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_what_does_not_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_what_is_no_plugin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_another_machine, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_what_everybody_may_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_names_that_are_paths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_says_that_there_is_no_place_for_a_copy, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
