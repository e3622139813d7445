/* observe/access.c - the access log: one line a request.
 *
 *   access_write() ──▶ lines in memory ──access_flush()──▶ file, pipe, terminal or socket
 *                         │ the sink takes nothing and ACCESS_BUFFER_MAX is reached
 *                         └──▶ dropped, counted, and said once in the error log
 *
 * How not to wait: a file that was opened here has O_NONBLOCK, which counts for pipes and
 * terminals. A standard stream is shared with whoever started us, so the flag must not be set on
 * it: it is opened again through /proc, where that is allowed. A socket is sent to with
 * MSG_DONTWAIT. What remains (a pipe of another user) is asked with poll(), without waiting, and
 * given no more than a pipe always takes then.
 */
#include "observe/access.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ACCESS_MAGIC = 0xacce55,
    TEXTS = 7,                                     /* of a line that are cut at ACCESS_TEXT_MAX */
    LINE_SIZE_MAX = TEXTS * ACCESS_TEXT_MAX + 1024 /* bytes of any line */
};

enum sink { SINK_FILE, SINK_SOCKET, SINK_POLLED };

struct access_log {
    uint32_t magic;
    int fd;           /* of the sink, ours */
    enum sink sink;   /* how it is written to */
    bool is_json;     /* instead of key=value */
    bool is_within;   /* the last byte that the sink took was not the end of a line */
    bool must_break;  /* and the rest of that line was dropped */
    bool is_dropping; /* said so in the error log, and nothing was written since */
    char *path;       /* as given */
    struct buf lines; /* what was not written yet */
    uint32_t count;   /* lines in it */
    uint64_t dropped; /* lines since the start */
    uint64_t second;  /* that `time` holds the text of */
    char time[CLOCK_ISO_SIZE];
};

/* Opens a standard stream once more: a file description of our own, which can be non-blocking. Not
 * so for a regular file, which never blocks: a second description would have an offset of its own,
 * and what others write through the stream would go over our lines. */
static int open_stream(int stream, enum sink *sink)
{
    char path[32] = "/proc/self/fd/0";
    struct stat stat;
    int fd = -1;

    path[14] = (char)('0' + stream);
    *sink = SINK_FILE;
    if (fstat(stream, &stat) != 0)
        return -1;
    if (!S_ISSOCK(stat.st_mode) && !S_ISREG(stat.st_mode))
        fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0)
        return fd;
    if (!S_ISREG(stat.st_mode))
        *sink = S_ISSOCK(stat.st_mode) ? SINK_SOCKET : SINK_POLLED;
    return fcntl(stream, F_DUPFD_CLOEXEC, 0);
}

static int open_sink(const char *path, enum sink *sink)
{
    if (strcmp(path, "stderr") == 0)
        return open_stream(STDERR_FILENO, sink);
    if (strcmp(path, "stdout") == 0)
        return open_stream(STDOUT_FILENO, sink);
    *sink = SINK_FILE;
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640);
}

enum err access_open(const char *path, bool as_json, struct access_log **log)
{
    struct access_log *made;
    enum sink sink;
    int fd;

    CHECK(path != NULL);
    CHECK(log != NULL);
    fd = open_sink(path, &sink);
    if (fd < 0)
        return ERR_IO;
    made = mem_alloc(sizeof(*made));
    made->magic = ACCESS_MAGIC;
    made->fd = fd;
    made->sink = sink;
    made->is_json = as_json;
    made->path = mem_copy(span_of(path));
    made->second = UINT64_MAX;
    buf_init(&made->lines, NULL);
    *log = made;
    return ERR_OK;
}

void access_close(struct access_log *log)
{
    if (log == NULL)
        return;
    access_flush(log);
    close(log->fd);
    buf_release(&log->lines);
    mem_free(log->path);
    log->magic = 0;
    mem_free(log);
}

static void drop(struct access_log *log, uint32_t count, const char *why)
{
    log->dropped += count;
    if (log->is_dropping)
        return;
    log->is_dropping = true;
    log_warn("access log %s: lines are dropped: %s", log->path, why);
}

/* What follows is the fast part: a line is written without printf. */

