/* SPDX-License-Identifier: Apache-2.0 */
/* Adapters against peft's logits (golden/compress/lora_*; f32 gap of the reference 7e-7), and what the header promises
 * on models made here. */
#include "model_test.h"

#include "linalg/gemm.h"
#include "model/adapter.h"

/* ---- peft's own numbers ---- */

typedef enum form { BESIDE, MERGED, SPILLED } form; /* spilled: merged weights in files */

static void logits_are_pefts(const char *model_rel, const char *adapter_rel, const char *name, form how) {
    const char *model_dir = TEST_NEED_SHARED(model_rel), *adapter_dir = TEST_NEED_SHARED(adapter_rel);
    lt_err err = { 0 };
    lt_safetensors *tokens, *answers;
    const lt_tensor *ids, *want;
    lt_adapters *a;
    lt_model *m = tm_open(model_dir);
    lt_team *team = tm_team(2);
    assert_ok(lt_safetensors_open(&tokens, test_shared("golden/compress/tokens.safetensors"), &err), &err);
    assert_ok(lt_safetensors_open(&answers, test_shared("golden/compress/train_lora.safetensors"), &err), &err);
    assert_ok(lt_safetensors_get(&ids, tokens, "logit_batch", LT_I32, 2, &err), &err);
    assert_ok(lt_safetensors_get(&want, answers, name, LT_F32, 3, &err), &err);
    assert_ok(lt_adapters_open(&a, m, adapter_dir, &err), &err);
    if (how == SPILLED) assert_ok(lt_adapters_spill(a, 0, test_dir(), &err), &err);
    if (how != BESIDE) assert_ok(lt_adapters_merge(a, LT_N_DTYPES, team, &err), &err);
    const size_t T = ids->size[1], V = want->size[2];
    for (size_t row = 0; row < want->size[0]; row++) {
        float *got = tm_logits(m, team, (const int32_t *)lt_host(ids) + row * T, T);
        assert_close(got, (const float *)lt_host(want) + row * T * V, T * V, 1e-4, 0);
        free(got);
    }
    lt_adapters_destroy(a);
    lt_team_destroy(team);
    lt_model_destroy(m);
    lt_safetensors_close(tokens);
    lt_safetensors_close(answers);
}

#define TINY "golden/compress/tiny-llama"
#define LORA "golden/compress/lora_"
static void dense_logits_are_pefts(void **state) {
    (void)state;
    logits_are_pefts(TINY, LORA "dense_final", "dense.logits", BESIDE);
}
static void merged_dense_logits_are_pefts(void **state) {
    (void)state;
    logits_are_pefts(TINY, LORA "dense_final", "dense.logits", MERGED);
}
static void spilled_dense_logits_are_pefts(void **state) {
    (void)state;
    logits_are_pefts(TINY, LORA "dense_final", "dense.logits", SPILLED);
}
static void factored_logits_are_pefts(void **state) {
    (void)state;
    logits_are_pefts(TINY "-w60", LORA "factored_final", "factored.logits", BESIDE);
}
static void merged_factored_logits_are_pefts(void **state) {
    (void)state;
    logits_are_pefts(TINY "-w60", LORA "factored_final", "factored.logits", MERGED);
}

/* ---- models made here ---- */

static const char up0[] = "model.layers.0.mlp.up_proj";

typedef struct bench {
    lt_model *m;
    lt_team *team;
    lt_adapters *a;
    int32_t ids[19];
} bench;

static bench open_bench(tm_spec spec, const char *name, bool factored) {
    bench b = { .team = tm_team(2) };
    lt_err err = { 0 };
    tm *t = tm_build(spec, 3);
    if (factored) {
        tm_factor(t, up0, 5, "model.layers.0.mlp.up_proj.ALinear.weight", "model.layers.0.mlp.up_proj.BLinear.weight",
                  4);
        strcpy(tm_find(t, "model.layers.0.mlp.up_proj.bias")->name, "model.layers.0.mlp.up_proj.ALinear.bias");
    }
    b.m = tm_open(tm_write(t, name, 1));
    tm_free(t);
    tm_ids(b.ids, LT_COUNTOF(b.ids), spec.vocab, 5);
    assert_ok(lt_adapters_create(&b.a, b.m, &err), &err);
    return b;
}

