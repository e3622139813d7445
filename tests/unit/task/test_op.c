/* Goal: an op settles exactly once and tells one consumer, never inside the call that took it or
 * settled it; cancel, deadline and release do in each of its states what op.h says; and what no
 * provider may do ends the process. */
#include "base/check.h"
#include "lib/dies.h"
#include "lib/task_world.h"
#include "lib/test.h"
#include "task/group.h"

#include <stdio.h>
#include <string.h>

/* What one op told, and to whom. */
struct ear {
    struct world *world;
    struct op *op;
    uint32_t count;      /* times it was told */
    enum err status;     /* at the last time */
    bool was_on_fiber;   /* then */
    struct scope *scope; /* the current one then */
};

static void on_told(struct op *op, void *data)
{
    struct ear *ear = data;

    assert_ptr_equal(op, ear->op);
    assert_int_equal(op->state, OP_TOLD);
    ear->count++;
    ear->status = op->status;
    ear->was_on_fiber = fiber_current(ear->world->tasks->fibers) != NULL;
    ear->scope = scope_current(ear->world->tasks);
}

/* A world with a scope, an op in it and an ear. */
struct stage {
    struct world world;
    struct scope *scope;
    struct fake_counts counts;
    struct op *op;
    struct ear ear;
};

static void stage_init(struct stage *stage, uint64_t budget_ms, bool retires_late)
{
    *stage = (struct stage){0};
    world_init(&stage->world, NULL, NULL);
    stage->scope = scope_create(stage->world.tasks, NULL, NULL, budget_ms);
    stage->op = fake_start(stage->scope, &stage->counts, retires_late);
    stage->ear = (struct ear){.world = &stage->world, .op = stage->op};
}

/* Ends it: the op's result must have been let go of once by then. */
static void stage_deinit(struct stage *stage)
{
    if (stage->scope != NULL)
        scope_finish(stage->scope, SCOPE_REPLIED);
    world_deinit(&stage->world);
    assert_int_equal(stage->counts.released, 1);
}

/* Runs `fn(scope, data)` on a fiber of a scope of its own. */
static struct scope *run_elsewhere(struct world *world, scope_fn *fn, void *data)
{
    struct scope *scope = scope_create(world->tasks, NULL, NULL, 0);

    assert_true(scope_run(scope, fn, data, false));
    return scope;
}

/* Done and failed */

static void test_done_is_told_once_on_a_fiber(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0, false);
    assert_int_equal(stage.op->state, OP_PENDING);
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 0);

    op_finish(stage.op, ERR_OK, NULL);
    assert_int_equal(stage.op->state, OP_SETTLED);
    assert_int_equal(stage.ear.count, 0); /* not inside the call that settles */
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    assert_int_equal(stage.ear.status, ERR_OK);
    assert_true(stage.ear.was_on_fiber);
    assert_ptr_equal(stage.ear.scope, stage.scope);
    assert_int_equal(stage.op->state, OP_TOLD);
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    stage_deinit(&stage);
}

static void test_notify_is_told_on_the_loops_stack(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0, false);
    assert_int_equal(op_notify(stage.op, on_told, &stage.ear), ERR_OK);
    op_finish(stage.op, ERR_DB, "pg_error");
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    assert_int_equal(stage.ear.status, ERR_DB);
    assert_false(stage.ear.was_on_fiber);
    assert_null(stage.ear.scope);
    stage_deinit(&stage);
}

static void test_a_failure_has_reason_and_text(void **state)
{
    struct stage stage;
    struct scope *child;
    struct op *op;
    char text[] = "relation does not exist";

    (void)state;
    stage_init(&stage, 0, false);
    assert_null(stage.scope->reason);
    op_explain(stage.op, span_of(text));
    text[0] = '?'; /* it was copied */
    op_finish(stage.op, ERR_DB, "pg_error");
    assert_string_equal(stage.op->error.ptr, "relation does not exist");
    assert_string_equal(stage.scope->reason, "pg_error");

    /* A success leaves it, and so does a failure without one; a child's is its root's too. */
    op_finish(fake_start(stage.scope, NULL, false), ERR_OK, "fine");
    op_finish(fake_start(stage.scope, NULL, false), ERR_DB, NULL);
    assert_string_equal(stage.scope->reason, "pg_error");
    child = scope_child(stage.scope, 0, 0);
    op = op_failed(child, ERR_UP_TIMEOUT, "upstream_timeout", SPAN("too slow"));
    assert_int_equal(op->state, OP_TOLD);
    assert_int_equal(op->status, ERR_UP_TIMEOUT);
    assert_string_equal(op->error.ptr, "too slow");
    assert_string_equal(child->reason, "upstream_timeout");
    assert_string_equal(stage.scope->reason, "upstream_timeout");
    assert_null(op_failed(child, ERR_DB, NULL, (struct span){0})->error.ptr);
    stage_deinit(&stage);
}

