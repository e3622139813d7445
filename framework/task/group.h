/* task/group.h - one op for several.
 *
 * ALL: OK when every child is; the first error by argument order wins, siblings are canceled, and it settles after every
 *      child has. ANY: the first success wins, losers are really canceled; no success: the first error by argument
 *      order. With no child: ALL is OK at once, ANY fails with ERR_INVALID.
 * A child keeps its own consumer and may be in several groups. Canceling a group cancels its children.
 * Memory: in the scope's arena; children are of the same tasks and may be of other scopes below the same root.
 */
#ifndef WEFT_TASK_GROUP_H
#define WEFT_TASK_GROUP_H

#include "task/op.h"

enum group_kind { GROUP_ALL, GROUP_ANY };

/* Copies `children`. */
struct op *group_start(struct scope *scope, enum group_kind kind, struct op *const *children,
                       uint32_t count);

/* Is it a group? */
bool op_is_group(const struct op *op);

/* The index of the child that won an ANY, or failed an ALL; -1: none, or no group. */
int32_t group_winner(const struct op *op);

#endif
