/* SPDX-License-Identifier: Apache-2.0 */
/* Plans that are fitted with tokens, on small models: what they leave, what they refuse, and that neither threads nor
 * interruptions change a byte. */
#include "compress/compress_test.h"

static tm *spec, *spec_bias;
static lt_model *model, *biased;
static lt_team *team;
static lt_tokens tokens, tokens_bias;
static lt_stats *stats, *stats_bias;

static lt_stats *calibrate(const lt_model *m, const lt_tokens *t, const char *name) {
    const lt_calibrate_in in = ct_in(m, t, team, test_path(name));
    return ct_calibrate(&in);
}

static int set_up(void **state) {
    (void)state;
    team = tm_team(1);
    spec = tm_build(TM_ODD, 1);
    spec_bias = tm_build(TM_BIAS, 2);
    model = tm_open(tm_write(spec, "odd", 1));
    biased = tm_open(tm_write(spec_bias, "bias", 1));
    tokens = ct_random_tokens(12, 40, TM_ODD.vocab, 3);
    tokens_bias = ct_random_tokens(12, 40, TM_BIAS.vocab, 4);
    stats = calibrate(model, &tokens, "odd.stats");
    stats_bias = calibrate(biased, &tokens_bias, "bias.stats");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    lt_stats_close(stats), lt_stats_close(stats_bias);
    lt_tokens_clear(&tokens), lt_tokens_clear(&tokens_bias);
    lt_model_destroy(model), lt_model_destroy(biased);
    tm_free(spec), tm_free(spec_bias);
    lt_team_destroy(team);
    return 0;
}

/* ---- one call each ---- */

static lt_plan plan_with(const char *method, const lt_model *m, const lt_stats *s, const char *budget,
                         const char *params) {
    lt_plan_in in = cp_in(m, s, team, budget);
    json_t *p = params ? json_loads(params, 0, NULL) : NULL;
    in.params = p;
    lt_plan plan = cp_plan(method, &in);
    json_decref(p);
    return plan;
}

static lt_status apply_to(lt_overlay **o, const lt_plan *p, const lt_model *m, const lt_tokens *t, lt_team *with,
                          const lt_ctx *ctx, const char *journal, lt_err *err) {
    const lt_apply_in in = {
        .model = m, .team = with, .dtype = LT_N_DTYPES, .tokens = t, .ctx = ctx, .journal = journal
    };
    assert_ok(lt_overlay_create(o, m, err), err);
    return lt_plan_apply(*o, p, &in, err);
}

static lt_overlay *apply(const lt_plan *p, const lt_model *m, const lt_tokens *t) {
    lt_overlay *o;
    lt_err err = { 0 };
    assert_ok(apply_to(&o, p, m, t, team, NULL, NULL, &err), &err);
    return o;
}

/* ‖hidden states of b - those of a‖² behind the last layer, over all tokens */
static double apart(const lt_model *a, const lt_model *b, const lt_tokens *t) {
    lt_batch *batch;
    size_t n;
    lt_exec *x, *y;
    double sum = 0.0;
    lt_err err = { 0 };
    assert_ok(lt_tokens_batches(&batch, &n, t, 200, &err), &err);
    assert_ok(lt_exec_create(&x, team, &(lt_exec_opts){ 0 }, &err), &err);
    assert_ok(lt_exec_create(&y, team, &(lt_exec_opts){ 0 }, &err), &err);
    for (size_t i = 0; i < n; i++) {
        lt_exec_begin(x, &batch[i]), lt_exec_begin(y, &batch[i]);
        lt_var h = lt_model_embed(x, a), g = lt_model_embed(y, b);
        for (size_t l = 0; l < a->config.n_layers; l++) h = lt_model_layer(x, a, l, h), g = lt_model_layer(y, b, l, g);
        assert_ok(lt_exec_status(x, &err), &err);
        assert_ok(lt_exec_status(y, &err), &err);
        for (size_t k = 0; k < batch[i].n_rows * a->config.d_model; k++) {
            const double d = (double)lt_data(x, h)[k] - (double)lt_data(y, g)[k];
            sum += d * d;
        }
    }
    lt_exec_destroy(x), lt_exec_destroy(y);
    lt_batches_free(batch, n);
    return sum;
}

