/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/kernel/tables.h"

#include <arm_neon.h>

#define W 4
#define TABLE lt_kernels_neon
#define TABLE_NAME "neon"
#define UNIT NULL
#define TILE_ROWS 8
#define TILE_VECTORS 3
#include "linalg/kernel/vec.h"

/* four bytes in the low half of a 64-bit register */
INLINE uint8x8_t load_4(const void *p) {
    uint32_t bits;
    memcpy(&bits, p, sizeof bits);
    return vcreate_u8(bits);
}
INLINE vu load_u8(const void *p) {
    return (vu)vmovl_u16(vget_low_u16(vmovl_u8(load_4(p))));
}
INLINE vi load_i8(const void *p) {
    return (vi)vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_4(p)))));
}
INLINE uint16x4_t load_4_u16(const void *p) {
    uint64_t bits;
    memcpy(&bits, p, sizeof bits);
    return vcreate_u16(bits);
}
INLINE vu load_u16(const void *p) {
    return (vu)vmovl_u16(load_4_u16(p));
}
INLINE vf load_f16(const void *p) {
    return (vf)vcvt_f32_f16(vreinterpret_f16_u16(load_4_u16(p)));
}
INLINE vf half_splat(const void *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h)));
}
/* as the x86 instructions: the second operand when one is NaN */
INLINE vf vmin(vf a, vf b) {
    return (vf)vbslq_f32(vcltq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
}
INLINE vf vmax(vf a, vf b) {
    return (vf)vbslq_f32(vcgtq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
}
INLINE vf fused(vf a, vf b, vf c) {
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
INLINE float lane_sum(vf v) {
    return vaddvq_f32((float32x4_t)v);
}
INLINE float lane_max(vf v) {
    return vmaxvq_f32((float32x4_t)v);
}
INLINE vf rounded(vf x) {
    __asm__("" : "+w"(x));
    return x;
}
INLINE vu multiply_wide(vu x, uint32_t m, vu *low) {
    const uint64x2_t first = vmull_n_u32(vget_low_u32((uint32x4_t)x), m),
                     second = vmull_n_u32(vget_high_u32((uint32x4_t)x), m);
    *low = (vu)vcombine_u32(vmovn_u64(first), vmovn_u64(second));
    return (vu)vcombine_u32(vshrn_n_u64(first, 32), vshrn_n_u64(second, 32));
}
INLINE vf zip_low(vf a, vf b) {
    return (vf)vzip1q_f32((float32x4_t)a, (float32x4_t)b);
}
INLINE vf zip_high(vf a, vf b) {
    return (vf)vzip2q_f32((float32x4_t)a, (float32x4_t)b);
}

#include "linalg/kernel/tile.h"
#include "linalg/kernel/body.h"
