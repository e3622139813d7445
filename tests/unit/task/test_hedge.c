/* Goal: a hedge starts its second op when hedge.h says, and never else; the first success wins, the
 * loser is canceled; canceled or ended in each state it leaves nothing behind. */
#include "lib/task_world.h"
#include "lib/test.h"
#include "task/group.h"
#include "task/hedge.h"

enum { DELAY_MS = 50 };

/* How the second op is started. */
enum how { AT_ONCE, AFTER_A_WAIT, NOT, OF_ANOTHER };

struct stage {
    struct world world;
    struct scope *scope;
    struct scope *other; /* another request */
    struct fake_counts counts;
    enum how how;
    struct op *first;
    struct op *gate;   /* AFTER_A_WAIT: what is awaited */
    struct op *second; /* NULL: not started */
    struct op *circle; /* what the function answers; NULL: a new op */
    struct op *hedge;
    uint32_t starts; /* times the function ran */
    uint32_t told;   /* times the hedge was told */
};

static struct op *start_second(struct scope *scope, void *data)
{
    struct stage *stage = data;

    assert_ptr_equal(scope, stage->scope);
    stage->starts++;
    if (stage->how == NOT)
        return NULL;
    if (stage->how == AFTER_A_WAIT) {
        stage->gate = fake_start(scope, NULL, false);
        (void)op_await(stage->gate);
    }
    if (stage->circle != NULL)
        return stage->circle;
    stage->second = fake_start(stage->how == OF_ANOTHER ? stage->other : scope, NULL, false);
    return stage->second;
}

static void on_hedge(struct op *op, void *data)
{
    struct stage *stage = data;

    assert_ptr_equal(op, stage->hedge);
    stage->told++;
}

static void stage_init(struct stage *stage, enum how how)
{
    *stage = (struct stage){.how = how};
    world_init(&stage->world, NULL, NULL);
    stage->scope = scope_create(stage->world.tasks, NULL, NULL, 0);
    stage->other = scope_create(stage->world.tasks, NULL, NULL, 0);
    stage->first = fake_start(stage->scope, &stage->counts, false);
    stage->hedge = hedge_start(stage->scope, stage->first, DELAY_MS, start_second, stage);
    assert_int_equal(op_then(stage->hedge, on_hedge, stage), ERR_OK);
    assert_int_equal(stage->starts, 0);
}

static void pass(struct stage *stage, uint64_t ms)
{
    fake_clock_jump(&stage->world.clock, stage->world.loop, ms);
    world_settle(&stage->world);
}

static void stage_deinit(struct stage *stage)
{
    scope_finish(stage->scope, SCOPE_REPLIED);
    scope_finish(stage->other, SCOPE_REPLIED);
    world_deinit(&stage->world);
    assert_int_equal(stage->counts.released, 1);
    assert_int_equal(stage->told, 1);
}

static void assert_outcome(struct stage *stage, enum err err, int32_t winner)
{
    world_settle(&stage->world);
    assert_int_equal(stage->told, 1);
    assert_int_equal(stage->hedge->status, err);
    assert_int_equal(group_winner(stage->hedge), winner);
}

static void test_a_quick_first_starts_no_second(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, AT_ONCE);
    pass(&stage, DELAY_MS - 2);
    op_finish(stage.first, ERR_OK, NULL);
    assert_outcome(&stage, ERR_OK, 0);
    pass(&stage, 10 * DELAY_MS);
    assert_int_equal(stage.starts, 0);
    stage_deinit(&stage);
}

static void test_the_second_wins(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, AT_ONCE);
    pass(&stage, DELAY_MS + 2);
    assert_int_equal(stage.starts, 1);
    assert_int_equal(stage.told, 0);
    op_finish(stage.second, ERR_OK, NULL);
    assert_outcome(&stage, ERR_OK, 1);
    assert_int_equal(stage.first->status, ERR_CANCELED);
    assert_int_equal(stage.counts.withdrawn, 1);
    stage_deinit(&stage);
}

static void test_the_first_wins_late(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, AT_ONCE);
    pass(&stage, DELAY_MS + 2);
    op_finish(stage.first, ERR_OK, NULL);
    assert_outcome(&stage, ERR_OK, 0);
    assert_int_equal(stage.second->status, ERR_CANCELED);
    stage_deinit(&stage);
}

static void test_a_failed_first_starts_the_second_at_once(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, AT_ONCE);
    op_explain(stage.first, SPAN("refused"));
    op_finish(stage.first, ERR_UP_CONNECT, NULL);
    world_settle(&stage.world);
    assert_int_equal(stage.starts, 1);
    assert_int_equal(stage.told, 0);
    op_finish(stage.second, ERR_DB, NULL);
    assert_outcome(&stage, ERR_UP_CONNECT, 0); /* both failed: the first one's error */
    assert_string_equal(stage.hedge->error.ptr, "refused");
    stage_deinit(&stage);
}

