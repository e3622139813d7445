/* settings/ini.c - the text of an ini file to sections, keys, values and lines.
 *
 *   text ──▶ next_line(): counts, checks, cuts into pieces ──▶ inih ──▶ on_pair(): builds the file
 *
 * inih asks for a line and then calls back for it, so what the reader knows of the line (its
 * number, whether it starts a value) is still true in on_pair(). A value goes in pieces of
 * PIECE_SIZE, all but the first as continuation lines; each piece stands between two MARKs, which
 * no file can hold, so that inih has no blank to strip and no " ;" to cut at. inih says nothing of
 * a section without keys, so a header is followed by a key that no file can have.
 * Failure: the reader notes the first problem and answers inih with the end of the file.
 */
#include "settings/ini.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "settings/expand.h"
#include "settings/override.h"
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    FILE_MAX = 1 << 20,
    LINE_MAX_BYTES = 4096,
    VALUE_MAX = 64 << 10,
    NAME_MAX_BYTES = 49, /* inih: MAX_SECTION, MAX_NAME */
    PIECE_SIZE = 120     /* with the longest key, far below inih's 199 bytes a line */
};

#define MARK        "\x01"
#define SECTION_KEY "\x02"

/* What comes next to inih, if it is not a new line. */
enum pending { NOTHING, SECTION_START, REST_OF_VALUE };

/* What a piece is to the value of the entry that is being read. */
enum piece { FIRST_PIECE, NEXT_LINE, SAME_LINE };

struct reader {
    struct span text;              /* what was not read yet */
    uint32_t line;                 /* that was read last, from 1 */
    enum pending pending;          /* for the next call of next_line() */
    enum piece piece;              /* what on_pair() is called for */
    struct span rest;              /* of the value in the line that was read last */
    struct ini_file *file;         /* what is being built */
    struct ini_section *section;   /* the last one, or NULL */
    struct ini_section **sections; /* where the next one goes */
    struct ini_entry *entry;    /* the last one of `section`, whose value is still open, or NULL */
    struct ini_entry **entries; /* where the next one goes */
    struct buf value;           /* of `entry`, so far, without variables */
    enum err err;               /* the first problem */
    char *problem;              /* INI_PROBLEM_SIZE bytes, for its text */
};

/* Notes a problem in `line` (0: in the file); the first one stays. */
static void __attribute__((format(printf, 4, 5)))
fail(struct reader *reader, enum err err, uint32_t line, const char *format, ...)
{
    va_list args;
    int len;

    CHECK(err != ERR_OK);
    if (reader->err != ERR_OK)
        return;
    reader->err = err;
    len = snprintf(reader->problem, INI_PROBLEM_SIZE,
                   line > 0 ? "%s:%u: " : "%s: ", reader->file->path, line);
    if (len < 0 || len >= INI_PROBLEM_SIZE)
        return;
    va_start(args, format);
    vsnprintf(reader->problem + len, (size_t)(INI_PROBLEM_SIZE - len), format, args);
    va_end(args);
}

bool ini_is_name(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-' || c == '.'))
            return false;
    }
    return text.len > 0 && text.len <= NAME_MAX_BYTES;
}

/* Ends the value of the last entry: variables are replaced in the whole of it. */
static void close_entry(struct reader *reader)
{
    struct ini_entry *entry = reader->entry;
    char problem[EXPAND_PROBLEM_SIZE];
    struct buf value;
    enum err err;

    if (entry == NULL)
        return;
    reader->entry = NULL;
    buf_init(&value, NULL);
    err = expand_value(buf_span(&reader->value), reader->file->folder, &value, problem);
    if (err == ERR_OK && value.len > VALUE_MAX) {
        snprintf(problem, sizeof problem, "a long value, expected at most 64 KiB");
        err = ERR_TOO_BIG;
    }
    if (err != ERR_OK) {
        entry->_problem = mem_copy(span_of(problem));
        entry->_err = err;
    }
    buf_append(&value, (struct span){"", 1});
    entry->value = mem_copy((struct span){value.data, value.len - 1});
    buf_release(&value);
    buf_consume(&reader->value, reader->value.len);
}

