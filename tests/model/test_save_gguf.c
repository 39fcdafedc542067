/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model_test.h"

#define BLOCKS                                                                                                         \
    ((tm_spec){ .vocab = 48,                                                                                           \
                .d = 64,                                                                                               \
                .layers = 2,                                                                                           \
                .heads = 4,                                                                                            \
                .kv = 2,                                                                                               \
                .head_dim = 16,                                                                                        \
                .ff = 96,                                                                                              \
                .positions = 64,                                                                                       \
                .tied = true })

static const char *save_gguf(const lt_model *m, const char *name, lt_dtype dtype) {
    lt_err err = { 0 };
    const lt_save_opts o = { .dtype = dtype, .name = "tiny" };
    assert_ok(lt_model_save_gguf(m, test_path(name), &o, NULL, NULL, &err), &err);
    return test_path(name);
}

/* Largest difference of the logits, over the largest logit. */
static double gap(const lt_model *a, const lt_model *b) {
    int32_t ids[11];
    lt_team *team = tm_team(2);
    tm_ids(ids, 11, a->config.vocab_size, 5);
    const size_t n = 11 * a->config.vocab_size;
    float *x = tm_logits(a, team, ids, 11), *y = tm_logits(b, team, ids, 11);
    double most = 0, far = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)x[i]));
        far = fmax(far, fabs((double)x[i] - (double)y[i]));
    }
    free(x);
    free(y);
    lt_team_destroy(team);
    return far / most;
}

/* Rows of q and k are permuted on the way out and back by views: nothing is rounded. */
static void f32_reads_back_bit_for_bit(void **state) {
    (void)state;
    const tm_spec specs[] = { TM_ODD, TM_BIAS };
    for (size_t i = 0; i < LT_COUNTOF(specs); i++) {
        tm *b = tm_build(specs[i], 1);
        lt_model *m = tm_open(tm_write(b, "source", 1)), *again = tm_open(save_gguf(m, "out.gguf", LT_N_DTYPES));
        assert_true(gap(m, again) == 0.0);
        assert_int_equal(again->config.max_positions, specs[i].positions);
        assert_true(again->config.norm_eps == m->config.norm_eps && again->config.rope[0].theta == 10000.0);
        lt_model_destroy(again);
        lt_model_destroy(m);
        tm_free(b);
    }
}

static lt_dtype dtype_in(const char *path, const char *name) {
    lt_err err = { 0 };
    lt_gguf *g;
    assert_ok(lt_gguf_open(&g, path, &err), &err);
    const lt_tensor *t = lt_gguf_find(g, name);
    assert_non_null(t);
    const lt_dtype got = t->dtype;
    lt_gguf_close(g);
    return got;
}

static void matrices_take_the_dtype_and_vectors_stay_f32(void **state) {
    (void)state;
    static const struct {
        lt_dtype dtype;
        uint64_t file_type;
        double bound;
    } rows[] = {
        { LT_F32, 0, 0.0 }, { LT_F16, 1, 0.01 }, { LT_BF16, 32, 0.05 }, { LT_Q8_0, 7, 0.1 }, { LT_Q4_0, 2, 1.0 }
    };
    tm *b = tm_build(BLOCKS, 2);
    lt_model *m = tm_open(tm_write(b, "source", 1));
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        const char *path = save_gguf(m, "out.gguf", rows[i].dtype);
        lt_model *again = tm_open(path);
        uint64_t type = 99;
        assert_true(gap(m, again) <= rows[i].bound);
        assert_int_equal(dtype_in(path, "blk.1.attn_k.weight"), rows[i].dtype);
        assert_int_equal(dtype_in(path, "blk.1.ffn_norm.weight"), LT_F32);
        assert_int_equal(dtype_in(path, "token_embd.weight"), rows[i].dtype == LT_Q4_0 ? LT_Q8_0 : rows[i].dtype);
        assert_true(lt_gguf_u64(lt_model_gguf(again), "general.file_type", &type) && type == rows[i].file_type);
        lt_model_destroy(again);
    }
    lt_model_destroy(m);
    tm_free(b);
}

static void rows_that_are_no_whole_blocks_become_f16(void **state) {
    (void)state;
    tm *b = tm_build(TM_ODD, 3);
    lt_model *m = tm_open(tm_write(b, "source", 1));
    const char *path = save_gguf(m, "out.gguf", LT_Q8_0);
    assert_int_equal(dtype_in(path, "blk.0.attn_q.weight"), LT_F16);
    lt_model *again = tm_open(path);
    assert_true(gap(m, again) < 0.01);
    lt_model_destroy(again);
    lt_model_destroy(m);
    tm_free(b);
}

