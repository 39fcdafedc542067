/* SPDX-License-Identifier: Apache-2.0 */
/* pytorch_model.bin, whole and in shards, is the same model as model.safetensors (tools/make_torch_golden.py). */
#include "model/model_test.h"

static void same_model(const char *folder) {
    int32_t ids[9];
    lt_team *team = tm_team(2);
    lt_model *a = tm_open(test_golden("torch/tiny-safetensors")), *b = tm_open(test_golden(folder));
    tm_ids(ids, 9, a->config.vocab_size, 1);
    float *x = tm_logits(a, team, ids, 9), *y = tm_logits(b, team, ids, 9);
    assert_memory_equal(x, y, 9 * a->config.vocab_size * sizeof *x);
    char ha[LT_HASH_HEX], hb[LT_HASH_HEX];
    lt_err err = { 0 };
    assert_ok(lt_model_hash(a, 2, ha, &err), &err);
    assert_ok(lt_model_hash(b, 2, hb, &err), &err);
    assert_string_equal(ha, hb);
    free(x);
    free(y);
    lt_model_destroy(a);
    lt_model_destroy(b);
    lt_team_destroy(team);
}

static void a_whole_file_is_the_same_model(void **state) {
    (void)state;
    same_model("torch/tiny-bin"); /* with the tied head under its own name */
}

static void shards_are_the_same_model(void **state) {
    (void)state;
    same_model("torch/tiny-sharded");
}

static char *copy_of(const char *from, const char *to) {
    static const char *const names[] = { "config.json", "pytorch_model.bin.index.json",
                                         "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin" };
    lt_err err = { 0 };
    assert_ok(lt_remove_tree(test_path(to), &err), &err);
    assert_ok(lt_make_dirs(test_path(to), &err), &err);
    for (size_t i = 0; i < LT_COUNTOF(names); i++) {
        char *a = lt_path_join(test_golden(from), names[i]), *b = lt_path_join(test_path(to), names[i]);
        assert_ok(lt_copy_file(a, b, &err), &err);
        lt_free(a);
        lt_free(b);
    }
    return lt_path_join(test_path(to), "pytorch_model-00002-of-00002.bin");
}

static void refused(lt_status code, const char *text) {
    lt_err err = { 0 };
    lt_model *m;
    assert_fails(lt_model_open(&m, test_path("bad"), &err), &err, code, text);
}

static void bad_shards_are_named(void **state) {
    (void)state;
    lt_err err = { 0 };
    char *second = copy_of("torch/tiny-sharded", "bad");
    assert_ok(lt_remove_tree(second, &err), &err);
    refused(LT_EIO, "pytorch_model-00002-of-00002.bin");
    assert_ok(lt_copy_file(test_golden("torch/system.bin"), second, &err), &err);
    refused(LT_EUNSUPPORTED, "system");
    assert_ok(lt_copy_file(test_golden("torch/legacy.bin"), second, &err), &err);
    refused(LT_EUNSUPPORTED, "before 1.6");
    assert_ok(lt_copy_file(test_golden("torch/values-2.bin"), second, &err), &err);
    refused(LT_EDATA, "not in the index");
    lt_free(second);
}

/* A checkpoint saved again is a folder of safetensors with the same numbers. */
static void it_saves_as_any_other(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_model *m = tm_open(test_golden("torch/tiny-bin"));
    const lt_save_opts o = { .dtype = LT_N_DTYPES };
    assert_ok(lt_remove_tree(test_path("saved"), &err), &err);
    assert_ok(lt_model_save(m, test_path("saved"), &o, NULL, &err), &err);
    lt_model *again = tm_open(test_path("saved"));
    lt_param_info p, q;
    for (size_t i = 0; lt_model_param(m, i, &p); i++) {
        assert_true(lt_model_param(again, i, &q));
        assert_memory_equal(lt_host(&p.param->t), lt_host(&q.param->t), lt_tensor_bytes(&p.param->t));
    }
    lt_model_destroy(again);
    lt_model_destroy(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_file_is_the_same_model),
        cmocka_unit_test(shards_are_the_same_model),
        cmocka_unit_test(bad_shards_are_named),
        cmocka_unit_test(it_saves_as_any_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
