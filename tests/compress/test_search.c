/* SPDX-License-Identifier: Apache-2.0 */
/* Searches, policies and rank files: bisections by themselves, and the reference's numbers (golden/compress). */
#include "compress/compress_test.h"

#include "compress/ranks.h"
#include "compress/search.h"

#define GOLDEN_MODEL "golden/compress/tiny-llama"

/* ---- the bisections (check 22) ---- */

typedef struct synthetic {
    double threshold; /* accepted from here on */
    int probes;
} synthetic;

static lt_status accept_energy(void *user, double energy, bool *ok, lt_err *err) {
    synthetic *s = user;
    (void)err;
    s->probes++;
    *ok = energy >= s->threshold;
    return LT_OK;
}

static lt_status accept_rank(void *user, size_t rank, bool *ok, lt_err *err) {
    synthetic *s = user;
    (void)err;
    s->probes++;
    *ok = (double)rank >= s->threshold;
    return LT_OK;
}

/* Check 22: 12 probes find a threshold to 5e-5; all pass: 0.80005; none: nothing. */
static void check_22_twelve_probes_find_the_threshold(void **state) {
    (void)state;
    lt_err err = { 0 };
    double e;
    lt_rng r = test_rng(22);
    for (int i = 0; i < 200; i++) {
        synthetic s = { 0.8 + 0.1998 * fabs(fmod(lt_rng_normal(&r), 1.0)), 0 };
        assert_ok(lt_search_energy(&e, 0.8, 0.9999, 12, accept_energy, &s, &err), &err);
        assert_int_equal(s.probes, 12);
        assert_true(e - s.threshold <= 5e-5 && (e == 0.0 ? s.threshold > 0.9999 - 5e-5 : e >= s.threshold));
    }
    synthetic all = { 0.0, 0 }, none = { 2.0, 0 };
    assert_ok(lt_search_energy(&e, 0.8, 0.9999, 12, accept_energy, &all, &err), &err);
    assert_true(fabs(e - 0.80005) < 1e-5);
    assert_ok(lt_search_energy(&e, 0.8, 0.9999, 12, accept_energy, &none, &err), &err);
    assert_true(e == 0.0);
}

static void ranks_are_bisected_to_the_smallest_accepted(void **state) {
    (void)state;
    lt_err err = { 0 };
    size_t found;
    for (size_t lo = 1; lo < 6; lo++)
        for (size_t hi = lo; hi < 40; hi++)
            for (size_t t = 0; t < 45; t++) {
                synthetic s = { (double)t, 0 };
                assert_ok(lt_search_rank(&found, lo, hi, accept_rank, &s, &err), &err);
                assert_int_equal(found, t > hi ? 0 : lt_max_size(t, lo));
                assert_true(s.probes <= 8);
            }
}

static void epsilon_needs_a_unit(void **state) {
    (void)state;
    lt_epsilon e;
    lt_err err = { 0 };
    static const char *const wrong[] = { "",    "0.1",   "5",   "ratio:", "ratio:5%",
                                         "-1%", "nll:x", "5 %", "1e999%", "ratio:nan" };
    assert_ok(lt_epsilon_parse(&e, "5%", &err), &err);
    assert_true(e.unit == LT_EPSILON_RATIO && fabs(e.value - 0.05) < 1e-15);
    assert_true(lt_epsilon_accepts(&e, 2.0, 2.0 + log(1.0499), 1.0) &&
                !lt_epsilon_accepts(&e, 2.0, 2.0 + log(1.0501), 1.0));
    assert_true(!lt_epsilon_accepts(&e, 2.0, NAN, 1.0) && !lt_epsilon_accepts(&e, 2.0, INFINITY, 1.0));
    assert_false(lt_epsilon_accepts(&e, 2.0, 2.0 + log(1.0499), 0.5));
    assert_ok(lt_epsilon_parse(&e, "nll:0.25", &err), &err);
    assert_true(e.unit == LT_EPSILON_NLL && lt_epsilon_accepts(&e, 2.0, 2.25, 1.0));
    for (size_t i = 0; i < LT_COUNTOF(wrong); i++)
        assert_fails(lt_epsilon_parse(&e, wrong[i], &err), &err, LT_EUSAGE, "has no unit");
}

/* ---- policies (check 21) ---- */

