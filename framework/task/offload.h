/* task/offload.h - work that blocks, on a helper thread, as an op.
 *
 *   in line ──▶ a thread runs it ──▶ done: settled with what it returned
 *      └──▶ canceled: taken back       └──▶ canceled: settled at once, retired when it has returned
 *
 * Loop:   all but the work itself on the loop's thread.
 * Memory: in the scope's arena, which stays until the work has returned, however the op settled.
 * Limits: OFFLOADS_MAX in line and under way on one set of threads; beyond, ERR_OVERLOAD.
 */
#ifndef WEFT_TASK_OFFLOAD_H
#define WEFT_TASK_OFFLOAD_H

#include "task/op.h"

struct helpers;

/* Of a worker: each holds some hundred bytes of a request that waits for it. */
enum { OFFLOADS_MAX = 1024 };

/* The work, on a helper thread: it touches nothing but `data`, which must live as long as the
 * scope. What it returns is the op's status. */
typedef enum err offload_fn(void *data);

/* Has `fn(data)` run on a thread of `helpers`, which take no other work than this. */
struct op *offload_start(struct scope *scope, struct helpers *helpers, offload_fn *fn, void *data);

#endif
