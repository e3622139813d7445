/* Goal: a scope lives as long as anything of it does and not a turn longer; it is canceled by what
 * scope.h names, with the children that it should take along; its owner is told what happened, once
 * and never inside a call; and the blame page says at any time whose code runs. */
#include "base/check.h"
#include "lib/dies.h"
#include "lib/task_world.h"
#include "lib/test.h"
#include "observe/blame.h"
#include "task/group.h"

#include <stdio.h>
#include <string.h>

/* What the owner was told: a letter each, i(dle), c(anceled), e(nd); tests add their own. */
struct owner {
    struct world *world;
    char told[64];
    bool finishes; /* on_idle finishes the scope */
};

static void tell(struct owner *owner, const char *what)
{
    assert_in_range(strlen(owner->told) + strlen(what), 1, sizeof owner->told - 1);
    strcat(owner->told, what);
}

static void on_idle(struct scope *scope)
{
    struct owner *owner = scope->owner;

    assert_null(scope_current(owner->world->tasks));
    assert_true(scope_is_idle(scope));
    tell(owner, "i");
    if (owner->finishes)
        scope_finish(scope, SCOPE_REPLIED);
}

static void on_cancel(struct scope *scope)
{
    assert_int_not_equal(scope->why, SCOPE_ALIVE);
    tell(scope->owner, "c");
}

static void on_end(struct scope *scope)
{
    assert_ptr_equal(scope_of(scope->tasks, scope->handle), scope);
    tell(scope->owner, "e");
}

static const struct scope_handler handler = {
    .on_idle = on_idle, .on_cancel = on_cancel, .on_end = on_end};

/* A world with one root. */
struct stage {
    struct world world;
    struct owner owner;
    struct scope *scope;
};

static void stage_init(struct stage *stage, uint64_t budget_ms)
{
    *stage = (struct stage){0};
    world_init(&stage->world, NULL, NULL);
    stage->owner.world = &stage->world;
    stage->scope = scope_create(stage->world.tasks, &handler, &stage->owner, budget_ms);
}

static void stage_deinit(struct stage *stage)
{
    if (stage->world.tasks->scopes_count > 0)
        scope_finish(stage->scope, SCOPE_REPLIED);
    world_deinit(&stage->world);
}

static void walk(struct stage *stage, uint32_t ms)
{
    fake_clock_walk(&stage->world.clock, stage->world.loop, ms);
}

static void run_nothing(struct scope *scope, void *data)
{
    (void)scope;
    (void)data;
}

static void run_sleep(struct scope *scope, void *data)
{
    (void)op_await(op_sleep(scope, *(uint32_t *)data));
}

/* Life */

static void test_a_finished_scope_ends_from_the_ready_list(void **state)
{
    struct stage stage;
    uint64_t handle;

    (void)state;
    stage_init(&stage, 0);
    handle = stage.scope->handle;
    assert_ptr_equal(stage.scope->root, stage.scope);
    assert_null(stage.scope->parent);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, ""); /* it never ran: nothing to be told */
    scope_finish(stage.scope, SCOPE_REPLIED);
    assert_string_equal(stage.owner.told, "");
    assert_non_null(scope_of(stage.world.tasks, handle));
    run_turns(stage.world.loop, 1);
    assert_string_equal(stage.owner.told, "e");
    assert_null(scope_of(stage.world.tasks, handle));
    stage_deinit(&stage);
}

/* The owner may have it end at once, unless something of it still goes on. */
static void test_a_scope_is_reaped_when_nothing_goes_on(void **state)
{
    struct stage stage;
    uint64_t handle;
    uint32_t ms = 1000;

    (void)state;
    stage_init(&stage, 500);
    handle = stage.scope->handle;
    assert_false(scope_reap(stage.scope)); /* nobody finished it */
    scope_cancel(stage.scope, SCOPE_EXPLICIT);
    scope_finish(stage.scope, SCOPE_REPLIED);
    assert_true(scope_reap(stage.scope));
    assert_string_equal(stage.owner.told, "e");
    assert_null(scope_of(stage.world.tasks, handle));
    run_turns(stage.world.loop, 2);
    assert_string_equal(stage.owner.told, "e");
    stage_deinit(&stage);
    stage_init(&stage, 0);
    assert_true(scope_run(stage.scope, run_sleep, &ms, false));
    scope_finish(stage.scope, SCOPE_REPLIED);
    assert_false(scope_reap(stage.scope)); /* its fiber has yet to be told */
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "e");
    stage_deinit(&stage);
}

static void test_structs_are_used_again_and_handles_are_not(void **state)
{
    struct stage stage;
    uint64_t handle;
    struct scope *again;

    (void)state;
    stage_init(&stage, 0);
    handle = stage.scope->handle;
    stage.scope->request_id = 17;
    scope_finish(stage.scope, SCOPE_REPLIED);
    world_settle(&stage.world);
    again = scope_create(stage.world.tasks, NULL, NULL, 0);
    assert_int_not_equal(again->handle, handle);
    assert_null(scope_of(stage.world.tasks, handle));
    assert_int_equal(again->request_id, 0);
    scope_finish(again, SCOPE_REPLIED);
    world_settle(&stage.world);
    stage_deinit(&stage);
}

static void test_a_suspended_fiber_keeps_its_scope(void **state)
{
    struct stage stage;
    struct scope *child;
    uint32_t ms = 50;

    (void)state;
    stage_init(&stage, 0);
    /* What it waits for goes on although its own scope is finished. */
    child = scope_child(stage.scope, 1000, SCOPE_SHIELD);
    assert_true(scope_run(child, run_sleep, &ms, false));
    scope_finish(stage.scope, SCOPE_CLIENT_GONE);
    walk(&stage, 49);
    assert_string_equal(stage.owner.told, "");
    assert_int_equal(fiber_count(stage.world.tasks->fibers), 1);
    walk(&stage, 1);
    assert_string_equal(stage.owner.told, "e");
    stage_deinit(&stage);
}

