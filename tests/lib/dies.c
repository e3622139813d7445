/* lib/dies.c - runs what must not survive in a process of its own. */
#include "lib/dies.h"
#include "lib/test.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void run(void (*fn)(void *arg), void *arg, int fd)
{
    const struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none);
    (void)signal(SIGABRT, SIG_DFL);
    (void)signal(SIGSEGV, SIG_DFL);
    (void)dup2(fd, STDERR_FILENO);
    fn(arg);
    _exit(0);
}

bool dies(void (*fn)(void *arg), void *arg, char output[DIES_OUTPUT_SIZE])
{
    char rest[512];
    size_t len = 0;
    ssize_t count;
    int fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        run(fn, arg, fds[1]);
    (void)close(fds[1]);
    while (len < DIES_OUTPUT_SIZE - 1 &&
           (count = read(fds[0], output + len, DIES_OUTPUT_SIZE - 1 - len)) > 0)
        len += (size_t)count;
    output[len] = '\0';
    while (read(fds[0], rest, sizeof rest) > 0)
        continue;
    (void)close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) || WEXITSTATUS(status) != 0;
}
