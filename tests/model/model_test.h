/* SPDX-License-Identifier: Apache-2.0 */
/* tests/model/model_test.h - small LLaMA checkpoints made on the spot, as folders or GGUF, whole or broken; and
 * one-call forward passes. */
#ifndef LT_TESTS_MODEL_TEST_H
#define LT_TESTS_MODEL_TEST_H

#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "model/generate.h"
#include "model/overlay.h"
#include "model/runner.h"
#include "model/save.h"

typedef struct tm_spec {
    size_t vocab, d, layers, heads, kv, head_dim, ff, positions;
    bool tied, attn_bias, mlp_bias;
    const char *extra; /* members of config.json, each with a leading comma; NULL: none */
} tm_spec;
/* odd on purpose: nothing is a multiple of a vector, heads x head_dim differs from d */
#define TM_ODD                                                                                                         \
    ((tm_spec){ .vocab = 61,                                                                                           \
                .d = 22,                                                                                               \
                .layers = 3,                                                                                           \
                .heads = 6,                                                                                            \
                .kv = 2,                                                                                               \
                .head_dim = 10,                                                                                        \
                .ff = 37,                                                                                              \
                .positions = 640,                                                                                      \
                .tied = true })
#define TM_BIAS                                                                                                        \
    ((tm_spec){ .vocab = 53,                                                                                           \
                .d = 20,                                                                                               \
                .layers = 2,                                                                                           \
                .heads = 3,                                                                                            \
                .kv = 1,                                                                                               \
                .head_dim = 8,                                                                                         \
                .ff = 24,                                                                                              \
                .positions = 128,                                                                                      \
                .attn_bias = true,                                                                                     \
                .mlp_bias = true })

typedef struct tm_tensor {
    char name[192];
    lt_dtype dtype;
    int rank;
    size_t size[2];
    float *data;
} tm_tensor;
typedef struct tm {
    tm_spec spec;
    tm_tensor t[192];
    size_t n;
    char *config;
} tm;

/* ---- building ---- */

static inline tm_tensor *tm_add(tm *m, const char *name, size_t rows, size_t cols, float mean, float sd, lt_rng *r) {
    assert_true(m->n < LT_COUNTOF(m->t));
    tm_tensor *t = &m->t[m->n++];
    const size_t n = rows * (cols ? cols : 1);
    snprintf(t->name, sizeof t->name, "%s", name);
    t->dtype = LT_F32;
    t->rank = cols ? 2 : 1;
    t->size[0] = rows;
    t->size[1] = cols;
    t->data = malloc(n * sizeof(float));
    assert_non_null(t->data);
    test_fill_normal(t->data, n, r);
    for (size_t i = 0; i < n; i++) t->data[i] = mean + sd * t->data[i];
    return t;
}

static inline tm_tensor *tm_find(tm *m, const char *name) {
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->t[i].name, name) == 0) return &m->t[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static inline void tm_remove(tm *m, const char *name) {
    tm_tensor *t = tm_find(m, name);
    free(t->data);
    *t = m->t[--m->n];
}

static inline void tm_linear(tm *m, const char *module, size_t out, size_t in, bool bias, lt_rng *r) {
    char name[192];
    snprintf(name, sizeof name, "%s.weight", module);
    tm_add(m, name, out, in, 0.0f, 0.25f, r);
    snprintf(name, sizeof name, "%s.bias", module);
    if (bias) tm_add(m, name, out, 0, 0.0f, 0.2f, r);
}

static inline void tm_layer(tm *m, size_t l, lt_rng *r) {
    const tm_spec *s = &m->spec;
    char p[48], name[128];
    const struct {
        const char *module;
        size_t out, in;
        bool bias;
    } rows[] = {
        { "self_attn.q_proj", s->heads * s->head_dim, s->d, s->attn_bias },
        { "self_attn.k_proj", s->kv * s->head_dim, s->d, s->attn_bias },
        { "self_attn.v_proj", s->kv * s->head_dim, s->d, s->attn_bias },
        { "self_attn.o_proj", s->d, s->heads * s->head_dim, s->attn_bias },
        { "mlp.gate_proj", s->ff, s->d, s->mlp_bias },
        { "mlp.up_proj", s->ff, s->d, s->mlp_bias },
        { "mlp.down_proj", s->d, s->ff, s->mlp_bias },
    };
    snprintf(p, sizeof p, "model.layers.%zu", l);
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        snprintf(name, sizeof name, "%s.%s", p, rows[i].module);
        tm_linear(m, name, rows[i].out, rows[i].in, rows[i].bias, r);
    }
    snprintf(name, sizeof name, "%s.input_layernorm.weight", p);
    tm_add(m, name, s->d, 0, 1.0f, 0.1f, r);
    snprintf(name, sizeof name, "%s.post_attention_layernorm.weight", p);
    tm_add(m, name, s->d, 0, 1.0f, 0.1f, r);
}

