/* SPDX-License-Identifier: Apache-2.0 */
/* logits  l = scale head(x)
 * head_nll: with Z_i = sum_v exp l_iv,  nll_i = log Z_i - l_i,target;  dl_iv = g_i (exp(l_iv) / Z_i - [v = target_i])
 * Logits are made tile by tile (TOKENS x VOCAB); forward keeps a running maximum and sum per token, backward makes the
 * tiles again from the saved log Z. A two-stage head runs its first stage once per token chunk. */
#include "nn/exec_impl.h"
#include "nn/op.h"
#include "nn/stage.h"

enum { TOKENS = 1024, VOCAB = 2048 }; /* VOCAB: a multiple of every block size */

/* ---- logits ---- */

typedef struct logits_attr {
    const lt_linear *head;
    double scale;
} logits_attr;

static lt_status check_logits(const lt_exec *x, const lt_node *node, lt_err *err) {
    return lt_linear_check(x, node, ((const logits_attr *)node->attr)->head, err);
}

static size_t logits_saved(const lt_exec *x, const lt_node *node) {
    return lt_rows(x, node->in[0]) * lt_linear_rank(((const logits_attr *)node->attr)->head) * sizeof(lt_real);
}

static void scale_rows(lt_team *team, lt_real *y, const lt_real *x, double scale, size_t n, size_t d) {
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n *d))
    for (size_t i = 0; i < n; i++) lt_k_scale(team, y + i * d, x + i * d, (lt_real)scale, d);
}

static void forward_logits(lt_exec *x, const lt_node *node) {
    const logits_attr *a = node->attr;
    const size_t n = lt_rows(x, node->out), d = lt_cols(x, node->out);
    lt_real *inner = node->saved ? node->saved : lt_exec_scratch(x, logits_saved(x, node)), *y = lt_data(x, node->out);
    if (!inner) return;
    lt_linear_run(x, a->head, y, inner, lt_data(x, node->in[0]), n);
    if (a->scale != 1.0) scale_rows(lt_exec_team(x), y, y, a->scale, n, d);
}

static void backward_logits(lt_exec *x, const lt_node *node) {
    const logits_attr *a = node->attr;
    const size_t n = lt_rows(x, node->out), d = lt_cols(x, node->out);
    lt_real *dx = lt_needs_grad(x, node->in[0]) ? lt_grad(x, node->in[0]) : NULL,
            *dy = lt_exec_scratch(x, n * d * sizeof *dy);
    if (!dy) return;
    scale_rows(lt_exec_team(x), dy, lt_grad(x, node->out), a->scale, n, d);
    lt_linear_back(x, a->head, dx, dy, node->saved, lt_data(x, node->in[0]), n);
}

const lt_op lt_op_logits = { "logits", check_logits, forward_logits, backward_logits, logits_saved };

lt_var lt_logits(lt_exec *x, lt_var in, const lt_linear *head, double scale) {
    const logits_attr attr = { head, scale };
    lt_node node = lt_linear_node(head, in);
    node.attr = &attr;
    return lt_apply(x, &lt_op_logits, node, sizeof attr, lt_rows(x, in), lt_linear_out(head));
}

/* ---- head_nll ---- */

typedef struct nll_attr {
    const lt_linear *head;
    double scale;
    const int32_t *target;
    int32_t *argmax; /* or NULL */
} nll_attr;

/* what one token has seen of the vocabulary */
typedef struct token_sum {
    double m, z, target; /* running maximum, sum of exp(l - m), logit of the target */
    int32_t best;
    bool finite;
} token_sum;

/* a chunk of tokens on its way through the head */
typedef struct chunk {
    const lt_linear *head;
    const lt_stage *last;
    const lt_real *in, *last_in; /* inputs of the first and of the last stage */
    size_t row, n, vocab;
    lt_real *tile;
    double scale;
} chunk;

static lt_status check_nll(const lt_exec *x, const lt_node *node, lt_err *err) {
    const nll_attr *a = node->attr;
    LT_TRY(lt_linear_check(x, node, a->head, err));
    const lt_stage *last = &a->head->stage[a->head->n_stages - 1];
    LT_REQUIRE(err, last->w.t.rank == 2, "head_nll: %s has rank %d", last->w.name, last->w.t.rank);
    const size_t vocab = lt_linear_out(a->head), n = lt_rows(x, node->in[0]);
    for (size_t i = 0; i < n; i++)
        if (a->target[i] < -1 || (a->target[i] >= 0 && (size_t)a->target[i] >= vocab))
            return lt_fail(err, LT_EDATA, "head_nll: target %d at row %zu is outside the vocabulary of %zu (%s)",
                           (int)a->target[i], i, vocab, a->head->name);
    return LT_OK;
}

