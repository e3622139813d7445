/* loop/coalesce.h - where many are served and all of them take their time, wakes are put together.
 *
 * A loop that is woken for every event pays for each wake, and so does whoever wakes it; it sends
 * to a session or a peer as often, in as many small pieces, and is interrupted by those that it has
 * woken. So a loop under load pauses for a quarter of a millisecond before it looks for events, as
 * network cards do before they interrupt (adaptive coalescing, ethtool(8)). Nobody shall notice:
 * it begins where more than 4,000 requests a second end, and all but one in eight of them take
 * longer than four pauses, as those of a busy database or of busy peers do. Who is served at once
 * is not held up.
 * Loop:   of one loop.
 * Memory: embedded.
 */
#ifndef WEFT_LOOP_COALESCE_H
#define WEFT_LOOP_COALESCE_H

#include <stdbool.h>
#include <stdint.h>

/* The pause; and from what time on a request is not quick, while there are none, and while there
 * are: a request waits for the loop three times or so, and shall be judged as if it had not. */
enum { COALESCE_PAUSE_US = 250, COALESCE_QUICK_US = 1000, COALESCE_QUICK_PAUSED_US = 1750 };

/* Zeroed: no pauses, until there is reason for them. */
struct coalesce {
    bool is_on;          /* the loop pauses */
    uint32_t _ended;     /* requests that have ended in this window */
    uint32_t _quick;     /* those of them that were quick */
    uint64_t _window_us; /* loop time: when the window began */
};

/* A request has ended, `took_us` after it began. */
static inline void coalesce_served(struct coalesce *coalesce, uint64_t took_us)
{
    coalesce->_ended++;
    coalesce->_quick += took_us < (coalesce->is_on ? COALESCE_QUICK_PAUSED_US : COALESCE_QUICK_US);
}

/* How long to pause now: 0 or COALESCE_PAUSE_US. Once a turn. */
uint32_t coalesce_pause_us(struct coalesce *coalesce, uint64_t now_us);

#endif
