/* SPDX-License-Identifier: Apache-2.0 */
/* The cut "rank": one linear becomes two, y = A(Bx) + b with r(in + out) parameters. Fit: compress/lowrank.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "compress/batch.h"
#include "compress/cut_words.h"
#include "compress/drift.h"
#include "compress/fit_journal.h"
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
    const lt_apply_in *in;
    lt_lowrank_job *jobs;         /* [n_jobs] cuts that are still to be fitted */
    lt_module *module;            /* [n_jobs] */
    size_t *cut_of;               /* [n_jobs] places among the cuts */
    double *left;                 /* [n_cuts] what the fit left of the outputs' energy; NaN: its metric does not tell */
    size_t n_jobs, n_put, n_kept; /* n_put: in the overlay; n_kept: of those, in the journal */
    double kept_at;
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

static lt_status put_factors(const fit_state *s, const lt_lowrank_job *j, lt_err *err) {
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
    const lt_dtype dtype = dtype_of(l, s->in->dtype);
    const lt_status st = lt_overlay_factor(s->overlay, l->name, j->rank, j->a, j->b, bias, dtype, err);
    lt_free(bias);
    return st;
}

static double share_left(const lt_lowrank_job *j) {
    const bool tells = lt_metric_get(j->how.metric)->of_outputs && !j->how.left && !j->how.rest && j->total > 0.0;
    return tells ? j->error / j->total : NAN;
}

static void name_fit(char name[32], size_t cut) {
    snprintf(name, 32, "rank-%05zu", cut);
}

static lt_status keep_fits(fit_state *s, lt_err *err) {
    for (; s->n_kept < s->n_put; s->n_kept++) {
        char name[32];
        const size_t cut = s->cut_of[s->n_kept];
        const lt_module *mod = &s->module[s->n_kept];
        name_fit(name, cut);
        LT_TRY(lt_fit_journal_put(s->in->journal, name, s->overlay, &mod, 1, s->left[cut], err));
    }
    s->kept_at = lt_seconds();
    return LT_OK;
}

static lt_status put_chunk(void *user, const lt_lowrank_job *jobs, size_t n, lt_err *err) {
    fit_state *s = user;
    for (size_t i = 0; i < n; i++, s->n_put++) {
        LT_TRY(put_factors(s, &jobs[i], err));
        s->left[s->cut_of[s->n_put]] = share_left(&jobs[i]);
    }
    const bool due = s->in->journal && lt_seconds() - s->kept_at >= s->in->journal_seconds;
    return due ? keep_fits(s, err) : LT_OK;
}

/* A job, or what an unfinished call has made of it. */
static lt_status add_job(fit_state *s, size_t cut, const rank_cut *c, lt_err *err) {
    char name[32];
    lt_module *mod = &s->module[s->n_jobs];
    const lt_module *one = mod;
    bool found = false;
    if (!lt_model_find_module(s->in->model, c->module, mod))
        return lt_fail(err, LT_EDATA, "the model has no such linear (plan: %s)", c->module);
    name_fit(name, cut);
    if (s->in->journal)
        LT_TRY(lt_fit_journal_get(&found, &s->left[cut], s->in->journal, name, s->overlay, &one, 1, err));
    if (found) return LT_OK;
    s->jobs[s->n_jobs] = (lt_lowrank_job){ .linear = mod->linear,
                                           .how = c->how,
                                           .affine = c->affine,
                                           .rank = c->rank,
                                           .balance = balance_of(c, dtype_of(mod->linear, s->in->dtype)) };
    s->cut_of[s->n_jobs++] = cut;
    return LT_OK;
}

static void tell_errors(lt_fit_errors *errors, const double *left, size_t n) {
    for (size_t i = 0; errors && i < n; i++)
        if (!isnan(left[i])) errors->sum += left[i], errors->n++;
}

static lt_status fit_all(fit_state *s, const lt_cut *const *cuts, size_t n, lt_err *err) {
    const lt_batch_in batch = { s->in->stats, s->in->team, s->in->ctx, "apply", put_chunk, s };
    for (size_t i = 0; i < n; i++) {
        const rank_cut *c = cuts[i]->parsed;
        s->left[i] = NAN;
        if (!c->drift.on) LT_TRY(add_job(s, i, c, err));
    }
    if (s->n_jobs > 0) LT_TRY(lt_lowrank_batch(s->jobs, s->n_jobs, &batch, err));
    tell_errors(s->in->errors, s->left, n);
    return LT_OK;
}

static lt_status rank_fit(lt_overlay *o, const lt_cut *const *cuts, size_t n, const lt_apply_in *in, lt_err *err) {
    fit_state s = { .overlay = o, .in = in, .kept_at = lt_seconds() };
    s.jobs = lt_calloc(n + 1, sizeof *s.jobs);
    s.module = lt_calloc(n + 1, sizeof *s.module);
    s.cut_of = lt_calloc(n + 1, sizeof *s.cut_of);
    s.left = lt_calloc(n + 1, sizeof *s.left);
    const bool ready = s.jobs && s.module && s.cut_of && s.left;
    const lt_status st = ready ? fit_all(&s, cuts, n, err) : lt_fail(err, LT_ENOMEM, "no memory for %zu cuts", n);
    lt_free(s.jobs);
    lt_free(s.module);
    lt_free(s.cut_of);
    lt_free(s.left);
    return st;
}

extern const lt_cut_kind lt_cut_rank;
const lt_cut_kind lt_cut_rank = { "rank",      rank_parse, rank_clear,       rank_target, rank_check, rank_touches,
                                  rank_before, rank_after, rank_needs_stats, rank_fit,    rank_drift };
