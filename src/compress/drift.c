/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/drift.h"

#include <string.h>

#include "calib/calibrate.h"
#include "compress/drift_pass.h"
#include "compress/fit_journal.h"
#include "compress/module_weight.h"
#include "linalg/gemm.h"

enum { BATCH_TOKENS = 2048, MAX_SITES = 4 };
static const lt_site order[MAX_SITES] = { LT_SITE_MIXER_IN, LT_SITE_MIXER_ACT, LT_SITE_MLP_IN, LT_SITE_MLP_ACT };

/* The modules of one site, and what was seen of their input. */
typedef struct step {
    lt_drift_sums sums;
    const lt_drift_item *item[LT_N_LINEAR_SLOTS];
    size_t n;
    lt_drift_form *form;
} step;
typedef struct fitted {
    double *a, *b, *bias; /* a NULL: b is the weight */
} fitted;
typedef struct work {
    const lt_drift_run *in;
    const lt_drift_item *items;
    size_t n_items;
    lt_batch *batches;
    size_t n_batches;
    lt_drift_streams *streams;
    step step[MAX_SITES]; /* of the running layer */
    size_t n_steps;
    fitted fitted[LT_N_LINEAR_SLOTS]; /* of the running step */
} work;

/* ---- what a layer has to do ---- */

static const lt_linear *current(const work *w, const lt_drift_item *it) {
    return &lt_overlay_model(w->in->overlay)->layer[it->module.layer].linear[it->module.slot];
}

static void clear_steps(work *w) {
    for (size_t i = 0; i < w->n_steps; i++) {
        lt_drift_sums_clear(&w->step[i].sums);
        lt_drift_form_destroy(w->step[i].form);
    }
    memset(w->step, 0, sizeof w->step);
    w->n_steps = 0;
}

/* Items of the layer by site, in forward order. */
static void list_steps(work *w, size_t layer) {
    clear_steps(w);
    for (size_t s = 0; s < MAX_SITES; s++) {
        step *to = &w->step[w->n_steps];
        for (size_t i = 0; i < w->n_items; i++)
            if (w->items[i].module.layer == (int)layer && lt_input_site(w->items[i].module.slot) == order[s])
                to->item[to->n++] = &w->items[i];
        if (to->n == 0) continue;
        to->sums.site = order[s];
        w->n_steps++;
    }
}

static lt_status start_step(work *w, step *s, lt_err *err) {
    bool residual = false;
    for (size_t i = 0; i < s->n; i++) residual |= s->item[i]->residual;
    return lt_drift_sums_init(&s->sums, s->sums.site, lt_linear_in(s->item[0]->module.linear),
                              lt_linear_in(current(w, s->item[0])), w->in->original->config.d_model, residual, err);
}

/* ---- one module ---- */

typedef struct inputs {
    double *w, *t; /* the current weight; the target */
    double *bias;  /* [m] affine: what is added to W_r's own */
} inputs;

static void inputs_clear(inputs *x) {
    lt_free(x->w);
    lt_free(x->t);
    lt_free(x->bias);
}

static lt_status new_doubles(double **out, size_t rows, size_t cols, lt_err *err) {
    size_t n;
    *out = lt_mul_size(rows, cols, &n) ? lt_calloc(lt_max_size(n, 1), sizeof **out) : NULL;
    return *out ? LT_OK : lt_fail(err, LT_ENOMEM, "no memory for a %zu x %zu matrix", rows, cols);
}

/* bias = mean of Y, T less its part along the means; C' is centred by its form. */
static void centre(inputs *x, const double *w, size_t m, const lt_drift_sums *s, bool residual) {
    for (size_t i = 0; i < m; i++) {
        double y = residual ? s->sr[i] : 0.0;
        for (size_t j = 0; j < s->d; j++) y += w[i * s->d + j] * s->s[j];
        for (size_t j = 0; j < s->d2; j++) x->t[i * s->d2 + j] -= y * s->s2[j] / s->count;
        x->bias[i] = y / s->count;
    }
}

/* T = W K + R. Rows of W may have gone since (then x->w is what is left of them), or columns (then the original's
 * outputs are still what is wanted). */
