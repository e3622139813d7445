/* server/show.h - a worker writes on its board what it has: pools, statements, upstreams, live ctx,
 * and where the master asked for it, the requests under way.
 *
 * Loop:   of the worker's loop.
 * Memory: keeps nothing.
 */
#ifndef WEFT_SERVER_SHOW_H
#define WEFT_SERVER_SHOW_H

#include <stdint.h>

struct parts;

/* To be called some times a second: writes once a second, or where the master asks. `*due_ms` is
 * the caller's note, 0 at first. A worker without a board: nothing. */
void show_tick(const struct parts *parts, uint64_t *due_ms);

#endif
