/* task/inside.h - what the files of this room ask of one another, and nobody else does.
 *
 * Loop:   of one loop.
 * Memory: see scope.h and op.h.
 */
#ifndef WEFT_TASK_INSIDE_H
#define WEFT_TASK_INSIDE_H

#include "task/op.h"
#include "task/scope.h"
#include <stdbool.h>

/* ---- scope.c, for op.c ---- */

/* Is it canceled, or ending? Cancels it first where its deadline has passed by now. */
bool scope_is_closed(struct scope *scope);

/* An op became pending, or is to be told once more. */
void scope_add_pending(struct scope *scope);

/* An op was told. */
void scope_drop_pending(struct scope *scope);

/* An op still holds something of the host. */
void scope_add_unretired(struct scope *scope);

/* It was retired. */
void scope_drop_unretired(struct scope *scope);

/* An op of it holds `bytes` of a result. Beyond the limit the scope, or its root, is canceled: from
 * the ready list, since a provider is at work. */
void scope_add_results(struct scope *scope, size_t bytes);

/* It has let go of them. */
void scope_drop_results(struct scope *scope, size_t bytes);

/* Goes on with a fiber that suspended in this scope, with the blame page set. */
void scope_resume(struct scope *scope, struct fiber *fiber);

/* ---- scope.c, for tasks.c ---- */

/* Frees the structs that wait for use. */
void scope_free_recycled(struct tasks *tasks);

/* ---- op.c, for scope.c ---- */

/* Ends a retired op as its scope ends: watchers that came too late, release, handle. */
void op_destroy(struct op *op);

#endif