static lt_status make_inputs(inputs *x, const work *w, const step *s, const lt_drift_item *it, lt_err *err) {
    const lt_linear *now = current(w, it);
    const size_t m = lt_linear_out(now), d2 = s->sums.d2;
    const bool whole = lt_linear_in(now) == s->sums.d;
    double *old = NULL;
    lt_status st;
    LT_GO(new_doubles(&x->w, m, d2, err));
    LT_GO(new_doubles(&x->t, m, d2, err));
    LT_GO(new_doubles(&x->bias, m, 1, err));
    LT_GO(lt_module_weight(x->w, now, err));
    if (!whole) LT_GO(new_doubles(&old, m, s->sums.d, err));
    if (!whole) LT_GO(lt_module_weight(old, it->module.linear, err));
    const double *from = whole ? x->w : old;
    lt_gemm_f64(w->in->team, false, false, m, d2, s->sums.d, 1.0, from, s->sums.d, s->sums.k, d2, 0.0, x->t, d2);
    for (size_t i = 0; it->residual && i < m * d2; i++) x->t[i] += s->sums.r[i];
    if (it->affine) centre(x, from, m, &s->sums, it->residual);
done:
    lt_free(old);
    return st;
}

static lt_dtype dtype_of(const work *w, const lt_drift_item *it) {
    return w->in->dtype == LT_N_DTYPES ? lt_factor_dtype(it->module.linear) : w->in->dtype;
}

static lt_balance balance_of(const work *w, const lt_drift_item *it) {
    lt_balance b = lt_dtype_get(dtype_of(w, it))->bytes <= 2 ? LT_BALANCE_BALANCED : LT_BALANCE_ORTH;
    if (it->balance) lt_balance_find(it->balance, &b);
    return b;
}

/* bias += the module's own - A B mean(x') */
static lt_status finish_bias(double *bias, const fitted *f, size_t m, size_t r, const step *s, const lt_drift_item *it,
                             lt_err *err) {
    double *own = NULL, *h = NULL;
    lt_status st;
    LT_GO(new_doubles(&own, m, 1, err));
    LT_GO(new_doubles(&h, r, 1, err));
    LT_GO(lt_module_bias(own, it->module.linear, err));
    lt_gemm_f64_serial(false, false, r, 1, s->sums.d2, 1.0 / s->sums.count, f->b, s->sums.d2, s->sums.s2, 1, 0.0, h, 1);
    lt_gemm_f64_serial(false, false, m, 1, r, -1.0, f->a, r, h, 1, 1.0, bias, 1);
    for (size_t i = 0; i < m; i++) bias[i] += own[i];
done:
    lt_free(own);
    lt_free(h);
    return st;
}

static lt_status fit_rank(fitted *f, const work *w, const step *s, const lt_drift_item *it, inputs *x, lt_err *err) {
    const size_t m = lt_linear_out(current(w, it)), d2 = s->sums.d2;
    const lt_drift_in in = { s->form, m, x->t, x->w, balance_of(w, it) };
    double gain;
    LT_TRY(new_doubles(&f->a, m, it->rank, err));
    LT_TRY(new_doubles(&f->b, it->rank, d2, err));
    LT_TRY(lt_drift_fit(f->a, f->b, &gain, it->rank, &in, err));
    if (!it->affine) return LT_OK;
    LT_TRY(finish_bias(x->bias, f, m, it->rank, s, it, err));
    f->bias = x->bias;
    x->bias = NULL;
    return LT_OK;
}

static lt_status fit_one(fitted *f, const work *w, const step *s, const lt_drift_item *it, lt_err *err) {
    const size_t m = lt_linear_out(current(w, it));
    inputs x = { 0 };
    double gain;
    lt_status st;
    LT_GO(make_inputs(&x, w, s, it, err));
    if (it->rank)
        st = fit_rank(f, w, s, it, &x, err);
    else {
        const lt_drift_in in = { s->form, m, x.t, x.w, LT_BALANCE_ORTH };
        LT_GO(new_doubles(&f->b, m, s->sums.d2, err));
        st = lt_drift_solve(f->b, &gain, &in, err);
    }
done:
    inputs_clear(&x);
    return st == LT_OK ? LT_OK : lt_context(err, st, "%s", it->module.linear->name);
}

/* ---- a step ---- */

static lt_status make_form(step *s, lt_err *err) {
    const lt_drift_item *it = s->item[0];
    lt_drift_sums *u = &s->sums;
    for (size_t i = 0; it->affine && i < u->d2; i++)
        for (size_t j = 0; j <= i; j++) u->c[i * (i + 1) / 2 + j] -= u->s2[i] * u->s2[j] / u->count;
    const lt_status st = lt_drift_form_create(&s->form, u->d2, u->c, it->ridge, err);
    return st == LT_OK ? LT_OK : lt_context(err, st, "%s", it->module.linear->name);
}

