/* SPDX-License-Identifier: Apache-2.0 */
/* Attention at 9 query heads on 3 kv heads of 64 (SmolLM2-135M): forward, backward and a decoding step on a past.
 * Operations counted: the visible pairs only, 2 x 2 x 64 per pair and query head (5 / 2 of it for backward).
 *   bench_attention [threads] [largest n] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/ops.h"

enum { HQ = 9, HKV = 3, DIM = 64, PAGE = 128 };
static const lt_attn_params params = { 0, HQ, HKV, DIM, DIM, 0.125, 0, 0 };

/* a past of pages that all hold the same numbers */
typedef struct flat_past {
    lt_past base;
    size_t n;
    lt_dtype dtype;
    const void *page;
} flat_past;

static size_t n_segments(const lt_past *p, int layer, size_t head) {
    (void)layer, (void)head;
    return (((const flat_past *)p)->n + PAGE - 1) / PAGE;
}

static lt_kv_segment segment(const lt_past *p, int layer, size_t head, size_t i) {
    (void)layer, (void)head;
    const flat_past *f = (const flat_past *)p;
    const lt_dtype_row *row = lt_dtype_get(f->dtype);
    const size_t stride = DIM / row->block * row->bytes;
    return (lt_kv_segment){ .n = lt_min_size(PAGE, f->n - i * PAGE),
                            .dtype = f->dtype,
                            .k = f->page,
                            .v = f->page,
                            .k_stride = stride,
                            .v_stride = stride,
                            .pos0 = i * PAGE };
}

/* best seconds of a few runs; backward: of the backward alone */
static double seconds(lt_exec *x, const lt_batch *batch, const float *data, bool backward) {
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        lt_exec_begin(x, batch);
        const lt_var q = lt_input(x, batch->n_rows, HQ * DIM, data, backward),
                     k = lt_input(x, batch->n_rows, HKV * DIM, data, backward),
                     v = lt_input(x, batch->n_rows, HKV * DIM, data, backward);
        double t0 = lt_seconds();
        const lt_var out = lt_attention(x, q, k, v, &params);
        if (backward) {
            t0 = lt_seconds();
            lt_backward(x, out, NULL);
        }
        const double t = lt_seconds() - t0;
        if (t < best) best = t;
    }
    return best;
}

static void bench_length(lt_exec *infer, lt_exec *record, const float *data, size_t n) {
    const lt_piece piece = { .n = n, .parent = -1 };
    const lt_batch batch = { .n_rows = n, .n_pieces = 1, .piece = &piece };
    const double flops = 4.0 * DIM * HQ * (double)n * (double)(n + 1) / 2;
    const double f = seconds(infer, &batch, data, false), b = seconds(record, &batch, data, true);
    printf("%6zu  %9.3f ms %7.1f GFLOP/s  %9.3f ms %7.1f GFLOP/s", n, 1e3 * f, 1e-9 * flops / f, 1e3 * b,
           2.5e-9 * flops / b);
}

static void bench_step(lt_exec *infer, const float *data, size_t n, lt_dtype dtype) {
    flat_past past = { { n_segments, segment }, n, dtype, data };
    struct lt_past *const pasts[] = { &past.base };
    const lt_piece piece = { .n = 1, .pos0 = n, .parent = -1 };
    const lt_batch batch = { .n_rows = 1, .n_pieces = 1, .piece = &piece, .past = pasts };
    printf("  %7.1f us (%s)", 1e6 * seconds(infer, &batch, data, false), lt_dtype_get(dtype)->name);
}

int main(int argc, char **argv) {
    const int threads = argc > 1 ? atoi(argv[1]) : 2;
    const size_t largest = argc > 2 ? (size_t)atoll(argv[2]) : 8192, count = largest * HQ * DIM;
    lt_team *team = NULL;
    lt_exec *infer = NULL, *record = NULL;
    float *data = lt_malloc(count * sizeof *data);
    if (!data || lt_team_create(&team, threads, NULL, NULL) || lt_exec_create(&infer, team, NULL, NULL) ||
        lt_exec_create(&record, team, &(lt_exec_opts){ .mode = LT_RECORD }, NULL))
        return 1;
    lt_rng rng = lt_rng_at(1, LT_RNG_TEST, 0, 0);
    for (size_t i = 0; i < count; i++) data[i] = (float)lt_rng_normal(&rng);
    char text[256];
    printf("%s\n     n    forward                      backward                     one row on n\n",
           lt_team_describe(team, text, sizeof text));
    for (size_t n = 512; n <= largest; n *= 2) {
        bench_length(infer, record, data, n);
        bench_step(infer, data, n, LT_F32);
        bench_step(infer, data, n, LT_F16);
        bench_step(infer, data, n, LT_Q8_0);
        printf("\n");
    }
    lt_exec_destroy(infer);
    lt_exec_destroy(record);
    lt_team_destroy(team);
    lt_free(data);
    return 0;
}
