/* Goal: handlers and callbacks that go on and on, whatever they are told, do not keep others from
 * their turn: each wait that is answered at once costs them a millisecond after some, a turn of the
 * loop stays short, and what does wait is never held up. */
#include "lib/task_world.h"
#include "lib/test.h"

/* A world with one root. */
struct stage {
    struct world world;
    struct scope *scope; /* NULL: finished */
};

static void stage_init(struct stage *stage)
{
    world_init(&stage->world, NULL, NULL);
    stage->scope = scope_create(stage->world.tasks, NULL, NULL, 0);
}

static void stage_deinit(struct stage *stage)
{
    if (stage->scope != NULL)
        scope_finish(stage->scope, SCOPE_REPLIED);
    world_deinit(&stage->world);
}

static void walk(struct stage *stage, uint32_t ms)
{
    fake_clock_walk(&stage->world.clock, stage->world.loop, ms);
}

static void ignore_every_error(struct scope *scope, void *data)
{
    uint32_t *rounds = data;

    while (*rounds < 200) {
        ++*rounds;
        (void)op_await(op_sleep(scope, 1000));
    }
}

static void test_a_fiber_that_goes_on_in_a_canceled_scope_is_slowed_down(void **state)
{
    struct stage stage;
    uint32_t rounds = 0;
    uint32_t before;

    (void)state;
    stage_init(&stage);
    assert_true(scope_run(stage.scope, ignore_every_error, &rounds, false));
    scope_finish(stage.scope, SCOPE_CLIENT_GONE);
    stage.scope = NULL;
    world_settle(&stage.world);
    before = rounds;
    assert_in_range(before, 20, 100);
    walk(&stage, 10);
    assert_in_range(rounds, before + 5, before + 10);
    walk(&stage, 200);
    assert_int_equal(rounds, 200);
    stage_deinit(&stage);
}

/* The op that it awaits may be gone by the time that it may go on. */
static void await_in_children(struct scope *scope, void *data)
{
    uint32_t *rounds = data;

    for (*rounds = 0; *rounds < 80; ++*rounds) {
        struct scope *child = scope_child(scope, 0, 0);
        struct op *op = op_sleep(child, 1000);

        scope_finish(child, SCOPE_EXPLICIT);
        assert_int_equal(op_await(op), ERR_CANCELED);
    }
}

static void test_slowed_down_while_the_op_goes(void **state)
{
    struct stage stage;
    uint32_t rounds = 0;

    (void)state;
    stage_init(&stage);
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    assert_true(scope_run(stage.scope, await_in_children, &rounds, false));
    assert_in_range(rounds, 20, 79);
    walk(&stage, 60);
    assert_int_equal(rounds, 80);
    stage_deinit(&stage);
}

static void chain(struct op *op, void *data)
{
    uint32_t *rounds = data;
    struct op *next;

    if (++*rounds >= 200)
        return;
    next = op_sleep(op->scope, 1000);
    assert_int_equal(op_then(next, chain, rounds), ERR_OK);
}

/* Each callback starts an op, which is born canceled, with the next callback. */
static void test_a_chain_of_callbacks_in_a_canceled_scope_is_slowed_down(void **state)
{
    struct stage stage;
    uint32_t rounds = 0, before;

    (void)state;
    stage_init(&stage);
    assert_int_equal(op_then(op_sleep(stage.scope, 1000), chain, &rounds), ERR_OK);
    scope_finish(stage.scope, SCOPE_CLIENT_GONE);
    stage.scope = NULL;
    world_settle(&stage.world);
    before = rounds;
    assert_in_range(before, 20, 100);
    walk(&stage, 10);
    assert_in_range(rounds, before + 5, before + 10);
    walk(&stage, 200);
    assert_int_equal(rounds, 200);
    stage_deinit(&stage);
}

