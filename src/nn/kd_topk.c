/* SPDX-License-Identifier: Apache-2.0 */
/* Distillation from cached top-K log-probabilities: K ids of the teacher at each token, K the set, b the bucket of v
 * (itself in K, the tail T outside), P_T and Q_T the tails' masses, ~ normalised over K.
 *   trunc    sum_K p~ (log p~ - log q)              q_v - p~_v [v in K]
 *   renorm   sum_K p~ (log p~ - log q~)             (q~_v - p~_v) [v in K]
 *   tail     sum_K p log(p/q) + P_T log(P_T/Q_T)    q_v - p_v;  q_v (1 - P_T/Q_T)
 *   reverse  sum_b q_b log(q_b/p_b) =: R            q_v (log(q_b/p_b) - R)
 * spec minitron 5.1. Q_T is summed over the tail itself, never 1 - Q. An empty tail (K = V) is no bucket. */
#include "nn/kd.h"

typedef struct topk_attr {
    const lt_linear *head;
    double scale;
    lt_kd_params p;
    lt_kd_topk t;
    const int32_t *target;
} topk_attr;

/* what backward needs of a token */
typedef struct topk_saved {
    double lse, ce;      /* log Z of q, of softmax(l) */
    double mine, theirs; /* log-sum-exp over K of the student's and the teacher's, both over tau */
    double tail;         /* slope factor of the tail: q_v times this */
    double mean;         /* R */
} topk_saved;

typedef struct topk_token {
    lt_online tail;
    lt_kd_ce ce;
    bool finite;
} topk_token;

typedef struct topk_run {
    const topk_attr *a;
    topk_token *token;
    lt_real *mine; /* [n, K] the student's logits over tau at the ids */
    topk_saved *saved;
    const lt_real *dy;
    double inv_tau;
} topk_run;

static const lt_real TAKEN = (lt_real)-1e30;         /* far below every finite logit that matters; its exp is 0 */
static const double LEAST_TAIL = -87.33654475055310; /* log of the least float: a tail that was rounded to nothing */

/* ---- checks ---- */

static lt_status check(const lt_exec *x, const lt_node *node, lt_err *err) {
    const topk_attr *a = node->attr;
    const size_t n = lt_rows(x, node->in[0]), vocab = lt_linear_out(a->head), k = a->t.k;
    LT_TRY(lt_linear_check(x, node, a->head, err));
    LT_REQUIRE(err, a->p.kind >= LT_KD_TRUNC && a->p.kind <= LT_KD_REVERSE_BUCKET,
               "head_kd_topk: kind %d needs a live teacher", (int)a->p.kind);
    LT_REQUIRE(err, k >= 1 && k <= vocab, "head_kd_topk: K is %zu, the vocabulary %zu", k, vocab);
    LT_REQUIRE(err, a->p.tau == 1 || a->p.kind <= LT_KD_RENORM, "head_kd_topk: a tail at tau %g is not known",
               a->p.tau);
    for (size_t i = 0; i < n * k; i++)
        if (a->t.ids[i] < 0 || (size_t)a->t.ids[i] >= vocab || !(a->t.logp[i] <= 0))
            return lt_fail(err, LT_EDATA, "head_kd_topk: id %d with log-probability %g at row %zu (vocabulary %zu)",
                           (int)a->t.ids[i], (double)a->t.logp[i], i / k, vocab);
    return lt_kd_check("head_kd_topk", &a->p, a->target, n, vocab, err);
}

static size_t saved_bytes(const lt_exec *x, const lt_node *node) {
    return lt_rows(x, node->in[0]) * sizeof(topk_saved);
}

/* ---- forward ---- */

/* What the tile holds of K goes to mine and out of l; the rest is the tail. */
static void see_token(const lt_team *team, const topk_run *r, size_t row, lt_real *l, lt_span span) {
    lt_real e[LT_HEAD_VOCAB];
    topk_token *k = &r->token[row];
    const size_t K = r->a->t.k;
    k->finite = k->finite && lt_k_all_finite(l, span.n);
    if (!k->finite) return;
    if (r->a->p.alpha_ce > 0) lt_kd_ce_see(team, &k->ce, e, l, span, r->a->target[row]);
    for (size_t j = row * K; j < (row + 1) * K; j++) {
        const size_t v = (size_t)r->a->t.ids[j] - span.o0;
        if ((size_t)r->a->t.ids[j] < span.o0 || v >= span.n) continue;
        r->mine[j] = (lt_real)((double)l[v] * r->inv_tau);
        l[v] = TAKEN;
    }
    if (lt_k_max(team, l, span.n) > TAKEN) lt_kd_online(team, &k->tail, e, l, r->inv_tau, span.n);
}

