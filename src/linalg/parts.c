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
    FEW_ROWS = 128,       /* of a thread: fewer are not worth packing the right matrix for */
    MANY_OUTPUTS = 384,   /* of a task, where threads have rows of their own */
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

/* where a product goes, and its right side */
typedef struct target {
    float *y;
    size_t ldy;
    float alpha, beta;
    lt_stored w;
} target;

/* a left side, row i and inner index q at a + i rs + q cs */
typedef struct source {
    const float *a;
    size_t rs, cs, inner;
} source;

/* Rows i .. i + m times outputs o .. o + n. */
typedef struct task {
    size_t i, m, o, n;
} task;

/* Asks for some rows of the next panel of the right side while this one is multiplied: block `at` of `of`. */
static void ask_for(const lt_stored *w, size_t o, size_t end, size_t q, size_t nq, size_t at, size_t of) {
    if (w->in_out || w->w->rank != 2) return;
    const lt_dtype_row *type = lt_dtype_get(w->w->dtype);
    const size_t rows = lt_min_size(LT_UNIT, end - o), bytes = nq / type->block * type->bytes;
    for (size_t r = rows * at / of; r < rows * (at + 1) / of; r++) {
        const char *row = lt_stored_at(w->w, o + r, q);
        for (size_t b = 0; b < bytes; b += 64) __builtin_prefetch(row + b, 0, 2);
    }
}

/* One pass over inner indices q .. q + nq; left: the task's rows, split. */
static void run_panels(const lt_kernels *k, void *scratch, const target *to, task t, size_t q, size_t nq,
                       const uint16_t *left, size_t left_stride) {
    const panels b = panels_at(scratch, nq);
    const lt_tensor *w = to->w.w;
    const size_t blocks = lt_parts_of(t.m, LT_UNIT), end = t.o + t.n;
    for (size_t o = t.o; o < end; o += LT_UNIT) {
        const size_t cols = lt_min_size(LT_UNIT, end - o),
                     parts = to->w.in_out ? panel_by_columns(k, &b, b.data, w, o, cols, q, nq)
                                          : panel_by_rows(k, &b, b.data, w, o, cols, q, nq);
        for (size_t block = 0; block < blocks; block++) {
            const size_t row = block * LT_UNIT;
            if (o + LT_UNIT < end) ask_for(&to->w, o + LT_UNIT, end, q, nq, block, blocks);
            k->unit->multiply(to->y + (t.i + row) * to->ldy + o, to->ldy, to->alpha, q ? 1.0f : to->beta,
                              left + block * left_stride, b.data, b.part_stride, parts, b.steps,
                              lt_min_size(LT_UNIT, t.m - row), cols);
        }
    }
}

static void split_rows(const lt_kernels *k, uint16_t *left, size_t stride, const source *x, task t, size_t q,
                       size_t nq) {
    for (size_t row = 0; row < t.m; row += LT_UNIT, left += stride)
        k->unit->left(left, x->a + (t.i + row) * x->rs + q * x->cs, x->rs, x->cs, lt_min_size(LT_UNIT, t.m - row), nq);
}

static size_t depth_of(size_t inner) {
    return lt_round_up(lt_parts_of(inner, lt_parts_of(inner, DEPTH)), STRIP);
}

/* ready: left holds the rows of x already; after one pass over all of x it does */
static void run_passes(const lt_kernels *k, void *scratch, uint16_t *left, const source *x, const target *to, task t,
                       bool ready) {
    const size_t depth = depth_of(x->inner);
    for (size_t q = 0; q < x->inner; q += depth) {
        const size_t nq = lt_min_size(depth, x->inner - q), stride = lt_round_up(nq, LT_UNIT) * LT_UNIT * LT_UNIT_PARTS;
        if (!ready || depth < x->inner) split_rows(k, left, stride, x, t, q, nq);
        run_panels(k, scratch, to, t, q, nq, left, stride);
    }
}

/* Some products of one left side, cut into panels of rows times pieces of products. */
typedef struct work {
    lt_team *team;
    source x;
    const lt_parts_job *job;
    size_t n_jobs, m, rows, outputs, across; /* outputs: of one piece */
    float alpha, beta;
} work;

static size_t pieces_of(const work *g, size_t job) {
    return g->job[job].rank > 0 ? 1 : lt_parts_of(g->job[job].n, g->outputs);
}

/* The panel whose rows a thread has split, at the end of its scratch. */
static size_t *panel_of(const lt_team *team, int thread) {
    return (size_t *)(void *)((char *)team->scratch[thread] + team->scratch_bytes) - 1;
}

/* (x w0) w1 of some rows: what lies between is still near when it is split */
static void run_chain(const work *g, char *scratch, const lt_parts_job *job, task t, bool ready) {
    const lt_kernels *k = g->team->k;
    uint16_t *left = (uint16_t *)(scratch + right_bytes), *inner_left = left + LEFT_BYTES;
    const target first = { job->inner, job->rank, 1.0f, 0.0f, job->w[0] },
                 last = { job->y, job->ldy, 1.0f, 0.0f, job->w[1] };
    const source inner = { job->inner, job->rank, 1, job->rank };
    run_passes(k, scratch, left, &g->x, &first, (task){ t.i, t.m, 0, job->rank }, ready);
    run_passes(k, scratch, inner_left, &inner, &last, (task){ t.i, t.m, 0, job->n }, false);
}

