/* http/trailer.h - the fields behind a chunked body (RFC 9110 section 6.5).
 *
 * Memory: what is taken is copied into the arena, each text with a NUL.
 */
#ifndef WEFT_HTTP_TRAILER_H
#define WEFT_HTTP_TRAILER_H

#include "http/message.h"

struct arena;

/* The fields of `section`, http_parser's trailer, which the guard has passed. False: there are more
 * than `fields_max`. */
bool http_trailer_fields(struct arena *arena, struct span section, uint32_t fields_max,
                         struct http_fields *fields) __attribute__((warn_unused_result));

#endif