static void release_note(struct op *op);

static const struct op_kind noting_kind = {
    .name = "noting", .account = -1, .release = release_note};

static void release_note(struct op *op)
{
    tell(op->scope->owner, "r");
}

static void cleanup_a(void *data)
{
    tell(data, "A");
}

static void cleanup_b(void *data)
{
    tell(data, "B");
}

static void test_cleanups_newest_first_then_ops_then_the_end(void **state)
{
    struct stage stage;
    struct op *op;

    (void)state;
    stage_init(&stage, 0);
    scope_defer(stage.scope, cleanup_a, &stage.owner);
    scope_defer(stage.scope, cleanup_b, &stage.owner);
    op = scope_alloc(stage.scope, sizeof *op);
    assert_true(op_init(op, stage.scope, &noting_kind));
    op_finish(op, ERR_OK, NULL);
    scope_finish(stage.scope, SCOPE_REPLIED);
    assert_string_equal(stage.owner.told, "");
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "BAre");
    stage_deinit(&stage);
}

/* What a cleanup may do, and may not. */
struct tidying {
    struct stage *stage;
    bool ran;
};

static void fail_if_run(struct scope *scope, void *data)
{
    (void)scope;
    (void)data;
    fail();
}

static void fail_if_told(struct op *op, void *data)
{
    (void)op;
    (void)data;
    fail();
}

static void note_late_watch(struct op *op, void *data)
{
    (void)op;
    tell(data, "w");
}

static void cleanup_tries_all(void *data)
{
    struct tidying *tidying = data;
    struct scope *scope = tidying->stage->scope;
    struct op_watch *watch = scope_alloc(scope, sizeof *watch);
    struct op *op;

    assert_ptr_equal(scope_of(scope->tasks, scope->handle), scope);
    assert_null(scope_current(scope->tasks));
    op = op_sleep(scope, 10);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_int_equal(op_await(op), ERR_STATE);
    assert_int_equal(op_then(op, fail_if_told, NULL), ERR_STATE);
    assert_int_equal(op_notify(op, fail_if_told, NULL), ERR_STATE);
    *watch = (struct op_watch){.fn = note_late_watch, .data = &tidying->stage->owner};
    op_watch(op, watch);
    assert_int_equal(group_start(scope, GROUP_ALL, &op, 1)->status, ERR_CANCELED);
    assert_int_equal(op_release(op_failed(scope, ERR_DB, NULL, SPAN("no"))), ERR_OK);
    assert_false(scope_run(scope, fail_if_run, NULL, true));
    assert_null(scope_child(scope, 0, 0));
    scope_cancel(scope, SCOPE_EXPLICIT);
    scope_tighten(scope, 1);
    scope_shield(scope, 1);
    scope_defer(scope, cleanup_b, &tidying->stage->owner); /* the newest: comes before the rest */
    tidying->ran = true;
}

static void test_what_a_cleanup_may_do(void **state)
{
    struct stage stage;
    struct tidying tidying = {.stage = &stage};

    (void)state;
    stage_init(&stage, 1000);
    scope_defer(stage.scope, cleanup_a, &stage.owner);
    scope_defer(stage.scope, cleanup_tries_all, &tidying);
    scope_finish(stage.scope, SCOPE_REPLIED);
    world_settle(&stage.world);
    assert_true(tidying.ran);
    assert_string_equal(stage.owner.told, "BAwe");
    walk(&stage, 20); /* no timer of it is left */
    stage_deinit(&stage);
}

/* Deadlines */

static void test_deadline(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 100);
    assert_int_equal(scope_budget_ms(stage.scope), 100);
    walk(&stage, 99);
    assert_int_equal(scope_budget_ms(stage.scope), 1);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    walk(&stage, 1);
    assert_int_equal(scope_budget_ms(stage.scope), 0);
    assert_int_equal(stage.scope->why, SCOPE_DEADLINE);
    assert_int_equal(scope_error(stage.scope), ERR_DEADLINE);
    assert_string_equal(stage.owner.told, "c");
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE); /* the first reason stands */
    assert_int_equal(stage.scope->why, SCOPE_DEADLINE);
    stage_deinit(&stage);
}

static void test_no_deadline(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0);
    assert_true(scope_budget_ms(stage.scope) == UINT64_MAX);
    fake_clock_jump(&stage.world.clock, stage.world.loop, 1u << 30);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    scope_tighten(stage.scope, UINT64_MAX); /* far enough for anybody */
    scope_tighten(stage.scope, 20);
    assert_int_equal(scope_budget_ms(stage.scope), 20);
    walk(&stage, 20);
    assert_int_equal(stage.scope->why, SCOPE_DEADLINE);
    stage_deinit(&stage);
}

/* A clock that stands between two milliseconds: a budget is not cut short by that. */
static void test_a_budget_is_never_cut_short(void **state)
{
    struct stage stage;
    struct scope *scope;

    (void)state;
    stage_init(&stage, 0);
    stage.world.clock.now_us += 900;
    run_turns(stage.world.loop, 1);
    scope = scope_create(stage.world.tasks, NULL, NULL, 1);
    stage.world.clock.now_us += 999;
    run_turns(stage.world.loop, 1);
    assert_int_equal(scope->why, SCOPE_ALIVE);
    stage.world.clock.now_us += 101;
    run_turns(stage.world.loop, 1);
    assert_int_equal(scope->why, SCOPE_DEADLINE);
    scope_finish(scope, SCOPE_REPLIED);
    stage_deinit(&stage);
}

