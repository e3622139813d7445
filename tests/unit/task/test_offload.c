/* Goal: offloaded work runs on another thread and settles its op with what it returned; canceled in
 * line it never runs, canceled while it runs the op settles at once and the scope's memory stays
 * until it has returned; the line has an end. */
#include "lib/task_world.h"
#include "lib/test.h"
#include "loop/helper.h"
#include "task/offload.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

enum { THREADS = 2 };

/* Work that says when it begins, and that the test lets go on; one piece may be run by several
 * threads at once. */
struct piece {
    sem_t begun;
    sem_t gate;
    pthread_t thread;
    uint32_t runs;
    enum err result;
    unsigned char *memory; /* NULL, or of the scope's arena: written once it goes on */
};

struct stage {
    struct world world;
    struct helpers *helpers;
    struct scope *scope;
    struct piece pieces[THREADS + 1];
};

static enum err work(void *data)
{
    struct piece *piece = data;

    __atomic_store_n(&piece->thread, pthread_self(), __ATOMIC_RELAXED);
    assert_int_equal(sem_post(&piece->begun), 0);
    assert_int_equal(sem_wait(&piece->gate), 0);
    if (piece->memory != NULL)
        piece->memory[0] = 1;
    __atomic_fetch_add(&piece->runs, 1, __ATOMIC_RELAXED);
    return piece->result;
}

static void stage_init(struct stage *stage)
{
    *stage = (struct stage){0};
    world_init(&stage->world, NULL, NULL);
    stage->helpers = helpers_create(stage->world.loop, THREADS);
    stage->scope = scope_create(stage->world.tasks, NULL, NULL, 0);
    for (uint32_t i = 0; i <= THREADS; i++) {
        assert_int_equal(sem_init(&stage->pieces[i].begun, 0, 0), 0);
        assert_int_equal(sem_init(&stage->pieces[i].gate, 0, 0), 0);
    }
}

static struct op *start(struct stage *stage, uint32_t index)
{
    return offload_start(stage->scope, stage->helpers, work, &stage->pieces[index]);
}

static void wait_begun(struct stage *stage, uint32_t index)
{
    assert_int_equal(sem_wait(&stage->pieces[index].begun), 0);
}

static void let_go(struct stage *stage, uint32_t index)
{
    assert_int_equal(sem_post(&stage->pieces[index].gate), 0);
}

/* Turns until no work is on its way. */
static void finish_all(struct stage *stage)
{
    while (helpers_pending(stage->helpers) > 0)
        run_turns(stage->world.loop, 1);
    world_settle(&stage->world);
}

static void stage_deinit(struct stage *stage)
{
    if (stage->scope != NULL)
        scope_finish(stage->scope, SCOPE_REPLIED);
    finish_all(stage);
    helpers_destroy(stage->helpers);
    world_deinit(&stage->world);
    for (uint32_t i = 0; i <= THREADS; i++) {
        sem_destroy(&stage->pieces[i].begun);
        sem_destroy(&stage->pieces[i].gate);
    }
}

static void test_done_and_failed(void **state)
{
    const enum err results[] = {ERR_OK, ERR_NOT_FOUND};

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct stage stage;
        struct op *op;

        stage_init(&stage);
        stage.pieces[0].result = results[i];
        op = start(&stage, 0);
        wait_begun(&stage, 0);
        world_settle(&stage.world);
        assert_int_equal(op->state, OP_PENDING); /* the loop turns meanwhile */
        let_go(&stage, 0);
        finish_all(&stage);
        assert_int_equal(op->status, results[i]);
        assert_true(op->is_retired);
        assert_false(pthread_equal(stage.pieces[0].thread, pthread_self()));
        stage_deinit(&stage);
    }
}

