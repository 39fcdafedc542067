/* SPDX-License-Identifier: Apache-2.0 */
/* Over runs of g columns (the whole row, or one head):
 *   rms    y = w x r,            r = 1 / sqrt(mean x² + eps); plus1: 1 + w for w
 *   layer  y = w (x - mu) r + b, r = 1 / sqrt(var x + eps)
 * With u = x r (or (x - mu) r) and e = dy w:  dx = r (e - u mean(e u) [- mean e]),  dw = sum dy u,  db = sum dy.
 * Zhang & Sennrich 2019; Ba, Kiros & Hinton 2016. Sums in f64. */
#include "nn/op.h"

typedef struct norm_attr {
    lt_norm_kind kind;
    double eps;
    size_t group;
} norm_attr;
/* mean (0 for rms) and r of one run */
typedef struct run_stats {
    double mean, r;
} run_stats;

static lt_status check(const lt_exec *x, const lt_node *node, lt_err *err) {
    const norm_attr *a = node->attr;
    const size_t d = lt_cols(x, node->in[0]);
    LT_REQUIRE(err, a->group > 0 && d % a->group == 0, "norm: %zu columns in groups of %zu (%s)", d, a->group,
               node->param[0]->name);
    LT_TRY(lt_op_check_vector(node, 0, a->group, err));
    return lt_op_check_vector(node, 1, a->group, err);
}

static double mean_of(const lt_real *x, size_t n) {
    double sum[4] = { 0 };
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int j = 0; j < 4; j++) sum[j] += x[i + (size_t)j];
    for (; i < n; i++) sum[0] += x[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) / (double)n;
}

static double variance_of(const lt_real *x, double mean, size_t n) {
    double sum[4] = { 0 };
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int j = 0; j < 4; j++) sum[j] += (x[i + (size_t)j] - mean) * (x[i + (size_t)j] - mean);
    for (; i < n; i++) sum[0] += (x[i] - mean) * (x[i] - mean);
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) / (double)n;
}

static run_stats stats_of(const lt_team *team, const norm_attr *a, const lt_real *x) {
    const size_t g = a->group;
    run_stats s = { 0 };
    if (a->kind == LT_NORM_LAYER) s.mean = mean_of(x, g);
    const double power = a->kind == LT_NORM_LAYER ? variance_of(x, s.mean, g) : lt_k_sumsq(team, x, g) / (double)g;
    s.r = 1.0 / sqrt(power + a->eps);
    return s;
}

/* w widened, with plus1 folded in */
static lt_real *gain_of(lt_exec *x, const lt_node *node) {
    const norm_attr *a = node->attr;
    lt_real *w = lt_op_vector(x, node->param[0]);
    if (w && a->kind == LT_NORM_RMS_PLUS1)
        for (size_t c = 0; c < a->group; c++) w[c] += (lt_real)1;
    return w;
}

static void norm_run(const lt_team *team, const norm_attr *a, lt_real *y, const lt_real *x, const lt_real *w,
                     const lt_real *b) {
    const run_stats s = stats_of(team, a, x);
    if (a->kind == LT_NORM_LAYER) {
        for (size_t c = 0; c < a->group; c++) y[c] = x[c] - (lt_real)s.mean;
        x = y;
    }
    lt_k_mul(team, y, x, w, (lt_real)s.r, a->group);
    if (b) lt_k_add(team, y, y, b, a->group);
}

/* the rows of a forward pass */
typedef struct norm_rows {
    const lt_team *team;
    const norm_attr *a;
    lt_real *y;
    const lt_real *x, *w, *b;
    size_t d;
} norm_rows;

static void norm_row(void *arg, size_t i) {
    const norm_rows *r = arg;
    for (size_t c = i * r->d; c < (i + 1) * r->d; c += r->a->group)
        norm_run(r->team, r->a, r->y + c, r->x + c, r->w, r->b);
}

