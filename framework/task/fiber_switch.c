/* task/fiber_switch.c - from one stack to another by ucontext, where fiber_switch.S has nothing.
 *
 * A left stack is known by the ucontext_t that swapcontext() filled in, which lies in it. Slow:
 * each switch sets the signal mask by a system call.
 */
#if defined(WEFT_FIBER_UCONTEXT) || (!defined(__x86_64__) && !defined(__aarch64__))

#include "task/fiber_switch.h"
#include "base/check.h"
#include <stdint.h>
#include <ucontext.h>

/* What the new stack wants to know; on the caller's, which stays until fn suspends or ends. */
struct entry {
    void (*fn)(void *data);
    void *data;
    void **caller;
};

/* makecontext() passes ints: the address comes in halves. */
static void begin(unsigned high, unsigned low)
{
    const struct entry *there = (const struct entry *)((uintptr_t)((uint64_t)high << 32 | low));
    struct entry entry = *there;

    entry.fn(entry.data);
    (void)setcontext(*entry.caller);
    CHECK(entry.fn == NULL); /* setcontext() does not come back */
}

void fiber_enter(void **caller, void *stack, size_t size, void (*fn)(void *data), void *data)
{
    struct entry entry = {fn, data, caller};
    uint64_t address = (uintptr_t)&entry;
    ucontext_t here;
    ucontext_t there;
    int failed;

    failed = getcontext(&there);
    CHECK(failed == 0);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = size;
    there.uc_link = NULL;
    makecontext(&there, (void (*)(void))begin, 2, (unsigned)(address >> 32), (unsigned)address);
    *caller = &here;
    failed = swapcontext(&here, &there);
    CHECK(failed == 0);
}

void fiber_switch(void **from, void *to)
{
    ucontext_t here;
    int failed;

    *from = &here;
    failed = swapcontext(&here, to);
    CHECK(failed == 0);
}

#else
/* A file with nothing in it is no C. */
extern const int fiber_switch_is_assembly;
#endif
