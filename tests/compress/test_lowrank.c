/* SPDX-License-Identifier: Apache-2.0 */
/* The fit against its theorems (spec utilized-rank §11; the check's number is in the name). */
#include "compress/lowrank_test.h"

/* Check 1: W C Wᵀ is YᵀY, so its trace and eigenvalues are those of the outputs. */
static void check_01_spectrum_is_that_of_the_outputs(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], 300, true, &r);
        const size_t n = lt_min_size(l.m, l.d);
        const lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT);
        double total, *lambda = spectrum_of(&in, &total), *y = layer_outputs(&l, l.w);
        double *g = test_doubles(l.m * l.m), *w = test_doubles(l.m);
        assert_close_f64(&total, &(double){ test_norm2(y, l.n * l.m) }, 1, 0.0, 1e-12);
        lt_gemm_f64_serial(true, false, l.m, l.m, l.n, 1.0, y, l.m, y, l.m, 0.0, g, l.m);
        lt_eigh_problem p = { .n = l.m, .a = g, .w = w };
        assert_ok(lt_eigh_serial(&p, NULL), &(lt_err){ 0 });
        assert_close_f64(lambda, w, n, 1e-12 * w[0], 0.0);
        lt_free(lambda), lt_free(y), lt_free(g), lt_free(w);
        layer_free(&l);
    }
}

/* Check 4: a PSD metric gives eigenvalues that are not negative, however singular it is. */
static void check_04_eigenvalues_are_not_negative(void **state) {
    (void)state;
    lt_rng r = test_rng(1);
    layer l = layer_make(20, 32, 10, true, &r); /* rank 10 */
    const lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT);
    double total, *lambda = spectrum_of(&in, &total);
    for (size_t i = 0; i < 20; i++) {
        assert_true(lambda[i] >= 0.0);
        if (i > 0) assert_true(lambda[i] <= lambda[i - 1]);
        if (i >= 10) assert_true(lambda[i] <= 1e-12 * lambda[0]);
    }
    lt_free(lambda);
    layer_free(&l);
}

/* Check 5: A Aᵀ is an orthogonal projector of trace r when A is orthonormal. */
static void check_05_projector(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], 300, true, &r);
        const lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT);
        fit f = fit_rank(&in, 9);
        double *p = test_doubles(l.m * l.m), *pp = test_doubles(l.m * l.m), trace = 0.0;
        lt_gemm_f64_serial(false, true, l.m, l.m, 9, 1.0, f.a, 9, f.a, 9, 0.0, p, l.m);
        lt_gemm_f64_serial(false, false, l.m, l.m, l.m, 1.0, p, l.m, p, l.m, 0.0, pp, l.m);
        for (size_t i = 0; i < l.m; i++) trace += p[i * l.m + i];
        assert_true(sqrt(test_dist2(p, pp, l.m * l.m)) <= 1e-12);
        assert_close_f64(&trace, &(double){ 9.0 }, 1, 1e-12, 0.0);
        lt_free(p), lt_free(pp);
        fit_free(&f);
        layer_free(&l);
    }
}

/* Check 6: energies are eigenvalues of the Gram, neither their roots nor their squares. */
static void check_06_energy_is_squared_singular_values(void **state) {
    (void)state;
    layer l = { 4, 4, 0, test_doubles(16), test_doubles(1), test_doubles(10), test_doubles(4) };
    for (size_t i = 0; i < 4; i++) {
        l.w[i * 4 + i] = 1.0;
        l.c[i * (i + 1) / 2 + i] = 4.0 - (double)i;
    }
    const lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT);
    double total, *lambda = spectrum_of(&in, &total);
    const double want[] = { 4.0, 3.0, 2.0, 1.0 };
    assert_close_f64(lambda, want, 4, 1e-14, 0.0);
    assert_close_f64(&total, &(double){ 10.0 }, 1, 1e-14, 0.0);
    lt_free(lambda);
    layer_free(&l);
}

