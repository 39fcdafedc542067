/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/lowrank_method.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "compress/batch.h"
#include "compress/module_weight.h"
#include "compress/targets.h"

/* One method at work. */
typedef struct work {
    const lt_plan_in *in;
    const lt_lowrank_mode *mode;
    lt_targets targets;
    lt_lowrank_job *jobs; /* [targets.n] */
    lt_curve *curves;
    size_t *rank;
} work;

static void work_clear(work *w) {
    for (size_t i = 0; w->jobs && i < w->targets.n; i++) lt_free(w->jobs[i].lambda);
    lt_free(w->jobs);
    lt_free(w->curves);
    lt_free(w->rank);
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
    if (lt_metric_get(j->how.metric)->form != LT_FORM_GRAM || j->how.left ||
        !lt_stats_site_of(stats, j->linear->name, &site))
        return !(j->total > 0.0);
    return !(j->total > 1e-20 * lt_stats_count(stats, site.name) * j->weight_norm2);
}

static lt_status make_curves(work *w, lt_err *err) {
    const lt_plan_in *in = w->in;
    for (size_t i = 0; i < w->targets.n; i++) {
        const lt_linear *l = w->targets.module[i].linear;
        const size_t m = lt_linear_out(l), d = lt_linear_in(l);
        lt_lowrank_job *j = &w->jobs[i];
        *j = (lt_lowrank_job){ .linear = l, .how = w->mode->ranks, .affine = w->mode->affine && lt_has_bias(l) };
        j->lambda = lt_calloc(lt_min_size(m, d), sizeof(double));
        if (!j->lambda) return lt_fail(err, LT_ENOMEM, "plan: no memory for the spectrum (%s)", l->name);
    }
    const lt_batch_in batch = { in->stats, in->team, in->ctx, "plan", NULL, NULL };
    LT_TRY(lt_lowrank_batch(w->jobs, w->targets.n, &batch, err));
    for (size_t i = 0; i < w->targets.n; i++) {
        const lt_lowrank_job *j = &w->jobs[i];
        const size_t m = lt_linear_out(j->linear), d = lt_linear_in(j->linear);
        w->curves[i] = (lt_curve){ j->linear->name,
                                   m,
                                   d,
                                   lt_min_size(m, d),
                                   j->lambda,
                                   is_dead(j, in->stats) ? 0.0 : j->total,
                                   lt_break_even_rank(m, d),
                                   lt_target_unit(j->linear, in->budget.of) };
    }
    return LT_OK;
}

static lt_status allocate(work *w, double budget, double keep, lt_err *err) {
    const lt_plan_in *in = w->in;
    const lt_allocator *how;
    LT_TRY(lt_allocator_find(&how, in->allocate ? in->allocate : "global", err));
    const lt_alloc_in a = { w->curves,
                            w->targets.n,
                            budget,
                            keep,
                            in->weights ? in->weights : "relative",
                            in->floor,
                            in->allow_dense,
                            lt_max_size(in->align, 1) };
    return how->allocate(w->rank, &a, NULL, err);
}

static double tail_of(const lt_curve *c, size_t rank) {
    double sum = 0.0;
    for (size_t i = c->n; i > rank; i--) sum += c->lambda[i - 1];
    return sum;
}

static const char *balance_name_of(const work *w, const lt_linear *l) {
    if (strcmp(w->mode->balance, "auto") != 0) return w->mode->balance;
    return lt_balance_name(lt_dtype_get(lt_factor_dtype(l))->bytes <= 2 ? LT_BALANCE_BALANCED : LT_BALANCE_ORTH);
}

