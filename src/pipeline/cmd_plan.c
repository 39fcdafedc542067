/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_plan.c - model, stats and budget to a plan; plans checked and compared. */
#include "pipeline/commands.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "compress/ranks.h"
#include "pipeline/outdir.h"
#include "pipeline/planning.h"
#include "pipeline/plot.h"
#include "pipeline/result.h"

static lt_status open_stats(lt_stats **out, const lt_call_ctx *c, lt_err *err) {
    const char *path = lt_arg_string(c->args, "stats");
    *out = NULL;
    return path ? lt_stats_open(out, path, c->team, err) : LT_OK;
}

/* ---- plan MODEL --keep ... ---- */
static lt_status save_ranks(const lt_call_ctx *c, const lt_plan *p, const lt_model *m, lt_err *err) {
    const char *path = lt_arg_string(c->args, "ranks-out");
    json_t *ranks;
    if (!path) return LT_OK;
    LT_TRY(lt_ranks_of_plan(&ranks, p, m, lt_arg_flag(c->args, "ranks-flat"), err));
    const lt_status st = lt_json_save(ranks, path, err);
    json_decref(ranks);
    return st;
}

static lt_status save(const lt_call_ctx *c, const lt_plan *p, const lt_model *m, json_t **result, lt_err *err) {
    json_t *r = lt_result_new(c);
    lt_status st = r ? lt_planning_report(r, p, m, err) : lt_fail(err, LT_ENOMEM, "plan: out of memory");
    if (st == LT_OK) st = lt_plan_save(p, lt_arg_string(c->args, "output"), err);
    if (st == LT_OK) st = save_ranks(c, p, m, err);
    if (st == LT_OK) return lt_result_finish(result, r, err);
    json_decref(r);
    return st;
}

static lt_status make_plan(lt_call_ctx *c, const lt_subject *s, const lt_stats *stats, json_t **result, lt_err *err) {
    const lt_args *a = c->args;
    const char *add = lt_arg_string(a, "add");
    lt_plan p = { 0 };
    lt_status st = add ? lt_plan_load(&p, add, err) : LT_OK;
    if (st == LT_OK)
        st = lt_planning_make(&p, c, s, stats, lt_arg_string(a, "method"), lt_arg_string(a, "keep"),
                              lt_arg_flag(a, "include-head"), NULL, err);
    if (st == LT_OK) st = save(c, &p, s->o.model, result, err);
    lt_plan_clear(&p);
    return st;
}

static lt_status run_make(lt_call_ctx *c, json_t **result, lt_err *err) {
    const lt_args *a = c->args;
    const bool estimate = lt_arg_flag(a, "estimate");
    lt_subject s;
    lt_stats *stats = NULL;
    if (!estimate) LT_TRY(lt_output_check(c, lt_arg_string(a, "output"), err));
    LT_TRY(lt_subject_open(&s, c, lt_arg_string(a, "model"), LT_ADAPT_MERGE, err));
    lt_status st = LT_OK;
    if (estimate) {
        const lt_method *method;
        lt_estimate e = { 0 };
        st = lt_method_find(&method, lt_arg_string(a, "method"), err);
        if (st == LT_OK) st = lt_planning_estimate(&e, c, s.o.model, method, err);
        if (st == LT_OK) st = lt_estimate_result(result, c, &e, err);
    } else {
        st = open_stats(&stats, c, err);
        if (st == LT_OK) st = make_plan(c, &s, stats, result, err);
    }
    lt_stats_close(stats);
    lt_subject_clear(&s);
    return st;
}

/* ---- plan MODEL --frontier ---- */
enum { FRONTIER_POINTS = 19 };

