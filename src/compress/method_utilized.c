/* SPDX-License-Identifier: Apache-2.0 */
/* The output projection U_r U_rᵀ W of the utilized-rank work, bias left out: the same matrix as `whitened`
 * (docs/methods/utilized.md). */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_utilized;

static const lt_method_param params[] = {
    LT_LOWRANK_AFFINE,
    LT_LOWRANK_PARAMS("0"),
    LT_LOWRANK_GUARD,
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "sum", "gram", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    const lt_method *self = &lt_method_utilized;
    lt_lowrank_mode mode = { .ranks = { .metric = LT_METRIC_INPUT }, .fit = { .metric = LT_METRIC_INPUT } };
    lt_lowrank_mode_read(&mode, self, in);
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_utilized = { "utilized",
                                       "projection of outputs on their top directions (= whitened)",
                                       "Garg et al., Revealing the Utilized Rank (2024)",
                                       params,
                                       { needs, false, false },
                                       plan,
                                       NULL };
