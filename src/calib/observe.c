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

/* Which value each linear makes: {site, sub}. */
static const struct {
    lt_site site;
    int sub;
} output_of[LT_N_LINEAR_SLOTS] = {
    [LT_SLOT_Q] = { LT_SITE_Q_PROJ, 0 },     [LT_SLOT_K] = { LT_SITE_K_PROJ, 0 },
    [LT_SLOT_V] = { LT_SITE_V_PROJ, 0 },     [LT_SLOT_QKV] = { LT_SITE_QKV_PROJ, 0 },
    [LT_SLOT_O] = { LT_SITE_MIXER_OUT, 0 },  [LT_SLOT_GATE] = { LT_SITE_MLP_PROJ, 0 },
    [LT_SLOT_UP] = { LT_SITE_MLP_PROJ, 1 },  [LT_SLOT_GATE_UP] = { LT_SITE_MLP_PROJ, 2 },
    [LT_SLOT_DOWN] = { LT_SITE_MLP_OUT, 0 },
};

lt_site lt_input_site(lt_slot slot) {
    return slot == LT_SLOT_HEAD ? LT_SITE_HEAD_IN : input_of[slot];
}

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "statistics: out of memory");
}

/* ---- the list ---- */

/* Layers are alike: what one has done with serves the next, so that its pages are not asked of the system again. */
void lt_calib_sites_end(lt_calib_sites *s, int layer) {
    for (size_t i = 0; i < s->n; i++) {
        lt_calib_site *at = &s->site[i];
        if (at->layer != layer) continue;
        for (size_t k = 0; k < LT_N_STATS; k++) {
            if (at->acc[k]) s->spare[s->n_spare++] = (lt_calib_spare){ at->acc[k], lt_stat_rows[k]->doubles(at->cols) };
            at->acc[k] = NULL;
        }
    }
}

/* Zeroed; NULL: out of memory. */
static double *accumulator(lt_calib_sites *s, size_t n) {
    for (size_t i = 0; i < s->n_spare; i++) {
        if (s->spare[i].n != n) continue;
        double *acc = s->spare[i].acc;
        s->spare[i] = s->spare[--s->n_spare];
        memset(acc, 0, n * sizeof *acc);
        return acc;
    }
    return lt_calloc(n, sizeof(double));
}

void lt_calib_sites_clear(lt_calib_sites *s) {
    for (size_t i = 0; i < s->n; i++) {
        for (size_t k = 0; k < LT_N_STATS; k++) lt_free(s->site[i].acc[k]);
        lt_free(s->site[i].name);
        lt_free(s->site[i].modules);
    }
    for (size_t i = 0; i < s->n_spare; i++) lt_free(s->spare[i].acc);
    lt_free(s->spare);
    lt_free(s->site);
    *s = (lt_calib_sites){ 0 };
}

lt_calib_site *lt_calib_sites_find(const lt_calib_sites *s, lt_site site, int layer) {
    for (size_t i = 0; i < s->n; i++)
        if (s->site[i].layer == layer && s->site[i].site == site && s->site[i].kind == LT_STATS_INPUT)
            return &s->site[i];
    return NULL;
}

lt_calib_site *lt_calib_sites_grad(const lt_calib_sites *s, lt_site site, int layer, int sub) {
    for (size_t i = 0; i < s->n; i++) {
        lt_calib_site *at = &s->site[i];
        if (at->kind == LT_STATS_GRAD && at->site == site && at->at_layer == layer && at->sub == sub) return at;
    }
    return NULL;
}

static lt_status new_site(lt_calib_site **out, lt_calib_sites *s, lt_site site, int layer, size_t cols, lt_err *err) {
    lt_calib_site *n = &s->site[s->n++];
    *n = (lt_calib_site){ .layer = layer, .at_layer = layer, .site = site, .cols = cols };
    n->name = layer < 0 ? lt_strdup(lt_site_name(site)) : lt_asprintf("model.layers.%d.%s", layer, lt_site_name(site));
    n->modules = lt_calloc(LT_N_LINEAR_SLOTS + 1, sizeof *n->modules);
    *out = n;
    return n->name && n->modules ? LT_OK : no_memory(err);
}

