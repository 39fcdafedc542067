/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/gradients.h"

#include <string.h>

typedef struct pass {
    const lt_calib_sites *sites;
    const lt_calibrate_in *in;
    lt_exec *exec;
    int32_t *target;
    float *seed;
} pass;

static bool wants(void *user, lt_site site, int layer, int sub, bool grad) {
    const pass *p = user;
    return grad && lt_calib_sites_grad(p->sites, site, layer, sub) != NULL;
}

static lt_status observe(void *user, const lt_obs *obs, lt_err *err) {
    const pass *p = user;
    lt_calib_site *at = lt_calib_sites_grad(p->sites, obs->site, obs->layer, obs->sub);
    return at ? lt_calib_site_observe(at, 0, p->in->team, obs, err) : LT_OK;
}

/* Each row predicts the next id of its piece; the last of a piece predicts nothing. */
static void make_targets(const pass *p, const lt_batch *b) {
    for (size_t i = 0; i < b->n_pieces; i++) {
        const size_t first = b->piece[i].row, n = b->piece[i].n;
        for (size_t k = 0; k < n; k++) {
            p->target[first + k] = k + 1 < n ? b->ids[first + k + 1] : -1;
            p->seed[first + k] = k + 1 < n ? 1.0f : 0.0f;
        }
    }
}

static lt_status run_batch(const pass *p, const lt_batch *b, lt_err *err) {
    const lt_model *m = p->in->model;
    make_targets(p, b);
    lt_exec_begin(p->exec, b);
    const lt_var nll = lt_model_nll(p->exec, m, lt_model_hidden(p->exec, m), p->target, NULL);
    LT_TRY(lt_exec_status(p->exec, err));
    lt_backward(p->exec, nll, p->seed);
    return lt_exec_status(p->exec, err);
}

static size_t most_rows(const lt_batch *b, size_t n) {
    size_t rows = 0;
    for (size_t i = 0; i < n; i++) rows = lt_max_size(rows, b[i].n_rows);
    return rows;
}

lt_status lt_calib_gradients(const lt_calib_sites *s, const lt_calibrate_in *in, const lt_batch *batches, size_t n,
                             lt_err *err) {
    pass p = { .sites = s, .in = in };
    const size_t rows = most_rows(batches, n);
    const lt_observer observer = { wants, observe, &p, false };
    const lt_exec_opts opts = { .mode = LT_RECORD, .recompute = true, .observers = &observer, .n_observers = 1 };
    lt_status st;
    p.target = lt_calloc(rows + 1, sizeof *p.target);
    p.seed = lt_calloc(rows + 1, sizeof *p.seed);
    if (!p.target || !p.seed) LT_GO(lt_fail(err, LT_ENOMEM, "gradients: out of memory"));
    LT_GO(lt_exec_create(&p.exec, in->team, &opts, err));
    for (size_t i = 0; i < n; i++) {
        LT_GO(lt_progress(in->ctx, err, "gradients", (double)i, (double)n, "batches"));
        LT_GO(run_batch(&p, &batches[i], err));
    }
    st = lt_progress(in->ctx, err, "gradients", (double)n, (double)n, "batches");
done:
    lt_exec_destroy(p.exec);
    lt_free(p.target);
    lt_free(p.seed);
    return st;
}

/* A block's values with their gradients, and the inputs that blocks keep. */
size_t lt_calib_gradients_bytes(const lt_model *m, size_t batch_rows) {
    return 3 * lt_model_exec_bytes(m, batch_rows) +
           (m->config.n_layers + 2) * batch_rows * m->config.d_model * sizeof(float);
}
