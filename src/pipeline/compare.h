/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/compare.h - models beside their base: sizes, perplexity, KL divergence, speed, memory; `compare` and the end
 * of `compress`. */
#ifndef LT_PIPELINE_COMPARE_H
#define LT_PIPELINE_COMPARE_H

#include "pipeline/estimate.h"
#include "pipeline/subject.h"

typedef struct lt_compare_in {
    const lt_call_ctx *c;
    const lt_subject *base;
    const lt_subject *const *models; /* [n_models] of the base's vocabulary */
    size_t n_models;
    const lt_subject *unhealed; /* what the only model was before it was healed: a row, and no target; NULL: none */
    const lt_tokens *tokens;
    size_t window;
    bool q8; /* a row for the base with its weights as q8_0 */
    bool speed;
    size_t prompt, new_tokens; /* of the speed runs */
} lt_compare_in;
extern const char *const lt_compare_names[]; /* what --require may name */
/* Adds "protocol", "models" (a record each: the base, its q8_0 form, the models), a table, and "run"."speed". */
lt_status lt_compare(json_t *result, const lt_compare_in *in, lt_err *err);
/* --require against the records of the models (not of the base's rows). */
lt_status lt_compare_requires(const json_t *result, const lt_args *a, lt_err *err);
/* Rows [[what, base, model], ...] for the card of the only model compared; new reference, NULL: out of memory. */
json_t *lt_compare_card(const json_t *result);
lt_status lt_compare_estimate(lt_estimate *e, const lt_compare_in *in, lt_err *err);

#endif
