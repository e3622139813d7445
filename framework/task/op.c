/* task/op.c - an operation that settles exactly once.
 *
 *   PENDING ──settle──▶ SETTLED ──from the ready list──▶ TOLD ──release or the scope's end──▶ gone
 *       └────settle, with nobody to be told───────────────▲ │
 *                           ▲───────a consumer came late────┘
 *
 * Canceled: settled with that, then the provider is asked to withdraw; it retires the op at once or
 * later. `_pending` of the scope counts every op that is not TOLD, `_unretired` what is not
 * retired: while either is there, the scope's memory is.
 */
#include "task/op.h"
#include "base/check.h"
#include "base/log.h"
#include "base/slots.h"
#include "task/fiber.h"
#include "task/inside.h"
#include <stdio.h>

/* Waits in a canceled scope that are answered at once, and for what failed at once in another one;
 * and how long each further one takes: a handler or callback that ignores every error goes on for
 * ever, but others go on beside it. */
enum { FUTILE_MAX = 64, FAILED_MAX = 4096, FUTILE_MS = 1 };

static const struct {
    const char *name;
    unsigned next; /* the states that may follow, one bit each */
} states[] = {
    [OP_PENDING] = {"pending", 1u << OP_SETTLED | 1u << OP_TOLD},
    [OP_SETTLED] = {"settled", 1u << OP_TOLD},
    [OP_TOLD] = {"told", 1u << OP_SETTLED},
};

static void move(struct op *op, enum op_state state)
{
    CHECK((states[op->state].next & 1u << state) != 0);
    log_trace("op %llx (%s): %s -> %s", (unsigned long long)op->handle, op->kind->name,
              states[op->state].name, states[state].name);
    op->state = state;
}

/* Birth and death */

bool op_init(struct op *op, struct scope *scope, const struct op_kind *kind)
{
    struct tasks *tasks;
    bool is_closed;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    CHECK(op->magic == 0);
    CHECK(kind != NULL);
    tasks = scope->tasks;
    is_closed = scope_is_closed(scope); /* first: it may cancel what is among the scope's ops */
    op->magic = OP_MAGIC;
    op->scope = scope;
    op->kind = kind;
    op->handle = slots_add(tasks->op_handles, op);
    op->born_us = op->started_us = loop_now_us(tasks->loop);
    list_init(&op->_watchers);
    list_append(&scope->ops, &op->_link);
    tasks->ops_started++;
    if (is_closed) {
        op->status = scope_error(scope);
        op->is_retired = true;
        move(op, OP_TOLD);
        return false;
    }
    scope_add_pending(scope);
    scope_add_unretired(scope);
    return true;
}

struct op *op_of(const struct tasks *tasks, uint64_t handle)
{
    CHECK(tasks != NULL);
    return slots_get(tasks->op_handles, handle);
}

const struct op *op_next(const struct scope *scope, const struct op *op)
{
    const struct list *next = op != NULL ? op->_link.next : scope->ops.next;

    return next != &scope->ops ? CONTAINER_OF(next, struct op, _link) : NULL;
}

static void tell_watchers(struct op *op)
{
    struct list *link;

    while ((link = list_first(&op->_watchers)) != NULL) {
        struct op_watch *watch = CONTAINER_OF(link, struct op_watch, link);

        list_remove(link);
        watch->fn(op, watch->data);
    }
}

void op_destroy(struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    CHECK(op->state == OP_TOLD);
    CHECK(op->is_retired);
    tell_watchers(op);
    if (op->kind->release != NULL)
        op->kind->release(op);
    scope_drop_results(op->scope, op->_held);
    slots_remove(op->scope->tasks->op_handles, op->handle);
    list_remove(&op->_link);
    op->magic = 0;
}

enum err op_release(struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    if (op->state != OP_TOLD || !op->is_retired)
        return ERR_STATE;
    op_destroy(op);
    return ERR_OK;
}

/* Telling */

/* A consumer about to be told; on the loop's stack, so the fiber copies it at once. */
struct telling {
    struct op *op;
    op_fn *fn;
    void *data;
};

static void tell_on_fiber(struct scope *scope, void *data)
{
    const struct telling telling = *(const struct telling *)data;

    (void)scope;
    telling.fn(telling.op, telling.data);
}

/* Tells the consumer once, however often watchers come late. It may release the op, which is not
 * touched afterwards. */
static void tell_consumer(struct op *op)
{
    struct telling telling = {op, op->_fn, op->_data};
    struct fiber *waiting = op->_waiting;

    op->_waiting = NULL;
    op->_fn = NULL;
    if (waiting != NULL) {
        scope_resume(telling.data, waiting);
    } else if (telling.fn != NULL && op->_on_fiber) {
        bool is_run = scope_run(op->scope, tell_on_fiber, &telling, true);

        CHECK(is_run);
    } else if (telling.fn != NULL) {
        telling.fn(op, telling.data);
    }
}

