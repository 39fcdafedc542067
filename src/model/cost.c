/* SPDX-License-Identifier: Apache-2.0 */
/* What a forward pass costs: bytes of values, and FLOPs. Follows block.c value by value. */
#include "model/model.h"

static size_t max_rank(const lt_layer *l) {
    size_t r = 0;
    for (int s = 0; s < LT_N_LINEAR_SLOTS; s++)
        r = lt_max_size(r, lt_linear_present(&l->linear[s]) ? lt_linear_rank(&l->linear[s]) : 0);
    return r;
}

static bool has_norm(const lt_layer *l, lt_slot s) {
    return l->norm[s - LT_N_LINEAR_SLOTS].w.name != NULL;
}

/* Floats per row that live at the same time at the end of a block, its input included. */
static size_t block_floats(const lt_model *m, size_t layer) {
    const lt_layer_config *c = &m->config.layer[layer];
    const lt_layer *l = &m->layer[layer];
    const size_t d = m->config.d_model, q = c->n_q_heads * c->qk_dim, k = c->n_k_heads * c->qk_dim,
                 v = c->n_v_heads * c->v_dim;
    const size_t copies =
        1 + (c->rope >= 0) + has_norm(l, LT_SLOT_NORM_Q); /* of q and k: projected, normalised, rotated */
    size_t n = 5 * d;                                     /* in, mixer out, a, mlp out, out */
    for (int s = LT_N_LINEAR_SLOTS; s < LT_SLOT_NORM_Q; s++) n += has_norm(l, (lt_slot)s) ? d : 0;
    n += copies * (q + k) + v + c->n_q_heads * (c->v_dim + 2); /* attention: output, and (m, Z) of each head */
    if (lt_linear_present(&l->linear[LT_SLOT_QKV])) n += q + k + v;
    n += (m->config.block.gated_mlp ? 3 : 2) * c->d_ff;
    if (lt_linear_present(&l->linear[LT_SLOT_GATE_UP])) n += 2 * c->d_ff;
    return n + max_rank(l);
}

size_t lt_model_exec_bytes(const lt_model *m, size_t n_rows) {
    size_t floats = 2 * m->config.d_model + m->config.d_embed, table = 0;
    for (size_t l = 0; l < m->config.n_layers; l++)
        if (m->config.layer[l].present) floats = lt_max_size(floats, block_floats(m, l));
    for (size_t r = 0; r < m->config.n_ropes; r++) table += m->config.rope[r].dim;
    return n_rows * (floats + table) * sizeof(lt_real);
}

/* Keys that the rows of piece i see, summed over the rows. */
static double visible_pairs(const lt_batch *b, size_t i, size_t window) {
    const lt_piece *p = &b->piece[i];
    const bool continues = p->parent >= 0 || (b->past && b->past[i]);
    double pairs = 0.0;
    for (size_t r = 0; r < p->n; r++) {
        const size_t seen = (continues ? p->pos0 : 0) + r + 1;
        pairs += (double)(window > 0 ? lt_min_size(seen, window) : seen);
    }
    return pairs;
}

double lt_model_flops(const lt_model *m, const lt_batch *b, size_t n_head_rows) {
    double flops = 2.0 * (double)lt_model_n_linear_params(m) * (double)b->n_rows;
    if (lt_linear_present(&m->project_in))
        flops += 2.0 * (double)lt_tensor_count(&m->project_in.stage[0].w.t) * (double)b->n_rows +
                 2.0 * (double)lt_tensor_count(&m->project_out.stage[0].w.t) * (double)n_head_rows;
    for (int s = 0; s < m->head.n_stages; s++)
        flops += 2.0 * (double)lt_tensor_count(&m->head.stage[s].w.t) * (double)n_head_rows;
    for (size_t l = 0; l < m->config.n_layers; l++) {
        const lt_layer_config *c = &m->config.layer[l];
        if (!c->present) continue;
        const double per_pair = 2.0 * (double)(c->n_q_heads * (c->qk_dim + c->v_dim));
        for (size_t i = 0; i < b->n_pieces; i++) flops += per_pair * visible_pairs(b, i, c->window);
    }
    return flops;
}
