/* SPDX-License-Identifier: Apache-2.0 */
/* The generic block: reads lt_block_row and the layer's config, and is the only forward pass of all families.
 *
 *   pre:      a = x + mixer(norm(x));            y = a + mlp(norm'(a))
 *   post:     a = x + norm(mixer(x));            y = a + norm'(mlp(a))        (OLMo 2)
 *   post sum: a = norm(x + mixer(x));            y = norm'(a + mlp(a))        (OPT-350m)
 *   sandwich: a = x + norm2(mixer(norm1(x)));    y = a + norm4(mlp(norm3(a))) (Gemma 3)
 *   parallel: y = x + mixer(norm(x)) + mlp(norm'(x))                          (GPT-NeoX) */
#include "model/model.h"

#include "model/session.h"

typedef struct block_arg {
    const lt_model *m;
    size_t layer;
    const lt_rope_table *rope; /* NULL: none */
} block_arg;

static const lt_norm_params *norm_of(const block_arg *b, lt_slot slot) {
    const lt_norm_params *n = &b->m->layer[b->layer].norm[slot - LT_N_LINEAR_SLOTS];
    return n->w.name ? n : NULL;
}

static const lt_linear *linear_of(const block_arg *b, lt_slot slot) {
    return &b->m->layer[b->layer].linear[slot];
}

static void tap(lt_exec *x, const block_arg *b, lt_site site, int sub, lt_var v) {
    lt_tap(x, site, (int)b->layer, sub, v);
}

/* Norm in front of the mixer or MLP, where the placement has one. */
static lt_var before(lt_exec *x, const block_arg *b, lt_slot slot, lt_var in) {
    const lt_norm_place place = b->m->config.block.place;
    const lt_norm_params *n = place == LT_NORM_PRE || place == LT_NORM_SANDWICH ? norm_of(b, slot) : NULL;
    return n ? lt_norm(x, in, n, 0) : in;
}

/* Norm behind it; sub 0: mixer, 1: MLP. */
static lt_var after(lt_exec *x, const block_arg *b, lt_slot slot, int sub, lt_var in) {
    const lt_norm_place place = b->m->config.block.place;
    const lt_norm_params *n = place == LT_NORM_POST || place == LT_NORM_SANDWICH ? norm_of(b, slot) : NULL;
    if (!n) return in;
    const lt_var out = lt_norm(x, in, n, 0);
    tap(x, b, LT_SITE_POST_NORM, sub, out);
    return out;
}

/* The residual sum, and the norm of it where the placement has one. */
static lt_var sum(lt_exec *x, const block_arg *b, lt_slot slot, lt_var residual, lt_var update) {
    const lt_norm_params *n = b->m->config.block.place == LT_NORM_POST_SUM ? norm_of(b, slot) : NULL;
    const lt_var s = lt_add(x, residual, update);
    return n ? lt_norm(x, s, n, 0) : s;
}

/* ---- softmax attention ---- */

typedef struct qkv {
    lt_var q, k, v;
} qkv;

static qkv project(lt_exec *x, const block_arg *b, lt_var in) {
    const lt_linear *fused = linear_of(b, LT_SLOT_QKV);
    qkv p;
    if (lt_linear_present(fused)) {
        const lt_var all = lt_linear_fwd(x, in, fused);
        tap(x, b, LT_SITE_QKV_PROJ, 0, all);
        p.q = lt_take_part(x, all, fused->layout, 0);
        p.k = lt_take_part(x, all, fused->layout, 1);
        p.v = lt_take_part(x, all, fused->layout, 2);
    } else {
        const lt_linear *const three[] = { linear_of(b, LT_SLOT_Q), linear_of(b, LT_SLOT_K), linear_of(b, LT_SLOT_V) };
        lt_var out[3];
        lt_linear_fwd_each(x, in, three, 3, out);
        p = (qkv){ out[0], out[1], out[2] };
    }
    tap(x, b, LT_SITE_Q_PROJ, 0, p.q);
    tap(x, b, LT_SITE_K_PROJ, 0, p.k);
    tap(x, b, LT_SITE_V_PROJ, 0, p.v);
    return p;
}

static lt_var norm_heads(lt_exec *x, const block_arg *b, lt_slot slot, lt_var in) {
    const lt_norm_params *n = norm_of(b, slot);
    if (b->m->config.block.qk_norm == LT_QK_NORM_NONE || !n) return in;
    return lt_norm(x, in, n, b->m->config.block.qk_norm == LT_QK_NORM_HEAD ? b->m->config.layer[b->layer].qk_dim : 0);
}