static lt_status add_module(lt_calib_sites *s, const lt_module *m, lt_stat_set set, lt_err *err) {
    const lt_site site = lt_input_site(m->slot);
    lt_calib_site *at = lt_calib_sites_find(s, site, m->layer);
    const size_t cols = lt_linear_in(m->linear);
    if (!at) LT_TRY(new_site(&at, s, site, m->layer, cols, err));
    if (at->cols != cols)
        return lt_fail(err, LT_EINTERNAL, "linears of one site differ in width (%s: %zu, %zu)", at->name, at->cols,
                       cols);
    at->set = set;
    at->modules[at->n_modules++] = m->linear->name;
    return LT_OK;
}

/* The first positions of a site's rows, as a site of their own. */
static lt_status add_first(lt_calib_sites *s, size_t of, lt_err *err) {
    lt_calib_site *n = &s->site[s->n++];
    const lt_calib_site *at = &s->site[of];
    *n = *at;
    n->kind = LT_STATS_FIRST;
    n->name = lt_asprintf("%s.first", at->name);
    n->modules = lt_calloc(LT_N_LINEAR_SLOTS + 1, sizeof *n->modules);
    if (!n->name || !n->modules) return no_memory(err);
    memcpy(n->modules, at->modules, at->n_modules * sizeof *n->modules);
    return LT_OK;
}

static lt_status add_grad(lt_calib_sites *s, const lt_module *m, lt_stat_set set, lt_err *err) {
    lt_calib_site *n = &s->site[s->n++];
    *n = (lt_calib_site){ .layer = LT_CALIB_GRADS,
                          .kind = LT_STATS_GRAD,
                          .site = output_of[m->slot].site,
                          .sub = output_of[m->slot].sub,
                          .at_layer = m->layer,
                          .set = set,
                          .cols = lt_linear_out(m->linear),
                          .n_modules = 1 };
    n->name = lt_asprintf("%s.grad", m->linear->name);
    n->modules = lt_calloc(1, sizeof *n->modules);
    if (!n->name || !n->modules) return no_memory(err);
    n->modules[0] = m->linear->name;
    return LT_OK;
}

static lt_status add_spectrum(lt_calib_sites *s, const lt_module *m, lt_err *err) {
    lt_calib_site *n = &s->site[s->n++];
    *n = (lt_calib_site){ .layer = m->layer,
                          .at_layer = m->layer,
                          .kind = LT_STATS_SPECTRUM,
                          .site = LT_N_SITES, /* derived: nothing passes */
                          .set = 1u << LT_STAT_COUNT | 1u << LT_STAT_TRACE | 1u << LT_STAT_LAMBDA,
                          .cols = lt_min_size(lt_linear_out(m->linear), lt_linear_in(m->linear)),
                          .n_modules = 1 };
    n->name = lt_asprintf("%s.spectrum", m->linear->name);
    n->modules = lt_calloc(1, sizeof *n->modules);
    if (!n->name || !n->modules) return no_memory(err);
    n->modules[0] = m->linear->name;
    return LT_OK;
}

static lt_status fill_sites(lt_calib_sites *s, const lt_model *m, const lt_calib_what *what, lt_err *err) {
    lt_module mod;
    for (size_t i = 0; lt_model_module(m, i, &mod); i++)
        if (mod.layer >= 0 || what->include_head) LT_TRY(add_module(s, &mod, what->inputs, err));
    const size_t n = s->n;
    for (size_t i = 0; what->first_rows && i < n; i++) LT_TRY(add_first(s, i, err));
    for (size_t i = 0; what->grads && lt_model_module(m, i, &mod); i++)
        if (mod.layer >= 0) LT_TRY(add_grad(s, &mod, what->grads, err));
    for (size_t i = 0; what->spectra && lt_model_module(m, i, &mod); i++)
        if (mod.layer >= 0) LT_TRY(add_spectrum(s, &mod, err));
    for (size_t i = 0; i < s->n; i++) {
        lt_calib_site *at = &s->site[i];
        at->kept = what->spectra && at->kind != LT_STATS_GRAD ? at->set & ~(1u << LT_STAT_GRAM) : at->set;
    }
    return LT_OK;
}

