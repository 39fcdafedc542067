/* SPDX-License-Identifier: Apache-2.0 */
/* GPT-NeoX and Pythia: attention and MLP side by side on the residual stream (or one after the other), layer norms, q,
 * k and v in one matrix that alternates by head, a quarter of each head rotates (Black et al. 2022; transformers'
 * GPTNeoXForCausalLM; GGUF architecture "gptneox", where q, k and v lie one after another). */
#include "model/family_rows.h"

#define ROW(s, name, g, o, i, ...)                                                                                     \
    { .slot = (s), .hf = "gpt_neox.layers.%zu." name, .gguf = "blk.%zu." g, .out = (o), .in = (i), __VA_ARGS__ }
#define NORM(s, name, g) ROW(s, name, g, LT_AXIS_D_MODEL, LT_AXIS_NONE, LT_BIAS_IF(LT_ALWAYS))

static const lt_map_row tensors[] = {
    { .slot = LT_SLOT_EMBED,
      .hf = "gpt_neox.embed_in",
      .gguf = "token_embd",
      .out = LT_AXIS_VOCAB,
      .in = LT_AXIS_D_MODEL },
    NORM(LT_SLOT_NORM_MIXER, "input_layernorm", "attn_norm"),
    ROW(LT_SLOT_QKV, "attention.query_key_value", "attn_qkv", LT_AXIS_QKV, LT_AXIS_D_MODEL, LT_BIAS_IF(LT_IF_ATTN_BIAS),
        .fused = &lt_fused_qkv_by_head),
    ROW(LT_SLOT_O, "attention.dense", "attn_output", LT_AXIS_D_MODEL, LT_AXIS_Q_HEADS_V, LT_BIAS_IF(LT_IF_ATTN_BIAS)),
    NORM(LT_SLOT_NORM_MLP, "post_attention_layernorm", "ffn_norm"),
    ROW(LT_SLOT_UP, "mlp.dense_h_to_4h", "ffn_up", LT_AXIS_D_FF, LT_AXIS_D_MODEL, LT_BIAS_IF(LT_ALWAYS)),
    ROW(LT_SLOT_DOWN, "mlp.dense_4h_to_h", "ffn_down", LT_AXIS_D_MODEL, LT_AXIS_D_FF, LT_BIAS_IF(LT_ALWAYS)),
    { .slot = LT_SLOT_FINAL_NORM,
      .hf = "gpt_neox.final_layer_norm",
      .gguf = "output_norm",
      .out = LT_AXIS_D_MODEL,
      LT_BIAS_IF(LT_ALWAYS) },
    { .slot = LT_SLOT_HEAD,
      .hf = "embed_out",
      .gguf = "output",
      .out = LT_AXIS_VOCAB,
      .in = LT_AXIS_D_MODEL,
      .when = LT_IF_UNTIED },
};

/* transformers writes the names of other families beside NeoX's own, and reads the latter. */
static lt_status same(const json_t *j, const char *own, const char *other, const char *where, lt_err *err) {
    double a, b;
    if (!json_object_get(j, own) || !json_object_get(j, other)) return LT_OK;
    LT_TRY(lt_json_double(&a, j, own, 0.0, where, err));
    LT_TRY(lt_json_double(&b, j, other, a, where, err));
    return a == b ? LT_OK : lt_fail(err, LT_EDATA, "%s and %s differ (%s: %g, %g)", own, other, where, a, b);
}

static lt_status read_rest(lt_config *c, const json_t *j, const char *where, lt_err *err) {
    LT_TRY(same(j, "rotary_emb_base", "rope_theta", where, err));
    LT_TRY(same(j, "rotary_pct", "partial_rotary_factor", where, err));
    return lt_json_bool(&c->block.parallel, j, "use_parallel_residual", true, where, err);
}

static lt_status gguf_rest(json_t *config, const lt_config *c, const lt_gguf *g, lt_err *err) {
    bool parallel = true;
    (void)c;
    if (!lt_gguf_bool(g, "gptneox.use_parallel_residual", &parallel) && lt_gguf_has(g, "gptneox.use_parallel_residual"))
        return lt_fail(err, LT_EDATA, "gptneox.use_parallel_residual is not a truth value (%s)", lt_gguf_path(g));
    if (json_object_set_new(config, "use_parallel_residual", json_boolean(parallel)) == 0) return LT_OK;
    return lt_fail(err, LT_ENOMEM, "out of memory (%s: config)", lt_gguf_path(g));
}

static const char *const model_types[] = { "gpt_neox", NULL };
static const char *const gguf_archs[] = { "gptneox", NULL };
static const char *const leftovers[] = { ".attention.bias", ".attention.masked_bias", NULL };

extern const lt_family lt_family_neox;
const lt_family lt_family_neox = {
    .name = "gpt_neox",
    .model_types = model_types,
    .gguf_archs = gguf_archs,
    .architecture = "GPTNeoXForCausalLM",
    .lowrank_model_type = "lowrank_gpt_neox",
    .lowrank_architecture = "LowRankGPTNeoXForCausalLM",
    .lowrank_config = "LowRankGPTNeoXConfig",
    .prefix = "gpt_neox.",
    .leftovers = leftovers,
    .block = { .norm = LT_NORM_LAYER, .place = LT_NORM_PRE, .parallel = true },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .config = { .d_model = "hidden_size",
                .d_ff = "intermediate_size",
                .n_layers = "num_hidden_layers",
                .n_heads = "num_attention_heads",
                .max_positions = "max_position_embeddings",
                .norm_eps = "layer_norm_eps",
                .act = "hidden_act",
                .attn_bias = "attention_bias",
                .missing_attn_bias = true,
                .missing_positions = 2048,
                .missing_eps = 1e-5,
                .missing_act = "gelu",
                .missing_bos = 0,
                .missing_eos = 2,
                .theta = "rotary_emb_base",
                .missing_theta = 10000.0,
                .rotary_part = "rotary_pct",
                .missing_part = 0.25 },
    .read_rest = read_rest,
    .gguf_rest = gguf_rest,
};