static lt_var rotate(lt_exec *x, const block_arg *b, lt_var in, size_t n_heads) {
    const lt_layer_config *c = &b->m->config.layer[b->layer];
    return b->rope ? lt_rope(x, in, b->rope, n_heads, c->qk_dim, b->m->config.rope[c->rope].interleaved) : in;
}

/* After attention, so that the past of this step does not yet hold its own rows; not again when a block is replayed. */
static void remember(lt_exec *x, const block_arg *b, lt_var k, lt_var v) {
    const lt_batch *batch = lt_exec_batch(x);
    if (!batch->past || lt_exec_silent(x) || lt_exec_status(x, NULL) != LT_OK) return;
    const size_t ck = lt_cols(x, k), cv = lt_cols(x, v);
    const lt_real *kd = lt_data(x, k), *vd = lt_data(x, v);
    for (size_t i = 0; i < batch->n_pieces; i++) {
        const lt_piece *p = &batch->piece[i];
        if (!batch->past[i]) continue;
        lt_err err = { 0 };
        const lt_status st = lt_session_append((lt_session *)batch->past[i], (int)b->layer, kd + p->row * ck, ck,
                                               vd + p->row * cv, cv, p->n, &err);
        if (st != LT_OK) lt_exec_fail(x, st, "%s", err.message);
    }
}

static lt_var attend(lt_exec *x, const block_arg *b, lt_var in) {
    const lt_layer_config *c = &b->m->config.layer[b->layer];
    const lt_attn_params attn = { .layer = (int)b->layer,
                                  .n_q_heads = c->n_q_heads,
                                  .n_kv_heads = c->n_k_heads,
                                  .qk_dim = c->qk_dim,
                                  .v_dim = c->v_dim,
                                  .scale = c->qk_scale,
                                  .softcap = b->m->config.block.softcap,
                                  .window = c->window };
    qkv p = project(x, b, in);
    p.q = norm_heads(x, b, LT_SLOT_NORM_Q, p.q);
    p.k = norm_heads(x, b, LT_SLOT_NORM_K, p.k);
    tap(x, b, LT_SITE_Q_PRE_ROPE, 0, p.q);
    tap(x, b, LT_SITE_K_PRE_ROPE, 0, p.k);
    p.q = rotate(x, b, p.q, c->n_q_heads);
    p.k = rotate(x, b, p.k, c->n_k_heads);
    tap(x, b, LT_SITE_Q_POST_ROPE, 0, p.q);
    tap(x, b, LT_SITE_K_POST_ROPE, 0, p.k);
    const lt_var act = lt_attention(x, p.q, p.k, p.v, &attn);
    remember(x, b, p.k, p.v);
    tap(x, b, LT_SITE_MIXER_ACT, 0, act);
    return lt_linear_fwd(x, act, linear_of(b, LT_SLOT_O));
}

static lt_var mixer(lt_exec *x, const block_arg *b, lt_var in) {
    const lt_var h = before(x, b, LT_SLOT_NORM_MIXER, in);
    tap(x, b, LT_SITE_MIXER_IN, 0, h);
    if (b->m->config.layer[b->layer].mixer != LT_MIXER_SOFTMAX)
        lt_exec_fail(x, LT_EUNSUPPORTED, "layer %zu: only softmax attention is supported", b->layer);
    const lt_var out = attend(x, b, h);
    tap(x, b, LT_SITE_MIXER_OUT, 0, out);
    return after(x, b, LT_SLOT_NORM_MIXER_POST, 0, out);
}

/* ---- MLP ---- */

static lt_var widen(lt_exec *x, const block_arg *b, lt_var in) {
    const lt_act act = b->m->config.act;
    const lt_linear *fused = linear_of(b, LT_SLOT_GATE_UP);
    if (!b->m->config.block.gated_mlp) {
        const lt_var up = lt_linear_fwd(x, in, linear_of(b, LT_SLOT_UP));
        tap(x, b, LT_SITE_MLP_PROJ, 1, up);
        return lt_activate(x, up, act);
    }
    if (lt_linear_present(fused)) {
        const lt_var both = lt_linear_fwd(x, in, fused);
        tap(x, b, LT_SITE_MLP_PROJ, 2, both);
        const lt_var gate = lt_take_part(x, both, fused->layout, 0);
        return lt_gated(x, gate, lt_take_part(x, both, fused->layout, 1), act);
    }
    const lt_linear *const two[] = { linear_of(b, LT_SLOT_GATE), linear_of(b, LT_SLOT_UP) };
    lt_var out[2]; /* gate, up */
    lt_linear_fwd_each(x, in, two, 2, out);
    tap(x, b, LT_SITE_MLP_PROJ, 0, out[0]);
    tap(x, b, LT_SITE_MLP_PROJ, 1, out[1]);
    return lt_gated(x, out[0], out[1], act);
}

