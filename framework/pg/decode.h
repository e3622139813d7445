/* pg/decode.h - bytes and arrays from the text that the server writes.
 *
 * What comes from a server is not trusted: a text of another form is refused.
 * Loop:   any thread; nothing is kept.
 * Memory: the caller's; items point into the store that he gave.
 */
#ifndef WEFT_PG_DECODE_H
#define WEFT_PG_DECODE_H

#include "base/span.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A bytea, as hex or in the escape form, to at most text.len bytes at `out`, which may be the text
 * itself; *len is how many. False: it is none. */
bool pg_bytes_read(struct span text, char *out, size_t *len);

/* No array has more items than this, of which it does not have more than text.len + 1. */
uint32_t pg_array_count_max(struct span text);

/* An array of one dimension: its items, absent for NULL, each with a NUL behind it in `store`,
 * which has room for 2 * text.len + 2 bytes; `items` for pg_array_count_max(). False: it is
 * none. */
bool pg_array_read(struct span text, char *store, struct span *items, uint32_t *count);

#endif
