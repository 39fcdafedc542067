/* SPDX-License-Identifier: Apache-2.0 */
/* core/quant.h - GGUF block formats to and from f32, the functions of the dtype rows.
 *
 * Little-endian blocks; d, m, dmin are f16, products and sums are single f32 roundings in the order written, so that
 * results equal gguf-py's gguf.quants (the tests compare bytes) and ggml's dequantize_row_*.
 *
 *   q8_0  32: d, 32 x i8                             x = d q
 *   q4_0  32: d, 16 bytes (low halves first)         x = d (q - 8)
 *   q4_1  32: d, m, 16 bytes                         x = d q + m
 *   q5_0  32: d, u32 of fifth bits, 16 bytes         x = d (q - 16)
 *   q5_1  32: d, m, u32 of fifth bits, 16 bytes      x = d q + m
 *   q4_k 256: d, dmin, 12 bytes of 6-bit (scale, min) pairs, 128 bytes           x = (d s) q - (dmin m)
 *   q5_k 256: d, dmin, 12 bytes, 32 bytes of fifth bits, 128 bytes               x = (d s) q - (dmin m)
 *   q6_k 256: 128 bytes low, 64 bytes of bits 5 and 6, 16 x i8 scale, d          x = (d s) (q - 32)
 *
 * Source: ggml/src/ggml-common.h (block_*), ggml-quants.c, gguf-py/gguf/quants.py.
 * Quantisers: q8_0 d = max|x| / 127, halves away from zero; q4_0 d = (the x of largest |x|) / -8, floor(x/d + 8.5).
 * Blocks with infinities or NaN give unspecified but defined bytes; callers check weights beforehand. */
#ifndef LT_CORE_QUANT_H
#define LT_CORE_QUANT_H

#include "core/core.h"

void lt_q8_0_to_f32(float *restrict dst, const void *src, size_t n);
void lt_q4_0_to_f32(float *restrict dst, const void *src, size_t n);
void lt_q4_1_to_f32(float *restrict dst, const void *src, size_t n);
void lt_q5_0_to_f32(float *restrict dst, const void *src, size_t n);
void lt_q5_1_to_f32(float *restrict dst, const void *src, size_t n);
void lt_q4_k_to_f32(float *restrict dst, const void *src, size_t n);
void lt_q5_k_to_f32(float *restrict dst, const void *src, size_t n);
void lt_q6_k_to_f32(float *restrict dst, const void *src, size_t n);
void lt_q8_0_from_f32(void *dst, const float *restrict src, size_t n);
void lt_q4_0_from_f32(void *dst, const float *restrict src, size_t n);

#endif