static void factors_are_multiplied_out(void **state) {
    (void)state;
    static const char *const modules[] = { "model.layers.0.self_attn.k_proj", "model.layers.1.mlp.up_proj" };
    tm *b = tm_build(BLOCKS, 4);
    for (size_t i = 0; i < LT_COUNTOF(modules); i++) {
        char a[96], c[96];
        snprintf(a, sizeof a, "%s.A", modules[i]);
        snprintf(c, sizeof c, "%s.B", modules[i]);
        tm_factor(b, modules[i], 5, a, c, 7);
    }
    lt_model *m = tm_open(tm_write(b, "source", 1)), *again = tm_open(save_gguf(m, "out.gguf", LT_N_DTYPES));
    lt_module mod;
    for (size_t i = 0; lt_model_module(again, i, &mod); i++) assert_int_equal(mod.linear->n_stages, 1);
    assert_true(gap(m, again) < 1e-5);
    lt_model_destroy(again);
    again = tm_open(save_gguf(m, "q8.gguf", LT_Q8_0));
    assert_true(gap(m, again) < 0.1);
    lt_model_destroy(again);
    lt_model_destroy(m);
    tm_free(b);
}

static void assert_same_file(const char *a, const char *b) {
    size_t n, k;
    char *x = test_read_file(a, &n), *y = test_read_file(b, &k);
    assert_int_equal(n, k);
    assert_memory_equal(x, y, n);
    lt_free(x);
    lt_free(y);
}

/* Also block types that are never quantised to. */
static void a_gguf_of_a_gguf_keeps_its_bytes(void **state) {
    (void)state;
    tm *b = tm_build(BLOCKS, 5);
    tm_bytes more = { 0 };
    tm_kv_text(&more, "general.license", "mit");
    lt_model *m = tm_open(tm_write_gguf(b, "source.gguf", LT_Q4_0, NULL, 0, &more, 1));
    lt_model *one = tm_open(save_gguf(m, "one.gguf", LT_N_DTYPES));
    assert_true(gap(m, one) == 0.0);
    assert_string_equal(lt_gguf_string(lt_model_gguf(one), "general.license", NULL), "mit");
    assert_same_file(test_path("one.gguf"), save_gguf(one, "two.gguf", LT_N_DTYPES));
    lt_model_destroy(one);
    lt_model_destroy(m);
    free(more.data);
    tm_free(b);
}

static void rotary_scaling_is_said(void **state) {
    (void)state;
    static const char *const extra[] = {
        ", \"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, "
        "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}",
        ", \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2.5}",
    };
    for (size_t i = 0; i < LT_COUNTOF(extra); i++) {
        tm_spec spec = BLOCKS;
        spec.extra = extra[i];
        spec.head_dim = 32;
        tm *b = tm_build(spec, 6);
        lt_model *m = tm_open(tm_write(b, "source", 1)), *again = tm_open(save_gguf(m, "out.gguf", LT_N_DTYPES));
        assert_int_equal(again->config.rope[0].kind, i == 0 ? LT_ROPE_LLAMA3 : LT_ROPE_LINEAR);
        assert_int_equal(lt_gguf_find(lt_model_gguf(again), "rope_freqs.weight") != NULL, i == 0);
        assert_true(gap(m, again) < 1e-6);
        lt_model_destroy(again);
        lt_model_destroy(m);
        tm_free(b);
    }
}

static lt_status save_again(void *user, lt_err *err) {
    const lt_save_opts o = { .dtype = LT_F16 };
    return lt_model_save_gguf(user, test_path("failing.gguf"), &o, NULL, NULL, err);
}

static void failing_allocations_leave_nothing_behind(void **state) {
    (void)state;
    tm_spec spec = BLOCKS;
    spec.layers = 1;
    tm *b = tm_build(spec, 7);
    lt_model *m = tm_open(tm_write(b, "source", 1));
    lt_alloc_fail_after(40);
    lt_err err = { 0 };
    const size_t before = test_count_dir(test_dir());
    assert_fails(save_again(m, &err), &err, LT_ENOMEM, "memory");
    lt_alloc_fail_after(SIZE_MAX);
    assert_int_equal(test_count_dir(test_dir()), before);
    test_every_allocation_fails(save_again, m);
    lt_model_destroy(m);
    tm_free(b);
}

static void a_full_disk_is_reported(void **state) {
    (void)state;
    lt_err err = { 0 };
    const lt_save_opts o = { .dtype = LT_N_DTYPES };
    if (!lt_path_exists("/dev/full")) skip();
    tm *b = tm_build(BLOCKS, 8);
    lt_model *m = tm_open(tm_write(b, "source", 1));
    assert_fails(lt_model_save_gguf(m, "/dev/full", &o, NULL, NULL, &err), &err, LT_EIO, "/dev/full");
    lt_model_destroy(m);
    tm_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_reads_back_bit_for_bit),
        cmocka_unit_test(matrices_take_the_dtype_and_vectors_stay_f32),
        cmocka_unit_test(rows_that_are_no_whole_blocks_become_f16),
        cmocka_unit_test(factors_are_multiplied_out),
        cmocka_unit_test(a_gguf_of_a_gguf_keeps_its_bytes),
        cmocka_unit_test(rotary_scaling_is_said),
        cmocka_unit_test(failing_allocations_leave_nothing_behind),
        cmocka_unit_test(a_full_disk_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
