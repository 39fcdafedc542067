/* linalg/gemm.h - products: threaded by tiles that are cut by shapes only.
 *
 * Row-major. f32 runs on the team's register tiles (linalg/packed.h), "ref" and f64 on single-threaded calls of
 * OpenBLAS (docs/performance.md has the measurements behind the sizes and the BLAS flavour). */
#ifndef LT_LINALG_GEMM_H
#define LT_LINALG_GEMM_H

#include "linalg/team.h"

/* C[m,n] = alpha op(A) op(B) + beta C. ta: A is stored [k,m]; tb: B is stored [n,k]. ld*: row strides. */
void lt_gemm_f32(lt_team *team, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                 const float *b, size_t ldb, float beta, float *c, size_t ldc);
void lt_gemm_f64(lt_team *team, bool ta, bool tb, size_t m, size_t n, size_t k, double alpha, const double *a,
                 size_t lda, const double *b, size_t ldb, double beta, double *c, size_t ldc);
/* On the calling thread alone, for use inside a parallel region; the f32 one has this machine's best kernels. */
void lt_gemm_f32_serial(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                        const float *b, size_t ldb, float beta, float *c, size_t ldc);
void lt_gemm_f64_serial(bool ta, bool tb, size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda,
                        const double *b, size_t ldb, double beta, double *c, size_t ldc);

/* y[n, out] = x[n, in] Wᵀ (+ y when add). w: any float dtype, a matrix [out, in] (rows as lt_tensor_row),
 * or [in, out] when in_out (Conv1D). n <= 8: straight from storage; more: widened per tile into team scratch. */
void lt_matmul_wt(lt_team *team, float *y, size_t ldy, const float *x, size_t ldx, size_t n, const lt_tensor *w,
                  bool in_out, bool add);
/* The same straight from storage for any n: a row's bits do not depend on n, which decoding relies on. */
void lt_matmul_wt_steps(lt_team *team, float *y, size_t ldy, const float *x, size_t ldx, size_t n, const lt_tensor *w,
                        bool in_out, bool add);
/* One linear of one or two stages on the rows that others of a group have too: y [n, out] = x W1ᵀ, or (x W1ᵀ) W2ᵀ
 * with x W1ᵀ in inner [n, rank]. */
typedef struct lt_group_member {
    float *y, *inner;
    lt_stored stage[2];
    int n_stages;
} lt_group_member;
enum { LT_GROUP = 4 };
/* At most LT_GROUP linears of one x; the bits of lt_matmul_wt (steps: lt_matmul_wt_steps) stage by stage, in less
 * time: x is read once, and threads meet less often. */
void lt_matmul_wt_group(lt_team *team, const lt_group_member *g, size_t n_members, const float *x, size_t ldx, size_t n,
                        bool steps);
/* dx[n, in] = dy[n, out] W (+ dx when add); same storage rules. */
void lt_matmul_w(lt_team *team, float *dx, size_t ldx, const float *dy, size_t ldy, size_t n, const lt_tensor *w,
                 bool in_out, bool add);

/* acc += XᵀX: x [n, d] with row stride ldx, n <= 512 per internal step (f32 products, f64 sums; longer inputs
 * are cut at 512 rows). acc: packed lower triangle, row i holds d_i0..d_ii, d(d+1)/2 doubles. At most the work of one
 * ssyrk. */
void lt_gram_add(lt_team *team, double *acc, const float *x, size_t ldx, size_t n, size_t d);
/* sum[j] += sum_i x[i,j], and the same of |x| and x²; each may be NULL. f64 sums in row order. */
void lt_column_sums_add(lt_team *team, double *sum, double *abssum, double *sumsq, const float *x, size_t ldx, size_t n,
                        size_t d);
/* full symmetric n x n from the packed lower triangle, and back (reads the lower part) */
void lt_unpack_lower(double *full, const double *packed, size_t n);
void lt_pack_lower(double *packed, const double *full, size_t n);

#endif
