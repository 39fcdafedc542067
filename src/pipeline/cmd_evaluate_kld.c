/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_evaluate_kld.c - KL divergence of models from their base. */
#include "pipeline/commands.h"

#include <math.h>
#include <stdio.h>

#include "eval/kld.h"
#include "pipeline/estimate.h"
#include "pipeline/require.h"
#include "pipeline/result.h"
#include "pipeline/subject.h"

static const char *const names[] = { "kld.mean", "kld.median", "kld.p99", "kld.max", "top1", "ppl", NULL };

typedef struct evaluation {
    lt_call_ctx *c;
    lt_subject *subject; /* the base, then the models */
    const lt_subject **each;
    const lt_model **model; /* of the models */
    lt_kld_out *out;
    lt_tokens tokens;
    size_t n, window; /* n: subjects open */
} evaluation;

static lt_status open_all(evaluation *v, lt_err *err) {
    const lt_args *a = v->c->args;
    const size_t n = 1 + lt_arg_count(a, "model");
    v->subject = lt_calloc(n, sizeof *v->subject);
    v->each = lt_calloc(n, sizeof *v->each);
    v->model = lt_calloc(n, sizeof *v->model);
    v->out = lt_calloc(n, sizeof *v->out);
    if (!v->subject || !v->each || !v->model || !v->out) return lt_fail(err, LT_ENOMEM, "evaluate: out of memory");
    for (; v->n < n; v->n++) {
        const char *path = v->n ? lt_arg_at(a, "model", v->n - 1) : lt_arg_string(a, "base");
        LT_TRY(lt_subject_open(&v->subject[v->n], v->c, path, v->n ? LT_ADAPT_RUN : LT_ADAPT_NO, err));
        v->each[v->n] = &v->subject[v->n];
        if (v->n) v->model[v->n - 1] = v->subject[v->n].o.model;
    }
    LT_TRY(lt_window_choose(&v->window, v->c, v->each, n, err));
    const lt_tokens_opts opts = { .recipe = lt_arg_string(a, "recipe"),
                                  .seq_len = v->window,
                                  .max_rows = (size_t)lt_arg_int(a, "max-windows") };
    return lt_subject_tokens(&v->tokens, &v->subject[0], v->c, lt_arg_string(a, "data"), &opts, err);
}

static json_t *record_of(const lt_subject *s, const lt_kld_out *o) {
    return json_pack(
        "{s:s, s:s, s:{s:o, s:o, s:o, s:o, s:o}, s:o, s:o, s:o}", "model", s->id, "hash", s->hash, "kld", "mean",
        lt_result_real(o->mean), "stderr", isnan(o->stderr_mean) ? json_null() : lt_result_real(o->stderr_mean),
        "median", lt_result_real(o->median), "p99", lt_result_real(o->p99), "max", lt_result_real(o->max), "top1",
        lt_result_real(o->top1), "ppl", lt_result_real(o->ppl_model), "ppl_base", lt_result_real(o->ppl_base));
}

static lt_status report(evaluation *v, json_t **result, lt_err *err) {
    char title[256];
    static const char *const columns[] = { "model", "KLD mean",   "+-",  "median",     "99 %",
                                           "max",   "same top-1", "ppl", "ppl of base" };
    const lt_subject *base = &v->subject[0];
    snprintf(title, sizeof title,
             "KL(%.60s || model), nats; %.80s: %zu windows of %zu tokens, protocol block, recipe %.40s", base->id,
             v->tokens.source ? v->tokens.source : "tokens", v->tokens.n_rows, v->window,
             v->tokens.recipe ? v->tokens.recipe : "-");
    json_t *r = lt_result_new(v->c), *models = json_array();
    json_object_set_new(r, "protocol", lt_protocol_json("block", &v->tokens, v->window));
    json_object_set_new(r, "base", json_pack("{s:s, s:s}", "model", base->id, "hash", base->hash));
    json_object_set_new(r, "models", models);
    json_object_set_new(r, "scored_tokens", json_integer((json_int_t)v->out[0].tokens));
    json_t *rows = lt_result_table(r, title, columns, LT_COUNTOF(columns));
    for (size_t i = 0; i + 1 < v->n; i++) {
        const lt_kld_out *o = &v->out[i];
        json_array_append_new(models, record_of(&v->subject[i + 1], o));
        lt_result_row(rows, "sdddddddd", v->subject[i + 1].id, o->mean, o->stderr_mean, o->median, o->p99, o->max,
                      o->top1, o->ppl_model, o->ppl_base);
    }
    return lt_result_finish(result, r, err);
}

