/* SPDX-License-Identifier: Apache-2.0 */
/* Planning and applying on the golden model, against the float64 reference (golden/compress). The reference's f32 gaps:
 * 2e-7 for spectra, 3e-8 for perplexities; ours has f32 statistics and f32 factors, so tolerances are about ten times
 * the sum. */
#include "compress/compress_test.h"

#include "compress/lowrank.h"
#include "compress/module_weight.h"
#include "linalg/gemm.h"

#define GOLDEN_MODEL "golden/compress/tiny-llama"

static lt_model *model;
static lt_team *team;
static lt_stats *stats;
static json_t *applied;

static int set_up(void **state) {
    (void)state;
    if (!test_shared(GOLDEN_MODEL)) return 0;
    lt_err err = { 0 };
    model = tm_open(test_shared(GOLDEN_MODEL));
    team = tm_team(1); /* no waiting for each other on a busy machine */
    lt_tokens t = ct_golden_tokens("calib");
    const lt_calibrate_in in = ct_in(model, &t, team, test_path("golden.stats"));
    stats = ct_calibrate(&in);
    lt_tokens_clear(&t);
    return lt_json_load(&applied, test_shared("golden/compress/apply_tiny-llama.json"), &err);
}

static int tear_down(void **state) {
    (void)state;
    lt_stats_close(stats);
    lt_team_destroy(team);
    lt_model_destroy(model);
    json_decref(applied);
    return 0;
}

/* ---- measuring ---- */

static void widen(double *to, const lt_tensor *t) {
    float row[512];
    const size_t rows = lt_tensor_rows(t), cols = lt_tensor_cols(t);
    for (size_t i = 0; i < rows; i++) {
        lt_tensor_row_f32(row, t, i, 0, cols);
        for (size_t j = 0; j < cols; j++) to[i * cols + j] = row[j];
    }
}

/* c - s sᵀ / N: what the outputs differ by when a new bias makes up for the mean. */
static double *centred(const double *gram, const double *sum, double count, size_t d) {
    double *c = lt_calloc(d * (d + 1) / 2, sizeof *c);
    assert_non_null(c);
    for (size_t i = 0, k = 0; i < d; i++)
        for (size_t j = 0; j <= i; j++, k++) c[k] = gram[k] - sum[i] * sum[j] / count;
    return c;
}

/* ‖Y - Ŷ‖² / ‖Y‖² of a module on the calibration tokens, from the Gram; with the optimal bias where the module has a
 * new one. 0: not factored. */
static double relative_error(const lt_model *small, const char *name) {
    lt_module base, cut;
    lt_stats_site site;
    assert_true(lt_model_find_module(model, name, &base) && lt_model_find_module(small, name, &cut) &&
                lt_stats_site_of(stats, name, &site));
    if (cut.linear->n_stages == 1) return 0.0;
    const size_t m = lt_linear_out(base.linear), d = lt_linear_in(base.linear), r = lt_linear_rank(cut.linear);
    double *w = lt_calloc(m * d, sizeof *w), *a = lt_calloc(m * r, sizeof *a), *b = lt_calloc(r * d, sizeof *b),
           *lambda = lt_calloc(m + d, sizeof *lambda), e, total;
    lt_err err = { 0 };
    assert_ok(lt_module_weight(w, base.linear, &err), &err);
    widen(b, &cut.linear->stage[0].w.t);
    widen(a, &cut.linear->stage[1].w.t);
    const lt_lowrank_in in = { .m = m, .d = d, .w = w, .c = ct_values(stats, site.name, "gram") };
    lt_lowrank_in about = in;
    double *c = NULL;
    if (lt_has_bias(cut.linear) && !lt_has_bias(base.linear))
        about.c = c = centred(in.c, ct_values(stats, site.name, "sum"), lt_stats_count(stats, site.name), d);
    assert_ok(lt_lowrank_error(&e, &about, r, a, b, &err), &err);
    assert_ok(lt_lowrank_spectrum(lambda, &total, &in, &err), &err);
    lt_free(w), lt_free(a), lt_free(b), lt_free(lambda), lt_free(c);
    return e / total;
}

