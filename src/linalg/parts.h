/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/parts.h - products on a matrix unit (lt_matrix_unit): operands cut into bf16 parts, sums in f32.
 *
 * A thread splits its rows of the left matrix once, and the right one by panels for each piece of its work. An entry's
 * bits depend on its row, its column and k alone, as in linalg/packed.h. */
#ifndef LT_LINALG_PARTS_H
#define LT_LINALG_PARTS_H

#include "linalg/packed.h"

void lt_parts_multiply(lt_team *team, const lt_packed *p);
/* y [m, n] = x w0, or (x w0) w1 with x w0 [m, rank] in inner */
typedef struct lt_parts_job {
    float *y, *inner;
    size_t ldy, n, rank; /* rank 0: one matrix */
    lt_stored w[2];
} lt_parts_job;
enum { LT_PARTS_JOBS = 4 };
/* At most LT_PARTS_JOBS products of one x [m, inner], which is split once for all of them. The bits of an entry are
 * those of lt_parts_multiply. */
void lt_parts_each(lt_team *team, const lt_parts_job *jobs, size_t n_jobs, const float *x, size_t ldx, size_t m,
                   size_t inner);

/* ---- products of split operands on the calling thread, between enter and leave ---- */

/* n rows (left) or columns (right) of k inner indices, padded with zeros to multiples of LT_UNIT */
typedef struct lt_split {
    uint16_t *data;
    size_t stride, part_stride, parts; /* stride: of LT_UNIT rows or columns */
} lt_split;
size_t lt_split_bytes(size_t n, size_t k); /* of either side */
/* Into `to`, 64-byte aligned. The column j of the right matrix is b[j ldb ..] (by_rows) or b[q ldb + j]. */
lt_split lt_split_left(const lt_kernels *k, void *to, const float *a, size_t lda, size_t n, size_t inner);
lt_split lt_split_right(const lt_kernels *k, void *to, const float *b, size_t ldb, bool by_rows, size_t n,
                        size_t inner);
/* c[rows, cols] = rows `row` .. of left (row a multiple of LT_UNIT) times the first cols columns of right, over the
 * first `inner` indices (rounded up to LT_UNIT), + beta c (beta 0 or 1; 0: c is not read) */
void lt_split_multiply(const lt_kernels *k, float *c, size_t ldc, float beta, const lt_split *left, size_t row,
                       size_t rows, const lt_split *right, size_t cols, size_t inner);

/* lt_gram_add: f32 sums over at most 512 rows, fewer where d is so large that these rows of x do not fit the scratch */
void lt_parts_gram(lt_team *team, double *acc, const float *x, size_t ldx, size_t n, size_t d);

#endif