/* Check 7 (the fit's part): at full rank the product is W itself, singular metric or not. */
static void check_07_full_rank_gives_the_weight_back(void **state) {
    (void)state;
    static const size_t tokens[] = { 300, 11 };
    for (size_t k = 0; k < LT_COUNTOF(tokens); k++)
        for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
            lt_rng r = test_rng((uint32_t)s);
            layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], tokens[k], true, &r);
            for (int balance = 0; balance < LT_N_BALANCES; balance++) {
                lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT);
                in.balance = (lt_balance)balance;
                fit f = fit_rank(&in, lt_min_size(l.m, l.d));
                double *p = product(f.a, f.b, l.m, l.d, f.r);
                assert_true(test_rel(p, l.w, l.m * l.d) <= 1e-11);
                lt_free(p);
                fit_free(&f);
            }
            layer_free(&l);
        }
}

/* Check 8: a weight of rank 7 is found by every mode at rank 7. */
static void check_08_low_rank_weight_is_recovered(void **state) {
    (void)state;
    enum { RHO = 7 };
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++)
        for (int metric = LT_METRIC_WEIGHT; metric <= LT_METRIC_INPUT; metric++) {
            lt_rng r = test_rng((uint32_t)s);
            layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], 300, true, &r);
            double *u = test_doubles(l.m * RHO), *v = test_doubles(RHO * l.d);
            test_fill_normal_f64(u, l.m * RHO, &r);
            test_fill_normal_f64(v, RHO * l.d, &r);
            lt_gemm_f64_serial(false, false, l.m, l.d, RHO, 1.0, u, RHO, v, l.d, 0.0, l.w, l.d);
            const lt_lowrank_in in = layer_in(&l, (lt_metric)metric);
            fit f = fit_rank(&in, RHO);
            double *p = product(f.a, f.b, l.m, l.d, RHO), total, *lambda = spectrum_of(&in, &total);
            assert_true(test_rel(p, l.w, l.m * l.d) <= 1e-9);
            assert_true(error_of(&in, RHO, f.a, f.b) <= 1e-10 * total);
            assert_true(tail_sum(lambda, lt_min_size(l.m, l.d), RHO) <= 1e-11 * total);
            lt_free(u), lt_free(v), lt_free(p), lt_free(lambda);
            fit_free(&f);
            layer_free(&l);
        }
}

/* Check 9: the error is the sum of the eigenvalues left out, by the metric and by the outputs themselves. */
static void check_09_error_is_the_tail(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++)
        for (int balance = 0; balance < LT_N_BALANCES; balance++) {
            lt_rng r = test_rng((uint32_t)s);
            layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], 400, true, &r);
            lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT);
            in.balance = (lt_balance)balance;
            const size_t n = lt_min_size(l.m, l.d);
            double total, *lambda = spectrum_of(&in, &total), *y = layer_outputs(&l, l.w);
            for (size_t rank = 1; rank < n; rank += 6) {
                fit f = fit_rank(&in, rank);
                double *p = product(f.a, f.b, l.m, l.d, rank), *z = layer_outputs(&l, p);
                const double tail = tail_sum(lambda, n, rank), metric = error_of(&in, rank, f.a, f.b),
                             measured = test_dist2(y, z, l.n * l.m);
                assert_close_f64(&metric, &tail, 1, 1e-13 * total, 1e-10);
                assert_close_f64(&measured, &tail, 1, 1e-13 * total, 1e-10);
                assert_close_f64(&f.error, &tail, 1, 1e-13 * total, 1e-10);
                lt_free(p), lt_free(z);
                fit_free(&f);
            }
            lt_free(lambda), lt_free(y);
            layer_free(&l);
        }
}

