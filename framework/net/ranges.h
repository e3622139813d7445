/* net/ranges.h - sets of addresses: "10.0.0.0/8 ::1 unix".
 *
 * Memory: plain values.
 * Limits: RANGES_MAX ranges.
 */
#ifndef WEFT_NET_RANGES_H
#define WEFT_NET_RANGES_H

#include "net/addr.h"

enum { RANGES_MAX = 64 };

/* Addresses that begin with the same bits. */
struct addr_range {
    sa_family_t family;      /* AF_INET, AF_INET6; AF_UNIX: every Unix address */
    uint8_t bits;            /* that count */
    unsigned char bytes[16]; /* 4 or 16 of them; those behind `bits` are 0 */
};

/* Zeroed: none. */
struct addr_ranges {
    struct addr_range at[RANGES_MAX]; /* in the order of the text */
    uint32_t count;                   /* of at */
};

/* Reads addresses and ranges (ADDRESS/BITS) with blanks between them, and the word `unix`. False:
 * `*bad` is the first that is none, or that is one too many. */
bool addr_ranges_parse(struct span text, struct addr_ranges *ranges, struct span *bad);

/* Is `addr` in one of them? An IPv4 address in IPv6's clothes is an IPv4 address. */
bool addr_ranges_have(const struct addr_ranges *ranges, const struct addr *addr);

#endif
