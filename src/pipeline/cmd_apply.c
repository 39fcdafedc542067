/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_apply.c - model, plan and stats to a smaller model. */
#include "pipeline/commands.h"

#include <string.h>

#include "io/file.h"
#include "pipeline/calibration.h"
#include "pipeline/outdir.h"
#include "pipeline/planning.h"
#include "pipeline/produce.h"
#include "pipeline/result.h"

typedef struct applying {
    lt_call_ctx *c;
    lt_subject source;
    lt_plan plan;
    char plan_hash[LT_HASH_HEX];
    lt_stats *stats;
    lt_tokens tokens; /* where cuts are fitted to drifted inputs; else empty */
    json_t *settings;
    lt_outdir out;
    double started;
} applying;

static lt_status open_inputs(applying *x, lt_err *err) {
    const lt_args *a = x->c->args;
    const char *stats = lt_arg_string(a, "stats");
    LT_TRY(lt_plan_load(&x->plan, lt_arg_string(a, "plan"), err));
    LT_REQUIRE(err, stats || !lt_plan_needs_stats(&x->plan),
               "apply: the plan's cuts are fitted from stats: give --stats (%s)", lt_arg_string(a, "plan"));
    LT_TRY(lt_subject_open(&x->source, x->c, lt_arg_string(a, "model"), LT_ADAPT_MERGE, err));
    if (stats) LT_TRY(lt_stats_open(&x->stats, stats, x->c->team, err));
    LT_TRY(lt_plan_check(&x->plan, x->source.o.model, x->source.hash, x->stats, err));
    LT_TRY(lt_plan_cost(&x->plan, x->source.o.model, err));
    return lt_planning_hash(x->plan_hash, &x->plan, err);
}

/* Allowed, but hardly ever meant. */
static void warn_of_other_text(const applying *x) {
    const json_t *of = json_object_get(json_object_get(x->plan.head, "stats"), "tokens_hash");
    if (json_is_string(of) && strcmp(json_string_value(of), x->tokens.hash) != 0)
        lt_log(x->c->ctx, LT_LOG_WARN, "the text is not the one that the plan's stats are of, or is cut otherwise (%s)",
               x->tokens.source);
}

static lt_status read_text(applying *x, lt_err *err) {
    const lt_args *a = x->c->args;
    if (!lt_plan_needs_tokens(&x->plan, x->source.o.model)) return LT_OK;
    LT_REQUIRE(err, lt_arg_string(a, "data"),
               "apply: the plan's cuts are fitted to drifted inputs: give --data, the text it was calibrated with (%s)",
               lt_arg_string(a, "plan"));
    LT_TRY(lt_calibration_tokens(&x->tokens, x->c, &x->source, 0, err));
    warn_of_other_text(x);
    return LT_OK;
}

static lt_status make_settings(applying *x, lt_err *err) {
    x->settings = lt_settings_new(x->c);
    const int failed =
        !x->settings || json_object_set_new(x->settings, "model_hash", json_string(x->source.hash)) ||
        json_object_set_new(x->settings, "plan_hash", json_string(x->plan_hash)) ||
        json_object_set_new(x->settings, "stats_hash", x->stats ? json_string(lt_stats_hash(x->stats)) : json_null()) ||
        (x->tokens.n_ids && json_object_set_new(x->settings, "tokens_hash", json_string(x->tokens.hash)));
    return failed ? lt_fail(err, LT_ENOMEM, "apply: out of memory") : LT_OK;
}

static lt_status estimate(applying *x, json_t **result, lt_err *err) {
    lt_estimate e = { 0 };
    const json_t *bytes = json_object_get(json_object_get(x->plan.head, "cost"), "bytes");
    const bool drift = x->tokens.n_ids > 0;
    LT_TRY(lt_planning_estimate_fits(&e, x->c, x->source.o.model, drift ? NULL : &x->plan, err));
    if (drift) LT_TRY(lt_planning_add_drift(&e, x->source.o.model, &x->tokens, err));
    e.disk_bytes = (size_t)json_integer_value(json_array_get(bytes, 1));
    return lt_estimate_result(result, x->c, &e, err);
}

/* What the fits left of the outputs: the mean over those whose metric tells. */
static void add_errors(json_t *result, const lt_fit_errors *e) {
    static const char *const columns[] = { "modules fitted", "mean relative error" };
    if (e->n == 0) return;
    json_object_set_new(result, "fitted",
                        json_pack("{s:I, s:f}", "modules", (json_int_t)e->n, "rel_error", e->sum / (double)e->n));
    lt_result_row(lt_result_table(result, "", columns, LT_COUNTOF(columns)), "zd", e->n, e->sum / (double)e->n);
}

