/* SPDX-License-Identifier: Apache-2.0 */
#include "eval/kld.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/windows.h"
#include "linalg/kl.h"

enum { CHUNK = 128 };                    /* rows whose logits exist at once, of the base and one model */
#define HIDDEN_BYTES ((size_t)512 << 20) /* of final hidden states between the runs and the heads */

/* One model over the current group of batches. */
typedef struct side {
    const lt_model *model;
    float *hidden; /* [rows of the largest group, d_embed] */
    lt_exec *head; /* logits of a chunk */
    size_t filled; /* rows in hidden */
    /* against the base; unused in the base's own */
    double *kl; /* [scored tokens] */
    size_t n, same_top;
    double nll_base, nll;
} side;

typedef struct job {
    const lt_kld_in *in;
    const lt_batch *batches;
    size_t n_batches, group_rows;
    side *side; /* [1 + n_models]: the base first */
    size_t n_sides;
    int32_t *target; /* [rows of the largest batch] */
} job;

static size_t row_bytes(const job *j) {
    size_t n = j->in->base->config.d_embed;
    for (size_t i = 0; i < j->in->n_models; i++) n += j->in->models[i]->config.d_embed;
    return n * sizeof(float);
}

static size_t max_memory(const job *j) {
    return j->in->ctx ? j->in->ctx->max_memory : 0;
}

/* Batches from first whose hidden states are held together: as many as the allowance takes, at least one. */
static size_t group_end(const job *j, size_t first, size_t *rows) {
    const size_t limit = max_memory(j) ? max_memory(j) / 8 : HIDDEN_BYTES;
    const size_t most = lt_min_size(HIDDEN_BYTES, limit) / row_bytes(j);
    size_t end = first;
    *rows = 0;
    while (end < j->n_batches && (end == first || *rows + j->batches[end].n_rows <= most))
        *rows += j->batches[end++].n_rows;
    return end;
}

/* ---- hidden states ---- */
static lt_status keep_hidden(void *user, size_t batch, lt_exec *x, lt_var final, lt_err *err) {
    (void)batch; /* batches finish in order */
    side *s = user;
    const lt_real *h = lt_data(x, final);
    if (!h) return lt_exec_status(x, err);
    const size_t d = s->model->config.d_embed, n = lt_rows(x, final);
    memcpy(s->hidden + s->filled * d, h, n * d * sizeof *h);
    s->filled += n;
    return LT_OK;
}

static lt_status run_side(job *j, side *s, size_t first, size_t end, lt_err *err) {
    const lt_kld_in *in = j->in;
    const size_t logits = 2 * (size_t)CHUNK * in->base->config.vocab_size * sizeof(float);
    const size_t values = in->tokens->n_ids * (sizeof(int32_t) + in->n_models * sizeof(double));
    lt_run_in r = { .model = s->model,
                    .team = in->team,
                    .ctx = in->ctx,
                    .batches = j->batches + first,
                    .n_batches = end - first,
                    .batch_done = keep_hidden,
                    .user = s };
    s->filled = 0;
    LT_TRY(lt_run_make_plan(&r.plan, s->model, r.batches, r.n_batches, max_memory(j),
                            j->group_rows * row_bytes(j) + logits + values, 0, 0, false, err));
    return lt_run(&r, err);
}

/* ---- heads ---- */
/* Rows [row, row + b->n_rows) of the group; valid until the side's next chunk. */
static lt_status chunk_logits(const float **out, side *s, const lt_batch *b, size_t row, lt_err *err) {
    const size_t d = s->model->config.d_embed;
    lt_exec_begin(s->head, b);
    const lt_var h = lt_input(s->head, b->n_rows, d, s->hidden + row * d, false);
    *out = lt_data(s->head, lt_model_logits(s->head, s->model, h));
    return lt_exec_status(s->head, err);
}

static void add_row(side *s, const lt_kl_row *r) {
    s->kl[s->n++] = r->kl;
    s->nll_base += r->nll_a;
    s->nll += r->nll_b;
    s->same_top += r->top_a == r->top_b;
}

/* target -1: the last of a window, which predicts nothing. */
static lt_status score_chunk(job *j, const int32_t *ids, const int32_t *target, size_t row, size_t n, lt_err *err) {
    const lt_piece piece = { .n = n, .parent = -1 };
    const lt_batch b = { .n_rows = n, .n_pieces = 1, .ids = ids, .piece = &piece };
    const size_t vocab = j->in->base->config.vocab_size;
    const float *base, *logits;
    lt_kl_row out[CHUNK];
    int32_t known[CHUNK];
    for (size_t i = 0; i < n; i++) known[i] = target[i] < 0 ? 0 : target[i];
    LT_TRY(chunk_logits(&base, &j->side[0], &b, row, err));
    for (size_t k = 1; k < j->n_sides; k++) {
        LT_TRY(chunk_logits(&logits, &j->side[k], &b, row, err));
        lt_kl_rows(j->in->team, out, base, vocab, logits, vocab, n, vocab, known);
        for (size_t i = 0; i < n; i++)
            if (target[i] >= 0) add_row(&j->side[k], &out[i]);
    }
    return LT_OK;
}

