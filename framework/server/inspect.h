/* server/inspect.h - `weft check FILE.so`: what a plugin says of itself and asks for while it is
 * loaded, and stand-ins for the pools and upstreams that no settings name.
 *
 * Loop:   of the worker that is tried.
 * Memory: owns the stand-ins; what it prints is read before the plugin goes.
 */
#ifndef WEFT_SERVER_INSPECT_H
#define WEFT_SERVER_INSPECT_H

#include "plugin/plugins.h"
#include <stdio.h>

struct helpers;
struct inspection;
struct loop;
struct resolver;
struct tasks;

struct inspection *inspection_create(void);

/* No plugin lives, the loop's helpers do. NULL is fine. */
void inspection_destroy(struct inspection *inspection);

/* What the plugins are to be loaded with. */
const struct plugin_watch *inspection_watch(const struct inspection *inspection);

/* A pool that never opens a session, for a section that is missing; noted. */
struct pg_pool *inspection_pool(struct inspection *inspection, struct loop *loop,
                                struct helpers *helpers, const char *name);

/* An upstream that is never called, in the same way. */
struct upstream *inspection_upstream(struct inspection *inspection, struct tasks *tasks,
                                     struct resolver *resolver, const char *name);

/* Writes what was noted so far, one line each: plugin, abi, setting, pool, upstream. */
void inspection_print(const struct inspection *inspection, FILE *out);

#endif
