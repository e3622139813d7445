/* server/shared.h - memory that plugins of all workers share, by name: for counters that are the
 * whole host's.
 *
 * Made by the master before it has workers, so that all have it at the same place, and those that
 * come later, of a reload too, find what was counted. A name with a size is one block; blocks are
 * never given back, and live as long as the master.
 * Loop:   of workers', while plugins are loaded; several at once are fine.
 * Memory: shared and anonymous; a block that nobody has written costs nothing. A plugin may have
 *         overwritten all of it: what stands in it is checked, and the master reads none of it.
 * Limits: SHARED_BLOCKS_MAX blocks, names of SHARED_NAME_MAX bytes; [server] shared_memory in all.
 */
#ifndef WEFT_SERVER_SHARED_H
#define WEFT_SERVER_SHARED_H

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

struct shared;

enum { SHARED_BLOCKS_MAX = 256, SHARED_NAME_MAX = 63 };

/* `size` bytes for blocks. NULL: the system has not that much; errno says why. */
struct shared *shared_create(size_t size);

/* Unmaps it, in this process. NULL is fine. */
void shared_destroy(struct shared *shared);

/* The block `name` of `size` bytes, aligned to 64, in `*block`; zeroed when it is new. ERR_INVALID:
 * no name, or one that is too long, or no size; ERR_TOO_BIG: there is no room for it; ERR_IO: what
 * keeps the blocks apart was overwritten. */
enum err shared_find(struct shared *shared, const char *name, size_t size, void **block)
    __attribute__((warn_unused_result));

#endif
