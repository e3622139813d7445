/* Goal: whatever trees of scopes, ops, groups, hedges, offloaded work, fibers and callbacks a
 * plugin builds, in whatever order clients leave, deadlines pass, providers answer and retire,
 * threads begin and return: each consumer is told exactly once and never inside a call, each result
 * is let go of once, each cleanup runs once, newest first, stale handles are known as such, and in
 * the end nothing is left.
 *
 * Random, from a seed: WEFT_SEED=n repeats a run, WEFT_TREES=n says how many; a soak plants a
 * million. A failure prints the seed of the few hundred trees that it was among. */
#include "base/check.h"
#include "base/slots.h"
#include "lib/random.h"
#include "lib/soak.h"
#include "lib/task_world.h"
#include "lib/test.h"
#include "loop/helper.h"
#include "task/group.h"
#include "task/hedge.h"
#include "task/offload.h"

#include <stdio.h>
#include <string.h>

enum {
    TREES_DEFAULT = 20000,
    TREES_SOAK = 1000000,
    TREES_AT_ONCE = 12,
    TREES_A_WORLD = 600, /* and a seed */
    STEPS_MAX = 60,      /* of one tree's programs, before they only return */
    OPS_MAX = 80,
    SCOPES_MAX = 24,
    EARS_MAX = 80,
    BUNCHES_MAX = 12,
    BUNCH_SIZE = 6
};

struct forest;
struct tree;

/* One consumer. */
struct ear {
    struct tree *tree;
    uint64_t op;
    bool on_fiber;
    uint32_t told;
};

/* A group that was pending when it was started. */
struct bunch {
    uint64_t op;
    uint64_t children[BUNCH_SIZE];
    uint32_t count;
};

/* A scope that a program may touch. */
struct branch {
    uint64_t handle;
    bool is_finished;
};

/* One request: what its programs know, by handle, as a plugin would. */
struct tree {
    struct forest *forest;
    struct scope *root;
    struct list leaves; /* pending ones */
    uint64_t ops[OPS_MAX];
    struct branch branches[SCOPES_MAX]; /* the first is the root */
    struct ear ears[EARS_MAX];
    struct bunch bunches[BUNCHES_MAX];
    uint32_t bunch_count;
    uint32_t op_count;
    uint32_t branch_count;
    uint32_t ear_count;
    uint32_t steps;
    uint32_t leaves_made;
    uint32_t leaves_released;
    uint32_t cleanups;  /* that did not run yet, over all its scopes */
    bool must_be_quiet; /* it was finished: no on_idle any more */
    bool has_ended;
};

/* All that grows. */
struct forest {
    struct world world;
    uint64_t random;
    uint32_t calls;   /* under way, of those that run no callback */
    struct list late; /* leaves that were canceled and not retired */
    struct list line; /* jobs that wait for a thread */
    struct list busy; /* jobs that a thread runs */
    uint32_t jobs;    /* in both */
    struct tree *trees[TREES_AT_ONCE];
    uint64_t told; /* consumers, over all */
};

/* Of a whole run. */
static struct {
    uint64_t ops;
    uint64_t told;
} totals;

/* An op of the test's own. */
struct leaf {
    struct op op;
    struct list link; /* of its tree's leaves while pending; among the late ones */
    struct tree *tree;
    bool is_late;
    bool is_withdrawn;
    char canary[8];
};

static uint32_t below(struct forest *forest, uint32_t bound)
{
    return random_below(&forest->random, bound);
}

/* Leaves */

static void withdraw_leaf(struct op *op)
{
    struct leaf *leaf = CONTAINER_OF(op, struct leaf, op);

    assert_false(leaf->is_withdrawn);
    leaf->is_withdrawn = true;
    list_remove(&leaf->link);
    if (leaf->is_late)
        list_append(&leaf->tree->forest->late, &leaf->link);
    else
        op_retire(op);
}

static void release_leaf(struct op *op)
{
    struct leaf *leaf = CONTAINER_OF(op, struct leaf, op);

    assert_string_equal(leaf->canary, "canary");
    memset(leaf->canary, 0, sizeof leaf->canary);
    leaf->tree->leaves_released++;
}

static const struct op_kind leaf_kind = {
    .name = "leaf", .account = SCOPE_TIME_CALL, .withdraw = withdraw_leaf, .release = release_leaf};

