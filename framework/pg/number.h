/* pg/number.h - numbers with a fraction, as the server sends and writes them.
 *
 * Loop:   any thread; nothing is kept.
 * Memory: the caller's; a numeric points into the bytes that it was opened from.
 */
#ifndef WEFT_PG_NUMBER_H
#define WEFT_PG_NUMBER_H

#include "base/buf.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

/* Reads what the server writes, with a point whatever setlocale() says, NaN and Infinity too. The
 * text has a NUL behind it. False: no number. */
bool pg_double_read(struct span text, double *value);

/* Appends the number as the server writes it, to its last bit. `is_single`: it is a float4. */
void pg_float_write(double value, bool is_single, struct buf *out);

/* The number where the server would write it with digits alone: whole, and not with an exponent. */
bool pg_float_int(double value, bool is_single, int64_t *number);

/* A numeric in its binary form: digits of base 10000, the first one times 10000 ** weight. */
struct pg_numeric {
    int32_t count;     /* of digits */
    int32_t weight;    /* see above */
    uint32_t sign;     /* PG_NUMERIC_... */
    int32_t scale;     /* decimal digits behind the point */
    struct span bytes; /* of the digits */
};

/* The wire's. */
enum {
    PG_NUMERIC_PLUS = 0,
    PG_NUMERIC_MINUS = 0x4000,
    PG_NUMERIC_NAN = 0xc000,
    PG_NUMERIC_PLUS_INFINITY = 0xd000,
    PG_NUMERIC_MINUS_INFINITY = 0xf000
};

/* False: no numeric. */
bool pg_numeric_open(struct span bytes, struct pg_numeric *numeric);

/* Appends it as the server writes it: at most 150 KB. */
void pg_numeric_write(const struct pg_numeric *numeric, struct buf *out);

/* The number where it has no digits behind the point, not even zeros, and is not beyond int64. */
bool pg_numeric_int(const struct pg_numeric *numeric, int64_t *value);

/* The nearest double, infinities and NaN too. */
bool pg_numeric_double(const struct pg_numeric *numeric, double *value);

#endif
