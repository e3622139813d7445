/* task/offload.c - work that blocks, on a helper thread, as an op. */
#include "task/offload.h"
#include "base/check.h"
#include "loop/helper.h"

struct offload {
    struct op op;   /* its outcome; the loop's alone */
    struct job job; /* on its way until on_done() */
    struct helpers *helpers;
    offload_fn *fn;  /* the work */
    void *data;      /* for fn */
    enum err result; /* the thread's until on_done() */
};

static void withdraw(struct op *op)
{
    struct offload *offload = CONTAINER_OF(op, struct offload, op);

    if (helper_take_back(offload->helpers, &offload->job))
        op_retire(op);
}

static const struct op_kind offload_kind = {.name = "offload", .account = -1, .withdraw = withdraw};

/* On a helper thread. */
static void work(struct job *job)
{
    struct offload *offload = CONTAINER_OF(job, struct offload, job);

    offload->result = offload->fn(offload->data);
}

/* What the helpers call on the loop: note what happened, hand on. */

static void on_done(struct job *job)
{
    struct offload *offload = CONTAINER_OF(job, struct offload, job);

    CHECK(!offload->op.is_retired);
    if (offload->op.state == OP_PENDING)
        op_finish(&offload->op, offload->result, NULL);
    else
        op_retire(&offload->op);
}

struct op *offload_start(struct scope *scope, struct helpers *helpers, offload_fn *fn, void *data)
{
    struct offload *offload;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    CHECK(helpers != NULL);
    CHECK(fn != NULL);
    if (helpers_pending(helpers) >= OFFLOADS_MAX)
        return op_failed(scope, ERR_OVERLOAD, "offload_line_full",
                         SPAN("too much offloaded work is waiting"));
    offload = scope_alloc(scope, sizeof *offload);
    offload->helpers = helpers;
    offload->fn = fn;
    offload->data = data;
    if (op_init(&offload->op, scope, &offload_kind))
        helper_run(helpers, &offload->job, work, on_done);
    return &offload->op;
}
