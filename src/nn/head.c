/* SPDX-License-Identifier: Apache-2.0 */
/* logits  l = scale head(x), and cap tanh(l / cap) where the head has a soft-cap
 * head_nll: with Z_i = sum_v exp l_iv,  nll_i = log Z_i - l_i,target;  dl_iv = g_i (exp(l_iv) / Z_i - [v = target_i])
 * Logits are made tile by tile (head_tile.h); forward keeps a running maximum and sum per token, backward makes the
 * tiles again from the saved log Z. A two-stage head runs its first stage once per token chunk. */
#include "nn/head_tile.h"
#include "nn/op.h"

/* ---- logits ---- */

typedef struct logits_attr {
    const lt_linear *head;
    double scale;
} logits_attr;

static lt_status check_logits(const lt_exec *x, const lt_node *node, lt_err *err) {
    return lt_linear_check(x, node, ((const logits_attr *)node->attr)->head, err);
}

static size_t logits_saved(const lt_exec *x, const lt_node *node) {
    return lt_linear_saved_bytes(x, ((const logits_attr *)node->attr)->head, lt_rows(x, node->in[0]));
}

static void scale_rows(lt_team *team, lt_real *y, const lt_real *x, double scale, size_t n, size_t d) {
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n *d))
    for (size_t i = 0; i < n; i++) lt_k_scale(team, y + i * d, x + i * d, (lt_real)scale, d);
}

static void cap_rows(const lt_team *team, lt_real *y, double cap, size_t n, size_t d) {
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n *d))
    for (size_t i = 0; i < n; i++) lt_softcap(y + i * d, cap, d);
}

static void forward_logits(lt_exec *x, const lt_node *node) {
    const logits_attr *a = node->attr;
    const size_t n = lt_rows(x, node->out), d = lt_cols(x, node->out);
    lt_real *y = lt_data(x, node->out);
    lt_linear_run(x, a->head, y, lt_data(x, node->in[0]), n, node->saved);
    if (a->scale != 1.0) scale_rows(lt_exec_team(x), y, y, a->scale, n, d);
    if (a->head->softcap > 0) cap_rows(lt_exec_team(x), y, a->head->softcap, n, d);
}

static void backward_logits(lt_exec *x, const lt_node *node) {
    const logits_attr *a = node->attr;
    const size_t n = lt_rows(x, node->out), d = lt_cols(x, node->out);
    lt_real *dx = lt_needs_grad(x, node->in[0]) ? lt_grad(x, node->in[0]) : NULL,
            *dy = lt_exec_scratch(x, n * d * sizeof *dy);
    if (!dy) return;
    if (a->head->softcap > 0) {
        lt_softcap_slope(dy, lt_data(x, node->out), a->head->softcap, n * d);
        lt_k_mul(lt_exec_team(x), dy, dy, lt_grad(x, node->out), (lt_real)a->scale, n * d);
    } else
        scale_rows(lt_exec_team(x), dy, lt_grad(x, node->out), a->scale, n, d);
    lt_linear_back(x, a->head, dx, true, dy, lt_data(x, node->in[0]), n, node->saved);
}

const lt_op lt_op_logits = { "logits", check_logits, forward_logits, backward_logits, logits_saved, true };

lt_var lt_logits(lt_exec *x, lt_var in, const lt_linear *head, double scale) {
    const logits_attr attr = { head, scale };
    lt_node node = lt_linear_node(head, in);
    node.attr = &attr;
    return lt_apply(x, &lt_op_logits, node, sizeof attr, lt_rows(x, in), lt_linear_out(head));
}

/* ---- head_nll ---- */

typedef struct nll_attr {
    const lt_linear *head;
    double scale;
    const int32_t *target;
    int32_t *argmax; /* or NULL */
} nll_attr;

/* what one token has seen of the vocabulary */
typedef struct token_sum {
    lt_online sum;
    double target; /* its logit */
    int32_t best;
    bool finite;
} token_sum;

/* an nll on its way through the tiles */
typedef struct nll_run {
    const nll_attr *a;
    token_sum *sum;    /* forward: [n] */
    const double *lse; /* backward: [n] */
    const lt_real *dy;
} nll_run;

static lt_status check_nll(const lt_exec *x, const lt_node *node, lt_err *err) {
    const nll_attr *a = node->attr;
    LT_TRY(lt_linear_check(x, node, a->head, err));
    const lt_stage *last = &a->head->stage[a->head->n_stages - 1];
    LT_REQUIRE(err, last->w.t.rank == 2, "head_nll: %s has rank %d", last->w.name, last->w.t.rank);
    const size_t vocab = lt_linear_out(a->head), n = lt_rows(x, node->in[0]);
    for (size_t i = 0; i < n; i++)
        if (a->target[i] < -1 || (a->target[i] >= 0 && (size_t)a->target[i] >= vocab))
            return lt_fail(err, LT_EDATA, "head_nll: target %d at row %zu is outside the vocabulary of %zu (%s)",
                           (int)a->target[i], i, vocab, a->head->name);
    return LT_OK;
}

