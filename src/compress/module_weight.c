/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/module_weight.h"

#include <string.h>

bool lt_has_bias(const lt_linear *l) {
    return l->bias.name != NULL;
}

static bool has_part(const lt_linear *l, const char *part) {
    for (size_t i = 0; l->layout && i < l->layout->n_parts; i++)
        if (strcmp(l->layout->parts[i].name, part) == 0) return true;
    return false;
}

lt_status lt_find_linear(lt_module *out, const lt_model *m, const char *name, const char *where, lt_err *err) {
    const char *part = strchr(name, '#');
    bool fused = false;
    if (lt_model_find_module(m, name, out)) return LT_OK;
    if (part) {
        char *whole = lt_asprintf("%.*s", (int)(part - name), name);
        if (!whole) return lt_fail(err, LT_ENOMEM, "out of memory (%s: %s)", where, name);
        fused = lt_model_find_module(m, whole, out) && has_part(out->linear, part + 1);
        lt_free(whole);
    }
    if (fused)
        return lt_fail(err, LT_EUNSUPPORTED,
                       "a part of a fused matrix cannot be cut alone: name the whole, %s (%s: %s)", out->linear->name,
                       where, name);
    return lt_fail(err, LT_EDATA, "the model has no such linear (%s: %s)", where, name);
}

lt_status lt_check_dense(const lt_linear *l, lt_err *err) {
    if (l->n_stages == 2)
        return lt_fail(err, LT_EUNSUPPORTED, "already factored (%s: rank %zu)", l->name, lt_linear_rank(l));
    if (l->stage[0].n_adapters) return lt_fail(err, LT_EUNSUPPORTED, "has adapters: merge them first (%s)", l->name);
    return LT_OK;
}

static lt_status new_row(float **row, size_t n, const lt_linear *l, lt_err *err) {
    *row = lt_calloc(n, sizeof **row);
    return *row ? LT_OK : lt_fail(err, LT_ENOMEM, "no memory for a row of %zu (%s)", n, l->name);
}

lt_status lt_module_weight(double *w, const lt_linear *l, lt_err *err) {
    const lt_tensor *t = &l->stage[0].w.t;
    const size_t rows = lt_tensor_rows(t), cols = lt_tensor_cols(t);
    const size_t to_row = l->stage[0].in_out ? 1 : cols, to_col = l->stage[0].in_out ? rows : 1;
    float *row;
    LT_TRY(lt_check_dense(l, err));
    LT_TRY(new_row(&row, cols, l, err));
    for (size_t i = 0; i < rows; i++) {
        lt_tensor_row_f32(row, t, i, 0, cols);
        for (size_t j = 0; j < cols; j++) w[i * to_row + j * to_col] = (double)row[j];
    }
    lt_tensor_drop(t);
    lt_free(row);
    return LT_OK;
}

lt_status lt_module_bias(double *b, const lt_linear *l, lt_err *err) {
    const size_t m = lt_linear_out(l);
    float *row;
    LT_TRY(new_row(&row, m, l, err));
    if (lt_has_bias(l)) lt_tensor_row_f32(row, &l->bias.t, 0, 0, m);
    for (size_t i = 0; i < m; i++) b[i] = (double)row[i];
    lt_free(row);
    return LT_OK;
}

lt_dtype lt_factor_dtype(const lt_linear *l) {
    const lt_dtype t = l->stage[0].w.t.dtype;
    return lt_dtype_get(t)->block > 1 ? LT_BF16 : t;
}
