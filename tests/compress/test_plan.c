/* SPDX-License-Identifier: Apache-2.0 */
/* The plan file and making, checking and applying plans on small models. */
#include "compress/compress_test.h"

#include "compress/batch.h"
#include "compress/module_weight.h"

#define CUT(module, rank) "{\"kind\": \"rank\", \"module\": \"" module "\", \"rank\": " #rank "}"
#define PLAN(cuts) "{\"format\": \"lathe-plan/1\", \"cuts\": [" cuts "]}"
#define Q "model.layers.0.self_attn.q_proj"

/* A model of three layers with statistics. */
typedef struct fixture {
    tm *spec;
    lt_model *m;
    lt_team *team;
    lt_stats *s;
} fixture;

static fixture make_fixture_of(tm_spec spec, const char *name, bool head) {
    fixture f = { .spec = tm_build(spec, 1), .team = tm_team(1) };
    f.m = tm_open(tm_write(f.spec, name, 1));
    lt_tokens t = ct_random_tokens(8, 40, spec.vocab, 2);
    char *stats = lt_asprintf("%s.stats", test_path(name));
    lt_calibrate_in in = ct_in(f.m, &t, f.team, stats);
    in.include_head = head;
    f.s = ct_calibrate(&in);
    lt_tokens_clear(&t);
    lt_free(stats);
    return f;
}

static fixture make_fixture(tm_spec spec, const char *name) {
    return make_fixture_of(spec, name, true);
}

static void free_fixture(fixture *f) {
    lt_stats_close(f->s);
    lt_team_destroy(f->team);
    lt_model_destroy(f->m);
    tm_free(f->spec);
}

/* ---- the file ---- */

static void a_plan_comes_back_as_written(void **state) {
    (void)state;
    static const char text[] =
        "{\n \"format\": \"lathe-plan/1\",\n \"model\": {\"hash\": \"m\"},\n \"for\": \"hf\",\n \"made_by\": "
        "[{\"method\": \"by hand\", \"params\": {\"keep\": 0.8}}],\n"
        " \"cuts\": [\n  {\"kind\": \"rank\", \"module\": \"a\", \"rank\": 7, \"metric\": \"input\", \"target\": "
        "\"original\", \"affine\": true, \"balance\": \"orth\", "
        "\"rel_error\": 0.031},\n  {\"kind\": \"rank\", \"module\": \"b\", \"rank\": 9, \"force\": true}]}\n";
    lt_plan p = { 0 }, q = { 0 };
    lt_err err = { 0 };
    assert_ok(cp_parse(&p, text, &err), &err);
    assert_int_equal(p.n_cuts, 2);
    assert_true(lt_plan_needs_stats(&p));
    char *again = lt_plan_text(&p);
    assert_string_equal(again, text);
    assert_ok(lt_plan_save(&p, test_path("plan.json"), &err), &err);
    assert_ok(lt_plan_load(&q, test_path("plan.json"), &err), &err);
    assert_int_equal(q.n_cuts, 2);
    lt_free(again);
    lt_plan_clear(&p);
    lt_plan_clear(&q);
}

