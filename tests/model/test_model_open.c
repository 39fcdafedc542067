/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: every stored form gives the same slots, and a checkpoint that does not say one thing is refused with the
 * tensor's name. */
#include "model_test.h"

static const char q1[] = "model.layers.1.self_attn.q_proj";

static void expect_refusal(tm *m, lt_status code, const char *word) {
    lt_err err = { 0 };
    lt_model *model = NULL;
    assert_fails(lt_model_open(&model, tm_write(m, "bad", 1), &err), &err, code, word);
    tm_free(m);
}

static void a_folder_opens_with_every_tensor_in_its_slot(void **state) {
    (void)state;
    tm *m = tm_build(TM_ODD, 1);
    lt_model *model = tm_open(tm_write(m, "good", 1));
    lt_param_info p;
    size_t n = 0;
    for (; lt_model_param(model, n, &p); n++) {
        const tm_tensor *t = tm_find(m, p.param->name);
        assert_memory_equal(lt_host(&p.param->t), t->data, lt_tensor_bytes(&p.param->t));
    }
    assert_int_equal(n, m->n);
    lt_module mod;
    assert_true(lt_model_find_module(model, q1, &mod));
    assert_true(mod.layer == 1 && mod.slot == LT_SLOT_Q && lt_linear_out(mod.linear) == 60 &&
                lt_linear_in(mod.linear) == 22);
    size_t modules = 0;
    while (lt_model_module(model, modules, &mod)) modules++;
    assert_int_equal(modules, 3 * 7 + 1);
    assert_true(mod.layer == -1 || modules > 0);
    assert_ptr_equal(lt_host(&model->head.stage[0].w.t), lt_host(&model->embed.t));
    const size_t linear = 3 * (2 * 60 * 22 + 2 * 20 * 22 + 3 * 22 * 37);
    assert_int_equal(lt_model_n_linear_params(model), linear);
    assert_int_equal(lt_model_n_params(model), linear + 61 * 22 + 7 * 22);
    assert_int_equal(lt_model_bytes(model), 4 * lt_model_n_params(model));
    assert_int_equal(lt_layer_bytes(model, 2), 4 * (linear / 3 + 2 * 22));
    for (size_t l = 0; l < 3; l++) lt_layer_drop(model, l);
    for (int l = -1; l < 3; l++) assert_int_equal(lt_model_check_finite(model, l, NULL), LT_OK);
    lt_model_destroy(model);
    tm_free(m);
}

/* Checkpoints of LlamaModel, without the head's wrapper, and buffers that old versions saved. */
static void names_without_their_prefix_are_the_same_model(void **state) {
    (void)state;
    tm_spec s = TM_ODD;
    s.tied = false;
    tm *m = tm_build(s, 3);
    lt_model *full = tm_open(tm_write(m, "full", 1));
    for (size_t i = 0; i < m->n; i++)
        if (strncmp(m->t[i].name, "model.", 6) == 0) memmove(m->t[i].name, m->t[i].name + 6, strlen(m->t[i].name) - 5);
    lt_rng r = test_rng(4);
    tm_add(m, "layers.0.self_attn.rotary_emb.inv_freq", 5, 0, 0.0f, 1.0f, &r);
    lt_model *bare = tm_open(tm_write(m, "bare", 1));
    lt_param_info a, b;
    for (size_t i = 0; lt_model_param(full, i, &a); i++) {
        assert_true(lt_model_param(bare, i, &b));
        assert_string_equal(a.param->name, b.param->name);
        assert_memory_equal(lt_host(&a.param->t), lt_host(&b.param->t), lt_tensor_bytes(&a.param->t));
    }
    lt_model_destroy(full);
    lt_model_destroy(bare);
    tm_free(m);
}

static void output_folders_stand_for_the_model_in_them(void **state) {
    (void)state;
    tm *m = tm_build(TM_BIAS, 2);
    lt_err err = { 0 };
    assert_ok(lt_make_dirs(test_path("out"), &err), &err);
    tm_write(m, "out/model", 1);
    lt_model *model = tm_open(test_path("out"));
    assert_string_equal(model->path, test_path("out/model"));
    lt_model_destroy(model);
    assert_fails(lt_model_open(&model, test_path("nowhere"), &err), &err, LT_EIO, "nowhere");
    assert_ok(lt_make_dirs(test_path("empty"), &err), &err);
    assert_fails(lt_model_open(&model, test_path("empty"), &err), &err, LT_EDATA, "config.json");
    tm_free(m);
}

