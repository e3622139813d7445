/* plugin/abi.h - the ABI as the rest of the room sees it: without weft.h.
 *
 * What plugins call is in abi_core.c, abi_http.c, abi_pg.c and abi_call.c, one a table; abi.c has
 * what they share, abi_status.c the statuses, and abi_run.c what is called of a plugin.
 * Loop:   one of it a thread, since a plugin's call brings no more than a handle: the loop's thread
 *         finds it in a thread-local variable, and another thread finds that it is not the loop's.
 * Memory: outlives every instance.
 */
#ifndef WEFT_PLUGIN_ABI_H
#define WEFT_PLUGIN_ABI_H

#include "plugin/instance.h"
#include "plugin/plugins.h"

/* The name of the symbol that a plugin exports. */
#define ABI_SYMBOL "weft_plugin_1"

/* The contract that this host keeps. */
enum { ABI_MAJOR = 1, ABI_MINOR = 0 };

/* For this thread, which has none (checked). A copy of `services` is kept. */
struct abi *abi_create(const struct plugin_services *services);

/* Every instance is gone. NULL is fine. */
void abi_destroy(struct abi *abi);

/* What abi_create() was given. */
const struct plugin_services *abi_services(const struct abi *abi);

/* Takes `descriptor`, which a plugin exports, and hands it the tables. ERR_UNSUPPORTED: not one, or
 * of another ABI: the instance's problem says so. */
enum err abi_bind(struct instance *instance, const void *descriptor)
    __attribute__((warn_unused_result));

/* Runs init(). ERR_INVALID: the instance's problem says why. */
enum err abi_init(struct instance *instance) __attribute__((warn_unused_result));

/* Runs start(), where there is one, in the new instance->background, and opens the inbox, where
 * there is one, to it. ERR_INVALID: the same. */
enum err abi_start(struct instance *instance) __attribute__((warn_unused_result));

/* Its inbox, if it has one, takes no more; what waits there is dropped. Twice is fine. */
void abi_inbox_stop(struct instance *instance);

/* Ends the inbox; nothing of it runs any more, and fini() has. Twice is fine. */
void abi_inbox_destroy(struct instance *instance);

/* Runs fini(), where there is one. */
void abi_fini(struct instance *instance);

#endif