static void close_bench(bench *b) {
    lt_adapters_destroy(b->a);
    lt_model_destroy(b->m);
    lt_team_destroy(b->team);
}

static const lt_lora_opts opts4 = { .rank = 4, .alpha = 6 };

/* B of a fresh adapter is zero: tests give it numbers. */
static void fill_b(bench *b) {
    const lt_param *p;
    for (size_t i = 0; (p = lt_adapters_param(b->a, i)); i++) {
        lt_rng r = test_rng(100 + (uint32_t)i);
        if (i % 2) test_fill_normal((float *)p->t.buffer->data, lt_tensor_count(&p->t), &r);
    }
}

static double gap(const bench *b, const float *was) {
    const size_t n = LT_COUNTOF(b->ids);
    float *now = tm_logits(b->m, b->team, b->ids, n);
    const double g = test_max_abs_diff(now, was, n * b->m->config.vocab_size);
    free(now);
    return g;
}

static void fresh_adapters_change_nothing_and_leave_nothing(void **state) {
    (void)state;
    bench b = open_bench(TM_BIAS, "fresh", true);
    lt_err err = { 0 };
    size_t added;
    float *before = tm_logits(b.m, b.team, b.ids, LT_COUNTOF(b.ids));
    assert_ok(lt_adapters_add(b.a, "all", LT_LORA_BOTH, &opts4, 1, &added, &err), &err);
    assert_int_equal(added, 7 * 2 + 1); /* one linear has two factors */
    assert_true(gap(&b, before) == 0);
    fill_b(&b);
    assert_true(gap(&b, before) > 1e-2);
    lt_adapters_destroy(b.a);
    b.a = NULL;
    assert_true(gap(&b, before) == 0);
    free(before);
    close_bench(&b);
}

static void targets_name_ends_of_modules(void **state) {
    (void)state;
    bench b = open_bench(TM_BIAS, "targets", true);
    lt_err err = { 0 };
    lt_adapter_info info;
    size_t added;
    assert_ok(lt_adapters_add(b.a, "up_proj", LT_LORA_B, &opts4, 1, &added, &err), &err);
    assert_int_equal(added, 2); /* dense in layer 1, the factor B in layer 0 */
    assert_true(lt_adapters_at(b.a, 0, &info));
    assert_string_equal(info.module, "model.layers.0.mlp.up_proj.BLinear");
    assert_string_equal(info.adapter->a.name, "model.layers.0.mlp.up_proj.BLinear.lora_A.weight");
    assert_ok(lt_adapters_add(b.a, "lm_head,q_proj,up_proj.ALinear", LT_LORA_BOTH, &opts4, 1, &added, &err), &err);
    assert_int_equal(added, 1 + 2 + 1);
    assert_fails(lt_adapters_add(b.a, "q_proj,proj", LT_LORA_BOTH, &opts4, 1, NULL, &err), &err, LT_EUSAGE, ": proj");
    assert_fails(lt_adapters_add(b.a, ",", LT_LORA_BOTH, &opts4, 1, NULL, &err), &err, LT_EUSAGE, "no target");
    assert_fails(lt_adapters_add(b.a, "all", LT_LORA_BOTH, &(lt_lora_opts){ .alpha = 1 }, 1, NULL, &err), &err,
                 LT_EUSAGE, "rank 0");
    close_bench(&b);
}

static void the_same_seed_makes_the_same_adapters(void **state) {
    (void)state;
    bench b = open_bench(TM_ODD, "seed", false);
    lt_err err = { 0 };
    lt_adapters *again;
    lt_model *other = tm_open(test_path("seed"));
    assert_ok(lt_adapters_create(&again, other, &err), &err);
    /* one at a time or all at once */
    assert_ok(lt_adapters_add(b.a, "all", LT_LORA_BOTH, &opts4, 7, NULL, &err), &err);
    assert_ok(lt_adapters_add(again, "down_proj", LT_LORA_BOTH, &opts4, 7, NULL, &err), &err);
    lt_adapter_info x, y;
    assert_true(lt_adapters_at(b.a, 6, &x) && lt_adapters_at(again, 0, &y));
    assert_string_equal(x.module, y.module);
    const size_t n = lt_tensor_count(&x.adapter->a.t);
    assert_memory_equal(lt_host(&x.adapter->a.t), lt_host(&y.adapter->a.t), n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(((const float *)lt_host(&x.adapter->a.t))[i]) <= 1.0f / sqrtf(37.0f));
    lt_adapters_destroy(again);
    lt_model_destroy(other);
    close_bench(&b);
}

