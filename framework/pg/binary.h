/* pg/binary.h - values in the binary form in which the server sends them.
 *
 * What comes from a server is not trusted: bytes that are no value of their type are refused, and
 * so is what the caller asks of a type that has no such thing. Types are those of pg/types.h.
 * Loop:   any thread; nothing is kept.
 * Memory: the caller's; a text lies where its bytes do.
 */
#ifndef WEFT_PG_BINARY_H
#define WEFT_PG_BINARY_H

#include "base/buf.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

/* Is its binary form known here? */
bool pg_binary_is_known(uint32_t type);

/* Are these bytes a value of that type, arrays to their last item? */
bool pg_binary_is_fine(uint32_t type, struct span bytes);

/* Of text and its like, of JSON: the text within the bytes. */
bool pg_binary_text(uint32_t type, struct span bytes, struct span *text);

/* Of whole numbers, and of other numbers and texts that are written as one. */
bool pg_binary_int(uint32_t type, struct span bytes, int64_t *value);

/* Of numbers, and of texts that are written as one. */
bool pg_binary_double(uint32_t type, struct span bytes, double *value);

/* Of booleans, and of the text "t". */
bool pg_binary_bool(uint32_t type, struct span bytes);

/* Of timestamptz, timestamp (as UTC), date, and of texts that are written as one: see
 * pg/calendar.h. False for what is beyond it, too. */
bool pg_binary_time(uint32_t type, struct span bytes, int64_t *us);

/* Of bytea, and of texts that are written as one: to at most bytes.len bytes at `out`. */
bool pg_binary_bytes(uint32_t type, struct span bytes, char *out, size_t *len);

/* Appends the value as the server would write it, timestamptz in UTC; nothing where it is not
 * fine. */
void pg_binary_write(uint32_t type, struct span bytes, struct buf *out);

/* ---- arrays ---- */

enum { PG_DIMENSIONS_MAX = 6 }; /* the server's limit */

/* The items of an array, as they come. */
struct pg_items {
    uint32_t type;                     /* of each */
    uint32_t count;                    /* of all of them */
    uint32_t dimensions;               /* 0: it is empty */
    uint32_t sizes[PG_DIMENSIONS_MAX]; /* of each dimension */
    int32_t firsts[PG_DIMENSIONS_MAX]; /* index of its first item */
    struct span rest;                  /* bytes of those that have not come */
};

/* Opens it. False: no array. */
bool pg_items_open(uint32_t type, struct span bytes, struct pg_items *items);

/* The next one, absent for NULL, of `count` times. False: there is none. */
bool pg_items_next(struct pg_items *items, struct span *item);

/* Bytes that pg_binary_write() adds for one item of an array of whatever type, and a NUL, at most;
 * `len` are its own. */
size_t pg_item_size(size_t len);

#endif