static struct op *grow_leaf(struct tree *tree, struct scope *scope)
{
    struct leaf *leaf = scope_alloc(scope, sizeof *leaf);

    leaf->tree = tree;
    leaf->is_late = below(tree->forest, 4) == 0;
    strcpy(leaf->canary, "canary");
    tree->leaves_made++;
    if (op_init(&leaf->op, scope, &leaf_kind))
        list_append(&tree->leaves, &leaf->link);
    return &leaf->op;
}

static enum err random_outcome(struct forest *forest)
{
    static const enum err outcomes[] = {ERR_OK, ERR_OK, ERR_OK, ERR_DB, ERR_UP_TIMEOUT};

    return outcomes[below(forest, 5)];
}

static void settle_leaf(struct forest *forest, struct leaf *leaf)
{
    list_remove(&leaf->link);
    forest->calls++;
    if (below(forest, 3) == 0)
        op_explain(&leaf->op, SPAN("some text"));
    op_settle(&leaf->op, random_outcome(forest), "soak");
    if (leaf->is_late)
        list_append(&forest->late, &leaf->link);
    else
        op_retire(&leaf->op);
    forest->calls--;
}

static void retire_leaf(struct forest *forest, struct leaf *leaf)
{
    assert_string_equal(leaf->canary, "canary"); /* its memory is there */
    list_remove(&leaf->link);
    forest->calls++;
    op_retire(&leaf->op);
    forest->calls--;
}

/* Threads that begin and return when the test says so */

static struct forest *threads_of;

void __wrap_helper_run(struct helpers *helpers, struct job *job, job_fn *work, job_fn *done);
bool __wrap_helper_take_back(struct helpers *helpers, struct job *job);
uint32_t __wrap_helpers_pending(const struct helpers *helpers);

void __wrap_helper_run(struct helpers *helpers, struct job *job, job_fn *work, job_fn *done)
{
    *job = (struct job){._helpers = helpers, ._work = work, ._done = done};
    list_append(&threads_of->line, &job->_link);
    threads_of->jobs++;
}

bool __wrap_helper_take_back(struct helpers *helpers, struct job *job)
{
    if (job->_helpers != helpers || job->_has_begun)
        return false;
    list_remove(&job->_link);
    job->_helpers = NULL;
    threads_of->jobs--;
    return true;
}

uint32_t __wrap_helpers_pending(const struct helpers *helpers)
{
    (void)helpers;
    return threads_of->jobs;
}

static void begin_job(struct forest *forest)
{
    struct list *link = list_first(&forest->line);

    if (link == NULL)
        return;
    list_remove(link);
    CONTAINER_OF(link, struct job, _link)->_has_begun = true;
    list_append(&forest->busy, link);
}

static void end_job(struct forest *forest)
{
    struct list *link = list_first(&forest->busy);
    struct job *job;

    if (link == NULL)
        return;
    job = CONTAINER_OF(link, struct job, _link);
    list_remove(link);
    forest->jobs--;
    job->_work(job);
    job->_helpers = NULL;
    forest->calls++;
    job->_done(job);
    forest->calls--;
}

/* Its memory is there, whatever became of the op. */
static enum err work(void *data)
{
    const char *canary = data;

    assert_string_equal(canary, "worked");
    return canary[7] == 0 ? ERR_OK : ERR_DB;
}

static struct op *offload_some(struct tree *tree, struct scope *scope)
{
    char *canary = scope_alloc(scope, 8);

    memcpy(canary, "worked", 7);
    canary[7] = (char)below(tree->forest, 2);
    return offload_start(scope, (struct helpers *)tree->forest, work, canary);
}

/* Programs */

static void live(struct scope *scope, void *data);

static struct op *random_op(struct tree *tree)
{
    struct tasks *tasks = tree->forest->world.tasks;

    if (tree->op_count == 0)
        return NULL;
    return op_of(tasks, tree->ops[below(tree->forest, tree->op_count)]);
}

/* One that lives, or NULL: bad luck. */
static struct scope *random_scope(struct tree *tree, struct branch **branch)
{
    *branch = &tree->branches[below(tree->forest, tree->branch_count)];
    return scope_of(tree->forest->world.tasks, (*branch)->handle);
}

