/* SPDX-License-Identifier: Apache-2.0 */
#include "model/runner.h"

#include <math.h>
#include <string.h>

#include "model/run_state.h"

typedef struct run {
    const lt_run_in *in;
    lt_run_state state;
    lt_exec *x;         /* of the running group, with or without the caller's observers */
    bool batch_major;   /* one group: nothing is kept between groups */
    double done, total; /* rows x layers */
    double committed;   /* when the state file was last written, or the run began */
} run;

typedef struct group {
    size_t layer, n;
    bool silent;
} group;

/* ---- finiteness ---- */

static bool wants_all(void *user, lt_site site, int layer, int sub, bool grad) {
    (void)user, (void)site, (void)layer, (void)sub;
    return !grad;
}

static lt_status find_bad(void *user, const lt_obs *obs, lt_err *err) {
    (void)user;
    const float *v = lt_host(&obs->rows);
    const size_t cols = obs->rows.size[1], n = obs->rows.size[0] * cols;
    if (lt_all_finite(v, n)) return LT_OK;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return lt_fail(err, LT_EDATA, "activation is not finite (layer %d: %s: row %zu: %g)", obs->layer,
                           lt_site_name(obs->site), i / cols, (double)v[i]);
    return LT_OK;
}

static lt_var start_of(const run *r, lt_exec *x, const group *g, size_t batch) {
    const lt_batch *b = &r->in->batches[batch];
    if (g->layer == 0) return lt_model_embed(x, r->in->model);
    return lt_input(x, b->n_rows, r->state.d, lt_run_state_get(&r->state, batch), false);
}

/* The group runs once more on this batch, and every site is looked at: the first bad one is named. */
static lt_status name_bad(const run *r, const group *g, size_t batch, size_t layer, lt_err *err) {
    const lt_observer look = { wants_all, find_bad, NULL, false };
    lt_exec *x;
    LT_TRY(lt_exec_create(&x, r->in->team, &(lt_exec_opts){ .mode = LT_INFER, .observers = &look, .n_observers = 1 },
                          err));
    lt_exec_begin(x, &r->in->batches[batch]);
    lt_var h = start_of(r, x, g, batch);
    for (size_t l = g->layer; l <= layer; l++) h = lt_model_layer(x, r->in->model, l, h);
    lt_status st = lt_exec_status(x, err);
    if (st == LT_OK)
        st = lt_fail(err, LT_EDATA, "activation is not finite (layer %zu: %s)", layer, lt_site_name(LT_SITE_BLOCK_OUT));
    lt_exec_destroy(x);
    return st;
}

/* ---- a batch through a group ---- */

static lt_status finish_batch(const run *r, lt_exec *x, size_t batch, lt_var h, lt_err *err) {
    const lt_var final = lt_model_final(x, r->in->model, h);
    LT_TRY(lt_exec_status(x, err));
    LT_TRY(r->in->batch_done(r->in->user, batch, x, final, err));
    return lt_exec_status(x, err);
}

static lt_status layers_of(const run *r, lt_exec *x, const group *g, size_t batch, lt_var *h, lt_err *err) {
    for (size_t l = g->layer; l < g->layer + g->n; l++) {
        *h = lt_model_layer(x, r->in->model, l, *h);
        LT_TRY(lt_exec_status(x, err));
        if (r->in->check_finite && !lt_all_finite(lt_data(x, *h), lt_rows(x, *h) * lt_cols(x, *h)))
            return name_bad(r, g, batch, l, err);
    }
    return LT_OK;
}

/* keep: the result goes to the next border. */
static lt_status run_batch(run *r, const group *g, size_t batch, bool keep, lt_err *err) {
    lt_exec *x = r->x;
    const lt_batch *b = &r->in->batches[batch];
    lt_exec_begin(x, b);
    lt_var h = start_of(r, x, g, batch);
    LT_TRY(lt_exec_status(x, err));
    if (g->layer == 0 && r->in->plan.drop_weights) lt_tensor_drop(&r->in->model->embed.t);
    LT_TRY(layers_of(r, x, g, batch, &h, err));
    if (g->layer > 0) lt_run_state_release(&r->state, batch);
    if (keep) LT_TRY(lt_run_state_put(&r->state, batch, lt_data(x, h), err));
    if (r->batch_major && r->in->batch_done) LT_TRY(finish_batch(r, x, batch, h, err));
    r->done += (double)b->n_rows * (double)g->n / (double)r->in->model->config.n_layers;
    return lt_progress(r->in->ctx, err, "forward", r->done, r->total, "tokens");
}

/* With the caller's observers or without; the memory of the last group serves the next. */
static lt_status make_exec(run *r, bool silent, lt_err *err) {
    const size_t n_observers = silent ? 0 : r->in->n_observers;
    if (r->x && lt_exec_observed(r->x) == (n_observers > 0)) return LT_OK;
    const lt_exec_opts opts = { .observers = r->in->observers, .n_observers = n_observers };
    lt_exec_destroy(r->x);
    r->x = NULL;
    return lt_exec_create(&r->x, r->in->team, &opts, err);
}

