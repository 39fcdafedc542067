/* model/family_rows.h - rows of tensor maps that many families share: Hugging Face's names since LLaMA, and what
 * llama.cpp calls them. Private to the family files; a family's map is a list of these. */
#ifndef LT_MODEL_FAMILY_ROWS_H
#define LT_MODEL_FAMILY_ROWS_H

#include "model/family.h"

/* LT_LAYER_ROW(slot, end of the name, gguf end, out, in, members ...) of "model.layers.N." and "blk.N." */
#define LT_LAYER_ROW(s, name, g, o, i, ...)                                                                            \
    { .slot = (s), .hf = "model.layers.%zu." name, .gguf = "blk.%zu." g, .out = (o), .in = (i), __VA_ARGS__ }
#define LT_NORM_ROW(s, name, g, axis) LT_LAYER_ROW(s, name, g, axis, LT_AXIS_NONE, .when = LT_ALWAYS)
#define LT_BIAS_IF(w) .has_bias = true, .bias = (w)
#define LT_NO_BIAS .has_bias = false

#define LT_ROWS_EMBED                                                                                                  \
    {                                                                                                                  \
        .slot = LT_SLOT_EMBED, .hf = "model.embed_tokens", .gguf = "token_embd", .out = LT_AXIS_VOCAB,                 \
        .in = LT_AXIS_D_MODEL                                                                                          \
    }
/* model.norm and lm_head */
#define LT_ROWS_END                                                                                                    \
    { .slot = LT_SLOT_FINAL_NORM, .hf = "model.norm", .gguf = "output_norm", .out = LT_AXIS_D_MODEL }, {               \
        .slot = LT_SLOT_HEAD, .hf = "lm_head", .gguf = "output", .out = LT_AXIS_VOCAB, .in = LT_AXIS_D_MODEL,          \
        .when = LT_IF_UNTIED                                                                                           \
    }
/* qkv: members of the rows of q, k and v; o: of the row of o */
#define LT_ROW_Q(...)                                                                                                  \
    LT_LAYER_ROW(LT_SLOT_Q, "self_attn.q_proj", "attn_q", LT_AXIS_Q_HEADS_QK, LT_AXIS_D_MODEL, __VA_ARGS__)
#define LT_ROW_K(...)                                                                                                  \
    LT_LAYER_ROW(LT_SLOT_K, "self_attn.k_proj", "attn_k", LT_AXIS_K_HEADS_QK, LT_AXIS_D_MODEL, __VA_ARGS__)
#define LT_ROW_V(...)                                                                                                  \
    LT_LAYER_ROW(LT_SLOT_V, "self_attn.v_proj", "attn_v", LT_AXIS_V_HEADS_V, LT_AXIS_D_MODEL, __VA_ARGS__)
#define LT_ROW_O(...)                                                                                                  \
    LT_LAYER_ROW(LT_SLOT_O, "self_attn.o_proj", "attn_output", LT_AXIS_D_MODEL, LT_AXIS_Q_HEADS_V, __VA_ARGS__)
#define LT_ROW_GATE(...)                                                                                               \
    LT_LAYER_ROW(LT_SLOT_GATE, "mlp.gate_proj", "ffn_gate", LT_AXIS_D_FF, LT_AXIS_D_MODEL, __VA_ARGS__)
#define LT_ROW_UP(...) LT_LAYER_ROW(LT_SLOT_UP, "mlp.up_proj", "ffn_up", LT_AXIS_D_FF, LT_AXIS_D_MODEL, __VA_ARGS__)
#define LT_ROW_DOWN(...)                                                                                               \
    LT_LAYER_ROW(LT_SLOT_DOWN, "mlp.down_proj", "ffn_down", LT_AXIS_D_MODEL, LT_AXIS_D_FF, __VA_ARGS__)
#define LT_ROWS_GATED(...) LT_ROW_GATE(__VA_ARGS__), LT_ROW_UP(__VA_ARGS__), LT_ROW_DOWN(__VA_ARGS__)
/* norms in front of attention and MLP */
#define LT_ROW_NORM_MIXER LT_NORM_ROW(LT_SLOT_NORM_MIXER, "input_layernorm", "attn_norm", LT_AXIS_D_MODEL)
#define LT_ROW_NORM_MLP LT_NORM_ROW(LT_SLOT_NORM_MLP, "post_attention_layernorm", "ffn_norm", LT_AXIS_D_MODEL)
/* norms behind them, and of q and k over their axes */
#define LT_ROWS_NORMS_BEHIND                                                                                           \
    LT_NORM_ROW(LT_SLOT_NORM_MIXER_POST, "post_attention_layernorm", "post_attention_norm", LT_AXIS_D_MODEL),          \
        LT_NORM_ROW(LT_SLOT_NORM_MLP_POST, "post_feedforward_layernorm", "post_ffw_norm", LT_AXIS_D_MODEL)
#define LT_ROWS_QK_NORM(q, k)                                                                                          \
    LT_NORM_ROW(LT_SLOT_NORM_Q, "self_attn.q_norm", "attn_q_norm", q),                                                 \
        LT_NORM_ROW(LT_SLOT_NORM_K, "self_attn.k_norm", "attn_k_norm", k)

/* config.json members that transformers has called the same since LLaMA */
#define LT_CONFIG_NAMES_BUT_ACT                                                                                        \
    .d_model = "hidden_size", .d_ff = "intermediate_size", .n_layers = "num_hidden_layers",                            \
    .n_heads = "num_attention_heads", .n_kv_heads = "num_key_value_heads", .head_dim = "head_dim",                     \
    .max_positions = "max_position_embeddings", .norm_eps = "rms_norm_eps", .theta = "rope_theta"
#define LT_CONFIG_NAMES LT_CONFIG_NAMES_BUT_ACT, .act = "hidden_act", .missing_act = "silu", .missing_theta = 10000.0

/* OLMo 2 and 3: norms behind attention and MLP, norms of q and k over their whole projections */
#define LT_ROWS_OLMO                                                                                                   \
    LT_ROWS_EMBED, LT_ROW_Q(LT_BIAS_IF(LT_IF_ATTN_BIAS)), LT_ROW_K(LT_BIAS_IF(LT_IF_ATTN_BIAS)),                       \
        LT_ROW_V(LT_BIAS_IF(LT_IF_ATTN_BIAS)), LT_ROWS_QK_NORM(LT_AXIS_Q_HEADS_QK, LT_AXIS_K_HEADS_QK),                \
        LT_ROW_O(LT_BIAS_IF(LT_IF_ATTN_BIAS)), LT_ROWS_GATED(LT_NO_BIAS), LT_ROWS_NORMS_BEHIND, LT_ROWS_END

#endif