static lt_status add_cut(lt_plan *p, const work *w, size_t i, double rel_error, lt_err *err) {
    const lt_lowrank_job *j = &w->jobs[i];
    const lt_lowrank_how *how = &w->mode->fit;
    json_t *cut = json_pack("{s:s, s:s, s:I, s:s, s:s, s:b, s:s, s:f}", "kind", "rank", "module", j->linear->name,
                            "rank", (json_int_t)w->rank[i], "metric", lt_metric_name(how->metric), "target", "original",
                            "affine", (int)j->affine, "balance", balance_name_of(w, j->linear), "rel_error", rel_error);
    if (how->metric == LT_METRIC_ABS) json_object_set_new(cut, "alpha", json_real(how->alpha));
    if (how->left) json_object_set_new(cut, "left", json_string("output_grad"));
    if (how->left) json_object_set_new(cut, "damping", json_real(how->damping));
    if (how->rest) json_object_set_new(cut, "rows", json_string("rest"));
    return cut ? lt_plan_add(p, cut, err) : lt_fail(err, LT_ENOMEM, "plan: no memory for a cut (%s)", j->linear->name);
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

/* Where the curve's tail is not the error on the outputs (another metric gave the ranks, or the fit is not the optimum
 * of its own) and the stats can tell it, the fits are made and measured. */
static bool must_measure(const work *w, size_t i) {
    const lt_lowrank_how *fit = &w->mode->fit, *ranks = &w->mode->ranks;
    lt_stats_site site;
    const bool same = fit->metric == ranks->metric && fit->rest == ranks->rest &&
                      lt_metric_get(fit->metric)->exact_tail && fit->metric != LT_METRIC_ABS && !fit->left;
    return !same && w->rank[i] && w->in->stats && lt_stats_site_of(w->in->stats, w->jobs[i].linear->name, &site) &&
           lt_stats_have(w->in->stats, site.name, "gram");
}

static lt_status measure(double *rel_error, const work *w, lt_err *err) {
    lt_lowrank_job *jobs = lt_calloc(w->targets.n + 1, sizeof *jobs);
    size_t n = 0;
    if (!jobs) return lt_fail(err, LT_ENOMEM, "plan: no memory for %zu modules", w->targets.n);
    for (size_t i = 0; i < w->targets.n; i++)
        if (must_measure(w, i))
            jobs[n++] = (lt_lowrank_job){
                .linear = w->jobs[i].linear, .how = w->mode->fit, .rank = w->rank[i], .measure = true
            };
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

static lt_status add_cuts(lt_plan *p, const work *w, lt_err *err) {
    double mean = 0.0, *rel_error = lt_calloc(w->targets.n + 1, sizeof *rel_error);
    if (!rel_error) return lt_fail(err, LT_ENOMEM, "plan: no memory for %zu modules", w->targets.n);
    for (size_t i = 0; i < w->targets.n; i++)
        if (w->rank[i]) rel_error[i] = tail_of(&w->curves[i], w->rank[i]) / w->curves[i].total;
    lt_status st = measure(rel_error, w, err);
    for (size_t i = 0; st == LT_OK && i < w->targets.n; i++) {
        if (w->rank[i] == 0) continue;
        mean += rel_error[i] / (double)w->targets.n;
        st = add_cut(p, w, i, rel_error[i], err);
    }
    lt_free(rel_error);
    if (st != LT_OK) return st;
    json_t *cost = json_pack("{s:{s:f}}", "predicted", "rel_error", mean);
    if (!cost || json_object_set_new(p->head, "cost", cost) != 0) return lt_fail(err, LT_ENOMEM, "plan: out of memory");
    return note_dead(p, w, err);
}

/* ---- ranks by energy (spec §2, §3.2, §3.3) ---- */

/* The least k with cum_k >= e; e >= 1: the numerical rank. */
static size_t energy_rank(const lt_curve *c, double e) {
    double sum = 0.0, cum = 0.0;
    size_t k = 0;
    for (size_t i = 0; i < c->n; i++) sum += c->lambda[i];
    if (e >= 1.0) {
        while (k < c->n && c->lambda[k] > (double)c->n * DBL_EPSILON * c->lambda[0]) k++;
        return lt_max_size(k, 1);
    }
    for (; k < c->n; k++)
        if ((cum += c->lambda[k]) >= e * fmax(sum, 1e-12)) return k + 1;
    return c->n;
}

static size_t floor_rank(const lt_curve *c, size_t r_min) {
    return r_min ? r_min : lt_max_size(16, (size_t)(0.02 * (double)lt_min_size(c->m, c->d)));
}

/* 0, dense, where that rank does not save. */
static void ranks_by_energy(work *w) {
    for (size_t i = 0; i < w->targets.n; i++) {
        const lt_curve *c = &w->curves[i];
        size_t r = lt_max_size(energy_rank(c, w->mode->energy), floor_rank(c, w->mode->r_min));
        if (w->in->align > 1) r = (r + w->in->align - 1) / w->in->align * w->in->align;
        w->rank[i] = c->total > 0.0 && r <= c->r_max ? r : 0;
    }
}

void lt_lowrank_mode_read(lt_lowrank_mode *mode, const lt_method *m, const lt_plan_in *in) {
    const char *guard = lt_method_choice(m, in->params, "guard");
    const bool apart = guard && in->stats && lt_stats_have_kind(in->stats, LT_STATS_FIRST);
    mode->balance = lt_method_choice(m, in->params, "balance");
    mode->energy = lt_method_number(m, in->params, "energy");
    mode->r_min = (size_t)lt_method_number(m, in->params, "r_min");
    mode->ranks.rest = apart && strcmp(guard, "off") != 0;
    mode->fit.rest = apart && strcmp(guard, "all") == 0;
}

static bool has_budget(const lt_plan_in *in) {
    return in->budget.fraction > 0.0 || in->budget.absolute > 0.0;
}

lt_status lt_plan_lowrank(lt_plan *p, const lt_plan_in *in, const lt_lowrank_mode *mode, lt_err *err) {
    work w;
    double budget = 0.0, keep = 1.0;
    lt_status st;
    LT_REQUIRE(err, has_budget(in) || mode->energy > 0.0,
               "plan: how much must be left? give --keep, or --param energy=0.99");
    LT_REQUIRE(err, !(has_budget(in) && mode->energy > 0.0), "plan: --keep and energy both decide the ranks: give one");
    LT_GO(work_init(&w, in, mode, err));
    if (has_budget(in)) {
        LT_GO(lt_targets_budget(&budget, &keep, &w.targets, in, err));
        if (keep >= 1.0) goto done; /* nothing has to go */
    }
    LT_GO(make_curves(&w, err));
    if (has_budget(in))
        LT_GO(allocate(&w, budget, keep, err));
    else
        ranks_by_energy(&w);
    st = add_cuts(p, &w, err);
done:
    work_clear(&w);
    return st;
}
