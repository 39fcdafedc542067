/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/lowrank.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "linalg/gemm.h"
#include "linalg/triangle.h"

static const lt_metric_row metric_rows[LT_N_METRICS] = {
    [LT_METRIC_WEIGHT] = { "weight", LT_FORM_NONE, false, false },
    [LT_METRIC_INPUT] = { "input", LT_FORM_GRAM, true, true },
    [LT_METRIC_ABS] = { "abs", LT_FORM_ABS, false, false },
    [LT_METRIC_INPUT_BIASED] = { "input_biased", LT_FORM_GRAM_SUM, false, false },
    [LT_METRIC_OUTPUT] = { "output", LT_FORM_OUTPUT, false, true },
    [LT_METRIC_PROJECTED] = { "projected", LT_FORM_GRAM, false, false },
};
static const char *const balance_names[LT_N_BALANCES] = { "orth", "balanced" };

static bool find_name(const char *name, const char *const *names, int n, int *out) {
    for (int i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0) return *out = i, true;
    return false;
}

const lt_metric_row *lt_metric_get(lt_metric m) {
    return &metric_rows[m];
}
const char *lt_metric_name(lt_metric m) {
    return metric_rows[m].name;
}
const char *lt_balance_name(lt_balance b) {
    return balance_names[b];
}

