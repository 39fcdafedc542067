/* SPDX-License-Identifier: Apache-2.0 */
/* The cut "keep" of d_ff: an MLP with fewer channels. Gate and up lose rows, down loses columns and, when asked, is
 * refitted to the inputs of the changed model (drift.h). */
#include <stdlib.h>
#include <string.h>

#include "compress/cut_words.h"
#include "compress/drift.h"
#include "compress/module_weight.h"
#include "compress/plan.h"

typedef struct keep_cut {
    size_t layer, *index, n; /* ascending */
    lt_cut_drift refit;
    char target[48];
} keep_cut;

/* ---- reading ---- */

static bool read_number(size_t *out, const char **p) {
    size_t v = 0;
    if (**p < '0' || **p > '9') return false;
    for (; **p >= '0' && **p <= '9'; (*p)++) {
        v = 10 * v + (size_t)(**p - '0');
        if (v > INT32_MAX) return false;
    }
    *out = v;
    return true;
}

/* Room for the indices of a text of `bytes`: no more than INT32_MAX, grown as they come. */
static lt_status push(keep_cut *c, size_t *cap, size_t first, size_t last, lt_err *err) {
    const size_t n = c->n + (last - first + 1);
    if (n > *cap) {
        size_t *grown = lt_realloc(c->index, 2 * n * sizeof *grown);
        if (!grown) return lt_fail(err, LT_ENOMEM, "no memory for a cut");
        c->index = grown;
        *cap = 2 * n;
    }
    for (size_t i = first; i <= last; i++) c->index[c->n++] = i;
    return LT_OK;
}

enum { MOST_CHANNELS = 1 << 24 };

/* "0-2,5,8-63", ascending */
static lt_status read_index(keep_cut *c, const char *text, lt_err *err) {
    size_t cap = 0, next = 0;
    for (const char *p = text;;) {
        size_t first, last;
        if (!read_number(&first, &p)) return lt_fail(err, LT_EDATA, "index is not like \"0-2,5\"");
        last = first;
        if (*p == '-' && (p++, !read_number(&last, &p))) return lt_fail(err, LT_EDATA, "index is not like \"0-2,5\"");
        if (first < next || last < first || last >= MOST_CHANNELS)
            return lt_fail(err, LT_EDATA, "index must ascend, below %d (at %zu-%zu)", MOST_CHANNELS, first, last);
        LT_TRY(push(c, &cap, first, last, err));
        next = last + 1;
        if (*p == 0) return LT_OK;
        if (*p++ != ',') return lt_fail(err, LT_EDATA, "index is not like \"0-2,5\"");
    }
}

static lt_status read_cut(keep_cut *c, const json_t *j, lt_err *err) {
    static const char *const known[] = { "kind", "axis", "layer", "index", "refit", "pass", "ridge", "rel_error" };
    const char *where = "plan", *axis, *index;
    json_t *layer;
    LT_TRY(lt_cut_check_members(j, known, LT_COUNTOF(known), err));
    LT_TRY(lt_json_string(&axis, j, "axis", "", where, err));
    if (strcmp(axis, "d_ff") != 0)
        return lt_fail(err, LT_EUNSUPPORTED, "keeps of axis \"%s\" are not supported (d_ff)", axis);
    LT_TRY(lt_json_need(&layer, j, "layer", where, err));
    LT_TRY(lt_json_size(&c->layer, j, "layer", 0, where, err));
    LT_TRY(lt_json_string(&index, j, "index", "", where, err));
    LT_TRY(lt_cut_read_drift(&c->refit, j, "refit", "none", err));
    return read_index(c, index, err);
}

static void keep_clear(lt_cut *cut) {
    keep_cut *c = cut->parsed;
    if (c) lt_free(c->index);
    lt_free(c);
    cut->parsed = NULL;
}

static lt_status keep_parse(lt_cut *cut, lt_err *err) {
    keep_cut *c = lt_calloc(1, sizeof *c);
    if (!c) return lt_fail(err, LT_ENOMEM, "no memory for a cut");
    cut->parsed = c;
    const lt_status st = read_cut(c, cut->json, err);
    snprintf(c->target, sizeof c->target, "d_ff of layer %zu", c->layer);
    if (st == LT_OK) return LT_OK;
    keep_clear(cut);
    return lt_context(err, st, "keep cut");
}

static const char *keep_target(const lt_cut *cut) {
    return ((const keep_cut *)cut->parsed)->target;
}

/* ---- against a model ---- */

