/* SPDX-License-Identifier: Apache-2.0 */
/* What the utilized-rank code computes: directions of the outputs with their bias, though only W is projected
 * (docs/methods/utilized_biased.md). For comparison. */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_utilized_biased;

static const lt_method_param params[] = {
    LT_LOWRANK_PARAMS("0"),
    LT_LOWRANK_GUARD,
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "sum", "gram", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    lt_lowrank_mode mode = { .ranks = { .metric = LT_METRIC_INPUT_BIASED },
                             .fit = { .metric = LT_METRIC_INPUT_BIASED } };
    lt_lowrank_mode_read(&mode, &lt_method_utilized_biased, in);
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_utilized_biased = { "utilized_biased",
                                              "`utilized` as its code does it: directions of the biased outputs",
                                              "the utilized mode of the utilized-rank code",
                                              params,
                                              { needs, false, false },
                                              plan,
                                              NULL };
