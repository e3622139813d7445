/* Goal: a group settles when and how group.h says, whatever order its children settle in; losers
 * are really canceled, each child keeps its own consumer, and no shape of groups, children that are
 * released, shared or finished in one turn, nor a hostile number of them, does any harm. */
#include "base/check.h"
#include "lib/task_world.h"
#include "lib/test.h"
#include "task/group.h"

enum { CHILDREN = 4 };

/* A world with a scope and a few children. */
struct stage {
    struct world world;
    struct scope *scope;
    struct fake_counts counts;
    struct op *children[CHILDREN];
    struct op *group;
    uint32_t told; /* times the group was told */
};

static void on_group(struct op *op, void *data)
{
    struct stage *stage = data;

    assert_ptr_equal(op, stage->group);
    stage->told++;
}

static void stage_init(struct stage *stage)
{
    *stage = (struct stage){0};
    world_init(&stage->world, NULL, NULL);
    stage->scope = scope_create(stage->world.tasks, NULL, NULL, 0);
    for (uint32_t i = 0; i < CHILDREN; i++)
        stage->children[i] = fake_start(stage->scope, &stage->counts, false);
}

/* Groups the first `count` children and listens. */
static void stage_group(struct stage *stage, enum group_kind kind, uint32_t count)
{
    stage->group = group_start(stage->scope, kind, stage->children, count);
    assert_int_equal(op_then(stage->group, on_group, stage), ERR_OK);
}

static void stage_deinit(struct stage *stage)
{
    scope_finish(stage->scope, SCOPE_REPLIED);
    world_deinit(&stage->world);
    assert_int_equal(stage->counts.released, CHILDREN);
}

static void finish(struct stage *stage, uint32_t index, enum err err)
{
    op_finish(stage->children[index], err, NULL);
}

static void assert_outcome(struct stage *stage, enum err err, int32_t winner)
{
    world_settle(&stage->world);
    assert_int_equal(stage->told, 1);
    assert_int_equal(stage->group->status, err);
    assert_int_equal(group_winner(stage->group), winner);
    assert_true(stage->group->is_retired);
}

static void assert_pending(struct stage *stage)
{
    world_settle(&stage->world);
    assert_int_equal(stage->told, 0);
    assert_int_equal(stage->group->state, OP_PENDING);
    assert_int_equal(group_winner(stage->group), -1);
}

/* ALL */

static void test_all_of_none(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.group = group_start(stage.scope, GROUP_ALL, NULL, 0);
    assert_int_equal(stage.group->state, OP_TOLD); /* born settled */
    assert_true(op_is_group(stage.group));
    assert_false(op_is_group(stage.children[0]));
    assert_int_equal(group_winner(stage.children[0]), -1);
    assert_int_equal(op_then(stage.group, on_group, &stage), ERR_OK);
    assert_int_equal(stage.told, 0);
    assert_outcome(&stage, ERR_OK, -1);
    stage_deinit(&stage);
}

static void test_all_of_one(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_ALL, 1);
    assert_pending(&stage);
    finish(&stage, 0, ERR_OK);
    assert_int_equal(stage.told, 0);
    assert_outcome(&stage, ERR_OK, -1);
    stage_deinit(&stage);
}

static void test_all_waits_for_each(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_ALL, CHILDREN);
    for (uint32_t i = CHILDREN; i-- > 0;) {
        assert_pending(&stage);
        finish(&stage, i, ERR_OK);
    }
    assert_outcome(&stage, ERR_OK, -1);
    stage_deinit(&stage);
}

static void test_all_in_one_turn(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_ALL, CHILDREN);
    for (uint32_t i = 0; i < CHILDREN; i++)
        finish(&stage, i, ERR_OK);
    assert_outcome(&stage, ERR_OK, -1);
    stage_deinit(&stage);
}

