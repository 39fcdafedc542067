/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_calibrate.c - model and text to stats. */
#include "pipeline/commands.h"

#include <string.h>

#include "compress/method.h"
#include "io/file.h"
#include "pipeline/calibration.h"
#include "pipeline/outdir.h"
#include "pipeline/result.h"

static lt_status choose_stats(lt_stat_needs *out, const lt_args *a, lt_err *err) {
    const char *names = lt_arg_string(a, "stats"), *methods = lt_arg_string(a, "methods");
    LT_REQUIRE(err, !names || !lt_arg_given(a, "methods"),
               "calibrate: --stats and --methods say the same thing: give one");
    if (names) return lt_stats_of_names(out, names, err);
    LT_TRY(lt_stats_of_methods(out, methods, err));
    LT_REQUIRE(err, out->inputs || out->grads, "calibrate: %s needs no stats: plan it straight away", methods);
    return LT_OK;
}

static lt_status check(const lt_args *a, lt_err *err) {
    lt_stat_needs set;
    LT_TRY(choose_stats(&set, a, err));
    if (strcmp(lt_arg_string(a, "keep"), "spectra") != 0) return LT_OK;
    LT_REQUIRE(err, lt_arg_int(a, "sink-rows") == 0,
               "calibrate: --keep spectra: spectra keep no positions apart: leave --sink-rows out");
    LT_REQUIRE(err, !(set.grads >> LT_STAT_GRAM & 1),
               "calibrate: --keep spectra: what needs grad.gram needs the Grams of inputs too");
    return LT_OK;
}

/* With a journal beside it, an output is the last step of a call that was killed before it could clear up: the same
 * call may finish. */
static lt_status check_output(const lt_call_ctx *c, const char *output, lt_err *err) {
    char *journal = lt_asprintf("%s.partial", output);
    const lt_status st = !journal                  ? lt_fail(err, LT_ENOMEM, "calibrate: out of memory")
                         : lt_path_exists(journal) ? LT_OK
                                                   : lt_output_check(c, output, err);
    lt_free(journal);
    return st;
}

static lt_status report(const lt_call_ctx *c, const lt_calibrate_in *in, const lt_calibrate_out *o, json_t **result,
                        lt_err *err) {
    static const char *const columns[] = { "stats", "size|B", "sites", "rows", "tokens" };
    lt_stats *s;
    uint64_t bytes;
    int64_t mtime;
    LT_TRY(lt_file_stat(in->out_path, &bytes, &mtime, err));
    LT_TRY(lt_stats_open(&s, in->out_path, c->team, err));
    json_t *r = lt_result_new(c);
    const double speed = (double)o->tokens / o->seconds;
    json_object_update_new(
        r, json_pack("{s:{s:s, s:I, s:I}, s:s, s:s, s:I, s:I, s:{s:f, s:f, s:f, s:b, s:I, s:I}}", "stats", "hash",
                     lt_stats_hash(s), "bytes", (json_int_t)bytes, "sites", (json_int_t)lt_stats_n_sites(s),
                     "model_hash", in->model_hash, "tokens_hash", in->tokens->hash, "rows", (json_int_t)o->rows,
                     "tokens", (json_int_t)o->tokens, "run", "calibrate_seconds", o->seconds, "tokens_per_s", speed,
                     "flops", o->flops, "resumed", (int)o->resumed, "resumed_layer", (json_int_t)o->resumed_layer,
                     "predicted_bytes", (json_int_t)o->predicted_bytes));
    lt_result_row(lt_result_table(r, "", columns, LT_COUNTOF(columns)), "szzzz", in->out_path, (size_t)bytes,
                  lt_stats_n_sites(s), o->rows, o->tokens);
    lt_stats_close(s);
    return lt_result_finish(result, r, err);
}

static lt_status calibrate(lt_call_ctx *c, const lt_calibrate_in *in, json_t **result, lt_err *err) {
    lt_calibrate_out o;
    if (lt_arg_flag(c->args, "estimate")) {
        lt_estimate e;
        LT_TRY(lt_calibration_estimate(&e, in, err));
        return lt_estimate_result(result, c, &e, err);
    }
    LT_TRY(lt_calibrate(&o, in, err));
    return report(c, in, &o, result, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    const char *output = lt_arg_string(c->args, "output");
    lt_stat_needs set;
    lt_subject s = { 0 };
    lt_tokens t = { 0 };
    lt_calibrate_in in;
    char *settings = NULL;
    LT_TRY(choose_stats(&set, c->args, err));
    if (!lt_arg_flag(c->args, "estimate")) LT_TRY(check_output(c, output, err));
    lt_status st;
    LT_GO(lt_subject_open(&s, c, lt_arg_string(c->args, "model"), LT_ADAPT_MERGE, err));
    LT_GO(lt_calibration_tokens(&t, c, &s, 0, err));
    LT_GO(lt_calibration_in(&in, &settings, c, &s, &t, set, output, err));
    if (strcmp(lt_arg_string(c->args, "keep"), "spectra") == 0) in.spectrum = lt_output_spectrum;
    st = calibrate(c, &in, result, err);
done:
    lt_free(settings);
    lt_tokens_clear(&t);
    lt_subject_clear(&s);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "Hugging Face folder, GGUF file, or output folder" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "preset", LT_OPT_STRING, NULL, 0, 0, NULL, false, "NAME",
      "the settings of a paper, for what is not given (`lathe list presets`)" },
    { "data", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "FILE",
      "text, JSON lines, gzip or zstd of them, or a token file" },
    LT_TEMPLATE_OPTION("chat template for rows of \"messages\""),
    { "methods", LT_OPT_STRING, "whitened", 0, 0, NULL, false, "A,B",
      "methods (or weights of errors) that the stats must serve" },
    { "stats", LT_OPT_STRING, NULL, 0, 0, NULL, false, "A,B",
      "sums to keep, instead of --methods: gram, sum, abssum, sumsq, trace, count; of the gradients of outputs: "
      "grad.gram, "
      "grad.trace" },
    { "keep", LT_OPT_STRING, "grams", 0, 0, "grams|spectra", false, NULL,
      "spectra: eigenvalues of every module's outputs instead of Grams, for models whose Grams are too large; enough "
      "to plan with, not to fit" },
    LT_CALIBRATION_OPTIONS,
    { "output", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "FILE", "stats file to make, FILE.safetensors" },
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_calibrate = {
    .name = "calibrate",
    .summary = "run text through a model once and keep the sums that methods need",
    .details = "Only additive sums are kept, one set per distinct input of linears: one file serves every method and "
               "budget, and files of "
               "several texts are added with `stats merge`. Finished layers are kept in FILE.partial: the same command "
               "goes on there after "
               "an interruption and ends with the same bytes.",
    .example = "lathe calibrate ./model --data wiki.valid.raw --max-rows 64 -o model.stats.safetensors",
    .positionals = positionals,
    .options = options,
    .check = check,
    .run = run,
    .presets = true,
};
