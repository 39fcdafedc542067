/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/calib_test.h"

#include "calib/observe.h"
#include "linalg/gemm.h"

enum { ROWS = 6, LEN = 20 };

/* ---- against what passes the taps ---- */

typedef struct watched {
    const char *name;
    lt_site site;
    int layer;
    double *gram, *sum, *abssum, *sumsq;
    size_t d, n;
} watched;

static bool wants_one(void *user, lt_site site, int layer, int sub, bool grad) {
    const watched *w = user;
    (void)sub;
    return !grad && site == w->site && layer == w->layer;
}

static lt_status keep_sums(void *user, const lt_obs *obs, lt_err *err) {
    watched *w = user;
    const float *x = lt_host(&obs->rows);
    (void)err;
    w->d = obs->rows.size[1];
    if (!w->gram) {
        w->gram = lt_calloc(w->d * (w->d + 1) / 2, sizeof(double));
        w->sum = lt_calloc(w->d, sizeof(double));
        w->abssum = lt_calloc(w->d, sizeof(double));
        w->sumsq = lt_calloc(w->d, sizeof(double));
    }
    for (size_t t = 0; t < obs->rows.size[0]; t++, w->n++)
        for (size_t i = 0; i < w->d; i++) {
            const double v = x[t * w->d + i];
            w->sum[i] += v;
            w->abssum[i] += fabs(v);
            w->sumsq[i] += v * v;
            for (size_t j = 0; j <= i; j++) w->gram[i * (i + 1) / 2 + j] += v * (double)x[t * w->d + j];
        }
    return LT_OK;
}

/* All rows of the tokens, one batch, straight through the model. */
static void watch(watched *w, const lt_model *m, lt_team *team, const lt_tokens *t) {
    const lt_observer look = { wants_one, keep_sums, w, false };
    lt_exec *x;
    lt_batch *b;
    size_t n;
    lt_err err = { 0 };
    assert_ok(lt_tokens_batches(&b, &n, t, SIZE_MAX, &err), &err);
    assert_int_equal(n, 1);
    assert_ok(lt_exec_create(&x, team, &(lt_exec_opts){ .observers = &look, .n_observers = 1 }, &err), &err);
    lt_exec_begin(x, b);
    lt_model_hidden(x, m);
    assert_ok(lt_exec_status(x, &err), &err);
    lt_exec_destroy(x);
    lt_batches_free(b, n);
}

