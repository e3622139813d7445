/* Goal: what stands in a file is what comes out, with its lines, whatever length and bytes it has;
 * and what inih would cut, or nobody could mean, is refused with file, line and what was expected.
 * */
#include "base/mem.h"
#include "lib/random.h"
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "settings/ini.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char problem[INI_PROBLEM_SIZE];

static struct ini_file *parsed(const char *text)
{
    struct ini_file *file = NULL;

    problem[0] = '\0';
    if (ini_parse_text("server.ini", text, &file, problem) != ERR_OK)
        fail_msg("refused: %s", problem);
    assert_string_equal(problem, "");
    return file;
}

/* The value of `key` in the first section. */
static const char *value_of(struct ini_file *file, const char *key)
{
    struct ini_entry *entry = ini_entry(file->sections, key);

    assert_non_null(entry);
    return entry->value;
}

static void reads_as(const char *text, const char *value)
{
    struct ini_file *file = parsed(text);

    assert_string_equal(value_of(file, "k"), value);
    ini_free(file);
}

static void is_refused(const char *text, enum err err, const char *expected)
{
    struct ini_file *file = NULL;

    assert_int_equal(ini_parse_text("server.ini", text, &file, problem), err);
    assert_string_equal(problem, expected);
    assert_null(file);
}

static void test_sections_keys_and_lines(void **state)
{
    struct ini_file *file = parsed("# a comment\n"
                                   "[server]\n"
                                   "listen = 127.0.0.1:8080\n"
                                   "\n"
                                   "  ; another\n"
                                   "workers=auto\n"
                                   "[pg.main]\n"
                                   "[upstream.api.example]\n"
                                   "url = http://x/y?z=1#frag:a\n");
    struct ini_section *section = file->sections;

    (void)state;
    assert_string_equal(file->path, "server.ini");
    assert_string_equal(section->kind, "server");
    assert_string_equal(section->name, "");
    assert_int_equal(section->line, 2);
    assert_string_equal(section->entries->key, "listen");
    assert_string_equal(section->entries->value, "127.0.0.1:8080");
    assert_int_equal(section->entries->line, 3);
    assert_string_equal(section->entries->next->key, "workers");
    assert_string_equal(section->entries->next->value, "auto");
    assert_int_equal(section->entries->next->line, 6);
    assert_null(section->entries->next->next);
    section = section->next;
    assert_string_equal(section->kind, "pg");
    assert_string_equal(section->name, "main");
    assert_int_equal(section->line, 7);
    assert_null(section->entries);
    section = section->next;
    assert_string_equal(section->kind, "upstream");
    assert_string_equal(section->name, "api.example");
    assert_string_equal(section->entries->value, "http://x/y?z=1#frag:a");
    assert_null(section->next);
    assert_ptr_equal(ini_section(file, "upstream", "api.example"), section);
    assert_null(ini_section(file, "upstream", ""));
    ini_free(file);
    ini_free(NULL);
}

static void test_nothing_is_an_empty_file(void **state)
{
    static const char *const texts[] = {"", "\n", "\r\n\r\n", "# x", "\xef\xbb\xbf", "   \t \n"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct ini_file *file = parsed(texts[i]);

        assert_null(file->sections);
        ini_free(file);
    }
}

static void test_values_come_out_as_they_stand(void **state)
{
    (void)state;
    reads_as("[s]\nk = a\n", "a");
    reads_as("[s]\nk = a", "a");
    reads_as("[s]\r\nk = a\r\n", "a");
    reads_as("\xef\xbb\xbf[s]\nk = a\n", "a");
    reads_as("[s]  \nk\t=\t a b\tc \t\n", "a b\tc");
    reads_as("[s]\nk =\n", "");
    reads_as("[s]\nk=", "");
    reads_as("[s]\nk = a = b : c\n", "a = b : c");
    reads_as("[s]\nk = [x] # y\n", "[x] # y");
    reads_as("[s]\nk = a;b; c\n", "a;b; c");
    reads_as("[s]\nk = /srv/a;v=1?x=%20&y\n", "/srv/a;v=1?x=%20&y");
    reads_as("[s]\nk = \"a\" 'b'\n", "\"a\" 'b'");
    reads_as("[s]\nk = \xc3\xa4\xff\n", "\xc3\xa4\xff");
    reads_as("[s]\n0.k-_Z = 1\nk = 2\n", "2");
}

