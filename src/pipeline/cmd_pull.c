/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_pull.c - a repository of the hub into the cache. */
#include "pipeline/commands.h"

#include <string.h>

#include "hub/hub.h"
#include "pipeline/result.h"

static lt_status patterns(const char *const **out, size_t *n, const lt_args *a, const char *option, lt_err *err) {
    *n = lt_arg_count(a, option);
    const char **list = lt_calloc(lt_max_size(1, *n), sizeof *list);
    if (!list) return lt_fail(err, LT_ENOMEM, "pull: %zu patterns", *n);
    for (size_t i = 0; i < *n; i++) list[i] = lt_arg_at(a, option, i);
    *out = list;
    return LT_OK;
}

static lt_status report(const lt_call_ctx *c, const lt_hub_pull_out *out, json_t **result, lt_err *err) {
    static const char *const columns[] = { "snapshot", "files", "size|bytes", "fetched|bytes" };
    json_t *r = lt_result_new(c);
    json_object_update_new(r,
                           json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "path", out->path, "commit", out->commit,
                                     "files", (json_int_t)out->files, "bytes", (json_int_t)out->bytes, "fetched_files",
                                     (json_int_t)out->fetched, "fetched_bytes", (json_int_t)out->fetched_bytes));
    lt_result_row(lt_result_table(r, "", columns, LT_COUNTOF(columns)), "szzz", out->path, out->files,
                  (size_t)out->bytes, (size_t)out->fetched_bytes);
    return lt_result_finish(result, r, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    const char *revision = lt_arg_string(c->args, "revision"), *name = lt_arg_string(c->args, "id"),
               *at = strchr(name, '@');
    lt_hub_pull_in in = { .ctx = c->ctx, .dataset = lt_arg_flag(c->args, "dataset") };
    lt_hub_pull_out out = { 0 };
    LT_REQUIRE(err, !at || !revision, "pull: the revision is given twice");
    char *id = lt_asprintf("%.*s", (int)(at ? (size_t)(at - name) : strlen(name)), name);
    lt_status st = id ? LT_OK : lt_fail(err, LT_ENOMEM, "pull: out of memory");
    in.id = id;
    in.revision = at ? at + 1 : revision;
    if (st == LT_OK) st = patterns(&in.include, &in.n_include, c->args, "include", err);
    if (st == LT_OK) st = patterns(&in.exclude, &in.n_exclude, c->args, "exclude", err);
    if (st == LT_OK) st = lt_hub_pull(&out, &in, err);
    if (st == LT_OK) st = report(c, &out, result, err);
    lt_free(out.path);
    lt_free((void *)(uintptr_t)in.include);
    lt_free((void *)(uintptr_t)in.exclude);
    lt_free(id);
    return st;
}

static const lt_positional positionals[] = {
    { "id", 1, 1, "ORG/NAME or ORG/NAME@REVISION" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "revision", LT_OPT_STRING, NULL, 0, 0, NULL, false, "REV", "branch, tag or commit; default: main" },
    { "dataset", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL, "a data set, not a model" },
    { "include", LT_OPT_STRING, NULL, 0, 0, NULL, true, "PATTERN", "only files like this: '*.safetensors', 'onnx/'" },
    { "exclude", LT_OPT_STRING, NULL, 0, 0, NULL, true, "PATTERN", "no files like this" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_pull = {
    .name = "pull",
    .summary = "get a repository of the Hugging Face hub into the cache that other tools use, too",
    .details =
        "Afterwards ORG/NAME or ORG/NAME@REVISION is taken wherever a model is. An interrupted pull goes on where it "
        "stopped; contents are checked before they count. Environment: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, "
        "HF_TOKEN, HF_HUB_OFFLINE.",
    .example = "lathe pull HuggingFaceTB/SmolLM2-135M-Instruct --exclude 'onnx/'",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_ESTIMATE | LT_NO_OVERWRITE,
};
