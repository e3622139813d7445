/* task/fiber.c - pooled stacks on which handlers and callbacks run.
 *
 *   IDLE ──start──▶ LIVES (runs, or started another that runs) ──suspend──▶ SUSPENDED
 *     ▲                │                              ▲──────────resume───────┘
 *     └────returns─────┘
 *
 * A fiber's memory is one mapping: the guard page below, the stack above it. Whoever starts or
 * resumes a fiber is its caller until it suspends or ends, so callers and fibers nest like calls;
 * who came back looks whether the fiber has ended, and gives the stack to the idle ones: nobody
 * gives away a stack that he stands on.
 *
 * Idle stacks are kept, since who waits today waits again, and mapping one costs what ten requests
 * do. The fewest that were idle between two calls of fiber_trim() are those that nobody needed.
 */
#include "task/fiber.h"
#include "base/check.h"
#include "base/list.h"
#include "base/mem.h"
#include "task/fiber_switch.h"
#include "task/fiber_watch.h"

#include <sys/mman.h>
#include <unistd.h>

enum {
    POOL_MAGIC = 0x66706f6f,
    FIBER_MAGIC = 0x66696265,
    STACK_SIZE_DEFAULT = (WEFT_ASAN ? 256 : 128) * 1024,
    STACK_SIZE_MIN = 16 * 1024,
    COUNT_MAX_DEFAULT = 16384,
    IDLE_MIN_DEFAULT = 64
};

enum fiber_state { FIBER_IDLE, FIBER_LIVES, FIBER_SUSPENDED };

struct fiber {
    uint32_t magic;
    enum fiber_state state;
    struct fiber_pool *pool;
    struct fiber *caller;     /* who started or resumed it; NULL: the loop's stack */
    void *caller_place;       /* where that one goes on */
    void *place;              /* where the fiber goes on, while it is suspended */
    fiber_fn *fn;             /* what it runs */
    void *data;               /* for fn */
    char *map;                /* the guard page, then the stack */
    struct fiber *next_idle;  /* among the idle ones */
    struct list link;         /* among all that are mapped */
    struct fiber_watch watch; /* the stack, and who is told of it */
};

struct fiber_pool {
    uint32_t magic;
    uint32_t count;      /* living */
    uint32_t count_high; /* the most ever */
    uint32_t count_max;
    uint32_t idle_count;
    uint32_t idle_low; /* the fewest since fiber_trim() */
    uint32_t idle_min; /* that it leaves */
    size_t page_size;
    size_t stack_size;
    size_t stack_high;     /* bytes used of stacks that are unmapped by now, where asked for */
    bool is_valgrind;      /* somebody wants to be told what is undefined */
    struct fiber *current; /* NULL: the loop's stack */
    struct fiber *idle;    /* the last used first */
    uint32_t mapped_count; /* of: */
    void (*on_mapped)(void *data);
    void *data;
    struct list mapped; /* every fiber; changed where a stack is mapped, unmapped or looked at */
};

/* Life of a pool */

struct fiber_pool *fiber_pool_create(const struct fiber_options *options)
{
    static const struct fiber_options defaults;
    struct fiber_pool *pool = mem_alloc(sizeof *pool);
    size_t size;

    if (options == NULL)
        options = &defaults;
    pool->magic = POOL_MAGIC;
    pool->page_size = (size_t)sysconf(_SC_PAGESIZE);
    size = options->stack_size > 0 ? options->stack_size : STACK_SIZE_DEFAULT;
    CHECK(size <= SIZE_MAX / 4);
    if (size < STACK_SIZE_MIN)
        size = STACK_SIZE_MIN;
    pool->stack_size = (size + pool->page_size - 1) / pool->page_size * pool->page_size;
    pool->count_max = options->count_max > 0 ? options->count_max : COUNT_MAX_DEFAULT;
    pool->idle_min = options->idle_min > 0 ? options->idle_min : IDLE_MIN_DEFAULT;
    pool->on_mapped = options->on_mapped;
    pool->data = options->data;
    pool->is_valgrind = RUNNING_ON_VALGRIND != 0;
    list_init(&pool->mapped);
    return pool;
}

