/* SPDX-License-Identifier: Apache-2.0 */
/* tests/nn/naive.h - attention by the formula, in double, with all its pasts; shared by the float and the double tests.
 */
#ifndef LT_TESTS_NN_NAIVE_H
#define LT_TESTS_NN_NAIVE_H

#include "nn/fixture.h"

/* A past made of segments that are the same for every layer and head, but for the head's own numbers. */
typedef struct toy_past {
    lt_past base;
    size_t n_segments, n_heads;
    lt_kv_segment segment[4][8]; /* [head][i] */
} toy_past;

static size_t toy_n_segments(const lt_past *p, int layer, size_t head) {
    (void)layer, (void)head;
    return ((const toy_past *)p)->n_segments;
}
static lt_kv_segment toy_segment(const lt_past *p, int layer, size_t head, size_t i) {
    (void)layer;
    return ((const toy_past *)p)->segment[head][i];
}

/* n rows of d random numbers in dtype dt; *stride: bytes of a row and a gap */
static void *toy_rows(fixture *f, lt_dtype dt, size_t n, size_t d, size_t *stride) {
    const lt_dtype_row *row = lt_dtype_get(dt);
    *stride = d / row->block * row->bytes + 32;
    char *data = fix_zeros(f, n, *stride);
    float *v = fix_zeros(f, d, sizeof *v);
    for (size_t i = 0; i < n; i++) {
        test_fill_normal(v, d, &f->rng);
        row->from_f32(data + i * *stride, v, d);
    }
    return data;
}

/* Appends a segment to every head. what: "b" bias, "p" positions of its own (every third from pos0 on). */
__attribute__((unused)) static void toy_append(fixture *f, toy_past *t, size_t n_heads, lt_dtype dt, size_t n,
                                               size_t pos0, size_t dk, size_t dv, const char *what) {
    t->base = (lt_past){ toy_n_segments, toy_segment };
    t->n_heads = n_heads;
    for (size_t h = 0; h < n_heads; h++) {
        lt_kv_segment s = { .n = n, .dtype = dt, .pos0 = pos0 };
        s.k = toy_rows(f, dt, n, dk, &s.k_stride);
        s.v = toy_rows(f, dt, n, dv, &s.v_stride);
        if (strchr(what, 'b')) {
            float *bias = fix_zeros(f, n, sizeof *bias);
            test_fill_normal(bias, n, &f->rng);
            s.bias = bias;
        }
        if (strchr(what, 'p')) {
            int32_t *pos = fix_zeros(f, n, sizeof *pos);
            for (size_t i = 0; i < n; i++) pos[i] = (int32_t)(pos0 + 3 * i);
            s.pos = pos;
        }
        t->segment[h][t->n_segments] = s;
    }
    t->n_segments++;
}

typedef struct naive {
    const lt_attn_params *p;
    const lt_batch *batch;
    const lt_real *q, *k, *v;
} naive;

static double naive_score(const naive *a, const double *q, const double *k) {
    double s = 0;
    for (size_t c = 0; c < a->p->qk_dim; c++) s += q[c] * k[c];
    s *= a->p->scale;
    return a->p->softcap > 0 ? a->p->softcap * tanh(s / a->p->softcap) : s;
}

static void naive_widen(double *dst, lt_dtype dt, const void *src, size_t n) {
    float tmp[512];
    if (dt == LT_F64) {
        memcpy(dst, src, n * sizeof *dst);
        return;
    }
    lt_dtype_get(dt)->to_f32(tmp, src, n);
    for (size_t i = 0; i < n; i++) dst[i] = tmp[i];
}

