/* SPDX-License-Identifier: Apache-2.0 */
/* Truncated SVD of the weight itself: no data (docs/methods/weight_svd.md). With `energy`: the rank search on the
 * weight's spectrum, spec utilized-rank §3.3. */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_weight_svd;

static const lt_method_param params[] = {
    LT_LOWRANK_PARAMS("0"),
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    lt_lowrank_mode mode = { .ranks = { .metric = LT_METRIC_WEIGHT }, .fit = { .metric = LT_METRIC_WEIGHT } };
    lt_lowrank_mode_read(&mode, &lt_method_weight_svd, in);
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_weight_svd = { "weight_svd",
                                         "low rank, least error of the weights",
                                         "Eckart & Young (1936)",
                                         params,
                                         { needs, false, false },
                                         plan,
                                         NULL };