/* A fiber with a stack of its own; NULL: no memory for it. */
static struct fiber *map_fiber(struct fiber_pool *pool)
{
    size_t size = pool->page_size + pool->stack_size;
    struct fiber *fiber;
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (map == MAP_FAILED)
        return NULL;
    if (mprotect(map, pool->page_size, PROT_NONE) != 0) {
        munmap(map, size);
        return NULL;
    }
    fiber = mem_alloc(sizeof *fiber);
    fiber->magic = FIBER_MAGIC;
    fiber->pool = pool;
    fiber->map = map;
    fiber->watch.stack = map + pool->page_size;
    fiber->watch.size = pool->stack_size;
    watch_mapped(&fiber->watch);
    list_append(&pool->mapped, &fiber->link);
    pool->mapped_count++;
    if (pool->on_mapped != NULL)
        pool->on_mapped(pool->data);
    return fiber;
}

/* Bytes of a stack that were ever touched: stacks grow from the top, so the lowest page in memory
 * is as deep as it went. */
static size_t used_of(const struct fiber_pool *pool, const struct fiber *fiber)
{
    enum { PAGES_A_CALL = 256 };
    unsigned char in_memory[PAGES_A_CALL];
    size_t step = PAGES_A_CALL * pool->page_size;

    for (size_t offset = 0; offset < pool->stack_size; offset += step) {
        size_t size = pool->stack_size - offset < step ? pool->stack_size - offset : step;

        if (mincore(fiber->watch.stack + offset, size, in_memory) != 0)
            return 0;
        for (size_t i = 0; i < size / pool->page_size; i++) {
            if ((in_memory[i] & 1) != 0)
                return pool->stack_size - offset - i * pool->page_size;
        }
    }
    return 0;
}

static void unmap_fiber(struct fiber_pool *pool, struct fiber *fiber)
{
    size_t used = used_of(pool, fiber);

    if (used > pool->stack_high)
        pool->stack_high = used;
    watch_unmap(&fiber->watch);
    list_remove(&fiber->link);
    pool->mapped_count--;
    munmap(fiber->map, pool->page_size + pool->stack_size);
    fiber->magic = 0;
    mem_free(fiber);
}

void fiber_pool_destroy(struct fiber_pool *pool)
{
    struct fiber *next;

    if (pool == NULL)
        return;
    CHECK_OBJ(pool, POOL_MAGIC);
    CHECK(pool->count == 0);
    for (struct fiber *fiber = pool->idle; fiber != NULL; fiber = next) {
        next = fiber->next_idle;
        unmap_fiber(pool, fiber);
    }
    pool->magic = 0;
    mem_free(pool);
}

/* Fibers */

/* A fiber that lives, on an idle stack or a new one; NULL: at the limit. */
static struct fiber *take(struct fiber_pool *pool, bool may_exceed)
{
    struct fiber *fiber = pool->idle;

    if (pool->count >= pool->count_max && !may_exceed)
        return NULL;
    if (fiber != NULL) {
        pool->idle = fiber->next_idle;
        pool->idle_count--;
        if (pool->idle_count < pool->idle_low)
            pool->idle_low = pool->idle_count;
    } else {
        fiber = map_fiber(pool);
        if (fiber == NULL) {
            CHECK(!may_exceed); /* out of memory for what must run: the worker ends */
            return NULL;
        }
    }
    CHECK(fiber->state == FIBER_IDLE);
    fiber->state = FIBER_LIVES;
    pool->count++;
    if (pool->count > pool->count_high)
        pool->count_high = pool->count;
    return fiber;
}

static void give(struct fiber_pool *pool, struct fiber *fiber)
{
    CHECK(pool->count > 0);
    pool->count--;
    fiber->next_idle = pool->idle;
    pool->idle = fiber;
    pool->idle_count++;
}

bool fiber_trim(struct fiber_pool *pool, uint32_t stacks_max)
{
    struct fiber **at = &pool->idle;
    uint32_t count = 0;

    CHECK_OBJ(pool, POOL_MAGIC);
    if (pool->idle_count > pool->idle_min)
        count = pool->idle_count - pool->idle_min;
    if (count > pool->idle_low)
        count = pool->idle_low;
    if (count > stacks_max)
        count = stacks_max;
    for (uint32_t i = 0; i < pool->idle_min && count > 0; i++) /* the last used, which are warm */
        at = &(*at)->next_idle;
    for (uint32_t i = 0; i < count; i++) {
        struct fiber *fiber = *at;

        *at = fiber->next_idle;
        pool->idle_count--;
        unmap_fiber(pool, fiber);
    }
    pool->idle_low = pool->idle_count;
    return pool->mapped_count > pool->idle_min;
}

