/* SPDX-License-Identifier: Apache-2.0 */
/* Distillation from a live teacher. p, q: teacher and student, softmax of logits / tau; z: student logits / tau.
 *   forward  L = sum p log(p/q)                    dL/dz_v = q_v - p_v
 *   reverse  L = sum q log(q/p)                    dL/dz_v = q_v (log(q_v/p_v) - L)
 *   jsd      L = b KL(p|m) + (1-b) KL(q|m)         dL/dz_v = (1-b) q_v (log(q_v/m_v) - KL(q|m)),  m = b p + (1-b) q
 * Hinton et al. 2015; generalised JSD: Agarwal et al. 2024. Both heads run tile by tile. Forward and reverse are one
 * pass: with the online sum A of p (t - s), KL(p|q) = A - log Z_t + log Z_s. jsd is two: m needs both Z first. */
#include "nn/kd.h"

typedef struct kd_attr {
    const lt_linear *head, *teacher;
    double scale, teacher_scale;
    lt_kd_params p;
    const int32_t *target;
} kd_attr;

/* what backward needs of a token */
typedef struct kd_saved {
    double lse, teacher, ce, mean; /* log Z of q, of p, of softmax(l); L (reverse) or KL(q|m) (jsd) */
} kd_saved;

typedef struct kd_token {
    lt_online s, t;
    lt_kd_ce ce;
    double cross;  /* sum of exp(. - m) (difference of logits), of the side that weighs */
    double pm, qm; /* jsd: KL(p|m), KL(q|m) */
    bool finite;
} kd_token;

typedef struct kd_run {
    const kd_attr *a;
    lt_head_tile teacher;
    const lt_real *teacher_in, *dy;
    kd_token *token;
    kd_saved *saved;
    double inv_tau;
} kd_run;

/* ---- shared ---- */

double lt_kd_online(const lt_team *team, lt_online *s, lt_real *e, const lt_real *l, double inv_tau, size_t n) {
    const double m = (double)lt_k_max(team, l, n) * inv_tau;
    double shrink = 1;
    if (m > s->m) {
        shrink = s->z > 0 ? exp(s->m - m) : 0;
        s->z *= shrink;
        s->m = (double)(lt_real)m; /* as the kernel will take it away */
    }
    s->z += lt_k_exp_sum(team, e, l, (lt_real)inv_tau, (lt_real)s->m, n);
    return shrink;
}

void lt_kd_ce_see(const lt_team *team, lt_kd_ce *c, lt_real *e, const lt_real *l, lt_span span, int32_t target) {
    if (target >= 0 && (size_t)target >= span.o0 && (size_t)target < span.o0 + span.n)
        c->target = l[(size_t)target - span.o0];
    lt_kd_online(team, &c->sum, e, l, 1, span.n);
}

void lt_kd_ce_back(const lt_team *team, lt_real *dl, lt_real *l, lt_span span, int32_t target, double lse, double g) {
    lt_k_exp_sum(team, l, l, 1, (lt_real)lse, span.n);
    for (size_t v = 0; v < span.n; v++) dl[v] += (lt_real)g * l[v];
    if ((size_t)target >= span.o0 && (size_t)target < span.o0 + span.n) dl[(size_t)target - span.o0] -= (lt_real)g;
}

lt_status lt_kd_check(const char *op, const lt_kd_params *p, const int32_t *target, size_t n, size_t vocab,
                      lt_err *err) {
    LT_REQUIRE(err, p->tau > 0 && isfinite(p->tau), "%s: tau %g", op, p->tau);
    LT_REQUIRE(err, p->alpha_ce >= 0 && p->alpha_ce <= 1, "%s: alpha_ce %g is outside [0, 1]", op, p->alpha_ce);
    LT_REQUIRE(err, p->beta >= 0 && p->beta <= 1, "%s: beta %g is outside [0, 1]", op, p->beta);
    for (size_t i = 0; i < n; i++)
        if (target[i] < -1 || (target[i] >= 0 && (size_t)target[i] >= vocab))
            return lt_fail(err, LT_EDATA, "%s: target %d at row %zu is outside the vocabulary of %zu", op,
                           (int)target[i], i, vocab);
    return LT_OK;
}

/* ---- checks ---- */

static lt_status check(const lt_exec *x, const lt_node *node, lt_err *err) {
    const kd_attr *a = node->attr;
    const size_t n = lt_rows(x, node->in[0]), vocab = lt_linear_out(a->head);
    const lt_node teacher = { .in = { node->in[1] } };
    LT_TRY(lt_linear_check(x, node, a->head, err));
    LT_TRY(lt_linear_check(x, &teacher, a->teacher, err));
    LT_REQUIRE(err, a->p.kind <= LT_KD_JSD, "head_kd: kind %d needs cached logits", (int)a->p.kind);
    LT_REQUIRE(err, lt_rows(x, node->in[1]) == n, "head_kd: %zu rows of the teacher for %zu", lt_rows(x, node->in[1]),
               n);
    LT_REQUIRE(err, lt_linear_out(a->teacher) == vocab, "head_kd: vocabularies differ: %s %zu, %s %zu",
               a->teacher->name, lt_linear_out(a->teacher), a->head->name, vocab);
    return lt_kd_check("head_kd", &a->p, a->target, n, vocab, err);
}

