/* upstream/retry.h - may a call that failed be sent once more?
 *
 * A peer may close a kept connection while a request is on its way to it. Then, and only then, the
 * request is sent again, where nobody can have acted on it, or where to act twice is to act once.
 */
#ifndef WEFT_UPSTREAM_RETRY_H
#define WEFT_UPSTREAM_RETRY_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

/* Sent once more, and that is all. */
enum { RETRY_TRIES_MAX = 2 };

/* What is known of the attempt that failed. */
struct retry_facts {
    enum err err;       /* how: only a connection that broke or ended counts */
    uint32_t tries;     /* so far, this one included */
    bool was_reused;    /* its connection had served a call before */
    bool is_idempotent; /* by its method, or because the caller says so */
    uint64_t written;   /* bytes of the request that the kernel took */
    uint64_t received;  /* bytes of the answer that came */
};

/* May it? Then on a connection that is new. */
bool retry_is_safe(const struct retry_facts *facts);

/* Is a request with this method idempotent (RFC 9110 section 9.2.2)? */
bool retry_is_idempotent(struct span method);

#endif