static void test_indented_lines_continue(void **state)
{
    (void)state;
    reads_as("[s]\nk = a\n  b\n\tc = d\n", "a b c = d");
    reads_as("[s]\nk =\n  a\n", "a");
    reads_as("[s]\nk = a\n\n  b\n", "a b");
    reads_as("[s]\nk = a\n  # comment\n  b\n", "a b");
    reads_as("[s]\nk = a\n  [x]\n", "a [x]");
    reads_as("[s]\r\nk = a \r\n  b \r\n", "a b");
    reads_as("[s]\nk = a\n  b", "a b");
}

static void test_variables(void **state)
{
    (void)state;
    setenv("WEFT_TEST_SET", "x ;y\nz", 1);
    unsetenv("WEFT_TEST_UNSET");
    reads_as("[s]\nk = <${WEFT_TEST_SET}>\n", "<x ;y\nz>");
    reads_as("[s]\nk = ${WEFT_TEST_UNSET:-a\n  b}$$\n", "a b$");
    is_refused("[s]\nj = 1\n\nk = a\n  ${WEFT_TEST_UNSET}\nl = 1\n", ERR_NOT_FOUND,
               "server.ini:4: k: variable WEFT_TEST_UNSET is not set, expected it in the "
               "environment, or ${WEFT_TEST_UNSET:-default}");
    is_refused(
        "[s]\nk = a$b\n", ERR_SYNTAX,
        "server.ini:2: k: a lone \"$\", expected ${NAME}, ${NAME:-default}, ${file:/path}, or $$ "
        "for a dollar");
    is_refused("[s]\nk = ${a", ERR_SYNTAX,
               "server.ini:2: k: \"${\" without its end, expected a \"}\"");
}

/* Every length, with blanks at every place where inih could lose them. */
static void test_values_of_every_length(void **state)
{
    char value[4000];
    char text[8200];
    char joined[8200];

    (void)state;
    for (size_t len = 1; len < 3900; len += len < 520 ? 1 : 371) {
        for (size_t i = 0; i < len; i++)
            value[i] = i == 0 || i == len - 1 ? 'x' : i % 3 == 0 ? 'y' : ' ';
        value[len] = '\0';
        snprintf(text, sizeof text, "[s]\nk = %s\n", value);
        reads_as(text, value);
        snprintf(text, sizeof text, "[s]\nk = %s\n  %s\n", value, value);
        snprintf(joined, sizeof joined, "%s %s", value, value);
        reads_as(text, joined);
    }
}

static void test_names_of_49_bytes(void **state)
{
    char text[512];
    struct ini_file *file;

    (void)state;
    snprintf(text, sizeof text, "[pg.%046d]\n%049d = 1\n", 1, 2);
    file = parsed(text);
    assert_int_equal(strlen(file->sections->name), 46);
    assert_int_equal(strlen(file->sections->entries->key), 49);
    ini_free(file);
    snprintf(text, sizeof text, "[pg.%047d]\n", 1);
    is_refused(text, ERR_SYNTAX,
               "server.ini:1: a bad section header, expected [kind] or [kind.name] of at most "
               "49 letters, digits, \"_\", \"-\" and \".\"");
    snprintf(text, sizeof text, "[pg]\n%050d = 1\n", 1);
    is_refused(text, ERR_SYNTAX,
               "server.ini:2: a bad key, expected at most 49 letters, digits, \"_\", \"-\" and "
               "\".\" before the \"=\"");
}

