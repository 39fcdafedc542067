/* SPDX-License-Identifier: Apache-2.0 */
/* Acceptance checks of spec utilized-rank §11 that take methods, statistics and models together (docs/acceptance.md
 * lists all of them). */
#include "compress/compress_test.h"

#include "calib/stats_file.h"
#include "compress/lowrank_method.h"
#include "compress/module_weight.h"
#include "linalg/gemm.h"

/* ---- a model with statistics ---- */

typedef struct fixture {
    tm *spec;
    lt_model *m;
    lt_team *team;
    lt_tokens t;
    lt_stats *s;
} fixture;

static fixture fixture_of(tm *spec, const char *name) {
    static const char *const gram[] = { "gram" };
    lt_err err = { 0 };
    fixture f = { .spec = spec, .m = tm_open(tm_write(spec, name, 1)), .team = tm_team(1) };
    f.t = ct_random_tokens(24, 40, spec->spec.vocab, 2);
    lt_calibrate_in in = ct_in(f.m, &f.t, f.team, test_path("acceptance.stats"));
    assert_ok(lt_stat_set_parse(&in.grads, gram, 1, &err), &err);
    f.s = ct_calibrate(&in);
    return f;
}

static void fixture_clear(fixture *f) {
    lt_stats_close(f->s);
    lt_tokens_clear(&f->t);
    lt_team_destroy(f->team);
    lt_model_destroy(f->m);
    tm_free(f->spec);
}

static lt_plan plan_by(const fixture *f, const char *method, const char *params, const json_t *ranks) {
    lt_plan_in in = cp_in(f->m, f->s, f->team, "linears=0.5");
    json_t *p = params ? json_loads(params, 0, NULL) : NULL;
    in.budget = (lt_budget){ 0 };
    in.allocate = NULL;
    in.params = p;
    in.ranks = ranks;
    lt_plan plan = cp_plan(method, &in);
    json_decref(p);
    return plan;
}

static lt_overlay *apply(const fixture *f, const lt_plan *p) {
    lt_overlay *o;
    lt_err err = { 0 };
    const lt_apply_in in = { .model = f->m, .stats = f->s, .team = f->team, .tokens = &f->t, .dtype = LT_N_DTYPES };
    assert_ok(lt_overlay_create(&o, f->m, &err), &err);
    assert_ok(lt_plan_apply(o, p, &in, &err), &err);
    return o;
}

/* ---- checks 5 and 6 ---- */

/* k(e) is the least k whose energy reaches e; it never falls, starts at 1 and ends at n. */
static void check_05_the_rank_of_an_energy_is_minimal(void **state) {
    (void)state;
    enum { N = 40 };
    for (uint32_t seed = 0; seed < 50; seed++) {
        lt_rng r = test_rng(seed);
        double lambda[N], total = 0.0;
        size_t last = 1;
        for (size_t i = 0; i < N; i++) lambda[i] = (i ? lambda[i - 1] : 1.0) * (0.5 + 0.5 * lt_rng_uniform(&r));
        for (size_t i = 0; i < N; i++) total += lambda[i];
        assert_int_equal(lt_energy_rank(lambda, N, 1e-300), 1);
        for (double e = 0.01; e < 0.9999; e += 0.007) {
            const size_t k = lt_energy_rank(lambda, N, e);
            double cum = 0.0;
            assert_true(k >= last && k >= 1 && k <= N);
            for (size_t i = 0; i + 1 < k; i++) cum += lambda[i];
            assert_true(cum < e * total * (1.0 + 1e-14) && cum + lambda[k - 1] >= e * total * (1.0 - 1e-14));
            last = k;
        }
    }
}

static void check_06_energies_of_a_diagonal_gram(void **state) {
    (void)state;
    static const double lambda[] = { 4, 3, 2, 1 }, energy[] = { 0.39, 0.69, 0.89, 0.95 };
    for (size_t k = 0; k < 4; k++) assert_int_equal(lt_energy_rank(lambda, 4, energy[k]), k + 1);
}

/* ---- check 7 ---- */

