/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/drift_pass.h"

#include <math.h>
#include <string.h>

#include "linalg/gemm.h"

enum { MAX_TAPS = 6, CHUNK = 512 };

/* One stream's values of interest in one layer. */
typedef struct tap {
    lt_site site;
    size_t cols;
    float *rows; /* of the running batch */
} tap;
typedef struct stream {
    const lt_model *model;
    lt_exec *x;
    float *hidden; /* [n_rows, d_model] of all batches */
    tap tap[MAX_TAPS];
    size_t n_taps, n_seen;
    int layer;
    bool stop, stopped; /* behind the last tap */
} stream;
struct lt_drift_streams {
    lt_drift_streams_in in;
    stream stream[2];       /* the original's, the twin's */
    size_t d, n_rows, most; /* most: rows of the largest batch */
    lt_observer observer[2];
    double done, total; /* rows of all passes */
};

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "drift: out of memory");
}

static lt_status new_values(void *out, size_t rows, size_t cols, size_t size, lt_err *err) {
    size_t n;
    void **p = out;
    *p = lt_mul_size(rows, cols, &n) ? lt_calloc(lt_max_size(n, 1), size) : NULL;
    return *p ? LT_OK : no_memory(err);
}

/* ---- sums ---- */

lt_status lt_drift_sums_init(lt_drift_sums *s, lt_site site, size_t d, size_t d2, size_t d_model, bool residual,
                             lt_err *err) {
    *s = (lt_drift_sums){ .site = site, .d = d, .d2 = d2, .d_model = d_model };
    LT_TRY(new_values(&s->c, d2 * (d2 + 1) / 2, 1, sizeof *s->c, err)); /* widths are below 2^31 */
    LT_TRY(new_values(&s->k, d, d2, sizeof *s->k, err));
    if (residual) LT_TRY(new_values(&s->r, d_model, d2, sizeof *s->r, err));
    LT_TRY(new_values(&s->s, d, 1, sizeof *s->s, err));
    LT_TRY(new_values(&s->s2, d2, 1, sizeof *s->s2, err));
    return new_values(&s->sr, d_model, 1, sizeof *s->sr, err);
}

void lt_drift_sums_clear(lt_drift_sums *s) {
    lt_free(s->c);
    lt_free(s->k);
    lt_free(s->r);
    lt_free(s->s);
    lt_free(s->s2);
    lt_free(s->sr);
    *s = (lt_drift_sums){ 0 };
}

size_t lt_drift_sums_bytes(size_t d, size_t d2, size_t d_model, bool residual) {
    return sizeof(double) * (d2 * (d2 + 1) / 2 + d * d2 + (residual ? d_model * d2 : 0) + d + d2 + d_model) +
           sizeof(float) * lt_max_size(d, d_model) * d2;
}

/* acc [d1, d2] += x ᵀ y, n rows. */
static lt_status cross_add(lt_team *team, double *acc, const float *x, size_t d1, const float *y, size_t d2, size_t n,
                           lt_err *err) {
    float *product;
    LT_TRY(new_values(&product, d1, d2, sizeof *product, err));
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t rows = lt_min_size(CHUNK, n - i);
        lt_gemm_f32(team, true, false, d1, d2, rows, 1.0f, x + i * d1, d1, y + i * d2, d2, 0.0f, product, d2);
        for (size_t j = 0; j < d1 * d2; j++) acc[j] += (double)product[j];
    }
    lt_free(product);
    return LT_OK;
}

static lt_status sums_add(lt_drift_sums *s, lt_team *team, const float *x, const float *x2, const float *e, size_t n,
                          lt_err *err) {
    lt_gram_add(team, s->c, x2, s->d2, n, s->d2);
    LT_TRY(cross_add(team, s->k, x, s->d, x2, s->d2, n, err));
    if (s->r) LT_TRY(cross_add(team, s->r, e, s->d_model, x2, s->d2, n, err));
    lt_column_sums_add(team, s->s, NULL, NULL, x, s->d, n, s->d);
    lt_column_sums_add(team, s->s2, NULL, NULL, x2, s->d2, n, s->d2);
    if (s->r) lt_column_sums_add(team, s->sr, NULL, NULL, e, s->d_model, n, s->d_model);
    s->count += (double)n;
    return LT_OK;
}

/* ---- taps ---- */

static bool wants(void *user, lt_site site, int layer, int sub, bool grad) {
    const stream *s = user;
    if (grad || sub != 0 || layer != s->layer) return false;
    for (size_t i = 0; i < s->n_taps; i++)
        if (s->tap[i].site == site) return true;
    return false;
}