/* save -> open, with ranks that differ; then merged, then saved as a model */
static void saved_adapters_and_merged_models_give_the_same_logits(void **state) {
    (void)state;
    bench b = open_bench(TM_BIAS, "round", true);
    lt_err err = { 0 };
    const lt_lora_opts rs = { .rank = 3, .alpha = 5, .dropout = 0.25, .rslora = false };
    assert_ok(lt_adapters_add(b.a, "q_proj,model.layers.1.mlp.down_proj", LT_LORA_BOTH, &opts4, 1, NULL, &err), &err);
    assert_ok(lt_adapters_add(b.a, "up_proj,lm_head", LT_LORA_BOTH, &rs, 2, NULL, &err), &err);
    fill_b(&b);
    float *want = tm_logits(b.m, b.team, b.ids, LT_COUNTOF(b.ids));
    assert_ok(lt_adapters_save(b.a, test_path("round.adapter"), "base", &err), &err);
    lt_adapters_destroy(b.a);
    assert_ok(lt_adapters_open(&b.a, b.m, test_path("round.adapter"), &err), &err);
    assert_true(gap(&b, want) == 0);

    const lt_save_opts save = { .dtype = LT_N_DTYPES };
    assert_fails(lt_model_save(b.m, test_path("round.merged"), &save, NULL, &err), &err, LT_EUNSUPPORTED, "merge");
    assert_ok(lt_adapters_merge(b.a, LT_N_DTYPES, b.team, &err), &err);
    assert_null(lt_model_adapted(b.m));
    assert_true(gap(&b, want) < 1e-4);
    assert_ok(lt_model_save(b.m, test_path("round.merged"), &save, NULL, &err), &err);
    bench c = { .m = tm_open(test_path("round.merged")), .team = b.team };
    memcpy(c.ids, b.ids, sizeof c.ids);
    assert_true(gap(&c, want) < 1e-4);
    lt_model_destroy(c.m);
    free(want);
    close_bench(&b);
}

static void the_hash_counts_adapters(void **state) {
    (void)state;
    bench b = open_bench(TM_BIAS, "hash", false);
    lt_err err = { 0 };
    char plain[LT_HASH_HEX], adapted[LT_HASH_HEX], again[LT_HASH_HEX];
    assert_ok(lt_model_hash(b.m, 1, plain, &err), &err);
    assert_ok(lt_adapters_add(b.a, "q_proj", LT_LORA_BOTH, &opts4, 1, NULL, &err), &err);
    assert_ok(lt_model_hash(b.m, 2, adapted, &err), &err);
    assert_string_not_equal(plain, adapted);
    lt_adapters_destroy(b.a);
    b.a = NULL;
    assert_ok(lt_model_hash(b.m, 1, again, &err), &err);
    assert_string_equal(plain, again);
    close_bench(&b);
}

/* Summed loss of a recorded forward; backward: gradients are added. */
static double recorded_loss(const bench *b, bool backward) {
    lt_err err = { 0 };
    lt_exec *x;
    int32_t target[LT_COUNTOF(b->ids)];
    double loss = 0;
    const lt_piece piece = { .n = LT_COUNTOF(b->ids), .parent = -1 };
    const lt_batch batch = { .n_rows = LT_COUNTOF(b->ids), .n_pieces = 1, .ids = b->ids, .piece = &piece };
    tm_ids(target, LT_COUNTOF(target), b->m->config.vocab_size, 9);
    assert_ok(lt_exec_create(&x, b->team, &(lt_exec_opts){ .mode = LT_RECORD, .recompute = true }, &err), &err);
    lt_exec_begin(x, &batch);
    const lt_var nll = lt_model_nll(x, b->m, lt_model_hidden(x, b->m), target, NULL);
    for (size_t k = 0; k < LT_COUNTOF(target); k++) loss += (double)lt_data(x, nll)[k];
    if (backward) lt_backward(x, nll, NULL);
    assert_ok(lt_exec_status(x, &err), &err);
    lt_exec_destroy(x);
    return loss;
}

