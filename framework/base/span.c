/* base/span.c - comparing without case.
 *
 * By hand: strncasecmp() asks the locale, which a plugin may have set, and a name in a head is
 * ASCII whatever the country. Eight bytes at a time; what is left over is read once more together
 * with what is before it.
 */
#include "base/span.h"
#include <stdint.h>

#define EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Each byte of A to Z in lower case. The sums do not carry into the next byte, since its highest
 * bit was left out; they have that bit where the byte is at least 'A', or beyond 'Z'. */
static inline uint64_t lower(uint64_t word)
{
    uint64_t low = word & EACH_BYTE(0x7f);
    uint64_t from_a = low + EACH_BYTE(0x80 - 'A');
    uint64_t beyond_z = low + EACH_BYTE(0x7f - 'Z');

    return word | (((from_a & ~beyond_z & ~word) & EACH_BYTE(0x80)) >> 2);
}

static inline uint64_t eight(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

/* Up to seven bytes, in any order that tells them apart. */
static inline uint64_t fewer(const char *at, size_t len)
{
    uint32_t first, last;

    if (len < 4)
        return (uint64_t)(unsigned char)at[0] << 16 | (uint64_t)(unsigned char)at[len / 2] << 8 |
               (unsigned char)at[len - 1];
    memcpy(&first, at, sizeof(first));
    memcpy(&last, at + len - sizeof(last), sizeof(last));
    return (uint64_t)first << 32 | last;
}

/* Most names come as they are written here. */
static inline bool is_same(uint64_t a, uint64_t b)
{
    return a == b || lower(a) == lower(b);
}

bool span_is_nocase(const char *a, const char *b, size_t len)
{
    if (len < 8)
        return len == 0 || is_same(fewer(a, len), fewer(b, len));
    for (size_t at = 0; at + 8 < len; at += 8) {
        if (!is_same(eight(a + at), eight(b + at)))
            return false;
    }
    return is_same(eight(a + len - 8), eight(b + len - 8));
}
