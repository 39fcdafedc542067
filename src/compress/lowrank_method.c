/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/lowrank_method.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "compress/batch.h"
#include "compress/module_weight.h"
#include "compress/ranks.h"
#include "compress/targets.h"
#include "compress/trial.h"

/* One method at work. */
typedef struct work {
    const lt_plan_in *in;
    const lt_lowrank_mode *mode;
    lt_targets targets;
    lt_lowrank_job *jobs; /* [targets.n] */
    lt_curve *curves;
    size_t *rank, *base; /* base: ranks by energy or from a file; NULL: none */
    lt_trial *trial;
    json_t *note; /* what the choice of ranks has to say, for the plan */
} work;

static void work_clear(work *w) {
    for (size_t i = 0; w->jobs && i < w->targets.n; i++) lt_free(w->jobs[i].lambda);
    lt_free(w->jobs);
    lt_free(w->curves);
    lt_free(w->rank);
    lt_free(w->base);
    lt_trial_destroy(w->trial);
    json_decref(w->note);
    lt_free(w->targets.module);
}

static lt_status work_init(work *w, const lt_plan_in *in, const lt_lowrank_mode *mode, lt_err *err) {
    *w = (work){ .in = in, .mode = mode };
    LT_TRY(lt_targets_select(&w->targets, in, err));
    w->jobs = lt_calloc(w->targets.n, sizeof *w->jobs);
    w->curves = lt_calloc(w->targets.n, sizeof *w->curves);
    w->rank = lt_calloc(w->targets.n, sizeof *w->rank);
    return w->jobs && w->curves && w->rank ? LT_OK
                                           : lt_fail(err, LT_ENOMEM, "plan: no memory for %zu modules", w->targets.n);
}

/* Outputs that are this small per token and unit weight carry nothing (spec §2): such a module is left alone. */
static bool is_dead(const lt_lowrank_job *j, const lt_stats *stats) {
    lt_stats_site site;
    bool whole;
    if (lt_metric_get(j->how.metric)->form != LT_FORM_GRAM || j->how.left ||
        !lt_stats_of_linear(stats, LT_STATS_INPUT, j->linear, &site, &whole))
        return !(j->total > 0.0);
    return !(j->total > 1e-20 * lt_stats_count(stats, site.name) * j->weight_norm2);
}

lt_status lt_output_spectrum(double *lambda, double *total, const lt_linear *l, const double *gram, lt_err *err) {
    lt_lowrank_in in = { .m = lt_linear_out(l), .d = lt_linear_in(l), .c = gram };
    double *w = lt_calloc(in.m * in.d, sizeof *w);
    if (!w) return lt_fail(err, LT_ENOMEM, "no memory for a %zu x %zu weight (%s)", in.m, in.d, l->name);
    lt_status st = lt_module_weight(w, l, err);
    in.w = w;
    if (st == LT_OK) st = lt_lowrank_spectrum(lambda, total, &in, err);
    lt_free(w);
    return st;
}

/* From the stats, where they keep spectra instead of Grams and no centring is asked for; false: it must be computed. */
static bool stored_spectrum(lt_lowrank_job *j, const lt_stats *stats) {
    const size_t n = lt_min_size(lt_linear_out(j->linear), lt_linear_in(j->linear));
    lt_stats_site site;
    double *lambda = NULL, *total = NULL;
    if (!stats || j->how.metric != LT_METRIC_INPUT || j->how.left || j->affine ||
        !lt_stats_find(stats, LT_STATS_SPECTRUM, j->linear->name, &site) || site.cols != n)
        return false;
    const bool ok = lt_stats_load(&lambda, stats, site.name, "lambda", NULL) == LT_OK &&
                    lt_stats_load(&total, stats, site.name, "trace", NULL) == LT_OK;
    if (ok) memcpy(j->lambda, lambda, n * sizeof *lambda), j->total = *total;
    lt_free(lambda);
    lt_free(total);
    return ok;
}

