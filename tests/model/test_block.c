/* SPDX-License-Identifier: Apache-2.0 */
/* The generic block honours every field of its row: rows of families that this program does not name yet, made here as
 * data, give the golden logits, losses and gradients of their checkpoints. */
#include "model_test.h"

#include "model/weights.h"

#define NORM(slot, name, axis)                                                                                         \
    { slot, "model.layers.%zu." name, NULL, axis, LT_AXIS_NONE, LT_ALWAYS, false, LT_ALWAYS, false, false, NULL }
#define LINEAR(slot, name, out, in)                                                                                    \
    { slot, "model.layers.%zu." name, NULL, out, in, LT_ALWAYS, false, LT_ALWAYS, false, false, NULL }
#define OUTER(slot, name, out, in, when)                                                                               \
    { slot, name, NULL, out, in, when, false, LT_ALWAYS, false, false, NULL }
#define ENDS                                                                                                           \
    OUTER(LT_SLOT_EMBED, "model.embed_tokens", LT_AXIS_VOCAB, LT_AXIS_D_MODEL, LT_ALWAYS),                             \
        OUTER(LT_SLOT_FINAL_NORM, "model.norm", LT_AXIS_D_MODEL, LT_AXIS_NONE, LT_ALWAYS),                             \
        OUTER(LT_SLOT_HEAD, "lm_head", LT_AXIS_VOCAB, LT_AXIS_D_MODEL, LT_IF_UNTIED)
#define QKVO                                                                                                           \
    LINEAR(LT_SLOT_Q, "self_attn.q_proj", LT_AXIS_Q_HEADS_QK, LT_AXIS_D_MODEL),                                        \
        LINEAR(LT_SLOT_K, "self_attn.k_proj", LT_AXIS_K_HEADS_QK, LT_AXIS_D_MODEL),                                    \
        LINEAR(LT_SLOT_V, "self_attn.v_proj", LT_AXIS_V_HEADS_V, LT_AXIS_D_MODEL),                                     \
        LINEAR(LT_SLOT_O, "self_attn.o_proj", LT_AXIS_D_MODEL, LT_AXIS_Q_HEADS_V)
#define GATED                                                                                                          \
    LINEAR(LT_SLOT_GATE, "mlp.gate_proj", LT_AXIS_D_FF, LT_AXIS_D_MODEL),                                              \
        LINEAR(LT_SLOT_UP, "mlp.up_proj", LT_AXIS_D_FF, LT_AXIS_D_MODEL),                                              \
        LINEAR(LT_SLOT_DOWN, "mlp.down_proj", LT_AXIS_D_MODEL, LT_AXIS_D_FF)
#define DOWN LINEAR(LT_SLOT_DOWN, "mlp.down_proj", LT_AXIS_D_MODEL, LT_AXIS_D_FF)
#define PRE                                                                                                            \
    NORM(LT_SLOT_NORM_MIXER, "input_layernorm", LT_AXIS_D_MODEL),                                                      \
        NORM(LT_SLOT_NORM_MLP, "post_attention_layernorm", LT_AXIS_D_MODEL)
#define QK_NORM(q, k) NORM(LT_SLOT_NORM_Q, "self_attn.q_norm", q), NORM(LT_SLOT_NORM_K, "self_attn.k_norm", k)

static const lt_map_row mistral_rows[] = { ENDS, QKVO, GATED, PRE };
static const lt_map_row qwen3_rows[] = { ENDS, QKVO, GATED, PRE, QK_NORM(LT_AXIS_QK_DIM, LT_AXIS_QK_DIM) };
static const lt_map_row olmo2_rows[] = { ENDS,
                                         QKVO,
                                         GATED,
                                         QK_NORM(LT_AXIS_Q_HEADS_QK, LT_AXIS_K_HEADS_QK),
                                         NORM(LT_SLOT_NORM_MIXER_POST, "post_attention_layernorm", LT_AXIS_D_MODEL),
                                         NORM(LT_SLOT_NORM_MLP_POST, "post_feedforward_layernorm", LT_AXIS_D_MODEL) };
static const lt_map_row phi3_rows[] = { ENDS,
                                        PRE,
                                        LINEAR(LT_SLOT_QKV, "self_attn.qkv_proj", LT_AXIS_QKV, LT_AXIS_D_MODEL),
                                        LINEAR(LT_SLOT_O, "self_attn.o_proj", LT_AXIS_D_MODEL, LT_AXIS_Q_HEADS_V),
                                        LINEAR(LT_SLOT_GATE_UP, "mlp.gate_up_proj", LT_AXIS_2_D_FF, LT_AXIS_D_MODEL),
                                        DOWN };