static void remember_op(struct tree *tree, const struct op *op)
{
    assert_ptr_equal(op_of(op->scope->tasks, op->handle), op);
    if (op->scope->why != SCOPE_ALIVE)
        assert_int_not_equal(op->state, OP_PENDING);
    if (tree->op_count < OPS_MAX)
        tree->ops[tree->op_count++] = op->handle;
    else
        tree->ops[below(tree->forest, OPS_MAX)] = op->handle;
}

static void on_cleanup(void *data)
{
    uint32_t **place = data; /* the counter, then this cleanup's number */
    uint32_t number = (uint32_t)(uintptr_t)place[1];

    assert_int_equal(**place, number); /* the newest of this scope first */
    **place = number - 1;
    assert_true(number > 0);
}

static void on_counted_cleanup(void *data)
{
    struct tree *tree = data;

    assert_int_equal(tree->forest->calls, 0);
    assert_true(tree->cleanups > 0);
    tree->cleanups--;
}

/* Two cleanups, to see that all run, and in which order within the scope. */
static void add_cleanups(struct tree *tree, struct scope *scope)
{
    uint32_t *counter = scope_alloc(scope, sizeof *counter);

    for (uint32_t i = 1; i <= 3; i++) {
        uint32_t **place = scope_alloc(scope, 2 * sizeof *place);

        place[0] = counter;
        place[1] = (uint32_t *)(uintptr_t)i;
        scope_defer(scope, on_cleanup, place);
        *counter = i;
    }
    tree->cleanups++;
    scope_defer(scope, on_counted_cleanup, tree);
}

static void step(struct tree *tree, bool on_fiber);

/* Whenever a program looks: a group that has settled has no child that goes on. */
static void check_bunches(const struct tree *tree)
{
    const struct tasks *tasks = tree->forest->world.tasks;

    for (uint32_t i = 0; i < tree->bunch_count; i++) {
        const struct bunch *bunch = &tree->bunches[i];
        const struct op *group = op_of(tasks, bunch->op);

        if (group == NULL || group->state == OP_PENDING)
            continue;
        for (uint32_t j = 0; j < bunch->count; j++) {
            const struct op *child = op_of(tasks, bunch->children[j]);

            if (child != NULL)
                assert_int_not_equal(child->state, OP_PENDING);
        }
    }
}

static void on_told(struct op *op, void *data)
{
    struct ear *ear = data;
    struct tree *tree = ear->tree;
    const struct tasks *tasks = tree->forest->world.tasks;

    assert_int_equal(tree->forest->calls, 0);
    check_bunches(tree);
    assert_int_equal(ear->told, 0);
    ear->told++;
    tree->forest->told++;
    assert_true(op->handle == ear->op);
    assert_int_equal(op->state, OP_TOLD);
    assert_true((fiber_current(tasks->fibers) != NULL) == ear->on_fiber);
    assert_ptr_equal(scope_current(tasks), ear->on_fiber ? op->scope : NULL);
    for (uint32_t i = below(tree->forest, 5); i > 0; i--)
        step(tree, ear->on_fiber);
}

static void listen(struct tree *tree, struct op *op, bool on_fiber)
{
    struct ear *ear = &tree->ears[tree->ear_count];
    enum err err;

    if (tree->ear_count == EARS_MAX)
        return;
    *ear = (struct ear){.tree = tree, .op = op->handle, .on_fiber = on_fiber};
    err = on_fiber ? op_then(op, on_told, ear) : op_notify(op, on_told, ear);
    if (err == ERR_OK)
        tree->ear_count++;
    else
        assert_int_equal(err, ERR_STATE);
}

static void await_some(struct tree *tree, struct op *op)
{
    struct forest *forest = tree->forest;
    struct scope *scope = scope_current(forest->world.tasks);
    uint64_t handle = op->handle;
    uint32_t calls = forest->calls;
    bool was_deaf = op->is_deaf;
    enum err err;

    forest->calls = 0;
    err = op_await(op);
    forest->calls = calls;
    assert_ptr_equal(scope_current(forest->world.tasks), scope);
    if (was_deaf)
        assert_int_equal(err, ERR_STATE);
    op = op_of(forest->world.tasks, handle);
    if (op != NULL && !was_deaf)
        assert_int_equal(err, op->status);
}

