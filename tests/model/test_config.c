/* SPDX-License-Identifier: Apache-2.0 */
/* config.json: what is read of it for every family, and that every contradiction is refused with the name of the field.
 */
#include "model_test.h"

static lt_status read_text(lt_config *c, const char *text, lt_err *err) {
    const lt_family *f;
    *c = (lt_config){ 0 };
    LT_TRY(lt_json_parse(&c->raw, text, strlen(text), "config.json", err));
    LT_TRY(lt_family_find(&f, json_string_value(json_object_get(c->raw, "model_type")), err));
    return lt_family_read_config(f, c, c->raw, "config.json", err);
}

static const char good[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 48, \"intermediate_size\": 96, \"num_hidden_layers\": 2, "
    "\"num_attention_heads\": 4, \"vocab_size\": 100}";

static void missing_members_get_the_defaults_of_transformers(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_config c;
    assert_ok(read_text(&c, good, &err), &err);
    const lt_layer_config *l = &c.layer[1];
    assert_true(c.d_model == 48 && c.n_layers == 2 && c.vocab_size == 100 && c.max_positions == 2048 &&
                c.norm_eps == 1e-6);
    assert_true(l->n_q_heads == 4 && l->n_k_heads == 4 && l->n_v_heads == 4 && l->qk_dim == 12 && l->v_dim == 12 &&
                l->d_ff == 96);
    assert_true(l->present && l->parent == 1 && l->kv_source == 1 && l->window == 0 &&
                fabs(l->qk_scale - 1.0 / sqrt(12.0)) < 1e-15);
    assert_true(!c.tied && !c.attn_bias && !c.mlp_bias && c.act == LT_ACT_SILU && c.bos == 1 && c.n_eos == 1 &&
                c.eos[0] == 2);
    assert_true(c.n_ropes == 1 && c.rope[0].theta == 10000.0 && c.rope[0].dim == 12);
    lt_config_clear(&c);
}

/* base with one member more, or instead of its own */
static char *with_of(const char *base, const char *member) {
    json_t *j = json_loads(base, 0, NULL);
    char *text = lt_asprintf("{%s}", member);
    json_t *more = json_loads(text, 0, NULL);
    assert_non_null(j);
    assert_non_null(more);
    json_object_update(j, more);
    lt_free(text);
    text = json_dumps(j, 0);
    json_decref(j);
    json_decref(more);
    return text;
}

static char *with(const char *member) {
    return with_of(good, member);
}

/* ---- every family ---- */

#define LIKE_LLAMA(type)                                                                                               \
    "{\"model_type\": \"" type "\", \"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 8, "        \
    "\"num_attention_heads\": 32, \"vocab_size\": 100}"
static const char gpt2[] =
    "{\"model_type\": \"gpt2\", \"n_embd\": 64, \"n_layer\": 8, \"n_head\": 32, \"vocab_size\": 100}";
static const char opt[] = "{\"model_type\": \"opt\", \"hidden_size\": 64, \"ffn_dim\": 96, \"num_hidden_layers\": 8, "
                          "\"num_attention_heads\": 32, \"vocab_size\": 100}";

/* What transformers 4.57.6 makes of a config that says nothing but its sizes. */
static void every_family_has_the_defaults_of_transformers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t kv, head_dim, d_ff, positions;
        double eps;
        lt_act act;
        bool tied, attn_bias;
        int bos, eos;                       /* -1: none */
        size_t window_first, window_fourth; /* of layers 0 and 3 */
        double theta;                       /* 0: nothing rotates */
        size_t rotating;
    } cases[] = {
        { LIKE_LLAMA("llama"), 32, 2, 96, 2048, 1e-6, LT_ACT_SILU, false, false, 1, 2, 0, 0, 1e4, 2 },
        { LIKE_LLAMA("mistral"), 8, 2, 96, 131072, 1e-6, LT_ACT_SILU, false, false, 1, 2, 4096, 4096, 1e4, 2 },
        { LIKE_LLAMA("qwen2"), 32, 2, 96, 32768, 1e-6, LT_ACT_SILU, false, false, -1, -1, 0, 0, 1e4, 2 },
        { LIKE_LLAMA("qwen3"), 32, 128, 96, 32768, 1e-6, LT_ACT_SILU, false, false, -1, -1, 0, 0, 1e4, 128 },
        { LIKE_LLAMA("olmo2"), 32, 2, 96, 2048, 1e-5, LT_ACT_SILU, false, false, -1, 50279, 0, 0, 1e4, 2 },
        { LIKE_LLAMA("olmo3"), 32, 2, 96, 2048, 1e-5, LT_ACT_SILU, false, false, -1, 50279, 4096, 0, 1e4, 2 },
        { LIKE_LLAMA("phi3"), 32, 2, 96, 4096, 1e-5, LT_ACT_SILU, false, false, 1, 32000, 0, 0, 1e4, 2 },
        { LIKE_LLAMA("gemma3_text"), 4, 256, 96, 131072, 1e-6, LT_ACT_GELU_TANH, true, false, 2, 1, 4096, 4096, 1e6,
          256 },
        { gpt2, 32, 2, 256, 1024, 1e-5, LT_ACT_GELU_TANH, true, false, 50256, 50256, 0, 0, 0, 0 },
        { opt, 32, 2, 96, 2048, 1e-5, LT_ACT_RELU, true, true, 2, 2, 0, 0, 0, 0 },
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_err err = { 0 };
        lt_config c;
        assert_ok(read_text(&c, cases[i].text, &err), &err);
        const lt_layer_config *l = c.layer;
        assert_true(l->n_k_heads == cases[i].kv && l->n_v_heads == cases[i].kv && l->qk_dim == cases[i].head_dim);
        assert_true(l->d_ff == cases[i].d_ff && c.max_positions == cases[i].positions && c.norm_eps == cases[i].eps);
        assert_true(c.act == cases[i].act && c.tied == cases[i].tied && c.attn_bias == cases[i].attn_bias);
        assert_int_equal(c.bos, cases[i].bos);
        assert_int_equal(c.n_eos ? c.eos[0] : -1, cases[i].eos);
        assert_true(c.layer[0].window == cases[i].window_first && c.layer[3].window == cases[i].window_fourth);
        assert_true(cases[i].theta == 0.0 ? c.n_ropes == 0 && l->rope == -1
                                          : c.rope[0].theta == cases[i].theta && c.rope[0].dim == cases[i].rotating);
        lt_config_clear(&c);
    }
    lt_err err = { 0 };
    lt_config c;
    char *text = with_of(LIKE_LLAMA("gpt_neox"), "\"num_attention_heads\": 4");
    assert_ok(read_text(&c, text, &err), &err);
    assert_true(c.block.parallel && c.attn_bias && c.rope[0].dim == 4 && c.rope[0].theta == 1e4 && c.eos[0] == 2 &&
                c.bos == 0 && c.act == LT_ACT_GELU && c.norm_eps == 1e-5 && c.max_positions == 2048 && !c.tied);
    lt_config_clear(&c);
    free(text);
}

