/* SPDX-License-Identifier: Apache-2.0 */
/* The cut "rank": one linear becomes two, y = A(Bx) + b with r(in + out) parameters. Fit: compress/lowrank.h. */
#include <string.h>

#include "compress/batch.h"
#include "compress/cut_words.h"
#include "compress/drift.h"
#include "compress/lowrank_method.h"
#include "compress/module_weight.h"
#include "compress/plan.h"

typedef struct rank_cut {
    const char *module; /* in the cut's JSON */
    size_t rank;
    lt_lowrank_how how;
    bool affine, force;
    lt_cut_drift drift;  /* member "target" */
    const char *balance; /* NULL: by dtype */
    double rel_error;
} rank_cut;

static const char *module_of(const json_t *j) {
    const char *name = json_string_value(json_object_get(j, "module"));
    return name ? name : "?";
}

/* Words and numbers that say what errors are measured in. */
static lt_status read_how(lt_lowrank_how *how, const json_t *j, lt_err *err) {
    const char *where = "plan", *metric, *left, *rows;
    LT_TRY(lt_json_string(&metric, j, "metric", "input", where, err));
    LT_TRY(lt_json_string(&left, j, "left", "none", where, err));
    LT_TRY(lt_json_string(&rows, j, "rows", "all", where, err));
    LT_TRY(lt_json_double(&how->alpha, j, "alpha", 0.5, where, err));
    LT_TRY(lt_json_double(&how->damping, j, "damping", 0.0, where, err));
    if (!lt_metric_find(metric, &how->metric))
        return lt_fail(err, LT_EDATA, "unknown metric \"%s\" (weight, input, abs, input_biased, output, projected)",
                       metric);
    how->left = strcmp(left, "output_grad") == 0;
    how->rest = strcmp(rows, "rest") == 0;
    if (!how->left && strcmp(left, "none") != 0)
        return lt_fail(err, LT_EDATA, "unknown left metric \"%s\" (none, output_grad)", left);
    if (!how->rest && strcmp(rows, "all") != 0) return lt_fail(err, LT_EDATA, "unknown rows \"%s\" (all, rest)", rows);
    if (!(how->alpha >= 0.0 && how->alpha <= 8.0 && how->damping >= 0.0 && how->damping <= 1e6))
        return lt_fail(err, LT_EDATA, "alpha %g or damping %g is out of range", how->alpha, how->damping);
    return LT_OK;
}

static lt_status read_cut(rank_cut *c, const json_t *j, lt_err *err) {
    static const char *const known[] = { "kind",    "module",  "rank",      "metric", "target",
                                         "affine",  "balance", "pass",      "alpha",  "left",
                                         "damping", "rows",    "rel_error", "force",  "ridge" };
    const char *where = "plan";
    lt_balance balance;
    json_t *module;
    LT_TRY(lt_cut_check_members(j, known, LT_COUNTOF(known), err));
    LT_TRY(lt_json_need(&module, j, "module", where, err));
    LT_TRY(lt_json_string(&c->module, j, "module", NULL, where, err));
    LT_TRY(lt_json_size(&c->rank, j, "rank", 0, where, err));
    LT_TRY(read_how(&c->how, j, err));
    LT_TRY(lt_json_string(&c->balance, j, "balance", NULL, where, err));
    LT_TRY(lt_json_bool(&c->affine, j, "affine", false, where, err));
    LT_TRY(lt_json_bool(&c->force, j, "force", false, where, err));
    LT_TRY(lt_json_double(&c->rel_error, j, "rel_error", 0.0, where, err));
    if (!c->module || !*c->module) return lt_fail(err, LT_EDATA, "needs the name of a module");
    if (c->rank < 1) return lt_fail(err, LT_EDATA, "needs a rank of at least 1");
    LT_TRY(lt_cut_read_drift(&c->drift, j, "target", "original", err));
    if (c->drift.on && (c->how.metric != LT_METRIC_INPUT || c->how.left || c->how.rest))
        return lt_fail(err, LT_EDATA, "target \"%s\" needs metric \"input\"", c->drift.residual ? "residual" : "drift");
    if (c->balance && !lt_balance_find(c->balance, &balance))
        return lt_fail(err, LT_EDATA, "unknown balance \"%s\" (orth, balanced)", c->balance);
    if (c->affine && !lt_metric_get(c->how.metric)->may_centre)
        return lt_fail(err, LT_EDATA, "affine needs metric \"input\"");
    return LT_OK;
}

