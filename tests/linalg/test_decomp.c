/* SPDX-License-Identifier: Apache-2.0 */
/* Residuals, orthogonality, order and signs; the same bytes for 1, 2, 3 threads. */
#include "linalg/decomp.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "linalg/gemm.h"
#include "support/support.h"

/* c [m,n] = op(a) op(b) */
static double *product(bool ta, bool tb, size_t m, size_t n, size_t k, const double *a, const double *b) {
    double *c = lt_calloc(m * n, sizeof *c);
    assert_non_null(c);
    lt_gemm_f64_serial(ta, tb, m, n, k, 1.0, a, ta ? m : k, b, tb ? k : n, 0.0, c, n);
    return c;
}

static double *symmetric(uint32_t index, size_t n) {
    double *g = test_normal_f64(index, n * n), *a = product(false, true, n, n, n, g, g);
    for (size_t i = 0; i < n; i++) a[i * n + i] -= 0.5 * (double)n; /* both signs of eigenvalues */
    lt_free(g);
    return a;
}

static double distance_to_identity(const double *a, size_t n) {
    double worst = 0.0;
    for (size_t i = 0; i < n * n; i++) worst = fmax(worst, fabs(a[i] - (i / n == i % n ? 1.0 : 0.0)));
    return worst;
}

/* the entry of largest size of each row is positive */
static void assert_signs(const double *v, size_t rows, size_t n) {
    for (size_t r = 0; r < rows; r++) {
        size_t at = 0;
        for (size_t i = 1; i < n; i++)
            if (fabs(v[r * n + i]) > fabs(v[r * n + at])) at = i;
        assert_true(v[r * n + at] > 0.0);
    }
}

static const size_t orders[] = { 1, 2, 3, 17, 64, 131 };

static void eigenvectors_solve_their_equation(void **state) {
    (void)state;
    for (size_t s = 0; s < LT_COUNTOF(orders); s++) {
        const size_t n = orders[s], top[3] = { n, (n + 1) / 2, 1 };
        for (size_t k = 0; k < 3; k++) {
            double *a = symmetric(1, n), *full = symmetric(1, n), *w = test_normal_f64(2, n),
                   *v = test_normal_f64(3, top[k] * n);
            for (size_t i = 0; i < n; i++)
                for (size_t j = i + 1; j < n; j++) a[i * n + j] = NAN; /* only the lower triangle is read */
            lt_eigh_problem p = { .n = n, .a = a, .w = w, .v = v, .n_vectors = top[k] };
            lt_err err = { 0 };
            assert_ok(lt_eigh_serial(&p, &err), &err);
            assert_int_equal(p.info, 0);
            double *av = product(false, false, top[k], n, n, v, full),
                   *vv = product(false, true, top[k], top[k], n, v, v);
            const double scale = fmax(fabs(w[0]), fabs(w[n - 1]));
            for (size_t r = 0; r < top[k]; r++)
                for (size_t i = 0; i < n; i++)
                    assert_true(fabs(av[r * n + i] - w[r] * v[r * n + i]) <= 8.0 * DBL_EPSILON * scale * (double)n);
            for (size_t i = 1; i < n; i++) assert_true(w[i - 1] >= w[i]);
            assert_true(distance_to_identity(vv, top[k]) <= 8.0 * DBL_EPSILON * (double)n);
            assert_signs(v, top[k], n);
            lt_free(a);
            lt_free(full);
            lt_free(w);
            lt_free(v);
            lt_free(av);
            lt_free(vv);
        }
    }
}

static void eigenvalues_alone_are_those_with_vectors(void **state) {
    (void)state;
    const size_t n = 90;
    double *a = symmetric(4, n), *b = symmetric(4, n), *w = test_normal_f64(5, n), *x = test_normal_f64(5, n),
           *v = test_normal_f64(5, n * n);
    lt_eigh_problem p = { .n = n, .a = a, .w = w }, q = { .n = n, .a = b, .w = x, .v = v, .n_vectors = n };
    lt_err err = { 0 };
    assert_ok(lt_eigh_serial(&p, &err), &err);
    assert_ok(lt_eigh_serial(&q, &err), &err);
    assert_close_f64(w, x, n, 1e-11 * w[0], 0.0);
    lt_free(a);
    lt_free(b);
    lt_free(w);
    lt_free(x);
    lt_free(v);
}

