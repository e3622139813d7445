/* server/crash.c - what a worker says as it crashes: one line in the error log, and a backtrace.
 *
 *   signal ──▶ the line ──▶ the backtrace ──▶ the signal again, by default ──▶ death
 *
 * All below "In the handler" is async-signal-safe: no memory, no lock, no printf. The line comes
 * first, and an alarm stands behind the backtrace, which reads a stack that may be ruined.
 */
#include "server/crash.h"
#include "base/check.h"
#include "base/log.h"
#include "observe/blame.h"
#include "plugin/plugins.h"
#include "task/fiber.h"
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    STACK_SIZE = 64 * 1024, /* of the handler: backtrace() takes a few KiB */
    FRAMES_MAX = 64,
    LINE_SIZE = 1024,
    PATIENCE_S = 2, /* for the backtrace, before the process is ended without it */
};

static const struct {
    int number;
    const char *name;
} kinds[] = {{SIGSEGV, "SIGSEGV"},
             {SIGBUS, "SIGBUS"},
             {SIGABRT, "SIGABRT"},
             {SIGFPE, "SIGFPE"},
             {SIGILL, "SIGILL"}};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* A signal handler is given nothing, so these must be globals. Written before, never within. */
static char process_name[32];
static const struct blame *page;
static const struct fiber_pool *pool;
static _Alignas(16) char stack[STACK_SIZE];

/* In the handler */

/* The line; what does not fit is cut. */
struct line {
    size_t len;
    char text[LINE_SIZE];
};

static void put(struct line *line, const char *text)
{
    for (; *text != '\0' && line->len < sizeof line->text - 1; text++)
        line->text[line->len++] = *text;
}

/* `width`: digits at least. */
static void put_number(struct line *line, uint64_t value, unsigned base, size_t width)
{
    char digits[24];
    size_t at = sizeof digits;

    digits[--at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (at > 0 && (value > 0 || sizeof digits - 1 - at < width));
    put(line, digits + at);
}

/* Begins a field; its value follows. */
static void put_key(struct line *line, bool is_json, const char *key)
{
    if (line->len > 0)
        put(line, is_json ? "," : " ");
    else if (is_json)
        put(line, "{");
    put(line, is_json ? "\"" : "");
    put(line, key);
    put(line, is_json ? "\":" : "=");
}

static void put_quote(struct line *line, bool is_wanted)
{
    put(line, is_wanted ? "\"" : "");
}

static void put_field(struct line *line, bool is_json, const char *key, const char *value)
{
    bool is_quoted = is_json || strpbrk(value, " =\"\\") != NULL;

    put_key(line, is_json, key);
    put_quote(line, is_quoted);
    for (; *value != '\0'; value++) {
        bool is_plain = *value >= ' ' && *value < 0x7f && *value != '"' && *value != '\\';

        put(line, is_plain ? (char[]){*value, '\0'} : "?");
    }
    put_quote(line, is_quoted);
}

/* Days since 1970 as a date (the proleptic Gregorian calendar, counted from 1 March of year 0). */
static void put_date(struct line *line, uint64_t days)
{
    uint64_t z = days + 719468, era = z / 146097, day = z - era * 146097;
    uint64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    uint64_t rest = day - (365 * year + year / 4 - year / 100), month = (5 * rest + 2) / 153;
    uint64_t of_year = month < 10 ? month + 3 : month - 9;

    put_number(line, year + era * 400 + (of_year <= 2), 10, 4);
    put(line, "-");
    put_number(line, of_year, 10, 2);
    put(line, "-");
    put_number(line, rest - (153 * month + 2) / 5 + 1, 10, 2);
}

static void put_time(struct line *line, bool is_json)
{
    struct timespec now = {0};
    uint64_t seconds;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    seconds = (uint64_t)now.tv_sec;
    put_key(line, is_json, "time");
    put_quote(line, is_json);
    put_date(line, seconds / 86400);
    put(line, "T");
    put_number(line, seconds / 3600 % 24, 10, 2);
    put(line, ":");
    put_number(line, seconds / 60 % 60, 10, 2);
    put(line, ":");
    put_number(line, seconds % 60, 10, 2);
    put(line, ".");
    put_number(line, (uint64_t)now.tv_nsec / 1000000, 10, 3);
    put(line, "Z");
    put_quote(line, is_json);
}

static void put_message(struct line *line, bool is_json, const siginfo_t *info)
{
    const char *name = "";

    for (unsigned i = 0; i < KINDS; i++)
        name = kinds[i].number == info->si_signo ? kinds[i].name : name;
    put_key(line, is_json, "msg");
    put(line, "\"crashed: signal ");
    put_number(line, (uint64_t)info->si_signo, 10, 1);
    put(line, " (");
    put(line, name);
    put(line, ")");
    if (info->si_code > 0) { /* the kernel's; else somebody sent it, and there is no address */
        put(line, " at 0x");
        put_number(line, (uint64_t)(uintptr_t)info->si_addr, 16, 1);
        if (fiber_is_overflow(pool, info->si_addr))
            put(line, ": stack overflow of a fiber");
    } else if (info->si_pid != getpid()) {
        put(line, " sent by process ");
        put_number(line, (uint64_t)info->si_pid, 10, 1);
    }
    put(line, gettid() != getpid() ? " on a helper thread\"" : "\"");
}

/* The page is of the loop's thread. */
static void put_culprit(struct line *line, bool is_json)
{
    struct blame_culprit culprit = {.request = 0};
    struct span of_thread = plugins_of_thread();

    if (gettid() == getpid())
        blame_read(page, &culprit);
    else
        memcpy(culprit.plugin, of_thread.ptr != NULL ? of_thread.ptr : "",
               of_thread.len < BLAME_PLUGIN_SIZE - 1 ? of_thread.len : BLAME_PLUGIN_SIZE - 1);
    put_field(line, is_json, "plugin", culprit.plugin[0] != '\0' ? culprit.plugin : "-");
    put_field(line, is_json, "route", culprit.route[0] != '\0' ? culprit.route : "-");
    put_key(line, is_json, "request");
    put_quote(line, is_json);
    if (culprit.request != 0)
        put_number(line, culprit.request, 16, 16);
    else
        put(line, "-");
    put_quote(line, is_json);
}

static void write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t written = write(fd, text, len);

        if (written < 0 && errno != EINTR)
            return; /* nobody is left to be told */
        text += written > 0 ? written : 0;
        len -= written > 0 ? (size_t)written : 0;
    }
}

