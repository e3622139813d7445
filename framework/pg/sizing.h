/* pg/sizing.h - do all sessions that the settings allow fit into their servers?
 *
 * Each server that a pool names is asked, on a session of its own that is closed at once, which one
 * it is and what it allows. Then the pools that turn out to share a server, a role or a database
 * are added up, those of the generation that lives beside this one too, and what does not fit is
 * said in the log. Nobody waits for that; a server that cannot be reached is asked again later.
 * Loop:   of one loop.
 * Memory: a sizing owns what it has heard; options and names are the caller's and outlive it.
 * Limits: one session at a time.
 */
#ifndef WEFT_PG_SIZING_H
#define WEFT_PG_SIZING_H

#include "pg/options.h"
#include <stdbool.h>
#include <stdint.h>

struct helpers;
struct loop;
struct pg_sizing;

/* The sessions that one pool of each worker may open. Behind a pooler (prepared = off) there is
 * nothing to ask: such a claim does not count. */
struct pg_claim {
    const char *name;                 /* of the pool */
    const struct pg_options *options; /* its settings */
    uint32_t workers;                 /* that have such a pool */
    bool is_beside; /* of another generation, which lives while a reload goes on */
};

/* Begins to ask, in this turn at the earliest. `claims` are not looked at after the call. */
struct pg_sizing *pg_sizing_start(struct loop *loop, struct helpers *helpers,
                                  const struct pg_claim *claims, uint32_t count);

/* Asks no more; the helpers end after it. NULL is fine. */
void pg_sizing_destroy(struct pg_sizing *sizing);

#endif