static void a_batch_is_the_same_bytes_for_any_threads(void **state) {
    (void)state;
    enum { N = 9 };
    double *first[N] = { 0 };
    for (int threads = 1; threads <= 3; threads++) {
        lt_team *team;
        lt_err err = { 0 };
        lt_eigh_problem p[N] = { 0 };
        assert_ok(lt_team_create(&team, threads, NULL, &err), &err);
        for (size_t i = 0; i < N; i++) {
            const size_t n = 20 + 37 * (i * 5 % N);
            p[i] = (lt_eigh_problem){ .n = n,
                                      .a = symmetric((uint32_t)(10 + i), n),
                                      .w = test_normal_f64(6, n),
                                      .v = test_normal_f64(7, n * n),
                                      .n_vectors = n };
        }
        assert_ok(lt_eigh_batch(team, p, N, &err), &err);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(p[i].info, 0);
            if (first[i]) assert_memory_equal(p[i].v, first[i], p[i].n * p[i].n * sizeof(double));
            lt_free(p[i].a);
            lt_free(p[i].w);
            if (first[i])
                lt_free(p[i].v);
            else
                first[i] = p[i].v;
        }
        assert_ok(lt_eigh_batch(team, p, 0, &err), &err);
        lt_team_destroy(team);
    }
    for (size_t i = 0; i < N; i++) lt_free(first[i]);
}

/* One of four decompositions of a matrix that belongs to index i; returns the bytes of *out, which the caller frees. */
static size_t mixed_call(uint32_t i, double **out) {
    const size_t n = 16 + i * 37 % 120;
    double *a = symmetric(1000 + i, n), *v = test_normal_f64(0, n * n), *u = test_normal_f64(0, n * n),
           *w = test_normal_f64(0, n);
    int info = 0;
    lt_eigh_problem p = { .n = n, .a = a, .w = w, .v = v, .n_vectors = n };
    if (i % 4 == 0)
        lt_eigh_serial(&p, NULL);
    else if (i % 4 == 1)
        lt_svd_serial(n, n, a, u, w, v, &info, NULL);
    else if (i % 4 == 2)
        lt_orth_serial(n, n, a, NULL);
    else {
        for (size_t j = 0; j < n; j++) a[j * n + j] += (double)n;
        lt_chol_serial(n, a, &info);
    }
    *out = i % 4 < 2 ? v : a;
    lt_free(i % 4 < 2 ? a : v);
    lt_free(u);
    lt_free(w);
    return n * n * sizeof(double);
}

static lt_status compare_call(void *user, size_t i, lt_err *err) {
    double *const *alone = user, *here = NULL;
    const size_t bytes = mixed_call((uint32_t)i, &here);
    const bool same = memcmp(here, alone[i], bytes) == 0;
    lt_free(here);
    return same ? LT_OK : lt_fail(err, LT_EINTERNAL, "call %zu differs from the same call alone", i);
}

/* Some builds of OpenBLAS fail this when their calls do not wait for one another: linalg/blas.h. */
static void calls_from_many_threads_are_those_of_one(void **state) {
    (void)state;
    enum { N = 240 };
    double *alone[N] = { 0 };
    for (uint32_t i = 0; i < N; i++) mixed_call(i, &alone[i]);
    for (int threads = 2; threads <= 8; threads *= 2) {
        lt_team *team;
        lt_err err = { 0 };
        assert_ok(lt_team_create(&team, threads, NULL, &err), &err);
        assert_ok(lt_team_for(team, N, compare_call, alone, &err), &err);
        lt_team_destroy(team);
    }
    for (size_t i = 0; i < N; i++) lt_free(alone[i]);
}

static void bad_eigenproblems(void **state) {
    (void)state;
    lt_err err = { 0 };
    double a[4] = { 1, 0, 0, 1 }, w[2], v[4];
    lt_eigh_problem p = { .n = 2, .a = a, .w = w, .v = v, .n_vectors = 3 };
    assert_fails(lt_eigh_serial(&p, &err), &err, LT_EUSAGE, "3 of 2");
    lt_eigh_problem none = { .n = 0 };
    assert_ok(lt_eigh_serial(&none, &err), &err);
}