/* [W L]_r L⁻¹ by an SVD, as SVD-LLM is published. */
static double *whitened_as_published(const layer *l, size_t r) {
    const size_t m = l->m, d = l->d, k = lt_min_size(m, d);
    double *c = test_doubles(d * d), *wl = test_doubles(m * d), *u = test_doubles(m * k), *s = test_doubles(k),
           *vt = test_doubles(k * d);
    double *right = test_doubles(d * r), *p = test_doubles(m * d);
    int info = 0;
    lt_unpack_lower(c, l->c, d);
    lt_chol_serial(d, c, &info);
    assert_int_equal(info, 0);
    lt_gemm_f64_serial(false, false, m, d, d, 1.0, l->w, d, c, d, 0.0, wl, d);
    assert_ok(lt_svd_serial(m, d, wl, u, s, vt, &info, NULL), &(lt_err){ 0 });
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < d; j++) right[j * r + i] = s[i] * vt[i * d + j];
    lt_trsm_serial(d, r, c, true, right); /* L⁻ᵀ V Σ */
    lt_gemm_f64_serial(false, true, m, d, r, 1.0, u, k, right, r, 0.0, p, d);
    lt_free(c), lt_free(wl), lt_free(u), lt_free(s), lt_free(vt), lt_free(right);
    return p;
}

/* U_r U_rᵀ W by the eigenvectors of the big output Gram, whatever the shape. */
static double *output_projection(const layer *l, size_t r) {
    double *y = layer_outputs(l, l->w), *g = test_doubles(l->m * l->m), *w = test_doubles(l->m),
           *u = test_doubles(l->m * l->m), *b = test_doubles(r * l->d);
    double *p = test_doubles(l->m * l->d);
    lt_gemm_f64_serial(true, false, l->m, l->m, l->n, 1.0, y, l->m, y, l->m, 0.0, g, l->m);
    lt_eigh_problem e = { .n = l->m, .a = g, .w = w, .v = u, .n_vectors = r };
    assert_ok(lt_eigh_serial(&e, NULL), &(lt_err){ 0 });
    lt_gemm_f64_serial(false, false, r, l->d, l->m, 1.0, u, l->m, l->w, l->d, 0.0, b, l->d);
    lt_gemm_f64_serial(true, false, l->m, l->d, r, 1.0, u, l->m, b, l->d, 0.0, p, l->d);
    lt_free(y), lt_free(g), lt_free(w), lt_free(u), lt_free(b);
    return p;
}

/* [W F]_r Λ^-½ Qᵀ with C = QΛQᵀ, F = QΛ^½: the two decompositions of SVD-LLM V2. */
static double *whitened_by_eigenvectors(const layer *l, size_t r) {
    const size_t m = l->m, d = l->d, k = lt_min_size(m, d);
    double *c = test_doubles(d * d), *lambda = test_doubles(d), *q = test_doubles(d * d), *wf = test_doubles(m * d),
           *u = test_doubles(m * k), *s = test_doubles(k), *vt = test_doubles(k * d), *p = test_doubles(m * d);
    int info = 0;
    lt_unpack_lower(c, l->c, d);
    lt_eigh_problem e = { .n = d, .a = c, .w = lambda, .v = q, .n_vectors = d }; /* v: one eigenvector a row */
    assert_ok(lt_eigh_serial(&e, NULL), &(lt_err){ 0 });
    lt_gemm_f64_serial(false, true, m, d, d, 1.0, l->w, d, q, d, 0.0, wf, d);
    for (size_t i = 0; i < m * d; i++) wf[i] *= sqrt(lambda[i % d]);
    assert_ok(lt_svd_serial(m, d, wf, u, s, vt, &info, NULL), &(lt_err){ 0 });
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < d; j++) vt[i * d + j] *= s[i] / sqrt(lambda[j]);
    double *right = test_doubles(r * d);
    lt_gemm_f64_serial(false, false, r, d, d, 1.0, vt, d, q, d, 0.0, right, d);
    lt_gemm_f64_serial(false, false, m, d, r, 1.0, u, k, right, d, 0.0, p, d);
    lt_free(c), lt_free(lambda), lt_free(q), lt_free(wf), lt_free(u), lt_free(s), lt_free(vt), lt_free(right);
    return p;
}

