/* task/group.h - one op for several.
 *
 * ALL: OK when every child is; the first error by argument order wins, siblings are canceled, and
 *      it settles after every child has. In a scope with SCOPE_SUPERVISE siblings go on.
 * ANY: the first success wins, losers are really canceled; no success: the first error by argument
 *      order. What a group canceled itself is no error of the child's.
 * RACE: the first child that settles, OK or not, is the outcome; the others are canceled. Of those
 *      that have settled before it starts, the first by argument order.
 * With no child: ALL is OK at once, ANY and RACE fail with ERR_INVALID. Where the children that
 * have settled already decide it, a group is born settled.
 * A child keeps its own consumer and may be in several groups. Canceling a group cancels its
 * children.
 * Loop:   of one loop; children are told of from the ready list.
 * Memory: in the scope's arena; children are of scopes below the same root. A child may be released
 *         once the group was told of it.
 * Limits: GROUP_CHILDREN_MAX children; groups in groups GROUP_DEPTH_MAX deep.
 */
#ifndef WEFT_TASK_GROUP_H
#define WEFT_TASK_GROUP_H

#include "task/op.h"

/* When it settles, and how: see above. */
enum group_kind { GROUP_ALL, GROUP_ANY, GROUP_RACE };

/* Beyond these a group fails with ERR_INVALID. */
enum { GROUP_CHILDREN_MAX = 65536, GROUP_DEPTH_MAX = 64 };

/* Starts one in `scope`; copies `children`, which may be NULL where `count` is 0. ERR_INVALID: see
 * above; ERR_STATE: a child of another root's tree. */
struct op *group_start(struct scope *scope, enum group_kind kind, struct op *const *children,
                       uint32_t count);

/* Is it a group? */
bool op_is_group(const struct op *op);

/* The index of the child that won an ANY or a RACE, or failed an ALL (of an ANY that failed: whose
 * error it has); -1: none, or not settled, or canceled, or no group. */
int32_t group_winner(const struct op *op);

/* The handle of the child whose outcome a settled group has, through groups in groups; 0: none, or
 * no group. The child may have been released. */
uint64_t group_child(const struct op *op);

#endif
