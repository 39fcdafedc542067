/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/packed.h - products on the register tiles of lt_kernels: stored weights are widened once, straight into
 * the order in which the tile reads them.
 *
 * y[m, n] = alpha a b + beta y, where a[i, q] = a[i rs + q cs] in f32 and b is a stored matrix of any float dtype: its
 * rows are the outputs (by_rows: b = wᵀ) or the inner dimension (b = w). Work is cut into tiles of outputs x rows by
 * shape; a thread packs the weights of its tile (96 or 192 outputs: a few hundred KiB, which stay in the L2 cache) and
 * runs all rows of the tile over them, eight rows (which stay in the L1 cache) at a time. An entry's bits depend on its
 * row of a, its column of b and k alone: not on threads, tiles or the other rows. Only for kernels with a tile. */
#ifndef LT_LINALG_PACKED_H
#define LT_LINALG_PACKED_H

#include "linalg/team.h"

typedef struct lt_packed {
    float *y;
    size_t ldy, m, n, k; /* y [m, n], inner dimension k */
    float alpha, beta;
    const float *a;
    size_t rs, cs; /* one of them 1 */
    const lt_tensor *w;
    bool by_rows;
} lt_packed;
void lt_packed_multiply(lt_team *team, const lt_packed *p);

/* c[m, n] = alpha op(a) op(b) + beta c on the calling thread and its stack (48 KiB), for small products inside a
 * parallel region; arguments as lt_gemm_f32, k >= 1. */
typedef struct lt_small {
    bool ta, tb;
    size_t m, n, k;
    float alpha, beta;
    const float *a, *b;
    float *c;
    size_t lda, ldb, ldc;
} lt_small;
void lt_small_multiply(const lt_kernels *k, const lt_small *s);

/* acc, a packed lower triangle, += what of the tile c [rows, cols] of XᵀX with corner (i, j) lies on and below the
 * diagonal */
void lt_gram_add_tile(const lt_kernels *k, double *acc, const float *c, size_t ldc, size_t i, size_t rows, size_t j,
                      size_t cols);
/* lt_gram_add of at most 512 rows per step, on register tiles */
void lt_packed_gram(lt_team *team, double *acc, const float *x, size_t ldx, size_t n, size_t d);

#endif
