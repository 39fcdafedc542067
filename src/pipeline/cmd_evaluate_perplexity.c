/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_evaluate_perplexity.c - perplexity by a protocol, of one model or many. */
#include "pipeline/commands.h"

#include <math.h>
#include <stdio.h>

#include "eval/perplexity.h"
#include "io/file.h"
#include "pipeline/estimate.h"
#include "pipeline/require.h"
#include "pipeline/result.h"
#include "pipeline/subject.h"

static const char *const names[] = { "ppl", "mean_nll", "params", "bytes", NULL };

typedef struct evaluation {
    lt_call_ctx *c;
    lt_subject *subject;
    const lt_subject **each;
    size_t n, window;
    const lt_ppl_protocol *protocol;
    const char *recipe;
    json_t *result, *models, *rows, *speeds;
} evaluation;

static lt_status open_all(evaluation *v, lt_err *err) {
    const lt_args *a = v->c->args;
    const size_t n = lt_arg_count(a, "model");
    v->protocol = lt_ppl_protocol_find(lt_arg_string(a, "protocol"));
    v->recipe = lt_arg_string(a, "recipe") ? lt_arg_string(a, "recipe") : v->protocol->recipe;
    v->subject = lt_calloc(n, sizeof *v->subject);
    v->each = lt_calloc(n, sizeof *v->each);
    if (!v->subject || !v->each) return lt_fail(err, LT_ENOMEM, "evaluate: out of memory");
    for (; v->n < n; v->n++) {
        LT_TRY(lt_subject_open(&v->subject[v->n], v->c, lt_arg_at(a, "model", v->n), LT_ADAPT_RUN, err));
        v->each[v->n] = &v->subject[v->n];
    }
    return lt_window_choose(&v->window, v->c, v->each, n, err);
}

static lt_status read_text(lt_tokens *t, const evaluation *v, const lt_subject *s, lt_err *err) {
    const lt_args *a = v->c->args;
    const lt_tokens_opts opts = { .recipe = v->recipe,
                                  .seq_len = v->window,
                                  .max_rows = (size_t)lt_arg_int(a, "max-windows") };
    return lt_subject_tokens(t, s, v->c, lt_arg_string(a, "data"), &opts, err);
}

static json_t *windows_json(const lt_ppl_out *p) {
    json_t *list = json_array();
    for (size_t i = 0; i < p->windows; i++) json_array_append_new(list, lt_result_real(p->window_nll[i]));
    return list;
}

static void add_model(evaluation *v, const lt_subject *s, const lt_tokens *t, const lt_ppl_out *p) {
    const size_t params = lt_model_n_params(s->o.model), bytes = lt_model_bytes(s->o.model);
    json_array_append_new(v->models,
                          json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:I, s:I, s:s, s:o}", "model", s->id, "hash",
                                    s->hash, "params", (json_int_t)params, "bytes", (json_int_t)bytes, "ppl",
                                    lt_result_real(p->ppl), "mean_nll", lt_result_real(p->mean_nll), "stderr_nll",
                                    isnan(p->stderr_nll) ? json_null() : lt_result_real(p->stderr_nll), "windows",
                                    (json_int_t)p->windows, "scored_tokens", (json_int_t)p->scored_tokens,
                                    "tokens_hash", t->hash, "window_nll", windows_json(p)));
    json_array_append_new(v->speeds,
                          json_pack("{s:s, s:f, s:f, s:f, s:I}", "model", s->id, "seconds", p->seconds, "tokens_per_s",
                                    (double)t->n_ids / p->seconds, "flops_per_s", p->flops / p->seconds,
                                    "predicted_bytes", (json_int_t)p->predicted_bytes));
    /* exp is monotone: one standard error of the mean, as a half width of the perplexity */
    const double half = isnan(p->stderr_nll) ? NAN : p->ppl * p->stderr_nll;
    lt_result_row(v->rows, "szzzzdj", s->id, params, bytes, p->windows, p->scored_tokens, p->ppl,
                  isnan(half) ? json_string("") : lt_result_real(half));
}

static lt_status evaluate_one(evaluation *v, const lt_subject *s, lt_err *err) {
    lt_tokens t = { 0 };
    lt_ppl_out p = { 0 };
    LT_TRY(read_text(&t, v, s, err));
    const lt_ppl_in in = {
        .model = s->o.model, .tokens = &t, .team = v->c->team, .ctx = v->c->ctx, .protocol = v->protocol
    };
    const lt_status st = lt_perplexity(&p, &in, err);
    if (st == LT_OK) {
        if (!json_object_get(v->result, "protocol"))
            json_object_set_new(v->result, "protocol", lt_protocol_json(v->protocol->name, &t, v->window));
        add_model(v, s, &t, &p);
    }
    lt_ppl_clear(&p);
    lt_tokens_clear(&t);
    return st;
}