static void bad_plans_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text;
        lt_status code;
        const char *says;
    } bad[] = {
        { "", LT_EDATA, "plan.json" },
        { "[]", LT_EDATA, "not a plan" },
        { "{\"cuts\": []}", LT_EDATA, "\"format\" is not" },
        { "{\"format\": \"lathe-plan/2\", \"cuts\": []}", LT_EDATA, "\"format\" is not" },
        { "{\"format\": \"lathe-plan/1\"}", LT_EDATA, "\"cuts\" must be a list" },
        { "{\"format\": \"lathe-plan/1\", \"cuts\": {}}", LT_EDATA, "\"cuts\" must be a list" },
        { "{\"format\": \"lathe-plan/1\", \"cuts\": [], \"cost\": 3}", LT_EDATA, "\"cost\" must be an object" },
        { "{\"format\": \"lathe-plan/1\", \"cuts\": [], \"notes\": \"x\"}", LT_EDATA, "unknown member \"notes\"" },
        { PLAN("7"), LT_EDATA, "cut 0" },
        { PLAN("{}"), LT_EDATA, "needs a \"kind\"" },
        { PLAN("{\"kind\": \"fold\"}"), LT_EUNSUPPORTED, "unknown kind of cut \"fold\"" },
        { PLAN("{\"kind\": \"rank\", \"rank\": 4}"), LT_EDATA, "module" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"\", \"rank\": 4}"), LT_EDATA, "name of a module" },
        { PLAN("{\"kind\": \"rank\", \"module\": 3, \"rank\": 4}"), LT_EDATA, "module" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\"}"), LT_EDATA, "rank of at least 1" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": 0}"), LT_EDATA, "rank of at least 1" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": -4}"), LT_EDATA, "rank" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": 4.5}"), LT_EDATA, "rank" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": 4, \"metric\": \"outputs\"}"), LT_EDATA,
          "unknown metric" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": 4, \"left\": \"right\"}"), LT_EDATA,
          "unknown left metric" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": 4, \"rows\": \"first\"}"), LT_EDATA, "unknown rows" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": 4, \"alpha\": -1}"), LT_EDATA, "out of range" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": 4, \"target\": \"teacher\"}"), LT_EDATA,
          "unknown target" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": 4, \"balance\": \"left\"}"), LT_EDATA,
          "unknown balance" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": 4, \"affine\": 1}"), LT_EDATA, "affine" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": 4, \"affine\": true, \"metric\": \"weight\"}"),
          LT_EDATA, "affine needs metric" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"a\", \"rank\": 4, \"rnk\": 4}"), LT_EDATA,
          "unknown member \"rnk\"" },
        { PLAN(CUT("a", 4) ", " CUT("b", 4) ", " CUT("a", 5)), LT_EDATA, "two cuts of one thing (plan: rank a)" },
    };
    lt_err err = { 0 };
    for (size_t i = 0; i < LT_COUNTOF(bad); i++) {
        lt_plan p = { 0 };
        assert_fails(cp_parse(&p, bad[i].text, &err), &err, bad[i].code, bad[i].says);
        assert_null(p.head);
    }
}

static void plans_are_checked_against_the_model(void **state) {
    (void)state;
    fixture f = make_fixture(TM_ODD, "odd");
    static const struct {
        const char *text;
        lt_status code;
        const char *says;
    } bad[] = {
        { PLAN(CUT("model.layers.9.self_attn.q_proj", 4)), LT_EDATA, "no such linear" },
        { PLAN(CUT(Q, 17)), LT_EDATA, "60 x 22 breaks even at 16" },
        { PLAN("{\"kind\": \"rank\", \"module\": \"" Q "\", \"rank\": 23, \"force\": true}"), LT_EDATA,
          "rank 23 of a 60 x 22 matrix" },
        { PLAN(CUT("lm_head", 4)), LT_EUNSUPPORTED, "tied" },
        { "{\"format\": \"lathe-plan/1\", \"model\": {\"hash\": \"x\"}, \"cuts\": []}", LT_EDATA,
          "another model (plan: x, model: model)" },
        { "{\"format\": \"lathe-plan/1\", \"stats\": {\"hash\": \"x\"}, \"cuts\": []}", LT_EDATA,
          "other stats (plan: x" },
    };
    lt_err err = { 0 };
    for (size_t i = 0; i < LT_COUNTOF(bad); i++) {
        lt_plan p = { 0 };
        assert_ok(cp_parse(&p, bad[i].text, &err), &err);
        assert_fails(lt_plan_check(&p, f.m, "model", f.s, &err), &err, bad[i].code, bad[i].says);
        lt_plan_clear(&p);
    }
    lt_plan p = { 0 };
    assert_ok(cp_parse(&p, PLAN(CUT(Q, 16)), &err), &err);
    assert_ok(lt_plan_check(&p, f.m, "model", f.s, &err), &err);
    assert_fails(lt_plan_check(&p, f.m, "other", f.s, &err), &err, LT_EDATA, "stats were made from another model");
    lt_overlay *o;
    const lt_apply_in in = { .model = f.m, .team = f.team, .dtype = LT_N_DTYPES };
    assert_ok(lt_overlay_create(&o, f.m, &err), &err);
    assert_fails(lt_plan_apply(o, &p, &in, &err), &err, LT_EUSAGE, "give the stats file");
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
    free_fixture(&f);
}

/* ---- costs ---- */