static double apart_with(const char *method, const lt_model *m, const lt_stats *s, const lt_tokens *t,
                         const char *params) {
    lt_plan p = plan_with(method, m, s, "linears=0.7", params);
    lt_overlay *o;
    lt_err err = { 0 };
    const lt_apply_in in = { .model = m, .team = team, .dtype = LT_N_DTYPES, .tokens = t, .stats = s };
    assert_ok(lt_overlay_create(&o, m, &err), &err);
    assert_ok(lt_plan_apply(o, &p, &in, &err), &err);
    const double d = apart(m, lt_overlay_model(o), t);
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
    return d;
}

/* ---- what is left ---- */

static void making_up_for_the_residual_stream_brings_it_nearer(void **state) {
    (void)state;
    const double white = apart_with("whitened", model, stats, &tokens, NULL),
                 drift = apart_with("sequential", model, stats, &tokens, NULL),
                 residual = apart_with("sequential", model, stats, &tokens, "{\"target\": \"residual\"}"),
                 refit = apart_with("lathe", model, stats, &tokens, NULL),
                 plain = apart_with("lathe", model, stats, &tokens, "{\"target\": \"drift\"}");
    assert_true(drift < white && residual < drift);
    assert_true(refit < plain);
}

/* One pass a layer does not know the layer's own cuts. */
static void a_pass_per_site_is_nearer_than_one_per_block(void **state) {
    (void)state;
    static const char *const residual = "{\"target\": \"residual\"}",
                             *const block = "{\"target\": \"residual\", \"drift\": \"block\"}";
    assert_true(apart_with("sequential", model, stats, &tokens, residual) <
                apart_with("sequential", model, stats, &tokens, block));
}

static void a_model_with_biases_is_fitted_with_centred_inputs(void **state) {
    (void)state;
    const double centred = apart_with("sequential", biased, stats_bias, &tokens_bias, NULL),
                 off = apart_with("sequential", biased, stats_bias, &tokens_bias, "{\"affine\": \"off\"}");
    assert_true(centred < off);
    assert_true(apart_with("lathe", biased, stats_bias, &tokens_bias, NULL) < INFINITY);
}

/* Keeping every channel and fitting to inputs that have not drifted changes nothing but rounding. */
static void nothing_cut_is_nothing_changed(void **state) {
    (void)state;
    lt_plan p = { 0 };
    lt_err err = { 0 };
    assert_ok(cp_parse(&p,
                       "{\"format\": \"lathe-plan/1\", \"cuts\": [{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": "
                       "1, \"index\": \"0-36\", \"refit\": \"residual\", \"ridge\": 1e-5}]}",
                       &err),
              &err);
    lt_overlay *o = apply(&p, model, &tokens);
    assert_true(apart(model, lt_overlay_model(o), &tokens) <= 1e-6);
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
}

static void a_narrower_model_is_saved_and_read_back(void **state) {
    (void)state;
    const struct {
        const lt_model *m;
        const lt_stats *s;
        const lt_tokens *t;
    } cases[] = { { model, stats, &tokens }, { biased, stats_bias, &tokens_bias } };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_plan p = plan_with("lathe", cases[i].m, cases[i].s, "linears=0.8", NULL);
        lt_overlay *o = apply(&p, cases[i].m, cases[i].t);
        const lt_model *made = lt_overlay_model(o);
        const lt_save_opts opts = { .form = LT_FORM_ABLINEAR, .dtype = LT_N_DTYPES };
        lt_err err = { 0 };
        assert_ok(lt_remove_tree(test_path("narrow"), &err), &err);
        assert_ok(lt_model_save(made, test_path("narrow"), &opts, NULL, &err), &err);
        lt_model *back = tm_open(test_path("narrow"));
        assert_true(back->config.layer[0].d_ff < cases[i].m->config.layer[0].d_ff);
        cp_assert_same_weights(made, back);
        const json_t *params = json_object_get(json_object_get(p.head, "cost"), "params");
        assert_int_equal(lt_model_n_params(back), json_integer_value(json_array_get(params, 1)));
        assert_true((double)lt_model_n_linear_params(back) <= 0.8 * (double)lt_model_n_linear_params(cases[i].m));
        lt_model_destroy(back);
        lt_overlay_destroy(o);
        lt_plan_clear(&p);
    }
}