static void singular_vectors_rebuild_the_matrix(void **state) {
    (void)state;
    static const size_t shape[][2] = { { 1, 1 }, { 1, 9 }, { 9, 1 }, { 40, 17 }, { 17, 40 }, { 60, 60 }, { 200, 20 } };
    for (size_t c = 0; c < LT_COUNTOF(shape); c++) {
        const size_t m = shape[c][0], n = shape[c][1], k = lt_min_size(m, n);
        double *a = test_normal_f64(20, m * n), *b = test_normal_f64(20, m * n), *u = test_normal_f64(21, m * k),
               *s = test_normal_f64(22, k), *vt = test_normal_f64(23, k * n), *s1 = test_normal_f64(24, k);
        lt_err err = { 0 };
        int info;
        assert_ok(lt_svd_serial(m, n, a, u, s, vt, &info, &err), &err);
        assert_int_equal(info, 0);
        double *uu = product(true, false, k, k, m, u, u), *vv = product(false, true, k, k, n, vt, vt);
        assert_true(distance_to_identity(uu, k) <= 1e-13 && distance_to_identity(vv, k) <= 1e-13);
        assert_signs(vt, k, n);
        for (size_t i = 0; i < m; i++)
            for (size_t r = 0; r < k; r++) u[i * k + r] *= s[r];
        double *again = product(false, false, m, n, k, u, vt);
        assert_close_f64(again, b, m * n, 1e-13 * s[0] * (double)k, 0.0);
        for (size_t r = 1; r < k; r++) assert_true(s[r - 1] >= s[r] && s[r] >= 0.0);
        assert_ok(lt_svd_serial(m, n, b, NULL, s1, NULL, &info, &err), &err);
        assert_close_f64(s1, s, k, 1e-12 * s[0], 0.0);
        lt_free(a);
        lt_free(b);
        lt_free(u);
        lt_free(s);
        lt_free(vt);
        lt_free(s1);
        lt_free(uu);
        lt_free(vv);
        lt_free(again);
    }
}

static void cholesky_rebuilds_and_names_the_failing_minor(void **state) {
    (void)state;
    const size_t n = 50;
    double *g = test_normal_f64(30, n * n), *a = product(false, true, n, n, n, g, g);
    for (size_t i = 0; i < n; i++) a[i * n + i] += 1.0;
    double *l = lt_malloc(n * n * sizeof *l);
    memcpy(l, a, n * n * sizeof *l);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) l[i * n + j] = NAN;
    int info;
    lt_chol_serial(n, l, &info);
    assert_int_equal(info, 0);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) assert_true(l[i * n + j] == 0.0);
    double *ll = product(false, true, n, n, n, l, l);
    assert_close_f64(ll, a, n * n, 1e-12 * (double)n, 0.0);
    double not_pd[9] = { 4, 0, 0, 2, 1, 0, 0, 0, 1 }; /* the second minor is 4 * 1 - 2 * 2 = 0 */
    not_pd[4] = 0.5;
    lt_chol_serial(3, not_pd, &info);
    assert_int_equal(info, 2);
    lt_free(g);
    lt_free(a);
    lt_free(l);
    lt_free(ll);
}

static void triangular_solves_invert_both_ways(void **state) {
    (void)state;
    const size_t n = 33, m = 12;
    double *l = test_normal_f64(31, n * n), *x = test_normal_f64(32, n * m), *keep = test_normal_f64(32, n * m);
    for (size_t i = 0; i < n; i++) {
        l[i * n + i] = 3.0 + fabs(l[i * n + i]);
        for (size_t j = 0; j < n; j++)
            if (j > i)
                l[i * n + j] = 0.0;
            else if (j < i)
                l[i * n + j] *= 0.1;
    }
    for (int trans = 0; trans < 2; trans++) {
        memcpy(x, keep, n * m * sizeof *x);
        lt_trsm_serial(n, m, l, trans, x);
        double *back = product(trans, false, n, m, n, l, x);
        assert_close_f64(back, keep, n * m, 1e-13 * (double)n, 0.0);
        lt_free(back);
    }
    lt_free(l);
    lt_free(x);
    lt_free(keep);
}

static void orthonormal_columns_span_the_input(void **state) {
    (void)state;
    static const size_t shape[][2] = { { 1, 1 }, { 9, 1 }, { 40, 40 }, { 150, 30 } };
    for (size_t c = 0; c < LT_COUNTOF(shape); c++) {
        const size_t m = shape[c][0], n = shape[c][1];
        double *q = test_normal_f64(40, m * n), *a = test_normal_f64(40, m * n);
        lt_err err = { 0 };
        assert_ok(lt_orth_serial(m, n, q, &err), &err);
        double *qq = product(true, false, n, n, m, q, q), *r = product(true, false, n, n, m, q, a),
               *again = product(false, false, m, n, n, q, r);
        assert_true(distance_to_identity(qq, n) <= 1e-13);
        assert_close_f64(again, a, m * n, 1e-13 * (double)m, 0.0); /* q qᵀ a = a */
        lt_free(q);
        lt_free(a);
        lt_free(qq);
        lt_free(r);
        lt_free(again);
    }
    lt_err err = { 0 };
    double a[2] = { 1, 2 };
    assert_fails(lt_orth_serial(1, 2, a, &err), &err, LT_EUSAGE, "[1, 2]");
}