static void add_section(struct reader *reader, const char *full)
{
    const char *dot = strchr(full, '.');
    struct span kind = {full, dot != NULL ? (size_t)(dot - full) : strlen(full)};
    struct ini_section *section = mem_alloc(sizeof(*section));
    struct ini_section *other;

    section->kind = mem_copy(kind);
    section->name = mem_copy(span_of(dot != NULL ? dot + 1 : ""));
    section->line = reader->line;
    other = ini_section(reader->file, section->kind, section->name);
    if (other != NULL)
        fail(reader, ERR_EXISTS, reader->line,
             "section [%s] stands in line %u already, expected it once", full, other->line);
    *reader->sections = section;
    reader->sections = &section->next;
    reader->section = section;
    reader->entries = &section->entries;
}

static void add_entry(struct reader *reader, const char *key)
{
    struct ini_entry *entry = mem_alloc(sizeof(*entry));

    for (struct ini_entry *at = reader->section->entries; at != NULL; at = at->next) {
        if (strcmp(at->key, key) == 0)
            fail(reader, ERR_EXISTS, reader->line,
                 "%s: stands in line %u already, expected it once a section", key, at->line);
    }
    entry->key = mem_copy(span_of(key));
    entry->line = reader->line;
    *reader->entries = entry;
    reader->entries = &entry->next;
    reader->entry = entry;
}

/* What inih calls for each key, and once more for each continuation line. */
static int on_pair(void *user, const char *section, const char *key, const char *value)
{
    struct reader *reader = user;
    struct span piece = span_of(value);

    CHECK(reader->err == ERR_OK);
    CHECK(piece.len >= 2);
    if (strcmp(key, SECTION_KEY) == 0) {
        add_section(reader, section);
        return 1;
    }
    if (reader->piece == FIRST_PIECE)
        add_entry(reader, key);
    CHECK(reader->entry != NULL);
    if (reader->piece == NEXT_LINE && reader->value.len > 0)
        buf_append(&reader->value, SPAN(" "));
    buf_append(&reader->value, (struct span){piece.ptr + 1, piece.len - 2});
    if (reader->value.len > VALUE_MAX)
        fail(reader, ERR_TOO_BIG, reader->line, "%s: a long value, expected at most 64 KiB",
             reader->entry->key);
    return 1;
}

/* Takes the next line from the text, without its end; false: there is none, or it is refused. */
static bool take_line(struct reader *reader, struct span *line)
{
    const char *end;

    if (reader->text.len == 0 || reader->err != ERR_OK)
        return false;
    reader->line++;
    end = memchr(reader->text.ptr, '\n', reader->text.len);
    line->ptr = reader->text.ptr;
    line->len = end != NULL ? (size_t)(end - line->ptr) : reader->text.len;
    reader->text.ptr += line->len + (end != NULL);
    reader->text.len -= line->len + (end != NULL);
    if (line->len > 0 && line->ptr[line->len - 1] == '\r')
        line->len--;
    if (line->len > LINE_MAX_BYTES)
        fail(reader, ERR_TOO_BIG, reader->line,
             "a line of %zu bytes, expected at most %d; an indented line continues a value",
             line->len, LINE_MAX_BYTES);
    for (size_t i = 0; i < line->len; i++) {
        unsigned char c = (unsigned char)line->ptr[i];

        if ((c < ' ' && c != '\t') || c == 0x7f)
            fail(reader, ERR_SYNTAX, reader->line, "control byte 0x%02x, expected text", c);
    }
    return reader->err == ERR_OK;
}

/* Refuses what inih would take for a comment and cut off. */
static bool check_value(struct reader *reader, const char *key, struct span value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] != ';' || (i > 0 && value.ptr[i - 1] != ' ' && value.ptr[i - 1] != '\t'))
            continue;
        fail(reader, ERR_SYNTAX, reader->line,
             "%s: \";\" behind a blank, expected comments on lines of their own "
             "(or the value from a ${VARIABLE})",
             key);
        return false;
    }
    return true;
}

