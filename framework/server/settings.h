/* server/settings.h - all that server.ini says, gathered from every room's table of fields.
 *
 * The master reads them once; a worker inherits them. A key that a plugin may ask for is known only
 * once the plugins are loaded, so what nobody asked for is found then (settings_unused()).
 * Memory: owns everything; lives until settings_free().
 */
#ifndef WEFT_SERVER_SETTINGS_H
#define WEFT_SERVER_SETTINGS_H

#include "http/options.h"
#include "net/addr.h"
#include "pg/options.h"
#include "plugin/plugins.h"
#include "server/rights.h"
#include "settings/ini.h"
#include "upstream/options.h"
#include <stdio.h>

enum { SETTINGS_LISTEN_MAX = 8, SETTINGS_WORKERS_MAX = 256 };

/* The keys of [server] that are the process's; those of HTTP are http/options.h's. */
struct server_options {
    char *listen;                 /* addresses, separated by blanks */
    uint32_t workers;             /* 0: auto */
    bool reuseport;               /* other hosts may bind the same addresses */
    uint32_t backlog;             /* of each listening socket */
    char *plugin_dir;             /* absolute; "" in the file: found from the binary */
    char *user;                   /* of workers, by name or number; "": the master's */
    char *group;                  /* the same; "": the user's */
    bool syscall_filter;          /* workers make no other system calls than those of filter.h */
    char *syscalls_allowed;       /* and these, with blanks between */
    uint32_t core_dumps;          /* of workers: RIGHTS_CORES_... */
    uint32_t files_max;           /* that a process may have open; 0: as many as it may have */
    uint64_t memory_max;          /* of a worker, in bytes: beyond it, it is replaced; 0: none */
    bool plugins_writable_by_all; /* such files and folders are not refused */
    char *runtime_dir;            /* absolute; "": chosen (server/runtime.h) */
    char *resolver;               /* name servers, as resolver_create() wants them; "": none */
    char *admin;                  /* where the admin listener is; "": nowhere */
    char *control;                /* the control socket, absolute; "": in the host's folder */
    uint32_t start_timeout_ms;    /* of a worker, until it is ready */
    uint32_t drain_timeout_ms;    /* of a worker, from the signal to its end */
    uint32_t pre_stop_delay_ms;   /* from SIGTERM to the drain */
    uint32_t rollback_window_ms;  /* of a new generation, to prove itself; 0: it need not */
    uint32_t crash_limit;         /* deaths in one route before it is closed; 0: never */
    uint32_t crash_window_ms;     /* within which they count */
    uint64_t shared_memory;       /* bytes for what plugins share between workers */
    bool coalesce;                /* wakes are put together under load */
    uint32_t stall_warn_ms;       /* a turn's time before it is logged; 0: never */
    uint32_t stall_kill_ms;       /* and before its worker is replaced; 0: never */
    uint32_t fibers_max;          /* handlers of a worker that wait at once */
    uint64_t fiber_stack;         /* bytes of each one's stack */
    uint32_t log_level;           /* enum log_level */
    uint32_t log_format;          /* 0: key=value, 1: JSON; of both logs */
    char *error_log;              /* "stderr" or an absolute path */
    char *access_log;             /* "stderr", "off" or an absolute path */
};

/* A [pg.NAME] section. */
struct settings_pg {
    const char *name;          /* "main" */
    struct pg_options options; /* its keys */
};

/* An [upstream.NAME] section. */
struct settings_upstream {
    const char *name;                /* "partner" */
    struct upstream_options options; /* its keys */
};

struct settings {
    struct ini_file *file; /* the text; its [plugin.NAME] sections are read by the plugin room */
    struct server_options server;            /* [server] */
    struct http_options http;                /* [server] */
    struct addr listen[SETTINGS_LISTEN_MAX]; /* `listen`, taken apart */
    uint32_t listen_count;                   /* of listen */
    struct addr admin;                       /* `admin`, taken apart; of length 0: none */
    uint32_t workers;                        /* `workers`, counted */
    struct rights rights;                    /* `user` and `group`, looked up */
    struct settings_pg *pgs;                 /* pg_count of them, in the order of the file */
    uint32_t pg_count;                       /* of pgs */
    bool is_of_one_plugin;                   /* made by settings_for_plugin() */
    struct settings_upstream *upstreams;     /* upstream_count of them, in the order of the file */
    uint32_t upstream_count;                 /* of upstreams */
};

/* Reads and checks `path`, with each of `overrides` ("section.key=value"; NULL at their end, or
 * NULL: none) in place of what stands there. On failure `problem` is one line that names file and
 * line, or -o, the key and what was expected. */
enum err settings_load(const char *path, const char *const *overrides, struct settings **settings,
                       char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* The defaults, and a section [plugin.NAME] for the plugin `path`, a file of that name, for `weft
 * check FILE.so`; `overrides` as above. Messages name the file. */
enum err settings_for_plugin(const char *path, const char *const *overrides,
                             struct settings **settings, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* A worker, once it has given up rights: can it, too, read the files that its databases' sections
 * name? ERR_SYNTAX: `problem` says which it cannot, and why, as above. */
enum err settings_check_files(const struct settings *settings, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* NULL is fine. */
void settings_free(struct settings *settings);

/* Each [plugin.NAME] section after `section` (NULL: the first); NULL at the end. */
struct ini_section *settings_next_plugin(const struct settings *settings,
                                         const struct ini_section *section);

/* Writes config/server.ini: every key of every room, commented out at its default. */
void settings_print_defaults(FILE *out);

#endif