static inline char *tm_config(const tm_spec *s) {
    char *text = lt_asprintf(
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": %zu, "
        "\"intermediate_size\": %zu, "
        "\"num_hidden_layers\": %zu, \"num_attention_heads\": %zu, \"num_key_value_heads\": %zu, \"head_dim\": %zu, "
        "\"vocab_size\": %zu, \"max_position_embeddings\": %zu, \"rms_norm_eps\": 1e-05, \"hidden_act\": \"silu\", "
        "\"tie_word_embeddings\": %s, \"attention_bias\": %s, \"mlp_bias\": %s, \"bos_token_id\": 1, \"eos_token_id\": "
        "2, "
        "\"torch_dtype\": \"float32\"%s}",
        s->d, s->ff, s->layers, s->heads, s->kv, s->head_dim, s->vocab, s->positions, s->tied ? "true" : "false",
        s->attn_bias ? "true" : "false", s->mlp_bias ? "true" : "false", s->extra ? s->extra : "");
    assert_non_null(text);
    return text;
}

static inline tm *tm_build(tm_spec s, uint32_t seed) {
    tm *m = calloc(1, sizeof *m);
    assert_non_null(m);
    lt_rng r = test_rng(seed);
    m->spec = s;
    tm_add(m, "model.embed_tokens.weight", s.vocab, s.d, 0.0f, 0.5f, &r);
    for (size_t l = 0; l < s.layers; l++) tm_layer(m, l, &r);
    tm_add(m, "model.norm.weight", s.d, 0, 1.0f, 0.1f, &r);
    if (!s.tied) tm_linear(m, "lm_head", s.vocab, s.d, false, &r);
    m->config = tm_config(&s);
    return m;
}

static inline void tm_free(tm *m) {
    for (size_t i = 0; i < m->n; i++) free(m->t[i].data);
    lt_free(m->config);
    free(m);
}

/* module.weight becomes two factors with these names (" A" and B of the form); their product is the new dense weight
 * when dense is not NULL. */
static inline void tm_factor(tm *m, const char *module, size_t rank, const char *a_name, const char *b_name,
                             uint32_t seed) {
    char name[192];
    snprintf(name, sizeof name, "%s.weight", module);
    const tm_tensor *t = tm_find(m, name);
    const size_t out = t->size[0], in = t->size[1];
    lt_rng r = test_rng(seed);
    tm_remove(m, name);
    tm_add(m, a_name, out, rank, 0.0f, 0.5f, &r);
    tm_add(m, b_name, rank, in, 0.0f, 0.5f, &r);
}

/* ---- writing ---- */

static inline void tm_write_tensors(const tm *m, const char *path, size_t shard, size_t n_shards) {
    lt_err err = { 0 };
    lt_st_writer *w;
    assert_ok(lt_st_writer_create(&w, path, &err), &err);
    for (size_t i = 0; i < m->n; i++)
        if (i % n_shards == shard)
            assert_ok(lt_st_writer_declare(w, m->t[i].name, m->t[i].dtype, m->t[i].rank, m->t[i].size, &err), &err);
    assert_ok(lt_st_writer_begin(w, &err), &err);
    for (size_t i = 0; i < m->n; i++) {
        const tm_tensor *t = &m->t[i];
        if (i % n_shards != shard) continue;
        const size_t n = t->size[0] * (t->rank == 2 ? t->size[1] : 1), bytes = n * lt_dtype_get(t->dtype)->bytes;
        void *out = calloc(1, bytes);
        assert_non_null(out);
        if (lt_dtype_get(t->dtype)->from_f32) lt_dtype_get(t->dtype)->from_f32(out, t->data, n);
        assert_ok(lt_st_writer_bytes(w, out, bytes, &err), &err);
        free(out);
    }
    assert_ok(lt_st_writer_commit(w, &err), &err);
}

static inline void tm_write_text(const char *dir, const char *name, const char *text) {
    char *path = lt_path_join(dir, name);
    test_write_file(path, text, strlen(text));
    lt_free(path);
}

