/* SPDX-License-Identifier: Apache-2.0 */
/* Every mode of the one fit on layers made on the spot: acceptance checks of spec utilized-rank §11. */
#include "compress/lowrank_test.h"

/* A layer with everything that a mode may ask for. */
typedef struct made {
    layer l;
    double *bias, *abs, *grad;   /* [m], [d], packed [m(m+1)/2] */
    lt_metric_form *root, *mean; /* of ASVD with alpha 1/2 and 1 */
} made;

static void pack_gram(double *packed, const double *x, size_t n, size_t cols) {
    double *full = test_doubles(cols * cols);
    lt_gemm_f64_serial(true, false, cols, cols, n, 1.0, x, cols, x, cols, 0.0, full, cols);
    lt_pack_lower(packed, full, cols);
    lt_free(full);
}

static made make(size_t shape, lt_rng *r) {
    made x = { .l = layer_make(layer_shapes[shape][0], layer_shapes[shape][1], 400, true, r) };
    const size_t m = x.l.m, d = x.l.d;
    lt_err err = { 0 };
    double *g = test_doubles(500 * m);
    x.bias = test_doubles(m);
    x.abs = test_doubles(d);
    x.grad = test_doubles(m * (m + 1) / 2);
    test_fill_normal_f64(x.bias, m, r);
    test_fill_normal_f64(g, 500 * m, r);
    for (size_t t = 0; t < 500; t++)
        for (size_t j = 0; j < m; j++) g[t * m + j] *= pow(0.9, (double)j);
    pack_gram(x.grad, g, 500, m);
    for (size_t t = 0; t < x.l.n; t++)
        for (size_t j = 0; j < d; j++) x.abs[j] += fabs(x.l.x[t * d + j]) / (double)x.l.n;
    assert_ok(lt_metric_form_diagonal(&x.mean, d, x.abs, LT_FACTOR_ALWAYS, &err), &err);
    for (size_t j = 0; j < d; j++) x.abs[j] = sqrt(x.abs[j]) + 1e-6;
    assert_ok(lt_metric_form_diagonal(&x.root, d, x.abs, LT_FACTOR_ALWAYS, &err), &err);
    lt_free(g);
    return x;
}

static void made_free(made *x) {
    layer_free(&x->l);
    lt_free(x->bias), lt_free(x->abs), lt_free(x->grad);
    lt_metric_form_destroy(x->root);
    lt_metric_form_destroy(x->mean);
}

typedef enum mode { PLAIN, WHITENED, ASVD, ASVD_MEAN, TWO_SIDED, BIASED, PROJECTED, N_MODES } mode;

static lt_lowrank_in mode_in(const made *x, mode which) {
    lt_lowrank_in in =
        layer_in(&x->l, which == PLAIN || which == ASVD || which == ASVD_MEAN ? LT_METRIC_WEIGHT : LT_METRIC_INPUT);
    if (which == ASVD) in.form = x->root;
    if (which == ASVD_MEAN) in.form = x->mean;
    if (which == TWO_SIDED) in.left = x->grad;
    if (which == BIASED) in.bias = x->bias, in.sum = x->l.sum, in.count = (double)x->l.n;
    in.project = which == PROJECTED;
    return in;
}

/* Check 8: a weight of rank 7 is given back at rank 7 by every mode but those of the original code. */
static void check_08_every_mode_gives_a_low_rank_weight_back(void **state) {
    (void)state;
    enum { RHO = 7 };
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        made x = make(s, &r);
        double *u = test_doubles(x.l.m * RHO), *v = test_doubles(RHO * x.l.d);
        test_fill_normal_f64(u, x.l.m * RHO, &r);
        test_fill_normal_f64(v, RHO * x.l.d, &r);
        lt_gemm_f64_serial(false, false, x.l.m, x.l.d, RHO, 1.0, u, RHO, v, x.l.d, 0.0, x.l.w, x.l.d);
        for (mode k = PLAIN; k <= TWO_SIDED; k++)
            for (int b = 0; b < LT_N_BALANCES; b++) {
                lt_lowrank_in in = mode_in(&x, k);
                in.balance = (lt_balance)b;
                fit f = fit_rank(&in, RHO);
                double *p = product(f.a, f.b, x.l.m, x.l.d, RHO);
                if (!(test_rel(p, x.l.w, x.l.m * x.l.d) <= 1e-8))
                    fail_msg("mode %d: %g", k, test_rel(p, x.l.w, x.l.m * x.l.d));
                lt_free(p);
                fit_free(&f);
            }
        lt_free(u), lt_free(v);
        made_free(&x);
    }
}

