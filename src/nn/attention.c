/* SPDX-License-Identifier: Apache-2.0 */
/* o_i = sum_j softmax_j(score_ij) v_j over the keys that query i sees: those of its piece up to itself, of the piece's
 * ancestors, and of the past, within the window; score = scale q·k, soft-capped, plus the entry's bias.
 * Softmax goes online over blocks of keys (Milakov & Gimelshein 2018; Dao et al. 2022): with m' = max(m, block
 * maximum), Z' = Z e^(m - m') + sum e^(s - m') and O likewise. Keys come as runs of one storage: the past's segments,
 * then ancestors, then the piece.
 *
 * Two kinds of task. Many queries: a tile of rows against all its keys, two matrix products a block; where a matrix
 * unit multiplies split operands, keys and values of a block are split once for all rows of the tile, which then go by
 * LT_UNIT, as far as they see. Few query rows (a decoding step): one block of keys; the parts (m, Z, O) are merged in
 * key order. */
#include "nn/attn.h"

#include <string.h>

enum {
    FEW = 8 /* rows of a decoding step, its kv group stacked */,
    DIRECT = 256 /* keys of a run that is worth a block of its own */,
    SPLIT_ROWS = 384 /* query rows of a tile, about, where keys are split for it */,
    SPLIT_FEWEST = 64 /* rows that are worth the splitting */,
    SPLIT_LD = LT_ATTN_KEYS + 16 /* between rows of scores: not a power of two */
};

/* entries of one source, all in one storage */
typedef struct run {
    lt_kv_segment s;
    bool own;
} run;

typedef struct past_list {
    lt_kv_segment *segment;
    size_t n;
} past_list;

/* the sources of every piece */
typedef struct sources {
    size_t *depth;    /* [n_pieces] number of ancestors */
    uint32_t **chain; /* [n_pieces] ancestors, root first */
    past_list *past;  /* [n_pieces, Hkv], of roots; NULL: no pasts at all */
} sources;

typedef struct task {
    size_t piece, head, first, n; /* queries [first, first + n) of the piece; few: all of them, and */
    size_t source, offset, keys;  /* keys entries from entry `offset` of source `source` */
} task;

typedef struct plan {
    lt_attn a;
    sources src;
    task *many, *few;
    size_t n_many, n_few, many_work, few_work;
    lt_attn_stat *part_stat; /* [n_few, FEW] */
    lt_real *part_out;       /* [n_few, FEW, v_dim] */
} plan;

/* a place in the key list of (piece, head), trimmed to what queries at positions [q0, q1] may see */
typedef struct walker {
    const plan *pl;
    size_t piece, head, q0, q1;
    size_t source, offset;
} walker;

/* ---- sources and runs ---- */

static size_t root_of(const plan *pl, size_t piece) {
    return pl->src.depth[piece] > 0 ? pl->src.chain[piece][0] : piece;
}

static past_list past_of(const plan *pl, size_t piece, size_t head) {
    return pl->src.past ? pl->src.past[root_of(pl, piece) * pl->a.p.n_kv_heads + head] : (past_list){ 0 };
}

static lt_kv_segment rows_of(const lt_attn *a, size_t piece, size_t head) {
    const lt_piece *p = &a->batch->piece[piece];
    return (lt_kv_segment){ .n = p->n,
                            .dtype = LT_REAL_DTYPE,
                            .pos0 = p->pos0,
                            .k = a->k + p->row * a->ldk + head * a->p.qk_dim,
                            .k_stride = a->ldk * sizeof *a->k,
                            .v = a->v + p->row * a->ldv + head * a->p.v_dim,
                            .v_stride = a->ldv * sizeof *a->v };
}

/* i-th source of (piece, head); false past the last */
static bool source_at(const plan *pl, size_t piece, size_t head, size_t i, run *out) {
    const past_list past = past_of(pl, piece, head);
    const size_t depth = pl->src.depth[piece];
    if (i > past.n + depth) return false;
    out->own = i == past.n + depth;
    if (i < past.n)
        out->s = past.segment[i];
    else
        out->s = rows_of(&pl->a, out->own ? piece : pl->src.chain[piece][i - past.n], head);
    return true;
}