static void test_alls_first_error_cancels_the_others(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_ALL, CHILDREN);
    finish(&stage, 1, ERR_OK);
    op_explain(stage.children[2], SPAN("no such table"));
    finish(&stage, 2, ERR_DB);
    /* That the first one was canceled by us is no error of its own. */
    assert_outcome(&stage, ERR_DB, 2);
    assert_int_equal(stage.counts.withdrawn, 2);
    assert_int_equal(stage.children[0]->status, ERR_CANCELED);
    assert_int_equal(stage.children[1]->status, ERR_OK);
    assert_string_equal(stage.group->error.ptr, "no such table");
    stage_deinit(&stage);
}

static void test_alls_first_error_is_by_argument_order(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_ALL, CHILDREN);
    /* Both in one turn, the later argument first; one has a text and the other has none. */
    op_explain(stage.children[3], SPAN("late"));
    finish(&stage, 3, ERR_UP_RESET);
    finish(&stage, 1, ERR_DB_DOWN);
    assert_outcome(&stage, ERR_DB_DOWN, 1);
    assert_null(stage.group->error.ptr);
    stage_deinit(&stage);
}

static void test_a_child_that_was_canceled_by_its_user_is_an_error(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_ALL, 2);
    op_cancel(stage.children[1]);
    assert_outcome(&stage, ERR_CANCELED, 1);
    stage_deinit(&stage);
}

static void test_all_settles_only_after_every_child(void **state)
{
    struct stage stage;
    struct op *children[2];

    (void)state;
    stage_init(&stage);
    children[0] = stage.children[0];
    children[1] = fake_start(stage.scope, NULL, true); /* canceled, it settles and retires later */
    stage.group = group_start(stage.scope, GROUP_ALL, children, 2);
    assert_int_equal(op_then(stage.group, on_group, &stage), ERR_OK);
    finish(&stage, 0, ERR_DB);
    run_turns(stage.world.loop, 1);
    assert_int_equal(children[1]->status, ERR_CANCELED);
    assert_outcome(&stage, ERR_DB, 0);
    op_retire(children[1]);
    stage_deinit(&stage);
}

static void test_a_supervising_scope_lets_siblings_go_on(void **state)
{
    struct stage stage;
    struct scope *child;

    (void)state;
    stage_init(&stage);
    child = scope_child(stage.scope, 0, SCOPE_SUPERVISE);
    stage.group = group_start(child, GROUP_ALL, stage.children, 3);
    assert_int_equal(op_then(stage.group, on_group, &stage), ERR_OK);
    finish(&stage, 1, ERR_DB);
    assert_pending(&stage);
    assert_int_equal(stage.children[0]->state, OP_PENDING);
    finish(&stage, 0, ERR_OK);
    assert_pending(&stage);
    finish(&stage, 2, ERR_DB_DOWN);
    assert_outcome(&stage, ERR_DB, 1);
    stage_deinit(&stage);
}

static void test_all_of_settled_children(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    finish(&stage, 0, ERR_OK);
    finish(&stage, 1, ERR_OK);
    stage_group(&stage, GROUP_ALL, 2);
    assert_int_equal(stage.group->state, OP_SETTLED);
    assert_int_equal(stage.told, 0);
    assert_outcome(&stage, ERR_OK, -1);

    /* One has failed already: the others are canceled at once. */
    finish(&stage, 3, ERR_DB);
    stage.told = 0;
    stage_group(&stage, GROUP_ALL, CHILDREN);
    assert_int_equal(stage.children[2]->status, ERR_CANCELED);
    assert_outcome(&stage, ERR_DB, 3);
    stage_deinit(&stage);
}

/* ANY */

static void test_any_of_none(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.group = group_start(stage.scope, GROUP_ANY, NULL, 0);
    assert_int_equal(stage.group->status, ERR_INVALID);
    assert_int_equal(group_winner(stage.group), -1);
    stage_deinit(&stage);
}

static void test_any_of_one(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct stage stage;

        stage_init(&stage);
        stage_group(&stage, GROUP_ANY, 1);
        assert_pending(&stage);
        finish(&stage, 0, i == 0 ? ERR_OK : ERR_DB);
        assert_outcome(&stage, i == 0 ? ERR_OK : ERR_DB, 0);
        stage_deinit(&stage);
    }
}

