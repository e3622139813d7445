/* pg/encode.h - parameters as the text that the server reads.
 *
 * Loop:   any thread; nothing is kept.
 * Memory: the caller's.
 */
#ifndef WEFT_PG_ENCODE_H
#define WEFT_PG_ENCODE_H

#include "pg/query.h"
#include <stdbool.h>
#include <stddef.h>

/* Is it SQL NULL, whatever its kind? Nothing is to be written then. */
bool pg_value_is_null(const struct pg_value *value);

/* What the server could not be told; NULL: nothing. A constant text. *err is ERR_INVALID or
 * ERR_DB_VALUE then. */
const char *pg_value_problem(const struct pg_value *value, enum err *err);

/* Bytes that its text takes at most, with a NUL. */
size_t pg_value_size(const struct pg_value *value);

/* Writes its text, with a NUL, to pg_value_size() bytes. */
void pg_value_write(const struct pg_value *value, char *out);

#endif
