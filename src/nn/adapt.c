/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/adapt.h"

#include "nn/op.h"

enum { ALIGN = 64 };

/* One adapter at work on n rows. */
typedef struct work {
    const lt_adapter *a;
    size_t n, d, o, q; /* in, outputs of the span, rank */
    size_t o0;
    lt_real *t;    /* [n, q] */
    uint8_t *mask; /* [n, mask_ld]; NULL: nothing is dropped */
    size_t mask_ld;
    double keep;            /* 1 / (1 - p) */
    const lt_real *va, *vb; /* thin: A [q, d] and Bᵀ [q, o], else NULL */
} work;

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static bool drops(const lt_exec *x, const lt_adapter *a) {
    return a->dropout > 0 && lt_exec_mode(x) == LT_RECORD;
}

static size_t inner_bytes(const lt_adapter *a, size_t n) {
    return aligned(n * lt_tensor_rows(&a->a.t) * sizeof(lt_real));
}

static size_t mask_bytes(const lt_exec *x, const lt_adapter *a, size_t n) {
    return drops(x, a) ? aligned(n * ((lt_tensor_cols(&a->a.t) + 7) / 8)) : 0;
}

size_t lt_adapt_bytes(const lt_exec *x, const lt_stage *s, size_t n) {
    size_t bytes = 0;
    for (size_t i = 0; i < s->n_adapters; i++)
        bytes += inner_bytes(&s->adapters[i], n) + mask_bytes(x, &s->adapters[i], n);
    return bytes;
}

/* ---- a mask, and what is seen through it ---- */

static void draw_mask(lt_team *team, const work *w) {
    const uint32_t below = (uint32_t)(w->a->dropout * 65536.0);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, w->n * w->d))
    for (size_t i = 0; i < w->n; i++) {
        const lt_rng stream = lt_rng_at(w->a->seed, LT_RNG_DROPOUT, w->a->step, (uint32_t)i);
        team->k->mask_draw(w->mask + i * w->mask_ld, &stream, below, w->d);
    }
}

/* x ∘ mask / (1 - p) [n, d], in scratch; x itself where nothing is dropped */
static const lt_real *seen_of(lt_exec *x, const work *w, const lt_real *in) {
    lt_team *team = lt_exec_team(x);
    if (!w->mask) return in;
    lt_real *out = lt_exec_scratch(x, w->n * w->d * sizeof *out);
    if (!out) return NULL;
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, w->n * w->d))
    for (size_t i = 0; i < w->n; i++)
        lt_k_mask_mul(team, out + i * w->d, in + i * w->d, w->mask + i * w->mask_ld, (lt_real)w->keep, w->d);
    return out;
}

/* ---- the two matrices ---- */

static lt_tensor rows_of_b(const work *w) {
    lt_tensor part = w->a->b.t;
    if (w->o == lt_tensor_rows(&part)) return part;
    const lt_dtype_row *dt = lt_dtype_get(part.dtype);
    part.size[0] = w->o;
    part.offset += w->o0 * (part.stride[0] / dt->block * dt->bytes);
    return part;
}

static const lt_real *matrix_a(lt_exec *x, const work *w) {
    const lt_tensor *a = &w->a->a.t;
    if (a->dtype == LT_REAL_DTYPE && a->rank == 2 && a->stride[0] == w->d) return lt_host(a);
    lt_real *v = lt_exec_scratch(x, w->q * w->d * sizeof *v);
    for (size_t j = 0; v && j < w->q; j++) lt_k_row(lt_exec_team(x), v + j * w->d, &w->a->a.t, j);
    return v;
}

static const lt_real *matrix_bt(lt_exec *x, const work *w) {
    lt_real *v = lt_exec_scratch(x, w->q * w->o * sizeof *v), *row = lt_exec_scratch(x, w->q * sizeof *row);
    for (size_t c = 0; row && c < w->o; c++) {
        lt_k_row(lt_exec_team(x), row, &w->a->b.t, w->o0 + c);
        for (size_t j = 0; j < w->q; j++) v[j * w->o + c] = row[j];
    }
    return v;
}

