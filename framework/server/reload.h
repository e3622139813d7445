/* server/reload.h - which generation serves: the first one, then those of reloads.
 *
 *   IDLE ──reload_ask()──▶ TRYING (a child tries settings and plugins)
 *     ▲                      │
 *     │                   CLEARING (until no other generation lives: two are the most)
 *     │                      │
 *     │                   STARTING (the new workers, until all are ready)
 *     │                      │
 *     └── served ──────── TAKING (the new ones accept, until the old ones hold)
 *     └── failed, from any: nothing has changed
 *
 * An upgrade (server/upgrade.h) goes the same way without a trial of ours: what starts and takes
 * over is another master, with workers of its own.
 *
 * The old generation then holds for rollback_window. Where a worker of the new one dies within it,
 * the old one takes back over; else it ends.
 * Loop:   of the master's.
 * Memory: embedded; owns the generations and their settings.
 */
#ifndef WEFT_SERVER_RELOAD_H
#define WEFT_SERVER_RELOAD_H

#include "server/generation.h"
#include "server/predecessor.h"
#include "server/successor.h"
#include "server/trial.h"

/* Tickets of reloads, for control_wait(), begin here. */
enum { RELOAD_TICKET_FIRST = 1000 };

enum reload_state {
    RELOAD_IDLE,
    RELOAD_TRYING,
    RELOAD_CLEARING,
    RELOAD_STARTING,
    RELOAD_TAKING,
    RELOAD_HANDING,   /* an upgrade: our workers hold, the new master opens its doors to commands */
    RELOAD_HANDED,    /* it has; ours hold for rollback_window, then all of us end */
    RELOAD_FOLLOWING, /* we are the new master, and not yet there */
};

/* What the master is told; `lost` and `stopped` also inside reload_begin() and reload_stop(). */
struct reload_events {
    void (*serving)(void *data);                   /* the first generation does */
    void (*lost)(void *data, const char *problem); /* nothing serves, or can */
    void (*stopped)(void *data); /* the last worker has ended, after reload_stop() */
    /* Upgrades. We are the host: its commands come to us. False: `problem` says why not. */
    bool (*take)(void *data, char problem[INI_PROBLEM_SIZE]);
    void (*yield)(void *data);    /* the other way: another master is about to take them */
    void (*replaced)(void *data); /* it has stood its test: we end, as by reload_stop() */
    void *data;                   /* for these */
};

enum reload_end { RELOAD_SERVED, RELOAD_FAILED, RELOAD_TAKEN_BACK, RELOAD_ENDS };

/* What became of reloads and upgrades. */
struct reload_history {
    uint32_t counts[RELOAD_ENDS];     /* by how they ended */
    uint64_t at_us;                   /* wall time of the last end */
    char text[INI_PROBLEM_SIZE + 96]; /* what that was, for people; "": there was none */
};

struct reload {
    struct host *host;              /* the master's */
    const char *path;               /* of the ini */
    const char *const *overrides;   /* of the command line */
    struct reload_events events;    /* of the master */
    struct generation *current;     /* serves */
    struct generation *old;         /* holds or ends; NULL: none */
    struct generation *next;        /* starts; NULL: none */
    struct settings *settings;      /* being tried; NULL: none */
    struct trial trial;             /* of them */
    struct successor successor;     /* the master that an upgrade starts */
    struct predecessor predecessor; /* the master that we follow, until it has gone */
    uint32_t declined;              /* bits: rows of sockets that the successor does not want */
    struct timer probation;         /* of the current one, while the old one holds */
    struct timer begin;             /* of the next reload: soon */
    enum reload_state state;        /* see above */
    uint32_t last_number;           /* of a generation */
    uint32_t killed;                /* workers that did not end by themselves */
    uint32_t ticket;                /* of those whom the reload under way answers */
    bool is_wanted;                 /* another was asked for meanwhile */
    bool is_upgrade_wanted;         /* and it is to be an upgrade */
    bool is_upgrade;                /* the one under way is */
    bool has_failed;                /* we were to follow another master, which knows why not */
    bool is_stopping;               /* nothing is started any more */
    struct reload_history history;  /* of reloads and upgrades */
};

/* Nothing serves yet. `path` and `overrides` as settings_load() takes them. */
void reload_init(struct reload *reload, struct host *host, const char *path,
                 const char *const *overrides, const struct reload_events *events);

/* Starts the first generation, with `settings`, which are its own from here. */
void reload_begin(struct reload *reload, struct settings *settings);

/* Has settings and plugins read anew, now or, where a reload is under way, after it. Returns the
 * ticket with which askers are answered: 0 when the new generation serves, 1 when nothing has
 * changed. */
uint32_t reload_ask(struct reload *reload);

/* The same with a new master, of the program as it is installed now. Who asks for a reload and has
 * it not yet gets this instead: it reads everything anew as well. */
uint32_t reload_ask_upgrade(struct reload *reload);

/* Ends all generations, by SIGTERM or SIGQUIT; what is under way is given up. Again: they are told
 * again. */
void reload_stop(struct reload *reload, int number);

/* A child has ended: one of ours? */
bool reload_reap(struct reload *reload, pid_t pid, int status);

/* Of the generation that serves; where that has gone already, or is not there yet, of the one that
 * is left or tried. NULL: none is. Until the loop turns. */
const struct settings *reload_settings(const struct reload *reload);

/* Sends `number` to every worker. */
void reload_signal(const struct reload *reload, int number);

/* Everything has stopped, or nothing was begun. */
void reload_deinit(struct reload *reload);

/* In a forked child. */
void reload_abandon(const struct reload *reload);

/* ---- for upgrade.c ---- */

/* Has folder and settings tried by a child, for generation `number`. */
enum err reload_try(struct reload *reload, uint32_t number, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* Starts a first generation with reload->settings, which have been tried where it `is_tried`. */
void reload_start_first(struct reload *reload, bool is_tried);

/* The reload under way is over: askers are answered, and the next one begins. */
void reload_finish(struct reload *reload, int code, const char *text);

/* Notes how one ended. */
void reload_note(struct reload *reload, enum reload_end end, const char *text);

/* The same as reload_finish() for one that has changed nothing. */
void reload_refuse(struct reload *reload, const char *problem);

/* Whoever it was that was waited for has gone: on from RELOAD_CLEARING. */
void reload_clear(struct reload *reload);

/* Begins what was asked for meanwhile, if something was. */
void reload_begin_soon(struct reload *reload);

/* Tells the owner once nothing is left, after reload_stop(). */
void reload_end_if_done(struct reload *reload);

#endif
