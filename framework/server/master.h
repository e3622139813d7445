/* server/master.h - the process that holds the sockets and watches the workers. It never runs
 * plugin code and has one thread.
 *
 * What runs with one set of settings is a generation (server/generation.h); which one serves is
 * decided in server/reload.h.
 * Loop:   its own.
 */
#ifndef WEFT_SERVER_MASTER_H
#define WEFT_SERVER_MASTER_H

#include "server/settings.h"

/* Runs the host until SIGTERM, SIGINT or SIGQUIT, or `weft stop`. Takes over `settings`, which were
 * loaded from `path` and `overrides` (settings_load()); these are read again by each reload, and
 * `argv`, of main(), by an upgrade. Where the environment says that this process is to follow
 * another master (server/upgrade.h), it does. Returns the exit code: 0; 1 where it could not start
 * (said on stderr or in the error log), or workers had to be killed. */
int master_run(struct settings *settings, const char *path, const char *const *overrides,
               char *const *argv);

/* `weft check`: runs a worker's start in a process of its own. 0, or 1 with the reason on
 * stderr. */
int master_check(const struct settings *settings);

#endif
