/* base/number.h - numbers from text and back, strictly: the whole text or nothing.
 *
 * What is false leaves the value untouched.
 */
#ifndef WEFT_BASE_NUMBER_H
#define WEFT_BASE_NUMBER_H

#include "base/span.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal, optional '-'; no blanks, no '+'. False: no number, or beyond int64. */
bool number_int(struct span text, int64_t *value);

/* Decimal digits only. False: no number, or beyond uint64. */
bool number_uint(struct span text, uint64_t *value);

/* A duration in milliseconds: "250ms", "10s", "5m", "2h", "1d", or "0". False: none of these, or
 * beyond uint64. */
bool number_duration_ms(struct span text, uint64_t *ms);

/* A size in bytes: "512", "64k", "10m", "2g" (powers of 1024, either case). False: none of these,
 * or beyond uint64. */
bool number_size(struct span text, uint64_t *bytes);

/* Room for any text that is made here, with its NUL. */
enum { NUMBER_TEXT_SIZE = 24 };

/* Writes `value` in decimal with a NUL; returns the count of digits. */
size_t number_format(uint64_t value, char text[NUMBER_TEXT_SIZE]);

/* The shortest duration text that number_duration_ms() reads back: "10s", "250ms", "0". */
size_t number_format_duration(uint64_t ms, char text[NUMBER_TEXT_SIZE]);

/* The shortest size text that number_size() reads back: "64k", "512". */
size_t number_format_size(uint64_t bytes, char text[NUMBER_TEXT_SIZE]);

#endif
