/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_compress.c - calibrate, plan, apply, compare in one call, each a step that is not done twice. */
#include "pipeline/commands.h"

#include <string.h>

#include "calib/recipe.h"
#include "io/file.h"
#include "pipeline/calibration.h"
#include "pipeline/compare.h"
#include "pipeline/healing_step.h"
#include "pipeline/outdir.h"
#include "pipeline/planning.h"
#include "pipeline/produce.h"
#include "pipeline/require.h"
#include "pipeline/result.h"

typedef struct compressing {
    lt_call_ctx *c;
    const lt_method *method;
    bool needs_stats, compare;
    bool heal;
    lt_train_budget heal_budget;
    lt_subject source;
    lt_tokens tokens, eval, heal_rows; /* to calibrate with; to compare with; to heal with, empty: as calibrated */
    size_t window;
    json_t *settings, *result;
    lt_outdir out;
    char *stats_path, *plan_path, *folder, *cut_folder, *journal;
    lt_stats *stats;
    lt_plan plan;
    char plan_hash[LT_HASH_HEX];
    lt_produced cut, made; /* cut: before healing; else made alone */
    json_t *training;
    double started;
} compressing;

/* ---- text ---- */
typedef struct row_range {
    size_t first, n;
} row_range;

/* Rows of a, then of b, as a set of its own. */
static lt_status take_rows(lt_tokens *out, const lt_tokens *t, row_range a, row_range b, lt_err *err) {
    const size_t n = a.n + b.n, n_a = t->row_start[a.first + a.n] - t->row_start[a.first],
                 n_b = t->row_start[b.first + b.n] - t->row_start[b.first];
    *out = (lt_tokens){ .n_ids = n_a + n_b, .n_rows = n, .isolated = t->isolated };
    memcpy(out->tokenizer_hash, t->tokenizer_hash, sizeof out->tokenizer_hash);
    out->ids = lt_malloc((n_a + n_b) * sizeof *out->ids);
    out->row_start = lt_malloc((n + 1) * sizeof *out->row_start);
    out->content_id = lt_malloc(n * sizeof *out->content_id);
    out->source = t->source ? lt_strdup(t->source) : NULL;
    out->recipe = t->recipe ? lt_strdup(t->recipe) : NULL;
    if (!out->ids || !out->row_start || !out->content_id) return lt_fail(err, LT_ENOMEM, "compress: out of memory");
    memcpy(out->ids, t->ids + t->row_start[a.first], n_a * sizeof *out->ids);
    memcpy(out->ids + n_a, t->ids + t->row_start[b.first], n_b * sizeof *out->ids);
    for (size_t i = 0; i < a.n; i++) out->row_start[i] = t->row_start[a.first + i] - t->row_start[a.first];
    for (size_t i = 0; i <= b.n; i++) out->row_start[a.n + i] = n_a + t->row_start[b.first + i] - t->row_start[b.first];
    return lt_tokens_seal(out, err);
}

/* Rows [0, calibrated) are calibrated with, [calibrated, calibrated + n) compared on; all others are healed with. */
static lt_status share_out(compressing *x, const lt_tokens *all, size_t calibrated, size_t n, lt_err *err) {
    const size_t rest = calibrated + n;
    const row_range none = { 0, 0 }, seen = { 0, calibrated };
    LT_TRY(take_rows(&x->tokens, all, seen, none, err));
    LT_TRY(take_rows(&x->eval, all, (row_range){ calibrated, n }, none, err));
    x->window = x->eval.row_start[1];
    return rest < all->n_rows ? take_rows(&x->heal_rows, all, seen, (row_range){ rest, all->n_rows - rest }, err)
                              : LT_OK;
}

/* Whether rows beyond --max-rows are there for the asking. */
static bool all_rows_follow(const lt_args *a) {
    for (size_t i = 0; lt_recipes[i]; i++)
        if (strcmp(lt_recipes[i]->name, lt_arg_string(a, "recipe")) == 0) return lt_recipes[i]->in_order;
    return false;
}

/* The last rows are not calibrated with: what is compared on them has not been seen. */
static lt_status split_rows(compressing *x, lt_err *err) {
    const lt_args *a = x->c->args;
    const size_t asked = (size_t)lt_arg_int(a, "eval-rows"), max = (size_t)lt_arg_int(a, "max-rows"),
                 most = max ? max + asked : 0;
    lt_tokens all = { 0 };
    LT_TRY(lt_calibration_tokens(&all, x->c, &x->source, x->heal && all_rows_follow(a) ? SIZE_MAX : most, err));
    const size_t used = most ? lt_min_size(most, all.n_rows) : all.n_rows, n = lt_min_size(asked, used / 2);
    lt_status st =
        n > 0 ? LT_OK
              : lt_fail(err, LT_EDATA,
                        "text for one row only, none to keep apart: give more, or --eval-data, or --no-compare (%s)",
                        lt_arg_string(a, "data"));
    if (st == LT_OK) st = share_out(x, &all, used - n, n, err);
    lt_tokens_clear(&all);
    return st;
}

