/* SPDX-License-Identifier: Apache-2.0 */
/* LLaMA 1-3: pre-norm RMS, rotary grouped-query attention, SiLU-gated MLP (Touvron et al. 2023; transformers'
 * LlamaForCausalLM; GGUF architecture "llama"). */
#include "model/family.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const lt_map_row tensors[] = {
    { LT_SLOT_EMBED, "model.embed_tokens", "token_embd", LT_AXIS_VOCAB, LT_AXIS_D_MODEL, LT_ALWAYS, false, LT_ALWAYS,
      false, false, NULL },
    { LT_SLOT_NORM_MIXER, "model.layers.%zu.input_layernorm", "blk.%zu.attn_norm", LT_AXIS_D_MODEL, LT_AXIS_NONE,
      LT_ALWAYS, false, LT_ALWAYS, false, false, NULL },
    { LT_SLOT_Q, "model.layers.%zu.self_attn.q_proj", "blk.%zu.attn_q", LT_AXIS_Q_HEADS_QK, LT_AXIS_D_MODEL, LT_ALWAYS,
      true, LT_IF_ATTN_BIAS, true, false, NULL },
    { LT_SLOT_K, "model.layers.%zu.self_attn.k_proj", "blk.%zu.attn_k", LT_AXIS_K_HEADS_QK, LT_AXIS_D_MODEL, LT_ALWAYS,
      true, LT_IF_ATTN_BIAS, true, false, NULL },
    { LT_SLOT_V, "model.layers.%zu.self_attn.v_proj", "blk.%zu.attn_v", LT_AXIS_V_HEADS_V, LT_AXIS_D_MODEL, LT_ALWAYS,
      true, LT_IF_ATTN_BIAS, false, false, NULL },
    { LT_SLOT_O, "model.layers.%zu.self_attn.o_proj", "blk.%zu.attn_output", LT_AXIS_D_MODEL, LT_AXIS_Q_HEADS_V,
      LT_ALWAYS, true, LT_IF_ATTN_BIAS, false, false, NULL },
    { LT_SLOT_NORM_MLP, "model.layers.%zu.post_attention_layernorm", "blk.%zu.ffn_norm", LT_AXIS_D_MODEL, LT_AXIS_NONE,
      LT_ALWAYS, false, LT_ALWAYS, false, false, NULL },
    { LT_SLOT_GATE, "model.layers.%zu.mlp.gate_proj", "blk.%zu.ffn_gate", LT_AXIS_D_FF, LT_AXIS_D_MODEL, LT_ALWAYS,
      true, LT_IF_MLP_BIAS, false, false, NULL },
    { LT_SLOT_UP, "model.layers.%zu.mlp.up_proj", "blk.%zu.ffn_up", LT_AXIS_D_FF, LT_AXIS_D_MODEL, LT_ALWAYS, true,
      LT_IF_MLP_BIAS, false, false, NULL },
    { LT_SLOT_DOWN, "model.layers.%zu.mlp.down_proj", "blk.%zu.ffn_down", LT_AXIS_D_MODEL, LT_AXIS_D_FF, LT_ALWAYS,
      true, LT_IF_MLP_BIAS, false, false, NULL },
    { LT_SLOT_FINAL_NORM, "model.norm", "output_norm", LT_AXIS_D_MODEL, LT_AXIS_NONE, LT_ALWAYS, false, LT_ALWAYS,
      false, false, NULL },
    { LT_SLOT_HEAD, "lm_head", "output", LT_AXIS_VOCAB, LT_AXIS_D_MODEL, LT_IF_UNTIED, false, LT_ALWAYS, false, false,
      NULL },
};

/* ---- config.json ---- */

