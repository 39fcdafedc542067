/* SPDX-License-Identifier: Apache-2.0 */
#include "core/core.h"

#include <math.h>

/* counter[0] counts blocks of the stream; counter[1..3] say which stream */
lt_rng lt_rng_at(uint64_t seed, uint32_t purpose, uint32_t step, uint32_t index) {
    return (lt_rng){
        .key = { (uint32_t)seed, (uint32_t)(seed >> 32) },
        .counter = { 0, purpose, step, index },
        .used = 4,
    };
}

/* Philox 4x32-10, Salmon et al. 2011, section 3.3 and table 2 */
static void philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = UINT64_C(0xD2511F53) * c0, p1 = UINT64_C(0xCD9E8D57) * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

uint32_t lt_rng_u32(lt_rng *r) {
    if (r->used == 4) {
        philox(r->block, r->counter, r->key);
        r->counter[0]++;
        r->used = 0;
    }
    return r->block[r->used++];
}

void lt_rng_fill(lt_rng *r, uint32_t *out, size_t n) {
    size_t i = 0;
    for (; i < n && r->used < 4; i++) out[i] = lt_rng_u32(r);
    for (; i + 4 <= n; i += 4, r->counter[0]++) philox(out + i, r->counter, r->key);
    for (; i < n; i++) out[i] = lt_rng_u32(r);
}

static uint64_t next_u64(lt_rng *r) {
    const uint64_t high = lt_rng_u32(r);
    return high << 32 | lt_rng_u32(r);
}

double lt_rng_uniform(lt_rng *r) {
    return (double)(next_u64(r) >> 11) * 0x1p-53;
}

double lt_rng_normal(lt_rng *r) {
    const double u = 1.0 - lt_rng_uniform(r); /* (0, 1]: the logarithm is finite */
    const double angle = 6.283185307179586476925 * lt_rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(angle);
}

uint64_t lt_rng_below(lt_rng *r, uint64_t n) {
    const uint64_t lowest = (0 - n) % n; /* 2^64 mod n: what is left is a multiple of n */
    uint64_t x;
    do x = next_u64(r);
    while (x < lowest);
    return x % n;
}
