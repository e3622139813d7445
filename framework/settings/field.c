/* settings/field.c - binds the keys of a section to the members of a struct, by a table. */
#include "settings/field.h"
#include "base/check.h"
#include "base/mem.h"
#include "base/number.h"
#include <stdarg.h>
#include <stdlib.h>

enum { PRINT_WIDTH = 98, EXPECTED_SIZE = 256 };

static bool is_number(const struct field *field)
{
    return field->type == FIELD_UINT || field->type == FIELD_MS || field->type == FIELD_SIZE;
}

static bool is_text(const struct field *field)
{
    return field->type == FIELD_TEXT || field->type == FIELD_PATH;
}

static void *member(const struct field *field, void *options)
{
    return (char *)options + field->offset;
}

/* A bound of a field as it is written in a file. */
static void format_number(const struct field *field, uint64_t value, char text[NUMBER_TEXT_SIZE])
{
    if (field->type == FIELD_MS)
        number_format_duration(value, text);
    else if (field->type == FIELD_SIZE)
        number_format_size(value, text);
    else
        number_format(value, text);
}

static void append(char *text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void append(char *text, size_t size, const char *format, ...)
{
    size_t len = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + len, size - len, format, args);
    va_end(args);
}

static void expected_number(const struct field *field, char text[EXPECTED_SIZE])
{
    static const char *const what[] = {
        [FIELD_UINT] = "a number", [FIELD_MS] = "a time", [FIELD_SIZE] = "a size"};
    static const char *const units[] = {[FIELD_UINT] = "",
                                        [FIELD_MS] = " in ms, s, m, h or d",
                                        [FIELD_SIZE] = " in bytes, k, m or g"};
    char min[NUMBER_TEXT_SIZE];
    char max[NUMBER_TEXT_SIZE];

    format_number(field, field->min, min);
    format_number(field, field->max, max);
    append(text, EXPECTED_SIZE, "%s from %s to %s%s", what[field->type], min, max,
           units[field->type]);
    if (field->choices != NULL)
        append(text, EXPECTED_SIZE, ", or %s", field->choices[0]);
}

static void expected_text(const struct field *field, char text[EXPECTED_SIZE])
{
    append(text, EXPECTED_SIZE, "%s", field->type == FIELD_PATH ? "a path" : "text");
    if (field->min > 0)
        append(text, EXPECTED_SIZE, " of at least %llu bytes", (unsigned long long)field->min);
    if (field->max > 0)
        append(text, EXPECTED_SIZE, "%s at most %llu bytes", field->min > 0 ? " and" : " of",
               (unsigned long long)field->max);
}

/* What may stand there, completing "expected ...". */
static void expected(const struct field *field, char text[EXPECTED_SIZE])
{
    text[0] = '\0';
    switch (field->type) {
    case FIELD_UINT:
    case FIELD_MS:
    case FIELD_SIZE:
        expected_number(field, text);
        break;
    case FIELD_BOOL:
        append(text, EXPECTED_SIZE, "on, off, yes or no");
        break;
    case FIELD_TEXT:
    case FIELD_PATH:
        expected_text(field, text);
        break;
    case FIELD_CHOICE:
        append(text, EXPECTED_SIZE, "one of ");
        for (uint32_t i = 0; field->choices[i] != NULL; i++)
            append(text, EXPECTED_SIZE, "%s%s", i > 0 ? ", " : "", field->choices[i]);
        break;
    }
}

static bool read_number(const struct field *field, struct span text, uint64_t *value)
{
    bool is_read;

    if (field->choices != NULL && span_equal(text, span_of(field->choices[0]))) {
        *value = 0;
        return true;
    }
    if (field->type == FIELD_MS)
        is_read = number_duration_ms(text, value);
    else if (field->type == FIELD_SIZE)
        is_read = number_size(text, value);
    else
        is_read = number_uint(text, value);
    return is_read && *value >= field->min && *value <= field->max;
}

static bool read_bool(struct span text, bool *value)
{
    bool is_on = span_equal(text, SPAN("on")) || span_equal(text, SPAN("yes"));

    if (!is_on && !span_equal(text, SPAN("off")) && !span_equal(text, SPAN("no")))
        return false;
    *value = is_on;
    return true;
}

static bool read_choice(const struct field *field, struct span text, uint32_t *value)
{
    for (uint32_t i = 0; field->choices[i] != NULL; i++) {
        if (span_equal(text, span_of(field->choices[i]))) {
            *value = i;
            return true;
        }
    }
    return false;
}

/* Sets the member from `text`; `file` (NULL: none) makes paths absolute. False: not what was
 * expected, and the member is as before. */
static bool set(const struct field *field, const struct ini_file *file, const char *text,
                void *options)
{
    struct span span = span_of(text);
    void *to = member(field, options);
    uint64_t number;

    switch (field->type) {
    case FIELD_UINT:
    case FIELD_MS:
        if (!read_number(field, span, &number))
            return false;
        *(uint32_t *)to = (uint32_t)number;
        return true;
    case FIELD_SIZE:
        return read_number(field, span, to);
    case FIELD_BOOL:
        return read_bool(span, to);
    case FIELD_TEXT:
    case FIELD_PATH:
        if (span.len < field->min || (field->max > 0 && span.len > field->max))
            return false;
        *(char **)to =
            field->type == FIELD_PATH && file != NULL ? ini_path(file, text) : mem_copy(span);
        return true;
    case FIELD_CHOICE:
        return read_choice(field, span, to);
    }
    return false;
}

