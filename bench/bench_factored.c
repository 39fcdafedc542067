/* SPDX-License-Identifier: Apache-2.0 */
/* How much of the FLOPs that a smaller model saves its time gives back: the models take turns, run by run.
 *   bench_factored BASE SMALLER [SMALLER ...]     with ISA, RUNS (7) and ONLY (one row) in the environment
 * Rows: prefill of 512 and 2048 tokens (last token scored, every token scored at 2048), then 64 steps of decoding.
 * Of each model the best run counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/generate.h"
#include "model/settle.h"
#include "pipeline/bench.h"

enum { MOST = 8, STEPS = 64, PROMPT = 16 };

typedef struct kind {
    const char *name;
    size_t tokens; /* 0: decoding */
    bool all;
} kind;
static const kind kinds[] = {
    { "prefill 512", 512, false },
    { "prefill 2048", 2048, false },
    { "score all 2048", 2048, true },
    { "decode", 0, false },
};

static double prefill_seconds(lt_exec *x, const lt_model *m, const lt_batch *b, const int32_t *target, bool all) {
    const double t0 = lt_seconds();
    const size_t last = b->n_rows - 1;
    lt_exec_begin(x, b);
    const lt_var h = lt_model_hidden(x, m);
    if (all)
        lt_model_nll(x, m, h, target, NULL);
    else
        lt_model_logits(x, m, lt_take_rows(x, h, &last, 1));
    return lt_seconds() - t0;
}

static lt_status step_seconds(double *seconds, lt_team *team, const lt_model *m, const int32_t *ids, lt_err *err) {
    lt_request request = { ids, PROMPT, STEPS + 1, 1 };
    const lt_generate_many_in in = { .model = m,
                                     .team = team,
                                     .requests = &request,
                                     .n_requests = 1,
                                     .batch = 1,
                                     .ignore_eos = true,
                                     .sampler = LT_SAMPLER_GREEDY,
                                     .kv_dtype = LT_F32 };
    lt_generate_many_out out;
    LT_TRY(lt_generate_many(&out, &in, err));
    *seconds = out.decode_s / (double)out.n_steps;
    return LT_OK;
}

static lt_status bench_kind(const kind *k, lt_model *const *m, size_t n, size_t runs, lt_team *team, lt_err *err) {
    double best[MOST], flops[MOST];
    const size_t tokens = k->tokens ? k->tokens : 1;
    int32_t *ids = lt_bench_ids(4096, m[0]->config.vocab_size, 0),
            *target = lt_bench_ids(4096, m[0]->config.vocab_size, 1);
    lt_exec *x;
    LT_TRY(lt_exec_create(&x, team, NULL, err));
    const lt_piece piece = { .n = tokens, .parent = -1 };
    const lt_batch batch = { .n_rows = tokens, .n_pieces = 1, .ids = ids, .piece = &piece };
    for (size_t run = 0; run < runs + 1; run++)
        for (size_t i = 0; i < n; i++) {
            double seconds = 0.0;
            if (k->tokens)
                seconds = prefill_seconds(x, m[i], &batch, target, k->all);
            else
                LT_TRY(step_seconds(&seconds, team, m[i], ids, err));
            LT_TRY(lt_exec_status(x, err));
            if (run == 0) /* touches every page */
                flops[i] = lt_model_flops(m[i], &batch, k->all ? tokens : 1);
            best[i] = run < 2 || seconds < best[i] ? seconds : best[i];
        }
    for (size_t i = 0; i < n; i++) {
        const double saved = 1.0 - flops[i] / flops[0], won = 1.0 - best[i] / best[0];
        printf("%-15s model %zu  %9.1f tokens/s  %7.1f GFLOP/s", k->name, i, (double)tokens / best[i],
               flops[i] / best[i] * 1e-9);
        if (i > 0)
            printf("  FLOPs -%4.1f %%  time -%4.1f %% (%.2f times as fast)  share %3.0f %%", 100 * saved, 100 * won,
                   best[0] / best[i], 100 * won / saved);
        printf("\n");
    }
    lt_exec_destroy(x);
    lt_free(ids);
    lt_free(target);
    return LT_OK;
}

static lt_status bench(char **path, size_t n, size_t runs, const char *isa, lt_err *err) {
    lt_model *m[MOST];
    lt_team *team;
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    LT_TRY(lt_team_create(&team, ctx.threads, isa, err));
    for (size_t i = 0; i < n; i++) LT_TRY(lt_model_open(&m[i], path[i], err));
    const char *only = getenv("ONLY");
    for (size_t k = 0; k < LT_COUNTOF(kinds); k++) {
        if (only && strcmp(only, kinds[k].name) != 0) continue;
        for (size_t i = 0; i < n && !kinds[k].tokens; i++) lt_model_settle(m[i]); /* as generate does */
        LT_TRY(bench_kind(&kinds[k], m, n, runs, team, err));
    }
    for (size_t i = 0; i < n; i++) lt_model_destroy(m[i]);
    lt_team_destroy(team);
    return LT_OK;
}

int main(int argc, char **argv) {
    const char *runs = getenv("RUNS");
    lt_err err = { 0 };
    if (argc < 3 || argc > MOST + 1) {
        fprintf(stderr, "usage: bench_factored BASE SMALLER [SMALLER ...] (ISA, RUNS, ONLY in the environment)\n");
        return LT_EUSAGE;
    }
    const lt_status st = bench(argv + 1, (size_t)argc - 1, runs ? (size_t)atoi(runs) : 7, getenv("ISA"), &err);
    if (st != LT_OK) fprintf(stderr, "%s\n", err.message);
    return st;
}
