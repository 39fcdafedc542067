/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/packed.h"

#include <string.h>

#include "linalg/layout.h"

enum {
    DEPTH = 768, /* of one pass over the inner dimension: eight rows of a this long fit an L1 cache of 32 KiB */
    FEW_OUTPUTS = 96,
    MANY_OUTPUTS = 192, /* of one task: two or four panels of AVX-512 */
    STRIP = 256,        /* columns widened at a time, a multiple of every block */
    MOST_ROWS = 8,
    MOST_WIDE = 48,
    MOST_LANES = 16, /* of any table's register tile */
    LEAST_ROWS = 128,
    SOME_ROWS = 16, /* of a left matrix, which stay in an L1 cache while every block takes its part */
    GRAM_STEP = 512,
    GRAM_ROWS = 3072,   /* of the Gram at a time: their blocks lie in scratch, beside the panels of a task */
    GRAM_COLUMNS = 192, /* of a band, at most */
    GRAM_TASKS = 4      /* of two bands, for each thread, where a tile's width allows them */
};

/* ---- packing: n outputs as panels one after the other, as wide as one register tile; the last may be narrower ---- */

typedef struct panels {
    size_t n, wide, lanes;
} panels;

/* 64 outputs of AVX-512 are 32 + 32, not 48 + 16: wide tiles of even width keep both multipliers busy */
static panels panels_of(const lt_kernels *k, size_t n) {
    const size_t vectors = lt_parts_of(n, k->lanes);
    return (panels){ n, vectors ? lt_parts_of(vectors, lt_parts_of(vectors, k->tile_vectors)) * k->lanes : k->lanes,
                     k->lanes };
}
/* outputs of the panel at `from`, padded to whole vectors; lanes are a power of two, and this stands in inner loops */
static size_t stride_at(panels p, size_t from) {
    return lt_min_size(p.wide, (p.n - from + p.lanes - 1) & ~(p.lanes - 1));
}

/* Stored rows o .. o + rows, columns q0 .. q0 + nq, as columns of dst with stride ldd. */
static void pack_rows(const lt_kernels *k, float *dst, size_t ldd, const lt_tensor *w, size_t o, size_t rows, size_t q0,
                      size_t nq) {
    float strip[MOST_LANES * STRIP];
    if (w->dtype == LT_F32 && w->rank == 2) { /* as it lies: nothing to widen */
        k->pack(dst, ldd, lt_stored_at(w, o, q0), w->stride[0], rows, nq);
        return;
    }
    for (size_t q = 0; q < nq; q += STRIP) {
        const size_t n = lt_min_size(STRIP, nq - q);
        for (size_t j = 0; j < rows; j++) k->widen(strip + j * STRIP, w->dtype, lt_stored_at(w, o + j, q0 + q), n);
        k->pack(dst + q * ldd, ldd, strip, STRIP, rows, n);
    }
}

static void pack_by_rows(const lt_kernels *k, float *dst, panels to, const lt_tensor *w, size_t o, size_t q0,
                         size_t nq) {
    for (size_t from = 0; from < to.n; from += to.wide) {
        const size_t stride = stride_at(to, from);
        for (size_t j = 0; j < stride; j += k->lanes)
            pack_rows(k, dst + j, stride, w, o + from + j, lt_min_size(k->lanes, to.n - from - j), q0, nq);
        dst += stride * nq;
    }
}

/* Row q of every panel from its floats. */
static void spread(float *dst, panels to, const float *row, size_t q, size_t nq) {
    for (size_t from = 0; from < to.n; from += to.wide) {
        const size_t stride = stride_at(to, from), valid = lt_min_size(stride, to.n - from);
        memcpy(dst + q * stride, row + from, valid * sizeof *dst);
        if (valid < stride) memset(dst + q * stride + valid, 0, (stride - valid) * sizeof *dst);
        dst += stride * nq;
    }
}

/* o and the end of a tile may lie inside a block: the blocks around them are widened. */
static void pack_by_columns(const lt_kernels *k, float *dst, panels to, const lt_tensor *w, size_t o, size_t q0,
                            size_t nq) {
    const size_t block = lt_dtype_get(w->dtype)->block, first = o / block * block, end = lt_round_up(o + to.n, block);
    float strip[MANY_OUTPUTS + 2 * STRIP];
    for (size_t q = 0; q < nq; q++) {
        const void *row = lt_stored_at(w, q0 + q, first);
        if (w->dtype == LT_F32) {
            spread(dst, to, row, q, nq);
            continue;
        }
        k->widen(strip, w->dtype, row, end - first);
        spread(dst, to, strip + (o - first), q, nq);
    }
}

/* n rows of one block of the left matrix; constant sizes, because a call of memcpy for 32 bytes costs more than the
 * copy */
