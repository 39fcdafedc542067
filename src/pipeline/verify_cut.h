/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/verify_cut.h - is a smaller model its parent with what the plan says, and nothing else changed? */
#ifndef LT_PIPELINE_VERIFY_CUT_H
#define LT_PIPELINE_VERIFY_CUT_H

#include "compress/plan.h"

typedef struct lt_cut_check {
    size_t n_cut, n_same;  /* modules that were cut; tensors equal to the parent's */
    const char *by;        /* what says which those are, "plan.json" or "config.json"; NULL: only the factors do */
    const char *unchecked; /* a kind of cut that changes more than single modules: nothing was compared; NULL: none */
} lt_cut_check;
/* Modules that the plan names have its rank; every other tensor is the parent's, bit for bit in the same dtype, else
 * each number rounded once. plan NULL: the ranks are those that made's config names, or where that has no table (names
 * of SVD-LLM) those that are there. LT_EVERIFY names module or tensor. */
lt_status lt_verify_cut(lt_cut_check *out, const lt_model *parent, const lt_model *made, const lt_plan *plan,
                        lt_err *err);

#endif
