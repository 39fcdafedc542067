/* SPDX-License-Identifier: Apache-2.0 */
/* GPT-2: learned positions, layer norms in front, plain MLP, weights stored [in, out] with q, k and v in one matrix
 * (Radford et al. 2019; transformers' GPT2LMHeadModel; GGUF architecture "gpt2", where matrices are [out, in]). */
#include "model/family_rows.h"

#include <math.h>

#define ROW(s, name, g, o, i, ...)                                                                                     \
    {                                                                                                                  \
        .slot = (s), .hf = "transformer.h.%zu." name, .gguf = "blk.%zu." g, .out = (o), .in = (i),                     \
        LT_BIAS_IF(LT_ALWAYS), __VA_ARGS__                                                                             \
    }
#define NORM(s, name, g) ROW(s, name, g, LT_AXIS_D_MODEL, LT_AXIS_NONE, .when = LT_ALWAYS)
#define CONV1D(s, name, g, o, i, ...) ROW(s, name, g, o, i, .in_out = true, __VA_ARGS__)

static const lt_map_row tensors[] = {
    { .slot = LT_SLOT_EMBED,
      .hf = "transformer.wte",
      .gguf = "token_embd",
      .out = LT_AXIS_VOCAB,
      .in = LT_AXIS_D_MODEL },
    { .slot = LT_SLOT_POSITIONS,
      .hf = "transformer.wpe",
      .gguf = "position_embd",
      .out = LT_AXIS_POSITIONS,
      .in = LT_AXIS_D_MODEL },
    NORM(LT_SLOT_NORM_MIXER, "ln_1", "attn_norm"),
    CONV1D(LT_SLOT_QKV, "attn.c_attn", "attn_qkv", LT_AXIS_QKV, LT_AXIS_D_MODEL, .fused = &lt_fused_qkv),
    CONV1D(LT_SLOT_O, "attn.c_proj", "attn_output", LT_AXIS_D_MODEL, LT_AXIS_Q_HEADS_V, .when = LT_ALWAYS),
    NORM(LT_SLOT_NORM_MLP, "ln_2", "ffn_norm"),
    CONV1D(LT_SLOT_UP, "mlp.c_fc", "ffn_up", LT_AXIS_D_FF, LT_AXIS_D_MODEL, .when = LT_ALWAYS),
    CONV1D(LT_SLOT_DOWN, "mlp.c_proj", "ffn_down", LT_AXIS_D_MODEL, LT_AXIS_D_FF, .when = LT_ALWAYS),
    { .slot = LT_SLOT_FINAL_NORM,
      .hf = "transformer.ln_f",
      .gguf = "output_norm",
      .out = LT_AXIS_D_MODEL,
      LT_BIAS_IF(LT_ALWAYS) },
    { .slot = LT_SLOT_HEAD,
      .hf = "lm_head",
      .gguf = "output",
      .out = LT_AXIS_VOCAB,
      .in = LT_AXIS_D_MODEL,
      .when = LT_IF_UNTIED },
};

/* scale_attn_weights false leaves scores undivided; scale_attn_by_inverse_layer_idx divides them by layer + 1 too. */
static lt_status read_rest(lt_config *c, const json_t *j, const char *where, lt_err *err) {
    bool scale, by_layer;
    LT_TRY(lt_json_bool(&scale, j, "scale_attn_weights", true, where, err));
    LT_TRY(lt_json_bool(&by_layer, j, "scale_attn_by_inverse_layer_idx", false, where, err));
    for (size_t i = 0; i < c->n_layers; i++)
        c->layer[i].qk_scale =
            (scale ? 1.0 / sqrt((double)c->layer[i].qk_dim) : 1.0) / (by_layer ? (double)(i + 1) : 1.0);
    return LT_OK;
}

static const char *const model_types[] = { "gpt2", NULL };
static const char *const gguf_archs[] = { "gpt2", NULL };
static const char *const leftovers[] = { ".attn.bias", ".attn.masked_bias", NULL };

extern const lt_family lt_family_gpt2;
const lt_family lt_family_gpt2 = {
    .name = "gpt2",
    .model_types = model_types,
    .gguf_archs = gguf_archs,
    .architecture = "GPT2LMHeadModel",
    .lowrank_model_type = "lowrank_gpt2",
    .lowrank_architecture = "LowRankGPT2LMHeadModel",
    .lowrank_config = "LowRankGPT2Config",
    .prefix = "transformer.",
    .leftovers = leftovers,
    .residual_init = true,
    .block = { .norm = LT_NORM_LAYER, .place = LT_NORM_PRE },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .config = { .d_model = "n_embd",
                .d_ff = "n_inner",
                .n_layers = "n_layer",
                .n_heads = "n_head",
                .max_positions = "n_positions",
                .norm_eps = "layer_norm_epsilon",
                .act = "activation_function",
                .missing_positions = 1024,
                .missing_ff = 4,
                .missing_eps = 1e-5,
                .missing_act = "gelu_new",
                .missing_tied = true,
                .missing_bos = 50256,
                .missing_eos = 50256 },
    .read_rest = read_rest,
};
