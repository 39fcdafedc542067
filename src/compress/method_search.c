/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks as small as a bound on the probe's perplexity allows (docs/methods/search.md, spec utilized-rank §3.1).
 *
 *   layer       each module alone, the others as they are
 *   cumulative  modules in order; those decided stay, and module i of n may use (i + 1) / n of ε
 *   joint       one energy for all modules at once
 *   legacy      layer, as published: 12 energies, the dense P_T W P_S, r = min(k_S, k_T) */
#include <math.h>
#include <string.h>

#include "compress/lowrank_method.h"
#include "compress/module_weight.h"
#include "compress/search.h"
#include "compress/trial.h"
#include "linalg/gemm.h"

extern const lt_method lt_method_search;

enum { LEGACY_PROBES = 12 };

/* One search at work. */
typedef struct search {
    const lt_choose_in *c;
    lt_epsilon epsilon;
    lt_trial *trial;
    double base, last; /* mean NLL of the model; of the last try */
    size_t *rank, module;
    double share;
    size_t r_min;
} search;

static size_t n_of(const search *s) {
    return s->c->targets->n;
}

static lt_status try_ranks(search *s, bool *ok, lt_err *err) {
    LT_TRY(lt_trial_score(s->trial, &s->last, s->rank, err));
    *ok = lt_epsilon_accepts(&s->epsilon, s->base, s->last, s->share);
    return LT_OK;
}

/* ---- module by module ---- */

static lt_status try_rank(void *user, size_t rank, bool *ok, lt_err *err) {
    search *s = user;
    s->rank[s->module] = rank;
    return try_ranks(s, ok, err);
}

static lt_status by_module(search *s, size_t *rank, bool cumulative, lt_err *err) {
    for (size_t i = 0; i < n_of(s); i++) {
        const lt_curve *c = &s->c->curve[i];
        const size_t most = c->total > 0.0 ? lt_trial_largest(s->trial, i) : 0;
        s->module = i;
        s->share = cumulative ? (double)(i + 1) / (double)n_of(s) : 1.0;
        LT_TRY(lt_progress(s->c->in->ctx, err, "search", (double)i, (double)n_of(s), "modules"));
        if (most) LT_TRY(lt_search_rank(&rank[i], lt_min_size(s->r_min, most), most, try_rank, s, err));
        s->rank[i] = cumulative ? rank[i] : 0;
    }
    return LT_OK;
}

/* ---- all at once ---- */

static void ranks_at(const search *s, size_t *rank, double energy) {
    for (size_t i = 0; i < n_of(s); i++) {
        const lt_curve *c = &s->c->curve[i];
        const size_t k = lt_energy_rank(c->lambda, c->n, energy);
        rank[i] = c->total > 0.0 && k <= c->r_max ? k : 0;
    }
}

static lt_status try_energy(search *s, double energy, bool *ok, lt_err *err) {
    ranks_at(s, s->rank, energy);
    return try_ranks(s, ok, err);
}

/* Until both ends of the energies give the same ranks. */
static lt_status bisect_energy(search *s, size_t *rank, size_t *low, double *lo, double *hi, lt_err *err) {
    for (;;) {
        const double mid = (*lo + *hi) / 2.0;
        bool ok;
        ranks_at(s, rank, *hi);
        ranks_at(s, low, *lo);
        if (memcmp(rank, low, n_of(s) * sizeof *rank) == 0 || mid <= *lo || mid >= *hi) return LT_OK;
        LT_TRY(try_energy(s, mid, &ok, err));
        *(ok ? hi : lo) = mid;
    }
}

static lt_status joint(search *s, size_t *rank, json_t *note, double lo, double hi, lt_err *err) {
    bool ok;
    memset(rank, 0, n_of(s) * sizeof *rank);
    LT_TRY(try_energy(s, hi, &ok, err));
    if (!ok) return LT_OK;
    LT_TRY(try_energy(s, lo, &ok, err));
    if (ok) hi = lo;
    size_t *low = lt_calloc(n_of(s) + 1, sizeof *low);
    if (!low) return lt_fail(err, LT_ENOMEM, "search: out of memory");
    const lt_status st = bisect_energy(s, rank, low, &lo, &hi, err);
    lt_free(low);
    json_object_set_new(note, "energy", json_real(hi));
    return st;
}

/* ---- as published ---- */

/* Eigenvectors of C and of W C Wᵀ of the module at hand; all of them. */
typedef struct legacy {
    search *s;
    size_t m, d, k_s, k_t; /* of the last accepted try */
    double *w, *in_lambda, *in_vec, *out_lambda, *out_vec, *t, *p;
} legacy;

static void legacy_clear(legacy *l) {
    lt_free(l->w), lt_free(l->in_lambda), lt_free(l->in_vec), lt_free(l->out_lambda), lt_free(l->out_vec);
    lt_free(l->t), lt_free(l->p);
}

