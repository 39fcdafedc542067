/* SPDX-License-Identifier: Apache-2.0 */
/* compress/targets.h - which linears a method may cut, and what a budget leaves for them; private to the room. */
#ifndef LT_COMPRESS_TARGETS_H
#define LT_COMPRESS_TARGETS_H

#include "compress/method.h"

typedef struct lt_targets {
    lt_module *module;
    size_t n;
} lt_targets; /* lt_free(module) */
/* Dense linears of the layers (and the head) that match an include pattern and no exclude pattern, in model order. A
 * fused matrix stands for itself, or is taken in parts: all where in->parts says so, else those of which a pattern with
 * a "#" or the rank file names a part ("c_attn#q").
 * LT_EUSAGE: a pattern that is not a regular expression, or none selected. */
lt_status lt_targets_select(lt_targets *out, const lt_plan_in *in, lt_err *err);
/* What one parameter of a linear costs under this budget: 1, or its bytes once saved. */
double lt_target_unit(const lt_linear *l, lt_budget_of of);
/* budget: what the targets may cost together; keep: over all of them dense. Above 1: nothing to cut. LT_ETARGET when
 * rank 1 everywhere is still too much, naming the least that can be reached. */
lt_status lt_targets_budget(double *budget, double *keep, const lt_targets *t, const lt_plan_in *in, lt_err *err);

#endif
