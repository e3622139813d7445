/* task/scope.c - arena, deadline, cancel, and the ops in it.
 *
 *   OPEN ──────────▶ FINISHING ──▶ ENDING ──▶ ENDED     FINISHING: its owner let go (scope_finish)
 *     └──▶ LEFT ──▶ ──┘─────────────▲                   LEFT: only its parent's owner did
 *
 * Canceled or not is beside that (`why`): a shielded child that is LEFT goes on until its work is
 * done. ENDING: its cleanups run, ops are released, and on_end is told; all of that in one ready
 * entry, `_step`, which also tells on_cancel and on_idle. So nothing ends, and no owner is told
 * anything, inside a call that somebody made.
 *
 * `_busy` counts what may still run plugin code: fibers, ops whose outcome was not told, and
 * children that are busy. It goes up the tree, so that a root knows when all below it is quiet.
 */
#include "task/scope.h"
#include "base/asan.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/slots.h"
#include "observe/blame.h"
#include "task/fiber.h"
#include "task/inside.h"
#include <stdio.h>

enum {
    FREE_SCOPES_MAX = 1024,
    CHILD_SIZE = sizeof(struct scope) + ARENA_BLOCK_SIZE, /* what a child takes at least */
    RESERVE_PART = 8 /* of memory_hard: not for what scope_room() tells */
};

enum { OPEN, LEFT, FINISHING, ENDING, ENDED };

/* Bits of `_notes`. */
enum {
    NOTE_RAN = 1,         /* a fiber of it has returned */
    NOTE_CANCEL = 2,      /* on_cancel is due */
    NOTE_IDLE = 4,        /* on_idle is due */
    NOTE_CLIENT_LEFT = 8, /* while the shield was up */
    NOTE_MEMORY = 16      /* it is to be canceled: results beyond the limit */
};

static const struct {
    const char *name;
    unsigned next; /* the states that may follow, one bit each */
} states[] = {
    [OPEN] = {"open", 1u << LEFT | 1u << FINISHING},
    [LEFT] = {"left", 1u << FINISHING | 1u << ENDING},
    [FINISHING] = {"finishing", 1u << ENDING},
    [ENDING] = {"ending", 1u << ENDED},
    [ENDED] = {"ended", 0},
};

struct cleanup {
    struct list link;
    void (*fn)(void *data);
    void *data;
};

static void move(struct scope *scope, uint32_t state)
{
    CHECK((states[scope->_state].next & 1u << state) != 0);
    log_trace("scope %llx: %s -> %s", (unsigned long long)scope->handle, states[scope->_state].name,
              states[state].name);
    scope->_state = state;
}

/* The tree */

static struct scope *scope_at(struct list *link)
{
    return CONTAINER_OF(link, struct scope, _link);
}

/* The next scope below `top` after `scope`, parents first; what lies below `scope` itself only
 * where `descends`. NULL: there is none. A loop, since a plugin chooses how deep a tree is. */
static struct scope *next_below(const struct scope *top, struct scope *scope, bool descends)
{
    if (descends && !list_is_empty(&scope->children))
        return scope_at(scope->children.next);
    while (scope != top) {
        if (scope->_link.next != &scope->parent->children)
            return scope_at(scope->_link.next);
        scope = scope->parent;
    }
    return NULL;
}

struct scope *scope_next_root(const struct tasks *tasks, const struct scope *root)
{
    struct list *next = root != NULL ? root->_link.next : tasks->scopes.next;

    return next != &tasks->scopes ? scope_at(next) : NULL;
}

struct scope *scope_next_in(const struct scope *root, struct scope *scope)
{
    return next_below(root, scope, true);
}

/* The step: what is told from the ready list */

static void on_step(struct ready *ready);

static void start_step(struct scope *scope)
{
    ready_start(scope->tasks->loop, &scope->_step, on_step);
}

/* One that is LEFT may still be used by whatever runs in the tree that was finished. */
static bool may_end(const struct scope *scope)
{
    if (scope->_state != LEFT && scope->_state != FINISHING)
        return false;
    if (scope->_busy > 0 || scope->_unretired > 0 || !list_is_empty(&scope->children))
        return false;
    return scope->_state == FINISHING || scope->_leaver->_busy == 0;
}

/* Those below a finished scope that may end, now that nothing in it goes on any more. */
static void step_below(struct scope *scope)
{
    for (struct scope *below = next_below(scope, scope, true); below != NULL;
         below = next_below(scope, below, true)) {
        if (may_end(below))
            start_step(below);
    }
}