/* A folder of the running test's own; shards 1: model.safetensors. */
static inline const char *tm_write(const tm *m, const char *name, size_t shards) {
    const char *dir = test_path(name);
    lt_err err = { 0 };
    assert_ok(lt_remove_tree(dir, &err), &err);
    assert_ok(lt_make_dirs(dir, &err), &err);
    tm_write_text(dir, "config.json", m->config);
    json_t *map = json_object();
    for (size_t s = 0; s < shards; s++) {
        char file[64];
        snprintf(file, sizeof file, shards == 1 ? "model.safetensors" : "model-%05zu-of-%05zu.safetensors", s + 1,
                 shards);
        char *path = lt_path_join(dir, file);
        tm_write_tensors(m, path, s, shards);
        for (size_t i = s; i < m->n; i += shards) json_object_set_new(map, m->t[i].name, json_string(file));
        lt_free(path);
    }
    if (shards > 1) {
        json_t *index = json_pack("{s:{}, s:O}", "metadata", "weight_map", map);
        char *text = json_dumps(index, 0);
        tm_write_text(dir, "model.safetensors.index.json", text);
        free(text);
        json_decref(index);
    }
    json_decref(map);
    return dir;
}

static inline lt_model *tm_open(const char *dir) {
    lt_err err = { 0 };
    lt_model *m;
    assert_ok(lt_model_open(&m, dir, &err), &err);
    return m;
}

/* ---- GGUF: just enough of a writer ---- */

typedef struct tm_bytes {
    unsigned char *data;
    size_t n, cap;
} tm_bytes;

static inline void tm_put(tm_bytes *b, const void *data, size_t n) {
    if (b->n + n > b->cap) {
        b->cap = 2 * (b->n + n);
        b->data = realloc(b->data, b->cap);
        assert_non_null(b->data);
    }
    memcpy(b->data + b->n, data, n);
    b->n += n;
}
static inline void tm_put_u32(tm_bytes *b, uint32_t v) {
    tm_put(b, &v, 4);
}
static inline void tm_put_u64(tm_bytes *b, uint64_t v) {
    tm_put(b, &v, 8);
}
static inline void tm_put_text(tm_bytes *b, const char *s) {
    tm_put_u64(b, strlen(s));
    tm_put(b, s, strlen(s));
}
static inline void tm_kv_u32(tm_bytes *b, const char *key, uint32_t v) {
    tm_put_text(b, key);
    tm_put_u32(b, 4);
    tm_put_u32(b, v);
}
static inline void tm_kv_f32(tm_bytes *b, const char *key, float v) {
    tm_put_text(b, key);
    tm_put_u32(b, 6);
    tm_put(b, &v, 4);
}
static inline void tm_kv_text(tm_bytes *b, const char *key, const char *v) {
    tm_put_text(b, key);
    tm_put_u32(b, 8);
    tm_put_text(b, v);
}

static inline void tm_gguf_name(char *buf, size_t cap, const char *hf) {
    static const char *const parts[][2] = {
        { "self_attn.q_proj", "attn_q" },
        { "self_attn.k_proj", "attn_k" },
        { "self_attn.v_proj", "attn_v" },
        { "self_attn.o_proj", "attn_output" },
        { "mlp.gate_proj", "ffn_gate" },
        { "mlp.up_proj", "ffn_up" },
        { "mlp.down_proj", "ffn_down" },
        { "input_layernorm", "attn_norm" },
        { "post_attention_layernorm", "ffn_norm" },
    };
    size_t layer;
    char rest[128];
    snprintf(buf, cap, "%s",
             strncmp(hf, "model.embed", 11) == 0  ? "token_embd.weight"
             : strncmp(hf, "model.norm", 10) == 0 ? "output_norm.weight"
             : strncmp(hf, "lm_head", 7) == 0     ? "output.weight"
                                                  : hf);
    if (sscanf(hf, "model.layers.%zu.%127s", &layer, rest) != 2) return;
    for (size_t i = 0; i < LT_COUNTOF(parts); i++) {
        const size_t n = strlen(parts[i][0]);
        if (strncmp(rest, parts[i][0], n) == 0) snprintf(buf, cap, "blk.%zu.%s%s", layer, parts[i][1], rest + n);
    }
}

/* Rows of q and k go to interleaved order, as convert_hf_to_gguf.py leaves them. */
static inline float *tm_gguf_rows(const tm *m, const tm_tensor *t) {
    const size_t cols = t->rank == 2 ? t->size[1] : 1, hd = m->spec.head_dim;
    const bool permuted = strstr(t->name, "q_proj") || strstr(t->name, "k_proj");
    float *out = malloc(t->size[0] * cols * sizeof(float));
    assert_non_null(out);
    for (size_t r = 0; r < t->size[0]; r++) {
        const size_t h = r / hd, s = r % hd / (hd / 2), j = r % (hd / 2), to = permuted ? h * hd + 2 * j + s : r;
        memcpy(out + to * cols, t->data + r * cols, cols * sizeof(float));
    }
    return out;
}

/* matrices in dtype t, vectors f32; factors: rope_freqs.weight [n_factors] or NULL; more: further metadata (n_more
 * pairs) */
