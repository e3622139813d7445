/* http/guard.h - what is refused before, and after, llhttp has looked: one rule a row.
 *
 * Whatever could make two parsers disagree about where a message ends is refused, and the
 * connection is closed. llhttp as Debian has it lets some of that pass, so a head or a trailer
 * section is scanned as a whole before llhttp sees it, and a parsed head is checked once more.
 * Memory: a scan remembers how far it came, so that bytes which arrive one by one are looked at
 *         once each.
 */
#ifndef WEFT_HTTP_GUARD_H
#define WEFT_HTTP_GUARD_H

#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

struct http_head;

/* X(rule, the status that a client gets, token for logs, where it is written, text for people).
 * What is said of an answer of an upstream has status 502: its own client gets that. */
#define GUARD_TABLE(X)                                                                             \
    X(GUARD_OK, 0, "ok", "", "nothing is wrong")                                                   \
    /* lines of any section */                                                                     \
    X(GUARD_BARE_LF, 400, "bare_lf", "RFC 9112 2.2", "a line ends with LF alone")                  \
    X(GUARD_BARE_CR, 400, "bare_cr", "RFC 9112 2.2", "a CR is not followed by LF")                 \
    X(GUARD_FOLD, 400, "obs_fold", "RFC 9112 5.2", "a line starts with a blank")                   \
    X(GUARD_EMPTY_NAME, 400, "empty_name", "RFC 9112 5", "a field has no name")                    \
    X(GUARD_EMPTY_LINES, 400, "empty_lines", "RFC 9112 2.2", "empty lines before a request")       \
    X(GUARD_FIELD, 400, "bad_field", "RFC 9112 5", "a field line is malformed")                    \
    /* the first line */                                                                           \
    X(GUARD_REQUEST_LINE, 400, "bad_request_line", "RFC 9112 3",                                   \
      "the request line is not a method, a target and a version with one blank between")           \
    X(GUARD_METHOD, 501, "unknown_method", "RFC 9110 9.1", "the method is not known here")         \
    X(GUARD_FRAGMENT, 400, "fragment", "RFC 9112 3.2", "the target has a fragment")                \
    X(GUARD_TARGET, 400, "bad_target", "RFC 9112 3.2", "the target is malformed")                  \
    X(GUARD_VERSION_SYNTAX, 400, "bad_version", "RFC 9112 2.3", "the version is malformed")        \
    X(GUARD_VERSION, 505, "unknown_version", "RFC 9110 15.6.6", "HTTP/1.0 and 1.1 are spoken")     \
    X(GUARD_STATUS_LINE, 502, "bad_status_line", "RFC 9112 4", "the status line is malformed")     \
    X(GUARD_SWITCH, 502, "unasked_101", "RFC 9110 15.2.2", "an unasked-for change of protocol")    \
    /* limits */                                                                                   \
    X(GUARD_LINE_BYTES, 414, "line_too_long", "RFC 9110 15.5.15", "the request line is too long")  \
    X(GUARD_HEAD_BYTES, 431, "head_too_big", "RFC 6585 5", "the fields are too long")              \
    X(GUARD_FIELD_COUNT, 431, "too_many_fields", "RFC 6585 5", "there are too many fields")        \
    X(GUARD_TRAILER_BYTES, 431, "trailer_too_big", "RFC 9112 7.1.2", "the trailer is too long")    \
    X(GUARD_CHUNK_EXCESS, 400, "chunk_excess", "RFC 9112 7.1.1", "chunks of little but framing")   \
    X(GUARD_BODY_BYTES, 413, "body_too_big", "RFC 9110 15.5.14",                                   \
      "the body is larger than the limit")                                                         \
    /* framing: each of these is a way to smuggle a request */                                     \
    X(GUARD_CODING, 501, "unknown_coding", "RFC 9112 6.1", "chunked alone is understood")          \
    X(GUARD_CODING_FINAL, 400, "bad_coding", "RFC 9112 6.3", "chunked is not the final coding")    \
    X(GUARD_CODING_TWICE, 400, "coding_twice", "RFC 9112 6.3", "Transfer-Encoding comes twice")    \
    X(GUARD_CODING_LENGTH, 400, "coding_and_length", "RFC 9112 6.3",                               \
      "Transfer-Encoding and Content-Length together")                                             \
    X(GUARD_CODING_VERSION, 400, "coding_in_1_0", "RFC 9112 6.1", "Transfer-Encoding in HTTP/1.0") \
    X(GUARD_LENGTH, 400, "bad_length", "RFC 9110 8.6", "Content-Length is not one number")         \
    X(GUARD_LENGTH_RANGE, 413, "length_out_of_range", "RFC 9110 8.6", "Content-Length is absurd")  \
    X(GUARD_CHUNK, 400, "bad_chunk", "RFC 9112 7.1", "a chunk is malformed")                       \
    X(GUARD_CUT_OFF, 400, "cut_off", "RFC 9112 8", "the connection ended within a message")        \
    /* the host */                                                                                 \
    X(GUARD_HOST_MISSING, 400, "no_host", "RFC 9112 3.2", "there is no Host field")                \
    X(GUARD_HOST_TWICE, 400, "host_twice", "RFC 9112 3.2", "Host comes twice")                     \
    X(GUARD_HOST, 400, "bad_host", "RFC 9112 3.2", "Host is malformed")                            \
    /* whatever llhttp refuses beyond all that */                                                  \
    X(GUARD_SYNTAX, 400, "bad_syntax", "RFC 9112 2.1", "the message is malformed")

#define GUARD_ENUM(rule, status, token, section, text) rule,
/* Why a message is refused; GUARD_OK is 0. */
enum guard { GUARD_TABLE(GUARD_ENUM) GUARD_COUNT };
#undef GUARD_ENUM

/* A row of the table. */
struct guard_rule {
    uint32_t status;     /* for the client */
    const char *token;   /* for logs, "bare_lf" */
    const char *section; /* of the RFC */
    const char *text;    /* for people */
};

/* The row of `rule`; constant. */
const struct guard_rule *guard_rule(enum guard rule);

/* What a section starts with. */
enum guard_section { GUARD_REQUEST, GUARD_RESPONSE, GUARD_TRAILER };

/* How much a peer may send. */
struct guard_limits {
    size_t line_bytes_max;    /* of a request line without its end */
    size_t section_bytes_max; /* of a head or a trailer, with the empty line behind it */
};

/* How far a section was scanned. Zeroed: from its start. */
struct guard_scan {
    size_t line_at; /* where the line begins that is not complete */
    size_t seen;    /* bytes without a LF in that line, and all before it */
    uint32_t lines; /* complete ones */
};

/* Looks at `bytes`, which start with a section and may have been seen in part before. GUARD_OK:
 * `*size` is the section's length with its empty line, or 0 where more is needed. */
enum guard guard_scan(struct guard_scan *scan, enum guard_section section, struct span bytes,
                      const struct guard_limits *limits, size_t *size)
    __attribute__((warn_unused_result));

/* Are the lines of a scanned trailer fields? What they say is nobody's business: Content-Length and
 * its like mean nothing there (RFC 9110 section 6.5.1). */
bool guard_trailer(struct span section);

/* Checks what the fields of a parsed head say about framing, host and target, and sets the members
 * of `head` that follow from them. */
enum guard guard_head(struct http_head *head) __attribute__((warn_unused_result));

#endif
