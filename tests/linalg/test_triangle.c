/* SPDX-License-Identifier: Apache-2.0 */
/* Half products against whole ones, at sizes below, on and above the block and with strides. */
#include "linalg/triangle.h"

#include <float.h>
#include <math.h>

#include "linalg/gemm.h"
#include "support/support.h"

/* c [m, n] = op(a) op(b), rows ld apart */
static double *product(bool ta, bool tb, size_t m, size_t n, size_t k, const double *a, size_t lda, const double *b,
                       size_t ldb) {
    double *c = test_normal_f64(0, m * n);
    lt_gemm_f64_serial(ta, tb, m, n, k, 1.0, a, lda, b, ldb, 0.0, c, n);
    return c;
}

static void zero_above(double *a, size_t n, size_t ld) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) a[i * ld + j] = 0.0;
}

static void assert_lower(const double *got, size_t ld, const double *want, size_t n, double tolerance) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) assert_true(fabs(got[i * ld + j] - want[i * n + j]) <= tolerance);
}

static const size_t sizes[] = { 1, 2, 127, 128, 129, 256, 300 };
enum { PAD = 3 };

static double bound(size_t n) {
    return 64.0 * DBL_EPSILON * (double)(n + 64) * 4.0;
}

static void lower_products_are_half_of_the_whole(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(sizes); s++)
        for (int how = 0; how < 4; how++) {
            const bool ta = how & 1, tb = how & 2;
            const size_t n = sizes[s], k = 70, lda = (ta ? n : k) + PAD, ldb = (tb ? k : n) + PAD, ldc = n + PAD;
            double *a = test_normal_f64(1, (ta ? k : n) * lda), *b = test_normal_f64(2, (tb ? n : k) * ldb),
                   *c = test_normal_f64(3, n * ldc), *want = product(ta, tb, n, n, k, a, lda, b, ldb);
            lt_lower_product_f64(ta, tb, n, k, a, lda, b, ldb, 0.0, c, ldc);
            assert_lower(c, ldc, want, n, bound(k));
            for (size_t i = 0; i < n * n; i++) want[i] *= 2.0;
            lt_lower_product_f64(ta, tb, n, k, a, lda, b, ldb, 1.0, c, ldc);
            assert_lower(c, ldc, want, n, 2.0 * bound(k));
            lt_free(a);
            lt_free(b);
            lt_free(c);
            lt_free(want);
        }
}

static void products_with_a_triangle(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
        const size_t n = sizes[s], m = 37, ld = n + PAD;
        double *a = test_normal_f64(1, m * ld), *l = test_normal_f64(2, n * ld), *c = test_normal_f64(3, m * ld),
               *g = test_normal_f64(4, n * ld);
        zero_above(l, n, ld);
        double *want = product(false, false, m, n, n, a, ld, l, ld);
        lt_times_lower_f64(m, n, a, ld, l, ld, c, ld);
        for (size_t i = 0; i < m * n; i++) assert_true(fabs(c[i / n * ld + i % n] - want[i]) <= bound(n));
        double *turned = product(false, true, m, n, n, a, ld, l, ld);
        lt_times_lower_transposed_f64(m, n, a, ld, l, ld, c, ld);
        for (size_t i = 0; i < m * n; i++) assert_true(fabs(c[i / n * ld + i % n] - turned[i]) <= bound(n));
        lt_free(turned);
        /* Lᵀ (S L) of a symmetric S is symmetric */
        double *x = test_normal_f64(5, n * n), *sl, *whole, *sym = product(true, false, n, n, n, x, n, x, n);
        sl = product(false, false, n, n, n, sym, n, l, ld);
        whole = product(true, false, n, n, n, l, ld, sl, n);
        lt_lower_transposed_times_f64(n, l, ld, sl, n, g, ld);
        assert_lower(g, ld, whole, n, bound(n) * (double)(n * n));
        lt_free(a);
        lt_free(l);
        lt_free(c);
        lt_free(g);
        lt_free(want);
        lt_free(x);
        lt_free(sym);
        lt_free(sl);
        lt_free(whole);
    }
}

static void halves_of_a_symmetric_matrix_add_up(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
        const size_t n = sizes[s], m = 37;
        double *x = test_normal_f64(1, n * n), *sym = product(true, false, n, n, n, x, n, x, n),
               *a = test_normal_f64(2, m * n), *t = test_normal_f64(3, m * n), *g = test_normal_f64(4, m * m),
               *as = product(false, false, m, n, n, a, n, sym, n), *want = product(false, true, m, m, n, as, n, a, n);
        lt_times_half_f64(m, n, a, n, sym, n, t, n);
        lt_lower_product_f64(false, true, m, n, t, n, a, n, 0.0, g, m);
        lt_lower_product_f64(false, true, m, n, a, n, t, n, 1.0, g, m);
        assert_lower(g, m, want, m, bound(n) * (double)(n * n));
        lt_free(x);
        lt_free(sym);
        lt_free(a);
        lt_free(t);
        lt_free(g);
        lt_free(as);
        lt_free(want);
    }
}

static void mirrors_and_transposes(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
        const size_t n = sizes[s], m = 21;
        double *a = test_normal_f64(1, n * n), *x = test_normal_f64(2, m * n), *xt = test_normal_f64(3, m * n);
        lt_mirror_lower_f64(a, n);
        lt_transpose_f64(xt, x, m, n);
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j < i; j++) assert_true(a[j * n + i] == a[i * n + j]);
            for (size_t j = 0; j < m; j++) assert_true(xt[i * m + j] == x[j * n + i]);
        }
        lt_free(a);
        lt_free(x);
        lt_free(xt);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lower_products_are_half_of_the_whole),
        cmocka_unit_test(products_with_a_triangle),
        cmocka_unit_test(halves_of_a_symmetric_matrix_add_up),
        cmocka_unit_test(mirrors_and_transposes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