/* keys of one segment for one query: scores and values are appended */
static size_t naive_segment(const naive *a, const lt_kv_segment *s, bool own, size_t qpos, const double *q,
                            double *scores, double *values, size_t n) {
    double k[512];
    for (size_t j = 0; j < s->n; j++) {
        const size_t pos = s->pos ? (size_t)s->pos[j] : s->pos0 + j;
        if ((own && pos > qpos) || (a->p->window > 0 && pos + a->p->window <= qpos)) continue;
        naive_widen(k, s->dtype, (const char *)s->k + j * s->k_stride, a->p->qk_dim);
        naive_widen(values + n * a->p->v_dim, s->dtype, (const char *)s->v + j * s->v_stride, a->p->v_dim);
        scores[n++] = naive_score(a, q, k) + (s->bias ? s->bias[j] : 0.0);
    }
    return n;
}

static size_t naive_rows(const naive *a, size_t piece, size_t head, bool own, size_t qpos, const double *q,
                         double *scores, double *values, size_t n) {
    const lt_piece *p = &a->batch->piece[piece];
    const size_t hk = a->p->n_kv_heads;
    const lt_kv_segment s = { .n = p->n,
                              .dtype = LT_REAL_DTYPE,
                              .pos0 = p->pos0,
                              .k = a->k + (p->row * hk + head) * a->p->qk_dim,
                              .k_stride = hk * a->p->qk_dim * sizeof *a->k,
                              .v = a->v + (p->row * hk + head) * a->p->v_dim,
                              .v_stride = hk * a->p->v_dim * sizeof *a->v };
    return naive_segment(a, &s, own, qpos, q, scores, values, n);
}

/* past, ancestors, own: the keys of a query of `piece` (order does not matter to the formula) */
static size_t naive_keys(const naive *a, size_t piece, size_t head, size_t qpos, const double *q, double *scores,
                         double *values) {
    size_t n = naive_rows(a, piece, head, true, qpos, q, scores, values, 0), root = piece;
    while (a->batch->piece[root].parent >= 0) {
        root = (size_t)a->batch->piece[root].parent;
        n = naive_rows(a, root, head, false, qpos, q, scores, values, n);
    }
    const lt_past *past = a->batch->past ? a->batch->past[root] : NULL;
    for (size_t i = 0; past && i < past->n_segments(past, a->p->layer, head); i++) {
        const lt_kv_segment s = past->segment(past, a->p->layer, head, i);
        n = naive_segment(a, &s, false, qpos, q, scores, values, n);
    }
    return n;
}

/* out [n, Hq dv] in double */
__attribute__((unused)) static double *naive_attention(fixture *f, const lt_attn_params *p, const lt_real *q,
                                                       const lt_real *k, const lt_real *v) {
    const naive a = { p, &f->batch, q, k, v };
    const size_t room = 16384;
    double *out = fix_zeros(f, f->batch.n_rows * p->n_q_heads * p->v_dim, sizeof *out);
    double *scores = fix_zeros(f, room, sizeof *scores), *values = fix_zeros(f, room * p->v_dim, sizeof *values),
           query[512];
    for (size_t piece = 0; piece < f->batch.n_pieces; piece++)
        for (size_t i = 0; i < f->piece[piece].n; i++)
            for (size_t h = 0; h < p->n_q_heads; h++) {
                const size_t row = f->piece[piece].row + i, head = h / (p->n_q_heads / p->n_kv_heads);
                naive_widen(query, LT_REAL_DTYPE, q + (row * p->n_q_heads + h) * p->qk_dim, p->qk_dim);
                const size_t n = naive_keys(&a, piece, head, f->piece[piece].pos0 + i, query, scores, values);
                double top = -INFINITY, z = 0, *o = out + (row * p->n_q_heads + h) * p->v_dim;
                for (size_t j = 0; j < n; j++) top = fmax(top, scores[j]);
                for (size_t j = 0; j < n; j++) {
                    const double w = exp(scores[j] - top);
                    z += w;
                    for (size_t c = 0; c < p->v_dim; c++) o[c] += w * values[j * p->v_dim + c];
                }
                for (size_t c = 0; c < p->v_dim; c++) o[c] /= z;
            }
    return out;
}

#endif