static lt_status check_centring(const lt_lowrank_job *j, const lt_stats *stats, lt_err *err) {
    lt_stats_site site;
    if (!stats || !j->affine || !lt_stats_find(stats, LT_STATS_SPECTRUM, j->linear->name, &site)) return LT_OK;
    return lt_fail(err, LT_EDATA,
                   "the stats keep spectra, of outputs that are not centred: --param affine=off plans with them (%s)",
                   j->linear->name);
}

/* All spectra, those that the stats hold aside. */
static lt_status compute_spectra(work *w, lt_err *err) {
    const lt_batch_in batch = { .stats = w->in->stats, .team = w->in->team, .ctx = w->in->ctx, .stage = "plan" };
    lt_lowrank_job *left = lt_calloc(w->targets.n + 1, sizeof *left);
    size_t *of = lt_calloc(w->targets.n + 1, sizeof *of), n = 0;
    lt_status st = left && of ? LT_OK : lt_fail(err, LT_ENOMEM, "plan: no memory for %zu modules", w->targets.n);
    for (size_t i = 0; st == LT_OK && i < w->targets.n; i++) {
        if (stored_spectrum(&w->jobs[i], w->in->stats)) continue;
        st = check_centring(&w->jobs[i], w->in->stats, err);
        of[n] = i, left[n++] = w->jobs[i];
    }
    if (st == LT_OK) st = lt_lowrank_batch(left, n, &batch, err);
    for (size_t i = 0; st == LT_OK && i < n; i++) w->jobs[of[i]] = left[i];
    lt_free(left);
    lt_free(of);
    return st;
}

static lt_status make_spectra(work *w, lt_err *err) {
    for (size_t i = 0; i < w->targets.n; i++) {
        const lt_linear *l = w->jobs[i].linear;
        w->jobs[i].lambda = lt_calloc(lt_min_size(lt_linear_out(l), lt_linear_in(l)), sizeof(double));
        if (!w->jobs[i].lambda) return lt_fail(err, LT_ENOMEM, "plan: no memory for the spectrum (%s)", l->name);
    }
    return compute_spectra(w, err);
}

/* What another loader takes once it is multiplied out has biases where its family has them. */
static lt_status check_new_bias(const work *w, const lt_module *mod, lt_err *err) {
    const char *loader = w->in->target_loader;
    if (!lt_affine_for(w->mode->affine, mod->linear) || lt_has_bias(mod->linear)) return LT_OK;
    if (!loader || strcmp(loader, "hf") != 0 || lt_module_may_have_bias(mod)) return LT_OK;
    return lt_fail(err, LT_EUNSUPPORTED,
                   "--for hf: a dense %s cannot hold the bias that affine=all gives this module: leave it out "
                   "(--exclude), or affine at auto (%s)",
                   w->in->model->family->name, mod->linear->name);
}

/* Without errors all that is known of a curve is what it is of; no module counts as dead then. */
static lt_status make_curves(work *w, lt_err *err) {
    const lt_plan_in *in = w->in;
    for (size_t i = 0; i < w->targets.n; i++) {
        const lt_linear *l = w->targets.module[i].linear;
        LT_TRY(check_new_bias(w, &w->targets.module[i], err));
        w->jobs[i] =
            (lt_lowrank_job){ .linear = l, .how = w->mode->ranks, .affine = lt_affine_for(w->mode->affine, l) };
    }
    if (!in->without_errors) LT_TRY(make_spectra(w, err));
    for (size_t i = 0; i < w->targets.n; i++) {
        const lt_lowrank_job *j = &w->jobs[i];
        const size_t m = lt_linear_out(j->linear), d = lt_linear_in(j->linear);
        w->curves[i] = (lt_curve){ j->linear->name,
                                   m,
                                   d,
                                   lt_min_size(m, d),
                                   j->lambda,
                                   in->without_errors      ? 1.0
                                   : is_dead(j, in->stats) ? 0.0
                                                           : j->total,
                                   lt_break_even_rank(m, d),
                                   lt_target_unit(j->linear, in->budget.of),
                                   w->targets.module[i].slot,
                                   w->targets.module[i].layer,
                                   1.0 };
    }
    return LT_OK;
}

