/* server/report.h - what a signal handler can say: lines in the log's own form, and a backtrace.
 *
 * All below "In a handler" is async-signal-safe: no memory, no lock, no printf. What is read comes
 * from globals, since a handler is given nothing; they are set before.
 * Loop:   of the process; a handler runs on whichever thread was interrupted.
 * Memory: what it is given must stay until the process ends or something else is given.
 * Limits: a line is cut at REPORT_SIZE; REPORT_MODULES_MAX files have their build ids told.
 */
#ifndef WEFT_SERVER_REPORT_H
#define WEFT_SERVER_REPORT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blame;

enum { REPORT_SIZE = 1536, REPORT_MODULES_MAX = 256 };

/* A line that is put together. */
struct report {
    size_t len;             /* bytes so far */
    size_t start;           /* of them, before the first key */
    bool is_json;           /* the log's form */
    char text[REPORT_SIZE]; /* they */
};

/* ---- before ---- */

/* How the process calls itself in the log, and the page of blame (NULL: none). */
void report_setup(const char *process, struct blame *page);

/* Notes which files are mapped now, with their build ids: after plugins were loaded. */
void report_note_modules(void);

/* Has backtrace() load what it needs, and gives this thread a stack for handlers, unless it has
 * one. */
void report_prepare(void);

/* ---- in a handler ---- */

/* Begins a line of `level` ("error"): time, level, pid and process are in it. */
void report_begin(struct report *report, const char *level);

/* Appends text as it is. */
void report_put(struct report *report, const char *text);

/* Appends a number; `width`: digits at least. */
void report_number(struct report *report, uint64_t value, unsigned base, size_t width);

/* Begins a field whose value follows; a value that is text goes between two report_quote(). */
void report_key(struct report *report, const char *key);

/* The quote of a text with blanks, such as `msg`. */
void report_quote(struct report *report);

/* A whole field, quoted where it must be; what is no plain letter becomes a question mark. */
void report_field(struct report *report, const char *key, const char *value);

/* Plugin, route and request that run on this thread. Where the loop's thread runs nobody's code,
 * last_plugin and last_route say who was entered last. */
void report_culprit(struct report *report);

/* Ends the line and writes it to the log. */
void report_end(struct report *report);

/* Writes the stack, that of the interrupted code too, and the build ids of its files. */
void report_backtrace(void);

#endif