/* Check 17: what a plan says it costs is what the applied model stores, and no module grows. */
static void check_17_costs_are_those_of_the_stored_tensors(void **state) {
    (void)state;
    static const tm_spec specs[] = { { .vocab = 61,
                                       .d = 22,
                                       .layers = 3,
                                       .heads = 6,
                                       .kv = 2,
                                       .head_dim = 10,
                                       .ff = 37,
                                       .positions = 640,
                                       .tied = true },
                                     { .vocab = 53,
                                       .d = 20,
                                       .layers = 2,
                                       .heads = 3,
                                       .kv = 1,
                                       .head_dim = 8,
                                       .ff = 24,
                                       .positions = 128,
                                       .attn_bias = true,
                                       .mlp_bias = true } };
    static const char *const budgets[] = { "linears=0.7", "params=0.75", "bytes=0.75" };
    for (size_t k = 0; k < LT_COUNTOF(specs); k++) {
        fixture f = make_fixture(specs[k], "costs");
        for (size_t b = 0; b < LT_COUNTOF(budgets); b++) {
            lt_plan_in in = cp_in(f.m, f.s, f.team, budgets[b]);
            lt_plan p = cp_plan("whitened", &in);
            lt_overlay *o = cp_apply(&p, f.m, f.s, f.team);
            const json_t *cost = json_object_get(p.head, "cost");
            const lt_model *small = lt_overlay_model(o);
            assert_int_equal(json_integer_value(json_array_get(json_object_get(cost, "params"), 0)),
                             lt_model_n_params(f.m));
            assert_int_equal(json_integer_value(json_array_get(json_object_get(cost, "params"), 1)),
                             lt_model_n_params(small));
            assert_int_equal(json_integer_value(json_array_get(json_object_get(cost, "bytes"), 1)),
                             lt_model_bytes(small));
            const double linears = (double)lt_model_n_linear_params(small) / (double)lt_model_n_linear_params(f.m);
            assert_close_f64(&linears, &(double){ json_number_value(json_object_get(cost, "linears_kept")) }, 1, 0.0,
                             1e-14);
            const double kept = b == 0 ? linears : (double)lt_model_n_params(small) / (double)lt_model_n_params(f.m);
            assert_true(kept <= 0.75 && kept > (b == 0 ? 0.64 : 0.7));
            for (size_t i = 0; i < p.n_cuts; i++) {
                const lt_cost before = p.cuts[i].kind->before(&p.cuts[i], f.m),
                              after = p.cuts[i].kind->after(&p.cuts[i], f.m);
                assert_true(after.params < before.params);
            }
            lt_overlay_destroy(o);
            lt_plan_clear(&p);
        }
        free_fixture(&f);
    }
}

static void budgets_out_of_reach_are_refused_with_the_nearest(void **state) {
    (void)state;
    fixture f = make_fixture(TM_ODD, "reach");
    lt_err err = { 0 };
    lt_plan p = { 0 };
    lt_plan_in in = cp_in(f.m, f.s, f.team, "params=0.05");
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_ETARGET, "rank 1 everywhere still leaves");
    lt_plan_clear(&p);
    in = cp_in(f.m, f.s, f.team, "params=101");
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_ETARGET, "cannot be met");
    lt_plan_clear(&p);
    in = cp_in(f.m, f.s, f.team, "linears=1");
    p = cp_plan("whitened", &in);
    assert_int_equal(p.n_cuts, 0);
    lt_plan_clear(&p);
    free_fixture(&f);
}

/* ---- making ---- */

static void any_thread_count_gives_the_same_bytes(void **state) {
    (void)state;
    fixture f = make_fixture(TM_ODD, "threads");
    char *first = NULL;
    void *factors = NULL;
    static const int threads[] = { 1, 2, 5 };
    for (size_t i = 0; i < LT_COUNTOF(threads); i++) {
        lt_team *team = tm_team(threads[i]);
        lt_plan_in in = cp_in(f.m, f.s, team, "linears=0.6");
        lt_plan p = cp_plan("whitened", &in);
        char *text = lt_plan_text(&p);
        lt_overlay *o = cp_apply(&p, f.m, f.s, team);
        lt_module cut;
        assert_true(lt_model_find_module(
            lt_overlay_model(o), json_string_value(json_object_get(p.cuts[p.n_cuts / 2].json, "module")), &cut));
        assert_int_equal(cut.linear->n_stages, 2);
        const lt_tensor *a = &cut.linear->stage[1].w.t;
        if (i == 0) {
            first = text;
            factors = malloc(lt_tensor_bytes(a));
            memcpy(factors, lt_host(a), lt_tensor_bytes(a));
        } else {
            assert_string_equal(text, first);
            assert_memory_equal(lt_host(a), factors, lt_tensor_bytes(a));
            lt_free(text);
        }
        lt_overlay_destroy(o);
        lt_plan_clear(&p);
        lt_team_destroy(team);
    }
    lt_free(first);
    free(factors);
    free_fixture(&f);
}

