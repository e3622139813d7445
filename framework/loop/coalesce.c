/* loop/coalesce.c - a verdict for each window, from what has ended in it. */
#include "loop/coalesce.h"

enum {
    WINDOW_US = 16000, /* a verdict's time: some 60 of the pauses */
    ENDED_MIN = 128,   /* steps in such a window at the least: 8,000 a second */
    QUICK_SHARE = 2,   /* one in so many may be quick */
    CPU_SHARE = 3      /* the loop uses one in so many microseconds at the least */
};

bool coalesce_is_over(const struct coalesce *coalesce, uint64_t now_us)
{
    return now_us - coalesce->_window_us >= WINDOW_US;
}

void coalesce_judge(struct coalesce *coalesce, uint64_t now_us, uint64_t cpu_us)
{
    uint64_t window_us = now_us - coalesce->_window_us; /* longer than asked where a turn was */
    uint64_t ended_min = window_us * ENDED_MIN / WINDOW_US;

    coalesce->is_on = coalesce->_ended >= ended_min &&
                      (uint64_t)coalesce->_quick * QUICK_SHARE <= coalesce->_ended &&
                      (cpu_us - coalesce->_cpu_us) * CPU_SHARE >= window_us;
    coalesce->_ended = 0;
    coalesce->_quick = 0;
    coalesce->_window_us = now_us;
    coalesce->_cpu_us = cpu_us;
}
