/* siphash.h - SipHash-2-4 (Aumasson, Bernstein 2012): a hash of bytes that clients choose, under a
 * key that they do not know, so that they cannot make two of them meet.
 */
#ifndef WEFT_PLUGINS_SIPHASH_H
#define WEFT_PLUGINS_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t siphash__rotated(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void siphash__rounds(uint64_t v[4], int count)
{
    while (count-- > 0) {
        v[0] += v[1];
        v[1] = siphash__rotated(v[1], 13) ^ v[0];
        v[0] = siphash__rotated(v[0], 32);
        v[2] += v[3];
        v[3] = siphash__rotated(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = siphash__rotated(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = siphash__rotated(v[1], 17) ^ v[2];
        v[2] = siphash__rotated(v[2], 32);
    }
}

/* The hash of `size` bytes under `key`; little-endian machines, as the host's are. */
static inline uint64_t siphash(const uint64_t key[2], const void *bytes, size_t size)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    const unsigned char *at = bytes;
    uint64_t word;

    for (size_t left = size; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        v[3] ^= word;
        siphash__rounds(v, 2);
        v[0] ^= word;
    }
    word = 0;
    memcpy(&word, at, size % 8);
    word |= (uint64_t)size << 56;
    v[3] ^= word;
    siphash__rounds(v, 2);
    v[0] ^= word;
    v[2] ^= 0xff;
    siphash__rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
