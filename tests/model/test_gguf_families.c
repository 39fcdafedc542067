/* SPDX-License-Identifier: Apache-2.0 */
/* A GGUF of each architecture that llama.cpp has is the golden checkpoint again: files made here as
 * convert_hf_to_gguf.py maps them (names, transposition of Conv1D, rows of q and k, parts of NeoX's matrix, norms plus
 * one), by code of this test's own. llama.cpp itself gave the same logits on such files, to its f16 cache. */
#include "model_test.h"

#include "io/gguf_writer.h"

typedef struct number {
    const char *key;
    double value;
    bool real;
} number;

typedef struct gguf_case {
    const char *folder, *arch;
    const char *names[20][2]; /* parts of names: Hugging Face's, llama.cpp's */
    const char *turned[4];    /* parts of names of matrices stored [in, out] */
    const char *by_head;      /* the matrix whose q, k and v alternate */
    size_t heads, head_dim;
    float norms_plus;
    number numbers[16];
    double softcap;   /* of the logits */
    bool flag;        /* gptneox.use_parallel_residual */
    bool same_logits; /* nothing that the metadata cannot say */
} gguf_case;

static void translate(char *buf, size_t cap, const gguf_case *c, const char *hf) {
    size_t layer;
    char rest[160], layered[8] = "";
    const char *at = strstr(hf, "layers.");
    if (!at) at = strstr(hf, ".h.") ? strstr(hf, ".h.") + 1 : NULL;
    snprintf(rest, sizeof rest, "%s", hf);
    if (at && sscanf(strchr(at, '.') + 1, "%zu.%159s", &layer, rest) == 2)
        snprintf(layered, sizeof layered, "%zu", layer);
    const size_t n = strlen(rest), dot = (size_t)(strrchr(rest, '.') - rest);
    for (size_t i = 0; c->names[i][0]; i++) {
        if (strlen(c->names[i][0]) != dot || strncmp(rest, c->names[i][0], dot) != 0) continue;
        snprintf(buf, cap, "%s%s%s%s%.*s", *layered ? "blk." : "", layered, *layered ? "." : "", c->names[i][1],
                 (int)(n - dot), rest + dot);
        return;
    }
    fail_msg("%s has no name in GGUF", hf);
}

static bool is_turned(const gguf_case *c, const char *name, int rank) {
    bool turned = false;
    for (size_t i = 0; i < 4 && c->turned[i]; i++) turned |= rank == 2 && strstr(name, c->turned[i]) != NULL;
    return turned;
}

/* Values as stored in the GGUF; size is changed where the matrix is turned. */
static float *transform(const gguf_case *c, const char *name, const lt_tensor *t, size_t size[2]) {
    const size_t n = lt_tensor_count(t), rows = t->size[0], cols = t->rank == 2 ? t->size[1] : 1;
    const float *v = lt_host(t);
    float *out = malloc(n * sizeof *out);
    const bool turned = is_turned(c, name, t->rank);
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < cols; k++) {
            size_t to = r * cols + k;
            if (turned) to = k * rows + r;
            if (c->by_head && strstr(name, c->by_head)) {
                const size_t h = r / (3 * c->head_dim), part = r / c->head_dim % 3, d = r % c->head_dim;
                to = ((part * c->heads + h) * c->head_dim + d) * cols + k;
            }
            out[to] = v[r * cols + k] + (strstr(name, "norm") ? c->norms_plus : 0.0f);
        }
    size[0] = turned ? cols : rows;
    size[1] = turned ? rows : cols;
    return out;
}

static void write_gguf(const gguf_case *c, const char *path, const lt_safetensors *st) {
    lt_err err = { 0 };
    lt_gguf_writer *w;
    char name[160];
    size_t size[2];
    assert_ok(lt_gguf_writer_create(&w, path, &err), &err);
    lt_gguf_put_text(w, "general.architecture", c->arch);
    for (const number *k = c->numbers; k->key; k++) {
        snprintf(name, sizeof name, "%s.%s", c->arch, k->key);
        if (k->real)
            lt_gguf_put_f32(w, name, (float)k->value);
        else
            lt_gguf_put_u32(w, name, (uint32_t)k->value);
    }
    if (strcmp(c->arch, "gptneox") == 0) lt_gguf_put_bool(w, "gptneox.use_parallel_residual", c->flag);
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) assert_ok(lt_gguf_writer_begin(w, &err), &err);
        for (size_t i = 0; i < lt_safetensors_count(st); i++) {
            const lt_st_entry *e = lt_safetensors_at(st, i);
            float *v = transform(c, e->name, &e->tensor, size);
            translate(name, sizeof name, c, e->name);
            if (pass == 0)
                lt_gguf_declare(w, name, LT_F32, e->tensor.rank, size);
            else
                assert_ok(lt_gguf_writer_bytes(w, v, lt_tensor_bytes(&e->tensor), &err), &err);
            free(v);
        }
    }
    assert_ok(lt_gguf_writer_commit(w, &err), &err);
}

