/* plugin/instance.h - one configured plugin: a section of the ini file, its code and what it
 * registered.
 *
 *   NEW ──▶ LOADED ──▶ READY ──▶ STARTED ──▶ STOPPING ──▶ STOPPED ──▶ gone
 *           (bound)    (init)    (start: its background scope lives)     (fini)
 *
 * A load or an init that fails takes back all that was registered. An instance with neither
 * a start() nor an inbox has no background scope.
 * Loop:   of the worker's loop.
 * Memory: the list of plugins/ owns it; routes point at it, so it lives until no request does.
 */
#ifndef WEFT_PLUGIN_INSTANCE_H
#define WEFT_PLUGIN_INSTANCE_H

#include "base/arena.h"
#include "base/list.h"
#include "plugin/plugins.h"
#include <stdarg.h>

struct abi;
struct scope;
struct slots;
struct weft_inbox;

enum instance_state {
    INSTANCE_NEW,
    INSTANCE_LOADED,
    INSTANCE_READY,
    INSTANCE_STARTED,
    INSTANCE_STOPPING,
    INSTANCE_STOPPED
};

/* A handle that the plugin holds, so that it is stale once the instance has gone. */
struct instance_handle {
    struct instance_handle *next; /* the one made before */
    struct slots *slots;          /* whose */
    uint64_t handle;              /* in there */
};

struct instance {
    uint32_t magic;                  /* INSTANCE_MAGIC */
    enum instance_state state;       /* see above */
    const char *name;                /* the section's */
    struct abi *abi;                 /* what plugins call */
    struct ini_section *section;     /* its settings */
    struct plugin_options options;   /* the host's part of them */
    char *file;                      /* the plugin's file, absolute */
    const void *descriptor;          /* a weft_plugin; NULL: not loaded */
    void *self;                      /* what its init() made */
    struct scope *background;        /* of its own jobs; NULL: none */
    struct weft_inbox *inbox;        /* where its threads post; NULL: none was opened */
    struct arena arena;              /* routes, statements, settings */
    struct instance_handle *handles; /* the newest first */
    uint64_t misuses;                /* calls that were answered with WEFT_E_STATE and a log line */
    char problem[INI_PROBLEM_SIZE];  /* the first thing that failed during init(); "" : nothing */
    struct list _link;               /* among the plugins */
};

#define INSTANCE_MAGIC 0x696e7374u

/* One for `section`, with its options read; `arenas` is where its memory comes from. On failure
 * `problem` says why, with file and line, and NULL is returned. */
struct instance *instance_create(struct abi *abi, struct ini_section *section,
                                 struct arena_pool *arenas, char problem[INI_PROBLEM_SIZE]);

/* Loads its code and runs its init(). On failure `problem` says why, and nothing that it registered
 * is left. */
enum err instance_load(struct instance *instance, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* Runs its start(), if it has one. */
enum err instance_start(struct instance *instance, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* Cancels its background scope, which ends in later turns. Fine in every state. */
void instance_stop(struct instance *instance);

/* Is there no background scope any more? */
bool instance_is_stopped(const struct instance *instance);

/* Runs its fini(), where init() succeeded, and frees all but its code. Every scope that runs its
 * code has ended. NULL is fine. */
void instance_destroy(struct instance *instance);

/* ---- for the ABI ---- */

/* Notes why init() is going to fail; the first reason stands. `line` is of the ini file; 0: the
 * section's. */
void instance_fail(struct instance *instance, uint32_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Its background scope, which instance_stop() has finished, has ended. */
void instance_background_ended(struct instance *instance);

/* A new handle of `object` in `slots`, ended with the instance. */
uint64_t instance_handle(struct instance *instance, struct slots *slots, void *object);

#endif