/* ---- plans ---- */

static const char *module_at(size_t i) {
    return json_string_value(json_array_get(json_object_get(applied, "layer_order"), i));
}

static lt_plan plan_of_ranks(const json_t *ranks, const char *metric, bool affine) {
    lt_plan p = { .head = json_pack("{s:s}", "format", "lathe-plan/1") };
    lt_err err = { 0 };
    for (size_t i = 0; i < json_array_size(ranks); i++) {
        const json_t *r = json_array_get(ranks, i);
        if (json_is_null(r)) continue;
        json_t *cut = json_pack("{s:s, s:s, s:I, s:s, s:b}", "kind", "rank", "module", module_at(i), "rank",
                                json_integer_value(r), "metric", metric, "affine", (int)affine);
        assert_ok(lt_plan_add(&p, cut, &err), &err);
    }
    return p;
}

/* The first windows one by one; all of them, as a perplexity, where `whole` asks for it. */
static void check_nll(const char *name, const lt_model *m, const json_t *c, const lt_tokens *test, bool whole) {
    double nll[64];
    const size_t n = whole ? test->n_rows : 3;
    const double ppl = exp(cp_mean_nll(team, m, test, n, nll)), want_ppl = json_number_value(json_object_get(c, "ppl"));
    for (size_t i = 0; i < n; i++) {
        const double want = json_number_value(json_array_get(json_object_get(c, "window_nll"), i));
        if (fabs(nll[i] - want) > 2e-5) fail_msg("%s: window %zu: %.9g, want %.9g", name, i, nll[i], want);
    }
    if (whole && fabs(ppl - want_ppl) > 2e-5 * want_ppl)
        fail_msg("%s: perplexity %.9g, want %.9g", name, ppl, want_ppl);
}

/* What each mode of the reference is here. */
static const struct {
    const char *mode, *metric;
    bool affine;
} modes_of[] = { { "whitened", "input", false },
                 { "weight_svd", "weight", false },
                 { "asvd", "abs", false },
                 { "projected", "projected", false },
                 { "affine", "input", true } };

static void check_case(const char *name, const json_t *c, const lt_tokens *test) {
    const char *mode = json_string_value(json_object_get(c, "mode"));
    const json_t *ranks = json_object_get(c, "ranks"), *errors = json_object_get(c, "rel_error");
    size_t k = 0;
    while (k < LT_COUNTOF(modes_of) && strcmp(modes_of[k].mode, mode) != 0) k++;
    assert_true(k < LT_COUNTOF(modes_of));
    lt_plan p = plan_of_ranks(ranks, modes_of[k].metric, modes_of[k].affine);
    lt_overlay *o = cp_apply(&p, model, stats, team);
    for (size_t i = 0; i < json_array_size(errors); i++) {
        const double got = relative_error(lt_overlay_model(o), module_at(i)),
                     want = json_number_value(json_array_get(errors, i));
        if (fabs(got - want) > 1e-9 + 2e-5 * want)
            fail_msg("%s: %s: error %.9g, want %.9g", name, module_at(i), got, want);
    }
    check_nll(name, lt_overlay_model(o), c, test, strstr(name, "_uniform_0.6") != NULL);
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
}

static void errors_and_perplexities_are_the_golden_ones(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    lt_tokens test = ct_golden_tokens("test");
    const char *name;
    json_t *c;
    size_t n = 0;
    const double dense = exp(cp_mean_nll(team, model, &test, test.n_rows, NULL));
    assert_close_f64(&dense, &(double){ json_number_value(json_object_get(applied, "dense_ppl")) }, 1, 0.0, 1e-6);
    json_object_foreach(json_object_get(applied, "cases"), name, c) {
        check_case(name, c, &test);
        n++;
    }
    assert_int_equal(n, 21);
    lt_tokens_clear(&test);
}

