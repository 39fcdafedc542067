/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tensor.h"

static uint32_t bits_of(float f) {
    union {
        float f;
        uint32_t u;
    } v = { .f = f };
    return v.u;
}

static float float_of(uint32_t u) {
    union {
        uint32_t u;
        float f;
    } v = { .u = u };
    return v.f;
}

float lt_f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ffu;
    if (exponent == 31) return float_of(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) return float_of(sign | bits_of((float)mantissa * 0x1p-24f)); /* subnormal or zero, exact */
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t lt_f32_to_f16(float f) {
    const uint32_t u = bits_of(f), sign = u >> 16 & 0x8000u;
    uint32_t a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (a >> 13 & 0x3ffu));
    if (a >= 0x47800000u) return (uint16_t)(sign | 0x7c00u); /* 2^16 and more */
    if (a >= 0x38800000u) {                                  /* 2^-14 and more; a carry may reach infinity, rightly */
        a += 0xfffu + (a >> 13 & 1);
        return (uint16_t)(sign | (a - 0x38000000u) >> 13);
    }
    if (a <= 0x33000000u) return (uint16_t)sign; /* up to 2^-25, half the smallest subnormal: a tie goes to zero */
    const uint32_t shift = 126 - (a >> 23), mantissa = (a & 0x7fffffu) | 0x800000u;
    const uint32_t low = mantissa & ((1u << shift) - 1), half = 1u << (shift - 1);
    uint32_t h = mantissa >> shift;
    h += low > half || (low == half && (h & 1));
    return (uint16_t)(sign | h);
}

/* All exponent bits set: Inf or NaN. Integers, so that the compiler may take many at once. */
bool lt_all_finite(const float *x, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) bad |= (bits_of(x[i]) & 0x7f800000u) == 0x7f800000u;
    return !bad;
}
