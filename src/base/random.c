/* SPDX-License-Identifier: Apache-2.0
 * PCG32 (XSH RR 64/32). Source: M. O'Neill, "PCG: A Family of Simple Fast Space-Efficient
 * Statistically Good Algorithms for Random Number Generation" (2014), section 6.3. */
#include "base/base.h"

#include <math.h>

static const double two_pi = 6.283185307179586476925286766559;

uint32_t soothe__rng_u32(struct soothe__rng *rng) {
    const uint64_t old = rng->state;
    rng->state         = old * UINT64_C(6364136223846793005) + rng->inc;
    const uint32_t x   = (uint32_t)(((old >> 18) ^ old) >> 27);
    const uint32_t r   = (uint32_t)(old >> 59);
    return (x >> r) | (x << ((32 - r) & 31));
}

struct soothe__rng soothe__rng_seed(uint64_t seed, uint64_t stream) {
    struct soothe__rng rng = {.state = 0, .inc = (stream << 1) | 1};
    soothe__rng_u32(&rng);
    rng.state += seed;
    soothe__rng_u32(&rng);
    return rng;
}

uint32_t soothe__rng_below(struct soothe__rng *rng, uint32_t n) {
    if (n < 2)
        return 0;
    /* 2^32 mod n values at the bottom are drawn again, so that every residue is equally likely. */
    const uint32_t threshold = (0u - n) % n;
    uint32_t       x;
    do
        x = soothe__rng_u32(rng);
    while (x < threshold);
    return x % n;
}

double soothe__rng_uniform(struct soothe__rng *rng) {
    const uint64_t high = soothe__rng_u32(rng);
    const uint64_t low  = soothe__rng_u32(rng);
    return (double)((high << 32 | low) >> 11) * 0x1p-53;
}

double soothe__rng_normal(struct soothe__rng *rng) {
    /* Box-Muller; the second figure is thrown away so that the generator is its two words and no more. */
    const double u = 1.0 - soothe__rng_uniform(rng); /* (0,1] */
    const double v = soothe__rng_uniform(rng);
    return sqrt(-2.0 * log(u)) * cos(two_pi * v);
}
