/* plugin/abi_core.c - the table `core`: the log, scopes and ops; its routes and settings are in
 * abi_init.c. */
#include "base/check.h"
#include "base/mem.h"
#include "plugin/inside.h"
#include "task/fiber.h"
#include "task/group.h"
#include "task/hedge.h"
#include "task/offload.h"
#include "task/tasks.h"
#include <assert.h>
#include <stdlib.h>

enum {
    STRAY_MAX = 64 << 20, /* bytes that are handed out in stale scopes before the worker aborts */
    FEW = 32,             /* ops of a group that need no memory to be looked up */
};

static_assert((int)WEFT_WHY_NONE == SCOPE_ALIVE && (int)WEFT_WHY_CLIENT_GONE == SCOPE_CLIENT_GONE &&
                  (int)WEFT_WHY_DEADLINE == SCOPE_DEADLINE &&
                  (int)WEFT_WHY_SIBLING == SCOPE_SIBLING &&
                  (int)WEFT_WHY_EXPLICIT == SCOPE_EXPLICIT &&
                  (int)WEFT_WHY_REPLIED == SCOPE_REPLIED &&
                  (int)WEFT_WHY_SHUTDOWN == SCOPE_SHUTDOWN &&
                  (int)WEFT_WHY_MEMORY == SCOPE_MEMORY && (int)WEFT_WHY_ENDED > SCOPE_MEMORY,
              "why a scope was canceled");
static_assert((int)WEFT_LOG_ERROR == LOG_ERROR && (int)WEFT_LOG_WARN == LOG_WARN &&
                  (int)WEFT_LOG_INFO == LOG_INFO && (int)WEFT_LOG_DEBUG == LOG_DEBUG,
              "levels of the log");
static_assert(WEFT_CHILD_SHIELD == SCOPE_SHIELD && WEFT_CHILD_SUPERVISE == SCOPE_SUPERVISE,
              "flags of a child");

/* The log */

/* Repeats are known by how a line begins: all lines of plugins come through here. */
static struct log_site *site_of(struct span text)
{
    return abi_log_site((struct span){text.ptr, text.len < 24 ? text.len : 24}, SPAN(""));
}

static void write_line(weft_ctx *ctx, uint32_t level, weft_str text)
{
    struct abi *abi = abi_here();
    struct abi_who who = {.fields = {{.key = "plugin"}, {.key = "route"}, {.key = "request"}}};

    if (level > WEFT_LOG_DEBUG)
        level = WEFT_LOG_DEBUG;
    if (text.ptr == NULL || !log_is_on((enum log_level)level))
        return;
    if (abi == NULL)
        who.fields[0].value = abi_caller();
    else
        abi_who(abi, ctx != NULL ? scope_of(abi->services.tasks, abi_number(ctx)) : NULL, &who);
    log_write_fields(site_of(abi_span(text)), (enum log_level)level, who.fields, 3, "%.*s",
                     SPAN_ARG(abi_span(text)));
}

static uint32_t log_level(void)
{
    uint32_t level = WEFT_LOG_DEBUG;

    while (level > WEFT_LOG_ERROR && !log_is_on((enum log_level)level))
        level--;
    return level;
}

/* Scopes */

