/* server/slot.h - one worker of a generation: its process, and what is heard of it.
 *
 *   EMPTY ──▶ STARTING ──▶ READY ──▶ SERVING ⇄ HOLDING
 *     ▲          │                      └──▶ WAITING     it died: a back-off, then STARTING
 *     │          └──▶ REFUSED                            it said why, and ended
 *     └── STOPPING ◀── any that has a process            EMPTY, too, from any that has lost its own
 *
 * STARTING is forked, READY has reported and waits for the word.
 *
 * Loop:   of the master's.
 * Memory: owned by its generation; the pages shared with the worker are its own.
 */
#ifndef WEFT_SERVER_SLOT_H
#define WEFT_SERVER_SLOT_H

#include "loop/loop.h"
#include "server/watch.h"
#include "settings/ini.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct generation;

enum slot_state {
    SLOT_EMPTY,
    SLOT_STARTING,
    SLOT_READY,
    SLOT_SERVING,
    SLOT_HOLDING,
    SLOT_WAITING,
    SLOT_REFUSED,
    SLOT_STOPPING
};

struct slot {
    struct generation *generation;      /* whose */
    struct list link;                   /* of a leaver: among the generation's */
    struct blame *blame;                /* shared with the worker */
    struct board *board;                /* the same */
    struct watched watched;             /* the process, while there is one */
    struct io io;                       /* of the channel */
    struct timer timer;                 /* the start's limit, or the back-off */
    int channel;                        /* our end of it; -1: none */
    pid_t pid;                          /* 0: none */
    uint64_t started_ms;                /* when it was forked */
    uint32_t deaths;                    /* in a row: index into the back-off's steps */
    uint32_t index;                     /* of the slot */
    enum slot_state state;              /* see above */
    bool is_leaver;                     /* slot_split() made it */
    char problem[INI_PROBLEM_SIZE + 8]; /* what the worker said last of why it cannot work */
};

/* Without a process; `index` of `generation`'s. */
void slot_init(struct slot *slot, struct generation *generation, uint32_t index);

/* No process is left. */
void slot_deinit(struct slot *slot);

/* Forks its worker. False: it cannot be, and `problem` says why. */
bool slot_start(struct slot *slot);

/* Has it look at the roster's word. */
void slot_wake(struct slot *slot);

/* Tells its worker to end, SIGTERM or SIGQUIT; nothing where there is none. */
void slot_stop(struct slot *slot, int number);

/* Its process has ended with `status`: says so in the log, and tells the generation. */
void slot_ended(struct slot *slot, int status);

/* Gives its worker, which serves, to `leaver`, fresh memory, so that another can be started in its
 * place beside it. */
void slot_split(struct slot *slot, struct slot *leaver);

/* Tells a leaver to end; killed where it has not after `ms`. */
void slot_leave(struct slot *leaver, uint64_t ms);

/* Starts it again: at once the first time, then after longer and longer waits, until one has lived
 * for half a minute. */
void slot_start_again(struct slot *slot);

/* In a forked child: closes our end of its channel. */
void slot_abandon(struct slot *slot);

#endif
