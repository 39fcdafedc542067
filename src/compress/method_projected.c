/* SPDX-License-Identifier: Apache-2.0 */
/* The concept paper's two-sided projection P_T W P_S at equal rank; never better than `whitened`
 * (docs/methods/projected.md). For comparison. */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_projected;

static const lt_method_param params[] = {
    LT_LOWRANK_PARAMS("0"),
    LT_LOWRANK_GUARD,
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "gram", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    lt_lowrank_mode mode = { .ranks = { .metric = LT_METRIC_INPUT }, .fit = { .metric = LT_METRIC_PROJECTED } };
    lt_lowrank_mode_read(&mode, &lt_method_projected, in);
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_projected = { "projected",
                                        "projection of outputs and inputs, P_T W P_S",
                                        "Garg et al., Revealing the Utilized Rank (2024), as printed",
                                        params,
                                        { needs, false, false },
                                        plan,
                                        NULL };