static void group_some(struct tree *tree, struct scope *scope)
{
    struct op *children[BUNCH_SIZE];
    uint32_t wanted = below(tree->forest, BUNCH_SIZE);
    struct bunch bunch = {0};
    struct op *group;

    for (uint32_t i = 0; i < wanted; i++) {
        children[bunch.count] = random_op(tree);
        if (children[bunch.count] == NULL)
            continue;
        bunch.children[bunch.count] = children[bunch.count]->handle;
        bunch.count++;
    }
    group = group_start(scope, (enum group_kind)below(tree->forest, 3), children, bunch.count);
    remember_op(tree, group);
    bunch.op = group->handle;
    if (group->state == OP_PENDING)
        tree->bunches[tree->bunch_count < BUNCHES_MAX ? tree->bunch_count++
                                                      : below(tree->forest, BUNCHES_MAX)] = bunch;
}

/* A hedge's second op: a new one, any other (itself and those that wait for it among them), or
 * none; perhaps after a wait. */
static struct op *grow_second(struct scope *scope, void *data)
{
    struct tree *tree = data;
    struct forest *forest = tree->forest;
    struct op *op;

    assert_int_equal(forest->calls, 0);
    assert_ptr_equal(scope_current(forest->world.tasks), scope);
    if (below(forest, 3) == 0) {
        op = op_sleep(scope, below(forest, 20));
        remember_op(tree, op);
        await_some(tree, op);
    }
    if (below(forest, 2) == 0)
        return random_op(tree);
    op = grow_leaf(tree, scope);
    remember_op(tree, op);
    return op;
}

static void hedge_some(struct tree *tree, struct scope *scope)
{
    struct op *first = random_op(tree);

    if (first != NULL)
        remember_op(tree, hedge_start(scope, first, below(tree->forest, 30), grow_second, tree));
}

static void start_some(struct tree *tree, struct scope *scope, bool on_fiber)
{
    struct forest *forest = tree->forest;
    struct op *op;

    switch (below(forest, 8)) {
    case 0:
    case 1:
        op = op_sleep(scope, below(forest, 40));
        break;
    case 2:
        op = op_failed(scope, ERR_DB_BUSY, "full", SPAN("no room"));
        break;
    case 3:
        op = offload_some(tree, scope);
        break;
    default:
        op = grow_leaf(tree, scope);
    }
    remember_op(tree, op);
    if (on_fiber && below(forest, 2) == 0)
        await_some(tree, op);
    else if (below(forest, 2) == 0)
        listen(tree, op, below(forest, 4) > 0);
}

static void branch_off(struct tree *tree, struct scope *scope)
{
    struct forest *forest = tree->forest;
    uint32_t flags = below(forest, 4); /* SCOPE_SHIELD and SCOPE_SUPERVISE, or not */
    struct scope *child;

    if (tree->branch_count == SCOPES_MAX)
        return;
    child = scope_child(scope, 1 + below(forest, 100), flags);
    if (child == NULL)
        return;
    if ((flags & SCOPE_SHIELD) == 0)
        assert_int_equal(child->why, scope->why);
    tree->branches[tree->branch_count++] = (struct branch){.handle = child->handle};
    if (below(forest, 2) == 0)
        add_cleanups(tree, child);
    if (below(forest, 2) == 0) {
        uint32_t calls = forest->calls;

        forest->calls = 0; /* a program runs in our place: that is no callback */
        (void)scope_run(child, live, tree, below(forest, 2) == 0);
        forest->calls = calls;
    }
}

static void finish_branch(struct tree *tree, struct scope *scope, struct branch *branch)
{
    if (branch->is_finished)
        return;
    branch->is_finished = true;
    if (scope == tree->root)
        tree->must_be_quiet = true;
    scope_finish(scope, (enum scope_why)(1 + below(tree->forest, SCOPE_MEMORY)));
    assert_int_not_equal(scope->why, SCOPE_ALIVE);
}

