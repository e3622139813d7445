/* observe/access.h - the access log: one line a request.
 *
 *   time=2026-01-31T08:49:37.123Z id=0000010000000011 peer=10.0.0.1:5000 method=GET
 *   path=/books/1 route=/books/:id plugin=books status=200 bytes=55 total_ms=1.204
 *   queue_ms=0.310 pg_ms=0.702 call_ms=0.000 why=done
 *
 * (on one line), or the same as one JSON object. Lines are gathered in memory and written by
 * access_flush(), many with one write(). What the sink does not take is kept up to a limit, then
 * dropped and counted: a slow reader of the log delays no request.
 * Loop:   of one worker's loop thread. Never waits, but for a file as long as write() does.
 * Memory: texts of a line are copied before access_write() returns.
 * Limits: ACCESS_BUFFER_MAX bytes are kept; texts are cut at ACCESS_TEXT_MAX.
 */
#ifndef WEFT_OBSERVE_ACCESS_H
#define WEFT_OBSERVE_ACCESS_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

struct access_log;

/* Bytes: once the first are there they are written, beyond the second lines are dropped; a text as
 * it is written, with its quotes. */
enum { ACCESS_FLUSH_SIZE = 65536, ACCESS_BUFFER_MAX = 262144, ACCESS_TEXT_MAX = 2048 };

/* What is known of a request when it is over. An absent text is written as `-`. */
struct access_line {
    uint64_t wall_us;     /* when it was over, since 1970 */
    uint64_t id;          /* of the request; written as 16 hex digits, as in the error log */
    struct span given_id; /* what a proxy calls it; absent: not written at all */
    struct span peer;     /* address and port */
    struct span method;   /* as sent */
    struct span path;     /* as sent, with the query */
    struct span route;    /* the pattern that matched */
    struct span plugin;   /* the instance that served it */
    uint32_t status;      /* of the answer; 0: none was sent */
    uint64_t bytes_out;   /* of the answer, head and body */
    uint64_t total_us;    /* from the first byte of the head to the last of the answer */
    uint64_t queue_us;    /* of that, waiting for a session or an upstream connection */
    uint64_t pg_us;       /* of that, statements running */
    uint64_t call_us;     /* of that, upstream calls running */
    /* How it ended: done, client_gone, deadline, shed, pg_queue_full, upstream_timeout and their
     * like, or handler: a 5xx of the handler's own. */
    const char *why;
};

/* Opens a log: "stderr", "stdout" or a file, which is created or appended to.
 * ERR_IO where that cannot be; errno says why. */
enum err access_open(const char *path, bool as_json, struct access_log **log)
    __attribute__((warn_unused_result));

/* Writes what can be written and closes; NULL is fine. */
void access_close(struct access_log *log);

/* Notes a request. Writes nothing itself before ACCESS_FLUSH_SIZE bytes are there. NULL is fine. */
void access_write(struct access_log *log, const struct access_line *line);

/* Writes what was gathered; to be called once a turn or a few times a second. NULL is fine. */
void access_flush(struct access_log *log);

/* Opens the file of that path again, after it was renamed; on failure the old one stays in use. A
 * standard stream stays as it is. */
enum err access_reopen(struct access_log *log) __attribute__((warn_unused_result));

/* Lines that were dropped since access_open(). */
uint64_t access_dropped(const struct access_log *log);

#endif
