/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/thin.h"

#include <string.h>

#include "linalg/layout.h"

enum {
    STRIP = 256,  /* columns whose dropped entries are left out at a time; a multiple of 8 */
    COLUMNS = 96, /* of one task where rows are summed; a multiple of every register tile's width, and of 8 */
    ROWS = 32,    /* rows left out at a time there */
    MOST_ROWS = 8,
    MOST_WIDE = 48,
    PLAIN_LANES = 16,
    WORK = 1 << 15 /* entries; fewer are not worth a parallel region */
};

/* What a register tile of this table is; the table without one has loops of the same shape. */
typedef struct shape {
    size_t rows, wide, lanes;
} shape;
static shape shape_of(const lt_kernels *k) {
    if (!k->tile) return (shape){ MOST_ROWS, MOST_WIDE, PLAIN_LANES };
    return (shape){ k->tile_rows, k->tile_vectors * k->lanes, k->lanes };
}

/* c[r, j] = sum_p a[r rs + p cs] b[p ldb + j] (+ c[r, j] when add); j < cols, whole vectors */
static void run_tile(const lt_kernels *k, float *c, size_t ldc, bool add, const float *a, size_t rs, size_t cs,
                     const float *b, size_t ldb, size_t depth, size_t rows, size_t cols) {
    if (k->tile) {
        k->tile(c, ldc, 1.0f, add ? 1.0f : 0.0f, a, rs, cs, b, ldb, depth, rows, cols / k->lanes);
        return;
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < cols; j++) {
            float sum = add ? c[r * ldc + j] : 0.0f;
            for (size_t p = 0; p < depth; p++) sum += a[r * rs + p * cs] * b[p * ldb + j];
            c[r * ldc + j] = sum;
        }
}

static const uint8_t *mask_at(const lt_thin *s, size_t row, size_t col) {
    return s->mask + row * s->mask_ld + col / 8;
}

static int threads_for(const lt_team *team, const lt_thin *s) {
    return s->n * s->d < WORK ? 1 : team->threads;
}

/* ---- project ---- */

/* v as columns: [d, wide], zeros past q */
static void pack_columns(const lt_kernels *k, float *to, size_t wide, const float *v, size_t q, size_t d) {
    for (size_t j = 0; k->tile && j < wide; j += k->lanes)
        k->pack(to + j, wide, v + j * d, d, lt_min_size(k->lanes, q - j), d);
    if (k->tile) return;
    for (size_t c = 0; c < d; c++)
        for (size_t j = 0; j < wide; j++) to[c * wide + j] = j < q ? v[j * d + c] : 0.0f;
}

/* Rows i .. i + rows, outputs of one register tile. */
static void project_rows(const lt_kernels *k, float *t, const float *x, const float *columns, size_t wide, size_t valid,
                         const lt_thin *s, size_t i, size_t rows) {
    float strip[MOST_ROWS * STRIP], sum[MOST_ROWS * MOST_WIDE] = { 0.0f };
    const size_t step = s->mask ? STRIP : s->d;
    for (size_t c = 0; c < s->d; c += step) {
        const size_t n = lt_min_size(step, s->d - c);
        const float *a = x + i * s->d + c;
        for (size_t r = 0; s->mask && r < rows; r++)
            k->mask_mul(strip + r * STRIP, a + r * s->d, mask_at(s, i + r, c), 1.0f, n);
        run_tile(k, sum, wide, c > 0, s->mask ? strip : a, s->mask ? STRIP : s->d, 1, columns + c * wide, wide, n, rows,
                 wide);
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < valid; j++) t[(i + r) * s->q + j] = (float)s->alpha * sum[r * wide + j];
}

void lt_thin_project(lt_team *team, float *t, const float *x, const float *v, const lt_thin *s) {
    const shape tile = shape_of(team->k);
    for (size_t j = 0; j < s->q; j += tile.wide) {
        const size_t valid = lt_min_size(tile.wide, s->q - j), wide = lt_round_up(valid, tile.lanes);
        float *columns = team->scratch[0];
        pack_columns(team->k, columns, wide, v + j * s->d, valid, s->d);
#pragma omp parallel for num_threads(threads_for(team, s)) schedule(static)
        for (size_t i = 0; i < s->n; i += tile.rows)
            project_rows(team->k, t + j, x, columns, wide, valid, s, i, lt_min_size(tile.rows, s->n - i));
    }
}

/* ---- expand ---- */

