/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks from the utilized spectrum, factors from the SVD of the weight (docs/methods/hybrid.md). */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_hybrid;

static const lt_method_param params[] = {
    LT_LOWRANK_PARAMS("0"),
    LT_LOWRANK_GUARD,
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "gram", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    lt_lowrank_mode mode = { .ranks = { .metric = LT_METRIC_INPUT }, .fit = { .metric = LT_METRIC_WEIGHT } };
    lt_lowrank_mode_read(&mode, &lt_method_hybrid, in);
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_hybrid = { "hybrid",
                                     "ranks of `utilized`, factors of `weight_svd`",
                                     "the hybrid mode of the utilized-rank code",
                                     params,
                                     { needs, false, false },
                                     plan,
                                     NULL };