static size_t nll_saved(const lt_exec *x, const lt_node *node) {
    return lt_rows(x, node->in[0]) * sizeof(double);
}

/* Scratch for the largest chunk of n rows; tile NULL after a failure. */
static chunk chunk_begin(lt_exec *x, const nll_attr *a, size_t n, size_t vocab, lt_real **inner) {
    const size_t rows = lt_min_size(n, TOKENS);
    chunk c = { .head = a->head, .last = &a->head->stage[a->head->n_stages - 1], .scale = a->scale, .vocab = vocab };
    *inner = lt_exec_scratch(x, rows * lt_linear_rank(a->head) * sizeof **inner);
    c.tile = lt_exec_scratch(x, rows * lt_min_size(vocab, VOCAB) * sizeof *c.tile);
    return c;
}

static void chunk_at(lt_exec *x, chunk *c, const lt_real *in, size_t row, size_t n, lt_real *inner) {
    const lt_stage *first = &c->head->stage[0];
    c->row = row;
    c->n = n;
    c->in = c->last_in = in + row * lt_stage_in(first);
    if (c->head->n_stages < 2) return;
    lt_stage_forward(x, first, (lt_span){ 0, lt_stage_out(first) }, inner, c->in, n);
    c->last_in = inner;
}

/* Scratch of the stages is given back: there are many tiles. */
static void fill_tile(lt_exec *x, const chunk *c, lt_span span) {
    const lt_arena_mark mark = lt_arena_get_mark(x->values);
    lt_stage_forward(x, c->last, span, c->tile, c->last_in, c->n);
    lt_bias_add(x, &c->head->bias, span, c->tile, c->n);
    lt_arena_release(x->values, mark);
    if (c->scale != 1.0) scale_rows(lt_exec_team(x), c->tile, c->tile, c->scale, c->n, span.n);
}

static void see_logits(const lt_team *team, token_sum *s, lt_real *l, lt_span span, int32_t target) {
    if (target >= 0 && (size_t)target >= span.o0 && (size_t)target < span.o0 + span.n)
        s->target = l[(size_t)target - span.o0];
    s->finite = s->finite && lt_k_all_finite(l, span.n);
    const lt_real m = lt_k_max(team, l, span.n);
    if (m > s->m) {
        size_t v = 0;
        while (v + 1 < span.n && l[v] != m) v++;
        s->best = (int32_t)(span.o0 + v);
        s->z *= exp(s->m - m);
        s->m = m;
    }
    s->z += lt_k_exp_sum(team, l, l, 1, (lt_real)s->m, span.n);
}

static double log_sum(const token_sum *s) {
    return s->finite ? s->m + log(s->z) : INFINITY;
}

static void forward_chunk(lt_exec *x, const nll_attr *a, const chunk *c, token_sum *sum) {
    lt_team *team = lt_exec_team(x);
    for (size_t i = 0; i < c->n; i++) sum[i] = (token_sum){ .m = -INFINITY, .finite = true };
    for (size_t v = 0; v < c->vocab && !lt_exec_failed(x); v += VOCAB) {
        const lt_span span = { v, lt_min_size(VOCAB, c->vocab - v) };
        fill_tile(x, c, span);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, c->n *span.n))
        for (size_t i = 0; i < c->n; i++) see_logits(team, &sum[i], c->tile + i * span.n, span, a->target[c->row + i]);
    }
}

static void forward_nll(lt_exec *x, const lt_node *node) {
    const nll_attr *a = node->attr;
    const size_t n = lt_rows(x, node->in[0]), vocab = lt_linear_out(a->head);
    lt_real *inner, *y = lt_data(x, node->out);
    const lt_real *in = lt_data(x, node->in[0]);
    double *saved = node->saved;
    chunk c = chunk_begin(x, a, n, vocab, &inner);
    token_sum *sum = lt_exec_scratch(x, lt_min_size(n, TOKENS) * sizeof *sum);
    if (!sum) return;
    for (size_t row = 0; row < n; row += TOKENS) {
        chunk_at(x, &c, in, row, lt_min_size(TOKENS, n - row), inner);
        forward_chunk(x, a, &c, sum);
        for (size_t i = 0; i < c.n; i++) {
            const double lse = log_sum(&sum[i]);
            y[row + i] = a->target[row + i] < 0 ? 0 : (lt_real)(sum[i].finite ? lse - sum[i].target : INFINITY);
            if (saved) saved[row + i] = lse;
            if (a->argmax) a->argmax[row + i] = sum[i].best;
        }
    }
}

