/* SPDX-License-Identifier: Apache-2.0 */
/* With P = e^(S - m) / Z, D_i = dO_i · O_i:
 *   dV = Pᵀ dO,  dS = P (dO Vᵀ - D),  dQ = scale dS K,  dK = scale dSᵀ Q;   a soft-cap c multiplies dS by 1 - (S / c)².
 * Scores are made again from the saved (m, Z) (Dao et al. 2022, algorithm 4). A task owns a chunk of keys of one
 * (piece, kv head): dK and dV are its own; what it adds to dQ goes to a buffer of the chunk, and the chunks, four at
 * most, are added in order. */
#include "nn/attn.h"

#include <string.h>

enum { MAX_CHUNKS = 4 };

typedef struct back {
    lt_attn a;
    const lt_real *dout;
    lt_real *dq, *dk, *dv; /* NULL: not wanted */
    lt_real *more_dq;      /* [MAX_CHUNKS - 1, n, Hq dk] where a piece has more than one chunk, else NULL */
} back;

typedef struct back_task {
    size_t piece, head, chunk, first, n;
} back_task; /* keys [first, first + n) of the piece */

typedef struct back_tile {
    lt_real *q, *dout, *dq, *p, *ds; /* [rows, dk] [rows, dv] [rows, dk] [rows, KEYS] twice */
    lt_real *o, *d;                  /* [rows, dv], [rows] D */
} back_tile;

/* A chunk is 512 keys, or more where that would make more than MAX_CHUNKS of them. */
static size_t chunk_keys(size_t n) {
    const size_t quarter = (n + MAX_CHUNKS - 1) / MAX_CHUNKS;
    return lt_max_size(LT_ATTN_KEYS, (quarter + 63) / 64 * 64);
}

static size_t n_chunks(size_t n) {
    return (n + chunk_keys(n) - 1) / chunk_keys(n);
}

static size_t row_reals(const lt_attn *a) { /* of a tile, per query row */
    return 2 * a->p.qk_dim + 2 * a->p.v_dim + 2 * LT_ATTN_KEYS + 1;
}

size_t lt_attn_backward_scratch(const lt_attn *a) {
    return row_reals(a) * lt_attn_block(a) * a->group * sizeof(lt_real);
}

static back_tile tile_in(const lt_attn *a, lt_real *scratch) {
    const size_t rows = lt_attn_block(a) * a->group, dk = a->p.qk_dim, dv = a->p.v_dim;
    back_tile t = { .q = scratch };
    t.dout = t.q + rows * dk;
    t.dq = t.dout + rows * dv;
    t.p = t.dq + rows * dk;
    t.ds = t.p + rows * LT_ATTN_KEYS;
    t.o = t.ds + rows * LT_ATTN_KEYS;
    t.d = t.o + rows * dv;
    return t;
}

/* One row of products s and of dO·V in ds -> P in s, scale dS in ds; zero where nothing is seen. */
static void row_gradient(const lt_attn *a, lt_real *s, lt_real *ds, size_t n, size_t lo, size_t hi,
                         const lt_attn_stat *st, lt_real d) {
    const lt_real scale = (lt_real)a->p.scale, cap = (lt_real)a->p.softcap;
    lt_real factor[LT_ATTN_KEYS];
    for (size_t j = lo; j < hi; j++) factor[j] = scale;
    if (cap > 0) {
        lt_attn_scores(a, s + lo, NULL, hi - lo);
        for (size_t j = lo; j < hi; j++) factor[j] *= 1 - s[j] / cap * (s[j] / cap);
    }
    lt_k_exp_sum(a->team, s + lo, s + lo, cap > 0 ? 1 : scale, st->m, hi - lo);
    lt_k_scale(a->team, s + lo, s + lo, (lt_real)(1 / st->z), hi - lo);
    for (size_t j = lo; j < hi; j++) ds[j] = s[j] * (ds[j] - d) * factor[j];
    memset(s, 0, lo * sizeof *s);
    memset(ds, 0, lo * sizeof *ds);
    memset(s + hi, 0, (n - hi) * sizeof *s);
    memset(ds + hi, 0, (n - hi) * sizeof *ds);
}

/* queries [q0, q0 + nq) of the piece against keys [k0, k0 + nk), the tile loaded */
static void tile_gradient(const back *b, const back_tile *t, const back_task *task, size_t q0, size_t nq, size_t k0,
                          size_t nk) {
    const lt_attn *a = &b->a;
    const lt_piece *piece = &a->batch->piece[task->piece];
    const size_t dk = a->p.qk_dim, dv = a->p.v_dim, rows = nq * a->group, row = piece->row + k0;
    const lt_real *k = a->k + row * a->ldk + task->head * dk, *v = a->v + row * a->ldv + task->head * dv;
    lt_k_gemm_serial(false, true, rows, nk, dk, 1, t->q, dk, k, a->ldk, 0, t->p, LT_ATTN_KEYS);
    lt_k_gemm_serial(false, true, rows, nk, dv, 1, t->dout, dv, v, a->ldv, 0, t->ds, LT_ATTN_KEYS);
    for (size_t r = 0; r < rows; r++) {
        const size_t i = q0 + r / a->group, h = task->head * a->group + r % a->group;
        size_t lo, hi;
        lt_attn_visible(a, k0, nk, true, i, &lo, &hi);
        row_gradient(a, t->p + r * LT_ATTN_KEYS, t->ds + r * LT_ATTN_KEYS, nk, lo, hi,
                     &a->stat[(piece->row + i) * a->p.n_q_heads + h], t->d[r]);
    }
    if (b->dv)
        lt_k_gemm_serial(true, false, nk, dv, rows, 1, t->p, LT_ATTN_KEYS, t->dout, dv, 1,
                         b->dv + row * a->ldv + task->head * dv, a->ldv);
    if (b->dk)
        lt_k_gemm_serial(true, false, nk, dk, rows, 1, t->ds, LT_ATTN_KEYS, t->q, dk, 1,
                         b->dk + row * a->ldk + task->head * dk, a->ldk);
    if (b->dq) lt_k_gemm_serial(false, false, rows, dk, nk, 1, t->ds, LT_ATTN_KEYS, k, a->ldk, 1, t->dq, dk);
}