static lt_status read_eval_data(compressing *x, lt_err *err) {
    const lt_args *a = x->c->args;
    const lt_subject *s = &x->source;
    LT_TRY(lt_window_choose(&x->window, x->c, &s, 1, err));
    const lt_tokens_opts o = { .recipe = "wikitext",
                               .seq_len = x->window,
                               .max_rows = (size_t)lt_arg_int(a, "max-windows") };
    return lt_subject_tokens(&x->eval, s, x->c, lt_arg_string(a, "eval-data"), &o, err);
}

static lt_status read_text(compressing *x, lt_err *err) {
    const lt_args *a = x->c->args;
    const bool apart = x->compare && !lt_arg_string(a, "eval-data");
    const bool read = x->needs_stats || x->heal;
    LT_REQUIRE(err, lt_arg_string(a, "data") || !(read || apart), "compress: --data is missing");
    if (apart) return split_rows(x, err);
    if (read) LT_TRY(lt_calibration_tokens(&x->tokens, x->c, &x->source, 0, err));
    return x->compare ? read_eval_data(x, err) : LT_OK;
}

static const lt_tokens *heal_rows(const compressing *x) {
    return x->heal_rows.n_rows ? &x->heal_rows : &x->tokens;
}

static lt_compare_in compare_in(const compressing *x, const lt_subject *const *model, size_t n) {
    const lt_args *a = x->c->args;
    return (lt_compare_in){ .c = x->c,
                            .base = &x->source,
                            .models = model,
                            .n_models = n,
                            .tokens = &x->eval,
                            .window = x->window,
                            .q8 = lt_arg_flag(a, "q8"),
                            .speed = lt_arg_flag(a, "speed"),
                            .prompt = 512,
                            .new_tokens = 32 };
}

/* ---- steps; each leaves its file in DIR.partial, whole or not at all ---- */
static lt_status step_stats(compressing *x, lt_err *err) {
    if (!x->needs_stats) return LT_OK;
    if (!lt_path_exists(x->stats_path)) {
        const lt_args *a = x->c->args;
        lt_calibrate_in in;
        lt_calibrate_out done;
        lt_stat_needs set;
        char *settings = NULL;
        LT_TRY(lt_planning_foresee(x->c, &x->source, x->method->name, lt_arg_string(a, "keep"),
                                   lt_arg_flag(a, "include-head"), err));
        LT_TRY(lt_stats_of_methods(&set, x->method->name, err));
        lt_status st = lt_calibration_in(&in, &settings, x->c, &x->source, &x->tokens, set, x->stats_path, err);
        if (st == LT_OK) st = lt_calibrate(&done, &in, err);
        lt_free(settings);
        LT_TRY(st);
    }
    return lt_stats_open(&x->stats, x->stats_path, x->c->team, err);
}

static lt_status step_plan(compressing *x, lt_err *err) {
    const lt_args *a = x->c->args;
    if (lt_path_exists(x->plan_path))
        LT_TRY(lt_plan_load(&x->plan, x->plan_path, err));
    else {
        LT_TRY(lt_planning_make(&x->plan, x->c, &x->source, x->stats, x->method->name, lt_arg_string(a, "keep"),
                                lt_arg_flag(a, "include-head"), NULL, err));
        LT_TRY(lt_plan_save(&x->plan, x->plan_path, err));
        /* what is applied is what the file says, to its last digit */
        lt_plan_clear(&x->plan);
        LT_TRY(lt_plan_load(&x->plan, x->plan_path, err));
    }
    LT_TRY(lt_planning_hash(x->plan_hash, &x->plan, err));
    return lt_planning_report(x->result, &x->plan, x->source.o.model, err);
}

static lt_lineage lineage_of(const compressing *x) {
    return (lt_lineage){ .c = x->c,
                         .settings = x->settings,
                         .parent = x->source.o.model,
                         .adapter = x->source.adapter,
                         .parent_hash = x->source.hash,
                         .tokenizer = x->source.o.tokenizer,
                         .plan = &x->plan,
                         .plan_hash = x->plan_hash,
                         .stats = x->stats,
                         .training = x->training,
                         .form = "ablinear" };
}