static const lt_map_row gemma3_rows[] = { ENDS,
                                          QKVO,
                                          GATED,
                                          QK_NORM(LT_AXIS_QK_DIM, LT_AXIS_QK_DIM),
                                          NORM(LT_SLOT_NORM_MIXER, "input_layernorm", LT_AXIS_D_MODEL),
                                          NORM(LT_SLOT_NORM_MIXER_POST, "post_attention_layernorm", LT_AXIS_D_MODEL),
                                          NORM(LT_SLOT_NORM_MLP, "pre_feedforward_layernorm", LT_AXIS_D_MODEL),
                                          NORM(LT_SLOT_NORM_MLP_POST, "post_feedforward_layernorm", LT_AXIS_D_MODEL) };
#define BIASED(slot, name, out, in)                                                                                    \
    { slot, "gpt_neox.layers.%zu." name, NULL, out, in, LT_ALWAYS, true, LT_ALWAYS, false, false, NULL }
static const lt_map_row neox_rows[] = {
    OUTER(LT_SLOT_EMBED, "gpt_neox.embed_in", LT_AXIS_VOCAB, LT_AXIS_D_MODEL, LT_ALWAYS),
    OUTER(LT_SLOT_HEAD, "embed_out", LT_AXIS_VOCAB, LT_AXIS_D_MODEL, LT_ALWAYS),
    { LT_SLOT_FINAL_NORM, "gpt_neox.final_layer_norm", NULL, LT_AXIS_D_MODEL, LT_AXIS_NONE, LT_ALWAYS, true, LT_ALWAYS,
      false, false, NULL },
    BIASED(LT_SLOT_NORM_MIXER, "input_layernorm", LT_AXIS_D_MODEL, LT_AXIS_NONE),
    BIASED(LT_SLOT_NORM_MLP, "post_attention_layernorm", LT_AXIS_D_MODEL, LT_AXIS_NONE),
    BIASED(LT_SLOT_QKV, "attention.query_key_value", LT_AXIS_QKV, LT_AXIS_D_MODEL),
    BIASED(LT_SLOT_O, "attention.dense", LT_AXIS_D_MODEL, LT_AXIS_Q_HEADS_V),
    BIASED(LT_SLOT_UP, "mlp.dense_h_to_4h", LT_AXIS_D_FF, LT_AXIS_D_MODEL),
    BIASED(LT_SLOT_DOWN, "mlp.dense_4h_to_h", LT_AXIS_D_MODEL, LT_AXIS_D_FF),
};

typedef struct test_case {
    const char *name;
    lt_block_row block;
    const lt_map_row *rows;
    size_t n;
    void (*adjust)(lt_config *c);
} test_case;

/* ---- opening by a row of our own ---- */

static size_t number(const json_t *j, const char *key, size_t dflt) {
    const json_t *v = json_object_get(j, key);
    return json_is_integer(v) ? (size_t)json_integer_value(v) : dflt;
}

static double real(const json_t *j, const char *key, double dflt) {
    const json_t *v = json_object_get(j, key);
    return json_is_number(v) ? json_number_value(v) : dflt;
}

static void read_config(lt_config *c, void (*adjust)(lt_config *)) {
    const json_t *j = c->raw;
    lt_layer_config l = { .present = true,
                          .n_q_heads = number(j, "num_attention_heads", 0),
                          .d_ff = number(j, "intermediate_size", 0) };
    lt_err err = { 0 };
    c->d_model = number(j, "hidden_size", 0);
    c->n_layers = number(j, "num_hidden_layers", 0);
    c->vocab_size = number(j, "vocab_size", 0);
    c->max_positions = number(j, "max_position_embeddings", 0);
    c->norm_eps = real(j, "rms_norm_eps", 1e-5);
    c->tied = json_is_true(json_object_get(j, "tie_word_embeddings"));
    c->embed_scale = c->logit_scale = 1.0;
    l.n_k_heads = l.n_v_heads = number(j, "num_key_value_heads", l.n_q_heads);
    l.qk_dim = l.v_dim = number(j, "head_dim", c->d_model / l.n_q_heads);
    l.qk_scale = 1.0 / sqrt((double)l.qk_dim);
    c->n_ropes = 1;
    c->rope[0].dim = (size_t)((double)l.qk_dim * real(j, "partial_rotary_factor", 1.0));
    assert_ok(lt_rope_read(&c->rope[0], j, "config.json", &err), &err);
    assert_ok(lt_config_make_layers(c, &l, "config.json", &err), &err);
    if (adjust) adjust(c);
}

