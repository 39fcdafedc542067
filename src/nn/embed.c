/* SPDX-License-Identifier: Apache-2.0 */
/* y[i] = scale table[ids[i]];  dtable[ids[i]] += scale dy[i] */
#include "nn/op.h"

typedef struct embed_attr {
    double scale;
} embed_attr;

static lt_status check(const lt_exec *x, const lt_node *node, lt_err *err) {
    const lt_batch *batch = lt_exec_batch(x);
    const lt_tensor *t = &node->param[0]->t;
    if (!lt_host(t) || !lt_k_weight_ok(t))
        return lt_fail(err, LT_EUNSUPPORTED, "embed: %s is %s", node->param[0]->name, lt_dtype_get(t->dtype)->name);
    LT_REQUIRE(err, batch->ids || batch->n_rows == 0, "embed: the batch has no ids");
    const size_t vocab = lt_tensor_rows(t);
    for (size_t i = 0; i < batch->n_rows; i++)
        if (batch->ids[i] < 0 || (size_t)batch->ids[i] >= vocab)
            return lt_fail(err, LT_EDATA, "embed: id %d at row %zu is outside the vocabulary of %zu (%s)",
                           (int)batch->ids[i], i, vocab, node->param[0]->name);
    return LT_OK;
}

static void forward(lt_exec *x, const lt_node *node) {
    const embed_attr *a = node->attr;
    const lt_batch *batch = lt_exec_batch(x);
    lt_team *team = lt_exec_team(x);
    const lt_tensor *t = &node->param[0]->t;
    lt_real *y = lt_data(x, node->out);
    const size_t d = lt_tensor_cols(t), n = batch->n_rows;
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n *d))
    for (size_t i = 0; i < n; i++) {
        lt_k_row(team, y + i * d, t, (size_t)batch->ids[i]);
        if (a->scale != 1.0) lt_k_scale(team, y + i * d, y + i * d, (lt_real)a->scale, d);
    }
}

/* An id may come twice: a tile of columns has one owner, who goes through the rows in order. */
static void backward(lt_exec *x, const lt_node *node) {
    const embed_attr *a = node->attr;
    const lt_batch *batch = lt_exec_batch(x);
    lt_team *team = lt_exec_team(x);
    lt_real *grad = node->param[0]->grad;
    const lt_real *dy = lt_grad(x, node->out);
    const size_t d = lt_cols(x, node->out), n = batch->n_rows, tiles = (d + LT_OP_COLS - 1) / LT_OP_COLS;
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n *d))
    for (size_t t = 0; t < tiles; t++) {
        const size_t c0 = t * LT_OP_COLS, c1 = lt_min_size(c0 + LT_OP_COLS, d);
        for (size_t i = 0; i < n; i++)
            for (size_t c = c0; c < c1; c++) grad[(size_t)batch->ids[i] * d + c] += (lt_real)a->scale * dy[i * d + c];
    }
}

const lt_op lt_op_embed = { "embed", check, forward, backward, NULL, false };

lt_var lt_embed(lt_exec *x, lt_param *table, double scale) {
    const embed_attr attr = { scale };
    const lt_node node = { .param = { table }, .attr = &attr };
    return lt_apply(x, &lt_op_embed, node, sizeof attr, lt_exec_batch(x)->n_rows, lt_tensor_cols(&table->t));
}