/* Check 11: on the calibration data no mode is better than whitened, at any rank. */
static void check_11_no_mode_beats_whitened(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        made x = make(s, &r);
        const lt_lowrank_in best = mode_in(&x, WHITENED);
        double total, *lambda = spectrum_of(&best, &total);
        for (size_t rank = 1; rank <= lt_min_size(x.l.m, x.l.d); rank++) {
            fit w = fit_rank(&best, rank);
            const double e = error_of(&best, rank, w.a, w.b);
            for (mode k = PLAIN; k < N_MODES; k++) {
                const lt_lowrank_in in = mode_in(&x, k);
                fit f = fit_rank(&in, rank);
                const double other = error_of(&best, rank, f.a, f.b);
                assert_true(isfinite(other) && e <= other * (1.0 + 1e-10) + 1e-12 * total);
                fit_free(&f);
            }
            fit_free(&w);
        }
        lt_free(lambda);
        made_free(&x);
    }
}

/* tr(Γ Δ C Δᵀ) */
static double two_sided_error(const made *x, const fit *f) {
    const size_t m = x->l.m, d = x->l.d;
    double *delta = product(f->a, f->b, m, d, f->r), *c = test_doubles(d * d), *g = test_doubles(m * m),
           *t = test_doubles(m * d), *s = test_doubles(m * d), sum = 0.0;
    for (size_t i = 0; i < m * d; i++) delta[i] = x->l.w[i] - delta[i];
    lt_unpack_lower(c, x->l.c, d);
    lt_unpack_lower(g, x->grad, m);
    lt_gemm_f64_serial(false, false, m, d, d, 1.0, delta, d, c, d, 0.0, t, d);
    lt_gemm_f64_serial(false, false, m, d, m, 1.0, g, m, t, d, 0.0, s, d);
    for (size_t i = 0; i < m * d; i++) sum += s[i] * delta[i];
    lt_free(delta), lt_free(c), lt_free(g), lt_free(t), lt_free(s);
    return sum;
}

/* Check 15, two-sided: the error in its own metric is the tail of its spectrum, and no other mode's is lower there. */
static void check_15_two_sided_error_is_the_tail(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        made x = make(s, &r);
        const lt_lowrank_in in = mode_in(&x, TWO_SIDED), white = mode_in(&x, WHITENED);
        const size_t n = lt_min_size(x.l.m, x.l.d);
        double total, *lambda = spectrum_of(&in, &total);
        for (size_t rank = 3; rank < n; rank += 8) {
            fit f = fit_rank(&in, rank), w = fit_rank(&white, rank);
            const double tail = tail_sum(lambda, n, rank), e = two_sided_error(&x, &f);
            assert_close_f64(&e, &tail, 1, 1e-11 * total, 1e-8);
            assert_close_f64(&f.error, &tail, 1, 1e-12 * total, 1e-8);
            assert_true(e <= two_sided_error(&x, &w) * (1.0 + 1e-9));
            fit_free(&f);
            fit_free(&w);
        }
        lt_free(lambda);
        made_free(&x);
    }
}

/* The first rows and columns of one fit are the fits of lower rank: what lets ranks be tried without decomposing again.
 */
