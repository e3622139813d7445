/* clock.c - base/clock.c with another source of time: the test's. */
#include "base/clock.h"
#include "kit.h"

#define clock_monotonic_us clock_real_monotonic_us
#define clock_wall_us      clock_real_wall_us
#include "base/clock.c"
#undef clock_monotonic_us
#undef clock_wall_us

/* 2026-01-01T00:00:00Z */
#define WALL_BEGIN_US (1767225600ull * 1000000)

static uint64_t seconds = 1, wall_us = WALL_BEGIN_US;

void kit_clock_set(uint64_t us)
{
    seconds++;
    wall_us = WALL_BEGIN_US + us;
}

uint64_t clock_monotonic_us(void)
{
    return seconds * 1000000;
}

uint64_t clock_wall_us(void)
{
    return wall_us;
}
