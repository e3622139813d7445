/* Goal: a tree of scopes has one account of its memory: what arenas, children and results of ops
 * take counts while it is there; beyond the soft limit whoever took it is canceled, beyond the hard
 * one the worker ends, and the log names the plugin. So no loop of a plugin's eats the machine. */
#include "lib/dies.h"
#include "lib/task_world.h"
#include "lib/test.h"
#include "observe/blame.h"

#include <stdlib.h>
#include <string.h>

/* A world with one root. */
struct stage {
    struct world world;
    struct scope *scope;
};

static void stage_init(struct stage *stage)
{
    world_init(&stage->world, NULL, NULL);
    stage->scope = scope_create(stage->world.tasks, NULL, NULL, 0);
}

static void stage_deinit(struct stage *stage)
{
    scope_finish(stage->scope, SCOPE_REPLIED);
    world_deinit(&stage->world);
}

static void test_the_soft_limit_cancels(void **state)
{
    struct stage stage;
    struct op *op;
    char *memory;

    (void)state;
    stage_init(&stage);
    op = fake_start(stage.scope, NULL, false);
    stage.scope->memory_max = stage.scope->arena.bytes + 100;
    (void)scope_alloc(stage.scope, 100);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    memory = scope_alloc(stage.scope, 50000);
    memory[49999] = 1; /* it succeeded */
    assert_int_equal(stage.scope->why, SCOPE_MEMORY);
    assert_int_equal(op->status, ERR_CANCELED);
    (void)scope_alloc(stage.scope, 10);
    stage_deinit(&stage);
}

static void test_room_is_told_with_a_reserve(void **state)
{
    struct stage stage;
    size_t room;

    (void)state;
    stage_init(&stage);
    room = scope_room(stage.scope);
    assert_int_equal(room, SCOPE_MEMORY_HARD / 8 * 7 - stage.scope->arena.bytes);
    (void)scope_alloc(stage.scope, room);
    assert_int_equal(scope_room(stage.scope), 0);
    (void)scope_alloc(stage.scope, SCOPE_MEMORY_HARD / 16);
    assert_int_equal(scope_room(stage.scope), 0);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    stage.scope->memory_hard = 0;
    assert_true(scope_room(stage.scope) > SCOPE_MEMORY_HARD);
    stage_deinit(&stage);
}

/* Starting an op takes memory too, and may be what breaks the limit. */
static void test_an_op_can_be_too_much(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.scope->memory_max = 1;
    assert_int_equal(op_sleep(stage.scope, 10)->status, ERR_CANCELED);
    assert_int_equal(stage.scope->why, SCOPE_MEMORY);
    stage_deinit(&stage);
}

static void take_too_much(struct scope *scope, void *data)
{
    (void)data;
    (void)scope_alloc(scope, SCOPE_MEMORY_HARD / 2);
    (void)scope_alloc(scope, SCOPE_MEMORY_HARD / 2 + 1);
}

static void take_far_too_much(struct scope *scope, void *data)
{
    (void)data;
    (void)scope_alloc(scope, SIZE_MAX - 10);
}

static void take_too_much_in_children(struct scope *scope, void *data)
{
    (void)data;
    for (uint32_t i = 0; i < 9; i++)
        (void)scope_alloc(scope_child(scope, 1000, i % 2 == 0 ? SCOPE_SHIELD : 0),
                          SCOPE_MEMORY_HARD / 8);
}

static void make_children_for_ever(struct scope *scope, void *data)
{
    (void)data;
    for (;;)
        (void)scope_child(scope, 0, 0);
}

static void start_ops_for_ever(struct scope *scope, void *data)
{
    (void)data;
    for (;;)
        (void)op_sleep(scope, 1000);
}

static void exceed(void *arg)
{
    scope_fn *const *fn = arg;
    struct world world;
    struct blame *page = blame_create();
    struct scope *scope;

    world_init(&world, NULL, page);
    scope = scope_create(world.tasks, NULL, NULL, 0);
    scope->blame_index = blame_name(page, SPAN("greedy"), SPAN("GET /eat"));
    (void)scope_run(scope, *fn, NULL, false);
}

static void test_the_hard_limit_ends_the_worker_and_names_the_plugin(void **state)
{
    char output[DIES_OUTPUT_SIZE];
    scope_fn *fns[] = {take_too_much, take_far_too_much, take_too_much_in_children,
                       make_children_for_ever, start_ops_for_ever};

    (void)state;
    for (uint32_t i = 0; i < sizeof fns / sizeof fns[0]; i++) {
        assert_true(dies(exceed, &fns[i], output));
        assert_non_null(strstr(output, "greedy"));
        assert_non_null(strstr(output, "GET /eat"));
        assert_non_null(strstr(output, "memory_hard"));
    }
}

/* Children and results */

