/* upstream/url.h - where an upstream is.
 *
 * http://host[:port][/prefix], or http://unix:/path[:/prefix] for a Unix socket; https likewise.
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
    struct span scheme; /* "http" or "https" */
    struct span host;   /* a name or a literal address without brackets, or "unix:/path" */
    struct span
        authority; /* what the Host field says: the host, with a port that is not the scheme's */
    struct span prefix; /* the path, without a slash at its end; may be empty */
    uint16_t port;      /* given, or the scheme's; 0 for a Unix socket */
    bool is_tls;        /* https */
};

/* One of the places where an upstream is: what is connected to. */
struct upstream_place {
    struct span host; /* a name, a literal address without brackets, or "unix:/path" */
    uint16_t port;    /* 0 for a Unix socket */
};

/* The most places of one upstream; a name among them may have several addresses. */
enum { UPSTREAM_PLACES_MAX = 64 };

/* Splits and checks `url`. On failure `problem` says what was expected, without file and line:
 * ERR_SYNTAX. */
enum err upstream_url_parse(const char *url, struct upstream_url *parts,
                            char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* Splits and checks `text`, places with blanks between them: "10.0.0.1:8080 [::1]:80
 * unix:/run/a.sock name"; a port that is missing is the url's. Empty: the url's own place. At most
 * UPSTREAM_PLACES_MAX. ERR_SYNTAX: `problem` says what was expected, without file and line. */
enum err upstream_places_parse(const char *text, const struct upstream_url *url,
                               struct upstream_place places[UPSTREAM_PLACES_MAX], uint32_t *count,
                               char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* May `path` stand in a request line: does it begin with '/', and is it visible ASCII without
 * '#'? */
bool upstream_is_path(struct span path);

#endif
