/* model/generate.h - sampling and the generation loop. */
#ifndef LT_MODEL_GENERATE_H
#define LT_MODEL_GENERATE_H

#include "model/session.h"

typedef struct lt_sampler {
    double temperature;  /* 0: greedy */
    size_t top_k;        /* 0: all */
    double top_p, min_p; /* 1 / 0: off */
    uint64_t seed;
} lt_sampler;
#define LT_SAMPLER_GREEDY ((lt_sampler){ 0.0, 0, 1.0, 0.0, 0 })
/* One id from logits [vocab]; temperature, then top-k, top-p, min-p; ties to the smallest id; Philox keyed by (seed,
 * sample, step), so a result does not depend on the batch. LT_EDATA when a logit is NaN. scratch is taken from
 * lt_malloc. */
lt_status lt_sample(int32_t *id, const float *logits, size_t vocab, const lt_sampler *s, uint32_t step, uint32_t sample,
                    lt_err *err);

typedef struct lt_generate_in {
    const lt_model *model;
    lt_team *team;
    const int32_t *prompt;
    size_t n_prompt; /* >= 1 */
    size_t max_new;
    bool ignore_eos;
    lt_sampler sampler;
    uint32_t sample;
    lt_dtype kv_dtype;
    /* each new id as it comes (also the eos); non-zero stops. logits [vocab] that chose it. */
    int (*on_token)(void *user, int32_t id, const float *logits);
    void *user;
} lt_generate_in;
typedef struct lt_generate_out {
    size_t n_new;
    bool eos, stopped;
    double prefill_s, decode_s;
    size_t kv_bytes;
} lt_generate_out;
lt_status lt_generate(lt_generate_out *out, const lt_generate_in *in, lt_err *err);

#endif