/* The methods find the golden ranks, and what they predict is what the reference measured. */
static void methods_find_the_golden_ranks(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    static const char *const keeps[] = { "0.8", "0.6", "0.4" }, *const sources[][2] = { { "uniform", "uniform" },
                                                                                        { "budget", "global" } };
    for (size_t k = 0; k < LT_COUNTOF(keeps); k++)
        for (size_t s = 0; s < LT_COUNTOF(sources); s++) {
            char name[64], budget[32];
            snprintf(name, sizeof name, "whitened_%s_%s", sources[s][0], keeps[k]);
            snprintf(budget, sizeof budget, "linears=%s", keeps[k]);
            const json_t *c = json_object_get(json_object_get(applied, "cases"), name);
            assert_non_null(c);
            lt_plan_in in = cp_in(model, stats, team, budget);
            in.allocate = sources[s][1];
            lt_plan p = cp_plan("whitened", &in);
            double mean = 0.0;
            for (size_t i = 0; i < 28; i++) {
                const json_t *rank = json_array_get(json_object_get(c, "ranks"), i);
                const size_t want = json_is_null(rank) ? 0 : (size_t)json_integer_value(rank);
                const double e = json_number_value(json_array_get(json_object_get(c, "rel_error"), i)),
                             got = cp_rel_error(&p, module_at(i));
                if (cp_rank(&p, module_at(i)) != want)
                    fail_msg("%s: %s: rank %zu, want %zu", name, module_at(i), cp_rank(&p, module_at(i)), want);
                if (fabs(got - e) > 1e-9 + 2e-5 * e)
                    fail_msg("%s: %s: predicted %.9g, want %.9g", name, module_at(i), got, e);
                mean += e / 28.0;
            }
            const double predicted = json_real_value(
                json_object_get(json_object_get(json_object_get(p.head, "cost"), "predicted"), "rel_error"));
            assert_close_f64(&predicted, &mean, 1, 0.0, 2e-5);
            lt_plan_clear(&p);
        }
}

static void weight_svd_finds_the_uniform_ranks(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    const json_t *ranks =
        json_object_get(json_object_get(json_object_get(applied, "cases"), "weight_svd_uniform_0.6"), "ranks");
    lt_plan_in in = cp_in(model, NULL, team, "linears=0.6");
    in.allocate = "uniform";
    lt_plan p = cp_plan("weight_svd", &in);
    for (size_t i = 0; i < 28; i++)
        assert_int_equal(cp_rank(&p, module_at(i)), json_integer_value(json_array_get(ranks, i)));
    lt_plan_clear(&p);
}

/* ---- spectra and energies ---- */

static lt_lowrank_in input_of(const char *name, lt_metric metric, double **w) {
    lt_module mod;
    lt_stats_site site;
    lt_err err = { 0 };
    assert_true(lt_model_find_module(model, name, &mod) && lt_stats_site_of(stats, name, &site));
    lt_lowrank_in in = { .m = lt_linear_out(mod.linear),
                         .d = lt_linear_in(mod.linear),
                         .c = metric == LT_METRIC_INPUT ? ct_values(stats, site.name, "gram") : NULL };
    *w = lt_calloc(in.m * in.d, sizeof **w);
    assert_ok(lt_module_weight(*w, mod.linear, &err), &err);
    in.w = *w;
    return in;
}

static size_t energy_rank(const double *lambda, size_t n, double total, double e) {
    double cum = 0.0;
    for (size_t k = 0; k < n; k++)
        if ((cum += lambda[k]) >= e * total) return k + 1;
    return n;
}