static void test_a_deadline_is_only_tightened(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 100);
    scope_tighten(stage.scope, 200);
    assert_int_equal(scope_budget_ms(stage.scope), 100);
    scope_tighten(stage.scope, 50);
    assert_int_equal(scope_budget_ms(stage.scope), 50);
    walk(&stage, 50);
    assert_int_equal(stage.scope->why, SCOPE_DEADLINE);
    scope_tighten(stage.scope, 10);
    stage_deinit(&stage);
}

/* What is over before it is watched never had a timer; what is not ends as any other does. */
static void test_a_deadline_is_watched_later(void **state)
{
    struct scope *scope, *child;
    struct stage stage;

    (void)state;
    stage_init(&stage, 0);
    scope_tighten_unwatched(stage.scope, 20);
    scope_tighten_unwatched(stage.scope, 50);
    assert_int_equal(scope_budget_ms(stage.scope), 20);
    assert_false(timer_is_on(&stage.scope->_timer));
    child = scope_child(stage.scope, 0, 0);
    assert_int_equal(scope_budget_ms(child), 20);
    scope_watch(stage.scope);
    walk(&stage, 19);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    walk(&stage, 1);
    assert_int_equal(stage.scope->why, SCOPE_DEADLINE);
    assert_int_equal(child->why, SCOPE_DEADLINE);
    scope_tighten_unwatched(stage.scope, 10);
    scope_watch(stage.scope);
    assert_false(timer_is_on(&stage.scope->_timer));

    scope = scope_create(stage.world.tasks, NULL, NULL, 0);
    child = scope_child(scope, 0, 0);
    scope_tighten_unwatched(scope, 20); /* for its child too */
    assert_int_equal(scope_budget_ms(child), 20);
    scope_renew(scope, 0);
    scope_watch(scope); /* it has none by now */
    walk(&stage, 100);
    assert_int_equal(child->why, SCOPE_ALIVE);
    scope_finish(scope, SCOPE_REPLIED);
    stage_deinit(&stage);
}

/* The root's deadline is put off, and taken away; what children were given themselves stays. */
static void test_a_deadline_is_renewed(void **state)
{
    struct stage stage;
    struct scope *plain, *below, *own, *soon, *shielded;

    (void)state;
    stage_init(&stage, 100);
    plain = scope_child(stage.scope, 0, 0);
    below = scope_child(plain, 0, 0);
    own = scope_child(stage.scope, 500, 0);
    soon = scope_child(stage.scope, 20, 0);
    shielded = scope_child(stage.scope, 1000, SCOPE_SHIELD);
    scope_renew(stage.scope, 300);
    assert_int_equal(scope_budget_ms(stage.scope), 300);
    assert_int_equal(scope_budget_ms(plain), 300);
    assert_int_equal(scope_budget_ms(below), 300);
    assert_int_equal(scope_budget_ms(own), 300);
    assert_int_equal(scope_budget_ms(soon), 20);
    assert_int_equal(scope_budget_ms(shielded), 1000);
    walk(&stage, 200);
    assert_int_equal(soon->why, SCOPE_DEADLINE);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    scope_renew(stage.scope, 0);
    assert_true(scope_budget_ms(stage.scope) == UINT64_MAX);
    assert_true(scope_budget_ms(below) == UINT64_MAX);
    assert_int_equal(scope_budget_ms(own), 300);
    walk(&stage, 301);
    assert_int_equal(own->why, SCOPE_DEADLINE);
    assert_int_equal(plain->why, SCOPE_ALIVE);
    scope_renew(stage.scope, 10);
    walk(&stage, 10);
    assert_int_equal(stage.scope->why, SCOPE_DEADLINE);
    assert_int_equal(below->why, SCOPE_DEADLINE);
    assert_int_equal(shielded->why, SCOPE_ALIVE);
    scope_renew(stage.scope, 1000); /* too late */
    assert_int_equal(stage.scope->why, SCOPE_DEADLINE);
    stage_deinit(&stage);
}

static void test_deadlines_of_children(void **state)
{
    struct stage stage;
    struct scope *sooner;
    struct scope *later;
    struct scope *same;
    struct scope *grandchild;
    struct scope *shielded;

    (void)state;
    stage_init(&stage, 100);
    sooner = scope_child(stage.scope, 30, 0);
    later = scope_child(stage.scope, 300, 0);
    same = scope_child(stage.scope, 0, 0);
    grandchild = scope_child(same, 90, 0);
    shielded = scope_child(stage.scope, 300, SCOPE_SHIELD);
    assert_int_equal(scope_budget_ms(sooner), 30);
    assert_int_equal(scope_budget_ms(later), 100);
    assert_int_equal(scope_budget_ms(same), 100);
    assert_int_equal(scope_budget_ms(grandchild), 90);
    assert_int_equal(scope_budget_ms(shielded), 300);
    walk(&stage, 30);
    assert_int_equal(sooner->why, SCOPE_DEADLINE);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);

    /* The parent's is theirs too, down to the last; but not behind a shield. */
    scope_tighten(stage.scope, 20);
    assert_int_equal(scope_budget_ms(later), 20);
    assert_int_equal(scope_budget_ms(same), 20);
    assert_int_equal(scope_budget_ms(grandchild), 20);
    assert_int_equal(scope_budget_ms(shielded), 270);
    walk(&stage, 20);
    assert_int_equal(later->why, SCOPE_DEADLINE);
    assert_int_equal(grandchild->why, SCOPE_DEADLINE);
    assert_int_equal(shielded->why, SCOPE_ALIVE);
    walk(&stage, 250);
    assert_int_equal(shielded->why, SCOPE_DEADLINE);
    stage_deinit(&stage);
}

