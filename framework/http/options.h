/* http/options.h - the settings of [server] that are the http room's.
 *
 * Memory: plain values.
 */
#ifndef WEFT_HTTP_OPTIONS_H
#define WEFT_HTTP_OPTIONS_H

#include "settings/field.h"
#include <stdint.h>

/* What a client may ask for, and how long. */
struct http_options {
    uint64_t body_bytes_max;         /* of a request, inclusive; more: 413 */
    uint32_t fields_max;             /* of a head; more: 431 */
    uint64_t request_line_bytes_max; /* more: 414 */
    uint64_t head_bytes_max;         /* request line and fields; more: 431 */
    uint32_t header_timeout_ms;      /* from the first byte of a head to its end, absolute: 408 */
    uint32_t body_timeout_ms;        /* without a byte of the body: 408 */
    uint32_t idle_timeout_ms;        /* of a connection between requests: closed */
    uint32_t drain_idle_ms;          /* the same, once the worker is to end: closed then */
    uint32_t write_timeout_ms;       /* without the client taking a byte: closed */
    uint32_t request_timeout_ms;     /* budget of a request, where its route has none: 504 */
    uint32_t slow_request_ms;        /* one that takes longer is logged; 0: none */
    uint32_t connections_max;        /* of a worker; beyond it nothing is accepted */
    uint32_t pipelined_max;          /* requests that wait on a connection; at it, reading stops */
};

/* The table of these fields, for server/settings.c. */
extern const struct field_table http_option_table;

#endif