static lt_status step_apply(compressing *x, lt_err *err) {
    const json_t *before = lt_outdir_step(&x->out, "apply");
    const lt_lineage l = lineage_of(x);
    lt_produced *made = x->heal ? &x->cut : &x->made;
    const char *folder = x->heal ? x->cut_folder : x->folder;
    if (json_is_object(before))
        return lt_produced_open(made, x->c, json_number_value(json_object_get(before, "logit_gap")), folder, err);
    LT_TRY(lt_produce_cut(made, &l, lt_dtype_option(x->c->args), folder, &x->tokens, x->journal, err));
    return lt_outdir_mark(&x->out, "apply", json_pack("{s:f}", "logit_gap", made->gap), err);
}

static lt_status step_heal(compressing *x, lt_err *err) {
    const lt_lineage l = lineage_of(x);
    const lt_heal_step in = { .c = x->c,
                              .out = &x->out,
                              .lineage = &l,
                              .model = x->cut.model,
                              .tokens = heal_rows(x),
                              .budget = x->heal_budget };
    return x->heal ? lt_heal_step_run(&x->made, &x->training, &in, x->folder, err) : LT_OK;
}

static lt_status step_compare(compressing *x, lt_err *err) {
    if (!x->compare) return LT_OK;
    lt_subject made = { .o = { .model = x->made.model, .tokenizer = x->source.o.tokenizer },
                        .id = (char *)lt_path_name(x->out.path) };
    const lt_subject *model = &made;
    memcpy(made.hash, x->made.hash, sizeof made.hash);
    lt_subject cut = made;
    cut.o.model = x->cut.model;
    memcpy(cut.hash, x->cut.hash, sizeof cut.hash);
    lt_compare_in in = compare_in(x, &model, 1);
    if (x->heal) in.unhealed = &cut;
    LT_TRY(lt_compare(x->result, &in, err));
    const lt_lineage l = lineage_of(x);
    json_t *measured = lt_compare_card(x->result);
    const lt_status st = lt_card_write(&l, x->made.model, measured, x->folder, err);
    json_decref(measured);
    return st;
}

static lt_status run_steps(compressing *x, lt_err *err) {
    LT_TRY(lt_outdir_file(&x->stats_path, &x->out, "stats.safetensors", err));
    LT_TRY(lt_outdir_file(&x->plan_path, &x->out, "plan.json", err));
    LT_TRY(lt_outdir_file(&x->folder, &x->out, "model", err));
    LT_TRY(lt_outdir_file(&x->cut_folder, &x->out, "compressed", err));
    LT_TRY(lt_outdir_file(&x->journal, &x->out, "layers", err));
    x->result = lt_result_new(x->c);
    if (!x->result) return lt_fail(err, LT_ENOMEM, "compress: out of memory");
    LT_TRY(step_stats(x, err));
    LT_TRY(step_plan(x, err));
    LT_TRY(step_apply(x, err));
    LT_TRY(step_heal(x, err));
    return step_compare(x, err);
}

static void add_facts(compressing *x) {
    json_t *r = x->result;
    json_object_set_new(r, "source", json_pack("{s:s, s:s}", "model", x->source.id, "hash", x->source.hash));
    json_object_set_new(r, "model",
                        json_pack("{s:s, s:I, s:I}", "hash", x->made.hash, "params",
                                  (json_int_t)lt_model_n_params(x->made.model), "bytes",
                                  (json_int_t)lt_model_bytes(x->made.model)));
    json_object_set_new(r, "stats",
                        x->stats ? json_pack("{s:s, s:s, s:I}", "hash", lt_stats_hash(x->stats), "tokens_hash",
                                             x->tokens.hash, "tokens", (json_int_t)x->tokens.n_ids)
                                 : json_null());
    if (x->training) json_object_set(r, "training", x->training);
    json_object_set_new(r, "verified",
                        json_pack("{s:s, s:o}", "by", "lathe's reader: every tensor, logits of a fixed batch",
                                  "logit_gap", lt_result_real(x->made.gap)));
}

/* What only healing needed. The mark goes first: a call that finds compressed/ half removed makes it again. */
static lt_status sweep(compressing *x, lt_err *err) {
    if (!x->heal) return LT_OK;
    lt_produced_clear(&x->cut);
    LT_TRY(lt_outdir_mark(&x->out, "apply", json_null(), err));
    LT_TRY(lt_remove_tree(x->cut_folder, err));
    return lt_heal_sweep(&x->out, err);
}