static void first_columns_are_the_fit_of_that_rank(void **state) {
    (void)state;
    static const mode modes[] = { WHITENED, TWO_SIDED, PROJECTED };
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        made x = make(s, &r);
        const size_t m = x.l.m, d = x.l.d, most = lt_min_size(m, d) / 2;
        for (size_t k = 0; k < LT_COUNTOF(modes); k++) {
            lt_err err = { 0 };
            lt_lowrank_in in = mode_in(&x, modes[k]), nested = in;
            lt_metric_form *form;
            double *v = test_doubles(most * d);
            assert_ok(lt_metric_form_create(&form, d, x.l.c, NULL, 0.0, false, LT_FACTOR_ALWAYS, &err), &err);
            assert_ok(lt_lowrank_top_inputs(v, most, form, &err), &err);
            nested.nested = true;
            nested.project = false;
            fit all = fit_rank(&nested, most);
            for (size_t rank = 1; rank <= most; rank += 5) {
                fit f = fit_rank(&in, rank);
                double *a = test_doubles(m * rank);
                for (size_t i = 0; i < m * rank; i++) a[i] = all.a[i / rank * most + i % rank];
                double *b = test_doubles(rank * d);
                memcpy(b, all.b, rank * d * sizeof *b);
                if (modes[k] == PROJECTED) assert_ok(lt_lowrank_project_inputs(b, rank, d, v, &err), &err);
                double *p = product(a, b, m, d, rank), *q = product(f.a, f.b, m, d, rank);
                assert_true(test_rel(p, q, m * d) <= 1e-8);
                lt_free(a), lt_free(b), lt_free(p), lt_free(q);
                fit_free(&f);
            }
            fit_free(&all);
            lt_metric_form_destroy(form);
            lt_free(v);
        }
        made_free(&x);
    }
}

/* Γ = identity: the left metric changes nothing. */
static void a_left_identity_is_whitened(void **state) {
    (void)state;
    lt_rng r = test_rng(3);
    made x = make(0, &r);
    memset(x.grad, 0, x.l.m * (x.l.m + 1) / 2 * sizeof(double));
    for (size_t i = 0; i < x.l.m; i++) x.grad[i * (i + 1) / 2 + i] = 3.0;
    const lt_lowrank_in in = mode_in(&x, TWO_SIDED), white = mode_in(&x, WHITENED);
    fit f = fit_rank(&in, 11), w = fit_rank(&white, 11);
    double *p = product(f.a, f.b, x.l.m, x.l.d, 11), *q = product(w.a, w.b, x.l.m, x.l.d, 11);
    assert_true(test_rel(p, q, x.l.m * x.l.d) <= 1e-8);
    lt_free(p), lt_free(q);
    fit_free(&f), fit_free(&w);
    made_free(&x);
}

/* A Γ of low rank or zero: no NaN; zero has no spectrum. */
static void a_singular_left_metric_fits_without_nan(void **state) {
    (void)state;
    lt_rng r = test_rng(4);
    made x = make(1, &r);
    double g[64], total;
    for (int zero = 0; zero < 2; zero++) {
        test_fill_normal_f64(g, 64, &r);
        if (zero) memset(g, 0, sizeof g);
        pack_gram(x.grad, g, 1, x.l.m);
        lt_lowrank_in in = mode_in(&x, TWO_SIDED);
        in.damping = zero ? 0.0 : 0.01;
        double *lambda = spectrum_of(&in, &total);
        fit f = fit_rank(&in, 9);
        for (size_t i = 0; i < x.l.m * 9; i++) assert_true(isfinite(f.a[i]));
        for (size_t i = 0; i < x.l.d * 9; i++) assert_true(isfinite(f.b[i]));
        assert_true(zero ? total == 0.0 : total > 0.0);
        lt_free(lambda);
        fit_free(&f);
    }
    made_free(&x);
}

/* Without a bias the biased form is whitened; with one, its spectrum is that of the outputs with the bias (check 1). */
static void check_01_the_biased_spectrum_is_that_of_the_biased_outputs(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        made x = make(s, &r);
        const size_t m = x.l.m, n = lt_min_size(m, x.l.d);
        const lt_lowrank_in in = mode_in(&x, BIASED);
        double *y = layer_outputs(&x.l, x.l.w), *g = test_doubles(m * m), *w = test_doubles(m), total;
        for (size_t t = 0; t < x.l.n; t++)
            for (size_t j = 0; j < m; j++) y[t * m + j] += x.bias[j];
        lt_gemm_f64_serial(true, false, m, m, x.l.n, 1.0, y, m, y, m, 0.0, g, m);
        lt_eigh_problem p = { .n = m, .a = g, .w = w };
        assert_ok(lt_eigh_serial(&p, NULL), &(lt_err){ 0 });
        double *lambda = spectrum_of(&in, &total);
        assert_close_f64(lambda, w, n, 1e-11 * w[0], 0.0);
        lt_free(lambda);
        memset(x.bias, 0, m * sizeof *x.bias);
        const lt_lowrank_in white = mode_in(&x, WHITENED);
        fit f = fit_rank(&in, 5), best = fit_rank(&white, 5);
        double *a = product(f.a, f.b, m, x.l.d, 5), *b = product(best.a, best.b, m, x.l.d, 5);
        assert_true(test_rel(a, b, m * x.l.d) <= 1e-7);
        lt_free(a), lt_free(b), lt_free(y), lt_free(g), lt_free(w);
        fit_free(&f), fit_free(&best);
        made_free(&x);
    }
}