static const lt_lora_opts dropped = { .rank = 2, .alpha = 4, .dropout = 0.5 };

static void gradients_reach_adapters_and_masks_bring_dropout(void **state) {
    (void)state;
    bench b = open_bench(TM_BIAS, "grads", true);
    lt_err err = { 0 };
    double loss[5];
    assert_ok(lt_adapters_add(b.a, "all", LT_LORA_BOTH, &dropped, 1, NULL, &err), &err);
    fill_b(&b);
    for (int i = 0; i < 5; i++) { /* frozen, no masks yet, step 1, step 2, step 1 again */
        if (i == 1) assert_ok(lt_adapters_make_trainable(b.a, &err), &err);
        if (i > 1) lt_adapters_set_masks(b.a, 5, i == 3 ? 2 : 1);
        lt_adapters_zero_grads(b.a);
        loss[i] = recorded_loss(&b, i > 0);
    }
    assert_true(loss[0] == loss[1] && loss[1] != loss[2] && loss[2] != loss[3] && loss[2] == loss[4]);
    const lt_param *p;
    for (size_t i = 0; (p = lt_adapters_param(b.a, i)); i++) {
        double sum = 0;
        for (size_t k = 0; k < lt_tensor_count(&p->t); k++) sum += fabs((double)p->grad[k]);
        if (sum == 0) fail_msg("no gradient: %s", p->name);
    }
    close_bench(&b);
}

/* The loss is f32: a central difference over 2h has an error of some 1e-5 / h beside that of order h^2. */
static void gradients_without_masks_are_those_of_the_loss(void **state) {
    (void)state;
    const double h = 0x1p-10;
    bench b = open_bench(TM_BIAS, "differences", true);
    lt_err err = { 0 };
    const lt_param *p;
    assert_ok(lt_adapters_add(b.a, "all", LT_LORA_BOTH, &dropped, 1, NULL, &err), &err);
    fill_b(&b);
    assert_ok(lt_adapters_make_trainable(b.a, &err), &err);
    (void)recorded_loss(&b, true);
    for (size_t i = 0; (p = lt_adapters_param(b.a, i)); i++) {
        const size_t n = lt_tensor_count(&p->t);
        float *v = p->t.buffer->data, *way = malloc(n * sizeof *way), *was = malloc(n * sizeof *was);
        lt_rng r = test_rng(500 + (uint32_t)i);
        double slope = 0, loss[2], size = 0;
        test_fill_normal(way, n, &r);
        memcpy(was, v, n * sizeof *was);
        for (size_t k = 0; k < n; k++) size += (double)way[k] * (double)way[k];
        for (size_t k = 0; k < n; k++) slope += (double)p->grad[k] * (double)way[k] / sqrt(size);
        for (int s = 0; s < 2; s++) {
            for (size_t k = 0; k < n; k++) v[k] = was[k] + (float)((s ? h : -h) * (double)way[k] / sqrt(size));
            loss[s] = recorded_loss(&b, false);
        }
        memcpy(v, was, n * sizeof *was);
        const double seen = (loss[1] - loss[0]) / (2 * h);
        if (fabs(seen - slope) > 1e-2 + 2e-3 * fabs(slope)) fail_msg("%s: slope %g, gradient %g", p->name, seen, slope);
        free(way);
        free(was);
    }
    close_bench(&b);
}

/* What peft reads as a target must not be a pair of factors: a linear that is dense in one layer and factored in
 * another is named whole. */
