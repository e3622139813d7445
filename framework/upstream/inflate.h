/* upstream/inflate.h - an answer's body that comes as gzip, decoded as it comes.
 *
 * Loop:   any thread, one at a time.
 * Memory: some 40 KB while it goes on.
 * Limits: the caller's, on what comes out: a few bytes can become very many.
 */
#ifndef WEFT_UPSTREAM_INFLATE_H
#define WEFT_UPSTREAM_INFLATE_H

#include "base/buf.h"
#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stddef.h>

struct inflate;

/* At the beginning of a body. */
struct inflate *inflate_create(void);

/* Frees it. NULL is fine. */
void inflate_destroy(struct inflate *body);

/* Decodes `bytes` to the end of `out`, which is not to be longer than `len_max`. ERR_TOO_BIG;
 * ERR_PROTOCOL: this is no gzip, or its checksum is wrong. */
enum err inflate_feed(struct inflate *body, struct span bytes, struct buf *out, size_t len_max)
    __attribute__((warn_unused_result));

/* Decodes from the front of `bytes`, which moves on, to the end of `out`, until that is `len_max`
 * long. ERR_PROTOCOL, as inflate_feed(). */
enum err inflate_some(struct inflate *body, struct span *bytes, struct buf *out, size_t len_max)
    __attribute__((warn_unused_result));

/* May more come out, without another byte in? */
bool inflate_has_more(const struct inflate *body);

/* Has all of it come, with its checksum? A body without a byte is whole, too. */
bool inflate_is_complete(const struct inflate *body);

#endif
