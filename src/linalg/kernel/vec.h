/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/kernel/vec.h - vectors of W f32 lanes as compiler extensions. The including file has set W.
 *
 * What the extensions lack or compile badly (gcc 12 scatters u8 -> u32 through scalar registers) each isa_*.c defines
 * as hooks before it includes body.h: load_u8, load_i8, load_u16 (W integers widened to 32 bits), load_f16, half_splat
 * (one f16 in all lanes), vmin, vmax (the second operand when one is NaN), fused (a b + c, rounded once), lane_sum and
 * lane_max (a fixed tree), rounded (x, opaque to the contraction of a product with a sum), multiply_wide (64-bit
 * products with a constant: their high and low halves), zip_low and zip_high (lanes of two vectors in turn), and, where
 * LOOKUP is set, look16(table, index): table[index & 15] per lane; where POWER is set, times_power(p, k): p 2^k, k
 * whole; where MASKS is set, copy_part, load_part and store_part, which copy through memory otherwise. */
#ifndef LT_LINALG_KERNEL_VEC_H
#define LT_LINALG_KERNEL_VEC_H

#include <stdint.h>
#include <string.h>

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef float vhalf __attribute__((vector_size(2 * W))); /* W / 2 lanes: as many as vd */
typedef double vd __attribute__((vector_size(4 * W)));

#define INLINE static inline __attribute__((always_inline))

INLINE vf load(const void *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store(void *p, vf v) {
    memcpy(p, &v, sizeof v);
}
INLINE vf splat(float a) {
    return a - (vf){ 0.0f };
}
INLINE vd load_f64(const float *p) { /* W / 2 floats as doubles */
    vhalf h;
    memcpy(&h, p, sizeof h);
    return __builtin_convertvector(h, vd);
}

/* copy_part: n <= 4 W bytes to a buffer of 4 W, zeros after them. load_part, store_part: n < W floats; zeros after
 * them. */
#ifndef MASKS
INLINE void copy_part(void *to, const void *from, size_t n) {
    memset(to, 0, 4 * W);
    memcpy(to, from, n);
}
INLINE vf load_part(const float *p, size_t n) {
    float part[W];
    copy_part(part, p, n * sizeof *p);
    return load(part);
}
INLINE void store_part(float *p, vf v, size_t n) {
    memcpy(p, &v, n * sizeof *p);
}
#endif

#endif
