/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/decomp.h"

#include <math.h>
#include <string.h>

#include "linalg/blas.h"
#include "linalg/gemm.h"
#include "linalg/triangle.h"

/* OpenBLAS's own LAPACK, column-major; character arguments carry hidden lengths. A row-major matrix is its transpose
 * there. */
typedef blasint lpint;
void dsytrd_(const char *uplo, const lpint *n, double *a, const lpint *lda, double *d, double *e, double *tau,
             double *work, const lpint *lwork, lpint *info, size_t);
void dsterf_(const lpint *n, double *d, double *e, lpint *info);
void dstedc_(const char *compz, const lpint *n, double *d, double *e, double *z, const lpint *ldz, double *work,
             const lpint *lwork, lpint *iwork, const lpint *liwork, lpint *info, size_t);
void dormtr_(const char *side, const char *uplo, const char *trans, const lpint *m, const lpint *n, double *a,
             const lpint *lda, const double *tau, double *c, const lpint *ldc, double *work, const lpint *lwork,
             lpint *info, size_t, size_t, size_t);
void dgesdd_(const char *jobz, const lpint *m, const lpint *n, double *a, const lpint *lda, double *s, double *u,
             const lpint *ldu, double *vt, const lpint *ldvt, double *work, const lpint *lwork, lpint *iwork,
             lpint *info, size_t);
void dpotrf_(const char *uplo, const lpint *n, double *a, const lpint *lda, lpint *info, size_t);
void dgeqrf_(const lpint *m, const lpint *n, double *a, const lpint *lda, double *tau, double *work, const lpint *lwork,
             lpint *info);
void dorgqr_(const lpint *m, const lpint *n, const lpint *k, double *a, const lpint *lda, const double *tau,
             double *work, const lpint *lwork, lpint *info);

/* With some room behind: dsymv of OpenBLAS's kernels for Prescott and Barcelona (0.3.21) reads past the end of y, which
 * dsytrd keeps in tau. */
static double *doubles(size_t n) {
    enum { READ_PAST = 8 };
    size_t count, bytes;
    return lt_add_size(n, READ_PAST, &count) && lt_mul_size(count, sizeof(double), &bytes) ? lt_malloc(bytes) : NULL;
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

/* Householder reduction to a tridiagonal matrix, divide and conquer on that (Cuppen 1981; Gu & Eisenstat 1995), and the
 * reflections put back on the wanted vectors only: what dsyevd does, which would put them on all. Bisection and inverse
 * iteration or MRRR for the wanted part gain nothing over it (docs/performance.md). Column-major, the lower triangle of
 * a is read there: a tenth faster than the upper one. */
typedef struct tridiagonal {
    lpint n;
    double *e, *tau, *work; /* [n], [n], [lwork] */
    lpint lwork;
    lpint *iwork;
    lpint liwork;
    double *z; /* [n, n] all vectors of the tridiagonal matrix; NULL: values alone */
} tridiagonal;

static void tridiagonal_clear(tridiagonal *t) {
    lt_free(t->e);
    lt_free(t->tau);
    lt_free(t->work);
    lt_free(t->iwork);
    lt_free(t->z);
}

static lt_status tridiagonal_init(tridiagonal *t, size_t n, bool vectors, lt_err *err) {
    enum { LAPACK_BLOCK = 64 }; /* LAPACK's blocks are at most that wide; dormtr keeps one more beside them */
    const size_t blocks = (n + LAPACK_BLOCK + 1) * LAPACK_BLOCK;
    *t = (tridiagonal){ .n = (lpint)n };
    t->lwork = (lpint)(vectors ? lt_max_size(blocks, 1 + 4 * n + n * n) : blocks);
    t->liwork = (lpint)(vectors ? 3 + 5 * n : 1);
    t->e = doubles(n);
    t->tau = doubles(n);
    t->work = doubles((size_t)t->lwork);
    t->iwork = lt_malloc((size_t)t->liwork * sizeof *t->iwork);
    t->z = vectors ? doubles(n * n) : NULL;
    if (t->e && t->tau && t->work && t->iwork && (t->z || !vectors)) return LT_OK;
    tridiagonal_clear(t);
    return lt_fail(err, LT_ENOMEM, "workspace of an eigenproblem of %zu", n);
}

static double largest(const double *a, size_t n) {
    double most = 0.0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) most = fmax(most, fabs(a[i * n + j]));
    return most;
}

/* Squares of entries must neither overflow nor vanish: 1, or what all are to be multiplied by. */
static double safe_scale(const double *a, size_t n) {
    const double most = largest(a, n);
    return most > 0.0 && isfinite(most) && (most < 0x1p-450 || most > 0x1p450) ? 1.0 / most : 1.0;
}

