/* nn/kd.h - what the two distillation losses share: one token's softmax over tiles, the cross entropy mixed in, and how
 * a loss becomes the op's value. */
#ifndef LT_NN_KD_H
#define LT_NN_KD_H

#include "nn/head_tile.h"
#include "nn/op.h"

/* Adds a row l to s, softmax of l / tau; e [n] receives exp(l / tau - s->m). Returns what earlier sums over exp(.. - m)
 * must be multiplied by. */
double lt_kd_online(const lt_team *team, lt_online *s, lt_real *e, const lt_real *l, double inv_tau, size_t n);

/* The cross entropy part: softmax of l itself. */
typedef struct lt_kd_ce {
    lt_online sum;
    double target;
} lt_kd_ce;
/* Looks at a row of the tile [o0, o0 + n); e [n] is scratch. */
void lt_kd_ce_see(const lt_team *team, lt_kd_ce *c, lt_real *e, const lt_real *l, lt_span span, int32_t target);
/* dl += g (softmax(l) - [target]); l: the logits, overwritten; lse: their log-sum-exp. */
void lt_kd_ce_back(const lt_team *team, lt_real *dl, lt_real *l, lt_span span, int32_t target, double lse, double g);

/* (1 - alpha) [tau²] kd + alpha ce; ce counts only when alpha > 0. */
static inline double lt_kd_factor(const lt_kd_params *p) {
    return (1.0 - p->alpha_ce) * (p->tau_square ? p->tau * p->tau : 1.0);
}
static inline double lt_kd_mix(const lt_kd_params *p, double kd, const lt_kd_ce *ce) {
    const double loss = lt_kd_factor(p) * kd;
    return p->alpha_ce > 0 ? loss + p->alpha_ce * (lt_online_log(ce->sum) - ce->target) : loss;
}
lt_status lt_kd_check(const char *op, const lt_kd_params *p, const int32_t *target, size_t n, size_t vocab,
                      lt_err *err);

#endif
