/* http/reasons.h - how often requests ended otherwise than well, by reason: those tokens that the
 * access log has as `why`, among them one for each limit.
 *
 * Loop:   counted by one loop's thread; memory that others may read meanwhile.
 * Memory: plain values, names included: whoever reads is perhaps another process.
 * Limits: HTTP_REASONS_MAX reasons; all further ones count as the last, "other".
 */
#ifndef WEFT_HTTP_REASONS_H
#define WEFT_HTTP_REASONS_H

#include <stdint.h>

enum { HTTP_REASONS_MAX = 64, HTTP_REASON_SIZE = 40 };

/* One of them. */
struct http_reason {
    char name[HTTP_REASON_SIZE]; /* "pg_queue_full"; "" : this and all that follow are free */
    uint64_t count;              /* of requests */
};

/* Zeroed: nothing was counted. */
struct http_reasons {
    struct http_reason at[HTTP_REASONS_MAX]; /* in the order of their first time */
};

/* Counts one; `name` is copied, and cut where it is too long. */
void http_reasons_add(struct http_reasons *reasons, const char *name);

#endif