static void copy_block(float *dst, const float *a, size_t ld, size_t rows, size_t valid, size_t n) {
    for (size_t q = 0; q < n; q++, dst += rows, a += ld)
        if (valid == 8)
            memcpy(dst, a, 8 * sizeof *dst);
        else if (valid == 6)
            memcpy(dst, a, 6 * sizeof *dst);
        else
            memcpy(dst, a, valid * sizeof *dst);
}

/* Rows q .. q + n of m columns of a stored [nq, m] (stride ld), as blocks of tile_rows, so that a tile reads them in
 * order. */
static void pack_left(const lt_kernels *k, float *dst, const float *a, size_t ld, size_t m, size_t nq, size_t q,
                      size_t n) {
    const size_t rows = k->tile_rows;
    for (size_t i = 0; i < m; i += rows)
        copy_block(dst + i * nq + q * rows, a + q * ld + i, ld, rows, lt_min_size(rows, m - i), n);
}

/* ---- products ---- */

/* one pass of one block of rows: c[rows, n] = alpha a b + beta c over nq inner indices, b in panels */
typedef struct block {
    float *c;
    size_t ldc;
    float alpha, beta;
    const float *a;
    size_t rs, cs, nq, rows;
} block;

/* A register tile whose last vector is only partly wanted goes through a buffer. */
static void run_tile(const lt_kernels *k, const block *t, size_t at, const float *b, size_t ldb, size_t valid) {
    const size_t vectors = lt_parts_of(valid, k->lanes), wide = vectors * k->lanes;
    if (valid == wide) {
        k->tile(t->c + at, t->ldc, t->alpha, t->beta, t->a, t->rs, t->cs, b, ldb, t->nq, t->rows, vectors);
        return;
    }
    float part[MOST_ROWS * MOST_WIDE];
    k->tile(part, wide, t->alpha, 0.0f, t->a, t->rs, t->cs, b, ldb, t->nq, t->rows, vectors);
    for (size_t r = 0; r < t->rows; r++)
        for (size_t j = 0; j < valid; j++) {
            float *to = t->c + at + r * t->ldc + j;
            *to = t->beta == 0.0f ? part[r * wide + j] : part[r * wide + j] + *to * t->beta;
        }
}

static void run_block(const lt_kernels *k, const block *t, const float *b, panels p) {
    for (size_t from = 0; from < p.n; from += p.wide) {
        const size_t stride = stride_at(p, from);
        run_tile(k, t, from, b, stride, lt_min_size(stride, p.n - from));
        b += stride * t->nq;
    }
}

typedef struct task {
    size_t i, m, o, n;
} task; /* rows i .. i + m, outputs o .. o + n */

static size_t depth_of(size_t k) { /* equal passes, cut where blocks end */
    return lt_round_up(lt_parts_of(k, lt_parts_of(k, DEPTH)), STRIP);
}

/* Inner indices q .. q + nq of a task; scratch: b, and the left matrix when it is packed too. */
static void run_pass(const lt_kernels *k, float *b, const lt_packed *p, task t, size_t q, size_t nq) {
    const bool rows_apart = p->cs == 1;
    const float *a = p->a + t.i * p->rs + q * p->cs;
    const panels to = panels_of(k, t.n);
    float *left = b + lt_round_up(t.n, k->lanes) * nq;
    if (p->by_rows)
        pack_by_rows(k, b, to, p->w, t.o, q, nq);
    else
        pack_by_columns(k, b, to, p->w, t.o, q, nq);
    for (size_t some = 0; !rows_apart && some < nq; some += SOME_ROWS)
        pack_left(k, left, a, p->cs, t.m, nq, some, lt_min_size(SOME_ROWS, nq - some));
    for (size_t i = 0; i < t.m; i += k->tile_rows) {
        const block r = { .c = p->y + (t.i + i) * p->ldy + t.o,
                          .ldc = p->ldy,
                          .alpha = p->alpha,
                          .beta = q ? 1.0f : p->beta,
                          .a = rows_apart ? a + i * p->rs : left + i * nq,
                          .rs = rows_apart ? p->rs : 1,
                          .cs = rows_apart ? 1 : k->tile_rows,
                          .nq = nq,
                          .rows = lt_min_size(k->tile_rows, t.m - i) };
        run_block(k, &r, b, to);
    }
}

typedef struct cutting {
    size_t rows, outputs, down, across;
} cutting;

/* Wide tasks read the left matrix less often; narrow ones leave something for every thread. Packing costs as much as
 * about twelve rows, so tasks have all rows where the outputs alone give every thread the same number of tasks. Outputs
 * are cut evenly: what takes longest decides when all are done. */
