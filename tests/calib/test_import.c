/* SPDX-License-Identifier: Apache-2.0 */
/* Output Grams of other programs become stats: the bias taken out where that can be done, what is no Gram refused. */
#include "calib/calib_test.h"

#include "calib/stats_import.h"

enum { N = 50 };

typedef struct measured {
    size_t m;
    double *y, *gram, *sum; /* outputs without bias; of outputs with it */
} measured;

static tm *spec;
static lt_model *model;

static int set_up(void **state) {
    (void)state;
    spec = tm_build(TM_BIAS, 1);
    model = tm_open(tm_write(spec, "import", 1));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    lt_model_destroy(model);
    tm_free(spec);
    return 0;
}

static measured measure(const lt_linear *l) {
    measured x = { .m = lt_linear_out(l) };
    lt_rng r = test_rng(8);
    float bias[256];
    x.y = lt_calloc(N * x.m, sizeof(double));
    x.gram = lt_calloc(x.m * x.m, sizeof(double));
    x.sum = lt_calloc(x.m, sizeof(double));
    lt_tensor_row_f32(bias, &l->bias.t, 0, 0, x.m);
    test_fill_normal_f64(x.y, N * x.m, &r);
    for (size_t t = 0; t < N; t++)
        for (size_t i = 0; i < x.m; i++) {
            const double yi = x.y[t * x.m + i] + (double)bias[i];
            x.sum[i] += yi;
            for (size_t j = 0; j < x.m; j++) x.gram[i * x.m + j] += yi * (x.y[t * x.m + j] + (double)bias[j]);
        }
    return x;
}

static void measured_free(measured *x) {
    lt_free(x->y), lt_free(x->gram), lt_free(x->sum);
}

static const char *write_grams(const char *gram_name, const double *gram, size_t rows, size_t cols,
                               const char *sum_name, const double *sum) {
    const char *path = test_path("grams.safetensors");
    lt_st_writer *w;
    lt_err err = { 0 };
    const size_t shape[2] = { rows, cols };
    assert_ok(lt_st_writer_create(&w, path, &err), &err);
    assert_ok(lt_st_writer_declare(w, gram_name, LT_F64, 2, shape, &err), &err);
    if (sum) assert_ok(lt_st_writer_declare(w, sum_name, LT_F64, 1, &rows, &err), &err);
    assert_ok(lt_st_writer_begin(w, &err), &err);
    assert_ok(lt_st_writer_bytes(w, gram, rows * cols * sizeof *gram, &err), &err);
    if (sum) assert_ok(lt_st_writer_bytes(w, sum, rows * sizeof *sum, &err), &err);
    assert_ok(lt_st_writer_commit(w, &err), &err);
    return path;
}

static lt_status import(lt_import_out *out, const char *path, double count, lt_err *err) {
    const lt_import_in in = { path, test_path("imported.stats"), model, "model", true, count };
    return lt_stats_import(out, &in, err);
}

/* Check 1, the way back: with sum and count the bias leaves the Gram exactly. */
static void check_01_the_bias_is_taken_out(void **state) {
    (void)state;
    const lt_linear *l = &model->layer[0].linear[LT_SLOT_UP];
    measured x = measure(l);
    char gram[128], sum[128];
    lt_import_out out;
    lt_stats_site site;
    lt_err err = { 0 };
    snprintf(gram, sizeof gram, "%s.out_gram", l->name);
    snprintf(sum, sizeof sum, "%s.out_sum", l->name);
    assert_ok(import(&out, write_grams(gram, x.gram, x.m, x.m, sum, x.sum), N, &err), &err);
    assert_true(out.modules == 1 && out.biased == 0);
    lt_stats *s = ct_open(test_path("imported.stats"));
    assert_true(lt_stats_find(s, LT_STATS_OUTPUT, l->name, &site) && site.cols == x.m);
    assert_false(lt_stats_site_of(s, l->name, &site) || lt_stats_find(s, LT_STATS_BIASED, l->name, &site));
    assert_true(lt_stats_find(s, LT_STATS_OUTPUT, l->name, &site));
    const double *g = ct_values(s, site.name, "gram");
    for (size_t i = 0, k = 0; i < x.m; i++)
        for (size_t j = 0; j <= i; j++, k++) {
            double want = 0.0;
            for (size_t t = 0; t < N; t++) want += x.y[t * x.m + i] * x.y[t * x.m + j];
            assert_true(fabs(g[k] - want) <= 1e-11 * x.gram[0] + 1e-10);
        }
    lt_stats_close(s);
    measured_free(&x);
}