static void step(struct tree *tree, bool on_fiber)
{
    struct forest *forest = tree->forest;
    struct branch *branch;
    struct scope *scope = random_scope(tree, &branch);
    struct op *op = random_op(tree);
    uint32_t what = below(forest, 100);

    if (tree->steps++ >= STEPS_MAX || scope == NULL)
        return;
    check_bunches(tree);
    forest->calls++;
    if (what < 40) {
        start_some(tree, scope, on_fiber);
    } else if (what < 50) {
        if (below(tree->forest, 4) > 0)
            group_some(tree, scope);
        else
            hedge_some(tree, scope);
    } else if (what < 58) {
        branch_off(tree, scope);
    } else if (what < 62) {
        scope_cancel(scope, (enum scope_why)(1 + below(forest, SCOPE_MEMORY)));
    } else if (what < 66) {
        if (scope != tree->root || below(forest, 3) == 0)
            finish_branch(tree, scope, branch);
    } else if (what < 69) {
        scope_tighten(scope, below(forest, 60));
    } else if (what < 72) {
        scope_shield(scope, below(forest, 60));
    } else if (what < 76) {
        add_cleanups(tree, scope);
    } else if (op != NULL && what < 80) {
        op_cancel(op);
    } else if (op != NULL && what < 84) {
        bool can = op->state == OP_TOLD && op->is_retired;

        assert_int_equal(op_release(op), can ? ERR_OK : ERR_STATE);
    } else if (op != NULL && what < 92) {
        listen(tree, op, what < 90);
    } else if (op != NULL && on_fiber) {
        await_some(tree, op);
    }
    forest->calls--;
}

static void live(struct scope *scope, void *data)
{
    struct tree *tree = data;

    assert_ptr_equal(scope_current(scope->tasks), scope);
    for (uint32_t i = 3 + below(tree->forest, 12); i > 0; i--)
        step(tree, true);
}

/* Trees */

static void on_idle(struct scope *scope)
{
    struct tree *tree = scope->owner;

    assert_int_equal(tree->forest->calls, 0);
    assert_false(tree->must_be_quiet);
    assert_true(scope_is_idle(scope));
    if (below(tree->forest, 4) == 0)
        finish_branch(tree, scope, &tree->branches[0]);
}

static void on_cancel(struct scope *scope)
{
    struct tree *tree = scope->owner;

    assert_int_equal(tree->forest->calls, 0);
    assert_int_not_equal(scope->why, SCOPE_ALIVE);
    assert_false(tree->must_be_quiet);
    if (below(tree->forest, 3) == 0)
        finish_branch(tree, scope, &tree->branches[0]);
}

static void on_end(struct scope *scope)
{
    struct tree *tree = scope->owner;

    assert_int_equal(tree->forest->calls, 0);
    assert_true(tree->must_be_quiet);
    assert_false(tree->has_ended);
    tree->has_ended = true;
    assert_true(list_is_empty(&tree->leaves));
    assert_int_equal(tree->leaves_made, tree->leaves_released);
    assert_int_equal(tree->cleanups, 0);
    for (uint32_t i = 0; i < tree->ear_count; i++)
        assert_int_equal(tree->ears[i].told, 1);
    for (uint32_t i = 1; i < tree->branch_count; i++)
        assert_null(scope_of(scope->tasks, tree->branches[i].handle));
    for (uint32_t i = 0; i < tree->op_count; i++)
        assert_null(op_of(scope->tasks, tree->ops[i]));
}

static const struct scope_handler handler = {
    .on_idle = on_idle, .on_cancel = on_cancel, .on_end = on_end};

static struct tree *plant(struct forest *forest)
{
    struct tree *tree = calloc(1, sizeof *tree);
    uint64_t budget_ms = below(forest, 4) == 0 ? 0 : 1 + below(forest, 200);

    assert_non_null(tree);
    tree->forest = forest;
    list_init(&tree->leaves);
    tree->root = scope_create(forest->world.tasks, &handler, tree, budget_ms);
    tree->branches[tree->branch_count++].handle = tree->root->handle;
    if (below(forest, 8) == 0)
        tree->root->memory_max = 2000 + below(forest, 20000);
    add_cleanups(tree, tree->root);
    for (uint32_t i = 1 + below(forest, 3); i > 0; i--) {
        if (!tree->must_be_quiet)
            (void)scope_run(tree->root, live, tree, false);
    }
    return tree;
}

