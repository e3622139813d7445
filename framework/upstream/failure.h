/* upstream/failure.h - the ways in which a call fails: one error, one reason and one counter each.
 */
#ifndef WEFT_UPSTREAM_FAILURE_H
#define WEFT_UPSTREAM_FAILURE_H

#include "base/error.h"

/* X(name, error, reason). The reason is a constant token for the access log. Append. */
#define UPSTREAM_FAILURE_TABLE(X)                                                       \
    X(UPSTREAM_INVALID, ERR_INVALID, "upstream_invalid")                                \
    X(UPSTREAM_QUEUE_FULL, ERR_UP_BUSY, "upstream_queue_full")                          \
    X(UPSTREAM_QUEUE_TIMEOUT, ERR_UP_BUSY, "upstream_queue_timeout")                    \
    X(UPSTREAM_BREAKER, ERR_UP_BUSY, "upstream_breaker_open")                           \
    X(UPSTREAM_RESOLVE, ERR_UP_CONNECT, "upstream_resolve")                             \
    X(UPSTREAM_RESOLVE_TIMEOUT, ERR_UP_CONNECT, "upstream_resolve_timeout")             \
    X(UPSTREAM_PRIVATE, ERR_UP_CONNECT, "upstream_private")                             \
    X(UPSTREAM_CONNECT, ERR_UP_CONNECT, "upstream_connect")                             \
    X(UPSTREAM_CONNECT_TIMEOUT, ERR_UP_CONNECT, "upstream_connect_timeout")             \
    X(UPSTREAM_TLS, ERR_UP_CONNECT, "upstream_tls")                                     \
    X(UPSTREAM_TLS_TIMEOUT, ERR_UP_CONNECT, "upstream_tls_timeout")                     \
    X(UPSTREAM_WRITE_TIMEOUT, ERR_UP_TIMEOUT, "upstream_write_timeout")                 \
    X(UPSTREAM_FIRST_BYTE_TIMEOUT, ERR_UP_TIMEOUT, "upstream_first_byte_timeout")       \
    X(UPSTREAM_BETWEEN_BYTES_TIMEOUT, ERR_UP_TIMEOUT, "upstream_between_bytes_timeout") \
    X(UPSTREAM_TIMEOUT, ERR_UP_TIMEOUT, "upstream_timeout")                             \
    X(UPSTREAM_RESET, ERR_UP_RESET, "upstream_reset")                                   \
    X(UPSTREAM_PROTOCOL, ERR_UP_RESET, "upstream_protocol")                             \
    X(UPSTREAM_HEAD_TOO_BIG, ERR_UP_TOO_BIG, "upstream_head_too_big")                   \
    X(UPSTREAM_BODY_TOO_BIG, ERR_UP_TOO_BIG, "upstream_body_too_big")                   \
    X(UPSTREAM_STREAM_TIMEOUT, ERR_DEADLINE, "upstream_stream_timeout")

#define UPSTREAM_FAILURE_ENUM(name, error, reason) name,
/* What went wrong with a call. */
enum upstream_failure { UPSTREAM_FAILURE_TABLE(UPSTREAM_FAILURE_ENUM) UPSTREAM_FAILURE_COUNT };
#undef UPSTREAM_FAILURE_ENUM

/* Its error for the caller. */
enum err upstream_failure_err(enum upstream_failure failure);

/* Its reason: constant, never NULL. */
const char *upstream_failure_reason(enum upstream_failure failure);

#endif
