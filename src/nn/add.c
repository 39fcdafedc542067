/* SPDX-License-Identifier: Apache-2.0 */
/* y = a + b */
#include "nn/op.h"

enum { TILE = 4096 }; /* elements */

static lt_status check(const lt_exec *x, const lt_node *node, lt_err *err) {
    return lt_op_check_shape(x, node, 1, lt_rows(x, node->in[0]), lt_cols(x, node->in[0]), err);
}

typedef struct sum {
    const lt_team *team;
    lt_real *y;
    const lt_real *a, *b;
    size_t n;
} sum;

static void add_tile(void *arg, size_t t) {
    const sum *s = arg;
    const size_t i = t * TILE;
    lt_k_add(s->team, s->y + i, s->a + i, s->b + i, lt_min_size(TILE, s->n - i));
}

static void add_into(lt_team *team, lt_real *y, const lt_real *a, const lt_real *b, size_t n) {
    sum s = { team, y, a, b, n };
    lt_op_run(team, (n + TILE - 1) / TILE, n, add_tile, &s);
}

static void forward(lt_exec *x, const lt_node *node) {
    add_into(lt_exec_team(x), lt_data(x, node->out), lt_data(x, node->in[0]), lt_data(x, node->in[1]),
             lt_rows(x, node->out) * lt_cols(x, node->out));
}

static void backward(lt_exec *x, const lt_node *node) {
    const lt_real *dy = lt_grad(x, node->out);
    const size_t n = lt_rows(x, node->out) * lt_cols(x, node->out);
    for (int i = 0; i < 2; i++) {
        if (!lt_needs_grad(x, node->in[i])) continue;
        bool add;
        lt_real *dx = lt_grad_add(x, node->in[i], &add);
        if (add)
            add_into(lt_exec_team(x), dx, dx, dy, n);
        else
            lt_op_copy(lt_exec_team(x), dx, dy, n);
    }
}

const lt_op lt_op_add = { "add", check, forward, backward, NULL, false };

lt_var lt_add(lt_exec *x, lt_var a, lt_var b) {
    return lt_apply(x, &lt_op_add, (lt_node){ .in = { a, b } }, 0, lt_rows(x, a), lt_cols(x, a));
}