/* Cancel */

static void test_on_cancel_is_told_once_and_later(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0);
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    scope_cancel(stage.scope, SCOPE_EXPLICIT);
    assert_string_equal(stage.owner.told, "");
    assert_int_equal(scope_error(stage.scope), ERR_CANCELED);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "c");
    assert_int_equal(stage.scope->why, SCOPE_CLIENT_GONE);
    scope_finish(stage.scope, SCOPE_REPLIED);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "ce");
    stage_deinit(&stage);
}

static void test_who_finished_is_not_told_of_a_cancel(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0);
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    scope_finish(stage.scope, SCOPE_REPLIED);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "e");
    stage_deinit(&stage);
}

static void test_cancel_takes_the_children_along(void **state)
{
    struct stage stage;
    struct scope *child;
    struct scope *grandchild;
    struct scope *shielded;
    struct scope *below_shield;
    struct op *ops[5];

    (void)state;
    stage_init(&stage, 0);
    child = scope_child(stage.scope, 0, 0);
    grandchild = scope_child(child, 0, 0);
    shielded = scope_child(child, 1000, SCOPE_SHIELD);
    below_shield = scope_child(shielded, 0, 0);
    ops[0] = fake_start(stage.scope, NULL, false);
    ops[1] = fake_start(child, NULL, false);
    ops[2] = fake_start(grandchild, NULL, false);
    ops[3] = fake_start(shielded, NULL, false);
    ops[4] = fake_start(below_shield, NULL, false);
    scope_cancel(stage.scope, SCOPE_SHUTDOWN);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(ops[i]->state, i < 3 ? OP_TOLD : OP_PENDING);
    assert_int_equal(grandchild->why, SCOPE_SHUTDOWN);
    assert_int_equal(shielded->why, SCOPE_ALIVE);
    scope_cancel(shielded, SCOPE_SHUTDOWN);
    assert_int_equal(ops[3]->status, ERR_CANCELED);
    assert_int_equal(ops[4]->status, ERR_CANCELED);
    stage_deinit(&stage);
}

static void test_a_childs_cancel_leaves_the_rest_alone(void **state)
{
    struct stage stage;
    struct scope *child;
    struct scope *sibling;

    (void)state;
    stage_init(&stage, 0);
    child = scope_child(stage.scope, 0, 0);
    sibling = scope_child(stage.scope, 0, 0);
    scope_cancel(child, SCOPE_EXPLICIT);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    assert_int_equal(sibling->why, SCOPE_ALIVE);
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    assert_int_equal(child->why, SCOPE_EXPLICIT);
    assert_int_equal(sibling->why, SCOPE_CLIENT_GONE);
    stage_deinit(&stage);
}

/* How deep a tree is, a plugin decides: nothing may walk it by recursion. */
static void test_a_deep_tree(void **state)
{
    enum { DEPTH = 100000 };
    struct stage stage;
    struct scope *scope;

    (void)state;
    stage_init(&stage, 1000);
    scope = stage.scope;
    scope->memory_hard = 0;
    for (uint32_t i = 0; i < DEPTH; i++)
        scope = scope_child(scope, 0, 0);
    assert_int_equal(stage.world.tasks->scopes_count, DEPTH + 1);
    scope_tighten(stage.scope, 500);
    assert_int_equal(scope_budget_ms(scope), 500);
    assert_false(fake_start(scope, NULL, false)->is_retired);
    scope_cancel(stage.scope, SCOPE_EXPLICIT);
    assert_int_equal(scope->why, SCOPE_EXPLICIT);
    scope_finish(stage.scope, SCOPE_REPLIED);
    while (stage.world.tasks->scopes_count > 0)
        run_turns(stage.world.loop, 1);
    assert_string_equal(stage.owner.told, "e");
    stage_deinit(&stage);
}

/* Children */

static void test_a_child_inherits(void **state)
{
    struct stage stage;
    struct scope *child;

    (void)state;
    stage_init(&stage, 0);
    stage.scope->request_id = 17;
    stage.scope->blame_index = 3;
    child = scope_child(stage.scope, 0, SCOPE_SUPERVISE);
    assert_ptr_equal(child->parent, stage.scope);
    assert_ptr_equal(child->root, stage.scope);
    assert_ptr_equal(child->owner, &stage.owner);
    assert_null(child->handler);
    assert_int_equal(child->request_id, 17);
    assert_int_equal(child->blame_index, 3);
    assert_int_equal(child->flags, SCOPE_SUPERVISE);
    stage_deinit(&stage);
}

static void test_a_child_of_a_canceled_scope_is_born_canceled(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 100);
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    assert_int_equal(scope_child(stage.scope, 10, 0)->why, SCOPE_CLIENT_GONE);
    assert_int_equal(scope_child(stage.scope, 10, SCOPE_SHIELD)->why, SCOPE_ALIVE);
    walk(&stage, 20);
    stage_deinit(&stage);
}

static void test_a_child_is_finished_before_its_parent(void **state)
{
    struct stage stage;
    struct scope *child;
    uint64_t handle;

    (void)state;
    stage_init(&stage, 0);
    child = scope_child(stage.scope, 0, 0);
    child->handler = &handler;
    handle = child->handle;
    (void)fake_start(child, NULL, true); /* not retired at once: keeps the child */
    scope_finish(child, SCOPE_EXPLICIT);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "");
    op_retire(CONTAINER_OF(child->ops.next, struct op, _link));
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "e");
    assert_null(scope_of(stage.world.tasks, handle));
    assert_true(list_is_empty(&stage.scope->children));
    scope_finish(stage.scope, SCOPE_REPLIED);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "ee");
    stage_deinit(&stage);
}

