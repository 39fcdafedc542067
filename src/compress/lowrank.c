/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/lowrank.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "linalg/gemm.h"

static const char *const metric_names[LT_N_METRICS] = { "weight", "input" };
static const char *const balance_names[LT_N_BALANCES] = { "orth", "balanced" };

static bool find_name(const char *name, const char *const *names, int n, int *out) {
    for (int i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0) return *out = i, true;
    return false;
}

const char *lt_metric_name(lt_metric m) {
    return metric_names[m];
}
const char *lt_balance_name(lt_balance b) {
    return balance_names[b];
}

bool lt_metric_find(const char *name, lt_metric *out) {
    int i;
    return find_name(name, metric_names, LT_N_METRICS, &i) && (*out = (lt_metric)i, true);
}

bool lt_balance_find(const char *name, lt_balance *out) {
    int i;
    return find_name(name, balance_names, LT_N_BALANCES, &i) && (*out = (lt_balance)i, true);
}

static lt_status new_matrix(double **out, size_t rows, size_t cols, lt_err *err) {
    size_t n;
    *out = lt_mul_size(rows, cols, &n) && lt_mul_size(n, sizeof(double), &n) ? lt_malloc(n) : NULL;
    return *out ? LT_OK : lt_fail(err, LT_ENOMEM, "low rank: no memory for a %zu x %zu matrix", rows, cols);
}

static lt_status check_finite(const double *x, size_t n, const char *what, lt_err *err) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return lt_fail(err, LT_EDATA, "%s holds a value that is not finite (entry %zu: %g)", what, i, x[i]);
    return LT_OK;
}

static double norm2(const double *x, size_t n) {
    double s = 0.0;
    for (size_t i = 0; i < n; i++) s += x[i] * x[i];
    return s;
}

static double trace(const double *a, size_t n) {
    double s = 0.0;
    for (size_t i = 0; i < n; i++) s += a[i * n + i];
    return s;
}

static void transpose(double *to, const double *from, size_t rows, size_t cols) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) to[j * rows + i] = from[i * cols + j];
}

static void scale(double *x, size_t n, double by) {
    for (size_t i = 0; i < n; i++) x[i] *= by;
}

/* Below this an eigenvalue of an n x n matrix with largest eigenvalue `top` is rounding. */
static double noise_level(size_t n, double top) {
    return (double)n * DBL_EPSILON * fmax(top, 0.0);
}

static lt_status eigh(size_t n, double *a, double *w, double *v, size_t n_vectors, lt_err *err) {
    lt_eigh_problem p = { .n = n, .a = a, .w = w, .v = v, .n_vectors = n_vectors };
    LT_TRY(lt_eigh_serial(&p, err));
    return p.info == 0
               ? LT_OK
               : lt_fail(err, LT_EINTERNAL, "low rank: eigenvalues of a %zu x %zu matrix did not converge (info %d)", n,
                         n, p.info);
}

/* ---- the metric ---- */

/* Cholesky is as exact as the eigen route whenever it succeeds (both are backward stable) and costs a tenth. */
static lt_status factor_by_cholesky(lt_metric_form *f, int *info, lt_err *err) {
    LT_TRY(new_matrix(&f->f, f->d, f->d, err));
    memcpy(f->f, f->c, f->d * f->d * sizeof(double));
    lt_chol_serial(f->d, f->f, info);
    for (size_t i = 0; *info == 0 && i < f->d; i++)
        if (!isfinite(f->f[i * f->d + i])) *info = 1;
    f->k = f->d;
    return LT_OK;
}

static lt_status factor_by_eigen(lt_metric_form *f, lt_err *err) {
    const size_t d = f->d;
    double *v = NULL, *w = NULL, *a = NULL;
    lt_status st;
    LT_GO(new_matrix(&v, d, d, err));
    LT_GO(new_matrix(&w, d, 1, err));
    LT_GO(new_matrix(&a, d, d, err));
    memcpy(a, f->c, d * d * sizeof(double));
    LT_GO(eigh(d, a, w, v, d, err));
    f->k = 0;
    while (f->k < d && w[f->k] > noise_level(d, w[0])) f->k++;
    for (size_t i = 0; i < f->k; i++) scale(v + i * d, d, sqrt(w[i]));
    transpose(f->f, v, f->k, d);
done:
    lt_free(v);
    lt_free(w);
    lt_free(a);
    return st;
}