static void test_anys_first_success_cancels_the_others(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_ANY, CHILDREN);
    op_explain(stage.children[0], SPAN("refused"));
    finish(&stage, 0, ERR_UP_CONNECT);
    assert_pending(&stage);
    finish(&stage, 2, ERR_OK);
    assert_outcome(&stage, ERR_OK, 2);
    assert_null(stage.group->error.ptr);
    assert_int_equal(stage.counts.withdrawn, 2);
    assert_int_equal(stage.children[1]->status, ERR_CANCELED);
    assert_int_equal(stage.children[3]->status, ERR_CANCELED);
    stage_deinit(&stage);
}

static void test_any_in_one_turn(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_ANY, CHILDREN);
    finish(&stage, 3, ERR_DB);
    finish(&stage, 2, ERR_OK);
    finish(&stage, 1, ERR_OK);
    finish(&stage, 0, ERR_DB);
    assert_outcome(&stage, ERR_OK, 2); /* the first in time */
    stage_deinit(&stage);
}

static void test_any_without_success(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_ANY, 3);
    op_explain(stage.children[1], SPAN("slow"));
    finish(&stage, 2, ERR_DB);
    finish(&stage, 1, ERR_UP_TIMEOUT);
    assert_pending(&stage);
    op_explain(stage.children[0], SPAN("refused"));
    finish(&stage, 0, ERR_UP_CONNECT);
    assert_outcome(&stage, ERR_UP_CONNECT, 0);
    assert_string_equal(stage.group->error.ptr, "refused");
    stage_deinit(&stage);
}

/* RACE */

static void test_a_races_first_child_decides_it(void **state)
{
    const enum err errs[] = {ERR_OK, ERR_DB};

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct stage stage;

        stage_init(&stage);
        stage_group(&stage, GROUP_RACE, CHILDREN);
        assert_pending(&stage);
        op_explain(stage.children[2], SPAN("it"));
        finish(&stage, 2, errs[i]);
        finish(&stage, 0, ERR_UP_CONNECT); /* in the same turn, but later */
        assert_outcome(&stage, errs[i], 2);
        assert_string_equal(stage.group->error.ptr, "it");
        assert_int_equal(stage.counts.withdrawn, 2);
        assert_int_equal(stage.children[1]->status, ERR_CANCELED);
        assert_int_equal(stage.children[3]->status, ERR_CANCELED);
        stage_deinit(&stage);
    }
}

static void test_a_race_of_settled_children(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    finish(&stage, 2, ERR_OK);
    finish(&stage, 1, ERR_DB);
    stage_group(&stage, GROUP_RACE, CHILDREN);
    assert_outcome(&stage, ERR_DB, 1); /* by argument order: nobody knows which was first */
    assert_int_equal(stage.counts.withdrawn, 2);
    stage_deinit(&stage);
}

static void test_a_race_of_none(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.group = group_start(stage.scope, GROUP_RACE, NULL, 0);
    assert_int_equal(stage.group->status, ERR_INVALID);
    stage_deinit(&stage);
}

static void test_a_race_that_is_canceled(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_RACE, CHILDREN);
    op_cancel(stage.group);
    assert_outcome(&stage, ERR_CANCELED, -1);
    assert_int_equal(stage.counts.withdrawn, CHILDREN);
    stage_deinit(&stage);
}

static void test_any_of_settled_children(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    finish(&stage, 0, ERR_DB);
    finish(&stage, 2, ERR_OK);
    stage_group(&stage, GROUP_ANY, CHILDREN);
    assert_int_equal(stage.children[1]->status, ERR_CANCELED);
    assert_outcome(&stage, ERR_OK, 2);
    stage_deinit(&stage);
}

/* Cancel and deadline */

