/* SPDX-License-Identifier: Apache-2.0 */
/* The accumulators. All sums are f64; the Gram's products are f32 over at most 512 rows (linalg/gemm.h). */
#include <string.h>

#include "calib/stats.h"
#include "linalg/gemm.h"

static size_t one(size_t cols) {
    return (void)cols, 1;
}
static size_t per_column(size_t cols) {
    return cols;
}
static size_t lower_triangle(size_t cols) {
    return cols * (cols + 1) / 2;
}

static void add_count(double *acc, lt_team *team, const lt_stat_in *in) {
    (void)team;
    *acc += in->weight;
}

static void add_sum(double *acc, lt_team *team, const lt_stat_in *in) {
    lt_column_sums_add(team, acc, NULL, NULL, in->x, in->ldx, in->n, in->cols);
}

static void add_abssum(double *acc, lt_team *team, const lt_stat_in *in) {
    lt_column_sums_add(team, NULL, acc, NULL, in->x, in->ldx, in->n, in->cols);
}

static void add_sumsq(double *acc, lt_team *team, const lt_stat_in *in) {
    lt_column_sums_add(team, NULL, NULL, acc, in->root, in->ld_root, in->n, in->cols);
}

static void add_gram(double *acc, lt_team *team, const lt_stat_in *in) {
    lt_gram_add(team, acc, in->root, in->ld_root, in->n, in->cols);
}

static void add_trace(double *acc, lt_team *team, const lt_stat_in *in) {
    (void)team;
    for (size_t i = 0; i < in->n; i++) {
        const float *x = in->root + i * in->ld_root;
        double s = 0.0;
        for (size_t j = 0; j < in->cols; j++) s += (double)x[j] * (double)x[j];
        *acc += s;
    }
}

static const lt_stat count_row = { "count", one, add_count };
static const lt_stat sum_row = { "sum", per_column, add_sum };
static const lt_stat abssum_row = { "abssum", per_column, add_abssum };
static const lt_stat sumsq_row = { "sumsq", per_column, add_sumsq };
static const lt_stat gram_row = { "gram", lower_triangle, add_gram };
static const lt_stat trace_row = { "trace", one, add_trace };
static const lt_stat lambda_row = { "lambda", per_column, NULL };
const lt_stat *const lt_stat_rows[LT_N_STATS + 1] = { &count_row, &sum_row,   &abssum_row, &sumsq_row,
                                                      &gram_row,  &trace_row, &lambda_row, NULL };

lt_status lt_stat_set_parse(lt_stat_set *out, const char *const *names, size_t n, lt_err *err) {
    lt_stat_set set = 1u; /* count */
    for (size_t i = 0; i < n; i++) {
        size_t row = 0;
        while (row < LT_N_STATS && strcmp(lt_stat_rows[row]->name, names[i]) != 0) row++;
        if (row == LT_N_STATS || !lt_stat_rows[row]->observe)
            return lt_fail(err, LT_EUSAGE,
                           "unknown statistic \"%s\" (there are: count, sum, abssum, sumsq, gram, trace)", names[i]);
        set |= 1u << row;
    }
    *out = set;
    return LT_OK;
}