/* The keys behind the time, in their order. */
#define KEY_TABLE(X)         \
    X(KEY_ID, "id")          \
    X(KEY_PEER, "peer")      \
    X(KEY_METHOD, "method")  \
    X(KEY_PATH, "path")      \
    X(KEY_ROUTE, "route")    \
    X(KEY_PLUGIN, "plugin")  \
    X(KEY_STATUS, "status")  \
    X(KEY_BYTES, "bytes")    \
    X(KEY_TOTAL, "total_ms") \
    X(KEY_QUEUE, "queue_ms") \
    X(KEY_PG, "pg_ms")       \
    X(KEY_CALL, "call_ms")   \
    X(KEY_WHY, "why")        \
    X(KEY_GIVEN, "request_id")

#define KEY_ENUM(id, name) id,
enum { KEY_TABLE(KEY_ENUM) KEY_COUNT };

/* A key with all that is between the value before it and its own. */
struct key {
    char text[16]; /* the rest is zeros */
    size_t len;    /* without them */
};

#define KEY_PLAIN(id, name) [id] = {" " name "=", sizeof(" " name "=") - 1},
#define KEY_JSON(id, name)  [id] = {",\"" name "\":", sizeof(",\"" name "\":") - 1},
static const struct key plain_keys[KEY_COUNT] = {KEY_TABLE(KEY_PLAIN)};
static const struct key json_keys[KEY_COUNT] = {KEY_TABLE(KEY_JSON)};

static char *put(char *at, struct span text)
{
    memcpy(at, text.ptr, text.len);
    return at + text.len;
}

/* Copies all of its room, which is cheaper than its length; what comes next goes over the rest. */
static char *put_key(char *at, const struct key *key)
{
    memcpy(at, key->text, sizeof(key->text));
    return at + key->len;
}

static char *put_text(char *at, const struct key *key, struct span value, bool is_json)
{
    at = put_key(at, key);
    return at + log_escape(at, ACCESS_TEXT_MAX, value.ptr != NULL ? value : SPAN("-"), is_json);
}

static char *put_number(char *at, const struct key *key, uint64_t value)
{
    at = put_key(at, key);
    return at + number_format(value, at);
}

/* A request's id as everywhere in logs: 16 hex digits, a text for JSON too. */
static char *put_id(char *at, const struct key *key, uint64_t id, bool is_json)
{
    at = put_key(at, key);
    if (is_json)
        *at++ = '"';
    for (int shift = 60; shift >= 0; shift -= 4)
        *at++ = "0123456789abcdef"[id >> shift & 15];
    if (is_json)
        *at++ = '"';
    return at;
}

static char *put_thousandths(char *at, uint32_t value)
{
    at[0] = (char)('0' + value / 100);
    at[1] = (char)('0' + value / 10 % 10);
    at[2] = (char)('0' + value % 10);
    return at + 3;
}

/* Microseconds as milliseconds with three decimals. */
static char *put_ms(char *at, const struct key *key, uint64_t us)
{
    at = put_number(at, key, us / 1000);
    *at++ = '.';
    return put_thousandths(at, (uint32_t)(us % 1000));
}

/* The calendar is asked once a second; milliseconds are put into its text. */
static char *put_time(struct access_log *log, char *at, uint64_t wall_us)
{
    if (log->second != wall_us / 1000000) {
        log->second = wall_us / 1000000;
        clock_iso(wall_us, log->time);
    }
    (void)put_thousandths(&log->time[20], (uint32_t)(wall_us / 1000 % 1000));
    at = put(at, log->is_json ? SPAN("{\"time\":\"") : SPAN("time="));
    at = put(at, (struct span){log->time, 24});
    return log->is_json ? put(at, SPAN("\"")) : at;
}

static char *put_line(struct access_log *log, char *at, const struct access_line *line)
{
    bool is_json = log->is_json;
    const struct key *keys = is_json ? json_keys : plain_keys;

    at = put_time(log, at, line->wall_us);
    at = put_id(at, &keys[KEY_ID], line->id, is_json);
    at = put_text(at, &keys[KEY_PEER], line->peer, is_json);
    at = put_text(at, &keys[KEY_METHOD], line->method, is_json);
    at = put_text(at, &keys[KEY_PATH], line->path, is_json);
    at = put_text(at, &keys[KEY_ROUTE], line->route, is_json);
    at = put_text(at, &keys[KEY_PLUGIN], line->plugin, is_json);
    at = put_number(at, &keys[KEY_STATUS], line->status);
    at = put_number(at, &keys[KEY_BYTES], line->bytes_out);
    at = put_ms(at, &keys[KEY_TOTAL], line->total_us);
    at = put_ms(at, &keys[KEY_QUEUE], line->queue_us);
    at = put_ms(at, &keys[KEY_PG], line->pg_us);
    at = put_ms(at, &keys[KEY_CALL], line->call_us);
    at = put_text(at, &keys[KEY_WHY], span_of(line->why), is_json);
    if (line->given_id.ptr != NULL)
        at = put_text(at, &keys[KEY_GIVEN], line->given_id, is_json);
    return put(at, is_json ? SPAN("}\n") : SPAN("\n"));
}

