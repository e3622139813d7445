/* server/roster.h - memory that the master and the workers of one generation share: what the
 * master wants of them, and which of them accept at this moment.
 *
 * The master's word is a state, not a message: whoever was stalled, or missed that it was woken,
 * finds it all the same. A worker that accepts says so every ROSTER_TICK_MS; after ROSTER_STALE_MS
 * without a word its neighbours accept for it (server/cover.h).
 * Loop:   `order` is written by the master, a beat by one worker; read by all at any time.
 * Memory: shared and anonymous, made before the first fork of the generation. A worker seals the
 *         order, so that no plugin can write there; of the beats nobody trusts a byte.
 */
#ifndef WEFT_SERVER_ROSTER_H
#define WEFT_SERVER_ROSTER_H

#include "server/settings.h"
#include <stdbool.h>
#include <stdint.h>

/* From the stop of a worker to its neighbour's next look, at most both together. */
enum { ROSTER_TICK_MS = 25, ROSTER_STALE_MS = 75, ROSTER_KEPT_MAX = 4096 };

/* What the workers of a generation are to do: start up and wait; accept; stop accepting, and finish
 * what they have, but stay: they may be wanted again. */
enum roster_word { ROSTER_WAIT, ROSTER_GO, ROSTER_HOLD };

struct roster_order {
    uint32_t word;             /* enum roster_word */
    uint32_t kept_count;       /* of kept */
    int kept[ROSTER_KEPT_MAX]; /* listening sockets to go on with while holding: nobody else
                                 * accepts from them */
};

/* One worker's; of a cache line, so that they do not disturb each other. */
struct roster_beat {
    _Alignas(64) uint64_t accepts_us; /* when it said last that it accepts, monotonic; 0: not */
};

struct roster {
    struct roster_order *order; /* shared */
    struct roster_beat *beats;  /* shared, SETTINGS_WORKERS_MAX of them */
};

/* Maps both; the word is ROSTER_WAIT. Aborts where there is no memory to share. */
void roster_init(struct roster *roster);

/* Unmaps both. Twice, and zeroed, is fine. */
void roster_deinit(struct roster *roster);

/* The master: the word from here on; `kept` for ROSTER_HOLD. */
void roster_say(struct roster *roster, enum roster_word word, const int *kept, uint32_t count);

/* The master, or the worker itself: worker `index` does not accept any more. */
void roster_leave(struct roster *roster, uint32_t index);

/* The worker: may nothing of ours be written to the order any more? It is so from here. */
void roster_seal(const struct roster *roster);

/* The word now. */
enum roster_word roster_word(const struct roster *roster);

/* While holding, is `fd` to be gone on with? */
bool roster_is_kept(const struct roster *roster, int fd);

/* The worker: it accepts, at `now_us`. */
void roster_beat(struct roster *roster, uint32_t index, uint64_t now_us);

/* Has worker `index` said so lately? */
bool roster_accepts(const struct roster *roster, uint32_t index, uint64_t now_us);

#endif