/* entries [from, from + n) of r */
static run part_of(run r, size_t from, size_t n) {
    r.s.k = (const char *)r.s.k + from * r.s.k_stride;
    r.s.v = (const char *)r.s.v + from * r.s.v_stride;
    if (r.s.bias) r.s.bias += from;
    if (r.s.pos) r.s.pos += from;
    r.s.pos0 += from;
    r.s.n = n;
    return r;
}

/* The next entries, at most LT_ATTN_KEYS of one source; false at the end. */
static bool peek(walker *w, run *out) {
    run r;
    for (; source_at(w->pl, w->piece, w->head, w->source, &r); w->source++, w->offset = 0) {
        size_t lo = 0, hi = r.s.n, unused;
        if (!r.s.pos) {
            lt_attn_visible(&w->pl->a, r.s.pos0, r.s.n, r.own, w->q0, &lo, &unused);
            lt_attn_visible(&w->pl->a, r.s.pos0, r.s.n, r.own, w->q1, &unused, &hi);
        }
        lo = lt_max_size(lo, w->offset);
        if (lo >= hi) continue;
        *out = part_of(r, lo, lt_min_size(hi - lo, LT_ATTN_KEYS));
        w->offset = lo;
        return true;
    }
    return false;
}

static walker walk_from(const plan *pl, const task *t) {
    const size_t pos = pl->a.batch->piece[t->piece].pos0 + t->first;
    return (walker){ pl, t->piece, t->head, pos, pos + t->n - 1, t->source, t->offset };
}

/* ---- planning: serial, by shapes ---- */

static bool list_pasts(lt_exec *x, plan *pl) {
    const lt_attn *a = &pl->a;
    const size_t heads = a->p.n_kv_heads;
    if (!a->batch->past) return true;
    pl->src.past = lt_exec_scratch(x, a->batch->n_pieces * heads * sizeof *pl->src.past);
    for (size_t p = 0; pl->src.past && p < a->batch->n_pieces; p++)
        for (size_t h = 0; h < heads; h++) {
            const lt_past *past = a->batch->piece[p].parent < 0 ? a->batch->past[p] : NULL;
            past_list list = { .n = past ? past->n_segments(past, a->p.layer, h) : 0 };
            list.segment = lt_exec_scratch(x, list.n * sizeof *list.segment);
            if (!list.segment) return false;
            for (size_t i = 0; i < list.n; i++) list.segment[i] = past->segment(past, a->p.layer, h, i);
            pl->src.past[p * heads + h] = list;
        }
    return pl->src.past;
}

static bool list_ancestors(lt_exec *x, plan *pl) {
    const lt_batch *b = pl->a.batch;
    sources *s = &pl->src;
    s->depth = lt_exec_scratch(x, b->n_pieces * sizeof *s->depth);
    s->chain = lt_exec_scratch(x, b->n_pieces * sizeof *s->chain);
    if (!s->depth || !s->chain) return false;
    for (size_t p = 0; p < b->n_pieces; p++) {
        const int32_t parent = b->piece[p].parent;
        s->depth[p] = parent < 0 ? 0 : s->depth[parent] + 1;
        s->chain[p] = NULL;
        if (parent < 0) continue;
        s->chain[p] = lt_exec_scratch(x, s->depth[p] * sizeof **s->chain);
        if (!s->chain[p]) return false;
        if (s->depth[p] > 1) memcpy(s->chain[p], s->chain[parent], s->depth[parent] * sizeof **s->chain);
        s->chain[p][s->depth[p] - 1] = (uint32_t)parent;
    }
    return true;
}

static void put(task *list, size_t *n, task t) {
    if (list) list[*n] = t;
    ++*n;
}

static size_t keys_before(const plan *pl, size_t piece) {
    size_t n = 0;
    run r;
    for (size_t i = 0; source_at(pl, piece, 0, i, &r) && !r.own; i++) n += r.s.n;
    return n;
}

/* queries of a tile */
static size_t queries_of(const lt_attn *a) {
    if (!lt_k_splits(a->team)) return lt_attn_block(a);
    return lt_max_size(1, lt_min_size(LT_ATTN_QUERIES, SPLIT_ROWS / a->group));
}

