/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_train.c - a model from nothing but a config: fresh weights, then training as `heal` does it. */
#include "pipeline/commands.h"

#include <string.h>

#include "io/file.h"
#include "model/init.h"
#include "pipeline/healing_rows.h"
#include "pipeline/healing_run.h"

/* What decides the fresh model: its config and how its values are drawn (the seed is an option). */
static lt_status make_settings(lt_healing *x, const lt_model *config, lt_err *err) {
    char hex[LT_HASH_HEX], *path = lt_path_join(config->path, "config.json");
    x->settings = lt_settings_new(x->c);
    lt_status st = path && x->settings ? lt_hash_file(path, hex, err) : lt_fail(err, LT_ENOMEM, "train: out of memory");
    lt_free(path);
    LT_TRY(st);
    if (json_object_set_new(x->settings, "config_hash", json_string(hex)) != 0)
        return lt_fail(err, LT_ENOMEM, "train: out of memory");
    return lt_heal_settings(x->settings, &x->o, err);
}

/* DIR.partial/fresh: the weights of step 0, with the config folder's tokenizer beside them. */
static lt_status make_fresh(lt_healing *x, const lt_model *config, lt_err *err) {
    const lt_lineage l = { .c = x->c, .parent = config };
    char *folder;
    LT_TRY(lt_outdir_file(&folder, &x->out, "fresh", err));
    lt_status st = LT_OK;
    if (!lt_outdir_step(&x->out, "fresh") || !lt_path_exists(folder)) {
        st = lt_remove_tree(folder, err);
        if (st == LT_OK) st = lt_model_init(config->path, folder, x->o.seed, x->c->ctx, err);
        if (st == LT_OK) st = lt_companions_copy(&l, folder, err);
        if (st == LT_OK) st = lt_outdir_mark(&x->out, "fresh", json_true(), err);
    }
    if (st == LT_OK) st = lt_subject_open(&x->source, x->c, folder, LT_ADAPT_NO, err);
    lt_free(folder);
    return st;
}

static lt_status take_tokenizer(lt_healing *x, lt_err *err) {
    const char *path = lt_arg_string(x->c->args, "tokenizer");
    if (!path) return LT_OK;
    lt_tokenizer_destroy(x->source.o.tokenizer);
    x->source.o.tokenizer = NULL;
    return lt_open_tokenizer(&x->source.o.tokenizer, path, err);
}

static lt_status train(lt_healing *x, const lt_model *config, json_t **result, lt_err *err) {
    const lt_args *a = x->c->args;
    LT_TRY(lt_heal_options(&x->o, a, config, err));
    LT_TRY(make_settings(x, config, err));
    LT_TRY(lt_outdir_begin(&x->out, x->c, lt_arg_string(a, "output"), x->settings, err));
    LT_TRY(make_fresh(x, config, err));
    LT_TRY(take_tokenizer(x, err));
    return lt_healing_run(x, result, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    lt_healing x = { .c = c, .started = lt_seconds(), .merge = true, .out = { .lock = -1 } };
    lt_model *config;
    LT_TRY(lt_output_check(c, lt_arg_string(c->args, "output"), err));
    LT_TRY(lt_model_open_config(&config, lt_arg_string(c->args, "config"), err));
    const lt_status st = train(&x, config, result, err);
    lt_healing_clear(&x);
    lt_model_destroy(config);
    return st;
}

static const lt_positional positionals[] = {
    { "config", 1, 1, "folder with config.json of a supported family, and tokenizer files" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "preset", LT_OPT_STRING, "scratch", 0, 0, "full|simple|scratch", false, NULL,
      "defaults of how it is trained (`lathe list presets`)" },
    LT_TRAINING_OPTIONS,
    LT_TEMPLATE_OPTION("chat template for rows of \"messages\""),
    { "tokenizer", LT_OPT_PATH, NULL, 0, 0, NULL, false, "PATH",
      "tokenizer.json, or a model's folder or GGUF; default: the config folder's" },
    { "dtype", LT_OPT_STRING, NULL, 0, 0, LT_DTYPE_CHOICES, false, NULL, "of the written weights; default: f32" },
    { "output", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "DIR",
      "folder to make: model/, metrics.jsonl, events, speed.jsonl, result.json, command.txt" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_train = {
    .name = "train",
    .summary = "train a fresh model from its config",
    .details =
        "The weights of step 0 are drawn by the family's rule (initializer_range of the config) and --seed; then "
        "everything is as with `heal`: rows, budgets, checkpoints, resuming, metrics.",
    .example = "lathe train ./config-folder --data corpus.jsonl.zst --train-tokens 10000000 -o fresh",
    .positionals = positionals,
    .options = options,
    .check = lt_heal_options_check,
    .run = run,
    .without = LT_NO_ESTIMATE,
};
