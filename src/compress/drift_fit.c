/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/drift_fit.h"

#include <math.h>
#include <string.h>

#include "linalg/gemm.h"

static lt_status new_matrix(double **out, size_t rows, size_t cols, lt_err *err) {
    size_t n;
    *out = lt_mul_size(rows, cols, &n) ? lt_calloc(lt_max_size(n, 1), sizeof **out) : NULL;
    return *out ? LT_OK : lt_fail(err, LT_ENOMEM, "low rank: no memory for a %zu x %zu matrix", rows, cols);
}

static lt_status check_finite(const double *x, size_t n, const char *what, lt_err *err) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return lt_fail(err, LT_EDATA, "%s holds a value that is not finite (entry %zu: %g)", what, i, x[i]);
    return LT_OK;
}

static void transpose(double *to, const double *from, size_t rows, size_t cols) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) to[j * rows + i] = from[i * cols + j];
}

/* ---- the inputs ---- */

/* p [d, k] from eigenvectors as rows. */
static void scale_vectors(lt_drift_form *f, const double *v, const double *lambda) {
    for (size_t i = 0; i < f->k; i++)
        for (size_t j = 0; j < f->d; j++) f->p[j * f->k + i] = v[i * f->d + j] / sqrt(lambda[i]);
}

static lt_status by_eigen(lt_drift_form *f, double *c, lt_err *err) {
    double *v = NULL, *lambda = NULL;
    lt_status st;
    LT_GO(new_matrix(&v, f->d, f->d, err));
    LT_GO(new_matrix(&lambda, f->d, 1, err));
    lt_eigh_problem e = { .n = f->d, .a = c, .w = lambda, .v = v, .n_vectors = f->d };
    LT_GO(lt_eigh_serial(&e, err));
    if (e.info) LT_GO(lt_fail(err, LT_EINTERNAL, "low rank: eigenvalues did not converge (info %d)", e.info));
    while (f->k < f->d && lambda[f->k] > LT_DRIFT_CUT * fmax(lambda[0], 0.0)) f->k++;
    LT_GO(new_matrix(&f->p, f->d, f->k, err));
    scale_vectors(f, v, lambda);
done:
    lt_free(v);
    lt_free(lambda);
    return st;
}

/* Takes full when it is positive definite. */
static bool by_cholesky(lt_drift_form *f, double **full) {
    int info;
    lt_chol_serial(f->d, *full, &info);
    for (size_t i = 0; info == 0 && i < f->d; i++) info = !isfinite((*full)[i * f->d + i]);
    if (info) return false;
    f->l = *full;
    f->k = f->d;
    *full = NULL;
    return true;
}

static double fill(double *full, const double *c, size_t d, double ridge) {
    double mean = 0.0;
    lt_unpack_lower(full, c, d);
    for (size_t i = 0; i < d; i++) mean += full[i * d + i] / (double)d;
    for (size_t i = 0; i < d; i++) full[i * d + i] += ridge * mean;
    return ridge * mean;
}

lt_status lt_drift_form_create(lt_drift_form **out, size_t d, const double *c, double ridge, lt_err *err) {
    lt_drift_form *f = lt_calloc(1, sizeof *f);
    double *full = NULL;
    lt_status st;
    if (!f) return lt_fail(err, LT_ENOMEM, "low rank: no memory for a metric");
    f->d = d;
    LT_GO(check_finite(c, d * (d + 1) / 2, "input Gram", err));
    LT_GO(new_matrix(&full, d, d, err));
    f->ridge = fill(full, c, d, ridge);
    if (f->ridge > 0.0 && by_cholesky(f, &full)) goto done;
    fill(full, c, d, ridge);
    st = by_eigen(f, full, err);
done:
    lt_free(full);
    if (st == LT_OK)
        *out = f;
    else
        lt_drift_form_destroy(f);
    return st;
}

void lt_drift_form_destroy(lt_drift_form *f) {
    if (!f) return;
    lt_free(f->p);
    lt_free(f->l);
    lt_free(f);
}

size_t lt_drift_form_bytes(size_t d, double ridge) {
    return d * d * sizeof(double) * (ridge > 0.0 ? 1 : 4);
}

/* out [n, k] = x [n, d] P, or x L⁻ᵀ. x may not overlap out. */
static lt_status to_white(double *out, const lt_drift_form *f, const double *x, size_t n, lt_err *err) {
    double *t = NULL;
    if (f->p) {
        lt_gemm_f64_serial(false, false, n, f->k, f->d, 1.0, x, f->d, f->p, f->k, 0.0, out, f->k);
        return LT_OK;
    }
    LT_TRY(new_matrix(&t, f->d, n, err));
    transpose(t, x, n, f->d);
    lt_trsm_serial(f->d, n, f->l, false, t);
    transpose(out, t, f->d, n);
    lt_free(t);
    return LT_OK;
}

