/* fuzz/reference.h - a request by the grammar of RFC 9112 alone, to compare the host's parser with.
 *
 * Written from the RFC, for clearness and not for speed, and shares no code with the host. It is as
 * loose as the RFC lets a server be at most: what it refuses, a server must refuse.
 * Loop:   none.
 * Memory: plain values.
 */
#ifndef WEFT_TESTS_FUZZ_REFERENCE_H
#define WEFT_TESTS_FUZZ_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum reference_outcome { REFERENCE_COMPLETE, REFERENCE_MORE, REFERENCE_REFUSED };

/* One request. */
struct reference {
    size_t end;          /* where the next one begins */
    uint64_t body_hash;  /* messages_hash() of its body */
    uint64_t body_bytes; /* of it */
    const char *why;     /* it is refused: the section */
};

/* The request at the beginning of the bytes. */
enum reference_outcome reference_request(const uint8_t *data, size_t size, struct reference *found);

#endif
