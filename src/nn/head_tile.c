/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/head_tile.h"

#include "nn/exec_impl.h"
#include "nn/op.h"

void lt_softcap(lt_real *l, double cap, size_t n) {
    for (size_t i = 0; i < n; i++) l[i] = (lt_real)(cap * tanh(l[i] / cap));
}

void lt_softcap_slope(lt_real *slope, const lt_real *l, double cap, size_t n) {
    for (size_t i = 0; i < n; i++) slope[i] = (lt_real)(1 - l[i] / cap * (l[i] / cap));
}

lt_head_tile lt_head_tile_begin(lt_exec *x, const lt_linear *head, double scale, size_t n) {
    const size_t rows = lt_min_size(n, LT_HEAD_TOKENS), vocab = lt_linear_out(head);
    lt_head_tile c = { .head = head, .last = &head->stage[head->n_stages - 1], .scale = scale, .vocab = vocab };
    c.inner = lt_exec_scratch(x, rows * lt_linear_rank(head) * sizeof *c.inner);
    const size_t bytes = rows * lt_min_size(vocab, LT_HEAD_VOCAB) * sizeof *c.tile;
    if (head->softcap > 0) c.slope = lt_exec_scratch(x, bytes);
    c.tile = lt_exec_scratch(x, bytes);
    return c;
}

void lt_head_tile_rows(lt_exec *x, lt_head_tile *c, const lt_real *in, size_t row, size_t n) {
    const lt_stage *first = &c->head->stage[0];
    c->row = row;
    c->n = n;
    c->in = c->last_in = in + row * lt_stage_in(first);
    if (c->head->n_stages < 2) return;
    lt_stage_forward(x, first, (lt_span){ 0, lt_stage_out(first) }, c->inner, c->in, n, NULL);
    c->last_in = c->inner;
}

/* Scratch of the stages is given back: there are many tiles. */
void lt_head_tile_fill(lt_exec *x, const lt_head_tile *c, lt_span span) {
    lt_team *team = lt_exec_team(x);
    const lt_arena_mark mark = lt_arena_get_mark(x->values);
    lt_stage_forward(x, c->last, span, c->tile, c->last_in, c->n, NULL);
    lt_bias_add(x, &c->head->bias, span, c->tile, c->n);
    lt_arena_release(x->values, mark);
    const double cap = c->head->softcap;
    if (c->scale == 1.0 && cap == 0.0) return;
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, c->n *span.n))
    for (size_t i = 0; i < c->n; i++) {
        lt_real *l = c->tile + i * span.n;
        if (c->scale != 1.0) lt_k_scale(team, l, l, (lt_real)c->scale, span.n);
        if (cap > 0.0) lt_softcap(l, cap, span.n);
    }
}

static lt_span span_at(const lt_head_tile *c, size_t v) {
    return (lt_span){ v, lt_min_size(LT_HEAD_VOCAB, c->vocab - v) };
}

void lt_head_tiles(lt_exec *x, lt_head_tile *c, const lt_real *in, size_t n, lt_head_tile_fn see, void *arg) {
    for (size_t row = 0; c->tile && row < n; row += LT_HEAD_TOKENS) {
        lt_head_tile_rows(x, c, in, row, lt_min_size(LT_HEAD_TOKENS, n - row));
        for (size_t v = 0; v < c->vocab && !lt_exec_failed(x); v += LT_HEAD_VOCAB) {
            lt_head_tile_fill(x, c, span_at(c, v));
            see(x, c, span_at(c, v), arg);
        }
    }
}

static void back_chunk(lt_exec *x, const lt_head_tile *c, lt_real *dlast, lt_head_tile_fn gradient, void *arg) {
    for (size_t v = 0; v < c->vocab && !lt_exec_failed(x); v += LT_HEAD_VOCAB) {
        const lt_span span = span_at(c, v);
        lt_head_tile_fill(x, c, span);
        const lt_arena_mark mark = lt_arena_get_mark(x->values);
        const double cap = c->head->softcap;
        if (cap > 0.0) lt_softcap_slope(c->slope, c->tile, cap, c->n * span.n);
        gradient(x, c, span, arg);
        if (cap > 0.0) lt_k_mul(lt_exec_team(x), c->tile, c->tile, c->slope, 1, c->n * span.n);
        lt_stage_backward(x, c->last, span, dlast, true, c->tile, c->last_in, c->n, NULL);
        lt_bias_backward(x, &c->head->bias, span, c->tile, c->n);
        lt_arena_release(x->values, mark);
    }
}

void lt_head_tiles_back(lt_exec *x, lt_head_tile *c, const lt_real *in, lt_real *dx, size_t n, lt_head_tile_fn gradient,
                        void *arg) {
    const lt_stage *first = &c->head->stage[0];
    const bool two = c->head->n_stages == 2;
    const size_t bytes = lt_min_size(n, LT_HEAD_TOKENS) * lt_linear_rank(c->head) * sizeof(lt_real);
    lt_real *dinner = lt_exec_scratch(x, bytes);
    for (size_t row = 0; dinner && c->tile && row < n; row += LT_HEAD_TOKENS) {
        lt_real *dchunk = dx ? dx + row * lt_stage_in(first) : NULL;
        lt_head_tile_rows(x, c, in, row, lt_min_size(LT_HEAD_TOKENS, n - row));
        if (two) memset(dinner, 0, bytes);
        back_chunk(x, c, two ? dinner : dchunk, gradient, arg);
        if (two)
            lt_stage_backward(x, first, (lt_span){ 0, lt_stage_out(first) }, dchunk, true, dinner, c->in, c->n, NULL);
    }
}
