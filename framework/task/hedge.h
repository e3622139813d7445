/* task/hedge.h - a second op for one that is slow.
 *
 * An ANY group (task/group.h) of `first` and of what a function starts later: `ms` after the hedge,
 * or as soon as `first` has failed. Where `first` succeeds before, the function never runs.
 * Loop:   of one loop.
 * Memory: in the scope's arena; both ops are of scopes below the same root.
 */
#ifndef WEFT_TASK_HEDGE_H
#define WEFT_TASK_HEDGE_H

#include "task/op.h"

/* Starts the second op in `scope` and answers it; NULL: there is none, which counts as a failure.
 * Runs at most once, on a fiber of the scope, from the loop's stack; may wait. Where the hedge was
 * decided meanwhile, what it answers is canceled. */
typedef struct op *hedge_fn(struct scope *scope, void *data);

/* See above. group_winner() of it: 0 is `first`, 1 the other one. `first` may have settled, then it
 * fails with ERR_STATE where group_start() does, and ERR_INVALID where `fn` starts nothing. */
struct op *hedge_start(struct scope *scope, struct op *first, uint32_t ms, hedge_fn *fn,
                       void *data);

#endif