static void generation_settings_give_the_stop_ids(void **state) {
    (void)state;
    tm *m = tm_build(TM_ODD, 3);
    const char *dir = tm_write(m, "stops", 1);
    tm_write_text(dir, "generation_config.json", "{\"eos_token_id\": [7, 9]}");
    lt_model *model = tm_open(dir);
    assert_true(model->config.n_eos == 2 && model->config.eos[1] == 9 && model->config.bos == 1);
    lt_model_destroy(model);
    tm_free(m);
}

static void a_missing_tensor_is_named(void **state) {
    (void)state;
    static const char *const names[] = {
        "model.layers.1.mlp.up_proj.weight",     "model.norm.weight", "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight", "lm_head.weight",    "model.layers.1.self_attn.o_proj.bias"
    };
    for (size_t i = 0; i < LT_COUNTOF(names); i++) {
        tm *m = tm_build(TM_BIAS, 4);
        tm_remove(m, names[i]);
        expect_refusal(m, LT_EDATA, names[i]);
    }
}

static void an_unknown_tensor_is_named(void **state) {
    (void)state;
    lt_rng r = test_rng(5);
    tm *m = tm_build(TM_ODD, 5);
    tm_add(m, "model.layers.0.mlp.router.weight", 4, 22, 0, 1, &r);
    expect_refusal(m, LT_EDATA, "unknown tensor");
    m = tm_build(TM_ODD, 5);
    tm_add(m, "model.layers.1.self_attn.q_proj.bias", 60, 0, 0, 1, &r); /* the config says there is none */
    expect_refusal(m, LT_EDATA, "q_proj.bias");
    m = tm_build(TM_ODD, 5);
    tm_add(m, "model.layers.0.self_attn.rotary_emb.inv_freq", 5, 0, 0, 1, &r); /* an old buffer that nothing reads */
    lt_model *model = tm_open(tm_write(m, "buffer", 1));
    lt_model_destroy(model);
    tm_free(m);
}

static void a_misshapen_tensor_is_named_with_both_shapes(void **state) {
    (void)state;
    tm *m = tm_build(TM_ODD, 6);
    tm_find(m, "model.layers.2.mlp.down_proj.weight")->size[1] = 36;
    expect_refusal(m, LT_EDATA, "[22, 36], the config says [22, 37]");
    m = tm_build(TM_ODD, 6);
    tm_find(m, "model.norm.weight")->size[0] = 21;
    expect_refusal(m, LT_EDATA, "the config says [22]");
    m = tm_build(TM_ODD, 6);
    tm_find(m, "model.layers.0.mlp.up_proj.weight")->dtype = LT_I8;
    expect_refusal(m, LT_EUNSUPPORTED, "i8");
}

static void the_head_is_tied_or_its_own_but_not_both(void **state) {
    (void)state;
    lt_rng r = test_rng(7);
    tm *m = tm_build(TM_ODD, 7);
    tm_add(m, "lm_head.weight", 61, 22, 0, 1, &r);
    expect_refusal(m, LT_EDATA, "tied");
    m = tm_build(TM_ODD, 7);
    memcpy(tm_add(m, "lm_head.weight", 61, 22, 0, 1, &r)->data, tm_find(m, "model.embed_tokens.weight")->data,
           61 * 22 * sizeof(float));
    lt_model *model = tm_open(tm_write(m, "copy", 1)); /* a second copy of the table is the table */
    assert_int_equal(lt_model_n_params(model), 61 * 22 + 7 * 22 + lt_model_n_linear_params(model));
    lt_model_destroy(model);
    tm_free(m);
}

/* ---- factored forms ---- */

static const struct {
    const char *a, *b;
} forms[] = {
    { "model.layers.1.self_attn.q_proj.ALinear.weight", "model.layers.1.self_attn.q_proj.BLinear.weight" },
    { "model.layers.1.self_attn.q_proj.A", "model.layers.1.self_attn.q_proj.B" },
    { "model.layers.1.self_attn.q_u_proj.weight", "model.layers.1.self_attn.q_v_proj.weight" },
};

