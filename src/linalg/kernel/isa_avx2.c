/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/kernel/tables.h"

#include <immintrin.h>

#define W 8
#define TABLE lt_kernels_avx2
#define TABLE_NAME "avx2"
#define UNIT NULL
#define TILE_ROWS 6
#define TILE_VECTORS 2
#include "linalg/kernel/vec.h"

INLINE vu load_u8(const void *p) {
    return (vu)_mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
}
INLINE vi load_i8(const void *p) {
    return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64(p));
}
INLINE vu load_u16(const void *p) {
    return (vu)_mm256_cvtepu16_epi32(_mm_loadu_si128(p));
}
INLINE vf load_f16(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}
INLINE vf half_splat(const void *p) {
    int16_t h;
    memcpy(&h, p, sizeof h);
    return _mm256_cvtph_ps(_mm_set1_epi16(h));
}
INLINE vf vmin(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
INLINE vf vmax(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
INLINE vf fused(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
INLINE float lane_sum(vf v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
INLINE float lane_max(vf v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
INLINE vf rounded(vf x) {
    __asm__("" : "+x"(x));
    return x;
}
INLINE vu multiply_wide(vu x, uint32_t m, vu *low) {
    const __m256i by = _mm256_set1_epi32((int)m), even = _mm256_mul_epu32((__m256i)x, by),
                  odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)x, 32), by);
    *low = (vu)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    return (vu)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}
/* low: a0 b0 a1 b1 ... a3 b3; high: a4 b4 ... */
INLINE vf zip_low(vf a, vf b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
}
INLINE vf zip_high(vf a, vf b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
}

#include "linalg/kernel/tile.h"
#include "linalg/kernel/body.h"