static lt_status measure(evaluation *v, json_t **result, lt_err *err) {
    size_t i;
    json_t *record;
    const lt_kld_in in = { .base = v->subject[0].o.model,
                           .models = v->model,
                           .n_models = v->n - 1,
                           .tokens = &v->tokens,
                           .team = v->c->team,
                           .ctx = v->c->ctx };
    LT_TRY(lt_kld(v->out, &in, err));
    LT_TRY(report(v, result, err));
    json_array_foreach(json_object_get(*result, "models"), i, record)
        LT_TRY(lt_requires_met(v->c->args, json_string_value(json_object_get(record, "model")), record, err));
    return LT_OK;
}

static lt_status estimate(evaluation *v, json_t **result, lt_err *err) {
    lt_estimate e = { 0 };
    for (size_t i = 0; i < v->n; i++) {
        double flops;
        LT_TRY(lt_tokens_flops(&flops, v->subject[i].o.model, &v->tokens, true, err));
        e.flops += flops;
        e.memory_bytes += lt_model_bytes(v->subject[i].o.model);
    }
    e.memory_bytes += lt_model_exec_bytes(v->subject[0].o.model, lt_min_size(v->tokens.n_ids, 2048));
    return lt_estimate_result(result, v->c, &e, err);
}

static lt_status check(const lt_args *a, lt_err *err) {
    return lt_requires_check(a, names, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    evaluation v = { .c = c };
    lt_status st = open_all(&v, err);
    if (st == LT_OK) st = lt_arg_flag(c->args, "estimate") ? estimate(&v, result, err) : measure(&v, result, err);
    lt_tokens_clear(&v.tokens);
    for (size_t i = 0; i < v.n; i++) lt_subject_clear(&v.subject[i]);
    lt_free(v.subject);
    lt_free(v.each);
    lt_free(v.model);
    lt_free(v.out);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, SIZE_MAX, "models: Hugging Face folders, GGUF files, output folders" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "base", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "MODEL",
      "the model whose distribution is the true one; of the same vocabulary" },
    { "data", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "FILE",
      "text, JSON lines, gzip or zstd of them, or a token file" },
    LT_TEMPLATE_OPTION("chat template for rows of \"messages\""),
    { "recipe", LT_OPT_STRING, "wikitext", 0, 0, NULL, false, "NAME", "how the text becomes windows" },
    { "window", LT_OPT_INT, NULL, 2, 1 << 24, NULL, false, "N",
      "tokens per window; default: 2048, or the models' positions where they are fewer" },
    { "max-windows", LT_OPT_INT, "0", 0, 0x1p40, NULL, false, "N", "windows at most; 0: all" },
    LT_REQUIRE_OPTION,
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_evaluate_kld = {
    .name = "evaluate kld",
    .summary = "KL divergence of models from their base, token by token",
    .details = "KL(base || model) in nats at every position of every window but the last, with its mean, standard "
               "error and quantiles, the "
               "share of positions with the same most likely token, and both perplexities. It sees what perplexity "
               "misses: a model may "
               "gain on some tokens what it loses on others.\n"
               "--require conditions (kld.mean, kld.median, kld.p99, kld.max, top1, ppl) hold for every model.",
    .example =
        "lathe evaluate kld ./smaller --base ./model --data wiki.test.raw --max-windows 4 --require 'kld.mean<0.1'",
    .positionals = positionals,
    .options = options,
    .check = check,
    .run = run,
    .without = LT_NO_OVERWRITE,
};