lt_status lt_calib_sites_init(lt_calib_sites *s, const lt_model *m, const lt_calib_what *what, lt_err *err) {
    lt_module mod;
    size_t n = 0;
    while (lt_model_module(m, n, &mod)) n++;
    *s = (lt_calib_sites){ .n_layers = m->config.n_layers,
                           .first_rows = what->first_rows,
                           .site = lt_calloc(4 * n + 1, sizeof *s->site) };
    s->spare = lt_calloc((3 * n + 1) * LT_N_STATS, sizeof *s->spare);
    const lt_status st = s->site && s->spare ? fill_sites(s, m, what, err) : no_memory(err);
    if (st != LT_OK) lt_calib_sites_clear(s);
    return st;
}

lt_status lt_calib_sites_begin(lt_calib_sites *s, int layer, lt_err *err) {
    for (size_t i = 0; i < s->n; i++) {
        lt_calib_site *at = &s->site[i];
        if (at->layer != layer) continue;
        for (size_t k = 0; k < LT_N_STATS; k++) {
            if (!(at->set >> k & 1u)) continue;
            lt_free(at->acc[k]);
            if (!(at->acc[k] = accumulator(s, lt_stat_rows[k]->doubles(at->cols)))) return no_memory(err);
        }
    }
    return LT_OK;
}

size_t lt_calib_sites_bytes(const lt_calib_sites *s, int layer) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; s->site[i].layer == layer && k < LT_N_STATS; k++)
            if (s->site[i].set >> k & 1u) n += sizeof(double) * lt_stat_rows[k]->doubles(s->site[i].cols);
    return n;
}

size_t lt_calib_work_bytes(const lt_calib_sites *s, size_t batch_rows) {
    size_t cols = 0;
    for (size_t i = 0; i < s->n; i++) cols = lt_max_size(cols, s->site[i].cols);
    return sizeof(float) * cols *
           (2 * batch_rows + cols); /* gathered rows, twice when weights are real; the f32 products */
}

/* ---- one observation ---- */

static lt_status name_bad(const lt_calib_site *s, const float *x, size_t ldx, size_t i, lt_err *err) {
    size_t j = 0;
    while (isfinite(x[i * ldx + j])) j++;
    return lt_fail(err, LT_EDATA, "activation is not finite (layer %d: %s: row %zu, column %zu: %g)", s->layer,
                   lt_site_name(s->site), i, j, (double)x[i * ldx + j]);
}

/* Rows are looked at and copied in shares, for some threads. */
enum { SHARES = 64 };
static size_t share_at(size_t n, size_t share) {
    return n * share / SHARES;
}

typedef struct looking {
    const float *x;
    size_t ldx, n, cols;
    bool fine[SHARES];
} looking;

static void look_at_share(void *arg, size_t share) {
    looking *l = arg;
    bool fine = true;
    for (size_t i = share_at(l->n, share); i < share_at(l->n, share + 1); i++)
        fine &= lt_all_finite(l->x + i * l->ldx, l->cols);
    l->fine[share] = fine;
}

static lt_status check_finite(const lt_calib_site *s, lt_team *team, const float *x, size_t ldx, size_t n,
                              lt_err *err) {
    looking l = { .x = x, .ldx = ldx, .n = n, .cols = s->cols };
    lt_team_run(team, SHARES, look_at_share, &l);
    for (size_t share = 0; share < SHARES; share++)
        for (size_t i = share_at(n, share); !l.fine[share] && i < share_at(n, share + 1); i++)
            if (!lt_all_finite(x + i * ldx, s->cols)) return name_bad(s, x, ldx, i, err);
    return LT_OK;
}

/* f64 sums of finite f32 are finite, and no others are: where sums are made, values need no look of their own. */
static bool sums_are_finite(const lt_calib_site *s) {
    bool fine = true;
    for (size_t j = 0; j < s->cols; j++) fine &= isfinite(s->acc[LT_STAT_SUM][j]) != 0;
    return fine;
}

/* Rows with weight w > 0, times w (root: times sqrt w), dense. */
typedef struct gathering {
    float *to;
    const float *x, *weight;
    size_t ldx, cols, n;
    bool root;
} gathering;

