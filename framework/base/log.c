/* base/log.c - the error log: one line an event.
 *
 * A call site counts its lines of the running second:
 *
 *   QUIET ──▶ HELD     LOG_BURST lines in one second: it is in the chain of those that hold back
 *     ▲         │
 *     └─────────┘      that second is over, and its next line or log_flush_repeats() comes:
 *                      "repeated=N" is written
 *
 * A line is put together on the stack and goes out in one write(); what does not fit is cut, and
 * what cannot be written is lost: a log that waits for its disk would stop the loop. It is counted,
 * and told behind the first line that can be written again.
 */
#include "base/log.h"
#include "base/clock.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { LINE_SIZE = 4096, MESSAGE_SIZE = 2048, PROCESS_SIZE = 32, ESCAPE_SIZE = 6 };

/* The log is the process's: nobody is given it, and a crash must find it. */
static struct {
    int sink;                   /* where lines go */
    enum log_level level_max;   /* lines of higher ones are not written */
    bool is_json;               /* the form of lines */
    bool has_priority;          /* "<N>" before each line, for the journal */
    char process[PROCESS_SIZE]; /* how it calls itself; "": not at all */
    pthread_mutex_t lock;       /* guards what follows, and the sites */
    struct log_site *held;      /* the chain of those that hold lines back */
    bool is_torn;               /* the sink took only the beginning of the last line */
    uint64_t lost;              /* lines, since the start */
    uint64_t lost_told;         /* of these, that a line tells of */
} state = {
    .sink = STDERR_FILENO,
    .level_max = LOG_INFO,
    .lock = PTHREAD_MUTEX_INITIALIZER,
};

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};

static const char *const priorities[] = {"<3>", "<4>", "<6>", "<7>", "<7>"};

struct line {
    size_t len;           /* bytes so far */
    size_t start;         /* of them, before the first key */
    char text[LINE_SIZE]; /* the last two stay free for the end of the line */
};

void log_setup(int fd, enum log_level level, bool as_json)
{
    state.sink = fd;
    state.level_max = level;
    state.is_json = as_json;
}

void log_set_priorities(bool are_on)
{
    state.has_priority = are_on;
}

const char *log_priority(enum log_level level)
{
    return state.has_priority ? priorities[level] : "";
}

uint64_t log_lost(void)
{
    return __atomic_load_n(&state.lost, __ATOMIC_RELAXED);
}

void log_set_process(const char *name)
{
    snprintf(state.process, sizeof(state.process), "%s", name != NULL ? name : "");
}

int log_sink(void)
{
    return state.sink;
}

bool log_is_json(void)
{
    return state.is_json;
}

bool log_is_on(enum log_level level)
{
    return level <= state.level_max;
}

size_t log_utf8_length(struct span text)
{
    const unsigned char *at = (const unsigned char *)text.ptr;
    size_t len = at[0] < 0x80 ? 1 : at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;

    if (len > 1 && (at[0] < 0xc2 || at[0] > 0xf4 || len > text.len))
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    /* A control character, too long for what it says, a surrogate, or beyond Unicode. */
    if ((at[0] == 0xc2 && at[1] < 0xa0) || (at[0] == 0xe0 && at[1] < 0xa0) ||
        (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf0 && at[1] < 0x90) ||
        (at[0] == 0xf4 && at[1] >= 0x90))
        return 0;
    return len;
}

