/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/decomp.h"

#include <math.h>
#include <string.h>

#include "linalg/blas.h"

/* OpenBLAS's own LAPACK, column-major; character arguments carry hidden lengths. A row-major matrix is its transpose
 * there. */
typedef blasint lpint;
void dsyevd_(const char *jobz, const char *uplo, const lpint *n, double *a, const lpint *lda, double *w, double *work,
             const lpint *lwork, lpint *iwork, const lpint *liwork, lpint *info, size_t, size_t);
void dgesdd_(const char *jobz, const lpint *m, const lpint *n, double *a, const lpint *lda, double *s, double *u,
             const lpint *ldu, double *vt, const lpint *ldvt, double *work, const lpint *lwork, lpint *iwork,
             lpint *info, size_t);
void dpotrf_(const char *uplo, const lpint *n, double *a, const lpint *lda, lpint *info, size_t);
void dgeqrf_(const lpint *m, const lpint *n, double *a, const lpint *lda, double *tau, double *work, const lpint *lwork,
             lpint *info);
void dorgqr_(const lpint *m, const lpint *n, const lpint *k, double *a, const lpint *lda, const double *tau,
             double *work, const lpint *lwork, lpint *info);

static double *doubles(size_t n) {
    size_t bytes;
    return lt_mul_size(lt_max_size(n, 1), sizeof(double), &bytes) ? lt_malloc(bytes) : NULL;
}

/* src [rows, cols] to dst [cols, rows] */
static void transpose(double *restrict dst, const double *restrict src, size_t rows, size_t cols) {
    enum { B = 16 }; /* squares of B fit a few cache lines each way */
    for (size_t i0 = 0; i0 < rows; i0 += B)
        for (size_t j0 = 0; j0 < cols; j0 += B)
            for (size_t i = i0; i < lt_min_size(rows, i0 + B); i++)
                for (size_t j = j0; j < lt_min_size(cols, j0 + B); j++) dst[j * rows + i] = src[i * cols + j];
}

/* -1 when the entry of largest size (the first of equals) is negative, else 1 */
static double sign_of(const double *v, size_t n, size_t stride) {
    double most = 0.0, sign = 1.0;
    for (size_t i = 0; i < n; i++)
        if (fabs(v[i * stride]) > most) {
            most = fabs(v[i * stride]);
            sign = v[i * stride] < 0 ? -1.0 : 1.0;
        }
    return sign;
}

/* ---- eigenproblems ---- */

/* dsyevd: for all vectors and for values alone it is as fast as dsyevr on the sizes of language models, and for a
 * quarter of the vectors not slower by more than a fifth (docs/performance.md). Ascending order turns into descending
 * rows here. */
static void take_vectors(lt_eigh_problem *p) {
    const size_t n = p->n;
    for (size_t r = 0; r < p->n_vectors; r++) {
        const double *column = p->a + (n - 1 - r) * n; /* contiguous in column-major storage */
        const double sign = sign_of(column, n, 1);
        for (size_t i = 0; i < n; i++) p->v[r * n + i] = sign * column[i];
    }
}

static void reverse(double *w, size_t n) {
    for (size_t i = 0; i < n / 2; i++) {
        const double t = w[i];
        w[i] = w[n - 1 - i];
        w[n - 1 - i] = t;
    }
}

lt_status lt_eigh_serial(lt_eigh_problem *p, lt_err *err) {
    p->info = 0;
    if (p->n == 0) return LT_OK;
    LT_REQUIRE(err, p->n <= 16384 && p->n_vectors <= p->n, "eigenproblem: %zu of %zu vectors", p->n_vectors, p->n);
    const bool vectors = p->n_vectors > 0;
    const lpint n = (lpint)p->n, lwork = vectors ? 1 + 6 * n + 2 * n * n : 1 + 40 * n, liwork = vectors ? 3 + 5 * n : 1;
    double *work = doubles((size_t)lwork);
    lpint *iwork = lt_malloc((size_t)liwork * sizeof *iwork);
    lt_status st = LT_OK;
    if (work && iwork) {
        lpint info;
        const lt_blas_call call = lt_blas_begin();
        dsyevd_(vectors ? "V" : "N", "U", &n, p->a, &n, p->w, work, &lwork, iwork, &liwork, &info, 1, 1);
        lt_blas_end(call);
        p->info = (int)info;
        reverse(p->w, p->n);
        take_vectors(p);
    } else
        st = lt_fail(err, LT_ENOMEM, "workspace of an eigenproblem of %zu", p->n);
    lt_free(work);
    lt_free(iwork);
    return st;
}

lt_status lt_eigh(lt_team *team, lt_eigh_problem *p, lt_err *err) {
    (void)team; /* one LAPACK call; only batches gain from threads */
    return lt_eigh_serial(p, err);
}

/* Rank of problem i by size, largest first, ties by index. */
static size_t place(const lt_eigh_problem *p, size_t n_problems, size_t i) {
    size_t before = 0;
    for (size_t j = 0; j < n_problems; j++) before += p[j].n > p[i].n || (p[j].n == p[i].n && j < i);
    return before;
}

typedef struct batch {
    lt_eigh_problem *p;
    const size_t *order;
} batch;

