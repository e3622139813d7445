/* task/hedge.c - a second op for one that is slow.
 *
 * The group's second member is an op of our own, the deputy:
 *
 *   WAITING (timer, and a watch on the first op) ──▶ DUE (ready) ──▶ STARTING (its function runs)
 *      ──▶ WATCHING (the second op) ──▶ settled as the second op did
 *
 * Canceled, it lets go of whatever it waits for and cancels the second op; while STARTING it is
 * retired only when the function has returned, since that one's fiber points at it.
 */
#include "task/hedge.h"
#include "base/check.h"
#include "task/group.h"

struct deputy {
    struct op op;          /* the group's second member */
    struct timer timer;    /* WAITING: when the first op has had its time */
    struct op_watch watch; /* on the first op while WAITING, then on the second */
    struct ready ready;    /* DUE */
    struct op *second;     /* WATCHING; NULL: not, or it has told */
    hedge_fn *fn;          /* starts the second op */
    void *data;            /* for fn */
    bool is_starting;      /* fn runs */
};

static void withdraw(struct op *op)
{
    struct deputy *deputy = CONTAINER_OF(op, struct deputy, op);
    struct op *second = deputy->second;

    timer_stop(&deputy->timer);
    ready_stop(&deputy->ready);
    list_remove(&deputy->watch.link);
    deputy->second = NULL;
    if (second != NULL)
        op_cancel(second);
    if (!deputy->is_starting)
        op_retire(op);
}

static const struct op_kind deputy_kind = {.name = "hedge", .account = -1, .withdraw = withdraw};

static void on_second(struct op *second, void *data)
{
    struct deputy *deputy = data;

    CHECK(deputy->op.state == OP_PENDING);
    deputy->second = NULL;
    if (second->error.ptr != NULL)
        op_explain(&deputy->op, second->error);
    op_finish(&deputy->op, second->status, NULL);
}

/* `second` was started, or is NULL. */
static void follow(struct deputy *deputy, struct op *second)
{
    if (deputy->op.state != OP_PENDING) { /* canceled while it was started */
        if (second != NULL)
            op_cancel(second);
        op_retire(&deputy->op);
        return;
    }
    if (second == NULL || second->scope->root != deputy->op.scope->root) {
        op_explain(&deputy->op, SPAN("no second operation, or one of another request"));
        op_finish(&deputy->op, second == NULL ? ERR_INVALID : ERR_STATE, NULL);
        return;
    }
    deputy->second = second;
    deputy->watch = (struct op_watch){.fn = on_second, .data = deputy};
    op_watch(second, &deputy->watch);
}

static void run_start(struct scope *scope, void *data)
{
    struct deputy *deputy = data;
    struct op *second = deputy->fn(scope, deputy->data);

    deputy->is_starting = false;
    follow(deputy, second);
}

static void on_due(struct ready *ready)
{
    struct deputy *deputy = CONTAINER_OF(ready, struct deputy, ready);

    CHECK(deputy->op.state == OP_PENDING);
    deputy->is_starting = true;
    if (!scope_run(deputy->op.scope, run_start, deputy, true)) {
        deputy->is_starting = false;
        op_finish(&deputy->op, ERR_CANCELED, NULL);
    }
}

/* What runs of a plugin may release ops, which a watcher may not: so it runs a little later. */
static void become_due(struct deputy *deputy)
{
    timer_stop(&deputy->timer);
    list_remove(&deputy->watch.link);
    ready_start(deputy->op.scope->tasks->loop, &deputy->ready, on_due);
}

static void on_time(struct timer *timer)
{
    become_due(CONTAINER_OF(timer, struct deputy, timer));
}

static void on_first(struct op *first, void *data)
{
    struct deputy *deputy = data;

    CHECK(deputy->op.state == OP_PENDING);
    if (first->status != ERR_OK)
        become_due(deputy);
}

struct op *hedge_start(struct scope *scope, struct op *first, uint32_t ms, hedge_fn *fn, void *data)
{
    struct deputy *deputy;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    CHECK_OBJ(first, OP_MAGIC);
    CHECK(fn != NULL);
    if (first->scope->root != scope->root)
        return op_failed(scope, ERR_STATE, NULL, SPAN("an operation of another request"));
    deputy = scope_alloc(scope, sizeof *deputy);
    deputy->fn = fn;
    deputy->data = data;
    if (op_init(&deputy->op, scope, &deputy_kind)) {
        timer_start(scope->tasks->loop, &deputy->timer, ms, on_time);
        deputy->watch = (struct op_watch){.fn = on_first, .data = deputy};
        op_watch(first, &deputy->watch);
    }
    return group_start(scope, GROUP_ANY, (struct op *[]){first, &deputy->op}, 2);
}
