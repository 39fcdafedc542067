/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/parts.h"

#include "linalg/layout.h"

/* Tile loads must come from the L2 cache (2 MiB): the third runs them at two thirds of the speed, and what another core
 * has just written is slower still. So a thread splits some rows of the left matrix for itself, and multiplies them
 * with one panel of the right one after the other. */
enum {
    DEPTH = 1024,         /* of one pass over the inner dimension, a multiple of every block */
    STRIP = 256,          /* inner indices widened at a time, a multiple of every block */
    LEFT_BYTES = 1 << 20, /* of the rows of one task */
    FEW_OUTPUTS = 192,    /* the fewest of one task */
    TASKS = 8,            /* so many are enough for some threads */
    GRAM_STEP = 512,      /* rows of one f32 sum */
    GRAM_COLUMNS = 96,    /* of one task, at least */
    GRAM_MOST = 288, /* whose parts stay in the L2 cache: each other column comes from the third once for all of them */
    GRAM_TASKS = 5,  /* not fewer, for some threads */
    ROW_BYTES = 2 * LT_UNIT_PARTS
};
/* scratch of a thread: panels of the right matrix, then rows of the left */
static const size_t right_bytes = (size_t)2 << 20;

/* ---- the right matrix: panels of LT_UNIT columns ---- */

typedef struct panels {
    uint16_t *data;
    size_t part_stride, stride, steps;
} panels;

static panels panels_at(void *data, size_t nq) {
    const size_t steps = lt_parts_of(nq, LT_UNIT), part = steps * LT_UNIT_STEP;
    return (panels){ .data = data, .part_stride = part, .stride = LT_UNIT_PARTS * part, .steps = steps };
}