static void see_tile(lt_exec *x, const lt_head_tile *c, lt_span span, void *arg) {
    const topk_run *r = arg;
    lt_team *team = lt_exec_team(x);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, c->n *span.n))
    for (size_t i = 0; i < c->n; i++) see_token(team, r, c->row + i, c->tile + i * span.n, span);
}

static double log_sum(const lt_real *l, double scale, size_t n) {
    double m = -INFINITY, z = 0;
    for (size_t i = 0; i < n; i++) m = fmax(m, (double)l[i] * scale);
    for (size_t i = 0; i < n; i++) z += exp((double)l[i] * scale - m);
    return m + log(z);
}

/* The tail's term; *factor: what q_v of the tail is multiplied by in the gradient, before R. */
static double tail_term(const topk_attr *a, size_t row, double lq, double *factor) {
    double lp = a->t.tail_logp ? (double)a->t.tail_logp[row] : -INFINITY;
    *factor = a->p.kind == LT_KD_RENORM ? 0 : 1;
    if (a->p.kind <= LT_KD_RENORM || lq == -INFINITY) return 0;
    if (a->p.kind == LT_KD_TAIL) {
        *factor = 1 - exp(lp - lq);
        return lp > -INFINITY ? exp(lp) * (lp - lq) : 0;
    }
    lp = fmax(lp, LEAST_TAIL);
    *factor = lq - lp;
    return exp(lq) * (lq - lp);
}

/* Log-probabilities of entry j of K, the teacher's and the student's, as its loss takes them. */
typedef struct pair {
    double p, q;
} pair;
static pair pair_at(const topk_run *r, const topk_saved *s, size_t j, double mine) {
    const bool normal = r->a->p.kind <= LT_KD_RENORM;
    return (pair){ (double)r->a->t.logp[j] * r->inv_tau - (normal ? s->theirs : 0),
                   mine - (r->a->p.kind == LT_KD_RENORM ? s->mine : s->lse) };
}

static double loss_of(const topk_run *r, size_t row, topk_saved *s) {
    const topk_attr *a = r->a;
    const size_t K = a->t.k;
    const double tail = lt_online_log(r->token[row].tail);
    s->mine = log_sum(r->mine + row * K, 1, K);
    s->theirs = log_sum(a->t.logp + row * K, r->inv_tau, K);
    s->lse = fmax(tail, s->mine) + log1p(exp(-fabs(tail - s->mine)));
    double loss = tail_term(a, row, tail - s->lse, &s->tail);
    for (size_t j = row * K; j < (row + 1) * K; j++) {
        const pair b = pair_at(r, s, j, (double)r->mine[j]);
        if (a->p.kind == LT_KD_REVERSE_BUCKET)
            loss += exp(b.q) * (b.q - b.p);
        else if (b.p > -INFINITY)
            loss += exp(b.p) * (b.p - b.q);
    }
    s->mean = a->p.kind == LT_KD_REVERSE_BUCKET ? loss : 0;
    s->ce = lt_online_log(r->token[row].ce.sum);
    return loss;
}

static void forward(lt_exec *x, const lt_node *node) {
    const topk_attr *a = node->attr;
    const size_t n = lt_rows(x, node->in[0]);
    lt_real *y = lt_data(x, node->out);
    topk_run r = { .a = a, .saved = node->saved, .inv_tau = 1.0 / a->p.tau };
    lt_head_tile c = lt_head_tile_begin(x, a->head, a->scale, n);
    r.token = lt_exec_scratch(x, n * sizeof *r.token);
    r.mine = lt_exec_scratch(x, n * a->t.k * sizeof *r.mine);
    if (!r.token || !r.mine) return;
    for (size_t i = 0; i < n; i++) r.token[i] = (topk_token){ .tail = LT_ONLINE, .ce.sum = LT_ONLINE, .finite = true };
    lt_head_tiles(x, &c, lt_data(x, node->in[0]), n, see_tile, &r);
    for (size_t i = 0; i < n; i++) {
        topk_saved s = { 0 };
        const double kd = r.token[i].finite ? loss_of(&r, i, &s) : INFINITY;
        y[i] = a->target[i] < 0 ? 0 : (lt_real)(r.token[i].finite ? lt_kd_mix(&a->p, kd, &r.token[i].ce) : INFINITY);
        if (r.saved) r.saved[i] = s;
    }
}

