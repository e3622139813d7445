/* task/tasks.c - what all scopes and ops of one worker share. */
#include "task/tasks.h"
#include "base/check.h"
#include "base/heap.h"
#include "base/mem.h"
#include "base/slots.h"
#include "task/fiber.h"
#include "task/inside.h"

enum {
    ARENA_BLOCKS_KEPT = 1024, /* 4 MiB: the memory of some hundred requests at once */
    TRIM_MS = 1000,           /* stacks that nobody has needed for so long go */
    TRIM_STACKS_MAX = 256,    /* at once: about a millisecond */
    STACK_WEIGHT = 4096       /* of the heap: its struct keeps the page that it lies in */
};

static void on_trim(struct timer *timer);

static void trim_later(void *data)
{
    struct tasks *tasks = data;

    if (!timer_is_on(&tasks->_trim))
        timer_start(tasks->loop, &tasks->_trim, TRIM_MS, on_trim);
}

static void on_trim(struct timer *timer)
{
    struct tasks *tasks = CONTAINER_OF(timer, struct tasks, _trim);
    uint32_t before = fiber_stacks(tasks->fibers);
    bool is_more = fiber_trim(tasks->fibers, TRIM_STACKS_MAX);

    heap_gave(&tasks->heap, (size_t)(before - fiber_stacks(tasks->fibers)) * STACK_WEIGHT);
    if (heap_look(&tasks->heap) || is_more)
        trim_later(tasks);
}

static void on_mapped(void *data)
{
    struct tasks *tasks = data;

    heap_took(&tasks->heap, STACK_WEIGHT);
    trim_later(tasks);
}

struct tasks *tasks_create(struct loop *loop, const struct fiber_options *fibers,
                           struct blame *blame)
{
    struct tasks *tasks = mem_alloc(sizeof *tasks);
    struct fiber_options options = {0};

    CHECK(loop != NULL);
    if (fibers != NULL)
        options = *fibers;
    options.on_mapped = on_mapped;
    options.data = tasks;
    tasks->loop = loop;
    tasks->blame = blame;
    tasks->fibers = fiber_pool_create(&options);
    tasks->op_handles = slots_create(TASK_HANDLE_OP);
    tasks->scope_handles = slots_create(TASK_HANDLE_SCOPE);
    heap_init(&tasks->heap, trim_later, tasks);
    arena_pool_init(&tasks->arenas, ARENA_BLOCKS_KEPT, &tasks->heap);
    list_init(&tasks->scopes);
    list_init(&tasks->_free_scopes);
    return tasks;
}

void tasks_destroy(struct tasks *tasks)
{
    if (tasks == NULL)
        return;
    CHECK(tasks->scopes_count == 0);
    CHECK(slots_count(tasks->op_handles) == 0);
    scope_free_recycled(tasks);
    arena_pool_deinit(&tasks->arenas);
    slots_destroy(tasks->scope_handles);
    slots_destroy(tasks->op_handles);
    timer_stop(&tasks->_trim);
    fiber_pool_destroy(tasks->fibers);
    mem_free(tasks);
}
