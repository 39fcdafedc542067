/* SPDX-License-Identifier: Apache-2.0 */
/* The fit to drifted inputs against its theorems (spec utilized-rank §11, check 15). */
#include "compress/lowrank_test.h"

#include "compress/drift_fit.h"

/* A layer whose inputs x have become x2. */
typedef struct drifted {
    layer l, l2;   /* l2: the same weight over x2 */
    double *k, *t; /* XᵀX', W K */
    double total;  /* ‖Y‖² */
} drifted;

static drifted make(const size_t shape[2], size_t n, double noise, lt_rng *r) {
    drifted d = { .l = layer_make(shape[0], shape[1], n, true, r), .l2 = layer_make(shape[0], shape[1], n, true, r) };
    const size_t m = shape[0], dim = shape[1];
    memcpy(d.l2.w, d.l.w, m * dim * sizeof(double));
    for (size_t i = 0; i < n * dim; i++) d.l2.x[i] = d.l.x[i] + noise * d.l2.x[i];
    layer_sums(&d.l2);
    d.k = test_doubles(dim * dim);
    d.t = test_doubles(m * dim);
    lt_gemm_f64_serial(true, false, dim, dim, n, 1.0, d.l.x, dim, d.l2.x, dim, 0.0, d.k, dim);
    lt_gemm_f64_serial(false, false, m, dim, dim, 1.0, d.l.w, dim, d.k, dim, 0.0, d.t, dim);
    double *y = layer_outputs(&d.l, d.l.w);
    d.total = test_norm2(y, n * m);
    lt_free(y);
    return d;
}

static void drifted_free(drifted *d) {
    layer_free(&d->l);
    layer_free(&d->l2);
    lt_free(d->k);
    lt_free(d->t);
}

/* ‖X Wᵀ - X' W_rᵀ‖² */
static double distance(const drifted *d, const double *wr) {
    double *y = layer_outputs(&d->l, d->l.w), *z = layer_outputs(&d->l2, wr);
    const double e = test_dist2(y, z, d->l.n * d->l.m);
    lt_free(y), lt_free(z);
    return e;
}

static double distance_of(const drifted *d, const double *a, const double *b, size_t r) {
    double *p = product(a, b, d->l.m, d->l.d, r);
    const double e = distance(d, p);
    lt_free(p);
    return e;
}

static double whitened_distance(const drifted *d, const layer *metric, size_t r) {
    const lt_lowrank_in in = layer_in(metric, LT_METRIC_INPUT);
    fit f = fit_rank(&in, r);
    const double e = distance_of(d, f.a, f.b, r);
    fit_free(&f);
    return e;
}

static lt_drift_form *form_of(const layer *l, double ridge) {
    lt_drift_form *f;
    lt_err err = { 0 };
    assert_ok(lt_drift_form_create(&f, l->d, l->c, ridge, &err), &err);
    return f;
}

static void check_15_error_is_the_formula_and_the_least(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        drifted d = make(layer_shapes[s], 400, 0.3, &r);
        lt_drift_form *form = form_of(&d.l2, 0.0);
        for (size_t rank = 1; rank <= 25; rank += 8) {
            double *a = test_doubles(d.l.m * rank), *b = test_doubles(rank * d.l.d), gain;
            const lt_drift_in in = { form, d.l.m, d.t, d.l.w, LT_BALANCE_BALANCED };
            lt_err err = { 0 };
            assert_ok(lt_drift_fit(a, b, &gain, rank, &in, &err), &err);
            const double e = distance_of(&d, a, b, rank);
            assert_close_f64(&e, &(double){ d.total - gain }, 1, 1e-9 * d.total, 0.0);
            assert_true(e <= whitened_distance(&d, &d.l, rank) * (1.0 + 1e-9));
            assert_true(e <= whitened_distance(&d, &d.l2, rank) * (1.0 + 1e-9));
            lt_free(a), lt_free(b);
        }
        lt_drift_form_destroy(form);
        drifted_free(&d);
    }
}

static void check_15_without_drift_it_is_whitened(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng(10 + (uint32_t)s);
        drifted d = make(layer_shapes[s], 400, 0.0, &r);
        lt_drift_form *form = form_of(&d.l2, 0.0);
        const size_t rank = 9;
        double *a = test_doubles(d.l.m * rank), *b = test_doubles(rank * d.l.d), gain;
        const lt_drift_in in = { form, d.l.m, d.t, NULL, LT_BALANCE_ORTH };
        lt_err err = { 0 };
        assert_ok(lt_drift_fit(a, b, &gain, rank, &in, &err), &err);
        const lt_lowrank_in white = layer_in(&d.l, LT_METRIC_INPUT);
        fit f = fit_rank(&white, rank);
        const double e = distance_of(&d, a, b, rank), white_e = distance_of(&d, f.a, f.b, rank);
        assert_close_f64(&e, &white_e, 1, 1e-9 * d.total, 1e-9); /* directions below the cut may differ */
        lt_free(a), lt_free(b);
        fit_free(&f);
        lt_drift_form_destroy(form);
        drifted_free(&d);
    }
}