static void window_everywhere(lt_config *c) {
    for (size_t l = 0; l < c->n_layers; l++) c->layer[l].window = number(c->raw, "sliding_window", 0);
}

static void gemma3(lt_config *c) {
    c->act = LT_ACT_GELU_TANH;
    c->tied = true;
    c->embed_scale = sqrt((double)c->d_model);
    c->rope[c->n_ropes++] = (lt_rope_config){ .kind = LT_ROPE_DEFAULT, .theta = 10000.0, .dim = c->layer[0].qk_dim };
    for (size_t l = 0; l < c->n_layers; l++) {
        const bool local = strcmp(json_string_value(json_array_get(json_object_get(c->raw, "layer_types"), l)),
                                  "sliding_attention") == 0;
        c->layer[l].qk_scale = 1.0 / sqrt(real(c->raw, "query_pre_attn_scalar", 0.0));
        c->layer[l].rope = local ? 1 : 0;
        c->layer[l].window = local ? number(c->raw, "sliding_window", 0) : 0;
    }
}

static void neox(lt_config *c) {
    c->act = LT_ACT_GELU;
}

static lt_model *open_case(const lt_family *f, const char *dir, void (*adjust)(lt_config *)) {
    lt_err err = { 0 };
    lt_model *m = lt_calloc(1, sizeof *m);
    char *config = lt_path_join(dir, "config.json");
    m->family = f;
    m->path = lt_strdup(dir);
    assert_ok(lt_json_load(&m->config.raw, config, &err), &err);
    lt_free(config);
    read_config(&m->config, adjust);
    assert_ok(lt_weights_open_folder(&m->weights, dir, &err), &err);
    m->layer = lt_calloc(m->config.n_layers, sizeof *m->layer);
    for (size_t i = 0; i < m->config.n_ropes; i++) {
        m->inv_freq[i] = lt_calloc(m->config.rope[i].dim / 2, sizeof(double));
        lt_rope_frequencies(m->inv_freq[i], &m->config.rope[i]);
    }
    assert_ok(lt_model_bind(m, &err), &err);
    return m;
}

/* ---- checking ---- */

enum { T = 24, ROWS = 2 * T };

static void check_logits_and_gradients(const lt_model *m, const lt_safetensors *golden) {
    int32_t ids[ROWS], target[ROWS];
    float seed[ROWS];
    double largest = 0.0;
    lt_err err = { 0 };
    lt_exec *x;
    const int64_t *stored = lt_host(lt_safetensors_find(golden, "input_ids"));
    for (size_t i = 0; i < ROWS; i++) ids[i] = (int32_t)stored[i];
    for (size_t i = 0; i < ROWS; i++) target[i] = (i + 1) % T ? ids[i + 1] : -1;
    for (size_t i = 0; i < ROWS; i++) seed[i] = target[i] < 0 ? 0.0f : 1.0f / (float)(ROWS - 2);
    const lt_piece piece[2] = { { .n = T, .parent = -1 }, { .row = T, .n = T, .parent = -1 } };
    const lt_batch batch = { .n_rows = ROWS, .n_pieces = 2, .ids = ids, .piece = piece };
    lt_team *team = tm_team(1);
    assert_ok(lt_exec_create(&x, team, &(lt_exec_opts){ .mode = LT_RECORD, .recompute = true }, &err), &err);
    lt_exec_begin(x, &batch);
    const lt_var final = lt_model_hidden(x, m), y = lt_model_logits(x, m, final),
                 nll = lt_model_nll(x, m, final, target, NULL);
    assert_ok(lt_exec_status(x, &err), &err);
    assert_close(lt_data(x, y), (const float *)lt_host(lt_safetensors_find(golden, "logits")),
                 ROWS * m->config.vocab_size, 5e-5, 0.0);
    lt_backward(x, nll, seed);
    assert_ok(lt_exec_status(x, &err), &err);
    for (int pass = 0; pass < 2; pass++) { /* the largest gradient first: it is the scale */
        lt_param_info p;
        for (size_t i = 0; lt_model_param(m, i, &p); i++) {
            char name[192];
            snprintf(name, sizeof name, "grad.%s", p.param->name);
            const lt_tensor *t = lt_safetensors_find(golden, name);
            const size_t n = t ? lt_tensor_count(t) : 0;
            const float *want = t ? lt_host(t) : NULL;
            for (size_t k = 0; pass == 0 && k < n; k++) largest = fmax(largest, fabs((double)want[k]));
            if (pass == 1 && n) assert_close(p.param->grad, want, n, 2e-5 * largest, 0.0);
        }
    }
    lt_exec_destroy(x);
    lt_team_destroy(team);
}