static lt_status frontier_result(const lt_call_ctx *c, const lt_frontier *f, const char *of, json_t **result,
                                 lt_err *err) {
    static const char *const columns[] = { "keep", "predicted relative error", "modules cut" };
    json_t *r = lt_result_new(c), *points = json_array();
    json_t *rows = lt_result_table(r, "predicted error against budget", columns, LT_COUNTOF(columns));
    for (size_t i = 0; i < f->n; i++) {
        if (isnan(f->rel_error[i])) {
            lt_result_row(rows, "dss", f->keep[i], "out of reach", "");
            continue;
        }
        lt_result_row(rows, "ddz", f->keep[i], f->rel_error[i], (size_t)f->cut[i]);
        json_array_append_new(points, json_pack("{s:f, s:f, s:I}", "keep", f->keep[i], "rel_error", f->rel_error[i],
                                                "cuts", (json_int_t)f->cut[i]));
    }
    json_object_set_new(r, "frontier", json_pack("{s:s, s:o}", "of", of, "points", points));
    return lt_result_finish(result, r, err);
}

static lt_status draw_frontier(const lt_call_ctx *c, const lt_frontier *f, const char *of, lt_err *err) {
    const char *path = lt_arg_string(c->args, "plot");
    char label[64];
    if (!path) return LT_OK;
    snprintf(label, sizeof label, "kept of %s", of);
    const lt_plot_series series = {
        .name = lt_arg_string(c->args, "method"), .x = f->keep, .y = f->rel_error, .n = f->n
    };
    const lt_plot plot = { .title = "predicted error against budget",
                           .x = label,
                           .y = "mean relative error",
                           .series = &series,
                           .n_series = 1 };
    return lt_plot_svg(path, &plot, err);
}

static lt_status run_frontier(lt_call_ctx *c, json_t **result, lt_err *err) {
    const lt_args *a = c->args;
    double keep[FRONTIER_POINTS], rel_error[FRONTIER_POINTS], cut[FRONTIER_POINTS];
    lt_frontier f = { .keep = keep, .n = FRONTIER_POINTS, .rel_error = rel_error, .cut = cut };
    const char *of = lt_arg_string(a, "frontier");
    while (strcmp(lt_budget_name(f.of), of) != 0) f.of++; /* the option's choices are those names */
    lt_subject s;
    lt_stats *stats = NULL;
    lt_plan p = { 0 };
    for (size_t i = 0; i < FRONTIER_POINTS; i++) keep[i] = 0.95 - 0.05 * (double)i, cut[i] = 0.0;
    LT_TRY(lt_subject_open(&s, c, lt_arg_string(a, "model"), LT_ADAPT_MERGE, err));
    lt_status st = open_stats(&stats, c, err);
    if (st == LT_OK)
        st = lt_planning_make(&p, c, &s, stats, lt_arg_string(a, "method"), NULL, lt_arg_flag(a, "include-head"), &f,
                              err);
    if (st == LT_OK) st = draw_frontier(c, &f, of, err);
    if (st == LT_OK) st = frontier_result(c, &f, of, result, err);
    lt_plan_clear(&p);
    lt_stats_close(stats);
    lt_subject_clear(&s);
    return st;
}

/* ---- plan --check PLAN ---- */
static lt_status check_with_model(lt_call_ctx *c, lt_plan *p, json_t *r, lt_err *err) {
    lt_subject s;
    lt_stats *stats = NULL;
    LT_TRY(lt_subject_open(&s, c, lt_arg_string(c->args, "model"), LT_ADAPT_MERGE, err));
    lt_status st = open_stats(&stats, c, err);
    if (st == LT_OK) st = lt_plan_check(p, s.o.model, s.hash, stats, err);
    if (st == LT_OK) st = lt_plan_cost(p, s.o.model, err);
    if (st == LT_OK) st = lt_planning_report(r, p, s.o.model, err);
    lt_stats_close(stats);
    lt_subject_clear(&s);
    return st;
}