static void a_tight_memory_limit_changes_no_byte(void **state) {
    (void)state;
    fixture f = make_fixture(TM_ODD, "tight");
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    lt_plan_in in = cp_in(f.m, f.s, f.team, "linears=0.6");
    lt_plan p = cp_plan("whitened", &in);
    in.ctx = &ctx;
    ctx.max_memory = lt_current_rss_bytes() + (8 << 20);
    lt_plan q = cp_plan("whitened", &in);
    char *a = lt_plan_text(&p), *b = lt_plan_text(&q);
    assert_string_equal(a, b);
    lt_free(a), lt_free(b);
    lt_plan_clear(&q);
    ctx.max_memory = 1 << 20;
    lt_err err = { 0 };
    assert_fails(lt_make_plan(&q, "whitened", &in, &err), &err, LT_ENOMEM, "short");
    lt_plan_clear(&p), lt_plan_clear(&q);
    free_fixture(&f);
}

/* A layer of four modules that share one metric, and one that has its own. */
static void fill_loads(lt_batch_load *load, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const size_t layer = i / 5, own = i % 5 == 4, d = own ? 4000 : 1000;
        load[i] = (lt_batch_load){
            .m = 1000, .d = d, .rank = 300, .site = 2 * layer + own, .factor = lt_factor_for(1000, d)
        };
    }
}

static void what_a_batch_needs_fits_what_it_may_use(void **state) {
    (void)state;
    enum { N = 40 };
    lt_batch_load load[N];
    fill_loads(load, N);
    size_t one = 0, last = 0;
    for (size_t i = 0; i < N; i++) one = lt_max_size(one, lt_lowrank_batch_bytes(&load[i], 1, 1, 0));
    for (int threads = 1; threads <= 8; threads *= 2) {
        fill_loads(load, N);
        const size_t plenty = lt_lowrank_batch_bytes(load, N, threads, SIZE_MAX);
        assert_true(plenty > last);
        assert_int_equal(lt_lowrank_batch_bytes(load, N, threads, 0), one); /* one at a time, whatever else */
        for (size_t memory = one; memory < plenty; memory += (plenty - one) / 7 + 1)
            assert_true(lt_lowrank_batch_bytes(load, N, threads, memory) <= memory);
        last = plenty;
    }
}

/* Jobs so small that they are one chunk, in both orders: what it needs is counted job by job. */
static void what_a_batch_needs_is_that_of_its_jobs_in_any_order(void **state) {
    (void)state;
    enum { N = 23 };
    lt_batch_load load[N], back[N];
    for (size_t i = 0; i < N; i++) {
        const size_t m = 8 + 37 * i % 29, d = 8 + 53 * i % 31;
        load[i] = (lt_batch_load){
            .m = m, .d = d, .rank = i % 5, .site = i % 7 == 6 ? SIZE_MAX : i, .factor = lt_factor_for(m, d)
        };
        back[N - 1 - i] = load[i];
    }
    for (int threads = 1; threads <= 32; threads *= 2)
        assert_int_equal(lt_lowrank_batch_bytes(load, N, threads, SIZE_MAX),
                         lt_lowrank_batch_bytes(back, N, threads, SIZE_MAX));
}

static int stop_after_one(void *user, const char *stage, double done, double total, const char *unit) {
    (void)stage;
    (void)unit;
    *(double *)user = total - done;
    return done >= 1.0;
}

