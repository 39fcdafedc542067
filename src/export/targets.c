/* SPDX-License-Identifier: Apache-2.0 */
#include "export/export.h"

#include <string.h>

/* Products A·B are rounded once to the written dtype; the bound is that of f32 products (spec utilized-rank §11, 19).
 */
static const lt_export_target hf_dense = {
    .name = "hf-dense",
    .summary = "a stock Hugging Face folder: factored linears multiplied out; loads everywhere, saves nothing",
    .output = "model",
    .dtypes = "bf16|f16|f32",
    .form = LT_FORM_DENSE,
    .max_logit_gap = 1e-4,
    .write = lt_model_save,
};
static const lt_export_target ablinear = {
    .name = "ablinear",
    .summary = "factored linears as two plain linears (BLinear, ALinear); lathe's own form, needs its loader",
    .output = "model",
    .dtypes = "bf16|f16|f32",
    .form = LT_FORM_ABLINEAR,
    .max_logit_gap = 0.0,
    .write = lt_model_save,
};
static const lt_export_target ab = {
    .name = "ab",
    .summary = "factored linears as two tensors (A, B) of their module; for other low-rank tools, and read by lathe",
    .output = "model",
    .dtypes = "bf16|f16|f32",
    .form = LT_FORM_AB,
    .max_logit_gap = 0.0,
    .write = lt_model_save,
};
/* Epsilon and rotary base are f32 there, llama3's rule is one f32 divisor per frequency. */
static const lt_export_target gguf = {
    .name = "gguf",
    .summary = "one GGUF file with the tokenizer, for llama.cpp; factored linears multiplied out",
    .output = "model.gguf",
    .dtypes = "bf16|f16|f32|q8_0|q4_0",
    .is_file = true,
    .blocks = true,
    .form = LT_FORM_DENSE,
    .max_logit_gap = 1e-4,
    .write = lt_export_gguf,
    .check = lt_export_gguf_check,
};

const lt_export_target *const lt_export_targets[] = { &hf_dense, &ablinear, &ab, &gguf, NULL };

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

lt_dtype lt_export_dtype(const lt_export_target *t, lt_dtype stored, lt_dtype asked) {
    if (asked != LT_N_DTYPES) return asked;
    if (lt_dtype_get(stored)->block > 1) return t->blocks ? stored : LT_BF16;
    return t->is_file && stored == LT_F64 ? LT_F32 : stored;
}

lt_status lt_export_check_dtype(const lt_export_target *t, lt_dtype asked, lt_err *err) {
    if (asked == LT_N_DTYPES) return LT_OK;
    const char *name = lt_dtype_get(asked)->name;
    const size_t n = strlen(name);
    for (const char *at = t->dtypes; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strncmp(at, name, n) == 0 && (at[n] == '|' || at[n] == 0)) return LT_OK;
    return lt_fail(err, LT_EUSAGE, "export: %s is written as one of %s, not %s", t->name, t->dtypes, name);
}