/* Later queries see more keys: they come first, so that the schedule ends with the small tasks. */
static void plan_many(plan *pl, size_t piece, bool count_only) {
    const size_t n = pl->a.batch->piece[piece].n, step = queries_of(&pl->a), blocks = (n + step - 1) / step;
    for (size_t b = blocks; b-- > 0;)
        for (size_t h = 0; h < pl->a.p.n_kv_heads; h++)
            put(count_only ? NULL : pl->many, &pl->n_many,
                (task){ .piece = piece, .head = h, .first = b * step, .n = lt_min_size(step, n - b * step) });
    pl->many_work += n * (keys_before(pl, piece) + (n + 1) / 2) * pl->a.p.n_q_heads;
}

static void plan_few(plan *pl, size_t piece, size_t head, bool count_only) {
    task t = { .piece = piece, .head = head, .n = pl->a.batch->piece[piece].n };
    walker w = walk_from(pl, &t);
    run r;
    while (peek(&w, &r)) {
        t.source = w.source;
        t.offset = w.offset;
        for (t.keys = 0; t.keys < LT_ATTN_KEYS && peek(&w, &r);) {
            const size_t take = lt_min_size(r.s.n, LT_ATTN_KEYS - t.keys);
            t.keys += take;
            w.offset += take;
        }
        put(count_only ? NULL : pl->few, &pl->n_few, t);
        pl->few_work += t.keys;
    }
}

static void plan_tasks(plan *pl, bool count_only) {
    pl->n_many = pl->n_few = pl->many_work = pl->few_work = 0;
    for (size_t p = 0; p < pl->a.batch->n_pieces; p++) {
        const size_t n = pl->a.batch->piece[p].n;
        if (n * pl->a.group > FEW)
            plan_many(pl, p, count_only);
        else if (n > 0)
            for (size_t h = 0; h < pl->a.p.n_kv_heads; h++) plan_few(pl, p, h, count_only);
    }
}

static bool make_plan(lt_exec *x, plan *pl) {
    if (!list_ancestors(x, pl) || !list_pasts(x, pl)) return false;
    plan_tasks(pl, true);
    pl->many = lt_exec_scratch(x, pl->n_many * sizeof *pl->many);
    pl->few = lt_exec_scratch(x, pl->n_few * sizeof *pl->few);
    pl->part_stat = lt_exec_scratch(x, pl->n_few * FEW * sizeof *pl->part_stat);
    pl->part_out = lt_exec_scratch(x, pl->n_few * FEW * pl->a.p.v_dim * sizeof *pl->part_out);
    if (!pl->many || !pl->few || !pl->part_stat || !pl->part_out) return false;
    plan_tasks(pl, false);
    return true;
}

/* ---- softmax of one row of a block ---- */

static void mask_positions(const lt_attn *a, lt_real *s, const int32_t *pos, size_t n, size_t qpos) {
    for (size_t j = 0; j < n; j++)
        if ((int64_t)pos[j] + (int64_t)a->p.window <= (int64_t)qpos) s[j] = -INFINITY;
}

/* n scores (times `scale`) -> e^(score - m), with the running (m, z) taken along; returns what the sums so far shrink
 * by */
static lt_real soften(const lt_attn *a, lt_attn_stat *st, lt_real *s, lt_real scale, size_t n) {
    const lt_real top = lt_k_max(a->team, s, n) * scale;
    if (!(top > -INFINITY)) { /* nothing is seen here (or NaN, which z = 0 or the values pass on) */
        memset(s, 0, n * sizeof *s);
        return 1;
    }
    const lt_real m = top > st->m ? top : st->m, shrink = (lt_real)exp((double)st->m - (double)m);
    st->z = st->z * shrink + lt_k_exp_sum(a->team, s, s, scale, m, n);
    st->m = m;
    return shrink;
}

/* ---- many queries ---- */

typedef struct tile {
    lt_real *q, *s, *o, *k, *v;                  /* [rows, dk] [rows, KEYS] [rows, dv] [KEYS, dk] [KEYS, dv] */
    lt_attn_stat *stat;                          /* [rows] */
    int32_t *pos;                                /* [KEYS] */
    float *bias;                                 /* [KEYS] */
    void *q_parts, *k_parts, *v_parts, *p_parts; /* split: queries, keys, values, LT_UNIT rows of weights */
    lt_split q_split;
} tile;

