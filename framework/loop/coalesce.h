/* loop/coalesce.h - where a busy loop is waited for by nobody, its wakes are put together.
 *
 * A loop that is woken for every event pays for each wake, and so does whoever wakes it; it sends
 * to a session or a peer as often, in as many small pieces, and is interrupted by those that it has
 * woken. So a busy loop pauses for a quarter of a millisecond before it looks for events, as
 * network cards do before they interrupt (adaptive coalescing, ethtool(8)). That saves CPU and
 * costs time, in each step of a request; it is worth it where all of this holds for a window of
 * 16 ms:
 *
 *   - the loop uses a third of a CPU or more: else there is none to save;
 *   - 8,000 steps a second or more have ended: a request, and each statement and call of it;
 *   - half of them or more took longer than four pauses: databases and peers are busy, too, and
 *     have enough to do meanwhile. One quick step after the other would wait for a pause each;
 *   - and nobody waits for what only the loop's next step sets free, as the session that somebody's
 *     transaction has (coalesce_hold()).
 * Loop:   of one loop.
 * Memory: embedded.
 */
#ifndef WEFT_LOOP_COALESCE_H
#define WEFT_LOOP_COALESCE_H

#include <stdbool.h>
#include <stdint.h>

/* The pause; and from what time on a step is not quick, while there are none, and while there are:
 * it shall be judged as if there was none. */
enum { COALESCE_PAUSE_US = 250, COALESCE_QUICK_US = 1000, COALESCE_QUICK_PAUSED_US = 1250 };

/* Zeroed: no pauses, until there is reason for them. */
struct coalesce {
    bool is_on;          /* the last window was worth it */
    uint32_t holds;      /* of coalesce_hold(): no pauses meanwhile */
    uint32_t _ended;     /* steps that have ended in this window */
    uint32_t _quick;     /* those of them that were quick */
    uint64_t _window_us; /* loop time: when the window began */
    uint64_t _cpu_us;    /* what the loop had used by then */
};

/* A step has ended, `took_us` after it began. */
static inline void coalesce_ended(struct coalesce *coalesce, uint64_t took_us)
{
    coalesce->_ended++;
    coalesce->_quick += took_us < (coalesce->is_on ? COALESCE_QUICK_PAUSED_US : COALESCE_QUICK_US);
}

/* Is the window over? Then coalesce_judge() is to be called. */
bool coalesce_is_over(const struct coalesce *coalesce, uint64_t now_us);

/* The verdict, and a new window; the loop's thread has used `cpu_us` in all. */
void coalesce_judge(struct coalesce *coalesce, uint64_t now_us, uint64_t cpu_us);

/* How long to pause now: 0 or COALESCE_PAUSE_US. */
static inline uint32_t coalesce_pause_us(const struct coalesce *coalesce)
{
    return coalesce->is_on && coalesce->holds == 0 ? COALESCE_PAUSE_US : 0;
}

#endif