static void test_canceling_a_group_cancels_its_children(void **state)
{
    (void)state;
    for (enum group_kind kind = GROUP_ALL; kind <= GROUP_ANY; kind++) {
        struct stage stage;

        stage_init(&stage);
        stage_group(&stage, kind, 3);
        op_cancel(stage.group);
        assert_int_equal(stage.counts.withdrawn, 3);
        assert_int_equal(stage.children[0]->status, ERR_CANCELED);
        assert_int_equal(stage.children[3]->state, OP_PENDING);
        assert_int_equal(stage.told, 0);
        assert_outcome(&stage, ERR_CANCELED, -1);
        stage_deinit(&stage);
    }
}

/* One child has settled, and the group is canceled before it was told of that. */
static void test_canceled_between_a_childs_end_and_its_telling(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_ALL, 2);
    finish(&stage, 0, ERR_OK);
    finish(&stage, 1, ERR_OK);
    op_cancel(stage.group);
    assert_outcome(&stage, ERR_CANCELED, -1);
    assert_int_equal(stage.children[1]->status, ERR_OK);
    assert_int_equal(op_release(stage.children[0]), ERR_OK);
    stage_deinit(&stage);
}

static void test_a_scopes_end_cancels_groups_and_children(void **state)
{
    (void)state;
    for (enum scope_why why = SCOPE_CLIENT_GONE; why <= SCOPE_MEMORY; why++) {
        struct stage stage;

        stage_init(&stage);
        stage_group(&stage, GROUP_ALL, CHILDREN);
        scope_cancel(stage.scope, why);
        assert_int_equal(stage.counts.withdrawn, CHILDREN);
        assert_outcome(&stage, why == SCOPE_DEADLINE ? ERR_DEADLINE : ERR_CANCELED, -1);
        stage_deinit(&stage);
    }
}

static void test_a_group_in_a_canceled_scope(void **state)
{
    struct stage stage;
    struct scope *child;

    (void)state;
    stage_init(&stage);
    child = scope_child(stage.scope, 0, 0);
    scope_cancel(child, SCOPE_EXPLICIT);
    stage.group = group_start(child, GROUP_ALL, stage.children, CHILDREN);
    assert_int_equal(stage.group->status, ERR_CANCELED);
    assert_int_equal(stage.children[0]->state, OP_PENDING);
    stage_deinit(&stage);
}

/* Shapes */

static void test_groups_in_groups(void **state)
{
    struct stage stage;
    struct op *inner[2];

    (void)state;
    stage_init(&stage);
    inner[0] = group_start(stage.scope, GROUP_ANY, stage.children, 2);
    inner[1] = group_start(stage.scope, GROUP_ALL, stage.children + 2, 2);
    stage.group = group_start(stage.scope, GROUP_ALL, inner, 2);
    assert_int_equal(op_then(stage.group, on_group, &stage), ERR_OK);
    finish(&stage, 0, ERR_OK);
    assert_pending(&stage);
    assert_int_equal(inner[0]->status, ERR_OK);
    finish(&stage, 2, ERR_OK);
    finish(&stage, 3, ERR_OK);
    assert_outcome(&stage, ERR_OK, -1);
    stage_deinit(&stage);
}

/* Who logs a failure wants the op that failed, not the group. */
static void test_a_group_names_the_child_that_it_stands_for(void **state)
{
    struct stage stage;
    struct op *inner;

    (void)state;
    stage_init(&stage);
    inner = group_start(stage.scope, GROUP_ALL, stage.children, 3);
    stage.group = group_start(stage.scope, GROUP_ALL, (struct op *[]){stage.children[3], inner}, 2);
    assert_int_equal(op_then(stage.group, on_group, &stage), ERR_OK);
    assert_int_equal(group_child(stage.group), 0);
    assert_int_equal(group_child(stage.children[0]), 0);
    finish(&stage, 1, ERR_DB);
    assert_outcome(&stage, ERR_DB, 1);
    assert_true(group_child(inner) == stage.children[1]->handle);
    assert_true(group_child(stage.group) == stage.children[1]->handle);
    stage_deinit(&stage);
}