/* All modules of the small model are one chunk. */
static void a_chunk_can_be_stopped(void **state) {
    (void)state;
    fixture f = make_fixture(TM_ODD, "stop");
    lt_ctx ctx;
    double left = 0.0;
    lt_ctx_init(&ctx);
    ctx.progress = stop_after_one;
    ctx.user = &left;
    lt_team *team; /* of one thread: another could take all that is left before the caller looks again */
    lt_plan p = { 0 };
    lt_err err = { 0 };
    assert_ok(lt_team_create(&team, 1, NULL, &err), &err);
    lt_plan_in in = cp_in(f.m, f.s, team, "linears=0.6");
    in.ctx = &ctx;
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EINTERRUPTED, "");
    assert_true(left > 0.0);
    lt_plan_clear(&p);
    lt_team_destroy(team);
    free_fixture(&f);
}

static void patterns_choose_the_modules(void **state) {
    (void)state;
    fixture f = make_fixture(TM_ODD, "patterns");
    static const char *const mlp[] = { "mlp\\.(up|down)_proj$", NULL }, *const first[] = { "layers\\.0\\.", NULL },
                             *const none[] = { "experts", NULL }, *const wrong[] = { "(", NULL };
    lt_plan_in in = cp_in(f.m, f.s, f.team, "linears=0.85");
    in.include = mlp;
    in.exclude = first;
    lt_plan p = cp_plan("whitened", &in);
    assert_true(p.n_cuts > 0);
    for (size_t i = 0; i < p.n_cuts; i++) {
        const char *module = json_string_value(json_object_get(p.cuts[i].json, "module"));
        assert_non_null(strstr(module, "mlp."));
        assert_null(strstr(module, "layers.0."));
    }
    assert_true(json_number_value(json_object_get(json_object_get(p.head, "cost"), "linears_kept")) <= 0.85);
    lt_plan_clear(&p);
    lt_err err = { 0 };
    in.include = none;
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EUSAGE, "no linear to cut");
    lt_plan_clear(&p);
    in.include = wrong;
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EUSAGE, "not a regular expression");
    lt_plan_clear(&p);
    free_fixture(&f);
}

static void an_untied_head_can_be_cut(void **state) {
    (void)state;
    fixture f = make_fixture(TM_BIAS, "head");
    lt_plan_in in = cp_in(f.m, f.s, f.team, "params=0.6");
    in.include_head = true;
    lt_plan p = cp_plan("whitened", &in);
    assert_true(cp_rank(&p, "lm_head") > 0);
    lt_overlay *o = cp_apply(&p, f.m, f.s, f.team);
    assert_int_equal(lt_linear_rank(&lt_overlay_model(o)->head), cp_rank(&p, "lm_head"));
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
    free_fixture(&f);
    lt_err err = { 0 };
    f = make_fixture_of(TM_BIAS, "headless", false);
    in = cp_in(f.m, f.s, f.team, "params=0.6");
    in.include_head = true;
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EDATA, "--include-head` (lm_head)");
    lt_plan_clear(&p);
    p = cp_plan("weight_svd", &in);
    assert_true(p.n_cuts > 0);
    lt_plan_clear(&p);
    free_fixture(&f);
    f = make_fixture(TM_ODD, "tied");
    in = cp_in(f.m, f.s, f.team, "params=0.6");
    in.include_head = true;
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EUNSUPPORTED, "tied");
    lt_plan_clear(&p);
    free_fixture(&f);
}

