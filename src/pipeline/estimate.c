/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/estimate.h"

#include <string.h>

#include "linalg/blas.h"
#include "linalg/gemm.h"
#include "pipeline/result.h"

enum { PROBE_N = 1024 };

/* a value with all its bits: products in bf16 parts are faster with fewer; subnormals and NaN are slow */
static float *thirds(size_t n) {
    float *x = lt_malloc(n * sizeof *x);
    for (size_t i = 0; x && i < n; i++) x[i] = 1.0f / 3.0f;
    return x;
}

/* Best time of fn within about `seconds`, at least three runs: the first touches the pages. */
static double best_time(void (*fn)(void *), void *arg, double seconds) {
    double best = 1e30, spent = 0;
    for (int run = 0; run < 3 || spent < seconds; run++) {
        const double t0 = lt_seconds();
        fn(arg);
        const double t = lt_seconds() - t0;
        spent += t;
        if (t < best) best = t;
    }
    return best > 1e-9 ? best : 1e-9;
}

typedef struct probe {
    lt_team *team;
    float *a, *b, *c;
    lt_tensor w;
} probe;

static void run_product(void *arg) {
    probe *p = arg;
    lt_gemm_f32(p->team, false, true, PROBE_N, PROBE_N, PROBE_N, 1.0f, p->a, PROBE_N, p->b, PROBE_N, 0.0f, p->c,
                PROBE_N);
}

/* One thread's rows by one call of BLAS. */
static lt_status blas_share(void *user, size_t i, lt_err *err) {
    (void)err;
    const probe *p = user;
    const size_t threads = (size_t)p->team->threads, from = PROBE_N * i / threads, to = PROBE_N * (i + 1) / threads;
    const lt_blas_call call = lt_blas_begin();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)(to - from), PROBE_N, PROBE_N, 1.0f,
                p->a + from * PROBE_N, PROBE_N, p->b, PROBE_N, 0.0f, p->c + from * PROBE_N, PROBE_N);
    lt_blas_end(call);
    return LT_OK;
}

static void run_blas(void *arg) {
    probe *p = arg;
    lt_team_for(p->team, (size_t)p->team->threads, blas_share, p, NULL);
}

static void run_read(void *arg) {
    probe *p = arg;
    lt_matmul_wt(p->team, p->c, p->w.size[0], p->b, p->w.size[1], 1, &p->w, false, false);
}

static lt_status probe_products(double *flops_per_s, lt_team *team, double seconds, void (*run)(void *), lt_err *err) {
    const size_t n = (size_t)PROBE_N * PROBE_N;
    probe p = { .team = team, .a = thirds(n), .b = thirds(n), .c = thirds(n) };
    lt_status st = LT_OK;
    if (p.a && p.b && p.c)
        *flops_per_s = 2.0 * PROBE_N * PROBE_N * PROBE_N / best_time(run, &p, seconds);
    else
        st = lt_fail(err, LT_ENOMEM, "speed probe: out of memory");
    lt_free(p.a);
    lt_free(p.b);
    lt_free(p.c);
    return st;
}

lt_status lt_probe_sgemm(double *flops_per_s, lt_team *team, double seconds, lt_err *err) {
    return probe_products(flops_per_s, team, seconds, run_blas, err);
}

lt_status lt_probe_gemm(double *flops_per_s, lt_team *team, double seconds, lt_err *err) {
    return probe_products(flops_per_s, team, seconds, run_product, err);
}

lt_status lt_probe_read(double *bytes_per_s, lt_team *team, size_t bytes, double seconds, lt_err *err) {
    const size_t cols = 4096, rows = lt_max_size(bytes / (cols * sizeof(float)), 1);
    probe p = { .team = team, .a = thirds(rows * cols), .b = thirds(cols), .c = thirds(rows) };
    lt_status st = LT_OK;
    if (p.a && p.b && p.c) {
        lt_buffer buffer = { .data = p.a, .bytes = rows * cols * sizeof(float) };
        p.w = lt_tensor_dense(LT_F32, 2, (const size_t[]){ rows, cols }, &buffer, 0);
        *bytes_per_s = (double)buffer.bytes / best_time(run_read, &p, seconds);
    } else
        st = lt_fail(err, LT_ENOMEM, "speed probe: out of memory");
    lt_free(p.a);
    lt_free(p.b);
    lt_free(p.c);
    return st;
}

lt_status lt_estimate_result(json_t **result, const lt_call_ctx *c, const lt_estimate *e, lt_err *err) {
    static const char *const columns[] = { "what", "estimate" };
    double rate, read = 1;
    char text[64];
    LT_TRY(lt_probe_gemm(&rate, c->team, 0.2, err));
    if (e->read_bytes > 0) LT_TRY(lt_probe_read(&read, c->team, (size_t)64 << 20, 0.1, err));
    const double seconds = e->flops / (0.7 * rate) + e->read_bytes / read;
    json_t *r = lt_result_new(c);
    json_object_set_new(r, "estimate",
                        json_pack("{s:f, s:I, s:I, s:f, s:f}", "seconds", seconds, "memory_bytes",
                                  (json_int_t)e->memory_bytes, "disk_bytes", (json_int_t)e->disk_bytes, "flops",
                                  e->flops, "gemm_flops_per_s", rate));
    json_t *rows = lt_result_table(r, "estimate", columns, 2);
    lt_result_row(rows, "sj", "time", json_sprintf("%.3g s", seconds));
    lt_result_row(rows, "ss", "peak memory", lt_bytes_text((double)e->memory_bytes, text, sizeof text));
    lt_result_row(rows, "ss", "disk", lt_bytes_text((double)e->disk_bytes, text, sizeof text));
    return lt_result_finish(result, r, err);
}