/* Below what MLPs alone can give, attention loses rank too, and the budget is met. */
static void small_budgets_cut_attention_as_well(void **state) {
    (void)state;
    lt_plan p = plan_with("lathe", model, stats, "linears=0.45", NULL);
    size_t keeps = 0, ranks = 0;
    for (size_t i = 0; i < p.n_cuts; i++) {
        keeps += strcmp(p.cuts[i].kind->kind, "keep") == 0;
        ranks += strcmp(p.cuts[i].kind->kind, "rank") == 0;
    }
    assert_true(keeps == 3 && ranks > 0);
    assert_true(json_real_value(json_object_get(json_object_get(p.head, "cost"), "linears_kept")) <= 0.45);
    lt_overlay *o = apply(&p, model, &tokens);
    assert_true((double)lt_model_n_linear_params(lt_overlay_model(o)) <=
                0.45 * (double)lt_model_n_linear_params(model));
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
}

/* ---- the same bytes ---- */

static int steps_left;
static int stop_at(void *user, const char *stage, double done, double total, const char *unit) {
    (void)user, (void)stage, (void)done, (void)total, (void)unit;
    return --steps_left < 0;
}

static void interruptions_and_threads_change_no_byte(void **state) {
    (void)state;
    lt_team *three = tm_team(3);
    static const char *const methods[] = { "sequential", "lathe" };
    for (size_t k = 0; k < LT_COUNTOF(methods); k++) {
        lt_plan p = plan_with(methods[k], model, stats, "linears=0.6", NULL);
        lt_overlay *whole = apply(&p, model, &tokens), *o;
        const char *folder = test_path("journal");
        lt_err err = { 0 };
        lt_ctx ctx;
        lt_ctx_init(&ctx);
        ctx.progress = stop_at;
        assert_ok(lt_remove_tree(folder, &err), &err);
        for (int steps = 1;; steps += 3) {
            steps_left = steps;
            err = (lt_err){ 0 };
            const lt_status st = apply_to(&o, &p, model, &tokens, three, &ctx, folder, &err);
            if (st == LT_OK) break;
            assert_int_equal(st, LT_EINTERRUPTED);
            lt_overlay_destroy(o);
        }
        cp_assert_same_weights(lt_overlay_model(whole), lt_overlay_model(o));
        lt_overlay_destroy(o), lt_overlay_destroy(whole);
        lt_plan_clear(&p);
    }
    lt_team_destroy(three);
}

typedef struct shown {
    double done, total;
    size_t n, leave; /* leave: calls until it asks to stop; 0: never */
} shown;
static int show(void *user, const char *stage, double done, double total, const char *unit) {
    shown *s = user;
    (void)unit;
    if (strcmp(stage, "drift") != 0) return 0;
    assert_true(done > (s->n ? s->done : 0) && done <= total);
    *s = (shown){ done, total, s->n + 1, s->leave };
    return s->n == s->leave;
}