static void check_case(const test_case *c, const char *model_dir, const char *golden_dir) {
    const lt_family f = { .name = c->name, .block = c->block, .tensors = c->rows, .n_tensors = c->n };
    lt_err err = { 0 };
    lt_safetensors *golden;
    char *path = lt_path_join(golden_dir, "golden.safetensors");
    assert_ok(lt_safetensors_open(&golden, path, &err), &err);
    lt_model *m = open_case(&f, model_dir, c->adjust);
    assert_ok(lt_model_make_trainable(m, &err), &err);
    check_logits_and_gradients(m, golden);
    lt_model_destroy(m);
    lt_safetensors_close(golden);
    lt_free(path);
}

static void windows(void **state) {
    (void)state;
    const char *dir = TEST_NEED_SHARED("golden/models/mistral");
    check_case(
        &(test_case){ "mistral", { .gated_mlp = true }, mistral_rows, LT_COUNTOF(mistral_rows), window_everywhere },
        dir, dir);
}
static void norms_of_each_head(void **state) {
    (void)state;
    const char *dir = TEST_NEED_SHARED("golden/models/qwen3");
    check_case(
        &(test_case){
            "qwen3", { .gated_mlp = true, .qk_norm = LT_QK_NORM_HEAD }, qwen3_rows, LT_COUNTOF(qwen3_rows), NULL },
        dir, dir);
}
static void norms_behind_and_over_whole_projections(void **state) {
    (void)state;
    const char *dir = TEST_NEED_SHARED("golden/models/olmo2");
    check_case(&(test_case){ "olmo2",
                             { .place = LT_NORM_POST, .gated_mlp = true, .qk_norm = LT_QK_NORM_WHOLE },
                             olmo2_rows,
                             LT_COUNTOF(olmo2_rows),
                             NULL },
               dir, dir);
}
static void fused_projections_and_partial_rotation(void **state) {
    (void)state;
    const char *dir = TEST_NEED_SHARED("golden/models/phi3");
    check_case(&(test_case){ "phi3", { .gated_mlp = true }, phi3_rows, LT_COUNTOF(phi3_rows), NULL }, dir, dir);
}
static void norms_on_both_sides_and_two_rotations(void **state) {
    (void)state;
    const char *dir = TEST_NEED_SHARED("golden/models/gemma3-text");
    const lt_block_row block = {
        .norm = LT_NORM_RMS_PLUS1, .place = LT_NORM_SANDWICH, .gated_mlp = true, .qk_norm = LT_QK_NORM_HEAD
    };
    check_case(&(test_case){ "gemma3", block, gemma3_rows, LT_COUNTOF(gemma3_rows), gemma3 }, dir, dir);
}

/* GPT-NeoX stores [head][q | k | v]; the block wants all q, all k, all v. Rows of src to their place. */
static void deinterleave(float *to, const float *from, size_t heads, size_t dim, size_t cols) {
    for (size_t h = 0; h < heads; h++)
        for (size_t part = 0; part < 3; part++)
            memcpy(to + (part * heads + h) * dim * cols, from + (h * 3 + part) * dim * cols, dim * cols * sizeof *to);
}