static void every_factored_form_is_read_the_same(void **state) {
    (void)state;
    lt_team *team = tm_team(1);
    const int32_t ids[5] = { 3, 1, 4, 15, 9 };
    float *first = NULL;
    for (size_t f = 0; f < LT_COUNTOF(forms); f++) {
        tm *m = tm_build(TM_ODD, 8);
        tm_factor(m, q1, 7, forms[f].a, forms[f].b, 80);
        lt_model *model = tm_open(tm_write(m, "factored", 1));
        lt_module mod;
        assert_true(lt_model_find_module(model, q1, &mod));
        assert_int_equal(lt_linear_rank(mod.linear), 7);
        assert_int_equal(lt_linear_out(mod.linear), 60);
        float *y = tm_logits(model, team, ids, 5);
        if (first)
            assert_memory_equal(y, first, 5 * 61 * sizeof *y);
        else
            first = y;
        if (y != first) free(y);
        lt_model_destroy(model);
        tm_free(m);
    }
    free(first);
    lt_team_destroy(team);
}

static void half_a_factorisation_is_refused(void **state) {
    (void)state;
    for (size_t f = 0; f < LT_COUNTOF(forms); f++) {
        tm *m = tm_build(TM_ODD, 9);
        tm_factor(m, q1, 7, forms[f].a, forms[f].b, 80);
        tm_remove(m, f % 2 ? forms[f].a : forms[f].b);
        expect_refusal(m, LT_EDATA, f % 2 ? forms[f].a : forms[f].b);
        m = tm_build(TM_ODD, 9);
        tm_factor(m, q1, 7, forms[f].a, forms[f].b, 80);
        tm_find(m, forms[f].a)->size[1] = 6;
        expect_refusal(m, LT_EDATA, "factors do not agree in rank");
        m = tm_build(TM_ODD, 9);
        tm_factor(m, q1, 7, forms[f].a, forms[f].b, 80);
        tm_find(m, forms[f].a)->size[0] = 59;
        expect_refusal(m, LT_EDATA, "the config says [60, 7]");
    }
}

static void a_module_stored_twice_is_refused(void **state) {
    (void)state;
    lt_rng r = test_rng(10);
    tm *m = tm_build(TM_ODD, 10);
    tm_factor(m, q1, 7, forms[0].a, forms[0].b, 80);
    tm_add(m, "model.layers.1.self_attn.q_proj.weight", 60, 22, 0, 1, &r);
    expect_refusal(m, LT_EDATA, "stored twice");
    m = tm_build(TM_ODD, 10);
    tm_factor(m, q1, 7, forms[0].a, forms[0].b, 80);
    tm_add(m, forms[1].a, 60, 7, 0, 1, &r);
    tm_add(m, forms[1].b, 7, 22, 0, 1, &r);
    expect_refusal(m, LT_EDATA, "stored twice");
}

static void a_factored_module_may_bring_a_bias(void **state) {
    (void)state;
    lt_rng r = test_rng(11);
    tm *m = tm_build(TM_ODD, 11);
    tm_factor(m, q1, 7, forms[0].a, forms[0].b, 80);
    tm_add(m, "model.layers.1.self_attn.q_proj.ALinear.bias", 60, 0, 0, 1, &r);
    lt_model *model = tm_open(tm_write(m, "affine", 1));
    assert_non_null(model->layer[1].linear[LT_SLOT_Q].bias.name);
    lt_model_destroy(model);
    tm_find(m, "model.layers.1.self_attn.q_proj.ALinear.bias")->size[0] = 22;
    expect_refusal(m, LT_EDATA, "ALinear.bias");
}

