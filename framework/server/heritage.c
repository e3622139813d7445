/* server/heritage.c - what a master leaves to the one that follows it, as text:
 *
 *   weft 1
 *   channel 7
 *   lock 5
 *   generation 3
 *   folder /run/weft/0123456789abcdef
 *   admin 6                          where there is one; admin-handed: the service manager's
 *   listen 8,9,10 127.0.0.1:8080     a line for each address, a socket for each slot; or "handed"
 */
#include "server/heritage.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "server/admin.h"
#include "server/host.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define VARIABLE "WEFT_HERITAGE"
#define FORM     "weft 1\n"

/* Survives exec(), or does not. */
static bool keep(int fd, bool is_kept)
{
    int flags = fcntl(fd, F_GETFD);

    return flags >= 0 &&
           fcntl(fd, F_SETFD, is_kept ? flags & ~FD_CLOEXEC : flags | FD_CLOEXEC) == 0;
}

/* The service manager's signs of life are ours to give where they were the master's before. */
static void rename_watched(pid_t before)
{
    const char *who = getenv("WATCHDOG_PID");
    char pid[32];

    if (who == NULL || atol(who) != before)
        return;
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    CHECK(setenv("WATCHDOG_PID", pid, 1) == 0);
}

void heritage_leave(const struct host *host, int channel, uint32_t number)
{
    struct buf text;

    buf_init(&text, NULL);
    buf_format(&text, FORM "channel %d\nlock %d\ngeneration %u\nfolder %s\n", channel,
               host->runtime.lock_fd, number, host->runtime.path);
    if (host->admin->fd >= 0)
        buf_format(&text, "%s %d\n", host->admin->is_handed ? "admin-handed" : "admin",
                   host->admin->fd);
    sockets_describe(&host->sockets, &text);
    buf_append(&text, (struct span){"", 1});
    CHECK(setenv(VARIABLE, text.data, 1) == 0);
    rename_watched(host->pid);
    buf_release(&text);
    CHECK(keep(channel, true));
    CHECK(keep(host->runtime.lock_fd, true));
    CHECK(host->admin->fd < 0 || keep(host->admin->fd, true));
    sockets_keep(&host->sockets, keep);
}

/* The number behind `key` and a blank. */
static bool read_number(const char *line, const char *key, int max, int *number)
{
    size_t len = strlen(key);
    char *end;
    long value;

    if (strncmp(line, key, len) != 0 || line[len] != ' ')
        return false;
    errno = 0;
    value = strtol(line + len + 1, &end, 10);
    if (*end != '\0' || end == line + len + 1 || errno != 0 || value < 0 || value > max)
        return false;
    *number = (int)value;
    return true;
}

/* One line of it. */
static bool take_line(struct heritage *heritage, struct sockets *sockets, const char *line)
{
    int number;

    if (read_number(line, "channel", INT_MAX, &heritage->channel))
        return keep(heritage->channel, false);
    if (read_number(line, "lock", INT_MAX, &heritage->lock_fd))
        return keep(heritage->lock_fd, false);
    if (read_number(line, "admin", INT_MAX, &heritage->admin))
        return keep(heritage->admin, false);
    if (read_number(line, "admin-handed", INT_MAX, &heritage->admin)) {
        heritage->is_admin_handed = true;
        return keep(heritage->admin, false);
    }
    if (read_number(line, "generation", INT_MAX, &number)) {
        heritage->generation = (uint32_t)number;
        return true;
    }
    if (strncmp(line, "folder /", 8) == 0)
        return snprintf(heritage->folder, PATH_MAX, "%s", line + 7) < PATH_MAX;
    return sockets_inherit(sockets, line, keep);
}

static bool is_whole(const struct heritage *heritage)
{
    return heritage->channel >= 0 && heritage->lock_fd >= 0 && heritage->generation > 0 &&
           heritage->folder[0] != '\0';
}

enum err heritage_read(struct heritage *heritage, struct sockets *sockets,
                       char problem[INI_PROBLEM_SIZE])
{
    const char *value = getenv(VARIABLE);
    char *text, *rest, *line;
    bool is_good;

    *heritage = (struct heritage){.channel = -1, .lock_fd = -1, .admin = -1};
    if (value == NULL)
        return ERR_NOT_FOUND;
    text = rest = mem_copy(span_of(value));
    (void)unsetenv(VARIABLE);
    is_good = strncmp(text, FORM, strlen(FORM)) == 0;
    rest += is_good ? strlen(FORM) : 0;
    while (is_good && (line = strsep(&rest, "\n")) != NULL && rest != NULL)
        is_good = take_line(heritage, sockets, line);
    mem_free(text);
    if (is_good && is_whole(heritage))
        return ERR_OK;
    sockets_deinit(sockets);
    snprintf(problem, INI_PROBLEM_SIZE,
             VARIABLE " in the environment is not what a host leaves to the next one");
    return ERR_INVALID;
}

int heritage_channel(void)
{
    const char *value = getenv(VARIABLE);
    int channel;

    return value != NULL && sscanf(value, FORM "channel %d\n", &channel) == 1 ? channel : -1;
}
