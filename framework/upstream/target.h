/* upstream/target.h - one address of an upstream, and the choice among them.
 *
 * The choice: of two taken at random the one with fewer calls under way, which spreads load nearly
 * as well as asking all of them, and does not send everybody to the same one.
 *
 * Loop:   of one loop.
 * Memory: the set owns its targets; one that vanished lives on until its last connection is closed.
 * Limits: TARGETS_MAX in a set; what is beyond is left out.
 */
#ifndef WEFT_UPSTREAM_TARGET_H
#define WEFT_UPSTREAM_TARGET_H

#include "base/list.h"
#include "net/addr.h"
#include "net/tls.h"
#include "upstream/health.h"
#include "upstream/names.h"
#include <stdbool.h>
#include <stdint.h>

struct check;

/* Addresses of one upstream. */
enum { TARGETS_MAX = 256 };

/* One address. */
struct target {
    struct addr addr;          /* what is connected to */
    char text[ADDR_TEXT_SIZE]; /* the same for people */
    uint32_t id;               /* from 1, never used again */
    uint32_t places;      /* connections to it, those on their way too; the origin's to count */
    uint32_t idle_count;  /* of them, kept */
    struct list idle;     /* these: struct origin_conn, the one used last first */
    bool is_gone;         /* it is no longer one of the upstream's */
    struct health health; /* by what calls met */
    struct tls_sessions sessions; /* of TLS with it */
    struct check *check;          /* asks it again and again; NULL: nobody does */
};

/* Those of one upstream. Embed it; zeroed it is empty. */
struct targets {
    struct target **at; /* `count` of them */
    uint32_t count;     /* of at */
    bool no_private;    /* private addresses (net/addr.h) are left out */
    bool has_left_out;  /* the last update did so with some */
    uint32_t _last_id;  /* given away */
    uint64_t _random;   /* for the choice; never 0 */
};

/* An empty set; `seed` is for the choice. */
void targets_init(struct targets *targets, uint64_t seed);

/* Lets go of all, none of which has a connection (checked). Zeroed and twice is fine. */
void targets_deinit(struct targets *targets);

/* Takes over what `names` knows. `on_gone` runs for each target that is left out from now on, to
 * close its idle connections; it must be let go of by targets_forget() when it has no
 * connection. */
void targets_update(struct targets *targets, const struct names *names,
                    void (*on_gone)(struct target *target, void *data), void *data);

/* Frees `target` if it is gone and has no connection. */
void targets_forget(struct target *target);

/* Whom to choose. */
struct target_wish {
    uint64_t now_ms;       /* the loop's time */
    uint32_t places_max;   /* of a target; 0: no limit */
    bool may_be_idle;      /* a kept connection will do */
    bool may_open;         /* a new connection will do */
    const uint32_t *avoid; /* ids, `avoid_count` of them: rather not these */
    uint32_t avoid_count;  /* of avoid */
    bool must_avoid;       /* not these, even where there is no other */
    bool _is_panic;        /* whether they are fit or not */
};

/* One that has what is wished for, or NULL. One that is not fit to be called is not chosen while
 * there is another one that is. */
struct target *targets_pick(struct targets *targets, const struct target_wish *wish);

/* Is there one, other than `target`, that is fit to be called? */
bool targets_have_other(const struct targets *targets, const struct target *target,
                        uint64_t now_ms);

#endif
