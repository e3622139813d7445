/* settings/ini.h - the text of an ini file to sections, keys, values and lines.
 *
 *   [kind] or [kind.name]     a section; a second one of the same name is refused
 *   key = value               blanks around both are dropped; the value may be empty
 *       more of it            an indented line continues the value, joined by a space
 *   # ... or ; ...            a comment, on a line of its own only
 *   ${VAR}, ${VAR:-default}   a value from the environment, the default where VAR is unset or
 *                             empty; unset without a default is refused; $$ is a dollar
 *   ${file:/path}             all of that file but the newline at its end: a secret
 *
 * Reads through inih, behind a reader of our own: the distribution's inih cuts lines at 199 bytes,
 * names at 49 and values at " ;" without a word, so the reader counts lines, refuses what would be
 * cut there, and hands long values over in pieces.
 * Memory: the file owns all texts; they live until ini_free().
 * Limits: file 1 MiB, line 4 KiB, value 64 KiB, [kind.name] and key 49 bytes.
 */
#ifndef WEFT_SETTINGS_INI_H
#define WEFT_SETTINGS_INI_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

/* One key. */
struct ini_entry {
    const char *key;        /* as written */
    const char *value;      /* continued lines joined, variables replaced */
    uint32_t line;          /* of the key, from 1; see ini_place() */
    bool is_used;           /* somebody asked for it: what stays false is an unknown key */
    struct ini_entry *next; /* in the order of the file, or NULL */
    enum err _err;          /* of _problem */
    char *_problem;         /* why its value cannot be had, until the file was read; or NULL */
};

/* One section. */
struct ini_section {
    const char *kind;          /* "pg" of [pg.main], "server" of [server] */
    const char *name;          /* "main"; "" of [server] */
    uint32_t line;             /* of its header; see ini_place() */
    bool is_used;              /* somebody bound it */
    struct ini_entry *entries; /* the first, or NULL */
    struct ini_section *next;  /* in the order of the file, or NULL */
};

/* A whole file. */
struct ini_file {
    char *path;                   /* as given */
    char *folder;                 /* absolute: what relative paths in the file are relative to */
    struct ini_section *sections; /* the first, or NULL */
    char **options;               /* "pg.main.host": what -o has set, option_count of them */
    uint32_t option_count;        /* of options */
};

/* From here on a line is one of `options`: settings/override.h. */
enum { INI_OPTION_LINE = 1 << 30 };

/* Room for a problem's text, with its NUL, and for the place in it. */
enum { INI_PROBLEM_SIZE = 512, INI_PLACE_SIZE = 320 };

/* Reads `path`, with each of `overrides` in place of what stands there (settings/override.h; NULL
 * at their end, or NULL: none): a variable or file that only such a value wants is not missed. On
 * failure (ERR_IO, ERR_TOO_BIG, ERR_SYNTAX, ERR_EXISTS, ERR_NOT_FOUND for a variable or its file)
 * `problem` is "server.ini:12: ..., expected ..." (the path as given), and nothing is to be
 * freed. */
enum err ini_read(const char *path, const char *const *overrides, struct ini_file **file,
                  char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* The same for text in memory; `path` is for messages and for relative paths. (inih has
 * ini_parse().) */
enum err ini_parse_text(const char *path, const char *text, struct ini_file **file,
                        char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* Frees the file; NULL is fine. */
void ini_free(struct ini_file *file);

/* The section, or NULL; marks nothing. */
struct ini_section *ini_section(struct ini_file *file, const char *kind, const char *name);

/* The entry of `key` in `section` (which may be NULL), or NULL. Marks it used. */
struct ini_entry *ini_entry(struct ini_section *section, const char *key);

/* Writes where a setting is from, for a message: "server.ini:12", "server.ini" for line 0, or
 * "-o pg.main.host". Returns `place`. */
const char *ini_place(const struct ini_file *file, uint32_t line, char place[INI_PLACE_SIZE]);

/* Is `text` good as a key, or as a section's [kind.name]? */
bool ini_is_name(struct span text);

/* The first section or key that nobody used, as a message "server.ini:12: unknown key ..."; false
 * where there is none. A key close to a known one gets no guess: the message says where the list
 * of keys is (`weft defaults`). */
bool ini_unused(const struct ini_file *file, char problem[INI_PROBLEM_SIZE]);

/* `path` as it is if absolute or "", else below the file's folder; on the heap. */
char *ini_path(const struct ini_file *file, const char *path);

#endif
