/* lib/soak.h - the short and the long form of a random test, its seed, and how to repeat it.
 *
 * Loop:   none.
 * Memory: none.
 */
#ifndef WEFT_TESTS_LIB_SOAK_H
#define WEFT_TESTS_LIB_SOAK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

/* Is this a run of `./run soak`? */
static inline bool soak_is_on(void)
{
    const char *text = getenv("WEFT_SOAK");

    return text != NULL && *text != '\0' && *text != '0';
}

/* The number in the environment's `name`, or `fallback`. */
static inline uint64_t soak_number(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);

    return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : fallback;
}

/* WEFT_SEED; else the same in each short run, and another one in each soak. The test prints it. */
static inline uint64_t soak_seed(void)
{
    uint32_t fresh = 1;

    if (soak_is_on())
        (void)!getrandom(&fresh, sizeof fresh, 0);
    return soak_number("WEFT_SEED", fresh);
}

/* Until the next call: a process that dies (CHECK, a sanitizer) says how to repeat what it did, a
 * command; NULL: nothing. Copied. */
void soak_repeat(const char *how);

/* A cmocka teardown: says so where the test has failed, that is, has not called
 * soak_repeat(NULL). */
int soak_end(void **state);

#endif