/* Writes `before` and the next piece of the value as a line for inih. */
static void put_piece(struct reader *reader, char *out, size_t size, const char *before)
{
    size_t len = reader->rest.len < PIECE_SIZE ? reader->rest.len : PIECE_SIZE;
    int written = snprintf(out, size, "%s" MARK "%.*s" MARK "\n", before, (int)len,
                           len > 0 ? reader->rest.ptr : "");

    CHECK(written > 0 && (size_t)written < size);
    reader->rest = (struct span){reader->rest.ptr + len, reader->rest.len - len};
    reader->pending = reader->rest.len > 0 ? REST_OF_VALUE : NOTHING;
}

static void put_section(struct reader *reader, struct span line, char *out, size_t size)
{
    struct span full;

    line = span_trim(line);
    full = (struct span){line.ptr + 1, line.len > 2 ? line.len - 2 : 0};
    if (line.ptr[line.len - 1] != ']' || !ini_is_name(full) || full.ptr[0] == '.' ||
        full.ptr[full.len - 1] == '.') {
        fail(reader, ERR_SYNTAX, reader->line,
             "a bad section header, expected [kind] or [kind.name] of at most %d letters, digits, "
             "\"_\", \"-\" and \".\"",
             NAME_MAX_BYTES);
        return;
    }
    close_entry(reader);
    snprintf(out, size, "[%.*s]\n", SPAN_ARG(full));
    reader->pending = SECTION_START;
}

static void put_key(struct reader *reader, struct span line, char *out, size_t size)
{
    const char *equals = memchr(line.ptr, '=', line.len);
    char before[NAME_MAX_BYTES + 4];
    struct span key;
    size_t value_at;

    if (equals == NULL) {
        fail(reader, ERR_SYNTAX, reader->line,
             "neither a section nor a key nor a comment, expected key = value");
        return;
    }
    key = span_trim((struct span){line.ptr, (size_t)(equals - line.ptr)});
    if (!ini_is_name(key)) {
        fail(reader, ERR_SYNTAX, reader->line,
             "a bad key, expected at most %d letters, digits, \"_\", \"-\" and \".\" before the "
             "\"=\"",
             NAME_MAX_BYTES);
        return;
    }
    if (reader->section == NULL) {
        fail(reader, ERR_SYNTAX, reader->line,
             "%.*s: a key before any section, expected a [section] first", SPAN_ARG(key));
        return;
    }
    close_entry(reader);
    snprintf(before, sizeof(before), "%.*s=", SPAN_ARG(key));
    value_at = (size_t)(equals + 1 - line.ptr);
    reader->rest = span_trim((struct span){equals + 1, line.len - value_at});
    before[key.len] = '\0';
    if (!check_value(reader, before, reader->rest))
        return;
    before[key.len] = '=';
    reader->piece = FIRST_PIECE;
    put_piece(reader, out, size, before);
}

static void put_continuation(struct reader *reader, struct span line, char *out, size_t size)
{
    if (reader->entry == NULL) {
        fail(reader, ERR_SYNTAX, reader->line,
             "an indented line without a key before it, expected key = value at the line's start");
        return;
    }
    reader->rest = line;
    if (!check_value(reader, reader->entry->key, line))
        return;
    reader->piece = NEXT_LINE;
    put_piece(reader, out, size, " ");
}

