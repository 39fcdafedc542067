/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tensor.h"

#include <string.h>

#include "core/quant.h"

/* Files promise no alignment, so elements are loaded by memcpy; compilers make it a plain load. */
#define WIDEN(name, type, expression)                                                                                  \
    static void name##_to_f32(float *restrict dst, const void *src, size_t n) {                                        \
        for (size_t i = 0; i < n; i++) {                                                                               \
            type x;                                                                                                    \
            memcpy(&x, (const char *)src + i * sizeof x, sizeof x);                                                    \
            dst[i] = (expression);                                                                                     \
        }                                                                                                              \
    }
#define NARROW(name, type, expression)                                                                                 \
    static void name##_from_f32(void *dst, const float *restrict src, size_t n) {                                      \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const type x = (expression);                                                                               \
            memcpy((char *)dst + i * sizeof x, &x, sizeof x);                                                          \
        }                                                                                                              \
    }
WIDEN(f64, double, (float)x)
WIDEN(f32, float, x)
WIDEN(f16, uint16_t, lt_f16_to_f32(x))
WIDEN(bf16, uint16_t, lt_bf16_to_f32(x))
WIDEN(i64, int64_t, (float)x)
WIDEN(i32, int32_t, (float)x)
WIDEN(u32, uint32_t, (float)x)
WIDEN(u16, uint16_t, (float)x)
WIDEN(i8, int8_t, (float)x)
WIDEN(u8, uint8_t, (float)x)
WIDEN(bool, uint8_t, x ? 1.0f : 0.0f)
NARROW(f64, double, (double)src[i])
NARROW(f32, float, src[i])
NARROW(f16, uint16_t, lt_f32_to_f16(src[i]))
NARROW(bf16, uint16_t, lt_f32_to_bf16(src[i]))

static const lt_dtype_row rows[LT_N_DTYPES] = {
    /*            name   safetensors gguf block bytes float */
    [LT_F64] = { "f64", "F64", 28, 1, 8, true, f64_to_f32, f64_from_f32 },
    [LT_F32] = { "f32", "F32", 0, 1, 4, true, f32_to_f32, f32_from_f32 },
    [LT_F16] = { "f16", "F16", 1, 1, 2, true, f16_to_f32, f16_from_f32 },
    [LT_BF16] = { "bf16", "BF16", 30, 1, 2, true, bf16_to_f32, bf16_from_f32 },
    [LT_I64] = { "i64", "I64", 27, 1, 8, false, i64_to_f32, NULL },
    [LT_I32] = { "i32", "I32", 26, 1, 4, false, i32_to_f32, NULL },
    [LT_U32] = { "u32", "U32", -1, 1, 4, false, u32_to_f32, NULL },
    [LT_U16] = { "u16", "U16", -1, 1, 2, false, u16_to_f32, NULL },
    [LT_I8] = { "i8", "I8", 24, 1, 1, false, i8_to_f32, NULL },
    [LT_U8] = { "u8", "U8", -1, 1, 1, false, u8_to_f32, NULL },
    [LT_BOOL] = { "bool", "BOOL", -1, 1, 1, false, bool_to_f32, NULL },
    [LT_Q8_0] = { "q8_0", NULL, 8, 32, 34, true, lt_q8_0_to_f32, lt_q8_0_from_f32 },
    [LT_Q4_0] = { "q4_0", NULL, 2, 32, 18, true, lt_q4_0_to_f32, lt_q4_0_from_f32 },
    [LT_Q4_1] = { "q4_1", NULL, 3, 32, 20, true, lt_q4_1_to_f32, NULL },
    [LT_Q5_0] = { "q5_0", NULL, 6, 32, 22, true, lt_q5_0_to_f32, NULL },
    [LT_Q5_1] = { "q5_1", NULL, 7, 32, 24, true, lt_q5_1_to_f32, NULL },
    [LT_Q4_K] = { "q4_k", NULL, 12, 256, 144, true, lt_q4_k_to_f32, NULL },
    [LT_Q5_K] = { "q5_k", NULL, 13, 256, 176, true, lt_q5_k_to_f32, NULL },
    [LT_Q6_K] = { "q6_k", NULL, 14, 256, 210, true, lt_q6_k_to_f32, NULL },
};

const lt_dtype_row *lt_dtype_get(lt_dtype t) {
    return &rows[t];
}

bool lt_dtype_find(const char *name, lt_dtype *out) {
    for (int t = 0; t < LT_N_DTYPES; t++) {
        const lt_dtype_row *row = &rows[t];
        if (strcmp(row->name, name) != 0 && !(row->safetensors && strcmp(row->safetensors, name) == 0)) continue;
        *out = (lt_dtype)t;
        return true;
    }
    return false;
}

bool lt_dtype_find_gguf(uint32_t ggml_type, lt_dtype *out) {
    for (int t = 0; t < LT_N_DTYPES; t++)
        if (rows[t].gguf >= 0 && (uint32_t)rows[t].gguf == ggml_type) {
            *out = (lt_dtype)t;
            return true;
        }
    return false;
}