/* What a fiber's stack begins and ends with. */
static void run(void *data)
{
    struct fiber *fiber = data;

    watch_arrived(&fiber->watch);
    fiber->fn(fiber->data);
    CHECK(fiber->pool->current == fiber);
    fiber->state = FIBER_IDLE;
    fiber->pool->current = fiber->caller;
    watch_leave(&fiber->watch, true);
}

/* The caller, when a fiber has come back to it. */
static void come_back(struct fiber_pool *pool, struct fiber *fiber)
{
    watch_back(&fiber->watch);
    if (fiber->state == FIBER_IDLE)
        give(pool, fiber);
}

bool fiber_start(struct fiber_pool *pool, fiber_fn *fn, void *data, bool may_exceed)
{
    struct fiber *fiber;

    CHECK_OBJ(pool, POOL_MAGIC);
    CHECK(fn != NULL);
    fiber = take(pool, may_exceed);
    if (fiber == NULL)
        return false;
    fiber->fn = fn;
    fiber->data = data;
    fiber->caller = pool->current;
    pool->current = fiber;
    watch_fresh(&fiber->watch, pool->is_valgrind);
    watch_go(&fiber->watch);
    fiber_enter(&fiber->caller_place, fiber->watch.stack, fiber->watch.size, run, fiber);
    come_back(pool, fiber);
    return true;
}

struct fiber *fiber_current(const struct fiber_pool *pool)
{
    CHECK_OBJ(pool, POOL_MAGIC);
    return pool->current;
}

void fiber_suspend(struct fiber_pool *pool)
{
    struct fiber *fiber;

    CHECK_OBJ(pool, POOL_MAGIC);
    fiber = pool->current;
    CHECK_OBJ(fiber, FIBER_MAGIC);
    CHECK(fiber->state == FIBER_LIVES);
    fiber->state = FIBER_SUSPENDED;
    pool->current = fiber->caller;
    watch_leave(&fiber->watch, false);
    fiber_switch(&fiber->place, fiber->caller_place);
    watch_arrived(&fiber->watch);
}

void fiber_resume(struct fiber *fiber)
{
    struct fiber_pool *pool;

    CHECK_OBJ(fiber, FIBER_MAGIC);
    CHECK(fiber->state == FIBER_SUSPENDED);
    pool = fiber->pool;
    fiber->state = FIBER_LIVES;
    fiber->caller = pool->current;
    pool->current = fiber;
    watch_go(&fiber->watch);
    fiber_switch(&fiber->caller_place, fiber->place);
    come_back(pool, fiber);
}

/* Counts */

uint32_t fiber_count(const struct fiber_pool *pool)
{
    CHECK_OBJ(pool, POOL_MAGIC);
    return pool->count;
}

uint32_t fiber_stacks(const struct fiber_pool *pool)
{
    CHECK_OBJ(pool, POOL_MAGIC);
    return pool->mapped_count;
}

uint32_t fiber_count_high(const struct fiber_pool *pool)
{
    CHECK_OBJ(pool, POOL_MAGIC);
    return pool->count_high;
}

size_t fiber_stack_high(struct fiber_pool *pool, uint32_t stacks_max)
{
    CHECK_OBJ(pool, POOL_MAGIC);
    for (uint32_t i = 0; i < stacks_max && i < pool->mapped_count; i++) {
        struct list *link = list_first(&pool->mapped);
        size_t used = used_of(pool, CONTAINER_OF(link, struct fiber, link));

        if (used > pool->stack_high)
            pool->stack_high = used;
        list_remove(link);
        list_append(&pool->mapped, link);
    }
    return pool->stack_high;
}

size_t fiber_stack_size(const struct fiber_pool *pool)
{
    CHECK_OBJ(pool, POOL_MAGIC);
    return pool->stack_size;
}

bool fiber_is_overflow(const struct fiber_pool *pool, const void *address)
{
    uintptr_t where = (uintptr_t)address;

    if (pool == NULL || pool->magic != POOL_MAGIC)
        return false;
    for (const struct list *link = pool->mapped.next; link != &pool->mapped; link = link->next) {
        const struct fiber *fiber = CONTAINER_OF(link, struct fiber, link);
        uintptr_t guard = (uintptr_t)fiber->map;

        if (fiber->state != FIBER_IDLE && where >= guard && where - guard < pool->page_size)
            return true;
    }
    return false;
}