static size_t saved_bytes(const lt_exec *x, const lt_node *node) {
    return lt_rows(x, node->in[0]) * sizeof(kd_saved);
}

/* ---- forward ---- */

/* The teacher's logits of the same tile. */
static void fill_teacher(lt_exec *x, kd_run *r, const lt_head_tile *c, lt_span span) {
    if (span.o0 == 0) lt_head_tile_rows(x, &r->teacher, r->teacher_in, c->row, c->n);
    lt_head_tile_fill(x, &r->teacher, span);
}

static void see_token(const lt_team *team, const kd_run *r, kd_token *k, const lt_real *s, const lt_real *t,
                      lt_span span, int32_t target) {
    lt_real e[LT_HEAD_VOCAB];
    const bool reverse = r->a->p.kind == LT_KD_REVERSE;
    k->finite = k->finite && lt_k_all_finite(s, span.n) && lt_k_all_finite(t, span.n);
    if (!k->finite) return;
    if (r->a->p.alpha_ce > 0) lt_kd_ce_see(team, &k->ce, e, s, span, target);
    lt_kd_online(team, reverse ? &k->t : &k->s, e, reverse ? t : s, r->inv_tau, span.n);
    k->cross *= lt_kd_online(team, reverse ? &k->s : &k->t, e, reverse ? s : t, r->inv_tau, span.n);
    double cross = 0;
    for (size_t v = 0; v < span.n; v++) cross += (double)e[v] * ((double)t[v] - (double)s[v]);
    k->cross += cross * r->inv_tau;
}

static void see_tile(lt_exec *x, const lt_head_tile *c, lt_span span, void *arg) {
    kd_run *r = arg;
    lt_team *team = lt_exec_team(x);
    fill_teacher(x, r, c, span);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, c->n *span.n))
    for (size_t i = 0; i < c->n; i++)
        see_token(team, r, &r->token[c->row + i], c->tile + i * span.n, r->teacher.tile + i * span.n, span,
                  r->a->target[c->row + i]);
}

/* log m_v from log p and log q */
static double log_mean(double lp, double lq, double beta) {
    const double top = fmax(lp, lq);
    return top + log(beta * exp(lp - top) + (1 - beta) * exp(lq - top));
}

static void see_mean(lt_exec *x, const lt_head_tile *c, lt_span span, void *arg) {
    kd_run *r = arg;
    lt_team *team = lt_exec_team(x);
    fill_teacher(x, r, c, span);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, c->n *span.n))
    for (size_t i = 0; i < c->n; i++) {
        kd_token *k = &r->token[c->row + i];
        const double zs = lt_online_log(k->s), zt = lt_online_log(k->t);
        for (size_t v = i * span.n; v < (i + 1) * span.n; v++) {
            const double lq = (double)c->tile[v] * r->inv_tau - zs, lp = (double)r->teacher.tile[v] * r->inv_tau - zt;
            const double lm = log_mean(lp, lq, r->a->p.beta);
            k->pm += exp(lp) * (lp - lm);
            k->qm += exp(lq) * (lq - lm);
        }
    }
}

/* The loss of one token; *mean: what backward subtracts. */
static double loss_of(const kd_attr *a, const kd_token *k, double zs, double zt, double *mean) {
    switch (a->p.kind) {
    case LT_KD_REVERSE:
        return *mean = -k->cross / k->s.z - zs + zt;
    case LT_KD_JSD:
        *mean = k->qm;
        return a->p.beta * k->pm + (1 - a->p.beta) * k->qm;
    default:
        *mean = 0;
        return k->cross / k->t.z - zt + zs;
    }
}

static void finish(const kd_attr *a, const kd_token *k, int32_t target, lt_real *y, kd_saved *saved) {
    const double zs = lt_online_log(k->s), zt = lt_online_log(k->t);
    double mean = 0;
    const double kd = k->finite ? loss_of(a, k, zs, zt, &mean) : INFINITY;
    *y = target < 0 ? 0 : (lt_real)(k->finite ? lt_kd_mix(&a->p, kd, &k->ce) : INFINITY);
    if (saved) *saved = (kd_saved){ zs, zt, lt_online_log(k->ce.sum), mean };
}

static kd_run begin(lt_exec *x, const lt_node *node) {
    const kd_attr *a = node->attr;
    return (kd_run){ .a = a,
                     .teacher = lt_head_tile_begin(x, a->teacher, a->teacher_scale, lt_rows(x, node->in[0])),
                     .teacher_in = lt_data(x, node->in[1]),
                     .saved = node->saved,
                     .inv_tau = 1.0 / a->p.tau };
}

