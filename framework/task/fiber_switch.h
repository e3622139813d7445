/* task/fiber_switch.h - from one stack to another: for fiber.c alone.
 *
 * What a function may expect to find again after a call is kept: the callee-saved registers and the
 * rounding and trap controls of the floating point units; not the signal mask. Assembly for x86-64
 * and aarch64 in fiber_switch.S, ucontext (and its system calls) elsewhere.
 * Loop:   any thread, as long as a stack stays with one.
 * Memory: a left stack is known by one pointer, which lies in it and is good for one switch back.
 */
#ifndef WEFT_TASK_FIBER_SWITCH_H
#define WEFT_TASK_FIBER_SWITCH_H

#include <stddef.h>

/* The first run on a stack of `size` bytes at `stack`, aligned to 16: `*caller` becomes the place
 * that is left, then fn(data) runs. When it returns, so does whoever waits at `*caller` by then:
 * this call, or the fiber_switch() that came back to that stack last. */
void fiber_enter(void **caller, void *stack, size_t size, void (*fn)(void *data), void *data);

/* Leaves this stack, to be known as `*from`, and goes on at `to`. Returns when somebody switches
 * back to `*from`. */
void fiber_switch(void **from, void *to);

#endif
