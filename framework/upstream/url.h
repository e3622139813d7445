/* upstream/url.h - where an upstream is.
 *
 * http://host[:port][/prefix], or http://unix:/path[:/prefix] for a Unix socket.
 *
 * Memory: the parts are slices of the text, which must outlive them.
 */
#ifndef WEFT_UPSTREAM_URL_H
#define WEFT_UPSTREAM_URL_H

#include "base/error.h"
#include "base/span.h"
#include "settings/ini.h"
#include <stdbool.h>
#include <stdint.h>

/* The url in its parts. */
struct upstream_url {
    struct span scheme;    /* "http" */
    struct span host;      /* a name or a literal address without brackets, or "unix:/path" */
    struct span authority; /* what the Host field says: the host, with a port that is not 80 */
    struct span prefix;    /* the path, without a slash at its end; may be empty */
    uint16_t port;         /* given, or the scheme's; 0 for a Unix socket */
};

/* Splits and checks `url`. On failure `problem` says what was expected, without file and line:
 * ERR_SYNTAX, or ERR_UNSUPPORTED for https. */
enum err upstream_url_parse(const char *url, struct upstream_url *parts,
                            char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* May `path` stand in a request line: does it begin with '/', and is it visible ASCII without
 * '#'? */
bool upstream_is_path(struct span path);

#endif
