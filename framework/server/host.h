/* server/host.h - what the master has, and the generations of workers share.
 *
 * Loop:   of the master's.
 * Memory: embedded in the master; lives as long as the host.
 */
#ifndef WEFT_SERVER_HOST_H
#define WEFT_SERVER_HOST_H

#include "loop/signals.h"
#include "server/control.h"
#include "server/notify.h"
#include "server/runtime.h"
#include "server/sockets.h"
#include "server/watch.h"
#include <sys/types.h>

struct shared;

struct admin;

struct host {
    struct loop *loop;       /* the master's */
    struct signals signals;  /* CHLD, TERM, INT, QUIT, HUP, USR1, USR2 */
    struct control control;  /* takes commands */
    struct notify notify;    /* tells the service manager how far we are */
    struct runtime runtime;  /* the host's folder */
    struct sockets sockets;  /* every address's */
    struct watch watch;      /* over the workers */
    struct admin *admin;     /* the master's listener of its own */
    struct list generations; /* struct generation, the oldest first */
    struct shared *shared;   /* what plugins of all workers share */
    pid_t pid;               /* the master's */
    char *program;           /* its file, by an absolute path: an upgrade runs it */
    char *const *argv;       /* what it was called with, for the same */
    uint32_t lives;          /* goes up with each worker's fork, from a start of its own */
    void (*abandon)(const struct host *host); /* in a forked child: host_abandon() calls it */
};

/* In a forked child: lets go of the master's loop, signals and descriptors, all but the listening
 * sockets and the channels of workers. */
void host_abandon(struct host *host);

#endif
