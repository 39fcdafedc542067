/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/observe.h"

#include <math.h>
#include <string.h>

/* Which value each linear reads. */
static const lt_site input_of[LT_N_LINEAR_SLOTS] = {
    [LT_SLOT_Q] = LT_SITE_MIXER_IN,   [LT_SLOT_K] = LT_SITE_MIXER_IN,     [LT_SLOT_V] = LT_SITE_MIXER_IN,
    [LT_SLOT_QKV] = LT_SITE_MIXER_IN, [LT_SLOT_O] = LT_SITE_MIXER_ACT,    [LT_SLOT_GATE] = LT_SITE_MLP_IN,
    [LT_SLOT_UP] = LT_SITE_MLP_IN,    [LT_SLOT_GATE_UP] = LT_SITE_MLP_IN, [LT_SLOT_DOWN] = LT_SITE_MLP_ACT,
};

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "statistics: out of memory");
}

/* ---- the list ---- */

void lt_calib_sites_end(lt_calib_sites *s, int layer) {
    for (size_t i = 0; i < s->n; i++) {
        if (s->site[i].layer != layer) continue;
        for (size_t k = 0; k < LT_N_STATS; k++) {
            lt_free(s->site[i].acc[k]);
            s->site[i].acc[k] = NULL;
        }
    }
}

void lt_calib_sites_clear(lt_calib_sites *s) {
    for (size_t i = 0; i < s->n; i++) {
        for (size_t k = 0; k < LT_N_STATS; k++) lt_free(s->site[i].acc[k]);
        lt_free(s->site[i].name);
        lt_free(s->site[i].modules);
    }
    lt_free(s->site);
    *s = (lt_calib_sites){ 0 };
}

lt_calib_site *lt_calib_sites_find(const lt_calib_sites *s, lt_site site, int layer) {
    for (size_t i = 0; i < s->n; i++)
        if (s->site[i].layer == layer && s->site[i].site == site) return &s->site[i];
    return NULL;
}

static lt_status new_site(lt_calib_site **out, lt_calib_sites *s, lt_site site, int layer, size_t cols, lt_err *err) {
    lt_calib_site *n = &s->site[s->n++];
    *n = (lt_calib_site){ .layer = layer, .site = site, .cols = cols };
    n->name = layer < 0 ? lt_strdup(lt_site_name(site)) : lt_asprintf("model.layers.%d.%s", layer, lt_site_name(site));
    n->modules = lt_calloc(LT_N_LINEAR_SLOTS + 1, sizeof *n->modules);
    *out = n;
    return n->name && n->modules ? LT_OK : no_memory(err);
}

static lt_status add_module(lt_calib_sites *s, const lt_module *m, lt_err *err) {
    const lt_site site = m->layer < 0 ? LT_SITE_HEAD_IN : input_of[m->slot];
    lt_calib_site *at = lt_calib_sites_find(s, site, m->layer);
    const size_t cols = lt_linear_in(m->linear);
    if (!at) LT_TRY(new_site(&at, s, site, m->layer, cols, err));
    if (at->cols != cols)
        return lt_fail(err, LT_EINTERNAL, "linears of one site differ in width (%s: %zu, %zu)", at->name, at->cols,
                       cols);
    at->modules[at->n_modules++] = m->linear->name;
    return LT_OK;
}

lt_status lt_calib_sites_init(lt_calib_sites *s, const lt_model *m, lt_stat_set set, bool include_head, lt_err *err) {
    lt_module mod;
    size_t n = 0;
    while (lt_model_module(m, n, &mod)) n++;
    *s = (lt_calib_sites){ .set = set, .n_layers = m->config.n_layers, .site = lt_calloc(n + 1, sizeof *s->site) };
    if (!s->site) return no_memory(err);
    for (size_t i = 0; lt_model_module(m, i, &mod); i++) {
        if (mod.layer < 0 && !include_head) continue;
        const lt_status st = add_module(s, &mod, err);
        if (st != LT_OK) return lt_calib_sites_clear(s), st;
    }
    return LT_OK;
}

lt_status lt_calib_sites_begin(lt_calib_sites *s, int layer, lt_err *err) {
    for (size_t i = 0; i < s->n; i++) {
        lt_calib_site *at = &s->site[i];
        if (at->layer != layer) continue;
        for (size_t k = 0; k < LT_N_STATS; k++) {
            lt_free(at->acc[k]);
            at->acc[k] = s->set >> k & 1u ? lt_calloc(lt_stat_rows[k]->doubles(at->cols), sizeof(double)) : NULL;
            if (s->set >> k & 1u && !at->acc[k]) return no_memory(err);
        }
    }
    return LT_OK;
}

size_t lt_calib_sites_bytes(const lt_calib_sites *s, int layer) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; s->site[i].layer == layer && k < LT_N_STATS; k++)
            if (s->set >> k & 1u) n += sizeof(double) * lt_stat_rows[k]->doubles(s->site[i].cols);
    return n;
}