/* Rows that decode alone (a batch of pieces of one row each) take the products whose bits do not depend on how many
 * rows there are. */
static bool is_thin(const lt_exec *x, const work *w) {
    const lt_batch *b = lt_exec_batch(x);
    return b->n_rows != b->n_pieces && lt_thin_fits(w->n, lt_max_size(w->d, w->o), w->q);
}

/* at: where this adapter's part of kept is. False after a failure. */
static bool begin(work *w, lt_exec *x, const lt_adapter *a, lt_span span, size_t n, char *at) {
    *w = (work){ .a = a,
                 .n = n,
                 .d = lt_tensor_cols(&a->a.t),
                 .q = lt_tensor_rows(&a->a.t),
                 .o = span.n,
                 .o0 = span.o0,
                 .t = (void *)at,
                 .keep = 1.0 };
    if (drops(x, a)) {
        w->mask = (uint8_t *)at + inner_bytes(a, n);
        w->mask_ld = (w->d + 7) / 8;
        w->keep = 1.0 / (1.0 - a->dropout);
    }
    if (!is_thin(x, w)) return true;
    w->va = matrix_a(x, w);
    w->vb = matrix_bt(x, w);
    return lt_exec_status(x, NULL) == LT_OK;
}

/* ---- products; thin: with a few rows, else ordinary ones ---- */

static lt_thin shape_in(const work *w, double alpha) {
    return (lt_thin){ w->n, w->d, w->q, w->mask, w->mask_ld, alpha * w->keep };
}

static lt_thin shape_out(const work *w, double alpha) {
    return (lt_thin){ w->n, w->o, w->q, NULL, 0, alpha };
}

static void multiply(lt_exec *x, lt_real *y, size_t ldy, const lt_real *in, size_t ldx, size_t n, const lt_tensor *w,
                     bool add) {
    const lt_batch *b = lt_exec_batch(x);
    if (b->n_rows == b->n_pieces)
        lt_k_matmul_wt_steps(lt_exec_team(x), y, ldy, in, ldx, n, w, false, add);
    else
        lt_k_matmul_wt(lt_exec_team(x), y, ldy, in, ldx, n, w, false, add);
}

static void make_t(lt_exec *x, const work *w, const lt_real *in) {
    lt_team *team = lt_exec_team(x);
    if (w->mask) draw_mask(team, w);
    if (w->va) {
        const lt_thin s = shape_in(w, w->a->scale);
        lt_k_thin_project(team, w->t, in, w->va, &s);
        return;
    }
    const lt_real *seen = seen_of(x, w, in);
    if (!seen) return;
    multiply(x, w->t, w->q, seen, w->d, w->n, &w->a->a.t, false);
    lt_k_scale(team, w->t, w->t, (lt_real)w->a->scale, w->n * w->q);
}

static void add_t_b(lt_exec *x, const work *w, lt_real *y) {
    if (w->vb) {
        const lt_thin s = shape_out(w, 1.0);
        lt_k_thin_expand(lt_exec_team(x), y, w->t, w->vb, &s);
        return;
    }
    const lt_tensor b = rows_of_b(w);
    multiply(x, y, w->o, w->t, w->q, w->n, &b, true);
}

static void b_gradient(lt_exec *x, const work *w, const lt_real *dy) {
    lt_team *team = lt_exec_team(x);
    lt_real *grad = w->a->b.grad + w->o0 * w->q;
    if (!w->vb) {
        lt_k_gemm(team, true, false, w->o, w->q, w->n, 1, dy, w->o, w->t, w->q, 1, grad, w->q);
        return;
    }
    const lt_thin s = shape_out(w, 1.0);
    lt_real *dbt = lt_exec_scratch(x, w->q * w->o * sizeof *dbt);
    if (!dbt) return;
    memset(dbt, 0, w->q * w->o * sizeof *dbt);
    lt_k_thin_outer(team, dbt, w->t, dy, &s);
    for (size_t c = 0; c < w->o; c++)
        for (size_t j = 0; j < w->q; j++) grad[c * w->q + j] += dbt[j * w->o + c];
}

