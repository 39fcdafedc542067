/* SPDX-License-Identifier: Apache-2.0 */
/* Walking a model: its linears, its stored parameters, and what follows from them. The order is the map's: table,
 * layers, norm, head. */
#include "model/model.h"

#include <math.h>
#include <string.h>

/* ---- linears ---- */

/* Slot k of a row: its own, then those of its parts, which are there where it is stored in parts. */
static bool slot_of(const lt_map_row *row, size_t k, lt_slot *slot) {
    if (row->slot >= LT_N_LINEAR_SLOTS || k > (row->fused ? row->fused->n_parts : 0)) return false;
    *slot = k == 0 ? row->slot : row->fused->part[k - 1].slot;
    return true;
}

static bool pick_row(const lt_model *m, size_t layer, const lt_map_row *row, size_t *left, lt_module *out) {
    lt_slot slot;
    for (size_t k = 0; slot_of(row, k, &slot); k++) {
        const lt_linear *l = &m->layer[layer].linear[slot];
        if (!lt_linear_present(l) || (*left)-- > 0) continue;
        *out = (lt_module){ l, (int)layer, slot, row };
        return true;
    }
    return false;
}

/* Those of one layer. */
static bool pick_in(const lt_model *m, size_t layer, size_t *left, lt_module *out) {
    for (size_t r = 0; r < m->family->n_tensors; r++)
        if (pick_row(m, layer, &m->family->tensors[r], left, out)) return true;
    return false;
}

static bool pick_head(const lt_model *m, lt_module *out) {
    if (!lt_linear_present(&m->head)) return false;
    *out = (lt_module){ &m->head, -1, LT_SLOT_HEAD, lt_family_row(m->family, LT_SLOT_HEAD) };
    return true;
}

bool lt_model_module(const lt_model *m, size_t i, lt_module *out) {
    for (size_t layer = 0; layer < m->config.n_layers; layer++)
        if (pick_in(m, layer, &i, out)) return true;
    return i == 0 && pick_head(m, out);
}

bool lt_module_part(const lt_module *fused, size_t i, lt_module *out) {
    const lt_layout *layout = fused->linear->layout;
    if (!layout || !layout->part || i >= layout->n_parts || layout->part[i].whole != fused->linear) return false;
    *out = (lt_module){ &layout->part[i], fused->layer, fused->row->fused->part[i].slot, fused->row };
    return true;
}

bool lt_module_is_apart(const lt_module *m) {
    return m->row && m->row->fused && m->slot != m->row->slot && !m->linear->whole;
}

bool lt_module_is(const lt_module *m, const char *name) {
    const char *own = m->linear->name, *dot = strrchr(own, '.'), *part = strchr(name, '#');
    if (strcmp(own, name) == 0) return true;
    return part && dot && lt_module_is_apart(m) && dot - own == part - name &&
           strncmp(own, name, (size_t)(dot - own)) == 0 && strcmp(dot + 1, part + 1) == 0;
}

static bool is_named(const lt_module *m, const char *name, bool address, lt_module *out) {
    lt_module part;
    if (lt_module_is(m, name)) return *out = *m, true;
    for (size_t k = 0; address && lt_module_part(m, k, &part); k++)
        if (strcmp(part.linear->name, name) == 0) return *out = part, true;
    return false;
}

/* Layer by layer: an index into all modules would be counted from the first each time. */
bool lt_model_find_module(const lt_model *m, const char *name, lt_module *out) {
    const bool address = strchr(name, '#') != NULL;
    lt_module mod;
    for (size_t layer = 0; layer < m->config.n_layers; layer++)
        for (size_t i = 0, left = 0; left = i, pick_in(m, layer, &left, &mod); i++)
            if (is_named(&mod, name, address, out)) return true;
    return pick_head(m, &mod) && is_named(&mod, name, address, out);
}

bool lt_module_may_have_bias(const lt_module *m) {
    return m->row && m->row->has_bias;
}

const lt_linear *lt_model_slot(const lt_model *m, size_t layer, lt_slot slot) {
    const lt_linear *own = &m->layer[layer].linear[slot];
    if (lt_linear_present(own)) return own;
    for (size_t r = 0; r < m->family->n_tensors; r++) {
        const lt_map_row *row = &m->family->tensors[r];
        if (!row->fused) continue;
        const lt_module whole = { &m->layer[layer].linear[row->slot], (int)layer, row->slot, row };
        lt_module part;
        for (size_t i = 0; lt_module_part(&whole, i, &part); i++)
            if (part.slot == slot) return part.linear;
    }
    return NULL;
}

const lt_linear *lt_model_counterpart(const lt_model *m, const lt_module *of) {
    return of->layer < 0 ? &m->head : lt_model_slot(m, (size_t)of->layer, of->slot);
}

bool lt_model_linear(const lt_model *m, size_t i, const lt_linear **out) {
    const lt_linear *others[] = { &m->project_in, &m->project_out };
    lt_module mod;
    size_t n = 0;
    if (lt_model_module(m, i, &mod)) {
        *out = mod.linear;
        return true;
    }
    while (lt_model_module(m, n, &mod)) n++;
    for (size_t k = 0; k < LT_COUNTOF(others); k++) {
        if (!lt_linear_present(others[k]) || n++ < i) continue;
        *out = others[k];
        return true;
    }
    return false;
}

const char *lt_model_adapted(const lt_model *m) {
    const lt_linear *l;
    for (size_t i = 0; lt_model_linear(m, i, &l); i++)
        for (int s = 0; s < l->n_stages; s++)
            if (l->stage[s].n_adapters) return l->name;
    return NULL;
}

