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
#include <stdbool.h>
#include <stdint.h>

struct tls_context;

/* One upstream's. */
struct upstream_options {
    char *url;                            /* see upstream/url.h */
    char *addresses;                      /* see upstream_places_parse(); "": the url's */
    uint32_t connections_max;             /* of a worker, to all addresses */
    uint32_t connections_per_address_max; /* 0: no limit but connections_max */
    uint32_t waiting_max;                 /* calls without a connection; beyond it ERR_UP_BUSY */
    uint32_t queue_timeout_ms;            /* longest wait for a connection: ERR_UP_BUSY */
    uint32_t resolve_timeout_ms;          /* until the first address is known: ERR_UP_CONNECT */
    uint32_t connect_timeout_ms;          /* to one address: ERR_UP_CONNECT */
    uint32_t tls_timeout_ms;              /* of a handshake: ERR_UP_CONNECT */
    char *tls_ca;                         /* file of the authorities; "": the system's */
    char *tls_cert;                       /* file of our certificate; "": none */
    char *tls_key;                        /* file of its key; "": in tls_cert */
    char *tls_name;                       /* whom a certificate must name; "": the url's host */
    bool tls_verify;                      /* or trust anybody */
    uint32_t tls_min;                     /* 0: TLS 1.2, 1: TLS 1.3 */
    uint32_t write_timeout_ms;            /* for the peer to take some more: ERR_UP_TIMEOUT */
    uint32_t first_byte_timeout_ms;       /* between request and answer: ERR_UP_TIMEOUT */
    uint32_t between_bytes_timeout_ms;    /* of the answer: ERR_UP_TIMEOUT */
    uint32_t timeout_ms;         /* of a call in all, in its scope's budget: ERR_UP_TIMEOUT */
    uint32_t slow_call_ms;       /* a call that takes longer is logged; 0: none */
    uint32_t stream_timeout_ms;  /* in which something of a stream moves: ERR_DEADLINE */
    uint32_t hedge_ms;           /* a GET is sent once more; 0: never */
    bool is_single_flight;       /* GETs that are the same share one call */
    bool allows_private;         /* private addresses may be called (net/addr.h) */
    bool passes_trace;           /* traceparent and tracestate of the request go along */
    char *budget_field;          /* that tells the milliseconds left; "": none */
    uint32_t eject_failures;     /* in a row, by which an address is ejected; 0: never */
    uint32_t eject_time_ms;      /* for the first time; longer each time */
    uint32_t retries_max;        /* of a call, to other addresses */
    uint32_t retry_percent;      /* of the calls that may be such retries */
    uint32_t retry_after_max_ms; /* longest wait for a Retry-After; 0: none */
    uint32_t breaker_percent;    /* of failed calls that opens it; 0: never */
    uint32_t breaker_calls;      /* fewer in a window never do */
    uint32_t breaker_window_ms;  /* over which is counted */
    uint32_t breaker_time_ms;    /* it stays open */
    char *check_path;            /* of active checks; "": none */
    uint32_t check_interval_ms;  /* between them */
    uint32_t check_timeout_ms;   /* of one */
    uint32_t check_rise;         /* good ones in a row that bring an address back */
    uint32_t check_fall;         /* bad ones in a row that take it out */
    uint32_t idle_timeout_ms;    /* of a kept connection */
    uint32_t age_max_ms;         /* of a connection that is used again; 0: none */
    uint64_t head_bytes_max;     /* of an answer: ERR_UP_TOO_BIG */
    uint64_t body_bytes_max;     /* of an answer: ERR_UP_TOO_BIG */
    uint64_t decoded_bytes_max;  /* of a stream's gzip, decoded: ERR_UP_TOO_BIG */
};

/* What the table cannot say: are url and addresses such, and what is in the files of TLS? `problem`
 * says what is wrong, without file and line, and `key` with which key. */
enum err upstream_options_check(const struct upstream_options *options, const char **key,
                                char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* What TLS of this upstream stands on; reads the files. NULL: `problem` names the file and says
 * what is wrong. */
struct tls_context *upstream_tls_context(const struct upstream_options *options,
                                         char problem[INI_PROBLEM_SIZE]);

/* The table of these fields, for server/settings.c. */
extern const struct field_table upstream_option_table;

#endif
