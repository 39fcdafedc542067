/* SPDX-License-Identifier: Apache-2.0 */
#include "model/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- sampling ---- */

typedef struct candidate {
    float p;
    int32_t id;
} candidate;

/* More probable first; ties to the smaller id. */
static int by_probability(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->p != y->p) return x->p > y->p ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static lt_status find_max(int32_t *id, const float *logits, size_t vocab, lt_err *err) {
    size_t best = 0;
    for (size_t i = 0; i < vocab; i++) {
        if (isnan(logits[i])) return lt_fail(err, LT_EDATA, "logit is not a number (token %zu)", i);
        if (logits[i] > logits[best]) best = i;
    }
    *id = (int32_t)best;
    return LT_OK;
}

/* exp((z - max)/T) of those that min_p keeps; the max is 1. Infinite logits: only they are candidates. */
static size_t weigh(candidate *c, const float *logits, size_t vocab, float max, const lt_sampler *s) {
    size_t n = 0;
    for (size_t i = 0; i < vocab; i++) {
        const float p = isinf(max) ? (logits[i] == max ? 1.0f : 0.0f)
                                   : (float)exp(((double)logits[i] - (double)max) / s->temperature);
        if (p > 0.0f && (double)p >= s->min_p) c[n++] = (candidate){ p, (int32_t)i };
    }
    return n;
}

/* How many of the sorted candidates top-k and top-p leave. */
static size_t truncate(const candidate *c, size_t n, const lt_sampler *s) {
    if (s->top_k > 0) n = lt_min_size(n, s->top_k);
    if (s->top_p >= 1.0) return n;
    double total = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++) total += (double)c[i].p;
    for (size_t i = 0; i < n; i++) {
        sum += (double)c[i].p;
        if (sum >= s->top_p * total) return i + 1;
    }
    return n;
}

static int32_t draw(const candidate *c, size_t n, double u) {
    double total = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++) total += (double)c[i].p;
    for (size_t i = 0; i < n; i++) {
        sum += (double)c[i].p;
        if (u * total < sum) return c[i].id;
    }
    return c[n - 1].id;
}

lt_status lt_sample(int32_t *id, const float *logits, size_t vocab, const lt_sampler *s, uint32_t step, uint32_t sample,
                    lt_err *err) {
    LT_REQUIRE(err, vocab >= 1 && s->temperature >= 0.0 && s->top_p >= 0.0 && s->min_p >= 0.0 && s->min_p <= 1.0,
               "sampler: temperature %g, top_p %g, min_p %g", s->temperature, s->top_p, s->min_p);
    int32_t best;
    LT_TRY(find_max(&best, logits, vocab, err));
    *id = best;
    if (s->temperature == 0.0 || s->top_k == 1) return LT_OK;
    candidate *c = lt_malloc(vocab * sizeof *c);
    if (!c) return lt_fail(err, LT_ENOMEM, "out of memory (sampling from %zu)", vocab);
    /* min_p compares with the largest probability, which top-k and top-p never remove, so it may come first */
    size_t n = weigh(c, logits, vocab, logits[best], s);
    qsort(c, n, sizeof *c, by_probability);
    n = truncate(c, n, s);
    lt_rng rng = lt_rng_at(s->seed, LT_RNG_SAMPLE, step, sample);
    *id = draw(c, n, lt_rng_uniform(&rng));
    lt_free(c);
    return LT_OK;
}

/* ---- the loop ---- */

static bool is_eos(const lt_config *c, int32_t id) {
    for (size_t i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id) return true;
    return false;
}

static lt_status loop(lt_generate_out *out, const lt_generate_in *in, lt_session *s, lt_exec *x, float *logits,
                      lt_err *err) {
    const size_t vocab = in->model->config.vocab_size;
    double start = lt_seconds();
    LT_TRY(lt_session_feed(s, x, in->model, in->prompt, in->n_prompt, 0, logits, err));
    out->prefill_s = lt_seconds() - start;
    start = lt_seconds();
    while (out->n_new < in->max_new) {
        int32_t id;
        LT_TRY(lt_sample(&id, logits, vocab, &in->sampler, (uint32_t)out->n_new, in->sample, err));
        out->n_new++;
        out->eos = !in->ignore_eos && is_eos(&in->model->config, id);
        out->stopped = in->on_token && in->on_token(in->user, id, logits) != 0;
        if (out->stopped || out->eos || out->n_new == in->max_new) break;
        LT_TRY(lt_session_feed(s, x, in->model, &id, 1, 1, logits, err));
    }
    out->decode_s = lt_seconds() - start;
    out->kv_bytes = lt_session_bytes(s);
    return LT_OK;
}

lt_status lt_generate(lt_generate_out *out, const lt_generate_in *in, lt_err *err) {
    LT_REQUIRE(err, in->n_prompt >= 1, "generate: the prompt is empty");
    const size_t max = in->model->config.max_positions;
    *out = (lt_generate_out){ 0 };
    if (in->n_prompt > max || in->max_new > max - in->n_prompt + 1)
        return lt_fail(err, LT_EDATA, "%zu prompt and %zu new tokens asked of a model that has %zu positions (%s)",
                       in->n_prompt, in->max_new, max, in->model->path);
    lt_session *s = NULL;
    lt_exec *x = NULL;
    float *logits = lt_malloc(in->model->config.vocab_size * sizeof *logits);
    lt_status st = logits ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (logits)");
    if (st == LT_OK) st = lt_session_create(&s, in->model, in->kv_dtype, err);
    if (st == LT_OK) st = lt_exec_create(&x, in->team, &(lt_exec_opts){ .mode = LT_INFER }, err);
    if (st == LT_OK) st = loop(out, in, s, x, logits, err);
    lt_exec_destroy(x);
    lt_session_destroy(s);
    lt_free(logits);
    return st;
}
