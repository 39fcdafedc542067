/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_heal.c - a model trained on: LoRA, all of it, or parts; merged, verified, measured. */
#include "pipeline/commands.h"

#include <math.h>
#include <string.h>

#include "io/file.h"
#include "pipeline/healing.h"
#include "pipeline/healing_rows.h"
#include "pipeline/produce.h"
#include "pipeline/result.h"

typedef struct healing {
    lt_call_ctx *c;
    lt_subject source;
    lt_heal_opts o;
    json_t *settings, *training;
    lt_outdir out;
    lt_healed h;
    lt_produced made;
    double started;
} healing;

static lt_status lora_options(lt_heal_opts *o, const lt_args *a, lt_err *err) {
    const char *factors = lt_arg_string(a, "lora-factors");
    o->lora.opts = (lt_lora_opts){ .rank = (size_t)lt_arg_int(a, "lora-rank"),
                                   .alpha = lt_arg_real(a, "lora-alpha"),
                                   .dropout = lt_arg_real(a, "lora-dropout"),
                                   .rslora = lt_arg_flag(a, "rslora") };
    o->lora.targets = lt_arg_string(a, "lora-targets");
    o->lora.from = lt_arg_string(a, "adapter");
    o->lora.factors = strcmp(factors, "a") == 0 ? LT_LORA_A : strcmp(factors, "b") == 0 ? LT_LORA_B : LT_LORA_BOTH;
    LT_REQUIRE(err, o->preset->lora || !o->lora.from, "--adapter goes with --preset lora");
    LT_REQUIRE(err, o->preset->lora || lt_arg_flag(a, "merge"), "--no-merge goes with --preset lora");
    return LT_OK;
}

static lt_status open_inputs(healing *x, lt_err *err) {
    const lt_args *a = x->c->args;
    LT_TRY(lt_subject_open(&x->source, x->c, lt_arg_string(a, "model"), LT_ADAPT_NO, err));
    LT_TRY(lt_heal_options(&x->o, a, x->source.o.model, err));
    return lora_options(&x->o, a, err);
}

static lt_status make_settings(healing *x, lt_err *err) {
    x->settings = lt_settings_new(x->c);
    if (!x->settings || json_object_set_new(x->settings, "model_hash", json_string(x->source.hash)) != 0)
        return lt_fail(err, LT_ENOMEM, "heal: out of memory");
    if (x->o.lora.from) {
        char hex[LT_HASH_HEX], *path = lt_path_join(x->o.lora.from, "adapter_model.safetensors");
        lt_status st = path ? LT_OK : lt_fail(err, LT_ENOMEM, "heal: out of memory");
        hex[0] = 0;
        if (st == LT_OK && lt_path_exists(path)) st = lt_hash_file(path, hex, err);
        lt_free(path);
        LT_TRY(st);
        json_object_set_new(x->settings, "adapter_hash", json_string(hex));
    }
    return lt_heal_settings(x->settings, &x->o, err);
}

/* ---- what is written ---- */

/* Weights are written as they came, unless that was in blocks. */
static lt_dtype written_dtype(const healing *x) {
    const lt_dtype asked = lt_dtype_option(x->c->args), stored = x->source.o.model->embed.t.dtype;
    if (asked != LT_N_DTYPES) return asked;
    return lt_dtype_get(stored)->block > 1 || stored == LT_F64 ? LT_BF16 : stored;
}

static lt_status save_adapter(healing *x, lt_err *err) {
    char *folder;
    if (!x->h.trainee->adapters) return LT_OK;
    LT_TRY(lt_outdir_file(&folder, &x->out, "adapter", err));
    lt_status st = lt_remove_tree(folder, err);
    if (st == LT_OK) st = lt_adapters_save(x->h.trainee->adapters, folder, x->source.id, err);
    lt_free(folder);
    return st;
}

static lt_status save_model(healing *x, lt_err *err) {
    const lt_lineage l = { .c = x->c,
                           .settings = x->settings,
                           .parent = x->source.o.model,
                           .parent_hash = x->source.hash,
                           .tokenizer = x->source.o.tokenizer,
                           .training = x->training,
                           .form = "ablinear" };
    const lt_export_target *target;
    char *folder;
    LT_TRY(lt_export_find(&target, "ablinear", err));
    LT_TRY(lt_trainee_merge(x->h.trainee, LT_F32, x->c->team, err));
    LT_TRY(lt_outdir_file(&folder, &x->out, "model", err));
    const lt_status st = lt_produce(&x->made, &l, &x->h.trainee->model, target, written_dtype(x), folder, err);
    lt_free(folder);
    return st == LT_EVERIFY ? lt_context(err, st, "kept for inspection in %s", x->out.work) : st;
}

/* ---- what is told ---- */

static void add_table(json_t *r, const healing *x, double saved) {
    static const char *const columns[] = { "trained",   "steps",      "targets",   "first loss",
                                           "last loss", "ppl before", "ppl after", "ppl as saved" };
    const lt_run_done *d = &x->h.done;
    json_t *rows = lt_result_table(r, "", columns, LT_COUNTOF(columns));
    const bool valid = x->h.valid.n > 0;
    lt_result_row(rows, "zzzddjjj", x->h.trainee->n_values, d->steps, d->targets, d->first_loss, d->last_loss,
                  valid ? lt_result_real(exp(d->valid_before)) : json_null(),
                  valid ? lt_result_real(exp(d->valid_after)) : json_null(),
                  valid && x->made.model ? lt_result_real(saved) : json_null());
}