static lt_status copy_rows(const tap *t, const lt_obs *obs, lt_err *err) {
    const float *v = lt_host(&obs->rows);
    const size_t n = obs->rows.size[0];
    float sum = 0.0f;
    if (!v || obs->rows.dtype != LT_F32)
        return lt_fail(err, LT_EUNSUPPORTED, "drift: needs f32 activations on the host");
    if (obs->rows.size[1] != t->cols)
        return lt_fail(err, LT_EINTERNAL, "drift: %s has %zu columns, expected %zu", lt_site_name(t->site),
                       obs->rows.size[1], t->cols);
    for (size_t i = 0; i < n; i++) memcpy(t->rows + i * t->cols, v + i * obs->rows.stride[0], t->cols * sizeof *v);
    for (size_t i = 0; i < n * t->cols; i++) sum += t->rows[i] - t->rows[i]; /* 0, or NaN for Inf and NaN */
    if (sum == 0.0f) return LT_OK;
    return lt_fail(err, LT_EDATA, "activation is not finite (layer %d: %s)", obs->layer, lt_site_name(t->site));
}

/* Nothing behind the last tap is wanted: an error that is not one ends the batch. */
static lt_status observe(void *user, const lt_obs *obs, lt_err *err) {
    stream *s = user;
    for (size_t i = 0; i < s->n_taps; i++) {
        if (s->tap[i].site != obs->site) continue;
        LT_TRY(copy_rows(&s->tap[i], obs, err));
        s->n_seen++;
    }
    s->stopped = s->stop && s->n_seen == s->n_taps;
    return s->stopped ? lt_fail(err, LT_EINTERRUPTED, "enough was seen") : LT_OK;
}

static lt_status add_tap(lt_drift_streams *s, int which, lt_site site, size_t cols, lt_err *err) {
    stream *t = &s->stream[which];
    for (size_t i = 0; i < t->n_taps; i++)
        if (t->tap[i].site == site) return LT_OK;
    if (t->n_taps == MAX_TAPS) return lt_fail(err, LT_EINTERNAL, "drift: too many sites in one pass");
    tap *n = &t->tap[t->n_taps++];
    *n = (tap){ .site = site, .cols = cols };
    return new_values(&n->rows, s->most, cols, sizeof *n->rows, err);
}

static void clear_taps(lt_drift_streams *s) {
    for (int w = 0; w < 2; w++) {
        for (size_t i = 0; i < s->stream[w].n_taps; i++) lt_free(s->stream[w].tap[i].rows);
        s->stream[w].n_taps = 0;
    }
}

static const float *rows_of(const stream *s, lt_site site) {
    for (size_t i = 0; i < s->n_taps; i++)
        if (s->tap[i].site == site) return s->tap[i].rows;
    return NULL;
}

/* ---- streams ---- */

static size_t first_row(const lt_drift_streams *s, size_t batch) {
    size_t row = 0;
    for (size_t i = 0; i < batch; i++) row += s->in.batches[i].n_rows;
    return row;
}

static float *hidden_of(const lt_drift_streams *s, int which, size_t batch) {
    return s->stream[which].hidden + first_row(s, batch) * s->d;
}

static lt_status embed(lt_drift_streams *s, int which, size_t batch, lt_err *err) {
    stream *t = &s->stream[which];
    lt_exec_begin(t->x, &s->in.batches[batch]);
    const lt_var h = lt_model_embed(t->x, t->model);
    LT_TRY(lt_exec_status(t->x, err));
    memcpy(hidden_of(s, which, batch), lt_data(t->x, h), s->in.batches[batch].n_rows * s->d * sizeof(float));
    return LT_OK;
}

static lt_status stream_init(lt_drift_streams *s, int which, lt_err *err) {
    stream *t = &s->stream[which];
    t->model = which == 0 ? s->in.original : s->in.changed;
    t->layer = -1;
    s->observer[which] = (lt_observer){ wants, observe, t, false };
    const lt_exec_opts opts = { .observers = &s->observer[which], .n_observers = 1 };
    LT_TRY(lt_exec_create(&t->x, s->in.team, &opts, err));
    LT_TRY(new_values(&t->hidden, s->n_rows, s->d, sizeof *t->hidden, err));
    for (size_t b = 0; b < s->in.n_batches; b++) LT_TRY(embed(s, which, b, err));
    return LT_OK;
}

lt_status lt_drift_streams_create(lt_drift_streams **out, const lt_drift_streams_in *in, lt_err *err) {
    lt_drift_streams *s = lt_calloc(1, sizeof *s);
    lt_status st = LT_OK;
    if (!s) return no_memory(err);
    s->in = *in;
    s->d = in->original->config.d_model;
    for (size_t b = 0; b < in->n_batches; b++) {
        s->n_rows += in->batches[b].n_rows;
        s->most = lt_max_size(s->most, in->batches[b].n_rows);
    }
    s->total = (double)s->n_rows * (double)in->n_passes;
    for (int w = 0; w < 2 && st == LT_OK; w++) st = stream_init(s, w, err);
    if (st == LT_OK)
        *out = s;
    else
        lt_drift_streams_destroy(s);
    return st;
}

void lt_drift_streams_destroy(lt_drift_streams *s) {
    if (!s) return;
    clear_taps(s);
    for (int w = 0; w < 2; w++) {
        lt_exec_destroy(s->stream[w].x);
        lt_free(s->stream[w].hidden);
    }
    lt_free(s);
}