/* What the loop is told of steps that have ended. */
static struct {
    uint32_t count;
    uint64_t took_us;
} steps;

void __wrap_loop_step_ended(struct loop *loop, uint64_t took_us);

void __wrap_loop_step_ended(struct loop *loop, uint64_t took_us)
{
    (void)loop;
    steps.count++;
    steps.took_us = took_us;
}

static void test_time_under_way_is_the_roots(void **state)
{
    struct stage stage;
    struct scope *child;
    struct op *other;

    (void)state;
    stage_init(&stage, 0, false);
    steps.count = 0;
    child = scope_child(stage.scope, 0, 0);
    fake_clock_jump(&stage.world.clock, stage.world.loop, 5);
    op_begin(stage.op);
    other = fake_start(child, NULL, false); /* never leaves its queue */
    fake_clock_jump(&stage.world.clock, stage.world.loop, 10);
    op_begin(stage.op);
    op_finish(stage.op, ERR_OK, NULL);
    op_finish(other, ERR_DB, NULL);
    assert_int_equal(stage.scope->spent_us[SCOPE_TIME_QUEUE], 15000);
    assert_int_equal(stage.scope->spent_us[SCOPE_TIME_PG], 10000);
    assert_int_equal(stage.scope->spent_us[SCOPE_TIME_CALL], 0);
    assert_int_equal(child->spent_us[SCOPE_TIME_PG], 0);
    assert_int_equal(steps.count, 1); /* to wait in line is none */
    assert_int_equal(steps.took_us, 10000);
    stage_deinit(&stage);
}

/* Timed out and canceled, in each state */

static void test_deadline_of_a_pending_op(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 100, false);
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    fake_clock_jump(&stage.world.clock, stage.world.loop, 99);
    assert_int_equal(stage.op->state, OP_PENDING);
    fake_clock_jump(&stage.world.clock, stage.world.loop, 1);
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    assert_int_equal(stage.ear.status, ERR_DEADLINE);
    assert_int_equal(stage.counts.withdrawn, 1);
    assert_int_equal(stage.scope->why, SCOPE_DEADLINE);
    stage_deinit(&stage);
}

static void test_deadline_of_a_settled_op_changes_nothing(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 100, false);
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    stage.world.clock.now_us += 200000;
    op_finish(stage.op, ERR_OK, NULL); /* and the deadline passes before it is told */
    world_settle(&stage.world);
    assert_int_equal(stage.scope->why, SCOPE_DEADLINE);
    assert_int_equal(stage.ear.count, 1);
    assert_int_equal(stage.ear.status, ERR_OK);
    assert_int_equal(stage.counts.withdrawn, 0);
    stage_deinit(&stage);
}

static void test_cancel_of_a_pending_op(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0, false);
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    op_cancel(stage.op);
    assert_int_equal(stage.ear.count, 0); /* not inside cancel */
    assert_int_equal(stage.counts.withdrawn, 1);
    assert_int_equal(stage.op->status, ERR_CANCELED);
    assert_true(stage.op->is_retired);
    op_cancel(stage.op);
    op_cancel_as(stage.op, ERR_DB_BUSY, "pg_queue_timeout");
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    assert_int_equal(stage.ear.status, ERR_CANCELED);
    assert_int_equal(stage.counts.withdrawn, 1);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    assert_null(stage.scope->reason);
    stage_deinit(&stage);
}

