/* base/asan.h - tells AddressSanitizer which bytes nobody may touch; nothing in other builds.
 *
 * Memory: what is poisoned must be unpoisoned before it goes back to the heap.
 */
#ifndef WEFT_BASE_ASAN_H
#define WEFT_BASE_ASAN_H

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_ASAN 1
#endif
#endif
#ifndef WEFT_ASAN
/* 1 in a build with AddressSanitizer, else 0. */
#define WEFT_ASAN 0
#endif

#if WEFT_ASAN
#include <sanitizer/asan_interface.h>
/* From here on a read or write of any of the `size` bytes at `ptr` is reported. */
#define ASAN_POISON(ptr, size) __asan_poison_memory_region((ptr), (size))
/* They may be used again. */
#define ASAN_UNPOISON(ptr, size) __asan_unpoison_memory_region((ptr), (size))
#else
#define ASAN_POISON(ptr, size)   ((void)(ptr), (void)(size))
#define ASAN_UNPOISON(ptr, size) ((void)(ptr), (void)(size))
#endif

#endif