static void spectra_and_energies_are_the_golden_ones(void **state) {
    (void)state;
    lt_safetensors *golden;
    json_t *ranks;
    lt_err err = { 0 };
    assert_ok(lt_safetensors_open(&golden, TEST_NEED_SHARED("golden/compress/spectra_tiny-llama.safetensors"), &err),
              &err);
    assert_ok(lt_json_load(&ranks, TEST_NEED_SHARED("golden/compress/ranks_tiny-llama.json"), &err), &err);
    const json_t *thresholds = json_object_get(ranks, "energy_thresholds");
    static const char *const keys[2] = { "sigma2_weight", "lambda" }, *const energies[2] = { "weight_energy",
                                                                                             "output_energy" };
    for (size_t i = 0; i < 28; i++)
        for (int metric = LT_METRIC_WEIGHT; metric <= LT_METRIC_INPUT; metric++) {
            char key[128];
            const lt_tensor *t;
            double *w, lambda[128], total;
            const lt_lowrank_in in = input_of(module_at(i), (lt_metric)metric, &w);
            const size_t n = lt_min_size(in.m, in.d);
            snprintf(key, sizeof key, "%s.%s", module_at(i), keys[metric]);
            assert_ok(lt_safetensors_get(&t, golden, key, LT_F64, 1, &err), &err);
            const double *want = lt_host(t);
            assert_ok(lt_lowrank_spectrum(lambda, &total, &in, &err), &err);
            assert_close_f64(lambda, want, n, 2e-6 * want[0], 0.0);
            const json_t *layer = json_object_get(json_object_get(ranks, "layers"), module_at(i));
            for (size_t e = 0; e < json_array_size(thresholds); e++)
                assert_int_equal(energy_rank(lambda, n, total, json_number_value(json_array_get(thresholds, e))),
                                 json_integer_value(json_array_get(json_object_get(layer, energies[metric]), e)));
            lt_free(w);
        }
    json_decref(ranks);
    lt_safetensors_close(golden);
}

/* ---- products ---- */

static void products_are_the_golden_ones(void **state) {
    (void)state;
    static const struct {
        const char *mode;
        lt_metric metric;
        bool affine;
    } modes[] = { { "whitened", LT_METRIC_INPUT, false },
                  { "weight_svd", LT_METRIC_WEIGHT, false },
                  { "asvd", LT_METRIC_ABS, false },
                  { "affine", LT_METRIC_INPUT, true } };
    static const char *const modules[] = { "model.layers.1.self_attn.q_proj", "model.layers.2.mlp.down_proj" };
    lt_safetensors *golden;
    lt_err err = { 0 };
    assert_ok(lt_safetensors_open(&golden, TEST_NEED_SHARED("golden/compress/products_tiny-llama.safetensors"), &err),
              &err);
    for (size_t i = 0; i < LT_COUNTOF(modules); i++)
        for (size_t k = 0; k < LT_COUNTOF(modes); k++) {
            char key[128];
            double *w, e, all;
            const lt_tensor *t, *bias;
            lt_stats_site site;
            lt_lowrank_in in = input_of(modules[i], modes[k].metric, &w);
            const size_t r = lt_uniform_rank(in.m, in.d, 0.6);
            assert_true(lt_stats_site_of(stats, modules[i], &site));
            in.affine = modes[k].affine;
            in.sum = ct_values(stats, site.name, "sum");
            in.count = lt_stats_count(stats, site.name);
            double *a = lt_calloc(in.m * r, sizeof *a), *b = lt_calloc(r * in.d, sizeof *b),
                   *delta = lt_calloc(in.m, sizeof *delta);
            lt_metric_form *form = NULL;
            if (modes[k].metric == LT_METRIC_ABS) {
                double *by = lt_calloc(in.d, sizeof *by);
                const double *abssum = ct_values(stats, site.name, "abssum");
                for (size_t c = 0; c < in.d; c++) by[c] = sqrt(abssum[c] / in.count) + 1e-6;
                assert_ok(lt_metric_form_diagonal(&form, in.d, by, lt_factor_for(in.m, in.d), &err), &err);
                in.form = form;
                lt_free(by);
            }
            assert_ok(lt_lowrank_fit(a, b, delta, &e, &all, r, &in, &err), &err);
            lt_metric_form_destroy(form);
            snprintf(key, sizeof key, "%s.%s", modes[k].mode, modules[i]);
            assert_ok(lt_safetensors_get(&t, golden, key, LT_F32, 2, &err), &err);
            double gap = 0.0, norm = 0.0, *ab = lt_calloc(in.m * in.d, sizeof *ab);
            lt_gemm_f64_serial(false, false, in.m, in.d, r, 1.0, a, r, b, in.d, 0.0, ab, in.d);
            for (size_t p = 0; p < in.m * in.d; p++) {
                const double want = ((const float *)lt_host(t))[p];
                gap += (ab[p] - want) * (ab[p] - want), norm += want * want;
            }
            lt_free(ab);
            assert_true(sqrt(gap / norm) <= 1e-4); /* the gap λ_r/λ_r+1 is about 1.02 and the Gram is f32 */
            if (modes[k].affine) {
                snprintf(key, sizeof key, "affine.%s.bias", modules[i]);
                assert_ok(lt_safetensors_get(&bias, golden, key, LT_F64, 1, &err), &err);
                assert_close_f64(delta, lt_host(bias), in.m, 1e-4, 1e-3);
            }
            lt_free(w), lt_free(a), lt_free(b), lt_free(delta);
        }
    lt_safetensors_close(golden);
}