static void targets_name_linears_and_no_pair_of_factors(void **state) {
    (void)state;
    static const char *const want[] = { "self_attn.q_proj", "mlp.up_proj.BLinear", "mlp.up_proj.ALinear",
                                        "model.layers.1.mlp.up_proj" };
    bench b = open_bench(TM_BIAS, "mixed", true);
    lt_err err = { 0 };
    json_t *config;
    assert_ok(lt_adapters_add(b.a, "q_proj,up_proj", LT_LORA_BOTH, &opts4, 1, NULL, &err), &err);
    assert_ok(lt_adapters_save(b.a, test_path("mixed.adapter"), "base", &err), &err);
    assert_ok(lt_json_load(&config, test_path("mixed.adapter/adapter_config.json"), &err), &err);
    const json_t *list = json_object_get(config, "target_modules");
    assert_int_equal(json_array_size(list), LT_COUNTOF(want));
    for (size_t i = 0; i < LT_COUNTOF(want); i++)
        assert_string_equal(json_string_value(json_array_get(list, i)), want[i]);
    json_decref(config);
    close_bench(&b);
}

/* ---- what is refused ---- */

static void write_adapter(const char *name, const char *config, const tm_tensor *t, size_t n) {
    lt_err err = { 0 };
    lt_st_writer *w;
    const char *dir = test_path(name);
    assert_ok(lt_make_dirs(dir, &err), &err);
    tm_write_text(dir, "adapter_config.json", config);
    char *path = lt_path_join(dir, "adapter_model.safetensors");
    assert_ok(lt_st_writer_create(&w, path, &err), &err);
    for (size_t i = 0; i < n; i++)
        assert_ok(lt_st_writer_declare(w, t[i].name, LT_F32, t[i].rank, t[i].size, &err), &err);
    assert_ok(lt_st_writer_begin(w, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const size_t bytes = t[i].size[0] * (t[i].rank == 2 ? t[i].size[1] : 1) * sizeof(float);
        void *zero = calloc(1, bytes);
        assert_ok(lt_st_writer_bytes(w, zero, bytes, &err), &err);
        free(zero);
    }
    assert_ok(lt_st_writer_commit(w, &err), &err);
    lt_free(path);
}

#define QA "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
#define QB "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
#define CONFIG(rest) "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, " rest "}"
#define Q0 "\"target_modules\": \"model\\\\.layers\\\\.0\\\\.self_attn\\\\.q_proj\""

static void what_does_not_fit_is_refused_by_name(void **state) {
    (void)state;
    bench b = open_bench(TM_BIAS, "refuse", false);
    lt_err err = { 0 };
    static const struct {
        const char *config;
        tm_tensor t[3];
        size_t n;
        lt_status st;
        const char *text;
    } rows[] = {
        { CONFIG(Q0), { { QA, 0, 2, { 2, 20 }, 0 }, { QB, 0, 2, { 24, 2 }, 0 } }, 2, LT_OK, NULL },
        { CONFIG(Q0), { { QA, 0, 2, { 2, 21 }, 0 }, { QB, 0, 2, { 24, 2 }, 0 } }, 2, LT_EDATA, "q_proj.lora_A.weight" },
        { CONFIG(Q0), { { QA, 0, 2, { 3, 20 }, 0 }, { QB, 0, 2, { 24, 3 }, 0 } }, 2, LT_EDATA, "expected f32 [2, 20]" },
        { CONFIG(Q0), { { QA, 0, 2, { 2, 20 }, 0 } }, 1, LT_EDATA, "no lora_B" },
        { CONFIG("\"target_modules\": [\"q_proj\"]"),
          { { QA, 0, 2, { 2, 20 }, 0 }, { QB, 0, 2, { 24, 2 }, 0 } },
          2,
          LT_EDATA,
          "model.layers.1.self_attn.q_proj" },
        { CONFIG("\"target_modules\": [\"q_proj\"], \"layers_to_transform\": [0]"),
          { { QA, 0, 2, { 2, 20 }, 0 }, { QB, 0, 2, { 24, 2 }, 0 } },
          2,
          LT_OK,
          NULL },
        { CONFIG("\"target_modules\": [\"nothing\"]"),
          { { QA, 0, 2, { 2, 20 }, 0 }, { QB, 0, 2, { 24, 2 }, 0 } },
          2,
          LT_EDATA,
          "target_modules does not name it" },
        { CONFIG("\"target_modules\": [\"nothing\"]"),
          { { "x", 0, 1, { 1 }, 0 } },
          0,
          LT_EDATA,
          "none of its linears" },
        { CONFIG(Q0 ", \"rank_pattern\": {\"q_pro.\": 3}, \"use_rslora\": true"),
          { { QA, 0, 2, { 3, 20 }, 0 }, { QB, 0, 2, { 24, 3 }, 0 } },
          2,
          LT_OK,
          NULL },
        { CONFIG(Q0),
          { { QA, 0, 2, { 2, 20 }, 0 }, { QB, 0, 2, { 24, 2 }, 0 }, { "base_model.model.x.weight", 0, 1, { 4 }, 0 } },
          3,
          LT_EDATA,
          "no such module" },
        { CONFIG(Q0 ", \"modules_to_save\": [\"norm\"]"),
          { { QA, 0, 2, { 2, 20 }, 0 },
            { QB, 0, 2, { 24, 2 }, 0 },
            { "base_model.model.model.norm.weight", 0, 1, { 20 }, 0 } },
          3,
          LT_OK,
          NULL },
        { CONFIG(Q0),
          { { QA, 0, 2, { 2, 20 }, 0 },
            { QB, 0, 2, { 24, 2 }, 0 },
            { "base_model.model.model.norm.weight", 0, 1, { 21 }, 0 } },
          3,
          LT_EDATA,
          "norm.weight" },
        { CONFIG(Q0),
          { { QA, 0, 2, { 2, 20 }, 0 },
            { QB, 0, 2, { 24, 2 }, 0 },
            { "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", 0, 1, { 24 }, 0 } },
          3,
          LT_EUNSUPPORTED,
          "DoRA" },
        { CONFIG(Q0 ", \"use_dora\": true"), { { QA, 0, 1, { 1 }, 0 } }, 0, LT_EUNSUPPORTED, "use_dora" },
        { CONFIG(Q0 ", \"bias\": \"all\""), { { QA, 0, 1, { 1 }, 0 } }, 0, LT_EUNSUPPORTED, "\"all\"" },
        { CONFIG(Q0 ", \"init_lora_weights\": \"pissa\""), { { QA, 0, 1, { 1 }, 0 } }, 0, LT_EUNSUPPORTED, "pissa" },
        { "{\"peft_type\": \"IA3\"}", { { QA, 0, 1, { 1 }, 0 } }, 0, LT_EUNSUPPORTED, "IA3" },
        { CONFIG("\"target_modules\": \"(\""), { { QA, 0, 1, { 1 }, 0 } }, 0, LT_EDATA, "regular expression" },
        { CONFIG("\"x\": 0"), { { QA, 0, 1, { 1 }, 0 } }, 0, LT_EDATA, "target_modules is missing" },
        { "[]", { { QA, 0, 1, { 1 }, 0 } }, 0, LT_EDATA, "not an object" },
    };
    float *before = tm_logits(b.m, b.team, b.ids, LT_COUNTOF(b.ids));
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        lt_adapters *a = NULL;
        write_adapter("refused", rows[i].config, rows[i].t, rows[i].n);
        if (rows[i].st == LT_OK)
            assert_ok(lt_adapters_open(&a, b.m, test_path("refused"), &err), &err);
        else
            assert_fails(lt_adapters_open(&a, b.m, test_path("refused"), &err), &err, rows[i].st, rows[i].text);
        lt_adapters_destroy(a);
        assert_true(gap(&b, before) == 0);
    }
    free(before);
    close_bench(&b);
}

