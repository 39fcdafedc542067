/* eval/kld.h - how far a model's next-token distribution is from its base: KL(base || new), top-1 agreement, perplexities of both.
 *
 *   KL_t = Σ_v p_base(v) (log p_base(v) - log p_new(v)), nats, f64 totals; every position of every window but the last
 * Both models run window by window; logits exist for a chunk of rows only. Quantiles of the per-token values are exact (all kept). */
#ifndef LT_EVAL_KLD_H
#define LT_EVAL_KLD_H

#include "eval/perplexity.h"

typedef struct lt_kld_in { const lt_model *base, *model; const lt_tokens *tokens; lt_team *team; const lt_ctx *ctx; } lt_kld_in;
typedef struct lt_kld_out {
    double mean, stderr_mean, median, p99, max;
    double top1;                    /* fraction of positions with the same arg max */
    double ppl_base, ppl_model;     /* on the same windows */
    size_t tokens, windows;
    double seconds;
} lt_kld_out;
lt_status lt_kld(lt_kld_out *out, const lt_kld_in *in, lt_err *err);

#endif