static void became_idle(struct scope *scope)
{
    if (scope->_state == OPEN && (scope->_notes & NOTE_RAN) != 0 && scope->handler != NULL &&
        scope->handler->on_idle != NULL) {
        scope->_notes |= NOTE_IDLE;
        start_step(scope);
    }
    if (scope->_state == FINISHING)
        step_below(scope);
    if (may_end(scope))
        start_step(scope);
}

static void add_busy(struct scope *scope)
{
    while (scope != NULL && scope->_busy++ == 0)
        scope = scope->parent;
}

/* A fiber has returned or an op was told. */
static void drop_busy(struct scope *scope)
{
    for (; scope != NULL; scope = scope->parent) {
        CHECK(scope->_busy > 0);
        if (--scope->_busy > 0)
            return;
        became_idle(scope);
    }
}

void scope_add_pending(struct scope *scope)
{
    scope->_pending++;
    add_busy(scope);
}

void scope_drop_pending(struct scope *scope)
{
    CHECK(scope->_pending > 0);
    scope->_pending--;
    drop_busy(scope);
}

void scope_add_unretired(struct scope *scope)
{
    scope->_unretired++;
}

void scope_drop_unretired(struct scope *scope)
{
    CHECK(scope->_unretired > 0);
    scope->_unretired--;
    if (may_end(scope))
        start_step(scope);
}

bool scope_is_idle(const struct scope *scope)
{
    CHECK_OBJ(scope, SCOPE_MAGIC);
    return scope->_busy == 0;
}

/* Deadlines */

static void on_deadline(struct timer *timer)
{
    scope_cancel(CONTAINER_OF(timer, struct scope, _timer), SCOPE_DEADLINE);
}

static uint64_t deadline_after(const struct scope *scope, uint64_t ms)
{
    /* Rounded up, as timers are: a budget is never cut short. */
    uint64_t now_ms = (loop_now_us(scope->tasks->loop) + 999) / 1000;

    return ms < UINT64_MAX - now_ms ? now_ms + ms : UINT64_MAX;
}

/* A deadline that is also the parent's needs no timer: the parent's cancels both. */
static void set_deadline(struct scope *scope, uint64_t deadline_ms)
{
    const struct scope *parent = scope->parent;

    scope->deadline_ms = deadline_ms;
    if (deadline_ms == 0 || (parent != NULL && (scope->flags & SCOPE_SHIELD) == 0 &&
                             parent->deadline_ms == deadline_ms))
        timer_stop(&scope->_timer);
    else
        timer_start_at(scope->tasks->loop, &scope->_timer, deadline_ms, on_deadline);
}

static bool is_sooner(uint64_t deadline_ms, const struct scope *scope)
{
    return scope->deadline_ms == 0 || deadline_ms < scope->deadline_ms;
}

static uint64_t sooner(uint64_t a_ms, uint64_t b_ms)
{
    return b_ms == 0 || (a_ms != 0 && a_ms < b_ms) ? a_ms : b_ms;
}

void scope_renew(struct scope *root, uint64_t ms)
{
    bool descends = true;

    CHECK_OBJ(root, SCOPE_MAGIC);
    CHECK(root->parent == NULL);
    if (root->why != SCOPE_ALIVE || root->_state >= ENDING)
        return;
    set_deadline(root, ms > 0 ? deadline_after(root, ms) : 0);
    for (struct scope *below = next_below(root, root, true); below != NULL;
         below = next_below(root, below, descends)) {
        uint64_t deadline_ms = sooner(below->_own_ms, below->parent->deadline_ms);

        descends = (below->flags & SCOPE_SHIELD) == 0 && below->why == SCOPE_ALIVE &&
                   deadline_ms != below->deadline_ms;
        if (descends)
            set_deadline(below, deadline_ms);
    }
}

void scope_tighten(struct scope *scope, uint64_t ms)
{
    uint64_t deadline_ms;
    bool descends = true;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    deadline_ms = deadline_after(scope, ms);
    if (scope->why != SCOPE_ALIVE || scope->_state >= ENDING || !is_sooner(deadline_ms, scope))
        return;
    scope->_own_ms = deadline_ms;
    set_deadline(scope, deadline_ms);
    for (struct scope *below = next_below(scope, scope, true); below != NULL;
         below = next_below(scope, below, descends)) {
        descends = (below->flags & SCOPE_SHIELD) == 0 && below->why == SCOPE_ALIVE &&
                   is_sooner(deadline_ms, below);
        if (descends)
            set_deadline(below, deadline_ms);
    }
}