size_t lt_calib_work_bytes(const lt_calib_sites *s, size_t batch_rows) {
    size_t cols = 0;
    for (size_t i = 0; i < s->n; i++) cols = lt_max_size(cols, s->site[i].cols);
    return sizeof(float) * cols *
           (2 * batch_rows + cols); /* gathered rows, twice when weights are real; the f32 products */
}

/* ---- one observation ---- */

/* All exponent bits set: Inf or NaN. Integers, so that the compiler may take many at once. */
static bool row_is_finite(const float *x, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

static lt_status check_finite(const lt_calib_site *s, const float *x, size_t ldx, size_t n, lt_err *err) {
    for (size_t i = 0; i < n; i++) {
        if (row_is_finite(x + i * ldx, s->cols)) continue;
        size_t j = 0;
        while (isfinite(x[i * ldx + j])) j++;
        return lt_fail(err, LT_EDATA, "activation is not finite (layer %d: %s: row %zu, column %zu: %g)", s->layer,
                       lt_site_name(s->site), i, j, (double)x[i * ldx + j]);
    }
    return LT_OK;
}

/* Rows with weight w > 0, times w (root: times sqrt w), dense. */
static void gather(float *to, const float *x, size_t ldx, size_t cols, const float *weight, size_t n, bool root) {
    for (size_t i = 0; i < n; i++) {
        if (weight[i] == 0.0f) continue;
        const float w = root ? sqrtf(weight[i]) : weight[i];
        for (size_t j = 0; j < cols; j++) to[j] = w * x[i * ldx + j];
        to += cols;
    }
}

typedef struct weighing {
    size_t n;
    double sum;
    bool all_one, zero_one;
} weighing;

static lt_status weigh(weighing *out, const float *weight, size_t n, lt_err *err) {
    *out = (weighing){ .n = n, .sum = (double)n, .all_one = true, .zero_one = true };
    if (!weight) return LT_OK;
    *out = (weighing){ .all_one = true, .zero_one = true };
    for (size_t i = 0; i < n; i++) {
        if (!(weight[i] >= 0.0f) || isinf(weight[i]))
            return lt_fail(err, LT_EUSAGE, "token weight must be finite and not negative (row %zu: %g)", i,
                           (double)weight[i]);
        out->n += weight[i] != 0.0f;
        out->sum += (double)weight[i];
        out->all_one &= weight[i] == 1.0f;
        out->zero_one &= weight[i] == 0.0f || weight[i] == 1.0f;
    }
    return LT_OK;
}

static void add_to_all(lt_calib_site *s, lt_team *team, const lt_stat_in *in) {
    for (size_t k = 0; k < LT_N_STATS; k++)
        if (s->acc[k]) lt_stat_rows[k]->observe(s->acc[k], team, in);
}

static lt_status observe_weighted(lt_calib_site *s, lt_team *team, const float *x, size_t ldx, const float *weight,
                                  size_t n, const weighing *w, lt_err *err) {
    size_t floats;
    if (w->n == 0) return LT_OK;
    if (!lt_mul_size(w->n, s->cols, &floats)) return no_memory(err);
    float *rows = lt_calloc(floats, sizeof *rows), *root = w->zero_one ? rows : lt_calloc(floats, sizeof *root);
    lt_status st = LT_OK;
    if (!rows || !root) LT_GO(no_memory(err));
    gather(rows, x, ldx, s->cols, weight, n, false);
    if (root != rows) gather(root, x, ldx, s->cols, weight, n, true);
    add_to_all(s, team, &(lt_stat_in){ rows, root, s->cols, s->cols, w->n, s->cols, w->sum });
done:
    if (root != rows) lt_free(root);
    lt_free(rows);
    return st;
}

lt_status lt_calib_site_observe(lt_calib_site *s, lt_team *team, const lt_obs *obs, lt_err *err) {
    const lt_tensor *t = &obs->rows;
    const float *x = lt_host(t);
    const size_t n = t->size[0], ldx = t->stride[0];
    weighing w;
    if (!x || t->dtype != LT_F32)
        return lt_fail(err, LT_EUNSUPPORTED, "statistics need f32 activations on the host (%s)", s->name);
    if (t->size[1] != s->cols)
        return lt_fail(err, LT_EINTERNAL, "site has %zu columns, expected %zu (%s)", t->size[1], s->cols, s->name);
    LT_TRY(check_finite(s, x, ldx, n, err));
    LT_TRY(weigh(&w, obs->batch->weight, n, err));
    if (!w.all_one) return observe_weighted(s, team, x, ldx, obs->batch->weight, n, &w, err);
    add_to_all(s, team, &(lt_stat_in){ x, x, ldx, ldx, n, s->cols, w.sum });
    return LT_OK;
}
