/* Goal: the note is found in what compilers make; whatever is cut off or bent is refused with a
 * reason, and never read beyond its end. */
#include "lib/random.h"
#include "lib/test.h"
#include "plugin/elf.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A plugin's file in memory. */
struct elf_world {
    char *bytes;
    size_t size;
};

static char *slurp(const char *path, size_t *size)
{
    FILE *file = fopen(path, "re");
    char *bytes;

    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *size = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(*size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static int set_up(void **state)
{
    struct elf_world *world = calloc(1, sizeof *world);

    world->bytes = slurp(TEST_PLUGINS "/refused_not.so", &world->size);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct elf_world *world = *state;

    free(world->bytes);
    free(world);
    return 0;
}

static enum err read_file(const char *path, struct elf_note *note, char *problem)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum err err;

    assert_true(fd >= 0);
    err = elf_read_note(fd, note, problem);
    close(fd);
    return err;
}

/* In memory: thousands of files would wait for a disk. */
static enum err read_bytes(const void *bytes, size_t size, char problem[ELF_PROBLEM_SIZE])
{
    int fd = memfd_create("some.so", MFD_CLOEXEC);
    struct elf_note note;
    enum err err;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    err = elf_read_note(fd, &note, problem);
    close(fd);
    return err;
}

static void test_finds_the_note(void **state)
{
    static const struct {
        const char *file;
        uint32_t major, minor;
    } cases[] = {{TEST_PLUGINS "/refused_not.so", 1, 0},
                 {TEST_PLUGINS "/refused_major.so", 2, 0},
                 {TEST_PLUGINS "/refused_minor.so", 1, 7}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct elf_note note;
        char problem[ELF_PROBLEM_SIZE] = "";

        assert_int_equal(read_file(cases[i].file, &note, problem), ERR_OK);
        assert_int_equal(note.major, cases[i].major);
        assert_int_equal(note.minor, cases[i].minor);
    }
}

static void test_says_what_is_no_plugin(void **state)
{
    struct elf_world *world = *state;
    char problem[ELF_PROBLEM_SIZE];
    struct elf_note note;
    Elf64_Ehdr *head = (Elf64_Ehdr *)(void *)world->bytes;

    assert_int_equal(read_file(TEST_PLUGINS "/refused_no_note.so", &note, problem), ERR_NOT_FOUND);
    assert_non_null(strstr(problem, "note"));
    assert_int_equal(read_bytes("", 0, problem), ERR_SYNTAX);
    assert_int_equal(read_bytes("#!/bin/sh\nexit 0\n", 17, problem), ERR_SYNTAX);
    assert_non_null(strstr(problem, "not an ELF file"));
    assert_int_equal(read_file("/", &note, problem), ERR_SYNTAX);
    assert_int_equal(read_file("/proc/self/exe", &note, problem), ERR_NOT_FOUND);

    head->e_machine = EM_RISCV;
    assert_int_equal(read_bytes(world->bytes, world->size, problem), ERR_UNSUPPORTED);
    assert_non_null(strstr(problem, "machine 243"));
    head->e_machine = EM_X86_64;
    head->e_ident[EI_CLASS] = ELFCLASS32;
    assert_int_equal(read_bytes(world->bytes, world->size, problem), ERR_UNSUPPORTED);
}

/* Cut at every place in its head and program headers, and at some places further on. */
static void test_refuses_what_is_cut_off(void **state)
{
    struct elf_world *world = *state;
    char problem[ELF_PROBLEM_SIZE];

    for (size_t size = 0; size < world->size; size += size < 1024 ? 1 : 997)
        assert_int_not_equal(read_bytes(world->bytes, size, problem), ERR_OK);
    assert_int_equal(read_bytes(world->bytes, world->size - 1, problem), ERR_TOO_BIG);
    assert_non_null(strstr(problem, "cut off"));
}

/* Bends numbers in the heads at random: any answer is right but a crash. */
static void test_survives_nonsense(void **state)
{
    struct elf_world *world = *state;
    uint64_t random = 0x5eed;
    char problem[ELF_PROBLEM_SIZE];
    size_t size = world->size;

    for (uint32_t i = 0; i < 2000; i++) {
        char *bytes = malloc(size);

        memcpy(bytes, world->bytes, size);
        for (uint32_t n = 1 + random_below(&random, 4); n > 0; n--)
            bytes[random_below(&random, 1024)] = (char)random_below(&random, 256);
        (void)read_bytes(bytes, size, problem);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_finds_the_note, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_says_what_is_no_plugin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_what_is_cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_survives_nonsense, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