/* tr((W - P) C (W - P)ᵀ) of any matrix. */
static double error_of_product(const lt_lowrank_in *in, const double *p) {
    lt_lowrank_in gap = *in;
    double *w = test_doubles(in->m * in->d), e;
    for (size_t i = 0; i < in->m * in->d; i++) w[i] = in->w[i] - p[i];
    gap.w = w;
    assert_ok(lt_lowrank_error(&e, &gap, 0, NULL, NULL, &(lt_err){ 0 }), &(lt_err){ 0 });
    lt_free(w);
    return e;
}

static layer layer_without_scales(size_t m, size_t d, lt_rng *r) {
    layer l = layer_make(m, d, 400, false, r);
    test_fill_normal_f64(l.x, l.n * d, r);
    for (size_t i = 0; i < l.n * d; i++) l.x[i] += 0.3;
    layer_sums(&l);
    return l;
}

/* One matrix by every route where the spectrum has a gap that f64 resolves, else one error. */
static void assert_one_matrix(const layer *l, size_t rank, const double *lambda) {
    const lt_lowrank_in in = layer_in(l, LT_METRIC_INPUT);
    fit f = fit_rank(&in, rank);
    double *p = product(f.a, f.b, l->m, l->d, rank), *o = output_projection(l, rank),
           *other[] = { whitened_as_published(l, rank), whitened_by_eigenvectors(l, rank) };
    const bool gap = lambda[rank - 1] >= 1.01 * lambda[rank] && lambda[rank - 1] - lambda[rank] >= 1e-8 * lambda[0];
    const double e = error_of(&in, rank, f.a, f.b);
    if (gap) assert_true(test_rel(p, o, l->m * l->d) <= 1e-8);
    for (size_t i = 0; i < LT_COUNTOF(other); i++) {
        if (gap) assert_true(test_rel(other[i], o, l->m * l->d) <= 1e-8);
        assert_close_f64(&(double){ error_of_product(&in, other[i]) }, &e, 1, 1e-12 * lambda[0], 1e-10);
        lt_free(other[i]);
    }
    double *gram = test_doubles(rank * rank);
    lt_gemm_f64_serial(true, false, rank, rank, l->m, 1.0, f.a, rank, f.a, rank, 0.0, gram, rank);
    for (size_t i = 0; i < rank; i++) gram[i * rank + i] -= 1.0;
    assert_true(sqrt(test_norm2(gram, rank * rank)) <= 1e-10);
    lt_free(p), lt_free(o), lt_free(gram);
    fit_free(&f);
}

/* Check 10: output projection, published whitening by either factor of C, and ours are one matrix. Check 16: also on
 * the m > d side. */
static void check_10_16_all_routes_agree(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++)
        for (int scales = 0; scales < 2; scales++) {
            lt_rng r = test_rng((uint32_t)s);
            const size_t m = layer_shapes[s][0], d = layer_shapes[s][1];
            layer l = scales ? layer_make(m, d, 400, true, &r) : layer_without_scales(m, d, &r);
            const lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT);
            double total, *lambda = spectrum_of(&in, &total);
            for (size_t rank = 1; rank < lt_min_size(m, d); rank += 4) assert_one_matrix(&l, rank, lambda);
            lt_free(lambda);
            layer_free(&l);
        }
}

/* Check 11: no other matrix of that rank does better on the calibration data, and plain SVD does much worse. */
static void check_11_whitened_is_optimal(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], 400, true, &r);
        const lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT), plain = layer_in(&l, LT_METRIC_WEIGHT);
        for (size_t rank = 1; rank < lt_min_size(l.m, l.d); rank += 9) {
            fit best = fit_rank(&in, rank), svd = fit_rank(&plain, rank);
            const double e = error_of(&in, rank, best.a, best.b), other = error_of(&in, rank, svd.a, svd.b);
            assert_true(e < 0.9 * other);
            double *a = test_doubles(l.m * rank), *b = test_doubles(rank * l.d);
            for (int trial = 0; trial < (rank == 10 ? 1000 : 20); trial++) {
                const double step = pow(10.0, -1.0 - trial % 6);
                for (size_t i = 0; i < l.m * rank; i++)
                    a[i] = best.a[i] * (1.0 + step * lt_rng_normal(&r)) + 0.1 * step * lt_rng_normal(&r);
                for (size_t i = 0; i < rank * l.d; i++) b[i] = best.b[i] + step * lt_rng_normal(&r);
                assert_true(error_of(&in, rank, a, b) >= e * (1.0 - 1e-10));
            }
            lt_free(a), lt_free(b);
            fit_free(&best);
            fit_free(&svd);
        }
        layer_free(&l);
    }
}

