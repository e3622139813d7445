/* base/log.h - the error log: one line an event, key=value, for people and for tools.
 *
 *   time=2026-01-31T08:49:37.123Z level=warn pid=4711 msg="pg main: session lost" reason="..."
 *
 * A call writes a message text (`msg`), made by format; further fields go through log_fields().
 * Control bytes are escaped. As JSON the same fields are one object a line. A line goes out in one
 * write(); one that cannot be written at once is lost, and counted.
 * Repeats: a call site that fires more than LOG_BURST times within a second is held back and
 *          counted, and one line with the last message and `repeated=N` says so when the second is
 *          over (log_flush_repeats(), called by the loop's owner once a second) or at the next
 *          line from that site.
 * Loop:   [any thread]. Mutable globals live here and nowhere else: sink, level, format.
 * Limits: a message of 2,047 bytes, a line of 4,096; what is longer is cut.
 */
#ifndef WEFT_BASE_LOG_H
#define WEFT_BASE_LOG_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

/* From what must be looked at down to what only a developer reads. */
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/* Lines a second from one call site; the others are counted. */
enum { LOG_BURST = 10 };

/* One call site's memory of repeats; the macros make one each. */
struct log_site {
    uint64_t second;            /* in which `count` counts */
    uint32_t count;             /* lines in that second */
    uint32_t held;              /* lines held back and not yet told */
    struct log_site *next_held; /* chain of sites with `held` > 0 */
    enum log_level level;       /* of the last line held back */
    char message[120];          /* its start, to tell what it was that was repeated */
};

/* A further key and value of a line. The value is quoted and escaped where needed. */
struct log_field {
    const char *key;   /* [a-z_]+ */
    struct span value; /* absent: the field is left out */
};

/* Where lines go and which; before any thread is started. `fd` stays the caller's. Without this
 * call: standard error, LOG_INFO, no JSON. */
void log_setup(int fd, enum log_level level, bool as_json);

/* What goes into each line as `process=`, for example "master" or "worker 2"; copied, at most 31
 * bytes. Before any thread is started. */
void log_set_process(const char *name);

/* Puts "<N>" before each line, which the journal takes for its level and removes. Before any thread
 * is started. */
void log_set_priorities(bool are_on);

/* What stands before a line of this level: "<3>", or "". Async-signal-safe. */
const char *log_priority(enum log_level level);

/* Lines that could not be written, since the start. When there is room again, a line says how
 * many. */
uint64_t log_lost(void);

/* Does anything come of a line of this level? */
bool log_is_on(enum log_level level);

/* Writes the lines about repeats whose second is over. */
void log_flush_repeats(void);

/* Where lines go, and are they JSON? Async-signal-safe: for a crash report, which writes its
 * own. */
int log_sink(void);
bool log_is_json(void);

/* Writes `text` to `out` (`size` bytes, ended by a NUL) as a value: quoted if it must be, control
 * bytes and what is not UTF-8 as \xNN or \n; for `as_json` as a JSON string with quotes. What does
 * not fit is cut, never within a character. Returns the length that was written. */
size_t log_escape(char *out, size_t size, struct span text, bool as_json);

/* The length of the UTF-8 character that `text`, which is not empty, starts with; 0: it starts with
 * none (RFC 3629), or with one of the control characters U+0080 to U+009F. */
size_t log_utf8_length(struct span text);

/* Writes a line of `level`; what the macros call. */
void log_write(struct log_site *site, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold, noinline));

/* The same with `count` further fields behind the message. */
void log_write_fields(struct log_site *site, enum log_level level, const struct log_field *fields,
                      uint32_t count, const char *format, ...)
    __attribute__((format(printf, 5, 6), cold, noinline));

/* A line of `level`, printf's way: costs one comparison where the level is off. */
#define LOG_AT(level, ...)                               \
    do {                                                 \
        if (log_is_on(level)) {                          \
            static struct log_site log_site_;            \
            log_write(&log_site_, (level), __VA_ARGS__); \
        }                                                \
    } while (0)
/* One line each; the level says for whom. */
#define log_error(...) LOG_AT(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  LOG_AT(LOG_WARN, __VA_ARGS__)
#define log_info(...)  LOG_AT(LOG_INFO, __VA_ARGS__)
#define log_debug(...) LOG_AT(LOG_DEBUG, __VA_ARGS__)
#define log_trace(...) LOG_AT(LOG_TRACE, __VA_ARGS__)

/* The fields of one line: log_fields(LOG_WARN, LOG_FIELDS({"peer", peer}, {"why", why}), "lost");
 * */
#define LOG_FIELDS(...)                        \
    ((const struct log_field[]){__VA_ARGS__}), \
        (uint32_t)(sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

/* A line with further fields; `fields` is LOG_FIELDS(...), behind it printf's way. */
#define log_fields(level, fields, ...)                                  \
    do {                                                                \
        if (log_is_on(level)) {                                         \
            static struct log_site log_site_;                           \
            log_write_fields(&log_site_, (level), fields, __VA_ARGS__); \
        }                                                               \
    } while (0)

#endif
