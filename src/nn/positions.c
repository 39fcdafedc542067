/* SPDX-License-Identifier: Apache-2.0 */
/* y[i] = x[i] + table[pos(i) + offset];  dx += dy, dtable[pos(i) + offset] += dy[i]. Positions are the pieces'. */
#include "nn/op.h"

typedef struct positions_attr {
    size_t offset;
} positions_attr;

static lt_status check(const lt_exec *x, const lt_node *node, lt_err *err) {
    const positions_attr *a = node->attr;
    const lt_batch *batch = lt_exec_batch(x);
    const lt_param *table = node->param[0];
    if (!lt_host(&table->t) || !lt_k_weight_ok(&table->t))
        return lt_fail(err, LT_EUNSUPPORTED, "positions: %s is %s", table->name, lt_dtype_get(table->t.dtype)->name);
    const size_t rows = lt_tensor_rows(&table->t);
    for (size_t p = 0; p < batch->n_pieces; p++) {
        const lt_piece *piece = &batch->piece[p];
        if (piece->n == 0 || (piece->pos0 < rows && piece->n + a->offset <= rows - piece->pos0)) continue;
        return lt_fail(err, LT_EDATA, "positions: position %zu is outside the table of %zu (%s)",
                       piece->pos0 + piece->n - 1, rows - lt_min_size(a->offset, rows), table->name);
    }
    return lt_op_check_shape(x, node, 0, batch->n_rows, lt_tensor_cols(&table->t), err);
}

static void forward(lt_exec *x, const lt_node *node) {
    const positions_attr *a = node->attr;
    const lt_batch *batch = lt_exec_batch(x);
    lt_team *team = lt_exec_team(x);
    const lt_tensor *t = &node->param[0]->t;
    const size_t d = lt_cols(x, node->out);
    const lt_real *in = lt_data(x, node->in[0]);
    lt_real *y = lt_data(x, node->out);
    for (size_t p = 0; p < batch->n_pieces; p++) {
        const lt_piece *piece = &batch->piece[p];
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, piece->n *d))
        for (size_t i = 0; i < piece->n; i++) {
            lt_real *row = y + (piece->row + i) * d;
            lt_k_row(team, row, t, piece->pos0 + i + a->offset);
            lt_k_add(team, row, row, in + (piece->row + i) * d, d);
        }
    }
}

/* A position comes once per piece: a tile of columns has one owner, who goes through the rows in order. */
static void table_gradient(const lt_batch *batch, lt_team *team, lt_real *grad, const lt_real *dy, size_t d,
                           size_t offset) {
    const size_t tiles = (d + LT_OP_COLS - 1) / LT_OP_COLS;
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, batch->n_rows *d))
    for (size_t t = 0; t < tiles; t++) {
        const size_t c0 = t * LT_OP_COLS, c1 = lt_min_size(c0 + LT_OP_COLS, d);
        for (size_t p = 0; p < batch->n_pieces; p++) {
            const lt_piece *piece = &batch->piece[p];
            for (size_t i = 0; i < piece->n; i++)
                for (size_t c = c0; c < c1; c++)
                    grad[(piece->pos0 + i + offset) * d + c] += dy[(piece->row + i) * d + c];
        }
    }
}

static void backward(lt_exec *x, const lt_node *node) {
    const positions_attr *a = node->attr;
    const size_t n = lt_rows(x, node->out), d = lt_cols(x, node->out);
    const lt_real *dy = lt_grad(x, node->out);
    if (lt_needs_grad(x, node->in[0])) {
        lt_real *dx = lt_grad(x, node->in[0]);
        lt_k_add(lt_exec_team(x), dx, dx, dy, n * d);
    }
    if (lt_param_trainable(node->param[0]))
        table_gradient(lt_exec_batch(x), lt_exec_team(x), node->param[0]->grad, dy, d, a->offset);
}

const lt_op lt_op_positions = { "positions", check, forward, backward, NULL, false };

lt_var lt_add_positions(lt_exec *x, lt_var in, lt_param *table, size_t offset) {
    const positions_attr attr = { offset };
    const lt_node node = { .in = { in }, .param = { table }, .attr = &attr };
    return lt_apply(x, &lt_op_positions, node, sizeof attr, lt_rows(x, in), lt_cols(x, in));
}