static void on_tell(struct ready *ready)
{
    struct op *op = CONTAINER_OF(ready, struct op, _tell);
    struct scope *scope = op->scope;

    CHECK_OBJ(op, OP_MAGIC);
    CHECK(op->state == OP_SETTLED);
    tell_watchers(op);
    move(op, OP_TOLD);
    tell_consumer(op);
    scope_drop_pending(scope);
}

static void start_telling(struct op *op)
{
    move(op, OP_SETTLED);
    ready_start(op->scope->tasks->loop, &op->_tell, on_tell);
}

/* One that is told later, by whoever goes on and on. */
struct late {
    struct timer timer;
    struct op *op;
};

static void on_late(struct timer *timer)
{
    struct op *op = CONTAINER_OF(timer, struct late, timer)->op;

    CHECK(op->state == OP_SETTLED);
    ready_start(op->scope->tasks->loop, &op->_tell, on_tell);
}

/* Somebody wants to be told of an op that all others were told of. */
static void tell_again(struct op *op, bool is_late)
{
    struct late *late;

    scope_add_pending(op->scope);
    if (!is_late) {
        start_telling(op);
        return;
    }
    late = scope_alloc(op->scope, sizeof *late);
    late->op = op;
    move(op, OP_SETTLED);
    timer_start(op->scope->tasks->loop, &late->timer, FUTILE_MS, on_late);
}

/* Is it one wait too many that is answered at once? `scope` is who waits, `of` the op's. */
static bool is_futile(struct scope *scope, const struct scope *of, enum err status)
{
    bool is_canceled = of->why != SCOPE_ALIVE;

    if (!is_canceled && status == ERR_OK)
        return false;
    return ++scope->_futile > (is_canceled ? FUTILE_MAX : FAILED_MAX);
}

/* Settling */

static void account(struct op *op)
{
    struct scope *root = op->scope->root;
    int account = op->has_begun ? op->kind->account : SCOPE_TIME_QUEUE;
    uint64_t now_us = loop_now_us(root->tasks->loop);

    if (op->kind->account < 0)
        return;
    CHECK(account < SCOPE_TIME_COUNT);
    root->spent_us[account] += now_us - op->started_us;
    if (op->has_begun)
        loop_step_ended(root->tasks->loop, now_us - op->started_us);
    op->started_us = now_us;
}

void op_line_up(struct op *op, struct line *line)
{
    struct scope *root = op->scope->root;

    CHECK_OBJ(op, OP_MAGIC);
    if (op->line != NULL || op->has_begun || op->state != OP_PENDING)
        return;
    line_join(line, root->tasks);
    root->lines |= line->bit;
    op->line = line;
}

void op_begin(struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    if (op->has_begun || op->state != OP_PENDING)
        return;
    account(op);
    op->begun_after_us = op->started_us - op->born_us;
    op->has_begun = true;
    if (op->line != NULL)
        line_begin(op->line, op->begun_after_us);
    op->line = NULL;
}

void op_settle(struct op *op, enum err err, const char *reason)
{
    struct scope *scope;

    CHECK_OBJ(op, OP_MAGIC);
    CHECK(op->state == OP_PENDING);
    CHECK(err < ERR_COUNT);
    scope = op->scope;
    op->status = err;
    if (err != ERR_OK && reason != NULL)
        scope->reason = scope->root->reason = reason;
    account(op);
    if (op->line != NULL)
        line_quit(op->line);
    op->line = NULL;
    if (op->kind->settled != NULL)
        op->kind->settled(op, loop_now_us(scope->tasks->loop) - op->born_us);
    if (op->is_deaf || !list_is_empty(&op->_watchers)) {
        start_telling(op);
        return;
    }
    move(op, OP_TOLD);
    scope_drop_pending(scope);
}

void op_explain(struct op *op, struct span text)
{
    CHECK_OBJ(op, OP_MAGIC);
    CHECK(op->state == OP_PENDING);
    op->error = arena_copy(&op->scope->arena, text);
}

void op_hold(struct op *op, size_t bytes)
{
    CHECK_OBJ(op, OP_MAGIC);
    CHECK(op->state == OP_PENDING);
    op->_held += bytes;
    scope_add_results(op->scope, bytes);
}

void op_retire(struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    CHECK(op->state != OP_PENDING);
    CHECK(!op->is_retired);
    op->is_retired = true;
    scope_drop_unretired(op->scope);
}

void op_finish(struct op *op, enum err err, const char *reason)
{
    op_settle(op, err, reason);
    op_retire(op);
}

void op_cancel_as(struct op *op, enum err err, const char *reason)
{
    CHECK_OBJ(op, OP_MAGIC);
    CHECK(err != ERR_OK);
    if (op->state != OP_PENDING)
        return;
    op_settle(op, err, reason);
    if (op->kind->withdraw != NULL)
        op->kind->withdraw(op);
    else
        op_retire(op);
}

void op_cancel(struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    op_cancel_as(op, scope_error(op->scope), NULL);
}