static void layers_slide_as_the_config_says(void **state) {
    (void)state;
    static const struct {
        const char *base, *members;
        size_t window[8];
    } cases[] = {
        { LIKE_LLAMA("mistral"), "\"sliding_window\": null", { 0 } },
        { LIKE_LLAMA("qwen2"), "\"sliding_window\": 9, \"max_window_layers\": 2", { 0 } },
        { LIKE_LLAMA("qwen2"),
          "\"use_sliding_window\": true, \"sliding_window\": 9, \"max_window_layers\": 6",
          { 0, 0, 0, 0, 0, 0, 9, 9 } },
        { LIKE_LLAMA("qwen3"),
          "\"use_sliding_window\": true, \"sliding_window\": 9, \"layer_types\": [\"sliding_attention\", "
          "\"full_attention\", \"full_attention\", \"full_attention\", \"full_attention\", \"full_attention\", "
          "\"full_attention\", \"full_attention\"]",
          { 9, 0, 0, 0, 0, 0, 0, 0 } },
        { LIKE_LLAMA("olmo3"), "\"sliding_window\": 5", { 5, 5, 5, 0, 5, 5, 5, 0 } },
        { LIKE_LLAMA("gemma3_text"), "\"sliding_window\": 5", { 5, 5, 5, 5, 5, 0, 5, 5 } },
        { LIKE_LLAMA("gemma3_text"),
          "\"sliding_window\": 5, \"sliding_window_pattern\": 2",
          { 5, 0, 5, 0, 5, 0, 5, 0 } },
        { LIKE_LLAMA("phi3"), "\"sliding_window\": 7", { 7, 7, 7, 7, 7, 7, 7, 7 } },
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        char *text = with_of(cases[i].base, cases[i].members);
        lt_err err = { 0 };
        lt_config c;
        assert_ok(read_text(&c, text, &err), &err);
        for (size_t l = 0; l < 8; l++) {
            assert_int_equal(c.layer[l].window, cases[i].window[l]);
            assert_int_equal(c.layer[l].rope, c.n_ropes > 1 && c.layer[l].window ? 1 : 0);
        }
        lt_config_clear(&c);
        free(text);
    }
}

