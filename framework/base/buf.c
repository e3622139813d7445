/* base/buf.c - bytes that grow at the end and are taken from the front.
 *
 * Storage is one of three: none; a piece of BUF_PIECE_SIZE of the pool; from the heap, where there
 * is no pool or a piece is too small. A free piece holds the pointer to the next one in its first
 * bytes, the rest is poisoned under ASan.
 */
#include "base/buf.h"
#include "base/asan.h"
#include "base/check.h"
#include "base/heap.h"
#include "base/mem.h"
#include <stdio.h>

enum { HEAP_SIZE_MIN = 512, FORMAT_GUESS = 128 };

struct piece {
    struct piece *next;
};

void buf_pool_init(struct buf_pool *pool, uint32_t count_max, struct heap *heap)
{
    CHECK(pool != NULL);
    *pool = (struct buf_pool){._count_max = count_max, ._heap = heap};
}

void buf_pool_deinit(struct buf_pool *pool)
{
    struct piece *next;

    if (pool == NULL)
        return;
    for (struct piece *piece = pool->_free; piece != NULL; piece = next) {
        next = piece->next;
        ASAN_UNPOISON(piece, BUF_PIECE_SIZE);
        heap_gave(pool->_heap, BUF_PIECE_SIZE);
        mem_free(piece);
    }
    pool->_free = NULL;
    pool->_count = 0;
}

static char *take_piece(struct buf_pool *pool)
{
    struct piece *piece = pool->_free;

    if (piece == NULL) {
        heap_took(pool->_heap, BUF_PIECE_SIZE);
        return mem_realloc(NULL, BUF_PIECE_SIZE);
    }
    CHECK(pool->_count > 0);
    pool->_free = piece->next;
    pool->_count--;
    ASAN_UNPOISON(piece, BUF_PIECE_SIZE);
    return (char *)piece;
}

static void give_piece(struct buf_pool *pool, char *base)
{
    struct piece *piece = (struct piece *)(void *)base;

    if (pool->_count >= pool->_count_max) {
        heap_gave(pool->_heap, BUF_PIECE_SIZE);
        mem_free(base);
        return;
    }
    piece->next = pool->_free;
    pool->_free = piece;
    pool->_count++;
    ASAN_POISON(base + sizeof(*piece), BUF_PIECE_SIZE - sizeof(*piece));
}

void buf_init(struct buf *buf, struct buf_pool *pool)
{
    CHECK(buf != NULL);
    *buf = (struct buf){._pool = pool};
}

static void give_storage(struct buf *buf)
{
    if (buf->_pool != NULL && buf->_size == BUF_PIECE_SIZE) {
        give_piece(buf->_pool, buf->_base);
        return;
    }
    if (buf->_pool != NULL)
        heap_gave(buf->_pool->_heap, buf->_size);
    mem_free(buf->_base);
}

void buf_release(struct buf *buf)
{
    if (buf == NULL || buf->_base == NULL)
        return;
    give_storage(buf);
    *buf = (struct buf){._pool = buf->_pool};
}

size_t buf_room(const struct buf *buf)
{
    CHECK(buf != NULL);
    return buf->_base == NULL ? 0 : (size_t)(buf->_base + buf->_size - (buf->data + buf->len));
}

/* Of storage from the heap. With a pool it is larger than a piece: its size says where it came
 * from. */
static size_t heap_size(const struct buf *buf, size_t size)
{
    size_t target = buf->_pool != NULL ? 2 * BUF_PIECE_SIZE : HEAP_SIZE_MIN;

    while (target < size)
        target *= 2;
    return target;
}

/* Moves the data into storage for at least `size` bytes. */
static void grow(struct buf *buf, size_t size)
{
    bool is_piece = buf->_pool != NULL && size <= BUF_PIECE_SIZE;
    size_t target = is_piece ? BUF_PIECE_SIZE : heap_size(buf, size);
    char *base = is_piece ? take_piece(buf->_pool) : mem_realloc(NULL, target);

    if (buf->_pool != NULL && !is_piece)
        heap_took(buf->_pool->_heap, target);
    if (buf->len > 0)
        memcpy(base, buf->data, buf->len);
    if (buf->_base != NULL)
        give_storage(buf);
    buf->_base = buf->data = base;
    buf->_size = target;
}

char *buf_reserve(struct buf *buf, size_t size)
{
    bool fits;

    CHECK(buf != NULL);
    CHECK(size <= SIZE_MAX / 4 - buf->len);
    if (buf->_base != NULL && buf_room(buf) >= size)
        return buf->data + buf->len;
    fits = buf->_base != NULL && buf->len + size <= buf->_size;
    /* A large one that is nearly full grows all the same, or reading it in small steps would move
     * all of it at each of them. */
    if (fits && (buf->_size <= BUF_PIECE_SIZE || buf->len <= buf->_size / 2)) {
        memmove(buf->_base, buf->data, buf->len);
        buf->data = buf->_base;
    } else {
        grow(buf, fits ? 2 * buf->_size : buf->len + size);
    }
    return buf->data + buf->len;
}

void buf_commit(struct buf *buf, size_t size)
{
    CHECK(buf != NULL);
    CHECK(size <= buf_room(buf));
    buf->len += size;
}

void buf_consume(struct buf *buf, size_t size)
{
    CHECK(buf != NULL);
    CHECK(size <= buf->len);
    if (size == 0)
        return;
    buf->data += size;
    buf->len -= size;
    if (buf->len == 0)
        buf->data = buf->_base;
}

void buf_append(struct buf *buf, struct span bytes)
{
    CHECK(buf != NULL);
    if (bytes.len == 0)
        return;
    CHECK(bytes.ptr != NULL);
    memcpy(buf_reserve(buf, bytes.len), bytes.ptr, bytes.len);
    buf->len += bytes.len;
}

void buf_format(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_list again;
    size_t room;
    int len;

    CHECK(format != NULL);
    buf_reserve(buf, FORMAT_GUESS);
    room = buf_room(buf);
    va_start(args, format);
    va_copy(again, args);
    len = vsnprintf(buf->data + buf->len, room, format, args);
    if (len > 0 && (size_t)len >= room)
        vsnprintf(buf_reserve(buf, (size_t)len + 1), (size_t)len + 1, format, again);
    if (len > 0)
        buf->len += (size_t)len;
    va_end(again);
    va_end(args);
}
