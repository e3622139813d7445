/* task/tasks.h - what all scopes and ops of one worker share.
 *
 * Loop:   of one loop and its thread.
 * Memory: outlives every scope; the loop, and the page of blame, outlive it.
 */
#ifndef WEFT_TASK_TASKS_H
#define WEFT_TASK_TASKS_H

#include "base/arena.h"
#include "base/heap.h"
#include "base/list.h"
#include "loop/timer.h"
#include "task/line.h"
#include <stdint.h>

struct blame;
struct fiber_options;
struct fiber_pool;
struct loop;
struct scope;
struct slots;

/* Kinds of handles. */
enum { TASK_HANDLE_OP = 1, TASK_HANDLE_SCOPE = 2 };

/* One worker's. To be read by all, written by this room alone. */
struct tasks {
    struct loop *loop;             /* its loop */
    struct fiber_pool *fibers;     /* where callbacks run */
    struct slots *op_handles;      /* handle -> struct op */
    struct slots *scope_handles;   /* handle -> struct scope */
    struct blame *blame;           /* the page shared with the master; may be NULL */
    struct arena_pool arenas;      /* recycled blocks */
    struct heap heap;              /* what these hold of it, the stacks, and who else counts here */
    struct line *lines[LINES_MAX]; /* those that somebody has joined, each at its bit; or NULL */
    uint32_t line_after_ms;   /* the least wait that makes a line stand; 0: none does. The owner of
                             * the tasks writes it */
    struct list scopes;       /* the roots that live */
    struct list _free_scopes; /* recycled structs */
    uint32_t _free_count;     /* of them */
    uint32_t scopes_count;    /* living ones, children included */
    uint64_t ops_started;     /* since the worker's start */
    struct scope *_current;   /* whose fiber runs; NULL: none does */
    struct timer _trim;       /* gives back stacks, and what is free of the heap */
};

/* `blame` and `fibers` (options) may be NULL. */
struct tasks *tasks_create(struct loop *loop, const struct fiber_options *fibers,
                           struct blame *blame);

/* Every scope must have ended (checked). NULL is fine. */
void tasks_destroy(struct tasks *tasks);

#endif
