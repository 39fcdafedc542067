/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/parts.h"

enum {
    DEPTH = 1024,       /* of one pass over the inner dimension, a multiple of every block */
    STRIP = 256,        /* inner indices widened at a time, a multiple of every block */
    FEW_OUTPUTS = 96,   /* of one task, multiples of LT_UNIT ... */
    MANY_OUTPUTS = 192, /* ... three parts of 1024 x 192 fit an L2 cache of 2 MiB */
    GRAM_STEP = 512,    /* rows of one f32 sum */
    GRAM_COLUMNS = 96,  /* of one task */
    ROW_BYTES = 2 * LT_UNIT_PARTS
};
/* scratch of a thread: its own right panels, then (of the first thread) the left matrix for all */
static const size_t right_bytes = (size_t)2 << 20;

static size_t round_up(size_t a, size_t to) {
    return (a + to - 1) / to * to;
}
static size_t parts_of(size_t length, size_t part) {
    return (length + part - 1) / part;
}

/* ---- the right matrix: panels of LT_UNIT columns ---- */

/* where the columns of one task lie, and in how many parts each panel is */
typedef struct panels {
    uint16_t *data;
    size_t part_stride, panel_stride, steps;
    size_t parts[MANY_OUTPUTS / LT_UNIT];
} panels;

static panels panels_at(void *data, size_t nq) {
    const size_t steps = parts_of(nq, LT_UNIT), part = steps * LT_UNIT_STEP;
    return (panels){ .data = data, .part_stride = part, .panel_stride = LT_UNIT_PARTS * part, .steps = steps };
}

/* Address of element c of stored row r; c a multiple of the block. */
static const void *stored_at(const lt_tensor *w, size_t r, size_t c) {
    const lt_dtype_row *type = lt_dtype_get(w->dtype);
    return (const char *)lt_tensor_row(w, r) + c / type->block * type->bytes;
}

/* rows o .. o + cols of w, inner indices q .. q + nq: through f32 */
static size_t widen_rows(const lt_kernels *k, const panels *to, uint16_t *dst, const lt_tensor *w, size_t o,
                         size_t cols, size_t q, size_t nq) {
    float strip[LT_UNIT * STRIP];
    size_t most = 1;
    for (size_t at = 0; at < nq; at += STRIP) {
        const size_t n = lt_min_size(STRIP, nq - at);
        for (size_t j = 0; j < cols; j++) k->widen(strip + j * STRIP, w->dtype, stored_at(w, o + j, q + at), n);
        const size_t parts =
            k->unit->right_rows(dst + at / LT_UNIT * LT_UNIT_STEP, to->part_stride, strip, STRIP, cols, n);
        most = lt_max_size(most, parts);
    }
    return most;
}

/* Rows of a matrix of rank 2 are evenly apart; others are gathered through f32. */
static size_t panel_by_rows(const lt_kernels *k, const panels *to, uint16_t *dst, const lt_tensor *w, size_t o,
                            size_t cols, size_t q, size_t nq) {
    if (w->rank == 2 && w->dtype == LT_F32)
        return k->unit->right_rows(dst, to->part_stride, stored_at(w, o, q), w->stride[0], cols, nq);
    if (w->rank != 2 || w->dtype != LT_BF16) return widen_rows(k, to, dst, w, o, cols, q, nq);
    k->unit->right_bf16(dst, stored_at(w, o, q), w->stride[0], cols, nq);
    return 1;
}

/* Stored rows are inner indices; o and the end of the panel may lie inside a block. */
static size_t panel_by_columns(const lt_kernels *k, const panels *to, uint16_t *dst, const lt_tensor *w, size_t o,
                               size_t cols, size_t q, size_t nq) {
    enum { WIDEST = LT_UNIT + 2 * STRIP };
    if (w->rank == 2 && w->dtype == LT_F32)
        return k->unit->right_columns(dst, to->part_stride, stored_at(w, q, o), w->stride[0], cols, nq);
    const size_t block = lt_dtype_get(w->dtype)->block, first = o / block * block, end = round_up(o + cols, block);
    float rows[LT_UNIT * WIDEST];
    size_t most = 1;
    for (size_t at = 0; at < nq; at += LT_UNIT, dst += LT_UNIT_STEP) {
        const size_t n = lt_min_size(LT_UNIT, nq - at);
        for (size_t r = 0; r < n; r++)
            k->widen(rows + r * WIDEST, w->dtype, stored_at(w, q + at + r, first), end - first);
        most = lt_max_size(most, k->unit->right_columns(dst, to->part_stride, rows + (o - first), WIDEST, cols, n));
    }
    return most;
}