/* As the folder has it, a turned matrix turned back. */
static void same_parameter(const gguf_case *c, const lt_param *p, const lt_param *q) {
    assert_string_equal(p->name, q->name);
    const size_t rows = lt_tensor_rows(&p->t), cols = lt_tensor_cols(&p->t);
    const bool turned = is_turned(c, p->name, p->t.rank);
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < cols; k++) {
            float x, y;
            lt_tensor_row_f32(&x, &p->t, r, k, 1);
            lt_tensor_row_f32(&y, &q->t, turned ? k : r, turned ? r : k, 1);
            if (!(fabsf(x - y) <= 1.2e-7f)) fail_msg("%s [%zu, %zu]: %g, %g", p->name, r, k, x, y);
        }
}

/* So have the parts of fused matrices, in whatever order a container keeps their rows. */
static void same_parts(const gguf_case *c, const lt_model *a, const lt_model *b) {
    lt_module ma, mb, pa, pb;
    for (size_t i = 0; lt_model_module(a, i, &ma); i++) {
        assert_true(lt_model_module(b, i, &mb));
        for (size_t k = 0; lt_module_part(&ma, k, &pa); k++) {
            assert_true(lt_module_part(&mb, k, &pb));
            assert_int_equal(pa.slot, pb.slot);
            same_parameter(c, &pa.linear->stage[0].w, &pb.linear->stage[0].w);
            assert_true((pa.linear->bias.name != NULL) == (pb.linear->bias.name != NULL));
            if (pa.linear->bias.name) same_parameter(c, &pa.linear->bias, &pb.linear->bias);
        }
    }
}

static void same_parameters(const gguf_case *c, const lt_model *a, const lt_model *b) {
    lt_param_info p, q;
    for (size_t i = 0; lt_model_param(a, i, &p); i++) {
        assert_true(lt_model_param(b, i, &q));
        same_parameter(c, p.param, q.param);
    }
    assert_false(lt_model_param(b, lt_model_n_params(a), &q));
}

static void same_logits(const lt_model *m, const char *dir) {
    enum { T = 24 };
    int32_t ids[T];
    lt_err err = { 0 };
    lt_safetensors *golden;
    char *path = lt_path_join(dir, "golden.safetensors");
    assert_ok(lt_safetensors_open(&golden, path, &err), &err);
    for (size_t i = 0; i < T; i++)
        ids[i] = (int32_t)((const int64_t *)lt_host(lt_safetensors_find(golden, "input_ids")))[i];
    lt_team *team = tm_team(1);
    float *y = tm_logits(m, team, ids, T);
    assert_close(y, (const float *)lt_host(lt_safetensors_find(golden, "logits")), T * m->config.vocab_size, 5e-5, 0.0);
    free(y);
    lt_team_destroy(team);
    lt_safetensors_close(golden);
    lt_free(path);
}

/* What is saved from the GGUF as a folder is the checkpoint, tensor by tensor. */
static void saved_as_the_folder(const lt_model *from, const lt_safetensors *st) {
    lt_err err = { 0 };
    lt_safetensors *saved;
    const char *dir = test_path("saved");
    assert_ok(lt_remove_tree(dir, &err), &err);
    assert_ok(lt_model_save(from, dir, &(lt_save_opts){ .form = LT_FORM_DENSE, .dtype = LT_N_DTYPES }, NULL, &err),
              &err);
    assert_ok(lt_safetensors_open(&saved, test_path("saved/model.safetensors"), &err), &err);
    assert_int_equal(lt_safetensors_count(saved), lt_safetensors_count(st));
    for (size_t i = 0; i < lt_safetensors_count(st); i++) {
        const lt_st_entry *e = lt_safetensors_at(st, i);
        const lt_tensor *t = lt_safetensors_find(saved, e->name);
        assert_true(t && t->rank == e->tensor.rank && lt_tensor_rows(t) == lt_tensor_rows(&e->tensor));
        assert_close(lt_host(t), lt_host(&e->tensor), lt_tensor_count(t), 1.2e-7, 0.0);
    }
    lt_safetensors_close(saved);
}

