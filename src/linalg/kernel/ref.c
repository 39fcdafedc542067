/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/kernel/tables.h"

#include <math.h>

enum { CHUNK = 256, LANES = 16 }; /* CHUNK: a multiple of every block size */

/* Address of element i, a multiple of the block. */
static const void *element(lt_dtype t, const void *w, size_t i) {
    const lt_dtype_row *row = lt_dtype_get(t);
    return (const char *)w + i / row->block * row->bytes;
}

static void widen(float *restrict dst, lt_dtype t, const void *src, size_t n) {
    lt_dtype_get(t)->to_f32(dst, src, n);
}

/* lane[i % LANES] += x[i] w[i]; i counts from the start of the row */
static void dot_chunk(float lane[LANES], const float *x, const float *w, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) lane[l] += x[i + l] * w[i + l];
    for (size_t l = 0; i + l < n; l++) lane[l] += x[i + l] * w[i + l];
}

static float sum_lanes(float lane[LANES]) {
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

static void dot_rows(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, lt_dtype t, const void *w,
                     size_t n) {
    float lane[8][LANES] = { { 0.0f } }, part[CHUNK];
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t m = lt_min_size(CHUNK, n - i);
        widen(part, t, element(t, w, i), m);
        for (size_t j = 0; j < rows; j++) dot_chunk(lane[j], x + j * ldx + i, part, m);
    }
    for (size_t j = 0; j < rows; j++) y[j * ldy] = sum_lanes(lane[j]);
}

static void dot_stored(float *y, const float *x, lt_dtype t, const void *w, size_t stride, size_t rows, size_t n) {
    for (size_t r = 0; r < rows; r++) dot_rows(y + r, 1, x, 0, 1, t, (const char *)w + r * stride, n);
}

static void axpy(float *y, float a, lt_dtype t, const void *w, size_t n) {
    float part[CHUNK];
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t m = lt_min_size(CHUNK, n - i);
        widen(part, t, element(t, w, i), m);
        for (size_t c = 0; c < m; c++) y[i + c] += a * part[c];
    }
}

static void exp_rows(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = expf(x[i]);
}

static float exp_sum(float *y, const float *x, float scale, float m, size_t n) {
    float lane[LANES] = { 0.0f };
    for (size_t i = 0; i < n; i++) lane[i % LANES] += y[i] = expf(x[i] * scale - m);
    return sum_lanes(lane);
}

static float max(const float *x, size_t n) {
    float m = -INFINITY;
    for (size_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static double sumsq(const float *x, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

static void scale(float *y, const float *x, float a, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = a * x[i];
}

static void mul(float *y, const float *x, const float *w, float a, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = a * x[i] * w[i];
}

static void add(float *y, const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static void silu_mul(float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = g[i] / (1.0f + expf(-g[i])) * (u ? u[i] : 1.0f);
}

static void silu_back(float *dg, float *du, const float *dy, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float s = 1.0f / (1.0f + expf(-g[i])), d = dy[i];
        dg[i] = d * u[i] * (s * (1.0f + g[i] * (1.0f - s)));
        du[i] = d * (g[i] * s);
    }
}

static double dot3(const float *a, const float *b, const float *c, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i] * (c ? (double)c[i] : 1.0);
    return sum;
}

static void norm_back(float *dx, const float *dy, const float *w, const float *x, const float abc[3], float mean,
                      bool add, size_t n) {
    for (size_t i = 0; i < n; i++)
        dx[i] = (add ? dx[i] : 0.0f) + (abc[0] * dy[i] * w[i] + abc[1] * (x[i] - mean) + abc[2]);
}

static void rope(float *y, const float *x, const float *cs, const float *sn, size_t r) {
    for (size_t i = 0; i < r / 2; i++) {
        const float a = x[i], b = x[i + r / 2];
        y[i] = a * cs[i] - b * sn[i];
        y[i + r / 2] = b * cs[i] + a * sn[i];
    }
}

static void add_f64(double *acc, const float *x, size_t ldx, size_t rows, size_t n) {
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) acc[i] += (double)x[r * ldx + i];
}

static void mask_draw(uint8_t *mask, const lt_rng *stream, uint32_t below, size_t n) {
    lt_rng r = *stream;
    for (size_t i = 0; i < n; i += 8) {
        uint32_t words[4], bits = 0;
        lt_rng_fill(&r, words, 4);
        for (uint32_t j = 0; j < 8; j++) bits |= (uint32_t)((words[j / 2] >> j % 2 * 16 & 0xFFFF) >= below) << j;
        mask[i / 8] = (uint8_t)bits;
    }
}

static bool kept(const uint8_t *mask, size_t i) {
    return mask[i / 8] >> i % 8 & 1;
}

static void mask_mul(float *y, const float *x, const uint8_t *mask, float a, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = kept(mask, i) ? a * x[i] : 0.0f;
}

static void mask_add(float *y, const float *x, const uint8_t *mask, float a, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += kept(mask, i) ? a * x[i] : 0.0f;
}

const lt_kernels lt_kernels_ref = { "ref", widen,     dot_rows, dot_stored, axpy,      exp_rows, exp_sum,
                                    max,   sumsq,     scale,    mul,        add,       silu_mul, silu_back,
                                    dot3,  norm_back, rope,     add_f64,    mask_draw, mask_mul, mask_add,
                                    0,     0,         0,        NULL,       NULL,      NULL };
