/* SPDX-License-Identifier: Apache-2.0 */
#include "export/export.h"

#include "model/model_test.h"

#define SPEC                                                                                                           \
    ((tm_spec){ .vocab = 64,                                                                                           \
                .d = 32,                                                                                               \
                .layers = 2,                                                                                           \
                .heads = 4,                                                                                            \
                .kv = 2,                                                                                               \
                .head_dim = 8,                                                                                         \
                .ff = 64,                                                                                              \
                .positions = 64,                                                                                       \
                .tied = true })
#define UP "model.layers.1.mlp.up_proj"

static const char *save(const lt_model *m, const char *name, lt_save_form form, lt_dtype dtype) {
    lt_err err = { 0 };
    const char *folder = test_path(name);
    const lt_save_opts o = { .form = form, .dtype = dtype };
    assert_ok(lt_remove_tree(folder, &err), &err);
    assert_ok(lt_model_save(m, folder, &o, NULL, &err), &err);
    return folder;
}

static lt_status verify(double *gap, const lt_model *source, const char *folder, double max_gap, lt_err *err) {
    lt_team *team = tm_team(2);
    const lt_status st = lt_verify_model(gap, source, folder, max_gap, team, err);
    lt_team_destroy(team);
    return st;
}

static tm *factored(uint32_t seed) {
    tm *b = tm_build(SPEC, seed);
    tm_factor(b, UP, 7, UP ".ALinear.weight", UP ".BLinear.weight", seed + 1);
    return b;
}

static void targets_are_found_by_name_or_listed(void **state) {
    (void)state;
    lt_err err = { 0 };
    const lt_export_target *t;
    assert_ok(lt_export_find(&t, "hf-dense", &err), &err);
    assert_int_equal(t->form, LT_FORM_DENSE);
    assert_ok(lt_export_find(&t, "ablinear", &err), &err);
    assert_fails(lt_export_find(&t, "onnx", &err), &err, LT_EUNSUPPORTED, "hf-dense, ablinear, ab, gguf");
    for (size_t i = 0; lt_export_targets[i]; i++)
        for (size_t k = 0; k < i; k++) assert_string_not_equal(lt_export_targets[i]->name, lt_export_targets[k]->name);
}

static void the_same_dtype_and_form_reads_back_bit_for_bit(void **state) {
    (void)state;
    tm *b = factored(1);
    lt_model *m = tm_open(tm_write(b, "source", 1));
    lt_err err = { 0 };
    double gap = 1;
    assert_ok(verify(&gap, m, save(m, "same", LT_FORM_ABLINEAR, LT_N_DTYPES), 0.0, &err), &err);
    assert_true(gap == 0.0);
    assert_ok(verify(&gap, m, save(m, "ab", LT_FORM_AB, LT_N_DTYPES), 0.0, &err), &err);
    lt_model_destroy(m);
    tm_free(b);
}

static void factors_multiplied_out_are_close(void **state) {
    (void)state;
    tm *b = factored(3);
    lt_model *m = tm_open(tm_write(b, "source", 1));
    lt_err err = { 0 };
    double gap = 1;
    const char *dense = save(m, "dense", LT_FORM_DENSE, LT_N_DTYPES);
    assert_ok(verify(&gap, m, dense, 1e-4, &err), &err);
    lt_model *d = tm_open(dense);
    lt_module mod;
    for (size_t i = 0; lt_model_module(d, i, &mod); i++) assert_int_equal(mod.linear->n_stages, 1);
    assert_fails(verify(&gap, d, save(m, "back", LT_FORM_ABLINEAR, LT_N_DTYPES), 1.0, &err), &err, LT_EVERIFY,
                 "factored");
    lt_model_destroy(d);
    lt_model_destroy(m);
    tm_free(b);
}

static void another_dtype_is_each_number_rounded_once(void **state) {
    (void)state;
    static const lt_dtype to[] = { LT_BF16, LT_F16 };
    tm *b = factored(5);
    lt_model *m = tm_open(tm_write(b, "source", 1));
    for (size_t i = 0; i < LT_COUNTOF(to); i++) {
        lt_err err = { 0 };
        double gap = 0;
        assert_ok(verify(&gap, m, save(m, "rounded", LT_FORM_DENSE, to[i]), 0.1, &err), &err);
        assert_true(gap > 0);
        /* rounding is not nothing: a bound of none finds it */
        assert_fails(verify(&gap, m, test_path("rounded"), 0.0, &err), &err, LT_EVERIFY, "logits are off");
    }
    lt_model_destroy(m);
    tm_free(b);
}