static lt_status finish(compressing *x, json_t **result, lt_err *err) {
    add_facts(x);
    lt_stats_close(x->stats);
    x->stats = NULL;
    if (x->needs_stats && !lt_arg_flag(x->c->args, "keep-stats")) LT_TRY(lt_remove_tree(x->stats_path, err));
    LT_TRY(lt_remove_tree(x->journal, err));
    LT_TRY(sweep(x, err));
    json_t *r = NULL;
    LT_TRY(lt_result_finish(&r, json_incref(x->result), err));
    LT_TRY(lt_outdir_give(result, &x->out, x->c, r, x->started, err));
    return x->compare ? lt_compare_requires(r, x->c->args, err) : LT_OK;
}

/* ---- the call ---- */
static lt_status estimate(compressing *x, json_t **result, lt_err *err) {
    lt_estimate sum = { 0 }, e;
    LT_TRY(lt_planning_estimate(&sum, x->c, x->source.o.model, x->method, err));
    LT_TRY(lt_planning_estimate_fits(&sum, x->c, x->source.o.model, NULL, err));
    sum.disk_bytes = lt_model_bytes(x->source.o.model);
    if (x->method->needs.tokens) LT_TRY(lt_planning_add_drift(&sum, x->source.o.model, &x->tokens, err));
    if (x->needs_stats) {
        lt_calibrate_in in;
        lt_stat_needs set;
        char *settings = NULL;
        LT_TRY(lt_stats_of_methods(&set, x->method->name, err));
        lt_status st = lt_calibration_in(&in, &settings, x->c, &x->source, &x->tokens, set,
                                         lt_arg_string(x->c->args, "output"), err);
        if (st == LT_OK) st = lt_calibration_estimate(&e, &in, err);
        lt_free(settings);
        LT_TRY(st);
        sum.flops += e.flops;
        sum.disk_bytes += e.disk_bytes;
        sum.memory_bytes = lt_max_size(sum.memory_bytes, e.memory_bytes);
    }
    if (x->compare) {
        const lt_subject *base = &x->source;
        const lt_compare_in in = compare_in(x, &base, 1);
        LT_TRY(lt_compare_estimate(&e, &in, err));
        sum.flops += e.flops;
        sum.read_bytes += e.read_bytes;
        sum.memory_bytes = lt_max_size(sum.memory_bytes, e.memory_bytes);
    }
    if (x->heal) LT_TRY(lt_heal_step_estimate(&sum, x->source.o.model, heal_rows(x), &x->heal_budget, err));
    return lt_estimate_result(result, x->c, &sum, err);
}

static lt_status make_settings(compressing *x, lt_err *err) {
    x->settings = lt_settings_new(x->c);
    const int failed =
        !x->settings || json_object_set_new(x->settings, "model_hash", json_string(x->source.hash)) ||
        json_object_set_new(x->settings, "tokens_hash", x->needs_stats ? json_string(x->tokens.hash) : json_null()) ||
        (x->heal && json_object_set_new(x->settings, "heal_rows_hash", json_string(heal_rows(x)->hash))) ||
        json_object_set_new(x->settings, "eval_tokens_hash", x->compare ? json_string(x->eval.hash) : json_null());
    return failed ? lt_fail(err, LT_ENOMEM, "compress: out of memory") : LT_OK;
}

static lt_status compress(compressing *x, json_t **result, lt_err *err) {
    LT_TRY(make_settings(x, err));
    LT_TRY(lt_outdir_begin(&x->out, x->c, lt_arg_string(x->c->args, "output"), x->settings, err));
    lt_status st = run_steps(x, err);
    if (st == LT_OK)
        st = finish(x, result, err);
    else
        st = lt_outdir_kept(&x->out, st, err);
    lt_produced_clear(&x->made);
    lt_produced_clear(&x->cut);
    lt_stats_close(x->stats);
    lt_plan_clear(&x->plan);
    lt_free(x->stats_path);
    lt_free(x->plan_path);
    lt_free(x->folder);
    lt_free(x->cut_folder);
    lt_free(x->journal);
    lt_outdir_close(&x->out);
    return st;
}

static lt_status check(const lt_args *a, lt_err *err) {
    lt_train_budget budget;
    const char *heal = lt_arg_string(a, "heal");
    LT_TRY(lt_requires_check(a, lt_compare_names, err));
    LT_TRY(lt_planning_check(a, true, err));
    if (heal) LT_TRY(lt_heal_budget_parse(&budget, heal, err));
    LT_REQUIRE(err, lt_arg_flag(a, "compare") || lt_arg_count(a, "require") == 0,
               "compress: --require needs the comparison that --no-compare leaves out");
    LT_REQUIRE(
        err,
        !lt_arg_flag(a, "compare") || lt_arg_string(a, "eval-data") ||
            strcmp(lt_arg_string(a, "recipe"), "svdllm") != 0,
        "compress: recipe svdllm draws rows at random, none can be kept apart: give --eval-data, or --no-compare");
    return LT_OK;
}

