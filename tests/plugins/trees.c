/* Goal: random trees of what a plugin may do, each step right, with what weft.h promises checked at
 * each: GET /trees/grow (its tree), GET /trees/balance (what was begun and has not ended, and what
 * was found broken). Settings: seed. */
#include "weft.h"

#include <stdbool.h>
#include <stdlib.h>

enum { OPS_MAX = 24, CTXS_MAX = 8, EARS_MAX = 32, STEPS_MAX = 40 };

/* One consumer. */
struct ear {
    struct tree *tree;
    weft_op *op;
    bool was_told;
};

/* One request, or what a job of the background grows; on the heap, and gone with its ctx. */
struct tree {
    weft_ctx *ctxs[CTXS_MAX]; /* the first is the root's */
    weft_op *ops[OPS_MAX];
    struct ear ears[EARS_MAX];
    uint32_t ctx_count, op_count, ear_count, steps;
    uint32_t running; /* handlers, callbacks and spawned ones that have not returned */
};

static uint64_t random_state;
static bool inside; /* a call that runs no callback */
static const char *broken;
static int64_t trees, ears, cleanups; /* begun and not ended */
static int64_t steps;

static void live(struct tree *tree, uint32_t most);

static uint32_t below(uint32_t bound)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 0x2545f4914f6cdd1du) >> 32) % bound;
}

static void must(bool is_so, const char *what)
{
    if (!is_so && broken == NULL) {
        broken = what;
        weft_log(NULL, WEFT_LOG_ERROR, "broken: %s", what);
    }
}

static weft_ctx *pick_ctx(const struct tree *tree)
{
    return tree->ctxs[below(tree->ctx_count)];
}

static weft_op *pick_op(const struct tree *tree)
{
    return tree->op_count > 0 ? tree->ops[below(tree->op_count)] : NULL;
}

static weft_op *keep(struct tree *tree, weft_ctx *ctx, weft_op *op)
{
    must(op != NULL, "starting an op fails");
    if (weft_why(ctx) != WEFT_WHY_NONE)
        must(weft_op_status(op) != WEFT_PENDING, "an op runs in a canceled ctx");
    tree->ops[tree->op_count < OPS_MAX ? tree->op_count++ : below(OPS_MAX)] = op;
    return op;
}

static void enter(struct tree *tree)
{
    must(!inside, "a callback runs inside a call");
    tree->running++;
}

static weft_status leave(struct tree *tree)
{
    tree->running--;
    return WEFT_OK;
}

/* ---- what is handed to the host ---- */

static weft_status on_told(weft_ctx *ctx, weft_op *op, void *data)
{
    struct ear *ear = data;

    (void)ctx;
    enter(ear->tree);
    must(!ear->was_told, "a consumer is told twice");
    must(ear->op == op, "a consumer is told of another op");
    must(weft_op_status(op) != WEFT_PENDING, "a consumer is told of a pending op");
    ear->was_told = true;
    ears--;
    live(ear->tree, 4);
    return leave(ear->tree);
}

static weft_status on_spawned(weft_ctx *ctx, void *data)
{
    struct tree *tree = data;
    weft_status statuses[] = {WEFT_OK, WEFT_OK, WEFT_E_NOT_FOUND};
    weft_status status = statuses[below(3)];

    enter(tree);
    if (below(2) == 0) {
        weft_status slept = weft_await(weft_sleep(ctx, below(12)));
        must((slept == WEFT_OK) == (weft_why(ctx) == WEFT_WHY_NONE) || slept == WEFT_OK,
             "a sleep fails in a ctx that is not canceled");
    }
    live(tree, 4);
    (void)leave(tree);
    return status;
}

static weft_op *on_late(weft_ctx *ctx, void *data)
{
    struct tree *tree = data;
    weft_op *made;

    enter(tree);
    live(tree, 2);
    made = below(3) == 0 ? NULL : keep(tree, ctx, weft_sleep(ctx, below(15)));
    (void)leave(tree);
    return made;
}

static weft_status on_thread(void *data)
{
    const char *canary = data;

    return strcmp(canary, "memory") != 0 ? WEFT_E_INVALID : canary[7] ? WEFT_E_DB_BUSY : WEFT_OK;
}

/* One of some that were deferred together. */
struct cleanup {
    uint32_t *left; /* of them */
    uint32_t number;
};