/* Nothing is worth factoring when all of the energy is kept, and then the model is the same to the bit. */
static void check_07_all_the_energy_changes_no_bit(void **state) {
    (void)state;
    static const char *const methods[] = { "energy", "weight_svd", "whitened", "utilized" };
    fixture f = fixture_of(tm_build(TM_ODD, 1), "energy");
    float *was = tm_logits(f.m, f.team, f.t.ids, 40);
    for (size_t i = 0; i < LT_COUNTOF(methods); i++) {
        lt_plan p = plan_by(&f, methods[i], "{\"energy\": 1.0, \"r_min\": 1}", NULL);
        assert_int_equal(p.n_cuts, 0);
        lt_overlay *o = apply(&f, &p);
        float *is = tm_logits(lt_overlay_model(o), f.team, f.t.ids, 40);
        assert_memory_equal(was, is, 40 * f.spec->spec.vocab * sizeof *is);
        free(is);
        lt_overlay_destroy(o);
        lt_plan_clear(&p);
    }
    free(was);
    fixture_clear(&f);
}

/* ---- check 8 ---- */

enum { RHO = 4 };

/* Values keep theirs, so that no Gram is singular: elsewhere a weight is not determined by what it does. */
static bool is_low_rank(const char *name) {
    return strstr(name, "_proj") && !strstr(name, "v_proj");
}

/* Those linears become products of this rank. */
static tm *low_rank_model(tm_spec s) {
    tm *m = tm_build(s, 1);
    lt_rng r = test_rng(8);
    for (size_t i = 0; i < m->n; i++) {
        tm_tensor *t = &m->t[i];
        if (t->rank != 2 || !is_low_rank(t->name)) continue;
        const size_t rows = t->size[0], cols = t->size[1];
        float *u = malloc(rows * RHO * sizeof *u), *v = malloc(RHO * cols * sizeof *v);
        assert_true(u && v);
        test_fill_normal(u, rows * RHO, &r);
        test_fill_normal(v, RHO * cols, &r);
        for (size_t a = 0; a < rows; a++)
            for (size_t b = 0; b < cols; b++) {
                double sum = 0.0;
                for (size_t k = 0; k < RHO; k++) sum += 0.12 * (double)u[a * RHO + k] * (double)v[k * cols + b];
                t->data[a * cols + b] = (float)sum;
            }
        free(u), free(v);
    }
    return m;
}

static double weight_gap(const lt_linear *was, const lt_linear *is) {
    const size_t m = lt_linear_out(was), d = lt_linear_in(was), r = lt_linear_rank(is);
    double *w = lt_calloc(m * d, sizeof *w), gap = 0.0, norm = 0.0;
    lt_err err = { 0 };
    const float *b = lt_host(&is->stage[0].w.t), *a = lt_host(&is->stage[1].w.t);
    assert_ok(lt_module_weight(w, was, &err), &err);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < d; j++) {
            double sum = 0.0;
            for (size_t k = 0; k < r; k++) sum += (double)a[i * r + k] * (double)b[k * d + j];
            gap += (sum - w[i * d + j]) * (sum - w[i * d + j]);
            norm += w[i * d + j] * w[i * d + j];
        }
    lt_free(w);
    return sqrt(gap / norm);
}

/* To what f32 factors give; after an f32 pass through the changed model, to that times the condition of its inputs. */
static double tolerance_of(const char *method) {
    return strcmp(method, "sequential") == 0 ? 1e-3 : 1e-5;
}

static void every_method_gives_it_back(const fixture *f) {
    static const char *const methods[] = { "whitened", "utilized", "energy",    "weight_svd",
                                           "hybrid",   "asvd",     "two_sided", "sequential" };
    json_t *ranks = json_object();
    lt_module mod;
    for (size_t i = 0; lt_model_module(f->m, i, &mod) && mod.layer >= 0; i++)
        if (is_low_rank(mod.linear->name)) json_object_set_new(ranks, mod.linear->name, json_integer(RHO));
    for (size_t k = 0; k < LT_COUNTOF(methods); k++) {
        lt_plan p = plan_by(f, methods[k], strcmp(methods[k], "energy") ? NULL : "{\"energy\": 0}", ranks);
        lt_overlay *o = apply(f, &p);
        size_t n = 0;
        for (size_t i = 0; lt_model_module(f->m, i, &mod) && mod.layer >= 0; i++) {
            lt_module cut;
            if (!is_low_rank(mod.linear->name)) continue;
            assert_true(lt_model_find_module(lt_overlay_model(o), mod.linear->name, &cut));
            assert_int_equal(lt_linear_rank(cut.linear), RHO);
            const double gap = weight_gap(mod.linear, cut.linear);
            if (!(gap <= tolerance_of(methods[k]))) fail_msg("%s: %s: %g", methods[k], mod.linear->name, gap);
            n++;
        }
        assert_int_equal(n, p.n_cuts);
        lt_overlay_destroy(o);
        lt_plan_clear(&p);
    }
    json_decref(ranks);
}

