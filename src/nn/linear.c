/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/linear.h"

#include "nn/op.h"
#include "nn/stage.h"

typedef struct linear_attr {
    const lt_linear *l;
} linear_attr;

/* ---- shapes ---- */

size_t lt_stage_in(const lt_stage *s) {
    return s->in_out ? lt_tensor_rows(&s->w.t) : lt_tensor_cols(&s->w.t);
}
size_t lt_stage_out(const lt_stage *s) {
    return s->in_out ? lt_tensor_cols(&s->w.t) : lt_tensor_rows(&s->w.t);
}
size_t lt_linear_in(const lt_linear *l) {
    return l->n_stages > 0 ? lt_stage_in(&l->stage[0]) : 0;
}
size_t lt_linear_out(const lt_linear *l) {
    return l->n_stages > 0 ? lt_stage_out(&l->stage[l->n_stages - 1]) : 0;
}
size_t lt_linear_rank(const lt_linear *l) {
    return l->n_stages == 2 ? lt_stage_out(&l->stage[0]) : 0;
}

static lt_span whole(const lt_stage *s) {
    return (lt_span){ 0, lt_stage_out(s) };
}

static lt_status check_weight(const lt_param *w, lt_err *err) {
    if (!lt_host(&w->t)) return lt_fail(err, LT_EUNSUPPORTED, "linear: %s is not on the host", w->name);
    if (!lt_k_weight_ok(&w->t))
        return lt_fail(err, LT_EUNSUPPORTED, "linear: %s is %s", w->name, lt_dtype_get(w->t.dtype)->name);
    return LT_OK;
}

static lt_status check_adapter(const lt_stage *s, const lt_adapter *a, lt_err *err) {
    LT_TRY(check_weight(&a->a, err));
    LT_TRY(check_weight(&a->b, err));
    LT_REQUIRE(err,
               lt_tensor_cols(&a->a.t) == lt_stage_in(s) && lt_tensor_rows(&a->b.t) == lt_stage_out(s) &&
                   lt_tensor_rows(&a->a.t) == lt_tensor_cols(&a->b.t),
               "linear: adapter %s [%zu, %zu], %s [%zu, %zu] on %s [%zu out, %zu in]", a->a.name,
               lt_tensor_rows(&a->a.t), lt_tensor_cols(&a->a.t), a->b.name, lt_tensor_rows(&a->b.t),
               lt_tensor_cols(&a->b.t), s->w.name, lt_stage_out(s), lt_stage_in(s));
    return LT_OK;
}

static lt_status check_stage(const lt_stage *s, size_t in, lt_err *err) {
    LT_TRY(check_weight(&s->w, err));
    LT_REQUIRE(err, lt_stage_in(s) == in, "linear: %s takes %zu columns, given %zu", s->w.name, lt_stage_in(s), in);
    for (size_t i = 0; i < s->n_adapters; i++) LT_TRY(check_adapter(s, &s->adapters[i], err));
    return LT_OK;
}

lt_status lt_linear_check(const lt_exec *x, const lt_node *node, const lt_linear *l, lt_err *err) {
    LT_REQUIRE(err, l->n_stages == 1 || l->n_stages == 2, "linear: %s has %d stages", l->name, l->n_stages);
    size_t in = lt_cols(x, node->in[0]);
    for (int i = 0; i < l->n_stages; i++) {
        LT_TRY(check_stage(&l->stage[i], in, err));
        in = lt_stage_out(&l->stage[i]);
    }
    return lt_op_check_vector(node, 2, in, err);
}

static const lt_param *training_adapter(const lt_linear *l) {
    for (int i = 0; i < l->n_stages; i++)
        for (size_t k = 0; k < l->stage[i].n_adapters; k++) {
            const lt_adapter *a = &l->stage[i].adapters[k];
            if (lt_param_trainable(&a->a)) return &a->a;
            if (lt_param_trainable(&a->b)) return &a->b;
        }
    return NULL;
}