static void test_a_child_keeps_its_parent(void **state)
{
    struct stage stage;
    struct scope *child;
    struct op *op;

    (void)state;
    stage_init(&stage, 0);
    child = scope_child(stage.scope, 0, 0);
    op = fake_start(child, NULL, true);
    scope_finish(stage.scope, SCOPE_REPLIED);
    assert_int_equal(child->why, SCOPE_REPLIED);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "");
    op_retire(op);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "e");
    stage_deinit(&stage);
}

static void count_told(struct op *op, void *data)
{
    (void)op;
    ++*(uint32_t *)data;
}

/* A shielded child goes on when its parent is done, with callbacks that start more; it ends when
 * there is nothing left, without anybody's call. */
static void then_sleep_again(struct op *op, void *data)
{
    struct op *next = op_sleep(op->scope, 10);

    assert_int_equal(op->status, ERR_OK);
    assert_int_equal(op_then(next, count_told, data), ERR_OK);
}

static void test_a_shielded_child_goes_on_to_its_end(void **state)
{
    struct stage stage;
    struct scope *child;
    struct scope *below;
    uint32_t count = 0;

    (void)state;
    stage_init(&stage, 0);
    child = scope_child(stage.scope, 1000, SCOPE_SHIELD);
    below = scope_child(child, 0, 0);
    child->handler = &handler;
    assert_int_equal(op_then(op_sleep(child, 10), then_sleep_again, &count), ERR_OK);
    assert_int_equal(op_then(op_sleep(below, 15), count_told, &count), ERR_OK);
    scope_finish(stage.scope, SCOPE_REPLIED);
    assert_int_equal(child->why, SCOPE_ALIVE);
    walk(&stage, 15);
    assert_int_equal(count, 1);
    assert_string_equal(stage.owner.told, "");
    walk(&stage, 5);
    assert_int_equal(count, 2);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "ee");
    stage_deinit(&stage);
}

static void test_a_shielded_childs_own_deadline(void **state)
{
    struct stage stage;
    struct scope *child;

    (void)state;
    stage_init(&stage, 0);
    child = scope_child(stage.scope, 30, SCOPE_SHIELD);
    child->handler = &handler;
    (void)fake_start(child, NULL, false);
    scope_finish(stage.scope, SCOPE_REPLIED);
    walk(&stage, 29);
    assert_string_equal(stage.owner.told, "");
    walk(&stage, 1);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "cee"); /* its owner did not finish it: told of cancel */
    stage_deinit(&stage);
}

/* The parent's fiber lives on after the reply and uses what lies in the child. */
struct afterwards {
    struct owner *owner;
    struct scope *child;
    char *text;
    uint64_t child_handle;
};

static void reply_and_go_on(struct scope *scope, void *data)
{
    struct afterwards *after = data;
    struct scope *rest;

    after->child = scope_child(scope, 1000, SCOPE_SHIELD);
    after->child_handle = after->child->handle;
    after->text = scope_alloc(after->child, 16);
    strcpy(after->text, "still here");
    assert_false(op_sleep(after->child, 5)->is_retired); /* then it has nothing more to do */
    scope_finish(scope, SCOPE_REPLIED);
    /* Of a second child, whose end wakes us. */
    rest = scope_child(scope, 1000, SCOPE_SHIELD);
    assert_int_equal(op_await(op_sleep(rest, 10)), ERR_OK);
    assert_non_null(scope_of(scope->tasks, after->child_handle));
    assert_string_equal(after->text, "still here");
    tell(after->owner, "x");
}

static void test_what_a_fiber_may_use_stays(void **state)
{
    struct stage stage;
    struct afterwards after;

    (void)state;
    stage_init(&stage, 0);
    after.owner = &stage.owner;
    assert_true(scope_run(stage.scope, reply_and_go_on, &after, false));
    walk(&stage, 9);
    assert_string_equal(stage.owner.told, "");
    walk(&stage, 1);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "xe");
    assert_null(scope_of(stage.world.tasks, after.child_handle));
    stage_deinit(&stage);
}

/* A fiber above the scope that was finished is no reason to wait. */
static void test_a_busy_root_does_not_keep_what_a_finished_child_left(void **state)
{
    struct stage stage;
    struct scope *child;
    uint64_t below;
    uint32_t ms = 1000;

    (void)state;
    stage_init(&stage, 0);
    assert_true(scope_run(stage.scope, run_sleep, &ms, false));
    child = scope_child(stage.scope, 0, 0);
    below = scope_child(child, 500, SCOPE_SHIELD)->handle;
    scope_finish(child, SCOPE_EXPLICIT);
    world_settle(&stage.world);
    assert_null(scope_of(stage.world.tasks, below));
    assert_true(list_is_empty(&stage.scope->children));
    stage_deinit(&stage);
}

/* Who finishes above what was finished already takes nothing over: it ends when its own tree is
 * quiet, as before. */
static void test_a_finish_above_a_finish(void **state)
{
    struct stage stage;
    struct scope *child;
    uint64_t below;
    uint32_t ms = 100;

    (void)state;
    stage_init(&stage, 0);
    assert_true(scope_run(scope_child(stage.scope, 500, SCOPE_SHIELD), run_sleep, &ms, false));
    child = scope_child(stage.scope, 0, 0);
    below = scope_child(child, 500, SCOPE_SHIELD)->handle;
    assert_false(op_sleep(scope_of(stage.world.tasks, below), 10)->is_retired);
    scope_finish(child, SCOPE_EXPLICIT);
    scope_finish(stage.scope, SCOPE_REPLIED);
    walk(&stage, 9);
    assert_non_null(scope_of(stage.world.tasks, below));
    walk(&stage, 1);
    world_settle(&stage.world);
    assert_null(scope_of(stage.world.tasks, below));
    assert_string_equal(stage.owner.told, "");
    walk(&stage, 90);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "e");
    stage_deinit(&stage);
}

