/* server/generation.h - the workers that run with one set of settings and plugins.
 *
 *   STARTING ──▶ READY ──▶ SERVING ⇄ HOLDING ──▶ ENDING ──▶ (all gone) GONE
 *       └──▶ FAILED ──────────────────────────────▲
 *
 * A reload makes a new one. The old one holds while the new one proves itself: it accepts nobody,
 * winds up what it has and could serve again at once; then it ends.
 * Loop:   of the master's.
 * Memory: allocated; owns its settings, slots, roster and folder.
 */
#ifndef WEFT_SERVER_GENERATION_H
#define WEFT_SERVER_GENERATION_H

#include "server/host.h"
#include "server/roster.h"
#include "server/slot.h"

struct generation;

enum generation_state {
    GENERATION_STARTING,
    GENERATION_READY,
    GENERATION_SERVING,
    GENERATION_HOLDING,
    GENERATION_FAILED,
    GENERATION_ENDING,
    GENERATION_GONE
};

/* What its owner is told; `failed` perhaps inside generation_start(). */
struct generation_events {
    void (*ready)(struct generation *generation); /* all workers are; see generation_go() */
    void (*failed)(struct generation *generation, const char *problem); /* before it was ready */
    void (*held)(struct generation *generation); /* nobody accepts any more */
    /* A worker that served has died. False: it is to be left so; true: it is started again. */
    bool (*died)(struct generation *generation, const struct slot *slot);
    void (*gone)(struct generation *generation); /* the last worker ended; it may be destroyed */
};

struct generation {
    struct list link;                       /* among the host's */
    struct host *host;                      /* whose */
    const struct generation_events *events; /* of its owner */
    void *owner;                            /* who that is */
    struct settings *settings;              /* its own */
    struct roster roster;                   /* shared with its workers */
    struct slot *slots;                     /* settings->workers of them */
    struct list leavers;                    /* struct slot: workers that were replaced, and end */
    struct timer patience;                  /* until workers that do not end are killed */
    struct timer hold;                      /* until those that do not answer count as holding */
    uint64_t since_ms;                      /* when its state began */
    uint32_t number;                        /* from 1 */
    uint32_t killed;                        /* workers that did not end by themselves */
    enum generation_state state;            /* see above */
    bool goes_at_once;                      /* each worker serves as soon as it is ready */
    char folder[PATH_MAX];                  /* for copies of plugins */
};

/* Takes over `settings`, and the folder `number` of the runtime folder, which exists. */
struct generation *generation_create(struct host *host, struct settings *settings, uint32_t number,
                                     const struct generation_events *events, void *owner);

/* It is gone, or was never started. Removes its folder. NULL is fine. */
void generation_destroy(struct generation *generation);

/* Starts the workers, all at once; or, where nobody has tried these settings before, the first
 * one, which serves as soon as it is ready, as do the others, started then. */
void generation_start(struct generation *generation, bool is_tried);

/* It is ready, or holds: its workers accept from here on; those that died meanwhile are started. */
void generation_go(struct generation *generation);

/* Its workers stop accepting, but from the sockets `kept`, finish what they have, and wait. The
 * event `held` comes once all have, or after a second without the others: they cannot accept
 * either, having seen the roster. */
void generation_hold(struct generation *generation, const int *kept, uint32_t kept_count);

/* Looks how much memory each worker uses; one that is above memory_max is replaced: another is
 * started beside it, and once that serves it finishes what it has and ends. */
void generation_check_memory(struct generation *generation);

/* The settings of another one that lives, as while a reload goes on; NULL: there is none. */
const struct settings *generation_beside(const struct generation *generation);

/* Sends `number` to every worker. */
void generation_signal(const struct generation *generation, int number);

/* In a forked child: closes our ends of the channels. */
void generation_abandon(struct generation *generation);

/* Its workers end, by SIGTERM or SIGQUIT, and are killed where they take too long. Ending already:
 * tells them again. */
void generation_end(struct generation *generation, int number);

/* The slot whose process `pid` is, in any generation; NULL: none's. */
struct slot *generation_find(struct host *host, pid_t pid);

/* ---- for slot.c ---- */

void generation_on_ready(struct generation *generation, struct slot *slot);
void generation_on_held(struct generation *generation);
void generation_on_ended(struct generation *generation, struct slot *slot, enum slot_state before);

#endif
