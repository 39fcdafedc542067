/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_merge_lora.c - a model and a LoRA adapter to one model of the same form, verified. */
#include "pipeline/commands.h"

#include <string.h>

#include "pipeline/estimate.h"
#include "pipeline/outdir.h"
#include "pipeline/produce.h"
#include "pipeline/result.h"
#include "pipeline/subject.h"

typedef struct merging {
    lt_call_ctx *c;
    lt_subject source; /* with the adapter beside its weights */
    json_t *settings;
    lt_outdir out;
    double started;
    double gap; /* of the merged model's logits from those of the adapter at run time */
} merging;

/* The form that the model has already: dense stays a stock folder, factors stay factors. */
static const char *form_of(const lt_model *m) {
    lt_module mod;
    for (size_t i = 0; lt_model_module(m, i, &mod); i++)
        if (mod.linear->n_stages == 2) return "ablinear";
    return "hf-dense";
}

static lt_status estimate(const merging *x, json_t **result, lt_err *err) {
    const lt_model *m = x->source.o.model;
    const lt_estimate e = { .memory_bytes = lt_adapters_merge_bytes(x->source.o.adapters, lt_dtype_option(x->c->args)) +
                                            lt_model_exec_bytes(m, 32) + ((size_t)64 << 20),
                            .disk_bytes = lt_model_bytes(m),
                            .flops = 3.0 * 2.0 * 32.0 * (double)lt_model_n_params(m),
                            .read_bytes = 3.0 * (double)lt_model_bytes(m) };
    return lt_estimate_result(result, x->c, &e, err);
}

/* The base once more, its adapter merged, written and compared with what it holds. */
static lt_status write_merged(lt_produced *out, const merging *x, const lt_lineage *l, const char *folder,
                              lt_err *err) {
    const lt_export_target *target;
    const lt_dtype dtype = lt_dtype_option(x->c->args);
    lt_opened base;
    LT_TRY(lt_export_find(&target, l->form, err));
    LT_TRY(lt_open_model(&base, lt_arg_string(x->c->args, "model"), LT_TOKENIZER_NO, err));
    lt_status st;
    LT_GO(lt_adapters_open(&base.adapters, base.model, lt_arg_string(x->c->args, "adapter"), err));
    LT_GO(lt_merge_within(x->c, base.adapters, err));
    LT_GO(lt_adapters_merge(base.adapters, dtype, x->c->team, err));
    st = lt_produce(out, l, base.model, target, dtype, folder, err);
done:
    lt_opened_clear(&base);
    return st;
}

/* Merging rounds each weight once to what it is stored as. */
static double allowed_gap(const lt_model *made) {
    lt_module mod;
    double gap = 0;
    for (size_t i = 0; lt_model_module(made, i, &mod); i++) {
        const double g = lt_rounding_gap(mod.linear->stage[0].w.t.dtype);
        gap = g > gap ? g : gap;
    }
    return gap;
}

static lt_status report(const merging *x, const lt_produced *p, const char *form, json_t **result, lt_err *err) {
    static const char *const columns[] = { "output", "form", "parameters", "size|B", "adapter", "logit gap" };
    json_t *r = lt_result_new(x->c);
    json_object_update_new(
        r, json_pack("{s:s, s:{s:s, s:s}, s:O, s:{s:s, s:I, s:I}, s:{s:s, s:o, s:o}}", "form", form, "source", "model",
                     x->source.id, "hash", x->source.hash, "adapter", x->source.adapter, "model", "hash", p->hash,
                     "params", (json_int_t)lt_model_n_params(p->model), "bytes", (json_int_t)lt_model_bytes(p->model),
                     "verified", "by", "lathe's reader: every tensor, logits of a fixed batch", "logit_gap",
                     lt_result_real(p->gap), "adapter_gap", lt_result_real(x->gap)));
    lt_result_row(lt_result_table(r, "", columns, LT_COUNTOF(columns)), "sszzzd", x->out.path, form,
                  lt_model_n_params(p->model), lt_model_bytes(p->model), lt_adapters_n_params(x->source.o.adapters),
                  x->gap);
    return lt_result_finish(result, r, err);
}

static lt_status finish(merging *x, const lt_produced *p, const char *form, json_t **result, lt_err *err) {
    json_t *r = NULL;
    LT_TRY(lt_verify_logits(&x->gap, x->source.o.model, p->model, allowed_gap(p->model), x->c->team, err));
    LT_TRY(report(x, p, form, &r, err));
    return lt_outdir_give(result, &x->out, x->c, r, x->started, err);
}

static lt_status merge(merging *x, json_t **result, lt_err *err) {
    char base_hash[LT_HASH_HEX];
    lt_opened base;
    lt_produced p;
    char *folder;
    LT_TRY(lt_open_model(&base, lt_arg_string(x->c->args, "model"), LT_TOKENIZER_NO, err));
    lt_status st = lt_model_hash(base.model, x->c->ctx->threads, base_hash, err);
    lt_opened_clear(&base);
    LT_TRY(st);
    LT_TRY(lt_outdir_file(&folder, &x->out, "model", err));
    const lt_lineage l = { .c = x->c,
                           .settings = x->settings,
                           .parent = x->source.o.model,
                           .parent_hash = base_hash,
                           .tokenizer = x->source.o.tokenizer,
                           .form = form_of(x->source.o.model),
                           .adapter = x->source.adapter };
    st = write_merged(&p, x, &l, folder, err);
    lt_free(folder);
    if (st == LT_OK) {
        st = finish(x, &p, l.form, result, err);
        lt_produced_clear(&p);
    }
    return lt_outdir_kept(&x->out, st, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    merging x = { .c = c, .started = lt_seconds() };
    const char *output = lt_arg_string(c->args, "output");
    if (!lt_arg_flag(c->args, "estimate")) LT_TRY(lt_output_check(c, output, err));
    LT_TRY(lt_subject_open(&x.source, c, lt_arg_string(c->args, "model"), LT_ADAPT_RUN, err));
    lt_status st;
    if (lt_arg_flag(c->args, "estimate")) {
        st = estimate(&x, result, err);
        goto done;
    }
    x.settings = lt_settings_new(c);
    if (x.settings) json_object_set_new(x.settings, "model_hash", json_string(x.source.hash));
    LT_GO(lt_outdir_begin(&x.out, c, output, x.settings, err));
    st = merge(&x, result, err);
    lt_outdir_close(&x.out);
done:
    json_decref(x.settings);
    lt_subject_clear(&x.source);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "the model that the adapter was trained on: Hugging Face folder, GGUF file, or output folder" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "adapter", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "DIR", "LoRA adapter: PEFT folder" },
    { "dtype", LT_OPT_STRING, NULL, 0, 0, LT_DTYPE_CHOICES, false, NULL,
      "of the written weights; default: as stored, GGUF block types as bf16" },
    { "output", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "DIR",
      "folder to make: model/, result.json, command.txt" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_merge_lora = {
    .name = "merge-lora",
    .summary = "add a LoRA adapter to the weights of its model, and verify it",
    .details = "W + s B A is summed in double precision and rounded once. Factored models stay factored: an adapter on "
               "a factor is added to that factor. What was written is opened again; its tensors are compared, then its "
               "logits with those of the model that runs with the adapter beside its weights.",
    .example = "lathe merge-lora ./model --adapter ./adapter -o merged",
    .positionals = positionals,
    .options = options,
    .run = run,
};
