/* SPDX-License-Identifier: Apache-2.0 */
/* Planning and applying on a model of fused, transposed weights with biases, against the float64 reference. */
#include "compress/compress_test.h"

#define GOLDEN_MODEL "golden/compress/tiny-gpt2"

static lt_model *model;
static lt_team *team;
static lt_stats *stats;
static json_t *applied;

static int set_up(void **state) {
    (void)state;
    if (!test_shared(GOLDEN_MODEL)) return 0;
    lt_err err = { 0 };
    model = tm_open(test_shared(GOLDEN_MODEL));
    team = tm_team(2);
    lt_tokens t = ct_golden_tokens("calib");
    const lt_calibrate_in in = ct_in(model, &t, team, test_path("gpt2.stats"));
    stats = ct_calibrate(&in);
    lt_tokens_clear(&t);
    return lt_json_load(&applied, test_shared("golden/compress/apply_tiny-gpt2.json"), &err);
}

static int tear_down(void **state) {
    (void)state;
    lt_stats_close(stats);
    lt_team_destroy(team);
    lt_model_destroy(model);
    json_decref(applied);
    return 0;
}

static const char *module_at(size_t i) {
    return json_string_value(json_array_get(json_object_get(applied, "layer_order"), i));
}

static lt_plan plan_of(const char *method, const char *affine, const char *allocate, const char *keep) {
    char budget[32];
    snprintf(budget, sizeof budget, "linears=%s", keep);
    lt_plan_in in = cp_in(model, stats, team, budget);
    json_t *params = affine ? json_pack("{s:s}", "affine", affine) : NULL;
    in.allocate = allocate;
    in.params = params;
    lt_plan p = cp_plan(method, &in);
    json_decref(params);
    return p;
}

/* What each mode of the reference is called here. */
static const struct {
    const char *mode, *method, *affine;
} modes[] = { { "whitened", "whitened", "off" }, { "weight_svd", "hybrid", NULL },
              { "asvd", "asvd", NULL },          { "projected", "projected", NULL },
              { "affine", "whitened", "auto" },  { "utilized_biased", "utilized_biased", NULL } };

/* Ranks of every module, and the errors that the plan predicts, for every mode at every budget. */
static void plans_predict_what_the_reference_measured(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    static const char *const keeps[] = { "0.8", "0.6", "0.4" };
    for (size_t k = 0; k < LT_COUNTOF(keeps); k++)
        for (size_t m = 0; m < LT_COUNTOF(modes); m++) {
            char name[64];
            snprintf(name, sizeof name, "%s_uniform_%s", modes[m].mode, keeps[k]);
            const json_t *c = json_object_get(json_object_get(applied, "cases"), name);
            assert_non_null(c);
            lt_plan p = plan_of(modes[m].method, modes[m].affine, "uniform", keeps[k]);
            for (size_t i = 0; i < 12; i++) {
                const double want = json_number_value(json_array_get(json_object_get(c, "rel_error"), i)),
                             got = cp_rel_error(&p, module_at(i));
                assert_int_equal(cp_rank(&p, module_at(i)),
                                 json_integer_value(json_array_get(json_object_get(c, "ranks"), i)));
                if (fabs(got - want) > 1e-8 + 3e-5 * want)
                    fail_msg("%s: %s: %.9g, want %.9g", name, module_at(i), got, want);
            }
            lt_plan_clear(&p);
        }
}

static void the_budget_finds_the_golden_ranks(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    static const char *const keeps[] = { "0.8", "0.6", "0.4" };
    for (size_t k = 0; k < LT_COUNTOF(keeps); k++) {
        char name[64];
        snprintf(name, sizeof name, "whitened_budget_%s", keeps[k]);
        const json_t *c = json_object_get(json_object_get(applied, "cases"), name);
        lt_plan p = plan_of("whitened", "off", "global", keeps[k]);
        for (size_t i = 0; i < 12; i++) {
            const json_t *r = json_array_get(json_object_get(c, "ranks"), i);
            assert_int_equal(cp_rank(&p, module_at(i)), json_is_null(r) ? 0 : json_integer_value(r));
        }
        lt_plan_clear(&p);
    }
}

