/* SPDX-License-Identifier: Apache-2.0 */
/* Activation-aware SVD: columns scaled by a power of their mean magnitude (docs/methods/asvd.md). */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_asvd;

static const lt_method_param params[] = {
    { "alpha", "real", "0.5", 0, 8, NULL, "power of the mean magnitude" },
    LT_LOWRANK_PARAMS("0"),
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "abssum", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    const lt_method *self = &lt_method_asvd;
    const lt_lowrank_how how = { .metric = LT_METRIC_ABS, .alpha = lt_method_number(self, in->params, "alpha") };
    lt_lowrank_mode mode = { .ranks = how, .fit = how };
    lt_lowrank_mode_read(&mode, self, in);
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_asvd = { "asvd",
                                   "SVD of the weight with columns scaled by activations",
                                   "Yuan et al., ASVD (2023)",
                                   params,
                                   { needs, false, false },
                                   plan,
                                   NULL };
