/* linalg/decomp.h - f64 decompositions on LAPACK (OpenBLAS's own Fortran symbols), alone and in batches.
 *
 * Row-major in and out; a batch runs its problems under OpenMP, one single-threaded LAPACK call each, largest
 * first by a fixed rule. Signs are fixed (largest entry of each vector positive), so results are the same bytes every
 * run. Not-converged is reported in `info` (LAPACK's), never an error; scratch comes from lt_malloc: LT_ENOMEM. */
#ifndef LT_LINALG_DECOMP_H
#define LT_LINALG_DECOMP_H

#include "linalg/team.h"

/* Symmetric eigenproblem: a [n,n] (lower triangle read) is destroyed; w [n] descending; v: the eigenvectors of the
 * `n_vectors` largest eigenvalues as ROWS [n_vectors, n], may be NULL when n_vectors = 0. v may not overlap a. */
typedef struct lt_eigh_problem {
    size_t n;
    double *a, *w, *v;
    size_t n_vectors;
    int info;
} lt_eigh_problem;
lt_status lt_eigh_batch(lt_team *team, lt_eigh_problem *p, size_t n_problems, lt_err *err);
lt_status lt_eigh(lt_team *team, lt_eigh_problem *p, lt_err *err);
/* serial form for use inside a parallel region; *info as LAPACK */
lt_status lt_eigh_serial(lt_eigh_problem *p, lt_err *err);
size_t lt_eigh_bytes(size_t n, bool vectors); /* scratch of one problem, beside a, w and v */

/* Thin SVD of a [m,n] (destroyed): u [m,k], s [k] descending, vt [k,n], k = min(m,n). u, vt may be NULL together.
 * Serial. */
lt_status lt_svd_serial(size_t m, size_t n, double *a, double *u, double *s, double *vt, int *info, lt_err *err);
/* In-place lower Cholesky of the lower triangle of a [n,n]; the strict upper part is zeroed. *info > 0: not positive
 * definite. */
void lt_chol_serial(size_t n, double *a, int *info);
/* X := L⁻¹ X (trans: L⁻ᵀ X), l lower [n,n], x [n,m]. */
void lt_trsm_serial(size_t n, size_t m, const double *l, bool trans, double *x);
/* Orthonormal basis of the columns of a [m,n], m >= n, in place: Householder QR, or Cholesky QR where the columns are
 * nearly orthonormal already. */
lt_status lt_orth_serial(size_t m, size_t n, double *a, lt_err *err);

#endif
