/* bench/load.c - the arithmetic of a load generator. */
#include "bench/load.h"
#include <math.h>

/* ---- when to send ---- */

/* splitmix64, which makes a good state of any seed. */
static uint64_t mix(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* xoroshiro128+: above 0, at most 1. */
static double chance(struct arrivals *arrivals)
{
    uint64_t a = arrivals->_state[0], b = arrivals->_state[1], sum = a + b;

    b ^= a;
    arrivals->_state[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
    arrivals->_state[1] = b << 37 | b >> 27;
    return (double)((sum >> 11) + 1) * 0x1p-53;
}

void arrivals_init(struct arrivals *arrivals, double rate, bool is_poisson, uint64_t seed)
{
    *arrivals = (struct arrivals){.rate = rate, .is_poisson = is_poisson};
    arrivals->_state[0] = mix(&seed);
    arrivals->_state[1] = mix(&seed);
}

uint64_t arrivals_next(struct arrivals *arrivals)
{
    if (arrivals->is_poisson)
        arrivals->_at_s -= log(chance(arrivals)) / arrivals->rate;
    else /* not a sum, in which errors add up */
        arrivals->_at_s = (double)arrivals->count / arrivals->rate;
    arrivals->count++;
    return (uint64_t)(arrivals->_at_s * 1e9);
}

/* ---- how long it took ---- */

static const uint64_t MOST_US = (UINT64_C(1) << LATENCIES_TOP) - 1;

/* Below 2^LATENCIES_BITS each has a bucket of its own; above, the bits behind the first one
 * count. */
static uint32_t bucket_of(uint64_t us)
{
    uint32_t shift;

    if (us > MOST_US)
        us = MOST_US;
    if (us >> LATENCIES_BITS == 0)
        return (uint32_t)us;
    shift = 63u - (uint32_t)__builtin_clzll(us) - LATENCIES_BITS;
    return (shift << LATENCIES_BITS) + (uint32_t)(us >> shift);
}

/* The longest time that is counted there. */
static uint64_t longest_in(uint32_t bucket)
{
    uint32_t shift;

    if (bucket >> LATENCIES_BITS == 0)
        return bucket;
    shift = (bucket >> LATENCIES_BITS) - 1;
    return (((uint64_t)bucket - ((uint64_t)shift << LATENCIES_BITS) + 1) << shift) - 1;
}

void latencies_add(struct latencies *latencies, uint64_t us)
{
    latencies->_at[bucket_of(us)]++;
    latencies->count++;
    if (us > latencies->max_us)
        latencies->max_us = us;
}

void latencies_merge(struct latencies *latencies, const struct latencies *more)
{
    for (uint32_t i = 0; i < LATENCIES_BUCKETS; i++)
        latencies->_at[i] += more->_at[i];
    latencies->count += more->count;
    if (more->max_us > latencies->max_us)
        latencies->max_us = more->max_us;
}

uint64_t latencies_quantile(const struct latencies *latencies, double share)
{
    /* 0.07 of 1000 are 70, whatever the last bit of the product says. */
    uint64_t wanted = (uint64_t)ceil(share * (double)latencies->count - 1e-6), seen = 0;

    if (latencies->count == 0)
        return 0;
    if (wanted == 0)
        wanted = 1;
    for (uint32_t i = 0; i < LATENCIES_BUCKETS; i++) {
        seen += latencies->_at[i];
        if (seen >= wanted)
            return longest_in(i) < latencies->max_us ? longest_in(i) : latencies->max_us;
    }
    return latencies->max_us;
}
