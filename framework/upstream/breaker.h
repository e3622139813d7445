/* upstream/breaker.h - stops calling an upstream of which most calls fail.
 *
 *   CLOSED ──(too many failed)──▶ OPEN ──(its time is over: one call)──▶ TRIED ──▶ CLOSED
 *                                   ▲────────────────────────────────────┘ it failed
 *
 * Memory: plain values; times are the loop's, in milliseconds.
 */
#ifndef WEFT_UPSTREAM_BREAKER_H
#define WEFT_UPSTREAM_BREAKER_H

#include "upstream/options.h"
#include <stdbool.h>
#include <stdint.h>

/* See above. */
enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_TRIED };

/* What happened in one half of the window. */
struct breaker_half {
    uint32_t calls;  /* with an outcome */
    uint32_t failed; /* of them */
};

/* Of one upstream. Zeroed: closed. */
struct breaker {
    enum breaker_state state;   /* see above */
    uint64_t until_ms;          /* OPEN: until then */
    uint64_t half_until_ms;     /* CLOSED: the end of the half that is being counted */
    struct breaker_half now;    /* that half */
    struct breaker_half before; /* the one before */
};

/* May a call be made? *is_trial: it decides whether the next ones are; breaker_note() or
 * breaker_untried() is due. */
bool breaker_admits(struct breaker *breaker, const struct upstream_options *options,
                    uint64_t now_ms, bool *is_trial);

/* A call has ended. True: it is open now and was closed. */
bool breaker_note(struct breaker *breaker, const struct upstream_options *options, uint64_t now_ms,
                  bool is_trial, bool is_good) __attribute__((warn_unused_result));

/* The call that was to try it ended without telling anything. */
void breaker_untried(struct breaker *breaker, uint64_t now_ms);

#endif