static lt_status report(const applying *x, const lt_produced *p, json_t **result, lt_err *err) {
    static const char *const columns[] = { "output", "verified by", "logit gap" };
    json_t *r = lt_result_new(x->c);
    json_object_update_new(
        r, json_pack("{s:{s:s, s:s}, s:{s:s, s:I, s:I}, s:{s:s, s:o}}", "source", "model", x->source.id, "hash",
                     x->source.hash, "model", "hash", p->hash, "params", (json_int_t)lt_model_n_params(p->model),
                     "bytes", (json_int_t)lt_model_bytes(p->model), "verified", "by",
                     "lathe's reader: every tensor, logits of a fixed batch", "logit_gap", lt_result_real(p->gap)));
    const lt_status st = lt_planning_report(r, &x->plan, x->source.o.model, err);
    if (st != LT_OK) {
        json_decref(r);
        return st;
    }
    add_errors(r, &p->errors);
    lt_result_row(lt_result_table(r, "", columns, LT_COUNTOF(columns)), "ssd", x->out.path, "lathe's reader", p->gap);
    return lt_result_finish(result, r, err);
}

static lt_status apply(applying *x, json_t **result, lt_err *err) {
    const lt_lineage l = { .c = x->c,
                           .settings = x->settings,
                           .parent = x->source.o.model,
                           .adapter = x->source.adapter,
                           .parent_hash = x->source.hash,
                           .tokenizer = x->source.o.tokenizer,
                           .plan = &x->plan,
                           .plan_hash = x->plan_hash,
                           .stats = x->stats,
                           .form = "ablinear" };
    lt_produced p;
    char *plan = NULL, *folder = NULL, *journal = NULL;
    json_t *r = NULL;
    lt_status st = lt_outdir_file(&plan, &x->out, "plan.json", err);
    if (st == LT_OK) st = lt_outdir_file(&folder, &x->out, "model", err);
    if (st == LT_OK) st = lt_outdir_file(&journal, &x->out, "layers", err);
    if (st == LT_OK) st = lt_produce_cut(&p, &l, lt_dtype_option(x->c->args), folder, &x->tokens, journal, err);
    if (st != LT_OK) goto kept;
    st = lt_plan_save(&x->plan, plan, err);
    if (st == LT_OK) st = lt_remove_tree(journal, err);
    if (st == LT_OK) st = report(x, &p, &r, err);
    if (st == LT_OK) st = lt_outdir_give(result, &x->out, x->c, r, x->started, err);
    lt_produced_clear(&p);
kept:
    lt_free(plan);
    lt_free(folder);
    lt_free(journal);
    return lt_outdir_kept(&x->out, st, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    applying x = { .c = c, .started = lt_seconds() };
    const char *output = lt_arg_string(c->args, "output");
    const bool only_estimate = lt_arg_flag(c->args, "estimate");
    if (!only_estimate) LT_TRY(lt_output_check(c, output, err));
    lt_status st = open_inputs(&x, err);
    if (st == LT_OK) st = read_text(&x, err);
    if (st == LT_OK && only_estimate)
        st = estimate(&x, result, err);
    else if (st == LT_OK) {
        st = make_settings(&x, err);
        if (st == LT_OK) st = lt_outdir_begin(&x.out, c, output, x.settings, err);
        if (st == LT_OK) {
            st = apply(&x, result, err);
            lt_outdir_close(&x.out);
        }
    }
    json_decref(x.settings);
    lt_tokens_clear(&x.tokens);
    lt_stats_close(x.stats);
    lt_plan_clear(&x.plan);
    lt_subject_clear(&x.source);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "the model that the plan was made for" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "plan", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "FILE", "what to cut" },
    { "stats", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE",
      "stats that the cuts are fitted from, where they need them" },
    { "data", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE",
      "text that cuts are fitted with where their target is drift or residual: what the plan was calibrated with" },
    LT_TEXT_OPTIONS,
    { "dtype", LT_OPT_STRING, NULL, 0, 0, LT_DTYPE_CHOICES, false, NULL,
      "of the written weights; default: as stored, GGUF block types as bf16" },
    { "output", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "DIR",
      "folder to make: model/, plan.json, result.json, command.txt" },
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_apply = {
    .name = "apply",
    .summary = "carry out a plan: a smaller model, opened again and verified",
    .details =
        "The work is done in DIR.partial and renamed when everything is written and verified: the same command after "
        "an interruption goes on behind the fits that are kept there, every ten seconds or every few modules, and ends "
        "with the same bytes. Plan, stats and model must belong together. Factors get the dtype of the module they "
        "replace. A mismatch between what was written and what was computed is exit code 8, with the output kept in "
        "DIR.partial.",
    .example = "lathe apply ./model --plan plan.json --stats model.stats.safetensors -o smaller",
    .positionals = positionals,
    .options = options,
    .run = run,
};