/* What comes from outside. */
static void happen(struct forest *forest, struct tree *tree)
{
    struct list *leaf = list_first(below(forest, 2) ? &forest->late : &tree->leaves);

    switch (below(forest, 10)) {
    case 0:
        fake_clock_jump(&forest->world.clock, forest->world.loop, below(forest, 30));
        break;
    case 1:
        if (below(forest, 4) == 0 && !tree->has_ended)
            scope_cancel(tree->root, SCOPE_CLIENT_GONE);
        break;
    case 2:
        if (!tree->has_ended)
            (void)scope_run(tree->root, live, tree, below(forest, 2) == 0);
        break;
    case 3:
        if (below(forest, 8) == 0 && !tree->has_ended)
            finish_branch(tree, tree->root, &tree->branches[0]);
        break;
    case 4:
        run_turns(forest->world.loop, 1);
        break;
    case 5:
        begin_job(forest);
        break;
    case 6:
        end_job(forest);
        break;
    default:
        if (leaf != NULL && CONTAINER_OF(leaf, struct leaf, link)->op.state == OP_PENDING)
            settle_leaf(forest, CONTAINER_OF(leaf, struct leaf, link));
        else if (leaf != NULL)
            retire_leaf(forest, CONTAINER_OF(leaf, struct leaf, link));
    }
}

/* Lets everything come to its end. */
static void harvest(struct forest *forest)
{
    for (uint32_t i = 0; i < TREES_AT_ONCE; i++) {
        struct tree *tree = forest->trees[i];

        if (!tree->has_ended)
            finish_branch(tree, tree->root, &tree->branches[0]);
    }
    for (uint32_t round = 0; forest->world.tasks->scopes_count > 0; round++) {
        struct list *leaf;

        assert_true(round < 10000); /* nothing may hang */
        fake_clock_jump(&forest->world.clock, forest->world.loop, 1 + below(forest, 20));
        while ((leaf = list_first(&forest->late)) != NULL)
            retire_leaf(forest, CONTAINER_OF(leaf, struct leaf, link));
        begin_job(forest);
        end_job(forest);
    }
    assert_int_equal(forest->jobs, 0);
    assert_int_equal(fiber_count(forest->world.tasks->fibers), 0);
    assert_int_equal(slots_count(forest->world.tasks->op_handles), 0);
    for (uint32_t i = 0; i < TREES_AT_ONCE; i++) {
        assert_true(forest->trees[i]->has_ended);
        free(forest->trees[i]);
    }
}

/* What a seed makes: up to `trees`, in a world of their own. */
static void plant_all(uint64_t seed, uint64_t trees)
{
    const struct fiber_options options = {.count_max = 40};
    struct forest forest = {.random = seed * 2 + 1};

    world_init(&forest.world, &options, NULL);
    list_init(&forest.late);
    list_init(&forest.line);
    list_init(&forest.busy);
    threads_of = &forest;
    for (uint64_t planted = 0; planted < trees; planted += TREES_AT_ONCE) {
        for (uint32_t i = 0; i < TREES_AT_ONCE; i++)
            forest.trees[i] = plant(&forest);
        for (uint32_t i = 20 + below(&forest, 200); i > 0; i--)
            happen(&forest, forest.trees[below(&forest, TREES_AT_ONCE)]);
        harvest(&forest);
    }
    assert_true(forest.told > trees / 2);
    totals.ops += forest.world.tasks->ops_started;
    totals.told += forest.told;
    world_deinit(&forest.world);
}

static void test_random_trees(void **state)
{
    uint64_t seed = soak_seed();
    uint64_t left = soak_number("WEFT_TREES", soak_is_on() ? TREES_SOAK : TREES_DEFAULT);
    char how[160];

    (void)state;
    print_message("WEFT_SEED=%llu WEFT_TREES=%llu\n", (unsigned long long)seed,
                  (unsigned long long)left);
    for (uint64_t trees; left > 0; left -= trees, seed++) {
        trees = left < TREES_A_WORLD ? left : TREES_A_WORLD;
        snprintf(how, sizeof how, "WEFT_SEED=%llu WEFT_TREES=%llu build/dev/tests/test_task_trees",
                 (unsigned long long)seed, (unsigned long long)trees);
        soak_repeat(how);
        plant_all(seed, trees);
    }
    soak_repeat(NULL);
    print_message("%llu ops, %llu consumers\n", (unsigned long long)totals.ops,
                  (unsigned long long)totals.told);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_random_trees, soak_end)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