static lt_status eigen(double *lambda, double *vectors, double *a, size_t n, lt_err *err) {
    lt_eigh_problem p = { .n = n, .a = a, .w = lambda, .v = vectors, .n_vectors = n };
    LT_TRY(lt_eigh_serial(&p, err));
    for (size_t i = 0; i < n; i++) lambda[i] = fmax(lambda[i], 0.0);
    return p.info == 0 ? LT_OK : lt_fail(err, LT_EINTERNAL, "search: eigenvalues did not converge");
}

static lt_status legacy_decompose(legacy *l, const double *packed, lt_err *err) {
    const size_t m = l->m, d = l->d;
    double *c = lt_calloc(d * d, sizeof *c), *g = lt_calloc(m * m, sizeof *g);
    lt_status st = c && g ? LT_OK : lt_fail(err, LT_ENOMEM, "search: out of memory");
    if (st == LT_OK) {
        lt_unpack_lower(c, packed, d);
        lt_gemm_f64_serial(false, false, m, d, d, 1.0, l->w, d, c, d, 0.0, l->t, d);
        lt_gemm_f64_serial(false, true, m, m, d, 1.0, l->t, d, l->w, d, 0.0, g, m);
        st = eigen(l->in_lambda, l->in_vec, c, d, err);
    }
    if (st == LT_OK) st = eigen(l->out_lambda, l->out_vec, g, m, err);
    lt_free(c);
    lt_free(g);
    return st;
}

static lt_status legacy_init(legacy *l, search *s, lt_err *err) {
    const lt_linear *linear = s->c->targets->module[s->module].linear;
    const size_t m = lt_linear_out(linear), d = lt_linear_in(linear);
    lt_stats_site site;
    bool whole;
    double *gram = NULL;
    *l = (legacy){ .s = s, .m = m, .d = d };
    l->w = lt_calloc(m * d, sizeof(double));
    l->t = lt_calloc(m * d + m * m + d * d, sizeof(double));
    l->p = lt_calloc(m * d, sizeof(double));
    l->in_lambda = lt_calloc(d, sizeof(double));
    l->in_vec = lt_calloc(d * d, sizeof(double));
    l->out_lambda = lt_calloc(m, sizeof(double));
    l->out_vec = lt_calloc(m * m, sizeof(double));
    if (!l->w || !l->t || !l->p || !l->in_lambda || !l->in_vec || !l->out_lambda || !l->out_vec)
        return lt_fail(err, LT_ENOMEM, "search: out of memory (%s)", linear->name);
    LT_TRY(lt_module_weight(l->w, linear, err));
    if (!lt_stats_of_linear(s->c->in->stats, LT_STATS_INPUT, linear, &site, &whole))
        return lt_fail(err, LT_EDATA, "the stats have no site that feeds this module (%s)", linear->name);
    LT_TRY(lt_stats_load(&gram, s->c->in->stats, site.name, "gram", err));
    const lt_status st = legacy_decompose(l, gram, err);
    lt_free(gram);
    return st;
}

/* p = V_T V_Tᵀ W V_S V_Sᵀ */
static void project(legacy *l, size_t k_s, size_t k_t) {
    const size_t m = l->m, d = l->d;
    double *a = l->t, *b = l->t + m * d; /* [k_t, d], [k_t, k_s] */
    lt_gemm_f64_serial(false, false, k_t, d, m, 1.0, l->out_vec, m, l->w, d, 0.0, a, d);
    lt_gemm_f64_serial(false, true, k_t, k_s, d, 1.0, a, d, l->in_vec, d, 0.0, b, k_s);
    lt_gemm_f64_serial(false, false, k_t, d, k_s, 1.0, b, k_s, l->in_vec, d, 0.0, a, d);
    lt_gemm_f64_serial(true, false, m, d, k_t, 1.0, l->out_vec, m, a, d, 0.0, l->p, d);
}

static lt_status try_projection(void *user, double energy, bool *ok, lt_err *err) {
    legacy *l = user;
    search *s = l->s;
    const size_t k_s = lt_energy_rank(l->in_lambda, l->d, energy), k_t = lt_energy_rank(l->out_lambda, l->m, energy);
    project(l, k_s, k_t);
    LT_TRY(lt_trial_score_dense(s->trial, &s->last, s->module, l->p, err));
    *ok = lt_epsilon_accepts(&s->epsilon, s->base, s->last, 1.0);
    if (*ok) l->k_s = k_s, l->k_t = k_t;
    return LT_OK;
}

static lt_status legacy_module(search *s, size_t *rank, json_t *list, double lo, double hi, lt_err *err) {
    const lt_curve *c = &s->c->curve[s->module];
    legacy l;
    double energy = 0.0;
    lt_status st = legacy_init(&l, s, err);
    if (st == LT_OK) st = lt_search_energy(&energy, lo, hi, LEGACY_PROBES, try_projection, &l, err);
    const size_t r = energy > 0.0 ? lt_min_size(l.k_s, l.k_t) : lt_min_size(l.m, l.d);
    *rank = r <= c->r_max ? r : 0;
    if (st == LT_OK)
        json_object_set_new(list, c->module,
                            json_pack("{s:I, s:I, s:I, s:o}", "r", (json_int_t)r, "k_S",
                                      (json_int_t)(energy > 0.0 ? l.k_s : l.d), "k_T",
                                      (json_int_t)(energy > 0.0 ? l.k_t : l.m), "e",
                                      energy > 0.0 ? json_real(energy) : json_null()));
    legacy_clear(&l);
    return st;
}