static void what_a_family_cannot_do_is_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *base, *member;
        lt_status code;
        const char *word;
    } cases[] = {
        { LIKE_LLAMA("mistral"), "\"num_key_value_heads\": 0", LT_EDATA, "num_key_value_heads" },
        { LIKE_LLAMA("mistral"), "\"sliding_window\": 0", LT_EDATA, "sliding_window" },
        { LIKE_LLAMA("mistral"), "\"num_local_experts\": 8", LT_EUNSUPPORTED, "num_local_experts" },
        { LIKE_LLAMA("qwen2"), "\"num_experts\": 60", LT_EUNSUPPORTED, "num_experts" },
        { LIKE_LLAMA("qwen2"), "\"layer_types\": [\"full_attention\"]", LT_EDATA, "layer_types" },
        { LIKE_LLAMA("qwen2"), "\"layer_types\": 3", LT_EDATA, "layer_types" },
        { LIKE_LLAMA("qwen2"), "\"use_sliding_window\": 3", LT_EDATA, "use_sliding_window" },
        { LIKE_LLAMA("qwen3"), "\"num_hidden_layers\": 1, \"layer_types\": [\"sliding_attention\"]", LT_EDATA,
          "sliding_window" },
        { LIKE_LLAMA("qwen3"), "\"num_hidden_layers\": 1, \"layer_types\": [\"linear_attention\"]", LT_EUNSUPPORTED,
          "layer_types" },
        { LIKE_LLAMA("olmo3"), "\"num_hidden_layers\": 1, \"layer_types\": [7]", LT_EUNSUPPORTED, "layer_types" },
        { LIKE_LLAMA("olmo2"), "\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}", LT_EUNSUPPORTED, "dynamic" },
        { LIKE_LLAMA("phi3"), "\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1]}", LT_EUNSUPPORTED,
          "longrope" },
        { LIKE_LLAMA("phi3"), "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}", LT_EUNSUPPORTED,
          "rope_scaling" },
        { LIKE_LLAMA("phi3"), "\"head_dim\": 20, \"partial_rotary_factor\": 0.75", LT_EDATA, "cannot rotate" },
        { LIKE_LLAMA("phi3"), "\"partial_rotary_factor\": 1.5", LT_EDATA, "partial_rotary_factor" },
        { LIKE_LLAMA("gemma3_text"), "\"sliding_window_pattern\": 0", LT_EDATA, "sliding_window_pattern" },
        { LIKE_LLAMA("gemma3_text"), "\"query_pre_attn_scalar\": -3", LT_EDATA, "query_pre_attn_scalar" },
        { LIKE_LLAMA("gemma3_text"), "\"rope_local_base_freq\": 0", LT_EDATA, "rope_local_base_freq" },
        { LIKE_LLAMA("gemma3_text"), "\"attn_logit_softcapping\": 50.0", LT_EUNSUPPORTED, "attn_logit_softcapping" },
        { LIKE_LLAMA("gemma3_text"), "\"final_logit_softcapping\": -30.0", LT_EDATA, "final_logit_softcapping" },
        { LIKE_LLAMA("gemma3_text"), "\"use_bidirectional_attention\": true", LT_EUNSUPPORTED,
          "use_bidirectional_attention" },
        { LIKE_LLAMA("gemma3_text"), "\"hidden_activation\": \"powlu\"", LT_EUNSUPPORTED, "hidden_activation" },
        { LIKE_LLAMA("gpt_neox"), "\"rotary_pct\": 0", LT_EDATA, "rotary_pct" },
        { LIKE_LLAMA("gpt_neox"), "\"num_attention_heads\": 3", LT_EDATA, "num_attention_heads" },
        { LIKE_LLAMA("gpt_neox"), "\"rotary_pct\": 1.0, \"rotary_emb_base\": 500, \"rope_theta\": 400", LT_EDATA,
          "rope_theta" },
        { LIKE_LLAMA("gpt_neox"), "\"rotary_pct\": 1.0, \"use_parallel_residual\": 1", LT_EDATA,
          "use_parallel_residual" },
        { gpt2, "\"add_cross_attention\": true", LT_EUNSUPPORTED, "add_cross_attention" },
        { gpt2, "\"n_embd\": 65", LT_EDATA, "n_embd" },
        { gpt2, "\"n_head\": 0", LT_EDATA, "n_head" },
        { gpt2, "\"n_inner\": -4", LT_EDATA, "n_inner" },
        { gpt2, "\"n_positions\": 0", LT_EDATA, "n_positions" },
        { gpt2, "\"activation_function\": \"mish\"", LT_EUNSUPPORTED, "activation_function" },
        { gpt2, "\"scale_attn_weights\": \"yes\"", LT_EDATA, "scale_attn_weights" },
        { opt, "\"layer_norm_elementwise_affine\": false", LT_EUNSUPPORTED, "layer_norm_elementwise_affine" },
        { opt, "\"word_embed_proj_dim\": 0", LT_EDATA, "word_embed_proj_dim" },
        { opt, "\"ffn_dim\": null", LT_EDATA, "ffn_dim" },
        { opt, "\"do_layer_norm_before\": \"no\"", LT_EDATA, "do_layer_norm_before" },
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        char *text = with_of(cases[i].base, cases[i].member);
        lt_err err = { 0 };
        lt_config c;
        assert_fails(read_text(&c, text, &err), &err, cases[i].code, cases[i].word);
        lt_config_clear(&c);
        free(text);
    }
}