void scope_tighten_unwatched(struct scope *root, uint64_t ms)
{
    uint64_t deadline_ms;

    CHECK_OBJ(root, SCOPE_MAGIC);
    CHECK(root->parent == NULL);
    if (!list_is_empty(&root->children)) {
        scope_tighten(root, ms);
        return;
    }
    deadline_ms = deadline_after(root, ms);
    if (root->why == SCOPE_ALIVE && root->_state < ENDING && is_sooner(deadline_ms, root))
        root->deadline_ms = root->_own_ms = deadline_ms;
}

void scope_watch(struct scope *root)
{
    CHECK_OBJ(root, SCOPE_MAGIC);
    if (root->why == SCOPE_ALIVE && root->_state < ENDING)
        set_deadline(root, root->deadline_ms);
}

uint64_t scope_budget_ms(const struct scope *scope)
{
    uint64_t now_ms;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    if (scope->deadline_ms == 0)
        return UINT64_MAX;
    now_ms = loop_now_ms(scope->tasks->loop);
    return scope->deadline_ms > now_ms ? scope->deadline_ms - now_ms : 0;
}

/* Cancel */

enum err scope_error(const struct scope *scope)
{
    CHECK_OBJ(scope, SCOPE_MAGIC);
    return scope->why == SCOPE_DEADLINE ? ERR_DEADLINE : ERR_CANCELED;
}

static void cancel_one(struct scope *scope, enum scope_why why)
{
    log_trace("scope %llx: canceled, why %d", (unsigned long long)scope->handle, (int)why);
    scope->why = why;
    timer_stop(&scope->_timer);
    timer_stop(&scope->_shield);
    if (scope->_state != FINISHING && scope->handler != NULL && scope->handler->on_cancel != NULL) {
        scope->_notes |= NOTE_CANCEL;
        start_step(scope);
    }
    LIST_EACH (&scope->ops, link) {
        op_cancel(CONTAINER_OF(link, struct op, _link));
    }
}

/* Does `why` leave it alone for now? */
static bool is_shielded(struct scope *scope, enum scope_why why)
{
    if (why != SCOPE_CLIENT_GONE || !timer_is_on(&scope->_shield))
        return false;
    scope->_notes |= NOTE_CLIENT_LEFT;
    return true;
}

void scope_cancel(struct scope *scope, enum scope_why why)
{
    bool descends = true;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    CHECK(why != SCOPE_ALIVE);
    if (scope->why != SCOPE_ALIVE || scope->_state >= ENDING || is_shielded(scope, why))
        return;
    cancel_one(scope, why);
    for (struct scope *below = next_below(scope, scope, true); below != NULL;
         below = next_below(scope, below, descends)) {
        descends = (below->flags & SCOPE_SHIELD) == 0 && below->why == SCOPE_ALIVE &&
                   !is_shielded(below, why);
        if (descends)
            cancel_one(below, why);
    }
}

bool scope_is_ending(const struct scope *scope)
{
    CHECK_OBJ(scope, SCOPE_MAGIC);
    return scope->_state >= ENDING;
}

bool scope_is_closed(struct scope *scope)
{
    CHECK_OBJ(scope, SCOPE_MAGIC);
    if (scope->why == SCOPE_ALIVE && scope->deadline_ms != 0 && scope_budget_ms(scope) == 0)
        scope_cancel(scope, SCOPE_DEADLINE);
    return scope->why != SCOPE_ALIVE || scope->_state >= ENDING;
}

static void on_shield_down(struct timer *timer)
{
    struct scope *scope = CONTAINER_OF(timer, struct scope, _shield);

    if ((scope->_notes & NOTE_CLIENT_LEFT) != 0)
        scope_cancel(scope, SCOPE_CLIENT_GONE);
}

void scope_shield(struct scope *scope, uint32_t ms)
{
    uint64_t until_ms;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    until_ms = deadline_after(scope, ms);
    if (ms == 0 || scope->why != SCOPE_ALIVE || scope->_state >= ENDING)
        return;
    if (timer_is_on(&scope->_shield) && scope->_shield.deadline_ms >= until_ms)
        return;
    timer_start_at(scope->tasks->loop, &scope->_shield, until_ms, on_shield_down);
}

