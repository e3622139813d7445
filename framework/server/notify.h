/* server/notify.h - tells the service manager (systemd) how far the host is: sd_notify()'s
 * protocol, a datagram to the socket that $NOTIFY_SOCKET names.
 *
 * Loop:   of the master's; a manager that does not listen is not waited for.
 * Memory: embedded.
 */
#ifndef WEFT_SERVER_NOTIFY_H
#define WEFT_SERVER_NOTIFY_H

#include "loop/timer.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct watch;

/* Zeroed with _fd -1: nobody wants to know. */
struct notify {
    struct watch *_watch;  /* the master's: whether workers turn */
    struct timer _timer;   /* of the watchdog */
    uint32_t _watchdog_ms; /* within which the manager wants a sign of life; 0: it does not */
    int _fd;               /* to the manager; -1: there is none */
};

/* Looks for a manager in the environment. What is wrong there is logged, and none is told then.
 * From here it gets its signs of life, where it wants them: as long as the master turns, and with
 * it a worker where there are any. */
void notify_start(struct notify *notify, struct watch *watch);

/* Nothing is told any more. Twice, and closed, is fine. */
void notify_stop(struct notify *notify);

/* In a forked child, beside loop_abandon(): closes the descriptor and touches nothing else. */
void notify_abandon(const struct notify *notify);

/* READY: generation `number` serves, after a start, or as the end of a reload. */
void notify_ready(struct notify *notify, uint32_t generation);

/* RELOADING: notify_ready() says when that is over, whatever came of it. */
void notify_reloading(struct notify *notify);

/* STOPPING. */
void notify_stopping(struct notify *notify);

/* MAINPID: from here on `pid` is the host, as after an upgrade. To be said by who was it. */
void notify_main_pid(struct notify *notify, pid_t pid);

#endif