/* w ascending; the wanted vectors are the last columns of t->z. */
static lpint solve(lt_eigh_problem *p, tridiagonal *t) {
    const lpint n = t->n, wanted = (lpint)p->n_vectors;
    double *z = wanted ? t->z + (p->n - p->n_vectors) * p->n : NULL;
    lpint info;
    dsytrd_("L", &n, p->a, &n, p->w, t->e, t->tau, t->work, &t->lwork, &info, 1);
    if (!wanted) {
        dsterf_(&n, p->w, t->e, &info);
        return info;
    }
    dstedc_("I", &n, p->w, t->e, t->z, &n, t->work, &t->lwork, t->iwork, &t->liwork, &info, 1);
    if (info) return info;
    dormtr_("L", "L", "N", &n, &wanted, p->a, &n, t->tau, z, &n, t->work, &t->lwork, &info, 1, 1, 1);
    return info;
}

/* Ascending columns turn into descending rows. */
static void take_vectors(lt_eigh_problem *p, const double *z) {
    const size_t n = p->n;
    for (size_t r = 0; r < p->n_vectors; r++) {
        const double *column = z + (n - 1 - r) * n;
        const double sign = sign_of(column, n, 1);
        for (size_t i = 0; i < n; i++) p->v[r * n + i] = sign * column[i];
    }
}

static void take_values(double *w, size_t n, double by) {
    for (size_t i = 0; i < n / 2; i++) {
        const double t = w[i];
        w[i] = w[n - 1 - i];
        w[n - 1 - i] = t;
    }
    for (size_t i = 0; by != 1.0 && i < n; i++) w[i] *= by;
}

lt_status lt_eigh_serial(lt_eigh_problem *p, lt_err *err) {
    tridiagonal t;
    p->info = 0;
    if (p->n == 0) return LT_OK;
    LT_REQUIRE(err, p->n <= 16384 && p->n_vectors <= p->n, "eigenproblem: %zu of %zu vectors", p->n_vectors, p->n);
    LT_TRY(tridiagonal_init(&t, p->n, p->n_vectors > 0, err));
    const double by = safe_scale(p->a, p->n);
    lt_mirror_lower_f64(p->a, p->n);
    for (size_t i = 0; by != 1.0 && i < p->n * p->n; i++) p->a[i] *= by;
    const lt_blas_call call = lt_blas_begin();
    p->info = (int)solve(p, &t);
    lt_blas_end(call);
    take_values(p->w, p->n, 1.0 / by);
    if (p->info == 0) take_vectors(p, t.z);
    tridiagonal_clear(&t);
    return LT_OK;
}

size_t lt_eigh_bytes(size_t n, bool vectors) {
    return sizeof(double) * (vectors ? 2 * n * n + 16 * n : 70 * n);
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

static lt_status by_householder(size_t m, size_t n, double *a, lt_err *err) {
    const size_t lwork = 64 * n; /* LAPACK's blocks are at most 64 wide */
    double *q = doubles(m * n), *tau = doubles(n), *work = doubles(lwork);
    lt_status st = LT_OK;
    if (q && tau && work) {
        lt_transpose_f64(q, a, m, n);
        householder(m, n, q, tau, work, (lpint)lwork);
        lt_transpose_f64(a, q, n, m);
    } else
        st = lt_fail(err, LT_ENOMEM, "workspace of an orthonormal basis of [%zu, %zu]", m, n);
    lt_free(q);
    lt_free(tau);
    lt_free(work);
    return st;
}

/* ‖g - I‖² of a symmetric g, from its lower triangle */
static double off_identity2(const double *g, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double *row = g + i * n, d = row[i] - 1.0;
        for (size_t j = 0; j < i; j++) sum += 2.0 * row[j] * row[j];
        sum += d * d;
    }
    return sum;
}

/* Columns that are nearly orthonormal already: a <- a R⁻¹ with aᵀa = RᵀR, which is as exact as Householder's way when
 * the condition of a is about 1 (error cond² eps; Yamamoto et al. 2015), and products throughout. ‖aᵀa - I‖ <= 1/4
 * bounds the condition by 1.3. */
static bool by_cholesky(size_t m, size_t n, double *a, double *g) {
    int info;
    lt_lower_product_f64(true, false, n, m, a, n, a, n, 0.0, g, n);
    if (!(off_identity2(g, n) <= 1.0 / 16.0)) return false;
    lt_chol_serial(n, g, &info);
    if (info) return false;
    const lt_blas_call call = lt_blas_begin();
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, (blasint)m, (blasint)n, 1.0, g,
                (blasint)n, a, (blasint)n);
    lt_blas_end(call);
    return true;
}

lt_status lt_orth_serial(size_t m, size_t n, double *a, lt_err *err) {
    LT_REQUIRE(err, m >= n && m <= 1 << 20 && n <= 16384, "orthonormal basis of [%zu, %zu]", m, n);
    if (n == 0) return LT_OK;
    double *g = doubles(n * n);
    if (!g) return lt_fail(err, LT_ENOMEM, "workspace of an orthonormal basis of [%zu, %zu]", m, n);
    const bool done = by_cholesky(m, n, a, g);
    lt_free(g);
    return done ? LT_OK : by_householder(m, n, a, err);
}