static void parallel_residuals_and_plain_mlps(void **state) {
    (void)state;
    const char *dir = TEST_NEED_SHARED("golden/models/neox-parallel");
    const char *copy = test_path("neox");
    lt_err err = { 0 };
    lt_safetensors *st;
    lt_st_writer *w;
    assert_ok(lt_make_dirs(copy, &err), &err);
    char *from = lt_path_join(dir, "model.safetensors"), *to = lt_path_join(copy, "model.safetensors");
    assert_ok(lt_safetensors_open(&st, from, &err), &err);
    assert_ok(lt_st_writer_create(&w, to, &err), &err);
    for (size_t i = 0; i < lt_safetensors_count(st); i++) {
        const lt_tensor *t = &lt_safetensors_at(st, i)->tensor;
        assert_ok(lt_st_writer_declare(w, lt_safetensors_at(st, i)->name, LT_F32, t->rank, t->size, &err), &err);
    }
    assert_ok(lt_st_writer_begin(w, &err), &err);
    for (size_t i = 0; i < lt_safetensors_count(st); i++) {
        const lt_tensor *t = &lt_safetensors_at(st, i)->tensor;
        float *data = malloc(lt_tensor_bytes(t));
        memcpy(data, lt_host(t), lt_tensor_bytes(t));
        if (strstr(lt_safetensors_at(st, i)->name, "query_key_value"))
            deinterleave(data, lt_host(t), 3, 16, t->rank == 2 ? 48 : 1);
        assert_ok(lt_st_writer_bytes(w, data, lt_tensor_bytes(t), &err), &err);
        free(data);
    }
    assert_ok(lt_st_writer_commit(w, &err), &err);
    lt_safetensors_close(st);
    lt_free(from);
    lt_free(to);
    from = lt_path_join(dir, "config.json");
    to = lt_path_join(copy, "config.json");
    assert_ok(lt_copy_file(from, to, &err), &err);
    lt_free(from);
    lt_free(to);
    /* gradients of the fused matrices are stored in the other order: only logits are compared */
    const lt_family f = { .name = "neox",
                          .block = { .norm = LT_NORM_LAYER, .parallel = true },
                          .tensors = neox_rows,
                          .n_tensors = LT_COUNTOF(neox_rows) };
    lt_model *m = open_case(&f, copy, neox);
    char *path = lt_path_join(dir, "golden.safetensors");
    assert_ok(lt_safetensors_open(&st, path, &err), &err);
    int32_t ids[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        ids[i] = (int32_t)((const int64_t *)lt_host(lt_safetensors_find(st, "input_ids")))[i];
    lt_team *team = tm_team(1);
    for (size_t r = 0; r < 2; r++) {
        float *y = tm_logits(m, team, ids + r * T, T);
        assert_close(y, (const float *)lt_host(lt_safetensors_find(st, "logits")) + r * T * 152, T * 152, 5e-5, 0.0);
        free(y);
    }
    lt_team_destroy(team);
    lt_safetensors_close(st);
    lt_model_destroy(m);
    lt_free(path);
}

/* A layer that is dropped passes the hidden state on. */
static void absent_layers_pass_the_state_through(void **state) {
    (void)state;
    tm *m = tm_build(TM_ODD, 40);
    lt_model *whole = tm_open(tm_write(m, "whole", 1));
    lt_team *team = tm_team(1);
    const int32_t ids[4] = { 1, 2, 3, 4 };
    float *with = tm_logits(whole, team, ids, 4);
    whole->config.layer[1].present = false;
    float *without = tm_logits(whole, team, ids, 4);
    tm_spec s = TM_ODD;
    s.layers = 2;
    tm *two = tm_build(s, 40); /* the same first draws: table and layer 0 agree; layer 1 is taken from layer 2 */
    for (size_t i = 0; i < two->n; i++) {
        char name[192];
        snprintf(name, sizeof name, "%s", two->t[i].name);
        char *at = strstr(name, "layers.1");
        if (at) at[7] = '2';
        memcpy(two->t[i].data, tm_find(m, name)->data,
               two->t[i].size[0] * (two->t[i].rank == 2 ? two->t[i].size[1] : 1) * sizeof(float));
    }
    lt_model *small = tm_open(tm_write(two, "two", 1));
    float *want = tm_logits(small, team, ids, 4);
    assert_memory_equal(without, want, 4 * 61 * sizeof *want);
    assert_true(test_max_abs_diff(with, want, 4 * 61) > 1e-3);
    free(with);
    free(without);
    free(want);
    lt_model_destroy(whole);
    lt_model_destroy(small);
    tm_free(m);
    tm_free(two);
    lt_team_destroy(team);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows),
        cmocka_unit_test(norms_of_each_head),
        cmocka_unit_test(norms_behind_and_over_whole_projections),
        cmocka_unit_test(fused_projections_and_partial_rotation),
        cmocka_unit_test(norms_on_both_sides_and_two_rotations),
        cmocka_unit_test(parallel_residuals_and_plain_mlps),
        cmocka_unit_test(absent_layers_pass_the_state_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
