/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/triangle.h - f64 products of which only a triangle is wanted, or one side is a triangle.
 *
 * Matrices are halved until a block is small; what lies off the diagonal is a large product each time, so that these
 * run at the speed of dgemm and leave out the half that is known. Row-major, serial, for use inside a parallel region;
 * cuts depend on shapes only. Outputs may not overlap inputs. */
#ifndef LT_LINALG_TRIANGLE_H
#define LT_LINALG_TRIANGLE_H

#include <stdbool.h>
#include <stddef.h>

/* Lower triangle of c [n, n] = op(A) op(B) + beta c, where the result is symmetric or only that triangle is wanted:
 * half of the product. A is [n, k], stored [k, n] when ta; B is [k, n], stored [n, k] when tb. */
void lt_lower_product_f64(bool ta, bool tb, size_t n, size_t k, const double *a, size_t lda, const double *b,
                          size_t ldb, double beta, double *c, size_t ldc);
/* c [m, n] = a [m, n] L, L lower triangular with zeros above: half of the product. */
void lt_times_lower_f64(size_t m, size_t n, const double *a, size_t lda, const double *l, size_t ldl, double *c,
                        size_t ldc);
/* c [m, n] = a [m, n] Lᵀ, likewise */
void lt_times_lower_transposed_f64(size_t m, size_t n, const double *a, size_t lda, const double *l, size_t ldl,
                                   double *c, size_t ldc);
/* c [m, n] = a [m, n] H with H + Hᵀ = S, S symmetric and full: what is below the diagonal of S, and half of the blocks
 * on it. So A S Aᵀ = C Aᵀ + A Cᵀ, with half of the work of A S. */
void lt_times_half_f64(size_t m, size_t n, const double *a, size_t lda, const double *s, size_t lds, double *c,
                       size_t ldc);
/* Lower triangle of c [n, n] = Lᵀ B, which is symmetric; L lower triangular with zeros above, B full [n, n]. A quarter
 * of the product. */
void lt_lower_transposed_times_f64(size_t n, const double *l, size_t ldl, const double *b, size_t ldb, double *c,
                                   size_t ldc);
/* The upper triangle of a [n, n] from the lower one. */
void lt_mirror_lower_f64(double *a, size_t n);
/* src [rows, cols] to dst [cols, rows] */
void lt_transpose_f64(double *restrict dst, const double *restrict src, size_t rows, size_t cols);

#endif