/* Fields that change the mathematics: what we do not do is refused by name. */
static lt_status read_mathematics(lt_config *c, const json_t *j, const char *where, lt_err *err) {
    static const char *const fields[] = { "quantization_config", "per_layer_config" };
    for (size_t i = 0; i < LT_COUNTOF(fields); i++) {
        const json_t *v = json_object_get(j, fields[i]);
        if (v && !json_is_null(v)) return lt_fail(err, LT_EUNSUPPORTED, "%s is not supported (%s)", fields[i], where);
    }
    double part;
    LT_TRY(lt_json_double(&part, j, "partial_rotary_factor", 1.0, where, err));
    if (part != 1.0) return lt_fail(err, LT_EUNSUPPORTED, "partial_rotary_factor is not 1 (%s: %g)", where, part);
    const char *act;
    LT_TRY(lt_json_string(&act, j, "hidden_act", "silu", where, err));
    if (!lt_act_find(act, &c->act))
        return lt_fail(err, LT_EUNSUPPORTED, "hidden_act is not supported (%s: %s)", where, act);
    LT_TRY(lt_json_double(&c->norm_eps, j, "rms_norm_eps", 1e-6, where, err));
    if (c->norm_eps >= 0.0 && isfinite(c->norm_eps)) return LT_OK;
    return lt_fail(err, LT_EDATA, "rms_norm_eps is not a number >= 0 (%s: %g)", where, c->norm_eps);
}

/* Head counts and widths that attention can be built from; shared by both containers. */
static lt_status check_heads(const lt_layer_config *l, const char *where, lt_err *err) {
    if (l->n_q_heads % l->n_k_heads != 0)
        return lt_fail(err, LT_EDATA, "attention heads are not a multiple of key-value heads (%s: %zu, %zu)", where,
                       l->n_q_heads, l->n_k_heads);
    if (l->qk_dim % 2 != 0)
        return lt_fail(err, LT_EDATA, "head_dim is odd, so it cannot rotate (%s: %zu)", where, l->qk_dim);
    return LT_OK;
}

static lt_status read_heads(lt_layer_config *l, const lt_config *c, const json_t *j, const char *where, lt_err *err) {
    LT_TRY(lt_config_width(&l->n_q_heads, j, "num_attention_heads", 0, where, err));
    LT_TRY(lt_config_width(&l->n_k_heads, j, "num_key_value_heads", l->n_q_heads, where, err));
    l->n_v_heads = l->n_k_heads;
    const json_t *dim = json_object_get(j, "head_dim");
    if ((!dim || json_is_null(dim)) && c->d_model % l->n_q_heads != 0)
        return lt_fail(err, LT_EDATA,
                       "hidden_size is not a multiple of num_attention_heads, and there is no head_dim (%s: %zu, %zu)",
                       where, c->d_model, l->n_q_heads);
    LT_TRY(lt_config_width(&l->qk_dim, j, "head_dim", c->d_model / l->n_q_heads ? c->d_model / l->n_q_heads : 1, where,
                           err));
    l->v_dim = l->qk_dim;
    return check_heads(l, where, err);
}

/* The rest of a layer once heads and d_ff are known. */
static lt_status finish(lt_config *c, lt_layer_config *l, const char *where, lt_err *err) {
    l->present = true;
    l->mixer = LT_MIXER_SOFTMAX;
    l->qk_scale = 1.0 / sqrt((double)l->qk_dim);
    l->rope = 0;
    c->embed_scale = c->logit_scale = 1.0;
    c->n_ropes = 1;
    return lt_config_make_layers(c, l, where, err);
}

static lt_status read_config(lt_config *c, const json_t *j, const char *where, lt_err *err) {
    lt_layer_config l = { 0 };
    LT_TRY(read_mathematics(c, j, where, err));
    LT_TRY(lt_config_width(&c->d_model, j, "hidden_size", 0, where, err));
    LT_TRY(lt_config_width(&c->n_layers, j, "num_hidden_layers", 0, where, err));
    LT_TRY(lt_config_width(&c->vocab_size, j, "vocab_size", 0, where, err));
    LT_TRY(lt_config_width(&l.d_ff, j, "intermediate_size", 0, where, err));
    LT_TRY(lt_config_width(&c->max_positions, j, "max_position_embeddings", 2048, where, err));
    LT_TRY(read_heads(&l, c, j, where, err));
    LT_TRY(lt_json_bool(&c->tied, j, "tie_word_embeddings", false, where, err));
    LT_TRY(lt_json_bool(&c->attn_bias, j, "attention_bias", false, where, err));
    LT_TRY(lt_json_bool(&c->mlp_bias, j, "mlp_bias", false, where, err));
    c->bos = 1; /* LlamaConfig's defaults for members that are missing; null means none */
    c->eos[0] = 2;
    c->n_eos = 1;
    LT_TRY(lt_config_read_stops(c, j, where, err));
    c->rope[0].dim = l.qk_dim;
    LT_TRY(lt_rope_read(&c->rope[0], j, where, err));
    return finish(c, &l, where, err);
}

