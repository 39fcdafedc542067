/* SPDX-License-Identifier: Apache-2.0 */
/* Gemma 3, the text model: four norms a layer that multiply by 1 + w, head norms of q and k, embeddings times
 * sqrt(d_model), scores by query_pre_attn_scalar; five of six layers slide and rotate by a base of their own (Gemma
 * team 2025; transformers' Gemma3ForCausalLM; GGUF architecture "gemma3", which stores 1 + w). */
#include "model/family_rows.h"

#include <math.h>

static const lt_map_row tensors[] = {
    LT_ROWS_EMBED,
    LT_ROW_NORM_MIXER,
    LT_ROW_Q(LT_BIAS_IF(LT_IF_ATTN_BIAS)),
    LT_ROW_K(LT_BIAS_IF(LT_IF_ATTN_BIAS)),
    LT_ROW_V(LT_BIAS_IF(LT_IF_ATTN_BIAS)),
    LT_ROWS_QK_NORM(LT_AXIS_QK_DIM, LT_AXIS_QK_DIM),
    LT_ROW_O(LT_BIAS_IF(LT_IF_ATTN_BIAS)),
    LT_NORM_ROW(LT_SLOT_NORM_MLP, "pre_feedforward_layernorm", "ffn_norm", LT_AXIS_D_MODEL),
    LT_ROWS_GATED(LT_NO_BIAS),
    LT_ROWS_NORMS_BEHIND,
    LT_ROWS_END,
};

static lt_status read_rest(lt_config *c, const json_t *j, const char *where, lt_err *err) {
    double scalar;
    LT_TRY(lt_json_double(&scalar, j, "query_pre_attn_scalar", 256.0, where, err));
    if (!(scalar > 0.0 && isfinite(scalar)))
        return lt_fail(err, LT_EDATA, "query_pre_attn_scalar is not a positive number (%s: %g)", where, scalar);
    for (size_t i = 0; i < c->n_layers; i++) c->layer[i].qk_scale = 1.0 / sqrt(scalar);
    c->embed_scale = sqrt((double)c->d_model);
    return LT_OK;
}

/* GGUF does not hold the scalar: llama.cpp takes the width of a head, but for the 27B model (62 layers), where it is
 * d_model / n_heads. */
static lt_status gguf_rest(json_t *config, const lt_config *c, const lt_gguf *g, lt_err *err) {
    const lt_layer_config *l = &c->layer[0];
    const size_t scalar = c->n_layers == 62 ? c->d_model / l->n_q_heads : l->qk_dim;
    if (json_object_set_new(config, "query_pre_attn_scalar", json_integer((json_int_t)scalar)) == 0) return LT_OK;
    return lt_fail(err, LT_ENOMEM, "out of memory (%s: config)", lt_gguf_path(g));
}

static const char *const model_types[] = { "gemma3_text", NULL };
static const char *const gguf_archs[] = { "gemma3", NULL };
/* transformers' Gemma 3 reads it and does nothing with it */
static const char *const refused[] = { "attn_logit_softcapping", NULL };

extern const lt_family lt_family_gemma3;
const lt_family lt_family_gemma3 = {
    .name = "gemma3",
    .model_types = model_types,
    .gguf_archs = gguf_archs,
    .architecture = "Gemma3ForCausalLM",
    .lowrank_model_type = "lowrank_gemma3_text",
    .lowrank_architecture = "LowRankGemma3ForCausalLM",
    .lowrank_config = "LowRankGemma3TextConfig",
    .prefix = "model.",
    .block = { .norm = LT_NORM_RMS_PLUS1, .place = LT_NORM_SANDWICH, .gated_mlp = true, .qk_norm = LT_QK_NORM_HEAD },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .config = { LT_CONFIG_NAMES_BUT_ACT,
                .act = "hidden_activation",
                .missing_act = "gelu_pytorch_tanh",
                .missing_theta = 1000000.0,
                .attn_bias = "attention_bias",
                .missing_kv_heads = 4,
                .missing_head_dim = 256,
                .missing_eps = 1e-6,
                .missing_positions = 131072,
                .missing_tied = true,
                .missing_bos = 2,
                .missing_eos = 1,
                .window = "sliding_window",
                .missing_window = 4096,
                .nth = "sliding_window_pattern",
                .missing_nth = 6,
                .rule = LT_LAYERS_SLIDE_BUT_NTH,
                .typed = true,
                .local_rope = true,
                .local_theta = "rope_local_base_freq",
                .missing_local_theta = 10000.0,
                .logit_softcap = "final_logit_softcapping",
                .refused = refused },
    .read_rest = read_rest,
    .gguf_rest = gguf_rest,
};