/* rows o .. o + cols of w, inner indices q .. q + nq: through f32 */
static size_t widen_rows(const lt_kernels *k, const panels *to, uint16_t *dst, const lt_tensor *w, size_t o,
                         size_t cols, size_t q, size_t nq) {
    float strip[LT_UNIT * STRIP];
    size_t most = 1;
    for (size_t at = 0; at < nq; at += STRIP) {
        const size_t n = lt_min_size(STRIP, nq - at);
        for (size_t j = 0; j < cols; j++) k->widen(strip + j * STRIP, w->dtype, lt_stored_at(w, o + j, q + at), n);
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
        return k->unit->right_rows(dst, to->part_stride, lt_stored_at(w, o, q), w->stride[0], cols, nq);
    if (w->rank != 2 || w->dtype != LT_BF16) return widen_rows(k, to, dst, w, o, cols, q, nq);
    k->unit->right_bf16(dst, lt_stored_at(w, o, q), w->stride[0], cols, nq);
    return 1;
}

/* Stored rows are inner indices; o and the end of the panel may lie inside a block. */
static size_t panel_by_columns(const lt_kernels *k, const panels *to, uint16_t *dst, const lt_tensor *w, size_t o,
                               size_t cols, size_t q, size_t nq) {
    enum { WIDEST = LT_UNIT + 2 * STRIP };
    if (w->rank == 2 && w->dtype == LT_F32)
        return k->unit->right_columns(dst, to->part_stride, lt_stored_at(w, q, o), w->stride[0], cols, nq);
    const size_t block = lt_dtype_get(w->dtype)->block, first = o / block * block, end = lt_round_up(o + cols, block);
    float rows[LT_UNIT * WIDEST];
    size_t most = 1;
    for (size_t at = 0; at < nq; at += LT_UNIT, dst += LT_UNIT_STEP) {
        const size_t n = lt_min_size(LT_UNIT, nq - at);
        for (size_t r = 0; r < n; r++)
            k->widen(rows + r * WIDEST, w->dtype, lt_stored_at(w, q + at + r, first), end - first);
        most = lt_max_size(most, k->unit->right_columns(dst, to->part_stride, rows + (o - first), WIDEST, cols, n));
    }
    return most;
}

/* ---- products ---- */

/* Rows i .. i + m times outputs o .. o + n. */
typedef struct task {
    size_t i, m, o, n;
} task;

/* One pass over inner indices q .. q + nq; left: the task's rows, split. */
static void run_panels(const lt_kernels *k, void *scratch, const lt_packed *p, task t, size_t q, size_t nq,
                       const uint16_t *left, size_t left_stride) {
    const panels b = panels_at(scratch, nq);
    for (size_t o = t.o; o < t.o + t.n; o += LT_UNIT) {
        const size_t cols = lt_min_size(LT_UNIT, t.o + t.n - o),
                     parts = p->by_rows ? panel_by_rows(k, &b, b.data, p->w, o, cols, q, nq)
                                        : panel_by_columns(k, &b, b.data, p->w, o, cols, q, nq);
        for (size_t row = 0; row < t.m; row += LT_UNIT)
            k->unit->multiply(p->y + (t.i + row) * p->ldy + o, p->ldy, p->alpha, q ? 1.0f : p->beta,
                              left + row / LT_UNIT * left_stride, b.data, b.part_stride, parts, b.steps,
                              lt_min_size(LT_UNIT, t.m - row), cols);
    }
}

static void split_rows(const lt_kernels *k, uint16_t *left, size_t stride, const lt_packed *p, task t, size_t q,
                       size_t nq) {
    for (size_t row = 0; row < t.m; row += LT_UNIT, left += stride)
        k->unit->left(left, p->a + (t.i + row) * p->rs + q * p->cs, p->rs, p->cs, lt_min_size(LT_UNIT, t.m - row), nq);
}

/* Where the rows of a were split already by this thread, they still are (*have: the first one of them). */
static void run_task(const lt_kernels *k, char *scratch, const lt_packed *p, task t, size_t depth, size_t *have) {
    uint16_t *left = (uint16_t *)(scratch + right_bytes);
    for (size_t q = 0; q < p->k; q += depth) {
        const size_t nq = lt_min_size(depth, p->k - q), stride = lt_round_up(nq, LT_UNIT) * LT_UNIT * LT_UNIT_PARTS;
        if (*have != t.i || depth < p->k) split_rows(k, left, stride, p, t, q, nq);
        run_panels(k, scratch, p, t, q, nq, left, stride);
    }
    *have = t.i;
}

/* The cut of a product: `down` x `across` tasks. */
typedef struct grid {
    size_t rows, outputs, down, across;
} grid;
static grid grid_of(const lt_packed *p, size_t depth) {
    const size_t fits = LEFT_BYTES / (lt_min_size(depth, lt_round_up(p->k, LT_UNIT)) * ROW_BYTES);
    grid g = { .rows = lt_round_up(lt_parts_of(p->m, lt_parts_of(p->m, lt_max_size(fits, LT_UNIT))), LT_UNIT) };
    g.down = lt_parts_of(p->m, g.rows);
    const size_t most = lt_max_size(p->n / FEW_OUTPUTS, 1);
    g.outputs = lt_round_up(lt_parts_of(p->n, lt_min_size(lt_parts_of(TASKS, g.down), most)), LT_UNIT);
    g.across = lt_parts_of(p->n, g.outputs);
    return g;
}

void lt_parts_multiply(lt_team *team, const lt_packed *p) {
    const size_t depth = lt_round_up(lt_parts_of(p->k, lt_parts_of(p->k, DEPTH)), STRIP);
    const grid g = grid_of(p, depth);
#pragma omp parallel num_threads(team->threads) if (g.down * g.across > 1)
    {
        size_t have = SIZE_MAX;
        team->k->unit->enter();
#pragma omp for schedule(dynamic, 1) nowait
        for (size_t s = 0; s < g.down * g.across; s++) {
            const size_t i = s / g.across * g.rows, o = s % g.across * g.outputs;
            const task t = { i, lt_min_size(g.rows, p->m - i), o, lt_min_size(g.outputs, p->n - o) };
            run_task(team->k, team->scratch[lt_team_thread()], p, t, depth, &have);
        }
        team->k->unit->leave();
    }
}

/* ---- products of split operands ---- */

size_t lt_split_bytes(size_t n, size_t k) {
    return lt_round_up(n, LT_UNIT) * lt_round_up(k, LT_UNIT) * ROW_BYTES;
}

lt_split lt_split_left(const lt_kernels *k, void *to, const float *a, size_t lda, size_t n, size_t inner) {
    const lt_split s = { .data = to, .stride = lt_round_up(inner, LT_UNIT) * LT_UNIT * LT_UNIT_PARTS };
    for (size_t i = 0; i < n; i += LT_UNIT)
        k->unit->left(s.data + i / LT_UNIT * s.stride, a + i * lda, lda, 1, lt_min_size(LT_UNIT, n - i), inner);
    return s;
}

lt_split lt_split_right(const lt_kernels *k, void *to, const float *b, size_t ldb, bool by_rows, size_t n,
                        size_t inner) {
    const panels p = panels_at(to, inner);
    lt_split s = { p.data, p.stride, p.part_stride, 1 };
    for (size_t j = 0; j < n; j += LT_UNIT) {
        uint16_t *dst = s.data + j / LT_UNIT * s.stride;
        const size_t cols = lt_min_size(LT_UNIT, n - j),
                     parts = by_rows ? k->unit->right_rows(dst, s.part_stride, b + j * ldb, ldb, cols, inner)
                                     : k->unit->right_columns(dst, s.part_stride, b + j, ldb, cols, inner);
        s.parts = lt_max_size(s.parts, parts);
    }
    return s;
}

void lt_split_multiply(const lt_kernels *k, float *c, size_t ldc, float beta, const lt_split *left, size_t row,
                       size_t rows, const lt_split *right, size_t cols, size_t inner) {
    const size_t steps = lt_parts_of(inner, LT_UNIT);
    for (size_t j = 0; j < cols; j += LT_UNIT)
        for (size_t i = 0; i < rows; i += LT_UNIT)
            k->unit->multiply(c + i * ldc + j, ldc, 1.0f, beta, left->data + (row + i) / LT_UNIT * left->stride,
                              right->data + j / LT_UNIT * right->stride, right->part_stride, right->parts, steps,
                              lt_min_size(LT_UNIT, rows - i), lt_min_size(LT_UNIT, cols - j));
}

/* ---- Gram ---- */

/* acc += what of a block with corner (i, j) lies on and below the diagonal */
static void add_block(const lt_kernels *k, double *acc, const float *c, size_t i, size_t rows, size_t j, size_t cols) {
    for (size_t r = 0; r < rows; r++)
        if (i + r >= j) k->add_f64(acc + lt_packed_at(i + r) + j, c + r * LT_UNIT, lt_min_size(cols, i + r - j + 1));
}

/* Columns j .. j + n of the lower triangle; left: all d columns of these rows of x, split. */
static void gram_task(const lt_kernels *k, void *scratch, double *acc, const uint16_t *left, size_t left_stride,
                      size_t rows, size_t d, size_t j, size_t n) {
    const panels b = panels_at(scratch, rows);
    float c[LT_UNIT * LT_UNIT];
    for (size_t at = 0; at < n; at += LT_UNIT)
        k->unit->right_of_left(b.data + at / LT_UNIT * b.stride, b.part_stride, left + (j + at) / LT_UNIT * left_stride,
                               b.steps);
    for (size_t i = j; i < d; i += LT_UNIT)
        for (size_t at = 0; at < n && j + at <= i; at += LT_UNIT) {
            k->unit->multiply(c, LT_UNIT, 1.0f, 0.0f, left + i / LT_UNIT * left_stride,
                              b.data + at / LT_UNIT * b.stride, b.part_stride, LT_UNIT_PARTS, b.steps, LT_UNIT,
                              LT_UNIT);
            add_block(k, acc, c, i, lt_min_size(LT_UNIT, d - i), j + at, lt_min_size(LT_UNIT, n - at));
        }
}

void lt_parts_gram(lt_team *team, double *acc, const float *x, size_t ldx, size_t n, size_t d) {
    const size_t fits = (team->scratch_bytes - right_bytes) / (lt_round_up(d, LT_UNIT) * ROW_BYTES) / LT_UNIT * LT_UNIT,
                 step = lt_min_size(GRAM_STEP, lt_max_size(fits, LT_UNIT)),
                 stride = lt_round_up(lt_min_size(step, n), LT_UNIT) * LT_UNIT * LT_UNIT_PARTS;
    const size_t left_step = (size_t)LT_UNIT_PARTS * LT_UNIT_STEP,
                 columns = lt_min_size(GRAM_MOST,
                                       lt_max_size(GRAM_COLUMNS, lt_round_up(lt_parts_of(d, GRAM_TASKS), LT_UNIT)));
    uint16_t *left = (uint16_t *)((char *)team->scratch[0] + right_bytes);
#pragma omp parallel num_threads(team->threads)
    {
        void *own = team->scratch[lt_team_thread()];
        team->k->unit->enter();
        for (size_t r = 0; r < n; r += step) {
            const size_t rows = lt_min_size(step, n - r);
#pragma omp for schedule(static)
            for (size_t q = 0; q < rows; q += LT_UNIT) /* rows of x as they lie in memory */
                for (size_t i = 0; i < d; i += LT_UNIT)
                    team->k->unit->left(left + i / LT_UNIT * stride + q / LT_UNIT * left_step, x + (r + q) * ldx + i, 1,
                                        ldx, lt_min_size(LT_UNIT, d - i), lt_min_size(LT_UNIT, rows - q));
#pragma omp for schedule(dynamic, 1)
            for (size_t j = 0; j < d; j += columns)
                gram_task(team->k, own, acc, left, stride, rows, d, j, lt_min_size(columns, d - j));
        }
        team->k->unit->leave();
    }
}