static void test_bad_headers(void **state)
{
    static const char *const headers[] = {"[",     "[]",    "[ a ]",  "[a",     "[a]]",  "[a] x",
                                          "[a];c", "[a b]", "[.a]",   "[pg.]",  "[a:b]", "[.]",
                                          "[a\"]", "[a]b]", "[\xc3]", "[a] # c"};
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        snprintf(text, sizeof text, "\n\n%s\nk = 1\n", headers[i]);
        is_refused(text, ERR_SYNTAX,
                   "server.ini:3: a bad section header, expected [kind] or [kind.name] of at "
                   "most 49 letters, digits, \"_\", \"-\" and \".\"");
    }
}

static void test_bad_lines(void **state)
{
    (void)state;
    is_refused("[s]\nk\n", ERR_SYNTAX,
               "server.ini:2: neither a section nor a key nor a comment, expected key = value");
    is_refused("[s]\nk: v\n", ERR_SYNTAX,
               "server.ini:2: neither a section nor a key nor a comment, expected key = value");
    is_refused("[s]\nk:j = v\n", ERR_SYNTAX,
               "server.ini:2: a bad key, expected at most 49 letters, digits, \"_\", \"-\" and "
               "\".\" before the \"=\"");
    is_refused("[s]\n= v\n", ERR_SYNTAX,
               "server.ini:2: a bad key, expected at most 49 letters, digits, \"_\", \"-\" and "
               "\".\" before the \"=\"");
    is_refused("k = v\n[s]\n", ERR_SYNTAX,
               "server.ini:1: k: a key before any section, expected a [section] first");
    is_refused("[s]\nk = v\n[t]\n\n  more\n", ERR_SYNTAX,
               "server.ini:5: an indented line without a key before it, expected key = value "
               "at the line's start");
    is_refused("  [s]\n", ERR_SYNTAX,
               "server.ini:1: an indented line without a key before it, expected key = value "
               "at the line's start");
}

static void test_what_inih_would_cut(void **state)
{
    static const char *const values[] = {"a ;b", "a\t;b", "a ; b", ";a", "; a", "a\n  b ;c"};
    static const int lines[] = {2, 2, 2, 2, 2, 3};
    char expected[256];
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        snprintf(text, sizeof text, "[s]\nk = %s\n", values[i]);
        snprintf(expected, sizeof expected,
                 "server.ini:%d: k: \";\" behind a blank, expected comments on lines of their own "
                 "(or the value from a ${VARIABLE})",
                 lines[i]);
        is_refused(text, ERR_SYNTAX, expected);
    }
}

static void test_duplicates(void **state)
{
    (void)state;
    is_refused("[s]\nk = 1\nj = 2\nk = 3\n", ERR_EXISTS,
               "server.ini:4: k: stands in line 2 already, expected it once a section");
    is_refused("[pg.a]\n[pg.b]\n\n[pg.a]\n", ERR_EXISTS,
               "server.ini:4: section [pg.a] stands in line 1 already, expected it once");
    ini_free(parsed("[a]\nk = 1\n[b]\nk = 1\nK = 2\n"));
}

static void test_control_bytes(void **state)
{
    (void)state;
    is_refused("[s]\nk = a\x01z\n", ERR_SYNTAX, "server.ini:2: control byte 0x01, expected text");
    is_refused("[s]\n\x02=a\n", ERR_SYNTAX, "server.ini:2: control byte 0x02, expected text");
    is_refused("[s]\n# \x7f\n", ERR_SYNTAX, "server.ini:2: control byte 0x7f, expected text");
    is_refused("[s]\rk = a\r", ERR_SYNTAX, "server.ini:1: control byte 0x0d, expected text");
    is_refused("[s]\nk = a\r\r\n", ERR_SYNTAX, "server.ini:2: control byte 0x0d, expected text");
}

