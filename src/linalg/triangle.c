/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/triangle.h"

#include "linalg/gemm.h"
#include "linalg/layout.h"

enum { SMALL = 128 }; /* blocks on the diagonal are whole products up to this size */

/* Where to cut n > SMALL in two. */
static size_t half_of(size_t n) {
    return lt_round_up((n + 1) / 2, SMALL);
}

void lt_lower_product_f64(bool ta, bool tb, size_t n, size_t k, const double *a, size_t lda, const double *b,
                          size_t ldb, double beta, double *c, size_t ldc) {
    if (n <= SMALL) {
        lt_gemm_f64_serial(ta, tb, n, n, k, 1.0, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    const size_t h = half_of(n);
    const double *low = ta ? a + h : a + h * lda, *right = tb ? b + h * ldb : b + h;
    lt_lower_product_f64(ta, tb, h, k, a, lda, b, ldb, beta, c, ldc);
    lt_gemm_f64_serial(ta, tb, n - h, h, k, 1.0, low, lda, b, ldb, beta, c + h * ldc, ldc);
    lt_lower_product_f64(ta, tb, n - h, k, low, lda, right, ldb, beta, c + h * ldc + h, ldc);
}

/* The blocks on the diagonal count `diagonal` times. */
static void times_lower(size_t m, size_t n, double diagonal, const double *a, size_t lda, const double *l, size_t ldl,
                        double *c, size_t ldc) {
    if (n <= SMALL) {
        lt_gemm_f64_serial(false, false, m, n, n, diagonal, a, lda, l, ldl, 0.0, c, ldc);
        return;
    }
    const size_t h = half_of(n);
    times_lower(m, h, diagonal, a, lda, l, ldl, c, ldc);
    lt_gemm_f64_serial(false, false, m, h, n - h, 1.0, a + h, lda, l + h * ldl, ldl, 1.0, c, ldc);
    times_lower(m, n - h, diagonal, a + h, lda, l + h * ldl + h, ldl, c + h, ldc);
}

void lt_times_lower_f64(size_t m, size_t n, const double *a, size_t lda, const double *l, size_t ldl, double *c,
                        size_t ldc) {
    times_lower(m, n, 1.0, a, lda, l, ldl, c, ldc);
}

void lt_times_lower_transposed_f64(size_t m, size_t n, const double *a, size_t lda, const double *l, size_t ldl,
                                   double *c, size_t ldc) {
    if (n <= SMALL) {
        lt_gemm_f64_serial(false, true, m, n, n, 1.0, a, lda, l, ldl, 0.0, c, ldc);
        return;
    }
    const size_t h = half_of(n);
    lt_times_lower_transposed_f64(m, h, a, lda, l, ldl, c, ldc);
    lt_times_lower_transposed_f64(m, n - h, a + h, lda, l + h * ldl + h, ldl, c + h, ldc);
    lt_gemm_f64_serial(false, true, m, n - h, h, 1.0, a, lda, l + h * ldl, ldl, 1.0, c + h, ldc);
}

void lt_times_half_f64(size_t m, size_t n, const double *a, size_t lda, const double *s, size_t lds, double *c,
                       size_t ldc) {
    times_lower(m, n, 0.5, a, lda, s, lds, c, ldc);
}

void lt_lower_transposed_times_f64(size_t n, const double *l, size_t ldl, const double *b, size_t ldb, double *c,
                                   size_t ldc) {
    if (n <= SMALL) {
        lt_gemm_f64_serial(true, false, n, n, n, 1.0, l, ldl, b, ldb, 0.0, c, ldc);
        return;
    }
    const size_t h = half_of(n);
    const double *below = l + h * ldl, *low = b + h * ldb;
    lt_lower_transposed_times_f64(h, l, ldl, b, ldb, c, ldc);
    lt_lower_product_f64(true, false, h, n - h, below, ldl, low, ldb, 1.0, c, ldc);
    lt_gemm_f64_serial(true, false, n - h, h, n - h, 1.0, below + h, ldl, low, ldb, 0.0, c + h * ldc, ldc);
    lt_lower_transposed_times_f64(n - h, below + h, ldl, low + h, ldb, c + h * ldc + h, ldc);
}

/* Square blocks, so that columns are not walked one cache line an entry. */
void lt_mirror_lower_f64(double *a, size_t n) {
    enum { BLOCK = 32 };
    for (size_t i0 = 0; i0 < n; i0 += BLOCK)
        for (size_t j0 = 0; j0 <= i0; j0 += BLOCK)
            for (size_t i = i0; i < lt_min_size(i0 + BLOCK, n); i++)
                for (size_t j = j0; j < lt_min_size(j0 + BLOCK, i); j++) a[j * n + i] = a[i * n + j];
}

void lt_transpose_f64(double *restrict dst, const double *restrict src, size_t rows, size_t cols) {
    enum { BLOCK = 16 }; /* squares of it fit a few cache lines each way */
    for (size_t i0 = 0; i0 < rows; i0 += BLOCK)
        for (size_t j0 = 0; j0 < cols; j0 += BLOCK)
            for (size_t i = i0; i < lt_min_size(rows, i0 + BLOCK); i++)
                for (size_t j = j0; j < lt_min_size(cols, j0 + BLOCK); j++) dst[j * rows + i] = src[i * cols + j];
}
