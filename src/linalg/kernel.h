/* linalg/kernel.h - the table of hand-made f32 kernels: one plain version ("ref") and one body compiled per ISA.
 *
 * All pointers may be unaligned. Every entry is always valid: an ISA table falls back to ref entries.
 * Bounds against ref are in tests/linalg/test_kernel.c. No kernel allocates or can fail. */
#ifndef LT_LINALG_KERNEL_H
#define LT_LINALG_KERNEL_H

#include "core/core.h"
#include "core/tensor.h"

/* A unit that multiplies small matrices of bf16 and sums in f32 (Intel AMX). f32 operands come as three parts,
 * x = x0 + x1 + x2 exactly, each a bf16 (8 bits of the significand, round to nearest even), and products of parts whose
 * orders add up to more than 2 (below 2^-26 of the product) are left out: sums are as exact as in f32. Blocks are
 * LT_UNIT x LT_UNIT, in steps of LT_UNIT inner indices; what is past the end is zeros.
 *   left:  per step, per part, rows 0-15 then 16-31: 16 rows of 32 inner indices
 *   right: per part (part_stride apart), per step, columns 0-15 then 16-31: 16 pairs of inner indices of 16 columns */
enum { LT_UNIT = 32, LT_UNIT_PARTS = 3, LT_UNIT_STEP = LT_UNIT * LT_UNIT };
typedef struct lt_matrix_unit {
    void (*enter)(void), (*leave)(void); /* around its use, on each thread */
    /* a[i, q] = a[i rs + q cs], i < rows <= LT_UNIT, q < n; one of rs, cs is 1 */
    void (*left)(uint16_t *dst, const float *a, size_t rs, size_t cs, size_t rows, size_t n);
    /* The column j < cols <= LT_UNIT is b[j ldb + q] (rows), or b[q ldb + j] (columns). They give the number of parts
     * that are not all zero. */
    size_t (*right_rows)(uint16_t *dst, size_t part_stride, const float *b, size_t ldb, size_t cols, size_t n);
    size_t (*right_columns)(uint16_t *dst, size_t part_stride, const float *b, size_t ldb, size_t cols, size_t n);
    void (*right_bf16)(uint16_t *dst, const uint16_t *b, size_t ldb, size_t cols, size_t n); /* rows; one part */
    void (*right_of_left)(uint16_t *dst, size_t part_stride, const uint16_t *left, size_t steps);
    /* c[i, j] = alpha sum_q left[i, q] right[q, j] + beta c[i, j], i < rows, j < cols; beta 0: c is not read */
    void (*multiply)(float *c, size_t ldc, float alpha, float beta, const uint16_t *left, const uint16_t *right,
                     size_t part_stride, size_t parts, size_t steps, size_t rows, size_t cols);
} lt_matrix_unit;

typedef struct lt_kernels {
    const char *name; /* "ref", "avx2", "avx512", "amx", "neon" */
    /* widen n elements of dtype t to f32 (n a multiple of the block) */
    void (*widen)(float *restrict dst, lt_dtype t, const void *src, size_t n);
    /* y[j] = sum_i x[j*ldx + i] * w[i], j < rows <= 8, i < n: one stored row against a few f32 rows, straight
     * from the storage dtype (f32 f16 bf16 and every block type); f32 accumulators in a fixed lane order */
    void (*dot_rows)(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, lt_dtype t, const void *w,
                     size_t n);
    /* y[r] = sum_i x[i] * w[r][i], r < rows, i < n: stored rows, each `stride` bytes after the one before, against one
     * f32 row; the bits of dot_rows */
    void (*dot_stored)(float *y, const float *x, lt_dtype t, const void *w, size_t stride, size_t rows, size_t n);
    /* y[i] += a * w[i]: rows of stored V, or in_out weights, times a scalar */
    void (*axpy)(float *y, float a, lt_dtype t, const void *w, size_t n);
    void (*exp_rows)(float *y, const float *x, size_t n); /* y = exp(x), <= 2 ulp on [-87, 88]; -inf gives 0 */
    /* softmax helper: y = exp(x*scale - m), returns the sum in f32 lanes, fixed order */
    float (*exp_sum)(float *y, const float *x, float scale, float m, size_t n);
    float (*max)(const float *x, size_t n); /* -INFINITY for n = 0 */
    double (*sumsq)(const float *x, size_t n);
    void (*scale)(float *y, const float *x, float a, size_t n);               /* y = a*x */
    void (*mul)(float *y, const float *x, const float *w, float a, size_t n); /* y = a*x*w, the tail of rms norm */
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*silu_mul)(float *y, const float *g, const float *u, size_t n); /* silu(g)*u; u NULL: silu(g) */
    /* du = dy silu(g), dg = dy u silu'(g) */
    void (*silu_back)(float *dg, float *du, const float *dy, const float *g, const float *u, size_t n);
    double (*dot3)(const float *a, const float *b, const float *c, size_t n); /* sum of a*b*c; c NULL: of a*b */
    /* dx = a dy w + b (x - mean) + c (+ dx when add): the way back through a norm */
    void (*norm_back)(float *dx, const float *dy, const float *w, const float *x, const float abc[3], float mean,
                      bool add, size_t n);
    /* half-split rotation of one head: x[0..r), r even; cs = cos[r/2], sn = sin[r/2]; y may be x */
    void (*rope)(float *y, const float *x, const float *cs, const float *sn, size_t r);
    /* acc[i] += x[r ldx + i], f64 += f32, r < rows in order */
    void (*add_f64)(double *acc, const float *x, size_t ldx, size_t rows, size_t n);
    /* ---- dropout: entry j is kept where bit j % 8 of mask[j / 8] is set ---- */
    /* Bit j: 16-bit number j of the stream, low halves first, is at least `below`; so are the last byte's bits past n.
     * The stream is at its beginning. */
    void (*mask_draw)(uint8_t *mask, const lt_rng *stream, uint32_t below, size_t n);
    void (*mask_mul)(float *y, const float *x, const uint8_t *mask, float a, size_t n); /* y = a*x, or 0 */
    void (*mask_add)(float *y, const float *x, const uint8_t *mask, float a, size_t n); /* y += a*x where kept */
    /* ---- products; all 0 in "ref", which leaves them to OpenBLAS ---- */
    size_t lanes, tile_rows, tile_vectors; /* a register tile is at most tile_rows x (tile_vectors * lanes) */
    /* c[r, j] = alpha sum_q a[r rs + q cs] b[q ldb + j] + beta c[r, j], r < rows, j < vectors lanes, q < k; beta 0: c
     * is not read */
    void (*tile)(float *c, size_t ldc, float alpha, float beta, const float *a, size_t rs, size_t cs, const float *b,
                 size_t ldb, size_t k, size_t rows, size_t vectors);
    /* dst[q ldd + j] = src[j lds + q], j < lanes, q < n: a few stored rows as columns of b; zeros for j >= rows */
    void (*pack)(float *dst, size_t ldd, const float *src, size_t lds, size_t rows, size_t n);
    const lt_matrix_unit *unit; /* NULL: none */
} lt_kernels;

/* By name; NULL when unknown or when this CPU cannot run it. name NULL: the best this CPU can run. */
const lt_kernels *lt_kernels_get(const char *name);
/* i-th table of this build (also those the CPU cannot run are skipped); NULL past the end. For tests. */
const lt_kernels *lt_kernels_at(size_t i);

#endif