static lt_status put(const work *w, const lt_drift_item *it, const fitted *f, lt_err *err) {
    const char *name = it->module.linear->name;
    if (!f->a) return lt_overlay_dense(w->in->overlay, name, f->b, dtype_of(w, it), err);
    return lt_overlay_factor(w->in->overlay, name, it->rank, f->a, f->b, f->bias, dtype_of(w, it), err);
}

static lt_status fit_nth(void *user, size_t i, lt_err *err) {
    work *w = ((void **)user)[0];
    const step *s = ((void **)user)[1];
    return fit_one(&w->fitted[i], w, s, s->item[i], err);
}

static lt_status fit_step(work *w, step *s, lt_err *err) {
    void *user[2] = { w, s };
    lt_status st;
    memset(w->fitted, 0, sizeof w->fitted);
    LT_GO(make_form(s, err));
    LT_GO(lt_team_for(w->in->team, s->n, fit_nth, user, err));
    for (size_t i = 0; i < s->n; i++) LT_GO(put(w, s->item[i], &w->fitted[i], err));
done:
    for (size_t i = 0; i < s->n; i++) {
        lt_free(w->fitted[i].a);
        lt_free(w->fitted[i].b);
        lt_free(w->fitted[i].bias);
    }
    lt_drift_form_destroy(s->form);
    s->form = NULL;
    return st;
}

/* ---- a layer ---- */

static bool is_block(const work *w) {
    for (size_t s = 0; s < w->n_steps; s++)
        for (size_t i = 0; i < w->step[s].n; i++)
            if (w->step[s].item[i]->block) return true;
    return false;
}

/* Steps of the running layer that are looked at in one pass. */
static size_t at_once(const work *w) {
    return is_block(w) ? w->n_steps : 1;
}

static size_t n_looks(const work *w) {
    return is_block(w) ? 1 : w->n_steps;
}

/* Steps [first, first + n) are looked at in one pass, then fitted. */
static lt_status run_steps(work *w, size_t layer, size_t first, size_t n, lt_err *err) {
    lt_drift_sums sums[MAX_SITES];
    const bool last = first + n == w->n_steps;
    lt_status st = LT_OK;
    for (size_t i = 0; i < n; i++) LT_TRY(start_step(w, &w->step[first + i], err));
    for (size_t i = 0; i < n; i++) sums[i] = w->step[first + i].sums;
    LT_TRY(lt_drift_collect(w->streams, layer, sums, n, last, err));
    for (size_t i = 0; i < n && st == LT_OK; i++) {
        w->step[first + i].sums = sums[i];
        st = fit_step(w, &w->step[first + i], err);
        lt_drift_sums_clear(&w->step[first + i].sums);
    }
    return st;
}

static lt_status fit_layer(work *w, size_t layer, lt_err *err) {
    for (size_t s = 0, n = at_once(w); s < w->n_steps; s += n) LT_TRY(run_steps(w, layer, s, n, err));
    return LT_OK;
}

static size_t modules_of(const lt_module **module, const work *w) {
    size_t n = 0;
    for (size_t s = 0; s < w->n_steps; s++)
        for (size_t i = 0; i < w->step[s].n; i++) module[n++] = &w->step[s].item[i]->module;
    return n;
}

/* Fits the layer, or finds it done. */
static lt_status settle_layer(bool *fitted_now, work *w, size_t layer, lt_err *err) {
    const lt_module *module[LT_N_LINEAR_SLOTS];
    const size_t n = modules_of(module, w);
    const char *folder = w->in->journal;
    char name[32];
    bool found = false;
    *fitted_now = false;
    if (n == 0) return LT_OK;
    snprintf(name, sizeof name, "layer-%05zu", layer);
    if (folder) LT_TRY(lt_fit_journal_get(&found, NULL, folder, name, w->in->overlay, module, n, err));
    if (found) {
        lt_drift_spare(w->streams, n_looks(w));
        return LT_OK;
    }
    LT_TRY(fit_layer(w, layer, err));
    *fitted_now = true;
    return folder ? lt_fit_journal_put(folder, name, w->in->overlay, module, n, 0.0, err) : LT_OK;
}