lt_node lt_linear_node(const lt_linear *l, lt_var in) {
    lt_node node = { .in = { in } };
    for (int i = 0; i < l->n_stages && i < 2; i++) node.param[i] = (lt_param *)&l->stage[i].w;
    if (l->bias.name) node.param[2] = (lt_param *)&l->bias;
    node.param[3] = (lt_param *)training_adapter(l);
    return node;
}

/* ---- one stage ---- */

static lt_tensor rows_of(const lt_tensor *w, lt_span span) {
    if (span.n == lt_tensor_rows(w)) return *w;
    const lt_dtype_row *dt = lt_dtype_get(w->dtype);
    lt_tensor part = *w;
    part.size[0] = span.n;
    part.offset += span.o0 * (w->stride[0] / dt->block * dt->bytes);
    return part;
}

static lt_tensor cols_of(const lt_tensor *w, lt_span span) {
    const lt_dtype_row *dt = lt_dtype_get(w->dtype);
    lt_tensor part = *w;
    part.size[w->rank - 1] = span.n;
    part.offset += span.o0 / dt->block * dt->bytes;
    return part;
}

static lt_tensor weight_of(const lt_stage *s, lt_span span) {
    return s->in_out ? cols_of(&s->w.t, span) : rows_of(&s->w.t, span);
}

/* n entries of one row; 16 bits of its stream for each */
static void drop_entries(lt_real *out, const lt_real *in, size_t n, lt_rng *r, uint32_t limit, lt_real keep, bool add) {
    enum { WORDS = 64 };
    uint32_t words[WORDS];
    for (size_t from = 0; from < n; from += 2 * WORDS) {
        const size_t part = lt_min_size(2 * WORDS, n - from);
        lt_rng_fill(r, words, (part + 1) / 2);
        for (size_t k = 0; k < part; k++) {
            const uint32_t bits = words[k / 2] >> (k % 2 * 16) & 0xFFFF;
            const lt_real v = in[from + k] * (bits < limit ? 0 : keep);
            out[from + k] = add ? out[from + k] + v : v;
        }
    }
}

/* out = in ∘ mask / (1 - p), or added to out; [n, d] */
static void drop_rows(lt_team *team, const lt_adapter *a, lt_real *out, const lt_real *in, size_t n, size_t d,
                      bool add) {
    const uint32_t limit = (uint32_t)(a->dropout * 65536.0);
    const lt_real keep = (lt_real)(1.0 / (1.0 - a->dropout));
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n *d))
    for (size_t i = 0; i < n; i++) {
        lt_rng r = lt_rng_at(a->seed, LT_RNG_DROPOUT, a->step, (uint32_t)i);
        drop_entries(out + i * d, in + i * d, d, &r, limit, keep, add);
    }
}

static bool drops(const lt_exec *x, const lt_adapter *a) {
    return a->dropout > 0 && lt_exec_mode(x) == LT_RECORD;
}

/* what A sees of x: x itself, or a copy in scratch */
static const lt_real *adapter_input(lt_exec *x, const lt_adapter *a, const lt_real *in, size_t n) {
    const size_t d = lt_tensor_cols(&a->a.t);
    if (!drops(x, a)) return in;
    lt_real *out = lt_exec_scratch(x, n * d * sizeof *out);
    if (out) drop_rows(lt_exec_team(x), a, out, in, n, d, false);
    return out;
}

/* y = x wᵀ. In a batch of single rows (decoding) a row's bits do not depend on how many there are. */
static void multiply(lt_exec *x, lt_real *y, size_t ldy, const lt_real *in, size_t ldx, size_t n, const lt_tensor *w,
                     bool in_out, bool add) {
    const lt_batch *b = lt_exec_batch(x);
    if (b->n_rows == b->n_pieces)
        lt_k_matmul_wt_steps(lt_exec_team(x), y, ldy, in, ldx, n, w, in_out, add);
    else
        lt_k_matmul_wt(lt_exec_team(x), y, ldy, in, ldx, n, w, in_out, add);
}

