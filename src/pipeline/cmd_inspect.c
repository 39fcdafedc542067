/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_inspect.c - what a path is, by its content. */
#include "pipeline/commands.h"

#include <stdio.h>
#include <string.h>

#include "hub/hub.h"
#include "io/file.h"
#include "pipeline/inspect.h"
#include "pipeline/result.h"

static lt_status holds(bool *there, const char *folder, const char *name, lt_err *err) {
    char *path = lt_path_join(folder, name);
    if (!path) return lt_fail(err, LT_ENOMEM, "%s: out of memory", folder);
    *there = lt_path_exists(path);
    lt_free(path);
    return LT_OK;
}

static lt_status inspect_folder(const lt_inspect *in, lt_err *err) {
    static const char *const marks[] = { "config.json", "model/config.json", "model.gguf" };
    bool there = false;
    for (size_t i = 0; !there && i < LT_COUNTOF(marks); i++) LT_TRY(holds(&there, in->path, marks[i], err));
    if (there) return lt_inspect_model(in, err);
    LT_TRY(holds(&there, in->path, "adapter_config.json", err));
    if (there) return lt_inspect_adapter(in, err);
    LT_TRY(lt_tokenizer_there(&there, in->path, err));
    if (there) return lt_inspect_tokenizer(in, err);
    return lt_fail(err, LT_EDATA,
                   "%s: neither a model, an adapter nor a tokenizer (no config.json, model/, model.gguf, "
                   "adapter_config.json, tokenizer.json, vocab.json with merges.txt)",
                   in->path);
}

static size_t little_endian(const unsigned char *p, size_t n) {
    size_t v = 0;
    for (size_t i = n; i-- > 0;) v = v << 8 | p[i];
    return v;
}

static lt_status inspect_file(const lt_inspect *in, lt_err *err) {
    lt_buffer map;
    LT_TRY(lt_map_open(&map, in->path, err));
    const unsigned char *p = map.data;
    const size_t n = map.bytes;
    const bool gguf = n >= 4 && memcmp(p, "GGUF", 4) == 0;
    const bool safetensors = n >= 10 && p[8] == '{' && little_endian(p, 8) <= n - 8;
    size_t i = 0;
    while (i < n && strchr(" \t\r\n", p[i]) && p[i]) i++;
    const bool json = i < n && p[i] == '{';
    lt_map_close(&map);
    if (gguf) return lt_inspect_gguf(in, err);
    if (safetensors) return lt_inspect_safetensors(in, err);
    if (json) return lt_inspect_json(in, err);
    return lt_fail(err, LT_EDATA, "%s: neither GGUF, safetensors nor JSON", in->path);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    char *path;
    LT_TRY(lt_hub_find(&path, lt_arg_string(c->args, "path"), err));
    const lt_inspect in = { .c = c, .result = lt_result_new(c), .path = path, .all = lt_arg_flag(c->args, "all") };
    const lt_status st = lt_path_is_dir(in.path) ? inspect_folder(&in, err) : inspect_file(&in, err);
    lt_free(path);
    if (st == LT_OK) return lt_result_finish(result, in.result, err);
    json_decref(in.result);
    return st;
}

static const lt_positional positionals[] = {
    { "path", 1, 1,
      "model folder, output folder, adapter folder, GGUF, safetensors, stats, token file, plan, result, tokenizer" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "all", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL, "list every tensor, module, site and cut" },
    { "spectra", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL,
      "of a stats file: effective ranks of every Gram matrix (an eigenvalue problem each)" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_inspect = {
    .name = "inspect",
    .summary = "show what a model, stats, plan, token, GGUF or safetensors file holds",
    .details = "What it is is seen from its content. A model: family, sizes, parameters by role, number types, "
               "factored modules with their ranks, "
               "tokenizer, memory that it needs.",
    .example = "lathe inspect ./model",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_ESTIMATE | LT_NO_OVERWRITE,
};