static lt_status factor_metric(lt_metric_form *f, lt_err *err) {
    int info = 0;
    LT_TRY(factor_by_cholesky(f, &info, err));
    return info == 0 ? LT_OK : factor_by_eigen(f, err);
}

/* c -= N mu muᵀ */
static lt_status centre(lt_metric_form *f, const double *sum, double count, lt_err *err) {
    const size_t d = f->d;
    if (!(count > 0.0)) return lt_fail(err, LT_EDATA, "low rank: centring needs a positive count, got %g", count);
    LT_TRY(check_finite(sum, d, "input sum", err));
    LT_TRY(new_matrix(&f->mu, d, 1, err));
    f->count = count;
    for (size_t i = 0; i < d; i++) f->mu[i] = sum[i] / count;
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < d; j++) f->c[i * d + j] -= sum[i] * f->mu[j];
    for (size_t i = 0; i < d; i++) /* sum_i mu_j and sum_j mu_i may round apart */
        for (size_t j = 0; j < i; j++) f->c[j * d + i] = f->c[i * d + j];
    return LT_OK;
}

lt_status lt_metric_form_create(lt_metric_form **out, size_t d, const double *c, const double *sum, double count,
                                bool affine, bool factored, lt_err *err) {
    lt_metric_form *f = lt_calloc(1, sizeof *f);
    if (!f) return lt_fail(err, LT_ENOMEM, "low rank: no memory for a metric");
    lt_status st;
    f->d = d;
    f->affine = affine;
    LT_GO(check_finite(c, d * (d + 1) / 2, "input Gram", err));
    LT_GO(new_matrix(&f->c, d, d, err));
    lt_unpack_lower(f->c, c, d);
    if (affine) LT_GO(centre(f, sum, count, err));
    if (factored) LT_GO(factor_metric(f, err));
done:
    if (st != LT_OK)
        lt_metric_form_destroy(f);
    else
        *out = f;
    return st;
}

void lt_metric_form_destroy(lt_metric_form *f) {
    if (!f) return;
    lt_free(f->c);
    lt_free(f->mu);
    lt_free(f->f);
    lt_free(f);
}

size_t lt_metric_form_bytes(size_t d, bool factored) {
    return d * d * sizeof(double) * (factored ? 4 : 1);
}

/* ---- one module: the eigenproblem on the smaller side ---- */

typedef struct problem {
    size_t m, d;
    const double *w;
    const lt_metric_form *form; /* NULL: M = I */
    bool wide;                  /* m <= d: eigenvectors are U itself */
    size_t n;                   /* size of the eigenproblem; may be below min(m, d) when M is singular */
} problem;

static problem make_problem(const lt_lowrank_in *in, const lt_metric_form *form) {
    const bool wide = in->m <= in->d;
    return (problem){ in->m, in->d, in->w, form, wide, wide ? in->m : form ? form->k : in->d };
}

/* Lower triangle of the symmetric c [n, n] = op(A) op(B), by block columns: a third of the work of the full product is
 * left out. */
static void symmetric_product(bool ta, bool tb, size_t n, size_t k, const double *a, size_t lda, const double *b,
                              size_t ldb, double *c) {
    enum { BLOCK = 128 };
    for (size_t j = 0; j < n; j += BLOCK) {
        const double *rows = ta ? a + j : a + j * lda, *cols = tb ? b + j * ldb : b + j;
        lt_gemm_f64_serial(ta, tb, n - j, lt_min_size(BLOCK, n - j), k, 1.0, rows, lda, cols, ldb, 0.0, c + j * n + j,
                           n);
    }
}

/* Square blocks, so that columns are not walked one cache line an entry. */
static void mirror(double *a, size_t n) {
    enum { BLOCK = 32 };
    for (size_t i0 = 0; i0 < n; i0 += BLOCK)
        for (size_t j0 = 0; j0 <= i0; j0 += BLOCK)
            for (size_t i = i0; i < lt_min_size(i0 + BLOCK, n); i++)
                for (size_t j = j0; j < lt_min_size(j0 + BLOCK, i); j++) a[j * n + i] = a[i * n + j];
}

/* g [m, m], lower triangle, = W M Wᵀ */
static lt_status output_gram(double *g, const problem *p, lt_err *err) {
    double *t = NULL;
    if (p->form) {
        LT_TRY(new_matrix(&t, p->m, p->d, err));
        lt_gemm_f64_serial(false, false, p->m, p->d, p->d, 1.0, p->w, p->d, p->form->c, p->d, 0.0, t, p->d);
    }
    symmetric_product(false, true, p->m, p->d, t ? t : p->w, p->d, p->w, p->d, g);
    lt_free(t);
    return LT_OK;
}

