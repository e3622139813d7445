/* Goal: a table of fields sets every member from the file or its default, refuses what is not of
 *       its
 * type or out of its bounds with file, line, key and what was expected, and prints itself as a file
 * that reads back the same. */
#include "base/mem.h"
#include "lib/dies.h"
#include "lib/test.h"
#include "settings/field.h"

#include <stdlib.h>
#include <string.h>

struct options {
    uint32_t count;
    uint32_t wait_ms;
    uint64_t bytes;
    bool is_on;
    char *text;
    char *path;
    uint32_t color;
    uint32_t workers;
    char *name;
};

static const char *const colors[] = {"red", "green", NULL};
static const char *const automatic[] = {"auto", NULL};

static const struct field fields[] = {
    {.key = "count",
     .type = FIELD_UINT,
     .offset = offsetof(struct options, count),
     .fallback = "4",
     .min = 1,
     .max = 64,
     .scope = FIELD_PER_WORKER,
     .help = "How many."},
    {.key = "wait",
     .type = FIELD_MS,
     .offset = offsetof(struct options, wait_ms),
     .fallback = "10s",
     .min = 1,
     .max = 3600000,
     .help =
         "How long. This sentence is only here to be so long that the help of this field has to "
         "be wrapped into another line."},
    {.key = "bytes",
     .type = FIELD_SIZE,
     .offset = offsetof(struct options, bytes),
     .fallback = "64k",
     .min = 0,
     .max = 1 << 30,
     .help = "How large."},
    {.key = "switch",
     .type = FIELD_BOOL,
     .offset = offsetof(struct options, is_on),
     .fallback = "on",
     .help = "Whether."},
    {.key = "text",
     .type = FIELD_TEXT,
     .offset = offsetof(struct options, text),
     .fallback = "",
     .min = 2,
     .max = 5,
     .help = "What."},
    {.key = "path",
     .type = FIELD_PATH,
     .offset = offsetof(struct options, path),
     .fallback = "some/where",
     .help = "Where."},
    {.key = "color",
     .type = FIELD_CHOICE,
     .offset = offsetof(struct options, color),
     .fallback = "green",
     .choices = colors,
     .help = "Which."},
    {.key = "workers",
     .type = FIELD_UINT,
     .offset = offsetof(struct options, workers),
     .fallback = "auto",
     .min = 1,
     .max = 1024,
     .choices = automatic,
     .scope = FIELD_PER_HOST,
     .help = "Processes."},
};

static const struct field_table table = {.kind = "server",
                                         .example = "[server]",
                                         .help = "All of it.",
                                         .fields = fields,
                                         .count = FIELD_COUNT(fields)};

static const struct field name_field[] = {{.key = "name",
                                           .type = FIELD_TEXT,
                                           .offset = offsetof(struct options, name),
                                           .fallback = NULL,
                                           .min = 1,
                                           .help = "Who."}};

static const struct field_table name_table = {.kind = "plugin",
                                              .example = "[plugin.hello]",
                                              .help = "One each.",
                                              .fields = name_field,
                                              .count = 1};

static char problem[INI_PROBLEM_SIZE];

static struct ini_file *parsed(const char *text)
{
    struct ini_file *file = NULL;

    if (ini_parse_text("/etc/weft/server.ini", text, &file, problem) != ERR_OK)
        fail_msg("refused: %s", problem);
    return file;
}

static void test_every_member_is_set(void **state)
{
    struct ini_file *file = parsed("[server]\ncount = 64\nwait = 250ms\nbytes = 1g\nswitch = no\n"
                                   "text = abcde\npath = x.so\ncolor = red\nworkers = 3\n");
    struct options options;

    (void)state;
    memset(&options, 0xaa, sizeof options);
    assert_int_equal(field_bind(&table, file, file->sections, &options, problem), ERR_OK);
    assert_int_equal(options.count, 64);
    assert_int_equal(options.wait_ms, 250);
    assert_int_equal(options.bytes, 1 << 30);
    assert_false(options.is_on);
    assert_string_equal(options.text, "abcde");
    assert_int_equal(options.path[0], '/');
    assert_string_equal(strrchr(options.path, '/'), "/x.so");
    assert_int_equal(options.color, 0);
    assert_int_equal(options.workers, 3);
    assert_false(ini_unused(file, problem));
    field_clear(&table, &options);
    field_clear(&table, &options);
    assert_null(options.text);
    ini_free(file);
}

static void expect_defaults(const struct options *options)
{
    assert_int_equal(options->count, 4);
    assert_int_equal(options->wait_ms, 10000);
    assert_int_equal(options->bytes, 65536);
    assert_true(options->is_on);
    assert_string_equal(options->text, "");
    assert_int_equal(options->color, 1);
    assert_int_equal(options->workers, 0);
}

static void test_defaults(void **state)
{
    struct ini_file *file = parsed("[server]\n");
    struct options options;

    (void)state;
    memset(&options, 0xaa, sizeof options);
    assert_int_equal(field_bind(&table, file, file->sections, &options, problem), ERR_OK);
    expect_defaults(&options);
    assert_int_equal(options.path[0], '/');
    field_clear(&table, &options);
    assert_int_equal(field_bind(&table, file, NULL, &options, problem), ERR_OK);
    expect_defaults(&options);
    field_clear(&table, &options);
    memset(&options, 0xaa, sizeof options);
    field_defaults(&table, &options);
    expect_defaults(&options);
    assert_string_equal(options.path, "some/where");
    field_clear(&table, &options);
    field_defaults(&name_table, &options);
    assert_null(options.name);
    ini_free(file);
}