static void test_children_count_for_the_root(void **state)
{
    struct scope *child, *shielded, *other;
    struct stage stage;
    size_t before;

    (void)state;
    stage_init(&stage);
    stage.scope->memory_max = 100000;
    child = scope_child(stage.scope, 0, 0);
    shielded = scope_child(stage.scope, 1000, SCOPE_SHIELD);
    other = scope_child(shielded, 0, 0);
    before = stage.scope->held;
    assert_in_range(before, 3 * sizeof(struct scope), 20000);
    (void)scope_alloc(child, 40000);
    assert_int_equal(stage.scope->held, before + 40000);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    (void)scope_alloc(other, 50000);
    assert_int_equal(stage.scope->why, SCOPE_MEMORY);
    assert_int_equal(child->why, SCOPE_MEMORY);
    assert_int_equal(other->why, SCOPE_MEMORY); /* it took what was too much */
    assert_int_equal(shielded->why, SCOPE_ALIVE);
    stage_deinit(&stage);
}

static void test_what_ended_counts_no_more(void **state)
{
    struct stage stage;
    size_t before;

    (void)state;
    stage_init(&stage);
    stage.scope->memory_max = 100000;
    before = stage.scope->held;
    for (uint32_t i = 0; i < 100; i++) {
        struct scope *child = scope_child(stage.scope, 0, 0);

        (void)scope_alloc(child, 50000);
        scope_defer(child, free, NULL);
        scope_finish(child, SCOPE_EXPLICIT);
        world_settle(&stage.world);
        assert_int_equal(stage.scope->held, before);
    }
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    stage_deinit(&stage);
}

static void test_children_without_end_are_too_much(void **state)
{
    struct stage stage;
    uint32_t count = 0;

    (void)state;
    stage_init(&stage);
    stage.scope->memory_max = 16 << 20;
    for (; stage.scope->why == SCOPE_ALIVE; count++)
        (void)scope_child(stage.scope, 0, 0);
    assert_int_equal(stage.scope->why, SCOPE_MEMORY);
    assert_in_range(count, 1000, 5000);
    stage_deinit(&stage);
}

static void test_ops_without_end_are_too_much(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.scope->memory_max = 16 << 20;
    for (uint32_t i = 0; i < 1000000 && stage.scope->why == SCOPE_ALIVE; i++)
        (void)op_sleep(stage.scope, 1000);
    assert_int_equal(stage.scope->why, SCOPE_MEMORY);
    assert_int_equal(op_sleep(stage.scope, 1)->status, ERR_CANCELED);
    stage_deinit(&stage);
}

/* One that is done, with a result of `bytes`. */
static struct op *done_with(struct scope *scope, size_t bytes)
{
    struct op *op = fake_start(scope, NULL, false);

    if (op->state == OP_PENDING) {
        op_hold(op, bytes);
        op_finish(op, ERR_OK, NULL);
    }
    return op;
}

/* The limit is the hard one, but it only cancels: a server chooses how large they are. */
static void test_results_count_until_they_are_released(void **state)
{
    struct op *first, *pending;
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.scope->memory_max = 16 << 20;
    stage.scope->memory_hard = 1000000;
    pending = fake_start(stage.scope, NULL, false);
    for (uint32_t i = 0; i < 50; i++) {
        struct op *op = done_with(stage.scope, 600000);

        assert_int_equal(stage.scope->results, 600000);
        world_settle(&stage.world);
        assert_int_equal(op_release(op), ERR_OK);
    }
    first = done_with(stage.scope, 600000);
    (void)done_with(scope_child(stage.scope, 0, 0), 400001);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE); /* not while a provider is at work */
    world_settle(&stage.world);
    assert_int_equal(stage.scope->why, SCOPE_MEMORY);
    assert_int_equal(pending->status, ERR_CANCELED);
    assert_int_equal(first->status, ERR_OK);
    assert_int_equal(done_with(stage.scope, 1)->status, ERR_CANCELED);
    stage_deinit(&stage);
}

/* Without a soft limit (a plugin's background) only the scope itself goes, and the others stay. */
static void test_a_job_with_too_many_results(void **state)
{
    struct scope *greedy, *modest;
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.scope->memory_hard = 1000000;
    greedy = scope_child(stage.scope, 0, 0);
    modest = scope_child(stage.scope, 0, 0);
    (void)done_with(greedy, 1000001);
    world_settle(&stage.world);
    assert_int_equal(greedy->why, SCOPE_MEMORY);
    assert_int_equal(modest->why, SCOPE_ALIVE);
    assert_int_equal(stage.scope->why, SCOPE_ALIVE);
    scope_finish(greedy, SCOPE_EXPLICIT);
    world_settle(&stage.world);
    assert_int_equal(stage.scope->results, 0);
    stage_deinit(&stage);
}

static void test_results_that_go_with_their_scope(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.scope->memory_hard = 1000000;
    (void)done_with(stage.scope, 1000001);
    stage_deinit(&stage); /* the cancel is on its way */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_soft_limit_cancels),
        cmocka_unit_test(test_room_is_told_with_a_reserve),
        cmocka_unit_test(test_an_op_can_be_too_much),
        cmocka_unit_test(test_the_hard_limit_ends_the_worker_and_names_the_plugin),
        cmocka_unit_test(test_children_count_for_the_root),
        cmocka_unit_test(test_what_ended_counts_no_more),
        cmocka_unit_test(test_children_without_end_are_too_much),
        cmocka_unit_test(test_ops_without_end_are_too_much),
        cmocka_unit_test(test_results_count_until_they_are_released),
        cmocka_unit_test(test_a_job_with_too_many_results),
        cmocka_unit_test(test_results_that_go_with_their_scope),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