/* Writes how the first character of `text` looks; `taken` is how many bytes that was. */
static size_t escape_one(char out[ESCAPE_SIZE], struct span text, bool as_json, size_t *taken)
{
    static const char hex[] = "0123456789abcdef";
    static const char letters[] = "\"\"\\\\\nn\rr\tt";
    unsigned char c = (unsigned char)text.ptr[0];
    size_t len = log_utf8_length(text);

    *taken = len > 0 ? len : 1;
    for (size_t i = 0; i < sizeof(letters) - 1; i += 2) {
        if (text.ptr[0] == letters[i]) {
            memcpy(out, (char[]){'\\', letters[i + 1]}, 2);
            return 2;
        }
    }
    if (len > 0 && c >= ' ' && c != 0x7f) {
        memcpy(out, text.ptr, len);
        return len;
    }
    if (as_json) {
        memcpy(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
        return 6;
    }
    memcpy(out, (char[]){'\\', 'x', hex[c >> 4], hex[c & 15]}, 4);
    return 4;
}

/* What a byte asks for; what is escaped is in quotes too. */
enum { IN_QUOTES = 1, ESCAPED = 2 };

static const unsigned char asks[256] = {
    [0x00 ... 0x1f] = IN_QUOTES | ESCAPED, [' '] = IN_QUOTES,
    ['"'] = IN_QUOTES | ESCAPED,           ['='] = IN_QUOTES,
    ['\\'] = IN_QUOTES | ESCAPED,          [0x7f ... 0xff] = IN_QUOTES | ESCAPED,
};

/* How many bytes `text` begins with that do not ask for `what`. */
static size_t length_without(unsigned char what, struct span text)
{
    size_t len = 0;

    while (len < text.len && (asks[(unsigned char)text.ptr[len]] & what) == 0)
        len++;
    return len;
}

/* A value without a byte that asks for anything. */
static size_t put_plain(char *out, size_t size, struct span text)
{
    size_t len = text.len < size ? text.len : size - 1;

    memcpy(out, text.ptr, len);
    out[len] = '\0';
    return len;
}

static size_t put_quoted(char *out, size_t size, struct span text, bool as_json)
{
    char escaped[ESCAPE_SIZE];
    size_t len = 0;

    out[len++] = '"';
    while (text.len > 0) {
        size_t taken = length_without(ESCAPED, text);
        size_t room = size - len - 2; /* the quote and the NUL must fit behind */
        size_t count = taken = taken < room ? taken : room;
        const char *from = text.ptr;

        if (taken == 0) {
            count = escape_one(escaped, text, as_json, &taken);
            from = escaped;
        }
        if (count > room || count == 0)
            break;
        memcpy(out + len, from, count);
        len += count;
        text = (struct span){text.ptr + taken, text.len - taken};
    }
    out[len++] = '"';
    out[len] = '\0';
    return len;
}

size_t log_escape(char *out, size_t size, struct span text, bool as_json)
{
    if (size < 3) {
        if (size > 0)
            out[0] = '\0';
        return 0;
    }
    if (!as_json && text.len > 0 && length_without(IN_QUOTES, text) == text.len)
        return put_plain(out, size, text);
    return put_quoted(out, size, text, as_json);
}

/* Appends ` key=value`, or `,"key":value`; left out where not even the start fits. */
static void put(struct line *line, const char *key, struct span value, bool is_number)
{
    size_t room = sizeof(line->text) - 2 - line->len;
    const char *before =
        line->len == line->start ? (state.is_json ? "{" : "") : (state.is_json ? "," : " ");
    int len =
        snprintf(line->text + line->len, room, state.is_json ? "%s\"%s\":" : "%s%s=", before, key);

    if (len < 0 || (size_t)len + 3 + value.len * is_number >= room)
        return;
    line->len += (size_t)len;
    room -= (size_t)len;
    if (is_number) {
        memcpy(line->text + line->len, value.ptr, value.len);
        line->len += value.len;
    } else {
        line->len += log_escape(line->text + line->len, room, value, state.is_json);
    }
}

static void put_number(struct line *line, const char *key, uint64_t value)
{
    char text[24];
    int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);

    put(line, key, (struct span){text, (size_t)len}, true);
}

static void begin(struct line *line, enum log_level level, struct span message)
{
    char time[CLOCK_ISO_SIZE];

    line->len = line->start = 0;
    if (state.is_torn)
        line->text[line->len++] = '\n';
    for (const char *at = log_priority(level); *at != '\0'; at++)
        line->text[line->len++] = *at;
    line->start = line->len;
    clock_iso(clock_wall_us(), time);
    put(line, "time", span_of(time), false);
    put(line, "level", span_of(level_names[level]), false);
    put_number(line, "pid", (uint64_t)getpid());
    if (state.process[0] != '\0')
        put(line, "process", span_of(state.process), false);
    put(line, "msg", message, false);
}

