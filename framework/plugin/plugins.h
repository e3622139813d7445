/* plugin/plugins.h - a worker's plugins: loading them, starting them, letting them go.
 *
 *   LOADED ──▶ STARTED ──▶ STOPPED ──▶ fini
 *
 * LOADED: copied, its note read, dlopen() and init(), which has registered routes. STARTED: its
 * background scope runs.
 *
 * Loop:   of the worker's loop; after fork, never in the master.
 * Memory: owns its instances; what services point at is the worker's and outlives it. Code is never
 *         unmapped.
 */
#ifndef WEFT_PLUGIN_PLUGINS_H
#define WEFT_PLUGIN_PLUGINS_H

#include "base/error.h"
#include "settings/field.h"
#include "settings/ini.h"
#include <stdbool.h>
#include <stdint.h>

struct blame;
struct helpers;
struct pg_pool;
struct plugins;
struct router;
struct tasks;
struct upstream;

/* The host's own keys of a [plugin.NAME] section; every other key is the plugin's. */
struct plugin_options {
    char *path;    /* the shared object; without a '/' it lies in plugin_dir */
    char *mount;   /* prefix of its routes: "" or "/then" */
    bool required; /* no: a plugin that cannot be loaded is logged and left out */
};

/* The table of these fields, for server/settings.c. Its section accepts further keys. */
extern const struct field_table plugin_option_table;

/* What a plugin says of itself. */
struct plugin_identity {
    const char *name;    /* of the plugin, not of the instance */
    const char *version; /* its own */
    uint16_t major;      /* of the ABI that it needs */
    uint16_t minor;      /* the same */
};

/* Who listens while plugins are loaded. A setting that is required and missing is then answered
 * with an empty text, so that all are heard of. */
struct plugin_watch {
    /* A plugin was found good; its code runs next. */
    void (*bound)(void *data, const struct plugin_identity *identity);
    /* A key is asked for; `expected` is what it may be, `fallback` NULL: it is required. */
    void (*asked)(void *data, const char *key, const char *expected, const char *fallback);
    /* A statement is declared; all texts are as the plugin gave them, `flags` PG_READ_ONLY,
     * PG_SLOW, PG_BINARY. */
    void (*declared)(void *data, const char *pool, const char *name, const char *sql,
                     uint32_t flags);
    void *data; /* for all three */
};

/* What a worker gives its plugins. */
struct plugin_services {
    struct tasks *tasks;         /* and its loop */
    struct helpers *helpers;     /* for offloaded work, and nothing else */
    struct router *router;       /* where routes go */
    struct blame *blame;         /* the page shared with the master; may be NULL */
    const struct ini_file *file; /* for messages and relative paths */
    const char *plugin_dir;      /* absolute */
    bool writable_by_all;        /* plugins may be everybody's to write: plugins_writable_by_all */
    const char *copy_dir;        /* <runtime_dir>/<generation>, exists: where private copies go */
    struct pg_pool *(*pool)(void *data, const char *name);      /* NULL: no such section */
    struct upstream *(*upstream)(void *data, const char *name); /* NULL: no such section */
    /* Memory by its name, shared with the plugins of all workers: ERR_INVALID, ERR_TOO_BIG, ERR_IO.
     * NULL: there are no others, and each call has its own. */
    enum err (*shared)(void *data, const char *name, size_t size, void **block);
    void *data;                       /* for the three */
    const struct plugin_watch *watch; /* NULL: nobody */
    const void *linked; /* the descriptor of a plugin in this very program, which is then bound
                         * instead of what `path` says; NULL: none, as in every host */
};

struct plugins *plugins_create(const struct plugin_services *services);

/* Loads one section's plugin and runs its init. On failure `problem` names file and line of the
 * ini, the plugin's file and the reason, in one line; its routes are taken back. A plugin that is
 * not required: logged, ERR_OK. */
enum err plugins_load(struct plugins *plugins, struct ini_section *section,
                      char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* Runs each plugin's start(); the first failure as above. */
enum err plugins_start(struct plugins *plugins, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* Cancels the background scopes (SCOPE_SHUTDOWN). They end in later turns. */
void plugins_stop(struct plugins *plugins);

/* Has every background scope ended? */
bool plugins_are_stopped(const struct plugins *plugins);

/* Runs each fini(), newest first, and frees all but the code. Every scope has ended. NULL is
 * fine. */
void plugins_destroy(struct plugins *plugins);

/* The name of the plugin whose offloaded work this thread runs; absent: none, or the loop's thread.
 * Async-signal-safe. */
struct span plugins_of_thread(void);

/* Notes in `page`, which may be NULL, what offloaded work this thread runs, for which request.
 * Async-signal-safe: for a thread that crashes. */
void plugins_blame_thread(struct blame *page);

/* How many are loaded. */
uint32_t plugins_count(const struct plugins *plugins);

#endif
