/* SPDX-License-Identifier: Apache-2.0 */
/* The default: MLPs lose channels, attention loses rank only where the budget is small, and what is written to the
 * residual stream is refitted, layer after layer, to what that stream has lost (docs/methods/lathe.md).
 *
 * Factors of rank r cost r(m + d): to save a fifth, a square matrix must lose three fifths of its rank. A channel that
 * goes takes a row of gate, a row of up and a column of down with it and nothing is paid for what stays. */
#include <math.h>
#include <string.h>

#include "compress/channels.h"
#include "compress/lowrank_method.h"
#include "compress/module_weight.h"
#include "compress/targets.h"

extern const lt_method lt_method_lathe;

static const lt_method_param params[] = {
    { "drift", "choice", "site", 0, 0, "site|block",
      "site: one pass of the text for each input of linears; block: one pass a layer" },
    { "target", "choice", "residual", 0, 0, "drift|residual",
      "residual: o and down also make up for what the residual stream has lost; drift: the original's outputs" },
    { "ridge", "real", "1e-4", 0, 1, NULL, "pull to the original weight, relative to the inputs' mean square" },
    { "attention", "choice", "auto", 0, 0, "auto|keep|cut",
      "keep: only MLPs are cut; cut: attention keeps as much as they do, and a little more; auto: cut below half" },
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "sum", "gram", NULL };

enum { MLP_SLOTS = 1u << LT_SLOT_GATE | 1u << LT_SLOT_UP | 1u << LT_SLOT_GATE_UP | 1u << LT_SLOT_DOWN };
#define HEADROOM 0.3                   /* attention keeps this much more of itself than the MLPs: it pays for factors */
#define WORTH_CUTTING 0.85             /* above it factors lose more than they save */
enum { WIDTH_STEP = 32, COARSE = 16 }; /* widths that blocks of 32 weights divide, where that is a small step */

typedef struct mlp {
    size_t layer, d_ff, d; /* d: of down's output */
    const lt_linear *down;
    double channel; /* what one costs */
} mlp;
typedef struct work {
    const lt_plan_in *in;
    mlp *mlps;
    size_t n_mlps, width;
    double mlp_cost, other_cost; /* of all targets, dense */
    size_t **index;              /* [n_mlps] */
    double *rel_error;
} work;

static void work_clear(work *w) {
    for (size_t i = 0; w->index && i < w->n_mlps; i++) lt_free(w->index[i]);
    lt_free(w->index);
    lt_free(w->rel_error);
    lt_free(w->mlps);
}

static const char *param(const work *w, const char *name) {
    return lt_method_choice(&lt_method_lathe, w->in->params, name);
}

static double number(const work *w, const char *name) {
    return lt_method_number(&lt_method_lathe, w->in->params, name);
}

/* ---- what there is to cut ---- */

static double cost_of(const lt_linear *l, const lt_plan_in *in) {
    return lt_target_unit(l, in->budget.of) * (double)lt_tensor_count(&l->stage[0].w.t);
}

/* Of a layer's MLP, whether its linears are targets or not. */
static double whole_cost(const lt_plan_in *in, size_t layer) {
    double cost = 0.0;
    for (int s = 0; s < LT_N_LINEAR_SLOTS; s++) {
        const lt_linear *l = &in->model->layer[layer].linear[s];
        if ((MLP_SLOTS >> s & 1u) && lt_linear_present(l)) cost += cost_of(l, in);
    }
    return cost;
}

/* MLPs all of whose linears, or parts of them, are targets. */
static lt_status find_mlps(work *w, const lt_targets *t, lt_err *err) {
    const lt_model *m = w->in->model;
    w->mlps = lt_calloc(m->config.n_layers + 1, sizeof *w->mlps);
    if (!w->mlps) return lt_fail(err, LT_ENOMEM, "plan: no memory for %zu layers", m->config.n_layers);
    for (size_t layer = 0; layer < m->config.n_layers; layer++) {
        double cost = 0.0;
        size_t n = 0;
        for (size_t i = 0; i < t->n; i++)
            if (t->module[i].layer == (int)layer && (MLP_SLOTS >> t->module[i].slot & 1u))
                n++, cost += cost_of(t->module[i].linear, w->in);
        if (n == 0 || cost != whole_cost(w->in, layer)) continue;
        const lt_linear *down = &m->layer[layer].linear[LT_SLOT_DOWN];
        const size_t d_ff = m->config.layer[layer].d_ff;
        w->mlps[w->n_mlps++] = (mlp){ layer, d_ff, lt_linear_out(down), down, cost / (double)d_ff };
        w->mlp_cost += cost;
    }
    for (size_t i = 0; i < t->n; i++) w->other_cost += cost_of(t->module[i].linear, w->in);
    w->other_cost -= w->mlp_cost;
    return LT_OK;
}