static inline const char *tm_write_gguf(const tm *m, const char *name, lt_dtype t, const float *factors,
                                        size_t n_factors, const tm_bytes *more, size_t n_more) {
    const tm_spec *s = &m->spec;
    tm_bytes head = { 0 }, data = { 0 };
    tm_put(&head, "GGUF", 4);
    tm_put_u32(&head, 3);
    tm_put_u64(&head, m->n + (factors ? 1 : 0));
    tm_put_u64(&head, 13 + n_more);
    tm_kv_text(&head, "general.architecture", "llama");
    tm_kv_u32(&head, "llama.block_count", (uint32_t)s->layers);
    tm_kv_u32(&head, "llama.context_length", (uint32_t)s->positions);
    tm_kv_u32(&head, "llama.embedding_length", (uint32_t)s->d);
    tm_kv_u32(&head, "llama.feed_forward_length", (uint32_t)s->ff);
    tm_kv_u32(&head, "llama.attention.head_count", (uint32_t)s->heads);
    tm_kv_u32(&head, "llama.attention.head_count_kv", (uint32_t)s->kv);
    tm_kv_u32(&head, "llama.attention.key_length", (uint32_t)s->head_dim);
    tm_kv_u32(&head, "llama.attention.value_length", (uint32_t)s->head_dim);
    tm_kv_f32(&head, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    tm_kv_f32(&head, "llama.rope.freq_base", 10000.0f);
    tm_kv_u32(&head, "tokenizer.ggml.bos_token_id", 1);
    tm_kv_u32(&head, "tokenizer.ggml.eos_token_id", 2);
    if (more) tm_put(&head, more->data, more->n);
    for (size_t i = 0; i < m->n + (factors ? 1 : 0); i++) {
        const tm_tensor f = { .name = "rope_freqs.weight", .rank = 1, .size = { n_factors } },
                        *x = i < m->n ? &m->t[i] : &f;
        const lt_dtype dt = x->rank == 2 ? t : LT_F32;
        char gguf[256];
        tm_gguf_name(gguf, sizeof gguf, x->name);
        tm_put_text(&head, gguf);
        tm_put_u32(&head, (uint32_t)x->rank);
        if (x->rank == 2) tm_put_u64(&head, x->size[1]);
        tm_put_u64(&head, x->size[0]);
        tm_put_u32(&head, (uint32_t)lt_dtype_get(dt)->gguf);
        tm_put_u64(&head, data.n);
        const size_t n = x->size[0] * (x->rank == 2 ? x->size[1] : 1);
        const size_t bytes = n / lt_dtype_get(dt)->block * lt_dtype_get(dt)->bytes, padded = (bytes + 31) / 32 * 32;
        unsigned char *out = calloc(1, padded + 1);
        float *rows = i < m->n ? tm_gguf_rows(m, x) : NULL;
        lt_dtype_get(dt)->from_f32(out, rows ? rows : factors, n);
        tm_put(&data, out, padded);
        free(out);
        free(rows);
    }
    static const unsigned char zero[32];
    tm_put(&head, zero, (32 - head.n % 32) % 32);
    tm_put(&head, data.data, data.n);
    const char *path = test_path(name);
    test_write_file(path, head.data, head.n);
    free(head.data);
    free(data.data);
    return path;
}

/* ---- running ---- */

static inline lt_team *tm_team(int threads) {
    lt_team *t;
    lt_err err = { 0 };
    assert_ok(lt_team_create(&t, threads, NULL, &err), &err);
    return t;
}

static inline void tm_ids(int32_t *ids, size_t n, size_t vocab, uint32_t seed) {
    lt_rng r = test_rng(seed);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)lt_rng_below(&r, vocab);
}

/* Logits [n_rows, vocab] of a batch; free() */
static inline float *tm_logits_of(const lt_model *m, lt_team *team, const lt_batch *batch) {
    lt_err err = { 0 };
    lt_exec *x;
    assert_ok(lt_exec_create(&x, team, NULL, &err), &err);
    lt_exec_begin(x, batch);
    const lt_var y = lt_model_logits(x, m, lt_model_hidden(x, m));
    assert_ok(lt_exec_status(x, &err), &err);
    const size_t n = batch->n_rows * m->config.vocab_size;
    float *out = malloc(n * sizeof *out);
    assert_non_null(out);
    memcpy(out, lt_data(x, y), n * sizeof *out);
    lt_exec_destroy(x);
    return out;
}

/* One document. */
static inline float *tm_logits(const lt_model *m, lt_team *team, const int32_t *ids, size_t n) {
    const lt_piece piece = { .n = n, .parent = -1 };
    const lt_batch batch = { .n_rows = n, .n_pieces = 1, .ids = ids, .piece = &piece };
    return tm_logits_of(m, team, &batch);
}

#endif
