/* SPDX-License-Identifier: Apache-2.0 */
/* Low rank, one site after another: ranks by the spectra of the original's outputs, factors fitted to the inputs that
 * the model changed so far gives (docs/methods/sequential.md). */
#include "compress/lowrank_method.h"

extern const lt_method lt_method_sequential;

static const lt_method_param params[] = {
    { "drift", "choice", "site", 0, 0, "site|block",
      "site: one pass of the text for each input of linears, so that o and down see what was done to q, k, v, gate and "
      "up; block: one pass a layer" },
    { "target", "choice", "drift", 0, 0, "drift|residual",
      "drift: the original's outputs; residual: o and down also make up for what the residual stream has lost" },
    { "ridge", "real", "0", 0, 1, NULL, "pull to the original weight, relative to the inputs' mean square" },
    LT_LOWRANK_AFFINE,
    LT_LOWRANK_PARAMS("0"),
    LT_LOWRANK_GUARD,
    { NULL, NULL, NULL, 0, 0, NULL, NULL },
};
static const char *const needs[] = { "count", "sum", "gram", NULL };

static lt_status plan(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    const lt_method *self = &lt_method_sequential;
    lt_lowrank_mode mode = { .ranks = { .metric = LT_METRIC_INPUT },
                             .fit = { .metric = LT_METRIC_INPUT },
                             .target = lt_method_choice(self, in->params, "target"),
                             .pass = lt_method_choice(self, in->params, "drift"),
                             .ridge = lt_method_number(self, in->params, "ridge") };
    lt_lowrank_mode_read(&mode, self, in);
    mode.fit.rest = false; /* the pass sees every position */
    return lt_plan_lowrank(p, in, &mode, err);
}

const lt_method lt_method_sequential = { "sequential",
                                         "low rank, fitted to the inputs that earlier cuts leave",
                                         "drift compensation with the cross Gram (spec utilized-rank §5.4)",
                                         params,
                                         { needs, true, false },
                                         plan,
                                         NULL };
