/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks by the energy of the output spectrum, with a floor and without sink tokens (docs/methods/energy.md, spec
 * utilized-rank §3.2). */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_energy;

static const lt_method_param params[] = {
    LT_LOWRANK_AFFINE,
    LT_LOWRANK_PARAMS("0.99"),
    LT_LOWRANK_GUARD,
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "sum", "gram", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    const lt_method *self = &lt_method_energy;
    lt_lowrank_mode mode = { .ranks = { .metric = LT_METRIC_INPUT }, .fit = { .metric = LT_METRIC_INPUT } };
    lt_lowrank_mode_read(&mode, self, in);
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_energy = { "energy",
                                     "ranks by energy of the output spectrum, then whitened",
                                     "Garg et al., Revealing the Utilized Rank (2024), with guards",
                                     params,
                                     { needs, false, false },
                                     plan,
                                     NULL };
