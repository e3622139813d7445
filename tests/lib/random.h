/* lib/random.h - numbers that look random and are the same in every run.
 *
 * Loop:   none.
 * Memory: the state is the caller's.
 */
#ifndef WEFT_TESTS_LIB_RANDOM_H
#define WEFT_TESTS_LIB_RANDOM_H

#include <stdint.h>

/* The next number after `state`, which must not start at 0 (xorshift64*). */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

/* One of 0 to bound - 1. */
static inline uint32_t random_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)((random_next(state) >> 32) % bound);
}

#endif
