/* SPDX-License-Identifier: Apache-2.0 */
/* Truncation in the metric of the inputs, C = XᵀX: the best rank-r map of the calibration outputs
 * (docs/methods/whitened.md). */
#include <string.h>

#include "compress/lowrank_method.h"

extern const lt_method lt_method_whitened;

static const lt_method_param params[] = {
    { "affine", "choice", "auto", 0, 0, "auto|off",
      "auto: modules with a bias get the optimal new one (their outputs are centred first)" },
    { "balance", "choice", "auto", 0, 0, "auto|orth|balanced",
      "how A and B share the scale; auto: balanced for 16-bit factors, orth otherwise" },
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "sum", "gram", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    const lt_method *self = &lt_method_whitened;
    const lt_lowrank_mode mode = { LT_METRIC_INPUT, strcmp(lt_method_choice(self, in->params, "affine"), "auto") == 0,
                                   lt_method_choice(self, in->params, "balance") };
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_whitened = {
    "whitened",
    "low rank, least error on the calibration outputs",
    "Wang et al., SVD-LLM (ICLR 2025); Garg et al., utilized rank (2024): the same matrix",
    params,
    { needs, false, false },
    plan
};
