/* http/message.h - what requests and answers have in common: methods, codes, fields. No framing, no
 * version of the protocol.
 *
 * Memory: spans point into whatever they were made from.
 */
#ifndef WEFT_HTTP_MESSAGE_H
#define WEFT_HTTP_MESSAGE_H

#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

/* One line of a head. */
struct http_field {
    struct span name;  /* as it came; compared without case */
    struct span value; /* without blanks around it */
};

/* All of them. */
struct http_fields {
    struct http_field *at; /* `count` of them, in their order */
    uint32_t count;        /* fields */
};

/* The value of the first field `name`; absent. */
struct span http_field_get(const struct http_fields *fields, struct span name);

/* How many fields have that name. */
uint32_t http_field_count(const struct http_fields *fields, struct span name);

/* Has `list`, of elements between commas, the element `token`, in any case, whatever its
 * parameters? */
bool http_has_token(struct span list, struct span token);

/* Is `name` a token (RFC 9110 section 5.6.2)? */
bool http_is_token(struct span name);

/* May `value` be sent: no CR, LF, NUL or other control byte but a tab, no blanks around it (RFC
 * 9110 section 5.5)? */
bool http_is_field_value(struct span value);

/* Is `method` one that is served at all? CONNECT is not. What is none is answered with 501. */
bool http_is_method(struct span method);

/* Is `method` safe (RFC 9110 section 9.2.1): does it ask for nothing but an answer? */
bool http_is_safe(struct span method);

/* The reason phrase of `code`; "Unknown" where there is none. */
const char *http_reason(uint32_t code);

/* Does an answer with `code` never have a body (1xx, 204, 304)? */
bool http_is_bodyless(uint32_t code);

#endif
