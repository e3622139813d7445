/* log.c - the host's error log: kept for the test, and read for the plugin's mistakes.
 *
 * The host answers a mistake and tells it in one line with plugin and route; here it is a
 * failure. */
#include "base/log.h"
#include "base/check.h"
#include "base/mem.h"
#include "kit.h"
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TEXT_MAX = 2304, KEPT_MAX = 4 << 20 };

/* Nobody will read the log any more: what it says of the reason is told here. */
static void on_abort(int number)
{
    char piece[1024];
    ssize_t len;

    (void)lseek(log_sink(), 0, SEEK_SET);
    while ((len = read(log_sink(), piece, sizeof piece)) > 0)
        (void)!write(STDERR_FILENO, piece, (size_t)len);
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

void kit_log_open(weft_test *t)
{
    t->log_fd = memfd_create("weft_test", MFD_CLOEXEC);
    CHECK(t->log_fd >= 0);
    log_setup(t->log_fd, LOG_DEBUG, false);
    t->on_abort_before = signal(SIGABRT, on_abort);
}

void kit_log_close(weft_test *t)
{
    log_setup(STDERR_FILENO, LOG_INFO, false);
    (void)signal(SIGABRT, t->on_abort_before);
    (void)close(t->log_fd);
    buf_release(&t->log);
}

/* The value of `key` in a line, unquoted, into `text`; false: it is not there. */
static bool value_of(const char *line, const char *key, char text[TEXT_MAX])
{
    const char *at = strstr(line, key);
    size_t len = 0;
    bool is_quoted;

    if (at == NULL)
        return false;
    at += strlen(key);
    is_quoted = *at == '"';
    at += is_quoted;
    while (*at != '\0' && *at != (is_quoted ? '"' : ' ') && len + 1 < TEXT_MAX) {
        if (*at == '\\' && at[1] != '\0')
            at++;
        text[len++] = *at++;
    }
    text[len] = '\0';
    return true;
}

static bool is_mistake(const char *message)
{
    static const char *const starts[] = {
        "the handler sent no reply",
        "a plugin allocates again and again",
    };
    static const char *const parts[] = {
        ": left its answer unfinished",
        ": neither answers nor waits for anything",
        ": was given up beyond its limit of memory",
    };

    if (strncmp(message, "weft_", 5) == 0 && strstr(message, "(): ") != NULL)
        return true;
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        if (strncmp(message, starts[i], strlen(starts[i])) == 0)
            return true;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strstr(message, parts[i]) != NULL)
            return true;
    return false;
}

static void take_line(weft_test *t, const char *line)
{
    char message[TEXT_MAX], route[TEXT_MAX];
    const char *where = t->instance != NULL ? "the plugin, outside of a route" : "the plugin";

    if (strstr(line, " level=error ") == NULL || !value_of(line, " msg=", message) ||
        !is_mistake(message))
        return;
    kit_fail(t, NULL, 0, "%s: %s", value_of(line, " route=", route) ? route : where, message);
}

void kit_log_read(weft_test *t)
{
    char piece[4096];
    size_t from = t->log.len, begin = from;
    ssize_t len;

    if (lseek(t->log_fd, 0, SEEK_CUR) == 0) /* where the next line goes */
        return;
    (void)lseek(t->log_fd, 0, SEEK_SET);
    while ((len = read(t->log_fd, piece, sizeof piece)) > 0)
        buf_append(&t->log, (struct span){piece, (size_t)len});
    CHECK(ftruncate(t->log_fd, 0) == 0);
    (void)lseek(t->log_fd, 0, SEEK_SET);
    for (size_t at = from; at < t->log.len; at++) {
        if (t->log.data[at] != '\n')
            continue;
        char *line = mem_copy((struct span){t->log.data + begin, at - begin});

        begin = at + 1;
        take_line(t, line);
        mem_free(line);
    }
    if (t->log.len > KEPT_MAX)
        buf_consume(&t->log, t->log.len);
}

const char *weft_test_log(weft_test *t)
{
    const char *text;

    kit_log_read(t);
    text = arena_copy(&t->arena, t->log.len > 0 ? buf_span(&t->log) : SPAN("")).ptr;
    buf_consume(&t->log, t->log.len);
    return text;
}
