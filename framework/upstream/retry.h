/* upstream/retry.h - may a call that failed be sent once more?
 *
 * Only where nobody can have acted on it, or where to act twice is to act once; and never after a
 * byte of the answer. There are two occasions. A peer may close a kept connection while a request
 * is on its way to it: that is nobody's fault, and costs nothing. And an address may break off a
 * call that another address could answer: that may be overload, which more calls would make worse,
 * so it is paid from a budget that is a share of all calls.
 */
#ifndef WEFT_UPSTREAM_RETRY_H
#define WEFT_UPSTREAM_RETRY_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

/* What is known of the attempt that failed. */
struct retry_facts {
    enum err err;         /* how: only a connection that broke or ended counts */
    bool was_kept;        /* its connection was idle before */
    bool was_renewed;     /* the call has been sent again for that reason already */
    bool is_idempotent;   /* by its method, or because the caller says so */
    bool has_other;       /* there is another address that is fit */
    uint32_t retries;     /* so far, paid ones */
    uint32_t retries_max; /* at most */
    uint64_t written;     /* bytes of the request that the kernel took */
    uint64_t received;    /* bytes of the answer that came */
};

/* May it? RENEW: on a connection that is new, for nothing; PAID: to another address, if the budget
 * has it. */
enum retry { RETRY_NOT, RETRY_RENEW, RETRY_PAID };

enum retry retry_decide(const struct retry_facts *facts);

/* Is a request with this method idempotent (RFC 9110 section 9.2.2)? */
bool retry_is_idempotent(struct span method);

/* What retries are paid from: each call adds its percent to it, a retry takes a hundred. Zeroed it
 * is not filled. */
struct retry_budget {
    uint32_t percents; /* what there is */
};

/* Retries that are there at first and may be saved up, so that few calls can be retried, too. */
enum { RETRY_RESERVE = 10 };

/* Fills it. */
void retry_budget_init(struct retry_budget *budget);

/* A call is made. */
static inline void retry_budget_add(struct retry_budget *budget, uint32_t percent)
{
    budget->percents += percent;
    if (budget->percents > RETRY_RESERVE * 100)
        budget->percents = RETRY_RESERVE * 100;
}

/* False: there is none left. */
bool retry_budget_take(struct retry_budget *budget) __attribute__((warn_unused_result));

/* Milliseconds that a Retry-After asks for, in seconds or as a date: counted from the answer's own
 * Date, so that nobody's clock has to be right, or from now where that is absent or nonsense.
 * False: absent, nonsense, or more than a million seconds. */
bool retry_after_ms(struct span value, struct span date, uint64_t *ms);

#endif