static void test_cancel_of_an_op_that_nobody_waits_for(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0, false);
    op_cancel_as(stage.op, ERR_DB_BUSY, "pg_queue_timeout");
    assert_int_equal(stage.op->state, OP_TOLD);
    assert_int_equal(stage.op->status, ERR_DB_BUSY);
    assert_string_equal(stage.scope->reason, "pg_queue_timeout");
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    world_settle(&stage.world);
    assert_int_equal(stage.ear.status, ERR_DB_BUSY);
    stage_deinit(&stage);
}

static void test_cancel_of_a_settled_op_changes_nothing(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0, false);
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    op_finish(stage.op, ERR_OK, NULL);
    op_cancel(stage.op);
    scope_cancel(stage.scope, SCOPE_EXPLICIT);
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    assert_int_equal(stage.ear.status, ERR_OK);
    op_cancel(stage.op); /* told by now */
    assert_int_equal(stage.op->status, ERR_OK);
    assert_int_equal(stage.counts.withdrawn, 0);
    stage_deinit(&stage);
}

static void test_every_reason_to_cancel(void **state)
{
    (void)state;
    for (enum scope_why why = SCOPE_CLIENT_GONE; why <= SCOPE_MEMORY; why++) {
        struct stage stage;

        stage_init(&stage, 0, false);
        assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
        scope_cancel(stage.scope, why);
        assert_int_equal(stage.ear.count, 0);
        world_settle(&stage.world);
        assert_int_equal(stage.ear.count, 1);
        assert_int_equal(stage.ear.status, why == SCOPE_DEADLINE ? ERR_DEADLINE : ERR_CANCELED);
        assert_int_equal(stage.counts.withdrawn, 1);
        stage_deinit(&stage);
    }
}

/* Canceled, and the provider needs its memory a little longer. */
static void test_late_retirement_keeps_the_memory(void **state)
{
    struct stage stage;
    uint64_t handle;

    (void)state;
    stage_init(&stage, 0, true);
    handle = stage.op->handle;
    scope_finish(stage.scope, SCOPE_CLIENT_GONE);
    stage.scope = NULL;
    world_settle(&stage.world);
    assert_int_equal(stage.world.tasks->scopes_count, 1);
    assert_ptr_equal(op_of(stage.world.tasks, handle), stage.op);
    assert_int_equal(stage.op->status, ERR_CANCELED);
    assert_int_equal(stage.counts.released, 0);
    ((struct fake_op *)stage.op)->counts->withdrawn++; /* what a late answer would write to */

    op_retire(stage.op);
    world_settle(&stage.world);
    assert_null(op_of(stage.world.tasks, handle));
    stage_deinit(&stage);
}

static void test_settled_but_not_retired(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0, false);
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    op_settle(stage.op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    assert_int_equal(op_release(stage.op), ERR_STATE);
    scope_finish(stage.scope, SCOPE_REPLIED);
    stage.scope = NULL;
    world_settle(&stage.world);
    assert_int_equal(stage.world.tasks->scopes_count, 1);
    op_retire(stage.op);
    stage_deinit(&stage);
}

/* Born settled */

static void test_born_canceled(void **state)
{
    struct stage stage;
    struct fake_counts counts = {0};
    struct ear ear = {.world = &stage.world};
    struct op *op;

    (void)state;
    stage_init(&stage, 0, false);
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    op = fake_start(stage.scope, &counts, false);
    assert_int_equal(op->state, OP_TOLD);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_true(op->is_retired);
    assert_int_equal(counts.withdrawn, 0); /* there is nothing to withdraw */
    ear.op = op;
    assert_int_equal(op_then(op, on_told, &ear), ERR_OK);
    assert_int_equal(ear.count, 0);
    world_settle(&stage.world);
    assert_int_equal(ear.count, 1);
    assert_int_equal(ear.status, ERR_CANCELED);
    op = op_failed(stage.scope, ERR_DB, "pg_error", SPAN("no"));
    assert_int_equal(op->status, ERR_CANCELED);
    assert_null(op->error.ptr);
    stage_deinit(&stage);
}

/* Time that was spent in one turn counts, though no timer has run: an expired scope starts nothing,
 * and what else it has is canceled with it. */