static void test_canceled_in_line(void **state)
{
    struct stage stage;
    struct op *waiting;

    (void)state;
    stage_init(&stage);
    for (uint32_t i = 0; i < THREADS; i++)
        (void)start(&stage, i);
    for (uint32_t i = 0; i < THREADS; i++)
        wait_begun(&stage, i);
    waiting = start(&stage, THREADS);
    op_cancel(waiting);
    assert_int_equal(waiting->status, ERR_CANCELED);
    assert_true(waiting->is_retired);
    for (uint32_t i = 0; i < THREADS; i++)
        let_go(&stage, i);
    finish_all(&stage);
    assert_int_equal(stage.pieces[0].runs, 1);
    assert_int_equal(stage.pieces[THREADS].runs, 0);
    stage_deinit(&stage);
}

static void test_canceled_while_it_runs(void **state)
{
    struct stage stage;
    struct op *op;

    (void)state;
    stage_init(&stage);
    op = start(&stage, 0);
    wait_begun(&stage, 0);
    op_cancel(op);
    assert_int_equal(op->status, ERR_CANCELED);
    assert_false(op->is_retired);
    assert_int_equal(op_release(op), ERR_STATE);
    let_go(&stage, 0);
    finish_all(&stage);
    assert_true(op->is_retired);
    assert_int_equal(op->status, ERR_CANCELED);
    stage_deinit(&stage);
}

/* Under ASan this shows that the arena is there as long as the thread is. */
static void test_memory_stays_until_it_has_returned(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.pieces[0].memory = scope_alloc(stage.scope, 1);
    (void)start(&stage, 0);
    wait_begun(&stage, 0);
    scope_finish(stage.scope, SCOPE_SHUTDOWN);
    stage.scope = NULL;
    world_settle(&stage.world);
    assert_int_equal(stage.world.tasks->scopes_count, 1);
    let_go(&stage, 0);
    finish_all(&stage);
    assert_int_equal(stage.world.tasks->scopes_count, 0);
    assert_int_equal(stage.pieces[0].runs, 1);
    stage_deinit(&stage);
}

static void test_a_deadline_in_line_and_under_way(void **state)
{
    struct stage stage;
    struct op *ops[THREADS + 1];

    (void)state;
    stage_init(&stage);
    scope_tighten(stage.scope, 10);
    for (uint32_t i = 0; i < THREADS; i++) {
        ops[i] = start(&stage, i);
        wait_begun(&stage, i);
    }
    ops[THREADS] = start(&stage, THREADS);
    fake_clock_jump(&stage.world.clock, stage.world.loop, 20);
    for (uint32_t i = 0; i <= THREADS; i++)
        assert_int_equal(ops[i]->status, ERR_DEADLINE);
    assert_int_equal(start(&stage, THREADS)->status, ERR_DEADLINE); /* and starts nothing */
    for (uint32_t i = 0; i < THREADS; i++)
        let_go(&stage, i);
    finish_all(&stage);
    assert_int_equal(stage.pieces[THREADS].runs, 0);
    stage_deinit(&stage);
}

static void test_the_line_has_an_end(void **state)
{
    struct stage stage;
    struct op *op;

    (void)state;
    stage_init(&stage);
    stage.pieces[0].result = ERR_OK;
    for (uint32_t i = 0; i < OFFLOADS_MAX; i++)
        assert_int_equal(start(&stage, 0)->state, OP_PENDING);
    op = start(&stage, 0);
    assert_int_equal(op->status, ERR_OVERLOAD);
    assert_string_equal(stage.scope->reason, "offload_line_full");
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE); /* only what runs is left */
    assert_true(helpers_pending(stage.helpers) <= THREADS);
    for (uint32_t i = 0; i < THREADS; i++)
        let_go(&stage, 0);
    stage_deinit(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_done_and_failed),
        cmocka_unit_test(test_canceled_in_line),
        cmocka_unit_test(test_canceled_while_it_runs),
        cmocka_unit_test(test_memory_stays_until_it_has_returned),
        cmocka_unit_test(test_a_deadline_in_line_and_under_way),
        cmocka_unit_test(test_the_line_has_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
