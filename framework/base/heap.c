/* base/heap.c - how much of the heap the pools of a thread hold.
 *
 *   bytes  top ───╮
 *                 │       free since the crowd left
 *          high   ╰──╮ ╭──╮  ╭───   the most of the last second: it may all be needed again at once
 *          held      ╰─╯  ╰──╯
 *
 * A trim takes a millisecond or more and makes the next user of a page fault it in again. It gives
 * back whole pages alone, so that it is worth nothing while what lies between them goes on being
 * freed.
 */
#include "base/heap.h"
#include "base/mem.h"

enum { STILL_BYTES = 256 << 10 }; /* a fall by less than this from one look to the next is none */

void heap_init(struct heap *heap, void (*on_free)(void *data), void *data)
{
    CHECK(heap != NULL);
    CHECK(on_free != NULL);
    *heap = (struct heap){._on_free = on_free, ._data = data};
}

bool heap_look(struct heap *heap)
{
    size_t high;
    bool is_still;

    CHECK(heap != NULL);
    high = heap->_high;
    is_still = heap->_before < high + STILL_BYTES;
    heap->_before = high;
    heap->_high = heap->_held;
    if (is_still && heap->_top - high >= HEAP_FREE_MIN) {
        heap->_top = high;
        mem_trim();
    }
    return heap->_top - heap->_held >= HEAP_FREE_MIN;
}
