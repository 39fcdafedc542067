/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of the golden model against the float64 reference (golden/compress/stats_tiny-llama). f32 gap there: 2e-7
 * of the Frobenius norm. */
#include "calib/calib_test.h"

#include "linalg/decomp.h"
#include "linalg/gemm.h"

static const struct {
    const char *theirs, *ours;
} names[] = { { "attn_in", "mixer_in" }, { "o_in", "mixer_act" }, { "mlp_in", "mlp_in" }, { "down_in", "mlp_act" } };

static lt_stats *stats;
static lt_safetensors *golden;
static json_t *summary;

static int set_up(void **state) {
    (void)state;
    if (!test_shared("golden/compress/tiny-llama")) return 0;
    lt_err err = { 0 };
    lt_model *m = tm_open(test_shared("golden/compress/tiny-llama"));
    lt_team *team = tm_team(1); /* no waiting for each other on a busy machine */
    lt_tokens t = ct_golden_tokens("calib");
    const lt_calibrate_in in = ct_in(m, &t, team, test_path("golden.stats"));
    stats = ct_calibrate(&in);
    assert_ok(lt_safetensors_open(&golden, test_shared("golden/compress/stats_tiny-llama.safetensors"), &err), &err);
    assert_ok(lt_json_load(&summary, test_shared("golden/compress/stats_tiny-llama.json"), &err), &err);
    lt_tokens_clear(&t);
    lt_team_destroy(team);
    lt_model_destroy(m);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    lt_stats_close(stats);
    lt_safetensors_close(golden);
    json_decref(summary);
    return 0;
}

static const double *wanted(const char *site, const char *stat, size_t n) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", site, stat);
    const lt_tensor *t = lt_safetensors_find(golden, name);
    assert_non_null(t);
    assert_int_equal(lt_tensor_count(t), n);
    return lt_host(t);
}

static double number(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}

static void site_names(char theirs[64], char ours[64], size_t layer, size_t i) {
    snprintf(theirs, 64, "model.layers.%zu.%s", layer, names[i].theirs);
    snprintf(ours, 64, "model.layers.%zu.%s", layer, names[i].ours);
}

static void sums_of_every_site(void **state) {
    (void)state;
    TEST_NEED_SHARED("golden/compress/tiny-llama");
    for (size_t layer = 0; layer < 4; layer++)
        for (size_t i = 0; i < LT_COUNTOF(names); i++) {
            char theirs[64], ours[64];
            site_names(theirs, ours, layer, i);
            const size_t d = i == 3 ? 352 : 128;
            const double *sum = ct_values(stats, ours, "sum"), *abssum = ct_values(stats, ours, "abssum");
            const double *want_sum = wanted(theirs, "sum", d), *want_mean = wanted(theirs, "absmean", d);
            double scale = 0.0;
            for (size_t j = 0; j < d; j++) scale = fmax(scale, want_mean[j] * 8192.0);
            assert_true(lt_stats_count(stats, ours) == 8192.0);
            for (size_t j = 0; j < d; j++) {
                assert_true(fabs(sum[j] - want_sum[j]) <= 2e-6 * scale);
                assert_true(fabs(abssum[j] - 8192.0 * want_mean[j]) <= 2e-6 * scale);
            }
        }
}

static void grams_of_the_first_layer(void **state) {
    (void)state;
    TEST_NEED_SHARED("golden/compress/tiny-llama");
    for (size_t i = 0; i < LT_COUNTOF(names); i++) {
        char theirs[64], ours[64];
        site_names(theirs, ours, 0, i);
        const size_t d = i == 3 ? 352 : 128;
        const double *want = wanted(theirs, "gram", d * d);
        double *full = lt_calloc(d * d, sizeof *full), gap = 0.0, norm = 0.0;
        lt_unpack_lower(full, ct_values(stats, ours, "gram"), d);
        for (size_t k = 0; k < d * d; k++) gap += (full[k] - want[k]) * (full[k] - want[k]), norm += want[k] * want[k];
        assert_true(sqrt(gap / norm) <= 2e-6);
        lt_free(full);
    }
}

static void norms_and_eigenvalues_of_every_site(void **state) {
    (void)state;
    TEST_NEED_SHARED("golden/compress/tiny-llama");
    for (size_t layer = 0; layer < 4; layer++)
        for (size_t i = 0; i < LT_COUNTOF(names); i++) {
            char theirs[64], ours[64];
            site_names(theirs, ours, layer, i);
            const json_t *want = json_object_get(json_object_get(summary, "sites"), theirs);
            const size_t d = i == 3 ? 352 : 128;
            double *full = lt_calloc(d * d, sizeof *full), *w = lt_calloc(d, sizeof *w), trace = 0.0, fro = 0.0;
            lt_unpack_lower(full, ct_values(stats, ours, "gram"), d);
            for (size_t k = 0; k < d * d; k++) fro += full[k] * full[k];
            for (size_t k = 0; k < d; k++) trace += full[k * d + k];
            lt_eigh_problem p = { .n = d, .a = full, .w = w };
            assert_ok(lt_eigh_serial(&p, NULL), &(lt_err){ 0 });
            const double top = number(want, "lambda_max"), least = number(want, "lambda_min"), root = sqrt(fro);
            assert_close_f64(&root, &(double){ number(want, "fro") }, 1, 0.0, 2e-6);
            assert_close_f64(&trace, &(double){ number(want, "trace") }, 1, 0.0, 2e-6);
            assert_close_f64(&w[0], &top, 1, 0.0, 2e-6);
            assert_close_f64(&w[d - 1], &least, 1, 2e-7 * top, 0.0);
            lt_free(full);
            lt_free(w);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_every_site),
        cmocka_unit_test(grams_of_the_first_layer),
        cmocka_unit_test(norms_and_eigenvalues_of_every_site),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