static void test_limits(void **state)
{
    const size_t size = (1 << 20) + 100;
    char *text = mem_alloc(size);
    size_t len;

    (void)state;
    snprintf(text, size, "[s]\nk = %0*d\n", 4092, 1);
    ini_free(parsed(text));
    snprintf(text, size, "[s]\nk = %0*d\n", 4093, 1);
    is_refused(text, ERR_TOO_BIG,
               "server.ini:2: a line of 4097 bytes, expected at most 4096; an indented line "
               "continues a value");
    len = (size_t)snprintf(text, size, "[s]\nk = 1\n");
    for (int i = 0; i < 16; i++)
        len += (size_t)snprintf(text + len, size - len, " %0*d\n", 4095, 1);
    is_refused(text, ERR_TOO_BIG, "server.ini:18: k: a long value, expected at most 64 KiB");
    memset(text, '\n', size - 1);
    is_refused(text, ERR_TOO_BIG, "server.ini: a file of more than 1 MiB, expected a smaller one");
    text[1 << 20] = '\0';
    ini_free(parsed(text));
    mem_free(text);
}

static void test_a_variable_may_not_make_a_value_too_long(void **state)
{
    char *value = mem_alloc(70000);

    (void)state;
    memset(value, 'x', 69999);
    setenv("WEFT_TEST_LONG", value, 1);
    is_refused("[s]\nk = ${WEFT_TEST_LONG}\n", ERR_TOO_BIG,
               "server.ini:2: k: a long value, expected at most 64 KiB");
    unsetenv("WEFT_TEST_LONG");
    mem_free(value);
}

static void test_unused_keys_and_sections(void **state)
{
    struct ini_file *file = parsed("[a]\nk = 1\nj = 2\n[pg.b]\n");

    (void)state;
    assert_true(ini_unused(file, problem));
    assert_string_equal(problem, "server.ini:1: unknown section [a], expected one of those that "
                                 "\"weft defaults\" prints");
    file->sections->is_used = true;
    assert_non_null(ini_entry(file->sections, "k"));
    assert_null(ini_entry(file->sections, "missing"));
    assert_null(ini_entry(NULL, "k"));
    assert_true(ini_unused(file, problem));
    assert_string_equal(problem, "server.ini:3: unknown key j in [a], expected one of those that "
                                 "\"weft defaults\" prints or that a plugin asks for");
    assert_non_null(ini_entry(file->sections, "j"));
    assert_true(ini_unused(file, problem));
    assert_string_equal(problem, "server.ini:4: unknown section [pg.b], expected one of those that "
                                 "\"weft defaults\" prints");
    file->sections->next->is_used = true;
    assert_false(ini_unused(file, problem));
    ini_free(file);
}

static void test_read_a_file(void **state)
{
    struct ini_file *file = NULL;
    struct temp_dir dir;
    char *expected;
    const char *path;
    char *real;
    char *joined;

    (void)state;
    temp_dir_init(&dir);
    path = temp_dir_write(&dir, "server.ini", "[s]\nk = 1", 9);
    assert_int_equal(ini_read(path, NULL, &file, problem), ERR_OK);
    assert_string_equal(file->path, path);
    real = realpath(dir.path, NULL);
    assert_string_equal(file->folder, real);
    joined = ini_path(file, "a/b");
    expected = mem_format("%s/a/b", real);
    assert_string_equal(joined, expected);
    mem_free(joined);
    mem_free(expected);
    joined = ini_path(file, "/a");
    assert_string_equal(joined, "/a");
    mem_free(joined);
    joined = ini_path(file, "");
    assert_string_equal(joined, "");
    mem_free(joined);
    free(real);
    ini_free(file);

    path = temp_dir_write(&dir, "nul.ini", "[s]\nk = a\0b\n", 12);
    expected = mem_format("%s:2: control byte 0x00, expected text", path);
    assert_int_equal(ini_read(path, NULL, &file, problem), ERR_SYNTAX);
    assert_string_equal(problem, expected);
    mem_free(expected);

    path = temp_dir_path(&dir, "none.ini");
    expected = mem_format("%s: No such file or directory, expected a file that can be read", path);
    assert_int_equal(ini_read(path, NULL, &file, problem), ERR_IO);
    assert_string_equal(problem, expected);
    mem_free(expected);

    expected = mem_format("%s: Is a directory, expected a file that can be read", dir.path);
    assert_int_equal(ini_read(dir.path, NULL, &file, problem), ERR_IO);
    assert_string_equal(problem, expected);
    mem_free(expected);
    temp_dir_deinit(&dir);
}