/* the tile's dQ, added to its rows of the gradient or of the chunk's buffer */
static void add_dq(const back *b, const back_tile *t, const back_task *task, size_t row, size_t nq) {
    const lt_attn *a = &b->a;
    const size_t width = a->group * a->p.qk_dim;
    lt_real *to = task->chunk == 0 ? b->dq : b->more_dq + (task->chunk - 1) * a->batch->n_rows * a->ldq;
    for (size_t i = 0; i < nq; i++) {
        lt_real *y = to + (row + i) * a->ldq + task->head * width;
        lt_k_add(a->team, y, y, t->dq + i * width, width);
    }
}

static void load_tile(const back *b, const back_tile *t, size_t head, size_t row, size_t nq) {
    const lt_attn *a = &b->a;
    const size_t rows = nq * a->group, dv = a->p.v_dim;
    lt_attn_stack(a, t->q, a->q, row, nq, head, a->p.qk_dim);
    lt_attn_stack(a, t->dout, b->dout, row, nq, head, dv);
    lt_attn_stack(a, t->o, a->out, row, nq, head, dv);
    memset(t->dq, 0, rows * a->p.qk_dim * sizeof *t->dq);
    for (size_t r = 0; r < rows; r++) {
        double sum = 0.0;
        for (size_t c = 0; c < dv; c++) sum += (double)t->o[r * dv + c] * t->dout[r * dv + c];
        t->d[r] = (lt_real)sum;
    }
}

static void run_task(const back *b, const back_task *task, void *scratch) {
    const lt_attn *a = &b->a;
    const lt_piece *piece = &a->batch->piece[task->piece];
    const size_t step = lt_attn_block(a), end = task->first + task->n;
    const back_tile t = tile_in(a, scratch);
    for (size_t q0 = task->first / step * step; q0 < piece->n; q0 += step) {
        const size_t nq = lt_min_size(step, piece->n - q0);
        size_t lo, hi, unused;
        lt_attn_visible(a, 0, end, true, q0, &lo, &unused);
        lt_attn_visible(a, 0, end, true, q0 + nq - 1, &unused, &hi);
        lo = lt_max_size(lo, task->first);
        if (lo >= hi) continue;
        load_tile(b, &t, task->head, piece->row + q0, nq);
        for (size_t k0 = lo; k0 < hi; k0 += LT_ATTN_KEYS)
            tile_gradient(b, &t, task, q0, nq, k0, lt_min_size(LT_ATTN_KEYS, hi - k0));
        if (b->dq) add_dq(b, &t, task, piece->row + q0, nq);
    }
}

/* Early chunks are seen by more queries: they come first. */
static size_t list_tasks(const lt_attn *a, back_task *list) {
    size_t count = 0;
    for (size_t p = 0; p < a->batch->n_pieces; p++) {
        const size_t n = a->batch->piece[p].n, keys = chunk_keys(n);
        for (size_t c = 0; c < n_chunks(n); c++)
            for (size_t h = 0; h < a->p.n_kv_heads; h++, count++)
                if (list) list[count] = (back_task){ p, h, c, c * keys, lt_min_size(keys, n - c * keys) };
    }
    return count;
}

static size_t most_chunks(const lt_batch *b) {
    size_t most = 0;
    for (size_t p = 0; p < b->n_pieces; p++) most = lt_max_size(most, n_chunks(b->piece[p].n));
    return most;
}

static void add_chunks(const back *b, size_t chunks) {
    const size_t n = b->a.batch->n_rows, ld = b->a.ldq;
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(b->a.team, n *ld))
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c + 1 < chunks; c++)
            lt_k_add(b->a.team, b->dq + i * ld, b->dq + i * ld, b->more_dq + (c * n + i) * ld, ld);
}

static lt_real *wanted(lt_exec *x, lt_var v) {
    return lt_needs_grad(x, v) ? lt_grad(x, v) : NULL;
}

void lt_attn_backward(lt_exec *x, const lt_node *node) {
    back b = { .a = lt_attn_of(x, node),
               .dout = lt_grad(x, node->out),
               .dq = wanted(x, node->in[0]),
               .dk = wanted(x, node->in[1]),
               .dv = wanted(x, node->in[2]) };
    lt_team *team = b.a.team;
    const size_t n_tasks = list_tasks(&b.a, NULL), chunks = most_chunks(b.a.batch), rows = b.a.batch->n_rows;
    back_task *tasks = lt_exec_scratch(x, n_tasks * sizeof *tasks);
    if (tasks && chunks > 1 && b.dq) {
        const size_t bytes = (chunks - 1) * rows * b.a.ldq * sizeof *b.more_dq;
        b.more_dq = lt_exec_scratch(x, bytes);
        if (b.more_dq) memset(b.more_dq, 0, bytes);
    }
    if (lt_exec_status(x, NULL) != LT_OK) return;
    list_tasks(&b.a, tasks);
#pragma omp parallel for schedule(static, 1) num_threads(lt_op_threads(team, rows *b.a.ldq))
    for (size_t i = 0; i < n_tasks; i++) run_task(&b, &tasks[i], team->scratch[lt_team_thread()]);
    if (b.more_dq) add_chunks(&b, chunks);
}