static void check_08_methods_give_low_rank_weights_back(void **state) {
    (void)state;
    const tm_spec specs[] = { TM_ODD, TM_BIAS };
    for (size_t i = 0; i < LT_COUNTOF(specs); i++) {
        fixture f = fixture_of(low_rank_model(specs[i]), "low");
        every_method_gives_it_back(&f);
        fixture_clear(&f);
    }
}

/* What is of rank 4 is found to be, by the weight and by the outputs. */
static void check_08_searches_by_energy_find_the_rank(void **state) {
    (void)state;
    static const char *const methods[] = { "weight_svd", "energy", "utilized" };
    fixture f = fixture_of(low_rank_model(TM_ODD), "low");
    for (size_t k = 0; k < LT_COUNTOF(methods); k++) {
        lt_plan p = plan_by(&f, methods[k], "{\"energy\": 0.999999, \"r_min\": 1}", NULL);
        assert_true(p.n_cuts >= 18); /* and values, where that pays */
        for (size_t i = 0; i < p.n_cuts; i++)
            if (is_low_rank(json_string_value(json_object_get(p.cuts[i].json, "module"))))
                assert_in_range(json_integer_value(json_object_get(p.cuts[i].json, "rank")), 1, RHO);
        lt_plan_clear(&p);
    }
    fixture_clear(&f);
}

/* ---- check 14, by the option ---- */

/* Every cut module of a model without biases gains one, is no worse on the outputs for it, and the plan says so. */
static void check_14_affine_all_gives_biases_where_there_are_none(void **state) {
    (void)state;
    fixture f = fixture_of(tm_build(TM_ODD, 4), "bare");
    lt_plan plain = plan_by(&f, "whitened", "{\"energy\": 0.7, \"r_min\": 2, \"affine\": \"auto\"}", NULL);
    json_t *ranks = json_object();
    for (size_t i = 0; i < plain.n_cuts; i++)
        json_object_set(ranks, json_string_value(json_object_get(plain.cuts[i].json, "module")),
                        json_object_get(plain.cuts[i].json, "rank"));
    lt_plan all = plan_by(&f, "whitened", "{\"affine\": \"all\"}", ranks);
    lt_overlay *o = apply(&f, &all), *without = apply(&f, &plain);
    assert_true(plain.n_cuts > 10);
    assert_int_equal(all.n_cuts, plain.n_cuts);
    for (size_t i = 0; i < all.n_cuts; i++) {
        const char *name = json_string_value(json_object_get(all.cuts[i].json, "module"));
        lt_module is, was;
        assert_true(lt_model_find_module(lt_overlay_model(o), name, &is));
        assert_true(lt_model_find_module(lt_overlay_model(without), name, &was));
        assert_true(json_is_true(json_object_get(all.cuts[i].json, "affine")));
        assert_false(json_is_true(json_object_get(plain.cuts[i].json, "affine")));
        assert_true(lt_has_bias(is.linear) && !lt_has_bias(was.linear));
        assert_true(cp_rel_error(&all, name) <= cp_rel_error(&plain, name) * (1.0 + 1e-10));
    }
    lt_overlay_destroy(o);
    lt_overlay_destroy(without);
    lt_plan_clear(&all);
    lt_plan_clear(&plain);
    json_decref(ranks);
    fixture_clear(&f);
}

/* What biases cost that modules gain comes off the budget. */
static void affine_all_keeps_to_the_budget(void **state) {
    (void)state;
    fixture f = fixture_of(tm_build(TM_ODD, 4), "bare");
    static const char *const allocate[] = { "uniform", "global" };
    for (size_t k = 0; k < LT_COUNTOF(allocate); k++) {
        lt_plan_in in = cp_in(f.m, f.s, f.team, "params=0.8");
        json_t *params = json_pack("{s:s}", "affine", "all");
        in.allocate = allocate[k];
        in.params = params;
        lt_plan p = cp_plan("whitened", &in);
        assert_true(p.n_cuts > 0);
        assert_true(json_real_value(json_object_get(json_object_get(p.head, "cost"), "params_kept")) <= 0.8);
        lt_plan_clear(&p);
        json_decref(params);
    }
    fixture_clear(&f);
}

