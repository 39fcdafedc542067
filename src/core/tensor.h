/* core/tensor.h - dtypes as rows, and tensors as views: dtype, sizes, strides, buffer + offset.
 *
 * A tensor owns nothing. Sizes are outermost first; strides count elements (for block types: elements
 * too, and only the last dimension is dense). A "matrix" is any tensor whose last dimension is dense:
 * its rows are the leading dimensions flattened, so a GGUF's interleaved rotary rows are a 4-d view
 * [heads, 2, head_dim/2, in] over stored [heads, head_dim/2, 2, in] and nothing is copied.
 * Block formats: ggml's block_q8_0 ... block_q6_K layouts (GGUF spec, ggml-quants). */
#ifndef LT_CORE_TENSOR_H
#define LT_CORE_TENSOR_H

#include "core/core.h"

typedef enum lt_dtype {
    LT_F64,
    LT_F32,
    LT_F16,
    LT_BF16,
    LT_I64,
    LT_I32,
    LT_U32,
    LT_U16,
    LT_I8,
    LT_U8,
    LT_BOOL,
    LT_Q8_0,
    LT_Q4_0,
    LT_Q4_1,
    LT_Q5_0,
    LT_Q5_1,
    LT_Q4_K,
    LT_Q5_K,
    LT_Q6_K,
    LT_N_DTYPES
} lt_dtype;

typedef struct lt_dtype_row {
    const char *name;        /* "bf16", "q8_0" */
    const char *safetensors; /* "BF16"; NULL: not storable there */
    int gguf;                /* ggml_type number; -1: none */
    size_t block, bytes;     /* elements per block (1 for plain types), bytes per block */
    bool is_float;           /* real values: to_f32 is meaningful for compute */
    void (*to_f32)(float *restrict dst, const void *src,
                   size_t n); /* n a multiple of block; portable, exact by the format */
    void (*from_f32)(void *dst, const float *restrict src, size_t n); /* round to nearest even; NULL: not written */
} lt_dtype_row;
const lt_dtype_row *lt_dtype_get(lt_dtype t);
bool lt_dtype_find(const char *name, lt_dtype *out); /* by name or safetensors name */
bool lt_dtype_find_gguf(uint32_t ggml_type, lt_dtype *out);

static inline float lt_bf16_to_f32(uint16_t h) {
    union {
        uint32_t u;
        float f;
    } v = { .u = (uint32_t)h << 16 };
    return v.f;
}
/* nearest even, NaN stays NaN (quiet) */
static inline uint16_t lt_f32_to_bf16(float f) {
    union {
        float f;
        uint32_t u;
    } v = { .f = f };
    const uint32_t nan = v.u >> 16 | 0x40, near = (v.u + 0x7fffu + (v.u >> 16 & 1)) >> 16;
    return (uint16_t)((v.u & 0x7fffffffu) > 0x7f800000u ? nan : near);
}
float lt_f16_to_f32(uint16_t h);
uint16_t lt_f32_to_f16(float f);
bool lt_all_finite(const float *x, size_t n);

#define LT_MAX_RANK 6
typedef struct lt_buffer {
    void *data; /* host bytes; NULL for a device buffer */
    size_t bytes;
    bool mapped; /* file pages: may be dropped and come back */
} lt_buffer;

typedef struct lt_tensor {
    lt_dtype dtype;
    int rank;
    size_t size[LT_MAX_RANK];
    size_t stride[LT_MAX_RANK]; /* in elements */
    lt_buffer *buffer;          /* borrowed */
    size_t offset;              /* bytes into buffer */
} lt_tensor;

lt_tensor lt_tensor_dense(lt_dtype t, int rank, const size_t *size, lt_buffer *buffer, size_t offset);
size_t lt_tensor_count(const lt_tensor *t); /* elements */
size_t lt_tensor_bytes(const lt_tensor *t); /* of the elements, dense */
bool lt_tensor_is_dense(const lt_tensor *t);
size_t lt_tensor_rows(const lt_tensor *t); /* product of all but the last size; 1 for rank 1 */
size_t lt_tensor_cols(const lt_tensor *t); /* last size; 1 for rank 0 */
/* Host address of the tensor; NULL when it is not on the host. */
const void *lt_host(const lt_tensor *t);
/* Host address of row r (leading dimensions unravelled); the row is dense. */
const void *lt_tensor_row(const lt_tensor *t, size_t r);
/* Row r widened to f32, columns [c0, c0 + n); c0 and n multiples of the block. */
void lt_tensor_row_f32(float *restrict dst, const lt_tensor *t, size_t r, size_t c0, size_t n);
/* Tells the kernel that mapped pages of t are not needed for now (madvise); no-op for other memory. */
void lt_tensor_drop(const lt_tensor *t);
/* "f32 [576, 1536]" into buf */
const char *lt_tensor_describe(const lt_tensor *t, char *buf, size_t cap);

#endif