/* Running */

/* What was current before a scope's code ran: visits nest as calls do. */
struct visit {
    struct scope *scope;
    uint64_t request;
    uint32_t index;
};

static struct visit enter(struct tasks *tasks, const struct scope *scope, struct scope *current)
{
    struct visit before = {.scope = tasks->_current};

    if (tasks->blame != NULL) {
        before.request = tasks->blame->request;
        before.index = tasks->blame->index;
    }
    tasks->_current = current;
    blame_enter(tasks->blame, scope->blame_index, scope->request_id);
    return before;
}

static void leave(struct tasks *tasks, struct visit before)
{
    tasks->_current = before.scope;
    if (tasks->blame == NULL)
        return;
    blame_charge(tasks->blame);
    tasks->blame->index = before.index;
    tasks->blame->request = before.request;
}

/* What scope_run() hands to the fiber; on the caller's stack, so it is copied at once. */
struct launch {
    struct scope *scope;
    scope_fn *fn;
    void *data;
};

static void run_launch(void *data)
{
    const struct launch launch = *(const struct launch *)data;
    struct scope *scope = launch.scope;

    scope->_running++;
    add_busy(scope);
    launch.fn(scope, launch.data);
    CHECK_OBJ(scope, SCOPE_MAGIC);
    CHECK(scope->_running > 0);
    scope->_running--;
    scope->_notes |= NOTE_RAN;
    drop_busy(scope);
}

bool scope_run(struct scope *scope, scope_fn *fn, void *data, bool admitted)
{
    struct launch launch = {scope, fn, data};
    struct tasks *tasks;
    struct visit before;
    bool is_run;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    CHECK(fn != NULL);
    if (scope->_state >= ENDING)
        return false;
    tasks = scope->tasks;
    before = enter(tasks, scope, scope);
    is_run = fiber_start(tasks->fibers, run_launch, &launch, admitted);
    leave(tasks, before);
    return is_run;
}

void scope_resume(struct scope *scope, struct fiber *fiber)
{
    struct tasks *tasks = scope->tasks;
    struct visit before = enter(tasks, scope, scope);

    fiber_resume(fiber);
    leave(tasks, before);
}

struct scope *scope_current(const struct tasks *tasks)
{
    CHECK(tasks != NULL);
    return tasks->_current;
}

void scope_who(const struct scope *scope, struct scope_who *who)
{
    const struct blame *page = scope->tasks->blame;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    *who = (struct scope_who){.fields = {{.key = "plugin"}, {.key = "route"}, {.key = "request"}}};
    if (page != NULL && scope->blame_index != BLAME_HOST) {
        who->fields[0].value = span_of(page->names[scope->blame_index].plugin);
        who->fields[1].value = span_of(page->names[scope->blame_index].route);
    }
    if (scope->request_id == 0)
        return;
    snprintf(who->request, sizeof who->request, "%016llx", (unsigned long long)scope->request_id);
    who->fields[2].value = span_of(who->request);
}

/* Memory */

/* `size` more bytes are taken: what would exceed the hard limit ends the worker, named. */
static void check_hard(const struct scope *scope, size_t size)
{
    const struct scope *root = scope->root;
    char culprit[BLAME_TEXT_SIZE];

    if (root->memory_hard == 0 ||
        (root->held <= root->memory_hard && size <= root->memory_hard - root->held))
        return;
    blame_describe(scope->tasks->blame, culprit, sizeof culprit);
    log_error("scope: %zu bytes beyond the %zu it has exceed memory_hard=%zu: %s", size, root->held,
              root->memory_hard, culprit);
    CHECK(size <= root->memory_hard - root->held);
}

/* `bytes` more are held. Beyond the soft limit whoever took them stops, and the tree with him. */
static void hold(struct scope *scope, size_t bytes)
{
    struct scope *root = scope->root;

    root->held += bytes;
    if (root->memory_max == 0 || root->held <= root->memory_max)
        return;
    scope_cancel(root, SCOPE_MEMORY);
    scope_cancel(scope, SCOPE_MEMORY); /* where a shield has kept it from the root's */
}

