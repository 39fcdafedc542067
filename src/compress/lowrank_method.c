/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/lowrank_method.h"

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
    if (j->metric == LT_METRIC_WEIGHT || !lt_stats_site_of(stats, j->linear->name, &site)) return !(j->total > 0.0);
    return !(j->total > 1e-20 * lt_stats_count(stats, site.name) * j->weight_norm2);
}

static lt_status make_curves(work *w, lt_err *err) {
    const lt_plan_in *in = w->in;
    for (size_t i = 0; i < w->targets.n; i++) {
        const lt_linear *l = w->targets.module[i].linear;
        const size_t m = lt_linear_out(l), d = lt_linear_in(l);
        lt_lowrank_job *j = &w->jobs[i];
        *j = (lt_lowrank_job){ .linear = l, .metric = w->mode->metric, .affine = w->mode->affine && lt_has_bias(l) };
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
    json_t *cut = json_pack("{s:s, s:s, s:I, s:s, s:s, s:b, s:s, s:f}", "kind", "rank", "module", j->linear->name,
                            "rank", (json_int_t)w->rank[i], "metric", lt_metric_name(j->metric), "target", "original",
                            "affine", (int)j->affine, "balance", balance_name_of(w, j->linear), "rel_error", rel_error);
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

static lt_status add_cuts(lt_plan *p, const work *w, lt_err *err) {
    double mean = 0.0;
    for (size_t i = 0; i < w->targets.n; i++) {
        if (w->rank[i] == 0) continue;
        const double rel_error = tail_of(&w->curves[i], w->rank[i]) / w->curves[i].total;
        mean += rel_error / (double)w->targets.n;
        LT_TRY(add_cut(p, w, i, rel_error, err));
    }
    json_t *cost = json_pack("{s:{s:f}}", "predicted", "rel_error", mean);
    if (!cost || json_object_set_new(p->head, "cost", cost) != 0) return lt_fail(err, LT_ENOMEM, "plan: out of memory");
    return note_dead(p, w, err);
}

lt_status lt_plan_lowrank(lt_plan *p, const lt_plan_in *in, const lt_lowrank_mode *mode, lt_err *err) {
    work w;
    double budget = 0.0, keep = 0.0;
    lt_status st;
    LT_GO(work_init(&w, in, mode, err));
    LT_GO(lt_targets_budget(&budget, &keep, &w.targets, in, err));
    if (keep >= 1.0) goto done; /* nothing has to go */
    LT_GO(make_curves(&w, err));
    LT_GO(allocate(&w, budget, keep, err));
    st = add_cuts(p, &w, err);
done:
    work_clear(&w);
    return st;
}