/* Told late, an op is not to be let go of meanwhile. */
static void test_an_op_that_is_told_late(void **state)
{
    struct stage stage;
    uint32_t rounds = 199;
    struct op *op = NULL;

    (void)state;
    stage_init(&stage);
    scope_cancel(stage.scope, SCOPE_CLIENT_GONE);
    for (uint32_t i = 0; i < 100; i++) {
        op = op_sleep(stage.scope, 1000);
        assert_int_equal(op_then(op, chain, &rounds), ERR_OK);
        rounds = 199;
    }
    assert_int_equal(op_release(op), ERR_STATE);
    op_cancel(op);
    assert_int_equal(op_then(op, chain, &rounds), ERR_STATE);
    world_settle(&stage.world);
    assert_int_equal(op->state, OP_SETTLED);
    walk(&stage, 3);
    assert_int_equal(op->state, OP_TOLD);
    assert_int_equal(op_release(op), ERR_OK);
    stage_deinit(&stage);
}

/* Retries at once what fails at once. */
static void retry(struct scope *scope, void *data)
{
    uint32_t *rounds = data;

    while (++*rounds < 5000 &&
           op_await(op_failed(scope, ERR_DB_BUSY, "full", SPAN("no room"))) != ERR_OK)
        continue;
}

static void test_a_fiber_that_retries_what_fails_at_once(void **state)
{
    struct stage stage;
    uint32_t rounds = 0;

    (void)state;
    stage_init(&stage);
    assert_true(scope_run(stage.scope, retry, &rounds, false));
    assert_in_range(rounds, 1000, 4999);
    walk(&stage, 2000);
    assert_int_equal(rounds, 5000);
    stage_deinit(&stage);
}

/* Awaits one op again and again, and none at all. */
static void await_in_vain(struct scope *scope, void *data)
{
    struct op *op = op_sleep(scope, 0);
    uint32_t *rounds = data;

    assert_int_equal(op_await(op), ERR_OK);
    while (++*rounds < 5000) {
        if (*rounds % 2 == 0)
            assert_int_equal(op_await(op), ERR_STATE);
        else
            op_await_none(scope->tasks);
    }
}

static void test_a_fiber_that_awaits_in_vain(void **state)
{
    struct stage stage;
    uint32_t rounds = 0;

    (void)state;
    stage_init(&stage);
    assert_true(scope_run(stage.scope, await_in_vain, &rounds, false));
    op_await_none(stage.world.tasks); /* where nothing can wait, nothing does */
    walk(&stage, 2);
    assert_in_range(rounds, 1000, 4999);
    walk(&stage, 2000);
    assert_int_equal(rounds, 5000);
    stage_deinit(&stage);
}

/* Waits now and then, between failures; and many successes that are there already. */
static void fail_and_wait(struct scope *scope, void *data)
{
    bool *is_done = data;

    for (uint32_t i = 0; i < 9000; i++) {
        (void)op_await(op_failed(scope, ERR_DB_BUSY, "full", SPAN("no room")));
        if (i % 3000 == 0)
            (void)op_await(op_sleep(scope, 0));
    }
    for (uint32_t i = 0; i < 9000; i++) {
        struct op *op = fake_start(scope, NULL, false);

        op_finish(op, ERR_OK, NULL);
        assert_int_equal(op_await(op), ERR_OK);
    }
    *is_done = true;
}

static void test_who_waits_is_not_held_up(void **state)
{
    struct stage stage;
    bool is_done = false;

    (void)state;
    stage_init(&stage);
    assert_true(scope_run(stage.scope, fail_and_wait, &is_done, false));
    for (uint32_t i = 0; i < 4; i++)
        run_turns(stage.world.loop, 1);
    assert_true(is_done);
    stage_deinit(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fiber_that_goes_on_in_a_canceled_scope_is_slowed_down),
        cmocka_unit_test(test_slowed_down_while_the_op_goes),
        cmocka_unit_test(test_a_chain_of_callbacks_in_a_canceled_scope_is_slowed_down),
        cmocka_unit_test(test_an_op_that_is_told_late),
        cmocka_unit_test(test_a_fiber_that_retries_what_fails_at_once),
        cmocka_unit_test(test_a_fiber_that_awaits_in_vain),
        cmocka_unit_test(test_who_waits_is_not_held_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