/* Check 21: the table of the spec with base 64, and base 3. */
static void check_21_policies_multiply_by_role(void **state) {
    (void)state;
    static const struct {
        const char *policy;
        lt_slot role;
        size_t rank;
    } table[] = {
        { "qkv_heavier", LT_SLOT_Q, 80 },    { "qkv_heavier", LT_SLOT_K, 70 },  { "qkv_heavier", LT_SLOT_V, 80 },
        { "qkv_heavier", LT_SLOT_O, 64 },    { "qkv_heavier", LT_SLOT_UP, 54 }, { "qkv_heavier", LT_SLOT_GATE, 54 },
        { "qkv_heavier", LT_SLOT_DOWN, 54 }, { "mlp_heavier", LT_SLOT_UP, 80 }, { "mlp_heavier", LT_SLOT_GATE, 80 },
        { "mlp_heavier", LT_SLOT_DOWN, 70 }, { "mlp_heavier", LT_SLOT_Q, 54 },  { "mlp_heavier", LT_SLOT_K, 54 },
        { "mlp_heavier", LT_SLOT_V, 54 },    { "mlp_heavier", LT_SLOT_O, 54 },  { "qkv_heavier", LT_SLOT_QKV, 64 },
    };
    for (size_t i = 0; i < LT_COUNTOF(table); i++) {
        const lt_policy *p = lt_policy_find(table[i].policy);
        assert_int_equal(lt_policy_rank(p, table[i].role, 64, 1.0, p->max_rank), table[i].rank);
    }
    for (int role = 0; role < LT_N_LINEAR_SLOTS; role++)
        assert_int_equal(lt_policy_rank(lt_policy_find("uniform"), (lt_slot)role, 3, 1.0, 8192), 4);
    assert_null(lt_policy_find("heavier"));
}

static void policies_are_read_or_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *yaml, *says;
    } bad[] = {
        { "[]", "no mapping" },
        { "name: x", "multipliers" },
        { "multipliers: {values: 2}", "unknown role \"values\" (there are: q, k, v" },
        { "multipliers: {q: -1}", "a multiplier must be above 0" },
        { "multipliers: {q: much}", "q" },
        { "multipliers: {}\nranks: 3", "unknown member \"ranks\"" },
        { "multipliers: {}\nmin_rank: 9\nmax_rank: 3", "ranks from 9 to 3" },
    };
    const char *good = "name: mine\ndescription: x\nmultipliers: {v: 1.5, default: 0.9}\nmin_rank: 8\n";
    lt_policy p;
    lt_err err = { 0 };
    assert_ok(lt_policy_parse(&p, good, strlen(good), "p.yaml", &err), &err);
    assert_string_equal(p.name, "mine");
    assert_true(p.multiplier[LT_SLOT_V] == 1.5 && p.multiplier[LT_SLOT_DOWN] == 0.9 && p.min_rank == 8);
    for (size_t i = 0; i < LT_COUNTOF(bad); i++)
        assert_fails(lt_policy_parse(&p, bad[i].yaml, strlen(bad[i].yaml), "p.yaml", &err), &err, LT_EDATA,
                     bad[i].says);
}

/* ---- rank files ---- */

static void both_forms_of_rank_files_are_read(void **state) {
    (void)state;
    static const struct {
        const char *json, *says;
    } bad[] = {
        { "[]", "not a rank file" },
        { "{\"a\": 3}", "is not an object" },
        { "{\"a\": {}}", "r" },
        { "{\"a\": {\"r\": -1}}", "r" },
        { "{\"a\": {\"r\": 1.5}}", "r" },
        { "{\"schema\": 3, \"layers\": {}}", "unknown schema" },
        { "{\"schema\": 2, \"layers\": []}", "\"layers\" must be an object" },
    };
    static const char *const good[] = { "{\"a\": {\"r\": 7, \"energy\": 0.9}, \"b\": {\"r\": 0}}",
                                        "{\"schema\": 2, \"meta\": {\"model\": {\"hash\": \"0f\"}}, \"layers\": "
                                        "{\"a\": {\"r\": 7}, \"b\": {\"r\": 9, \"factorize\": false}}}" };
    lt_err err = { 0 };
    json_t *ranks;
    char of[LT_HASH_HEX];
    for (size_t i = 0; i < LT_COUNTOF(good); i++) {
        assert_ok(lt_ranks_parse(&ranks, of, good[i], strlen(good[i]), "r.json", &err), &err);
        assert_int_equal(json_integer_value(json_object_get(ranks, "a")), 7);
        assert_int_equal(json_integer_value(json_object_get(ranks, "b")), 0);
        assert_null(json_object_get(ranks, "c"));
        assert_string_equal(of, i == 0 ? "" : "0f");
        json_decref(ranks);
    }
    for (size_t i = 0; i < LT_COUNTOF(bad); i++)
        assert_fails(lt_ranks_parse(&ranks, of, bad[i].json, strlen(bad[i].json), "r.json", &err), &err, LT_EDATA,
                     bad[i].says);
}

