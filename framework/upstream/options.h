/* upstream/options.h - the settings of an [upstream.NAME] section. */
#ifndef WEFT_UPSTREAM_OPTIONS_H
#define WEFT_UPSTREAM_OPTIONS_H

#include "base/error.h"
#include "base/span.h"
#include "settings/field.h"
#include <stdint.h>

struct upstream_options {
    char *url;                   /* http://host[:port][/prefix] */
    uint32_t connections_max;    /* of a worker */
    uint32_t waiting_max;        /* calls that wait for a connection; beyond it ERR_UP_BUSY */
    uint32_t queue_timeout_ms;   /* longest wait; then ERR_UP_BUSY */
    uint32_t connect_timeout_ms; /* resolve and connect: ERR_UP_CONNECT */
    uint32_t
        first_byte_timeout_ms; /* from the request sent to the answer's first byte: ERR_UP_TIMEOUT */
    uint32_t between_bytes_timeout_ms; /* of the answer: ERR_UP_TIMEOUT */
    uint32_t timeout_ms;      /* of a call in all, within its scope's budget: ERR_UP_TIMEOUT */
    uint32_t idle_timeout_ms; /* of a kept connection */
    uint64_t head_bytes_max;  /* of an answer: ERR_UP_TOO_BIG */
    uint64_t body_bytes_max;  /* of an answer: ERR_UP_TOO_BIG */
};

/* The table of these fields, for server/settings.c. */
extern const struct field_table upstream_option_table;

/* The url in its parts; slices of it. */
struct upstream_url {
    struct span scheme; /* "http" */
    struct span host;   /* without brackets */
    struct span prefix; /* the path, without a trailing slash; may be empty */
    uint16_t port;      /* given, or the scheme's */
};

/* Splits and checks `url`. On failure `problem` says what was expected, without file and line (https: not yet). */
enum err upstream_url_parse(const char *url, struct upstream_url *parts,
                            char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

#endif