static size_t nll_saved(const lt_exec *x, const lt_node *node) {
    return lt_rows(x, node->in[0]) * sizeof(double);
}

static void see_logits(const lt_team *team, token_sum *s, lt_real *l, lt_span span, int32_t target) {
    if (target >= 0 && (size_t)target >= span.o0 && (size_t)target < span.o0 + span.n)
        s->target = l[(size_t)target - span.o0];
    s->finite = s->finite && lt_k_all_finite(l, span.n);
    const lt_real m = lt_k_max(team, l, span.n);
    if (m > s->sum.m) {
        size_t v = 0;
        while (v + 1 < span.n && l[v] != m) v++;
        s->best = (int32_t)(span.o0 + v);
        s->sum.z *= exp(s->sum.m - m);
        s->sum.m = m;
    }
    s->sum.z += lt_k_exp_sum(team, l, l, 1, (lt_real)s->sum.m, span.n);
}

static void see_tile(lt_exec *x, const lt_head_tile *c, lt_span span, void *arg) {
    const nll_run *r = arg;
    lt_team *team = lt_exec_team(x);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, c->n *span.n))
    for (size_t i = 0; i < c->n; i++)
        see_logits(team, &r->sum[c->row + i], c->tile + i * span.n, span, r->a->target[c->row + i]);
}

static void forward_nll(lt_exec *x, const lt_node *node) {
    const nll_attr *a = node->attr;
    const size_t n = lt_rows(x, node->in[0]);
    lt_real *y = lt_data(x, node->out);
    double *saved = node->saved;
    lt_head_tile c = lt_head_tile_begin(x, a->head, a->scale, n);
    token_sum *sum = lt_exec_scratch(x, n * sizeof *sum);
    if (!sum) return;
    for (size_t i = 0; i < n; i++) sum[i] = (token_sum){ .sum = LT_ONLINE, .finite = true };
    lt_head_tiles(x, &c, lt_data(x, node->in[0]), n, see_tile, &(nll_run){ .a = a, .sum = sum });
    for (size_t i = 0; i < n; i++) {
        const double lse = sum[i].finite ? lt_online_log(sum[i].sum) : INFINITY;
        y[i] = a->target[i] < 0 ? 0 : (lt_real)(sum[i].finite ? lse - sum[i].target : INFINITY);
        if (saved) saved[i] = lse;
        if (a->argmax) a->argmax[i] = sum[i].best;
    }
}

/* logits -> their gradients, in place */
static void tile_gradient(lt_exec *x, const lt_head_tile *c, lt_span span, void *arg) {
    const nll_run *r = arg;
    lt_team *team = lt_exec_team(x);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, c->n *span.n))
    for (size_t i = 0; i < c->n; i++) {
        lt_real *l = c->tile + i * span.n;
        const int32_t target = r->a->target[c->row + i];
        const lt_real g = target < 0 ? 0 : (lt_real)(c->scale * r->dy[c->row + i]);
        if (g == 0) {
            memset(l, 0, span.n * sizeof *l);
            continue;
        }
        lt_k_exp_sum(team, l, l, 1, (lt_real)r->lse[c->row + i], span.n);
        lt_k_scale(team, l, l, g, span.n);
        if ((size_t)target >= span.o0 && (size_t)target < span.o0 + span.n) l[(size_t)target - span.o0] -= g;
    }
}

static void backward_nll(lt_exec *x, const lt_node *node) {
    const nll_attr *a = node->attr;
    const size_t n = lt_rows(x, node->in[0]);
    lt_real *dx = lt_needs_grad(x, node->in[0]) ? lt_grad(x, node->in[0]) : NULL;
    lt_head_tile c = lt_head_tile_begin(x, a->head, a->scale, n);
    const nll_run r = { .a = a, .lse = node->saved, .dy = lt_grad(x, node->out) };
    lt_head_tiles_back(x, &c, lt_data(x, node->in[0]), dx, n, tile_gradient, (void *)&r);
}

const lt_op lt_op_head_nll = { "head_nll", check_nll, forward_nll, backward_nll, nll_saved, false };

lt_var lt_head_nll(lt_exec *x, lt_var in, const lt_linear *head, double scale, const int32_t *target, int32_t *argmax) {
    const size_t n = lt_rows(x, in);
    int32_t *copy = lt_exec_scratch(x, n * sizeof *copy);
    if (!copy) return LT_NO_VAR;
    if (n > 0) memcpy(copy, target, n * sizeof *copy);
    const nll_attr attr = { head, scale, copy, argmax };
    lt_node node = lt_linear_node(head, in);
    node.attr = &attr;
    return lt_apply(x, &lt_op_head_nll, node, sizeof attr, n, 1);
}
