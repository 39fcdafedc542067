/* SPDX-License-Identifier: Apache-2.0 */
/* bench_synthetic FOLDER [layers d_model d_ff heads kv_heads vocab dtype seed]: a LLaMA-shaped checkpoint of random
 * weights.
 *
 * Matrices are N(0, 0.02), norms 1: good for memory, time and failure tests, worthless otherwise. The defaults are 3
 * GiB in bf16. */
#include "core/tensor.h"
#include "io/file.h"
#include "io/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
    size_t layers, d_model, d_ff, heads, kv_heads, vocab;
    lt_dtype dtype;
    uint64_t seed;
} shape;

typedef struct tensor_plan {
    char name[96];
    size_t rows, cols; /* cols 0: a norm of `rows` ones */
} tensor_plan;

static size_t plan_tensors(tensor_plan *t, const shape *s) {
    static const struct {
        const char *name;
        int kind;
    } parts[] = { { "input_layernorm", 0 },  { "self_attn.q_proj", 1 }, { "self_attn.k_proj", 2 },
                  { "self_attn.v_proj", 2 }, { "self_attn.o_proj", 3 }, { "post_attention_layernorm", 0 },
                  { "mlp.gate_proj", 4 },    { "mlp.up_proj", 4 },      { "mlp.down_proj", 5 } };
    const size_t head_dim = s->d_model / s->heads;
    const size_t rows[] = { s->d_model, s->d_model, s->kv_heads * head_dim, s->d_model, s->d_ff, s->d_model };
    const size_t cols[] = { 0, s->d_model, s->d_model, s->d_model, s->d_model, s->d_ff };
    size_t n = 0;
    t[n++] = (tensor_plan){ "model.embed_tokens.weight", s->vocab, s->d_model };
    for (size_t l = 0; l < s->layers; l++) {
        for (size_t i = 0; i < LT_COUNTOF(parts); i++, n++) {
            snprintf(t[n].name, sizeof t[n].name, "model.layers.%zu.%s.weight", l, parts[i].name);
            t[n].rows = rows[parts[i].kind];
            t[n].cols = cols[parts[i].kind];
        }
    }
    t[n++] = (tensor_plan){ "model.norm.weight", s->d_model, 0 };
    return n;
}

/* A cheap stand-in for a normal: the sum of four uniforms has variance 1/3. */
static float draw(uint64_t *state) {
    float sum = -2.0f;
    for (int i = 0; i < 4; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(*state >> 40) * 0x1p-24f;
    }
    return sum * 0.02f * 1.7320508f;
}

static lt_status write_tensor(lt_st_writer *w, const tensor_plan *t, const shape *s, uint64_t *state, lt_err *err) {
    const size_t cols = t->cols ? t->cols : 1, row_bytes = cols * lt_dtype_get(s->dtype)->bytes;
    float *row = lt_malloc(cols * sizeof *row);
    void *out = lt_malloc(row_bytes);
    lt_status st = row && out ? LT_OK : lt_fail(err, LT_ENOMEM, "a row of %zu values", cols);
    for (size_t r = 0; st == LT_OK && r < t->rows; r++) {
        for (size_t c = 0; c < cols; c++) row[c] = t->cols ? draw(state) : 1.0f;
        lt_dtype_get(s->dtype)->from_f32(out, row, cols);
        st = lt_st_writer_bytes(w, out, row_bytes, err);
    }
    lt_free(row);
    lt_free(out);
    return st;
}

static lt_status write_config(const char *folder, const shape *s, lt_err *err) {
    char text[1024], path[1024];
    const int n = snprintf(
        text, sizeof text,
        "{\n \"architectures\": [\"LlamaForCausalLM\"],\n \"model_type\": \"llama\",\n \"hidden_act\": \"silu\",\n"
        " \"hidden_size\": %zu,\n \"intermediate_size\": %zu,\n \"num_hidden_layers\": %zu,\n"
        " \"num_attention_heads\": %zu,\n \"num_key_value_heads\": %zu,\n \"vocab_size\": %zu,\n"
        " \"max_position_embeddings\": 4096,\n \"rms_norm_eps\": 1e-05,\n \"rope_theta\": 10000.0,\n"
        " \"tie_word_embeddings\": true,\n \"attention_bias\": false,\n \"mlp_bias\": false\n}\n",
        s->d_model, s->d_ff, s->layers, s->heads, s->kv_heads, s->vocab);
    snprintf(path, sizeof path, "%s/config.json", folder);
    return lt_file_write(path, text, (size_t)n, err);
}

static lt_status write_model(const char *folder, const shape *s, lt_err *err) {
    char path[1024];
    uint64_t state = s->seed;
    lt_st_writer *w = NULL;
    lt_status st;
    tensor_plan *t = calloc(9 * s->layers + 2, sizeof *t);
    if (!t) return lt_fail(err, LT_ENOMEM, "tensor list");
    const size_t n = plan_tensors(t, s);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    LT_GO(lt_make_dirs(folder, err));
    LT_GO(write_config(folder, s, err));
    LT_GO(lt_st_writer_create(&w, path, err));
    LT_GO(lt_st_writer_meta(w, "format", "pt", err));
    for (size_t i = 0; i < n; i++) {
        const size_t size[2] = { t[i].rows, t[i].cols };
        LT_GO(lt_st_writer_declare(w, t[i].name, s->dtype, t[i].cols ? 2 : 1, size, err));
    }
    LT_GO(lt_st_writer_begin(w, err));
    for (size_t i = 0; i < n; i++) LT_GO(write_tensor(w, &t[i], s, &state, err));
    st = lt_st_writer_commit(w, err);
    w = NULL;
done:
    lt_st_writer_abort(w);
    free(t);
    return st;
}

int main(int argc, char **argv) {
    shape s = { 30, 2048, 5632, 16, 16, 32000, LT_BF16, 1 };
    size_t *const sizes[] = { &s.layers, &s.d_model, &s.d_ff, &s.heads, &s.kv_heads, &s.vocab };
    lt_err err = { 0 };
    if (argc < 2) {
        fprintf(stderr, "usage: bench_synthetic FOLDER [layers d_model d_ff heads kv_heads vocab dtype seed]\n");
        return LT_EUSAGE;
    }
    for (int i = 2; i < argc && i < 8; i++) *sizes[i - 2] = strtoull(argv[i], NULL, 10);
    if (argc > 8 && !lt_dtype_find(argv[8], &s.dtype)) {
        fprintf(stderr, "bench_synthetic: unknown dtype %s\n", argv[8]);
        return LT_EUSAGE;
    }
    if (argc > 9) s.seed = strtoull(argv[9], NULL, 10);
    const lt_status st = write_model(argv[1], &s, &err);
    if (st != LT_OK) fprintf(stderr, "bench_synthetic: %s\n", err.message);
    return (int)st;
}
