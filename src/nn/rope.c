/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary positions (Su et al. 2021): pairs (a, b) of each head turn by t = pos inv_freq[i],
 *   a' = a cos t - b sin t,  b' = b cos t + a sin t;   backward turns by -t.
 * Pairs are (i, i + n_freq) or, interleaved, (2i, 2i + 1); columns past 2 n_freq pass through. */
#include "nn/op.h"

#include <string.h>

#include "nn/exec_impl.h"

struct lt_rope_table {
    lt_rope_table *next;
    size_t n_freq;
    double factor;
    double *inv_freq;
    lt_real *cs, *sn; /* [n_rows, n_freq] */
};
typedef struct rope_attr {
    const lt_rope_table *t;
    size_t n_heads, head_dim;
    bool interleaved;
} rope_attr;

/* ---- tables ---- */

static const lt_rope_table *find_table(const lt_exec *x, const double *inv_freq, size_t n_freq, double factor) {
    for (const lt_rope_table *t = x->ropes; t; t = t->next)
        if (t->n_freq == n_freq && t->factor == factor && memcmp(t->inv_freq, inv_freq, n_freq * sizeof *inv_freq) == 0)
            return t;
    return NULL;
}

static lt_rope_table *new_table(lt_exec *x, const double *inv_freq, size_t n_freq, double factor) {
    size_t count;
    lt_rope_table *t = lt_arena_alloc(x->kept, sizeof *t);
    if (!t || !lt_mul_size(x->batch->n_rows, n_freq, &count)) return NULL;
    *t = (lt_rope_table){ x->ropes,
                          n_freq,
                          factor,
                          lt_arena_array(x->kept, n_freq, sizeof *t->inv_freq),
                          lt_arena_array(x->kept, count, sizeof *t->cs),
                          lt_arena_array(x->kept, count, sizeof *t->sn) };
    if (!t->inv_freq || !t->cs || !t->sn) return NULL;
    memcpy(t->inv_freq, inv_freq, n_freq * sizeof *inv_freq);
    return t;
}

static void fill_piece(const lt_rope_table *t, lt_team *team, const lt_piece *piece) {
    const size_t n = t->n_freq;
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, 16 * piece->n * n))
    for (size_t i = 0; i < piece->n; i++)
        for (size_t f = 0; f < n; f++) {
            const double angle = (double)(piece->pos0 + i) * t->inv_freq[f];
            t->cs[(piece->row + i) * n + f] = (lt_real)(cos(angle) * t->factor);
            t->sn[(piece->row + i) * n + f] = (lt_real)(sin(angle) * t->factor);
        }
}

const lt_rope_table *lt_rope_prepare(lt_exec *x, const double *inv_freq, size_t n_freq, double factor) {
    if (lt_exec_failed(x)) return NULL;
    const lt_rope_table *old = find_table(x, inv_freq, n_freq, factor);
    if (old) return old;
    lt_rope_table *t = new_table(x, inv_freq, n_freq, factor);
    if (!t) {
        lt_exec_fail(x, LT_ENOMEM, "rope: tables of %zu x %zu", x->batch->n_rows, n_freq);
        return NULL;
    }
    for (size_t p = 0; p < x->batch->n_pieces; p++) fill_piece(t, x->team, &x->batch->piece[p]);
    x->ropes = t;
    return t;
}

/* ---- the op ---- */

static lt_status check(const lt_exec *x, const lt_node *node, lt_err *err) {
    const rope_attr *a = node->attr;
    LT_REQUIRE(err, a->t, "rope: no table");
    LT_REQUIRE(err, 2 * a->t->n_freq <= a->head_dim, "rope: %zu frequencies for heads of %zu", a->t->n_freq,
               a->head_dim);
    return lt_op_check_shape(x, node, 0, lt_exec_batch(x)->n_rows, a->n_heads * a->head_dim, err);
}

static void turn_interleaved(lt_real *y, const lt_real *x, const lt_real *cs, const lt_real *sn, size_t n_freq) {
    for (size_t f = 0; f < n_freq; f++) {
        const lt_real a = x[2 * f], b = x[2 * f + 1];
        y[2 * f] = a * cs[f] - b * sn[f];
        y[2 * f + 1] = b * cs[f] + a * sn[f];
    }
}

typedef struct turn {
    const lt_team *team;
    const rope_attr *a;
    lt_real *y;
    const lt_real *x;
} turn;

static void turn_row(void *arg, size_t i) {
    const turn *t = arg;
    const rope_attr *a = t->a;
    const size_t nf = a->t->n_freq, r = 2 * nf;
    for (size_t h = 0; h < a->n_heads; h++) {
        const size_t at = (i * a->n_heads + h) * a->head_dim;
        if (a->interleaved)
            turn_interleaved(t->y + at, t->x + at, a->t->cs + i * nf, a->t->sn + i * nf, nf);
        else
            lt_k_rope(t->team, t->y + at, t->x + at, a->t->cs + i * nf, a->t->sn + i * nf, r);
        if (a->head_dim > r) memcpy(t->y + at + r, t->x + at + r, (a->head_dim - r) * sizeof *t->y);
    }
}

static void forward(lt_exec *x, const lt_node *node) {
    lt_team *team = lt_exec_team(x);
    turn t = { team, node->attr, lt_data(x, node->out), lt_data(x, node->in[0]) };
    const size_t n = lt_rows(x, node->out);
    lt_op_run(team, n, n * lt_cols(x, node->out), turn_row, &t);
}

/* one head; add: to what dx holds */
static void turn_back(const rope_attr *a, lt_real *dx, bool add, const lt_real *dy, const lt_real *cs,
                      const lt_real *sn) {
    const size_t nf = a->t->n_freq, step = a->interleaved ? 2 : 1, other = a->interleaved ? 1 : nf;
    for (size_t f = 0; f < nf; f++) {
        const size_t i = f * step, j = i + other;
        dx[i] = (add ? dx[i] : 0) + (dy[i] * cs[f] + dy[j] * sn[f]);
        dx[j] = (add ? dx[j] : 0) + (dy[j] * cs[f] - dy[i] * sn[f]);
    }
    for (size_t c = 2 * nf; c < a->head_dim; c++) dx[c] = (add ? dx[c] : 0) + dy[c];
}

static void backward(lt_exec *x, const lt_node *node) {
    const rope_attr *a = node->attr;
    lt_team *team = lt_exec_team(x);
    const size_t n = lt_rows(x, node->out), heads = a->n_heads, dim = a->head_dim, nf = a->t->n_freq;
    const lt_real *dy = lt_grad(x, node->out);
    bool add;
    lt_real *dx = lt_grad_add(x, node->in[0], &add);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n *heads *dim))
    for (size_t i = 0; i < n; i++)
        for (size_t h = 0; h < heads; h++) {
            const size_t at = (i * heads + h) * dim;
            turn_back(a, dx + at, add, dy + at, a->t->cs + i * nf, a->t->sn + i * nf);
        }
}

const lt_op lt_op_rope = { "rope", check, forward, backward, NULL, false };

lt_var lt_rope(lt_exec *x, lt_var in, const lt_rope_table *t, size_t n_heads, size_t head_dim, bool interleaved) {
    const rope_attr attr = { t, n_heads, head_dim, interleaved };
    return lt_apply(x, &lt_op_rope, (lt_node){ .in = { in }, .attr = &attr }, sizeof attr, lt_rows(x, in),
                    lt_cols(x, in));
}