/* s x Aᵀ [n, q], in scratch */
static lt_real *adapter_inner(lt_exec *x, const lt_adapter *a, const lt_real *in, size_t n) {
    lt_team *team = lt_exec_team(x);
    const size_t q = lt_tensor_rows(&a->a.t);
    lt_real *t = lt_exec_scratch(x, n * q * sizeof *t);
    const lt_real *seen = t ? adapter_input(x, a, in, n) : NULL;
    if (!seen) return NULL;
    multiply(x, t, q, seen, lt_tensor_cols(&a->a.t), n, &a->a.t, false, false);
    lt_k_scale(team, t, t, (lt_real)a->scale, n * q);
    return t;
}

void lt_stage_forward(lt_exec *x, const lt_stage *s, lt_span span, lt_real *y, const lt_real *in, size_t n) {
    const lt_tensor w = weight_of(s, span);
    multiply(x, y, span.n, in, lt_stage_in(s), n, &w, s->in_out, false);
    for (size_t i = 0; i < s->n_adapters; i++) {
        const lt_tensor b = rows_of(&s->adapters[i].b.t, span);
        const lt_real *t = adapter_inner(x, &s->adapters[i], in, n);
        if (t) multiply(x, y, span.n, t, lt_tensor_cols(&b), n, &b, false, true);
    }
}

static void weight_gradient(lt_team *team, const lt_stage *s, lt_span span, const lt_real *dy, const lt_real *in,
                            size_t n) {
    const size_t d = lt_stage_in(s), out = lt_stage_out(s);
    if (s->in_out)
        lt_k_gemm(team, true, false, d, span.n, n, 1, in, d, dy, span.n, 1, s->w.grad + span.o0, out);
    else
        lt_k_gemm(team, true, false, span.n, d, n, 1, dy, span.n, in, d, 1, s->w.grad + span.o0 * d, d);
}

static void adapter_backward(lt_exec *x, const lt_adapter *a, lt_span span, lt_real *dx, const lt_real *dy,
                             const lt_real *in, size_t n) {
    lt_team *team = lt_exec_team(x);
    const size_t q = lt_tensor_rows(&a->a.t), d = lt_tensor_cols(&a->a.t);
    if (lt_param_trainable(&a->b)) {
        const lt_real *t = adapter_inner(x, a, in, n);
        if (t) lt_k_gemm(team, true, false, span.n, q, n, 1, dy, span.n, t, q, 1, a->b.grad + span.o0 * q, q);
    }
    if (!dx && !lt_param_trainable(&a->a)) return;
    lt_real *dt = lt_exec_scratch(x, n * q * sizeof *dt);
    if (!dt) return;
    const lt_tensor b = rows_of(&a->b.t, span);
    lt_k_matmul_w(team, dt, q, dy, span.n, n, &b, false, false);
    lt_k_scale(team, dt, dt, (lt_real)a->scale, n * q);
    if (lt_param_trainable(&a->a)) {
        const lt_real *seen = adapter_input(x, a, in, n);
        if (seen) lt_k_gemm(team, true, false, q, d, n, 1, dt, q, seen, d, 1, a->a.grad, d);
    }
    if (!dx) return;
    if (!drops(x, a)) {
        lt_k_matmul_w(team, dx, d, dt, q, n, &a->a.t, false, true);
        return;
    }
    lt_real *dseen = lt_exec_scratch(x, n * d * sizeof *dseen);
    if (!dseen) return;
    lt_k_matmul_w(team, dseen, d, dt, q, n, &a->a.t, false, false);
    drop_rows(team, a, dx, dseen, n, d, true);
}

void lt_stage_backward(lt_exec *x, const lt_stage *s, lt_span span, lt_real *dx, const lt_real *dy, const lt_real *in,
                       size_t n) {
    lt_team *team = lt_exec_team(x);
    const lt_tensor w = weight_of(s, span);
    if (dx) lt_k_matmul_w(team, dx, lt_stage_in(s), dy, span.n, n, &w, s->in_out, true);
    if (lt_param_trainable(&s->w)) weight_gradient(team, s, span, dy, in, n);
    for (size_t i = 0; i < s->n_adapters; i++) adapter_backward(x, &s->adapters[i], span, dx, dy, in, n);
}

