/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/attn.h"

#include <string.h>

#include "nn/mathk.h"

lt_attn lt_attn_of(lt_exec *x, const lt_node *node) {
    const lt_attn_params *p = node->attr;
    return (lt_attn){ .p = *p,
                      .team = lt_exec_team(x),
                      .batch = lt_exec_batch(x),
                      .group = p->n_q_heads / p->n_kv_heads,
                      .ldq = p->n_q_heads * p->qk_dim,
                      .ldk = p->n_kv_heads * p->qk_dim,
                      .ldv = p->n_kv_heads * p->v_dim,
                      .ldo = p->n_q_heads * p->v_dim,
                      .q = lt_data(x, node->in[0]),
                      .k = lt_data(x, node->in[1]),
                      .v = lt_data(x, node->in[2]),
                      .out = lt_data(x, node->out),
                      .stat = node->saved };
}

void lt_attn_stack(const lt_attn *a, lt_real *dst, const lt_real *src, size_t row, size_t n, size_t h, size_t d) {
    const size_t ld = a->p.n_q_heads * d, width = a->group * d; /* heads of a group lie side by side */
    for (size_t i = 0; i < n; i++) memcpy(dst + i * width, src + (row + i) * ld + h * width, width * sizeof *dst);
}

void lt_attn_visible(const lt_attn *a, size_t pos0, size_t n, bool causal, size_t qpos, size_t *lo, size_t *hi) {
    *hi = !causal ? n : qpos < pos0 ? 0 : lt_min_size(n, qpos - pos0 + 1);
    const size_t first = a->p.window > 0 && qpos >= a->p.window ? qpos - a->p.window + 1 : 0;
    *lo = first > pos0 ? lt_min_size(first - pos0, *hi) : 0;
}

/* cap tanh(u) with tanh u = 1 - 2 / (1 + e^2u) */
static void soft_cap(const lt_attn *a, lt_real *s, size_t n) {
    const lt_real cap = (lt_real)a->p.softcap, twice = (lt_real)(2 / a->p.softcap), far = 80;
    for (size_t j = 0; j < n; j++) {
        const lt_real u = s[j] * twice;
        s[j] = u > far ? far : u < -far ? -far : u;
    }
    lt_k_exp(a->team, s, s, n);
    for (size_t j = 0; j < n; j++) s[j] = cap - 2 * cap / ((lt_real)1 + s[j]);
}

void lt_attn_scores(const lt_attn *a, lt_real *s, const float *bias, size_t n) {
    lt_k_scale(a->team, s, s, (lt_real)a->p.scale, n);
    if (a->p.softcap > 0) soft_cap(a, s, n);
    if (bias)
        for (size_t j = 0; j < n; j++) s[j] += bias[j];
}
