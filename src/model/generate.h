/* model/generate.h - the generation loop: many prompts, some sequences at a time, one row each per step.
 *
 * Sequences enter when one that ran has ended (continuous batching); samples of one prompt share what it left in the
 * cache. What a sequence becomes does not depend on the others, nor on how many run together: prompts are read alone,
 * rows of a step do not meet, and Philox is keyed by (seed, sample, step). */
#ifndef LT_MODEL_GENERATE_H
#define LT_MODEL_GENERATE_H

#include "model/sample.h"
#include "model/session.h"

typedef enum lt_finish { LT_FINISH_LENGTH, LT_FINISH_EOS, LT_FINISH_STOP } lt_finish;
const char *lt_finish_name(lt_finish f); /* "length" "eos" "stop" */

typedef enum lt_token_reply { LT_TOKEN_NEXT, LT_TOKEN_STOP, LT_TOKEN_ABORT } lt_token_reply;

typedef struct lt_request {
    const int32_t *prompt;
    size_t n_prompt;  /* >= 1 */
    size_t max_new;   /* of each sample */
    size_t n_samples; /* >= 1 */
} lt_request;
typedef struct lt_token {
    size_t request, step; /* step: how many came before */
    uint32_t sample;
    int32_t id;
    const float *logits; /* [vocab] of the model, as they were before penalties */
} lt_token;

typedef struct lt_generate_many_in {
    const lt_model *model;
    lt_team *team;
    const lt_request *requests;
    size_t n_requests;
    size_t batch;    /* sequences at a time, >= 1 */
    size_t kv_bytes; /* one that would not fit beside those that run waits; 0: no limit. One alone always runs. */
    size_t min_new;  /* no end-of-text before */
    bool ignore_eos;
    lt_sampler sampler;
    lt_dtype kv_dtype;
    /* Each new id as it comes (also the eos). LT_TOKEN_STOP ends its sequence, LT_TOKEN_ABORT everything. */
    lt_token_reply (*on_token)(void *user, const lt_token *t);
    /* A sequence has ended; NULL: not wanted. */
    lt_token_reply (*on_end)(void *user, size_t request, uint32_t sample, lt_finish why);
    void *user;
} lt_generate_many_in;
typedef struct lt_generate_many_out {
    size_t n_prompt, n_new, n_steps; /* tokens read, tokens chosen, batches between them */
    bool aborted;
    double prefill_s, decode_s;
    size_t kv_bytes; /* at most, pages that are shared counted by each */
} lt_generate_many_out;
/* A prompt and new tokens that are more than the model's positions: LT_EDATA with the numbers, before anything runs. */
lt_status lt_generate_many(lt_generate_many_out *out, const lt_generate_many_in *in, lt_err *err);
/* Bytes that all of it takes beside the weights when `batch` sequences run, the cache left out. */
size_t lt_generate_bytes(const lt_model *m, size_t longest_prompt, size_t batch);

/* One sequence. */
typedef struct lt_generate_in {
    const lt_model *model;
    lt_team *team;
    const int32_t *prompt;
    size_t n_prompt; /* >= 1 */
    size_t max_new, min_new;
    bool ignore_eos;
    lt_sampler sampler;
    lt_dtype kv_dtype;
    /* each new id as it comes (also the eos); non-zero stops. logits [vocab] that chose it. */
    int (*on_token)(void *user, int32_t id, const float *logits);
    void *user;
} lt_generate_in;
typedef struct lt_generate_out {
    size_t n_new;
    lt_finish finish;
    double prefill_s, decode_s;
    size_t kv_bytes;
} lt_generate_out;
lt_status lt_generate(lt_generate_out *out, const lt_generate_in *in, lt_err *err);

#endif
