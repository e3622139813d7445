/* net/addr.h - a socket address: IPv4, IPv6 or a Unix path.
 *
 * Memory: plain values.
 */
#ifndef WEFT_NET_ADDR_H
#define WEFT_NET_ADDR_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct addr {
    struct sockaddr_storage storage; /* as the kernel wants it */
    socklen_t len;                   /* of what is used; 0: none */
};

enum { ADDR_TEXT_SIZE = 128 };

/* "127.0.0.1:80", "[::1]:80", "unix:/path"; no names. False: none of these. */
bool addr_parse(struct span text, struct addr *addr);

/* A literal IPv4 or IPv6 host without a port. False: none (a name, perhaps). */
bool addr_from_ip(struct span host, uint16_t port, struct addr *addr);

/* The other way; `text` always gets a NUL. Returns its length. */
size_t addr_format(const struct addr *addr, char text[ADDR_TEXT_SIZE]);

/* The host alone, without port and brackets: for logs and limits per address. */
size_t addr_format_host(const struct addr *addr, char text[ADDR_TEXT_SIZE]);

uint16_t addr_port(const struct addr *addr);
void addr_set_port(struct addr *addr, uint16_t port);
bool addr_equal(const struct addr *a, const struct addr *b);

#endif
