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

/* fn(arg, i) for i < n, in threads where `work` elements touched are worth it: also those of lt_team_hold. */
static inline void lt_op_run(lt_team *team, size_t n, size_t work, void (*fn)(void *arg, size_t i), void *arg) {
    if (lt_op_threads(team, work) == 1)
        for (size_t i = 0; i < n; i++) fn(arg, i);
    else
        lt_team_run(team, n, fn, arg);
}

/* to[0 .. n) = from[0 .. n) */
typedef struct lt_op_copying {
    lt_real *to;
    const lt_real *from;
    size_t n;
} lt_op_copying;
enum { LT_OP_COPY = 1 << 14 }; /* entries a thread takes at a time */

static inline void lt_op_copy_part(void *arg, size_t i) {
    const lt_op_copying *c = arg;
    const size_t at = i * LT_OP_COPY;
    memcpy(c->to + at, c->from + at, lt_min_size(LT_OP_COPY, c->n - at) * sizeof *c->to);
}

static inline void lt_op_copy(lt_team *team, lt_real *to, const lt_real *from, size_t n) {
    lt_op_copying c = { to, from, n };
    lt_op_run(team, (n + LT_OP_COPY - 1) / LT_OP_COPY, n, lt_op_copy_part, &c);
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