static void test_a_second_that_failed_waits_for_the_first(void **state)
{
    const enum how hows[] = {AT_ONCE, NOT, OF_ANOTHER};

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct stage stage;

        stage_init(&stage, hows[i]);
        pass(&stage, DELAY_MS + 2);
        assert_int_equal(stage.starts, 1);
        if (hows[i] == AT_ONCE)
            op_finish(stage.second, ERR_DB, NULL);
        world_settle(&stage.world);
        assert_int_equal(stage.told, 0);
        op_finish(stage.first, ERR_OK, NULL);
        assert_outcome(&stage, ERR_OK, 0);
        stage_deinit(&stage);
    }
}

static void test_a_first_that_has_settled(void **state)
{
    struct stage stage;
    struct op *again;

    (void)state;
    stage_init(&stage, AT_ONCE);
    op_finish(stage.first, ERR_OK, NULL);
    assert_outcome(&stage, ERR_OK, 0);
    again = hedge_start(stage.scope, stage.first, 0, start_second, &stage);
    pass(&stage, 10);
    assert_int_equal(again->status, ERR_OK);
    assert_int_equal(stage.starts, 0);
    again = hedge_start(stage.scope, again, 0, start_second, &stage);
    assert_int_equal(again->status, ERR_OK);
    stage_deinit(&stage);
}

static void test_canceled_in_each_state(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct stage stage;

        stage_init(&stage, i == 2 ? AFTER_A_WAIT : AT_ONCE);
        if (i > 0)
            pass(&stage, DELAY_MS + 2);
        op_cancel(stage.hedge);
        assert_outcome(&stage, ERR_CANCELED, -1);
        assert_int_equal(stage.first->status, ERR_CANCELED);
        if (i == 2) /* its function goes on, and what it starts is canceled */
            op_finish(stage.gate, ERR_OK, NULL);
        pass(&stage, 2 * DELAY_MS);
        assert_int_equal(stage.starts, i > 0);
        if (i > 0)
            assert_int_equal(stage.second->status, ERR_CANCELED);
        stage_deinit(&stage);
    }
}

static void test_the_first_wins_while_the_second_is_started(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, AFTER_A_WAIT);
    pass(&stage, DELAY_MS + 2);
    assert_int_equal(stage.starts, 1);
    op_finish(stage.first, ERR_OK, NULL);
    assert_outcome(&stage, ERR_OK, 0);
    op_finish(stage.gate, ERR_OK, NULL);
    world_settle(&stage.world);
    assert_int_equal(stage.second->status, ERR_CANCELED);
    stage_deinit(&stage);
}

static void test_the_scope_ends_in_each_state(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct stage stage;

        stage_init(&stage, i == 2 ? AFTER_A_WAIT : AT_ONCE);
        if (i > 0)
            pass(&stage, DELAY_MS + 2);
        stage_deinit(&stage);
    }
}

/* A plugin's mistake: the second op waits for the hedge. It must do no harm. */
static void test_a_circle(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct stage stage;

        stage_init(&stage, AFTER_A_WAIT);
        pass(&stage, DELAY_MS + 2);
        stage.how = AT_ONCE;
        stage.circle = i > 0 ? group_start(stage.scope, i == 1 ? GROUP_ALL : GROUP_RACE,
                                           (struct op *[]){stage.hedge, stage.gate}, 2)
                             : stage.hedge;
        op_finish(stage.gate, i == 1 ? ERR_DB : ERR_OK, NULL);
        world_settle(&stage.world);
        if (stage.hedge->state == OP_PENDING)
            op_finish(stage.first, ERR_OK, NULL);
        world_settle(&stage.world);
        assert_int_equal(stage.told, 1);
        stage_deinit(&stage);
    }
}

static void test_in_a_canceled_scope(void **state)
{
    struct stage stage;
    struct op *born;

    (void)state;
    stage_init(&stage, AT_ONCE);
    scope_cancel(stage.scope, SCOPE_EXPLICIT);
    born = hedge_start(stage.scope, stage.first, 0, start_second, &stage);
    assert_int_equal(born->status, ERR_CANCELED);
    pass(&stage, 2 * DELAY_MS);
    assert_int_equal(stage.starts, 0);
    stage_deinit(&stage);
}

static void test_another_requests_op_is_refused(void **state)
{
    struct stage stage;
    struct op *born;

    (void)state;
    stage_init(&stage, AT_ONCE);
    born = hedge_start(stage.other, stage.first, 0, start_second, &stage);
    assert_int_equal(born->status, ERR_STATE);
    stage_deinit(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_quick_first_starts_no_second),
        cmocka_unit_test(test_the_second_wins),
        cmocka_unit_test(test_the_first_wins_late),
        cmocka_unit_test(test_a_failed_first_starts_the_second_at_once),
        cmocka_unit_test(test_a_second_that_failed_waits_for_the_first),
        cmocka_unit_test(test_a_first_that_has_settled),
        cmocka_unit_test(test_canceled_in_each_state),
        cmocka_unit_test(test_the_first_wins_while_the_second_is_started),
        cmocka_unit_test(test_the_scope_ends_in_each_state),
        cmocka_unit_test(test_a_circle),
        cmocka_unit_test(test_in_a_canceled_scope),
        cmocka_unit_test(test_another_requests_op_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