/* ---- weights of errors, and ranks within a budget ---- */

static double tail_of(const lt_curve *c, size_t rank) {
    double sum = 0.0;
    for (size_t i = c->n; i > rank; i--) sum += c->lambda[i - 1];
    return sum;
}

/* (1 / (N m)) Σ_t ‖∂ℓ/∂y_t‖² */
static lt_status fisher_weight(double *out, const work *w, size_t i, lt_err *err) {
    const char *module = w->curves[i].module;
    lt_stats_site site;
    double *trace;
    bool whole;
    if (!w->in->stats || !lt_stats_of_linear(w->in->stats, LT_STATS_GRAD, w->jobs[i].linear, &site, &whole))
        return lt_fail(err, LT_EDATA,
                       "stats lack gradients, which weights fisher need: run `lathe calibrate MODEL --data FILE "
                       "--methods whitened,fisher` (%s)",
                       module);
    if (whole)
        return lt_fail(err, LT_EUNSUPPORTED,
                       "weights fisher are sums over a whole matrix: they do not tell its parts apart (%s)", module);
    LT_TRY(lt_stats_load(&trace, w->in->stats, site.name, "trace", err));
    *out = *trace / (lt_stats_count(w->in->stats, site.name) * (double)w->curves[i].m);
    lt_free(trace);
    return LT_OK;
}

/* Rise of the probe's loss over the error, when only this module has its uniform rank. */
static lt_status sens_weights(const work *w, double keep, lt_err *err) {
    double base, nll;
    memset(w->rank, 0, w->targets.n * sizeof *w->rank);
    LT_TRY(lt_trial_score(w->trial, &base, w->rank, err));
    for (size_t i = 0; i < w->targets.n; i++) {
        lt_curve *c = &w->curves[i];
        if (c->total <= 0.0 || c->r_max == 0) continue;
        w->rank[i] = lt_min_size(lt_uniform_rank(c->m, c->d, keep), c->r_max);
        const double tau = tail_of(c, w->rank[i]);
        LT_TRY(lt_trial_score(w->trial, &nll, w->rank, err));
        c->weight = tau > 0.0 ? fmax(nll - base, 0.0) / tau : 0.0;
        if (!isfinite(c->weight)) c->weight = 1e30;
        w->rank[i] = 0;
    }
    return LT_OK;
}

static lt_status weigh(const work *w, const lt_weighting *how, double keep, lt_err *err) {
    for (size_t i = 0; how->stats[0] && i < w->targets.n; i++) LT_TRY(fisher_weight(&w->curves[i].weight, w, i, err));
    return how->probe ? sens_weights(w, keep, err) : LT_OK;
}

static lt_status need_trial(work *w, lt_err *err) {
    return w->trial ? LT_OK : lt_trial_create(&w->trial, w->in, &w->targets, &w->mode->fit, w->mode->affine, err);
}

static size_t count_dead(const work *w) {
    size_t n = 0;
    for (size_t i = 0; i < w->targets.n; i++) n += !(w->curves[i].total > 0.0);
    return n;
}

static lt_status allocate(work *w, double budget, double keep, lt_err *err) {
    const lt_plan_in *in = w->in;
    const char *name = in->allocate ? in->allocate : "global";
    const lt_allocator *how;
    const lt_weighting *weighting;
    LT_TRY(lt_allocator_find(&how, name, err));
    LT_TRY(lt_weighting_find(&weighting, in->weights, err));
    const bool weighs = strcmp(name, "global") == 0;
    if (how->probe || (weighs && weighting->probe)) LT_TRY(need_trial(w, err));
    if (weighs) LT_TRY(weigh(w, weighting, keep, err));
    const lt_alloc_in a = { .curve = w->curves,
                            .n = w->targets.n,
                            .budget = budget,
                            .keep = keep,
                            .weights = in->weights,
                            .floor = in->floor,
                            .allow_dense = in->allow_dense,
                            .align = lt_max_size(in->align, 1),
                            .base = w->base,
                            .policy = how->policy ? lt_policy_find(how->policy) : in->policy,
                            .trial = w->trial };
    const lt_status st = how->allocate(w->rank, &a, NULL, err);
    const size_t dead = count_dead(w);
    if (st != LT_ETARGET || dead == 0) return st;
    return lt_context(err, st, "%zu of %zu modules have no output energy in the stats and stay dense", dead,
                      w->targets.n);
}

