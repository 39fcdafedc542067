/* SPDX-License-Identifier: Apache-2.0 */
/* calib/calibrate.h - one pass of text through the model, layer by layer, into a stats file; resumable at every layer.
 */
#ifndef LT_CALIB_CALIBRATE_H
#define LT_CALIB_CALIBRATE_H

#include "calib/stats.h"
#include "model/runner.h"

typedef struct lt_calibrate_in {
    const lt_model *model;
    const char *model_hash;
    const lt_tokens *tokens;
    lt_stat_set stats, grads; /* of inputs; of the gradients of outputs (0: no backward pass) */
    bool include_head;        /* also head_in */
    size_t first_rows;        /* the first k positions of each row go to sites of kind "first" */
    bool f32;                 /* sums are stored as f32 */
    /* Given: eigenvalues of W C Wᵀ and their sum are kept for every module instead of Grams (gram: packed). */
    lt_status (*spectrum)(double *lambda, double *total, const lt_linear *l, const double *gram, lt_err *err);
    size_t skip_first;   /* the first k positions of each row get weight 0 */
    size_t batch_tokens; /* 0: 2048 */
    lt_team *team;
    const lt_ctx *ctx; /* max_memory is kept */
    const char *out_path;
    const char *settings;   /* canonical JSON of what must not change between runs */
    bool state_every_layer; /* hidden states go to disk at every layer; else every few seconds, and a resumed call runs
                               the layers since then once more, unwatched. No byte depends on it. */
} lt_calibrate_in;
typedef struct lt_calibrate_out {
    size_t tokens, rows;
    double seconds, flops;
    size_t predicted_bytes;
    bool resumed;
    size_t resumed_layer;
} lt_calibrate_out;
/* Journals finished layers in <out_path>.partial/; the same call continues there and ends with the same bytes; changed
 * settings are LT_EUSAGE naming the first that differs. A non-finite activation is LT_EDATA naming layer and site.
 * Removes the journal when the file is committed. */
lt_status lt_calibrate(lt_calibrate_out *out, const lt_calibrate_in *in, lt_err *err);
/* Memory that the call would need (the `--estimate` of the verb). */
lt_status lt_calibrate_predict(lt_run_plan *out, const lt_calibrate_in *in, lt_err *err);

/* Can the model run these rows? LT_EDATA: there are none (what: who asks), an id is outside the vocabulary, or a row is
 * longer than its positions. */
lt_status lt_tokens_check(const lt_tokens *t, const lt_model *m, const char *what, lt_err *err);

#endif
