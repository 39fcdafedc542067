/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/linear.h"

#include <string.h>

#include "nn/adapt.h"
#include "nn/exec_impl.h"
#include "nn/op.h"

typedef struct linear_attr {
    const lt_linear *l;
    bool unread;
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

/* y = x wᵀ. In a batch of single rows (decoding) a row's bits do not depend on how many there are. */
static void multiply(lt_exec *x, lt_real *y, size_t ldy, const lt_real *in, size_t ldx, size_t n, const lt_tensor *w,
                     bool in_out) {
    const lt_batch *b = lt_exec_batch(x);
    if (b->n_rows == b->n_pieces)
        lt_k_matmul_wt_steps(lt_exec_team(x), y, ldy, in, ldx, n, w, in_out, false);
    else
        lt_k_matmul_wt(lt_exec_team(x), y, ldy, in, ldx, n, w, in_out, false);
}

void lt_stage_forward(lt_exec *x, const lt_stage *s, lt_span span, lt_real *y, const lt_real *in, size_t n,
                      void *kept) {
    const lt_tensor w = weight_of(s, span);
    multiply(x, y, span.n, in, lt_stage_in(s), n, &w, s->in_out);
    lt_adapt_forward(x, s, span, y, in, n, kept);
}

static void weight_gradient(lt_team *team, const lt_stage *s, lt_span span, const lt_real *dy, const lt_real *in,
                            size_t n) {
    const size_t d = lt_stage_in(s), out = lt_stage_out(s);
    if (s->in_out)
        lt_k_gemm(team, true, false, d, span.n, n, 1, in, d, dy, span.n, 1, s->w.grad + span.o0, out);
    else
        lt_k_gemm(team, true, false, span.n, d, n, 1, dy, span.n, in, d, 1, s->w.grad + span.o0 * d, d);
}

void lt_stage_backward(lt_exec *x, const lt_stage *s, lt_span span, lt_real *dx, bool add, const lt_real *dy,
                       const lt_real *in, size_t n, void *kept) {
    lt_team *team = lt_exec_team(x);
    const lt_tensor w = weight_of(s, span);
    if (dx) lt_k_matmul_w(team, dx, lt_stage_in(s), dy, span.n, n, &w, s->in_out, add);
    if (lt_param_trainable(&s->w)) weight_gradient(team, s, span, dy, in, n);
    lt_adapt_backward(x, s, span, dx, dy, in, n, kept);
}

typedef struct biasing {
    const lt_team *team;
    lt_real *y;
    const lt_real *b;
    size_t d;
} biasing;

static void bias_row(void *arg, size_t i) {
    const biasing *p = arg;
    lt_k_add(p->team, p->y + i * p->d, p->y + i * p->d, p->b, p->d);
}

void lt_bias_add(lt_exec *x, const lt_param *bias, lt_span span, lt_real *y, size_t n) {
    if (!bias->name) return;
    lt_team *team = lt_exec_team(x);
    const lt_real *b = lt_op_vector(x, bias);
    if (!b) return;
    biasing p = { team, y, b + span.o0, span.n };
    lt_op_run(team, n, n * span.n, bias_row, &p);
}

void lt_bias_backward(lt_exec *x, const lt_param *bias, lt_span span, const lt_real *dy, size_t n) {
    if (bias->name && lt_param_trainable(bias))
        lt_op_add_column_sums(lt_exec_team(x), bias->grad + span.o0, dy, span.n, n, span.n);
}

/* ---- the whole ---- */

/* what forward leaves: [n, rank] between two stages, then what each stage's adapters keep */
typedef struct saved {
    lt_real *inner;
    char *stage[2];
} saved;

static size_t between_bytes(const lt_linear *l, size_t n) {
    return (n * lt_linear_rank(l) * sizeof(lt_real) + 63) / 64 * 64;
}

size_t lt_linear_saved_bytes(const lt_exec *x, const lt_linear *l, size_t n) {
    size_t bytes = between_bytes(l, n);
    for (int i = 0; i < l->n_stages; i++) bytes += lt_adapt_bytes(x, &l->stage[i], n);
    return bytes;
}

static saved saved_at(const lt_exec *x, const lt_linear *l, size_t n, void *at) {
    char *first = (char *)at + between_bytes(l, n);
    return (saved){ at, { first, first + lt_adapt_bytes(x, &l->stage[0], n) } };
}

static bool adapted(const lt_linear *l) {
    for (int i = 0; i < l->n_stages; i++)
        if (l->stage[i].n_adapters > 0) return true;
    return false;
}

static lt_k_member member_of(const lt_linear *l, lt_real *y, lt_real *inner) {
    lt_k_member m = { .y = y, .inner = inner, .n_stages = l->n_stages };
    for (int i = 0; i < l->n_stages; i++) m.stage[i] = (lt_stored){ &l->stage[i].w.t, l->stage[i].in_out };
    return m;
}

/* linears of one input that have no adapters */
static void run_group(lt_exec *x, const lt_k_member *g, size_t n_members, const lt_real *in, size_t ldx, size_t n) {
    const lt_batch *b = lt_exec_batch(x);
    lt_k_matmul_wt_group(lt_exec_team(x), g, n_members, in, ldx, n, b->n_rows == b->n_pieces);
}

/* What the last stage reads. */
static const lt_real *before_last(lt_exec *x, const lt_linear *l, const lt_real *in, size_t n, const saved *s) {
    if (l->n_stages == 1) return in;
    lt_stage_forward(x, &l->stage[0], whole(&l->stage[0]), s->inner, in, n, s->stage[0]);
    return s->inner;
}

static void run_adapted(lt_exec *x, const lt_linear *l, lt_real *y, const lt_real *in, size_t n, const saved *s) {
    const lt_stage *last = &l->stage[l->n_stages - 1];
    in = before_last(x, l, in, n, s);
    lt_stage_forward(x, last, whole(last), y, in, n, s->stage[l->n_stages - 1]);
}

void lt_linear_run(lt_exec *x, const lt_linear *l, lt_real *y, const lt_real *in, size_t n, void *kept) {
    void *at = kept ? kept : lt_exec_scratch(x, lt_linear_saved_bytes(x, l, n));
    if (!at) return;
    const saved s = saved_at(x, l, n, at);
    if (adapted(l))
        run_adapted(x, l, y, in, n, &s);
    else {
        const lt_k_member m = member_of(l, y, s.inner);
        run_group(x, &m, 1, in, lt_linear_in(l), n);
    }
    lt_bias_add(x, &l->bias, whole(&l->stage[l->n_stages - 1]), y, n);
}

static bool stage_trains(const lt_stage *s) {
    for (size_t i = 0; i < s->n_adapters; i++)
        if (lt_param_trainable(&s->adapters[i].a) || lt_param_trainable(&s->adapters[i].b)) return true;
    return lt_param_trainable(&s->w);
}

void lt_linear_back(lt_exec *x, const lt_linear *l, lt_real *dx, bool add, const lt_real *dy, const lt_real *in,
                    size_t n, void *kept) {
    const lt_stage *first = &l->stage[0], *last = &l->stage[l->n_stages - 1];
    const saved s = saved_at(x, l, n, kept);
    lt_bias_backward(x, &l->bias, whole(last), dy, n);
    if (l->n_stages == 1) {
        lt_stage_backward(x, first, whole(first), dx, add, dy, in, n, s.stage[0]);
        return;
    }
    const bool wanted = dx || stage_trains(first);
    lt_real *dinner = wanted ? lt_exec_scratch(x, n * lt_linear_rank(l) * sizeof *dx) : NULL;
    lt_stage_backward(x, last, whole(last), dinner, false, dy, s.inner, n, s.stage[1]);
    if (dinner) lt_stage_backward(x, first, whole(first), dx, add, dinner, in, n, s.stage[0]);
}

/* ---- the op ---- */

static lt_status check(const lt_exec *x, const lt_node *node, lt_err *err) {
    return lt_linear_check(x, node, ((const linear_attr *)node->attr)->l, err);
}

static size_t saved_bytes(const lt_exec *x, const lt_node *node) {
    return lt_linear_saved_bytes(x, ((const linear_attr *)node->attr)->l, lt_rows(x, node->in[0]));
}

/* A replay wants what backward reads: all but the last product. */
static void keep(lt_exec *x, const lt_linear *l, const lt_real *in, size_t n, void *kept) {
    const lt_stage *last = &l->stage[l->n_stages - 1];
    if (!kept) return; /* nothing is wanted of it */
    const saved s = saved_at(x, l, n, kept);
    in = before_last(x, l, in, n, &s);
    lt_adapt_forward(x, last, whole(last), NULL, in, n, s.stage[l->n_stages - 1]);
}

static void forward(lt_exec *x, const lt_node *node) {
    const linear_attr *attr = node->attr;
    const lt_linear *l = attr->l;
    if (attr->unread && lt_exec_silent(x)) {
        keep(x, l, lt_data(x, node->in[0]), lt_rows(x, node->out), node->saved);
        memset(lt_data(x, node->out), 0, lt_rows(x, node->out) * lt_cols(x, node->out) * sizeof(lt_real));
        return;
    }
    lt_linear_run(x, l, lt_data(x, node->out), lt_data(x, node->in[0]), lt_rows(x, node->out), node->saved);
}

static void backward(lt_exec *x, const lt_node *node) {
    const lt_linear *l = ((const linear_attr *)node->attr)->l;
    bool add = true;
    lt_real *dx = lt_needs_grad(x, node->in[0]) ? lt_grad_add(x, node->in[0], &add) : NULL;
    lt_linear_back(x, l, dx, add, lt_grad(x, node->out), lt_data(x, node->in[0]), lt_rows(x, node->out), node->saved);
}

const lt_op lt_op_linear = { "linear", check, forward, backward, saved_bytes, false };

static lt_var apply(lt_exec *x, lt_var in, const lt_linear *l, bool unread) {
    const linear_attr attr = { l, unread };
    lt_node node = lt_linear_node(l, in);
    node.attr = &attr;
    return lt_apply(x, &lt_op_linear, node, sizeof attr, lt_rows(x, in), lt_linear_out(l));
}

lt_var lt_linear_fwd(lt_exec *x, lt_var in, const lt_linear *l) {
    return apply(x, in, l, false);
}

lt_var lt_linear_fwd_unread(lt_exec *x, lt_var in, const lt_linear *l) {
    return apply(x, in, l, true);
}

/* ---- several at once ---- */

static bool groups(const lt_exec *x, const lt_linear *const *l, size_t n) {
    bool all = n <= LT_GROUP && x->mode == LT_INFER && x->backend->on_host && !lt_exec_failed(x);
    for (size_t i = 0; i < n; i++) all = all && lt_linear_present(l[i]) && !adapted(l[i]);
    return all;
}

static bool check_each(lt_exec *x, lt_var in, const lt_linear *const *l, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const lt_node node = lt_linear_node(l[i], in);
        const lt_status st = lt_exec_need(x, in, "linear") ? lt_linear_check(x, &node, l[i], &x->err) : LT_OK;
        if (st != LT_OK) lt_exec_fail(x, st, "linear: refused"); /* keeps the message of the check */
    }
    return !lt_exec_failed(x);
}