/* Check 12: a multiple of the identity as metric is plain SVD; the scale of C changes nothing. */
static void check_12_identity_metric_is_plain_svd(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], 300, true, &r);
        const lt_lowrank_in correlated = layer_in(&l, LT_METRIC_INPUT);
        fit before = fit_rank(&correlated, 8);
        for (size_t i = 0; i < l.d * (l.d + 1) / 2; i++) l.c[i] *= 7.25;
        fit scaled = fit_rank(&correlated, 8);
        memset(l.c, 0, l.d * (l.d + 1) / 2 * sizeof *l.c);
        for (size_t i = 0; i < l.d; i++) l.c[i * (i + 1) / 2 + i] = 3.0;
        const lt_lowrank_in plain = layer_in(&l, LT_METRIC_WEIGHT);
        fit identity = fit_rank(&correlated, 8), svd = fit_rank(&plain, 8);
        double *p = product(before.a, before.b, l.m, l.d, 8), *q = product(scaled.a, scaled.b, l.m, l.d, 8);
        double *i3 = product(identity.a, identity.b, l.m, l.d, 8), *w = product(svd.a, svd.b, l.m, l.d, 8);
        assert_true(test_rel(q, p, l.m * l.d) <= 1e-10);
        assert_true(test_rel(i3, w, l.m * l.d) <= 1e-10);
        lt_free(p), lt_free(q), lt_free(i3), lt_free(w);
        fit_free(&before), fit_free(&scaled), fit_free(&identity), fit_free(&svd);
        layer_free(&l);
    }
}

/* Check 13: fewer tokens than inputs, where a Cholesky fails: no failure, and rank N loses nothing. Ranks above N
 * improve the weights. */
static void check_13_singular_gram(void **state) {
    (void)state;
    enum { TOKENS = 12 };
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], TOKENS, false, &r);
        const lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT), plain = layer_in(&l, LT_METRIC_WEIGHT);
        double total, *lambda = spectrum_of(&in, &total), last = 1e300, *c = test_doubles(l.d * l.d);
        int info = 0;
        lt_unpack_lower(c, l.c, l.d);
        lt_chol_serial(l.d, c, &info);
        assert_int_not_equal(info, 0);
        lt_free(c);
        for (size_t rank = 1; rank <= lt_min_size(l.m, l.d); rank++) {
            fit f = fit_rank(&in, rank);
            assert_close_f64(&(double){ error_of(&in, rank, f.a, f.b) }, &f.error, 1, 1e-12 * total, 1e-9);
            if (rank >= TOKENS) {
                assert_true(error_of(&in, rank, f.a, f.b) <= 1e-12 * total);
                const double in_weights = error_of(&plain, rank, f.a, f.b);
                assert_true(in_weights < last);
                last = in_weights;
            }
            fit_free(&f);
        }
        lt_free(lambda);
        layer_free(&l);
    }
}

/* Check 14: with centred outputs and the optimal bias the error is the tail of the centred Gram, never above the plain
 * one. */
