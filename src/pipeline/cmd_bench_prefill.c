/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_bench_prefill.c - how fast a prompt is read, beside the sgemm rate of the same machine in the same
 * minute. */
#include "pipeline/commands.h"

#include <string.h>

#include "pipeline/bench.h"
#include "pipeline/estimate.h"
#include "pipeline/open_model.h"
#include "pipeline/result.h"

typedef enum score { SCORE_LAST, SCORE_ALL, SCORE_NONE } score;
typedef struct prefill {
    lt_call_ctx *c;
    const lt_model *model;
    size_t tokens, runs;
    score score;
    lt_piece piece;
    lt_batch batch;
    int32_t *ids, *target;
    double *seconds;
} prefill;

static lt_status run_once(prefill *p, lt_exec *x, lt_err *err) {
    lt_exec_begin(x, &p->batch);
    const lt_var h = lt_model_hidden(x, p->model);
    const size_t last = p->tokens - 1;
    if (p->score == SCORE_LAST)
        lt_model_logits(x, p->model, lt_take_rows(x, h, &last, 1));
    else if (p->score == SCORE_ALL)
        lt_model_nll(x, p->model, h, p->target, NULL);
    return lt_exec_status(x, err);
}

/* The first run touches every page of the weights and is not counted. */
static lt_status measure(prefill *p, lt_err *err) {
    lt_exec *x;
    LT_TRY(lt_exec_create(&x, p->c->team, NULL, err));
    lt_status st = run_once(p, x, err);
    for (size_t i = 0; st == LT_OK && i < p->runs; i++) {
        st = lt_progress(p->c->ctx, err, "bench prefill", (double)i, (double)p->runs, "runs");
        const double t0 = lt_seconds();
        if (st == LT_OK) st = run_once(p, x, err);
        p->seconds[i] = lt_seconds() - t0;
    }
    lt_exec_destroy(x);
    return st;
}

static size_t head_rows(const prefill *p) {
    return p->score == SCORE_ALL ? p->tokens : p->score == SCORE_LAST ? 1 : 0;
}

static lt_status report(prefill *p, double sgemm, json_t **result, lt_err *err) {
    static const char *const columns[] = { "tokens",        "score",         "median|tokens/s", "best|tokens/s",
                                           "speed|GFLOP/s", "sgemm|GFLOP/s", "share|%" };
    static const char *const scores[] = { "last", "all", "none" };
    const lt_times t = lt_times_of(p->seconds, p->runs);
    const double flops = lt_model_flops(p->model, &p->batch, head_rows(p)), n = (double)p->tokens,
                 share = flops / t.median / sgemm;
    json_t *r = lt_result_new(p->c);
    json_object_set_new(r, "value",
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "tokens_per_second", n / t.median,
                                  "tokens_per_second_best", n / t.best, "tokens_per_second_worst", n / t.worst, "flops",
                                  flops, "flops_per_second", flops / t.median, "sgemm_flops_per_second", sgemm,
                                  "share_of_sgemm", share));
    lt_result_row(lt_result_table(r, "prefill", columns, LT_COUNTOF(columns)), "zsddddd", p->tokens, scores[p->score],
                  n / t.median, n / t.best, flops / t.median * 1e-9, sgemm * 1e-9, 100 * share);
    return lt_result_finish(result, r, err);
}

static lt_status bench(prefill *p, json_t **result, lt_err *err) {
    double before, after;
    LT_TRY(lt_bench_check_positions(p->model, p->tokens, err));
    LT_TRY(lt_need_memory(p->c, lt_model_bytes(p->model) + lt_model_exec_bytes(p->model, p->tokens), err));
    p->ids = lt_bench_ids(p->tokens, p->model->config.vocab_size, 0);
    p->target = lt_bench_ids(p->tokens, p->model->config.vocab_size, 1);
    p->seconds = lt_calloc(p->runs, sizeof *p->seconds);
    if (!p->ids || !p->target || !p->seconds) return lt_fail(err, LT_ENOMEM, "bench prefill: out of memory");
    p->piece = (lt_piece){ .n = p->tokens, .parent = -1 };
    p->batch = (lt_batch){ .n_rows = p->tokens, .n_pieces = 1, .ids = p->ids, .piece = &p->piece };
    LT_TRY(lt_probe_sgemm(&before, p->c->team, 0.5, err));
    LT_TRY(measure(p, err));
    LT_TRY(lt_probe_sgemm(&after, p->c->team, 0.5, err));
    return report(p, before > after ? before : after, result, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    const char *how = lt_arg_string(c->args, "score");
    prefill p = { .c = c,
                  .tokens = (size_t)lt_arg_int(c->args, "tokens"),
                  .runs = (size_t)lt_arg_int(c->args, "runs") };
    p.score = strcmp(how, "last") == 0 ? SCORE_LAST : strcmp(how, "all") == 0 ? SCORE_ALL : SCORE_NONE;
    lt_opened opened;
    LT_TRY(lt_open_model(&opened, lt_arg_string(c->args, "model"), LT_TOKENIZER_NO, err));
    LT_TRY(lt_opened_adapt(&opened, c, LT_ADAPT_RUN, err));
    p.model = opened.model;
    const lt_status st = bench(&p, result, err);
    lt_free(p.ids);
    lt_free(p.target);
    lt_free(p.seconds);
    lt_opened_clear(&opened);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "model folder, GGUF file or output folder" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "tokens", LT_OPT_INT, "512", 1, 1 << 20, NULL, false, "N", "length of the prompt" },
    { "runs", LT_OPT_INT, "5", 1, 1000, NULL, false, "N", "runs that are timed, after one that is not" },
    { "score", LT_OPT_STRING, "last", 0, 0, "last|all|none", false, NULL,
      "logits of the last token (what generation needs), the loss of every token (what perplexity needs), or neither" },
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_bench_prefill = {
    .name = "bench prefill",
    .summary = "measure how fast a prompt is read",
    .details = "FLOPs are those of the linears as stored, of attention over the pairs that see each other, and of the "
               "head for the rows that are "
               "scored. The sgemm rate is that of OpenBLAS on as many threads, measured before and after; the higher "
               "one counts.",
    .example = "lathe bench prefill ./model --tokens 512",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_ESTIMATE | LT_NO_OVERWRITE,
};