static void contradictions_and_unknown_rules_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *member;
        lt_status code;
        const char *word;
    } cases[] = {
        { "\"num_key_value_heads\": 3", LT_EDATA, "key-value heads" },
        { "\"num_attention_heads\": 5", LT_EDATA, "num_attention_heads" },
        { "\"num_attention_heads\": 0", LT_EDATA, "num_attention_heads" },
        { "\"head_dim\": 7", LT_EDATA, "head_dim" },
        { "\"hidden_size\": 0", LT_EDATA, "hidden_size" },
        { "\"hidden_size\": -4", LT_EDATA, "hidden_size" },
        { "\"hidden_size\": 1e30", LT_EDATA, "hidden_size" },
        { "\"hidden_size\": \"48\"", LT_EDATA, "hidden_size" },
        { "\"vocab_size\": 99999999999", LT_EDATA, "vocab_size" },
        { "\"num_hidden_layers\": 2000000", LT_EDATA, "layers" },
        { "\"num_hidden_layers\": null", LT_EDATA, "num_hidden_layers" },
        { "\"rms_norm_eps\": -1", LT_EDATA, "rms_norm_eps" },
        { "\"tie_word_embeddings\": 3", LT_EDATA, "tie_word_embeddings" },
        { "\"eos_token_id\": \"x\"", LT_EDATA, "eos_token_id" },
        { "\"eos_token_id\": [1,2,3,4,5,6,7,8,9]", LT_EUNSUPPORTED, "eos_token_id" },
        { "\"hidden_act\": \"xielu\"", LT_EUNSUPPORTED, "hidden_act" },
        { "\"quantization_config\": {\"bits\": 4}", LT_EUNSUPPORTED, "quantization_config" },
        { "\"partial_rotary_factor\": 0.5", LT_EUNSUPPORTED, "partial_rotary_factor" },
        { "\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 2}", LT_EUNSUPPORTED, "rope_type" },
        { "\"model_type\": \"mamba\"", LT_EUNSUPPORTED, "supported: llama" },
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        char *text = with(cases[i].member);
        lt_err err = { 0 };
        lt_config c;
        assert_fails(read_text(&c, text, &err), &err, cases[i].code, cases[i].word);
        lt_config_clear(&c);
        free(text);
    }
}

static void lists_and_nulls_of_stop_ids_are_read(void **state) {
    (void)state;
    char *text =
        with("\"eos_token_id\": [5, 7], \"bos_token_id\": null, \"head_dim\": null, \"num_key_value_heads\": null");
    lt_err err = { 0 };
    lt_config c;
    assert_ok(read_text(&c, text, &err), &err);
    assert_true(c.bos == -1 && c.n_eos == 2 && c.eos[0] == 5 && c.eos[1] == 7 && c.layer[0].qk_dim == 12 &&
                c.layer[0].n_k_heads == 4);
    lt_config_clear(&c);
    free(text);
}

/* What a writer makes of an unchanged config reads back as the same model. */
static void assert_same_layers(const lt_config *a, const lt_config *b) {
    for (size_t i = 0; i < a->n_layers; i++) {
        const lt_layer_config *x = &a->layer[i], *y = &b->layer[i];
        assert_true(x->n_q_heads == y->n_q_heads && x->n_k_heads == y->n_k_heads && x->qk_dim == y->qk_dim &&
                    x->d_ff == y->d_ff && x->window == y->window && x->rope == y->rope && x->qk_scale == y->qk_scale);
    }
}