/* Whatever the passes a layer takes, whether it is interrupted or goes on: progress rises and ends at its total. */
static void progress_rises_to_its_total(void **state) {
    (void)state;
    static const char *const drift[] = { "drift=site", "drift=block" };
    for (size_t i = 0; i < LT_COUNTOF(drift); i++) {
        lt_plan p = plan_with("sequential", model, stats, "linears=0.6", drift[i]);
        const char *folder = test_path("shown");
        lt_overlay *o;
        lt_err err = { 0 };
        lt_ctx ctx;
        shown s = { 0 };
        lt_ctx_init(&ctx);
        ctx.progress = show;
        ctx.user = &s;
        assert_ok(lt_remove_tree(folder, &err), &err);
        assert_ok(apply_to(&o, &p, model, &tokens, team, &ctx, NULL, &err), &err);
        lt_overlay_destroy(o);
        const size_t all = s.n;
        assert_true(all > 1 && s.done == s.total);
        s = (shown){ .leave = all - 1 };
        assert_int_equal(apply_to(&o, &p, model, &tokens, team, &ctx, folder, &err), LT_EINTERRUPTED);
        lt_overlay_destroy(o);
        s = (shown){ 0 };
        assert_ok(apply_to(&o, &p, model, &tokens, team, &ctx, folder, &err), &err);
        lt_overlay_destroy(o);
        assert_true(s.n < all && s.done == s.total);
        lt_plan_clear(&p);
    }
}

static void a_damaged_journal_is_done_again(void **state) {
    (void)state;
    lt_plan p = plan_with("lathe", model, stats, "linears=0.7", NULL);
    const char *folder = test_path("damaged");
    lt_overlay *o, *again;
    lt_err err = { 0 };
    size_t bytes;
    assert_ok(apply_to(&o, &p, model, &tokens, team, NULL, folder, &err), &err);
    char *path = lt_path_join(folder, "layer-00001.safetensors"), *data = test_read_file(path, &bytes);
    data[bytes - 9] ^= 1;
    test_write_file(path, data, bytes);
    assert_ok(apply_to(&again, &p, model, &tokens, team, NULL, folder, &err), &err);
    cp_assert_same_weights(lt_overlay_model(o), lt_overlay_model(again));
    lt_free(path), lt_free(data);
    lt_overlay_destroy(o), lt_overlay_destroy(again);
    lt_plan_clear(&p);
}

/* ---- refused ---- */

static void bad_cuts_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *cut, *says;
        lt_status code; /* when it is read, or checked */
    } cases[] = {
        { "{\"kind\": \"keep\", \"axis\": \"heads\", \"layer\": 0, \"index\": \"0\"}", "heads", LT_EUNSUPPORTED },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"index\": \"0\"}", "layer", LT_EDATA },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": 0, \"index\": \"\"}", "index", LT_EDATA },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": 0, \"index\": \"3-1\"}", "ascend", LT_EDATA },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": 0, \"index\": \"1,1\"}", "ascend", LT_EDATA },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": 0, \"index\": \"0-99999999999999999999\"}", "index",
          LT_EDATA },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": 0, \"index\": \"0,\"}", "index", LT_EDATA },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": 0, \"index\": \"0-37\"}", "37 of 37", LT_EDATA },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": 3, \"index\": \"0\"}", "no layer 3", LT_EDATA },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": 0, \"index\": \"0\", \"refit\": \"maybe\"}", "maybe",
          LT_EDATA },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": 0, \"index\": \"0\", \"ridge\": -1}", "ridge",
          LT_EDATA },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": 0, \"index\": \"0\", \"of\": 1}", "of", LT_EDATA },
        { "{\"kind\": \"keep\", \"axis\": \"d_ff\", \"layer\": 0, \"index\": \"0\"}, {\"kind\": \"rank\", \"module\": "
          "\"model.layers.0.mlp.up_proj\", \"rank\": 3}",
          "up_proj", LT_EUNSUPPORTED },
        { "{\"kind\": \"rank\", \"module\": \"model.layers.0.mlp.up_proj\", \"rank\": 3, \"target\": \"residual\"}",
          "up_proj", LT_EUNSUPPORTED },
        { "{\"kind\": \"rank\", \"module\": \"model.layers.0.mlp.up_proj\", \"rank\": 3, \"target\": \"drift\", "
          "\"metric\": \"weight\"}",
          "metric", LT_EDATA },
        { "{\"kind\": \"rank\", \"module\": \"model.layers.0.mlp.up_proj\", \"rank\": 3, \"target\": \"drift\", "
          "\"pass\": \"model\"}",
          "model", LT_EDATA },
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        char *text = lt_asprintf("{\"format\": \"lathe-plan/1\", \"cuts\": [%s]}", cases[i].cut);
        lt_plan p = { 0 };
        lt_err err = { 0 };
        lt_status st = cp_parse(&p, text, &err);
        if (st == LT_OK) st = lt_plan_check(&p, model, NULL, NULL, &err);
        if (st != cases[i].code || !strstr(err.message, cases[i].says))
            fail_msg("%s: %d, \"%s\"", cases[i].cut, (int)st, err.message);
        lt_plan_clear(&p);
        lt_free(text);
    }
}

