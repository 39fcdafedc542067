/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/mt19937.h"

enum { N = 624, M = 397 };

static void init_one(uint32_t *s, uint32_t seed) {
    s[0] = seed;
    for (uint32_t i = 1; i < N; i++) s[i] = 1812433253u * (s[i - 1] ^ (s[i - 1] >> 30)) + i;
}

void lt_mt19937_seed(lt_mt19937 *r, uint64_t seed) {
    const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    const size_t n_key = key[1] ? 2 : 1;
    uint32_t *s = r->state;
    size_t i = 1, j = 0;
    init_one(s, 19650218u);
    for (size_t k = N; k > 0; k--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1664525u)) + key[j] + (uint32_t)j;
        if (++i >= N) s[0] = s[N - 1], i = 1;
        if (++j >= n_key) j = 0;
    }
    for (size_t k = N - 1; k > 0; k--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1566083941u)) - (uint32_t)i;
        if (++i >= N) s[0] = s[N - 1], i = 1;
    }
    s[0] = 0x80000000u;
    r->next = N;
}

static void refill(lt_mt19937 *r) {
    uint32_t *s = r->state;
    for (size_t i = 0; i < N; i++) {
        const uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    r->next = 0;
}

uint32_t lt_mt19937_u32(lt_mt19937 *r) {
    if (r->next >= N) refill(r);
    uint32_t y = r->state[r->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

double lt_mt19937_uniform(lt_mt19937 *r) {
    const uint32_t a = lt_mt19937_u32(r) >> 5, b = lt_mt19937_u32(r) >> 6;
    return (a * 67108864.0 + b) / 9007199254740992.0;
}

uint32_t lt_mt19937_below(lt_mt19937 *r, uint32_t n) {
    int bits = 0;
    while (bits < 32 && n >> bits) bits++;
    uint32_t v;
    do v = lt_mt19937_u32(r) >> (32 - bits);
    while (v >= n);
    return v;
}
