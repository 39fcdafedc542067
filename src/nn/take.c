/* SPDX-License-Identifier: Apache-2.0 */
/* y[i] = x[index[i]]; and columns in equal runs, run g being x[:, c0 + g stride : c0 + g stride + run]. Backward adds
 * to where it came from. */
#include "nn/op.h"

#include <string.h>

typedef struct rows_attr {
    const size_t *index;
    size_t n;
} rows_attr;
typedef struct cols_attr {
    size_t c0, run, groups, stride;
} cols_attr;

static lt_status check_rows(const lt_exec *x, const lt_node *node, lt_err *err) {
    const rows_attr *a = node->attr;
    const size_t rows = lt_rows(x, node->in[0]);
    for (size_t i = 0; i < a->n; i++)
        LT_REQUIRE(err, a->index[i] < rows, "take_rows: row %zu of %zu", a->index[i], rows);
    return LT_OK;
}

static void forward_rows(lt_exec *x, const lt_node *node) {
    const rows_attr *a = node->attr;
    const size_t n = lt_rows(x, node->out), d = lt_cols(x, node->out);
    lt_real *y = lt_data(x, node->out);
    const lt_real *in = lt_data(x, node->in[0]);
    for (size_t i = 0; i < n; i++) memcpy(y + i * d, in + a->index[i] * d, d * sizeof *y);
}

static void backward_rows(lt_exec *x, const lt_node *node) {
    const rows_attr *a = node->attr;
    const size_t n = lt_rows(x, node->out), d = lt_cols(x, node->out);
    const lt_real *dy = lt_grad(x, node->out);
    lt_real *dx = lt_grad(x, node->in[0]);
    for (size_t i = 0; i < n; i++) lt_k_add(lt_exec_team(x), dx + a->index[i] * d, dx + a->index[i] * d, dy + i * d, d);
}

const lt_op lt_op_take_rows = { "take_rows", check_rows, forward_rows, backward_rows, NULL, false };

lt_var lt_take_rows(lt_exec *x, lt_var in, const size_t *index, size_t n_index) {
    size_t bytes;
    if (!lt_mul_size(n_index, sizeof *index, &bytes)) bytes = SIZE_MAX;
    size_t *list = lt_exec_scratch(x, bytes); /* lives as long as the output */
    if (!list) return LT_NO_VAR;
    if (n_index > 0) memcpy(list, index, bytes);
    const rows_attr attr = { list, n_index };
    return lt_apply(x, &lt_op_take_rows, (lt_node){ .in = { in }, .attr = &attr }, sizeof attr, n_index,
                    lt_cols(x, in));
}

static lt_status check_cols(const lt_exec *x, const lt_node *node, lt_err *err) {
    const cols_attr *a = node->attr;
    const size_t cols = lt_cols(x, node->in[0]), before = (a->groups - 1) * a->stride;
    LT_REQUIRE(err, before <= cols && a->c0 <= cols - before && a->run <= cols - before - a->c0,
               "take_cols: columns %zu + %zu of %zu, %zu times", a->c0, a->run, cols, a->groups);
    return LT_OK;
}

typedef struct taking {
    const cols_attr *a;
    lt_real *y;
    const lt_real *x;
    size_t d, ld;
} taking;

static void take_row(void *arg, size_t i) {
    const taking *t = arg;
    for (size_t g = 0; g < t->a->groups; g++)
        memcpy(t->y + i * t->d + g * t->a->run, t->x + i * t->ld + t->a->c0 + g * t->a->stride,
               t->a->run * sizeof *t->y);
}

static void forward_cols(lt_exec *x, const lt_node *node) {
    const size_t n = lt_rows(x, node->out), d = lt_cols(x, node->out);
    taking t = { node->attr, lt_data(x, node->out), lt_data(x, node->in[0]), d, lt_cols(x, node->in[0]) };
    lt_op_run(lt_exec_team(x), n, n * d, take_row, &t);
}

static void backward_cols(lt_exec *x, const lt_node *node) {
    const cols_attr *a = node->attr;
    lt_team *team = lt_exec_team(x);
    const size_t n = lt_rows(x, node->out), d = lt_cols(x, node->out), ld = lt_cols(x, node->in[0]);
    const lt_real *dy = lt_grad(x, node->out);
    lt_real *dx = lt_grad(x, node->in[0]);
#pragma omp parallel for schedule(static) num_threads(lt_op_threads(team, n *d))
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < a->groups; g++) {
            lt_real *to = dx + i * ld + a->c0 + g * a->stride;
            lt_k_add(team, to, to, dy + i * d + g * a->run, a->run);
        }
}

const lt_op lt_op_take_cols = { "take_cols", check_cols, forward_cols, backward_cols, NULL, false };

static lt_var take(lt_exec *x, lt_var in, cols_attr attr) {
    return lt_apply(x, &lt_op_take_cols, (lt_node){ .in = { in }, .attr = &attr }, sizeof attr, lt_rows(x, in),
                    attr.groups * attr.run);
}

lt_var lt_take_cols(lt_exec *x, lt_var in, size_t c0, size_t n) {
    return take(x, in, (cols_attr){ .c0 = c0, .run = n, .groups = 1 });
}

lt_var lt_take_part(lt_exec *x, lt_var in, const lt_layout *layout, size_t part) {
    const size_t groups = layout->groups;
    size_t before = 0;
    for (size_t p = 0; p < part; p++) before += layout->parts[p].rows / groups;
    return take(x, in, (cols_attr){ before, layout->parts[part].rows / groups, groups, lt_cols(x, in) / groups });
}