/* Errors of two_sided are changes of the loss: they weigh what they are. */
static void weights_are_the_methods_own_unless_given(void **state) {
    (void)state;
    static const struct {
        const char *method, *given, *want;
    } cases[] = { { "whitened", NULL, "relative" },
                  { "two_sided", NULL, "unit" },
                  { "two_sided", "relative", "relative" } };
    fixture f = fixture_of(tm_build(TM_ODD, 4), "bare");
    for (size_t k = 0; k < LT_COUNTOF(cases); k++) {
        lt_plan_in in = cp_in(f.m, f.s, f.team, "linears=0.6");
        in.weights = cases[k].given;
        lt_plan p = cp_plan(cases[k].method, &in);
        const json_t *made = json_array_get(json_object_get(p.head, "made_by"), 0),
                     *params = json_object_get(made, "params");
        assert_string_equal(json_string_value(json_object_get(params, "weights")), cases[k].want);
        lt_plan_clear(&p);
    }
    fixture_clear(&f);
}

/* ---- defects of the original (§10) ---- */

/* 12: factors have the dtype of the weight they replace. */
static void defect_12_factors_keep_the_dtype(void **state) {
    (void)state;
    static const lt_dtype dtypes[] = { LT_F32, LT_BF16, LT_F16 };
    for (size_t k = 0; k < LT_COUNTOF(dtypes); k++) {
        tm *spec = tm_build(TM_ODD, 1);
        for (size_t i = 0; i < spec->n; i++) spec->t[i].dtype = dtypes[k];
        fixture f = fixture_of(spec, "dtype");
        lt_plan_in in = cp_in(f.m, f.s, f.team, "linears=0.6");
        lt_plan p = cp_plan("whitened", &in);
        lt_overlay *o = apply(&f, &p);
        lt_param_info info;
        size_t factors = 0;
        for (size_t i = 0; lt_model_param(lt_overlay_model(o), i, &info); i++) {
            assert_int_equal(info.param->t.dtype, dtypes[k]);
            factors += strstr(info.param->name, "ALinear.weight") != NULL;
        }
        assert_true(factors == p.n_cuts && factors > 0);
        lt_overlay_destroy(o);
        lt_plan_clear(&p);
        fixture_clear(&f);
    }
}

/* 3: statistics are typed. A method that finds something else than it needs says what to run. */
static void defect_03_missing_statistics_are_named_with_the_command(void **state) {
    (void)state;
    static const char *const methods[] = { "whitened", "asvd", "two_sided", "energy", "projected", "sequential" };
    fixture f = fixture_of(tm_build(TM_ODD, 1), "needs");
    lt_calibrate_in cal = ct_in(f.m, &f.t, f.team, test_path("counts.stats"));
    cal.stats = 1u << LT_STAT_COUNT;
    lt_stats *counts = ct_calibrate(&cal);
    for (size_t i = 0; i < LT_COUNTOF(methods); i++) {
        lt_plan_in in = cp_in(f.m, counts, f.team, "linears=0.6");
        json_t *params = strcmp(methods[i], "energy") ? NULL : json_pack("{s:i}", "energy", 0);
        lt_plan p = { 0 };
        lt_err err = { 0 };
        char *says = lt_asprintf("--methods %s", methods[i]);
        in.params = params;
        assert_fails(lt_make_plan(&p, methods[i], &in, &err), &err, LT_EDATA, says);
        lt_plan_clear(&p);
        json_decref(params);
        lt_free(says);
    }
    lt_stats_close(counts);
    fixture_clear(&f);
}

/* ---- check 22 ---- */

/* A metric that answers by itself, and looks at what it is asked about. */
typedef struct synthetic {
    const lt_model *base;
    bool accept;
    size_t calls, most_changed, changed; /* most_changed: before the last call, which sees all that was found */
} synthetic;

static size_t changed_modules(const lt_model *a, const lt_model *b) {
    lt_module p, q;
    size_t n = 0;
    for (size_t i = 0; lt_model_module(a, i, &p); i++) {
        assert_true(lt_model_module(b, i, &q));
        const lt_tensor *t = &p.linear->stage[0].w.t, *u = &q.linear->stage[0].w.t;
        n += q.linear->n_stages != 1 || lt_tensor_bytes(t) != lt_tensor_bytes(u) ||
             memcmp(lt_host(t), lt_host(u), lt_tensor_bytes(t)) != 0;
    }
    return n;
}