static void test_folders(void **state)
{
    struct ini_file *file = NULL;
    char cwd[4096];

    (void)state;
    assert_non_null(getcwd(cwd, sizeof cwd));
    file = parsed("");
    assert_string_equal(file->folder, cwd);
    ini_free(file);
    assert_int_equal(ini_parse_text("/server.ini", "", &file, problem), ERR_OK);
    assert_string_equal(file->folder, "/");
    ini_free(file);
    assert_int_equal(ini_parse_text("no-such/server.ini", "", &file, problem), ERR_OK);
    assert_memory_equal(file->folder, cwd, strlen(cwd));
    assert_string_equal(file->folder + strlen(cwd), "/no-such");
    ini_free(file);
}

static void test_a_long_path_is_cut_in_messages(void **state)
{
    struct ini_file *file = NULL;
    char *path = mem_format("%0900d", 1);

    (void)state;
    assert_int_equal(ini_parse_text(path, "x", &file, problem), ERR_SYNTAX);
    assert_int_equal(strlen(problem), INI_PROBLEM_SIZE - 1);
    mem_free(path);
}

/* Lines that are put together from what an ini file is made of: no crash, and a reason. */
static void test_random_files(void **state)
{
    static const char *const parts[] = {
        "[",     "]",       "a",       "b.c", "=",    " = ",  "\n",
        "\n\n",  "\r\n",    " ",       "\t",  ";",    " ;",   "#",
        "$",     "${A}",    "${B:-x}", "$$",  "\x01", "\xff", "key = value\n",
        "[s]\n", "  more\n"};
    uint64_t random = 12345;
    struct ini_file *file;
    uint32_t good = 0;

    (void)state;
    setenv("A", "a", 1);
    for (int i = 0; i < 60000; i++) {
        uint32_t count = random_below(&random, 30);
        char text[1024] = "[x]\n";
        size_t len = i % 2 ? 4 : 0;

        for (uint32_t k = 0; k < count; k++) {
            const char *part =
                parts[random_below(&random, (uint32_t)(sizeof parts / sizeof parts[0]))];

            len += (size_t)snprintf(text + len, sizeof text - len, "%s", part);
        }
        text[len] = '\0';
        problem[0] = '\0';
        if (ini_parse_text("f", text, &file, problem) == ERR_OK) {
            good++;
            ini_free(file);
        } else {
            assert_non_null(strstr(problem, "expected"));
        }
    }
    assert_true(good > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sections_keys_and_lines),
        cmocka_unit_test(test_nothing_is_an_empty_file),
        cmocka_unit_test(test_values_come_out_as_they_stand),
        cmocka_unit_test(test_indented_lines_continue),
        cmocka_unit_test(test_variables),
        cmocka_unit_test(test_values_of_every_length),
        cmocka_unit_test(test_names_of_49_bytes),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_what_inih_would_cut),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_control_bytes),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_a_variable_may_not_make_a_value_too_long),
        cmocka_unit_test(test_unused_keys_and_sections),
        cmocka_unit_test(test_read_a_file),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_a_long_path_is_cut_in_messages),
        cmocka_unit_test(test_random_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
