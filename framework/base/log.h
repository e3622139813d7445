/* base/log.h - the error log: one line an event, key=value, for people and for tools.
 *
 *   time=2026-01-31T08:49:37.123Z level=warn pid=4711 msg="pg main: session lost" reason="..."
 *
 * A call writes a message text (`msg`), made by format; further fields go through log_fields(). Control bytes are
 * escaped. As JSON the same fields are one object a line. A line goes out in one write().
 * Repeats: the same call site that fires more than LOG_BURST times within a second is held back and counted, and
 *          one line with `repeated=N` says so when the second is over (log_flush_repeats(), called by the loop's owner
 *          once a second) or at the next line from that site.
 * Loop:   [any thread]. Mutable globals live here and nowhere else: sink, level, format.
 */
#ifndef WEFT_BASE_LOG_H
#define WEFT_BASE_LOG_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

enum { LOG_BURST = 10 };

/* One call site's memory of repeats; the macros make one each. */
struct log_site {
    uint64_t second;            /* in which `count` counts */
    uint32_t count;             /* lines in that second */
    uint32_t held;              /* lines held back and not yet told */
    struct log_site *next_held; /* chain of sites with `held` > 0 */
};

/* A further key and value of a line. The value is quoted and escaped where needed. */
struct log_field {
    const char *key;   /* [a-z_]+ */
    struct span value; /* absent: the field is left out */
};

/* Where lines go and which; before any thread is started. `fd` stays the caller's. */
void log_setup(int fd, enum log_level level, bool as_json);

/* What goes into each line as `process=`, for example "master" or "worker 2"; copied, at most 31 bytes. */
void log_set_process(const char *name);

/* Does anything come of a line of this level? */
bool log_is_on(enum log_level level);

/* "error" ... "trace" to its level; false where it is none. */
bool log_level_of(struct span name, enum log_level *level);

/* Writes the lines about repeats whose second is over. */
void log_flush_repeats(void);

/* Appends `text` to `out` (size bytes, NUL-terminated) as a value: quoted if it must be, control bytes as \xNN or
 * \n; for `as_json` as a JSON string with quotes. Returns the length that was written. */
size_t log_escape(char *out, size_t size, struct span text, bool as_json);

/* Behind the macros. */
void log_write(struct log_site *site, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold, noinline));
/* The same with further fields; `fields` of `count`. */
void log_write_fields(struct log_site *site, enum log_level level, const struct log_field *fields,
                      uint32_t count, const char *format, ...)
    __attribute__((format(printf, 5, 6), cold, noinline));

#define LOG_AT(level, ...)                               \
    do {                                                 \
        if (log_is_on(level)) {                          \
            static struct log_site log_site_;            \
            log_write(&log_site_, (level), __VA_ARGS__); \
        }                                                \
    } while (0)
#define log_error(...) LOG_AT(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  LOG_AT(LOG_WARN, __VA_ARGS__)
#define log_info(...)  LOG_AT(LOG_INFO, __VA_ARGS__)
#define log_debug(...) LOG_AT(LOG_DEBUG, __VA_ARGS__)
#define log_trace(...) LOG_AT(LOG_TRACE, __VA_ARGS__)
/* log_fields(LOG_WARN, {{"peer", peer}, {"reason", reason}}, "format", ...): the fields without outer braces
 * through LOG_FIELDS. */
#define LOG_FIELDS(...)                        \
    ((const struct log_field[]){__VA_ARGS__}), \
        (uint32_t)(sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))
#define log_fields(level, fields, ...)                                  \
    do {                                                                \
        if (log_is_on(level)) {                                         \
            static struct log_site log_site_;                           \
            log_write_fields(&log_site_, (level), fields, __VA_ARGS__); \
        }                                                               \
    } while (0)

#endif
