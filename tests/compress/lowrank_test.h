/* SPDX-License-Identifier: Apache-2.0 */
/* tests/compress/lowrank_test.h - layers with correlated inputs, made on the spot: X = Z diag(decay) Rᵀ + mean, one
 * channel times 20. */
#ifndef LT_TESTS_LOWRANK_TEST_H
#define LT_TESTS_LOWRANK_TEST_H

#include "support/support.h"

#include <math.h>
#include <string.h>

#include "compress/lowrank.h"
#include "linalg/gemm.h"

typedef struct layer {
    size_t m, d, n;  /* n tokens */
    double *w, *x;   /* [m, d], [n, d] */
    double *c, *sum; /* packed Gram, sum */
} layer;

static const size_t layer_shapes[][2] = { { 48, 32 }, { 32, 48 }, { 64, 64 } };

static inline double *test_doubles(size_t n) {
    double *p = lt_calloc(n ? n : 1, sizeof *p);
    assert_non_null(p);
    return p;
}

static inline void layer_sums(layer *l) {
    double *full = test_doubles(l->d * l->d);
    lt_gemm_f64_serial(true, false, l->d, l->d, l->n, 1.0, l->x, l->d, l->x, l->d, 0.0, full, l->d);
    lt_pack_lower(l->c, full, l->d);
    memset(l->sum, 0, l->d * sizeof *l->sum);
    for (size_t t = 0; t < l->n; t++)
        for (size_t j = 0; j < l->d; j++) l->sum[j] += l->x[t * l->d + j];
    lt_free(full);
}

static inline layer layer_make(size_t m, size_t d, size_t n, bool mean, lt_rng *r) {
    layer l = { m, d, n, test_doubles(m * d), test_doubles(n * d), test_doubles(d * (d + 1) / 2), test_doubles(d) };
    double *z = test_doubles(n * d), *rot = test_doubles(d * d), *mu = test_doubles(d);
    test_fill_normal_f64(l.w, m * d, r);
    test_fill_normal_f64(z, n * d, r);
    test_fill_normal_f64(rot, d * d, r);
    test_fill_normal_f64(mu, d, r);
    for (size_t t = 0; t < n; t++)
        for (size_t j = 0; j < d; j++) z[t * d + j] *= pow(0.85, (double)j);
    lt_gemm_f64_serial(false, true, n, d, d, 1.0 / sqrt((double)d), z, d, rot, d, 0.0, l.x, d);
    for (size_t t = 0; t < n; t++)
        for (size_t j = 0; j < d; j++) l.x[t * d + j] = (l.x[t * d + j] + (mean ? mu[j] : 0.0)) * (j == 3 ? 20.0 : 1.0);
    lt_free(z);
    lt_free(rot);
    lt_free(mu);
    layer_sums(&l);
    return l;
}

static inline void layer_free(layer *l) {
    lt_free(l->w);
    lt_free(l->x);
    lt_free(l->c);
    lt_free(l->sum);
}

static inline lt_lowrank_in layer_in(const layer *l, lt_metric metric) {
    return (lt_lowrank_in){ .m = l->m, .d = l->d, .w = l->w, .c = metric == LT_METRIC_INPUT ? l->c : NULL };
}

/* y [n, m] = x Wᵀ */
static inline double *layer_outputs(const layer *l, const double *w) {
    double *y = test_doubles(l->n * l->m);
    lt_gemm_f64_serial(false, true, l->n, l->m, l->d, 1.0, l->x, l->d, w, l->d, 0.0, y, l->m);
    return y;
}

static inline double test_norm2(const double *x, size_t n) {
    double s = 0.0;
    for (size_t i = 0; i < n; i++) s += x[i] * x[i];
    return s;
}

static inline double test_dist2(const double *a, const double *b, size_t n) {
    double s = 0.0;
    for (size_t i = 0; i < n; i++) s += (a[i] - b[i]) * (a[i] - b[i]);
    return s;
}

/* ‖a - b‖ / ‖b‖ */
static inline double test_rel(const double *a, const double *b, size_t n) {
    return sqrt(test_dist2(a, b, n) / test_norm2(b, n));
}

static inline double *product(const double *a, const double *b, size_t m, size_t d, size_t r) {
    double *p = test_doubles(m * d);
    lt_gemm_f64_serial(false, false, m, d, r, 1.0, a, r, b, d, 0.0, p, d);
    return p;
}

typedef struct fit {
    double *a, *b, *bias, error, total;
    size_t r;
} fit;
static inline fit fit_rank(const lt_lowrank_in *in, size_t r) {
    fit f = { test_doubles(in->m * r), test_doubles(r * in->d), test_doubles(in->m), 0.0, 0.0, r };
    lt_err err = { 0 };
    assert_ok(lt_lowrank_fit(f.a, f.b, f.bias, &f.error, &f.total, r, in, &err), &err);
    return f;
}
static inline void fit_free(fit *f) {
    lt_free(f->a);
    lt_free(f->b);
    lt_free(f->bias);
}
static inline double error_of(const lt_lowrank_in *in, size_t r, const double *a, const double *b) {
    lt_err err = { 0 };
    double e;
    assert_ok(lt_lowrank_error(&e, in, r, a, b, &err), &err);
    return e;
}
static inline double *spectrum_of(const lt_lowrank_in *in, double *total) {
    double *lambda = test_doubles(lt_min_size(in->m, in->d));
    lt_err err = { 0 };
    assert_ok(lt_lowrank_spectrum(lambda, total, in, &err), &err);
    return lambda;
}
static inline double tail_sum(const double *lambda, size_t n, size_t r) {
    double s = 0.0;
    for (size_t i = n; i > r; i--) s += lambda[i - 1];
    return s;
}

#endif
