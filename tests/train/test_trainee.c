/* SPDX-License-Identifier: Apache-2.0 */
/* What a trainee keeps of the model and of the adapters that it goes on with. */
#include "model/model_test.h"

#include "train/trainee.h"

static const char config[] = "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 2, \"target_modules\": [\"q_proj\"], "
                             "\"layers_to_transform\": [0], \"modules_to_save\": [\"lm_head\"]}";

/* LoRA that does nothing, and a head of zeros. */
static const char *write_adapter(const tm_spec *s) {
    const struct {
        const char *name;
        size_t size[2];
    } t[] = { { "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", { 2, s->d } },
              { "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", { s->heads * s->head_dim, 2 } },
              { "base_model.model.lm_head.weight", { s->vocab, s->d } } };
    const char *folder = test_path("adapter");
    lt_err err = { 0 };
    lt_st_writer *w;
    assert_ok(lt_make_dirs(folder, &err), &err);
    tm_write_text(folder, "adapter_config.json", config);
    assert_ok(lt_st_writer_create(&w, test_path("adapter/adapter_model.safetensors"), &err), &err);
    for (size_t i = 0; i < LT_COUNTOF(t); i++)
        assert_ok(lt_st_writer_declare(w, t[i].name, LT_F32, 2, t[i].size, &err), &err);
    assert_ok(lt_st_writer_begin(w, &err), &err);
    for (size_t i = 0; i < LT_COUNTOF(t); i++) {
        float *zeros = calloc(t[i].size[0] * t[i].size[1], sizeof *zeros);
        assert_ok(lt_st_writer_bytes(w, zeros, t[i].size[0] * t[i].size[1] * sizeof *zeros, &err), &err);
        free(zeros);
    }
    assert_ok(lt_st_writer_commit(w, &err), &err);
    return folder;
}

/* The base's head is its embedding; the adapter's is not. */
static void a_head_that_an_adapter_has_parted_stays_apart(void **state) {
    (void)state;
    const tm_spec spec = TM_ODD;
    tm *files = tm_build(spec, 3);
    lt_model *m = tm_open(tm_write(files, "tied", 1));
    lt_team *team = tm_team(1);
    const lt_train_lora lora = { .from = write_adapter(&spec) };
    const lt_trainee_opts opts = { .lora = &lora };
    int32_t ids[5];
    lt_err err = { 0 };
    lt_trainee *t;
    tm_ids(ids, LT_COUNTOF(ids), m->config.vocab_size, 5);
    assert_ok(lt_trainee_create(&t, m, &opts, &err), &err);
    float *logits = tm_logits(&t->model, team, ids, LT_COUNTOF(ids));
    for (size_t i = 0; i < LT_COUNTOF(ids) * m->config.vocab_size; i++) assert_true(logits[i] == 0);
    free(logits);
    lt_trainee_destroy(t);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(files);
}

/* One table that is read twice has one value, and it is the trainee's own. */
static void a_tied_table_trains_as_one(void **state) {
    (void)state;
    tm *files = tm_build(TM_ODD, 3);
    lt_model *m = tm_open(tm_write(files, "one", 1));
    const lt_trainee_opts opts = { .base = LT_TRAIN_ALL };
    lt_err err = { 0 };
    lt_trainee *t;
    assert_ok(lt_trainee_create(&t, m, &opts, &err), &err);
    assert_ptr_equal(lt_host(&t->model.embed.t), lt_host(&t->model.head.stage[0].w.t));
    assert_ptr_equal(t->model.embed.grad, t->model.head.stage[0].w.grad);
    assert_ptr_not_equal(lt_host(&t->model.embed.t), lt_host(&m->embed.t));
    lt_trainee_destroy(t);
    lt_model_destroy(m);
    tm_free(files);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_that_an_adapter_has_parted_stays_apart),
        cmocka_unit_test(a_tied_table_trains_as_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