static void a_gguf_becomes_a_folder(void **state) {
    (void)state;
    tm *b = tm_build(SPEC, 7);
    lt_err err = { 0 };
    double gap = 1;
    lt_model *g = tm_open(tm_write_gguf(b, "q.gguf", LT_Q8_0, NULL, 0, NULL, 0));
    assert_ok(verify(&gap, g, save(g, "f32", LT_FORM_DENSE, LT_F32), 1e-4, &err), &err);
    assert_ok(verify(&gap, g, save(g, "bf16", LT_FORM_DENSE, LT_N_DTYPES), 0.1, &err), &err);
    lt_model_destroy(g);
    tm_free(b);
}

/* The file behind a folder is changed; what: a word of the message. */
static void found(tm *changed, const lt_model *source, const char *what) {
    lt_err err = { 0 };
    double gap;
    assert_fails(verify(&gap, source, tm_write(changed, "changed", 1), 1.0, &err), &err, LT_EVERIFY, what);
    tm_free(changed);
}

static void every_change_is_found_and_named(void **state) {
    (void)state;
    tm *b = factored(9), *c;
    lt_model *m = tm_open(tm_write(b, "source", 1));
    c = factored(9);
    tm_find(c, "model.layers.0.self_attn.v_proj.weight")->data[5] += 1e-6f;
    found(c, m, "model.layers.0.self_attn.v_proj.weight: row 0");
    c = factored(9);
    tm_find(c, UP ".BLinear.weight")->data[40] *= 1.001f;
    found(c, m, UP ".BLinear.weight: row 1");
    c = factored(9);
    tm_find(c, "model.norm.weight")->data[0] = NAN;
    found(c, m, "model.norm.weight");
    c = factored(9);
    tm_remove(c, UP ".ALinear.weight");
    found(c, m, UP);
    c = factored(9);
    strcpy(tm_find(c, UP ".ALinear.weight")->name, UP ".CLinear.weight");
    found(c, m, UP);
    c = factored(9);
    lt_rng r = test_rng(99);
    tm_add(c, "model.layers.0.extra.weight", 2, 2, 0, 1, &r);
    found(c, m, "model.layers.0.extra.weight");
    c = tm_build(SPEC, 9);
    found(c, m, "not the product of the factors");
    tm_spec spec = SPEC;
    spec.vocab = 65;
    c = tm_build(spec, 9);
    found(c, m, "vocabulary of 65");
    spec = SPEC;
    spec.extra = ", \"rope_theta\": 20000.0"; /* every tensor is right, and the model is wrong */
    c = tm_build(spec, 9);
    tm_factor(c, UP, 7, UP ".ALinear.weight", UP ".BLinear.weight", 10);
    lt_err err = { 0 };
    double gap;
    assert_fails(verify(&gap, m, tm_write(c, "changed", 1), 1e-3, &err), &err, LT_EVERIFY, "logits are off");
    tm_free(c);
    assert_int_equal(verify(&gap, m, test_path("nowhere"), 1.0, &err), LT_EIO);
    lt_model_destroy(m);
    tm_free(b);
}

static void the_golden_factored_model_survives_each_form(void **state) {
    (void)state;
    lt_model *m = tm_open(TEST_NEED_SHARED("golden/compress/tiny-llama-w60"));
    lt_err err = { 0 };
    double gap;
    assert_ok(verify(&gap, m, save(m, "w60", LT_FORM_ABLINEAR, LT_N_DTYPES), 0.0, &err), &err);
    assert_ok(verify(&gap, m, save(m, "w60-ab", LT_FORM_AB, LT_N_DTYPES), 0.0, &err), &err);
    assert_ok(verify(&gap, m, save(m, "w60-dense", LT_FORM_DENSE, LT_N_DTYPES), 1e-4, &err), &err);
    print_message("dense product: gap %.2g\n", gap);
    lt_model_destroy(m);
}

typedef struct alloc_case {
    const lt_model *m;
    const char *folder;
    lt_team *team;
} alloc_case;

static lt_status once(void *user, lt_err *err) {
    const alloc_case *c = user;
    double gap;
    return lt_verify_model(&gap, c->m, c->folder, 1e-4, c->team, err);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    tm *b = factored(11);
    lt_model *m = tm_open(tm_write(b, "source", 1));
    alloc_case c = { m, save(m, "dense", LT_FORM_DENSE, LT_N_DTYPES), tm_team(1) };
    assert_true(test_every_allocation_fails(once, &c) > 10);
    lt_team_destroy(c.team);
    lt_model_destroy(m);
    tm_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_are_found_by_name_or_listed),
        cmocka_unit_test(the_same_dtype_and_form_reads_back_bit_for_bit),
        cmocka_unit_test(factors_multiplied_out_are_close),
        cmocka_unit_test(another_dtype_is_each_number_rounded_once),
        cmocka_unit_test(a_gguf_becomes_a_folder),
        cmocka_unit_test(every_change_is_found_and_named),
        cmocka_unit_test(the_golden_factored_model_survives_each_form),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
