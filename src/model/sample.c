/* SPDX-License-Identifier: Apache-2.0 */
#include "model/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void lt_penalise(float *to, const float *from, size_t vocab, double penalty, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= vocab) continue;
        const float l = from[ids[i]];
        to[ids[i]] = l > 0.0f ? l / (float)penalty : l * (float)penalty;
    }
}

/* ---- candidates, the most probable first ----
 * Most draws and truncations look at the head of a vocabulary only, so candidates are put into buckets by powers of two
 * of p, and a bucket is sorted when it is first looked into. */

enum { BUCKETS = 128 }; /* of p in (0, 1]: the exponent of a float */

typedef struct candidate {
    float p;
    int32_t id;
} candidate;

typedef struct ranking {
    candidate *c;
    size_t n, sorted; /* buckets that are in order */
    size_t first[BUCKETS + 1];
} ranking;

static size_t bucket_of(float p) {
    uint32_t bits;
    memcpy(&bits, &p, sizeof bits);
    return 127 - lt_min_size(bits >> 23, 127);
}

/* More probable first; ties to the smaller id. */
static int by_probability(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->p != y->p) return x->p > y->p ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static lt_status rank(ranking *r, const float *p, size_t vocab, lt_err *err) {
    size_t at[BUCKETS] = { 0 };
    *r = (ranking){ .c = lt_malloc(vocab * sizeof *r->c) };
    if (!r->c) return lt_fail(err, LT_ENOMEM, "out of memory (sampling from %zu)", vocab);
    for (size_t i = 0; i < vocab; i++)
        if (p[i] > 0.0f) at[bucket_of(p[i])]++;
    for (size_t b = 0; b < BUCKETS; b++) {
        r->first[b + 1] = r->first[b] + at[b];
        at[b] = r->first[b];
    }
    for (size_t i = 0; i < vocab; i++)
        if (p[i] > 0.0f) r->c[at[bucket_of(p[i])]++] = (candidate){ p[i], (int32_t)i };
    r->n = r->first[BUCKETS];
    return LT_OK;
}

static candidate at_rank(ranking *r, size_t i) {
    for (; r->first[r->sorted] <= i; r->sorted++)
        qsort(r->c + r->first[r->sorted], r->first[r->sorted + 1] - r->first[r->sorted], sizeof *r->c, by_probability);
    return r->c[i];
}

/* Of the first n; that the n-th bucket is in order is all that matters. */
static double mass(ranking *r) {
    double total = 0.0;
    if (r->n < r->first[BUCKETS]) (void)at_rank(r, r->n - 1);
    for (size_t i = 0; i < r->n; i++) total += (double)r->c[i].p;
    return total;
}

static void keep_top_p(ranking *r, double top_p) {
    const double enough = top_p * mass(r);
    double sum = 0.0;
    for (size_t i = 0; i < r->n; i++) {
        sum += (double)at_rank(r, i).p;
        if (sum >= enough) r->n = i + 1;
    }
}

static void keep_min_p(ranking *r, double min_p) {
    for (size_t i = 1; i < r->n; i++) /* the first has p = 1 */
        if ((double)at_rank(r, i).p < min_p) r->n = i;
}

static int32_t draw(ranking *r, double u) {
    const double target = u * mass(r);
    double sum = 0.0;
    for (size_t i = 0; i + 1 < r->n; i++) {
        const candidate c = at_rank(r, i);
        sum += (double)c.p;
        if (target < sum) return c.id;
    }
    return at_rank(r, r->n - 1).id;
}

/* ---- sampling ---- */

static lt_status find_max(int32_t *id, const float *logits, size_t vocab, lt_err *err) {
    size_t best = 0;
    for (size_t i = 0; i < vocab; i++) {
        if (isnan(logits[i])) return lt_fail(err, LT_EDATA, "logit is not a number (token %zu)", i);
        if (logits[i] > logits[best]) best = i;
    }
    *id = (int32_t)best;
    return LT_OK;
}

/* exp((l - max)/T): the largest is 1. Infinite logits: only they have a chance. */
static void weigh(float *p, const float *logits, size_t vocab, float max, double temperature) {
    if (isinf(max))
        for (size_t i = 0; i < vocab; i++) p[i] = logits[i] == max ? 1.0f : 0.0f;
    else
        for (size_t i = 0; i < vocab; i++) p[i] = expf((float)(((double)logits[i] - (double)max) / temperature));
}

lt_status lt_sample(int32_t *id, const float *logits, size_t vocab, const lt_sampler *s, uint32_t step, uint32_t sample,
                    lt_err *err) {
    LT_REQUIRE(err, vocab >= 1 && s->temperature >= 0.0 && s->top_p >= 0.0 && s->min_p >= 0.0 && s->min_p <= 1.0,
               "sampler: temperature %g, top_p %g, min_p %g", s->temperature, s->top_p, s->min_p);
    int32_t best;
    LT_TRY(find_max(&best, logits, vocab, err));
    *id = best;
    if (s->temperature == 0.0 || s->top_k == 1) return LT_OK;
    float *p = lt_malloc(vocab * sizeof *p);
    if (!p) return lt_fail(err, LT_ENOMEM, "out of memory (sampling from %zu)", vocab);
    ranking r;
    weigh(p, logits, vocab, logits[best], s->temperature);
    const lt_status st = rank(&r, p, vocab, err);
    lt_free(p);
    if (st != LT_OK) return st;
    if (s->top_k > 0) r.n = lt_min_size(r.n, s->top_k);
    if (s->top_p < 1.0) keep_top_p(&r, s->top_p);
    if (s->min_p > 0.0) keep_min_p(&r, s->min_p);
    lt_rng rng = lt_rng_at(s->seed, LT_RNG_SAMPLE, step, sample);
    *id = draw(&r, lt_rng_uniform(&rng));
    lt_free(r.c);
    return LT_OK;
}
