/* server/hang.c - what a worker says of itself while it hangs. */
#include "server/hang.h"
#include "base/check.h"
#include "base/clock.h"
#include "observe/blame.h"
#include "server/report.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct blame *page; /* written before, never within */

/* A signal that no plugin is likely to use for itself. */
static int number(void)
{
    return SIGRTMAX - 3;
}

/* In the handler: async-signal-safe. */
static void on_asked(int sent, siginfo_t *info, void *context)
{
    uint64_t start_us = __atomic_load_n(&page->turn_start_us, __ATOMIC_RELAXED);
    struct report line;

    (void)sent;
    (void)context;
    if (info->si_pid != getppid() || start_us == 0 ||
        (uint32_t)info->si_value.sival_int != (uint32_t)page->turn)
        return; /* not the master, or the turn has ended since */
    report_begin(&line, "warn");
    report_key(&line, "msg");
    report_put(&line, "\"hangs: in one turn for ");
    report_number(&line, (clock_monotonic_us() - start_us) / 1000, 10, 1);
    report_put(&line, " ms\"");
    report_culprit(&line);
    report_end(&line);
    report_backtrace();
}

void hang_install(const struct blame *blame)
{
    struct sigaction action = {.sa_sigaction = on_asked,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

    CHECK(blame != NULL);
    page = blame;
    CHECK(sigemptyset(&action.sa_mask) == 0);
    CHECK(sigaction(number(), &action, NULL) == 0);
}

bool hang_ask(pid_t pid, uint64_t turn)
{
    siginfo_t info = {.si_signo = number(), .si_code = SI_QUEUE};

    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_int = (int)(uint32_t)turn;
    /* To the loop's thread: any other would take it, too, and know nothing. */
    return syscall(SYS_rt_tgsigqueueinfo, pid, pid, info.si_signo, &info) == 0;
}

bool hang_is_stopped(pid_t pid)
{
    char path[32], text[512];
    const char *end;
    ssize_t len;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    len = read(fd, text, sizeof text - 1);
    close(fd);
    text[len > 0 ? len : 0] = '\0';
    end = strrchr(text, ')'); /* of the name, which may hold anything */
    return end != NULL && end[1] == ' ' && (end[2] == 'T' || end[2] == 't');
}
