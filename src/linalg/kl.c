/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/kl.h"

#include <math.h>
#include <string.h>

enum { RUN = 1024 }; /* columns whose exponentials stay in the L1 cache */

typedef struct peak {
    float value;
    int32_t index;
    bool finite; /* every entry is */
} peak;

/* On the bits: an or over integers is a vector loop, a test of floats is not. */
static bool all_finite(const float *x, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

static peak find_peak(const lt_kernels *k, const float *x, size_t n) {
    peak p = { .finite = all_finite(x, n) };
    if (!p.finite) return p;
    p.value = k->max(x, n);
    while (x[p.index] != p.value) p.index++;
    return p;
}

/* sum exp(x - max) */
static double exp_total(const lt_kernels *k, const float *x, float max, size_t n) {
    float e[RUN];
    double total = 0.0;
    for (size_t c = 0; c < n; c += RUN) total += k->exp_sum(e, x + c, 1.0f, max, lt_min_size(RUN, n - c));
    return total;
}

/* *total = sum exp(a - max); returns sum exp(a - max) (a - b) */
static double exp_difference(const lt_kernels *k, double *total, const float *a, const float *b, float max, size_t n) {
    float e[RUN], d[RUN], part;
    double sum = 0.0;
    *total = 0.0;
    for (size_t c = 0; c < n; c += RUN) {
        const size_t m = lt_min_size(RUN, n - c);
        *total += k->exp_sum(e, a + c, 1.0f, max, m);
        memcpy(d, a + c, m * sizeof *d);
        k->axpy(d, -1.0f, LT_F32, b + c, m); /* first the difference: near models cancel exactly */
        k->dot_rows(&part, 1, d, m, 1, LT_F32, e, m);
        sum += part;
    }
    return sum;
}

static double log_sum_exp(const lt_kernels *k, const float *x, const peak *p, size_t n) {
    return p->finite ? (double)p->value + log(exp_total(k, x, p->value, n)) : INFINITY;
}

static lt_kl_row one_row(const lt_kernels *k, const float *a, const float *b, size_t n, int32_t target) {
    const peak pa = find_peak(k, a, n), pb = find_peak(k, b, n);
    const double lse_b = log_sum_exp(k, b, &pb, n);
    lt_kl_row r = { .kl = INFINITY, .nll_a = INFINITY, .nll_b = INFINITY, .top_a = pa.index, .top_b = pb.index };
    if (pb.finite) r.nll_b = lse_b - (double)b[target];
    if (!pa.finite || !pb.finite) {
        if (pa.finite) r.nll_a = log_sum_exp(k, a, &pa, n) - (double)a[target];
        return r;
    }
    double total;
    const double sum = exp_difference(k, &total, a, b, pa.value, n), lse_a = (double)pa.value + log(total);
    r.nll_a = lse_a - (double)a[target];
    r.kl = fmax(0.0, sum / total - (lse_a - lse_b));
    return r;
}

void lt_kl_rows(lt_team *team, lt_kl_row *out, const float *a, size_t lda, const float *b, size_t ldb, size_t rows,
                size_t cols, const int32_t *target) {
#pragma omp parallel for schedule(static) num_threads(team->threads)
    for (size_t i = 0; i < rows; i++) out[i] = one_row(team->k, a + i * lda, b + i * ldb, cols, target[i]);
}
