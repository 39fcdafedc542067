/* nn/op.h - what the op files share: their rows, when threads pay, and the words of shape errors. */
#ifndef LT_NN_OP_H
#define LT_NN_OP_H

#include "nn/mathk.h"
#include "nn/ops.h"

extern const lt_op lt_op_embed, lt_op_norm, lt_op_add, lt_op_gated, lt_op_activate, lt_op_rope, lt_op_attention,
    lt_op_linear, lt_op_take_rows, lt_op_take_cols, lt_op_logits, lt_op_head_nll, lt_op_positions, lt_op_head_kd,
    lt_op_head_kd_topk;

/* Threads for `work` elements touched: one below some tens of microseconds of work. Results never depend on it. */
static inline int lt_op_threads(const lt_team *team, size_t work) {
    return work < 32768 ? 1 : team->threads;
}

/* n entries, by all threads */
static inline void lt_op_copy(lt_team *team, lt_real *to, const lt_real *from, size_t n) {
    enum { TILE = 1 << 14 };
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n))
    for (size_t i = 0; i < n; i += TILE) memcpy(to + i, from + i, lt_min_size(TILE, n - i) * sizeof *to);
}

enum { LT_OP_COLS = 64 }; /* columns per tile where a sum runs over rows: one tile has one owner, in row order */

/* Rows and columns of input i, or LT_EUSAGE naming both. cols 0: any. */
lt_status lt_op_check_shape(const lt_exec *x, const lt_node *node, int i, size_t rows, size_t cols, lt_err *err);
/* A stored vector of n entries (norm weights, biases). */
lt_status lt_op_check_vector(const lt_node *node, int i, size_t n, lt_err *err);
/* A stored vector widened, in scratch; NULL after a failure. */
lt_real *lt_op_vector(lt_exec *x, const lt_param *p);
/* grad[c] += sum over rows of dy[r, c], sums in f64 and row order */
void lt_op_add_column_sums(lt_team *team, lt_real *grad, const lt_real *dy, size_t ld, size_t rows, size_t cols);

#endif