/* ---- the golden model ---- */

static lt_model *model;
static lt_team *team;
static lt_stats *stats;
static lt_tokens text;
static size_t n_windows = SIZE_MAX; /* of text that the probe reads */

static int set_up(void **state) {
    (void)state;
    if (!test_shared(GOLDEN_MODEL)) return 0;
    model = tm_open(test_shared(GOLDEN_MODEL));
    team = tm_team(2);
    lt_tokens t = ct_golden_tokens("calib");
    lt_calibrate_in in = ct_in(model, &t, team, test_path("golden.stats"));
    static const char *const trace[] = { "trace" };
    if (lt_stat_set_parse(&in.grads, trace, 1, NULL) != LT_OK) return 1;
    stats = ct_calibrate(&in);
    lt_tokens_clear(&t);
    text = ct_golden_tokens("eval");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    lt_stats_close(stats);
    lt_team_destroy(team);
    lt_model_destroy(model);
    lt_tokens_clear(&text);
    return 0;
}

/* Mean NLL over the eval windows. */
static lt_status score(void *user, const lt_model *m, double *mean_nll, lt_err *err) {
    lt_batch *b;
    size_t n, targets = 0;
    lt_exec *x;
    (void)user;
    *mean_nll = 0.0;
    const size_t all = text.n_rows;
    text.n_rows = lt_min_size(all, n_windows);
    const lt_status st = lt_tokens_batches(&b, &n, &text, 1024, err);
    text.n_rows = all;
    LT_TRY(st);
    assert_ok(lt_exec_create(&x, team, &(lt_exec_opts){ 0 }, err), err);
    for (size_t i = 0; i < n; i++) {
        int32_t target[1024];
        for (size_t p = 0; p < b[i].n_pieces; p++)
            for (size_t k = 0; k < b[i].piece[p].n; k++)
                target[b[i].piece[p].row + k] = k + 1 < b[i].piece[p].n ? b[i].ids[b[i].piece[p].row + k + 1] : -1;
        lt_exec_begin(x, &b[i]);
        const lt_var v = lt_model_nll(x, m, lt_model_hidden(x, m), target, NULL);
        assert_ok(lt_exec_status(x, err), err);
        for (size_t r = 0; r < b[i].n_rows; r++)
            if (target[r] >= 0) *mean_nll += (double)lt_data(x, v)[r], targets++;
    }
    *mean_nll /= (double)targets;
    lt_exec_destroy(x);
    lt_batches_free(b, n);
    return LT_OK;
}

static const lt_probe probe = { score, NULL, "eval" };

static json_t *golden(const char *name) {
    json_t *j;
    char path[96];
    lt_err err = { 0 };
    snprintf(path, sizeof path, "golden/compress/%s.json", name);
    assert_ok(lt_json_load(&j, test_shared(path), &err), &err);
    return j;
}

static lt_plan search(const char *scope, const char *include, json_t **params) {
    static const char *patterns[2];
    lt_plan_in in = cp_in(model, stats, team, "linears=0.5");
    patterns[0] = include;
    in.budget = (lt_budget){ 0 };
    in.allocate = NULL;
    in.include = include ? patterns : NULL;
    in.probe = &probe;
    *params = json_pack("{s:s, s:s}", "epsilon", "ratio:0.05", "scope", scope);
    in.params = *params;
    return cp_plan("search", &in);
}

static const json_t *found(const lt_plan *p) {
    return json_object_get(json_array_get(json_object_get(p->head, "made_by"), 0), "found");
}

