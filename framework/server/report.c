/* server/report.c - what a signal handler can say: lines in the log's own form, and a backtrace. */
#include "server/report.h"
#include "base/check.h"
#include "base/log.h"
#include "observe/blame.h"
#include "plugin/plugins.h"
#include <errno.h>
#include <execinfo.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    STACK_SIZE = 64 * 1024, /* of a handler: backtrace() takes a few KiB */
    FRAMES_MAX = 64,
    BUILD_ID_MAX = 32, /* bytes of one: SHA-1 has 20 */
    PATH_SIZE = 160,   /* of a file's name; of a longer one the end is kept */
};

/* A file that is mapped. */
struct module {
    uintptr_t start, end; /* of its addresses */
    char path[PATH_SIZE]; /* "" : the program */
    size_t id_len;        /* bytes of its build id; 0: it has none */
    unsigned char id[BUILD_ID_MAX];
};

/* A signal handler is given nothing, so this must be global. Written before, never within. */
static struct {
    char process[32];                          /* how it calls itself in the log */
    struct blame *page;                        /* NULL: none */
    struct module modules[REPORT_MODULES_MAX]; /* that are mapped */
    size_t module_count;                       /* of them */
    _Alignas(16) char stack[STACK_SIZE];       /* of handlers on the loop's thread */
} known;

/* Before */

void report_setup(const char *process, struct blame *blame)
{
    CHECK(process != NULL);
    snprintf(known.process, sizeof known.process, "%s", process);
    known.page = blame;
}

void report_prepare(void)
{
    const stack_t ours = {.ss_sp = known.stack, .ss_size = sizeof known.stack};
    stack_t before;
    void *frame;

    (void)backtrace(&frame, 1); /* loads what it needs, which takes memory and locks */
    CHECK(sigaltstack(NULL, &before) == 0);
    if ((before.ss_flags & SS_DISABLE) != 0) /* a sanitizer's own is as good as ours */
        CHECK(sigaltstack(&ours, NULL) == 0);
}

/* Looks for the build id among the notes at `at`, `size` bytes. */
static void find_id(struct module *module, const char *at, size_t size)
{
    while (size >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *note = (const void *)at;
        size_t name = (note->n_namesz + 3u) & ~3u, text = (note->n_descsz + 3u) & ~3u;
        size_t whole = sizeof *note + name + text;

        if (whole > size)
            return;
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
            memcmp(at + sizeof *note, "GNU", 4) == 0 && note->n_descsz <= BUILD_ID_MAX) {
            module->id_len = note->n_descsz;
            memcpy(module->id, at + sizeof *note + name, module->id_len);
            return;
        }
        at += whole;
        size -= whole;
    }
}

static int note_module(struct dl_phdr_info *info, size_t size, void *data)
{
    struct module *module = &known.modules[known.module_count];
    const char *name = info->dlpi_name != NULL ? info->dlpi_name : "";
    size_t len = strlen(name);

    (void)size;
    (void)data;
    if (known.module_count == REPORT_MODULES_MAX)
        return 1;
    *module = (struct module){.start = UINTPTR_MAX};
    snprintf(module->path, PATH_SIZE, "%s", len < PATH_SIZE ? name : name + len - PATH_SIZE + 1);
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + part->p_vaddr;

        if (part->p_type == PT_LOAD && start < module->start)
            module->start = start;
        if (part->p_type == PT_LOAD && start + part->p_memsz > module->end)
            module->end = start + part->p_memsz;
        if (part->p_type == PT_NOTE && module->id_len == 0)
            find_id(module, (const char *)start, part->p_memsz);
    }
    known.module_count++;
    return 0;
}

void report_note_modules(void)
{
    known.module_count = 0;
    (void)dl_iterate_phdr(note_module, NULL);
}

/* In a handler */

void report_put(struct report *report, const char *text)
{
    for (; *text != '\0' && report->len < sizeof report->text - 2; text++)
        report->text[report->len++] = *text;
}