static lt_status answer(void *user, const lt_model *m, double *mean_nll, lt_err *err) {
    synthetic *s = user;
    (void)err;
    if (s->changed > s->most_changed) s->most_changed = s->changed;
    s->changed = changed_modules(s->base, m);
    *mean_nll = s->calls++ == 0 || s->accept ? 1.0 : 2.0;
    return LT_OK;
}

/* The published search, module by module: 12 probes each with nothing else changed, the lowest midpoint when all pass,
 * full rank and no energies when none does. */
static void check_22_the_published_search(void **state) {
    (void)state;
    fixture f = fixture_of(tm_build(TM_ODD, 1), "search");
    for (int accept = 0; accept < 2; accept++) {
        synthetic s = { .base = f.m, .accept = accept };
        const lt_probe probe = { answer, &s, "made up" };
        json_t *params = json_pack("{s:s, s:s}", "epsilon", "1%", "scope", "legacy"), *module;
        lt_plan_in in = cp_in(f.m, f.s, f.team, "linears=0.5");
        in.budget = (lt_budget){ 0 };
        in.allocate = NULL;
        in.probe = &probe;
        in.params = params;
        lt_plan p = cp_plan("search", &in);
        const json_t *found = json_object_get(json_array_get(json_object_get(p.head, "made_by"), 0), "found");
        const char *name;
        size_t n = 0;
        json_object_foreach(json_object_get(found, "layers"), name, module) {
            const json_t *e = json_object_get(module, "e");
            lt_module mod;
            assert_true(lt_model_find_module(f.m, name, &mod));
            const size_t out = lt_linear_out(mod.linear), width = lt_linear_in(mod.linear);
            if (accept)
                assert_true(fabs(json_real_value(e) - 0.80005) < 1e-5);
            else
                assert_true(json_is_null(e) &&
                            json_integer_value(json_object_get(module, "r")) == (json_int_t)lt_min_size(out, width) &&
                            json_integer_value(json_object_get(module, "k_S")) == (json_int_t)width &&
                            json_integer_value(json_object_get(module, "k_T")) == (json_int_t)out);
            n++;
        }
        assert_int_equal(n, 21);
        assert_int_equal(s.most_changed, 1);
        assert_int_equal(s.calls, 1 + 12 * n + accept); /* where nothing is cut, the base says how it does */
        if (accept) assert_int_equal(s.changed, p.n_cuts);
        assert_true(accept ? p.n_cuts > 0 : p.n_cuts == 0);
        lt_plan_clear(&p);
        json_decref(params);
    }
    fixture_clear(&f);
}

/* ---- check 27 ---- */

enum { D = 64, N = 10000, WINDOW = 100, HEADS = 16 };

/* Sums of the first tokens of windows, and of the others. */
typedef struct sums {
    double count[2], sum[2][D], gram[2][D * (D + 1) / 2];
} sums;

static lt_status sums_of(void *user, const char *site, size_t cols, const lt_stat *stat, const double **values,
                         lt_err *err) {
    const sums *s = user;
    const int first = strstr(site, ".first") != NULL;
    (void)cols, (void)err;
    *values = strcmp(stat->name, "count") == 0 ? &s->count[first]
              : strcmp(stat->name, "sum") == 0 ? s->sum[first]
                                               : s->gram[first];
    return LT_OK;
}

static lt_stats *white_tokens(double sink, bool apart) {
    static const char *const sites[] = {
        "{\"model.layers.0.mixer_in\": {\"cols\": 64, \"modules\": [\"model.layers.0.self_attn.q_proj\"]}}",
        "{\"model.layers.0.mixer_in\": {\"cols\": 64, \"modules\": [\"model.layers.0.self_attn.q_proj\"]}, "
        "\"model.layers.0.mixer_in.first\": {\"cols\": 64, \"modules\": [\"model.layers.0.self_attn.q_proj\"], "
        "\"kind\": \"first\"}}"
    };
    sums *s = calloc(1, sizeof *s);
    double *x = malloc((size_t)N * D * sizeof *x);
    lt_rng r = test_rng(27);
    lt_err err = { 0 };
    json_t *j;
    assert_true(s && x);
    test_fill_normal_f64(x, (size_t)N * D, &r);
    for (size_t t = 0; t < N; t++) {
        const int first = apart && t % WINDOW == 0;
        double *v = x + t * D, *gram = s->gram[first];
        if (t % WINDOW == 0) v[5] += sink;
        s->count[first] += 1.0;
        for (size_t a = 0; a < D; a++) {
            s->sum[first][a] += v[a];
            for (size_t b = 0; b <= a; b++) *gram++ += v[a] * v[b];
        }
    }
    const lt_stat_set set = 1u << LT_STAT_COUNT | 1u << LT_STAT_SUM | 1u << LT_STAT_GRAM;
    assert_ok(lt_json_parse(&j, sites[apart], strlen(sites[apart]), "sites", &err), &err);
    const lt_stats_head head = {
        .id = { "model", "tokenizer", "tokens", "{}" }, .source = "text", .machine = "machine", .sites = j
    };
    const char *path = test_path("white.stats");
    assert_ok(lt_stats_write(path, &head, set, sums_of, s, &err), &err);
    json_decref(j);
    free(s), free(x);
    return ct_open(path);
}