static void joint_search_finds_the_golden_ranks(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    json_t *want = golden("search"), *params;
    const json_t *result = json_object_get(want, "joint_result"), *order = json_object_get(want, "joint_layer_order");
    lt_plan p = search("joint", NULL, &params);
    for (size_t i = 0; i < json_array_size(order); i++) {
        const json_t *r = json_array_get(json_object_get(result, "ranks"), i);
        assert_int_equal(cp_rank(&p, json_string_value(json_array_get(order, i))),
                         json_is_null(r) ? 0 : json_integer_value(r));
    }
    const double ppl = json_number_value(json_object_get(found(&p), "ppl_of_all")),
                 golden_ppl = json_number_value(json_object_get(result, "ppl"));
    assert_true(fabs(ppl - golden_ppl) <= 1e-5 * golden_ppl);
    assert_true(json_is_true(json_object_get(found(&p), "within_epsilon")));
    lt_plan_clear(&p);
    json_decref(params);
    json_decref(want);
}

static void layer_searches_find_the_golden_ranks(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    static const char *const scopes[] = { "layer", "legacy" };
    json_t *want = golden("search"), *params, *record;
    for (size_t s = 0; s < LT_COUNTOF(scopes); s++) {
        lt_plan p = search(scopes[s], "layers\\.0\\.(self_attn\\.[kv]|mlp\\.down)", &params);
        const char *module;
        size_t n = 0;
        json_object_foreach(json_object_get(want, scopes[s]), module, record) {
            const bool here = strstr(module, "layers.0.") &&
                              (strstr(module, "k_proj") || strstr(module, "v_proj") || strstr(module, "down_proj"));
            const json_t *r = json_object_get(record, "r");
            lt_module mod;
            assert_true(lt_model_find_module(model, module, &mod));
            const size_t most = lt_break_even_rank(lt_linear_out(mod.linear), lt_linear_in(mod.linear));
            const size_t rank = json_is_null(r) ? 0 : (size_t)json_integer_value(r);
            if (!here) continue;
            assert_int_equal(cp_rank(&p, module), rank <= most ? rank : 0);
            if (s == 1) {
                const json_t *got = json_object_get(json_object_get(found(&p), "layers"), module);
                assert_int_equal(json_integer_value(json_object_get(got, "k_S")),
                                 json_integer_value(json_object_get(record, "k_S")));
                assert_true(fabs(json_number_value(json_object_get(got, "e")) -
                                 json_number_value(json_object_get(record, "e"))) < 1e-12);
            }
            n++;
        }
        assert_int_equal(n, 3);
        lt_plan_clear(&p);
        json_decref(params);
    }
    json_decref(want);
}

/* What each accepts alone need not hold together; the cumulative reading ends within ε. */
static void cumulative_search_ends_within_epsilon(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    json_t *params;
    lt_plan p = search("cumulative", "layers\\.1\\.self_attn", &params);
    assert_true(json_is_true(json_object_get(found(&p), "within_epsilon")));
    assert_true(p.n_cuts > 0);
    lt_plan_clear(&p);
    json_decref(params);
}

static void a_search_needs_a_probe(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    lt_plan_in in = cp_in(model, stats, team, "linears=0.5");
    lt_plan p = { 0 };
    lt_err err = { 0 };
    assert_fails(lt_make_plan(&p, "search", &in, &err), &err, LT_EUSAGE, "give one");
    lt_plan_clear(&p);
    in.budget = (lt_budget){ 0 };
    assert_fails(lt_make_plan(&p, "search", &in, &err), &err, LT_EUSAGE, "--probe-data");
    lt_plan_clear(&p);
    in = cp_in(model, stats, team, "linears=0.5");
    in.allocate = "asvd_strs";
    assert_fails(lt_make_plan(&p, "whitened", &in, &err), &err, LT_EUSAGE, "--probe-data");
    lt_plan_clear(&p);
}

static void policies_keep_the_golden_budget(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    static const char *const names[] = { "qkv_heavier", "mlp_heavier" };
    json_t *want = golden("ranks_tiny-llama");
    const json_t *policies = json_object_get(want, "policies"), *order = json_object_get(policies, "layer_order");
    for (size_t k = 0; k < LT_COUNTOF(names); k++) {
        lt_plan_in in = cp_in(model, stats, team, "linears=0.6");
        in.allocate = names[k];
        lt_plan p = cp_plan("whitened", &in);
        const json_t *ranks = json_object_get(json_object_get(policies, names[k]), "budgeted");
        for (size_t i = 0; i < json_array_size(order); i++)
            assert_int_equal(cp_rank(&p, json_string_value(json_array_get(order, i))),
                             json_integer_value(json_array_get(ranks, i)));
        lt_plan_clear(&p);
    }
    json_decref(want);
}