static void run_item(void *arg, size_t item) {
    const work *g = arg;
    const int thread = lt_team_thread();
    const size_t panel = item / g->across, i = panel * g->rows;
    size_t piece = item % g->across, j = 0;
    while (piece >= pieces_of(g, j)) piece -= pieces_of(g, j++);
    const lt_parts_job *job = &g->job[j];
    const task t = { i, lt_min_size(g->rows, g->m - i), piece * g->outputs,
                     lt_min_size(g->outputs, job->n - lt_min_size(job->n, piece * g->outputs)) };
    char *scratch = g->team->scratch[thread];
    const bool ready = *panel_of(g->team, thread) == panel;
    g->team->k->unit->enter();
    if (job->rank > 0)
        run_chain(g, scratch, job, t, ready);
    else
        run_passes(g->team->k, scratch, (uint16_t *)(scratch + right_bytes), &g->x,
                   &(target){ job->y, job->ldy, g->alpha, g->beta, job->w[0] }, t, ready);
    g->team->k->unit->leave();
    *panel_of(g->team, thread) = panel;
}

/* Many rows: each thread has panels of its own, and splits each once. Few: all take part in all. */
static void run_work(work *g) {
    size_t widest = 0, deepest = g->x.inner;
    for (size_t j = 0; j < g->n_jobs; j++) {
        widest = lt_max_size(widest, g->job[j].n);
        deepest = lt_max_size(deepest, g->job[j].rank);
    }
    deepest = lt_round_up(deepest, LT_UNIT);
    const size_t threads = (size_t)g->team->threads,
                 fits = LEFT_BYTES / (lt_min_size(depth_of(deepest), deepest) * ROW_BYTES),
                 share = lt_parts_of(g->m, threads), most = share >= FEW_ROWS ? lt_min_size(fits, share) : fits;
    size_t panels_wanted = lt_parts_of(g->m, lt_max_size(most, LT_UNIT));
    if (share >= FEW_ROWS) panels_wanted = lt_round_up(panels_wanted, threads); /* equal shares */
    g->rows = lt_round_up(lt_parts_of(g->m, panels_wanted), LT_UNIT);
    const size_t down = lt_parts_of(g->m, g->rows);
    const size_t pieces = share >= FEW_ROWS ? (g->x.inner > DEPTH ? 1 : widest / MANY_OUTPUTS)
                                            : lt_min_size(lt_parts_of(TASKS, down), widest / FEW_OUTPUTS);
    g->outputs = lt_round_up(lt_parts_of(widest, lt_max_size(pieces, 1)), LT_UNIT);
    g->across = 0;
    for (size_t j = 0; j < g->n_jobs; j++) g->across += pieces_of(g, j);
    for (int t = 0; t < g->team->threads; t++) *panel_of(g->team, t) = SIZE_MAX;
    if (down * g->across > 1)
        lt_team_run(g->team, down * g->across, run_item, g);
    else
        run_item(g, 0);
}

void lt_parts_multiply(lt_team *team, const lt_packed *p) {
    const lt_parts_job job = { .y = p->y, .ldy = p->ldy, .n = p->n, .w = { { p->w, !p->by_rows } } };
    work g = { .team = team,
               .x = { p->a, p->rs, p->cs, p->k },
               .job = &job,
               .n_jobs = 1,
               .m = p->m,
               .alpha = p->alpha,
               .beta = p->beta };
    run_work(&g);
}

void lt_parts_each(lt_team *team, const lt_parts_job *jobs, size_t n_jobs, const float *x, size_t ldx, size_t m,
                   size_t inner) {
    work g = { .team = team, .x = { x, ldx, 1, inner }, .job = jobs, .n_jobs = n_jobs, .m = m, .alpha = 1.0f };
    if (m / (size_t)team->threads >= FEW_ROWS) {
        run_work(&g);
        return;
    }
    lt_parts_job first[LT_PARTS_JOBS]; /* few rows: a stage at a time, so that all threads take part in each */
    for (size_t j = 0; j < n_jobs; j++) {
        first[j] = jobs[j];
        if (jobs[j].rank == 0) continue;
        first[j] = (lt_parts_job){ .y = jobs[j].inner, .ldy = jobs[j].rank, .n = jobs[j].rank, .w = { jobs[j].w[0] } };
    }
    g.job = first;
    run_work(&g);
    for (size_t j = 0; j < n_jobs; j++) {
        if (jobs[j].rank == 0) continue;
        const lt_parts_job last = { .y = jobs[j].y, .ldy = jobs[j].ldy, .n = jobs[j].n, .w = { jobs[j].w[1] } };
        lt_parts_each(team, &last, 1, jobs[j].inner, jobs[j].rank, m, jobs[j].rank);
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
            lt_gram_add_tile(k, acc, c, LT_UNIT, i, lt_min_size(LT_UNIT, d - i), j + at, lt_min_size(LT_UNIT, n - at));
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
