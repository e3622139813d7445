/* server/parts.h - all that lives on a worker's loop but its sockets: made in one order, let go in
 * the other.
 *
 * Loop:   of the worker's.
 * Memory: owns every part; what the setup points at is the master's, but for the inspection,
 *         which it owns.
 */
#ifndef WEFT_SERVER_PARTS_H
#define WEFT_SERVER_PARTS_H

#include "http/server.h"
#include "loop/loop.h"
#include "plugin/plugins.h"
#include "server/settings.h"

struct access_log;
struct blame;
struct board;
struct helpers;
struct inspection;
struct pg_sizing;
struct quarantine_list;
struct resolver;
struct shared;
struct tasks;
struct worker_setup;

struct parts {
    const struct settings *settings; /* the master's */
    struct loop *loop;               /* the worker's one loop */
    struct helpers *offload_helpers; /* threads for what plugins offload, however long it takes */
    struct tasks *tasks;             /* scopes, ops, fibers */
    struct resolver *resolver;       /* names of upstreams */
    struct pg_pool **pools;          /* one for each of settings->pgs */
    struct helpers **pool_helpers;   /* threads of each, which open its sessions: none waits for the
                                      * silent server of another */
    const struct settings *beside;   /* of another generation that lives; the master's, or NULL */
    struct pg_sizing *sizing;        /* of the pools: in the first worker, until it is wound up */
    struct helpers *sizing_helpers;  /* a thread of its own */
    struct upstream **upstreams;     /* one for each of settings->upstreams */
    struct shared *shared;           /* what plugins of all workers share */
    struct router *router;           /* every plugin's routes */
    struct plugins *plugins;         /* loaded, in the order of the file */
    struct inspection *inspection;   /* makes pools and upstreams that are missing; NULL: none */
    struct access_log *access;       /* NULL: off */
    struct http_server *http;        /* NULL until parts_serve() */
    struct hook flush;               /* writes a turn's access lines at its end */
    bool is_first;                   /* of the workers */
    bool is_shared_own;              /* `shared` is nobody else's */
    struct board *board;             /* what the master is shown; NULL: nobody looks */
    const struct quarantine_list *quarantine; /* routes that are closed; NULL: none */
    uint32_t quarantine_version;              /* of the list, as it was applied */
};

/* Makes all but the HTTP server, and loads the plugins: their init runs. On failure `problem` says
 * what is wrong; parts_deinit() is due all the same. */
enum err parts_init(struct parts *parts, const struct worker_setup *setup,
                    char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* Makes the HTTP server, opens the logs, and starts pools and plugins. */
enum err parts_serve(struct parts *parts, uint64_t id_base, void (*on_room)(void *data), void *data,
                     char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* Are others to take over? What they need of others' is let go of as soon as it is idle. False
 * takes that back. */
void parts_wind_up(struct parts *parts, bool is_so);

/* Does a scope live, of a request or a plugin? */
bool parts_are_busy(const struct parts *parts);

/* Lets go of everything; no scope lives (checked by the parts). */
void parts_deinit(struct parts *parts);

#endif