static const lt_slot mlp_slots[] = { LT_SLOT_GATE, LT_SLOT_UP, LT_SLOT_GATE_UP, LT_SLOT_DOWN };

static bool keep_touches(const lt_cut *cut, const lt_module *m) {
    const keep_cut *c = cut->parsed;
    bool mlp = false;
    for (size_t i = 0; i < LT_COUNTOF(mlp_slots); i++) mlp |= m->slot == mlp_slots[i];
    return mlp && m->layer == (int)c->layer;
}

static lt_status keep_check(const lt_cut *cut, const lt_model *m, lt_err *err) {
    const keep_cut *c = cut->parsed;
    if (c->layer >= m->config.n_layers || !m->config.layer[c->layer].present)
        return lt_fail(err, LT_EDATA, "the model has no layer %zu (plan: %s)", c->layer, c->target);
    const size_t d_ff = m->config.layer[c->layer].d_ff;
    if (c->index[c->n - 1] >= d_ff)
        return lt_fail(err, LT_EDATA, "channel %zu of %zu (plan: %s)", c->index[c->n - 1], d_ff, c->target);
    for (size_t i = 0; i < LT_COUNTOF(mlp_slots); i++) {
        const lt_linear *l = &m->layer[c->layer].linear[mlp_slots[i]];
        if (lt_linear_present(l)) LT_TRY(lt_check_dense(l, err));
    }
    if (c->refit.residual && m->config.block.place != LT_NORM_PRE)
        return lt_fail(err, LT_EUNSUPPORTED,
                       "refit \"residual\" is for outputs that are added to the residual stream as they are (plan: %s)",
                       c->target);
    return LT_OK;
}

/* Of the MLP's linears with n channels. */
static lt_cost cost_at(const keep_cut *c, const lt_model *m, size_t n, bool as_saved) {
    lt_cost sum = { 0 };
    if (c->layer >= m->config.n_layers) return sum;
    for (size_t i = 0; i < LT_COUNTOF(mlp_slots); i++) {
        const lt_linear *l = &m->layer[c->layer].linear[mlp_slots[i]];
        if (!lt_linear_present(l)) continue;
        const bool down = mlp_slots[i] == LT_SLOT_DOWN;
        const double share = (double)n / (double)m->config.layer[c->layer].d_ff,
                     weights = share * (double)lt_tensor_count(&l->stage[0].w.t),
                     biases = lt_has_bias(l) ? (down ? 1.0 : share) * (double)lt_tensor_count(&l->bias.t) : 0.0;
        const double each = (double)lt_dtype_get(lt_factor_dtype(l))->bytes;
        sum.params += weights + biases;
        sum.linear_params += weights;
        sum.bytes += as_saved ? (weights + biases) * each
                              : (double)lt_tensor_bytes(&l->stage[0].w.t) +
                                    (lt_has_bias(l) ? (double)lt_tensor_bytes(&l->bias.t) : 0.0);
    }
    return sum;
}

static lt_cost keep_before(const lt_cut *cut, const lt_model *m) {
    const keep_cut *c = cut->parsed;
    return cost_at(c, m, c->layer < m->config.n_layers ? m->config.layer[c->layer].d_ff : 0, false);
}

static lt_cost keep_after(const lt_cut *cut, const lt_model *m) {
    const keep_cut *c = cut->parsed;
    return cost_at(c, m, c->n, true);
}

/* ---- fitting ---- */

static bool keep_needs_stats(const lt_cut *cut) {
    return (void)cut, false;
}

static bool keep_drift(const lt_cut *cut, const lt_model *m, struct lt_drift_item *item) {
    const keep_cut *c = cut->parsed;
    *item = (lt_drift_item){ .residual = c->refit.residual, .block = c->refit.block, .ridge = c->refit.ridge };
    return c->refit.on && lt_model_find_module(m, m->layer[c->layer].linear[LT_SLOT_DOWN].name, &item->module);
}

static lt_status keep_fit(lt_overlay *o, const lt_cut *const *cuts, size_t n, const lt_apply_in *in, lt_err *err) {
    (void)in;
    for (size_t i = 0; i < n; i++) {
        const keep_cut *c = cuts[i]->parsed;
        LT_TRY(lt_overlay_keep_ff(o, c->layer, c->index, c->n, err));
    }
    return LT_OK;
}

extern const lt_cut_kind lt_cut_keep;
const lt_cut_kind lt_cut_keep = { "keep",      keep_parse, keep_clear,       keep_target, keep_check, keep_touches,
                                  keep_before, keep_after, keep_needs_stats, keep_fit,    keep_drift };
