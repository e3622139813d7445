/* lib/task_world.h - a world for tests of what runs in scopes: a fake clock, its loop, tasks, and
 * ops that do what the test says.
 *
 * Loop:   the world's, turned by the test.
 * Memory: embed the world; world_deinit() fails the test where a scope still lives.
 */
#ifndef WEFT_TESTS_LIB_TASK_WORLD_H
#define WEFT_TESTS_LIB_TASK_WORLD_H

#include "lib/loop_driver.h"
#include "task/fiber.h"
#include "task/op.h"
#include "task/scope.h"
#include "task/tasks.h"

struct blame;

/* All that a test of tasks needs. */
struct world {
    struct fake_clock clock; /* moved by the test */
    struct loop *loop;       /* on that clock */
    struct tasks *tasks;     /* on that loop */
};

/* Makes it; `fibers` and `blame` may be NULL. */
void world_init(struct world *world, const struct fiber_options *fibers, struct blame *blame);

/* Turns until nothing is ready, fails the test where a scope still lives, and ends it. */
void world_deinit(struct world *world);

/* Turns until what is ready now, and what follows from it, has run. */
void world_settle(struct world *world);

/* What happened to fake ops; outlives them. */
struct fake_counts {
    uint32_t withdrawn; /* canceled while pending */
    uint32_t released;  /* results let go of */
};

/* An op without a provider: the test settles it with op_finish(), or op_settle() and
 * op_retire(). */
struct fake_op {
    struct op op;
    struct fake_counts *counts; /* may be NULL */
    bool retires_late;          /* canceled, it is not retired before the test does so */
};

/* Starts one, which counts for SCOPE_TIME_PG; `counts` may be NULL. Where the scope is canceled it
 * is born settled. */
struct op *fake_start(struct scope *scope, struct fake_counts *counts, bool retires_late);

#endif
