/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_heal.c - a model trained on: LoRA, all of it, or parts; merged, verified, measured. */
#include "pipeline/commands.h"

#include "io/file.h"
#include "pipeline/healing_rows.h"
#include "pipeline/healing_run.h"

/* Options of LoRA have no say elsewhere, and those of fresh adapters none where there are adapters. */
static lt_status check_lora(const lt_healing *x, lt_err *err) {
    static const char *const fresh[] = { "lora-rank",    "lora-alpha",   "lora-dropout",
                                         "lora-targets", "lora-factors", "rslora" };
    const lt_args *a = x->c->args;
    const bool lora = x->o.preset->lora, from = lt_arg_string(a, "adapter") != NULL;
    LT_REQUIRE(err, lora || !from, "--adapter goes with --preset lora");
    LT_REQUIRE(err, lora || x->merge, "--no-merge goes with --preset lora");
    for (size_t i = 0; i < LT_COUNTOF(fresh); i++) {
        LT_REQUIRE(err, lora || !lt_arg_given(a, fresh[i]), "--%s goes with --preset lora", fresh[i]);
        LT_REQUIRE(err, !from || !lt_arg_given(a, fresh[i]), "--%s is of fresh adapters, --adapter brings its own",
                   fresh[i]);
    }
    return LT_OK;
}

static lt_status open_inputs(lt_healing *x, lt_err *err) {
    const lt_args *a = x->c->args;
    LT_TRY(lt_subject_open(&x->source, x->c, lt_arg_string(a, "model"), LT_ADAPT_NO, err));
    LT_TRY(lt_heal_options(&x->o, a, x->source.o.model, err));
    return check_lora(x, err);
}

static lt_status make_settings(lt_healing *x, lt_err *err) {
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

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    lt_healing x = { .c = c, .started = lt_seconds(), .merge = lt_arg_flag(c->args, "merge"), .out = { .lock = -1 } };
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
        if (st == LT_OK) st = lt_healing_run(&x, result, err);
    }
    lt_healing_clear(&x);
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
      "folder to make: model/, adapter/ (LoRA), metrics.jsonl, events, speed.jsonl, result.json, command.txt" },
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
    .check = lt_heal_options_check,
    .run = run,
};
