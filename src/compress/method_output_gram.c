/* SPDX-License-Identifier: Apache-2.0 */
/* The output projection from output Grams that were measured, not derived: imported stats
 * (docs/methods/output_gram.md). */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_output_gram;

static const lt_method_param params[] = {
    LT_LOWRANK_PARAMS("0"),
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "output.gram", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    lt_lowrank_mode mode = { .ranks = { .metric = LT_METRIC_OUTPUT }, .fit = { .metric = LT_METRIC_OUTPUT } };
    lt_lowrank_mode_read(&mode, &lt_method_output_gram, in);
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_output_gram = { "output_gram",
                                          "projection of outputs by imported Grams (`stats import`)",
                                          "Garg et al., Revealing the Utilized Rank (2024)",
                                          params,
                                          { needs, false, false },
                                          plan,
                                          NULL };
