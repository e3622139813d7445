/* settings/override.c - puts a setting of the command line where the file's would be. */
#include "settings/override.h"
#include "base/check.h"
#include "base/mem.h"
#include "settings/expand.h"
#include <stdio.h>

enum { VALUE_MAX = 64 << 10 };

/* An argument, taken apart; all spans are of its text. */
struct override {
    struct span target;  /* "pg.main.host" */
    struct span section; /* "pg.main" */
    struct span key;     /* "host" */
    struct span value;   /* behind the "=", without blanks around */
};

/* Does `target` name a key of this section? */
static bool fits(struct span target, const struct ini_section *section, size_t *len)
{
    size_t kind_len = strlen(section->kind), name_len = strlen(section->name);

    *len = kind_len + (name_len > 0 ? 1 + name_len : 0);
    return target.len > *len + 1 && target.ptr[*len] == '.' &&
           memcmp(target.ptr, section->kind, kind_len) == 0 &&
           (name_len == 0 || (target.ptr[kind_len] == '.' &&
                              memcmp(target.ptr + kind_len + 1, section->name, name_len) == 0));
}

/* How much of `target` is the section's: 0 where there is none. */
static size_t section_len(const struct ini_file *file, struct span target)
{
    const char *dot = memrchr(target.ptr, '.', target.len);
    size_t longest = 0, len;

    for (const struct ini_section *at = file->sections; at != NULL; at = at->next)
        if (fits(target, at, &len) && len > longest)
            longest = len;
    if (longest == 0 && dot != NULL)
        longest = (size_t)(dot - target.ptr);
    return longest;
}

static enum err take_apart(const struct ini_file *file, const char *text, struct override *override,
                           char *problem)
{
    const char *equals = strchr(text, '=');
    size_t len;

    override->target =
        span_trim((struct span){text, equals != NULL ? (size_t)(equals - text) : strlen(text)});
    len = equals != NULL ? section_len(file, override->target) : 0;
    if (len > 0) {
        override->section = (struct span){override->target.ptr, len};
        override->key =
            (struct span){override->target.ptr + len + 1, override->target.len - len - 1};
        override->value = span_trim(span_of(equals + 1));
        if (ini_is_name(override->section) && ini_is_name(override->key) &&
            override->section.ptr[0] != '.' && override->section.ptr[len - 1] != '.')
            return ERR_OK;
    }
    snprintf(problem, INI_PROBLEM_SIZE,
             "-o %.*s: expected section.key=value, such as server.listen=127.0.0.1:8080",
             SPAN_ARG(override->target));
    return ERR_SYNTAX;
}

static enum err read_value(const struct ini_file *file, const struct override *override,
                           char **value, char *problem)
{
    char what[EXPAND_PROBLEM_SIZE];
    enum err err = ERR_OK;
    struct buf out;

    for (size_t i = 0; i < override->value.len && err == ERR_OK; i++) {
        unsigned char c = (unsigned char) override->value.ptr[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) {
            snprintf(what, sizeof what, "control byte 0x%02x, expected text", c);
            err = ERR_SYNTAX;
        }
    }
    buf_init(&out, NULL);
    if (err == ERR_OK)
        err = expand_value(override->value, file->folder, &out, what);
    if (err == ERR_OK && out.len > VALUE_MAX) {
        snprintf(what, sizeof what, "a long value, expected at most 64 KiB");
        err = ERR_TOO_BIG;
    }
    if (err == ERR_OK)
        *value = mem_copy((struct span){out.len > 0 ? out.data : "", out.len});
    else
        snprintf(problem, INI_PROBLEM_SIZE, "-o %.*s: %s", SPAN_ARG(override->target), what);
    buf_release(&out);
    return err;
}

/* Remembers where a setting came from; a number for ini_place(). */
static uint32_t note_option(struct ini_file *file, struct span target)
{
    CHECK(file->option_count < INI_OPTION_LINE);
    file->options = mem_realloc(file->options, (file->option_count + 1) * sizeof *file->options);
    file->options[file->option_count] = mem_copy(target);
    return INI_OPTION_LINE + file->option_count++;
}

static struct ini_section *find_section(struct ini_file *file, struct span full, uint32_t line)
{
    const char *dot = memchr(full.ptr, '.', full.len);
    struct span kind = {full.ptr, dot != NULL ? (size_t)(dot - full.ptr) : full.len};
    struct span name = {"", 0};
    struct ini_section **at = &file->sections;

    if (dot != NULL)
        name = (struct span){dot + 1, full.len - kind.len - 1};
    while (*at != NULL &&
           !(span_equal(span_of((*at)->kind), kind) && span_equal(span_of((*at)->name), name)))
        at = &(*at)->next;
    if (*at == NULL) {
        *at = mem_alloc(sizeof **at);
        **at = (struct ini_section){.kind = mem_copy(kind), .name = mem_copy(name), .line = line};
    }
    return *at;
}

static void set_entry(struct ini_section *section, struct span key, char *value, uint32_t line)
{
    struct ini_entry **at = &section->entries;

    while (*at != NULL && !span_equal(span_of((*at)->key), key))
        at = &(*at)->next;
    if (*at == NULL) {
        *at = mem_alloc(sizeof **at);
        **at = (struct ini_entry){.key = mem_copy(key)};
    }
    mem_free((char *)(uintptr_t)(*at)->value);
    mem_free((*at)->_problem);
    (*at)->_problem = NULL;
    (*at)->value = value;
    (*at)->line = line;
}

enum err ini_override(struct ini_file *file, const char *text, char problem[INI_PROBLEM_SIZE])
{
    struct override override;
    char *value = NULL;
    enum err err;

    CHECK(file != NULL);
    CHECK(text != NULL);
    err = take_apart(file, text, &override, problem);
    if (err == ERR_OK)
        err = read_value(file, &override, &value, problem);
    if (err == ERR_OK) {
        uint32_t line = note_option(file, override.target);
        set_entry(find_section(file, override.section, line), override.key, value, line);
    }
    return err;
}