static void modules_to_save_replace_the_models(void **state) {
    (void)state;
    bench b = open_bench(TM_BIAS, "whole", false);
    lt_err err = { 0 };
    lt_adapters *a;
    const tm_tensor t[] = { { QA, 0, 2, { 2, 20 }, 0 },
                            { QB, 0, 2, { 24, 2 }, 0 },
                            { "base_model.model.lm_head.weight", 0, 2, { 53, 20 }, 0 } };
    write_adapter("whole.a", CONFIG(Q0 ", \"modules_to_save\": [\"lm_head\"]"), t, 3);
    float *before = tm_logits(b.m, b.team, b.ids, LT_COUNTOF(b.ids));
    assert_ok(lt_adapters_open(&a, b.m, test_path("whole.a"), &err), &err);
    float *zero = calloc(LT_COUNTOF(b.ids) * 53, sizeof *zero);
    assert_true(gap(&b, zero) == 0); /* the head is the adapter's: zeros */
    assert_ok(lt_adapters_save(a, test_path("whole.again"), NULL, &err), &err);
    assert_ok(lt_adapters_merge(a, LT_N_DTYPES, b.team, &err), &err);
    assert_true(gap(&b, zero) == 0);
    lt_adapters_destroy(a);
    assert_true(gap(&b, before) == 0);
    assert_ok(lt_adapters_open(&a, b.m, test_path("whole.again"), &err), &err);
    assert_true(gap(&b, zero) == 0);
    lt_adapters_destroy(a);
    free(zero);
    free(before);
    close_bench(&b);
}