/* Modules with a bias are fitted with centred outputs, unless that is switched off. */
static void biases_are_refitted(void **state) {
    (void)state;
    fixture f = make_fixture(TM_BIAS, "affine");
    lt_plan_in in = cp_in(f.m, f.s, f.team, "linears=0.6");
    in.allocate = "uniform";
    lt_plan centred = cp_plan("whitened", &in);
    json_t *off = json_pack("{s:s}", "affine", "off");
    in.params = off;
    lt_plan plain = cp_plan("whitened", &in);
    assert_int_equal(centred.n_cuts, plain.n_cuts);
    for (size_t i = 0; i < plain.n_cuts; i++) {
        assert_true(json_is_true(json_object_get(centred.cuts[i].json, "affine")));
        assert_true(json_is_false(json_object_get(plain.cuts[i].json, "affine")));
        const char *module = json_string_value(json_object_get(plain.cuts[i].json, "module"));
        assert_true(cp_rel_error(&centred, module) <= cp_rel_error(&plain, module) * (1.0 + 1e-9));
    }
    lt_overlay *o = cp_apply(&centred, f.m, f.s, f.team);
    const lt_linear *was = &f.m->layer[0].linear[LT_SLOT_O], *is = &lt_overlay_model(o)->layer[0].linear[LT_SLOT_O];
    assert_true(test_max_abs_diff(lt_host(&was->bias.t), lt_host(&is->bias.t), lt_linear_out(was)) > 1e-4);
    lt_overlay_destroy(o);
    /* no stock class has a bias on its head */
    lt_plan none = { 0 };
    lt_err err = { 0 };
    json_t *all = json_pack("{s:s}", "affine", "all");
    in.include_head = true;
    in.params = all;
    in.target_loader = "hf";
    assert_fails(lt_make_plan(&none, "whitened", &in, &err), &err, LT_EUNSUPPORTED, "gives this module: leave it out");
    in.target_loader = "lathe";
    lt_plan headed = cp_plan("whitened", &in);
    lt_plan_clear(&none), lt_plan_clear(&headed);
    json_decref(all);
    lt_plan_clear(&centred), lt_plan_clear(&plain);
    json_decref(off);
    free_fixture(&f);
}

/* Ranks by some rows and a fit by all: its error is what the spectrum of all rows says. A fit by some rows, too, is
 * measured by all of them. */
static void errors_are_of_all_rows(void **state) {
    (void)state;
    fixture f = make_fixture(TM_BIAS, "measured");
    lt_tokens t = ct_random_tokens(8, 40, f.spec->spec.vocab, 2);
    lt_calibrate_in cal = ct_in(f.m, &t, f.team, test_path("measured-apart.stats"));
    cal.first_rows = 1;
    lt_stats *apart = ct_calibrate(&cal);
    lt_plan_in in = cp_in(f.m, f.s, f.team, "linears=0.6");
    in.allocate = "uniform";
    lt_plan told = cp_plan("whitened", &in);
    in.stats = apart;
    lt_plan measured = cp_plan("whitened", &in);
    json_t *all = json_pack("{s:s}", "guard", "all");
    in.params = all;
    lt_plan rest = cp_plan("whitened", &in);
    assert_int_equal(told.n_cuts, measured.n_cuts);
    for (size_t i = 0; i < told.n_cuts; i++) {
        const char *module = json_string_value(json_object_get(told.cuts[i].json, "module"));
        const double e = cp_rel_error(&told, module);
        assert_true(e > 0.0 && fabs(cp_rel_error(&measured, module) - e) <= 1e-4 * e);
        assert_true(cp_rel_error(&rest, module) >= e * (1.0 - 1e-4));
    }
    lt_plan_clear(&told), lt_plan_clear(&measured), lt_plan_clear(&rest);
    json_decref(all);
    lt_stats_close(apart);
    lt_tokens_clear(&t);
    free_fixture(&f);
}

static void weight_svd_needs_no_data(void **state) {
    (void)state;
    fixture f = make_fixture(TM_ODD, "svd");
    lt_plan_in in = cp_in(f.m, NULL, f.team, "linears=0.6");
    lt_plan p = cp_plan("weight_svd", &in);
    assert_false(lt_plan_needs_stats(&p));
    assert_null(json_object_get(p.head, "stats"));
    lt_overlay *o = cp_apply(&p, f.m, NULL, f.team);
    assert_true(lt_model_n_params(lt_overlay_model(o)) < lt_model_n_params(f.m));
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
    lt_err err = { 0 };
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EUSAGE, "needs stats");
    lt_plan_clear(&p);
    free_fixture(&f);
}