static void text_is_needed_and_must_be_the_models(void **state) {
    (void)state;
    lt_plan p = plan_with("lathe", model, stats, "linears=0.7", NULL);
    lt_tokens foreign = ct_random_tokens(2, 20, TM_ODD.vocab, 8);
    lt_overlay *o;
    lt_err err = { 0 };
    assert_true(lt_plan_needs_tokens(&p, model));
    assert_int_equal(apply_to(&o, &p, model, NULL, team, NULL, NULL, &err), LT_EUSAGE);
    lt_overlay_destroy(o);
    foreign.ids[5] = 61;
    err = (lt_err){ 0 };
    assert_int_equal(apply_to(&o, &p, model, &foreign, team, NULL, NULL, &err), LT_EDATA);
    assert_non_null(strstr(err.message, "id 5 is 61"));
    lt_overlay_destroy(o);
    lt_tokens_clear(&foreign);
    lt_plan_clear(&p);
}

static void a_limit_that_is_too_small_is_said_before_any_work(void **state) {
    (void)state;
    lt_plan p = plan_with("lathe", model, stats, "linears=0.7", NULL);
    lt_overlay *o;
    lt_err err = { 0 };
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    ctx.max_memory = 1 << 20;
    assert_int_equal(apply_to(&o, &p, model, &tokens, team, &ctx, NULL, &err), LT_ENOMEM);
    assert_non_null(strstr(err.message, "short"));
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
}

static void a_budget_below_one_channel_is_not_met(void **state) {
    (void)state;
    lt_plan_in in = cp_in(model, stats, team, "linears=0.3");
    json_t *params = json_pack("{s:s}", "attention", "keep");
    lt_plan p = { 0 };
    lt_err err = { 0 };
    in.params = params;
    assert_int_equal(lt_make_plan(&p, "lathe", &in, &err), LT_ETARGET);
    assert_non_null(strstr(err.message, "channel"));
    json_decref(params);
    lt_plan_clear(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(making_up_for_the_residual_stream_brings_it_nearer),
        cmocka_unit_test(a_pass_per_site_is_nearer_than_one_per_block),
        cmocka_unit_test(a_model_with_biases_is_fitted_with_centred_inputs),
        cmocka_unit_test(nothing_cut_is_nothing_changed),
        cmocka_unit_test(a_narrower_model_is_saved_and_read_back),
        cmocka_unit_test(small_budgets_cut_attention_as_well),
        cmocka_unit_test(interruptions_and_threads_change_no_byte),
        cmocka_unit_test(progress_rises_to_its_total),
        cmocka_unit_test(a_damaged_journal_is_done_again),
        cmocka_unit_test(bad_cuts_are_refused_by_name),
        cmocka_unit_test(text_is_needed_and_must_be_the_models),
        cmocka_unit_test(a_limit_that_is_too_small_is_said_before_any_work),
        cmocka_unit_test(a_budget_below_one_channel_is_not_met),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
