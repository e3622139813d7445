/* upstream/options.h - the settings of an [upstream.NAME] section.
 *
 * Memory: texts are the struct's (settings/field.h).
 * Limits: each timeout has the reason of its own that the access log shows: "upstream_" and the
 *         setting's name.
 */
#ifndef WEFT_UPSTREAM_OPTIONS_H
#define WEFT_UPSTREAM_OPTIONS_H

#include "settings/field.h"
#include "upstream/url.h"
#include <stdint.h>

/* One upstream's. */
struct upstream_options {
    char *url;                         /* see upstream/url.h */
    uint32_t connections_max;          /* of a worker */
    uint32_t waiting_max;              /* calls without a connection; beyond it ERR_UP_BUSY */
    uint32_t queue_timeout_ms;         /* longest wait for a connection: ERR_UP_BUSY */
    uint32_t connect_timeout_ms;       /* resolve and connect: ERR_UP_CONNECT */
    uint32_t first_byte_timeout_ms;    /* between request and answer, or parts of a request that
                                          the peer takes: ERR_UP_TIMEOUT */
    uint32_t between_bytes_timeout_ms; /* of the answer: ERR_UP_TIMEOUT */
    uint32_t timeout_ms;               /* of a call in all, in its scope's budget: ERR_UP_TIMEOUT */
    uint32_t idle_timeout_ms;          /* of a kept connection */
    uint32_t age_max_ms;               /* of a connection that is used again; 0: none */
    uint64_t head_bytes_max;           /* of an answer: ERR_UP_TOO_BIG */
    uint64_t body_bytes_max;           /* of an answer: ERR_UP_TOO_BIG */
};

/* The table of these fields, for server/settings.c. */
extern const struct field_table upstream_option_table;

#endif
