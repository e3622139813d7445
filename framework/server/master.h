/* server/master.h - the process that holds the sockets and watches the workers. It never runs
 * plugin code and has one thread.
 *
 * A slot has its listening sockets, its page of blame and, for each generation that lives, one
 * worker.
 *
 *   slot: EMPTY ──▶ STARTING (forked, not ready) ──▶ SERVING ──▶ (died) WAITING (back-off) ──▶ STARTING
 *                       └──▶ REFUSED (exit 78: not started again)          any ──▶ STOPPING ──▶ EMPTY
 *
 * Loop:   its own.
 */
#ifndef WEFT_SERVER_MASTER_H
#define WEFT_SERVER_MASTER_H

#include "server/settings.h"

/* Runs the host until SIGTERM, SIGINT or SIGQUIT. Returns the exit code: 0; 1 where it could not
 * start (said on stderr or in the error log). */
int master_run(const struct settings *settings);

/* `weft check`: runs a worker's start in a process of its own. 0, or 1 with the reason on
 * stderr. */
int master_check(const struct settings *settings);

#endif
