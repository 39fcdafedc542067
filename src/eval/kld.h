/* SPDX-License-Identifier: Apache-2.0 */
/* eval/kld.h - how far models' next-token distributions are from their base: KL(base || model), top-1 agreement,
 * perplexities.
 *
 *   KL_t = sum_v p_base(v) (log p_base(v) - log p_model(v)), nats, f64 totals;
 *          t: every position of every window but the last
 *
 * All models run window by window; logits exist for a chunk of rows only, and the base runs once for all models.
 * Quantiles of the per-token values are exact (all kept): linear between order statistics. */
#ifndef LT_EVAL_KLD_H
#define LT_EVAL_KLD_H

#include "eval/perplexity.h"

typedef struct lt_kld_in {
    const lt_model *base;
    const lt_model *const
        *models; /* [n_models], of the base's vocabulary; more than one costs no second run of the base */
    size_t n_models;
    const lt_tokens *tokens; /* rows are the windows */
    lt_team *team;
    const lt_ctx *ctx; /* max_memory is kept */
} lt_kld_in;
typedef struct lt_kld_out {
    double mean, stderr_mean, median, p99, max; /* stderr over positions, taken as independent; NAN for one */
    double top1;                                /* fraction of positions with the same arg max */
    double ppl_base, ppl_model;                 /* on the same windows */
    size_t tokens, windows;
    double seconds; /* of the whole call */
} lt_kld_out;
/* out [n_models]. A logit that is not finite makes KL and perplexity +inf. */
lt_status lt_kld(lt_kld_out *out, const lt_kld_in *in, lt_err *err);

#endif