static lt_status score_batch(job *j, const lt_batch *b, size_t row0, lt_err *err) {
    lt_eval_targets(j->target, b);
    for (size_t i = 0; i < b->n_rows; i += CHUNK) {
        LT_TRY(score_chunk(j, b->ids + i, j->target + i, row0 + i, lt_min_size(CHUNK, b->n_rows - i), err));
        const double done = (double)j->side[j->n_sides - 1].n;
        LT_TRY(lt_progress(j->in->ctx, err, "compare", done, (double)j->in->tokens->n_ids, "tokens"));
    }
    return LT_OK;
}

static lt_status score_group(job *j, size_t first, size_t end, lt_err *err) {
    for (size_t k = 0; k < j->n_sides; k++) LT_TRY(run_side(j, &j->side[k], first, end, err));
    for (size_t i = first, row = 0; i < end; row += j->batches[i++].n_rows)
        LT_TRY(score_batch(j, &j->batches[i], row, err));
    return LT_OK;
}

/* ---- the whole ---- */
static lt_status open_side(side *s, const lt_model *m, const job *j, lt_err *err) {
    const lt_exec_opts opts = { .mode = LT_INFER };
    s->model = m;
    s->hidden = lt_malloc(j->group_rows * m->config.d_embed * sizeof *s->hidden);
    s->kl = lt_malloc(j->in->tokens->n_ids * sizeof *s->kl);
    if (!s->hidden || !s->kl) return lt_fail(err, LT_ENOMEM, "kld: %zu hidden states: out of memory", j->group_rows);
    return lt_exec_create(&s->head, j->in->team, &opts, err);
}

static lt_status prepare(job *j, lt_err *err) {
    size_t rows;
    for (size_t first = 0; first < j->n_batches;) {
        first = group_end(j, first, &rows);
        j->group_rows = lt_max_size(j->group_rows, rows);
    }
    j->n_sides = 1 + j->in->n_models;
    j->side = lt_calloc(j->n_sides, sizeof *j->side);
    j->target = lt_malloc(lt_eval_most_rows(j->batches, j->n_batches) * sizeof *j->target);
    if (!j->side || !j->target) return lt_fail(err, LT_ENOMEM, "kld: out of memory");
    for (size_t k = 0; k < j->n_sides; k++)
        LT_TRY(open_side(&j->side[k], k ? j->in->models[k - 1] : j->in->base, j, err));
    return LT_OK;
}

static lt_status score_all(job *j, lt_err *err) {
    size_t rows;
    for (size_t first = 0, end; first < j->n_batches; first = end) {
        end = group_end(j, first, &rows);
        LT_TRY(score_group(j, first, end, err));
    }
    return LT_OK;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t n, double q) {
    const double at = q * (double)(n - 1);
    const size_t i = (size_t)at;
    if (i + 1 >= n) return sorted[n - 1];
    const double f = at - (double)i;
    return f > 0.0 ? sorted[i] + f * (sorted[i + 1] - sorted[i]) : sorted[i];
}

static void summarise(lt_kld_out *out, side *s, size_t windows) {
    const double n = (double)s->n;
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < s->n; i++) sum += s->kl[i];
    out->mean = sum / n;
    for (size_t i = 0; i < s->n; i++) squares += (s->kl[i] - out->mean) * (s->kl[i] - out->mean);
    out->stderr_mean = s->n > 1 ? sqrt(squares / (n - 1.0) / n) : NAN;
    qsort(s->kl, s->n, sizeof *s->kl, by_value);
    out->median = quantile(s->kl, s->n, 0.5);
    out->p99 = quantile(s->kl, s->n, 0.99);
    out->max = s->kl[s->n - 1];
    out->top1 = (double)s->same_top / n;
    out->ppl_base = exp(s->nll_base / n);
    out->ppl_model = exp(s->nll / n);
    out->tokens = s->n;
    out->windows = windows;
}

static lt_status check(const lt_kld_in *in, lt_err *err) {
    LT_REQUIRE(err, in->n_models > 0, "kld: no model to compare with the base");
    const size_t want = in->base->config.vocab_size;
    for (size_t i = 0; i < in->n_models; i++) {
        const size_t have = in->models[i]->config.vocab_size;
        if (have != want)
            return lt_fail(err, LT_EDATA, "a vocabulary of %zu tokens cannot be compared with the base's %zu (%s, %s)",
                           have, want, in->models[i]->path, in->base->path);
    }
    return lt_eval_check(in->tokens, err);
}

static void clear(job *j) {
    for (size_t k = 0; j->side && k < j->n_sides; k++) {
        lt_exec_destroy(j->side[k].head);
        lt_free(j->side[k].hidden);
        lt_free(j->side[k].kl);
    }
    lt_free(j->side);
    lt_free(j->target);
}

lt_status lt_kld(lt_kld_out *out, const lt_kld_in *in, lt_err *err) {
    const double t0 = lt_seconds();
    job j = { .in = in };
    lt_batch *batches = NULL;
    LT_TRY(check(in, err));
    LT_TRY(lt_tokens_batches(&batches, &j.n_batches, in->tokens, LT_EVAL_BATCH_TOKENS, err));
    j.batches = batches;
    lt_status st = prepare(&j, err);
    if (st == LT_OK) st = score_all(&j, err);
    for (size_t i = 0; i < in->n_models && st == LT_OK; i++) {
        out[i] = (lt_kld_out){ 0 };
        summarise(&out[i], &j.side[i + 1], in->tokens->n_rows);
        out[i].seconds = lt_seconds() - t0;
    }
    clear(&j);
    lt_batches_free(batches, j.n_batches);
    return st;
}