static const struct {
    const char *text;
    const char *expected;
} bad[] = {
    {"count = 0", "count: expected a number from 1 to 64"},
    {"count = 65", "count: expected a number from 1 to 64"},
    {"count = x", "count: expected a number from 1 to 64"},
    {"count =", "count: expected a number from 1 to 64"},
    {"count = auto", "count: expected a number from 1 to 64"},
    {"count = 4294967297", "count: expected a number from 1 to 64"},
    {"wait = 10", "wait: expected a time from 1ms to 1h in ms, s, m, h or d"},
    {"wait = 0", "wait: expected a time from 1ms to 1h in ms, s, m, h or d"},
    {"wait = 2h", "wait: expected a time from 1ms to 1h in ms, s, m, h or d"},
    {"bytes = 2g", "bytes: expected a size from 0 to 1g in bytes, k, m or g"},
    {"switch = true", "switch: expected on, off, yes or no"},
    {"switch = On", "switch: expected on, off, yes or no"},
    {"text = a", "text: expected text of at least 2 bytes and at most 5 bytes"},
    {"text =", "text: expected text of at least 2 bytes and at most 5 bytes"},
    {"text = secret", "text: expected text of at least 2 bytes and at most 5 bytes"},
    {"color = blue", "color: expected one of red, green"},
    {"workers = 0", "workers: expected a number from 1 to 1024, or auto"},
    {"workers = Auto", "workers: expected a number from 1 to 1024, or auto"},
};

static void test_bad_values(void **state)
{
    char expected[256];
    char text[128];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct options options;
        struct ini_file *file;

        snprintf(text, sizeof text, "[server]\npath = p\n\n%s\n", bad[i].text);
        snprintf(expected, sizeof expected, "/etc/weft/server.ini:4: %s", bad[i].expected);
        file = parsed(text);
        memset(&options, 0xaa, sizeof options);
        assert_int_equal(field_bind(&table, file, file->sections, &options, problem), ERR_INVALID);
        assert_string_equal(problem, expected);
        field_clear(&table, &options);
        ini_free(file);
    }
}

static void test_a_required_key(void **state)
{
    struct ini_file *file = parsed("\n[plugin.hello]\nother = 1\n");
    struct options options;

    (void)state;
    assert_int_equal(field_bind(&name_table, file, file->sections, &options, problem),
                     ERR_NOT_FOUND);
    assert_string_equal(problem, "/etc/weft/server.ini:2: name: missing in this section, expected "
                                 "text of at least 1 bytes");
    field_clear(&name_table, &options);
    assert_int_equal(field_bind(&name_table, file, NULL, &options, problem), ERR_NOT_FOUND);
    assert_string_equal(problem, "/etc/weft/server.ini: name: missing, expected text of at least 1 "
                                 "bytes in [plugin.hello]");
    field_clear(&name_table, &options);
    ini_free(file);
}

static void test_print(void **state)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    field_print(&table, out);
    field_print(&name_table, out);
    fclose(out);
    assert_string_equal(
        text,
        "# All of it.\n"
        "[server]\n"
        "\n"
        "# How many. A number from 1 to 64, per worker.\n"
        "#count = 4\n"
        "\n"
        "# How long. This sentence is only here to be so long that the help of this field has "
        "to be wrapped\n"
        "# into another line. A time from 1ms to 1h in ms, s, m, h or d.\n"
        "#wait = 10s\n"
        "\n"
        "# How large. A size from 0 to 1g in bytes, k, m or g, per host.\n"
        "#bytes = 64k\n"
        "\n"
        "# Whether. On, off, yes or no.\n"
        "#switch = on\n"
        "\n"
        "# What. Text of at least 2 bytes and at most 5 bytes.\n"
        "#text =\n"
        "\n"
        "# Where. A path.\n"
        "#path = some/where\n"
        "\n"
        "# Which. One of red, green.\n"
        "#color = green\n"
        "\n"
        "# Processes. A number from 1 to 1024, or auto, per host.\n"
        "#workers = auto\n"
        "# One each.\n"
        "#[plugin.hello]\n"
        "\n"
        "# Who. Text of at least 1 bytes, required.\n"
        "#name =\n");
    free(text);
}

/* Takes the comment signs off the keys: what is left are the defaults, written out. */
static void test_what_is_printed_reads_back(void **state)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct options options;
    struct ini_file *file;

    (void)state;
    field_print(&table, out);
    fclose(out);
    for (char *at = text; (at = strstr(at, "\n#")) != NULL; at++) {
        if (at[2] != ' ' && memcmp(at + 2, "text", 4) != 0)
            memmove(at + 1, at + 2, strlen(at + 2) + 1);
    }
    file = parsed(text);
    assert_int_equal(field_bind(&table, file, file->sections, &options, problem), ERR_OK);
    assert_false(ini_unused(file, problem));
    expect_defaults(&options);
    field_clear(&table, &options);
    ini_free(file);
    free(text);
}

static void bind_bad_default(void *arg)
{
    struct field wrong = fields[0];
    struct field_table wrong_table = {.fields = &wrong, .count = 1};

    wrong.fallback = "65";
    field_defaults(&wrong_table, arg);
}

static void test_a_bad_default_dies(void **state)
{
    char output[DIES_OUTPUT_SIZE];
    struct options options;

    (void)state;
    assert_true(dies(bind_bad_default, &options, output));
    assert_non_null(strstr(output, "set(&plain"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_member_is_set),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_a_required_key),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_what_is_printed_reads_back),
        cmocka_unit_test(test_a_bad_default_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