/* A measured output Gram gives the same matrix as C does. */
static void a_measured_output_gram_is_as_good_as_the_inputs(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        made x = make(s, &r);
        const size_t m = x.l.m, d = x.l.d;
        double *y = layer_outputs(&x.l, x.l.w), *g = test_doubles(m * (m + 1) / 2);
        pack_gram(g, y, x.l.n, m);
        lt_lowrank_in in = layer_in(&x.l, LT_METRIC_WEIGHT);
        const lt_lowrank_in white = mode_in(&x, WHITENED);
        in.out_gram = g;
        fit f = fit_rank(&in, 6), w = fit_rank(&white, 6);
        double *a = product(f.a, f.b, m, d, 6), *b = product(w.a, w.b, m, d, 6);
        assert_true(test_rel(a, b, m * d) <= 1e-8);
        lt_free(a), lt_free(b), lt_free(y), lt_free(g);
        fit_free(&f), fit_free(&w);
        made_free(&x);
    }
}

static size_t energy_rank(const double *lambda, size_t n, double e) {
    double sum = 0.0, cum = 0.0;
    for (size_t i = 0; i < n; i++) sum += lambda[i];
    for (size_t k = 0; k < n; k++)
        if ((cum += lambda[k]) >= e * sum) return k + 1;
    return n;
}

/* Check 27: W = I, 10000 white tokens, windows of 100 whose first token has +300 on one channel. */
static void check_27_sinks_decide_the_energy_unless_left_out(void **state) {
    (void)state;
    enum { N = 10000, D = 64 };
    lt_rng r = test_rng(27);
    double *x = test_doubles((size_t)N * D), *all = test_doubles(D * (D + 1) / 2),
           *rest = test_doubles(D * (D + 1) / 2), *w = test_doubles(D * D), *others = test_doubles((size_t)N * D),
           total;
    size_t n_rest = 0;
    test_fill_normal_f64(x, (size_t)N * D, &r);
    for (size_t i = 0; i < D; i++) w[i * D + i] = 1.0;
    for (size_t t = 0; t < N; t++) {
        if (t % 100 == 0)
            x[t * D + 5] += 300.0;
        else
            memcpy(others + D * n_rest++, x + t * D, D * sizeof *x);
    }
    pack_gram(all, x, N, D);
    pack_gram(rest, others, n_rest, D);
    const lt_lowrank_in in = { .m = D, .d = D, .w = w, .c = all }, guarded = { .m = D, .d = D, .w = w, .c = rest };
    double *lambda = spectrum_of(&in, &total), *clean = spectrum_of(&guarded, &total);
    assert_int_equal(energy_rank(lambda, D, 0.90), 1);
    const size_t k = energy_rank(clean, D, 0.90);
    assert_true(k >= 56 && k <= 58);
    lt_free(x), lt_free(all), lt_free(rest), lt_free(w), lt_free(others), lt_free(lambda), lt_free(clean);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_08_every_mode_gives_a_low_rank_weight_back),
        cmocka_unit_test(check_11_no_mode_beats_whitened),
        cmocka_unit_test(check_15_two_sided_error_is_the_tail),
        cmocka_unit_test(first_columns_are_the_fit_of_that_rank),
        cmocka_unit_test(a_left_identity_is_whitened),
        cmocka_unit_test(a_singular_left_metric_fits_without_nan),
        cmocka_unit_test(check_01_the_biased_spectrum_is_that_of_the_biased_outputs),
        cmocka_unit_test(a_measured_output_gram_is_as_good_as_the_inputs),
        cmocka_unit_test(check_27_sinks_decide_the_energy_unless_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
