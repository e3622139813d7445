/* observe/metrics.h - what a worker counts: counters, gauges and histograms.
 *
 * All of them are plain numbers, registered once at the start and then changed through a pointer:
 * no look-up, no lock and no atomic on the way of a request. metrics_text() writes them as
 * Prometheus reads them.
 * Loop:   of one worker's loop thread. Helper threads count nothing here; they post.
 * Memory: the set owns everything; the pointers are good until metrics_destroy().
 * Limits: METRICS_LABELS_MAX labels each. Names and labels come from plugins and settings at the
 *         start, never from a request.
 */
#ifndef WEFT_OBSERVE_METRICS_H
#define WEFT_OBSERVE_METRICS_H

#include "base/buf.h"
#include "base/span.h"
#include <stdint.h>

struct metrics;

/* Labels of one series. */
enum { METRICS_LABELS_MAX = 8 };

/* What tells one series of a name from another. */
struct metric_label {
    const char *key;   /* [a-z_]+; copied */
    struct span value; /* any bytes; copied */
};

/* Which series: of what name, with which labels. */
struct metric_name {
    const char *name; /* "weft_requests_total": [a-z_]+, copied; a time's ends with _seconds */
    const char *help; /* one sentence; copied; the first one given for a name counts */
    const struct metric_label *labels; /* `labels_count` of them, or NULL */
    uint32_t labels_count;             /* of `labels` */
};

/* Steps of a histogram: four to each power of two, up to 2^32 us (72 minutes); the last one holds
 * all that is longer. A value is known to within a quarter. */
enum { HISTOGRAM_STEPS = 4, HISTOGRAM_BUCKETS = 4 + 30 * HISTOGRAM_STEPS + 1 };

/* A spread of times in microseconds. Zeroed is an empty one; it may also be used on its own. */
struct histogram {
    uint64_t count;                      /* of values */
    uint64_t sum_us;                     /* of values */
    uint64_t buckets[HISTOGRAM_BUCKETS]; /* how many values fell into each step */
};

/* An empty set. */
struct metrics *metrics_create(void) __attribute__((returns_nonnull));

/* Frees it with all that was registered; NULL is fine. */
void metrics_destroy(struct metrics *metrics);

/* What only goes up; starts at 0. The same name and labels again answer the same pointer; a name
 * has one kind (checked). */
uint64_t *metrics_counter(struct metrics *metrics, const struct metric_name *name)
    __attribute__((returns_nonnull));

/* What goes up and down; starts at 0, and never below (checked by nobody). */
uint64_t *metrics_gauge(struct metrics *metrics, const struct metric_name *name)
    __attribute__((returns_nonnull));

/* The same two for times: kept in microseconds and written in seconds. */
uint64_t *metrics_counter_us(struct metrics *metrics, const struct metric_name *name)
    __attribute__((returns_nonnull));
uint64_t *metrics_gauge_us(struct metrics *metrics, const struct metric_name *name)
    __attribute__((returns_nonnull));

/* A spread of times, kept in microseconds and written in seconds. */
struct histogram *metrics_histogram(struct metrics *metrics, const struct metric_name *name)
    __attribute__((returns_nonnull));

/* Appends all of them in the text form of Prometheus (exposition format 0.0.4), names in the order
 * of their first registration. */
void metrics_text(const struct metrics *metrics, struct buf *out);

/* The bucket of a value of `us`. */
static inline uint32_t histogram_bucket(uint64_t us)
{
    uint32_t power;

    if (us < 4)
        return (uint32_t)us;
    if (us >> 32 != 0)
        return HISTOGRAM_BUCKETS - 1;
    power = 63 - (uint32_t)__builtin_clzll(us);
    return power * HISTOGRAM_STEPS - 4 + (uint32_t)(us >> (power - 2) & 3);
}

/* Counts one value. */
static inline void histogram_add(struct histogram *histogram, uint64_t us)
{
    histogram->count++;
    histogram->sum_us += us;
    histogram->buckets[histogram_bucket(us)]++;
}

/* A time that at least `permille` of 1,000 values are below or equal to, at most a quarter too
 * long; 0 where there are no values, UINT64_MAX where it is beyond the last step. */
uint64_t histogram_quantile(const struct histogram *histogram, uint32_t permille);

#endif