/* ---- GGUF ---- */

static lt_status gguf_width(size_t *out, const lt_gguf *g, const char *key, size_t dflt, lt_err *err) {
    uint64_t v = dflt;
    if (!lt_gguf_u64(g, key, &v) && (dflt == 0 || lt_gguf_has(g, key)))
        return lt_fail(err, LT_EDATA, "%s is missing or not one number (%s)", key, lt_gguf_path(g));
    if (v == 0 || v > INT32_MAX)
        return lt_fail(err, LT_EDATA, "%s is outside 1..%d (%s: %llu)", key, INT32_MAX, lt_gguf_path(g),
                       (unsigned long long)v);
    *out = (size_t)v;
    return LT_OK;
}

/* Floats of a GGUF are f32; config.json wants the decimal that was meant: the shortest that rounds to the same f32. */
static double shortest(double v) {
    char buf[40];
    for (int digits = 1; digits <= 9; digits++) {
        (void)snprintf(buf, sizeof buf, "%.*g", digits, v);
        const double d = strtod(buf, NULL);
        if ((float)d == (float)v) return d;
    }
    return v;
}

static lt_status gguf_positive(double *out, const lt_gguf *g, const char *key, double dflt, lt_err *err) {
    double v = dflt;
    if (lt_gguf_f64(g, key, &v)) v = shortest(v);
    if (!(v > 0.0 && isfinite(v)))
        return lt_fail(err, LT_EDATA, "%s is not a positive number (%s: %g)", key, lt_gguf_path(g), v);
    *out = v;
    return LT_OK;
}

static lt_status gguf_heads(lt_layer_config *l, const lt_config *c, const lt_gguf *g, lt_err *err) {
    size_t rotating;
    LT_TRY(gguf_width(&l->n_q_heads, g, "llama.attention.head_count", 0, err));
    LT_TRY(gguf_width(&l->n_k_heads, g, "llama.attention.head_count_kv", l->n_q_heads, err));
    l->n_v_heads = l->n_k_heads;
    if (c->d_model % l->n_q_heads != 0 && !lt_gguf_has(g, "llama.attention.key_length"))
        return lt_fail(err, LT_EDATA, "llama.embedding_length is not a multiple of head_count (%s: %zu, %zu)",
                       lt_gguf_path(g), c->d_model, l->n_q_heads);
    LT_TRY(gguf_width(&l->qk_dim, g, "llama.attention.key_length", lt_max_size(1, c->d_model / l->n_q_heads), err));
    LT_TRY(gguf_width(&l->v_dim, g, "llama.attention.value_length", l->qk_dim, err));
    LT_TRY(gguf_width(&rotating, g, "llama.rope.dimension_count", l->qk_dim, err));
    if (l->v_dim != l->qk_dim || rotating != l->qk_dim)
        return lt_fail(err, LT_EUNSUPPORTED,
                       "key_length, value_length and rope.dimension_count differ (%s: %zu, %zu, %zu)", lt_gguf_path(g),
                       l->qk_dim, l->v_dim, rotating);
    return check_heads(l, lt_gguf_path(g), err);
}

static lt_status gguf_rope_factors(lt_rope_config *r, const lt_tensor *t, const char *path, lt_err *err) {
    const size_t n = r->dim / 2;
    if (lt_tensor_count(t) != n || t->rank != 1)
        return lt_fail(err, LT_EDATA, "wrong size for %zu rotary frequencies (%s: rope_freqs.weight: %zu)", n, path,
                       lt_tensor_count(t));
    if (t->dtype != LT_F32) return lt_fail(err, LT_EUNSUPPORTED, "dtype is not f32 (%s: rope_freqs.weight)", path);
    float *factor = lt_malloc(n * sizeof *factor);
    if (!factor) return lt_fail(err, LT_ENOMEM, "out of memory (%s: rope_freqs.weight)", path);
    lt_tensor_row_f32(factor, t, 0, 0, n);
    const bool fits = lt_rope_fit_llama3(r, factor, n);
    lt_free(factor);
    return fits ? LT_OK
                : lt_fail(err, LT_EUNSUPPORTED, "factors are not those of the llama3 rule (%s: rope_freqs.weight)",
                          path);
}

