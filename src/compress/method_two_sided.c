/* SPDX-License-Identifier: Apache-2.0 */
/* Whitened on both sides: inputs by their Gram, outputs by the Gram of their gradients, a Kronecker-factored
 * curvature (docs/methods/two_sided.md). */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_two_sided;

static const lt_method_param params[] = {
    LT_LOWRANK_AFFINE,
    { "damping", "real", "0.01", 0, 1000, NULL, "added to the gradients' Gram, times the mean of its diagonal" },
    LT_LOWRANK_PARAMS("0"),
    LT_LOWRANK_GUARD,
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "sum", "gram", "grad.count", "grad.gram", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    const lt_method *self = &lt_method_two_sided;
    const lt_lowrank_how how = { .metric = LT_METRIC_INPUT,
                                 .left = true,
                                 .damping = lt_method_number(self, in->params, "damping") };
    lt_lowrank_mode mode = { .ranks = how, .fit = how };
    lt_lowrank_mode_read(&mode, self, in);
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_two_sided = { "two_sided",
                                        "low rank, least change of the loss to second order",
                                        "Martens & Grosse, K-FAC (2015); Hsu et al., FWSVD (ICLR 2022)",
                                        params,
                                        { needs, false, false },
                                        plan,
                                        "unit" };
