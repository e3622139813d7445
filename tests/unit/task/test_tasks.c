/* Goal: what a worker's scopes and ops share is made and ended whole; handles of ops and scopes are
 * told apart, and once the worker is warm a request takes no memory from the heap; stacks that are
 * no longer needed are given back, and so is what a crowd with or without stacks has left of the
 * heap. */
#include "base/mem.h"
#include "lib/dies.h"
#include "lib/task_world.h"
#include "lib/test.h"

#include <string.h>

/* Counting what is taken from the heap: the linker sends all calls here. */
static uint32_t taken;

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's names */
void *__real_mem_alloc(size_t size);
void *__wrap_mem_alloc(size_t size);
void *__real_mem_calloc(size_t count, size_t size);
void *__wrap_mem_calloc(size_t count, size_t size);
void *__real_mem_realloc(void *ptr, size_t size);
void *__wrap_mem_realloc(void *ptr, size_t size);
void __wrap_mem_trim(void);
/* NOLINTEND(bugprone-reserved-identifier) */

void *__wrap_mem_alloc(size_t size)
{
    taken++;
    return __real_mem_alloc(size);
}

void *__wrap_mem_calloc(size_t count, size_t size)
{
    taken++;
    return __real_mem_calloc(count, size);
}

void *__wrap_mem_realloc(void *ptr, size_t size)
{
    taken++;
    return __real_mem_realloc(ptr, size);
}

/* How often the heap was trimmed. */
static uint32_t trimmed;

void __wrap_mem_trim(void)
{
    trimmed++;
}

static void test_empty_ones_come_and_go(void **state)
{
    struct world world;

    (void)state;
    world_init(&world, NULL, NULL);
    assert_int_equal(world.tasks->scopes_count, 0);
    assert_int_equal(world.tasks->ops_started, 0);
    assert_null(scope_current(world.tasks));
    world_deinit(&world);
    tasks_destroy(NULL);
}

static void test_handles_are_of_a_kind(void **state)
{
    struct world world;
    struct scope *scope;
    struct op *op;

    (void)state;
    world_init(&world, NULL, NULL);
    scope = scope_create(world.tasks, NULL, NULL, 0);
    op = fake_start(scope, NULL, false);
    assert_ptr_equal(scope_of(world.tasks, scope->handle), scope);
    assert_ptr_equal(op_of(world.tasks, op->handle), op);
    assert_null(scope_of(world.tasks, op->handle));
    assert_null(op_of(world.tasks, scope->handle));
    assert_null(scope_of(world.tasks, 0));
    assert_null(op_of(world.tasks, UINT64_MAX));
    assert_int_equal(world.tasks->ops_started, 1);
    scope_finish(scope, SCOPE_REPLIED);
    world_deinit(&world);
}

/* A request with a fiber that waits for one op and has a cleanup. */
static void on_cleanup(void *data)
{
    ++*(uint32_t *)data;
}

static void serve(struct scope *scope, void *data)
{
    scope_defer(scope, on_cleanup, data);
    assert_int_equal(op_await(op_sleep(scope, 1)), ERR_OK);
    scope_finish(scope, SCOPE_REPLIED);
}

static void test_warm_requests_take_nothing_from_the_heap(void **state)
{
    struct world world;
    uint32_t served = 0;
    uint32_t before = 0;

    (void)state;
    world_init(&world, NULL, NULL);
    for (uint32_t i = 0; i < 100; i++) {
        if (i == 50)
            before = taken;
        for (uint32_t j = 0; j < 20; j++)
            assert_true(
                scope_run(scope_create(world.tasks, NULL, NULL, 1000), serve, &served, false));
        fake_clock_jump(&world.clock, world.loop, 2);
        world_settle(&world);
    }
    assert_int_equal(served, 2000);
    assert_true(before > 0);
    assert_int_equal(taken, before);
    world_deinit(&world);
}

static void destroy_too_early(void *arg)
{
    struct world world;

    (void)arg;
    world_init(&world, NULL, NULL);
    (void)scope_create(world.tasks, NULL, NULL, 0);
    tasks_destroy(world.tasks);
}

/* A crowd of fibers that wait, or go on and end. */
struct crowd {
    struct fiber_pool *pool;
    struct fiber *fibers[2500];
    uint32_t count;
};

static void play_one(void *data)
{
    struct crowd *crowd = data;

    crowd->fibers[crowd->count++] = fiber_current(crowd->pool);
    fiber_suspend(crowd->pool);
}

static void come(struct crowd *crowd, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        assert_true(fiber_start(crowd->pool, play_one, crowd, false));
}

static void leave(struct crowd *crowd)
{
    while (crowd->count > 0)
        fiber_resume(crowd->fibers[--crowd->count]);
}

/* Those that are needed each second stay; the others go within seconds, but for the least. */
static void test_stacks_are_given_back(void **state)
{
    const struct fiber_options options = {.idle_min = 10};
    struct crowd crowd = {0};
    struct world world;

    (void)state;
    world_init(&world, &options, NULL);
    crowd.pool = world.tasks->fibers;
    come(&crowd, 300);
    fake_clock_walk(&world.clock, world.loop, 5000); /* they wait: nothing goes */
    leave(&crowd);
    assert_int_equal(fiber_stacks(crowd.pool), 300);
    for (int i = 0; i < 50; i++) {
        come(&crowd, 100);
        leave(&crowd);
        fake_clock_walk(&world.clock, world.loop, 100);
    }
    assert_int_equal(fiber_stacks(crowd.pool), 100);
    fake_clock_walk(&world.clock, world.loop, 5000);
    assert_int_equal(fiber_stacks(crowd.pool), 10);
    come(&crowd, 30); /* it goes on behind the next crowd */
    leave(&crowd);
    fake_clock_walk(&world.clock, world.loop, 5000);
    assert_int_equal(fiber_stacks(crowd.pool), 10);
    world_deinit(&world);
}