void lt_bias_add(lt_exec *x, const lt_param *bias, lt_span span, lt_real *y, size_t n) {
    if (!bias->name) return;
    lt_team *team = lt_exec_team(x);
    const lt_real *b = lt_op_vector(x, bias);
    if (!b) return;
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n *span.n))
    for (size_t i = 0; i < n; i++) lt_k_add(team, y + i * span.n, y + i * span.n, b + span.o0, span.n);
}

void lt_bias_backward(lt_exec *x, const lt_param *bias, lt_span span, const lt_real *dy, size_t n) {
    if (bias->name && lt_param_trainable(bias))
        lt_op_add_column_sums(lt_exec_team(x), bias->grad + span.o0, dy, span.n, n, span.n);
}

/* ---- the whole ---- */

void lt_linear_run(lt_exec *x, const lt_linear *l, lt_real *y, lt_real *inner, const lt_real *in, size_t n) {
    const lt_stage *last = &l->stage[l->n_stages - 1];
    if (l->n_stages == 2) {
        lt_stage_forward(x, &l->stage[0], whole(&l->stage[0]), inner, in, n);
        in = inner;
    }
    lt_stage_forward(x, last, whole(last), y, in, n);
    lt_bias_add(x, &l->bias, whole(last), y, n);
}

static bool stage_trains(const lt_stage *s) {
    for (size_t i = 0; i < s->n_adapters; i++)
        if (lt_param_trainable(&s->adapters[i].a) || lt_param_trainable(&s->adapters[i].b)) return true;
    return lt_param_trainable(&s->w);
}

void lt_linear_back(lt_exec *x, const lt_linear *l, lt_real *dx, const lt_real *dy, const lt_real *inner,
                    const lt_real *in, size_t n) {
    const lt_stage *first = &l->stage[0], *last = &l->stage[l->n_stages - 1];
    lt_bias_backward(x, &l->bias, whole(last), dy, n);
    if (l->n_stages == 1) {
        lt_stage_backward(x, first, whole(first), dx, dy, in, n);
        return;
    }
    const size_t bytes = n * lt_linear_rank(l) * sizeof *dx;
    lt_real *dinner = dx || stage_trains(first) ? lt_exec_scratch(x, bytes) : NULL;
    if (dinner) memset(dinner, 0, bytes);
    lt_stage_backward(x, last, whole(last), dinner, dy, inner, n);
    if (dinner) lt_stage_backward(x, first, whole(first), dx, dinner, in, n);
}

/* ---- the op ---- */

static lt_status check(const lt_exec *x, const lt_node *node, lt_err *err) {
    return lt_linear_check(x, node, ((const linear_attr *)node->attr)->l, err);
}

static size_t saved_bytes(const lt_exec *x, const lt_node *node) {
    return lt_rows(x, node->in[0]) * lt_linear_rank(((const linear_attr *)node->attr)->l) * sizeof(lt_real);
}

static void forward(lt_exec *x, const lt_node *node) {
    const lt_linear *l = ((const linear_attr *)node->attr)->l;
    lt_real *inner = node->saved ? node->saved : lt_exec_scratch(x, saved_bytes(x, node));
    if (inner) lt_linear_run(x, l, lt_data(x, node->out), inner, lt_data(x, node->in[0]), lt_rows(x, node->out));
}

static void backward(lt_exec *x, const lt_node *node) {
    const lt_linear *l = ((const linear_attr *)node->attr)->l;
    lt_real *dx = lt_needs_grad(x, node->in[0]) ? lt_grad(x, node->in[0]) : NULL;
    lt_linear_back(x, l, dx, lt_grad(x, node->out), node->saved, lt_data(x, node->in[0]), lt_rows(x, node->out));
}

const lt_op lt_op_linear = { "linear", check, forward, backward, saved_bytes };

lt_var lt_linear_fwd(lt_exec *x, lt_var in, const lt_linear *l) {
    const linear_attr attr = { l };
    lt_node node = lt_linear_node(l, in);
    node.attr = &attr;
    return lt_apply(x, &lt_op_linear, node, sizeof attr, lt_rows(x, in), lt_linear_out(l));
}