static const char *balance_name_of(const work *w, const lt_linear *l) {
    if (strcmp(w->mode->balance, "auto") != 0) return w->mode->balance;
    return lt_balance_name(lt_dtype_get(lt_factor_dtype(l))->bytes <= 2 ? LT_BALANCE_BALANCED : LT_BALANCE_ORTH);
}

bool lt_adds_to_residual(const lt_module *mod, const lt_model *m) {
    return (mod->slot == LT_SLOT_O || mod->slot == LT_SLOT_DOWN) && m->config.block.place == LT_NORM_PRE;
}

/* Members of cuts that are fitted to drifted inputs. */
static lt_status add_drift(json_t *cut, const work *w, const lt_module *mod, lt_err *err) {
    const lt_lowrank_mode *mode = w->mode;
    const bool residual = strcmp(mode->target, "residual") == 0 && lt_adds_to_residual(mod, w->in->model);
    const int failed = json_object_set_new(cut, "target", json_string(residual ? "residual" : "drift")) ||
                       json_object_set_new(cut, "pass", json_string(mode->pass)) ||
                       json_object_set_new(cut, "ridge", json_real(mode->ridge));
    return failed ? lt_fail(err, LT_ENOMEM, "plan: no memory for a cut (%s)", mod->linear->name) : LT_OK;
}

static lt_status add_cut(lt_plan *p, const work *w, size_t i, double rel_error, lt_err *err) {
    const lt_lowrank_job *j = &w->jobs[i];
    const lt_lowrank_how *how = &w->mode->fit;
    json_t *cut = json_pack("{s:s, s:s, s:I, s:s, s:s, s:b, s:s}", "kind", "rank", "module", j->linear->name, "rank",
                            (json_int_t)w->rank[i], "metric", lt_metric_name(how->metric), "target", "original",
                            "affine", (int)j->affine, "balance", balance_name_of(w, j->linear));
    if (!cut) return lt_fail(err, LT_ENOMEM, "plan: no memory for a cut (%s)", j->linear->name);
    if (!w->in->without_errors) json_object_set_new(cut, "rel_error", json_real(rel_error));
    if (how->metric == LT_METRIC_ABS) json_object_set_new(cut, "alpha", json_real(how->alpha));
    if (how->left) json_object_set_new(cut, "left", json_string("output_grad"));
    if (how->left) json_object_set_new(cut, "damping", json_real(how->damping));
    if (how->rest) json_object_set_new(cut, "rows", json_string("rest"));
    if (w->mode->target && strcmp(w->mode->target, "original") != 0) {
        const lt_status st = add_drift(cut, w, &w->targets.module[i], err);
        if (st != LT_OK) return json_decref(cut), st;
    }
    return lt_plan_add(p, cut, err);
}

static json_t *last_made_by(const lt_plan *p) {
    json_t *list = json_object_get(p->head, "made_by");
    return json_array_get(list, json_array_size(list) - 1);
}

/* Dead modules are the reader's business: in the plan, and in the log. */
static lt_status note_dead(lt_plan *p, const work *w, lt_err *err) {
    json_t *dead = json_array();
    for (size_t i = 0; dead && i < w->targets.n; i++) {
        if (w->curves[i].total > 0.0) continue;
        lt_log(w->in->ctx, LT_LOG_WARN, "no output energy in the stats, stays dense: %s", w->curves[i].module);
        json_array_append_new(dead, json_string(w->curves[i].module));
    }
    const bool ok = dead && (json_array_size(dead) == 0 || json_object_set(last_made_by(p), "dead", dead) == 0);
    json_decref(dead);
    return ok ? LT_OK : lt_fail(err, LT_ENOMEM, "plan: out of memory");
}

