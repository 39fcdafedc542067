/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_export.c - a model in the form that another loader opens, verified. */
#include "pipeline/commands.h"

#include <string.h>

#include "io/file.h"
#include "pipeline/estimate.h"
#include "pipeline/outdir.h"
#include "pipeline/produce.h"
#include "pipeline/result.h"
#include "pipeline/subject.h"

typedef struct exporting {
    lt_call_ctx *c;
    const lt_export_target *target;
    lt_subject source;
    json_t *settings;
    lt_outdir out;
    double started;
} exporting;

static lt_status estimate(const exporting *x, json_t **result, lt_err *err) {
    const lt_model *m = x->source.o.model;
    const lt_dtype dtype = lt_dtype_option(x->c->args);
    lt_param_info p;
    lt_estimate e = { 0 };
    for (size_t i = 0; lt_model_param(m, i, &p); i++) {
        const lt_dtype_row *to = lt_dtype_get(lt_export_dtype(x->target, p.param->t.dtype, dtype));
        e.disk_bytes += lt_tensor_count(&p.param->t) / to->block * to->bytes;
    }
    e.memory_bytes = lt_model_exec_bytes(m, 32) + ((size_t)64 << 20);
    e.flops = 2.0 * 2.0 * 32.0 * (double)lt_model_n_params(m); /* the probe of the verification, twice */
    e.read_bytes = 3.0 * (double)e.disk_bytes;
    return lt_estimate_result(result, x->c, &e, err);
}

/* Factored linears whose product is what was written. */
static size_t n_multiplied_out(const lt_model *source, const lt_model *made) {
    lt_module a, b;
    size_t n = 0;
    for (size_t i = 0; lt_model_module(source, i, &a) && lt_model_module(made, i, &b); i++)
        n += a.linear->n_stages > b.linear->n_stages;
    return n;
}

static lt_status report(exporting *x, const lt_produced *p, json_t **result, lt_err *err) {
    static const char *const columns[] = { "output",         "target",      "parameters", "size|B",
                                           "multiplied out", "verified by", "logit gap" };
    const size_t products = n_multiplied_out(x->source.o.model, p->model);
    json_t *r = lt_result_new(x->c);
    json_object_update_new(r, json_pack("{s:s, s:{s:s, s:s}, s:{s:s, s:I, s:I}, s:{s:s, s:o}}", "target",
                                        x->target->name, "source", "model", x->source.id, "hash", x->source.hash,
                                        "model", "hash", p->hash, "params", (json_int_t)lt_model_n_params(p->model),
                                        "bytes", (json_int_t)lt_model_bytes(p->model), "verified", "by",
                                        "lathe's reader: every tensor, logits of a fixed batch", "logit_gap",
                                        lt_result_real(p->gap)));
    lt_result_row(lt_result_table(r, "", columns, LT_COUNTOF(columns)), "sszzzsd", x->out.path, x->target->name,
                  lt_model_n_params(p->model), lt_model_bytes(p->model), products, "lathe's reader", p->gap);
    return lt_result_finish(result, r, err);
}

static lt_status export_model(exporting *x, json_t **result, lt_err *err) {
    const lt_lineage l = { .c = x->c,
                           .settings = x->settings,
                           .parent = x->source.o.model,
                           .adapter = x->source.adapter,
                           .parent_hash = x->source.hash,
                           .tokenizer = x->source.o.tokenizer,
                           .form = x->target->name };
    lt_produced p;
    char *path;
    LT_TRY(lt_outdir_file(&path, &x->out, x->target->output, err));
    lt_status st = lt_produce(&p, &l, x->source.o.model, x->target, lt_dtype_option(x->c->args), path, err);
    lt_free(path);
    if (st != LT_OK) return lt_outdir_kept(&x->out, st, err);
    json_t *r = NULL;
    st = report(x, &p, &r, err);
    if (st == LT_OK) st = lt_outdir_give(result, &x->out, x->c, r, x->started, err);
    lt_produced_clear(&p);
    return st;
}

static lt_status check(const lt_args *a, lt_err *err) {
    const lt_export_target *target;
    LT_TRY(lt_export_find(&target, lt_arg_string(a, "to"), err));
    return lt_export_check_dtype(target, lt_dtype_option(a), err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    exporting x = { .c = c, .started = lt_seconds() };
    const char *output = lt_arg_string(c->args, "output");
    LT_TRY(lt_export_find(&x.target, lt_arg_string(c->args, "to"), err));
    if (!lt_arg_flag(c->args, "estimate")) LT_TRY(lt_output_check(c, output, err));
    LT_TRY(lt_subject_open(&x.source, c, lt_arg_string(c->args, "model"), LT_ADAPT_MERGE, err));
    lt_status st;
    if (lt_arg_flag(c->args, "estimate")) {
        st = estimate(&x, result, err);
        goto done;
    }
    x.settings = lt_settings_new(c);
    if (x.settings) json_object_set_new(x.settings, "model_hash", json_string(x.source.hash));
    LT_GO(lt_outdir_begin(&x.out, c, output, x.settings, err));
    st = export_model(&x, result, err);
    lt_outdir_close(&x.out);
done:
    json_decref(x.settings);
    lt_subject_clear(&x.source);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "Hugging Face folder, GGUF file, or output folder" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "to", LT_OPT_STRING, lt_required, 0, 0, NULL, false, "TARGET",
      "hf-dense: a stock folder, factors multiplied out; ablinear, ab: factors as two linears, or as two tensors; "
      "gguf: one file for "
      "llama.cpp, factors multiplied out" },
    { "dtype", LT_OPT_STRING, NULL, 0, 0, LT_DTYPE_CHOICES "|q8_0|q4_0", false, NULL,
      "of the written weights; default: as stored (in a folder, GGUF block types as bf16). q8_0 and q4_0: gguf only" },
    { "output", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "DIR",
      "folder to make: model/ (or model.gguf), result.json, command.txt" },
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_export = {
    .name = "export",
    .summary = "write a model in the form that another loader opens, and verify it",
    .details =
        "A GGUF becomes a Hugging Face folder, with its tokenizer as tokenizer.json; --to gguf makes one file of "
        "model and tokenizer. What was written is opened "
        "again: every tensor is "
        "compared with its source (same dtype: same bytes; another: rounded once), then the logits of a fixed "
        "batch. A mismatch is exit "
        "code 8, with the output kept in DIR.partial.",
    .example = "lathe export model.gguf --to hf-dense --dtype bf16 -o base",
    .positionals = positionals,
    .options = options,
    .check = check,
    .run = run,
};
