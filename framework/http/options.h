/* http/options.h - the settings of [server] that are the http room's.
 *
 * Memory: texts are the heap's: field_clear() frees them.
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
    uint64_t trailer_bytes_max;      /* the fields behind a chunked body; more: 431 */
    uint64_t
        chunk_excess_bytes_max;  /* of chunk sizes and extensions that the body does not warrant:
                                      * 400 */
    uint32_t header_timeout_ms;  /* from the first byte of a head to its end, absolute: 408 */
    uint32_t body_timeout_ms;    /* without a byte of the body: 408 */
    uint64_t body_rate_min;      /* bytes of a body a second, over its whole time; less: 408; 0:
                                      * any */
    uint32_t idle_timeout_ms;    /* of a connection between requests: closed */
    uint32_t drain_idle_ms;      /* the same, once the worker is to end: closed then */
    uint32_t write_timeout_ms;   /* without the client taking a byte: closed */
    uint32_t request_timeout_ms; /* budget of a request, where its route has none: 504 */
    uint32_t slow_request_ms;    /* one that takes longer is logged; 0: none */
    uint32_t connections_max;    /* of a worker; beyond it nothing is accepted */
    uint32_t connections_soft;   /* from here on a new one takes an idle one's place; 0: seven
                                      * eighths of connections_max */
    uint32_t address_connections_max; /* of one client's address; more: 503; 0: any */
    uint32_t connection_requests_max; /* of one connection, which then ends in order; 0: any */
    uint32_t requests_max;            /* under way at once; more: 503 */
    uint32_t shed_after_ms;           /* of delay at the least: new requests get 503; 0: none do */
    uint32_t pipelined_max;           /* requests that wait on a connection; at it, reading stops */
    char *trusted_proxies;            /* ranges of addresses; "": none */
    char *request_id;                 /* field that has a request's name; "": none */
    uint32_t client_address;          /* enum http_forwarding: where they say whose request it is */
    bool proxy_protocol;              /* a connection begins with the PROXY protocol */
};

/* The table of these fields, for server/settings.c. */
extern const struct field_table http_option_table;

#endif