static void write_line(const siginfo_t *info)
{
    bool is_json = log_is_json();
    struct line line = {0};

    put_time(&line, is_json);
    put_field(&line, is_json, "level", "error");
    put_key(&line, is_json, "pid");
    put_number(&line, (uint64_t)getpid(), 10, 1);
    put_field(&line, is_json, "process", process_name);
    put_message(&line, is_json, info);
    put_culprit(&line, is_json);
    put(&line, is_json ? "}" : "");
    line.text[line.len++] = '\n';
    write_all(log_sink(), line.text, line.len);
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    void *frames[FRAMES_MAX];

    (void)context;
    write_line(info);
    (void)signal(SIGALRM, SIG_DFL);
    (void)alarm(PATIENCE_S);
    backtrace_symbols_fd(frames, backtrace(frames, FRAMES_MAX), log_sink());
    /* The handler is gone by now (SA_RESETHAND). A fault happens again where it did, which makes
     * the better core; a signal that was sent must be sent again. */
    if (info->si_code <= 0)
        (void)raise(number);
}

/* Before */

/* A sanitizer's own stack for handlers is as good as ours. */
static void set_stack(void)
{
    const stack_t ours = {.ss_sp = stack, .ss_size = sizeof stack};
    stack_t before;

    CHECK(sigaltstack(NULL, &before) == 0);
    if ((before.ss_flags & SS_DISABLE) != 0)
        CHECK(sigaltstack(&ours, NULL) == 0);
}

void crash_install(const char *process, const struct blame *blame)
{
    struct sigaction action = {.sa_sigaction = on_crash,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND};
    struct sigaction before;
    void *frame;

    CHECK(process != NULL);
    snprintf(process_name, sizeof process_name, "%s", process);
    page = blame;
    (void)backtrace(&frame, 1); /* loads what it needs, which takes memory and locks */
    set_stack();
    CHECK(sigemptyset(&action.sa_mask) == 0);
    for (unsigned i = 0; i < KINDS; i++) {
        CHECK(sigaction(kinds[i].number, NULL, &before) == 0);
        if ((before.sa_flags & SA_SIGINFO) == 0 && before.sa_handler == SIG_DFL)
            CHECK(sigaction(kinds[i].number, &action, NULL) == 0);
    }
}

void crash_watch_fibers(const struct fiber_pool *fibers)
{
    pool = fibers;
}