static lt_var mlp(lt_exec *x, const block_arg *b, lt_var in) {
    const lt_var h = before(x, b, LT_SLOT_NORM_MLP, in);
    tap(x, b, LT_SITE_MLP_IN, 0, h);
    const lt_var act = widen(x, b, h);
    tap(x, b, LT_SITE_MLP_ACT, 0, act);
    /* the last product of a block: only a norm behind it reads its values */
    const bool read = b->m->config.block.place != LT_NORM_PRE;
    const lt_linear *down = linear_of(b, LT_SLOT_DOWN);
    const lt_var out = read ? lt_linear_fwd(x, act, down) : lt_linear_fwd_unread(x, act, down);
    tap(x, b, LT_SITE_MLP_OUT, 0, out);
    return after(x, b, LT_SLOT_NORM_MLP_POST, 1, out);
}

static lt_var block(lt_exec *x, lt_var in, const void *arg) {
    const block_arg *b = arg;
    tap(x, b, LT_SITE_BLOCK_IN, 0, in);
    const lt_var a = sum(x, b, LT_SLOT_NORM_MIXER, in, mixer(x, b, in));
    const lt_var out = sum(x, b, LT_SLOT_NORM_MLP, a, mlp(x, b, b->m->config.block.parallel ? in : a));
    tap(x, b, LT_SITE_BLOCK_OUT, 0, out);
    return out;
}

/* ---- the model ---- */

/* Only the gradients of trainable tables are written. */
lt_var lt_model_embed(lt_exec *x, const lt_model *m) {
    lt_var h = lt_embed(x, (lt_param *)&m->embed, m->config.embed_scale);
    if (lt_linear_present(&m->project_in)) h = lt_linear_fwd(x, h, &m->project_in);
    return m->positions.name ? lt_add_positions(x, h, (lt_param *)&m->positions, m->config.pos_offset) : h;
}

typedef struct layer_run {
    lt_exec *x;
    const block_arg *b;
    lt_var in, out;
} layer_run;

static void run_layer(void *arg) {
    layer_run *r = arg;
    r->out = lt_block(r->x, block, r->b, r->in);
}

static bool has_adapters(const lt_layer *l) {
    for (int s = 0; s < LT_N_LINEAR_SLOTS; s++)
        for (int i = 0; i < l->linear[s].n_stages; i++)
            if (l->linear[s].stage[i].n_adapters > 0) return true;
    return false;
}

/* The loops of a block that is only run forward are lt_team_run; those of adapters and of most observers are not. */
static bool holds_threads(const lt_exec *x, const lt_layer *l) {
    return lt_exec_mode(x) == LT_INFER && lt_exec_may_hold(x) && lt_exec_team(x)->k->tile && !has_adapters(l);
}

lt_var lt_model_layer(lt_exec *x, const lt_model *m, size_t layer, lt_var h) {
    const lt_layer_config *c = &m->config.layer[layer];
    if (!c->present) return h;
    block_arg *b = lt_exec_scratch(x, sizeof *b);
    if (!b) return LT_NO_VAR;
    *b = (block_arg){ m, layer, NULL };
    if (c->rope >= 0)
        b->rope = lt_rope_prepare(x, m->inv_freq[c->rope], m->config.rope[c->rope].dim / 2,
                                  m->config.rope[c->rope].attention_factor);
    layer_run r = { x, b, h, LT_NO_VAR };
    if (holds_threads(x, &m->layer[layer]))
        lt_team_hold(lt_exec_team(x), run_layer, &r);
    else
        run_layer(&r);
    return r.out;
}

lt_var lt_model_final(lt_exec *x, const lt_model *m, lt_var h) {
    lt_tap(x, LT_SITE_FINAL_NORM_IN, -1, 0, h);
    if (m->final_norm.w.name) h = lt_norm(x, h, &m->final_norm, 0);
    if (lt_linear_present(&m->project_out)) h = lt_linear_fwd(x, h, &m->project_out);
    lt_tap(x, LT_SITE_HEAD_IN, -1, 0, h);
    return h;
}

lt_var lt_model_logits(lt_exec *x, const lt_model *m, lt_var final) {
    return lt_logits(x, final, &m->head, m->config.logit_scale);
}

lt_var lt_model_nll(lt_exec *x, const lt_model *m, lt_var final, const int32_t *target, int32_t *argmax) {
    return lt_head_nll(x, final, &m->head, m->config.logit_scale, target, argmax);
}

lt_var lt_model_hidden(lt_exec *x, const lt_model *m) {
    lt_var h = lt_model_embed(x, m);
    for (size_t layer = 0; layer < m->config.n_layers; layer++) h = lt_model_layer(x, m, layer, h);
    return lt_model_final(x, m, h);
}
