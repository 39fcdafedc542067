/* SPDX-License-Identifier: Apache-2.0 */
/* eval/perplexity.h - perplexity as in compression papers, by protocol (spec evaluation §10, utilized-rank §8.1).
 *
 *   ppl = exp( Σ_w c_w m_w / Σ_w c_w ),   m_w = mean_{j=1..n_w-1} -log p(x_j | x_0..x_{j-1})
 * block: whole windows of one text; rows: the rows of a data set, each alone; c_w is the number of predictions,
 * n_w - 1, so both are means over all of them. rows_legacy: c_w = n_w, as the utilized-rank code weighs. A non-finite
 * logit makes the value +inf, never a skipped window. f64 totals. */
#ifndef LT_EVAL_PERPLEXITY_H
#define LT_EVAL_PERPLEXITY_H

#include "calib/tokens.h"
#include "model/runner.h"

typedef struct lt_ppl_protocol {
    const char *name, *recipe; /* recipe: how text becomes windows, unless another is asked for */
    bool by_length;            /* c_w = n_w */
} lt_ppl_protocol;
extern const lt_ppl_protocol lt_ppl_protocols[];               /* block first; ended by a NULL name */
const lt_ppl_protocol *lt_ppl_protocol_find(const char *name); /* NULL: none */

typedef struct lt_ppl_in {
    const lt_model *model;
    const lt_tokens *tokens; /* rows are the windows */
    lt_team *team;
    const lt_ctx *ctx;               /* max_memory is kept through the runner */
    size_t batch_tokens;             /* 0: chosen */
    const lt_ppl_protocol *protocol; /* NULL: block */
} lt_ppl_in;
typedef struct lt_ppl_out {
    double ppl, mean_nll; /* log ppl, nats: the mean of window means when windows are equal */
    double stderr_nll;    /* of the window means; NAN for one window */
    size_t windows, scored_tokens;
    double *window_nll; /* [windows] mean per window; owned: lt_ppl_clear */
    double seconds, flops;
    size_t predicted_bytes;
} lt_ppl_out;
lt_status lt_perplexity(lt_ppl_out *out, const lt_ppl_in *in, lt_err *err);
void lt_ppl_clear(lt_ppl_out *out);

#endif
