/* server/board.h - what a worker shows of itself: memory that the master shares with it.
 *
 * Loop:   written by one worker's loop thread; read by the master, at any time.
 * Memory: shared and anonymous, made before the fork, one a worker slot. A plugin may have
 *         overwritten it: whoever reads trusts no byte of it.
 */
#ifndef WEFT_SERVER_BOARD_H
#define WEFT_SERVER_BOARD_H

#include "http/server.h"

struct board {
    struct http_server_counts http; /* counted in place */
};

/* Zeroed. Aborts where there is no memory to share. */
struct board *board_create(void) __attribute__((returns_nonnull));

/* Unmaps it; NULL is fine. */
void board_destroy(struct board *board);

/* Makes it as new, for the slot's next worker. NULL is fine. */
void board_reset(struct board *board);

#endif