static void rows_of_zeros_are_dead_and_stay_dense(void **state) {
    (void)state;
    tm *spec = tm_build(TM_ODD, 1);
    tm_tensor *up = tm_find(spec, "model.layers.1.mlp.up_proj.weight"),
              *v = tm_find(spec, "model.layers.2.self_attn.v_proj.weight");
    memset(up->data, 0, up->size[0] * up->size[1] * sizeof(float)); /* so down_proj sees zeros */
    memset(v->data, 0, v->size[0] * v->size[1] * sizeof(float));
    lt_model *m = tm_open(tm_write(spec, "dead", 1));
    lt_team *team = tm_team(1);
    lt_tokens t = ct_random_tokens(8, 40, spec->spec.vocab, 2);
    const lt_calibrate_in cal = ct_in(m, &t, team, test_path("dead.stats"));
    lt_stats *s = ct_calibrate(&cal);
    lt_plan_in in = cp_in(m, s, team, "linears=0.7");
    lt_plan p = cp_plan("whitened", &in);
    const json_t *dead = json_object_get(json_array_get(json_object_get(p.head, "made_by"), 0), "dead");
    assert_int_equal(json_array_size(dead), 4);
    for (size_t i = 0; i < json_array_size(dead); i++)
        assert_int_equal(cp_rank(&p, json_string_value(json_array_get(dead, i))), 0);
    lt_plan_clear(&p);
    /* and they are named where a budget fails for them */
    lt_err err = { 0 };
    in = cp_in(m, s, team, "linears=0.15");
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_ETARGET,
                 "4 of 21 modules have no output energy in the stats and stay dense: the budget");
    lt_plan_clear(&p);
    lt_stats_close(s);
    lt_tokens_clear(&t);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

static void a_weight_that_is_not_finite_is_named(void **state) {
    (void)state;
    fixture f = make_fixture(TM_ODD, "finite");
    tm_find(f.spec, "model.layers.2.mlp.gate_proj.weight")->data[100] = NAN;
    lt_model *broken = tm_open(tm_write(f.spec, "nan", 1));
    lt_plan p = { 0 };
    lt_err err = { 0 };
    lt_plan_in in = cp_in(broken, f.s, f.team, "linears=0.7");
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EDATA, "model.layers.2.mlp.gate_proj");
    lt_plan_clear(&p);
    assert_fails(lt_make_plan(&p, "weight_svd", &in, &err), &err, LT_EDATA, "model.layers.2.mlp.gate_proj");
    lt_plan_clear(&p);
    lt_model_destroy(broken);
    free_fixture(&f);
}

static void stats_of_other_shapes_or_models_are_refused(void **state) {
    (void)state;
    fixture f = make_fixture(TM_ODD, "this"), g = make_fixture(TM_BIAS, "that");
    lt_plan p = { 0 };
    lt_err err = { 0 };
    lt_plan_in in = cp_in(f.m, g.s, f.team, "linears=0.7");
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EDATA,
                 "columns"); /* the same (made up) hash, another width */
    lt_plan_clear(&p);
    in.model_hash = "m2";
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EDATA, "another model");
    lt_plan_clear(&p);
    free_fixture(&f);
    free_fixture(&g);
}

static void unknown_words_are_refused_with_a_suggestion(void **state) {
    (void)state;
    fixture f = make_fixture(TM_ODD, "words");
    lt_plan p = { 0 };
    lt_err err = { 0 };
    lt_plan_in in = cp_in(f.m, f.s, f.team, "linears=0.7");
    assert_fails(lt_make_plan(&p, "whiten", &in, &err), &err, LT_EUSAGE, "did you mean whitened?");
    in.target_loader = "vllm";
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EUSAGE, "unknown loader");
    in = cp_in(f.m, f.s, f.team, "linears=0.7"), in.weights = "units";
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EUSAGE, "did you mean unit?");
    in = cp_in(f.m, f.s, f.team, "linears=0.7"), in.floor = 2.0;
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EUSAGE, "floor");
    json_t *params = json_pack("{s:s}", "balance", "left");
    in = cp_in(f.m, f.s, f.team, "linears=0.7"), in.params = params;
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EUSAGE, "balance must be one of auto|orth|balanced");
    json_object_clear(params);
    json_object_set_new(params, "alpha", json_real(0.5));
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EUSAGE, "no parameter \"alpha\"");
    json_decref(params);
    lt_plan_clear(&p);
    free_fixture(&f);
}

