/* SPDX-License-Identifier: Apache-2.0 */
/* y = f(g) u and y = f(x), f a row of the table below:
 *   silu       x s(x)                        s the logistic function
 *   gelu       x/2 (1 + erf(x / sqrt 2))     Hendrycks & Gimpel 2016
 *   gelu_tanh  x s(2 k (x + 0.044715 x³)), k = sqrt(2 / pi): the same as x/2 (1 + tanh(k ...)), without its
 * cancellation relu       max(x, 0) Work goes in blocks that stay in the first cache. */
#include "nn/op.h"

enum { BLOCK = 512 };
#define SQRT_HALF 0.70710678118654752440
#define TWO_K 1.59576912160573071176 /* 2 sqrt(2 / pi) */
#define CUBIC 0.044715

typedef struct act_row { /* outputs do not overlap x */
    const char *name;
    void (*value)(const lt_team *, lt_real *y, const lt_real *x, size_t n);
    void (*slope)(const lt_team *, lt_real *d, const lt_real *x, size_t n);
} act_row;
typedef struct act_attr {
    lt_act act;
} act_attr;

/* s(x) = 1 / (1 + exp(-x)); the argument of exp kept where exp is finite and normal */
static void logistic(const lt_team *team, lt_real *s, const lt_real *x, size_t n) {
    const lt_real far = 87;
    for (size_t i = 0; i < n; i++) s[i] = -x[i] > far ? far : -x[i] < -far ? -far : -x[i];
    lt_k_exp(team, s, s, n);
    for (size_t i = 0; i < n; i++) s[i] = (lt_real)1 / ((lt_real)1 + s[i]);
}

static void silu_value(const lt_team *team, lt_real *y, const lt_real *x, size_t n) {
    lt_k_silu_mul(team, y, x, NULL, n);
}

static void silu_slope(const lt_team *team, lt_real *d, const lt_real *x, size_t n) {
    logistic(team, d, x, n);
    for (size_t i = 0; i < n; i++) d[i] *= (lt_real)1 + x[i] * ((lt_real)1 - d[i]);
}

static void gelu_value(const lt_team *team, lt_real *y, const lt_real *x, size_t n) {
    (void)team;
    for (size_t i = 0; i < n; i++) y[i] = (lt_real)(0.5 * x[i] * erfc(-x[i] * SQRT_HALF));
}

static void gelu_slope(const lt_team *team, lt_real *d, const lt_real *x, size_t n) {
    (void)team;
    for (size_t i = 0; i < n; i++) {
        const double v = x[i], density = 0.39894228040143267794 * exp(-0.5 * v * v); /* 1 / sqrt(2 pi) */
        d[i] = (lt_real)(0.5 * erfc(-v * SQRT_HALF) + v * density);
    }
}

static void gelu_tanh_value(const lt_team *team, lt_real *y, const lt_real *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = (lt_real)TWO_K * (x[i] + (lt_real)CUBIC * x[i] * x[i] * x[i]);
    logistic(team, y, y, n);
    for (size_t i = 0; i < n; i++) y[i] *= x[i];
}

static void gelu_tanh_slope(const lt_team *team, lt_real *d, const lt_real *x, size_t n) {
    for (size_t i = 0; i < n; i++) d[i] = (lt_real)TWO_K * (x[i] + (lt_real)CUBIC * x[i] * x[i] * x[i]);
    logistic(team, d, d, n);
    for (size_t i = 0; i < n; i++) {
        const lt_real inner = (lt_real)TWO_K * ((lt_real)1 + (lt_real)(3 * CUBIC) * x[i] * x[i]);
        d[i] *= (lt_real)1 + x[i] * ((lt_real)1 - d[i]) * inner;
    }
}

static void relu_value(const lt_team *team, lt_real *y, const lt_real *x, size_t n) {
    (void)team;
    for (size_t i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : 0;
}

static void relu_slope(const lt_team *team, lt_real *d, const lt_real *x, size_t n) {
    (void)team;
    for (size_t i = 0; i < n; i++) d[i] = x[i] > 0 ? 1 : 0;
}

static const act_row acts[LT_N_ACTS] = {
    [LT_ACT_SILU] = { "silu", silu_value, silu_slope },
    [LT_ACT_GELU] = { "gelu", gelu_value, gelu_slope },
    [LT_ACT_GELU_TANH] = { "gelu_tanh", gelu_tanh_value, gelu_tanh_slope },
    [LT_ACT_RELU] = { "relu", relu_value, relu_slope },
};

const char *lt_act_name(lt_act a) {
    return (size_t)a < LT_N_ACTS ? acts[a].name : "?";
}

static lt_status check_act(const lt_node *node, lt_err *err) {
    const act_attr *a = node->attr;
    LT_REQUIRE(err, (size_t)a->act < LT_N_ACTS, "%s: activation %d", node->op->name, (int)a->act);
    return LT_OK;
}

static size_t n_blocks(size_t n) {
    return (n + BLOCK - 1) / BLOCK;
}

/* d = part dy, or added to it; part is lost */
static void take_gradient(const lt_team *team, lt_real *d, bool add, lt_real *part, const lt_real *dy, size_t n) {
    lt_k_mul(team, add ? part : d, part, dy, 1, n);
    if (add) lt_k_add(team, d, d, part, n);
}

/* ---- f(x) ---- */

static lt_status check_activate(const lt_exec *x, const lt_node *node, lt_err *err) {
    (void)x;
    return check_act(node, err);
}

/* one pass over values: f(x), or f(x) u */
typedef struct act_pass {
    const lt_team *team;
    lt_act act;
    lt_real *y;
    const lt_real *x, *u;
    size_t n;
} act_pass;

static void activate_block(void *arg, size_t b) {
    const act_pass *p = arg;
    const size_t i = b * BLOCK;
    acts[p->act].value(p->team, p->y + i, p->x + i, lt_min_size(BLOCK, p->n - i));
}

static void forward_activate(lt_exec *x, const lt_node *node) {
    lt_team *team = lt_exec_team(x);
    const size_t n = lt_rows(x, node->out) * lt_cols(x, node->out);
    act_pass p = { team, ((const act_attr *)node->attr)->act, lt_data(x, node->out), lt_data(x, node->in[0]), NULL, n };
    lt_op_run(team, n_blocks(n), n, activate_block, &p);
}

static void backward_activate(lt_exec *x, const lt_node *node) {
    const act_row *f = &acts[((const act_attr *)node->attr)->act];
    lt_team *team = lt_exec_team(x);
    const size_t n = lt_rows(x, node->out) * lt_cols(x, node->out);
    const lt_real *in = lt_data(x, node->in[0]), *dy = lt_grad(x, node->out);
    bool add;
    lt_real *dx = lt_grad_add(x, node->in[0], &add);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n))
    for (size_t b = 0; b < n_blocks(n); b++) {
        lt_real slope[BLOCK];
        const size_t i0 = b * BLOCK, m = lt_min_size(BLOCK, n - i0);
        f->slope(team, slope, in + i0, m);
        take_gradient(team, dx + i0, add, slope, dy + i0, m);
    }
}

