/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/healing_run.h - a model trained in an output folder: what `heal` and `train` have in common. */
#ifndef LT_PIPELINE_HEALING_RUN_H
#define LT_PIPELINE_HEALING_RUN_H

#include "pipeline/healing.h"
#include "pipeline/produce.h"

typedef struct lt_healing {
    lt_call_ctx *c;
    lt_subject source; /* what is trained on from */
    lt_heal_opts o;
    bool merge; /* write model/ too, not adapter/ alone */
    json_t *settings, *training;
    lt_outdir out; /* begun */
    lt_healed h;
    lt_produced made;
    double started;
} lt_healing;
/* Trains, writes adapter/ and model/, measures, tells, commits. */
lt_status lt_healing_run(lt_healing *x, json_t **result, lt_err *err);
void lt_healing_clear(lt_healing *x); /* out.lock < 0 or begun; zeroed elsewhere is fine */

#endif