/* So is what was set apart in between. */
static void joined_as_the_folder(const lt_model *from, const lt_safetensors *st) {
    lt_module mod, part;
    lt_overlay *o;
    lt_err err = { 0 };
    assert_ok(lt_overlay_create(&o, from, &err), &err);
    for (size_t i = 0; lt_model_module(from, i, &mod); i++)
        if (lt_module_part(&mod, 1, &part)) assert_ok(lt_overlay_set_apart(o, part.linear->name, &err), &err);
    saved_as_the_folder(lt_overlay_model(o), st);
    lt_overlay_destroy(o);
}

static void is_the_checkpoint(void **state) {
    const gguf_case *c = *state;
    char rel[96], file[64];
    lt_err err = { 0 };
    lt_safetensors *st;
    snprintf(rel, sizeof rel, "golden/models/%s", c->folder);
    const char *dir = TEST_NEED_SHARED(rel);
    char *weights = lt_path_join(dir, "model.safetensors");
    assert_ok(lt_safetensors_open(&st, weights, &err), &err);
    snprintf(file, sizeof file, "%s.gguf", c->folder);
    write_gguf(c, test_path(file), st);
    lt_model *hf = tm_open(dir), *gguf = tm_open(test_path(file));
    assert_string_equal(gguf->family->name, hf->family->name);
    assert_true(gguf->config.tied == hf->config.tied && gguf->config.act == hf->config.act &&
                gguf->config.norm_eps == hf->config.norm_eps && gguf->config.rope[0].dim == hf->config.rope[0].dim);
    assert_true(gguf->config.logit_softcap == c->softcap &&
                json_number_value(json_object_get(gguf->config.raw, "final_logit_softcapping")) == c->softcap);
    same_parameters(c, hf, gguf);
    if (c->same_logits) same_logits(gguf, dir);
    same_parts(c, hf, gguf);
    saved_as_the_folder(gguf, st);
    joined_as_the_folder(gguf, st);
    lt_model_destroy(hf);
    lt_model_destroy(gguf);
    lt_safetensors_close(st);
    lt_free(weights);
}

#define SIZES(layers, positions, d, ff, heads)                                                                         \
    { "block_count", layers, false }, { "context_length", positions, false }, { "embedding_length", d, false },        \
        { "feed_forward_length", ff, false }, {                                                                        \
        "attention.head_count", heads, false                                                                           \
    }
#define ATTENTION                                                                                                      \
    { "self_attn.q_proj", "attn_q" }, { "self_attn.k_proj", "attn_k" }, { "self_attn.v_proj", "attn_v" }, {            \
        "self_attn.o_proj", "attn_output"                                                                              \
    }
#define ENDS                                                                                                           \
    { "model.embed_tokens", "token_embd" }, { "model.norm", "output_norm" }, {                                         \
        "lm_head", "output"                                                                                            \
    }
#define GATED                                                                                                          \
    { "mlp.gate_proj", "ffn_gate" }, { "mlp.up_proj", "ffn_up" }, {                                                    \
        "mlp.down_proj", "ffn_down"                                                                                    \
    }
#define HEAD_NORMS                                                                                                     \
    { "self_attn.q_norm", "attn_q_norm" }, {                                                                           \
        "self_attn.k_norm", "attn_k_norm"                                                                              \
    }
#define BEHIND                                                                                                         \
    { "post_attention_layernorm", "post_attention_norm" }, {                                                           \
        "post_feedforward_layernorm", "post_ffw_norm"                                                                  \
    }
#define FRONT                                                                                                          \
    { "input_layernorm", "attn_norm" }, {                                                                              \
        "post_attention_layernorm", "ffn_norm"                                                                         \
    }
#define NEOX_NAMES                                                                                                     \
    { "gpt_neox.embed_in", "token_embd" }, { "gpt_neox.final_layer_norm", "output_norm" }, { "embed_out", "output" },  \
        { "input_layernorm", "attn_norm" }, { "post_attention_layernorm", "ffn_norm" },                                \
        { "attention.query_key_value", "attn_qkv" }, { "attention.dense", "attn_output" },                             \
        { "mlp.dense_h_to_4h", "ffn_up" }, {                                                                           \
        "mlp.dense_4h_to_h", "ffn_down"                                                                                \
    }

