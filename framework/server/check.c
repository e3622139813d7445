/* server/check.c - `weft check`: a worker's start, tried in a process of its own, so that a plugin
 * that crashes is reported like any other mistake. */
#include "base/check.h"
#include "base/log.h"
#include "observe/blame.h"
#include "server/inspect.h"
#include "server/master.h"
#include "server/runtime.h"
#include "server/worker.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* As every line of ours on the standard error. */
static void print_warnings(char *text)
{
    char *rest = text, *line;

    while ((line = strsep(&rest, "\n")) != NULL)
        if (line[0] != '\0')
            fprintf(stderr, "weft: %s\n", line);
    free(text);
}

static _Noreturn void try_start(const struct settings *settings, const char *copy_dir,
                                struct blame *blame)
{
    const struct worker_setup setup = {
        .settings = settings,
        .copy_dir = copy_dir,
        .blame = blame,
        .generation = 1,
        .inspection = settings->is_of_one_plugin ? inspection_create() : NULL,
        .channel = -1,
    };
    char problem[INI_PROBLEM_SIZE], *text = NULL;
    size_t len;
    FILE *warnings = open_memstream(&text, &len);

    CHECK(warnings != NULL);
    enum err err = worker_check(&setup, stdout, warnings, problem);
    fclose(warnings);
    print_warnings(text);
    if (err != ERR_OK)
        fprintf(stderr, "weft: %s\n", problem);
    exit(err != ERR_OK);
}

/* What ends the wait for the child: its end, or somebody who has had enough. */
static void init_ends(sigset_t *ends)
{
    sigemptyset(ends);
    sigaddset(ends, SIGCHLD);
    sigaddset(ends, SIGINT);
    sigaddset(ends, SIGTERM);
    sigaddset(ends, SIGHUP);
}

/* The child's exit status. One that takes too long, or that we were told to leave, is killed. */
static int wait_for(pid_t pid, const sigset_t *ends, uint32_t timeout_ms)
{
    const struct timespec timeout = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
    int status = 0, number = sigtimedwait(ends, NULL, &timeout);

    if (number != SIGCHLD)
        kill(pid, SIGKILL);
    if (number < 0)
        fprintf(stderr, "weft: not started within start_timeout (%u ms)\n", timeout_ms);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

/* Runs the start in a child; its exit code. */
static int try_in_child(const struct settings *settings, const char *copy_dir, struct blame *blame)
{
    char culprit[BLAME_TEXT_SIZE];
    sigset_t ends, before;

    init_ends(&ends);
    sigprocmask(SIG_BLOCK, &ends, &before);
    pid_t pid = fork();
    if (pid < 0) {
        fprintf(stderr, "weft: cannot start a process: %s\n", strerror(errno));
        return 1;
    }
    if (pid == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        try_start(settings, copy_dir, blame);
    }
    int status = wait_for(pid, &ends, settings->server.start_timeout_ms);
    if (WIFEXITED(status))
        return WEXITSTATUS(status) == 0 ? 0 : 1;
    blame_describe(blame, culprit, sizeof culprit);
    fprintf(stderr, "weft: killed by signal %d (%s) while it ran %s\n", WTERMSIG(status),
            strsignal(WTERMSIG(status)), culprit);
    return 1;
}

int master_check(const struct settings *settings)
{
    struct runtime runtime = {.lock_fd = -1};
    struct blame *blame = blame_create();
    char problem[INI_PROBLEM_SIZE];
    int code = 1;

    fflush(NULL);
    signal(SIGCHLD, SIG_DFL); /* one who ignored it may have started us: waitpid() would fail */
    if (runtime_open(&runtime, settings->server.runtime_dir, settings->file->path, 1, problem) !=
        ERR_OK)
        fprintf(stderr, "weft: %s\n", problem);
    else
        code = try_in_child(settings, runtime.generation, blame);
    runtime_close(&runtime);
    blame_destroy(blame);
    return code;
}