static void fill_panels(const lt_kernels *k, panels *to, const lt_packed *p, size_t o, size_t n, size_t q, size_t nq) {
    for (size_t at = 0; at < n; at += LT_UNIT) {
        const size_t i = at / LT_UNIT, cols = lt_min_size(LT_UNIT, n - at);
        uint16_t *dst = to->data + i * to->panel_stride;
        to->parts[i] = p->by_rows ? panel_by_rows(k, to, dst, p->w, o + at, cols, q, nq)
                                  : panel_by_columns(k, to, dst, p->w, o + at, cols, q, nq);
    }
}

/* ---- products ---- */

/* one pass over inner indices q .. q + nq of rows i .. i + m; left: their blocks, split */
typedef struct pass {
    const lt_packed *p;
    uint16_t *left;
    size_t left_stride, i, m, q, nq;
} pass;

static void split_block(const lt_kernels *k, const pass *s, size_t block) {
    const lt_packed *p = s->p;
    const size_t row = block * LT_UNIT;
    k->unit->left(s->left + block * s->left_stride, p->a + (s->i + row) * p->rs + s->q * p->cs, p->rs, p->cs,
                  lt_min_size(LT_UNIT, s->m - row), s->nq);
}

/* Outputs o .. o + n of rows from .. to of the pass. */
static void run_task(const lt_kernels *k, void *scratch, const pass *s, size_t o, size_t n, size_t from, size_t to) {
    const lt_packed *p = s->p;
    panels b = panels_at(scratch, s->nq);
    fill_panels(k, &b, p, o, n, s->q, s->nq);
    for (size_t row = from; row < to; row += LT_UNIT)
        for (size_t at = 0; at < n; at += LT_UNIT)
            k->unit->multiply(p->y + (s->i + row) * p->ldy + o + at, p->ldy, p->alpha, s->q ? 1.0f : p->beta,
                              s->left + row / LT_UNIT * s->left_stride, b.data + at / LT_UNIT * b.panel_stride,
                              b.part_stride, b.parts[at / LT_UNIT], b.steps, lt_min_size(LT_UNIT, to - row),
                              lt_min_size(LT_UNIT, n - at));
}

/* Tasks of one pass: outputs x rows. Few outputs leave few tasks, unless rows are cut too. */
typedef struct grid {
    size_t outputs, rows, across, down;
} grid;
static grid grid_of(size_t m, size_t n) {
    grid g = { .outputs = n < 4 * MANY_OUTPUTS ? FEW_OUTPUTS : MANY_OUTPUTS };
    g.across = parts_of(n, g.outputs);
    g.rows = lt_max_size(8 * LT_UNIT, round_up(parts_of(m, parts_of(8, g.across)), LT_UNIT));
    g.down = parts_of(m, g.rows);
    return g;
}

/* All threads call it: the left matrix is split, then multiplied. */
static void run_pass(lt_team *team, const pass *s, grid g) {
    void *own = team->scratch[lt_team_thread()];
#pragma omp for schedule(static)
    for (size_t b = 0; b < parts_of(s->m, LT_UNIT); b++) split_block(team->k, s, b);
#pragma omp for schedule(dynamic, 1)
    for (size_t t = 0; t < g.across * g.down; t++) {
        const size_t o = t / g.down * g.outputs, from = t % g.down * g.rows;
        run_task(team->k, own, s, o, lt_min_size(g.outputs, s->p->n - o), from, lt_min_size(s->m, from + g.rows));
    }
}