static void check_field(const struct field *field)
{
    CHECK(field->key != NULL);
    CHECK(field->help != NULL);
    if (is_number(field)) {
        CHECK(field->min <= field->max);
        CHECK(field->type == FIELD_SIZE || field->max <= UINT32_MAX);
    }
    if (field->type == FIELD_CHOICE)
        CHECK(field->choices != NULL);
}

/* The default is set without the bounds of a text: "" is unset. */
static void set_default(const struct field *field, const struct ini_file *file, void *options)
{
    struct field plain = *field;

    if (field->fallback == NULL)
        return;
    if (is_text(field))
        plain.min = 0;
    CHECK(set(&plain, file, field->fallback, options));
}

/* Before members are set: on failure all of them can be cleared. */
static void zero(const struct field_table *table, void *options)
{
    static const size_t sizes[] = {[FIELD_UINT] = sizeof(uint32_t),  [FIELD_MS] = sizeof(uint32_t),
                                   [FIELD_SIZE] = sizeof(uint64_t),  [FIELD_BOOL] = sizeof(bool),
                                   [FIELD_TEXT] = sizeof(char *),    [FIELD_PATH] = sizeof(char *),
                                   [FIELD_CHOICE] = sizeof(uint32_t)};

    for (uint32_t i = 0; i < table->count; i++) {
        check_field(&table->fields[i]);
        memset(member(&table->fields[i], options), 0, sizes[table->fields[i].type]);
    }
}

static enum err bind_one(const struct field *field, const struct field_table *table,
                         const struct ini_file *file, struct ini_section *section, void *options,
                         char problem[INI_PROBLEM_SIZE])
{
    struct ini_entry *entry = ini_entry(section, field->key);
    char text[EXPECTED_SIZE], place[INI_PLACE_SIZE];

    if (entry == NULL && field->fallback != NULL) {
        set_default(field, file, options);
        return ERR_OK;
    }
    if (entry != NULL && set(field, file, entry->value, options))
        return ERR_OK;
    expected(field, text);
    if (entry != NULL) {
        snprintf(problem, INI_PROBLEM_SIZE, "%s: %s: expected %s",
                 ini_place(file, entry->line, place), field->key, text);
        return ERR_INVALID;
    }
    if (section != NULL)
        snprintf(problem, INI_PROBLEM_SIZE, "%s: %s: missing in this section, expected %s",
                 ini_place(file, section->line, place), field->key, text);
    else
        snprintf(problem, INI_PROBLEM_SIZE, "%s: %s: missing, expected %s in %s", file->path,
                 field->key, text, table->example);
    return ERR_NOT_FOUND;
}

enum err field_bind(const struct field_table *table, const struct ini_file *file,
                    struct ini_section *section, void *options, char problem[INI_PROBLEM_SIZE])
{
    enum err err = ERR_OK;

    CHECK(table != NULL);
    CHECK(file != NULL);
    CHECK(options != NULL);
    zero(table, options);
    if (section != NULL)
        section->is_used = true;
    for (uint32_t i = 0; i < table->count && err == ERR_OK; i++)
        err = bind_one(&table->fields[i], table, file, section, options, problem);
    return err;
}

void field_defaults(const struct field_table *table, void *options)
{
    CHECK(table != NULL);
    CHECK(options != NULL);
    zero(table, options);
    for (uint32_t i = 0; i < table->count; i++)
        set_default(&table->fields[i], NULL, options);
}

void field_clear(const struct field_table *table, void *options)
{
    CHECK(table != NULL);
    CHECK(options != NULL);
    for (uint32_t i = 0; i < table->count; i++) {
        if (is_text(&table->fields[i]))
            mem_free(*(char **)member(&table->fields[i], options));
    }
    zero(table, options);
}

/* Writes `text` as comment lines of at most PRINT_WIDTH columns, broken at blanks. */
static void print_comment(const char *text, FILE *out)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        size_t cut = len;

        if (len > PRINT_WIDTH) {
            cut = PRINT_WIDTH;
            while (cut > 0 && text[cut] != ' ')
                cut--;
            if (cut == 0)
                cut = strcspn(text, " \n");
        }
        fprintf(out, "# %.*s\n", (int)cut, text);
        text += cut;
        text += *text == ' ' || *text == '\n';
    }
}

static void print_field(const struct field *field, FILE *out)
{
    char text[EXPECTED_SIZE];
    char *line;

    expected(field, text);
    if (text[0] >= 'a' && text[0] <= 'z')
        text[0] = (char)(text[0] - 'a' + 'A');
    line = mem_format("%s %s%s%s.", field->help, text,
                      field->type == FIELD_UINT || field->type == FIELD_SIZE
                          ? field->scope == FIELD_PER_WORKER ? ", per worker" : ", per host"
                          : "",
                      field->fallback == NULL ? ", required" : "");
    fputc('\n', out);
    print_comment(line, out);
    mem_free(line);
    if (field->fallback != NULL && field->fallback[0] != '\0')
        fprintf(out, "#%s = %s\n", field->key, field->fallback);
    else
        fprintf(out, "#%s =\n", field->key);
}

void field_print(const struct field_table *table, FILE *out)
{
    CHECK(table != NULL);
    CHECK(out != NULL);
    print_comment(table->help, out);
    fprintf(out, "%s%s\n", strchr(table->example, '.') != NULL ? "#" : "", table->example);
    for (uint32_t i = 0; i < table->count; i++) {
        check_field(&table->fields[i]);
        print_field(&table->fields[i], out);
    }
}
