/* server/fresh.h - asks every worker to show what it has now, and waits for their answers, not for
 * ever: of a worker that hangs there is what it has shown last.
 *
 * Loop:   of the master's.
 * Memory: both structs are embedded by their users; one that waits must stay put, or be canceled.
 */
#ifndef WEFT_SERVER_FRESH_H
#define WEFT_SERVER_FRESH_H

#include "base/list.h"
#include "loop/timer.h"
#include <stdbool.h>

struct fresh;
struct watch;

/* Runs once for each fresh_start(), never from inside it. */
typedef void fresh_fn(struct fresh *fresh);

/* One who waits. Zeroed: does not. */
struct fresh {
    struct list _link;     /* among those who wait */
    fresh_fn *_fn;         /* what runs */
    uint64_t _deadline_ms; /* it runs then at the latest */
};

/* The master's. Embed it. */
struct fresh_desk {
    struct watch *_watch; /* whose workers */
    struct list _waiting; /* struct fresh */
    struct timer _timer;  /* looks for answers */
};

/* Nobody waits. */
void fresh_init(struct fresh_desk *desk, struct watch *watch);

/* Nobody waits any more; nothing runs. Zeroed is fine. */
void fresh_deinit(struct fresh_desk *desk);

/* Asks, and has `fn` run when all have answered, or half a second later. */
void fresh_start(struct fresh_desk *desk, struct fresh *fresh, fresh_fn *fn);

/* `fn` will not run. One that does not wait is fine. */
void fresh_cancel(struct fresh *fresh);

#endif