static void test_a_child_born_after_the_finish_ends_by_itself(void **state)
{
    struct stage stage;
    struct op *op;

    (void)state;
    stage_init(&stage, 0);
    op = fake_start(stage.scope, NULL, true);
    scope_finish(stage.scope, SCOPE_REPLIED);
    (void)scope_child(stage.scope, 1000, SCOPE_SHIELD);
    world_settle(&stage.world);
    assert_true(list_is_empty(&stage.scope->children));
    op_retire(op);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "e");
    stage_deinit(&stage);
}

static void test_left_and_then_finished(void **state)
{
    struct stage stage;
    struct scope *child;
    struct op *op;

    (void)state;
    stage_init(&stage, 0);
    child = scope_child(stage.scope, 1000, SCOPE_SHIELD);
    op = fake_start(child, NULL, false);
    scope_finish(stage.scope, SCOPE_REPLIED);
    scope_finish(child, SCOPE_EXPLICIT);
    assert_int_equal(op->status, ERR_CANCELED);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "e");
    stage_deinit(&stage);
}

/* The shield against the client's leaving */

static void test_shield_the_client_leaves_meanwhile(void **state)
{
    struct stage stage;
    struct scope *child;

    (void)state;
    stage_init(&stage, 0);
    child = scope_child(stage.scope, 0, 0);
    scope_shield(stage.scope, 100);
    walk(&stage, 40);
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    assert_false(fake_start(stage.scope, NULL, false)->is_retired);
    walk(&stage, 59);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    assert_int_equal(child->why, SCOPE_ALIVE);
    walk(&stage, 1);
    assert_int_equal(stage.scope->why, SCOPE_CLIENT_GONE);
    assert_int_equal(child->why, SCOPE_CLIENT_GONE);
    assert_string_equal(stage.owner.told, "c");
    stage_deinit(&stage);
}

static void test_shield_the_client_leaves_later_or_never(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0);
    scope_shield(stage.scope, 100);
    walk(&stage, 100);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    assert_int_equal(stage.scope->why, SCOPE_CLIENT_GONE);
    scope_shield(stage.scope, 100); /* too late: nothing */
    assert_int_equal(stage.scope->why, SCOPE_CLIENT_GONE);
    walk(&stage, 200);
    stage_deinit(&stage);
}

static void test_shield_is_prolonged_never_shortened(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0);
    scope_shield(stage.scope, 0); /* nothing */
    scope_shield(stage.scope, 50);
    scope_shield(stage.scope, 10);
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    walk(&stage, 49);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    scope_shield(stage.scope, 30);
    walk(&stage, 29);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    walk(&stage, 1);
    assert_int_equal(stage.scope->why, SCOPE_CLIENT_GONE);
    stage_deinit(&stage);
}

static void test_shield_is_against_nothing_else(void **state)
{
    (void)state;
    for (enum scope_why why = SCOPE_DEADLINE; why <= SCOPE_MEMORY; why++) {
        struct stage stage;

        stage_init(&stage, 0);
        scope_shield(stage.scope, 100);
        scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
        scope_cancel(stage.scope, why);
        assert_int_equal(stage.scope->why, why);
        walk(&stage, 100);
        assert_int_equal(stage.scope->why, why);
        stage_deinit(&stage);
    }
}

static void test_shield_of_a_child_and_of_the_finished(void **state)
{
    struct stage stage;
    struct scope *child;
    struct scope *sibling;
    uint64_t handle;

    (void)state;
    stage_init(&stage, 0);
    child = scope_child(stage.scope, 0, 0);
    sibling = scope_child(stage.scope, 0, 0);
    scope_shield(child, 50);
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    assert_int_equal(sibling->why, SCOPE_CLIENT_GONE);
    assert_int_equal(child->why, SCOPE_ALIVE);
    walk(&stage, 50);
    assert_int_equal(child->why, SCOPE_CLIENT_GONE);

    /* Whoever finishes means it. */
    child = scope_child(stage.scope, 1000, SCOPE_SHIELD);
    handle = child->handle;
    scope_shield(child, 500);
    (void)fake_start(child, NULL, false);
    scope_finish(child, SCOPE_CLIENT_GONE);
    world_settle(&stage.world);
    assert_null(scope_of(stage.world.tasks, handle));
    stage_deinit(&stage);
}

/* on_idle */

static void test_idle_after_a_handler_that_did_nothing(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0);
    assert_true(scope_run(stage.scope, run_nothing, NULL, false));
    assert_string_equal(stage.owner.told, "");
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "i");
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "i");
    assert_true(scope_run(stage.scope, run_nothing, NULL, false));
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "ii");
    stage.owner.finishes = true;
    assert_true(scope_run(stage.scope, run_nothing, NULL, false));
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "iiie");
    stage_deinit(&stage);
}

static void test_not_idle_before_a_fiber_returned(void **state)
{
    struct stage stage;
    uint32_t count = 0;

    (void)state;
    stage_init(&stage, 0);
    /* The host's own preparation, such as reading the body. */
    assert_int_equal(op_notify(op_sleep(stage.scope, 1), count_told, &count), ERR_OK);
    walk(&stage, 1);
    assert_int_equal(count, 1);
    assert_string_equal(stage.owner.told, "");
    stage_deinit(&stage);
}

static void start_op(struct scope *scope, void *data)
{
    *(struct op **)data = fake_start(scope, NULL, false);
}