/* logits -> their gradients, in place */
static void tile_gradient(lt_team *team, const nll_attr *a, const chunk *c, lt_span span, const double *lse,
                          const lt_real *dy) {
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, c->n *span.n))
    for (size_t i = 0; i < c->n; i++) {
        lt_real *l = c->tile + i * span.n;
        const int32_t target = a->target[c->row + i];
        const lt_real g = target < 0 ? 0 : (lt_real)(a->scale * dy[c->row + i]);
        if (g == 0) {
            memset(l, 0, span.n * sizeof *l);
            continue;
        }
        lt_k_exp_sum(team, l, l, 1, (lt_real)lse[c->row + i], span.n);
        lt_k_scale(team, l, l, g, span.n);
        if ((size_t)target >= span.o0 && (size_t)target < span.o0 + span.n) l[(size_t)target - span.o0] -= g;
    }
}

static void backward_chunk(lt_exec *x, const lt_node *node, const chunk *c, const lt_real *dy, lt_real *dinner) {
    for (size_t v = 0; v < c->vocab && !lt_exec_failed(x); v += VOCAB) {
        const lt_span span = { v, lt_min_size(VOCAB, c->vocab - v) };
        fill_tile(x, c, span);
        const lt_arena_mark mark = lt_arena_get_mark(x->values);
        tile_gradient(lt_exec_team(x), node->attr, c, span, node->saved, dy);
        lt_stage_backward(x, c->last, span, dinner, c->tile, c->last_in, c->n);
        lt_bias_backward(x, &c->head->bias, span, c->tile, c->n);
        lt_arena_release(x->values, mark);
    }
}

static void backward_nll(lt_exec *x, const lt_node *node) {
    const nll_attr *a = node->attr;
    const lt_stage *first = &a->head->stage[0];
    const size_t n = lt_rows(x, node->in[0]), vocab = lt_linear_out(a->head), d = lt_linear_in(a->head);
    const size_t inner_bytes = lt_min_size(n, TOKENS) * lt_linear_rank(a->head) * sizeof(lt_real);
    lt_real *dx = lt_needs_grad(x, node->in[0]) ? lt_grad(x, node->in[0]) : NULL, *inner;
    const lt_real *in = lt_data(x, node->in[0]), *dy = lt_grad(x, node->out);
    chunk c = chunk_begin(x, a, n, vocab, &inner);
    lt_real *dinner = lt_exec_scratch(x, inner_bytes);
    if (!dinner) return;
    for (size_t row = 0; row < n; row += TOKENS) {
        chunk_at(x, &c, in, row, lt_min_size(TOKENS, n - row), inner);
        lt_real *dchunk = dx ? dx + row * d : NULL;
        if (a->head->n_stages == 2) memset(dinner, 0, inner_bytes);
        backward_chunk(x, node, &c, dy, a->head->n_stages == 2 ? dinner : dchunk);
        if (a->head->n_stages == 2)
            lt_stage_backward(x, first, (lt_span){ 0, lt_stage_out(first) }, dchunk, dinner, c.in, c.n);
    }
}

const lt_op lt_op_head_nll = { "head_nll", check_nll, forward_nll, backward_nll, nll_saved };

lt_var lt_head_nll(lt_exec *x, lt_var in, const lt_linear *head, double scale, const int32_t *target, int32_t *argmax) {
    const size_t n = lt_rows(x, in);
    int32_t *copy = lt_exec_scratch(x, n * sizeof *copy);
    if (!copy) return LT_NO_VAR;
    if (n > 0) memcpy(copy, target, n * sizeof *copy);
    const nll_attr attr = { head, scale, copy, argmax };
    lt_node node = lt_linear_node(head, in);
    node.attr = &attr;
    return lt_apply(x, &lt_op_head_nll, node, sizeof attr, n, 1);
}
