/* server/successor.c - the master that is to follow this one in an upgrade. */
#include "server/successor.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/heritage.h"
#include "server/host.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ANSWER_MS = 5000, /* for what takes it no time */
    END_MS = 10000    /* for it to end once it has failed */
};

/* ---- the program ---- */

static char *in_path(const char *name)
{
    const char *path = getenv("PATH");
    char *found = NULL;

    while (path != NULL && *path != '\0' && found == NULL) {
        size_t len = strcspn(path, ":");
        found = mem_format("%.*s/%s", (int)len, path, name);
        if (found[0] != '/' || access(found, X_OK) != 0) {
            mem_free(found);
            found = NULL;
        }
        path += len + (path[len] == ':');
    }
    return found;
}

/* Not by /proc/self/exe where that can be helped: it names the file, which a new program replaces,
 * and not the link that was called. */
char *successor_program(const char *name)
{
    char path[PATH_MAX] = "";
    char *found = NULL;

    if (name[0] == '/')
        return mem_copy(span_of(name));
    if (strchr(name, '/') == NULL)
        found = in_path(name);
    else if (getcwd(path, sizeof path) != NULL)
        found = mem_format("%s/%s", path, name);
    if (found == NULL) {
        ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
        path[len > 0 ? len : 0] = '\0';
        found = mem_copy(span_of(path));
    }
    return found;
}

/* ---- what it says ---- */

static void close_channel(struct successor *successor)
{
    io_stop(&successor->_io);
    if (successor->_is_open)
        close(successor->_channel);
    successor->_is_open = false;
}

static void on_end_late(struct timer *timer)
{
    const struct successor *successor = CONTAINER_OF(timer, struct successor, _timer);

    if (successor->pid != 0)
        kill(successor->pid, SIGKILL);
}

/* Nothing more is heard of it; where it has not ended soon, it is killed. */
static void part(struct successor *successor)
{
    successor->_fn = NULL;
    close_channel(successor);
    timer_stop(&successor->_timer);
    if (successor->pid != 0)
        timer_start(successor->_host->loop, &successor->_timer, END_MS, on_end_late);
}

static void fail(struct successor *successor, const char *problem)
{
    successor_fn *fn = successor->_fn;

    part(successor);
    if (fn != NULL)
        fn(successor, SUCCESSOR_FAILED, problem);
}

static void on_late(struct timer *timer)
{
    struct successor *successor = CONTAINER_OF(timer, struct successor, _timer);
    char problem[INI_PROBLEM_SIZE];

    snprintf(problem, sizeof problem, "the new master (process %d) has not said in time that it %s",
             (int)successor->pid, successor->_awaited);
    kill(successor->pid, SIGKILL); /* before it sees the channel's end, and serves alone */
    fail(successor, problem);
}

static void on_message(struct successor *successor, const char *message)
{
    switch (message[0]) {
    case SUCCESSOR_READY:
    case SUCCESSOR_SERVES:
    case SUCCESSOR_HAS_ALL:
    case SUCCESSOR_END:
        timer_stop(&successor->_timer);
        successor->_fn(successor, (enum successor_says)message[0], message + 1);
        break;
    case SUCCESSOR_WARNS:
        successor->_fn(successor, SUCCESSOR_WARNS, message + 1);
        break;
    case SUCCESSOR_FAILED:
        fail(successor, message + 1);
        break;
    default: /* a later version may say more */
        break;
    }
}

/* False: there is nothing more to read. */
static bool take_message(struct successor *successor)
{
    char message[INI_PROBLEM_SIZE + 8];
    ssize_t got = successor->_is_open
                      ? recv(successor->_channel, message, sizeof message - 1, MSG_DONTWAIT)
                      : 0;

    if (got > 0) {
        message[got] = '\0';
        on_message(successor, message);
        return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR))
        io_stop(&successor->_io); /* it has gone: the rest is successor_ended()'s */
    return false;
}

static void on_channel(struct io *io, uint32_t events)
{
    (void)events;
    (void)take_message(CONTAINER_OF(io, struct successor, _io));
}

/* ---- its life ---- */

static void say(const struct successor *successor, char what)
{
    (void)send(successor->_channel, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* In the child. */
static _Noreturn void become(const struct host *host, int channel, uint32_t number)
{
    sigset_t none;
    char text[INI_PROBLEM_SIZE];

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    heritage_leave(host, channel, number);
    execv(host->program, host->argv);
    int len = snprintf(text, sizeof text, "%c%.300s: %s", SUCCESSOR_FAILED, host->program,
                       strerror(errno));
    (void)send(channel, text, (size_t)len, MSG_NOSIGNAL);
    _exit(1);
}

static void await(struct successor *successor, uint32_t ms, const char *what)
{
    successor->_awaited = what;
    timer_start(successor->_host->loop, &successor->_timer, ms, on_late);
}

enum err successor_start(struct successor *successor, struct host *host, uint32_t number,
                         uint32_t timeout_ms, successor_fn *fn)
{
    int ends[2];

    CHECK(successor->pid == 0);
    CHECK(fn != NULL);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return ERR_IO;
    pid_t pid = fork();
    if (pid == 0)
        become(host, ends[1], number);
    int saved = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        errno = saved;
        return ERR_IO;
    }
    timer_stop(&successor->_timer);
    *successor = (struct successor){
        ._host = host, ._fn = fn, ._channel = ends[0], ._is_open = true, .pid = pid};
    io_start(host->loop, &successor->_io, ends[0], IO_READ, on_channel);
    await(successor, timeout_ms, "is ready");
    return ERR_OK;
}

void successor_tell(struct successor *successor, int what)
{
    CHECK(successor->_fn != NULL);
    say(successor, (char)what);
    await(successor, ANSWER_MS, what == SUCCESSOR_GO ? "serves" : "has the control socket");
}

void successor_cancel(struct successor *successor)
{
    if (successor->_fn == NULL)
        return;
    say(successor, SUCCESSOR_GIVE_UP);
    if (successor->pid != 0)
        kill(successor->pid, SIGTERM); /* it may not listen yet */
    part(successor);
}

void successor_ended(struct successor *successor, int status)
{
    char problem[INI_PROBLEM_SIZE];
    pid_t pid = successor->pid;

    CHECK(pid != 0);
    while (successor->_fn != NULL && take_message(successor)) /* it said why just before it went */
        ;
    successor->pid = 0;
    if (WIFSIGNALED(status))
        snprintf(problem, sizeof problem,
                 "the new master (process %d) was killed by signal %d (%s)", (int)pid,
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(problem, sizeof problem,
                 "the new master (process %d) exited with code %d; the error log may say why",
                 (int)pid, WEXITSTATUS(status));
    fail(successor, problem);
}

void successor_deinit(struct successor *successor)
{
    successor->_fn = NULL;
    close_channel(successor);
    timer_stop(&successor->_timer);
}

void successor_abandon(const struct successor *successor)
{
    if (successor->_is_open)
        close(successor->_channel);
}
