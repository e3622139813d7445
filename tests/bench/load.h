/* bench/load.h - the arithmetic of a load generator: when to send, and how long it took.
 *
 * Loop:   any thread; a struct is used by one at a time.
 * Memory: embedded, without pointers.
 * Limits: times up to about an hour; a longer one counts as that.
 */
#ifndef WEFT_BENCH_LOAD_H
#define WEFT_BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

/* ---- when to send ---- */

/* The moments at which requests are meant to be sent, one after the other, whatever becomes of
 * those before. */
struct arrivals {
    double rate;        /* a second; above 0 */
    bool is_poisson;    /* gaps by chance, as of many clients who know nothing of each other */
    uint64_t count;     /* given out so far */
    double _at_s;       /* of the last one */
    uint64_t _state[2]; /* of the random numbers */
};

/* The same `seed` gives the same moments. Without `is_poisson` all gaps are the same. */
void arrivals_init(struct arrivals *arrivals, double rate, bool is_poisson, uint64_t seed);

/* The next moment, in nanoseconds from the beginning; never before the last one. */
uint64_t arrivals_next(struct arrivals *arrivals);

/* ---- how long it took ---- */

/* Buckets: 128 in each power of two, so that a time is known within 1/128, below 0.8 %. */
enum { LATENCIES_BITS = 7, LATENCIES_TOP = 32, LATENCIES_BUCKETS = (33 - 7 + 1) << 7 };

/* Times in microseconds, counted by size. Zeroed: none. */
struct latencies {
    uint64_t count;                  /* of them */
    uint64_t max_us;                 /* the longest, exactly */
    uint32_t _at[LATENCIES_BUCKETS]; /* how many there are of each size */
};

/* One more. */
void latencies_add(struct latencies *latencies, uint64_t us);

/* Those of `more` too. */
void latencies_merge(struct latencies *latencies, const struct latencies *more);

/* The time that `share` (0 to 1) of them did not exceed: never less than it was, and at most 0.8 %
 * more. 0: there are none. */
uint64_t latencies_quantile(const struct latencies *latencies, double share);

#endif
