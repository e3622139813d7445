/* base/heap.h - how much of the heap the pools of a thread hold, to give back what a crowd left.
 *
 * What is freed stays with the process: the C library gives back the end of the heap alone, and
 * somebody's block always lies there. So pools say here what they take from the heap and what they
 * give back to it. Once HEAP_FREE_MIN bytes less are held than there were at the most, and not many
 * more go, the heap is trimmed, once: not for what comes and goes each second or two.
 * Loop:   of one thread.
 * Memory: embedded by its user; nothing is allocated.
 */
#ifndef WEFT_BASE_HEAP_H
#define WEFT_BASE_HEAP_H

#include "base/check.h"
#include <stdbool.h>
#include <stddef.h>

/* So many bytes that nobody needs any more are worth a trim. */
enum { HEAP_FREE_MIN = 4 << 20 };

/* What some pools hold. */
struct heap {
    size_t _held;                 /* bytes that were taken and not given back */
    size_t _high;                 /* the most since heap_look() */
    size_t _before;               /* the most between the last two calls of it */
    size_t _top;                  /* the most since the heap was trimmed */
    void (*_on_free)(void *data); /* see heap_init() */
    void *_data;
};

/* Nothing is held. `on_free(data)` is called from within heap_gave(), again and again, while
 * HEAP_FREE_MIN bytes may be free: to see to it that heap_look() is called. */
void heap_init(struct heap *heap, void (*on_free)(void *data), void *data);

/* `size` bytes were taken from the heap. NULL is fine here and below: nobody counts. */
static inline void heap_took(struct heap *heap, size_t size)
{
    if (heap == NULL)
        return;
    heap->_held += size;
    if (heap->_held > heap->_high)
        heap->_high = heap->_held;
    if (heap->_held > heap->_top)
        heap->_top = heap->_held;
}

/* They were given back to it; no more than were taken (checked). */
static inline void heap_gave(struct heap *heap, size_t size)
{
    if (heap == NULL)
        return;
    CHECK(heap->_held >= size);
    heap->_held -= size;
    if (heap->_top - heap->_held >= HEAP_FREE_MIN)
        heap->_on_free(heap->_data);
}

/* Trims the heap where HEAP_FREE_MIN bytes were free all the time since the last call, and hardly
 * fewer in the time between that one and the one before. To be called once a second while it
 * answers true. */
bool heap_look(struct heap *heap);

#endif
