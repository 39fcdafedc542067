/* SPDX-License-Identifier: Apache-2.0 */
/* Truncated SVD of the weight itself: no data (docs/methods/weight_svd.md). */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_weight_svd;

static const lt_method_param params[] = {
    { "balance", "choice", "auto", 0, 0, "auto|orth|balanced",
      "how A and B share the scale; auto: balanced for 16-bit factors, orth otherwise" },
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    const lt_lowrank_mode mode = { LT_METRIC_WEIGHT, false,
                                   lt_method_choice(&lt_method_weight_svd, in->params, "balance") };
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_weight_svd = {
    "weight_svd", "low rank, least error of the weights", "Eckart & Young (1936)", params, { needs, false, false }, plan
};