static void test_idle_when_the_last_op_is_told(void **state)
{
    struct stage stage;
    struct op *op;
    uint32_t count = 0;

    (void)state;
    stage_init(&stage, 0);
    assert_true(scope_run(stage.scope, start_op, &op, false));
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "");
    op_finish(op, ERR_OK, NULL); /* nobody waits for it: then nothing will ever happen */
    assert_string_equal(stage.owner.told, "");
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "i");

    assert_true(scope_run(stage.scope, start_op, &op, false));
    assert_int_equal(op_then(op, count_told, &count), ERR_OK);
    op_finish(op, ERR_OK, NULL);
    assert_false(scope_is_idle(stage.scope)); /* settled, not delivered */
    world_settle(&stage.world);
    assert_int_equal(count, 1);
    assert_string_equal(stage.owner.told, "ii");
    stage_deinit(&stage);
}

static void test_settled_and_not_retired_is_idle(void **state)
{
    struct stage stage;
    struct op *op;

    (void)state;
    stage_init(&stage, 0);
    assert_true(scope_run(stage.scope, start_op, &op, false));
    op_settle(op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "i");
    op_retire(op);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "i"); /* that is no news */
    stage_deinit(&stage);
}

static void test_not_idle_while_a_child_is_busy(void **state)
{
    struct stage stage;
    struct scope *child;
    struct scope *below;
    uint32_t ms = 10;

    (void)state;
    stage_init(&stage, 0);
    child = scope_child(stage.scope, 0, 0);
    below = scope_child(child, 0, 0);
    assert_true(scope_run(below, run_sleep, &ms, false));
    assert_true(scope_run(stage.scope, run_nothing, NULL, false));
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "");
    assert_false(scope_is_idle(stage.scope));
    walk(&stage, 10);
    world_settle(&stage.world);
    /* The children are there still, but nothing will ever run in them. */
    assert_string_equal(stage.owner.told, "i");
    assert_true(scope_is_idle(stage.scope));
    stage_deinit(&stage);
}

static void test_canceled_and_then_idle(void **state)
{
    struct stage stage;
    uint32_t ms = 10;

    (void)state;
    stage_init(&stage, 0);
    assert_true(scope_run(stage.scope, run_sleep, &ms, false));
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "ci");
    stage.owner.finishes = true;
    assert_true(scope_run(stage.scope, run_sleep, &ms, false)); /* a canceled scope can run */
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "ciie");
    stage_deinit(&stage);
}

static void run_and_finish(struct scope *scope, void *data)
{
    (void)data;
    scope_finish(scope, SCOPE_REPLIED);
    assert_int_equal(scope->why, SCOPE_REPLIED);
}

static void test_not_idle_after_the_finish(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 0);
    assert_true(scope_run(stage.scope, run_and_finish, NULL, false));
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "e");
    stage_deinit(&stage);
}

static void test_busy_again_before_idle_was_told(void **state)
{
    struct stage stage;
    struct op *op;

    (void)state;
    stage_init(&stage, 0);
    assert_true(scope_run(stage.scope, run_nothing, NULL, false));
    op = fake_start(stage.scope, NULL, false);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "");
    op_finish(op, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_string_equal(stage.owner.told, "i");
    stage_deinit(&stage);
}

/* Running, and the blame page */

struct nested {
    struct blame *page;
    struct scope *outer;
    struct scope *inner;
    uint32_t outer_index;
    uint32_t inner_index;
    uint32_t steps;
};

static void assert_blamed(const struct nested *nested, uint32_t index, uint64_t request)
{
    assert_int_equal(nested->page->index, index);
    assert_int_equal(nested->page->request, request);
}

static void run_inner(struct scope *scope, void *data)
{
    struct nested *nested = data;

    assert_ptr_equal(scope_current(scope->tasks), nested->inner);
    assert_blamed(nested, nested->inner_index, 2);
    assert_int_equal(op_await(op_sleep(scope, 10)), ERR_OK);
    assert_ptr_equal(scope_current(scope->tasks), nested->inner);
    assert_blamed(nested, nested->inner_index, 2);
    nested->steps++;
}

static void run_outer(struct scope *scope, void *data)
{
    struct nested *nested = data;

    assert_blamed(nested, nested->outer_index, 1);
    assert_true(scope_run(nested->inner, run_inner, nested, false));
    /* The inner one waits, and it is ours again. */
    assert_ptr_equal(scope_current(scope->tasks), nested->outer);
    assert_blamed(nested, nested->outer_index, 1);
    assert_int_equal(op_await(op_sleep(scope, 5)), ERR_OK);
    assert_blamed(nested, nested->outer_index, 1);
    nested->steps++;
}

static void cleanup_blamed(void *data)
{
    struct nested *nested = data;

    assert_blamed(nested, nested->outer_index, 1);
    nested->steps++;
}

static void test_blame_follows_what_runs(void **state)
{
    struct nested nested = {.page = blame_create()};
    struct world world;

    (void)state;
    nested.outer_index = blame_name(nested.page, SPAN("books"), SPAN("GET /books"));
    nested.inner_index = blame_name(nested.page, SPAN("quotes"), SPAN("GET /quotes"));
    world_init(&world, NULL, nested.page);
    nested.outer = scope_create(world.tasks, NULL, NULL, 0);
    nested.inner = scope_create(world.tasks, NULL, NULL, 0);
    nested.outer->blame_index = nested.outer_index;
    nested.outer->request_id = 1;
    nested.inner->blame_index = nested.inner_index;
    nested.inner->request_id = 2;
    scope_defer(nested.outer, cleanup_blamed, &nested);
    assert_true(scope_run(nested.outer, run_outer, &nested, false));
    assert_blamed(&nested, BLAME_HOST, 0);
    for (uint32_t i = 0; i < 20; i++) {
        fake_clock_jump(&world.clock, world.loop, 1);
        assert_blamed(&nested, BLAME_HOST, 0);
        assert_null(scope_current(world.tasks));
    }
    assert_int_equal(nested.steps, 2);
    scope_finish(nested.outer, SCOPE_REPLIED);
    scope_finish(nested.inner, SCOPE_REPLIED);
    world_deinit(&world);
    assert_int_equal(nested.steps, 3);
    assert_int_equal(nested.page->names[nested.outer_index].entries, 3);
    assert_int_equal(nested.page->names[nested.inner_index].entries, 2);
    blame_destroy(nested.page);
}

