/* server/status.h - what `weft status` and /status say of the host, as a table or as JSON.
 *
 * All of it is read from memory that the workers share with the master; fresh.h has them show it
 * anew first.
 * Memory: status_gather() takes, status_release() frees; the watch must stay as it is between them.
 */
#ifndef WEFT_SERVER_STATUS_H
#define WEFT_SERVER_STATUS_H

#include "base/buf.h"
#include "server/census.h"
#include <stdbool.h>

struct reload_history;
struct watch;

struct status {
    const struct watch *watch;            /* the master's */
    struct census census;                 /* of all workers, those that are gone too */
    uint32_t slots;                       /* places for workers */
    uint32_t generation;                  /* that serves */
    const struct reload_history *history; /* of reloads; NULL: not told */
    bool with_requests;                   /* those under way are told one by one */
};

/* Reads everything. `slots`, `generation` and `with_requests` are set. */
void status_gather(struct status *status, const struct watch *watch);

/* Frees what was gathered. */
void status_release(struct status *status);

/* Appends it as tables for people. */
void status_text(const struct status *status, struct buf *out);

/* Appends it as one JSON object, with a newline behind it. */
void status_json(const struct status *status, struct buf *out);

/* ---- what both say; status.c ---- */

struct watched;

/* "serving", "hangs", ... */
const char *status_worker_state(const struct watched *worker);

/* "serving", ... of the host. */
const char *status_phase(const struct watch *watch);

/* For how long the worker has been in its turn; 0: it is not, or nobody knows. */
uint64_t status_turn_ms(const struct watched *worker);

#endif