static void test_cancel_goes_down_through_groups(void **state)
{
    struct stage stage;
    struct op *inner[2];

    (void)state;
    stage_init(&stage);
    inner[0] = group_start(stage.scope, GROUP_ANY, stage.children, 2);
    inner[1] = group_start(stage.scope, GROUP_ALL, stage.children + 2, 2);
    stage.group = group_start(stage.scope, GROUP_ALL, inner, 2);
    assert_int_equal(op_then(stage.group, on_group, &stage), ERR_OK);
    finish(&stage, 3, ERR_DB); /* fails the inner ALL, that fails the outer, that ends the ANY */
    assert_outcome(&stage, ERR_DB, 1);
    assert_int_equal(inner[0]->status, ERR_CANCELED);
    assert_int_equal(inner[1]->status, ERR_DB);
    assert_int_equal(stage.children[0]->status, ERR_CANCELED);
    stage_deinit(&stage);
}

static void test_a_child_in_two_groups(void **state)
{
    struct stage stage;
    struct op *other;

    (void)state;
    stage_init(&stage);
    other = group_start(stage.scope, GROUP_ANY, stage.children + 1, 3);
    stage_group(&stage, GROUP_ALL, 2); /* child 1 is in both */
    finish(&stage, 1, ERR_OK);
    world_settle(&stage.world);
    assert_int_equal(other->status, ERR_OK);
    assert_int_equal(group_winner(other), 0);
    assert_int_equal(stage.children[2]->status, ERR_CANCELED);
    assert_pending(&stage);
    finish(&stage, 0, ERR_OK);
    assert_outcome(&stage, ERR_OK, -1);
    stage_deinit(&stage);
}

/* What one group cancels is another's failed child. */
static void test_two_groups_at_odds(void **state)
{
    struct stage stage;
    struct op *other;

    (void)state;
    stage_init(&stage);
    other = group_start(stage.scope, GROUP_ANY, stage.children + 1, 2);
    stage_group(&stage, GROUP_ALL, 2);
    finish(&stage, 2, ERR_OK); /* wins the ANY, which cancels child 1 */
    assert_outcome(&stage, ERR_CANCELED, 1);
    assert_int_equal(other->status, ERR_OK);
    assert_int_equal(stage.children[0]->status, ERR_CANCELED);
    stage_deinit(&stage);
}

static void test_a_child_twice_in_a_group(void **state)
{
    struct stage stage;
    struct op *children[3];

    (void)state;
    stage_init(&stage);
    children[0] = children[2] = stage.children[0];
    children[1] = stage.children[1];
    stage.group = group_start(stage.scope, GROUP_ALL, children, 3);
    assert_int_equal(op_then(stage.group, on_group, &stage), ERR_OK);
    finish(&stage, 1, ERR_DB);
    assert_outcome(&stage, ERR_DB, 1);
    stage_deinit(&stage);
}

struct consumer {
    struct op *group;
    enum op_state group_state; /* when the child was told */
    uint32_t count;
};

static void on_child_told(struct op *op, void *data)
{
    struct consumer *consumer = data;

    (void)op;
    consumer->count++;
    consumer->group_state = consumer->group->state;
}

static void test_a_child_keeps_its_consumer(void **state)
{
    struct stage stage;
    struct consumer consumer = {0};

    (void)state;
    stage_init(&stage);
    assert_int_equal(op_then(stage.children[0], on_child_told, &consumer), ERR_OK);
    stage_group(&stage, GROUP_ALL, 1);
    consumer.group = stage.group;
    finish(&stage, 0, ERR_OK);
    assert_outcome(&stage, ERR_OK, -1);
    assert_int_equal(consumer.count, 1);
    assert_int_equal(consumer.group_state, OP_SETTLED); /* the group was told first */
    stage_deinit(&stage);
}

static void release_child(struct op *op, void *data)
{
    (void)data;
    assert_int_equal(op_release(op), ERR_OK);
}

