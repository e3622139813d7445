/* server/crash.c - what a worker says as it crashes: one line in the error log, and a backtrace.
 *
 *   signal ──▶ the line ──▶ the backtrace ──▶ the signal again, by default ──▶ death
 *
 * The line comes first, and an alarm stands behind the backtrace, which reads a stack that may be
 * ruined.
 */
#include "server/crash.h"
#include "base/check.h"
#include "loop/helper.h"
#include "server/report.h"
#include "task/fiber.h"
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATIENCE_S = 2 }; /* for the backtrace, before the process is ended without it */

static const struct {
    int number;
    const char *name;
} kinds[] = {{SIGSEGV, "SIGSEGV"},
             {SIGBUS, "SIGBUS"},
             {SIGABRT, "SIGABRT"},
             {SIGFPE, "SIGFPE"},
             {SIGILL, "SIGILL"}};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* A signal handler is given nothing, so this must be global. Written before, never within. */
static struct {
    const struct fiber_pool *fibers; /* whose guard pages tell an overflow; NULL: none */
    pid_t surprised;                 /* the process whose exit() is told of; 0: none */
} watched;

/* In the handler */

static void put_message(struct report *line, const siginfo_t *info)
{
    const char *name = "";

    for (unsigned i = 0; i < KINDS; i++)
        name = kinds[i].number == info->si_signo ? kinds[i].name : name;
    report_key(line, "msg");
    report_put(line, "\"crashed: signal ");
    report_number(line, (uint64_t)info->si_signo, 10, 1);
    report_put(line, " (");
    report_put(line, name);
    report_put(line, ")");
    if (info->si_code > 0) { /* the kernel's; else somebody sent it, and there is no address */
        report_put(line, " at 0x");
        report_number(line, (uint64_t)(uintptr_t)info->si_addr, 16, 1);
        if (fiber_is_overflow(watched.fibers, info->si_addr))
            report_put(line, ": stack overflow of a fiber");
        else if (helper_is_overflow(info->si_addr))
            report_put(line, ": stack overflow");
    } else if (info->si_pid != getpid()) {
        report_put(line, " sent by process ");
        report_number(line, (uint64_t)info->si_pid, 10, 1);
    }
    report_put(line, gettid() != getpid() ? " on a helper thread\"" : "\"");
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    struct report line;

    (void)context;
    report_begin(&line, "error");
    put_message(&line, info);
    report_culprit(&line);
    report_end(&line);
    (void)signal(SIGALRM, SIG_DFL);
    (void)alarm(PATIENCE_S);
    report_backtrace();
    /* The handler is gone by now (SA_RESETHAND). A fault happens again where it did, which makes
     * the better core; a signal that was sent must be sent again. */
    if (info->si_code <= 0)
        (void)raise(number);
}

/* exit() in a plugin: nothing is broken, so only the line and the stack are wanted. */
static void on_exit_called(int code, void *data)
{
    struct report line;

    (void)data;
    if (watched.surprised != getpid()) /* allowed, or a process that a plugin has forked */
        return;
    report_begin(&line, "error");
    report_key(&line, "msg");
    report_put(&line, "\"exit(");
    report_number(&line, (uint64_t)(code & 0xff), 10, 1);
    report_put(&line, ") was called\"");
    report_culprit(&line);
    report_end(&line);
    report_backtrace();
}

/* Before */

void crash_install(const char *process, struct blame *blame)
{
    struct sigaction action = {.sa_sigaction = on_crash,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND};
    struct sigaction before;

    report_setup(process, blame);
    report_prepare();
    report_note_modules();
    watched.surprised = getpid();
    CHECK(on_exit(on_exit_called, NULL) == 0);
    CHECK(sigemptyset(&action.sa_mask) == 0);
    for (unsigned i = 0; i < KINDS; i++) {
        CHECK(sigaction(kinds[i].number, NULL, &before) == 0);
        if ((before.sa_flags & SA_SIGINFO) == 0 && before.sa_handler == SIG_DFL)
            CHECK(sigaction(kinds[i].number, &action, NULL) == 0);
    }
}

void crash_allow_exit(void)
{
    watched.surprised = 0;
}

void crash_watch_fibers(const struct fiber_pool *fibers)
{
    watched.fibers = fibers;
}