/* Where the curve's tail is not the error of the outputs (it is in another unit, or another metric gave the ranks) and
 * the stats can tell that, the fits are made and measured. */
static bool must_measure(const work *w, size_t i) {
    const lt_lowrank_how *fit = &w->mode->fit, *ranks = &w->mode->ranks;
    lt_stats_site site;
    bool whole;
    const bool same = fit->metric == ranks->metric && !fit->rest && !ranks->rest &&
                      lt_metric_get(fit->metric)->of_outputs && !fit->left;
    return !same && w->rank[i] && w->in->stats &&
           lt_stats_of_linear(w->in->stats, LT_STATS_INPUT, w->jobs[i].linear, &site, &whole) &&
           lt_stats_have(w->in->stats, site.name, "gram");
}

static lt_status measure(double *rel_error, const work *w, lt_err *err) {
    lt_lowrank_job *jobs = lt_calloc(w->targets.n + 1, sizeof *jobs);
    size_t n = 0;
    if (!jobs) return lt_fail(err, LT_ENOMEM, "plan: no memory for %zu modules", w->targets.n);
    for (size_t i = 0; i < w->targets.n; i++)
        if (must_measure(w, i))
            jobs[n++] = (lt_lowrank_job){ .linear = w->jobs[i].linear,
                                          .how = w->mode->fit,
                                          .affine = w->jobs[i].affine,
                                          .rank = w->rank[i],
                                          .measure = true };
    const lt_batch_in batch = { w->in->stats, w->in->team, w->in->ctx, "measure", NULL, NULL };
    const lt_status st = n ? lt_lowrank_batch(jobs, n, &batch, err) : LT_OK;
    for (size_t i = 0, k = 0; st == LT_OK && i < w->targets.n; i++) {
        if (!must_measure(w, i)) continue;
        rel_error[i] = jobs[k].out_total > 0.0 ? jobs[k].out_error / jobs[k].out_total : 0.0;
        k++;
    }
    lt_free(jobs);
    return st;
}

/* [targets.n] */
static lt_status predict(double *rel_error, const work *w, lt_err *err) {
    if (w->in->without_errors) return LT_OK;
    for (size_t i = 0; i < w->targets.n; i++)
        if (w->rank[i]) rel_error[i] = tail_of(&w->curves[i], w->rank[i]) / w->curves[i].total;
    return measure(rel_error, w, err);
}

static lt_status add_cuts(lt_plan *p, const work *w, lt_err *err) {
    double mean = 0.0, *rel_error = lt_calloc(w->targets.n + 1, sizeof *rel_error);
    if (!rel_error) return lt_fail(err, LT_ENOMEM, "plan: no memory for %zu modules", w->targets.n);
    lt_status st = predict(rel_error, w, err);
    for (size_t i = 0; st == LT_OK && i < w->targets.n; i++) {
        if (w->rank[i] == 0) continue;
        mean += rel_error[i] / (double)w->targets.n;
        st = add_cut(p, w, i, rel_error[i], err);
    }
    lt_free(rel_error);
    if (st != LT_OK) return st;
    json_t *cost = w->in->without_errors ? json_object() : json_pack("{s:{s:f}}", "predicted", "rel_error", mean);
    if (!cost || json_object_set_new(p->head, "cost", cost) != 0) return lt_fail(err, LT_ENOMEM, "plan: out of memory");
    if (w->note && json_object_set(last_made_by(p), "found", w->note) != 0)
        return lt_fail(err, LT_ENOMEM, "plan: out of memory");
    return note_dead(p, w, err);
}

/* ---- ranks by energy (spec §2, §3.2, §3.3) ---- */

size_t lt_energy_rank(const double *lambda, size_t n, double e) {
    double sum = 0.0, cum = 0.0;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) sum += lambda[i];
    if (e >= 1.0) {
        while (k < n && lambda[k] > (double)n * DBL_EPSILON * lambda[0]) k++;
        return lt_max_size(k, 1);
    }
    for (; k < n; k++)
        if ((cum += lambda[k]) >= e * fmax(sum, 1e-12)) return k + 1;
    return n;
}