static size_t padded(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

enum { TILE_PARTS = 12 };

/* where the parts of a tile begin in scratch; bytes used. Split: scores of LT_UNIT rows at a time, of whole blocks. */
static size_t tile_layout(const lt_attn *a, size_t at[TILE_PARTS]) {
    const bool split = lt_k_splits(a->team);
    const size_t rows = (queries_of(a) * a->group + LT_UNIT - 1) / LT_UNIT * LT_UNIT, dk = a->p.qk_dim, dv = a->p.v_dim;
    const size_t bytes[TILE_PARTS] = { rows * dk * sizeof(lt_real),
                                       (split ? SPLIT_FEWEST : rows) * SPLIT_LD * sizeof(lt_real),
                                       rows * dv * sizeof(lt_real),
                                       LT_ATTN_KEYS * dk * sizeof(lt_real),
                                       LT_ATTN_KEYS * dv * sizeof(lt_real),
                                       rows * sizeof(lt_attn_stat),
                                       LT_ATTN_KEYS * sizeof(int32_t),
                                       LT_ATTN_KEYS * sizeof(float),
                                       split ? lt_split_bytes(rows, dk) : 0,
                                       split ? lt_split_bytes(LT_ATTN_KEYS, dk) : 0,
                                       split ? lt_split_bytes(dv, LT_ATTN_KEYS) : 0,
                                       split ? lt_split_bytes(LT_UNIT, LT_ATTN_KEYS) : 0 };
    size_t used = 0;
    for (size_t i = 0; i < TILE_PARTS; i++) {
        at[i] = used;
        used += padded(bytes[i]);
    }
    return used;
}

static tile tile_in(const lt_attn *a, char *scratch) {
    size_t at[TILE_PARTS];
    tile_layout(a, at);
    return (tile){ .q = (lt_real *)(scratch + at[0]),
                   .s = (lt_real *)(scratch + at[1]),
                   .o = (lt_real *)(scratch + at[2]),
                   .k = (lt_real *)(scratch + at[3]),
                   .v = (lt_real *)(scratch + at[4]),
                   .stat = (lt_attn_stat *)(scratch + at[5]),
                   .pos = (int32_t *)(scratch + at[6]),
                   .bias = (float *)(scratch + at[7]),
                   .q_parts = scratch + at[8],
                   .k_parts = scratch + at[9],
                   .v_parts = scratch + at[10],
                   .p_parts = scratch + at[11] };
}

static bool is_direct(const run *r) {
    const size_t real = sizeof(lt_real);
    return r->own ||
           (r->s.n >= DIRECT && r->s.dtype == LT_REAL_DTYPE && r->s.k_stride % real == 0 && r->s.v_stride % real == 0);
}

static void gather(const lt_attn *a, tile *t, size_t at, const run *r) {
    const size_t dk = a->p.qk_dim, dv = a->p.v_dim;
    for (size_t j = 0; j < r->s.n; j++) {
        lt_k_widen(a->team, t->k + (at + j) * dk, r->s.dtype, (const char *)r->s.k + j * r->s.k_stride, dk);
        lt_k_widen(a->team, t->v + (at + j) * dv, r->s.dtype, (const char *)r->s.v + j * r->s.v_stride, dv);
        t->pos[at + j] = r->s.pos ? r->s.pos[j] : (int32_t)(r->s.pos0 + j);
        t->bias[at + j] = r->s.bias ? r->s.bias[j] : 0.0f;
    }
}

/* A block of keys in lt_real: a long run as it lies, or short and narrow runs gathered. */
static bool next_block(walker *w, tile *t, run *out) {
    if (!peek(w, out)) return false;
    if (is_direct(out)) {
        w->offset += out->s.n;
        return true;
    }
    const lt_attn *a = &w->pl->a;
    bool biased = false;
    size_t n = 0;
    run r = *out;
    do {
        r = part_of(r, 0, lt_min_size(r.s.n, LT_ATTN_KEYS - n));
        gather(a, t, n, &r);
        biased |= r.s.bias != NULL;
        n += r.s.n;
        w->offset += r.s.n;
    } while (n < LT_ATTN_KEYS && peek(w, &r) && !is_direct(&r));
    *out = (run){ .s = { .n = n,
                         .dtype = LT_REAL_DTYPE,
                         .k = t->k,
                         .k_stride = a->p.qk_dim * sizeof *t->k,
                         .v = t->v,
                         .v_stride = a->p.v_dim * sizeof *t->v,
                         .bias = biased ? t->bias : NULL,
                         .pos = t->pos } };
    return true;
}

/* row of scores s of a query at qpos -> weights; what it does not see is zero */
static lt_real soften_visible(const lt_attn *a, const run *b, lt_attn_stat *st, lt_real *s, size_t qpos) {
    const bool plain = a->p.softcap == 0 && !b->s.bias;
    size_t lo = 0, hi = b->s.n;
    if (!b->s.pos) lt_attn_visible(a, b->s.pos0, b->s.n, b->own, qpos, &lo, &hi);
    if (!plain) lt_attn_scores(a, s + lo, b->s.bias ? b->s.bias + lo : NULL, hi - lo);
    if (b->s.pos && a->p.window > 0) mask_positions(a, s, b->s.pos, hi, qpos);
    const lt_real shrink = soften(a, st, s + lo, plain ? (lt_real)a->p.scale : 1, hi - lo);
    memset(s, 0, lo * sizeof *s);
    memset(s + hi, 0, (b->s.n - hi) * sizeof *s);
    return shrink;
}

static void attend_block(const lt_attn *a, tile *t, const run *b, size_t rows, size_t qpos, bool first) {
    const size_t dk = a->p.qk_dim, dv = a->p.v_dim, n = b->s.n;
    lt_k_gemm_serial(false, true, rows, n, dk, 1, t->q, dk, b->s.k, b->s.k_stride / sizeof(lt_real), 0, t->s,
                     LT_ATTN_KEYS);
    for (size_t r = 0; r < rows; r++) {
        const lt_real shrink = soften_visible(a, b, &t->stat[r], t->s + r * LT_ATTN_KEYS, qpos + r / a->group);
        if (!first && shrink != 1) lt_k_scale(a->team, t->o + r * dv, t->o + r * dv, shrink, dv);
    }
    lt_k_gemm_serial(false, false, rows, dv, n, 1, t->s, LT_ATTN_KEYS, b->s.v, b->s.v_stride / sizeof(lt_real),
                     first ? 0 : 1, t->o, dv);
}

/* entries of a block that a query at qpos, and so every one before it, sees at most */
static size_t reach_of(const lt_attn *a, const run *b, size_t qpos) {
    size_t lo, hi = b->s.n;
    if (!b->s.pos) lt_attn_visible(a, b->s.pos0, b->s.n, b->own, qpos, &lo, &hi);
    return lt_max_size(hi, 1);
}

static void attend_block_split(const lt_attn *a, tile *t, const run *b, size_t rows, size_t qpos, bool first) {
    const size_t dk = a->p.qk_dim, dv = a->p.v_dim, n = b->s.n, real = sizeof(lt_real);
    const lt_split k = lt_k_split_right(a->team, t->k_parts, b->s.k, b->s.k_stride / real, true, n, dk),
                   v = lt_k_split_right(a->team, t->v_parts, b->s.v, b->s.v_stride / real, false, dv, n);
    for (size_t row = 0; row < rows; row += LT_UNIT) {
        const size_t m = lt_min_size(LT_UNIT, rows - row);
        const run seen = part_of(*b, 0, reach_of(a, b, qpos + (row + m - 1) / a->group));
        const size_t cols = (seen.s.n + LT_UNIT - 1) / LT_UNIT * LT_UNIT; /* what is padded is not read */
        lt_real *o = t->o + row * dv;
        lt_k_split_multiply(a->team, t->s, SPLIT_LD, 0, &t->q_split, row, LT_UNIT, &k, cols, dk);
        for (size_t r = 0; r < m; r++) {
            const lt_real shrink =
                soften_visible(a, &seen, &t->stat[row + r], t->s + r * SPLIT_LD, qpos + (row + r) / a->group);
            if (!first && shrink != 1) lt_k_scale(a->team, o + r * dv, o + r * dv, shrink, dv);
        }
        const lt_split p = lt_k_split_left(a->team, t->p_parts, t->s, SPLIT_LD, m, seen.s.n);
        lt_k_split_multiply(a->team, o, dv, first ? 0 : 1, &p, 0, LT_UNIT, &v, dv, seen.s.n);
    }
}

/* rows [r, rows) of O / Z to their places */
static void write_rows(const lt_attn *a, const lt_real *o, const lt_attn_stat *stat, size_t row, size_t n,
                       size_t head) {
    const size_t dv = a->p.v_dim;
    for (size_t r = 0; r < n * a->group; r++) {
        const size_t i = row + r / a->group, h = head * a->group + r % a->group;
        lt_k_scale(a->team, a->out + i * a->ldo + h * dv, o + r * dv, (lt_real)(1 / stat[r].z), dv);
        if (a->stat) a->stat[i * a->p.n_q_heads + h] = stat[r];
    }
}

static void attend_many(const plan *pl, const task *job, char *scratch) {
    const lt_attn *a = &pl->a;
    const lt_piece *piece = &a->batch->piece[job->piece];
    const size_t rows = job->n * a->group, row = piece->row + job->first;
    tile t = tile_in(a, scratch);
    lt_attn_stack(a, t.q, a->q, row, job->n, job->head, a->p.qk_dim);
    for (size_t r = 0; r < rows; r++) t.stat[r] = (lt_attn_stat){ -INFINITY, 0.0 };
    const bool split = lt_k_splits(a->team) && rows >= SPLIT_FEWEST;
    if (split) t.q_split = lt_k_split_left(a->team, t.q_parts, t.q, a->p.qk_dim, rows, a->p.qk_dim);
    walker w = walk_from(pl, job);
    run b;
    for (bool first = true; next_block(&w, &t, &b); first = false)
        (split ? attend_block_split : attend_block)(a, &t, &b, rows, piece->pos0 + job->first, first);
    write_rows(a, t.o, t.stat, row, job->n, job->head);
}

/* ---- few query rows ---- */

/* scratch of a task: scores, queries, and the values of a run widened */
typedef struct few_tile {
    lt_real *s, *q, *wide;
} few_tile; /* [FEW, KEYS] [FEW, dk] [KEYS, dv] */

static few_tile few_in(const lt_attn *a, lt_real *scratch) {
    lt_real *q = scratch + FEW * LT_ATTN_KEYS;
    return (few_tile){ scratch, q, q + FEW * a->p.qk_dim };
}

/* Rows of d stored numbers as lt_real: where they lie, or widened; in one go when they lie side by side. */
static const lt_real *few_rows(const lt_attn *a, lt_real *wide, const void *from, size_t stride, lt_dtype dtype,
                               size_t n, size_t d, size_t *ld) {
    const lt_dtype_row *row = lt_dtype_get(dtype);
    *ld = stride / sizeof(lt_real);
    if (dtype == LT_REAL_DTYPE && stride % sizeof(lt_real) == 0) return from;
    *ld = d;
    if (stride == d / row->block * row->bytes)
        lt_k_widen(a->team, wide, dtype, from, n * d);
    else
        for (size_t j = 0; j < n; j++) lt_k_widen(a->team, wide + j * d, dtype, (const char *)from + j * stride, d);
    return wide;
}

/* Scores of one run into columns [0, r->s.n) of s [rows, KEYS], straight from the stored keys: packing them for a tile
 * costs more than the few products. */
static void few_scores(const lt_attn *a, const few_tile *t, lt_real *s, size_t rows, const run *r, size_t qpos) {
    const size_t dk = a->p.qk_dim, n = r->s.n;
    for (size_t i = 0; i < rows; i++)
        lt_k_dot_stored(a->team, s + i * LT_ATTN_KEYS, t->q + i * dk, r->s.dtype, r->s.k, r->s.k_stride, n, dk);
    for (size_t i = 0; i < rows; i++) {
        lt_real *row = s + i * LT_ATTN_KEYS;
        size_t lo = 0, hi = n;
        lt_attn_scores(a, row, r->s.bias, n);
        if (!r->s.pos)
            lt_attn_visible(a, r->s.pos0, n, r->own, qpos + i / a->group, &lo, &hi);
        else if (a->p.window > 0)
            mask_positions(a, row, r->s.pos, n, qpos + i / a->group);
        for (size_t j = 0; j < lo; j++) row[j] = -INFINITY;
        for (size_t j = hi; j < n; j++) row[j] = -INFINITY;
    }
}

static void few_values(const lt_attn *a, const few_tile *t, lt_real *o, const lt_real *s, size_t rows, const run *r) {
    const size_t dv = a->p.v_dim;
    size_t ld;
    const lt_real *v = few_rows(a, t->wide, r->s.v, r->s.v_stride, r->s.dtype, r->s.n, dv, &ld);
    lt_k_gemm_serial(false, false, rows, dv, r->s.n, 1, s, LT_ATTN_KEYS, v, ld, 1, o, dv);
}

/* The next run of a task that has taken `at` of its keys. */
static bool few_next(walker *w, const task *t, size_t at, run *r) {
    if (at == t->keys || !peek(w, r)) return false;
    *r = part_of(*r, 0, lt_min_size(r->s.n, t->keys - at));
    w->offset += r->s.n;
    return true;
}

static void attend_few(void *arg, size_t index) {
    const plan *pl = arg;
    const lt_attn *a = &pl->a;
    void *scratch = a->team->scratch[lt_team_thread()];
    const task *job = &pl->few[index];
    const lt_piece *piece = &a->batch->piece[job->piece];
    const size_t rows = job->n * a->group, dv = a->p.v_dim;
    const few_tile t = few_in(a, scratch);
    lt_real *o = pl->part_out + index * FEW * dv;
    lt_attn_stat *stat = pl->part_stat + index * FEW;
    run r;
    lt_attn_stack(a, t.q, a->q, piece->row, job->n, job->head, a->p.qk_dim);
    walker w = walk_from(pl, job);
    for (size_t at = 0; few_next(&w, job, at, &r); at += r.s.n) few_scores(a, &t, t.s + at, rows, &r, piece->pos0);
    for (size_t i = 0; i < rows; i++) {
        stat[i] = (lt_attn_stat){ -INFINITY, 0.0 };
        soften(a, &stat[i], t.s + i * LT_ATTN_KEYS, 1, job->keys);
    }
    memset(o, 0, rows * dv * sizeof *o);
    w = walk_from(pl, job);
    for (size_t at = 0; few_next(&w, job, at, &r); at += r.s.n) few_values(a, &t, o, t.s + at, rows, &r);
}

/* Parts of one (piece, head), in key order, into the first. */
static void merge_parts(const plan *pl, size_t first, size_t n, size_t rows) {
    const lt_attn *a = &pl->a;
    const size_t dv = a->p.v_dim;
    for (size_t r = 0; r < rows; r++) {
        lt_attn_stat *to = &pl->part_stat[first * FEW + r];
        lt_real *o = pl->part_out + (first * FEW + r) * dv;
        for (size_t p = first + 1; p < first + n; p++) {
            const lt_attn_stat *from = &pl->part_stat[p * FEW + r];
            if (!(from->z > 0) && !isnan(from->z)) continue;
            const lt_real m = from->m > to->m ? from->m : to->m;
            const double old = exp((double)to->m - (double)m), more = exp((double)from->m - (double)m);
            lt_k_scale(a->team, o, o, (lt_real)old, dv);
            lt_k_axpy(a->team, o, (lt_real)more, LT_REAL_DTYPE, pl->part_out + (p * FEW + r) * dv, dv);
            *to = (lt_attn_stat){ m, to->z * old + from->z * more };
        }
    }
}

static void merge_few(const plan *pl) {
    const lt_attn *a = &pl->a;
    for (size_t first = 0, n; first < pl->n_few; first += n) {
        const task *t = &pl->few[first];
        for (n = 1; first + n < pl->n_few && pl->few[first + n].piece == t->piece && pl->few[first + n].head == t->head;
             n++) {
        }
        merge_parts(pl, first, n, t->n * a->group);
        write_rows(a, pl->part_out + first * FEW * a->p.v_dim, pl->part_stat + first * FEW,
                   a->batch->piece[t->piece].row, t->n, t->head);
    }
}

/* ---- the op ---- */

static size_t few_scratch(const lt_attn *a) {
    return (FEW * (LT_ATTN_KEYS + a->p.qk_dim) + LT_ATTN_KEYS * a->p.v_dim) * sizeof(lt_real);
}

static lt_status check_params(const lt_attn_params *p, lt_err *err) {
    LT_REQUIRE(err, p->n_kv_heads > 0 && p->n_q_heads > 0 && p->n_q_heads % p->n_kv_heads == 0,
               "attention: %zu query heads on %zu kv heads", p->n_q_heads, p->n_kv_heads);
    LT_REQUIRE(err, p->qk_dim > 0 && p->v_dim > 0 && p->scale > 0 && p->softcap >= 0,
               "attention: dims %zu, %zu, scale %g, soft-cap %g", p->qk_dim, p->v_dim, p->scale, p->softcap);
    return LT_OK;
}

static lt_status check_own_pieces(const lt_batch *b, lt_err *err) {
    for (size_t p = 0; p < b->n_pieces; p++)
        if (b->piece[p].parent >= 0 || (b->past && b->past[p]))
            return lt_fail(err, LT_EUNSUPPORTED, "attention: gradients of piece %zu with a parent or a past", p);
    return LT_OK;
}

static lt_status check(const lt_exec *x, const lt_node *node, lt_err *err) {
    const lt_attn_params *p = node->attr;
    const lt_team *team = lt_exec_team(x);
    const size_t n = lt_exec_batch(x)->n_rows;
    LT_TRY(check_params(p, err));
    LT_TRY(lt_op_check_shape(x, node, 0, n, p->n_q_heads * p->qk_dim, err));
    LT_TRY(lt_op_check_shape(x, node, 1, n, p->n_kv_heads * p->qk_dim, err));
    LT_TRY(lt_op_check_shape(x, node, 2, n, p->n_kv_heads * p->v_dim, err));
    const lt_attn a = { .p = *p, .team = lt_exec_team(x), .group = p->n_q_heads / p->n_kv_heads };
    const bool back = lt_needs_grad(x, node->in[0]) || lt_needs_grad(x, node->in[1]) || lt_needs_grad(x, node->in[2]);
    size_t at[TILE_PARTS];
    const size_t bytes =
        lt_max_size(lt_max_size(tile_layout(&a, at), few_scratch(&a)), back ? lt_attn_backward_scratch(&a) : 0);
    if (bytes > team->scratch_bytes)
        return lt_fail(err, LT_EUNSUPPORTED,
                       "attention: %zu query heads of %zu and %zu on %zu need %zu bytes of scratch, there are %zu",
                       p->n_q_heads, p->qk_dim, p->v_dim, p->n_kv_heads, bytes, team->scratch_bytes);
    return back ? check_own_pieces(lt_exec_batch(x), err) : LT_OK;
}

static void run_many(void *arg, size_t i) {
    const plan *pl = arg;
    lt_k_unit_enter(pl->a.team);
    attend_many(pl, &pl->many[i], pl->a.team->scratch[lt_team_thread()]);
    lt_k_unit_leave(pl->a.team);
}

static void forward(lt_exec *x, const lt_node *node) {
    plan pl = { .a = lt_attn_of(x, node) };
    if (!make_plan(x, &pl)) return;
    lt_team *team = pl.a.team;
    const size_t dims = pl.a.p.qk_dim + pl.a.p.v_dim;
    if (lt_team_is_held(team) && pl.n_many > 1)
        lt_team_run(team, pl.n_many, run_many, &pl);
    else {
#pragma omp parallel for schedule(dynamic, 1) num_threads(lt_op_threads(team, pl.many_work *dims / 32))
        for (size_t i = 0; i < pl.n_many; i++) run_many(&pl, i);
    }
    if (pl.n_few > 1 && (lt_team_is_held(team) || lt_op_threads(team, pl.few_work * dims / 4) > 1))
        lt_team_run(team, pl.n_few, attend_few, &pl);
    else
        for (size_t i = 0; i < pl.n_few; i++) attend_few(&pl, i);
    merge_few(&pl);
}

static size_t saved_bytes(const lt_exec *x, const lt_node *node) {
    return lt_rows(x, node->in[0]) * ((const lt_attn_params *)node->attr)->n_q_heads * sizeof(lt_attn_stat);
}

const lt_op lt_op_attention = { "attention", check, forward, lt_attn_backward, saved_bytes, true };

lt_var lt_attention(lt_exec *x, lt_var q, lt_var k, lt_var v, const lt_attn_params *p) {
    return lt_apply(x, &lt_op_attention, (lt_node){ .in = { q, k, v }, .attr = p }, sizeof *p, lt_rows(x, q),
                    p->n_q_heads * p->v_dim);
}