/* ---- backward ---- */

static double slope_of(const topk_run *r, const topk_saved *s, pair b) {
    switch (r->a->p.kind) {
    case LT_KD_REVERSE_BUCKET:
        return exp(b.q) * (b.q - b.p - s->mean);
    default:
        return exp(b.q) - exp(b.p);
    }
}

static void token_gradient(const lt_team *team, const topk_run *r, const lt_head_tile *c, lt_span span, size_t i) {
    const topk_attr *a = r->a;
    const size_t row = c->row + i, K = a->t.k;
    const topk_saved *s = &r->saved[row];
    lt_real *l = c->tile + i * span.n, dl[LT_HEAD_VOCAB];
    const double dy = a->target[row] < 0 ? 0 : c->scale * (double)r->dy[row], g = dy * lt_kd_factor(&a->p) * r->inv_tau;
    if (dy == 0) {
        memset(l, 0, span.n * sizeof *l);
        return;
    }
    lt_k_exp_sum(team, dl, l, (lt_real)r->inv_tau, (lt_real)s->lse, span.n);
    lt_k_scale(team, dl, dl, (lt_real)(g * (s->tail - s->mean)), span.n);
    for (size_t j = row * K; j < (row + 1) * K; j++) {
        const size_t v = (size_t)a->t.ids[j] - span.o0;
        if ((size_t)a->t.ids[j] < span.o0 || v >= span.n) continue;
        dl[v] = (lt_real)(g * slope_of(r, s, pair_at(r, s, j, (double)l[v] * r->inv_tau)));
    }
    if (a->p.alpha_ce > 0) lt_kd_ce_back(team, dl, l, span, a->target[row], s->ce, dy * a->p.alpha_ce);
    memcpy(l, dl, span.n * sizeof *l);
}

static void tile_gradient(lt_exec *x, const lt_head_tile *c, lt_span span, void *arg) {
    const topk_run *r = arg;
    const lt_team *team = lt_exec_team(x);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, c->n *span.n))
    for (size_t i = 0; i < c->n; i++) token_gradient(team, r, c, span, i);
}

static void backward(lt_exec *x, const lt_node *node) {
    const topk_attr *a = node->attr;
    const size_t n = lt_rows(x, node->in[0]);
    lt_real *dx = lt_needs_grad(x, node->in[0]) ? lt_grad(x, node->in[0]) : NULL;
    lt_head_tile c = lt_head_tile_begin(x, a->head, a->scale, n);
    topk_run r = { .a = a, .saved = node->saved, .dy = lt_grad(x, node->out), .inv_tau = 1.0 / a->p.tau };
    lt_head_tiles_back(x, &c, lt_data(x, node->in[0]), dx, n, tile_gradient, &r);
}

const lt_op lt_op_head_kd_topk = { "head_kd_topk", check, forward, backward, saved_bytes, false };

static void *copy_of(lt_exec *x, const void *from, size_t bytes) {
    void *copy = from ? lt_exec_scratch(x, bytes) : NULL;
    if (copy && bytes) memcpy(copy, from, bytes);
    return copy;
}

lt_var lt_head_kd_topk(lt_exec *x, lt_var in, const lt_linear *head, double scale, const lt_kd_topk *t,
                       const int32_t *target, const lt_kd_params *p) {
    const size_t n = lt_rows(x, in);
    const topk_attr attr = { .head = head,
                             .scale = scale,
                             .p = *p,
                             .t = { .k = t->k,
                                    .ids = copy_of(x, t->ids, n * t->k * sizeof *t->ids),
                                    .logp = copy_of(x, t->logp, n * t->k * sizeof *t->logp),
                                    .tail_logp = copy_of(x, t->tail_logp, n * sizeof *t->tail_logp) },
                             .target = copy_of(x, target, n * sizeof *target) };
    if (!attr.t.ids || !attr.t.logp || !attr.target) return LT_NO_VAR;
    lt_node node = lt_linear_node(head, in);
    node.attr = &attr;
    return lt_apply(x, &lt_op_head_kd_topk, node, sizeof attr, n, 1);
}