static void forward(lt_exec *x, const lt_node *node) {
    const kd_attr *a = node->attr;
    const size_t n = lt_rows(x, node->in[0]);
    const lt_real *in = lt_data(x, node->in[0]);
    lt_real *y = lt_data(x, node->out);
    kd_run r = begin(x, node);
    lt_head_tile c = lt_head_tile_begin(x, a->head, a->scale, n);
    r.token = lt_exec_scratch(x, n * sizeof *r.token);
    if (!r.token || !r.teacher.tile) return;
    for (size_t i = 0; i < n; i++)
        r.token[i] = (kd_token){ .s = LT_ONLINE, .t = LT_ONLINE, .ce.sum = LT_ONLINE, .finite = true };
    lt_head_tiles(x, &c, in, n, see_tile, &r);
    if (a->p.kind == LT_KD_JSD) lt_head_tiles(x, &c, in, n, see_mean, &r);
    for (size_t i = 0; i < n; i++) finish(a, &r.token[i], a->target[i], y + i, r.saved ? r.saved + i : NULL);
}

/* ---- backward ---- */

/* dl of one row; s, t: the logits */
static void slopes(const lt_team *team, const kd_run *r, const kd_saved *k, lt_real *dl, const lt_real *s,
                   const lt_real *t, size_t n, double g) {
    lt_real q[LT_HEAD_VOCAB];
    const double inv = r->inv_tau, beta = r->a->p.beta;
    lt_k_exp_sum(team, q, s, (lt_real)inv, (lt_real)k->lse, n);
    switch (r->a->p.kind) {
    case LT_KD_REVERSE:
        for (size_t v = 0; v < n; v++)
            dl[v] = (lt_real)(g * q[v] * (((double)s[v] - (double)t[v]) * inv - k->lse + k->teacher - k->mean));
        return;
    case LT_KD_JSD:
        for (size_t v = 0; v < n; v++) {
            const double lq = (double)s[v] * inv - k->lse, lp = (double)t[v] * inv - k->teacher;
            dl[v] = (lt_real)(g * (1 - beta) * q[v] * (lq - log_mean(lp, lq, beta) - k->mean));
        }
        return;
    default:
        lt_k_exp_sum(team, dl, t, (lt_real)inv, (lt_real)k->teacher, n);
        for (size_t v = 0; v < n; v++) dl[v] = (lt_real)g * (q[v] - dl[v]);
    }
}

static void token_gradient(const lt_team *team, const kd_run *r, const lt_head_tile *c, lt_span span, size_t i) {
    const kd_attr *a = r->a;
    const kd_saved *k = &r->saved[c->row + i];
    const int32_t target = a->target[c->row + i];
    lt_real *l = c->tile + i * span.n, dl[LT_HEAD_VOCAB];
    const double dy = target < 0 ? 0 : c->scale * (double)r->dy[c->row + i];
    if (dy == 0) {
        memset(l, 0, span.n * sizeof *l);
        return;
    }
    slopes(team, r, k, dl, l, r->teacher.tile + i * span.n, span.n, dy * lt_kd_factor(&a->p) * r->inv_tau);
    if (a->p.alpha_ce > 0) lt_kd_ce_back(team, dl, l, span, target, k->ce, dy * a->p.alpha_ce);
    memcpy(l, dl, span.n * sizeof *l);
}

static void tile_gradient(lt_exec *x, const lt_head_tile *c, lt_span span, void *arg) {
    kd_run *r = arg;
    fill_teacher(x, r, c, span);
    const lt_team *team = lt_exec_team(x);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, c->n *span.n))
    for (size_t i = 0; i < c->n; i++) token_gradient(team, r, c, span, i);
}

static void backward(lt_exec *x, const lt_node *node) {
    const kd_attr *a = node->attr;
    const size_t n = lt_rows(x, node->in[0]);
    lt_real *dx = lt_needs_grad(x, node->in[0]) ? lt_grad(x, node->in[0]) : NULL;
    kd_run r = begin(x, node);
    lt_head_tile c = lt_head_tile_begin(x, a->head, a->scale, n);
    r.dy = lt_grad(x, node->out);
    if (r.teacher.tile) lt_head_tiles_back(x, &c, lt_data(x, node->in[0]), dx, n, tile_gradient, &r);
}

const lt_op lt_op_head_kd = { "head_kd", check, forward, backward, saved_bytes, false };

lt_var lt_head_kd(lt_exec *x, lt_var in, const lt_linear *head, double scale, const lt_kd_teacher *teacher,
                  const int32_t *target, const lt_kd_params *p) {
    const size_t n = lt_rows(x, in);
    int32_t *copy = lt_exec_scratch(x, n * sizeof *copy);
    if (!copy) return LT_NO_VAR;
    if (n > 0) memcpy(copy, target, n * sizeof *copy);
    const kd_attr attr = { head, teacher->head, scale, teacher->scale, *p, copy };
    lt_node node = lt_linear_node(head, in);
    node.in[1] = teacher->in;
    node.attr = &attr;
    return lt_apply(x, &lt_op_head_kd, node, sizeof attr, n, 1);
}