static void forward(lt_exec *x, const lt_node *node) {
    lt_team *team = lt_exec_team(x);
    const size_t n = lt_rows(x, node->out), d = lt_cols(x, node->out);
    const lt_real *w = gain_of(x, node), *b = node->param[1] ? lt_op_vector(x, node->param[1]) : NULL;
    norm_rows r = { team, node->attr, lt_data(x, node->out), lt_data(x, node->in[0]), w, b, d };
    if (r.y && w) lt_op_run(team, n, n * d, norm_row, &r);
}

/* r (e - u mean(e u) - mean e) with e = dy w, u = (x - mu) r, as a e + b (x - mu) + c */
static void input_gradient(const lt_team *team, const norm_attr *a, lt_real *dx, bool add, const lt_real *dy,
                           const lt_real *x, const lt_real *w, run_stats s) {
    const size_t g = a->group;
    const bool layer = a->kind == LT_NORM_LAYER;
    const double e = layer ? lt_k_dot3(team, dy, w, NULL, g) : 0.0,
                 eu = (lt_k_dot3(team, dy, w, x, g) - s.mean * e) * s.r / (double)g;
    const lt_real abc[] = { (lt_real)s.r, (lt_real)(-s.r * s.r * eu), (lt_real)(-s.r * e / (double)g) };
    lt_k_norm_back(team, dx, dy, w, x, abc, (lt_real)s.mean, add, g);
}

/* dw[c] += sum over rows and runs of dy u: a tile of columns has one owner */
static void gain_gradient(lt_team *team, const norm_attr *a, lt_real *dw, const lt_real *dy, const lt_real *x,
                          const run_stats *stats, size_t runs) {
    const size_t g = a->group, tiles = (g + LT_OP_COLS - 1) / LT_OP_COLS;
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, runs *g))
    for (size_t t = 0; t < tiles; t++) {
        const size_t c0 = t * LT_OP_COLS, n = lt_min_size(LT_OP_COLS, g - c0);
        double sum[LT_OP_COLS] = { 0 };
        for (size_t i = 0; i < runs; i++)
            for (size_t c = 0; c < n; c++)
                sum[c] += dy[i * g + c0 + c] * ((x[i * g + c0 + c] - stats[i].mean) * stats[i].r);
        for (size_t c = 0; c < n; c++) dw[c0 + c] += (lt_real)sum[c];
    }
}

/* Runs lie one after another: [n, d] is [n d / g, g]. */
static void backward(lt_exec *x, const lt_node *node) {
    const norm_attr *a = node->attr;
    lt_team *team = lt_exec_team(x);
    const size_t g = a->group, runs = lt_rows(x, node->out) * lt_cols(x, node->out) / g;
    const lt_real *w = gain_of(x, node), *in = lt_data(x, node->in[0]), *dy = lt_grad(x, node->out);
    bool add = true;
    lt_real *dx = lt_needs_grad(x, node->in[0]) ? lt_grad_add(x, node->in[0], &add) : NULL;
    run_stats *stats = lt_exec_scratch(x, runs * sizeof *stats);
    if (!stats) return;
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, runs *g))
    for (size_t i = 0; i < runs; i++) {
        stats[i] = stats_of(team, a, in + i * g);
        if (dx) input_gradient(team, a, dx + i * g, add, dy + i * g, in + i * g, w, stats[i]);
    }
    if (lt_param_trainable(node->param[0])) gain_gradient(team, a, node->param[0]->grad, dy, in, stats, runs);
    if (lt_param_trainable(node->param[1])) lt_op_add_column_sums(team, node->param[1]->grad, dy, g, runs, g);
}

const lt_op lt_op_norm = { "norm", check, forward, backward, NULL, false };

lt_var lt_norm(lt_exec *x, lt_var in, const lt_norm_params *p, size_t group) {
    const norm_attr attr = { p->kind, p->eps, group > 0 ? group : lt_cols(x, in) };
    const lt_node node = { .in = { in },
                           .param = { (lt_param *)&p->w, p->b.name ? (lt_param *)&p->b : NULL },
                           .attr = &attr };
    return lt_apply(x, &lt_op_norm, node, sizeof attr, lt_rows(x, in), lt_cols(x, in));
}
