/* http/proxy_line.h - what a load balancer says of a connection before its first byte: the PROXY
 * protocol of HAProxy, versions 1 (a line of text) and 2 (binary).
 *
 * Source: "The PROXY protocol", haproxy.org, 2020-03-05.
 * Memory: nothing is kept.
 */
#ifndef WEFT_HTTP_PROXY_LINE_H
#define WEFT_HTTP_PROXY_LINE_H

#include "net/addr.h"

/* PROXY_LINE_MORE: not all of it is there yet. */
enum proxy_line { PROXY_LINE_MORE, PROXY_LINE_DONE, PROXY_LINE_BAD };

/* The longest header, with all that may stand in it. */
enum { PROXY_LINE_MAX = 16 + 2048 };

/* Reads the header that `bytes` begin with. DONE: it is `*len` bytes; `client` is who connected to
 * the balancer, or none (zeroed) where the balancer speaks for itself or does not say. BAD: there
 * is no such header, or it is longer than PROXY_LINE_MAX. */
enum proxy_line proxy_line_parse(struct span bytes, size_t *len, struct addr *client);

#endif
