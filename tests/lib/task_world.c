/* lib/task_world.c - a world for tests of what runs in scopes. */
#include "lib/task_world.h"
#include "base/check.h"
#include "lib/test.h"

void world_init(struct world *world, const struct fiber_options *fibers, struct blame *blame)
{
    world->loop = fake_clock_loop(&world->clock);
    world->tasks = tasks_create(world->loop, fibers, blame);
}

void world_settle(struct world *world)
{
    run_turns(world->loop, 4); /* each runs up to 1,024 ready entries and what they add */
}

void world_deinit(struct world *world)
{
    world_settle(world);
    assert_int_equal(world->tasks->scopes_count, 0);
    assert_int_equal(fiber_count(world->tasks->fibers), 0);
    tasks_destroy(world->tasks);
    loop_destroy(world->loop);
}

static void withdraw(struct op *op)
{
    struct fake_op *fake = CONTAINER_OF(op, struct fake_op, op);

    if (fake->counts != NULL)
        fake->counts->withdrawn++;
    if (!fake->retires_late)
        op_retire(op);
}

static void release(struct op *op)
{
    struct fake_op *fake = CONTAINER_OF(op, struct fake_op, op);

    if (fake->counts != NULL)
        fake->counts->released++;
}

static const struct op_kind fake_kind = {
    .name = "fake", .account = SCOPE_TIME_PG, .withdraw = withdraw, .release = release};

struct op *fake_start(struct scope *scope, struct fake_counts *counts, bool retires_late)
{
    struct fake_op *fake = scope_alloc(scope, sizeof *fake);

    fake->counts = counts;
    fake->retires_late = retires_late;
    if (!op_init(&fake->op, scope, &fake_kind))
        assert_true(fake->op.is_retired);
    return &fake->op;
}