/* On another thread: it must get something, and nobody can tell when that is used no more. */
static void *alloc_elsewhere(size_t size)
{
    static struct elsewhere {
        struct elsewhere *next;
        _Alignas(max_align_t) char bytes[];
    } * all;
    static size_t taken;
    struct elsewhere *made;

    if (size > STRAY_MAX || __atomic_add_fetch(&taken, size, __ATOMIC_RELAXED) > STRAY_MAX) {
        log_error("a plugin allocates again and again on a thread that is not the loop's");
        abort();
    }
    made = mem_alloc(sizeof *made + size);
    made->next = __atomic_load_n(&all, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&all, &made->next, made, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
        continue;
    return made->bytes;
}

static void *alloc_stray(size_t size)
{
    struct abi *abi = abi_here();

    if (abi == NULL)
        return alloc_elsewhere(size);
    if (size > STRAY_MAX || abi->stray.bytes > STRAY_MAX - size) {
        log_error("a plugin allocates again and again in a ctx that has ended");
        abort();
    }
    return arena_alloc(&abi->stray, size);
}

static void *alloc(weft_ctx *ctx, size_t size)
{
    struct scope *scope = abi_scope(ctx, "alloc");

    return scope != NULL ? scope_alloc(scope, size) : alloc_stray(size);
}

static weft_status defer(weft_ctx *ctx, weft_cleanup_fn *fn, void *data)
{
    struct scope *scope = abi_scope(ctx, "defer");

    if (scope == NULL)
        return WEFT_E_STATE;
    if (fn == NULL) {
        abi_misuse("defer", "nothing to run");
        return WEFT_E_INVALID;
    }
    scope_defer(scope, fn, data);
    return WEFT_OK;
}

/* A child that a plugin may end, and one that it has ended. */
static const struct scope_handler child_handler = {0};
static const struct scope_handler ended_child_handler = {0};

static weft_ctx *child(weft_ctx *ctx, uint32_t ms, uint32_t flags)
{
    struct scope *scope = abi_scope(ctx, "child");
    struct scope *made;

    if (scope == NULL)
        return NULL;
    if ((flags & ~(WEFT_CHILD_SHIELD | WEFT_CHILD_SUPERVISE)) != 0 ||
        ((flags & WEFT_CHILD_SHIELD) != 0 && ms == 0)) {
        abi_misuse("child", "unknown flags, or a shield without a time");
        return NULL;
    }
    made = scope_child(scope, ms, flags);
    if (made == NULL) {
        abi_misuse("child", "the ctx is at its end");
        return NULL;
    }
    made->handler = &child_handler;
    return abi_ctx(made);
}

static weft_status end(weft_ctx *ctx)
{
    struct scope *scope = abi_scope(ctx, "end");

    if (scope == NULL)
        return WEFT_E_STATE;
    if (scope->handler != &child_handler || scope_is_ending(scope)) {
        abi_misuse("end", "no child, or one that was ended already");
        return WEFT_E_STATE;
    }
    scope->handler = &ended_child_handler;
    scope_finish(scope, SCOPE_EXPLICIT);
    return WEFT_OK;
}

static weft_status shield(weft_ctx *ctx, uint32_t ms)
{
    struct scope *scope = abi_scope(ctx, "shield");

    if (scope == NULL)
        return WEFT_E_STATE;
    scope_shield(scope, ms);
    return WEFT_OK;
}

static void cancel(weft_ctx *ctx)
{
    struct scope *scope = abi_scope(ctx, "cancel");

    if (scope != NULL)
        scope_cancel(scope, SCOPE_EXPLICIT);
}

static uint32_t why(weft_ctx *ctx)
{
    struct scope *scope = abi_scope(ctx, "why");

    return scope != NULL ? (uint32_t)scope->why : (uint32_t)WEFT_WHY_ENDED;
}

static int64_t budget_ms(weft_ctx *ctx)
{
    struct scope *scope = abi_scope(ctx, "budget_ms");
    uint64_t ms = scope != NULL ? scope_budget_ms(scope) : 0;

    if (ms == UINT64_MAX)
        return -1;
    return ms < INT64_MAX ? (int64_t)ms : INT64_MAX;
}

/* Ops */

struct consumer {
    weft_then_fn *fn; /* the plugin's */
    void *data;       /* for fn */
};

static void on_settled(struct op *op, void *data)
{
    const struct consumer *consumer = data;
    struct scope *scope = op->scope;

    abi_note_failure(scope, op);
    abi_take_status(scope, consumer->fn(abi_ctx(scope), abi_handle(op), consumer->data));
}

static weft_status then(weft_op *handle, weft_then_fn *fn, void *data)
{
    struct op *op = abi_op(handle, "then");
    struct consumer *consumer;

    if (op == NULL)
        return WEFT_E_STATE;
    if (fn == NULL) {
        abi_misuse("then", "nothing to run");
        return WEFT_E_INVALID;
    }
    consumer = scope_alloc(op->scope, sizeof *consumer);
    *consumer = (struct consumer){fn, data};
    if (op_then(op, on_settled, consumer) == ERR_OK)
        return WEFT_OK;
    abi_misuse("then", "the op has a consumer already");
    return WEFT_E_STATE;
}

/* Why the current code cannot wait for `op`; NULL: it can. */
static const char *find_obstacle(const struct tasks *tasks, const struct op *op)
{
    const struct scope *scope = scope_current(tasks);

    if (fiber_current(tasks->fibers) == NULL || scope == NULL)
        return "nothing can wait here: init(), fini() and clean-ups run on the loop itself";
    if (abi_here()->seeing != NULL)
        return "a filter's after(), and a change of a body, cannot wait";
    if (scope->root != op->scope->root)
        return "an op of another request";
    return op->is_deaf ? "the op has a consumer already" : NULL;
}

static weft_status await(weft_op *handle)
{
    struct op *op = abi_op(handle, "await");
    struct abi *abi = abi_here();
    struct tasks *tasks;
    const char *obstacle;
    enum err err;

    if (abi == NULL)
        return WEFT_E_STATE;
    tasks = abi->services.tasks;
    obstacle = op != NULL ? find_obstacle(tasks, op) : NULL;
    if (obstacle != NULL)
        abi_misuse("await", obstacle);
    if (op == NULL || obstacle != NULL) {
        op_await_none(tasks);
        return WEFT_E_STATE;
    }
    err = op_await(op);
    if (err != ERR_OK) {
        op = op_of(tasks, abi_number(handle)); /* its scope may have ended meanwhile */
        if (op != NULL)
            abi_note_failure(scope_current(tasks), op);
    }
    return abi_status(err);
}

static weft_status op_status(weft_op *handle)
{
    struct op *op = abi_op(handle, "op_status");

    if (op == NULL)
        return WEFT_E_STATE;
    return op->state != OP_PENDING ? abi_status(op->status) : WEFT_PENDING;
}

static weft_str op_error(weft_op *handle)
{
    struct op *op = abi_op(handle, "op_error");

    return abi_str(op != NULL ? op->error : (struct span){0});
}

static weft_str piece(weft_op *handle)
{
    struct op *op = abi_op(handle, "piece");

    if (op == NULL || op->state == OP_PENDING || op->status != ERR_OK)
        return abi_str((struct span){0});
    return abi_str(op->piece);
}

static weft_status release(weft_op *handle)
{
    struct op *op = abi_op(handle, "op_release");

    return op != NULL ? abi_status(op_release(op)) : WEFT_E_STATE;
}

static_assert((int)WEFT_ALL == GROUP_ALL && (int)WEFT_ANY == GROUP_ANY &&
                  (int)WEFT_RACE == GROUP_RACE,
              "kinds of groups");

static weft_op *start_group(struct scope *scope, uint32_t kind, uint32_t count,
                            weft_op *const *handles, struct op **children)
{
    for (uint32_t i = 0; i < count; i++) {
        children[i] = abi_op(handles[i], "group");
        if (children[i] == NULL)
            return abi_handle(
                op_failed(scope, ERR_STATE, NULL, SPAN("an op of the group has gone")));
    }
    return abi_handle(group_start(scope, (enum group_kind)kind, children, count));
}

static weft_op *group(weft_ctx *ctx, uint32_t kind, uint32_t count, weft_op *const *handles)
{
    struct scope *scope = abi_scope(ctx, "group");
    struct op *few[FEW];

    if (scope == NULL)
        return NULL;
    if (kind > WEFT_RACE || count > GROUP_CHILDREN_MAX || (count > 0 && handles == NULL)) {
        abi_misuse("group", "of no known kind, too large, or without its ops");
        return abi_handle(op_failed(scope, ERR_INVALID, NULL, SPAN("no such group")));
    }
    if (count <= FEW)
        return start_group(scope, kind, count, handles, few);
    return start_group(scope, kind, count, handles,
                       scope_alloc(scope, count * sizeof(struct op *)));
}

static int32_t winner(weft_op *handle)
{
    struct op *op = abi_op(handle, "winner");

    return op != NULL ? group_winner(op) : -1;
}

/* What starts a hedge's second op. */
struct second {
    weft_start_fn *fn; /* the plugin's */
    void *data;        /* for fn */
};

static struct op *start_second(struct scope *scope, void *data)
{
    const struct second *second = data;
    weft_op *handle = second->fn(abi_ctx(scope), second->data);

    return handle != NULL ? abi_op(handle, "hedge") : NULL;
}

static weft_op *hedge(weft_ctx *ctx, weft_op *handle, uint32_t ms, weft_start_fn *fn, void *data)
{
    struct scope *scope = abi_scope(ctx, "hedge");
    struct op *first = scope != NULL ? abi_op(handle, "hedge") : NULL;
    struct second *second;

    if (scope == NULL)
        return NULL;
    if (first == NULL)
        return abi_handle(op_failed(scope, ERR_STATE, NULL, SPAN("the first op has gone")));
    if (fn == NULL)
        return abi_handle(op_failed(scope, ERR_INVALID, NULL, SPAN("nothing starts a second op")));
    second = scope_alloc(scope, sizeof *second);
    *second = (struct second){fn, data};
    return abi_handle(hedge_start(scope, first, ms, start_second, second));
}

static weft_op *sleep_op(weft_ctx *ctx, uint32_t ms)
{
    struct scope *scope = abi_scope(ctx, "sleep");

    return scope != NULL ? abi_handle(op_sleep(scope, ms)) : NULL;
}

/* A handler that runs beside its starter, in a child of its own. Canceled before it began, it never
 * begins; later, the op settles at once, the child is canceled, and the op is retired when the
 * handler has returned. */
struct spawn {
    struct op op;       /* its outcome */
    struct ready ready; /* it begins with the ready list */
    uint64_t child;     /* the handle of the scope in which it runs; 0: it has not begun */
    weft_handler *fn;   /* the plugin's */
    void *self;         /* for fn */
};

/* NULL: it has not begun, or has ended. */
static struct scope *child_of(const struct spawn *spawn)
{
    return scope_of(spawn->op.scope->tasks, spawn->child);
}

static void withdraw_spawn(struct op *op)
{
    struct spawn *spawn = CONTAINER_OF(op, struct spawn, op);

    if (ready_is_on(&spawn->ready)) {
        ready_stop(&spawn->ready);
        op_retire(op);
        return;
    }
    scope_cancel(child_of(spawn), op->scope->why != SCOPE_ALIVE ? op->scope->why : SCOPE_SIBLING);
}

static void release_spawn(struct op *op)
{
    struct scope *child = child_of(CONTAINER_OF(op, struct spawn, op));

    if (child != NULL && !scope_is_ending(child))
        scope_finish(child, SCOPE_EXPLICIT);
}

static const struct op_kind spawn_kind = {
    .name = "spawn", .account = -1, .withdraw = withdraw_spawn, .release = release_spawn};

static void run_spawned(struct scope *child, void *data)
{
    struct spawn *spawn = data;
    weft_status status = spawn->fn(abi_ctx(child), spawn->self);

    if (spawn->op.state == OP_PENDING)
        op_finish(&spawn->op, abi_err(status), NULL);
    else
        op_retire(&spawn->op);
}

static void on_spawn(struct ready *ready)
{
    struct spawn *spawn = CONTAINER_OF(ready, struct spawn, ready);
    struct scope *scope = spawn->op.scope;
    struct scope *child = scope_child(scope, 0, scope->flags & SCOPE_SUPERVISE);

    CHECK(child != NULL); /* nothing of a scope is pending when it ends */
    spawn->child = child->handle;
    if (!scope_run(child, run_spawned, spawn, false))
        op_finish(&spawn->op, ERR_OVERLOAD, "fibers");
}

static weft_op *spawn(weft_ctx *ctx, weft_handler *fn, void *self)
{
    struct scope *scope = abi_scope(ctx, "spawn");
    struct spawn *spawn;

    if (scope == NULL)
        return NULL;
    if (fn == NULL)
        return abi_handle(op_failed(scope, ERR_INVALID, NULL, SPAN("nothing to run")));
    spawn = scope_alloc(scope, sizeof *spawn);
    spawn->fn = fn;
    spawn->self = self;
    if (op_init(&spawn->op, scope, &spawn_kind))
        ready_start(scope->tasks->loop, &spawn->ready, on_spawn);
    return abi_handle(&spawn->op);
}

static void cancel_op(weft_op *handle)
{
    struct op *op = abi_op(handle, "op_cancel");
    struct scope *child;

    if (op == NULL || op->state != OP_PENDING)
        return;
    child = op->kind == &spawn_kind ? child_of(CONTAINER_OF(op, struct spawn, op)) : NULL;
    if (child != NULL)
        scope_cancel(child, SCOPE_EXPLICIT);
    op_cancel(op);
}

/* Work for a thread. */
struct work {
    weft_work_fn *fn;      /* the plugin's */
    void *data;            /* for fn */
    struct abi_work whose; /* for the log */
};

static enum err run_work(void *data)
{
    const struct work *work = data;
    weft_status status;

    abi_thread_enter(&work->whose);
    status = work->fn(work->data);
    abi_thread_leave();
    return abi_err(status);
}

static weft_op *offload(weft_ctx *ctx, weft_work_fn *fn, void *data)
{
    struct scope *scope = abi_scope(ctx, "offload");
    const struct instance *instance;
    struct abi *abi = abi_here();
    struct work *work;

    if (scope == NULL)
        return NULL;
    if (fn == NULL)
        return abi_handle(op_failed(scope, ERR_INVALID, NULL, SPAN("nothing to run")));
    work = scope_alloc(scope, sizeof *work);
    instance = abi_instance_of(abi, scope);
    *work = (struct work){
        fn,
        data,
        {instance != NULL ? instance->name : NULL, scope->blame_index, scope->request_id}};
    return abi_handle(offload_start(scope, abi->services.helpers, run_work, work));
}

const weft_core_api abi_core = {
    .size = sizeof(weft_core_api),
    .route = abi_route,
    .setting = abi_setting,
    .setting_int = abi_setting_int,
    .setting_bool = abi_setting_bool,
    .log = write_line,
    .log_level = log_level,
    .status_text = abi_status_text,
    .alloc = alloc,
    .defer = defer,
    .child = child,
    .end = end,
    .shield = shield,
    .cancel = cancel,
    .why = why,
    .budget_ms = budget_ms,
    .then = then,
    .await = await,
    .op_status = op_status,
    .op_error = op_error,
    .op_cancel = cancel_op,
    .op_release = release,
    .group = group,
    .winner = winner,
    .sleep = sleep_op,
    .spawn = spawn,
    .hedge = hedge,
    .offload = offload,
    .open_inbox = abi_inbox,
    .post = abi_post,
    .piece = piece,
    .shared = abi_shared,
    .instance = abi_instance,
};