static void rank_clear(lt_cut *cut) {
    lt_free(cut->parsed);
    cut->parsed = NULL;
}

static lt_status rank_parse(lt_cut *cut, lt_err *err) {
    rank_cut *c = lt_calloc(1, sizeof *c);
    if (!c) return lt_fail(err, LT_ENOMEM, "no memory for a cut");
    cut->parsed = c;
    const lt_status st = read_cut(c, cut->json, err);
    if (st == LT_OK) return LT_OK;
    rank_clear(cut);
    return lt_context(err, st, "rank cut of \"%s\"", module_of(cut->json));
}

static const char *rank_target(const lt_cut *cut) {
    return ((const rank_cut *)cut->parsed)->module;
}

static bool rank_needs_stats(const lt_cut *cut) {
    const rank_cut *c = cut->parsed;
    return !c->drift.on && (lt_metric_get(c->how.metric)->form != LT_FORM_NONE || c->how.left);
}

static bool rank_drift(const lt_cut *cut, const lt_model *m, struct lt_drift_item *item) {
    const rank_cut *c = cut->parsed;
    *item = (lt_drift_item){ .rank = c->rank,
                             .residual = c->drift.residual,
                             .affine = c->affine,
                             .block = c->drift.block,
                             .ridge = c->drift.ridge,
                             .balance = c->balance };
    return c->drift.on && lt_model_find_module(m, c->module, &item->module);
}

static lt_status check_head(const lt_module *mod, const lt_model *m, lt_err *err) {
    if (mod->slot != LT_SLOT_HEAD || !m->config.tied) return LT_OK;
    return lt_fail(err, LT_EUNSUPPORTED, "the head is tied to the embedding: factoring it would add parameters (%s)",
                   mod->linear->name);
}

static lt_status rank_check(const lt_cut *cut, const lt_model *m, lt_err *err) {
    const rank_cut *c = cut->parsed;
    lt_module mod;
    LT_TRY(lt_find_linear(&mod, m, c->module, "plan", err));
    LT_TRY(check_head(&mod, m, err));
    if (c->drift.on && mod.layer < 0)
        return lt_fail(err, LT_EUNSUPPORTED, "only modules of the layers can be fitted to drifted inputs (plan: %s)",
                       c->module);
    if (c->drift.residual && !lt_adds_to_residual(&mod, m))
        return lt_fail(
            err, LT_EUNSUPPORTED,
            "target \"residual\" is for outputs that are added to the residual stream as they are (plan: %s)",
            c->module);
    LT_TRY(lt_check_dense(mod.linear, err));
    const size_t out = lt_linear_out(mod.linear), in = lt_linear_in(mod.linear), best = lt_break_even_rank(out, in);
    if (c->rank > lt_min_size(out, in))
        return lt_fail(err, LT_EDATA, "rank %zu of a %zu x %zu matrix (plan: %s)", c->rank, out, in, c->module);
    if (c->rank > best && !c->force)
        return lt_fail(err, LT_EDATA,
                       "rank %zu saves nothing: %zu x %zu breaks even at %zu; \"force\": true allows it (plan: %s)",
                       c->rank, out, in, best, c->module);
    return LT_OK;
}

static bool rank_touches(const lt_cut *cut, const lt_module *m) {
    return lt_module_named(m, rank_target(cut));
}

static lt_cost cost_of(const lt_module *mod, double weights, double biases, double bytes) {
    return (lt_cost){ weights + biases, mod->layer >= 0 ? weights : 0.0, bytes };
}

static lt_cost rank_before(const lt_cut *cut, const lt_model *m) {
    lt_module mod;
    if (!lt_model_find_module(m, rank_target(cut), &mod)) return (lt_cost){ 0 };
    const lt_linear *l = mod.linear;
    const double bias = lt_has_bias(l) ? (double)lt_tensor_count(&l->bias.t) : 0.0,
                 bias_bytes = lt_has_bias(l) ? (double)lt_tensor_bytes(&l->bias.t) : 0.0;
    return cost_of(&mod, (double)lt_tensor_count(&l->stage[0].w.t), bias,
                   (double)lt_tensor_bytes(&l->stage[0].w.t) + bias_bytes);
}

