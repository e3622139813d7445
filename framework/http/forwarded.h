/* http/forwarded.h - whose request it is, where proxies stand between.
 *
 * Each proxy adds whom it heard from to a list. It is read from its end, as far as those who wrote
 * are trusted: what a client has written itself comes before that, and is never reached.
 * Source: RFC 7239 (Forwarded); X-Forwarded-For has no standard.
 * Memory: nothing is kept.
 */
#ifndef WEFT_HTTP_FORWARDED_H
#define WEFT_HTTP_FORWARDED_H

#include "http/message.h"
#include "net/ranges.h"

/* In which field, as http_options has it. */
enum http_forwarding { HTTP_X_FORWARDED_FOR, HTTP_FORWARDED, HTTP_FORWARDED_NEVER };

/* The client of a request that `peer` has sent: `peer` itself, where it is not among `trusted`. An
 * element of the list that is no address ends it. A port is 0 where none is said. */
struct addr http_forwarded_client(const struct http_fields *fields, enum http_forwarding where,
                                  const struct addr_ranges *trusted, const struct addr *peer);

#endif