static lt_status solve_one(void *user, size_t i, lt_err *err) {
    const batch *b = user;
    return lt_eigh_serial(&b->p[b->order[i]], err);
}

lt_status lt_eigh_batch(lt_team *team, lt_eigh_problem *p, size_t n_problems, lt_err *err) {
    size_t *order = lt_calloc(lt_max_size(n_problems, 1), sizeof *order);
    if (!order) return lt_fail(err, LT_ENOMEM, "order of %zu eigenproblems", n_problems);
    for (size_t i = 0; i < n_problems; i++) order[place(p, n_problems, i)] = i;
    batch b = { p, order };
    const lt_status st = lt_team_for(team, n_problems, solve_one, &b, err);
    lt_free(order);
    return st;
}

/* ---- singular values ---- */

/* Row-major a is column-major aᵀ = v s uᵀ: LAPACK's left vectors [n,k] are the rows of vt, its right ones [k,m] the
 * columns of u. Signs: the largest entry of each row of vt is positive. */
static void fix_signs(size_t m, size_t n, size_t k, double *u, double *vt) {
    for (size_t r = 0; r < k; r++) {
        if (sign_of(vt + r * n, n, 1) > 0) continue;
        for (size_t j = 0; j < n; j++) vt[r * n + j] = -vt[r * n + j];
        for (size_t i = 0; i < m; i++) u[i * k + r] = -u[i * k + r];
    }
}

lt_status lt_svd_serial(size_t m, size_t n, double *a, double *u, double *s, double *vt, int *info, lt_err *err) {
    *info = 0;
    const size_t k = lt_min_size(m, n);
    if (k == 0) return LT_OK;
    LT_REQUIRE(err, m <= 1 << 20 && n <= 1 << 20 && k <= 16384 && !u == !vt, "svd of [%zu, %zu]", m, n);
    const lpint cols = (lpint)m, rows = (lpint)n, kk = (lpint)k;
    const char *job = u ? "S" : "N";
    lpint lwork = -1, status;
    double best;
    dgesdd_(job, &rows, &cols, a, &rows, s, vt, &rows, u, &kk, &best, &lwork, &status, &status, 1);
    lwork = (lpint)best;
    double *work = doubles((size_t)lwork);
    lpint *iwork = lt_malloc(8 * k * sizeof *iwork);
    lt_status st = LT_OK;
    if (work && iwork) {
        const lt_blas_call call = lt_blas_begin();
        dgesdd_(job, &rows, &cols, a, &rows, s, vt, &rows, u, &kk, work, &lwork, iwork, &status, 1);
        lt_blas_end(call);
        *info = (int)status;
        if (u && status == 0) fix_signs(m, n, k, u, vt);
    } else
        st = lt_fail(err, LT_ENOMEM, "workspace of an svd of [%zu, %zu]", m, n);
    lt_free(work);
    lt_free(iwork);
    return st;
}

/* ---- triangles ---- */

void lt_chol_serial(size_t n, double *a, int *info) {
    *info = 0;
    if (n == 0) return;
    const lpint size = (lpint)n;
    lpint status;
    const lt_blas_call call = lt_blas_begin();
    dpotrf_("U", &size, a, &size, &status, 1); /* the lower triangle by rows is the upper one by columns */
    lt_blas_end(call);
    *info = (int)status;
    for (size_t i = 0; i < n; i++) memset(a + i * n + i + 1, 0, (n - 1 - i) * sizeof *a);
}

void lt_trsm_serial(size_t n, size_t m, const double *l, bool trans, double *x) {
    if (n == 0 || m == 0) return;
    const lt_blas_call call = lt_blas_begin();
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, trans ? CblasTrans : CblasNoTrans, CblasNonUnit, (blasint)n,
                (blasint)m, 1.0, l, (blasint)n, x, (blasint)m);
    lt_blas_end(call);
}

/* ---- orthonormal columns ---- */

/* q [n, m] holds the columns of a as rows, which is column-major a; it becomes those of Q. */
static void householder(size_t m, size_t n, double *q, double *tau, double *work, lpint lwork) {
    const lpint rows = (lpint)m, cols = (lpint)n;
    lpint info;
    const lt_blas_call call = lt_blas_begin();
    dgeqrf_(&rows, &cols, q, &rows, tau, work, &lwork, &info);
    dorgqr_(&rows, &cols, &cols, q, &rows, tau, work, &lwork, &info);
    lt_blas_end(call);
}

lt_status lt_orth_serial(size_t m, size_t n, double *a, lt_err *err) {
    LT_REQUIRE(err, m >= n && m <= 1 << 20 && n <= 16384, "orthonormal basis of [%zu, %zu]", m, n);
    if (n == 0) return LT_OK;
    const size_t lwork = 64 * n; /* LAPACK's blocks are at most 64 wide */
    double *q = doubles(m * n), *tau = doubles(n), *work = doubles(lwork);
    lt_status st = LT_OK;
    if (q && tau && work) {
        transpose(q, a, m, n);
        householder(m, n, q, tau, work, (lpint)lwork);
        transpose(a, q, n, m);
    } else
        st = lt_fail(err, LT_ENOMEM, "workspace of an orthonormal basis of [%zu, %zu]", m, n);
    lt_free(q);
    lt_free(tau);
    lt_free(work);
    return st;
}
