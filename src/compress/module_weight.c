/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/module_weight.h"

#include <stdio.h>
#include <string.h>

bool lt_has_bias(const lt_linear *l) {
    return l->bias.name != NULL;
}

bool lt_affine_for(lt_affine a, const lt_linear *l) {
    return a == LT_AFFINE_ALL || (a == LT_AFFINE_BIASED && lt_has_bias(l));
}

/* "<module>#<part>" of a module that has parts, or none that can be cut. */
static lt_status no_part(const lt_module *whole, const char *name, const char *where, lt_err *err) {
    lt_module part;
    char names[64] = "";
    size_t used = 0;
    if (lt_linear_rank(whole->linear) > 0) return lt_check_dense(whole->linear, err);
    for (size_t i = 0; lt_module_part(whole, i, &part) && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
                                 whole->linear->layout->parts[i].name);
    return lt_fail(err, LT_EDATA, "the model has no such part: it has %s (%s: %s)", *names ? names : "none", where,
                   name);
}

lt_status lt_find_linear(lt_module *out, const lt_model *m, const char *name, const char *where, lt_err *err) {
    const char *part = strchr(name, '#');
    if (lt_model_find_module(m, name, out)) return LT_OK;
    char *whole = part ? lt_asprintf("%.*s", (int)(part - name), name) : NULL;
    if (part && !whole) return lt_fail(err, LT_ENOMEM, "out of memory (%s: %s)", where, name);
    const bool there = whole && lt_model_find_module(m, whole, out);
    lt_free(whole);
    if (there) return no_part(out, name, where, err);
    return lt_fail(err, LT_EDATA, "the model has no such linear (%s: %s)", where, name);
}

bool lt_module_named(const lt_module *m, const char *name) {
    return lt_module_is(m, name) || (m->linear->whole && strcmp(m->linear->whole->name, name) == 0);
}

size_t lt_part_row(const lt_linear *part, size_t i) {
    const lt_layout *layout = part->whole->layout;
    const size_t mine = (size_t)(part - layout->part), each = layout->parts[mine].rows / layout->groups;
    size_t before = 0, all = 0;
    for (size_t k = 0; k < layout->n_parts; k++) {
        if (k == mine) before = all;
        all += layout->parts[k].rows / layout->groups;
    }
    return i / each * all + before + i % each;
}

bool lt_stats_of_linear(const lt_stats *s, lt_stats_kind kind, const lt_linear *l, lt_stats_site *out, bool *whole) {
    *whole = false;
    if (lt_stats_find(s, kind, l->name, out)) return true;
    *whole = l->whole && lt_stats_find(s, kind, l->whole->name, out);
    return *whole;
}

lt_status lt_check_dense(const lt_linear *l, lt_err *err) {
    if (l->whole) return lt_check_dense(l->whole, err);
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
