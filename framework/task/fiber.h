/* task/fiber.h - pooled stacks on which handlers and callbacks run, so that they can wait.
 *
 * A fiber runs a function at once, in the caller's place, until it returns or suspends; it is held
 * only while it waits. Stacks are mapped with a guard page below and recycled, last used first:
 * there are as many as were needed at once, and fiber_trim() unmaps those that no longer are. The
 * switch is told to ASan, TSan and valgrind.
 * Loop:   a pool and its fibers are of one thread.
 * Memory: the pool owns its fibers; a `struct fiber *` is good until its function returns.
 * Limits: `count_max` fibers at once; who would go beyond gets false.
 */
#ifndef WEFT_TASK_FIBER_H
#define WEFT_TASK_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fiber;
struct fiber_pool;

/* Runs on the fiber's stack. */
typedef void fiber_fn(void *data);

/* How a pool is made. Zeroed: the defaults. */
struct fiber_options {
    size_t stack_size;  /* bytes without the guard page; 0: 128 KiB (ASan: 256); at least 16 KiB;
                         * rounded up to pages */
    uint32_t count_max; /* at once; 0: 16384 */
    uint32_t idle_min;  /* that fiber_trim() leaves for the next; 0: 64 */
    void (*on_mapped)(void *data); /* NULL, or called when there is one stack more, on the stack of
                                    * who starts the fiber: to see to it that fiber_trim() is
                                    * called */
    void *data;                    /* for on_mapped */
};

/* A pool with no stack in it. `options` may be NULL. */
struct fiber_pool *fiber_pool_create(const struct fiber_options *options);

/* Unmaps the idle stacks; no fiber may be left (checked). NULL is fine. */
void fiber_pool_destroy(struct fiber_pool *pool);

/* Runs `fn(data)` on a fiber until it returns or suspends for the first time. From the loop's stack
 * or from a fiber. False: at the limit, or the kernel has no more memory for a stack, and nothing
 * ran. `may_exceed` ignores the limit (for what has been admitted already): never false, and no
 * memory for a stack aborts then. */
bool fiber_start(struct fiber_pool *pool, fiber_fn *fn, void *data, bool may_exceed);

/* The fiber that runs now; NULL: the loop's own stack. */
struct fiber *fiber_current(const struct fiber_pool *pool);

/* Back to whoever started or resumed the current fiber (checked), until fiber_resume(). */
void fiber_suspend(struct fiber_pool *pool);

/* Goes on with a suspended fiber (checked), in the caller's place, until it returns or suspends
 * again. From the loop's stack or from another fiber. */
void fiber_resume(struct fiber *fiber);

/* Unmaps stacks that no fiber has needed since the last call, beyond `idle_min` idle ones;
 * `stacks_max` at most, a system call or two each. To be called now and then while it answers true:
 * there are more than idle_min. */
bool fiber_trim(struct fiber_pool *pool, uint32_t stacks_max);

/* Fibers that live: they run, wait, or started another one that does. */
uint32_t fiber_count(const struct fiber_pool *pool);

/* Stacks that are mapped, idle ones too. */
uint32_t fiber_stacks(const struct fiber_pool *pool);

/* The most that ever lived at once. */
uint32_t fiber_count_high(const struct fiber_pool *pool);

/* The most bytes of a stack that were ever used, in whole pages: of those mapped now and of those
 * unmapped before. Asks the kernel about `stacks_max` stacks at most, about others the next time:
 * for metrics, not for each request. */
size_t fiber_stack_high(struct fiber_pool *pool, uint32_t stacks_max);

/* Bytes that a stack has. */
size_t fiber_stack_size(const struct fiber_pool *pool);

/* Does `address` lie in the guard page of a fiber that lives (for the crash report)?
 * Async-signal-safe. */
bool fiber_is_overflow(const struct fiber_pool *pool, const void *address);

#endif