/* Consumers and watchers */

static enum err take_consumer(struct op *op, op_fn *fn, void *data, bool on_fiber)
{
    CHECK_OBJ(op, OP_MAGIC);
    CHECK(fn != NULL);
    if (op->is_deaf || scope_is_ending(op->scope))
        return ERR_STATE;
    op->is_deaf = true;
    op->_fn = fn;
    op->_data = data;
    op->_on_fiber = on_fiber;
    if (op->state == OP_TOLD)
        tell_again(op, on_fiber && is_futile(op->scope, op->scope, op->status));
    return ERR_OK;
}

enum err op_then(struct op *op, op_fn *fn, void *data)
{
    return take_consumer(op, fn, data, true);
}

enum err op_notify(struct op *op, op_fn *fn, void *data)
{
    return take_consumer(op, fn, data, false);
}

void op_watch(struct op *op, struct op_watch *watch)
{
    CHECK_OBJ(op, OP_MAGIC);
    CHECK(watch->fn != NULL);
    list_append(&op->_watchers, &watch->link);
    /* While a scope ends, its ops are about to be destroyed: that tells the rest of the
     * watchers. */
    if (op->state == OP_TOLD && !scope_is_ending(op->scope))
        tell_again(op, false);
}

/* A fiber that is held up; on its own stack. */
struct nap {
    struct timer timer;
    struct scope *scope;
    struct fiber *fiber;
};

static void on_nap_over(struct timer *timer)
{
    struct nap *nap = CONTAINER_OF(timer, struct nap, timer);

    scope_resume(nap->scope, nap->fiber);
}

static void hold_up(struct scope *scope, struct fiber *fiber)
{
    struct nap nap = {.scope = scope, .fiber = fiber};

    timer_start(scope->tasks->loop, &nap.timer, FUTILE_MS, on_nap_over);
    fiber_suspend(scope->tasks->fibers);
}

enum err op_await(struct op *op)
{
    struct tasks *tasks;
    struct scope *scope;
    struct fiber *fiber;
    enum err status;

    CHECK_OBJ(op, OP_MAGIC);
    tasks = op->scope->tasks;
    scope = tasks->_current;
    fiber = fiber_current(tasks->fibers);
    if (fiber == NULL || scope == NULL || scope->root != op->scope->root)
        return ERR_STATE;
    if (op->is_deaf) {
        op_await_none(tasks);
        return ERR_STATE;
    }
    op->is_deaf = true;
    if (op->state == OP_PENDING) {
        if (scope->why == SCOPE_ALIVE)
            scope->_futile = 0;
        op->_waiting = fiber;
        op->_data = scope;
        fiber_suspend(tasks->fibers);
        return op->status;
    }
    status = op->status; /* by the end of a nap, a child's op may be gone */
    if (is_futile(scope, op->scope, status))
        hold_up(scope, fiber);
    return status;
}

void op_await_none(struct tasks *tasks)
{
    struct fiber *fiber = fiber_current(tasks->fibers);
    struct scope *scope = tasks->_current;

    if (fiber != NULL && scope != NULL && is_futile(scope, scope, ERR_STATE))
        hold_up(scope, fiber);
}

/* Ops of our own */

static const struct op_kind failed_kind = {.name = "failed", .account = -1};

struct op *op_failed(struct scope *scope, enum err err, const char *reason, struct span text)
{
    struct op *op;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    CHECK(err != ERR_OK);
    op = scope_alloc(scope, sizeof *op);
    if (op_init(op, scope, &failed_kind)) {
        op_explain(op, text);
        op_finish(op, err, reason);
    }
    return op;
}

struct sleep {
    struct op op;
    struct timer timer;
};

static void describe_sleep(const struct op *op, char *text, size_t size)
{
    const struct sleep *sleep = CONTAINER_OF(op, struct sleep, op);
    uint64_t now_ms = loop_now_ms(op->scope->tasks->loop);
    uint64_t due_ms = sleep->timer.deadline_ms;

    snprintf(text, size, "timer: %llu ms left",
             (unsigned long long)(due_ms > now_ms ? due_ms - now_ms : 0));
}

static void withdraw_sleep(struct op *op)
{
    timer_stop(&CONTAINER_OF(op, struct sleep, op)->timer);
    op_retire(op);
}

static const struct op_kind sleep_kind = {
    .name = "sleep", .account = -1, .withdraw = withdraw_sleep, .describe = describe_sleep};

static void on_awake(struct timer *timer)
{
    op_finish(&CONTAINER_OF(timer, struct sleep, timer)->op, ERR_OK, NULL);
}

struct op *op_sleep(struct scope *scope, uint32_t ms)
{
    struct sleep *sleep;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    sleep = scope_alloc(scope, sizeof *sleep);
    if (op_init(&sleep->op, scope, &sleep_kind))
        timer_start(scope->tasks->loop, &sleep->timer, ms, on_awake);
    return &sleep->op;
}