static void sums_are_those_of_the_inputs(void **state) {
    (void)state;
    tm *spec = tm_build(TM_ODD, 1);
    lt_model *m = tm_open(tm_write(spec, "odd", 1));
    lt_team *team = tm_team(1);
    lt_tokens t = ct_random_tokens(ROWS, LEN, spec->spec.vocab, 2);
    lt_calibrate_in in = ct_in(m, &t, team, test_path("sums.stats"));
    in.include_head = true;
    in.batch_tokens = 50;
    lt_stats *s = ct_calibrate(&in);
    watched sites[] = { { .name = "model.layers.0.mixer_in", .site = LT_SITE_MIXER_IN, .layer = 0 },
                        { .name = "model.layers.1.mixer_act", .site = LT_SITE_MIXER_ACT, .layer = 1 },
                        { .name = "model.layers.2.mlp_in", .site = LT_SITE_MLP_IN, .layer = 2 },
                        { .name = "model.layers.2.mlp_act", .site = LT_SITE_MLP_ACT, .layer = 2 },
                        { .name = "head_in", .site = LT_SITE_HEAD_IN, .layer = -1 } };
    for (size_t i = 0; i < LT_COUNTOF(sites); i++) {
        watched *w = &sites[i];
        watch(w, m, team, &t);
        assert_true(lt_stats_count(s, w->name) == (double)(ROWS * LEN));
        /* batches of another shape round each input anew, by some ulps of f32: the sum of the magnitudes bounds that */
        double magnitude = 0.0;
        for (size_t c = 0; c < w->d; c++) magnitude = w->abssum[c] > magnitude ? w->abssum[c] : magnitude;
        assert_close_f64(ct_values(s, w->name, "sum"), w->sum, w->d, 2e-6 * magnitude, 1e-6);
        assert_close_f64(ct_values(s, w->name, "abssum"), w->abssum, w->d, 1e-5, 1e-6);
        assert_close_f64(ct_values(s, w->name, "sumsq"), w->sumsq, w->d, 1e-5, 1e-6);
        assert_close_f64(ct_values(s, w->name, "gram"), w->gram, w->d * (w->d + 1) / 2, 2e-5 * w->gram[0], 1e-5);
        lt_free(w->gram), lt_free(w->sum), lt_free(w->abssum), lt_free(w->sumsq);
    }
    lt_stats_close(s);
    lt_tokens_clear(&t);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

static void sites_name_their_modules(void **state) {
    (void)state;
    tm *spec = tm_build(TM_ODD, 1);
    lt_model *m = tm_open(tm_write(spec, "odd", 1));
    lt_team *team = tm_team(1);
    lt_tokens t = ct_random_tokens(1, LEN, spec->spec.vocab, 2);
    const lt_calibrate_in in = ct_in(m, &t, team, test_path("names.stats"));
    lt_stats *s = ct_calibrate(&in);
    static const char *const fed[][2] = { { "model.layers.1.self_attn.q_proj", "model.layers.1.mixer_in" },
                                          { "model.layers.1.self_attn.k_proj", "model.layers.1.mixer_in" },
                                          { "model.layers.1.self_attn.v_proj", "model.layers.1.mixer_in" },
                                          { "model.layers.1.self_attn.o_proj", "model.layers.1.mixer_act" },
                                          { "model.layers.0.mlp.gate_proj", "model.layers.0.mlp_in" },
                                          { "model.layers.0.mlp.up_proj", "model.layers.0.mlp_in" },
                                          { "model.layers.2.mlp.down_proj", "model.layers.2.mlp_act" } };
    lt_stats_site site;
    for (size_t i = 0; i < LT_COUNTOF(fed); i++) {
        assert_true(lt_stats_site_of(s, fed[i][0], &site));
        assert_string_equal(site.name, fed[i][1]);
    }
    assert_int_equal(lt_stats_n_sites(s), 12);
    assert_false(lt_stats_site_of(s, "lm_head", &site));
    assert_string_equal(lt_stats_meta(s, "tokens_hash"), t.hash);
    lt_stats_close(s);
    lt_tokens_clear(&t);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

/* ---- bytes ---- */

static void any_thread_count_gives_the_same_bytes(void **state) {
    (void)state;
    tm *spec = tm_build(TM_ODD, 1);
    lt_model *m = tm_open(tm_write(spec, "odd", 1));
    lt_tokens t = ct_random_tokens(ROWS, 130, spec->spec.vocab, 2);
    static const char *const names[] = { "t1.stats", "t2.stats", "t5.stats" };
    static const int threads[] = { 1, 2, 5 };
    for (size_t i = 0; i < 3; i++) {
        lt_team *team = tm_team(threads[i]);
        const lt_calibrate_in in = ct_in(m, &t, team, test_path(names[i]));
        lt_stats_close(ct_calibrate(&in));
        lt_team_destroy(team);
        ct_assert_same_file(test_path("t1.stats"), test_path(names[i]));
    }
    lt_tokens_clear(&t);
    lt_model_destroy(m);
    tm_free(spec);
}

static void a_tight_memory_limit_changes_no_byte(void **state) {
    (void)state;
    tm *spec = tm_build(TM_ODD, 1);
    lt_model *m = tm_open(tm_write(spec, "odd", 1));
    lt_team *team = tm_team(1);
    lt_tokens t = ct_random_tokens(ROWS, LEN, spec->spec.vocab, 2);
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    lt_calibrate_in in = ct_in(m, &t, team, test_path("free.stats"));
    in.ctx = &ctx;
    ctx.max_memory = 0;
    lt_stats_close(ct_calibrate(&in));
    lt_run_plan plan;
    lt_err err = { 0 };
    assert_ok(lt_calibrate_predict(&plan, &in, &err), &err);
    assert_true(plan.predicted_bytes > 0);
    ctx.max_memory = plan.predicted_bytes; /* its least plan drops weights and spills */
    in.out_path = test_path("tight.stats");
    lt_stats_close(ct_calibrate(&in));
    ct_assert_same_file(test_path("free.stats"), test_path("tight.stats"));
    ctx.max_memory = 1 << 20;
    lt_calibrate_out out;
    assert_fails(lt_calibrate(&out, &in, &err), &err, LT_ENOMEM, "short");
    lt_tokens_clear(&t);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

/* ---- weights ---- */

/* Check 3 (spec §11): rows with weight 0 leave no trace. Padding behind the text is what skip_first is before it. */
static void check_03_skipped_positions_leave_no_trace(void **state) {
    (void)state;
    tm *spec = tm_build(TM_ODD, 1);
    lt_model *m = tm_open(tm_write(spec, "odd", 1));
    lt_team *team = tm_team(1);
    lt_tokens whole = ct_random_tokens(ROWS, LEN, spec->spec.vocab, 2);
    lt_calibrate_in in = ct_in(m, &whole, team, test_path("whole.stats"));
    lt_stats *all = ct_calibrate(&in);
    in.skip_first = 4;
    in.out_path = test_path("skipped.stats");
    lt_stats *later = ct_calibrate(&in);
    /* the first four positions of each row alone: the prefix does not see what follows */
    int32_t heads[ROWS * 4];
    for (size_t r = 0; r < ROWS; r++) memcpy(heads + r * 4, whole.ids + r * LEN, 4 * sizeof *heads);
    lt_tokens prefix = ct_tokens(heads, ROWS, 4);
    in = ct_in(m, &prefix, team, test_path("prefix.stats"));
    lt_stats *first = ct_calibrate(&in);
    for (size_t i = 0; i < lt_stats_n_sites(all); i++) {
        const lt_stats_site site = lt_stats_site_at(all, i);
        const size_t n = site.cols * (site.cols + 1) / 2;
        const double *a = ct_values(all, site.name, "gram"), *l = ct_values(later, site.name, "gram"),
                     *f = ct_values(first, site.name, "gram");
        assert_true(lt_stats_count(later, site.name) == (double)(ROWS * (LEN - 4)));
        assert_true(lt_stats_count(first, site.name) == (double)(ROWS * 4));
        double largest = 0.0;
        for (size_t k = 0; k < n; k++) largest = fmax(largest, fabs(a[k]));
        for (size_t k = 0; k < n; k++) assert_true(fabs(l[k] + f[k] - a[k]) <= 1e-6 * largest);
    }
    lt_stats_close(all), lt_stats_close(later), lt_stats_close(first);
    lt_tokens_clear(&whole), lt_tokens_clear(&prefix);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

/* Check 3: rows of different lengths in one batch, which others would pad, give the sums of each row alone. */
static void check_03_rows_in_company_are_rows_alone(void **state) {
    (void)state;
    tm *spec = tm_build(TM_ODD, 1);
    lt_model *m = tm_open(tm_write(spec, "odd", 1));
    lt_team *team = tm_team(1);
    lt_tokens t = ct_random_tokens(4, 30, spec->spec.vocab, 2);
    static const size_t starts[] = { 0, 7, 60, 63, 120 };
    memcpy(t.row_start, starts, sizeof starts);
    lt_calibrate_in in = ct_in(m, &t, team, test_path("company.stats"));
    in.batch_tokens = 1000;
    lt_stats *company = ct_calibrate(&in);
    in.batch_tokens = 1;
    in.out_path = test_path("alone.stats");
    lt_stats *alone = ct_calibrate(&in);
    assert_true(ct_difference(company, alone) <= 1e-6);
    for (size_t i = 0; i < lt_stats_n_sites(alone); i++) {
        const lt_stats_site site = lt_stats_site_at(alone, i);
        assert_true(lt_stats_count(alone, site.name) == 120.0 && lt_stats_count(company, site.name) == 120.0);
    }
    lt_stats_close(company), lt_stats_close(alone);
    lt_tokens_clear(&t);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

/* Observes rows x with weights w. */
static lt_calib_sites observed(const lt_model *m, lt_team *team, float *x, size_t n, size_t d, const float *w) {
    lt_calib_sites s;
    lt_err err = { 0 };
    lt_buffer buffer = { x, n * d * sizeof *x, false };
    const lt_batch batch = { .n_rows = n, .weight = w };
    const lt_obs obs = { .site = LT_SITE_MIXER_IN,
                         .rows = lt_tensor_dense(LT_F32, 2, (size_t[]){ n, d }, &buffer, 0),
                         .batch = &batch };
    assert_ok(lt_calib_sites_init(&s, m, &(lt_calib_what){ .inputs = ct_all_stats() }, &err), &err);
    assert_ok(lt_calib_sites_begin(&s, 0, &err), &err);
    assert_ok(lt_calib_site_observe(lt_calib_sites_find(&s, LT_SITE_MIXER_IN, 0), 0, team, &obs, &err), &err);
    return s;
}

static void real_weights_count_rows_so_many_times(void **state) {
    (void)state;
    tm *spec = tm_build(TM_ODD, 1);
    lt_model *m = tm_open(tm_write(spec, "odd", 1));
    lt_team *team = tm_team(1);
    const size_t d = spec->spec.d;
    lt_rng r = test_rng(4);
    float x[4 * 22], twice[7 * 22];
    const float w[4] = { 2.0f, 0.0f, 1.0f, 4.0f };
    static const size_t row[7] = { 0, 0, 2, 3, 3, 3, 3 };
    assert_int_equal(d, 22);
    test_fill_normal(x, 4 * d, &r);
    for (size_t i = 0; i < 7; i++) memcpy(twice + i * d, x + row[i] * d, d * sizeof *x);
    lt_calib_sites weighted = observed(m, team, x, 4, d, w), repeated = observed(m, team, twice, 7, d, NULL);
    const lt_calib_site *a = lt_calib_sites_find(&weighted, LT_SITE_MIXER_IN, 0),
                        *b = lt_calib_sites_find(&repeated, LT_SITE_MIXER_IN, 0);
    for (size_t k = 0; k <= LT_STAT_GRAM; k++)
        assert_close_f64(a->acc[k], b->acc[k], lt_stat_rows[k]->doubles(d), 1e-5, 1e-6);
    lt_calib_sites_clear(&weighted);
    lt_calib_sites_clear(&repeated);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

/* ---- merging ---- */

/* Check 4: two halves merged are one pass. */
static void check_04_halves_add_up(void **state) {
    (void)state;
    tm *spec = tm_build(TM_ODD, 1);
    lt_model *m = tm_open(tm_write(spec, "odd", 1));
    lt_team *team = tm_team(1);
    lt_tokens whole = ct_random_tokens(ROWS, LEN, spec->spec.vocab, 2);
    lt_tokens a = ct_tokens(whole.ids, 2, LEN), b = ct_tokens(whole.ids + 2 * LEN, ROWS - 2, LEN);
    const char *paths[] = { test_path("a.stats"), test_path("b.stats") };
    lt_calibrate_in in = ct_in(m, &whole, team, test_path("one.stats"));
    in.batch_tokens = 2 * LEN; /* so that products are summed over the same rows */
    lt_stats *one = ct_calibrate(&in);
    in.tokens = &a, in.out_path = paths[0], in.settings = "{\"seq_len\": 7, \"data\": \"a\"}";
    lt_stats_close(ct_calibrate(&in));
    in.tokens = &b, in.out_path = paths[1], in.settings = "{\"seq_len\": 7, \"data\": \"b\"}";
    lt_stats_close(ct_calibrate(&in));
    lt_err err = { 0 };
    assert_ok(lt_stats_merge(test_path("merged.stats"), paths, 2, NULL, &err), &err);
    lt_stats *merged = ct_open(test_path("merged.stats"));
    assert_true(ct_difference(merged, one) <= 1e-12);
    in.settings = "{\"seq_len\": 8}";
    lt_stats_close(ct_calibrate(&in));
    assert_fails(lt_stats_merge(test_path("merged.stats"), paths, 2, NULL, &err), &err, LT_EDATA, "seq_len");
    in.settings = "{\"seq_len\": 7}", in.model_hash = "another";
    lt_stats_close(ct_calibrate(&in));
    assert_fails(lt_stats_merge(test_path("merged.stats"), paths, 2, NULL, &err), &err, LT_EDATA, "model_hash");
    lt_stats_close(one), lt_stats_close(merged);
    lt_tokens_clear(&whole), lt_tokens_clear(&a), lt_tokens_clear(&b);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

/* ---- bad inputs ---- */

static void what_is_not_finite_is_named_by_layer_and_site(void **state) {
    (void)state;
    tm *spec = tm_build(TM_ODD, 1);
    tm_find(spec, "model.layers.1.mlp.up_proj.weight")->data[3] = INFINITY;
    lt_model *m = tm_open(tm_write(spec, "inf", 1));
    lt_team *team = tm_team(1);
    lt_tokens t = ct_random_tokens(ROWS, LEN, spec->spec.vocab, 2);
    const lt_calibrate_in in = ct_in(m, &t, team, test_path("inf.stats"));
    lt_calibrate_out out;
    lt_err err = { 0 };
    assert_fails(lt_calibrate(&out, &in, &err), &err, LT_EDATA, "layer 1: mlp_act");
    assert_false(lt_path_exists(in.out_path));
    char *partial = lt_asprintf("%s.partial", in.out_path);
    assert_false(lt_path_exists(partial));
    lt_free(partial);
    lt_tokens_clear(&t);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

static void tokens_must_fit_the_model(void **state) {
    (void)state;
    tm *spec = tm_build(TM_BIAS, 1);
    lt_model *m = tm_open(tm_write(spec, "bias", 1));
    lt_team *team = tm_team(1);
    lt_tokens long_rows = ct_random_tokens(1, 129, spec->spec.vocab, 2),
              few = ct_random_tokens(2, 5, spec->spec.vocab, 2);
    lt_tokens none = ct_tokens(few.ids, 0, 5);
    lt_calibrate_out out;
    lt_err err = { 0 };
    lt_calibrate_in in = ct_in(m, &long_rows, team, test_path("bad.stats"));
    assert_fails(lt_calibrate(&out, &in, &err), &err, LT_EDATA, "129 tokens");
    in.tokens = &none;
    assert_fails(lt_calibrate(&out, &in, &err), &err, LT_EDATA, "no rows");
    in.tokens = &few;
    in.skip_first = 5;
    assert_fails(lt_calibrate(&out, &in, &err), &err, LT_EDATA, "leaves no token");
    in.skip_first = 0;
    few.ids[7] = 53;
    assert_fails(lt_calibrate(&out, &in, &err), &err, LT_EDATA, "vocabulary");
    in.settings = "[1]";
    few.ids[7] = 5;
    assert_fails(lt_calibrate(&out, &in, &err), &err, LT_EUSAGE, "settings");
    lt_tokens_clear(&long_rows), lt_tokens_clear(&few), lt_tokens_clear(&none);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

static lt_status calibrate_again(void *user, lt_err *err) {
    const lt_calibrate_in *in = user;
    lt_calibrate_out out;
    lt_err ignored = { 0 };
    lt_remove_tree(test_path("oom.stats.partial"), &ignored);
    return lt_calibrate(&out, in, err);
}

static void running_out_of_memory_is_an_error_and_leaks_nothing(void **state) {
    (void)state;
    tm_spec small = TM_BIAS;
    small.layers = 1;
    tm *spec = tm_build(small, 1);
    lt_model *m = tm_open(tm_write(spec, "small", 1));
    lt_team *team = tm_team(1);
    lt_tokens t = ct_random_tokens(1, 4, spec->spec.vocab, 2);
    lt_calibrate_in in = ct_in(m, &t, team, test_path("oom.stats"));
    in.include_head = true;
    in.skip_first = 1;
    assert_true(test_every_allocation_fails(calibrate_again, &in) > 50);
    lt_tokens_clear(&t);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_the_inputs),
        cmocka_unit_test(sites_name_their_modules),
        cmocka_unit_test(any_thread_count_gives_the_same_bytes),
        cmocka_unit_test(a_tight_memory_limit_changes_no_byte),
        cmocka_unit_test(check_03_skipped_positions_leave_no_trace),
        cmocka_unit_test(check_03_rows_in_company_are_rows_alone),
        cmocka_unit_test(real_weights_count_rows_so_many_times),
        cmocka_unit_test(check_04_halves_add_up),
        cmocka_unit_test(what_is_not_finite_is_named_by_layer_and_site),
        cmocka_unit_test(tokens_must_fit_the_model),
        cmocka_unit_test(running_out_of_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