static void test_a_child_may_be_released_before_the_group_settles(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    assert_int_equal(op_then(stage.children[0], release_child, NULL), ERR_OK);
    stage_group(&stage, GROUP_ALL, 2);
    finish(&stage, 0, ERR_OK);
    assert_pending(&stage);
    assert_int_equal(stage.counts.released, 1);
    op_cancel(stage.group); /* goes to the other child only */
    assert_int_equal(stage.counts.withdrawn, 1);
    assert_outcome(&stage, ERR_CANCELED, -1);
    stage_deinit(&stage);
}

static void test_a_group_is_released_like_any_op(void **state)
{
    struct stage stage;
    uint64_t handle;

    (void)state;
    stage_init(&stage);
    stage_group(&stage, GROUP_ALL, 1);
    handle = stage.group->handle;
    assert_int_equal(op_release(stage.group), ERR_STATE);
    finish(&stage, 0, ERR_OK);
    assert_outcome(&stage, ERR_OK, -1);
    assert_int_equal(op_release(stage.group), ERR_OK);
    assert_null(op_of(stage.world.tasks, handle));
    stage_deinit(&stage);
}

static void await_both(struct scope *scope, void *data)
{
    struct stage *stage = data;
    struct op *naps[2] = {op_sleep(scope, 20), op_sleep(scope, 10)};
    struct op *winner = group_start(scope, GROUP_ANY, naps, 2);

    assert_int_equal(op_await(winner), ERR_OK);
    assert_int_equal(group_winner(winner), 1);
    assert_int_equal(op_await(naps[0]), ERR_CANCELED); /* groups are no consumers */
    assert_int_equal(op_await(naps[1]), ERR_OK);
    stage->told++;
}

static void test_a_fiber_awaits_a_group(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    assert_true(scope_run(stage.scope, await_both, &stage, false));
    fake_clock_walk(&stage.world.clock, stage.world.loop, 9);
    assert_int_equal(stage.told, 0);
    fake_clock_walk(&stage.world.clock, stage.world.loop, 1);
    assert_int_equal(stage.told, 1);
    stage_deinit(&stage);
}

/* Scopes */

static void test_children_of_other_scopes_of_the_tree(void **state)
{
    struct stage stage;
    struct scope *scopes[2];
    struct op *children[2];

    (void)state;
    stage_init(&stage);
    for (uint32_t i = 0; i < 2; i++) {
        scopes[i] = scope_child(stage.scope, 0, 0);
        children[i] = fake_start(scopes[i], NULL, false);
    }
    stage.group = group_start(stage.scope, GROUP_ALL, children, 2);
    assert_int_equal(op_then(stage.group, on_group, &stage), ERR_OK);
    op_finish(children[0], ERR_OK, NULL);
    scope_finish(scopes[0], SCOPE_EXPLICIT);
    assert_pending(&stage); /* the first child and its scope are gone by now */
    scope_finish(scopes[1], SCOPE_EXPLICIT);
    assert_outcome(&stage, ERR_CANCELED, 1);
    stage_deinit(&stage);
}

static void test_the_groups_scope_ends_before_its_children(void **state)
{
    struct stage stage;
    struct scope *child;

    (void)state;
    stage_init(&stage);
    child = scope_child(stage.scope, 0, 0);
    (void)group_start(child, GROUP_ALL, stage.children, CHILDREN);
    scope_finish(child, SCOPE_EXPLICIT);
    assert_int_equal(stage.children[0]->status, ERR_CANCELED);
    world_settle(&stage.world);
    assert_int_equal(stage.world.tasks->scopes_count, 1);
    stage_deinit(&stage);
}

static void test_another_requests_op_is_refused(void **state)
{
    struct stage stage;
    struct scope *other;

    (void)state;
    stage_init(&stage);
    other = scope_create(stage.world.tasks, NULL, NULL, 0);
    assert_int_equal(group_start(other, GROUP_ALL, stage.children, 1)->status, ERR_STATE);
    assert_int_equal(stage.children[0]->state, OP_PENDING);
    scope_finish(other, SCOPE_REPLIED);
    stage_deinit(&stage);
}

/* Numbers */