static void every_family_writes_what_it_reads(void **state) {
    (void)state;
    for (const lt_family *const *f = lt_families; *f; f++) {
        char *text = lt_asprintf("{\"model_type\": \"%s\", \"%s\": 64, \"%s\": 96, \"%s\": 9, \"%s\": 4, "
                                 "\"vocab_size\": 100, \"mine\": [1]}",
                                 (*f)->model_types[0], (*f)->config.d_model, (*f)->config.d_ff, (*f)->config.n_layers,
                                 (*f)->config.n_heads);
        char *full = with_of(text, "\"num_key_value_heads\": 2, \"sliding_window\": 11, \"use_sliding_window\": true");
        lt_err err = { 0 };
        lt_config c, again;
        json_t *out;
        assert_ok(read_text(&c, full, &err), &err);
        assert_ok(lt_family_write_config(*f, &out, &c, &err), &err);
        char *second = json_dumps(out, 0);
        assert_ok(read_text(&again, second, &err), &err);
        assert_true(again.d_model == c.d_model && again.d_embed == c.d_embed && again.tied == c.tied &&
                    again.attn_bias == c.attn_bias && again.mlp_bias == c.mlp_bias && again.norm_eps == c.norm_eps &&
                    memcmp(&again.block, &c.block, sizeof c.block) == 0);
        assert_same_layers(&c, &again);
        assert_non_null(json_object_get(out, "mine"));
        lt_config_clear(&c);
        lt_config_clear(&again);
        json_decref(out);
        free(second);
        free(full);
        lt_free(text);
    }
}

static void written_configs_read_back(void **state) {
    (void)state;
    char *text = with(
        "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2.5}, \"my_field\": [1], \"attention_bias\": true");
    lt_err err = { 0 };
    lt_config c, again;
    assert_ok(read_text(&c, text, &err), &err);
    json_t *out;
    assert_ok(lt_family_write_config(lt_families[0], &out, &c, &err), &err);
    char *second = json_dumps(out, 0);
    assert_ok(read_text(&again, second, &err), &err);
    assert_true(again.d_model == c.d_model && again.layer[0].qk_dim == 12 && again.rope[0].factor == 2.5 &&
                again.attn_bias);
    assert_non_null(json_object_get(out, "my_field"));
    assert_int_equal(json_integer_value(json_object_get(out, "head_dim")), 12);
    json_decref(out);
    lt_config_clear(&c);
    lt_config_clear(&again);
    free(second);
    free(text);
}

/* The table that everything derives from: one head, one table, one final norm, names with a place for the layer where
 * they need it. */
static void every_family_row_is_whole(void **state) {
    (void)state;
    for (const lt_family *const *f = lt_families; *f; f++) {
        size_t seen[LT_N_SLOTS] = { 0 };
        assert_non_null((*f)->model_types[0]);
        for (size_t i = 0; i < (*f)->n_tensors; i++) {
            const lt_map_row *r = &(*f)->tensors[i];
            char name[160];
            seen[r->slot]++;
            assert_true(lt_map_name(name, sizeof name, r->hf, 31));
            assert_true((strstr(r->hf, "%zu") != NULL) == lt_slot_in_layer(r->slot));
            assert_null(strchr(name, '%'));
            assert_non_null(lt_axis_name(r->out));
            assert_non_null(lt_slot_role(r->slot));
        }
        for (size_t i = 0; i < (*f)->n_tensors; i++) {
            const lt_fused *fused = (*f)->tensors[i].fused;
            const lt_slot slot = (*f)->tensors[i].slot;
            assert_int_equal(fused ? fused->n_parts : 0, slot == LT_SLOT_QKV ? 3 : slot == LT_SLOT_GATE_UP ? 2 : 0);
        }
        assert_true(seen[LT_SLOT_EMBED] == 1 && seen[LT_SLOT_HEAD] == 1 && seen[LT_SLOT_FINAL_NORM] <= 1);
    }
    char small[8];
    assert_false(lt_map_name(small, sizeof small, "model.layers.%zu", 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_members_get_the_defaults_of_transformers),
        cmocka_unit_test(contradictions_and_unknown_rules_are_refused_by_name),
        cmocka_unit_test(lists_and_nulls_of_stop_ids_are_read),
        cmocka_unit_test(written_configs_read_back),
        cmocka_unit_test(every_family_row_is_whole),
        cmocka_unit_test(every_family_has_the_defaults_of_transformers),
        cmocka_unit_test(layers_slide_as_the_config_says),
        cmocka_unit_test(what_a_family_cannot_do_is_refused_by_name),
        cmocka_unit_test(every_family_writes_what_it_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
