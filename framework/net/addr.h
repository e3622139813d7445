/* net/addr.h - a socket address: IPv4, IPv6 or a Unix path.
 *
 * Memory: plain values, to be copied; nothing is allocated.
 */
#ifndef WEFT_NET_ADDR_H
#define WEFT_NET_ADDR_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/* One address. Zeroed: none. */
struct addr {
    struct sockaddr_storage storage; /* as the kernel wants it */
    socklen_t len;                   /* of what is used; 0: none */
};

/* Room for the text of any address, NUL included. */
enum { ADDR_TEXT_SIZE = 128 };

/* "127.0.0.1:80", "[::1]:80", "unix:/path"; no names. False: none of these, or a path that is
 * longer than the kernel takes (107 bytes); `addr` is not touched then. */
bool addr_parse(struct span text, struct addr *addr);

/* A literal IPv4 or IPv6 host without a port. False: none (a name, perhaps). */
bool addr_from_ip(struct span host, uint16_t port, struct addr *addr);

/* The address that `fd` is bound to, for a port that the kernel chose. False: no socket. */
bool addr_of_socket(int fd, struct addr *addr);

/* The other way; `text` always gets a NUL. A socket without a name, such as a Unix client's, is
 * "unix:", no address at all "none". Returns the length. */
size_t addr_format(const struct addr *addr, char text[ADDR_TEXT_SIZE]);

/* The host alone, without port and brackets: for logs and limits per address. An IPv4 client of an
 * IPv6 socket reads as IPv4. */
size_t addr_format_host(const struct addr *addr, char text[ADDR_TEXT_SIZE]);

/* The port; 0 for a Unix address. */
uint16_t addr_port(const struct addr *addr);

/* Sets the port; nothing happens to a Unix address. */
void addr_set_port(struct addr *addr, uint16_t port);

/* Is it one that only those nearby should be able to reach: private, loopback, link-local, shared,
 * multicast, reserved, or a Unix socket; or an IPv6 address that holds such an IPv4 one? */
bool addr_is_private(const struct addr *addr);

/* The same host and port, or the same path? */
bool addr_equal(const struct addr *a, const struct addr *b);

#endif