static lt_status gguf_rope(lt_rope_config *r, const lt_gguf *g, lt_err *err) {
    const char *path = lt_gguf_path(g), *type = lt_gguf_string(g, "llama.rope.scaling.type", NULL);
    const lt_tensor *factors = lt_gguf_find(g, "rope_freqs.weight");
    LT_TRY(gguf_positive(&r->theta, g, "llama.rope.freq_base", 10000.0, err));
    LT_TRY(gguf_positive(&r->factor, g,
                         lt_gguf_has(g, "llama.rope.scaling.factor") ? "llama.rope.scaling.factor"
                                                                     : "llama.rope.scale_linear",
                         1.0, err));
    if (type && strcmp(type, "none") != 0 && strcmp(type, "linear") != 0)
        return lt_fail(err, LT_EUNSUPPORTED, "llama.rope.scaling.type is none of none, linear (%s: %s)", path, type);
    const bool linear = r->factor != 1.0 && (!type || strcmp(type, "linear") == 0);
    r->kind = linear ? LT_ROPE_LINEAR : LT_ROPE_DEFAULT;
    if (!linear) r->factor = 0.0;
    if (!factors) return LT_OK;
    if (linear) return lt_fail(err, LT_EUNSUPPORTED, "rope_freqs.weight together with linear scaling (%s)", path);
    return gguf_rope_factors(r, factors, path, err);
}

static void gguf_stops(lt_config *c, const lt_gguf *g) {
    uint64_t id;
    c->bos = lt_gguf_u64(g, "tokenizer.ggml.bos_token_id", &id) && id <= INT32_MAX ? (int32_t)id : -1;
    c->n_eos = lt_gguf_u64(g, "tokenizer.ggml.eos_token_id", &id) && id <= INT32_MAX ? 1 : 0;
    c->eos[0] = c->n_eos ? (int32_t)id : -1;
}

static json_t *id_or_null(bool there, int64_t id) {
    return there ? json_integer(id) : json_null();
}

/* The config.json that a stock loader would have had; widths are set by write_config as for any other model. */
static json_t *gguf_raw(const lt_config *c, const lt_gguf *g) {
    uint64_t pad = 0;
    const bool has_pad = lt_gguf_u64(g, "tokenizer.ggml.padding_token_id", &pad) && pad <= INT32_MAX;
    return json_pack("{s:[s], s:s, s:s, s:f, s:f, s:o, s:o, s:o, s:o, s:f, s:b, s:b, s:f, s:s, s:b}", "architectures",
                     "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu", "rms_norm_eps", c->norm_eps,
                     "rope_theta", c->rope[0].theta, "rope_scaling", lt_rope_write(&c->rope[0]), "bos_token_id",
                     id_or_null(c->bos >= 0, c->bos), "eos_token_id", id_or_null(c->n_eos > 0, c->eos[0]),
                     "pad_token_id", id_or_null(has_pad, (int64_t)pad), "attention_dropout", 0.0, "attention_bias",
                     (int)c->attn_bias, "mlp_bias", (int)c->mlp_bias, "initializer_range", 0.02, "torch_dtype",
                     "bfloat16", "use_cache", 1);
}

static lt_status write_config(json_t **out, const lt_config *c, lt_err *err);