/* Once behind a crowd, when the last of its stacks has gone: not for a few, nor in between. */
static void test_the_heap_is_trimmed_behind_a_crowd(void **state)
{
    const struct fiber_options options = {.stack_size = 16384};
    struct crowd crowd = {0};
    struct world world;

    (void)state;
    trimmed = 0;
    world_init(&world, &options, NULL);
    crowd.pool = world.tasks->fibers;
    come(&crowd, 900);
    leave(&crowd);
    fake_clock_walk(&world.clock, world.loop, 10000);
    assert_int_equal(fiber_stacks(crowd.pool), 64);
    assert_int_equal(trimmed, 0);
    for (uint32_t round = 1; round <= 2; round++) {
        come(&crowd, 2500);
        leave(&crowd);
        fake_clock_walk(&world.clock, world.loop, 6000);
        assert_in_range(fiber_stacks(crowd.pool), 500, 2000);
        assert_int_equal(trimmed, round - 1);
        fake_clock_walk(&world.clock, world.loop, 20000);
        assert_int_equal(fiber_stacks(crowd.pool), 64);
        assert_int_equal(trimmed, round);
    }
    world_deinit(&world);
}

/* So many requests at once that wait without a stack, with a block each; then they are over. */
static void wait_and_go(struct world *world, uint32_t count)
{
    struct scope **scopes = mem_calloc(count, sizeof(struct scope *));

    for (uint32_t i = 0; i < count; i++) {
        scopes[i] = scope_create(world->tasks, NULL, NULL, 0);
        (void)op_sleep(scopes[i], 2000);
    }
    fake_clock_walk(&world->clock, world->loop, 5000);
    for (uint32_t i = 0; i < count; i++)
        scope_finish(scopes[i], SCOPE_REPLIED);
    mem_free(scopes);
    for (uint32_t turns = 0; world->tasks->scopes_count > 0; turns++) {
        assert_true(turns < 1000);
        world_settle(world);
    }
}

/* What 1,024 requests had is kept for the next: it takes as many more until a trim is worth it. */
static void test_the_heap_is_trimmed_behind_a_crowd_without_stacks(void **state)
{
    struct world world;

    (void)state;
    trimmed = 0;
    world_init(&world, NULL, NULL);
    wait_and_go(&world, 2000);
    fake_clock_walk(&world.clock, world.loop, 10000);
    assert_int_equal(trimmed, 0);
    for (uint32_t round = 1; round <= 2; round++) {
        wait_and_go(&world, 2100);
        assert_int_equal(fiber_stacks(world.tasks->fibers), 0);
        assert_int_equal(trimmed, round - 1);
        fake_clock_walk(&world.clock, world.loop, 4000);
        assert_int_equal(trimmed, round);
        assert_false(timer_is_on(&world.tasks->_trim)); /* nothing is left to wake up for */
        fake_clock_walk(&world.clock, world.loop, 10000);
        assert_int_equal(trimmed, round);
    }
    world_deinit(&world);
}

/* Some requests at a time go, for longer than the timer takes. */
static void test_the_heap_is_not_trimmed_while_a_crowd_goes(void **state)
{
    enum { COUNT = 4000, AT_ONCE = 100 };
    struct world world;
    struct scope *scopes[COUNT];

    (void)state;
    trimmed = 0;
    world_init(&world, NULL, NULL);
    for (uint32_t i = 0; i < COUNT; i++) {
        scopes[i] = scope_create(world.tasks, NULL, NULL, 0);
        (void)scope_alloc(scopes[i], 100);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        scope_finish(scopes[i], SCOPE_REPLIED);
        if (i % AT_ONCE == AT_ONCE - 1)
            fake_clock_walk(&world.clock, world.loop, 500);
    }
    assert_int_equal(world.tasks->scopes_count, 0);
    assert_int_equal(trimmed, 0);
    fake_clock_walk(&world.clock, world.loop, 4000);
    assert_int_equal(trimmed, 1);
    world_deinit(&world);
}

static void test_a_living_scope_forbids_the_end(void **state)
{
    char output[DIES_OUTPUT_SIZE];

    (void)state;
    assert_true(dies(destroy_too_early, NULL, output));
    assert_non_null(strstr(output, "scopes_count == 0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_ones_come_and_go),
        cmocka_unit_test(test_handles_are_of_a_kind),
        cmocka_unit_test(test_warm_requests_take_nothing_from_the_heap),
        cmocka_unit_test(test_stacks_are_given_back),
        cmocka_unit_test(test_the_heap_is_trimmed_behind_a_crowd),
        cmocka_unit_test(test_the_heap_is_trimmed_behind_a_crowd_without_stacks),
        cmocka_unit_test(test_the_heap_is_not_trimmed_while_a_crowd_goes),
        cmocka_unit_test(test_a_living_scope_forbids_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