void access_write(struct access_log *log, const struct access_line *line)
{
    char *start;

    if (log == NULL)
        return;
    CHECK_OBJ(log, ACCESS_MAGIC);
    CHECK(line != NULL);
    if (log->lines.len > ACCESS_BUFFER_MAX - LINE_SIZE_MAX) {
        access_flush(log);
        if (log->lines.len > ACCESS_BUFFER_MAX - LINE_SIZE_MAX) {
            drop(log, 1, "nobody reads them");
            return;
        }
    }
    if (log->must_break) {
        buf_append(&log->lines, SPAN("\n"));
        log->must_break = false;
    }
    start = buf_reserve(&log->lines, LINE_SIZE_MAX);
    buf_commit(&log->lines, (size_t)(put_line(log, start, line) - start));
    log->count++;
    if (log->lines.len >= ACCESS_FLUSH_SIZE && !log->is_dropping)
        access_flush(log);
}

/* As write(), with nothing that waits. */
static ssize_t write_some(const struct access_log *log)
{
    struct pollfd pollfd = {.fd = log->fd, .events = POLLOUT};
    size_t len = log->lines.len;

    switch (log->sink) {
    case SINK_FILE:
        return write(log->fd, log->lines.data, len);
    case SINK_SOCKET:
        return send(log->fd, log->lines.data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    case SINK_POLLED:
        if (poll(&pollfd, 1, 0) <= 0) {
            errno = EAGAIN;
            return -1;
        }
        return write(log->fd, log->lines.data, len < PIPE_BUF ? len : PIPE_BUF);
    }
    return -1;
}

static uint32_t count_lines(const char *bytes, size_t len)
{
    uint32_t count = 0;

    for (const char *at = bytes; (at = memchr(at, '\n', len - (size_t)(at - bytes))) != NULL; at++)
        count++;
    return count;
}

/* `len` bytes are out. */
static void written(struct access_log *log, size_t len)
{
    uint32_t lines = count_lines(log->lines.data, len);

    log->count -= lines < log->count ? lines : log->count;
    log->is_within = log->lines.data[len - 1] != '\n';
    buf_consume(&log->lines, len);
    if (log->is_dropping)
        log_warn("access log %s: is written again, %llu lines were dropped so far", log->path,
                 (unsigned long long)log->dropped);
    log->is_dropping = false;
}

void access_flush(struct access_log *log)
{
    ssize_t len;

    if (log == NULL)
        return;
    CHECK_OBJ(log, ACCESS_MAGIC);
    while (log->lines.len > 0) {
        len = write_some(log);
        if (len > 0) {
            written(log, (size_t)len);
        } else if (len < 0 && errno == EINTR) {
            continue;
        } else if (len < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return;
        } else {
            drop(log, log->count, len < 0 ? strerror(errno) : "nothing is written");
            buf_consume(&log->lines, log->lines.len);
            log->count = 0;
            log->must_break = log->is_within;
            return;
        }
    }
}

enum err access_reopen(struct access_log *log)
{
    enum sink sink;
    int fd;

    CHECK_OBJ(log, ACCESS_MAGIC);
    if (strcmp(log->path, "stderr") == 0 || strcmp(log->path, "stdout") == 0)
        return ERR_OK;
    access_flush(log);
    fd = open_sink(log->path, &sink);
    if (fd < 0)
        return ERR_IO;
    close(log->fd);
    log->fd = fd;
    log->sink = sink;
    log->is_within = log->must_break = false;
    return ERR_OK;
}

uint64_t access_dropped(const struct access_log *log)
{
    CHECK_OBJ(log, ACCESS_MAGIC);
    return log->dropped;
}