/* False: it is lost. */
static bool write_out(struct line *line)
{
    struct pollfd room = {.fd = state.sink, .events = POLLOUT};
    ssize_t written;

    if (state.is_json)
        line->text[line->len++] = '}';
    line->text[line->len++] = '\n';
    /* A pipe that says so takes a line of PIPE_BUF bytes whole; one that is full must not stop the
     * loop. */
    if (poll(&room, 1, 0) == 0)
        return false;
    do
        written = write(state.sink, line->text, line->len);
    while (written < 0 && errno == EINTR);
    if (written > 0)
        state.is_torn = (size_t)written < line->len;
    return written == (ssize_t)line->len;
}

static void end(struct line *line)
{
    int saved = errno;

    if (!write_out(line)) {
        __atomic_store_n(&state.lost, state.lost + 1, __ATOMIC_RELAXED);
    } else if (state.lost > state.lost_told) {
        begin(line, LOG_WARN, SPAN("lines before this one could not be written to this log"));
        put_number(line, "lost", state.lost - state.lost_told);
        if (write_out(line))
            state.lost_told = state.lost;
    }
    errno = saved;
}

/* Tells of what was held back at `site`, which is out of the chain. */
static void tell_repeats(struct log_site *site)
{
    struct line line;

    begin(&line, site->level, span_of(site->message));
    put_number(&line, "repeated", site->held);
    site->held = 0;
    end(&line);
}

static void take_out(struct log_site *site)
{
    struct log_site **at = &state.held;

    while (*at != NULL && *at != site)
        at = &(*at)->next_held;
    if (*at != NULL)
        *at = site->next_held;
    site->next_held = NULL;
}

/* Counts a line; true: it is one too many and was held back. */
static bool hold_back(struct log_site *site, enum log_level level, const char *message)
{
    uint64_t second = clock_monotonic_us() / 1000000;

    if (site->second != second) {
        site->second = second;
        site->count = 0;
        if (site->held > 0) {
            take_out(site);
            tell_repeats(site);
        }
    }
    if (site->count < LOG_BURST) {
        site->count++;
        return false;
    }
    if (site->held++ == 0) {
        site->next_held = state.held;
        state.held = site;
    }
    site->level = level;
    snprintf(site->message, sizeof(site->message), "%s", message);
    return true;
}

void log_flush_repeats(void)
{
    uint64_t second = clock_monotonic_us() / 1000000;
    struct log_site **at = &state.held;

    pthread_mutex_lock(&state.lock);
    while (*at != NULL) {
        struct log_site *site = *at;

        if (site->second == second) {
            at = &site->next_held;
            continue;
        }
        *at = site->next_held;
        site->next_held = NULL;
        tell_repeats(site);
    }
    pthread_mutex_unlock(&state.lock);
}

static void write_line(struct log_site *site, enum log_level level, const struct log_field *fields,
                       uint32_t count, const char *message)
{
    struct line line;

    pthread_mutex_lock(&state.lock);
    if (!hold_back(site, level, message)) {
        begin(&line, level, span_of(message));
        for (uint32_t i = 0; i < count; i++) {
            if (fields[i].value.ptr != NULL)
                put(&line, fields[i].key, fields[i].value, false);
        }
        end(&line);
    }
    pthread_mutex_unlock(&state.lock);
}

void log_write(struct log_site *site, enum log_level level, const char *format, ...)
{
    char message[MESSAGE_SIZE] = "";
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    write_line(site, level, NULL, 0, message);
}

void log_write_fields(struct log_site *site, enum log_level level, const struct log_field *fields,
                      uint32_t count, const char *format, ...)
{
    char message[MESSAGE_SIZE] = "";
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    write_line(site, level, fields, count, message);
}
