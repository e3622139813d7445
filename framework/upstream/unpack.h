/* upstream/unpack.h - a body that comes as gzip, decoded as fast as somebody takes what comes out.
 *
 *   packed ──(until `out` is as long as it may be)──▶ out
 *
 * A few bytes can become very many: what is not decoded yet waits as it came.
 * Loop:   any thread, one at a time.
 * Memory: that of upstream/inflate.h, and what waits; the caller stops feeding it while any does.
 * Limits: `bytes_max` come out in all.
 */
#ifndef WEFT_UPSTREAM_UNPACK_H
#define WEFT_UPSTREAM_UNPACK_H

#include "base/buf.h"
#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inflate;

/* Embed it; zeroed it decodes nothing. */
struct unpack {
    struct inflate *_inflate; /* NULL: bodies go through as they are */
    struct buf _packed;       /* waits */
    uint64_t _left;           /* bytes that may still come out */
    enum err _err;            /* what unpack_more() has failed with */
};

/* From now on it decodes; `pool` may be NULL. */
void unpack_start(struct unpack *unpack, struct buf_pool *pool, uint64_t bytes_max);

/* Frees what it has; it decodes nothing any more. Twice and zeroed is fine. */
void unpack_stop(struct unpack *unpack);

/* Does it decode? */
static inline bool unpack_is_started(const struct unpack *unpack)
{
    return unpack->_inflate != NULL;
}

/* Decodes what waits, and `bytes` (may be absent) behind it, to the end of `out`, until that is
 * `len_max` long. ERR_TOO_BIG: more than bytes_max; ERR_PROTOCOL: no gzip, or its checksum is
 * wrong: `out` has what came before, and no more ever comes. It has been started (checked). */
enum err unpack_more(struct unpack *unpack, struct span bytes, struct buf *out, size_t len_max)
    __attribute__((warn_unused_result));

/* What is wrong, in a constant text for people: of an error of unpack_more(); ERR_CLOSED: it is not
 * complete. */
const char *unpack_problem(enum err err);

/* Does it need more bytes to go on? True where it decodes nothing. */
bool unpack_is_hungry(const struct unpack *unpack);

/* Would the body be whole if it ended here, once it is hungry? True where it decodes nothing. */
bool unpack_is_complete(const struct unpack *unpack);

#endif