static lt_status as_published(search *s, size_t *rank, json_t *note, double lo, double hi, lt_err *err) {
    json_t *list = json_object();
    if (!list || json_object_set_new(note, "layers", list) != 0)
        return lt_fail(err, LT_ENOMEM, "search: out of memory");
    for (size_t i = 0; i < n_of(s); i++) {
        s->module = i;
        LT_TRY(lt_progress(s->c->in->ctx, err, "search", (double)i, (double)n_of(s), "modules"));
        LT_TRY(legacy_module(s, &rank[i], list, lo, hi, err));
    }
    return LT_OK;
}

/* ---- together ---- */

static lt_status run(search *s, size_t *rank, json_t *note, lt_err *err) {
    const json_t *params = s->c->in->params;
    const lt_method *self = &lt_method_search;
    const char *scope = lt_method_choice(self, params, "scope");
    const double lo = lt_method_number(self, params, "energy_min"), hi = lt_method_number(self, params, "energy_max");
    LT_REQUIRE(err, lo < hi, "search: energy_min %g is not below energy_max %g", lo, hi);
    LT_TRY(lt_trial_score(s->trial, &s->base, s->rank, err));
    if (!isfinite(s->base)) return lt_fail(err, LT_EDATA, "search: the model's own perplexity is not finite");
    if (strcmp(scope, "joint") == 0) LT_TRY(joint(s, rank, note, lo, hi, err));
    if (strcmp(scope, "legacy") == 0) LT_TRY(as_published(s, rank, note, lo, hi, err));
    if (strcmp(scope, "layer") == 0 || strcmp(scope, "cumulative") == 0)
        LT_TRY(by_module(s, rank, strcmp(scope, "cumulative") == 0, err));
    const size_t probes = lt_trial_runs(s->trial);
    double together;
    LT_TRY(lt_trial_score(s->trial, &together, rank, err)); /* each may pass alone and all fail together: say it */
    json_object_set_new(note, "base_ppl", json_real(exp(s->base)));
    json_object_set_new(note, "ppl_of_all", isfinite(exp(together)) ? json_real(exp(together)) : json_string("inf"));
    json_object_set_new(note, "within_epsilon", json_boolean(lt_epsilon_accepts(&s->epsilon, s->base, together, 1.0)));
    json_object_set_new(note, "probes", json_integer((json_int_t)probes));
    return LT_OK;
}

static lt_status choose(size_t *rank, json_t *note, const lt_choose_in *c, lt_err *err) {
    search s = { .c = c, .share = 1.0, .r_min = c->mode->r_min };
    lt_status st = lt_epsilon_parse(&s.epsilon, lt_method_choice(&lt_method_search, c->in->params, "epsilon"), err);
    if (st == LT_OK) st = lt_trial_create(&s.trial, c->in, c->targets, &c->mode->fit, c->mode->affine, err);
    if (st == LT_OK && !(s.rank = lt_calloc(c->targets->n + 1, sizeof *s.rank)))
        st = lt_fail(err, LT_ENOMEM, "search: out of memory");
    if (st == LT_OK) st = run(&s, rank, note, err);
    lt_trial_destroy(s.trial);
    lt_free(s.rank);
    return st;
}

static const lt_method_param params[] = {
    { "epsilon", "text", "1%", 0, 0, NULL, "how much worse: 5% or ratio:0.05 of perplexity, nll:0.02 of mean NLL" },
    { "scope", "choice", "cumulative", 0, 0, "cumulative|joint|layer|legacy",
      "cumulative: module by module, those decided stay; joint: one energy for all; layer: each alone; legacy: as "
      "published" },
    { "energy_min", "real", "0.8", 0, 1, NULL, "lowest energy of scopes joint and legacy" },
    { "energy_max", "real", "0.9999", 0, 1, NULL, "highest energy of scopes joint and legacy" },
    { "r_min", "int", "4", 1, 1 << 20, NULL, "lowest rank that is tried" },
    LT_LOWRANK_AFFINE,
    { "balance", "choice", "auto", 0, 0, "auto|orth|balanced",
      "how A and B share the scale; auto: balanced for 16-bit factors, orth otherwise" },
    LT_LOWRANK_GUARD,
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "sum", "gram", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    const lt_method *self = &lt_method_search;
    lt_epsilon e;
    lt_lowrank_mode mode = { .ranks = { .metric = LT_METRIC_INPUT },
                             .fit = { .metric = LT_METRIC_INPUT },
                             .choose = choose };
    LT_TRY(lt_epsilon_parse(&e, lt_method_choice(self, in->params, "epsilon"), err));
    lt_lowrank_mode_read(&mode, self, in);
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_search = { "search",
                                     "ranks as small as a bound on perplexity allows, then whitened",
                                     "Garg et al., Revealing the Utilized Rank (2024): rank search",
                                     params,
                                     { needs, false, true },
                                     plan,
                                     NULL };
