/* SPDX-License-Identifier: Apache-2.0 */
/* How long planning (all spectra) and applying (all fits) take, and what they compute.
 *   bench_plan_apply MODEL STATS [keep linears=0.8] [threads] [method whitened] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compress/method.h"

typedef struct setup {
    lt_model *m;
    lt_stats *s;
    lt_team *team;
    lt_ctx ctx;
    lt_plan plan;
    lt_overlay *o;
    char hash[LT_HASH_HEX];
} setup;

/* Products and eigenproblems by the formulas of compress/lowrank.c; an eigenproblem counts 4/3 n³, with r vectors 4/3
 * n³ + 2 n² r. */
static double flops_of(const lt_model *m, const lt_plan *p, bool fit) {
    lt_module mod;
    double flops = 0.0;
    for (size_t i = 0; lt_model_module(m, i, &mod) && mod.layer >= 0; i++) {
        const double out = (double)lt_linear_out(mod.linear), in = (double)lt_linear_in(mod.linear),
                     n = out < in ? out : in;
        double r = 0.0;
        for (size_t c = 0; fit && c < p->n_cuts; c++)
            if (strcmp(p->cuts[c].kind->target(&p->cuts[c]), mod.linear->name) == 0)
                r = (double)json_integer_value(json_object_get(p->cuts[c].json, "rank"));
        if (fit && r == 0.0) continue;
        flops += out <= in ? 2.0 * out * in * in + 2.0 * out * out * in : 2.0 * in * in * out + 4.0 * in * in * in;
        flops += 4.0 / 3.0 * n * n * n + 2.0 * n * n * r + 2.0 * out * in * r;
    }
    return flops;
}

static lt_status bench(setup *b, char **argv, const char *keep, int threads, const char *method, lt_err *err) {
    lt_ctx_init(&b->ctx);
    if (threads > 0) b->ctx.threads = threads;
    LT_TRY(lt_team_create(&b->team, b->ctx.threads, NULL, err));
    LT_TRY(lt_model_open(&b->m, argv[1], err));
    const double t0 = lt_seconds();
    LT_TRY(lt_stats_open(&b->s, argv[2], NULL, err));
    LT_TRY(lt_model_hash(b->m, b->ctx.threads, b->hash, err));
    const double t1 = lt_seconds();
    lt_plan_in in = { .model = b->m,
                      .model_hash = b->hash,
                      .stats = b->s,
                      .floor = 0.5,
                      .allow_dense = true,
                      .align = 1,
                      .team = b->team,
                      .ctx = &b->ctx };
    LT_TRY(lt_budget_parse(&in.budget, keep, err));
    LT_TRY(lt_make_plan(&b->plan, method, &in, err));
    const double t2 = lt_seconds();
    const lt_apply_in apply = { .model = b->m, .stats = b->s, .team = b->team, .ctx = &b->ctx, .dtype = LT_N_DTYPES };
    LT_TRY(lt_overlay_create(&b->o, b->m, err));
    LT_TRY(lt_plan_apply(b->o, &b->plan, &apply, err));
    const double t3 = lt_seconds(), plan_flops = flops_of(b->m, &b->plan, false),
                 fit_flops = flops_of(b->m, &b->plan, true);
    char *text = json_dumps(json_object_get(b->plan.head, "cost"), JSON_REAL_PRECISION(6));
    printf("threads %d, %s %s: %zu cuts\n%s\n", b->ctx.threads, method, keep, b->plan.n_cuts, text ? text : "");
    free(text);
    printf("open   %6.2f s\n", t1 - t0);
    printf("plan   %6.2f s  %7.1f GFLOP  %5.1f GFLOP/s\n", t2 - t1, plan_flops * 1e-9, plan_flops / (t2 - t1) * 1e-9);
    printf("apply  %6.2f s  %7.1f GFLOP  %5.1f GFLOP/s\n", t3 - t2, fit_flops * 1e-9, fit_flops / (t3 - t2) * 1e-9);
    printf("peak RSS %.1f MiB\n", (double)lt_peak_rss_bytes() / 1048576.0);
    return LT_OK;
}

int main(int argc, char **argv) {
    setup b = { 0 };
    lt_err err = { 0 };
    if (argc < 3) {
        fprintf(stderr, "usage: bench_plan_apply MODEL STATS [keep] [threads] [method]\n");
        return LT_EUSAGE;
    }
    const lt_status st = bench(&b, argv, argc > 3 ? argv[3] : "linears=0.8", argc > 4 ? atoi(argv[4]) : 0,
                               argc > 5 ? argv[5] : "whitened", &err);
    if (st != LT_OK) fprintf(stderr, "bench_plan_apply: %s\n", err.message);
    lt_overlay_destroy(b.o);
    lt_plan_clear(&b.plan);
    lt_stats_close(b.s);
    lt_model_destroy(b.m);
    lt_team_destroy(b.team);
    return (int)st;
}