/* A query projection that stacks identities: the spectrum of its outputs is that of its inputs, and rank 57 pays. */
static lt_model *stacked_identities(tm **spec) {
    const tm_spec s = {
        .vocab = 11, .d = D, .layers = 1, .heads = HEADS, .kv = 1, .head_dim = D, .ff = 8, .positions = 16, .tied = true
    };
    *spec = tm_build(s, 1);
    tm_tensor *q = tm_find(*spec, "model.layers.0.self_attn.q_proj.weight");
    for (size_t i = 0; i < HEADS * D; i++)
        for (size_t j = 0; j < D; j++) q->data[i * D + j] = i % D == j;
    return tm_open(tm_write(*spec, "identities", 1));
}

static size_t rank_of_energy(const lt_model *m, const lt_stats *s, lt_team *team, const char *guard) {
    static const char *const include[] = { "q_proj", NULL };
    lt_plan_in in = cp_in(m, s, team, "linears=0.5");
    json_t *params = json_pack("{s:f, s:i, s:s}", "energy", 0.90, "r_min", 1, "guard", guard);
    in.budget = (lt_budget){ 0 };
    in.allocate = NULL;
    in.include = include;
    in.params = params;
    lt_plan p = cp_plan("energy", &in);
    const size_t rank = cp_rank(&p, "model.layers.0.self_attn.q_proj");
    lt_plan_clear(&p);
    json_decref(params);
    return rank;
}

/* One token in a hundred with a huge channel decides the rank, unless the first positions are left out of it. */
static void check_27_the_guard_leaves_sinks_out_of_the_ranks(void **state) {
    (void)state;
    tm *spec;
    lt_model *m = stacked_identities(&spec);
    lt_team *team = tm_team(1);
    lt_stats *clean = white_tokens(0.0, false), *mixed, *apart;
    const size_t want = rank_of_energy(m, clean, team, "off");
    assert_in_range(want, 56, 58);
    lt_stats_close(clean);
    mixed = white_tokens(300.0, false);
    assert_int_equal(rank_of_energy(m, mixed, team, "ranks"), 1); /* nothing was kept apart */
    lt_stats_close(mixed);
    apart = white_tokens(300.0, true);
    assert_int_equal(rank_of_energy(m, apart, team, "off"), 1);
    const size_t guarded = rank_of_energy(m, apart, team, "ranks");
    assert_true(guarded + 1 >= want && guarded <= want + 1);
    lt_stats_close(apart);
    lt_team_destroy(team);
    lt_model_destroy(m);
    tm_free(spec);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_05_the_rank_of_an_energy_is_minimal),
        cmocka_unit_test(check_06_energies_of_a_diagonal_gram),
        cmocka_unit_test(check_07_all_the_energy_changes_no_bit),
        cmocka_unit_test(check_08_methods_give_low_rank_weights_back),
        cmocka_unit_test(check_08_searches_by_energy_find_the_rank),
        cmocka_unit_test(check_14_affine_all_gives_biases_where_there_are_none),
        cmocka_unit_test(affine_all_keeps_to_the_budget),
        cmocka_unit_test(weights_are_the_methods_own_unless_given),
        cmocka_unit_test(defect_12_factors_keep_the_dtype),
        cmocka_unit_test(defect_03_missing_statistics_are_named_with_the_command),
        cmocka_unit_test(check_22_the_published_search),
        cmocka_unit_test(check_27_the_guard_leaves_sinks_out_of_the_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