/* ---- methods, one by one ---- */

/* Every method reaches the golden errors at the golden ranks, and says so in its plan. */
static void every_method_predicts_what_the_reference_measured(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    static const char *const methods[][2] = {
        { "utilized", "whitened" },    { "hybrid", "weight_svd" }, { "asvd", "asvd" },
        { "projected", "projected" },  { "whitened", "whitened" }, { "utilized_biased", "whitened" },
        { "weight_svd", "weight_svd" }
    };
    for (size_t k = 0; k < LT_COUNTOF(methods); k++) {
        char name[64];
        snprintf(name, sizeof name, "%s_uniform_0.6", methods[k][1]);
        const json_t *c = json_object_get(json_object_get(applied, "cases"), name);
        lt_plan_in in = cp_in(model, stats, team, "linears=0.6");
        in.allocate = "uniform";
        lt_plan p = cp_plan(methods[k][0], &in);
        for (size_t i = 0; i < 28; i++) {
            const double want = json_number_value(json_array_get(json_object_get(c, "rel_error"), i)),
                         got = cp_rel_error(&p, module_at(i));
            assert_int_equal(cp_rank(&p, module_at(i)),
                             json_integer_value(json_array_get(json_object_get(c, "ranks"), i)));
            if (fabs(got - want) > 1e-9 + 2e-5 * want)
                fail_msg("%s: %s: %.9g, want %.9g", methods[k][0], module_at(i), got, want);
        }
        lt_plan_clear(&p);
    }
}

/* Ranks by energy of the outputs and of the weight; above break-even a module stays dense. */
static void energy_ranks_are_the_golden_ones(void **state) {
    (void)state;
    static const char *const methods[][2] = { { "energy", "output_energy" }, { "weight_svd", "weight_energy" } };
    json_t *ranks;
    lt_err err = { 0 };
    assert_ok(lt_json_load(&ranks, TEST_NEED_SHARED("golden/compress/ranks_tiny-llama.json"), &err), &err);
    const json_t *thresholds = json_object_get(ranks, "energy_thresholds");
    for (size_t k = 0; k < LT_COUNTOF(methods); k++)
        for (size_t e = 0; e < json_array_size(thresholds); e++) {
            lt_plan_in in = cp_in(model, stats, team, "linears=0.5");
            json_t *params = json_pack("{s:O, s:i}", "energy", json_array_get(thresholds, e), "r_min", 1);
            in.budget = (lt_budget){ 0 };
            in.allocate = NULL;
            in.params = params;
            lt_plan p = cp_plan(methods[k][0], &in);
            for (size_t i = 0; i < 28; i++) {
                const json_t *layer = json_object_get(json_object_get(ranks, "layers"), module_at(i));
                const json_int_t want = json_integer_value(json_array_get(json_object_get(layer, methods[k][1]), e)),
                                 most = json_integer_value(json_object_get(layer, "r_max_breakeven"));
                assert_int_equal(cp_rank(&p, module_at(i)), want <= most ? want : 0);
            }
            lt_plan_clear(&p);
            json_decref(params);
        }
    json_decref(ranks);
}