void lt_parts_multiply(lt_team *team, const lt_packed *p) {
    const size_t depth = round_up(parts_of(p->k, parts_of(p->k, DEPTH)), STRIP),
                 stride = round_up(lt_min_size(depth, p->k), LT_UNIT) * LT_UNIT * LT_UNIT_PARTS,
                 fits = (team->scratch_bytes - right_bytes) / (stride * sizeof(uint16_t)) * LT_UNIT;
#pragma omp parallel num_threads(team->threads)
    {
        team->k->unit->enter();
        for (size_t i = 0; i < p->m; i += fits)
            for (size_t q = 0; q < p->k; q += depth) {
                const pass s = { p,
                                 (uint16_t *)((char *)team->scratch[0] + right_bytes),
                                 stride,
                                 i,
                                 lt_min_size(fits, p->m - i),
                                 q,
                                 lt_min_size(depth, p->k - q) };
                run_pass(team, &s, grid_of(s.m, p->n));
            }
        team->k->unit->leave();
    }
}

/* ---- Gram ---- */

static size_t packed_at(size_t i) {
    return i * (i + 1) / 2;
}

/* acc += what of a block with corner (i, j) lies on and below the diagonal */
static void add_block(const lt_kernels *k, double *acc, const float *c, size_t i, size_t rows, size_t j, size_t cols) {
    for (size_t r = 0; r < rows; r++)
        if (i + r >= j) k->add_f64(acc + packed_at(i + r) + j, c + r * LT_UNIT, lt_min_size(cols, i + r - j + 1));
}

/* Columns j .. j + n of the lower triangle; left: all d columns of these rows of x, split. */
static void gram_task(const lt_kernels *k, void *scratch, double *acc, const uint16_t *left, size_t left_stride,
                      size_t rows, size_t d, size_t j, size_t n) {
    panels b = panels_at(scratch, rows);
    float c[LT_UNIT * LT_UNIT];
    for (size_t at = 0; at < n; at += LT_UNIT)
        k->unit->right_of_left(b.data + at / LT_UNIT * b.panel_stride, b.part_stride,
                               left + (j + at) / LT_UNIT * left_stride, b.steps);
    for (size_t i = j; i < d; i += LT_UNIT)
        for (size_t at = 0; at < n && j + at <= i; at += LT_UNIT) {
            k->unit->multiply(c, LT_UNIT, 1.0f, 0.0f, left + i / LT_UNIT * left_stride,
                              b.data + at / LT_UNIT * b.panel_stride, b.part_stride, LT_UNIT_PARTS, b.steps, LT_UNIT,
                              LT_UNIT);
            add_block(k, acc, c, i, lt_min_size(LT_UNIT, d - i), j + at, lt_min_size(LT_UNIT, n - at));
        }
}

void lt_parts_gram(lt_team *team, double *acc, const float *x, size_t ldx, size_t n, size_t d) {
    const size_t fits = (team->scratch_bytes - right_bytes) / (round_up(d, LT_UNIT) * ROW_BYTES) / LT_UNIT * LT_UNIT,
                 step = lt_min_size(GRAM_STEP, lt_max_size(fits, LT_UNIT)),
                 stride = round_up(lt_min_size(step, n), LT_UNIT) * LT_UNIT * LT_UNIT_PARTS;
    uint16_t *left = (uint16_t *)((char *)team->scratch[0] + right_bytes);
#pragma omp parallel num_threads(team->threads)
    {
        void *own = team->scratch[lt_team_thread()];
        team->k->unit->enter();
        for (size_t r = 0; r < n; r += step) {
            const size_t rows = lt_min_size(step, n - r);
#pragma omp for schedule(static)
            for (size_t i = 0; i < d; i += LT_UNIT)
                team->k->unit->left(left + i / LT_UNIT * stride, x + r * ldx + i, 1, ldx, lt_min_size(LT_UNIT, d - i),
                                    rows);
#pragma omp for schedule(dynamic, 1)
            for (size_t j = 0; j < d; j += GRAM_COLUMNS)
                gram_task(team->k, own, acc, left, stride, rows, d, j, lt_min_size(GRAM_COLUMNS, d - j));
        }
        team->k->unit->leave();
    }
}