static size_t floor_rank(const lt_curve *c, size_t r_min) {
    return r_min ? r_min : lt_max_size(16, (size_t)(0.02 * (double)lt_min_size(c->m, c->d)));
}

/* 0, dense, where that rank does not save. */
static size_t saving_rank(const work *w, const lt_curve *c, size_t r) {
    const size_t align = lt_max_size(w->in->align, 1);
    r = (r + align - 1) / align * align;
    return c->total > 0.0 && r > 0 && r <= c->r_max ? r : 0;
}

static void ranks_by_energy(const work *w, size_t *rank) {
    for (size_t i = 0; i < w->targets.n; i++) {
        const lt_curve *c = &w->curves[i];
        const size_t k = lt_energy_rank(c->lambda, c->n, w->mode->energy);
        rank[i] = saving_rank(w, c, lt_max_size(k, floor_rank(c, w->mode->r_min)));
    }
}

static lt_status ranks_of_file(const work *w, size_t *rank, lt_err *err) {
    for (size_t i = 0; i < w->targets.n; i++)
        rank[i] = saving_rank(w, &w->curves[i], lt_ranks_get(w->in->ranks, &w->targets.module[i]));
    return lt_ranks_check(w->in->ranks, w->in->model, err);
}

static lt_status base_ranks(work *w, lt_err *err) {
    if (!w->in->ranks && !(w->mode->energy > 0.0)) return LT_OK;
    w->base = lt_calloc(w->targets.n + 1, sizeof *w->base);
    if (!w->base) return lt_fail(err, LT_ENOMEM, "plan: no memory for %zu modules", w->targets.n);
    if (w->in->ranks) return ranks_of_file(w, w->base, err);
    ranks_by_energy(w, w->base);
    return LT_OK;
}

void lt_lowrank_mode_read(lt_lowrank_mode *mode, const lt_method *m, const lt_plan_in *in) {
    const char *guard = lt_method_choice(m, in->params, "guard"), *affine = lt_method_choice(m, in->params, "affine");
    const bool apart = guard && in->stats && lt_stats_have_kind(in->stats, LT_STATS_FIRST);
    mode->affine = !affine || strcmp(affine, "off") == 0 ? LT_AFFINE_OFF
                   : strcmp(affine, "all") == 0          ? LT_AFFINE_ALL
                                                         : LT_AFFINE_BIASED;
    mode->balance = lt_method_choice(m, in->params, "balance");
    mode->energy = lt_method_number(m, in->params, "energy");
    mode->r_min = (size_t)lt_method_number(m, in->params, "r_min");
    mode->ranks.rest = apart && strcmp(guard, "off") != 0;
    mode->fit.rest = apart && strcmp(guard, "all") == 0;
}

/* ---- the frontier: predicted error against budget ---- */

static double mean_error(const work *w) {
    double sum = 0.0;
    for (size_t i = 0; i < w->targets.n; i++)
        if (w->rank[i]) sum += tail_of(&w->curves[i], w->rank[i]) / w->curves[i].total;
    return sum / (double)w->targets.n;
}

static lt_status frontier(work *w, lt_err *err) {
    lt_frontier *f = w->in->frontier;
    lt_plan_in at = *w->in;
    for (size_t k = 0; k < f->n; k++) {
        double budget, keep;
        at.budget = (lt_budget){ .of = f->of, .fraction = f->keep[k] };
        f->rel_error[k] = NAN;
        lt_err why = { 0 };
        lt_status st = lt_targets_budget(&budget, &keep, &w->targets, &at, &why);
        memset(w->rank, 0, w->targets.n * sizeof *w->rank);
        if (st == LT_OK && keep < 1.0) st = allocate(w, budget, keep, &why);
        if (st == LT_ETARGET) continue;
        if (st != LT_OK) return lt_fail(err, st, "%s", why.message);
        f->rel_error[k] = mean_error(w);
        f->cut[k] = 0.0;
        for (size_t i = 0; i < w->targets.n; i++) f->cut[k] += w->rank[i] > 0;
    }
    return LT_OK;
}