static void check_14_affine(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng((uint32_t)s);
        layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], 400, true, &r);
        const size_t n = lt_min_size(l.m, l.d), rank = 9;
        const lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT);
        lt_lowrank_in affine = in;
        affine.affine = true;
        affine.sum = l.sum;
        affine.count = (double)l.n;
        double total, centred_total, *lambda = spectrum_of(&in, &total),
                                     *centred = spectrum_of(&affine, &centred_total);
        assert_close_f64(&centred_total, &total, 1, 0.0, 1e-12);
        fit f = fit_rank(&affine, rank);
        double *p = product(f.a, f.b, l.m, l.d, rank), *y = layer_outputs(&l, l.w), *z = layer_outputs(&l, p),
               *bias = test_doubles(l.m);
        for (size_t t = 0; t < l.n; t++)
            for (size_t i = 0; i < l.m; i++) z[t * l.m + i] += f.bias[i];
        const double tail = tail_sum(centred, n, rank), measured = test_dist2(y, z, l.n * l.m);
        assert_close_f64(&measured, &tail, 1, 1e-12 * total, 1e-10);
        assert_true(tail <= tail_sum(lambda, n, rank) * (1.0 + 1e-10));
        for (size_t i = 0; i < l.m; i++) /* (W - W_r) mu */
            for (size_t j = 0; j < l.d; j++) bias[i] += (l.w[i * l.d + j] - p[i * l.d + j]) * l.sum[j] / (double)l.n;
        assert_close_f64(f.bias, bias, l.m, 1e-10, 1e-10);
        lt_free(lambda), lt_free(centred), lt_free(p), lt_free(y), lt_free(z), lt_free(bias);
        fit_free(&f);
        layer_free(&l);
    }
}

/* A mean of zero leaves affine and plain the same. */
static void check_14_affine_without_mean_changes_nothing(void **state) {
    (void)state;
    lt_rng r = test_rng(3);
    layer l = layer_make(32, 48, 400, false, &r);
    for (size_t t = 0; t < l.n / 2; t++)
        for (size_t j = 0; j < l.d; j++) l.x[(l.n / 2 + t) * l.d + j] = -l.x[t * l.d + j];
    layer_sums(&l);
    lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT), affine = in;
    affine.affine = true;
    affine.sum = l.sum;
    affine.count = (double)l.n;
    fit f = fit_rank(&in, 9), g = fit_rank(&affine, 9);
    double *p = product(f.a, f.b, l.m, l.d, 9), *q = product(g.a, g.b, l.m, l.d, 9);
    assert_true(test_rel(q, p, l.m * l.d) <= 1e-10);
    lt_free(p), lt_free(q);
    fit_free(&f), fit_free(&g);
    layer_free(&l);
}

/* Check 18: the balance changes the factors, not the product. */
static void check_18_balance_keeps_the_product(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++)
        for (int metric = 0; metric < LT_N_METRICS; metric++) {
            lt_rng r = test_rng((uint32_t)s);
            layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], 300, true, &r);
            lt_lowrank_in in = layer_in(&l, (lt_metric)metric);
            fit orth = fit_rank(&in, 11);
            in.balance = LT_BALANCE_BALANCED;
            fit balanced = fit_rank(&in, 11);
            double *p = product(orth.a, orth.b, l.m, l.d, 11), *q = product(balanced.a, balanced.b, l.m, l.d, 11);
            assert_true(test_rel(q, p, l.m * l.d) <= 1e-12);
            const double a = test_norm2(balanced.a, l.m * 11), b = test_norm2(balanced.b, 11 * l.d);
            assert_close_f64(&a, &b, 1, 0.0, 1e-9);
            assert_close_f64(&(double){ test_norm2(orth.a, l.m * 11) }, &(double){ 11.0 }, 1, 1e-10, 0.0);
            lt_free(p), lt_free(q);
            fit_free(&orth), fit_free(&balanced);
            layer_free(&l);
        }
}

