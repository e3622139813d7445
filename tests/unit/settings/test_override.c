/* Goal: what -o says stands where the file's value would, is told apart in messages, and what it
 * cannot mean is refused with what was expected, without the value. */
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "settings/override.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char problem[INI_PROBLEM_SIZE];

static struct ini_file *parsed(const char *text)
{
    struct ini_file *file = NULL;

    if (ini_parse_text("server.ini", text, &file, problem) != ERR_OK)
        fail_msg("refused: %s", problem);
    return file;
}

static const struct ini_entry *set(struct ini_file *file, const char *text, const char *kind,
                                   const char *name, const char *key)
{
    struct ini_section *section;
    struct ini_entry *entry;

    if (ini_override(file, text, problem) != ERR_OK)
        fail_msg("refused: %s", problem);
    section = ini_section(file, kind, name);
    assert_non_null(section);
    entry = ini_entry(section, key);
    assert_non_null(entry);
    return entry;
}

static void test_takes_the_place_of_a_value(void **state)
{
    struct ini_file *file = parsed("[server]\nlisten = a\nworkers = 2\n[pg.main]\nhost = b\n");
    const struct ini_entry *entry = set(file, "server.listen=c d", "server", "", "listen");
    char place[INI_PLACE_SIZE];

    (void)state;
    assert_string_equal(entry->value, "c d");
    assert_string_equal(ini_place(file, entry->line, place), "-o server.listen");
    entry = set(file, "server.listen = later = better ", "server", "", "listen");
    assert_string_equal(entry->value, "later = better");
    assert_string_equal(set(file, "pg.main.host=", "pg", "main", "host")->value, "");
    entry = ini_entry(ini_section(file, "server", ""), "workers");
    assert_string_equal(ini_place(file, entry->line, place), "server.ini:3");
    assert_string_equal(ini_place(file, 0, place), "server.ini");
    ini_free(file);
}

static void test_makes_what_is_not_there(void **state)
{
    struct ini_file *file = parsed("");

    (void)state;
    assert_string_equal(set(file, "server.listen=x", "server", "", "listen")->value, "x");
    assert_string_equal(set(file, "pg.main.host=/tmp", "pg", "main", "host")->value, "/tmp");
    assert_string_equal(set(file, "pg.main.port=1", "pg", "main", "port")->value, "1");
    assert_null(ini_section(file, "pg", "main")->next);
    assert_true(ini_unused(file, problem));
    assert_memory_equal(problem, "-o server.listen: unknown section [server]", 42);
    ini_section(file, "server", "")->is_used = true;
    ini_section(file, "pg", "main")->is_used = true;
    assert_int_equal(ini_override(file, "pg.main.colour=red", problem), ERR_OK);
    assert_true(ini_unused(file, problem));
    assert_memory_equal(problem, "-o pg.main.colour: unknown key colour in [pg.main]", 50);
    ini_free(file);
}

/* Sections and keys may both have dots: those of the file decide. */
static void test_dots_in_names(void **state)
{
    struct ini_file *file = parsed("[plugin.a]\n[plugin.a.b]\n");

    (void)state;
    assert_string_equal(set(file, "plugin.a.x=1", "plugin", "a", "x")->value, "1");
    assert_string_equal(set(file, "plugin.a.x.y=2", "plugin", "a", "x.y")->value, "2");
    assert_string_equal(set(file, "plugin.a.b.x=3", "plugin", "a.b", "x")->value, "3");
    assert_string_equal(set(file, "plugin.a.b=4", "plugin", "a", "b")->value, "4");
    assert_string_equal(set(file, "plugin.c.d.x=5", "plugin", "c.d", "x")->value, "5");
    ini_free(file);
}

static void test_variables_and_files(void **state)
{
    struct ini_file *file = parsed("");
    char text[512];
    struct temp_dir dir;

    (void)state;
    temp_dir_init(&dir);
    setenv("WEFT_TEST_SET", "set", 1);
    snprintf(text, sizeof text, "pg.main.password=${file:%s}${WEFT_TEST_SET}",
             temp_dir_write(&dir, "secret", "hush\n", 5));
    assert_string_equal(set(file, text, "pg", "main", "password")->value, "hushset");
    ini_free(file);
    temp_dir_deinit(&dir);
}

static void test_refusals(void **state)
{
    static const char *const shapes[] = {"",         "=",      "listen=1", "server.listen",
                                         "server.=", ".x=1",   "..x=1",    "a b.c=1",
                                         "a.b c=1",  "a..b=1", "[a].b=1"};
    struct ini_file *file = parsed("");

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (ini_override(file, shapes[i], problem) != ERR_SYNTAX)
            fail_msg("taken: %s", shapes[i]);
        assert_memory_equal(problem, "-o ", 3);
        assert_non_null(strstr(problem, "expected section.key=value, such as server.listen="));
    }
    assert_int_equal(ini_override(file, "a.b=secret $x", problem), ERR_SYNTAX);
    assert_memory_equal(problem, "-o a.b: a lone \"$\", expected", 28);
    assert_int_equal(ini_override(file, "a.b=secret\n", problem), ERR_SYNTAX);
    assert_string_equal(problem, "-o a.b: control byte 0x0a, expected text");
    assert_null(file->sections);
    ini_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_the_place_of_a_value),
        cmocka_unit_test(test_makes_what_is_not_there),
        cmocka_unit_test(test_dots_in_names),
        cmocka_unit_test(test_variables_and_files),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
