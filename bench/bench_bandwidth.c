/* SPDX-License-Identifier: Apache-2.0 */
/* bench_bandwidth [THREADS [MEGABYTES]] - bytes per second that a plain loop reads, and what share of them decoding
 * reaches.
 *
 * The buffer (270 MB: SmolLM2-135M in bf16) is read once per run by all threads; then the same bytes are the weights of
 * products with one row, cut into matrices of the model's widths. Best of several runs. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linalg/gemm.h"

enum { RUNS = 12 };

static const struct {
    const char *what;
    size_t in, out;
} shapes[] = { { "gate, up", 576, 1536 }, { "down", 1536, 576 }, { "q, o", 576, 576 }, { "head", 576, 49152 } };

typedef struct work {
    lt_team *team;
    lt_buffer bytes;
    lt_dtype type;
    size_t in, out, rows;
    float *x, *y;
    uint64_t sum;
} work;

/* Eight independent sums, and the next 2 KiB asked for: the loop waits for memory, not for itself. */
static uint64_t add_up(const uint64_t *p, size_t n) {
    uint64_t s[8] = { 0 };
    for (size_t i = 0; i + 8 <= n; i += 8) {
        __builtin_prefetch(p + i + 256);
        for (size_t k = 0; k < 8; k++) s[k] += p[i + k];
    }
    return s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
}

static size_t read_all(work *k) {
    const size_t words = k->bytes.bytes / sizeof(uint64_t), each = words / (size_t)k->team->threads;
    uint64_t sum = 0;
#pragma omp parallel for num_threads(k->team->threads) schedule(static) reduction(+ : sum)
    for (int t = 0; t < k->team->threads; t++) sum += add_up((const uint64_t *)k->bytes.data + (size_t)t * each, each);
    k->sum += sum;
    return words * sizeof(uint64_t);
}

/* As many matrices as the buffer holds, one after the other. */
static size_t multiply_all(work *k) {
    const size_t size[2] = { k->out, k->in };
    lt_tensor w = lt_tensor_dense(k->type, 2, size, &k->bytes, 0);
    const size_t each = lt_tensor_bytes(&w);
    for (; w.offset + each <= k->bytes.bytes; w.offset += each)
        lt_matmul_wt(k->team, k->y, k->out, k->x, k->in, k->rows, &w, false, false);
    return w.offset;
}

static double rate(work *k, size_t (*run)(work *)) {
    double best = 0.0;
    for (int r = 0; r < RUNS; r++) {
        const double start = lt_seconds(), bytes = (double)run(k), seconds = lt_seconds() - start;
        best = bytes / seconds > best ? bytes / seconds : best;
    }
    return best * 1e-9;
}

int main(int argc, char **argv) {
    static const lt_dtype types[] = { LT_F32,  LT_F16,  LT_BF16, LT_Q8_0, LT_Q4_0, LT_Q4_1,
                                      LT_Q5_0, LT_Q5_1, LT_Q4_K, LT_Q5_K, LT_Q6_K };
    work k = { .rows = 1 };
    lt_err err = { 0 };
    char text[256];
    if (lt_team_create(&k.team, argc > 1 ? atoi(argv[1]) : lt_machine_cpus(), NULL, &err) != LT_OK) {
        fprintf(stderr, "%s\n", err.message);
        return err.code;
    }
    k.bytes.bytes = (size_t)(argc > 2 ? atoi(argv[2]) : 270) * 1000000;
    k.bytes.data = lt_malloc(k.bytes.bytes);
    k.x = lt_calloc(8 * 1536, sizeof(float));
    k.y = lt_calloc(8 * 49152, sizeof(float));
    if (!k.bytes.data || !k.x || !k.y) return 5;
    memset(k.bytes.data, 1, k.bytes.bytes);
    const double all = rate(&k, read_all);
    printf("%s; %zu MB, plain reading %.1f GB/s\n", lt_team_describe(k.team, text, sizeof text),
           k.bytes.bytes / 1000000, all);
    for (size_t s = 0; s < LT_COUNTOF(shapes); s++) {
        k.in = shapes[s].in;
        k.out = shapes[s].out;
        printf("%-8s %4zu x %5zu", shapes[s].what, k.in, k.out);
        for (size_t t = 0; t < LT_COUNTOF(types); t++) {
            k.type = types[t];
            if (k.in % lt_dtype_get(k.type)->block) continue;
            const double got = rate(&k, multiply_all);
            printf("  %s %.1f (%.0f%%)", lt_dtype_get(k.type)->name, got, 100.0 * got / all);
        }
        printf("\n");
    }
    return k.sum == 1;
}