/* Ranks out of a plan and in again are the same plan; a policy moves them at equal cost. */
static void rank_files_go_out_and_in(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    lt_err err = { 0 };
    lt_plan_in in = cp_in(model, stats, team, "linears=0.6");
    lt_plan p = cp_plan("whitened", &in);
    for (int flat = 0; flat < 2; flat++) {
        json_t *file, *ranks;
        char of[LT_HASH_HEX];
        assert_ok(lt_ranks_of_plan(&file, &p, model, flat, &err), &err);
        char *json = json_dumps(file, 0);
        assert_ok(lt_ranks_parse(&ranks, of, json, strlen(json), "r.json", &err), &err);
        lt_plan_in again = in;
        again.budget = (lt_budget){ 0 };
        again.allocate = NULL;
        again.ranks = ranks;
        lt_plan q = cp_plan("whitened", &again);
        assert_int_equal(q.n_cuts, p.n_cuts);
        for (size_t i = 0; i < p.n_cuts; i++) assert_true(json_equal(p.cuts[i].json, q.cuts[i].json));
        again.allocate = "mlp_heavier";
        lt_plan moved = cp_plan("whitened", &again);
        const double was = json_number_value(json_object_get(json_object_get(p.head, "cost"), "linears_kept")),
                     is = json_number_value(json_object_get(json_object_get(moved.head, "cost"), "linears_kept"));
        assert_true(is <= was && is > was - 0.01);
        lt_plan_clear(&moved);
        lt_plan_clear(&q);
        json_object_set_new(ranks, "model.layers.9.self_attn.q_proj", json_integer(3));
        assert_fails(lt_make_plan(&q, "whitened", &again, &err), &err, LT_EDATA, "no such linear");
        lt_plan_clear(&q);
        free(json);
        json_decref(ranks);
        json_decref(file);
    }
    lt_plan_clear(&p);
}

/* Every allocator and weighting stays within the budget and uses most of it. */
static void every_allocator_spends_the_budget(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    static const char *const ways[][2] = { { "svd_llm_v2", "unit" }, { "swift_svd", "unit" }, { "asvd_strs", "unit" },
                                           { "global", "fisher" },   { "global", "sens" },    { "global", "unit" } };
    static const char *const include[] = { "layers\\.[01]\\.self_attn", NULL };
    n_windows = 1;
    for (size_t k = 0; k < LT_COUNTOF(ways); k++) {
        lt_plan_in in = cp_in(model, stats, team, "linears=0.93");
        in.allocate = ways[k][0];
        in.weights = ways[k][1];
        in.include = include;
        in.probe = &probe;
        lt_plan p = cp_plan("whitened", &in);
        const double kept = json_number_value(json_object_get(json_object_get(p.head, "cost"), "linears_kept"));
        if (!(kept <= 0.93 && kept > 0.9)) fail_msg("%s %s: %g", ways[k][0], ways[k][1], kept);
        assert_true(p.n_cuts > 0);
        lt_plan_clear(&p);
    }
    n_windows = SIZE_MAX;
}

/* The published order of ranks: a larger loss keeps more. */
static void svd_llm_v2_gives_more_to_the_larger_loss(void **state) {
    (void)state;
    double big[40], small[40];
    const lt_allocator *a;
    lt_err err = { 0 };
    for (size_t i = 0; i < 40; i++) big[i] = 1e6 / (double)(i + 1), small[i] = 1e3 / (double)(i + 1);
    lt_curve c[2] = {
        { .module = "a", .m = 40, .d = 40, .n = 40, .lambda = big, .total = 5e6, .r_max = 19, .unit = 1.0 },
        { .module = "b", .m = 40, .d = 40, .n = 40, .lambda = small, .total = 5e3, .r_max = 19, .unit = 1.0 }
    };
    const lt_alloc_in in = { .curve = c, .n = 2, .budget = 0.6 * 3200, .keep = 0.6, .weights = "unit", .align = 1 };
    size_t rank[2];
    assert_ok(lt_allocator_find(&a, "svd_llm_v2", &err), &err);
    assert_ok(a->allocate(rank, &in, NULL, &err), &err);
    assert_true(rank[0] > rank[1] && lt_alloc_cost(&in, rank) <= in.budget);
    for (size_t i = 0; i < 40; i++) small[i] *= 1e-9; /* a loss below 1: uniform */
    assert_ok(a->allocate(rank, &in, NULL, &err), &err);
    assert_true(rank[0] == 12 && rank[1] == 12);
}