static void run_each(lt_exec *x, lt_var in, const lt_linear *const *l, size_t n, const lt_var *out) {
    const size_t rows = lt_rows(x, in);
    lt_k_member g[LT_GROUP];
    for (size_t i = 0; i < n; i++) {
        lt_real *inner = lt_exec_scratch(x, rows * lt_linear_rank(l[i]) * sizeof *inner);
        if (!inner) return;
        g[i] = member_of(l[i], lt_data(x, out[i]), inner);
    }
    run_group(x, g, n, lt_data(x, in), lt_cols(x, in), rows);
    for (size_t i = 0; i < n; i++)
        lt_bias_add(x, &l[i]->bias, (lt_span){ 0, lt_linear_out(l[i]) }, lt_data(x, out[i]), rows);
}

void lt_linear_fwd_each(lt_exec *x, lt_var in, const lt_linear *const *l, size_t n, lt_var *out) {
    if (!groups(x, l, n)) {
        for (size_t i = 0; i < n; i++) out[i] = lt_linear_fwd(x, in, l[i]);
        return;
    }
    for (size_t i = 0; i < n; i++) out[i] = LT_NO_VAR;
    if (!check_each(x, in, l, n)) return;
    for (size_t i = 0; i < n; i++) {
        out[i] = lt_exec_new(x, lt_rows(x, in), lt_linear_out(l[i]));
        if (!lt_is_var(out[i])) return;
    }
    const lt_arena_mark mark = lt_arena_get_mark(x->values);
    run_each(x, in, l, n, out);
    lt_arena_release(x->values, mark);
}