/* Signs and directions stay: a whole turn of the basis would lose what the columns are sorted by. */
static void nearly_orthonormal_columns_hardly_move(void **state) {
    (void)state;
    const size_t m = 300, n = 140;
    double *a = test_normal_f64(41, m * n), *noise = test_normal_f64(42, m * n);
    lt_err err = { 0 };
    assert_ok(lt_orth_serial(m, n, a, &err), &err);
    for (size_t i = 0; i < m * n; i++) a[i] += 1e-6 * noise[i];
    double *q = lt_malloc(m * n * sizeof *q);
    assert_non_null(q);
    memcpy(q, a, m * n * sizeof *q);
    assert_ok(lt_orth_serial(m, n, q, &err), &err);
    double *qq = product(true, false, n, n, m, q, q);
    assert_true(distance_to_identity(qq, n) <= 1e-13);
    assert_close_f64(q, a, m * n, 1e-4, 0.0);
    lt_free(a);
    lt_free(noise);
    lt_free(q);
    lt_free(qq);
}

static void eigenvalues_of_any_size(void **state) {
    (void)state;
    static const double by[] = { 0x1p-1000, 1.0, 0x1p900 };
    enum { N = 40 };
    for (size_t k = 0; k < LT_COUNTOF(by); k++) {
        double *a = symmetric(1, N), *same = symmetric(1, N), *w = test_normal_f64(2, N),
               *v = test_normal_f64(3, N * N), *expected = test_normal_f64(4, N);
        lt_eigh_problem p = { .n = N, .a = a, .w = w, .v = v, .n_vectors = N },
                        q = { .n = N, .a = same, .w = expected };
        lt_err err = { 0 };
        for (size_t i = 0; i < (size_t)N * N; i++) a[i] *= by[k];
        assert_ok(lt_eigh_serial(&p, &err), &err);
        assert_ok(lt_eigh_serial(&q, &err), &err);
        assert_int_equal(p.info, 0);
        for (size_t i = 0; i < N; i++) assert_true(fabs(w[i] / by[k] - expected[i]) <= 1e-12 * fabs(expected[0]));
        lt_free(a);
        lt_free(same);
        lt_free(w);
        lt_free(v);
        lt_free(expected);
    }
}

static lt_status all_once(void *user, lt_err *err) {
    lt_team *team = user;
    double a[9] = { 2, 0, 0, 1, 2, 0, 0, 1, 2 }, b[6] = { 1, 2, 3, 4, 5, 7 }, c[6] = { 1, 2, 3, 4, 5, 7 }, w[3], v[9],
           u[6], s[2], vt[4];
    int info;
    lt_eigh_problem p = { .n = 3, .a = a, .w = w, .v = v, .n_vectors = 3 };
    LT_TRY(lt_eigh_batch(team, &p, 1, err));
    LT_TRY(lt_svd_serial(3, 2, b, u, s, vt, &info, err));
    return lt_orth_serial(3, 2, c, err);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    lt_team *team;
    lt_err err = { 0 };
    assert_ok(lt_team_create(&team, 1, NULL, &err), &err);
    assert_int_equal(test_every_allocation_fails(all_once, team), 12);
    lt_team_destroy(team);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eigenvectors_solve_their_equation),
        cmocka_unit_test(eigenvalues_alone_are_those_with_vectors),
        cmocka_unit_test(a_batch_is_the_same_bytes_for_any_threads),
        cmocka_unit_test(calls_from_many_threads_are_those_of_one),
        cmocka_unit_test(bad_eigenproblems),
        cmocka_unit_test(singular_vectors_rebuild_the_matrix),
        cmocka_unit_test(cholesky_rebuilds_and_names_the_failing_minor),
        cmocka_unit_test(triangular_solves_invert_both_ways),
        cmocka_unit_test(orthonormal_columns_span_the_input),
        cmocka_unit_test(nearly_orthonormal_columns_hardly_move),
        cmocka_unit_test(eigenvalues_of_any_size),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
