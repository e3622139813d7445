/* http/message.h - what requests and answers have in common: fields. No framing, no version of the protocol. */
#ifndef WEFT_HTTP_MESSAGE_H
#define WEFT_HTTP_MESSAGE_H

#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

struct http_field {
    struct span name;  /* as it came; compared without case */
    struct span value; /* without blanks around it */
};

struct http_fields {
    struct http_field *at; /* `count` of them, in their order */
    uint32_t count;        /* fields */
};

/* The value of the first field `name`; absent. */
struct span http_field_get(const struct http_fields *fields, struct span name);

/* Is `name` a token (RFC 9110 section 5.6.2)? */
bool http_is_token(struct span name);

/* May `value` be sent: no CR, LF, NUL or other control byte but a tab (RFC 9110 section 5.5)? */
bool http_is_field_value(struct span value);

/* The reason phrase of `code`; "Unknown" where there is none. */
const char *http_reason(uint32_t code);

/* Does an answer with `code` never have a body (1xx, 204, 304)? */
bool http_is_bodyless(uint32_t code);

#endif
