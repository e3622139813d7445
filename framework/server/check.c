/* server/check.c - `weft check`: a worker's start, tried in a process of its own, so that a plugin
 * that crashes is reported like any other mistake. */
#include "base/log.h"
#include "observe/blame.h"
#include "server/master.h"
#include "server/runtime.h"
#include "server/worker.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void try_start(const struct settings *settings, const char *copy_dir,
                                struct blame *blame)
{
    const struct worker_setup setup = {
        .settings = settings,
        .copy_dir = copy_dir,
        .blame = blame,
        .generation = 1,
        .report_fd = -1,
    };
    char problem[INI_PROBLEM_SIZE];

    enum err err = worker_check(&setup, stdout, problem);
    if (err != ERR_OK)
        fprintf(stderr, "weft: %s\n", problem);
    exit(err != ERR_OK);
}

int master_check(const struct settings *settings)
{
    char problem[INI_PROBLEM_SIZE], culprit[BLAME_TEXT_SIZE];
    struct runtime runtime = {.lock_fd = -1};
    struct blame *blame = blame_create();
    int status = 0, code = 1;

    fflush(NULL);
    signal(SIGCHLD, SIG_DFL); /* one who ignored it may have started us: waitpid() would fail */
    if (runtime_open(&runtime, settings->server.runtime_dir, settings->file->path, 1, problem) !=
        ERR_OK) {
        fprintf(stderr, "weft: %s\n", problem);
    } else {
        pid_t pid = fork();
        if (pid == 0)
            try_start(settings, runtime.generation, blame);
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            fprintf(stderr, "weft: cannot start a process: %s\n", strerror(errno));
        else if (WIFEXITED(status))
            code = WEXITSTATUS(status) == 0 ? 0 : 1;
        else {
            blame_describe(blame, culprit, sizeof culprit);
            fprintf(stderr, "weft: killed by signal %d (%s) while it ran %s\n", WTERMSIG(status),
                    strsignal(WTERMSIG(status)), culprit);
        }
    }
    runtime_close(&runtime);
    blame_destroy(blame);
    return code;
}
