/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_stats_import.c - output Grams that another program measured become stats. */
#include "pipeline/commands.h"

#include "calib/stats_import.h"
#include "pipeline/outdir.h"
#include "pipeline/result.h"
#include "pipeline/subject.h"

static lt_status import(const lt_call_ctx *c, const lt_subject *s, json_t **result, lt_err *err) {
    static const char *const columns[] = { "stats", "modules", "of them with their bias in" };
    const lt_import_in in = { .path = lt_arg_string(c->args, "grams"),
                              .out_path = lt_arg_string(c->args, "output"),
                              .model = s->o.model,
                              .model_hash = s->hash,
                              .bias_included = lt_arg_flag(c->args, "bias-included"),
                              .count = (double)lt_arg_int(c->args, "tokens") };
    lt_import_out out;
    LT_TRY(lt_stats_import(&out, &in, err));
    json_t *r = lt_result_new(c);
    json_object_update_new(
        r, json_pack("{s:I, s:I}", "modules", (json_int_t)out.modules, "biased", (json_int_t)out.biased));
    lt_result_row(lt_result_table(r, "", columns, LT_COUNTOF(columns)), "szz", in.out_path, out.modules, out.biased);
    if (out.biased)
        lt_log(c->ctx, LT_LOG_WARN,
               "%zu modules keep the bias in their Gram: sums and counts of tokens would take it out", out.biased);
    return lt_result_finish(result, r, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    lt_subject s;
    LT_TRY(lt_output_check(c, lt_arg_string(c->args, "output"), err));
    LT_TRY(lt_subject_open(&s, c, lt_arg_string(c->args, "model"), LT_ADAPT_NO, err));
    const lt_status st = import(c, &s, result, err);
    lt_subject_clear(&s);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "the model whose outputs were measured" },
    { "grams", 1, 1,
      "safetensors, or a dict from torch.save: a Gram [out, out] per module; <module>.out_sum and <module>.count where "
      "kept" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "bias-included", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL, "outputs were measured with their bias" },
    { "tokens", LT_OPT_INT, "0", 0, 0x1p53, NULL, false, "N", "tokens that were summed, where the file does not say" },
    { "output", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "FILE", "stats file to make" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_stats_import = {
    .name = "stats import",
    .summary = "take output Grams that another program measured",
    .details =
        "For method output_gram. Where a module has a bias and the file keeps sums and counts of tokens, the bias is "
        "taken out; else the Gram stays as it was measured. A Gram of inputs is refused.",
    .example = "lathe stats import ./model grams.safetensors -o model.stats.safetensors",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_ESTIMATE,
};