/* g [k, k], lower triangle, = Fᵀ WᵀW F */
static lt_status whitened_gram(double *g, const problem *p, lt_err *err) {
    const size_t d = p->d, k = p->n;
    double *s = NULL, *t = NULL;
    lt_status st;
    if (!p->form) {
        symmetric_product(true, false, d, p->m, p->w, d, p->w, d, g);
        return LT_OK;
    }
    LT_GO(new_matrix(&s, d, d, err));
    LT_GO(new_matrix(&t, d, k, err));
    symmetric_product(true, false, d, p->m, p->w, d, p->w, d, s);
    mirror(s, d);
    lt_gemm_f64_serial(false, false, d, k, d, 1.0, s, d, p->form->f, k, 0.0, t, k);
    symmetric_product(true, false, k, d, p->form->f, k, t, k, g);
done:
    lt_free(s);
    lt_free(t);
    return st;
}

/* lambda [min(m, d)]; vectors: the first n_vectors as rows [n_vectors, p->n]. */
static lt_status decompose(double *lambda, double *vectors, size_t n_vectors, double *total, const problem *p,
                           lt_err *err) {
    double *g = NULL;
    lt_status st;
    LT_GO(new_matrix(&g, p->n, p->n, err));
    LT_GO(p->wide ? output_gram(g, p, err) : whitened_gram(g, p, err));
    *total = fmax(trace(g, p->n), 0.0);
    LT_GO(check_finite(total, 1, "output Gram", err));
    if (p->n) LT_GO(eigh(p->n, g, lambda, vectors, n_vectors, err));
    for (size_t i = 0; i < lt_min_size(p->m, p->d); i++) lambda[i] = i < p->n ? fmax(lambda[i], 0.0) : 0.0;
done:
    lt_free(g);
    return st;
}

static lt_status start(problem *p, lt_metric_form **made, const lt_lowrank_in *in, lt_err *err) {
    const lt_metric_form *form = in->form;
    *made = NULL;
    LT_REQUIRE(err, in->m > 0 && in->d > 0, "low rank: a %zu x %zu matrix", in->m, in->d);
    LT_TRY(check_finite(in->w, in->m * in->d, "weight", err));
    if (!form && in->c) {
        LT_TRY(lt_metric_form_create(made, in->d, in->c, in->sum, in->count, in->affine, in->m > in->d, err));
        form = *made;
    }
    *p = make_problem(in, form);
    return LT_OK;
}

/* N ‖W mu‖²: what centring took from the trace */
static lt_status mean_energy(double *out, const problem *p, lt_err *err) {
    double *y;
    *out = 0.0;
    if (!p->form || !p->form->affine) return LT_OK;
    LT_TRY(new_matrix(&y, p->m, 1, err));
    lt_gemm_f64_serial(false, false, p->m, 1, p->d, 1.0, p->w, p->d, p->form->mu, 1, 0.0, y, 1);
    *out = p->form->count * norm2(y, p->m);
    lt_free(y);
    return LT_OK;
}

lt_status lt_lowrank_spectrum(double *lambda, double *total, const lt_lowrank_in *in, lt_err *err) {
    lt_metric_form *made;
    problem p;
    double mean = 0.0;
    lt_status st;
    LT_GO(start(&p, &made, in, err));
    LT_GO(decompose(lambda, NULL, 0, total, &p, err));
    LT_GO(mean_energy(&mean, &p, err));
    *total += mean;
done:
    lt_metric_form_destroy(made);
    return st;
}

/* ---- the fit ---- */