static void a_tied_head_runs_but_does_not_merge(void **state) {
    (void)state;
    bench b = open_bench(TM_ODD, "tied", false);
    lt_err err = { 0 };
    float *before = tm_logits(b.m, b.team, b.ids, LT_COUNTOF(b.ids));
    assert_ok(lt_adapters_add(b.a, "lm_head", LT_LORA_BOTH, &opts4, 1, NULL, &err), &err);
    fill_b(&b);
    assert_true(gap(&b, before) > 1e-2);
    assert_fails(lt_adapters_check_merge(b.a, &err), &err, LT_EUNSUPPORTED, "tied");
    assert_fails(lt_adapters_merge(b.a, LT_N_DTYPES, b.team, &err), &err, LT_EUNSUPPORTED, "tied");
    free(before);
    close_bench(&b);
}

typedef struct memory {
    lt_model *m;
    lt_team *team;
} memory;
static lt_status whole_life(void *user, lt_err *err) {
    const memory *mem = user;
    lt_adapters *a = NULL, *again = NULL;
    lt_status st;
    LT_GO(lt_adapters_create(&a, mem->m, err));
    LT_GO(lt_adapters_add(a, "q_proj", LT_LORA_BOTH, &opts4, 1, NULL, err));
    LT_GO(lt_adapters_make_trainable(a, err));
    LT_GO(lt_adapters_save(a, test_path("mem.adapter"), "base", err));
    lt_adapters_destroy(a);
    a = NULL;
    LT_GO(lt_adapters_open(&again, mem->m, test_path("mem.adapter"), err));
    LT_GO(lt_adapters_merge(again, LT_BF16, mem->team, err));
done:
    lt_adapters_destroy(a);
    lt_adapters_destroy(again);
    return st;
}

static void lack_of_memory_is_an_error(void **state) {
    (void)state;
    bench b = open_bench(TM_BIAS, "mem", false);
    memory mem = { b.m, b.team };
    test_every_allocation_fails(whole_life, &mem);
    close_bench(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_logits_are_pefts),
        cmocka_unit_test(merged_dense_logits_are_pefts),
        cmocka_unit_test(spilled_dense_logits_are_pefts),
        cmocka_unit_test(factored_logits_are_pefts),
        cmocka_unit_test(merged_factored_logits_are_pefts),
        cmocka_unit_test(fresh_adapters_change_nothing_and_leave_nothing),
        cmocka_unit_test(targets_name_ends_of_modules),
        cmocka_unit_test(the_same_seed_makes_the_same_adapters),
        cmocka_unit_test(saved_adapters_and_merged_models_give_the_same_logits),
        cmocka_unit_test(the_hash_counts_adapters),
        cmocka_unit_test(gradients_reach_adapters_and_masks_bring_dropout),
        cmocka_unit_test(gradients_without_masks_are_those_of_the_loss),
        cmocka_unit_test(targets_name_linears_and_no_pair_of_factors),
        cmocka_unit_test(what_does_not_fit_is_refused_by_name),
        cmocka_unit_test(modules_to_save_replace_the_models),
        cmocka_unit_test(a_tied_head_runs_but_does_not_merge),
        cmocka_unit_test(lack_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
