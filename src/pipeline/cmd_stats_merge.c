/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_stats_merge.c - stats of several texts become one. */
#include "pipeline/commands.h"

#include "calib/stats.h"
#include "pipeline/outdir.h"
#include "pipeline/result.h"

static lt_status report(const lt_call_ctx *c, const char *output, json_t **result, lt_err *err) {
    static const char *const columns[] = { "stats", "files", "sites", "tokens" };
    lt_stats *s;
    LT_TRY(lt_stats_open(&s, output, c->team, err));
    const size_t n = lt_stats_n_sites(s), files = lt_arg_count(c->args, "stats");
    const double count = n ? lt_stats_count(s, lt_stats_site_at(s, 0).name) : 0;
    json_t *r = lt_result_new(c);
    json_object_update_new(r, json_pack("{s:{s:s, s:I}, s:I, s:f}", "stats", "hash", lt_stats_hash(s), "sites",
                                        (json_int_t)n, "files", (json_int_t)files, "tokens", count));
    lt_result_row(lt_result_table(r, "", columns, LT_COUNTOF(columns)), "szzd", output, files, n, count);
    lt_stats_close(s);
    return lt_result_finish(result, r, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    const char *output = lt_arg_string(c->args, "output");
    const size_t n = lt_arg_count(c->args, "stats");
    LT_TRY(lt_output_check(c, output, err));
    const char **paths = lt_calloc(n, sizeof *paths);
    if (!paths) return lt_fail(err, LT_ENOMEM, "stats merge: out of memory");
    for (size_t i = 0; i < n; i++) paths[i] = lt_arg_at(c->args, "stats", i);
    lt_status st = lt_stats_merge(output, paths, n, c->team, err);
    lt_free(paths);
    return st == LT_OK ? report(c, output, result, err) : st;
}

static const lt_positional positionals[] = {
    { "stats", 2, SIZE_MAX, "stats files of one model, one tokenizer and the same settings" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "output", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "FILE", "stats file to make" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_stats_merge = {
    .name = "stats merge",
    .summary = "add stats of several texts: as if one pass had read them all",
    .details = "Stats hold sums only, so merging is adding. Files of another model, tokenizer or setting are refused.",
    .example = "lathe stats merge a.stats.safetensors b.stats.safetensors -o both.stats.safetensors",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_ESTIMATE,
};