/* u [m, r] columns from eigenvector rows; r <= number of eigenvalues above rounding, so no sigma is 0. */
static lt_status columns_of_u(double *u, double *v, size_t r, const double *lambda, const problem *p, lt_err *err) {
    double *ft = NULL, *ut = NULL;
    lt_status st = LT_OK;
    if (p->wide) {
        transpose(u, v, r, p->m);
        return LT_OK;
    }
    const double *right = v; /* [r, d] = V_rᵀ Fᵀ */
    if (p->form) {
        LT_GO(new_matrix(&ft, r, p->d, err));
        lt_gemm_f64_serial(false, true, r, p->d, p->n, 1.0, v, p->n, p->form->f, p->n, 0.0, ft, p->d);
        right = ft;
    }
    LT_GO(new_matrix(&ut, r, p->m, err));
    lt_gemm_f64_serial(false, true, r, p->m, p->d, 1.0, right, p->d, p->w, p->d, 0.0, ut, p->m);
    for (size_t i = 0; i < r; i++) scale(ut + i * p->m, p->m, 1.0 / sqrt(lambda[i]));
    transpose(u, ut, r, p->m);
    LT_GO(r ? lt_orth_serial(p->m, r, u, err) : LT_OK);
done:
    lt_free(ft);
    lt_free(ut);
    return st;
}

static lt_status basis(double *u, double *lambda, size_t r, const problem *p, lt_err *err);

/* Columns k.. of u [m, r]: the plain SVD of W - U_k U_kᵀ W, for which the metric has no preference. */
static lt_status complete(double *u, const double *first, size_t k, size_t r, const problem *p, lt_err *err) {
    const size_t m = p->m, d = p->d, more = r - k;
    double *left = NULL, *b = NULL, *extra = NULL, *lambda = NULL;
    lt_status st;
    LT_GO(new_matrix(&left, m, d, err));
    LT_GO(new_matrix(&b, lt_max_size(k, 1), d, err));
    LT_GO(new_matrix(&extra, m, more, err));
    LT_GO(new_matrix(&lambda, lt_min_size(m, d), 1, err));
    memcpy(left, p->w, m * d * sizeof(double));
    if (k) {
        lt_gemm_f64_serial(true, false, k, d, m, 1.0, first, k, p->w, d, 0.0, b, d);
        lt_gemm_f64_serial(false, false, m, d, k, -1.0, first, k, b, d, 1.0, left, d);
    }
    const problem plain = { m, d, left, NULL, m <= d, lt_min_size(m, d) };
    LT_GO(basis(extra, lambda, more, &plain, err));
    for (size_t i = 0; i < m; i++) {
        memcpy(u + i * r, first + i * k, k * sizeof(double));
        memcpy(u + i * r + k, extra + i * more, more * sizeof(double));
    }
    st = lt_orth_serial(m, r, u, err);
done:
    lt_free(left);
    lt_free(b);
    lt_free(extra);
    lt_free(lambda);
    return st;
}

/* A zero W, or one whose rank is below r: zero columns, which the QR turns into any completion. */
static lt_status pad_columns(double *u, const double *first, size_t k, size_t r, size_t m, lt_err *err) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < r; j++) u[i * r + j] = j < k ? first[i * k + j] : 0.0;
    return lt_orth_serial(m, r, u, err);
}

/* u [m, r]: orthonormal columns spanning the best r directions; lambda [min(m, d)]. */
static lt_status basis(double *u, double *lambda, size_t r, const problem *p, lt_err *err) {
    const size_t n_vectors = lt_min_size(r, p->n);
    double *v = NULL, *first = NULL, total;
    lt_status st;
    LT_GO(new_matrix(&v, lt_max_size(n_vectors, 1), lt_max_size(p->n, 1), err));
    LT_GO(decompose(lambda, v, n_vectors, &total, p, err));
    size_t k = 0;
    while (k < n_vectors && lambda[k] > noise_level(p->n, lambda[0])) k++;
    if (k == r) {
        st = columns_of_u(u, v, r, lambda, p, err);
        goto done;
    }
    LT_GO(new_matrix(&first, p->m, lt_max_size(k, 1), err));
    LT_GO(columns_of_u(first, v, k, lambda, p, err));
    st = p->form ? complete(u, first, k, r, p, err) : pad_columns(u, first, k, r, p->m, err);
done:
    lt_free(v);
    lt_free(first);
    return st;
}

/* From orthonormal A: B Bᵀ = P Σ² Pᵀ, A <- A P Σ^½, B <- Σ^-½ Pᵀ B. The product is exact whatever the accuracy of Σ, so
 * sigmas below what the eigenproblem resolves may be raised to that level. */
