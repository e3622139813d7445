/* base/arena.h - memory that goes all at once.
 *
 * An arena is a chain of blocks, filled front to back. Blocks of the usual size come from a pool
 * and go back to it, so that a request costs no malloc once the worker is warm.
 * Loop:   an arena and its pool are of one thread.
 * Memory: everything from an arena lives until arena_deinit().
 * Limits: `bytes` says what was asked for; who sets a limit compares it.
 */
#ifndef WEFT_BASE_ARENA_H
#define WEFT_BASE_ARENA_H

#include "base/span.h"
#include <stddef.h>
#include <stdint.h>

struct arena_block;
struct heap;

/* Recycled blocks, shared by the arenas of a worker. */
struct arena_pool {
    struct arena_block *_free; /* blocks of ARENA_BLOCK_SIZE that wait for use */
    uint32_t _count;           /* how many */
    uint32_t _count_max;       /* more than these are given back to the heap */
    struct heap *_heap;        /* where all of that is counted, or NULL */
};

/* A chain of blocks; embed it. */
struct arena {
    struct arena_pool *_pool;    /* where blocks come from */
    struct arena_block *_blocks; /* the newest first */
    char *_next;                 /* the next free byte of the newest block */
    char *_end;                  /* behind its last byte */
    size_t bytes;                /* asked for since it was empty */
};

/* Of the blocks in the pool, with their head. */
enum { ARENA_BLOCK_SIZE = 4096 };

/* An empty pool that keeps at most `count_max` free blocks. What its arenas hold of the heap is
 * counted in `heap`, which outlives it; NULL: nowhere. */
void arena_pool_init(struct arena_pool *pool, uint32_t count_max, struct heap *heap);

/* Frees the blocks that the pool keeps. Its arenas must be empty. NULL and twice is fine. */
void arena_pool_deinit(struct arena_pool *pool);

/* An empty arena; takes no block before the first allocation. */
void arena_init(struct arena *arena, struct arena_pool *pool);

/* Lets go of everything that the arena holds; it is empty afterwards and may be used again. NULL
 * and zeroed are fine. */
void arena_deinit(struct arena *arena);

/* `size` zeroed bytes, aligned for any type. Never NULL. */
void *arena_alloc(struct arena *arena, size_t size) __attribute__((returns_nonnull));

/* `size` bytes that are not zeroed and not aligned, for text. Never NULL. */
char *arena_bytes(struct arena *arena, size_t size) __attribute__((returns_nonnull));

/* A copy with a NUL behind it (not counted in len); absent stays absent. */
struct span arena_copy(struct arena *arena, struct span bytes);

/* The formatted text, with a NUL behind it. */
struct span arena_format(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