/* The reference's ranks without the first position of each row, from one pass that kept it apart; the fit still sees
 * all rows. */
static void sink_rows_leave_the_ranks_alone(void **state) {
    (void)state;
    json_t *ranks;
    lt_err err = { 0 };
    assert_ok(lt_json_load(&ranks, TEST_NEED_SHARED("golden/compress/ranks_tiny-llama.json"), &err), &err);
    lt_tokens t = ct_golden_tokens("calib");
    lt_calibrate_in cal = ct_in(model, &t, team, test_path("sinks.stats"));
    cal.first_rows = 1;
    lt_stats *apart = ct_calibrate(&cal);
    json_t *params = json_pack("{s:f, s:i}", "energy", 0.9, "r_min", 1);
    lt_plan_in in = cp_in(model, apart, team, "linears=0.5");
    in.budget = (lt_budget){ 0 };
    in.allocate = NULL;
    in.params = params;
    lt_plan p = cp_plan("energy", &in);
    for (size_t i = 0; i < 28; i++) {
        const json_t *layer = json_object_get(json_object_get(ranks, "layers"), module_at(i));
        const json_int_t want =
                             json_integer_value(json_array_get(json_object_get(layer, "output_energy_skip_first"), 0)),
                         most = json_integer_value(json_object_get(layer, "r_max_breakeven"));
        assert_int_equal(cp_rank(&p, module_at(i)), want <= most ? want : 0);
    }
    lt_plan_clear(&p);
    json_object_set_new(params, "guard", json_string("off"));
    p = cp_plan("energy", &in);
    for (size_t i = 0; i < 28; i++) {
        const json_t *layer = json_object_get(json_object_get(ranks, "layers"), module_at(i));
        const json_int_t want = json_integer_value(json_array_get(json_object_get(layer, "output_energy"), 0)),
                         most = json_integer_value(json_object_get(layer, "r_max_breakeven"));
        assert_int_equal(cp_rank(&p, module_at(i)), want <= most ? want : 0);
    }
    lt_plan_clear(&p);
    json_decref(params);
    json_decref(ranks);
    lt_stats_close(apart);
    lt_tokens_clear(&t);
}

/* ---- acceptance checks on a real model ---- */

/* Check 7: a plan with no cuts is the model; a forced factorisation at full rank keeps the logits. */
static void check_07_full_rank_keeps_the_logits(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    lt_tokens t = ct_golden_tokens("logit_batch");
    lt_plan p = { .head = json_pack("{s:s}", "format", "lathe-plan/1") };
    lt_module mod;
    lt_err err = { 0 };
    for (size_t i = 0; lt_model_module(model, i, &mod) && mod.layer >= 0; i++) {
        const size_t r = lt_min_size(lt_linear_out(mod.linear), lt_linear_in(mod.linear));
        json_t *cut = json_pack("{s:s, s:s, s:I, s:b}", "kind", "rank", "module", mod.linear->name, "rank",
                                (json_int_t)r, "force", 1);
        assert_ok(lt_plan_add(&p, cut, &err), &err);
    }
    lt_overlay *o = cp_apply(&p, model, stats, team);
    lt_batch *b;
    size_t n;
    assert_ok(lt_tokens_batches(&b, &n, &t, SIZE_MAX, &err), &err);
    float *was = tm_logits_of(model, team, b), *is = tm_logits_of(lt_overlay_model(o), team, b);
    float largest = 0.0f;
    for (size_t i = 0; i < b->n_rows * 512; i++) largest = fmaxf(largest, fabsf(was[i]));
    assert_true(test_max_abs_diff(is, was, b->n_rows * 512) <= 1e-4 * largest);
    free(was), free(is);
    lt_batches_free(b, n);
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
    lt_tokens_clear(&t);
}

