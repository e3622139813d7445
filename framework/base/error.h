/* base/error.h - what the world may answer: one code for each way in which things fail.
 *
 * One table names every code, so that a log line, a test and the ABI's own codes (plugin/abi.c)
 * cannot drift apart. What is wrong with *us* is never one of these: that is CHECK's business.
 */
#ifndef WEFT_BASE_ERROR_H
#define WEFT_BASE_ERROR_H

/* X(code, text). The text completes "failed: ...". Append at the end of a group. */
#define ERR_TABLE(X)                                                                  \
    X(ERR_OK, "ok")                                                                   \
    /* anywhere */                                                                    \
    X(ERR_INVALID, "invalid argument")                                                \
    X(ERR_STATE, "not possible in this state")                                        \
    X(ERR_UNSUPPORTED, "not supported")                                               \
    X(ERR_IO, "input or output failed")                                               \
    X(ERR_NOT_FOUND, "not found")                                                     \
    X(ERR_EXISTS, "exists already")                                                   \
    X(ERR_TOO_BIG, "larger than the limit")                                           \
    X(ERR_SYNTAX, "syntax error")                                                     \
    X(ERR_TIMED_OUT, "timed out")                                                     \
    X(ERR_CLOSED, "closed by the peer")                                               \
    X(ERR_RESET, "reset by the peer")                                                 \
    X(ERR_UNREACHABLE, "cannot be reached")                                           \
    X(ERR_UNKNOWN_NAME, "no such host name")                                          \
    X(ERR_PROTOCOL, "the peer broke the protocol")                                    \
    /* an operation or a request was given up */                                      \
    X(ERR_CANCELED, "canceled")                                                       \
    X(ERR_DEADLINE, "the deadline has passed")                                        \
    X(ERR_OVERLOAD, "refused: overload")                                              \
    /* PostgreSQL */                                                                  \
    X(ERR_DB_BUSY, "the pool's queue is full or the wait was too long")               \
    X(ERR_DB_DOWN, "no session with the database, or it broke")                       \
    X(ERR_DB, "the statement failed")                                                 \
    X(ERR_DB_CONSTRAINT, "a constraint refused the statement")                        \
    X(ERR_DB_RETRY, "serialization failure or deadlock: run the transaction again")   \
    X(ERR_DB_VALUE, "a value is not of its type or out of its range")                 \
    /* upstreams */                                                                   \
    X(ERR_UP_BUSY, "the upstream's limit of connections or of waiting calls was hit") \
    X(ERR_UP_CONNECT, "no connection to the upstream")                                \
    X(ERR_UP_RESET, "the upstream broke off or broke the protocol")                   \
    X(ERR_UP_TIMEOUT, "the upstream was too slow")                                    \
    X(ERR_UP_TOO_BIG, "the upstream's answer is larger than the limit")               \
    /* the client */                                                                  \
    X(ERR_BAD_REQUEST, "the request is wrong")                                        \
    X(ERR_NO_ROUTE, "nothing there")                                                  \
    X(ERR_BODY_TOO_BIG, "the request's body is larger than the limit")                \
    X(ERR_BODY_SLOW, "the request's body did not come in time")

#define ERR_ENUM(code, text) code,
/* What went wrong; ERR_OK is 0: nothing did. */
enum err { ERR_TABLE(ERR_ENUM) ERR_COUNT };
#undef ERR_ENUM

/* The text of `err`, for people: constant, never NULL. */
const char *err_text(enum err err);

/* The code's own name, "ERR_TIMED_OUT": constant, never NULL. */
const char *err_name(enum err err);

#endif