/* What inih reads lines with, as by fgets(). */
static char *next_line(char *out, int size, void *user)
{
    struct reader *reader = user;
    struct span line;
    struct span trimmed;

    CHECK(size > 0);
    if (reader->err != ERR_OK)
        return NULL;
    if (reader->pending == REST_OF_VALUE) {
        reader->piece = SAME_LINE;
        put_piece(reader, out, (size_t)size, " ");
        return out;
    }
    if (reader->pending == SECTION_START) {
        snprintf(out, (size_t)size, SECTION_KEY "=" MARK MARK "\n");
        reader->pending = NOTHING;
        return out;
    }
    do {
        if (!take_line(reader, &line))
            return NULL;
        trimmed = span_trim(line);
    } while (trimmed.len == 0 || trimmed.ptr[0] == '#' || trimmed.ptr[0] == ';');
    if (trimmed.ptr != line.ptr)
        put_continuation(reader, trimmed, out, (size_t)size);
    else if (line.ptr[0] == '[')
        put_section(reader, line, out, (size_t)size);
    else
        put_key(reader, line, out, (size_t)size);
    return reader->err == ERR_OK ? out : NULL;
}

/* The absolute folder of `path`; as far as it exists, without links and dots. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL   ? mem_copy(SPAN("."))
                   : slash == path ? mem_copy(SPAN("/"))
                                   : mem_copy((struct span){path, (size_t)(slash - path)});
    char *absolute = mem_alloc(PATH_MAX);
    char *cwd;

    if (realpath(folder, absolute) == NULL) {
        cwd = folder[0] == '/' ? NULL : getcwd(absolute, PATH_MAX);
        cwd = cwd != NULL ? mem_format("%s/%s", cwd, folder) : mem_copy(span_of(folder));
        mem_free(absolute);
        absolute = cwd;
    }
    mem_free(folder);
    return absolute;
}

/* Finds the first value that cannot be had, and that nothing has replaced. */
static void check_entries(struct reader *reader)
{
    for (struct ini_section *section = reader->file->sections; section != NULL;
         section = section->next)
        for (struct ini_entry *entry = section->entries; entry != NULL; entry = entry->next)
            if (entry->_problem != NULL)
                fail(reader, entry->_err, entry->line, "%s: %s", entry->key, entry->_problem);
}

static enum err parse(const char *path, struct span text, const char *const *overrides,
                      struct ini_file **file, char *problem)
{
    struct reader reader = {.text = text, .problem = problem};
    int result;

    reader.file = mem_alloc(sizeof(*reader.file));
    reader.file->path = mem_copy(span_of(path));
    reader.file->folder = folder_of(path);
    reader.sections = &reader.file->sections;
    buf_init(&reader.value, NULL);
    if (text.len > FILE_MAX)
        fail(&reader, ERR_TOO_BIG, 0, "a file of more than 1 MiB, expected a smaller one");
    if (text.len >= 3 && memcmp(text.ptr, "\xef\xbb\xbf", 3) == 0)
        reader.text = (struct span){text.ptr + 3, text.len - 3};
    result = ini_parse_stream(next_line, &reader, on_pair, &reader);
    close_entry(&reader);
    if (result != 0)
        fail(&reader, ERR_SYNTAX, reader.line, "inih does not take this, expected key = value");
    buf_release(&reader.value);
    while (reader.err == ERR_OK && overrides != NULL && *overrides != NULL)
        reader.err = ini_override(reader.file, *overrides++, problem);
    check_entries(&reader);
    if (reader.err == ERR_OK)
        *file = reader.file;
    else
        ini_free(reader.file);
    return reader.err;
}

enum err ini_parse_text(const char *path, const char *text, struct ini_file **file,
                        char problem[INI_PROBLEM_SIZE])
{
    CHECK(path != NULL);
    CHECK(text != NULL);
    return parse(path, span_of(text), NULL, file, problem);
}

enum err ini_read(const char *path, const char *const *overrides, struct ini_file **file,
                  char problem[INI_PROBLEM_SIZE])
{
    enum err err = ERR_IO;
    struct buf text;
    size_t count;
    FILE *from;

    CHECK(path != NULL);
    CHECK(file != NULL);
    from = fopen(path, "re");
    if (from == NULL) {
        snprintf(problem, INI_PROBLEM_SIZE, "%s: %s, expected a file that can be read", path,
                 strerror(errno));
        return ERR_IO;
    }
    buf_init(&text, NULL);
    do {
        count = fread(buf_reserve(&text, 4096), 1, 4096, from);
        buf_commit(&text, count);
    } while (count > 0 && text.len <= FILE_MAX);
    if (ferror(from))
        snprintf(problem, INI_PROBLEM_SIZE, "%s: %s, expected a file that can be read", path,
                 strerror(errno));
    else
        err = parse(path, buf_span(&text), overrides, file, problem);
    buf_release(&text);
    fclose(from);
    return err;
}

