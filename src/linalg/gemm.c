/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/gemm.h"

#include <string.h>

#include "linalg/blas.h"
#include "linalg/layout.h"
#include "linalg/packed.h"
#include "linalg/parts.h"

enum {
    FEW = 8,           /* rows of x that multiply straight from storage */
    ROW_TILE = 8,      /* stored rows of one task */
    COLUMN_TILE = 256, /* stored columns of one task, a multiple of every block */
    SUMS_TILE = 96,    /* columns of one task */
    SMALL = 32768      /* weights; fewer are not worth a parallel region */
};

/* ---- one call: own register tiles, or OpenBLAS where the table has none ---- */

static void blas_f32(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                     const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    const lt_blas_call call = lt_blas_begin();
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n,
                (blasint)k, alpha, a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
    lt_blas_end(call);
}

static void serial_f32(const lt_kernels *kernels, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha,
                       const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    if (m == 0 || n == 0) return;
    if (!kernels->tile || k == 0) {
        blas_f32(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    const lt_small s = { ta, tb, m, n, k, alpha, beta, a, b, c, lda, ldb, ldc };
    lt_small_multiply(kernels, &s);
}

void lt_gemm_f32_serial(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                        const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    serial_f32(lt_kernels_get(NULL), ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void lt_gemm_f64_serial(bool ta, bool tb, size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda,
                        const double *b, size_t ldb, double beta, double *c, size_t ldc) {
    if (m == 0 || n == 0) return;
    const lt_blas_call call = lt_blas_begin();
    cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n,
                (blasint)k, alpha, a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
    lt_blas_end(call);
}

/* ---- tiles ---- */

/* C cut into tiles of rows x cols: by shape only, so that results are the same bytes for every number of threads. */
typedef struct grid {
    size_t rows, cols, down, across;
} grid;

static grid grid_of(size_t m, size_t n, size_t k) {
    /* enough work to forget the call and its packing, enough tiles for some threads; wide tiles share packed rows */
    const double total = 2.0 * (double)m * (double)n * (double)k, tile = total / 16 > 4e7 ? total / 16 : 4e7;
    grid g = { .rows = lt_min_size(m, 512) };
    const double cols = tile / (2.0 * (double)lt_max_size(g.rows, 1) * (double)lt_max_size(k, 1));
    g.cols = cols < (double)n ? lt_min_size(n, lt_round_up((size_t)cols + 1, 32)) : n;
    g.down = lt_parts_of(m, g.rows);
    g.across = lt_parts_of(n, g.cols);
    return g;
}

/* Few rows are not worth the packing. */
static bool packs(const lt_team *team, size_t m, size_t n, size_t k) {
    return team->k->tile && m > FEW && (n >= team->k->lanes || team->k->unit) && k > 0;
}

static void multiply_packed(lt_team *team, const lt_packed *p) {
    if (team->k->unit)
        lt_parts_multiply(team, p);
    else
        lt_packed_multiply(team, p);
}

static void gemm_packed(lt_team *team, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                        size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    lt_buffer host = { .data = (void *)(uintptr_t)b, .bytes = SIZE_MAX };
    const lt_tensor w = {
        .dtype = LT_F32, .rank = 2, .size = { tb ? n : k, tb ? k : n }, .stride = { ldb, 1 }, .buffer = &host
    };
    const lt_packed p = { .y = c,
                          .ldy = ldc,
                          .m = m,
                          .n = n,
                          .k = k,
                          .alpha = alpha,
                          .beta = beta,
                          .a = a,
                          .rs = ta ? 1 : lda,
                          .cs = ta ? lda : 1,
                          .w = &w,
                          .by_rows = tb };
    multiply_packed(team, &p);
}

void lt_gemm_f32(lt_team *team, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                 const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    if (packs(team, m, n, k)) {
        gemm_packed(team, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    const grid g = grid_of(m, n, k);
#pragma omp parallel for num_threads(team->threads) schedule(static) if (g.down * g.across > 1)
    for (size_t t = 0; t < g.down * g.across; t++) {
        const size_t i = t % g.down * g.rows, j = t / g.down * g.cols;
        serial_f32(team->k, ta, tb, lt_min_size(g.rows, m - i), lt_min_size(g.cols, n - j), k, alpha,
                   a + (ta ? i : i * lda), lda, b + (tb ? j * ldb : j), ldb, beta, c + i * ldc + j, ldc);
    }
}

void lt_gemm_f64(lt_team *team, bool ta, bool tb, size_t m, size_t n, size_t k, double alpha, const double *a,
                 size_t lda, const double *b, size_t ldb, double beta, double *c, size_t ldc) {
    const grid g = grid_of(m, n, k);
#pragma omp parallel for num_threads(team->threads) schedule(static) if (g.down * g.across > 1)
    for (size_t t = 0; t < g.down * g.across; t++) {
        const size_t i = t % g.down * g.rows, j = t / g.down * g.cols;
        lt_gemm_f64_serial(ta, tb, lt_min_size(g.rows, m - i), lt_min_size(g.cols, n - j), k, alpha,
                           a + (ta ? i : i * lda), lda, b + (tb ? j * ldb : j), ldb, beta, c + i * ldc + j, ldc);
    }
}

/* ---- products with stored weights ---- */

typedef struct product {
    lt_team *team;
    float *y;
    const float *x;
    size_t ldy, ldx, n;
    const lt_tensor *w;
    size_t rows, cols; /* of w */
    const char *first;
    size_t step; /* bytes between its rows; 0: they are not evenly apart */
    bool add;
} product;

/* Are the rows of w, leading dimensions flattened, a fixed distance apart? */
static bool even_rows(const lt_tensor *w, size_t *ld) {
    size_t expected = 0;
    for (int i = w->rank - 2; i >= 0; i--) {
        if (w->size[i] == 1) continue;
        if (expected && w->stride[i] != expected) return false;
        if (!expected) *ld = w->stride[i];
        expected = w->stride[i] * w->size[i];
    }
    if (!expected) *ld = lt_tensor_cols(w);
    return true;
}

static product product_of(lt_team *team, float *y, size_t ldy, const float *x, size_t ldx, size_t n, const lt_tensor *w,
                          bool add) {
    const lt_dtype_row *type = lt_dtype_get(w->dtype);
    size_t ld;
    return (product){ .team = team,
                      .y = y,
                      .x = x,
                      .ldy = ldy,
                      .ldx = ldx,
                      .n = n,
                      .w = w,
                      .rows = lt_tensor_rows(w),
                      .cols = lt_tensor_cols(w),
                      .first = lt_host(w),
                      .step = even_rows(w, &ld) ? ld / type->block * type->bytes : 0,
                      .add = add };
}

/* Unravelling an index costs as much as a third of a short row. */
static const char *row_of(const product *p, size_t r) {
    return p->step ? p->first + r * p->step : lt_tensor_row(p->w, r);
}

static void put(const product *p, size_t row, size_t at, float v) {
    float *y = p->y + row * p->ldy + at;
    *y = p->add ? *y + v : v;
}

/* y[i, r0..r1) = row i of x · (rows r0..r1 of w), at most ROW_TILE evenly apart */
static void one_by_rows(const product *p, size_t i, size_t r0, size_t r1) {
    float dot[ROW_TILE];
    p->team->k->dot_stored(dot, p->x + i * p->ldx, p->w->dtype, row_of(p, r0), p->step, r1 - r0, p->cols);
    for (size_t r = r0; r < r1; r++) put(p, i, r, dot[r - r0]);
}

/* y[i0.., r0..r1) = rows i0.. of x · (rows r0..r1 of w), at most FEW of x */
static void few_by_rows(const product *p, size_t i0, size_t r0, size_t r1) {
    const size_t n = lt_min_size(FEW, p->n - i0);
    if (n == 1 && p->step) {
        one_by_rows(p, i0, r0, r1);
        return;
    }
    for (size_t r = r0; r < r1; r++) {
        float dot[FEW];
        p->team->k->dot_rows(dot, 1, p->x + i0 * p->ldx, p->ldx, n, p->w->dtype, row_of(p, r), p->cols);
        for (size_t j = 0; j < n; j++) put(p, i0 + j, r, dot[j]);
    }
}

/* y[:, c0..c1) = sum over rows r of x[:, r] w[r, c0..c1) */
static void few_by_columns(const product *p, size_t c0, size_t c1) {
    const lt_dtype_row *type = lt_dtype_get(p->w->dtype);
    float w[COLUMN_TILE];
    for (size_t j = 0; j < p->n && !p->add; j++)
        for (size_t c = c0; c < c1; c++) p->y[j * p->ldy + c] = 0.0f;
    for (size_t r = 0; r < p->rows; r++) {
        const char *row = lt_tensor_row(p->w, r);
        p->team->k->widen(w, p->w->dtype, row + c0 / type->block * type->bytes, c1 - c0);
        for (size_t j = 0; j < p->n; j++)
            p->team->k->axpy(p->y + j * p->ldy + c0, p->x[j * p->ldx + r], LT_F32, w, c1 - c0);
    }
}

typedef struct few_job {
    const product *p;
    bool by_rows;
} few_job;

/* More than FEW rows of x take their turns while the tile is in the cache. */
static void few_tile(void *arg, size_t t) {
    const few_job *job = arg;
    const product *p = job->p;
    const size_t tile = job->by_rows ? ROW_TILE : COLUMN_TILE, length = job->by_rows ? p->rows : p->cols,
                 end = lt_min_size(length, (t + 1) * tile);
    for (size_t i = 0; job->by_rows && i < p->n; i += FEW) few_by_rows(p, i, t * tile, end);
    if (!job->by_rows) few_by_columns(p, t * tile, end);
}

static void few(const product *p, bool by_rows) {
    few_job job = { p, by_rows };
    const size_t tiles = lt_parts_of(by_rows ? p->rows : p->cols, by_rows ? ROW_TILE : COLUMN_TILE);
    if (p->rows * p->cols > SMALL)
        lt_team_run(p->team, tiles, few_tile, &job);
    else
        for (size_t t = 0; t < tiles; t++) few_tile(&job, t);
}

/* The piece rows r0.., columns c0.. of w in f32: in place where it is stored so, else widened into scratch. */
static const float *piece(const product *p, size_t r0, size_t nr, size_t c0, size_t nc, size_t *ld) {
    const lt_dtype_row *type = lt_dtype_get(p->w->dtype);
    if (p->w->dtype == LT_F32 && p->step) {
        *ld = p->step / sizeof(float);
        return (const float *)row_of(p, r0) + c0;
    }
    float *to = p->team->scratch[lt_team_thread()];
    *ld = nc;
    for (size_t r = 0; r < nr; r++)
        p->team->k->widen(to + r * nc, p->w->dtype,
                          (const char *)lt_tensor_row(p->w, r0 + r) + c0 / type->block * type->bytes, nc);
    return to;
}

/* One tile of y: rows i0.., outputs o0.., in steps over the inner dimension that fit the scratch. */
static void many_tile(const product *p, bool by_rows, size_t i0, size_t ni, size_t o0, size_t no, size_t step) {
    const size_t inner = by_rows ? p->cols : p->rows;
    for (size_t q = 0; q < inner; q += step) {
        size_t ld;
        const size_t nq = lt_min_size(step, inner - q);
        const float *w = by_rows ? piece(p, o0, no, q, nq, &ld) : piece(p, q, nq, o0, no, &ld);
        serial_f32(p->team->k, false, by_rows, ni, no, nq, 1.0f, p->x + i0 * p->ldx + q, p->ldx, w, ld,
                   p->add || q ? 1.0f : 0.0f, p->y + i0 * p->ldy + o0, p->ldy);
    }
}

static void many(const product *p, bool by_rows) {
    const size_t out = by_rows ? p->rows : p->cols, inner = by_rows ? p->cols : p->rows;
    grid g = grid_of(p->n, out, inner);
    if (!by_rows) g.cols = lt_round_up(g.cols, COLUMN_TILE);
    g.cols = lt_min_size(g.cols, 1024);
    g.across = lt_parts_of(out, g.cols);
    const size_t fits = p->team->scratch_bytes / sizeof(float) / g.cols / COLUMN_TILE * COLUMN_TILE;
    const size_t step = lt_min_size(lt_max_size(inner, 1), fits);
#pragma omp parallel for num_threads(p->team->threads) schedule(static) if (g.down * g.across > 1)
    for (size_t t = 0; t < g.down * g.across; t++) {
        const size_t i = t % g.down * g.rows, o = t / g.down * g.cols;
        many_tile(p, by_rows, i, lt_min_size(g.rows, p->n - i), o, lt_min_size(g.cols, out - o), step);
    }
}

static void many_packed(const product *p, bool by_rows) {
    const lt_packed q = { .y = p->y,
                          .ldy = p->ldy,
                          .m = p->n,
                          .n = by_rows ? p->rows : p->cols,
                          .k = by_rows ? p->cols : p->rows,
                          .alpha = 1.0f,
                          .beta = p->add ? 1.0f : 0.0f,
                          .a = p->x,
                          .rs = p->ldx,
                          .cs = 1,
                          .w = p->w,
                          .by_rows = by_rows };
    multiply_packed(p->team, &q);
}

/* by_rows: y = x wᵀ, each stored row is one output; else y = x w, each stored column is one. */
static void multiply(lt_team *team, float *y, size_t ldy, const float *x, size_t ldx, size_t n, const lt_tensor *w,
                     bool by_rows, bool add, bool steps) {
    const product p = product_of(team, y, ldy, x, ldx, n, w, add);
    if (n == 0 || (by_rows ? p.rows : p.cols) == 0) return;
    if (n <= FEW || steps)
        few(&p, by_rows);
    else if (packs(team, n, by_rows ? p.rows : p.cols, by_rows ? p.cols : p.rows))
        many_packed(&p, by_rows);
    else
        many(&p, by_rows);
}

void lt_matmul_wt(lt_team *team, float *y, size_t ldy, const float *x, size_t ldx, size_t n, const lt_tensor *w,
                  bool in_out, bool add) {
    multiply(team, y, ldy, x, ldx, n, w, !in_out, add, false);
}

void lt_matmul_wt_steps(lt_team *team, float *y, size_t ldy, const float *x, size_t ldx, size_t n, const lt_tensor *w,
                        bool in_out, bool add) {
    multiply(team, y, ldy, x, ldx, n, w, !in_out, add, true);
}

/* a decoding step of several linears: the tiles of all in one run */
typedef struct few_group {
    product p[LT_GROUP];
    size_t tiles[LT_GROUP], n;
} few_group;

static void few_group_tile(void *arg, size_t t) {
    const few_group *g = arg;
    size_t j = 0;
    while (t >= g->tiles[j]) t -= g->tiles[j++];
    few_tile(&(few_job){ &g->p[j], true }, t);
}

static void few_run(lt_team *team, few_group *g) {
    size_t tiles = 0, weights = 0;
    for (size_t j = 0; j < g->n; j++) {
        tiles += g->tiles[j] = lt_parts_of(g->p[j].rows, ROW_TILE);
        weights += g->p[j].rows * g->p[j].cols;
    }
    if (weights > SMALL)
        lt_team_run(team, tiles, few_group_tile, g);
    else
        for (size_t t = 0; t < tiles; t++) few_group_tile(g, t);
}

static product step_of(lt_team *team, float *y, const float *x, size_t ldx, size_t n, const lt_tensor *w) {
    return product_of(team, y, lt_tensor_rows(w), x, ldx, n, w, false);
}

/* all first stages, then all second ones */
static void few_each(lt_team *team, const lt_group_member *m, size_t n_members, const float *x, size_t ldx, size_t n) {
    few_group first = { .n = n_members }, second = { 0 };
    for (size_t j = 0; j < n_members; j++) {
        const bool two = m[j].n_stages == 2;
        first.p[j] = step_of(team, two ? m[j].inner : m[j].y, x, ldx, n, m[j].stage[0].w);
        if (two) second.p[second.n++] = step_of(team, m[j].y, m[j].inner, first.p[j].rows, n, m[j].stage[1].w);
    }
    few_run(team, &first);
    if (second.n > 0) few_run(team, &second);
}

static bool all_by_rows(const lt_group_member *m, size_t n_members) {
    bool all = true;
    for (size_t j = 0; j < n_members; j++)
        for (int s = 0; s < m[j].n_stages; s++) all = all && !m[j].stage[s].in_out;
    return all;
}

static size_t outputs_of(const lt_stored *s) {
    return s->in_out ? lt_tensor_cols(s->w) : lt_tensor_rows(s->w);
}
static size_t inner_of(const lt_stored *s) {
    return s->in_out ? lt_tensor_rows(s->w) : lt_tensor_cols(s->w);
}

static bool group_packs(const lt_team *team, const lt_group_member *g, size_t n_members, size_t n) {
    bool all = team->k->unit != NULL;
    for (size_t j = 0; j < n_members; j++)
        for (int s = 0; s < g[j].n_stages; s++)
            all = all && outputs_of(&g[j].stage[s]) > 0 &&
                  packs(team, n, outputs_of(&g[j].stage[s]), inner_of(&g[j].stage[s]));
    return all;
}

void lt_matmul_wt_group(lt_team *team, const lt_group_member *g, size_t n_members, const float *x, size_t ldx, size_t n,
                        bool steps) {
    lt_parts_job jobs[LT_GROUP];
    if (n > 0 && (n <= FEW || steps) && n_members <= LT_GROUP && all_by_rows(g, n_members)) {
        few_each(team, g, n_members, x, ldx, n);
        return;
    }
    const bool parts = !steps && n_members <= LT_GROUP && group_packs(team, g, n_members, n);
    for (size_t j = 0; j < n_members; j++) {
        const bool two = g[j].n_stages == 2;
        const size_t out = outputs_of(&g[j].stage[two]), rank = two ? outputs_of(&g[j].stage[0]) : 0;
        if (parts) {
            jobs[j] = (lt_parts_job){ g[j].y, g[j].inner, out, out, rank, { g[j].stage[0], g[j].stage[1] } };
            continue;
        }
        const lt_stored *last = &g[j].stage[two];
        if (two) multiply(team, g[j].inner, rank, x, ldx, n, g[j].stage[0].w, !g[j].stage[0].in_out, false, steps);
        multiply(team, g[j].y, out, two ? g[j].inner : x, two ? rank : ldx, n, last->w, !last->in_out, false, steps);
    }
    if (parts && n_members > 0) lt_parts_each(team, jobs, n_members, x, ldx, n, inner_of(&g[0].stage[0]));
}

void lt_matmul_w(lt_team *team, float *dx, size_t ldx, const float *dy, size_t ldy, size_t n, const lt_tensor *w,
                 bool in_out, bool add) {
    multiply(team, dx, ldx, dy, ldy, n, w, in_out, add, false);
}

/* ---- statistics ---- */

enum { GRAM_ROWS = 512, GRAM_TILE = 192 };

/* Rows of the tile (i0, j0) of XᵀX over rows of x, in f32. */
static void gram_products(float *tile, size_t ni, size_t nj, bool diagonal, const float *x, size_t ldx, size_t n,
                          size_t i0, size_t j0) {
    if (!diagonal) {
        blas_f32(true, false, ni, nj, n, 1.0f, x + i0, ldx, x + j0, ldx, 0.0f, tile, nj);
        return;
    }
    const lt_blas_call call = lt_blas_begin();
    cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, (blasint)ni, (blasint)n, 1.0f, x + i0, (blasint)ldx, 0.0f, tile,
                (blasint)nj);
    lt_blas_end(call);
}

/* All row steps of one tile in turn, so that its f64 sums stay in the cache. */
static void gram_tile(lt_team *team, double *acc, const float *x, size_t ldx, size_t n, size_t d, size_t i0,
                      size_t j0) {
    float *tile = team->scratch[lt_team_thread()];
    const size_t ni = lt_min_size(GRAM_TILE, d - i0), nj = lt_min_size(GRAM_TILE, d - j0);
    for (size_t r = 0; r < n; r += GRAM_ROWS) {
        gram_products(tile, ni, nj, i0 == j0, x + r * ldx, ldx, lt_min_size(GRAM_ROWS, n - r), i0, j0);
        lt_gram_add_tile(team->k, acc, tile, nj, i0, ni, j0, nj);
    }
}

void lt_gram_add(lt_team *team, double *acc, const float *x, size_t ldx, size_t n, size_t d) {
    if (team->k->unit) {
        lt_parts_gram(team, acc, x, ldx, n, d);
        return;
    }
    if (team->k->tile) {
        lt_packed_gram(team, acc, x, ldx, n, d);
        return;
    }
    const size_t blocks = lt_parts_of(d, GRAM_TILE), tiles = blocks * (blocks + 1) / 2;
#pragma omp parallel for num_threads(team->threads) schedule(static, 1) if (tiles > 1)
    for (size_t t = 0; t < tiles; t++) {
        size_t i = 0;
        while (lt_packed_at(i + 1) <= t) i++;
        gram_tile(team, acc, x, ldx, n, d, i * GRAM_TILE, (t - lt_packed_at(i)) * GRAM_TILE);
    }
}

typedef struct sums_job {
    const lt_kernels *k;
    double *sum, *abssum, *sumsq;
    const float *x;
    size_t ldx, n, d;
} sums_job;

static void sums_tile(void *arg, size_t t) {
    const sums_job *p = arg;
    const size_t c = t * SUMS_TILE, width = lt_min_size(SUMS_TILE, p->d - c);
    if (p->sum) p->k->add_f64(p->sum + c, p->x + c, p->ldx, p->n, width);
    for (size_t i = 0; (p->abssum || p->sumsq) && i < p->n; i++) {
        const float *row = p->x + i * p->ldx + c;
        for (size_t j = 0; p->abssum && j < width; j++) p->abssum[c + j] += (double)(row[j] < 0 ? -row[j] : row[j]);
        for (size_t j = 0; p->sumsq && j < width; j++) p->sumsq[c + j] += (double)row[j] * (double)row[j];
    }
}

void lt_column_sums_add(lt_team *team, double *sum, double *abssum, double *sumsq, const float *x, size_t ldx, size_t n,
                        size_t d) {
    sums_job job = { team->k, sum, abssum, sumsq, x, ldx, n, d };
    const size_t tiles = lt_parts_of(d, SUMS_TILE);
    if (n * d > SMALL)
        lt_team_run(team, tiles, sums_tile, &job);
    else
        for (size_t t = 0; t < tiles; t++) sums_tile(&job, t);
}

/* The mirror is made in square blocks: whole columns would touch a new cache line with every entry. */
void lt_unpack_lower(double *full, const double *packed, size_t n) {
    enum { BLOCK = 32 };
    for (size_t i0 = 0; i0 < n; i0 += BLOCK) {
        const size_t i1 = lt_min_size(i0 + BLOCK, n);
        for (size_t i = i0; i < i1; i++) memcpy(full + i * n, packed + lt_packed_at(i), (i + 1) * sizeof *full);
        for (size_t j0 = 0; j0 <= i0; j0 += BLOCK)
            for (size_t j = j0; j < lt_min_size(j0 + BLOCK, i1); j++)
                for (size_t i = lt_max_size(i0, j + 1); i < i1; i++) full[j * n + i] = full[i * n + j];
    }
}

void lt_pack_lower(double *packed, const double *full, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) packed[lt_packed_at(i) + j] = full[i * n + j];
}
