/* task/fiber_watch.h - what those who watch memory are told of stacks: for fiber.c alone.
 *
 * ASan and TSan follow a thread from stack to stack only when told; valgrind takes a jump of the
 * stack pointer for a huge frame unless it knows the stack. In other builds, and outside valgrind,
 * all of this is nothing.
 * Loop:   of the pool's thread.
 * Memory: embedded in the fiber.
 */
#ifndef WEFT_TASK_FIBER_WATCH_H
#define WEFT_TASK_FIBER_WATCH_H

#include "base/asan.h"
#include <stdbool.h>
#include <stddef.h>

#if WEFT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__SANITIZE_THREAD__)
#define WEFT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT_TSAN 1
#endif
#endif
#ifndef WEFT_TSAN
/* 1 in a build with ThreadSanitizer, else 0. */
#define WEFT_TSAN 0
#endif

#if WEFT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/memcheck.h>
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end)       0
#define VALGRIND_STACK_DEREGISTER(id)             ((void)(id))
#define VALGRIND_MAKE_MEM_UNDEFINED(stack, bytes) ((void)(stack), (void)(bytes))
#define RUNNING_ON_VALGRIND                       0
#endif

/* What is known of one fiber's stack, and of the one it left. */
struct fiber_watch {
    char *stack;          /* its lowest byte, above the guard page */
    size_t size;          /* bytes */
    unsigned valgrind_id; /* of the stack */
    void *fake;           /* ASan's, while the fiber is away */
    void *caller_fake;    /* ASan's, of the stack that went to the fiber */
    const void *caller;   /* the lowest byte of that stack, as ASan knows it */
    size_t caller_size;   /* bytes */
    void *tsan;           /* TSan's fiber */
    void *caller_tsan;    /* TSan's fiber or thread that went to it */
};

/* The stack was mapped. */
static inline void watch_mapped(struct fiber_watch *watch)
{
    watch->valgrind_id = VALGRIND_STACK_REGISTER(watch->stack, watch->stack + watch->size);
#if WEFT_TSAN
    watch->tsan = __tsan_create_fiber(0);
#endif
}

/* It will be unmapped: nothing of what was known of these addresses may stay. */
static inline void watch_unmap(struct fiber_watch *watch)
{
    ASAN_UNPOISON(watch->stack, watch->size);
    VALGRIND_STACK_DEREGISTER(watch->valgrind_id);
#if WEFT_TSAN
    __tsan_destroy_fiber(watch->tsan);
#endif
}

/* It is to be used from its top. */
static inline void watch_fresh(struct fiber_watch *watch, bool is_valgrind)
{
    ASAN_UNPOISON(watch->stack, watch->size);
    if (is_valgrind)
        (void)VALGRIND_MAKE_MEM_UNDEFINED(watch->stack, watch->size);
}

/* On the caller's stack, before it goes to the fiber. */
static inline void watch_go(struct fiber_watch *watch)
{
    (void)watch;
#if WEFT_ASAN
    __sanitizer_start_switch_fiber(&watch->caller_fake, watch->stack, watch->size);
#endif
#if WEFT_TSAN
    watch->caller_tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(watch->tsan, 0);
#endif
}

/* On the fiber's stack, when it has come there. */
static inline void watch_arrived(struct fiber_watch *watch)
{
    (void)watch;
#if WEFT_ASAN
    __sanitizer_finish_switch_fiber(watch->fake, &watch->caller, &watch->caller_size);
#endif
}

/* On the fiber's stack, before it goes back; for good where it `is_ended`. */
static inline void watch_leave(struct fiber_watch *watch, bool is_ended)
{
    (void)watch;
    (void)is_ended;
#if WEFT_ASAN
    if (is_ended)
        watch->fake = NULL;
    __sanitizer_start_switch_fiber(is_ended ? NULL : &watch->fake, watch->caller,
                                   watch->caller_size);
#endif
}

/* On the caller's stack, when the fiber has come back. TSan is told only here: it counts entries
 * and exits of functions, and the fiber's last one was to be its own. */
static inline void watch_back(struct fiber_watch *watch)
{
    (void)watch;
#if WEFT_ASAN
    __sanitizer_finish_switch_fiber(watch->caller_fake, NULL, NULL);
#endif
#if WEFT_TSAN
    __tsan_switch_to_fiber(watch->caller_tsan, 0);
#endif
}

#endif