/* A metric made once for several modules gives the same bytes as one made inside. */
static void shared_metric_changes_no_bit(void **state) {
    (void)state;
    lt_rng r = test_rng(5);
    layer l = layer_make(48, 32, 200, true, &r);
    lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT), with = in;
    lt_metric_form *form;
    assert_ok(lt_metric_form_create(&form, l.d, l.c, NULL, 0.0, false, LT_FACTOR_ALWAYS, NULL), &(lt_err){ 0 });
    with.c = NULL;
    with.form = form;
    fit f = fit_rank(&in, 10), g = fit_rank(&with, 10);
    assert_memory_equal(f.a, g.a, 48 * 10 * sizeof(double));
    assert_memory_equal(f.b, g.b, 10 * 32 * sizeof(double));
    lt_metric_form_destroy(form);
    fit_free(&f), fit_free(&g);
    layer_free(&l);
}

static void a_zero_weight_fits_without_nan(void **state) {
    (void)state;
    lt_rng r = test_rng(6);
    layer l = layer_make(20, 12, 100, true, &r);
    memset(l.w, 0, l.m * l.d * sizeof *l.w);
    for (int metric = 0; metric < LT_N_METRICS; metric++)
        for (int balance = 0; balance < LT_N_BALANCES; balance++) {
            lt_lowrank_in in = layer_in(&l, (lt_metric)metric);
            in.balance = (lt_balance)balance;
            fit f = fit_rank(&in, 5);
            double *p = product(f.a, f.b, l.m, l.d, 5);
            assert_true(test_norm2(p, l.m * l.d) == 0.0);
            lt_free(p);
            fit_free(&f);
        }
    layer_free(&l);
}

static void a_zero_gram_fits_without_nan(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng(7);
        layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], 100, true, &r);
        memset(l.c, 0, l.d * (l.d + 1) / 2 * sizeof *l.c);
        const lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT), plain = layer_in(&l, LT_METRIC_WEIGHT);
        double total, *lambda = spectrum_of(&in, &total);
        assert_true(total == 0.0 && lambda[0] == 0.0);
        fit f = fit_rank(&in, 5), svd = fit_rank(&plain, 5); /* no data: the weights decide */
        double *p = product(f.a, f.b, l.m, l.d, 5), *q = product(svd.a, svd.b, l.m, l.d, 5);
        assert_true(test_rel(p, q, l.m * l.d) <= 1e-10);
        lt_free(lambda), lt_free(p), lt_free(q);
        fit_free(&f), fit_free(&svd);
        layer_free(&l);
    }
}

/* A Gram that is no Gram, as sums in 16 bits are: what lies below zero is taken for zero. */
static void an_indefinite_gram_fits_without_nan(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(layer_shapes); s++) {
        lt_rng r = test_rng(11);
        layer l = layer_make(layer_shapes[s][0], layer_shapes[s][1], 20, true, &r);
        const size_t n = lt_min_size(l.m, l.d);
        double largest = 0.0;
        for (size_t i = 0; i < l.d; i++) largest = fmax(largest, l.c[i * (i + 1) / 2 + i]);
        for (size_t i = 0; i < l.d; i++) l.c[i * (i + 1) / 2 + i] -= 0.01 * largest; /* most are below zero now */
        const lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT);
        double total, *lambda = spectrum_of(&in, &total);
        for (size_t i = 0; i < n; i++) assert_true(lambda[i] >= 0.0 && (i == 0 || lambda[i] <= lambda[i - 1]));
        for (size_t rank = 1; rank <= n; rank += 7) {
            fit f = fit_rank(&in, rank);
            double *p = product(f.a, f.b, l.m, l.d, rank);
            const double size = test_norm2(p, l.m * l.d);
            assert_true(isfinite(size) && size <= test_norm2(l.w, l.m * l.d) * (1.0 + 1e-10)); /* a projection of W */
            assert_true(f.error >= 0.0);
            lt_free(p);
            fit_free(&f);
        }
        lt_free(lambda);
        layer_free(&l);
    }
}