/* The config's tables of ranks, where given, list exactly what is factored. */
static void rank_tables_must_agree_with_the_factors(void **state) {
    (void)state;
    static const struct {
        const char *extra;
        lt_status code;
        const char *word;
    } cases[] = {
        { ", \"low_rank_modules\": {\"model.layers.1.self_attn.q_proj\": {\"rank\": 7}}", LT_OK, NULL },
        { ", \"truncation_ranks\": {\"model.layers.1.self_attn.q_proj\": 7}", LT_OK, NULL },
        { ", \"low_rank_modules\": {\"model.layers.1.self_attn.q_proj\": {\"rank\": 8}}", LT_EDATA, "rank 8" },
        { ", \"truncation_ranks\": {\"model.layers.1.self_attn.q_proj\": 6}", LT_EDATA, "rank 6" },
        { ", \"low_rank_modules\": {}", LT_EDATA, "not in low_rank_modules" },
        { ", \"low_rank_modules\": {\"model.layers.1.self_attn.q_proj\": {\"rank\": 7}, "
          "\"model.layers.1.mlp.up_proj\": {\"rank\": 3}}",
          LT_EDATA, "dense" },
        { ", \"low_rank_modules\": {\"model.layers.1.self_attn.q_proj\": {\"rank\": 7}, "
          "\"model.layers.9.mlp.up_proj\": {\"rank\": 3}}",
          LT_EDATA, "layers.9" },
        { ", \"low_rank_modules\": {\"model.layers.1.self_attn.q_proj\": \"7\"}", LT_EDATA, "integer" },
        { ", \"low_rank_modules\": [7]", LT_EDATA, "not an object" },
        { ", \"low_rank_format_version\": 2", LT_EUNSUPPORTED, "low_rank_format_version" },
        { ", \"low_rank_schema\": \"UV\"", LT_EUNSUPPORTED, "low_rank_schema" },
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        tm_spec s = TM_ODD;
        s.extra = cases[i].extra;
        tm *m = tm_build(s, 12);
        tm_factor(m, q1, 7, forms[0].a, forms[0].b, 80);
        if (cases[i].code == LT_OK) {
            lt_model_destroy(tm_open(tm_write(m, "ranks", 1)));
            tm_free(m);
        } else
            expect_refusal(m, cases[i].code, cases[i].word);
    }
}

/* ---- shards ---- */

static void shards_and_one_file_are_the_same_model(void **state) {
    (void)state;
    lt_team *team = tm_team(1);
    const int32_t ids[6] = { 3, 1, 4, 15, 9, 60 };
    tm *m = tm_build(TM_ODD, 13);
    lt_model *one = tm_open(tm_write(m, "one", 1)), *many = tm_open(tm_write(m, "many", 4));
    float *a = tm_logits(one, team, ids, 6), *b = tm_logits(many, team, ids, 6);
    assert_memory_equal(a, b, 6 * 61 * sizeof *a);
    free(a);
    free(b);
    lt_model_destroy(one);
    lt_model_destroy(many);
    tm_free(m);
    lt_team_destroy(team);
}

static void edit(const char *dir, const char *from, const char *to) {
    char *path = lt_path_join(dir, "model.safetensors.index.json");
    size_t bytes;
    char *text = test_read_file(path, &bytes), *at = strstr(text, from);
    assert_non_null(at);
    char *out = lt_asprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    test_write_file(path, out, strlen(out));
    lt_free(out);
    lt_free(text);
    lt_free(path);
}

static void an_index_that_disagrees_with_its_shards_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *from, *to;
        lt_status code;
        const char *word;
    } cases[] = {
        { "\"model.norm.weight\"", "\"model.norm.weight2\"", LT_EDATA, "not in the index" },
        { "\"model.norm.weight\"", "\"extra\": \"model-00001-of-00002.safetensors\", \"model.norm.weight\"", LT_EDATA,
          "extra" },
        { "\"model.layers.0.input_layernorm.weight\": \"model-0000",
          "\"model.layers.0.input_layernorm.weight\": \"../model-0000", LT_EDATA, "plain file name" },
        { "-of-00002.safetensors\"", "-of-00003.safetensors\"", LT_EIO, "shard is missing" },
        { "weight_map", "weight_mop", LT_EDATA, "weight_map" },
        { "{", "[", LT_EDATA, "JSON" },
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        tm *m = tm_build(TM_ODD, 14);
        const char *dir = tm_write(m, "index", 2);
        edit(dir, cases[i].from, cases[i].to);
        lt_err err = { 0 };
        lt_model *model;
        assert_fails(lt_model_open(&model, dir, &err), &err, cases[i].code, cases[i].word);
        tm_free(m);
    }
}

static void a_truncated_shard_is_refused(void **state) {
    (void)state;
    tm *m = tm_build(TM_ODD, 15);
    const char *dir = tm_write(m, "short", 2);
    char *path = lt_path_join(dir, "model-00002-of-00002.safetensors");
    size_t bytes;
    char *data = test_read_file(path, &bytes);
    const size_t cuts[] = { bytes - 1, bytes / 2, 100, 7, 0 };
    for (size_t i = 0; i < LT_COUNTOF(cuts); i++) {
        lt_err err = { 0 };
        lt_model *model;
        test_write_file(path, data, cuts[i]);
        assert_fails(lt_model_open(&model, dir, &err), &err, LT_EDATA, "00002-of-00002");
    }
    lt_free(data);
    lt_free(path);
    tm_free(m);
}

