/* model/sample.h - one id from logits.
 *
 *   l_i of every id already seen: l_i / penalty where positive, l_i penalty where not   (Keskar et al. 2019, CTRL)
 *   p_i = exp((l_i - max) / T); then top-k, top-p of what is left, and p_i >= min_p max p */
#ifndef LT_MODEL_SAMPLE_H
#define LT_MODEL_SAMPLE_H

#include "core/core.h"

typedef struct lt_sampler {
    double temperature;  /* 0: greedy */
    size_t top_k;        /* 0: all */
    double top_p, min_p; /* 1 / 0: off */
    uint64_t seed;
    double penalty; /* of repetition; 0 or 1: off */
} lt_sampler;
#define LT_SAMPLER_GREEDY ((lt_sampler){ 0.0, 0, 1.0, 0.0, 0, 1.0 })

/* Penalises each of ids [n] once, however often it stands there: to = penalised from at these ids (the rest of `to` is
 * left alone). Ids outside the vocabulary are passed over. */
void lt_penalise(float *to, const float *from, size_t vocab, double penalty, const int32_t *ids, size_t n);
/* One id from logits [vocab], without the penalty; temperature, then top-k, top-p, min-p; ties to the smallest id;
 * Philox keyed by (seed, sample, step), so a result does not depend on the batch. LT_EDATA when a logit is NaN. scratch
 * is taken from lt_malloc. */
lt_status lt_sample(int32_t *id, const float *logits, size_t vocab, const lt_sampler *s, uint32_t step, uint32_t sample,
                    lt_err *err);

#endif