static cutting cut(const lt_packed *p, size_t lanes, size_t threads) {
    const size_t most = p->cs == 1 ? 2048 : GRAM_STEP, wide = p->n < 4 * MANY_OUTPUTS ? FEW_OUTPUTS : MANY_OUTPUTS;
    cutting c = { .down = lt_parts_of(p->m, most) };
    c.outputs = lt_round_up(lt_parts_of(p->n, lt_parts_of(p->n, wide)), lanes);
    c.across = lt_parts_of(p->n, c.outputs);
    while (c.down * c.across % threads && c.down * c.across < 4 * threads && p->m / (c.down + 1) >= LEAST_ROWS)
        c.down++;
    c.rows = lt_round_up(lt_parts_of(p->m, c.down), MOST_ROWS);
    c.down = lt_parts_of(p->m, c.rows);
    return c;
}

typedef struct work {
    lt_team *team;
    const lt_packed *p;
    cutting cut;
    size_t depth;
} work;

static void run_task(void *arg, size_t s) {
    const work *g = arg;
    const lt_packed *p = g->p;
    const size_t i = s % g->cut.down * g->cut.rows, o = s / g->cut.down * g->cut.outputs;
    const task t = { i, lt_min_size(g->cut.rows, p->m - i), o, lt_min_size(g->cut.outputs, p->n - o) };
    for (size_t q = 0; q < p->k; q += g->depth)
        run_pass(g->team->k, g->team->scratch[lt_team_thread()], p, t, q, lt_min_size(g->depth, p->k - q));
}

void lt_packed_multiply(lt_team *team, const lt_packed *p) {
    work g = { team, p, cut(p, team->k->lanes, (size_t)team->threads), depth_of(p->k) };
    const size_t tasks = g.cut.down * g.cut.across;
    if (tasks > 1)
        lt_team_run(team, tasks, run_task, &g);
    else if (tasks)
        run_task(&g, 0);
}

/* ---- small products ---- */

/* b as stored rows of inner indices, read where it is; whole vectors only */
static void run_in_place(const lt_kernels *k, const lt_small *s, size_t i, size_t rows, panels ready) {
    const block t = { .c = s->c + i * s->ldc,
                      .ldc = s->ldc,
                      .alpha = s->alpha,
                      .beta = s->beta,
                      .a = s->a + (s->ta ? i : i * s->lda),
                      .rs = s->ta ? 1 : s->lda,
                      .cs = s->ta ? s->lda : 1,
                      .nq = s->k,
                      .rows = rows };
    for (size_t from = 0; from < ready.n; from += ready.wide)
        run_tile(k, &t, from, s->b + from, s->ldb, lt_min_size(ready.wide, ready.n - from));
}

/* Columns from .. from + n of c over inner indices q .. q + nq, through a packed panel on the stack. */
static void run_panel(const lt_kernels *k, const lt_small *s, size_t from, size_t n, size_t q, size_t nq) {
    _Alignas(64) float b[MOST_WIDE * STRIP];
    const size_t stride = lt_round_up(n, k->lanes);
    for (size_t j = 0; s->tb && j < n; j += k->lanes)
        k->pack(b + j, stride, s->b + (from + j) * s->ldb + q, s->ldb, lt_min_size(k->lanes, n - j), nq);
    for (size_t r = 0; !s->tb && r < nq; r++)
        spread(b, (panels){ n, stride, k->lanes }, s->b + (q + r) * s->ldb + from, r, nq);
    for (size_t i = 0; i < s->m; i += k->tile_rows) {
        const block t = { .c = s->c + i * s->ldc,
                          .ldc = s->ldc,
                          .alpha = s->alpha,
                          .beta = q ? 1.0f : s->beta,
                          .a = s->a + (s->ta ? i + q * s->lda : i * s->lda + q),
                          .rs = s->ta ? 1 : s->lda,
                          .cs = s->ta ? s->lda : 1,
                          .nq = nq,
                          .rows = lt_min_size(k->tile_rows, s->m - i) };
        run_tile(k, &t, from, b, stride, n);
    }
}

void lt_small_multiply(const lt_kernels *k, const lt_small *s) {
    const panels ready = panels_of(k, s->tb ? 0 : s->n / k->lanes * k->lanes), rest = panels_of(k, s->n - ready.n);
    for (size_t i = 0; ready.n && i < s->m; i += k->tile_rows)
        run_in_place(k, s, i, lt_min_size(k->tile_rows, s->m - i), ready);
    for (size_t from = 0; from < rest.n; from += rest.wide)
        for (size_t q = 0; q < s->k; q += STRIP)
            run_panel(k, s, ready.n + from, lt_min_size(rest.wide, rest.n - from), q, lt_min_size(STRIP, s->k - q));
}