static lt_status begin_result(evaluation *v, lt_err *err) {
    char label[64], title[256];
    snprintf(label, sizeof label, "ppl_%.24s_%zu", v->protocol->name, v->window);
    snprintf(title, sizeof title, "%.120s: windows of %zu tokens, protocol %.24s, recipe %.40s",
             lt_path_name(lt_arg_string(v->c->args, "data")), v->window, v->protocol->name, v->recipe);
    const char *const columns[] = { "model", "parameters", "size|B", "windows", "scored tokens", label, "+-" };
    v->result = lt_result_new(v->c);
    v->models = json_array();
    v->speeds = json_array();
    if (!v->result || !v->models || !v->speeds) return lt_fail(err, LT_ENOMEM, "evaluate: out of memory");
    v->rows = lt_result_table(v->result, title, columns, LT_COUNTOF(columns));
    return LT_OK;
}

static lt_status evaluate_all(evaluation *v, json_t **result, lt_err *err) {
    size_t i;
    json_t *record;
    LT_TRY(begin_result(v, err));
    for (i = 0; i < v->n; i++) LT_TRY(evaluate_one(v, &v->subject[i], err));
    json_object_set(v->result, "models", v->models);
    json_object_set_new(v->result, "run", json_pack("{s:O}", "speed", v->speeds));
    LT_TRY(lt_result_finish(result, json_incref(v->result), err));
    json_array_foreach(v->models, i, record)
        LT_TRY(lt_requires_met(v->c->args, json_string_value(json_object_get(record, "model")), record, err));
    return LT_OK;
}

static lt_status estimate(evaluation *v, json_t **result, lt_err *err) {
    lt_estimate e = { 0 };
    for (size_t i = 0; i < v->n; i++) {
        const lt_model *m = v->subject[i].o.model;
        lt_tokens t = { 0 };
        double flops = 0;
        LT_TRY(read_text(&t, v, &v->subject[i], err));
        const lt_status st = lt_tokens_flops(&flops, m, &t, true, err);
        const size_t memory =
            lt_model_bytes(m) + lt_model_exec_bytes(m, lt_min_size(t.n_ids, lt_max_size(v->window, 2048)));
        lt_tokens_clear(&t);
        LT_TRY(st);
        e.flops += flops;
        e.memory_bytes = lt_max_size(e.memory_bytes, memory);
    }
    return lt_estimate_result(result, v->c, &e, err);
}

static lt_status check(const lt_args *a, lt_err *err) {
    return lt_requires_check(a, names, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    evaluation v = { .c = c };
    lt_status st = open_all(&v, err);
    if (st == LT_OK) st = lt_arg_flag(c->args, "estimate") ? estimate(&v, result, err) : evaluate_all(&v, result, err);
    json_decref(v.result);
    json_decref(v.models);
    json_decref(v.speeds);
    for (size_t i = 0; i < v.n; i++) lt_subject_clear(&v.subject[i]);
    lt_free(v.subject);
    lt_free(v.each);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, SIZE_MAX, "models: Hugging Face folders, GGUF files, output folders" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "data", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "FILE",
      "text, JSON lines, gzip or zstd of them, or a token file" },
    LT_TEMPLATE_OPTION("chat template for rows of \"messages\""),
    { "protocol", LT_OPT_STRING, "block", 0, 0, "block|rows|rows_legacy", false, NULL,
      "block: whole windows, the tail dropped, every token but a window's first predicted, exp of the mean; rows: each "
      "row of the text alone, cut to the window; rows_legacy: the same with each row's mean counted once too often, as "
      "the utilized-rank code does" },
    { "recipe", LT_OPT_STRING, NULL, 0, 0, NULL, false, "NAME",
      "how the text becomes windows; default: that of the protocol (block: wikitext, lines joined by a blank line, one "
      "tokenisation; rows: rows)" },
    { "window", LT_OPT_INT, NULL, 2, 1 << 24, NULL, false, "N",
      "tokens per window; default: 2048, or the models' positions where they are fewer" },
    { "max-windows", LT_OPT_INT, "0", 0, 0x1p40, NULL, false, "N",
      "windows at most, of protocol rows: rows of the text; 0: all" },
    LT_REQUIRE_OPTION,
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_evaluate_perplexity = {
    .name = "evaluate perplexity",
    .summary = "perplexity as in compression papers, of one model or many",
    .details = "The block protocol of GPTQ, SparseGPT, Wanda and SVD-LLM: the text is tokenised once and cut into "
               "windows; each window "
               "predicts all its tokens but the first with an empty past; ppl = exp(mean negative log-likelihood). A "
               "logit that is not "
               "finite gives inf, never a window left out. Only values with the same protocol, window, text and "
               "tokenizer compare.\n"
               "--require conditions (ppl, mean_nll, params, bytes) hold for every model.",
    .example = "lathe evaluate perplexity ./model --data wiki.test.raw --window 2048 --max-windows 10",
    .positionals = positionals,
    .options = options,
    .check = check,
    .run = run,
    .without = LT_NO_OVERWRITE,
};
