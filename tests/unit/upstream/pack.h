/* upstream/pack.h - gzip for tests, and texts to pack.
 *
 * Memory: what is made is the test's to free().
 */
#ifndef WEFT_TESTS_UPSTREAM_PACK_H
#define WEFT_TESTS_UPSTREAM_PACK_H

#include "base/span.h"
#include "lib/test.h"

#include <stdint.h>
#include <stdlib.h>
#include <zlib.h>

/* gzip of `bytes`. */
static inline struct span pack(struct span bytes)
{
    z_stream stream = {0};
    size_t size = bytes.len + bytes.len / 1000 + 1000;
    unsigned char *out = malloc(size);

    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (unsigned char *)(uintptr_t)bytes.ptr;
    stream.avail_in = (unsigned)bytes.len;
    stream.next_out = out;
    stream.avail_out = (unsigned)size;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    (void)deflateEnd(&stream);
    return (struct span){(char *)out, size - stream.avail_out};
}

/* `size` bytes that pack to about a tenth. */
static inline char *pack_text(size_t size)
{
    char *made = malloc(size);

    for (size_t i = 0; i < size; i++)
        made[i] = (char)('a' + i * i % 23);
    return made;
}

/* `size` bytes that do not get any shorter. */
static inline char *pack_noise(size_t size)
{
    char *made = malloc(size);
    uint32_t seed = 1;

    for (size_t i = 0; i < size; i++) {
        seed = seed * 1664525u + 1013904223u;
        made[i] = (char)(seed >> 24);
    }
    return made;
}

#endif