size_t lt_drift_streams_bytes(const lt_drift_streams_in *in, size_t widest) {
    size_t rows = 0, most = 0;
    for (size_t b = 0; b < in->n_batches; b++) {
        rows += in->batches[b].n_rows;
        most = lt_max_size(most, in->batches[b].n_rows);
    }
    const size_t d = in->original->config.d_model;
    return 2 * (sizeof(float) * (rows * d + most * (widest + 2 * d)) + lt_model_exec_bytes(in->original, most));
}

void lt_drift_spare(lt_drift_streams *s, size_t n) {
    s->total -= (double)n * (double)s->n_rows;
}

/* ---- running ---- */

static lt_status batch_done(lt_drift_streams *s, size_t batch, lt_err *err) {
    s->done += (double)s->in.batches[batch].n_rows;
    return lt_progress(s->in.ctx, err, "drift", s->done, s->total, "tokens");
}

/* One batch through the layer; keep: its hidden state goes on. */
static lt_status run_batch(lt_drift_streams *s, int which, size_t layer, size_t batch, bool keep, lt_err *err) {
    stream *t = &s->stream[which];
    const lt_batch *b = &s->in.batches[batch];
    float *hidden = hidden_of(s, which, batch);
    t->layer = (int)layer;
    t->n_seen = 0;
    t->stop = !keep;
    t->stopped = false;
    lt_exec_begin(t->x, b);
    const lt_var h = lt_model_layer(t->x, t->model, layer, lt_input(t->x, b->n_rows, s->d, hidden, false));
    lt_err inner = { 0 };
    const lt_status st = lt_exec_status(t->x, &inner);
    if (st != LT_OK && !t->stopped) return lt_fail(err, st, "%s", inner.message);
    if (keep) memcpy(hidden, lt_data(t->x, h), b->n_rows * s->d * sizeof *hidden);
    return LT_OK;
}

/* e [n, d_model]: what the streams differ by where an output at `site` is added. */
static void difference(float *e, const lt_drift_streams *s, lt_site site, const float *h, const float *g, size_t n) {
    for (size_t i = 0; i < n; i++) e[i] = h[i] - g[i];
    if (site != LT_SITE_MLP_ACT) return;
    const float *a = rows_of(&s->stream[0], LT_SITE_MIXER_OUT), *b = rows_of(&s->stream[1], LT_SITE_MIXER_OUT);
    for (size_t i = 0; i < n; i++) e[i] += a[i] - b[i];
}

static lt_status collect_batch(lt_drift_streams *s, size_t layer, size_t batch, lt_drift_sums *sums, size_t n,
                               bool take_original, float *e, float *before, lt_err *err) {
    const size_t rows = s->in.batches[batch].n_rows;
    memcpy(before, hidden_of(s, 0, batch), rows * s->d * sizeof *before);
    LT_TRY(run_batch(s, 0, layer, batch, take_original, err));
    LT_TRY(run_batch(s, 1, layer, batch, false, err));
    for (size_t i = 0; i < n; i++) {
        if (sums[i].r) difference(e, s, sums[i].site, before, hidden_of(s, 1, batch), rows * s->d);
        LT_TRY(sums_add(&sums[i], s->in.team, rows_of(&s->stream[0], sums[i].site),
                        rows_of(&s->stream[1], sums[i].site), e, rows, err));
    }
    return LT_OK;
}

static lt_status set_taps(lt_drift_streams *s, const lt_drift_sums *sums, size_t n, lt_err *err) {
    for (size_t i = 0; i < n; i++) {
        LT_TRY(add_tap(s, 0, sums[i].site, sums[i].d, err));
        LT_TRY(add_tap(s, 1, sums[i].site, sums[i].d2, err));
        if (!sums[i].r || sums[i].site != LT_SITE_MLP_ACT) continue;
        LT_TRY(add_tap(s, 0, LT_SITE_MIXER_OUT, s->d, err));
        LT_TRY(add_tap(s, 1, LT_SITE_MIXER_OUT, s->d, err));
    }
    return LT_OK;
}

lt_status lt_drift_collect(lt_drift_streams *s, size_t layer, lt_drift_sums *sums, size_t n, bool take_original,
                           lt_err *err) {
    float *e = NULL, *before = NULL;
    lt_status st;
    LT_GO(new_values(&e, s->most, s->d, sizeof *e, err));
    LT_GO(new_values(&before, s->most, s->d, sizeof *before, err));
    LT_GO(set_taps(s, sums, n, err));
    for (size_t b = 0; b < s->in.n_batches; b++) {
        LT_GO(collect_batch(s, layer, b, sums, n, take_original, e, before, err));
        LT_GO(batch_done(s, b, err));
    }
done:
    clear_taps(s);
    lt_free(e);
    lt_free(before);
    return st;
}

lt_status lt_drift_advance(lt_drift_streams *s, size_t layer, bool original, bool changed, lt_err *err) {
    for (size_t b = 0; b < s->in.n_batches; b++) {
        if (original) LT_TRY(run_batch(s, 0, layer, b, true, err));
        if (changed) LT_TRY(run_batch(s, 1, layer, b, true, err));
        LT_TRY(batch_done(s, b, err));
    }
    return LT_OK;
}