static lt_cost rank_after(const lt_cut *cut, const lt_model *m) {
    const rank_cut *c = cut->parsed;
    lt_module mod;
    if (!lt_model_find_module(m, c->module, &mod)) return (lt_cost){ 0 };
    const size_t out = lt_linear_out(mod.linear), in = lt_linear_in(mod.linear);
    const double bias = lt_has_bias(mod.linear) || c->affine ? (double)out : 0.0,
                 weights = (double)c->rank * (double)(out + in);
    const double each = (double)lt_dtype_get(lt_factor_dtype(mod.linear))->bytes;
    return cost_of(&mod, weights, bias, (weights + bias) * each);
}

/* ---- fitting ---- */

typedef struct fit_state {
    lt_overlay *overlay;
    lt_dtype dtype;
    lt_fit_errors *errors; /* NULL: nobody asks */
} fit_state;

static lt_dtype dtype_of(const lt_linear *l, lt_dtype asked) {
    return asked == LT_N_DTYPES ? lt_factor_dtype(l) : asked;
}

/* Spec §5.3: two factors of equal size round best in 16 bits; else the orthonormal form. */
static lt_balance balance_of(const rank_cut *c, lt_dtype dtype) {
    lt_balance b = lt_dtype_get(dtype)->bytes <= 2 ? LT_BALANCE_BALANCED : LT_BALANCE_ORTH;
    if (c->balance) lt_balance_find(c->balance, &b);
    return b;
}

static lt_status put_factors(void *user, const lt_lowrank_job *j, lt_err *err) {
    const fit_state *s = user;
    const lt_linear *l = j->linear;
    const size_t m = lt_linear_out(l);
    double *bias = NULL;
    if (j->affine) {
        bias = lt_calloc(m, sizeof *bias);
        if (!bias) return lt_fail(err, LT_ENOMEM, "no memory for a bias (%s)", l->name);
        const lt_status st = lt_module_bias(bias, l, err);
        if (st != LT_OK) return lt_free(bias), st;
        for (size_t i = 0; i < m; i++) bias[i] += j->bias_delta[i];
    }
    const lt_status st = lt_overlay_factor(s->overlay, l->name, j->rank, j->a, j->b, bias, dtype_of(l, s->dtype), err);
    lt_free(bias);
    if (s->errors && lt_metric_get(j->how.metric)->of_outputs && !j->how.left && !j->how.rest && j->total > 0.0)
        s->errors->sum += j->error / j->total, s->errors->n++;
    return st;
}

static lt_status rank_fit(lt_overlay *o, const lt_cut *const *cuts, size_t n, const lt_apply_in *in, lt_err *err) {
    lt_lowrank_job *jobs = lt_calloc(n + 1, sizeof *jobs);
    if (!jobs) return lt_fail(err, LT_ENOMEM, "no memory for %zu cuts", n);
    lt_status st = LT_OK;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        const rank_cut *c = cuts[i]->parsed;
        lt_module mod;
        if (c->drift.on) continue;
        if (!lt_model_find_module(in->model, c->module, &mod))
            LT_GO(lt_fail(err, LT_EDATA, "the model has no such linear (plan: %s)", c->module));
        jobs[k] = (lt_lowrank_job){ .linear = mod.linear, .how = c->how, .affine = c->affine, .rank = c->rank };
        jobs[k++].balance = balance_of(c, dtype_of(mod.linear, in->dtype));
    }
    fit_state s = { o, in->dtype, in->errors };
    const lt_batch_in batch = { in->stats, in->team, in->ctx, "apply", put_factors, &s };
    if (k) st = lt_lowrank_batch(jobs, k, &batch, err);
done:
    lt_free(jobs);
    return st;
}

extern const lt_cut_kind lt_cut_rank;
const lt_cut_kind lt_cut_rank = { "rank",      rank_parse, rank_clear,       rank_target, rank_check, rank_touches,
                                  rank_before, rank_after, rank_needs_stats, rank_fit,    rank_drift };
