/* SPDX-License-Identifier: Apache-2.0 */
/* How many steps a budget is, and which rows are kept apart. */
#include <math.h>
#include <stdlib.h>

#include "train/run.h"

enum { VALID_EPOCH = UINT32_MAX }; /* an epoch that no run reaches: its draws choose what is kept apart */

static lt_status steps_of_tokens(size_t *steps, const lt_run_train *in, lt_err *err) {
    const size_t n = in->train.n, per_step = in->batch * in->accumulate;
    const double wanted = in->budget.amount;
    double seen = 0;
    size_t *order = lt_malloc(n * sizeof *order), row = 0;
    if (!order) return lt_fail(err, LT_ENOMEM, "no memory for the order of %zu rows", n);
    for (; seen < wanted || row % per_step; row++) {
        if (row % n == 0) lt_train_rows_order(order, n, in->seed, (uint32_t)(row / n), in->shuffle);
        seen += in->train.rows->targets[in->train.index[order[row % n]]];
    }
    lt_free(order);
    *steps = row / per_step;
    return LT_OK;
}

lt_status lt_budget_steps(size_t *steps, size_t *rows, const lt_run_train *in, lt_err *err) {
    const size_t per_step = in->batch * in->accumulate;
    LT_REQUIRE(err, in->train.n > 0, "train: no rows");
    if (in->budget.by == LT_BY_EPOCHS) {
        *rows = (size_t)ceil(in->budget.amount * (double)in->train.n - 1e-9);
        *steps = (*rows + per_step - 1) / per_step;
        return LT_OK;
    }
    *steps = (size_t)in->budget.amount;
    if (in->budget.by == LT_BY_TOKENS) LT_TRY(steps_of_tokens(steps, in, err));
    if (!lt_mul_size(*steps, per_step, rows)) return lt_fail(err, LT_EUSAGE, "train: %zu steps are too many", *steps);
    return LT_OK;
}

static int by_value(const void *a, const void *b) {
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

lt_status lt_split_rows(size_t *index, size_t n, size_t n_valid, uint64_t seed, lt_err *err) {
    if (n_valid >= n)
        return lt_fail(err, LT_EDATA, "of %zu rows %zu would be kept apart for validation and none trained on", n,
                       n_valid);
    lt_train_rows_order(index, n, seed, VALID_EPOCH, true);
    qsort(index, n_valid, sizeof *index, by_value);
    qsort(index + n_valid, n - n_valid, sizeof *index, by_value);
    return LT_OK;
}