static void test_born_after_the_deadline(void **state)
{
    struct stage stage;
    struct op *op;

    (void)state;
    stage_init(&stage, 10, false);
    stage.world.clock.now_us += 10000;
    (void)loop_refresh_us(stage.world.loop);
    assert_int_equal(stage.op->state, OP_PENDING);
    op = fake_start(stage.scope, NULL, false);
    assert_int_equal(op->status, ERR_DEADLINE);
    assert_int_equal(op->state, OP_TOLD);
    assert_int_equal(stage.op->status, ERR_DEADLINE);
    assert_int_equal(stage.scope->why, SCOPE_DEADLINE);
    stage_deinit(&stage);
}

/* Consumers */

static void test_then_on_a_settled_op(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0, false);
    op_finish(stage.op, ERR_OK, NULL);
    assert_int_equal(stage.op->state, OP_TOLD);
    world_settle(&stage.world);
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    assert_int_equal(stage.ear.count, 0); /* not inside then */
    assert_int_equal(stage.op->state, OP_SETTLED);
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    stage_deinit(&stage);
}

static void test_a_second_consumer_is_refused(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0, false);
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    assert_int_equal(op_then(stage.op, on_told, NULL), ERR_STATE);
    assert_int_equal(op_notify(stage.op, on_told, NULL), ERR_STATE);
    op_finish(stage.op, ERR_OK, NULL);
    assert_int_equal(op_then(stage.op, on_told, NULL), ERR_STATE);
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    assert_int_equal(op_then(stage.op, on_told, NULL), ERR_STATE);
    stage_deinit(&stage);
}

struct waiter {
    struct stage *stage;
    struct op *op;
    enum err status; /* what await answered */
    bool is_over;
};

static void await_it(struct scope *scope, void *data)
{
    struct waiter *waiter = data;

    waiter->status = op_await(waiter->op);
    assert_ptr_equal(scope_current(scope->tasks), scope);
    waiter->is_over = true;
}

static void test_await(void **state)
{
    struct stage stage;
    struct waiter waiter = {.stage = &stage};

    (void)state;
    stage_init(&stage, 0, false);
    waiter.op = stage.op;
    assert_true(scope_run(stage.scope, await_it, &waiter, false));
    assert_false(waiter.is_over);
    assert_int_equal(op_then(stage.op, on_told, NULL), ERR_STATE);
    op_finish(stage.op, ERR_DB_DOWN, NULL);
    assert_false(waiter.is_over); /* not inside the call that settles */
    world_settle(&stage.world);
    assert_true(waiter.is_over);
    assert_int_equal(waiter.status, ERR_DB_DOWN);
    stage_deinit(&stage);
}

static void test_await_of_a_settled_op_is_answered_at_once(void **state)
{
    struct stage stage;
    struct waiter waiter = {.stage = &stage};

    (void)state;
    stage_init(&stage, 0, false);
    op_finish(stage.op, ERR_DB, NULL);
    waiter.op = stage.op;
    assert_true(scope_run(stage.scope, await_it, &waiter, false));
    assert_true(waiter.is_over);
    assert_int_equal(waiter.status, ERR_DB);
    assert_int_equal(op_then(stage.op, on_told, NULL), ERR_STATE);
    waiter.is_over = false;
    assert_true(scope_run(stage.scope, await_it, &waiter, false));
    assert_int_equal(waiter.status, ERR_STATE);
    assert_int_equal(op_release(stage.op), ERR_OK);
    stage_deinit(&stage);
}