static void a_weight_that_is_not_finite_is_named_with_its_place(void **state) {
    (void)state;
    const float bad[] = { NAN, INFINITY, -INFINITY };
    for (size_t i = 0; i < LT_COUNTOF(bad); i++) {
        tm *m = tm_build(TM_ODD, 16);
        tm_find(m, "model.layers.1.mlp.up_proj.weight")->data[5 * 22 + 21] = bad[i];
        lt_model *model = tm_open(tm_write(m, "nan", 1));
        lt_err err = { 0 };
        assert_ok(lt_model_check_finite(model, 0, &err), &err);
        assert_fails(lt_model_check_finite(model, 1, &err), &err, LT_EDATA,
                     "model.layers.1.mlp.up_proj.weight: [5, 21]");
        assert_ok(lt_model_check_finite(model, -1, &err), &err);
        lt_model_destroy(model);
        tm_free(m);
    }
}

/* ---- GGUF ---- */

static void a_gguf_is_the_folder_it_was_made_from(void **state) {
    (void)state;
    lt_team *team = tm_team(1);
    const int32_t ids[6] = { 3, 1, 4, 15, 9, 50 };
    const tm_spec specs[] = { TM_ODD, TM_BIAS };
    for (size_t i = 0; i < LT_COUNTOF(specs); i++) {
        tm *m = tm_build(specs[i], 17);
        lt_model *hf = tm_open(tm_write(m, "hf", 1)),
                 *gguf = tm_open(tm_write_gguf(m, "m.gguf", LT_F32, NULL, 0, NULL, 0));
        assert_true(lt_model_is_gguf(gguf) && !lt_model_is_gguf(hf) && lt_model_gguf(gguf));
        assert_int_equal(lt_model_n_params(gguf), lt_model_n_params(hf));
        assert_true(gguf->config.bos == 1 && gguf->config.eos[0] == 2 && gguf->config.norm_eps == 1e-5);
        float *a = tm_logits(hf, team, ids, 6), *b = tm_logits(gguf, team, ids, 6);
        assert_close(b, a, 6 * specs[i].vocab, 2e-6, 2e-6);
        free(a);
        free(b);
        lt_model_destroy(hf);
        lt_model_destroy(gguf);
        tm_free(m);
    }
    lt_team_destroy(team);
}

static void a_gguf_with_llama3_divisors_gets_its_rope_scaling_back(void **state) {
    (void)state;
    lt_team *team = tm_team(1);
    tm_spec s = TM_ODD;
    s.extra = ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
              "\"high_freq_factor\": 4.0, "
              "\"original_max_position_embeddings\": 64}";
    tm *m = tm_build(s, 18);
    lt_model *hf = tm_open(tm_write(m, "hf3", 1));
    float factor[5];
    for (size_t i = 0; i < 5; i++) factor[i] = (float)(pow(10000.0, -2.0 * (double)i / 10.0) / hf->inv_freq[0][i]);
    lt_model *gguf = tm_open(tm_write_gguf(m, "m3.gguf", LT_F32, factor, 5, NULL, 0));
    assert_int_equal(gguf->config.rope[0].kind, LT_ROPE_LLAMA3);
    assert_true(gguf->config.rope[0].factor == 8.0);
    assert_close_f64(gguf->inv_freq[0], hf->inv_freq[0], 5, 0.0, 1e-4);
    lt_model_destroy(gguf);
    lt_err err = { 0 };
    factor[2] = 0.37f;
    assert_fails(lt_model_open(&gguf, tm_write_gguf(m, "m3.gguf", LT_F32, factor, 5, NULL, 0), &err), &err,
                 LT_EUNSUPPORTED, "rope_freqs.weight");
    assert_fails(lt_model_open(&gguf, tm_write_gguf(m, "m3.gguf", LT_F32, factor, 4, NULL, 0), &err), &err, LT_EDATA,
                 "rope_freqs.weight");
    lt_model_destroy(hf);
    tm_free(m);
    lt_team_destroy(team);
}

