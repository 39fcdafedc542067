/* SPDX-License-Identifier: Apache-2.0 */
/* The config of a GGUF: its metadata by llama.cpp's keys ("<architecture>.block_count", gguf-py's constants.py), and
 * the config.json that a stock loader would have had. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/family.h"

typedef struct reader {
    const lt_gguf *g;
    const char *arch, *path;
    char key[160];
} reader;

/* "<architecture>.<end>", until the next call */
static const char *key_of(reader *r, const char *end) {
    snprintf(r->key, sizeof r->key, "%.80s.%s", r->arch, end);
    return r->key;
}

static lt_status width(size_t *out, reader *r, const char *end, size_t dflt, lt_err *err) {
    const char *key = key_of(r, end);
    uint64_t v = dflt;
    if (!lt_gguf_u64(r->g, key, &v) && (dflt == 0 || lt_gguf_has(r->g, key)))
        return lt_fail(err, LT_EDATA, "%s is missing or not one number (%s)", key, r->path);
    if (v == 0 || v > INT32_MAX)
        return lt_fail(err, LT_EDATA, "%s is outside 1..%d (%s: %llu)", key, INT32_MAX, r->path, (unsigned long long)v);
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

static lt_status positive(double *out, reader *r, const char *end, double dflt, lt_err *err) {
    const char *key = key_of(r, end);
    double v = dflt;
    if (lt_gguf_f64(r->g, key, &v)) v = shortest(v);
    if (!(v > 0.0 && isfinite(v)))
        return lt_fail(err, LT_EDATA, "%s is not a positive number (%s: %g)", key, r->path, v);
    *out = v;
    return LT_OK;
}

/* ---- widths and heads ---- */

static const lt_tensor *tensor_of(const lt_family *f, reader *r, lt_slot slot, const char *suffix) {
    for (size_t i = 0; i < f->n_tensors; i++) {
        char name[160];
        if (f->tensors[i].slot != slot || !f->tensors[i].gguf ||
            !lt_map_name(name, sizeof name - 8, f->tensors[i].gguf, 0))
            continue;
        strcat(name, suffix);
        return lt_gguf_find(r->g, name);
    }
    return NULL;
}

/* Is the switch that a row's bias hangs on, on? Told by the first such tensor. */
static bool has_biases(const lt_family *f, reader *r, lt_when when, bool dflt) {
    for (size_t i = 0; i < f->n_tensors; i++)
        if (f->tensors[i].has_bias && f->tensors[i].bias == when)
            return tensor_of(f, r, f->tensors[i].slot, ".bias") != NULL;
    return dflt;
}

static lt_status read_widths(const lt_family *f, lt_config *c, lt_layer_config *l, reader *r, lt_err *err) {
    const lt_tensor *embed = tensor_of(f, r, LT_SLOT_EMBED, ".weight");
    if (!embed || embed->rank != 2)
        return lt_fail(err, LT_EDATA, "tensor is missing or not a matrix (%s: token_embd.weight)", r->path);
    c->vocab_size = embed->size[0];
    if (c->vocab_size == 0 || c->vocab_size > INT32_MAX)
        return lt_fail(err, LT_EDATA, "vocabulary is outside 1..%d (%s: token_embd.weight: %zu)", INT32_MAX, r->path,
                       c->vocab_size);
    LT_TRY(width(&c->d_model, r, "embedding_length", 0, err));
    LT_TRY(width(&c->n_layers, r, "block_count", 0, err));
    LT_TRY(width(&c->max_positions, r, "context_length", 0, err));
    LT_TRY(width(&l->d_ff, r, "feed_forward_length", 0, err));
    c->d_embed = c->d_model;
    return LT_OK;
}

static lt_status read_heads(const lt_family *f, lt_config *c, lt_layer_config *l, reader *r, lt_err *err) {
    LT_TRY(width(&l->n_q_heads, r, "attention.head_count", 0, err));
    LT_TRY(width(&l->n_k_heads, r, "attention.head_count_kv", l->n_q_heads, err));
    l->n_v_heads = l->n_k_heads;
    if (c->d_model % l->n_q_heads != 0 && !lt_gguf_has(r->g, key_of(r, "attention.key_length")))
        return lt_fail(err, LT_EDATA, "%s is not a multiple of head_count (%s: %zu, %zu)",
                       key_of(r, "embedding_length"), r->path, c->d_model, l->n_q_heads);
    LT_TRY(width(&l->qk_dim, r, "attention.key_length", lt_max_size(1, c->d_model / l->n_q_heads), err));
    LT_TRY(width(&l->v_dim, r, "attention.value_length", l->qk_dim, err));
    LT_TRY(width(&c->rope[0].dim, r, "rope.dimension_count", l->qk_dim, err));
    if (l->v_dim != l->qk_dim || (c->rope[0].dim != l->qk_dim && !f->config.rotary_part))
        return lt_fail(err, LT_EUNSUPPORTED,
                       "key_length, value_length and rope.dimension_count differ (%s: %zu, %zu, %zu)", r->path,
                       l->qk_dim, l->v_dim, c->rope[0].dim);
    if (!f->config.theta) c->rope[0].dim = 0; /* nothing rotates */
    if (c->rope[0].dim <= l->qk_dim) return LT_OK;
    return lt_fail(err, LT_EDATA, "%s is above the width of a head (%s: %zu, %zu)", key_of(r, "rope.dimension_count"),
                   r->path, c->rope[0].dim, l->qk_dim);
}

/* ---- rope ---- */

static lt_status rope_factors(lt_rope_config *rope, const lt_tensor *t, const char *path, lt_err *err) {
    const size_t n = rope->dim / 2;
    if (lt_tensor_count(t) != n || t->rank != 1)
        return lt_fail(err, LT_EDATA, "wrong size for %zu rotary frequencies (%s: rope_freqs.weight: %zu)", n, path,
                       lt_tensor_count(t));
    if (t->dtype != LT_F32) return lt_fail(err, LT_EUNSUPPORTED, "dtype is not f32 (%s: rope_freqs.weight)", path);
    float *factor = lt_malloc(n * sizeof *factor);
    if (!factor) return lt_fail(err, LT_ENOMEM, "out of memory (%s: rope_freqs.weight)", path);
    lt_tensor_row_f32(factor, t, 0, 0, n);
    const bool fits = lt_rope_fit_llama3(rope, factor, n);
    lt_free(factor);
    return fits ? LT_OK
                : lt_fail(err, LT_EUNSUPPORTED, "factors are not those of the llama3 rule (%s: rope_freqs.weight)",
                          path);
}

static lt_status refuse_long_factors(reader *r, lt_err *err) {
    static const char *const names[] = { "rope_factors_long.weight", "rope_factors_short.weight" };
    for (size_t i = 0; i < LT_COUNTOF(names); i++)
        if (lt_gguf_find(r->g, names[i]))
            return lt_fail(err, LT_EUNSUPPORTED, "longrope is not supported (%s: %s)", r->path, names[i]);
    return LT_OK;
}

/* llama.cpp multiplies its attention factor by the one that follows from the scaling (ggml, rope_yarn). */
static lt_status read_yarn(lt_rope_config *rope, reader *r, size_t max_positions, lt_err *err) {
    static const char *const refused[] = { "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor",
                                           "rope.scaling.yarn_log_multiplier" };
    double attn = 1.0;
    size_t original;
    for (size_t i = 0; i < LT_COUNTOF(refused); i++)
        if (lt_gguf_has(r->g, key_of(r, refused[i])))
            return lt_fail(err, LT_EUNSUPPORTED, "%s is not supported (%s)", r->key, r->path);
    LT_TRY(width(&original, r, "rope.scaling.original_context_length", max_positions, err));
    LT_TRY(positive(&rope->beta_fast, r, "rope.scaling.yarn_beta_fast", 32.0, err));
    LT_TRY(positive(&rope->beta_slow, r, "rope.scaling.yarn_beta_slow", 1.0, err));
    LT_TRY(positive(&attn, r, "rope.scaling.attn_factor", 1.0, err));
    if (rope->theta <= 1.0 || rope->beta_fast < rope->beta_slow)
        return lt_fail(err, LT_EDATA, "yarn scaling is contradictory (%s: base %g, betas %g, %g)", r->path, rope->theta,
                       rope->beta_fast, rope->beta_slow);
    rope->original_max_positions = (double)original;
    rope->truncate = true;
    rope->attention_factor = attn * (rope->factor > 1.0 ? 1.0 + 0.1 * log(rope->factor) : 1.0);
    return LT_OK;
}

/* A missing type with a factor is linear. */
static lt_status scaling_kind(lt_rope_config *rope, reader *r, lt_err *err) {
    static const struct {
        const char *name;
        lt_rope_kind kind;
    } kinds[] = { { "none", LT_ROPE_DEFAULT }, { "linear", LT_ROPE_LINEAR }, { "yarn", LT_ROPE_YARN } };
    const char *type = lt_gguf_string(r->g, key_of(r, "rope.scaling.type"), NULL);
    if (!type) type = "linear";
    for (size_t i = 0; i < LT_COUNTOF(kinds); i++) {
        if (strcmp(kinds[i].name, type) != 0) continue;
        rope->kind = rope->factor == 1.0 ? LT_ROPE_DEFAULT : kinds[i].kind;
        return LT_OK;
    }
    return lt_fail(err, LT_EUNSUPPORTED, "%s is none of none, linear, yarn (%s: %s)", r->key, r->path, type);
}

static lt_status read_rope(lt_rope_config *rope, reader *r, const lt_family *f, size_t max_positions, lt_err *err) {
    const lt_tensor *factors = lt_gguf_find(r->g, "rope_freqs.weight");
    LT_TRY(refuse_long_factors(r, err));
    LT_TRY(positive(&rope->theta, r, "rope.freq_base", f->config.missing_theta, err));
    LT_TRY(positive(&rope->factor, r,
                    lt_gguf_has(r->g, key_of(r, "rope.scaling.factor")) ? "rope.scaling.factor" : "rope.scale_linear",
                    1.0, err));
    rope->attention_factor = 1.0;
    LT_TRY(scaling_kind(rope, r, err));
    if (rope->kind == LT_ROPE_YARN) LT_TRY(read_yarn(rope, r, max_positions, err));
    if (rope->kind == LT_ROPE_DEFAULT) rope->factor = 0.0;
    if (rope->kind != LT_ROPE_DEFAULT && f->config.rotary_plain)
        return lt_fail(err, LT_EUNSUPPORTED, "rotary scaling is not supported in this family (%s: %s)", r->path,
                       lt_rope_kind_name(rope->kind));
    if (!factors) return LT_OK;
    if (rope->kind != LT_ROPE_DEFAULT)
        return lt_fail(err, LT_EUNSUPPORTED, "rope_freqs.weight together with %s scaling (%s)",
                       lt_rope_kind_name(rope->kind), r->path);
    return rope_factors(rope, factors, r->path, err);
}

static lt_status read_ropes(const lt_family *f, lt_config *c, reader *r, lt_err *err) {
    if (!f->config.theta) return LT_OK;
    LT_TRY(read_rope(&c->rope[0], r, f, c->max_positions, err));
    c->n_ropes = 1;
    if (!f->config.local_rope) return LT_OK;
    c->rope[1] = (lt_rope_config){ .dim = c->rope[0].dim, .attention_factor = 1.0 };
    c->n_ropes = 2;
    return positive(&c->rope[1].theta, r, "rope.freq_base_swa",
                    f->config.local_theta ? f->config.missing_local_theta : c->rope[0].theta, err);
}

/* ---- layers that slide ---- */

static lt_status read_window(const lt_family *f, lt_config *c, size_t *window, reader *r, lt_err *err) {
    const char *key = key_of(r, "attention.sliding_window");
    uint64_t w = 0;
    if (lt_gguf_has(r->g, key) && !lt_gguf_u64(r->g, key, &w))
        return lt_fail(err, LT_EUNSUPPORTED, "%s is not one number (%s)", key, r->path);
    *window = (size_t)w;
    if (w == 0) return LT_OK;
    if (w > INT32_MAX || !f->config.window)
        return lt_fail(err, LT_EUNSUPPORTED, "a sliding window is not supported here (%s: %s: %llu)", r->path, key,
                       (unsigned long long)w);
    /* only the pattern of alternating layers is the architecture's own; a window of any other is that of all layers */
    const size_t nth = f->config.rule == LT_LAYERS_SLIDE_BUT_NTH ? f->config.missing_nth : 0;
    for (size_t i = 0; i < c->n_layers; i++)
        if (lt_family_slides_by_rule(f, i, nth)) lt_family_slide(f, c, i, *window);
    return LT_OK;
}

/* ---- the head ---- */

static lt_status read_softcap(const lt_family *f, lt_config *c, reader *r, lt_err *err) {
    double cap = 0.0;
    const char *key = key_of(r, "final_logit_softcapping");
    if (lt_gguf_has(r->g, key) && !(lt_gguf_f64(r->g, key, &cap) && cap >= 0.0 && isfinite(cap)))
        return lt_fail(err, LT_EDATA, "%s is not a positive number (%s: %g)", key, r->path, cap);
    if (cap > 0.0 && !f->config.logit_softcap)
        return lt_fail(err, LT_EUNSUPPORTED, "%s is not supported in this family (%s: %g)", key, r->path, cap);
    c->logit_softcap = shortest(cap);
    return LT_OK;
}

/* ---- what is not done ---- */

static lt_status refuse(const lt_family *f, reader *r, lt_err *err) {
    static const char *const ends[] = { "expert_count",        "attn_logit_softcapping",   "logit_scale",
                                        "embedding_scale",     "residual_scale",           "attention.scale",
                                        "attention.clamp_kqv", "attention.max_alibi_bias", "rope.dimension_count_swa" };
    for (size_t i = 0; i < LT_COUNTOF(ends); i++) {
        double v = 0.0;
        if (lt_gguf_has(r->g, key_of(r, ends[i])) && (!lt_gguf_f64(r->g, r->key, &v) || v != 0.0))
            return lt_fail(err, LT_EUNSUPPORTED, "%s is not supported (%s: %g)", r->key, r->path, v);
    }
    uint64_t nth = 0;
    if (!lt_gguf_has(r->g, key_of(r, "attention.sliding_window_pattern"))) return LT_OK;
    if (lt_gguf_u64(r->g, r->key, &nth) && nth == f->config.missing_nth) return LT_OK;
    return lt_fail(err, LT_EUNSUPPORTED, "%s is not the pattern of %s (%s)", r->key, f->name, r->path);
}

/* ---- the config.json of it ---- */

static void read_stops(lt_config *c, const lt_gguf *g) {
    uint64_t id;
    c->bos = lt_gguf_u64(g, "tokenizer.ggml.bos_token_id", &id) && id <= INT32_MAX ? (int32_t)id : -1;
    c->n_eos = lt_gguf_u64(g, "tokenizer.ggml.eos_token_id", &id) && id <= INT32_MAX ? 1 : 0;
    c->eos[0] = c->n_eos ? (int32_t)id : -1;
}

static json_t *id_or_null(bool there, int64_t id) {
    return there ? json_integer(id) : json_null();
}

/* The part of a head that rotates, so that a reader who cuts part * head_dim to an integer gets dim. */
static double part_of(size_t dim, size_t head_dim) {
    const double part = (double)dim / (double)head_dim;
    return (size_t)((double)head_dim * part) == dim ? part : nextafter(part, 2.0);
}

static int set_rope(json_t *j, const lt_family *f, const lt_config *c) {
    const lt_config_row *r = &f->config;
    int bad = json_object_set_new(j, r->theta, json_real(c->rope[0].theta));
    bad |= json_object_set_new(j, "rope_scaling", lt_rope_write(&c->rope[0]));
    if (r->rotary_part)
        bad |= json_object_set_new(j, r->rotary_part, json_real(part_of(c->rope[0].dim, c->layer[0].qk_dim)));
    if (r->local_theta) bad |= json_object_set_new(j, r->local_theta, json_real(c->rope[1].theta));
    return bad;
}

static int set_window(json_t *j, const lt_config_row *r, size_t window) {
    int bad = json_object_set_new(j, r->window, window ? json_integer((json_int_t)window) : json_null());
    if (r->window_switch) bad |= json_object_set_new(j, r->window_switch, json_boolean(window > 0));
    return bad;
}

/* The config.json that a stock loader would have had; widths are set by the writer as for any other model. */
static json_t *make_raw(const lt_family *f, const lt_config *c, size_t window, const lt_gguf *g) {
    const lt_config_row *r = &f->config;
    uint64_t pad = 0;
    const bool has_pad = lt_gguf_u64(g, "tokenizer.ggml.padding_token_id", &pad) && pad <= INT32_MAX;
    json_t *j =
        json_pack("{s:[s], s:s, s:s, s:f, s:o, s:o, s:o, s:f, s:f, s:s, s:b}", "architectures", f->architecture,
                  "model_type", f->model_types[0], r->act, lt_act_hf_name(c->act), r->norm_eps, c->norm_eps,
                  "bos_token_id", id_or_null(c->bos >= 0, c->bos), "eos_token_id", id_or_null(c->n_eos > 0, c->eos[0]),
                  "pad_token_id", id_or_null(has_pad, (int64_t)pad), "attention_dropout", 0.0, "initializer_range",
                  0.02, "torch_dtype", "bfloat16", "use_cache", 1);
    int bad = j == NULL;
    if (r->theta) bad |= set_rope(j, f, c);
    if (r->window) bad |= set_window(j, r, window);
    if (c->logit_softcap > 0.0) bad |= json_object_set_new(j, r->logit_softcap, json_real(c->logit_softcap));
    if (!bad) return j;
    json_decref(j);
    return NULL;
}

static lt_status finish_raw(const lt_family *f, lt_config *c, size_t window, reader *r, lt_err *err) {
    json_t *full;
    c->raw = make_raw(f, c, window, r->g);
    if (!c->raw) return lt_fail(err, LT_ENOMEM, "out of memory (%s: config)", r->path);
    LT_TRY(lt_family_write_config(f, &full, c, err));
    json_decref(c->raw);
    c->raw = full;
    if (f->gguf_rest) LT_TRY(f->gguf_rest(c->raw, c, r->g, err));
    return f->read_rest ? f->read_rest(c, c->raw, r->path, err) : LT_OK;
}

lt_status lt_family_read_gguf(const lt_family *f, lt_config *c, const lt_gguf *g, lt_err *err) {
    const lt_config_row *row = &f->config;
    reader r = { .g = g, .arch = lt_gguf_string(g, "general.architecture", NULL), .path = lt_gguf_path(g) };
    lt_layer_config l = { 0 };
    size_t window;
    if (!r.arch) return lt_fail(err, LT_EDATA, "metadata is missing (%s: general.architecture)", r.path);
    LT_TRY(refuse(f, &r, err));
    c->block = f->block;
    c->embed_scale = c->logit_scale = 1.0;
    c->final_norm = true;
    LT_TRY(read_widths(f, c, &l, &r, err));
    LT_TRY(read_heads(f, c, &l, &r, err));
    LT_TRY(
        positive(&c->norm_eps, &r,
                 f->block.norm == LT_NORM_LAYER ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
                 row->missing_eps, err));
    if (!lt_act_find(row->missing_act, &c->act))
        return lt_fail(err, LT_EINTERNAL, "family %s has no activation", f->name);
    LT_TRY(read_softcap(f, c, &r, err));
    c->tied = !tensor_of(f, &r, LT_SLOT_HEAD, ".weight");
    c->attn_bias = has_biases(f, &r, LT_IF_ATTN_BIAS, row->missing_attn_bias);
    c->mlp_bias = has_biases(f, &r, LT_IF_MLP_BIAS, row->missing_mlp_bias);
    LT_TRY(read_ropes(f, c, &r, err));
    read_stops(c, g);
    LT_TRY(lt_family_make_layers(f, c, &l, r.path, err));
    LT_TRY(read_window(f, c, &window, &r, err));
    return finish_raw(f, c, window, &r, err);
}
