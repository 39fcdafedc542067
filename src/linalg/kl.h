/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/kl.h - two matrices of logits, row by row: how far apart are their softmaxes?
 *
 *   KL = sum_v p_v (a_v - b_v) - (lse(a) - lse(b)),  p = softmax(a);  lse(x) = max x + log sum exp(x - max x)
 * f32 exponentials in runs of columns, f64 sums over the runs in column order: the same bytes for any team.
 * Equal rows give exactly 0; what rounding leaves below 0 is 0. A row with a logit that is not finite gives +inf
 * for that matrix's nll and for kl. */
#ifndef LT_LINALG_KL_H
#define LT_LINALG_KL_H

#include "linalg/team.h"

typedef struct lt_kl_row {
    double kl;            /* nats */
    double nll_a, nll_b;  /* lse(x) - x[target] */
    int32_t top_a, top_b; /* arg max; ties to the smallest index */
} lt_kl_row;
/* out [rows]; a, b [rows, cols] with row strides lda, ldb; target [rows], each below cols. Parallel over rows. */
void lt_kl_rows(lt_team *team, lt_kl_row *out, const float *a, size_t lda, const float *b, size_t ldb, size_t rows,
                size_t cols, const int32_t *target);

#endif