/* Inputs of rank 20 in 32 dimensions, where a Cholesky fails: no NaN, and what can be reached is. */
static void singular_inputs_are_fitted_exactly(void **state) {
    (void)state;
    lt_rng r = test_rng(3);
    drifted d = make((const size_t[]){ 48, 32 }, 20, 0.0, &r);
    lt_drift_form *form = form_of(&d.l2, 0.0);
    double *a = test_doubles(48 * 30), *b = test_doubles(30 * 32), *w = test_doubles(48 * 32), gain;
    const lt_drift_in in = { form, 48, d.t, NULL, LT_BALANCE_ORTH };
    lt_err err = { 0 };
    assert_true(form->k <= 20);
    assert_ok(lt_drift_fit(a, b, &gain, 30, &in, &err), &err);
    assert_true(distance_of(&d, a, b, 30) <= 1e-9 * d.total);
    assert_ok(lt_drift_solve(w, &gain, &in, &err), &err);
    assert_true(distance(&d, w) <= 1e-9 * d.total);
    lt_free(a), lt_free(b), lt_free(w);
    lt_drift_form_destroy(form);
    drifted_free(&d);
}

/* No change of the solution lowers what it minimises; a ridge pulls it to the old weight. */
static void the_solution_is_least_squares_and_the_ridge_pulls_to_w(void **state) {
    (void)state;
    lt_rng r = test_rng(4);
    drifted d = make((const size_t[]){ 32, 48 }, 400, 0.3, &r);
    lt_drift_form *none = form_of(&d.l2, 0.0), *some = form_of(&d.l2, 1e-3), *huge = form_of(&d.l2, 1e6);
    const size_t n = 32 * 48;
    double *w = test_doubles(n), *v = test_doubles(n), gain;
    lt_drift_in in = { none, 32, d.t, d.l.w, LT_BALANCE_ORTH };
    lt_err err = { 0 };
    assert_ok(lt_drift_solve(w, &gain, &in, &err), &err);
    const double best = distance(&d, w);
    assert_close_f64(&best, &(double){ d.total - gain }, 1, 1e-9 * d.total, 0.0);
    assert_true(best < distance(&d, d.l.w));
    for (size_t trial = 0; trial < 20; trial++) {
        test_fill_normal_f64(v, n, &r);
        for (size_t i = 0; i < n; i++) v[i] = w[i] + 1e-3 * v[i];
        assert_true(distance(&d, v) >= best);
    }
    in.form = some;
    assert_non_null(some->l);
    assert_ok(lt_drift_solve(v, &gain, &in, &err), &err);
    assert_true(distance(&d, v) >= best && test_dist2(v, d.l.w, n) < test_dist2(w, d.l.w, n));
    in.form = huge;
    assert_ok(lt_drift_solve(v, &gain, &in, &err), &err);
    assert_true(test_rel(v, d.l.w, n) <= 1e-4);
    lt_free(w), lt_free(v);
    lt_drift_form_destroy(none), lt_drift_form_destroy(some), lt_drift_form_destroy(huge);
    drifted_free(&d);
}

static void bad_numbers_are_refused(void **state) {
    (void)state;
    lt_rng r = test_rng(5);
    drifted d = make((const size_t[]){ 32, 48 }, 100, 0.1, &r);
    lt_drift_form *form = form_of(&d.l2, 0.0), *none;
    double *a = test_doubles(32 * 4), *b = test_doubles(4 * 48), gain;
    lt_drift_in in = { form, 32, d.t, NULL, LT_BALANCE_ORTH };
    lt_err err = { 0 };
    assert_int_equal(lt_drift_fit(a, b, &gain, 33, &in, &err), LT_EUSAGE);
    d.t[7] = NAN;
    err = (lt_err){ 0 };
    assert_int_equal(lt_drift_fit(a, b, &gain, 4, &in, &err), LT_EDATA);
    d.l2.c[3] = INFINITY;
    err = (lt_err){ 0 };
    assert_int_equal(lt_drift_form_create(&none, 48, d.l2.c, 0.0, &err), LT_EDATA);
    lt_free(a), lt_free(b);
    lt_drift_form_destroy(form);
    drifted_free(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_15_error_is_the_formula_and_the_least),
        cmocka_unit_test(check_15_without_drift_it_is_whitened),
        cmocka_unit_test(singular_inputs_are_fitted_exactly),
        cmocka_unit_test(the_solution_is_least_squares_and_the_ridge_pulls_to_w),
        cmocka_unit_test(bad_numbers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
