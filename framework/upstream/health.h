/* upstream/health.h - is an address fit to be called? By what calls to it met, and by checks.
 *
 *   GOOD ──(failures in a row)──▶ EJECTED ──(its time is over: one call)──▶ TRIED ──▶ GOOD
 *                                    ▲──────────────────────────────────────┘ it failed: for longer
 *
 * Besides, an active check may have found it down, and the address may have asked for a rest by a
 * Retry-After. Whether there is another address to call instead is the caller's to know.
 *
 * Memory: plain values; times are the loop's, in milliseconds.
 */
#ifndef WEFT_UPSTREAM_HEALTH_H
#define WEFT_UPSTREAM_HEALTH_H

#include "upstream/options.h"
#include <stdbool.h>
#include <stdint.h>

/* See above. */
enum health_state { HEALTH_GOOD, HEALTH_EJECTED, HEALTH_TRIED };

/* Of one address. Zeroed: good. */
struct health {
    enum health_state state; /* see above */
    uint32_t failures;       /* calls that failed in a row */
    uint32_t ejections;      /* in a row, without a long good time between them */
    uint64_t until_ms;       /* EJECTED: until then */
    uint64_t good_since_ms;  /* GOOD: after an ejection */
    uint64_t rest_until_ms;  /* it asked for a rest; 0: it did not */
    bool is_down;            /* says the check */
    uint32_t check_row;      /* outcomes of the check in a row that say otherwise */
};

/* May a call go to it now? */
bool health_may_serve(const struct health *health, uint64_t now_ms);

/* A call goes to it. True: it is the one that tries an ejected address, and health_succeeded(),
 * health_failed() or health_untried() is due. */
bool health_begin(struct health *health, uint64_t now_ms);

/* The call that was to try it ended without telling anything. */
void health_untried(struct health *health, uint64_t now_ms);

/* A call went well. */
void health_succeeded(struct health *health, const struct upstream_options *options,
                      uint64_t now_ms);

/* A call failed. `may_eject`: there is another address. True: it is ejected now and was not
 * before. */
bool health_failed(struct health *health, const struct upstream_options *options, uint64_t now_ms,
                   bool may_eject) __attribute__((warn_unused_result));

/* It asks for a rest of `ms`. */
void health_rest(struct health *health, uint64_t now_ms, uint64_t ms);

/* The outcome of a check. True: that changed is_down. */
bool health_checked(struct health *health, const struct upstream_options *options, bool is_good)
    __attribute__((warn_unused_result));

#endif
