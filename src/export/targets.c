/* SPDX-License-Identifier: Apache-2.0 */
#include "export/export.h"

#include <string.h>

/* Products A·B are rounded once to the written dtype; the bound is that of f32 products (spec utilized-rank §11, 19).
 */
static const lt_export_target hf_dense = {
    .name = "hf-dense",
    .summary = "a stock Hugging Face folder: factored linears multiplied out; loads everywhere, saves nothing",
    .form = LT_FORM_DENSE,
    .max_logit_gap = 1e-4,
};
static const lt_export_target ablinear = {
    .name = "ablinear",
    .summary = "factored linears as two plain linears (BLinear, ALinear); lathe's own form, needs its loader",
    .form = LT_FORM_ABLINEAR,
    .max_logit_gap = 0.0,
};

const lt_export_target *const lt_export_targets[] = { &hf_dense, &ablinear, NULL };

lt_status lt_export_find(const lt_export_target **out, const char *name, lt_err *err) {
    char list[256] = "";
    for (const lt_export_target *const *t = lt_export_targets; *t; t++) {
        if (strcmp((*t)->name, name) == 0) {
            *out = *t;
            return LT_OK;
        }
        if (*list) strncat(list, ", ", sizeof list - strlen(list) - 1);
        strncat(list, (*t)->name, sizeof list - strlen(list) - 1);
    }
    return lt_fail(err, LT_EUNSUPPORTED, "export: no target \"%.60s\"; there are %s", name, list);
}
