/* SPDX-License-Identifier: Apache-2.0 */
/* Truncation in the metric of the inputs, C = XᵀX: the best rank-r map of the calibration outputs
 * (docs/methods/whitened.md). */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_whitened;

static const lt_method_param params[] = {
    LT_LOWRANK_AFFINE,
    LT_LOWRANK_PARAMS("0"),
    LT_LOWRANK_GUARD,
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "sum", "gram", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    const lt_method *self = &lt_method_whitened;
    lt_lowrank_mode mode = { .ranks = { .metric = LT_METRIC_INPUT }, .fit = { .metric = LT_METRIC_INPUT } };
    lt_lowrank_mode_read(&mode, self, in);
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_whitened = {
    "whitened",
    "low rank, least error on the calibration outputs",
    "Wang et al., SVD-LLM (ICLR 2025); Garg et al., utilized rank (2024): the same matrix",
    params,
    { needs, false, false },
    plan,
    NULL
};
