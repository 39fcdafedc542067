/* SPDX-License-Identifier: Apache-2.0 */
/* OPT: learned positions from row 2 on, layer norms in front of attention and MLP or (350M) behind the sums, a plain
 * MLP, biases; the table may be narrower than the layers, with a projection at both ends (Zhang et al. 2022;
 * transformers' OPTForCausalLM). llama.cpp has no such architecture. */
#include "model/family_rows.h"

#define ROW(s, name, o, i, ...)                                                                                        \
    { .slot = (s), .hf = "model.decoder.layers.%zu." name, .out = (o), .in = (i), __VA_ARGS__ }
#define NORM(s, name) ROW(s, name, LT_AXIS_D_MODEL, LT_AXIS_NONE, LT_BIAS_IF(LT_ALWAYS))
#define LINEAR(s, name, o, i) ROW(s, name, o, i, LT_BIAS_IF(LT_IF_ATTN_BIAS))
#define OUTER(s, name, o, i, w)                                                                                        \
    { .slot = (s), .hf = name, .out = (o), .in = (i), .when = (w) }

static const lt_map_row tensors[] = {
    OUTER(LT_SLOT_EMBED, "model.decoder.embed_tokens", LT_AXIS_VOCAB, LT_AXIS_D_EMBED, LT_ALWAYS),
    OUTER(LT_SLOT_POSITIONS, "model.decoder.embed_positions", LT_AXIS_POSITIONS, LT_AXIS_D_MODEL, LT_ALWAYS),
    OUTER(LT_SLOT_PROJECT_IN, "model.decoder.project_in", LT_AXIS_D_MODEL, LT_AXIS_D_EMBED, LT_IF_PROJECTED),
    OUTER(LT_SLOT_PROJECT_OUT, "model.decoder.project_out", LT_AXIS_D_EMBED, LT_AXIS_D_MODEL, LT_IF_PROJECTED),
    NORM(LT_SLOT_NORM_MIXER, "self_attn_layer_norm"),
    LINEAR(LT_SLOT_Q, "self_attn.q_proj", LT_AXIS_Q_HEADS_QK, LT_AXIS_D_MODEL),
    LINEAR(LT_SLOT_K, "self_attn.k_proj", LT_AXIS_K_HEADS_QK, LT_AXIS_D_MODEL),
    LINEAR(LT_SLOT_V, "self_attn.v_proj", LT_AXIS_V_HEADS_V, LT_AXIS_D_MODEL),
    LINEAR(LT_SLOT_O, "self_attn.out_proj", LT_AXIS_D_MODEL, LT_AXIS_Q_HEADS_V),
    NORM(LT_SLOT_NORM_MLP, "final_layer_norm"),
    LINEAR(LT_SLOT_UP, "fc1", LT_AXIS_D_FF, LT_AXIS_D_MODEL),
    LINEAR(LT_SLOT_DOWN, "fc2", LT_AXIS_D_MODEL, LT_AXIS_D_FF),
    { .slot = LT_SLOT_FINAL_NORM,
      .hf = "model.decoder.final_layer_norm",
      .out = LT_AXIS_D_MODEL,
      .when = LT_IF_FINAL_NORM,
      LT_BIAS_IF(LT_ALWAYS) },
    OUTER(LT_SLOT_HEAD, "lm_head", LT_AXIS_VOCAB, LT_AXIS_D_EMBED, LT_IF_UNTIED),
};

static lt_status read_rest(lt_config *c, const json_t *j, const char *where, lt_err *err) {
    bool affine, before, removed;
    LT_TRY(lt_json_bool(&affine, j, "layer_norm_elementwise_affine", true, where, err));
    LT_TRY(lt_json_bool(&before, j, "do_layer_norm_before", true, where, err));
    LT_TRY(lt_json_bool(&removed, j, "_remove_final_layer_norm", false, where, err));
    if (!affine)
        return lt_fail(err, LT_EUNSUPPORTED, "layer_norm_elementwise_affine false is not supported (%s)", where);
    c->block.place = before ? LT_NORM_PRE : LT_NORM_POST_SUM;
    c->final_norm = before && !removed;
    c->pos_offset = 2;
    return lt_config_width(&c->d_embed, j, "word_embed_proj_dim", c->d_model, where, err);
}

static const char *const model_types[] = { "opt", NULL };

extern const lt_family lt_family_opt;
const lt_family lt_family_opt = {
    .name = "opt",
    .model_types = model_types,
    .architecture = "OPTForCausalLM",
    .lowrank_model_type = "lowrank_opt",
    .lowrank_architecture = "LowRankOPTForCausalLM",
    .lowrank_config = "LowRankOPTConfig",
    .prefix = "model.",
    .block = { .norm = LT_NORM_LAYER, .place = LT_NORM_PRE },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .config = { .d_model = "hidden_size",
                .d_ff = "ffn_dim",
                .n_layers = "num_hidden_layers",
                .n_heads = "num_attention_heads",
                .max_positions = "max_position_embeddings",
                .act = "activation_function",
                .attn_bias = "enable_bias",
                .missing_attn_bias = true,
                .missing_positions = 2048,
                .missing_eps = 1e-5,
                .missing_act = "relu",
                .missing_tied = true,
                .missing_bos = 2,
                .missing_eos = 2 },
    .read_rest = read_rest,
};