void *scope_alloc(struct scope *scope, size_t size)
{
    void *memory;
    size_t grown;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    check_hard(scope, size);
    memory = arena_alloc(&scope->arena, size);
    grown = scope->arena.bytes - scope->_noted;
    scope->_noted = scope->arena.bytes;
    hold(scope, grown);
    return memory;
}

void scope_add_results(struct scope *scope, size_t bytes)
{
    struct scope *root = scope->root;
    struct scope *victim = root->memory_max > 0 ? root : scope; /* a job of many is spared */

    root->results += bytes;
    if (root->memory_hard == 0 || root->results <= root->memory_hard || victim->_state >= ENDING)
        return;
    victim->_notes |= NOTE_MEMORY; /* not now: a provider is at work on ops that it would cancel */
    start_step(victim);
}

void scope_drop_results(struct scope *scope, size_t bytes)
{
    CHECK(scope->root->results >= bytes);
    scope->root->results -= bytes;
}

size_t scope_room(const struct scope *scope)
{
    const struct scope *root = scope->root;
    size_t usable = root->memory_hard - root->memory_hard / RESERVE_PART;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    if (root->memory_hard == 0)
        return SIZE_MAX / 4;
    return usable > root->held ? usable - root->held : 0;
}

void scope_defer(struct scope *scope, void (*fn)(void *data), void *data)
{
    struct cleanup *cleanup;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    CHECK(fn != NULL);
    cleanup = scope_alloc(scope, sizeof *cleanup);
    cleanup->fn = fn;
    cleanup->data = data;
    list_prepend(&scope->_cleanups, &cleanup->link);
}

/* Birth */

static struct scope *make(struct tasks *tasks, struct scope *parent)
{
    struct list *link = list_first(&tasks->_free_scopes);
    struct scope *scope;

    if (link != NULL) {
        list_remove(link);
        tasks->_free_count--;
        scope = scope_at(link);
        ASAN_UNPOISON(scope, sizeof *scope);
        mem_zero(scope, sizeof *scope);
    } else {
        scope = mem_alloc(sizeof *scope);
    }
    scope->magic = SCOPE_MAGIC;
    scope->tasks = tasks;
    scope->parent = parent;
    scope->root = parent != NULL ? parent->root : scope;
    scope->handle = slots_add(tasks->scope_handles, scope);
    scope->memory_hard = SCOPE_MEMORY_HARD;
    arena_init(&scope->arena, &tasks->arenas);
    list_init(&scope->ops);
    list_init(&scope->children);
    list_init(&scope->_cleanups);
    list_append(parent != NULL ? &parent->children : &tasks->scopes, &scope->_link);
    tasks->scopes_count++;
    return scope;
}

struct scope *scope_create(struct tasks *tasks, const struct scope_handler *handler, void *owner,
                           uint64_t budget_ms)
{
    struct scope *scope;

    CHECK(tasks != NULL);
    scope = make(tasks, NULL);
    scope->handler = handler;
    scope->owner = owner;
    if (budget_ms > 0)
        set_deadline(scope, deadline_after(scope, budget_ms));
    return scope;
}

struct scope *scope_child(struct scope *parent, uint64_t budget_ms, uint32_t flags)
{
    bool is_shielded_child = (flags & SCOPE_SHIELD) != 0;
    struct scope *scope;
    uint64_t deadline_ms;

    CHECK_OBJ(parent, SCOPE_MAGIC);
    CHECK(!is_shielded_child || budget_ms > 0);
    if (parent->_state >= ENDING)
        return NULL;
    check_hard(parent, CHILD_SIZE);
    hold(parent, CHILD_SIZE);
    scope = make(parent->tasks, parent);
    scope->owner = parent->owner;
    scope->flags = flags;
    scope->request_id = parent->request_id;
    scope->blame_index = parent->blame_index;
    if (!is_shielded_child && parent->why != SCOPE_ALIVE)
        scope->why = parent->why;
    scope->_own_ms = budget_ms > 0 ? deadline_after(scope, budget_ms) : 0;
    deadline_ms = budget_ms > 0 ? scope->_own_ms : parent->deadline_ms;
    if (!is_shielded_child && parent->deadline_ms != 0 && parent->deadline_ms < deadline_ms)
        deadline_ms = parent->deadline_ms;
    if (deadline_ms != 0 && scope->why == SCOPE_ALIVE)
        set_deadline(scope, deadline_ms);
    if (parent->_state != OPEN) {
        scope->_leaver = parent->_state == FINISHING ? parent : parent->_leaver;
        move(scope, LEFT);
        start_step(scope);
    }
    return scope;
}