void report_number(struct report *report, uint64_t value, unsigned base, size_t width)
{
    char digits[24];
    size_t at = sizeof digits;

    digits[--at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (at > 0 && (value > 0 || sizeof digits - 1 - at < width));
    report_put(report, digits + at);
}

void report_key(struct report *report, const char *key)
{
    if (report->len > report->start)
        report_put(report, report->is_json ? "," : " ");
    else if (report->is_json)
        report_put(report, "{");
    report_put(report, report->is_json ? "\"" : "");
    report_put(report, key);
    report_put(report, report->is_json ? "\":" : "=");
}

void report_quote(struct report *report)
{
    report_put(report, "\"");
}

void report_field(struct report *report, const char *key, const char *value)
{
    bool is_quoted = report->is_json || strpbrk(value, " =\"\\") != NULL;

    report_key(report, key);
    report_put(report, is_quoted ? "\"" : "");
    for (; *value != '\0'; value++) {
        bool is_plain = *value >= ' ' && *value < 0x7f && *value != '"' && *value != '\\';

        report_put(report, is_plain ? (char[]){*value, '\0'} : "?");
    }
    report_put(report, is_quoted ? "\"" : "");
}

/* Days since 1970 as a date (the proleptic Gregorian calendar, counted from 1 March of year 0). */
static void put_date(struct report *report, uint64_t days)
{
    uint64_t z = days + 719468, era = z / 146097, day = z - era * 146097;
    uint64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    uint64_t rest = day - (365 * year + year / 4 - year / 100), month = (5 * rest + 2) / 153;
    uint64_t of_year = month < 10 ? month + 3 : month - 9;

    report_number(report, year + era * 400 + (of_year <= 2), 10, 4);
    report_put(report, "-");
    report_number(report, of_year, 10, 2);
    report_put(report, "-");
    report_number(report, rest - (153 * month + 2) / 5 + 1, 10, 2);
}

static void put_time(struct report *report)
{
    struct timespec now = {0};
    uint64_t seconds;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    seconds = (uint64_t)now.tv_sec;
    report_key(report, "time");
    report_put(report, report->is_json ? "\"" : "");
    put_date(report, seconds / 86400);
    report_put(report, "T");
    report_number(report, seconds / 3600 % 24, 10, 2);
    report_put(report, ":");
    report_number(report, seconds / 60 % 60, 10, 2);
    report_put(report, ":");
    report_number(report, seconds % 60, 10, 2);
    report_put(report, ".");
    report_number(report, (uint64_t)now.tv_nsec / 1000000, 10, 3);
    report_put(report, "Z");
    report_put(report, report->is_json ? "\"" : "");
}

void report_begin(struct report *report, const char *level)
{
    report->len = 0;
    report->is_json = log_is_json();
    report_put(report, log_priority(level[0] == 'e' ? LOG_ERROR : LOG_WARN));
    report->start = report->len;
    put_time(report);
    report_field(report, "level", level);
    report_key(report, "pid");
    report_number(report, (uint64_t)getpid(), 10, 1);
    report_field(report, "process", known.process);
}

void report_culprit(struct report *report)
{
    struct span of_thread = plugins_of_thread();
    struct blame_culprit culprit;
    bool is_known;

    if (gettid() != getpid())
        plugins_blame_thread(known.page);
    blame_read_last(known.page, &culprit);
    is_known = culprit.plugin[0] != '\0' && !culprit.is_past;
    if (!is_known && of_thread.len > 0 && of_thread.len < BLAME_PLUGIN_SIZE) { /* without a page */
        memcpy(culprit.plugin, of_thread.ptr, of_thread.len);
        is_known = true;
    }
    report_field(report, "plugin", is_known ? culprit.plugin : "-");
    report_field(report, "route", is_known && culprit.route[0] != '\0' ? culprit.route : "-");
    report_key(report, "request");
    report_put(report, report->is_json ? "\"" : "");
    if (is_known && culprit.request != 0)
        report_number(report, culprit.request, 16, 16);
    else
        report_put(report, "-");
    report_put(report, report->is_json ? "\"" : "");
    if (!culprit.is_past)
        return;
    report_field(report, "last_plugin", culprit.plugin);
    report_field(report, "last_route", culprit.route);
}

static void write_all(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t written = write(log_sink(), text, len);

        if (written < 0 && errno != EINTR)
            return; /* nobody is left to be told */
        text += written > 0 ? written : 0;
        len -= written > 0 ? (size_t)written : 0;
    }
}

void report_end(struct report *report)
{
    report_put(report, report->is_json ? "}" : "");
    report->text[report->len++] = '\n';
    write_all(report->text, report->len);
}

static const struct module *module_of(uintptr_t address)
{
    for (size_t i = 0; i < known.module_count; i++)
        if (address >= known.modules[i].start && address < known.modules[i].end)
            return &known.modules[i];
    return NULL;
}

static void write_id(const struct module *module)
{
    struct report line = {0};

    report_put(&line, "build id ");
    for (size_t i = 0; i < module->id_len; i++)
        report_number(&line, module->id[i], 16, 2);
    report_put(&line, module->id_len > 0 ? " " : "- ");
    report_put(&line, module->path[0] != '\0' ? module->path : "(the program)");
    line.text[line.len++] = '\n';
    write_all(line.text, line.len);
}

void report_backtrace(void)
{
    void *frames[FRAMES_MAX];
    bool is_told[REPORT_MODULES_MAX] = {false};
    int count = backtrace(frames, FRAMES_MAX);

    backtrace_symbols_fd(frames, count, log_sink());
    for (int i = 0; i < count; i++) {
        const struct module *module = module_of((uintptr_t)frames[i]);

        if (module == NULL || is_told[module - known.modules])
            continue;
        is_told[module - known.modules] = true;
        write_id(module);
    }
}