/* ---- together ---- */

/* The one thing that decides the ranks. */
static lt_status check_sources(const lt_plan_in *in, const lt_lowrank_mode *mode, lt_err *err) {
    const int n = lt_budget_given(&in->budget) + (mode->energy > 0.0) + (in->ranks != NULL) + (mode->choose != NULL) +
                  (in->frontier != NULL);
    LT_REQUIRE(err, n > 0, "plan: how much must be left? give --keep, --param energy=0.99 or --ranks FILE");
    LT_REQUIRE(err, n == 1,
               "plan: a budget (--keep), energy, a rank file and a search each decide the ranks: give one");
    return LT_OK;
}

/* Who reads spectra to choose ranks cannot do without them. */
static lt_status check_without_errors(const lt_plan_in *in, const lt_lowrank_mode *mode, lt_err *err) {
    const lt_allocator *how;
    const char *who = in->allocate ? in->allocate : in->ranks ? NULL : "global";
    if (!in->without_errors) return LT_OK;
    LT_REQUIRE(err, mode->energy <= 0.0 && !mode->choose && !in->frontier,
               "plan: these ranks come from predicted errors: they cannot be left out (--no-errors)");
    if (!who) return LT_OK;
    LT_TRY(lt_allocator_find(&how, who, err));
    LT_REQUIRE(err, !how->spectra,
               "plan: allocator %s chooses ranks by predicted errors: --no-errors goes with --allocate uniform, a "
               "policy, or --ranks",
               who);
    return LT_OK;
}

static double dense_cost(const work *w) {
    double sum = 0.0;
    for (size_t i = 0; i < w->targets.n; i++)
        sum += w->curves[i].unit * (double)w->curves[i].m * (double)w->curves[i].d;
    return sum;
}

/* What biases cost that modules would gain. */
static double new_biases(const work *w) {
    double sum = 0.0;
    for (size_t i = 0; i < w->targets.n; i++)
        if (w->jobs[i].affine && !lt_has_bias(w->jobs[i].linear)) sum += w->curves[i].unit * (double)w->curves[i].m;
    return sum;
}

static lt_status choose_ranks(work *w, double budget, double keep, lt_err *err) {
    const lt_plan_in *in = w->in;
    if (w->mode->choose) {
        const lt_choose_in c = { in, w->mode, &w->targets, w->curves };
        w->note = json_object();
        return w->note ? w->mode->choose(w->rank, w->note, &c, err) : lt_fail(err, LT_ENOMEM, "plan: out of memory");
    }
    LT_TRY(base_ranks(w, err));
    if (!w->base) {
        const double gained = new_biases(w);
        return allocate(w, budget - gained, keep - gained / dense_cost(w), err);
    }
    memcpy(w->rank, w->base, w->targets.n * sizeof *w->rank);
    if (!in->allocate) return LT_OK;
    const lt_alloc_in of = { .curve = w->curves, .n = w->targets.n };
    const double cost = lt_alloc_cost(&of, w->base);
    return allocate(w, cost, cost / dense_cost(w), err);
}

lt_status lt_plan_lowrank(lt_plan *p, const lt_plan_in *in, const lt_lowrank_mode *mode, lt_err *err) {
    work w;
    double budget = 0.0, keep = 0.0;
    lt_status st;
    LT_TRY(check_sources(in, mode, err));
    LT_TRY(check_without_errors(in, mode, err));
    LT_GO(work_init(&w, in, mode, err));
    if (lt_budget_given(&in->budget)) {
        LT_GO(lt_targets_budget(&budget, &keep, &w.targets, in, err));
        if (keep >= 1.0) goto done; /* nothing has to go */
    }
    LT_GO(make_curves(&w, err));
    if (in->frontier) {
        st = frontier(&w, err);
        goto done;
    }
    LT_GO(choose_ranks(&w, budget, keep, err));
    st = add_cuts(p, &w, err);
done:
    work_clear(&w);
    return st;
}
