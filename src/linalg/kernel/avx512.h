/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/kernel/avx512.h - the hooks of vec.h for AVX-512 and the kernels on them; the including file has set TABLE,
 * TABLE_NAME and UNIT. */
#include <immintrin.h>

#include "linalg/kernel/tables.h"

#define W 16
#define LOOKUP 1
#define POWER 1
#define MASKS 1
#define TILE_ROWS 8
#define TILE_VECTORS 3
#include "linalg/kernel/vec.h"

INLINE vu load_u8(const void *p) {
    return (vu)_mm512_cvtepu8_epi32(_mm_loadu_si128(p));
}
INLINE vi load_i8(const void *p) {
    return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128(p));
}
INLINE vu load_u16(const void *p) {
    return (vu)_mm512_cvtepu16_epi32(_mm256_loadu_si256(p));
}
INLINE vf load_f16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
INLINE vf half_splat(const void *p) {
    int16_t h;
    memcpy(&h, p, sizeof h);
    return _mm512_cvtph_ps(_mm256_set1_epi16(h));
}
INLINE void copy_part(void *to, const void *from, size_t n) {
    _mm512_storeu_si512(to, _mm512_maskz_loadu_epi8(n < 64 ? ((__mmask64)1 << n) - 1 : ~(__mmask64)0, from));
}
INLINE vf load_part(const float *p, size_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void store_part(float *p, vf v, size_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}
INLINE vf vmin(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
INLINE vf vmax(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
INLINE vf fused(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
INLINE float lane_sum(vf v) {
    return _mm512_reduce_add_ps(v);
}
INLINE float lane_max(vf v) {
    return _mm512_reduce_max_ps(v);
}
INLINE vf rounded(vf x) {
    __asm__("" : "+v"(x));
    return x;
}
INLINE vu multiply_wide(vu x, uint32_t m, vu *low) {
    const __m512i by = _mm512_set1_epi32((int)m), even = _mm512_mul_epu32((__m512i)x, by),
                  odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)x, 32), by);
    *low = (vu)_mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
    return (vu)_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
}
INLINE vf times_power(vf p, vf k) {
    return _mm512_scalef_ps(p, k);
}
INLINE vf look16(vf table, vu index) {
    return _mm512_permutexvar_ps((__m512i)index, table);
}
/* low: a0 b0 a1 b1 ... a7 b7; high: a8 b8 ... */
INLINE vf zip_low(vf a, vf b) {
    const __m512i index = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, index, b);
}
INLINE vf zip_high(vf a, vf b) {
    const __m512i index = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, index, b);
}

#include "linalg/kernel/tile.h"
#include "linalg/kernel/body.h"