static lt_status choose(compressing *x, lt_err *err) {
    const lt_args *a = x->c->args;
    LT_TRY(lt_method_find(&x->method, lt_arg_string(a, "method"), err));
    x->needs_stats = x->method->needs.stats && x->method->needs.stats[0];
    x->compare = lt_arg_flag(a, "compare");
    x->heal = lt_arg_string(a, "heal") != NULL;
    if (x->heal) LT_TRY(lt_heal_budget_parse(&x->heal_budget, lt_arg_string(a, "heal"), err));
    return lt_arg_flag(a, "estimate") ? LT_OK : lt_output_check(x->c, lt_arg_string(a, "output"), err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    compressing x = { .c = c, .started = lt_seconds(), .out = { .lock = -1 } };
    LT_TRY(choose(&x, err));
    lt_status st = lt_subject_open(&x.source, c, lt_arg_string(c->args, "model"), LT_ADAPT_MERGE, err);
    if (st == LT_OK) st = read_text(&x, err);
    if (st == LT_OK) st = lt_arg_flag(c->args, "estimate") ? estimate(&x, result, err) : compress(&x, result, err);
    json_decref(x.settings);
    json_decref(x.result);
    json_decref(x.training);
    lt_tokens_clear(&x.heal_rows);
    lt_tokens_clear(&x.tokens);
    lt_tokens_clear(&x.eval);
    lt_subject_clear(&x.source);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "Hugging Face folder, GGUF file, or output folder" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "preset", LT_OPT_STRING, NULL, 0, 0, NULL, false, "NAME",
      "the settings of a paper, for what is not given (`lathe list presets`)" },
    { "keep", LT_OPT_STRING, NULL, 0, 0, NULL, false, "WHAT", LT_KEEP_HELP },
    { "data", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE",
      "text to calibrate with, where the method needs it: text, JSON lines, gzip or zstd of them, or a token file" },
    LT_TEMPLATE_OPTION("chat template for rows of \"messages\""),
    { "method", LT_OPT_STRING, "lathe", 0, 0, NULL, false, "METHOD", "how the cuts are found (`lathe list methods`)" },
    LT_CALIBRATION_OPTIONS,
    LT_PLANNING_OPTIONS,
    { "dtype", LT_OPT_STRING, NULL, 0, 0, LT_DTYPE_CHOICES, false, NULL,
      "of the written weights; default: as stored, GGUF block types as bf16" },
    { "heal", LT_OPT_STRING, NULL, 0, 0, NULL, false, "BUDGET",
      "after the cut, LoRA on the text of --data for so many tokens (200k, 2M) or so long (90s, 30m), merged; rows "
      "that "
      "are compared on stay apart" },
    { "keep-stats", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL, "leave stats.safetensors in DIR" },
    { "compare", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL, "compare the result with the model at the end" },
    { "eval-data", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE",
      "text to compare with (recipe wikitext); default: the last rows of --data, which are then not calibrated with" },
    { "eval-rows", LT_OPT_INT, "8", 1, 1 << 24, NULL, false, "N",
      "rows of --data kept apart for that; at most half of them" },
    { "window", LT_OPT_INT, NULL, 2, 1 << 24, NULL, false, "N",
      "with --eval-data: tokens per window; default: 2048, or the model's positions where fewer" },
    { "max-windows", LT_OPT_INT, "0", 0, 0x1p40, NULL, false, "N", "with --eval-data: windows at most; 0: all" },
    { "q8", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL,
      "a row for the model with its weights as q8_0: what quantising alone gives" },
    { "speed", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL, "measure reading and writing speed and peak memory" },
    LT_REQUIRE_OPTION,
    { "output", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "DIR",
      "folder to make: model/, plan.json, result.json, command.txt" },
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_compress = {
    .name = "compress",
    .summary = "make a model smaller: calibrate, plan, apply, compare",
    .details = "One call for what `calibrate`, `plan`, `apply` and `compare` do one by one, with their options. Steps "
               "that are done are kept in "
               "DIR.partial: the same command after an interruption goes on there and ends with the same bytes; other "
               "settings are refused.\n"
               "--require conditions (ppl, kld.mean, kld.median, kld.p99, kld.max, top1, params, bytes) decide the "
               "exit code, the output is "
               "kept either way.",
    .example = "lathe compress ./model --data wiki.valid.raw --keep linears=0.8 -o smaller",
    .positionals = positionals,
    .options = options,
    .check = check,
    .run = run,
    .presets = true,
};