/* Ranks by energy, with and without the bias in the outputs. */
static void energies_are_the_golden_ones(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    json_t *ranks;
    lt_err err = { 0 };
    assert_ok(lt_json_load(&ranks, test_shared("golden/compress/ranks_tiny-gpt2.json"), &err), &err);
    const json_t *layers = json_object_get(ranks, "layers"), *thresholds = json_object_get(ranks, "energy_thresholds");
    for (size_t e = 0; e < json_array_size(thresholds); e++) {
        lt_plan_in in = cp_in(model, stats, team, "linears=0.5");
        json_t *params =
            json_pack("{s:O, s:i, s:s}", "energy", json_array_get(thresholds, e), "r_min", 1, "affine", "off");
        in.budget = (lt_budget){ 0 };
        in.allocate = NULL;
        in.params = params;
        lt_plan p = cp_plan("energy", &in);
        for (size_t i = 0; i < 12; i++) {
            const json_t *layer = json_object_get(layers, module_at(i));
            const json_int_t want = json_integer_value(json_array_get(json_object_get(layer, "output_energy"), e)),
                             most = json_integer_value(json_object_get(layer, "r_max_breakeven"));
            assert_int_equal(cp_rank(&p, module_at(i)), want <= most ? want : 0);
        }
        lt_plan_clear(&p);
        json_decref(params);
    }
    json_decref(ranks);
}

/* The first windows of the test text, applied: biases where they belong, transposed weights the right way round. */
static void applied_models_have_the_golden_losses(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    lt_tokens test = ct_golden_tokens("test");
    lt_batch *b;
    size_t n;
    lt_exec *x;
    lt_err err = { 0 };
    assert_ok(lt_tokens_batches(&b, &n, &test, 1, &err), &err);
    for (size_t m = 0; m < LT_COUNTOF(modes); m++) {
        char name[64];
        snprintf(name, sizeof name, "%s_uniform_0.6", modes[m].mode);
        const json_t *want = json_object_get(json_object_get(json_object_get(applied, "cases"), name), "window_nll");
        lt_plan p = plan_of(modes[m].method, modes[m].affine, "uniform", "0.6");
        lt_overlay *o = cp_apply(&p, model, stats, team);
        assert_ok(lt_exec_create(&x, team, &(lt_exec_opts){ 0 }, &err), &err);
        for (size_t w = 0; w < 2; w++) {
            int32_t target[256];
            double nll = 0.0;
            for (size_t i = 0; i < b[w].n_rows; i++) target[i] = i + 1 < b[w].n_rows ? b[w].ids[i + 1] : -1;
            lt_exec_begin(x, &b[w]);
            const lt_var v =
                lt_model_nll(x, lt_overlay_model(o), lt_model_hidden(x, lt_overlay_model(o)), target, NULL);
            assert_ok(lt_exec_status(x, &err), &err);
            for (size_t i = 0; i + 1 < b[w].n_rows; i++) nll += (double)lt_data(x, v)[i];
            nll /= (double)(b[w].n_rows - 1);
            if (fabs(nll - json_number_value(json_array_get(want, w))) > 2e-5)
                fail_msg("%s: window %zu: %.9g, want %.9g", name, w, nll, json_number_value(json_array_get(want, w)));
        }
        lt_exec_destroy(x);
        lt_overlay_destroy(o);
        lt_plan_clear(&p);
    }
    lt_batches_free(b, n);
    lt_tokens_clear(&test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_predict_what_the_reference_measured),
        cmocka_unit_test(the_budget_finds_the_golden_ranks),
        cmocka_unit_test(energies_are_the_golden_ones),
        cmocka_unit_test(applied_models_have_the_golden_losses),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
