/* base/arena.c - memory that goes all at once.
 *
 *   arena ──▶ block (being filled: _next.._end) ──▶ block (full, or one large piece) ──▶ ...
 *   pool  ──▶ free block ──▶ free block ──▶ ...
 *
 * What does not fit into a block of the usual size gets one of its own, chained behind the one that
 * is being filled, so that the rest of that one is not lost. Under ASan all that was not handed out
 * is poisoned.
 */
#include "base/arena.h"
#include "base/asan.h"
#include "base/check.h"
#include "base/heap.h"
#include "base/mem.h"
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>

struct arena_block {
    struct arena_block *next; /* of the arena or of the pool */
    size_t size;              /* of the whole block */
    alignas(max_align_t) char bytes[];
};

enum {
    BLOCK_ROOM = ARENA_BLOCK_SIZE - sizeof(struct arena_block),
    GAP = WEFT_ASAN ? 16 : 0, /* poisoned bytes behind each piece */
    FORMAT_GUESS = 256        /* texts up to this are formatted once */
};

void arena_pool_init(struct arena_pool *pool, uint32_t count_max, struct heap *heap)
{
    CHECK(pool != NULL);
    *pool = (struct arena_pool){._count_max = count_max, ._heap = heap};
}

static void free_block(struct arena_pool *pool, struct arena_block *block)
{
    heap_gave(pool->_heap, block->size);
    ASAN_UNPOISON(block->bytes, block->size - sizeof(*block));
    mem_free(block);
}

void arena_pool_deinit(struct arena_pool *pool)
{
    struct arena_block *next;

    if (pool == NULL)
        return;
    for (struct arena_block *block = pool->_free; block != NULL; block = next) {
        next = block->next;
        free_block(pool, block);
    }
    pool->_free = NULL;
    pool->_count = 0;
}

static struct arena_block *take_block(struct arena_pool *pool, size_t size)
{
    struct arena_block *block = pool->_free;

    if (size == ARENA_BLOCK_SIZE && block != NULL) {
        CHECK(pool->_count > 0);
        pool->_free = block->next;
        pool->_count--;
        return block;
    }
    block = mem_realloc(NULL, size);
    heap_took(pool->_heap, size);
    block->size = size;
    ASAN_POISON(block->bytes, size - sizeof(*block));
    return block;
}

static void give_block(struct arena_pool *pool, struct arena_block *block)
{
    if (block->size != ARENA_BLOCK_SIZE || pool->_count >= pool->_count_max) {
        free_block(pool, block);
        return;
    }
    ASAN_POISON(block->bytes, BLOCK_ROOM);
    block->next = pool->_free;
    pool->_free = block;
    pool->_count++;
}

void arena_init(struct arena *arena, struct arena_pool *pool)
{
    CHECK(arena != NULL);
    CHECK(pool != NULL);
    *arena = (struct arena){._pool = pool};
}

void arena_deinit(struct arena *arena)
{
    struct arena_block *next;

    if (arena == NULL || arena->_pool == NULL)
        return;
    for (struct arena_block *block = arena->_blocks; block != NULL; block = next) {
        next = block->next;
        give_block(arena->_pool, block);
    }
    *arena = (struct arena){._pool = arena->_pool};
}

/* A piece of its own, behind the block that is being filled. */
static char *take_large(struct arena *arena, size_t size)
{
    struct arena_block *block = take_block(arena->_pool, sizeof(*block) + size);

    if (arena->_blocks == NULL) {
        block->next = NULL;
        arena->_blocks = block;
    } else {
        block->next = arena->_blocks->next;
        arena->_blocks->next = block;
    }
    return block->bytes;
}

/* Where the block that is being filled has no room, or there is none yet. */
static __attribute__((noinline)) char *take_elsewhere(struct arena *arena, size_t size)
{
    struct arena_block *block;

    CHECK(arena->_pool != NULL);
    CHECK(size <= SIZE_MAX / 2);
    if (size + GAP > BLOCK_ROOM / 4)
        return take_large(arena, size + GAP);
    block = take_block(arena->_pool, ARENA_BLOCK_SIZE);
    block->next = arena->_blocks;
    arena->_blocks = block;
    arena->_next = block->bytes + size + GAP;
    arena->_end = (char *)block + ARENA_BLOCK_SIZE;
    return block->bytes;
}

static inline char *take(struct arena *arena, size_t size, size_t align)
{
    size_t skip = -(uintptr_t)arena->_next & (align - 1);
    char *piece;

    /* Of an arena without a block both are NULL, and nothing is less than their distance. */
    if (size < ARENA_BLOCK_SIZE && skip + size + GAP < (size_t)(arena->_end - arena->_next)) {
        piece = arena->_next + skip;
        arena->_next = piece + size + GAP;
    } else {
        piece = take_elsewhere(arena, size);
    }
    arena->bytes += size;
    ASAN_UNPOISON(piece, size);
    return piece;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    void *memory;

    CHECK(arena != NULL);
    memory = take(arena, size, alignof(max_align_t));
    mem_zero(memory, size);
    return memory;
}

char *arena_bytes(struct arena *arena, size_t size)
{
    CHECK(arena != NULL);
    /* ASan can only poison what follows eight bytes in a row. */
    return take(arena, size, WEFT_ASAN ? 8 : 1);
}

struct span arena_copy(struct arena *arena, struct span bytes)
{
    char *copy;

    CHECK(arena != NULL);
    if (bytes.ptr == NULL)
        return bytes;
    CHECK(bytes.len < SIZE_MAX);
    copy = arena_bytes(arena, bytes.len + 1);
    memcpy(copy, bytes.ptr, bytes.len);
    copy[bytes.len] = '\0';
    return (struct span){copy, bytes.len};
}

__attribute__((format(printf, 2, 0))) static struct span
format_list(struct arena *arena, const char *format, va_list args)
{
    char guess[FORMAT_GUESS];
    va_list again;
    char *text;
    int len;

    CHECK(arena != NULL);
    CHECK(format != NULL);
    va_copy(again, args);
    len = vsnprintf(guess, sizeof(guess), format, args);
    /* A format that cannot be encoded: an empty text, since the caller has no use for an error. */
    if (len < 0)
        guess[len = 0] = '\0';
    text = arena_bytes(arena, (size_t)len + 1);
    if ((size_t)len < sizeof(guess))
        memcpy(text, guess, (size_t)len + 1);
    else
        vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return (struct span){text, (size_t)len};
}

struct span arena_format(struct arena *arena, const char *format, ...)
{
    struct span text;
    va_list args;

    va_start(args, format);
    text = format_list(arena, format, args);
    va_end(args);
    return text;
}
