/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/ops.h"

#include "nn/op.h"

const lt_op *const lt_ops[] = {
    &lt_op_embed,     &lt_op_norm,      &lt_op_add,          &lt_op_gated,
    &lt_op_activate,  &lt_op_rope,      &lt_op_attention,    &lt_op_linear,
    &lt_op_take_rows, &lt_op_take_cols, &lt_op_logits,       &lt_op_head_nll,
    &lt_op_positions, &lt_op_head_kd,   &lt_op_head_kd_topk, NULL,
};

lt_status lt_op_check_shape(const lt_exec *x, const lt_node *node, int i, size_t rows, size_t cols, lt_err *err) {
    const size_t r = lt_rows(x, node->in[i]), c = lt_cols(x, node->in[i]);
    LT_REQUIRE(err, r == rows && (cols == 0 || c == cols), "%s: input %d is %zu x %zu, expected %zu x %zu",
               node->op->name, i, r, c, rows, cols);
    return LT_OK;
}

lt_status lt_op_check_vector(const lt_node *node, int i, size_t n, lt_err *err) {
    const lt_param *p = node->param[i];
    if (!p) return LT_OK;
    LT_REQUIRE(err, lt_tensor_count(&p->t) == n, "%s: %s has %zu entries, expected %zu", node->op->name, p->name,
               lt_tensor_count(&p->t), n);
    if (!lt_host(&p->t)) return lt_fail(err, LT_EUNSUPPORTED, "%s: %s is not on the host", node->op->name, p->name);
    if (!lt_dtype_get(p->t.dtype)->is_float)
        return lt_fail(err, LT_EUNSUPPORTED, "%s: %s is %s", node->op->name, p->name, lt_dtype_get(p->t.dtype)->name);
    return LT_OK;
}

lt_real *lt_op_vector(lt_exec *x, const lt_param *p) {
    lt_real *v = lt_exec_scratch(x, lt_tensor_count(&p->t) * sizeof *v);
    const size_t cols = lt_tensor_cols(&p->t), rows = v ? lt_tensor_rows(&p->t) : 0;
    for (size_t r = 0; r < rows; r++) lt_k_row(lt_exec_team(x), v + r * cols, &p->t, r);
    return v;
}

void lt_op_add_column_sums(lt_team *team, lt_real *grad, const lt_real *dy, size_t ld, size_t rows, size_t cols) {
    const size_t tiles = (cols + LT_OP_COLS - 1) / LT_OP_COLS;
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, rows *cols))
    for (size_t t = 0; t < tiles; t++) {
        const size_t c0 = t * LT_OP_COLS, n = lt_min_size(LT_OP_COLS, cols - c0);
        double sum[LT_OP_COLS] = { 0 };
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < n; c++) sum[c] += dy[r * ld + c0 + c];
        for (size_t c = 0; c < n; c++) grad[c0 + c] += (lt_real)sum[c];
    }
}
