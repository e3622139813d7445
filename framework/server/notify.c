/* server/notify.c - tells the service manager how far the host is. */
#include "server/notify.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/number.h"
#include "loop/loop.h"
#include "server/status.h"
#include "server/watch.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MESSAGE_SIZE = 256 };

static void say(const struct notify *notify, const char *message)
{
    if (notify->_fd < 0)
        return;
    if (send(notify->_fd, message, strlen(message), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_warn("$NOTIFY_SOCKET: cannot be told \"%.*s\": %s", (int)strcspn(message, "\n"),
                 message, strerror(errno));
}

/* ---- the watchdog ---- */

/* One worker that turns is enough: those that hang are the business of stall_kill. */
static bool is_alive(const struct notify *notify)
{
    bool are_all_hanging = false;

    LIST_EACH (&notify->_watch->workers, link) {
        const struct watched *worker = CONTAINER_OF(link, struct watched, _link);

        if (status_turn_ms(worker) < notify->_watchdog_ms)
            return true;
        are_all_hanging = true;
    }
    return !are_all_hanging;
}

static void on_watchdog(struct timer *timer)
{
    struct notify *notify = CONTAINER_OF(timer, struct notify, _timer);

    if (is_alive(notify))
        say(notify, "WATCHDOG=1\n");
    timer_start(notify->_watch->loop, timer, notify->_watchdog_ms / 2, on_watchdog);
}

/* $WATCHDOG_USEC, where it is meant for us. */
static uint32_t watchdog_ms(void)
{
    const char *time = getenv("WATCHDOG_USEC"), *who = getenv("WATCHDOG_PID");
    uint64_t us, pid;

    if (time == NULL || !number_uint(span_of(time), &us) || us < 2000)
        return 0;
    if (who != NULL && (!number_uint(span_of(who), &pid) || pid != (uint64_t)getpid()))
        return 0;
    return us / 1000 < UINT32_MAX ? (uint32_t)(us / 1000) : UINT32_MAX;
}

/* ---- life ---- */

/* A socket's path, or, behind a '@', its name that is no file's. */
static int connect_to(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(name);
    int fd;

    if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof address.sun_path) {
        errno = EINVAL;
        return -1;
    }
    memcpy(address.sun_path, name, len);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (connect(fd, (const struct sockaddr *)&address, size) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

void notify_start(struct notify *notify, struct watch *watch)
{
    const char *name = getenv("NOTIFY_SOCKET");

    *notify = (struct notify){._watch = watch, ._fd = -1};
    if (name == NULL || name[0] == '\0')
        return;
    notify->_fd = connect_to(name);
    if (notify->_fd < 0) {
        log_warn("$NOTIFY_SOCKET: %.200s: %s", name, strerror(errno));
        return;
    }
    notify->_watchdog_ms = watchdog_ms();
    if (notify->_watchdog_ms > 0)
        timer_start(watch->loop, &notify->_timer, 0, on_watchdog);
}

void notify_stop(struct notify *notify)
{
    if (notify->_fd < 0)
        return;
    timer_stop(&notify->_timer);
    close(notify->_fd);
    notify->_fd = -1;
}

void notify_abandon(const struct notify *notify)
{
    if (notify->_fd >= 0)
        close(notify->_fd);
}

/* ---- what is told ---- */

void notify_ready(struct notify *notify, uint32_t generation)
{
    char message[MESSAGE_SIZE];

    snprintf(message, sizeof message, "READY=1\nMAINPID=%d\nSTATUS=serving, generation %u\n",
             (int)getpid(), generation);
    say(notify, message);
}

void notify_reloading(struct notify *notify)
{
    char message[MESSAGE_SIZE];

    snprintf(message, sizeof message, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=reloading\n",
             clock_monotonic_us());
    say(notify, message);
}

void notify_stopping(struct notify *notify)
{
    say(notify, "STOPPING=1\nSTATUS=draining\n");
}

void notify_main_pid(struct notify *notify, pid_t pid)
{
    char message[MESSAGE_SIZE];

    snprintf(message, sizeof message, "MAINPID=%d\n", (int)pid);
    say(notify, message);
}