void ini_free(struct ini_file *file)
{
    if (file == NULL)
        return;
    for (struct ini_section *section = file->sections, *next; section != NULL; section = next) {
        next = section->next;
        for (struct ini_entry *entry = section->entries, *after; entry != NULL; entry = after) {
            after = entry->next;
            mem_free((char *)(uintptr_t)entry->key);
            mem_free((char *)(uintptr_t)entry->value);
            mem_free(entry->_problem);
            mem_free(entry);
        }
        mem_free((char *)(uintptr_t)section->kind);
        mem_free((char *)(uintptr_t)section->name);
        mem_free(section);
    }
    for (uint32_t i = 0; i < file->option_count; i++)
        mem_free(file->options[i]);
    mem_free(file->options);
    mem_free(file->path);
    mem_free(file->folder);
    mem_free(file);
}

struct ini_section *ini_section(struct ini_file *file, const char *kind, const char *name)
{
    CHECK(file != NULL);
    CHECK(kind != NULL);
    CHECK(name != NULL);
    for (struct ini_section *section = file->sections; section != NULL; section = section->next) {
        if (strcmp(section->kind, kind) == 0 && strcmp(section->name, name) == 0)
            return section;
    }
    return NULL;
}

struct ini_entry *ini_entry(struct ini_section *section, const char *key)
{
    CHECK(key != NULL);
    for (struct ini_entry *entry = section != NULL ? section->entries : NULL; entry != NULL;
         entry = entry->next) {
        if (strcmp(entry->key, key) == 0) {
            entry->is_used = true;
            return entry;
        }
    }
    return NULL;
}

const char *ini_place(const struct ini_file *file, uint32_t line, char place[INI_PLACE_SIZE])
{
    CHECK(file != NULL);
    if (line >= INI_OPTION_LINE) {
        CHECK(line - INI_OPTION_LINE < file->option_count);
        snprintf(place, INI_PLACE_SIZE, "-o %s", file->options[line - INI_OPTION_LINE]);
    } else if (line > 0) {
        snprintf(place, INI_PLACE_SIZE, "%s:%u", file->path, line);
    } else {
        snprintf(place, INI_PLACE_SIZE, "%s", file->path);
    }
    return place;
}

bool ini_unused(const struct ini_file *file, char problem[INI_PROBLEM_SIZE])
{
    char place[INI_PLACE_SIZE];

    CHECK(file != NULL);
    CHECK(problem != NULL);
    for (struct ini_section *section = file->sections; section != NULL; section = section->next) {
        const char *dot = section->name[0] != '\0' ? "." : "";

        if (!section->is_used) {
            snprintf(problem, INI_PROBLEM_SIZE,
                     "%s: unknown section [%s%s%s], expected one of those that \"weft defaults\" "
                     "prints",
                     ini_place(file, section->line, place), section->kind, dot, section->name);
            return true;
        }
        for (struct ini_entry *entry = section->entries; entry != NULL; entry = entry->next) {
            if (entry->is_used)
                continue;
            snprintf(problem, INI_PROBLEM_SIZE,
                     "%s: unknown key %s in [%s%s%s], expected one of those that \"weft "
                     "defaults\" prints or that a plugin asks for",
                     ini_place(file, entry->line, place), entry->key, section->kind, dot,
                     section->name);
            return true;
        }
    }
    return false;
}

char *ini_path(const struct ini_file *file, const char *path)
{
    CHECK(file != NULL);
    CHECK(path != NULL);
    if (path[0] == '/' || path[0] == '\0')
        return mem_copy(span_of(path));
    return mem_format("%s/%s", strcmp(file->folder, "/") == 0 ? "" : file->folder, path);
}