static lt_status read_gguf(lt_config *c, const lt_gguf *g, lt_err *err) {
    const char *path = lt_gguf_path(g);
    lt_layer_config l = { 0 };
    uint64_t experts = 0;
    if (lt_gguf_u64(g, "llama.expert_count", &experts) && experts > 0)
        return lt_fail(err, LT_EUNSUPPORTED, "expert blocks are not supported (%s: llama.expert_count: %llu)", path,
                       (unsigned long long)experts);
    const lt_tensor *embed = lt_gguf_find(g, "token_embd.weight");
    if (!embed || embed->rank != 2)
        return lt_fail(err, LT_EDATA, "tensor is missing or not a matrix (%s: token_embd.weight)", path);
    c->vocab_size = embed->size[0];
    if (c->vocab_size == 0 || c->vocab_size > INT32_MAX)
        return lt_fail(err, LT_EDATA, "vocabulary is outside 1..%d (%s: token_embd.weight: %zu)", INT32_MAX, path,
                       c->vocab_size);
    LT_TRY(gguf_width(&c->d_model, g, "llama.embedding_length", 0, err));
    LT_TRY(gguf_width(&c->n_layers, g, "llama.block_count", 0, err));
    LT_TRY(gguf_width(&c->max_positions, g, "llama.context_length", 0, err));
    LT_TRY(gguf_width(&l.d_ff, g, "llama.feed_forward_length", 0, err));
    LT_TRY(gguf_heads(&l, c, g, err));
    LT_TRY(gguf_positive(&c->norm_eps, g, "llama.attention.layer_norm_rms_epsilon", 1e-6, err));
    c->act = LT_ACT_SILU;
    c->tied = !lt_gguf_find(g, "output.weight");
    c->attn_bias = lt_gguf_find(g, "blk.0.attn_q.bias") != NULL;
    c->mlp_bias = lt_gguf_find(g, "blk.0.ffn_up.bias") != NULL;
    c->rope[0].dim = l.qk_dim;
    LT_TRY(gguf_rope(&c->rope[0], g, err));
    gguf_stops(c, g);
    LT_TRY(finish(c, &l, path, err));
    c->raw = gguf_raw(c, g);
    if (!c->raw) return lt_fail(err, LT_ENOMEM, "out of memory (%s: config)", path);
    json_t *full;
    LT_TRY(write_config(&full, c, err));
    json_decref(c->raw);
    c->raw = full;
    return LT_OK;
}

/* ---- back to config.json ---- */

static bool uniform(const lt_config *c) {
    for (size_t i = 0; i < c->n_layers; i++) {
        const lt_layer_config *a = &c->layer[0], *b = &c->layer[i];
        if (!b->present || b->n_q_heads != a->n_q_heads || b->n_k_heads != a->n_k_heads || b->qk_dim != a->qk_dim ||
            b->d_ff != a->d_ff)
            return false;
    }
    return true;
}

static lt_status write_config(json_t **out, const lt_config *c, lt_err *err) {
    if (!uniform(c))
        return lt_fail(err, LT_EUNSUPPORTED, "layers differ in size, which config.json of llama cannot say");
    const lt_layer_config *l = &c->layer[0];
    const struct {
        const char *key;
        size_t value;
    } widths[] = { { "hidden_size", c->d_model },           { "intermediate_size", l->d_ff },
                   { "num_hidden_layers", c->n_layers },    { "num_attention_heads", l->n_q_heads },
                   { "num_key_value_heads", l->n_k_heads }, { "head_dim", l->qk_dim },
                   { "vocab_size", c->vocab_size },         { "max_position_embeddings", c->max_positions } };
    json_t *j = json_deep_copy(c->raw);
    int bad = j == NULL;
    for (size_t i = 0; i < LT_COUNTOF(widths); i++)
        bad |= json_object_set_new(j, widths[i].key, json_integer((json_int_t)widths[i].value));
    bad |= json_object_set_new(j, "tie_word_embeddings", json_boolean(c->tied));
    bad |= json_object_set_new(j, "attention_bias", json_boolean(c->attn_bias));
    bad |= json_object_set_new(j, "mlp_bias", json_boolean(c->mlp_bias));
    if (bad) {
        json_decref(j);
        return lt_fail(err, LT_ENOMEM, "out of memory (config.json)");
    }
    *out = j;
    return LT_OK;
}

static const char *const model_types[] = { "llama", NULL };
static const char *const gguf_archs[] = { "llama", NULL };

extern const lt_family lt_family_llama;
const lt_family lt_family_llama = {
    .name = "llama",
    .model_types = model_types,
    .gguf_archs = gguf_archs,
    .gguf_arch = "llama",
    .architecture = "LlamaForCausalLM",
    .lowrank_model_type = "lowrank_llama",
    .lowrank_architecture = "LowRankLlamaForCausalLM",
    .block = { .norm = LT_NORM_RMS,
               .place = LT_NORM_PRE,
               .parallel = false,
               .qk_norm = LT_QK_NORM_NONE,
               .gated_mlp = true,
               .softcap = 0.0 },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .read_config = read_config,
    .read_gguf = read_gguf,
    .write_config = write_config,
};