static void a_gguf_that_we_cannot_run_is_refused_by_key(void **state) {
    (void)state;
    static const struct {
        const char *key, *text;
        uint32_t number;
        lt_status code;
        const char *word;
    } cases[] = {
        { "llama.rope.scaling.type", "longrope", 0, LT_EUNSUPPORTED, "llama.rope.scaling.type" },
        { "llama.final_logit_softcapping", NULL, 30, LT_EUNSUPPORTED, "llama.final_logit_softcapping" },
        { "llama.final_logit_softcapping", "much", 0, LT_EDATA, "llama.final_logit_softcapping" },
        { "llama.attention.sliding_window", "all", 0, LT_EUNSUPPORTED, "sliding_window" },
        { "llama.attention.sliding_window_pattern", NULL, 3, LT_EUNSUPPORTED, "sliding_window_pattern" },
        { "llama.expert_count", NULL, 8, LT_EUNSUPPORTED, "expert" },
        { "llama.rope.dimension_count", NULL, 4, LT_EUNSUPPORTED, "rope.dimension_count" },
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        tm *m = tm_build(TM_ODD, 19);
        tm_bytes more = { 0 };
        if (cases[i].text)
            tm_kv_text(&more, cases[i].key, cases[i].text);
        else
            tm_kv_u32(&more, cases[i].key, cases[i].number);
        lt_err err = { 0 };
        lt_model *model;
        assert_fails(lt_model_open(&model, tm_write_gguf(m, "k.gguf", LT_F32, NULL, 0, &more, 1), &err), &err,
                     cases[i].code, cases[i].word);
        free(more.data);
        tm_free(m);
    }
    tm *m = tm_build(TM_ODD, 19);
    lt_rng r = test_rng(19);
    lt_err err = { 0 };
    lt_model *model;
    tm_add(m, "blk.0.ffn_gate_inp.weight", 4, 22, 0, 1, &r);
    assert_fails(lt_model_open(&model, tm_write_gguf(m, "k.gguf", LT_F32, NULL, 0, NULL, 0), &err), &err, LT_EDATA,
                 "blk.0.ffn_gate_inp.weight");
    tm_remove(m, "blk.0.ffn_gate_inp.weight");
    tm_remove(m, "model.layers.2.mlp.up_proj.weight");
    assert_fails(lt_model_open(&model, tm_write_gguf(m, "k.gguf", LT_F32, NULL, 0, NULL, 0), &err), &err, LT_EDATA,
                 "model.layers.2.mlp.up_proj");
    tm_free(m);
}

static lt_status open_and_close(void *user, lt_err *err) {
    lt_model *m;
    LT_TRY(lt_model_open(&m, user, err));
    const lt_status st = lt_model_make_trainable(m, err);
    lt_model_destroy(m);
    return st;
}

static void running_out_of_memory_is_an_error_without_leaks(void **state) {
    (void)state;
    tm_spec s = TM_BIAS;
    s.layers = 1;
    tm *m = tm_build(s, 20);
    assert_true(test_every_allocation_fails(open_and_close, (void *)tm_write(m, "mem", 2)) > 10);
    assert_true(test_every_allocation_fails(open_and_close,
                                            (void *)tm_write_gguf(m, "mem.gguf", LT_F32, NULL, 0, NULL, 0)) > 10);
    tm_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_opens_with_every_tensor_in_its_slot),
        cmocka_unit_test(names_without_their_prefix_are_the_same_model),
        cmocka_unit_test(output_folders_stand_for_the_model_in_them),
        cmocka_unit_test(generation_settings_give_the_stop_ids),
        cmocka_unit_test(a_missing_tensor_is_named),
        cmocka_unit_test(an_unknown_tensor_is_named),
        cmocka_unit_test(a_misshapen_tensor_is_named_with_both_shapes),
        cmocka_unit_test(the_head_is_tied_or_its_own_but_not_both),
        cmocka_unit_test(every_factored_form_is_read_the_same),
        cmocka_unit_test(half_a_factorisation_is_refused),
        cmocka_unit_test(a_module_stored_twice_is_refused),
        cmocka_unit_test(a_factored_module_may_bring_a_bias),
        cmocka_unit_test(rank_tables_must_agree_with_the_factors),
        cmocka_unit_test(shards_and_one_file_are_the_same_model),
        cmocka_unit_test(an_index_that_disagrees_with_its_shards_is_refused),
        cmocka_unit_test(a_truncated_shard_is_refused),
        cmocka_unit_test(a_weight_that_is_not_finite_is_named_with_its_place),
        cmocka_unit_test(a_gguf_is_the_folder_it_was_made_from),
        cmocka_unit_test(a_gguf_with_llama3_divisors_gets_its_rope_scaling_back),
        cmocka_unit_test(a_gguf_that_we_cannot_run_is_refused_by_key),
        cmocka_unit_test(running_out_of_memory_is_an_error_without_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