/* ---- Gram ---- */

void lt_gram_add_tile(const lt_kernels *k, double *acc, const float *c, size_t ldc, size_t i, size_t rows, size_t j,
                      size_t cols) {
    for (size_t r = 0; r < rows; r++)
        if (i + r >= j) k->add_f64(acc + lt_packed_at(i + r) + j, c + r * ldc, 0, 1, lt_min_size(cols, i + r - j + 1));
}

/* Asks for n sums that are about to be added to. */
static void ask_for_sums(const double *acc, size_t n) {
    for (size_t j = 0; j < n; j += 8) __builtin_prefetch(acc + j, 1, 3);
}

/* One block of rows, the first of them row i of the Gram, over panels b of columns j0 .. : no vector lies wholly
 * above the diagonal. The sums of a tile, which come from the third cache, are asked for before its product. */
static void gram_block(const lt_kernels *k, double *acc, const float *a, size_t n, size_t i, size_t rows,
                       const float *b, panels to, size_t j0) {
    float c[MOST_ROWS * MOST_WIDE];
    for (size_t from = 0; from < to.n && j0 + from < i + rows; from += to.wide) {
        const size_t stride = stride_at(to, from), seen = lt_min_size(stride, i + rows - (j0 + from));
        for (size_t r = 0; r < rows; r++) ask_for_sums(acc + lt_packed_at(i + r) + j0 + from, seen);
        k->tile(c, stride, 1.0f, 0.0f, a, 1, k->tile_rows, b, stride, n, rows, lt_parts_of(seen, k->lanes));
        lt_gram_add_tile(k, acc, c, stride, i, rows, j0 + from, lt_min_size(stride, to.n - from));
        b += stride * n;
    }
}

/* n rows of x, and their columns i0 .. i0 + ni in blocks of tile_rows */
typedef struct gram_step {
    const lt_team *team;
    double *acc;
    const float *x;
    float *left;
    size_t ldx, n, i0, ni, columns;
} gram_step;

static void gram_pack(void *arg, size_t item) {
    const gram_step *s = arg;
    const size_t q = item * SOME_ROWS;
    pack_left(s->team->k, s->left, s->x + s->i0, s->ldx, s->ni, s->n, q, lt_min_size(SOME_ROWS, s->n - q));
}

/* Some columns of the Gram, from j: those of its rows i0 .. that are on or below the diagonal. */
static void gram_band(const gram_step *s, size_t j) {
    const lt_kernels *k = s->team->k;
    const size_t rows = k->tile_rows;
    const panels to = panels_of(k, lt_min_size(s->columns, s->i0 + s->ni - j));
    float *right = s->team->scratch[lt_team_thread()];
    for (size_t q = 0; q < s->n; q++) spread(right, to, s->x + q * s->ldx + j, q, s->n);
    for (size_t i = j > s->i0 ? j - s->i0 : 0; i < s->ni; i += rows)
        gram_block(k, s->acc, s->left + i * s->n, s->n, s->i0 + i, lt_min_size(rows, s->ni - i), right, to, j);
}

/* A band from each end: what is long for one is short for the other, so that items are equal. */
static void gram_bands(void *arg, size_t item) {
    const gram_step *s = arg;
    const size_t last = lt_parts_of(s->i0 + s->ni, s->columns) - 1 - item;
    gram_band(s, item * s->columns);
    if (last > item) gram_band(s, last * s->columns);
}

/* Every column of a step is packed once as the left side, by all threads for all, and once as the right one, by the
 * thread that multiplies it: widths are multiples of every tile. */
void lt_packed_gram(lt_team *team, double *acc, const float *x, size_t ldx, size_t n, size_t d) {
    const size_t share = lt_round_up(lt_parts_of(d, 2 * GRAM_TASKS * (size_t)team->threads), MOST_WIDE);
    gram_step s = { .team = team, .acc = acc, .ldx = ldx, .columns = lt_min_size(share, GRAM_COLUMNS) };
    s.left = (float *)team->scratch[0] + GRAM_COLUMNS * GRAM_STEP;
    for (size_t r = 0; r < n; r += GRAM_STEP) {
        s.x = x + r * ldx;
        s.n = lt_min_size(GRAM_STEP, n - r);
        for (s.i0 = 0; s.i0 < d; s.i0 += GRAM_ROWS) {
            s.ni = lt_min_size(GRAM_ROWS, d - s.i0);
            lt_team_run(team, lt_parts_of(s.n, SOME_ROWS), gram_pack, &s);
            lt_team_run(team, lt_parts_of(lt_parts_of(s.i0 + s.ni, s.columns), 2), gram_bands, &s);
        }
    }
}
