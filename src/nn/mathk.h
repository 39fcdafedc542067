/* nn/mathk.h - the kernels of nn/ on lt_real: the team's f32 table in the library, plain loops in the double build.
 *
 * The one place where the two builds differ. Names and arguments follow linalg/kernel.h and linalg/gemm.h. */
#ifndef LT_NN_MATHK_H
#define LT_NN_MATHK_H

#include <math.h>
#include <string.h>

#include "linalg/gemm.h"
#include "linalg/parts.h"
#include "linalg/thin.h"
#include "nn/real.h"

#ifndef LT_REAL_DOUBLE

static inline void lt_k_widen(const lt_team *t, float *dst, lt_dtype dt, const void *src, size_t n) {
    t->k->widen(dst, dt, src, n);
}
static inline void lt_k_dot_stored(const lt_team *t, float *y, const float *x, lt_dtype dt, const void *w,
                                   size_t stride, size_t rows, size_t n) {
    t->k->dot_stored(y, x, dt, w, stride, rows, n);
}
static inline void lt_k_axpy(const lt_team *t, float *y, float a, lt_dtype dt, const void *w, size_t n) {
    t->k->axpy(y, a, dt, w, n);
}
static inline void lt_k_exp(const lt_team *t, float *y, const float *x, size_t n) {
    t->k->exp_rows(y, x, n);
}
static inline double lt_k_exp_sum(const lt_team *t, float *y, const float *x, float scale, float m, size_t n) {
    return t->k->exp_sum(y, x, scale, m, n);
}
static inline float lt_k_max(const lt_team *t, const float *x, size_t n) {
    return t->k->max(x, n);
}
static inline double lt_k_sumsq(const lt_team *t, const float *x, size_t n) {
    return t->k->sumsq(x, n);
}
static inline void lt_k_scale(const lt_team *t, float *y, const float *x, float a, size_t n) {
    t->k->scale(y, x, a, n);
}
static inline void lt_k_mul(const lt_team *t, float *y, const float *x, const float *w, float a, size_t n) {
    t->k->mul(y, x, w, a, n);
}
static inline void lt_k_add(const lt_team *t, float *y, const float *a, const float *b, size_t n) {
    t->k->add(y, a, b, n);
}
static inline void lt_k_silu_mul(const lt_team *t, float *y, const float *g, const float *u, size_t n) {
    t->k->silu_mul(y, g, u, n);
}
static inline void lt_k_silu_back(const lt_team *t, float *dg, float *du, const float *dy, const float *g,
                                  const float *u, size_t n) {
    t->k->silu_back(dg, du, dy, g, u, n);
}
static inline double lt_k_dot3(const lt_team *t, const float *a, const float *b, const float *c, size_t n) {
    return t->k->dot3(a, b, c, n);
}
static inline void lt_k_norm_back(const lt_team *t, float *dx, const float *dy, const float *w, const float *x,
                                  const float abc[3], float mean, bool add, size_t n) {
    t->k->norm_back(dx, dy, w, x, abc, mean, add, n);
}
static inline void lt_k_rope(const lt_team *t, float *y, const float *x, const float *cs, const float *sn, size_t r) {
    t->k->rope(y, x, cs, sn, r);
}
static inline void lt_k_gemm(lt_team *t, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                             size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    lt_gemm_f32(t, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
static inline void lt_k_gemm_serial(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                                    size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    lt_gemm_f32_serial(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
static inline void lt_k_mask_mul(const lt_team *t, float *y, const float *x, const uint8_t *mask, float a, size_t n) {
    t->k->mask_mul(y, x, mask, a, n);
}
static inline void lt_k_mask_add(const lt_team *t, float *y, const float *x, const uint8_t *mask, float a, size_t n) {
    t->k->mask_add(y, x, mask, a, n);
}
static inline void lt_k_thin_project(lt_team *t, float *out, const float *x, const float *v, const lt_thin *s) {
    lt_thin_project(t, out, x, v, s);
}
static inline void lt_k_thin_expand(lt_team *t, float *y, const float *in, const float *v, const lt_thin *s) {
    lt_thin_expand(t, y, in, v, s);
}
static inline void lt_k_thin_outer(lt_team *t, float *dv, const float *in, const float *x, const lt_thin *s) {
    lt_thin_outer(t, dv, in, x, s);
}
/* products of split operands (linalg/parts.h); false: there is no unit for them */
static inline bool lt_k_splits(const lt_team *t) {
    return t->k->unit != NULL;
}
static inline void lt_k_unit_enter(const lt_team *t) {
    if (t->k->unit) t->k->unit->enter();
}
static inline void lt_k_unit_leave(const lt_team *t) {
    if (t->k->unit) t->k->unit->leave();
}
static inline lt_split lt_k_split_left(const lt_team *t, void *to, const float *a, size_t lda, size_t n, size_t inner) {
    return lt_split_left(t->k, to, a, lda, n, inner);
}
static inline lt_split lt_k_split_right(const lt_team *t, void *to, const float *b, size_t ldb, bool by_rows, size_t n,
                                        size_t inner) {
    return lt_split_right(t->k, to, b, ldb, by_rows, n, inner);
}
static inline void lt_k_split_multiply(const lt_team *t, float *c, size_t ldc, float beta, const lt_split *left,
                                       size_t row, size_t rows, const lt_split *right, size_t cols, size_t inner) {
    lt_split_multiply(t->k, c, ldc, beta, left, row, rows, right, cols, inner);
}
/* weights of any float dtype, rows as lt_tensor_row */
static inline bool lt_k_weight_ok(const lt_tensor *w) {
    return lt_dtype_get(w->dtype)->is_float && w->dtype != LT_F64;
}
static inline void lt_k_matmul_wt(lt_team *t, float *y, size_t ldy, const float *x, size_t ldx, size_t n,
                                  const lt_tensor *w, bool in_out, bool add) {
    lt_matmul_wt(t, y, ldy, x, ldx, n, w, in_out, add);
}
typedef lt_group_member lt_k_member;
static inline void lt_k_matmul_wt_group(lt_team *t, const lt_k_member *g, size_t n_members, const float *x, size_t ldx,
                                        size_t n, bool steps) {
    lt_matmul_wt_group(t, g, n_members, x, ldx, n, steps);
}
static inline void lt_k_matmul_wt_steps(lt_team *t, float *y, size_t ldy, const float *x, size_t ldx, size_t n,
                                        const lt_tensor *w, bool in_out, bool add) {
    lt_matmul_wt_steps(t, y, ldy, x, ldx, n, w, in_out, add);
}
static inline void lt_k_matmul_w(lt_team *t, float *dx, size_t ldx, const float *dy, size_t ldy, size_t n,
                                 const lt_tensor *w, bool in_out, bool add) {
    lt_matmul_w(t, dx, ldx, dy, ldy, n, w, in_out, add);
}
static inline bool lt_k_all_finite(const float *x, size_t n) {
    return lt_all_finite(x, n);
}

#else

enum { LT_K_CHUNK = 256 }; /* a multiple of every block size */

static inline void lt_k_widen(const lt_team *t, double *dst, lt_dtype dt, const void *src, size_t n) {
    (void)t;
    if (dt == LT_F64) {
        memcpy(dst, src, n * sizeof *dst);
        return;
    }
    const lt_dtype_row *row = lt_dtype_get(dt);
    float part[LT_K_CHUNK];
    for (size_t i = 0; i < n; i += LT_K_CHUNK) {
        const size_t m = lt_min_size(LT_K_CHUNK, n - i);
        row->to_f32(part, (const char *)src + i / row->block * row->bytes, m);
        for (size_t j = 0; j < m; j++) dst[i + j] = part[j];
    }
}
static inline void lt_k_part(const lt_team *t, double part[LT_K_CHUNK], lt_dtype dt, const void *w, size_t i,
                             size_t m) {
    const lt_dtype_row *row = lt_dtype_get(dt);
    lt_k_widen(t, part, dt, (const char *)w + i / row->block * row->bytes, m);
}
static inline void lt_k_dot_stored(const lt_team *t, double *y, const double *x, lt_dtype dt, const void *w,
                                   size_t stride, size_t rows, size_t n) {
    double part[LT_K_CHUNK];
    for (size_t r = 0; r < rows; r++) {
        y[r] = 0.0;
        for (size_t i = 0; i < n; i += LT_K_CHUNK) {
            const size_t m = lt_min_size(LT_K_CHUNK, n - i);
            lt_k_part(t, part, dt, (const char *)w + r * stride, i, m);
            for (size_t c = 0; c < m; c++) y[r] += x[i + c] * part[c];
        }
    }
}
static inline void lt_k_axpy(const lt_team *t, double *y, double a, lt_dtype dt, const void *w, size_t n) {
    double part[LT_K_CHUNK];
    for (size_t i = 0; i < n; i += LT_K_CHUNK) {
        const size_t m = lt_min_size(LT_K_CHUNK, n - i);
        lt_k_part(t, part, dt, w, i, m);
        for (size_t c = 0; c < m; c++) y[i + c] += a * part[c];
    }
}
static inline void lt_k_exp(const lt_team *t, double *y, const double *x, size_t n) {
    (void)t;
    for (size_t i = 0; i < n; i++) y[i] = exp(x[i]);
}
static inline double lt_k_exp_sum(const lt_team *t, double *y, const double *x, double scale, double m, size_t n) {
    (void)t;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += y[i] = exp(x[i] * scale - m);
    return sum;
}
static inline double lt_k_max(const lt_team *t, const double *x, size_t n) {
    (void)t;
    double m = -INFINITY;
    for (size_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}
static inline double lt_k_sumsq(const lt_team *t, const double *x, size_t n) {
    (void)t;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}
static inline void lt_k_scale(const lt_team *t, double *y, const double *x, double a, size_t n) {
    (void)t;
    for (size_t i = 0; i < n; i++) y[i] = a * x[i];
}
static inline void lt_k_mul(const lt_team *t, double *y, const double *x, const double *w, double a, size_t n) {
    (void)t;
    for (size_t i = 0; i < n; i++) y[i] = a * x[i] * w[i];
}
static inline void lt_k_add(const lt_team *t, double *y, const double *a, const double *b, size_t n) {
    (void)t;
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}
static inline void lt_k_silu_mul(const lt_team *t, double *y, const double *g, const double *u, size_t n) {
    (void)t;
    for (size_t i = 0; i < n; i++) y[i] = g[i] / (1.0 + exp(-g[i])) * (u ? u[i] : 1.0);
}
static inline void lt_k_silu_back(const lt_team *t, double *dg, double *du, const double *dy, const double *g,
                                  const double *u, size_t n) {
    (void)t;
    for (size_t i = 0; i < n; i++) {
        const double s = 1.0 / (1.0 + exp(-g[i])), d = dy[i];
        dg[i] = d * u[i] * (s * (1.0 + g[i] * (1.0 - s)));
        du[i] = d * (g[i] * s);
    }
}
static inline double lt_k_dot3(const lt_team *t, const double *a, const double *b, const double *c, size_t n) {
    (void)t;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i] * (c ? c[i] : 1.0);
    return sum;
}
static inline void lt_k_norm_back(const lt_team *t, double *dx, const double *dy, const double *w, const double *x,
                                  const double abc[3], double mean, bool add, size_t n) {
    (void)t;
    for (size_t i = 0; i < n; i++)
        dx[i] = (add ? dx[i] : 0.0) + (abc[0] * dy[i] * w[i] + abc[1] * (x[i] - mean) + abc[2]);
}
static inline void lt_k_rope(const lt_team *t, double *y, const double *x, const double *cs, const double *sn,
                             size_t r) {
    (void)t;
    for (size_t i = 0; i < r / 2; i++) {
        const double a = x[i], b = x[i + r / 2];
        y[i] = a * cs[i] - b * sn[i];
        y[i + r / 2] = b * cs[i] + a * sn[i];
    }
}
static inline void lt_k_gemm(lt_team *t, bool ta, bool tb, size_t m, size_t n, size_t k, double alpha, const double *a,
                             size_t lda, const double *b, size_t ldb, double beta, double *c, size_t ldc) {
    lt_gemm_f64(t, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
static inline void lt_k_gemm_serial(bool ta, bool tb, size_t m, size_t n, size_t k, double alpha, const double *a,
                                    size_t lda, const double *b, size_t ldb, double beta, double *c, size_t ldc) {
    lt_gemm_f64_serial(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
static inline bool lt_k_kept(const uint8_t *mask, size_t i) {
    return !mask || (mask[i / 8] >> i % 8 & 1);
}
static inline void lt_k_mask_mul(const lt_team *t, double *y, const double *x, const uint8_t *mask, double a,
                                 size_t n) {
    (void)t;
    for (size_t i = 0; i < n; i++) y[i] = lt_k_kept(mask, i) ? a * x[i] : 0.0;
}
static inline void lt_k_mask_add(const lt_team *t, double *y, const double *x, const uint8_t *mask, double a,
                                 size_t n) {
    (void)t;
    for (size_t i = 0; i < n; i++) y[i] += lt_k_kept(mask, i) ? a * x[i] : 0.0;
}
static inline const uint8_t *lt_k_mask_row(const lt_thin *s, size_t row) {
    return s->mask ? s->mask + row * s->mask_ld : NULL;
}
static inline void lt_k_thin_project(lt_team *t, double *out, const double *x, const double *v, const lt_thin *s) {
    (void)t;
    for (size_t i = 0; i < s->n; i++)
        for (size_t j = 0; j < s->q; j++) {
            double sum = 0.0;
            for (size_t c = 0; c < s->d; c++)
                if (lt_k_kept(lt_k_mask_row(s, i), c)) sum += x[i * s->d + c] * v[j * s->d + c];
            out[i * s->q + j] = s->alpha * sum;
        }
}
static inline void lt_k_thin_expand(lt_team *t, double *y, const double *in, const double *v, const lt_thin *s) {
    (void)t;
    for (size_t i = 0; i < s->n; i++)
        for (size_t c = 0; c < s->d; c++)
            for (size_t j = 0; lt_k_kept(lt_k_mask_row(s, i), c) && j < s->q; j++)
                y[i * s->d + c] += s->alpha * in[i * s->q + j] * v[j * s->d + c];
}
static inline void lt_k_thin_outer(lt_team *t, double *dv, const double *in, const double *x, const lt_thin *s) {
    (void)t;
    for (size_t i = 0; i < s->n; i++)
        for (size_t c = 0; c < s->d; c++)
            for (size_t j = 0; lt_k_kept(lt_k_mask_row(s, i), c) && j < s->q; j++)
                dv[j * s->d + c] += s->alpha * in[i * s->q + j] * x[i * s->d + c];
}
static inline bool lt_k_splits(const lt_team *t) { /* the rest of the split products is never called */
    (void)t;
    return false;
}
static inline void lt_k_unit_enter(const lt_team *t) {
    (void)t;
}
static inline void lt_k_unit_leave(const lt_team *t) {
    (void)t;
}
static inline lt_split lt_k_split_left(const lt_team *t, void *to, const double *a, size_t lda, size_t n,
                                       size_t inner) {
    (void)t, (void)to, (void)a, (void)lda, (void)n, (void)inner;
    return (lt_split){ 0 };
}
static inline lt_split lt_k_split_right(const lt_team *t, void *to, const double *b, size_t ldb, bool by_rows, size_t n,
                                        size_t inner) {
    (void)t, (void)to, (void)b, (void)ldb, (void)by_rows, (void)n, (void)inner;
    return (lt_split){ 0 };
}
static inline void lt_k_split_multiply(const lt_team *t, double *c, size_t ldc, double beta, const lt_split *left,
                                       size_t row, size_t rows, const lt_split *right, size_t cols, size_t inner) {
    (void)t, (void)c, (void)ldc, (void)beta, (void)left, (void)row, (void)rows, (void)right, (void)cols, (void)inner;
}
static inline bool lt_k_weight_ok(const lt_tensor *w) {
    return w->dtype == LT_F64 && w->rank == 2;
}
static inline void lt_k_matmul_wt(lt_team *t, double *y, size_t ldy, const double *x, size_t ldx, size_t n,
                                  const lt_tensor *w, bool in_out, bool add) {
    const size_t out = w->size[in_out ? 1 : 0], in = w->size[in_out ? 0 : 1];
    lt_gemm_f64(t, false, !in_out, n, out, in, 1.0, x, ldx, lt_host(w), w->stride[0], add ? 1.0 : 0.0, y, ldy);
}
static inline void lt_k_matmul_wt_steps(lt_team *t, double *y, size_t ldy, const double *x, size_t ldx, size_t n,
                                        const lt_tensor *w, bool in_out, bool add) {
    lt_k_matmul_wt(t, y, ldy, x, ldx, n, w, in_out, add);
}
typedef struct lt_k_member {
    double *y, *inner;
    lt_stored stage[2];
    int n_stages;
} lt_k_member;
static inline void lt_k_matmul_wt_group(lt_team *t, const lt_k_member *g, size_t n_members, const double *x, size_t ldx,
                                        size_t n, bool steps) {
    (void)steps;
    for (size_t j = 0; j < n_members; j++) {
        const double *in = x;
        size_t ld = ldx;
        for (int s = 0; s < g[j].n_stages; s++) {
            const lt_stored *w = &g[j].stage[s];
            const size_t out = w->in_out ? lt_tensor_cols(w->w) : lt_tensor_rows(w->w);
            double *y = s + 1 < g[j].n_stages ? g[j].inner : g[j].y;
            lt_k_matmul_wt(t, y, out, in, ld, n, w->w, w->in_out, false);
            in = y;
            ld = out;
        }
    }
}
static inline void lt_k_matmul_w(lt_team *t, double *dx, size_t ldx, const double *dy, size_t ldy, size_t n,
                                 const lt_tensor *w, bool in_out, bool add) {
    const size_t out = w->size[in_out ? 1 : 0], in = w->size[in_out ? 0 : 1];
    lt_gemm_f64(t, false, in_out, n, in, out, 1.0, dy, ldy, lt_host(w), w->stride[0], add ? 1.0 : 0.0, dx, ldx);
}
static inline bool lt_k_all_finite(const double *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

#endif

/* Row r of a stored matrix, widened. */
static inline void lt_k_row(const lt_team *t, lt_real *dst, const lt_tensor *w, size_t r) {
    lt_k_widen(t, dst, w->dtype, lt_tensor_row(w, r), lt_tensor_cols(w));
}

#endif