static void test_many_children(void **state)
{
    static struct op *children[GROUP_CHILDREN_MAX + 1];
    struct stage stage;

    (void)state;
    stage_init(&stage);
    for (uint32_t i = 0; i <= GROUP_CHILDREN_MAX; i++)
        children[i] = op_sleep(stage.scope, 1 + i % 100);
    stage.group = group_start(stage.scope, GROUP_ALL, children, GROUP_CHILDREN_MAX);
    assert_int_equal(group_start(stage.scope, GROUP_ALL, children, GROUP_CHILDREN_MAX + 1)->status,
                     ERR_INVALID);
    while (stage.group->state == OP_PENDING)
        fake_clock_jump(&stage.world.clock, stage.world.loop, 1);
    assert_int_equal(stage.group->status, ERR_OK);
    stage_deinit(&stage);
}

static void test_groups_in_groups_have_a_limit(void **state)
{
    struct stage stage;
    struct op *op;

    (void)state;
    stage_init(&stage);
    op = stage.children[0];
    for (uint32_t i = 0; i < GROUP_DEPTH_MAX; i++)
        op = group_start(stage.scope, GROUP_ALL, &op, 1);
    assert_int_equal(op->state, OP_PENDING);
    assert_int_equal(group_start(stage.scope, GROUP_ALL, &op, 1)->status, ERR_INVALID);
    op_cancel(op);
    assert_int_equal(stage.children[0]->status, ERR_CANCELED);
    stage_deinit(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_of_none),
        cmocka_unit_test(test_all_of_one),
        cmocka_unit_test(test_all_waits_for_each),
        cmocka_unit_test(test_all_in_one_turn),
        cmocka_unit_test(test_alls_first_error_cancels_the_others),
        cmocka_unit_test(test_alls_first_error_is_by_argument_order),
        cmocka_unit_test(test_a_child_that_was_canceled_by_its_user_is_an_error),
        cmocka_unit_test(test_all_settles_only_after_every_child),
        cmocka_unit_test(test_a_supervising_scope_lets_siblings_go_on),
        cmocka_unit_test(test_all_of_settled_children),
        cmocka_unit_test(test_any_of_none),
        cmocka_unit_test(test_any_of_one),
        cmocka_unit_test(test_anys_first_success_cancels_the_others),
        cmocka_unit_test(test_any_in_one_turn),
        cmocka_unit_test(test_any_without_success),
        cmocka_unit_test(test_any_of_settled_children),
        cmocka_unit_test(test_a_races_first_child_decides_it),
        cmocka_unit_test(test_a_race_of_settled_children),
        cmocka_unit_test(test_a_race_of_none),
        cmocka_unit_test(test_a_race_that_is_canceled),
        cmocka_unit_test(test_canceling_a_group_cancels_its_children),
        cmocka_unit_test(test_canceled_between_a_childs_end_and_its_telling),
        cmocka_unit_test(test_a_scopes_end_cancels_groups_and_children),
        cmocka_unit_test(test_a_group_in_a_canceled_scope),
        cmocka_unit_test(test_groups_in_groups),
        cmocka_unit_test(test_a_group_names_the_child_that_it_stands_for),
        cmocka_unit_test(test_cancel_goes_down_through_groups),
        cmocka_unit_test(test_a_child_in_two_groups),
        cmocka_unit_test(test_two_groups_at_odds),
        cmocka_unit_test(test_a_child_twice_in_a_group),
        cmocka_unit_test(test_a_child_keeps_its_consumer),
        cmocka_unit_test(test_a_child_may_be_released_before_the_group_settles),
        cmocka_unit_test(test_a_group_is_released_like_any_op),
        cmocka_unit_test(test_a_fiber_awaits_a_group),
        cmocka_unit_test(test_children_of_other_scopes_of_the_tree),
        cmocka_unit_test(test_the_groups_scope_ends_before_its_children),
        cmocka_unit_test(test_another_requests_op_is_refused),
        cmocka_unit_test(test_many_children),
        cmocka_unit_test(test_groups_in_groups_have_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
