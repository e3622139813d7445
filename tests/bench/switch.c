/* bench/switch.c - what a fiber's switch costs.
 *
 *   switch COUNT     resumes a fiber so many times, which waits again each time: two switches each
 *
 * Prints the nanoseconds of one switch. Under callgrind, the difference of two counts is
 * instructions.
 */
#include "base/clock.h"
#include "task/fiber.h"
#include <stdio.h>
#include <stdlib.h>

static struct fiber_pool *pool;
static struct fiber *fiber;
static bool is_over;

static void wait_often(void *data)
{
    (void)data;
    fiber = fiber_current(pool);
    while (!is_over)
        fiber_suspend(pool);
}

int main(int argc, char **argv)
{
    unsigned long count = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
    uint64_t begun_us;

    if (count == 0) {
        fprintf(stderr, "usage: switch COUNT\n");
        return 2;
    }
    pool = fiber_pool_create(NULL);
    if (!fiber_start(pool, wait_often, NULL, false))
        return 1;
    begun_us = clock_monotonic_us();
    for (unsigned long i = 0; i < count; i++)
        fiber_resume(fiber);
    printf("%.2f\n", (double)(clock_monotonic_us() - begun_us) * 1000 / (double)count / 2);
    is_over = true;
    fiber_resume(fiber);
    fiber_pool_destroy(pool);
    return 0;
}