static lt_status balance(double *a, double *b, size_t m, size_t d, size_t r, lt_err *err) {
    double *g = NULL, *s = NULL, *pt = NULL, *t = NULL;
    lt_status st;
    LT_GO(new_matrix(&g, r, r, err));
    LT_GO(new_matrix(&s, r, 1, err));
    LT_GO(new_matrix(&pt, r, r, err));
    LT_GO(new_matrix(&t, r, lt_max_size(m, d), err));
    symmetric_product(false, true, r, d, b, d, b, d, g);
    LT_GO(eigh(r, g, s, pt, r, err));
    if (s[0] <= 0.0) goto done; /* a zero weight */
    const double least = noise_level(r, s[0]);
    for (size_t i = 0; i < r; i++) s[i] = sqrt(sqrt(fmax(s[i], least)));
    lt_gemm_f64_serial(false, false, r, d, r, 1.0, pt, r, b, d, 0.0, t, d);
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < d; j++) b[i * d + j] = t[i * d + j] / s[i];
    lt_gemm_f64_serial(false, true, m, r, r, 1.0, a, r, pt, r, 0.0, t, r);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < r; j++) a[i * r + j] = t[i * r + j] * s[j];
done:
    lt_free(g);
    lt_free(s);
    lt_free(pt);
    lt_free(t);
    return st;
}

/* delta = (W - AB) mu */
static lt_status bias_delta_of(double *delta, const double *a, const double *b, size_t r, const problem *p,
                               lt_err *err) {
    double *h;
    LT_TRY(new_matrix(&h, r, 1, err));
    lt_gemm_f64_serial(false, false, p->m, 1, p->d, 1.0, p->w, p->d, p->form->mu, 1, 0.0, delta, 1);
    lt_gemm_f64_serial(false, false, r, 1, p->d, 1.0, b, p->d, p->form->mu, 1, 0.0, h, 1);
    lt_gemm_f64_serial(false, false, p->m, 1, r, -1.0, a, r, h, 1, 1.0, delta, 1);
    lt_free(h);
    return LT_OK;
}

lt_status lt_lowrank_fit(double *a, double *b, double *bias_delta, double *error, size_t rank, const lt_lowrank_in *in,
                         lt_err *err) {
    const size_t n = lt_min_size(in->m, in->d);
    LT_REQUIRE(err, rank >= 1 && rank <= n, "low rank: rank %zu of a %zu x %zu matrix", rank, in->m, in->d);
    lt_metric_form *made;
    problem p;
    double *lambda = NULL;
    lt_status st;
    LT_GO(start(&p, &made, in, err));
    LT_GO(new_matrix(&lambda, n, 1, err));
    LT_GO(basis(a, lambda, rank, &p, err));
    lt_gemm_f64_serial(true, false, rank, in->d, in->m, 1.0, a, rank, in->w, in->d, 0.0, b, in->d);
    *error = 0.0;
    for (size_t i = n; i > rank; i--) *error += lambda[i - 1];
    if (bias_delta && p.form && p.form->affine) LT_GO(bias_delta_of(bias_delta, a, b, rank, &p, err));
    if (in->balance == LT_BALANCE_BALANCED) LT_GO(balance(a, b, in->m, in->d, rank, err));
done:
    lt_metric_form_destroy(made);
    lt_free(lambda);
    return st;
}

size_t lt_lowrank_scratch_bytes(size_t m, size_t d, size_t rank) {
    const size_t n = lt_min_size(m, d), big = lt_max_size(m, d);
    /* products of the spectrum, LAPACK's copies of the eigenproblem, then vectors and their images */
    return sizeof(double) * (2 * n * big + 4 * n * n + rank * (n + 2 * big + 3 * rank));
}

lt_status lt_lowrank_error(double *error, const lt_lowrank_in *in, size_t rank, const double *a, const double *b,
                           lt_err *err) {
    const size_t m = in->m, d = in->d;
    double *delta = NULL, *c = NULL, *t = NULL;
    lt_status st;
    LT_GO(new_matrix(&delta, m, d, err));
    memcpy(delta, in->w, m * d * sizeof(double));
    lt_gemm_f64_serial(false, false, m, d, rank, -1.0, a, rank, b, d, 1.0, delta, d);
    *error = norm2(delta, m * d);
    if (!in->c) goto done;
    LT_GO(new_matrix(&c, d, d, err));
    LT_GO(new_matrix(&t, m, d, err));
    lt_unpack_lower(c, in->c, d);
    lt_gemm_f64_serial(false, false, m, d, d, 1.0, delta, d, c, d, 0.0, t, d);
    *error = 0.0;
    for (size_t i = 0; i < m * d; i++) *error += t[i] * delta[i];
done:
    lt_free(delta);
    lt_free(c);
    lt_free(t);
    return st;
}