/* y[rows, cols] += alpha (a tile) ∘ mask */
static void add_tile(const lt_kernels *k, float *y, const float *tile, size_t wide, const lt_thin *s, size_t i,
                     size_t rows, size_t c, size_t cols) {
    for (size_t r = 0; r < rows; r++) {
        float *to = y + (i + r) * s->d + c;
        if (s->mask)
            k->mask_add(to, tile + r * wide, mask_at(s, i + r, c), (float)s->alpha, cols);
        else
            for (size_t j = 0; j < cols; j++) to[j] += (float)s->alpha * tile[r * wide + j];
    }
}

static void expand_rows(const lt_kernels *k, float *y, const float *t, const float *v, size_t ldv, const lt_thin *s,
                        size_t i, size_t rows) {
    const shape tile = shape_of(k);
    for (size_t c = 0; c < s->d; c += tile.wide) {
        const size_t cols = lt_min_size(tile.wide, s->d - c), wide = lt_round_up(cols, tile.lanes);
        float part[MOST_ROWS * MOST_WIDE];
        if (!s->mask && s->alpha == 1.0 && cols == wide) {
            run_tile(k, y + i * s->d + c, s->d, true, t + i * s->q, s->q, 1, v + c, ldv, s->q, rows, wide);
            continue;
        }
        run_tile(k, part, wide, false, t + i * s->q, s->q, 1, v + c, ldv, s->q, rows, wide);
        add_tile(k, y, part, wide, s, i, rows, c, cols);
    }
}

void lt_thin_expand(lt_team *team, float *y, const float *t, const float *v, const lt_thin *s) {
    const shape tile = shape_of(team->k);
    const size_t ldv = lt_round_up(s->d, tile.lanes);
    float *padded = team->scratch[0];
    for (size_t j = 0; j < s->q; j++) {
        memcpy(padded + j * ldv, v + j * s->d, s->d * sizeof *v);
        memset(padded + j * ldv + s->d, 0, (ldv - s->d) * sizeof *v);
    }
#pragma omp parallel for num_threads(threads_for(team, s)) schedule(static)
    for (size_t i = 0; i < s->n; i += tile.rows)
        expand_rows(team->k, y, t, padded, ldv, s, i, lt_min_size(tile.rows, s->n - i));
}

/* ---- outer ---- */

/* Rows i .. i + rows, columns c .. c + cols of x ∘ mask, padded to whole vectors. */
static void take_strip(const lt_kernels *k, float *strip, size_t wide, const float *x, const lt_thin *s, size_t i,
                       size_t rows, size_t c, size_t cols) {
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + (i + r) * s->d + c;
        float *to = strip + r * wide;
        if (s->mask)
            k->mask_mul(to, from, mask_at(s, i + r, c), 1.0f, cols);
        else
            memcpy(to, from, cols * sizeof *to);
        for (size_t j = cols; j < wide; j++) to[j] = 0.0f;
    }
}

/* sum[q, wide] += tᵀ strip over `rows` rows */
static void add_outer(const lt_kernels *k, float *sum, const float *t, const float *strip, size_t wide, size_t q,
                      size_t rows, bool add) {
    const shape tile = shape_of(k);
    for (size_t j = 0; j < q; j += tile.rows)
        for (size_t c = 0; c < wide; c += tile.wide)
            run_tile(k, sum + j * wide + c, wide, add, t + j, 1, q, strip + c, wide, rows,
                     lt_min_size(tile.rows, q - j), lt_min_size(tile.wide, wide - c));
}

static void outer_columns(const lt_kernels *k, float *scratch, float *dv, const float *t, const float *x,
                          const lt_thin *s, size_t c) {
    const size_t cols = lt_min_size(COLUMNS, s->d - c), wide = lt_round_up(cols, shape_of(k).lanes);
    float *sum = scratch, strip[ROWS * COLUMNS];
    for (size_t i = 0; i < s->n; i += ROWS) {
        const size_t rows = lt_min_size(ROWS, s->n - i);
        take_strip(k, strip, wide, x, s, i, rows, c, cols);
        add_outer(k, sum, t + i * s->q, strip, wide, s->q, rows, i > 0);
    }
    for (size_t j = 0; s->n > 0 && j < s->q; j++)
        for (size_t p = 0; p < cols; p++) dv[j * s->d + c + p] += (float)s->alpha * sum[j * wide + p];
}

void lt_thin_outer(lt_team *team, float *dv, const float *t, const float *x, const lt_thin *s) {
#pragma omp parallel for num_threads(threads_for(team, s)) schedule(static, 1)
    for (size_t c = 0; c < s->d; c += COLUMNS) outer_columns(team->k, team->scratch[lt_team_thread()], dv, t, x, s, c);
}