static void gather_share(void *arg, size_t share) {
    const gathering *g = arg;
    const size_t from = share_at(g->n, share);
    float *to = g->to;
    for (size_t i = 0; i < from; i++) to += g->weight[i] != 0.0f ? g->cols : 0;
    for (size_t i = from; i < share_at(g->n, share + 1); i++) {
        if (g->weight[i] == 0.0f) continue;
        const float w = g->root ? sqrtf(g->weight[i]) : g->weight[i];
        for (size_t j = 0; j < g->cols; j++) to[j] = w * g->x[i * g->ldx + j];
        to += g->cols;
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
        if (s->acc[k] && lt_stat_rows[k]->observe) lt_stat_rows[k]->observe(s->acc[k], team, in);
}

static lt_status observe_weighted(lt_calib_site *s, lt_team *team, const float *x, size_t ldx, const float *weight,
                                  size_t n, const weighing *w, lt_err *err) {
    size_t floats;
    if (w->n == 0) return LT_OK;
    if (!lt_mul_size(w->n, s->cols, &floats)) return no_memory(err);
    float *rows = lt_calloc(floats, sizeof *rows), *root = w->zero_one ? rows : lt_calloc(floats, sizeof *root);
    lt_status st = LT_OK;
    if (!rows || !root) LT_GO(no_memory(err));
    gathering g = { rows, x, weight, ldx, s->cols, n, false };
    lt_team_run(team, SHARES, gather_share, &g);
    g.to = root, g.root = true;
    if (root != rows) lt_team_run(team, SHARES, gather_share, &g);
    add_to_all(s, team, &(lt_stat_in){ rows, root, s->cols, s->cols, w->n, s->cols, w->sum });
done:
    if (root != rows) lt_free(root);
    lt_free(rows);
    return st;
}

/* The batch's weights, 0 where a position belongs to the other kind of site. */
static lt_status split_weights(float **out, const lt_calib_site *s, size_t first_rows, const lt_batch *b, lt_err *err) {
    float *w = lt_calloc(b->n_rows + 1, sizeof *w);
    if (!w) return no_memory(err);
    for (size_t p = 0; p < b->n_pieces; p++)
        for (size_t i = 0; i < b->piece[p].n; i++) {
            const size_t row = b->piece[p].row + i;
            const bool first = b->piece[p].pos0 + i < first_rows;
            w[row] = first != (s->kind == LT_STATS_FIRST) ? 0.0f : b->weight ? b->weight[row] : 1.0f;
        }
    *out = w;
    return LT_OK;
}

lt_status lt_calib_site_observe(lt_calib_site *s, size_t first_rows, lt_team *team, const lt_obs *obs, lt_err *err) {
    const lt_tensor *t = &obs->rows;
    const float *x = lt_host(t), *weight = obs->batch->weight;
    const size_t n = t->size[0], ldx = t->stride[0];
    float *split = NULL;
    weighing w;
    if (!x || t->dtype != LT_F32)
        return lt_fail(err, LT_EUNSUPPORTED, "statistics need f32 activations on the host (%s)", s->name);
    if (t->size[1] != s->cols)
        return lt_fail(err, LT_EINTERNAL, "site has %zu columns, expected %zu (%s)", t->size[1], s->cols, s->name);
    if (first_rows) {
        LT_TRY(split_weights(&split, s, first_rows, obs->batch, err));
        weight = split;
    }
    lt_status st;
    LT_GO(weigh(&w, weight, n, err));
    const bool plain = w.all_one && w.n == n, sums = plain && s->acc[LT_STAT_SUM];
    if (!sums) LT_GO(check_finite(s, team, x, ldx, n, err));
    if (plain)
        add_to_all(s, team, &(lt_stat_in){ x, x, ldx, ldx, n, s->cols, w.sum });
    else
        st = observe_weighted(s, team, x, ldx, weight, n, &w, err);
    if (sums && !sums_are_finite(s)) st = check_finite(s, team, x, ldx, n, err);
done:
    lt_free(split);
    return st;
}

lt_status lt_calib_sites_observe(const lt_calib_sites *s, lt_team *team, const lt_obs *obs, lt_err *err) {
    for (size_t i = 0; i < s->n; i++) {
        lt_calib_site *at = &s->site[i];
        if (at->layer != obs->layer || at->site != obs->site || at->kind == LT_STATS_GRAD) continue;
        LT_TRY(lt_calib_site_observe(at, s->first_rows, team, obs, err));
    }
    return LT_OK;
}