/* Check 19: what is applied is what is saved and read back, to the bit. */
static void check_19_saved_and_reopened_the_logits_are_the_same(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    lt_tokens t = ct_golden_tokens("logit_batch");
    lt_plan_in in = cp_in(model, stats, team, "linears=0.6");
    lt_plan p = cp_plan("whitened", &in);
    lt_overlay *o = cp_apply(&p, model, stats, team);
    lt_batch *b;
    size_t n;
    lt_err err = { 0 };
    const lt_save_opts opts = { .form = LT_FORM_ABLINEAR, .dtype = LT_N_DTYPES, .method = "whitened" };
    assert_ok(lt_model_save(lt_overlay_model(o), test_path("saved"), &opts, NULL, &err), &err);
    lt_model *back = tm_open(test_path("saved"));
    assert_ok(lt_tokens_batches(&b, &n, &t, SIZE_MAX, &err), &err);
    float *applied_logits = tm_logits_of(lt_overlay_model(o), team, b), *read_logits = tm_logits_of(back, team, b);
    assert_memory_equal(applied_logits, read_logits, b->n_rows * 512 * sizeof(float));
    free(applied_logits), free(read_logits);
    lt_batches_free(b, n);
    lt_model_destroy(back);
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
    lt_tokens_clear(&t);
}

/* Check 26: at equal ranks whitened has no higher calibration error in any layer than the SVD of the weight, and a
 * lower perplexity. */
static void check_26_whitened_is_never_worse_than_weight_svd(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    lt_tokens test = ct_golden_tokens("test");
    lt_plan_in in = cp_in(model, stats, team, "linears=0.9");
    in.allocate = "uniform";
    lt_plan p = cp_plan("whitened", &in), q = cp_plan("weight_svd", &in);
    lt_overlay *o = cp_apply(&p, model, stats, team), *s = cp_apply(&q, model, stats, team);
    for (size_t i = 0; i < 28; i++) {
        assert_int_equal(cp_rank(&p, module_at(i)), cp_rank(&q, module_at(i)));
        assert_true(relative_error(lt_overlay_model(o), module_at(i)) <=
                    relative_error(lt_overlay_model(s), module_at(i)) * (1.0 + 1e-6));
    }
    assert_true(cp_mean_nll(team, lt_overlay_model(o), &test, test.n_rows, NULL) <
                cp_mean_nll(team, lt_overlay_model(s), &test, test.n_rows, NULL));
    lt_overlay_destroy(o), lt_overlay_destroy(s);
    lt_plan_clear(&p), lt_plan_clear(&q);
    lt_tokens_clear(&test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_and_perplexities_are_the_golden_ones),
        cmocka_unit_test(methods_find_the_golden_ranks),
        cmocka_unit_test(weight_svd_finds_the_uniform_ranks),
        cmocka_unit_test(spectra_and_energies_are_the_golden_ones),
        cmocka_unit_test(products_are_the_golden_ones),
        cmocka_unit_test(every_method_predicts_what_the_reference_measured),
        cmocka_unit_test(energy_ranks_are_the_golden_ones),
        cmocka_unit_test(sink_rows_leave_the_ranks_alone),
        cmocka_unit_test(check_07_full_rank_keeps_the_logits),
        cmocka_unit_test(check_19_saved_and_reopened_the_logits_are_the_same),
        cmocka_unit_test(check_26_whitened_is_never_worse_than_weight_svd),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
