/* settings/field.h - binds the keys of a section to the members of a struct, by a table.
 *
 * A room has one options struct and one table of fields; the table is the manual: type, default,
 * smallest, largest, unit and help of each key come from it, `weft defaults` prints it, and a value
 * is checked against it.
 * Memory: texts are copied to the heap and owned by the options struct: field_clear() frees them.
 */
#ifndef WEFT_SETTINGS_FIELD_H
#define WEFT_SETTINGS_FIELD_H

#include "settings/ini.h"
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What a member is and how its value is written. */
enum field_type {
    FIELD_UINT,  /* uint32_t member */
    FIELD_MS,    /* uint32_t member, milliseconds: "10s" */
    FIELD_SIZE,  /* uint64_t member, bytes: "64k" */
    FIELD_BOOL,  /* bool member: on, off, yes, no */
    FIELD_TEXT,  /* char * member */
    FIELD_PATH,  /* char * member, made absolute by the file's folder; "" stays "" */
    FIELD_CHOICE /* uint32_t member: the index of the word in `choices` */
};

/* Whether a number counts in each worker or once a host; for the manual. */
enum field_scope { FIELD_PER_HOST, FIELD_PER_WORKER };

/* One key. */
struct field {
    const char *key;      /* in the file */
    enum field_type type; /* of the member and of the text */
    size_t offset;        /* of the member */
    const char *fallback; /* the default as text; NULL: the key is required; "" for texts: unset */
    uint64_t min;         /* of numbers, inclusive, in the member's unit; a text's fewest bytes */
    uint64_t max;         /* the same; a text's most bytes, 0: whatever ini.h allows */
    /* Of FIELD_CHOICE: its words, ended by NULL. Of a number: NULL, or one word, such as "auto",
     * that stands for 0 whatever `min` is. */
    const char *const *choices;
    enum field_scope scope; /* per worker or per host */
    const char *help;       /* one or more sentences; wrapped by field_print() */
};

/* A section. */
struct field_table {
    const char *kind;           /* the section's kind: "server", "pg" */
    const char *example;        /* the section's header in the manual: "[pg.main]" */
    const char *help;           /* what the section is for */
    const struct field *fields; /* `count` of them */
    uint32_t count;             /* of `fields` */
};

/* How many `fields` an array has. */
#define FIELD_COUNT(fields) (uint32_t)(sizeof(fields) / sizeof((fields)[0]))

/* Sets every member of `options` from `section`, or from its default where the section, which may
 * be NULL, has no such key; marks what it used. On failure (ERR_INVALID, or ERR_NOT_FOUND for a
 * required key) `problem` names file, line, key and what was expected, and `options` is to be
 * cleared all the same. */
enum err field_bind(const struct field_table *table, const struct ini_file *file,
                    struct ini_section *section, void *options, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* Sets every member to its default; a required key is left zeroed, and a path is as it is written
 * in the table. */
void field_defaults(const struct field_table *table, void *options);

/* Frees the texts; the members are zeroed. Zeroed and twice is fine. */
void field_clear(const struct field_table *table, void *options);

/* Writes the section as it stands in config/server.ini: help as comments, every key commented out
 * at its default. The header of a section that has a name is commented out too. */
void field_print(const struct field_table *table, FILE *out);

#endif