/* They run the newest first. */
static void on_cleanup(void *data)
{
    struct cleanup *cleanup = data;

    must(!inside, "a clean-up runs inside a call");
    must(*cleanup->left == cleanup->number, "clean-ups in a wrong order");
    --*cleanup->left;
    cleanups--;
}

/* ---- steps ---- */

static void add_cleanups(weft_ctx *ctx)
{
    uint32_t *left = weft_alloc(ctx, sizeof *left);

    for (uint32_t i = 1; i <= 3; i++) {
        struct cleanup *cleanup = weft_alloc(ctx, sizeof *cleanup);

        *cleanup = (struct cleanup){left, i};
        if (weft_defer(ctx, on_cleanup, cleanup) != WEFT_OK)
            return;
        *left = i;
        cleanups++;
    }
}

static void listen(struct tree *tree, weft_op *op)
{
    struct ear *ear = &tree->ears[tree->ear_count];

    if (op == NULL || tree->ear_count == EARS_MAX)
        return;
    *ear = (struct ear){tree, op, false};
    inside = true;
    if (weft_then(op, on_told, ear) == WEFT_OK) {
        tree->ear_count++;
        ears++;
    }
    inside = false;
}

static void wait_for(weft_op *op)
{
    weft_status status;

    if (op == NULL)
        return;
    status = weft_await(op);
    must(status != WEFT_PENDING, "an await comes back from a pending op");
    if (status != WEFT_E_STATE)
        must(weft_op_status(op) == status || weft_op_status(op) == WEFT_E_STATE, "another status");
}

static void check_group(weft_op *group, uint32_t kind, uint32_t count, weft_op **ops)
{
    bool was_pending = weft_op_status(group) == WEFT_PENDING; /* else it may leave its ops alone */
    weft_status status = weft_await(group);
    int32_t winner = weft_winner(group);

    if (weft_op_status(group) != status)
        return; /* its ctx has ended meanwhile */
    if (kind == WEFT_ALL && status == WEFT_OK)
        for (uint32_t i = 0; i < count; i++)
            must(weft_op_status(ops[i]) == WEFT_OK || weft_op_status(ops[i]) == WEFT_E_STATE,
                 "an ALL is OK without one of its ops");
    for (uint32_t i = 0; was_pending && i < count; i++)
        must(weft_op_status(ops[i]) != WEFT_PENDING,
             "a group settles before its ops, or a loser goes on");
    if (winner < 0 || (kind != WEFT_RACE && status != WEFT_OK))
        return;
    must((uint32_t)winner < count, "a winner that is none");
    must(weft_op_status(ops[winner]) == status || weft_op_status(ops[winner]) == WEFT_E_STATE,
         "a winner with another status");
}

static void group_some(struct tree *tree, weft_ctx *ctx)
{
    uint32_t kind = below(3), count = 0;
    weft_op *ops[5], *group;

    for (uint32_t i = below(5); i > 0; i--)
        if ((ops[count] = pick_op(tree)) != NULL && weft_op_status(ops[count]) != WEFT_E_STATE)
            count++;
    inside = true;
    group = kind == WEFT_ALL   ? weft_all(ctx, count, ops)
            : kind == WEFT_ANY ? weft_any(ctx, count, ops)
                               : weft_race(ctx, count, ops);
    inside = false;
    keep(tree, ctx, group);
    if (below(2) == 0)
        check_group(group, kind, count, ops);
}

static void start_some(struct tree *tree, weft_ctx *ctx)
{
    char *canary;
    weft_op *op;

    inside = true;
    switch (below(6)) {
    case 0:
    case 1:
        op = weft_sleep(ctx, below(25));
        break;
    case 2:
        op = weft_spawn(ctx, on_spawned, tree);
        break;
    case 3:
        op = weft_hedge(ctx, weft_sleep(ctx, below(25)), below(12), on_late, tree);
        break;
    default:
        canary = weft_alloc(ctx, 8);
        memcpy(canary, "memory", 7);
        canary[7] = (char)below(2);
        op = weft_offload(ctx, on_thread, canary);
    }
    inside = false;
    keep(tree, ctx, op);
    if (below(2) == 0)
        wait_for(op);
    else
        listen(tree, op);
}