/* ---- the budget ---- */

/* What attention keeps of itself: x and x - HEADROOM of the MLPs, or all. */
static double attention_keep(const work *w, double budget) {
    const double all = w->mlp_cost + w->other_cost, mlps_alone = (budget - w->other_cost) / w->mlp_cost;
    const char *how = param(w, "attention");
    const double shared = (budget + HEADROOM * w->mlp_cost) / all;
    if (w->other_cost == 0.0 || strcmp(how, "keep") == 0) return 1.0;
    if (strcmp(how, "auto") == 0 && mlps_alone >= 0.5) return 1.0;
    return shared < WORTH_CUTTING ? fmax(shared, 0.0) : 1.0;
}

/* Layers must agree: stock loaders know one width. */
static lt_status choose_width(work *w, double budget, lt_err *err) {
    double channel = 0.0;
    for (size_t i = 0; i < w->n_mlps; i++) {
        channel += w->mlps[i].channel;
        if (w->mlps[i].d_ff != w->mlps[0].d_ff)
            return lt_fail(err, LT_EUNSUPPORTED, "layers differ in d_ff (%zu in layer %zu, %zu in layer %zu)",
                           w->mlps[0].d_ff, w->mlps[0].layer, w->mlps[i].d_ff, w->mlps[i].layer);
    }
    const size_t d_ff = w->mlps[0].d_ff;
    const double most = floor(budget / channel + 1e-9);
    const size_t step = w->in->align > 1 ? w->in->align : d_ff >= COARSE * WIDTH_STEP ? WIDTH_STEP : 1;
    if (most < 1.0)
        return lt_fail(
            err, LT_ETARGET, "keep %s=%.6g cannot be met: a single channel in every MLP still leaves %.0f too much",
            lt_budget_name(w->in->budget.of),
            w->in->budget.fraction > 0.0 ? w->in->budget.fraction : w->in->budget.absolute, channel - budget);
    w->width = lt_min_size((size_t)most, d_ff);
    if (w->width > step) w->width -= w->width % step;
    return LT_OK;
}

/* ---- channels ---- */

static lt_status select_channels(void *user, size_t i, lt_err *err) {
    work *w = user;
    const mlp *l = &w->mlps[i];
    lt_stats_site site;
    const double *gram;
    double *weight = lt_calloc(l->d * l->d_ff, sizeof *weight);
    lt_status st;
    w->index[i] = lt_calloc(w->width, sizeof **w->index);
    if (!weight || !w->index[i]) LT_GO(lt_fail(err, LT_ENOMEM, "no memory for %zu channels", l->d_ff));
    if (!lt_stats_site_of(w->in->stats, l->down->name, &site) || site.cols != l->d_ff)
        LT_GO(lt_fail(err, LT_EDATA, "the stats have no site of %zu columns that feeds this module", l->d_ff));
    LT_GO(lt_stats_values(&gram, w->in->stats, site.name, "gram", err));
    LT_GO(lt_module_weight(weight, l->down, err));
    LT_GO(lt_channels_select(w->index[i], &w->rel_error[i], w->width, l->d, l->d_ff, weight, gram, err));
    lt_stats_drop(w->in->stats, site.name);
done:
    lt_free(weight);
    return st == LT_OK ? LT_OK : lt_context(err, st, "%s", l->down->name);
}

/* "0-2,5" */
static char *index_text(const size_t *index, size_t n) {
    char *text = lt_strdup("");
    for (size_t i = 0; i < n && text;) {
        size_t j = i;
        while (j + 1 < n && index[j + 1] == index[j] + 1) j++;
        char *more = i == j ? lt_asprintf("%s%s%zu", text, i ? "," : "", index[i])
                            : lt_asprintf("%s%s%zu-%zu", text, i ? "," : "", index[i], index[j]);
        lt_free(text);
        text = more;
        i = j + 1;
    }
    return text;
}

static lt_status add_cut(lt_plan *p, const work *w, size_t i, lt_err *err) {
    const bool residual =
        strcmp(param(w, "target"), "residual") == 0 && w->in->model->config.block.place == LT_NORM_PRE;
    char *index = index_text(w->index[i], w->width);
    json_t *cut =
        index ? json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:f, s:f}", "kind", "keep", "axis", "d_ff", "layer",
                          (json_int_t)w->mlps[i].layer, "index", index, "refit", residual ? "residual" : "drift",
                          "pass", param(w, "drift"), "ridge", number(w, "ridge"), "rel_error", w->rel_error[i])
              : NULL;
    lt_free(index);
    return cut ? lt_plan_add(p, cut, err)
               : lt_fail(err, LT_ENOMEM, "plan: no memory for a cut (layer %zu)", w->mlps[i].layer);
}