static lt_status do_layer(work *w, size_t layer, bool last, lt_err *err) {
    bool fitted_now;
    list_steps(w, layer);
    LT_TRY(settle_layer(&fitted_now, w, layer, err));
    if (!last) LT_TRY(lt_drift_advance(w->streams, layer, !fitted_now, true, err));
    if (w->in->ctx && w->in->ctx->max_memory) lt_layer_drop(w->in->original, layer);
    return LT_OK;
}

/* ---- memory ---- */

static size_t fit_bytes(const work *w, const lt_drift_item *it) {
    const size_t m = lt_linear_out(current(w, it)), d2 = lt_linear_in(current(w, it)),
                 d = lt_linear_in(it->module.linear), threads = (size_t)w->in->team->threads;
    return threads * (lt_drift_scratch_bytes(m, d2, it->rank) + sizeof(double) * m * (2 * d2 + d)) +
           lt_drift_form_bytes(d2, it->ridge);
}

/* Of the layer's steps at once, or of the largest. */
static size_t layer_bytes(const work *w) {
    size_t sums = 0, fit = 0;
    for (size_t s = 0; s < w->n_steps; s++) {
        size_t one = 0;
        for (size_t i = 0; i < w->step[s].n; i++) {
            const lt_drift_item *it = w->step[s].item[i];
            fit = lt_max_size(fit, fit_bytes(w, it));
            one = lt_drift_sums_bytes(lt_linear_in(it->module.linear), lt_linear_in(current(w, it)),
                                      w->in->original->config.d_model, it->residual);
        }
        sums = is_block(w) ? sums + one : lt_max_size(sums, one);
    }
    return sums + fit;
}

static lt_status check_memory(work *w, const lt_drift_streams_in *streams, lt_err *err) {
    const size_t limit = w->in->ctx ? w->in->ctx->max_memory : 0;
    size_t fit = 0, widest = 0;
    if (!limit) return LT_OK;
    for (size_t i = 0; i < w->n_items; i++) widest = lt_max_size(widest, lt_linear_in(w->items[i].module.linear));
    for (size_t layer = 0; layer < w->in->original->config.n_layers; layer++) {
        list_steps(w, layer);
        fit = lt_max_size(fit, layer_bytes(w));
    }
    const size_t need =
        lt_current_rss_bytes() + fit + lt_drift_streams_bytes(streams, widest) + lt_layer_bytes(w->in->original, 0);
    if (need <= limit) return LT_OK;
    return lt_fail(err, LT_ENOMEM,
                   "drift: needs %zu MB, the limit is %zu MB: %zu MB short; fewer tokens or threads need less",
                   need >> 20, limit >> 20, ((need - limit) >> 20) + 1);
}

/* ---- the run ---- */

static size_t last_layer(const work *w) {
    int last = 0;
    for (size_t i = 0; i < w->n_items; i++)
        if (w->items[i].module.layer > last) last = w->items[i].module.layer;
    return (size_t)last;
}

/* Each layer is looked at, then passed, but for the last one. */
static size_t n_passes(work *w) {
    const size_t last = last_layer(w);
    size_t n = last;
    for (size_t layer = 0; layer <= last; layer++) {
        list_steps(w, layer);
        n += n_looks(w);
    }
    return n;
}

lt_status lt_drift_run_all(const lt_drift_item *items, size_t n, const lt_drift_run *in, lt_err *err) {
    work w = { .in = in, .items = items, .n_items = n };
    lt_status st;
    if (n == 0) return LT_OK;
    for (size_t i = 0; i < n; i++) LT_TRY(lt_overlay_set_apart(in->overlay, items[i].module.linear->name, err));
    LT_GO(lt_tokens_check(in->tokens, in->original, "drift", err));
    LT_GO(lt_tokens_batches(&w.batches, &w.n_batches, in->tokens, in->batch_tokens ? in->batch_tokens : BATCH_TOKENS,
                            err));
    const lt_drift_streams_in streams = { .original = in->original,
                                          .changed = lt_overlay_model(in->overlay),
                                          .batches = w.batches,
                                          .n_batches = w.n_batches,
                                          .n_passes = n_passes(&w),
                                          .team = in->team,
                                          .ctx = in->ctx };
    LT_GO(check_memory(&w, &streams, err));
    LT_GO(lt_drift_streams_create(&w.streams, &streams, err));
    const size_t last = last_layer(&w);
    for (size_t layer = 0; layer <= last; layer++) LT_GO(do_layer(&w, layer, layer == last, err));
done:
    clear_steps(&w);
    lt_drift_streams_destroy(w.streams);
    lt_batches_free(w.batches, w.n_batches);
    return st;
}
