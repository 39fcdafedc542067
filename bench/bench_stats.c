/* SPDX-License-Identifier: Apache-2.0 */
/* What statistics cost over a plain forward pass: the same rows through all layers, watched and unwatched.
 *   bench_stats MODEL TEXT [rows 32] [seq_len 512] [threads] [out.stats] */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "calib/calibrate.h"
#include "io/file.h"

typedef struct setup {
    lt_model *m;
    lt_tokenizer *tok;
    lt_team *team;
    lt_ctx ctx;
    lt_tokens tokens;
    lt_batch *batches;
    size_t n_batches;
} setup;

static lt_status open_all(setup *s, char **argv, size_t rows, size_t seq_len, int threads, lt_err *err) {
    lt_ctx_init(&s->ctx);
    if (threads > 0) s->ctx.threads = threads;
    LT_TRY(lt_team_create(&s->team, s->ctx.threads, NULL, err));
    LT_TRY(lt_model_open(&s->m, argv[1], err));
    LT_TRY(lt_model_is_gguf(s->m) ? lt_tokenizer_from_gguf(&s->tok, lt_model_gguf(s->m), err)
                                  : lt_tokenizer_open(&s->tok, argv[1], err));
    const lt_tokens_opts o = { .recipe = "plain", .seq_len = seq_len, .max_rows = rows };
    LT_TRY(lt_tokens_from_data(&s->tokens, argv[2], s->tok, s->m->config.vocab_size, &o, err));
    return lt_tokens_batches(&s->batches, &s->n_batches, &s->tokens, 2048, err);
}

/* CPU time of all threads: on a busy machine the steadier clock. */
static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static lt_status forward(const setup *s, double *seconds, double *flops, lt_err *err) {
    lt_run_plan plan;
    LT_TRY(lt_run_make_plan(&plan, s->m, s->batches, s->n_batches, 0, 0, 0, 0, true, err));
    const lt_run_in in = {
        .model = s->m, .team = s->team, .ctx = &s->ctx, .batches = s->batches, .n_batches = s->n_batches, .plan = plan
    };
    const double start = lt_seconds();
    LT_TRY(lt_run(&in, err));
    *seconds = lt_seconds() - start;
    *flops = 0.0;
    for (size_t i = 0; i < s->n_batches; i++) *flops += lt_model_flops(s->m, &s->batches[i], 0);
    return LT_OK;
}

static lt_status watched(const setup *s, const char *out_path, lt_calibrate_out *out, lt_err *err) {
    static const char *const names[] = { "count", "sum", "gram" };
    char hash[LT_HASH_HEX];
    lt_calibrate_in in = { .model = s->m,
                           .model_hash = hash,
                           .tokens = &s->tokens,
                           .team = s->team,
                           .ctx = &s->ctx,
                           .out_path = out_path,
                           .settings = "{}" };
    LT_TRY(lt_model_hash(s->m, s->ctx.threads, hash, err));
    LT_TRY(lt_stat_set_parse(&in.stats, names, 3, err));
    return lt_calibrate(out, &in, err);
}

static lt_status bench(setup *s, char **argv, size_t rows, size_t seq_len, int threads, const char *path, lt_err *err) {
    double plain = 0.0, flops = 0.0, again = 0.0;
    lt_calibrate_out out;
    LT_TRY(open_all(s, argv, rows, seq_len, threads, err));
    LT_TRY(forward(s, &again, &flops, err)); /* warms the page cache */
    const double cpu0 = cpu_seconds();
    LT_TRY(forward(s, &plain, &flops, err));
    const double cpu1 = cpu_seconds();
    LT_TRY(watched(s, path, &out, err));
    const double plain_cpu = cpu1 - cpu0, watched_cpu = cpu_seconds() - cpu1;
    const double tokens = (double)s->tokens.n_ids;
    printf("tokens %.0f, threads %d\n", tokens, s->ctx.threads);
    printf("forward    %7.2f s  %7.0f tokens/s  %6.1f GFLOP/s\n", plain, tokens / plain, flops / plain * 1e-9);
    printf("calibrate  %7.2f s  %7.0f tokens/s  %6.1f GFLOP/s\n", out.seconds, tokens / out.seconds,
           out.flops / out.seconds * 1e-9);
    printf("overhead   %6.1f %% of the time, %.1f %% of the CPU time (%.2f s over %.2f s), %.1f %% of the FLOPs\n",
           100.0 * (out.seconds / plain - 1.0), 100.0 * (watched_cpu / plain_cpu - 1.0), watched_cpu, plain_cpu,
           100.0 * (out.flops / flops - 1.0));
    printf("peak RSS   %6.1f MiB, predicted %.1f MiB\n", (double)lt_peak_rss_bytes() / 1048576.0,
           (double)out.predicted_bytes / 1048576.0);
    return LT_OK;
}

int main(int argc, char **argv) {
    setup s = { 0 };
    lt_err err = { 0 };
    if (argc < 3) {
        fprintf(stderr, "usage: bench_stats MODEL TEXT [rows] [seq_len] [threads] [out.stats]\n");
        return LT_EUSAGE;
    }
    const size_t rows = argc > 3 ? strtoull(argv[3], NULL, 10) : 32,
                 seq_len = argc > 4 ? strtoull(argv[4], NULL, 10) : 512;
    const lt_status st =
        bench(&s, argv, rows, seq_len, argc > 5 ? atoi(argv[5]) : 0, argc > 6 ? argv[6] : "bench.stats", &err);
    if (st != LT_OK) fprintf(stderr, "bench_stats: %s\n", err.message);
    lt_batches_free(s.batches, s.n_batches);
    lt_tokens_clear(&s.tokens);
    lt_tokenizer_destroy(s.tok);
    lt_model_destroy(s.m);
    lt_team_destroy(s.team);
    return (int)st;
}