static const gguf_case cases[] = {
    { .folder = "gpt2",
      .arch = "gpt2",
      .names = { { "transformer.wte", "token_embd" },
                 { "transformer.wpe", "position_embd" },
                 { "transformer.ln_f", "output_norm" },
                 { "ln_1", "attn_norm" },
                 { "attn.c_attn", "attn_qkv" },
                 { "attn.c_proj", "attn_output" },
                 { "ln_2", "ffn_norm" },
                 { "mlp.c_fc", "ffn_up" },
                 { "mlp.c_proj", "ffn_down" } },
      .turned = { "c_attn", "c_proj", "c_fc" },
      .numbers = { SIZES(3, 64, 40, 160, 4), { "attention.layer_norm_epsilon", 1e-5, true } },
      .same_logits = true },
    { .folder = "neox-parallel",
      .arch = "gptneox",
      .names = { NEOX_NAMES },
      .by_head = "query_key_value",
      .heads = 3,
      .head_dim = 16,
      .numbers = { SIZES(3, 128, 48, 104, 3),
                   { "attention.layer_norm_epsilon", 1e-5, true },
                   { "rope.dimension_count", 4, false } },
      .flag = true,
      .same_logits = true },
    { .folder = "neox-sequential",
      .arch = "gptneox",
      .names = { NEOX_NAMES },
      .by_head = "query_key_value",
      .heads = 2,
      .head_dim = 24,
      .numbers = { SIZES(3, 128, 48, 96, 2),
                   { "attention.layer_norm_epsilon", 1e-5, true },
                   { "rope.dimension_count", 6, false },
                   { "rope.freq_base", 5000.0, true } },
      .same_logits = true },
    { .folder = "qwen2",
      .arch = "qwen2",
      .names = { ENDS, ATTENTION, GATED, FRONT },
      .numbers = { SIZES(3, 128, 56, 96, 4),
                   { "attention.head_count_kv", 2, false },
                   { "attention.layer_norm_rms_epsilon", 1e-6, true } } },
    { .folder = "qwen3",
      .arch = "qwen3",
      .names = { ENDS, ATTENTION, GATED, FRONT, HEAD_NORMS },
      .numbers = { SIZES(3, 128, 48, 96, 4),
                   { "attention.head_count_kv", 2, false },
                   { "attention.key_length", 20, false },
                   { "attention.value_length", 20, false },
                   { "attention.layer_norm_rms_epsilon", 1e-6, true },
                   { "rope.freq_base", 100000.0, true } },
      .same_logits = true },
    { .folder = "olmo2",
      .arch = "olmo2",
      .names = { ENDS, ATTENTION, GATED, BEHIND, HEAD_NORMS },
      .numbers = { SIZES(3, 128, 48, 104, 4),
                   { "attention.head_count_kv", 2, false },
                   { "attention.layer_norm_rms_epsilon", 1e-5, true } },
      .same_logits = true },
    { .folder = "phi3",
      .arch = "phi3",
      .names = { ENDS,
                 FRONT,
                 { "self_attn.qkv_proj", "attn_qkv" },
                 { "self_attn.o_proj", "attn_output" },
                 { "mlp.gate_up_proj", "ffn_up" },
                 { "mlp.down_proj", "ffn_down" } },
      .numbers = { SIZES(3, 128, 48, 96, 4),
                   { "attention.head_count_kv", 2, false },
                   { "rope.dimension_count", 6, false },
                   { "attention.layer_norm_rms_epsilon", 1e-5, true } },
      .same_logits = true },
    /* the layers that slide and the scale of scores are the architecture's own there */
    { .folder = "gemma3-text",
      .arch = "gemma3",
      .names = { ENDS,
                 ATTENTION,
                 GATED,
                 HEAD_NORMS,
                 BEHIND,
                 { "input_layernorm", "attn_norm" },
                 { "pre_feedforward_layernorm", "ffn_norm" } },
      .norms_plus = 1.0f,
      .numbers = { SIZES(3, 128, 48, 96, 4),
                   { "attention.head_count_kv", 2, false },
                   { "attention.key_length", 16, false },
                   { "attention.value_length", 16, false },
                   { "attention.layer_norm_rms_epsilon", 1e-6, true },
                   { "attention.sliding_window", 8, false },
                   { "rope.freq_base", 100000.0, true },
                   { "final_logit_softcapping", 28.7, true } },
      .softcap = 28.7 },
};

int main(void) {
    struct CMUnitTest tests[LT_COUNTOF(cases)];
    for (size_t i = 0; i < LT_COUNTOF(cases); i++)
        tests[i] = (struct CMUnitTest){ cases[i].folder, is_the_checkpoint, NULL, NULL, (void *)&cases[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
