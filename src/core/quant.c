/* SPDX-License-Identifier: Apache-2.0 */
#include "core/quant.h"

#include <math.h>
#include <string.h>

#include "core/tensor.h"

static float load_f16(const uint8_t *p) {
    return lt_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

static void store_f16(uint8_t *p, float f) {
    const uint16_t h = lt_f32_to_f16(f);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

static uint32_t load_u32(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

void lt_q8_0_to_f32(float *restrict dst, const void *src, size_t n) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 34) {
        const float d = load_f16(b);
        for (size_t j = 0; j < 32; j++) dst[i + j] = (float)(int8_t)b[2 + j] * d;
    }
}

void lt_q4_0_to_f32(float *restrict dst, const void *src, size_t n) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 18) {
        const float d = load_f16(b);
        for (size_t j = 0; j < 16; j++) {
            dst[i + j] = d * (float)((b[2 + j] & 15) - 8);
            dst[i + j + 16] = d * (float)((b[2 + j] >> 4) - 8);
        }
    }
}

void lt_q4_1_to_f32(float *restrict dst, const void *src, size_t n) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 20) {
        const float d = load_f16(b), m = load_f16(b + 2);
        for (size_t j = 0; j < 16; j++) {
            dst[i + j] = d * (float)(b[4 + j] & 15) + m;
            dst[i + j + 16] = d * (float)(b[4 + j] >> 4) + m;
        }
    }
}

void lt_q5_0_to_f32(float *restrict dst, const void *src, size_t n) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 22) {
        const float d = load_f16(b);
        const uint32_t high = load_u32(b + 2);
        for (size_t j = 0; j < 16; j++) {
            const uint32_t low = b[6 + j] & 15, up = b[6 + j] >> 4;
            dst[i + j] = d * (float)((int)(low | (high >> j & 1) << 4) - 16);
            dst[i + j + 16] = d * (float)((int)(up | (high >> (j + 16) & 1) << 4) - 16);
        }
    }
}

void lt_q5_1_to_f32(float *restrict dst, const void *src, size_t n) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 24) {
        const float d = load_f16(b), m = load_f16(b + 2);
        const uint32_t high = load_u32(b + 4);
        for (size_t j = 0; j < 16; j++) {
            const uint32_t low = b[8 + j] & 15, up = b[8 + j] >> 4;
            dst[i + j] = d * (float)(int)(low | (high >> j & 1) << 4) + m;
            dst[i + j + 16] = d * (float)(int)(up | (high >> (j + 16) & 1) << 4) + m;
        }
    }
}

/* Pair k of eight 6-bit (scale, min) pairs in 12 bytes: the first four lie in the low six bits of bytes 0-3 and 4-7;
 * the last four have their low halves in bytes 8-11 and their top two bits above the first four. */
static void scale_min(const uint8_t *s, size_t k, float *scale, float *min) {
    if (k < 4) {
        *scale = (float)(s[k] & 63);
        *min = (float)(s[k + 4] & 63);
    } else {
        *scale = (float)((s[k + 4] & 15) | (s[k - 4] >> 6) << 4);
        *min = (float)((s[k + 4] >> 4) | (s[k] >> 6) << 4);
    }
}

/* q4_k, and q5_k when fifth is not NULL: eight runs of 32 values, two runs to 32 bytes of halves. */
static void k_block(float *restrict dst, const uint8_t *head, const uint8_t *fifth, const uint8_t *halves) {
    const float d = load_f16(head), dmin = load_f16(head + 2);
    for (size_t k = 0; k < 8; k++) {
        float scale, min;
        scale_min(head + 4, k, &scale, &min);
        const float ds = d * scale, dm = dmin * min;
        for (size_t j = 0; j < 32; j++) {
            const int low = halves[k / 2 * 32 + j] >> (k % 2 * 4) & 15;
            const int q = fifth ? low | (fifth[j] >> k & 1) << 4 : low;
            dst[k * 32 + j] = ds * (float)q - dm;
        }
    }
}

void lt_q4_k_to_f32(float *restrict dst, const void *src, size_t n) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 256, b += 144) k_block(dst + i, b, NULL, b + 16);
}

void lt_q5_k_to_f32(float *restrict dst, const void *src, size_t n) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 256, b += 176) k_block(dst + i, b, b + 16, b + 48);
}

/* Two halves of 128 values; in each, run r of 32 takes its low four bits from 32 bytes (low or high halves) and its
 * top two bits from bit pair r of 32 other bytes. */
void lt_q6_k_to_f32(float *restrict dst, const void *src, size_t n) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 256, b += 210) {
        const float d = load_f16(b + 208);
        for (size_t k = 0; k < 256; k++) {
            const size_t half = k / 128, run = k % 128 / 32, j = k % 32;
            const int low = b[half * 64 + run % 2 * 32 + j] >> (run / 2 * 4) & 15;
            const int top = b[128 + half * 32 + j] >> (run * 2) & 3;
            const float ds = d * (float)(int8_t)b[192 + k / 16];
            dst[i + k] = ds * (float)((low | top << 4) - 32);
        }
    }
}

/* NaN goes to lo */
static float clamp(float x, float lo, float hi) {
    return x > lo ? (x < hi ? x : hi) : lo;
}

void lt_q8_0_from_f32(void *dst, const float *restrict src, size_t n) {
    uint8_t *b = dst;
    for (size_t i = 0; i < n; i += 32, b += 34) {
        float most = 0.0f;
        for (size_t j = 0; j < 32; j++) most = fmaxf(most, fabsf(src[i + j]));
        const float d = most / 127.0f, inverse = d == 0.0f ? 0.0f : 1.0f / d;
        store_f16(b, d);
        for (size_t j = 0; j < 32; j++)
            b[2 + j] = (uint8_t)(int8_t)clamp(roundf(src[i + j] * inverse), -128.0f, 127.0f);
    }
}

void lt_q4_0_from_f32(void *dst, const float *restrict src, size_t n) {
    uint8_t *b = dst;
    for (size_t i = 0; i < n; i += 32, b += 18) {
        float most = src[i];
        for (size_t j = 1; j < 32; j++)
            if (fabsf(src[i + j]) > fabsf(most)) most = src[i + j];
        const float d = most / -8.0f, inverse = d == 0.0f ? 0.0f : 1.0f / d;
        store_f16(b, d);
        for (size_t j = 0; j < 16; j++) {
            const uint8_t low = (uint8_t)clamp(src[i + j] * inverse + 8.5f, 0.0f, 15.0f);
            const uint8_t up = (uint8_t)clamp(src[i + j + 16] * inverse + 8.5f, 0.0f, 15.0f);
            b[2 + j] = (uint8_t)(low | up << 4);
        }
    }
}