static void test_the_limit_of_fibers(void **state)
{
    const struct fiber_options options = {.count_max = 1};
    struct world world;
    struct scope *scope;
    uint32_t ms = 10;
    uint32_t count = 0;

    (void)state;
    world_init(&world, &options, NULL);
    scope = scope_create(world.tasks, NULL, NULL, 0);
    assert_true(scope_run(scope, run_sleep, &ms, false));
    assert_false(scope_run(scope, fail_if_run, NULL, false));
    assert_true(scope_run(scope, run_nothing, NULL, true));
    /* A callback was admitted with its request. */
    assert_int_equal(op_then(op_sleep(scope, 5), count_told, &count), ERR_OK);
    fake_clock_walk(&world.clock, world.loop, 5);
    assert_int_equal(count, 1);
    fake_clock_walk(&world.clock, world.loop, 5);
    scope_finish(scope, SCOPE_REPLIED);
    world_deinit(&world);
}

/* What no owner may do */

static void finish_twice(void *arg)
{
    struct stage stage;

    (void)arg;
    stage_init(&stage, 0);
    scope_finish(stage.scope, SCOPE_REPLIED);
    scope_finish(stage.scope, SCOPE_REPLIED);
}

static void use_after_the_end(void *arg)
{
    struct stage stage;

    (void)arg;
    stage_init(&stage, 0);
    scope_finish(stage.scope, SCOPE_REPLIED);
    world_settle(&stage.world);
    scope_cancel(stage.scope, SCOPE_EXPLICIT);
}

static void shield_without_deadline(void *arg)
{
    struct stage stage;

    (void)arg;
    stage_init(&stage, 0);
    (void)scope_child(stage.scope, 0, SCOPE_SHIELD);
}

static void test_an_owners_mistakes_are_death(void **state)
{
    char output[DIES_OUTPUT_SIZE];

    (void)state;
    assert_true(dies(finish_twice, NULL, output));
    assert_true(dies(use_after_the_end, NULL, output));
    assert_true(dies(shield_without_deadline, NULL, output));
    assert_non_null(strstr(output, "budget_ms > 0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_finished_scope_ends_from_the_ready_list),
        cmocka_unit_test(test_a_scope_is_reaped_when_nothing_goes_on),
        cmocka_unit_test(test_structs_are_used_again_and_handles_are_not),
        cmocka_unit_test(test_a_suspended_fiber_keeps_its_scope),
        cmocka_unit_test(test_cleanups_newest_first_then_ops_then_the_end),
        cmocka_unit_test(test_what_a_cleanup_may_do),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_no_deadline),
        cmocka_unit_test(test_a_budget_is_never_cut_short),
        cmocka_unit_test(test_a_deadline_is_only_tightened),
        cmocka_unit_test(test_a_deadline_is_watched_later),
        cmocka_unit_test(test_a_deadline_is_renewed),
        cmocka_unit_test(test_deadlines_of_children),
        cmocka_unit_test(test_on_cancel_is_told_once_and_later),
        cmocka_unit_test(test_who_finished_is_not_told_of_a_cancel),
        cmocka_unit_test(test_cancel_takes_the_children_along),
        cmocka_unit_test(test_a_childs_cancel_leaves_the_rest_alone),
        cmocka_unit_test(test_a_deep_tree),
        cmocka_unit_test(test_a_child_inherits),
        cmocka_unit_test(test_a_child_of_a_canceled_scope_is_born_canceled),
        cmocka_unit_test(test_a_child_is_finished_before_its_parent),
        cmocka_unit_test(test_a_child_keeps_its_parent),
        cmocka_unit_test(test_a_shielded_child_goes_on_to_its_end),
        cmocka_unit_test(test_a_shielded_childs_own_deadline),
        cmocka_unit_test(test_what_a_fiber_may_use_stays),
        cmocka_unit_test(test_a_busy_root_does_not_keep_what_a_finished_child_left),
        cmocka_unit_test(test_a_finish_above_a_finish),
        cmocka_unit_test(test_a_child_born_after_the_finish_ends_by_itself),
        cmocka_unit_test(test_left_and_then_finished),
        cmocka_unit_test(test_shield_the_client_leaves_meanwhile),
        cmocka_unit_test(test_shield_the_client_leaves_later_or_never),
        cmocka_unit_test(test_shield_is_prolonged_never_shortened),
        cmocka_unit_test(test_shield_is_against_nothing_else),
        cmocka_unit_test(test_shield_of_a_child_and_of_the_finished),
        cmocka_unit_test(test_idle_after_a_handler_that_did_nothing),
        cmocka_unit_test(test_not_idle_before_a_fiber_returned),
        cmocka_unit_test(test_idle_when_the_last_op_is_told),
        cmocka_unit_test(test_settled_and_not_retired_is_idle),
        cmocka_unit_test(test_not_idle_while_a_child_is_busy),
        cmocka_unit_test(test_canceled_and_then_idle),
        cmocka_unit_test(test_not_idle_after_the_finish),
        cmocka_unit_test(test_busy_again_before_idle_was_told),
        cmocka_unit_test(test_blame_follows_what_runs),
        cmocka_unit_test(test_the_limit_of_fibers),
        cmocka_unit_test(test_an_owners_mistakes_are_death),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
