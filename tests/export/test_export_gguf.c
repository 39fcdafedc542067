/* SPDX-License-Identifier: Apache-2.0 */
/* Model and tokenizer in one file, and the check that both are those of the source. */
#include "export/export.h"

#include "model/model_test.h"

#define SPEC                                                                                                           \
    ((tm_spec){ .vocab = 64,                                                                                           \
                .d = 64,                                                                                               \
                .layers = 2,                                                                                           \
                .heads = 4,                                                                                            \
                .kv = 2,                                                                                               \
                .head_dim = 16,                                                                                        \
                .ff = 96,                                                                                              \
                .positions = 64,                                                                                       \
                .tied = true })
#define TOKENIZER(merge)                                                                                               \
    "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3, \"bc\": 4}, \"merges\": "    \
    "[" merge "]}, \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}, "   \
    "\"decoder\": {\"type\": \"ByteLevel\"}}"
#define AB "[\"a\", \"b\"], "
#define BC "[\"b\", \"c\"]"

static const lt_export_target *target(void) {
    lt_err err = { 0 };
    const lt_export_target *t;
    assert_ok(lt_export_find(&t, "gguf", &err), &err);
    return t;
}

static lt_model *model(const char *name, const char *tokenizer) {
    tm *b = tm_build(SPEC, 1);
    const char *dir = tm_write(b, name, 1);
    if (tokenizer) tm_write_text(dir, "tokenizer.json", tokenizer);
    tm_free(b);
    return tm_open(dir);
}

static const char *write(const lt_model *m, const char *name, lt_dtype dtype) {
    lt_err err = { 0 };
    const lt_save_opts o = { .form = LT_FORM_DENSE, .dtype = dtype, .name = "tiny" };
    assert_ok(target()->write(m, test_path(name), &o, NULL, &err), &err);
    return test_path(name);
}

static void the_file_holds_model_and_tokenizer(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_model *m = model("source", TOKENIZER(AB BC));
    const char *path = write(m, "one.gguf", LT_N_DTYPES);
    assert_ok(target()->check(m, path, &err), &err);
    lt_model *one = tm_open(path);
    assert_string_equal(lt_gguf_string(lt_model_gguf(one), "tokenizer.ggml.pre", NULL), "gpt-2");
    /* and once more from there: the same bytes */
    size_t n, k;
    char *x = test_read_file(path, &n), *y = test_read_file(write(one, "two.gguf", LT_N_DTYPES), &k);
    assert_int_equal(n, k);
    assert_memory_equal(x, y, n);
    assert_ok(target()->check(one, test_path("two.gguf"), &err), &err);
    lt_free(x);
    lt_free(y);
    lt_model_destroy(one);
    lt_model_destroy(m);
}

static void another_tokenizer_is_found(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_model *m = model("source", TOKENIZER(AB BC)), *other = model("other", TOKENIZER(BC));
    assert_fails(target()->check(m, write(other, "other.gguf", LT_N_DTYPES), &err), &err, LT_EVERIFY, "other ids");
    lt_model_destroy(other);
    lt_model_destroy(m);
}

static void a_model_without_tokenizer_says_so(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_model *m = model("plain", NULL);
    const char *path = write(m, "plain.gguf", LT_N_DTYPES);
    assert_ok(target()->check(m, path, &err), &err);
    lt_model *again = tm_open(path);
    assert_string_equal(lt_gguf_string(lt_model_gguf(again), "tokenizer.ggml.model", NULL), "no_vocab");
    lt_model_destroy(again);
    lt_model_destroy(m);
}

/* Products of factors in every dtype: the value that the dtype holds for the f64 product. */
static void products_are_verified_in_every_dtype(void **state) {
    (void)state;
    static const lt_dtype dtypes[] = { LT_F32, LT_F16, LT_BF16, LT_Q8_0, LT_Q4_0 };
    tm *b = tm_build(SPEC, 3);
    tm_factor(b, "model.layers.0.self_attn.q_proj", 9, "model.layers.0.self_attn.q_proj.A",
              "model.layers.0.self_attn.q_proj.B", 4);
    lt_model *m = tm_open(tm_write(b, "factored", 1));
    lt_team *team = tm_team(2);
    for (size_t i = 0; i < LT_COUNTOF(dtypes); i++) {
        lt_err err = { 0 };
        double gap;
        assert_ok(lt_verify_model(&gap, m, write(m, "dense.gguf", dtypes[i]), 3.0, team, &err), &err);
    }
    lt_model *other = model("source", NULL);
    lt_err err = { 0 };
    double gap;
    assert_fails(lt_verify_model(&gap, m, write(other, "other.gguf", LT_Q8_0), 1.0, team, &err), &err, LT_EVERIFY,
                 "values are not");
    lt_team_destroy(team);
    lt_model_destroy(other);
    lt_model_destroy(m);
    tm_free(b);
}

static void dtypes_are_checked_by_target(void **state) {
    (void)state;
    lt_err err = { 0 };
    const lt_export_target *dense;
    assert_ok(lt_export_find(&dense, "hf-dense", &err), &err);
    assert_ok(lt_export_check_dtype(dense, LT_F16, &err), &err);
    assert_ok(lt_export_check_dtype(dense, LT_N_DTYPES, &err), &err);
    assert_ok(lt_export_check_dtype(target(), LT_Q4_0, &err), &err);
    assert_fails(lt_export_check_dtype(dense, LT_Q8_0, &err), &err, LT_EUSAGE, "hf-dense is written as one of");
    assert_fails(lt_export_check_dtype(target(), LT_Q4_1, &err), &err, LT_EUSAGE, "not q4_1");
    assert_int_equal(lt_export_dtype(dense, LT_Q4_1, LT_N_DTYPES), LT_BF16);
    assert_int_equal(lt_export_dtype(target(), LT_Q4_1, LT_N_DTYPES), LT_Q4_1);
}

static lt_status write_and_check(void *user, lt_err *err) {
    const lt_save_opts o = { .form = LT_FORM_DENSE, .dtype = LT_Q8_0 };
    LT_TRY(target()->write(user, test_path("failing.gguf"), &o, NULL, err));
    return target()->check(user, test_path("failing.gguf"), err);
}

static void failing_allocations_are_reported(void **state) {
    (void)state;
    lt_model *m = model("source", TOKENIZER(AB BC));
    test_every_allocation_fails(write_and_check, m);
    lt_model_destroy(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_holds_model_and_tokenizer), cmocka_unit_test(another_tokenizer_is_found),
        cmocka_unit_test(a_model_without_tokenizer_says_so),  cmocka_unit_test(products_are_verified_in_every_dtype),
        cmocka_unit_test(dtypes_are_checked_by_target),       cmocka_unit_test(failing_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