static void branch_off(struct tree *tree, weft_ctx *ctx)
{
    uint32_t flags = below(4), ms = 1 + below(60);
    weft_ctx *child;

    if (tree->ctx_count == CTXS_MAX)
        return;
    inside = true;
    child = weft_child(ctx, ms, flags);
    inside = false;
    if (child == NULL)
        return;
    must((flags & WEFT_CHILD_SHIELD) != 0 || weft_why(child) == weft_why(ctx),
         "a child is not as canceled");
    must(weft_budget_ms(child) <= ms + 1, "a child has more time than it was given");
    tree->ctxs[tree->ctx_count++] = child;
    if (below(2) == 0)
        add_cleanups(child);
}

/* Ends a child for good: its handle is stale from some turn on. */
static void end_child(struct tree *tree)
{
    uint32_t index = tree->ctx_count - 1;

    if (index == 0)
        return;
    inside = true;
    (void)weft_end(tree->ctxs[index]);
    inside = false;
    must(weft_why(tree->ctxs[index]) != WEFT_WHY_NONE, "an ended child is not canceled");
    tree->ctx_count = index;
}

static void step(struct tree *tree)
{
    uint32_t what = below(100);
    weft_ctx *ctx = pick_ctx(tree);
    weft_op *op = pick_op(tree);

    steps++;
    if (weft_why(ctx) == WEFT_WHY_ENDED)
        return;
    if (what < 45) {
        start_some(tree, ctx);
    } else if (what < 60) {
        group_some(tree, ctx);
    } else if (what < 70) {
        branch_off(tree, ctx);
    } else if (what < 74) {
        end_child(tree);
    } else if (what < 77) {
        if (ctx != tree->ctxs[0] || below(4) == 0)
            weft_cancel(ctx);
    } else if (what < 80) {
        must(weft_shield(ctx, below(30)) == WEFT_OK, "no shield");
    } else if (what < 85) {
        add_cleanups(ctx);
    } else if (what < 90 && op != NULL && weft_op_status(op) != WEFT_E_STATE) {
        inside = true;
        weft_op_cancel(op);
        inside = false;
        must(weft_op_status(op) != WEFT_PENDING, "a canceled op runs on");
    } else if (what < 93 && op != NULL && weft_op_status(op) == WEFT_OK) {
        if (weft_op_release(op) == WEFT_OK)
            must(weft_op_status(op) == WEFT_E_STATE, "a released op is there");
    } else {
        wait_for(op);
    }
}

static void live(struct tree *tree, uint32_t most)
{
    for (uint32_t i = below(most + 1); i > 0 && tree->steps < STEPS_MAX; i--) {
        tree->steps++;
        step(tree);
    }
}

/* ---- trees ---- */

static void fell(void *data)
{
    struct tree *tree = data;

    must(tree->running == 0, "a ctx ends while something of it runs");
    for (uint32_t i = 0; i < tree->ear_count; i++)
        must(tree->ears[i].was_told, "a consumer was never told");
    trees--;
    free(tree);
}

static weft_status grow(weft_ctx *ctx, void *self)
{
    struct tree *tree = calloc(1, sizeof *tree);

    (void)self;
    if (tree == NULL)
        return WEFT_E_OVERLOAD;
    tree->ctxs[tree->ctx_count++] = ctx;
    trees++;
    WEFT_TRY(weft_defer(ctx, fell, tree));
    enter(tree);
    live(tree, 16);
    if (weft_reply_text(ctx, 200, "grown") == WEFT_OK)
        must(weft_reply_text(ctx, 200, "again") == WEFT_E_STATE, "two replies");
    if (below(4) == 0)
        live(tree, 4);
    return leave(tree);
}

static weft_status balance(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "trees %d ears %d cleanups %d steps %d broken %s", (int)trees,
                               (int)ears, (int)cleanups, (int)steps,
                               broken != NULL ? broken : "-"));
}

static weft_status init(weft_host *host, void **self)
{
    const weft_route_options hasty = {sizeof hasty, 0, 60, 0, 0};
    int64_t seed;

    (void)self;
    WEFT_TRY(weft_setting_int(host, "seed", 1, INT64_MAX, 1, &seed));
    random_state = (uint64_t)seed;
    WEFT_TRY(weft_route_with(host, "GET", "/trees/hasty", grow, NULL, &hasty));
    WEFT_TRY(weft_route(host, "GET", "/trees/grow", grow));
    return weft_route(host, "GET", "/trees/balance", balance);
}

WEFT_PLUGIN("trees", "1.0", init, NULL, NULL);