/* out [n, d] = z [n, k] Pᵀ, or z L⁻¹. */
static lt_status from_white(double *out, const lt_drift_form *f, const double *z, size_t n, lt_err *err) {
    double *t = NULL;
    if (f->p) {
        lt_gemm_f64_serial(false, true, n, f->d, f->k, 1.0, z, f->k, f->p, f->k, 0.0, out, f->d);
        return LT_OK;
    }
    LT_TRY(new_matrix(&t, f->d, n, err));
    transpose(t, z, n, f->d);
    lt_trsm_serial(f->d, n, f->l, true, t);
    transpose(out, t, f->d, n);
    lt_free(t);
    return LT_OK;
}

/* ---- one module ---- */

/* z [m, k] = (T + ridge W) P */
static lt_status whiten(double **z, const lt_drift_in *in, lt_err *err) {
    const lt_drift_form *f = in->form;
    double *t = NULL;
    lt_status st;
    LT_TRY(check_finite(in->t, in->m * f->d, "cross Gram", err));
    LT_GO(new_matrix(z, in->m, f->k, err));
    if (!in->w || f->ridge == 0.0) {
        st = to_white(*z, f, in->t, in->m, err);
        goto done;
    }
    LT_GO(new_matrix(&t, in->m, f->d, err));
    for (size_t i = 0; i < in->m * f->d; i++) t[i] = in->t[i] + f->ridge * in->w[i];
    st = to_white(*z, f, t, in->m, err);
done:
    lt_free(t);
    return st;
}

static double norm2(const double *x, size_t n) {
    double s = 0.0;
    for (size_t i = 0; i < n; i++) s += x[i] * x[i];
    return s;
}

/* a [m, r] with r >= k: the columns past the rank of the inputs stay zero. */
static void spread(double *a, const double *first, size_t m, size_t k, size_t r) {
    memset(a, 0, m * r * sizeof *a);
    for (size_t i = 0; i < m; i++) memcpy(a + i * r, first + i * k, k * sizeof *a);
}

/* Orthonormal a [m, r] and bz [k', k] with a's first k' = min(r, k) columns times bz the truncation of z. */
static lt_status truncate(double *a, double **bz, size_t *kept, double *gain, size_t r, const double *z, size_t m,
                          size_t k, lt_err *err) {
    double *first = NULL, error, total;
    lt_status st = LT_OK;
    *kept = lt_min_size(r, lt_min_size(m, k));
    *gain = 0.0;
    LT_TRY(new_matrix(bz, *kept, k, err));
    memset(a, 0, m * r * sizeof *a);
    if (*kept == 0) return LT_OK; /* nothing was read */
    LT_GO(new_matrix(&first, m, *kept, err));
    const lt_lowrank_in plain = { .m = m, .d = k, .w = z, .balance = LT_BALANCE_ORTH };
    LT_GO(lt_lowrank_fit(first, *bz, NULL, &error, &total, *kept, &plain, err));
    spread(a, first, m, *kept, r);
    *gain = norm2(*bz, *kept * k);
done:
    lt_free(first);
    return st;
}

lt_status lt_drift_fit(double *a, double *b, double *gain, size_t rank, const lt_drift_in *in, lt_err *err) {
    const lt_drift_form *f = in->form;
    const size_t m = in->m, d = f->d;
    double *z = NULL, *bz = NULL;
    size_t kept;
    lt_status st;
    LT_REQUIRE(err, rank >= 1 && rank <= lt_min_size(m, d), "low rank: rank %zu of a %zu x %zu matrix", rank, m, d);
    LT_GO(whiten(&z, in, err));
    LT_GO(truncate(a, &bz, &kept, gain, rank, z, m, f->k, err));
    memset(b, 0, rank * d * sizeof *b);
    if (kept) LT_GO(from_white(b, f, bz, kept, err));
    if (in->balance == LT_BALANCE_BALANCED) st = lt_lowrank_balance(a, b, m, d, rank, err);
done:
    lt_free(z);
    lt_free(bz);
    return st;
}

lt_status lt_drift_solve(double *w, double *gain, const lt_drift_in *in, lt_err *err) {
    const lt_drift_form *f = in->form;
    double *z = NULL;
    lt_status st;
    LT_GO(whiten(&z, in, err));
    *gain = norm2(z, in->m * f->k);
    st = from_white(w, f, z, in->m, err);
done:
    lt_free(z);
    return st;
}

size_t lt_drift_scratch_bytes(size_t m, size_t d, size_t rank) {
    return sizeof(double) * (3 * m * d + rank * (m + 2 * d)) + (rank ? lt_lowrank_scratch_bytes(m, d, rank) : 0);
}
