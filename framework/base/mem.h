/* base/mem.h - the heap, without a NULL.
 *
 * Out of memory aborts the worker and the master starts another: that is honest only because every
 * size that a peer chooses is checked against a named limit first.
 * Memory: what mem_* returns is freed by mem_free().
 */
#ifndef WEFT_BASE_MEM_H
#define WEFT_BASE_MEM_H

#include "base/span.h"
#include <stddef.h>

/* `size` zeroed bytes. Never NULL. */
void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));

/* `count` times `size` zeroed bytes; aborts where that overflows. */
void *mem_calloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));

/* Grows or shrinks; new bytes are not zeroed. Never NULL. */
void *mem_realloc(void *ptr, size_t size) __attribute__((returns_nonnull));

/* A copy with a NUL behind it; NULL for an absent span. */
char *mem_copy(struct span bytes) __attribute__((malloc));

/* Zeroes `size` bytes by libc's memset(). Where the size is known, compilers for x86 put "rep stos"
 * in its place, which for some hundred bytes takes longer to begin than memset() takes in all. */
static inline void mem_zero(void *ptr, size_t size)
{
    __asm__("" : "+r"(size)); /* nothing is known of it any more */
    memset(ptr, 0, size);
}

/* Frees; NULL is fine. */
void mem_free(void *ptr);

/* Gives whole pages of the heap that are free back to the system, where the C library can. Takes a
 * millisecond or so for each 10 MB: for when much has become free. */
void mem_trim(void);

/* The formatted text, on the heap. Never NULL. */
char *mem_format(const char *format, ...)
    __attribute__((format(printf, 1, 2), malloc, returns_nonnull));

#endif
