/* server/place.c - reads where a host is from settings that may be broken elsewhere: of the file's
 * lines only those of the two keys are read as a file. */
#include "server/place.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "settings/field.h"
#include "settings/override.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { LINE_SIZE = 4096, BYTES_MAX = 1 << 20 }; /* as settings/ini.h */

static const struct field fields[] = {
    {.key = "runtime_dir",
     .type = FIELD_PATH,
     .offset = offsetof(struct place, runtime_dir),
     .fallback = "",
     .max = PATH_MAX,
     .help = "See server/settings.c."},
    {.key = "control",
     .type = FIELD_PATH,
     .offset = offsetof(struct place, control),
     .fallback = "",
     .max = PATH_MAX,
     .help = "See server/settings.c."},
};

static const struct field_table table = {
    .kind = "server",
    .example = "[server]",
    .help = "Where a host is.",
    .fields = fields,
    .count = FIELD_COUNT(fields),
};

static bool is_key(const char *line, const char *key)
{
    size_t len = strlen(key);

    return strncmp(line, key, len) == 0 && line[len + strspn(line + len, " \t")] == '=';
}

/* Keeps the lines of the two keys in [server], with those that go on with them; the others become
 * empty, so that messages name the right line. */
static void filter(FILE *file, struct buf *text)
{
    char line[LINE_SIZE];
    bool is_server = false, is_ours = false, is_begun = false;

    while (text->len < BYTES_MAX && fgets(line, sizeof line, file) != NULL) {
        bool is_header = line[0] == '[', goes_on = line[0] == ' ' || line[0] == '\t';

        if (is_header)
            is_server = strncmp(line, "[server]", 8) == 0;
        if (!goes_on)
            is_ours =
                is_server &&
                (is_header ? !is_begun : is_key(line, "runtime_dir") || is_key(line, "control"));
        is_begun |= is_header && is_server; /* a second one is refused */
        buf_append(text, is_ours ? span_of(line) : SPAN("\n"));
    }
}

static bool is_of_place(const char *override)
{
    return is_key(override, "server.runtime_dir") || is_key(override, "server.control");
}

/* Reads `text` as the file. */
static enum err bind_text(const char *path, const char *text, const char *const *overrides,
                          struct place *place, char *problem)
{
    struct ini_file *file = NULL;
    enum err err = ini_parse_text(path, text, &file, problem);

    if (err != ERR_OK)
        return err;
    for (; overrides != NULL && *overrides != NULL && err == ERR_OK; overrides++)
        if (is_of_place(*overrides))
            err = ini_override(file, *overrides, problem);
    if (err == ERR_OK)
        err = field_bind(&table, file, ini_section(file, "server", ""), place, problem);
    ini_free(file);
    return err;
}

enum err place_find(const char *path, const char *const *overrides, struct place *place,
                    char problem[INI_PROBLEM_SIZE])
{
    FILE *file = fopen(path, "re");
    struct buf text;
    enum err err = ERR_OK;

    buf_init(&text, NULL);
    *place = (struct place){0};
    if (file != NULL)
        filter(file, &text);
    else
        err = ERR_NOT_FOUND;
    if (err != ERR_OK)
        snprintf(problem, INI_PROBLEM_SIZE, "%.300s: %s", path, strerror(errno));
    buf_append(&text, (struct span){"", 1});
    enum err bound = bind_text(path, text.data, overrides, place,
                               err == ERR_OK ? problem : (char[INI_PROBLEM_SIZE]){0});
    if (bound != ERR_OK) {
        place_clear(place);
        field_defaults(&table, place);
    }
    if (file != NULL)
        fclose(file);
    buf_release(&text);
    return err == ERR_OK ? bound : err;
}

void place_clear(struct place *place)
{
    field_clear(&table, place);
}
