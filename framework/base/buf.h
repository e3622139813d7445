/* base/buf.h - bytes that grow at the end and are taken from the front.
 *
 *   bytes:  [ consumed | data ... | room ]
 *
 * A connection's buffers borrow their storage from a pool: an idle connection holds none
 * (buf_release()).
 * Loop:   a buffer and its pool are of one thread.
 * Memory: data pointers are good until the next buf_reserve(), buf_append() or buf_release().
 * Limits: a buffer does not limit itself: who fills it compares `len` with a named limit first.
 */
#ifndef WEFT_BASE_BUF_H
#define WEFT_BASE_BUF_H

#include "base/span.h"
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct heap;

/* Recycled storage of one size, shared by the buffers of a worker. */
struct buf_pool {
    void *_free;         /* a chain of free pieces */
    uint32_t _count;     /* how many */
    uint32_t _count_max; /* more than these are given back to the heap */
    struct heap *_heap;  /* where all of that is counted, or NULL */
};

/* Of a pool's pieces; a buffer that needs more goes to the heap. */
enum { BUF_PIECE_SIZE = 16384 };

/* Embed it; zeroed is an empty one without a pool. */
struct buf {
    struct buf_pool *_pool; /* where pieces of BUF_PIECE_SIZE come from, or NULL: the heap */
    char *data;             /* the first byte that was not consumed */
    size_t len;             /* bytes of data */
    char *_base;            /* the storage, or NULL */
    size_t _size;           /* of the storage */
};

/* An empty pool that keeps at most `count_max` free pieces. What its buffers hold of the heap is
 * counted in `heap`, which outlives it; NULL: nowhere. */
void buf_pool_init(struct buf_pool *pool, uint32_t count_max, struct heap *heap);

/* Frees the pieces that the pool keeps. Its buffers must be released. NULL and twice is fine. */
void buf_pool_deinit(struct buf_pool *pool);

/* An empty buffer without storage; `pool` may be NULL. */
void buf_init(struct buf *buf, struct buf_pool *pool);

/* Gives the storage back, data and all; the buffer may be used again. NULL, zeroed and twice is
 * fine. */
void buf_release(struct buf *buf);

/* Room for at least `size` more bytes behind the data: where they go. Moves the data to the front,
 * or grows. */
char *buf_reserve(struct buf *buf, size_t size);

/* How many bytes fit behind the data as it is. */
size_t buf_room(const struct buf *buf);

/* `size` bytes, no more than there is room for, were written where buf_reserve() said. */
void buf_commit(struct buf *buf, size_t size);

/* Takes `size` bytes from the front; an empty buffer starts at its front again. */
void buf_consume(struct buf *buf, size_t size);

/* Copies `bytes`, which are not of this buffer, to the end. */
void buf_append(struct buf *buf, struct span bytes);

/* Appends formatted text, without a NUL. */
void buf_format(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* All of the data. */
static inline struct span buf_span(const struct buf *buf)
{
    return (struct span){buf->data, buf->len};
}

#endif