static void test_await_of_an_op_that_another_awaits(void **state)
{
    struct stage stage;
    struct waiter first = {.stage = &stage};
    struct waiter second = {.stage = &stage};

    (void)state;
    stage_init(&stage, 0, false);
    first.op = second.op = stage.op;
    assert_true(scope_run(stage.scope, await_it, &first, false));
    assert_true(scope_run(stage.scope, await_it, &second, false));
    assert_true(second.is_over);
    assert_int_equal(second.status, ERR_STATE);
    op_finish(stage.op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_true(first.is_over);
    assert_int_equal(first.status, ERR_OK);
    stage_deinit(&stage);
}

static void await_in_notify(struct op *op, void *data)
{
    struct waiter *waiter = data;

    (void)op;
    waiter->status = op_await(waiter->op);
    waiter->is_over = true;
}

static void test_await_needs_a_fiber_of_the_same_tree(void **state)
{
    struct stage stage;
    struct waiter waiter = {.stage = &stage};
    struct op *other;
    struct scope *elsewhere;

    (void)state;
    stage_init(&stage, 0, false);
    waiter.op = stage.op;
    assert_int_equal(op_await(stage.op), ERR_STATE);

    other = fake_start(stage.scope, NULL, false);
    assert_int_equal(op_notify(other, await_in_notify, &waiter), ERR_OK);
    op_finish(other, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_true(waiter.is_over);
    assert_int_equal(waiter.status, ERR_STATE);

    /* Another request's op: its end would be no end of ours. */
    waiter.is_over = false;
    elsewhere = run_elsewhere(&stage.world, await_it, &waiter);
    assert_true(waiter.is_over);
    assert_int_equal(waiter.status, ERR_STATE);
    scope_finish(elsewhere, SCOPE_REPLIED);

    /* None of these took the consumer's place. */
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    op_finish(stage.op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    stage_deinit(&stage);
}

static void test_await_of_a_childs_op(void **state)
{
    struct stage stage;
    struct waiter waiter = {.stage = &stage};
    struct scope *child;

    (void)state;
    stage_init(&stage, 0, false);
    child = scope_child(stage.scope, 0, 0);
    waiter.op = fake_start(child, NULL, false);
    assert_true(scope_run(stage.scope, await_it, &waiter, false));
    op_finish(waiter.op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_true(waiter.is_over);

    /* And the other way round. */
    waiter = (struct waiter){.stage = &stage, .op = stage.op};
    assert_true(scope_run(child, await_it, &waiter, false));
    op_finish(stage.op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_true(waiter.is_over);
    stage_deinit(&stage);
}

/* A callback that waits itself. */
static void then_await(struct op *op, void *data)
{
    struct waiter *waiter = data;

    assert_int_equal(op->status, ERR_OK);
    waiter->status = op_await(op_sleep(op->scope, 5));
    waiter->is_over = true;
}

static void test_await_inside_then(void **state)
{
    struct stage stage;
    struct waiter waiter = {.stage = &stage};

    (void)state;
    stage_init(&stage, 0, false);
    assert_int_equal(op_then(stage.op, then_await, &waiter), ERR_OK);
    op_finish(stage.op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_false(waiter.is_over);
    fake_clock_walk(&stage.world.clock, stage.world.loop, 5);
    world_settle(&stage.world);
    assert_true(waiter.is_over);
    assert_int_equal(waiter.status, ERR_OK);
    stage_deinit(&stage);
}

/* Callbacks that cancel */

struct rebel {
    struct op *victim;
    struct scope *scope;
    uint32_t runs;
};

static void cancel_the_victim(struct op *op, void *data)
{
    struct rebel *rebel = data;

    (void)op;
    rebel->runs++;
    if (rebel->victim != NULL)
        op_cancel(rebel->victim);
    if (rebel->scope != NULL)
        scope_cancel(rebel->scope, SCOPE_EXPLICIT);
}

static void test_a_callback_cancels_its_sibling(void **state)
{
    struct stage stage;
    struct op *op;
    struct rebel rebel = {0};

    (void)state;
    stage_init(&stage, 0, false);
    op = fake_start(stage.scope, NULL, false);
    rebel.victim = stage.op;
    assert_int_equal(op_then(op, cancel_the_victim, &rebel), ERR_OK);
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    op_finish(op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    assert_int_equal(stage.ear.status, ERR_CANCELED);
    stage_deinit(&stage);
}

static void test_a_callback_cancels_its_own_op(void **state)
{
    struct stage stage;
    struct rebel rebel = {0};

    (void)state;
    stage_init(&stage, 0, false);
    rebel.victim = stage.op;
    assert_int_equal(op_then(stage.op, cancel_the_victim, &rebel), ERR_OK);
    op_finish(stage.op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_int_equal(rebel.runs, 1);
    assert_int_equal(stage.op->status, ERR_OK);
    assert_int_equal(stage.counts.withdrawn, 0);
    stage_deinit(&stage);
}

static void test_a_callback_cancels_its_own_scope(void **state)
{
    struct stage stage;
    struct op *op;
    struct rebel rebel = {0};

    (void)state;
    stage_init(&stage, 0, false);
    op = fake_start(stage.scope, NULL, false);
    rebel.scope = stage.scope;
    assert_int_equal(op_then(op, cancel_the_victim, &rebel), ERR_OK);
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    op_finish(op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_int_equal(rebel.runs, 1);
    assert_int_equal(stage.ear.status, ERR_CANCELED);
    assert_int_equal(stage.scope->why, SCOPE_EXPLICIT);
    stage_deinit(&stage);
}

/* A fiber that cancels the scope that it waits in is woken from the next wait, not from this. */
static void cancel_and_await(struct scope *scope, void *data)
{
    struct waiter *waiter = data;

    scope_cancel(scope, SCOPE_EXPLICIT);
    waiter->status = op_await(waiter->op);
    assert_int_equal(op_await(op_sleep(scope, 1000)), ERR_CANCELED);
    waiter->is_over = true;
}

static void test_a_fiber_cancels_its_own_scope(void **state)
{
    struct stage stage;
    struct waiter waiter = {.stage = &stage};

    (void)state;
    stage_init(&stage, 0, false);
    waiter.op = stage.op;
    assert_true(scope_run(stage.scope, cancel_and_await, &waiter, false));
    assert_true(waiter.is_over);
    assert_int_equal(waiter.status, ERR_CANCELED);
    stage_deinit(&stage);
}

/* Release */

static void test_release_in_each_state(void **state)
{
    struct stage stage;
    uint64_t handle;

    (void)state;
    stage_init(&stage, 0, false);
    handle = stage.op->handle;
    assert_int_equal(op_then(stage.op, on_told, &stage.ear), ERR_OK);
    assert_int_equal(op_release(stage.op), ERR_STATE); /* pending */
    op_finish(stage.op, ERR_OK, NULL);
    assert_int_equal(op_release(stage.op), ERR_STATE); /* not told */
    world_settle(&stage.world);
    assert_int_equal(stage.counts.released, 0);
    assert_ptr_equal(op_of(stage.world.tasks, handle), stage.op);
    assert_int_equal(op_release(stage.op), ERR_OK);
    assert_int_equal(stage.counts.released, 1);
    assert_null(op_of(stage.world.tasks, handle));
    stage_deinit(&stage);
}

static void release_it(struct op *op, void *data)
{
    ++*(uint32_t *)data;
    assert_int_equal(op_release(op), ERR_OK);
}

static void test_a_callback_releases_its_op(void **state)
{
    struct stage stage;
    uint32_t count = 0;
    uint64_t handle;

    (void)state;
    stage_init(&stage, 0, false);
    handle = stage.op->handle;
    assert_int_equal(op_then(stage.op, release_it, &count), ERR_OK);
    op_finish(stage.op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_int_equal(count, 1);
    assert_null(op_of(stage.world.tasks, handle));
    assert_true(scope_is_idle(stage.scope));
    stage_deinit(&stage);
}

static void await_and_release(struct scope *scope, void *data)
{
    struct waiter *waiter = data;

    (void)scope;
    waiter->status = op_await(waiter->op);
    assert_int_equal(op_release(waiter->op), ERR_OK);
    waiter->is_over = true;
}

static void test_a_fiber_releases_what_it_awaited(void **state)
{
    struct stage stage;
    struct waiter waiter = {.stage = &stage};

    (void)state;
    stage_init(&stage, 0, false);
    waiter.op = stage.op;
    assert_true(scope_run(stage.scope, await_and_release, &waiter, false));
    op_finish(stage.op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_true(waiter.is_over);
    assert_true(scope_is_idle(stage.scope));
    stage_deinit(&stage);
}

static void test_no_handle_comes_twice(void **state)
{
    struct stage stage;
    uint64_t before;

    (void)state;
    stage_init(&stage, 0, false);
    before = stage.op->handle;
    for (uint32_t i = 0; i < 1000; i++) {
        struct op *op = fake_start(stage.scope, NULL, false);

        assert_int_not_equal(op->handle, before);
        before = op->handle;
        op_finish(op, ERR_OK, NULL);
        assert_int_equal(op_release(op), ERR_OK);
        assert_null(op_of(stage.world.tasks, before));
    }
    stage_deinit(&stage);
}

/* Watchers */

struct diary {
    char text[64];
};

static void note_watch(struct op *op, void *data)
{
    struct diary *diary = data;

    assert_int_equal(op->state, OP_SETTLED);
    strcat(diary->text, "w");
}

static void note_consumer(struct op *op, void *data)
{
    struct diary *diary = data;

    assert_int_equal(op->state, OP_TOLD);
    strcat(diary->text, "c");
}

static void test_watchers_come_before_the_consumer(void **state)
{
    struct stage stage;
    struct diary diary = {""};
    struct op_watch watches[3] = {{.fn = note_watch, .data = &diary},
                                  {.fn = note_watch, .data = &diary},
                                  {.fn = note_watch, .data = &diary}};

    (void)state;
    stage_init(&stage, 0, false);
    op_watch(stage.op, &watches[0]);
    assert_int_equal(op_then(stage.op, note_consumer, &diary), ERR_OK);
    op_watch(stage.op, &watches[1]);
    op_watch(stage.op, &watches[2]);
    list_remove(&watches[1].link); /* its user goes */
    op_finish(stage.op, ERR_OK, NULL);
    assert_string_equal(diary.text, "");
    world_settle(&stage.world);
    assert_string_equal(diary.text, "wwc");
    stage_deinit(&stage);
}

static void test_watching_a_settled_op(void **state)
{
    struct stage stage;
    struct diary diary = {""};
    struct op_watch watch = {.fn = note_watch, .data = &diary};

    (void)state;
    stage_init(&stage, 0, false);
    op_finish(stage.op, ERR_OK, NULL);
    op_watch(stage.op, &watch);
    assert_string_equal(diary.text, "");
    assert_int_equal(op_release(stage.op), ERR_STATE); /* it has somebody to tell again */
    assert_int_equal(op_then(stage.op, note_consumer, &diary), ERR_OK);
    world_settle(&stage.world);
    assert_string_equal(diary.text, "wc");
    op_watch(stage.op, &watch);
    world_settle(&stage.world);
    assert_string_equal(diary.text, "wcw");
    assert_int_equal(op_release(stage.op), ERR_OK);
    stage_deinit(&stage);
}

static void watch_again(struct op *op, void *data)
{
    struct op_watch *watch = data;

    strcat(((struct diary *)watch->data)->text, "c");
    op_watch(op, watch);
}

static void test_watching_from_the_consumer(void **state)
{
    struct stage stage;
    struct diary diary = {""};
    struct op_watch watch = {.fn = note_watch, .data = &diary};

    (void)state;
    stage_init(&stage, 0, false);
    assert_int_equal(op_then(stage.op, watch_again, &watch), ERR_OK);
    op_finish(stage.op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_string_equal(diary.text, "cw");
    assert_true(scope_is_idle(stage.scope));
    stage_deinit(&stage);
}

/* Sleep */

static void test_sleep_takes_its_time(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0, false);
    op_finish(stage.op, ERR_OK, NULL);
    stage.ear.op = op_sleep(stage.scope, 50);
    assert_int_equal(op_then(stage.ear.op, on_told, &stage.ear), ERR_OK);
    fake_clock_walk(&stage.world.clock, stage.world.loop, 49);
    assert_int_equal(stage.ear.count, 0);
    fake_clock_walk(&stage.world.clock, stage.world.loop, 1);
    assert_int_equal(stage.ear.count, 1);
    assert_int_equal(stage.ear.status, ERR_OK);

    stage.ear.op = op_sleep(stage.scope, 0);
    assert_int_equal(op_then(stage.ear.op, on_told, &stage.ear), ERR_OK);
    assert_int_equal(stage.ear.count, 1);
    run_turns(stage.world.loop, 1);
    assert_int_equal(stage.ear.count, 2);
    stage_deinit(&stage);
}

static void test_sleep_is_canceled_in_each_state(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0, false);
    stage.ear.op = op_sleep(stage.scope, 50);
    assert_int_equal(op_then(stage.ear.op, on_told, &stage.ear), ERR_OK);
    op_cancel(stage.ear.op);
    fake_clock_jump(&stage.world.clock, stage.world.loop, 100);
    world_settle(&stage.world);
    assert_int_equal(stage.ear.count, 1);
    assert_int_equal(stage.ear.status, ERR_CANCELED);

    stage.ear.op = op_sleep(stage.scope, 50);
    fake_clock_jump(&stage.world.clock, stage.world.loop, 50);
    op_cancel(stage.ear.op);
    assert_int_equal(stage.ear.op->status, ERR_OK);

    scope_cancel(stage.scope, SCOPE_DEADLINE);
    assert_int_equal(op_sleep(stage.scope, 50)->status, ERR_DEADLINE);
    stage_deinit(&stage);
}

/* What no provider may do */

static void settle_twice(void *arg)
{
    struct stage stage;

    (void)arg;
    stage_init(&stage, 0, false);
    op_settle(stage.op, ERR_OK, NULL);
    op_settle(stage.op, ERR_OK, NULL);
}

static void retire_pending(void *arg)
{
    struct stage stage;

    (void)arg;
    stage_init(&stage, 0, false);
    op_retire(stage.op);
}

static void retire_twice(void *arg)
{
    struct stage stage;

    (void)arg;
    stage_init(&stage, 0, false);
    op_finish(stage.op, ERR_OK, NULL);
    op_retire(stage.op);
}

static void settle_released(void *arg)
{
    struct stage stage;

    (void)arg;
    stage_init(&stage, 0, false);
    op_finish(stage.op, ERR_OK, NULL);
    (void)(op_release(stage.op) == ERR_OK);
    op_settle(stage.op, ERR_OK, NULL);
}

static void test_a_providers_mistakes_are_death(void **state)
{
    char output[DIES_OUTPUT_SIZE];

    (void)state;
    assert_true(dies(settle_twice, NULL, output));
    assert_non_null(strstr(output, "op_settle"));
    assert_true(dies(retire_pending, NULL, output));
    assert_non_null(strstr(output, "op_retire"));
    assert_true(dies(retire_twice, NULL, output));
    assert_non_null(strstr(output, "is_retired"));
    assert_true(dies(settle_released, NULL, output));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_done_is_told_once_on_a_fiber),
        cmocka_unit_test(test_notify_is_told_on_the_loops_stack),
        cmocka_unit_test(test_a_failure_has_reason_and_text),
        cmocka_unit_test(test_time_under_way_is_the_roots),
        cmocka_unit_test(test_deadline_of_a_pending_op),
        cmocka_unit_test(test_deadline_of_a_settled_op_changes_nothing),
        cmocka_unit_test(test_cancel_of_a_pending_op),
        cmocka_unit_test(test_cancel_of_an_op_that_nobody_waits_for),
        cmocka_unit_test(test_cancel_of_a_settled_op_changes_nothing),
        cmocka_unit_test(test_every_reason_to_cancel),
        cmocka_unit_test(test_late_retirement_keeps_the_memory),
        cmocka_unit_test(test_settled_but_not_retired),
        cmocka_unit_test(test_born_canceled),
        cmocka_unit_test(test_born_after_the_deadline),
        cmocka_unit_test(test_then_on_a_settled_op),
        cmocka_unit_test(test_a_second_consumer_is_refused),
        cmocka_unit_test(test_await),
        cmocka_unit_test(test_await_of_a_settled_op_is_answered_at_once),
        cmocka_unit_test(test_await_of_an_op_that_another_awaits),
        cmocka_unit_test(test_await_needs_a_fiber_of_the_same_tree),
        cmocka_unit_test(test_await_of_a_childs_op),
        cmocka_unit_test(test_await_inside_then),
        cmocka_unit_test(test_a_callback_cancels_its_sibling),
        cmocka_unit_test(test_a_callback_cancels_its_own_op),
        cmocka_unit_test(test_a_callback_cancels_its_own_scope),
        cmocka_unit_test(test_a_fiber_cancels_its_own_scope),
        cmocka_unit_test(test_release_in_each_state),
        cmocka_unit_test(test_a_callback_releases_its_op),
        cmocka_unit_test(test_a_fiber_releases_what_it_awaited),
        cmocka_unit_test(test_no_handle_comes_twice),
        cmocka_unit_test(test_watchers_come_before_the_consumer),
        cmocka_unit_test(test_watching_a_settled_op),
        cmocka_unit_test(test_watching_from_the_consumer),
        cmocka_unit_test(test_sleep_takes_its_time),
        cmocka_unit_test(test_sleep_is_canceled_in_each_state),
        cmocka_unit_test(test_a_providers_mistakes_are_death),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
