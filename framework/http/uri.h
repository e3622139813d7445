/* http/uri.h - the target of a request: its parts, and percent-encoding.
 *
 * Memory: spans are slices of what was given, or of the caller's buffer.
 */
#ifndef WEFT_HTTP_URI_H
#define WEFT_HTTP_URI_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

/* The parts of a target (RFC 9112 section 3.2). */
struct uri {
    struct span authority; /* of the absolute form; absent */
    struct span path;      /* percent-encoded; "/" where the absolute form has none; "*" */
    struct span query;     /* behind '?', left alone; absent */
};

/* More segments than these are refused. */
enum { URI_SEGMENTS_MAX = 256 };

/* Takes a target apart: "/path?query", "http://host/path?query" or "*". False: none of these, or a
 * byte in it that RFC 3986 does not allow there; in queries what browsers send is allowed too. */
bool uri_split(struct span target, struct uri *uri);

/* Is it host or host:port, as in a Host field? Empty is not. */
bool uri_is_host(struct span host);

/* Decodes a path that starts with '/', and takes it apart: dot segments are resolved, empty ones
 * kept ("/a//b/" has four). `out` has room for path.len + 1 bytes; the segments are slices of it
 * with one '/' between two, and a NUL behind the last. ERR_SYNTAX: a bad escape, %00, or a way
 * above the root; ERR_TOO_BIG: more than URI_SEGMENTS_MAX segments. */
enum err uri_segments(struct span path, char *out, struct span segments[URI_SEGMENTS_MAX],
                      uint32_t *count) __attribute__((warn_unused_result));

/* The first `name` of a query (or of a form), decoded: '+' is a blank. `raw` is its value as it
 * stands there, empty for `name` without '='. False: there is none. */
bool uri_query_find(struct span query, struct span name, struct span *raw);

/* Decodes a value of a query into `out`, which has room for raw.len + 1 bytes, and puts a NUL
 * behind it. An escape that is none, and %00, stay as they are. Returns the length. */
size_t uri_query_decode(struct span raw, char *out);

#endif
