/* SPDX-License-Identifier: Apache-2.0 */
/* bench_gemm [THREADS [TABLE]] - GFLOP/s of products on the shapes of SmolLM2-135M, per shape and form.
 *
 * Columns: one OpenBLAS call on one thread ("blas1"); the same cut over all threads by outputs ("blasN"); lt_gemm_f32;
 * lt_matmul_wt with weights in f32, bf16, q8_0, q4_0; lt_gram_add of the inputs (counted as n d (d + 1) operations).
 * Best of several runs. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linalg/blas.h"
#include "linalg/gemm.h"

enum { RUNS = 15 };

typedef struct work {
    lt_team *team;
    size_t n, in, out;
    float *x, *w, *y;
    lt_buffer stored;
    lt_dtype type;
    double *gram;
} work;

static void blas_part(const work *k, size_t o, size_t n) {
    const lt_blas_call call = lt_blas_begin();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)k->n, (blasint)n, (blasint)k->in, 1.0f, k->x,
                (blasint)k->in, k->w + o * k->in, (blasint)k->in, 0.0f, k->y + o, (blasint)k->out);
    lt_blas_end(call);
}
static void run_blas1(work *k) {
    blas_part(k, 0, k->out);
}
static void run_blas_n(work *k) {
    const size_t parts = (size_t)k->team->threads, each = (k->out + parts - 1) / parts;
#pragma omp parallel for num_threads(k->team->threads) schedule(static)
    for (size_t t = 0; t < parts; t++)
        if (t * each < k->out) blas_part(k, t * each, lt_min_size(each, k->out - t * each));
}
static void run_gemm(work *k) {
    lt_gemm_f32(k->team, false, true, k->n, k->out, k->in, 1.0f, k->x, k->in, k->w, k->in, 0.0f, k->y, k->out);
}
static void run_stored(work *k) {
    const size_t size[2] = { k->out, k->in };
    const lt_tensor w = lt_tensor_dense(k->type, 2, size, &k->stored, 0);
    lt_matmul_wt(k->team, k->y, k->out, k->x, k->in, k->n, &w, false, false);
}
static void run_gram(work *k) {
    lt_gram_add(k->team, k->gram, k->x, k->in, k->n, k->in);
}

static double rate(work *k, void (*run)(work *), double flops) {
    double best = 1e30;
    for (int r = 0; r < RUNS; r++) {
        const double start = lt_seconds();
        run(k);
        const double seconds = lt_seconds() - start;
        best = seconds < best ? seconds : best;
    }
    return flops / best * 1e-9;
}

static void line(lt_team *team, size_t n, size_t in, size_t out) {
    static const lt_dtype types[] = { LT_F32, LT_BF16, LT_Q8_0, LT_Q4_0 };
    work k = { .team = team, .n = n, .in = in, .out = out };
    k.x = lt_malloc(n * in * sizeof(float));
    k.w = lt_malloc(out * in * sizeof(float));
    k.y = lt_malloc(n * out * sizeof(float));
    k.stored.data = lt_malloc(out * in * sizeof(float));
    k.gram = lt_calloc(in * (in + 1) / 2, sizeof(double));
    if (!k.x || !k.w || !k.y || !k.stored.data || !k.gram) exit(5);
    for (size_t i = 0; i < n * in; i++) k.x[i] = (float)(i % 977) / 977.0f - 0.5f;
    for (size_t i = 0; i < out * in; i++) k.w[i] = (float)(i % 1009) / 1009.0f - 0.5f;
    const double flops = 2.0 * (double)n * (double)in * (double)out;
    printf("%5zu %5zu %5zu", n, in, out);
    printf(" %7.1f %7.1f %7.1f", rate(&k, run_blas1, flops), rate(&k, run_blas_n, flops), rate(&k, run_gemm, flops));
    for (size_t t = 0; t < LT_COUNTOF(types); t++) {
        k.type = types[t];
        lt_dtype_get(k.type)->from_f32(k.stored.data, k.w, out * in);
        printf(" %7.1f", rate(&k, run_stored, flops));
    }
    printf(" %7.1f\n", rate(&k, run_gram, (double)n * (double)in * ((double)in + 1.0)));
    fflush(stdout);
    lt_free(k.x);
    lt_free(k.w);
    lt_free(k.y);
    lt_free(k.stored.data);
    lt_free(k.gram);
}

int main(int argc, char **argv) {
    static const size_t rows[] = { 16, 64, 512, 2048 };
    static const size_t shape[][2] = { { 576, 576 }, { 576, 192 }, { 576, 1536 }, { 1536, 576 } };
    lt_team *team;
    lt_err err = { 0 };
    char text[256];
    if (lt_team_create(&team, argc > 1 ? atoi(argv[1]) : lt_machine_cpus(), argc > 2 ? argv[2] : NULL, &err) != LT_OK) {
        fprintf(stderr, "%s\n", err.message);
        return err.code;
    }
    printf("%s; GFLOP/s\n    n    in   out   blas1   blasN    gemm     f32    bf16    q8_0    q4_0    gram\n",
           lt_team_describe(team, text, sizeof text));
    for (size_t i = 0; i < LT_COUNTOF(rows); i++)
        for (size_t s = 0; s < LT_COUNTOF(shape); s++) line(team, rows[i], shape[s][0], shape[s][1]);
    line(team, 1024, 1024, 1024);
    line(team, 2048, 2048, 2048);
    lt_team_destroy(team);
    return 0;
}