static void without_sums_the_bias_stays_and_is_said(void **state) {
    (void)state;
    const lt_linear *l = &model->layer[1].linear[LT_SLOT_DOWN];
    measured x = measure(l);
    lt_import_out out;
    lt_stats_site site;
    lt_err err = { 0 };
    assert_ok(import(&out, write_grams(l->name, x.gram, x.m, x.m, NULL, NULL), 0, &err), &err);
    assert_true(out.modules == 1 && out.biased == 1);
    lt_stats *s = ct_open(test_path("imported.stats"));
    assert_true(lt_stats_find(s, LT_STATS_BIASED, l->name, &site) &&
                !lt_stats_find(s, LT_STATS_OUTPUT, l->name, &site));
    lt_stats_close(s);
    measured_free(&x);
}

/* A dict from torch.save, one of its tensors a view with wide rows, and the same as safetensors. */
static void a_dict_of_torch_is_the_same_as_safetensors(void **state) {
    (void)state;
    lt_import_out out;
    lt_err err = { 0 };
    assert_ok(import(&out, test_golden("torch/grams.safetensors"), 0, &err), &err);
    assert_true(out.modules == 2 && out.biased == 1);
    lt_stats *want = ct_open(test_path("imported.stats"));
    const lt_import_in in = { test_golden("torch/grams.bin"), test_path("torch.stats"), model, "model", true, 0 };
    assert_ok(lt_stats_import(&out, &in, &err), &err);
    lt_stats *got = ct_open(test_path("torch.stats"));
    assert_int_equal(lt_stats_n_sites(got), 2);
    for (size_t i = 0; i < 2; i++) {
        const lt_stats_site site = lt_stats_site_at(want, i);
        assert_memory_equal(ct_values(got, site.name, "gram"), ct_values(want, site.name, "gram"),
                            site.cols * (site.cols + 1) / 2 * sizeof(double));
        assert_true(lt_stats_count(got, site.name) == lt_stats_count(want, site.name));
    }
    lt_stats_close(got);
    lt_stats_close(want);
}

static void what_is_no_output_gram_is_refused(void **state) {
    (void)state;
    const lt_linear *l = &model->layer[0].linear[LT_SLOT_UP];
    const size_t m = lt_linear_out(l), d = lt_linear_in(l);
    measured x = measure(l);
    double *big = lt_calloc((m + d) * (m + d), sizeof *big);
    lt_import_out out;
    lt_err err = { 0 };
    assert_true(m != d);
    assert_fails(import(&out, write_grams("model.layers.9.mlp.up_proj", x.gram, m, m, NULL, NULL), 0, &err), &err,
                 LT_EDATA, "no such linear");
    assert_fails(import(&out, write_grams(l->name, big, d, d, NULL, NULL), 0, &err), &err, LT_EDATA, "input Gram");
    assert_fails(import(&out, write_grams(l->name, big, m, m + 1, NULL, NULL), 0, &err), &err, LT_EDATA,
                 "expected a Gram");
    x.gram[1] += 10.0 * x.gram[0];
    assert_fails(import(&out, write_grams(l->name, x.gram, m, m, NULL, NULL), 0, &err), &err, LT_EDATA,
                 "not symmetric");
    x.gram[1] = NAN;
    assert_fails(import(&out, write_grams(l->name, x.gram, m, m, NULL, NULL), 0, &err), &err, LT_EDATA, "not finite");
    x.gram[1] = x.gram[m], x.gram[m + 1] = -1.0;
    assert_fails(import(&out, write_grams(l->name, x.gram, m, m, NULL, NULL), 0, &err), &err, LT_EDATA,
                 "negative diagonal");
    lt_free(big);
    measured_free(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_01_the_bias_is_taken_out),
        cmocka_unit_test(without_sums_the_bias_stays_and_is_said),
        cmocka_unit_test(a_dict_of_torch_is_the_same_as_safetensors),
        cmocka_unit_test(what_is_no_output_gram_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
