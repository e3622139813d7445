/* loop/coalesce.c - a verdict for each window, from those who were served in it. */
#include "loop/coalesce.h"

enum {
    WINDOW_US = 16000, /* a verdict's time: some 60 of the pauses */
    ENDED_MIN = 64,    /* a window at the least: 4,000 a second */
    QUICK_SHARE = 8    /* one in so many may be quick */
};

static bool is_worth_it(const struct coalesce *coalesce, uint64_t window_us)
{
    uint64_t ended_min = window_us * ENDED_MIN / WINDOW_US; /* a late verdict's window is longer */

    return coalesce->_ended >= ended_min &&
           (uint64_t)coalesce->_quick * QUICK_SHARE <= coalesce->_ended;
}

uint32_t coalesce_pause_us(struct coalesce *coalesce, uint64_t now_us)
{
    uint64_t window_us = now_us - coalesce->_window_us;

    if (window_us >= WINDOW_US) {
        coalesce->is_on = is_worth_it(coalesce, window_us);
        coalesce->_ended = 0;
        coalesce->_quick = 0;
        coalesce->_window_us = now_us;
    }
    return coalesce->is_on ? COALESCE_PAUSE_US : 0;
}
