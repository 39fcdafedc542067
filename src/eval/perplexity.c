/* SPDX-License-Identifier: Apache-2.0 */
#include "eval/perplexity.h"

#include <math.h>
#include <string.h>

#include "eval/windows.h"

const lt_ppl_protocol lt_ppl_protocols[] = {
    { "block", "wikitext", false }, { "rows", "rows", false }, { "rows_legacy", "rows", true }, { NULL, NULL, false }
};

const lt_ppl_protocol *lt_ppl_protocol_find(const char *name) {
    const lt_ppl_protocol *p = lt_ppl_protocols;
    while (p->name && strcmp(p->name, name) != 0) p++;
    return p->name ? p : NULL;
}

typedef struct job {
    const lt_ppl_in *in;
    const lt_batch *batches;
    size_t n_batches, max_rows;
    size_t *first;   /* [n_batches] the window that opens each batch */
    int32_t *target; /* [max_rows] */
    double *nll;     /* [windows] */
} job;

/* NaN counts as +inf, so that a broken model never looks better than a working one. */
static double window_mean(const lt_real *nll, const lt_piece *p) {
    double sum = 0.0;
    for (size_t i = 0; i + 1 < p->n; i++) sum += (double)nll[p->row + i];
    return isnan(sum) ? INFINITY : sum / (double)(p->n - 1);
}

static lt_status score(void *user, size_t batch, lt_exec *x, lt_var final, lt_err *err) {
    job *j = user;
    const lt_batch *b = &j->batches[batch];
    lt_eval_targets(j->target, b);
    const lt_var v = lt_model_nll(x, j->in->model, final, j->target, NULL);
    const lt_real *nll = lt_data(x, v);
    if (!nll) return lt_exec_status(x, err);
    for (size_t p = 0; p < b->n_pieces; p++) j->nll[j->first[batch] + p] = window_mean(nll, &b->piece[p]);
    return LT_OK;
}

static lt_status prepare(job *j, lt_err *err) {
    j->first = lt_calloc(lt_max_size(j->n_batches, 1), sizeof *j->first);
    j->nll = lt_calloc(lt_max_size(j->in->tokens->n_rows, 1), sizeof *j->nll);
    j->max_rows = lt_eval_most_rows(j->batches, j->n_batches);
    j->target = lt_calloc(lt_max_size(j->max_rows, 1), sizeof *j->target);
    if (!j->first || !j->nll || !j->target) return lt_fail(err, LT_ENOMEM, "perplexity: out of memory");
    for (size_t i = 1; i < j->n_batches; i++) j->first[i] = j->first[i - 1] + j->batches[i - 1].n_pieces;
    return LT_OK;
}

static lt_status run(lt_ppl_out *out, job *j, lt_err *err) {
    const lt_ppl_in *in = j->in;
    lt_run_in r = { .model = in->model,
                    .team = in->team,
                    .ctx = in->ctx,
                    .batches = j->batches,
                    .n_batches = j->n_batches,
                    .batch_done = score,
                    .user = j };
    const size_t held = in->tokens->n_ids * sizeof(int32_t) + in->tokens->n_rows * sizeof(double);
    LT_TRY(lt_run_make_plan(&r.plan, in->model, j->batches, j->n_batches, in->ctx ? in->ctx->max_memory : 0, held, 0,
                            j->max_rows, false, err));
    out->predicted_bytes = r.plan.predicted_bytes;
    return lt_run(&r, err);
}

/* With equal windows this is the mean of their means. */
static void summarise(lt_ppl_out *out, const lt_tokens *t, const job *j) {
    const bool by_length = j->in->protocol && j->in->protocol->by_length;
    double sum = 0.0, weight = 0.0, squares = 0.0;
    for (size_t w = 0; w < t->n_rows; w++) {
        const size_t n = t->row_start[w + 1] - t->row_start[w];
        const double counts = (double)(by_length ? n : n - 1);
        sum += j->nll[w] * counts;
        weight += counts;
        out->scored_tokens += n - 1;
    }
    out->windows = t->n_rows;
    out->mean_nll = sum / weight;
    out->ppl = exp(out->mean_nll);
    for (size_t w = 0; w < t->n_rows; w++) squares += (j->nll[w] - out->mean_nll) * (j->nll[w] - out->mean_nll);
    const double n = (double)t->n_rows;
    out->stderr_nll = t->n_rows > 1 ? sqrt(squares / (n - 1.0) / n) : NAN;
    for (size_t i = 0; i < j->n_batches; i++)
        out->flops += lt_model_flops(j->in->model, &j->batches[i], j->batches[i].n_rows);
}

lt_status lt_perplexity(lt_ppl_out *out, const lt_ppl_in *in, lt_err *err) {
    const double t0 = lt_seconds();
    lt_batch *batches = NULL;
    job j = { .in = in };
    lt_ppl_out o = { 0 };
    LT_TRY(lt_eval_check(in->tokens, err));
    LT_TRY(lt_tokens_batches(&batches, &j.n_batches, in->tokens,
                             in->batch_tokens ? in->batch_tokens : LT_EVAL_BATCH_TOKENS, err));
    j.batches = batches;
    lt_status st;
    LT_GO(prepare(&j, err));
    LT_GO(run(&o, &j, err));
    summarise(&o, in->tokens, &j);
    o.window_nll = j.nll;
    o.seconds = lt_seconds() - t0;
    *out = o;
done:
    if (st != LT_OK) lt_free(j.nll);
    lt_free(j.first);
    lt_free(j.target);
    lt_batches_free(batches, j.n_batches);
    return st;
}

void lt_ppl_clear(lt_ppl_out *out) {
    lt_free(out->window_nll);
    *out = (lt_ppl_out){ 0 };
}