static lt_status cut_mlps(lt_plan *p, work *w, double budget, lt_err *err) {
    LT_TRY(choose_width(w, budget, err));
    if (w->width == w->mlps[0].d_ff) return LT_OK;
    w->index = lt_calloc(w->n_mlps, sizeof *w->index);
    w->rel_error = lt_calloc(w->n_mlps, sizeof *w->rel_error);
    if (!w->index || !w->rel_error) return lt_fail(err, LT_ENOMEM, "plan: no memory for %zu layers", w->n_mlps);
    LT_TRY(lt_progress(w->in->ctx, err, "plan", 0.0, (double)w->n_mlps, "layers"));
    LT_TRY(lt_team_for(w->in->team, w->n_mlps, select_channels, w, err));
    for (size_t i = 0; i < w->n_mlps; i++) LT_TRY(add_cut(p, w, i, err));
    return lt_progress(w->in->ctx, err, "plan", (double)w->n_mlps, (double)w->n_mlps, "layers");
}

/* ---- attention, and whatever is not in an MLP that can be cut ---- */

static lt_status cut_ranks(lt_plan *p, const work *w, double spare, lt_err *err) {
    const lt_lowrank_mode mode = { .ranks = { .metric = LT_METRIC_INPUT },
                                   .fit = { .metric = LT_METRIC_INPUT },
                                   .affine = true,
                                   .balance = "auto",
                                   .target = param(w, "target"),
                                   .pass = param(w, "drift"),
                                   .ridge = number(w, "ridge") };
    lt_plan_in in = *w->in;
    if (w->n_mlps) {
        const double head = in.include_head ? (double)lt_tensor_count(&in.model->head.stage[0].w.t) : 0.0;
        in.slots = ~(unsigned)MLP_SLOTS;
        in.budget = (lt_budget){ .of = LT_BUDGET_LINEARS,
                                 .absolute = (double)lt_model_n_linear_params(in.model) + head - spare };
    }
    return lt_plan_lowrank(p, &in, &mode, err);
}

static lt_status check_memory(const work *w, lt_err *err) {
    const size_t limit = w->in->ctx ? w->in->ctx->max_memory : 0;
    if (!limit || !w->n_mlps) return LT_OK;
    const mlp *l = &w->mlps[0];
    const size_t need = lt_current_rss_bytes() +
                        (size_t)w->in->team->threads * (lt_channels_scratch_bytes(l->d, l->d_ff) +
                                                        sizeof(double) * (l->d * l->d_ff + l->d_ff * l->d_ff / 2));
    if (need <= limit) return LT_OK;
    return lt_fail(err, LT_ENOMEM, "plan: needs %zu MB, the limit is %zu MB: %zu MB short; fewer threads need less",
                   need >> 20, limit >> 20, ((need - limit) >> 20) + 1);
}

static lt_status make(lt_plan *p, work *w, double budget, lt_err *err) {
    if (w->n_mlps == 0) return cut_ranks(p, w, 0.0, err);
    const double keep = attention_keep(w, budget), spare = (1.0 - keep) * w->other_cost;
    if (keep < 1.0) {
        const lt_linear *any = w->mlps[0].down;
        LT_TRY(cut_ranks(p, w, spare / lt_target_unit(any, w->in->budget.of), err));
    }
    LT_TRY(check_memory(w, err));
    return cut_mlps(p, w, budget - (w->other_cost - spare), err);
}

static lt_status check_asked(const lt_plan_in *in, lt_err *err) {
    LT_REQUIRE(err, !in->ranks, "method lathe chooses widths by the budget: a file of ranks is for low-rank methods");
    LT_REQUIRE(err, lt_budget_given(&in->budget), "method lathe needs a budget: --keep");
    LT_REQUIRE(err, !in->without_errors, "method lathe chooses channels by their errors: it cannot leave errors out");
    return in->frontier ? lt_fail(err, LT_EUNSUPPORTED,
                                  "method lathe has no curve of errors by rank: --frontier is for low rank")
                        : LT_OK;
}

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    work w = { .in = in };
    lt_targets targets = { 0 };
    double budget = 0.0, keep = 0.0;
    lt_status st;
    LT_GO(check_asked(in, err));
    LT_GO(lt_targets_select(&targets, in, err));
    LT_GO(lt_targets_budget(&budget, &keep, &targets, in, err));
    if (keep >= 1.0) goto done; /* nothing has to go */
    LT_GO(find_mlps(&w, &targets, err));
    st = make(p, &w, budget, err);
done:
    work_clear(&w);
    lt_free(targets.module);
    return st;
}

const lt_method lt_method_lathe = { "lathe",
                                    "fewer MLP channels, refitted to what the residual stream has lost",
                                    "optimal brain surgeon on columns; drift compensation (docs/methods/lathe.md)",
                                    params,
                                    { needs, true, false },
                                    plan,
                                    NULL };