const lt_op lt_op_activate = { "activate", check_activate, forward_activate, backward_activate, NULL, false };

lt_var lt_activate(lt_exec *x, lt_var in, lt_act act) {
    const act_attr attr = { act };
    return lt_apply(x, &lt_op_activate, (lt_node){ .in = { in }, .attr = &attr }, sizeof attr, lt_rows(x, in),
                    lt_cols(x, in));
}

/* ---- f(gate) up ---- */

static lt_status check_gated(const lt_exec *x, const lt_node *node, lt_err *err) {
    LT_TRY(check_act(node, err));
    return lt_op_check_shape(x, node, 1, lt_rows(x, node->in[0]), lt_cols(x, node->in[0]), err);
}

static void gated_block(void *arg, size_t b) {
    const act_pass *p = arg;
    const size_t i = b * BLOCK, n = lt_min_size(BLOCK, p->n - i);
    if (p->act == LT_ACT_SILU) { /* the one with a kernel of its own */
        lt_k_silu_mul(p->team, p->y + i, p->x + i, p->u + i, n);
        return;
    }
    acts[p->act].value(p->team, p->y + i, p->x + i, n);
    lt_k_mul(p->team, p->y + i, p->y + i, p->u + i, 1, n);
}

static void forward_gated(lt_exec *x, const lt_node *node) {
    lt_team *team = lt_exec_team(x);
    const size_t n = lt_rows(x, node->out) * lt_cols(x, node->out);
    act_pass p = { team,
                   ((const act_attr *)node->attr)->act,
                   lt_data(x, node->out),
                   lt_data(x, node->in[0]),
                   lt_data(x, node->in[1]),
                   n };
    lt_op_run(team, n_blocks(n), n, gated_block, &p);
}

/* the gradients of one block */
typedef struct gated_grads {
    lt_real *dg, *du; /* NULL: not wanted */
    bool add_g, add_u;
} gated_grads;

static void gated_block_back(const lt_team *team, lt_act act, gated_grads to, const lt_real *dy, const lt_real *g,
                             const lt_real *u, size_t n) {
    lt_real part[BLOCK];
    if (act == LT_ACT_SILU && to.dg && to.du && !to.add_g && !to.add_u) {
        lt_k_silu_back(team, to.dg, to.du, dy, g, u, n);
        return;
    }
    if (to.du) {
        acts[act].value(team, part, g, n);
        take_gradient(team, to.du, to.add_u, part, dy, n);
    }
    if (to.dg) {
        acts[act].slope(team, part, g, n);
        lt_k_mul(team, part, part, u, 1, n);
        take_gradient(team, to.dg, to.add_g, part, dy, n);
    }
}

static void backward_gated(lt_exec *x, const lt_node *node) {
    const lt_act act = ((const act_attr *)node->attr)->act;
    lt_team *team = lt_exec_team(x);
    const size_t n = lt_rows(x, node->out) * lt_cols(x, node->out);
    const lt_real *g = lt_data(x, node->in[0]), *u = lt_data(x, node->in[1]), *dy = lt_grad(x, node->out);
    gated_grads to = { 0 };
    if (lt_needs_grad(x, node->in[0])) to.dg = lt_grad_add(x, node->in[0], &to.add_g);
    if (lt_needs_grad(x, node->in[1])) to.du = lt_grad_add(x, node->in[1], &to.add_u);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n))
    for (size_t b = 0; b < n_blocks(n); b++) {
        const size_t i = b * BLOCK;
        const gated_grads at = { to.dg ? to.dg + i : NULL, to.du ? to.du + i : NULL, to.add_g, to.add_u };
        gated_block_back(team, act, at, dy + i, g + i, u + i, lt_min_size(BLOCK, n - i));
    }
}

const lt_op lt_op_gated = { "gated", check_gated, forward_gated, backward_gated, NULL, false };

lt_var lt_gated(lt_exec *x, lt_var gate, lt_var up, lt_act act) {
    const act_attr attr = { act };
    return lt_apply(x, &lt_op_gated, (lt_node){ .in = { gate, up }, .attr = &attr }, sizeof attr, lt_rows(x, gate),
                    lt_cols(x, gate));
}
