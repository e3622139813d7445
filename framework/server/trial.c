/* server/trial.c - settings and plugins, tried in a process of their own. */
#include "server/trial.h"
#include "base/check.h"
#include "base/log.h"
#include "observe/blame.h"
#include "server/worker.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    TEXT_MAX = 16384, /* bytes of what a child says */
    MARK = 1          /* the first byte of a line that says why it failed; no text has it */
};

static void release(struct trial *trial)
{
    io_stop(&trial->_io);
    timer_stop(&trial->_timer);
    close(trial->_fd);
    blame_destroy(trial->_blame);
    trial->_blame = NULL;
    trial->pid = 0;
}

/* The child's whole life. What is wrong goes into the pipe; as a message its last line. */
static _Noreturn void try_start(struct trial *trial, const struct worker_setup *setup, int fd)
{
    char problem[INI_PROBLEM_SIZE];
    FILE *nowhere = fopen("/dev/null", "we"), *warnings;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != setup->master)
        _exit(0);
    host_abandon(trial->_host);
    sockets_deinit(&trial->_host->sockets);
    signal(SIGTERM, SIG_DFL);
    log_set_process("trial");
    warnings = fdopen(fd, "w");
    CHECK(nowhere != NULL && warnings != NULL);
    enum err err = worker_check(setup, nowhere, warnings, problem);
    if (err != ERR_OK)
        fprintf(warnings, "%c%s\n", MARK, problem);
    fclose(warnings);
    fclose(nowhere);
    exit(err == ERR_OK ? 0 : WORKER_EXIT_REFUSED);
}

/* False: there is nothing more now. */
static bool read_some(struct trial *trial)
{
    char text[4096];
    ssize_t got = read(trial->_fd, text, sizeof text);

    if (got > 0 && trial->_text.len + (size_t)got <= TEXT_MAX)
        buf_append(&trial->_text, (struct span){text, (size_t)got});
    if (got == 0) /* the rest is trial_ended()'s */
        io_stop(&trial->_io);
    return got > 0;
}

static void on_readable(struct io *io, uint32_t events)
{
    (void)events;
    (void)read_some(CONTAINER_OF(io, struct trial, _io));
}

/* It may have ended in time where we were stopped meanwhile: then SIGCHLD is about to say how. */
static bool has_ended(const struct trial *trial)
{
    siginfo_t info = {.si_pid = 0};

    return waitid(P_PID, (id_t)trial->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid != 0;
}

static void on_timeout(struct timer *timer)
{
    struct trial *trial = CONTAINER_OF(timer, struct trial, _timer);

    if (has_ended(trial))
        return;
    trial->_is_late = true;
    kill(trial->pid, SIGKILL);
}

enum err trial_start(struct trial *trial, struct host *host, const struct settings *settings,
                     const char *folder, uint32_t number, trial_fn *fn)
{
    int ends[2];

    CHECK(trial->pid == 0);
    CHECK(fn != NULL);
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return ERR_IO;
    *trial = (struct trial){._host = host,
                            ._fn = fn,
                            ._fd = ends[0],
                            ._timeout_ms = settings->server.start_timeout_ms,
                            ._blame = blame_create()};
    buf_init(&trial->_text, NULL);
    trial->pid = fork();
    if (trial->pid == 0)
        try_start(trial,
                  &(struct worker_setup){.settings = settings,
                                         .copy_dir = folder,
                                         .blame = trial->_blame,
                                         .generation = number,
                                         .channel = -1,
                                         .master = host->pid},
                  ends[1]);
    int saved = errno;
    close(ends[1]);
    if (trial->pid < 0) {
        release(trial);
        errno = saved;
        return ERR_IO;
    }
    io_start(host->loop, &trial->_io, trial->_fd, IO_READ, on_readable);
    timer_start(host->loop, &trial->_timer, trial->_timeout_ms, on_timeout);
    return ERR_OK;
}

void trial_stop(struct trial *trial)
{
    if (trial->pid == 0)
        return;
    kill(trial->pid, SIGKILL);
    (void)waitpid(trial->pid, NULL, 0); /* it was killed: this takes a moment */
    release(trial);
    buf_release(&trial->_text);
}

void trial_abandon(const struct trial *trial)
{
    if (trial->pid != 0)
        close(trial->_fd);
}

/* Why it failed: what it said, or what it died of. */
static void explain(const struct trial *trial, int status, const char *said, char *problem)
{
    char culprit[BLAME_TEXT_SIZE];

    blame_describe(trial->_blame, culprit, sizeof culprit);
    if (said != NULL)
        snprintf(problem, INI_PROBLEM_SIZE, "%s", said);
    else if (trial->_is_late)
        snprintf(problem, INI_PROBLEM_SIZE, "not started within start_timeout (%u ms), in %.380s",
                 trial->_timeout_ms, culprit);
    else if (WIFSIGNALED(status))
        snprintf(problem, INI_PROBLEM_SIZE, "killed by signal %d (%s) while it ran %.380s",
                 WTERMSIG(status), strsignal(WTERMSIG(status)), culprit);
    else
        snprintf(problem, INI_PROBLEM_SIZE, "exited with code %d while it ran %.380s",
                 WEXITSTATUS(status), culprit);
}

/* Cuts the last line off where that says what is wrong. */
static char *take_problem(struct buf *text)
{
    char *data, *last;

    buf_append(text, (struct span){"", 1});
    data = text->data;
    if (text->len >= 2 && data[text->len - 2] == '\n')
        data[text->len - 2] = '\0';
    last = strrchr(data, '\n') != NULL ? strrchr(data, '\n') + 1 : data;
    if (*last != MARK)
        return NULL;
    if (last > data)
        last[-1] = '\0';
    else
        *last = '\0';
    return last + 1;
}

void trial_ended(struct trial *trial, int status)
{
    bool is_good = WIFEXITED(status) && WEXITSTATUS(status) == 0 && !trial->_is_late;
    char problem[INI_PROBLEM_SIZE];
    struct buf text;
    char *said;

    CHECK(trial->pid != 0);
    while (read_some(trial))
        ;
    said = take_problem(&trial->_text);
    if (!is_good)
        explain(trial, status, said, problem);
    release(trial);
    text = trial->_text; /* the callee may start another */
    trial->_text = (struct buf){0};
    trial->_fn(trial, is_good ? NULL : problem, text.data);
    buf_release(&text);
}