/* A file that is behind the results only costs an unwatched rerun, so it need not follow every border. */
static lt_status commit(run *r, size_t next_layer, lt_err *err) {
    if (r->state.hidden && lt_seconds() - r->committed < r->in->state_seconds) return LT_OK;
    LT_TRY(lt_run_state_commit(&r->state, next_layer, err));
    r->committed = lt_seconds();
    return LT_OK;
}

static lt_status run_group(run *r, const group *g, lt_err *err) {
    const size_t end = g->layer + g->n;
    /* behind the last layer hidden states are wanted for the final norm only */
    const bool keep = !r->batch_major && (end < r->in->model->config.n_layers || r->in->batch_done);
    LT_TRY(make_exec(r, g->silent, err));
    if (keep) LT_TRY(lt_run_state_begin(&r->state, end, err));
    for (size_t i = 0; i < r->in->n_batches; i++) LT_TRY(run_batch(r, g, i, keep, err));
    for (size_t l = g->layer; r->in->plan.drop_weights && l < end; l++) lt_layer_drop(r->in->model, l);
    if (!g->silent && r->in->group_done) LT_TRY(r->in->group_done(r->in->user, g->layer, g->n, err));
    return keep ? commit(r, end, err) : LT_OK;
}

/* The final norm and what the caller does with it, once the last layer's weights are gone. */
static lt_status finish_all(run *r, lt_err *err) {
    const lt_model *m = r->in->model;
    LT_TRY(make_exec(r, false, err));
    for (size_t i = 0; i < r->in->n_batches; i++) {
        const lt_batch *b = &r->in->batches[i];
        lt_exec_begin(r->x, b);
        const lt_var h = lt_input(r->x, b->n_rows, r->state.d, lt_run_state_get(&r->state, i), false);
        lt_run_state_release(&r->state, i);
        LT_TRY(finish_batch(r, r->x, i, h, err));
        LT_TRY(lt_progress(r->in->ctx, err, "head", (double)(i + 1), (double)r->in->n_batches, "batches"));
    }
    for (int s = 0; r->in->plan.drop_weights && s < m->head.n_stages; s++) lt_tensor_drop(&m->head.stage[s].w.t);
    return LT_OK;
}

/* ---- the run ---- */

/* Where to go on. Layers between the state and the caller's first one are run unwatched: the caller has them already.
 */
static lt_status find_start(run *r, size_t *layer, lt_err *err) {
    *layer = 0;
    if (r->batch_major || r->in->first_layer == 0) return LT_OK;
    LT_TRY(lt_run_state_load(&r->state, layer, err));
    if (*layer <= r->in->first_layer) return LT_OK;
    return lt_fail(err, LT_EDATA, "state is ahead of the results: layer %zu, expected %zu (%s)", *layer,
                   r->in->first_layer, r->state.path);
}

static lt_status run_all(run *r, lt_err *err) {
    const size_t n_layers = r->in->model->config.n_layers;
    size_t layer;
    LT_TRY(find_start(r, &layer, err));
    r->done = r->total * (double)layer / (double)n_layers;
    while (layer < n_layers) {
        group g = { layer, lt_min_size(r->in->plan.group, n_layers - layer), layer < r->in->first_layer };
        if (g.silent) g.n = lt_min_size(g.n, r->in->first_layer - layer);
        LT_TRY(run_group(r, &g, err));
        layer += g.n;
    }
    return r->in->batch_done && !r->batch_major ? finish_all(r, err) : LT_OK;
}

lt_status lt_run(const lt_run_in *in, lt_err *err) {
    const size_t n_layers = in->model->config.n_layers;
    LT_REQUIRE(err, in->plan.group >= 1, "run: the plan has groups of 0 layers");
    LT_REQUIRE(err, in->first_layer <= n_layers, "run: first layer %zu of %zu", in->first_layer, n_layers);
    if (in->first_layer == n_layers && !in->batch_done) return LT_OK;
    run r = { .in = in, .batch_major = in->plan.group >= n_layers && in->first_layer == 0, .committed = lt_seconds() };
    for (size_t i = 0; i < in->n_batches; i++) r.total += (double)in->batches[i].n_rows;
    const bool in_memory = !in->plan.spill && !r.batch_major;
    lt_status st = LT_OK;
    if (!r.batch_major)
        st = lt_run_state_init(&r.state, in, in_memory, err);
    else
        r.state.d = in->model->config.d_model;
    if (st == LT_OK) st = run_all(&r, err);
    lt_exec_destroy(r.x);
    lt_run_state_clear(&r.state);
    return st;
}
