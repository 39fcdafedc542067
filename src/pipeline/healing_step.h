/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/healing_step.h - what `compress --heal` does after the cut: a short LoRA run on the calibration text, merged
 * and verified. The preset's values, but for one batch per update, so that a short run has steps enough. */
#ifndef LT_PIPELINE_HEALING_STEP_H
#define LT_PIPELINE_HEALING_STEP_H

#include "pipeline/healing.h"
#include "pipeline/produce.h"

/* "200000", "200k", "2M": targets; "90s", "30m", "2h", "1d": a time. LT_EUSAGE: neither. */
lt_status lt_heal_budget_parse(lt_train_budget *out, const char *text, lt_err *err);

typedef struct lt_heal_step {
    const lt_call_ctx *c;
    lt_outdir *out;
    const lt_lineage *lineage; /* of what is made, without its training */
    const lt_model *model;     /* what is healed */
    const lt_tokens *tokens;   /* rows to train on; a share of them is validated on instead */
    lt_train_budget budget;
} lt_heal_step;
/* Makes folder of it: not done twice, and goes on where a killed call was. *training (new reference): what was done. */
lt_status lt_heal_step_run(lt_produced *made, json_t **training, const lt_heal_step *in, const char *folder,
                           lt_err *err);
lt_status lt_heal_step_estimate(lt_estimate *e, const lt_model *m, const lt_tokens *t, const lt_train_budget *b,
                                lt_err *err);

/* Weights that trained are written as --dtype says, else as m has its embedding; blocks and f64 as bf16. */
lt_dtype lt_heal_dtype(const lt_args *a, const lt_model *m);

#endif