static void the_frontier_falls(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    static const double keep[] = { 0.9, 0.7, 0.5, 0.3, 0.01 };
    double e[5], cut[5];
    lt_frontier f = { .keep = keep, .n = 5, .rel_error = e, .cut = cut };
    lt_plan_in in = cp_in(model, stats, team, "linears=0.8");
    lt_plan p = { 0 };
    lt_err err = { 0 };
    in.budget = (lt_budget){ 0 };
    in.frontier = &f;
    assert_ok(lt_make_plan(&p, "whitened", &in, &err), &err);
    assert_int_equal(p.n_cuts, 0);
    assert_true(e[0] < e[1] && e[1] < e[2] && e[2] < e[3] && isnan(e[4]));
    lt_plan_clear(&p);
}

/* Spectra kept instead of Grams plan the same ranks, and do not add up. */
static void spectra_are_enough_to_plan(void **state) {
    (void)state;
    TEST_NEED_SHARED(GOLDEN_MODEL);
    lt_tokens t = ct_golden_tokens("calib");
    lt_calibrate_in in = ct_in(model, &t, team, test_path("spectra.stats"));
    lt_err err = { 0 };
    in.stats = 1u << LT_STAT_COUNT | 1u << LT_STAT_SUM | 1u << LT_STAT_GRAM;
    in.spectrum = lt_output_spectrum;
    lt_stats *spectra = ct_calibrate(&in);
    lt_stats_site site;
    assert_true(lt_stats_site_of(spectra, "model.layers.0.mlp.up_proj", &site));
    assert_false(lt_stats_have(spectra, site.name, "gram"));
    lt_plan_in a = cp_in(model, stats, team, "linears=0.6"), b = cp_in(model, spectra, team, "linears=0.6");
    lt_plan p = cp_plan("whitened", &a), q = cp_plan("whitened", &b);
    assert_int_equal(p.n_cuts, q.n_cuts);
    for (size_t i = 0; i < p.n_cuts; i++) assert_true(json_equal(p.cuts[i].json, q.cuts[i].json));
    lt_overlay *o;
    const lt_apply_in apply = { .model = model, .stats = spectra, .team = team, .dtype = LT_N_DTYPES };
    assert_ok(lt_overlay_create(&o, model, &err), &err);
    assert_fails(lt_plan_apply(o, &q, &apply, &err), &err, LT_EDATA, "stats lack gram");
    const char *const twice[] = { in.out_path, in.out_path };
    assert_fails(lt_stats_merge(test_path("no.stats"), twice, 2, NULL, &err), &err, LT_EUNSUPPORTED,
                 "spectra do not add up");
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
    lt_plan_clear(&q);
    lt_stats_close(spectra);
    lt_tokens_clear(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_22_twelve_probes_find_the_threshold),
        cmocka_unit_test(ranks_are_bisected_to_the_smallest_accepted),
        cmocka_unit_test(epsilon_needs_a_unit),
        cmocka_unit_test(check_21_policies_multiply_by_role),
        cmocka_unit_test(policies_are_read_or_refused_by_name),
        cmocka_unit_test(both_forms_of_rank_files_are_read),
        cmocka_unit_test(joint_search_finds_the_golden_ranks),
        cmocka_unit_test(layer_searches_find_the_golden_ranks),
        cmocka_unit_test(cumulative_search_ends_within_epsilon),
        cmocka_unit_test(a_search_needs_a_probe),
        cmocka_unit_test(policies_keep_the_golden_budget),
        cmocka_unit_test(rank_files_go_out_and_in),
        cmocka_unit_test(every_allocator_spends_the_budget),
        cmocka_unit_test(svd_llm_v2_gives_more_to_the_larger_loss),
        cmocka_unit_test(the_frontier_falls),
        cmocka_unit_test(spectra_are_enough_to_plan),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
