/* SPDX-License-Identifier: Apache-2.0 */
/* eval/perplexity.h - perplexity as in compression papers: the block protocol (spec evaluation §10).
 *
 *   ppl = exp( (1/N) Σ_w mean_{j=1..L-1} -log p(x_j | x_0..x_{j-1}) )   over N whole windows of L tokens
 * A non-finite logit makes the value +inf, never a skipped window. f64 totals. */
#ifndef LT_EVAL_PERPLEXITY_H
#define LT_EVAL_PERPLEXITY_H

#include "calib/tokens.h"
#include "model/runner.h"

typedef struct lt_ppl_in {
    const lt_model *model;
    const lt_tokens *tokens; /* rows are the windows */
    lt_team *team;
    const lt_ctx *ctx;   /* max_memory is kept through the runner */
    size_t batch_tokens; /* 0: chosen */
} lt_ppl_in;
typedef struct lt_ppl_out {
    double ppl, mean_nll; /* mean_nll over all targets, nats: the mean of window means when windows are equal */
    double stderr_nll;    /* of the window means; NAN for one window */
    size_t windows, scored_tokens;
    double *window_nll; /* [windows] mean per window; owned: lt_ppl_clear */
    double seconds, flops;
    size_t predicted_bytes;
} lt_ppl_out;
lt_status lt_perplexity(lt_ppl_out *out, const lt_ppl_in *in, lt_err *err);
void lt_ppl_clear(lt_ppl_out *out);

#endif