struct scope *scope_of(const struct tasks *tasks, uint64_t handle)
{
    CHECK(tasks != NULL);
    return slots_get(tasks->scope_handles, handle);
}

/* End */

/* What lies below goes with it, but what was finished on its own before. */
static void leave_children(struct scope *scope)
{
    bool descends = true;

    for (struct scope *below = next_below(scope, scope, true); below != NULL;
         below = next_below(scope, below, descends)) {
        descends = below->_state != FINISHING;
        if (!descends)
            continue;
        if (below->_state == OPEN)
            move(below, LEFT);
        below->_leaver = scope;
    }
}

void scope_finish(struct scope *scope, enum scope_why why)
{
    CHECK_OBJ(scope, SCOPE_MAGIC);
    move(scope, FINISHING);
    timer_stop(&scope->_shield); /* whatever the reason: the owner wants it to end */
    scope_cancel(scope, why);
    leave_children(scope);
    if (scope->_busy == 0)
        step_below(scope);
    if (may_end(scope))
        start_step(scope);
}

static void run_cleanups(struct scope *scope)
{
    struct tasks *tasks = scope->tasks;
    struct list *link;

    while ((link = list_first(&scope->_cleanups)) != NULL) {
        struct cleanup *cleanup = CONTAINER_OF(link, struct cleanup, link);
        struct visit before = enter(tasks, scope, NULL);

        list_remove(link);
        cleanup->fn(cleanup->data);
        leave(tasks, before);
    }
}

static void recycle(struct scope *scope)
{
    struct tasks *tasks = scope->tasks;

    slots_remove(tasks->scope_handles, scope->handle);
    list_remove(&scope->_link);
    if (scope->parent != NULL)
        scope->root->held -= scope->_noted + CHILD_SIZE;
    arena_deinit(&scope->arena);
    CHECK(tasks->scopes_count > 0);
    tasks->scopes_count--;
    scope->magic = 0;
    if (tasks->_free_count >= FREE_SCOPES_MAX) {
        mem_free(scope);
        return;
    }
    tasks->_free_count++;
    list_prepend(&tasks->_free_scopes, &scope->_link);
    ASAN_POISON(scope, offsetof(struct scope, _link));
}

void scope_free_recycled(struct tasks *tasks)
{
    struct list *link;

    while ((link = list_first(&tasks->_free_scopes)) != NULL) {
        list_remove(link);
        ASAN_UNPOISON(scope_at(link), sizeof(struct scope));
        mem_free(scope_at(link));
    }
}

static void end(struct scope *scope)
{
    struct scope *parent = scope->parent;
    struct list *link;

    move(scope, ENDING);
    timer_stop(&scope->_timer);
    timer_stop(&scope->_shield);
    run_cleanups(scope);
    while ((link = list_first(&scope->ops)) != NULL)
        op_destroy(CONTAINER_OF(link, struct op, _link));
    if (scope->handler != NULL && scope->handler->on_end != NULL)
        scope->handler->on_end(scope);
    CHECK(!ready_is_on(&scope->_step));
    move(scope, ENDED);
    recycle(scope);
    if (parent != NULL && may_end(parent))
        start_step(parent);
}

bool scope_reap(struct scope *scope)
{
    CHECK_OBJ(scope, SCOPE_MAGIC);
    CHECK(scope->tasks->_current == NULL);
    if (scope->_state != FINISHING || !may_end(scope))
        return false;
    ready_stop(&scope->_step);
    end(scope);
    return true;
}

static void on_step(struct ready *ready)
{
    struct scope *scope = CONTAINER_OF(ready, struct scope, _step);
    uint32_t notes = scope->_notes;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    scope->_notes &= ~(uint32_t)(NOTE_CANCEL | NOTE_IDLE | NOTE_MEMORY);
    if ((notes & NOTE_MEMORY) != 0)
        scope_cancel(scope, SCOPE_MEMORY);
    if ((notes & NOTE_CANCEL) != 0 && scope->_state < FINISHING)
        scope->handler->on_cancel(scope);
    if ((notes & NOTE_IDLE) != 0 && scope->_state == OPEN && scope->_busy == 0)
        scope->handler->on_idle(scope);
    if (may_end(scope)) {
        ready_stop(&scope->_step); /* what was just called may have asked for it once more */
        end(scope);
    }
}