/* A plan of one method takes the cuts of another, but not of the same module. */
static void a_second_method_adds_cuts(void **state) {
    (void)state;
    fixture f = make_fixture(TM_ODD, "two");
    static const char *const mlp[] = { "mlp", NULL }, *const attn[] = { "self_attn", NULL };
    lt_plan_in in = cp_in(f.m, f.s, f.team, "linears=0.8");
    in.include = mlp;
    lt_plan p = cp_plan("whitened", &in);
    const size_t first = p.n_cuts;
    in.include = attn;
    lt_err err = { 0 };
    assert_ok(lt_make_plan(&p, "weight_svd", &in, &err), &err);
    assert_true(p.n_cuts > first);
    assert_int_equal(json_array_size(json_object_get(p.head, "made_by")), 2);
    assert_true(json_number_value(json_object_get(json_object_get(p.head, "cost"), "linears_kept")) <= 0.61);
    assert_fails(lt_make_plan(&p, "weight_svd", &in, &err), &err, LT_EDATA, "two cuts of one thing");
    lt_plan_clear(&p);
    free_fixture(&f);
}

/* Check 2 (the weight's part): a Conv1D stores the transposed matrix, and every formula sees [out, in]. */
static void check_02_conv1d_is_the_transposed_linear(void **state) {
    (void)state;
    float stored[2][6] = { { 1, 2, 3, 4, 5, 6 }, { 1, 3, 5, 2, 4, 6 } };
    double w[2][6];
    for (int in_out = 0; in_out < 2; in_out++) {
        lt_buffer b = { stored[in_out], sizeof stored[in_out], false };
        const size_t shape[] = { in_out ? 2 : 3, in_out ? 3 : 2 };
        lt_linear l = { .name = "l", .n_stages = 1 };
        l.stage[0] =
            (lt_stage){ .w = { .name = "l.weight", .t = lt_tensor_dense(LT_F32, 2, shape, &b, 0) }, .in_out = in_out };
        assert_ok(lt_module_weight(w[in_out], &l, NULL), &(lt_err){ 0 });
    }
    assert_memory_equal(w[0], w[1], sizeof w[0]);
}

/* ---- tables ---- */

static void tables_hold_together(void **state) {
    (void)state;
    for (size_t i = 0; lt_methods[i]; i++) {
        const lt_method *m = lt_methods[i], *found;
        assert_ok(lt_method_find(&found, m->name, NULL), &(lt_err){ 0 });
        assert_ptr_equal(found, m);
        assert_true(m->summary && m->source && m->needs.stats && m->plan);
        for (const lt_method_param *p = m->params; p && p->name; p++)
            assert_true(
                p->help && p->dflt &&
                (p->choices ? strstr(p->choices, p->dflt) != NULL : p->hi > p->lo || strcmp(p->type, "text") == 0));
    }
    for (size_t i = 0; lt_allocators[i]; i++) assert_true(lt_allocators[i]->summary && lt_allocators[i]->source);
    for (size_t i = 0; lt_cut_kinds[i]; i++) assert_true(lt_cut_kinds[i]->parse && lt_cut_kinds[i]->fit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_comes_back_as_written),
        cmocka_unit_test(bad_plans_are_refused),
        cmocka_unit_test(plans_are_checked_against_the_model),
        cmocka_unit_test(check_17_costs_are_those_of_the_stored_tensors),
        cmocka_unit_test(budgets_out_of_reach_are_refused_with_the_nearest),
        cmocka_unit_test(any_thread_count_gives_the_same_bytes),
        cmocka_unit_test(a_tight_memory_limit_changes_no_byte),
        cmocka_unit_test(patterns_choose_the_modules),
        cmocka_unit_test(an_untied_head_can_be_cut),
        cmocka_unit_test(biases_are_refitted),
        cmocka_unit_test(errors_are_of_all_rows),
        cmocka_unit_test(weight_svd_needs_no_data),
        cmocka_unit_test(rows_of_zeros_are_dead_and_stay_dense),
        cmocka_unit_test(a_weight_that_is_not_finite_is_named),
        cmocka_unit_test(stats_of_other_shapes_or_models_are_refused),
        cmocka_unit_test(unknown_words_are_refused_with_a_suggestion),
        cmocka_unit_test(a_chunk_can_be_stopped),
        cmocka_unit_test(what_a_batch_needs_fits_what_it_may_use),
        cmocka_unit_test(what_a_batch_needs_is_that_of_its_jobs_in_any_order),
        cmocka_unit_test(a_second_method_adds_cuts),
        cmocka_unit_test(check_02_conv1d_is_the_transposed_linear),
        cmocka_unit_test(tables_hold_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