static lt_status report(healing *x, json_t **result, lt_err *err) {
    double saved = NAN;
    json_t *r = lt_result_new(x->c);
    if (x->made.model) LT_TRY(lt_heal_measure(&saved, &x->h, x->made.model, x->c->team, err));
    if (x->made.model && x->h.valid.n)
        json_object_set_new(json_object_get(x->training, "validation"), "ppl_saved", lt_result_real(saved));
    json_object_update_new(r, json_pack("{s:{s:s, s:s}, s:O}", "source", "model", x->source.id, "hash", x->source.hash,
                                        "training", x->training));
    if (x->made.model)
        json_object_update_new(r, json_pack("{s:{s:s, s:I, s:I}, s:{s:s, s:o}}", "model", "hash", x->made.hash,
                                            "params", (json_int_t)lt_model_n_params(x->made.model), "bytes",
                                            (json_int_t)lt_model_bytes(x->made.model), "verified", "by",
                                            "lathe's reader: every tensor, logits of a fixed batch", "logit_gap",
                                            lt_result_real(x->made.gap)));
    add_table(r, x, saved);
    return lt_result_finish(result, r, err);
}

static lt_status heal(healing *x, json_t **result, lt_err *err) {
    const lt_heal_in in = {
        .c = x->c, .out = &x->out, .model = x->source.o.model, .tokenizer = x->source.o.tokenizer, .o = &x->o
    };
    json_t *r = NULL;
    LT_TRY(lt_heal(&x->h, &in, err));
    if (!(x->training = lt_heal_json(&x->h, &x->o))) return lt_fail(err, LT_ENOMEM, "heal: out of memory");
    LT_TRY(save_adapter(x, err));
    if (lt_arg_flag(x->c->args, "merge")) LT_TRY(save_model(x, err));
    LT_TRY(report(x, &r, err));
    lt_status st = lt_heal_sweep(&x->out, err);
    if (st == LT_OK) st = lt_outdir_commit(&x->out, x->c, r, x->started, err);
    if (st == LT_OK)
        *result = r;
    else
        json_decref(r);
    return st;
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    healing x = { .c = c, .started = lt_seconds() };
    const char *output = lt_arg_string(c->args, "output");
    const bool only_estimate = lt_arg_flag(c->args, "estimate");
    if (!only_estimate) LT_TRY(lt_output_check(c, output, err));
    lt_status st = open_inputs(&x, err);
    if (st == LT_OK && only_estimate) {
        lt_estimate e = { 0 };
        lt_heal_estimate(&e, &x.o, x.source.o.model);
        st = lt_estimate_result(result, c, &e, err);
    } else if (st == LT_OK) {
        st = make_settings(&x, err);
        if (st == LT_OK) st = lt_outdir_begin(&x.out, c, output, x.settings, err);
        if (st == LT_OK) {
            st = heal(&x, result, err);
            lt_produced_clear(&x.made);
            lt_healed_clear(&x.h);
            lt_outdir_close(&x.out);
        }
    }
    json_decref(x.settings);
    json_decref(x.training);
    lt_heal_opts_clear(&x.o);
    lt_subject_clear(&x.source);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "Hugging Face folder, GGUF file, or output folder; dense or factored" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "preset", LT_OPT_STRING, "lora", 0, 0, "lora|full|freeze|simple|scratch", false, NULL,
      "what trains, and the defaults of how (`lathe list presets`)" },
    LT_TRAINING_OPTIONS,
    LT_TEMPLATE_OPTION("chat template for rows of \"messages\""),
    { "lora-rank", LT_OPT_INT, "8", 1, 65536, NULL, false, "R", "LoRA: rank" },
    { "lora-alpha", LT_OPT_REAL, "16", 0, 1e6, NULL, false, "A", "LoRA: scale times rank" },
    { "lora-dropout", LT_OPT_REAL, "0.05", 0, 0.99, NULL, false, "P", "LoRA: of the adapters' input" },
    { "lora-targets", LT_OPT_STRING, "all", 0, 0, NULL, false, "NAMES",
      "LoRA: all linears of the layers, or names as q_proj,v_proj" },
    { "lora-factors", LT_OPT_STRING, "both", 0, 0, "both|a|b", false, NULL,
      "LoRA on factored linears y = A(Bx): which factor is adapted" },
    { "rslora", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL, "LoRA: scale alpha / sqrt(rank)" },
    { "adapter", LT_OPT_PATH, NULL, 0, 0, NULL, false, "DIR", "LoRA: go on with this PEFT adapter" },
    { "merge", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL, "LoRA: write the merged model; false: the adapter alone" },
    { "dtype", LT_OPT_STRING, NULL, 0, 0, LT_DTYPE_CHOICES, false, NULL,
      "of the written weights; default: as stored, GGUF block types as bf16" },
    { "output", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "DIR",
      "folder to make: model/, adapter/ (LoRA), metrics.jsonl, speed.jsonl, result.json, command.txt" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_heal = {
    .name = "heal",
    .alias = "finetune",
    .summary = "train a model on text or conversations: LoRA or all of it, merged and verified",
    .details =
        "Budgets: --epochs, --steps, --train-tokens or --time. Rows are validated on before, during and after. The "
        "work "
        "is done in DIR.partial with checkpoints that are whole at any instant: the same command after an "
        "interruption, "
        "or kill -9, ends with the same bytes; changed settings are refused by name. A loss that is not finite ends "
        "training with exit code 3 and names the last good checkpoint. What trains has f32 values whatever the model "
        "is stored as; losses do not depend on the number of threads.",
    .example = "lathe heal ./smaller --data wiki.train.raw --time 30m -o healed",
    .positionals = positionals,
    .options = options,
    .run = run,
};