/* ---- parameters ---- */

/* Gives p when it is stored and the count down to it is spent. */
static bool pick(const lt_param *p, int layer, lt_slot slot, size_t *left, lt_param_info *out) {
    if (!p->name || (*left)-- > 0) return false;
    *out = (lt_param_info){ p, layer, slot, lt_slot_is_linear(slot) };
    return true;
}

static bool pick_linear(const lt_linear *l, int layer, lt_slot slot, size_t *left, lt_param_info *out) {
    for (int s = 0; s < l->n_stages; s++)
        if (pick(&l->stage[s].w, layer, slot, left, out)) return true;
    return l->n_stages > 0 && pick(&l->bias, layer, slot, left, out);
}

static bool pick_norm(const lt_norm_params *n, int layer, lt_slot slot, size_t *left, lt_param_info *out) {
    return pick(&n->w, layer, slot, left, out) || pick(&n->b, layer, slot, left, out);
}

static bool pick_in_layer(const lt_layer *l, int layer, size_t *left, lt_param_info *out) {
    for (int s = 0; s < LT_N_LINEAR_SLOTS; s++)
        if (pick_linear(&l->linear[s], layer, (lt_slot)s, left, out)) return true;
    for (int s = 0; s < LT_N_NORM_SLOTS; s++)
        if (pick_norm(&l->norm[s], layer, (lt_slot)(LT_N_LINEAR_SLOTS + s), left, out)) return true;
    return false;
}

bool lt_model_param(const lt_model *m, size_t i, lt_param_info *out) {
    if (pick(&m->embed, -1, LT_SLOT_EMBED, &i, out) || pick(&m->positions, -1, LT_SLOT_POSITIONS, &i, out) ||
        pick_linear(&m->project_in, -1, LT_SLOT_PROJECT_IN, &i, out))
        return true;
    for (size_t l = 0; l < m->config.n_layers; l++)
        if (pick_in_layer(&m->layer[l], (int)l, &i, out)) return true;
    if (pick_norm(&m->final_norm, -1, LT_SLOT_FINAL_NORM, &i, out) ||
        pick_linear(&m->project_out, -1, LT_SLOT_PROJECT_OUT, &i, out))
        return true;
    return !m->config.tied && pick_linear(&m->head, -1, LT_SLOT_HEAD, &i, out);
}

size_t lt_model_n_params(const lt_model *m) {
    lt_param_info p;
    size_t n = 0;
    for (size_t i = 0; lt_model_param(m, i, &p); i++) n += lt_tensor_count(&p.param->t);
    return n;
}

size_t lt_model_n_linear_params(const lt_model *m) {
    lt_module mod;
    size_t n = 0;
    for (size_t i = 0; lt_model_module(m, i, &mod); i++)
        for (int s = 0; mod.layer >= 0 && s < mod.linear->n_stages; s++)
            n += lt_tensor_count(&mod.linear->stage[s].w.t);
    return n;
}

size_t lt_model_bytes(const lt_model *m) {
    lt_param_info p;
    size_t n = 0;
    for (size_t i = 0; lt_model_param(m, i, &p); i++) n += lt_tensor_bytes(&p.param->t);
    return n;
}

size_t lt_layer_bytes(const lt_model *m, size_t layer) {
    lt_param_info p;
    size_t n = 0;
    for (size_t i = 0, left = 0; left = i, pick_in_layer(&m->layer[layer], (int)layer, &left, &p); i++)
        n += lt_tensor_bytes(&p.param->t);
    return n;
}

void lt_layer_drop(const lt_model *m, size_t layer) {
    lt_param_info p;
    for (size_t i = 0, left = 0; left = i, pick_in_layer(&m->layer[layer], (int)layer, &left, &p); i++)
        lt_tensor_drop(&p.param->t);
}

/* ---- NaN and Inf ---- */

enum { CHECK_COLS = 4096 }; /* a multiple of every block */

static lt_status check_row(const lt_param *p, size_t row, float *buf, lt_err *err) {
    const size_t cols = lt_tensor_cols(&p->t);
    for (size_t c0 = 0; c0 < cols; c0 += CHECK_COLS) {
        const size_t n = lt_min_size(CHECK_COLS, cols - c0);
        lt_tensor_row_f32(buf, &p->t, row, c0, n);
        if (lt_all_finite(buf, n)) continue;
        for (size_t i = 0; i < n; i++)
            if (!isfinite(buf[i]))
                return lt_fail(err, LT_EDATA, "weight is not finite (%s: [%zu, %zu]: %g)", p->name, row, c0 + i,
                               (double)buf[i]);
    }
    return LT_OK;
}

static lt_status check_param(const lt_param *p, float *buf, lt_err *err) {
    for (size_t r = 0, n = lt_tensor_rows(&p->t); r < n; r++) LT_TRY(check_row(p, r, buf, err));
    lt_tensor_drop(&p->t); /* a check of all layers must not make them all resident */
    return LT_OK;
}

lt_status lt_model_check_finite(const lt_model *m, int layer, lt_err *err) {
    float *buf = lt_malloc(CHECK_COLS * sizeof *buf);
    lt_status st = buf ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (check of weights)");
    lt_param_info p;
    for (size_t i = 0; st == LT_OK && lt_model_param(m, i, &p); i++)
        if (p.layer == layer) st = check_param(p.param, buf, err);
    lt_free(buf);
    return st;
}
