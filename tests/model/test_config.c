/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of llama: what is read, and that every contradiction is refused with the name of the field. */
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

/* good with one member more; the later of two equal keys is not allowed, so the base member goes. */
static char *with(const char *member) {
    json_t *j = json_loads(good, 0, NULL);
    char *text = lt_asprintf("{%s}", member);
    json_t *more = json_loads(text, 0, NULL);
    assert_non_null(more);
    json_object_update(j, more);
    lt_free(text);
    text = json_dumps(j, 0);
    json_decref(j);
    json_decref(more);
    return text;
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