bool lt_metric_find(const char *name, lt_metric *out) {
    for (int i = 0; i < LT_N_METRICS; i++)
        if (strcmp(name, metric_rows[i].name) == 0) return *out = (lt_metric)i, true;
    return false;
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
static lt_status factor_by_cholesky(lt_metric_form *f, lt_err *err) {
    int info;
    LT_TRY(new_matrix(&f->f, f->d, f->d, err));
    memcpy(f->f, f->c, f->d * f->d * sizeof(double));
    lt_chol_serial(f->d, f->f, &info);
    for (size_t i = 0; info == 0 && i < f->d; i++)
        if (!isfinite(f->f[i * f->d + i])) info = 1;
    f->k = f->d;
    f->lower = info == 0;
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
    lt_transpose_f64(f->f, v, f->k, d);
done:
    lt_free(v);
    lt_free(w);
    lt_free(a);
    return st;
}

static lt_status factor_metric(lt_metric_form *f, lt_factor how, lt_err *err) {
    if (how == LT_FACTOR_NONE) return LT_OK;
    LT_TRY(factor_by_cholesky(f, err));
    if (f->lower) return LT_OK;
    if (how == LT_FACTOR_ALWAYS) return factor_by_eigen(f, err);
    lt_free(f->f);
    f->f = NULL;
    return LT_OK;
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

static lt_status keep_sum(lt_metric_form *f, const double *sum, double count, lt_err *err) {
    LT_TRY(check_finite(sum, f->d, "input sum", err));
    LT_TRY(new_matrix(&f->sum, f->d, 1, err));
    memcpy(f->sum, sum, f->d * sizeof *sum);
    f->count = count;
    return LT_OK;
}

lt_status lt_metric_form_create(lt_metric_form **out, size_t d, const double *c, const double *sum, double count,
                                bool affine, lt_factor factor, lt_err *err) {
    lt_metric_form *f = lt_calloc(1, sizeof *f);
    if (!f) return lt_fail(err, LT_ENOMEM, "low rank: no memory for a metric");
    lt_status st;
    f->d = d;
    f->affine = affine;
    LT_GO(check_finite(c, d * (d + 1) / 2, "input Gram", err));
    LT_GO(new_matrix(&f->c, d, d, err));
    lt_unpack_lower(f->c, c, d);
    if (affine)
        LT_GO(centre(f, sum, count, err));
    else if (sum)
        LT_GO(keep_sum(f, sum, count, err));
    LT_GO(factor_metric(f, factor, err));
done:
    if (st != LT_OK)
        lt_metric_form_destroy(f);
    else
        *out = f;
    return st;
}

static lt_status diagonal(double **out, size_t d, const double *values, int power, lt_err *err) {
    LT_TRY(new_matrix(out, d, d, err));
    memset(*out, 0, d * d * sizeof **out);
    for (size_t i = 0; i < d; i++) (*out)[i * d + i] = power == 2 ? values[i] * values[i] : values[i];
    return LT_OK;
}

lt_status lt_metric_form_diagonal(lt_metric_form **out, size_t d, const double *by, lt_factor factor, lt_err *err) {
    lt_metric_form *f = lt_calloc(1, sizeof *f);
    if (!f) return lt_fail(err, LT_ENOMEM, "low rank: no memory for a metric");
    lt_status st;
    f->d = f->k = d;
    LT_GO(check_finite(by, d, "input scale", err));
    LT_GO(diagonal(&f->c, d, by, 2, err));
    f->lower = factor != LT_FACTOR_NONE;
    if (f->lower) LT_GO(diagonal(&f->f, d, by, 1, err));
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
    lt_free(f->sum);
    lt_free(f->f);
    lt_free(f);
}

size_t lt_metric_form_bytes(size_t d, lt_factor factor) {
    return d * d * sizeof(double) * (factor == LT_FACTOR_NONE ? 1 : 2);
}

/* The packed Gram, mapped and copied; vectors and a copy of M where it is singular. */
size_t lt_metric_form_making_bytes(size_t d, lt_factor factor) {
    const size_t eigen = factor == LT_FACTOR_ALWAYS ? 2 * d * d * sizeof(double) + lt_eigh_bytes(d, true) : 0;
    return d * d * sizeof(double) + eigen;
}

/* A single module is worth a Cholesky factor of its own while d³/3 is less than the m² d that it saves. */
lt_factor lt_factor_for(size_t m, size_t d) {
    return m > d ? LT_FACTOR_ALWAYS : d * d < 3 * m * m ? LT_FACTOR_CHOLESKY : LT_FACTOR_NONE;
}

/* ---- one module: the eigenproblem on the smaller side ---- */

typedef struct problem {
    size_t m, d;
    const double *w;
    const lt_metric_form *form;    /* NULL: M = I */
    const double *bias, *out_gram; /* where U comes from, instead of W M Wᵀ */
    bool wide;                     /* eigenvectors are U itself: m <= d, or an output Gram is what there is */
    size_t n;                      /* size of the eigenproblem; may be below min(m, d) when M is singular */
    double *left_w, *unleft;       /* R W and R⁻¹ [m, m]; NULL: no left metric */
    lt_metric_form *made;          /* form, when it was made here */
} problem;

static void problem_clear(problem *p) {
    lt_metric_form_destroy(p->made);
    lt_free(p->left_w);
    lt_free(p->unleft);
}

/* g += (Ws) bᵀ + b (Ws)ᵀ + N b bᵀ: the Gram of Wx + b (spec §1.3) */
static lt_status add_bias(double *g, const problem *p, lt_err *err) {
    const size_t m = p->m;
    double *y;
    if (!p->form || !p->form->sum) return lt_fail(err, LT_EUSAGE, "low rank: the bias needs the inputs' sum");
    LT_TRY(new_matrix(&y, m, 1, err));
    lt_gemm_f64_serial(false, false, m, 1, p->d, 1.0, p->w, p->d, p->form->sum, 1, 0.0, y, 1);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j <= i; j++)
            g[i * m + j] += y[i] * p->bias[j] + p->bias[i] * y[j] + p->form->count * p->bias[i] * p->bias[j];
    lt_free(y);
    return LT_OK;
}

/* g [m, m], lower triangle, = W M Wᵀ: of W F where there is a triangular F, else of H + Hᵀ = M. */
static lt_status weighted_gram(double *g, const problem *p, lt_err *err) {
    const size_t m = p->m, d = p->d;
    const lt_metric_form *form = p->form;
    double *t;
    LT_TRY(new_matrix(&t, m, d, err));
    if (form->lower && !p->bias && lt_factor_for(m, d) != LT_FACTOR_NONE) {
        lt_times_lower_f64(m, d, p->w, d, form->f, d, t, d);
        lt_lower_product_f64(false, true, m, d, t, d, t, d, 0.0, g, m);
    } else {
        lt_times_half_f64(m, d, p->w, d, form->c, d, t, d);
        lt_lower_product_f64(false, true, m, d, t, d, p->w, d, 0.0, g, m);
        lt_lower_product_f64(false, true, m, d, p->w, d, t, d, 1.0, g, m);
    }
    lt_free(t);
    return LT_OK;
}

/* g [m, m], lower triangle, = W M Wᵀ, or what stands for it */
static lt_status output_gram(double *g, const problem *p, lt_err *err) {
    if (p->out_gram) {
        LT_TRY(check_finite(p->out_gram, p->m * (p->m + 1) / 2, "output Gram", err));
        lt_unpack_lower(g, p->out_gram, p->m);
        return LT_OK;
    }
    if (p->form)
        LT_TRY(weighted_gram(g, p, err));
    else
        lt_lower_product_f64(false, true, p->m, p->d, p->w, p->d, p->w, p->d, 0.0, g, p->m);
    return p->bias ? add_bias(g, p, err) : LT_OK;
}

/* g [k, k], lower triangle, = Fᵀ S F, S = WᵀW */
static lt_status whitened_gram(double *g, const problem *p, lt_err *err) {
    const size_t d = p->d, k = p->n;
    const lt_metric_form *form = p->form;
    double *s = NULL, *t = NULL;
    lt_status st;
    if (!form) {
        lt_lower_product_f64(true, false, d, p->m, p->w, d, p->w, d, 0.0, g, d);
        return LT_OK;
    }
    LT_GO(new_matrix(&s, d, d, err));
    LT_GO(new_matrix(&t, d, k, err));
    lt_lower_product_f64(true, false, d, p->m, p->w, d, p->w, d, 0.0, s, d);
    lt_mirror_lower_f64(s, d);
    if (form->lower) {
        lt_times_lower_f64(d, d, s, d, form->f, d, t, d);
        lt_lower_transposed_times_f64(d, form->f, d, t, d, g, d);
    } else {
        lt_gemm_f64_serial(false, false, d, k, d, 1.0, s, d, form->f, k, 0.0, t, k);
        lt_lower_product_f64(true, false, k, d, form->f, k, t, k, 0.0, g, k);
    }
done:
    lt_free(s);
    lt_free(t);
    return st;
}

/* lambda [min(m, d)]; vectors: the first n_vectors as rows [n_vectors, p->n]. */
static lt_status decompose(double *lambda, double *vectors, size_t n_vectors, double *total, const problem *p,
                           lt_err *err) {
    double *g = NULL, *w = NULL;
    lt_status st;
    LT_GO(new_matrix(&g, p->n, p->n, err));
    LT_GO(new_matrix(&w, lt_max_size(p->n, 1), 1, err));
    LT_GO(p->wide ? output_gram(g, p, err) : whitened_gram(g, p, err));
    *total = fmax(trace(g, p->n), 0.0);
    LT_GO(check_finite(total, 1, "output Gram", err));
    if (p->n) LT_GO(eigh(p->n, g, w, vectors, n_vectors, err));
    for (size_t i = 0; i < lt_min_size(p->m, p->d); i++) lambda[i] = i < p->n ? fmax(w[i], 0.0) : 0.0;
done:
    lt_free(g);
    lt_free(w);
    return st;
}

/* ---- the left metric ---- */

/* Γ + damping mean(diag) I = RᵀR with R = Λ^½ Qᵀ; p->w becomes R W, p->unleft = Q Λ^-½. Γ = 0: W becomes 0. */
static lt_status weigh_left(problem *p, const double *packed, double damping, lt_err *err) {
    const size_t m = p->m;
    double *g = NULL, *q = NULL, *lambda = NULL;
    lt_status st;
    LT_GO(check_finite(packed, m * (m + 1) / 2, "gradient Gram", err));
    LT_GO(new_matrix(&g, m, m, err));
    LT_GO(new_matrix(&q, m, m, err));
    LT_GO(new_matrix(&lambda, m, 1, err));
    LT_GO(new_matrix(&p->left_w, m, p->d, err));
    LT_GO(new_matrix(&p->unleft, m, m, err));
    lt_unpack_lower(g, packed, m);
    const double add = damping * trace(g, m) / (double)m;
    LT_GO(eigh(m, g, lambda, q, m, err));
    const double least = fmax(noise_level(m, lambda[0]), DBL_MIN);
    for (size_t i = 0; i < m; i++) {
        const double root = sqrt(fmax(lambda[i] + add, least));
        for (size_t j = 0; j < m; j++) p->unleft[j * m + i] = q[i * m + j] / root;
        scale(q + i * m, m, lambda[0] > 0.0 ? root : 0.0);
    }
    lt_gemm_f64_serial(false, false, m, p->d, m, 1.0, q, m, p->w, p->d, 0.0, p->left_w, p->d);
    p->w = p->left_w;
done:
    lt_free(g);
    lt_free(q);
    lt_free(lambda);
    return st;
}

static lt_status start(problem *p, const lt_lowrank_in *in, lt_err *err) {
    const size_t m = in->m, d = in->d;
    const bool given = in->bias || in->out_gram;
    *p = (problem){ .m = m, .d = d, .w = in->w, .form = in->form, .bias = in->bias, .out_gram = in->out_gram };
    p->wide = m <= d || given;
    LT_REQUIRE(err, m > 0 && d > 0, "low rank: a %zu x %zu matrix", m, d);
    LT_REQUIRE(err, !(given && in->left), "low rank: a left metric needs the module's own outputs");
    LT_TRY(check_finite(in->w, m * d, "weight", err));
    if (!p->form && in->c) {
        const lt_factor factor = given ? LT_FACTOR_NONE : lt_factor_for(m, d);
        LT_TRY(lt_metric_form_create(&p->made, d, in->c, in->sum, in->count, in->affine, factor, err));
        p->form = p->made;
    }
    p->n = p->wide ? m : p->form ? p->form->k : d;
    return in->left ? weigh_left(p, in->left, in->damping, err) : LT_OK;
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
    problem p;
    double mean = 0.0;
    lt_status st;
    LT_GO(start(&p, in, err));
    LT_GO(decompose(lambda, NULL, 0, total, &p, err));
    LT_GO(mean_energy(&mean, &p, err));
    *total += mean;
done:
    problem_clear(&p);
    return st;
}

/* ---- the fit ---- */

/* u [m, r] columns from eigenvector rows; r <= number of eigenvalues above rounding, so no sigma is 0. */
static lt_status columns_of_u(double *u, double *v, size_t r, const double *lambda, const problem *p, lt_err *err) {
    double *ft = NULL, *ut = NULL;
    lt_status st = LT_OK;
    if (p->wide) {
        lt_transpose_f64(u, v, r, p->m);
        return LT_OK;
    }
    const double *right = v; /* [r, d] = V_rᵀ Fᵀ */
    if (p->form) {
        LT_GO(new_matrix(&ft, r, p->d, err));
        if (p->form->lower)
            lt_times_lower_transposed_f64(r, p->d, v, p->d, p->form->f, p->d, ft, p->d);
        else
            lt_gemm_f64_serial(false, true, r, p->d, p->n, 1.0, v, p->n, p->form->f, p->n, 0.0, ft, p->d);
        right = ft;
    }
    LT_GO(new_matrix(&ut, r, p->m, err));
    lt_gemm_f64_serial(false, true, r, p->m, p->d, 1.0, right, p->d, p->w, p->d, 0.0, ut, p->m);
    for (size_t i = 0; i < r; i++) scale(ut + i * p->m, p->m, 1.0 / sqrt(lambda[i]));
    lt_transpose_f64(u, ut, r, p->m);
    LT_GO(r ? lt_orth_serial(p->m, r, u, err) : LT_OK);
done:
    lt_free(ft);
    lt_free(ut);
    return st;
}

static lt_status basis(double *u, double *lambda, double *total, size_t r, const problem *p, lt_err *err);

/* Columns k.. of u [m, r]: the plain SVD of W - U_k U_kᵀ W, for which the metric has no preference. */
static lt_status complete(double *u, const double *first, size_t k, size_t r, const problem *p, lt_err *err) {
    const size_t m = p->m, d = p->d, more = r - k;
    double *left = NULL, *b = NULL, *extra = NULL, *lambda = NULL, total;
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
    const problem plain = { .m = m, .d = d, .w = left, .wide = m <= d, .n = lt_min_size(m, d) };
    LT_GO(basis(extra, lambda, &total, more, &plain, err));
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

/* u [m, r]: orthonormal columns spanning the best r directions; lambda [min(m, d)] and their sum. */
static lt_status basis(double *u, double *lambda, double *total, size_t r, const problem *p, lt_err *err) {
    const size_t n_vectors = lt_min_size(r, p->n);
    double *v = NULL, *first = NULL;
    lt_status st;
    LT_GO(new_matrix(&v, lt_max_size(n_vectors, 1), lt_max_size(p->n, 1), err));
    LT_GO(decompose(lambda, v, n_vectors, total, p, err));
    size_t k = 0;
    while (k < n_vectors && lambda[k] > noise_level(p->n, lambda[0])) k++;
    if (k == r) {
        st = columns_of_u(u, v, r, lambda, p, err);
        goto done;
    }
    LT_GO(new_matrix(&first, p->m, lt_max_size(k, 1), err));
    LT_GO(columns_of_u(first, v, k, lambda, p, err));
    lt_free(v);
    v = NULL;
    st = p->form || p->out_gram ? complete(u, first, k, r, p, err) : pad_columns(u, first, k, r, p->m, err);
done:
    lt_free(v);
    lt_free(first);
    return st;
}

/* From orthonormal A: B Bᵀ = P Σ² Pᵀ, A <- A P Σ^½, B <- Σ^-½ Pᵀ B. The product is exact whatever the accuracy of Σ, so
 * sigmas below what the eigenproblem resolves may be raised to that level. */
lt_status lt_lowrank_balance(double *a, double *b, size_t m, size_t d, size_t r, lt_err *err) {
    double *g = NULL, *s = NULL, *pt = NULL, *t = NULL;
    lt_status st;
    LT_GO(new_matrix(&g, r, r, err));
    LT_GO(new_matrix(&s, r, 1, err));
    LT_GO(new_matrix(&pt, r, r, err));
    LT_GO(new_matrix(&t, r, lt_max_size(m, d), err));
    lt_lower_product_f64(false, true, r, d, b, d, b, d, 0.0, g, r);
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

/* y [m] = (W - AB) x */
static lt_status times_what_is_left(double *y, const double *w, size_t m, size_t d, size_t r, const double *a,
                                    const double *b, const double *x, lt_err *err) {
    double *h;
    LT_TRY(new_matrix(&h, r, 1, err));
    lt_gemm_f64_serial(false, false, m, 1, d, 1.0, w, d, x, 1, 0.0, y, 1);
    lt_gemm_f64_serial(false, false, r, 1, d, 1.0, b, d, x, 1, 0.0, h, 1);
    lt_gemm_f64_serial(false, false, m, 1, r, -1.0, a, r, h, 1, 1.0, y, 1);
    lt_free(h);
    return LT_OK;
}

lt_status lt_lowrank_top_inputs(double *v, size_t r, const lt_metric_form *form, lt_err *err) {
    const size_t d = form->d;
    double *c = NULL, *w = NULL;
    lt_status st;
    LT_GO(new_matrix(&c, d, d, err));
    LT_GO(new_matrix(&w, d, 1, err));
    memcpy(c, form->c, d * d * sizeof *c);
    st = eigh(d, c, w, v, r, err);
done:
    lt_free(c);
    lt_free(w);
    return st;
}

lt_status lt_lowrank_project_inputs(double *b, size_t r, size_t d, const double *v, lt_err *err) {
    double *t;
    LT_TRY(new_matrix(&t, r, r, err));
    lt_gemm_f64_serial(false, true, r, r, d, 1.0, b, d, v, d, 0.0, t, r);
    lt_gemm_f64_serial(false, false, r, d, r, 1.0, t, r, v, d, 0.0, b, d);
    lt_free(t);
    return LT_OK;
}

/* b <- b P_S, P_S the projector on the r top eigenvectors of C */
static lt_status project_inputs(double *b, size_t r, const problem *p, lt_err *err) {
    double *v;
    LT_REQUIRE(err, p->form, "low rank: projecting needs the inputs' Gram");
    LT_TRY(new_matrix(&v, r, p->d, err));
    lt_status st = lt_lowrank_top_inputs(v, r, p->form, err);
    if (st == LT_OK) st = lt_lowrank_project_inputs(b, r, p->d, v, err);
    lt_free(v);
    return st;
}

/* a <- R⁻¹ a; unless it is to stay nested, made orthonormal again: a = Q S, b <- S b */
static lt_status undo_left(double *a, double *b, size_t r, bool nested, const problem *p, lt_err *err) {
    const size_t m = p->m, d = p->d;
    double *whole = NULL, *s = NULL, *t = NULL;
    lt_status st;
    LT_GO(new_matrix(&whole, m, r, err));
    LT_GO(new_matrix(&s, r, r, err));
    LT_GO(new_matrix(&t, r, d, err));
    lt_gemm_f64_serial(false, false, m, r, m, 1.0, p->unleft, m, a, r, 0.0, whole, r);
    memcpy(a, whole, m * r * sizeof *a);
    if (nested) goto done;
    LT_GO(lt_orth_serial(m, r, a, err));
    lt_gemm_f64_serial(true, false, r, r, m, 1.0, a, r, whole, r, 0.0, s, r);
    lt_gemm_f64_serial(false, false, r, d, r, 1.0, s, r, b, d, 0.0, t, d);
    memcpy(b, t, r * d * sizeof *b);
done:
    lt_free(whole);
    lt_free(s);
    lt_free(t);
    return st;
}

static lt_status weighted_error(double *error, const double *w, const double *c, size_t m, size_t d, size_t r,
                                const double *a, const double *b, lt_err *err);

static lt_status error_left(double *error, const double *lambda, size_t r, const lt_lowrank_in *in, const double *a,
                            const double *b, const problem *p, lt_err *err) {
    if ((p->bias || in->project) && p->form) return weighted_error(error, in->w, p->form->c, p->m, p->d, r, a, b, err);
    *error = 0.0;
    for (size_t i = lt_min_size(p->m, p->d); i > r; i--) *error += lambda[i - 1];
    return LT_OK;
}

lt_status lt_lowrank_fit(double *a, double *b, double *bias_delta, double *error, double *total, size_t rank,
                         const lt_lowrank_in *in, lt_err *err) {
    const size_t n = lt_min_size(in->m, in->d);
    LT_REQUIRE(err, rank >= 1 && rank <= n, "low rank: rank %zu of a %zu x %zu matrix", rank, in->m, in->d);
    problem p;
    double *lambda = NULL, mean;
    lt_status st;
    LT_GO(start(&p, in, err));
    LT_GO(new_matrix(&lambda, n, 1, err));
    LT_GO(basis(a, lambda, total, rank, &p, err));
    LT_GO(mean_energy(&mean, &p, err));
    *total += mean;
    lt_gemm_f64_serial(true, false, rank, in->d, in->m, 1.0, a, rank, p.w, in->d, 0.0, b, in->d);
    if (in->project) LT_GO(project_inputs(b, rank, &p, err));
    LT_GO(error_left(error, lambda, rank, in, a, b, &p, err));
    if (p.unleft) LT_GO(undo_left(a, b, rank, in->nested, &p, err));
    if (bias_delta && p.form && p.form->affine)
        LT_GO(times_what_is_left(bias_delta, in->w, in->m, in->d, rank, a, b, p.form->mu, err));
    if (in->balance == LT_BALANCE_BALANCED) LT_GO(lt_lowrank_balance(a, b, in->m, in->d, rank, err));
done:
    problem_clear(&p);
    lt_free(lambda);
    return st;
}

/* Vectors, the matrix whose they are, and what that is made of or what they are found with. */
static size_t decompose_bytes(size_t m, size_t d, size_t rank) {
    const size_t n = lt_min_size(m, d), made_of = m <= d ? m * d : 2 * d * d;
    return sizeof(double) * (rank * n + n * n) + lt_max_size(sizeof(double) * made_of, lt_eigh_bytes(n, rank > 0));
}

size_t lt_lowrank_scratch_bytes(size_t m, size_t d, size_t rank) {
    const size_t n = lt_min_size(m, d), big = lt_max_size(m, d), r = rank;
    if (rank == 0) return decompose_bytes(m, d, 0);
    const size_t columns = sizeof(double) * (r * n + (m > d ? r * (m + d) : 0) + r * r),
                 balance = sizeof(double) * (2 * r * r + r * big) + lt_eigh_bytes(r, true),
                 completion = sizeof(double) * (m * d + r * (m + d)) + decompose_bytes(m, d, r);
    return lt_max_size(lt_max_size(columns, balance), completion);
}

/* tr((W - AB) C (W - AB)ᵀ); c [d, d] or NULL: identity */
static lt_status weighted_error(double *error, const double *w, const double *c, size_t m, size_t d, size_t r,
                                const double *a, const double *b, lt_err *err) {
    double *delta = NULL, *t = NULL;
    lt_status st;
    LT_GO(new_matrix(&delta, m, d, err));
    memcpy(delta, w, m * d * sizeof(double));
    if (r) lt_gemm_f64_serial(false, false, m, d, r, -1.0, a, r, b, d, 1.0, delta, d);
    *error = norm2(delta, m * d);
    if (!c) goto done;
    LT_GO(new_matrix(&t, m, d, err));
    lt_gemm_f64_serial(false, false, m, d, d, 1.0, delta, d, c, d, 0.0, t, d);
    *error = 0.0;
    for (size_t i = 0; i < m * d; i++) *error += t[i] * delta[i];
    *error = fmax(*error, 0.0); /* what sums round to where there is none */
done:
    lt_free(delta);
    lt_free(t);
    return st;
}

lt_status lt_lowrank_error(double *error, const lt_lowrank_in *in, size_t rank, const double *a, const double *b,
                           lt_err *err) {
    double *c = NULL;
    if (in->c) {
        LT_TRY(new_matrix(&c, in->d, in->d, err));
        lt_unpack_lower(c, in->c, in->d);
    }
    const lt_status st = weighted_error(error, in->w, in->form ? in->form->c : c, in->m, in->d, rank, a, b, err);
    lt_free(c);
    return st;
}

lt_status lt_lowrank_affine_error(double *error, const lt_lowrank_in *in, size_t rank, const double *a, const double *b,
                                  const double *bias_delta, lt_err *err) {
    double *y;
    LT_TRY(lt_lowrank_error(error, in, rank, a, b, err));
    LT_TRY(new_matrix(&y, in->m, 1, err));
    const lt_status st = times_what_is_left(y, in->w, in->m, in->d, rank, a, b, in->sum, err);
    for (size_t i = 0; st == LT_OK && i < in->m; i++)
        *error += bias_delta[i] * (in->count * bias_delta[i] - 2.0 * y[i]);
    *error = fmax(*error, 0.0);
    lt_free(y);
    return st;
}