/* s dy B [n, q], in scratch */
static const lt_real *inner_gradient(lt_exec *x, const work *w, const lt_real *dy) {
    lt_team *team = lt_exec_team(x);
    lt_real *dt = lt_exec_scratch(x, w->n * w->q * sizeof *dt);
    if (!dt) return NULL;
    if (w->vb) {
        const lt_thin s = shape_out(w, w->a->scale);
        lt_k_thin_project(team, dt, dy, w->vb, &s);
        return dt;
    }
    const lt_tensor b = rows_of_b(w);
    lt_k_matmul_w(team, dt, w->q, dy, w->o, w->n, &b, false, false);
    lt_k_scale(team, dt, dt, (lt_real)w->a->scale, w->n * w->q);
    return dt;
}

static void a_gradient(lt_exec *x, const work *w, const lt_real *dt, const lt_real *in) {
    if (w->va) {
        const lt_thin s = shape_in(w, 1.0);
        lt_k_thin_outer(lt_exec_team(x), w->a->a.grad, dt, in, &s);
        return;
    }
    const lt_real *seen = seen_of(x, w, in);
    if (seen) lt_k_gemm(lt_exec_team(x), true, false, w->q, w->d, w->n, 1, dt, w->q, seen, w->d, 1, w->a->a.grad, w->d);
}

static void input_gradient(lt_exec *x, const work *w, lt_real *dx, const lt_real *dt) {
    lt_team *team = lt_exec_team(x);
    if (w->va) {
        const lt_thin s = shape_in(w, 1.0);
        lt_k_thin_expand(team, dx, dt, w->va, &s);
        return;
    }
    if (!w->mask) {
        lt_k_matmul_w(team, dx, w->d, dt, w->q, w->n, &w->a->a.t, false, true);
        return;
    }
    lt_real *dseen = lt_exec_scratch(x, w->n * w->d * sizeof *dseen);
    if (!dseen) return;
    lt_k_matmul_w(team, dseen, w->d, dt, w->q, w->n, &w->a->a.t, false, false);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, w->n * w->d))
    for (size_t i = 0; i < w->n; i++)
        lt_k_mask_add(team, dx + i * w->d, dseen + i * w->d, w->mask + i * w->mask_ld, (lt_real)w->keep, w->d);
}

/* ---- the two directions ---- */

void lt_adapt_forward(lt_exec *x, const lt_stage *s, lt_span span, lt_real *y, const lt_real *in, size_t n,
                      void *kept) {
    char *at = kept || s->n_adapters == 0 ? kept : lt_exec_scratch(x, lt_adapt_bytes(x, s, n));
    for (size_t i = 0; at && i < s->n_adapters; i++) {
        const lt_adapter *a = &s->adapters[i];
        work w;
        if (!begin(&w, x, a, span, n, at)) return;
        make_t(x, &w, in);
        if (y) add_t_b(x, &w, y);
        at += inner_bytes(a, n) + mask_bytes(x, a, n);
    }
}

static void one_backward(lt_exec *x, const work *w, lt_real *dx, const lt_real *dy, const lt_real *in) {
    if (lt_param_trainable(&w->a->b)) b_gradient(x, w, dy);
    if (!dx && !lt_param_trainable(&w->a->a)) return;
    const lt_real *dt = inner_gradient(x, w, dy);
    if (dt && lt_param_trainable(&w->a->a)) a_gradient(x, w, dt, in);
    if (dt && dx) input_gradient(x, w, dx, dt);
}

void lt_adapt_backward(lt_exec *x, const lt_stage *s, lt_span span, lt_real *dx, const lt_real *dy, const lt_real *in,
                       size_t n, void *kept) {
    char *at = kept || s->n_adapters == 0 ? kept : lt_exec_scratch(x, lt_adapt_bytes(x, s, n));
    for (size_t i = 0; at && i < s->n_adapters; i++) {
        const lt_adapter *a = &s->adapters[i];
        work w;
        if (!begin(&w, x, a, span, n, at)) return;
        if (!kept) make_t(x, &w, in);
        one_backward(x, &w, dx, dy, in);
        at += inner_bytes(a, n) + mask_bytes(x, a, n);
    }
}