static lt_status run_check(lt_call_ctx *c, json_t **result, lt_err *err) {
    static const char *const columns[] = { "plan", "cuts", "checked against" };
    const char *path = lt_arg_string(c->args, "check"), *model = lt_arg_string(c->args, "model");
    lt_plan p = { 0 };
    LT_TRY(lt_plan_load(&p, path, err));
    json_t *r = lt_result_new(c);
    lt_result_row(lt_result_table(r, "", columns, LT_COUNTOF(columns)), "szs", path, p.n_cuts,
                  model ? model : "its own form (give a model for more)");
    json_object_set_new(r, "cuts", json_integer((json_int_t)p.n_cuts));
    const lt_status st = model ? check_with_model(c, &p, r, err) : LT_OK;
    lt_plan_clear(&p);
    if (st == LT_OK) return lt_result_finish(result, r, err);
    json_decref(r);
    return st;
}

/* ---- plan --diff A B ---- */
static const lt_cut *find_cut(const lt_plan *p, const lt_cut *like) {
    for (size_t i = 0; i < p->n_cuts; i++)
        if (p->cuts[i].kind == like->kind && strcmp(like->kind->target(like), like->kind->target(&p->cuts[i])) == 0)
            return &p->cuts[i];
    return NULL;
}

/* What a cut says beyond kind and target, where the other says otherwise; "-" for no cut. */
static json_t *differing(const lt_cut *cut, const lt_cut *other) {
    const char *key;
    json_t *v;
    if (!cut) return json_string("-");
    json_t *o = json_object();
    json_object_foreach(cut->json, key, v) {
        if (!other || !json_equal(v, json_object_get(other->json, key))) json_object_set(o, key, v);
    }
    char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_t *words = json_string(text ? text : "?");
    free(text);
    json_decref(o);
    return words;
}

static size_t add_differences(json_t *rows, const lt_plan *a, const lt_plan *b, bool only_missing) {
    size_t n = 0;
    for (size_t i = 0; i < a->n_cuts; i++) {
        const lt_cut *cut = &a->cuts[i], *other = find_cut(b, cut);
        if (other ? only_missing || json_equal(cut->json, other->json) : false) continue;
        const lt_cut *first = only_missing ? other : cut, *second = only_missing ? cut : other;
        lt_result_row(rows, "ssjj", cut->kind->kind, cut->kind->target(cut), differing(first, second),
                      differing(second, first));
        n++;
    }
    return n;
}

static lt_status run_diff(lt_call_ctx *c, json_t **result, lt_err *err) {
    static const char *const columns[] = { "kind", "of", "first", "second" };
    const char *second = lt_arg_string(c->args, "model");
    lt_plan a = { 0 }, b = { 0 };
    LT_TRY(lt_plan_load(&a, lt_arg_string(c->args, "diff"), err));
    const lt_status st = lt_plan_load(&b, second, err);
    if (st == LT_OK) {
        json_t *r = lt_result_new(c), *rows = lt_result_table(r, "", columns, LT_COUNTOF(columns));
        const size_t n = add_differences(rows, &a, &b, false) + add_differences(rows, &b, &a, true);
        json_object_set_new(r, "differences", json_integer((json_int_t)n));
        if (n == 0) json_object_set_new(r, "text", json_string("the plans cut the same\n"));
        if (n == 0) json_object_del(r, "tables");
        *result = r;
    }
    lt_plan_clear(&a);
    lt_plan_clear(&b);
    return st;
}

/* ---- the verb ---- */
/* Who only looks makes nothing. */
static lt_status check_looking(const lt_args *a, const char *how, lt_err *err) {
    static const char *const making[] = { "keep", "ranks", "add", "output", "ranks-out" };
    for (size_t i = 0; i < LT_COUNTOF(making); i++)
        LT_REQUIRE(err, !lt_arg_given(a, making[i]), "plan: --%s makes no plan: leave --%s out", how, making[i]);
    return LT_OK;
}