static void what_is_not_finite_is_refused(void **state) {
    (void)state;
    lt_rng r = test_rng(8);
    layer l = layer_make(10, 12, 100, true, &r);
    double lambda[10], total, a[20], b[24], e, all;
    lt_err err = { 0 };
    const lt_lowrank_in in = layer_in(&l, LT_METRIC_INPUT);
    l.c[5] = NAN;
    assert_fails(lt_lowrank_spectrum(lambda, &total, &in, &err), &err, LT_EDATA, "input Gram");
    assert_fails(lt_lowrank_fit(a, b, NULL, &e, &all, 2, &in, &err), &err, LT_EDATA, "entry 5");
    l.c[5] = 1.0;
    l.w[7] = INFINITY;
    assert_fails(lt_lowrank_spectrum(lambda, &total, &in, &err), &err, LT_EDATA, "weight");
    assert_fails(lt_lowrank_fit(a, b, NULL, &e, &all, 0, &in, &err), &err, LT_EUSAGE, "rank 0");
    assert_fails(lt_lowrank_fit(a, b, NULL, &e, &all, 11, &in, &err), &err, LT_EUSAGE, "rank 11");
    layer_free(&l);
}

typedef struct fit_args {
    lt_lowrank_in in;
    double *a, *b, *bias;
    size_t rank;
} fit_args;
static lt_status fit_again(void *user, lt_err *err) {
    fit_args *f = user;
    double e, all;
    return lt_lowrank_fit(f->a, f->b, f->bias, &e, &all, f->rank, &f->in, err);
}

static void running_out_of_memory_is_an_error_and_leaks_nothing(void **state) {
    (void)state;
    lt_rng r = test_rng(9);
    layer l = layer_make(24, 16, 8, true, &r); /* singular: every branch */
    fit_args f = { layer_in(&l, LT_METRIC_INPUT), test_doubles(24 * 12), test_doubles(12 * 16), test_doubles(24), 12 };
    f.in.balance = LT_BALANCE_BALANCED;
    f.in.affine = true;
    f.in.sum = l.sum;
    f.in.count = 8.0;
    assert_true(test_every_allocation_fails(fit_again, &f) > 10);
    lt_free(f.a), lt_free(f.b), lt_free(f.bias);
    layer_free(&l);
}

static void names_find_their_rows(void **state) {
    (void)state;
    lt_metric m;
    lt_balance b;
    for (int i = 0; i < LT_N_METRICS; i++)
        assert_true(lt_metric_find(lt_metric_name((lt_metric)i), &m) && m == (lt_metric)i);
    for (int i = 0; i < LT_N_BALANCES; i++)
        assert_true(lt_balance_find(lt_balance_name((lt_balance)i), &b) && b == (lt_balance)i);
    assert_false(lt_metric_find("outputs", &m));
    assert_false(lt_balance_find("", &b));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_01_spectrum_is_that_of_the_outputs),
        cmocka_unit_test(check_04_eigenvalues_are_not_negative),
        cmocka_unit_test(check_05_projector),
        cmocka_unit_test(check_06_energy_is_squared_singular_values),
        cmocka_unit_test(check_07_full_rank_gives_the_weight_back),
        cmocka_unit_test(check_08_low_rank_weight_is_recovered),
        cmocka_unit_test(check_09_error_is_the_tail),
        cmocka_unit_test(check_10_16_all_routes_agree),
        cmocka_unit_test(check_11_whitened_is_optimal),
        cmocka_unit_test(check_12_identity_metric_is_plain_svd),
        cmocka_unit_test(check_13_singular_gram),
        cmocka_unit_test(check_14_affine),
        cmocka_unit_test(check_14_affine_without_mean_changes_nothing),
        cmocka_unit_test(check_18_balance_keeps_the_product),
        cmocka_unit_test(shared_metric_changes_no_bit),
        cmocka_unit_test(a_zero_weight_fits_without_nan),
        cmocka_unit_test(a_zero_gram_fits_without_nan),
        cmocka_unit_test(an_indefinite_gram_fits_without_nan),
        cmocka_unit_test(what_is_not_finite_is_refused),
        cmocka_unit_test(running_out_of_memory_is_an_error_and_leaks_nothing),
        cmocka_unit_test(names_find_their_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