static lt_status check(const lt_args *a, lt_err *err) {
    const bool diff = lt_arg_given(a, "diff"), frontier = lt_arg_given(a, "frontier");
    LT_REQUIRE(err, !(lt_arg_given(a, "check") && diff), "plan: --check and --diff are two things: give one");
    LT_REQUIRE(err, !diff || lt_arg_string(a, "model"), "plan: --diff needs two plans: --diff A B");
    LT_REQUIRE(err, frontier || !lt_arg_given(a, "plot"), "plan: --plot draws a --frontier");
    LT_REQUIRE(err, lt_arg_given(a, "ranks-out") || !lt_arg_flag(a, "ranks-flat"),
               "plan: --ranks-flat is of a rank file: give --ranks-out FILE");
    if (lt_arg_given(a, "check") || diff) return check_looking(a, diff ? "diff" : "check", err);
    LT_REQUIRE(err, lt_arg_string(a, "model"), "plan: MODEL is missing");
    LT_REQUIRE(err, !frontier || !lt_arg_string(a, "keep"), "plan: --frontier tries every budget: leave --keep out");
    if (frontier) LT_TRY(check_looking(a, "frontier", err));
    LT_REQUIRE(err, frontier || lt_arg_flag(a, "estimate") || lt_arg_string(a, "output"), "plan: --output is missing");
    return lt_planning_check(a, !frontier, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    if (lt_arg_given(c->args, "check")) return run_check(c, result, err);
    if (lt_arg_given(c->args, "frontier")) return run_frontier(c, result, err);
    return lt_arg_given(c->args, "diff") ? run_diff(c, result, err) : run_make(c, result, err);
}

static const lt_positional positionals[] = {
    { "model", 0, 1, "the model to plan for; with --diff A: the second plan" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "preset", LT_OPT_STRING, NULL, 0, 0, NULL, false, "NAME",
      "the settings of a paper, for what is not given (`lathe list presets`)" },
    { "keep", LT_OPT_STRING, NULL, 0, 0, NULL, false, "WHAT", LT_KEEP_HELP },
    { "method", LT_OPT_STRING, "whitened", 0, 0, NULL, false, "METHOD",
      "how the cuts are found (`lathe list methods`)" },
    { "stats", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE", "stats of the model, where the method needs them" },
    LT_PLANNING_OPTIONS,
    { "include-head", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL,
      "also the output head (not when it is tied to the embedding)" },
    { "add", LT_OPT_PATH, NULL, 0, 0, NULL, false, "PLAN",
      "begin with the cuts of this plan; a second cut of one thing is refused" },
    { "ranks-out", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE", "also write the ranks as a rank file, schema 2" },
    { "ranks-flat", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL, "... in the flat form" },
    { "frontier", LT_OPT_STRING, NULL, 0, 0, "linears|params|bytes", false, NULL,
      "make nothing: predicted error against budget, from 95 % to 5 % of these" },
    { "plot", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE", "with --frontier: draw it, FILE.svg (gnuplot)" },
    { "check", LT_OPT_PATH, NULL, 0, 0, NULL, false, "PLAN",
      "make nothing: check this plan, against MODEL (and --stats) where given" },
    { "diff", LT_OPT_PATH, NULL, 0, 0, NULL, false, "PLAN", "make nothing: show where two plans differ" },
    { "output", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE", "plan to make, FILE.json" },
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_plan = {
    .name = "plan",
    .summary = "choose what to cut for a budget, as a file that can be read and edited",
    .details = "A plan lists its cuts one a line; it may be edited, or written by hand, and is checked when it is "
               "applied. Fractions are printed of "
               "the linears and of the whole model: they are not the same.\n"
               "`plan --check PLAN [MODEL]` checks one, `plan --diff A B` shows where two differ.",
    .example = "lathe plan ./model --stats model.stats.safetensors --keep linears=0.8 -o plan.json",
    .positionals = positionals,
    .options = options,
    .check = check,
    .run = run,
    .presets = true,
};
